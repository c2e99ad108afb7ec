// What the random generators draw with: a reader of random words, geometric skips, a set of edges.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "../core/rng.hpp"
#include "generators.hpp"

namespace deepstruct::detail {

inline void check_probability(const char* op, double p) {
  check(p >= 0 && p <= 1, op, ": needs a probability in [0, 1] (", p, ")");
}

/// Reads a draw word after word.
class WordReader {
 public:
  explicit WordReader(const Draw& draw) : words_(draw) {}

  std::uint32_t word() { return words_.word(next_++); }
  /// Uniform in [0, 1), a multiple of 2⁻⁵³.
  double uniform() {
    const std::uint64_t high = word(), low = word();
    return static_cast<double>(high << 21 | low >> 11) * 0x1p-53;
  }
  /// Uniform integer in [0, n), 1 ≤ n < 2³², without bias (Lemire, "Fast random integer generation in an interval",
  /// 2019).
  std::int64_t below(std::int64_t n) {
    const auto range = static_cast<std::uint32_t>(n);
    std::uint64_t product = std::uint64_t{word()} * range;
    if (static_cast<std::uint32_t>(product) < range) {
      const std::uint32_t unfair = (0 - range) % range;
      while (static_cast<std::uint32_t>(product) < unfair) product = std::uint64_t{word()} * range;
    }
    return static_cast<std::int64_t>(product >> 32);
  }
  /// Every order equally likely (Fisher–Yates).
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i)
      std::swap(items[i - 1], items[static_cast<std::size_t>(below(static_cast<std::int64_t>(i)))]);
  }

 private:
  DrawInOrder words_;
  std::uint64_t next_ = 0;
};

/// ln(1 − p) for 0 ≤ p ≤ 1/4, exact to rounding also where 1 − p is not: −2·artanh(p/(2 − p)) as a series.
inline double exact_log_1m(double p) {
  const double s = p / (2 - p), s2 = s * s;
  double sum = 1.0 / 19;
  for (int k = 17; k >= 1; k -= 2) sum = std::fma(sum, s2, 1.0 / k);
  return -2 * s * sum;
}

/// Calls visit(i) for each i of 0 … count − 1 with probability p, in ascending order.
///
/// Rare ones are found by the lengths of the gaps between them, which are geometric, so O(visits) (Batagelj & Brandes,
/// "Efficient generation of large random networks", 2005).
template <class Visit>
void visit_randomly(WordReader& words, std::int64_t count, double p, Visit&& visit) {
  if (p == 0) return;
  if (p > 0.25) {  // cheaper than a logarithm for each
    for (std::int64_t i = 0; i < count; ++i)
      if (words.uniform() < p) visit(i);
    return;
  }
  const double log_miss = exact_log_1m(p);
  for (std::int64_t i = 0; i < count; ++i) {
    const double gap = std::floor(exact_log(1 - words.uniform()) / log_miss);
    if (!(gap < static_cast<double>(count - i))) return;  // infinite and 0/0 for the tiniest p, too
    i += static_cast<std::int64_t>(gap);
    if (i < count) visit(i);
  }
}

/// Adds each of the edges u – v, first ≤ u < v < last, with probability p, in lexicographic order.
/// O(last − first + edges).
inline void add_triangle(WordReader& words, std::int64_t first, std::int64_t last, double p, std::vector<Edge>& edges) {
  const std::int64_t n = last - first;
  std::int64_t row = 0, row_start = 0, row_end = n - 1;
  visit_randomly(words, pair_count(n), p, [&](std::int64_t i) {
    while (i >= row_end) {
      ++row;
      row_start = row_end;
      row_end += n - 1 - row;
    }
    edges.push_back(make_edge(first + row, first + row + 1 + i - row_start));
  });
}

/// Adds each of the edges u – v, u in first … last − 1 and v in from … to − 1, with probability p, in lexicographic
/// order. O(edges).
inline void add_rectangle(WordReader& words, std::int64_t first, std::int64_t last, std::int64_t from, std::int64_t to,
                          double p, std::vector<Edge>& edges) {
  const std::int64_t width = to - from;
  visit_randomly(words, (last - first) * width, p,
                 [&](std::int64_t i) { edges.push_back(make_edge(first + i / width, from + i % width)); });
}

/// Room for about p·pairs edges; throws if these are too many for a graph.
inline std::vector<Edge> room_for_edges(const char* op, double pairs, double p) {
  const double expected = pairs * p;
  check(expected < static_cast<double>(graph_limit), op, ": too many edges (about ", expected, ")");
  std::vector<Edge> edges;
  edges.reserve(static_cast<std::size_t>(expected + 4 * std::sqrt(expected)));
  return edges;
}

/// A set of undirected edges in one open-addressing table of 16 to 32 bytes an edge.
class EdgeSet {
 public:
  explicit EdgeSet(std::int64_t expected = 0)
      : table_(std::bit_ceil(2 * static_cast<std::size_t>(std::max<std::int64_t>(expected, 8))), empty) {}

  bool contains(std::int64_t u, std::int64_t v) const {
    const std::uint64_t key = key_of(u, v);
    return table_[place_of(key)] == key;
  }
  /// False if it was there already.
  bool insert(std::int64_t u, std::int64_t v) {
    const std::uint64_t key = key_of(u, v);
    const std::size_t place = place_of(key);
    if (table_[place] == key) return false;
    table_[place] = key;
    if (2 * ++count_ > table_.size()) grow();
    return true;
  }

 private:
  static constexpr std::uint64_t empty = ~std::uint64_t{0};
  static std::uint64_t key_of(std::int64_t u, std::int64_t v) {
    return static_cast<std::uint64_t>(std::min(u, v)) << 32 | static_cast<std::uint64_t>(std::max(u, v));
  }
  /// Where the key is, or the free place where it belongs.
  std::size_t place_of(std::uint64_t key) const {
    const std::size_t mask = table_.size() - 1;
    std::uint64_t mixed = key * 0x9E3779B97F4A7C15;
    mixed = (mixed ^ mixed >> 32) * 0x9E3779B97F4A7C15;
    auto place = static_cast<std::size_t>(mixed >> 32) & mask;
    while (table_[place] != empty && table_[place] != key) place = (place + 1) & mask;
    return place;
  }
  void grow() {
    std::vector<std::uint64_t> old(2 * table_.size(), empty);
    old.swap(table_);
    for (const std::uint64_t key : old)
      if (key != empty) table_[place_of(key)] = key;
  }

  std::vector<std::uint64_t> table_;
  std::size_t count_ = 0;
};

}  // namespace deepstruct::detail
