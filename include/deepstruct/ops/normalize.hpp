// Softmax, log-softmax, layer norm and dropout.
#pragma once

#include "../kernels/normalize.hpp"
#include "linear.hpp"

namespace deepstruct {

namespace detail {

template <bool Logarithm>
Var softmax(const Var& x, int dim) {
  const char* op = Logarithm ? "log_softmax" : "softmax";
  if (x.shape().rank() == 1) return reshape(softmax<Logarithm>(reshape(x, {1, x.size()}), 1), x.shape());
  dim = normalize_dim(dim, x.shape().rank(), op);
  if (dim == 0) return transpose(softmax<Logarithm>(transpose(x, 0, 1), 1), 0, 1);
  std::int64_t inner = 1;
  for (int k = dim + 1; k < x.shape().rank(); ++k) inner *= x.shape()[k];
  Tensor y = Tensor::empty(x.shape());
  on(y.device(),
     [&](auto device) { kernels::softmax(device, x.value().view(), y.view(), x.shape()[dim], inner, Logarithm); });
  return record(op, std::move(y), Vars{x}, {{"dim", std::int64_t{dim}}},
                [dim](const Var& dy, const Var& out, std::span<const Var> in) {
                  return gradients(in, [&] {
                    if constexpr (Logarithm)
                      return sub(dy, mul(exp(out), sum(dy, Over(dim, true))));
                    else
                      return mul(out, sub(dy, sum(mul(dy, out), Over(dim, true))));
                  });
                });
}

}  // namespace detail

/// y = eˣ / Σ eˣ along `dim`.
inline Var softmax(const Var& x, int dim = -1) { return detail::softmax<false>(x, dim); }
/// y = x − ln Σ eˣ along `dim`.
inline Var log_softmax(const Var& x, int dim = -1) { return detail::softmax<true>(x, dim); }

namespace detail {

/// Layer norm as its parts, over the last extent of [groups, terms]-shaped rows; differentiable as often as wanted.
inline Var layer_norm_parts(const Var& x, const Var& weight, const Var& bias, float eps) {
  const Over last(-1, true);
  const Var centred = sub(x, mean(x, last));
  Var y = mul(centred, rsqrt(mean(square(centred), last) + eps));
  if (weight) y = mul(y, weight);
  if (bias) y = add(y, bias);
  return y;
}

/// x [b, …, terms], weight and bias [terms] or empty.
inline Var layer_norm_last(const Var& x, const Var& weight, const Var& bias, float eps) {
  if (tape_state.trace) return layer_norm_parts(x, weight, bias, eps);
  const std::int64_t terms = x.shape()[x.shape().rank() - 1], groups = terms == 0 ? 0 : x.shape().rows() / terms;
  Tensor y = Tensor::empty(x.shape()), mean = Tensor::empty({x.shape()[0], groups}), rstd = Tensor::empty(mean.shape());
  on(y.device(), [&](auto device) {
    kernels::layer_norm(device, x.value().view(), weight ? weight.value().data() : nullptr,
                        bias ? bias.value().data() : nullptr, y.view(), mean.view(), rstd.view(), eps);
  });
  Vars inputs{x};
  if (weight) inputs.push_back(weight);
  if (bias) inputs.push_back(bias);
  const bool has_weight = static_cast<bool>(weight), has_bias = static_cast<bool>(bias);
  return record("layer_norm", std::move(y), std::move(inputs), {{"eps", double{eps}}},
                [eps, has_weight, has_bias, mean, rstd](const Var& dy, const Var& out, std::span<const Var> in) {
                  const Var w = has_weight ? in[1] : Var(), b = has_bias ? in.back() : Var();
                  if (recording()) {
                    // Aliases are new on the tape, so grad() stops at them; through them the parts stay tied to the
                    // inputs.
                    Vars alias;
                    for (const Var& v : in) alias.push_back(affine(v, 1, 0));
                    const Var parts = layer_norm_parts(alias[0], w ? alias[1] : Var(), b ? alias.back() : Var(), eps);
                    return grad(parts, alias, {.create_graph = true, .seed = dy});
                  }
                  Vars result(in.size());
                  if (in[0].wants_grad()) {
                    Tensor dx = Tensor::empty(out.shape());
                    on(dx.device(), [&](auto device) {
                      kernels::layer_norm_dx(device, dy.value().view(), in[0].value().view(),
                                             w ? w.value().data() : nullptr, mean.view(), rstd.view(), dx.view());
                    });
                    result[0] = std::move(dx);
                  }
                  if (w.wants_grad()) {
                    Extents per_group(out.shape().extents().begin(), out.shape().extents().end());
                    per_group.back() = 1;
                    const Var normal = mul(sub(in[0], reshape(Var(mean), per_group)), reshape(Var(rstd), per_group));
                    result[1] = sum_to(mul(dy, normal), w.shape());
                  }
                  if (b.wants_grad()) result.back() = sum_to(dy, b.shape());
                  return result;
                });
}

}  // namespace detail

/// y = (x − mean)/√(var + eps)·weight + bias, mean and (biased) variance over the last extents, as many as `normalized`
/// has (Ba et al. 2016).   x […, normalized], weight and bias [normalized] or empty
inline Var layer_norm(const Var& x, const Shape& normalized, const Var& weight = {}, const Var& bias = {},
                      float eps = 1e-5f) {
  const Shape& s = x.shape();
  const int lead = s.rank() - normalized.rank();
  check(lead >= 0 && normalized.rank() >= 1, "layer_norm: x has fewer extents than are normalized (", s, " and ",
        normalized, ")");
  for (int k = 0; k < normalized.rank(); ++k)
    check(s[lead + k] == normalized[k], "layer_norm: x does not end in the normalized extents (", s, " and ",
          normalized, ")");
  check(!weight || weight.shape() == normalized, "layer_norm: weight has another shape (",
        weight ? weight.shape() : Shape{}, " and ", normalized, ")");
  check(!bias || bias.shape() == normalized, "layer_norm: bias has another shape (", bias ? bias.shape() : Shape{},
        " and ", normalized, ")");
  check(eps >= 0, "layer_norm: eps must not be negative (", eps, ")");
  const std::int64_t terms = normalized.size();
  const auto flat = [&](const Var& v) { return v ? reshape(v, {terms}) : v; };
  if (lead >= 1 && normalized.rank() == 1) return detail::layer_norm_last(x, weight, bias, eps);
  const Var rows = reshape(x, {terms == 0 ? 0 : s.size() / terms, terms});
  return reshape(detail::layer_norm_last(rows, flat(weight), flat(bias), eps), s);
}

/// y = 0 with probability p, else x/(1 − p); element i of row-major order asks counter i of the draw, so the same
/// elements fall on every device (Srivastava et al. 2014).
inline Var dropout(const Var& x, float p, const Draw& draw) {
  check(p >= 0 && p <= 1, "dropout: need 0 <= p <= 1 (", p, ")");
  if (p == 0) return x;
  if (p == 1) return mul(x, Tensor::zeros(x.shape()));
  Tensor y = Tensor::empty(x.shape());
  on(y.device(), [&](auto device) { kernels::dropout(device, x.value().view(), y.view(), p, draw); });
  return record("dropout", std::move(y), Vars{x}, {{"p", double{p}}, {"draw", draw}},
                [p, draw](const Var& dy, const Var&, std::span<const Var> in) {
                  return gradients(in, [&] { return dropout(dy, p, draw); });
                });
}
inline Var dropout(const Var& x, float p, Rng& rng = default_rng()) { return dropout(x, p, rng.draw()); }

}  // namespace deepstruct
