// Patterns: rows of equal length, n of m, each against a naive choice.
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/prune/pattern.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

using PatternModel = std::vector<MaskedLinearLayer>;

MaskedLinearLayer pattern_layer(std::int64_t in, std::int64_t out, double density, bool packed, Rng& rng) {
  MaskedLinearLayer layer(in, out, rng);
  layer.set_mask(Mask::random(out, in, density, rng));
  if (packed) layer.pack();
  Tensor s = Tensor::uniform(layer.weight.shape(), -2, 9, rng);
  s.for_each([](std::int64_t, float& x) { x = std::round(x); });  // ties
  layer.set_saliency(std::move(s));
  return layer;
}
/// Saliencies of a row's edges by column.
std::vector<std::pair<float, std::int64_t>> pattern_row(const MaskedLinearLayer& layer, std::int64_t row) {
  std::vector<std::pair<float, std::int64_t>> all;
  const Tensor s = layer.saliency();
  layer.mask().for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
    if (r == row) all.emplace_back(layer.packed() ? s(e) : s(r, c), c);
  });
  return all;
}
/// The columns of some edges that stay when `gone` go, least first.
std::vector<std::int64_t> pattern_left(std::vector<std::pair<float, std::int64_t>> edges, std::int64_t gone) {
  std::stable_sort(edges.begin(), edges.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::int64_t> cols;
  for (std::size_t k = static_cast<std::size_t>(gone); k < edges.size(); ++k) cols.push_back(edges[k].second);
  std::sort(cols.begin(), cols.end());
  return cols;
}
std::vector<std::int64_t> pattern_cols(const Mask& mask, std::int64_t row) {
  std::vector<std::int64_t> cols;
  for (std::int32_t e = mask.row_start()[row]; e < mask.row_start()[row + 1]; ++e) cols.push_back(mask.col()[e]);
  return cols;
}

}  // namespace

TEST_CASE("every output keeps its most salient inputs, as many as the budget of a row says") {
  Rng rng(1);
  for (int trial = 0; trial < 40; ++trial) {
    const PatternModel start{pattern_layer(9, 5, 0.7, trial % 2, rng), pattern_layer(5, 6, 0.6, trial % 2, rng)};
    const double q = double(rng.bits() % 101);
    const std::int64_t n = rng.bits() % 6;
    for (const Budget& budget : {percentage(q), absolute(n)}) {
      PatternModel model = start;
      prune_row_by_saliency(model, budget);
      for (std::size_t l = 0; l < 2; ++l)
        for (std::int64_t r = 0; r < model[l].out_features(); ++r) {
          const auto edges = pattern_row(start[l], r);
          const auto size = static_cast<std::int64_t>(edges.size());
          const std::int64_t gone = budget.kind == Budget::Kind::absolute
                                        ? std::min(n, size)
                                        : static_cast<std::int64_t>(std::nearbyint(q / 100 * double(size)));
          REQUIRE(pattern_cols(model[l].mask(), r) == pattern_left(edges, gone));
        }
    }
  }
}

TEST_CASE("a constant fan-in, or an Error that tells which are possible") {
  Rng rng(2);
  for (const bool packed : {false, true}) {
    const PatternModel start{pattern_layer(12, 5, 1, packed, rng), pattern_layer(6, 4, 1, packed, rng)};
    for (std::int64_t fan_in = 0; fan_in <= 6; ++fan_in) {
      PatternModel model = start;
      const PruneReport report = prune_row_by_saliency(model, remaining(fan_in));
      REQUIRE(report.after() == 9 * fan_in);
      for (std::size_t l = 0; l < 2; ++l)
        for (std::int64_t r = 0; r < model[l].out_features(); ++r) {
          const auto edges = pattern_row(start[l], r);
          REQUIRE(pattern_cols(model[l].mask(), r) ==
                  pattern_left(edges, static_cast<std::int64_t>(edges.size()) - fan_in));
        }
    }
    PatternModel dense = start;
    REQUIRE(prune_row_by_saliency(dense, density(0.5)).after() == 5 * 6 + 4 * 3);
    PatternModel model = start;
    require_error([&] { prune_row_by_saliency(model, remaining(7)); },
                  {"prune_row_by_saliency", "layer 1", "row 0", "7 of 6", "possible 0 to 6"});
    REQUIRE(model[0].mask().is_full());  // not even the layer that could
    model[1].set_mask(Mask::from_edges(4, 6, {{0, 0}, {0, 1}, {1, 0}, {2, 1}, {2, 2}, {3, 5}}));
    require_error([&] { prune_row_by_saliency(model, remaining(2)); }, {"layer 1", "row 1", "possible 0 to 1"});
  }
}

