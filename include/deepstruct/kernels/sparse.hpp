// The sparse triple on the CPU: y = x Wᵀ + b, dx = dy W, dw = dyᵀ x at the mask.
#pragma once

#include "../core/buffer.hpp"
#include "../core/shape.hpp"
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

/// Calls f(first, part) with parts of a batch of more than `far` samples, copied so that their columns lie side by
/// side; else, or where no column is read often, with the batch itself. In a large batch a few samples of each column
/// lie a page and more apart, and edges jump from column to column: of 4096 samples, 1024 → 1024, density 0.1, forward
/// goes from 27 to 49 % of the peak so, backward from 28 to 46 %.
template <class F>
void in_near_parts(csr_view m, matrix_view<const float> x, std::int64_t far, F&& f) {
  if (x.rows <= far || m.nnz < 8 * x.cols) return f(std::int64_t{0}, x);
  constexpr std::int64_t near = 128;
  const std::int64_t ld = leading_stride(near);
  Buffer<float> storage(static_cast<std::size_t>(x.cols * ld));
  for (std::int64_t first = 0; first < x.rows; first += near) {
    const std::int64_t count = std::min(near, x.rows - first);
    parallel_blocks(x.cols, elementwise_grain / near, [&](std::int64_t c, std::int64_t end) {
      for (; c < end; ++c) std::copy_n(x.col(c) + first, count, storage.data() + c * ld);
    });
    f(first, matrix_view<const float>{storage.data(), count, x.cols, ld});
  }
}
/// `count` samples from `first` on.
template <class T>
matrix_view<T> samples_of(matrix_view<T> x, std::int64_t first, std::int64_t count) {
  return {x.data + first, count, x.cols, x.ld};
}

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
  if (x.ld == 1 && y.ld == 1)  // one sample, its numbers side by side
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
  in_near_parts(m, x, 256, [&](std::int64_t begin, matrix_view<const float> near) {
    // A transposed pattern has its values brought into order panel by panel: not for every tile of samples anew.
    const std::int64_t tile = plan.edge ? near.rows : 64, tiles = (near.rows + tile - 1) / tile,
                       parts = tiles * plan.panels;
    parallel_blocks(parts, sparse_grain(m, near.rows) * parts / std::max<std::int64_t>(1, m.rows) + 1,
                    [&](std::int64_t first, std::int64_t last) {
                      for (std::int64_t part = first; part < last; ++part) {
                        const std::int64_t lane = part % tiles * tile;
                        body(plan, part / tiles, values, near.data + lane, near.ld, bias, relu, y.data + begin + lane,
                             y.ld, std::min(tile, near.rows - lane));
                      }
                    });
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
  if (x.rows == 1)  // no lanes to sum over: a third of the time
    return parallel_blocks(m.rows, sparse_grain(m, 4), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r)
        for (std::int32_t k = m.start[r]; k < m.start[r + 1]; ++k) dw[k] = *dy.col(r) * *x.col(m.col[k]);
    });
  const auto body = simd::pick(&baseline::sparse_panel_dw, &avx2::sparse_panel_dw, &avx512::sparse_panel_dw);
  in_near_parts(m, x, 256, [&](std::int64_t begin, matrix_view<const float> near) {
    parallel_blocks(plan.panels, sparse_panels(m, plan, near.rows), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t panel = first; panel < last; ++panel)
        body(plan, panel, samples_of(dy, begin, near.rows), near, begin > 0, dw);
    });
  });
}

inline void sparse_linear_backward(cpu, csr_view m, plan_view plan, const float* values, matrix_view<const float> x,
                                   matrix_view<const float> dy, matrix_view<float> dx, float* dw) {
  const auto body =
      simd::pick(&baseline::sparse_panel_backward, &avx2::sparse_panel_backward, &avx512::sparse_panel_backward);
  // Each part brings the gradients of the edges here and back.
  in_near_parts(m, dy, 1024, [&](std::int64_t begin, matrix_view<const float> near) {
    parallel_blocks(plan.panels, sparse_panels(m, plan, near.rows), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t panel = first; panel < last; ++panel)
        body(plan, panel, values, samples_of(x, begin, near.rows), near, begin > 0, samples_of(dx, begin, near.rows),
             dw);
    });
  });
}

}  // namespace deepstruct::kernels
