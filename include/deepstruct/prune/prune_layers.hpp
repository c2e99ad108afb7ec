// Whole layers: those whose output is added to something else can go, and what they add becomes a constant.
#pragma once

#include "structured.hpp"

namespace deepstruct {

namespace detail {

/// A masked layer that a model can lose.
struct Branch {
  std::string name;  // of the weight
  double score;
};

/// Is what step k gives added to something else that varies, without another weight in between?
inline bool is_added(const std::vector<Step>& steps, const std::vector<char>& varies,
                     const std::vector<std::vector<std::size_t>>& readers, std::size_t k) {
  static const std::set<std::string_view> passes{"sub",        "mul",
                                                 "div",        "affine",
                                                 "relu",       "leaky_relu",
                                                 "tanh",       "silu",
                                                 "sigmoid",    "gelu",
                                                 "gelu_tanh",  "elu",
                                                 "selu",       "softplus",
                                                 "softsign",   "clamp",
                                                 "hardtanh",   "batch_norm",
                                                 "reshape",    "max_pool2d",
                                                 "avg_pool2d", "adaptive_avg_pool2d",
                                                 "identity"};
  while (readers[k].size() == 1) {
    const std::size_t r = readers[k][0];
    bool other = false;
    for (const int i : steps[r].inputs)
      other |= static_cast<std::size_t>(i) != k && varies[static_cast<std::size_t>(i)];
    if (other) return steps[r].op == "add" || steps[r].op == "sub";
    if (steps[r].op != "add" && !passes.contains(steps[r].op)) return false;
    k = r;
  }
  return false;
}

/// The masked layers that can go, each used once, with the score of their edges.
template <class M>
std::vector<Branch> branches(const char* op, const M& model, const Tensor& example, UnitAggregate aggregate) {
  const TracedModel<M> traced(model, example);
  const std::vector<Step>& steps = traced.steps;
  std::vector<char> varies(steps.size(), 0);
  std::vector<std::vector<std::size_t>> readers(steps.size());
  varies[0] = 1;
  for (std::size_t k = 1; k < steps.size(); ++k)
    for (const int i : steps[k].inputs) {
      readers[static_cast<std::size_t>(i)].push_back(k);
      varies[k] |= varies[static_cast<std::size_t>(i)];
    }
  std::map<const Node*, std::string> weights;
  each_masked(traced.model, [&](const std::string& name, const auto& layer) {
    if (layer.mask().nnz() > 0) weights[layer.weight.var().node().get()] = name;
  });
  std::map<std::string, bool> added;  // layers, and whether all that they give is
  for (std::size_t k = 1; k < steps.size(); ++k) {
    const std::string_view what = steps[k].op;
    if (!varies[k] || (what != "matmul" && what != "sparse_linear" && what != "conv2d" && what != "sparse_conv2d"))
      continue;
    auto w = static_cast<std::size_t>(steps[k].inputs[1]);
    while (!steps[w].inputs.empty()) w = static_cast<std::size_t>(steps[w].inputs[0]);
    const auto layer = weights.find(steps[w].value.node().get());
    if (layer == weights.end()) continue;
    const auto [at, fresh] = added.emplace(layer->second, true);
    at->second = fresh && is_added(steps, varies, readers, k);
  }
  std::vector<Branch> all;
  each_masked(model, [&](const std::string& name, const auto& layer) {
    const auto found = added.find(name);
    if (found == added.end() || !found->second) return;
    no_grad guard;
    const Mask mask = layer.mask();
    Tensor s = layer.saliency();
    if (!layer.packed()) s = pick_edges(std::move(s).with_shape(mask.shape()), mask).value();
    EdgeScore score;
    s.for_each([&](std::int64_t, float x) {
      check(std::isfinite(x), op, ": a saliency is not finite (", x, " in ", name, ")");
      score.add(double{x});
    });
    all.push_back({name, score.value(aggregate)});
  });
  std::stable_sort(all.begin(), all.end(), [](const Branch& a, const Branch& b) { return a.score < b.score; });
  return all;
}

/// How many outputs no input reaches.
template <class M>
std::int64_t constant_outputs(const M& model, const Tensor& example) {
  const TracedModel<M> traced(model, example);
  return traced.flow(true).constant_outputs();
}

}  // namespace detail

/// The model without its least salient layers, compacted. A layer can go if it is masked, used once, and what it gives
/// (with bias, norm, activation) is added to something else: the last layer of a residual branch, a skip connection.
/// It loses all its edges; the constant that its bias leaves stays or is folded, and what only the branch read goes too
/// (compact). The budget counts such layers; they go while every output still depends on the input.
///
/// The score is that of all saliencies of the layer, their mean unless another is asked for. The model itself stays as
/// it is. Throws if fewer layers can go, on saliencies that are not finite, and as compact.
template <class M>
Compacted<M> prune_layers(const M& model, const Shape& example_shape, const Budget& budget,
                          UnitAggregate aggregate = UnitAggregate::mean) {
  check(example_shape.rank() >= 1 && example_shape.size() > 0, "prune_layers: the example needs samples and extents (",
        example_shape, ")");
  no_grad guard;
  M next = detail::on_cpu(model);
  const Tensor example = Tensor::ones(with_extent(example_shape, 0, 2));
  const auto all = detail::branches("prune_layers", next, example, aggregate);
  std::vector<float> scores;
  for (const detail::Branch& b : all) scores.push_back(static_cast<float>(b.score));
  const std::span<const float> part(scores);
  std::int64_t want = all.empty() ? 0 : detail::exact_count(std::span(&part, 1), budget);
  if (budget.kind == Budget::Kind::absolute) want = static_cast<std::int64_t>(std::min(budget.value, 1e18));
  const std::int64_t dead = detail::constant_outputs(next, example);
  std::int64_t gone = 0;
  for (const detail::Branch& b : all) {
    if (gone == want) break;
    M trial = next;
    each_masked(trial, [&](const std::string& name, auto& layer) {
      if (name == b.name) layer.set_mask(Mask::zeros(layer.mask().rows(), layer.mask().cols()));
    });
    if (detail::constant_outputs(trial, example) > dead) continue;
    next = std::move(trial);
    ++gone;
  }
  check(gone == want, "prune_layers: so many layers cannot go (", want, ", possible ", gone, ")");
  Compacted<M> result = compact(next, example_shape);
  const std::int64_t after = result.report.multiply_adds;
  result.report = detail::report_of(detail::ModelSize(model), detail::ModelSize(result.model), result.units);
  result.report.multiply_adds_before = detail::sample_multiply_adds(model, example_shape);
  result.report.multiply_adds = after;
  if (const Device device = device_of(model); device != Device::cpu) to(result.model, device);
  return result;
}

}  // namespace deepstruct
