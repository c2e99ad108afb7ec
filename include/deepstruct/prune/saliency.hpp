// Saliency: how much each weight of a masked layer matters. Functions here fill it for a whole model.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "../nn/masked_linear.hpp"

namespace deepstruct {

/// Saliency |w| everywhere again, which is what a layer has unless something else was set.
template <class M>
void set_magnitude_saliency(M& model) {
  each_masked(model, [](auto& layer) { layer.clear_saliency(); });
}

/// Uniform random saliency in [0, 1].
template <class M>
void set_random_saliency(M& model, Rng& rng = default_rng()) {
  each_masked(model, [&](auto& layer) { layer.set_saliency(Tensor::uniform(layer.weight.shape(), 0, 1, rng)); });
}

/// Saliency |w| / std(w), the (unbiased) standard deviation over all stored weights of the layer, so that layers of
/// different scale compare. A layer whose weights do not vary keeps |w|.
template <class M>
void set_distributed_saliency(M& model) {
  no_grad guard;
  each_masked(model, [](auto& layer) {
    const Var magnitude = abs(Var(layer.weight.value()));
    const float deviation = layer.weight.size() > 1 ? std(Var(layer.weight.value())).item() : 0.0f;
    layer.set_saliency(deviation > 0 ? (magnitude / deviation).value() : magnitude.value());
  });
}

namespace detail {

/// What stands at the edges of a layer in a tensor of its weight's shape, on the CPU.   → [nnz]
template <class L>
Tensor edges_of(const L& layer, Tensor of_weight) {
  if (layer.packed()) return to(std::move(of_weight), Device::cpu);
  no_grad guard;
  const Mask mask = layer.mask();
  return to(pick_edges(std::move(of_weight).with_shape(mask.shape()), mask).value(), Device::cpu);
}
/// A tensor of the shape of a layer's weight, and where that is, from values of its edges; 0 where no edge is.
template <class L>
Tensor at_edges(const L& layer, std::span<const double> values) {
  Tensor edges = Tensor::empty({static_cast<std::int64_t>(values.size())});
  edges.for_each([&](std::int64_t e, float& s) { s = static_cast<float>(values[static_cast<std::size_t>(e)]); });
  if (layer.packed()) return to(std::move(edges), layer.weight.device());
  no_grad guard;
  Tensor all = place_edges(std::move(edges), layer.mask()).value();
  return to(std::move(all).with_shape(layer.weight.shape()), layer.weight.device());
}

/// w²/Σ_{|v| ≥ |w|} v², from the greatest down: equal magnitudes share one sum.
inline std::vector<double> lamp_scores(std::span<const float> w) {
  std::vector<std::pair<float, std::int32_t>> order;
  for (const float x : w) order.emplace_back(-std::abs(x), static_cast<std::int32_t>(order.size()));
  std::sort(order.begin(), order.end());
  std::vector<double> score(w.size(), 0);
  double sum = 0;
  for (std::size_t k = 0, end = 0; k < order.size(); k = end) {
    const double square = double{order[k].first} * double{order[k].first};
    while (end < order.size() && order[end].first == order[k].first) ++end;
    sum += square * static_cast<double>(end - k);
    for (std::size_t e = k; e < end && sum > 0; ++e) score[static_cast<std::size_t>(order[e].second)] = square / sum;
  }
  return score;
}

}  // namespace detail

/// Saliency w²/Σ_{|v| ≥ |w|} v², the sum over the existing weights v of the same layer (LAMP, Lee et al. 2021):
/// magnitudes of different layers compare, and global pruning by it picks the sparsity of every layer.
///
/// Equal magnitudes have equal saliency, a weight of 0 has 0, and the greatest of a layer, if it is the only one, has
/// 1. Sums in double; O(n log n) for n weights. Throws, and sets none, without a masked layer or where a weight is not
/// finite.
template <class M>
void set_lamp_saliency(M& model) {
  std::vector<Tensor> all;
  each_masked(std::as_const(model), [&](const std::string& name, const auto& layer) {
    const Tensor w = detail::edges_of(layer, layer.weight.value());
    w.for_each([&](std::int64_t e, float x) {
      check(std::isfinite(x), "set_lamp_saliency: a weight is not finite (", x, " at edge ", e, " of layer ", name,
            ")");
    });
    all.push_back(detail::at_edges(layer, detail::lamp_scores({w.data(), static_cast<std::size_t>(w.size())})));
  });
  check(!all.empty(), "set_lamp_saliency: the model has no masked layers (0)");
  auto next = all.begin();
  each_masked(model, [&](auto& layer) { layer.set_saliency(std::move(*next++)); });
}

}  // namespace deepstruct
