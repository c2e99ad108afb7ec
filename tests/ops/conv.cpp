// Convolution as an op: derivatives of every order against differences, the sparse triple against the dense one, what
// is recorded, and what is refused. (Values: tests/kernels/conv.cpp.)
#include <deepstruct/autograd/gradcheck.hpp>
#include <deepstruct/autograd/trace.hpp>
#include <deepstruct/ops/conv.hpp>

#include "support/cases.hpp"
#include "support/device.hpp"

using namespace deepstruct;
using test::require_close;
using test::require_error;

namespace {

using ConvIn = std::span<const Var>;

Tensor conv_random(const Shape& shape, std::uint64_t seed) {
  Rng rng(seed);
  return Tensor::uniform(shape, -2, 2, rng);
}

void require_conv_gradients(const GradcheckFunction& f, const std::vector<Tensor>& inputs) {
  test::Poison poison;
  GradcheckOptions options = test::on_device();
  const auto first = gradcheck(f, inputs, options);
  std::ostringstream text;
  first.write(text);
  INFO(text.str());
  CHECK(first.ok);
  options.directions = test::on_device(2).directions;
  const auto second = gradcheck_second(f, inputs, options);
  std::ostringstream second_text;
  second.write(second_text);
  INFO("second derivative: " << second_text.str());
  CHECK(second.ok);
  std::weak_ptr<Node> node;  // no rule may hold its own node
  {
    Vars x;
    for (const Tensor& t : inputs) x.push_back(variable(t));
    const Var y = f(x);
    node = y.node();
    (void)grad(y, x, {.create_graph = true, .seed = Tensor::ones(y.shape())});
  }
  REQUIRE(node.expired());
}

struct ConvShapes {
  Shape x, weight;
  Conv2dOptions how;
};
const std::vector<ConvShapes> conv_shapes{
    {{2, 3, 4, 5}, {4, 3, 3, 2}, {}},
    {{17, 2, 5, 4}, {3, 2, 3, 3}, {{2, 1}, {1, 2}}},
    {{1, 4, 6, 6}, {6, 2, 2, 3}, {{1, 2}, {1, 1}, {2, 1}, 2}},
    {{9, 3, 1, 6}, {3, 1, 1, 2}, {{1, 3}, {0, 2}, {1, 2}, 3}},
    {{0, 2, 3, 3}, {2, 2, 2, 2}, {}},
};
Mask conv_mask(const Shape& weight, double density = 0.4) {
  Rng rng(4);
  return Mask::random(weight[0], weight[1] * weight[2] * weight[3], density, rng);
}

const Attribute* conv_attribute(const Var& y, std::string_view name) {
  for (const Attribute& a : y.node()->attributes)
    if (a.name == name) return &a;
  return nullptr;
}

}  // namespace

TEST_CASE("gradients of convolution") {
  for (const ConvShapes& c : conv_shapes) {
    INFO("x " << c.x << ", weight " << c.weight);
    const Tensor x = conv_random(c.x, 1), w = conv_random(c.weight, 2), b = conv_random({c.weight[0]}, 3);
    require_conv_gradients([&](ConvIn in) { return conv2d(in[0], in[1], in[2], c.how); }, {x, w, b});
    const Tensor dy = conv_random(conv2d(x, w, {}, c.how).shape(), 5);
    require_conv_gradients([&](ConvIn in) { return conv2d_dx(in[0], in[1], c.x, c.how); }, {dy, w});
    require_conv_gradients([&](ConvIn in) { return conv2d_dw(in[0], in[1], c.weight, c.how); }, {dy, x});
    // One of the inputs alone takes another way than both.
    require_conv_gradients([&](ConvIn in) { return conv2d(in[0], test::beside(w, in[0]), {}, c.how); }, {x});
    require_conv_gradients([&](ConvIn in) { return conv2d(test::beside(x, in[0]), in[0], {}, c.how); }, {w});
  }
}

