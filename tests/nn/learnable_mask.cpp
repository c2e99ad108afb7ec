// Learnable masks: what the gates compute, how they learn, when they are drawn, and the fixed mask they become.
#include <cstdlib>

#include <deepstruct/autograd/gradcheck.hpp>
#include <deepstruct/nn/inference.hpp>
#include <deepstruct/nn/layers.hpp>
#include <deepstruct/nn/masked_linear.hpp>
#include <deepstruct/train/optimizer.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;
using test::same_bits;

namespace {

const std::vector<MaskGradient> gate_kinds{MaskGradient::straight_through, MaskGradient::none,
                                           MaskGradient::gumbel_softmax, MaskGradient::hard_concrete};
constexpr Draw gate_draw{(std::uint64_t{1} << 40) + 11, (std::uint64_t{1} << 35) + 5};

/// The noise of element i of row-major order.
double gate_noise(const Draw& draw, std::int64_t i) {
  const double u = (static_cast<double>(draw.word(static_cast<std::uint64_t>(i)) >> 9) + 0.5) / 8388608;
  return std::log(u) - std::log(1 - u);
}
double gate_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gate_stretched(double z) { return std::min(1.0, std::max(0.0, gate_sigmoid(z) * 1.2 - 0.1)); }

/// Requires every element of a gate [out, in] to be f(alpha_1 − alpha_0, its row-major number).
template <class F>
void require_gate(const Tensor& gate, const Tensor& alphas, F&& f) {
  REQUIRE(gate.shape() == Shape{alphas.shape()[0], alphas.shape()[1]});
  for (std::int64_t r = 0; r < gate.shape()[0]; ++r)
    for (std::int64_t c = 0; c < gate.shape()[1]; ++c) {
      INFO(r << ", " << c << " of " << gate.shape());
      const double d = double{alphas(r, c, 1)} - double{alphas(r, c, 0)};
      REQUIRE(std::fabs(double{gate(r, c)} - f(d, r * gate.shape()[1] + c)) <= 3e-6);
    }
}
const std::vector<std::pair<std::int64_t, std::int64_t>> gate_shapes{
    {0, 3}, {3, 0}, {1, 1}, {1, 7}, {7, 1}, {1, 70}, {3, 5}, {15, 4}, {16, 16}, {17, 64}, {33, 65}, {70, 131}};

/// A layer with random weights and alphas, 9 → 7.
MaskedLinearLayer gate_layer(MaskedLinearOptions options, std::uint64_t seed = 3) {
  Rng rng(seed);
  options.learnable_mask = true;
  MaskedLinearLayer layer(9, 7, options, rng);
  layer.alphas().set_value(Tensor::normal({7, 9, 2}, 0, 1.5f, rng));
  return layer;
}
Tensor gate_input(std::int64_t samples = 5) {
  Rng rng(21);
  return Tensor::normal({samples, 9}, 0, 1, rng);
}
float gate_error(const Tensor& a, const Tensor& b) { return amax(abs(sub(a, b))).item(); }

}  // namespace

TEST_CASE("every gate is its formula, for all shapes, instruction sets and numbers of threads") {
  test::same_for_all_threads([] {
    Rng rng(1);
    std::vector<Tensor> all;
    for (const auto& [out, in] : gate_shapes) {
      Tensor alphas = Tensor::normal({out, in, 2}, 0, 2, rng);
      if (out > 2 && in > 2) alphas(1, 2, 0) = alphas(1, 2, 1);  // a tie is no edge
      const auto step = [](double x) { return x > 0 ? 1.0 : 0.0; };
      const Tensor through = straight_through_gate(alphas).value();
      require_gate(through, alphas, [&](double d, std::int64_t) { return step(d); });
      const Tensor soft = gumbel_gate(alphas, 0.4f, gate_draw).value();
      require_gate(soft, alphas, [](double d, std::int64_t i) {
        return gate_sigmoid((d + gate_noise(gate_draw, i)) / double{0.4f});
      });
      const Tensor hard = gumbel_gate(alphas, 0.4f, gate_draw, true).value();
      require_gate(hard, alphas, [&](double d, std::int64_t i) { return step(d + gate_noise(gate_draw, i)); });
      const Tensor concrete = hard_concrete_gate(alphas, 2.0f / 3, gate_draw).value();
      require_gate(concrete, alphas,
                   [](double d, std::int64_t i) { return gate_stretched((d + gate_noise(gate_draw, i)) * 1.5); });
      const Tensor final_one = hard_concrete_final_gate(alphas).value();
      require_gate(final_one, alphas, [](double d, std::int64_t) { return gate_stretched(d); });
      for (const Tensor& t : {through, soft, hard, concrete, final_one}) all.push_back(t);
    }
    return all;
  });
}

