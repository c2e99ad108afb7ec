// Graphs → networks: from_graph.
#pragma once

#include <charconv>

#include "../models/graph_network.hpp"
#include "graph_transform.hpp"

namespace deepstruct {

/// How from_graph reads a graph that says less than to_graph does.
struct FromGraphOptions {
  std::string activation = "relu";  ///< of hidden vertices, in a graph without weights and activations
};

namespace detail {

/// A graph of neurons with vertices numbered layer by layer, edges sorted by target, branch and position.
class GraphReader {
 public:
  GraphReader(const LayeredGraph& g, const FromGraphOptions& options, Rng& rng)
      : g_(g),
        index_(g.index()),
        vertices_(g.vertex_attributes()),
        edges_(g.edge_attributes()),
        options_(options),
        rng_(rng) {}

  GraphNetwork read() {
    check(g_.vertex_count() > 0, "from_graph: the graph has no vertices (0)");
    number();
    roles();
    rows();
    std::vector<GraphPart> parts;
    for (const auto& [first, last, dag] : split()) parts.push_back(part(first, last, dag));
    return {inputs_, std::move(parts), outputs_};
  }

 private:
  struct Row {
    std::int32_t begin = 0, end = 0;  // of sorted_
    float bias = 0;
    bool biased = false;
    std::uint8_t activation = 0;
  };
  struct Run {
    std::int32_t first, last;  // layers
    bool dag;
  };

  std::int64_t id(std::int32_t number) const { return g_.id(order_[number]); }
  std::string text(const char* name, std::int32_t v) const {
    return vertices_.holds<std::string>(name) ? vertices_.get<std::string>(name, order_[v]).value_or("") : "";
  }
  std::optional<float> number_at(const std::string& name, std::int32_t v) const {
    if (!vertices_.contains(name)) return std::nullopt;
    const auto value = vertices_.value(name, order_[v]);
    if (!value) return std::nullopt;
    return std::visit(
        [&](const auto& x) -> float {
          if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(x)>>)
            return static_cast<float>(x);
          else
            fail("from_graph: an attribute is no number (", name, " of vertex ", id(v), ": ", x, ")");
        },
        *value);
  }

  /// Vertices in order of their layers; sources and targets by these numbers.
  void number() {
    order_ = index_.order;
    number_.resize(order_.size());
    for (std::size_t v = 0; v < order_.size(); ++v) number_[order_[v]] = static_cast<std::int32_t>(v);
    const auto all = g_.graph().edges();
    const auto column = [&](const char* name) {
      std::vector<std::int64_t> values(all.size(), 0);
      for (std::size_t k = 0; k < all.size() && edges_.holds<std::int64_t>(name); ++k)
        values[k] = edges_.get<std::int64_t>(name, static_cast<std::int64_t>(k)).value_or(0);
      return values;
    };
    branch_ = column("branch");
    for (std::size_t k = 0; k < all.size(); ++k) {
      check(branch_[k] >= 0 && branch_[k] < std::numeric_limits<std::int32_t>::max(),
            "from_graph: branches are numbered 0, 1, ... (", branch_[k], " of edge ", g_.id(all[k].source), " to ",
            g_.id(all[k].target), ")");
      check(all[k].source != all[k].target, "from_graph: a vertex cannot feed itself (", g_.id(all[k].source), ")");
    }
    // Edges by target; those of a branch by source, the order of masks and of sums.
    std::vector<std::int32_t> next(order_.size() + 1, 0), by_source(all.size());
    for (const Edge& e : all) ++next[number_[e.source] + 1];
    std::partial_sum(next.begin(), next.end(), next.begin());
    for (std::size_t k = 0; k < all.size(); ++k)
      by_source[next[number_[all[k].source]]++] = static_cast<std::int32_t>(k);
    edge_start_.assign(order_.size() + 1, 0);
    for (const Edge& e : all) ++edge_start_[number_[e.target] + 1];
    std::partial_sum(edge_start_.begin(), edge_start_.end(), edge_start_.begin());
    sorted_.resize(all.size());
    std::vector<std::int32_t> at(edge_start_.begin(), edge_start_.end() - 1);
    for (const std::int32_t k : by_source) sorted_[at[number_[all[k].target]]++] = k;
    if (edges_.holds<std::int64_t>("branch"))
      for (std::size_t v = 0; v < order_.size(); ++v)
        std::stable_sort(sorted_.begin() + edge_start_[v], sorted_.begin() + edge_start_[v + 1],
                         [&](std::int32_t a, std::int32_t b) { return branch_[a] < branch_[b]; });
    weigh();
  }
  /// The weights, or where the graph has none, drawn as the network is wide: U(±√(6/d)), d the edges into a vertex.
  void weigh() {
    const std::size_t n = sorted_.size();
    weight_.resize(n);
    if (!edges_.contains("weight")) {
      DrawInOrder draw(rng_.draw());
      for (std::size_t v = 0; v < order_.size(); ++v) {
        const float bound = std::sqrt(6.0f / static_cast<float>(std::max(1, edge_start_[v + 1] - edge_start_[v])));
        for (std::int32_t k = edge_start_[v]; k < edge_start_[v + 1]; ++k)
          weight_[k] = draw.uniform(static_cast<std::uint64_t>(k), -bound, bound);
      }
      return;
    }
    for (std::size_t k = 0; k < n; ++k) weight_[k] = edge_number("weight", sorted_[k], true);
    for (const std::string& name : edges_.names())
      if (name.starts_with("weight.")) {
        auto& slot = weight_slots_[name.substr(7)];
        slot.resize(n);
        for (std::size_t k = 0; k < n; ++k) slot[k] = edge_number(name, sorted_[k], false);
      }
  }
  float edge_number(const std::string& name, std::int32_t k, bool needed) const {
    if (edges_.holds<float>(name)) {
      const auto x = edges_.get<float>(name, k);
      if (x) return *x;
    } else if (edges_.holds<double>(name)) {
      if (const auto x = edges_.get<double>(name, k)) return static_cast<float>(*x);
    } else if (edges_.holds<std::int64_t>(name)) {
      if (const auto x = edges_.get<std::int64_t>(name, k)) return static_cast<float>(*x);
    }
    const Edge& e = g_.graph().edges()[static_cast<std::size_t>(k)];
    check(!needed, "from_graph: an edge has no number as weight (", g_.id(e.source), " to ", g_.id(e.target), ")");
    return 0;
  }

