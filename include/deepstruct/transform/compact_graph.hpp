// compact of graphs of neurons, and of the networks they describe.
#pragma once

#include "from_graph.hpp"

namespace deepstruct {

/// A smaller graph of neurons, and what became of every vertex.
struct CompactedGraph {
  LayeredGraph graph;
  std::vector<Vertex> vertices;  ///< of every place of before the place now, −1 where it is gone
};

namespace detail {

/// Removes what a graph of neurons does not need: constants go into biases, dead ends go altogether.
class GraphCompactor {
 public:
  explicit GraphCompactor(const LayeredGraph& g)
      : index_(g.index()),
        graph_(g.graph()),
        into_(predecessors(graph_)),
        constant_(index_.layer.size(), 0),
        needed_(index_.layer.size(), 0),
        value_(index_.layer.size(), 0) {}

  CompactedGraph run() {
    find_constants();
    find_needed();
    fold();
    return cut();
  }

 private:
  std::string text(const char* name, Vertex v) const {
    const AttributeTable& t = graph_.vertex_attributes();
    return t.holds<std::string>(name) ? t.get<std::string>(name, v).value_or("") : "";
  }
  bool is_input(Vertex v) const {
    return graph_.vertex_attributes().holds<std::string>("role") ? text("role", v) == "input" : index_.layer[v] == 0;
  }
  std::size_t branch_of(std::int32_t edge) const {
    const AttributeTable& t = graph_.edge_attributes();
    return t.holds<std::int64_t>("branch") ? static_cast<std::size_t>(t.get<std::int64_t>("branch", edge).value_or(0))
                                           : 0;
  }
  float weight_of(std::int32_t edge) const {
    const auto w = graph_.edge_attributes().get<float>("weight", edge);
    check(w.has_value(), "compact: an edge has no weight (edge ", edge, ")");
    return *w;
  }
  template <class F>
  void for_edges(Vertex v, F&& f) const {
    for (std::int32_t k = into_.start[v]; k < into_.start[v + 1]; ++k) f(into_.neighbour[k], into_.edge[k]);
  }
  /// The words of the plural attribute, or the only one of the singular; as many as there are branches.
  std::vector<std::string> branches(const char* plural, const std::string& singular, Vertex v,
                                    std::size_t least) const {
    std::vector<std::string> list;
    const std::string all = text(plural, v);
    for (std::size_t at = 0; at < all.size();) {
      const std::size_t end = std::min(all.find(' ', at), all.size());
      list.push_back(all.substr(at, end - at));
      at = end + 1;
    }
    if (list.empty() && !singular.empty()) list.push_back(singular);
    if (list.size() < least) list.resize(least, "-");
    return list;
  }
  std::vector<std::string> biases(Vertex v) const {
    std::size_t count = 1;
    for_edges(v, [&](Vertex, std::int32_t e) { count = std::max(count, branch_of(e) + 1); });
    const AttributeTable& t = graph_.vertex_attributes();
    const auto one = t.contains("bias") ? t.get<float>("bias", v) : std::nullopt;
    return branches("biases", one ? shortest(*one) : "", v, count);
  }

  /// What each branch gets from constants, all of it where every source is one.
  std::vector<float> constants(Vertex v) const {
    std::vector<float> z;
    for (const std::string& b : biases(v)) z.push_back(b == "-" ? 0 : std::strtof(b.c_str(), nullptr));
    for_edges(v, [&](Vertex u, std::int32_t e) {
      if (constant_[u]) z[branch_of(e)] += weight_of(e) * value_[u];
    });
    return z;
  }

  void find_constants() {
    for (const Vertex v : index_.order) {
      if (is_input(v) || !text("norm", v).empty() || !text("aggregate", v).empty()) continue;
      bool all = true;
      for_edges(v, [&](Vertex u, std::int32_t) { all &= constant_[u] != 0; });
      if (!all) continue;
      const std::vector<float> z = constants(v);
      const auto activations = branches("activations", text("activation", v), v, z.size());
      for (std::size_t r = 0; r < z.size(); ++r)
        value_[v] += activations[r] == "-" ? z[r] : named_activation(activations[r], Tensor::full({1, 1}, z[r])).item();
      constant_[v] = 1;
    }
  }

