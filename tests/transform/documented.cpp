// The lines of the documentation about networks as graphs, word for word.
#include <deepstruct/graph.hpp>

#include "support/catch.hpp"
#include "support/close.hpp"

namespace ds = deepstruct;

TEST_CASE("documented: the graph of a network on a graph") {
  auto tree = ds::LayeredGraph::load_from(ds::balanced_tree(2, 3));
  ds::MaskedDeepDAN dan({5, 5}, 2, tree);  // input shapes are flattened

  ds::LayeredGraph graph = ds::GraphTransform({1, 5, 5}).transform(dan);  // never changes the model

  REQUIRE(graph.vertex_count() == 25 + 15 + 2);
  REQUIRE(graph.edge_count() == 25 * 1 + 14 + 8 * 2);
  REQUIRE(graph.num_layers() == 1 + 4 + 1);
}

TEST_CASE("documented: a network is a graph, and that graph is the network again") {
  ds::MaskedDeepFFN model(784, 10, {30, 10});
  ds::prune_network_by_saliency(model, ds::percentage(90));
  auto small = ds::pack(model);

  auto smaller = ds::compact(small, {1, 784}).model;
  ds::LayeredGraph graph = ds::to_graph(smaller);
  const ds::GraphNetwork same = ds::from_graph(graph);
  const auto [u, v] = graph.graph().edges()[0];
  graph.remove_edge(u, v);
  ds::GraphNetwork edited = ds::from_graph(graph);

  const ds::Tensor x = ds::Tensor::normal({20, 784});
  REQUIRE(test::same_bits(smaller(x).value(), same(x).value()));
  REQUIRE(ds::get_network_weight_count(edited) == ds::get_network_weight_count(smaller) - 1);
  REQUIRE(ds::get_network_weight_count(smaller) <= ds::get_network_weight_count(small));
}
