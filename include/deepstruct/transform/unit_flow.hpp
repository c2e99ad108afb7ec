// Which units of a network matter: the trace read forwards for constants, backwards for what reaches the outputs.
#pragma once

#include <unordered_map>

#include "../graph/components.hpp"
#include "../models/masked_deep_dan.hpp"

namespace deepstruct::detail {

/// What a parameter of the trace belongs to: that decides who can cut it down.
struct ParamOwner {
  enum Kind {
    plain,  ///< nobody but itself
    layer,  ///< a masked layer or a convolution, the weight
    norm,   ///< a batch norm, the weight
    dag     ///< the edges of a network on a graph
  } kind = plain;
  std::size_t number = 0;  ///< of the network on a graph
};

/// Which units stay. A unit is a place along the unit axis of a value (a feature, a channel), or several that have to
/// go or stay together: those that meet in an elementwise op, or that one parameter counts.
///
/// Forwards: which places hold constants, whatever the input. Backwards: which are needed, that is have a way to the
/// result; a linear map does not need a constant that its bias can take, if the unit goes. Units of ops that are not
/// known here, and of values whose places the model counts itself, stay.
class UnitFlow {
 public:
  /// Vertices of a network on a graph that stay, and what is to be added to the biases of its branches.
  struct Dag {
    std::vector<char> stays;  ///< empty: the trace does not know it
    std::vector<double> shift;
  };

  /// Inputs of linear maps: of a weight, by its node, those whose edges count as missing.
  using Gone = std::unordered_map<const Node*, std::vector<std::int32_t>>;

  UnitFlow(const std::vector<Step>& steps, const std::unordered_map<const Node*, ParamOwner>& owners,
           std::vector<std::shared_ptr<const DagWiring>> wirings, bool zeros_are_edges, Gone gone = {})
      : steps_(steps),
        owners_(owners),
        wirings_(std::move(wirings)),
        zeros_are_edges_(zeros_are_edges),
        gone_(std::move(gone)),
        values_(steps.size()),
        readers_(steps.size()),
        dags_(wirings_.size()) {
    for (std::size_t k = 0; k < steps.size(); ++k)
      for (const int i : steps[k].inputs) {
        readers_[static_cast<std::size_t>(i)].push_back(k);
        ++reads_[node(static_cast<std::size_t>(i))];
      }
    values_[0].varies = true;
    opaque(0);
    for (std::size_t k = 1; k < steps.size(); ++k) {
      for (const int i : steps[k].inputs) values_[k].varies |= values_[static_cast<std::size_t>(i)].varies;
      reading_ = steps[k].op;
      if (values_[k].varies) read(k);
    }
    check(values_.back().varies, "compact: the result does not depend on the input (", steps.back().op, ")");
    reading_ = "output";
    freeze(values_.back());
    reading_ = "a parameter that is read in another way too";
    for (const auto& [param, uses] : uses_)
      if (reads_[param] > known_reads_[param])
        for (const auto& units : uses)
          if (units) freeze(*units);
    label_ = components(count_, ties_).label;
    keep_.assign(static_cast<std::size_t>(count_), 0);
    why_.resize(static_cast<std::size_t>(count_));
    for (std::size_t k = 0; k < frozen_.size(); ++k) {
      fix(frozen_[k], frozen_by_[k]);
      keep_[label_[frozen_[k]]] = 1;
    }
    while (mark()) {
    }
    fold();
    number_groups();
  }

  /// The places along extent `dim` of a parameter that stay; nothing if its units are not known.
  std::optional<std::vector<std::int32_t>> kept(const Var& param, int dim) const {
    if (!counts(param.node().get(), dim)) return {};
    std::vector<std::int32_t> places;
    const auto& units = *uses_.at(param.node().get())[static_cast<std::size_t>(dim)];
    for (std::size_t k = 0; k < units.size(); ++k)
      if (stays(units[k])) places.push_back(static_cast<std::int32_t>(k));
    return places;
  }
  /// How many places extent `dim` of such a parameter has.
  std::int64_t places(const Var& param, int dim) const {
    return static_cast<std::int64_t>(uses_.at(param.node().get())[static_cast<std::size_t>(dim)]->size());
  }
  /// What is to be added to a bias, or to the input of a batch norm, whose weight stands for it; null: nothing.
  const std::vector<double>* shift(const Var& param) const {
    const auto found = shifts_.find(param.node().get());
    return found == shifts_.end() ? nullptr : &found->second;
  }
  const Dag& dag(std::size_t number) const { return dags_[number]; }

