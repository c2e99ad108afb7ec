// Distance between two sparse topologies whatever the numbers of their hidden neurons are.
#pragma once

#include "diff.hpp"
#include "graph_transform.hpp"
#include "layer_match.hpp"

namespace deepstruct {

/// How far two topologies are apart, and which neurons were taken for the same.
struct TopologyDistance {
  double distance = 0;         ///< mean of layers; 0 if there is no layer behind the inputs
  std::vector<double> layers;  ///< of every layer behind the inputs, 0 to 1
  /// matched[l][i]: place in layer l of b of the neuron that was taken for neuron i of a, −1 if none was left.
  std::vector<std::vector<std::int32_t>> matched;
};

/// Options of topology_distance.
struct TopologyOptions {
  bool fixed_outputs = true;  ///< neurons of the last layer are those of the same place; else matched like hidden ones
};

namespace detail {

inline TopologyDistance topology_distance_of(const LayeredInputs& a, const LayeredInputs& b, bool fixed_outputs) {
  check(a.layers() == b.layers(), "topology_distance: topologies differ in layers (", a.layers(), " and ", b.layers(),
        ")");
  TopologyDistance result;
  if (a.layers() == 0) return result;
  const std::int64_t last = a.layers() - 1;
  check(a.width(0) == b.width(0), "topology_distance: topologies differ in inputs (", a.width(0), " and ", b.width(0),
        ")");
  check(!fixed_outputs || a.width(last) == b.width(last), "topology_distance: topologies differ in outputs (",
        a.width(last), " and ", b.width(last), ")");
  const auto colours = neuron_colours(a, b, fixed_outputs);
  std::vector<std::int32_t> number(static_cast<std::size_t>(b.size()), -1);
  for (std::int64_t l = 0; l <= last; ++l) {
    LayerMatch match(a, b, l, number);
    if (l == 0 || (fixed_outputs && l == last)) {
      match.same_places();
    } else {
      for (std::size_t round = colours.size(); round-- > 0;) match.equals(colours[round]);
      match.nearest();
    }
    for (std::int32_t i = 0; i < a.width(l); ++i)
      if (match.matched()[i] >= 0) number[b.first[l] + match.matched()[i]] = a.first[l] + i;
    if (l > 0) {
      result.layers.push_back(match.distance());
      result.distance += match.distance() / static_cast<double>(last);
    }
    result.matched.push_back(match.matched());
  }
  return result;
}

}  // namespace detail

/// The Neural Network Sparse Topology Distance of two networks (Liu et al., "Topological Insights into Sparse Neural
/// Networks", ECML PKDD 2020): hidden neurons have no names, so layer by layer those of b are renumbered to be most
/// like those of a. With I(v) the set of neurons that v reads, renumbered as the layers before were matched,
///
///   NED(i, j) = |I(i) Δ I(j)| / |I(i) ∪ I(j)|,   D_l = (Σ_matched NED(i, j) + |n_a − n_b|) / max(n_a, n_b),
///   D = 1/L · Σ_l D_l   over the L layers behind the inputs,
///
/// n the neurons of a layer; neurons without an input are equal. Inputs are matched by place, outputs too unless the
/// options say otherwise. The matching is greedy, not of least sum: first neurons with equal inputs, among several
/// those whose surroundings are alike furthest (detail::neuron_colours); then each other neuron of a, in order, takes
/// the nearest one left of b, of equals the first.
///
/// So D(a, b) is 0 for networks that differ in the numbers of hidden neurons only, unless neurons that colour
/// refinement takes for equal are not; D(a, b) and D(b, a) may differ. Per layer O(n_a·n_b + Σ_u r_a(u)·r_b(u)), r the
/// numbers of readers of neuron u in that layer; memory O(E + V·layers). Edges may skip layers. Throws on different
/// numbers of layers, inputs or fixed outputs, and on a cycle.
inline TopologyDistance topology_distance(const LayeredGraph& a, const LayeredGraph& b,
                                          const TopologyOptions& options = {}) {
  return detail::topology_distance_of(detail::layered_inputs(a), detail::layered_inputs(b), options.fixed_outputs);
}
/// The same of layers one after the other, mask l from layer l to layer l + 1.   masks[l] [n_{l+1}, n_l]
///
/// Throws unless every mask reads what the one before it gives.
inline TopologyDistance topology_distance(std::span<const Mask> a, std::span<const Mask> b,
                                          const TopologyOptions& options = {}) {
  return detail::topology_distance_of(detail::layered_inputs(a), detail::layered_inputs(b), options.fixed_outputs);
}
/// The same of one hidden layer: columns are inputs of the same place, rows are matched.
inline TopologyDistance topology_distance(const Mask& a, const Mask& b) {
  return topology_distance(std::span(&a, 1), std::span(&b, 1), {.fixed_outputs = false});
}
/// The same of two models, as graphs of their neurons (to_graph): also with convolutions, skip connections, packed or
/// not. Weights of layers without a mask all count as edges. `example` is the shape of an input with its batch.
template <Module M>
TopologyDistance topology_distance(const M& a, const M& b, const Shape& example) {
  return topology_distance(to_graph(a, example, {.slots = false}), to_graph(b, example, {.slots = false}));
}
/// The same of models that know their number of inputs, as to_graph(model) takes them.
template <Module M>
TopologyDistance topology_distance(const M& a, const M& b) {
  return topology_distance(to_graph(a), to_graph(b));
}

}  // namespace deepstruct
