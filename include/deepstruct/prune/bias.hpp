// Biases are pruned apart from weights: a mask never covers them.
#pragma once

#include "prune.hpp"

namespace deepstruct {

namespace detail {

/// Biases that are no more: 0, with all that optimizers remember of them, and left alone from now on.   live [out, 1]
inline void set_live_biases(Param& bias, const Mask& live) {
  const auto clear = [&](Tensor t) {
    Tensor host = to(std::move(t), Device::cpu);
    for (std::int64_t r = 0; r < host.size(); ++r)
      if (!live.contains(r, 0)) host(r) = 0;
    return host;
  };
  bias.set_value(clear(bias.value()));
  for (const Param::Slot& s : bias.slots()) bias.slot(s.name) = to(clear(s.value), bias.device());
  bias.set_live(live.is_full() ? std::nullopt : std::optional(live));
}

}  // namespace detail

/// Removes the smallest biases |b| of all masked layers together, exactly as many as the budget says, of equals the
/// first; the report names them "layer.bias". A pruned bias is 0 and stays 0 whatever optimizers do (momentum, weight
/// decay): it is no longer live (Param::set_live), and what was remembered of it is 0 too.
///
/// That lasts for copies and moves between devices; reset_parameters, pack and unpack of a MaskedDeepDAN, compact and
/// loading make parameters anew: freeze_zero_biases then. Throws, and changes nothing, where a bias is not finite,
/// where there are fewer than shall stay, and if no masked layer has a bias.
template <class M>
PruneReport prune_biases(M& model, const Budget& budget) {
  constexpr const char* op = "prune_biases";
  std::vector<detail::PruneLayer> layers;
  each_masked(model, [&](const std::string& name, auto& layer) {
    if (!layer.bias) return;
    Param& bias = *layer.bias;
    const std::string own = name.empty() ? "bias" : name + ".bias";
    const Mask live = bias.live() ? *bias.live() : Mask::ones(bias.size(), 1);
    const Tensor b = to(bias.value(), Device::cpu);
    Tensor saliency = Tensor::empty({live.nnz()});
    live.for_each([&](std::int32_t e, std::int64_t r, std::int64_t) {
      check(std::isfinite(b(r)), op, ": a bias is not finite (", own, ", ", r, ": ", b(r), ")");
      saliency(e) = std::abs(b(r));
    });
    layers.push_back(
        {own, [&bias](const Mask& m) { detail::set_live_biases(bias, m); }, live, std::move(saliency), bias.size()});
  });
  check(!layers.empty(), op, ": no masked layer has a bias (0)");
  return detail::set_masks(layers, detail::masks_after(layers, budget, {.exact = true}, op));
}

/// Biases of masked layers that are exactly 0 stay 0, as if prune_biases had just removed them; others are live.
template <class M>
void freeze_zero_biases(M& model) {
  each_masked(model, [](auto& layer) {
    if (!layer.bias) return;
    const Tensor b = to(layer.bias->value(), Device::cpu);
    detail::set_live_biases(*layer.bias,
                            Mask::where(b.size(), 1, [&](std::int64_t r, std::int64_t) { return b(r) != 0; }));
  });
}

}  // namespace deepstruct
