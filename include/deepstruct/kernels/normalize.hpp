// Softmax, log-softmax and layer norm on the CPU.
#pragma once

#include "elementwise.hpp"

#include "../simd/baseline_begin.hpp"
#include "normalize.inl"
#include "../simd/end.hpp"

#include "../simd/avx2_begin.hpp"
#include "normalize.inl"
#include "../simd/end.hpp"

#include "../simd/avx512_begin.hpp"
#include "normalize.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

/// Calls f(lane, lanes) for blocks of the active vector width over n samples, in parallel when `terms` rows make it
/// worth it.
template <class F>
void for_lane_blocks(std::int64_t n, std::int64_t terms, F&& f) {
  const std::int64_t width = active_width();
  const auto grain =
      width * std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, 4 * width * terms));
  parallel_blocks(n, grain, [&](std::int64_t lane, std::int64_t end) {
    for (; lane < end; lane += width) f(lane, std::min(width, end - lane));
  });
}

inline void softmax(cpu, matrix_view<const float> x, matrix_view<float> y, std::int64_t terms, std::int64_t inner,
                    bool logarithm) {
  const auto body = simd::pick(&baseline::softmax_lanes, &avx2::softmax_lanes, &avx512::softmax_lanes);
  if (terms == 0) return;
  for_lane_blocks(x.rows, x.cols, [&](std::int64_t lane, std::int64_t lanes) {
    for (std::int64_t group = 0; group < x.cols / terms; ++group) {
      const std::int64_t row = group / inner * inner * terms + group % inner;
      body(x.col(row) + lane, y.col(row) + lane, terms, inner * x.ld, lanes, logarithm);
    }
  });
}

inline void cross_entropy_dx(cpu, matrix_view<const float> log_p, const std::int32_t* target, const float* scale,
                             matrix_view<float> dx) {
  const auto body = simd::pick(&baseline::scaled_exp_lanes, &avx2::scaled_exp_lanes, &avx512::scaled_exp_lanes);
  for_lane_blocks(dx.rows, dx.cols, [&](std::int64_t lane, std::int64_t lanes) {
    body(log_p.data + lane, scale + lane, dx.data + lane, dx.cols, dx.ld, lanes);
    for (std::int64_t b = lane; b < lane + lanes; ++b) dx.col(target[b])[b] -= scale[b];
  });
}

inline void layer_norm(cpu, matrix_view<const float> x, const float* w, const float* b, matrix_view<float> y,
                       matrix_view<float> mean, matrix_view<float> rstd, float eps) {
  const auto body = simd::pick(&baseline::layer_norm_lanes, &avx2::layer_norm_lanes, &avx512::layer_norm_lanes);
  const std::int64_t terms = x.cols / std::max<std::int64_t>(1, mean.cols);
  for_lane_blocks(x.rows, x.cols, [&](std::int64_t lane, std::int64_t lanes) {
    for (std::int64_t g = 0; g < mean.cols; ++g)
      body(x.col(g * terms) + lane, w, b, y.col(g * terms) + lane, mean.col(g) + lane, rstd.col(g) + lane, terms, x.ld,
           lanes, eps);
  });
}

inline void layer_norm_dx(cpu, matrix_view<const float> dy, matrix_view<const float> x, const float* w,
                          matrix_view<const float> mean, matrix_view<const float> rstd, matrix_view<float> dx) {
  const auto body =
      simd::pick(&baseline::layer_norm_dx_lanes, &avx2::layer_norm_dx_lanes, &avx512::layer_norm_dx_lanes);
  const std::int64_t terms = x.cols / std::max<std::int64_t>(1, mean.cols);
  for_lane_blocks(x.rows, x.cols, [&](std::int64_t lane, std::int64_t lanes) {
    for (std::int64_t g = 0; g < mean.cols; ++g)
      body(dy.col(g * terms) + lane, x.col(g * terms) + lane, w, mean.col(g) + lane, rstd.col(g) + lane,
           dx.col(g * terms) + lane, terms, x.ld, lanes);
  });
}

}  // namespace deepstruct::kernels
