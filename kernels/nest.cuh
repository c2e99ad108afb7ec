// Loops of a nest spread over threads: from the number of an element to where each operand has it.
#pragma once

#include <cstdint>

#include <deepstruct/core/view.hpp>

#include "simt.hpp"

namespace deepstruct::kernels {

/// Division by a number that is known before the launch. A dividend below 2³¹ is multiplied by a reciprocal instead
/// (Granlund & Montgomery 1994), which takes 3 instructions and not some 40.
struct divisor {
  std::int64_t by = 1;
  std::uint32_t factor = 1;
  int shift = 0;  ///< −1: dividends may be greater, and are divided
};
/// For dividends below `limit`; by > 0.
inline divisor divisor_of(std::int64_t by, std::int64_t limit) {
  divisor d;
  d.by = by;
  if (limit > std::int64_t{1} << 31 || by >= std::int64_t{1} << 31) {
    d.shift = -1;
    return d;
  }
  while ((std::int64_t{1} << d.shift) < by) ++d.shift;
  d.factor = static_cast<std::uint32_t>((std::uint64_t{1} << 32) *
                                            ((std::uint64_t{1} << d.shift) - static_cast<std::uint64_t>(by)) /
                                            static_cast<std::uint64_t>(by) +
                                        1);
  return d;
}

/// A nest as threads walk it: without loops of one step.
template <int Operands>
struct nest_loops {
  std::int64_t depth = 0;
  std::int64_t n = 1;  ///< elements
  divisor extent[3];   ///< of all loops but the last
  std::int64_t stride[Operands][4] = {};
};
template <int Operands>
nest_loops<Operands> loops_of(const nest<Operands>& walk) {
  nest_loops<Operands> l;
  for (const std::int64_t extent : walk.extent) l.n *= extent;
  for (int k = 0; k < 4; ++k) {
    if (walk.extent[k] == 1) continue;
    if (l.depth < 3 && l.n > 0) l.extent[l.depth] = divisor_of(walk.extent[k], l.n);
    for (int o = 0; o < Operands; ++o) l.stride[o][l.depth] = walk.stride[o][k];
    ++l.depth;
  }
  return l;
}

namespace device {

__device__ __forceinline__ std::int64_t quotient(std::int64_t n, const divisor& d) {
  if (d.shift < 0) return n / d.by;
  const std::uint64_t small = static_cast<std::uint32_t>(n);
  return static_cast<std::uint32_t>(((small * d.factor) >> 32) + small) >> d.shift;
}

template <int Operands>
struct nest_place {
  std::int64_t of[Operands];
};
/// Where the operands have element i, counted in loop order.
template <int Operands>
__device__ __forceinline__ nest_place<Operands> place_of(const nest_loops<Operands>& l, std::int64_t i) {
  nest_place<Operands> at{};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    std::int64_t step = i;
    if (k < 3 && k + 1 < l.depth) {
      i = quotient(step, l.extent[k < 3 ? k : 0]);
      step -= i * l.extent[k < 3 ? k : 0].by;
    }
#pragma unroll
    for (int o = 0; o < Operands; ++o) at.of[o] += step * l.stride[o][k];
    if (k + 1 >= l.depth) break;
  }
  return at;
}

}  // namespace device
}  // namespace deepstruct::kernels
