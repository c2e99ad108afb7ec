// Every op against differences of itself: fused and recorded rules, second derivatives, no node kept alive by its own rule.
#include <deepstruct/autograd/gradcheck.hpp>
#include <deepstruct/ops/loss.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

using In = std::span<const Var>;

/// Where the elements of inputs come from.
struct Range {
  float low = -2, high = 2;
};

Tensor random(const Shape& shape, Range range, std::uint64_t seed) {
  Rng rng(seed);
  return Tensor::uniform(shape, range.low, range.high, rng);
}
/// Distinct elements, no two closer than steps of gradcheck could bring together; for at most 40 elements.
Tensor apart(const Shape& shape, std::uint64_t seed = 1) {
  Rng rng(seed);
  const auto order = rng.permutation(shape.size());
  Tensor t = Tensor::empty(shape);
  t.for_each([&](std::int64_t i, float& x) { x = 0.25f * (static_cast<float>(order[i]) - static_cast<float>(shape.size()) / 2 + 0.4f); });
  return t;
}

/// No rule may hold its own node: once the handles are gone, the nodes are.
void require_freed(const GradcheckFunction& f, const std::vector<Tensor>& inputs) {
  std::weak_ptr<Node> node;
  {
    Vars x;
    for (const Tensor& t : inputs) x.push_back(variable(t));
    const Var y = f(x);
    node = y.node();
    (void)grad(y, x, {.create_graph = true, .seed = Tensor::ones(y.shape())});
  }
  REQUIRE(node.expired());
}

enum Derivatives { once, twice };

void require_gradients(const GradcheckFunction& f, const std::vector<Tensor>& inputs, Derivatives derivatives, GradcheckOptions options = {}) {
  test::Poison poison;
  std::ostringstream shapes;
  for (const Tensor& t : inputs) shapes << ' ' << t.shape();
  const auto report = gradcheck(f, inputs, options);
  std::ostringstream text;
  report.write(text);
  INFO("inputs" << shapes.str() << "; " << text.str());
  CHECK(report.ok);
  if (derivatives == twice) {
    options.directions = 2;
    const auto second = gradcheck_second(f, inputs, options);
    std::ostringstream second_text;
    second.write(second_text);
    INFO("second derivative: " << second_text.str());
    CHECK(second.ok);
  }
  require_freed(f, inputs);
}

const std::vector<Shape> shapes{{}, {1}, {5}, {0, 3}, {1, 7}, {17, 3}, {65}, {2, 3, 4}, {3, 1, 2, 5}};

void unary(const char* name, Var (*f)(const Var&), Derivatives derivatives, Range range = {}, const GradcheckOptions& options = {}) {
  INFO(name);
  for (const Shape& s : shapes) require_gradients([f](In x) { return f(x[0]); }, {random(s, range, 5)}, derivatives, options);
}
void binary(const char* name, Var (*f)(const Var&, const Var&), Range second = {}) {
  INFO(name);
  for (const auto& [a, b] : std::vector<std::pair<Shape, Shape>>{{{}, {}}, {{5}, {5}}, {{17, 3}, {17, 3}}, {{17, 3}, {3}}, {{17, 3}, {17, 1}},
                                                                 {{1, 3}, {5, 1}}, {{}, {5, 2}}, {{0, 3}, {3}}, {{2, 1, 4}, {3, 1}}, {{1, 2, 3, 1}, {17, 1, 1, 2}}}) {
    require_gradients([f](In x) { return f(x[0], x[1]); }, {random(a, {}, 6), random(b, second, 7)}, twice);
    if (second.low == -2) require_gradients([f](In x) { return f(x[1], x[0]); }, {random(a, {}, 6), random(b, second, 7)}, once);
  }
  require_gradients([f](In x) { return f(x[0], x[0]); }, {random({9}, second, 8)}, twice);
}
/// One input of the shape given.
void one(const char* name, const GradcheckFunction& f, const Shape& s, Derivatives derivatives = twice, Range range = {}) {
  INFO(name);
  require_gradients(f, {random(s, range, 9)}, derivatives);
}

}  // namespace

