// One sample through a sparse layer whose weights lie in the order of the kernel: slices of 16 rows (SELL-C-σ, Kreutzer
// et al., SIAM J. Sci. Comput. 36, 2014) by blocks of 32 columns.
#pragma once

#include <algorithm>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "../core/buffer.hpp"
#include "sparse.hpp"

#include "../simd/avx512_begin.hpp"
#include "sliced.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

/// Owns what a sliced_view shows; a copy of the weights, so it is made when they no longer change.
class Sliced {
 public:
  Sliced() = default;
  /// Of row-major edges (m.edge is null) and their values.
  Sliced(csr_view m, const float* values) : rows_(m.rows), cols_(m.cols), blocks_((m.cols + 31) / 32), row_(order(m)) {
    step_.push_back(0), pack_.push_back(0), slice_.push_back(0);
    std::vector<std::int32_t> next(m.start, m.start + m.rows);  // first edge of every row not yet placed
    for (std::int64_t first = 0; first < m.rows; first += sliced_rows) {
      const std::span part(row_.data() + first, static_cast<std::size_t>(std::min(sliced_rows, m.rows - first)));
      for (std::int64_t block = 0; block < blocks_; ++block) place_block(m, values, part, block, next);
      step_.push_back(steps_), pack_.push_back(packs_), slice_.push_back(static_cast<std::int64_t>(group_.size()));
    }
  }

  /// True if this is faster than walking the pattern edge by edge: 3.3 cycles a step and 5 a slice against 1.27 an edge
  /// and 6 a row.
  bool pays(csr_view m) const {
    return 3.3 * static_cast<double>(steps_) + 5 * static_cast<double>(group_.size()) <
           1.27 * static_cast<double>(m.nnz) + 6 * static_cast<double>(m.rows);
  }
  bool empty() const { return rows_ == 0; }
  sliced_view view() const {
    return {values_.data(), col_.data(),  row_.data(),   group_.data(), run_.data(), run_end_.data(),
            step_.data(),   pack_.data(), slice_.data(), rows_,         cols_,       blocks_};
  }

 private:
  static constexpr std::int64_t lanes = 16;

  /// The rows in an order in which 16 that follow each other are alike: a slice is as long as its longest row. Each row
  /// is chosen among the next 128 as the one that lengthens the slices of all blocks least (1024 x 1024 at random,
  /// density 0.1: 1.82 steps an edge instead of 2.01).
  std::vector<std::int32_t> order(csr_view m) const {
    std::vector<std::uint8_t> edges(static_cast<std::size_t>(m.rows * blocks_));  // of every row in every block
    for (std::int64_t r = 0; r < m.rows; ++r)
      for (std::int32_t k = m.start[r]; k < m.start[r + 1]; ++k) ++edges[r * blocks_ + m.col[k] / 32];
    std::vector<std::int32_t> left(static_cast<std::size_t>(m.rows)), order;
    std::iota(left.begin(), left.end(), 0);
    std::vector<std::uint8_t> longest(static_cast<std::size_t>(blocks_));
    for (std::size_t begin = 0; begin < left.size(); ++begin) {
      if (order.size() % lanes == 0) std::fill(longest.begin(), longest.end(), std::uint8_t{0});
      std::size_t best = begin;
      std::int64_t least = std::numeric_limits<std::int64_t>::max();
      for (std::size_t k = begin; k < std::min(left.size(), begin + 128) && order.size() % lanes > 0; ++k) {
        const std::uint8_t* row = edges.data() + left[k] * blocks_;
        std::int64_t length = 0;
        for (std::int64_t b = 0; b < blocks_; ++b) length += std::max(row[b], longest[b]);
        if (length < least) least = length, best = k;
      }
      const std::int32_t r = left[best];
      for (std::int64_t b = 0; b < blocks_; ++b) longest[b] = std::max(longest[b], edges[r * blocks_ + b]);
      order.push_back(r);
      std::copy_backward(left.begin() + begin, left.begin() + best, left.begin() + best + 1);
    }
    return order;
  }

