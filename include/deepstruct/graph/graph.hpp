// Graph: vertices in order and the edges between them, what generators and readers return.
#pragma once

#include <concepts>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "attributes.hpp"

namespace deepstruct {

/// A vertex: its place in the order of vertices, 0 … n − 1.
using Vertex = std::int32_t;

/// A connection source → target; in an undirected graph the one of the two that comes earlier is the source.
struct Edge {
  Vertex source = 0, target = 0;
  friend auto operator<=>(const Edge&, const Edge&) = default;
};

/// A simple graph, directed or not: vertices 0 … n − 1 in order, edges in order, attributes of both.
///
/// Between two vertices there is one edge (directed: one per direction) at most; adding it again changes nothing, as
/// in NetworkX. Self loops are possible. Takes 8 bytes an edge and none a vertex, before attributes.
class Graph {
 public:
  Graph() = default;
  /// No vertex yet. Takes nothing but a bool, so that Graph(3) has vertices.
  explicit Graph(std::same_as<bool> auto directed) : directed_(directed) {}
  /// n vertices without edges.
  explicit Graph(std::int64_t n, bool directed = false) : directed_(directed) { add_vertices(n); }
  /// n vertices and these edges, of which repeated ones count once; O(n + edges). Throws on a vertex outside 0 … n − 1.
  Graph(std::int64_t n, std::vector<Edge> edges, bool directed = false) : Graph(n, directed) {
    add_edges(std::move(edges));
  }

  /// Do edges have a direction?
  bool directed() const { return directed_; }
  std::int64_t vertex_count() const { return vertices_.size(); }
  std::int64_t edge_count() const { return static_cast<std::int64_t>(edges_.size()); }
  /// All edges, in the order in which they came.
  std::span<const Edge> edges() const { return edges_; }
  /// The k-th edge.
  const Edge& edge(std::int64_t k) const {
    check(k >= 0 && k < edge_count(), "Graph: no such edge (", k, " of ", edge_count(), ")");
    return edges_[k];
  }
  /// Is v one of the vertices?
  bool contains(std::int64_t v) const { return v >= 0 && v < vertex_count(); }
  /// The place of edge u → v (undirected: u – v) among edges(), or −1. Looks through all edges unless the last ones
  /// came by add_edge; to ask for many, make an Adjacency.
  std::int32_t find_edge(Vertex u, Vertex v) const {
    const Edge e = oriented({u, v});
    if (!lookup_.empty()) {
      const auto found = lookup_.find(key(e));
      return found == lookup_.end() ? -1 : found->second;
    }
    const auto found = std::find(edges_.begin(), edges_.end(), e);
    return found == edges_.end() ? -1 : static_cast<std::int32_t>(found - edges_.begin());
  }

  /// Values of the vertices, such as bias or activation.
  AttributeTable& vertex_attributes() { return vertices_; }
  const AttributeTable& vertex_attributes() const { return vertices_; }
  /// Values of the edges, such as weight.
  AttributeTable& edge_attributes() { return connections_; }
  const AttributeTable& edge_attributes() const { return connections_; }

