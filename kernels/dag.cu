// Launchers of the layered DAG.
#include "dag.cuh"

#include <algorithm>

#include "launchers.hpp"
#include "runtime.hpp"
#include "sizes.hpp"

namespace deepstruct::kernels {
namespace {

unsigned blocks_for(std::int64_t n, std::int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

unsigned threads_of(dag_view d, dag_cut cut) {
  return static_cast<unsigned>(d.row_start ? std::min(cut.threads, 512) : cut.threads);
}

template <class Kernel>
Kernel one_of(const Kernel (&all)[2][2][2], bool vector, bool joint, int tile) {
  return all[vector ? 1 : 0][joint ? 1 : 0][tile == 4 ? 1 : 0];
}

}  // namespace

dag_cut dag_cut_for(std::int64_t samples) { return {800, samples <= 2 * 132 ? 2 : 4}; }

std::int64_t dag_shared_bytes(dag_view d, dag_cut cut) { return (d.by_row.rows + d.vertices) * cut.tile * 4; }

void dag_forward(cuda gpu, dag_view d, dag_levels levels, const float* values, const float* bias,
                 matrix_view<const float> x, matrix_view<float> y, matrix_view<float> h, unsigned char* positive,
                 dag_cut cut) {
  using namespace device;
  static constexpr void (*all[2][2][2])(
      dag_view, const std::int32_t*, int, const float*, const float*, matrix_view<const float>, matrix_view<float>,
      matrix_view<float>, unsigned char*) = {{{&dag_forward_tile<false, false, 2>, &dag_forward_tile<false, false, 4>},
                                              {&dag_forward_tile<false, true, 2>, &dag_forward_tile<false, true, 4>}},
                                             {{&dag_forward_tile<true, false, 2>, &dag_forward_tile<true, false, 4>},
                                              {&dag_forward_tile<true, true, 2>, &dag_forward_tile<true, true, 4>}}};
  runtime::launch("dag_forward", one_of(all, aligned(d.by_row.col) && aligned(values), !d.row_start, cut.tile),
                  blocks_for(x.rows, cut.tile), threads_of(d, cut), static_cast<std::size_t>(d.vertices * cut.tile * 4),
                  gpu.stream, d, levels.start, levels.count, values, bias, x, y, h, positive);
}

void dag_backward(cuda gpu, dag_view d, dag_levels levels, const float* values, matrix_view<const float> h,
                  const unsigned char* positive, matrix_view<const float> dy, matrix_view<float> dx,
                  matrix_view<float> dz, float* scratch, dag_cut cut) {
  using namespace device;
  static constexpr void (*all[2][2][2])(dag_view, const std::int32_t*, int, const float*, matrix_view<const float>,
                                        const unsigned char*, matrix_view<const float>, matrix_view<float>,
                                        matrix_view<float>) = {
      {{&dag_backward_tile<false, false, 2>, &dag_backward_tile<false, false, 4>},
       {&dag_backward_tile<false, true, 2>, &dag_backward_tile<false, true, 4>}},
      {{&dag_backward_tile<true, false, 2>, &dag_backward_tile<true, false, 4>},
       {&dag_backward_tile<true, true, 2>, &dag_backward_tile<true, true, 4>}}};
  if (dy.rows == 0) return;
  gather_edges(gpu, values, d.by_column, scratch);
  runtime::launch("dag_backward", one_of(all, aligned(d.by_column.col) && aligned(scratch), !d.row_start, cut.tile),
                  blocks_for(dy.rows, cut.tile), threads_of(d, cut), static_cast<std::size_t>(dag_shared_bytes(d, cut)),
                  gpu.stream, d, levels.start, levels.count, static_cast<const float*>(scratch), h, positive, dy, dx,
                  dz);
}

namespace {

/// What a block may have, less what kernels have besides.
bool fits(dag_view d, dag_cut cut) {
  static const auto most = static_cast<std::int64_t>(runtime::properties("dag_fits").shared_bytes);
  return dag_shared_bytes(d, cut) <= most - 2048;
}
/// The cut for so many samples, with the smaller tile where only that fits.
dag_cut fitting_cut(dag_view d, std::int64_t samples) {
  dag_cut cut = dag_cut_for(samples);
  if (!fits(d, cut)) cut.tile = 2;
  return cut;
}

}  // namespace

bool dag_fits(cuda, dag_view d, std::int64_t samples) { return fits(d, fitting_cut(d, samples)); }
void dag_forward(cuda gpu, dag_view d, dag_levels levels, const float* values, const float* bias,
                 matrix_view<const float> x, matrix_view<float> y, matrix_view<float> h, unsigned char* positive) {
  dag_forward(gpu, d, levels, values, bias, x, y, h, positive, fitting_cut(d, x.rows));
}
void dag_backward(cuda gpu, dag_view d, dag_levels levels, const float* values, matrix_view<const float> h,
                  const unsigned char* positive, matrix_view<const float> dy, matrix_view<float> dx,
                  matrix_view<float> dz) {
  const runtime::Buffer<float> scratch(static_cast<std::size_t>(d.by_row.nnz), gpu.stream, "dag_backward");
  dag_backward(gpu, d, levels, values, h, positive, dy, dx, dz, scratch.data(), fitting_cut(d, dy.rows));
}

void column_sums(cuda gpu, matrix_view<const float> x, float* sums) {
  runtime::launch("column_sums", &device::column_sums, std::min(blocks_for(x.cols, 8), 132u * 8), 256, 0, gpu.stream, x,
                  sums);
}

}  // namespace deepstruct::kernels
