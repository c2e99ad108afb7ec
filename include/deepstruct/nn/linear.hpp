// Linear: a dense layer.
#pragma once

#include "../ops/linear.hpp"
#include "init.hpp"
#include "module.hpp"

namespace deepstruct {

/// y = x Wᵀ + b.   x […, in] → y […, out]
struct Linear {
  struct Options {
    bool bias = true;
  };

  Param weight;               // [out, in]
  std::optional<Param> bias;  // [out]

  Linear(std::int64_t in, std::int64_t out, Options options, Rng& rng = default_rng())
      : weight(default_weight({out, in}, rng)) {
    if (options.bias) bias = default_bias({out, in}, rng);
  }
  Linear(std::int64_t in, std::int64_t out, Rng& rng = default_rng()) : Linear(in, out, Options{}, rng) {}

  Var operator()(const Var& x) const { return linear(x, weight, bias ? bias->var() : Var()); }
  static auto fields(auto& m) { return std::tuple{Field{"weight", m.weight}, Field{"bias", m.bias}}; }
};

}  // namespace deepstruct