TEST_CASE("gradients of sparse convolution") {
  for (const ConvShapes& c : conv_shapes)
    for (const Mask& m : {conv_mask(c.weight), conv_mask(c.weight, 0)}) {
      INFO("x " << c.x << ", weight " << c.weight << ", edges " << m.nnz());
      const std::array kernel{c.weight[2], c.weight[3]};
      const Tensor x = conv_random(c.x, 1), v = conv_random({m.nnz()}, 2), b = conv_random({c.weight[0]}, 3);
      require_conv_gradients([&](ConvIn in) { return sparse_conv2d(in[0], in[1], m, kernel, in[2], c.how); },
                             {x, v, b});
      const Tensor dy = conv_random(sparse_conv2d(x, v, m, kernel, {}, c.how).shape(), 5);
      require_conv_gradients([&](ConvIn in) { return sparse_conv2d_dx(in[0], in[1], m, kernel, c.x, c.how); }, {dy, v});
      require_conv_gradients([&](ConvIn in) { return sparse_conv2d_dw(in[0], in[1], m, kernel, c.how); }, {dy, x});
      require_conv_gradients(
          [&](ConvIn in) { return sparse_conv2d(in[0], test::beside(v, in[0]), m, kernel, {}, c.how); }, {x});
      require_conv_gradients(
          [&](ConvIn in) { return sparse_conv2d(test::beside(x, in[0]), in[0], m, kernel, {}, c.how); }, {v});
    }
}

TEST_CASE("a third derivative of convolution is that of a trilinear form") {
  // f(x, w, u) = Σ u·(x ∗ w)² has ∂³f/∂u∂x∂w; the two orders of differentiation agree.
  const Var x = variable(conv_random({3, 2, 4, 4}, 1)), w = variable(conv_random({2, 2, 3, 3}, 2)),
            u = variable(conv_random({3, 2, 4, 4}, 3));
  const Conv2dOptions how{{1, 1}, {1, 1}};
  const Var f = sum(mul(u, square(conv2d(x, w, {}, how))));
  const auto derivative = [&](const Var& a, const Var& b, const Var& c) {
    const Var da = grad(f, {a}, {.create_graph = true})[0];
    const Var db = grad(sum(mul(da, conv_random(a.shape(), 7))), {b}, {.create_graph = true})[0];
    return grad(sum(mul(db, conv_random(b.shape(), b == w ? 8 : b == x ? 7 : 9))), {c})[0].value();
  };
  const Tensor dw = derivative(x, u, w);
  // By hand: ∂/∂w of Σ v_u·2·(x ∗ w)·(v_x ∗ w), v the directions of u and x.
  const Tensor vx = conv_random(x.shape(), 7), vu = conv_random(u.shape(), 9);
  const Var by_hand = grad(sum(mul(mul(conv2d(x, w, {}, how), conv2d(vx, w, {}, how)), vu)) * 2.0f, {w})[0];
  require_close(dw, by_hand.value(), 1e-4, 1e-3);
}

TEST_CASE("a sparse convolution is the dense one with weight ⊙ mask") {
  for (const ConvShapes& c : conv_shapes)
    for (double density : {0.1, 0.7, 1.0}) {
      const Mask m = conv_mask(c.weight, density);
      INFO("x " << c.x << ", weight " << c.weight << ", edges " << m.nnz());
      Var x[3], w[3], b[3], y[3];
      for (int k = 0; k < 3; ++k)
        x[k] = variable(conv_random(c.x, 1)), w[k] = variable(conv_random(c.weight, 2)),
        b[k] = variable(conv_random({c.weight[0]}, 3));
      const Tensor ones = reshape(m.to_dense(), c.weight).value();
      y[0] = conv2d(x[0], mul(w[0], ones), b[0], c.how);
      y[1] = sparse_conv2d(x[1], pick_edges(reshape(w[1], m.shape()), m), m, {c.weight[2], c.weight[3]}, b[1], c.how);
      y[2] = masked_conv2d(x[2], w[2], m, b[2], c.how);
      for (int k = 0; k < 3; ++k) backward(sum(square(y[k])));
      for (int k = 1; k < 3; ++k) {
        require_close(y[k].value(), y[0].value(), 1e-5, 1e-4);
        require_close(x[k].grad(), x[0].grad(), 1e-5, 1e-3);
        require_close(w[k].grad(), w[0].grad(), 1e-5, 1e-3);
        require_close(b[k].grad(), b[0].grad(), 1e-5, 1e-3);
      }
    }
}

