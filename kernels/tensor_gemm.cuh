// Device code of dense products on tensor cores, y = x·wᵀ + bias with the accuracy of float32.
//
// Outputs are the rows of what a warp multiplies and samples its columns, so that a thread ends with neighbouring
// samples. Tiles of w and x come into shared memory by asynchronous copies, some stages ahead. A thread splits what it
// reads from there into hi + lo of TF32 and gives the tensor cores hi·hi, hi·lo and lo·hi. They cut their sums off
// instead of rounding them, which adds up where all terms have one sign: so a tile's terms are summed there from 0, and
// such sums are added in float32.
//
// Which output is which row of a warp's product is free, and so for samples: a thread takes four neighbours, which it
// reads at once. Lines of tiles are 8 floats longer than a multiple of 32, so that eight lanes, two along a line and
// four on different lines, find their sixteen bytes in different banks.
#pragma once

#include <cstdint>

#include <deepstruct/core/view.hpp>

#include "nest.cuh"

namespace deepstruct::kernels::device {

/// How a block and its warps share a tile of y; Depth terms are a stage, Resident blocks share a multiprocessor.
template <int Outputs, int Samples, int WarpOutputs, int WarpSamples, int Depth, int Stages, int Resident>
struct tensor_tile {
  static constexpr int outputs = Outputs, samples = Samples, warp_outputs = WarpOutputs, warp_samples = WarpSamples;
  static constexpr int depth = Depth, stages = Stages, resident = Resident;
  static constexpr int warps_along_outputs = Outputs / WarpOutputs,
                       threads = 32 * warps_along_outputs * (Samples / WarpSamples);
  static constexpr int rows = WarpOutputs / 16, columns = WarpSamples / 8;  // of products of a warp
  static constexpr int x_line = Samples + 8, x_floats = Depth * x_line;
  static_assert(Outputs % 32 == 0 && Samples % 32 == 0 && WarpOutputs % 32 == 0 && WarpSamples % 32 == 0 &&
                Depth % 16 == 0 && Stages >= 2);
};
using tensor_wide = tensor_tile<128, 128, 64, 32, 32, 4, 1>;
using tensor_tall = tensor_tile<128, 64, 64, 32, 32, 4, 2>;
using tensor_square = tensor_tile<64, 64, 32, 32, 32, 3, 4>;

/// A tile of w in shared memory: a line for each term, or for each output where terms are neighbours in memory.
template <class Tile, bool AlongTerms>
struct tensor_w {
  static constexpr int line = AlongTerms ? Tile::depth + 4 : Tile::outputs + 8,
                       floats = line * (AlongTerms ? Tile::outputs : Tile::depth);
};
template <class Tile, bool AlongTerms>
constexpr int tensor_stage_floats = Tile::x_floats + tensor_w<Tile, AlongTerms>::floats;

/// The fours of one tile that a thread copies, from the lines first, first + lines … of a matrix with lines at distance
/// ld: always the same place along a line.
template <int Length, int Lines, int Line, int Threads>
struct tensor_fours {
  static constexpr int across = Length / 4, lines = Threads / across, each = Lines / lines;
  static_assert(Threads % across == 0 && Lines % lines == 0);
  const float* at;
  std::int64_t next;  ///< from four to four
  int first, along;

  __device__ __forceinline__ tensor_fours(const float* from, std::int64_t ld) {
    const int t = static_cast<int>(threadIdx.x);
    first = t / across;
    along = t % across * 4;
    at = from + first * ld + along;
    next = lines * ld;
  }
  /// Copies them all, where all exist.
  __device__ __forceinline__ void copy_whole(float* to) const {
    to += first * Line + along;
#pragma unroll
    for (int q = 0; q < each; ++q) simt::copy_async(to + q * lines * Line, at + q * next);
  }
  /// Copies what lies on the first `full` lines, of which `length` entries exist; other fours become 0. With Cut also
  /// what lies behind the length within a four becomes 0.
  template <bool Cut>
  __device__ __forceinline__ void copy(float* to, std::int64_t full, std::int64_t length) const {
#pragma unroll
    for (int q = 0; q < each; ++q) {
      const int line = first + q * lines;
      float* four = to + line * Line + along;
      const float* from = at + q * next;
      if (line < full && along + (Cut ? 4 : 1) <= length) {
        simt::copy_async(four, from);
      } else {
        const int left = Cut && line < full ? static_cast<int>(length - along) : 0;
        float4 v{0, 0, 0, 0};
        if (left > 0) v.x = __ldg(from);
        if (left > 1) v.y = __ldg(from + 1);
        if (left > 2) v.z = __ldg(from + 2);
        *reinterpret_cast<float4*>(four) = v;
      }
    }
  }
};

/// hi + lo is v but for the last bit; tensor cores cut lo off to TF32 themselves.
__device__ __forceinline__ void tensor_split(float v, float& hi, float& lo) {
  hi = simt::to_tf32(v);
  lo = v - hi;
}

/// A thread's share of a warp's operands for 8 terms. Operand w has 2·rows numbers of outputs for each of two terms,
/// output_of says which.
template <class Tile, bool AlongTerms>
struct tensor_operands {
  float w_hi[Tile::rows][4], w_lo[Tile::rows][4], x_hi[Tile::columns][2], x_lo[Tile::columns][2];

