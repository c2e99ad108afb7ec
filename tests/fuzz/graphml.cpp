#include <deepstruct/io/layered_graph.hpp>

#include "graphs.hpp"
#include "targets.hpp"

using namespace deepstruct;

namespace {

/// The graph without what a file of layers keeps beside it.
Graph fuzz_bare(const LayeredGraph& g) {
  Graph bare = g.graph();
  bare.vertex_attributes().erase("layer");
  bare.vertex_attributes().erase("position");
  return bare;
}

}  // namespace

void fuzz::graphml(Bytes bytes) {
  const auto graph = parsed([&] { return read_graphml(as_text(bytes), {.max_bytes = 1 << 26}); });
  if (!graph) return;
  require(same_graph(read_graphml(write_graphml(*graph)), *graph), "GraphML: written again, the graph differs");

  const auto layered = parsed([&] { return read_layered_graph(as_text(bytes)); });
  if (!layered) return;
  const auto text = parsed([&] { return write_graphml(*layered); });  // not of a cycle
  if (!text) return;
  const LayeredGraph again = read_layered_graph(*text);
  require(same_graph(fuzz_bare(again), fuzz_bare(*layered)), "GraphML: written again, the layered graph differs");
  require(again.index().layer == layered->index().layer && again.index().order == layered->index().order &&
              again.index().connections == layered->index().connections,
          "GraphML: written again, the layers differ");
}
