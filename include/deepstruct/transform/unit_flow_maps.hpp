// UnitFlow of what has weights: linear maps, convolutions and networks on graphs, forwards, backwards, and their
// biases.
#pragma once

#include "unit_flow.hpp"

namespace deepstruct::detail {

/// The bias that takes constants of what a linear map reads: its own, that of the sum behind it, or a batch norm there.
inline const Node* UnitFlow::take_constants(std::size_t k, const Node* weight) const {
  const auto read_once = [&](std::size_t i) { return reads_.at(node(i)) == 1; };
  if (reads_.at(weight) != 1) return nullptr;
  if (steps_[k].inputs.size() > 2) return owner(input(k, 2)) && read_once(input(k, 2)) ? node(input(k, 2)) : nullptr;
  if (readers_[k].size() != 1) return nullptr;
  const std::size_t r = readers_[k][0];
  if (steps_[r].inputs.size() < 2 || input(r) != k || !owner(input(r, 1)) || !read_once(input(r, 1))) return nullptr;
  const bool bias = steps_[r].op == "add" && shape(k).rank() == 2 && shape(input(r, 1)) == Shape{shape(k)[1]};
  const bool norm = steps_[r].op == "batch_norm" && is_leaf(input(r, 1), ParamOwner::norm);
  return bias || norm ? node(input(r, 1)) : nullptr;
}

/// Rows of a linear map are new units; they are constant if all they read is.
inline void UnitFlow::map_of(std::size_t k, Linear site, const Node* weight) {
  const Value& x = values_[input(k)];
  Value& y = values_[k];
  site.step = k;
  site.target = take_constants(k, weight);
  if (const auto found = gone_.find(weight); found != gone_.end()) {
    site.gone.assign(x.unit.size(), 0);
    for (const std::int32_t place : found->second) site.gone.at(static_cast<std::size_t>(place)) = 1;
  }
  ++known_reads_[weight];
  y.axis = 1;
  y.kind = Kind::linear;
  y.site = linears_.size();
  fresh(y, shape(k)[1], true);
  const bool each = site.groups > 1;  // one channel per group: its outputs go with it
  if (each)
    for (std::size_t r = 0; r < y.unit.size(); ++r) tie(y.unit[r], x.unit[r / (y.unit.size() / x.unit.size())]);
  use(weight, 0, y.unit);
  use(weight, 1, x.unit);
  const bool padded = attribute<Shape>(k, "padding") && *attribute<Shape>(k, "padding") != Shape{0, 0};
  site.fold.assign(x.unit.size(), std::numeric_limits<float>::quiet_NaN());
  for (std::size_t c = 0; c < x.unit.size() && site.target; ++c)
    if (const auto value = x.constant[c] ? uniform(input(k), static_cast<std::int64_t>(c)) : std::nullopt)
      if (!padded || *value == 0) site.fold[c] = *value;
  if (std::find(x.constant.begin(), x.constant.end(), 1) == x.constant.end() && site.depth > 0 &&
      (!site.mask || site.mask->is_full()) && !site.factor && site.gone.empty() && zeros_are_edges_) {
    y.constant.assign(y.unit.size(), 0);
  } else {
    for (std::size_t r = 0; r < y.unit.size(); ++r)
      for_each_edge(site, static_cast<std::int64_t>(r), [&](std::int64_t c, float) { y.constant[r] &= x.constant[c]; });
  }
  linears_.push_back(std::move(site));
}

/// x Wᵀ, where W is a parameter, or one behind a mask.
inline void UnitFlow::linear(std::size_t k) {
  const std::size_t w = input(k, 1);
  const Value& x = values_[input(k)];
  if (!x.varies || values_[w].varies || x.axis != 1 || shape(input(k)).rank() != 2) return opaque(k);
  Linear site{.step = k, .depth = shape(input(k))[1]};
  if (steps_[k].op == "sparse_linear") {
    if (picks(k)) return;
    site.mask = *attribute<Mask>(k, "mask");
    site.by_edge = true;
    const std::size_t full = steps_[w].op == "pick_edges" ? input(w) : w;
    return is_leaf(full, ParamOwner::layer) ? map_of(k, std::move(site), node(full)) : opaque(k);
  }
  if (steps_[k].attributes.size() != 2 || integer(k, "transpose_a") != 0 || integer(k, "transpose_b") == 0)
    return opaque(k);
  if (owner(w)) return map_of(k, std::move(site), node(w));
  if (steps_[w].op == "place_edges" && steps_[input(w)].op == "pick_edges") {
    site.mask = *attribute<Mask>(w, "mask");
    const std::size_t full = input(input(w));
    if (is_leaf(full, ParamOwner::layer)) return map_of(k, std::move(site), node(full));
  }
  if (steps_[w].op == "mul" && is_leaf(input(w), ParamOwner::layer) && shape(input(w, 1)) == shape(w)) {
    site.factor = &steps_[input(w, 1)].value.value();
    return map_of(k, std::move(site), node(input(w)));
  }
  opaque(k);
}

inline void UnitFlow::convolution(std::size_t k) {
  std::size_t w = input(k, 1);
  const Value& x = values_[input(k)];
  if (!x.varies || values_[w].varies || x.axis != 1) return opaque(k);
  const std::int64_t groups = integer(k, "groups"), channels = shape(input(k))[1];
  Linear site{.step = k, .depth = groups > 0 ? channels / groups : 0, .groups = groups};
  const auto before = [&](std::string_view op) { return steps_[w].op == op ? std::exchange(w, input(w)) != w : false; };
  if (steps_[k].op == "sparse_conv2d") {
    site.mask = *attribute<Mask>(k, "mask");
    site.by_edge = true;
    const Shape kernel = *attribute<Shape>(k, "kernel");
    site.window = kernel[0] * kernel[1];
    if (before("pick_edges")) before("reshape");
  } else {
    site.window = shape(w)[2] * shape(w)[3];
    if (before("reshape")) {
      site.mask = steps_[w].op == "place_edges" ? std::optional(*attribute<Mask>(w, "mask")) : std::nullopt;
      if (!before("place_edges") || !before("pick_edges") || !before("reshape")) return opaque(k);
    }
  }
  const bool own = is_leaf(w, ParamOwner::layer);
  if (!owner(w) || (!own && (site.mask || groups > 1)) || (groups > 1 && site.depth != 1)) return opaque(k);
  const std::size_t weight = w;
  map_of(k, std::move(site), node(weight));
  if (steps_[k].inputs.size() < 3) return;
  if (!owner(input(k, 2))) return freeze(values_[k]);
  use(node(input(k, 2)), 0, values_[k].unit);
  ++known_reads_[node(input(k, 2))];
}

/// A map that picks vertices of a network on a graph, as the network itself does.
inline bool UnitFlow::picks(std::size_t k) {
  const Mask& mask = *attribute<Mask>(k, "mask");
  if (owner(input(k, 1)) || mask.nnz() != mask.rows()) return false;
  for (const auto& w : wirings_) {
    if (mask.cols() != w->vertices || !std::ranges::equal(mask.col(), w->output)) continue;
    const Value& x = values_[input(k)];
    Value& y = values_[k];
    y.axis = 1;
    y.kind = Kind::moved;
    y.from = w->output;
    for (const std::int32_t v : y.from) y.unit.push_back(x.unit[v]), y.constant.push_back(x.constant[v]);
    return true;
  }
  return false;
}

/// A whole network on a graph: a vertex is constant if all it reads is.
inline void UnitFlow::network(std::size_t k) {
  const std::size_t values = input(k, 1);
  const Value& x = values_[input(k)];
  if (!x.varies || x.axis != 1 || !is_leaf(values, ParamOwner::dag) || reads_.at(node(values)) != 1) return opaque(k);
  const std::size_t number = owner(values)->number;
  const DagWiring& w = *wirings_[number];
  DagSite d{k, number, *attribute<Mask>(k, "mask"), {}, {}, {}, {}};
  const auto n = static_cast<std::size_t>(w.vertices);
  d.constant.resize(n);
  d.needed.resize(n);
  d.value.resize(n, 0);
  d.tied.assign(n, -1);
  for (std::int64_t v = 0; v < w.inputs; ++v) {
    d.tied[v] = x.unit[v];
    const auto value = x.constant[v] ? uniform(input(k), v) : std::nullopt;
    d.constant[v] = value.has_value();
    d.value[v] = double{value.value_or(0.0f)};
  }
  const auto start = d.mask.row_start(), col = d.mask.col();
  const Tensor &weight = steps_[values].value.value(), &bias = steps_[input(k, 2)].value.value();
  for (std::int64_t v = w.inputs; v < w.vertices; ++v) {
    bool constant = true;
    double sum = 0;
    for (std::int64_t r = w.row_of(v - w.inputs); constant && r < w.row_of(v + 1 - w.inputs); ++r) {
      double z = double{bias(r)};
      for (std::int32_t e = start[r]; constant && e < start[r + 1]; ++e) {
        if (!zeros_are_edges_ && weight(e) == 0) continue;
        constant = d.constant[col[e]] != 0;
        z += double{weight(e)} * d.value[col[e]];
      }
      const auto f = w.activation.empty() ? VertexActivation::relu : w.activation[v - w.inputs];
      sum += f == VertexActivation::relu      ? std::max(z, 0.0)
             : f == VertexActivation::tanh    ? std::tanh(z)
             : f == VertexActivation::sigmoid ? 1 / (1 + std::exp(-z))
                                              : z;
    }
    d.constant[v] = constant && std::isfinite(sum);
    d.value[v] = d.constant[v] ? sum : 0;
  }
  Value& y = values_[k];
  y.axis = 1;
  y.kind = Kind::dag;
  y.site = dag_sites_.size();
  for (const std::int32_t v : w.output) {
    if (d.tied[v] < 0) d.tied[v] = count_++;
    y.unit.push_back(d.tied[v]);
    y.constant.push_back(d.constant[v]);
  }
  dag_sites_.push_back(std::move(d));
}

inline void UnitFlow::mark_linear(std::size_t k) {
  const Value& y = values_[k];
  const Linear& site = linears_[y.site];
  Value& x = values_[input(k)];
  for (std::size_t r = 0; r < y.unit.size(); ++r)
    if (y.needed[r])
      for_each_edge(site, static_cast<std::int64_t>(r), [&](std::int64_t c, float) {
        if (std::isnan(site.fold[c]) || stays(x.unit[c])) x.needed[c] = 1;
      });
}

inline void UnitFlow::mark_dag(std::size_t k) {
  DagSite& d = dag_sites_[values_[k].site];
  const DagWiring& w = *wirings_[d.number];
  const auto start = d.mask.row_start(), col = d.mask.col();
  const Tensor& value = steps_[input(k, 1)].value.value();
  d.needed.assign(d.needed.size(), 0);
  for (std::size_t o = 0; o < w.output.size(); ++o) d.needed[w.output[o]] |= values_[k].needed[o];
  for (std::int64_t v = w.vertices - 1; v >= w.inputs; --v)
    if (d.needed[v])
      for (std::int32_t e = start[w.row_of(v - w.inputs)]; e < start[w.row_of(v + 1 - w.inputs)]; ++e) {
        const std::int32_t u = col[e];
        if ((zeros_are_edges_ || value(e) != 0) && (!d.constant[u] || forced(d, static_cast<std::size_t>(u))))
          d.needed[u] = 1;
      }
  for (std::int64_t v = 0; v < w.inputs; ++v) values_[input(k)].needed[v] |= d.needed[v];
}

/// Constants of units that go, into biases.
inline void UnitFlow::fold() {
  for (const Linear& site : linears_) {
    if (!site.target) continue;
    const Value &x = values_[input(site.step)], &y = values_[site.step];
    std::vector<double> sum(y.unit.size(), 0);
    bool any = false;
    for (std::size_t c = 0; c < x.unit.size(); ++c) any |= !std::isnan(site.fold[c]) && !stays(x.unit[c]);
    for (std::size_t r = 0; any && r < sum.size(); ++r)
      if (stays(y.unit[r]))
        for_each_edge(site, static_cast<std::int64_t>(r), [&](std::int64_t c, float w) {
          if (!std::isnan(site.fold[c]) && !stays(x.unit[c])) sum[r] += double{w} * double{site.fold[c]};
        });
    if (any) shifts_[site.target] = std::move(sum);
  }
  for (const DagSite& d : dag_sites_) {
    const DagWiring& w = *wirings_[d.number];
    const auto start = d.mask.row_start(), col = d.mask.col();
    const Tensor& value = steps_[input(d.step, 1)].value.value();
    Dag& out = dags_[d.number];
    out.stays.resize(d.needed.size());
    out.shift.assign(static_cast<std::size_t>(w.rows()), 0);
    for (std::size_t v = 0; v < out.stays.size(); ++v) out.stays[v] = d.needed[v] || forced(d, v);
    for (std::int64_t r = 0; r < w.rows(); ++r)
      for (std::int32_t e = start[r]; e < start[r + 1]; ++e)
        if (d.constant[col[e]] && !out.stays[col[e]]) out.shift[r] += double{value(e)} * d.value[col[e]];
  }
}

/// Labels are groups; behind them the vertices without one. Statistics that are needed fix what they count.
inline void UnitFlow::number_groups() {
  for (std::size_t k = 1; k < steps_.size(); ++k) {
    const Value& y = values_[k];
    if (!y.varies || y.kind != Kind::all || std::find(y.needed.begin(), y.needed.end(), 1) == y.needed.end()) continue;
    for (const int i : steps_[k].inputs)
      for (const std::int32_t u : values_[static_cast<std::size_t>(i)].unit) fix(u, steps_[k].op);
  }
  needed_ = keep_;
  vertex_groups_.resize(wirings_.size());
  for (const DagSite& d : dag_sites_)
    for (std::size_t v = 0; v < d.tied.size(); ++v) {
      const bool alone = d.tied[v] < 0;
      vertex_groups_[d.number].push_back(alone ? static_cast<std::int32_t>(needed_.size()) : label_[d.tied[v]]);
      if (alone) needed_.push_back(d.needed[v]);
    }
}

}  // namespace deepstruct::detail
