// Layers of a directed acyclic graph: the longest path to every vertex, and the order of vertices within a layer.
#pragma once

#include <queue>

#include "graph.hpp"

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
  std::int64_t size(std::int64_t l) const {
    return start[static_cast<std::size_t>(l) + 1] - start[static_cast<std::size_t>(l)];
  }
  std::span<const Vertex> vertices(std::int64_t l) const {
    return std::span(order).subspan(static_cast<std::size_t>(start[static_cast<std::size_t>(l)]),
                                    static_cast<std::size_t>(size(l)));
  }
};

namespace detail {

/// "3 -> 5 -> 3", from vertices of which each has a predecessor among them.
inline std::string cycle_text(const Adjacency& before, const std::vector<std::int32_t>& waiting,
                              std::span<const std::int64_t> ids) {
  Vertex v = 0;
  while (waiting[static_cast<std::size_t>(v)] == 0) ++v;
  std::vector<std::int32_t> seen(waiting.size(), -1);
  std::vector<Vertex> walk;
  while (seen[static_cast<std::size_t>(v)] < 0) {
    seen[static_cast<std::size_t>(v)] = static_cast<std::int32_t>(walk.size());
    walk.push_back(v);
    const auto sources = before.of(v);
    v = *std::find_if(sources.begin(), sources.end(),
                      [&](Vertex u) { return u != v && waiting[static_cast<std::size_t>(u)] > 0; });
  }
  const auto name = [&](Vertex u) { return std::to_string(ids.empty() ? u : ids[static_cast<std::size_t>(u)]); };
  std::string text = name(v);
  std::size_t shown = 0;
  for (auto k = walk.size(); k-- > static_cast<std::size_t>(seen[static_cast<std::size_t>(v)]);) {
    if (++shown > 8 && walk[k] != v) continue;
    text += (shown == 9 ? " -> ... -> " : " -> ") + name(walk[k]);
  }
  return text;
}

/// layer(v) = 1 + max layer(u) over edges u → v, 0 without any; self loops are ignored. Kahn's algorithm, O(V + E).
inline std::vector<std::int32_t> longest_paths(const Graph& g, std::span<const std::int64_t> ids) {
  const auto n = static_cast<std::size_t>(g.vertex_count());
  const Adjacency after = successors(g);
  std::vector<std::int32_t> layer(n, 0), waiting(n, 0);
  for (const Edge& e : g.edges()) waiting[static_cast<std::size_t>(e.target)] += e.source != e.target;
  std::vector<Vertex> ready;
  ready.reserve(n);
  for (std::size_t v = 0; v < n; ++v)
    if (waiting[v] == 0) ready.push_back(static_cast<Vertex>(v));
  for (std::size_t k = 0; k < ready.size(); ++k)
    for (const Vertex v : after.of(ready[k])) {
      if (v == ready[k]) continue;
      auto& own = layer[static_cast<std::size_t>(v)];
      own = std::max(own, layer[static_cast<std::size_t>(ready[k])] + 1);
      if (--waiting[static_cast<std::size_t>(v)] == 0) ready.push_back(v);
    }
  check(ready.size() == n, "LayeredGraph: the graph has a cycle (",
        ready.size() == n ? "" : cycle_text(predecessors(g), waiting, ids), ")");
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
        if (group[static_cast<std::size_t>(u)] < 0) {
          group[static_cast<std::size_t>(u)] = own;
          members.push_back(u);
        }
    span_of_group.emplace_back(static_cast<std::int32_t>(first), static_cast<std::int32_t>(members.size()));
  }
  for (const Edge& e : edges)
    if (e.source != e.target && group[static_cast<std::size_t>(e.source)] == group[static_cast<std::size_t>(e.target)])
      ++successors_left[static_cast<std::size_t>(e.source)];

