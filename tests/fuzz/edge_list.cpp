#include <deepstruct/io/edge_list.hpp>

#include "graphs.hpp"
#include "targets.hpp"

using namespace deepstruct;

void fuzz::edge_list(Bytes bytes) {
  for (const bool directed : {false, true}) {
    const EdgeListOptions options{.directed = directed, .max_vertices = 1 << 16};
    const auto graph = parsed([&] { return read_edge_list(as_text(bytes), options); });
    if (!graph) continue;
    require(graph->directed() == directed, "edge list: another direction");
    require(same_graph(read_edge_list(write_edge_list(*graph), options), *graph),
            "edge list: written again, it differs");
  }
}
