// Budget: how much to prune. percentage(q), absolute(n), bucket(s).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../core/error.hpp"
#include "select.hpp"

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

/// Where the ascending sum of all saliencies first exceeds the bound; false if it never does.
inline bool find_bucket(Parts saliency, double bound, Selected& at) {
  double total = 0;
  for (std::span<const float> part : saliency)
    for (float s : part) total += double{s};
  if (!(total > bound)) return false;
  at = select<true>(saliency, [bound](std::int64_t, double sum) { return sum > bound; });
  return true;
}

/// The saliency below which the budget prunes, of a non-empty set; rounded to float32 as Python deepstruct compares it.
/// Everything equal to the threshold stays.
inline float threshold(Parts saliency, const Budget& budget) {
  const std::int64_t n = size_of(saliency);
  switch (budget.kind) {
    case Budget::Kind::percentage: {  // numpy.percentile with linear interpolation
      const double at = budget.value / 100 * static_cast<double>(n - 1);
      const auto k = static_cast<std::int64_t>(at);
      const double t = at - static_cast<double>(k);
      const Selected low = nth_smallest(saliency, k);
      // The value at k + 1; the last one is its own neighbour.
      const float a = low.value, b = low.below + low.equal > k + 1 || k + 1 == n ? a : low.next;
      if (!std::isfinite(b - a)) return t > 0 ? b : a;  // infinite saliencies: ends of the scale
      const double step = double{b - a};
      return static_cast<float>(t < 0.5 ? double{a} + step * t : double{b} - step * (1 - t));
    }
    case Budget::Kind::absolute:
      return nth_smallest(saliency, std::min(n - 1, static_cast<std::int64_t>(std::min(budget.value, 1e18)))).value;
    case Budget::Kind::bucket:
      break;
  }
  Selected at;
  if (find_bucket(saliency, budget.value, at)) return at.value;
  return std::nextafter(nth_smallest(saliency, n - 1).value, std::numeric_limits<float>::infinity());
}

/// How many of the weights the budget prunes when exactly that many shall go.
inline std::int64_t exact_count(Parts saliency, const Budget& budget) {
  const std::int64_t n = size_of(saliency);
  if (budget.kind == Budget::Kind::percentage)
    return static_cast<std::int64_t>(std::nearbyint(budget.value / 100 * static_cast<double>(n)));
  if (budget.kind == Budget::Kind::absolute)
    return static_cast<std::int64_t>(std::min(budget.value, static_cast<double>(n)));
  Selected at;
  if (!find_bucket(saliency, budget.value, at)) return n;
  return at.below + static_cast<std::int64_t>((budget.value - at.sum_below) / double{at.value});
}

}  // namespace detail

}  // namespace deepstruct
