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

/// One row in one block of columns: where its edges begin in CSR order, and how many there are.
struct plan_row {
  std::int32_t first, edges;
};

/// The order in which kernels walk a pattern with many samples: panels of rows, in them blocks of columns, in them
/// the rows, in them the edges. `col` lists columns in this order, counted from the block's first one, so that they are
/// one stream; `edge` lists edge ids and is null where the pattern's own order is that of the ids. Edges
/// first[panel·blocks + block] to the next one belong to a block; its rows follow those of the block before.
struct plan_view {
  const plan_row* row = nullptr;
  const std::int32_t* first = nullptr;
  const std::uint16_t* col = nullptr;
  const std::int32_t* edge = nullptr;
  std::int64_t rows = 0, panel_rows = 0, panels = 0, blocks = 0, block_cols = 0;
};

/// Slices of equal length that follow each other.
struct sliced_run {
  std::int32_t steps, slices;
};
/// Steps whose columns share one word: 5 bits each.
inline constexpr std::int32_t sliced_pack = 6;
/// Rows of a part: what one thread takes, its sums on the stack.
inline constexpr std::int64_t sliced_rows = 512;

/// A sparse matrix with its values for one sample: parts of rows, in them blocks of 32 columns, in them slices of 16
/// rows, sorted by length into runs, in them steps of one edge per row, 0 where a row has no more. `row` is the order
/// of the rows, `group` numbers the slices of a part; step, pack and slice tell where a part begins in values, col and
/// group.
struct sliced_view {
  const float* values = nullptr;
  const std::int32_t *col = nullptr, *row = nullptr;
  const std::uint16_t* group = nullptr;
  const sliced_run* run = nullptr;
  const std::int32_t* run_end = nullptr;  ///< one per part and block
  const std::int64_t *step = nullptr, *pack = nullptr, *slice = nullptr;
  std::int64_t rows = 0, cols = 0, blocks = 0;
};

/// What follows the sum of a vertex.
enum class VertexActivation : std::uint8_t { none, relu, tanh, sigmoid };

/// A branch of a layered DAG that has edges: its row in the mask, and where its edges begin and end.
struct dag_branch {
  std::int32_t row, begin, end;
};
/// A layered DAG whose vertices are in topological order, the inputs first: vertex inputs + k is fed by its branches,
/// rows of a mask [branches, vertices]. Without `row_start` the DAG is joint: row k is the one branch of vertex
/// inputs + k, and `activation` (null: ReLU) says what follows. Else rows row_start[k] to row_start[k + 1] are its
/// branches, of which branch[branch_start[k]] to branch[branch_start[k + 1]] have edges, and position k of the
/// transposed mask leads to vertex target[k] through branch number through[k] of these.
struct dag_view {
  csr_view by_row, by_column;
  std::int64_t inputs = 0, vertices = 0, branches = 0;
  const std::int32_t *row_start = nullptr, *branch_start = nullptr;
  const dag_branch* branch = nullptr;
  const std::int32_t *target = nullptr, *through = nullptr;
  const VertexActivation* activation = nullptr;
  const std::int32_t* output = nullptr;  ///< ascending
  std::int64_t outputs = 0;
};

/// A strided loop nest: up to 4 extents, innermost first, with one stride per operand and extent.
template <int Operands>
struct nest {
  int depth = 0;
  std::int64_t extent[4] = {1, 1, 1, 1};
  std::int64_t stride[Operands][4] = {};
};

}  // namespace deepstruct
