// Surgery on graphs of neurons, the three orders of structure, and what is refused.
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/nn/pool.hpp>
#include <deepstruct/ops/loss.hpp>
#include <deepstruct/train/optimizer.hpp>
#include <deepstruct/transform/from_graph.hpp>
#include <deepstruct/transform/orders.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

template <class M>
void surgery_step(M& model, const Tensor& x, const std::vector<std::int32_t>& target, Adam& adam) {
  backward(cross_entropy(model(x), target));
  adam.step(model);
}

Tensor surgery_input(std::int64_t b, std::int64_t in, Rng& rng) { return Tensor::normal({b, in}, 0, 1, rng); }

/// A model of a formula that no vertex computes.
struct SurgeryOp {
  Linear layer;
  std::function<Var(const Var&)> formula;
  SurgeryOp(std::function<Var(const Var&)> f, Rng& rng) : layer(3, 4, rng), formula(std::move(f)) {}
  Var operator()(const Var& x) const { return formula(layer(x)); }
  static auto fields(auto& m) { return std::tuple{Field{"layer", m.layer}}; }
};

}  // namespace

TEST_CASE("Training goes on in a network from a graph as it would have") {
  Rng rng(1);
  MaskedDeepFFN model(8, 3, {7, 6}, {.store = storage::packed}, rng);
  const Tensor x = surgery_input(20, 8, rng);
  std::vector<std::int32_t> target;
  for (int k = 0; k < 20; ++k) target.push_back(k % 3);
  Adam adam;
  for (int k = 0; k < 3; ++k) surgery_step(model, x, target, adam);
  GraphNetwork network = from_graph(to_graph(model));
  Adam same = adam;
  for (int k = 0; k < 3; ++k) {
    surgery_step(model, x, target, adam);
    surgery_step(network, x, target, same);
  }
  REQUIRE(test::same_bits(model(x).value(), network(x).value()));
  REQUIRE(test::same_bits(model.layer_out.weight.slots()[1].value, network.layers[2].edges.weight.slots()[1].value));

  // Without slots the moments begin again.
  GraphNetwork bare = from_graph(to_graph(model, {1, 8}, {.slots = false}));
  REQUIRE(bare.layers[0].edges.weight.slots().empty());
}

TEST_CASE("Edges dropped, a skip connection and a neuron more: what survives keeps its weights and moments") {
  Rng rng(2);
  MaskedDeepFFN model(4, 2, {5, 3}, {.store = storage::packed}, rng);
  const Tensor x = surgery_input(9, 4, rng);
  Adam adam;
  surgery_step(model, x, {0, 1, 0, 1, 0, 1, 0, 1, 0}, adam);
  LayeredGraph g = to_graph(model);
  const std::int64_t hidden = 4, output = 4 + 5 + 3;  // first vertices

  g.remove_edge(0, hidden);
  const GraphNetwork pruned = from_graph(g);
  MaskedDeepFFN same = model;
  same.layer_first.set_edge(0, 0, false);
  REQUIRE(test::same_bits(pruned(x).value(), same(x).value()));
  REQUIRE(test::same_bits(pruned.layers[0].edges.weight.slots()[0].value, same.layer_first.weight.slots()[0].value));

  g.add_edge(hidden + 1, output);  // over the second hidden layer
  g.edge_attributes().set("weight", g.edge_count() - 1, 0.5f);
  const std::int64_t fresh = g.add_vertex(1);  // in the first hidden layer
  g.vertex_attributes().set("activation", fresh, "tanh");
  g.vertex_attributes().set("bias", fresh, -0.25f);
  g.add_edge(2, fresh);
  g.edge_attributes().set("weight", g.edge_count() - 1, 2.0f);
  g.add_edge(fresh, output + 1);
  g.edge_attributes().set("weight", g.edge_count() - 1, -3.0f);
  const GraphNetwork edited = from_graph(g);
  const Tensor before = pruned(x).value(), after = edited(x).value();
  const Tensor h = relu(same.layer_first(x)).value();
  for (std::int64_t b = 0; b < 9; ++b) {
    REQUIRE(after(b, 0) == Approx(before(b, 0) + 0.5f * h(b, 1)).margin(1e-5));
    REQUIRE(after(b, 1) == Approx(before(b, 1) - 3 * std::tanh(2 * x(b, 2) - 0.25f)).margin(1e-5));
  }
  GraphNetwork trained = edited;
  surgery_step(trained, x, {0, 1, 0, 1, 0, 1, 0, 1, 0}, adam);
  REQUIRE(!test::same_bits(trained(x).value(), after));
}

