// MaskedLinearLayer: what the mask does to values, gradients and training; reading and changing it.
#include <deepstruct/nn/masked_linear.hpp>
#include <deepstruct/train/optimizer.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_close;
using test::require_error;
using test::same_bits;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// Everything a failed call could have changed.
struct Snapshot {
  std::vector<Tensor> tensors;
  Mask mask;
  bool packed, learnable;
  double count;
  Var handle;

  explicit Snapshot(const MaskedLinearLayer& layer)
      : mask(layer.mask()),
        packed(layer.packed()),
        learnable(layer.learnable()),
        count(layer.weight_count()),
        handle(layer.weight.var()) {
    each_param(layer, [&](const Param& p) {
      tensors.push_back(p.value());
      if (p.has_grad()) tensors.push_back(p.grad());
      for (const Param::Slot& s : p.slots()) tensors.push_back(s.value);
    });
    tensors.push_back(layer.saliency());
    tensors.push_back(layer.effective_weight());
  }
  void require_same(const MaskedLinearLayer& layer) const {
    const Snapshot now(layer);
    REQUIRE(now.mask == mask);
    REQUIRE(now.packed == packed);
    REQUIRE(now.learnable == learnable);
    REQUIRE(now.count == count);
    REQUIRE(now.handle == handle);
    REQUIRE(now.tensors.size() == tensors.size());
    for (std::size_t k = 0; k < tensors.size(); ++k) REQUIRE(same_bits(now.tensors[k], tensors[k]));
  }
};

/// A 2×3 layer with weights 1 … 6 and bias (10, 20).
MaskedLinearLayer small(MaskedLinearOptions options = {}) {
  Rng rng(1);
  MaskedLinearLayer layer(3, 2, options, rng);
  layer.weight.set_value(Tensor::from(layer.weight.shape(), {1, 2, 3, 4, 5, 6}));
  if (layer.bias) layer.bias->set_value(Tensor::from({2}, {10, 20}));
  return layer;
}
const Mask checkered = Mask::from_edges(2, 3, {{0, 0}, {0, 2}, {1, 1}});

/// One loss with gradients everywhere: Σ y∘y of a fixed batch.
void one_backward(const MaskedLinearLayer& layer) {
  backward(sum(square(layer(Tensor::from({2, 3}, {1, -1, 2, 0.5f, 3, 1})))));
}

}  // namespace

TEST_CASE("A structural layer keeps its mask when it is reset") {
  Rng rng(2);
  MaskedLinearLayer layer(4, 3, {.structural = true}, rng);
  REQUIRE(layer.mask().is_full());
  const Mask some = Mask::from_edges(3, 4, {{0, 1}, {2, 0}, {2, 3}});
  MaskedLinearLayer packed(some, Tensor::ones({3}), std::nullopt, true);
  packed.reset_parameters(rng);
  REQUIRE(packed.mask() == some);
  REQUIRE(!packed.bias);
  REQUIRE(std::abs(packed.weight.value()(1)) <= 0.708f);
  REQUIRE(packed.weight.value()(0) != 1);
  REQUIRE_THROWS_AS(MaskedLinearLayer(4, 3, {.structural = true, .learnable_mask = true}), Error);
  REQUIRE_THROWS_AS(MaskedLinearLayer(some, Tensor::ones({2}), std::nullopt), Error);
}

TEST_CASE("a new layer has every connection, bounded weights and zero slots") {
  Rng rng(2);
  const MaskedLinearLayer layer(16, 5, rng);
  REQUIRE(layer.in_features() == 16);
  REQUIRE(layer.out_features() == 5);
  REQUIRE(layer.mask() == Mask::ones(5, 16));
  REQUIRE(layer.weight_count() == 80);
  REQUIRE(layer.weight.shape() == Shape{5, 16});
  REQUIRE(layer.weight.slots().empty());
  layer.weight.value().for_each([](std::int64_t, float w) { REQUIRE(std::fabs(w) <= 0.25f); });
  REQUIRE(state_names(layer) == std::vector<std::string>{"weight", "bias", "_mask"});

  Rng again(2);
  const MaskedLinearLayer packed(16, 5, {.store = storage::packed}, again);
  REQUIRE(packed.packed());
  REQUIRE(packed.weight.shape() == Shape{80});
  REQUIRE(same_bits(packed.effective_weight(), layer.weight.value()));
  REQUIRE(same_bits(packed.bias->value(), layer.bias->value()));
}

