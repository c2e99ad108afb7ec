// ScalableDeepFFN, ScalableDAN and uniform_proportions: sizes, structure, networks, errors.
#include <deepstruct/models/scalable.hpp>
#include <deepstruct/ops/loss.hpp>
#include <deepstruct/train/optimizer.hpp>
#include <set>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

using ScalableSizes = std::vector<std::int64_t>;

/// 1 → 3 → 4 → 5 and 2 → 4.
LayeredGraph scalable_theme() {
  LayeredGraph theme;
  theme.add_nodes_from({1, 2, 3, 4, 5});
  theme.add_edges_from({{1, 3}, {2, 4}, {3, 4}, {4, 5}});
  return theme;
}
LayeredGraph scalable_chain(std::int64_t n) {
  std::vector<Edge> edges;
  for (Vertex v = 1; v < n; ++v) edges.push_back({v - 1, v});
  return Graph(n, edges, true);
}
ScalableSizes scalable_layer_sizes(const LayeredGraph& graph) {
  ScalableSizes sizes;
  for (const std::int64_t l : graph.layers()) sizes.push_back(graph.layer_size(l));
  return sizes;
}

/// An edge between two grown vertices exists just where the theme connects the vertices they grew from.
void require_blown_up(const LayeredGraph& theme, const ScalableDAN::Grown& grown) {
  std::vector<Vertex> origin(static_cast<std::size_t>(grown.graph.vertex_count()), -1);
  REQUIRE(static_cast<std::int64_t>(grown.correspondences.size()) == theme.vertex_count());
  for (std::size_t v = 0; v < grown.correspondences.size(); ++v)
    for (const Vertex w : grown.correspondences[v]) {
      REQUIRE(grown.graph.contains(w));
      REQUIRE(origin[w] == -1);
      origin[w] = static_cast<Vertex>(v);
    }
  REQUIRE(std::find(origin.begin(), origin.end(), -1) == origin.end());
  const std::set<Edge> wanted(theme.graph().edges().begin(), theme.graph().edges().end());
  std::set<Edge> got(grown.graph.graph().edges().begin(), grown.graph.graph().edges().end());
  REQUIRE(static_cast<std::int64_t>(got.size()) == grown.graph.edge_count());
  for (std::size_t a = 0; a < origin.size(); ++a)
    for (std::size_t b = 0; b < origin.size(); ++b)
      REQUIRE(got.contains({static_cast<Vertex>(a), static_cast<Vertex>(b)}) ==
              wanted.contains({origin[a], origin[b]}));
}

}  // namespace

TEST_CASE("scalable ffn: widths are truncated shares of rounded proportions, at least 1") {
  const ScalableDeepFFN family({0.125, 0.375, 0.5});
  REQUIRE(family.proportions() == std::vector<double>{0.12, 0.38, 0.5});  // half to even
  REQUIRE(family.draw(33) == ScalableSizes{3, 12, 16});
  REQUIRE(family.draw(0) == ScalableSizes{1, 1, 1});
  REQUIRE(family.str() == "[12, 38, 50]");
  REQUIRE(ScalableDeepFFN({0.125, 0.375, 0.5}, {.precision = 3}).draw(33) == ScalableSizes{4, 12, 16});
  REQUIRE(ScalableDeepFFN({0.125, 0.375, 0.5}, {.precision = 3}).str() == "[125, 375, 500]");
  REQUIRE(ScalableDeepFFN({1.0}).draw(std::numeric_limits<std::int32_t>::max()) == ScalableSizes{2147483647});
  REQUIRE(ScalableDeepFFN({1.0, 0.0}).draw(5) == ScalableSizes{5, 1});
}

TEST_CASE("scalable ffn: divergence in nats over padded proportions") {
  const ScalableDeepFFN even({0.5, 0.5}), one({1.0}), uneven({0.75, 0.25});
  REQUIRE(one.entropy_similarity(even) == Approx(std::log(2.0)).epsilon(1e-14));
  REQUIRE(even.entropy_similarity(one) == std::numeric_limits<double>::infinity());
  REQUIRE(even.entropy_similarity(uneven) == Approx(0.5 * std::log(0.5 / 0.75) + 0.5 * std::log(2.0)).epsilon(1e-14));
  REQUIRE(uneven.entropy_similarity(uneven) == 0);
  REQUIRE(ScalableDeepFFN({1.0, 0.0}) == one);
  REQUIRE(one == ScalableDeepFFN({1.0, 0.0}));
  REQUIRE_FALSE(one == even);
  REQUIRE_FALSE(even == uneven);  // 0.144
  REQUIRE(ScalableDeepFFN({0.5, 0.5}, {.entropy_similarity_epsilon = 0.2}) == uneven);
  REQUIRE_FALSE(uneven == ScalableDeepFFN({0.5, 0.5}, {.entropy_similarity_epsilon = 0.2}));  // 0.131, own epsilon 0.1
}

