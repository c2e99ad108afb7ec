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

inline void sparse_linear(cpu, csr_view m, plan_view plan, const float* values, matrix_view<const float> x,
                          const float* bias, matrix_view<float> y) {
  if (plan.panels == 0) {
    const auto body = simd::pick(&baseline::sparse_rows, &avx2::sparse_rows, &avx512::sparse_rows);
    return parallel_blocks(m.rows, sparse_grain(m, x.rows),
                           [&](std::int64_t first, std::int64_t last) { body(m, values, x, bias, y, first, last); });
  }
  const auto body = simd::pick(&baseline::sparse_tile, &avx2::sparse_tile, &avx512::sparse_tile);
  const std::int64_t tiles = (x.rows + 63) / 64, parts = tiles * plan.panels;
  parallel_blocks(parts, sparse_grain(m, x.rows) * parts / std::max<std::int64_t>(1, m.rows) + 1,
                  [&](std::int64_t first, std::int64_t last) {
                    for (std::int64_t part = first; part < last; ++part) {
                      const std::int64_t lane = part % tiles * 64;
                      body(m, plan, part / tiles, values, x.data + lane, x.ld, bias, y.data + lane, y.ld,
                           std::min<std::int64_t>(64, x.rows - lane));
                    }
                  });
}

inline void sparse_linear_dw(cpu, csr_view m, plan_view plan, matrix_view<const float> dy, matrix_view<const float> x,
                             float* dw) {
  if (plan.panels == 0 || x.rows > 4096) {
    const auto body = simd::pick(&baseline::sparse_dots, &avx2::sparse_dots, &avx512::sparse_dots);
    return parallel_blocks(m.rows, sparse_grain(m, x.rows),
                           [&](std::int64_t first, std::int64_t last) { body(m, dy, x, dw, first, last); });
  }
  const auto body = simd::pick(&baseline::sparse_dots_panels, &avx2::sparse_dots_panels, &avx512::sparse_dots_panels);
  // Two parts a thread, or fewer of some 10 µs: entries do not depend on it.
  const std::int64_t least = sparse_grain(m, x.rows) / Plan::panel_rows + 1, even = plan.panels / (2 * num_threads());
  parallel_blocks(plan.panels, std::max(least, even),
                  [&](std::int64_t first, std::int64_t last) { body(m, plan, first, last, dy, x, dw); });
}

}  // namespace deepstruct::kernels