  /// n vertices more; returns the first of them.
  Vertex add_vertices(std::int64_t n = 1) {
    check(n >= 0 && n < limit - vertex_count(), "Graph: needs 0 to 2^31 - 2 vertices (", vertex_count(), " and ", n,
          " more)");
    const auto first = static_cast<Vertex>(vertex_count());
    vertices_.resize(vertex_count() + n);
    return first;
  }
  /// The edge u → v; returns its place among edges(), that of the existing one if there is one.
  std::int32_t add_edge(Vertex u, Vertex v) {
    check_edge({u, v});
    const Edge e = oriented({u, v});
    if (lookup_.size() != edges_.size()) {  // the first edge added by hand
      lookup_.reserve(edges_.size() + 1);
      for (std::size_t k = 0; k < edges_.size(); ++k) lookup_[key(edges_[k])] = static_cast<std::int32_t>(k);
    }
    const auto [at, fresh] = lookup_.try_emplace(key(e), static_cast<std::int32_t>(edges_.size()));
    if (fresh) {
      check_more(1);
      edges_.push_back(e);
      connections_.resize(edge_count());
    }
    return at->second;
  }
  /// Many edges at once, O(vertices + edges); nothing changes if one of them is outside the graph.
  void add_edges(std::vector<Edge> more) {
    const auto n = static_cast<std::uint32_t>(vertex_count());
    for (const Edge& e : more)
      if (static_cast<std::uint32_t>(e.source) >= n || static_cast<std::uint32_t>(e.target) >= n) check_edge(e);
    if (!directed_)
      for (Edge& e : more) e = oriented(e);
    check_more(static_cast<std::int64_t>(more.size()));
    lookup_.clear();
    if (edges_.empty())
      edges_ = std::move(more);
    else
      edges_.insert(edges_.end(), more.begin(), more.end());
    merge_repeated();
    connections_.resize(edge_count());
  }
  /// Removes edges by their places among edges(); the others move up.
  void remove_edges(std::span<const std::int32_t> places) {
    std::vector<char> gone(edges_.size(), 0);
    for (const std::int32_t k : places) {
      edge(k);
      gone[k] = 1;
    }
    keep_edges([&](std::size_t k) { return !gone[k]; });
  }
  /// Removes the edge u → v. Throws if there is none.
  void remove_edge(Vertex u, Vertex v) {
    const std::int32_t k = find_edge(u, v);
    check(k >= 0, "Graph: no such edge (", u, ", ", v, ")");
    remove_edges(std::span(&k, 1));
  }
  /// Removes vertices and their edges; the others keep their order and move up. Returns for every old vertex the new
  /// one, −1 if it is gone.
  std::vector<Vertex> remove_vertices(std::span<const Vertex> removed) {
    std::vector<Vertex> now(static_cast<std::size_t>(vertex_count()), 0);
    for (const Vertex v : removed) {
      check(contains(v), "Graph: no such vertex (", v, " of ", vertex_count(), ")");
      now[v] = -1;
    }
    std::vector<std::int32_t> kept;
    for (std::size_t v = 0; v < now.size(); ++v)
      if (now[v] >= 0) {
        now[v] = static_cast<Vertex>(kept.size());
        kept.push_back(static_cast<std::int32_t>(v));
      }
    keep_edges([&](std::size_t k) { return now[edges_[k].source] >= 0 && now[edges_[k].target] >= 0; });
    for (Edge& e : edges_) e = {now[e.source], now[e.target]};
    lookup_.clear();
    vertices_.keep(kept);
    return now;
  }
  /// Sorts the edges by source, then by the order in which they came: the order of iteration in NetworkX.
  void sort_edges() {
    std::vector<std::int32_t> place = by_source();
    std::vector<Edge> sorted(edges_.size());
    for (std::size_t k = 0; k < sorted.size(); ++k) sorted[k] = edges_[place[k]];
    edges_ = std::move(sorted);
    connections_.keep(place);
    lookup_.clear();
  }

  /// Equal vertices, edges (in the same order) and attributes.
  friend bool operator==(const Graph& a, const Graph& b) {
    return a.directed_ == b.directed_ && a.vertices_ == b.vertices_ && a.edges_ == b.edges_ &&
           a.connections_ == b.connections_;
  }

 private:
  static constexpr std::int64_t limit = std::numeric_limits<std::int32_t>::max();
  static std::int64_t key(const Edge& e) { return std::int64_t{e.source} << 32 | e.target; }
  Edge oriented(const Edge& e) const { return directed_ || e.source <= e.target ? e : Edge{e.target, e.source}; }
  void check_edge(const Edge& e) const {
    check(contains(e.source) && contains(e.target), "Graph: edge outside the graph (", e.source, ", ", e.target,
          " with ", vertex_count(), " vertices)");
  }
  void check_more(std::int64_t n) const {
    check(edge_count() + n < limit, "Graph: too many edges (", edge_count(), " and ", n, " more)");
  }
  /// Places of the edges sorted by source, a stable counting sort.
  std::vector<std::int32_t> by_source() const {
    std::vector<std::int32_t> next(static_cast<std::size_t>(vertex_count()) + 1, 0), place(edges_.size());
    for (const Edge& e : edges_) ++next[e.source + 1];
    std::partial_sum(next.begin(), next.end(), next.begin());
    for (std::size_t k = 0; k < edges_.size(); ++k) place[next[edges_[k].source]++] = static_cast<std::int32_t>(k);
    return place;
  }
  /// Of edges that come repeatedly the first stays. Edges by ascending target and source, as networks have them, are
  /// seen to be different in one pass.
  void merge_repeated() {
    const auto number = [](const Edge& e) {
      return static_cast<std::uint64_t>(e.target) << 32 | static_cast<std::uint32_t>(e.source);
    };
    std::size_t ascending = 1;
    while (ascending < edges_.size() && number(edges_[ascending - 1]) < number(edges_[ascending])) ++ascending;
    if (ascending >= edges_.size()) return;
    const std::vector<std::int32_t> place = by_source();
    std::vector<std::int32_t> first(static_cast<std::size_t>(vertex_count()), -1);
    std::vector<char> repeated;
    for (const std::int32_t k : place) {
      const Edge e = edges_[k];
      std::int32_t& seen = first[e.target];
      if (seen >= 0 && edges_[seen].source == e.source) {
        if (repeated.empty()) repeated.assign(edges_.size(), 0);
        repeated[k] = 1;
      } else {
        seen = k;
      }
    }
    if (repeated.empty()) return;
    std::size_t n = 0;  // only new edges, which have no attributes yet, can repeat
    for (std::size_t k = 0; k < edges_.size(); ++k)
      if (!repeated[k]) edges_[n++] = edges_[k];
    edges_.resize(n);
  }
  template <class Keep>
  void keep_edges(Keep&& keep) {
    std::vector<std::int32_t> kept;
    for (std::size_t k = 0; k < edges_.size(); ++k)
      if (keep(k)) kept.push_back(static_cast<std::int32_t>(k));
    for (std::size_t k = 0; k < kept.size(); ++k) edges_[k] = edges_[kept[k]];
    edges_.resize(kept.size());
    connections_.keep(kept);
    lookup_.clear();
  }