  /// Where the n-th output of a thread lies from the warp's first one on.
  static __device__ __forceinline__ int output_of(int n, int group) {
    return AlongTerms ? n * 8 + group : n / 4 * 32 + group * 4 + n % 4;
  }
  /// Of the terms from `term` on, with outputs and samples of the tiles from the warp's first ones on.
  __device__ __forceinline__ void read(const float* w, const float* x, int term, int group, int lane) {
    constexpr int line = tensor_w<Tile, AlongTerms>::line;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int k = term + lane + 4 * half;
#pragma unroll
      for (int n = 0; n < 2 * Tile::rows; n += 4) {
        float v[4];
        if constexpr (AlongTerms) {
#pragma unroll
          for (int i = 0; i < 4; ++i) v[i] = w[output_of(n + i, group) * line + k];
        } else {
          const float4 four = *reinterpret_cast<const float4*>(w + k * line + output_of(n, group));
          v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i)
          tensor_split(v[i], w_hi[(n + i) / 2][i % 2 + 2 * half], w_lo[(n + i) / 2][i % 2 + 2 * half]);
      }
#pragma unroll
      for (int n = 0; n < Tile::columns; n += 4) {
        const float4 four = *reinterpret_cast<const float4*>(x + k * Tile::x_line + n * 8 + group * 4);
        tensor_split(four.x, x_hi[n][half], x_lo[n][half]);
        tensor_split(four.y, x_hi[n + 1][half], x_lo[n + 1][half]);
        tensor_split(four.z, x_hi[n + 2][half], x_lo[n + 2][half]);
        tensor_split(four.w, x_hi[n + 3][half], x_lo[n + 3][half]);
      }
    }
  }
  /// The small products first. Neighbours in the order of instructions go to different sums.
  __device__ __forceinline__ void multiply(float (&sum)[Tile::rows][Tile::columns][4]) const {
    multiply(sum, w_lo, x_hi);
    multiply(sum, w_hi, x_lo);
    multiply(sum, w_hi, x_hi);
  }

 private:
  static __device__ __forceinline__ void multiply(float (&sum)[Tile::rows][Tile::columns][4],
                                                  const float (&w)[Tile::rows][4], const float (&x)[Tile::columns][2]) {
#pragma unroll
    for (int c = 0; c < Tile::columns; ++c)
#pragma unroll
      for (int r = 0; r < Tile::rows; ++r) simt::mma_tf32(sum[r][c], w[r], x[c]);
  }
};

__device__ __forceinline__ float tensor_finish(float sum, float add, bool relu) {
  const float v = sum + add;
  return relu && v < 0 ? 0.0f : v;
}

