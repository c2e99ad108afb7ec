// Floors, blocks and exact numbers against a naive choice, over random masks and saliencies with many ties.
#include <map>
#include <set>
#include <tuple>

#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/prune/prune.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

using RankingModel = std::vector<MaskedLinearLayer>;

struct RankingEdge {
  double s;
  std::size_t layer;
  std::int64_t r, c;
  std::size_t unit = 0;
};
std::vector<RankingEdge> ranking_edges(const RankingModel& model) {
  std::vector<RankingEdge> all;
  for (std::size_t l = 0; l < model.size(); ++l) {
    const Tensor s = model[l].saliency();
    model[l].mask().for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      all.push_back({double{model[l].packed() ? s(e) : s(r, c)}, l, r, c});
    });
  }
  return all;
}
RankingModel ranking_model(Rng& rng, bool packed) {
  RankingModel model;
  const std::vector<std::pair<std::int64_t, std::int64_t>> extents{{5, 7}, {7, 4}, {4, 3}};
  for (const auto& [in, out] : extents) {
    MaskedLinearLayer layer(in, out, rng);
    layer.set_mask(Mask::random(out, in, 0.2 + 0.8 * double{rng.uniform()}, rng));
    if (packed) layer.pack();
    Tensor s = Tensor::uniform(layer.weight.shape(), -2, 9, rng);
    s.for_each([](std::int64_t, float& x) { x = std::round(x); });  // ties
    layer.set_saliency(std::move(s));
    model.push_back(std::move(layer));
  }
  return model;
}
std::vector<Mask> ranking_masks(const RankingModel& model) {
  std::vector<Mask> all;
  for (const auto& layer : model) all.push_back(layer.mask());
  return all;
}
std::vector<Mask> ranking_of(const RankingModel& model, const std::vector<RankingEdge>& kept) {
  std::vector<Mask> all;
  for (std::size_t l = 0; l < model.size(); ++l) {
    std::vector<Mask::Edge> edges;
    for (const auto& e : kept)
      if (e.layer == l) edges.emplace_back(static_cast<std::int32_t>(e.r), static_cast<std::int32_t>(e.c));
    all.push_back(Mask::from_edges(model[l].out_features(), model[l].in_features(), edges));
  }
  return all;
}
/// Edges under a floor, by definition: of a layer, a row, a column the last ones when sorted.
std::vector<char> ranking_protected(const std::vector<RankingEdge>& edges, const PruneOptions& options) {
  std::vector<char> keep(edges.size(), 0);
  const auto hold = [&](std::int64_t floor, auto&& same) {
    for (std::size_t k = 0; k < edges.size(); ++k) {
      std::int64_t greater = 0;  // edges of the same group that come later in the order
      for (std::size_t n = 0; n < edges.size(); ++n)
        greater += same(edges[k], edges[n]) && (edges[n].s > edges[k].s || (edges[n].s == edges[k].s && n > k));
      if (greater < floor) keep[k] = 1;
    }
  };
  using E = const RankingEdge&;
  hold(options.keep_per_layer, [](E a, E b) { return a.layer == b.layer; });
  hold(options.keep_per_output, [](E a, E b) { return a.layer == b.layer && a.r == b.r; });
  hold(options.keep_per_input, [](E a, E b) { return a.layer == b.layer && a.c == b.c; });
  return keep;
}
/// The edges that are left when `gone` of those without a floor go, least first.
std::vector<RankingEdge> ranking_left(std::vector<RankingEdge> edges, const std::vector<char>& keep,
                                      std::int64_t gone) {
  std::vector<std::size_t> order;
  for (std::size_t k = 0; k < edges.size(); ++k)
    if (!keep[k]) order.push_back(k);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return edges[a].s < edges[b].s; });
  std::vector<char> out(edges.size(), 0);
  for (std::int64_t k = 0; k < gone; ++k) out[order[k]] = 1;
  std::vector<RankingEdge> left;
  for (std::size_t k = 0; k < edges.size(); ++k)
    if (!out[k]) left.push_back(edges[k]);
  return left;
}

}  // namespace

