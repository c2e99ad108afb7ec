// What a graph says about the neurons of a network, checked and in the order in which it is computed.
#pragma once

#include <charconv>

#include "../models/graph_network.hpp"
#include "neurons.hpp"

namespace deepstruct {

/// How from_graph reads a graph that says less than to_graph does.
struct FromGraphOptions {
  std::string activation = "relu";  ///< of hidden vertices, in a graph without weights and activations
};

namespace detail {

/// A number of any type, or nothing; throws on text, in the name of `who`.
template <class Who>
std::optional<double> number_of(const AttributeTable& t, const std::string& name, std::int64_t place, Who&& who) {
  if (t.holds<float>(name)) {  // as to_graph writes it
    const auto x = t.get<float>(name, place);
    return x ? std::optional<double>(*x) : std::nullopt;
  }
  const auto value = t.contains(name) ? t.value(name, place) : std::nullopt;
  if (!value) return std::nullopt;
  return std::visit(
      [&](const auto& x) -> double {
        if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(x)>>)
          return static_cast<double>(x);
        else
          fail("from_graph: an attribute is no number (", name, " of ", who(), ": ", x, ")");
      },
      *value);
}
/// A whole number of any type from 0 to 2^31 − 2, 0 where there is none; throws on another.
template <class Who>
std::int32_t whole_of(const AttributeTable& t, const std::string& name, std::int64_t place, const char* what,
                      Who&& who) {
  const double x = number_of(t, name, place, who).value_or(0);
  check(x >= 0 && x < std::numeric_limits<std::int32_t>::max() && x == std::floor(x), "from_graph: ", what,
        " are numbered 0, 1, ... (", x, " of ", who(), ")");
  return static_cast<std::int32_t>(x);
}

/// A graph of neurons with vertices numbered layer by layer, edges sorted by target, branch and source.
class NeuronReader {
 public:
  NeuronReader(const LayeredGraph& g, const FromGraphOptions& options, Rng& rng)
      : g_(g),
        index_(g.index()),
        vertices_(g.vertex_attributes()),
        edges_(g.edge_attributes()),
        options_(options),
        rng_(rng) {
    check(g_.vertex_count() > 0, "from_graph: the graph has no vertices (0)");
    number();
    roles();
    rows();
  }

  /// A branch: edges begin … end − 1 of sorted_.
  struct Row {
    std::int32_t begin = 0, end = 0;  // of sorted_
    float bias = 0;
    bool biased = false;
    std::uint8_t activation = 0;
  };
  std::int64_t id(std::int32_t number) const { return g_.id(order_[number]); }
  std::string text(const char* name, std::int32_t v) const {
    return vertices_.holds<std::string>(name) ? vertices_.get<std::string>(name, order_[v]).value_or("") : "";
  }
  auto who(std::int32_t v) const {
    return [this, v] { return "vertex " + std::to_string(id(v)); };
  }
  std::optional<float> number_at(const std::string& name, std::int32_t v) const {
    const auto x = number_of(vertices_, name, order_[v], who(v));
    return x ? std::optional(static_cast<float>(*x)) : std::nullopt;
  }
  std::int32_t layer_of(std::int32_t v) const { return index_.layer[order_[v]]; }
  /// The source of the k-th edge in order.
  std::int32_t source(std::int32_t k) const { return number_[g_.graph().edges()[sorted_[k]].source]; }
  /// Vertices of a layer behind the inputs.
  std::int32_t first_of(std::int32_t layer) const { return std::max(inputs_, index_.start[layer]); }
  /// Number of branches of a vertex.
  std::int32_t branches_of(std::int32_t v) const { return row_start_[v + 1] - row_start_[v]; }

 protected:
  auto edge_name(std::int64_t k) const {
    return [this, k] {
      const Edge& e = g_.graph().edges()[static_cast<std::size_t>(k)];
      return "edge " + std::to_string(g_.id(e.source)) + " to " + std::to_string(g_.id(e.target));
    };
  }

  /// Vertices in order of their layers; sources and targets by these numbers.
  void number() {
    order_ = index_.order;
    number_.resize(order_.size());
    for (std::size_t v = 0; v < order_.size(); ++v) number_[order_[v]] = static_cast<std::int32_t>(v);
    const auto all = g_.graph().edges();
    branch_.assign(all.size(), 0);
    for (std::size_t k = 0; k < all.size(); ++k) {
      if (edges_.contains("branch"))
        branch_[k] = whole_of(edges_, "branch", static_cast<std::int64_t>(k), "branches", edge_name(k));
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
    if (edges_.contains("branch"))
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
        const bool greatest = text("aggregate", static_cast<std::int32_t>(v)) == "max";
        for (std::int32_t k = edge_start_[v]; k < edge_start_[v + 1]; ++k)
          weight_[k] = greatest ? 1 : draw.uniform(static_cast<std::uint64_t>(k), -bound, bound);
      }
      return;
    }
    for (std::size_t k = 0; k < n; ++k) {
      const auto w = number_of(edges_, "weight", sorted_[k], edge_name(sorted_[k]));
      if (!w) fail("from_graph: an edge has no number as weight (", edge_name(sorted_[k])(), ")");
      weight_[k] = static_cast<float>(*w);
    }
    for (const std::string& name : edges_.names())
      if (name.starts_with("weight.")) {
        auto& slot = weight_slots_[name.substr(7)];
        slot.resize(n);
        for (std::size_t k = 0; k < n; ++k)
          slot[k] = static_cast<float>(number_of(edges_, name, sorted_[k], edge_name(sorted_[k])).value_or(0));
      }
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
    check(!outputs_.empty(), "from_graph: no vertex is an output (", n, " vertices)");
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
      const auto edges = static_cast<std::size_t>(edge_start_[v + 1] - edge_start_[v]);
      check(count <= edges + biases.size() + activations.size() + 1,
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

  const LayeredGraph& g_;
  const LayerIndex& index_;
  const AttributeTable& vertices_;
  const AttributeTable& edges_;
  const FromGraphOptions& options_;
  Rng& rng_;
  std::vector<Vertex> order_;                      // vertices by number
  std::vector<std::int32_t> number_;               // of every vertex
  std::vector<std::int32_t> sorted_, edge_start_;  // edges by target, branch and source
  std::vector<std::int32_t> branch_;
  std::vector<float> weight_;  // in the order of sorted_
  std::map<std::string, std::vector<float>> weight_slots_, bias_slots_;
  std::vector<Row> rows_;
  std::vector<std::int32_t> row_start_;
  std::vector<std::string> names_{"none"};
  std::int32_t inputs_ = 0;
  std::vector<std::int32_t> outputs_;
};

}  // namespace detail

}  // namespace deepstruct
