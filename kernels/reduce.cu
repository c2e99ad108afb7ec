// Launchers of the reductions: how a fold is cut into blocks and parts, by its sizes alone.
#include "reduce.cuh"

#include <algorithm>

#include "runtime.hpp"

namespace deepstruct::kernels {
namespace {

/// Threads that fill a GPU of 132 multiprocessors, and blocks enough that they end together.
constexpr std::int64_t enough_threads = 132 * 2048, enough_blocks = 132 * 16;

int bits_of(std::int64_t n, int most) {
  int bits = 0;
  while (bits < most && (std::int64_t{1} << bits) < n) ++bits;
  return bits;
}
std::int64_t elements_of(const nest<2>& n) { return n.extent[0] * n.extent[1] * n.extent[2] * n.extent[3]; }

device::fold_cut cut_of(const nest<2>& kept, const nest<1>& reduced, std::int64_t most_parts) {
  const std::int64_t elements = elements_of(kept), outer = reduced.extent[1] * reduced.extent[2] * reduced.extent[3];
  const std::int64_t terms = reduced.extent[0] * outer;
  const int by_terms = bits_of((terms + 3) / 4, 8);  // four terms a thread, if not more
  device::fold_cut cut;
  const bool kept_inner = kept.extent[0] > 1 && (reduced.extent[0] <= 1 || kept.stride[1][0] < reduced.stride[0][0]);
  if (kept_inner)  // a warp reads what is contiguous, up to a line; other threads take other terms
    cut.term_bits =
        elements >= enough_threads && kept.extent[0] >= 32 ? 0 : std::min(8 - bits_of(kept.extent[0], 5), by_terms);
  else if (outer == 1 || reduced.extent[0] >= 32)
    cut.term_bits = std::min(by_terms, elements * 32 >= enough_threads ? 5 : 8);
  else
    cut.term_bits = bits_of(reduced.extent[0], 5);
  cut.kept_bits = 8 - cut.term_bits;
  (kept_inner ? cut.term_shift : cut.kept_shift) = kept_inner ? cut.kept_bits : cut.term_bits;

  const std::int64_t blocks = std::max<std::int64_t>(1, (elements + (1 << cut.kept_bits) - 1) >> cut.kept_bits);
  const std::int64_t a_part = std::int64_t{16} << cut.term_bits;  // 16 terms a thread are worth another part
  const std::int64_t parts = std::clamp<std::int64_t>(std::min(enough_blocks / blocks, terms / a_part), 1, most_parts);
  cut.per_part = (terms + parts - 1) / parts;
  cut.parts = cut.per_part > 0 ? (terms + cut.per_part - 1) / cut.per_part : 1;
  return cut;
}

template <class Fold, class T, class Result>
void launch_fold(const char* op, cuda gpu, Fold how, const T* x, Result* y, const nest<2>& kept, const nest<1>& reduced,
                 device::fold_cut cut, typename Fold::total* part_totals) {
  // Fewer than 2³¹ blocks: one to 256 elements, or to fewer of many terms, which no memory holds.
  const auto blocks = static_cast<unsigned>((elements_of(kept) + (1 << cut.kept_bits) - 1) >> cut.kept_bits);
  const auto terms = loops_of(reduced);
  runtime::launch(op, terms.depth <= 1 ? &device::fold<true, Fold, T, Result> : &device::fold<false, Fold, T, Result>,
                  dim3(blocks, static_cast<unsigned>(cut.parts)), device::fold_threads, 0, gpu.stream, how, x,
                  loops_of(kept), terms, cut, part_totals, y);
}

/// y = the fold over x, the parts (if there are more than one) folded by `of_parts`.
template <class Fold, class Parts, class Result>
void fold_all(const char* op, cuda gpu, Fold how, Parts of_parts, const float* x, Result* y, const nest<2>& kept,
              const nest<1>& reduced) {
  using Total = typename Fold::total;
  const std::int64_t elements = elements_of(kept);
  if (elements == 0) return;
  const device::fold_cut cut = cut_of(kept, reduced, enough_blocks);
  if (cut.parts == 1) return launch_fold(op, gpu, how, x, y, kept, reduced, cut, static_cast<Total*>(nullptr));
  const runtime::Buffer<Total> totals(static_cast<std::size_t>(elements * cut.parts), gpu.stream, op);
  launch_fold(op, gpu, how, x, y, kept, reduced, cut, totals.data());
  nest<2> ends = kept;  // totals lie in the order of the loops
  std::int64_t stride = 1;
  for (int k = 0; k < 4; ++k) {
    ends.stride[1][k] = stride;
    stride *= kept.extent[k];
  }
  nest<1> parts;
  parts.extent[0] = cut.parts;
  parts.stride[0][0] = elements;
  launch_fold(op, gpu, of_parts, static_cast<const Total*>(totals.data()), y, ends, parts, cut_of(ends, parts, 1),
              static_cast<Total*>(nullptr));
}

}  // namespace

template <class Op>
void reduce(cuda gpu, const float* x, float* y, const nest<2>& kept, const nest<1>& reduced) {
  const device::reduction<Op> how;
  fold_all("reduce", gpu, how, how, x, y, kept, reduced);
}
template void reduce<fn::add>(cuda, const float*, float*, const nest<2>&, const nest<1>&);
template void reduce<fn::maximum>(cuda, const float*, float*, const nest<2>&, const nest<1>&);
template void reduce<fn::minimum>(cuda, const float*, float*, const nest<2>&, const nest<1>&);

void column_sums(cuda gpu, matrix_view<const float> dy, const float* y, float* dz, float* sums) {
  nest<2> columns;
  columns.extent[0] = dy.cols;
  columns.stride[0][0] = 1;
  columns.stride[1][0] = dy.ld;
  nest<1> samples;
  samples.extent[0] = dy.rows;
  samples.stride[0][0] = 1;
  const device::reduction<fn::add> sum;
  if (!y) return fold_all("column_sums", gpu, sum, sum, dy.data, sums, columns, samples);
  device::gated_sum gated;
  gated.y = y;
  gated.dz = dz;
  fold_all("column_sums", gpu, gated, sum, dy.data, sums, columns, samples);
}

void argmax(cuda gpu, const float* x, std::int32_t* y, const nest<2>& kept, std::int64_t n, std::int64_t stride,
            float sign) {
  nest<1> candidates;
  candidates.extent[0] = n;
  candidates.stride[0][0] = stride;
  device::greatest how;
  how.sign = sign;
  fold_all("argmax", gpu, how, how, x, y, kept, candidates);
}

void cumsum(cuda gpu, const float* x, float* y, const nest<2>& kept, std::int64_t n, std::int64_t x_stride,
            std::int64_t y_stride) {
  const std::int64_t elements = elements_of(kept);
  if (elements == 0 || n == 0) return;
  // Every part reads the sums of all before it: no more than about √n of them.
  std::int64_t parts = std::clamp<std::int64_t>(std::min(enough_threads / elements, n / 32), 1, 2048);
  while (parts > 1 && parts * parts > 4 * n) parts /= 2;
  const std::int64_t per_part = (n + parts - 1) / parts;
  parts = (n + per_part - 1) / per_part;
  const std::int64_t count = elements * parts;
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>((count + 255) / 256, 0x7fffffff));
  const auto loops = loops_of(kept);
  const divisor whole = divisor_of(elements, count);
  runtime::Buffer<double> sums;
  if (parts > 1) {
    sums = runtime::Buffer<double>(static_cast<std::size_t>(count), gpu.stream, "cumsum");
    runtime::launch("cumsum", &device::cumsum_parts, blocks, 256, 0, gpu.stream, x, loops, whole, n, x_stride, parts,
                    per_part, sums.data());
  }
  runtime::launch("cumsum", &device::cumsum, blocks, 256, 0, gpu.stream, x, y, loops, whole, n, x_stride, y_stride,
                  parts, per_part, static_cast<const double*>(sums.data()));
}

}  // namespace deepstruct::kernels
