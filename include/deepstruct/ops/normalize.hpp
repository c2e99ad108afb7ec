// Softmax, log-softmax, layer norm and dropout.
#pragma once

#include "../kernels/normalize.hpp"
#include "linear.hpp"

namespace deepstruct {

namespace detail {

/// Softmax or its logarithm along any extent but the first, which is the lanes of the kernel.
inline Tensor softmax_value(const Tensor& x, int dim, bool logarithm) {
  std::int64_t inner = 1;
  for (int k = dim + 1; k < x.rank(); ++k) inner *= x.shape()[k];
  Tensor y = Tensor::empty(x.shape(), x.device());
  on(y.device(), [&](auto device) { kernels::softmax(device, x.view(), y.view(), x.shape()[dim], inner, logarithm); });
  return y;
}
template <bool Logarithm>
Var softmax_of_samples(const Var& x, int dim) {
  return record(Logarithm ? "log_softmax" : "softmax", softmax_value(x.value(), dim, Logarithm), {x},
                {{"dim", std::int64_t{dim}}},
                [dim](const Var& dy, const Var& y, std::span<const Var>, std::span<Var> dx) {
                  const Shape kept = with_extent(y.shape(), dim, 1);
                  if constexpr (Logarithm)
                    dx[0] = sub(dy, mul(exp(y), sum_to(dy, kept)));
                  else
                    dx[0] = mul(y, sub(dy, sum_to(mul(dy, y), kept)));
                });
}
template <bool Logarithm>
Var softmax(const Var& x, int dim) {
  if (x.shape().rank() == 1) return reshape(softmax<Logarithm>(reshape(x, {1, x.size()}), 1), x.shape());
  dim = normalize_dim(dim, x.shape().rank(), Logarithm ? "log_softmax" : "softmax");
  if (dim == 0) return transpose(softmax_of_samples<Logarithm>(transpose(x, 0, 1), 1), 0, 1);
  return softmax_of_samples<Logarithm>(x, dim);
}

}  // namespace detail

/// y = eˣ / Σ eˣ along `dim`.
inline Var softmax(const Var& x, int dim = -1) { return detail::softmax<false>(x, dim); }
/// y = x − ln Σ eˣ along `dim`.
inline Var log_softmax(const Var& x, int dim = -1) { return detail::softmax<true>(x, dim); }

namespace detail {

Var layer_norm_last(const Var& x, const Var& weight, const Var& bias, float eps);

/// rstd = 1/√(var x + eps), already computed, as a value that can be differentiated:  dx = −dy·rstd²·n/terms with
/// n = (x − mean)·rstd.   x [b, …, terms], rstd [b, …, 1]
inline Var layer_norm_rstd(const Var& x, Tensor rstd, float eps) {
  return record("layer_norm_rstd", std::move(rstd), {x}, {{"eps", double{eps}}},
                [eps](const Var& dy, const Var& y, std::span<const Var> in, std::span<Var> dx) {
                  const Shape& s = in[0].shape();
                  const Var by = mul(dy, mul(y, y)) * (-1.0f / static_cast<float>(s[s.rank() - 1]));
                  dx[0] = mul(by, layer_norm_last(in[0], {}, {}, eps));
                });
}

/// Layer norm of the last extent as the ops it is made of.
inline Var layer_norm_parts(const Var& x, const Var& weight, const Var& bias, const Tensor& rstd, float eps) {
  const Var mean = sum_to(x, rstd.shape()) * (1.0f / static_cast<float>(x.shape()[x.shape().rank() - 1]));
  Var y = mul(sub(x, mean), layer_norm_rstd(x, rstd, eps));
  if (weight) y = mul(y, weight);
  return bias ? add(y, bias) : y;
}

/// Over the last extent.   x [b, …, terms], weight and bias [terms] or empty
inline Var layer_norm_last(const Var& x, const Var& weight, const Var& bias, float eps) {
  const Device place = common_device("layer_norm", x, weight, bias);
  Tensor y = Tensor::empty(x.shape(), place),
         mean = Tensor::empty(with_extent(x.shape(), x.shape().rank() - 1, 1), place),
         rstd = Tensor::empty(mean.shape(), place);
  on(y.device(), [&](auto device) {
    kernels::layer_norm(device, x.value().view(), weight ? weight.value().data() : nullptr,
                        bias ? bias.value().data() : nullptr, y.view(), mean.view(), rstd.view(), eps);
  });
  if (tape_state.trace) return layer_norm_parts(x, weight, bias, rstd, eps);
  const bool has_weight = static_cast<bool>(weight), has_bias = static_cast<bool>(bias);
  return record(
      "layer_norm", std::move(y), {x, weight, bias}, {{"eps", double{eps}}},
      [eps, has_weight, has_bias, mean, rstd](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
        const Var w = has_weight ? in[1] : Var(), b = has_bias ? in.back() : Var();
        if (recording()) {  // the derivative of its parts
          const Vars d = grad(layer_norm_parts(in[0], w, b, rstd, eps), in, {.create_graph = true, .seed = dy});
          for (std::size_t k = 0; k < d.size(); ++k) dx[k] = d[k];
          return;
        }
        if (in[0].wants_grad()) {
          common_device("backward", dy, in[0], w, mean);
          Tensor out = Tensor::empty(dy.shape(), dy.device());
          on(out.device(), [&](auto device) {
            kernels::layer_norm_dx(device, dy.value().view(), in[0].value().view(), w ? w.value().data() : nullptr,
                                   mean.view(), rstd.view(), out.view());
          });
          dx[0] = std::move(out);
        }
        if (w.wants_grad()) dx[1] = sum_to(mul(dy, layer_norm_last(in[0], {}, {}, eps)), w.shape());
        if (b.wants_grad()) dx.back() = sum_to(dy, b.shape());
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
  if (p == 1) return mul(x, Tensor::zeros(x.shape(), x.device()));
  Tensor y = Tensor::empty(x.shape(), x.device());
  on(y.device(), [&](auto device) { kernels::dropout(device, x.value().view(), y.view(), p, draw); });
  return record(
      "dropout", std::move(y), {x}, {{"p", double{p}}, {"draw", draw}},
      [p, draw](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = dropout(dy, p, draw); });
}
inline Var dropout(const Var& x, float p, Rng& rng = default_rng()) { return dropout(x, p, rng.draw()); }

}  // namespace deepstruct
