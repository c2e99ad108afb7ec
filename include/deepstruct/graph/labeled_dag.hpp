// LabeledDAG: a directed acyclic graph whose layers the user gives while building it.
#pragma once

#include <map>

#include "layered_graph.hpp"

namespace deepstruct {

/// What add_edge and add_edges_from of a LabeledDAG do with vertices that do not exist, and with edges that lead down.
struct LabeledEdgeOptions {
  std::int64_t source_layer = 0;                            ///< layer of a new source
  std::optional<std::int64_t> target_layer = std::nullopt;  ///< of a new target; without: 1 + the layer of its source
  bool unchecked = false;  ///< edges may stay in a layer or lead down, as add_edges_from of Python deepstruct lets them
};

/// A directed acyclic graph whose layers are given with its vertices: every edge leads to a higher layer.
///
/// Vertices have consecutive ids 0, 1, 2, …, layers any labels 0 … 2³¹ − 2, in any order and with gaps. Labels that
/// name no vertex yet are replaced by the next id, as in Python deepstruct; other than there, layers() is ascending, an
/// operation that fails changes nothing, and add_edges_from checks layers unless asked not to. Converts to a
/// LayeredGraph. Takes 8 bytes a vertex more than a Graph and a list per layer; all const functions may be called by
/// several threads.
class LabeledDAG {
 public:
  using IdEdge = std::pair<std::int64_t, std::int64_t>;

  /// A new vertex in a layer; returns its id, the number of vertices before. Amortised O(log layers). Throws on a
  /// negative layer.
  std::int64_t add_vertex(std::int64_t layer = 0) { return add_vertices(1, layer); }
  /// n ≥ 1 new vertices in a layer; returns the id of the first. Throws on n < 1 or a negative layer.
  std::int64_t add_vertices(std::int64_t n, std::int64_t layer = 0) {
    check(n >= 1, "LabeledDAG: needs at least one new vertex (", n, ")");
    const std::int64_t first = vertex_count();
    const std::int32_t label = checked_label(layer);
    graph_.add_vertices(n);
    std::vector<Vertex>& members = layers_[label];
    for (Vertex v = static_cast<Vertex>(first); v < vertex_count(); ++v) enter(v, label, members);
    return first;
  }
  /// A new vertex whatever its label, which is ignored as in Python deepstruct; returns its id.
  std::int64_t add_node(std::int64_t /*label*/, std::int64_t layer = 0) { return add_vertex(layer); }
  /// As many new vertices in layer 0 as there are labels, which are ignored; returns the id of the first. Throws if
  /// there is none.
  std::int64_t add_nodes_from(std::span<const std::int64_t> labels) {
    return add_vertices(static_cast<std::int64_t>(labels.size()));
  }
  std::int64_t add_nodes_from(std::initializer_list<std::int64_t> labels) {
    return add_nodes_from(std::span(labels.begin(), labels.size()));
  }

  /// The edge u → v; where u or v names no vertex, a new one takes its place. Returns the ids of the two. Amortised
  /// O(log layers). Throws if it would not lead to a higher layer.
  IdEdge add_edge(std::int64_t u, std::int64_t v, const LabeledEdgeOptions& options = {}) {
    const IdEdge edge{u, v};
    const std::vector<Edge> added = add_all(std::span(&edge, 1), options);
    return {added[0].source, added[0].target};
  }
  /// Many edges, all or none. A label that names no vertex gets one where it is first a source and another one where it
  /// is first a target, as in Python deepstruct. Amortised O(edges).
  void add_edges_from(std::span<const IdEdge> edges, const LabeledEdgeOptions& options = {}) {
    add_all(edges, options);
  }
  void add_edges_from(std::initializer_list<IdEdge> edges, const LabeledEdgeOptions& options = {}) {
    add_all(std::span(edges.begin(), edges.size()), options);
  }

