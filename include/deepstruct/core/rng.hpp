// Rng: counter-based random numbers with the same bits under every compiler, flag, instruction set and thread count.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "device.hpp"
#include "error.hpp"

namespace deepstruct {

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four words from key and
/// counter.
constexpr std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t low, std::uint64_t high) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  std::array<std::uint32_t, 4> c{static_cast<std::uint32_t>(low), static_cast<std::uint32_t>(low >> 32),
                                 static_cast<std::uint32_t>(high), static_cast<std::uint32_t>(high >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * c[0], b = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(a)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

namespace detail {

// The library's own log, sin and cos in double: libm's differ between systems. Every product that meets a sum goes
// through std::fma, so -ffp-contract cannot change a bit; accuracy is about 1e-15.

/// Natural logarithm of x > 0: x = m·2^e, ln m = 2·artanh((m − 1)/(m + 1)) as a series.
inline double exact_log(double x) {
  int e = 0;
  double m = std::frexp(x, &e);
  if (m < 0.70710678118654752) {
    m *= 2;
    --e;
  }
  const double s = (m - 1) / (m + 1), s2 = s * s;
  double p = 1.0 / 21;
  for (int k = 19; k >= 3; k -= 2) p = std::fma(p, s2, 1.0 / k);
  const double cube = s * s2;
  return std::fma(static_cast<double>(e), 0.69314718055994531, 2 * std::fma(cube, p, s));
}

/// {cos, sin} of 2π·word/2³².
inline std::pair<double, double> exact_cos_sin(std::uint32_t word) {
  const std::uint32_t quadrant = (word + (1u << 29)) >> 30;
  const double t =
      static_cast<double>(static_cast<std::int32_t>(word - (quadrant << 30))) * (6.283185307179586477 / 4294967296.0);
  const double t2 = t * t, t3 = t * t2;
  double c = -1.0 / 87178291200, s = -1.0 / 1307674368000;
  for (double k : {1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24, -0.5, 1.0})
    c = std::fma(c, t2, k);
  for (double k : {1.0 / 6227020800, -1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6})
    s = std::fma(s, t2, k);
  s = std::fma(s, t3, t);
  switch (quadrant & 3) {
    case 0:
      return {c, s};
    case 1:
      return {-s, c};
    case 2:
      return {-c, -s};
    default:
      return {s, -c};
  }
}

}  // namespace detail

/// One draw of a generator: an endless array of random numbers, element i a pure function of (seed, draw, i).
struct Draw {
  std::uint64_t seed = 0;
  std::uint64_t number = 0;

  /// 32 random bits.
  std::uint32_t word(std::uint64_t i) const { return philox(seed, i / 4, number)[i % 4]; }
  /// Uniform in [0, 1), a multiple of 2⁻²⁴.
  float uniform(std::uint64_t i) const { return static_cast<float>(word(i) >> 8) * 0x1p-24f; }
  /// Uniform in [low, high].
  float uniform(std::uint64_t i, float low, float high) const { return between(word(i), low, high); }
  /// The number in [low, high] that 32 random bits stand for.
  static float between(std::uint32_t bits, float low, float high) {
    const float unit = static_cast<float>(bits >> 8) * 0x1p-24f;
    const double range = double{high} - double{low};
    // Where the range is a float the product is exact: the same bits without a call to fma.
    if (double{static_cast<float>(range)} == range) return static_cast<float>(range * double{unit} + double{low});
    return static_cast<float>(std::fma(range, double{unit}, double{low}));
  }
  /// Standard normal (Box–Muller: elements 2k and 2k + 1 share a pair of words).
  float normal(std::uint64_t i) const {
    const auto words = philox(seed, i / 4, number);
    const auto pair = i % 4 / 2 * 2;
    const double radius = std::sqrt(-2 * detail::exact_log((static_cast<double>(words[pair]) + 0.5) * 0x1p-32));
    const auto [c, s] = detail::exact_cos_sin(words[pair + 1]);
    return static_cast<float>(radius * (i % 2 ? s : c));
  }
  /// Uniform integer in [0, n), 1 ≤ n < 2³²; the bias is below 2⁻³².
  std::uint64_t below(std::uint64_t i, std::uint64_t n) const {
    const auto words = philox(seed, i / 2, number);
    const std::uint64_t high = words[i % 2 * 2], low = words[i % 2 * 2 + 1];
    return (high * n + (low * n >> 32)) >> 32;
  }
};

/// The numbers of a draw, cheap when they are asked for in order: four words are one block of Philox.
class DrawInOrder {
 public:
  explicit DrawInOrder(Draw draw) : draw_(draw) {}
  std::uint32_t word(std::uint64_t i) {
    if (i / 4 != block_) words_ = philox(draw_.seed, block_ = i / 4, draw_.number);
    return words_[i % 4];
  }
  float uniform(std::uint64_t i, float low, float high) { return Draw::between(word(i), low, high); }

 private:
  Draw draw_;
  std::uint64_t block_ = ~std::uint64_t{0};
  std::array<std::uint32_t, 4> words_{};
};

/// A random generator: a seed and a count of draws; its whole state is these two numbers.
///
/// Each call takes one draw; what an array draw gives to element i depends on (seed, draw, i) only, never on threads or
/// layout.
class Rng {
 public:
  explicit Rng(std::uint64_t seed = 0, std::uint64_t draws = 0) : seed_(seed), draws_(draws) {}

  std::uint64_t seed() const { return seed_; }
  std::uint64_t draws() const { return draws_; }
  friend bool operator==(const Rng&, const Rng&) = default;

  /// The next draw.
  Draw draw() { return {seed_, draws_++}; }
  /// The same for numbers that the host makes. Throws in captured work (runtime::Capture), which would have the same
  /// ones in every launch.
  Draw host_draw() {
    check(!runtime::capturing, "Rng: captured work has random numbers from ops like dropout only (draw ", draws_,
          " on the host)");
    return draw();
  }

  std::uint32_t bits() { return host_draw().word(0); }
  /// Uniform in [0, 1).
  float uniform() { return host_draw().uniform(0); }
  /// Uniform in [low, high].
  float uniform(float low, float high) { return host_draw().uniform(0, low, high); }
  /// Standard normal.
  float normal() { return host_draw().normal(0); }
  /// Uniform integer in [0, n), 1 ≤ n < 2³².
  std::uint64_t below(std::uint64_t n) {
    check(n >= 1 && n < (std::uint64_t{1} << 32), "Rng::below: need 1 <= n < 2^32 (", n, ")");
    return host_draw().below(0, n);
  }
  /// True with probability p.
  bool bernoulli(float p) { return uniform() < p; }

  /// Puts the elements in random order (Fisher–Yates), every order equally likely.
  template <class T>
  void shuffle(std::span<T> items) {
    check(items.size() < (std::uint64_t{1} << 32), "Rng::shuffle: too many items (", items.size(), ")");
    const Draw d = host_draw();
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[d.below(i, i)]);
  }

  /// A random order of 0 … n − 1.
  std::vector<std::int32_t> permutation(std::int64_t n) {
    check(n >= 0 && n < (std::int64_t{1} << 31), "Rng::permutation: need 0 <= n < 2^31 (", n, ")");
    std::vector<std::int32_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    shuffle(std::span(order));
    return order;
  }

 private:
  std::uint64_t seed_;
  std::uint64_t draws_;
};

/// The generator of this thread, used where no Rng is given.
inline Rng& default_rng() {
  thread_local Rng rng;
  return rng;
}

/// Restarts this thread's default generator.
inline void manual_seed(std::uint64_t seed) { default_rng() = Rng(seed); }

}  // namespace deepstruct
