// Isa: which of the compiled instruction sets runs, found once, forced by DEEPSTRUCT_ISA or simd::force.
#pragma once

#include <atomic>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "../core/error.hpp"

namespace deepstruct::simd {

/// The instruction sets a kernel body is compiled for.
enum class Isa { baseline, avx2, avx512 };

/// Name as DEEPSTRUCT_ISA takes it.
constexpr std::string_view name(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "baseline";
}

/// True if this CPU can run the instruction set.
inline bool supported(Isa isa) {
#if defined(__x86_64__)
  const bool two = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool five = two && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return isa == Isa::baseline || (isa == Isa::avx2 ? two : five);
#else
  return isa == Isa::baseline;
#endif
}

/// The instruction sets of this CPU, slowest first.
inline std::vector<Isa> available() {
  std::vector<Isa> all;
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512})
    if (supported(isa)) all.push_back(isa);
  return all;
}

namespace detail {

/// The fastest set, or the one DEEPSTRUCT_ISA names if the CPU has it.
inline Isa detect() {
  const char* wanted = std::getenv("DEEPSTRUCT_ISA");
  Isa best = Isa::baseline;
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (supported(isa)) best = isa;
    if (wanted && wanted == name(isa)) break;
  }
  return best;
}

inline std::atomic<Isa> active{detect()};

}  // namespace detail

/// The instruction set kernels use now.
inline Isa active() { return detail::active.load(std::memory_order_relaxed); }

/// Makes kernels use `isa` from now on; throws if this CPU lacks it.
inline void force(Isa isa) {
  check(supported(isa), "simd::force: this CPU has no ", name(isa), " (active is ", name(active()), ")");
  detail::active = isa;
}

/// The one of three compilations of a kernel body that runs now.
template <class F>
F* pick(F* baseline, F* avx2, F* avx512) {
  const Isa isa = active();
  return isa == Isa::avx512 ? avx512 : isa == Isa::avx2 ? avx2 : baseline;
}
/// The same for a body that waits for memory: 512 bits gain it nothing (on Zen 4, time with AVX2 over time with
/// AVX-512, 4 thousand to 2 million elements: sums 0.73 to 1.01, addition and product 0.88 to 1.03).
template <class F>
F* pick(F* baseline, F* avx2) {
  return pick(baseline, avx2, avx2);
}

}  // namespace deepstruct::simd
