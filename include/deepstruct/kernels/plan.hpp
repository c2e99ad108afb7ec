// Plan: the blocked form of a pattern, made once per mask in linear time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "../core/view.hpp"

namespace deepstruct::kernels {

/// Owns what a plan_view shows: 2 bytes an edge and some 1 to 10 bytes more for its share of a group.
class Plan {
 public:
  /// Rows of a panel: what one thread takes. Enough to use every column of a block about 6 times at density 0.1 (128
  /// rows are not faster), few enough that two threads share 300 rows evenly.
  static constexpr std::int64_t panel_rows = 64;

  /// Columns of a block: 128 columns of 64 samples are the 32 KiB of an L1 cache. A pattern so thin that a row has
  /// fewer than 3 edges in such a block is walked in one pass: loading and storing the sums would cost more than the
  /// misses.
  static std::int64_t block_of(std::int64_t rows, std::int64_t cols, std::int64_t nnz) {
    const double density = static_cast<double>(nnz) / static_cast<double>(std::max<std::int64_t>(1, rows * cols));
    const std::int64_t wanted = density < 0.03 ? 32768 : density < 0.15 ? 192 : 128;
    return std::max<std::int64_t>(1, std::min(wanted, cols));
  }

  explicit Plan(csr_view m)
      : panels_((m.rows + panel_rows - 1) / panel_rows),
        block_cols_(block_of(m.rows, m.cols, m.nnz)),
        blocks_(std::max<std::int64_t>(1, (m.cols + block_cols_ - 1) / block_cols_)),
        first_group_(static_cast<std::size_t>(panels_ * blocks_) + 1),
        col_(static_cast<std::size_t>(m.nnz)) {
    std::vector<std::int32_t> next(m.start, m.start + m.rows);  // first edge of every row not yet planned
    std::uint16_t* col = col_.data();
    for (std::int64_t k = 0; k < panels_ * blocks_; ++k) {
      col = add_block(m, next, k / blocks_ * panel_rows, k % blocks_, col);
      first_group_[k + 1] = static_cast<std::int32_t>(groups_.size());
    }
  }

  plan_view view() const { return {groups_.data(), first_group_.data(), col_.data(), panels_, blocks_, block_cols_}; }

 private:
  struct Row {
    std::int32_t row, first, edges;
  };

  std::uint16_t* add_block(csr_view m, std::vector<std::int32_t>& next, std::int64_t begin, std::int64_t block,
                           std::uint16_t* col) {
    Row rows[panel_rows], sorted[panel_rows];
    std::int64_t n = 0;
    std::int32_t most = 0;
    const std::int64_t last_col = (block + 1) * block_cols_;
    for (std::int64_t r = begin; r < std::min(m.rows, begin + panel_rows); ++r) {
      const std::int32_t first = next[r];
      while (next[r] < m.start[r + 1] && m.col[next[r]] < last_col) ++next[r];
      if (next[r] > first || block == 0) rows[n++] = {static_cast<std::int32_t>(r), first, next[r] - first};
      most = std::max(most, next[r] - first);
    }
    // Rows of equal length side by side, longest first (a counting sort): little rest, and loops whose ends are
    // predicted.
    std::vector<std::int32_t> place(static_cast<std::size_t>(most) + 1);
    for (std::int64_t k = 0; k < n; ++k) ++place[most - rows[k].edges];
    std::int32_t sum = 0;
    for (std::int32_t& p : place) sum += std::exchange(p, sum);
    for (std::int64_t k = 0; k < n; ++k) sorted[place[most - rows[k].edges]++] = rows[k];
    for (std::int64_t k = 0; k < n; k += 4) {
      const std::int64_t there = std::min<std::int64_t>(4, n - k);
      row_group& g = groups_.emplace_back();
      g.col = static_cast<std::int32_t>(col - col_.data());
      g.rows = static_cast<std::uint16_t>(there);
      g.common = there == 4 ? static_cast<std::uint16_t>(sorted[k + 3].edges) : std::uint16_t{0};
      for (std::int64_t j = 0; j < 4; ++j) {
        const Row& row = sorted[k + std::min(j, there - 1)];
        g.row[j] = row.row;
        g.first[j] = row.first;
        g.rest[j] = static_cast<std::uint16_t>(j < there ? row.edges - g.common : 0);
        for (std::int32_t e = 0; e < g.common; ++e)
          col[4 * e + j] = static_cast<std::uint16_t>(m.col[row.first + e] - block * block_cols_);
      }
      col += 4 * g.common;
      for (std::int64_t j = 0; j < there; ++j)
        for (std::int32_t e = g.common; e < g.common + g.rest[j]; ++e)
          *col++ = static_cast<std::uint16_t>(m.col[g.first[j] + e] - block * block_cols_);
    }
    return col;
  }

  std::int64_t panels_, block_cols_, blocks_;
  std::vector<row_group> groups_;
  std::vector<std::int32_t> first_group_;
  std::vector<std::uint16_t> col_;
};

}  // namespace deepstruct::kernels
