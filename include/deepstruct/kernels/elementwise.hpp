// Elementwise kernels on the CPU: map, map_grad, zip, add_into, select, uniform, dropout, logistic_noise.
#pragma once

#include <cmath>
#include <cstdint>

#include "../core/parallel.hpp"
#include "../simd/lanes.hpp"
#include "../simd/pick.hpp"
#include "contract.hpp"

namespace deepstruct::kernels {

/// Functions without a vector form, in double.
namespace scalar {
inline double sin(double x) { return std::sin(x); }
inline double cos(double x) { return std::cos(x); }
inline float pow(float x, float a) { return static_cast<float>(std::pow(double{x}, double{a})); }
}  // namespace scalar

/// What 32 random bits stand for.
namespace random {
struct unit {};      // uniform in [0, 1), a multiple of 2⁻²⁴
struct from_one {};  // 1 + uniform in [0, 1), a multiple of 2⁻²³
struct between {     // uniform in [low, high], as Draw::between
  float low, high;
};
}  // namespace random

}  // namespace deepstruct::kernels

#include "../simd/baseline_begin.hpp"
#include "elementwise.inl"
#include "../simd/end.hpp"

#include "../simd/avx2_begin.hpp"
#include "elementwise.inl"
#include "../simd/end.hpp"

#include "../simd/avx512_begin.hpp"
#include "elementwise.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

/// Lanes of the active instruction set.
inline int active_width() { return *simd::pick(&baseline::width, &avx2::width, &avx512::width); }

/// Elements per part of an elementwise loop: 128 KiB of one operand, some 10 µs of work.
inline constexpr std::int64_t elementwise_grain = 1 << 15;

template <class Op>
void map(cpu, const float* x, float* y, std::int64_t n, float a, float b) {
  const auto body = simd::pick(&baseline::map<Op>, &avx2::map<Op>, &avx512::map<Op>);
  parallel_blocks(n, elementwise_grain, [&](std::int64_t i, std::int64_t end) { body(x + i, y + i, end - i, a, b); });
}

template <class Op>
void map_grad(cpu, const float* dy, const float* x, const float* y, float* dx, std::int64_t n, float a, float b) {
  const auto body = simd::pick(&baseline::map_grad<Op>, &avx2::map_grad<Op>, &avx512::map_grad<Op>);
  parallel_blocks(n, elementwise_grain,
                  [&](std::int64_t i, std::int64_t end) { body(dy + i, x + i, y + i, dx + i, end - i, a, b); });
}

/// Calls f(offset0, …) for every run along the innermost extent of a nest whose outer runs [first, last) are wanted.
template <int Operands, class F>
void for_each_run(const nest<Operands>& n, std::int64_t first, std::int64_t last, F&& f) {
  if (first >= last) return;
  std::int64_t at[4] = {}, rest = first;
  for (int k = 1; k < 4; ++k) {
    at[k] = rest % n.extent[k];
    rest /= n.extent[k];
  }
  for (std::int64_t run = first; run < last; ++run) {  // counted on: divisions cost as much as 64 lanes
    std::int64_t offset[Operands] = {};
    for (int k = 1; k < 4; ++k)
      for (int o = 0; o < Operands; ++o) offset[o] += at[k] * n.stride[o][k];
    f(offset);
    for (int k = 1; k < 4 && ++at[k] == n.extent[k]; ++k) at[k] = 0;
  }
}

/// Threads of zip, once for every Op.
inline void zip_runs(decltype(&baseline::zip_run<fn::add>) body, const float* x0, const float* x1, float* y,
                     const nest<3>& n) {
  const std::int64_t run = n.extent[0], runs = n.extent[1] * n.extent[2] * n.extent[3];
  if (run == 0 || runs == 0) return;
  if (runs == 1)  // one long run: split inside it, at multiples of the widest vector
    return parallel_blocks(run, elementwise_grain, [&](std::int64_t i, std::int64_t end) {
      body(x0 + i * n.stride[1][0], x1 + i * n.stride[2][0], y + i, end - i, n.stride[1][0], n.stride[2][0]);
    });
  parallel_blocks(runs, std::max<std::int64_t>(1, elementwise_grain / run), [&](std::int64_t first, std::int64_t last) {
    for_each_run(n, first, last, [&](const std::int64_t* at) {
      body(x0 + at[1], x1 + at[2], y + at[0], run, n.stride[1][0], n.stride[2][0]);
    });
  });
}

