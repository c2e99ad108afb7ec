// First-order criteria: how the loss answers to a weight, by its gradient (Taylor, SNIP), the gradients of single
// samples (Fisher), or what training did with it (movement).
#pragma once

#include "fisher.hpp"
#include "movement.hpp"

namespace deepstruct {

namespace detail {

/// |w·g| at the edges of every masked layer, g the gradient of the mean loss.
template <class M, class Batches, class Loss>
std::vector<std::vector<double>> weight_times_gradient(const char* op, const M& model, Batches&& data, Loss&& loss) {
  const std::vector<Tensor> gradients = mean_gradients(op, model, data, loss);
  std::vector<std::vector<double>> all;
  each_masked(model, [&](const auto& layer) {
    all.push_back(edge_products(layer, layer.weight.value(), gradients[all.size()]));
    for (double& product : all.back()) product = std::abs(product);
  });
  return all;
}

}  // namespace detail

/// Saliency |w·g|, g the gradient of the mean loss over all samples: by how much the loss changes to first order when
/// the weight goes (Molchanov et al. 2017, 2019).
///
/// `data` is any range of batches, the same samples each time it is gone over, `loss` any callable (model, batch) →
/// scalar Var, a mean over the samples. One forward and backward pass over the data. The model runs in the mode it is
/// in (set_training) and nothing of it but the saliencies changes. Throws, and sets none, without a masked layer or a
/// sample and where a saliency is not finite.
template <class M, class Batches, class Loss = CrossEntropy>
void set_taylor_saliency(M& model, Batches&& data, Loss&& loss = {}) {
  const char* op = "set_taylor_saliency";
  detail::put_edges(op, model, detail::weight_times_gradient(op, std::as_const(model), data, loss));
}

/// Saliency |w·g|/Σ|w·g|, the sum over the network, g the gradient of the mean loss: the connection sensitivity of SNIP
/// (Lee et al. 2019), which prunes a network once, before its training, mostly by one batch. Arguments and errors as
/// for set_taylor_saliency, and an Error where all products are 0.
///
/// With one batch of 128, 784-300-100-10 takes as long as three training steps.
template <class M, class Batches, class Loss = CrossEntropy>
void set_snip_saliency(M& model, Batches&& data, Loss&& loss = {}) {
  const char* op = "set_snip_saliency";
  auto all = detail::weight_times_gradient(op, std::as_const(model), data, loss);
  double sum = 0;
  for (const auto& layer : all) sum = std::accumulate(layer.begin(), layer.end(), sum);
  check(sum != 0, op, ": the loss does not depend on a single weight (sum of |w g| = 0)");
  if (std::isfinite(sum))  // else the saliency that is to blame gets named
    for (auto& layer : all)
      for (double& s : layer) s /= sum;
  detail::put_edges(op, model, all);
}

}  // namespace deepstruct
