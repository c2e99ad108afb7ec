// Diagonal second derivatives handed back layer by layer, as in the paper on Optimal Brain Damage.
#pragma once

#include <algorithm>
#include <array>

#include "../ops/conv.hpp"
#include "obd_gauss_newton.hpp"

namespace deepstruct::detail {

/// How an op hands diagonal second derivatives back: h_x = Σ (∂y/∂x)² h_y, in which f″ is left out.
enum class SecondOrder { none, same, slope, sum, linear, convolution };

inline SecondOrder second_order_of(const Step& s) {
  const auto in = [&](std::initializer_list<std::string_view> ops) {
    return std::find(ops.begin(), ops.end(), s.op) != ops.end();
  };
  if (in({"reshape", "identity", "max_pool2d", "cat", "slice", "to"})) return SecondOrder::same;
  if (in({"relu", "leaky_relu", "tanh", "sigmoid", "affine", "softplus", "elu", "selu", "gelu", "gelu_tanh", "silu",
          "hardtanh", "clamp", "softsign", "logsigmoid", "abs"}))
    return SecondOrder::slope;
  if (in({"add", "sub"})) return SecondOrder::sum;
  if (s.op == "sparse_linear") return SecondOrder::linear;
  if (s.op == "matmul" && s.attributes.size() == 2 && std::get<std::int64_t>(s.attributes[0].value) == 0 &&
      std::get<std::int64_t>(s.attributes[1].value) == 1)
    return SecondOrder::linear;
  if (in({"conv2d", "sparse_conv2d"})) return SecondOrder::convolution;
  return SecondOrder::none;
}

/// An attribute of a step.
template <class T>
const T& attribute_of(const Step& s, std::string_view name) {
  const auto at =
      std::find_if(s.attributes.begin(), s.attributes.end(), [&](const Attribute& a) { return a.name == name; });
  check(at != s.attributes.end(), s.op, ": has no such attribute (", name, " of ", s.attributes.size(), ")");
  return std::get<T>(at->value);
}
inline std::array<std::int64_t, 2> two_of(const Step& s, std::string_view name) {
  const Shape& both = attribute_of<Shape>(s, name);
  return {both[0], both[1]};
}

/// What the rule of an op gives back.
inline Vars pulled_back(const Step& s, const Var& dy) {
  const Node& n = *s.value.node();
  Vars dx(n.inputs.size());
  n.rule(dy, s.value, n.inputs, dx);
  return dx;
}

/// Diagonal second derivatives on their way back through a run.
struct SecondOrderPass {
  const Tapped& run;
  CurvatureProbe& all;
  double share;
  std::vector<char> data{};  // depends on the input of the model
  Vars h{};                  // by step; empty where none arrived

  const Step& step(int k) const { return run.steps[static_cast<std::size_t>(k)]; }
  void give(int k, const Var& part) {
    const auto at = static_cast<std::size_t>(k);
    if (data[at] && step(k).value.wants_grad()) h[at] = h[at] ? add(h[at], part) : part;
  }

