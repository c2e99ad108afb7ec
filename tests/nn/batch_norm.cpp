// BatchNorm1d and BatchNorm2d: running statistics, training and evaluation, copies; and blocks of image networks mixed
// from user structs, sequences, shortcuts, pooling and batch norm: names, modes, inference.
#include <deepstruct/nn/batch_norm.hpp>
#include <deepstruct/nn/inference.hpp>
#include <deepstruct/nn/layers.hpp>
#include <deepstruct/nn/linear.hpp>
#include <deepstruct/nn/pool.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

/// A convolution of 1 × 1: linear in the channels.
struct PointwiseConv {
  Param weight;

  PointwiseConv(std::int64_t in, std::int64_t out, Rng& rng) : weight(Tensor::normal({out, in}, 0, 1, rng)) {}
  Var operator()(const Var& x) const {
    const Shape& s = x.shape();
    const Var flat = reshape(permute(x, {0, 2, 3, 1}), {s[0] * s[2] * s[3], s[1]});
    return permute(reshape(linear(flat, weight), {s[0], s[2], s[3], weight.shape()[0]}), {0, 3, 1, 2});
  }
  static auto fields(auto& m) { return std::tuple{Field{"weight", m.weight}}; }
};

/// A factor per channel: the convolution of blocks that Inference must know.
struct ChannelScale {
  Param weight;

  explicit ChannelScale(std::int64_t channels, Rng& rng) : weight(Tensor::normal({1, channels, 1, 1}, 1, 1, rng)) {}
  ChannelScale(std::int64_t channels, std::int64_t, Rng& rng) : ChannelScale(channels, rng) {}
  Var operator()(const Var& x) const { return mul(x, weight); }
  static auto fields(auto& m) { return std::tuple{Field{"weight", m.weight}}; }
};

/// y = relu(body(x) + shortcut(x))
template <class Conv, class Shortcut>
struct ResidualBlock {
  Sequential<Conv, BatchNorm2d, ReLU, Conv, BatchNorm2d> body;
  Shortcut shortcut;

  Var operator()(const Var& x) const { return relu(body(x) + shortcut(x)); }
  static auto fields(auto& m) { return std::tuple{Field{"body", m.body}, Field{"shortcut", m.shortcut}}; }
};

/// A small image network of such blocks.
template <class Conv>
struct ResidualNet {
  Sequential<BatchNorm2d, MaxPool2d> stem;
  std::vector<ResidualBlock<Conv, Identity>> blocks;
  ResidualBlock<Conv, AvgPool2d> last;
  Sequential<AdaptiveAvgPool2d, Flatten, BatchNorm1d, Dropout, Linear> head;

  explicit ResidualNet(Rng& rng)
      : stem(BatchNorm2d(3), MaxPool2d(3, 2, 1)),
        last{part(rng), AvgPool2d({.kernel = {3, 3}, .stride = {1, 1}, .padding = {1, 1}})},
        head(AdaptiveAvgPool2d(2), Flatten(), BatchNorm1d(12), Dropout(), Linear(12, 4, rng)) {
    for (int k = 0; k < 2; ++k) blocks.push_back({part(rng), Identity()});
  }
  static Sequential<Conv, BatchNorm2d, ReLU, Conv, BatchNorm2d> part(Rng& rng) {
    return Sequential(Conv(3, 3, rng), BatchNorm2d(3), ReLU(), Conv(3, 3, rng), BatchNorm2d(3));
  }

  Var operator()(const Var& x) const {
    Var y = stem(x);
    for (const auto& block : blocks) y = block(y);
    return head(last(y));
  }
  static auto fields(auto& m) {
    return std::tuple{Field{"stem", m.stem}, Field{"blocks", m.blocks}, Field{"last", m.last}, Field{"head", m.head}};
  }
};

std::vector<Tensor> tensors_of(auto& model) {
  std::vector<Tensor> all;
  each<Tensor>(model, [&](const Tensor& t) { all.push_back(t); });
  return all;
}

}  // namespace