  /// Units that have to go or stay together are a group. Vertices of networks on graphs that nothing else counts are
  /// one each.
  std::int64_t group_count() const { return static_cast<std::int64_t>(needed_.size()); }
  /// The groups of the places along extent `dim` of a parameter; nothing if its units are not known.
  std::optional<std::vector<std::int32_t>> groups(const Var& param, int dim) const {
    if (!counts(param.node().get(), dim)) return {};
    std::vector<std::int32_t> all = *uses_.at(param.node().get())[static_cast<std::size_t>(dim)];
    for (std::int32_t& u : all) u = label_[u];
    return all;
  }
  /// The groups of the vertices of a network on a graph; empty if the trace does not know it.
  const std::vector<std::int32_t>& vertex_groups(std::size_t number) const { return vertex_groups_[number]; }
  /// The op for which a group has to stay, whatever it says; empty if it may go.
  std::string_view fixed_by(std::int64_t group) const {
    return group < static_cast<std::int64_t>(why_.size()) ? why_[group] : std::string_view();
  }
  /// Is the group on a way from inputs to outputs, or fixed?
  bool needed(std::int64_t group) const { return needed_[group] != 0; }
  /// How many outputs no input reaches.
  std::int64_t constant_outputs() const {
    return std::count(values_.back().constant.begin(), values_.back().constant.end(), 1);
  }

 private:
  friend class UnitPaths;
  using Places = std::vector<std::int32_t>;
  enum class Kind { same, all, joined, moved, linear, dag };
  /// A value, and how it needs its inputs.
  struct Value {
    bool varies = false;
    bool single = false;  // one place that stands for all: a statistic
    int axis = 0;
    Places unit;
    std::vector<char> constant, needed;
    Kind kind = Kind::all;
    Places from;           // moved: of every place the one of the first input
    std::size_t site = 0;  // linear, dag: what holds the weights
  };
  /// A linear map, of features or of images, with a weight that may shrink.
  struct Linear {
    std::size_t step;
    std::optional<Mask> mask = {};   // the edges that exist; columns are (unit, place in the window)
    bool by_edge = false;            // one weight per edge, else [out, in] or [out, in, height, width]
    const Tensor* factor = nullptr;  // a soft mask
    std::int64_t window = 1;         // places of a kernel
    std::int64_t depth = 0, groups = 1;
    std::vector<char> gone = {};   // empty, or whether a place of x has no edges
    std::vector<float> fold = {};  // constants that a bias can take, else NaN   [units of x]
    const Node* target = nullptr;  // that bias, or the weight of a batch norm behind
  };
  struct DagSite {
    std::size_t step, number;
    Mask mask;
    std::vector<char> constant, needed;  // of every vertex
    std::vector<std::int32_t> tied;      // unit of an input or output, else −1
    std::vector<double> value;
  };

  const Node* node(std::size_t k) const { return steps_[k].value.node().get(); }
  std::size_t input(std::size_t k, std::size_t i = 0) const { return static_cast<std::size_t>(steps_[k].inputs[i]); }
  const Shape& shape(std::size_t k) const { return steps_[k].value.shape(); }
  bool stays(std::int32_t unit) const { return keep_[label_[unit]] != 0; }
  template <class T>
  const T* attribute(std::size_t k, std::string_view name) const {
    for (const Attribute& a : steps_[k].attributes)
      if (a.name == name) return std::get_if<T>(&a.value);
    return nullptr;
  }
  std::int64_t integer(std::size_t k, std::string_view name) const {
    const auto* i = attribute<std::int64_t>(k, name);
    return i ? *i : 0;
  }
  const ParamOwner* owner(std::size_t k) const {
    const auto found = steps_[k].op == "leaf" ? owners_.find(node(k)) : owners_.end();
    return found == owners_.end() ? nullptr : &found->second;
  }
  bool is_leaf(std::size_t k, ParamOwner::Kind kind) const { return owner(k) && owner(k)->kind == kind; }

  void tie(std::int32_t a, std::int32_t b) {
    if (a != b) ties_.push_back({a, b});
  }
  void freeze(std::span<const std::int32_t> units) {
    frozen_.insert(frozen_.end(), units.begin(), units.end());
    frozen_by_.resize(frozen_.size(), reading_);
  }
  void freeze(const Value& v) { freeze(v.unit); }
  void fresh(Value& v, std::int64_t n, bool constant = false) {
    for (std::int64_t i = 0; i < n; ++i) v.unit.push_back(count_++);
    v.constant.assign(static_cast<std::size_t>(n), constant);
  }
  bool counts(const Node* param, int dim) const {
    const auto found = uses_.find(param);
    return found != uses_.end() && found->second[static_cast<std::size_t>(dim)].has_value();
  }
  /// Extent `dim` of a parameter counts these units.
  void use(const Node* param, int dim, const Places& units) {
    std::optional<Places>& known = uses_[param][static_cast<std::size_t>(dim)];
    if (!known) known = units;
    for (std::size_t p = 0; p < std::min(known->size(), units.size()); ++p) tie((*known)[p], units[p]);
  }

  void read(std::size_t k);
  void opaque(std::size_t k);
  void combine(std::size_t k);
  void reshape_of(std::size_t k);
  void cat_of(std::size_t k);
  void slice_of(std::size_t k);
  void reduce(std::size_t k);
  void same_axis(std::size_t k, int axis);
  void linear(std::size_t k);
  void convolution(std::size_t k);
  void map_of(std::size_t k, Linear site, const Node* weight);
  bool picks(std::size_t k);
  void network(std::size_t k);
  std::optional<float> uniform(std::size_t k, std::int64_t place) const;
  const Node* take_constants(std::size_t k, const Node* weight) const;

