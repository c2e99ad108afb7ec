// compact of graphs of neurons, and of the networks they describe.
#pragma once

#include "compact.hpp"
#include "from_graph.hpp"

namespace deepstruct {

/// A smaller graph of neurons, and what became of every vertex.
struct CompactedGraph {
  LayeredGraph graph;
  std::vector<Vertex> vertices;  ///< of every place of before the place now, −1 where it is gone
};

namespace detail {

/// Removes what a graph of neurons does not need: constants go into biases, dead ends go altogether.
class GraphCompactor : NeuronReader {
 public:
  using NeuronReader::NeuronReader;

  CompactedGraph run() {
    check(edges_.contains("weight") || g_.edge_count() == 0, "compact: the graph has no weights (", g_.edge_count(),
          " edges)");
    constant_.assign(order_.size(), 0);
    needed_.assign(order_.size(), 0);
    value_.assign(order_.size(), 0);
    find_constants();
    find_needed();
    return cut(folded());
  }

 private:
  bool sums(std::int32_t v) const { return text("aggregate", v) != "max"; }
  bool couples(std::int32_t v) const {
    const std::string norm = text("norm", v);
    return !norm.empty() && norm != "batch";
  }
  /// The bias of a branch, with what its constant sources give.
  float bias_of(const Row& row) const {
    float z = row.bias;
    for (std::int32_t k = row.begin; k < row.end; ++k)
      if (constant_[source(k)]) z += weight_[k] * value_[source(k)];
    return z;
  }

  void find_constants() {
    for (auto v = inputs_; v < static_cast<std::int32_t>(order_.size()); ++v) {
      if (!text("norm", v).empty() || !sums(v)) continue;
      bool all = true;
      for (std::int32_t k = edge_start_[v]; k < edge_start_[v + 1]; ++k) all &= constant_[source(k)] != 0;
      if (!all) continue;
      for (std::int32_t r = row_start_[v]; r < row_start_[v + 1]; ++r)
        value_[v] += named_activation(names_[rows_[r].activation], Tensor::full({1, 1}, bias_of(rows_[r]))).item();
      constant_[v] = 1;
    }
  }

  /// Inputs, outputs, and all that feed them by an edge that is not folded; norms need all of their group.
  void find_needed() {
    std::map<std::pair<std::int32_t, std::int32_t>, std::vector<std::int32_t>> groups;  // by layer and number
    const auto group_of = [&](std::int32_t v) {
      return std::pair{layer_of(v), whole_of(vertices_, "norm_group", order_[v], "groups of a norm", who(v))};
    };
    const auto n = static_cast<std::int32_t>(order_.size());
    for (std::int32_t v = 0; v < n; ++v) {
      needed_[v] = v < inputs_;
      if (couples(v)) groups[group_of(v)].push_back(v);
    }
    for (const std::int32_t v : outputs_) needed_[v] = 1;
    for (std::int32_t end = n; end > inputs_;) {  // layer by layer, from the last
      std::int32_t first = end - 1;
      while (first > inputs_ && layer_of(first - 1) == layer_of(end - 1)) --first;
      for (std::int32_t v = first; v < end; ++v)
        if (needed_[v] && couples(v))
          for (const std::int32_t w : std::exchange(groups[group_of(v)], {})) needed_[w] = 1;
      for (std::int32_t v = first; v < end; ++v)
        for (std::int32_t k = edge_start_[v]; needed_[v] && k < edge_start_[v + 1]; ++k)
          needed_[source(k)] |= !sums(v) || !constant_[source(k)];
      end = first;
    }
  }

  /// The graph with the constants in the biases, without the edges from them.
  Graph folded() const {
    Graph graph = g_.graph();
    AttributeTable& t = graph.vertex_attributes();
    std::vector<std::int32_t> gone;
    for (auto v = inputs_; v < static_cast<std::int32_t>(order_.size()); ++v) {
      if (!needed_[v] || !sums(v)) continue;
      const std::size_t before = gone.size();
      for (std::int32_t k = edge_start_[v]; k < edge_start_[v + 1]; ++k)
        if (constant_[source(k)]) gone.push_back(sorted_[k]);
      if (gone.size() == before) continue;
      std::string all;
      for (std::int32_t r = row_start_[v]; r < row_start_[v + 1]; ++r)
        all += (r > row_start_[v] ? " " : "") + shortest(bias_of(rows_[r]));
      if (branches_of(v) == 1 && (!t.contains("bias") || t.holds<float>("bias")))
        t.set("bias", order_[v], bias_of(rows_[row_start_[v]]));
      else
        t.set("biases", order_[v], all);
    }
    graph.remove_edges(gone);
    return graph;
  }

  CompactedGraph cut(Graph graph) const {
    std::vector<Vertex> dead;
    for (std::size_t v = 0; v < needed_.size(); ++v)
      if (!needed_[v]) dead.push_back(order_[v]);
    CompactedGraph result;
    result.vertices = graph.remove_vertices(dead);
    // Layers without a vertex close up.
    std::vector<std::int32_t> layer(static_cast<std::size_t>(graph.vertex_count())), place(layer.size());
    std::int32_t now = -1, before = -1, next = 0;
    for (std::size_t v = 0; v < needed_.size(); ++v) {
      if (!needed_[v]) continue;
      if (const std::int32_t l = layer_of(static_cast<std::int32_t>(v)); l != before) before = l, ++now, next = 0;
      layer[result.vertices[order_[v]]] = now;
      place[result.vertices[order_[v]]] = next++;
    }
    result.graph = LayeredGraph::with_layers(std::move(graph), std::move(layer), std::move(place));
    return result;
  }

  std::vector<char> constant_, needed_;  // by numbers of vertices, as is value_
  std::vector<float> value_;
};

}  // namespace detail

/// A graph of neurons without those that say nothing: constants go into the biases of what reads them, vertices that
/// reach no output go, layers that become empty close up. Inputs and outputs stay, and so do all members of a layer
/// norm or softmax that is needed. Values, slots and positions of what stays are those of before. O((V + E) log V).
/// Throws on what from_graph refuses, and on a graph without weights.
inline CompactedGraph compact(const LayeredGraph& neurons) {
  Rng unused;
  const FromGraphOptions options;
  return detail::GraphCompactor(neurons, options, unused).run();
}

/// The same for the network of a graph, by way of its graph: units has "vertices", old → new. Weights of 0 are edges.
inline Compacted<GraphNetwork> compact(const GraphNetwork& network, const Shape& /*example*/ = {},
                                       const CompactOptions& options = {}) {
  check(options.zeros_are_edges, "compact: networks from graphs keep edges of weight 0 (zeros_are_edges = false)");
  const LayeredGraph graph = to_graph(network);
  CompactedGraph smaller = compact(graph);
  Compacted<GraphNetwork> result{from_graph(smaller.graph), {}, {{"vertices", std::move(smaller.vertices)}}};
  const detail::ModelSize before(network), after(result.model);
  result.report.layers.push_back(
      {"vertices", graph.vertex_count(), smaller.graph.vertex_count(), before.parameters, after.parameters});
  result.report.parameters_before = before.parameters;
  result.report.parameters = after.parameters;
  result.report.bytes_before = before.bytes;
  result.report.bytes = after.bytes;
  result.report.multiply_adds_before = graph.edge_count();
  result.report.multiply_adds = smaller.graph.edge_count();
  return result;
}

}  // namespace deepstruct
