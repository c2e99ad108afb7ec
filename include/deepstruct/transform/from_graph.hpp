// Graphs → networks: from_graph.
#pragma once

#include "graph_transform.hpp"
#include "neuron_reader.hpp"

namespace deepstruct {

namespace detail {

/// Makes the parts of a network from what a graph says.
class PartMaker : NeuronReader {
 public:
  using NeuronReader::NeuronReader;

  GraphNetwork make() {
    std::vector<GraphPart> parts;
    for (const Run& run : split()) parts.push_back(part(run));
    return {inputs_, std::move(parts), outputs_};
  }

 private:
  struct Run {
    std::int32_t first_layer, last_layer, first, end;  // vertices first … end − 1
    bool dag;
  };

  bool one_branch(std::int32_t first, std::int32_t end) const {
    for (std::int32_t v = first; v < end; ++v)
      if (branches_of(v) != 1) return false;
    return true;
  }
  /// What layered_dag could do with a layer: all of it joint, one branch a vertex, or by branches, all of them ReLUs.
  struct DagUse {
    bool joint = false, by_branches = false, was_dag = false;
  };
  DagUse dag_use(std::int32_t layer) const {
    DagUse use{one_branch(first_of(layer), index_.start[layer + 1]), true, false};
    for (std::int32_t v = first_of(layer); v < index_.start[layer + 1]; ++v) {
      if (!text("norm", v).empty() || !text("aggregate", v).empty()) return {};
      for (std::int32_t r = row_start_[v]; r < row_start_[v + 1]; ++r) {
        const std::string& name = names_[rows_[r].activation];
        use.by_branches &= name == "relu";
        use.joint &= std::find(activation_names.begin(), activation_names.end(), name) != activation_names.end();
      }
    }
    use.was_dag = (use.joint || use.by_branches) && text("operation", first_of(layer)) == "layered_dag";
    return use;
  }
  /// Layers that are computed together: those that layered_dag computed before, or that a skip connection spans.
  std::vector<Run> split() const {
    const auto layers = static_cast<std::int32_t>(index_.layer_count());
    std::vector<std::int32_t> spanned(static_cast<std::size_t>(layers) + 1,
                                      0);  // skip connections over the layer's start
    for (std::int32_t v = inputs_; v < index_.start[layers]; ++v)
      for (std::int32_t k = edge_start_[v]; k < edge_start_[v + 1]; ++k)
        if (const std::int32_t from = layer_of(source(k)) + 2, to = layer_of(v); from <= to) {
          ++spanned[from];
          --spanned[to + 1];
        }
    std::partial_sum(spanned.begin(), spanned.end(), spanned.begin());
    std::vector<Run> runs;
    DagUse use;
    for (std::int32_t l = 0; l < layers; ++l) {
      if (first_of(l) >= index_.start[l + 1]) continue;
      const DagUse own = dag_use(l);
      const DagUse both{use.joint && own.joint, use.by_branches && own.by_branches, own.was_dag};
      const auto tied = [&] {
        return own.was_dag ? text("module", first_of(l)) == text("module", first_of(l) - 1) : spanned[l] > 0;
      };
      if (!runs.empty() && tied() && own.was_dag == use.was_dag && (both.joint || both.by_branches)) {
        runs.back().last_layer = l;
        runs.back().end = index_.start[l + 1];
        runs.back().dag = true;
        use = both;
      } else {
        cut(l, own.was_dag, runs);
        use = own;
      }
    }
    return runs;
  }
  /// A layer as runs of vertices that are aggregated and normalised alike.
  void cut(std::int32_t l, bool dag, std::vector<Run>& runs) const {
    const auto alike = [&](std::int32_t a, std::int32_t b) {
      return text("aggregate", a) == text("aggregate", b) && text("norm", a) == text("norm", b) &&
             number_at("norm_eps", a) == number_at("norm_eps", b);
    };
    std::int32_t before = 0;  // vertices of the group before
    for (std::int32_t v = first_of(l), end = index_.start[l + 1]; v < end;) {
      std::int32_t w = v + 1;
      const bool grouped = !text("norm", v).empty() && text("norm", v) != "batch";
      while (w < end && alike(v, w) && (!grouped || group(w) == group(v))) ++w;
      const bool joins = grouped && v > first_of(l) && alike(v - 1, v) && w - v == before;
      if (joins)
        runs.back().end = w;
      else
        runs.push_back({l, l, v, w, dag});
      before = w - v;
      v = w;
    }
  }
  std::int32_t group(std::int32_t v) const {
    return whole_of(vertices_, "norm_group", order_[v], "groups of a norm", who(v));
  }

