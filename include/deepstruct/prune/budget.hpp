// Budget: how much to prune. percentage(q), absolute(n), bucket(s), or what stays: remaining(n), density(d).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "select.hpp"

namespace deepstruct {

/// How much a pruning step takes away; made by percentage, absolute and bucket, or by what stays: remaining, density.
struct Budget {
  enum class Kind { percentage, absolute, bucket, remaining, density };
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
/// Exactly n weights stay, of equally salient ones the last; an Error where that cannot be.
inline Budget remaining(std::int64_t n) {
  check(n >= 0, "remaining: the number of weights must not be negative (", n, ")");
  return {Budget::Kind::remaining, static_cast<double>(n)};
}
/// Exactly the share d, 0 to 1, of all places for weights stays, rounded half to even to a number of weights: d·in·out
/// of a linear layer, whether they exist now or not. A mask that is the structure of a network has no places but its
/// edges.
inline Budget density(double d) {
  check(d >= 0 && d <= 1, "density: need 0 to 1 (", d, ")");
  return {Budget::Kind::density, d};
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

/// The saliency below which a percentage or number prunes, of n > 0; rounded to float32 as Python deepstruct compares
/// it. Everything equal to the threshold stays. pair(k) gives the k-th smallest and the one after it (of the last one
/// itself).
template <class Pair>
float threshold(std::int64_t n, const Budget& budget, Pair&& pair) {
  if (budget.kind == Budget::Kind::absolute)
    return pair(std::min(n - 1, static_cast<std::int64_t>(std::min(budget.value, 1e18)))).first;
  const double at = budget.value / 100 * static_cast<double>(n - 1);  // numpy.percentile with linear interpolation
  const auto k = static_cast<std::int64_t>(at);
  const double t = at - static_cast<double>(k);
  const auto [a, b] = pair(k);
  if (!std::isfinite(b - a)) return t > 0 ? b : a;  // infinite saliencies: ends of the scale
  const double step = double{b - a};
  return static_cast<float>(t < 0.5 ? double{a} + step * t : double{b} - step * (1 - t));
}
/// The same for any budget, of a non-empty set.
inline float threshold(Parts saliency, const Budget& budget) {
  const std::int64_t n = size_of(saliency);
  if (budget.kind != Budget::Kind::bucket)
    return threshold(n, budget, [&](std::int64_t k) {
      const Selected low = nth_smallest(saliency, k);
      return std::pair(low.value, low.below + low.equal > k + 1 || k + 1 == n ? low.value : low.next);
    });
  Selected at;
  if (find_bucket(saliency, budget.value, at)) return at.value;
  return std::nextafter(nth_smallest(saliency, n - 1).value, std::numeric_limits<float>::infinity());
}

/// How many of n weights a percentage or number prunes when exactly that many shall go.
inline std::int64_t exact_count(std::int64_t n, const Budget& budget) {
  if (budget.kind == Budget::Kind::percentage)
    return static_cast<std::int64_t>(std::nearbyint(budget.value / 100 * static_cast<double>(n)));
  return static_cast<std::int64_t>(std::min(budget.value, static_cast<double>(n)));
}
/// The same for any budget.
inline std::int64_t exact_count(Parts saliency, const Budget& budget) {
  const std::int64_t n = size_of(saliency);
  if (budget.kind != Budget::Kind::bucket) return exact_count(n, budget);
  Selected at;
  if (!find_bucket(saliency, budget.value, at)) return n;
  return at.below + static_cast<std::int64_t>((budget.value - at.sum_below) / double{at.value});
}

/// A budget of what stays, of n weights in so many places, as the number that goes; others are as they were. Throws if
/// there are not so many.
inline Budget going(const Budget& budget, std::int64_t n, std::int64_t places, std::string_view op) {
  if (budget.kind != Budget::Kind::remaining && budget.kind != Budget::Kind::density) return budget;
  const double left = budget.kind == Budget::Kind::remaining
                          ? budget.value
                          : std::nearbyint(budget.value * static_cast<double>(places));
  check(left <= static_cast<double>(n), op, ": there are fewer weights than shall stay (", left, " of ", n, ")");
  return {Budget::Kind::absolute, static_cast<double>(n) - left};
}
inline bool says_what_stays(const Budget& budget) {
  return budget.kind == Budget::Kind::remaining || budget.kind == Budget::Kind::density;
}

/// n in whole numbers, in proportion to shares that are not negative: what is over after rounding down goes to the
/// greatest remainders, of equal ones to the first.
inline std::vector<std::int64_t> share_out(std::int64_t n, std::span<const double> shares) {
  double sum = 0;
  for (const double s : shares) sum += s;
  std::vector<std::int64_t> parts(shares.size(), 0);
  if (!(sum > 0)) return parts;
  std::vector<std::pair<double, std::size_t>> rest;
  for (std::size_t k = 0; k < shares.size(); ++k) {
    const double exact = shares[k] / sum * static_cast<double>(n);
    parts[k] = static_cast<std::int64_t>(exact);
    if (shares[k] > 0) rest.emplace_back(exact - static_cast<double>(parts[k]), k);
  }
  std::int64_t left = n;
  for (const std::int64_t p : parts) left -= p;
  std::stable_sort(rest.begin(), rest.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  for (std::size_t k = 0; left > 0; k = (k + 1) % rest.size(), --left) ++parts[rest[k].second];
  return parts;
}

}  // namespace detail

}  // namespace deepstruct
