// Losses: cross entropy and its kin for classes, squared and absolute errors for numbers.
#pragma once

#include "normalize.hpp"

namespace deepstruct {

/// How the losses of the samples become one.
enum class Reduction { mean, sum, none };

namespace detail {
inline Var reduced(const Var& losses, Reduction reduction) {
  return reduction == Reduction::none ? losses : reduction == Reduction::sum ? sum(losses) : mean(losses);
}
inline void check_pair(const char* op, const Var& x, const Var& target) {
  check(x.shape() == target.shape(), op, ": x and target differ in shape (", x.shape(), " and ", target.shape(), ")");
}
}  // namespace detail

/// Options of cross_entropy and nll_loss.
struct ClassLossOptions {
  Reduction reduction = Reduction::mean;  ///< mean divides by the sum of the targets' weights
  Var weight = {};                        ///< one weight per class [classes], all 1 by default
  std::int32_t ignore_index = -100;       ///< samples with this target count for nothing
  float label_smoothing = 0;              ///< share of every target spread evenly over the classes
};

/// L = −log_p[target], weighted.   log_p [b, classes], target: b class numbers → [] or [b]. Throws on a target that is
/// no class.
inline Var nll_loss(const Var& log_p, std::span<const std::int32_t> target, const ClassLossOptions& options = {}) {
  check(log_p.shape().rank() == 2, "cross_entropy: x must be [batch, classes] (", log_p.shape(), ")");
  const std::int64_t n = log_p.shape()[0], classes = log_p.shape()[1];
  check(static_cast<std::int64_t>(target.size()) == n, "cross_entropy: needs one target per sample (", target.size(),
        " targets, x ", log_p.shape(), ")");
  check(!options.weight || options.weight.shape() == Shape{classes}, "cross_entropy: needs one weight per class (",
        options.weight ? options.weight.shape() : Shape{}, " for ", classes, ")");
  check(options.label_smoothing >= 0 && options.label_smoothing <= 1, "cross_entropy: need 0 <= label_smoothing <= 1 (",
        options.label_smoothing, ")");
  Indices index = Indices::empty({n, 1});
  Tensor weight = Tensor::empty({n, 1});
  double total = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t t = target[i];
    const bool ignored = t == options.ignore_index;
    check(ignored || (t >= 0 && t < classes), "cross_entropy: target is no class (", t, " of ", classes,
          " classes, sample ", i, ")");
    index(i) = ignored ? 0 : t;
    weight(i) = ignored ? 0.0f : options.weight ? options.weight.value()(t) : 1.0f;
    total += double{weight(i)};
  }
  const float smooth = options.label_smoothing;
  Var losses = mul(gather(log_p, index, 1), affine(Var(weight), smooth - 1, 0));
  if (smooth > 0) {  // (1 − s)·CE + s/classes · Σ_c −w_c log p_c
    Tensor counted = Tensor::empty({n, 1});
    for (std::int64_t i = 0; i < n; ++i) counted(i) = target[i] == options.ignore_index ? 0.0f : 1.0f;
    const Var spread = options.weight ? mul(log_p, options.weight) : log_p;
    losses = sub(losses, mul(sum(spread, Over(1, true)), Tensor::full({n, 1}, smooth / static_cast<float>(classes))) *
                             Var(counted));
  }
  if (options.reduction == Reduction::none) return reshape(losses, {n});
  const Var whole = sum(losses);
  return options.reduction == Reduction::sum ? whole : whole * static_cast<float>(1 / total);
}
/// L = −ln softmax(x)[target].   x [b, classes], target: b class numbers → [] (mean over the samples) or [b]
inline Var cross_entropy(const Var& x, std::span<const std::int32_t> target, const ClassLossOptions& options = {}) {
  check(x.shape().rank() == 2, "cross_entropy: x must be [batch, classes] (", x.shape(), ")");
  return nll_loss(log_softmax(x, 1), target, options);
}
inline Var cross_entropy(const Var& x, const Indices& target, const ClassLossOptions& options = {}) {
  check(target.rank() == 1, "cross_entropy: targets must be [batch] (", target.shape(), ")");
  return cross_entropy(x, std::span<const std::int32_t>(target.data(), static_cast<std::size_t>(target.size())),
                       options);
}

/// L = (x − target)²
inline Var mse_loss(const Var& x, const Var& target, Reduction reduction = Reduction::mean) {
  detail::check_pair("mse_loss", x, target);
  return detail::reduced(square(sub(x, target)), reduction);
}
/// L = |x − target|
inline Var l1_loss(const Var& x, const Var& target, Reduction reduction = Reduction::mean) {
  detail::check_pair("l1_loss", x, target);
  return detail::reduced(abs(sub(x, target)), reduction);
}
/// L = d²/(2β) where d = |x − target| < β, else d − β/2 (Girshick 2015)
inline Var smooth_l1_loss(const Var& x, const Var& target, Reduction reduction = Reduction::mean, float beta = 1) {
  detail::check_pair("smooth_l1_loss", x, target);
  check(beta > 0, "smooth_l1_loss: beta must be positive (", beta, ")");
  const Var d = abs(sub(x, target));
  return detail::reduced(where(detail::above(d, std::nextafter(beta, 0.0f)), d - beta / 2, square(d) * (0.5f / beta)),
                         reduction);
}
/// L = −t ln σ(x) − (1 − t) ln(1 − σ(x)), without overflow
inline Var binary_cross_entropy_with_logits(const Var& x, const Var& target, Reduction reduction = Reduction::mean) {
  detail::check_pair("binary_cross_entropy_with_logits", x, target);
  return detail::reduced(sub(neg(logsigmoid(neg(x))), mul(x, target)), reduction);
}
/// L = Σ t (ln t − log_q) / batch, 0 where t = 0.   log_q, target [b, …]
inline Var kl_div(const Var& log_q, const Var& target) {
  detail::check_pair("kl_div", log_q, target);
  const Var entropy = mul(target, log(where(detail::above(target, 0), target, Tensor::ones(target.shape()))));
  return sum(sub(entropy, mul(target, log_q))) * (1.0f / static_cast<float>(log_q.shape()[0]));
}

}  // namespace deepstruct
