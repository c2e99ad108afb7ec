// choose_kernel: sparse or dense, from a table that was measured.
#pragma once

#include <cstdint>

#include "../core/error.hpp"
#include "../simd/pick.hpp"

namespace deepstruct {

/// How a masked layer with a full weight runs.
enum class Kernel { dense, sparse };

/// Up to which density a masked layer runs sparse, for every instruction set and three ranges of samples: below 16
/// (edge by edge), 16 to 31, and more (vectors of samples).
struct KernelTable {
  static constexpr int isas = 3, ranges = 3;
  float sparse_up_to[isas][ranges];

  static int range_of(std::int64_t samples) { return samples < 16 ? 0 : samples < 32 ? 1 : 2; }
  friend bool operator==(const KernelTable&, const KernelTable&) = default;
};

/// What tools/tune measured on Zen 4, forward and backward together, both ways from a full weight with a mask, 256 →
/// 256 to 4096 → 1024: the highest density at which sparse is faster in the mean over eight cases and at least 0.9
/// times as fast in each.
inline constexpr KernelTable measured_kernel_table{{{0.95f, 0.95f, 0.95f}, {0.7f, 0.95f, 0.7f}, {0.5f, 0.7f, 0.7f}}};

namespace detail {
inline KernelTable active_kernel_table = measured_kernel_table;
}

/// The table in use.
inline const KernelTable& kernel_table() { return detail::active_kernel_table; }
/// Uses another table from now on, as tools/tune measures one; throws unless every density lies in [0, 1]. Results of
/// training depend on it as on the instruction set, so it is set before the first step, by one thread.
inline void use_kernel_table(const KernelTable& table) {
  for (const auto& row : table.sparse_up_to)
    for (float density : row)
      check(density >= 0 && density <= 1, "use_kernel_table: a density must lie in [0, 1] (", density, ")");
  detail::active_kernel_table = table;
}

/// The kernel for a mask [rows, cols] with nnz edges and a batch: a pure function of its arguments.
inline Kernel choose_kernel(std::int64_t rows, std::int64_t cols, std::int64_t nnz, std::int64_t samples, simd::Isa isa,
                            const KernelTable& table = kernel_table()) {
  if (nnz == rows * cols) return Kernel::dense;
  const double limit = double{table.sparse_up_to[static_cast<int>(isa)][KernelTable::range_of(samples)]};
  return static_cast<double>(nnz) <= limit * static_cast<double>(rows) * static_cast<double>(cols) ? Kernel::sparse
                                                                                                   : Kernel::dense;
}

}  // namespace deepstruct