TEST_CASE("bad layers are refused") {
  require_error([] { MaskedLinearLayer layer(-1, 2); }, {"MaskedLinearLayer", "-1"});
  require_error([] { MaskedLinearLayer layer(2, -3); }, {"MaskedLinearLayer", "-3"});
  require_error([] { MaskedLinearLayer layer(2, 3, {.store = storage::packed, .learnable_mask = true}); },
                {"MaskedLinearLayer", "full storage"});
  const MaskedLinearLayer none(0, 2);
  REQUIRE(none(Tensor::zeros({3, 0})).value().shape() == Shape{3, 2});
  REQUIRE(MaskedLinearLayer(2, 0)(Tensor::zeros({3, 2})).value().shape() == Shape{3, 0});
}

TEST_CASE("the mask multiplies the weights and never the bias") {
  const Tensor x = Tensor::from({2, 3}, {1, 10, 100, -1, 0, 2});
  for (storage store : {storage::full, storage::packed}) {
    MaskedLinearLayer layer = small({.store = store});
    REQUIRE(layer(x).value() == Tensor::from({2, 2}, {331, 674, 15, 28}));
    layer.set_mask(checkered);
    REQUIRE(layer(x).value() == Tensor::from({2, 2}, {311, 70, 15, 20}));
    REQUIRE(layer.effective_weight() == Tensor::from({2, 3}, {1, 0, 3, 0, 5, 0}));
    REQUIRE(layer.weight_count() == 3);
    layer.set_mask(Mask::zeros(2, 3));
    REQUIRE(layer(x).value() == Tensor::from({2, 2}, {10, 20, 10, 20}));
    REQUIRE(layer.weight_count() == 0);
    layer.set_mask(Mask::ones(2, 3));
    const Tensor back = layer(x).value();
    if (store == storage::full)
      REQUIRE(back == Tensor::from({2, 2}, {331, 674, 15, 28}));
    else
      REQUIRE(back == Tensor::from({2, 2}, {10, 20, 10, 20}));
  }
}

TEST_CASE("without a bias a layer computes x (W*mask)^T") {
  for (storage store : {storage::full, storage::packed}) {
    MaskedLinearLayer layer = small({.bias = false, .store = store});
    REQUIRE_FALSE(layer.bias.has_value());
    layer.set_mask(checkered);
    REQUIRE(layer(Tensor::from({1, 3}, {1, 10, 100})).value() == Tensor::from({1, 2}, {301, 50}));
    REQUIRE(state_names(layer) == std::vector<std::string>{"weight", "_mask"});
  }
}

TEST_CASE("weights behind the mask have no influence at all, not even NaN and infinity") {
  Rng rng(3);
  for (double density : {0.2, 0.8}) {
    MaskedLinearLayer clean(40, 30, rng);
    clean.set_mask(Mask::random(30, 40, density, rng));
    clean.apply_mask();
    MaskedLinearLayer dirty = clean;
    int k = 0;
    for (std::int64_t r = 0; r < 30; ++r)
      for (std::int64_t c = 0; c < 40; ++c)
        if (!clean.mask().contains(r, c)) dirty.weight.mutable_value()(r, c) = k++ % 2 ? not_a_number : infinity;
    REQUIRE(k > 100);
    const Tensor x = Tensor::uniform({17, 40}, -1, 1, rng);
    const Var a = variable(x), b = variable(x);
    backward(sum(square(clean(a))));
    backward(sum(square(dirty(b))));
    REQUIRE(same_bits(dirty(x).value(), clean(x).value()));
    REQUIRE(same_bits(dirty.effective_weight(), clean.effective_weight()));
    REQUIRE(same_bits(b.grad(), a.grad()));
    REQUIRE(same_bits(dirty.weight.grad(), clean.weight.grad()));
    REQUIRE(same_bits(dirty.bias->grad(), clean.bias->grad()));
    for (std::int64_t r = 0; r < 30; ++r)
      for (std::int64_t c = 0; c < 40; ++c)
        if (!clean.mask().contains(r, c)) REQUIRE(dirty.weight.grad()(r, c) == 0);
    MaskedLinearLayer packed = dirty;
    packed.pack();
    packed.weight.value().for_each([](std::int64_t, float w) { REQUIRE(std::isfinite(w)); });
  }
}

