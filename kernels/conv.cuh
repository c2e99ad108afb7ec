// Device code of convolution: images in blocks of 16 samples, dense and sparse kernels over tables of taps.
//
// A pixel of a block is a line of 64 bytes, which four neighbouring threads read as four lanes each. Lines of an output
// are counted through blocks, rows and columns, so that few samples, or small images, leave no thread idle. Many output
// channels are a product of matrices: taps come through shared memory, where each serves all channels of a tile. Few
// channels and sparse kernels read their lines from L1, where the taps of neighbouring pixels meet.
#pragma once

#include <cstdint>

#include <deepstruct/kernels/contract.hpp>

#include "simt.hpp"

namespace deepstruct::kernels::device {

/// An image whose lanes may be read or written four at a time if `fours`; lanes beyond `lanes` may not.
template <class T>
struct conv_lanes_of {
  T* data;
  std::int64_t lanes, channels, height, width, channel, row, pixel, fours;

  __device__ __forceinline__ std::int64_t lines() const {
    return (lanes + conv_lanes - 1) / conv_lanes * height * width;
  }
};

/// A line of an output: its block, row and column.
struct conv_line {
  std::int64_t n, h, w;
  __device__ __forceinline__ conv_line(std::int64_t line, std::int64_t height, std::int64_t width) {
    const std::int64_t rows = line / width;
    w = line - rows * width, n = rows / height, h = rows - n * height;
  }
  __device__ __forceinline__ std::int64_t in(const conv_walk& x) const { return n * x.block + h * x.row + w * x.pixel; }
  template <class T>
  __device__ __forceinline__ std::int64_t in(const conv_lanes_of<T>& y) const {
    return n * conv_lanes + h * y.row + w * y.pixel;
  }
};
/// Lines at a distance from each other, one after another.
struct conv_stride {
  std::int64_t n, h, w;
  __device__ __forceinline__ conv_stride(std::int64_t lines, std::int64_t height, std::int64_t width) {
    const conv_line far(lines, height, width);
    n = far.n, h = far.h, w = far.w;
  }
  __device__ __forceinline__ void advance(conv_line& line, std::int64_t height, std::int64_t width) const {
    line.w += w, line.h += h, line.n += n;
    if (line.w >= width) line.w -= width, ++line.h;
    if (line.h >= height) line.h -= height, ++line.n;
  }
};

__device__ __forceinline__ float4 conv_read(const float* from) { return __ldg(reinterpret_cast<const float4*>(from)); }
__device__ __forceinline__ void conv_add(float4& sum, float w, float4 x) {
  sum.x += w * x.x;
  sum.y += w * x.y;
  sum.z += w * x.z;
  sum.w += w * x.w;
}
/// How many of the four lanes from number `lane` on exist; 4 also says that they may be written at once, else it is 5.
__device__ __forceinline__ int conv_room(std::int64_t lane, const conv_lanes_of<float>& y) {
  if (lane + 4 <= y.lanes) return y.fours ? 4 : 5;
  return lane < y.lanes ? static_cast<int>(y.lanes - lane) : 0;
}
/// Writes v + add to the lanes that exist, from y.data[at] on.
__device__ __forceinline__ void conv_write(float4 v, float add, const conv_lanes_of<float>& y, std::int64_t at,
                                           int room) {
  v.x += add, v.y += add, v.z += add, v.w += add;
  if (room == 4) {
    reinterpret_cast<float4*>(y.data)[at / 4] = v;  // counted in fours, or nvcc makes four stores of it
    return;
  }
  if (room > 0) y.data[at] = v.x;
  if (room > 1) y.data[at + 1] = v.y;
  if (room > 2) y.data[at + 2] = v.z;
  if (room > 3) y.data[at + 3] = v.w;
}
/// A tap as it is read at once.
__device__ __forceinline__ conv_tap conv_tap_of(const conv_tap* tap, std::int64_t k) {
  return {__ldg(&tap[k].at), __ldg(&tap[k].weight)};
}

/// Four lanes of a line of y a thread.
static __global__ void __launch_bounds__(256)
    conv_pack(conv_lanes_of<const float> x, std::int64_t top, std::int64_t left, conv_blocks y) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x,
                     items = y.blocks * y.channels * y.height * y.width * (conv_lanes / 4);
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < items; i += threads) {
    const conv_line at(i / 4, y.height, y.width);
    const std::int64_t n = at.n / y.channels, c = at.n - n * y.channels, h = at.h - top, w = at.w - left,
                       lane = n * conv_lanes + i % 4 * 4;
    float4 v{0, 0, 0, 0};
    if (h >= 0 && h < x.height && w >= 0 && w < x.width) {
      const float* from = x.data + c * x.channel + h * x.row + w * x.pixel + lane;
      if (x.fours && lane + 4 <= x.lanes) {
        v = conv_read(from);
      } else {
        if (lane < x.lanes) v.x = __ldg(from);
        if (lane + 1 < x.lanes) v.y = __ldg(from + 1);
        if (lane + 2 < x.lanes) v.z = __ldg(from + 2);
        if (lane + 3 < x.lanes) v.w = __ldg(from + 3);
      }
    }
    reinterpret_cast<float4*>(y.data)[i] = v;
  }
}

