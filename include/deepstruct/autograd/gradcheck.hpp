// gradcheck: compares the derivatives that rules compute with differences of the function itself.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <ostream>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "backward.hpp"

namespace deepstruct {

/// Options of gradcheck and gradcheck_second.
struct GradcheckOptions {
  int directions = 3;             ///< random directions per input
  double step = 0x1p-6;           ///< longest step, relative to the magnitude of an input
  double tolerance = 1e-4;        ///< relative to the norm of the terms that were added
  double noise = 4;               ///< rounding error of an output of f, in units of 2⁻²³ of its value
  std::vector<float> kinks = {};  ///< elements of inputs within reach of these values are moved out of it
  std::uint64_t seed = 1;         ///< of the random directions
  Device device = Device::cpu;    ///< where f runs; its values elsewhere are also compared with those on the CPU
};

/// What gradcheck found: the comparison with the greatest error relative to its tolerance.
struct GradcheckReport {
  bool ok = true;
  int checks = 0;              ///< comparisons made
  double error = 0;            ///< |analytic − numeric| of the worst comparison
  double tolerance = 0;        ///< what was allowed there
  double analytic = 0;         ///< ⟨u, J v⟩ there, from the rules
  double numeric = 0;          ///< ⟨u, J v⟩ there, from differences
  int input = -1;              ///< number of the input along which it was taken
  int direction = -1;          ///< number of its direction
  std::string_view mode = "";  ///< "backward" (fused rules) or "create_graph" (recorded rules)

