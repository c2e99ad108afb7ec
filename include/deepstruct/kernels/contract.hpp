// The contract of all kernels on one page: what each one computes. Definitions: X.hpp (threads) and X.inl (SIMD
// bodies).
//
// Kernels work on views: no checks, no gradients, no memory but scratch from the pool. All overwrite their results
// (add_into and scatter_add add). Matrices are [samples, features] with the sample innermost (core/view.hpp). Plain
// pointers are whole storages of a Tensor: `n` counts elements with padding, and up to one 64-byte line behind them may
// be loaded, or stored where it is padding. What is in padding never reaches a result. The tag names the device; a
// GPU's kernels have the same arguments after their tag (cuda.hpp) and work in its stream; their pointers are device
// memory.
#pragma once

#include <cstdint>

#include "../core/device.hpp"
#include "../core/rng.hpp"
#include "../core/view.hpp"

namespace deepstruct::kernels {

/// Names of the elementwise functions; their bodies stand in elementwise.inl and, for GPUs, in elementwise.cuh.
namespace fn {
struct relu {};
struct leaky_relu {};
struct clamp {};
struct hardtanh {};
struct tanh {};
struct sigmoid {};
struct silu {};
struct gelu {};
struct gelu_tanh {};
struct softplus {};
struct logsigmoid {};
struct elu {};
struct softsign {};
struct exp {};
struct log {};
struct log1p {};
struct sqrt {};
struct sin {};
struct cos {};
struct abs {};
struct affine {};
struct pow {};
struct step {};
struct stretched_sigmoid {};

struct add {};
struct sub {};
struct mul {};
struct div {};
struct maximum {};
struct minimum {};
struct greater_share {};
struct equal {};
}  // namespace fn

// elementwise: Op is one of kernels::fn, a and b are its parameters.
template <class Op>  // y = f(x)
void map(cpu, const float* x, float* y, std::int64_t n, float a, float b);
template <class Op>  // dx = dy·f'(x), with y = f(x)
void map_grad(cpu, const float* dy, const float* x, const float* y, float* dx, std::int64_t n, float a, float b);
template <class Op>  // y = f(x0, x1); operands of the nest: y, x0, x1; y has stride 1 along the innermost loop
void zip(cpu, const float* x0, const float* x1, float* y, const nest<3>& n);
// y += x
inline void add_into(cpu, const float* x, float* y, std::int64_t n);
// y = condition ? x0 : x1
inline void select(cpu, const std::int32_t* condition, const float* x0, const float* x1, float* y, std::int64_t n);
// flags = x > bound
inline void above(cpu, const float* x, float bound, std::int32_t* flags, std::int64_t n);
// y = number i·cols + c of the draw, uniform in [low, high]
inline void uniform(cpu, matrix_view<float> y, float low, float high, Draw draw);
// y = x/(1 − p) where uniform number i·cols + c of the draw is at least p, else 0
inline void dropout(cpu, matrix_view<const float> x, matrix_view<float> y, float p, Draw draw);
// y = (x + ln u − ln(1 − u))·scale, u = (⌊word i·cols + c of the draw / 2⁹⌋ + ½)/2²³
inline void logistic_noise(cpu, matrix_view<const float> x, matrix_view<float> y, float scale, Draw draw);

// reduce: operands of `kept`: y, x; of `reduced`: x.
template <class Op>  // y = Op over the reduced loops (add, maximum, minimum); in double beyond 4096 terms
void reduce(cpu, const float* x, float* y, const nest<2>& kept, const nest<1>& reduced);
// sums[c] = Σ_b dz[b, c] where dz = dy, or dy·[y > 0] if y is given: then dz, laid out as dy, is written too
inline void column_sums(cpu, matrix_view<const float> dy, const float* y, float* dz, float* sums);
// y = position of the greatest sign·x of n at distance `stride`, the first of equals, NaN first of all
inline void argmax(cpu, const float* x, std::int32_t* y, const nest<2>& kept, std::int64_t n, std::int64_t stride,
                   float sign);
// y[j] = Σ_{i ≤ j} x[i] of n at the given distances, in double
inline void cumsum(cpu, const float* x, float* y, const nest<2>& kept, std::int64_t n, std::int64_t x_stride,
                   std::int64_t y_stride);

// move
// y = x; operands: y, x
inline void copy(cpu, const float* x, float* y, const nest<2>& n);
// the elements of x in row-major order become those of y
inline void reshape(cpu, matrix_view<const float> x, matrix_view<float> y);
// y = x[… + index·stride]; operands: y, x, index
inline void gather(cpu, const float* x, const std::int32_t* index, float* y, const nest<3>& n, std::int64_t stride);
// dx[… + index·stride] += dy, in loop order
inline void scatter_add(cpu, const float* dy, const std::int32_t* index, float* dx, const nest<3>& n,
                        std::int64_t stride);
// y[c, b] = x[b, c]
inline void transpose(cpu, matrix_view<const float> x, matrix_view<float> y);
// y[b, c] = x[order[b]·cols + c]: from samples in one piece each
inline void gather_samples(cpu, const float* x, const std::int32_t* order, matrix_view<float> y);
// values[e] = w(r, c) of every edge e = (r, c)
inline void pick_edges(cpu, matrix_view<const float> w, csr_view mask, float* values);
// w(r, c) = values[e] of every edge, 0 elsewhere
inline void place_edges(cpu, const float* values, csr_view mask, matrix_view<float> w);
// y[i] = x[index[i]], 0 where the index is −1
inline void remap(cpu, const float* x, const std::int32_t* index, float* y, std::int64_t n);

// gemm
// y[b, o] = Σ_i x[b, i]·w(o, i) + bias[o]; in float32, so of at most 4096 terms
inline void gemm(cpu, matrix_view<const float> x, strided_view<const float> w, const float* bias, matrix_view<float> y);
// y = Σ_k a[… + k·a_term]·b[… + k·b_term] in double; operands: y, a, b
inline void gemm_batched(cpu, const float* a, const float* b, float* y, const nest<3>& n, std::int64_t terms,
                         std::int64_t a_term, std::int64_t b_term);

// sparse: m by rows gives y, m by columns (Mask::csc) gives dx; the plan is that of m.
// y[b, r] = Σ_{(r, c) ∈ m} values[edge]·x[b, c] + bias[r], below 0 made 0 where relu. Without a plan edges are walked
// row by row; with one x and y are storage of whole vectors (16 samples and more).
inline void sparse_linear(cpu, csr_view m, plan_view plan, const float* values, matrix_view<const float> x,
                          const float* bias, bool relu, matrix_view<float> y);
// dw[e] = Σ_b dy[b, r]·x[b, c] of every edge e = (r, c); at most 4096 samples
inline void sparse_linear_dw(cpu, csr_view m, plan_view plan, matrix_view<const float> dy, matrix_view<const float> x,
                             float* dw);
// dx[b, c] = Σ_{(r, c)} values[edge]·dy[b, r], and dw as above, in one pass; m and plan by columns, 16 to 4096 samples
inline void sparse_linear_backward(cpu, csr_view m, plan_view plan, const float* values, matrix_view<const float> x,
                                   matrix_view<const float> dy, matrix_view<float> dx, float* dw);

// conv: an image is copied once into blocks of 16 samples with a frame of zeros around it (pack, unfold), and read
// there by taps: the terms of one output. Every pixel of y sums the same taps, seen from where it stands in the blocks.
/// Lanes of a block: one 64-byte line per pixel.
inline constexpr std::int64_t conv_lanes = 16;
/// Blocks [blocks, channels, height, width, 16], each one contiguous.
struct conv_blocks {
  float* data = nullptr;
  std::int64_t blocks = 0, channels = 0, height = 0, width = 0;
};
/// Pixel (c, h, w) of an image: `lanes` lanes from data[c·channel + h·row + w·pixel] on; padded where whole lines of 16
/// may be stored.
template <class T>
struct conv_image {
  T* data = nullptr;
  std::int64_t lanes = 0, channels = 0, height = 0, width = 0;
  std::int64_t channel = 0, row = 0, pixel = 0;
  bool padded = false;
};
/// Where the pixels of an output stand in blocks of its input, in floats.
struct conv_walk {
  const float* data = nullptr;
  std::int64_t block = 0, channel = 0, row = 0, pixel = 0;
};
/// One term: lines from where the output stands to its input, and where its weight is.
struct conv_tap {
  std::int32_t at, weight;
};
/// How unfold finds the column of lane l of column j: (l/samples·step + offset − j·back)/divisor, where that is whole.
struct conv_columns {
  std::int64_t samples, step, offset, back, divisor;
};
// y(n, c, h, w)[l] = x(c, h − top, w − left)[16n + l], 0 outside of x
inline void conv_pack(cpu, conv_image<const float> x, std::int64_t top, std::int64_t left, conv_blocks y);
// y(n, c, h, j)[l] = x(c, h − top, column of 16n + l and j)[(16n + l) mod samples], 0 outside: few samples and all
// pixels of a row become the lanes, and every column of the kernel gets a copy
inline void conv_unfold(cpu, conv_image<const float> x, std::int64_t top, conv_columns columns, conv_blocks y);
// y[c] = Σ_k w[g·w_group + r·w_row + tap[k].weight]·x[g·depth + tap[k]] + bias[c], c = g·rows + r; at most 4096 taps
inline void conv_dense(cpu, conv_walk x, std::int64_t groups, std::int64_t depth, const conv_tap* tap,
                       std::int64_t taps, const float* w, std::int64_t w_row, std::int64_t w_group, const float* bias,
                       conv_image<float> y);
// y[c] = Σ values[tap[k].weight]·x[tap[k]] + bias[c] over k from start[c] + first on, at most `most` of row c
inline void conv_sparse(cpu, conv_walk x, const std::int32_t* start, const conv_tap* tap, std::int64_t first,
                        std::int64_t most, const float* values, const float* bias, conv_image<float> y);
// dw[tap[k].weight + c] = Σ over samples and pixels of dy[c]·x[g·depth + tap[k]] for all taps of every c = g·rows + r;
// `size` gives lanes, channels, height and width of dy; sums [channels, taps] is scratch
inline void conv_dense_dw(cpu, conv_walk x, conv_walk dy, conv_image<const float> size, std::int64_t groups,
                          std::int64_t depth, const conv_tap* tap, std::int64_t taps, double* sums, float* dw);
// dw[k] = Σ over samples and pixels of dy[c]·x[tap[k]] for k in start[c] … start[c + 1]; sums [edges] is scratch
inline void conv_sparse_dw(cpu, conv_walk x, conv_walk dy, conv_image<const float> size, const std::int32_t* start,
                           const conv_tap* tap, double* sums, float* dw);

// sliced: y[r] = Σ w·x[c] + bias[r] of one sample, below 0 made 0 where relu; x, bias and y are storage of whole
// vectors. False if an x is not finite: y holds nothing then. For CPUs with AVX-512 only.
inline bool sliced_linear(cpu, sliced_view s, const float* x, const float* bias, bool relu, float* y);

// dag: h[v] of the vertices of a layered DAG (dag_view) by the samples of a tile: h = x for inputs, then in order
// h[v] = Σ over its branches of max(Σ w·h[u] + bias, 0), or where joint f(Σ w·h[u] + bias). Storage of h and g:
// [tiles or fewer places, vertices, tile], of `positive`: [places, dag_sign_words].
// c[k] = Σ max(bias, 0) over the branches of vertex inputs + k without an edge
inline void dag_constants(cpu, dag_view d, const float* bias, float* c);
// y[b, o] = h[output[o]]; where places are as many as tiles, h and positive keep what backward wants
inline void dag_forward(cpu, dag_view d, const float* values, const float* bias, const float* constant,
                        matrix_view<const float> x, matrix_view<float> y, float* h, std::int32_t* positive,
                        std::int64_t places);
// dx[b, u] = dL/dh of the inputs; per part of the samples dw (in the order of by_column, as `values`), dL/dz summed
// over samples of every branch with edges (where joint of every vertex), and dL/dh of every vertex; g [parts, vertices,
// tile] is scratch
inline void dag_backward(cpu, dag_view d, const float* values, const float* h, const std::int32_t* positive,
                         matrix_view<const float> dy, matrix_view<float> dx, float* g, float* dw, float* branch_sums,
                         float* vertex_sums);
// dw[e] and db[row] from the sums of the parts
inline void dag_gradients(cpu, dag_view d, const float* bias, const float* dw_parts, const float* branch_sums,
                          const float* vertex_sums, std::int64_t parts, float* dw, float* db);

// normalize
// y = softmax of x (or its logarithm) over `terms` columns at distance `inner`
inline void softmax(cpu, matrix_view<const float> x, matrix_view<float> y, std::int64_t terms, std::int64_t inner,
                    bool logarithm);
/// How classes count: samples of class `ignored` not at all, others by the weight of their class (1 where null); of
/// their target's logarithm `own` of that, of every class c even·weight[c].
struct class_rule {
  std::int64_t ignored = -100;
  const float* weight = nullptr;
  float own = 1, even = 0;
};
// dx = scale[b]·(exp(log_p) − [column is target[b]])
inline void cross_entropy_dx(cpu, matrix_view<const float> log_p, const std::int32_t* target, const float* scale,
                             matrix_view<float> dx);
// y = (x − mean)·rstd·w + b per sample and group of columns; writes mean and rstd = 1/√(var + eps), [samples, groups]
inline void layer_norm(cpu, matrix_view<const float> x, const float* w, const float* b, matrix_view<float> y,
                       matrix_view<float> mean, matrix_view<float> rstd, float eps);
// dx = rstd·(g − mean(g) − x̂·mean(g·x̂)), g = dy·w, x̂ = (x − mean)·rstd
inline void layer_norm_dx(cpu, matrix_view<const float> dy, matrix_view<const float> x, const float* w,
                          matrix_view<const float> mean, matrix_view<const float> rstd, matrix_view<float> dx);

// pool: images are the columns of a matrix, column (c·height + i)·width + j. A window of the result is what one window
// of the rows and one of the columns have in common.
/// The windows along one extent: place o of the result reads begin[o], begin[o] + step … below end[o]; place i of what
/// is read can lie only in windows first[i] … last[i] − 1. An average divides by count[o].
struct pool_windows {
  std::int64_t in, out, step;
  const std::int32_t *begin, *end, *count, *first, *last;
};
// y = the greatest of the window, NaN above all; index (unless null, laid out as y) = i·width + j of the first such
inline void max_pool(cpu, matrix_view<const float> x, pool_windows rows, pool_windows cols, matrix_view<float> y,
                     std::int32_t* index);
// dx = Σ dy of the windows whose index it is
inline void max_pool_dx(cpu, matrix_view<const float> dy, const std::int32_t* index, pool_windows rows,
                        pool_windows cols, matrix_view<float> dx);
// y = Σ of the window / (count of the row·count of the column); both windows have step 1
inline void avg_pool(cpu, matrix_view<const float> x, pool_windows rows, pool_windows cols, matrix_view<float> y);
// dx = Σ dy / (count·count) of the windows it lies in
inline void avg_pool_dx(cpu, matrix_view<const float> dy, pool_windows rows, pool_windows cols, matrix_view<float> dx);

// batch_norm: channel c is the columns c·inner … (c + 1)·inner − 1 of x; a statistic has one entry per channel. Sums
// are in double beyond 4096 terms. mean and (biased) variance over the samples and columns of a channel
inline void batch_statistics(cpu, matrix_view<const float> x, std::int64_t inner, float* mean, float* variance);
// y = (x − mean)·rstd·w + b, rstd = 1/√(variance + eps)
inline void batch_norm(cpu, matrix_view<const float> x, std::int64_t inner, const float* mean, const float* variance,
                       const float* w, const float* b, float eps, matrix_view<float> y);
// dw = Σ dy·x̂, db = Σ dy and, unless dx.data is null, dx = w·rstd·dy, or where mean and variance are those of x
// (`training`) dx = w·rstd·(dy − db/n − x̂·dw/n), with x̂ = (x − mean)·rstd and n terms per channel
inline void batch_norm_backward(cpu, matrix_view<const float> dy, matrix_view<const float> x, std::int64_t inner,
                                const float* mean, const float* variance, const float* w, float eps, bool training,
                                matrix_view<float> dx, float* dw, float* db);

// update: the optimizer steps of train/optimizer.hpp; pointers to slots that the rule does not use are null.
struct sgd_rule {
  float lr, momentum, dampening, weight_decay;
  bool nesterov, first;  ///< first: the momentum is still unset
};
struct adam_rule {
  float lr, beta1, beta2, eps, weight_decay;
  float rest1, rest2;  ///< 1 − β1 and 1 − β2, rounded once from double
  float step_size;     ///< lr / (1 − β1ᵗ)
  float root;          ///< √(1 − β2ᵗ)
  bool decoupled;      ///< AdamW
};
struct rmsprop_rule {
  float lr, alpha, eps, weight_decay, momentum;
};
struct adagrad_rule {
  float lr, eps, weight_decay;
};
inline void sgd_step(cpu, float* w, const float* g, float* momentum, std::int64_t n, sgd_rule rule);
inline void adam_step(cpu, float* w, const float* g, float* m, float* v, float* largest, std::int64_t n,
                      adam_rule rule);
inline void rmsprop_step(cpu, float* w, const float* g, float* v, float* mean, float* momentum, std::int64_t n,
                         rmsprop_rule rule);
inline void adagrad_step(cpu, float* w, const float* g, float* v, std::int64_t n, adagrad_rule rule);

}  // namespace deepstruct::kernels

#include "cuda.hpp"
