// layered_dag against a naive walk in double precision, under every instruction set, and by gradcheck.
#include <deepstruct/autograd/gradcheck.hpp>
#include <deepstruct/autograd/trace.hpp>
#include <deepstruct/ops/dag.hpp>

#include "support/cases.hpp"
#include "support/device.hpp"

using namespace deepstruct;
using test::Exact;
using test::require_close;
using test::same_bits;

namespace {

/// A random layered DAG with values near 1, and what goes into it.
struct DagCase {
  std::shared_ptr<const DagWiring> wiring;
  Mask mask;
  Tensor x, values, bias, up;

  DagCase(std::int64_t batch, std::int64_t inputs, std::int64_t behind, bool joint, double density, bool mixed,
          std::uint64_t seed) {
    Rng rng(seed);
    auto w = std::make_shared<DagWiring>();
    w->inputs = inputs;
    w->vertices = inputs + behind;
    std::vector<Mask::Edge> edges;
    std::int32_t row = 0;
    if (!joint) w->row_start.push_back(0);
    for (std::int64_t k = 0; k < behind; ++k) {
      const auto branches =
          joint ? 1 : static_cast<std::int32_t>(rng.below(20));  // more than a vector of empty ones, too
      for (std::int32_t r = 0; r < branches; ++r, ++row)
        for (std::int64_t u = 0; u < inputs + k; ++u)
          if (rng.bernoulli(static_cast<float>(joint ? density : density / 4)))
            edges.push_back({row, static_cast<std::int32_t>(u)});
      if (!joint) w->row_start.push_back(row);
      if (mixed) w->activation.push_back(static_cast<VertexActivation>(rng.below(4)));
    }
    for (std::int64_t v = 0; v < w->vertices; ++v)
      if (v + 3 >= w->vertices || rng.bernoulli(0.1f)) w->output.push_back(static_cast<std::int32_t>(v));
    mask = Mask::from_edges(row, w->vertices, edges);
    x = Tensor::uniform({batch, inputs}, -1, 1, rng);
    values = Tensor::uniform({mask.nnz()}, -1, 1, rng);
    bias = Tensor::uniform({mask.rows()}, -0.3f, 0.7f, rng);
    up = Tensor::uniform({batch, static_cast<std::int64_t>(w->output.size())}, -1, 1, rng);
    wiring = w;
  }
  Var run(const Var& in, const Var& weights, const Var& biases) const {
    return layered_dag(in, weights, biases, mask, wiring);
  }
};

double activated(double z, VertexActivation f) {
  return f == VertexActivation::none   ? z
         : f == VertexActivation::relu ? std::max(z, 0.0)
         : f == VertexActivation::tanh ? std::tanh(z)
                                       : 1 / (1 + std::exp(-z));
}
double slope(double z, VertexActivation f) {
  const double y = activated(z, f);
  return f == VertexActivation::none   ? 1
         : f == VertexActivation::relu ? (z > 0 ? 1 : 0)
         : f == VertexActivation::tanh ? 1 - y * y
                                       : y * (1 - y);
}

/// y, dx, dw and db, sample by sample and edge by edge.
struct Naive {
  std::vector<double> y, dx, dw, db;
  double nearest_kink = 1;

