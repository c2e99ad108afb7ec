// Dense matrix products on the CPU: gemm (lanes over samples) and batched gemm.
#pragma once

#include "../core/buffer.hpp"
#include "elementwise.hpp"

#include "../simd/baseline_begin.hpp"
#include "gemm.inl"
#include "../simd/end.hpp"

#include "../simd/avx2_begin.hpp"
#include "gemm.inl"
#include "../simd/end.hpp"

#include "../simd/avx512_begin.hpp"
#include "gemm.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

inline void gemm(cpu, matrix_view<const float> x, strided_view<const float> w, const float* bias,
                 matrix_view<float> y) {
  const auto body = simd::pick(&baseline::gemm, &avx2::gemm, &avx512::gemm);
  const auto grain = [](std::int64_t work_per_row) {  // multiples of the register tile, at least some 10 µs of work
    return 6 * std::max<std::int64_t>(1, (1 << 19) / std::max<std::int64_t>(1, 6 * work_per_row));
  };
  if (x.rows <= 24 && x.rows < w.rows && w.s0 == 1)  // few samples: lanes over the rows of w instead
    return parallel_blocks(
        w.rows, std::max<std::int64_t>(64, grain(x.rows * x.cols) / 64 * 64), [&](std::int64_t o, std::int64_t end) {
          body({w.data + o, end - o, w.cols, w.s1}, x.data, 1, x.ld, x.rows, nullptr, y.data + o * y.ld, y.ld, 1);
          if (!bias) return;
          for (; o < end; ++o)
            for (std::int64_t b = 0; b < x.rows; ++b) y.col(o)[b] += bias[o];
        });
  const std::int64_t few = simd::active() == simd::Isa::avx512 ? 16 : 10;
  if (x.rows < few && w.s1 == 1 && w.s0 >= 16 && !bias) {  // the same, w transposed: lanes over the terms
    const auto dots = simd::pick(&baseline::gemm_dots, &avx2::gemm_dots, &avx512::gemm_dots);
    pool_vector<float> terms(static_cast<std::size_t>(x.rows * x.cols + 16));  // of one sample side by side
    for (std::int64_t i = 0; i < x.cols; ++i)
      for (std::int64_t b = 0; b < x.rows; ++b) terms[static_cast<std::size_t>(b * x.cols + i)] = x.col(i)[b];
    return parallel_blocks(w.rows, grain(x.rows * x.cols), [&](std::int64_t o, std::int64_t end) {
      dots(terms.data(), x.rows, x.cols, w.data + o * w.s0, w.s0, end - o, {y.data + o * y.ld, x.rows, end - o, y.ld});
    });
  }
  // x is the greater one, or more than a cache holds: read once, not once for every few rows of w.
  if (x.rows >= 512 && (x.rows > w.rows || x.rows * x.cols > std::int64_t{1} << 20))
    return parallel_blocks(
        x.rows, std::max<std::int64_t>(64, grain(w.rows * x.cols) / 64 * 64), [&](std::int64_t b, std::int64_t end) {
          body({x.data + b, end - b, x.cols, x.ld}, w.data, w.s0, w.s1, w.rows, bias, y.data + b, 1, y.ld);
        });
  parallel_blocks(w.rows, grain(x.rows * x.cols), [&](std::int64_t o, std::int64_t end) {
    body(x, w.data + o * w.s0, w.s0, w.s1, end - o, bias ? bias + o : nullptr, y.data + o * y.ld, 1, y.ld);
  });
}

inline void gemm_batched(cpu, const float* a, const float* b, float* y, const nest<3>& n, std::int64_t terms,
                         std::int64_t a_term, std::int64_t b_term) {
  const std::int64_t runs = n.extent[1] * n.extent[2] * n.extent[3];
  parallel_blocks(runs, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, n.extent[0] * terms)),
                  [&](std::int64_t first, std::int64_t last) {
                    for_each_run(n, first, last, [&](const std::int64_t* at) {
                      for (std::int64_t i = 0; i < n.extent[0]; ++i) {
                        const float *left = a + at[1] + i * n.stride[1][0], *right = b + at[2] + i * n.stride[2][0];
                        double total = 0;
                        for (std::int64_t k = 0; k < terms; ++k)
                          total += double{left[k * a_term]} * double{right[k * b_term]};
                        y[at[0] + i * n.stride[0][0]] = static_cast<float>(total);
                      }
                    });
                  });
}

}  // namespace deepstruct::kernels
