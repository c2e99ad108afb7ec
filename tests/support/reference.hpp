// Every kernel once more, naive and in double: what the fast ones are compared with. Results in row-major order.
#pragma once

#include <cmath>
#include <vector>

#include <deepstruct/core/mask.hpp>

#include "support/close.hpp"

namespace test::reference {

using deepstruct::Indices;
using deepstruct::Mask;
using deepstruct::Shape;
using deepstruct::Tensor;
using Result = std::vector<Exact>;

/// One entry per element of `shape`: entry(i0, i1, i2, i3).
template <class F>
Result each(const Shape& shape, F&& entry) {
  Result all;
  for (std::int64_t i0 = 0; i0 < shape[0]; ++i0)
    for (std::int64_t i1 = 0; i1 < shape[1]; ++i1)
      for (std::int64_t i2 = 0; i2 < shape[2]; ++i2)
        for (std::int64_t i3 = 0; i3 < shape[3]; ++i3) all.push_back(entry(i0, i1, i2, i3));
  return all;
}

/// max(x, 0) of every entry.
inline Result relu_of(Result want) {
  for (Exact& e : want) e.value = std::max(e.value, 0.0);
  return want;
}

/// y[b, o] = Σ_i x[b, i]·w[o, i] + bias[o]
inline Result linear(const Tensor& x, const Tensor& w, const Tensor* bias) {
  return each({x.shape()[0], w.shape()[0]}, [&](std::int64_t b, std::int64_t o, std::int64_t, std::int64_t) {
    Exact sum;
    for (std::int64_t i = 0; i < x.shape()[1]; ++i) sum.add(double{x(b, i)} * double{w(o, i)});
    if (bias) sum.add(double{(*bias)(o)});
    return sum;
  });
}

/// out[r, c] = Σ_b a[b, r]·c[b, c]
inline Result product_t(const Tensor& a, const Tensor& b) {
  return each({a.shape()[1], b.shape()[1]}, [&](std::int64_t r, std::int64_t c, std::int64_t, std::int64_t) {
    Exact sum;
    for (std::int64_t s = 0; s < a.shape()[0]; ++s) sum.add(double{a(s, r)} * double{b(s, c)});
    return sum;
  });
}

/// y[p, q, m, n] = Σ_k a[p, q, m, k]·b[p, q, k, n], batch extents of 1 stretched.
inline Result batched(const Tensor& a, const Tensor& b, const Shape& y) {
  return each(y, [&](std::int64_t p, std::int64_t q, std::int64_t m, std::int64_t n) {
    const auto in = [](const Tensor& t, std::int64_t i0, std::int64_t i1, std::int64_t i2, std::int64_t i3) {
      return double{t(t.shape()[0] == 1 ? 0 : i0, t.shape()[1] == 1 ? 0 : i1, i2, i3)};
    };
    Exact sum;
    for (std::int64_t k = 0; k < a.shape()[3]; ++k) sum.add(in(a, p, q, m, k) * in(b, p, q, k, n));
    return sum;
  });
}

/// y[b, r] = Σ_{edges (r, c)} values[e]·x[b, c] + bias[r]
inline Result sparse_linear(const Mask& mask, const Tensor& values, const Tensor& x, const Tensor* bias) {
  return each({x.shape()[0], mask.rows()}, [&](std::int64_t b, std::int64_t r, std::int64_t, std::int64_t) {
    Exact sum;
    for (std::int64_t c = 0; c < mask.cols(); ++c)
      if (mask.contains(r, c)) sum.add(double{values(mask.edge(r, c))} * double{x(b, c)});
    if (bias) sum.add(double{(*bias)(r)});
    return sum;
  });
}
/// dx[b, c] = Σ_{edges (r, c)} values[e]·dy[b, r]
inline Result sparse_linear_dx(const Mask& mask, const Tensor& values, const Tensor& dy) {
  return each({dy.shape()[0], mask.cols()}, [&](std::int64_t b, std::int64_t c, std::int64_t, std::int64_t) {
    Exact sum;
    for (std::int64_t r = 0; r < mask.rows(); ++r)
      if (mask.contains(r, c)) sum.add(double{values(mask.edge(r, c))} * double{dy(b, r)});
    return sum;
  });
}
/// dw[e] = Σ_b dy[b, r]·x[b, c]
inline Result sparse_linear_dw(const Mask& mask, const Tensor& dy, const Tensor& x) {
  Result all;
  mask.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
    Exact sum;
    for (std::int64_t b = 0; b < x.shape()[0]; ++b) sum.add(double{dy(b, r)} * double{x(b, c)});
    all.push_back(sum);
  });
  return all;
}

/// softmax or log-softmax over extent 1 of x [b, terms, inner]
inline Result softmax(const Tensor& x, bool logarithm) {
  return each(x.shape(), [&](std::int64_t b, std::int64_t t, std::int64_t i, std::int64_t) {
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::int64_t k = 0; k < x.shape()[1]; ++k) top = std::max(top, double{x(b, k, i)});
    for (std::int64_t k = 0; k < x.shape()[1]; ++k) sum += std::exp(double{x(b, k, i)} - top);
    const double d = double{x(b, t, i)} - top, terms = static_cast<double>(x.shape()[1]);
    if (logarithm) return Exact(d - std::log(sum), std::fabs(d) + std::fabs(top) + std::log(sum) + 1, terms);
    return Exact(std::exp(d) / sum, std::exp(d) / sum * (std::fabs(d) + 1), terms);
  });
}

