// GraphNetwork: the network that a graph of neurons describes, part by part.
#pragma once

#include <charconv>
#include <memory>

#include "../nn/masked_linear.hpp"
#include "../ops/batch_norm.hpp"
#include "../ops/dag.hpp"
#include "../ops/normalize.hpp"

namespace deepstruct {

namespace detail {

/// What never changes of a part of a GraphNetwork: which vertices it computes, and how.
struct GraphPartShape {
  enum class Kind {
    sum,      ///< a layer that reads vertices before it
    maximum,  ///< a layer whose vertices are the greatest of those that they read
    dag       ///< layers that read each other, in one op
  };
  Kind kind = Kind::sum;
  std::int32_t reads = 0, until = 0;  // vertices reads … until − 1 are visible to it
  std::int32_t first = 0, end = 0;
  std::vector<std::int32_t> layer_start;              // first vertices of its layers, and the end
  std::vector<std::string> activations;               // names
  std::vector<std::vector<std::uint8_t>> activation;  // of every branch and vertex one of them; empty: one for all
  std::string norm;                                   // of the first branch of every vertex
  std::int64_t group = 0;                             // vertices that are normalised together follow each other
  float eps = 0;
  std::shared_ptr<const DagWiring> wiring;
  std::vector<std::string> module, operation;  // of every vertex: what it was in the network that the graph came from

  std::int64_t count() const { return end - first; }
};

/// y = f(x), f by its name and parameters, such as leaky_relu(0.01).
inline Var named_activation(const std::string& text, const Var& x) {
  const auto cut = text.find('(');
  const std::string name = text.substr(0, cut);
  std::vector<float> p;
  for (const char *at = text.data() + std::min(cut, text.size()), *last = text.data() + text.size(); at != last;) {
    float number = 0;
    const auto [end, error] = std::from_chars(at + 1, last, number);
    check(error == std::errc() && end != last && (*end == ',' || (*end == ')' && end + 1 == last)),
          "GraphNetwork: an activation has no parameters in brackets (", text, ")");
    p.push_back(number);
    at = *end == ')' ? last : end;
  }
  constexpr std::pair<std::string_view, Var (*)(const Var&)> plain[] = {{"none", [](const Var& v) { return v; }},
                                                                        {"relu", relu},
                                                                        {"tanh", tanh},
                                                                        {"sigmoid", sigmoid},
                                                                        {"silu", silu},
                                                                        {"gelu", gelu},
                                                                        {"gelu_tanh", gelu_tanh},
                                                                        {"softsign", softsign},
                                                                        {"logsigmoid", logsigmoid},
                                                                        {"exp", exp},
                                                                        {"log", log},
                                                                        {"log1p", log1p},
                                                                        {"sqrt", sqrt},
                                                                        {"sin", sin},
                                                                        {"cos", cos},
                                                                        {"abs", abs}};
  for (const auto& [known, f] : plain)
    if (p.empty() && name == known) return f(x);
  if (p.size() == 1 && name == "leaky_relu") return leaky_relu(x, p[0]);
  if (p.size() == 1 && name == "pow") return pow(x, p[0]);
  if (p.size() == 2 && name == "clamp") return clamp(x, p[0], p[1]);
  if (p.size() == 2 && name == "hardtanh") return hardtanh(x, p[0], p[1]);
  if (p.size() == 2 && name == "softplus") return softplus(x, p[0], p[1]);
  if (p.size() == 2 && (name == "elu" || name == "selu"))
    return scaled_elu(name == "elu" ? "elu" : "selu", x, p[0], p[1]);
  fail("GraphNetwork: no such activation (", text, ")");
}

/// Columns of x, by their numbers.
inline Var columns(const Var& x, const std::vector<std::int32_t>& at) { return index_select(x, 1, at); }

}  // namespace detail

/// Vertices of a GraphNetwork that are computed at once: f(N(edges(x))) + Σ f(branch(x)).
struct GraphPart {
  MaskedLinearLayer edges;                      ///< packed: of first branches, or all of a DAG's
  std::vector<MaskedLinearLayer> branches;      ///< packed: of second branches, third …
  std::optional<Param> norm_weight, norm_bias;  // [vertices]
  std::optional<Tensor> norm_mean, norm_variance;
  std::shared_ptr<const detail::GraphPartShape> shape;

  /// The values of its vertices from those it sees.   x [b, first − reads] → [b, vertices]
  Var operator()(const Var& x) const {
    const detail::GraphPartShape& s = *shape;
    if (s.kind == detail::GraphPartShape::Kind::dag)
      return layered_dag(x, edges.packed() ? edges.weight.var() : pick_edges(edges.weight, edges.mask()), *edges.bias,
                         edges.mask(), s.wiring);
    if (s.kind == detail::GraphPartShape::Kind::maximum) return activated(greatest(x), 0);
    const bool only_relu = s.activation.empty() && s.activations[0] == "relu";
    Var y = only_relu && s.norm.empty() ? edges(x, Activation::relu) : activated(normalised(edges(x)), 0);
    for (std::size_t k = 0; k < branches.size(); ++k)
      y = y + (only_relu ? branches[k](x, Activation::relu) : activated(branches[k](x), k + 1));
    return y;
  }

  static auto fields(auto& m) {
    return std::tuple{Field{"", m.edges},
                      Field{"branches", m.branches},
                      Field{"norm_weight", m.norm_weight},
                      Field{"norm_bias", m.norm_bias},
                      Field{"norm_mean", m.norm_mean},
                      Field{"norm_variance", m.norm_variance}};
  }

