// The engine: the tape, backward, grad, no_grad, trace, and calls from several threads.
#include <deepstruct/autograd/trace.hpp>
#include <deepstruct/ops/loss.hpp>

#include <thread>

#include "support/cases.hpp"

using namespace deepstruct;

#if defined(__SANITIZE_ADDRESS__)
constexpr int chain = 200000;  // 40 bytes of stack a level would do, and every node costs ten times as long
#else
constexpr int chain = 1000000;
#endif

TEST_CASE("a chain of a million nodes is differentiated and freed without recursion") {
  const Var x = variable(Tensor::scalar(3));
  {
    Var y = x;
    for (int k = 0; k < chain; ++k) y = y + 1.0f;
    REQUIRE(y.item() == 3 + chain);
    backward(y);
    REQUIRE(x.grad().item() == 1);
    x.clear_grad();
  }
  Var y = x;
  for (int k = 0; k < chain / 2; ++k) y = add(y, y) * 0.5f;
  REQUIRE(y.item() == 3);
  backward(y, {.keep_tape = true});  // the tape is freed by the last handle
  REQUIRE(x.grad().item() == 1);
}

TEST_CASE("order rises along every edge, across ops of every type") {
  const Var x = variable(Tensor::from({2, 2}, {1, 2, 3, 4}));
  const Var a = tanh(x), b = matmul(a, x), c = mul(b, exp(a)), d = sum(c);
  for (const Var& v : {a, b, c, d})
    for (const Var& in : v.node()->inputs) REQUIRE(in.node()->order < v.node()->order);
  // exp(a) was made after b and feeds c beside it: a counter per type would visit it too early and lose its share.
  const Vars g = grad(d, {a});
  Tensor want = Tensor::empty({2, 2});
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      double sum = double{b.value()(i, j)} * std::exp(double{a.value()(i, j)});
      for (int k = 0; k < 2; ++k) sum += double{x.value()(j, k)} * std::exp(double{a.value()(i, k)});
      want(i, j) = static_cast<float>(sum);
    }
  test::require_close(g[0].value(), want, 1e-5);
}

TEST_CASE("gradients accumulate in leaves until they are cleared") {
  const Var x = variable(Tensor::from({2}, {1, 2})), y = variable(Tensor::from({2}, {3, 4}));
  REQUIRE_FALSE(x.has_grad());
  test::require_error([&] { x.grad(); }, {"grad:", "[2]"});
  backward(sum(mul(x, y)));
  backward(sum(mul(x, y)));
  REQUIRE(x.grad() == Tensor::from({2}, {6, 8}));
  REQUIRE(y.grad() == Tensor::from({2}, {2, 4}));
  x.clear_grad();
  REQUIRE_FALSE(x.has_grad());
  backward(sum(x));
  REQUIRE(x.grad() == Tensor::ones({2}));
  REQUIRE(y.grad() == Tensor::from({2}, {2, 4}));
}

TEST_CASE("backward releases the tape, says so the second time, and keeps it when asked") {
  const Var x = variable(Tensor::from({2}, {1, 2}));
  const Var h = square(x), loss = sum(h);
  const std::weak_ptr<Node> squares = h.node();
  backward(loss, {.keep_tape = true});
  backward(loss);
  REQUIRE(x.grad() == Tensor::from({2}, {4, 8}));
  REQUIRE(loss.node()->inputs.empty());
  REQUIRE(h.node()->inputs.empty());
  test::require_error([&] { backward(loss); }, {"backward:", "released", "keep_tape"});
  test::require_error([&] { backward(sum(h)); }, {"backward:", "released", "pow"});
  REQUIRE(loss.item() == 5);  // the value stays
}

TEST_CASE("released nodes are freed at once") {
  const Var x = variable(Tensor::ones({3}));
  std::weak_ptr<Node> inner;
  Var loss;
  {
    const Var h = exp(x);
    inner = h.node();
    loss = sum(h);
  }
  REQUIRE_FALSE(inner.expired());
  backward(loss);
  REQUIRE(inner.expired());
}

