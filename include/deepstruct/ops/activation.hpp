// Elementwise functions: activations, exponentials, roots and powers. Each is one function and its derivative as a
// formula; the fused derivative stands in kernels/elementwise.inl.
#pragma once

#include <cmath>
#include <numbers>

#include "arithmetic.hpp"

namespace deepstruct {

Var where(const Indices& condition, const Var& a, const Var& b);

namespace detail {

/// f'(x)·dy by the kernel's fused form.
template <class Op>
Tensor map_grad(const Tensor& dy, const Tensor& x, const Tensor& y, float a, float b) {
  Tensor dx = Tensor::empty(x.shape(), common_device("backward", dy, x, y));
  on(dx.device(), [&](auto device) {
    kernels::map_grad<Op>(device, dy.data(), x.data(), y.data(), dx.data(), dx.shape().storage(), a, b);
  });
  return dx;
}

/// y = f(x; a, b). Where rules are recorded dx = slope(x, y)·dy, written with ops; else the kernel's fused form.
template <class Op, class Slope>
Var unary(std::string_view op, const Var& x, float a, float b, std::initializer_list<Attribute> attributes,
          Slope slope) {
  return record(op, map<Op>(x.value(), a, b), {x}, attributes,
                [a, b, slope](const Var& dy, const Var& y, std::span<const Var> in, std::span<Var> dx) {
                  if (recording())
                    dx[0] = mul(dy, slope(in[0], y));
                  else
                    dx[0] = map_grad<Op>(dy.value(), in[0].value(), y.value(), a, b);
                });
}

/// f'(x) as a constant: for functions that are linear in pieces.
template <class Op>
Var constant_slope(const Var& x, const Var& y, float a = 0, float b = 0) {
  return map_grad<Op>(Tensor::ones(x.shape(), x.device()), x.value(), y.value(), a, b);
}

/// 1 where x > bound, else 0.
inline Indices above(const Var& x, float bound) {
  Indices flags = Indices::empty(x.shape(), x.device());
  on(x.device(),
     [&](auto device) { kernels::above(device, x.value().data(), bound, flags.data(), x.shape().storage()); });
  return flags;
}

}  // namespace detail

/// y = eˣ
inline Var exp(const Var& x) {
  return detail::unary<kernels::fn::exp>("exp", x, 0, 0, {}, [](const Var&, const Var& y) { return y; });
}
/// y = ln x
inline Var log(const Var& x) {
  return detail::unary<kernels::fn::log>("log", x, 0, 0, {},
                                         [](const Var& v, const Var&) { return div(Tensor::scalar(1), v); });
}
/// y = ln(1 + x)
inline Var log1p(const Var& x) {
  return detail::unary<kernels::fn::log1p>("log1p", x, 0, 0, {},
                                           [](const Var& v, const Var&) { return div(Tensor::scalar(1), v + 1.0f); });
}
/// y = √x
inline Var sqrt(const Var& x) {
  return detail::unary<kernels::fn::sqrt>("sqrt", x, 0, 0, {},
                                          [](const Var&, const Var& y) { return div(Tensor::scalar(0.5f), y); });
}
/// y = xᵖ for a number p
inline Var pow(const Var& x, float p) {
  return detail::unary<kernels::fn::pow>("pow", x, p, 0, {{"exponent", double{p}}}, [p](const Var& v, const Var&) {
    return p == 0 ? Var(Tensor::zeros(v.shape(), v.device())) : pow(v, p - 1) * p;
  });
}
/// y = x²
inline Var square(const Var& x) { return pow(x, 2); }
/// y = 1/x
inline Var reciprocal(const Var& x) { return pow(x, -1); }
/// y = 1/√x
inline Var rsqrt(const Var& x) { return pow(x, -0.5f); }
/// y = sin x
Var sin(const Var& x);
/// y = cos x
inline Var cos(const Var& x) {
  return detail::unary<kernels::fn::cos>("cos", x, 0, 0, {}, [](const Var& v, const Var&) { return neg(sin(v)); });
}
inline Var sin(const Var& x) {
  return detail::unary<kernels::fn::sin>("sin", x, 0, 0, {}, [](const Var& v, const Var&) { return cos(v); });
}
/// y = |x|, derivative 0 at 0
inline Var abs(const Var& x) {
  return detail::unary<kernels::fn::abs>(
      "abs", x, 0, 0, {}, [](const Var& v, const Var& y) { return detail::constant_slope<kernels::fn::abs>(v, y); });
}

/// y = max(x, 0), derivative 0 at 0
inline Var relu(const Var& x) {
  return detail::unary<kernels::fn::relu>(
      "relu", x, 0, 0, {}, [](const Var& v, const Var& y) { return detail::constant_slope<kernels::fn::relu>(v, y); });
}
/// y = x above 0, slope·x below
inline Var leaky_relu(const Var& x, float slope = 0.01f) {
  return detail::unary<kernels::fn::leaky_relu>(
      "leaky_relu", x, slope, 0, {{"slope", double{slope}}},
      [slope](const Var& v, const Var& y) { return detail::constant_slope<kernels::fn::leaky_relu>(v, y, slope); });
}
/// y = min(max(x, low), high), derivative 1 at both ends
inline Var clamp(const Var& x, float low, float high) {
  check(low <= high, "clamp: low must not exceed high (", low, " > ", high, ")");
  return detail::unary<kernels::fn::clamp>(
      "clamp", x, low, high, {{"low", double{low}}, {"high", double{high}}},
      [low, high](const Var& v, const Var& y) { return detail::constant_slope<kernels::fn::clamp>(v, y, low, high); });
}
/// y = min(max(x, low), high), derivative 0 at both ends
inline Var hardtanh(const Var& x, float low = -1, float high = 1) {
  check(low <= high, "hardtanh: low must not exceed high (", low, " > ", high, ")");
  return detail::unary<kernels::fn::hardtanh>("hardtanh", x, low, high, {{"low", double{low}}, {"high", double{high}}},
                                              [low, high](const Var& v, const Var& y) {
                                                return detail::constant_slope<kernels::fn::hardtanh>(v, y, low, high);
                                              });
}
/// y = min(max(x, 0), 6)
inline Var relu6(const Var& x) { return hardtanh(x, 0, 6); }

/// y = tanh x
inline Var tanh(const Var& x) {
  return detail::unary<kernels::fn::tanh>("tanh", x, 0, 0, {}, [](const Var&, const Var& y) { return 1.0f - y * y; });
}
/// y = x − tanh x
inline Var tanhshrink(const Var& x) { return x - tanh(x); }
/// y = σ(x) = 1/(1 + e⁻ˣ)
inline Var sigmoid(const Var& x) {
  return detail::unary<kernels::fn::sigmoid>("sigmoid", x, 0, 0, {},
                                             [](const Var&, const Var& y) { return y * (1.0f - y); });
}
/// y = ln σ(x)
inline Var logsigmoid(const Var& x) {
  return detail::unary<kernels::fn::logsigmoid>("logsigmoid", x, 0, 0, {},
                                                [](const Var& v, const Var&) { return sigmoid(neg(v)); });
}
/// y = x·σ(x) (Elfwing et al. 2018)
inline Var silu(const Var& x) {
  return detail::unary<kernels::fn::silu>("silu", x, 0, 0, {}, [](const Var& v, const Var&) {
    const Var s = sigmoid(v);
    return s * (1.0f + v * (1.0f - s));
  });
}
/// y = x·Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016)
inline Var gelu(const Var& x) {
  return detail::unary<kernels::fn::gelu>("gelu", x, 0, 0, {}, [](const Var& v, const Var&) {
    // Φ(x) + x·φ(x); Φ enters as a value with derivative φ
    const auto density = [](const Var& u) { return exp(u * u * -0.5f) * 0.398942280f; };
    Tensor phi = to(v.value(), Device::cpu);
    phi.for_each(
        [](std::int64_t, float& p) { p = static_cast<float>(0.5 * std::erfc(-double{p} * std::numbers::sqrt2 / 2)); });
    const Var distribution = record("normal_cdf", to(std::move(phi), v.device()), {v}, {},
                                    [density](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
                                      dx[0] = mul(dy, density(in[0]));
                                    });
    return distribution + v * density(v);
  });
}
/// y = ½x(1 + tanh(√(2/π)(x + 0.044715x³))), the approximation of gelu
inline Var gelu_tanh(const Var& x) {
  return detail::unary<kernels::fn::gelu_tanh>("gelu_tanh", x, 0, 0, {}, [](const Var& v, const Var&) {
    const float c = 1.59576912f;  // 2√(2/π): ½(1 + tanh z) = σ(2z)
    const Var s = sigmoid((v + pow(v, 3) * 0.044715f) * c);
    return s + v * s * (1.0f - s) * (pow(v, 2) * (3 * 0.044715f) + 1.0f) * c;
  });
}
/// y = ln(1 + e^(βx))/β, and x where βx exceeds the threshold
inline Var softplus(const Var& x, float beta = 1, float threshold = 20) {
  return detail::unary<kernels::fn::softplus>(
      "softplus", x, beta, threshold, {{"beta", double{beta}}, {"threshold", double{threshold}}},
      [beta, threshold](const Var& v, const Var&) {
        return where(detail::above(v, threshold / beta), Tensor::ones(v.shape(), v.device()), sigmoid(v * beta));
      });
}
namespace detail {
inline Var scaled_elu(std::string_view op, const Var& x, float alpha, float scale) {
  return unary<kernels::fn::elu>(op, x, alpha, scale, {{"alpha", double{alpha}}, {"scale", double{scale}}},
                                 [alpha, scale](const Var& v, const Var&) {
                                   return where(
                                       above(v, 0), Tensor::full(v.shape(), scale, v.device()),
                                       exp(minimum(v, Tensor::zeros(v.shape(), v.device()))) * (alpha * scale));
                                 });
}
}  // namespace detail
/// y = x above 0, α(eˣ − 1) below (Clevert et al. 2016)
inline Var elu(const Var& x, float alpha = 1) { return detail::scaled_elu("elu", x, alpha, 1); }
/// elu with α = 1.6733 and scale 1.0507, which keep mean and variance (Klambauer et al. 2017)
inline Var selu(const Var& x) { return detail::scaled_elu("selu", x, 1.67326324f, 1.05070099f); }
/// y = x/(1 + |x|)
inline Var softsign(const Var& x) {
  return detail::unary<kernels::fn::softsign>("softsign", x, 0, 0, {},
                                              [](const Var& v, const Var&) { return pow(abs(v) + 1.0f, -2); });
}

/// y = a where the condition is not 0, else b. All three of one shape.
inline Var where(const Indices& condition, const Var& a, const Var& b) {
  check(a.shape() == b.shape() && a.shape() == condition.shape(), "where: condition, a and b must have one shape (",
        condition.shape(), ", ", a.shape(), ", ", b.shape(), ")");
  Tensor y = Tensor::empty(a.shape(), common_device("where", a, b));
  if (condition.device() != y.device()) return where(to(condition, y.device()), a, b);
  on(y.device(), [&](auto device) {
    kernels::select(device, condition.data(), a.value().data(), b.value().data(), y.data(), y.shape().storage());
  });
  return record("where", std::move(y), {a, b}, {},
                [condition](const Var& dy, const Var& out, std::span<const Var> x, std::span<Var> dx) {
                  const Var zero = Tensor::zeros(out.shape(), out.device());
                  if (x[0].wants_grad()) dx[0] = where(condition, dy, zero);
                  if (x[1].wants_grad()) dx[1] = where(condition, zero, dy);
                });
}
/// y = value where the mask is not 0, else x.
inline Var masked_fill(const Var& x, const Indices& mask, float value) {
  return where(mask, Tensor::full(x.shape(), value, x.device()), x);
}

}  // namespace deepstruct