/// A lane of y a thread.
static __global__ void __launch_bounds__(256)
    conv_unfold(conv_lanes_of<const float> x, std::int64_t top, conv_columns columns, conv_blocks y) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x,
                     items = y.blocks * y.channels * y.height * y.width * conv_lanes;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < items; i += threads) {
    const conv_line at(i / conv_lanes, y.height, y.width);
    const std::int64_t n = at.n / y.channels, c = at.n - n * y.channels, h = at.h - top,
                       lane = n * conv_lanes + i % conv_lanes, pixel = lane / columns.samples,
                       scaled = pixel * columns.step + columns.offset - at.w * columns.back,
                       column = scaled / columns.divisor;
    const bool exists = lane < x.lanes && h >= 0 && h < x.height && scaled >= 0 && column * columns.divisor == scaled &&
                        column < x.width;
    y.data[i] = exists ? __ldg(x.data + c * x.channel + h * x.row + (column - pixel) * columns.samples + lane) : 0.0f;
  }
}

/// A dense kernel as a product: `Rows` channels by 512 / Rows lines a block, of which a thread takes four channels by
/// twice four lanes. Taps come eight at a time, the next eight while these are multiplied.
template <int Rows>
struct conv_tile {
  static constexpr int taps = 8, lines = 512 / Rows, quads = lines * 4;
  float4 x[2][taps][quads];
  float4 w[2][taps][Rows / 4];
};
template <int Rows>
__global__ void __launch_bounds__(256, 2)
    conv_dense_tile(conv_walk x, std::int64_t depth, const conv_tap* __restrict__ tap, int taps,
                    const float* __restrict__ w, std::int64_t w_row, std::int64_t w_group,
                    const float* __restrict__ bias, conv_lanes_of<float> y, std::int64_t rows, std::int64_t slices) {
  using tile = conv_tile<Rows>;
  constexpr int quads = tile::quads, copies = tile::taps * quads / 256, apart = 256 / quads,
                weights = (tile::taps * Rows + 255) / 256;
  tile& stage = simt::shared<tile>();
  const std::int64_t groups = y.channels / rows, part = blockIdx.x / (slices * groups), slice = blockIdx.x % slices,
                     g = blockIdx.x / slices % groups, lines = y.lines();
  const int t = static_cast<int>(threadIdx.x), some = static_cast<int>(rows - slice * Rows);

  // What this thread copies: one quad of every apart-th tap, and weights.
  std::int64_t line = part * tile::lines + t % quads / 4;
  if (line >= lines) line = lines - 1;
  const float* from = x.data + conv_line(line, y.height, y.width).in(x) + g * depth * x.channel + t % 4 * 4;
  const float* weight = w + g * w_group + slice * Rows * w_row;
  const auto copy_lines = [&](int step) {
#pragma unroll
    for (int i = 0; i < copies; ++i) {
      const int own = t / quads + i * apart, k = step * tile::taps + own;
      float4* to = &stage.x[step % 2][own][t % quads];
      if (k < taps)
        simt::copy_async(to, from + std::int64_t{__ldg(&tap[k].at)} * conv_lanes);
      else
        *to = float4{0, 0, 0, 0};
    }
    simt::copy_commit();
  };
  float next[weights];
  const auto fetch_weights = [&](int step) {
#pragma unroll
    for (int i = 0; i < weights; ++i) {
      const int r = (t + i * 256) % Rows, own = (t + i * 256) / Rows, k = step * tile::taps + own;
      next[i] = own < tile::taps && k < taps && r < some ? __ldg(weight + r * w_row + __ldg(&tap[k].weight)) : 0.0f;
    }
  };
  const auto store_weights = [&](int step) {
#pragma unroll
    for (int i = 0; i < weights; ++i) {
      const int r = (t + i * 256) % Rows, own = (t + i * 256) / Rows;
      if (own < tile::taps) reinterpret_cast<float*>(stage.w[step % 2][own])[r] = next[i];
    }
  };

  // What it multiplies: channels 4·own_rows …, quads own_quad and half of all quads further on.
  constexpr int across = quads / 16;  // warps beside each other
  const int warp = t / 32, own_quad = warp % across * 8 + t % 8, own_rows = warp / across * 4 + t % 32 / 8;
  float4 sum[4][2] = {};
  const int steps = (taps + tile::taps - 1) / tile::taps;
  if (steps > 0) {
    copy_lines(0);
    fetch_weights(0);
    store_weights(0);
  }
  for (int step = 0; step < steps; ++step) {
    simt::copy_wait<0>();
    __syncthreads();  // this step has come, and all have read the one before
    const bool more = step + 1 < steps;
    if (more) {
      copy_lines(step + 1);
      fetch_weights(step + 1);
    }
#pragma unroll
    for (int k = 0; k < tile::taps; ++k) {
      const float4 a = stage.w[step % 2][k][own_rows], b0 = stage.x[step % 2][k][own_quad],
                   b1 = stage.x[step % 2][k][own_quad + quads / 2];
      conv_add(sum[0][0], a.x, b0), conv_add(sum[0][1], a.x, b1);
      conv_add(sum[1][0], a.y, b0), conv_add(sum[1][1], a.y, b1);
      conv_add(sum[2][0], a.z, b0), conv_add(sum[2][1], a.z, b1);
      conv_add(sum[3][0], a.w, b0), conv_add(sum[3][1], a.w, b1);
    }
    if (more) store_weights(step + 1);
  }
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int quad = own_quad + j * quads / 2;
    const std::int64_t to = part * tile::lines + quad / 4;
    if (to >= lines) continue;
    const conv_line at(to, y.height, y.width);
    const std::int64_t lane = quad % 4 * 4;
    const int room = conv_room(at.n * conv_lanes + lane, y);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (own_rows * 4 + i >= some) continue;
      const std::int64_t c = g * rows + slice * Rows + own_rows * 4 + i;
      conv_write(sum[i][j], bias ? __ldg(bias + c) : 0.0f, y, c * y.channel + at.in(y) + lane, room);
    }
  }
}

