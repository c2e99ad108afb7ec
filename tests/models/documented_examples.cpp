// The lines of the documentation, word for word.
#include <deepstruct/deepstruct.hpp>
#include <deepstruct/graph.hpp>

#include "support/catch.hpp"

namespace ds = deepstruct;

TEST_CASE("documented: a network, pruned") {
  ds::MaskedDeepFFN model(784, 10, {200, 100});
  const auto before = ds::get_network_weight_count(model);
  REQUIRE(before == 784 * 200 + 200 * 100 + 100 * 10);
  ds::prune_network_by_saliency(model, ds::percentage(10));
  REQUIRE(static_cast<double>(ds::get_network_weight_count(model)) / static_cast<double>(before) ==
          Approx(0.9).margin(1e-4));
  const auto left = ds::get_network_weight_count(model);
  ds::prune_network_by_saliency(model, ds::absolute(100));
  REQUIRE(ds::get_network_weight_count(model) <= left);
  REQUIRE(ds::get_network_weight_count(model) >= left - 100);
  ds::prune_network_by_saliency(model, ds::bucket(1));
  REQUIRE(ds::get_network_weight_count(model) < left);
}

TEST_CASE("documented: a masked layer") {
  ds::MaskedLinearLayer layer(784, 100);
  const ds::Tensor x = ds::Tensor::ones({2, 784});
  const ds::Tensor before = layer(x).value();
  layer.set_mask(ds::Mask::zeros(100, 784));
  REQUIRE(layer(x).value()(1, 7) == layer.bias->value()(7));
  layer.set_mask(ds::Mask::ones(100, 784));
  REQUIRE(layer(x).value() == before);
}

TEST_CASE("documented: a mask that learns") {
  ds::MaskedLinearLayer gates(784, 100, {.learnable_mask = true});
  ds::backward(sum(gates(ds::Tensor::ones({1, 784}))));
  REQUIRE(gates.alphas().grad().shape() == ds::Shape{100, 784, 2});
}

TEST_CASE("documented: a structure without connections is one hidden layer") {
  ds::LayeredGraph structure;
  structure.add_vertices(20);
  ds::MaskedDeepDAN flat(5, 2, structure);
  REQUIRE(structure.num_layers() == 1);
  REQUIRE(structure.first_layer_size() == 20);
  REQUIRE(ds::parameter_count(flat) == 5 * 20 + 20 + 20 * 2 + 2);
  REQUIRE(ds::get_network_weight_count(flat) == 5 * 20 + 20 * 2);
  ds::Rng rng(4);
  const ds::Tensor x = ds::Tensor::normal({3, 5}, 0, 1, rng);
  const ds::Tensor y = flat(x).value(), expected = flat.layer_out(relu(flat.layer_first(x))).value();
  REQUIRE(y.shape() == ds::Shape{3, 2});
  for (std::int64_t b = 0; b < 3; ++b)
    for (std::int64_t o = 0; o < 2; ++o) REQUIRE(y(b, o) == Approx(expected(b, o)).margin(1e-6));

  static_assert(std::is_same_v<ds::CachedLayeredGraph, ds::LayeredGraph>);  // alias kept
}

TEST_CASE("documented: structures from generators") {
  ds::Rng rng(1);
  auto tree = ds::LayeredGraph::load_from(ds::balanced_tree(2, 3));
  auto grid = ds::LayeredGraph::load_from(ds::grid_2d_graph(3, 30));
  auto world = ds::LayeredGraph::load_from(ds::watts_strogatz_graph(100, 3, 0.8, rng));

  REQUIRE(tree.vertex_count() == 15);
  REQUIRE(tree.edge_count() == 14);
  REQUIRE(tree.num_layers() == 4);
  for (std::int64_t l = 0; l < 4; ++l) REQUIRE(tree.layer_size(l) == std::int64_t{1} << l);

  REQUIRE(grid.vertex_count() == 90);
  REQUIRE(grid.edge_count() == 3 * 29 + 2 * 30);
  REQUIRE(grid.num_layers() == 3 + 30 - 1);  // diagonals
  for (std::int64_t v = 0; v < 90; ++v) REQUIRE(grid.layer(v) == v / 30 + v % 30);

  REQUIRE(world.vertex_count() == 100);
  REQUIRE(world.edge_count() == 100);  // odd k: one neighbour on each side
  std::vector<std::int64_t> longest(100, 0);
  for (std::int64_t v = 0; v < 100; ++v) {  // edges lead from earlier to later vertices
    for (const ds::Edge& e : world.graph().edges())
      if (e.target == v) longest[v] = std::max(longest[v], longest[e.source] + 1);
    REQUIRE(world.layer(v) == longest[v]);
  }
  ds::Rng other(2), same(1);
  REQUIRE(world == ds::LayeredGraph::load_from(ds::watts_strogatz_graph(100, 3, 0.8, same)));
  REQUIRE_FALSE(world == ds::LayeredGraph::load_from(ds::watts_strogatz_graph(100, 3, 0.8, other)));

  for (const ds::LayeredGraph& structure : {tree, grid, world}) {  // each of them is a network that gives itself back
    const ds::MaskedDeepDAN dan({5, 5}, 2, structure);
    const ds::LayeredGraph back = dan.generate_structure();
    REQUIRE(dan(ds::Tensor::ones({3, 5, 5})).value().shape() == ds::Shape{3, 2});
    REQUIRE(dan.num_layers() == structure.num_layers());
    REQUIRE(back.edge_count() == structure.edge_count());
    REQUIRE(back.num_layers() == structure.num_layers());
    const std::vector<ds::Vertex>& place = structure.index().order;
    for (const ds::Edge& e : back.graph().edges())
      REQUIRE(structure.graph().find_edge(place[e.source], place[e.target]) >= 0);
  }
}

