// BatchNorm1d and BatchNorm2d: batch norm with running statistics.
#pragma once

#include <optional>

#include "../ops/batch_norm.hpp"
#include "module.hpp"

namespace deepstruct {

/// y = (x − mean)/√(var + eps)·weight + bias per channel (Ioffe & Szegedy 2015): in training with mean and biased
/// variance of the batch, in evaluation with running_mean and running_var. x has Least to Most extents, extent 1 counts
/// the channels; of one shape as x.
///
/// A call in training moves the running statistics by `momentum` towards those of the batch (its unbiased variance), or
/// without a momentum makes them the average of all batches; they are state that a const call writes, so calls of one
/// model in training must not overlap. A call that a trace records leaves them alone. State names are PyTorch's, but
/// num_batches_tracked is a float32 here, which counts to 2²⁴. Throws on x of another shape and, in training, unless a
/// channel has more than one number.
template <int Least, int Most>
struct BatchNorm {
  struct Options {
    float eps = 1e-5f;
    std::optional<float> momentum = 0.1f;  ///< none: cumulative average
    bool affine = true;                    ///< with weight and bias
  };

  std::optional<Param> weight;         // [c], ones
  std::optional<Param> bias;           // [c], zeros
  mutable Tensor running_mean;         // [c], zeros
  mutable Tensor running_var;          // [c], ones
  mutable Tensor num_batches_tracked;  // []
  float eps;
  std::optional<float> momentum;
  bool training = true;

  explicit BatchNorm(std::int64_t channels, const Options& o = {})
      : running_mean(Tensor::zeros({channels})),
        running_var(Tensor::ones({channels})),
        num_batches_tracked(Tensor::scalar(0)),
        eps(o.eps),
        momentum(o.momentum) {
    check(eps >= 0, "BatchNorm: eps must not be negative (", eps, ")");
    check(!momentum || (*momentum >= 0 && *momentum <= 1), "BatchNorm: need 0 <= momentum <= 1 (",
          momentum ? *momentum : 0.0f, ")");
    if (!o.affine) return;
    weight = Param(running_var);
    bias = Param(running_mean);
  }

  Var operator()(const Var& x) const {
    const Shape& s = x.shape();
    check(s.rank() >= Least && s.rank() <= Most && s[1] == running_mean.size(), "BatchNorm", Most / 2,
          "d: x must have ", Least, " to ", Most, " extents and as many channels as the layer (", s, " and ",
          running_mean.size(), ")");
    const Var w = weight ? weight->var() : Var(), b = bias ? bias->var() : Var();
    if (!training) return batch_norm(x, running_mean, running_var, w, b, eps);
    const BatchNormed now = batch_norm_training(x, w, b, eps);
    if (!detail::tape_state.trace) track(now, static_cast<double>(x.size() / running_mean.size()));
    return now.y;
  }

  static auto fields(auto& m) {
    return std::tuple{Field{"weight", m.weight}, Field{"bias", m.bias}, Field{"running_mean", of(m, m.running_mean)},
                      Field{"running_var", of(m, m.running_var)},
                      Field{"num_batches_tracked", of(m, m.num_batches_tracked)}};
  }

 private:
  /// A mutable part, as const as its owner.
  template <class M>
  static auto& of(M&, Tensor& part) {
    return static_cast<std::conditional_t<std::is_const_v<M>, const Tensor, Tensor>&>(part);
  }

  /// Moves the running statistics towards those of a batch of `terms` numbers per channel, each where it is.
  void track(const BatchNormed& batch, double terms) const {
    no_grad guard;
    num_batches_tracked.assign(affine(num_batches_tracked, 1, 1).value());
    const float share = momentum ? *momentum : 1.0f / num_batches_tracked.item();
    const auto unbiased = static_cast<float>(double{share} * (terms / (terms - 1)));
    running_mean.assign((Var(running_mean) * (1 - share) + Var(batch.mean) * share).value());
    running_var.assign((Var(running_var) * (1 - share) + Var(batch.variance) * unbiased).value());
  }
};

/// Batch norm of features [b, c] or sequences [b, c, l].
using BatchNorm1d = BatchNorm<2, 3>;
/// Batch norm of images [b, c, h, w].
using BatchNorm2d = BatchNorm<4, 4>;

}  // namespace deepstruct
