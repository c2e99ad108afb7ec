// Linear, LayerNorm, Dropout and Sequential.
#include <deepstruct/nn/layers.hpp>
#include <deepstruct/nn/linear.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_close;
using test::require_error;
using test::same_bits;
using Names = std::vector<std::string>;

namespace {

struct Outer {
  Sequential<Linear, Sequential<Tanh, Linear>> body;
  static auto fields(auto& m) { return std::tuple{Field{"body", m.body}}; }
};

}  // namespace

TEST_CASE("Linear computes x W^T + b, also without a bias") {
  Rng rng(2);
  Linear layer(3, 2, rng);
  REQUIRE(layer.weight.shape() == Shape{2, 3});
  REQUIRE(layer.bias->shape() == Shape{2});
  layer.weight.set_value(Tensor::from({2, 3}, {1, 2, 3, -1, 0, 1}));
  layer.bias->set_value(Tensor::from({2}, {10, 20}));
  const Tensor x = Tensor::from({2, 3}, {1, 1, 1, 0, 2, -1});
  REQUIRE(layer(x).value() == Tensor::from({2, 2}, {16, 20, 11, 19}));
  layer.bias.reset();
  REQUIRE(layer(x).value() == Tensor::from({2, 2}, {6, 0, 1, -1}));

  const Linear plain(3, 2, Linear::Options{.bias = false}, rng);
  REQUIRE_FALSE(plain.bias.has_value());
  REQUIRE(state_names(plain) == Names{"weight"});
  require_error([&] { layer(Tensor::zeros({2, 4})); }, {"linear", "[2, 4]", "3"});
}

TEST_CASE("LayerNorm starts as the plain normalisation and uses weight, bias and eps") {
  LayerNorm norm(4);
  REQUIRE(norm.weight.value() == Tensor::ones({4}));
  REQUIRE(norm.bias.value() == Tensor::zeros({4}));
  REQUIRE(norm.eps == 1e-5f);
  REQUIRE(state_names(norm) == Names{"weight", "bias"});
  const std::vector<double> x{1, 2, 4, -3};
  double mean = 0, var = 0;
  for (double v : x) mean += v / 4;
  for (double v : x) var += (v - mean) * (v - mean) / 4;
  const Tensor row = Tensor::from({1, 4}, {1, 2, 4, -3});
  const auto expected = [&](double eps, double w, double b) {
    std::vector<float> y;
    for (double v : x) y.push_back(static_cast<float>((v - mean) / std::sqrt(var + eps) * w + b));
    return Tensor::from({1, 4}, y);
  };
  require_close(norm(row).value(), expected(1e-5, 1, 0));
  norm.weight.set_value(Tensor::full({4}, 2));
  norm.bias.set_value(Tensor::full({4}, 0.5f));
  norm.eps = 3;
  require_close(norm(row).value(), expected(3, 2, 0.5));
}

TEST_CASE("Sequential runs its modules in order under the names 0, 1, ...") {
  Rng rng(3);
  Sequential net{Linear(4, 5, rng), ReLU(), LayerNorm(5), Dropout(0.25f), Linear(5, 2, rng)};
  REQUIRE(state_names(net) == Names{"0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"});
  set_training(net, false);
  const Tensor x = Tensor::uniform({3, 4}, -1, 1, rng);
  const auto& [first, act, norm, drop, last] = net.modules;
  REQUIRE(net(x).value() == last(norm(relu(first(x)))).value());

  const Outer outer{Sequential{Linear(2, 3, rng), Sequential{Tanh(), Linear(3, 1, rng)}}};
  REQUIRE(state_names(outer) == Names{"body.0.weight", "body.0.bias", "body.1.1.weight", "body.1.1.bias"});
  const Sequential flat{Flatten(), Sigmoid()};
  REQUIRE(flat(Tensor::zeros({2, 3, 4})).value() == Tensor::full({2, 12}, 0.5f));
}

TEST_CASE("Dropout drops a share p and scales the rest") {
  const float p = 0.3f;
  const Dropout drop(p);
  manual_seed(11);
  const Tensor x = Tensor::full({200, 500}, 2);
  const Tensor y = drop(x).value();
  std::int64_t dropped = 0;
  y.for_each([&](std::int64_t, float v) {
    if (v == 0)
      ++dropped;
    else
      REQUIRE(v == Approx(2 / (1 - p)));
  });
  const double n = static_cast<double>(x.size()), deviation = std::sqrt(n * 0.3 * 0.7);
  REQUIRE(std::fabs(static_cast<double>(dropped) - 0.3 * n) < 5 * deviation);
}

TEST_CASE("Dropout depends on the generator's state and on nothing else") {
  const Dropout drop(0.5f);
  const Tensor x = Tensor::ones({33, 17});
  manual_seed(5);
  const Tensor first = drop(x).value(), second = drop(x).value();
  manual_seed(5);
  REQUIRE(same_bits(drop(x).value(), first));
  REQUIRE(same_bits(drop(x).value(), second));
  REQUIRE_FALSE(same_bits(first, second));
}

TEST_CASE("the gradient of Dropout passes where the value passed") {
  manual_seed(6);
  const Var x = variable(Tensor::ones({20, 20}));
  const Var y = Dropout(0.5f)(x);
  backward(sum(y));
  REQUIRE(same_bits(x.grad(), y.value()));
}

TEST_CASE("Dropout that is off, or has p = 0, changes nothing and draws nothing when off") {
  manual_seed(7);
  Sequential net{Dropout(0.5f), Sequential{Dropout(0.9f)}};
  set_training(net, false);
  const Var x = variable(Tensor::ones({3, 3}));
  const Rng before = default_rng();
  REQUIRE(net(x) == x);
  REQUIRE(default_rng() == before);
  set_training(net, true);
  REQUIRE(std::get<0>(net.modules).training);
  REQUIRE_FALSE(net(x) == x);
  REQUIRE(Dropout(0.0f)(x).value() == x.value());
  REQUIRE(Dropout(1.0f)(x).value() == Tensor::zeros({3, 3}));
}

TEST_CASE("Dropout refuses what is no probability") {
  for (float p : {-0.1f, 1.5f, std::numeric_limits<float>::quiet_NaN()})
    require_error([&] { Dropout drop(p); }, {"Dropout", "0 <= p <= 1"});
}