  explicit Naive(const DagCase& c)
      : y(static_cast<std::size_t>(c.up.size())),
        dx(static_cast<std::size_t>(c.x.size())),
        dw(static_cast<std::size_t>(c.values.size())),
        db(static_cast<std::size_t>(c.bias.size())) {
    const DagWiring& w = *c.wiring;
    const auto start = c.mask.row_start(), col = c.mask.col();
    const std::int64_t batch = c.x.shape()[0];
    std::vector<double> h(static_cast<std::size_t>(w.vertices)), g(h.size()),
        z(static_cast<std::size_t>(c.mask.rows()));
    for (std::int64_t b = 0; b < batch; ++b) {
      const auto f = [&](std::int64_t k) { return w.activation.empty() ? VertexActivation::relu : w.activation[k]; };
      for (std::int64_t u = 0; u < w.inputs; ++u) h[u] = double{c.x(b, u)};
      for (std::int64_t k = 0; k < w.vertices - w.inputs; ++k) {
        h[w.inputs + k] = 0;
        for (std::int64_t r = w.row_of(k); r < w.row_of(k + 1); ++r) {
          z[r] = double{c.bias(r)};
          for (std::int32_t e = start[r]; e < start[r + 1]; ++e) z[r] += double{c.values(e)} * h[col[e]];
          if (f(k) == VertexActivation::relu) nearest_kink = std::min(nearest_kink, std::abs(z[r]));
          h[w.inputs + k] += activated(z[r], f(k));
        }
      }
      std::fill(g.begin(), g.end(), 0.0);
      for (std::size_t o = 0; o < w.output.size(); ++o) {
        y[static_cast<std::size_t>(b) * w.output.size() + o] = h[w.output[o]];
        g[w.output[o]] += double{c.up(b, static_cast<std::int64_t>(o))};
      }
      for (std::int64_t k = w.vertices - w.inputs; k-- > 0;)
        for (std::int64_t r = w.row_of(k); r < w.row_of(k + 1); ++r) {
          const double dz = g[w.inputs + k] * slope(z[r], f(k));
          db[r] += dz;
          for (std::int32_t e = start[r]; e < start[r + 1]; ++e) {
            dw[e] += dz * h[col[e]];
            g[col[e]] += dz * double{c.values(e)};
          }
        }
      for (std::int64_t u = 0; u < w.inputs; ++u) dx[static_cast<std::size_t>(b * w.inputs + u)] = g[u];
    }
  }
};

void require_near(const Tensor& got, const std::vector<double>& wanted, const char* what) {
  const std::vector<float> values = got.to_vector();
  REQUIRE(values.size() == wanted.size());
  double scale = 1;
  for (const double w : wanted) scale = std::max(scale, std::abs(w));
  for (std::size_t k = 0; k < values.size(); ++k) {
    INFO(what << ", element " << k);
    REQUIRE(std::abs(double{values[k]} - wanted[k]) <= 2e-5 * scale);
  }
}

struct Gradients {
  Tensor y, dx, dw, db;
};
Gradients gradients(const DagCase& c, bool recorded) {
  const Var x = variable(c.x), w = variable(c.values), b = variable(c.bias);
  const Var y = c.run(x, w, b);
  const Vars g = grad(y, {x, w, b}, {.create_graph = recorded, .seed = c.up});
  return {y.value(), g[0].value(), g[1].value(), g[2].value()};
}

void require_near(const Gradients& got, const Naive& wanted) {
  require_near(got.y, wanted.y, "y");
  require_near(got.dx, wanted.dx, "dx");
  require_near(got.dw, wanted.dw, "dw");
  require_near(got.db, wanted.db, "db");
}

const std::vector<std::int64_t> dag_batches{1, 3, 15, 16, 17, 33, 63, 64, 65, 100, 130, 600};

}  // namespace

TEST_CASE("A layered DAG gives what a walk in double precision gives, on every instruction set") {
  test::on_every_isa([] {
    for (const bool joint : {false, true})
      for (const bool mixed : {false, true})
        for (std::size_t k = 0; k < dag_batches.size(); ++k) {
          if (mixed && !joint) continue;
          const DagCase c(dag_batches[k], 1 + static_cast<std::int64_t>(k) % 5, 12, joint, 0.5, mixed, 11 + k);
          INFO("batch " << dag_batches[k] << (joint ? ", joint" : "") << (mixed ? ", mixed activations" : ""));
          const Naive wanted(c);
          REQUIRE(wanted.nearest_kink > 1e-7);
          for (const bool recorded : {false, true}) {
            const Gradients got = gradients(c, recorded);
            require_near(got, wanted);
          }
          no_grad guard;
          REQUIRE(same_bits(c.run(c.x, c.values, c.bias).value(), gradients(c, false).y));
        }
  });
}

TEST_CASE("A layered DAG without inputs, vertices behind them, edges or samples") {
  for (const bool joint : {false, true})
    for (const auto& [batch, inputs, behind, density] :
         {std::tuple{3, 0, 4, 0.5}, std::tuple{3, 4, 0, 0.5}, std::tuple{3, 2, 6, 0.0}, std::tuple{0, 2, 5, 0.5},
          std::tuple{2, 1, 5, 1.0}}) {
      const DagCase c(batch, inputs, behind, joint, density, false, 5);
      const Naive wanted(c);
      const Gradients got = gradients(c, false);
      require_near(got, wanted);
    }
}

TEST_CASE("A layered DAG whose tile does not fit the second cache") {
  for (const bool joint : {false, true}) {
    const DagCase c(67, 40, 4200, joint, 0.0006, false, 8);
    const Naive wanted(c);
    const Gradients got = gradients(c, false);
    require_near(got, wanted);
  }
}