TEST_CASE("scalable ffn: builds networks with these widths") {
  const ScalableDeepFFN family({0.5, 0.3, 0.2});
  Rng rng(1), same(1);
  const MaskedDeepFFN model = family.build({2, 3}, 4, 20, {.use_layer_norm = true}, rng);
  REQUIRE(state_names(model) == state_names(MaskedDeepFFN(6, 4, {10, 6, 4}, {.use_layer_norm = true})));
  const Tensor x = Tensor::uniform({5, 2, 3}, -1, 1, rng);
  REQUIRE(model(x).value() == MaskedDeepFFN(6, 4, {10, 6, 4}, {.use_layer_norm = true}, same)(x).value());
  REQUIRE(family.build(6, 4, 20)(x).shape() == Shape{5, 4});
}

TEST_CASE("scalable ffn: checks what it is given") {
  require_error([] { ScalableDeepFFN(std::vector<double>{}); }, {"ScalableDeepFFN: needs at least one proportion"});
  require_error([] { ScalableDeepFFN({0.5, 0.4}); }, {"ScalableDeepFFN: proportions must sum to 1", "0.9"});
  require_error([] { ScalableDeepFFN({1.5, -0.5}); }, {"ScalableDeepFFN: proportions must not be negative", "-0.5"});
  require_error([] { ScalableDeepFFN({1.0, std::nan("")}); }, {"ScalableDeepFFN: proportions", "nan"});
  require_error([] { ScalableDeepFFN({std::numeric_limits<double>::infinity()}); }, {"must sum to 1", "inf"});
  for (const int precision : {0, 10})
    require_error([&] { ScalableDeepFFN({1.0}, {.precision = precision}); }, {"ScalableDeepFFN: needs a precision"});
  for (const double epsilon : {0.0, -1.0, std::nan("")})
    require_error([&] { ScalableDeepFFN({1.0}, {.entropy_similarity_epsilon = epsilon}); }, {"needs an epsilon"});
  const ScalableDeepFFN family({0.5, 0.5});
  require_error([&] { family.draw(-1); }, {"draw: needs a scale", "-1"});
  require_error([&] { family.draw(std::int64_t{1} << 31); }, {"draw: needs a scale", "2147483648"});
  require_error([&] { family.build(2, 1, 0); }, {"build: needs a scale of 1"});
}

TEST_CASE("scalable dan: vertices become blocks and edges all edges between them") {
  Rng rng(3);
  for (int round = 0; round < 20; ++round) {
    LayeredGraph theme;
    const auto n = static_cast<std::int64_t>(rng.below(8)) + 1;
    const std::vector<std::int32_t> order = rng.permutation(n);
    theme.add_vertices(n);
    for (std::int64_t u = 0; u < n; ++u)
      for (std::int64_t v = u + 1; v < n; ++v)
        if (rng.bernoulli(0.4f)) theme.add_edge(order[u], order[v]);
    std::vector<double> p;
    for (std::int64_t v = 0; v < n; ++v) p.push_back(0.01 + static_cast<double>(rng.uniform()));
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& share : p) share /= sum;
    const auto scale = static_cast<std::int64_t>(rng.below(40)) + 1;

    const auto kept = ScalableDAN(theme, p, EmptyBlock::keep_one).grow(scale);
    require_blown_up(theme, kept);
    REQUIRE(kept.graph.num_layers() == theme.num_layers());
    const auto dropped = ScalableDAN(theme, p, EmptyBlock::drop).grow(scale);
    require_blown_up(theme, dropped);
    for (std::size_t v = 0; v < p.size(); ++v) {
      const double size = std::nearbyint(p[v] * static_cast<double>(scale));
      REQUIRE(static_cast<double>(dropped.correspondences[v].size()) == size);
      REQUIRE(static_cast<double>(kept.correspondences[v].size()) == std::max(1.0, size));
      for (const Vertex w : kept.correspondences[v])
        REQUIRE(kept.graph.layer(w) == theme.layer(static_cast<std::int64_t>(v)));
    }
  }
}

TEST_CASE("scalable dan: growing leaves no trace") {
  const ScalableDAN family(scalable_theme());
  const auto first = family.grow(16);
  REQUIRE(family.grow(100).graph.vertex_count() == 100);
  const auto again = family.grow(16);
  REQUIRE(first.graph == again.graph);
  REQUIRE(first.correspondences == again.correspondences);
  REQUIRE(scalable_layer_sizes(first.graph) == ScalableSizes{6, 3, 3, 3});
}

