// LayeredGraph as GraphML: layers and the order within them are vertex attributes, so that these come back.
#pragma once

#include "../graph/layered_graph.hpp"
#include "graphml.hpp"

namespace deepstruct {

/// The graph as GraphML, vertices numbered 0 … n − 1 in their order, with the vertex attributes "layer" and "position"
/// (within the layer), which replace their own of these names, besides the others; ids are not kept, as in the
/// original. NetworkX, Gephi and igraph read it. Throws on a cycle.
inline std::string write_graphml(const LayeredGraph& g) {
  Graph with = g.graph();
  const LayerIndex& index = g.index();
  with.vertex_attributes().set_column("layer", std::vector<std::int64_t>(index.layer.begin(), index.layer.end()));
  with.vertex_attributes().set_column("position", std::vector<std::int64_t>(index.place.begin(), index.place.end()));
  return write_graphml(with);
}
inline void save_graphml(const LayeredGraph& g, const std::filesystem::path& path) {
  const std::string text = write_graphml(g);
  write_whole_file(path, std::as_bytes(std::span(text)));
}

namespace detail {

/// A LayeredGraph from a graph of a file: with the layers and positions of its attributes if every vertex has them,
/// which are computed again from then on if that gives the same; else as load_from.
inline LayeredGraph layered_from_file(Graph g) {
  const auto column = [&](const char* name) {
    std::vector<std::int32_t> numbers;
    for (std::int64_t v = 0; v < g.vertex_count() && g.vertex_attributes().holds<std::int64_t>(name); ++v) {
      const auto value = g.vertex_attributes().get<std::int64_t>(name, v);
      if (!value || *value < 0 || *value >= g.vertex_count()) return std::vector<std::int32_t>();
      numbers.push_back(static_cast<std::int32_t>(*value));
    }
    return numbers;
  };
  std::vector<std::int32_t> layer = column("layer"), position = column("position");
  const auto all = static_cast<std::size_t>(g.vertex_count());
  if (!g.directed() || layer.size() < all || position.size() < all) return LayeredGraph::load_from(g);
  g.vertex_attributes().erase("layer");
  g.vertex_attributes().erase("position");
  LayeredGraph computed = LayeredGraph::load_from(g);
  if (const LayerIndex& index = computed.index(); index.layer == layer && index.place == position) return computed;
  return LayeredGraph::with_layers(g, std::move(layer), std::move(position));
}

}  // namespace detail

/// Reads what write_graphml(LayeredGraph) wrote, the same layers and order of vertices in them; any other GraphML as
/// LayeredGraph::load_from takes it. Throws on what read_graphml refuses and on layers that its edges do not ascend.
inline LayeredGraph read_layered_graph(std::string_view text) { return detail::layered_from_file(read_graphml(text)); }
inline LayeredGraph load_layered_graph(const std::filesystem::path& path) {
  return detail::layered_from_file(load_graphml(path));
}

}  // namespace deepstruct