TEST_CASE("gradients of arithmetic, with broadcasting") {
  binary("add", add);
  binary("sub", sub);
  binary("mul", mul);
  binary("div", div, {1, 2});
  unary("affine", [](const Var& x) { return affine(x, 1.5f, -2); }, twice);
  unary("operators with numbers", [](const Var& x) { return (2.0f - x) * 3.0f + (-x) / 4.0f - 0.5f * (x + 1.0f) - 1.0f + (2.0f + x); }, twice);
  unary("operators", [](const Var& x) { return (x + x) * x - x / (x * x + 1.0f); }, twice);
  for (const auto& [a, b] : std::vector<std::pair<Shape, Shape>>{{{17, 3}, {17, 3}}, {{5, 1}, {3}}, {{}, {4}}, {{0, 2}, {2}}}) {
    Tensor low = random(a, {-2, -0.2f}, 1), high = random(b, {0.2f, 2}, 2);
    require_gradients([](In x) { return maximum(x[0], x[1]); }, {low, high}, once);
    require_gradients([](In x) { return maximum(x[1], x[0]); }, {low, high}, once);
    require_gradients([](In x) { return minimum(x[0], x[1]); }, {low, high}, once);
    require_gradients([](In x) { return mul(minimum(x[1], x[0]), x[0]); }, {low, high}, twice);
  }
}

TEST_CASE("gradients of elementwise functions") {
  unary("exp", exp, twice);
  unary("log", log, twice, {0.8f, 2});
  unary("log1p", log1p, twice, {-0.2f, 2});
  unary("sqrt", sqrt, twice, {0.8f, 2});
  unary("square", square, twice);
  unary("reciprocal", reciprocal, twice, {0.9f, 2});
  unary("rsqrt", rsqrt, twice, {0.9f, 2});
  unary("pow 2.7", [](const Var& x) { return pow(x, 2.7f); }, twice, {0.8f, 2});
  unary("pow 3", [](const Var& x) { return pow(x, 3); }, twice);
  unary("pow 1", [](const Var& x) { return pow(x, 1); }, twice);
  unary("pow 0", [](const Var& x) { return pow(x, 0); }, twice);
  unary("sin", sin, twice);
  unary("cos", cos, twice);
  unary("tanh", tanh, twice);
  unary("tanhshrink", tanhshrink, twice);
  unary("sigmoid", sigmoid, twice);
  unary("logsigmoid", logsigmoid, twice);
  unary("silu", silu, twice);
  unary("gelu", gelu, twice);
  unary("gelu_tanh", gelu_tanh, twice);
  unary("softplus", [](const Var& x) { return softplus(x); }, twice);
  unary("softplus 3, threshold 2", [](const Var& x) { return softplus(x, 3, 2); }, once, {}, {.kinks = {2.0f / 3}});
  const GradcheckOptions zero{.kinks = {0}};
  unary("abs", abs, once, {}, zero);
  unary("relu", relu, once, {}, zero);
  unary("leaky_relu", [](const Var& x) { return leaky_relu(x, 0.2f); }, once, {}, zero);
  unary("elu", [](const Var& x) { return elu(x, 1.3f); }, twice, {}, zero);
  unary("selu", selu, twice, {}, zero);
  unary("softsign", softsign, twice, {}, zero);
  unary("clamp", [](const Var& x) { return clamp(x, -0.5f, 1); }, once, {}, {.kinks = {-0.5f, 1}});
  unary("hardtanh", [](const Var& x) { return hardtanh(x); }, once, {}, {.kinks = {-1, 1}});
  unary("relu6", relu6, once, {-3, 9}, {.kinks = {0, 6}});
  for (const Shape& s : {Shape{5}, Shape{17, 3}, Shape{0, 2}}) {
    Indices condition = Indices::zeros(s);
    condition.for_each([](std::int64_t i, std::int32_t& c) { c = i % 3 == 1; });
    require_gradients([&](In x) { return mul(where(condition, x[0], x[1]), x[1]); }, {random(s, {}, 1), random(s, {}, 2)}, twice);
    require_gradients([&](In x) { return square(masked_fill(x[0], condition, 7)); }, {random(s, {}, 3)}, twice);
  }
}

