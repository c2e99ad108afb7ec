// make_nest: extents and strides of several operands merged into the shortest loop nest.
#pragma once

#include <array>

#include "shape.hpp"
#include "view.hpp"

namespace deepstruct {

/// Collects loops from the innermost to the outermost; loops of one step vanish, neighbours that form one run are
/// merged.
template <int Operands>
class NestBuilder {
 public:
  NestBuilder& add(std::int64_t extent, const std::array<std::int64_t, Operands>& stride) {
    if (extent == 0) empty_ = true;
    if (extent <= 1) return *this;
    if (n_.depth > 0) {
      const int last = n_.depth - 1;
      bool joins = true;
      for (int o = 0; o < Operands; ++o) joins &= stride[o] == n_.stride[o][last] * n_.extent[last];
      if (joins) {
        n_.extent[last] *= extent;
        return *this;
      }
    }
    n_.extent[n_.depth] = extent;
    for (int o = 0; o < Operands; ++o) n_.stride[o][n_.depth] = stride[o];
    ++n_.depth;
    return *this;
  }
  nest<Operands> finish() const {
    nest<Operands> n = n_;
    if (empty_) n.extent[0] = n.extent[1] = n.extent[2] = n.extent[3] = 0;
    return n;
  }

 private:
  nest<Operands> n_;
  bool empty_ = false;
};

/// Loops over the elements of `shape`, dimension 0 innermost, then the last one, and so on; strides[o][k] is operand
/// o's in dimension k.
template <int Operands>
nest<Operands> make_nest(const Shape& shape,
                         const std::array<std::array<std::int64_t, Shape::max_rank>, Operands>& strides) {
  NestBuilder<Operands> builder;
  for (int step = 0; step < shape.rank(); ++step) {
    const int k = step == 0 ? 0 : shape.rank() - step;
    std::array<std::int64_t, Operands> stride{};
    for (int o = 0; o < Operands; ++o) stride[o] = strides[o][k];
    builder.add(shape[k], stride);
  }
  return builder.finish();
}

/// The strides of a contiguous array of this shape.
inline std::array<std::int64_t, Shape::max_rank> strides_of(const Shape& shape) {
  return {shape.stride(0), shape.stride(1), shape.stride(2), shape.stride(3)};
}

/// The strides with which an array of shape `from` is read where shape `to` is expected: 0 along broadcast dimensions.
inline std::array<std::int64_t, Shape::max_rank> broadcast_strides(const Shape& from, const Shape& to) {
  std::array<std::int64_t, Shape::max_rank> strides{};
  const int shift = to.rank() - from.rank();
  for (int k = 0; k < from.rank(); ++k) strides[k + shift] = from[k] == 1 ? 0 : from.stride(k);
  return strides;
}

}  // namespace deepstruct
