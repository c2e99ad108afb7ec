// What criteria that look at data share: the loss, gradients averaged over batches, saliencies set all or none.
#pragma once

#include "../ops/loss.hpp"
#include "saliency.hpp"

namespace deepstruct {

/// The loss of a model on a batch that criteria use unless another is given: cross entropy of model(x) with the labels
/// y, averaged over samples. Any callable (model, batch) → scalar Var may stand in its place.
struct CrossEntropy {
  template <class M, class B>
  Var operator()(const M& model, const B& batch) const {
    return cross_entropy(model(to(Var(batch.x), device_of(model))), batch.y);
  }
};

namespace detail {

/// Names and weights of the masked layers of a model, in the order of the fields.
struct MaskedWeights {
  std::vector<std::string> names;
  Vars weights;

  template <class M>
  MaskedWeights(const M& model, const char* op) {
    each_masked(model, [&](const std::string& name, const auto& layer) {
      names.push_back(name);
      weights.push_back(layer.weight.var());
    });
    check(!names.empty(), op, ": the model has no masked layers (0)");
  }
};

/// Calls f(batch, its share of all samples) for every batch of a range, and throws unless there is a sample. Goes over
/// the range twice.
template <class Batches, class F>
void each_batch(const char* op, Batches&& data, F&& f) {
  double samples = 0;
  for (auto&& batch : data) samples += static_cast<double>(batch.x.shape()[0]);
  check(samples > 0, op, ": needs data (0 samples)");
  for (auto&& batch : data)
    if (batch.x.shape()[0] > 0) f(batch, static_cast<double>(batch.x.shape()[0]) / samples);
}

/// Sets the saliencies of all masked layers, or none and throws: each must have the shape of its weight and be finite
/// where an edge is.
template <class M>
void put_saliencies(const char* op, M& model, std::vector<Tensor> saliencies) {
  std::size_t k = 0;
  each_masked(std::as_const(model), [&](const std::string& name, const auto& layer) {
    check(k < saliencies.size() && saliencies[k].shape() == layer.weight.shape(), op,
          ": saliency and weight differ in shape (layer ", name, ": ",
          k < saliencies.size() ? saliencies[k].shape() : Shape{0}, " and ", layer.weight.shape(), ")");
    const Tensor edges = edges_of(layer, saliencies[k]);
    edges.for_each([&](std::int64_t e, float s) {
      check(std::isfinite(s), op, ": a saliency is not finite (", s, " at edge ", e, " of layer ", name, ")");
    });
    ++k;
  });
  check(k == saliencies.size(), op, ": needs a saliency per masked layer (", saliencies.size(), " for ", k, ")");
  k = 0;
  each_masked(model, [&](auto& layer) { layer.set_saliency(std::move(saliencies[k++])); });
}

/// dL/dw of every masked layer for the mean loss over all samples of the batches.   shapes of the weights
template <class M, class Batches, class Loss>
std::vector<Tensor> mean_gradients(const char* op, const M& model, Batches&& data, Loss&& loss) {
  const M probe = model;  // running statistics of the model itself stay
  const MaskedWeights all(probe, op);
  std::vector<Tensor> sum;
  each_batch(op, data, [&](auto&& batch, double share) {
    const Vars g = grad(loss(probe, batch), all.weights);
    no_grad guard;
    for (std::size_t k = 0; k < g.size(); ++k) {
      const Var part = affine(g[k], static_cast<float>(share), 0);
      if (sum.size() < g.size())
        sum.push_back(part.value());
      else
        sum[k] = add(Var(std::move(sum[k])), part).value();
    }
  });
  return sum;
}

}  // namespace detail

/// Fills saliencies by a rule of one's own: rule(name, layer) → Tensor of the shape of the layer's weight, greater
/// where a weight matters more. Throws, and sets none, where a saliency is not finite or of another shape.
template <class M, class Rule>
void set_saliency(M& model, Rule&& rule) {
  std::vector<Tensor> all;
  each_masked(std::as_const(model),
              [&](const std::string& name, const auto& layer) { all.push_back(rule(name, layer)); });
  check(!all.empty(), "set_saliency: the model has no masked layers (0)");
  detail::put_saliencies("set_saliency", model, std::move(all));
}

}  // namespace deepstruct
