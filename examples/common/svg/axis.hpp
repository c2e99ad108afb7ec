// Axis: where a value lies, which ticks it gets and how it is written.
#pragma once

#include "../numbers.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace examples::svg {

/// How values are spread: as they are, by log x, or by -log(1 - x), which spreads a sparsity by what remains.
enum class Scale { linear, log, log_remaining };

/// How values are written; percent writes 0.95 as 95 %.
enum class Format { number, percent };

/// One axis of a chart. Ticks and ends that are not given are chosen from the data.
struct Axis {
  std::string label = {};
  Scale scale = Scale::linear;
  Format format = Format::number;
  int decimals = 1;  ///< of the labels at points
  std::optional<double> min = {}, max = {};
  std::vector<double> ticks = {};
};

/// A value as a label at a point.
inline std::string label_text(const Axis& axis, double value) {
  return axis.format == Format::percent ? fixed(100 * value, axis.decimals) + "\u00A0%" : fixed(value, axis.decimals);
}

/// The place of a value along the axis before stretching to pixels; not finite outside the scale's domain.
inline double transform(Scale scale, double x) {
  return scale == Scale::linear ? x : scale == Scale::log ? std::log10(x) : -std::log10(1 - x);
}

/// The largest of 1, 2, 5 times a power of ten that gives at least `count` steps over `span`.
inline double nice_step(double span, int count) {
  const double raw = span / count;
  const double power = std::pow(10, std::floor(std::log10(raw) + 1e-9));
  const double lead = raw / power + 1e-9;
  return power * (lead >= 5 ? 5 : lead >= 2 ? 2 : 1);
}

/// An axis fitted to data: its ends and its ticks.
struct FittedAxis {
  Axis axis;
  double low = 0, high = 1;  ///< transformed
  std::vector<double> ticks;
  double step = 0;  ///< between ticks; 0: uneven

  /// 0 at the low end, 1 at the high end.
  double unit(double value) const { return (transform(axis.scale, value) - low) / (high - low); }
  /// A tick as text: even ticks get equally many decimals.
  std::string tick_text(double value) const {
    const double factor = axis.format == Format::percent ? 100 : 1;
    const std::string suffix = axis.format == Format::percent ? "\u00A0%" : "";
    if (step <= 0) return significant(factor * value, 6) + suffix;
    return fixed(factor * value, std::clamp(static_cast<int>(-std::floor(std::log10(factor * step) + 1e-9)), 0, 9)) +
           suffix;
  }
};

namespace detail {

/// 1, 2, 5 times powers of ten between two powers; only the powers where there are many decades.
inline std::vector<double> log_ticks(double low, double high) {
  std::vector<double> ticks;
  for (double decade = std::floor(low - 1e-9); decade <= high + 1e-9; ++decade) {
    for (const double lead : {1.0, 2.0, 5.0}) {
      if (lead > 1 && high - low > 3) continue;
      const double place = decade + std::log10(lead);
      if (place >= low - 1e-9 && place <= high + 1e-9) ticks.push_back(lead * std::pow(10, decade));
    }
  }
  return ticks;
}

}  // namespace detail

/// Ends and ticks for these values; an even axis without given ends grows to whole ticks if `round_ends`.
inline FittedAxis fit(const Axis& axis, const std::vector<double>& values, bool round_ends) {
  FittedAxis fitted{.axis = axis, .ticks = axis.ticks};
  bool any = false;
  const auto include = [&](double value) {
    const double place = transform(axis.scale, value);
    if (!std::isfinite(place)) return;
    fitted.low = any ? std::min(fitted.low, place) : place;
    fitted.high = any ? std::max(fitted.high, place) : place;
    any = true;
  };
  for (const double value : values) include(value);
  for (const double tick : axis.ticks) include(tick);
  if (const double end = transform(axis.scale, axis.min.value_or(0)); axis.min && std::isfinite(end)) fitted.low = end;
  if (const double end = transform(axis.scale, axis.max.value_or(0)); axis.max && std::isfinite(end)) fitted.high = end;
  if (!(fitted.high - fitted.low > 1e-12 * std::max(1e-300, std::abs(fitted.high)))) {
    const double room = fitted.low == 0 || axis.scale != Scale::linear ? 0.5 : 0.05 * std::abs(fitted.low);
    if (!axis.min) fitted.low -= room;
    fitted.high = fitted.low + 2 * room;
  }
  const double lowest = fitted.low, highest = fitted.high;
  if (axis.scale == Scale::linear) {
    fitted.step = axis.ticks.empty() ? nice_step(fitted.high - fitted.low, 4) : 0;
    if (!axis.ticks.empty()) return fitted;
    double first = std::ceil(fitted.low / fitted.step - 1e-6), last = std::floor(fitted.high / fitted.step + 1e-6);
    if (round_ends && !axis.min) first = std::floor(fitted.low / fitted.step + 1e-6), fitted.low = first * fitted.step;
    if (round_ends && !axis.max) last = std::ceil(fitted.high / fitted.step - 1e-6), fitted.high = last * fitted.step;
    // A little air between the data and the frame, except at a zero that the data does not cross.
    const double air = 0.03 * (last - first);
    if (round_ends && !axis.min && any && lowest / fitted.step - first < air && first != 0)
      fitted.low = --first * fitted.step;
    if (round_ends && !axis.max && any && last - highest / fitted.step < air && last != 0 &&
        !(axis.format == Format::percent && last * fitted.step > 0.999))
      fitted.high = ++last * fitted.step;
    for (double k = first; k <= last; ++k) fitted.ticks.push_back(k * fitted.step);
  } else if (axis.ticks.empty()) {
    if (axis.scale == Scale::log) {
      fitted.ticks = detail::log_ticks(fitted.low, fitted.high);
    } else {
      for (const double rest : detail::log_ticks(-fitted.high, -fitted.low)) fitted.ticks.push_back(1 - rest);
      std::reverse(fitted.ticks.begin(), fitted.ticks.end());
    }
  }
  return fitted;
}

}  // namespace examples::svg
