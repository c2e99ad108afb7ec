// Device code of pooling: a thread takes one place of the result for one sample or four neighbouring ones, and gathers
// what it needs. Neighbouring threads take neighbouring samples, then neighbouring places, so that few samples leave no
// lane idle.
#pragma once

#include <cstdint>

#include <deepstruct/kernels/contract.hpp>

#include "simt.hpp"

namespace deepstruct::kernels::device {

/// Four numbers that are read or written at once.
template <class T>
struct pool_four;
template <>
struct pool_four<float> {
  using type = float4;
};
template <>
struct pool_four<std::int32_t> {
  using type = int4;
};
/// N neighbouring samples of a place.
template <class T, int N>
struct pool_lanes {
  T of[N];
};
/// Samples b … b + N − 1, 0 beyond the last one; where N is 4, columns begin at multiples of 16 bytes.
template <int N, class T>
__device__ __forceinline__ pool_lanes<T, N> pool_read(const T* column, std::int64_t b, std::int64_t samples) {
  if constexpr (N == 4) {
    if (b + 4 <= samples) {
      const auto v = __ldg(reinterpret_cast<const typename pool_four<T>::type*>(column + b));
      return {{v.x, v.y, v.z, v.w}};
    }
  }
  pool_lanes<T, N> v{};
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (b + i < samples) v.of[i] = __ldg(column + b + i);
  return v;
}
template <int N, class T>
__device__ __forceinline__ void pool_write(pool_lanes<T, N> v, T* column, std::int64_t b, std::int64_t samples) {
  if constexpr (N == 4) {
    if (b + 4 <= samples) {
      using four = typename pool_four<T>::type;
      *reinterpret_cast<four*>(column + b) = four{v.of[0], v.of[1], v.of[2], v.of[3]};
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (b + i < samples) column[b + i] = v.of[i];
}

/// How many items a result has, of N samples of a place each; and item number i: samples from b on, of place (row, col)
/// of a channel, which is column `at`.
template <int N>
__device__ __forceinline__ std::int64_t pool_items(std::int64_t samples, std::int64_t columns) {
  return (samples + N - 1) / N * columns;
}
struct pool_place {
  std::int64_t at, b, channel;
  int row, col;
};
template <int N>
__device__ __forceinline__ pool_place pool_place_of(std::int64_t i, std::int64_t samples, std::int64_t height,
                                                    std::int64_t width) {
  const std::int64_t per = (samples + N - 1) / N, at = i / per, line = at / width, channel = line / height;
  return {at, (i - at * per) * N, channel, static_cast<int>(line - channel * height),
          static_cast<int>(at - line * width)};
}
/// The places from first to before last along one extent.
struct pool_range {
  int first, last;
};
__device__ __forceinline__ pool_range pool_window(const pool_windows& w, int k) {
  return {__ldg(w.begin + k), __ldg(w.end + k)};
}
__device__ __forceinline__ pool_range pool_readers(const pool_windows& w, int k) {
  return {__ldg(w.first + k), __ldg(w.last + k)};
}

/// The greatest of every window, NaN above all, and unless null the place of the first such.
template <int N>
__global__ void __launch_bounds__(256) max_pool(matrix_view<const float> x, pool_windows rows, pool_windows cols,
                                                matrix_view<float> y, std::int32_t* __restrict__ index) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x, items = pool_items<N>(y.rows, y.cols);
  const int width = static_cast<int>(cols.in), down = static_cast<int>(rows.step), right = static_cast<int>(cols.step);
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < items; i += threads) {
    const pool_place o = pool_place_of<N>(i, y.rows, rows.out, cols.out);
    const pool_range over = pool_window(rows, o.row), along = pool_window(cols, o.col);
    const float* image = x.data + o.channel * rows.in * width * x.ld;
    const int first = over.first * width + along.first;
    pool_lanes<float, N> best = pool_read<N>(image + first * x.ld, o.b, y.rows);
    pool_lanes<std::int32_t, N> place;
#pragma unroll
    for (int k = 0; k < N; ++k) place.of[k] = first;
    for (int p = over.first; p < over.last; p += down)
      for (int q = along.first; q < along.last; q += right) {
        const pool_lanes<float, N> v = pool_read<N>(image + (p * width + q) * x.ld, o.b, y.rows);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          const bool wins = !(v.of[k] <= best.of[k]) && best.of[k] == best.of[k];  // greater, or the first NaN
          if (wins) best.of[k] = v.of[k], place.of[k] = p * width + q;
        }
      }
    pool_write<N>(best, y.data + o.at * y.ld, o.b, y.rows);
    if (index) pool_write<N>(place, index + o.at * y.ld, o.b, y.rows);
  }
}

/// dx: dy of the windows that chose a place.
template <int N>
__global__ void __launch_bounds__(256) max_pool_dx(matrix_view<const float> dy, const std::int32_t* __restrict__ index,
                                                   pool_windows rows, pool_windows cols, matrix_view<float> dx) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x, items = pool_items<N>(dx.rows, dx.cols);
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < items; i += threads) {
    const pool_place o = pool_place_of<N>(i, dx.rows, rows.in, cols.in);
    const pool_range over = pool_readers(rows, o.row), along = pool_readers(cols, o.col);
    const std::int64_t image = o.channel * rows.out * cols.out * dy.ld;
    const int width = static_cast<int>(cols.out);
    const std::int32_t own = o.row * static_cast<int>(cols.in) + o.col;
    pool_lanes<float, N> sum{};
    for (int p = over.first; p < over.last; ++p)
      for (int q = along.first; q < along.last; ++q) {
        const std::int64_t from = image + (p * width + q) * dy.ld;
        const pool_lanes<std::int32_t, N> chosen = pool_read<N>(index + from, o.b, dx.rows);
        const pool_lanes<float, N> v = pool_read<N>(dy.data + from, o.b, dx.rows);
#pragma unroll
        for (int k = 0; k < N; ++k)
          if (chosen.of[k] == own) sum.of[k] += v.of[k];
      }
    pool_write<N>(sum, dx.data + o.at * dx.ld, o.b, dx.rows);
  }
}

