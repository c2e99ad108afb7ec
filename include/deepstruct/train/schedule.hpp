// Learning-rate schedules: the rate after t steps as a function of t, with PyTorch's names, defaults and values.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <optional>
#include <vector>

#include "../core/error.hpp"

namespace deepstruct {

namespace detail {

inline void check_schedule(const char* op, double lr, std::int64_t t) {
  check(std::isfinite(lr) && lr >= 0, op, ": need a finite lr >= 0 (", lr, ")");
  check(t >= 0, op, ": need t >= 0 (", t, ")");
}

/// Half a cosine from `high` at x = 0 down to `low` at x = 1.
inline double cosine_between(double high, double low, double x) {
  return low + (high - low) * (1 + std::cos(std::numbers::pi * x)) / 2;
}

}  // namespace detail

/// lr · gamma^⌊t / step_size⌋.
struct StepLR {
  double lr = 1;
  std::int64_t step_size = 0;
  double gamma = 0.1;

  double operator()(std::int64_t t) const {
    detail::check_schedule("StepLR", lr, t);
    check(step_size >= 1, "StepLR: need step_size >= 1 (", step_size, ")");
    check(std::isfinite(gamma) && gamma >= 0, "StepLR: need a finite gamma >= 0 (", gamma, ")");
    return lr * std::pow(gamma, static_cast<double>(t / step_size));
  }
};

/// lr · gamma^(number of milestones ≤ t); milestones in any order, repeated ones count again.
struct MultiStepLR {
  double lr = 1;
  std::vector<std::int64_t> milestones = {};
  double gamma = 0.1;

  double operator()(std::int64_t t) const {
    detail::check_schedule("MultiStepLR", lr, t);
    check(std::isfinite(gamma) && gamma >= 0, "MultiStepLR: need a finite gamma >= 0 (", gamma, ")");
    std::int64_t passed = 0;
    for (std::int64_t milestone : milestones) {
      check(milestone >= 0, "MultiStepLR: need milestones >= 0 (", milestone, ")");
      passed += milestone <= t;
    }
    return lr * std::pow(gamma, static_cast<double>(passed));
  }
};

/// lr · gamma^t.
struct ExponentialLR {
  double lr = 1;
  double gamma = 0;

  double operator()(std::int64_t t) const {
    detail::check_schedule("ExponentialLR", lr, t);
    check(std::isfinite(gamma) && gamma > 0, "ExponentialLR: need a finite gamma > 0 (", gamma, ")");
    return lr * std::pow(gamma, static_cast<double>(t));
  }
};

/// A cosine from lr to eta_min in T_max steps, back to lr in the next T_max, and so on: the closed form of PyTorch's
/// recursion.
struct CosineAnnealingLR {
  double lr = 1;
  std::int64_t T_max = 0;
  double eta_min = 0;

  double operator()(std::int64_t t) const {
    detail::check_schedule("CosineAnnealingLR", lr, t);
    check(T_max >= 1, "CosineAnnealingLR: need T_max >= 1 (", T_max, ")");
    check(std::isfinite(eta_min) && eta_min >= 0, "CosineAnnealingLR: need a finite eta_min >= 0 (", eta_min, ")");
    std::int64_t phase = t % T_max;  // reduced before the cosine, which thereby stays exact at the ends for any t
    if (t / T_max % 2 != 0) phase = T_max - phase;
    return detail::cosine_between(lr, eta_min, static_cast<double>(phase) / static_cast<double>(T_max));
  }
};

/// A cosine from lr to eta_min that restarts after T_0, then T_0·T_mult, T_0·T_mult² … steps.
struct CosineAnnealingWarmRestarts {
  double lr = 1;
  std::int64_t T_0 = 0;
  std::int64_t T_mult = 1;
  double eta_min = 0;

