// Pruned biases: which ones go, and that nothing brings them back.
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/prune/bias.hpp>
#include <deepstruct/train/optimizer.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;
using test::same_bits;

namespace {

struct BiasPair {
  MaskedLinearLayer a, b;
  explicit BiasPair(storage store = storage::full) : a(3, 4, {.store = store}), b(4, 2, {.store = store}) {
    a.bias->set_value(Tensor::from({4}, {1, -4, 0.5f, 3}));
    b.bias->set_value(Tensor::from({2}, {-2, 5}));
  }
  Var operator()(const Var& x) const { return b(tanh(a(x))); }
  static auto fields(auto& m) { return std::tuple{Field{"a", m.a}, Field{"b", m.b}}; }
};
template <class Optimizer>
void bias_train(BiasPair& model, Optimizer optimizer, int steps) {
  Rng rng(1);
  for (int k = 0; k < steps; ++k) {
    backward(sum(square(model(Tensor::uniform({5, 3}, -1, 1, rng)))));
    optimizer.step(model);
  }
}

}  // namespace

TEST_CASE("the smallest biases of all layers go, exactly as many as the budget says") {
  for (const storage store : {storage::full, storage::packed}) {
    BiasPair model(store);
    const PruneReport report = prune_biases(model, absolute(3));
    REQUIRE(model.a.bias->value() == Tensor::from({4}, {0, -4, 0, 3}));
    REQUIRE(model.b.bias->value() == Tensor::from({2}, {0, 5}));
    REQUIRE(report.before() == 6);
    REQUIRE(report.after() == 3);
    REQUIRE(report.layers[0].name == "a.bias");
    REQUIRE(model.a.mask().is_full());
    REQUIRE(prune_biases(model, percentage(33.4)).after() == 2);  // of the three that are left
    REQUIRE(model.a.bias->value() == Tensor::from({4}, {0, -4, 0, 0}));
    REQUIRE(prune_biases(model, remaining(1)).before() == 2);
    require_error([&] { prune_biases(model, remaining(2)); }, {"prune_biases", "fewer", "2 of 1"});
    REQUIRE(model.b.bias->value() == Tensor::from({2}, {0, 5}));
  }
}

TEST_CASE("a pruned bias stays exactly 0 under momentum, decay and adaptive rates; others learn") {
  const auto trained = [](auto optimizer) {
    for (const storage store : {storage::full, storage::packed}) {
      BiasPair model(store);
      bias_train(model, optimizer, 2);  // there is something to remember
      const Tensor before = model.a.bias->value();
      prune_biases(model, remaining(2));
      for (int again = 0; again < 2; ++again) {
        for (Param* bias : {&*model.a.bias, &*model.b.bias}) {
          REQUIRE(bias->live() != nullptr);
          for (std::int64_t r = 0; r < bias->size(); ++r) {
            if (bias->live()->contains(r, 0)) continue;
            REQUIRE(bias->value()(r) == 0);
            for (const auto& s : bias->slots()) REQUIRE(s.value(r) == 0);
          }
        }
        bias_train(model, optimizer, 5);
        BiasPair copy = model;
        model = copy;
      }
      REQUIRE(model.a.bias->value()(1) != before(1));
    }
  };
  trained(SGD{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.1});
  trained(Adam{.lr = 0.05});
  trained(AdamW{.lr = 0.05, .weight_decay = 0.1});
  trained(RMSprop{.lr = 0.05});
}

TEST_CASE("biases that are 0 can be kept so") {
  BiasPair model;
  model.a.bias->set_value(Tensor::from({4}, {0, 1, -0.0f, 2}));
  freeze_zero_biases(model);
  bias_train(model, SGD{.lr = 0.1}, 3);
  REQUIRE(model.a.bias->value()(0) == 0);
  REQUIRE(model.a.bias->value()(2) == 0);
  REQUIRE(model.a.bias->value()(1) != 1);
  REQUIRE(model.b.bias->live() == nullptr);
  model.a.bias->set_value(Tensor::ones({4}));
  freeze_zero_biases(model);
  REQUIRE(model.a.bias->live() == nullptr);
}

TEST_CASE("convolutions have biases too, and what cannot be pruned is an Error") {
  MaskedConv2d conv(1, 3, 2);
  conv.bias->set_value(Tensor::from({3}, {3, 1, -2}));
  prune_biases(conv, density(0.34));
  REQUIRE(conv.bias->value() == Tensor::from({3}, {3, 0, 0}));
  BiasPair model;
  model.b.bias->mutable_value()(1) = std::numeric_limits<float>::infinity();
  const Tensor a = model.a.bias->value();
  require_error([&] { prune_biases(model, absolute(1)); }, {"prune_biases", "b.bias", "not finite"});
  REQUIRE(same_bits(model.a.bias->value(), a));
  MaskedLinearLayer none(2, 2, {.bias = false});
  require_error([&] { prune_biases(none, absolute(1)); }, {"prune_biases", "no masked layer has a bias"});
}
