// Random numbers on the device: the same bits as deepstruct::Draw (core/rng.hpp).
#pragma once

#include <cstdint>

#include <deepstruct/kernels/contract.hpp>

#include "runtime.hpp"

namespace deepstruct::kernels::device {

/// The draw of a kernel that runs now.
__device__ __forceinline__ Draw draw_of(const runtime::KernelDraw& d) {
  return d.first ? Draw{d.first->seed, d.first->number + d.draw.number} : d.draw;
}

struct random_words {
  std::uint32_t of[4];
};

/// Philox4x32-10 (Salmon et al., SC 2011).
__device__ __forceinline__ random_words philox(std::uint64_t key, std::uint64_t low, std::uint64_t high) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  random_words c{{static_cast<std::uint32_t>(low), static_cast<std::uint32_t>(low >> 32),
                  static_cast<std::uint32_t>(high), static_cast<std::uint32_t>(high >> 32)}};
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * c.of[0], b = std::uint64_t{0xCD9E8D57} * c.of[2];
    c = {{static_cast<std::uint32_t>(b >> 32) ^ c.of[1] ^ k0, static_cast<std::uint32_t>(b),
          static_cast<std::uint32_t>(a >> 32) ^ c.of[3] ^ k1, static_cast<std::uint32_t>(a)}};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

/// Words i to i + 3 of a draw: one block of Philox where i is a multiple of 4, else two.
__device__ __forceinline__ random_words four_words(const Draw& draw, std::uint64_t i) {
  const random_words a = philox(draw.seed, i / 4, draw.number);
  const unsigned from = static_cast<unsigned>(i % 4);
  if (from == 0) return a;
  const random_words b = philox(draw.seed, i / 4 + 1, draw.number);
  if (from == 1) return {{a.of[1], a.of[2], a.of[3], b.of[0]}};
  if (from == 2) return {{a.of[2], a.of[3], b.of[0], b.of[1]}};
  return {{a.of[3], b.of[0], b.of[1], b.of[2]}};
}

/// Uniform in [0, 1), a multiple of 2⁻²⁴.
__device__ __forceinline__ float uniform_of(std::uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

}  // namespace deepstruct::kernels::device
