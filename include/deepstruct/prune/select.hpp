// Selection: the value at a rank, or where a running sum passes a bound, over many arrays at once without sorting.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "../core/buffer.hpp"
#include "../core/parallel.hpp"

namespace deepstruct {

namespace detail {

/// Arrays seen as one multiset.
using Parts = std::span<const std::span<const float>>;

inline std::int64_t size_of(Parts parts) {
  std::int64_t n = 0;
  for (std::span<const float> part : parts) n += static_cast<std::int64_t>(part.size());
  return n;
}

/// Unsigned order of the result = order of the floats; −0 is 0. NaN must not occur.
inline std::uint32_t ordered(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x + 0.0f);
  return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}
/// Pieces of the parts, the same for any number of threads.
inline std::vector<std::span<const float>> pieces_of(Parts parts) {
  constexpr std::size_t most = 1 << 17;
  std::vector<std::span<const float>> pieces;
  for (std::span<const float> part : parts)
    for (std::size_t k = 0; k < part.size(); k += most)
      pieces.push_back(part.subspan(k, std::min(most, part.size() - k)));
  return pieces;
}

/// How many values have these 11 bits in their key, and what sum.
struct Histogram {
  static constexpr std::uint32_t bins = 1u << 11;
  std::vector<std::int64_t> count;
  std::vector<double> sum;
};
template <bool Sums>
Histogram histogram(Parts pieces, int shift) {
  std::vector<std::uint32_t> count(pieces.size() * Histogram::bins);
  std::vector<double> sum(Sums ? count.size() : 0);
  parallel_for(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t t) {
    // Neighbours count in different tables, as equal ones would wait for each other.
    std::array<std::array<std::uint32_t, Histogram::bins>, 4> table{};
    const std::span<const float> piece = pieces[static_cast<std::size_t>(t)];
    for (std::size_t k = 0; k < piece.size(); ++k) {
      const std::uint32_t bin = ordered(piece[k]) >> shift & (Histogram::bins - 1);
      ++table[k % 4][bin];
      if constexpr (Sums) sum[static_cast<std::size_t>(t) * Histogram::bins + bin] += double{piece[k]};
    }
    for (std::uint32_t bin = 0; bin < Histogram::bins; ++bin)
      count[static_cast<std::size_t>(t) * Histogram::bins + bin] =
          table[0][bin] + table[1][bin] + table[2][bin] + table[3][bin];
  });
  Histogram all{std::vector<std::int64_t>(Histogram::bins), std::vector<double>(Histogram::bins)};
  for (std::size_t k = 0; k < count.size(); ++k) {
    all.count[k % Histogram::bins] += count[k];
    if constexpr (Sums) all.sum[k % Histogram::bins] += sum[k];
  }
  return all;
}

/// The values of the pieces whose 11 bits are these, piece by piece.
struct Candidates {
  std::vector<Buffer<float>> values;
  std::vector<std::span<const float>> pieces;

  Candidates(Parts from, int shift, std::uint32_t bin) : values(from.size()), pieces(from.size()) {
    parallel_for(static_cast<std::int64_t>(from.size()), [&](std::int64_t t) {
      const auto at = static_cast<std::size_t>(t);
      values[at] = Buffer<float>(from[at].size() + 1);
      float* to = values[at].data();
      std::size_t n = 0;
      for (float x : from[at]) {
        to[n] = x;  // always written: a branch here could not be predicted
        n += (ordered(x) >> shift & (Histogram::bins - 1)) == bin ? 1 : 0;
      }
      pieces[at] = {to, n};
    });
  }
};

/// A value, how often it occurs, what comes before it when all are sorted ascending, and the next greater value.
struct Selected {
  float value = 0;
  std::int64_t equal = 0, below = 0;
  double sum_below = 0;
  float next = std::numeric_limits<float>::infinity();
};

/// The least value v at which exceeds(number of values <= v, their sum) holds; it must stay true once it is, and hold
/// for all values together (the greatest is taken where rounding denies it). Radix selection in passes of 11 bits: all
/// values once, then those that share their highest bits with v (1.8 million values, one thread: 3.6 ms,
/// std::nth_element 22 ms). Sums are only made where asked for.
template <bool Sums, class Exceeds>
Selected select(Parts parts, Exceeds&& exceeds) {
  Selected at;
  const std::vector<std::span<const float>> all = pieces_of(parts);
  std::vector<Candidates> left;
  for (int shift : {21, 10, 0}) {
    const Parts pieces = left.empty() ? Parts(all) : Parts(left.back().pieces);
    const Histogram h = histogram<Sums>(pieces, shift);
    Selected before = at;
    std::uint32_t chosen = 0;
    for (std::uint32_t bin = 0; bin < Histogram::bins; ++bin) {
      if (h.count[bin] == 0) continue;
      before = at;
      before.equal = h.count[bin];
      chosen = bin;
      at.below += h.count[bin];
      at.sum_below += h.sum[bin];
      if (exceeds(at.below, at.sum_below)) break;
    }
    at = before;
    left.emplace_back(pieces, shift, chosen);
  }
  for (std::span<const float> piece : left.back().pieces)
    if (!piece.empty()) at.value = piece.front();
  // The next value shares its highest bits with this one, most likely.
  for (const Parts pieces : {Parts(left[1].pieces), Parts(left[0].pieces), Parts(all)}) {
    for (std::span<const float> piece : pieces)
      for (float x : piece) at.next = x > at.value && x < at.next ? x : at.next;
    if (at.next < std::numeric_limits<float>::infinity()) break;
  }
  return at;
}

/// The value at position k, from 0, of all values in ascending order.
inline Selected nth_smallest(Parts parts, std::int64_t k) {
  return select<false>(parts, [k](std::int64_t n, double) { return n > k; });
}

}  // namespace detail

}  // namespace deepstruct