TEST_CASE("scalable dan: sizes are rounded half to even; a block of none is an error, or one, or dropped") {
  const std::vector<double> p{0.3, 0.5, 0.05, 0.15};
  const LayeredGraph theme = scalable_chain(4);
  REQUIRE(scalable_layer_sizes(ScalableDAN(theme, p, EmptyBlock::drop).grow(10).graph) == ScalableSizes{5, 5});
  REQUIRE(scalable_layer_sizes(ScalableDAN(theme, p, EmptyBlock::keep_one).grow(10).graph) ==
          ScalableSizes{3, 5, 1, 2});
  require_error([&] { ScalableDAN(theme, p).grow(10); }, {"grow: a vertex of the theme gets no vertex", "2", "0.05"});
  REQUIRE(scalable_layer_sizes(ScalableDAN(theme, p).grow(30).graph) == ScalableSizes{9, 15, 2, 4});  // 1.5 and 4.5
  REQUIRE(ScalableDAN(theme, {}, EmptyBlock::drop).grow(1).graph.vertex_count() == 0);
  REQUIRE(ScalableDAN(theme, {}, EmptyBlock::keep_one).grow(1).graph.vertex_count() == 4);
}

TEST_CASE("scalable dan: given layers and attributes of the theme go on") {
  LayeredGraph theme = LayeredGraph::with_layers(Graph(4, {{0, 3}, {1, 3}}, true), {0, 1, 2, 3});
  theme.vertex_attributes().set<std::string>("activation", 1, "tanh");
  const auto grown = ScalableDAN(theme).grow(8);
  REQUIRE(grown.graph.has_given_layers());
  REQUIRE(scalable_layer_sizes(grown.graph) == ScalableSizes{2, 2, 2, 2});
  const AttributeTable& attributes = grown.graph.vertex_attributes();
  for (const Vertex w : grown.correspondences[1]) REQUIRE(attributes.get<std::string>("activation", w) == "tanh");
  REQUIRE_FALSE(attributes.get<std::string>("activation", grown.correspondences[0][0]));
  const ScalableDAN gaps(theme, {0.5, 0.0, 0.25, 0.25}, EmptyBlock::drop);
  REQUIRE(scalable_layer_sizes(gaps.grow(8).graph) == ScalableSizes{4, 2, 2});
}

TEST_CASE("scalable dan: builds networks, with layer norm unless told otherwise") {
  Rng rng(5), same(5);
  const ScalableDAN family(scalable_theme(), uniform_proportions(scalable_theme(), rng));
  same = rng;
  const Tensor x = Tensor::uniform({50, 20}, -1, 1, rng);
  rng = same;
  const MaskedDeepDAN model = family.build(20, 2, 50, {.use_layer_norm = true}, rng);
  REQUIRE(model(x).shape() == Shape{50, 2});
  const MaskedDeepDAN from_graph = ScalableDAN::model(Shape{4, 5}, 2, family.grow(50).graph, model.options(), same);
  REQUIRE(model(x).value() == from_graph(x).value());
  REQUIRE(family.build({4, 5}, 2, 50).options().use_layer_norm);
  REQUIRE(ScalableDAN::model(20, 2, family.grow(50).graph).options().use_layer_norm);
  REQUIRE(family.build(20, 2, 50, {.joint = true})(x).shape() == Shape{50, 2});
}

TEST_CASE("scalable dan: a network takes over the values of another of its scale, and learns") {
  Rng rng(7);
  const ScalableDAN family(scalable_theme(), uniform_proportions(scalable_theme(), rng));
  const auto grown = family.grow(50);
  MaskedDeepDAN model = ScalableDAN::model(20, 2, grown.graph), other = ScalableDAN::model(20, 2, grown.graph);
  REQUIRE(state_names(model) == state_names(other));
  std::vector<Tensor> values;
  each_param(model, [&](const Param& p) { values.push_back(p.value()); });
  std::size_t k = 0;
  each_param(other, [&](Param& p) { p.set_value(values[k++]); });
  const Tensor x = Tensor::uniform({50, 20}, -1, 1, rng);
  REQUIRE(other(x).value() == model(x).value());

  Indices target = Indices::zeros({50});
  for (std::int64_t i = 0; i < 50; ++i) target(i) = static_cast<std::int32_t>(i % 2);
  Adam optimizer{.lr = 0.01};
  const float before = cross_entropy(other(x), target).item();
  for (int step = 0; step < 10; ++step) {
    const Var loss = cross_entropy(other(x), target);
    backward(loss);
    optimizer.step(other);
  }
  REQUIRE(cross_entropy(other(x), target).item() < before);
}

