// keep: layers cut down to some of their units move all that belongs to these.
#include <deepstruct/nn/conv.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;
using test::same_bits;

namespace {

using KeptUnits = std::vector<std::int32_t>;

/// The expected value: entries of a full tensor, with an entry of its gradient and slot to follow.
Tensor keep_rows_cols(const Tensor& t, const KeptUnits& rows, const KeptUnits& cols) {
  Tensor y = Tensor::zeros(with_extent(with_extent(t.shape(), 0, static_cast<std::int64_t>(rows.size())), 1,
                                       static_cast<std::int64_t>(cols.size())));
  const Shape& s = y.shape();
  for (std::int64_t r = 0; r < s[0]; ++r)
    for (std::int64_t c = 0; c < s[1]; ++c)
      for (std::int64_t i = 0; i < s[2]; ++i)
        for (std::int64_t j = 0; j < s[3]; ++j) y(r, c, i, j) = t(rows[r], cols[c], i, j);
  return y;
}
void keep_remember(Param& p, float factor) {
  Tensor& slot = p.slot("moment");
  Tensor scaled = (Var(p.value()) * factor).value();
  slot = std::move(scaled);
}
const Tensor& keep_slot(const Param& p) { return p.slots()[0].value; }

}  // namespace

TEST_CASE("a masked layer of some outputs and inputs, in every kind of mask and storage") {
  Rng rng(1);
  const KeptUnits rows{1, 2, 5}, cols{0, 3};
  for (const double density : {1.0, 0.5, 0.0})
    for (const char* kind : {"full", "packed", "soft", "learnable"}) {
      INFO(kind << " " << density);
      const bool learnable = kind == std::string("learnable"), packed = kind == std::string("packed");
      MaskedLinearLayer layer(4, 6,
                              {.store = packed ? storage::packed : storage::full,
                               .freeze_masked = kind == std::string("full"),
                               .learnable_mask = learnable},
                              rng);
      layer.set_mask(Mask::random(6, 4, density, rng));
      if (kind == std::string("soft")) layer.set_soft_mask(Tensor::uniform({6, 4}, 0, 2, rng));
      layer.set_saliency(Tensor::normal(layer.weight.shape(), 0, 1, rng));
      keep_remember(layer.weight, 3);
      keep_remember(*layer.bias, 5);
      const MaskedLinearLayer before = layer;
      layer.keep(rows, cols);
      REQUIRE(layer.out_features() == 3);
      REQUIRE(layer.in_features() == 2);
      REQUIRE(same_bits(layer.effective_weight(), keep_rows_cols(before.effective_weight(), rows, cols)));
      for (std::int64_t r = 0; r < 3; ++r) {
        for (std::int64_t c = 0; c < 2; ++c)
          REQUIRE(layer.mask().contains(r, c) == before.mask().contains(rows[r], cols[c]));
        REQUIRE(layer.bias->value()(r) == before.bias->value()(rows[r]));
        REQUIRE(keep_slot(*layer.bias)(r) == 5 * layer.bias->value()(r));
      }
      REQUIRE(same_bits(keep_slot(layer.weight), (Var(layer.weight.value()) * 3.0f).value()));
      REQUIRE(layer.saliency().shape() == layer.weight.shape());
      layer.mask().for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
        const std::int32_t old = before.mask().edge(rows[r], cols[c]);
        REQUIRE((packed ? layer.saliency()(e) : layer.saliency()(r, c)) ==
                (packed ? before.saliency()(old) : before.saliency()(rows[r], cols[c])));
      });
      REQUIRE((layer.weight.live() != nullptr) == (kind == std::string("full")));
      if (layer.weight.live()) REQUIRE(*layer.weight.live() == layer.mask());
      REQUIRE(layer.learnable() == learnable);
      REQUIRE(layer(Tensor::ones({2, 2})).shape() == Shape{2, 3});

      const MaskedLinearLayer whole = before;
      MaskedLinearLayer same = before;
      same.keep(KeptUnits{0, 1, 2, 3, 4, 5}, KeptUnits{0, 1, 2, 3});
      REQUIRE(same_bits(same.weight.value(), whole.weight.value()));
      require_error([&] { same.keep(KeptUnits{6}, KeptUnits{}); }, {"MaskedLinearLayer::keep: unit outside", "6 of 6"});
      require_error([&] { same.keep(KeptUnits{}, KeptUnits{1, 1}); }, {"MaskedLinearLayer::keep: units must ascend"});
      REQUIRE(same_bits(same.weight.value(), whole.weight.value()));
      same.keep(KeptUnits{}, KeptUnits{});
      REQUIRE(same.mask().shape() == Shape{0, 0});
      REQUIRE(same(Tensor::empty({3, 0})).shape() == Shape{3, 0});
    }
}