TEST_CASE("weights behind the mask of a convolution have no influence, not even NaN") {
  const Shape s{5, 4, 3, 3};
  for (double density : {0.1, 0.8}) {
    const Mask m = conv_mask(s, density);
    const Tensor clean = reshape(place_edges(pick_edges(reshape(conv_random(s, 2), m.shape()), m), m), s).value();
    Tensor dirty = reshape(clean, m.shape()).value();
    int spoiled = 0;
    for (std::int64_t r = 0; r < m.rows(); ++r)
      for (std::int64_t c = 0; c < m.cols(); ++c)
        if (!m.contains(r, c)) dirty(r, c) = std::numeric_limits<float>::quiet_NaN(), ++spoiled;
    REQUIRE(spoiled > 10);
    const Var x = variable(conv_random({3, 4, 5, 5}, 1)), w = variable(reshape(dirty, s).value());
    const Var y = masked_conv2d(x, w, m);
    require_close(y.value(), conv2d(x, clean).value(), 1e-5, 1e-4);
    backward(sum(square(y)));
    const Tensor g = reshape(w.grad(), m.shape()).value();
    x.grad().for_each([](std::int64_t, float v) { REQUIRE(std::isfinite(v)); });
    for (std::int64_t r = 0; r < m.rows(); ++r)
      for (std::int64_t c = 0; c < m.cols(); ++c) REQUIRE((m.contains(r, c) ? std::isfinite(g(r, c)) : g(r, c) == 0));
  }
}

TEST_CASE("same padding keeps the size of images") {
  REQUIRE(same_padding({3, 5}) == std::array<std::int64_t, 2>{1, 2});
  REQUIRE(same_padding({1, 2}, {4, 2}) == std::array<std::int64_t, 2>{0, 1});
  Conv2dOptions how{.dilation = {2, 1}};
  how.padding = same_padding({3, 7}, how.dilation);
  REQUIRE(conv2d(Tensor::ones({2, 1, 9, 8}), Tensor::ones({1, 1, 3, 7}), {}, how).shape() == Shape{2, 1, 9, 8});
  require_error([] { same_padding({2, 3}); }, {"same_padding", "kernel 2", "dilation 1"});
  require_error([] { same_padding({3, 4}, {1, 3}); }, {"same_padding", "kernel 4", "dilation 3"});
  require_error([] { same_padding({0, 3}); }, {"same_padding", "0"});
}

TEST_CASE("a trace names convolutions and what they were made with") {
  const Tensor w = conv_random({4, 2, 3, 2}, 2), b = conv_random({4}, 3);
  const Conv2dOptions how{{2, 1}, {1, 0}, {1, 2}, 2};
  const Mask m = conv_mask(w.shape());
  const Tensor v = conv_random({m.nnz()}, 4);
  const auto steps = trace_function(
      [&](const Var& x) {
        return add(conv2d(x, w, b, how), sparse_conv2d(x, v, m, {3, 2}, {}, how));
      },
      Var(conv_random({2, 4, 5, 6}, 1)));
  int dense = 0, sparse = 0;
  for (const Step& step : steps) {
    const Var& y = step.value;
    if (y.node()->op == "conv2d") {
      ++dense;
      REQUIRE(y.node()->inputs.size() == 3);
    } else if (y.node()->op == "sparse_conv2d") {
      ++sparse;
      REQUIRE(y.node()->inputs.size() == 2);
      REQUIRE(std::get<Mask>(conv_attribute(y, "mask")->value) == m);
      REQUIRE(std::get<Shape>(conv_attribute(y, "kernel")->value) == Shape{3, 2});
    } else {
      continue;
    }
    REQUIRE(std::get<Shape>(conv_attribute(y, "stride")->value) == Shape{2, 1});
    REQUIRE(std::get<Shape>(conv_attribute(y, "padding")->value) == Shape{1, 0});
    REQUIRE(std::get<Shape>(conv_attribute(y, "dilation")->value) == Shape{1, 2});
    REQUIRE(std::get<std::int64_t>(conv_attribute(y, "groups")->value) == 2);
  }
  REQUIRE(dense == 1);
  REQUIRE(sparse == 1);
}