/// Part p of the terms, [p·part, (p + 1)·part), goes to y + p·y_part; a part is whole stages. Bias may be null.
template <class Tile, bool AlongTerms>
__global__ void __launch_bounds__(Tile::threads, Tile::resident)
    gemm_3xtf32(const matrix_view<const float> x, const strided_view<const float> w, const float* __restrict__ bias,
                bool relu, const matrix_view<float> y, std::int64_t part, std::int64_t y_part) {
  using Operands = tensor_operands<Tile, AlongTerms>;
  constexpr int stage_floats = tensor_stage_floats<Tile, AlongTerms>;
  float* const shared = simt::dynamic_shared<float>();
  const int lane = static_cast<int>(threadIdx.x % 4), group = static_cast<int>(threadIdx.x % 32 / 4),
            warp = static_cast<int>(threadIdx.x / 32);
  const int warp_output = warp % Tile::warps_along_outputs * Tile::warp_outputs,
            warp_sample = warp / Tile::warps_along_outputs * Tile::warp_samples;
  const unsigned across = static_cast<unsigned>((y.rows + Tile::samples - 1) / Tile::samples),
                 down = static_cast<unsigned>((y.cols + Tile::outputs - 1) / Tile::outputs);
  const std::int64_t sample = std::int64_t{blockIdx.x % across} * Tile::samples,
                     output = std::int64_t{blockIdx.x / across % down} * Tile::outputs, p = blockIdx.x / across / down;
  const std::int64_t begin = p * part, end = begin + part < x.cols ? begin + part : x.cols;
  const int steps = begin < end ? static_cast<int>((end - begin + Tile::depth - 1) / Tile::depth) : 0;

  using W = tensor_fours<AlongTerms ? Tile::depth : Tile::outputs, AlongTerms ? Tile::outputs : Tile::depth,
                         tensor_w<Tile, AlongTerms>::line, Tile::threads>;
  using X = tensor_fours<Tile::samples, Tile::depth, Tile::x_line, Tile::threads>;
  const std::int64_t w_ld = AlongTerms ? w.s0 : w.s1, outputs = w.rows - output, samples = x.rows - sample;
  W from_w(w.data + output * w.s0 + begin * w.s1, w_ld);
  X from_x(x.data + begin * x.ld + sample, x.ld);
  std::int64_t left = end - begin;
  const auto copy = [&](float* stage) {
    if (left >= Tile::depth && outputs >= Tile::outputs && samples >= Tile::samples) {
      from_w.copy_whole(stage + Tile::x_floats);
      from_x.copy_whole(stage);
    } else {
      if constexpr (AlongTerms)
        from_w.template copy<true>(stage + Tile::x_floats, outputs, left);
      else
        from_w.template copy<false>(stage + Tile::x_floats, left, outputs);
      from_x.template copy<false>(stage, left, samples);
    }
    from_w.at += AlongTerms ? std::int64_t{Tile::depth} : Tile::depth * w_ld;
    from_x.at += Tile::depth * x.ld;
    left -= Tile::depth;
  };

#pragma unroll
  for (int s = 0; s < Tile::stages - 1; ++s) {
    if (s < steps) copy(shared + s * stage_floats);
    simt::copy_commit();
  }
  float sum[Tile::rows][Tile::columns][4] = {};
  int now = 0, next = Tile::stages - 1;
  for (int step = 0; step < steps; ++step) {
    simt::copy_wait<Tile::stages - 2>();
    __syncthreads();  // this stage is here, and all have read the one before
    const float *x_tile = shared + now * stage_floats + warp_sample,
                *w_tile = shared + now * stage_floats + Tile::x_floats +
                          (AlongTerms ? warp_output * tensor_w<Tile, AlongTerms>::line : warp_output);
    float of_stage[Tile::rows][Tile::columns][4] = {};
#pragma unroll
    for (int k = 0; k < Tile::depth; k += 8) {
      Operands operands;
      operands.read(w_tile, x_tile, k, group, lane);
      if (k == 8) {  // while tensor cores are busy
        if (step + Tile::stages - 1 < steps) copy(shared + next * stage_floats);
        simt::copy_commit();
      }
      operands.multiply(of_stage);
    }
#pragma unroll
    for (int r = 0; r < Tile::rows; ++r)
#pragma unroll
      for (int c = 0; c < Tile::columns; ++c)
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[r][c][i] += of_stage[r][c][i];
    now = now + 1 == Tile::stages ? 0 : now + 1;
    next = next + 1 == Tile::stages ? 0 : next + 1;
  }

#pragma unroll
  for (int n = 0; n < 2 * Tile::rows; ++n) {
    const std::int64_t o = output + warp_output + Operands::output_of(n, group);
    if (o >= y.cols) continue;
    const float add = bias ? __ldg(bias + o) : 0.0f;
    float* to = y.data + p * y_part + o * y.ld;
#pragma unroll
    for (int c = 0; c < Tile::columns; c += 4)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::int64_t b = sample + warp_sample + c * 8 + (lane * 2 + i) * 4;
        const int entry = n % 2 * 2 + i;
        const float4 v{
            tensor_finish(sum[n / 2][c][entry], add, relu), tensor_finish(sum[n / 2][c + 1][entry], add, relu),
            tensor_finish(sum[n / 2][c + 2][entry], add, relu), tensor_finish(sum[n / 2][c + 3][entry], add, relu)};
        if (b + 4 <= y.rows) {
          *reinterpret_cast<float4*>(to + b) = v;
          continue;
        }
        if (b < y.rows) to[b] = v.x;
        if (b + 1 < y.rows) to[b + 1] = v.y;
        if (b + 2 < y.rows) to[b + 2] = v.z;
      }
  }
}

/// y = Σ of the parts, each as large as `columns` · `ld`, in order, + bias; four samples a thread.
static __global__ void __launch_bounds__(256)
    gemm_3xtf32_parts(const float* __restrict__ sums, std::int64_t parts, const divisor fours,
                      const float* __restrict__ bias, bool relu, matrix_view<float> y) {
  const std::int64_t n = y.cols * fours.by, threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += threads) {
    const std::int64_t o = quotient(i, fours), b = (i - o * fours.by) * 4;
    double sum[4] = {};
#pragma unroll 4
    for (std::int64_t p = 0; p < parts; ++p) {
      const float4 v = __ldg(reinterpret_cast<const float4*>(sums) + p * n + i);
      sum[0] += double{v.x}, sum[1] += double{v.y}, sum[2] += double{v.z}, sum[3] += double{v.w};
    }
    const double add = bias ? double{__ldg(bias + o)} : 0.0;
    float v[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = tensor_finish(static_cast<float>(sum[k] + add), 0, relu);
    float* to = y.data + o * y.ld + b;
    if (b + 4 <= y.rows) {
      *reinterpret_cast<float4*>(to) = float4{v[0], v[1], v[2], v[3]};
      continue;
    }
#pragma unroll
    for (int k = 0; k < 3; ++k)
      if (b + k < y.rows) to[k] = v[k];
  }
}

}  // namespace deepstruct::kernels::device