  GraphPart part(const Run& run) {
    const bool dag = run.dag;
    auto shape = std::make_shared<GraphPartShape>();
    GraphPartShape& s = *shape;
    s.first = run.first;
    s.end = run.end;
    for (std::int32_t l = run.first_layer; l <= run.last_layer; ++l)
      s.layer_start.push_back(std::max(s.first, first_of(l)));
    s.layer_start.push_back(s.end);
    const std::int32_t row = row_start_[s.first], row_end = row_start_[s.end];
    const bool single = one_branch(s.first, s.end);
    // What it sees: whole layers before it, from that of its lowest source.
    std::int32_t lowest = std::max(0, run.first_layer - 1);
    for (std::int32_t k = edge_start_[s.first]; k < edge_start_[s.end]; ++k)
      lowest = std::min(lowest, layer_of(source(k)));
    s.reads = index_.start[lowest];
    s.until = std::max(s.reads, run.first_layer == 0 ? inputs_ : index_.start[run.first_layer]);

    const std::int32_t visible = (dag ? s.end : s.until) - s.reads;
    std::size_t most = 1;
    for (std::int32_t v = s.first; v < s.end; ++v) most = std::max(most, static_cast<std::size_t>(branches_of(v)));
    check(dag || most * static_cast<std::size_t>(s.count()) <= (rows_.size() << 4) + (1 << 20),
          "from_graph: one vertex has too many branches for its layer (", most, " with ", s.count(), " vertices)");
    GraphPart p{dag ? masked(own_rows(row, row_end), s.reads, visible, true)
                    : masked(branch_rows(s, 0), s.reads, visible, false),
                {},
                {},
                {},
                {},
                {},
                nullptr};
    for (std::size_t k = 1; k < most && !dag; ++k)
      p.branches.push_back(masked(branch_rows(s, k), s.reads, visible, false));
    s.activations = names_;
    for (std::size_t k = 0; k < most; ++k) {
      s.activation.emplace_back();
      for (const Row* r : branch_rows(s, k)) s.activation.back().push_back(r ? r->activation : 0);
    }
    const std::uint8_t first_of_all = s.activation[0].empty() ? 0 : s.activation[0][0];
    if (std::all_of(s.activation.begin(), s.activation.end(), [&](const auto& of) {
          return std::all_of(of.begin(), of.end(), [&](std::uint8_t a) { return a == first_of_all; });
        })) {
      s.activations = {names_[first_of_all]};
      s.activation.clear();
    }
    if (dag) {
      s.kind = GraphPartShape::Kind::dag;
      wire(s, single, row);
    } else {
      aggregate(s);
      normalise(s, p);
    }
    for (std::int32_t v = s.first; v < s.end; ++v) {
      s.module.push_back(text("module", v));
      s.operation.push_back(text("operation", v));
    }
    p.shape = std::move(shape);
    return p;
  }
  /// The rows of a DAG, vertex by vertex.
  std::vector<const Row*> own_rows(std::int32_t row, std::int32_t end) const {
    std::vector<const Row*> all;
    for (std::int32_t r = row; r < end; ++r) all.push_back(&rows_[r]);
    return all;
  }
  /// The k-th branch of every vertex, null where there is none.
  std::vector<const Row*> branch_rows(const GraphPartShape& s, std::size_t k) const {
    std::vector<const Row*> all;
    for (std::int32_t v = s.first; v < s.end; ++v)
      all.push_back(row_start_[v] + static_cast<std::int32_t>(k) < row_start_[v + 1] ? &rows_[row_start_[v] + k]
                                                                                     : nullptr);
    return all;
  }
  /// A packed layer of these rows, with what optimizers remember.
  MaskedLinearLayer masked(const std::vector<const Row*>& rows, std::int32_t reads, std::int32_t visible,
                           bool with_bias) const {
    std::vector<std::int32_t> start{0}, col;
    std::vector<float> values, biases;
    for (const Row* r : rows) {
      for (std::int32_t k = r ? r->begin : 0; r && k < r->end; ++k) {
        col.push_back(source(k) - reads);
        values.push_back(weight_[k]);
      }
      start.push_back(static_cast<std::int32_t>(col.size()));
      biases.push_back(r ? r->bias : 0);
      with_bias |= r && r->biased;
    }
    const auto of = [](const std::vector<float>& v) { return Tensor::from({static_cast<std::int64_t>(v.size())}, v); };
    std::optional<Tensor> bias;
    if (with_bias) bias = of(biases);
    MaskedLinearLayer layer(Mask::from_csr(static_cast<std::int64_t>(rows.size()), visible, start, col), of(values),
                            std::move(bias), true);
    for (const auto& [name, all] : weight_slots_) {
      std::vector<float> own;
      for (const Row* r : rows)
        if (r) own.insert(own.end(), all.begin() + r->begin, all.begin() + r->end);
      layer.weight.slot(name) = of(own);
    }
    for (const auto& [name, all] : bias_slots_) {
      std::vector<float> own;
      for (const Row* r : rows) own.push_back(r ? all[r - rows_.data()] : 0);
      if (layer.bias) layer.bias->slot(name) = of(own);
    }
    return layer;
  }
  void wire(GraphPartShape& s, bool joint, std::int32_t row) const {
    auto w = std::make_shared<DagWiring>();
    w->inputs = s.first - s.reads;
    w->vertices = s.end - s.reads;
    if (!joint)
      for (std::int32_t v = s.first; v <= s.end; ++v) w->row_start.push_back(row_start_[v] - row);
    if (joint)
      for (std::int64_t r = 0; r < s.count(); ++r) {
        const std::string& name = s.activations[s.activation.empty() ? 0 : s.activation[0][r]];
        w->activation.push_back(static_cast<VertexActivation>(
            std::find(activation_names.begin(), activation_names.end(), name) - activation_names.begin()));
      }
    if (std::all_of(w->activation.begin(), w->activation.end(),
                    [](VertexActivation f) { return f == VertexActivation::relu; }))
      w->activation.clear();
    for (std::int32_t v = s.first; v < s.end; ++v) w->output.push_back(v - s.reads);
    w->layer_start.push_back(0);
    for (const std::int32_t v : s.layer_start) w->layer_start.push_back(v - s.reads);
    s.wiring = std::move(w);
  }
  void aggregate(GraphPartShape& s) const {
    const std::string how = text("aggregate", s.first);
    check(how.empty() || how == "sum" || how == "max", "from_graph: vertices aggregate by sum or max (", how,
          " of vertex ", id(s.first), ")");
    if (how != "max") return;
    s.kind = GraphPartShape::Kind::maximum;
    for (std::int32_t v = s.first; v < s.end; ++v) {
      check(edge_start_[v + 1] > edge_start_[v] && branches_of(v) == 1,
            "from_graph: a greatest has one branch with an edge (", edge_start_[v + 1] - edge_start_[v], " edges, ",
            branches_of(v), " branches of vertex ", id(v), ")");
      for (std::int32_t k = edge_start_[v]; k < edge_start_[v + 1]; ++k)
        check(weight_[k] == 1, "from_graph: edges of a greatest have weight 1 (", weight_[k], " into vertex ", id(v),
              ")");
    }
  }
  void normalise(GraphPartShape& s, GraphPart& p) const {
    s.norm = text("norm", s.first);
    if (s.norm.empty()) return;
    check(s.norm == "layer" || s.norm == "batch" || s.norm == "softmax" || s.norm == "log_softmax",
          "from_graph: norms are layer, batch, softmax and log_softmax (", s.norm, " of vertex ", id(s.first), ")");
    s.eps = number_at("norm_eps", s.first).value_or(1e-5f);
    s.group = 1;
    while (s.norm != "batch" && s.group < s.count() &&
           group(s.first + static_cast<std::int32_t>(s.group)) == group(s.first))
      ++s.group;
    const auto values = [&](const std::string& name, float otherwise) {
      std::optional<Tensor> t;
      for (std::int32_t v = s.first; v < s.end; ++v)
        if (const auto x = number_at(name, v)) {
          if (!t) t = Tensor::full({s.count()}, otherwise);
          (*t)(v - s.first) = *x;
        }
      return t;
    };
    if (auto w = values("norm_weight", 1)) p.norm_weight = Param(*std::move(w));
    if (auto b = values("norm_bias", 0)) p.norm_bias = Param(*std::move(b));
    for (const std::string& name : vertices_.names())
      for (auto* param : {&p.norm_weight, &p.norm_bias})
        if (const std::string prefix = param == &p.norm_weight ? "norm_weight." : "norm_bias.";
            *param && name.starts_with(prefix))
          if (auto slot = values(name, 0)) (*param)->slot(name.substr(prefix.size())) = *std::move(slot);
    if (s.norm != "batch") return;
    p.norm_mean = values("norm_mean", 0).value_or(Tensor::zeros({s.count()}));
    p.norm_variance = values("norm_variance", 1).value_or(Tensor::ones({s.count()}));
  }
};

}  // namespace detail

/// to_graph of a network from a graph: its vertices keep the names of what they came from.
inline LayeredGraph to_graph(const GraphNetwork& network, const Shape& example, const ExtractOptions& options = {}) {
  LayeredGraph g =
      detail::neuron_graph(detail::neurons_of(network, example, options), options.weights, options.positions);
  for (const GraphPart& part : network.layers)
    for (std::int32_t v = part.shape->first; v < part.shape->end; ++v) {
      const auto k = static_cast<std::size_t>(v - part.shape->first);
      if (!part.shape->module[k].empty()) g.vertex_attributes().set("module", v, part.shape->module[k]);
      if (!part.shape->operation[k].empty()) g.vertex_attributes().set("operation", v, part.shape->operation[k]);
    }
  return g;
}
inline LayeredGraph to_graph(const GraphNetwork& network) { return to_graph(network, Shape{1, network.inputs()}); }

/// The network that a graph describes: that of to_graph, changed or not, or any layered graph, one neuron a vertex.
///
/// transform/neurons.hpp names the attributes it reads. Without "role" the first layer are the inputs and vertices that
/// feed nothing the outputs; without "weight" weights are drawn U(±√(6/d)), d the edges into a vertex (He et al. 2015);
/// without activations too, hidden vertices have that of the options. What optimizers remember comes back too, so
/// training goes on. A network packed, made a graph, and made a network again gives the same bits for the same batch
/// and instruction set. O(V + E log(largest degree)). Throws on attributes it cannot read, naming the vertex, and on a
/// cycle.
inline GraphNetwork from_graph(const LayeredGraph& graph, const FromGraphOptions& options = {},
                               Rng& rng = default_rng()) {
  return detail::PartMaker(graph, options, rng).make();
}

}  // namespace deepstruct
