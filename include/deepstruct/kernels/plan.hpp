// Plan: the blocked form of a pattern, made once per mask in linear time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../core/view.hpp"

namespace deepstruct::kernels {

/// Owns what a plan_view shows: 2 bytes an edge (6 of a transposed pattern) and 8 for every row of every block.
class Plan {
 public:
  /// Rows of a panel: what one thread takes. Wide panels read a block of columns, and of a transposed pattern the
  /// values, less often: (64, 4096, 1024) backward, density 0.1, 42 % of the peak with 64 rows and 57 % with 256.
  /// Eight panels are enough to keep threads evenly busy.
  static std::int64_t panel_of(std::int64_t rows) { return std::clamp<std::int64_t>(rows / 8 / 64 * 64, 64, 256); }
  /// Most columns of a block, so that the edges of a row in it fit a buffer on the stack.
  static constexpr std::int64_t most_cols = 2048;

  /// Columns of a block. 128 columns of 64 samples are the 32 KiB of an L1 cache; a thinner pattern takes wider blocks,
  /// because loading and storing the sums of a row costs as much as 8 of its edges. (128, 1024, 1024), share of the
  /// multiply-add peak, forward with 128 / 192 / 256 / all columns in a block: density 0.5: 72 / 65 / 55 / 46 %, 0.1:
  /// 63 / 63 / 60 / 46 %, 0.05: 54 / 56 / 56 / 47 %, 0.01: 29 / 32 / 36 / 44 %. The backward pass has twice as much to
  /// do with a loaded column and prefers 256 from density 0.3 down.
  static std::int64_t block_of(csr_view m) {
    const double density = static_cast<double>(m.nnz) / static_cast<double>(std::max<std::int64_t>(1, m.rows * m.cols));
    const bool transposed = m.edge != nullptr;
    const std::int64_t wanted = density < 0.03                ? most_cols
                                : density < 0.08              ? 256
                                : density < 0.15              ? (transposed ? 256 : 192)
                                : density < 0.3 && transposed ? 256
                                                              : 128;
    return std::max<std::int64_t>(1, std::min(wanted, m.cols));
  }

  explicit Plan(csr_view m)
      : panel_rows_(panel_of(m.rows)),
        panels_((m.rows + panel_rows_ - 1) / panel_rows_),
        block_cols_(block_of(m)),
        blocks_(std::max<std::int64_t>(1, (m.cols + block_cols_ - 1) / block_cols_)),
        rows_(m.rows) {
    row_.resize(static_cast<std::size_t>(rows_ * blocks_));
    first_.resize(static_cast<std::size_t>(panels_ * blocks_) + 1);
    col_.resize(static_cast<std::size_t>(m.nnz));
    if (m.edge) edge_.resize(static_cast<std::size_t>(m.nnz));
    std::vector<std::int32_t> next(m.start, m.start + m.rows);  // first edge of every row not yet planned
    std::size_t row = 0, block = 0;
    std::int32_t at = 0;
    for (std::int64_t panel = 0; panel < rows_; panel += panel_rows_)
      for (std::int64_t begin = 0; begin == 0 || begin < m.cols; begin += block_cols_) {
        first_[block++] = at;
        for (std::int64_t r = panel; r < std::min(rows_, panel + panel_rows_); ++r) {
          const std::int32_t first = next[r];
          for (; next[r] < m.start[r + 1] && m.col[next[r]] < begin + block_cols_; ++next[r], ++at) {
            col_[at] = static_cast<std::uint16_t>(m.col[next[r]] - begin);
            if (m.edge) edge_[at] = m.edge[next[r]];
          }
          row_[row++] = {first, next[r] - first};
        }
      }
    first_[block] = at;
  }

  plan_view view() const {
    return {row_.data(), first_.data(), col_.data(), edge_.empty() ? nullptr : edge_.data(), rows_, panel_rows_,
            panels_,     blocks_,       block_cols_};
  }

 private:
  std::int64_t panel_rows_, panels_, block_cols_, blocks_, rows_;
  std::vector<plan_row> row_;
  std::vector<std::int32_t> first_;
  std::vector<std::uint16_t> col_;
  std::vector<std::int32_t> edge_;
};

}  // namespace deepstruct::kernels
