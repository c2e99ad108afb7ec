// MaskedDeepFFN: a deep feed-forward network of masked layers.
#pragma once

#include "../nn/layers.hpp"
#include "../nn/masked_linear.hpp"

namespace deepstruct {

/// Options of MaskedDeepFFN.
struct MaskedDeepFFNOptions {
  bool use_layer_norm = false;
  storage store = storage::full;
};

/// y = out(h_n), h_1 = relu(first(x)), h_{k+1} = relu([layer norm] linear_k(h_k)): the first layer is never normalised,
/// as in Python deepstruct. Parameters have its names: _layer_first, _layers_hidden.0, …, _layer_out.   x [batch, …] →
/// y [batch, out]
struct MaskedDeepFFN {
  using Hidden = std::variant<MaskedLinearLayer, LayerNorm, ReLU>;

  MaskedLinearLayer layer_first;
  std::vector<Hidden> layers_hidden;
  MaskedLinearLayer layer_out;

  /// Inputs of any shape are flattened; `hidden` names the width of every hidden layer, at least one.
  MaskedDeepFFN(const Shape& size_input, std::int64_t size_output, const std::vector<std::int64_t>& hidden,
                MaskedDeepFFNOptions options = {}, Rng& rng = default_rng())
      : layer_first(size_input.size(), first_width(hidden), {.store = options.store}, rng),
        layers_hidden(make_hidden(hidden, options, rng)),
        layer_out(hidden.back(), size_output, {.store = options.store}, rng) {}
  MaskedDeepFFN(std::int64_t size_input, std::int64_t size_output, const std::vector<std::int64_t>& hidden,
                MaskedDeepFFNOptions options = {}, Rng& rng = default_rng())
      : MaskedDeepFFN(Shape{size_input}, size_output, hidden, options, rng) {}

  Var operator()(const Var& x) const {
    Var h = layer_first(flatten(x, 1), Activation::relu);
    for (std::size_t k = 0; k < layers_hidden.size(); ++k) {
      const auto* layer = std::get_if<MaskedLinearLayer>(&layers_hidden[k]);
      if (layer && k + 1 < layers_hidden.size() && std::holds_alternative<ReLU>(layers_hidden[k + 1])) {  // in one pass
        h = (*layer)(h, Activation::relu);
        ++k;
      } else {
        h = std::visit([&](const auto& module) { return module(h); }, layers_hidden[k]);
      }
    }
    return layer_out(h);
  }

  static auto fields(auto& m) {
    return std::tuple{Field{"_layer_first", m.layer_first}, Field{"_layers_hidden", m.layers_hidden},
                      Field{"_layer_out", m.layer_out}};
  }

 private:
  static std::int64_t first_width(const std::vector<std::int64_t>& hidden) {
    check(!hidden.empty(), "MaskedDeepFFN: needs at least one hidden layer (0)");
    return hidden.front();
  }
  static std::vector<Hidden> make_hidden(const std::vector<std::int64_t>& hidden, MaskedDeepFFNOptions options,
                                         Rng& rng) {
    std::vector<Hidden> parts;
    for (std::size_t k = 1; k < hidden.size(); ++k) {
      parts.emplace_back(MaskedLinearLayer(hidden[k - 1], hidden[k], {.store = options.store}, rng));
      if (options.use_layer_norm) parts.emplace_back(LayerNorm(hidden[k]));
      parts.emplace_back(ReLU());
    }
    return parts;
  }
};

}  // namespace deepstruct
