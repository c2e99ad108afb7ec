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

struct UserThree {
  Linear a, b, c;
  std::function<Var(const UserThree&, const Var&)> formula;
  Var operator()(const Var& x) const { return formula(*this, x); }
  static auto fields(auto& m) { return std::tuple{Field{"a", m.a}, Field{"b", m.b}, Field{"c", m.c}}; }
};

struct UserHeads {
  Conv2d conv;
  Var operator()(const Var& x) const {
    const Var f = conv(x);
    return cat({relu(flatten(f, 1)), flatten(max_pool2d(f, {.kernel = {2, 2}}), 1)}, 1);
  }
  static auto fields(auto& m) { return std::tuple{Field{"conv", m.conv}}; }
};

struct UserPadded {
  Linear a;
  Var operator()(const Var& x) const {
    const Var h = reshape(tanh(a(x)), {x.shape()[0], 1, 2, 2});
    return flatten(max_pool2d(pad(h, std::array<std::int64_t, 4>{0, 0, 1, 1}, std::array<std::int64_t, 4>{0, 0, 1, 1}),
                              {.kernel = {2, 2}}),
                   1);
  }
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
  net("a mean", [](L a, X x) { return mean(relu(a(x)), Over(1, true)); });
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

TEST_CASE("Several layers of one source, and heads of different kinds") {
  Rng rng(5);
  const auto net = [&](const char* name, bool bias, std::function<Var(const UserThree&, const Var&)> formula) {
    require_user_net(name,
                     UserThree{Linear(4, 4, {.bias = bias}, rng), Linear(4, 4, {.bias = bias}, rng),
                               Linear(4, 4, {.bias = bias}, rng), std::move(formula)},
                     {1, 4});
  };
  using N = const UserThree&;
  using X = const Var&;
  net("three branches of one source", true, [](N n, X x) { return relu(n.a(x)) + relu(n.b(x)) + relu(n.c(x)); });
  net("four branches, two of them open", true, [](N n, X x) { return relu(n.a(x)) + tanh(n.b(x)) + n.c(x) + x; });
  net("linear layers alone", true, [](N n, X x) { return n.a(n.b(n.c(x))); });
  net("a shift behind a sum without bias", false, [](N n, X x) { return relu((n.a(x) + n.b(x)) + 0.5f); });
  net("a shift behind a residual without bias", false, [](N n, X x) { return x + n.a(x) + 1.0f; });
  net("a softmax beside a linear head", true, [](N n, X x) { return cat({softmax(n.a(x)), n.b(x)}, 1); });
  net("softmaxes of two widths", true, [](N n, X x) {
    return cat({softmax(n.a(x)), log_softmax(narrow(n.b(x), 1, 0, 3))}, 1);
  });
  net("norms with two epsilons", true, [](N n, X x) {
    return n.c(
        cat({narrow(layer_norm(n.a(x), {4}), 1, 0, 2), narrow(layer_norm(n.b(x), {4}, {}, {}, 0.5f), 1, 0, 2)}, 1));
  });
  net("a norm in both branches of a residual", true,
      [](N n, X x) { return relu(layer_norm(n.a(x), {4}) + layer_norm(n.b(x), {4})); });
  net("a greatest beside a sum", true, [](N n, X x) {
    return n.c(cat({maximum(narrow(x, 1, 0, 2), narrow(x, 1, 2, 2)), narrow(n.a(x), 1, 0, 2)}, 1));
  });
  net("a reshape that others read around", true, [](N n, X x) {
    const Var h = n.a(x), flat = reshape(h, {h.shape()[0], 2, 2});
    return n.c(cat({flatten(relu(flat), 1), tanh(h)}, 1).shape()[1] == 8 ? flatten(relu(flat), 1) + tanh(h) : x);
  });
  net("weights that are a product", true, [](N n, X x) {
    return linear(x, mul(n.a.weight, Tensor::full({4, 1}, 0.5f)), n.a.bias ? n.a.bias->var() : Var());
  });
}

TEST_CASE("Convolutions that are flattened and pooled, and masks of the dense kind") {
  Rng rng(6);
  require_user_net("flattened and pooled", UserHeads{Conv2d(1, 2, 3, {}, true, rng)}, {1, 1, 6, 6});
  // Runs dense on every instruction set, and yet its mask tells which edges exist.
  MaskedConv2d masked(2, 3, 2, {}, rng);
  masked.set_mask(Mask::random(3, 8, 0.9, rng));
  const LayeredGraph g = Conv2dLayerFunctor(4, 4).transform(masked);
  REQUIRE(g.edge_count() == 9 * masked.mask().nnz());

  test::require_error(
      [&] {
        to_graph(UserPadded{Linear(4, 4, rng)}, {1, 4});
      },
      {"to_graph: max_pool2d has no form as neurons: a greatest of values and constants"});
}

TEST_CASE("A network from a graph is unpacked, and one that lost the edges of a greatest says so") {
  Rng rng(7);
  const Sequential net{Conv2d(1, 1, 2, {}, true, rng), MaxPool2d(2), Flatten(), Linear(4, 2, rng)};
  GraphNetwork network = from_graph(to_graph(net, {1, 1, 5, 5}));
  const Tensor x = Tensor::normal({3, 1, 5, 5}, 0, 1, rng);
  test::require_close(unpack(network)(x).value(), network(x).value(), 1e-5, 1e-6);
  network.layers[1].edges.set_mask(Mask::zeros(4, 16));
  test::require_error([&] { network(x); }, {"GraphNetwork: a greatest of no edges is left"});
  // A structure alone becomes a network too: its pooling stays what it is.
  const GraphNetwork fresh = from_graph(GraphTransform({1, 1, 5, 5}).transform(net), {}, rng);
  REQUIRE(fresh(x).shape() == Shape{3, 2});
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