struct LayerNorm {
  Result y, mean, rstd;
};
/// Layer norm over the last extent of x [b, groups, terms].
inline LayerNorm layer_norm(const Tensor& x, const Tensor* w, const Tensor* bias, double eps) {
  LayerNorm all;
  const std::int64_t terms = x.shape()[2];
  const auto n = static_cast<double>(terms);
  for (std::int64_t b = 0; b < x.shape()[0]; ++b)
    for (std::int64_t g = 0; g < x.shape()[1]; ++g) {
      Exact mean, var;
      for (std::int64_t k = 0; k < terms; ++k) mean.add(double{x(b, g, k)} / n);
      for (std::int64_t k = 0; k < terms; ++k) var.add(std::pow(double{x(b, g, k)} - mean.value, 2) / n);
      const double rstd = 1 / std::sqrt(var.value + eps);
      all.mean.push_back(mean);
      all.rstd.emplace_back(rstd, rstd * (1 + mean.magnitude * rstd), n);
      for (std::int64_t k = 0; k < terms; ++k) {
        const double weight = w ? double{(*w)(k)} : 1.0, shift = bias ? double{(*bias)(k)} : 0.0;
        const double normal = (double{x(b, g, k)} - mean.value) * rstd;
        all.y.emplace_back(normal * weight + shift,
                           std::fabs(weight) * (std::fabs(normal) + 1) * (1 + mean.magnitude * rstd) + std::fabs(shift),
                           n);
      }
    }
  return all;
}
/// dx of layer norm over the last extent.
inline Result layer_norm_dx(const Tensor& dy, const Tensor& x, const Tensor* w, double eps) {
  const LayerNorm forward = layer_norm(x, nullptr, nullptr, eps);
  const std::int64_t terms = x.shape()[2], groups = x.shape()[1];
  return each(x.shape(), [&](std::int64_t b, std::int64_t g, std::int64_t t, std::int64_t) {
    const auto n = static_cast<double>(terms);
    const auto slope = [&](std::int64_t k) { return double{dy(b, g, k)} * (w ? double{(*w)(k)} : 1.0); };
    const auto normal = [&](std::int64_t k) {
      return forward.y[static_cast<std::size_t>((b * groups + g) * terms + k)].value;
    };
    const Exact& rstd = forward.rstd[static_cast<std::size_t>(b * groups + g)];
    Exact plain, weighted;
    for (std::int64_t k = 0; k < terms; ++k) {
      plain.add(slope(k) / n);
      weighted.add(slope(k) * normal(k) / n);
    }
    const double value = slope(t) - plain.value - normal(t) * weighted.value;
    const double size =
        std::fabs(slope(t)) + plain.magnitude + (std::fabs(normal(t)) + 1) * (weighted.magnitude + plain.magnitude);
    return Exact(rstd.value * value, rstd.magnitude * size, n);
  });
}

/// Σ, max or min over the extents named, which stay as extents of 1.
template <class Combine>
Result reduce(const Tensor& x, const Shape& kept, double start, Combine&& combine) {
  Result all = each(kept, [&](auto...) { return Exact(start, 0, 0); });
  std::int64_t at = 0;
  for (std::int64_t i0 = 0; i0 < x.shape()[0]; ++i0)
    for (std::int64_t i1 = 0; i1 < x.shape()[1]; ++i1)
      for (std::int64_t i2 = 0; i2 < x.shape()[2]; ++i2)
        for (std::int64_t i3 = 0; i3 < x.shape()[3]; ++i3) {
          const auto in = [&](int k, std::int64_t i) { return kept[k] == x.shape()[k] ? i : 0; };
          at = ((in(0, i0) * kept[1] + in(1, i1)) * kept[2] + in(2, i2)) * kept[3] + in(3, i3);
          combine(all[static_cast<std::size_t>(at)], double{x(i0, i1, i2, i3)});
        }
  return all;
}

/// One element of an optimizer: weight and slots, as the papers write them.
struct Slots {
  double w = 0, m = 0, v = 0, extra = 0;
};
inline void sgd(Slots& s, double g, double lr, double momentum, double dampening, double decay, bool nesterov,
                bool use_momentum, bool first) {
  double d = g + decay * s.w;
  if (use_momentum) {
    s.m = first ? d : momentum * s.m + (1 - dampening) * d;
    d = nesterov ? d + momentum * s.m : s.m;
  }
  s.w -= lr * d;
}
inline void adam(Slots& s, double g, double lr, double beta1, double beta2, double eps, double decay, bool decoupled,
                 bool amsgrad, int step) {
  if (decoupled)
    s.w *= 1 - lr * decay;
  else
    g += decay * s.w;
  s.m = beta1 * s.m + (1 - beta1) * g;
  s.v = beta2 * s.v + (1 - beta2) * g * g;
  s.extra = std::max(s.extra, s.v);
  const double bound = amsgrad ? s.extra : s.v;
  s.w -= lr / (1 - std::pow(beta1, step)) * s.m / (std::sqrt(bound) / std::sqrt(1 - std::pow(beta2, step)) + eps);
}
inline void rmsprop(Slots& s, double g, double lr, double alpha, double eps, double decay, double momentum,
                    bool centred) {
  g += decay * s.w;
  s.v = alpha * s.v + (1 - alpha) * g * g;
  s.extra = alpha * s.extra + (1 - alpha) * g;
  const double d = g / (std::sqrt(centred ? s.v - s.extra * s.extra : s.v) + eps);
  s.m = momentum * s.m + d;
  s.w -= lr * s.m;
}
inline void adagrad(Slots& s, double g, double lr, double eps, double decay) {
  g += decay * s.w;
  s.v += g * g;
  s.w -= lr * g / (std::sqrt(s.v) + eps);
}

}  // namespace test::reference
