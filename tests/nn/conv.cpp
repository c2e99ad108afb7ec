// Conv2d and MaskedConv2d: values, initial values, what the mask does in full and in packed storage, and what is
// refused.
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/train/optimizer.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_close;
using test::require_error;
using test::same_bits;

namespace {

constexpr Conv2dOptions conv_how{{1, 2}, {1, 0}, {1, 1}, 2};

/// 4 → 6 channels, kernel 3 × 2, half of its weights.
MaskedConv2d masked_conv(storage store, std::uint64_t seed = 5) {
  Rng rng(seed);
  MaskedConv2d layer(4, 6, {3, 2}, {.conv = conv_how, .store = store}, rng);
  layer.set_mask(Mask::random(6, 12, 0.5, rng));
  return layer;
}
/// The same after two steps, with a gradient.
MaskedConv2d trained_conv(storage store) {
  MaskedConv2d layer = masked_conv(store);
  Rng rng(6);
  const Tensor x = Tensor::uniform({3, 4, 5, 6}, -1, 1, rng);
  Adam adam;
  for (int k = 0; k < 3; ++k) {
    backward(sum(square(layer(x))));
    if (k < 2) adam.step(layer);
  }
  return layer;
}
Tensor conv_flat(const Tensor& w) {
  no_grad guard;
  return reshape(w, {w.shape()[0], w.shape()[1] * w.shape()[2] * w.shape()[3]}).value();
}
struct TwoConvs {
  Conv2d first;
  std::vector<MaskedConv2d> rest;
  Var operator()(const Var& x) const {
    Var y = first(x);
    for (const MaskedConv2d& layer : rest) y = layer(relu(y));
    return y;
  }
  static auto fields(auto& m) { return std::tuple{Field{"first", m.first}, Field{"rest", m.rest}}; }
};

}  // namespace

TEST_CASE("Conv2d has PyTorch's initial values, names and result") {
  Rng rng(1);
  const Conv2d layer(8, 6, {3, 2}, conv_how, true, rng);
  REQUIRE(layer.weight.shape() == Shape{6, 4, 3, 2});
  REQUIRE(layer.bias->shape() == Shape{6});
  const float bound = 1 / std::sqrt(24.0f);
  float largest = 0;
  for (const Tensor* t : {&layer.weight.value(), &layer.bias->value()})
    t->for_each([&](std::int64_t, float w) { largest = std::max(largest, std::fabs(w)); });
  REQUIRE(largest <= bound);
  REQUIRE(largest >= 0.9f * bound);
  REQUIRE(state_names(layer) == std::vector<std::string>{"weight", "bias"});
  const Tensor x = Tensor::uniform({3, 8, 7, 5}, -1, 1, rng);
  REQUIRE(layer(x).shape() == Shape{3, 6, 7, 2});
  REQUIRE(same_bits(layer(x).value(), conv2d(x, layer.weight, *layer.bias, conv_how).value()));

  const Conv2d plain(8, 6, 3, {}, false, rng);
  REQUIRE(plain.weight.shape() == Shape{6, 8, 3, 3});
  REQUIRE_FALSE(plain.bias.has_value());
  REQUIRE(state_names(plain) == std::vector<std::string>{"weight"});
  REQUIRE(same_bits(plain(x).value(), conv2d(x, plain.weight).value()));
}

TEST_CASE("a small convolution gives what one can add up") {
  Conv2d layer(1, 1, 2);
  layer.weight.set_value(Tensor::from({1, 1, 2, 2}, {1, 2, 3, 4}));
  layer.bias->set_value(Tensor::from({1}, {0.5f}));
  const Tensor x = Tensor::from({1, 1, 2, 3}, {1, 0, 2, 0, 1, 3});
  REQUIRE(layer(x).value() == Tensor::from({1, 1, 1, 2}, {5.5f, 19.5f}));
}