  explicit operator bool() const { return ok; }
  /// One line of text.
  void write(std::ostream& out) const {
    out << "gradcheck: " << (ok ? "ok" : "FAILED") << " in " << checks << " checks";
    if (checks > 0)
      out << "; worst in input " << input << ", direction " << direction << ", " << mode << ": analytic " << analytic
          << ", numeric " << numeric << ", error " << error << " of " << tolerance << " allowed";
    out << '\n';
  }
};

/// A function for gradcheck: from its inputs to a value of any shape, the same on every call (fix the draws of random
/// ops).
using GradcheckFunction = std::function<Var(std::span<const Var>)>;

namespace detail {

using ManyOutputs = std::function<Vars(std::span<const Var>)>;

/// f run on a device, between inputs and outputs on the CPU.
inline ManyOutputs gradcheck_on(const ManyOutputs& f, Device device) {
  return [f, device](std::span<const Var> x) {
    Vars moved;
    for (const Var& v : x) moved.push_back(to(v, device));
    Vars y = f(moved);
    for (Var& v : y) v = to(v, Device::cpu);
    return y;
  };
}
/// Compares what f gives on a device with what it gives on the CPU; the CPU's results are not far off.
inline void gradcheck_values(const ManyOutputs& f, const Vars& x, const Vars& y, GradcheckReport& report) {
  const Vars expected = f(x);
  for (std::size_t k = 0; k < y.size(); ++k) {
    check(y[k].shape() == expected[k].shape(), "gradcheck: shapes differ between devices (", y[k].shape(), " and ",
          expected[k].shape(), ")");
    double most = 0;
    for (const float v : expected[k].value().to_vector()) most = std::max(most, std::fabs(double{v}));
    const std::vector<float> want = expected[k].value().to_vector();
    y[k].value().for_each([&](std::int64_t i, float got) {
      const double error = std::fabs(double{got} - double{want[static_cast<std::size_t>(i)]}), allowed = 1e-5 * most;
      if (error <= allowed || !report.ok) return;
      report.ok = false;
      report.mode = "value on the device", report.error = error, report.tolerance = allowed;
      report.analytic = double{got}, report.numeric = double{want[static_cast<std::size_t>(i)]};
    });
  }
}

/// Σ_k ⟨u_k, y_k⟩, a scalar whose gradient is u.
inline Var gradcheck_dot(const Vars& y, std::vector<Tensor> u) {
  double total = 0;
  for (std::size_t k = 0; k < y.size(); ++k)
    for (std::int64_t r = 0; r < y[k].shape().rows(); ++r)
      for (std::int64_t i = 0; i < y[k].shape()[0]; ++i)
        total += double{y[k].value().view().col(r)[i]} * double{u[k].view().col(r)[i]};
  return record("gradcheck_dot", Tensor::scalar(static_cast<float>(total)), y, {},
                [u = std::move(u)](const Var&, const Var&, std::span<const Var> x, std::span<Var> dx) {
                  for (std::size_t k = 0; k < x.size(); ++k) dx[k] = u[k];
                });
}

/// The power of two next below the root mean square of x; 1 if x is 0 or empty.
inline double gradcheck_scale(const Tensor& x) {
  double squares = 0;
  x.for_each([&](std::int64_t, float v) { squares += double{v} * double{v}; });
  check(std::isfinite(squares), "gradcheck: inputs must be finite (shape ", x.shape(), ")");
  return squares == 0 ? 1.0 : std::exp2(std::floor(std::log2(std::sqrt(squares / static_cast<double>(x.size())))));
}

/// x on a grid on which x ± step·direction is exact in float32, and out of reach of the kinks.
inline Tensor gradcheck_point(Tensor x, double scale, const GradcheckOptions& options) {
  const double grid = scale * 0x1p-14, reach = 2.5 * options.step * scale;
  x.for_each([&](std::int64_t, float& v) {
    double p = std::nearbyint(double{v} / grid) * grid;
    for (float kink : options.kinks)
      if (std::fabs(p - double{kink}) < reach) p = double{kink} + (p < double{kink} ? -reach : reach);
    v = static_cast<float>(p);
  });
  return x;
}

/// Multiples of 1/16 in [−2, 2], about normal.
inline Tensor gradcheck_direction(const Shape& shape, Rng& rng) {
  Tensor v = Tensor::normal(shape, 0, 1, rng);
  v.for_each([](std::int64_t, float& x) { x = std::clamp(std::nearbyint(x * 16) / 16, -2.0f, 2.0f); });
  return v;
}

/// The gradients of ⟨u, f⟩ at x by the rules; recorded rules where `create_graph`.
inline std::vector<Tensor> gradcheck_analytic(const ManyOutputs& f, const std::vector<Tensor>& x,
                                              const std::vector<Tensor>& u, bool create_graph) {
  Vars leaves;
  for (const Tensor& t : x) leaves.push_back(variable(t));
  const Var dot = gradcheck_dot(f(leaves), u);
  Vars recorded;
  if (create_graph)
    recorded = grad(dot, leaves, {.create_graph = true});
  else if (dot.wants_grad())
    backward(dot);
  std::vector<Tensor> result;
  for (std::size_t k = 0; k < leaves.size(); ++k)
    result.push_back(create_graph           ? recorded[k].value()
                     : leaves[k].has_grad() ? leaves[k].grad()
                                            : Tensor::zeros(x[k].shape()));
  return result;
}

/// ⟨u, J v⟩ and the norm of its terms.
struct Directional {
  double value = 0, squares = 0;
  void add(double term) {
    value += term;
    squares += term * term;
  }
};

/// ⟨u, J v⟩ along v in input k: central differences with steps h and h/2, extrapolated to h⁴ (Richardson).
inline Directional gradcheck_numeric(const ManyOutputs& f, const std::vector<Tensor>& x, std::size_t k, const Tensor& v,
                                     double h, const std::vector<Tensor>& u) {
  const auto at = [&](double t) {
    Vars moved;
    for (const Tensor& input : x) moved.push_back(Var(input));
    moved[k].mutable_value().for_each([n = std::vector<float>(v.to_vector()), t](std::int64_t i, float& e) {
      e = static_cast<float>(double{e} + t * double{n[static_cast<std::size_t>(i)]});
    });
    return f(moved);
  };
  const Vars ahead = at(h), behind = at(-h), near_ahead = at(h / 2), near_behind = at(-h / 2);
  Directional result;
  for (std::size_t o = 0; o < u.size(); ++o)
    for (std::int64_t r = 0; r < u[o].shape().rows(); ++r)
      for (std::int64_t i = 0; i < u[o].shape()[0]; ++i) {
        const auto value = [&](const Vars& y) { return double{y[o].value().view().col(r)[i]}; };
        const double coarse = (value(ahead) - value(behind)) / (2 * h);
        const double fine = (value(near_ahead) - value(near_behind)) / h;
        result.add(double{u[o].view().col(r)[i]} * ((4 * fine - coarse) / 3));
      }
  return result;
}

inline GradcheckReport gradcheck_many(const ManyOutputs& given, std::vector<Tensor> x,
                                      const GradcheckOptions& options) {
  const bool elsewhere = options.device != Device::cpu;
  const ManyOutputs f = elsewhere ? gradcheck_on(given, options.device) : given;
  Rng rng(options.seed);
  std::vector<double> scale;
  for (Tensor& t : x) {
    scale.push_back(gradcheck_scale(t));
    t = gradcheck_point(std::move(t), scale.back(), options);
  }
  Vars constants;
  for (const Tensor& t : x) constants.push_back(Var(t));
  const Vars y = f(constants);
  GradcheckReport report;
  if (elsewhere) gradcheck_values(given, constants, y, report);
  if (!report.ok) return report;
  double worst = -1;
  for (int direction = 0; direction < options.directions; ++direction) {
    std::vector<Tensor> u;
    double outputs = 0;  // ‖u ∘ y‖: what the rounding errors of f are relative to
    for (const Var& out : y) {
      u.push_back(Tensor::normal(out.shape(), 0, 1, rng));
      const std::vector<float> values = out.value().to_vector();
      u.back().for_each([&](std::int64_t i, float e) {
        const double term = double{e} * double{values[static_cast<std::size_t>(i)]};
        outputs += term * term;
      });
    }
    const std::vector<Tensor> fused = gradcheck_analytic(f, x, u, false), recorded = gradcheck_analytic(f, x, u, true);
    for (std::size_t k = 0; k < x.size(); ++k) {
      const Tensor v = gradcheck_direction(x[k].shape(), rng);
      const double h = options.step * scale[k];
      const Directional numeric = gradcheck_numeric(f, x, k, v, h, u);
      for (bool create_graph : {false, true}) {
        Directional analytic;
        const std::vector<float> along = v.to_vector();
        (create_graph ? recorded : fused)[k].for_each(
            [&](std::int64_t i, float g) { analytic.add(double{g} * double{along[static_cast<std::size_t>(i)]}); });
        const double error = std::fabs(analytic.value - numeric.value);
        const double allowed = options.tolerance * std::sqrt(analytic.squares + numeric.squares) +
                               options.noise * 0x1p-23 * std::sqrt(outputs) / h;
        const bool good = error <= allowed;  // false for NaN
        const double ratio = error == 0       ? 0
                             : error == error ? error / allowed
                                              : std::numeric_limits<double>::infinity();
        ++report.checks;
        report.ok &= good;
        if (ratio > worst) {
          worst = ratio;
          report = {report.ok,
                    report.checks,
                    error,
                    allowed,
                    analytic.value,
                    numeric.value,
                    static_cast<int>(k),
                    direction,
                    create_graph ? "create_graph" : "backward"};
        }
      }
    }
  }
  return report;
}

}  // namespace detail

/// Compares ⟨u, J v⟩, J the derivative of f at the inputs, along random directions v of every input and for random u:
/// from the rules as backward() runs them and as grad() with create_graph records them, against central differences of
/// f.
inline GradcheckReport gradcheck(const GradcheckFunction& f, std::vector<Tensor> inputs,
                                 const GradcheckOptions& options = {}) {
  return detail::gradcheck_many(
      [&](std::span<const Var> x) {
        Var y = f(x);
        check(static_cast<bool>(y), "gradcheck: f returned an empty value (", x.size(), " inputs)");
        return Vars{std::move(y)};
      },
      std::move(inputs), options);
}

/// gradcheck of the gradient x → Jᵀw for a random w: compares derivatives of recorded rules with differences of fused
/// ones.
inline GradcheckReport gradcheck_second(const GradcheckFunction& f, std::vector<Tensor> inputs,
                                        const GradcheckOptions& options = {}) {
  const auto gradient = [&](std::span<const Var> x) {
    bool again = false;
    Vars leaves;
    for (const Var& v : x) {
      again |= v.wants_grad();
      leaves.push_back(v.wants_grad() ? v : variable(v.value()));
    }
    const Var y = f(leaves);
    check(static_cast<bool>(y), "gradcheck_second: f returned an empty value (", x.size(), " inputs)");
    Rng rng(options.seed + 1);
    return grad(y, leaves, {.create_graph = again, .seed = to(Tensor::normal(y.shape(), 0, 1, rng), y.device())});
  };
  return detail::gradcheck_many(gradient, std::move(inputs), options);
}

}  // namespace deepstruct
