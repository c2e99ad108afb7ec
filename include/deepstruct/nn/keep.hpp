// keep: parameters and masks cut down to some of their rows, columns or channels, with all that belongs to them.
#pragma once

#include "../ops/shape.hpp"
#include "param.hpp"

namespace deepstruct {

namespace detail {

/// Throws unless units ascend within 0 … n − 1.
inline void check_units(std::string_view op, std::span<const std::int32_t> units, std::int64_t n) {
  for (std::size_t k = 0; k < units.size(); ++k) {
    check(units[k] >= 0 && units[k] < n, op, ": unit outside the extent (", units[k], " of ", n, ")");
    check(k == 0 || units[k - 1] < units[k], op, ": units must ascend (", k == 0 ? 0 : units[k - 1], ", ", units[k],
          ")");
  }
}
/// 0, 1, …, n − 1.
inline std::vector<std::int32_t> all_units(std::int64_t n) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  return all;
}
/// The place of every one of n units in a list of them, −1 where it is not in it.
inline std::vector<std::int32_t> places_of(std::span<const std::int32_t> units, std::int64_t n) {
  std::vector<std::int32_t> place(static_cast<std::size_t>(n), -1);
  for (std::size_t k = 0; k < units.size(); ++k) place[units[k]] = static_cast<std::int32_t>(k);
  return place;
}

/// Entries of extent `dim` in the order of a list.
inline Tensor pick(const Tensor& t, int dim, std::span<const std::int32_t> units) {
  no_grad guard;
  return index_select(t, dim, units).value();
}

/// Some rows and columns of a mask, and which of its edges they hold: for every edge of `mask` its id before.
struct MaskPart {
  Mask mask;
  std::vector<std::int32_t> edge;
};
inline MaskPart part_of(const Mask& m, std::span<const std::int32_t> rows, std::span<const std::int32_t> cols) {
  const auto r = static_cast<std::int64_t>(rows.size()), c = static_cast<std::int64_t>(cols.size());
  std::vector<std::int32_t> edge;
  if (m.is_full()) {
    edge.reserve(rows.size() * cols.size());
    for (const std::int32_t row : rows)
      for (const std::int32_t col : cols) edge.push_back(static_cast<std::int32_t>(row * m.cols() + col));
    return {Mask::ones(r, c), std::move(edge)};
  }
  const std::vector<std::int32_t> place = places_of(cols, m.cols());
  const auto start = m.row_start(), col = m.col();
  std::vector<std::int32_t> begin{0}, next;
  begin.reserve(rows.size() + 1);
  for (const std::int32_t row : rows) {
    for (std::int32_t e = start[row]; e < start[row + 1]; ++e)
      if (place[col[e]] >= 0) next.push_back(place[col[e]]), edge.push_back(e);
    begin.push_back(static_cast<std::int32_t>(next.size()));
  }
  return {Mask::from_csr(r, c, begin, next), std::move(edge)};
}

}  // namespace detail

/// Cuts extent `dim` of a parameter down to some entries, which ascend: value, gradient and slots together. A mask of
/// entries that optimizers step is forgotten. Throws on entries outside the extent.
inline void keep(Param& param, int dim, std::span<const std::int32_t> entries) {
  check(dim >= 0 && dim < param.shape().rank(), "keep: no such extent (", dim, " of ", param.shape(), ")");
  detail::check_units("keep", entries, param.shape()[dim]);
  if (static_cast<std::int64_t>(entries.size()) == param.shape()[dim]) return;
  param.transform([&](const Tensor& t) { return detail::pick(t, dim, entries); });
}

}  // namespace deepstruct