TEST_CASE("gradients of ops that move elements") {
  for (std::int64_t n : {0, 1, 5, 17}) {
    INFO("extent " << n);
    one("reshape", [n](In x) { return square(reshape(x[0], {6, n})); }, {n, 2, 3});
    one("flatten", [](In x) { return flatten(x[0]); }, {n, 2, 3}, once);
    one("unsqueeze", [](In x) { return unsqueeze(x[0], -1); }, {n, 3}, once);
    one("squeeze", [](In x) { return squeeze(x[0], 1); }, {n, 1, 3}, once);
    one("permute", [](In x) { return square(permute(x[0], {2, 0, 3, 1})); }, {n, 2, 3, 4});
    one("transpose", [](In x) { return transpose(x[0]); }, {n, 3}, once);
    one("transpose inner", [](In x) { return transpose(x[0], 1, -1); }, {n, 2, 3}, once);
    one("narrow", [](In x) { return square(narrow(x[0], 1, 1, 2)); }, {n, 4});
    one("narrow the batch", [n](In x) { return narrow(x[0], 0, n / 3, n / 2); }, {n, 4}, once);
    one("select", [](In x) { return select(x[0], 1, -2); }, {n, 4}, once);
    one("slice", [n](In x) {
      Slice s;
      s.start = {n == 0 ? 0 : n - 1, 3, 0, 0};
      s.step = {-2, -3, 1, 1};
      s.shape = {(n + 1) / 2, 2, 2};
      return square(slice(x[0], s));
    }, {n, 4, 2});
    one("place", [n](In x) {
      Slice s;
      s.start = {1, 0, 0, 0};
      s.step = {2, 1, 1, 1};
      s.shape = {n, 2};
      return square(place(x[0], {2 * n + 1, 3}, s));
    }, {n, 2});
    one("chunk", [](In x) { return mul(chunk(x[0], 2, 1)[1], chunk(x[0], 2, 1)[0]); }, {n, 6});
    one("flip", [](In x) { return mul(flip(x[0], {0, -1}), x[0]); }, {n, 3});
    const std::int64_t before[] = {1, 0, 2}, after[] = {0, 3, 1};
    for (float value : {0.0f, 2.5f}) one("pad", [&](In x) { return square(pad(x[0], before, after, value)); }, {n, 2, 2});
    one("cat", [](In x) { return square(cat({x[0], exp(x[0]), x[0]}, 0)); }, {n, 3});
    one("cat inner", [](In x) { return cat({narrow(x[0], 1, 0, 1), x[0]}, -1); }, {n, 3}, once);
    one("stack", [](In x) { return square(stack({x[0], exp(x[0])}, 1)); }, {n, 3});
    const std::int64_t repeats[] = {2, 3};
    one("repeat", [&](In x) { return square(repeat(x[0], repeats)); }, {n, 2});
    one("tril", [](In x) { return square(tril(x[0], 1)); }, {n, 4});
    one("expand", [n](In x) { return square(expand(x[0], {n, 3, 2})); }, {3, 1});
    one("sum_to", [](In x) { return square(sum_to(x[0], {3, 1})); }, {n, 3, 2});
    if (n == 0) continue;
    Indices index = Indices::empty({n, 5});
    index.for_each([](std::int64_t i, std::int32_t& v) { v = static_cast<std::int32_t>(i * i % 3); });
    one("gather", [&](In x) { return square(gather(x[0], index, 1)); }, {n, 3});
    one("scatter_add", [&](In x) { return square(scatter_add(x[0], index, {n + 2, 3}, -1)); }, {n, 5});
    const std::vector<std::int32_t> rows{0, static_cast<std::int32_t>(n - 1), 0};
    one("index_select", [&](In x) { return square(index_select(x[0], 0, rows)); }, {n, 3});
    one("embedding", [&](In x) { return square(embedding(x[0], index)); }, {3, 4});
  }
}

TEST_CASE("gradients of reductions") {
  const std::vector<std::pair<Shape, Over>> cases{
      {{}, {}}, {{5}, {}}, {{17, 3}, {}}, {{17, 3}, 0}, {{17, 3}, Over(1, true)}, {{1, 7}, -1}, {{2, 3, 4}, Over(pool_vector<int>{0, 2})},
      {{2, 3, 4}, Over(pool_vector<int>{1, -1}, true)}, {{65, 2, 2}, 0}};
  for (const auto& [s, over_] : cases) {
    const Over& over = over_;
    INFO("shape " << s);
    one("sum", [&](In x) { return square(sum(x[0], over)); }, s);
    one("mean", [&](In x) { return square(mean(x[0], over)); }, s);
    one("norm", [&](In x) { return norm(x[0], over); }, s, twice, {0.5f, 2});
    one("logsumexp", [&](In x) { return logsumexp(x[0], over); }, s);
    one("biased var", [&](In x) { return var(x[0], over, false); }, s);
    if (s.size() > 7) {
      one("var", [&](In x) { return var(x[0], over); }, s);
      one("std", [&](In x) { return deepstruct::std(x[0], over); }, s);
    }
  }
  one("sum of nothing", [](In x) { return sum(x[0], 0); }, {0, 3});
  for (const Shape& s : {Shape{1, 6}, Shape{6, 5}, Shape{3, 2, 5}}) {
    for (int dim : {0, 1, -1}) {
      require_gradients([&](In x) { return square(max(x[0], dim).values); }, {apart(s)}, once);
      require_gradients([&](In x) { return min(x[0], dim, true).values; }, {apart(s)}, once);
      require_gradients([&](In x) { return amax(x[0], Over(dim, true)); }, {apart(s)}, once);
      require_gradients([&](In x) { return square(amin(x[0], dim)); }, {apart(s)}, once);
      one("prod", [&](In x) { return prod(x[0], dim); }, s, twice);
      one("cumsum", [&](In x) { return square(cumsum(x[0], dim)); }, s);
    }
    require_gradients([](In x) { return amax(x[0]); }, {apart(s)}, once);
  }
  // A zero in a product has the product of the others as its gradient.
  Tensor zero = Tensor::from({5}, {1, 2, 0, 3, -1});
  require_gradients([](In x) { return prod(x[0], 0); }, {zero}, twice);
}

