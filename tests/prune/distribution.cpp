// Densities by layer: rules against their equations, exact numbers, random masks.
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/prune/distribution.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

struct DistributionNet {
  MaskedConv2d conv;
  MaskedLinearLayer a, b;
  explicit DistributionNet(Rng& rng) : conv(3, 8, 3, {}, rng), a(72, 20, rng), b(20, 5, rng) {}
  static auto fields(auto& m) { return std::tuple{Field{"conv", m.conv}, Field{"a", m.a}, Field{"b", m.b}}; }
};
std::map<std::string, double> distribution_places(const auto& model) {
  std::map<std::string, double> all;
  each_masked(model, [&](const std::string& name, const auto& layer) {
    all[name] = double(layer.mask().rows() * layer.mask().cols());
  });
  return all;
}
/// 30 vertices, edges between any two with 1/4.
LayeredGraph distribution_graph(Rng& rng) {
  Graph g(30);
  for (Vertex v = 0; v < 30; ++v)
    for (Vertex u = 0; u < v; ++u)
      if (rng.uniform() < 0.25f) g.add_edge(u, v);
  return LayeredGraph::load_from(g);
}
double distribution_edges(const Densities& d, const std::map<std::string, double>& places) {
  double sum = 0;
  for (const auto& [name, share] : d) sum += share * places.at(name);
  return sum;
}

}  // namespace

TEST_CASE("every distribution hits its density, and prunes to it exactly") {
  Rng rng(1);
  for (int trial = 0; trial < 60; ++trial) {
    const DistributionNet start(rng);
    const auto places = distribution_places(start);
    const double total = 216 + 72 * 20 + 100, d = trial == 0 ? 0 : trial == 1 ? 1 : double{rng.uniform()};
    for (const Densities& by : {uniform_density(start, d), erdos_renyi(start, d), erdos_renyi_kernel(start, d)}) {
      REQUIRE(by.size() == 3);
      for (const auto& [name, share] : by) REQUIRE((share >= 0 && share <= 1));
      REQUIRE(distribution_edges(by, places) == Approx(std::nearbyint(d * total)));
      for (const bool packed : {false, true}) {
        DistributionNet model = packed ? pack(start) : start;
        const PruneReport report = prune_to_density(model, by);
        REQUIRE(report.after() == static_cast<std::int64_t>(std::nearbyint(d * total)));
        for (const auto& l : report.layers) REQUIRE(double(l.after) == Approx(by.at(l.name) * places.at(l.name)));
      }
    }
  }
}

TEST_CASE("shares are those of the equations, scaled where a layer is dense") {
  Rng rng(2);
  const DistributionNet model(rng);
  const Densities er = erdos_renyi(model, 0.1), erk = erdos_renyi_kernel(model, 0.1),
                  even = uniform_density(model, 0.1);
  // Numbers of edges: 11·9, 92, 25 in proportion (ER), 17, 92, 25 (ERK); a rounding is at most one edge.
  const double n = 176, er_unit = n / (99 + 92 + 25), erk_unit = n / (17 + 92 + 25);
  REQUIRE(std::abs(er.at("conv") * 216 - 99 * er_unit) < 1);
  REQUIRE(std::abs(er.at("a") * 1440 - 92 * er_unit) < 1);
  REQUIRE(std::abs(er.at("b") * 100 - 25 * er_unit) < 1);
  REQUIRE(std::abs(erk.at("conv") * 216 - 17 * erk_unit) < 1);
  REQUIRE(std::abs(erk.at("a") * 1440 - 92 * erk_unit) < 1);
  REQUIRE(std::abs(erk.at("b") * 100 - 25 * erk_unit) < 1);
  REQUIRE(std::abs(even.at("a") * 1440 - 144) < 1);
  REQUIRE(std::abs(even.at("b") * 100 - 10) < 1);

  // Half of all: the conv would have 402 of 216 edges, then b 126.6 of 100; both are dense, a has the rest.
  const Densities half = erdos_renyi(model, 0.5);
  REQUIRE(half.at("conv") == 1);
  REQUIRE(half.at("b") == 1);
  REQUIRE(half.at("a") * 1440 == Approx(878 - 216 - 100));
}