/// A dense kernel of few channels: `Rows` channels of a group by `Lines` lines, 64 apart, a thread; rows ≤ Rows.
template <int Rows, int Lines>
__global__ void __launch_bounds__(256)
    conv_dense_few(conv_walk x, std::int64_t depth, const conv_tap* __restrict__ tap, int taps,
                   const float* __restrict__ w, std::int64_t w_row, std::int64_t w_group,
                   const float* __restrict__ bias, conv_lanes_of<float> y, std::int64_t rows) {
  const std::int64_t groups = y.channels / rows, g = blockIdx.x % groups, lines = y.lines(),
                     first = blockIdx.x / groups * (64 * Lines) + threadIdx.x / 4, lane = threadIdx.x % 4 * 4;
  const float* from[Lines];
#pragma unroll
  for (int p = 0; p < Lines; ++p) {
    const std::int64_t line = first + p * 64 < lines ? first + p * 64 : lines - 1;
    from[p] = x.data + conv_line(line, y.height, y.width).in(x) + g * depth * x.channel + lane;
  }
  const float* weight[Rows];
#pragma unroll
  for (int r = 0; r < Rows; ++r) weight[r] = w + g * w_group + (r < rows ? r : 0) * w_row;
  float4 sum[Rows][Lines] = {};
#pragma unroll 2
  for (int k = 0; k < taps; ++k) {
    const conv_tap term = conv_tap_of(tap, k);
    float4 in[Lines];
#pragma unroll
    for (int p = 0; p < Lines; ++p) in[p] = conv_read(from[p] + std::int64_t{term.at} * conv_lanes);
#pragma unroll
    for (int r = 0; r < Rows; ++r) {
      const float factor = __ldg(weight[r] + term.weight);
#pragma unroll
      for (int p = 0; p < Lines; ++p) conv_add(sum[r][p], factor, in[p]);
    }
  }
#pragma unroll
  for (int p = 0; p < Lines; ++p) {
    if (first + p * 64 >= lines) continue;
    const conv_line at(first + p * 64, y.height, y.width);
    const int room = conv_room(at.n * conv_lanes + lane, y);
#pragma unroll
    for (int r = 0; r < Rows; ++r) {
      if (r >= rows) continue;
      const std::int64_t c = g * rows + r;
      conv_write(sum[r][p], bias ? __ldg(bias + c) : 0.0f, y, c * y.channel + at.in(y) + lane, room);
    }
  }
}

