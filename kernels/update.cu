// Launchers of optimizer steps and of the loss.
#include "update.cuh"

#include <algorithm>

#include "launchers.hpp"
#include "runtime.hpp"
#include "sizes.hpp"

namespace deepstruct::kernels {
namespace {

unsigned blocks_for(std::int64_t n) { return static_cast<unsigned>(std::min<std::int64_t>((n + 255) / 256, 132 * 8)); }

}  // namespace

void sgd_step(cuda gpu, float* w, const float* g, float* momentum, std::int64_t n, sgd_rule rule,
              const std::int32_t* step) {
  runtime::launch("sgd_step", &device::sgd_step, blocks_for(n), 256, 0, gpu.stream, w, g, momentum, n, rule, step);
}
void adam_step(cuda gpu, float* w, const float* g, float* m, float* v, float* largest, std::int64_t n, adam_rule rule,
               const std::int32_t* step) {
  const bool vector = aligned(w) && aligned(g) && aligned(m) && aligned(v);
  runtime::launch("adam_step", vector ? &device::adam_step<true> : &device::adam_step<false>,
                  blocks_for(vector ? (n + 3) / 4 : n), 256, 0, gpu.stream, w, g, m, v, largest, n, rule, step);
}
void sgd_step(cuda gpu, float* w, const float* g, float* momentum, std::int64_t n, sgd_rule rule) {
  sgd_step(gpu, w, g, momentum, n, rule, nullptr);
}
void adam_step(cuda gpu, float* w, const float* g, float* m, float* v, float* largest, std::int64_t n, adam_rule rule) {
  adam_step(gpu, w, g, m, v, largest, n, rule, nullptr);
}
void rmsprop_step(cuda gpu, float* w, const float* g, float* v, float* mean, float* momentum, std::int64_t n,
                  rmsprop_rule rule) {
  runtime::launch("rmsprop_step", &device::rmsprop_step, blocks_for(n), 256, 0, gpu.stream, w, g, v, mean, momentum, n,
                  rule);
}
void adagrad_step(cuda gpu, float* w, const float* g, float* v, std::int64_t n, adagrad_rule rule) {
  runtime::launch("adagrad_step", &device::adagrad_step, blocks_for(n), 256, 0, gpu.stream, w, g, v, n, rule);
}
void next_step(cuda gpu, std::int32_t* step) {
  runtime::launch("next_step", &device::next_step, 1, 1, 0, gpu.stream, step);
}
void cross_entropy(cuda gpu, matrix_view<const float> x, const std::int32_t* target, float scale, float* loss,
                   matrix_view<float> dx) {
  runtime::launch("cross_entropy", &device::cross_entropy, static_cast<unsigned>((x.rows + 63) / 64), 64, 0, gpu.stream,
                  x, target, scale, loss, dx);
}

}  // namespace deepstruct::kernels