TEST_CASE("logits that tie, overflow or are no numbers make no edge") {
  constexpr float big = std::numeric_limits<float>::max(), tiny = std::numeric_limits<float>::denorm_min();
  constexpr float infinite = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor alphas =
      Tensor::from({7, 1, 2}, {1, 1, -big, big, 0, tiny, tiny, 0, infinite, infinite, nan, 1, 0, nan});
  REQUIRE(straight_through_gate(alphas).value() == Tensor::from({7, 1}, {0, 1, 1, 0, 0, 0, 0}));
}

TEST_CASE("gates are open as often as open_probability says") {
  const std::int64_t n = 40000;
  for (const float d : {-2.0f, 0.0f, 1.5f})
    for (const float temperature : {0.3f, 1.0f}) {
      Tensor alphas = Tensor::zeros({n / 8, 8, 2});
      for (std::int64_t i = 0; i < n; ++i) alphas(i / 8, i % 8, 0) = 1, alphas(i / 8, i % 8, 1) = 1 + d;
      const auto require_share = [&](const Tensor& gates, MaskGradient kind) {
        double open = 0;
        gates.for_each([&](std::int64_t, float g) { open += g != 0; });
        const double p = double{open_probability(alphas, kind, temperature).value()(3, 3)};
        REQUIRE(std::fabs(open / double{n} - p) <= 4 * std::sqrt(p * (1 - p) / double{n}) + 1e-6);
      };
      require_share(gumbel_gate(alphas, temperature, gate_draw, true).value(), MaskGradient::gumbel_softmax);
      require_share(hard_concrete_gate(alphas, temperature, gate_draw).value(), MaskGradient::hard_concrete);
    }
  const Tensor alphas = Tensor::from({1, 2, 2}, {0.5f, 0.25f, 0.25f, 0.5f});
  for (MaskGradient kind : {MaskGradient::straight_through, MaskGradient::none})
    REQUIRE(open_probability(alphas, kind, 1).value() == Tensor::from({1, 2}, {0, 1}));
}

TEST_CASE("gates that are soft have right first and second derivatives") {
  Rng rng(4);
  for (const auto& [out, in] : {std::pair<std::int64_t, std::int64_t>{1, 5}, {4, 3}, {17, 2}}) {
    const std::vector<Tensor> x{Tensor::normal({out, in, 2}, 0, 1, rng)};
    const auto both = [&](const GradcheckFunction& f) {
      INFO(out << " x " << in);
      REQUIRE(gradcheck(f, x));
      REQUIRE(gradcheck_second(f, x));
    };
    both([](std::span<const Var> v) { return logit_difference(v[0]); });
    both([](std::span<const Var> v) { return gumbel_gate(v[0], 0.7f, gate_draw); });
    both([](std::span<const Var> v) { return open_probability(v[0], MaskGradient::gumbel_softmax, 1); });
    both([](std::span<const Var> v) { return open_probability(v[0], MaskGradient::hard_concrete, 0.5f); });
    // Squared, so that gradients of the spread are asked for too.
    both([](std::span<const Var> v) { return sum(square(gumbel_gate(v[0], 1.5f, gate_draw)), 0); });
  }
  // Hard concrete gates have kinks: d far from them, on both sides and between.
  Tensor alphas = Tensor::zeros({3, 2, 2});
  for (std::int64_t i = 0; i < 6; ++i)
    alphas(i / 2, i % 2, 1) = std::vector<float>{-4, -1.5f, -0.25f, 0.5f, 1.5f, 4}[static_cast<std::size_t>(i)];
  const GradcheckFunction final_gate = [](std::span<const Var> v) { return hard_concrete_final_gate(v[0]); };
  REQUIRE(gradcheck(final_gate, {alphas}));
  REQUIRE(gradcheck_second(final_gate, {alphas}));
  Tensor drawn = alphas;  // so that d + noise is what d was
  for (std::int64_t i = 0; i < 6; ++i) drawn(i / 2, i % 2, 1) -= static_cast<float>(gate_noise(gate_draw, i));
  const GradcheckFunction gate = [](std::span<const Var> v) { return hard_concrete_gate(v[0], 1, gate_draw); };
  REQUIRE(gradcheck(gate, {drawn}));
  REQUIRE(gradcheck_second(gate, {drawn}));
  const Var leaf = variable(drawn);
  const Tensor slope = grad(sum(hard_concrete_gate(leaf, 1, gate_draw)), {leaf})[0].value();
  REQUIRE(slope(0, 0, 1) == 0);
  REQUIRE(slope(2, 1, 1) == 0);
  REQUIRE(slope(1, 0, 1) > 0.1f);
  REQUIRE(slope(1, 0, 0) == -slope(1, 0, 1));
}