/// A sparse kernel: all warps of a block take the same 8 · Lines lines, each every so many-th channel of a slice, so
/// that what one reads from L2 the others find in L1.
template <int Lines>
__global__ void __launch_bounds__(512)
    conv_sparse_warps(conv_walk x, const std::int32_t* __restrict__ start, const conv_tap* __restrict__ tap,
                      std::int64_t first, std::int64_t most, const float* __restrict__ values,
                      const float* __restrict__ bias, conv_lanes_of<float> y, std::int64_t slices) {
  const std::int64_t lines = y.lines(), own = blockIdx.x / slices * (8 * Lines) + threadIdx.x % 32 / 4,
                     lane = threadIdx.x % 4 * 4, warps = blockDim.x / 32;
  const float* from[Lines];
  std::int64_t to[Lines];
  int room[Lines];
#pragma unroll
  for (int p = 0; p < Lines; ++p) {
    const conv_line at(own + p * 8 < lines ? own + p * 8 : lines - 1, y.height, y.width);
    from[p] = x.data + at.in(x) + lane;
    to[p] = at.in(y) + lane;
    room[p] = own + p * 8 < lines ? conv_room(at.n * conv_lanes + lane, y) : 0;
  }
  for (std::int64_t c = blockIdx.x % slices * warps + threadIdx.x / 32; c < y.channels; c += slices * warps) {
    const std::int64_t begin = __ldg(start + c) + first, all = __ldg(start + c + 1),
                       end = all - begin < most ? all : begin + most;
    float4 sum[Lines] = {};
#pragma unroll 4
    for (std::int64_t k = begin; k < end; ++k) {
      const conv_tap term = conv_tap_of(tap, k);
      const float factor = __ldg(values + term.weight);
#pragma unroll
      for (int p = 0; p < Lines; ++p) conv_add(sum[p], factor, conv_read(from[p] + std::int64_t{term.at} * conv_lanes));
    }
    const float add = bias ? __ldg(bias + c) : 0.0f;
#pragma unroll
    for (int p = 0; p < Lines; ++p) conv_write(sum[p], add, y, c * y.channel + to[p], room[p]);
  }
}

