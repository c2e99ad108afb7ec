// Optimizers against their formulas in double, their options and errors, and full against packed storage.
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/ops/loss.hpp>
#include <deepstruct/train/optimizer.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_close;
using test::require_error;
using test::same_bits;

namespace {

/// A model of two parameters.
struct Two {
  Param a{Tensor::from({2, 3}, {1, -2, 3, 0, 0.5f, -0.25f})};
  Param b{Tensor::from({2}, {0.75f, -1.5f})};
  static auto fields(auto& m) { return std::tuple{Field{"a", m.a}, Field{"b", m.b}}; }
};
struct Empty {
  static auto fields(auto&) { return std::tuple{}; }
};
/// The gradients of step k are constants: L = Σ a∘ga + Σ b∘gb.
Tensor gradient_a(int k) {
  const float s = static_cast<float>(k);
  return Tensor::from({2, 3}, {0.5f * s, -1, 2 - s, 0.25f, 0, 3});
}
Tensor gradient_b(int k) { return Tensor::from({2}, {-0.5f, static_cast<float>(k)}); }

void pull(const Two& m, int k) { backward(add(sum(mul(m.a, gradient_a(k))), sum(mul(m.b, gradient_b(k))))); }

/// Three steps against `rule(w, g, s, k)`, which returns the new weight; s is room for the state of one element.
using State = std::array<double, 3>;
template <class Optimizer, class Rule>
void require_trajectory(Optimizer optimizer, Rule rule) {
  Two model;
  std::vector<double> w;
  for (const Tensor& t : {model.a.value(), model.b.value()})
    for (float x : t.to_vector()) w.push_back(double{x});
  std::vector<State> states(w.size());
  for (int k = 1; k <= 3; ++k) {
    pull(model, k);
    optimizer.step(model);
    REQUIRE_FALSE(model.a.has_grad());
    REQUIRE_FALSE(model.b.has_grad());
    std::vector<float> g = gradient_a(k).to_vector(), now = model.a.value().to_vector();
    for (float x : gradient_b(k).to_vector()) g.push_back(x);
    for (float x : model.b.value().to_vector()) now.push_back(x);
    for (std::size_t i = 0; i < w.size(); ++i) {
      w[i] = rule(w[i], double{g[i]}, states[i], k);
      INFO("step " << k << ", element " << i);
      REQUIRE(double{now[i]} == Approx(w[i]).epsilon(2e-6).margin(1e-6));
    }
  }
}

}  // namespace

TEST_CASE("SGD follows its formula with every option") {
  for (double decay : {0.0, 0.25})
    for (double momentum : {0.0, 0.5, 0.9})
      for (double dampening : {0.0, 0.3})
        for (bool nesterov : {false, true}) {
          if (nesterov && (momentum == 0 || dampening != 0)) continue;
          INFO("decay " << decay << ", momentum " << momentum << ", dampening " << dampening << nesterov);
          SGD sgd{
              .lr = 0.125, .momentum = momentum, .dampening = dampening, .weight_decay = decay, .nesterov = nesterov};
          require_trajectory(sgd, [=](double w, double g, State& s, int k) {
            const double d = g + decay * w;
            s[0] = k == 1 ? d : momentum * s[0] + (1 - dampening) * d;
            return w - 0.125 * (momentum == 0 ? d : nesterov ? d + momentum * s[0] : s[0]);
          });
        }
}

TEST_CASE("one plain SGD step, by hand") {
  Two model;
  pull(model, 2);
  SGD{.lr = 0.5}.step(model);
  REQUIRE(model.a.value() == Tensor::from({2, 3}, {0.5f, -1.5f, 3, -0.125f, 0.5f, -1.75f}));
  REQUIRE(model.b.value() == Tensor::from({2}, {1, -2.5f}));
  REQUIRE(model.a.slots().empty());
}

TEST_CASE("Adam and AdamW follow their formulas with every option") {
  const double lr = 0.02, b1 = 0.8, b2 = 0.95, eps = 1e-3;
  for (double decay : {0.0, 0.25})
    for (bool amsgrad : {false, true}) {
      INFO("decay " << decay << ", amsgrad " << amsgrad);
      const auto rule = [=](bool decoupled) {
        return [=](double w, double g, State& s, int k) {
          if (decoupled) w -= lr * decay * w;
          const double d = decoupled ? g : g + decay * w;
          s[0] = b1 * s[0] + (1 - b1) * d;
          s[1] = b2 * s[1] + (1 - b2) * d * d;
          s[2] = std::max(s[2], s[1]);
          const double m = s[0] / (1 - std::pow(b1, k)), v = (amsgrad ? s[2] : s[1]) / (1 - std::pow(b2, k));
          return w - lr * m / (std::sqrt(v) + eps);
        };
      };
      require_trajectory(
          Adam{.lr = lr, .beta1 = b1, .beta2 = b2, .eps = eps, .weight_decay = decay, .amsgrad = amsgrad}, rule(false));
      require_trajectory(
          AdamW{.lr = lr, .beta1 = b1, .beta2 = b2, .eps = eps, .weight_decay = decay, .amsgrad = amsgrad}, rule(true));
    }
}