TEST_CASE("backward refuses what has no derivative") {
  const Var x = variable(Tensor::ones({2}));
  test::require_error([&] { backward(x); }, {"backward:", "one element", "[2]"});
  test::require_error([] { backward(Var()); }, {"backward:"});
  test::require_error([] { backward(Tensor::scalar(1)); }, {"backward:", "depends on nothing"});
  test::require_error([&] { backward(sum(detach(x))); }, {"backward:", "depends on nothing"});
  test::require_error([&] { grad(x, {x}); }, {"grad:", "[2]"});
  test::require_error([&] { grad(x, {x}, {.seed = Tensor::ones({3})}); }, {"grad:", "[3]", "[2]"});
  test::require_error([&] { grad(sum(x), {Var()}); }, {"grad:", "empty"});
  test::require_error([] { Var().value(); }, {"Var:"});
  REQUIRE_FALSE(x.has_grad());
}

TEST_CASE("grad touches no .grad(), keeps the tape, and gives zeros where nothing depends") {
  const Var x = variable(Tensor::from({2}, {1, 2})), unused = variable(Tensor::ones({3}));
  const Var h = square(x), y = sum(mul(h, h));
  for (int round = 0; round < 2; ++round) {
    const Vars g = grad(y, {x, h, unused, y});
    REQUIRE(g[0].value() == Tensor::from({2}, {4, 32}));
    REQUIRE(g[1].value() == Tensor::from({2}, {2, 8}));
    REQUIRE(g[2].value() == Tensor::zeros({3}));
    REQUIRE(g[3].value() == Tensor::ones({}));
    REQUIRE_FALSE(g[0].wants_grad());
  }
  REQUIRE_FALSE(x.has_grad());
  REQUIRE_FALSE(unused.has_grad());
  const Vars seeded = grad(h, {x}, {.seed = Tensor::from({2}, {10, 100})});
  REQUIRE(seeded[0].value() == Tensor::from({2}, {20, 400}));
  backward(y);  // the tape was kept
  REQUIRE(x.grad() == Tensor::from({2}, {4, 32}));
}

TEST_CASE("create_graph gives derivatives of any order") {
  const Var x = variable(Tensor::from({3}, {1, -2, 3}));
  Var g = sum(pow(x, 4));
  const float want[4][3] = {{4, -32, 108}, {12, 48, 108}, {24, -48, 72}, {24, 24, 24}};
  for (const auto& order : want) {
    g = grad(g.shape() == Shape{} ? g : sum(g), {x}, {.create_graph = true})[0];
    REQUIRE(g.value() == Tensor::from({3}, {order[0], order[1], order[2]}));
  }
  REQUIRE(grad_enabled());
  REQUIRE_FALSE(x.has_grad());
}

TEST_CASE("a Hessian-vector product by double backward") {
  // f = Σ x₀²x₁ : H v = (2x₁v₀ + 2x₀v₁, 2x₀v₀)
  const Var x = variable(Tensor::from({2}, {3, 5}));
  const Var a = select(x, 0, 0), b = select(x, 0, 1);
  const Var g = grad(mul(mul(a, a), b), {x}, {.create_graph = true})[0];
  backward(sum(mul(g, Tensor::from({2}, {1, 10}))));
  REQUIRE(x.grad() == Tensor::from({2}, {2 * 5 + 2 * 3 * 10, 2 * 3}));
}

TEST_CASE("no_grad records nothing and ends with its scope, also by an exception") {
  const Var x = variable(Tensor::ones({2}));
  {
    no_grad guard;
    REQUIRE_FALSE(grad_enabled());
    const Var y = exp(x);
    REQUIRE_FALSE(y.wants_grad());
    REQUIRE(y.node()->inputs.empty());
    { no_grad again; }
    REQUIRE_FALSE(grad_enabled());
    REQUIRE(grad(sum(x), {x}, {.create_graph = true})[0].value() == Tensor::zeros({2}));  // sum was not recorded
  }
  try {
    no_grad guard;
    fail("out");
  } catch (const Error&) {
  }
  REQUIRE(grad_enabled());
  REQUIRE(exp(x).wants_grad());
}

TEST_CASE("only wanted gradients are computed; constants cost nothing") {
  const Var x = variable(Tensor::ones({2})), c = Tensor::full({2}, 3);
  REQUIRE_FALSE(mul(c, c).wants_grad());
  REQUIRE(mul(c, c).node()->inputs.empty());
  backward(sum(mul(x, c)));
  REQUIRE(x.grad() == Tensor::full({2}, 3));
  REQUIRE_FALSE(c.has_grad());
}

