// Device code of the sparse triple: y = x Wᵀ + b, dx = dy W (the same over the transposed pattern), dw = dyᵀ x at the
// edges.
//
// Samples are innermost in memory, so the samples of a column are read as whole lines without any transposition. An
// edge is read by eight threads (beside the slab kernels also by a warp), four samples each, or with `Quads` of 2 twice
// four. What limits is the way from shared memory or L1 to registers, 128 bytes a clock: a multiply-add needs 4 bytes
// of samples, and besides each thread needs the 8 bytes of an edge's column and weight, whether they come as four edges
// in 16-byte loads, one by one, or by shuffles. That is half of what four samples a thread take and a quarter of what
// eight take, so at most 11 or 13 TFLOP/s at 132 multiprocessors and 1.98 GHz.
//
// A row belongs to 8 · Split threads, four edges at a time for each eight: to a warp, or to eight threads, which begins
// four times fewer rows one after another and pays where rows are many and short.
#pragma once

#include <cstdint>

#include <deepstruct/core/view.hpp>

#include "simt.hpp"

namespace deepstruct::kernels::device {

inline constexpr unsigned whole_warp = 0xffffffffu;
inline constexpr int no_stop = 0x7fffffff;

/// Four samples of a column, 0 beyond the last sample: what is in padding stays there. With Vector, columns begin at
/// multiples of 16 bytes.
template <bool Vector>
__device__ __forceinline__ float4 four_samples(const float* column, std::int64_t b, std::int64_t samples) {
  if (Vector && b + 4 <= samples) return __ldg(reinterpret_cast<const float4*>(column + b));
  float4 v{0, 0, 0, 0};
  if (b < samples) v.x = __ldg(column + b);
  if (b + 1 < samples) v.y = __ldg(column + b + 1);
  if (b + 2 < samples) v.z = __ldg(column + b + 2);
  if (b + 3 < samples) v.w = __ldg(column + b + 3);
  return v;
}

__device__ __forceinline__ void add_product(float4& sum, float w, float4 x) {
  sum.x += w * x.x;
  sum.y += w * x.y;
  sum.z += w * x.z;
  sum.w += w * x.w;
}
__device__ __forceinline__ float dot(float4 a, float4 b, float sum) {
  sum += a.x * b.x;
  sum += a.y * b.y;
  sum += a.z * b.z;
  return sum + a.w * b.w;
}

/// Four numbers from position k on, a multiple of 4; 0 beyond the n of the array.
template <bool Vector, class Four, class T>
__device__ __forceinline__ Four four_of(const T* all, std::int64_t n, int k) {
  if (Vector && k + 4 <= n) return __ldg(reinterpret_cast<const Four*>(all + k));
  Four v{0, 0, 0, 0};
  if (k < n) v.x = __ldg(all + k);
  if (k + 1 < n) v.y = __ldg(all + k + 1);
  if (k + 2 < n) v.z = __ldg(all + k + 2);
  if (k + 3 < n) v.w = __ldg(all + k + 3);
  return v;
}

/// Four positions of the pattern, whether or not they belong to the row that is looked at.
struct four_edges {
  int4 column;
  float4 weight;
};
template <bool Vector, bool ById>
__device__ __forceinline__ four_edges fetch_edges(const csr_view& m, const float* values, int k) {
  four_edges e;
  e.column = four_of<Vector, int4>(m.col, m.nnz, k);
  if constexpr (ById) {
    const int4 id = four_of<Vector, int4>(m.edge, m.nnz, k);
    e.weight = {__ldg(values + id.x), __ldg(values + id.y), __ldg(values + id.z), __ldg(values + id.w)};
  } else {
    e.weight = four_of<Vector, float4>(values, m.nnz, k);
  }
  return e;
}

/// The j-th four samples of a column that are this thread's, from a slab in shared memory: [columns, 8 · Quads].
template <int Quads>
struct slab_samples {
  const float4* slab;
  int offset;
  __device__ __forceinline__ slab_samples(const float4* slab_, int first)
      : slab(slab_), offset(static_cast<int>(threadIdx.x % 8) - first * 8 * Quads) {}
  __device__ __forceinline__ float4 operator()(int column, int j) const {
    return slab[column * (8 * Quads) + offset + 8 * j];
  }
};
/// The same from global memory.
template <bool Vector>
struct global_samples {
  const float* data;
  std::int64_t ld, sample, samples;
  __device__ __forceinline__ float4 operator()(int column, int) const {
    return four_samples<Vector>(data + column * ld, sample, samples);
  }
};

/// Brings the samples of columns [first, first + columns) from `sample` on into the slab. Ends with a barrier.
template <bool Vector, int Lanes>
__device__ __forceinline__ void load_slab(matrix_view<const float> x, int first, int columns, std::int64_t sample,
                                          float4* slab) {
  __syncthreads();  // all have read the slab before this one
  for (int i = threadIdx.x; i < columns * Lanes; i += blockDim.x) {
    const std::int64_t b = sample + i % Lanes * 4;
    const float* column = x.data + (first + i / Lanes) * x.ld;
    if (Vector && b + 4 <= x.rows)
      simt::copy_async(slab + i, column + b);
    else
      slab[i] = four_samples<false>(column, b, x.rows);
  }
  simt::copy_commit();
  simt::copy_wait<0>();
  __syncthreads();
}

/// The sums of this thread: of four samples, or of twice four.
template <int Quads>
struct sums_of {
  float4 of[Quads];
};
template <int Quads, class Samples>
__device__ __forceinline__ void add_edge(sums_of<Quads>& sum, float w, int column, const Samples& x) {
#pragma unroll
  for (int j = 0; j < Quads; ++j) add_product(sum.of[j], w, x(column, j));
}
/// One edge, or none: its column is then beyond all.
struct one_edge {
  int column;
  float weight;
};
template <bool ById>
__device__ __forceinline__ one_edge fetch_one(const csr_view& m, const float* values, bool exists, int k) {
  if (!exists) return {no_stop, 0};
  return {__ldg(m.col + k), __ldg(values + (ById ? __ldg(m.edge + k) : k))};
}
/// Four positions that are all edges, from a multiple of four on.
template <bool Vector, bool ById>
__device__ __forceinline__ four_edges fetch_four(const csr_view& m, const float* values, int k) {
  if constexpr (!Vector) return fetch_edges<false, ById>(m, values, k);
  four_edges e;
  e.column = __ldg(reinterpret_cast<const int4*>(m.col + k));
  if constexpr (ById) {
    const int4 id = __ldg(reinterpret_cast<const int4*>(m.edge + k));
    e.weight = {__ldg(values + id.x), __ldg(values + id.y), __ldg(values + id.z), __ldg(values + id.w)};
  } else {
    e.weight = __ldg(reinterpret_cast<const float4*>(values + k));
  }
  return e;
}

/// Adds w·x of this thread's share of the edges [begin, end) of a row before column `stop`; how many these are. Its
/// group of threads is number `own` of Split: they take every Split-th four edges that begin at a multiple of four, and
/// every Split-th of the few before and behind these. All that does not wait for a sum is asked for at once: a row
/// costs one way to L2, not one for each of its parts.
template <bool Vector, bool ById, int Split, int Quads, class Samples>
__device__ __forceinline__ int add_row(sums_of<Quads>& sum, const csr_view& m, const float* values, int begin, int end,
                                       int own, int stop, const Samples& x) {
  constexpr int singles = (3 + Split - 1) / Split;
  const int body = min((begin + 3) & ~3, end), tail = max(body, end & ~3);
  int k = body + own * 4, taken = 0;
  four_edges next{};
  if (k < tail) next = fetch_four<Vector, ById>(m, values, k);
  one_edge before[singles], behind[singles];
#pragma unroll
  for (int i = 0; i < singles; ++i) {
    const int at = own + i * Split;
    before[i] = fetch_one<ById>(m, values, begin + at < body, begin + at);
    behind[i] = fetch_one<ById>(m, values, tail + at < end, tail + at);
  }
#pragma unroll
  for (int i = 0; i < singles; ++i)
    if (before[i].column < stop) add_edge(sum, before[i].weight, before[i].column, x), ++taken;
  while (k < tail && next.column.w < stop) {
    const four_edges now = next;
    k += 4 * Split, taken += 4;
    if (k < tail) next = fetch_four<Vector, ById>(m, values, k);
    add_edge(sum, now.weight.x, now.column.x, x);
    add_edge(sum, now.weight.y, now.column.y, x);
    add_edge(sum, now.weight.z, now.column.z, x);
    add_edge(sum, now.weight.w, now.column.w, x);
  }
  if (k < tail && next.column.x < stop) {  // the block of columns ends among these four
    add_edge(sum, next.weight.x, next.column.x, x), ++taken;
    if (next.column.y < stop) add_edge(sum, next.weight.y, next.column.y, x), ++taken;
    if (next.column.z < stop) add_edge(sum, next.weight.z, next.column.z, x), ++taken;
  }
#pragma unroll
  for (int i = 0; i < singles; ++i)
    if (behind[i].column < stop) add_edge(sum, behind[i].weight, behind[i].column, x), ++taken;
  return taken;
}

/// The sum over the four shares of a warp's row of sample 4·(lane mod 8) + lane / 8.
__device__ __forceinline__ float sum_of_shares(float4 s) {
  const bool upper = threadIdx.x & 16, odd = threadIdx.x & 8;
  const float keep0 = upper ? s.z : s.x, keep1 = upper ? s.w : s.y;
  const float give0 = upper ? s.x : s.z, give1 = upper ? s.y : s.w;
  const float sum0 = keep0 + __shfl_xor_sync(whole_warp, give0, 16);
  const float sum1 = keep1 + __shfl_xor_sync(whole_warp, give1, 16);
  return (odd ? sum1 : sum0) + __shfl_xor_sync(whole_warp, odd ? sum0 : sum1, 8);
}

/// y[b, r] of one sample, if there is one: the first block of columns begins with the bias, later ones with what is in
/// y, the last one ends with ReLU (which keeps NaN).
__device__ __forceinline__ void finish_sample(float sum, float start, bool first, bool relu, matrix_view<float> y,
                                              float* row, std::int64_t b) {
  if (b >= y.rows) return;
  const float all = sum + (first ? start : row[b]);
  row[b] = relu && all < 0 ? 0.0f : all;
}
/// The same of four samples.
template <bool Vector>
__device__ __forceinline__ void finish_four(float4 sum, float start, bool first, bool relu, matrix_view<float> y,
                                            float* row, std::int64_t b) {
  if (Vector && b + 4 <= y.rows) {
    float4* to = reinterpret_cast<float4*>(row + b);
    const float4 before = first ? float4{start, start, start, start} : *to;
    float v[4] = {sum.x + before.x, sum.y + before.y, sum.z + before.z, sum.w + before.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = relu && v[i] < 0 ? 0.0f : v[i];
    *to = float4{v[0], v[1], v[2], v[3]};
    return;
  }
  finish_sample(sum.x, start, first, relu, y, row, b);
  finish_sample(sum.y, start, first, relu, y, row, b + 1);
  finish_sample(sum.z, start, first, relu, y, row, b + 2);
  finish_sample(sum.w, start, first, relu, y, row, b + 3);
}

/// y = x Wᵀ + b by slabs in shared memory: block (part of the rows, slab of samples), 8 · Split threads to a row. Where
/// the slab holds a block of the columns at a time, each row remembers behind the slab which edge comes next.
template <bool Vector, bool ById, int Quads, int Split>
__global__ void __launch_bounds__(Quads == 1 ? 1024 : 512, 1)
    sparse_linear_slab(csr_view m, const float* __restrict__ values, matrix_view<const float> x,
                       const float* __restrict__ bias, bool relu, matrix_view<float> y, int parts, int rows,
                       int columns) {
  constexpr int threads = 8 * Split, lanes = 8 * Quads;
  float4* slab = simt::dynamic_shared<float4>();
  int* next_edge = reinterpret_cast<int*>(slab + columns * lanes);  // [2, rows]: of this block of columns, of the next
  const int group = static_cast<int>(threadIdx.x / threads), groups = static_cast<int>(blockDim.x / threads);
  const int part = static_cast<int>(blockIdx.x) % parts, cols = static_cast<int>(m.cols);
  const int q = static_cast<int>(threadIdx.x % 8), own = static_cast<int>(threadIdx.x % threads) / 8;
  const std::int64_t sample = std::int64_t{blockIdx.x} / parts * (4 * lanes);
  const int begin_row = part * rows, end_row = min(begin_row + rows, static_cast<int>(m.rows));
  int c0 = 0, now = 0;
  do {
    const int c1 = min(c0 + columns, cols);
    const bool first = c0 == 0, last = c1 == cols;
    load_slab<Vector, lanes>(x, c0, c1 - c0, sample, slab);
    const slab_samples<Quads> in(slab, c0);
    const auto begin_of = [&](int r) { return first ? __ldg(m.start + r) : next_edge[now * rows + r - begin_row]; };
    int next_begin = 0, next_end = 0;
    if (begin_row + group < end_row)
      next_begin = begin_of(begin_row + group), next_end = __ldg(m.start + begin_row + group + 1);
    for (int r = begin_row + group; r < end_row; r += groups) {
      const int begin = next_begin, end = next_end;
      if (r + groups < end_row) next_begin = begin_of(r + groups), next_end = __ldg(m.start + r + groups + 1);
      const float start = first && bias ? __ldg(bias + r) : 0.0f;
      sums_of<Quads> sum{};
      int taken = add_row<Vector, ById, Split>(sum, m, values, begin, end, own, last ? no_stop : c1, in);
      if (!last) {
        if constexpr (Split > 1)
          for (int d = 8; d < 32; d *= 2) taken += __shfl_xor_sync(whole_warp, taken, d);
        if (threadIdx.x % threads == 0) next_edge[(1 - now) * rows + r - begin_row] = begin + taken;
      }
      float* row = y.data + r * y.ld;
#pragma unroll
      for (int j = 0; j < Quads; ++j) {
        const std::int64_t b = sample + (j * 8 + q) * 4;
        if constexpr (Split == 1)
          finish_four<Vector>(sum.of[j], start, first, relu && last, y, row, b);
        else
          finish_sample(sum_of_shares(sum.of[j]), start, first, relu && last, y, row, b + own);
      }
    }
    c0 = c1, now = 1 - now;
  } while (c0 < cols);
}

/// y = x Wᵀ + b with every edge's samples read from global memory: a warp to a row and a slab, of which it reads four
/// edges by 8 `Lanes` each, or one by 32.
template <bool Vector, bool ById, int Lanes>
__global__ void __launch_bounds__(256)
    sparse_linear_rows(csr_view m, const float* __restrict__ values, matrix_view<const float> x,
                       const float* __restrict__ bias, bool relu, matrix_view<float> y, int parts, int rows) {
  const int part = static_cast<int>(blockIdx.x) % parts, own = static_cast<int>(threadIdx.x % 32) / Lanes;
  const std::int64_t sample = std::int64_t{blockIdx.x} / parts * (4 * Lanes), b = sample + threadIdx.x % Lanes * 4;
  const int end_row = min(part * rows + rows, static_cast<int>(m.rows));
  const global_samples<Vector> in{x.data, x.ld, b, x.rows};
  for (int r = part * rows + static_cast<int>(threadIdx.x / 32); r < end_row; r += static_cast<int>(blockDim.x / 32)) {
    const float start = bias ? __ldg(bias + r) : 0.0f;
    sums_of<1> sum{};
    (void)add_row<Vector, ById, 32 / Lanes>(sum, m, values, __ldg(m.start + r), __ldg(m.start + r + 1), own, no_stop,
                                            in);
    float* row = y.data + r * y.ld;
    if constexpr (Lanes == 32)
      finish_four<Vector>(sum.of[0], start, true, relu, y, row, b);
    else
      finish_sample(sum_of_shares(sum.of[0]), start, true, relu, y, row, b + own);
  }
}

/// to[k] = values[edge[k]]
[[maybe_unused]] static __global__ void gather_values(const float* __restrict__ values,
                                                      const std::int32_t* __restrict__ edge, std::int64_t nnz,
                                                      float* __restrict__ to) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t k = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; k < nnz; k += threads)
    to[k] = __ldg(values + __ldg(edge + k));
}