TEST_CASE("floors hold within rows, and blocks and buckets have no rows") {
  Rng rng(3);
  PatternModel model{pattern_layer(8, 5, 1, false, rng)};
  PatternModel floored = model, columns = model;
  prune_row_by_saliency(floored, percentage(100), {.keep_per_output = 2});
  for (std::int64_t r = 0; r < 5; ++r)
    REQUIRE(pattern_cols(floored[0].mask(), r) == pattern_left(pattern_row(model[0], r), 6));
  prune_row_by_saliency(columns, percentage(75), {.keep_per_input = 1});
  for (std::int64_t c = 0; c < 8; ++c) {
    bool any = false;
    for (std::int64_t r = 0; r < 5; ++r) any |= columns[0].mask().contains(r, c);
    REQUIRE(any);
  }
  require_error([&] { prune_row_by_saliency(model, remaining(1), {.keep_per_output = 2}); },
                {"floors keep more", "row 0", "1, floors 2"});
  require_error([&] { prune_row_by_saliency(model, percentage(50), {.block = {2, 1}}); }, {"blocks", "2 x 1"});
  require_error([&] { prune_row_by_saliency(model, bucket(3)); }, {"bucket"});
  REQUIRE(model[0].mask().is_full());
}

TEST_CASE("n of every m consecutive inputs stay, the most salient that exist") {
  Rng rng(4);
  for (int trial = 0; trial < 40; ++trial) {
    const std::int64_t m = std::array<std::int64_t, 4>{1, 2, 4, 6}[rng.bits() % 4], n = 1 + rng.bits() % m;
    const PatternModel start{pattern_layer(12, 5, 0.6, trial % 2, rng), pattern_layer(24, 3, 0.9, trial % 2, rng)};
    PatternModel model = start;
    prune_n_of_m(model, n, m);
    for (std::size_t l = 0; l < 2; ++l)
      for (std::int64_t r = 0; r < model[l].out_features(); ++r) {
        std::vector<std::int64_t> want;
        for (std::int64_t g = 0; g < model[l].in_features(); g += m) {
          auto edges = pattern_row(start[l], r);
          std::erase_if(edges, [&](const auto& e) { return e.second < g || e.second >= g + m; });
          const auto more = std::max<std::int64_t>(0, static_cast<std::int64_t>(edges.size()) - n);
          for (std::int64_t c : pattern_left(edges, more)) want.push_back(c);
        }
        REQUIRE(pattern_cols(model[l].mask(), r) == want);
      }
  }
}

TEST_CASE("an m that does not divide is an Error with those that do, and kernels count as inputs") {
  Rng rng(5);
  PatternModel model{pattern_layer(8, 3, 1, false, rng), pattern_layer(10, 3, 1, false, rng)};
  require_error([&] { prune_n_of_m(model, 2, 4); },
                {"prune_n_of_m", "layer 1", "10 inputs", "m 4", "possible 2 5 10)"});
  REQUIRE(model[0].mask().is_full());
  require_error([&] { prune_n_of_m(model, 0, 4); }, {"1 <= n", "0 of 4"});
  require_error([&] { prune_n_of_m(model, 5, 4); }, {"1 <= n", "5 of 4"});
  MaskedConv2d conv(4, 3, 3, {}, rng);
  prune_n_of_m(conv, 2, 4);
  REQUIRE(conv.mask().nnz() == 3 * 36 / 2);
  for (std::int64_t r = 0; r < 3; ++r)
    for (std::int64_t g = 0; g < 36; g += 4) {
      int count = 0;
      for (std::int64_t c = g; c < g + 4; ++c) count += conv.mask().contains(r, c);
      REQUIRE(count == 2);
    }
}
