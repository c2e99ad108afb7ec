// Gates of a learnable mask: how two logits per weight become the factor that stands before it, and how they learn.
#pragma once

#include "../ops/reduce.hpp"

namespace deepstruct {

/// How the alphas [out, in, 2] of a learnable mask become gates, and how these learn. d = alpha_1 − alpha_0 are the
/// log-odds of an edge.
enum class MaskGradient {
  straight_through,  ///< [d > 0]; its gradient goes to d as if it were d (Bengio et al. 2013)
  none,              ///< [d > 0], which does not learn
  gumbel_softmax,    ///< training: softmax of logits with Gumbel noise (gumbel_gate); evaluation: [d > 0]
  hard_concrete      ///< training: hard_concrete_gate; evaluation: hard_concrete_final_gate; 0, 1 or between
};

namespace detail {

/// The ends to which a hard concrete gate is stretched, γ and ζ (Louizos et al. 2018).
inline constexpr float stretch_low = -0.1f, stretch_high = 1.1f;

/// The loops over [out, in] and the two planes that alphas [out, in, 2] are; pads go along where there are any.
struct AlphaPlanes {
  std::int64_t plane;  // from alpha_0 to alpha_1
  nest<3> zip;         // operands: [out, in], alphas, alphas
  nest<2> copy;        // operands: alphas, [out, in]

