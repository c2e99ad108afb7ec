// Optimizer steps on the CPU, on packed and on full values alike: SGD, Adam, AdamW, RMSprop, Adagrad.
#pragma once

#include "elementwise.hpp"

#include "../simd/baseline_begin.hpp"
#include "update.inl"
#include "../simd/end.hpp"

#include "../simd/avx2_begin.hpp"
#include "update.inl"
#include "../simd/end.hpp"

#include "../simd/avx512_begin.hpp"
#include "update.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

inline void sgd_step(cpu, float* w, const float* g, float* momentum, std::int64_t n, sgd_rule rule) {
  const auto body = simd::pick(&baseline::sgd_step, &avx2::sgd_step, &avx512::sgd_step);
  parallel_blocks(n, elementwise_grain, [&](std::int64_t i, std::int64_t end) {
    body(w + i, g + i, momentum ? momentum + i : nullptr, end - i, rule);
  });
}

inline void adam_step(cpu, float* w, const float* g, float* m, float* v, float* largest, std::int64_t n,
                      adam_rule rule) {
  const auto body = simd::pick(&baseline::adam_step, &avx2::adam_step, &avx512::adam_step);
  parallel_blocks(n, elementwise_grain, [&](std::int64_t i, std::int64_t end) {
    body(w + i, g + i, m + i, v + i, largest ? largest + i : nullptr, end - i, rule);
  });
}

inline void rmsprop_step(cpu, float* w, const float* g, float* v, float* mean, float* momentum, std::int64_t n,
                         rmsprop_rule rule) {
  const auto body = simd::pick(&baseline::rmsprop_step, &avx2::rmsprop_step, &avx512::rmsprop_step);
  parallel_blocks(n, elementwise_grain, [&](std::int64_t i, std::int64_t end) {
    body(w + i, g + i, v + i, mean ? mean + i : nullptr, momentum ? momentum + i : nullptr, end - i, rule);
  });
}

inline void adagrad_step(cpu, float* w, const float* g, float* v, std::int64_t n, adagrad_rule rule) {
  const auto body = simd::pick(&baseline::adagrad_step, &avx2::adagrad_step, &avx512::adagrad_step);
  parallel_blocks(n, elementwise_grain,
                  [&](std::int64_t i, std::int64_t end) { body(w + i, g + i, v + i, end - i, rule); });
}

}  // namespace deepstruct::kernels
