// Arithmetic with broadcasting: add, sub, mul, div, maximum, minimum, scale, and the operators + − * / between Vars and
// numbers.
#pragma once

#include "broadcast.hpp"

namespace deepstruct {

namespace detail {

/// The loops of y = f2(a, b) with broadcasting.
inline nest<3> zip_nest(const Shape& a, const Shape& b, const Shape& y) {
  if (a == b) return NestBuilder<3>().add(y.storage(), {1, 1, 1}).finish();
  return make_nest<3>(y, {strides_of(y), broadcast_strides(a, y), broadcast_strides(b, y)});
}

/// y = f2(a, b) with broadcasting. A number (rank 0) on the CPU goes to where the other operand is.
template <class Op>
Tensor zip(std::string_view op, const Tensor& a, const Tensor& b) {
  if constexpr (has_cuda)
    if (a.device() != b.device()) {
      if (a.device() == Device::cpu && a.rank() == 0) return zip<Op>(op, to(a, b.device()), b);
      if (b.device() == Device::cpu && b.rank() == 0) return zip<Op>(op, a, to(b, a.device()));
    }
  Tensor y = Tensor::empty(broadcast_shape(a.shape(), b.shape(), op), common_device(op, a, b));
  const nest<3> n = zip_nest(a.shape(), b.shape(), y.shape());
  on(y.device(), [&](auto device) { kernels::zip<Op>(device, a.data(), b.data(), y.data(), n); });
  return y;
}

/// The gradient of an operand x that was broadcast: its part of g, where x is.
inline Var back_to(const Var& g, const Var& x) {
  const Var own = sum_to(g, x.shape());
  return has_cuda ? to(own, x.device()) : own;
}

/// y = f(x; a, b).
template <class Op>
Tensor map(const Tensor& x, float a = 0, float b = 0) {
  Tensor y = Tensor::empty(x.shape(), x.device());
  on(y.device(), [&](auto device) { kernels::map<Op>(device, x.data(), y.data(), x.shape().storage(), a, b); });
  return y;
}

}  // namespace detail

/// y = a·x + b for numbers a and b.
inline Var affine(const Var& x, float a, float b) {
  return record("affine", detail::map<kernels::fn::affine>(x.value(), a, b), {x}, {{"a", double{a}}, {"b", double{b}}},
                [a](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = affine(dy, a, 0); });
}
/// y = −x
inline Var neg(const Var& x) { return affine(x, -1, 0); }

/// y = a + b, broadcast.
inline Var add(const Var& a, const Var& b) {
  return record("add", detail::zip<kernels::fn::add>("add", a.value(), b.value()), {a, b}, {},
                [](const Var& dy, const Var&, std::span<const Var> x, std::span<Var> dx) {
                  if (x[0].wants_grad()) dx[0] = detail::back_to(dy, x[0]);
                  if (x[1].wants_grad()) dx[1] = detail::back_to(dy, x[1]);
                });
}
/// y = a − b, broadcast.
inline Var sub(const Var& a, const Var& b) {
  return record("sub", detail::zip<kernels::fn::sub>("sub", a.value(), b.value()), {a, b}, {},
                [](const Var& dy, const Var&, std::span<const Var> x, std::span<Var> dx) {
                  if (x[0].wants_grad()) dx[0] = detail::back_to(dy, x[0]);
                  if (x[1].wants_grad()) dx[1] = neg(detail::back_to(dy, x[1]));
                });
}
/// y = a·b elementwise, broadcast.
inline Var mul(const Var& a, const Var& b) {
  return record("mul", detail::zip<kernels::fn::mul>("mul", a.value(), b.value()), {a, b}, {},
                [](const Var& dy, const Var&, std::span<const Var> x, std::span<Var> dx) {
                  if (x[0].wants_grad()) dx[0] = detail::back_to(mul(dy, x[1]), x[0]);
                  if (x[1].wants_grad()) dx[1] = detail::back_to(mul(dy, x[0]), x[1]);
                });
}
/// y = a/b elementwise, broadcast.
inline Var div(const Var& a, const Var& b) {
  return record("div", detail::zip<kernels::fn::div>("div", a.value(), b.value()), {a, b}, {},
                [](const Var& dy, const Var& y, std::span<const Var> x, std::span<Var> dx) {
                  if (x[0].wants_grad()) dx[0] = detail::back_to(div(dy, x[1]), x[0]);
                  if (x[1].wants_grad()) dx[1] = neg(detail::back_to(div(mul(dy, y), x[1]), x[1]));
                });
}

namespace detail {

/// Rule of maximum (sign +1) and minimum (−1): dy goes to the chosen one, half to each on a tie. Piecewise linear, so
/// the shares are constants.
template <bool Maximum>
void extremum_rule(const Var& dy, const Var&, std::span<const Var> x, std::span<Var> dx) {
  const Tensor &a = x[0].value(), &b = x[1].value();
  const auto share = [&](bool of_first) {
    return Var(of_first == Maximum ? zip<kernels::fn::greater_share>("maximum", a, b)
                                   : zip<kernels::fn::greater_share>("maximum", b, a));
  };
  if (x[0].wants_grad()) dx[0] = back_to(mul(dy, share(true)), x[0]);
  if (x[1].wants_grad()) dx[1] = back_to(mul(dy, share(false)), x[1]);
}

}  // namespace detail

/// y = max(a, b) elementwise, broadcast; on a tie each gets half of the gradient. NaN wins.
inline Var maximum(const Var& a, const Var& b) {
  return record("maximum", detail::zip<kernels::fn::maximum>("maximum", a.value(), b.value()), {a, b}, {},
                &detail::extremum_rule<true>);
}
/// y = min(a, b) elementwise, broadcast; on a tie each gets half of the gradient. NaN wins.
inline Var minimum(const Var& a, const Var& b) {
  return record("minimum", detail::zip<kernels::fn::minimum>("minimum", a.value(), b.value()), {a, b}, {},
                &detail::extremum_rule<false>);
}

inline Var operator+(const Var& a, const Var& b) { return add(a, b); }
inline Var operator-(const Var& a, const Var& b) { return sub(a, b); }
inline Var operator*(const Var& a, const Var& b) { return mul(a, b); }
inline Var operator/(const Var& a, const Var& b) { return div(a, b); }
inline Var operator-(const Var& x) { return neg(x); }
inline Var operator+(const Var& x, float c) { return affine(x, 1, c); }
inline Var operator+(float c, const Var& x) { return affine(x, 1, c); }
inline Var operator-(const Var& x, float c) { return affine(x, 1, -c); }
inline Var operator-(float c, const Var& x) { return affine(x, -1, c); }
inline Var operator*(const Var& x, float c) { return affine(x, c, 0); }
inline Var operator*(float c, const Var& x) { return affine(x, c, 0); }
inline Var operator/(const Var& x, float c) { return affine(x, 1 / c, 0); }

}  // namespace deepstruct
