// Batch norm on the CPU: statistics of channels, normalisation, gradients. A thread owns whole channels.
#pragma once

#include <cmath>

#include "elementwise.hpp"

namespace deepstruct::kernels {
/// What channel_sums adds up.
enum class ChannelSum { plain, squares, products };
}  // namespace deepstruct::kernels

#include "../simd/baseline_begin.hpp"
#include "batch_norm.inl"
#include "../simd/end.hpp"

#include "../simd/avx2_begin.hpp"
#include "batch_norm.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

/// The numbers of a channel in storage: `runs` runs of n at distance `step`, of which `room` may be written.
struct channel_runs {
  std::int64_t runs, n, step, room;

  channel_runs(matrix_view<const float> x, std::int64_t inner)
      : runs(inner), n(x.rows), step(x.ld), room(x.rows < x.ld ? (x.rows + 15) / 16 * 16 : x.rows) {
    if (x.rows < x.ld) return;
    n = room = inner * x.rows;  // no padding in between
    runs = 1;
  }
};

/// Calls f(channel, its first column) in parallel.
template <class F>
void for_channels(matrix_view<const float> x, std::int64_t inner, F&& f) {
  const std::int64_t work = std::max<std::int64_t>(1, x.rows * inner);
  parallel_blocks(x.cols / std::max<std::int64_t>(1, inner), std::max<std::int64_t>(1, elementwise_grain / work),
                  [&](std::int64_t first, std::int64_t last) {
                    for (std::int64_t c = first; c < last; ++c) f(c, c * inner * x.ld);
                  });
}

/// 1/√(variance + eps)
inline double batch_norm_rstd(float variance, float eps) { return 1 / std::sqrt(double{variance} + double{eps}); }

inline void batch_statistics(cpu, matrix_view<const float> x, std::int64_t inner, float* mean, float* variance) {
  const auto sum = simd::pick(&baseline::channel_sums<ChannelSum::plain>, &avx2::channel_sums<ChannelSum::plain>);
  const auto squares =
      simd::pick(&baseline::channel_sums<ChannelSum::squares>, &avx2::channel_sums<ChannelSum::squares>);
  const channel_runs at(x, inner);
  const double terms = static_cast<double>(x.rows * inner);
  for_channels(x, inner, [&](std::int64_t c, std::int64_t from) {
    double total = 0;
    sum(x.data + from, x.data + from, at.runs, at.n, at.step, 0, &total);
    mean[c] = static_cast<float>(total / terms);
    squares(x.data + from, x.data + from, at.runs, at.n, at.step, mean[c], &total);
    variance[c] = static_cast<float>(total / terms);
  });
}

inline void batch_norm(cpu, matrix_view<const float> x, std::int64_t inner, const float* mean, const float* variance,
                       const float* w, const float* b, float eps, matrix_view<float> y) {
  const auto body = simd::pick(&baseline::channel_affine, &avx2::channel_affine);
  const channel_runs at(x, inner);
  for_channels(x, inner, [&](std::int64_t c, std::int64_t from) {
    const auto scale = static_cast<float>(batch_norm_rstd(variance[c], eps) * double{w[c]});
    body(x.data + from, y.data + from, at.runs, at.room, at.step, mean[c], scale, b[c]);
  });
}

inline void batch_norm_backward(cpu, matrix_view<const float> dy, matrix_view<const float> x, std::int64_t inner,
                                const float* mean, const float* variance, const float* w, float eps, bool training,
                                matrix_view<float> dx, float* dw, float* db) {
  const auto products =
      simd::pick(&baseline::channel_sums<ChannelSum::products>, &avx2::channel_sums<ChannelSum::products>);
  const auto affine = simd::pick(&baseline::channel_affine, &avx2::channel_affine);
  const auto body = simd::pick(&baseline::channel_dx, &avx2::channel_dx);
  const channel_runs at(x, inner);
  const double terms = static_cast<double>(x.rows * inner);
  for_channels(x, inner, [&](std::int64_t c, std::int64_t from) {
    const double rstd = batch_norm_rstd(variance[c], eps);
    double sums[2] = {};
    products(x.data + from, dy.data + from, at.runs, at.n, at.step, mean[c], sums);
    db[c] = static_cast<float>(sums[0]);
    dw[c] = static_cast<float>(sums[1] * rstd);
    if (!dx.data) return;
    const auto scale = static_cast<float>(rstd * double{w[c]});
    if (training)
      body(dy.data + from, x.data + from, dx.data + from, at.runs, at.room, at.step, mean[c], scale,
           static_cast<float>(sums[0] / terms), static_cast<float>(sums[1] * rstd * rstd / terms));
    else
      affine(dy.data + from, dx.data + from, at.runs, at.room, at.step, 0, scale, 0);
  });
}

}  // namespace deepstruct::kernels