TEST_CASE("gradients of products of matrices") {
  const auto product = [](In x) { return matmul(x[0], x[1]); };
  for (const auto& [a, b] : std::vector<std::pair<Shape, Shape>>{{{4, 5}, {5, 3}}, {{1, 7}, {7, 17}}, {{65, 3}, {3, 2}}, {{0, 3}, {3, 2}}, {{2, 0}, {0, 3}},
                                                                 {{5}, {5, 3}}, {{4, 5}, {5}}, {{5}, {5}}, {{2, 3, 4}, {2, 4, 5}}, {{2, 3, 4}, {4, 5}},
                                                                 {{17, 3, 2}, {1, 2, 3}}, {{2, 1, 3, 2}, {1, 4, 2, 3}}, {{4}, {2, 4, 3}}}) {
    Rng rng(1);
    require_gradients(product, {Tensor::normal(a, 0, 1, rng), Tensor::normal(b, 0, 1, rng)}, twice);
  }
  const auto twice_transposed = [](In x) { return matmul(transpose(matmul(x[0], x[1])), x[0]); };
  require_gradients(twice_transposed, {random({4, 3}, {}, 1), random({3, 5}, {}, 2)}, twice);

  for (const Shape& s : {Shape{4}, Shape{1, 4}, Shape{17, 4}, Shape{0, 4}, Shape{3, 2, 4}}) {
    INFO("x " << s);
    require_gradients([](In x) { return linear(x[0], x[1], x[2]); }, {random(s, {}, 1), random({6, 4}, {}, 2), random({6}, {}, 3)}, twice);
    require_gradients([](In x) { return linear(x[0], x[1]); }, {random(s, {}, 1), random({6, 4}, {}, 2)}, twice);
    for (const Mask& m : test::masks(6, 4)) {
      INFO("edges " << m.nnz());
      const Tensor values = random({m.nnz()}, {}, 4), w = random({6, 4}, {}, 5), bias = random({6}, {}, 3);
      require_gradients([&](In x) { return sparse_linear(x[0], x[1], m, x[2]); }, {random(s, {}, 1), values, bias}, twice);
      require_gradients([&](In x) { return sparse_linear(x[0], x[1], m); }, {random(s, {}, 1), values}, once);
      require_gradients([&](In x) { return masked_linear(x[0], x[1], m, x[2]); }, {random(s, {}, 1), w, bias}, twice);
    }
  }
  for (const Mask& m : test::masks(5, 7)) {
    INFO("edges " << m.nnz());
    const Tensor values = random({m.nnz()}, {}, 4);
    for (std::int64_t b : {0, 1, 17}) {
      require_gradients([&](In x) { return sparse_linear_dx(x[0], x[1], m); }, {random({b, 5}, {}, 1), values}, twice);
      require_gradients([&](In x) { return sparse_linear_dw(x[0], x[1], m); }, {random({b, 5}, {}, 1), random({b, 7}, {}, 2)}, twice);
    }
    require_gradients([&](In x) { return square(pick_edges(x[0], m)); }, {random({5, 7}, {}, 5)}, twice);
    require_gradients([&](In x) { return square(place_edges(x[0], m)); }, {values}, twice);
  }
}