TEST_CASE("a packed layer takes edges between other units") {
  Rng rng(2);
  MaskedLinearLayer layer(Mask::from_edges(2, 3, {{0, 1}, {1, 0}, {1, 2}}), Tensor::from({3}, {1, 2, 3}),
                          Tensor::from({2}, {7, 8}));
  const Mask next = Mask::from_edges(3, 2, {{0, 0}, {2, 0}, {2, 1}});
  layer.rewire(next, KeptUnits{2, -1, 0}, KeptUnits{1, -1, 0});
  REQUIRE(layer.weight.value().to_vector() == std::vector<float>{3, 0, 1});
  REQUIRE(layer.bias->value().to_vector() == std::vector<float>{8, 0, 7});
  REQUIRE(layer.mask() == next);
  REQUIRE(layer(Tensor::ones({1, 2})).shape() == Shape{1, 3});
  require_error([&] { layer.rewire(next, KeptUnits{0}, KeptUnits{0, 1, 2}); }, {"rewire: needs an entry per edge"});
  require_error([&] { layer.rewire(next, KeptUnits{0, 1, 2}, KeptUnits{0, 1, 3}); }, {"rewire: row outside the layer"});
  layer.unpack();
  require_error([&] { layer.rewire(next, KeptUnits{0, 1, 2}, KeptUnits{0, 1, 2}); }, {"rewire: needs packed storage"});
}

TEST_CASE("dense layers and convolutions of some units") {
  Rng rng(3);
  const KeptUnits rows{0, 2, 3}, cols{1, 3};
  Linear linear(4, 5, rng);
  keep_remember(linear.weight, 2);
  const Linear before = linear;
  linear.keep(rows, cols);
  REQUIRE(same_bits(linear.weight.value(), keep_rows_cols(before.weight.value(), rows, cols)));
  REQUIRE(same_bits(keep_slot(linear.weight), (Var(linear.weight.value()) * 2.0f).value()));
  REQUIRE(linear.bias->value()(2) == before.bias->value()(3));
  require_error([&] { linear.keep(rows, cols); }, {"Linear::keep: unit outside"});

  Conv2d conv(4, 5, {3, 2}, {.padding = {1, 0}}, true, rng);
  const Conv2d conv_before = conv;
  conv.keep(rows, cols);
  REQUIRE(same_bits(conv.weight.value(), keep_rows_cols(conv_before.weight.value(), rows, cols)));
  for (const storage store : {storage::full, storage::packed}) {
    MaskedConv2d masked(4, 5, {3, 2}, {.store = store}, rng);
    masked.set_mask(Mask::random(5, 24, 0.4, rng));
    masked.set_saliency(Tensor::normal(masked.weight.shape(), 0, 1, rng));
    keep_remember(masked.weight, 2);
    const MaskedConv2d masked_before = masked;
    masked.keep(rows, cols);
    REQUIRE(same_bits(masked.effective_weight(), keep_rows_cols(masked_before.effective_weight(), rows, cols)));
    REQUIRE(same_bits(keep_slot(masked.weight), (Var(masked.weight.value()) * 2.0f).value()));
    REQUIRE(masked.in_channels() == 2);
    REQUIRE(masked.saliency().shape() == masked.weight.shape());
  }

  // Where every input channel is a group of its own, its outputs go with it.
  MaskedConv2d each(4, 8, 3, {.conv = {.groups = 4}}, rng);
  const Tensor x = Tensor::normal({2, 4, 5, 5}, 0, 1, rng), all = each(x).value();
  each.keep(KeptUnits{2, 3, 6, 7}, KeptUnits{1, 3});
  REQUIRE(each.options().conv.groups == 2);
  const Tensor some = each(index_select(x, 1, KeptUnits{1, 3})).value();
  REQUIRE(same_bits(some, index_select(all, 1, KeptUnits{2, 3, 6, 7}).value()));
  require_error([&] { each.keep(KeptUnits{0, 1}, KeptUnits{1}); }, {"MaskedConv2d::keep: outputs must be those"});
  each.keep(KeptUnits{}, KeptUnits{});
  REQUIRE(each.options().conv.groups == 1);
  Conv2d two(4, 4, 1, {.groups = 2}, true, rng);
  require_error([&] { two.keep(KeptUnits{0, 1}, KeptUnits{0, 1}); }, {"Conv2d::keep: channels of a group"});
}