TEST_CASE("gates that are hard take the gradient of d, or of their soft form") {
  Rng rng(5);
  const Tensor start = Tensor::normal({5, 4, 2}, 0, 1, rng), u = Tensor::normal({5, 4}, 0, 1, rng);
  const Var a = variable(start);
  const Tensor through = grad(sum(mul(straight_through_gate(a), u)), {a})[0].value();
  const Tensor hard = grad(sum(mul(gumbel_gate(a, 0.5f, gate_draw, true), u)), {a})[0].value();
  const Tensor soft = grad(sum(mul(gumbel_gate(a, 0.5f, gate_draw), u)), {a})[0].value();
  REQUIRE(same_bits(hard, soft));
  for (std::int64_t r = 0; r < 5; ++r)
    for (std::int64_t c = 0; c < 4; ++c) {
      REQUIRE(through(r, c, 1) == u(r, c));
      REQUIRE(through(r, c, 0) == -u(r, c));
    }
  const Var once = grad(sum(mul(gumbel_gate(a, 0.5f, gate_draw, true), u)), {a}, {.create_graph = true})[0];
  const Var twice = grad(sum(mul(gumbel_gate(a, 0.5f, gate_draw), u)), {a}, {.create_graph = true})[0];
  REQUIRE(same_bits(grad(sum(square(once)), {a})[0].value(), grad(sum(square(twice)), {a})[0].value()));
}

TEST_CASE("a layer draws its gates in training only, and the same ones from the same seed") {
  const Tensor x = gate_input();
  for (const MaskGradient kind : gate_kinds)
    for (const bool hard : {false, true}) {
      if (hard && kind != MaskGradient::gumbel_softmax) continue;
      MaskedLinearLayer layer = gate_layer({.gradient = kind, .hard_gate = hard});
      const bool drawn = kind == MaskGradient::gumbel_softmax || kind == MaskGradient::hard_concrete;
      REQUIRE(layer.training);
      manual_seed(6);
      const Draw first = Rng(6).draw();
      const Tensor gate = layer.gate().value();
      if (kind == MaskGradient::gumbel_softmax)
        REQUIRE(same_bits(gate, gumbel_gate(layer.alphas(), 2.0f / 3, first, hard).value()));
      if (kind == MaskGradient::hard_concrete)
        REQUIRE(same_bits(gate, hard_concrete_gate(layer.alphas(), 2.0f / 3, first).value()));
      REQUIRE(same_bits(layer.gate().value(), gate) == !drawn);
      REQUIRE(default_rng().draws() == (drawn ? 2 : 0));
      manual_seed(6);
      REQUIRE(same_bits(layer(x).value(), linear(x, mul(layer.weight, gate), *layer.bias).value()));
      const Tensor before = layer.effective_weight();

      set_training(layer, false);
      const std::uint64_t draws = default_rng().draws();
      REQUIRE(same_bits(layer(x).value(), layer(x).value()));
      REQUIRE(same_bits(layer(x).value(), linear(x, before, *layer.bias).value()));
      REQUIRE(same_bits(layer.effective_weight(), before));
      REQUIRE(default_rng().draws() == draws);
      require_gate(layer.final_gate().value(), layer.alphas().value(), [&](double d, std::int64_t) {
        return kind == MaskGradient::hard_concrete ? gate_stretched(d) : d > 0 ? 1.0 : 0.0;
      });
      const Mask mask = layer.mask();
      layer.final_gate().value().for_each(
          [&](std::int64_t i, float g) { REQUIRE(mask.contains(i / 9, i % 9) == (g != 0)); });
      REQUIRE(layer.weight_count() == static_cast<double>(mask.nnz()));
    }
}