TEST_CASE("One mask serves two wirings") {
  const DagCase c(3, 2, 4, true, 1, false, 1);
  auto other = std::make_shared<DagWiring>(*c.wiring);
  other->output = {2};
  const Tensor all = c.run(c.x, c.values, c.bias).value(),
               one = layered_dag(c.x, c.values, c.bias, c.mask, other).value();
  REQUIRE(one.shape() == Shape{3, 1});
  REQUIRE(c.run(c.x, c.values, c.bias).value() == all);
}

TEST_CASE("Derivatives of a layered DAG are those of differences, twice") {
  for (const bool joint : {false, true}) {
    const DagCase c(5, 3, 9, joint, 0.6, joint, 3);
    Tensor bias = c.bias;  // far from kinks, so that differences see none
    bias.for_each([](std::int64_t i, float& b) { b = i % 3 == 0 ? -4.0f : 4.0f; });
    const GradcheckFunction f = [&](std::span<const Var> in) { return c.run(in[0], in[1] * 0.125f, in[2]); };
    const std::vector<Tensor> at{c.x, c.values, bias};
    std::ostringstream text;
    const GradcheckReport first = gradcheck(f, at, test::on_device()),
                          second = gradcheck_second(f, at, test::on_device());
    first.write(text);
    second.write(text);
    INFO(text.str());
    REQUIRE(first);
    REQUIRE(second);
  }
}

TEST_CASE("A layered DAG has the same bits for any number of threads") {
  for (const bool joint : {false, true}) {
    const DagCase c(700, 5, 40, joint, 0.2, false, 21);
    std::vector<Gradients> all;
    for (const int threads : {1, 2, 3}) {
      const test::Threads set(threads);
      all.push_back(gradients(c, false));
      no_grad guard;
      REQUIRE(same_bits(c.run(c.x, c.values, c.bias).value(), all[0].y));
    }
    for (const Gradients& g : all) {
      REQUIRE(same_bits(g.y, all[0].y));
      REQUIRE(same_bits(g.dx, all[0].dx));
      REQUIRE(same_bits(g.dw, all[0].dw));
      REQUIRE(same_bits(g.db, all[0].db));
    }
  }
}

TEST_CASE("A layered DAG whose wiring does not fit is refused") {
  const DagCase c(2, 2, 3, true, 1, false, 1);
  test::require_error(
      [&] {
        c.run(Tensor::zeros({2, 3}), c.values, c.bias);
      },
      {"layered_dag: x needs a value for every input"});
  test::require_error([&] { c.run(c.x, Tensor::zeros({1}), c.bias); },
                      {"layered_dag: mask, values and bias must fit the wiring"});
  for (const std::vector<std::int32_t>& output : {std::vector<std::int32_t>{2, 1}, {1, 1}, {5}, {-1}}) {
    auto other = std::make_shared<DagWiring>(*c.wiring);
    other->output = output;
    test::require_error([&] { layered_dag(c.x, c.values, c.bias, c.mask, other); },
                        {"layered_dag: outputs must be ascending vertices"});
  }
  auto other = std::make_shared<DagWiring>(*c.wiring);
  other->activation.resize(1);
  test::require_error([&] { layered_dag(c.x, c.values, c.bias, c.mask, other); },
                      {"layered_dag: needs an activation for every"});
  other = std::make_shared<DagWiring>(*c.wiring);
  other->row_start = {0, 2, 1, 3};
  test::require_error([&] { layered_dag(c.x, c.values, c.bias, c.mask, other); },
                      {"layered_dag: the wiring has not one run"});
  test::require_error([&] { layered_dag(c.x, c.values, c.bias, c.mask, nullptr); }, {"layered_dag: needs a wiring"});
  const Mask loop = Mask::from_edges(3, 5, {{0, 2}});
  test::require_error([&] { layered_dag(c.x, Tensor::zeros({1}), c.bias, loop, c.wiring); },
                      {"layered_dag: edges must lead to later vertices"});
}

TEST_CASE("A trace shows a layered DAG as one op with its wiring") {
  const DagCase c(2, 2, 3, false, 1, false, 1);
  const auto steps = trace_function([&](const Var& x) { return c.run(x, c.values, c.bias); }, Var(c.x));
  REQUIRE(steps.back().op == "layered_dag");
  REQUIRE(steps.back().inputs.size() == 3);
  const auto& attributes = steps.back().attributes;
  REQUIRE(std::get<Mask>(attributes[0].value) == c.mask);
  REQUIRE(std::get<std::shared_ptr<const void>>(attributes[1].value) == c.wiring);
  require_near(steps.back().value.value(), Naive(c).y, "y");
}
