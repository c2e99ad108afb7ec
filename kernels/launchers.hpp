// What the GPU back end offers, on one page: the launchers of kernels/*.cu. Arguments as in kernels/contract.hpp after
// the tag, whose stream they work in; every pointer is device memory. Scratch is the caller's, as nothing allocates.
//
// All results are bitwise the same from call to call: no sum depends on the order in which threads run.
#pragma once

#include <cstdint>

#include <deepstruct/kernels/contract.hpp>

namespace deepstruct::kernels {

/// How a sparse kernel is cut into blocks of threads. Results depend on it in their rounding only.
///
/// A block takes some rows of the pattern by the samples of a slab, 4·lanes. Either it first brings the slab, the
/// samples of `columns` columns at a time, into shared memory and reads it from there, once an edge; or (columns = 0)
/// it reads each edge's samples from global memory, which pays where a block has less than about one edge to a column.
/// Blocks have at most 1024 threads, with 16 lanes and for the gradient of weights 512, without a slab 256; the
/// gradient of weights needs a slab.
struct sparse_cut {
  std::int32_t threads = 256;  ///< of a block, whole warps
  std::int32_t rows = 8;       ///< of the pattern, taken by one block
  std::int32_t columns = 0;    ///< of the slab in shared memory at a time; 0: none
  std::int32_t lanes = 8;      ///< times four samples are a slab: 8, or 16 with columns, else 32
  std::int32_t slabs = 1;      ///< gradient of weights: slabs that one block takes, one after another
  bool warp_to_row = true;     ///< a warp takes one row at a time, else as many as it has lanes for
  bool staged = false;         ///< a pattern with edge ids: values are brought into its order first, into scratch
};

/// The cut for y = xWᵀ (or, of a transposed pattern, dx = dyW), and for the gradient of the weights; pure functions of
/// the problem's sizes.
sparse_cut sparse_linear_cut(csr_view m, std::int64_t samples);
sparse_cut sparse_linear_dw_cut(csr_view m, std::int64_t samples);

/// Floats of scratch that a cut needs.
std::int64_t sparse_linear_scratch(csr_view m, sparse_cut cut);
std::int64_t sparse_linear_dw_scratch(csr_view m, std::int64_t samples, sparse_cut cut);

/// y[b, r] = Σ_{(r, c) ∈ m} values[edge]·x[b, c] + bias[r], below 0 made 0 where relu; bias may be null.
void sparse_linear(cuda, csr_view m, const float* values, matrix_view<const float> x, const float* bias, bool relu,
                   matrix_view<float> y, float* scratch, sparse_cut cut);
/// dw[e] = Σ_b dy[b, r]·x[b, c] of every edge e = (r, c); m by rows, without edge ids.
void sparse_linear_dw(cuda, csr_view m, matrix_view<const float> dy, matrix_view<const float> x, float* dw,
                      float* scratch, sparse_cut cut);

/// to[k] = values[m.edge[k]]: the edges' values in the order of a pattern with edge ids.
void gather_edges(cuda, const float* values, csr_view m, float* to);

/// The levels of a layered DAG, on the device: runs of vertices behind the inputs without an edge within a run;
/// start [count + 1].
struct dag_levels {
  const std::int32_t* start = nullptr;
  std::int32_t count = 0;
};
/// How a DAG's kernels are cut: threads of a block (at most 800, by branches 512), samples of a tile (2 or 4).
struct dag_cut {
  std::int32_t threads, tile;
};
dag_cut dag_cut_for(std::int64_t samples);
/// Shared memory that a block needs at most, (branches + vertices)·tile·4 bytes; a multiprocessor of Hopper has 227
/// KiB.
std::int64_t dag_shared_bytes(dag_view d, dag_cut cut);
/// h [samples, vertices] of all vertices of a layered DAG (core/view.hpp), as in the CPU's contract: inputs first (not
/// copied where x begins where h does), then h[v] = Σ over its branches of max(Σ w·h[u] + bias, 0), or where joint
/// f(Σ w·h[u] + bias). y[b, o] = h[b, output[o]] unless y is null. Not joint: `positive` [samples, branches] with h's
/// distance of columns says which sums were above 0. Of the view by_row, by_column, inputs, vertices, row_start,
/// activation and outputs are read.
void dag_forward(cuda, dag_view d, dag_levels levels, const float* values, const float* bias,
                 matrix_view<const float> x, matrix_view<float> y, matrix_view<float> h, unsigned char* positive,
                 dag_cut cut);
/// dz [samples, branches], dL/d of every branch's sum, and dx unless it is null; scratch [nnz]. The gradients of values
/// and biases are sparse_linear_dw(d.by_row, dz, h) and column_sums(dz).
void dag_backward(cuda, dag_view d, dag_levels levels, const float* values, matrix_view<const float> h,
                  const unsigned char* positive, matrix_view<const float> dy, matrix_view<float> dx,
                  matrix_view<float> dz, float* scratch, dag_cut cut);
/// sums[c] = Σ_b x[b, c], in double.
void column_sums(cuda, matrix_view<const float> x, float* sums);

/// loss[b] = −log softmax(x[b])[target[b]] and dx = scale·(softmax(x[b]) − [c is target[b]]), a thread to a sample.
void cross_entropy(cuda, matrix_view<const float> x, const std::int32_t* target, float scale, float* loss,
                   matrix_view<float> dx);

/// The steps of the CPU's update.hpp. With `step` (device memory, or null) the number of the step is read there, t
/// counting from 1: corrections of Adam are then computed from β and t, and `first` of SGD is t = 1, so that a graph of
/// a step can be replayed.
void sgd_step(cuda, float* w, const float* g, float* momentum, std::int64_t n, sgd_rule rule, const std::int32_t* step);
void adam_step(cuda, float* w, const float* g, float* m, float* v, float* largest, std::int64_t n, adam_rule rule,
               const std::int32_t* step);
/// ++*step
void next_step(cuda, std::int32_t* step);

}  // namespace deepstruct::kernels
