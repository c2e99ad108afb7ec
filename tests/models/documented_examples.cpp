// The lines of the documentation, word for word, as far as they need no graph.
#include <deepstruct/deepstruct.hpp>

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

TEST_CASE("documented: the training loop") {
  ds::manual_seed(1);
  ds::MaskedDeepFFN dan({5, 5}, 2, {10});
  ds::Rng rng(2);
  const ds::Tensor x = ds::Tensor::normal({16, 5, 5}, 0, 1, rng);
  std::vector<int> target;
  for (std::int64_t i = 0; i < 16; ++i) target.push_back(x(i, 0, 0) > 0);

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
  REQUIRE(losses.back() < losses.front());
  ds::each_param(dan, [](const ds::Param& p) { REQUIRE_FALSE(p.has_grad()); });
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