  explicit AlphaPlanes(const Shape& matrix) : plane(matrix.ld()) {
    const std::int64_t ld = matrix.ld();
    zip = NestBuilder<3>().add(ld, {1, 1, 1}).add(matrix[1], {ld, 2 * ld, 2 * ld}).finish();
    copy = NestBuilder<2>().add(ld, {1, 1}).add(matrix[1], {2 * ld, ld}).finish();
  }
};

Var logit_spread(const Var& g);

}  // namespace detail

/// d = alpha_1 − alpha_0, the log-odds that softmax gives to an edge.   alphas [out, in, 2] → [out, in]
inline Var logit_difference(const Var& alphas) {
  const Shape& s = alphas.shape();
  check(s.rank() == 3 && s[2] == 2, "logit_difference: alphas must be [out, in, 2] (", s, ")");
  Tensor d = Tensor::empty({s[0], s[1]}, alphas.device());
  const detail::AlphaPlanes at(d.shape());
  const float* a = alphas.value().data();
  on(d.device(), [&](auto device) { kernels::zip<kernels::fn::sub>(device, a + at.plane, a, d.data(), at.zip); });
  return record(
      "logit_difference", std::move(d), {alphas}, {},
      [](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = detail::logit_spread(dy); });
}

namespace detail {

/// (−g, g): the adjoint of logit_difference.   [out, in] → [out, in, 2]
inline Var logit_spread(const Var& g) {
  const Shape& s = g.shape();
  Tensor a = Tensor::empty({s[0], s[1], 2}, g.device());
  const AlphaPlanes at(s);
  const Tensor negative = map<kernels::fn::affine>(g.value(), -1, 0);
  on(a.device(), [&](auto device) {
    kernels::copy(device, negative.data(), a.data(), at.copy);
    kernels::copy(device, g.value().data(), a.data() + at.plane, at.copy);
  });
  return record(
      "logit_spread", std::move(a), {g}, {},
      [](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = logit_difference(dy); });
}

/// [z > 0] with the gradient of x.
inline Var straight_through(const Var& x, const Tensor& z) {
  return record("straight_through", map<kernels::fn::step>(z), {x}, {},
                [](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = dy; });
}

/// z = (d + L)·scale with logistic noise L = ln u − ln(1 − u), element r·in + c from that counter of the draw.
inline Var noisy(const Var& d, float scale, const Draw& draw) {
  Tensor z = Tensor::empty(d.shape(), d.device());
  on(z.device(), [&](auto device) { kernels::logistic_noise(device, d.value().view(), z.view(), scale, draw); });
  return record(
      "logistic_noise", std::move(z), {d}, {{"scale", double{scale}}, {"draw", draw}},
      [scale](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = affine(dy, scale, 0); });
}

/// σ(z)·(ζ − γ) + γ cut to [0, 1], derivative 0 at both ends.
inline Var stretched(const Var& z) {
  constexpr float a = stretch_low, b = stretch_high;
  return unary<kernels::fn::stretched_sigmoid>(
      "stretched_sigmoid", z, a, b, {{"low", double{a}}, {"high", double{b}}}, [](const Var& v, const Var& y) {
        const Var s = sigmoid(v);
        return mul(s * (1.0f - s) * (b - a), constant_slope<kernels::fn::hardtanh>(y, y, 0, 1));
      });
}

inline void check_temperature(const char* op, float temperature) {
  check(temperature > 0 && std::isfinite(temperature) && std::isfinite(1 / temperature), op,
        ": the temperature must be positive (", temperature, ")");
}

}  // namespace detail

/// gate = [alpha_1 > alpha_0]; the gradient goes straight through to alpha_1, and negated to alpha_0 (Bengio et al.
/// 2013).   alphas [out, in, 2] → [out, in]
inline Var straight_through_gate(const Var& alphas) {
  const Var d = logit_difference(alphas);
  return detail::straight_through(d, d.value());
}

/// gate = component 1 of softmax((alpha + G)/τ) with Gumbel noise G (Jang et al. 2017; Maddison et al. 2017). The
/// difference of two Gumbel numbers is logistic, so that this is σ((d + L)/τ) with one number L per weight from the
/// draw. `hard`: [d + L > 0] with the gradient of the soft gate. Throws unless the temperature τ is positive.
///   alphas [out, in, 2] → [out, in]
inline Var gumbel_gate(const Var& alphas, float temperature, const Draw& draw, bool hard = false) {
  detail::check_temperature("gumbel_gate", temperature);
  const Var z = detail::noisy(logit_difference(alphas), 1 / temperature, draw), soft = sigmoid(z);
  return hard ? detail::straight_through(soft, z.value()) : soft;
}

/// gate = min(1, max(0, s(ζ − γ) + γ)) with s = σ((d + L)/β), L logistic, γ = −0.1 and ζ = 1.1: exactly 0 and exactly 1
/// with positive probability (Louizos et al. 2018, "Learning sparse neural networks through L0 regularization"). log α
/// there is d. Throws unless the temperature β is positive.   alphas [out, in, 2] → [out, in]
inline Var hard_concrete_gate(const Var& alphas, float temperature, const Draw& draw) {
  detail::check_temperature("hard_concrete_gate", temperature);
  return detail::stretched(detail::noisy(logit_difference(alphas), 1 / temperature, draw));
}

/// gate = min(1, max(0, σ(d)(ζ − γ) + γ)), the hard concrete gate of evaluation: 0 where d ≤ ln(−γ/ζ) = −2.398, 1 where
/// d ≥ 2.398 (Louizos et al. 2018, equation 13).   alphas [out, in, 2] → [out, in]
inline Var hard_concrete_final_gate(const Var& alphas) { return detail::stretched(logit_difference(alphas)); }

/// P(gate ≠ 0) of a drawn gate: σ(d − β ln(−γ/ζ)) if hard concrete (Louizos et al. 2018, equation 12), σ(d) of a hard
/// Gumbel gate; of a gate that is not drawn the gate [d > 0] itself, with its gradient.   alphas [out, in, 2] → [out,
/// in]
inline Var open_probability(const Var& alphas, MaskGradient kind, float temperature) {
  if (kind == MaskGradient::none) return straight_through_gate(detach(alphas));
  if (kind == MaskGradient::straight_through) return straight_through_gate(alphas);
  const Var d = logit_difference(alphas);
  if (kind == MaskGradient::gumbel_softmax) return sigmoid(d);
  detail::check_temperature("open_probability", temperature);
  return sigmoid(affine(d, 1, -temperature * std::log(-detail::stretch_low / detail::stretch_high)));
}

}  // namespace deepstruct
