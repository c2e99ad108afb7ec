// Networks as users write them: layers shared, values read twice, heads, residual sums, pooling to one pixel.
#include <deepstruct/nn/batch_norm.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/nn/pool.hpp>
#include <deepstruct/transform/compact_graph.hpp>

#include <functional>

#include "support/cases.hpp"
#include "support/neurons.hpp"

using namespace deepstruct;

namespace {

struct UserNet {
  Linear a;
  std::function<Var(const Linear&, const Var&)> formula;
  Var operator()(const Var& x) const { return formula(a, x); }
  static auto fields(auto& m) { return std::tuple{Field{"a", m.a}}; }
};

/// The graph means what the model computes; so do the network made of it and the compacted one.
template <class M>
void require_user_net(const char* name, M model, const Shape& example) {
  INFO(name);
  set_training(model, false);
  Rng rng(3);
  no_grad guard;
  const Tensor x = Tensor::normal(with_extent(example, 0, 3), 0, 1, rng), rows = flatten(Var(x), 1).value();
  const LayeredGraph g = to_graph(model, example);
  const Tensor y = flatten(model(x), 1).value();
  for (std::int64_t b = 0; b < 3; ++b) {
    std::vector<float> sample;
    for (std::int64_t k = 0; k < rows.shape()[1]; ++k) sample.push_back(rows(b, k));
    const auto outputs = test::evaluate(g, sample);
    REQUIRE(static_cast<std::int64_t>(outputs.size()) == y.shape()[1]);
    for (std::size_t k = 0; k < outputs.size(); ++k)
      REQUIRE(outputs[k].value == Approx(y(b, static_cast<std::int64_t>(k))).margin(1e-5));
  }
  test::require_close(from_graph(g)(x).value(), y, 1e-4, 1e-5);
  test::require_close(from_graph(compact(g).graph)(x).value(), y, 1e-4, 1e-5);
}

}  // namespace

TEST_CASE("Networks as users write them have graphs that mean the same") {
  Rng rng(1);
  const auto net = [&](const char* name, std::function<Var(const Linear&, const Var&)> formula) {
    require_user_net(name, UserNet{Linear(4, 4, rng), std::move(formula)}, {1, 4});
  };
  using L = const Linear&;
  using X = const Var&;
  net("a layer shared by two places", [](L a, X x) { return a(relu(a(x))); });
  net("a value added to itself", [](L a, X x) { return relu(a(x)) + relu(a(x)); });
  net("a sum without activation added to itself", [](L a, X x) {
    const Var h = a(x);
    return h + h;
  });
  net("two activated values", [](L a, X x) { return relu(a(x)) + relu(x); });
  net("two activated values, activated", [](L a, X x) { return relu(relu(a(x)) + tanh(x)); });
  net("an input among the outputs", [](L a, X x) { return cat({a(x), x}, 1); });
  net("no layer at all", [](L, X x) { return x; });
  net("no layer but an activation", [](L, X x) { return relu(x); });
  net("two heads", [](L a, X x) {
    const Var h = a(x);
    return cat({relu(h), tanh(h)}, 1);
  });
  net("outputs in another order", [](L a, X x) {
    const Var h = a(x);
    return cat({narrow(h, 1, 2, 2), narrow(h, 1, 0, 2)}, 1);
  });
  net("a mean", [](L a, X x) { return mean(relu(a(x)), Over{{1}, true}); });
  net("log_softmax", [](L a, X x) { return log_softmax(a(x)); });
  net("softmax and a residual", [](L a, X x) { return softmax(a(x)) + x; });
  net("scaled and shifted behind a softmax", [](L a, X x) { return relu(softmax(a(x)) * 2.0f - 0.3f); });
  net("padding", [](L a, X x) {
    return a(pad(narrow(x, 1, 0, 2), std::array<std::int64_t, 2>{0, 1}, std::array<std::int64_t, 2>{0, 1}));
  });
  net("reversed inputs", [](L a, X x) { return a(flip(x, {1})); });
  net("the greater of two", [](L a, X x) { return maximum(a(x), x); });
  net("a difference", [](L a, X x) { return a(x) - x; });
  net("one minus a gate", [](L a, X x) { return 1.0f - sigmoid(a(x)); });
  net("a value that two read", [](L a, X x) {
    const Var h = a(x);
    return a(h) + h;
  });
}

TEST_CASE("Modules in unusual places have graphs that mean the same") {
  Rng rng(2);
  require_user_net("dropout first", Sequential{Dropout(0.5f), Linear(4, 3, rng)}, {1, 4});
  require_user_net("batch norm behind ReLU", Sequential{Linear(4, 3, rng), ReLU(), BatchNorm1d(3)}, {1, 4});
  require_user_net("two norms", Sequential{Linear(4, 3, rng), LayerNorm(3), BatchNorm1d(3), ReLU(), Linear(3, 2, rng)},
                   {1, 4});
  require_user_net("pooling to one pixel",
                   Sequential{Conv2d(2, 2, 3, {.padding = {1, 1}}, true, rng), ReLU(), AdaptiveAvgPool2d({1, 1}),
                              Flatten(), Linear(2, 2, rng)},
                   {1, 2, 5, 5});
  require_user_net("a layer without neurons", Sequential{Linear(4, 0, rng), ReLU(), Linear(0, 2, rng)}, {1, 4});
  require_user_net("a mask that learns", MaskedLinearLayer(4, 3, {.learnable_mask = true}, rng), {1, 4});
}
