// The units of a network and all ways between them, as a graph: which edges of masks lead from an input to an output.
#pragma once

#include "compact_parts.hpp"

namespace deepstruct::detail {

/// A graph of units, places along the unit axis of every value of a trace, in the order of the trace: arcs lead from
/// lower to higher numbers. An arc is an edge of a mask, or fixed: elementwise ops, layers without a mask (all of their
/// weights connect), and ops that are not known, which connect all they read with all they give. Nothing is folded: a
/// constant is no way from an input.
class UnitPaths {
 public:
  struct Arc {
    std::int32_t from, to;
    std::int32_t layer = -1, edge = -1;  ///< of the masked layers, −1: fixed
  };
  struct Masked {
    const Node* weight;
    Mask mask;
  };
  std::vector<Arc> arcs;
  std::vector<std::int32_t> inputs, outputs;
  std::vector<int> uses;    ///< of every masked layer in the trace
  std::vector<char> known;  ///< of every masked layer: all its uses are arcs

  UnitPaths(const UnitFlow& flow, std::vector<Masked> layers)
      : uses(layers.size(), 0), known(layers.size(), 1), flow_(&flow), layers_(std::move(layers)) {
    first_.assign(flow.steps_.size(), -1);
    for (std::size_t k = 0; k < flow.steps_.size(); ++k)
      if (flow.values_[k].varies) read(k);
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const auto reads = flow.reads_.find(layers_[l].weight);
      known[l] = uses[l] > 0 && reads != flow.reads_.end() && reads->second == uses[l];
    }
    inputs = numbers(0);
    outputs = numbers(flow.steps_.size() - 1);
    index(out_start_, out_, &Arc::from);
    index(in_start_, in_, &Arc::to);
    flow_ = nullptr;
  }

  std::int32_t size() const { return count_; }
  /// Numbers of the arcs that begin and end at a unit.
  std::span<const std::int32_t> out(std::int32_t u) const { return part(out_start_, out_, u); }
  std::span<const std::int32_t> in(std::int32_t u) const { return part(in_start_, in_, u); }

  /// Which units an input reaches, and which reach an output, over arcs that exist.
  struct Reach {
    std::vector<std::int32_t> reached, needed;
    bool alive(const Arc& a) const { return reached[a.from] && needed[a.to]; }
  };
  template <class Exists>
  Reach reach(Exists&& exists) const {
    Reach r{std::vector<std::int32_t>(static_cast<std::size_t>(count_), 0), {}};
    r.needed = r.reached;
    for (const std::int32_t u : inputs) r.reached[u] = 1;
    for (const std::int32_t u : outputs) r.needed[u] = 1;
    for (std::int32_t u = 0; u < count_; ++u)
      for (const std::int32_t a : in(u)) r.reached[u] |= r.reached[arcs[a].from] && exists(a);
    for (std::int32_t u = count_; u-- > 0;)
      for (const std::int32_t a : out(u)) r.needed[u] |= r.needed[arcs[a].to] && exists(a);
    return r;
  }

 private:
  using Kind = UnitFlow::Kind;

  std::int32_t fresh(std::size_t n) { return std::exchange(count_, count_ + static_cast<std::int32_t>(n)); }
  std::vector<std::int32_t> numbers(std::size_t k) const {
    std::vector<std::int32_t> all(flow_->values_[k].unit.size());
    std::iota(all.begin(), all.end(), first_[k]);
    return all;
  }
  void connect(std::int32_t from, std::int32_t to, std::int32_t layer = -1, std::int32_t edge = -1) {
    arcs.push_back({from, to, layer, edge});
  }
  /// The masked layer of a weight that a step reads, −1: none.
  std::int32_t layer_of(std::size_t w) const {
    const std::string_view op = flow_->steps_[w].op;
    if (op == "reshape" || op == "place_edges" || op == "pick_edges" || op == "mul") return layer_of(flow_->input(w));
    for (std::size_t l = 0; l < layers_.size(); ++l)
      if (layers_[l].weight == flow_->node(w)) return static_cast<std::int32_t>(l);
    return -1;
  }

