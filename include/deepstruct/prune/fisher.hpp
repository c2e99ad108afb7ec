// The Fisher criterion: squared gradients of single samples.
#pragma once

#include "../nn/layers.hpp"
#include "edge_saliencies.hpp"
#include "taps.hpp"

namespace deepstruct {

namespace detail {

/// A model's loss on a batch, as a model.
template <class M, class B, class Loss>
struct LossOnBatch {
  const M& model;
  const B& batch;
  Loss& loss;

  Var operator()(const Var&) const { return loss(model, batch); }
  static auto fields(auto& m) { return std::tuple{Field{"", m.model}}; }
};

/// Sample i of an array of samples.   [b, …] → [1, …]
template <class T>
Array<T> sample_of(const Array<T>& all, std::int64_t i) {
  Array<T> one = Array<T>::empty(with_extent(all.shape(), 0, 1));
  for (std::int64_t r = 0; r < all.shape().rows(); ++r) one.data()[r * one.ld()] = all.data()[r * all.ld() + i];
  return one;
}
/// The samples of a batch one by one.
template <class B, class F>
void each_sample(const char* op, const B& batch, F&& f) {
  const auto x = to(batch.x, Device::cpu);
  const auto y = to(batch.y, Device::cpu);
  check(x.shape()[0] == y.shape()[0], op, ": a batch needs one label or target per sample (", x.shape(), " and ",
        y.shape(), ")");
  B one = batch;
  for (std::int64_t i = 0; i < x.shape()[0]; ++i) {
    one.x = sample_of(x, i);
    one.y = sample_of(y, i);
    f(std::as_const(one));
  }
}

/// Σ_n g_n² over all samples n, g_n the gradient of the loss of sample n alone, at the edges of every masked layer; and
/// the number of samples.
struct SquaredGradients {
  std::vector<std::vector<double>> sum;
  double samples = 0;

  /// The model must be one in which samples do not meet. A linear layer that runs once a sample takes one pass for all
  /// samples of a batch, as g = δ xᵀ: Σ_n g_n² = Σ_n δ_n² x_n². Others, or without `taps` all, take a pass per sample.
  template <class M, class Batches, class Loss>
  SquaredGradients(const char* op, const M& model, Batches&& data, Loss&& loss, bool taps = true) {
    std::vector<Mask> masks;
    std::vector<char> by_sample;
    each_masked(model, [&](const auto& layer) {
      masks.push_back(layer.mask());
      sum.emplace_back(static_cast<std::size_t>(masks.back().nnz()), 0.0);
      by_sample.push_back(!taps || !plain(layer));
    });
    const MaskedWeights all(model, op);
    each_batch(op, data, [&](const auto& batch, double) {
      samples += static_cast<double>(batch.x.shape()[0]);
      std::vector<char> done(sum.size(), 0);
      if (taps) by_taps(model, batch, loss, masks, by_sample, done);
      Vars rest;
      for (std::size_t k = 0; k < done.size(); ++k)
        if (!done[k]) rest.push_back(all.weights[k]);
      if (rest.empty()) return;
      each_sample(op, batch, [&](const auto& one) {
        const Vars g = grad(loss(model, one), rest);
        std::size_t k = 0, next = 0;
        each_masked(model, [&](const auto& layer) {
          if (!done[k]) add(k, edges_of(layer, g[next++].value()), true);
          ++k;
        });
      });
    });
  }

 private:
  /// Whether products are made with the weight itself, not with factors of a soft mask.
  template <class L>
  static bool plain(const L& layer) {
    if (layer.packed()) return true;
    const Tensor w = edges_of(layer, layer.weight.value()), used = edges_of(layer, layer.effective_weight());
    return std::equal(w.data(), w.data() + w.size(), used.data(),
                      [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); });
  }
  void add(std::size_t layer, const Tensor& edges, bool squared) {
    for (std::size_t e = 0; e < sum[layer].size(); ++e) {
      const double g = double{edges.data()[e]};
      sum[layer][e] += squared ? g * g : g;
    }
  }
  template <class M, class B, class Loss>
  void by_taps(const M& model, const B& batch, Loss& loss, const std::vector<Mask>& masks,
               const std::vector<char>& by_sample, std::vector<char>& done) {
    const std::int64_t samples_now = batch.x.shape()[0];
    const Tapped run = tapped_run(LossOnBatch<M, B, Loss>{model, batch, loss}, Tensor());
    std::vector<int> uses(sum.size(), 0);
    for (const Tap& tap : run.taps) ++uses[tap.layer];
    std::vector<Tap> single;
    Vars y;
    for (const Tap& tap : run.taps)
      if (uses[tap.layer] == 1 && !by_sample[tap.layer] && tap.x.shape().rank() == 2 &&
          tap.x.shape()[0] == samples_now) {
        single.push_back(tap);
        y.push_back(tap.y);
      }
    if (y.empty()) return;
    const Tensor seed = Tensor::full(run.result.shape(), static_cast<float>(samples_now), run.result.device());
    const Vars delta = grad(run.result, y, {.seed = seed});  // of the sum of the samples' losses
    no_grad guard;
    for (std::size_t k = 0; k < single.size(); ++k) {
      const std::size_t layer = single[k].layer;
      const Var part = sparse_linear_dw(square(delta[k]), square(detach(single[k].x)), masks[layer]);
      add(layer, to(part.value(), Device::cpu), false);
      done[layer] = 1;
    }
  }
};

}  // namespace detail

/// Saliency ½ w² E_n[g_n²], g_n the gradient of the loss of sample n alone: the second-order change of the loss when
/// the weight goes, the curvature by the (empirical) Fisher information (Theis et al. 2018).
///
/// `data` is any range of batches with .x and .y, `loss` any callable (model, batch) → scalar Var that is the mean of
/// its samples' losses. Gradients of single samples need samples that do not meet, so the model runs in evaluation:
/// batch norm by its running statistics, no dropout. Linear layers take one forward and backward pass per batch;
/// convolutions, layers that run more than once and a packed MaskedDeepDAN one per sample. Nothing of the model but the
/// saliencies changes. Throws, and sets none, without a masked layer or a sample and where a saliency is not finite.
template <class M, class Batches, class Loss = CrossEntropy>
void set_fisher_saliency(M& model, Batches&& data, Loss&& loss = {}) {
  const char* op = "set_fisher_saliency";
  M probe = model;
  set_training(probe, false);
  detail::SquaredGradients squares(op, std::as_const(probe), data, loss);
  std::size_t k = 0;
  each_masked(std::as_const(model), [&](const auto& layer) {
    const std::vector<double> square = detail::edge_products(layer, layer.weight.value(), layer.weight.value());
    std::vector<double>& s = squares.sum[k++];
    for (std::size_t e = 0; e < s.size(); ++e) s[e] *= 0.5 / squares.samples * square[e];
  });
  detail::put_edges(op, model, squares.sum);
}

}  // namespace deepstruct
