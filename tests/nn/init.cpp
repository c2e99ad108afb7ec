// Initialisers: bounds, spread, and the same values for the same generator.
#include <deepstruct/nn/init.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;
using test::same_bits;

namespace {

struct Moments {
  double mean = 0, deviation = 0, largest = 0;
};
Moments moments(const Tensor& t) {
  Moments m;
  double squares = 0;
  const double n = static_cast<double>(t.size());
  t.for_each([&](std::int64_t, float x) {
    m.mean += double{x} / n;
    squares += double{x} * double{x} / n;
    m.largest = std::max(m.largest, std::fabs(double{x}));
  });
  m.deviation = std::sqrt(squares - m.mean * m.mean);
  return m;
}
/// All within ±bound, close to it somewhere, with the spread of a uniform distribution around 0.
void require_uniform(const Tensor& t, double bound) {
  const Moments m = moments(t);
  REQUIRE(m.largest <= bound * (1 + 1e-6));
  REQUIRE(m.largest > bound * 0.99);
  REQUIRE(m.deviation == Approx(bound / std::sqrt(3.0)).epsilon(0.03));
  REQUIRE(std::fabs(m.mean) < 5 * m.deviation / std::sqrt(static_cast<double>(t.size())));
}
void require_normal(const Tensor& t, double deviation) {
  const Moments m = moments(t);
  REQUIRE(m.deviation == Approx(deviation).epsilon(0.03));
  REQUIRE(std::fabs(m.mean) < 5 * deviation / std::sqrt(static_cast<double>(t.size())));
  REQUIRE(m.largest > 3 * deviation);
}

}  // namespace

TEST_CASE("fans count inputs and outputs of one neuron, kernel included") {
  REQUIRE(fans({8, 3}).in == 3);
  REQUIRE(fans({8, 3}).out == 8);
  REQUIRE(fans({8, 3, 5, 7}).in == 3 * 35);
  REQUIRE(fans({8, 3, 5, 7}).out == 8 * 35);
  require_error([] { fans({8}); }, {"fans", "[8]"});
}

TEST_CASE("gains of the nonlinearities") {
  REQUIRE(calculate_gain(Nonlinearity::linear) == 1);
  REQUIRE(calculate_gain(Nonlinearity::sigmoid) == 1);
  REQUIRE(calculate_gain(Nonlinearity::tanh) == Approx(5.0 / 3));
  REQUIRE(calculate_gain(Nonlinearity::relu) == Approx(std::sqrt(2.0)));
  REQUIRE(calculate_gain(Nonlinearity::leaky_relu, 0.2) == Approx(std::sqrt(2 / 1.04)));
  REQUIRE(calculate_gain(Nonlinearity::selu) == 0.75);
}

TEST_CASE("initialisers keep their bounds and spread") {
  Rng rng(4);
  const Shape w{100, 200};
  const double in = 200, out = 100;
  require_uniform(default_weight(w, rng), 1 / std::sqrt(in));
  require_uniform(default_bias({20000, 25}, rng), 0.2);
  REQUIRE(default_bias(w, rng).shape() == Shape{100});
  require_uniform(kaiming_uniform(w, {}, rng), std::sqrt(2.0) * std::sqrt(3 / in));
  require_uniform(kaiming_uniform(w, {.nonlinearity = Nonlinearity::tanh, .fan = Fan::out}, rng),
                  5.0 / 3 * std::sqrt(3 / out));
  require_normal(kaiming_normal(w, {.nonlinearity = Nonlinearity::relu}, rng), std::sqrt(2 / in));
  require_normal(kaiming_normal(w, {.slope = 1, .fan = Fan::out}, rng), std::sqrt(1 / out));
  require_uniform(xavier_uniform(w, 1, rng), std::sqrt(6 / (in + out)));
  require_uniform(xavier_uniform(w, 3, rng), 3 * std::sqrt(6 / (in + out)));
  require_normal(xavier_normal(w, 2, rng), 2 * std::sqrt(2 / (in + out)));
  require_uniform(default_weight({40, 8, 5, 5}, rng), 1 / std::sqrt(200.0));
}

TEST_CASE("initial values depend on the generator's state only") {
  Rng a(9), b(9);
  const Tensor first = default_weight({30, 40}, a), second = default_weight({30, 40}, a);
  REQUIRE(same_bits(default_weight({30, 40}, b), first));
  REQUIRE_FALSE(same_bits(first, second));
  manual_seed(9);
  REQUIRE(same_bits(default_weight({30, 40}), first));
}

TEST_CASE("a layer without inputs starts with bias 0") {
  Rng rng(1);
  REQUIRE(default_bias({4, 0}, rng) == Tensor::zeros({4}));
  REQUIRE(default_weight({4, 0}, rng).size() == 0);
  REQUIRE(xavier_uniform({0, 0}, 1, rng).size() == 0);
}