  /// From the second derivatives by the outputs.   [b, outputs]
  void operator()(const Var& outputs) {
    no_grad guard;
    for (const Step& s : run.steps)
      data.push_back(data.empty() || std::any_of(s.inputs.begin(), s.inputs.end(), [&](int k) { return data[k]; }));
    h.resize(run.steps.size());
    h.back() = outputs;
    for (std::size_t k = run.steps.size(); k-- > 0;) {
      if (!h[k] || run.steps[k].inputs.empty()) continue;
      through(run.steps[k], h[k]);
      h[k] = Var();
    }
  }
  void through(const Step& s, const Var& hy) {
    switch (second_order_of(s)) {
      case SecondOrder::same: {
        const Vars dx = pulled_back(s, hy);
        for (std::size_t j = 0; j < dx.size(); ++j)
          if (dx[j]) give(s.inputs[j], dx[j]);
        return;
      }
      case SecondOrder::slope: {
        const Var slope = pulled_back(s, Tensor::ones(hy.shape(), hy.device()))[0];
        return give(s.inputs[0], mul(hy, square(slope)));
      }
      case SecondOrder::sum:
        if (s.inputs[0] == s.inputs[1]) return give(s.inputs[0], affine(hy, s.op == "add" ? 4.0f : 0.0f, 0));
        for (const int j : s.inputs) {
          check(!data[static_cast<std::size_t>(j)] || step(j).value.shape() == s.value.shape(), all.op,
                ": layerwise does not know sums that spread their input; gauss_newton and exact do (",
                step(j).value.shape(), " to ", s.value.shape(), ")");
          give(j, hy);
        }
        return;
      case SecondOrder::linear:
        return through_linear(s, hy);
      case SecondOrder::convolution:
        return through_convolution(s, hy);
      case SecondOrder::none:
        check(false, all.op, ": unsupported op ", s.op,
              "; layerwise takes networks of linear layers, convolutions, biases, sums and elementwise activations, "
              "gauss_newton and exact any (value ",
              s.value.shape(), ")");
    }
  }
  void through_linear(const Step& s, const Var& hy) {
    need_fixed_weight(s);
    const Var x = detach(step(s.inputs[0]).value), w2 = square(detach(step(s.inputs[1]).value));
    add_to_layer(s, [&](const EdgePlaces& places) { return sparse_linear_dw(hy, square(x), places.mask); });
    if (!needed(s.inputs[0])) return;
    give(s.inputs[0], s.op == "matmul" ? matmul(hy, w2) : sparse_linear_dx(hy, w2, attribute_of<Mask>(s, "mask")));
  }
  void through_convolution(const Step& s, const Var& hy) {
    need_fixed_weight(s);
    const Var x = detach(step(s.inputs[0]).value), w2 = square(detach(step(s.inputs[1]).value));
    const Conv2dOptions how{two_of(s, "stride"), two_of(s, "padding"), two_of(s, "dilation"),
                            attribute_of<std::int64_t>(s, "groups")};
    const bool sparse = s.op == "sparse_conv2d";
    const auto kernel = sparse ? two_of(s, "kernel") : std::array{w2.shape()[2], w2.shape()[3]};
    add_to_layer(s,
                 [&](const EdgePlaces& places) { return sparse_conv2d_dw(hy, square(x), places.mask, kernel, how); });
    if (!needed(s.inputs[0])) return;
    give(s.inputs[0], sparse ? sparse_conv2d_dx(hy, w2, attribute_of<Mask>(s, "mask"), kernel, x.shape(), how)
                             : conv2d_dx(hy, w2, x.shape(), how));
  }
  bool needed(int k) const { return data[static_cast<std::size_t>(k)] && step(k).value.wants_grad(); }
  void need_fixed_weight(const Step& s) const {
    check(!data[static_cast<std::size_t>(s.inputs[1])], all.op, ": unsupported op ", s.op,
          " of two values that depend on the input; gauss_newton and exact do (value ", s.value.shape(), ")");
  }
  template <class F>
  void add_to_layer(const Step& s, F&& at_edges) {
    for (const Tap& t : run.taps) {
      if (t.y == s.value) all.add(t.layer, at_edges(all.places[t.layer]).value(), share);
    }
  }
};

/// Adds LeCun's approximation of ∂²L/∂w_i² for every edge: diagonal second derivatives by all values, handed back from
/// the outputs as gradients are, h_w = Σ x² h_y. Mixed derivatives between units are left out, and f″ of activations
/// (Levenberg–Marquardt).
inline void add_layerwise(CurvatureProbe& all, const Tapped& run, const std::vector<Tensor>& hessian, double share) {
  for (EdgeCurvature& c : all.curvature) c.effective = true;
  Tensor diagonal = Tensor::empty(run.result.shape());
  for (std::size_t c = 0; c < hessian.size(); ++c) {
    const Tensor column = to(hessian[c], Device::cpu);
    const auto at = static_cast<std::int64_t>(c);
    for (std::int64_t n = 0; n < column.shape()[0]; ++n) diagonal(n, at) = column(n, at);
  }
  SecondOrderPass{run, all, share}(to(std::move(diagonal), run.result.device()));
}

}  // namespace deepstruct::detail
