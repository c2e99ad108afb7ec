// Layers of a directed acyclic graph: the longest path to every vertex, and the order of vertices within a layer.
#pragma once

#include <queue>

#include "topological.hpp"

namespace deepstruct {

/// How many edges lead from one layer to another.
struct LayerConnection {
  std::int32_t source_layer = 0, target_layer = 0;
  std::int64_t edges = 0;
  friend bool operator==(const LayerConnection&, const LayerConnection&) = default;
};

/// The layers of a graph, 0 … L − 1.
struct LayerIndex {
  std::vector<std::int32_t> layer;           ///< of every vertex
  std::vector<std::int32_t> place;           ///< of every vertex within its layer
  std::vector<std::int32_t> start;           ///< first entry of every layer in `order`, and the end: [L + 1]
  std::vector<Vertex> order;                 ///< all vertices, layer by layer
  std::vector<LayerConnection> connections;  ///< of layers with an edge between them, ascending

  std::int64_t layer_count() const { return static_cast<std::int64_t>(start.size()) - 1; }
  std::int64_t size(std::int64_t l) const { return start[l + 1] - start[l]; }
  std::span<const Vertex> vertices(std::int64_t l) const {
    return std::span(order).subspan(static_cast<std::size_t>(start[l]), static_cast<std::size_t>(size(l)));
  }
};

namespace detail {

/// layer(v) = 1 + max layer(u) over edges u → v, 0 without any; self loops are ignored. O(V + E).
inline std::vector<std::int32_t> longest_paths(const Graph& g, std::span<const std::int64_t> ids) {
  const Adjacency after = successors(g);
  std::vector<std::int32_t> layer(static_cast<std::size_t>(g.vertex_count()), 0);
  for (const Vertex u : topological_order(g, after, false, "LayeredGraph", ids))
    for (const Vertex v : after.of(u))
      if (v != u) layer[v] = std::max(layer[v], layer[u] + 1);
  return layer;
}

/// Vertices in the order in which the original visits them, were its sets sorted: every vertex in node order, before it
/// its ancestors that were not visited, smallest id first, before each of these its own ancestors, and so on. That
/// order puts, within the ancestors of one vertex, small ids as early as a topological order can; so it is made from
/// the end: of the vertices without a successor left, the largest id goes last. O(E + V log V), no recursion.
inline std::vector<Vertex> visiting_order(const Graph& g, std::span<const std::int64_t> ids) {
  std::vector<Vertex> order(static_cast<std::size_t>(g.vertex_count()));
  std::iota(order.begin(), order.end(), 0);
  const auto edges = g.edges();
  if (std::all_of(edges.begin(), edges.end(), [](const Edge& e) { return e.source <= e.target; })) return order;

  const Adjacency before = predecessors(g);
  std::vector<std::int32_t> group(order.size(), -1), successors_left(order.size(), 0);
  std::vector<std::pair<std::int32_t, std::int32_t>> span_of_group;
  std::vector<Vertex> members;
  members.reserve(order.size());
  for (std::size_t v = 0; v < order.size(); ++v) {
    if (group[v] >= 0) continue;
    const auto own = static_cast<std::int32_t>(span_of_group.size());
    const auto first = members.size();
    group[v] = own;
    members.push_back(static_cast<Vertex>(v));
    for (std::size_t k = first; k < members.size(); ++k)
      for (const Vertex u : before.of(members[k]))
        if (group[u] < 0) {
          group[u] = own;
          members.push_back(u);
        }
    span_of_group.emplace_back(static_cast<std::int32_t>(first), static_cast<std::int32_t>(members.size()));
  }
  for (const Edge& e : edges)
    if (e.source != e.target && group[e.source] == group[e.target]) ++successors_left[e.source];

  const auto id = [&](Vertex v) { return ids.empty() ? std::int64_t{v} : ids[v]; };
  const auto smaller = [&](Vertex a, Vertex b) { return id(a) < id(b); };
  for (const auto& [first, last] : span_of_group) {
    std::priority_queue<Vertex, std::vector<Vertex>, decltype(smaller)> free(smaller);
    free.push(members[first]);
    const std::int32_t own = group[free.top()];
    for (std::int32_t k = last; k-- > first;) {
      const Vertex v = free.top();
      free.pop();
      order[k] = v;
      for (const Vertex u : before.of(v))
        if (u != v && group[u] == own && --successors_left[u] == 0) free.push(u);
    }
  }
  return order;
}

/// The index of given layers; vertices of a layer in the given order.
inline LayerIndex index_of(const Graph& g, std::vector<std::int32_t> layer, std::span<const Vertex> visited) {
  LayerIndex index;
  const std::int32_t layers = layer.empty() ? 0 : 1 + *std::max_element(layer.begin(), layer.end());
  index.start.assign(static_cast<std::size_t>(layers) + 1, 0);
  for (const std::int32_t l : layer) ++index.start[l + 1];
  std::partial_sum(index.start.begin(), index.start.end(), index.start.begin());
  index.order.resize(layer.size());
  index.place.resize(layer.size());
  std::vector<std::int32_t> next(index.start.begin(), index.start.end() - 1);
  for (const Vertex v : visited) {
    const auto l = static_cast<std::size_t>(layer[v]);
    index.place[v] = next[l] - index.start[l];
    index.order[next[l]++] = v;
  }
  // Edges between layers, counted layer by layer through one row of counters: O(V + E + pairs log pairs).
  const Adjacency after = successors(g);
  std::vector<std::int64_t> count(static_cast<std::size_t>(layers), 0);
  std::vector<std::int32_t> met;
  for (std::int32_t l = 0; l < layers; ++l) {
    met.clear();
    for (const Vertex v : index.vertices(l))
      for (const Vertex w : after.of(v)) {
        const std::int32_t to = layer[w];
        if (to != l && count[to]++ == 0) met.push_back(to);
      }
    std::sort(met.begin(), met.end());
    for (const std::int32_t to : met) {
      index.connections.push_back({l, to, count[to]});
      count[to] = 0;
    }
  }
  index.layer = std::move(layer);
  return index;
}

}  // namespace detail

/// Layers of a directed graph, layer(v) the length of the longest path to v; self loops are ignored.
///
/// Vertices of a layer stand in node order if that is topological (as in everything that LayeredGraph::load_from makes
/// of an undirected graph). Otherwise in the order in which a walk completes them that visits vertices in node order
/// and, before each, its ancestors by ascending id; `ids` names the vertices where that is not their place. Throws on a
/// cycle, which it names. O(E + V log V).
inline LayerIndex build_layer_index(const Graph& g, std::span<const std::int64_t> ids = {}) {
  check(g.directed(), "build_layer_index: needs a directed graph (", g.vertex_count(), " vertices, undirected)");
  std::vector<std::int32_t> layer = detail::longest_paths(g, ids);
  const std::vector<Vertex> visited = detail::visiting_order(g, ids);
  return detail::index_of(g, std::move(layer), visited);
}

/// Throws unless layers, one per vertex, are numbered 0 … L − 1 without a gap and every edge leads to a higher one.
inline void check_layers(const Graph& g, std::span<const std::int32_t> layer) {
  check(static_cast<std::int64_t>(layer.size()) == g.vertex_count(), "LayeredGraph: needs a layer for every vertex (",
        layer.size(), " for ", g.vertex_count(), ")");
  std::vector<std::int32_t> size(layer.size() + 1, 0);
  for (const std::int32_t l : layer) {
    check(l >= 0 && static_cast<std::size_t>(l) < layer.size(),
          "LayeredGraph: layers are numbered 0, 1, ... without a gap (", l, " with ", layer.size(), " vertices)");
    ++size[l];
  }
  const auto layers = std::find(size.begin(), size.end(), 0) - size.begin();
  check(std::all_of(size.begin() + layers, size.end(), [](std::int32_t n) { return n == 0; }),
        "LayeredGraph: layers are numbered 0, 1, ... without a gap (", layers, " is empty)");
  for (const Edge& e : g.edges())
    if (layer[e.source] >= layer[e.target])
      fail("LayeredGraph: edges lead to higher layers (", e.source, " in ", layer[e.source], ", ", e.target, " in ",
           layer[e.target], ")");
}

/// The index of layers that are given, one per vertex, numbered 0 … L − 1 without a gap; vertices of a layer stand in
/// node order, or in that of `place` if it is given: 0, 1, 2, … within every layer. Throws unless every edge leads to a
/// higher layer, and on other numbers.
inline LayerIndex build_layer_index(const Graph& g, std::vector<std::int32_t> layer,
                                    std::span<const std::int32_t> place = {}) {
  check_layers(g, layer);
  std::vector<Vertex> order(layer.size());
  std::iota(order.begin(), order.end(), 0);
  if (!place.empty()) {
    check(place.size() == layer.size(), "LayeredGraph: needs a place for every vertex (", place.size(), " for ",
          layer.size(), ")");
    std::stable_sort(order.begin(), order.end(), [&](Vertex a, Vertex b) { return place[a] < place[b]; });
  }
  LayerIndex index = detail::index_of(g, std::move(layer), order);
  for (std::size_t v = 0; v < place.size(); ++v)
    check(index.place[v] == place[v], "LayeredGraph: places in a layer are numbered 0, 1, ... (", place[v],
          " in layer ", index.layer[v], ")");
  return index;
}

}  // namespace deepstruct
