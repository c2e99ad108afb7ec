// Launchers of what moves elements.
#include "move.cuh"

#include <algorithm>
#include <cstddef>

#include <deepstruct/kernels/contract.hpp>

#include "runtime.hpp"
#include "sizes.hpp"

namespace deepstruct::kernels {
namespace {

constexpr std::int64_t side = device::transpose_side;

/// Eight blocks of 256 threads fill a multiprocessor; they take what there is more by turns.
unsigned blocks_for(std::int64_t threads) {
  static const std::int64_t most = 8 * std::int64_t{runtime::properties("move").processors};
  return static_cast<unsigned>(std::min<std::int64_t>((threads + 255) / 256, most));
}

/// Whether runs of the innermost loop are whole fours, aligned in x and y.
bool in_fours(const float* x, const float* y, const nest<2>& n) {
  bool whole = aligned(x) && aligned(y) && n.extent[0] % 4 == 0 && n.stride[0][0] == 1 && n.stride[1][0] == 1;
  for (int k = 1; k < 4; ++k) whole &= n.extent[k] == 1 || (n.stride[0][k] % 4 == 0 && n.stride[1][k] % 4 == 0);
  return whole;
}

/// y = x where loop a is that of y's neighbours and loop b that of x's.
void launch_tiles(cuda gpu, const float* x, float* y, const nest<2>& n, int a, int b) {
  nest<4> tiles;
  const auto add = [&](std::int64_t extent, std::int64_t to, std::int64_t from, std::int64_t of_a, std::int64_t of_b) {
    const std::int64_t stride[4] = {to, from, of_a, of_b};
    tiles.extent[tiles.depth] = extent;
    for (int o = 0; o < 4; ++o) tiles.stride[o][tiles.depth] = stride[o];
    ++tiles.depth;
  };
  const std::int64_t x_step = n.stride[1][a], y_step = n.stride[0][b];
  add(ceil_div(n.extent[a], side), side, side * x_step, side, 0);
  add(ceil_div(n.extent[b], side), side * y_step, side, 0, side);
  for (int k = 0; k < 4; ++k)
    if (k != a && k != b) add(n.extent[k], n.stride[0][k], n.stride[1][k], 0, 0);
  const nest_loops<4> loops = loops_of(tiles);
  runtime::launch("copy", &device::transpose_tiles, blocks_for(loops.n * 256), 256, 0, gpu.stream, x, y, loops,
                  n.extent[a], n.extent[b], x_step, y_step);
}

/// Adds a loop outside of those there are.
void add_loop(nest<2>& n, std::int64_t extent, std::int64_t to, std::int64_t from) {
  n.extent[n.depth] = extent, n.stride[0][n.depth] = to, n.stride[1][n.depth] = from;
  ++n.depth;
}

int lanes_for(csr_view mask) { return mask.nnz >= 16 * mask.rows ? 32 : 8; }

}  // namespace

void copy(cuda gpu, const float* x, float* y, const nest<2>& n) {
  nest_loops<2> loops = loops_of(n);
  if (loops.n == 0) return;
  if (in_fours(x, y, n)) {
    nest<2> fours = n;
    fours.extent[0] /= 4;
    for (int k = 1; k < 4; ++k) fours.stride[0][k] /= 4, fours.stride[1][k] /= 4;
    loops = loops_of(fours);
    return runtime::launch("copy", &device::copy_elements<float4>, blocks_for(loops.n), 256, 0, gpu.stream,
                           reinterpret_cast<const float4*>(x), reinterpret_cast<float4*>(y), loops);
  }
  // Neighbours in x that are none in y, and the reverse, each long enough to fill a good part of a tile.
  int a = -1, b = -1;
  for (int k = 0; k < 4; ++k) {
    if (n.extent[k] < side / 4) continue;
    if (n.stride[0][k] == 1 && n.stride[1][k] != 1) a = k;
    if (n.stride[1][k] == 1 && n.stride[0][k] != 1) b = k;
  }
  if (a >= 0 && b >= 0) return launch_tiles(gpu, x, y, n, a, b);
  runtime::launch("copy", &device::copy_elements<float>, blocks_for(loops.n), 256, 0, gpu.stream, x, y, loops);
}

void transpose(cuda gpu, matrix_view<const float> x, matrix_view<float> y) {
  nest<2> n;
  add_loop(n, x.cols, 1, x.ld);
  add_loop(n, x.rows, y.ld, 1);
  copy(gpu, x.data, y.data, n);
}

void reshape(cuda gpu, matrix_view<const float> x, matrix_view<float> y) {
  if (y.rows * y.cols == 0) return;
  nest<2> n;
  if (x.rows == y.rows && x.ld == y.ld) {
    add_loop(n, x.cols * x.ld, 1, 1);  // padding too: one run
  } else if (x.cols % y.cols == 0) {   // a row of x becomes x.cols / y.cols rows of y
    const std::int64_t pieces = x.cols / y.cols;
    add_loop(n, pieces, 1, y.cols * x.ld);
    add_loop(n, x.rows, pieces, 1);
    add_loop(n, y.cols, y.ld, x.ld);
  } else if (y.cols % x.cols == 0) {  // rows of x are put together
    const std::int64_t pieces = y.cols / x.cols;
    add_loop(n, y.rows, 1, pieces);
    add_loop(n, pieces, x.cols * y.ld, 1);
    add_loop(n, x.cols, y.ld, x.ld);
  } else {
    const std::int64_t size = y.rows * y.cols;
    return runtime::launch("reshape", &device::reshape_elements, blocks_for(size), 256, 0, gpu.stream, x, y,
                           divisor_of(y.rows, size), divisor_of(x.cols, size));
  }
  copy(gpu, x.data, y.data, n);
}

void gather(cuda gpu, const float* x, const std::int32_t* index, float* y, const nest<3>& n, std::int64_t stride) {
  const nest_loops<3> loops = loops_of(n);
  runtime::launch("gather", &device::gather_elements, blocks_for(loops.n), 256, 0, gpu.stream, x, index, y, loops,
                  stride);
}

// An index counts along an extent of dx of which the nest itself says nothing: loops with a stride in dx are its other
// extents, and never meet. Those without meet wherever indices are equal.
void scatter_add(cuda gpu, const float* dy, const std::int32_t* index, float* dx, const nest<3>& n,
                 std::int64_t stride) {
  nest<3> apart = n;
  device::scatter_walk walk;
  std::int64_t terms = 1;
  int depth = 0;
  for (int k = 0; k < 4; ++k) {
    if (n.stride[1][k] != 0 || n.extent[k] == 1) continue;
    walk.extent[depth] = n.extent[k], walk.dy[depth] = n.stride[0][k], walk.index[depth] = n.stride[2][k];
    ++depth;
    terms *= n.extent[k];
    apart.extent[k] = 1;
  }
  const nest_loops<3> lines = loops_of(apart);
  if (lines.n == 0 || terms == 0) return;
  // Few lines and many terms: indices are shared out. Each thread reads them all, but waits for its own sums only.
  int p = 0;
  while (stride != 0 && p < 10 && (lines.n << p) < 132 * 512 && (std::int64_t{8} << p) < terms) ++p;
  runtime::launch("scatter_add", &device::scatter_lines, blocks_for(lines.n << p), 256, 0, gpu.stream, dy, index, dx,
                  lines, walk, stride, p);
}

void pick_edges(cuda gpu, matrix_view<const float> w, csr_view mask, float* values) {
  if (mask.nnz == 0) return;
  if (mask.nnz == mask.rows * mask.cols) return transpose(gpu, w, {values, mask.cols, mask.rows, mask.cols});
  const int lanes = lanes_for(mask);
  runtime::launch("pick_edges", &device::visit_edges<false>, blocks_for(mask.rows * lanes), 256, 0, gpu.stream,
                  const_cast<float*>(w.data), w.ld, mask, values, lanes);
}

void place_edges(cuda gpu, const float* values, csr_view mask, matrix_view<float> w) {
  if (mask.nnz == mask.rows * mask.cols) return transpose(gpu, {values, mask.cols, mask.rows, mask.cols}, w);
  runtime::fill(w.data, 0, static_cast<std::size_t>(w.cols * w.ld) * sizeof(float), gpu.stream, "place_edges");
  if (mask.nnz == 0) return;
  const int lanes = lanes_for(mask);
  runtime::launch("place_edges", &device::visit_edges<true>, blocks_for(mask.rows * lanes), 256, 0, gpu.stream, w.data,
                  w.ld, mask, const_cast<float*>(values), lanes);
}

void remap(cuda gpu, const float* x, const std::int32_t* index, float* y, std::int64_t n) {
  runtime::launch("remap", &device::remap, blocks_for(n), 256, 0, gpu.stream, x, index, y, n);
}

}  // namespace deepstruct::kernels
