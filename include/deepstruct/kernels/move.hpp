// Kernels that move elements without arithmetic on the CPU: strided copies, reshapes, gathers, edge picking.
#pragma once

#include <algorithm>

#include "elementwise.hpp"

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

inline void transpose(cpu, matrix_view<const float> x, matrix_view<float> y) {
  constexpr std::int64_t tile = 16;  // rows and columns that are whole lines of both
  const std::int64_t bands = std::max<std::int64_t>(1, elementwise_grain / tile / std::max<std::int64_t>(1, x.cols));
  parallel_blocks(x.rows, tile * bands, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t b0 = first; b0 < last; b0 += tile)
      for (std::int64_t c0 = 0; c0 < x.cols; c0 += tile) {
        const std::int64_t b1 = std::min(last, b0 + tile), c1 = std::min(x.cols, c0 + tile);
        for (std::int64_t b = b0; b < b1; ++b)
          for (std::int64_t c = c0; c < c1; ++c) y.col(b)[c] = x.col(c)[b];
      }
  });
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