TEST_CASE("documented: the training loop") {
  ds::manual_seed(1);
  auto tree = ds::LayeredGraph::load_from(ds::balanced_tree(2, 3));
  ds::MaskedDeepDAN dan({5, 5}, 2, tree);
  ds::Rng rng(2);
  const ds::Tensor x = ds::Tensor::normal({16, 5, 5}, 0, 1, rng);
  std::vector<int> target;
  for (std::int64_t i = 0; i < 16; ++i) target.push_back(x(i, 0, 0) > 0);
  REQUIRE(dan(x).value() == dan(flatten(x)).value());  // input shapes are flattened
  const ds::MaskedDeepDAN before = dan;

  auto device = ds::cuda_available() ? ds::Device::cuda : ds::Device::cpu;
  REQUIRE(device == ds::Device::cpu);
  std::vector<float> losses;
  ds::Adam optimizer;
  for (int epoch = 0; epoch < 10; ++epoch) {
    auto loss = ds::cross_entropy(dan(x), target);  // x [batch, 5, 5], target [batch]
    ds::backward(loss);
    optimizer.step(dan);  // also clears the gradients
    losses.push_back(loss.item());
  }
  for (std::size_t k = 1; k < losses.size(); ++k) REQUIRE(losses[k] < losses[k - 1]);
  ds::each_param(dan, [](const ds::Param& p) { REQUIRE_FALSE(p.has_grad()); });
  REQUIRE_FALSE(dan.layer_first.weight.value() == before.layer_first.weight.value());  // the root learns, through all
  REQUIRE_FALSE(dan.layers_hidden->weight.value() == before.layers_hidden->weight.value());
  REQUIRE_FALSE(dan.layer_out.weight.value() == before.layer_out.weight.value());
}

TEST_CASE("documented: the small things these lines rest on") {
  ds::Rng rng(3);
  REQUIRE(ds::Tensor::zeros({2, 3}).size() == 6);
  REQUIRE(ds::Tensor::full({2}, 4) == ds::Tensor::from({2}, {4, 4}));
  REQUIRE(ds::Tensor::uniform({2, 2}, -1, 1, rng).shape() == ds::Shape{2, 2});
  REQUIRE(ds::Tensor::normal({2, 2}, 0, 1, rng).shape() == ds::Shape{2, 2});

  const ds::MaskedLinearLayer layer(3, 2);
  const ds::Tensor tensor = ds::Tensor::ones({4, 3});
  const ds::Var x = ds::variable(tensor);
  REQUIRE(layer(tensor).value() == layer(x).value());

  const std::vector<int> labels{0, 1, 1, 0};
  const ds::Var loss = ds::cross_entropy(layer(x), std::span<const int>(labels));
  ds::backward(loss);
  REQUIRE(loss.item() > 0);
  REQUIRE(x.grad().shape() == ds::Shape{4, 3});
  REQUIRE(layer.weight.grad().shape() == ds::Shape{2, 3});
}

TEST_CASE("documented: masked layers by name, and snapshots") {
  ds::MaskedDeepFFN model(4, 2, {3, 3});
  std::vector<std::string> names;
  ds::each<ds::MaskedLinearLayer>(model,
                                  [&](const std::string& name, ds::MaskedLinearLayer&) { names.push_back(name); });
  REQUIRE(names == std::vector<std::string>{"_layer_first", "_layers_hidden.0", "_layer_out"});
  auto ticket = model;
  ds::prune_network_by_saliency(model, ds::percentage(50));
  ds::reset_pruned_network(model);
  REQUIRE(ds::get_network_weight_count(ticket) == 12 + 9 + 6);
  REQUIRE(ds::get_network_weight_count(model) == 12 + 9 + 6);
}

TEST_CASE("documented: the README's network from a graph") {
  ds::manual_seed(3);
  ds::Graph world = ds::watts_strogatz_graph(200, 4, 0.5);
  ds::MaskedDeepDAN dan(784, 10, world);
  ds::prune_network_by_saliency(dan, ds::percentage(50));
  ds::LayeredGraph left = dan.generate_structure();
  std::string picture = ds::write_svg(left);
  REQUIRE(left.vertex_count() == 200);
  REQUIRE(left.edge_count() < 400);
  REQUIRE(picture.find("<svg") != std::string::npos);
}