TEST_CASE("BatchNorm normalises with the batch, then with what it remembers") {
  Rng rng(1);
  BatchNorm1d norm(3);
  REQUIRE(state_names(norm) ==
          std::vector<std::string>{"weight", "bias", "running_mean", "running_var", "num_batches_tracked"});
  REQUIRE(norm.weight->value() == Tensor::ones({3}));
  REQUIRE(norm.bias->value() == Tensor::zeros({3}));
  std::vector<double> mean(3, 0), variance(3, 1);
  for (int step = 1; step <= 4; ++step) {
    const Tensor x = Tensor::normal({5, 3, 2}, 2, 3, rng);
    const Tensor y = norm(x).value();
    REQUIRE(test::same_bits(y, batch_norm_training(x, norm.weight->var(), norm.bias->var()).y.value()));
    for (std::int64_t c = 0; c < 3; ++c) {
      double m = 0, v = 0;
      for (std::int64_t k = 0; k < 10; ++k) m += double{x(k / 2, c, k % 2)} / 10;
      for (std::int64_t k = 0; k < 10; ++k) v += std::pow(double{x(k / 2, c, k % 2)} - m, 2) / 9;  // unbiased
      mean[static_cast<std::size_t>(c)] = 0.9 * mean[static_cast<std::size_t>(c)] + 0.1 * m;
      variance[static_cast<std::size_t>(c)] = 0.9 * variance[static_cast<std::size_t>(c)] + 0.1 * v;
      REQUIRE(double{norm.running_mean(c)} == Approx(mean[static_cast<std::size_t>(c)]).epsilon(1e-5));
      REQUIRE(double{norm.running_var(c)} == Approx(variance[static_cast<std::size_t>(c)]).epsilon(1e-5));
    }
    REQUIRE(norm.num_batches_tracked.item() == static_cast<float>(step));
  }
  set_training(norm, false);
  const auto before = tensors_of(norm);
  const Tensor x = Tensor::normal({1, 3}, 2, 3, rng);  // one number per channel: fine in evaluation
  const Tensor y = norm(x).value();
  REQUIRE(before == tensors_of(norm));
  for (std::int64_t c = 0; c < 3; ++c) {
    const double want =
        (double{x(0, c)} - mean[static_cast<std::size_t>(c)]) / std::sqrt(variance[static_cast<std::size_t>(c)] + 1e-5);
    REQUIRE(double{y(0, c)} == Approx(want).epsilon(1e-4).margin(1e-5));
  }
}

TEST_CASE("without a momentum BatchNorm averages all batches; without affine it has no parameters") {
  Rng rng(2);
  BatchNorm2d norm(2, {.momentum = std::nullopt, .affine = false});
  REQUIRE(state_names(norm) == std::vector<std::string>{"running_mean", "running_var", "num_batches_tracked"});
  std::vector<double> sum(2, 0);
  for (int step = 1; step <= 5; ++step) {
    const Tensor x = Tensor::normal({3, 2, 2, 2}, 1, 1, rng);
    norm(x);
    for (std::int64_t c = 0; c < 2; ++c) {
      for (std::int64_t k = 0; k < 12; ++k)
        sum[static_cast<std::size_t>(c)] += double{x(k / 4, c, k / 2 % 2, k % 2)} / 12;
      REQUIRE(double{norm.running_mean(c)} == Approx(sum[static_cast<std::size_t>(c)] / step).epsilon(1e-5));
    }
  }
}

TEST_CASE("copies of BatchNorm are their own; traces and errors leave the statistics alone") {
  Rng rng(3);
  const BatchNorm2d norm(2);
  const Tensor x = Tensor::normal({3, 2, 4, 4}, 5, 2, rng);
  const auto fresh = tensors_of(norm);
  const BatchNorm2d copy = norm;
  norm(x);
  REQUIRE(tensors_of(copy) == fresh);
  REQUIRE_FALSE(tensors_of(norm) == fresh);
  const auto before = tensors_of(norm);
  REQUIRE(trace(norm, x).back().op == "batch_norm_training");
  test::require_error([&] { norm(Tensor::zeros({3, 2})); }, {"BatchNorm2d: x must have 4", "[3, 2] and 2"});
  test::require_error([&] { norm(Tensor::zeros({3, 4, 1, 1})); }, {"BatchNorm2d: x must have 4", "[3, 4, 1, 1] and 2"});
  test::require_error([&] { norm(Tensor::zeros({1, 2, 1, 1})); }, {"a channel needs more than one number"});
  REQUIRE(tensors_of(norm) == before);
  test::require_error([] { BatchNorm1d(3)(Tensor::zeros({2, 3, 1, 1})); }, {"BatchNorm1d: x must have 2 to 3"});
  test::require_error([] { BatchNorm1d(3, {.eps = -1}); }, {"BatchNorm: eps", "(-1)"});
  test::require_error([] { BatchNorm1d(3, {.momentum = 1.5f}); }, {"BatchNorm: need 0 <= momentum <= 1", "(1.5)"});
}

