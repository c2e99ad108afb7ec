// Full and packed storage are one layer: equal values and gradients, and conversions that lose nothing that exists.
#include <deepstruct/nn/masked_linear.hpp>
#include <deepstruct/train/optimizer.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::Exact;
using test::require_close;
using test::same_bits;

namespace {

/// y, dx, dW (full) and db of y = x (W ⊙ mask)ᵀ + b under dL/dy = u, in double.
struct Reference {
  std::vector<Exact> y, dx, dw, db;

  Reference(const Tensor& x, const Tensor& w, const Mask& mask, const Tensor& bias, const Tensor& u)
      : y(u.size()), dx(x.size()), dw(w.size()), db(bias.size()) {
    const std::int64_t batch = x.shape()[0], in = mask.cols(), out = mask.rows();
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t r = 0; r < out; ++r) {
        y[b * out + r].add(double{bias(r)});
        db[r].add(double{u(b, r)});
        for (std::int64_t c = 0; c < in; ++c) {
          if (!mask.contains(r, c)) continue;
          y[b * out + r].add(double{w(r, c)} * double{x(b, c)});
          dx[b * in + c].add(double{u(b, r)} * double{w(r, c)});
          dw[r * in + c].add(double{u(b, r)} * double{x(b, c)});
        }
      }
  }
};
std::vector<Exact> at_edges(const std::vector<Exact>& dense, const Mask& mask) {
  std::vector<Exact> edges;
  mask.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { edges.push_back(dense[r * mask.cols() + c]); });
  return edges;
}

/// A layer [13 → 9] with half of its edges, trained for two steps so that it has slots, and a gradient.
MaskedLinearLayer trained(storage store) {
  Rng rng(5);
  MaskedLinearLayer layer(13, 9, {.store = store}, rng);
  layer.set_mask(Mask::random(9, 13, 0.5, rng));
  const Tensor x = Tensor::uniform({6, 13}, -1, 1, rng);
  Adam adam;
  for (int k = 0; k < 3; ++k) {
    backward(sum(square(layer(x))));
    if (k < 2) adam.step(layer);
  }
  return layer;
}
struct Model {
  std::vector<MaskedLinearLayer> layers;
  std::optional<MaskedLinearLayer> head;
  static auto fields(auto& m) { return std::tuple{Field{"layers", m.layers}, Field{"head", m.head}}; }
};
Tensor at_mask(const Tensor& full, const Mask& mask) { return pick_edges(full, mask).value(); }

}  // namespace

TEST_CASE("full and packed storage give the same outputs and gradients, those of the definition") {
  test::on_every_isa([] {
    Rng rng(6);
    for (const Mask& mask : test::masks(21, 37))
      for (std::int64_t batch : {0, 1, 3, 17, 64}) {
        INFO("density " << mask.density() << ", batch " << batch);
        MaskedLinearLayer full(37, 21, rng);
        full.set_mask(mask);
        MaskedLinearLayer packed = full;
        packed.pack();
        const Tensor x = Tensor::uniform({batch, 37}, -1, 1, rng), u = Tensor::uniform({batch, 21}, -1, 1, rng);
        const Reference want(x, full.weight.value(), mask, full.bias->value(), u);
        for (const MaskedLinearLayer& layer : {std::cref(full), std::cref(packed)}) {
          const Var input = variable(x), y = layer(input);
          backward(sum(mul(y, u)));
          require_close(y.value(), want.y);
          require_close(input.grad(), want.dx);
          require_close(layer.weight.grad(), layer.packed() ? at_edges(want.dw, mask) : want.dw);
          require_close(layer.bias->grad(), want.db);
        }
        no_grad guard;
        require_close(packed(x).value(), want.y);
      }
  });
}

TEST_CASE("inputs of any rank are flattened around the features") {
  Rng rng(7);
  MaskedLinearLayer full(5, 4, rng);
  full.set_mask(Mask::random(4, 5, 0.4, rng));
  MaskedLinearLayer packed = full;
  packed.pack();
  const Tensor x = Tensor::uniform({2, 3, 5}, -1, 1, rng), v = Tensor::uniform({5}, -1, 1, rng);
  REQUIRE(full(x).shape() == Shape{2, 3, 4});
  REQUIRE(full(v).shape() == Shape{4});
  require_close(packed(x).value(), full(x).value());
  require_close(packed(v).value(), full(v).value());
  test::require_error([&] { full(Tensor::zeros({2, 6})); }, {"[2, 6]", "5"});
  test::require_error([&] { packed(Tensor::zeros({2, 6})); }, {"[2, 6]", "5"});
}

TEST_CASE("packing and unpacking keep values, gradient and slots of every edge") {
  const MaskedLinearLayer full = trained(storage::full);
  const Mask mask = full.mask();
  MaskedLinearLayer packed = full;
  backward(sum(square(packed(Tensor::ones({2, 13})))));
  const Tensor grad = packed.weight.grad();
  packed.pack();
  REQUIRE(packed.packed());
  REQUIRE(packed.options().store == storage::packed);
  REQUIRE(packed.mask() == mask);
  REQUIRE(packed.weight.shape() == Shape{mask.nnz()});
  REQUIRE(same_bits(packed.weight.value(), at_mask(full.weight.value(), mask)));
  REQUIRE(same_bits(packed.weight.grad(), at_mask(grad, mask)));
  REQUIRE(packed.weight.slots().size() == 2);
  for (std::size_t k = 0; k < 2; ++k) {
    REQUIRE(packed.weight.slots()[k].name == full.weight.slots()[k].name);
    REQUIRE(same_bits(packed.weight.slots()[k].value, at_mask(full.weight.slots()[k].value, mask)));
  }
  REQUIRE(same_bits(packed.bias->value(), full.bias->value()));
  REQUIRE(same_bits(packed.effective_weight(), full.effective_weight()));

  MaskedLinearLayer back = packed;
  packed.pack();  // is packed already: nothing happens
  REQUIRE(same_bits(packed.effective_weight(), full.effective_weight()));
  back.unpack();
  REQUIRE_FALSE(back.packed());
  REQUIRE(back.mask() == mask);
  REQUIRE(same_bits(back.weight.value(), full.effective_weight()));
  for (std::size_t k = 0; k < 2; ++k)
    REQUIRE(same_bits(back.weight.slots()[k].value, place_edges(packed.weight.slots()[k].value, mask).value()));
  back.pack();
  REQUIRE(same_bits(back.weight.value(), packed.weight.value()));
}

