// Kernels that move elements without arithmetic on the CPU: strided copies, reshapes, gathers, edge picking.
#pragma once

#include <algorithm>

#include "elementwise.hpp"

#include "../simd/baseline_begin.hpp"
#include "move.inl"
#include "../simd/end.hpp"

#include "../simd/avx2_begin.hpp"
#include "move.inl"
#include "../simd/end.hpp"

#include "../simd/avx512_begin.hpp"
#include "move.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

inline void copy(cpu, const float* x, float* y, const nest<2>& n) {
  const std::int64_t run = n.extent[0], runs = n.extent[1] * n.extent[2] * n.extent[3];
  const std::int64_t to = n.stride[0][0], from = n.stride[1][0];
  parallel_blocks(runs, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, run)),
                  [&](std::int64_t first, std::int64_t last) {
                    for_each_run(n, first, last, [&](const std::int64_t* at) {
                      if (to == 1 && from == 1) {
                        std::copy_n(x + at[1], run, y + at[0]);
                        return;
                      }
                      for (std::int64_t i = 0; i < run; ++i) y[at[0] + i * to] = x[at[1] + i * from];
                    });
                  });
}

/// The shapes' rows: a matrix [extent 0, rows] read in row-major order.
inline void reshape(cpu, matrix_view<const float> x, matrix_view<float> y) {
  if (x.rows == y.rows && x.ld == y.ld) {
    std::copy_n(x.data, x.cols * x.ld, y.data);
    return;
  }
  std::int64_t xi = 0, xr = 0;
  for (std::int64_t i = 0; i < y.rows; ++i)
    for (std::int64_t r = 0; r < y.cols; ++r) {
      y.data[r * y.ld + i] = x.data[xr * x.ld + xi];
      if (++xr == x.cols) xr = 0, ++xi;
    }
}

/// Matrix rows per part: whole lines of what they become the columns of, and some ten µs of work.
inline std::int64_t transpose_grain(std::int64_t cols) {
  return 16 * std::max<std::int64_t>(1, elementwise_grain / 16 / std::max<std::int64_t>(1, cols));
}

inline void transpose(cpu, matrix_view<const float> x, matrix_view<float> y) {
  const auto body = simd::pick(&baseline::transpose, &avx2::transpose, &avx512::transpose);
  parallel_blocks(x.rows, transpose_grain(x.cols),
                  [&](std::int64_t first, std::int64_t last) { body(x, y, first, last); });
}

inline void gather_samples(cpu, const float* x, const std::int32_t* order, matrix_view<float> y) {
  const auto body = simd::pick(&baseline::gather_samples, &avx2::gather_samples, &avx512::gather_samples);
  parallel_blocks(y.rows, transpose_grain(y.cols),
                  [&](std::int64_t first, std::int64_t last) { body(x, order, y, first, last); });
}

inline void gather(cpu, const float* x, const std::int32_t* index, float* y, const nest<3>& n, std::int64_t stride) {
  for_each_run(n, 0, n.extent[1] * n.extent[2] * n.extent[3], [&](const std::int64_t* at) {
    for (std::int64_t i = 0; i < n.extent[0]; ++i)
      y[at[0] + i * n.stride[0][0]] = x[at[1] + i * n.stride[1][0] + index[at[2] + i * n.stride[2][0]] * stride];
  });
}

inline void scatter_add(cpu, const float* dy, const std::int32_t* index, float* dx, const nest<3>& n,
                        std::int64_t stride) {
  for_each_run(n, 0, n.extent[1] * n.extent[2] * n.extent[3], [&](const std::int64_t* at) {
    for (std::int64_t i = 0; i < n.extent[0]; ++i)
      dx[at[1] + i * n.stride[1][0] + index[at[2] + i * n.stride[2][0]] * stride] += dy[at[0] + i * n.stride[0][0]];
  });
}

inline void pick_edges(cpu, matrix_view<const float> w, csr_view mask, float* values) {
  if (mask.nnz == mask.rows * mask.cols) return transpose(cpu{}, w, {values, mask.cols, mask.rows, mask.cols});
  parallel_blocks(mask.rows, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, mask.cols)),
                  [&](std::int64_t first, std::int64_t last) {
                    for (std::int64_t r = first; r < last; ++r)
                      for (std::int32_t e = mask.start[r]; e < mask.start[r + 1]; ++e)
                        values[e] = w.col(mask.col[e])[r];
                  });
}

inline void place_edges(cpu, const float* values, csr_view mask, matrix_view<float> w) {
  if (mask.nnz == mask.rows * mask.cols) return transpose(cpu{}, {values, mask.cols, mask.rows, mask.cols}, w);
  std::fill_n(w.data, w.cols * w.ld, 0.0f);
  parallel_blocks(mask.rows, std::max<std::int64_t>(16, elementwise_grain / std::max<std::int64_t>(1, mask.cols)),
                  [&](std::int64_t first, std::int64_t last) {
                    for (std::int64_t r = first; r < last; ++r)
                      for (std::int32_t e = mask.start[r]; e < mask.start[r + 1]; ++e)
                        w.col(mask.col[e])[r] = values[e];
                  });
}

inline void remap(cpu, const float* x, const std::int32_t* index, float* y, std::int64_t n) {
  parallel_blocks(n, elementwise_grain, [&](std::int64_t i, std::int64_t end) {
    for (; i < end; ++i) y[i] = index[i] < 0 ? 0.0f : x[index[i]];
  });
}

}  // namespace deepstruct::kernels
