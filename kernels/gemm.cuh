// Device code of dense products: y = x·wᵀ + bias in float32, and batched products in double.
//
// A block takes a tile of y. Terms go by in steps of Depth: those of x and w come into registers while the step before
// is multiplied, and from there into the other half of shared memory, so one barrier a step is enough. A thread keeps
// Rows samples by Cols outputs in registers; eight of a warp lie along the samples and four along the outputs (unless
// the tile is too narrow), so that a warp reads each of its operands from shared memory in one go. The terms can be cut
// into parts, whose sums are added in order by a kernel of their own.
#pragma once

#include <cstdint>

#include <deepstruct/core/view.hpp>

#include "nest.cuh"

namespace deepstruct::kernels::device {

/// How a block and its threads share a tile of y.
template <int Samples, int Outputs, int Rows, int Cols, int Depth>
struct gemm_tile {
  static constexpr int samples = Samples, outputs = Outputs, rows = Rows, cols = Cols, depth = Depth;
  static constexpr int threads = Samples / Rows * (Outputs / Cols);
  static constexpr int lanes_along_samples = Samples / Rows < 8 ? Samples / Rows : 8;
  static constexpr int lanes_along_outputs = 32 / lanes_along_samples;
  static constexpr int warps_along_samples = Samples / Rows / lanes_along_samples;
  static constexpr int stride = Outputs + 4;  // of w in shared memory: fours that are turned meet in fewer banks
};
using gemm_wide = gemm_tile<128, 128, 8, 8, 8>;
using gemm_square = gemm_tile<64, 64, 4, 4, 16>;
using gemm_few_samples = gemm_tile<8, 128, 8, 1, 16>;
using gemm_few_outputs = gemm_tile<128, 8, 4, 2, 16>;

/// Two steps of terms.
template <class Tile>
struct gemm_shared {
  float x[2][Tile::depth][Tile::samples];
  float w[2][Tile::depth][Tile::stride];
};

/// Four entries at distance `step`, 0 from the `left`-th on; with Vector they are aligned neighbours.
template <bool Vector>
__device__ __forceinline__ float4 gemm_four(const float* at, std::int64_t step, std::int64_t left) {
  if (Vector && left >= 4) return __ldg(reinterpret_cast<const float4*>(at));
  float4 v{0, 0, 0, 0};
  if (left > 0) v.x = __ldg(at);
  if (left > 1) v.y = __ldg(at + step);
  if (left > 2) v.z = __ldg(at + 2 * step);
  if (left > 3) v.w = __ldg(at + 3 * step);
  return v;
}

/// One step of terms in registers, on its way to shared memory. Fours of w lie along the terms, or along its rows.
template <class Tile, bool Vector, bool AlongTerms>
struct gemm_step {
  static constexpr int x_fours = Tile::depth * Tile::samples / 4, w_fours = Tile::depth * Tile::outputs / 4;
  static constexpr int x_each = (x_fours + Tile::threads - 1) / Tile::threads,
                       w_each = (w_fours + Tile::threads - 1) / Tile::threads;
  float4 x[x_each], w[w_each];

