// Power law of degrees: exponent by maximum likelihood, least value by the distance of Kolmogorov and Smirnov.
#pragma once

#include "../core/parallel.hpp"
#include "metrics.hpp"

namespace deepstruct {

/// A discrete power law p(x) = x^−α / ζ(α, x_min) for x ≥ x_min, and how well it fits.
struct PowerLaw {
  double alpha = 0;        ///< exponent α > 1
  std::int32_t x_min = 0;  ///< least value that follows the law
  double ks = 0;           ///< max_x |S(x) − P(x)|, S and P the distribution functions of the tail and of the law
  std::int64_t tail = 0;   ///< number of values ≥ x_min
};

namespace detail {

/// e^x for x ≤ 0 with the same bits everywhere (as exact_log): e^x = 2^k·e^r, |r| ≤ ln 2 / 2, as a series.
inline double exact_exp(double x) {
  if (x < -745) return 0;
  const double k = std::floor(std::fma(x, 1.4426950408889634, 0.5));
  const double r = std::fma(-k, 1.9082149292705877e-10, std::fma(-k, 0.693147180369123816490, x));
  double p = 1;
  for (int i = 14; i >= 1; --i) p = std::fma(p, r / i, 1.0);
  return std::ldexp(p, static_cast<int>(k));
}

/// q^α·ζ(α, q) = Σ_{k ≥ 0} (1 + k/q)^−α and its derivative by α: first terms, then Euler–Maclaurin (DLMF 2.10.1). In
/// this measure nothing leaves the range of double.
struct RelativeZeta {
  double value = 0, slope = 0;
};
inline RelativeZeta relative_zeta(double alpha, double q) {
  RelativeZeta z;
  for (double a = q;; ++a) {
    const double t = exact_log(a / q), power = exact_exp(-alpha * t);
    if (power < 1e-20) return z;  // at most α more terms matter: nothing is left
    if (a >= 4 * alpha + 20) {
      const double u = alpha / a, v = (alpha + 1) / a, w = (alpha + 2) / a, x = (alpha + 3) / a, y = (alpha + 4) / a;
      const double rest = a / (alpha - 1) + 0.5 + u / 12 - u * v * w / 720 + u * v * w * x * y / 30240;
      const double rest_slope =
          -a / ((alpha - 1) * (alpha - 1)) +
          (1.0 / 12 - (u * v + u * w + v * w) / 720 +
           (v * w * x * y + u * w * x * y + u * v * x * y + u * v * w * y + u * v * w * x) / 30240) /
              a;
      return {std::fma(power, rest, z.value), std::fma(power, std::fma(-t, rest, rest_slope), z.slope)};
    }
    z.value += power;
    z.slope = std::fma(-t, power, z.slope);
  }
}

/// The α with E[ln(x/q)] = mean under the law from q on, which the greatest likelihood has; bisection.
inline double power_law_alpha(double mean, double q) {
  const auto too_small = [&](double alpha) {
    const RelativeZeta z = relative_zeta(alpha, q);
    return -z.slope > mean * z.value;
  };
  double low = 1, high = 2;
  while (too_small(high)) low = std::exchange(high, 2 * high);
  for (int step = 0; step < 60; ++step) {
    const double middle = low + (high - low) / 2;
    (too_small(middle) ? low : high) = middle;
  }
  return low + (high - low) / 2;
}

/// The law for the values from value[0] on, count[k] of value[k], ascending.
inline PowerLaw power_law_from(std::span<const std::int32_t> value, std::span<const std::int64_t> count) {
  PowerLaw law;
  law.x_min = value[0];
  const double q = value[0];
  double sum = 0;
  for (std::size_t k = 0; k < value.size(); ++k) {
    sum = std::fma(static_cast<double>(count[k]), exact_log(value[k] / q), sum);
    law.tail += count[k];
  }
  law.alpha = power_law_alpha(sum / static_cast<double>(law.tail), q);
  const double all = relative_zeta(law.alpha, q).value;
  const auto from = [&](double x) {  // P(X ≥ x)
    return exact_exp(-law.alpha * exact_log(x / q)) * relative_zeta(law.alpha, x).value / all;
  };
  std::int64_t left = law.tail;
  for (std::size_t k = 0; k < value.size(); ++k) {  // S is constant from one value to before the next, P rises
    left -= count[k];
    const double above = static_cast<double>(left) / static_cast<double>(law.tail);
    law.ks = std::max(law.ks, std::fabs(above - from(value[k] + 1.0)));
    if (k + 1 < value.size()) law.ks = std::max(law.ks, std::fabs(above - from(value[k + 1])));
  }
  return law;
}

}  // namespace detail

/// The power law that fits the values from some x_min on best: for every x_min the α of greatest likelihood, ℓ(α) =
/// −N·ln ζ(α, x_min) − α·Σ ln x, and of these the law with the least distance ks, the smaller x_min if equal.
///
/// Clauset, Shalizi and Newman, "Power-law distributions in empirical data", SIAM Review 2009, eqs. 3.5 to 3.9; no test
/// of significance. Zeros are left out. O(N log N + u²) with u different values, threaded. Throws on a negative value,
/// or if fewer than two different values are left.
inline PowerLaw power_law_fit(std::span<const std::int32_t> values) {
  std::vector<std::int32_t> sorted(values.begin(), values.end()), value;
  std::vector<std::int64_t> count;
  std::sort(sorted.begin(), sorted.end());
  check(sorted.empty() || sorted[0] >= 0, "power_law_fit: needs values of 0 or more (", sorted.empty() ? 0 : sorted[0],
        ")");
  for (const std::int32_t x : sorted) {
    if (x == 0) continue;
    if (value.empty() || value.back() != x) {
      value.push_back(x);
      count.push_back(0);
    }
    ++count.back();
  }
  check(value.size() >= 2, "power_law_fit: needs two different positive values (", value.size(), " among ",
        values.size(), " values)");
  std::vector<PowerLaw> law(value.size() - 1);
  parallel_for(static_cast<std::int64_t>(law.size()), [&](std::int64_t k) {
    law[k] = detail::power_law_from(std::span(value).subspan(k), std::span(count).subspan(k));
  });
  return *std::min_element(law.begin(), law.end(), [](const PowerLaw& a, const PowerLaw& b) { return a.ks < b.ks; });
}
/// The power law of degrees(); as above.
inline PowerLaw power_law_fit(const Graph& g) { return power_law_fit(degrees(g)); }

}  // namespace deepstruct
