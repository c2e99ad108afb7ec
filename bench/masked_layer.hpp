// The layer that benchmarks of products time.
#pragma once

#include <deepstruct/deepstruct.hpp>

#include <array>

namespace bench {

using deepstruct::Mask;
using deepstruct::Var;

/// A layer as masked_linear would run it: dense where every edge exists.
struct MaskedLayer {
  Mask mask;
  Var weight;  // values of the edges, or [out, in]

  MaskedLayer(const Mask& m, const Var& values) : mask(m), weight(m.is_full() ? place_edges(values, m) : values) {}
  Var operator()(const Var& x) const { return mask.is_full() ? linear(x, weight) : sparse_linear(x, weight, mask); }
  /// dx and dw, of the edges or [out, in], as backward() makes them.
  std::array<Var, 2> backward(const Var& dy, const Var& x) const {
    namespace detail = deepstruct::detail;
    if (mask.is_full()) return {detail::product(dy, weight, false, false), detail::product(dy, x, true, false)};
    std::array<Var, 2> dx;
    detail::sparse_linear_backward(dy, x, weight, mask, dx);
    if (!dx[0]) dx = {sparse_linear_dx(dy, weight, mask), sparse_linear_dw(dy, x, mask)};
    return dx;
  }
};

}  // namespace bench
