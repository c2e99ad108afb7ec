// Graphs of the golden format as LayeredGraphs; shared by the runners of graphs and of models on graphs.
#pragma once

#include "harness.hpp"

#include "deepstruct/graph/layered_graph.hpp"

namespace golden {

/// The graph of a case, fed as the case says: nodes_fed and edges_fed, or structure.node_order and structure.edges (the
/// order in which nodes appeared, so that feeding nodes first gives the same graph whatever the feed was).
ds::LayeredGraph feed_graph(const Json& data);

/// Nodes, edges, layers, order within layers (that of the ascending walk, Q2) and connections are those of a
/// layer_index.expected.
void check_layers(Case& c, const ds::LayeredGraph& graph, const Json& expected);

/// Edges by ids in the order of iteration in NetworkX: by source in node order, then as they came.
std::vector<ds::LayeredGraph::IdEdge> edges_in_order(const ds::LayeredGraph& graph);

/// [[u, v], …]
std::vector<ds::LayeredGraph::IdEdge> to_edges(const Json& edges);

}  // namespace golden
