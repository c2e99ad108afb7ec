// Launchers of dense products: which tiles, and into how many parts the terms are cut.
#include "gemm.cuh"

#include <algorithm>
#include <cstddef>

#include <deepstruct/kernels/contract.hpp>

#include "launchers.hpp"
#include "runtime.hpp"
#include "sizes.hpp"

namespace deepstruct::kernels {
namespace {

constexpr std::int64_t processors = 132;
constexpr std::int64_t float_terms = 4096;  // so many are summed in float, more in double

unsigned blocks_for(std::int64_t threads) {
  static const std::int64_t most = 8 * std::int64_t{runtime::properties("gemm").processors};
  return static_cast<unsigned>(std::min<std::int64_t>(ceil_div(threads, 256), most));
}

/// Calls f with the type of the cut's tile.
template <class F>
auto with_tile(gemm_cut cut, F&& f) {
  switch (cut.tile) {
    case gemm_cut::wide:
      return f(device::gemm_wide{});
    case gemm_cut::few_samples:
      return f(device::gemm_few_samples{});
    case gemm_cut::few_outputs:
      return f(device::gemm_few_outputs{});
    default:
      return f(device::gemm_square{});
  }
}
std::int64_t tiles_of(gemm_cut cut, std::int64_t samples, std::int64_t outputs) {
  return with_tile(cut, [&](auto tile) {
    return ceil_div(samples, decltype(tile)::samples) * ceil_div(outputs, decltype(tile)::outputs);
  });
}

}  // namespace

gemm_cut gemm_cut_for(std::int64_t samples, std::int64_t outputs, std::int64_t terms) {
  gemm_cut cut;
  // Blocks that the chip runs at once, and terms that make it worth to write a part and read it again.
  std::int64_t resident = 4 * processors, least = 128;
  if (samples <= 16 || outputs <= 16) {
    cut.tile = samples <= outputs ? gemm_cut::few_samples : gemm_cut::few_outputs;
    least = 64;
  } else {
    cut.tile = gemm_cut::wide;
    // The wide tile multiplies faster, where there is enough of it for everyone.
    if (samples > 64 && outputs > 64 &&
        tiles_of(cut, samples, outputs) * std::max<std::int64_t>(1, terms / 256) >= 2 * processors)
      resident = 2 * processors, least = 256;
    else
      cut.tile = gemm_cut::square;
  }
  const std::int64_t tiles = std::max<std::int64_t>(1, tiles_of(cut, samples, outputs));
  cut.parts = std::max<std::int64_t>({1, std::min(resident / tiles, terms / least), ceil_div(terms, float_terms)});
  return cut;
}

void gemm(cuda gpu, matrix_view<const float> x, strided_view<const float> w, const float* bias, matrix_view<float> y,
          gemm_cut cut) {
  if (y.rows == 0 || y.cols == 0) return;
  // Fours of w lie along what has stride 1, or the smaller one.
  const bool along_terms = w.s1 == 1 || (w.s0 != 1 && w.s1 < w.s0);
  const bool vector = aligned(x.data) && x.ld % 4 == 0 && aligned(w.data) && (along_terms ? w.s1 : w.s0) == 1 &&
                      (along_terms ? w.s0 : w.s1) % 4 == 0;
  with_tile(cut, [&](auto tile) {
    using Tile = decltype(tile);
    using device::gemm;
    static constexpr void (*all[2][2])(matrix_view<const float>, strided_view<const float>, const float*,
                                       matrix_view<float>, std::int64_t, std::int64_t, bool) = {
        {&gemm<Tile, false, false>, &gemm<Tile, false, true>}, {&gemm<Tile, true, false>, &gemm<Tile, true, true>}};
    const std::int64_t part =
                           ceil_div(ceil_div(x.cols, std::max<std::int64_t>(1, cut.parts)), Tile::depth) * Tile::depth,
                       parts = x.cols == 0 ? 1 : ceil_div(x.cols, part);
    const auto kernel = all[vector ? 1 : 0][along_terms ? 1 : 0];
    const auto blocks = static_cast<unsigned>(tiles_of(cut, y.rows, y.cols) * parts);
    if (parts == 1)
      return runtime::launch("gemm", kernel, blocks, Tile::threads, 0, gpu.stream, x, w, bias, y, part, 0,
                             aligned(y.data) && y.ld % 4 == 0);
    const std::int64_t ld = ceil_div(y.rows, 4) * 4, size = y.cols * ld;
    const runtime::Buffer<float> sums(static_cast<std::size_t>(parts * size), gpu.stream, "gemm");
    runtime::launch("gemm", kernel, blocks, Tile::threads, 0, gpu.stream, x, w, nullptr,
                    matrix_view<float>{sums.data(), y.rows, y.cols, ld}, part, size, true);
    runtime::launch("gemm", &device::gemm_add_parts, blocks_for(size), 256, 0, gpu.stream, sums.data(), parts,
                    divisor_of(ld, size), bias, y);
  });
}
void gemm(cuda gpu, matrix_view<const float> x, strided_view<const float> w, const float* bias, matrix_view<float> y) {
  if (gemm_3xtf32_fits(x, w, y)) return gemm_3xtf32(gpu, x, w, bias, false, y);
  gemm(gpu, x, w, bias, y, gemm_cut_for(y.rows, y.cols, x.cols));
}

void gemm_batched(cuda gpu, const float* a, const float* b, float* y, const nest<3>& n, std::int64_t terms,
                  std::int64_t a_term, std::int64_t b_term) {
  const nest_loops<3> loops = loops_of(n);
  runtime::launch("gemm_batched", &device::gemm_batched, blocks_for(loops.n), 256, 0, gpu.stream, a, b, y, loops, terms,
                  a_term, b_term);
}

}  // namespace deepstruct::kernels
