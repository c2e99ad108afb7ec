// Initial values: uniform and normal with the variance that keeps signals alive.
#pragma once

#include <cmath>

#include "../core/tensor.hpp"
#include "../kernels/elementwise.hpp"

namespace deepstruct {

/// Which neighbours the variance is kept over.
enum class Fan { in, out };
/// What follows the layer; it fixes the gain.
enum class Nonlinearity { linear, sigmoid, tanh, relu, leaky_relu, selu };

/// Connections into and out of one neuron of a weight [out, in, kernel…]; throws below rank 2.
struct Fans {
  double in, out;
};
inline Fans fans(const Shape& weight) {
  check(weight.rank() >= 2, "fans: a weight has at least two extents (", weight, ")");
  const double kernel = static_cast<double>(weight[2] * weight[3]);
  return {static_cast<double>(weight[1]) * kernel, static_cast<double>(weight[0]) * kernel};
}

/// Factor by which an activation shrinks the standard deviation; `slope` belongs to leaky_relu.
inline double calculate_gain(Nonlinearity f, double slope = 0.01) {
  switch (f) {
    case Nonlinearity::tanh:
      return 5.0 / 3;
    case Nonlinearity::relu:
      return std::sqrt(2.0);
    case Nonlinearity::leaky_relu:
      return std::sqrt(2.0 / (1 + slope * slope));
    case Nonlinearity::selu:
      return 0.75;
    default:
      return 1;
  }
}

/// Options of the Kaiming initialisers.
struct KaimingOptions {
  Nonlinearity nonlinearity = Nonlinearity::leaky_relu;
  double slope = 0;
  Fan fan = Fan::in;
};
namespace detail {
inline double kaiming_std(const Shape& weight, const KaimingOptions& options) {
  const Fans f = fans(weight);
  const double fan = options.fan == Fan::in ? f.in : f.out;
  return fan == 0 ? 0 : calculate_gain(options.nonlinearity, options.slope) / std::sqrt(fan);
}
inline double xavier_std(const Shape& weight, double gain) {
  const Fans f = fans(weight);
  return f.in + f.out == 0 ? 0 : gain * std::sqrt(2 / (f.in + f.out));
}
/// Tensor::uniform(shape, −bound, bound, rng), by vectors and threads.
inline Tensor symmetric_uniform(const Shape& shape, double bound, Rng& rng) {
  const auto b = static_cast<float>(bound);
  check(b >= 0, "init: the bound must not be negative (", bound, ")");
  Tensor t = Tensor::empty(shape);
  kernels::uniform(cpu{}, t.view(), -b, b, rng.host_draw());
  return t;
}
}  // namespace detail

/// U(−b, b), b = gain·√(3/fan) (He et al. 2015).
inline Tensor kaiming_uniform(const Shape& weight, KaimingOptions options = {}, Rng& rng = default_rng()) {
  return detail::symmetric_uniform(weight, std::sqrt(3.0) * detail::kaiming_std(weight, options), rng);
}
/// N(0, gain²/fan) (He et al. 2015).
inline Tensor kaiming_normal(const Shape& weight, KaimingOptions options = {}, Rng& rng = default_rng()) {
  return Tensor::normal(weight, 0, static_cast<float>(detail::kaiming_std(weight, options)), rng);
}
/// U(−b, b), b = gain·√(6/(fan_in + fan_out)) (Glorot & Bengio 2010).
inline Tensor xavier_uniform(const Shape& weight, double gain = 1, Rng& rng = default_rng()) {
  return detail::symmetric_uniform(weight, std::sqrt(3.0) * detail::xavier_std(weight, gain), rng);
}
/// N(0, gain²·2/(fan_in + fan_out)) (Glorot & Bengio 2010).
inline Tensor xavier_normal(const Shape& weight, double gain = 1, Rng& rng = default_rng()) {
  return Tensor::normal(weight, 0, static_cast<float>(detail::xavier_std(weight, gain)), rng);
}

/// PyTorch's default of linear and convolution weights: U(−1/√fan_in, 1/√fan_in), which is kaiming_uniform with slope
/// √5.
inline Tensor default_weight(const Shape& weight, Rng& rng = default_rng()) {
  return kaiming_uniform(weight, {.slope = std::sqrt(5.0)}, rng);
}
/// PyTorch's default bias [out] beside a weight [out, in, kernel…]: the same bounds.
inline Tensor default_bias(const Shape& weight, Rng& rng = default_rng()) {
  const double in = fans(weight).in;
  return detail::symmetric_uniform({weight[0]}, in == 0 ? 0 : 1 / std::sqrt(in), rng);
}

}  // namespace deepstruct