TEST_CASE("exactly so many weights stay, under any floors, or none go") {
  Rng rng(1);
  for (int trial = 0; trial < 60; ++trial) {
    const RankingModel start = ranking_model(rng, trial % 2 == 1);
    const auto edges = ranking_edges(start);
    const auto n = static_cast<std::int64_t>(edges.size());
    PruneOptions options;
    if (trial % 3 != 0) options.keep_per_layer = rng.bits() % 6;
    if (trial % 4 != 0) options.keep_per_output = rng.bits() % 3;
    if (trial % 5 != 0) options.keep_per_input = rng.bits() % 3;
    const auto keep = ranking_protected(edges, options);
    const auto least = static_cast<std::int64_t>(std::count(keep.begin(), keep.end(), 1));
    for (const std::int64_t left : {n, n - 1, (n + least) / 2, least + 1, least, least - 1, std::int64_t{0}}) {
      if (left < 0 || left > n) continue;
      INFO("trial " << trial << ": " << left << " of " << n << ", floors " << least);
      RankingModel model = start;
      if (left < least) {
        const std::string text = test::error_of([&] { prune_network_by_saliency(model, remaining(left), options); });
        REQUIRE(text.find("floors " + std::to_string(least) + ")") != std::string::npos);
        REQUIRE(ranking_masks(model) == ranking_masks(start));
        RankingModel less = start;  // where it is not what stays that was said, floors win
        options.exact = true;
        REQUIRE(prune_network_by_saliency(less, absolute(n - left), options).after() == least);
        options.exact = false;
        continue;
      }
      const PruneReport report = prune_network_by_saliency(model, remaining(left), options);
      REQUIRE(report.after() == left);
      REQUIRE(ranking_masks(model) == ranking_of(start, ranking_left(edges, keep, n - left)));
      RankingModel other = start;
      options.exact = true;
      REQUIRE(prune_network_by_saliency(other, absolute(n - left), options).after() == left);
      options.exact = false;
      REQUIRE(ranking_masks(other) == ranking_masks(model));
    }
  }
}

TEST_CASE("a threshold takes all below it but what floors keep") {
  Rng rng(2);
  for (int trial = 0; trial < 40; ++trial) {
    const RankingModel start = ranking_model(rng, false);
    const auto edges = ranking_edges(start);
    const PruneOptions options{.keep_per_layer = trial % 4, .keep_per_output = trial % 3, .keep_per_input = trial % 2};
    const auto keep = ranking_protected(edges, options);
    RankingModel model = start, plain = start;
    const auto budget = percentage(double(rng.bits() % 101));
    prune_network_by_saliency(model, budget, options);
    prune_network_by_saliency(plain, budget);
    std::vector<RankingEdge> want;
    for (std::size_t k = 0; k < edges.size(); ++k)
      if (keep[k] || plain[edges[k].layer].mask().contains(edges[k].r, edges[k].c)) want.push_back(edges[k]);
    REQUIRE(ranking_masks(model) == ranking_of(start, want));
  }
}

TEST_CASE("with a floor of 1 per row and column no neuron loses its last edge") {
  Rng rng(3);
  MaskedDeepFFN model(30, 10, {20, 15}, {}, rng);
  prune_network_by_saliency(model, percentage(99), {.exact = true, .keep_per_output = 1, .keep_per_input = 1});
  each<MaskedLinearLayer>(model, [](const MaskedLinearLayer& layer) {
    std::set<std::int64_t> rows, cols;
    layer.mask().for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { rows.insert(r), cols.insert(c); });
    REQUIRE(static_cast<std::int64_t>(rows.size()) == layer.out_features());
    REQUIRE(static_cast<std::int64_t>(cols.size()) == layer.in_features());
  });
  REQUIRE(get_network_weight_count(model) < 120);
}