TEST_CASE("scalable dan: grows large themes, and refuses what no graph can hold") {
  const auto grown = ScalableDAN(scalable_chain(20000)).grow(100000);
  REQUIRE(grown.graph.vertex_count() == 100000);
  REQUIRE(grown.graph.edge_count() == 19999 * 25);
  REQUIRE(grown.graph.num_layers() == 20000);
  const ScalableDAN pair(scalable_chain(2));
  require_error([&] { pair.grow(100000); }, {"grow: too many edges", "2500000000"});
  require_error([&] { pair.grow((std::int64_t{1} << 31) - 1); }, {"grow: too many"});
  require_error([&] { ScalableDAN(scalable_chain(1)).grow((std::int64_t{1} << 31) - 1); }, {"grow: too many vertices"});
}

TEST_CASE("scalable dan: checks what it is given") {
  const LayeredGraph theme = scalable_theme();
  require_error([] { ScalableDAN{LayeredGraph()}; }, {"ScalableDAN: the theme needs at least one vertex"});
  require_error([&] { ScalableDAN(theme, {0.5, 0.5}); }, {"ScalableDAN: needs one proportion per vertex", "2", "5"});
  require_error([&] { ScalableDAN(theme, {0.2, 0.2, 0.2, 0.2, 0.1999}); }, {"ScalableDAN: proportions must sum to 1"});
  require_error([&] { ScalableDAN(theme, {0.5, 0.5, 0.5, -0.5, 0}); }, {"must not be negative", "-0.5"});
  REQUIRE_NOTHROW(ScalableDAN(theme, {0.2, 0.2, 0.2, 0.2, 0.199991}));
  LayeredGraph wrong;
  wrong.add_edges_from({{0, 1}, {1, 0}});
  require_error([&] { ScalableDAN{wrong}; }, {"cycle"});
  LayeredGraph loop;
  loop.add_edges_from({{6, 7}, {7, 7}});
  require_error([&] { ScalableDAN{loop}; }, {"ScalableDAN: the theme has a self loop", "7"});
  const ScalableDAN family(theme);
  for (const std::int64_t scale : {std::int64_t{0}, std::int64_t{-3}, std::int64_t{1} << 31}) {
    require_error([&] { family.grow(scale); }, {"grow: needs a scale of 1"});
    require_error([&] { family.build(2, 1, scale); }, {"needs a scale of 1"});
  }
}

TEST_CASE("proportions by id come in node order") {
  LayeredGraph theme;
  theme.add_nodes_from({7, 3, 5});
  REQUIRE(proportions_by_id(theme, {{3, 0.5}, {5, 0.2}, {7, 0.3}}) == std::vector<double>{0.3, 0.5, 0.2});
  require_error([&] { proportions_by_id(theme, {{3, 0.5}, {5, 0.5}}); }, {"proportions_by_id: needs one", "2", "3"});
  require_error([&] { proportions_by_id(theme, {{3, 0.5}, {5, 0.2}, {6, 0.3}}); }, {"no such vertex", "6"});
}

TEST_CASE("uniform proportions are near 1/n and sum to 1, the same for every number of threads") {
  Rng rng(11);
  for (const std::int64_t n : {1, 2, 255, 257, 3000}) {
    const LayeredGraph theme = scalable_chain(n);
    Rng again = rng;
    const std::vector<double> p = uniform_proportions(theme, rng);
    const double mean = 1 / static_cast<double>(n);
    REQUIRE(static_cast<std::int64_t>(p.size()) == n);
    REQUIRE(std::accumulate(p.begin(), p.end(), 0.0) == Approx(1).epsilon(1e-12));
    double variance = 0;
    for (const double share : p) {
      REQUIRE(std::fabs(share / mean - 1) < 0.7);  // the standard deviation of a share is 0.1 of it
      variance += (share / mean - 1) * (share / mean - 1) * mean;
    }
    if (n >= 3000) REQUIRE(variance == Approx(0.01).epsilon(0.2));
    const test::Threads threads(3);
    REQUIRE(uniform_proportions(theme, again) == p);
    REQUIRE(again == rng);
  }
  const LayeredGraph theme = scalable_theme();
  REQUIRE(uniform_proportions(theme, rng) != uniform_proportions(theme, rng));
  require_error([] { uniform_proportions(LayeredGraph()); }, {"uniform_proportions: needs at least one vertex"});
}
