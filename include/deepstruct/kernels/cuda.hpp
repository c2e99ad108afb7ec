// The kernels of contract.hpp that run on a GPU: the same arguments after the tag, whose stream they work in; every
// pointer is device memory, also those inside views. Definitions: kernels/*.cu, in the library deepstruct::cuda.
//
// Kernels that need scratch take it from the stream's memory pool. All results are bitwise the same from call to call.
#pragma once

#include "contract.hpp"

namespace deepstruct::kernels {

template <class Op>
void map(cuda, const float* x, float* y, std::int64_t n, float a, float b);
template <class Op>
void map_grad(cuda, const float* dy, const float* x, const float* y, float* dx, std::int64_t n, float a, float b);
template <class Op>
void zip(cuda, const float* x0, const float* x1, float* y, const nest<3>& n);
void add_into(cuda, const float* x, float* y, std::int64_t n);
void select(cuda, const std::int32_t* condition, const float* x0, const float* x1, float* y, std::int64_t n);
void above(cuda, const float* x, float bound, std::int32_t* flags, std::int64_t n);
void dropout(cuda, matrix_view<const float> x, matrix_view<float> y, float p, Draw draw);
void logistic_noise(cuda, matrix_view<const float> x, matrix_view<float> y, float scale, Draw draw);

template <class Op>
void reduce(cuda, const float* x, float* y, const nest<2>& kept, const nest<1>& reduced);
void column_sums(cuda, matrix_view<const float> dy, const float* y, float* dz, float* sums);
void argmax(cuda, const float* x, std::int32_t* y, const nest<2>& kept, std::int64_t n, std::int64_t stride,
            float sign);
void cumsum(cuda, const float* x, float* y, const nest<2>& kept, std::int64_t n, std::int64_t x_stride,
            std::int64_t y_stride);

void copy(cuda, const float* x, float* y, const nest<2>& n);
void reshape(cuda, matrix_view<const float> x, matrix_view<float> y);
void gather(cuda, const float* x, const std::int32_t* index, float* y, const nest<3>& n, std::int64_t stride);
void scatter_add(cuda, const float* dy, const std::int32_t* index, float* dx, const nest<3>& n, std::int64_t stride);
void transpose(cuda, matrix_view<const float> x, matrix_view<float> y);
void pick_edges(cuda, matrix_view<const float> w, csr_view mask, float* values);
void place_edges(cuda, const float* values, csr_view mask, matrix_view<float> w);
void remap(cuda, const float* x, const std::int32_t* index, float* y, std::int64_t n);

void gemm(cuda, matrix_view<const float> x, strided_view<const float> w, const float* bias, matrix_view<float> y);
void gemm_batched(cuda, const float* a, const float* b, float* y, const nest<3>& n, std::int64_t terms,
                  std::int64_t a_term, std::int64_t b_term);

// The plan is the CPU's and not read; m.edge tells which way it lies. Any number of samples.
void sparse_linear(cuda, csr_view m, plan_view plan, const float* values, matrix_view<const float> x, const float* bias,
                   bool relu, matrix_view<float> y);
void sparse_linear_dw(cuda, csr_view m, plan_view plan, matrix_view<const float> dy, matrix_view<const float> x,
                      float* dw);

/// The levels of a layered DAG, on the device: runs of vertices behind the inputs without an edge within a run;
/// start [count + 1].
struct dag_levels {
  const std::int32_t* start = nullptr;
  std::int32_t count = 0;
};
// A layered DAG, whose memory lies another way than the CPU's. Of the view by_row, by_column, inputs, vertices,
// row_start, activation and output are read; branches are all rows of by_row.
// h [samples, vertices]: inputs first, then in order h[v] = Σ over its branches of max(Σ w·h[u] + bias, 0), or where
// joint f(Σ w·h[u] + bias). y[b, o] = h[b, output[o]]. Not joint: `positive` [samples, branches] with h's distance of
// columns says which sums were above 0
void dag_forward(cuda, dag_view d, dag_levels levels, const float* values, const float* bias,
                 matrix_view<const float> x, matrix_view<float> y, matrix_view<float> h, unsigned char* positive);
// dz [samples, branches], dL/d of every branch's sum, and dx unless it is null. Gradients of values and biases are
// sparse_linear_dw(by_row, dz, h) and column_sums(dz)
void dag_backward(cuda, dag_view d, dag_levels levels, const float* values, matrix_view<const float> h,
                  const unsigned char* positive, matrix_view<const float> dy, matrix_view<float> dx,
                  matrix_view<float> dz);

void conv_pack(cuda, conv_image<const float> x, std::int64_t top, std::int64_t left, conv_blocks y);
void conv_unfold(cuda, conv_image<const float> x, std::int64_t top, conv_columns columns, conv_blocks y);
void conv_dense(cuda, conv_walk x, std::int64_t groups, std::int64_t depth, const conv_tap* tap, std::int64_t taps,
                const float* w, std::int64_t w_row, std::int64_t w_group, const float* bias, conv_image<float> y);
void conv_sparse(cuda, conv_walk x, const std::int32_t* start, const conv_tap* tap, std::int64_t first,
                 std::int64_t most, const float* values, const float* bias, conv_image<float> y);
void conv_dense_dw(cuda, conv_walk x, conv_walk dy, conv_image<const float> size, std::int64_t groups,
                   std::int64_t depth, const conv_tap* tap, std::int64_t taps, double* sums, float* dw);
void conv_sparse_dw(cuda, conv_walk x, conv_walk dy, conv_image<const float> size, const std::int32_t* start,
                    const conv_tap* tap, double* sums, float* dw);

void softmax(cuda, matrix_view<const float> x, matrix_view<float> y, std::int64_t terms, std::int64_t inner,
             bool logarithm);
void cross_entropy_dx(cuda, matrix_view<const float> log_p, const std::int32_t* target, const float* scale,
                      matrix_view<float> dx);
// loss[b] = −Σ_c share[b, c]·log_p[b, c], where a share of 0 counts for nothing. at[b] = target[b], of_target[b] its
// own share and weight[b] its weight; of an ignored sample all are 0, of a target that is no class at is 0 and the
// others are NaN. Writes all shares unless their data is null
void class_losses(cuda, matrix_view<const float> log_p, const std::int32_t* target, class_rule rule, float* loss,
                  std::int32_t* at, float* of_target, float* weight, matrix_view<float> share);
void layer_norm(cuda, matrix_view<const float> x, const float* w, const float* b, matrix_view<float> y,
                matrix_view<float> mean, matrix_view<float> rstd, float eps);
void layer_norm_dx(cuda, matrix_view<const float> dy, matrix_view<const float> x, const float* w,
                   matrix_view<const float> mean, matrix_view<const float> rstd, matrix_view<float> dx);

void max_pool(cuda, matrix_view<const float> x, pool_windows rows, pool_windows cols, matrix_view<float> y,
              std::int32_t* index);
void max_pool_dx(cuda, matrix_view<const float> dy, const std::int32_t* index, pool_windows rows, pool_windows cols,
                 matrix_view<float> dx);
void avg_pool(cuda, matrix_view<const float> x, pool_windows rows, pool_windows cols, matrix_view<float> y);
void avg_pool_dx(cuda, matrix_view<const float> dy, pool_windows rows, pool_windows cols, matrix_view<float> dx);

void batch_statistics(cuda, matrix_view<const float> x, std::int64_t inner, float* mean, float* variance);
void batch_norm(cuda, matrix_view<const float> x, std::int64_t inner, const float* mean, const float* variance,
                const float* w, const float* b, float eps, matrix_view<float> y);
void batch_norm_backward(cuda, matrix_view<const float> dy, matrix_view<const float> x, std::int64_t inner,
                         const float* mean, const float* variance, const float* w, float eps, bool training,
                         matrix_view<float> dx, float* dw, float* db);

void sgd_step(cuda, float* w, const float* g, float* momentum, std::int64_t n, sgd_rule rule);
void adam_step(cuda, float* w, const float* g, float* m, float* v, float* largest, std::int64_t n, adam_rule rule);
void rmsprop_step(cuda, float* w, const float* g, float* v, float* mean, float* momentum, std::int64_t n,
                  rmsprop_rule rule);
void adagrad_step(cuda, float* w, const float* g, float* v, std::int64_t n, adagrad_rule rule);

/// Values on the device; the views themselves are the host's.
struct select_part {
  const float* data = nullptr;
  std::int64_t size = 0;
};
/// A value, and how many are less.
struct selected {
  float value = 0;
  std::int64_t below = 0;
};
/// The n-th smallest (from 0, less than their number) of all values of the parts, or of their magnitudes, exactly, as
/// if all were sorted; −0 is 0, and NaN must not occur. `parts` is the host's. Reads memory once, in general, and waits
/// for the stream.
selected nth_smallest(cuda, const select_part* parts, std::int64_t count, std::int64_t n, bool magnitude);
/// The pattern of the edges that stay: an edge goes if its saliency (or the magnitude of that) is below `limit`, and
/// the first `ties` edges that equal it, in edge order, go too. Writes start [rows + 1], and col and old_edge (room for
/// nnz each) of the edges that stay, and returns their number, for which it waits; where `equal` is not null, it is
/// told how many edges equal the limit. m by rows, without edge ids.
std::int64_t keep_edges(cuda, csr_view m, const float* saliency, float limit, std::int64_t ties, bool magnitude,
                        std::int32_t* start, std::int32_t* col, std::int32_t* old_edge, std::int64_t* equal = nullptr);

}  // namespace deepstruct::kernels
