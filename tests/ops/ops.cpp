// Every op. First its derivatives against differences of itself: fused and recorded rules, second derivatives, no node
// kept alive by its own rule. Then what no gradient tells: values of the ops that move elements, ends of ranges, ties,
// errors. (One file: every op compiled once.)
#include <deepstruct/autograd/gradcheck.hpp>
#include <deepstruct/autograd/trace.hpp>
#include <deepstruct/ops/loss.hpp>

#include "support/cases.hpp"
#include "support/device.hpp"
#include "support/reference.hpp"

using namespace deepstruct;
using test::require_error;
namespace reference = test::reference;

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
  t.for_each([&](std::int64_t i, float& x) {
    x = 0.25f * (static_cast<float>(order[i]) - static_cast<float>(shape.size()) / 2 + 0.4f);
  });
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

void require_gradients(const GradcheckFunction& f, const std::vector<Tensor>& inputs, Derivatives derivatives,
                       GradcheckOptions options = {}) {
  test::Poison poison;
  std::ostringstream shapes;
  for (const Tensor& t : inputs) shapes << ' ' << t.shape();
  options.device = test::on_device().device;
  options.directions = test::on_device(options.directions).directions;
  const auto report = gradcheck(f, inputs, options);
  std::ostringstream text;
  report.write(text);
  INFO("inputs" << shapes.str() << "; " << text.str());
  CHECK(report.ok);
  if (derivatives == twice) {
    options.directions = test::on_device(2).directions;
    const auto second = gradcheck_second(f, inputs, options);
    std::ostringstream second_text;
    second.write(second_text);
    INFO("second derivative: " << second_text.str());
    CHECK(second.ok);
  }
  require_freed(f, inputs);
}

const std::vector<Shape> shapes{{}, {1}, {5}, {0, 3}, {1, 7}, {17, 3}, {65}, {2, 3, 4}, {3, 1, 2, 5}};

void unary(const char* name, Var (*f)(const Var&), Derivatives derivatives, Range range = {},
           const GradcheckOptions& options = {}) {
  INFO(name);
  for (const Shape& s : shapes)
    require_gradients([f](In x) { return f(x[0]); }, {random(s, range, 5)}, derivatives, options);
}
void binary(const char* name, Var (*f)(const Var&, const Var&), Range second = {}) {
  INFO(name);
  for (const auto& [a, b] : std::vector<std::pair<Shape, Shape>>{{{}, {}},
                                                                 {{5}, {5}},
                                                                 {{17, 3}, {17, 3}},
                                                                 {{17, 3}, {3}},
                                                                 {{17, 3}, {17, 1}},
                                                                 {{1, 3}, {5, 1}},
                                                                 {{}, {5, 2}},
                                                                 {{0, 3}, {3}},
                                                                 {{2, 1, 4}, {3, 1}},
                                                                 {{1, 2, 3, 1}, {17, 1, 1, 2}}}) {
    require_gradients([f](In x) { return f(x[0], x[1]); }, {random(a, {}, 6), random(b, second, 7)}, twice);
    if (second.low == -2)
      require_gradients([f](In x) { return f(x[1], x[0]); }, {random(a, {}, 6), random(b, second, 7)}, once);
  }
  require_gradients([f](In x) { return f(x[0], x[0]); }, {random({9}, second, 8)}, twice);
}
/// One input of the shape given.
void one(const char* name, const GradcheckFunction& f, const Shape& s, Derivatives derivatives = twice,
         Range range = {}) {
  INFO(name);
  require_gradients(f, {random(s, range, 9)}, derivatives);
}

}  // namespace

