// Launchers of batch norm.
#include "batch_norm.cuh"

#include <algorithm>

#include "runtime.hpp"
#include "sizes.hpp"

namespace deepstruct::kernels {
namespace {

/// The channels of x and how they are cut: with four numbers to an item where all begin at multiples of 16 bytes, and a
/// quarter of a warp to a part where channels are short.
struct Channels {
  device::channel_runs runs;
  device::channel_cut cut;
  bool fours, few;

  template <class... Pointers>
  Channels(matrix_view<const float> x, std::int64_t inner, Pointers... pointers)
      : runs{inner, x.rows, x.ld, inner * x.ld}, cut{inner > 0 ? x.cols / inner : 0, 1, 1} {
    if (x.rows == x.ld) runs = {1, runs.channel, runs.channel, runs.channel};  // no padding in between
    fours = (aligned(pointers) && ...) && runs.channel % 4 == 0 && runs.step % 4 == 0 && runs.n >= 4;
    const std::int64_t items = runs.runs * ceil_div(runs.n, fours ? 4 : 1);
    few = items <= 64;
    const std::int64_t lanes = few ? 8 : 32, wanted = ceil_div(132 * 64, std::max<std::int64_t>(1, cut.channels));
    cut.parts = std::max<std::int64_t>(1, std::min(ceil_div(items, lanes * 16), wanted));
    cut.each = ceil_div(ceil_div(items, cut.parts), lanes) * lanes;
  }
  std::int64_t terms() const { return runs.runs * runs.n; }
  unsigned blocks() const {
    return static_cast<unsigned>(std::min<std::int64_t>(ceil_div(cut.channels * cut.parts, few ? 32 : 8), 1 << 20));
  }
};

template <class Sums>
void sum_up(const char* op, cuda gpu, const Channels& c, const Sums& wanted, const float* dy) {
  using namespace device;
  const bool split = c.cut.parts > 1;
  const runtime::Buffer<double> partial(split ? static_cast<std::size_t>(2 * c.cut.channels * c.cut.parts) : 0,
                                        gpu.stream, op);
  runtime::launch(op,
                  c.few ? (c.fours ? &channel_sums<Sums, 8, 4> : &channel_sums<Sums, 8, 1>)
                        : (c.fours ? &channel_sums<Sums, 32, 4> : &channel_sums<Sums, 32, 1>),
                  c.blocks(), 256, 0, gpu.stream, wanted, c.runs, c.cut, dy, partial.data());
  if (split)
    runtime::launch(op, &channel_totals<Sums>,
                    static_cast<unsigned>(std::min<std::int64_t>(ceil_div(c.cut.channels, 8), 1 << 20)), 256, 0,
                    gpu.stream, wanted, c.runs, c.cut, static_cast<const double*>(partial.data()));
}

template <class F>
void map_channels(const char* op, cuda gpu, const Channels& c, const F& f, const float* x, const float* dy, float* y) {
  using namespace device;
  runtime::launch(op,
                  c.few ? (c.fours ? &channel_map<F, 8, 4> : &channel_map<F, 8, 1>)
                        : (c.fours ? &channel_map<F, 32, 4> : &channel_map<F, 32, 1>),
                  c.blocks(), 256, 0, gpu.stream, f, c.runs, c.cut, x, dy, y);
}

}  // namespace

void batch_statistics(cuda gpu, matrix_view<const float> x, std::int64_t inner, float* mean, float* variance) {
  const Channels c(x, inner, x.data);
  sum_up("batch_statistics", gpu, c, device::batch_moments{x.data, static_cast<double>(c.terms()), mean, variance},
         nullptr);
}

void batch_norm(cuda gpu, matrix_view<const float> x, std::int64_t inner, const float* mean, const float* variance,
                const float* w, const float* b, float eps, matrix_view<float> y) {
  map_channels("batch_norm", gpu, Channels(x, inner, x.data, y.data),
               device::batch_affine{mean, variance, w, b, double{eps}}, x.data, nullptr, y.data);
}

void batch_norm_backward(cuda gpu, matrix_view<const float> dy, matrix_view<const float> x, std::int64_t inner,
                         const float* mean, const float* variance, const float* w, float eps, bool training,
                         matrix_view<float> dx, float* dw, float* db) {
  const char* op = "batch_norm_backward";
  const Channels c(x, inner, x.data, dy.data, dx.data);
  const runtime::Buffer<double> totals(static_cast<std::size_t>(2 * c.cut.channels), gpu.stream, op);
  sum_up(op, gpu, c, device::batch_products{x.data, mean, variance, double{eps}, dw, db, totals.data()}, dy.data);
  if (!dx.data) return;
  const double terms = static_cast<double>(c.terms());
  if (training)
    map_channels(op, gpu, c, device::batch_dx<true>{mean, variance, w, double{eps}, terms, totals.data()}, x.data,
                 dy.data, dx.data);
  else
    map_channels(op, gpu, c, device::batch_dx<false>{mean, variance, w, double{eps}, terms, nullptr}, dy.data, nullptr,
                 dx.data);
}

}  // namespace deepstruct::kernels
