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
  Indices target;        // [b], 0 where ignored
  Tensor own;            // [b, 1], the share of the target; 0 where ignored
  Tensor even = {};      // [b, classes], what label smoothing gives to every class beside that; else empty
  Tensor all = {};       // [b, classes], both together, where that is at hand already
  double total = 0;      // Σ weights of the targets, on the CPU
  Tensor total_on = {};  // [], the same on a GPU

  Tensor share(const Shape& x) const {
    if (all.size() > 0) return all;
    if (own.device() != Device::cpu) {
      const ClassTargets here{to(target, Device::cpu), to(own, Device::cpu)};
      return to(here.share(x), own.device());
    }
    Tensor sum = even.size() > 0 ? even : Tensor::zeros(x);
    for (std::int64_t i = 0; i < x[0]; ++i) sum(i, target(i)) += own(i, 0);
    return sum;
  }
  /// −Σ_c share·log_p; a class without a share counts for nothing, even where log_p is −∞.
  Tensor losses(const Tensor& log_p) const {
    Tensor each = Tensor::empty(own.shape());
    for (std::int64_t i = 0; i < own.shape()[0]; ++i) {
      double loss = own(i, 0) == 0 ? 0 : -double{own(i, 0)} * double{log_p(i, target(i))};
      if (even.size() > 0)
        for (std::int64_t c = 0; c < log_p.shape()[1]; ++c)
          if (even(i, c) != 0) loss -= double{even(i, c)} * double{log_p(i, c)};
      each(i, 0) = static_cast<float>(loss);
    }
    return each;
  }
};
/// The losses of the samples [b, 1], and what their gradient needs.
struct ClassLosses {
  Tensor losses;
  ClassTargets targets;
};

