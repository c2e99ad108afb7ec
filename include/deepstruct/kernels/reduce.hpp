// Reductions on the CPU: sum, maximum and minimum over any extents, argmax and argmin, running sums.
#pragma once

#include <limits>

#include "elementwise.hpp"

namespace deepstruct::kernels::scalar {
inline double identity(fn::add) { return 0; }
inline double identity(fn::maximum) { return -std::numeric_limits<double>::infinity(); }
inline double identity(fn::minimum) { return std::numeric_limits<double>::infinity(); }
inline double combine(fn::add, double a, double b) { return a + b; }
inline double combine(fn::maximum, double a, double b) { return a > b || a != a ? a : b; }
inline double combine(fn::minimum, double a, double b) { return a < b || a != a ? a : b; }
}  // namespace deepstruct::kernels::scalar

#include "../simd/baseline_begin.hpp"
#include "reduce.inl"
#include "../simd/end.hpp"

#include "../simd/avx2_begin.hpp"
#include "reduce.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

template <class Op>
void reduce(cpu, const float* x, float* y, const nest<2>& kept, const nest<1>& reduced) {
  const std::int64_t run = kept.extent[0], runs = kept.extent[1] * kept.extent[2] * kept.extent[3];
  const std::int64_t terms = reduced.extent[0] * reduced.extent[1] * reduced.extent[2] * reduced.extent[3];
  const bool lanes = kept.depth > 0 && kept.stride[1][0] == 1 && kept.stride[0][0] == 1 && run > 1;
  const auto grain = std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, run * terms));
  parallel_blocks(runs, grain, [&](std::int64_t first, std::int64_t last) {
    for_each_run(kept, first, last, [&](const std::int64_t* at) {
      if (lanes) {
        const auto body = simd::pick(&baseline::reduce_lanes<Op>, &avx2::reduce_lanes<Op>);
        const int width = *simd::pick(&baseline::width, &avx2::width);
        for (std::int64_t i = 0; i < run; i += width)
          body(x + at[1] + i, reduced, y + at[0] + i, std::min<std::int64_t>(width, run - i));
        return;
      }
      const auto body = simd::pick(&baseline::reduce_run<Op>, &avx2::reduce_run<Op>);
      for (std::int64_t i = 0; i < run; ++i) {
        const float* from = x + at[1] + i * kept.stride[1][0];
        double total = scalar::identity(Op{});
        for_each_run(reduced, 0, reduced.extent[1] * reduced.extent[2] * reduced.extent[3], [&](const std::int64_t* r) {
          if (reduced.stride[0][0] == 1 && reduced.extent[0] > 0) {
            total = scalar::combine(Op{}, total, body(from + r[0], reduced.extent[0]));
            return;
          }
          for (std::int64_t j = 0; j < reduced.extent[0]; ++j)
            total = scalar::combine(Op{}, total, double{from[r[0] + j * reduced.stride[0][0]]});
        });
        y[at[0] + i * kept.stride[0][0]] = static_cast<float>(total);
      }
    });
  });
}

inline void column_sums(cpu, matrix_view<const float> dy, const float* y, float* dz, float* sums) {
  const auto body = simd::pick(&baseline::column_sums, &avx2::column_sums);
  const std::int64_t grain = elementwise_grain / std::max<std::int64_t>(1, dy.rows) / 4 * 4;
  parallel_blocks(dy.cols, std::max<std::int64_t>(4, grain),
                  [&](std::int64_t first, std::int64_t last) { body(dy, y, dz, sums, first, last); });
}

inline void argmax(cpu, const float* x, std::int32_t* y, const nest<2>& kept, std::int64_t n, std::int64_t stride,
                   float sign) {
  const std::int64_t run = kept.extent[0], runs = kept.extent[1] * kept.extent[2] * kept.extent[3];
  parallel_blocks(runs, std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, run * n)),
                  [&](std::int64_t first, std::int64_t last) {
                    for_each_run(kept, first, last, [&](const std::int64_t* at) {
                      for (std::int64_t i = 0; i < run; ++i) {
                        const float* from = x + at[1] + i * kept.stride[1][0];
                        std::int64_t best = 0;
                        for (std::int64_t j = 1; j < n; ++j) {
                          const float v = sign * from[j * stride], top = sign * from[best * stride];
                          if (v > top || (v != v && top == top)) best = j;
                        }
                        y[at[0] + i * kept.stride[0][0]] = static_cast<std::int32_t>(best);
                      }
                    });
                  });
}

inline void cumsum(cpu, const float* x, float* y, const nest<2>& kept, std::int64_t n, std::int64_t x_stride,
                   std::int64_t y_stride) {
  for_each_run(kept, 0, kept.extent[1] * kept.extent[2] * kept.extent[3], [&](const std::int64_t* at) {
    for (std::int64_t i = 0; i < kept.extent[0]; ++i) {
      double total = 0;
      for (std::int64_t j = 0; j < n; ++j) {
        total += double{x[at[1] + i * kept.stride[1][0] + j * x_stride]};
        y[at[0] + i * kept.stride[0][0] + j * y_stride] = static_cast<float>(total);
      }
    }
  });
}

}  // namespace deepstruct::kernels
