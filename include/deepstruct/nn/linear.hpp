// Linear: a dense layer.
#pragma once

#include "../ops/linear.hpp"
#include "init.hpp"
#include "keep.hpp"
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

  /// The layer cut down to some of its outputs and inputs, both ascending; values move with gradients and slots.
  void keep(std::span<const std::int32_t> outputs, std::span<const std::int32_t> inputs) {
    detail::check_units("Linear::keep", outputs, weight.shape()[0]);
    detail::check_units("Linear::keep", inputs, weight.shape()[1]);
    deepstruct::keep(weight, 0, outputs);
    deepstruct::keep(weight, 1, inputs);
    if (bias) deepstruct::keep(*bias, 0, outputs);
  }
  static auto fields(auto& m) { return std::tuple{Field{"weight", m.weight}, Field{"bias", m.bias}}; }
};

}  // namespace deepstruct