inline void check_class_options(const Shape& x, std::int64_t targets, const ClassLossOptions& options) {
  check(x.rank() == 2, "cross_entropy: x must be [batch, classes] (", x, ")");
  const std::int64_t n = x[0], classes = x[1];
  check(targets == n, "cross_entropy: needs one target per sample (", targets, " targets, x ", x, ")");
  check(!options.weight || options.weight.shape() == Shape{classes}, "cross_entropy: needs one weight per class (",
        options.weight ? options.weight.shape() : Shape{}, " for ", classes, ")");
  check(options.label_smoothing >= 0 && options.label_smoothing <= 1, "cross_entropy: need 0 <= label_smoothing <= 1 (",
        options.label_smoothing, ")");
}
inline ClassTargets class_targets(const Shape& x, std::span<const std::int32_t> target,
                                  const ClassLossOptions& options) {
  const std::int64_t n = x[0], classes = x[1];
  const Tensor weights = options.weight ? to(options.weight.value(), Device::cpu) : Tensor();
  const auto weight = [&](std::int64_t c) { return options.weight ? weights(c) : 1.0f; };
  const float even = options.label_smoothing / static_cast<float>(classes);
  ClassTargets t{Indices::zeros({n}), Tensor::zeros({n, 1}), even > 0 ? Tensor::zeros(x) : Tensor()};
  for (std::int64_t i = 0; i < n; ++i) {
    if (target[i] == options.ignore_index) continue;
    t.target(i) = target[i];
    t.own(i, 0) = (1 - options.label_smoothing) * weight(target[i]);
    t.total += double{weight(target[i])};
    if (even > 0)
      for (std::int64_t c = 0; c < classes; ++c) t.even(i, c) = even * weight(c);
  }
  return t;
}
/// The same by one kernel, where log_p and target are; `shares`: t.all too. The loss of a target that is no class is
/// NaN.
inline ClassLosses class_losses_on_gpu([[maybe_unused]] const Tensor& log_p, [[maybe_unused]] const Indices& target,
                                       [[maybe_unused]] const ClassLossOptions& options, [[maybe_unused]] bool shares) {
  ClassLosses made;
  if constexpr (has_cuda) {
    no_grad guard;
    const Device device = log_p.device();
    const std::int64_t n = log_p.shape()[0], classes = log_p.shape()[1];
    made.losses = Tensor::empty({n, 1}, device);
    ClassTargets& t = made.targets;
    t.target = Indices::empty({n}, device);
    t.own = Tensor::empty({n, 1}, device);
    if (shares || options.label_smoothing > 0) t.all = Tensor::empty(log_p.shape(), device);
    const Tensor weight = options.weight ? to(options.weight.value(), device) : Tensor();
    Tensor each = Tensor::empty({n, 1}, device);
    const kernels::class_rule rule{options.ignore_index, options.weight ? weight.data() : nullptr,
                                   1 - options.label_smoothing, options.label_smoothing / static_cast<float>(classes)};
    kernels::class_losses(cuda{runtime::current_stream}, log_p.view(), target.data(), rule, made.losses.data(),
                          t.target.data(), t.own.data(), each.data(), t.all.view());
    if (options.reduction == Reduction::mean) t.total_on = sum_to(each, Shape{}).value();
  }
  return made;
}
/// Throws unless every target is a class, or ignored.
inline void check_targets(std::span<const std::int32_t> target, std::int64_t classes, std::int32_t ignored) {
  for (std::size_t i = 0; i < target.size(); ++i)
    check(target[i] == ignored || (target[i] >= 0 && target[i] < classes), "cross_entropy: target is no class (",
          target[i], " of ", classes, " classes, sample ", i, ")");
}
/// Where a GPU is asked, targets come from the host, where they are checked, or are there already.
inline ClassLosses class_losses(const Tensor& log_p, std::span<const std::int32_t> target,
                                const ClassLossOptions& options, bool shares) {
  check_targets(target, log_p.shape()[1], options.ignore_index);
  if (has_cuda && log_p.device() != Device::cpu) {
    const auto n = static_cast<std::int64_t>(target.size());
    return class_losses_on_gpu(log_p, to(Indices::from({n}, target), log_p.device()), options, shares);
  }
  ClassTargets t = class_targets(log_p.shape(), target, options);
  Tensor losses = t.losses(log_p);
  return {std::move(losses), std::move(t)};
}

/// [b, 1] → [b] or []
inline Tensor reduced(const Tensor& losses, const ClassTargets& t, Reduction reduction) {
  if (reduction == Reduction::none) return reshape(losses, {losses.size()}).value();
  if (has_cuda && losses.device() != Device::cpu) {
    no_grad guard;
    const Var total = sum_to(losses, Shape{});
    return reduction == Reduction::mean ? div(total, t.total_on).value() : total.value();
  }
  double total = 0;
  for (std::int64_t i = 0; i < losses.shape()[0]; ++i) total += double{losses(i, 0)};
  return Tensor::scalar(static_cast<float>(reduction == Reduction::mean ? total / t.total : total));
}
/// What the gradient of a reduced loss means for every sample: [b] or [] → [b, 1]
inline Var spread(const Var& dy, const ClassTargets& t, Reduction reduction) {
  const std::int64_t n = t.own.shape()[0];
  if (reduction == Reduction::none) return reshape(dy, {n, 1});
  if (reduction == Reduction::sum) return expand(dy, {n, 1});
  if (has_cuda && dy.device() != Device::cpu) return expand(div(dy, t.total_on), {n, 1});
  return expand(dy * static_cast<float>(1 / t.total), {n, 1});
}