TEST_CASE("gradients of normalizations and dropout") {
  for (const Shape& s : {Shape{1, 5}, Shape{17, 4}, Shape{0, 4}, Shape{2, 3, 4}, Shape{3, 2, 1, 4}}) {
    for (int dim = -1; dim < s.rank(); ++dim) {
      if (s.size() == 0 && dim == 0) continue;
      one("softmax", [dim](In x) { return softmax(x[0], dim); }, s);
      one("log_softmax", [dim](In x) { return log_softmax(x[0], dim); }, s);
    }
    one("dropout", [](In x) { return square(dropout(x[0], 0.4f, Draw{3, 4})); }, s);
    const std::int64_t terms = s[s.rank() - 1];
    const Tensor w = random({terms}, {0.5f, 1.5f}, 1), b = random({terms}, {}, 2);
    const GradcheckOptions options{.noise = 16};
    require_gradients([terms](In x) { return layer_norm(x[0], {terms}, x[1], x[2], 0.1f); }, {random(s, {}, 3), w, b}, twice, options);
    require_gradients([terms](In x) { return layer_norm(x[0], {terms}, x[1], {}, 0.1f); }, {random(s, {}, 3), w}, once, options);
    require_gradients([terms](In x) { return layer_norm(x[0], {terms}, {}, x[1], 0.1f); }, {random(s, {}, 3), b}, once, options);
    require_gradients([terms](In x) { return layer_norm(x[0], {terms}, {}, {}, 0.1f); }, {random(s, {}, 3)}, twice, options);
  }
  one("softmax of a vector", [](In x) { return softmax(x[0]); }, {7});
  const GradcheckOptions options{.noise = 16};
  const auto over_two = [](In x) { return layer_norm(x[0], {3, 4}, x[1], x[2], 0.1f); };
  require_gradients(over_two, {random({5, 3, 4}, {}, 3), random({3, 4}, {}, 1), random({3, 4}, {}, 2)}, twice, options);
  require_gradients(over_two, {random({3, 4}, {}, 3), random({3, 4}, {}, 1), random({3, 4}, {}, 2)}, once, options);
}

TEST_CASE("gradients of losses") {
  for (std::int64_t n : {1, 5, 17}) {
    std::vector<std::int32_t> target;
    for (std::int64_t i = 0; i < n; ++i) target.push_back(static_cast<std::int32_t>(i * 7 % 4));
    if (n > 1) target[1] = -100;
    const Tensor class_weights = Tensor::from({4}, {1, 2, 0.5f, 1.5f});
    for (Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
      INFO("samples " << n << ", reduction " << static_cast<int>(reduction));
      for (float smoothing : {0.0f, 0.2f}) {
        one("cross_entropy", [&](In x) { return cross_entropy(x[0], target, {.reduction = reduction, .label_smoothing = smoothing}); }, {n, 4});
        one("weighted cross_entropy", [&](In x) {
          return cross_entropy(x[0], target, {.reduction = reduction, .weight = class_weights, .label_smoothing = smoothing});
        }, {n, 4});
      }
      one("nll_loss", [&](In x) { return square(nll_loss(x[0], target, {.reduction = reduction})); }, {n, 4});
      const Tensor low = random({n, 3}, {-2, -0.3f}, 1), high = random({n, 3}, {0.3f, 2}, 2);
      require_gradients([&](In x) { return mse_loss(x[0], x[1], reduction); }, {low, high}, twice);
      require_gradients([&](In x) { return l1_loss(x[0], x[1], reduction); }, {low, high}, once);
      require_gradients([&](In x) { return smooth_l1_loss(x[0], x[1], reduction, 0.3f); }, {low, high}, once);
      require_gradients([&](In x) { return smooth_l1_loss(x[0], x[1], reduction, 6); }, {low, high}, twice);
      require_gradients([&](In x) { return binary_cross_entropy_with_logits(x[0], x[1], reduction); }, {low, high}, twice);
    }
    require_gradients([](In x) { return kl_div(x[0], x[1]); }, {random({n, 3}, {}, 1), random({n, 3}, {0.8f, 1.6f}, 2)}, twice);
  }
}

TEST_CASE("a small network of everything at once") {
  const Mask m = Mask::where(6, 5, [](std::int64_t r, std::int64_t c) { return (r + c) % 2 == 0; });
  const std::vector<std::int32_t> target{0, 2, 1, 1, 0, 2, 2};
  const auto net = [&](In x) {
    const Var h = gelu(layer_norm(sparse_linear(x[0], x[1], m, x[2]), {6}, {}, {}, 0.1f));
    return cross_entropy(linear(cat({h, square(h)}, 1), x[3]), target);
  };
  require_gradients(net, {random({7, 5}, {}, 1), random({m.nnz()}, {}, 2), random({6}, {}, 3), random({3, 12}, {}, 4)}, twice, {.noise = 16});
}