TEST_CASE("the first Adam step moves every weight by lr against its gradient, whatever its size") {
  Two model;
  const Tensor a = model.a.value(), g = gradient_a(1);
  pull(model, 1);
  Adam adam{.lr = 0.125};
  adam.step(model);
  for (std::int64_t r = 0; r < 2; ++r)
    for (std::int64_t c = 0; c < 3; ++c) {
      const float sign = static_cast<float>((g(r, c) > 0) - (g(r, c) < 0));
      REQUIRE(model.a.value()(r, c) == Approx(a(r, c) - 0.125f * sign).margin(1e-6));
    }
  REQUIRE(adam.steps == 1);
}

TEST_CASE("RMSprop follows its formula with every option") {
  for (double decay : {0.0, 0.25})
    for (double momentum : {0.0, 0.5})
      for (bool centered : {false, true}) {
        INFO("decay " << decay << ", momentum " << momentum << ", centered " << centered);
        const double lr = 0.02, alpha = 0.75, eps = 1e-2;
        RMSprop rmsprop{
            .lr = lr, .alpha = alpha, .eps = eps, .weight_decay = decay, .momentum = momentum, .centered = centered};
        require_trajectory(rmsprop, [=](double w, double g, State& s, int) {
          const double d = g + decay * w;
          s[0] = alpha * s[0] + (1 - alpha) * d * d;
          if (centered) s[1] = alpha * s[1] + (1 - alpha) * d;
          const double step = d / (std::sqrt(s[0] - s[1] * s[1]) + eps);
          s[2] = momentum * s[2] + step;
          return w - lr * s[2];
        });
      }
}

TEST_CASE("Adagrad follows its formula with every option") {
  for (double decay : {0.0, 0.25})
    for (double lr_decay : {0.0, 0.5})
      require_trajectory(Adagrad{.lr = 0.1, .lr_decay = lr_decay, .eps = 1e-3, .weight_decay = decay},
                         [=](double w, double g, State& s, int k) {
                           const double d = g + decay * w;
                           s[0] += d * d;
                           return w - 0.1 / (1 + (k - 1) * lr_decay) * d / (std::sqrt(s[0]) + 1e-3);
                         });
}

TEST_CASE("a parameter without a gradient stays, and gets no slots") {
  Two model;
  const Tensor b = model.b.value();
  backward(sum(model.a));
  Adam{.lr = 0.1, .weight_decay = 0.5}.step(model);
  REQUIRE(same_bits(model.b.value(), b));
  REQUIRE(model.b.slots().empty());
  REQUIRE(model.a.slots().size() == 2);
}

TEST_CASE("invalid settings are an Error, and nothing changes") {
  Two model;
  pull(model, 1);
  const Two before = model;
  const double nothing = std::nan("");
  const auto refused = [&](auto optimizer, std::initializer_list<const char*> parts) {
    require_error([&] { optimizer.step(model); }, parts);
    REQUIRE(same_bits(model.a.value(), before.a.value()));
    REQUIRE(model.a.has_grad());
    REQUIRE(model.a.slots().empty());
  };
  refused(SGD{.lr = -1}, {"SGD", "learning rate", "-1"});
  refused(SGD{.lr = nothing}, {"SGD", "learning rate", "nan"});
  refused(SGD{.momentum = -0.5}, {"SGD", "momentum", "-0.5"});
  refused(SGD{.weight_decay = -2}, {"SGD", "weight decay", "-2"});
  refused(SGD{.nesterov = true}, {"SGD", "Nesterov"});
  refused(SGD{.momentum = 0.5, .dampening = 0.5, .nesterov = true}, {"SGD", "Nesterov", "0.5"});
  refused(Adam{.lr = -1}, {"Adam", "learning rate"});
  refused(Adam{.beta1 = 1}, {"Adam", "beta1", "[0, 1)"});
  refused(Adam{.beta2 = -0.1}, {"Adam", "beta2", "-0.1"});
  refused(Adam{.eps = -1e-8}, {"Adam", "eps"});
  refused(Adam{.weight_decay = nothing}, {"Adam", "weight decay", "nan"});
  refused(AdamW{.beta1 = 1.5}, {"AdamW", "beta1", "1.5"});
  refused(RMSprop{.lr = -1}, {"RMSprop", "learning rate"});
  refused(RMSprop{.alpha = -1}, {"RMSprop", "alpha", "-1"});
  refused(RMSprop{.momentum = -1}, {"RMSprop", "momentum"});
  refused(Adagrad{.lr_decay = -1}, {"Adagrad", "lr_decay", "-1"});
  refused(Adagrad{.eps = -1}, {"Adagrad", "eps"});
  Adam adam{.beta1 = 2};
  require_error([&] { adam.step(model); }, {"beta1"});
  REQUIRE(adam.steps == 0);
}