/// Columns of eight positions from k on.
struct eight_columns {
  int of[8];
};
template <bool Vector>
__device__ __forceinline__ eight_columns fetch_columns(const csr_view& m, int k) {
  const int4 low = four_of<Vector, int4>(m.col, m.nnz, k), high = four_of<Vector, int4>(m.col, m.nnz, k + 4);
  return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

/// Each of eight lanes brings a part of eight sums and gets one of them, its own number's.
__device__ __forceinline__ float sum_of_eight(const float (&p)[8]) {
  const bool b4 = threadIdx.x & 4, b2 = threadIdx.x & 2, b1 = threadIdx.x & 1;
  float four[4], two[2];
#pragma unroll
  for (int i = 0; i < 4; ++i) four[i] = (b4 ? p[i + 4] : p[i]) + __shfl_xor_sync(whole_warp, b4 ? p[i] : p[i + 4], 4);
#pragma unroll
  for (int i = 0; i < 2; ++i)
    two[i] = (b2 ? four[i + 2] : four[i]) + __shfl_xor_sync(whole_warp, b2 ? four[i] : four[i + 2], 2);
  return (b1 ? two[1] : two[0]) + __shfl_xor_sync(whole_warp, b1 ? two[0] : two[1], 1);
}

/// dw by slabs in shared memory: block (part of the rows, some slabs of samples), eight threads to an edge, each with
/// `Quads` times four samples of a slab, 8 · Split threads to a row. Each group of blocks with the same slabs writes a
/// part [nnz] of the sum.
template <bool Vector, int Quads, int Split>
__global__ void __launch_bounds__(512, 1)
    sparse_linear_dw_slab(csr_view m, matrix_view<const float> dy, matrix_view<const float> x, float* __restrict__ sums,
                          int parts, int rows, int columns, int slabs) {
  constexpr int lanes = 8 * Quads, at_once = 4 / Split;
  float4* slab = simt::dynamic_shared<float4>();
  int* next_edge = reinterpret_cast<int*>(slab + columns * lanes);
  const int part = static_cast<int>(blockIdx.x) % parts, cols = static_cast<int>(m.cols);
  const std::int64_t group = std::int64_t{blockIdx.x} / parts;
  const int begin_row = part * rows, end_row = min(begin_row + rows, static_cast<int>(m.rows));
  const int q = static_cast<int>(threadIdx.x % 8), eight = static_cast<int>(threadIdx.x % 32) / 8;
  const int own_row = eight / Split, own_edges = eight % Split * 8;
  sums += group * m.nnz;
  for (int c0 = 0, now = 0; c0 < cols; c0 += columns, now = 1 - now) {
    const int c1 = min(c0 + columns, cols);
    const bool last = c1 == cols;
    for (int s = 0; s < slabs; ++s) {
      const std::int64_t sample = (group * slabs + s) * (4 * lanes);
      if (sample >= x.rows) break;
      const bool leave = !last && (s + 1 == slabs || sample + 4 * lanes >= x.rows);
      load_slab<Vector, lanes>(x, c0, c1 - c0, sample, slab);
      // A warp goes on until the longest of its rows has ended.
      for (int first = begin_row + static_cast<int>(threadIdx.x / 32) * at_once; first < end_row;
           first += static_cast<int>(blockDim.x / 32) * at_once) {
        const int r = first + own_row;
        int begin = 0, end = 0;
        float4 own[Quads] = {};
        if (r < end_row) {
          begin = c0 == 0 ? __ldg(m.start + r) : next_edge[now * rows + r - begin_row], end = __ldg(m.start + r + 1);
#pragma unroll
          for (int j = 0; j < Quads; ++j)
            own[j] = four_samples<Vector>(dy.data + r * dy.ld, sample + (j * 8 + q) * 4, dy.rows);
        }
        int k = (begin & ~3) + own_edges, reached = begin;
        bool open = begin < end && k < end;
        eight_columns next{};
        if (open) next = fetch_columns<Vector>(m, k);
        while (__any_sync(whole_warp, open)) {
          const int at = k + q;
          bool keep = false;
          float before = 0, p[8] = {};
          if (open) {
            const eight_columns c = next;
            if (k + 8 * Split < end) next = fetch_columns<Vector>(m, k + 8 * Split);
            keep = at >= begin && at < end && (last || __ldg(m.col + at) < c1);
            if (keep && s > 0) before = sums[at];
#pragma unroll
            for (int i = 0; i < 8; ++i) {  // what is none of the row's is taken from elsewhere, and dropped
              const float4* from = slab + min(max(c.of[i] - c0, 0), c1 - c0 - 1) * lanes;
#pragma unroll
              for (int j = 0; j < Quads; ++j) p[i] = dot(own[j], from[j * 8 + q], p[i]);
            }
          }
          const float sum = sum_of_eight(p);
          if (keep) sums[at] = before + sum, reached = at + 1;
          k += 8 * Split;
          open = open && k < end && (last || next.of[0] < c1);
        }
        if (leave) {
          for (int d = 8 * Split / 2; d > 0; d /= 2) reached = max(reached, __shfl_xor_sync(whole_warp, reached, d));
          if (q == 0 && own_edges == 0 && r < end_row) next_edge[(1 - now) * rows + r - begin_row] = reached;
        }
      }
    }
  }
}

/// to[k] = Σ parts[p, k], in the order of the parts.
[[maybe_unused]] static __global__ void sum_parts(const float* __restrict__ parts, std::int64_t count, std::int64_t n,
                                                  float* __restrict__ to) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t k = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; k < n; k += threads) {
    double sum = 0;
#pragma unroll 8
    for (std::int64_t p = 0; p < count; ++p) sum += double{__ldg(parts + p * n + k)};
    to[k] = static_cast<float>(sum);
  }
}