  /// Puts another graph behind this one: its layer 0 becomes the last layer here, its layer l > 0 the layer
  /// last_layer() + l, with all edges. Throws unless other has two layers or more, of which the first is 0 and as large
  /// as the last one here. Attributes of other stay behind. O(vertices and edges of other + size of the last layer).
  void append(const LabeledDAG& other) {
    check(vertex_count() > 0 && other.num_layers() >= 2, "append: needs a vertex, and two layers to append (",
          vertex_count(), " vertices, ", other.num_layers(), " layers)");
    check(other.first_layer() == 0, "append: layers to append begin with 0 (", other.first_layer(), ")");
    check(last_layer_size() == other.first_layer_size(), "append: the layers to be joined differ in size (",
          last_layer_size(), " and ", other.first_layer_size(), ")");
    for (const Edge& e : other.graph_.edges()) other.check_upward(e.source, e.target);
    const std::int64_t offset = last_layer();
    checked_label(offset + other.last_layer());

    const std::vector<Vertex> joined = layers_.rbegin()->second;
    std::vector<Vertex> now(other.layer_.size());
    std::vector<std::int32_t> fresh;
    for (const auto& [label, members] : other.layers_)
      for (std::size_t k = 0; k < members.size(); ++k) {
        now[static_cast<std::size_t>(members[k])] =
            label == 0 ? joined[k] : static_cast<Vertex>(vertex_count() + static_cast<std::int64_t>(fresh.size()));
        if (label > 0) fresh.push_back(static_cast<std::int32_t>(offset) + label);
      }
    std::vector<Edge> edges(other.graph_.edges().begin(), other.graph_.edges().end());
    for (Edge& e : edges) e = {now[static_cast<std::size_t>(e.source)], now[static_cast<std::size_t>(e.target)]};
    commit(fresh, std::move(edges));
  }

  std::int64_t vertex_count() const { return graph_.vertex_count(); }
  std::int64_t edge_count() const { return graph_.edge_count(); }
  /// The graph without its layers, with attributes.
  const Graph& graph() const { return graph_; }
  /// Values of the vertices and of the edges.
  AttributeTable& vertex_attributes() { return graph_.vertex_attributes(); }
  const AttributeTable& vertex_attributes() const { return graph_.vertex_attributes(); }
  AttributeTable& edge_attributes() { return graph_.edge_attributes(); }
  const AttributeTable& edge_attributes() const { return graph_.edge_attributes(); }
  bool contains(std::int64_t id) const { return graph_.contains(id); }

  /// Labels of the layers that have a vertex, ascending.
  std::vector<std::int64_t> layers() const {
    std::vector<std::int64_t> all;
    for (const auto& [label, members] : layers_) all.push_back(label);
    return all;
  }
  std::int64_t num_layers() const { return static_cast<std::int64_t>(layers_.size()); }
  /// The smallest layer. Throws if there is no vertex.
  std::int64_t first_layer() const { return check_any(), layers_.begin()->first; }
  /// The greatest layer. Throws if there is no vertex.
  std::int64_t last_layer() const { return check_any(), layers_.rbegin()->first; }
  std::int64_t first_layer_size() const { return layer_size(first_layer()); }
  std::int64_t last_layer_size() const { return layer_size(last_layer()); }
  /// Number of vertices of a layer. Throws if there is no such layer.
  std::int64_t layer_size(std::int64_t layer) const { return static_cast<std::int64_t>(members(layer).size()); }
  /// Ids of the vertices of a layer, in the order in which they came: that of mask rows and columns.
  std::vector<std::int64_t> vertices(std::int64_t layer) const {
    const std::vector<Vertex>& all = members(layer);
    return {all.begin(), all.end()};
  }
  /// The layer of a vertex. Throws on an unknown id.
  std::int64_t layer(std::int64_t id) const { return layer_[place(id)]; }
  /// The place of a vertex within its layer. Throws on an unknown id.
  std::int64_t index_in_layer(std::int64_t id) const { return place_[place(id)]; }
  /// Does an edge lead from the lower to the higher of two layers?
  bool layer_connected(std::int64_t a, std::int64_t b) const { return layer_connection_size(a, b) > 0; }
  /// Number of edges from the lower to the higher of two different layers, O(edges): for many pairs ask layered().
  /// Throws if they are the same, or not there.
  std::int64_t layer_connection_size(std::int64_t a, std::int64_t b) const {
    members(a);
    members(b);
    check(a != b, "layer_connection_size: no edge stays within a layer (", a, ")");
    const auto [low, high] = std::minmax(a, b);
    return std::count_if(graph_.edges().begin(), graph_.edges().end(), [&, low = low, high = high](const Edge& e) {
      return layer_[static_cast<std::size_t>(e.source)] == low && layer_[static_cast<std::size_t>(e.target)] == high;
    });
  }

  /// The same graph as a LayeredGraph with given layers, numbered 0 … num_layers() − 1 without the gaps that labels may
  /// have; ids, order within layers and attributes stay. O(V + E). Throws if an unchecked edge does not lead to a
  /// higher layer.
  LayeredGraph layered() const {
    std::vector<std::int32_t> closed(layer_.size());
    std::int32_t l = 0;
    for (const auto& [label, members] : layers_) {
      for (const Vertex v : members) closed[static_cast<std::size_t>(v)] = l;
      ++l;
    }
    return LayeredGraph::with_layers(graph_, std::move(closed));
  }
  operator LayeredGraph() const { return layered(); }  // NOLINT: wherever a structure is asked for