template <class Op>
void zip(cpu, const float* x0, const float* x1, float* y, const nest<3>& n) {
  zip_runs(simd::pick(&baseline::zip_run<Op>, &avx2::zip_run<Op>), x0, x1, y, n);
}

inline void add_into(cpu, const float* x, float* y, std::int64_t n) {
  const auto body = simd::pick(&baseline::zip_run<fn::add>, &avx2::zip_run<fn::add>);
  parallel_blocks(n, elementwise_grain,
                  [&](std::int64_t i, std::int64_t end) { body(x + i, y + i, y + i, end - i, 1, 1); });
}

inline void select(cpu, const std::int32_t* condition, const float* x0, const float* x1, float* y, std::int64_t n) {
  parallel_blocks(n, elementwise_grain, [&](std::int64_t i, std::int64_t end) {
    for (; i < end; ++i) y[i] = condition[i] != 0 ? x0[i] : x1[i];
  });
}

inline void above(cpu, const float* x, float bound, std::int32_t* flags, std::int64_t n) {
  parallel_blocks(n, elementwise_grain, [&](std::int64_t i, std::int64_t end) {
    for (; i < end; ++i) flags[i] = x[i] > bound;
  });
}

/// y[i, c] = of(word i·cols + c of the draw), then column(c) for every column.
template <class Of, class Column>
void draw_columns(matrix_view<float> y, Draw draw, Of of, Column&& column) {
  const auto words = simd::pick(&baseline::words<Of>, &avx2::words<Of>, &avx512::words<Of>);
  if (y.cols == 1) {
    words(of, draw, 0, y.data, 1, y.rows);
    return column(0);
  }
  constexpr std::int64_t tile = 64;  // columns, neighbours in the draw: few enough that their lines stay in the cache
  const std::int64_t tiles = std::max<std::int64_t>(1, 4096 / (tile * std::max<std::int64_t>(1, y.rows)));
  parallel_blocks(y.cols, tiles * tile, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t c = first; c < last; c += tile) {
      const std::int64_t n = std::min(tile, last - c);
      for (std::int64_t i = 0; i < y.rows; ++i)
        words(of, draw, static_cast<std::uint64_t>(i * y.cols + c), y.col(c) + i, y.ld, n);
      for (std::int64_t k = 0; k < n; ++k) column(c + k);
    }
  });
}

inline void uniform(cpu, matrix_view<float> y, float low, float high, Draw draw) {
  draw_columns(y, draw, random::between{low, high}, [](std::int64_t) {});
}

inline void dropout(cpu, matrix_view<const float> x, matrix_view<float> y, float p, Draw draw) {
  const auto keep_scaled = simd::pick(&baseline::keep_scaled, &avx2::keep_scaled, &avx512::keep_scaled);
  const float scale = 1.0f / (1.0f - p);
  draw_columns(y, draw, random::unit{}, [&](std::int64_t c) { keep_scaled(x.col(c), y.col(c), x.rows, p, scale); });
}

inline void logistic_noise(cpu, matrix_view<const float> x, matrix_view<float> y, float scale, Draw draw) {
  const auto add_logits = simd::pick(&baseline::add_logits, &avx2::add_logits, &avx512::add_logits);
  draw_columns(y, draw, random::from_one{}, [&](std::int64_t c) { add_logits(x.col(c), y.col(c), y.rows, scale); });
}

}  // namespace deepstruct::kernels