TEST_CASE("a rule that gives a gradient of another shape is found out") {
  const Var x = variable(Tensor::ones({2}));
  const Var y = record("broken", Tensor::scalar(1), {x}, {},
                       [](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = dy; });
  test::require_error([&] { backward(y); }, {"backward:", "broken", "[2]"});
  REQUIRE_FALSE(x.has_grad());
}

TEST_CASE("backward in a loop asks the system for nothing") {
  Rng rng(1);
  const Var w = variable(Tensor::normal({10, 20}, 0, 1, rng)), x = Tensor::normal({33, 20}, 0, 1, rng);
  const std::vector<std::int32_t> target(33, 4);
  const auto step = [&] {
    w.clear_grad();
    backward(cross_entropy(relu(linear(x, w)), target));
  };
  step();
  step();
  const std::size_t before = BufferPool::instance().system_calls();
  const char* setting = std::getenv("DEEPSTRUCT_POOL");
  for (int k = 0; k < 5; ++k) step();
  if (setting && std::string(setting) == "off") return;
  REQUIRE(BufferPool::instance().system_calls() == before);
}

namespace {

/// Like a model: parameters, and a const call.
struct Net {
  Var w1, b1, w2;
  Mask mask;
  Var operator()(const Var& x) const { return linear(layer_norm(tanh(linear(x, w1, b1)), {8}), place_edges(w2, mask)); }
};
Net make_net(std::uint64_t seed) {
  Rng rng(seed);
  const Mask mask = Mask::random(3, 8, 0.5, rng);
  return {variable(Tensor::normal({8, 5}, 0, 1, rng)), variable(Tensor::normal({8}, 0, 1, rng)),
          variable(Tensor::normal({mask.nnz()}, 0, 1, rng)), mask};
}

}  // namespace

TEST_CASE("several threads may call one const model", "[threads]") {
  const Net net = make_net(1);
  Rng rng(2);
  const Tensor x = Tensor::normal({40, 5}, 0, 1, rng);
  const Tensor want = net(x).value();
  const Vars gradients = grad(sum(net(x)), {net.w1, net.w2});
  test::Threads guard(2);
  std::array<bool, 4> same{};
  {
    std::vector<std::jthread> callers;
    for (std::size_t k = 0; k < same.size(); ++k)
      callers.emplace_back([&, k] {
        same[k] = true;
        for (int round = 0; round < 20; ++round) {
          const Var y = net(x);
          same[k] &= y.value() == want && y.wants_grad();
          const Vars g = grad(sum(y), {net.w1, net.w2});
          same[k] &= g[0].value() == gradients[0].value() && g[1].value() == gradients[1].value();
          no_grad inference;
          same[k] &= !net(x).wants_grad();
        }
      });
  }
  REQUIRE(same == std::array<bool, 4>{true, true, true, true});
}

TEST_CASE("different models train in different threads", "[threads]") {
  const auto train = [](std::uint64_t seed) {
    const Net net = make_net(seed);
    Rng rng(seed + 10);
    const Tensor x = Tensor::normal({20, 5}, 0, 1, rng), t = Tensor::normal({20, 3}, 0, 1, rng);
    for (int step = 0; step < 15; ++step) {
      backward(mse_loss(net(x), t));
      for (const Var& p : {net.w1, net.b1, net.w2}) {
        for (std::int64_t i = 0; i < p.shape().storage(); ++i)
          p.mutable_value().data()[i] -= 0.05f * p.grad().data()[i];
        p.clear_grad();
      }
    }
    return net(x).value();
  };
  std::array<Tensor, 3> alone, together;
  for (std::size_t k = 0; k < 3; ++k) alone[k] = train(k);
  {
    test::Threads guard(2);
    std::vector<std::jthread> trainers;
    for (std::size_t k = 0; k < 3; ++k) trainers.emplace_back([&, k] { together[k] = train(k); });
  }
  for (std::size_t k = 0; k < 3; ++k) REQUIRE(test::same_bits(alone[k], together[k]));
}

namespace {

std::vector<std::string> ops(const std::vector<Step>& steps) {
  std::vector<std::string> names;
  for (const Step& s : steps) names.emplace_back(s.op);
  return names;
}

}  // namespace