TEST_CASE("a trace of a layer in training holds its final gates") {
  for (const MaskGradient kind : gate_kinds) {
    MaskedLinearLayer layer = gate_layer({.gradient = kind});
    const Tensor x = gate_input();
    const Tensor traced = trace(layer, x).back().value.value(), answer = Inference(layer, x)(x).value();
    set_training(layer, false);
    REQUIRE(gate_error(traced, layer(x).value()) <= 1e-6f);
    REQUIRE(gate_error(answer, layer(x).value()) <= 1e-6f);
  }
}

TEST_CASE("backward reaches weights and alphas of every gate that learns, twice alike from one seed") {
  const Tensor x = gate_input();
  for (const MaskGradient kind : gate_kinds) {
    MaskedLinearLayer layer = gate_layer({.gradient = kind});
    Tensor first;
    for (int k = 0; k < 2; ++k) {
      manual_seed(9);
      const Var loss = sum(square(layer(x)));
      backward(loss);
      REQUIRE(layer.weight.has_grad());
      REQUIRE(layer.alphas().has_grad() == (kind != MaskGradient::none));
      if (kind == MaskGradient::none) break;
      if (k == 0) first = layer.alphas().grad();
      REQUIRE(amax(abs(Var(first))).item() > 0.01f);
      REQUIRE(same_bits(first, layer.alphas().grad()));
      layer.alphas().clear_grad();
    }
  }
}

TEST_CASE("a hard concrete mask that is set has gates of exactly 0 and 1") {
  Rng rng(7);
  MaskedLinearLayer layer(9, 7, {.learnable_mask = true, .gradient = MaskGradient::hard_concrete}, rng);
  REQUIRE(layer.mask().is_full());
  REQUIRE(layer.final_gate().value() == Tensor::ones({7, 9}));
  const Mask some = Mask::random(7, 9, 0.4, rng);
  layer.set_mask(some);
  REQUIRE(layer.mask() == some);
  REQUIRE(layer.final_gate().value() == some.to_dense());
  const bool was = some.contains(2, 3);
  layer.set_edge(2, 3, !was);
  REQUIRE(layer.mask().contains(2, 3) == !was);
  layer.set_row(4, std::vector<bool>(9, true));
  REQUIRE(layer.row(4) == std::vector<bool>(9, true));
  layer.reset_parameters(rng, true);
  REQUIRE(layer.mask().contains(2, 3) == !was);
  // In training they are drawn all the same, and an edge that is off comes to life now and then.
  manual_seed(2);
  double open = 0, closed = 0;
  for (int k = 0; k < 50; ++k)
    layer.gate().value().for_each([&](std::int64_t i, float g) {
      if (layer.mask().contains(i / 9, i % 9))
        closed += g == 0 ? 1 : 0;
      else
        open += g != 0 ? 1 : 0;
    });
  REQUIRE(open > 0);
  REQUIRE(closed > 0);
}

TEST_CASE("a mask hardens, and packs, into the function that it was in evaluation") {
  const Tensor x = gate_input();
  for (const MaskGradient kind : gate_kinds) {
    MaskedLinearLayer layer = gate_layer({.freeze_masked = true, .gradient = kind});
    {
      manual_seed(1);
      backward(sum(square(layer(x))));
      Adam{.lr = 0.01}.step(layer);
    }
    if (kind == MaskGradient::hard_concrete)  // weights behind the mask count for nothing
      layer.final_gate().value().for_each([&](std::int64_t i, float g) {
        if (g == 0) layer.weight.mutable_value()(i / 9, i % 9) = 1e30f;
      });
    const Tensor slot = layer.weight.slot("exp_avg");
    set_training(layer, false);
    const Tensor want = layer(x).value();
    const Mask mask = layer.mask();
    REQUIRE(mask.nnz() > 0);
    REQUIRE_FALSE(mask.is_full());
    MaskedLinearLayer hard = layer, packed = layer;
    harden(hard);
    REQUIRE_FALSE(hard.learnable());
    REQUIRE_FALSE(hard.options().learnable_mask);
    REQUIRE(hard.mask() == mask);
    REQUIRE(hard.weight.live() != nullptr);
    REQUIRE(same_bits(hard.weight.slot("exp_avg"), slot));
    REQUIRE(gate_error(hard(x).value(), want) <= 2e-6f);
    REQUIRE(parameter_count(hard) == 9 * 7 + 7);
    if (kind != MaskGradient::hard_concrete) REQUIRE(same_bits(hard.weight.value(), layer.weight.value()));
    MaskedLinearLayer again = hard;
    harden(again);  // nothing left to do
    REQUIRE(same_bits(again.weight.value(), hard.weight.value()));
    packed.pack();
    REQUIRE(packed.mask() == mask);
    REQUIRE(gate_error(packed(x).value(), want) <= 2e-6f);
    hard.pack();
    REQUIRE(same_bits(hard.weight.value(), packed.weight.value()));
    layer.apply_mask();  // forgets what is behind the mask; the gates stay
    REQUIRE(layer.learnable());
    REQUIRE(gate_error(layer(x).value(), want) <= 2e-6f);
    layer.weight.value().for_each([&](std::int64_t i, float w) { REQUIRE((w != 0) == mask.contains(i / 9, i % 9)); });
  }
}