/// Gradients of dense weights as a product: `Rows` channels by 64 taps a block, of which a thread takes four by four;
/// lines come two at a time, the next two while these are multiplied. 1024 terms are added in float32, their sums in
/// double.
template <int Rows>
struct conv_dw_tile {
  static constexpr int taps = 64, lines = 2, padded = 5;  // quads of a line in shared memory: no two rows in one bank
  float4 dy[2][lines][Rows][padded];
  float4 x[2][lines][taps][padded];
};
template <int Rows>
__global__ void __launch_bounds__(Rows * 4, Rows == 64 ? 2 : 6)
    conv_dense_dw_tile(conv_walk x, conv_walk dy, std::int64_t height, std::int64_t width, std::int64_t lines,
                       std::int64_t each, std::int64_t rows, std::int64_t slices, std::int64_t groups,
                       std::int64_t depth, const conv_tap* __restrict__ tap, int taps, int strips,
                       double* __restrict__ partial, float* __restrict__ dw) {
  using tile = conv_dw_tile<Rows>;
  constexpr int copies = tile::taps / Rows, steps_in_float = 1024 / (tile::lines * static_cast<int>(conv_lanes));
  tile& stage = simt::shared<tile>();
  const int t = static_cast<int>(threadIdx.x), warp = t / 32;
  const int strip = static_cast<int>(blockIdx.x % static_cast<unsigned>(strips));
  const std::int64_t slice = blockIdx.x / static_cast<unsigned>(strips) % slices,
                     g = blockIdx.x / static_cast<unsigned>(strips) / slices % groups,
                     part = blockIdx.x / static_cast<unsigned>(strips) / slices / groups;
  const int some = static_cast<int>(rows - slice * Rows), first_tap = strip * tile::taps;

  // What this thread copies: a quad of one channel and of some taps; those that are not there repeat the last one.
  const float* up = dy.data + (g * rows + slice * Rows + min(t / 4, some - 1)) * dy.channel + t % 4 * 4;
  const float* in[copies];
#pragma unroll
  for (int i = 0; i < copies; ++i)
    in[i] = x.data + g * depth * x.channel + t % 4 * 4 +
            std::int64_t{__ldg(&tap[min(first_tap + i * Rows + t / 4, taps - 1)].at)} * conv_lanes;
  std::int64_t line = part * each;
  const std::int64_t end = line + each < lines ? line + each : lines;
  conv_line at(line, height, width);
  const auto copy_lines = [&](int step) {
#pragma unroll
    for (int l = 0; l < tile::lines; ++l) {
      float4* to = &stage.dy[step % 2][l][t / 4][t % 4];
      if (line < end)
        simt::copy_async(to, up + at.in(dy));
      else
        *to = float4{0, 0, 0, 0};
#pragma unroll
      for (int i = 0; i < copies; ++i) {
        to = &stage.x[step % 2][l][i * Rows + t / 4][t % 4];
        if (line < end)
          simt::copy_async(to, in[i] + at.in(x));
        else
          *to = float4{0, 0, 0, 0};
      }
      ++line;
      if (++at.w == width) at.w = 0, ++at.h;
      if (at.h == height) at.h = 0, ++at.n;
    }
    simt::copy_commit();
  };

  // What it multiplies: every sixteenth tap and every (Rows / 4)-th channel.
  const int own_tap = warp % 2 * 8 + t % 8, own_row = warp / 2 * 4 + t % 32 / 8;
  double total[4][4] = {};
  float sum[4][4] = {};
  const std::int64_t steps = end > line ? (end - line + tile::lines - 1) / tile::lines : 0;
  if (steps > 0) copy_lines(0);
  for (std::int64_t done = 0; done < steps; ++done) {
    const int step = static_cast<int>(done % 2);
    simt::copy_wait<0>();
    __syncthreads();  // these lines have come, and all have read those before
    if (done + 1 < steps) copy_lines(step + 1);
#pragma unroll
    for (int l = 0; l < tile::lines; ++l)
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        float4 a[4], b[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = stage.dy[step][l][own_row + i * (Rows / 4)][q];
#pragma unroll
        for (int j = 0; j < 4; ++j) b[j] = stage.x[step][l][own_tap + j * 16][q];
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            sum[i][j] += a[i].x * b[j].x;
            sum[i][j] += a[i].y * b[j].y;
            sum[i][j] += a[i].z * b[j].z;
            sum[i][j] += a[i].w * b[j].w;
          }
      }
    if (done % steps_in_float == steps_in_float - 1 || done + 1 == steps)
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) total[i][j] += double{sum[i][j]}, sum[i][j] = 0;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int k = first_tap + own_tap + j * 16;
    if (k >= taps) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = own_row + i * (Rows / 4);
      if (r >= some) continue;
      const std::int64_t c = g * rows + slice * Rows + r;
      if (partial)
        partial[(part * taps + k) * rows * groups + c] = total[i][j];
      else
        dw[__ldg(&tap[k].weight) + c] = static_cast<float>(total[i][j]);
    }
  }
}
/// dw from the sums of the parts, in their order.
static __global__ void __launch_bounds__(256)
    conv_dense_dw_total(const double* __restrict__ partial, std::int64_t parts, const conv_tap* __restrict__ tap,
                        std::int64_t taps, std::int64_t channels, float* __restrict__ dw) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x, all = taps * channels;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < all; i += threads) {
    double sum = 0;
    for (std::int64_t p = 0; p < parts; ++p) sum += partial[p * all + i];
    dw[__ldg(&tap[i / channels].weight) + i % channels] = static_cast<float>(sum);
  }
}