TEST_CASE("blocks live or die whole, by their sum") {
  Rng rng(4);
  for (int trial = 0; trial < 40; ++trial) {
    const RankingModel start = ranking_model(rng, trial % 2 == 1);
    auto edges = ranking_edges(start);
    const PruneOptions options{.exact = true, .block = {1 + trial % 4, 1 + trial / 4 % 3}};
    const auto [rows, cols] = options.block;
    std::map<std::tuple<std::size_t, std::int64_t, std::int64_t>, std::vector<std::size_t>> blocks;
    for (std::size_t k = 0; k < edges.size(); ++k)
      blocks[{edges[k].layer, edges[k].r / rows, edges[k].c / cols}].push_back(k);
    std::vector<std::pair<double, std::vector<std::size_t>>> sorted;
    for (const auto& [at, members] : blocks) {
      double sum = 0;
      for (std::size_t k : members) sum += edges[k].s;
      sorted.emplace_back(sum, members);
    }
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    const auto n = static_cast<std::int64_t>(edges.size());
    const auto count = static_cast<std::int64_t>(rng.bits() % static_cast<std::uint32_t>(n + 1));
    std::vector<char> out(edges.size(), 0);
    std::int64_t gone = 0;
    std::size_t next = 0;
    for (; next < sorted.size(); ++next) {
      const auto& members = sorted[next].second;
      if (gone + static_cast<std::int64_t>(members.size()) > count) break;
      for (std::size_t k : members) out[k] = 1, ++gone;
    }
    std::vector<RankingEdge> want;
    for (std::size_t k = 0; k < edges.size(); ++k)
      if (!out[k]) want.push_back(edges[k]);
    RankingModel model = start;
    REQUIRE(prune_network_by_saliency(model, absolute(count), options).after() == n - gone);
    REQUIRE(ranking_masks(model) == ranking_of(start, want));
    RankingModel exact = start;
    REQUIRE(prune_network_by_saliency(exact, remaining(n - gone), options).after() == n - gone);
    REQUIRE(ranking_masks(exact) == ranking_masks(model));
    if (gone < count) {
      RankingModel again = start;
      const auto after = n - gone - static_cast<std::int64_t>(sorted[next].second.size());
      const std::string both = test::error_of([&] { prune_network_by_saliency(again, remaining(n - count), options); });
      REQUIRE(both.find("possible " + std::to_string(after) + " or " + std::to_string(n - gone)) != std::string::npos);
      REQUIRE(ranking_masks(again) == ranking_masks(start));
    }
  }
  require_error(
      [] {
        RankingModel model;
        model.emplace_back(2, 2);
        prune_network_by_saliency(model, percentage(50), {.block = {0, 4}});
      },
      {"prune_network_by_saliency", "block", "0 x 4"});
}

TEST_CASE("blocks go for a bucket and under floors too") {
  RankingModel model;
  model.emplace_back(4, 2);
  model[0].set_saliency(Tensor::from({2, 4}, {1, 1, 5, 0, 1, 1, 0, 0}));  // sums 4 and 5
  RankingModel bucketed = model, floored = model, dense = model;
  REQUIRE(prune_network_by_saliency(bucketed, bucket(3.9), {.block = {2, 2}}).after() == 8);
  REQUIRE(prune_network_by_saliency(bucketed, bucket(8.9), {.block = {2, 2}}).after() == 4);
  REQUIRE(bucketed[0].mask() == Mask::from_edges(2, 4, {{0, 2}, {0, 3}, {1, 2}, {1, 3}}));
  REQUIRE(prune_network_by_saliency(floored, percentage(100), {.keep_per_layer = 3, .block = {2, 2}}).after() == 4);
  REQUIRE(floored[0].mask() == bucketed[0].mask());
  REQUIRE(prune_network_by_saliency(dense, density(0.6), {.block = {2, 2}}).after() == 8);  // 5 cannot be: not fewer
  require_error(
      [&] {
        prune_network_by_saliency(floored, density(0), {.keep_per_input = 1, .block = {2, 2}});
      },
      {"floors keep more", "floors 4"});
}

TEST_CASE("layer by layer the numbers add up, and one layer that cannot be pruned so stops all") {
  Rng rng(5);
  for (int trial = 0; trial < 30; ++trial) {
    const RankingModel start = ranking_model(rng, trial % 2 == 1);
    const std::int64_t n = get_network_weight_count(start);
    for (const std::int64_t left : {n, n - 1, n / 2, std::int64_t{1}}) {
      RankingModel model = start;
      const PruneReport report = prune_layer_by_saliency(model, remaining(left));
      REQUIRE(report.after() == left);
      for (const auto& l : report.layers)
        REQUIRE(std::abs(double(l.after) - double(l.before) * double(left) / double(n)) < 1);
    }
    require_error(
        [&] {
          auto m = start;
          prune_layer_by_saliency(m, remaining(n + 1));
        },
        {"fewer weights"});
  }
  RankingModel model;
  model.emplace_back(4, 4, rng);
  model.emplace_back(4, 2, rng);
  model[1].set_mask(Mask::from_edges(2, 4, {{0, 0}}));
  const auto before = ranking_masks(model);
  require_error([&] { prune_layer_by_saliency(model, density(0.5)); }, {"layer 1", "fewer weights", "4 of 1"});
  REQUIRE(ranking_masks(model) == before);
  prune_layer_by_saliency(model, density(0.125));
  REQUIRE(model[0].mask().nnz() == 2);
  REQUIRE(model[1].mask().nnz() == 1);
}

TEST_CASE("floors must not be negative") {
  Rng rng(6);
  RankingModel model = ranking_model(rng, false);
  require_error([&] { prune_network_by_saliency(model, percentage(1), {.keep_per_output = -2}); }, {"floors", "-2"});
  require_error([&] { prune_layer_by_saliency(model, percentage(1), {.keep_per_input = -3}); }, {"floors", "-3"});
}
