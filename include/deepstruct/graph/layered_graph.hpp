// LayeredGraph: a directed acyclic graph in layers, the structure of a network.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "../core/rng.hpp"
#include "layers.hpp"

namespace deepstruct {

/// Which end of an undirected edge becomes its source.
enum class Orientation {
  node_order,  ///< the vertex that comes first, as in Python deepstruct
  bfs,         ///< the one met first by a breadth-first search from vertex 0 (then from the next vertex not met)
  degree,      ///< the one with more neighbours; among equals the first
  random       ///< the first in a random order
};

/// A directed acyclic graph whose layers are the lengths of longest paths, or given; the structure of MaskedDeepDAN.
///
/// Vertices have ids: 0, 1, 2, … unless add_node and add_edge name others. All functions speak of ids but graph() and
/// index(), the way in for algorithms, where a vertex is its place in the order of nodes. Layers are found when first
/// asked for and kept until something changes; any threads may ask one const graph.
class LayeredGraph {
 public:
  LayeredGraph() = default;
  /// Takes a graph as load_from does.
  LayeredGraph(const Graph& g) : LayeredGraph(load_from(g)) {}  // NOLINT: a graph is a structure

  /// The vertices and edges of a graph, with attributes. Edges of an undirected graph are directed by a linear order of
  /// its vertices, so that there is never a cycle; a directed graph keeps its directions. O(V + E).
  static LayeredGraph load_from(const Graph& g, Orientation orientation = Orientation::node_order,
                                Rng& rng = default_rng()) {
    LayeredGraph result;
    result.graph_ = g.directed() ? g : oriented(g, orientation, rng);
    return result;
  }
  /// A directed graph with the layer of every vertex, 0 … L − 1 without a gap, and its place in the layer unless that
  /// is the order of nodes. Throws unless every edge leads to a higher layer. From then on a vertex keeps its layer,
  /// and an edge must lead to a higher one.
  static LayeredGraph with_layers(Graph g, std::vector<std::int32_t> layer, std::vector<std::int32_t> place = {}) {
    check(g.directed(), "LayeredGraph: given layers need a directed graph (", g.vertex_count(),
          " vertices, undirected)");
    LayeredGraph result;
    if (place.empty()) {
      check_layers(g, layer);
    } else {
      result.cache_->index = build_layer_index(g, layer, place);
      result.cache_->made = true;
    }
    result.graph_ = std::move(g);
    result.given_ = std::move(layer);
    result.given_place_ = std::move(place);
    return result;
  }

  std::int64_t vertex_count() const { return graph_.vertex_count(); }
  std::int64_t edge_count() const { return graph_.edge_count(); }
  /// The graph by places of vertices, with its attributes.
  const Graph& graph() const { return graph_; }
  /// Values of the vertices and of the edges; setting them keeps the layers.
  AttributeTable& vertex_attributes() { return graph_.vertex_attributes(); }
  const AttributeTable& vertex_attributes() const { return graph_.vertex_attributes(); }
  AttributeTable& edge_attributes() { return graph_.edge_attributes(); }
  const AttributeTable& edge_attributes() const { return graph_.edge_attributes(); }
  /// The layers by places of vertices. Throws on a cycle.
  const LayerIndex& index() const {
    check(cache_ != nullptr, "LayeredGraph: was moved from (", vertex_count(), " vertices)");
    std::lock_guard lock(cache_->mutex);
    if (!cache_->made) {
      cache_->index =
          given_.empty() ? build_layer_index(graph_, ids_) : build_layer_index(graph_, given_, given_place_);
      cache_->made = true;
    }
    return cache_->index;
  }
  /// True if the layers were not asked for since the last change.
  bool has_changed() const { return !cache_ || !cache_->made; }
  /// True if the layers were given, false if they are lengths of longest paths.
  bool has_given_layers() const { return !given_.empty(); }

