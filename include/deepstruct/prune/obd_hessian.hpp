// The diagonal of the Hessian at the edges of masked layers: exact, and estimated by random probes.
#pragma once

#include <cmath>
#include <functional>
#include <utility>

#include "criterion.hpp"

namespace deepstruct::detail {

/// Second derivatives of the mean loss at the edges of a masked layer.
struct EdgeCurvature {
  std::vector<double> h;   ///< one per edge, in edge order
  bool effective = false;  ///< by the weight that acts (W ⊙ a soft mask), not by the parameter
};

/// Where the edges of a masked layer stand in an array of the shape of its weight.
struct EdgePlaces {
  Shape weight;
  Device device;
  Mask mask;
  bool packed;
  std::vector<Mask::Edge> edges;

  template <MaskedLayer L>
  explicit EdgePlaces(const L& layer)
      : weight(layer.weight.shape()), device(layer.weight.device()), mask(layer.mask()), packed(layer.packed()) {
    mask.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
      edges.emplace_back(static_cast<std::int32_t>(r), static_cast<std::int32_t>(c));
    });
  }
  std::int64_t count() const { return mask.nnz(); }

  /// 1 at an edge, else 0.   → shape of the weight
  Var unit(std::int64_t e) const {
    if (packed) {
      Tensor one = Tensor::zeros(weight);
      one(e) = 1;
      return to(std::move(one), device);
    }
    Tensor one = Tensor::zeros(mask.shape());
    one(edges[e].first, edges[e].second) = 1;
    return to(std::move(one).with_shape(weight), device);
  }
  /// The entry at an edge of an array of the shape of the weight, on the CPU.
  float at(const Tensor& full, std::int64_t e) const {
    if (packed) return full(e);
    const auto [r, c] = edges[e];
    if (full.rank() == 2) return full(r, c);
    const std::int64_t width = full.shape()[3], window = full.shape()[2] * width;
    return full(r, c / window, c % window / width, c % width);
  }
  /// values[e] at edge e, else 0.   [nnz] on the CPU → shape of the weight
  Tensor placed(Tensor values) const {
    no_grad guard;
    if (!packed) values = Tensor(place_edges(std::move(values), mask).value()).with_shape(weight);
    return to(std::move(values), device);
  }
  /// The entries at the edges.   shape of the weight → [nnz] on the CPU
  Tensor picked(const Tensor& full) const {
    no_grad guard;
    return to(packed ? full : pick_edges(Tensor(full).with_shape(mask.shape()), mask).value(), Device::cpu);
  }
};

/// All masked layers of a model that is a copy, to derive by their weights only.
struct CurvatureProbe {
  const char* op;
  Vars weights;
  std::vector<EdgePlaces> places;
  std::vector<EdgeCurvature> curvature;  ///< zeros, to add to

  template <class M>
  CurvatureProbe(const char* name, const M& copy) : op(name), weights(MaskedWeights(copy, name).weights) {
    each_param(copy, [](const Param& p) { p.var().node()->wants_grad = false; });
    each_masked(copy, [&](const auto& layer) { places.emplace_back(layer); });
    for (const EdgePlaces& p : places)
      curvature.push_back({std::vector<double>(static_cast<std::size_t>(p.count()), 0)});
    want(true);
  }
  /// Whether derivatives by the weights are recorded.
  void want(bool wanted) const {
    for (const Var& w : weights) w.node()->wants_grad = wanted;
  }
  /// h += factor·values of a layer.   values [nnz]
  void add(std::size_t layer, const Tensor& values, double factor) {
    const Tensor at_edges = to(values, Device::cpu);
    for (std::int64_t e = 0; e < at_edges.size(); ++e)
      curvature[layer].h[static_cast<std::size_t>(e)] += factor * double{at_edges(e)};
  }
};

/// Something computed anew whenever it is called, so that one compiled form serves all models.
using Recompute = std::function<Var()>;

/// A loss that may be differentiated.
inline Var checked_loss(const char* op, Var loss) {
  check(loss && loss.size() == 1, op, ": the loss must have exactly one element (shape ",
        loss ? loss.shape() : Shape{0}, ")");
  check(std::isfinite(loss.item()), op, ": the loss is not finite (", loss.item(), ")");
  return loss;
}

/// Calls f(k) for k = 0 … count − 1, in parallel on the CPU; on a GPU one after the other, in its one stream.
template <class F>
void for_each_on(Device device, std::int64_t count, F&& f) {
  if (device == Device::cpu) return parallel_for(count, f);
  for (std::int64_t k = 0; k < count; ++k) f(k);
}

/// Adds ∂²L/∂w_i² for every edge, by a reverse pass through the recorded gradient for each.
inline void add_exact(CurvatureProbe& all, const Recompute& loss, double share) {
  for (std::size_t k = 0; k < all.weights.size(); ++k) {
    const EdgePlaces& places = all.places[k];
    const Var& w = all.weights[k];
    all.want(false);  // what comes before this layer is a constant: nothing of it is recorded or run through again
    w.node()->wants_grad = true;
    const Var g = grad(checked_loss(all.op, loss()), {w}, {.create_graph = true})[0];
    if (!g.wants_grad()) continue;  // the loss is linear in this weight
    std::vector<double>& h = all.curvature[k].h;
    for_each_on(places.device, places.count(), [&](std::int64_t e) {  // the tape is only read
      const Tensor row = to(grad(g, {w}, {.seed = places.unit(e)})[0].value(), Device::cpu);
      h[static_cast<std::size_t>(e)] += share * double{places.at(row, e)};
    });
  }
}

/// Adds the mean of v ⊙ Hv over probes v with random signs at all edges: an estimate without bias, with variance
/// Σ_{j ≠ i} H_ij² per probe (Hutchinson 1990; Bekas et al. 2007).
inline void add_hutchinson(CurvatureProbe& all, const Recompute& loss, double share, std::int64_t probes, Rng& rng) {
  const std::size_t layers = all.weights.size();
  const Vars g = grad(checked_loss(all.op, loss()), all.weights, {.create_graph = true});
  for (std::int64_t p = 0; p < probes; ++p) {
    Vars v(layers);
    Var along;  // ⟨g, v⟩
    for (std::size_t k = 0; k < layers; ++k) {
      Tensor sign = Tensor::empty({all.places[k].count()});
      DrawInOrder draw(rng.draw());  // by edge: the same signs in either storage
      sign.for_each([&](std::int64_t e, float& s) { s = draw.word(static_cast<std::uint64_t>(e)) & 1 ? 1.0f : -1.0f; });
      v[k] = all.places[k].placed(std::move(sign));
      if (!g[k].wants_grad()) continue;
      const Var part = sum(mul(g[k], v[k]));
      along = along ? add(along, part) : part;
    }
    if (!along) return;  // the loss is linear in all weights
    const Vars hv = grad(along, all.weights);
    no_grad guard;
    for (std::size_t k = 0; k < layers; ++k)
      all.add(k, all.places[k].picked(mul(v[k], hv[k]).value()), share / static_cast<double>(probes));
  }
}

}  // namespace deepstruct::detail
