// The layers of a MaskedDeepDAN, its options, and how the edges of a graph become branches.
#pragma once

#include "../graph/layered_graph.hpp"
#include "../nn/masked_linear.hpp"
#include "../ops/dag.hpp"

namespace deepstruct {

/// Options of MaskedDeepDAN.
struct MaskedDeepDANOptions {
  bool use_layer_norm = false;      ///< of the sums that the layer before gives, before their ReLU; keeps layers apart
  storage store = storage::packed;  ///< packed: all edges in one CSR; full: a masked layer per pair of layers
  bool joint = false;               ///< packed: one sum, bias and activation a vertex instead of one per source layer
  bool all_sinks = false;           ///< every vertex without an outgoing edge feeds the output, not the last layer
  bool degree_aware = false;        ///< weights U(±√(6/d)), d the edges into a vertex, and no bias (He et al. 2015)
  std::optional<Mask> input_wiring = {};   ///< [first layer, inputs]; full by default
  std::optional<Mask> output_wiring = {};  ///< [outputs, last layer or sinks]; full by default
};

namespace detail {

/// Names of VertexActivation as the vertex attribute "activation" has them, in order.
inline constexpr std::array<std::string_view, 4> activation_names{"none", "relu", "tanh", "sigmoid"};

/// A source and a target layer.
struct LayerPair {
  std::int32_t source, target;
};

/// What never changes of a MaskedDeepDAN: its layers, and which of them are connected. Vertices are numbered layer by
/// layer.
struct DanLayers {
  std::vector<std::int32_t> first;                 // vertex of every layer, and the end
  std::vector<std::vector<std::int32_t>> sources;  // of every layer: the layers that feed it, ascending
  std::vector<std::int64_t> first_skip;            // of every layer: number of the first skip connection into it
  std::shared_ptr<const DagWiring> wiring;
  std::optional<Mask> picks;  // of the outputs, by pick_vertices

  DanLayers() = default;
  DanLayers(const LayeredGraph& g, const MaskedDeepDANOptions& options) {
    check(g.vertex_count() > 0, "MaskedDeepDAN: the structure needs at least one vertex (0)");
    check(!(options.joint && (options.use_layer_norm || options.store == storage::full)),
          "MaskedDeepDAN: joint needs packed storage without layer norm (",
          options.use_layer_norm ? "layer norm" : "full storage", ")");
    for (const Edge& e : g.graph().edges())
      check(e.source != e.target, "MaskedDeepDAN: a vertex cannot feed itself (", g.id(e.source), ")");
    const LayerIndex& index = g.index();
    first = index.start;
    sources.resize(static_cast<std::size_t>(index.layer_count()));
    for (std::size_t l = 1; l < sources.size(); ++l) sources[l].push_back(static_cast<std::int32_t>(l) - 1);
    for (const LayerConnection& c : index.connections)
      if (c.source_layer + 1 < c.target_layer) sources[c.target_layer].push_back(c.source_layer);
    for (auto& list : sources) std::sort(list.begin(), list.end());
    auto w = std::make_shared<DagWiring>(number(options.joint));
    activations(g, options, *w);
    if (options.all_sinks) {
      std::vector<char> feeds(static_cast<std::size_t>(w->vertices), 0);
      for (const Edge& e : g.graph().edges()) feeds[e.source] = 1;
      for (std::size_t v = 0; v < index.order.size(); ++v)
        if (!feeds[index.order[v]]) w->output.push_back(static_cast<std::int32_t>(v));
    } else {
      for (std::int32_t v = first[first.size() - 2]; v < first.back(); ++v) w->output.push_back(v);
    }
    set_wiring(std::move(w));
  }
  void set_wiring(std::shared_ptr<const DagWiring> w) {
    wiring = std::move(w);
    picks = vertex_picks(wiring->output, wiring->vertices);
  }

  /// Numbers skip connections and branches by `first` and `sources`; returns a wiring that lacks activations and
  /// outputs.
  DagWiring number(bool joint) {
    std::int64_t skips = 0;
    first_skip.clear();
    for (const auto& list : sources) {
      first_skip.push_back(skips);
      skips += std::max<std::int64_t>(0, static_cast<std::int64_t>(list.size()) - 1);
    }
    DagWiring w;
    w.inputs = first[1];
    w.vertices = first.back();
    w.layer_start = first;
    if (joint) return w;
    w.row_start.reserve(static_cast<std::size_t>(w.vertices - w.inputs) + 1);
    w.row_start.push_back(0);
    for (std::size_t l = 1; l < sources.size(); ++l)
      for (std::int32_t v = first[l]; v < first[l + 1]; ++v) {
        const std::int64_t rows = w.row_start.back() + static_cast<std::int64_t>(sources[l].size());
        check(rows < std::numeric_limits<std::int32_t>::max(), "MaskedDeepDAN: too many branches (", rows, ")");
        w.row_start.push_back(static_cast<std::int32_t>(rows));
      }
    return w;
  }