  /// Is there a vertex of this id?
  bool contains(std::int64_t id) const { return find(id) >= 0; }
  /// The id at a place in the order of nodes.
  std::int64_t id(Vertex place) const { return ids_.empty() ? place : ids_[place]; }
  /// The place of an id in the order of nodes. Throws on an unknown id.
  Vertex place(std::int64_t id) const {
    const Vertex v = find(id);
    check(v >= 0, "LayeredGraph: no such vertex (", id, ")");
    return v;
  }

  /// One vertex more, in the first layer unless edges come; returns its id: the number of vertices before, or if that
  /// is taken the one after the greatest.
  std::int64_t add_vertex(std::int64_t layer = 0) { return add_vertices(1, layer); }
  /// n vertices more; returns the id of the first. Where layers are given they go to the end of one of them (or of a
  /// new last one); elsewhere edges decide. Throws on another layer.
  std::int64_t add_vertices(std::int64_t n, std::int64_t layer = 0) {
    check(n >= 0 && n < std::numeric_limits<Vertex>::max(), "LayeredGraph: needs 0 to 2^31 - 2 vertices (", n, ")");
    check(layer == 0 || (!given_.empty() && layer > 0 && layer <= num_layers()),
          "LayeredGraph: no such layer to add vertices to (", layer, " of ", num_layers(),
          given_.empty() ? " that edges decide)" : " given ones)");
    if (!ids_.empty()) {
      std::int64_t first = vertex_count();
      for (std::int64_t k = first; k < first + n; ++k)
        if (find(k) >= 0) first = k = 1 + *std::max_element(ids_.begin(), ids_.end());
      for (std::int64_t k = 0; k < n; ++k) append(first + k, layer);
      changed();
      return first;
    }
    const std::int64_t first = graph_.add_vertices(n);
    if (!given_.empty()) append_given(n, layer);
    changed();
    return first;
  }
  /// The vertex of this id, if there is none yet.
  void add_node(std::int64_t id) {
    if (find(id) < 0) append(id);
    changed();
  }
  void add_nodes_from(std::span<const std::int64_t> ids) {
    for (const std::int64_t id : ids) add_node(id);
  }
  void add_nodes_from(std::initializer_list<std::int64_t> ids) { add_nodes_from(std::span(ids.begin(), ids.size())); }
  /// The edge u → v; vertices that do not exist are added. A cycle it closes is found when the layers are asked for.
  /// Where layers are given, both vertices must exist, and the edge must lead to a higher layer.
  void add_edge(std::int64_t u, std::int64_t v) {
    check_given(u, v);
    if (find(u) < 0) append(u);
    if (find(v) < 0) append(v);
    graph_.add_edge(place(u), place(v));
    changed();
  }
  /// The ids of an edge, source and target.
  using IdEdge = std::pair<std::int64_t, std::int64_t>;
  /// Many edges; where layers are given, all of them or none.
  void add_edges_from(std::span<const IdEdge> edges) {
    for (const auto& [u, v] : edges) check_given(u, v);
    for (const auto& [u, v] : edges) add_edge(u, v);
  }
  void add_edges_from(std::initializer_list<IdEdge> edges) { add_edges_from(std::span(edges.begin(), edges.size())); }
  /// Removes an edge. Throws if it does not exist.
  void remove_edge(std::int64_t u, std::int64_t v) {
    check(contains(u) && contains(v) && graph_.find_edge(place(u), place(v)) >= 0, "LayeredGraph: no such edge (", u,
          ", ", v, ")");
    graph_.remove_edge(place(u), place(v));
    changed();
  }
  /// Removes a vertex and its edges; the others keep their ids. Given layers that become empty close up.
  void remove_vertex(std::int64_t id) {
    const Vertex gone = place(id);
    if (ids_.empty() && gone + 1 < vertex_count()) name_vertices();
    graph_.remove_vertices(std::span(&gone, 1));
    if (!ids_.empty()) {
      ids_.erase(ids_.begin() + gone);
      places_.clear();
      for (std::size_t k = 0; k < ids_.size(); ++k) places_[ids_[k]] = static_cast<Vertex>(k);
    }
    if (!given_.empty()) {
      const std::int32_t l = given_[gone];
      given_.erase(given_.begin() + gone);
      if (!given_place_.empty()) {
        const std::int32_t at = given_place_[gone];
        given_place_.erase(given_place_.begin() + gone);
        for (std::size_t v = 0; v < given_.size(); ++v) given_place_[v] -= given_[v] == l && given_place_[v] > at;
      }
      if (std::find(given_.begin(), given_.end(), l) == given_.end())
        for (std::int32_t& other : given_) other -= other > l;
    }
    changed();
  }