TEST_CASE("gradients of arithmetic, with broadcasting") {
  binary("add", add);
  binary("sub", sub);
  binary("mul", mul);
  binary("div", div, {1, 2});
  unary(
      "affine", [](const Var& x) { return affine(x, 1.5f, -2); }, twice);
  unary(
      "operators with numbers",
      [](const Var& x) { return (2.0f - x) * 3.0f + (-x) / 4.0f - 0.5f * (x + 1.0f) - 1.0f + (2.0f + x); }, twice);
  unary(
      "operators", [](const Var& x) { return (x + x) * x - x / (x * x + 1.0f); }, twice);
  for (const auto& [a, b] :
       std::vector<std::pair<Shape, Shape>>{{{17, 3}, {17, 3}}, {{5, 1}, {3}}, {{}, {4}}, {{0, 2}, {2}}}) {
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
  unary(
      "pow 3", [](const Var& x) { return pow(x, 3); }, twice);
  unary(
      "pow 1", [](const Var& x) { return pow(x, 1); }, twice);
  unary(
      "pow 0", [](const Var& x) { return pow(x, 0); }, twice);
  unary("sin", sin, twice);
  unary("cos", cos, twice);
  unary("tanh", tanh, twice);
  unary("tanhshrink", tanhshrink, twice);
  unary("sigmoid", sigmoid, twice);
  unary("logsigmoid", logsigmoid, twice);
  unary("silu", silu, twice);
  unary("gelu", gelu, twice);
  unary("gelu_tanh", gelu_tanh, twice);
  unary(
      "softplus", [](const Var& x) { return softplus(x); }, twice);
  unary("softplus 3, threshold 2", [](const Var& x) { return softplus(x, 3, 2); }, once, {}, {.kinks = {2.0f / 3}});
  const GradcheckOptions zero{.kinks = {0}};
  unary("abs", abs, once, {}, zero);
  unary("relu", relu, once, {}, zero);
  unary(
      "leaky_relu", [](const Var& x) { return leaky_relu(x, 0.2f); }, once, {}, zero);
  unary(
      "elu", [](const Var& x) { return elu(x, 1.3f); }, twice, {}, zero);
  unary("selu", selu, twice, {}, zero);
  unary("softsign", softsign, twice, {}, zero);
  unary("clamp", [](const Var& x) { return clamp(x, -0.5f, 1); }, once, {}, {.kinks = {-0.5f, 1}});
  unary("hardtanh", [](const Var& x) { return hardtanh(x); }, once, {}, {.kinks = {-1, 1}});
  unary("relu6", relu6, once, {-3, 9}, {.kinks = {0, 6}});
  for (const Shape& s : {Shape{5}, Shape{17, 3}, Shape{0, 2}}) {
    Indices condition = Indices::zeros(s);
    condition.for_each([](std::int64_t i, std::int32_t& c) { c = i % 3 == 1; });
    require_gradients([&](In x) { return mul(where(condition, x[0], x[1]), x[1]); },
                      {random(s, {}, 1), random(s, {}, 2)}, twice);
    require_gradients([&](In x) { return square(masked_fill(x[0], condition, 7)); }, {random(s, {}, 3)}, twice);
  }
}

TEST_CASE("gradients of ops that move elements") {
  for (std::int64_t n : {0, 1, 5, 17}) {
    INFO("extent " << n);
    one("reshape", [n](In x) { return square(reshape(x[0], {6, n})); }, {n, 2, 3});
    one(
        "flatten", [](In x) { return flatten(x[0]); }, {n, 2, 3}, once);
    one(
        "unsqueeze", [](In x) { return unsqueeze(x[0], -1); }, {n, 3}, once);
    one(
        "squeeze", [](In x) { return squeeze(x[0], 1); }, {n, 1, 3}, once);
    one("permute", [](In x) { return square(permute(x[0], {2, 0, 3, 1})); }, {n, 2, 3, 4});
    one(
        "transpose", [](In x) { return transpose(x[0]); }, {n, 3}, once);
    one(
        "transpose inner", [](In x) { return transpose(x[0], 1, -1); }, {n, 2, 3}, once);
    one("narrow", [](In x) { return square(narrow(x[0], 1, 1, 2)); }, {n, 4});
    one(
        "narrow the batch", [n](In x) { return narrow(x[0], 0, n / 3, n / 2); }, {n, 4}, once);
    one(
        "select", [](In x) { return select(x[0], 1, -2); }, {n, 4}, once);
    one("slice",
        [n](In x) {
          Slice s;
          s.start = {n == 0 ? 0 : n - 1, 3, 0, 0};
          s.step = {-2, -3, 1, 1};
          s.shape = {(n + 1) / 2, 2, 2};
          return square(slice(x[0], s));
        },
        {n, 4, 2});
    one("place",
        [n](In x) {
          Slice s;
          s.start = {1, 0, 0, 0};
          s.step = {2, 1, 1, 1};
          s.shape = {n, 2};
          return square(place(x[0], {2 * n + 1, 3}, s));
        },
        {n, 2});
    one("chunk", [](In x) { return mul(chunk(x[0], 2, 1)[1], chunk(x[0], 2, 1)[0]); }, {n, 6});
    one("flip", [](In x) { return mul(flip(x[0], {0, -1}), x[0]); }, {n, 3});
    const std::int64_t before[] = {1, 0, 2}, after[] = {0, 3, 1};
    for (float value : {0.0f, 2.5f})
      one("pad", [&](In x) { return square(pad(x[0], before, after, value)); }, {n, 2, 2});
    one("cat", [](In x) { return square(cat({x[0], exp(x[0]), x[0]}, 0)); }, {n, 3});
    one(
        "cat inner",
        [](In x) {
          return cat({narrow(x[0], 1, 0, 1), x[0]}, -1);
        },
        {n, 3}, once);
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
  const std::vector<std::pair<Shape, Over>> cases{{{}, {}},
                                                  {{5}, {}},
                                                  {{17, 3}, {}},
                                                  {{17, 3}, 0},
                                                  {{17, 3}, Over(1, true)},
                                                  {{1, 7}, -1},
                                                  {{2, 3, 4}, Over(pool_vector<int>{0, 2})},
                                                  {{2, 3, 4}, Over(pool_vector<int>{1, -1}, true)},
                                                  {{65, 2, 2}, 0}};
  for (const auto& [s, over_] : cases) {
    const Over& over = over_;
    INFO("shape " << s);
    one(
        "sum", [&](In x) { return square(sum(x[0], over)); }, s);
    one(
        "mean", [&](In x) { return square(mean(x[0], over)); }, s);
    one("norm", [&](In x) { return norm(x[0], over); }, s, twice, {0.5f, 2});
    one(
        "logsumexp", [&](In x) { return logsumexp(x[0], over); }, s);
    one(
        "biased var", [&](In x) { return var(x[0], over, false); }, s);
    if (s.size() > 7) {
      one(
          "var", [&](In x) { return var(x[0], over); }, s);
      one(
          "std", [&](In x) { return deepstruct::std(x[0], over); }, s);
    }
  }
  one("sum of nothing", [](In x) { return sum(x[0], 0); }, {0, 3});
  for (const Shape& s : {Shape{1, 6}, Shape{6, 5}, Shape{3, 2, 5}}) {
    for (int dim : {0, 1, -1}) {
      require_gradients([&](In x) { return square(max(x[0], dim).values); }, {apart(s)}, once);
      require_gradients([&](In x) { return min(x[0], dim, true).values; }, {apart(s)}, once);
      require_gradients([&](In x) { return amax(x[0], Over(dim, true)); }, {apart(s)}, once);
      require_gradients([&](In x) { return square(amin(x[0], dim)); }, {apart(s)}, once);
      one(
          "prod", [&](In x) { return prod(x[0], dim); }, s, twice);
      one(
          "cumsum", [&](In x) { return square(cumsum(x[0], dim)); }, s);
    }
    require_gradients([](In x) { return amax(x[0]); }, {apart(s)}, once);
  }
  // A zero in a product has the product of the others as its gradient.
  Tensor zero = Tensor::from({5}, {1, 2, 0, 3, -1});
  require_gradients([](In x) { return prod(x[0], 0); }, {zero}, twice);
}

TEST_CASE("gradients of products of matrices") {
  const auto product = [](In x) { return matmul(x[0], x[1]); };
  for (const auto& [a, b] : std::vector<std::pair<Shape, Shape>>{{{4, 5}, {5, 3}},
                                                                 {{1, 7}, {7, 17}},
                                                                 {{65, 3}, {3, 2}},
                                                                 {{0, 3}, {3, 2}},
                                                                 {{2, 0}, {0, 3}},
                                                                 {{5}, {5, 3}},
                                                                 {{4, 5}, {5}},
                                                                 {{5}, {5}},
                                                                 {{2, 3, 4}, {2, 4, 5}},
                                                                 {{2, 3, 4}, {4, 5}},
                                                                 {{17, 3, 2}, {1, 2, 3}},
                                                                 {{2, 1, 3, 2}, {1, 4, 2, 3}},
                                                                 {{4}, {2, 4, 3}}}) {
    Rng rng(1);
    require_gradients(product, {Tensor::normal(a, 0, 1, rng), Tensor::normal(b, 0, 1, rng)}, twice);
  }
  const auto twice_transposed = [](In x) { return matmul(transpose(matmul(x[0], x[1])), x[0]); };
  require_gradients(twice_transposed, {random({4, 3}, {}, 1), random({3, 5}, {}, 2)}, twice);

  for (const Shape& s : {Shape{4}, Shape{1, 4}, Shape{17, 4}, Shape{0, 4}, Shape{3, 2, 4}}) {
    INFO("x " << s);
    require_gradients([](In x) { return linear(x[0], x[1], x[2]); },
                      {random(s, {}, 1), random({6, 4}, {}, 2), random({6}, {}, 3)}, twice);
    require_gradients([](In x) { return linear(x[0], x[1]); }, {random(s, {}, 1), random({6, 4}, {}, 2)}, twice);
    for (const Mask& m : test::masks(6, 4)) {
      INFO("edges " << m.nnz());
      const Tensor values = random({m.nnz()}, {}, 4), w = random({6, 4}, {}, 5), bias = random({6}, {}, 3);
      require_gradients([&](In x) { return sparse_linear(x[0], x[1], m, x[2]); }, {random(s, {}, 1), values, bias},
                        twice);
      require_gradients([&](In x) { return sparse_linear(x[0], x[1], m); }, {random(s, {}, 1), values}, once);
      // Apart from the kink of ReLU: far above it or far below it, by the bias.
      const Tensor far = Tensor::from({6}, {40, -40, 50, 60, -50, 45});
      require_gradients(
          [&](In x) { return sparse_linear(x[0], x[1], m, test::beside(far, x[2]) + x[2], Activation::relu); },
          {random(s, {}, 1), values, bias}, once);
      require_gradients([&](In x) { return masked_linear(x[0], x[1], m, x[2]); }, {random(s, {}, 1), w, bias}, twice);
    }
  }
  for (const Mask& m : test::masks(5, 7)) {
    INFO("edges " << m.nnz());
    const Tensor values = random({m.nnz()}, {}, 4);
    for (std::int64_t b : {0, 1, 17}) {
      require_gradients([&](In x) { return sparse_linear_dx(x[0], x[1], m); }, {random({b, 5}, {}, 1), values}, twice);
      require_gradients([&](In x) { return sparse_linear_dw(x[0], x[1], m); },
                        {random({b, 5}, {}, 1), random({b, 7}, {}, 2)}, twice);
    }
    require_gradients([&](In x) { return square(pick_edges(x[0], m)); }, {random({5, 7}, {}, 5)}, twice);
    require_gradients([&](In x) { return square(place_edges(x[0], m)); }, {values}, twice);
  }
}

TEST_CASE("gradients of normalizations and dropout") {
  for (const Shape& s : {Shape{1, 5}, Shape{17, 4}, Shape{0, 4}, Shape{2, 3, 4}, Shape{3, 2, 1, 4}}) {
    for (int dim = -1; dim < s.rank(); ++dim) {
      if (s.size() == 0 && dim == 0) continue;
      one(
          "softmax", [dim](In x) { return softmax(x[0], dim); }, s);
      one(
          "log_softmax", [dim](In x) { return log_softmax(x[0], dim); }, s);
    }
    one(
        "dropout",
        [](In x) {
          return square(dropout(x[0], 0.4f, Draw{3, 4}));
        },
        s);
    const std::int64_t terms = s[s.rank() - 1];
    const Tensor w = random({terms}, {0.5f, 1.5f}, 1), b = random({terms}, {}, 2);
    const GradcheckOptions options{.noise = 16};
    require_gradients([terms](In x) { return layer_norm(x[0], {terms}, x[1], x[2], 0.1f); }, {random(s, {}, 3), w, b},
                      twice, options);
    require_gradients([terms](In x) { return layer_norm(x[0], {terms}, x[1], {}, 0.1f); }, {random(s, {}, 3), w}, once,
                      options);
    require_gradients([terms](In x) { return layer_norm(x[0], {terms}, {}, x[1], 0.1f); }, {random(s, {}, 3), b}, once,
                      options);
    require_gradients([terms](In x) { return layer_norm(x[0], {terms}, {}, {}, 0.1f); }, {random(s, {}, 3)}, twice,
                      options);
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
        one("cross_entropy",
            [&](In x) { return cross_entropy(x[0], target, {.reduction = reduction, .label_smoothing = smoothing}); },
            {n, 4});
        one("weighted cross_entropy",
            [&](In x) {
              return cross_entropy(x[0], target,
                                   {.reduction = reduction, .weight = class_weights, .label_smoothing = smoothing});
            },
            {n, 4});
      }
      one("nll_loss", [&](In x) { return square(nll_loss(x[0], target, {.reduction = reduction})); }, {n, 4});
      const Tensor low = random({n, 3}, {-2, -0.3f}, 1), high = random({n, 3}, {0.3f, 2}, 2);
      require_gradients([&](In x) { return mse_loss(x[0], x[1], reduction); }, {low, high}, twice);
      require_gradients([&](In x) { return l1_loss(x[0], x[1], reduction); }, {low, high}, once);
      require_gradients([&](In x) { return smooth_l1_loss(x[0], x[1], reduction, 0.3f); }, {low, high}, once);
      require_gradients([&](In x) { return smooth_l1_loss(x[0], x[1], reduction, 6); }, {low, high}, twice);
      require_gradients([&](In x) { return binary_cross_entropy_with_logits(x[0], x[1], reduction); }, {low, high},
                        twice);
    }
    require_gradients([](In x) { return kl_div(x[0], x[1]); }, {random({n, 3}, {}, 1), random({n, 3}, {0.8f, 1.6f}, 2)},
                      twice);
  }
}