  bool directed_ = false;
  AttributeTable vertices_, connections_;
  std::vector<Edge> edges_;
  std::unordered_map<std::int64_t, Vertex> lookup_;  // filled by the first edge added by hand, or empty
};

/// The neighbours of every vertex in one array, and through which edge they are reached.
struct Adjacency {
  std::vector<std::int32_t> start;  // first entry of every vertex, and the number of entries: [vertices + 1]
  std::vector<Vertex> neighbour;    // [entries]
  std::vector<std::int32_t> edge;   // [entries], place among edges()

  std::int64_t vertex_count() const { return static_cast<std::int64_t>(start.size()) - 1; }
  std::int64_t degree(Vertex v) const { return start[v + 1] - start[v]; }
  std::span<const Vertex> of(Vertex v) const {
    return std::span(neighbour).subspan(static_cast<std::size_t>(start[v]), static_cast<std::size_t>(degree(v)));
  }
};

namespace detail {

/// Entries (edge k at end(e), leading to other(e)) by counting sort; entries of a vertex in the order of edges().
template <class Visit>
Adjacency adjacency(const Graph& g, Visit&& each_entry) {
  Adjacency a;
  a.start.assign(static_cast<std::size_t>(g.vertex_count()) + 1, 0);
  const auto edges = g.edges();
  for (std::size_t k = 0; k < edges.size(); ++k) each_entry(edges[k], [&](Vertex at, Vertex) { ++a.start[at + 1]; });
  const std::int64_t entries = std::accumulate(a.start.begin(), a.start.end(), std::int64_t{0});
  check(entries < std::numeric_limits<std::int32_t>::max(), "Adjacency: too many entries (", entries, ")");
  std::partial_sum(a.start.begin(), a.start.end(), a.start.begin());
  a.neighbour.resize(static_cast<std::size_t>(a.start.back()));
  a.edge.resize(a.neighbour.size());
  std::vector<std::int32_t> next(a.start.begin(), a.start.end() - 1);
  for (std::size_t k = 0; k < edges.size(); ++k)
    each_entry(edges[k], [&](Vertex at, Vertex to) {
      const auto place = static_cast<std::size_t>(next[at]++);
      a.neighbour[place] = to;
      a.edge[place] = static_cast<std::int32_t>(k);
    });
  return a;
}

}  // namespace detail

/// For every vertex the targets of its edges (by source, whether the graph is directed or not).
inline Adjacency successors(const Graph& g) {
  return detail::adjacency(g, [](const Edge& e, auto&& entry) { entry(e.source, e.target); });
}
/// For every vertex the sources of its edges.
inline Adjacency predecessors(const Graph& g) {
  return detail::adjacency(g, [](const Edge& e, auto&& entry) { entry(e.target, e.source); });
}
/// For every vertex all it is connected with, directions ignored; a self loop is one entry.
inline Adjacency neighbours(const Graph& g) {
  return detail::adjacency(g, [](const Edge& e, auto&& entry) {
    entry(e.source, e.target);
    if (e.source != e.target) entry(e.target, e.source);
  });
}

}  // namespace deepstruct
