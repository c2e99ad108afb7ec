// MaskedDeepFFN: shapes, order of operations, names, copies, bad input.
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/ops/loss.hpp>
#include <deepstruct/train/optimizer.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_close;
using test::require_error;
using test::same_bits;
using Names = std::vector<std::string>;

namespace {

std::vector<Tensor> parameters(const MaskedDeepFFN& model) {
  std::vector<Tensor> all;
  each_param(model, [&](const Param& p) { all.push_back(p.value()); });
  return all;
}
void require_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t k = 0; k < a.size(); ++k) REQUIRE(same_bits(a[k], b[k]));
}

}  // namespace

TEST_CASE("state names are those of a PyTorch state_dict") {
  REQUIRE(state_names(MaskedDeepFFN(7, 2, {5})) == Names{"_layer_first.weight", "_layer_first.bias",
                                                         "_layer_first._mask", "_layer_out.weight", "_layer_out.bias",
                                                         "_layer_out._mask"});
  REQUIRE(state_names(MaskedDeepFFN(7, 2, {5, 4, 3})) ==
          Names{"_layer_first.weight", "_layer_first.bias", "_layer_first._mask", "_layers_hidden.0.weight",
                "_layers_hidden.0.bias", "_layers_hidden.0._mask", "_layers_hidden.2.weight", "_layers_hidden.2.bias",
                "_layers_hidden.2._mask", "_layer_out.weight", "_layer_out.bias", "_layer_out._mask"});
  REQUIRE(state_names(MaskedDeepFFN(7, 2, {5, 4, 3}, {.use_layer_norm = true})) ==
          Names{"_layer_first.weight", "_layer_first.bias", "_layer_first._mask", "_layers_hidden.0.weight",
                "_layers_hidden.0.bias", "_layers_hidden.0._mask", "_layers_hidden.1.weight", "_layers_hidden.1.bias",
                "_layers_hidden.3.weight", "_layers_hidden.3.bias", "_layers_hidden.3._mask", "_layers_hidden.4.weight",
                "_layers_hidden.4.bias", "_layer_out.weight", "_layer_out.bias", "_layer_out._mask"});
}

TEST_CASE("the forward pass is first, relu, (linear, [norm], relu)*, out") {
  Rng rng(1);
  const Tensor x = Tensor::uniform({6, 4}, -1, 1, rng);
  for (bool norm : {false, true}) {
    const MaskedDeepFFN model(4, 3, {8, 7, 6}, {.use_layer_norm = norm}, rng);
    std::vector<const MaskedLinearLayer*> linear;
    for (const auto& [name, layer] : maskable_layers(model)) linear.push_back(layer);
    REQUIRE(linear.size() == 4);
    std::vector<const LayerNorm*> norms;
    each<LayerNorm>(model, [&](const LayerNorm& n) { norms.push_back(&n); });
    REQUIRE(norms.size() == (norm ? 2 : 0));
    Var h = relu((*linear[0])(x));
    for (std::size_t k = 0; k < 2; ++k) {
      h = (*linear[k + 1])(h);
      h = relu(norm ? (*norms[k])(h) : h);
    }
    REQUIRE(same_bits(model(x).value(), (*linear[3])(h).value()));
  }
}

TEST_CASE("hidden parts may be taken away: a layer in the last place has no activation after it") {
  Rng rng(2);
  MaskedDeepFFN model(5, 3, {7, 6}, {}, rng);
  model.layers_hidden.pop_back();  // its ReLU
  const Var x(Tensor::normal({4, 5}, 0, 1, rng));
  const Var h = std::get<MaskedLinearLayer>(model.layers_hidden[0])(relu(model.layer_first(x)));
  REQUIRE(model(x).value() == model.layer_out(h).value());
}

TEST_CASE("inputs of any shape are flattened") {
  Rng rng(2);
  const MaskedDeepFFN model({10, 5, 8}, 2, {100, 50}, {}, rng);
  REQUIRE(model.layer_first.in_features() == 400);
  REQUIRE(model.layer_out.in_features() == 50);
  const Tensor x = Tensor::uniform({3, 10, 5, 8}, -1, 1, rng);
  REQUIRE(model(x).shape() == Shape{3, 2});
  REQUIRE(same_bits(model(x).value(), model(flatten(x, 1)).value()));
  REQUIRE(MaskedDeepFFN({5, 5}, 2, {10})(Tensor::zeros({7, 5, 5})).shape() == Shape{7, 2});
  REQUIRE(MaskedDeepFFN(784, 10, {200, 100})(Tensor::zeros({1, 1, 28, 28})).shape() == Shape{1, 10});
  REQUIRE(MaskedDeepFFN(4, 2, {3})(Tensor::zeros({0, 4})).shape() == Shape{0, 2});
  require_error([&] { model(Tensor::zeros({3, 10, 5})); }, {"400", "50"});
}

TEST_CASE("packed models start as full ones of the same seed do") {
  for (bool norm : {false, true}) {
    Rng a(3), b(3);
    const MaskedDeepFFN full(20, 4, {16, 12}, {.use_layer_norm = norm}, a);
    const MaskedDeepFFN packed(20, 4, {16, 12}, {.use_layer_norm = norm, .store = storage::packed}, b);
    each<MaskedLinearLayer>(packed, [](const MaskedLinearLayer& layer) { REQUIRE(layer.packed()); });
    require_same(parameters(unpack(packed)), parameters(full));
    require_same(parameters(pack(full)), parameters(packed));
    const Tensor x = Tensor::uniform({9, 20}, -1, 1, a);
    require_close(packed(x).value(), full(x).value());
  }
}

TEST_CASE("a model needs a hidden layer and sizes that are not negative") {
  require_error([] { MaskedDeepFFN model(4, 2, {}); }, {"MaskedDeepFFN", "hidden layer"});
  require_error([] { MaskedDeepFFN model(-4, 2, {3}); }, {"negative", "-4"});
  require_error([] { MaskedDeepFFN model(4, -2, {3}); }, {"negative", "-2"});
  require_error([] { MaskedDeepFFN model(4, 2, {3, -5, 3}); }, {"negative", "-5"});
  require_error([] { MaskedDeepFFN model({2, -2}, 2, {3}); }, {"negative", "-2"});
}

TEST_CASE("a copy of a model is a lottery ticket: training the model does not touch it") {
  for (storage store : {storage::full, storage::packed}) {
    Rng rng(4);
    MaskedDeepFFN model(6, 3, {8, 5}, {.use_layer_norm = true, .store = store}, rng);
    const MaskedDeepFFN ticket = model;
    const auto before = parameters(model);
    const Tensor x = Tensor::uniform({10, 6}, -1, 1, rng);
    const Indices y = Indices::from({10}, {0, 1, 2, 0, 1, 2, 0, 1, 2, 0});
    const auto train = [&](MaskedDeepFFN& m) {
      Adam adam{.lr = 0.01};
      for (int k = 0; k < 5; ++k) {
        backward(cross_entropy(m(x), y));
        adam.step(m);
      }
    };
    train(model);
    const auto after = parameters(model);
    REQUIRE_FALSE(same_bits(after[0], before[0]));
    require_same(parameters(ticket), before);
    each_param(ticket, [](const Param& p) { REQUIRE(p.slots().empty()); });

    model = ticket;  // rewind, and the same training gives the same bits
    require_same(parameters(model), before);
    train(model);
    require_same(parameters(model), after);
    MaskedDeepFFN resumed = model;  // a copy goes on exactly where the model is, moments included
    train(model);
    train(resumed);
    require_same(parameters(resumed), parameters(model));
  }
}
