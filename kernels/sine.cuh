// sin and cos of the device, exact to a rounding of float32 or two for every argument: CUDA's own ones keep arrays in
// local memory for great arguments.
#pragma once

#include <cmath>
#include <cstdint>

#include "simt.hpp"

namespace deepstruct::kernels::device {

/// x = quadrant·π/2 + rest, |rest| <= π/4; of the quadrant only the lowest two bits are right.
struct angle {
  double rest;
  int quadrant;
};

/// Of 2²⁵ <= x < ∞: with x = m·2ᵉ the bits of 2/π above 2^(2 − e) add whole turns, and 96 of those below are enough
/// (Payne and Hanek, "Radian reduction for trigonometric functions", SIGNUM 1983).
__device__ __forceinline__ angle angle_of_great(float x) {
  static constexpr std::uint32_t two_over_pi[] = {0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0,
                                                  0xDB629599, 0x3C439041, 0xFE5163AB};
  int e = 0;
  const std::uint64_t m = static_cast<std::uint32_t>(frexpf(x, &e) * 0x1p24f);
  const int skip = e - 26, at = skip / 32, shift = skip % 32;
  std::uint64_t word[3];
#pragma unroll
  for (int k = 0; k < 3; ++k)
    word[k] = ((std::uint64_t{two_over_pi[at + k]} << 32 | two_over_pi[at + k + 1]) << shift) >> 32;
  const std::uint64_t turn = (m * word[0] << 32) + m * word[1] + (m * word[2] >> 32);  // 2⁶⁴ is a whole one
  const std::uint64_t quadrant = (turn + (std::uint64_t{1} << 61)) >> 62;
  const std::int64_t rest = static_cast<std::int64_t>(turn - (quadrant << 62));
  return {static_cast<double>(rest) * (1.5707963267948966 * 0x1p-62), static_cast<int>(quadrant)};
}

__device__ __forceinline__ angle angle_of(float x) {
  const float size = fabsf(x);
  if (size <= 0.75f) return {double{x}, 0};
  if (size < 0x1p25f) {
    const double n = rint(double{x} * 0.63661977236758134);
    return {fma(-n, 6.123233995736766e-17, fma(-n, 1.5707963267948966, double{x})), static_cast<int>(n)};
  }
  if (!(size < INFINITY)) return {double{x} - double{x}, 0};  // NaN
  const angle a = angle_of_great(size);
  return x < 0 ? angle{-a.rest, -a.quadrant} : a;
}

/// sin of quadrant·π/2 + rest, by series in double.
__device__ __forceinline__ float sine_of(angle a) {
  const double z = a.rest * a.rest;
  double v = 0;
  if (a.quadrant % 2 == 0)
    v = a.rest *
        fma(z, fma(z, fma(z, fma(z, fma(z, -1.0 / 39916800, 1.0 / 362880), -1.0 / 5040), 1.0 / 120), -1.0 / 6), 1.0);
  else
    v = fma(z, fma(z, fma(z, fma(z, fma(z, -1.0 / 3628800, 1.0 / 40320), -1.0 / 720), 1.0 / 24), -0.5), 1.0);
  return static_cast<float>((a.quadrant & 2) != 0 ? -v : v);
}

__device__ __forceinline__ float sine(float x) { return sine_of(angle_of(x)); }
__device__ __forceinline__ float cosine(float x) {
  const angle a = angle_of(x);
  return sine_of({a.rest, a.quadrant + 1});
}

}  // namespace deepstruct::kernels::device
