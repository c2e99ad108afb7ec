// SynFlow: pruning without data, by the flow through paths of absolute weights.
#pragma once

#include "../nn/layers.hpp"
#include "edge_saliencies.hpp"
#include "prune.hpp"

namespace deepstruct {

namespace detail {

/// Makes a model a sum over paths: weights |w|, biases and means of norms 0.
struct OnlyPaths {
  void operator()(const Path& path, Param& p) const {
    no_grad guard;
    const std::string name = path.str();
    if (name.ends_with("_mask")) return;  // alphas of a learnable mask
    p.set_value(name.ends_with("bias") ? Tensor::zeros(p.shape()) : abs(Var(p.value())).value());
  }
  void operator()(const Path& path, Tensor& t) const {
    no_grad guard;
    const std::string name = path.str();
    if (name.ends_with("mean")) t = Tensor::zeros(t.shape(), t.device());
    if (name.ends_with("_mask")) t = abs(Var(t)).value();  // factors of a soft mask
  }
};

/// |w|·∂R/∂|w| at the edges of every masked layer.
template <class M>
std::vector<std::vector<double>> synaptic_flow(const char* op, const M& model, const Shape& example_shape) {
  check(example_shape.rank() >= 1 && with_extent(example_shape, 0, 1).size() > 0, op,
        ": the example needs samples and extents (", example_shape, ")");
  M paths = model;
  walk(paths, OnlyPaths{});
  set_training(paths, false);
  const MaskedWeights all(std::as_const(paths), op);
  const Tensor ones = Tensor::ones(with_extent(example_shape, 0, 1), device_of(paths));
  const Var r = sum(std::as_const(paths)(Var(ones)));
  check(std::isfinite(r.item()), op, ": the sum of the outputs is not finite (R = ", r.item(),
        "); weights must be finite, and smaller where it overflows");
  check(r.item() != 0, op, ": no path of weights leads from an input to an output (R = ", r.item(),
        "), unless weights are so small that it underflows");
  const Vars g = grad(r, all.weights);
  std::vector<std::vector<double>> s;
  each_masked(std::as_const(paths), [&](const auto& layer) {
    s.push_back(edge_products(layer, layer.weight.value(), g[s.size()].value()));
    for (double& product : s.back()) product = std::abs(product);
  });
  return s;
}

}  // namespace detail

/// Saliency |w·∂R/∂w| with R the sum of the outputs of the network with absolute weights for an input of ones: the sum
/// over all paths through the weight of the products of their weights (SynFlow, Tanaka et al. 2020). No data is needed.
///
/// Biases (parameters whose name ends in "bias") and means of batch norm count as 0, batch norm scales by its running
/// variance, nothing is dropped out. In a chain of layers with ReLU or no activation between them, every layer has the
/// same sum of saliencies, R. `example_shape` is that of an input, its first extent counts samples and does not matter.
/// One forward and backward pass of one sample: for 784-300-100-10 as long as one or two training steps. Nothing of the
/// model but the saliencies changes. Throws, and sets none, without a masked layer and where R is not finite or 0.
template <class M>
void set_synflow_saliency(M& model, const Shape& example_shape) {
  const char* op = "set_synflow_saliency";
  detail::put_edges(op, model, detail::synaptic_flow(op, std::as_const(model), example_shape));
}

/// Options of synflow.
struct SynflowOptions {
  int rounds = 100;                 ///< the saliency is computed anew for each
  std::int64_t keep_per_layer = 0;  ///< a floor: so many of a layer's weights stay, the most salient ones
};

/// Prunes by SynFlow in rounds: after round k of n the share ρ^{k/n} of the weights is left, rounded, where ρ is the
/// share that the budget leaves (Tanaka et al. 2020). As all layers have equal sums of saliencies, the layers of a
/// chain stay alive down to very few weights, where pruning once by any saliency empties one.
///
/// Exactly the budget's number of weights goes, unless floors keep more; ties in layer and edge order. The example's
/// shape is as for set_synflow_saliency; saliencies that the model has stay what they are. n passes of one sample,
/// which cost less as weights go, in packed storage most of all. Throws, and leaves the model unchanged, where
/// set_synflow_saliency does in any round, on a bucket, and unless there is a round.
///
/// 784-300-100-10 to 99.9 % in 100 rounds takes as long as 50 training steps with batches of 128 in packed storage, in
/// full storage 70.
template <class M>
PruneReport synflow(M& model, const Budget& budget, const Shape& example_shape, const SynflowOptions& options = {}) {
  check(options.rounds >= 1, "synflow: needs a round (", options.rounds, ")");
  check(budget.kind != Budget::Kind::bucket, "synflow: a bucket has no meaning as saliencies change in every round (",
        budget.value, ")");
  M next = model;
  PruneReport report = [&] {  // how many weights the budget leaves, whichever
    M trial = model;
    each_masked(trial, [](auto& layer) { layer.set_saliency(Tensor::zeros(layer.weight.shape())); });
    return prune_network_by_saliency(trial, budget, {.exact = true});
  }();
  const std::int64_t all = report.before();
  const double share = all == 0 ? 1 : static_cast<double>(report.after()) / static_cast<double>(all);
  std::int64_t left = all;
  for (int k = 1; k <= options.rounds; ++k) {
    const double part = std::pow(share, static_cast<double>(k) / options.rounds);
    const auto keep = static_cast<std::int64_t>(std::nearbyint(part * static_cast<double>(all)));
    if (keep >= left) continue;
    detail::put_edges("synflow", next, detail::synaptic_flow("synflow", std::as_const(next), example_shape));
    const PruneReport round = prune_network_by_saliency(next, absolute(left - keep),
                                                        {.exact = true, .keep_per_layer = options.keep_per_layer});
    left = round.after();
  }
  std::vector<Mask> masks;
  each_masked(std::as_const(next), [&](const auto& layer) { masks.push_back(layer.mask()); });
  std::size_t k = 0;
  each_masked(model, [&](auto& layer) {
    report.layers[k].after = masks[k].nnz();
    if (masks[k].nnz() != report.layers[k].before) layer.set_mask(masks[k]);
    ++k;
  });
  return report;
}

}  // namespace deepstruct