TEST_CASE("densities by hand leave other layers alone") {
  Rng rng(3);
  DistributionNet model(rng);
  Tensor s = Tensor::uniform({20, 72}, 0, 1, rng);
  model.a.set_saliency(s);
  const PruneReport report = prune_to_density(model, {{"a", 0.25}});
  REQUIRE(model.a.mask().nnz() == 360);
  REQUIRE(model.conv.mask().is_full());
  REQUIRE(model.b.mask().is_full());
  std::vector<float> all = s.to_vector();
  std::sort(all.begin(), all.end(), std::greater<>());
  model.a.mask().for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { REQUIRE(s(r, c) >= all[359]); });
  prune_to_density(model, {{"b", 0.03}}, {.keep_per_layer = 3});
  REQUIRE(model.b.mask().nnz() == 3);
}

TEST_CASE("densities that cannot be are Errors that say what can, and change nothing") {
  Rng rng(4);
  DistributionNet model(rng);
  model.b.set_mask(Mask::random(5, 20, 0.5, rng));
  const auto nnz = model.b.mask().nnz();
  const std::string possible = "possible 0 to " + [&] {
    std::ostringstream text;
    text << double(nnz) / 100;
    return text.str();
  }();
  require_error(
      [&] {
        prune_to_density(model, {{"a", 0.5}, {"b", 0.9}});
      },
      {"prune_to_density", "layer b", "density 0.9, 90 of", possible.c_str()});
  require_error(
      [&] {
        prune_to_density(model, {{"a", 0.5}, {"c", 0.5}});
      },
      {"no such masked layer", "(c;", "conv, a, b"});
  require_error([&] { prune_to_density(model, {{"a", 1.5}}); }, {"layer a", "1.5"});
  require_error([&] { prune_to_density(model, {{"a", 0.0}}, {.keep_per_layer = 4}); }, {"layer a", "floors 4"});
  require_error([&] { set_random_masks(model, {{"a", 0.5}, {"d", 0.5}}, rng); }, {"set_random_masks", "(d;"});
  require_error([&] { uniform_density(model, 1.5); }, {"uniform_density", "1.5"});
  require_error([&] { erdos_renyi(model, -1); }, {"erdos_renyi", "-1"});
  require_error([&] { erdos_renyi_kernel(std::vector<Param>(), 0.5); }, {"erdos_renyi_kernel", "no masked layers"});
  REQUIRE(model.a.mask().is_full());
  REQUIRE(model.b.mask().nnz() == nnz);
}

TEST_CASE("random masks have exactly their number of edges, anywhere, the same for a seed") {
  Rng init(5);
  const DistributionNet start(init);
  const Densities by = erdos_renyi_kernel(start, 0.2);
  DistributionNet a = start, b = start;
  Rng one(7), same(7);
  set_random_masks(a, by, one);
  set_random_masks(b, by, same);
  each_masked(a, [&](const std::string& name, const auto& layer) {
    REQUIRE(double(layer.mask().nnz()) == Approx(by.at(name) * double(layer.mask().rows() * layer.mask().cols())));
  });
  REQUIRE(a.a.mask() == b.a.mask());
  REQUIRE(a.conv.mask() == b.conv.mask());

  // Every place is as likely as any other: 2000 masks with 6 of 20 edges; 5 standard deviations.
  std::vector<int> count(20, 0);
  Rng rng(9);
  std::vector<MaskedLinearLayer> small;
  small.emplace_back(5, 4, rng);
  for (int k = 0; k < 2000; ++k) {
    set_random_masks(small, {{"0", 0.3}}, rng);
    REQUIRE(small[0].mask().nnz() == 6);
    small[0].mask().for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { ++count[r * 5 + c]; });
  }
  for (const int n : count) REQUIRE(std::abs(n - 600) < 5 * std::sqrt(2000 * 0.3 * 0.7));
}

TEST_CASE("a network on a graph keeps to its graph") {
  Rng rng(6);
  const MaskedDeepDAN start(6, 3, distribution_graph(rng), {}, rng);
  MaskedDeepDAN model = start;
  const Mask before = model.layers_hidden->mask();
  REQUIRE(before.nnz() > 20);
  set_random_masks(model, {{"layers_hidden", 0.5}}, rng);
  const Mask after = model.layers_hidden->mask();
  REQUIRE(after.nnz() == static_cast<std::int64_t>(std::nearbyint(double(before.nnz()) / 2)));
  after.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { REQUIRE(before.contains(r, c)); });
  MaskedDeepDAN pruned = start;
  REQUIRE(prune_to_density(pruned, uniform_density(start, 0.25)).after() ==
          static_cast<std::int64_t>(std::nearbyint(0.25 * double(get_network_weight_count(start)))));
}
