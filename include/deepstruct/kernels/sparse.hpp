// The sparse triple on the CPU: y = x Wᵀ + b, dx = dy W, dw = dyᵀ x at the mask.
#pragma once

#include "elementwise.hpp"

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

/// Rows per part so that a part is some 10 µs of work.
inline std::int64_t sparse_grain(csr_view m, std::int64_t samples) {
  const std::int64_t work = m.nnz * samples + m.rows * samples + 1;
  return std::max<std::int64_t>(1, m.rows * (std::int64_t{1} << 18) / work);
}

inline void sparse_linear(cpu, csr_view m, const float* values, matrix_view<const float> x, const float* bias,
                          matrix_view<float> y) {
  const auto body = simd::pick(&baseline::sparse_rows, &avx2::sparse_rows, &avx512::sparse_rows);
  parallel_blocks(m.rows, sparse_grain(m, x.rows),
                  [&](std::int64_t first, std::int64_t last) { body(m, values, x, bias, y, first, last); });
}

inline void sparse_linear_dw(cpu, csr_view m, matrix_view<const float> dy, matrix_view<const float> x, float* dw) {
  const auto body = simd::pick(&baseline::sparse_dots, &avx2::sparse_dots, &avx512::sparse_dots);
  parallel_blocks(m.rows, sparse_grain(m, x.rows),
                  [&](std::int64_t first, std::int64_t last) { body(m, dy, x, dw, first, last); });
}

}  // namespace deepstruct::kernels
