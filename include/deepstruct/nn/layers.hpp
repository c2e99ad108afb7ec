// Layer norm, dropout, activations and sequences of modules.
#pragma once

#include "../ops/normalize.hpp"
#include "module.hpp"

namespace deepstruct {

/// y = (x − mean)/√(var + eps)·weight + bias over the last extents (Ba et al. 2016).   x […, normalized]
struct LayerNorm {
  Param weight;  // [normalized], ones
  Param bias;    // [normalized], zeros
  float eps = 1e-5f;

  explicit LayerNorm(const Shape& normalized, float epsilon = 1e-5f)
      : weight(Tensor::ones(normalized)), bias(Tensor::zeros(normalized)), eps(epsilon) {}
  explicit LayerNorm(std::int64_t features, float epsilon = 1e-5f) : LayerNorm(Shape{features}, epsilon) {}

  Var operator()(const Var& x) const { return layer_norm(x, weight.shape(), weight, bias, eps); }
  static auto fields(auto& m) { return std::tuple{Field{"weight", m.weight}, Field{"bias", m.bias}}; }
};

/// y = x with every element 0 with probability p, else x/(1 − p); x itself while not training. Draws from this thread's
/// generator.
struct Dropout {
  float p = 0.5f;
  bool training = true;

  explicit Dropout(float probability = 0.5f) : p(probability) {
    check(p >= 0 && p <= 1, "Dropout: need 0 <= p <= 1 (", p, ")");
  }

  Var operator()(const Var& x) const { return training ? dropout(x, p) : x; }
  static auto fields(auto&) { return std::tuple{}; }
};

/// Puts every part of a model that tells training (true) from evaluation (false) into one of them: dropout, batch norm.
template <class M>
void set_training(M& model, bool training) {
  walk(model, [&](const Path&, auto& part) {
    if constexpr (requires { part.training = training; }) part.training = training;
  });
}

/// A function of one Var as a module without parameters.
template <Var (*F)(const Var&)>
struct Function {
  Var operator()(const Var& x) const { return F(x); }
  static auto fields(auto&) { return std::tuple{}; }
};
using ReLU = Function<relu>;
using Tanh = Function<tanh>;
using Sigmoid = Function<sigmoid>;
using GELU = Function<gelu>;
using SiLU = Function<silu>;

/// y = x with all extents but the first merged.   [b, …] → [b, features]
struct Flatten {
  Var operator()(const Var& x) const { return flatten(x, 1); }
  static auto fields(auto&) { return std::tuple{}; }
};

/// Modules one after the other: y = m_n(… m_1(x)). Their names are "0", "1", ….
///   Sequential net{Linear(784, 100), ReLU(), Linear(100, 10)};
template <class... Modules>
struct Sequential {
  std::tuple<Modules...> modules;

  explicit Sequential(Modules... parts) : modules(std::move(parts)...) {}

  Var operator()(const Var& x) const {
    Var y = x;
    std::apply([&](const auto&... part) { ((y = part(y)), ...); }, modules);
    return y;
  }
  static auto fields(auto& m) { return std::tuple{Field{"", m.modules}}; }
};

}  // namespace deepstruct