  /// Terms [first, end) of samples from `sample` and outputs from `output` on.
  __device__ __forceinline__ void fetch(const matrix_view<const float>& from_x, const strided_view<const float>& from_w,
                                        std::int64_t sample, std::int64_t output, std::int64_t first,
                                        std::int64_t end) {
    const int t = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int q = 0; q < x_each; ++q) {
      const int i = t + q * Tile::threads;
      const std::int64_t term = first + i / (Tile::samples / 4), b = sample + i % (Tile::samples / 4) * 4;
      const bool within = (x_fours % Tile::threads == 0 || i < x_fours) && term < end;
      x[q] = gemm_four<Vector>(from_x.data + term * from_x.ld + b, 1, within ? from_x.rows - b : 0);
    }
#pragma unroll
    for (int q = 0; q < w_each; ++q) {
      const int i = t + q * Tile::threads;
      const bool exists = w_fours % Tile::threads == 0 || i < w_fours;
      if constexpr (AlongTerms) {
        const std::int64_t term = first + i % (Tile::depth / 4) * 4, o = output + i / (Tile::depth / 4);
        w[q] = gemm_four<Vector>(from_w.data + o * from_w.s0 + term * from_w.s1, from_w.s1,
                                 exists && o < from_w.rows ? end - term : 0);
      } else {
        const std::int64_t term = first + i / (Tile::outputs / 4), o = output + i % (Tile::outputs / 4) * 4;
        w[q] = gemm_four<Vector>(from_w.data + o * from_w.s0 + term * from_w.s1, from_w.s0,
                                 exists && term < end ? from_w.rows - o : 0);
      }
    }
  }
  __device__ __forceinline__ void store(float (&to_x)[Tile::depth][Tile::samples],
                                        float (&to_w)[Tile::depth][Tile::stride]) const {
    const int t = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int q = 0; q < x_each; ++q) {
      const int i = t + q * Tile::threads;
      if (x_fours % Tile::threads == 0 || i < x_fours)
        *reinterpret_cast<float4*>(&to_x[i / (Tile::samples / 4)][i % (Tile::samples / 4) * 4]) = x[q];
    }
#pragma unroll
    for (int q = 0; q < w_each; ++q) {
      const int i = t + q * Tile::threads;
      if (w_fours % Tile::threads != 0 && i >= w_fours) continue;
      if constexpr (AlongTerms) {
        const int term = i % (Tile::depth / 4) * 4, o = i / (Tile::depth / 4);
        to_w[term][o] = w[q].x;
        to_w[term + 1][o] = w[q].y;
        to_w[term + 2][o] = w[q].z;
        to_w[term + 3][o] = w[q].w;
      } else {
        *reinterpret_cast<float4*>(&to_w[i / (Tile::outputs / 4)][i % (Tile::outputs / 4) * 4]) = w[q];
      }
    }
  }
};

/// Where a thread's n-th of Count entries along a tile is: fours, then the fours of the other `lanes`, then fours
/// again.
template <int Count>
__device__ __forceinline__ int gemm_entry(int warp, int lanes, int lane, int n) {
  constexpr int run = Count < 4 ? Count : 4;
  return warp * Count * lanes + n / run * run * lanes + lane * run + n % run;
}
template <int Count>
__device__ __forceinline__ void gemm_read(float (&to)[Count], const float* from, int warp, int lanes, int lane) {
  if constexpr (Count % 4 == 0) {
#pragma unroll
    for (int n = 0; n < Count; n += 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + gemm_entry<Count>(warp, lanes, lane, n));
      to[n] = v.x, to[n + 1] = v.y, to[n + 2] = v.z, to[n + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int n = 0; n < Count; ++n) to[n] = from[gemm_entry<Count>(warp, lanes, lane, n)];
  }
}