TEST_CASE("Any layered graph is a network") {
  Graph g(6, {{0, 2}, {1, 2}, {2, 3}, {0, 3}, {3, 4}, {2, 5}}, true);
  Rng rng(3), again(3);
  const GraphNetwork network = from_graph(LayeredGraph::load_from(g), {.activation = "tanh"}, rng);
  REQUIRE(network.inputs() == 2);
  REQUIRE(network.outputs() == 2);  // 4 and 5 feed nothing
  const Tensor x = surgery_input(3, 2, rng);
  REQUIRE(test::same_bits(network(x).value(),
                          from_graph(LayeredGraph::load_from(g), {.activation = "tanh"}, again)(x).value()));
  const LayeredGraph back = to_graph(network);
  REQUIRE(back.vertex_attributes().get<std::string>("activation", 2) == "tanh");
  REQUIRE(back.vertex_attributes().get<std::string>("activation", 4) == std::nullopt);
}

TEST_CASE("Neurons, channels and layers, and values carried between these orders") {
  Rng rng(4);
  const Sequential net{Conv2d(2, 3, 2, {}, true, rng), ReLU(), MaxPool2d(2), Flatten(), Linear(12, 5, rng)};
  const LayeredGraph neurons = to_graph(net, {1, 2, 5, 5}), channels = project(neurons, Order::channels),
                     layers = project(neurons, Order::layers);
  REQUIRE(neurons.vertex_count() == 50 + 48 + 12 + 5);
  REQUIRE(channels.vertex_count() == 2 + 3 + 3 + 5);
  REQUIRE(layers.vertex_count() == 4);
  REQUIRE(layers.edge_count() == 3);
  REQUIRE(channels.edge_count() == 2 * 3 + 3 + 3 * 5);
  REQUIRE(project(channels, Order::layers).graph().edges()[2] == layers.graph().edges()[2]);
  REQUIRE(layers.vertex_attributes().get<std::string>("module", 1) == "0");
  REQUIRE(layers.vertex_attributes().get<std::string>("operation", 2) == "max_pool2d");
  REQUIRE(channels.vertex_attributes().get<std::int64_t>("size", 2) == 16);
  REQUIRE(*channels.edge_attributes().get<std::int64_t>("edges", 0) == 16 * 4);

  // A mask of channels read at neurons, and a metric of neurons read at channels.
  std::vector<float> alive(13, 1);
  alive[3] = 0;
  const std::vector<float> of_neurons = spread(neurons, Order::channels, alive);
  REQUIRE(std::count(of_neurons.begin(), of_neurons.end(), 0.0f) == 16);
  REQUIRE(of_neurons[50 + 16] == 0);
  REQUIRE(collect(neurons, Order::channels, of_neurons) == alive);
  REQUIRE(collect(neurons, Order::layers, of_neurons, Collect::sum) == std::vector<float>{50, 32, 12, 5});
  REQUIRE(collect(neurons, Order::layers, of_neurons, Collect::least)[1] == 0);
  REQUIRE(collect(neurons, Order::layers, of_neurons, Collect::greatest)[1] == 1);
  REQUIRE(project(neurons, Order::neurons) == neurons);
  test::require_error([&] { spread(neurons, Order::channels, std::vector<int>(12)); },
                      {"spread: needs a value for every group"});
  test::require_error([&] { collect(neurons, Order::channels, std::vector<float>(12)); },
                      {"collect: needs a value for every vertex"});
  test::require_error(
      [&] {
        project(LayeredGraph(Graph(2, {{0, 1}}, true)), Order::layers);
      },
      {"project: the graph does not tell"});
}

