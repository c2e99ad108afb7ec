// Device code that moves elements: strided copies, transpositions, gathers, edge picking.
#pragma once

#include <cstdint>

#include <deepstruct/core/view.hpp>

#include "nest.cuh"

namespace deepstruct::kernels::device {

/// y = x; T is float, or float4 where four neighbours move at once and strides count fours.
template <class T>
__global__ void __launch_bounds__(256)
    copy_elements(const T* __restrict__ x, T* __restrict__ y, const nest_loops<2> loops) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
#pragma unroll 4
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < loops.n; i += threads) {
    const nest_place<2> at = place_of(loops, i);
    y[at.of[0]] = __ldg(x + at.of[1]);
  }
}

inline constexpr int transpose_side = 32;
struct transpose_tile {
  float of[transpose_side][transpose_side + 1];  // one more: neighbours in a column are in different banks
};
/// y[a + b·y_step] = x[b + a·x_step] for a < as and b < bs, and more such matrices: whole lines are read and written.
/// Tiles tell where x and y have their first element, and how far a and b of it are.
static __global__ void __launch_bounds__(256)
    transpose_tiles(const float* __restrict__ x, float* __restrict__ y, const nest_loops<4> tiles, std::int64_t as,
                    std::int64_t bs, std::int64_t x_step, std::int64_t y_step) {
  transpose_tile& tile = simt::shared<transpose_tile>();
  const int column = static_cast<int>(threadIdx.x % transpose_side),
            rows = static_cast<int>(blockDim.x) / transpose_side;
  const int row = static_cast<int>(threadIdx.x / transpose_side);
  for (std::int64_t i = blockIdx.x; i < tiles.n; i += gridDim.x) {
    const nest_place<4> at = place_of(tiles, i);
    const float* from = x + at.of[1];
    float* to = y + at.of[0];
    const std::int64_t a = at.of[2], b = at.of[3];
#pragma unroll 4
    for (int j = row; j < transpose_side; j += rows)
      if (a + j < as && b + column < bs) tile.of[j][column] = __ldg(from + j * x_step + column);
    __syncthreads();
#pragma unroll 4
    for (int j = row; j < transpose_side; j += rows)
      if (b + j < bs && a + column < as) to[j * y_step + column] = tile.of[column][j];
    __syncthreads();  // all have read the tile
  }
}

/// The elements of x in row-major order become those of y, whatever their extents.
static __global__ void __launch_bounds__(256)
    reshape_elements(matrix_view<const float> x, matrix_view<float> y, const divisor y_rows, const divisor x_cols) {
  const std::int64_t n = y.rows * y.cols, threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += threads) {
    const std::int64_t column = quotient(i, y_rows), row = i - column * y_rows.by;
    const std::int64_t at = row * y.cols + column, x_row = quotient(at, x_cols), x_column = at - x_row * x_cols.by;
    y.data[column * y.ld + row] = __ldg(x.data + x_column * x.ld + x_row);
  }
}

static __global__ void __launch_bounds__(256)
    gather_elements(const float* __restrict__ x, const std::int32_t* __restrict__ index, float* __restrict__ y,
                    const nest_loops<3> loops, std::int64_t stride) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
#pragma unroll 4
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < loops.n; i += threads) {
    const nest_place<3> at = place_of(loops, i);
    y[at.of[0]] = __ldg(x + at.of[1] + __ldg(index + at.of[2]) * stride);
  }
}

/// The loops that meet in one element of dx: walked in order, operands dy and index.
struct scatter_walk {
  std::int64_t extent[4] = {1, 1, 1, 1};
  std::int64_t dy[4] = {}, index[4] = {};
};
/// Threads take `lines`, loops that never meet; 2ᵖ threads share a line, each has the indices whose last p bits are its
/// number: all read every index, and each element of dx belongs to one of them, who adds in loop order.
static __global__ void __launch_bounds__(256)
    scatter_lines(const float* __restrict__ dy, const std::int32_t* __restrict__ index, float* __restrict__ dx,
                  const nest_loops<3> lines, const scatter_walk walk, std::int64_t stride, int p) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < lines.n << p; i += threads) {
    const std::int32_t mask = (std::int32_t{1} << p) - 1, mine = static_cast<std::int32_t>(i) & mask;
    const nest_place<3> at = place_of(lines, i >> p);
    for (std::int64_t i3 = 0; i3 < walk.extent[3]; ++i3)
      for (std::int64_t i2 = 0; i2 < walk.extent[2]; ++i2)
        for (std::int64_t i1 = 0; i1 < walk.extent[1]; ++i1) {
          const float* from = dy + at.of[0] + i1 * walk.dy[1] + i2 * walk.dy[2] + i3 * walk.dy[3];
          const std::int32_t* to = index + at.of[2] + i1 * walk.index[1] + i2 * walk.index[2] + i3 * walk.index[3];
#pragma unroll 8
          for (std::int64_t i0 = 0; i0 < walk.extent[0]; ++i0) {
            const std::int32_t k = __ldg(to + i0 * walk.index[0]);
            if ((k & mask) == mine) dx[at.of[1] + k * stride] += __ldg(from + i0 * walk.dy[0]);
          }
        }
  }
}

/// values[e] = w(r, c), or with Place w(r, c) = values[e]: `lanes` threads to a row, so that neighbouring rows, which
/// share lines of w, are visited together.
template <bool Place>
__global__ void __launch_bounds__(256)
    visit_edges(float* __restrict__ w, std::int64_t ld, const csr_view mask, float* __restrict__ values, int lanes) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x, per_row = lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  for (std::int64_t r = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / per_row; r < mask.rows;
       r += threads / per_row) {
    const std::int32_t end = __ldg(mask.start + r + 1);
    for (std::int32_t e = __ldg(mask.start + r) + lane; e < end; e += lanes) {
      float& entry = w[__ldg(mask.col + e) * ld + r];
      if constexpr (Place)
        entry = values[e];
      else
        values[e] = entry;
    }
  }
}

static __global__ void __launch_bounds__(256)
    remap(const float* __restrict__ x, const std::int32_t* __restrict__ index, float* __restrict__ y, std::int64_t n) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
#pragma unroll 4
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += threads) {
    const std::int32_t from = __ldg(index + i);
    y[i] = from < 0 ? 0.0f : __ldg(x + from);
  }
}

}  // namespace deepstruct::kernels::device