/// The sum over the warp of p[lane / 4].
__device__ __forceinline__ double conv_sum_of_eight(double (&p)[8]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int half = 4; half > 0; half /= 2) {
    const bool upper = lane & (4 * half);
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const double keep = upper ? p[i + half] : p[i], give = upper ? p[i] : p[i + half];
      p[i] = keep + __shfl_xor_sync(0xffffffffu, give, 4 * half);
    }
  }
  p[0] += __shfl_xor_sync(0xffffffffu, p[0], 2);
  return p[0] + __shfl_xor_sync(0xffffffffu, p[0], 1);
}
struct conv_edge_sums {
  double of[8][8];
};
/// Gradients of eight edges of one channel at a time, whose lines the warps of a block share; a block takes every
/// slices-th eight. Without `start` the edges of every channel are all taps of its group, which has `rows` channels.
static __global__ void __launch_bounds__(256)
    conv_edges_dw(conv_walk x, conv_walk dy, std::int64_t height, std::int64_t width, std::int64_t lines,
                  std::int64_t rows, std::int64_t depth, const std::int32_t* __restrict__ start,
                  const conv_tap* __restrict__ tap, int taps, std::int64_t slices, float* __restrict__ dw) {
  conv_edge_sums& sums = simt::shared<conv_edge_sums>();
  const int t = static_cast<int>(threadIdx.x);
  const std::int64_t c = blockIdx.x / slices;
  const int begin = start ? __ldg(start + c) : 0, end = start ? __ldg(start + c + 1) : taps;
  const float* in = x.data + (start ? 0 : c / rows * depth * x.channel) + t % 4 * 4;
  const float* up = dy.data + c * dy.channel + t % 4 * 4;
  const conv_stride far(64, height, width);
  for (std::int64_t k = begin + blockIdx.x % slices * 8; k < end; k += slices * 8) {
    std::int64_t from[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) from[i] = std::int64_t{__ldg(&tap[k + i < end ? k + i : end - 1].at)} * conv_lanes;
    double p[8] = {};
    conv_line at(t / 4, height, width);
    for (std::int64_t line = t / 4; line < lines; line += 64, far.advance(at, height, width)) {
      const float4 g = conv_read(up + at.in(dy));
      const float* all = in + at.in(x);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float4 v = conv_read(all + from[i]);
        p[i] += double{g.x * v.x + g.y * v.y + (g.z * v.z + g.w * v.w)};
      }
    }
    const double sum = conv_sum_of_eight(p);
    if (t % 4 == 0) sums.of[t / 32][t % 32 / 4] = sum;
    __syncthreads();
    if (t < 8 && k + t < end) {
      double total = 0;
#pragma unroll
      for (int warp = 0; warp < 8; ++warp) total += sums.of[warp][t];
      dw[start ? k + t : __ldg(&tap[k + t].weight) + c] = static_cast<float>(total);
    }
    __syncthreads();  // all have read the sums
  }
}

}  // namespace deepstruct::kernels::device