TEST_CASE("a model without parameters is an Error") {
  Empty model;
  require_error([&] { SGD().step(model); }, {"SGD", "no parameters"});
  Adam adam;
  require_error([&] { adam.step(model); }, {"Adam", "no parameters"});
  REQUIRE(adam.steps == 0);
  require_error([&] { RMSprop().step(model); }, {"RMSprop", "no parameters"});
  require_error([&] { Adagrad().step(model); }, {"Adagrad", "no parameters"});
}

TEST_CASE("clip_grad_norm scales all gradients to a common norm") {
  Two model;
  pull(model, 1);
  double squares = 0;
  for (const Tensor& g : {gradient_a(1), gradient_b(1)})
    g.for_each([&](std::int64_t, float x) { squares += double{x} * double{x}; });
  const double norm = std::sqrt(squares);
  REQUIRE(clip_grad_norm(model, 100) == Approx(norm));
  REQUIRE(model.a.grad() == gradient_a(1));  // short enough
  REQUIRE(clip_grad_norm(model, 1.5) == Approx(norm));
  require_close(model.a.grad(), (Var(gradient_a(1)) * static_cast<float>(1.5 / norm)).value());
  require_close(model.b.grad(), (Var(gradient_b(1)) * static_cast<float>(1.5 / norm)).value());
  REQUIRE(clip_grad_norm(model, 0) == Approx(1.5).epsilon(1e-5));
  REQUIRE(model.a.grad() == Tensor::zeros({2, 3}));
  require_error([&] { clip_grad_norm(model, -1); }, {"clip_grad_norm", "-1"});
  require_error([&] { clip_grad_norm(model, std::nan("")); }, {"clip_grad_norm", "nan"});
}

TEST_CASE("a large parameter is stepped as its elements are") {
  Rng rng(1);
  std::vector<Param> large{Tensor::uniform({300, 500}, -1, 1, rng)};
  const Tensor w = large[0].value(), g = Tensor::uniform({300, 500}, -1, 1, rng);
  backward(sum(mul(large[0], g)));
  SGD{.lr = 0.5}.step(large);
  bool same = true;
  for (std::int64_t r = 0; r < 300; ++r)
    for (std::int64_t c = 0; c < 500; ++c) same &= large[0].value()(r, c) == w(r, c) - 0.5f * g(r, c);
  REQUIRE(same);
}

namespace {

/// Trains a full and a packed copy of one masked network and requires equal weights wherever edges exist.
template <class Optimizer>
void require_same_training(Optimizer optimizer) {
  Rng rng(2);
  MaskedDeepFFN full(12, 4, {20, 16}, {.use_layer_norm = true}, rng);
  each<MaskedLinearLayer>(full, [&](MaskedLinearLayer& layer) {
    layer.set_mask(Mask::random(layer.out_features(), layer.in_features(), 0.4, rng));
  });
  const MaskedDeepFFN start = full;
  MaskedDeepFFN packed = pack(full);
  const Tensor x = Tensor::normal({32, 12}, 0, 1, rng);
  std::vector<std::int32_t> y;
  for (int i = 0; i < 32; ++i) y.push_back(i % 4);
  Optimizer other = optimizer;
  for (int k = 0; k < 5; ++k) {
    backward(cross_entropy(full(x), y));
    optimizer.step(full);
    backward(cross_entropy(packed(x), y));
    other.step(packed);
  }
  const auto a = maskable_layers(full), b = maskable_layers(packed);
  REQUIRE(a.size() == 3);
  for (std::size_t k = 0; k < a.size(); ++k) {
    REQUIRE(b[k].second->packed());
    require_close(b[k].second->effective_weight(), a[k].second->effective_weight(), 1e-4, 1e-5);
    require_close(b[k].second->bias->value(), a[k].second->bias->value(), 1e-4, 1e-5);
  }
  std::vector<Tensor> moved, rest;
  each_param(full, [&](const Param& p) { moved.push_back(p.value()); });
  each_param(start, [&](const Param& p) { rest.push_back(p.value()); });
  for (std::size_t k = 0; k < moved.size(); ++k) REQUIRE_FALSE(same_bits(moved[k], rest[k]));
}

}  // namespace

TEST_CASE("full and packed storage train alike under every optimizer") {
  require_same_training(SGD{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01});
  require_same_training(SGD{.lr = 0.1, .momentum = 0.9, .nesterov = true});
  require_same_training(Adam{.lr = 0.01, .eps = 1e-4, .weight_decay = 0.1});
  require_same_training(Adam{.lr = 0.01, .eps = 1e-4, .amsgrad = true});
  require_same_training(AdamW{.lr = 0.01, .eps = 1e-4});
  require_same_training(RMSprop{.lr = 0.003, .eps = 1e-3, .momentum = 0.5, .centered = true});
  require_same_training(Adagrad{.lr = 0.01, .eps = 1e-4});
}