/// Part p of the terms, [p·part, (p + 1)·part), goes to y + p·y_part. With Vector, columns of x and fours of w are
/// aligned; with y_fours, columns of y are. Bias may be null.
template <class Tile, bool Vector, bool AlongTerms>
__global__ void __launch_bounds__(Tile::threads, Tile::samples* Tile::outputs > 8192 ? 2 : 4)
    gemm(const matrix_view<const float> x, const strided_view<const float> w, const float* __restrict__ bias,
         const matrix_view<float> y, std::int64_t part, std::int64_t y_part, bool y_fours) {
  using shared = gemm_shared<Tile>;
  shared& tile = simt::shared<shared>();
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int sample_lane = lane % Tile::lanes_along_samples, sample_warp = warp % Tile::warps_along_samples;
  const int output_lane = lane / Tile::lanes_along_samples, output_warp = warp / Tile::warps_along_samples;
  const unsigned across = static_cast<unsigned>((y.rows + Tile::samples - 1) / Tile::samples),
                 down = static_cast<unsigned>((y.cols + Tile::outputs - 1) / Tile::outputs);
  const std::int64_t sample = std::int64_t{blockIdx.x % across} * Tile::samples,
                     output = std::int64_t{blockIdx.x / across % down} * Tile::outputs, p = blockIdx.x / across / down;
  const std::int64_t begin = p * part, end = begin + part < x.cols ? begin + part : x.cols;

  float sum[Tile::cols][Tile::rows] = {};
  gemm_step<Tile, Vector, AlongTerms> next;
  if (begin < end) {
    next.fetch(x, w, sample, output, begin, end);
    next.store(tile.x[0], tile.w[0]);
  }
  __syncthreads();
  int half = 0;
  for (std::int64_t first = begin; first < end; first += Tile::depth) {
    const bool more = first + Tile::depth < end;
    if (more) next.fetch(x, w, sample, output, first + Tile::depth, end);
#pragma unroll
    for (int k = 0; k < Tile::depth; ++k) {
      float a[Tile::rows], b[Tile::cols];
      gemm_read<Tile::rows>(a, tile.x[half][k], sample_warp, Tile::lanes_along_samples, sample_lane);
      gemm_read<Tile::cols>(b, tile.w[half][k], output_warp, Tile::lanes_along_outputs, output_lane);
#pragma unroll
      for (int c = 0; c < Tile::cols; ++c)
#pragma unroll
        for (int r = 0; r < Tile::rows; ++r) sum[c][r] += a[r] * b[c];
    }
    half = 1 - half;
    if (more) next.store(tile.x[half], tile.w[half]);
    __syncthreads();
  }

#pragma unroll
  for (int c = 0; c < Tile::cols; ++c) {
    const std::int64_t o = output + gemm_entry<Tile::cols>(output_warp, Tile::lanes_along_outputs, output_lane, c);
    if (o >= y.cols) continue;
    const float add = bias ? __ldg(bias + o) : 0.0f;
    float* to = y.data + p * y_part + o * y.ld;
#pragma unroll
    for (int r = 0; r < Tile::rows; r += 4) {
      const std::int64_t b = sample + gemm_entry<Tile::rows>(sample_warp, Tile::lanes_along_samples, sample_lane, r);
      const float4 v{sum[c][r] + add, sum[c][r + 1] + add, sum[c][r + 2] + add, sum[c][r + 3] + add};
      if (y_fours && b + 4 <= y.rows) {
        *reinterpret_cast<float4*>(to + b) = v;
        continue;
      }
      if (b < y.rows) to[b] = v.x;
      if (b + 1 < y.rows) to[b + 1] = v.y;
      if (b + 2 < y.rows) to[b + 2] = v.z;
      if (b + 3 < y.rows) to[b + 3] = v.w;
    }
  }
}

/// y = Σ of the parts, each as large as `columns` · `ld`, in order, + bias.
static __global__ void __launch_bounds__(256)
    gemm_add_parts(const float* __restrict__ sums, std::int64_t parts, const divisor ld, const float* __restrict__ bias,
                   matrix_view<float> y) {
  const std::int64_t n = y.cols * ld.by, threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += threads) {
    const std::int64_t o = quotient(i, ld), b = i - o * ld.by;
    if (b >= y.rows) continue;
    double sum = 0;
#pragma unroll 4
    for (std::int64_t p = 0; p < parts; ++p) sum += double{__ldg(sums + p * n + i)};
    y.data[o * y.ld + b] = static_cast<float>(sum + (bias ? double{__ldg(bias + o)} : 0.0));
  }
}

/// A thread to an entry of y; operands y, a, b.
static __global__ void __launch_bounds__(256)
    gemm_batched(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y,
                 const nest_loops<3> loops, std::int64_t terms, std::int64_t a_term, std::int64_t b_term) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < loops.n; i += threads) {
    const nest_place<3> at = place_of(loops, i);
    const float *left = a + at.of[1], *right = b + at.of[2];
    double sum = 0;
#pragma unroll 4
    for (std::int64_t k = 0; k < terms; ++k)
      sum += double{__ldg(left + k * a_term)} * double{__ldg(right + k * b_term)};
    y[at.of[0]] = static_cast<float>(sum);
  }
}

}  // namespace deepstruct::kernels::device