TEST_CASE("pack and unpack of a model leave the model itself alone") {
  MaskedLinearLayer full = trained(storage::full);
  const MaskedLinearLayer packed = pack(full);
  REQUIRE_FALSE(full.packed());
  REQUIRE(packed.packed());
  const MaskedLinearLayer back = unpack(packed);
  REQUIRE(packed.packed());
  REQUIRE_FALSE(back.packed());
}

TEST_CASE("a learned mask is multiplied in when packed") {
  Rng rng(9);
  MaskedLinearLayer layer(4, 3, {.learnable_mask = true}, rng);
  const Mask mask = Mask::random(3, 4, 0.5, rng);
  layer.set_mask(mask);
  const Tensor x = Tensor::uniform({2, 4}, -1, 1, rng);
  const Tensor y = layer(x).value();
  layer.pack();
  REQUIRE_FALSE(layer.learnable());
  REQUIRE_FALSE(layer.options().learnable_mask);
  REQUIRE(layer.mask() == mask);
  require_close(layer(x).value(), y);
}

TEST_CASE("a new mask of packed storage moves values, gradient and slots, and new edges start at 0") {
  MaskedLinearLayer layer = trained(storage::packed);
  const Mask before = layer.mask();
  REQUIRE(layer.weight.has_grad());
  REQUIRE(layer.weight.slots().size() == 2);
  const MaskedLinearLayer old = layer;
  const Tensor grad = layer.weight.grad();
  Rng rng(10);
  const Mask after = Mask::random(9, 13, 0.5, rng);
  layer.set_mask(after);
  REQUIRE(layer.mask() == after);
  REQUIRE(layer.weight.shape() == Shape{after.nnz()});
  int stayed = 0, came = 0;
  after.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
    const std::int32_t was = before.edge(r, c);
    const auto expected = [&](const Tensor& t) { return was < 0 ? 0.0f : t(was); };
    ++(was < 0 ? came : stayed);
    REQUIRE(layer.weight.value()(e) == expected(old.weight.value()));
    REQUIRE(layer.weight.grad()(e) == expected(grad));
    for (std::size_t k = 0; k < 2; ++k)
      REQUIRE(layer.weight.slots()[k].value(e) == expected(old.weight.slots()[k].value));
  });
  REQUIRE(stayed > 10);
  REQUIRE(came > 10);
  layer.set_mask(before);  // what went is gone for good
  before.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
    REQUIRE(layer.weight.value()(e) == (after.contains(r, c) ? old.weight.value()(e) : 0.0f));
  });
  REQUIRE(same_bits(layer.bias->value(), old.bias->value()));
}

TEST_CASE("a packed layer without edges works and trains its bias") {
  Rng rng(11);
  MaskedLinearLayer layer(6, 4, {.store = storage::packed}, rng);
  layer.set_mask(Mask::zeros(4, 6));
  const Var x = variable(Tensor::ones({3, 6}));
  backward(sum(layer(x)));
  REQUIRE(layer.weight.shape() == Shape{0});
  REQUIRE(x.grad() == Tensor::zeros({3, 6}));
  REQUIRE(layer.bias->grad() == Tensor::full({4}, 3));
  const Tensor bias = layer.bias->value();
  SGD{.lr = 1}.step(layer);
  REQUIRE(layer.bias->value()(0) == bias(0) - 3);
}

TEST_CASE("frozen masked weights stay frozen over packing and unpacking") {
  Rng rng(12);
  MaskedLinearLayer layer(4, 3, {.freeze_masked = true}, rng);
  const Mask mask = Mask::random(3, 4, 0.5, rng);
  layer.set_mask(mask);
  REQUIRE(*layer.weight.live() == mask);
  layer.pack();
  REQUIRE(layer.weight.live() == nullptr);
  layer.unpack();
  REQUIRE(*layer.weight.live() == mask);
}

TEST_CASE("maskable_layers names the masked layers at any depth") {
  Model model{{MaskedLinearLayer(2, 3), MaskedLinearLayer(3, 3)}, MaskedLinearLayer(3, 1)};
  const auto layers = maskable_layers(model);
  REQUIRE(layers.size() == 3);
  REQUIRE(layers[0].first == "layers.0");
  REQUIRE(layers[1].second == &model.layers[1]);
  REQUIRE(layers[2].first == "head");
  const auto fixed = maskable_layers(std::as_const(model));
  static_assert(std::is_same_v<decltype(fixed[0].second), const MaskedLinearLayer*>);
  REQUIRE(fixed.size() == 3);
  reset_parameters(model);
  recompute_mask(model, 1e9f);
  for (const auto& [name, layer] : fixed) REQUIRE(layer->mask().nnz() == 0);
}
