// Philox, the literal hashes that make initial values, masks and orders one thing everywhere, and the distributions.
#include <deepstruct/core/mask.hpp>

#include <bit>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

/// 64-bit FNV-1a over 32-bit words, least significant byte first.
struct Fnv {
  std::uint64_t state = 0xcbf29ce484222325u;
  void add(std::uint32_t word) {
    for (int k = 0; k < 4; ++k) state = (state ^ (word >> 8 * k & 0xFF)) * 0x100000001b3u;
  }
};
std::uint64_t hash(const Tensor& t) {
  Fnv h;
  t.for_each([&](std::int64_t, float x) { h.add(std::bit_cast<std::uint32_t>(x)); });
  return h.state;
}
std::uint64_t hash(std::span<const std::int32_t> words) {
  Fnv h;
  for (std::int32_t w : words) h.add(static_cast<std::uint32_t>(w));
  return h.state;
}

using Words = std::array<std::uint32_t, 4>;

}  // namespace

// kat_vectors of the Random123 distribution, philox4x32 with 10 rounds.
TEST_CASE("Philox gives the words of the reference implementation") {
  const std::uint64_t ones = ~std::uint64_t{0};
  REQUIRE(philox(0, 0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  REQUIRE(philox(ones, ones, ones) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  // counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0
  REQUIRE(philox(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e) ==
          Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("the same bits on every compiler, flag, instruction set and thread count") {
  Rng rng(42);
  const Tensor uniform = Tensor::uniform({1000, 3}, -0.3f, 0.7f, rng);
  const Tensor normal = Tensor::normal({1000, 3}, 0.1f, 2.5f, rng);
  const auto order = rng.permutation(5000);
  const Mask mask = Mask::random(100, 77, 0.23, rng);
  std::vector<std::int32_t> words;
  for (int k = 0; k < 100; ++k) words.push_back(static_cast<std::int32_t>(rng.bits()));
  CHECK(hash(uniform) == 0x428e36d348b9e789);
  CHECK(hash(normal) == 0x7625562f856b9d3c);
  CHECK(hash(order) == 0xe9a93f0b4d5cd995);
  CHECK(hash(mask.col()) == 0x36899727e7db0ab0);
  CHECK(hash(words) == 0x58f095b7e1554141);
}

TEST_CASE("log, cosine and sine are libm's to 4e-15") {
  Rng rng(9);
  for (int k = 0; k < 2000; ++k) {
    const double x = (static_cast<double>(rng.bits()) + 0.5) * 0x1p-32;
    REQUIRE(std::fabs(deepstruct::detail::exact_log(x) - std::log(x)) <= 4e-15 * (1 + std::fabs(std::log(x))));
    const std::uint32_t word = rng.bits();
    const double angle = 6.283185307179586 * (static_cast<double>(word) * 0x1p-32);
    const auto [c, s] = deepstruct::detail::exact_cos_sin(word);
    REQUIRE(std::fabs(c - std::cos(angle)) < 4e-15);
    REQUIRE(std::fabs(s - std::sin(angle)) < 4e-15);
  }
}

TEST_CASE("element i of an array draw depends on (seed, draw, i) only") {
  Rng a(3), b(3);
  const Tensor big = Tensor::normal({40, 5}, 0, 1, a), flat = Tensor::normal({200}, 0, 1, b);
  REQUIRE(big.to_vector() == flat.to_vector());
  REQUIRE(a == b);
  REQUIRE(Tensor::normal({200}, 0, 1, b) != flat);
  Rng resumed(3, 1);
  REQUIRE(Tensor::normal({200}, 0, 1, resumed) == Tensor::normal({200}, 0, 1, a));
  Rng other(4);
  REQUIRE(Tensor::normal({200}, 0, 1, other) != flat);
}

TEST_CASE("moments and ranges of uniform, normal, below and bernoulli") {
  Rng rng(17);
  const std::int64_t n = 100000;
  const auto moments = [&](const Tensor& t) {
    std::array<double, 4> m{};
    t.for_each([&](std::int64_t, float x) {
      for (int p = 1; p <= 4; ++p) m[p - 1] += std::pow(double{x}, p) / static_cast<double>(n);
    });
    return m;
  };
  const double error = 5 / std::sqrt(static_cast<double>(n));  // five standard errors of a variable of variance 1
  const auto u = moments(Tensor::uniform({n}, 0, 1, rng));
  for (int p = 1; p <= 4; ++p) REQUIRE(std::fabs(u[p - 1] - 1.0 / (p + 1)) < 0.3 * error);
  const auto z = moments(Tensor::normal({n}, 0, 1, rng));
  REQUIRE(std::fabs(z[0]) < error);
  REQUIRE(std::fabs(z[1] - 1) < std::sqrt(2.0) * error);
  REQUIRE(std::fabs(z[2]) < std::sqrt(15.0) * error);
  REQUIRE(std::fabs(z[3] - 3) < std::sqrt(96.0) * error);
  const Tensor wide = Tensor::uniform({n}, -3, 5, rng);
  wide.for_each([](std::int64_t, float x) {
    if (!(x >= -3 && x <= 5)) FAIL("uniform outside its range: " << x);
  });
  std::array<int, 7> count{};
  int heads = 0;
  for (int k = 0; k < 14000; ++k) {
    ++count.at(rng.below(7));
    heads += rng.bernoulli(0.25f);
  }
  for (int c : count) REQUIRE(std::abs(c - 2000) < 5 * 42);
  REQUIRE(std::abs(heads - 3500) < 5 * 52);
  REQUIRE(rng.below(1) == 0);
  test::require_error([&] { rng.below(0); }, {"Rng::below", "0"});
  test::require_error([&] { rng.permutation(-1); }, {"Rng::permutation", "-1"});
}

TEST_CASE("neighbouring normals are uncorrelated") {
  Rng rng(23);
  const auto z = Tensor::normal({100000}, 0, 1, rng).to_vector();
  for (std::size_t lag : {1, 2, 3, 4}) {
    double sum = 0;
    for (std::size_t i = 0; i + lag < z.size(); ++i) sum += double{z[i]} * double{z[i + lag]};
    REQUIRE(std::fabs(sum) < 5 * std::sqrt(100000.0));
  }
}

TEST_CASE("permutations hold every number once, and every order is as likely as another") {
  Rng rng(1);
  for (std::int64_t n : {0, 1, 2, 100}) {
    auto p = rng.permutation(n);
    std::sort(p.begin(), p.end());
    for (std::int64_t i = 0; i < n; ++i) REQUIRE(p[i] == i);
    REQUIRE(static_cast<std::int64_t>(p.size()) == n);
  }
  std::array<int, 6> seen{};
  for (int k = 0; k < 6000; ++k) {
    const auto p = rng.permutation(3);
    ++seen[2 * p[0] + (p[1] > p[2])];
  }
  for (int s : seen) REQUIRE(std::abs(s - 1000) < 5 * 29);
}

TEST_CASE("manual_seed restarts the default generator of this thread") {
  manual_seed(5);
  const Tensor a = Tensor::uniform({10}, 0, 1);
  manual_seed(5);
  REQUIRE(Tensor::uniform({10}, 0, 1) == a);
  REQUIRE(Tensor::uniform({10}, 0, 1) != a);
  manual_seed(0);
}
