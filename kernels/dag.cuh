// Device code of a layered DAG: all its vertices forward, all gradients of vertices backward, each in one kernel.
//
// A block takes the few samples of a tile and keeps them in shared memory for all vertices (backward: for all
// branches), or where these are too many in an array of its own in global memory, of which L1 and L2 hold what is read
// again; levels, runs of vertices without an edge among them, follow each other with a barrier between. Eight
// threads take a vertex, each four edges at a time: columns and weights are read as lines and once a tile, so tiles are
// as small as the chip can be filled with. What the first edges of a level are is asked for before the barrier in front
// of it. The gradients of weights are those of a sparse layer whose rows are the branches (sparse_linear_dw).
#pragma once

#include "sparse.cuh"

namespace deepstruct::kernels::device {

/// The samples of a tile.
template <int T>
struct alignas(4 * T) tile_of {
  float of[T];
};

template <int T>
__device__ __forceinline__ tile_of<T> read_tile(const float* column, std::int64_t sample, std::int64_t samples) {
  tile_of<T> v{};
#pragma unroll
  for (int i = 0; i < T; ++i)
    if (sample + i < samples) v.of[i] = __ldg(column + sample + i);
  return v;
}
template <int T>
__device__ __forceinline__ void write_tile(tile_of<T> v, float* column, std::int64_t sample, std::int64_t samples) {
#pragma unroll
  for (int i = 0; i < T; ++i)
    if (sample + i < samples) column[sample + i] = v.of[i];
}

/// The sums over eight threads, which all get them.
template <int T>
__device__ __forceinline__ void sum_over_eight(tile_of<T>& v) {
#pragma unroll
  for (int d = 4; d > 0; d /= 2)
#pragma unroll
    for (int i = 0; i < T; ++i) v.of[i] += __shfl_xor_sync(whole_warp, v.of[i], d);
}

/// Where the edges of a row begin and end.
struct dag_bounds {
  int begin, end;
};
/// And this thread's first ones, `ahead` times four.
inline constexpr int dag_ahead = 2;
struct dag_row {
  int begin, end;
  four_edges first[dag_ahead];
};
__device__ __forceinline__ int first_of(const dag_row& row) {
  return (row.begin & ~3) + static_cast<int>(threadIdx.x % 8) * 4;
}
__device__ __forceinline__ dag_bounds find_row(const csr_view& m, int r, bool exists) {
  if (!exists) return {0, 0};
  return {__ldg(m.start + r), __ldg(m.start + r + 1)};
}
template <bool Vector>
__device__ __forceinline__ dag_row open_row(dag_bounds bounds, const csr_view& m, const float* values) {
  dag_row row;
  row.begin = bounds.begin, row.end = bounds.end;
  const int k = first_of(row);
#pragma unroll
  for (int i = 0; i < dag_ahead; ++i)
    if (k + 32 * i < row.end) row.first[i] = fetch_edges<Vector, false>(m, values, k + 32 * i);
  return row;
}
/// sum += Σ w·all[column] over this thread's edges of an open row; values in the order of the pattern.
template <bool Vector, int T>
__device__ __forceinline__ void add_edges(tile_of<T>& sum, const csr_view& m, const float* values, dag_row row,
                                          const tile_of<T>* all) {
  for (int k = first_of(row); k < row.end; k += 32) {
    const four_edges now = row.first[0];
#pragma unroll
    for (int i = 0; i + 1 < dag_ahead; ++i) row.first[i] = row.first[i + 1];
    if (k + 32 * dag_ahead < row.end)
      row.first[dag_ahead - 1] = fetch_edges<Vector, false>(m, values, k + 32 * dag_ahead);
    const int column[4] = {now.column.x, now.column.y, now.column.z, now.column.w};
    const float weight[4] = {now.weight.x, now.weight.y, now.weight.z, now.weight.w};
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (k + i >= row.begin && k + i < row.end) {
        const tile_of<T> x = all[column[i]];
#pragma unroll
        for (int j = 0; j < T; ++j) sum.of[j] += weight[i] * x.of[j];
      }
  }
}

__device__ __forceinline__ float activate(float z, VertexActivation f) {
  switch (f) {
    case VertexActivation::none:
      return z;
    case VertexActivation::tanh:
      return tanhf(z);
    case VertexActivation::sigmoid:
      return 1.0f / (1.0f + expf(-z));
    default:
      return z < 0 ? 0.0f : z;
  }
}
/// Derivative of the activation, from what it gave.
__device__ __forceinline__ float activation_slope(float y, VertexActivation f) {
  switch (f) {
    case VertexActivation::none:
      return 1.0f;
    case VertexActivation::tanh:
      return 1.0f - y * y;
    case VertexActivation::sigmoid:
      return y * (1.0f - y);
    default:
      return y > 0 ? 1.0f : 0.0f;
  }
}

/// The block's tiles, `count` of them.
template <bool Shared, int T>
__device__ __forceinline__ tile_of<T>* tiles_of(float* scratch, std::int64_t count) {
  if constexpr (Shared) return simt::dynamic_shared<tile_of<T>>();
  return reinterpret_cast<tile_of<T>*>(scratch) + blockIdx.x * count;
}

/// h of all vertices, and the outputs; without Joint, which branches are positive. Not Shared: `scratch` of vertices·T
/// a block.
template <bool Vector, bool Joint, bool Shared, int T>
__global__ void __launch_bounds__(Joint&& Shared ? 800 : 512, 1)
    dag_forward_tile(dag_view d, const std::int32_t* __restrict__ level_start, int levels,
                     const float* __restrict__ values, const float* __restrict__ bias, matrix_view<const float> x,
                     matrix_view<float> y, matrix_view<float> h, unsigned char* __restrict__ positive, float* scratch) {
  tile_of<T>* own = tiles_of<Shared, T>(scratch, d.vertices);
  const int inputs = static_cast<int>(d.inputs), group = static_cast<int>(threadIdx.x / 8),
            groups = static_cast<int>(blockDim.x / 8);
  const bool writes = threadIdx.x % 8 == 0;
  const std::int64_t sample = std::int64_t{blockIdx.x} * T;
  for (int u = static_cast<int>(threadIdx.x); u < inputs; u += static_cast<int>(blockDim.x)) {
    own[u] = read_tile<T>(x.data + u * x.ld, sample, x.rows);
    if (x.data != h.data) write_tile<T>(own[u], h.data + u * h.ld, sample, h.rows);
  }
  // The group's first vertex of a level, and its first branch.
  const auto find = [&](int level) {
    const int v = level < levels ? __ldg(level_start + level) + group : 0;
    const bool exists = level < levels && v < __ldg(level_start + level + 1);
    const int branch = exists ? (Joint ? v - inputs : __ldg(d.row_start + v - inputs)) : 0;
    return find_row(d.by_row, branch, exists && branch < d.by_row.rows);
  };
  dag_row now = open_row<Vector>(find(0), d.by_row, values);
  for (int level = 0; level < levels; ++level) {
    const int first = __ldg(level_start + level), last = __ldg(level_start + level + 1);
    const dag_bounds next = find(level + 1);
    __syncthreads();
    for (int at = first, v = first + group; at < last; at += groups, v += groups) {  // a warp goes the same way
      const bool exists = v < last;
      int branch = !exists ? 0 : Joint ? v - inputs : __ldg(d.row_start + v - inputs);
      const int end = !exists ? branch : Joint ? branch + 1 : __ldg(d.row_start + v - inputs + 1);
      tile_of<T> out{};
      for (bool begins = true; __any_sync(whole_warp, branch < end); ++branch, begins = false) {
        const bool is = branch < end;
        if (!begins || at > first) now = open_row<Vector>(find_row(d.by_row, branch, is), d.by_row, values);
        const float b = is ? __ldg(bias + branch) : 0.0f;
        const VertexActivation f = Joint && is && d.activation ? d.activation[branch] : VertexActivation::relu;
        tile_of<T> sum{};
        if (is) add_edges<Vector>(sum, d.by_row, values, now, own);
        sum_over_eight(sum);
        if (!is) continue;
#pragma unroll
        for (int i = 0; i < T; ++i) {
          const float z = sum.of[i] + b;
          if constexpr (Joint)
            out.of[i] = activate(z, f);
          else
            out.of[i] += z < 0 ? 0.0f : z;
          if (!Joint && writes && sample + i < h.rows) positive[branch * h.ld + sample + i] = z > 0;
        }
      }
      if (exists && writes) {
        own[v] = out;
        write_tile<T>(out, h.data + v * h.ld, sample, h.rows);
      }
    }
    now = open_row<Vector>(next, d.by_row, values);
  }
  __syncthreads();
  if (y.data)
    for (int o = static_cast<int>(threadIdx.x); o < d.outputs; o += static_cast<int>(blockDim.x))
      write_tile<T>(own[__ldg(d.output + o)], y.data + o * y.ld, sample, y.rows);
}

/// dz of every branch, and dx unless it is null; `values` in the order of by_column. Not Shared: `scratch` of
/// (branches + vertices)·T a block.
template <bool Vector, bool Joint, bool Shared, int T>
__global__ void __launch_bounds__(Joint&& Shared ? 800 : 512, 1)
    dag_backward_tile(dag_view d, const std::int32_t* __restrict__ level_start, int levels,
                      const float* __restrict__ values, matrix_view<const float> h,
                      const unsigned char* __restrict__ positive, matrix_view<const float> dy, matrix_view<float> dx,
                      matrix_view<float> dz, float* scratch) {
  tile_of<T>* own = tiles_of<Shared, T>(scratch, d.by_row.rows + d.vertices);  // dz [branches]
  tile_of<T>* above = own + d.by_row.rows;                                     // dy [vertices]
  const int inputs = static_cast<int>(d.inputs), group = static_cast<int>(threadIdx.x / 8),
            groups = static_cast<int>(blockDim.x / 8);
  const bool writes = threadIdx.x % 8 == 0;
  const std::int64_t sample = std::int64_t{blockIdx.x} * T;
  for (int u = static_cast<int>(threadIdx.x); u < d.vertices; u += static_cast<int>(blockDim.x))
    above[u] = tile_of<T>{};
  __syncthreads();
  for (int o = static_cast<int>(threadIdx.x); o < d.outputs; o += static_cast<int>(blockDim.x))
    above[__ldg(d.output + o)] = read_tile<T>(dy.data + o * dy.ld, sample, dy.rows);
  const int lowest = dx.data ? -1 : 0;  // level -1 are the inputs
  const auto begin_of = [&](int level) { return level < 0 ? 0 : __ldg(level_start + level); };
  const auto find = [&](int level) {
    const int u = level >= lowest ? begin_of(level) + group : 0;
    return find_row(d.by_column, u, level >= lowest && u < begin_of(level + 1));
  };
  dag_row now = open_row<Vector>(find(levels - 1), d.by_column, values);
  for (int level = levels - 1; level >= lowest; --level) {
    const int first = begin_of(level), last = begin_of(level + 1);
    const dag_bounds next = find(level - 1);
    __syncthreads();
    for (int at = first, u = first + group; at < last; at += groups, u += groups) {
      const bool exists = u < last;
      tile_of<T> sum{}, mine{};
      VertexActivation f = VertexActivation::relu;
      if (Joint && exists && level >= 0) {
        mine = read_tile<T>(h.data + u * h.ld, sample, h.rows);
        if (d.activation) f = d.activation[u - inputs];
      }
      if (exists) {
        if (at > first) now = open_row<Vector>(find_row(d.by_column, u, true), d.by_column, values);
        add_edges<Vector>(sum, d.by_column, values, now, own);
      }
      sum_over_eight(sum);
      if (!exists) continue;
#pragma unroll
      for (int i = 0; i < T; ++i) sum.of[i] += above[u].of[i];
      if (level < 0) {
        if (writes) write_tile<T>(sum, dx.data + u * dx.ld, sample, dx.rows);
        continue;
      }
      const int k = u - inputs;
      if constexpr (Joint) {
#pragma unroll
        for (int i = 0; i < T; ++i) sum.of[i] *= activation_slope(mine.of[i], f);
        if (writes) own[k] = sum, write_tile<T>(sum, dz.data + k * dz.ld, sample, dz.rows);
      } else {
        for (int r = __ldg(d.row_start + k) + static_cast<int>(threadIdx.x % 8); r < __ldg(d.row_start + k + 1);
             r += 8) {
          tile_of<T> through{};
#pragma unroll
          for (int i = 0; i < T; ++i)
            if (sample + i < h.rows && positive[r * h.ld + sample + i]) through.of[i] = sum.of[i];
          own[r] = through;
          write_tile<T>(through, dz.data + r * dz.ld, sample, dz.rows);
        }
      }
    }
    now = open_row<Vector>(next, d.by_column, values);
  }
}

/// sums[c] = Σ_b x[b, c]: a warp to a column, in an order that never changes.
__global__ void __launch_bounds__(256) column_sums(matrix_view<const float> x, float* __restrict__ sums) {
  const int warps = static_cast<int>(gridDim.x * (blockDim.x / 32));
  for (int c = static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32); c < x.cols; c += warps) {
    double sum = 0;
    for (std::int64_t b = threadIdx.x % 32; b < x.rows; b += 32) sum += double{__ldg(x.data + c * x.ld + b)};
    for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(whole_warp, sum, d);
    if (threadIdx.x % 32 == 0) sums[c] = static_cast<float>(sum);
  }
}

}  // namespace deepstruct::kernels::device