/// 1 over what an average is divided by.
__device__ __forceinline__ float pool_share(const pool_windows& rows, const pool_windows& cols, int row, int col) {
  return 1.0f / (static_cast<float>(__ldg(rows.count + row)) * static_cast<float>(__ldg(cols.count + col)));
}

/// Σ of the places of an image of `width` columns, with Shares each over its counts: runs of up to 4096 in float32,
/// their sums in double.
template <int N, bool Shares>
__device__ __forceinline__ pool_lanes<float, N> pool_plane_sum(const float* image, std::int64_t ld, std::int64_t width,
                                                               pool_range over, pool_range along, std::int64_t b,
                                                               std::int64_t samples, const pool_windows& rows,
                                                               const pool_windows& cols) {
  double total[N] = {};
  for (int p = over.first; p < over.last; ++p)
    for (int q = along.first; q < along.last;) {
      const float* from = image + (p * width + q) * ld;
      const int end = along.last - q > 4096 ? q + 4096 : along.last;
      float run[N] = {};
      for (; q < end; ++q, from += ld) {
        const pool_lanes<float, N> v = pool_read<N>(from, b, samples);
        const float share = Shares ? pool_share(rows, cols, p, q) : 1.0f;
#pragma unroll
        for (int k = 0; k < N; ++k) run[k] += v.of[k] * share;
      }
#pragma unroll
      for (int k = 0; k < N; ++k) total[k] += double{run[k]};
    }
  pool_lanes<float, N> sum;
#pragma unroll
  for (int k = 0; k < N; ++k) sum.of[k] = static_cast<float>(total[k]);
  return sum;
}

/// The average of every window.
template <int N>
__global__ void __launch_bounds__(256)
    avg_pool(matrix_view<const float> x, pool_windows rows, pool_windows cols, matrix_view<float> y) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x, items = pool_items<N>(y.rows, y.cols);
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < items; i += threads) {
    const pool_place o = pool_place_of<N>(i, y.rows, rows.out, cols.out);
    const pool_range over = pool_window(rows, o.row), along = pool_window(cols, o.col);
    const float* image = x.data + o.channel * rows.in * cols.in * x.ld;
    pool_lanes<float, N> sum = pool_plane_sum<N, false>(image, x.ld, cols.in, over, along, o.b, y.rows, rows, cols);
    const float share = pool_share(rows, cols, o.row, o.col);
#pragma unroll
    for (int k = 0; k < N; ++k) sum.of[k] *= share;
    pool_write<N>(sum, y.data + o.at * y.ld, o.b, y.rows);
  }
}

/// The same where windows are large and few: a block takes one window for `Samples` samples, its threads share the
/// places and add their sums in an order that never changes.
template <int Samples>
__global__ void __launch_bounds__(256)
    avg_pool_large(matrix_view<const float> x, pool_windows rows, pool_windows cols, matrix_view<float> y) {
  double* sums = simt::dynamic_shared<double>();  // [256 / Samples, Samples]
  const int own = static_cast<int>(threadIdx.x) / Samples, groups = static_cast<int>(blockDim.x) / Samples;
  const std::int64_t slabs = (y.rows + Samples - 1) / Samples, at = blockIdx.x / slabs,
                     b = blockIdx.x % slabs * Samples + threadIdx.x % Samples;
  const pool_place o = pool_place_of<1>(at, 1, rows.out, cols.out);
  const pool_range over = pool_window(rows, o.row), along = pool_window(cols, o.col);
  const int wide = along.last - along.first, places = (over.last - over.first) * wide;
  const float* image = x.data + (o.channel * rows.in * cols.in + over.first * cols.in + along.first) * x.ld;
  double sum = 0;
  if (b < y.rows)
    for (int k = own; k < places; k += groups) sum += double{__ldg(image + (k / wide * cols.in + k % wide) * x.ld + b)};
  sums[threadIdx.x] = sum;
  for (int half = groups / 2; half > 0; half /= 2) {
    __syncthreads();
    if (own < half) sums[threadIdx.x] += sums[threadIdx.x + static_cast<unsigned>(half * Samples)];
  }
  if (own == 0 && b < y.rows)
    y.data[at * y.ld + b] = static_cast<float>(sums[threadIdx.x]) * pool_share(rows, cols, o.row, o.col);
}

/// dx: the shares of dy of the windows a place lies in.
template <int N>
__global__ void __launch_bounds__(256)
    avg_pool_dx(matrix_view<const float> dy, pool_windows rows, pool_windows cols, matrix_view<float> dx) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x, items = pool_items<N>(dx.rows, dx.cols);
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < items; i += threads) {
    const pool_place o = pool_place_of<N>(i, dx.rows, rows.in, cols.in);
    const pool_range over = pool_readers(rows, o.row), along = pool_readers(cols, o.col);
    const float* image = dy.data + o.channel * rows.out * cols.out * dy.ld;
    const pool_lanes<float, N> sum =
        pool_plane_sum<N, true>(image, dy.ld, cols.out, over, along, o.b, dx.rows, rows, cols);
    pool_write<N>(sum, dx.data + o.at * dx.ld, o.b, dx.rows);
  }
}

}  // namespace deepstruct::kernels::device