inline Var nll_of(const Var& log_p, ClassLosses made, Reduction reduction) {
  Tensor loss = reduced(made.losses, made.targets, reduction);
  return record(
      "nll_loss", std::move(loss), {log_p}, {},
      [t = std::move(made.targets), reduction](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
        dx[0] = neg(mul(spread(dy, t, reduction), t.share(in[0].shape())));
      });
}
inline Var cross_entropy_of(const Var& x, Tensor log_p, ClassLosses made, Reduction reduction) {
  Tensor loss = reduced(made.losses, made.targets, reduction);
  return record("cross_entropy", std::move(loss), {x}, {},
                [t = std::move(made.targets), log_p = std::move(log_p), reduction](
                    const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
                  const Var g = spread(dy, t, reduction);
                  if (!recording() && t.even.size() == 0 && t.all.size() == 0) {
                    Tensor out = Tensor::empty(log_p.shape(), log_p.device());
                    const Var scale = mul(g, t.own);
                    on(out.device(), [&](auto device) {
                      kernels::cross_entropy_dx(device, log_p.view(), t.target.data(), scale.value().data(),
                                                out.view());
                    });
                    dx[0] = std::move(out);
                    return;
                  }
                  const Tensor share = t.share(log_p.shape());
                  const Var row = sum_to(share, t.own.shape());
                  dx[0] = mul(g, sub(mul(softmax_of_samples<false>(in[0], 1), row), share));
                });
}
/// Whether targets that are on a GPU stay there: in captured work, where the host cannot look at them.
inline bool unseen(const Indices& target) { return target.device() != Device::cpu && runtime::capturing; }

}  // namespace detail

/// L = −log_p[target], weighted.   log_p [b, classes], target: b class numbers → [] or [b]. Throws on a target that is
/// no class; in captured work, which cannot tell, such a target gives NaN.
inline Var nll_loss(const Var& log_p, std::span<const std::int32_t> target, const ClassLossOptions& options = {}) {
  detail::check_class_options(log_p.shape(), static_cast<std::int64_t>(target.size()), options);
  return detail::nll_of(log_p, detail::class_losses(log_p.value(), target, options, true), options.reduction);
}
inline Var nll_loss(const Var& log_p, const Indices& target, const ClassLossOptions& options = {}) {
  check(target.rank() == 1, "nll_loss: targets must be [batch] (", target.shape(), ")");
  if (target.device() == Device::cpu)
    return nll_loss(log_p, std::span(target.data(), static_cast<std::size_t>(target.size())), options);
  if (!detail::unseen(target)) return nll_loss(log_p, to(target, Device::cpu), options);
  detail::check_class_options(log_p.shape(), target.size(), options);
  common_device("nll_loss", log_p, target);
  return detail::nll_of(log_p, detail::class_losses_on_gpu(log_p.value(), target, options, true), options.reduction);
}
/// L = −ln softmax(x)[target], with dx = softmax(x) − target.   x [b, classes], target: b class numbers → [] (mean over
/// the samples) or [b]. Throws on a target that is no class; in captured work, which cannot tell, such a target gives
/// NaN.
inline Var cross_entropy(const Var& x, std::span<const std::int32_t> target, const ClassLossOptions& options = {}) {
  detail::check_class_options(x.shape(), static_cast<std::int64_t>(target.size()), options);
  Tensor log_p = detail::softmax_value(x.value(), 1, true);
  auto made = detail::class_losses(log_p, target, options, false);
  return detail::cross_entropy_of(x, std::move(log_p), std::move(made), options.reduction);
}
inline Var cross_entropy(const Var& x, const Indices& target, const ClassLossOptions& options = {}) {
  check(target.rank() == 1, "cross_entropy: targets must be [batch] (", target.shape(), ")");
  if (target.device() == Device::cpu)
    return cross_entropy(x, std::span(target.data(), static_cast<std::size_t>(target.size())), options);
  if (!detail::unseen(target)) return cross_entropy(x, to(target, Device::cpu), options);
  detail::check_class_options(x.shape(), target.size(), options);
  common_device("cross_entropy", x, target);
  Tensor log_p = detail::softmax_value(x.value(), 1, true);
  auto made = detail::class_losses_on_gpu(log_p, target, options, false);
  return detail::cross_entropy_of(x, std::move(log_p), std::move(made), options.reduction);
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
