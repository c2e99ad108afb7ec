// Launchers of dense products on tensor cores: which tiles, and into how many parts the terms are cut.
#include "tensor_gemm.cuh"

#include <algorithm>
#include <cstddef>

#include <deepstruct/kernels/contract.hpp>

#include "launchers.hpp"
#include "runtime.hpp"
#include "sizes.hpp"

namespace deepstruct::kernels {
namespace {

constexpr std::int64_t tensor_processors = 132;
constexpr std::int64_t tensor_float_terms = 4096;  // so many are summed in float, more in double

/// Calls f with the type of the cut's tile.
template <class F>
auto with_tensor_tile(tensor_cut::Tile tile, F&& f) {
  switch (tile) {
    case tensor_cut::wide:
      return f(device::tensor_wide{});
    case tensor_cut::tall:
      return f(device::tensor_tall{});
    default:
      return f(device::tensor_square{});
  }
}

template <class Tile, bool AlongTerms>
void launch_tile(cuda gpu, matrix_view<const float> x, strided_view<const float> w, const float* bias, bool relu,
                 matrix_view<float> y, std::int64_t wanted_parts) {
  const std::int64_t steps = ceil_div(x.cols, Tile::depth),
                     part = ceil_div(steps, std::max<std::int64_t>(1, wanted_parts)) * Tile::depth,
                     parts = steps == 0 ? 1 : ceil_div(x.cols, part);
  const auto blocks = static_cast<unsigned>(ceil_div(y.rows, Tile::samples) * ceil_div(y.cols, Tile::outputs) * parts);
  constexpr std::size_t shared = sizeof(float) * Tile::stages * device::tensor_stage_floats<Tile, AlongTerms>;
  const auto kernel = &device::gemm_3xtf32<Tile, AlongTerms>;
  if (parts == 1)
    return runtime::launch("gemm_3xtf32", kernel, blocks, Tile::threads, shared, gpu.stream, x, w, bias, relu, y, part,
                           0);
  const std::int64_t fours = ceil_div(y.rows, 4), size = y.cols * fours;
  const runtime::Buffer<float> sums(static_cast<std::size_t>(parts * size * 4), gpu.stream, "gemm_3xtf32");
  runtime::launch("gemm_3xtf32", kernel, blocks, Tile::threads, shared, gpu.stream, x, w, nullptr, false,
                  matrix_view<float>{sums.data(), y.rows, y.cols, fours * 4}, part, size * 4);
  const auto adders = static_cast<unsigned>(std::min<std::int64_t>(ceil_div(size, 256), tensor_processors * 16));
  runtime::launch("gemm_3xtf32", &device::gemm_3xtf32_parts, adders, 256, 0, gpu.stream, sums.data(), parts,
                  divisor_of(fours, size), bias, relu, y);
}

}  // namespace

tensor_cut gemm_3xtf32_cut(std::int64_t samples, std::int64_t outputs, std::int64_t terms, double* microseconds) {
  // A model of the time in µs: a multiprocessor multiplies `rate` pairs a µs when full, less with few warps; a block
  // takes the time of `begin` terms to begin and to end; parts are written, read, and added by a kernel of their own.
  // Fitted to 32 products on an H200 (512² to 4096², 128 to 4096 samples), where the choice takes 1.003 times as long
  // as the best cut, at the most 1.02 times.
  struct Speed {
    double rate, half;
  };
  constexpr Speed speeds[] = {{313e3, 5060}, {349e3, 4990}, {313e3, 3170}};  // wide, tall, square
  constexpr double begin = 81, bytes = 9.2e6, launch = 0.3, always = 3.5;
  tensor_cut best;
  double least = 0;
  for (const tensor_cut::Tile tile : {tensor_cut::wide, tensor_cut::tall, tensor_cut::square})
    with_tensor_tile(tile, [&](auto type) {
      using Tile = decltype(type);
      const std::int64_t tiles = ceil_div(samples, Tile::samples) * ceil_div(outputs, Tile::outputs);
      const std::int64_t fewest = std::max<std::int64_t>(1, ceil_div(terms, tensor_float_terms));
      const std::int64_t most = std::max(fewest, std::min<std::int64_t>(32, terms / 128));
      for (std::int64_t parts = fewest; parts <= most; ++parts) {
        const std::int64_t rounds = ceil_div(tiles * parts, tensor_processors);
        const double area = Tile::samples * Tile::outputs,
                     resident = static_cast<double>(std::min<std::int64_t>(rounds, Tile::resident)) * area;
        const double part = static_cast<double>(ceil_div(terms, parts));
        const Speed speed = speeds[static_cast<int>(tile)];
        double time = always + static_cast<double>(rounds) * area * (part + begin) * (resident + speed.half) /
                                   (speed.rate * resident);
        if (parts > 1) time += static_cast<double>((parts + 1) * samples * outputs) * 4 / bytes + launch;
        if (least > 0 && time >= least) continue;
        least = time;
        best.tile = tile;
        best.parts = parts;
      }
    });
  if (microseconds) *microseconds = least;
  return best;
}

bool gemm_3xtf32_fits(matrix_view<const float> x, strided_view<const float> w, matrix_view<float> y) {
  const bool lies = aligned(x.data) && aligned(w.data) && aligned(y.data) && x.ld % 4 == 0 && y.ld % 4 == 0 &&
                    ((w.s0 == 1 && w.s1 % 4 == 0) || (w.s1 == 1 && w.s0 % 4 == 0));
  return lies && y.rows > 16 && y.cols > 16 && x.cols > 16;
}

void gemm_3xtf32(cuda gpu, matrix_view<const float> x, strided_view<const float> w, const float* bias, bool relu,
                 matrix_view<float> y, tensor_cut cut) {
  if (y.rows == 0 || y.cols == 0) return;
  with_tensor_tile(cut.tile, [&](auto tile) {
    using Tile = decltype(tile);
    if (w.s0 == 1)
      launch_tile<Tile, false>(gpu, x, w, bias, relu, y, cut.parts);
    else
      launch_tile<Tile, true>(gpu, x, w, bias, relu, y, cut.parts);
  });
}
void gemm_3xtf32(cuda gpu, matrix_view<const float> x, strided_view<const float> w, const float* bias, bool relu,
                 matrix_view<float> y) {
  gemm_3xtf32(gpu, x, w, bias, relu, y, gemm_3xtf32_cut(y.rows, y.cols, x.cols));
}

}  // namespace deepstruct::kernels