  const auto id = [&](Vertex v) { return ids.empty() ? std::int64_t{v} : ids[static_cast<std::size_t>(v)]; };
  const auto smaller = [&](Vertex a, Vertex b) { return id(a) < id(b); };
  for (const auto& [first, last] : span_of_group) {
    std::priority_queue<Vertex, std::vector<Vertex>, decltype(smaller)> free(smaller);
    free.push(members[static_cast<std::size_t>(first)]);
    const std::int32_t own = group[static_cast<std::size_t>(free.top())];
    for (std::int32_t k = last; k-- > first;) {
      const Vertex v = free.top();
      free.pop();
      order[static_cast<std::size_t>(k)] = v;
      for (const Vertex u : before.of(v))
        if (u != v && group[static_cast<std::size_t>(u)] == own && --successors_left[static_cast<std::size_t>(u)] == 0)
          free.push(u);
    }
  }
  return order;
}

/// The index of given layers; vertices of a layer in the given order.
inline LayerIndex index_of(const Graph& g, std::vector<std::int32_t> layer, std::span<const Vertex> visited) {
  LayerIndex index;
  const std::int32_t layers = layer.empty() ? 0 : 1 + *std::max_element(layer.begin(), layer.end());
  index.start.assign(static_cast<std::size_t>(layers) + 1, 0);
  for (const std::int32_t l : layer) ++index.start[static_cast<std::size_t>(l) + 1];
  std::partial_sum(index.start.begin(), index.start.end(), index.start.begin());
  index.order.resize(layer.size());
  index.place.resize(layer.size());
  std::vector<std::int32_t> next(index.start.begin(), index.start.end() - 1);
  for (const Vertex v : visited) {
    const auto l = static_cast<std::size_t>(layer[static_cast<std::size_t>(v)]);
    index.place[static_cast<std::size_t>(v)] = next[l] - index.start[l];
    index.order[static_cast<std::size_t>(next[l]++)] = v;
  }
  // Edges between layers, counted layer by layer through one row of counters: O(V + E + pairs log pairs).
  const Adjacency after = successors(g);
  std::vector<std::int64_t> count(static_cast<std::size_t>(layers), 0);
  std::vector<std::int32_t> met;
  for (std::int32_t l = 0; l < layers; ++l) {
    met.clear();
    for (const Vertex v : index.vertices(l))
      for (const Vertex w : after.of(v)) {
        const std::int32_t to = layer[static_cast<std::size_t>(w)];
        if (to != l && count[static_cast<std::size_t>(to)]++ == 0) met.push_back(to);
      }
    std::sort(met.begin(), met.end());
    for (const std::int32_t to : met) {
      index.connections.push_back({l, to, count[static_cast<std::size_t>(to)]});
      count[static_cast<std::size_t>(to)] = 0;
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

/// The index of layers that are given, one per vertex, numbered 0 … L − 1 without a gap; vertices of a layer stand in
/// node order. Throws unless every edge leads to a higher layer.
inline LayerIndex build_layer_index(const Graph& g, std::vector<std::int32_t> layer) {
  check(static_cast<std::int64_t>(layer.size()) == g.vertex_count(), "LayeredGraph: needs a layer for every vertex (",
        layer.size(), " for ", g.vertex_count(), ")");
  std::vector<char> used(layer.size(), 0);
  std::int32_t layers = 0;
  for (const std::int32_t l : layer) {
    check(l >= 0 && static_cast<std::size_t>(l) < layer.size(),
          "LayeredGraph: layers are numbered 0, 1, ... without a gap (", l, " with ", layer.size(), " vertices)");
    used[static_cast<std::size_t>(l)] = 1;
    layers = std::max(layers, l + 1);
  }
  for (std::int32_t l = 0; l < layers; ++l)
    check(used[static_cast<std::size_t>(l)], "LayeredGraph: layers are numbered 0, 1, ... without a gap (", l, " of ",
          layers, " is empty)");
  for (const Edge& e : g.edges())
    check(layer[static_cast<std::size_t>(e.source)] < layer[static_cast<std::size_t>(e.target)],
          "LayeredGraph: edges lead to higher layers (", e.source, " in ", layer[static_cast<std::size_t>(e.source)],
          ", ", e.target, " in ", layer[static_cast<std::size_t>(e.target)], ")");
  std::vector<Vertex> order(layer.size());
  std::iota(order.begin(), order.end(), 0);
  return detail::index_of(g, std::move(layer), order);
}

}  // namespace deepstruct
