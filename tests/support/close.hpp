// Comparison with an exact reference within eps·√terms·magnitude; reports the first mismatch.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include <deepstruct/core/tensor.hpp>

#include "support/catch.hpp"

namespace test {

/// An entry of a reference: its value in double, Σ |terms| it was added from, and how many there were.
struct Exact {
  double value = 0;
  double magnitude = 0;
  double terms = 0;

  Exact() = default;
  Exact(double v) : value(v), magnitude(std::fabs(v)), terms(1) {}  // NOLINT: a number is its own reference
  Exact(double v, double m, double t) : value(v), magnitude(m), terms(t) {}
  void add(double term) {
    value += term;
    magnitude += std::fabs(term);
    ++terms;
  }
};

/// What a got value may differ by: `ulps` roundings per term.
inline double tolerance(const Exact& want, double ulps) {
  return ulps * 0x1p-24 * std::sqrt(want.terms + 1) * want.magnitude + std::numeric_limits<float>::min();
}

inline bool close(double got, const Exact& want, double ulps) {
  if (std::isnan(want.value)) return std::isnan(got);
  if (std::isinf(want.value) || std::fabs(want.value) > std::numeric_limits<float>::max())
    return got == std::copysign(std::numeric_limits<double>::infinity(), want.value);
  return std::fabs(got - want.value) <= tolerance(want, ulps);
}

/// Text about the first entry of `got` that is not close to `want` (row-major), or "" if all are.
[[gnu::noinline]] inline std::string first_mismatch(const deepstruct::Tensor& got, const deepstruct::Shape& shape,
                                                    const std::vector<Exact>& want, double ulps = 4) {
  std::ostringstream text;
  if (got.shape() != shape) {
    text << "shape " << got.shape() << " instead of " << shape;
    return text.str();
  }
  if (got.size() != static_cast<std::int64_t>(want.size())) {
    text << got.size() << " values, but the reference has " << want.size();
    return text.str();
  }
  got.for_each([&](std::int64_t i, float x) {
    const Exact& w = want[static_cast<std::size_t>(i)];
    if (text.tellp() > 0 || close(x, w, ulps)) return;
    text.precision(9);
    text << "element " << i << " of " << shape << ": got " << x << ", want " << w.value << " ± " << tolerance(w, ulps);
  });
  return text.str();
}

/// Fails with the first mismatch.
[[gnu::noinline]] inline void require_close(const deepstruct::Tensor& got, const std::vector<Exact>& want,
                                            double ulps = 4) {
  const std::string mismatch = first_mismatch(got, got.shape(), want, ulps);
  if (!mismatch.empty()) FAIL(mismatch);
}
[[gnu::noinline]] inline void require_close(const deepstruct::Tensor& got, const deepstruct::Tensor& want,
                                            double relative = 1e-5, double absolute = 1e-6) {
  REQUIRE(got.shape() == want.shape());
  const std::vector<float> values = want.to_vector();
  got.for_each([&](std::int64_t i, float x) {
    const double w = double{values[static_cast<std::size_t>(i)]};
    if (!(std::fabs(double{x} - w) <= absolute + relative * std::fabs(w)) && !(std::isnan(x) && std::isnan(w)))
      FAIL("element " << i << " of " << got.shape() << ": got " << x << ", want " << w);
  });
}

/// True if both hold the same bits, NaN included; padding is not looked at.
[[gnu::noinline]] inline bool same_bits(const deepstruct::Tensor& a, const deepstruct::Tensor& b) {
  if (a.shape() != b.shape()) return false;
  const std::vector<float> x = a.to_vector(), y = b.to_vector();
  return x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
}

}  // namespace test
