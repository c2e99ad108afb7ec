// Device code of the reductions: one kernel folds terms for reduce, column_sums and argmax; and running sums.
//
// A block of 256 threads takes some kept elements by some terms of each, a power of two of either: neighbouring threads
// differ in whichever is contiguous in memory. Each thread folds its terms, then the block folds what its threads have,
// in an order that never changes. Where this makes too few blocks, the terms are cut into parts with a row of blocks
// each, and the parts are folded by a second launch.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include <deepstruct/kernels/contract.hpp>

#include "nest.cuh"
#include "simt.hpp"

namespace deepstruct::kernels::device {

inline constexpr int fold_threads = 256;

// What is folded: `total` is what terms become, none the total of no terms; a term is fetched, maybe stored, and made a
// total by its value and its number. Totals of parts are folded as they are.

template <class Op>
struct reduction {
  using total = float;
  __device__ float none() const { return std::is_same_v<Op, fn::maximum> ? -INFINITY : INFINITY; }
  // NaN wins.
  __device__ float join(float a, float b) const {
    const bool first = std::is_same_v<Op, fn::maximum> ? a > b : a < b;
    return first || a != a ? a : b;
  }
  template <class T>
  __device__ T fetch(const T* x, std::int64_t at) const {
    return x[at];
  }
  __device__ void store(std::int64_t, float) const {}
  __device__ float term(float v, std::int64_t) const { return v; }
  __device__ float result(float v) const { return v; }
};

template <>
struct reduction<fn::add> {
  using total = double;
  __device__ double none() const { return 0; }
  __device__ double join(double a, double b) const { return a + b; }
  template <class T>
  __device__ T fetch(const T* x, std::int64_t at) const {
    return x[at];
  }
  template <class T>
  __device__ void store(std::int64_t, T) const {}
  template <class T>
  __device__ double term(T v, std::int64_t) const {
    return static_cast<double>(v);
  }
  __device__ float result(double v) const { return static_cast<float>(v); }
};

/// The sum of dz = dy·[y > 0], which is stored.
struct gated_sum : reduction<fn::add> {
  const float* y = nullptr;
  float* dz = nullptr;
  __device__ float fetch(const float* dy, std::int64_t at) const {
    const float v = dy[at];
    return y[at] > 0.0f ? v : 0.0f;
  }
  __device__ void store(std::int64_t at, float v) const { dz[at] = v; }
};

struct alignas(8) candidate {
  float value;
  std::int32_t at;
};
/// The place of the greatest sign·x, NaN greater than all, of equals the first.
struct greatest {
  static constexpr std::int32_t nowhere = 0x7fffffff;
  using total = candidate;
  float sign = 1;
  __device__ candidate none() const { return {-INFINITY, nowhere}; }
  __device__ candidate join(candidate a, candidate b) const {
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    const bool equal = a.value == b.value || (a_nan && b_nan), greater = a.value > b.value || (a_nan && !b_nan);
    return (equal ? a.at < b.at : greater) ? a : b;
  }
  template <class T>
  __device__ T fetch(const T* x, std::int64_t at) const {
    return x[at];
  }
  template <class T>
  __device__ void store(std::int64_t, T) const {}
  __device__ candidate term(float v, std::int64_t number) const {
    return {sign * v, static_cast<std::int32_t>(number)};
  }
  __device__ candidate term(candidate v, std::int64_t) const { return v; }
  __device__ std::int32_t result(candidate v) const { return v.at == nowhere ? 0 : v.at; }
};

template <class T>
struct fold_shared {
  T of[fold_threads];
};

/// How a block's threads are laid out, 2^kept_bits · 2^term_bits of them: neighbours in kept elements (in terms) are
/// 2^kept_shift (2^term_shift) threads apart. And the parts.
struct fold_cut {
  std::int32_t kept_bits = 0, term_bits = 0, kept_shift = 0, term_shift = 0;
  std::int64_t parts = 1;     ///< blocks in y
  std::int64_t per_part = 0;  ///< terms
};

/// y[kept] = the fold over x[kept + reduced]; with more than one part the totals of part p become part_totals[p].
/// Operands of kept: y, x. Flat: the terms are one loop.
template <bool Flat, class Fold, class T, class Result>
__global__ void __launch_bounds__(fold_threads) fold(Fold how, const T* x, nest_loops<2> kept, nest_loops<1> reduced,
                                                     fold_cut cut, typename Fold::total* part_totals, Result* y) {
  using Total = typename Fold::total;
  constexpr int batch = 4;  // loads on their way at once
  const int t = static_cast<int>(threadIdx.x), lanes = 1 << cut.term_bits;
  const int lane = t >> cut.term_shift & (lanes - 1), own = t >> cut.kept_shift & ((1 << cut.kept_bits) - 1);
  const std::int64_t k = (std::int64_t{blockIdx.x} << cut.kept_bits) + own;
  const std::int64_t begin = std::int64_t{blockIdx.y} * cut.per_part;
  const std::int64_t end = begin + cut.per_part < reduced.n ? begin + cut.per_part : reduced.n;
  const nest_place<2> place = k < kept.n ? place_of(kept, k) : nest_place<2>{};

  Total total = how.none();
  if (k < kept.n)
    for (std::int64_t j = begin + lane; j < end; j += batch * lanes) {
      T v[batch] = {};
      std::int64_t at[batch] = {};
#pragma unroll
      for (int i = 0; i < batch; ++i)
        if (j + i * lanes < end) {
          const std::int64_t number = j + i * lanes;
          at[i] = place.of[1] + (Flat ? number * reduced.stride[0][0] : place_of(reduced, number).of[0]);
          v[i] = how.fetch(x, at[i]);
        }
#pragma unroll
      for (int i = 0; i < batch; ++i)
        if (j + i * lanes < end) {
          how.store(at[i], v[i]);
          total = how.join(total, how.term(v[i], j + i * lanes));
        }
    }

  Total* of = simt::shared<fold_shared<Total>>().of;
  of[t] = total;
  for (int half = lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) of[t] = how.join(of[t], of[t + (half << cut.term_shift)]);
  }
  if (lane != 0 || k >= kept.n) return;
  if (cut.parts > 1)
    part_totals[std::int64_t{blockIdx.y} * kept.n + k] = of[t];
  else
    y[place.of[0]] = how.result(of[t]);
}

