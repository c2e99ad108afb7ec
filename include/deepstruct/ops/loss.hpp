// Losses: cross entropy and its kin for classes, squared and absolute errors for numbers.
#pragma once

#include "normalize.hpp"

namespace deepstruct {

/// How the losses of the samples become one.
enum class Reduction { mean, sum, none };

namespace detail {
inline Var reduced(const Var& losses, Reduction reduction) {
  if (reduction == Reduction::none) return losses;
  const Var total = sum_to(losses, Shape{});
  return reduction == Reduction::sum ? total : total * (1.0f / static_cast<float>(losses.size()));
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

namespace detail {

/// What class numbers say, as numbers:  loss_i = −Σ_c share[i, c]·log_p[i, c], and what the mean divides by.
struct ClassTargets {
  Indices target;    // [b], 0 where ignored
  Tensor own;        // [b, 1], the share of the target; 0 where ignored
  Tensor even;       // [b, classes], what label smoothing gives to every class beside that; else empty
  double total = 0;  // Σ weights of the targets

  Tensor share(const Shape& x) const {
    Tensor all = even.size() > 0 ? even : Tensor::zeros(x);
    for (std::int64_t i = 0; i < x[0]; ++i) all(i, target(i)) += own(i, 0);
    return all;
  }
  /// −Σ_c share·log_p; a class without a share counts for nothing, even where log_p is −∞.
  Tensor losses(const Tensor& log_p) const {
    if constexpr (has_cuda)
      if (log_p.device() != Device::cpu) return losses_on(log_p);
    Tensor all = Tensor::empty(own.shape());
    for (std::int64_t i = 0; i < own.shape()[0]; ++i) {
      double loss = own(i, 0) == 0 ? 0 : -double{own(i, 0)} * double{log_p(i, target(i))};
      if (even.size() > 0)
        for (std::int64_t c = 0; c < log_p.shape()[1]; ++c)
          if (even(i, c) != 0) loss -= double{even(i, c)} * double{log_p(i, c)};
      all(i, 0) = static_cast<float>(loss);
    }
    return all;
  }
  /// The same by ops, where log_p is.
  Tensor losses_on(const Tensor& log_p) const {
    no_grad guard;
    const auto part = [](const Var& weights, const Var& of) {
      const Tensor none = Tensor::zeros(of.shape(), of.device());
      return where(above(abs(weights), 0), mul(weights, of), none);
    };
    Indices column = Indices::empty({target.size(), 1});
    for (std::int64_t i = 0; i < target.size(); ++i) column(i, 0) = target(i);
    Var all = part(to(own, log_p.device()), gather(log_p, column, 1));
    if (even.size() > 0) all = add(all, sum_to(part(to(even, log_p.device()), log_p), own.shape()));
    return neg(all).value();
  }
  /// For the kernels of a device.
  ClassTargets on_device(Device device) && {
    return {to(std::move(target), device), to(std::move(own), device), to(std::move(even), device), total};
  }
};
inline ClassTargets class_targets(const Shape& x, std::span<const std::int32_t> target,
                                  const ClassLossOptions& options) {
  check(x.rank() == 2, "cross_entropy: x must be [batch, classes] (", x, ")");
  const std::int64_t n = x[0], classes = x[1];
  check(static_cast<std::int64_t>(target.size()) == n, "cross_entropy: needs one target per sample (", target.size(),
        " targets, x ", x, ")");
  check(!options.weight || options.weight.shape() == Shape{classes}, "cross_entropy: needs one weight per class (",
        options.weight ? options.weight.shape() : Shape{}, " for ", classes, ")");
  check(options.label_smoothing >= 0 && options.label_smoothing <= 1, "cross_entropy: need 0 <= label_smoothing <= 1 (",
        options.label_smoothing, ")");
  const Tensor weights = options.weight ? to(options.weight.value(), Device::cpu) : Tensor();
  const auto weight = [&](std::int64_t c) { return options.weight ? weights(c) : 1.0f; };
  const float even = options.label_smoothing / static_cast<float>(classes);
  ClassTargets t{Indices::zeros({n}), Tensor::zeros({n, 1}), even > 0 ? Tensor::zeros(x) : Tensor()};
  for (std::int64_t i = 0; i < n; ++i) {
    if (target[i] == options.ignore_index) continue;
    check(target[i] >= 0 && target[i] < classes, "cross_entropy: target is no class (", target[i], " of ", classes,
          " classes, sample ", i, ")");
    t.target(i) = target[i];
    t.own(i, 0) = (1 - options.label_smoothing) * weight(target[i]);
    t.total += double{weight(target[i])};
    if (even > 0)
      for (std::int64_t c = 0; c < classes; ++c) t.even(i, c) = even * weight(c);
  }
  return t;
}

/// [b, 1] → [b] or []
inline Tensor reduced(const Tensor& losses, double divisor, Reduction reduction) {
  if (reduction == Reduction::none) return reshape(losses, {losses.size()}).value();
  if constexpr (has_cuda)
    if (losses.device() != Device::cpu) {
      no_grad guard;
      return affine(sum_to(losses, Shape{}), static_cast<float>(1 / divisor), 0).value();
    }
  double total = 0;
  for (std::int64_t i = 0; i < losses.shape()[0]; ++i) total += double{losses(i, 0)};
  return Tensor::scalar(static_cast<float>(total / divisor));
}
/// What the gradient of a reduced loss means for every sample: [b] or [] → [b, 1]
inline Var spread(const Var& dy, std::int64_t n, float factor) {
  if (dy.shape().rank() == 1) return reshape(dy, {n, 1});
  return expand(factor == 1 ? dy : dy * factor, {n, 1});
}

}  // namespace detail

/// L = −log_p[target], weighted.   log_p [b, classes], target: b class numbers → [] or [b]. Throws on a target that is
/// no class.
inline Var nll_loss(const Var& log_p, std::span<const std::int32_t> target, const ClassLossOptions& options = {}) {
  const auto t = detail::class_targets(log_p.shape(), target, options);
  const double divisor = options.reduction == Reduction::mean ? t.total : 1;
  return record("nll_loss", detail::reduced(t.losses(log_p.value()), divisor, options.reduction), {log_p}, {},
                [share = to(t.share(log_p.shape()), log_p.device()), factor = static_cast<float>(1 / divisor)](
                    const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) {
                  dx[0] = neg(mul(detail::spread(dy, share.shape()[0], factor), share));
                });
}
/// L = −ln softmax(x)[target], with dx = softmax(x) − target.   x [b, classes], target: b class numbers → [] (mean over
/// the samples) or [b]. Throws on a target that is no class.
inline Var cross_entropy(const Var& x, std::span<const std::int32_t> target, const ClassLossOptions& options = {}) {
  auto t = detail::class_targets(x.shape(), target, options);
  const double divisor = options.reduction == Reduction::mean ? t.total : 1;
  Tensor log_p = detail::softmax_value(x.value(), 1, true);
  Tensor loss = detail::reduced(t.losses(log_p), divisor, options.reduction);
  return record(
      "cross_entropy", std::move(loss), {x}, {},
      [t = std::move(t).on_device(x.device()), log_p = std::move(log_p), factor = static_cast<float>(1 / divisor)](
          const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
        const Var g = detail::spread(dy, log_p.shape()[0], factor);
        if (!recording() && t.even.size() == 0) {
          Tensor out = Tensor::empty(log_p.shape(), log_p.device());
          const Var scale = mul(g, t.own);
          on(out.device(), [&](auto device) {
            kernels::cross_entropy_dx(device, log_p.view(), t.target.data(), scale.value().data(), out.view());
          });
          dx[0] = std::move(out);
          return;
        }
        const Tensor share = to(detail::ClassTargets(t).on_device(Device::cpu).share(log_p.shape()), log_p.device());
        const Var row = sum_to(share, t.own.shape());
        dx[0] = mul(g, sub(mul(detail::softmax_of_samples<false>(in[0], 1), row), share));
      });
}
inline Var cross_entropy(const Var& x, const Indices& target, const ClassLossOptions& options = {}) {
  check(target.rank() == 1, "cross_entropy: targets must be [batch] (", target.shape(), ")");
  if (target.device() != Device::cpu) return cross_entropy(x, to(target, Device::cpu), options);
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
  const Var entropy =
      mul(target, log(where(detail::above(target, 0), target, Tensor::ones(target.shape(), target.device()))));
  return sum(sub(entropy, mul(target, log_q))) * (1.0f / static_cast<float>(log_q.shape()[0]));
}

}  // namespace deepstruct
