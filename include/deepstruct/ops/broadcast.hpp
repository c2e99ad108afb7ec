// Broadcasting: expand and its adjoint sum_to, with NumPy's rules (extents aligned at the end, 1 stretches).
#pragma once

#include "../autograd/backward.hpp"
#include "../core/nest.hpp"
#include "../kernels/move.hpp"
#include "../kernels/reduce.hpp"

namespace deepstruct {

/// The shape that a and b broadcast to; throws if they do not.
inline Shape broadcast_shape(const Shape& a, const Shape& b, std::string_view op) {
  const int rank = std::max(a.rank(), b.rank());
  std::array<std::int64_t, Shape::max_rank> extents{};
  for (int k = 0; k < rank; ++k) {
    const int ka = k - (rank - a.rank()), kb = k - (rank - b.rank());
    const std::int64_t ea = ka < 0 ? 1 : a[ka], eb = kb < 0 ? 1 : b[kb];
    check(ea == eb || ea == 1 || eb == 1, op, ": shapes do not broadcast (", a, " and ", b, ")");
    extents[k] = ea == 1 ? eb : ea;
  }
  return Shape(std::span<const std::int64_t>(extents.data(), static_cast<std::size_t>(rank)));
}

Var sum_to(const Var& x, const Shape& shape);

/// y = x repeated along new and stretched extents.   x → y [shape]
inline Var expand(const Var& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  check(broadcast_shape(x.shape(), shape, "expand") == shape, "expand: x does not broadcast to the shape (", x.shape(),
        " to ", shape, ")");
  Tensor y = Tensor::empty(shape, x.device());
  const auto n = make_nest<2>(shape, {strides_of(shape), broadcast_strides(x.shape(), shape)});
  on(y.device(), [&](auto device) { kernels::copy(device, x.value().data(), y.data(), n); });
  return record(
      "expand", std::move(y), {x}, {},
      [](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) { dx[0] = sum_to(dy, in[0].shape()); });
}

/// y = x summed over the extents that broadcasting `shape` to x.shape() adds or stretches: the adjoint of expand.
inline Var sum_to(const Var& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  check(broadcast_shape(shape, x.shape(), "sum_to") == x.shape(), "sum_to: the shape does not broadcast to x (", shape,
        " to ", x.shape(), ")");
  Tensor y = Tensor::empty(shape, x.device());
  const auto from = strides_of(x.shape()), to = broadcast_strides(shape, x.shape());
  NestBuilder<2> kept;
  NestBuilder<1> reduced;
  for (int step = 0; step < x.shape().rank(); ++step) {
    const int k = step == 0 ? 0 : x.shape().rank() - step, own = k - (x.shape().rank() - shape.rank());
    if (own >= 0 && shape[own] == x.shape()[k])
      kept.add(x.shape()[k], {to[k], from[k]});
    else
      reduced.add(x.shape()[k], {from[k]});
  }
  on(y.device(), [&](auto device) {
    kernels::reduce<kernels::fn::add>(device, x.value().data(), y.data(), kept.finish(), reduced.finish());
  });
  return record(
      "sum_to", std::move(y), {x}, {},
      [](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) { dx[0] = expand(dy, in[0].shape()); });
}

}  // namespace deepstruct
