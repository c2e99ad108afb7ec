// What differs between two masks.
#pragma once

#include "../core/mask.hpp"

namespace deepstruct {

/// How many edges two masks A and B, or all masks of two models, have in common.
struct MaskDiff {
  std::int64_t added = 0;    ///< |B \ A|
  std::int64_t removed = 0;  ///< |A \ B|
  std::int64_t kept = 0;     ///< |A ∩ B|

  std::int64_t before() const { return kept + removed; }  ///< |A|
  std::int64_t after() const { return kept + added; }     ///< |B|
  /// True if both have the same edges.
  bool empty() const { return added == 0 && removed == 0; }
  /// |A ∩ B| / |A ∪ B| (Jaccard 1901); 1 if neither has an edge.
  double jaccard() const { return share(kept + added + removed); }
  /// |A ∩ B| / min(|A|, |B|), 1 where one is a part of the other (Szymkiewicz 1934, Simpson 1943); 1 if one has no
  /// edge.
  double overlap() const { return share(kept + std::min(added, removed)); }

  /// The counts of both, as of several layers together.
  MaskDiff& operator+=(const MaskDiff& more) {
    added += more.added;
    removed += more.removed;
    kept += more.kept;
    return *this;
  }
  friend bool operator==(const MaskDiff&, const MaskDiff&) = default;

 private:
  double share(std::int64_t of) const { return of == 0 ? 1 : static_cast<double>(kept) / static_cast<double>(of); }
};

namespace detail {

/// Calls f(row, column, edge in a or −1, edge in b or −1) for the edges of a ∪ b, row by row. Full masks are not listed
/// for it. O(rows + edges of both); needs equal shapes.
template <class F>
void merge_edges(const Mask& a, const Mask& b, F&& f) {
  struct Cursor {  // the edges of a row, one after the other
    const std::int32_t *start = nullptr, *col = nullptr;
    std::int64_t cols;
    std::int64_t edge = 0, end = 0, row = 0;
    explicit Cursor(const Mask& m) : cols(m.cols()) {
      if (m.is_full()) return;
      start = m.row_start().data();
      col = m.col().data();
    }
    void enter(std::int64_t r) {
      row = r;
      end = start ? start[r + 1] : (r + 1) * cols;
    }
    std::int64_t column() const { return edge == end ? cols : start ? col[edge] : edge - row * cols; }
    std::int32_t take(std::int64_t c) { return column() == c ? static_cast<std::int32_t>(edge++) : -1; }
  } in_a(a), in_b(b);
  for (std::int64_t r = 0; r < a.rows(); ++r) {
    in_a.enter(r);
    in_b.enter(r);
    for (std::int64_t c; (c = std::min(in_a.column(), in_b.column())) < a.cols();) {
      const std::int32_t ea = in_a.take(c), eb = in_b.take(c);
      f(r, c, ea, eb);
    }
  }
}

}  // namespace detail

/// Edges of b that a lacks, the other way round, and those of both. O(rows + edges). Throws on different shapes.
inline MaskDiff diff(const Mask& a, const Mask& b) {
  check(a.shape() == b.shape(), "diff: masks of different shapes (", a.shape(), " and ", b.shape(), ")");
  MaskDiff d;
  detail::merge_edges(a, b, [&](std::int64_t, std::int64_t, std::int32_t ea, std::int32_t eb) {
    d.added += ea < 0;
    d.removed += eb < 0;
    d.kept += ea >= 0 && eb >= 0;
  });
  return d;
}

}  // namespace deepstruct