  double operator()(std::int64_t t) const {
    constexpr const char* op = "CosineAnnealingWarmRestarts";
    detail::check_schedule(op, lr, t);
    check(T_0 >= 1 && T_mult >= 1, op, ": need T_0 >= 1 and T_mult >= 1 (", T_0, " and ", T_mult, ")");
    check(std::isfinite(eta_min) && eta_min >= 0, op, ": need a finite eta_min >= 0 (", eta_min, ")");
    std::int64_t length = T_0, phase = t;
    if (T_mult == 1) phase %= length;
    while (phase >= length) {
      phase -= length;
      constexpr auto most = std::numeric_limits<std::int64_t>::max();
      length = length > most / T_mult ? most : length * T_mult;
    }
    return detail::cosine_between(lr, eta_min, static_cast<double>(phase) / static_cast<double>(length));
  }
};

/// lr times a factor that goes from start_factor to end_factor in total_iters steps.
struct LinearLR {
  double lr = 1;
  double start_factor = 1.0 / 3;
  double end_factor = 1;
  std::int64_t total_iters = 5;

  double operator()(std::int64_t t) const {
    detail::check_schedule("LinearLR", lr, t);
    check(start_factor > 0 && start_factor <= 1, "LinearLR: need 0 < start_factor <= 1 (", start_factor, ")");
    check(end_factor >= 0 && end_factor <= 1, "LinearLR: need 0 <= end_factor <= 1 (", end_factor, ")");
    check(total_iters >= 1, "LinearLR: need total_iters >= 1 (", total_iters, ")");
    const double done = static_cast<double>(std::min(t, total_iters)) / static_cast<double>(total_iters);
    return lr * (start_factor + (end_factor - start_factor) * done);
  }
};

/// lr · factor during total_iters steps, then lr.
struct ConstantLR {
  double lr = 1;
  double factor = 1.0 / 3;
  std::int64_t total_iters = 5;

  double operator()(std::int64_t t) const {
    detail::check_schedule("ConstantLR", lr, t);
    check(factor >= 0 && factor <= 1, "ConstantLR: need 0 <= factor <= 1 (", factor, ")");
    check(total_iters >= 1, "ConstantLR: need total_iters >= 1 (", total_iters, ")");
    return t < total_iters ? lr * factor : lr;
  }
};

/// Multiplies lr by `factor` when a metric has not improved for more than `patience` steps. Carries state: `lr` is the
/// current rate, and all fields together are what a checkpoint stores.
struct ReduceLROnPlateau {
  enum class Mode { min, max };       ///< is a smaller or a larger metric better
  enum class Threshold { rel, abs };  ///< an improvement must exceed threshold · best, or threshold

  double lr = 1;
  Mode mode = Mode::min;
  double factor = 0.1;
  std::int64_t patience = 10;
  double threshold = 1e-4;
  Threshold threshold_mode = Threshold::rel;
  std::int64_t cooldown = 0;  ///< steps after a reduction in which nothing is counted
  double min_lr = 0;
  double eps = 1e-8;  ///< smaller changes of lr are not made

  std::optional<double> best = {};  ///< state: the best metric so far
  std::int64_t bad_steps = 0;       ///< state: steps since then
  std::int64_t cooldown_left = 0;   ///< state

  double operator()() const { return lr; }

  /// Takes the metric of a step (NaN is never an improvement) and returns the new rate.
  double step(double metric) {
    detail::check_schedule("ReduceLROnPlateau", lr, 0);
    check(factor >= 0 && factor < 1, "ReduceLROnPlateau: need 0 <= factor < 1 (", factor, ")");
    check(patience >= 0 && cooldown >= 0, "ReduceLROnPlateau: need patience and cooldown >= 0 (", patience, " and ",
          cooldown, ")");
    check(threshold >= 0 && min_lr >= 0 && eps >= 0, "ReduceLROnPlateau: need threshold, min_lr and eps >= 0 (",
          threshold, ", ", min_lr, " and ", eps, ")");
    if (improves(metric)) {
      best = metric;
      bad_steps = 0;
    } else {
      ++bad_steps;
    }
    if (cooldown_left > 0) {
      --cooldown_left;
      bad_steps = 0;
    }
    if (bad_steps > patience) {
      const double lower = std::max(lr * factor, min_lr);
      if (lr - lower > eps) lr = lower;
      cooldown_left = cooldown;
      bad_steps = 0;
    }
    return lr;
  }

  /// Is this metric better than the best by more than the threshold?
  bool improves(double metric) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const double old = best.value_or(mode == Mode::min ? infinity : -infinity);
    if (threshold_mode == Threshold::rel)
      return mode == Mode::min ? metric < old * (1 - threshold) : metric > old * (1 + threshold);
    return mode == Mode::min ? metric < old - threshold : metric > old + threshold;
  }
};

}  // namespace deepstruct
