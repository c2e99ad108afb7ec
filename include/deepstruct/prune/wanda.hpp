// Wanda: weights by their magnitude and that of what they read.
#pragma once

#include "../nn/conv.hpp"
#include "../nn/layers.hpp"
#include "../ops/dag.hpp"
#include "edge_saliencies.hpp"
#include "taps.hpp"

namespace deepstruct {

namespace detail {

/// Σ x² of what every weight reads, over all samples of a run and all places a kernel goes to. A row for every group of
/// outputs that read the same.   [groups, columns of the mask]
struct InputSquares {
  std::int64_t groups = 1;
  std::vector<double> sum;
  bool seen = false;

  void add(const Tensor& squares, std::int64_t rows = 1) {
    groups = rows;
    sum.resize(static_cast<std::size_t>(squares.size()), 0);
    squares.for_each([&](std::int64_t k, float s) { sum[static_cast<std::size_t>(k)] += double{s}; });
    seen = true;
  }
  /// √Σ x² of what edge (r, c) of a mask reads.
  double norm(const Mask& mask, std::int64_t r, std::int64_t c) const {
    return std::sqrt(sum[static_cast<std::size_t>(r / (mask.rows() / groups) * mask.cols() + c)]);
  }
};

/// What the edges of a layered DAG read: the values of all its vertices.   → [b, vertices]
inline std::optional<Var> dag_vertices(const Tapped& run, const Var& weight) {
  const auto at = [&](int k) -> const Var& { return run.steps[static_cast<std::size_t>(k)].value; };
  for (const Step& s : run.steps) {
    if (s.op != "layered_dag" || at(s.inputs[1]) != weight) continue;
    Mask mask;
    DagWiring wiring;
    for (const Attribute& a : s.attributes) {
      if (a.name == "mask") mask = std::get<Mask>(a.value);
      if (a.name == "wiring")
        wiring = *static_cast<const DagWiring*>(std::get<std::shared_ptr<const void>>(a.value).get());
    }
    wiring.output.resize(static_cast<std::size_t>(wiring.vertices));
    std::iota(wiring.output.begin(), wiring.output.end(), 0);
    return layered_dag(at(s.inputs[0]), weight, at(s.inputs[2]), mask, std::make_shared<const DagWiring>(wiring));
  }
  return std::nullopt;
}

/// Adds what the masked layers of a model read when it runs.
template <class M>
void add_inputs(const M& model, const Tensor& x, std::vector<InputSquares>& all) {
  no_grad guard;
  const Tapped run = tapped_run(model, to(x, device_of(model)));
  std::size_t k = 0;
  each_masked(model, [&](const auto& layer) {
    InputSquares& squares = all[k];
    const auto columns = [&](const Var& in) { squares.add(sum_to(square(in), {1, in.shape()[1]}).value()); };
    bool tapped = false;
    for (const Tap& tap : run.taps) {
      if (tap.layer != k) continue;
      tapped = true;
      if constexpr (std::same_as<std::remove_cvref_t<decltype(layer)>, MaskedConv2d>) {
        const Conv2dOptions& o = layer.options().conv;
        const Shape &y = tap.y.shape(), &w = layer.weight_shape();
        const Var ones = Tensor::ones({y[0], o.groups, y[2], y[3]}, tap.y.device());
        squares.add(conv2d_dw(ones, square(tap.x), {o.groups, w[1], w[2], w[3]}, o).value(), o.groups);
      } else {
        columns(tap.x);
      }
    }
    if (!tapped)
      if (const auto vertices = dag_vertices(run, layer.weight.var())) columns(*vertices);
    ++k;
  });
}

}  // namespace detail

/// Saliency |w|·‖x‖₂, x all values that the weight multiplies over all samples of the data (Wanda, Sun et al. 2024):
/// for a linear layer the norm of an input's values, for a convolution that of an input channel where a place of the
/// kernel goes, for a layered DAG that of a vertex. By the root of the sum, so it grows with the number of samples.
///
/// The paper compares saliencies within every output and prunes as many weights of each: prune_row_by_saliency.
/// `data` is any range of batches with .x, a few hundred samples; labels are not read. The model runs forwards, in
/// evaluation, and nothing of it but the saliencies changes. Throws, and sets none, without a masked layer or a sample,
/// where a saliency is not finite, and on a masked layer that the model does not use or in a way that is not known.
template <class M, class Batches>
void set_wanda_saliency(M& model, Batches&& data) {
  const char* op = "set_wanda_saliency";
  M probe = model;
  set_training(probe, false);
  std::vector<detail::InputSquares> squares(detail::MaskedWeights(std::as_const(probe), op).names.size());
  detail::each_batch(op, data,
                     [&](const auto& batch, double) { detail::add_inputs(std::as_const(probe), batch.x, squares); });
  std::vector<std::vector<double>> all;
  each_masked(std::as_const(model), [&](const std::string& name, const auto& layer) {
    const detail::InputSquares& inputs = squares[all.size()];
    check(inputs.seen, op, ": cannot see what goes into a layer (", name, ")");
    const Tensor w = detail::edges_of(layer, layer.packed() ? layer.weight.value() : layer.effective_weight());
    const Mask mask = layer.mask();
    std::vector<double> s(static_cast<std::size_t>(w.size()));
    mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      s[static_cast<std::size_t>(e)] = std::abs(double{w.data()[e]}) * inputs.norm(mask, r, c);
    });
    all.push_back(std::move(s));
  });
  detail::put_edges(op, model, all);
}

}  // namespace deepstruct
