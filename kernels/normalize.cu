// Launchers of softmax, the gradient of cross entropy, and layer norm.
#include "normalize.cuh"

#include <algorithm>

#include <deepstruct/kernels/contract.hpp>

#include "runtime.hpp"
#include "sizes.hpp"

namespace deepstruct::kernels {
namespace {

constexpr std::int64_t processors = 132;

/// 2 to this are as many neighbours as there are samples, but at most a warp.
int lanes_for(std::int64_t samples) {
  int lanes = 0;
  while (lanes < 5 && (1 << lanes) < samples) ++lanes;
  return lanes;
}

/// Members as long as the chip has room for them and each has four terms. Neighbouring threads are samples, then what
/// lies next in memory: other groups where the terms of one lie apart, else terms.
device::team_cut team_for(std::int64_t samples, std::int64_t groups, std::int64_t terms, bool apart) {
  constexpr int all = 8;
  static_assert(1 << all == device::team_threads);
  device::team_cut cut{};
  cut.lanes = lanes_for(samples);
  cut.sample_blocks = ceil_div(samples, 1 << cut.lanes);
  cut.items = cut.sample_blocks * groups;
  while (cut.lanes + cut.members < all && (8 << cut.members) <= terms &&
         (cut.items << (cut.lanes + cut.members)) < processors * 2048)
    ++cut.members;
  cut.places = all - cut.lanes - cut.members;
  cut.member_bit = cut.lanes + (apart ? cut.places : 0);
  cut.place_bit = cut.lanes + (apart ? 0 : cut.members);
  return cut;
}
unsigned blocks_for(const device::team_cut& cut) {
  static const std::int64_t most = 8 * std::int64_t{runtime::properties("normalize").processors};
  return static_cast<unsigned>(std::min(ceil_div(cut.items, 1 << cut.places), most));
}

}  // namespace

void softmax(cuda gpu, matrix_view<const float> x, matrix_view<float> y, std::int64_t terms, std::int64_t inner,
             bool logarithm) {
  if (terms == 0 || x.rows == 0 || x.cols == 0) return;
  const device::team_cut cut = team_for(x.rows, x.cols / terms, terms, inner > 1);
  runtime::launch("softmax", &device::softmax, blocks_for(cut), device::team_threads, 0, gpu.stream, x, y, terms, inner,
                  logarithm, cut);
}

void cross_entropy_dx(cuda gpu, matrix_view<const float> log_p, const std::int32_t* target, const float* scale,
                      matrix_view<float> dx) {
  if (dx.rows == 0 || dx.cols == 0) return;
  const int lanes = 1 << lanes_for(dx.rows);
  const std::int64_t sample_blocks = ceil_div(dx.rows, lanes),
                     parts =
                         std::clamp<std::int64_t>(processors * 16 / sample_blocks, 1, ceil_div(dx.cols * lanes, 256));
  runtime::launch("cross_entropy_dx", &device::cross_entropy_dx, static_cast<unsigned>(sample_blocks * parts), 256, 0,
                  gpu.stream, log_p, target, scale, dx, lanes, sample_blocks);
}

void class_losses(cuda gpu, matrix_view<const float> log_p, const std::int32_t* target, class_rule rule, float* loss,
                  std::int32_t* at, float* of_target, float* weight, matrix_view<float> share) {
  runtime::launch("class_losses", &device::class_losses, static_cast<unsigned>(ceil_div(log_p.rows, 64)), 64, 0,
                  gpu.stream, log_p, target, rule, loss, at, of_target, weight, share);
}

void layer_norm(cuda gpu, matrix_view<const float> x, const float* w, const float* b, matrix_view<float> y,
                matrix_view<float> mean, matrix_view<float> rstd, float eps) {
  if (mean.rows == 0 || mean.cols == 0) return;
  const std::int64_t terms = x.cols / mean.cols;
  const device::team_cut cut = team_for(x.rows, mean.cols, terms, false);
  runtime::launch("layer_norm", &device::layer_norm, blocks_for(cut), device::team_threads, 0, gpu.stream, x, w, b, y,
                  mean, rstd, terms, eps, cut);
}

void layer_norm_dx(cuda gpu, matrix_view<const float> dy, matrix_view<const float> x, const float* w,
                   matrix_view<const float> mean, matrix_view<const float> rstd, matrix_view<float> dx) {
  if (x.rows == 0 || x.cols == 0 || mean.cols == 0) return;
  const std::int64_t terms = x.cols / mean.cols;
  const device::team_cut cut = team_for(x.rows, mean.cols, terms, false);
  runtime::launch("layer_norm_dx", &device::layer_norm_dx, blocks_for(cut), device::team_threads, 0, gpu.stream, dy, x,
                  w, mean, rstd, dx, terms, cut);
}

}  // namespace deepstruct::kernels