TEST_CASE("What no vertex computes is refused by name and place") {
  Rng rng(5);
  const auto refused = [&](const auto& model, std::initializer_list<const char*> parts) {
    test::require_error([&] { to_graph(model, {1, 3}); }, parts);
  };
  refused(SurgeryOp([](const Var& x) { return x * x; }, rng),
          {"to_graph: mul has no form as neurons: a product of two values", "behind layer.bias"});
  refused(SurgeryOp([](const Var& x) { return cumsum(x, 1); }, rng), {"to_graph: cumsum has no form as neurons"});
  refused(SurgeryOp([](const Var& x) { return x - mean(x, Over(0, true)); }, rng),
          {"to_graph: sum_to has no form as neurons: it sums over samples"});
  refused(SurgeryOp([](const Var& x) { return transpose(x); }, rng),
          {"to_graph: permute has no form as neurons: samples do not stay apart"});
  refused(SurgeryOp(
              [](const Var& x) {
                return x + Tensor::from({2, 1}, {1, 2});
              },
              rng),
          {"to_graph: add has no form as neurons: a constant differs from sample to sample"});
  test::require_error([&] { LinearLayerFunctor().transform(Linear(3, 2, rng)); },
                      {"LinearLayerFunctor: a plain linear layer needs a threshold"});
}

TEST_CASE("Graphs that say nonsense are refused, and the vertex is named") {
  Rng rng(6);
  const MaskedDeepFFN model(3, 2, {3}, {.use_layer_norm = false, .store = storage::packed}, rng);
  const LayeredGraph good = to_graph(model);
  const auto refused = [&](auto&& change, std::initializer_list<const char*> parts) {
    LayeredGraph g = good;
    change(g);
    test::require_error([&] { from_graph(g); }, parts);
  };
  refused([](LayeredGraph& g) { g.vertex_attributes().set("activation", 4, "relu7"); },
          {"GraphNetwork: no such activation (relu7)"});
  refused([](LayeredGraph& g) { g.vertex_attributes().set("role", 4, "boss"); },
          {"from_graph: roles are input, hidden and output (boss of vertex 4)"});
  refused([](LayeredGraph& g) { g.vertex_attributes().set("role", 4, "input"); },
          {"from_graph: an edge leads to an input (vertex 4)"});
  refused([](LayeredGraph& g) { g.vertex_attributes().set("aggregate", 4, "median"); },
          {"from_graph: vertices aggregate by sum or max (median of vertex 4)"});
  refused([](LayeredGraph& g) { g.vertex_attributes().set("aggregate", 4, "max"); },
          {"from_graph: edges of a greatest have weight 1"});
  refused([](LayeredGraph& g) { g.vertex_attributes().set("norm", 4, "group"); },
          {"from_graph: norms are layer, batch, softmax and log_softmax (group of vertex 4)"});
  refused([](LayeredGraph& g) { g.vertex_attributes().set("biases", 4, "1 x"); },
          {"from_graph: not a number (x of vertex 4)"});
  refused([](LayeredGraph& g) { g.add_edge(g.add_vertex(0), 4); }, {"from_graph: an edge has no number as weight"});
  refused([](LayeredGraph& g) { g.edge_attributes().set("branch", 0, std::int64_t{-1}); },
          {"from_graph: branches are numbered 0, 1, ... (-1 of edge"});
  refused([](LayeredGraph& g) { g.edge_attributes().set("branch", 0, std::int64_t{1} << 30); },
          {"from_graph: a vertex has a branch of too high a number"});
  refused(
      [](LayeredGraph& g) {
        for (std::int64_t v = 6; v < 8; ++v) g.vertex_attributes().set("role", v, "hidden");
      },
      {"from_graph: no vertex is an output (8 vertices)"});
  test::require_error([] { from_graph(LayeredGraph()); }, {"from_graph: the graph has no vertices"});
}