TEST_CASE("bad convolution layers are refused") {
  require_error([] { Conv2d layer(-1, 2, 3); }, {"Conv2d", "-1, 2"});
  require_error([] { Conv2d layer(1, -2, 3); }, {"Conv2d", "1, -2"});
  require_error([] { Conv2d layer(1, 2, 0); }, {"Conv2d", "0 x 0"});
  require_error([] { Conv2d layer(4, 6, 3, {.groups = 4}); }, {"Conv2d", "groups 4", "in 4", "out 6"});
  require_error([] { MaskedConv2d layer(4, 6, {3, -1}); }, {"MaskedConv2d", "3 x -1"});
  require_error([] { MaskedConv2d layer(4, 6, 3, {.conv = {.groups = 0}}); }, {"MaskedConv2d", "groups 0"});
  const Conv2d layer(4, 6, 3);
  require_error([&] { layer(Tensor::ones({2, 3, 5, 5})); }, {"conv2d", "[2, 3, 5, 5]", "[6, 4, 3, 3]"});
}

TEST_CASE("a new masked convolution has every weight, whatever its storage") {
  Rng rng(2), again(2);
  const MaskedConv2d full(4, 6, {3, 2}, {.conv = conv_how}, rng),
      packed(4, 6, {3, 2}, {.conv = conv_how, .store = storage::packed}, again);
  REQUIRE(full.mask() == Mask::ones(6, 12));
  REQUIRE(full.weight_count() == 72);
  REQUIRE(full.in_channels() == 4);
  REQUIRE(full.out_channels() == 6);
  REQUIRE(full.kernel() == std::array<std::int64_t, 2>{3, 2});
  REQUIRE(full.weight.shape() == Shape{6, 2, 3, 2});
  REQUIRE(packed.weight.shape() == Shape{72});
  REQUIRE(state_names(full) == std::vector<std::string>{"weight", "bias", "_mask"});
  REQUIRE(same_bits(packed.effective_weight(), full.weight.value()));
  REQUIRE(same_bits(packed.bias->value(), full.bias->value()));
  Rng plain(2);
  const Conv2d dense(4, 6, {3, 2}, conv_how, true, plain);
  REQUIRE(same_bits(dense.weight.value(), full.weight.value()));
  const MaskedConv2d unbiased(4, 6, 3, {.bias = false}, rng);
  REQUIRE(state_names(unbiased) == std::vector<std::string>{"weight", "_mask"});
}

TEST_CASE("full and packed convolutions give the results and gradients of W ⊙ mask") {
  Rng rng(7);
  const Tensor x = Tensor::uniform({17, 4, 5, 6}, -1, 1, rng);
  for (double density : {0.0, 0.2, 0.9, 1.0}) {
    INFO("density " << density);
    MaskedConv2d full = masked_conv(storage::full);
    full.set_mask(Mask::random(6, 12, density, rng));
    MaskedConv2d packed = full;
    packed.pack();
    Conv2d dense(4, 6, {3, 2}, conv_how);
    dense.weight.set_value(full.effective_weight());
    dense.bias->set_value(full.bias->value());
    const Var a = variable(x), b = variable(x), c = variable(x);
    backward(sum(square(dense(a))));
    backward(sum(square(full(b))));
    backward(sum(square(packed(c))));
    require_close(full(x).value(), dense(x).value(), 1e-5, 1e-5);
    require_close(packed(x).value(), dense(x).value(), 1e-5, 1e-5);
    require_close(b.grad(), a.grad(), 1e-5, 1e-4);
    require_close(c.grad(), a.grad(), 1e-5, 1e-4);
    require_close(full.bias->grad(), dense.bias->grad(), 1e-5, 1e-4);
    require_close(packed.bias->grad(), dense.bias->grad(), 1e-5, 1e-4);
    const Mask& m = full.mask();
    const Tensor want = pick_edges(conv_flat(dense.weight.grad()), m).value();
    require_close(packed.weight.grad(), want, 1e-5, 1e-4);
    require_close(conv_flat(full.weight.grad()), place_edges(want, m).value(), 1e-5, 1e-4);
  }
}