/// W in full, a block to a row: w[r·ld + c] = the value of edge (r, c), 0 where there is none. A piece of a row at a
/// time lies in shared memory, so that all is written once and in order: 4096² at density 0.3 would take 150 µs
/// scattered.
[[maybe_unused]] static __global__ void __launch_bounds__(256)
    place_rows(csr_view m, const float* __restrict__ values, float* __restrict__ w, std::int64_t ld,
               std::int64_t piece) {
  float* row = simt::dynamic_shared<float>();
  for (std::int64_t r = blockIdx.x; r < m.rows; r += gridDim.x) {
    const std::int32_t begin = __ldg(m.start + r), end = __ldg(m.start + r + 1);
    for (std::int64_t first = 0; first < ld; first += piece) {
      const std::int64_t count = ld - first < piece ? ld - first : piece;
      for (std::int64_t k = threadIdx.x; k < count; k += blockDim.x) row[k] = 0;
      __syncthreads();
      for (std::int64_t e = begin + static_cast<std::int64_t>(threadIdx.x); e < end; e += blockDim.x) {
        const std::int64_t c = __ldg(m.col + e) - first;
        if (c >= 0 && c < count) row[c] = __ldg(values + (m.edge ? __ldg(m.edge + e) : e));
      }
      __syncthreads();
      for (std::int64_t k = threadIdx.x; k < count; k += blockDim.x) w[r * ld + first + k] = row[k];
      __syncthreads();  // all have read
    }
  }
}

/// values[e] = w[r·ld + c] of every edge, a warp to a row.
[[maybe_unused]] static __global__ void __launch_bounds__(256)
    pick_rows(csr_view m, const float* __restrict__ w, std::int64_t ld, float* __restrict__ values) {
  const std::int64_t warps = std::int64_t{gridDim.x} * blockDim.x / 32;
  for (std::int64_t r = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32; r < m.rows; r += warps)
    for (std::int64_t e = __ldg(m.start + r) + static_cast<std::int64_t>(threadIdx.x % 32); e < __ldg(m.start + r + 1);
         e += 32)
      values[e] = __ldg(w + r * ld + __ldg(m.col + e));
}

}  // namespace deepstruct::kernels::device