/// A thread to a part of a running sum: its sum, sums[part, kept element].
static __global__ void __launch_bounds__(256)
    cumsum_parts(const float* x, nest_loops<2> kept, divisor elements, std::int64_t n, std::int64_t x_stride,
                 std::int64_t parts, std::int64_t per_part, double* sums) {
  const std::int64_t count = kept.n * parts, threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += threads) {
    const std::int64_t part = quotient(i, elements), begin = part * per_part;
    const std::int64_t end = begin + per_part < n ? begin + per_part : n;
    const float* from = x + place_of(kept, i - part * kept.n).of[1];
    double total = 0;
#pragma unroll 4
    for (std::int64_t j = begin; j < end; ++j) total += static_cast<double>(from[j * x_stride]);
    sums[i] = total;
  }
}

/// The running sum within every part, from the sum of the parts before on; `sums` is null where there is one part.
static __global__ void __launch_bounds__(256)
    cumsum(const float* x, float* y, nest_loops<2> kept, divisor elements, std::int64_t n, std::int64_t x_stride,
           std::int64_t y_stride, std::int64_t parts, std::int64_t per_part, const double* sums) {
  const std::int64_t count = kept.n * parts, threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += threads) {
    const std::int64_t part = quotient(i, elements), k = i - part * kept.n, begin = part * per_part;
    const std::int64_t end = begin + per_part < n ? begin + per_part : n;
    const nest_place<2> place = place_of(kept, k);
    double total = 0;
#pragma unroll 4
    for (std::int64_t p = 0; p < part; ++p) total += sums[p * kept.n + k];
    for (std::int64_t j = begin; j < end; j += 4) {
      float v[4] = {};
#pragma unroll
      for (int u = 0; u < 4; ++u)
        if (j + u < end) v[u] = x[place.of[1] + (j + u) * x_stride];
#pragma unroll
      for (int u = 0; u < 4; ++u)
        if (j + u < end) {
          total += static_cast<double>(v[u]);
          y[place.of[0] + (j + u) * y_stride] = static_cast<float>(total);
        }
    }
  }
}

}  // namespace deepstruct::kernels::device
