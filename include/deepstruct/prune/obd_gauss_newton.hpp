// The exact diagonal of the generalised Gauss–Newton matrix at the edges of masked layers.
#pragma once

#include <concepts>
#include <functional>

#include "obd_hessian.hpp"
#include "taps.hpp"

namespace deepstruct::detail {

/// A model, as a function of its input; a loss, as one of the outputs.
using Forward = std::function<Var(const Var&)>;

/// The loss as a function of the outputs alone.
template <class Loss, class B>
Var loss_of_outputs(const char* op, const Loss& loss, const Var& outputs, const B& batch) {
  if constexpr (std::same_as<Loss, CrossEntropy>) {
    return cross_entropy(outputs, batch.y);
  } else if constexpr (requires { loss.of_outputs(outputs, batch); }) {
    return loss.of_outputs(outputs, batch);
  } else {
    check(false, op,
          ": this curvature needs a loss of the outputs: CrossEntropy, or one with a member of_outputs(outputs, "
          "batch); exact and hutchinson take any (outputs ",
          outputs.shape(), ")");
    return {};
  }
}

/// Rows of zeros with ones in a column.   → [b, outputs]
inline Var ones_in_column(const Shape& outputs, std::int64_t c, Device device) {
  Tensor t = Tensor::zeros(outputs);
  for (std::int64_t n = 0; n < outputs[0]; ++n) t(n, c) = 1;
  return to(std::move(t), device);
}

/// The Hessian of the loss by the outputs of each sample: column c holds ∂²L/∂z_n∂z_nc in row n. Throws where the loss
/// ties samples together.   outputs [b, c] → c times [b, c]
inline std::vector<Tensor> output_hessian(const char* op, const Tensor& outputs, std::int64_t samples,
                                          const Forward& loss) {
  const Shape& s = outputs.shape();
  check(s.rank() == 2 && s[0] == samples, op, ": the model must give one row of outputs per sample (outputs ", s,
        ", samples ", samples, ")");
  const Var z = variable(outputs);
  const Var g = grad(checked_loss(op, loss(z)), {z}, {.create_graph = true})[0];
  if (!g.wants_grad()) return std::vector<Tensor>(static_cast<std::size_t>(s[1]), Tensor::zeros(s, z.device()));
  Tensor first = Tensor::zeros(s);
  for (std::int64_t c = 0; c < s[1]; ++c) first(0, c) = 1.0f + static_cast<float>(c);
  const Tensor reached = to(grad(g, {z}, {.seed = to(std::move(first), z.device())})[0].value(), Device::cpu);
  for (std::int64_t n = 1; n < s[0]; ++n)
    for (std::int64_t c = 0; c < s[1]; ++c)
      check(!(std::abs(reached(n, c)) > 0), op, ": this curvature needs a loss that is a sum over samples (∂²L/∂z_0∂z_",
            n, " is ", reached(n, c), ")");
  std::vector<Tensor> columns;
  for (std::int64_t c = 0; c < s[1]; ++c)
    columns.push_back(grad(g, {z}, {.seed = ones_in_column(s, c, z.device())})[0].value());
  return columns;
}

/// Throws if the outputs of the first half of a batch change without the other half.
inline void check_samples_apart(const char* op, const Forward& model, const Var& x, const Tensor& outputs) {
  const std::int64_t half = x.shape()[0] / 2;
  if (half == 0) return;
  no_grad guard;
  const Tensor with = to(outputs, Device::cpu), without = to(model(narrow(x, 0, 0, half)).value(), Device::cpu);
  float most = 0;
  with.for_each([&](std::int64_t, float v) { most = std::max(most, std::abs(v)); });
  for (std::int64_t n = 0; n < half; ++n)
    for (std::int64_t c = 0; c < with.shape()[1]; ++c)
      check(!(std::abs(with(n, c) - without(n, c)) > 1e-4f * most), op,
            ": gauss_newton needs outputs that depend on their own sample only; put the model into evaluation mode, "
            "set_training(model, false) (",
            with(n, c), " and ", without(n, c), " in sample ", n, ")");
}

/// Adds Σ_n x_n² Σ_cd H_cd ∂z_nc/∂y_n ∂z_nd/∂y_n of linear layers, whose gradient of a sample is δ xᵀ: two reverse
/// passes per output for all samples at once. A layer used several times has a term for every pair of uses.
inline void add_linear_gauss_newton(const Tapped& run, const std::vector<Tensor>& hessian,
                                    const std::vector<char>& chosen, double share, CurvatureProbe& all) {
  Vars ys;
  std::vector<const Tap*> taps;
  for (const Tap& t : run.taps)
    if (chosen[t.layer]) taps.push_back(&t), ys.push_back(t.y);
  if (taps.empty()) return;
  struct Pair {
    std::size_t a, b;
    Var sum;  // Σ_c δ_c ⊙ (Hδ)_c   [b, out]
  };
  std::vector<Pair> pairs;
  for (std::size_t a = 0; a < taps.size(); ++a)
    for (std::size_t b = 0; b < taps.size(); ++b)
      if (taps[a]->layer == taps[b]->layer) pairs.push_back({a, b, {}});
  const Var& z = run.result;
  for (std::size_t c = 0; c < hessian.size(); ++c) {
    const Vars delta = grad(z, ys, {.seed = ones_in_column(z.shape(), static_cast<std::int64_t>(c), z.device())}),
               weighted = grad(z, ys, {.seed = hessian[c]});
    no_grad guard;
    for (Pair& p : pairs) {
      const Var term = mul(delta[p.a], weighted[p.b]);
      p.sum = p.sum ? add(p.sum, term) : term;
    }
  }
  no_grad guard;
  for (const Pair& p : pairs) {
    const std::size_t layer = taps[p.a]->layer;
    all.add(layer,
            sparse_linear_dw(p.sum, mul(detach(taps[p.a]->x), detach(taps[p.b]->x)), all.places[layer].mask).value(),
            share);
  }
}

/// The same for layers of any kind, from the gradients of every output of every sample on its own.
inline void add_sample_gauss_newton(const Forward& model, const Var& x, const std::vector<Tensor>& hessian,
                                    const std::vector<char>& chosen, double share, CurvatureProbe& all) {
  Vars weights;
  std::vector<std::size_t> layer;
  for (std::size_t k = 0; k < chosen.size(); ++k)
    if (chosen[k] && all.places[k].count() > 0) layer.push_back(k), weights.push_back(all.weights[k]);
  if (weights.empty()) return;
  const auto outputs = static_cast<std::int64_t>(hessian.size());
  for (std::int64_t n = 0; n < x.shape()[0]; ++n) {
    const Var z = model(narrow(x, 0, n, 1));
    std::vector<std::vector<Tensor>> term(hessian.size());  // by output, then layer: summed in this order
    for_each_on(z.device(), outputs, [&](std::int64_t c) {
      const auto at = static_cast<std::size_t>(c);
      const Vars j = grad(z, weights, {.seed = ones_in_column(z.shape(), c, z.device())}),
                 hj = grad(z, weights, {.seed = narrow(hessian[at], 0, n, 1)});
      no_grad guard;
      for (std::size_t k = 0; k < layer.size(); ++k)
        term[at].push_back(all.places[layer[k]].picked(mul(j[k], hj[k]).value()));
    });
    for (const auto& of_output : term)
      for (std::size_t k = 0; k < layer.size(); ++k) all.add(layer[k], of_output[k], share);
  }
}

/// Adds the diagonal of Σ_n J_nᵀ H_n J_n for every edge, J_n the derivatives of a sample's outputs by the weights and
/// H_n the Hessian of the loss by them (Schraudolph 2002), of a run that is tapped.
inline void add_gauss_newton(CurvatureProbe& all, const Tapped& run, const Var& x, const std::vector<Tensor>& hessian,
                             const Forward& model, double share) {
  check_samples_apart(all.op, model, x, run.result.value());
  std::vector<char> linear(all.weights.size(), 0), other(all.weights.size(), 0);
  for (const Tap& t : run.taps) linear[t.layer] = 1;
  for (const Tap& t : run.taps)  // rows that are not samples share their weights within a sample
    if (t.x.shape().rank() != 2 || t.x.shape()[0] != x.shape()[0]) linear[t.layer] = 0;
  for (std::size_t k = 0; k < linear.size(); ++k) {
    other[k] = !linear[k];
    all.curvature[k].effective = linear[k];
  }
  add_linear_gauss_newton(run, hessian, linear, share, all);
  add_sample_gauss_newton(model, x, hessian, other, share, all);
}

}  // namespace deepstruct::detail
