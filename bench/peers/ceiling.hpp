// The multiply-add ceiling of this machine, measured.
#pragma once

#include <deepstruct/core/parallel.hpp>
#include <deepstruct/simd/lanes.hpp>
#include <deepstruct/simd/pick.hpp>

#include "../bench.hpp"

#include <deepstruct/simd/baseline_begin.hpp>
#include "ceiling.inl"
#include <deepstruct/simd/end.hpp>

#include <deepstruct/simd/avx2_begin.hpp>
#include "ceiling.inl"
#include <deepstruct/simd/end.hpp>

#include <deepstruct/simd/avx512_begin.hpp>
#include "ceiling.inl"
#include <deepstruct/simd/end.hpp>

namespace bench {

/// Multiply-adds of all threads together, in 10⁹ floating-point operations a second.
inline double ceiling_gflops() {
  namespace k = deepstruct::kernels;
  using deepstruct::simd::Isa;
  const auto body =
      deepstruct::simd::pick(&k::baseline::multiply_add, &k::avx2::multiply_add, &k::avx512::multiply_add);
  const Isa isa = deepstruct::simd::active();
  const int width = isa == Isa::avx512 ? 16 : isa == Isa::avx2 ? 8 : 4;
  const std::int64_t rounds = 200000, parts = deepstruct::num_threads();
  volatile float sink = 0;
  double best = 1e30;  // a ceiling is the best that was seen
  for (int k = 0; k < 20; ++k) {
    const Timing t =
        measure([&] { deepstruct::parallel_for(parts, [&](std::int64_t) { sink = body(rounds, 0.5f); }); }, 3, 0);
    best = std::min(best, t.median);
  }
  return 24.0 * width * static_cast<double>(rounds * parts) / best * 1e-3;
}

}  // namespace bench
