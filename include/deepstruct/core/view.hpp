// Views: pointer, extents and strides, trivially copyable; all that a kernel sees of tensors and masks.
#pragma once

#include <cstdint>
#include <type_traits>

namespace deepstruct {

/// A matrix whose first index is innermost: entry (i0, i1) is data[i1 * ld + i0]. i0 runs over samples, or rows of a
/// weight.
template <class T>
struct matrix_view {
  T* data = nullptr;
  std::int64_t rows = 0;  ///< extent 0, innermost
  std::int64_t cols = 0;  ///< extent 1
  std::int64_t ld = 0;

  T* col(std::int64_t i1) const { return data + i1 * ld; }
  operator matrix_view<const T>() const requires(!std::is_const_v<T>) { return {data, rows, cols, ld}; }
};

/// A matrix with any two strides: entry (i0, i1) is data[i0 * s0 + i1 * s1].
template <class T>
struct strided_view {
  T* data = nullptr;
  std::int64_t rows = 0, cols = 0;
  std::int64_t s0 = 0, s1 = 0;

  strided_view() = default;
  strided_view(T* data_, std::int64_t rows_, std::int64_t cols_, std::int64_t s0_, std::int64_t s1_)
      : data(data_), rows(rows_), cols(cols_), s0(s0_), s1(s1_) {}
  strided_view(matrix_view<T> m) : strided_view(m.data, m.rows, m.cols, 1, m.ld) {}
  strided_view(matrix_view<std::remove_const_t<T>> m) requires std::is_const_v<T>
      : strided_view(m.data, m.rows, m.cols, 1, m.ld) {}

  strided_view transposed() const { return {data, cols, rows, s1, s0}; }
};

/// The pattern of a sparse matrix [rows, cols]: entries start[r] … start[r + 1] of row r lie in columns col[k],
/// ascending. `edge` maps position k to the edge id (CSR rank); null means k itself.
struct csr_view {
  const std::int32_t* start = nullptr;
  const std::int32_t* col = nullptr;
  const std::int32_t* edge = nullptr;
  std::int64_t rows = 0, cols = 0, nnz = 0;
};

/// Up to four rows of one block of columns whose edges are walked together.
struct row_group {
  std::int32_t row[4];    // the last one again where there are fewer
  std::int32_t first[4];  // position of each row's first edge in this block, in CSR order
  std::int32_t col = 0;   // where the group's columns start in plan_view::col
  std::uint16_t rows = 0;
  std::uint16_t common = 0;  // edges every row has: column 4·k + j belongs to edge k of row j
  std::uint16_t rest[4];     // further edges of row j, one row after the other
};

/// The order in which kernels walk a pattern with many samples: panels of rows, in them blocks of columns, in them
/// groups of rows. Groups first_group[panel·blocks + block] to the next one belong to a block; its columns count from
/// block·block_cols. The first block names every row, the others only rows with edges in them.
struct plan_view {
  const row_group* group = nullptr;
  const std::int32_t* first_group = nullptr;
  const std::uint16_t* col = nullptr;
  std::int64_t panels = 0, blocks = 0, block_cols = 0;
};

/// A strided loop nest: up to 4 extents, innermost first, with one stride per operand and extent.
template <int Operands>
struct nest {
  int depth = 0;
  std::int64_t extent[4] = {1, 1, 1, 1};
  std::int64_t stride[Operands][4] = {};
};

}  // namespace deepstruct