TEST_CASE("full convolutions remember weights behind the mask, packed ones do not") {
  for (storage store : {storage::full, storage::packed}) {
    Rng rng(8);
    MaskedConv2d layer(2, 2, {1, 1}, {.store = store}, rng);
    const Tensor before = layer.effective_weight();
    Tensor flags = Tensor::ones({2, 2, 1, 1});
    flags(0, 1) = 0;
    layer.set_mask(flags);
    REQUIRE(layer.mask() == Mask::from_edges(2, 2, {{0, 0}, {1, 0}, {1, 1}}));
    REQUIRE(layer.weight_count() == 3);
    REQUIRE(layer.effective_weight()(0, 1) == 0);
    REQUIRE(layer.effective_weight()(1, 1) == before(1, 1));
    layer.set_mask(Mask::ones(2, 2));
    REQUIRE(layer.effective_weight()(0, 1) == (store == storage::full ? before(0, 1) : 0));
    layer.set_mask(flags);
    layer.apply_mask();
    layer.set_mask(Mask::ones(2, 2));
    REQUIRE(layer.effective_weight()(0, 1) == 0);
  }
}

TEST_CASE("packing and unpacking a convolution keep values, gradient and slots") {
  const MaskedConv2d full = trained_conv(storage::full);
  const Mask mask = full.mask();
  MaskedConv2d packed = full;
  backward(sum(square(packed(Tensor::ones({2, 4, 5, 6})))));
  const Tensor grad = packed.weight.grad();
  packed.pack();
  REQUIRE(packed.packed());
  REQUIRE(packed.mask() == mask);
  const auto edges = [&](const Tensor& t) { return pick_edges(conv_flat(t), mask).value(); };
  REQUIRE(same_bits(packed.weight.value(), edges(full.weight.value())));
  REQUIRE(same_bits(packed.weight.grad(), edges(grad)));
  REQUIRE(packed.weight.slots().size() == 2);
  for (std::size_t k = 0; k < 2; ++k)
    REQUIRE(same_bits(packed.weight.slots()[k].value, edges(full.weight.slots()[k].value)));
  MaskedConv2d back = packed;
  back.unpack();
  REQUIRE_FALSE(back.packed());
  REQUIRE(same_bits(back.weight.value(), full.effective_weight()));
  REQUIRE(back.weight.slots().size() == 2);
  REQUIRE(same_bits(back.effective_weight(), packed.effective_weight()));
}

TEST_CASE("a new mask of a packed convolution moves what exists") {
  MaskedConv2d layer = trained_conv(storage::packed);
  const MaskedConv2d old = layer;
  const Mask before = layer.mask();
  Rng rng(10);
  const Mask after = Mask::random(6, 12, 0.5, rng);
  layer.set_saliency(Tensor::full(layer.weight.shape(), 7));
  layer.set_mask(after);
  REQUIRE(layer.weight.shape() == Shape{after.nnz()});
  int came = 0, stayed = 0;
  after.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
    const std::int32_t was = before.edge(r, c);
    ++(was < 0 ? came : stayed);
    REQUIRE(layer.weight.value()(e) == (was < 0 ? 0.0f : old.weight.value()(was)));
    REQUIRE(layer.saliency()(e) == (was < 0 ? 0.0f : 7.0f));
    for (std::size_t k = 0; k < 2; ++k)
      REQUIRE(layer.weight.slots()[k].value(e) == (was < 0 ? 0.0f : old.weight.slots()[k].value(was)));
  });
  REQUIRE(came > 5);
  REQUIRE(stayed > 5);
}