  /// Inputs, outputs, and all that feed them by an edge that is not folded; norms need all of their group.
  void find_needed() {
    const AttributeTable& t = graph_.vertex_attributes();
    std::map<std::pair<std::int32_t, std::int64_t>, std::vector<Vertex>> groups;  // by layer and number
    std::vector<char> feeds(needed_.size(), 0);
    for (const Edge& e : graph_.edges()) feeds[e.source] = 1;
    const auto group_of = [&](Vertex v) {
      return std::pair{index_.layer[v],
                       t.holds<std::int64_t>("norm_group") ? t.get<std::int64_t>("norm_group", v).value_or(0) : 0};
    };
    for (const Vertex v : index_.order) {
      const std::string norm = text("norm", v);
      if (!norm.empty() && norm != "batch") groups[group_of(v)].push_back(v);
      const bool output = t.holds<std::string>("role") ? text("role", v) == "output" : !feeds[v];
      if (is_input(v) || output) needed_[v] = 1;
    }
    for (auto at = index_.order.rbegin(); at != index_.order.rend();) {  // layer by layer, from the last
      const std::int32_t layer = index_.layer[*at];
      auto end = at;
      while (end != index_.order.rend() && index_.layer[*end] == layer) ++end;
      for (auto v = at; v != end; ++v) {
        const auto group = groups.find(group_of(*v));
        if (needed_[*v] && group != groups.end() && text("norm", *v) != "batch")
          for (const Vertex w : group->second) needed_[w] = 1;
      }
      for (; at != end; ++at) {
        if (!needed_[*at] || constant_[*at]) continue;
        const bool folds = text("aggregate", *at).empty();
        for_edges(*at, [&](Vertex u, std::int32_t) { needed_[u] |= !folds || !constant_[u]; });
      }
    }
  }

  void fold() {
    AttributeTable& t = graph_.vertex_attributes();
    std::vector<std::int32_t> gone;
    for (const Vertex v : index_.order) {
      if (!needed_[v] || is_input(v) || !text("aggregate", v).empty()) continue;
      bool any = false;
      for_edges(v, [&](Vertex u, std::int32_t e) {
        if (!constant_[u]) return;
        any = true;
        gone.push_back(e);
      });
      if (!any) continue;
      const std::vector<float> z = constants(v);
      if (z.size() == 1) {
        t.set("bias", v, z[0]);
        continue;
      }
      std::string all;
      for (std::size_t r = 0; r < z.size(); ++r) all += (r > 0 ? " " : "") + shortest(z[r]);
      t.set("biases", v, all);
    }
    std::sort(gone.begin(), gone.end());
    graph_.remove_edges(gone);
  }

  CompactedGraph cut() {
    std::vector<Vertex> dead;
    for (std::size_t v = 0; v < needed_.size(); ++v)
      if (!needed_[v]) dead.push_back(static_cast<Vertex>(v));
    CompactedGraph result;
    result.vertices = graph_.remove_vertices(dead);
    // Layers without a vertex close up.
    std::vector<std::int32_t> rank(static_cast<std::size_t>(index_.layer_count()) + 1, 0), layer, place;
    for (std::size_t v = 0; v < needed_.size(); ++v)
      if (needed_[v]) rank[index_.layer[v] + 1] = 1;
    std::partial_sum(rank.begin(), rank.end(), rank.begin());
    for (std::size_t v = 0; v < needed_.size(); ++v)
      if (needed_[v]) layer.push_back(rank[index_.layer[v]]);
    std::vector<std::int32_t> next(rank.size(), 0);
    place.resize(layer.size());
    for (const Vertex v : index_.order)
      if (const Vertex now = result.vertices[v]; now >= 0) place[now] = next[layer[now]]++;
    result.graph = LayeredGraph::with_layers(std::move(graph_), std::move(layer), std::move(place));
    return result;
  }

  LayerIndex index_;
  Graph graph_;
  Adjacency into_;
  std::vector<char> constant_, needed_;
  std::vector<float> value_;
};

}  // namespace detail

/// A graph of neurons without those that say nothing: constants go into the biases of what reads them, vertices that
/// reach no output go, layers that become empty close up. Inputs and outputs stay, and so do all members of a layer
/// norm or softmax that is needed. Values, slots and positions of what stays are those of before. O(V + E).
inline CompactedGraph compact(const LayeredGraph& neurons) { return detail::GraphCompactor(neurons).run(); }

/// The same for the network of a graph, by way of its graph.
inline GraphNetwork compact(const GraphNetwork& network) { return from_graph(compact(to_graph(network)).graph); }
inline GraphNetwork compact(const GraphNetwork& network, const Shape& /*example*/) { return compact(network); }

}  // namespace deepstruct
