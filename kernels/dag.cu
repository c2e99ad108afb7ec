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
  return static_cast<unsigned>(d.row_start || !cut.shared ? std::min(cut.threads, 512) : cut.threads);
}

/// Calls f(kernel family of these choices): f.template operator()<Vector, Joint, Shared, T>().
template <class F>
auto choose(bool vector, bool joint, dag_cut cut, F&& f) {
  const auto tile = [&]<bool Vector, bool Joint>() {
    if (cut.shared)
      return cut.tile == 4 ? f.template operator()<Vector, Joint, true, 4>()
                           : f.template operator()<Vector, Joint, true, 2>();
    return cut.tile == 4 ? f.template operator()<Vector, Joint, false, 4>()
                         : f.template operator()<Vector, Joint, false, 2>();
  };
  if (vector) return joint ? tile.template operator()<true, true>() : tile.template operator()<true, false>();
  return joint ? tile.template operator()<false, true>() : tile.template operator()<false, false>();
}
/// What a block keeps beside its registers: in shared memory, or in `memory` for all blocks.
struct tiles {
  std::size_t shared = 0;
  runtime::Buffer<float> memory;
  tiles(std::int64_t count, unsigned blocks, dag_cut cut, void* stream, const char* op) {
    const auto floats = static_cast<std::size_t>(count * cut.tile);
    if (cut.shared)
      shared = floats * sizeof(float);
    else
      memory = runtime::Buffer<float>(floats * blocks, stream, op);
  }
};

}  // namespace

dag_cut dag_cut_for(std::int64_t samples) { return {800, samples <= 2 * 132 ? 2 : 4}; }

std::int64_t dag_tile_bytes(dag_view d, dag_cut cut) { return (d.by_row.rows + d.vertices) * cut.tile * 4; }

void dag_forward(cuda gpu, dag_view d, dag_levels levels, const float* values, const float* bias,
                 matrix_view<const float> x, matrix_view<float> y, matrix_view<float> h, unsigned char* positive,
                 dag_cut cut) {
  const unsigned blocks = blocks_for(x.rows, cut.tile);
  const tiles own(d.vertices, blocks, cut, gpu.stream, "dag_forward");
  const auto kernel = choose(aligned(d.by_row.col) && aligned(values), !d.row_start, cut,
                             [&]<bool Vector, bool Joint, bool Shared, int T>() {
                               return &device::dag_forward_tile<Vector, Joint, Shared, T>;
                             });
  runtime::launch("dag_forward", kernel, blocks, threads_of(d, cut), own.shared, gpu.stream, d, levels.start,
                  levels.count, values, bias, x, y, h, positive, own.memory.data());
}

void dag_backward(cuda gpu, dag_view d, dag_levels levels, const float* values, matrix_view<const float> h,
                  const unsigned char* positive, matrix_view<const float> dy, matrix_view<float> dx,
                  matrix_view<float> dz, float* scratch, dag_cut cut) {
  if (dy.rows == 0) return;
  gather_edges(gpu, values, d.by_column, scratch);
  const unsigned blocks = blocks_for(dy.rows, cut.tile);
  const tiles own(d.by_row.rows + d.vertices, blocks, cut, gpu.stream, "dag_backward");
  const auto kernel = choose(aligned(d.by_column.col) && aligned(scratch), !d.row_start, cut,
                             [&]<bool Vector, bool Joint, bool Shared, int T>() {
                               return &device::dag_backward_tile<Vector, Joint, Shared, T>;
                             });
  runtime::launch("dag_backward", kernel, blocks, threads_of(d, cut), own.shared, gpu.stream, d, levels.start,
                  levels.count, static_cast<const float*>(scratch), h, positive, dy, dx, dz, own.memory.data());
}

namespace {

/// What a block may have, less what kernels have besides.
bool fits(dag_view d, dag_cut cut) {
  static const auto most = static_cast<std::int64_t>(runtime::properties("dag_fits").shared_bytes);
  return dag_tile_bytes(d, cut) <= most - 2048;
}
/// The cut for so many samples: with the smaller tile where only that fits into shared memory.
dag_cut fitting_cut(dag_view d, std::int64_t samples) {
  const dag_cut cut = dag_cut_for(samples);
  if (fits(d, cut)) return cut;
  return fits(d, {cut.threads, 2}) ? dag_cut{cut.threads, 2} : dag_cut{cut.threads, cut.tile, false};
}

}  // namespace

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