TEST_CASE("recompute_mask of a convolution keeps what is large enough") {
  for (storage store : {storage::full, storage::packed}) {
    MaskedConv2d layer = masked_conv(store);
    const Tensor weight = conv_flat(layer.effective_weight()),
                 remembered = store == storage::full ? conv_flat(layer.weight.value()) : weight;
    const float theta = 0.15f;
    layer.recompute_mask(theta);
    int kept = 0;
    for (std::int64_t r = 0; r < 6; ++r)
      for (std::int64_t c = 0; c < 12; ++c) {
        REQUIRE(layer.mask().contains(r, c) == (std::fabs(remembered(r, c)) >= theta));
        kept += layer.mask().contains(r, c);
      }
    REQUIRE(kept > 5);
    REQUIRE(kept < 60);
    layer.weight.mutable_value()(0) = std::numeric_limits<float>::quiet_NaN();
    const Mask mask = layer.mask();
    require_error([&] { layer.recompute_mask(0.5f); }, {"recompute_mask", "NaN", "element 0"});
    require_error([&] { layer.recompute_mask(std::numeric_limits<float>::quiet_NaN()); }, {"recompute_mask"});
    REQUIRE(layer.mask() == mask);
  }
}

TEST_CASE("reset_parameters of a convolution draws anew and keeps the mask if asked to") {
  for (storage store : {storage::full, storage::packed}) {
    MaskedConv2d layer = trained_conv(store);
    const Mask mask = layer.mask();
    const Tensor before = layer.effective_weight();
    layer.set_saliency(Tensor::full(layer.weight.shape(), 7));
    Rng rng(3);
    layer.reset_parameters(rng, true);
    REQUIRE(layer.mask() == mask);
    REQUIRE_FALSE(layer.effective_weight() == before);
    REQUIRE(layer.weight.slots().empty());
    REQUIRE_FALSE(layer.has_saliency());
    layer.reset_parameters(rng);
    REQUIRE(layer.mask().is_full());
  }
}

TEST_CASE("a wrong mask or saliency of a convolution leaves the layer as it was") {
  for (storage store : {storage::full, storage::packed}) {
    MaskedConv2d layer = trained_conv(store);
    const MaskedConv2d before = layer;
    require_error([&] { layer.set_mask(Mask::ones(6, 11)); }, {"set_mask", "[6, 11]", "[6, 12]"});
    require_error([&] { layer.set_mask(Tensor::ones({6, 2, 2, 3})); }, {"set_mask", "[6, 2, 2, 3]", "[6, 2, 3, 2]"});
    require_error([&] { layer.set_mask(Tensor::ones({6, 12})); }, {"set_mask", "[6, 12]"});
    require_error([&] { layer.set_mask(Tensor::full({6, 2, 3, 2}, 0.5f)); }, {"Mask", "0 or 1"});
    require_error([&] { layer.set_saliency(Tensor::ones({3})); }, {"set_saliency", "[3]"});
    REQUIRE(layer.mask() == before.mask());
    REQUIRE(same_bits(layer.weight.value(), before.weight.value()));
    REQUIRE(same_bits(layer.saliency(), abs(Var(before.weight.value())).value()));
  }
}

TEST_CASE("convolutions are parts of models like others") {
  Rng rng(4);
  TwoConvs model{Conv2d(2, 4, {3, 3}, {.padding = same_padding({3, 3})}, true, rng), {masked_conv(storage::full)}};
  REQUIRE(state_names(model) ==
          std::vector<std::string>{"first.weight", "first.bias", "rest.0.weight", "rest.0.bias", "rest.0._mask"});
  const Tensor x = Tensor::uniform({16, 2, 6, 6}, -1, 1, rng), target = Tensor::uniform({16, 6, 6, 3}, -1, 1, rng);
  TwoConvs packed = pack(model);
  REQUIRE(packed.rest[0].packed());
  REQUIRE_FALSE(model.rest[0].packed());
  REQUIRE_FALSE(unpack(packed).rest[0].packed());
  const auto loss = [&](const TwoConvs& m) { return sum(square(sub(m(x), target))); };
  for (TwoConvs* m : {&model, &packed}) {
    Adam adam{.lr = 0.01};
    const float before = loss(*m).item();
    for (int k = 0; k < 20; ++k) {
      backward(loss(*m));
      adam.step(*m);
    }
    REQUIRE(loss(*m).item() < 0.9f * before);
  }
  require_close(packed(x).value(), model(x).value(), 1e-3, 1e-3);
}