  void read(std::size_t k) {
    const UnitFlow::Value& y = flow_->values_[k];
    if (y.kind == Kind::dag) return network(k);
    if (y.kind == Kind::linear) return linear(k);
    const std::size_t n = y.unit.size(), inputs_of = flow_->steps_[k].inputs.size();
    const auto places = [&](std::size_t i) { return flow_->values_[flow_->input(k, i)].unit.size(); };
    const auto each = [&](std::size_t i) { return y.kind == Kind::same && places(i) == n; };
    std::int32_t hub = -1;
    for (std::size_t i = 0; i < inputs_of; ++i) {
      const std::int32_t x = first_[flow_->input(k, i)];
      if (x < 0 || y.kind == Kind::moved || y.kind == Kind::joined || each(i)) continue;
      if (hub < 0) hub = fresh(1);
      for (std::size_t p = 0; p < places(i); ++p) connect(x + static_cast<std::int32_t>(p), hub);
    }
    first_[k] = fresh(n);
    for (std::size_t p = 0; hub >= 0 && p < n; ++p) connect(hub, first_[k] + static_cast<std::int32_t>(p));
    std::int32_t begin = first_[k];
    for (std::size_t i = 0; i < inputs_of; ++i) {
      const std::size_t at = flow_->input(k, i);
      const std::int32_t x = first_[at];
      if (y.kind == Kind::moved) {
        for (std::size_t p = 0; p < n; ++p) connect(x + y.from[p], begin + static_cast<std::int32_t>(p));
        break;
      }
      const auto all = static_cast<std::int32_t>(y.kind == Kind::joined ? flow_->shape(at)[y.axis] : places(i));
      if (x >= 0 && (y.kind == Kind::joined || each(i)))
        for (std::int32_t p = 0; p < all; ++p) connect(x + p, begin + p);
      if (y.kind == Kind::joined) begin += all;
    }
  }
  void linear(std::size_t k) {
    const UnitFlow::Linear& site = flow_->linears_[flow_->values_[k].site];
    const std::int32_t x = first_[flow_->input(k)], l = layer_of(flow_->input(k, 1));
    const auto rows = static_cast<std::int64_t>(flow_->values_[k].unit.size()),
               cols = static_cast<std::int64_t>(flow_->values_[flow_->input(k)].unit.size());
    const auto source = [&](std::int64_t r, std::int64_t c) {
      return x + static_cast<std::int32_t>(site.depth * (r / std::max<std::int64_t>(1, rows / site.groups)) +
                                           c / site.window);
    };
    const bool all = l < 0 && site.groups == 1;
    const std::int32_t hub = all ? fresh(1) : -1, y = first_[k] = fresh(static_cast<std::size_t>(rows));
    for (std::int64_t c = 0; all && c < cols; ++c) connect(x + static_cast<std::int32_t>(c), hub);
    for (std::int64_t r = 0; r < rows && l < 0; ++r) {
      const std::int32_t to = y + static_cast<std::int32_t>(r);
      if (all) connect(hub, to);
      for (std::int64_t c = 0; !all && c < site.depth; ++c) connect(source(r, c * site.window), to);
    }
    if (l < 0) return;
    ++uses[l];
    layers_[l].mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      connect(source(r, c), y + static_cast<std::int32_t>(r), l, e);
    });
  }
  void network(std::size_t k) {
    const UnitFlow::DagSite& d = flow_->dag_sites_[flow_->values_[k].site];
    const DagWiring& w = *flow_->wirings_[d.number];
    const std::int32_t l = layer_of(flow_->input(k, 1)), x = first_[flow_->input(k)];
    const std::int32_t hidden = fresh(static_cast<std::size_t>(w.vertices - w.inputs));
    const auto vertex = [&](std::int64_t v) {
      return v < w.inputs ? x + static_cast<std::int32_t>(v) : hidden + static_cast<std::int32_t>(v - w.inputs);
    };
    const auto start = d.mask.row_start(), col = d.mask.col();
    for (std::int64_t v = w.inputs; v < w.vertices; ++v)
      for (std::int32_t e = start[w.row_of(v - w.inputs)]; e < start[w.row_of(v + 1 - w.inputs)]; ++e)
        connect(vertex(col[e]), vertex(v), l, e);
    if (l >= 0) ++uses[l];
    first_[k] = fresh(w.output.size());
    for (std::size_t o = 0; o < w.output.size(); ++o)
      connect(vertex(w.output[o]), first_[k] + static_cast<std::int32_t>(o));
  }

  void index(std::vector<std::int32_t>& start, std::vector<std::int32_t>& list, std::int32_t Arc::*end) const {
    start.assign(static_cast<std::size_t>(count_) + 1, 0);
    list.resize(arcs.size());
    for (const Arc& a : arcs) ++start[a.*end + 1];
    std::partial_sum(start.begin(), start.end(), start.begin());
    std::vector<std::int32_t> next(start.begin(), start.end() - 1);
    for (std::size_t k = 0; k < arcs.size(); ++k) list[next[arcs[k].*end]++] = static_cast<std::int32_t>(k);
  }
  static std::span<const std::int32_t> part(const std::vector<std::int32_t>& start,
                                            const std::vector<std::int32_t>& list, std::int32_t u) {
    return std::span(list).subspan(static_cast<std::size_t>(start[u]),
                                   static_cast<std::size_t>(start[u + 1] - start[u]));
  }

  const UnitFlow* flow_;  // only while it is read
  std::vector<Masked> layers_;
  std::int32_t count_ = 0;
  std::vector<std::int32_t> first_;  // unit of every value, −1: it does not depend on the input
  std::vector<std::int32_t> out_start_, out_, in_start_, in_;
};

/// The paths of a model, read from the trace of model(ones of example_shape) in evaluation, and its masked layers in
/// the order of each_masked.
template <class M>
UnitPaths unit_paths(const char* op, const M& model, const Shape& example_shape) {
  check(example_shape.rank() >= 1 && example_shape.size() > 0, op, ": the example needs samples and extents (",
        example_shape, ")");
  no_grad guard;
  M host = model;
  to(host, Device::cpu);
  set_training(host, false);
  const std::vector<Step> steps =
      trace_function([&](const Var& x) { return host(x); }, Var(Tensor::ones(with_extent(example_shape, 0, 2))));
  const CompactParts parts(host);
  std::vector<std::shared_ptr<const DagWiring>> wirings;
  for (const auto& d : parts.dans) wirings.push_back(d.model->wiring());
  const auto owners = owners_of(parts);
  const UnitFlow flow(steps, owners, std::move(wirings), true);
  std::vector<UnitPaths::Masked> layers;
  each_masked(std::as_const(host), [&](const auto& layer) {
    layers.push_back({layer.weight.var().node().get(), layer.mask()});
  });
  return UnitPaths(flow, std::move(layers));
}

}  // namespace deepstruct::detail