  /// The edges of a part's rows in a block of columns. Slices of equal length follow each other: branches that end one
  /// are foreseen then.
  void place_block(csr_view m, const float* values, std::span<const std::int32_t> rows, std::int64_t block,
                   std::vector<std::int32_t>& next) {
    const auto row_end = [&](std::int32_t r) {
      const std::int32_t* end = m.col + m.start[r + 1];
      return static_cast<std::int32_t>(std::lower_bound(m.col + next[r], end, (block + 1) * 32) - m.col);
    };
    std::vector<std::pair<std::int32_t, std::uint16_t>> slices;  // steps, number
    for (std::size_t g = 0; g * lanes < rows.size(); ++g) {
      std::int32_t steps = 0;
      for (std::int32_t r : slice_of(rows, g)) steps = std::max(steps, row_end(r) - next[r]);
      if (steps > 0) slices.emplace_back(steps, static_cast<std::uint16_t>(g));
    }
    std::sort(slices.begin(), slices.end());
    for (std::size_t k = 0; k < slices.size(); ++k) {
      const auto [steps, g] = slices[k];
      if (k == 0 || slices[k - 1].first != steps) run_.push_back({steps, 0});
      ++run_.back().slices;
      group_.push_back(g);
      const std::int64_t packs = (steps + sliced_pack - 1) / sliced_pack;
      values_.resize(static_cast<std::size_t>((steps_ + steps) * lanes));
      col_.resize(static_cast<std::size_t>((packs_ + packs) * lanes));
      std::int64_t lane = 0;
      for (std::int32_t r : slice_of(rows, g)) {
        const std::int32_t end = row_end(r), begin = next[r];
        for (std::int32_t e = begin; e < end; ++e) {
          const std::int32_t at = e - begin;
          values_[static_cast<std::size_t>((steps_ + at) * lanes + lane)] = values[e];
          col_[static_cast<std::size_t>((packs_ + at / sliced_pack) * lanes + lane)] |=
              (m.col[e] - static_cast<std::int32_t>(block * 32)) << 5 * (at % sliced_pack);
        }
        next[r] = end;
        ++lane;
      }
      steps_ += steps, packs_ += packs;
    }
    run_end_.push_back(static_cast<std::int32_t>(run_.size()));
  }
  static std::span<const std::int32_t> slice_of(std::span<const std::int32_t> rows, std::size_t g) {
    return rows.subspan(g * lanes, std::min<std::size_t>(lanes, rows.size() - g * lanes));
  }

  std::int64_t rows_ = 0, cols_ = 0, blocks_ = 0, steps_ = 0, packs_ = 0;
  pool_vector<float> values_;  // from the pool: vectors do not cross cache lines, which costs a tenth of the time
  pool_vector<std::int32_t> col_;
  std::vector<std::int32_t> row_;
  std::vector<std::uint16_t> group_;
  std::vector<sliced_run> run_;
  std::vector<std::int32_t> run_end_;
  std::vector<std::int64_t> step_, pack_, slice_;
};

inline bool sliced_linear(cpu, sliced_view s, const float* x, const float* bias, bool relu, float* y) {
  const std::int64_t parts = (s.rows + sliced_rows - 1) / sliced_rows;
  bool finite = true;
  // A part that is less than some 3 µs of work is not worth another thread.
  parallel_blocks(parts, s.step[parts] / std::max<std::int64_t>(1, parts) < 3500 ? parts : 1,
                  [&](std::int64_t first, std::int64_t last) {
                    for (std::int64_t part = first; part < last; ++part) {
                      const bool all = avx512::sliced_part(s, part, x, bias, relu, y);
                      if (part == 0) finite = all;  // each part reads all of x
                    }
                  });
  return finite;
}

}  // namespace deepstruct::kernels