  std::int64_t count() const { return static_cast<std::int64_t>(first.size()) - 1; }
  /// Connected layers, by target, then source: the order of the original's skip layers.
  std::vector<LayerPair> pairs() const {
    std::vector<LayerPair> all;
    for (std::int32_t t = 1; t < count(); ++t)
      for (const std::int32_t s : sources[t]) all.push_back({s, t});
    return all;
  }
  /// The branch of the r-th vertex of a pair's target layer.
  std::int32_t row_of(LayerPair pair, std::int64_t r) const {
    const auto& list = sources[pair.target];
    const auto at = wiring->joint() ? 0 : std::find(list.begin(), list.end(), pair.source) - list.begin();
    return static_cast<std::int32_t>(wiring->row_of(first[pair.target] + r - wiring->inputs) + at);
  }
  /// Calls f(number of the pair, row within its target layer, branch) for all branches in order.
  template <class F>
  void for_each_branch(F&& f) const {
    std::int32_t branch = 0;
    std::size_t number = 0;
    for (std::int64_t t = 1; t < count(); ++t) {
      for (std::int64_t r = 0; r < first[t + 1] - first[t]; ++r)
        for (std::size_t k = 0; k < sources[t].size(); ++k) f(number + k, r, branch++);
      number += sources[t].size();
    }
  }
  /// The edges of the graph as rows of branches. Rows are sorted as sources are visited in their order: O(V + E).
  Mask branches(const LayeredGraph& g) const {
    const LayerIndex& index = g.index();
    std::vector<std::int32_t> number(index.order.size()), begin(index.order.size() + 1, 0),
        col(g.graph().edges().size());
    for (std::size_t v = 0; v < index.order.size(); ++v) number[index.order[v]] = static_cast<std::int32_t>(v);
    for (const Edge& e : g.graph().edges()) ++begin[number[e.target] + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    {
      const Adjacency after = successors(g.graph());
      std::vector<std::int32_t> next(begin.begin(), begin.end() - 1);
      for (std::size_t u = 0; u < index.order.size(); ++u)
        for (const Vertex v : after.of(index.order[u])) col[next[number[v]]++] = static_cast<std::int32_t>(u);
    }
    const DagWiring& w = *wiring;
    if (w.joint()) return Mask::from_csr(w.rows(), w.vertices, std::span(begin).subspan(w.inputs), col);
    std::vector<std::int32_t> rows{0};
    rows.reserve(static_cast<std::size_t>(w.rows()) + 1);
    for (std::int64_t t = 1; t < count(); ++t)
      for (std::int32_t v = first[t]; v < first[t + 1]; ++v) {
        std::int32_t e = begin[v];
        for (const std::int32_t s : sources[t]) {
          while (e < begin[v + 1] && col[e] < first[s + 1]) ++e;
          rows.push_back(e);
        }
      }
    return Mask::from_csr(w.rows(), w.vertices, rows, col);
  }

 private:
  void activations(const LayeredGraph& g, const MaskedDeepDANOptions& options, DagWiring& w) const {
    const AttributeTable& attributes = g.vertex_attributes();
    if (!attributes.contains("activation")) return;
    const LayerIndex& index = g.index();
    for (std::int64_t v = w.inputs; v < w.vertices; ++v) {
      const std::string name = attributes.get<std::string>("activation", index.order[v]).value_or("relu");
      const auto found = std::find(activation_names.begin(), activation_names.end(), name);
      check(found != activation_names.end(), "MaskedDeepDAN: activations are none, relu, tanh and sigmoid (", name,
            ")");
      const auto f = static_cast<VertexActivation>(found - activation_names.begin());
      if (f == VertexActivation::relu && w.activation.empty()) continue;
      check(options.joint, "MaskedDeepDAN: activations other than relu need a joint network (", name, ")");
      w.activation.resize(static_cast<std::size_t>(w.vertices - w.inputs), VertexActivation::relu);
      w.activation[v - w.inputs] = f;
    }
  }
};

}  // namespace detail

}  // namespace deepstruct