TEST_CASE("weight decay moves masked weights in full storage, unless they are frozen") {
  MaskedLinearLayer moving = small(), frozen = small({.freeze_masked = true});
  moving.set_mask(checkered);
  frozen.set_mask(checkered);
  SGD sgd{.lr = 0.125, .weight_decay = 0.5};
  one_backward(moving);
  one_backward(frozen);
  sgd.step(moving);
  sgd.step(frozen);
  REQUIRE(moving.weight.value()(0, 1) == 2 - 0.125f * 0.5f * 2);
  REQUIRE(moving.weight.value()(1, 0) == 4 - 0.125f * 0.5f * 4);
  REQUIRE(frozen.weight.value()(0, 1) == 2);
  REQUIRE(frozen.weight.value()(1, 0) == 4);
  REQUIRE(frozen.weight.value()(0, 0) == moving.weight.value()(0, 0));
  REQUIRE_FALSE(frozen.weight.value()(0, 0) == 1);
}

TEST_CASE("frozen weights keep value and zero moments through steps, and follow a new mask") {
  MaskedLinearLayer layer = small({.freeze_masked = true});
  layer.set_mask(checkered);
  Adam adam{.lr = 0.1, .weight_decay = 0.5};
  for (int k = 0; k < 3; ++k) {
    one_backward(layer);
    adam.step(layer);
  }
  for (const auto& [r, c] : {std::pair{0, 1}, std::pair{1, 0}, std::pair{1, 2}}) {
    REQUIRE(layer.weight.value()(r, c) == static_cast<float>(3 * r + c + 1));
    REQUIRE(layer.weight.slot("exp_avg")(r, c) == 0);
    REQUIRE(layer.weight.slot("exp_avg_sq")(r, c) == 0);
  }
  REQUIRE_FALSE(layer.weight.slot("exp_avg")(0, 0) == 0);

  layer.set_mask(Mask::from_edges(2, 3, {{0, 1}}));
  const float gone = layer.weight.value()(0, 0);
  one_backward(layer);
  adam.step(layer);
  REQUIRE(layer.weight.value()(0, 0) == gone);
  REQUIRE_FALSE(layer.weight.value()(0, 1) == 2);
}

TEST_CASE("apply_mask forgets what stands behind the mask") {
  MaskedLinearLayer layer = small();
  layer.set_mask(checkered);
  layer.weight.mutable_value()(0, 1) = not_a_number;
  layer.apply_mask();
  REQUIRE(layer.weight.value() == Tensor::from({2, 3}, {1, 0, 3, 0, 5, 0}));
  REQUIRE(layer.mask() == checkered);
  layer.set_mask(Mask::ones(2, 3));
  REQUIRE(layer.effective_weight() == Tensor::from({2, 3}, {1, 0, 3, 0, 5, 0}));

  MaskedLinearLayer packed = small({.store = storage::packed});
  packed.set_mask(checkered);
  apply_mask(packed);
  REQUIRE(packed.weight.value() == Tensor::from({3}, {1, 3, 5}));
}

TEST_CASE("recompute_mask keeps |w| >= theta and discards the old mask") {
  MaskedLinearLayer layer = small();
  layer.weight.mutable_value()(0, 2) = -3;
  layer.set_mask(Mask::from_edges(2, 3, {{0, 0}}));
  layer.recompute_mask(3);
  REQUIRE(layer.mask() == Mask::from_edges(2, 3, {{0, 2}, {1, 0}, {1, 1}, {1, 2}}));
  layer.apply_mask();
  layer.recompute_mask(0.5f);  // now the mask of before cannot come back
  REQUIRE(layer.mask().nnz() == 4);
  layer.weight.mutable_value()(0, 2) = 0.0009f;
  layer.weight.mutable_value()(1, 0) = 0.0002f;
  layer.recompute_mask();
  REQUIRE(layer.mask() == Mask::from_edges(2, 3, {{1, 1}, {1, 2}}));
  deepstruct::recompute_mask(layer);
  REQUIRE(layer.mask() == Mask::from_edges(2, 3, {{0, 2}, {1, 0}, {1, 1}, {1, 2}}));

  MaskedLinearLayer packed = small({.store = storage::packed});
  packed.set_mask(checkered);
  packed.recompute_mask(3);
  REQUIRE(packed.mask() == Mask::from_edges(2, 3, {{0, 2}, {1, 1}}));
  REQUIRE(packed.weight.value() == Tensor::from({2}, {3, 5}));
}

