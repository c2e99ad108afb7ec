// A LayeredGraph comes back from its file as it was: layers, order of vertices in them, attributes.
#include <deepstruct/graph/random_graphs.hpp>
#include <deepstruct/io/layered_graph.hpp>

#include "support/catch.hpp"

using namespace deepstruct;

namespace {

void require_same_layers(const LayeredGraph& a, const LayeredGraph& b) {
  REQUIRE(a.vertex_count() == b.vertex_count());
  REQUIRE(a.index().layer == b.index().layer);
  REQUIRE(a.index().order == b.index().order);
  REQUIRE(a.index().connections == b.index().connections);
}

}  // namespace

TEST_CASE("What save and load of the original's test: five vertices, four edges") {
  LayeredGraph g;
  g.add_nodes_from({1, 2, 3, 4, 5});
  g.add_edges_from({{1, 3}, {2, 4}, {3, 4}, {4, 5}});
  const LayeredGraph back = read_layered_graph(write_graphml(g));
  REQUIRE(back.vertex_count() == 5);
  REQUIRE(back.edge_count() == 4);
  require_same_layers(g, back);
}

TEST_CASE("Saved and loaded, a graph has the same vertices in the same order of its layers") {
  Rng rng(4);
  for (int k = 0; k < 60; ++k) {
    const Graph random = gnp_random_graph(static_cast<std::int64_t>(rng.below(30)), 0.15, false, rng);
    // Edges first, by ids in random order: the way in which the order within layers is not that of nodes.
    const auto name = rng.permutation(random.vertex_count());
    LayeredGraph g;
    for (const Edge& e : random.edges()) g.add_edge(name[e.source], name[e.target]);
    for (const auto v : name) g.add_node(v);
    if (g.vertex_count() > 0) g.vertex_attributes().set("bias", 0, 0.1f);
    if (g.edge_count() > 0) g.edge_attributes().set("weight", 0, 1.0f / 3);
    const LayeredGraph back = read_layered_graph(write_graphml(g));
    require_same_layers(g, back);
    REQUIRE(back.vertex_attributes() == g.vertex_attributes());
    REQUIRE(back.edge_attributes() == g.edge_attributes());
  }
}

TEST_CASE("Given layers come back as given ones, computed ones as computed ones") {
  const Graph chain(3, {{0, 1}, {1, 2}}, true);
  REQUIRE(!read_layered_graph(write_graphml(LayeredGraph(chain))).has_given_layers());
  const Graph loose(4, {{0, 3}}, true);
  const LayeredGraph given = LayeredGraph::with_layers(loose, {0, 1, 0, 1}, {1, 1, 0, 0});
  const LayeredGraph back = read_layered_graph(write_graphml(given));
  REQUIRE(back.has_given_layers());
  REQUIRE(back == given);
  REQUIRE(back.vertices(0) == std::vector<std::int64_t>{2, 0});
}

TEST_CASE("A file whose layers its edges do not ascend is refused") {
  Graph g(2, {{0, 1}}, true);
  g.vertex_attributes().set_column<std::int64_t>("layer", {1, 0});
  g.vertex_attributes().set_column<std::int64_t>("position", {0, 0});
  REQUIRE_THROWS_AS(read_layered_graph(write_graphml(g)), Error);
}