TEST_CASE("walks reach every part of a network of blocks") {
  Rng rng(4);
  ResidualNet<PointwiseConv> net(rng);
  const auto names = state_names(net);
  std::vector<std::string> expected;
  const auto norm = [&](const std::string& name) {
    for (const char* part : {".weight", ".bias", ".running_mean", ".running_var", ".num_batches_tracked"})
      expected.push_back(name + part);
  };
  norm("stem.0");
  for (const std::string block : {"blocks.0", "blocks.1", "last"}) {
    expected.push_back(block + ".body.0.weight");
    norm(block + ".body.1");
    expected.push_back(block + ".body.3.weight");
    norm(block + ".body.4");
  }
  norm("head.2");
  expected.insert(expected.end(), {"head.4.weight", "head.4.bias"});
  REQUIRE(names == expected);

  const auto modes = [&] {
    std::vector<bool> all;
    each<BatchNorm1d>(net, [&](const BatchNorm1d& n) { all.push_back(n.training); });
    each<BatchNorm2d>(net, [&](const BatchNorm2d& n) { all.push_back(n.training); });
    each<Dropout>(net, [&](const Dropout& d) { all.push_back(d.training); });
    return all;
  };
  REQUIRE(modes() == std::vector<bool>(9, true));
  set_training(net, false);
  REQUIRE(modes() == std::vector<bool>(9, false));
  set_training(net, true);
  REQUIRE(modes() == std::vector<bool>(9, true));

  const auto whole = net;
  const Tensor x = Tensor::normal({4, 3, 9, 8}, 0, 1, rng);
  const Var y = net(x);
  REQUIRE(y.shape() == Shape{4, 4});
  backward(mean(square(y)));
  each_param(net, [](const std::string& name, const Param& p) {
    INFO(name);
    REQUIRE(p.has_grad());
    p.grad().for_each([](std::int64_t, float g) { REQUIRE(std::isfinite(g)); });
  });
  REQUIRE_FALSE(tensors_of(net) == tensors_of(whole));
  for (const Tensor& t : tensors_of(whole)) REQUIRE((t == Tensor::zeros(t.shape()) || t == Tensor::ones(t.shape())));
}

TEST_CASE("inference runs pooling and batch norm, and knows that training mixes samples") {
  test::on_every_isa([] {
    Rng rng(5);
    ResidualNet<ChannelScale> net(rng);
    const Tensor x = Tensor::normal({150, 3, 9, 8}, 1, 2, rng);
    test::require_error([&] { Inference(net, x); }, {"Inference: no form of op", "batch_norm_training"});
    net(x);
    set_training(net, false);
    no_grad guard;
    const Inference inference(net, narrow(x, 0, 0, 1).value());
    for (std::int64_t b : {0, 1, 3, 16, 150}) {
      const Var some = narrow(x, 0, 0, b);
      test::require_close(inference(some).value(), net(some).value(), 1e-5, 1e-5);
    }
  });
  const Sequential windows{
      MaxPool2d({.kernel = {2, 1}, .stride = {3, 2}, .dilation = {2, 1}, .ceil_mode = true}),
      AvgPool2d({.kernel = {1, 2}, .padding = {0, 1}, .ceil_mode = true, .count_include_pad = false})};
  Rng rng(6);
  const Tensor x = Tensor::normal({5, 2, 9, 8}, 1, 2, rng);
  REQUIRE(test::same_bits(Inference(windows, x)(x).value(), windows(x).value()));
}
