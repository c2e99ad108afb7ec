// Taps: what goes into the masked layers of a running model and what comes out of them.
#pragma once

#include "criterion.hpp"

namespace deepstruct::detail {

/// One use of a masked layer's weight in a run: y = x Wᵀ before the bias, or the convolution.
///   linear: x [b, in], y [b, out];  convolution: x [b, in, h, w], y [b, out, p, q]
struct Tap {
  std::size_t layer;  ///< position among the masked layers
  Var x, y;           ///< part of the tape of the result
};

/// A run of a model, recorded op by op.
struct Tapped {
  Var result;
  std::vector<Step> steps;
  std::vector<Tap> taps;  ///< in the order of the run; a layer used twice has two
};

/// Runs the model and taps its masked layers. Gradients are recorded, so grad(result, taps' y) gives what reaches a
/// layer. The model must outlive what is done with the taps.
template <class M>
Tapped tapped_run(const M& model, const Tensor& x) {
  const MaskedWeights all(model, "tapped_run");
  Tapped run;
  run.steps = trace_function([&](const Var& in) { return model(in); }, Var(x));
  run.result = run.steps.back().value;
  const auto at = [&](int k) -> const Step& { return run.steps[static_cast<std::size_t>(k)]; };
  const auto layer_of = [&](const Step* w) -> std::optional<std::size_t> {
    while (!w->inputs.empty() &&
           (w->op == "reshape" || w->op == "place_edges" || w->op == "pick_edges" || w->op == "mul" || w->op == "to"))
      w = &at(w->inputs[0]);
    for (std::size_t k = 0; k < all.weights.size(); ++k)
      if (w->value == all.weights[k]) return k;
    return std::nullopt;
  };
  for (const Step& s : run.steps) {
    const bool product = s.op == "matmul" && s.attributes.size() == 2;
    if (!product && s.op != "sparse_linear" && s.op != "conv2d" && s.op != "sparse_conv2d") continue;
    if (const auto layer = layer_of(&at(s.inputs[1]))) run.taps.push_back({*layer, at(s.inputs[0]).value, s.value});
  }
  return run;
}

}  // namespace deepstruct::detail
