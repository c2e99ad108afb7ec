// Budget: how much to prune. percentage(q), absolute(n), bucket(s).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../core/error.hpp"

namespace deepstruct {

/// How much a pruning step takes away; made by percentage, absolute and bucket.
struct Budget {
  enum class Kind { percentage, absolute, bucket };
  Kind kind;
  double value;
};

/// q per cent of the weights that still exist, 0 to 100.
inline Budget percentage(double q) {
  check(q >= 0 && q <= 100, "percentage: need 0 to 100 per cent (", q, ")");
  return {Budget::Kind::percentage, q};
}
/// A number of weights.
inline Budget absolute(std::int64_t n) {
  check(n >= 0, "absolute: the number of weights must not be negative (", n, ")");
  return {Budget::Kind::absolute, static_cast<double>(n)};
}
/// As many of the least salient weights as have saliencies adding up to at most s.
inline Budget bucket(double s) {
  check(s >= 0, "bucket: the sum must not be negative (", s, ")");
  return {Budget::Kind::bucket, s};
}

namespace detail {

/// The saliency below which the budget prunes, of a non-empty set; rounded to float32 as Python deepstruct compares it.
/// Everything equal to the threshold stays.
inline float threshold(std::vector<float> saliency, const Budget& budget) {
  const auto n = static_cast<std::int64_t>(saliency.size());
  const auto smallest = [&](std::int64_t k) {
    std::nth_element(saliency.begin(), saliency.begin() + k, saliency.end());
    return saliency[static_cast<std::size_t>(k)];
  };
  switch (budget.kind) {
    case Budget::Kind::percentage: {  // numpy.percentile with linear interpolation
      const double at = budget.value / 100 * static_cast<double>(n - 1);
      const auto k = static_cast<std::int64_t>(at);
      const double t = at - static_cast<double>(k);
      const float a = smallest(k), b = k + 1 < n ? smallest(k + 1) : a;
      if (!std::isfinite(b - a)) return t > 0 ? b : a;  // infinite saliencies: ends of the scale
      const double step = double{b - a};
      return static_cast<float>(t < 0.5 ? double{a} + step * t : double{b} - step * (1 - t));
    }
    case Budget::Kind::absolute:
      return smallest(std::min(n - 1, static_cast<std::int64_t>(std::min(budget.value, 1e18))));
    case Budget::Kind::bucket:
      break;
  }
  std::sort(saliency.begin(), saliency.end());
  double total = 0;
  for (float s : saliency)
    if ((total += double{s}) > budget.value) return s;
  return std::nextafter(saliency.back(), std::numeric_limits<float>::infinity());
}

/// How many of n weights the budget prunes when exactly that many shall go.
inline std::int64_t exact_count(std::vector<float> saliency, const Budget& budget) {
  const auto n = static_cast<std::int64_t>(saliency.size());
  if (budget.kind == Budget::Kind::percentage)
    return static_cast<std::int64_t>(std::nearbyint(budget.value / 100 * static_cast<double>(n)));
  if (budget.kind == Budget::Kind::absolute)
    return static_cast<std::int64_t>(std::min(budget.value, static_cast<double>(n)));
  std::sort(saliency.begin(), saliency.end());
  std::int64_t count = 0;
  for (double total = 0; count < n && (total += double{saliency[static_cast<std::size_t>(count)]}) <= budget.value;)
    ++count;
  return count;
}

}  // namespace detail

}  // namespace deepstruct
