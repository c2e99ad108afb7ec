// Max and average pooling on the CPU, and their gradients: every place of a result gathers what it needs.
#pragma once

#include "elementwise.hpp"

#include "../simd/baseline_begin.hpp"
#include "pool.inl"
#include "../simd/end.hpp"

#include "../simd/avx2_begin.hpp"
#include "pool.inl"
#include "../simd/end.hpp"

#include "../simd/avx512_begin.hpp"
#include "pool.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

/// Calls f(channel, row) for every row of `rows` in each of `channels`, in parallel; `work` is what a row costs, in
/// elements.
template <class F>
void for_image_rows(std::int64_t channels, std::int64_t rows, std::int64_t work, F&& f) {
  const std::int64_t grain = std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, work));
  parallel_blocks(channels * rows, grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t k = first; k < last; ++k) f(k / rows, k % rows);
  });
}

inline void max_pool(cpu, matrix_view<const float> x, pool_windows rows, pool_windows cols, matrix_view<float> y,
                     std::int32_t* index) {
  const auto body = simd::pick(&baseline::max_pool_row, &avx2::max_pool_row, &avx512::max_pool_row);
  const std::int64_t plane = rows.out * cols.out, channels = y.cols / plane;
  for_image_rows(channels, rows.out, x.cols * x.rows / std::max<std::int64_t>(1, channels * rows.out),
                 [&](std::int64_t c, std::int64_t row) {
                   const std::int64_t at = (c * plane + row * cols.out) * y.ld;
                   body(x.col(c * rows.in * cols.in), x.ld, rows, cols, row, y.data + at, index ? index + at : nullptr,
                        y.ld, y.rows);
                 });
}

inline void max_pool_dx(cpu, matrix_view<const float> dy, const std::int32_t* index, pool_windows rows,
                        pool_windows cols, matrix_view<float> dx) {
  const auto body = simd::pick(&baseline::max_pool_dx_row, &avx2::max_pool_dx_row, &avx512::max_pool_dx_row);
  const std::int64_t plane = rows.out * cols.out;
  for_image_rows(dy.cols / plane, rows.in, cols.in * dx.rows, [&](std::int64_t c, std::int64_t row) {
    body(dy.col(c * plane), index + c * plane * dy.ld, dy.ld, rows, cols, row, dx.col((c * rows.in + row) * cols.in),
         dx.ld, dx.rows);
  });
}

inline void avg_pool(cpu, matrix_view<const float> x, pool_windows rows, pool_windows cols, matrix_view<float> y) {
  const auto body = simd::pick(&baseline::avg_pool_row, &avx2::avg_pool_row, &avx512::avg_pool_row);
  const std::int64_t channels = y.cols / (rows.out * cols.out);
  for_image_rows(channels, rows.out, x.cols * x.rows / std::max<std::int64_t>(1, channels * rows.out),
                 [&](std::int64_t c, std::int64_t row) {
                   body(x.col(c * rows.in * cols.in), x.ld, rows, cols, row, y.col((c * rows.out + row) * cols.out),
                        y.ld, y.rows);
                 });
}

inline void avg_pool_dx(cpu, matrix_view<const float> dy, pool_windows rows, pool_windows cols, matrix_view<float> dx) {
  const auto body = simd::pick(&baseline::avg_pool_dx_row, &avx2::avg_pool_dx_row, &avx512::avg_pool_dx_row);
  const std::int64_t plane = rows.out * cols.out;
  for_image_rows(dy.cols / plane, rows.in, cols.in * dx.rows, [&](std::int64_t c, std::int64_t row) {
    body(dy.col(c * plane), dy.ld, rows, cols, row, dx.col((c * rows.in + row) * cols.in), dx.ld, dx.rows);
  });
}

}  // namespace deepstruct::kernels