  /// Calls f(place of x, weight) for the edges of a row.
  template <class F>
  void for_each_edge(const Linear& site, std::int64_t row, F&& f) const {
    const Tensor& w = steps_[input(site.step, 1)].value.value();
    const std::int64_t first = site.depth * (row / std::max<std::int64_t>(1, shape(site.step)[1] / site.groups));
    const auto weight = [&](std::int64_t col) {
      if (w.rank() == 2) return w(row, col);
      const std::int64_t kernel = w.shape()[3];
      return w(row, col / site.window, col % site.window / kernel, col % kernel);
    };
    const auto edge = [&](std::int64_t col, float value) {
      const std::int64_t place = first + col / site.window;
      if ((zeros_are_edges_ || value != 0) && (site.gone.empty() || !site.gone[place])) f(place, value);
    };
    if (site.mask && !site.mask->is_full()) {
      const auto start = site.mask->row_start(), col = site.mask->col();
      for (std::int32_t e = start[row]; e < start[row + 1]; ++e) edge(col[e], site.by_edge ? w(e) : weight(col[e]));
      return;
    }
    for (std::int64_t col = 0; col < site.depth * site.window; ++col)
      if (!site.factor || (*site.factor)(row, col) != 0)
        edge(col, site.by_edge ? w(row * site.depth * site.window + col) : weight(col));
  }

  /// One pass backwards; true if more units stay than before.
  bool mark() {
    for (Value& v : values_) v.needed.assign(v.unit.size(), 0);
    std::fill(values_.back().needed.begin(), values_.back().needed.end(), 1);
    for (std::size_t k = steps_.size(); k-- > 1;) {
      const Value& y = values_[k];
      if (!y.varies || (std::find(y.needed.begin(), y.needed.end(), 1) == y.needed.end() && y.kind != Kind::dag))
        continue;
      if (y.kind == Kind::linear) {
        mark_linear(k);
      } else if (y.kind == Kind::dag) {
        mark_dag(k);
      } else {
        std::size_t first = 0;
        for (std::size_t i = 0; i < steps_[k].inputs.size(); ++i) {
          Value& x = values_[input(k, i)];
          const std::size_t n =
              y.kind == Kind::joined ? static_cast<std::size_t>(shape(input(k, i))[y.axis]) : x.unit.size();
          if (x.varies) {
            if (y.kind == Kind::moved)
              for (std::size_t p = 0; p < y.from.size(); ++p) x.needed[y.from[p]] |= y.needed[p];
            else if (y.kind == Kind::joined)
              for (std::size_t p = 0; p < n; ++p) x.needed[p] |= y.needed[first + p];
            else if (y.kind == Kind::same && n == y.unit.size())
              for (std::size_t p = 0; p < n; ++p) x.needed[p] |= y.needed[p];
            else
              std::fill(x.needed.begin(), x.needed.end(), 1);
          }
          first += n;
          if (y.kind == Kind::moved) break;
        }
      }
    }
    bool more = false;
    for (const Value& v : values_)
      for (std::size_t p = 0; p < v.needed.size(); ++p)
        if (v.needed[p] && !stays(v.unit[p])) keep_[label_[v.unit[p]]] = 1, more = true;
    return more;
  }
  void mark_linear(std::size_t k);
  void mark_dag(std::size_t k);
  /// Does an input or output vertex stay because others count it?
  bool forced(const DagSite& d, std::size_t v) const { return d.tied[v] >= 0 && stays(d.tied[v]); }
  void fold();
  /// A reason why a unit stays; a mean alone tells less than what it is part of.
  void fix(std::int32_t unit, std::string_view op) {
    std::string_view& why = why_[label_[unit]];
    if (why.empty() || why == "sum_to") why = op;
  }
  void number_groups();

  const std::vector<Step>& steps_;
  const std::unordered_map<const Node*, ParamOwner>& owners_;
  std::vector<std::shared_ptr<const DagWiring>> wirings_;
  bool zeros_are_edges_;
  Gone gone_;
  std::vector<Value> values_;
  std::vector<std::vector<std::size_t>> readers_;
  std::vector<Linear> linears_;
  std::vector<DagSite> dag_sites_;
  std::int32_t count_ = 0;
  std::vector<Edge> ties_;
  Places frozen_, label_;
  std::string_view reading_ = "input";       // what freezes units now
  std::vector<std::string_view> frozen_by_;  // of every frozen unit
  std::vector<std::string_view> why_;        // by label, empty: not frozen
  std::vector<char> keep_, needed_;          // by label; by group
  std::vector<Places> vertex_groups_;
  std::unordered_map<const Node*, std::array<std::optional<Places>, Shape::max_rank>> uses_;
  std::unordered_map<const Node*, int> reads_, known_reads_;
  std::unordered_map<const Node*, std::vector<double>> shifts_;
  std::vector<Dag> dags_;
};

}  // namespace deepstruct::detail

#include "unit_flow_maps.hpp"
#include "unit_flow_steps.hpp"
