// Launchers of convolution: how the work is cut into blocks.
#include "conv.cuh"

#include <algorithm>

#include "runtime.hpp"
#include "sizes.hpp"

namespace deepstruct::kernels {
namespace {

unsigned blocks_for(std::int64_t threads) {
  return static_cast<unsigned>(std::min<std::int64_t>(ceil_div(threads, 256), 132 * 64));
}
/// Blocks of which each takes its own part: there are fewer than 2³¹, as a line of 64 bytes is the least of a part.
unsigned blocks(std::int64_t parts) { return static_cast<unsigned>(parts); }

/// An image as device code sees it, of `lanes` lanes.
template <class T>
device::conv_lanes_of<T> lanes_of(const conv_image<T>& x, std::int64_t lanes) {
  const bool fours =
      reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && x.channel % 4 == 0 && x.row % 4 == 0 && x.pixel % 4 == 0;
  return {x.data, lanes, x.channels, x.height, x.width, x.channel, x.row, x.pixel, fours};
}
/// The same of a result: whole lines where these may be stored.
device::conv_lanes_of<float> result_of(const conv_image<float>& y) {
  return lanes_of(y, y.padded ? ceil_div(y.lanes, conv_lanes) * conv_lanes : y.lanes);
}
std::int64_t lines_of(std::int64_t lanes, std::int64_t height, std::int64_t width) {
  return ceil_div(lanes, conv_lanes) * height * width;
}

/// Channels of a tile: the most that waste little more than the fewest.
std::int64_t tile_rows(std::int64_t rows) {
  const auto taken = [&](std::int64_t tile) { return ceil_div(rows, tile) * tile; };
  if (10 * taken(64) <= 11 * taken(16)) return 64;
  return 10 * taken(32) <= 11 * taken(16) ? 32 : 16;
}

}  // namespace

void conv_pack(cuda gpu, conv_image<const float> x, std::int64_t top, std::int64_t left, conv_blocks y) {
  runtime::launch("conv_pack", &device::conv_pack,
                  blocks_for(y.blocks * y.channels * y.height * y.width * (conv_lanes / 4)), 256, 0, gpu.stream,
                  lanes_of(x, x.lanes), top, left, y);
}

void conv_unfold(cuda gpu, conv_image<const float> x, std::int64_t top, conv_columns columns, conv_blocks y) {
  runtime::launch("conv_unfold", &device::conv_unfold,
                  blocks_for(y.blocks * y.channels * y.height * y.width * conv_lanes), 256, 0, gpu.stream,
                  lanes_of(x, x.lanes), top, columns, y);
}

void conv_dense(cuda gpu, conv_walk x, std::int64_t groups, std::int64_t depth, const conv_tap* tap, std::int64_t taps,
                const float* w, std::int64_t w_row, std::int64_t w_group, const float* bias, conv_image<float> y) {
  const std::int64_t rows = y.channels / groups, lines = lines_of(y.lanes, y.height, y.width);
  if (rows == 0) return;
  const auto few = [&](auto kernel, std::int64_t each) {
    runtime::launch("conv_dense", kernel, blocks(ceil_div(lines, each) * groups), 256, 0, gpu.stream, x, depth, tap,
                    taps, w, w_row, w_group, bias, result_of(y), rows);
  };
  const auto tile = [&](auto kernel, std::int64_t of) {
    const std::int64_t slices = ceil_div(rows, of);
    runtime::launch("conv_dense", kernel, blocks(ceil_div(lines, 512 / of) * groups * slices), 256, 0, gpu.stream, x,
                    depth, tap, taps, w, w_row, w_group, bias, result_of(y), rows, slices);
  };
  if (rows == 1)
    few(&device::conv_dense_few<1, 4>, 256);
  else if (rows <= 4)
    few(&device::conv_dense_few<4, 2>, 128);
  else if (rows <= 8)
    few(&device::conv_dense_few<8, 1>, 64);
  else if (tile_rows(rows) == 16)
    tile(&device::conv_dense_tile<16>, 16);
  else if (tile_rows(rows) == 32)
    tile(&device::conv_dense_tile<32>, 32);
  else
    tile(&device::conv_dense_tile<64>, 64);
}

void conv_sparse(cuda gpu, conv_walk x, const std::int32_t* start, const conv_tap* tap, std::int64_t first,
                 std::int64_t most, const float* values, const float* bias, conv_image<float> y) {
  constexpr std::int64_t warps = 16, each = 2;
  const std::int64_t tiles = ceil_div(lines_of(y.lanes, y.height, y.width), 8 * each),
                     wanted = ceil_div(132 * 4, std::max<std::int64_t>(1, tiles)),
                     slices = std::max<std::int64_t>(1, std::min(ceil_div(y.channels, warps), wanted));
  runtime::launch("conv_sparse", &device::conv_sparse_warps<each>, blocks(tiles * slices), 32 * warps, 0, gpu.stream, x,
                  start, tap, first, most, values, bias, result_of(y), slices);
}

namespace {

/// Gradients of edges; without `start` of all taps of a group.
void edges_dw(const char* op, cuda gpu, conv_walk x, conv_walk dy, const conv_image<const float>& size,
              std::int64_t rows, std::int64_t depth, const std::int32_t* start, const conv_tap* tap, std::int64_t taps,
              float* dw) {
  const std::int64_t wanted = ceil_div(132 * 8, std::max<std::int64_t>(1, size.channels)),
                     most = start ? 16 : ceil_div(taps, 8),  // how many edges there are is known to the device only
      slices = std::max<std::int64_t>(1, std::min(wanted, most));
  runtime::launch(op, &device::conv_edges_dw, blocks(size.channels * slices), 256, 0, gpu.stream, x, dy, size.height,
                  size.width, lines_of(size.lanes, size.height, size.width), rows, depth, start, tap, taps, slices, dw);
}

}  // namespace

void conv_dense_dw(cuda gpu, conv_walk x, conv_walk dy, conv_image<const float> size, std::int64_t groups,
                   std::int64_t depth, const conv_tap* tap, std::int64_t taps, double*, float* dw) {
  const std::int64_t rows = size.channels / groups, lines = lines_of(size.lanes, size.height, size.width);
  if (rows == 0 || taps == 0) return;
  if (rows <= 4) return edges_dw("conv_dense_dw", gpu, x, dy, size, rows, depth, nullptr, tap, taps, dw);
  const std::int64_t of = rows <= 16 ? 16 : 64, slices = ceil_div(rows, of), strips = ceil_div(taps, 64),
                     tiles = groups * slices * strips,
                     wanted = std::max<std::int64_t>(1, std::min(ceil_div(132 * 4, tiles), ceil_div(lines, 128))),
                     each = std::max<std::int64_t>(1, ceil_div(lines, wanted)),
                     parts = std::max<std::int64_t>(1, ceil_div(lines, each));
  const runtime::Buffer<double> partial(parts > 1 ? static_cast<std::size_t>(parts * taps * size.channels) : 0,
                                        gpu.stream, "conv_dense_dw");
  runtime::launch("conv_dense_dw", of == 16 ? &device::conv_dense_dw_tile<16> : &device::conv_dense_dw_tile<64>,
                  blocks(tiles * parts), static_cast<unsigned>(4 * of), 0, gpu.stream, x, dy, size.height, size.width,
                  lines, each, rows, slices, groups, depth, tap, taps, strips, parts > 1 ? partial.data() : nullptr,
                  dw);
  if (parts > 1)
    runtime::launch("conv_dense_dw", &device::conv_dense_dw_total, blocks_for(taps * size.channels), 256, 0, gpu.stream,
                    static_cast<const double*>(partial.data()), parts, tap, taps, size.channels, dw);
}

void conv_sparse_dw(cuda gpu, conv_walk x, conv_walk dy, conv_image<const float> size, const std::int32_t* start,
                    const conv_tap* tap, double*, float* dw) {
  edges_dw("conv_sparse_dw", gpu, x, dy, size, 1, 0, start, tap, 0, dw);
}

}  // namespace deepstruct::kernels