TEST_CASE("recompute_mask refuses NaN and leaves the layer as it was") {
  for (storage store : {storage::full, storage::packed}) {
    MaskedLinearLayer layer = small({.store = store});
    layer.set_mask(checkered);
    require_error([&] { layer.recompute_mask(not_a_number); }, {"recompute_mask", "nan"});
    layer.weight.mutable_value()(0, 0) = not_a_number;
    const Snapshot before(layer);
    require_error([&] { layer.recompute_mask(3); }, {"recompute_mask", "NaN", "element 0"});
    before.require_same(layer);
  }
}

TEST_CASE("a soft mask multiplies with any finite factor") {
  MaskedLinearLayer layer = small();
  layer.set_soft_mask(Tensor::from({2, 3}, {0.5f, 0, 2, 1, -1, 0.25f}));
  REQUIRE(layer(Tensor::from({1, 3}, {2, 4, 8})).value() == Tensor::from({1, 2}, {59, 20}));
  REQUIRE(layer.weight_count() == 2.75);
  REQUIRE(layer.mask() == Mask::from_edges(2, 3, {{0, 0}, {0, 2}, {1, 0}, {1, 1}, {1, 2}}));
  one_backward(layer);
  REQUIRE(layer.weight.grad()(0, 1) == 0);
  REQUIRE_FALSE(layer.weight.grad()(1, 1) == 0);

  MaskedLinearLayer packed = layer;
  packed.pack();
  REQUIRE(packed.weight.value() == Tensor::from({5}, {0.5f, 6, 4, -5, 1.5f}));
  layer.set_mask(checkered);
  REQUIRE(layer.effective_weight() == Tensor::from({2, 3}, {1, 0, 3, 0, 5, 0}));
}

TEST_CASE("a soft mask that cannot be leaves the layer as it was") {
  MaskedLinearLayer layer = small();
  layer.set_mask(checkered);
  one_backward(layer);
  const Snapshot before(layer);
  for (float bad : {not_a_number, infinity, -infinity}) {
    Tensor factors = Tensor::ones({2, 3});
    factors(1, 2) = bad;
    require_error([&] { layer.set_soft_mask(factors); }, {"set_soft_mask", "finite", "element 5"});
  }
  require_error([&] { layer.set_soft_mask(Tensor::ones({2, 1})); }, {"set_soft_mask", "[2, 1]", "[2, 3]"});
  before.require_same(layer);
  MaskedLinearLayer packed = small({.store = storage::packed});
  require_error([&] { packed.set_soft_mask(Tensor::ones({2, 3})); }, {"set_soft_mask", "packed"});
  MaskedLinearLayer learnable = small({.learnable_mask = true});
  require_error([&] { learnable.set_soft_mask(Tensor::ones({2, 3})); }, {"set_soft_mask", "learnable"});
}

TEST_CASE("a wrong mask is an Error and leaves the layer as it was") {
  for (storage store : {storage::full, storage::packed}) {
    MaskedLinearLayer layer = small({.store = store});
    layer.set_mask(checkered);
    one_backward(layer);
    SGD{.momentum = 0.5}.step(layer);
    one_backward(layer);
    const Snapshot before(layer);
    require_error([&] { layer.set_mask(Mask::ones(3, 2)); }, {"set_mask", "[3, 2]", "[2, 3]"});
    require_error([&] { layer.set_mask(Tensor::ones({2, 1})); }, {"set_mask", "[2, 1]", "[2, 3]"});
    require_error([&] { layer.set_mask(Tensor::ones({6})); }, {"set_mask", "[6]", "[2, 3]"});
    for (float bad : {0.5f, -1.0f, not_a_number}) {
      Tensor flags = Tensor::ones({2, 3});
      flags(0, 1) = bad;
      require_error([&] { layer.set_mask(flags); }, {"Mask", "0 or 1", "element 1"});
    }
    require_error([&] { layer.set_edge(2, 0, true); }, {"(2, 0"});
    require_error([&] { layer.set_edge(0, -1, false); }, {"(0, -1"});
    require_error([&] { layer.set_row(2, {true, true, true}); }, {"set_row", "row 2 of 2"});
    require_error([&] { layer.set_row(-1, {true, true, true}); }, {"set_row", "row -1 of 2"});
    require_error([&] { layer.set_row(0, {true}); }, {"set_row", "1 flags for 3"});
    require_error([&] { layer.row(2); }, {"2"});
    require_error([&] { layer.set_saliency(Tensor::ones({7})); }, {"set_saliency", "[7]"});
    before.require_same(layer);
  }
}

