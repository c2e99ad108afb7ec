// Optimal Brain Damage: saliency ½ h_ii w_i², with the diagonal h of the Hessian of the loss.
#pragma once

#include "obd_layerwise.hpp"
#include "prune.hpp"

namespace deepstruct {

/// How h_ii of Optimal Brain Damage is found, for the mean loss over all samples.
enum class Curvature {
  exact,       ///< ∂²L/∂w_i², one reverse pass through the gradient per weight and batch; any model and loss
  hutchinson,  ///< mean of v ⊙ Hv over probes of random signs (Bekas et al. 2007): exact on average; any model and loss
  gauss_newton,  ///< diagonal of Σ_n J_nᵀ H_n J_n (Schraudolph 2002): exact where the outputs are piecewise linear in
                 ///< each weight, as in ReLU networks, and ≥ 0 for convex losses; 2·outputs reverse passes per batch
                 ///< for linear layers, per sample for others
  layerwise  ///< LeCun's recursion, which leaves out mixed derivatives between units and f″; one pass per batch
};

/// Options of set_obd_saliency.
struct ObdOptions {
  Curvature curvature = Curvature::exact;
  std::int64_t probes = 32;  ///< hutchinson: probes per batch, at least 1
};

/// Saliency ½ h_ii w_i², by how much the loss rises without weight i where the gradient is 0 and weights do not
/// interact (LeCun, Denker & Solla 1990, "Optimal Brain Damage"); h_ii by how.curvature; 0 behind the masks. exact and
/// hutchinson take any loss (model, batch) → scalar; gauss_newton and layerwise need one of the outputs alone, which is
/// a sum over samples: CrossEntropy, or one with a member of_outputs(outputs, batch) → scalar, of outputs [b, …] in two
/// extents. gauss_newton needs evaluation mode, layerwise a network of linear layers, convolutions, biases, sums, max
/// pooling and elementwise activations. Nothing but saliencies changes. The model runs in the mode it is in: dropout
/// counts unless set_training(model, false). exact takes time weights × two gradients: a
/// network 64-32-10 with 1000 samples a second or two; above some 10⁴ weights take another.
///
/// Throws, and leaves saliencies as they were, on a model without masked layers, no data, a loss or saliency that is
/// not finite, fewer than one probe, and what a curvature does not take.
///   set_obd_saliency(model, data, {}, {.curvature = Curvature::gauss_newton});
template <class M, class Batches, class Loss = CrossEntropy>
void set_obd_saliency(M& model, Batches&& data, Loss&& loss = {}, const ObdOptions& how = {},
                      Rng& rng = default_rng()) {
  constexpr const char* op = "set_obd_saliency";
  if (how.curvature == Curvature::hutchinson)
    check(how.probes >= 1, op, ": hutchinson needs at least one probe (", how.probes, ")");
  const M probe = model;  // running statistics of the model itself stay
  detail::CurvatureProbe of(op, probe);
  detail::each_batch(op, data, [&](auto&& batch, double share) {
    const auto whole = [&] { return loss(probe, batch); };
    if (how.curvature == Curvature::exact) return detail::add_exact(of, whole, share);
    if (how.curvature == Curvature::hutchinson) return detail::add_hutchinson(of, whole, share, how.probes, rng);
    const Var x = to(Var(batch.x), device_of(probe));
    const detail::Tapped run = detail::tapped_run(probe, x.value());
    const auto hessian = detail::output_hessian(op, run.result.value(), x.shape()[0], [&](const Var& outputs) {
      return detail::loss_of_outputs(op, loss, outputs, batch);
    });
    if (how.curvature == Curvature::layerwise) return detail::add_layerwise(of, run, hessian, share);
    detail::add_gauss_newton(
        of, run, x, hessian, [&](const Var& some) { return probe(some); }, share);
  });
  std::vector<Tensor> all;
  each_masked(probe, [&](const auto& layer) {
    const detail::EdgePlaces& places = of.places[all.size()];
    const detail::EdgeCurvature& c = of.curvature[all.size()];
    const Tensor w = places.picked(c.effective && !layer.packed() ? layer.effective_weight() : layer.weight.value());
    Tensor s = Tensor::empty({places.count()});
    s.for_each([&](std::int64_t e, float& v) {
      v = static_cast<float>(0.5 * c.h[static_cast<std::size_t>(e)] * double{w(e)} * double{w(e)});
    });
    all.push_back(places.placed(std::move(s)));
  });
  detail::put_saliencies(op, model, std::move(all));
}

/// Prunes the whole network by set_obd_saliency, for a budget: the weights that the loss misses least, to second order
/// (LeCun, Denker & Solla 1990). If it throws, nothing has changed.
///   optimal_brain_damage(model, batches(validation, 128), percentage(30));
template <class M, class Batches, class Loss = CrossEntropy>
PruneReport optimal_brain_damage(M& model, Batches&& data, const Budget& budget, Loss&& loss = {},
                                 const ObdOptions& how = {}, const PruneOptions& options = {},
                                 Rng& rng = default_rng()) {
  return prune(
      model, [&](M& m) { set_obd_saliency(m, data, loss, how, rng); }, budget, options);
}

}  // namespace deepstruct