TEST_CASE("convolutions that cannot be are refused") {
  const Tensor x = Tensor::ones({2, 4, 5, 6}), w = Tensor::ones({6, 4, 3, 3});
  const auto with = [&](const Conv2dOptions& how) { return [&x, &w, how] { conv2d(x, w, {}, how); }; };
  require_error([&] { conv2d(Tensor::ones({2, 4, 5}), w); }, {"conv2d", "four extents", "[2, 4, 5]"});
  require_error([&] { conv2d(x, Tensor::ones({6, 36})); }, {"conv2d", "four extents", "[6, 36]"});
  require_error([&] { conv2d(x, Tensor::ones({6, 3, 3, 3})); }, {"conv2d", "channels", "[2, 4, 5, 6]", "[6, 3, 3, 3]"});
  require_error(with({.groups = 3}), {"conv2d", "groups 3", "in 4", "out 6"});
  require_error(with({.groups = 0}), {"conv2d", "groups 0"});
  require_error(with({.groups = 2}), {"conv2d", "channels", "groups 2"});
  require_error(with({.stride = {0, 1}}), {"conv2d", "strides", "vertical 0"});
  require_error(with({.stride = {1, -2}}), {"conv2d", "strides", "horizontal -2"});
  require_error(with({.padding = {-1, 0}}), {"conv2d", "paddings", "vertical -1"});
  require_error(with({.padding = {0, std::int64_t{1} << 60}}), {"conv2d", "paddings", "horizontal"});
  require_error(with({.dilation = {1, 0}}), {"conv2d", "dilations", "horizontal 0"});
  require_error(with({.dilation = {std::numeric_limits<std::int64_t>::max(), 1}}), {"conv2d", "dilations"});
  require_error(with({.dilation = {3, 1}}), {"conv2d", "larger than the padded images", "vertical 7 and 5"});
  require_error([&] { conv2d(x, Tensor::ones({6, 4, 3, 7})); }, {"conv2d", "horizontal 7 and 6"});
  require_error([&] { conv2d(x, Tensor::ones({6, 4, 0, 3})); }, {"conv2d", "at least one pixel", "[6, 4, 0, 3]"});
  require_error([&] { conv2d(x, w, Tensor::ones({4})); }, {"conv2d", "bias [4]", "outputs 6"});
  require_error(
      [&] {
        conv2d_dx(Tensor::ones({2, 6, 3, 3}), w, x.shape(), {});
      },
      {"conv2d_dx", "[2, 6, 3, 3]", "[2, 6, 3, 4]"});
  require_error(
      [&] {
        conv2d_dw(Tensor::ones({1, 6, 3, 4}), x, w.shape(), {});
      },
      {"conv2d_dw", "[1, 6, 3, 4]", "[2, 6, 3, 4]"});

  const Mask m = Mask::ones(6, 36);
  const Tensor v = Tensor::ones({216});
  require_error([&] { sparse_conv2d(x, v, m, {3, 4}); }, {"sparse_conv2d", "mask [6, 36]", "kernel 3 x 4"});
  require_error([&] { sparse_conv2d(x, v, m, {0, 3}); }, {"sparse_conv2d", "kernel 0 x 3"});
  require_error([&] { sparse_conv2d(x, v, m, {-3, -3}); }, {"sparse_conv2d", "kernel -3 x -3"});
  require_error([&] { sparse_conv2d(x, v, m, {3, 3}, {}, {.groups = 2}); }, {"sparse_conv2d", "groups 2"});
  require_error([&] { sparse_conv2d(x, v, m, {3, 3}, {}, {.groups = 0}); }, {"sparse_conv2d", "groups 0"});
  require_error([&] { sparse_conv2d(x, Tensor::ones({200}), m, {3, 3}); }, {"sparse_conv2d", "[200]", "216"});
  require_error([&] { sparse_conv2d(Tensor::ones({2, 36}), v, m, {3, 3}); }, {"sparse_conv2d", "[2, 36]"});
  require_error([&] { sparse_conv2d(x, v, m, {3, 3}, Tensor::ones({5})); }, {"sparse_conv2d", "bias [5]"});
  require_error(
      [&] {
        sparse_conv2d_dx(Tensor::ones({2, 6, 1, 1}), v, m, {3, 3}, x.shape(), {});
      },
      {"sparse_conv2d_dx", "[2, 6, 1, 1]"});
  require_error(
      [&] {
        sparse_conv2d_dw(Tensor::ones({2, 6, 1, 1}), x, m, {3, 3}, {});
      },
      {"sparse_conv2d_dw", "[2, 6, 1, 1]"});
  require_error([&] { masked_conv2d(x, w, Mask::ones(6, 35)); }, {"masked_conv2d", "[6, 35]", "[6, 4, 3, 3]"});
}
