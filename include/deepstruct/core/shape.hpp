// Shape: up to four extents, and the one memory layout of the library.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

#include "error.hpp"

namespace deepstruct {

/// Distance in elements between two neighbours along extents 1.. when extent 0 holds n elements: n below 16, else whole
/// 64-byte lines, an odd number of them once n exceeds a tile of 64 (a power of two aliases in L1, see core/README.md).
constexpr std::int64_t leading_stride(std::int64_t n) {
  if (n < 16) return n;
  std::int64_t lines = (n + 15) / 16;
  if (n > 64 && lines % 2 == 0) ++lines;
  return lines * 16;
}

/// Zero to four extents. Rank 0 is a scalar.
///
/// Layout, on every device: extent 0 (the batch) is innermost, extents 1.. are row-major above it:
/// offset(i0, i1, i2, i3) = ((i1·d2 + i2)·d3 + i3)·ld + i0 with ld = leading_stride(d0).
class Shape {
 public:
  static constexpr int max_rank = 4;

  constexpr Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents) : Shape(std::span(extents.begin(), extents.size())) {}
  [[gnu::noinline]] explicit Shape(std::span<const std::int64_t> extents) : rank_(static_cast<int>(extents.size())) {
    check(extents.size() <= max_rank, "Shape: at most 4 extents (", extents.size(), ")");
    std::int64_t total = 1;
    for (int k = 0; k < rank_; ++k) {
      extent_[k] = extents[k];
      check(extent_[k] >= 0, "Shape: extents must not be negative (", extent_[k], ")");
      check(extent_[k] == 0 || total <= max_elements / extent_[k], "Shape: too many elements (extent ", extent_[k],
            ")");
      if (extent_[k] > 1) total *= extent_[k];  // a 0 excuses no other extent
    }
  }

  constexpr int rank() const { return rank_; }
  /// Extent k; 1 beyond the rank.
  constexpr std::int64_t operator[](int k) const { return extent_[k]; }
  std::span<const std::int64_t> extents() const { return {extent_.data(), static_cast<std::size_t>(rank_)}; }
  /// Number of elements: the product of the extents.
  constexpr std::int64_t size() const { return extent_[0] * extent_[1] * extent_[2] * extent_[3]; }
  /// Distance between neighbours along the last extent (any extent but 0).
  constexpr std::int64_t ld() const { return leading_stride(extent_[0]); }
  /// Number of lanes' rows: the product of extents 1...
  constexpr std::int64_t rows() const { return extent_[1] * extent_[2] * extent_[3]; }
  /// Elements of storage, padding included.
  constexpr std::int64_t storage() const { return rows() * ld(); }
  /// Stride in storage of extent k.
  constexpr std::int64_t stride(int k) const {
    if (k == 0) return 1;
    std::int64_t s = ld();
    for (int j = k + 1; j < max_rank; ++j) s *= extent_[j];
    return s;
  }
  constexpr std::int64_t offset(std::int64_t i0, std::int64_t i1 = 0, std::int64_t i2 = 0, std::int64_t i3 = 0) const {
    return ((i1 * extent_[2] + i2) * extent_[3] + i3) * ld() + i0;
  }

  friend bool operator==(const Shape&, const Shape&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Shape& s) {
    out << '[';
    for (int k = 0; k < s.rank_; ++k) out << (k ? ", " : "") << s.extent_[k];
    return out << ']';
  }

 private:
  static constexpr std::int64_t max_elements = std::int64_t{1} << 40;  // 4 TiB of float32: a slip, not a request
  std::array<std::int64_t, max_rank> extent_{1, 1, 1, 1};
  int rank_ = 0;
};

/// `shape` with another extent `dim`.
inline Shape with_extent(const Shape& shape, int dim, std::int64_t extent) {
  std::array<std::int64_t, Shape::max_rank> extents{shape[0], shape[1], shape[2], shape[3]};
  extents[dim] = extent;
  return Shape(std::span<const std::int64_t>(extents.data(), static_cast<std::size_t>(shape.rank())));
}

/// Dimension `dim` counted from the end when negative; throws unless it names one of `rank` extents.
inline int normalize_dim(int dim, int rank, const char* op) {
  check(dim >= -rank && dim < rank, op, ": dimension out of range (", dim, " of rank ", rank, ")");
  return dim < 0 ? dim + rank : dim;
}

}  // namespace deepstruct