  /// Equal vertices, edges (in the same order), layers and attributes.
  friend bool operator==(const LabeledDAG& a, const LabeledDAG& b) {
    return a.graph_ == b.graph_ && a.layer_ == b.layer_;
  }

 private:
  static std::int32_t checked_label(std::int64_t layer) {
    check(layer >= 0 && layer < std::numeric_limits<std::int32_t>::max(), "LabeledDAG: a layer is 0 to 2^31 - 2 (",
          layer, ")");
    return static_cast<std::int32_t>(layer);
  }
  void check_any() const { check(!layers_.empty(), "LabeledDAG: no layer without a vertex (", vertex_count(), ")"); }
  void check_upward(Vertex u, Vertex v) const {
    const std::int32_t from = layer_[static_cast<std::size_t>(u)], to = layer_[static_cast<std::size_t>(v)];
    check(from < to, "LabeledDAG: edges lead to higher layers (", u, " in ", from, ", ", v, " in ", to, ")");
  }
  std::size_t place(std::int64_t id) const {
    check(contains(id), "LabeledDAG: no such vertex (", id, " of ", vertex_count(), ")");
    return static_cast<std::size_t>(id);
  }
  const std::vector<Vertex>& members(std::int64_t layer) const {
    const auto found =
        layer == static_cast<std::int32_t>(layer) ? layers_.find(static_cast<std::int32_t>(layer)) : layers_.end();
    check(found != layers_.end(), "LabeledDAG: no such layer (", layer, ", of ", num_layers(), " layers)");
    return found->second;
  }

  /// Edges by ids of vertices, of which those that do not exist yet get a layer in `fresh`; nothing is changed.
  std::vector<Edge> resolve(std::span<const IdEdge> edges, const LabeledEdgeOptions& options,
                            std::vector<std::int32_t>& fresh) const {
    const auto count = [&] { return vertex_count() + static_cast<std::int64_t>(fresh.size()); };
    const auto layer_of = [&](Vertex v) {
      return v < vertex_count() ? layer_[static_cast<std::size_t>(v)]
                                : fresh[static_cast<std::size_t>(v - vertex_count())];
    };
    std::unordered_map<std::int64_t, Vertex> sources, targets;  // labels that name no vertex
    const auto vertex = [&](std::int64_t label, std::unordered_map<std::int64_t, Vertex>& named, auto&& new_layer) {
      if (const auto found = named.find(label); found != named.end()) return found->second;
      if (label >= 0 && label < count()) return static_cast<Vertex>(label);
      const auto v = static_cast<Vertex>(count());
      fresh.push_back(checked_label(new_layer()));
      return named[label] = v;
    };
    std::vector<Edge> resolved;
    resolved.reserve(edges.size());
    for (const auto& [u, v] : edges) {
      const Vertex source = vertex(u, sources, [&] { return options.source_layer; });
      const Vertex target =
          vertex(v, targets, [&] { return options.target_layer.value_or(std::int64_t{layer_of(source)} + 1); });
      check(options.unchecked || layer_of(source) < layer_of(target), "LabeledDAG: edges lead to higher layers (",
            source, " in ", layer_of(source), ", ", target, " in ", layer_of(target), ")");
      resolved.push_back({source, target});
    }
    return resolved;
  }
  std::vector<Edge> add_all(std::span<const IdEdge> edges, const LabeledEdgeOptions& options) {
    std::vector<std::int32_t> fresh;
    std::vector<Edge> resolved = resolve(edges, options, fresh);
    commit(fresh, resolved);
    return resolved;
  }
  /// Adds vertices of these layers, and edges: a few one by one, many at once, so that either way it is amortised O(1)
  /// an edge.
  void commit(const std::vector<std::int32_t>& fresh, std::vector<Edge> edges) {
    auto v = graph_.add_vertices(static_cast<std::int64_t>(fresh.size()));
    for (const std::int32_t label : fresh) enter(v++, label, layers_[label]);
    if (static_cast<std::int64_t>(edges.size()) * 4 > vertex_count() + edge_count())
      graph_.add_edges(std::move(edges));
    else
      for (const Edge& e : edges) graph_.add_edge(e.source, e.target);
  }
  void enter(Vertex v, std::int32_t label, std::vector<Vertex>& members) {
    layer_.push_back(label);
    place_.push_back(static_cast<std::int32_t>(members.size()));
    members.push_back(v);
  }

  Graph graph_{true};
  std::vector<std::int32_t> layer_, place_;             // of every vertex: its layer, its place within it
  std::map<std::int32_t, std::vector<Vertex>> layers_;  // vertices of every layer, in the order in which they came
};

}  // namespace deepstruct