 private:
  Var activated(const Var& z, std::size_t branch) const {
    const detail::GraphPartShape& s = *shape;
    if (s.activation.empty()) return detail::named_activation(s.activations[0], z);
    const std::vector<std::uint8_t>& of = s.activation[branch];
    if (std::all_of(of.begin(), of.end(), [&](std::uint8_t a) { return a == of[0]; }))
      return detail::named_activation(s.activations[of.empty() ? 0 : of[0]], z);
    std::vector<std::vector<std::int32_t>> members(s.activations.size());
    for (std::size_t r = 0; r < of.size(); ++r) members[of[r]].push_back(static_cast<std::int32_t>(r));
    std::vector<std::int32_t> place(of.size());
    Vars parts;
    std::int32_t at = 0;
    for (std::size_t f = 0; f < members.size(); ++f) {
      if (members[f].empty()) continue;
      parts.push_back(detail::named_activation(s.activations[f], detail::columns(z, members[f])));
      for (const std::int32_t r : members[f]) place[r] = at++;
    }
    return detail::columns(cat(parts, 1), place);
  }
  Var normalised(const Var& z) const {
    const detail::GraphPartShape& s = *shape;
    if (s.norm.empty()) return z;
    const std::int64_t b = z.shape()[0], n = s.count();
    const auto value = [](const auto& optional) { return optional ? Var(*optional) : Var(); };
    if (s.norm == "batch")
      return batch_norm(z, *norm_mean, *norm_variance, value(norm_weight), value(norm_bias), s.eps);
    if (s.norm == "layer") {
      if (s.group == n) return layer_norm(z, Shape{n}, value(norm_weight), value(norm_bias), s.eps);
      Var y = reshape(layer_norm(reshape(z, {b, n / s.group, s.group}), Shape{s.group}, {}, {}, s.eps), {b, n});
      if (norm_weight) y = mul(y, *norm_weight);
      return norm_bias ? add(y, *norm_bias) : y;
    }
    const Var grouped = reshape(z, {b, n / s.group, s.group});
    return reshape(s.norm == "softmax" ? softmax(grouped) : log_softmax(grouped), {b, n});
  }
  /// The greatest of what every vertex reads: as many rounds as the longest list.
  Var greatest(const Var& x) const {
    const Mask mask = edges.mask();
    const auto start = mask.row_start(), col = mask.col();
    std::vector<std::int32_t> at(static_cast<std::size_t>(shape->count()));
    Var y;
    for (std::int32_t k = 0, more = 1; more > 0; ++k) {
      more = 0;
      for (std::size_t v = 0; v < at.size(); ++v) {
        const std::int32_t left = start[v + 1] - start[v];
        check(left > 0, "GraphNetwork: a greatest of no edges is left (vertex ",
              shape->first + static_cast<std::int32_t>(v), ")");
        at[v] = col[start[v] + std::min(k, left - 1)];
        more = std::max(more, left - 1 - k);
      }
      const Var next = detail::columns(x, at);
      y = y ? maximum(y, next) : next;
    }
    return edges.bias ? add(y, *edges.bias) : y;
  }
};

/// The network that a graph of neurons describes: from_graph makes it, to_graph reads it.
///
/// Vertices are computed in parts: a layer that reads only what lies before it is one masked layer with its norm and
/// activation, layers that read each other are one layered_dag. So a feed-forward network is a list of packed layers,
/// and a DAG runs as MaskedDeepDAN does; pruning, saliency and masks work as on any model. All weights are trained,
/// those of average pooling and of copies too; batch norm keeps the statistics that it came with.
///   x [b, …] flattened → y [b, outputs]
class GraphNetwork {
 public:
  std::vector<GraphPart> layers;

  GraphNetwork(std::int64_t inputs, std::vector<GraphPart> parts, std::vector<std::int32_t> outputs)
      : layers(std::move(parts)), inputs_(inputs), outputs_(std::move(outputs)) {}

  Var operator()(const Var& x) const {
    const Var first = flatten(x, 1);
    check(first.shape()[1] == inputs_, "GraphNetwork: x has another number of inputs (", x.shape(), ", inputs ",
          inputs_, ")");
    Vars value{first};
    std::vector<std::int32_t> from{0}, end{static_cast<std::int32_t>(inputs_)};
    const auto seen = [&](std::int32_t begin, std::int32_t stop) {
      Vars parts;
      for (std::size_t k = 0; k < value.size(); ++k) {
        const std::int32_t a = std::max(begin, from[k]), b = std::min(stop, end[k]);
        if (a < b) parts.push_back(a == from[k] && b == end[k] ? value[k] : narrow(value[k], 1, a - from[k], b - a));
      }
      if (parts.empty()) return narrow(first, 1, 0, 0);
      return parts.size() == 1 ? parts[0] : cat(parts, 1);
    };
    for (const GraphPart& part : layers) {
      value.push_back(part(seen(part.shape->reads, part.shape->until)));
      from.push_back(part.shape->first);
      end.push_back(part.shape->end);
    }
    const std::int32_t begin = outputs_.empty() ? 0 : outputs_.front(),
                       stop = outputs_.empty() ? 0 : outputs_.back() + 1;
    const Var last = seen(begin, stop);
    if (stop - begin == static_cast<std::int32_t>(outputs_.size())) return last;
    std::vector<std::int32_t> at;
    for (const std::int32_t v : outputs_) at.push_back(v - begin);
    return detail::columns(last, at);
  }

  std::int64_t inputs() const { return inputs_; }
  std::int64_t outputs() const { return static_cast<std::int64_t>(outputs_.size()); }

  static auto fields(auto& m) { return std::tuple{Field{"layers", m.layers}}; }

 private:
  std::int64_t inputs_;
  std::vector<std::int32_t> outputs_;  // ascending vertices
};

}  // namespace deepstruct