TEST_CASE("rows and single edges can be read and switched") {
  for (storage store : {storage::full, storage::packed}) {
    MaskedLinearLayer layer = small({.store = store});
    layer.set_mask(checkered);
    REQUIRE(layer.row(0) == std::vector<bool>{true, false, true});
    REQUIRE(layer.row(1) == std::vector<bool>{false, true, false});
    layer.set_edge(0, 0, false);
    layer.set_edge(1, 2, true);
    layer.set_edge(1, 1, true);  // is so already
    REQUIRE(layer.mask() == Mask::from_edges(2, 3, {{0, 2}, {1, 1}, {1, 2}}));
    layer.set_row(1, {true, false, false});
    REQUIRE(layer.mask() == Mask::from_edges(2, 3, {{0, 2}, {1, 0}}));
    layer.set_mask(Tensor::from({2, 3}, {0, 1, 0, 0, 0, 1}));
    REQUIRE(layer.mask() == Mask::from_edges(2, 3, {{0, 1}, {1, 2}}));
    if (store == storage::full) REQUIRE(layer.effective_weight() == Tensor::from({2, 3}, {0, 2, 0, 0, 0, 6}));
  }
}

TEST_CASE("a learnable mask starts with every edge and sets its alphas") {
  MaskedLinearLayer layer = small({.learnable_mask = true});
  REQUIRE(layer.learnable());
  REQUIRE(layer.mask() == Mask::ones(2, 3));
  REQUIRE(layer.alphas().shape() == Shape{2, 3, 2});
  REQUIRE(layer(Tensor::from({1, 3}, {1, 10, 100})).value() == Tensor::from({1, 2}, {331, 674}));
  REQUIRE(state_names(layer) == std::vector<std::string>{"weight", "bias", "_mask"});
  REQUIRE(parameter_count(layer) == 6 + 2 + 12);
  layer.set_mask(checkered);
  REQUIRE(layer.mask() == checkered);
  REQUIRE(layer.weight_count() == 3);
  layer.alphas().value().for_each([&](std::int64_t i, float a) {
    const bool on = checkered.contains(i / 6, i / 2 % 3);
    REQUIRE(a == ((i % 2 == 1) == on ? 0.9f : 0.1f));
  });
  layer.alphas().mutable_value()(0, 1, 1) = 2;  // above alpha_0 = 0.9
  layer.alphas().mutable_value()(0, 0, 1) = 0.1f;
  REQUIRE(layer.mask() == Mask::from_edges(2, 3, {{0, 1}, {0, 2}, {1, 1}}));  // equal alphas: no edge
  const Tensor learned = layer.alphas().value();
  layer.set_edge(1, 0, true);
  layer.set_edge(0, 1, false);
  layer.set_edge(1, 1, true);  // is so already
  REQUIRE(layer.mask() == Mask::from_edges(2, 3, {{0, 2}, {1, 0}, {1, 1}}));
  for (std::int64_t c : {0, 2})  // what other edges have learned stays
    for (std::int64_t k : {0, 1}) REQUIRE(layer.alphas().value()(0, c, k) == learned(0, c, k));
  layer.set_row(1, {false, true, true});
  REQUIRE(layer.mask() == Mask::from_edges(2, 3, {{0, 2}, {1, 1}, {1, 2}}));
  REQUIRE(layer.alphas().value()(0, 0, 1) == 0.1f);
  require_error([] { small().alphas(); }, {"alphas", "not learnable"});
  layer.reset_parameters();
  REQUIRE(layer.learnable());
  REQUIRE(layer.mask() == Mask::ones(2, 3));
}