TEST_CASE("a small network of everything at once") {
  const Mask m = Mask::where(6, 5, [](std::int64_t r, std::int64_t c) { return (r + c) % 2 == 0; });
  const std::vector<std::int32_t> target{0, 2, 1, 1, 0, 2, 2};
  const auto net = [&](In x) {
    const Var h = gelu(layer_norm(sparse_linear(x[0], x[1], m, x[2]), {6}, {}, {}, 0.1f));
    return cross_entropy(linear(cat({h, square(h)}, 1), x[3]), target);
  };
  require_gradients(net, {random({7, 5}, {}, 1), random({m.nnz()}, {}, 2), random({6}, {}, 3), random({3, 12}, {}, 4)},
                    twice, {.noise = 16});
}

namespace {

const float inf = std::numeric_limits<float>::infinity();

Tensor counting(const Shape& s) {
  Tensor t = Tensor::empty(s);
  t.for_each([](std::int64_t i, float& x) { x = static_cast<float>(i); });
  return t;
}
using Floats = std::vector<float>;
Floats values(const Var& x) { return x.value().to_vector(); }

}  // namespace

TEST_CASE("ops that move elements put them where NumPy does") {
  test::Poison poison;
  const Var x = counting({2, 3});
  REQUIRE(reshape(x, {3, -1}).value() == Tensor::from({3, 2}, {0, 1, 2, 3, 4, 5}));
  REQUIRE(reshape(x, {3, 2}).value() != x.value());
  REQUIRE(reshape(x, {2, 3}) == x);
  REQUIRE(flatten(counting({2, 3, 2})).shape() == Shape{2, 6});
  REQUIRE(flatten(counting({2, 3, 2}), 0).shape() == Shape{12});
  REQUIRE(unsqueeze(x, -1).shape() == Shape{2, 3, 1});
  REQUIRE(squeeze(unsqueeze(x, 0), 0).value() == x.value());
  REQUIRE(transpose(x).value() == Tensor::from({3, 2}, {0, 3, 1, 4, 2, 5}));
  REQUIRE(permute(counting({2, 3, 4}), {2, 0, 1}).value()(3, 1, 2) == 1 * 12 + 2 * 4 + 3);
  REQUIRE(values(narrow(x, 1, 1, 2)) == Floats{1, 2, 4, 5});
  REQUIRE(values(select(x, 0, -1)) == Floats{3, 4, 5});
  REQUIRE(values(flip(x, {0, 1})) == Floats{5, 4, 3, 2, 1, 0});
  REQUIRE(chunk(counting({5}), 3).back().value() == Tensor::from({1}, {4}));
  REQUIRE(chunk(counting({5}), 3).size() == 3);
  const std::int64_t before[] = {1, 0}, after[] = {0, 2}, twice[] = {2, 2};
  REQUIRE(values(pad(x, before, after, 9)) == Floats{9, 9, 9, 9, 9, 0, 1, 2, 9, 9, 3, 4, 5, 9, 9});
  REQUIRE(values(pad(x, before, after, -inf)) ==
          Floats{-inf, -inf, -inf, -inf, -inf, 0, 1, 2, -inf, -inf, 3, 4, 5, -inf, -inf});
  REQUIRE(values(cat({x, x}, 1)) == Floats{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
  REQUIRE(stack({x, x}, 2).value()(1, 2, 0) == 5);
  REQUIRE(values(repeat(x, twice)) == Floats{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5, 0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
  REQUIRE(values(tril(counting({3, 3}), -1)) == Floats{0, 0, 0, 3, 0, 0, 6, 7, 0});
  REQUIRE(values(gather(x, Indices::from({2, 2}, {2, 0, 1, 1}), 1)) == Floats{2, 0, 4, 4});
  REQUIRE(values(scatter_add(Tensor::ones({2, 2}), Indices::from({2, 2}, {2, 0, 1, 1}), {2, 3}, 1)) ==
          Floats{1, 0, 1, 0, 2, 0});
  const std::vector<std::int32_t> rows{1, 1, 0};
  REQUIRE(values(index_select(x, 0, rows)) == Floats{3, 4, 5, 3, 4, 5, 0, 1, 2});
  REQUIRE(embedding(x, Indices::from({1, 2}, {1, 0})).value() == Tensor::from({1, 2, 3}, {3, 4, 5, 0, 1, 2}));
  REQUIRE(values(expand(Tensor::from({2, 1}, {1, 2}), {2, 3})) == Floats{1, 1, 1, 2, 2, 2});
  REQUIRE(values(where(Indices::from({2}, {1, 0}), Tensor::ones({2}), Tensor::zeros({2}))) == Floats{1, 0});
  Slice s;
  s.start = {1, 2, 0, 0};
  s.step = {-1, -2, 1, 1};
  s.shape = {2, 2};
  REQUIRE(values(slice(x, s)) == Floats{5, 3, 2, 0});
  REQUIRE(values(place(slice(x, s), {2, 3}, s)) == Floats{0, 0, 2, 3, 0, 5});
}

TEST_CASE("reductions at their ends") {
  const float nan = std::nanf("");
  REQUIRE(sum(Tensor::zeros({0, 3}), 0).value() == Tensor::zeros({3}));
  REQUIRE(sum(Tensor::zeros({0})).item() == 0);
  REQUIRE(std::isnan(mean(Tensor::zeros({0})).item()));
  REQUIRE(logsumexp(Tensor::full({3}, -inf)).item() == -inf);
  REQUIRE(logsumexp(Tensor::from({2}, {inf, 0})).item() == inf);
  REQUIRE(logsumexp(Tensor::from({2}, {1000, 1000})).item() == Approx(1000 + std::log(2.0)));
  REQUIRE(prod(Tensor::zeros({2, 0}), 1).value() == Tensor::ones({2}));
  REQUIRE(std::isnan(amax(Tensor::from({2}, {1, nan})).item()));
  REQUIRE(argmax(Tensor::from({2, 3}, {1, 5, 5, 7, 0, 7}), 1) == Indices::from({2}, {1, 0}));
  REQUIRE(argmin(Tensor::from({2, 3}, {1, 5, 5, 7, 0, 7}), 0) == Indices::from({3}, {0, 1, 0}));
  REQUIRE(argmax(Tensor::from({2, 2}, {1, 5, 9, 7})) == 2);
  REQUIRE(var(Tensor::from({4}, {1, 2, 3, 4})).item() == Approx(5.0 / 3));
  REQUIRE(var(Tensor::from({4}, {1, 2, 3, 4}), {}, false).item() == Approx(1.25));
  REQUIRE(values(cumsum(Tensor::from({2, 2}, {1, 2, 3, 4}), 0)) == Floats{1, 2, 4, 6});
  REQUIRE(sum(counting({2, 3, 4}), Over(pool_vector<int>{0, 2}, true)).shape() == Shape{1, 3, 1});
  STATIC_REQUIRE_FALSE(std::is_constructible_v<Over, int, int>);  // {0, 1} would mean dimension 0, kept
}

TEST_CASE("ties: maximum and amax share, max takes the first") {
  const Var a = variable(Tensor::from({2}, {1, 1})), b = variable(Tensor::from({2}, {1, 0}));
  backward(sum(maximum(a, b)));
  REQUIRE(values(a.grad()) == Floats{0.5f, 1});
  REQUIRE(values(b.grad()) == Floats{0.5f, 0});
  const Var x = variable(Tensor::from({1, 3}, {2, 1, 2}));
  REQUIRE(values(grad(sum(amax(x, 1)), {x})[0]) == Floats{0.5f, 0, 0.5f});
  REQUIRE(values(grad(sum(max(x, 1).values), {x})[0]) == Floats{1, 0, 0});
}

TEST_CASE("what stands behind a mask counts for nothing, whatever it is") {
  test::Poison poison;
  Rng rng(1);
  for (double density : {0.2, 0.8}) {
    const Mask m = Mask::random(9, 7, density, rng);
    Tensor w = Tensor::normal({9, 7}, 0, 1, rng), hidden = w;
    for (std::int64_t r = 0; r < 9; ++r)
      for (std::int64_t c = 0; c < 7; ++c)
        if (!m.contains(r, c)) w(r, c) = 0, hidden(r, c) = std::nanf("");
    const Tensor x = Tensor::normal({17, 7}, 0, 1, rng), bias = Tensor::normal({9}, 0, 1, rng);
    const Var full = variable(hidden);
    const Var y = masked_linear(x, full, m, bias);
    test::require_close(y.value(), reference::linear(x, w, &bias));
    backward(sum(y));
    m.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { REQUIRE(full.grad()(r, c) != 0); });
    for (std::int64_t r = 0; r < 9; ++r)
      for (std::int64_t c = 0; c < 7; ++c)
        if (!m.contains(r, c)) REQUIRE(full.grad()(r, c) == 0);
  }
}

TEST_CASE("an activation in the same pass is the activation after it") {
  Rng rng(3);
  for (std::int64_t b : {1, 5, 16, 70}) {
    const Mask m = Mask::random(40, 30, 0.3, rng);
    const Var x = variable(Tensor::normal({b, 30}, 0, 1, rng)), bias = variable(Tensor::normal({40}, 0, 1, rng));
    const Var values = variable(Tensor::normal({m.nnz()}, 0, 1, rng));
    const Tensor up = Tensor::normal({b, 40}, 0, 1, rng);
    const Var together = sparse_linear(x, values, m, bias, Activation::relu);
    const Var apart = relu(sparse_linear(x, values, m, bias));
    REQUIRE(together.value() == apart.value());
    const auto of = [&](const Var& y) { return grad(y, {x, values, bias}, {.seed = up}); };
    const Vars got = of(together), want = of(apart);
    for (std::size_t k = 0; k < 3; ++k)
      for (std::int64_t i = 0; i < want[k].size(); ++i)
        REQUIRE(got[k].value().to_vector()[i] == Approx(want[k].value().to_vector()[i]).margin(1e-4));
    // A trace shows the parts.
    const auto steps =
        trace_function([&](const Var& v) { return sparse_linear(v, values, m, bias, Activation::relu); }, x);
    REQUIRE(steps.back().op == "relu");
    for (std::int64_t i = 0; i < together.size(); ++i)  // its bias comes last: the sums are rounded otherwise
      REQUIRE(steps.back().value.value().to_vector()[i] == Approx(together.value().to_vector()[i]).margin(1e-5));
  }
}

TEST_CASE("sums over more than 4096 samples are made in double") {
  Rng rng(4);
  const Mask m = Mask::ones(2, 3);
  const Tensor x = Tensor::uniform({9001, 3}, 0, 1, rng), dy = Tensor::uniform({9001, 2}, 0, 1, rng);
  test::require_close(sparse_linear_dw(dy, x, m).value(), reference::sparse_linear_dw(m, dy, x), 1);
  const Var w = variable(Tensor::normal({2, 3}, 0, 1, rng));
  test::require_close(grad(linear(x, w), {w}, {.seed = dy})[0].value(), reference::product_t(dy, x), 1);
  const Tensor wide = Tensor::uniform({5, 9001}, 0, 1, rng), weight = Tensor::uniform({3, 9001}, 0, 1, rng);
  const Tensor bias = Tensor::normal({3}, 0, 1, rng);
  test::require_close(linear(wide, weight, bias).value(), reference::linear(wide, weight, &bias), 1);
}

TEST_CASE("losses at their ends") {
  const Tensor x = Tensor::from({2, 2}, {100, -100, -100, 100});
  const std::vector<std::int32_t> right{0, 1}, wrong{1, 0}, ignored{-100, 0};
  REQUIRE(cross_entropy(x, right).item() == 0);
  REQUIRE(cross_entropy(x, wrong).item() == 200);
  REQUIRE(cross_entropy(x, ignored).item() == 200);
  REQUIRE(values(cross_entropy(x, ignored, {.reduction = Reduction::none})) == Floats{0, 200});
  REQUIRE(cross_entropy(x, wrong, {.reduction = Reduction::sum, .ignore_index = 0}).item() == 200);
  REQUIRE(binary_cross_entropy_with_logits(Tensor::from({2}, {200, -200}), Tensor::from({2}, {0, 1})).item() == 200);
  REQUIRE(kl_div(Tensor::from({1, 2}, {-1, -1}), Tensor::from({1, 2}, {0, 1})).item() == 1);
  REQUIRE(smooth_l1_loss(Tensor::from({2}, {1, 3}), Tensor::zeros({2}), Reduction::none, 2).value() ==
          Tensor::from({2}, {0.25f, 2}));
}

TEST_CASE("dropout keeps its share, scales the rest, and repeats its draw") {
  const Tensor x = Tensor::ones({1000, 10});
  const Draw draw{1, 2};
  const Tensor y = dropout(x, 0.3f, draw).value();
  int kept = 0;
  y.for_each([&](std::int64_t, float v) {
    REQUIRE((v == 0 || v == 1 / 0.7f));
    kept += v != 0;
  });
  REQUIRE(std::abs(kept - 7000) < 5 * 46);
  REQUIRE(dropout(x, 0.3f, draw).value() == y);
  REQUIRE(dropout(x, 0, draw).value() == x);
  REQUIRE(dropout(x, 1, draw).value() == Tensor::zeros(x.shape()));
  manual_seed(1);
  const Tensor a = dropout(x, 0.5f).value();
  REQUIRE(dropout(x, 0.5f).value() != a);
  manual_seed(1);
  REQUIRE(dropout(x, 0.5f).value() == a);
}

TEST_CASE("errors name the op, the rule and both shapes") {
  const Var a = Tensor::zeros({2, 3}), b = Tensor::zeros({4, 3}), v = Tensor::zeros({5});
  const Mask m = Mask::ones(4, 3);
  const Indices index = Indices::from({1, 1}, {3});
  const std::vector<std::int32_t> labels{0, 3}, few{0}, negative{0, -1};
  const std::int64_t one[] = {1}, minus[] = {-1, 0}, none[] = {0, 0}, zero[] = {0, 1};
  const std::vector<Var> nothing;
  require_error([&] { add(a, b); }, {"add:", "[2, 3]", "[4, 3]"});
  require_error([&] { (void)(a - b); }, {"sub:", "[2, 3]", "[4, 3]"});
  require_error([&] { mul(a, b); }, {"mul:", "[2, 3]", "[4, 3]"});
  require_error([&] { div(a, v); }, {"div:", "[2, 3]", "[5]"});
  require_error([&] { maximum(a, b); }, {"maximum:", "[2, 3]", "[4, 3]"});
  require_error([&] { minimum(a, b); }, {"minimum:", "[2, 3]", "[4, 3]"});
  require_error([&] { expand(a, {3, 3}); }, {"expand:", "[2, 3]", "[3, 3]"});
  require_error([&] { expand(a, {3}); }, {"expand:", "[2, 3]", "[3]"});
  require_error([&] { sum_to(a, {2, 2}); }, {"sum_to:", "[2, 3]", "[2, 2]"});
  require_error([&] { matmul(a, b); }, {"matmul:", "[2, 3]", "[4, 3]"});
  require_error([&] { matmul(a, v); }, {"matmul:", "[2, 3]", "[5"});
  require_error([&] { matmul(Tensor::scalar(1), v); }, {"matmul:", "[]", "[5]"});
  require_error(
      [&] {
        matmul(Tensor::zeros({2, 3, 4}), Tensor::zeros({3, 4, 2}));
      },
      {"matmul:", "[2, 3, 4]", "[3, 4, 2]"});
  require_error([&] { linear(v, a); }, {"linear:", "[5]", "3"});
  require_error([&] { linear(a, v); }, {"linear:", "matrix", "[5]"});
  require_error([&] { linear(a, b, v); }, {"linear:", "[5]", "[4, 3]"});
  require_error([&] { linear(Tensor::scalar(1), a); }, {"linear:", "[]"});
  require_error([&] { sparse_linear(a, v, m); }, {"sparse_linear:", "[5]", "12"});
  require_error([&] { sparse_linear(v, Tensor::zeros({12}), m); }, {"sparse_linear:", "[5]", "3"});
  require_error([&] { sparse_linear(a, Tensor::zeros({12}), m, v); }, {"sparse_linear:", "[5]", "[4, 3]"});
  require_error([&] { sparse_linear_dx(a, Tensor::zeros({12}), m); }, {"sparse_linear_dx:", "[2, 3]", "[4, 3]"});
  require_error([&] { sparse_linear_dw(a, a, m); }, {"sparse_linear_dw:", "[2, 3]", "[4, 3]"});
  require_error([&] { masked_linear(a, a, m); }, {"masked_linear:", "[2, 3]", "[4, 3]"});
  require_error([&] { pick_edges(a, m); }, {"pick_edges:", "[2, 3]", "[4, 3]"});
  require_error([&] { place_edges(v, m); }, {"place_edges:", "[5]", "12"});
  require_error([&] { where(Indices::zeros({2, 3}), a, b); }, {"where:", "[2, 3]", "[4, 3]"});
  require_error([&] { clamp(a, 1, 0); }, {"clamp:", "1 > 0"});
  require_error([&] { hardtanh(a, 1, 0); }, {"hardtanh:", "1 > 0"});
  require_error([&] { reshape(a, {4, 2}); }, {"reshape:", "[2, 3]", "[4, 2]"});
  require_error([&] { reshape(a, {4, -1}); }, {"reshape:", "4", "6"});
  require_error([&] { reshape(a, {-1, -1}); }, {"reshape:", "-1"});
  require_error([&] { reshape(a, {-2, 3}); }, {"reshape:", "-2"});
  require_error([&] { reshape(a, {1, 1, 1, 2, 3}); }, {"reshape:", "5"});
  require_error(
      [&] {
        reshape(a, {std::int64_t{1} << 40, std::int64_t{1} << 40, std::int64_t{1} << 40});
      },
      {"reshape:", "too many"});
  require_error([&] { unsqueeze(a, 3); }, {"unsqueeze:", "3"});
  require_error([&] { squeeze(a, 2); }, {"squeeze:", "2"});
  require_error([&] { permute(a, {0}); }, {"permute:", "1", "[2, 3]"});
  require_error([&] { permute(a, {1, 1}); }, {"permute:", "twice"});
  require_error([&] { transpose(v); }, {"transpose:", "1"});
  require_error([&] { narrow(a, 1, 2, 2); }, {"narrow:", "2 + 2 of 3"});
  require_error([&] { select(a, 1, 3); }, {"select:", "3 of 3"});
  Slice bad;
  bad.shape = {2, 4};
  require_error([&] { slice(a, bad); }, {"slice:", "0 to 3 of extent 3"});
  require_error([&] { place(Tensor::zeros({2, 4}), {2, 3}, bad); }, {"place:", "0 to 3 of extent 3"});
  bad.shape = {2, 2};
  bad.step = {1, 0, 1, 1};
  require_error([&] { slice(a, bad); }, {"slice:", "steps", "[2, 3]"});
  require_error([&] { slice(v, bad); }, {"slice:", "[2, 2]", "[5]"});
  require_error([&] { chunk(a, 0); }, {"chunk:", "0"});
  require_error([&] { pad(a, one, one); }, {"pad:", "1", "[2, 3]"});
  require_error([&] { pad(a, minus, none); }, {"pad:", "-1"});
  require_error([&] { cat({a, b}, 1); }, {"cat:", "[2, 3]", "[4, 3]"});
  require_error([&] { cat({a, v}, 0); }, {"cat:", "[2, 3]", "[5]"});
  require_error([&] { cat(nothing); }, {"cat:"});
  require_error([&] { repeat(a, one); }, {"repeat:", "1", "[2, 3]"});
  require_error([&] { repeat(a, zero); }, {"repeat:", "0"});
  require_error([&] { tril(v); }, {"tril:", "[5]"});
  require_error([&] { gather(a, index, 1); }, {"gather:", "3 of 3"});
  require_error([&] { gather(a, Indices::from({1, 1}, {-1}), 1); }, {"gather:", "-1 of 3"});
  require_error([&] { gather(a, Indices::zeros({3, 1}), 1); }, {"gather:", "[3, 1]", "[2, 3]"});
  require_error([&] { gather(v, index, 0); }, {"gather:", "[1, 1]", "[5]"});
  require_error([&] { scatter_add(a, index, {2, 3}, 1); }, {"scatter_add:", "[2, 3]", "[1, 1]"});
  require_error([&] { scatter_add(Tensor::zeros({1, 1}), index, {1, 3}, 1); }, {"scatter_add:", "3 of 3"});
  require_error(
      [&] {
        scatter_add(Tensor::zeros({5, 1}), Indices::zeros({5, 1}), {2, 3}, 1);
      },
      {"scatter_add:", "[5, 1]", "[2, 3]"});
  require_error([&] { scatter_add(Tensor::zeros({1, 1}), index, {5}, 0); }, {"scatter_add:", "[1, 1]", "[5]"});
  require_error([&] { scatter_add(Tensor::zeros({1, 1}), index, {1, 4}, 2); }, {"scatter_add:", "2 of rank 2"});
  require_error([&] { index_select(a, 0, labels); }, {"3 of 2"});
  require_error([&] { embedding(v, index); }, {"embedding:", "[5]"});
  require_error([&] { sum(a, 2); }, {"sum:", "2"});
  require_error([&] { mean(a, -3); }, {"mean:", "-3"});
  require_error([&] { sum(a, Over(pool_vector<int>{0, -2})); }, {"sum:", "twice"});
  require_error([&] { amax(Tensor::zeros({0, 3})); }, {"amax:", "[0, 3]"});
  require_error([&] { amin(a, 2); }, {"amin:", "2"});
  require_error([&] { max(Tensor::zeros({0, 3}), 0); }, {"argmax:", "[0, 3]"});
  require_error([&] { cumsum(a, 2); }, {"cumsum:", "2"});
  require_error([&] { softmax(a, 2); }, {"softmax:", "2"});
  require_error([&] { log_softmax(a, -3); }, {"log_softmax:", "-3"});
  require_error([&] { layer_norm(a, {2}); }, {"layer_norm:", "[2, 3]", "[2]"});
  require_error([&] { layer_norm(a, {1, 2, 3}); }, {"layer_norm:", "[2, 3]", "[1, 2, 3]"});
  require_error([&] { layer_norm(a, {3}, v); }, {"layer_norm:", "[5]", "[3]"});
  require_error([&] { layer_norm(a, {3}, {}, v); }, {"layer_norm:", "[5]", "[3]"});
  require_error([&] { layer_norm(a, {3}, {}, {}, -1); }, {"layer_norm:", "-1"});
  require_error([&] { dropout(a, 1.5f); }, {"dropout:", "1.5"});
  require_error([&] { dropout(a, std::nanf("")); }, {"dropout:", "nan"});
  require_error([&] { mse_loss(a, b); }, {"mse_loss:", "[2, 3]", "[4, 3]"});
  require_error([&] { l1_loss(a, b); }, {"l1_loss:", "[2, 3]", "[4, 3]"});
  require_error([&] { smooth_l1_loss(a, a, Reduction::mean, 0); }, {"smooth_l1_loss:", "0"});
  require_error([&] { binary_cross_entropy_with_logits(a, b); },
                {"binary_cross_entropy_with_logits:", "[2, 3]", "[4, 3]"});
  require_error([&] { kl_div(a, b); }, {"kl_div:", "[2, 3]", "[4, 3]"});
  require_error([&] { cross_entropy(v, labels); }, {"cross_entropy:", "[5]"});
  require_error([&] { cross_entropy(a, few); }, {"cross_entropy:", "1 targets", "[2, 3]"});
  require_error([&] { cross_entropy(a, labels); }, {"cross_entropy:", "3 of 3 classes", "sample 1"});
  require_error([&] { cross_entropy(a, negative); }, {"cross_entropy:", "-1 of 3 classes"});
  require_error(
      [&] {
        cross_entropy(a, std::vector<std::int32_t>{0, 1}, {.weight = v});
      },
      {"cross_entropy:", "[5]", "3"});
  require_error(
      [&] {
        cross_entropy(a, std::vector<std::int32_t>{0, 1}, {.label_smoothing = 2});
      },
      {"cross_entropy:", "2"});
  require_error([&] { cross_entropy(a, Indices::zeros({2, 1})); }, {"cross_entropy:", "[2, 1]"});
}
