// Ascending positions in about a byte each.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "../core/error.hpp"

namespace deepstruct {

namespace detail {

/// Ascending positions as gaps of 7 bits a byte, the lowest first (LEB128): about a byte per position.
inline std::vector<std::uint8_t> packed_positions(std::span<const std::int64_t> ascending) {
  std::vector<std::uint8_t> bytes;
  std::int64_t before = -1;
  for (const std::int64_t p : ascending) {
    auto gap = static_cast<std::uint64_t>(p - before - 1);
    for (; gap >= 128; gap >>= 7) bytes.push_back(static_cast<std::uint8_t>(gap | 128));
    bytes.push_back(static_cast<std::uint8_t>(gap));
    before = p;
  }
  return bytes;
}
/// Calls f(position) in ascending order. Throws unless the bytes are positions below `end`, none of them twice.
template <class F>
void each_position(std::span<const std::uint8_t> bytes, std::int64_t end, F&& f) {
  std::int64_t before = -1;
  for (std::size_t k = 0; k < bytes.size();) {
    std::uint64_t gap = 0;
    for (int shift = 0;; shift += 7) {
      check(k < bytes.size() && shift < 63, "PruneHistory: changes are damaged (byte ", k, " of ", bytes.size(), ")");
      gap |= std::uint64_t{bytes[k] & 127u} << shift;
      if (bytes[k++] < 128) break;
    }
    check(gap < static_cast<std::uint64_t>(end - before - 1), "PruneHistory: a change is outside its layer (",
          static_cast<std::uint64_t>(before) + gap + 1, " of ", end, ")");
    before += static_cast<std::int64_t>(gap) + 1;
    f(before);
  }
}

}  // namespace detail

}  // namespace deepstruct
