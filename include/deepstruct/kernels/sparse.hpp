// The sparse triple on the CPU: y = x Wᵀ + b, dx = dy W, dw = dyᵀ x at the mask.
#pragma once

#include "elementwise.hpp"
#include "plan.hpp"

#include "../simd/baseline_begin.hpp"
#include "sparse.inl"
#include "../simd/end.hpp"

#include "../simd/avx2_begin.hpp"
#include "sparse.inl"
#include "../simd/end.hpp"

#include "../simd/avx512_begin.hpp"
#include "sparse.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

/// Fewer samples are walked row by row: their columns are no whole vectors in storage.
inline constexpr std::int64_t sparse_plan_samples = 16;

/// Rows per part so that a part is some 10 µs of work.
inline std::int64_t sparse_grain(csr_view m, std::int64_t samples) {
  const std::int64_t work = m.nnz * samples + m.rows * samples + 1;
  return std::max<std::int64_t>(1, m.rows * (std::int64_t{1} << 18) / work);
}

/// y[r] = Σ w·x[c] + bias[r] of a single sample: no lanes to fill, so edges go to four sums in turn; 2.6 times as fast
/// as a vector of which one lane counts.
inline void sparse_vector(csr_view m, const float* values, const float* x, const float* bias, bool relu, float* y,
                          std::int64_t first, std::int64_t last) {
  for (std::int64_t r = first; r < last; ++r) {
    float sum[4] = {bias ? bias[r] : 0.0f};
    std::int32_t k = m.start[r];
    const std::int32_t end = m.start[r + 1];
    const auto term = [&](std::int32_t at) { return values[m.edge ? m.edge[at] : at] * x[m.col[at]]; };
    for (; k + 4 <= end; k += 4) sum[0] += term(k), sum[1] += term(k + 1), sum[2] += term(k + 2), sum[3] += term(k + 3);
    for (; k < end; ++k) sum[0] += term(k);
    const float all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    y[r] = relu && all < 0 ? 0.0f : all;
  }
}

inline void sparse_linear(cpu, csr_view m, plan_view plan, const float* values, matrix_view<const float> x,
                          const float* bias, bool relu, matrix_view<float> y) {
  if (x.rows == 1)
    return parallel_blocks(m.rows, sparse_grain(m, 16), [&](std::int64_t first, std::int64_t last) {
      sparse_vector(m, values, x.data, bias, relu, y.data, first, last);
    });
  if (plan.panels == 0) {
    const auto body = simd::pick(&baseline::sparse_rows, &avx2::sparse_rows, &avx512::sparse_rows);
    return parallel_blocks(m.rows, sparse_grain(m, x.rows), [&](std::int64_t first, std::int64_t last) {
      body(m, values, x, bias, relu, y, first, last);
    });
  }
  const auto body = simd::pick(&baseline::sparse_panel, &avx2::sparse_panel, &avx512::sparse_panel);
  // A transposed pattern has its values brought into order panel by panel: not for every tile of samples anew.
  const std::int64_t tile = plan.edge ? x.rows : 64, tiles = (x.rows + tile - 1) / tile, parts = tiles * plan.panels;
  parallel_blocks(parts, sparse_grain(m, x.rows) * parts / std::max<std::int64_t>(1, m.rows) + 1,
                  [&](std::int64_t first, std::int64_t last) {
                    for (std::int64_t part = first; part < last; ++part) {
                      const std::int64_t lane = part % tiles * tile;
                      body(plan, part / tiles, values, x.data + lane, x.ld, bias, relu, y.data + lane, y.ld,
                           std::min(tile, x.rows - lane));
                    }
                  });
}

/// Panels per part of a backward kernel: some 10 µs of work, at least two parts a thread where there are so many.
inline std::int64_t sparse_panels(csr_view m, plan_view plan, std::int64_t samples) {
  const std::int64_t least = sparse_grain(m, samples) / plan.panel_rows + 1;
  return std::min(least, std::max<std::int64_t>(1, plan.panels / 2));
}

inline void sparse_linear_dw(cpu, csr_view m, plan_view plan, matrix_view<const float> dy, matrix_view<const float> x,
                             float* dw) {
  if (x.rows == 0) {
    std::fill_n(dw, m.nnz, 0.0f);
    return;
  }
  const auto body = simd::pick(&baseline::sparse_panel_dw, &avx2::sparse_panel_dw, &avx512::sparse_panel_dw);
  parallel_blocks(plan.panels, sparse_panels(m, plan, x.rows), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t panel = first; panel < last; ++panel) body(plan, panel, dy, x, dw);
  });
}

inline void sparse_linear_backward(cpu, csr_view m, plan_view plan, const float* values, matrix_view<const float> x,
                                   matrix_view<const float> dy, matrix_view<float> dx, float* dw) {
  const auto body =
      simd::pick(&baseline::sparse_panel_backward, &avx2::sparse_panel_backward, &avx512::sparse_panel_backward);
  parallel_blocks(plan.panels, sparse_panels(m, plan, x.rows), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t panel = first; panel < last; ++panel) body(plan, panel, values, x, dy, dx, dw);
  });
}

}  // namespace deepstruct::kernels