TEST_CASE("a trace lists every op in order, with the positions of its inputs") {
  const Var w = variable(Tensor::ones({3, 2})), b = Tensor::zeros({3});
  const Var x = Tensor::from({1, 2}, {1, 2});
  const auto steps = trace_function([&](const Var& in) { return relu(linear(in, w, b)); }, x);
  REQUIRE(ops(steps) == std::vector<std::string>{"leaf", "leaf", "matmul", "leaf", "add", "relu"});
  REQUIRE(steps[0].name == "input");
  REQUIRE(steps[0].value == x);
  REQUIRE(steps[1].value == w);
  REQUIRE(steps[2].inputs == std::vector<int>{0, 1});
  REQUIRE(steps[3].value == b);
  REQUIRE(steps[4].inputs == std::vector<int>{2, 3});
  REQUIRE(steps[5].inputs == std::vector<int>{4});
  REQUIRE(steps[5].value.value() == Tensor::full({1, 3}, 3));
  REQUIRE(steps[2].attributes.size() == 2);
  REQUIRE(steps[2].attributes[1].name == "transpose_b");
  REQUIRE(std::get<std::int64_t>(steps[2].attributes[1].value) == 1);
}

TEST_CASE("fused ops are traced as their parts and compute the same") {
  Rng rng(1);
  const Var x = Tensor::normal({5, 6}, 0, 1, rng), w = Tensor::normal({6}, 0, 1, rng),
            b = Tensor::normal({6}, 0, 1, rng);
  const auto norm = [&](const Var& in) { return layer_norm(in, {6}, w, b); };
  const auto steps = trace_function(norm, x);
  const auto names = ops(steps);
  REQUIRE(std::find(names.begin(), names.end(), "layer_norm") == names.end());
  REQUIRE(std::find(names.begin(), names.end(), "sum_to") != names.end());
  REQUIRE(names.back() == "add");
  test::require_close(steps.back().value.value(), norm(x).value(), 1e-5, 1e-5);
  const Mask m = Mask::random(4, 6, 0.4, rng);
  const Var values = variable(Tensor::normal({m.nnz()}, 0, 1, rng)), bias = Tensor::normal({4}, 0, 1, rng);
  const auto sparse = trace_function([&](const Var& in) { return sparse_linear(in, values, m, bias); }, x);
  REQUIRE(ops(sparse) == std::vector<std::string>{"leaf", "leaf", "sparse_linear", "leaf", "add"});
  REQUIRE(std::get<Mask>(sparse[2].attributes[0].value) == m);
}

TEST_CASE("values made before the trace are its leaves, whatever their history") {
  const Var w = variable(Tensor::ones({2}));
  const Var history = exp(w);
  const auto steps = trace_function([&](const Var& in) { return mul(in, history); }, Tensor::ones({2}));
  REQUIRE(ops(steps) == std::vector<std::string>{"leaf", "leaf", "mul"});
  REQUIRE(steps[1].inputs.empty());
}

TEST_CASE("the last step is the result; what came later is dropped, and the identity is its input") {
  const auto steps = trace_function(
      [](const Var& in) {
        const Var y = tanh(in);
        (void)exp(y);
        return y;
      },
      Tensor::ones({2}));
  REQUIRE(ops(steps) == std::vector<std::string>{"leaf", "tanh"});
  REQUIRE(ops(trace_function([](const Var& in) { return in; }, Tensor::ones({2}))) == std::vector<std::string>{"leaf"});
  const Var other = Tensor::ones({2});
  test::require_error([&] { trace_function([&](const Var&) { return other; }, Tensor::ones({2})); }, {"trace:", "[2]"});
}

TEST_CASE("tracing ends with the trace, also by an exception, and leaves gradients as they were") {
  const auto boom = [](const Var& in) {
    (void)exp(in);
    fail("boom");
    return in;
  };
  REQUIRE_THROWS_AS(trace_function(boom, Tensor::ones({2})), Error);
  REQUIRE(detail::tape_state.trace == nullptr);
  REQUIRE(exp(Tensor::ones({2})).node()->inputs.empty());
  const Var x = variable(Tensor::ones({2}));
  const auto steps = trace_function([](const Var& in) { return sum(exp(in)); }, x);
  backward(steps.back().value);
  REQUIRE(x.grad()(0) == Approx(std::exp(1.0f)));
}
