// 2-D convolution, dense and with the edges of a mask. Each family is closed under differentiation.
#pragma once

#include "conv_parts.hpp"

namespace deepstruct {

namespace detail {

/// Σ over samples and pixels of dy, the gradient of a bias.   [b, c, h, w] → [c]
inline Var conv_bias_gradient(const Var& dy) {
  const std::int64_t channels = dy.shape()[1];
  return reshape(sum_to(dy, {1, channels, 1, 1}), {channels});
}
inline void check_conv_bias(std::string_view op, const Var& bias, std::int64_t outputs) {
  check(!bias || bias.shape() == Shape{outputs}, op, ": needs one bias per output (bias ",
        bias ? bias.shape() : Shape{}, ", outputs ", outputs, ")");
}

}  // namespace detail

Var conv2d_dx(const Var& dy, const Var& weight, const Shape& x, const Conv2dOptions& options);
Var conv2d_dw(const Var& dy, const Var& x, const Shape& weight, const Conv2dOptions& options);

/// y[b, o, p, q] = Σ_{c, i, j} weight[o, c, i, j]·x[b, g·in/groups + c, p·sh + i·dh − ph, q·sw + j·dw − pw] + bias[o],
/// g the group of o, x = 0 outside (cross-correlation, as everywhere in machine learning). x [b, in, h, w], weight
/// [out, in/groups, kh, kw], bias [out] or empty → y [b, out, (h + 2ph − dh(kh − 1) − 1)/sh + 1, …]. Throws where
/// shapes and options do not fit.
inline Var conv2d(const Var& x, const Var& weight, const Var& bias = {}, const Conv2dOptions& options = {}) {
  const auto sizes = detail::conv_sizes("conv2d", x.shape(), weight.shape(), options);
  detail::check_conv_bias("conv2d", bias, sizes.out);
  common_device("conv2d", x, weight, bias);
  Tensor y = detail::ConvWeight{sizes}.apply(false, x.value(), weight.value(), bias ? bias.value().data() : nullptr);
  return record("conv2d", std::move(y), {x, weight, bias}, detail::conv_attributes(sizes),
                [options](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
                  if (in[0].wants_grad() && in[1].wants_grad() && !recording()) {
                    const auto s = detail::conv_sizes("conv2d", in[0].shape(), in[1].shape(), options);
                    detail::ConvWeight{s}.backward(dy.value(), in[0].value(), in[1].value(), dx);
                  } else {
                    if (in[0].wants_grad()) dx[0] = conv2d_dx(dy, in[1], in[0].shape(), options);
                    if (in[1].wants_grad()) dx[1] = conv2d_dw(dy, in[0], in[1].shape(), options);
                  }
                  if (in.size() > 2 && in[2].wants_grad()) dx[2] = detail::conv_bias_gradient(dy);
                });
}
/// The gradient of conv2d with respect to x, whose shape is given: the transposed convolution.   dy [b, out, p, q],
/// weight [out, in/groups, kh, kw] → dx [b, in, h, w]
inline Var conv2d_dx(const Var& dy, const Var& weight, const Shape& x, const Conv2dOptions& options) {
  const auto sizes = detail::conv_sizes("conv2d_dx", x, weight.shape(), options);
  check(dy.shape() == detail::conv_y_shape(sizes), "conv2d_dx: dy is not what the convolution gives (", dy.shape(),
        " and ", detail::conv_y_shape(sizes), ")");
  common_device("conv2d_dx", dy, weight);
  Tensor dx = detail::ConvWeight{sizes}.apply(true, dy.value(), weight.value(), nullptr);
  return record("conv2d_dx", std::move(dx), {dy, weight}, detail::conv_attributes(sizes),
                [options](const Var& g, const Var&, std::span<const Var> in, std::span<Var> d) {
                  if (in[0].wants_grad()) d[0] = conv2d(g, in[1], {}, options);
                  if (in[1].wants_grad()) d[1] = conv2d_dw(in[0], g, in[1].shape(), options);
                });
}
/// The gradient of conv2d with respect to the weight, whose shape is given; summed in double.   dy [b, out, p, q],
/// x [b, in, h, w] → dw [out, in/groups, kh, kw]
inline Var conv2d_dw(const Var& dy, const Var& x, const Shape& weight, const Conv2dOptions& options) {
  const auto sizes = detail::conv_sizes("conv2d_dw", x.shape(), weight, options);
  check(dy.shape() == detail::conv_y_shape(sizes), "conv2d_dw: dy is not what the convolution gives (", dy.shape(),
        " and ", detail::conv_y_shape(sizes), ")");
  common_device("conv2d_dw", dy, x);
  Tensor dw = detail::ConvWeight{sizes}.gradient(dy.value(), x.value());
  return record("conv2d_dw", std::move(dw), {dy, x}, detail::conv_attributes(sizes),
                [options](const Var& g, const Var&, std::span<const Var> in, std::span<Var> d) {
                  if (in[0].wants_grad()) d[0] = conv2d(in[1], g, {}, options);
                  if (in[1].wants_grad()) d[1] = conv2d_dx(in[0], g, in[1].shape(), options);
                });
}

namespace detail {

/// The extents of a convolution whose weight [out, in/groups, kernel] is a mask [out, in/groups·kh·kw] and values.
inline ConvSizes sparse_conv_sizes(std::string_view op, const Shape& x, const Mask& mask,
                                   std::array<std::int64_t, 2> kernel, const Conv2dOptions& o) {
  check(x.rank() == 4, op, ": images have four extents (x ", x, ")");
  constexpr std::int64_t limit = std::int64_t{1} << 30;
  check(kernel[0] >= 1 && kernel[1] >= 1 && kernel[0] < limit && kernel[1] < limit && o.groups >= 1 &&
            mask.cols() % (kernel[0] * kernel[1]) == 0 && mask.cols() / (kernel[0] * kernel[1]) == x[1] / o.groups,
        op, ": the mask must be [out, in/groups·kh·kw] (mask ", mask.shape(), ", x ", x, ", kernel ", kernel[0], " x ",
        kernel[1], ", groups ", o.groups, ")");
  return conv_sizes(op, x, {mask.rows(), x[1] / o.groups, kernel[0], kernel[1]}, o);
}
inline Attributes sparse_conv_attributes(const ConvSizes& s, const Mask& mask) {
  Attributes a = conv_attributes(s);
  a.push_back({"mask", mask});
  a.push_back({"kernel", Shape(s.kernel)});
  return a;
}
inline void check_conv_values(std::string_view op, const Shape& values, const Mask& mask) {
  check(values == Shape{mask.nnz()}, op, ": needs one value per edge (values ", values, ", edges ", mask.nnz(), ")");
}

}  // namespace detail

Var sparse_conv2d_dx(const Var& dy, const Var& values, const Mask& mask, std::array<std::int64_t, 2> kernel,
                     const Shape& x, const Conv2dOptions& options);
Var sparse_conv2d_dw(const Var& dy, const Var& x, const Mask& mask, std::array<std::int64_t, 2> kernel,
                     const Conv2dOptions& options);

/// conv2d whose weight, seen as a matrix [out, in/groups·kh·kw], holds values[e] at edge e of the mask and nothing
/// else; time scales with the edges. x [b, in, h, w], values [nnz], kernel {kh, kw}, bias [out] or empty → y as conv2d.
inline Var sparse_conv2d(const Var& x, const Var& values, const Mask& mask, std::array<std::int64_t, 2> kernel,
                         const Var& bias = {}, const Conv2dOptions& options = {}) {
  const auto sizes = detail::sparse_conv_sizes("sparse_conv2d", x.shape(), mask, kernel, options);
  detail::check_conv_values("sparse_conv2d", values.shape(), mask);
  detail::check_conv_bias("sparse_conv2d", bias, sizes.out);
  common_device("sparse_conv2d", x, values, bias);
  Tensor y =
      detail::ConvWeight{sizes, &mask}.apply(false, x.value(), values.value(), bias ? bias.value().data() : nullptr);
  return record("sparse_conv2d", std::move(y), {x, values, bias}, detail::sparse_conv_attributes(sizes, mask),
                [mask, kernel, options](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
                  if (in[0].wants_grad() && in[1].wants_grad() && !recording()) {
                    const auto s = detail::sparse_conv_sizes("sparse_conv2d", in[0].shape(), mask, kernel, options);
                    detail::ConvWeight{s, &mask}.backward(dy.value(), in[0].value(), in[1].value(), dx);
                  } else {
                    if (in[0].wants_grad()) dx[0] = sparse_conv2d_dx(dy, in[1], mask, kernel, in[0].shape(), options);
                    if (in[1].wants_grad()) dx[1] = sparse_conv2d_dw(dy, in[0], mask, kernel, options);
                  }
                  if (in.size() > 2 && in[2].wants_grad()) dx[2] = detail::conv_bias_gradient(dy);
                });
}
/// The gradient of sparse_conv2d with respect to x, whose shape is given.   dy [b, out, p, q], values [nnz] → dx [b,
/// in, h, w]
inline Var sparse_conv2d_dx(const Var& dy, const Var& values, const Mask& mask, std::array<std::int64_t, 2> kernel,
                            const Shape& x, const Conv2dOptions& options) {
  const auto sizes = detail::sparse_conv_sizes("sparse_conv2d_dx", x, mask, kernel, options);
  detail::check_conv_values("sparse_conv2d_dx", values.shape(), mask);
  check(dy.shape() == detail::conv_y_shape(sizes), "sparse_conv2d_dx: dy is not what the convolution gives (",
        dy.shape(), " and ", detail::conv_y_shape(sizes), ")");
  common_device("sparse_conv2d_dx", dy, values);
  Tensor dx = detail::ConvWeight{sizes, &mask}.apply(true, dy.value(), values.value(), nullptr);
  return record("sparse_conv2d_dx", std::move(dx), {dy, values}, detail::sparse_conv_attributes(sizes, mask),
                [mask, kernel, options](const Var& g, const Var&, std::span<const Var> in, std::span<Var> d) {
                  if (in[0].wants_grad()) d[0] = sparse_conv2d(g, in[1], mask, kernel, {}, options);
                  if (in[1].wants_grad()) d[1] = sparse_conv2d_dw(in[0], g, mask, kernel, options);
                });
}
/// The gradient of sparse_conv2d with respect to the values, for the edges only; summed in double.   dy [b, out, p, q],
/// x [b, in, h, w] → dw [nnz]
inline Var sparse_conv2d_dw(const Var& dy, const Var& x, const Mask& mask, std::array<std::int64_t, 2> kernel,
                            const Conv2dOptions& options) {
  const auto sizes = detail::sparse_conv_sizes("sparse_conv2d_dw", x.shape(), mask, kernel, options);
  check(dy.shape() == detail::conv_y_shape(sizes), "sparse_conv2d_dw: dy is not what the convolution gives (",
        dy.shape(), " and ", detail::conv_y_shape(sizes), ")");
  common_device("sparse_conv2d_dw", dy, x);
  Tensor dw = detail::ConvWeight{sizes, &mask}.gradient(dy.value(), x.value());
  return record("sparse_conv2d_dw", std::move(dw), {dy, x}, detail::sparse_conv_attributes(sizes, mask),
                [mask, kernel, options](const Var& g, const Var&, std::span<const Var> in, std::span<Var> d) {
                  if (in[0].wants_grad()) d[0] = sparse_conv2d(in[1], g, mask, kernel, {}, options);
                  if (in[1].wants_grad()) d[1] = sparse_conv2d_dx(in[0], g, mask, kernel, in[1].shape(), options);
                });
}

/// Whether a convolution with a full weight and this mask runs by its edges: up to density 0.4 with AVX-512, 0.55 with
/// AVX2, else 0.7. Forward and backward of 3 × 3 kernels, 16 to 128 channels, images of 8 to 56 pixels, batches of 1 to
/// 128: there edges were faster in every case.
inline bool conv_runs_sparse(const Mask& mask, simd::Isa isa = simd::active()) {
  const double up_to = isa == simd::Isa::avx512 ? 0.4 : isa == simd::Isa::avx2 ? 0.55 : 0.7;
  return static_cast<double>(mask.nnz()) <= up_to * static_cast<double>(mask.rows()) * static_cast<double>(mask.cols());
}

/// conv2d with weight ⊙ mask, the mask [out, in/groups·kh·kw] on the weight seen as a matrix: what stands behind it is
/// exactly 0, whatever its value, and gets no gradient. Runs sparse or dense as conv_runs_sparse says.
inline Var masked_conv2d(const Var& x, const Var& weight, const Mask& mask, const Var& bias = {},
                         const Conv2dOptions& options = {}) {
  const Shape& s = weight.shape();
  check(s.rank() == 4 && mask.shape() == Shape{s[0], s[1] * s[2] * s[3]},
        "masked_conv2d: weight and mask differ in shape (", s, " and ", mask.shape(), ")");
  if (mask.is_full()) return conv2d(x, weight, bias, options);
  const Var values = pick_edges(reshape(weight, mask.shape()), mask);
  if (conv_runs_sparse(mask)) return sparse_conv2d(x, values, mask, {s[2], s[3]}, bias, options);
  return conv2d(x, reshape(place_edges(values, mask), s), bias, options);
}

}  // namespace deepstruct