TEST_CASE("gates that cannot be are Errors and change nothing") {
  using O = MaskedLinearOptions;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {0.0f, -1.0f, nan, std::numeric_limits<float>::infinity(), 1e-42f}) {
    require_error([&] { MaskedLinearLayer(3, 2, O{.learnable_mask = true, .temperature = bad}); },
                  {"MaskedLinearLayer: the temperature must be positive"});
    require_error(
        [&] {
          gumbel_gate(Tensor::zeros({2, 3, 2}), bad, gate_draw);
        },
        {"gumbel_gate: the temperature must be positive"});
    require_error(
        [&] {
          hard_concrete_gate(Tensor::zeros({2, 3, 2}), bad, gate_draw);
        },
        {"hard_concrete_gate: the temperature must be positive"});
    require_error(
        [&] {
          open_probability(Tensor::zeros({2, 3, 2}), MaskGradient::hard_concrete, bad);
        },
        {"open_probability: the temperature must be positive"});
    MaskedLinearLayer layer = gate_layer({.gradient = MaskGradient::gumbel_softmax, .temperature = 0.5f});
    require_error([&] { layer.set_temperature(bad); }, {"set_temperature: the temperature must be positive"});
    REQUIRE(layer.options().temperature == 0.5f);
    layer.set_temperature(0.25f);
    manual_seed(3);
    REQUIRE(same_bits(layer.gate().value(), gumbel_gate(layer.alphas(), 0.25f, Rng(3).draw()).value()));
  }
  require_error([] { MaskedLinearLayer(3, 2, O{.learnable_mask = true, .hard_gate = true}); },
                {"MaskedLinearLayer: only Gumbel gates are hard or soft"});
  for (const MaskGradient kind : gate_kinds)
    require_error(
        [&] { MaskedLinearLayer(3, 2, O{.store = storage::packed, .learnable_mask = true, .gradient = kind}); },
        {"MaskedLinearLayer: a learnable mask needs full storage"});
  require_error([] { logit_difference(Tensor::zeros({2, 3})); }, {"logit_difference: alphas must be", "[2, 3]"});
  require_error([] { straight_through_gate(Tensor::zeros({2, 3, 3})); }, {"logit_difference", "[2, 3, 3]"});
  require_error([] { MaskedLinearLayer(3, 2).gate(); }, {"alphas: this mask is not learnable"});
  require_error([] { MaskedLinearLayer(3, 2).final_gate(); }, {"alphas: this mask is not learnable"});
}

TEST_CASE("a training step with drawn gates asks the system for no memory") {
  const Tensor x = gate_input(32);
  for (const MaskGradient kind : gate_kinds) {
    MaskedLinearLayer layer = gate_layer({.gradient = kind});
    Adam adam;
    const auto step = [&] {
      backward(sum(square(layer(x))));
      adam.step(layer);
    };
    for (int k = 0; k < 3; ++k) step();
    const std::size_t before = BufferPool::instance().system_calls();
    for (int k = 0; k < 3; ++k) step();
    if (std::getenv("DEEPSTRUCT_POOL") == nullptr)  // memory checkers switch the cache off
      REQUIRE(BufferPool::instance().system_calls() == before);
  }
}