  /// The layers, 0 … num_layers() − 1.
  std::vector<std::int64_t> layers() const {
    std::vector<std::int64_t> all(static_cast<std::size_t>(num_layers()));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  std::int64_t num_layers() const { return vertex_count() == 0 ? 0 : index().layer_count(); }
  /// 0. Throws if there is no vertex.
  std::int64_t first_layer() const { return check_layer(0), 0; }
  /// num_layers() − 1. Throws if there is no vertex.
  std::int64_t last_layer() const { return check_layer(0), num_layers() - 1; }
  std::int64_t first_layer_size() const { return layer_size(first_layer()); }
  std::int64_t last_layer_size() const { return layer_size(last_layer()); }
  /// Number of vertices of a layer.
  std::int64_t layer_size(std::int64_t layer) const { return check_layer(layer), index().size(layer); }
  /// Ids of the vertices of a layer, in the order of mask rows and columns.
  std::vector<std::int64_t> vertices(std::int64_t layer) const {
    check_layer(layer);
    std::vector<std::int64_t> all;
    for (const Vertex v : index().vertices(layer)) all.push_back(id(v));
    return all;
  }
  /// The layer of a vertex.
  std::int64_t layer(std::int64_t id) const { return index().layer[place(id)]; }
  /// The place of a vertex within its layer.
  std::int64_t index_in_layer(std::int64_t id) const { return index().place[place(id)]; }
  /// Is there an edge between two different layers, in either direction?
  bool layer_connected(std::int64_t a, std::int64_t b) const { return layer_connection_size(a, b) > 0; }
  /// Number of edges between two different layers, in either direction. Throws if they are the same: edges lead to
  /// other layers.
  std::int64_t layer_connection_size(std::int64_t a, std::int64_t b) const {
    check_layer(a);
    check_layer(b);
    check(a != b, "layer_connection_size: no edge stays within a layer (", a, ")");
    const auto& all = index().connections;
    const std::pair wanted{std::min(a, b), std::max(a, b)};
    const auto found = std::lower_bound(all.begin(), all.end(), wanted, [](const LayerConnection& c, const auto& w) {
      return std::pair<std::int64_t, std::int64_t>(c.source_layer, c.target_layer) < w;
    });
    return found != all.end() && found->source_layer == wanted.first && found->target_layer == wanted.second
               ? found->edges
               : 0;
  }

  /// Equal graphs with equal ids, and both with computed layers or both with the same given ones.
  friend bool operator==(const LayeredGraph& a, const LayeredGraph& b) {
    return a.graph_ == b.graph_ && a.given_ == b.given_ && a.all_ids() == b.all_ids() &&
           (a.given_.empty() || a.index().order == b.index().order);
  }

 private:
  struct Cache {
    std::mutex mutex;
    std::atomic<bool> made = false;
    LayerIndex index;
  };

  static Graph oriented(const Graph& g, Orientation orientation, Rng& rng) {
    const auto n = static_cast<std::size_t>(g.vertex_count());
    std::vector<std::int32_t> rank(n);
    std::iota(rank.begin(), rank.end(), 0);
    if (orientation == Orientation::random) {
      const auto order = rng.permutation(g.vertex_count());
      for (std::size_t k = 0; k < n; ++k) rank[order[k]] = static_cast<std::int32_t>(k);
    } else if (orientation != Orientation::node_order) {
      const Adjacency around = neighbours(g);
      std::vector<Vertex> order;
      if (orientation == Orientation::degree) {
        order.assign(rank.begin(), rank.end());
        std::stable_sort(order.begin(), order.end(),
                         [&](Vertex a, Vertex b) { return around.degree(a) > around.degree(b); });
      } else {
        std::vector<char> met(n, 0);
        for (std::size_t root = 0; root < n; ++root) {
          if (met[root]) continue;
          met[root] = 1;
          std::size_t k = order.size();
          order.push_back(static_cast<Vertex>(root));
          for (; k < order.size(); ++k)
            for (const Vertex w : around.of(order[k]))
              if (!std::exchange(met[w], 1)) order.push_back(w);
        }
      }
      for (std::size_t k = 0; k < n; ++k) rank[order[k]] = static_cast<std::int32_t>(k);
    }
    std::vector<Edge> edges(g.edges().begin(), g.edges().end());
    for (Edge& e : edges)
      if (rank[e.source] > rank[e.target]) std::swap(e.source, e.target);
    Graph result(g.vertex_count(), std::move(edges), true);
    result.vertex_attributes() = g.vertex_attributes();
    result.edge_attributes() = g.edge_attributes();
    return result;
  }

  Vertex find(std::int64_t id) const {
    if (ids_.empty()) return graph_.contains(id) ? static_cast<Vertex>(id) : -1;
    const auto found = places_.find(id);
    return found == places_.end() ? -1 : found->second;
  }
  std::int32_t layer_given(std::int64_t id) const { return given_[place(id)]; }
  std::vector<std::int64_t> all_ids() const {
    std::vector<std::int64_t> all(static_cast<std::size_t>(vertex_count()));
    for (std::size_t v = 0; v < all.size(); ++v) all[v] = id(static_cast<Vertex>(v));
    return all;
  }
  /// From now on ids are kept one by one.
  void name_vertices() {
    ids_ = all_ids();
    for (std::size_t k = 0; k < ids_.size(); ++k) places_[ids_[k]] = static_cast<Vertex>(k);
  }
  void append(std::int64_t id, std::int64_t layer = 0) {
    if (ids_.empty() && id != vertex_count()) name_vertices();
    const Vertex v = graph_.add_vertices(1);
    if (!ids_.empty() || id != v) {
      ids_.push_back(id);
      places_[id] = v;
    }
    if (!given_.empty()) append_given(1, layer);
  }
  /// n vertices at the end of a given layer.
  void append_given(std::int64_t n, std::int64_t layer) {
    const auto l = static_cast<std::int32_t>(layer);
    if (!given_place_.empty())
      for (std::int64_t k = 0, last = std::count(given_.begin(), given_.end(), l); k < n; ++k)
        given_place_.push_back(static_cast<std::int32_t>(last + k));
    given_.resize(given_.size() + static_cast<std::size_t>(n), l);
  }
  /// Layers must be found anew; a copy that shares them keeps its own.
  void changed() {
    if (!cache_ || cache_->made || cache_.use_count() > 1) cache_ = std::make_shared<Cache>();
  }
  /// An edge between given layers must lead to a higher one.
  void check_given(std::int64_t u, std::int64_t v) const {
    if (given_.empty()) return;
    check(layer_given(u) < layer_given(v), "LayeredGraph: edges lead to higher layers (", u, " in ", layer_given(u),
          ", ", v, " in ", layer_given(v), ")");
  }
  void check_layer(std::int64_t layer) const {
    check(layer >= 0 && layer < num_layers(), "LayeredGraph: no such layer (", layer, " of ", num_layers(), ")");
  }

  Graph graph_{true};
  std::vector<std::int64_t> ids_;                    // of every place; empty: 0, 1, 2, …
  std::unordered_map<std::int64_t, Vertex> places_;  // of every id, if they are kept
  std::vector<std::int32_t> given_;                  // layers, if they were given
  std::vector<std::int32_t> given_place_;            // places within them; empty: the order of nodes
  std::shared_ptr<Cache> cache_ = std::make_shared<Cache>();
};

/// The name of the class in Python deepstruct; every LayeredGraph keeps its layers.
using CachedLayeredGraph = LayeredGraph;

}  // namespace deepstruct