  /// Inputs come first, and nothing leads to them; outputs are named, or else all that feed nothing.
  void roles() {
    const auto n = static_cast<std::int32_t>(order_.size());
    std::vector<char> feeds(order_.size(), 0);
    for (const Edge& e : g_.graph().edges()) feeds[number_[e.source]] = 1;
    const bool named = vertices_.holds<std::string>("role");
    for (std::int32_t v = 0; v < n; ++v) {
      const std::string role = text("role", v);
      check(role.empty() || role == "input" || role == "hidden" || role == "output",
            "from_graph: roles are input, hidden and output (", role, " of vertex ", id(v), ")");
      const bool input = named ? role == "input" : index_.layer[order_[v]] == 0;
      if (input) {
        check(edge_start_[v] == edge_start_[v + 1], "from_graph: an edge leads to an input (vertex ", id(v), ")");
        check(v == inputs_, "from_graph: inputs must be the first vertices of the first layer (vertex ", id(v), ")");
        ++inputs_;
      }
      if (named ? role == "output" : !feeds[v]) outputs_.push_back(v);
    }
  }

  static std::vector<std::string> words(const std::string& all) {
    std::vector<std::string> list;
    for (std::size_t at = 0; at < all.size();) {
      const std::size_t end = std::min(all.find(' ', at), all.size());
      list.push_back(all.substr(at, end - at));
      at = end + 1;
    }
    return list;
  }
  float parsed(const std::string& word, std::int32_t v) const {
    float x = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), x);
    check(error == std::errc() && end == word.data() + word.size(), "from_graph: not a number (", word, " of vertex ",
          id(v), ")");
    return x;
  }
  std::uint8_t activation(const std::string& name) {
    const auto at = static_cast<std::size_t>(std::find(names_.begin(), names_.end(), name) - names_.begin());
    if (at == names_.size()) {
      check(names_.size() < 255, "from_graph: more than 255 different activations (", name, ")");
      named_activation(name, Tensor::zeros({1, 1}));  // throws on one that does not exist
      names_.push_back(name);
    }
    return static_cast<std::uint8_t>(at);
  }

  /// The branches of every vertex behind the inputs.
  void rows() {
    const bool default_activation =
        !edges_.contains("weight") && !vertices_.contains("activation") && !vertices_.contains("activations");
    std::vector<std::string> slots;
    for (const std::string& name : vertices_.names())
      for (const std::string prefix : {"bias.", "biases."})
        if (name.starts_with(prefix)) bias_slots_[name.substr(prefix.size())];
    row_start_.assign(order_.size() + 1, 0);
    const auto n = static_cast<std::int32_t>(order_.size());
    for (std::int32_t v = 0; v < n; ++v) {
      row_start_[v] = static_cast<std::int32_t>(rows_.size());
      if (v < inputs_) continue;
      const std::vector<std::string> biases = words(text("biases", v)), activations = words(text("activations", v));
      std::size_t count = std::max<std::size_t>({1, biases.size(), activations.size()});
      for (std::int32_t k = edge_start_[v]; k < edge_start_[v + 1]; ++k)
        count = std::max(count, static_cast<std::size_t>(branch_[sorted_[k]]) + 1);
      check(count <= sorted_.size() + biases.size() + activations.size() + 1,
            "from_graph: a vertex has a branch of too high a number (", count - 1, " of vertex ", id(v), ")");
      std::int32_t e = edge_start_[v];
      for (std::size_t r = 0; r < count; ++r) {
        Row row{e, e};
        while (row.end < edge_start_[v + 1] && static_cast<std::size_t>(branch_[sorted_[row.end]]) == r) ++row.end;
        e = row.end;
        std::string name = count == 1 ? text("activation", v) : r < activations.size() ? activations[r] : "";
        if (name == "-") name.clear();
        if (name.empty() && default_activation && !std::binary_search(outputs_.begin(), outputs_.end(), v))
          name = options_.activation;
        row.activation = activation(name.empty() ? "none" : name);
        if (count == 1) {
          const std::optional<float> bias = number_at("bias", v);
          row.biased = bias.has_value();
          row.bias = bias.value_or(0);
        } else if (r < biases.size() && biases[r] != "-") {
          row.biased = true;
          row.bias = parsed(biases[r], v);
        }
        for (auto& [slot, values] : bias_slots_) {
          float x = 0;
          if (count == 1) {
            x = number_at("bias." + slot, v).value_or(0);
          } else if (const auto list = words(text(("biases." + slot).c_str(), v)); r < list.size() && list[r] != "-") {
            x = parsed(list[r], v);
          }
          values.push_back(x);
        }
        rows_.push_back(row);
      }
    }
    row_start_[n] = static_cast<std::int32_t>(rows_.size());
  }

  std::int32_t layer_of(std::int32_t v) const { return index_.layer[order_[v]]; }
  std::int32_t source(std::int32_t k) const { return number_[g_.graph().edges()[sorted_[k]].source]; }
  /// Vertices of a layer behind the inputs.
  std::int32_t first_of(std::int32_t layer) const { return std::max(inputs_, index_.start[layer]); }

  bool one_branch(std::int32_t layer) const {
    for (std::int32_t v = first_of(layer); v < index_.start[layer + 1]; ++v)
      if (row_start_[v + 1] - row_start_[v] != 1) return false;
    return true;
  }
  /// What layered_dag could do with a layer: all of it joint, one branch a vertex, or by branches, all of them ReLUs.
  struct DagUse {
    bool joint = false, by_branches = false, was_dag = false;
  };
  DagUse dag_use(std::int32_t layer) const {
    DagUse use{one_branch(layer), true, false};
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
      const bool tied = own.was_dag ? text("module", first_of(l)) == text("module", first_of(l) - 1) : spanned[l] > 0;
      if (!runs.empty() && tied && own.was_dag == use.was_dag && (both.joint || both.by_branches)) {
        runs.back().last = l;
        runs.back().dag = true;
        use = both;
      } else {
        runs.push_back({l, l, own.was_dag});
        use = own;
      }
    }
    return runs;
  }

  GraphPart part(std::int32_t first_layer, std::int32_t last_layer, bool dag) {
    auto shape = std::make_shared<GraphPartShape>();
    GraphPartShape& s = *shape;
    s.first = first_of(first_layer);
    s.end = index_.start[last_layer + 1];
    for (std::int32_t l = first_layer; l <= last_layer; ++l) s.layer_start.push_back(first_of(l));
    s.layer_start.push_back(s.end);
    const std::int32_t row = row_start_[s.first], row_end = row_start_[s.end];
    const bool single = row_end - row == s.count() && [&] {
      for (std::int32_t v = s.first; v < s.end; ++v)
        if (row_start_[v + 1] - row_start_[v] != 1) return false;
      return true;
    }();
    // What it sees: whole layers, from that of its lowest source.
    std::int32_t lowest = std::max(0, first_layer - 1);
    for (std::int32_t k = edge_start_[s.first]; k < edge_start_[s.end]; ++k)
      lowest = std::min(lowest, layer_of(source(k)));
    s.reads = index_.start[lowest];

    const std::int32_t visible = (dag ? s.end : s.first) - s.reads;
    std::size_t most = 1;
    for (std::int32_t v = s.first; v < s.end; ++v)
      most = std::max(most, static_cast<std::size_t>(row_start_[v + 1] - row_start_[v]));
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
    std::int64_t greatest = 0;
    for (std::int32_t v = s.first; v < s.end; ++v) {
      const std::string how = text("aggregate", v);
      check(how.empty() || how == "sum" || how == "max", "from_graph: vertices aggregate by sum or max (", how,
            " of vertex ", id(v), ")");
      if (how != "max") continue;
      ++greatest;
      check(edge_start_[v + 1] > edge_start_[v], "from_graph: a greatest of no edges (vertex ", id(v), ")");
      for (std::int32_t k = edge_start_[v]; k < edge_start_[v + 1]; ++k)
        check(weight_[k] == 1, "from_graph: edges of a greatest have weight 1 (", weight_[k], " into vertex ", id(v),
              ")");
    }
    if (greatest == 0) return;
    check(greatest == s.count() && one_branch(layer_of(s.first)),
          "from_graph: a layer mixes sums and greatest values (layer of vertex ", id(s.first), ")");
    s.kind = GraphPartShape::Kind::maximum;
  }
  void normalise(GraphPartShape& s, GraphPart& p) const {
    s.norm = text("norm", s.first);
    const auto group = [&](std::int32_t v) {
      const auto found = vertices_.holds<std::int64_t>("norm_group")
                             ? vertices_.get<std::int64_t>("norm_group", order_[v])
                             : std::nullopt;
      return found.value_or(0);
    };
    for (std::int32_t v = s.first; v < s.end; ++v)
      check(text("norm", v) == s.norm, "from_graph: a layer mixes norms (", s.norm, " and ", text("norm", v),
            " of vertex ", id(v), ")");
    if (s.norm.empty()) return;
    check(s.norm == "layer" || s.norm == "batch" || s.norm == "softmax" || s.norm == "log_softmax",
          "from_graph: norms are layer, batch, softmax and log_softmax (", s.norm, " of vertex ", id(s.first), ")");
    s.eps = number_at("norm_eps", s.first).value_or(1e-5f);
    if (s.norm != "batch") {
      s.group = 1;
      while (s.group < s.count() && group(s.first + static_cast<std::int32_t>(s.group)) == group(s.first)) ++s.group;
      bool even = s.count() % s.group == 0;
      for (std::int32_t v = s.first; even && v < s.end; ++v)
        even = group(v) == group(s.first + static_cast<std::int32_t>((v - s.first) / s.group * s.group));
      check(even, "from_graph: groups of a norm are vertices in a row, all as many (", s.norm, " from vertex ",
            id(s.first), ")");
    }
    const auto values = [&](const char* name, float otherwise) {
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
    if (s.norm != "batch") return;
    p.norm_mean = values("norm_mean", 0).value_or(Tensor::zeros({s.count()}));
    p.norm_variance = values("norm_variance", 1).value_or(Tensor::ones({s.count()}));
  }

  const LayeredGraph& g_;
  const LayerIndex& index_;
  const AttributeTable& vertices_;
  const AttributeTable& edges_;
  const FromGraphOptions& options_;
  Rng& rng_;
  std::vector<Vertex> order_;                      // vertices by number
  std::vector<std::int32_t> number_;               // of every vertex
  std::vector<std::int32_t> sorted_, edge_start_;  // edges by target, branch and source
  std::vector<std::int64_t> branch_;
  std::vector<float> weight_;  // in the order of sorted_
  std::map<std::string, std::vector<float>> weight_slots_, bias_slots_;
  std::vector<Row> rows_;
  std::vector<std::int32_t> row_start_;
  std::vector<std::string> names_{"none"};
  std::int32_t inputs_ = 0;
  std::vector<std::int32_t> outputs_;
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
  return detail::GraphReader(graph, options, rng).read();
}

}  // namespace deepstruct
