// Batch norm over extent 1: with the statistics of the batch (training), or with given ones (evaluation).
#pragma once

#include <array>

#include "../kernels/batch_norm.hpp"
#include "reduce.hpp"

namespace deepstruct {

namespace detail {

/// Numbers per sample and channel: the product of extents 2….
inline std::int64_t channel_size(const Shape& x) { return x[2] * x[3]; }

/// A value per channel [c] as it broadcasts to x: [1, c, 1, 1], as many extents as x has.
inline Var per_channel(const Var& v, const Shape& x) {
  std::array<std::int64_t, Shape::max_rank> extents{1, x[1], 1, 1};
  return reshape(v, std::span<const std::int64_t>(extents.data(), static_cast<std::size_t>(x.rank())));
}
/// Σ over all extents but the channels'.   x [b, c, …] → [c]
inline Var channel_sum(const Var& x) {
  std::array<std::int64_t, Shape::max_rank> extents{1, x.shape()[1], 1, 1};
  const Shape kept(std::span<const std::int64_t>(extents.data(), static_cast<std::size_t>(x.shape().rank())));
  return reshape(sum_to(x, kept), {x.shape()[1]});
}

inline void check_batch_norm(const char* op, const Var& x, float eps) {
  check(x.shape().rank() >= 2, op, ": x must be [b, c], [b, c, l] or [b, c, h, w] (", x.shape(), ")");
  check(eps >= 0, op, ": eps must not be negative (", eps, ")");
}
/// A value per channel, or where empty one full of `otherwise`.
inline Var channel_values(const char* op, const char* name, const Var& v, const Var& x, float otherwise) {
  if (!v) return Tensor::full({x.shape()[1]}, otherwise, x.device());
  check(v.shape() == Shape{x.shape()[1]}, op, ": ", name, " must have one value per channel of x (", v.shape(), " and ",
        x.shape(), ")");
  common_device(op, x, v);
  return v;
}

inline Tensor batch_norm_value(const Tensor& x, const Tensor& mean, const Tensor& variance, const Tensor& weight,
                               const Tensor& bias, float eps) {
  Tensor y = Tensor::empty(x.shape(), x.device());
  on(y.device(), [&](auto device) {
    kernels::batch_norm(device, x.view(), channel_size(x.shape()), mean.data(), variance.data(), weight.data(),
                        bias.data(), eps, y.view());
  });
  return y;
}
/// dx, dweight and dbias by one kernel, where in = {x, weight, bias, …} want them.
inline void batch_norm_gradients(const Var& dy, std::span<const Var> in, const Tensor& mean, const Tensor& variance,
                                 float eps, bool training, std::span<Var> dx) {
  const Shape& s = in[0].shape();
  common_device("backward", dy, in[0], in[1], mean);
  Tensor out = Tensor::empty(in[0].wants_grad() ? s : Shape{0}, dy.device()), dw = Tensor::zeros({s[1]}, dy.device()),
         db = dw;
  const auto to = in[0].wants_grad() ? out.view() : matrix_view<float>{};
  on(out.device(), [&](auto device) {
    kernels::batch_norm_backward(device, dy.value().view(), in[0].value().view(), channel_size(s), mean.data(),
                                 variance.data(), in[1].value().data(), eps, training, to, dw.data(), db.data());
  });
  if (in[0].wants_grad()) dx[0] = std::move(out);
  if (in[1].wants_grad()) dx[1] = std::move(dw);
  if (in[2].wants_grad()) dx[2] = std::move(db);
}

}  // namespace detail

/// y = (x − mean)/√(variance + eps)·weight + bias per channel, with given statistics: batch norm in evaluation (Ioffe &
/// Szegedy 2015). Recorded as one node "batch_norm" of x, weight, bias, mean and variance, ones and zeros where empty.
///   x [b, c], [b, c, l] or [b, c, h, w]; mean, variance, weight and bias [c]. Throws on other shapes and eps < 0.
inline Var batch_norm(const Var& x, const Var& mean, const Var& variance, const Var& weight = {}, const Var& bias = {},
                      float eps = 1e-5f) {
  detail::check_batch_norm("batch_norm", x, eps);
  check(mean && variance, "batch_norm: needs a mean and a variance per channel (", x.shape(), ")");
  const std::array<Var, 5> in{x, detail::channel_values("batch_norm", "weight", weight, x, 1),
                              detail::channel_values("batch_norm", "bias", bias, x, 0),
                              detail::channel_values("batch_norm", "mean", mean, x, 0),
                              detail::channel_values("batch_norm", "variance", variance, x, 1)};
  Tensor y = detail::batch_norm_value(x.value(), mean.value(), variance.value(), in[1].value(), in[2].value(), eps);
  return record("batch_norm", std::move(y), std::span<const Var>(in), {{"eps", double{eps}}},
                [eps](const Var& dy, const Var&, std::span<const Var> v, std::span<Var> dx) {
                  if (!recording() && !v[3].wants_grad() && !v[4].wants_grad())
                    return detail::batch_norm_gradients(dy, v, v[3].value(), v[4].value(), eps, false, dx);
                  const Shape& s = v[0].shape();
                  const Var rstd = rsqrt(v[4] + eps), scale = mul(v[1], rstd), sum = detail::channel_sum(dy);
                  // Σ dy·(x − mean)
                  const auto product = [&] {
                    return detail::channel_sum(mul(dy, sub(v[0], detail::per_channel(v[3], s))));
                  };
                  if (v[0].wants_grad()) dx[0] = mul(dy, detail::per_channel(scale, s));
                  if (v[1].wants_grad()) dx[1] = mul(product(), rstd);
                  if (v[2].wants_grad()) dx[2] = sum;
                  if (v[3].wants_grad()) dx[3] = neg(mul(sum, scale));
                  if (v[4].wants_grad()) dx[4] = mul(product(), mul(scale, square(rstd))) * -0.5f;
                });
}

/// Batch norm with the statistics of its own batch, and these.
struct BatchNormed {
  Var y;
  Tensor mean;      ///< [c]
  Tensor variance;  ///< biased: Σ (x − mean)²/n   [c]
};

/// y = (x − mean)/√(variance + eps)·weight + bias with mean and biased variance of each channel over the batch and the
/// extents behind it: batch norm in training (Ioffe & Szegedy 2015). Recorded as one node "batch_norm_training".
///   x [b, c], [b, c, l] or [b, c, h, w]; weight and bias [c] or empty. Throws on other shapes, eps < 0, and unless a
/// channel has more than one number.
inline BatchNormed batch_norm_training(const Var& x, const Var& weight = {}, const Var& bias = {}, float eps = 1e-5f) {
  const char* op = "batch_norm_training";
  detail::check_batch_norm(op, x, eps);
  const Shape& shape = x.shape();
  const std::int64_t terms = shape[0] * detail::channel_size(shape);
  check(terms > 1, op, ": a channel needs more than one number (", terms, " in ", shape, ")");
  Tensor mean = Tensor::empty({shape[1]}, x.device()), variance = Tensor::empty({shape[1]}, x.device());
  on(mean.device(), [&](auto device) {
    kernels::batch_statistics(device, x.value().view(), detail::channel_size(shape), mean.data(), variance.data());
  });
  const Var w = detail::channel_values(op, "weight", weight, x, 1), b = detail::channel_values(op, "bias", bias, x, 0);
  Tensor y = detail::batch_norm_value(x.value(), mean, variance, w.value(), b.value(), eps);
  const Var result =
      record(op, std::move(y), {x, w, b}, {{"eps", double{eps}}},
             [eps, mean, variance](const Var& dy, const Var&, std::span<const Var> v, std::span<Var> dx) {
               if (!recording()) return detail::batch_norm_gradients(dy, v, mean, variance, eps, true, dx);
               const Shape& s = v[0].shape();
               const float inverse = 1.0f / static_cast<float>(s[0] * detail::channel_size(s));
               const auto spread = [&](const Var& of_channel) { return detail::per_channel(of_channel, s); };
               const Var centred = sub(v[0], spread(detail::channel_sum(v[0]) * inverse));
               const Var rstd = rsqrt(detail::channel_sum(square(centred)) * inverse + eps);
               const Var normal = mul(centred, spread(rstd));
               const Var sum = detail::channel_sum(dy), product = detail::channel_sum(mul(dy, normal));
               if (v[0].wants_grad()) {
                 const Var rest = sub(sub(dy, spread(sum * inverse)), mul(normal, spread(product * inverse)));
                 dx[0] = mul(rest, spread(mul(v[1], rstd)));
               }
               if (v[1].wants_grad()) dx[1] = product;
               if (v[2].wants_grad()) dx[2] = sum;
             });
  return {result, std::move(mean), std::move(variance)};
}

}  // namespace deepstruct
