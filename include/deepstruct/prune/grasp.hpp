// GraSP: how much the norm of the gradient depends on a weight.
#pragma once

#include "edge_saliencies.hpp"

namespace deepstruct {

/// Cross entropy of logits over a temperature, model(x)/T, with the labels y, averaged over samples: the loss of GraSP,
/// which flattens predictions by T = 200 (Wang et al. 2020).
struct TemperedCrossEntropy {
  float temperature = 200;

  template <class M, class B>
  Var operator()(const M& model, const B& batch) const {
    check(temperature > 0, "TemperedCrossEntropy: the temperature must be positive (", temperature, ")");
    return cross_entropy(model(to(Var(batch.x), device_of(model))) / temperature, batch.y);
  }
};

namespace detail {

/// H v of the mean loss L over all samples for the weights of all masked layers together: Σ_batches ∇⟨∇L, v⟩.
///   v, result: shapes of the weights
template <class M, class Batches, class Loss>
std::vector<Tensor> hessian_times(const char* op, const M& model, Batches&& data, Loss&& loss,
                                  const std::vector<Tensor>& v) {
  const M probe = model;  // running statistics of the model itself stay
  const MaskedWeights all(probe, op);
  std::vector<Tensor> total;
  each_batch(op, data, [&](auto&& batch, double share) {
    const Vars g = grad(loss(probe, batch), all.weights, {.create_graph = true});
    Var dot;
    for (std::size_t k = 0; k < g.size(); ++k) {
      const Var part = sum(mul(g[k], Var(v[k])));
      dot = dot ? add(dot, part) : part;
    }
    const Vars h = grad(dot, all.weights);
    no_grad guard;
    for (std::size_t k = 0; k < h.size(); ++k) {
      const Var part = affine(h[k], static_cast<float>(share), 0);
      if (total.size() < h.size())
        total.push_back(part.value());
      else
        total[k] = add(Var(std::move(total[k])), part).value();
    }
  });
  return total;
}

}  // namespace detail

/// Saliency w·(H g), g and H gradient and Hessian of the mean loss with respect to the weights of all masked layers:
/// GraSP (Wang et al. 2020), which prunes a network once, before its training, so that the gradient keeps its norm.
///
/// Without the weight ‖g‖² changes by −2 w·(Hg) to first order, so weights whose loss makes it grow go first: those
/// with the greatest −w·(Hg), the least saliency. `data` is any range of batches, the same samples each time it is gone
/// over (about ten samples of every class in the paper), `loss` any callable (model, batch) → scalar Var, a mean over
/// the samples. Hg is exact, by a second backward pass through the gradient. The model runs in the mode it is in and
/// nothing of it but the saliencies changes. Throws, and sets none, without a masked layer or a sample and where a
/// saliency is not finite.
template <class M, class Batches, class Loss = TemperedCrossEntropy>
void set_grasp_saliency(M& model, Batches&& data, Loss&& loss = {}) {
  const char* op = "set_grasp_saliency";
  const auto g = detail::mean_gradients(op, std::as_const(model), data, loss);
  const auto product = detail::hessian_times(op, std::as_const(model), data, loss, g);
  std::vector<std::vector<double>> all;
  each_masked(std::as_const(model), [&](const auto& layer) {
    all.push_back(detail::edge_products(layer, layer.weight.value(), product[all.size()]));
  });
  detail::put_edges(op, model, all);
}

}  // namespace deepstruct
