// Launchers that let their caller choose how the work is cut, or share scratch: for benchmarks, tests and each other.
// What ops call is on one page of its own, <deepstruct/kernels/cuda.hpp>.
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
  bool dense = false;          ///< nothing of this, but a product on tensor cores with the matrix in full, in scratch
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

/// How a dense product is cut into blocks: the tile of y that a block takes, and into how many parts the terms go,
/// whose sums are added in order. Results depend on it in their rounding only.
struct gemm_cut {
  enum Tile : std::int32_t { wide, square, few_samples, few_outputs };  ///< 128 × 128, 64 × 64, 8 × 128, 128 × 8
  Tile tile = square;
  std::int64_t parts = 1;  ///< or fewer: a part is whole steps of 8 or 16 terms
};
/// A pure function of the sizes; parts have at most 4096 terms each, and are added in double.
gemm_cut gemm_cut_for(std::int64_t samples, std::int64_t outputs, std::int64_t terms);
/// y[b, o] = Σ_i x[b, i]·w(o, i) + bias[o], any number of terms; bias may be null.
void gemm(cuda, matrix_view<const float> x, strided_view<const float> w, const float* bias, matrix_view<float> y,
          gemm_cut cut);

/// How a dense product on tensor cores is cut into blocks, as gemm_cut.
struct tensor_cut {
  enum Tile : std::int32_t { wide, tall, square };  ///< outputs × samples: 128 × 128, 128 × 64, 64 × 64
  Tile tile = square;
  std::int64_t parts = 1;  ///< or fewer: a part is whole steps of 32 terms
};
/// A pure function of the sizes; parts have at most 4096 terms each, and are added in double.
/// Writes how long that takes, as the model has it, unless `microseconds` is null.
tensor_cut gemm_3xtf32_cut(std::int64_t samples, std::int64_t outputs, std::int64_t terms,
                           double* microseconds = nullptr);
/// Whether views suit gemm_3xtf32: all begin at multiples of 16 bytes, columns too, w has a stride of 1 and the other
/// one a multiple of 4, and there is enough of everything to be faster than gemm. Columns of x and y, and lines of w,
/// are whole fours of floats in storage, of which what is padding may be read.
bool gemm_3xtf32_fits(matrix_view<const float> x, strided_view<const float> w, matrix_view<float> y);
/// y[b, o] = Σ_i x[b, i]·w(o, i) + bias[o], below 0 made 0 where relu; bias may be null. Each operand is split into two
/// of TF32, x = hi + lo, and y is the sum of hi·hi + hi·lo + lo·hi on tensor cores (Markidis et al. 2018), in sums of
/// 32 terms that are added in float32, since tensor cores cut sums off (Ootomo & Yokota 2022). One product of numbers
/// above 2^-100 is off by at most 10·2^-24 of itself; sums of six terms and more stay within 4·2^-24·√terms·Σ|x·w|, as
/// in float32. Where an operand is infinite, NaN, or above 0.999·2^128, y is NaN or infinite.
void gemm_3xtf32(cuda, matrix_view<const float> x, strided_view<const float> w, const float* bias, bool relu,
                 matrix_view<float> y);
/// Of any sizes, that only lie as gemm_3xtf32_fits says.
void gemm_3xtf32(cuda, matrix_view<const float> x, strided_view<const float> w, const float* bias, bool relu,
                 matrix_view<float> y, tensor_cut cut);

/// How a DAG's kernels are cut: threads of a block (at most 800; by branches, or in global memory, 512), samples of a
/// tile (2 or 4), and whether a block's tiles lie in shared memory.
struct dag_cut {
  std::int32_t threads, tile;
  bool shared = true;
};
/// Without regard to shared memory.
dag_cut dag_cut_for(std::int64_t samples);
/// Memory of a block's tiles at most, (branches + vertices)·tile·4 bytes; a multiprocessor of Hopper has 227 KiB.
std::int64_t dag_tile_bytes(dag_view d, dag_cut cut);
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

/// How a selection is cut: size of the sample, half the width of its bracket in standard deviations, threads of blocks
/// that work alone (a power of two), and most blocks for what all share: six to each of 132 multiprocessors. The result
/// does not depend on it.
struct select_cut {
  std::int32_t samples = 16384;
  double deviations = 4;
  std::int32_t threads = 1024, blocks = 132 * 6;
};
selected nth_smallest(cuda, const select_part* parts, std::int64_t count, std::int64_t n, bool magnitude,
                      select_cut cut);
/// The same with so many threads to a block, 32, 64, 128 or 256; 16 edges to a thread.
std::int64_t keep_edges(cuda, csr_view m, const float* saliency, float limit, std::int64_t ties, bool magnitude,
                        std::int32_t* start, std::int32_t* col, std::int32_t* old_edge, std::int64_t* equal,
                        std::int32_t threads);

}  // namespace deepstruct::kernels
