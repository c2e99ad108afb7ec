// Device code of batch norm: statistics of channels, normalisation, gradients.
//
// A channel is cut into parts of the same size, and `Lanes` neighbouring threads, a warp or a quarter of it, take a
// part: they read neighbouring numbers, four at a time where these begin at multiples of 16 bytes. Sums are in double;
// those of the parts are added in an order that never changes.
#pragma once

#include <cmath>
#include <cstdint>

#include <deepstruct/kernels/contract.hpp>

#include "simt.hpp"

namespace deepstruct::kernels::device {

/// The numbers of a channel in storage: `runs` runs of n at distance `step`, the first of channel c at c·channel.
struct channel_runs {
  std::int64_t runs, n, step, channel;
};
/// How channels are cut: each into `parts` parts of `each` items, an item being N neighbouring numbers of a run.
struct channel_cut {
  std::int64_t channels, parts, each;
};

/// The items of one thread of a part, one after another: `left` of them, the next one `offset` numbers from the start
/// of the channel, and item `at` of its run.
template <int Lanes, int N>
struct channel_items {
  int left;
  std::int64_t at, offset, n, step;

  __device__ __forceinline__ channel_items(const channel_runs& r, const channel_cut& cut, std::int64_t part)
      : left(0), at(0), offset(0), n(r.n), step(r.step) {
    const std::int64_t first = part * cut.each + threadIdx.x % Lanes, last = r.runs * items();
    const std::int64_t end = (part + 1) * cut.each < last ? (part + 1) * cut.each : last;
    if (first >= end) return;
    left = static_cast<int>((end - first + Lanes - 1) / Lanes);
    at = first % items();
    offset = first / items() * step + at * N;
  }
  __device__ __forceinline__ std::int64_t items() const { return (n + N - 1) / N; }
  __device__ __forceinline__ void next() {
    --left, at += Lanes, offset += Lanes * N;
    for (; at >= items(); at -= items()) offset += step - items() * N;
  }
  /// Numbers of the item, N or more of them where it is full.
  __device__ __forceinline__ std::int64_t count() const { return n - at * N; }
};

template <int N>
struct channel_numbers {
  float of[N];
};
/// `count` numbers, at most N.
template <int N>
__device__ __forceinline__ channel_numbers<N> read_numbers(const float* from, std::int64_t count) {
  if constexpr (N == 4) {
    if (count >= 4) {
      const float4 v = __ldg(reinterpret_cast<const float4*>(from));
      return {{v.x, v.y, v.z, v.w}};
    }
  }
  channel_numbers<N> v{};
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (i < count) v.of[i] = __ldg(from + i);
  return v;
}
template <int N>
__device__ __forceinline__ void write_numbers(channel_numbers<N> v, float* to, std::int64_t count) {
  if constexpr (N == 4) {
    if (count >= 4) {
      *reinterpret_cast<float4*>(to) = float4{v.of[0], v.of[1], v.of[2], v.of[3]};
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (i < count) to[i] = v.of[i];
}

/// 1/√(variance + eps)
__device__ __forceinline__ double batch_norm_rstd(float variance, double eps) {
  return 1 / sqrt(double{variance} + eps);
}

/// Mean and variance from Σ d and Σ d², d = x − the channel's first number: what all numbers have in common costs no
/// digits.
struct batch_moments {
  const float* x;
  double terms;
  float *mean, *variance;
  static constexpr bool reads_dy = false;

  __device__ __forceinline__ double shift(std::int64_t first, std::int64_t) const {
    return terms > 0 ? double{__ldg(x + first)} : 0.0;
  }
  __device__ __forceinline__ void add(float v, float, double shift, double (&sums)[2]) const {
    const double d = double{v} - shift;
    sums[0] += d;
    sums[1] += d * d;
  }
  __device__ __forceinline__ void finish(std::int64_t c, double shift, const double (&sums)[2]) const {
    const double centre = sums[0] / terms, square = sums[1] / terms - centre * centre;
    mean[c] = static_cast<float>(shift + centre);
    variance[c] = square < 0 ? 0.0f : static_cast<float>(square);
  }
};
/// Gradients of weight and bias from Σ dy and Σ dy·(x − mean), which are kept in `totals`.
struct batch_products {
  const float *x, *mean, *variance;
  double eps;
  float *dw, *db;
  double* totals;
  static constexpr bool reads_dy = true;

  __device__ __forceinline__ double shift(std::int64_t, std::int64_t c) const { return double{__ldg(mean + c)}; }
  __device__ __forceinline__ void add(float v, float dy, double shift, double (&sums)[2]) const {
    sums[0] += double{dy};
    sums[1] += double{dy} * (double{v} - shift);
  }
  __device__ __forceinline__ void finish(std::int64_t c, double, const double (&sums)[2]) const {
    db[c] = static_cast<float>(sums[0]);
    dw[c] = static_cast<float>(sums[1] * batch_norm_rstd(__ldg(variance + c), eps));
    totals[2 * c] = sums[0], totals[2 * c + 1] = sums[1];
  }
};

/// The sums of every part: what is wanted of them where a channel is one part, else left in `partial`.
template <class Sums, int Lanes, int N>
__global__ void __launch_bounds__(256)
    channel_sums(Sums wanted, channel_runs runs, channel_cut cut, const float* __restrict__ dy, double* partial) {
  const std::int64_t groups = std::int64_t{gridDim.x} * (256 / Lanes), all = cut.channels * cut.parts;
  const int within = static_cast<int>(threadIdx.x % 32) / Lanes;  // of a warp, whose threads stay together
  for (std::int64_t first = blockIdx.x * std::int64_t{256 / Lanes} + threadIdx.x / 32 * (32 / Lanes); first < all;
       first += groups) {
    const std::int64_t group = first + within < all ? first + within : all - 1, c = group / cut.parts,
                       begin = c * runs.channel;
    const double shift = wanted.shift(begin, c);
    double sums[2] = {};
    for (channel_items<Lanes, N> i(runs, cut, group - c * cut.parts); i.left > 0; i.next()) {
      const std::int64_t at = begin + i.offset, count = i.count();
      const channel_numbers<N> v = read_numbers<N>(wanted.x + at, count);
      channel_numbers<N> g{};
      if constexpr (Sums::reads_dy) g = read_numbers<N>(dy + at, count);
#pragma unroll
      for (int k = 0; k < N; ++k)
        if (k < count) wanted.add(v.of[k], g.of[k], shift, sums);
    }
#pragma unroll
    for (int d = Lanes / 2; d > 0; d /= 2) {
      sums[0] += __shfl_xor_sync(0xffffffffu, sums[0], d);
      sums[1] += __shfl_xor_sync(0xffffffffu, sums[1], d);
    }
    if (threadIdx.x % Lanes != 0 || first + within >= all) continue;
    if (cut.parts == 1)
      wanted.finish(c, shift, sums);
    else
      partial[2 * group] = sums[0], partial[2 * group + 1] = sums[1];
  }
}

/// Adds up the parts of every channel, a warp to a channel.
template <class Sums>
__global__ void __launch_bounds__(256)
    channel_totals(Sums wanted, channel_runs runs, channel_cut cut, const double* __restrict__ partial) {
  const std::int64_t warps = std::int64_t{gridDim.x} * 8;
  for (std::int64_t c = std::int64_t{blockIdx.x} * 8 + threadIdx.x / 32; c < cut.channels; c += warps) {
    double sums[2] = {};
    for (std::int64_t p = threadIdx.x % 32; p < cut.parts; p += 32) {
      sums[0] += partial[2 * (c * cut.parts + p)];
      sums[1] += partial[2 * (c * cut.parts + p) + 1];
    }
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
      sums[0] += __shfl_xor_sync(0xffffffffu, sums[0], d);
      sums[1] += __shfl_xor_sync(0xffffffffu, sums[1], d);
    }
    if (threadIdx.x % 32 == 0) wanted.finish(c, wanted.shift(c * runs.channel, c), sums);
  }
}

/// y = (x − mean)·rstd·w + b
struct batch_affine {
  const float *mean, *variance, *w, *b;
  double eps;
  struct channel {
    float shift, scale, offset;
    __device__ __forceinline__ float operator()(float x, float) const { return (x - shift) * scale + offset; }
  };
  static constexpr bool reads_dy = false;
  __device__ __forceinline__ channel of(std::int64_t c) const {
    return {__ldg(mean + c), static_cast<float>(batch_norm_rstd(__ldg(variance + c), eps) * double{__ldg(w + c)}),
            __ldg(b + c)};
  }
};
/// dx = w·rstd·dy, or where Training w·rstd·(dy − Σ dy/n − (x − mean)·rstd²·Σ dy·(x − mean)/n)
template <bool Training>
struct batch_dx {
  const float *mean, *variance, *w;
  double eps;
  double terms;
  const double* totals;
  struct channel {
    float shift, scale, mean_dy, slope;
    __device__ __forceinline__ float operator()(float x, float dy) const {
      return Training ? (dy - mean_dy - (x - shift) * slope) * scale : x * scale;
    }
  };
  static constexpr bool reads_dy = Training;
  __device__ __forceinline__ channel of(std::int64_t c) const {
    const double rstd = batch_norm_rstd(__ldg(variance + c), eps);
    channel v{__ldg(mean + c), static_cast<float>(rstd * double{__ldg(w + c)}), 0, 0};
    if constexpr (Training) {
      v.mean_dy = static_cast<float>(totals[2 * c] / terms);
      v.slope = static_cast<float>(totals[2 * c + 1] * rstd * rstd / terms);
    }
    return v;
  }
};

/// y = f(x, dy) of the channel; without reads_dy there is no dy.
template <class F, int Lanes, int N>
__global__ void __launch_bounds__(256) channel_map(F f, channel_runs runs, channel_cut cut, const float* __restrict__ x,
                                                   const float* __restrict__ dy, float* __restrict__ y) {
  const std::int64_t groups = std::int64_t{gridDim.x} * (256 / Lanes), all = cut.channels * cut.parts;
  for (std::int64_t group = blockIdx.x * std::int64_t{256 / Lanes} + threadIdx.x / Lanes; group < all;
       group += groups) {
    const std::int64_t c = group / cut.parts, begin = c * runs.channel;
    const typename F::channel of = f.of(c);
    for (channel_items<Lanes, N> i(runs, cut, group - c * cut.parts); i.left > 0; i.next()) {
      const std::int64_t at = begin + i.offset, count = i.count();
      channel_numbers<N> v = read_numbers<N>(x + at, count), g{};
      if constexpr (F::reads_dy) g = read_numbers<N>(dy + at, count);
#pragma unroll
      for (int k = 0; k < N; ++k) v.of[k] = of(v.of[k], g.of[k]);
      write_numbers<N>(v, y + at, count);
    }
  }
}

}  // namespace deepstruct::kernels::device