TEST_CASE("the gradient of a learnable mask passes straight through") {
  Rng rng(8);
  MaskedLinearLayer layer = small({.learnable_mask = true});
  layer.set_mask(checkered);
  const Tensor x = Tensor::uniform({4, 3}, -1, 1, rng), u = Tensor::uniform({4, 2}, -1, 1, rng);
  backward(sum(mul(layer(x), u)));
  std::vector<test::Exact> dw, da;
  for (std::int64_t r = 0; r < 2; ++r)
    for (std::int64_t c = 0; c < 3; ++c) {
      test::Exact product;  // dL/dW of the effective weight
      for (std::int64_t b = 0; b < 4; ++b) product.add(double{u(b, r)} * double{x(b, c)});
      const double w = double{layer.weight.value()(r, c)};
      dw.push_back(checkered.contains(r, c) ? product : test::Exact(0));
      da.push_back({-product.value * w, product.magnitude * w, product.terms});
      da.push_back({product.value * w, product.magnitude * w, product.terms});
    }
  test::require_close(layer.weight.grad(), dw);
  test::require_close(layer.alphas().grad(), da);

  SGD{.lr = 100}.step(layer);  // far enough to turn every edge whose gradient says so
  for (std::int64_t r = 0; r < 2; ++r)
    for (std::int64_t c = 0; c < 3; ++c) REQUIRE(layer.mask().contains(r, c) == (da[6 * r + 2 * c].value > 0));
}

TEST_CASE("with gradient none the alphas do not learn") {
  MaskedLinearLayer layer = small({.learnable_mask = true, .gradient = MaskedLinearOptions::Gradient::none});
  layer.set_mask(checkered);
  one_backward(layer);
  REQUIRE_FALSE(layer.alphas().has_grad());
  REQUIRE(layer.weight.has_grad());
  REQUIRE(layer.weight.grad()(0, 1) == 0);
  const Tensor alphas = layer.alphas().value();
  Adam().step(layer);
  REQUIRE(same_bits(layer.alphas().value(), alphas));
}

TEST_CASE("saliency is |w| until it is set, and again when it is cleared") {
  MaskedLinearLayer layer = small();
  layer.weight.mutable_value()(0, 0) = -7;
  REQUIRE(layer.saliency() == Tensor::from({2, 3}, {7, 2, 3, 4, 5, 6}));
  layer.set_saliency(Tensor::full({2, 3}, -1));
  layer.set_mask(checkered);
  REQUIRE(layer.saliency() == Tensor::full({2, 3}, -1));
  layer.clear_saliency();
  REQUIRE(layer.saliency()(0, 0) == 7);

  MaskedLinearLayer packed = small({.store = storage::packed});
  packed.set_saliency(Tensor::from({6}, {1, 2, 3, 4, 5, 6}));
  packed.set_mask(checkered);
  REQUIRE(packed.saliency() == Tensor::from({3}, {1, 3, 5}));
  packed.set_mask(Mask::ones(2, 3));
  REQUIRE(packed.saliency() == Tensor::from({6}, {1, 0, 3, 0, 5, 0}));
}

TEST_CASE("keep_layer_input remembers the last input") {
  MaskedLinearLayer layer = small();
  layer(Tensor::ones({2, 3}));
  REQUIRE_FALSE(layer.layer_input().has_value());
  MaskedLinearLayer keeps = small({.keep_layer_input = true});
  REQUIRE_FALSE(keeps.layer_input().has_value());
  keeps(Tensor::ones({2, 3}));
  keeps(Tensor::full({1, 3}, 4));
  REQUIRE(*keeps.layer_input() == Tensor::full({1, 3}, 4));
}

TEST_CASE("reset_parameters draws new weights, forgets slots, and keeps the mask on request") {
  for (storage store : {storage::full, storage::packed}) {
    MaskedLinearLayer layer = small({.store = store, .freeze_masked = true});
    layer.set_mask(checkered);
    one_backward(layer);
    SGD{.momentum = 0.5}.step(layer);
    layer.set_saliency(Tensor::zeros(layer.weight.shape()));
    Rng rng(1), same(1);
    layer.reset_parameters(rng, true);
    const MaskedLinearLayer fresh(3, 2, same);
    REQUIRE(layer.mask() == checkered);
    REQUIRE(layer.weight.slots().empty());
    REQUIRE(same_bits(layer.bias->value(), fresh.bias->value()));
    REQUIRE(layer.effective_weight()(1, 1) == fresh.weight.value()(1, 1));
    REQUIRE(layer.saliency()(0) == std::fabs(fresh.weight.value()(0, 0)));
    REQUIRE((layer.weight.live() != nullptr) == (store == storage::full));
    layer.reset_parameters(rng);
    REQUIRE(layer.mask() == Mask::ones(2, 3));
    REQUIRE(layer.weight.size() == 6);
  }
}
