// The parts of a model that compact cuts down.
#pragma once

#include <functional>
#include <unordered_set>

#include "../nn/batch_norm.hpp"
#include "../nn/conv.hpp"
#include "unit_flow.hpp"

namespace deepstruct {

namespace detail {

/// The parts of a model that compact cuts down, in the order of a walk.
class CompactParts {
 public:
  struct Cut {
    std::string name;
    const Param* weight;
    std::function<void(std::span<const std::int32_t>, std::span<const std::int32_t>)> keep;
    bool first_of_dan = false, last_of_dan = false;  ///< the other side belongs to the vertices
  };
  struct Norm {
    Param* weight;
    Tensor *mean, *variance;
  };
  struct Dan {
    std::string name;
    MaskedDeepDAN* model;
  };
  struct Plain {
    std::string name;
    Param* param;
    bool cut_elsewhere;  ///< by a layer or a network on a graph
  };
  std::vector<Cut> layers;
  std::vector<Norm> norms;
  std::vector<Dan> dans;
  std::vector<Plain> params;
  std::int64_t grouped = 0;           ///< convolutions in groups
  std::vector<const Param*> weights;  ///< of layers that cut themselves, those inside networks on graphs too

  /// The name of a parameter without its last part.
  static std::string module_of(const std::string& name) {
    const auto dot = name.rfind('.');
    return dot == std::string::npos ? "" : name.substr(0, dot);
  }

  template <class M>
  explicit CompactParts(M& model) {
    walk(model, *this);
  }

  void operator()(const Path& path, MaskedDeepDAN& dan) {
    dans.push_back({path.str(), &dan});
    first_.insert(&dan.layer_first);
    last_.insert(&dan.layer_out);
    const auto inside = [&](auto& part) { walk(part, [&](const Path&, auto& any) { inside_.insert(&any); }); };
    inside(dan.layers_main_hidden);
    inside(dan.layers_skip_hidden);
    inside(dan.layer_normalizations);
    inside(dan.layers_hidden);
  }
  void operator()(const Path& path, MaskedLinearLayer& layer) { add(path, layer); }
  void operator()(const Path& path, MaskedConv2d& layer) { add(path, layer); }
  void operator()(const Path& path, Conv2d& layer) { add(path, layer); }
  template <int Least, int Most>
  void operator()(const Path&, BatchNorm<Least, Most>& norm) {
    if (norm.weight) norms.push_back({&*norm.weight, &norm.running_mean, &norm.running_var});
  }
  void operator()(const Path& path, Param& param) {
    // With layer norm the layers of a network on a graph are read one by one; else only the whole is.
    const bool inside = inside_.contains(&param);
    if (inside && !dans.back().model->options().use_layer_norm) return;
    params.push_back({path.str(), &param, inside || in_layer_.contains(&param)});
  }

 private:
  template <class Layer>
  void add(const Path& path, Layer& layer) {
    in_layer_.insert(&layer.weight);
    if (layer.bias) in_layer_.insert(&*layer.bias);
    if constexpr (requires { layer.alphas(); })
      if (layer.learnable()) in_layer_.insert(&layer.alphas());
    weights.push_back(&layer.weight);
    if constexpr (std::is_same_v<Layer, Conv2d>) grouped += layer.options.groups > 1;
    if constexpr (std::is_same_v<Layer, MaskedConv2d>) grouped += layer.options().conv.groups > 1;
    if (inside_.contains(&layer)) return;
    layers.push_back({path.str(), &layer.weight,
                      [&layer](std::span<const std::int32_t> outputs, std::span<const std::int32_t> inputs) {
                        layer.keep(outputs, inputs);
                      },
                      first_.contains(&layer), last_.contains(&layer)});
  }

  std::unordered_set<const void*> inside_, first_, last_, in_layer_;
};

/// Who owns the parameters of a model, by their nodes.
inline std::unordered_map<const Node*, ParamOwner> owners_of(const CompactParts& parts) {
  std::unordered_map<const Node*, ParamOwner> owners;
  const auto set = [&](const Param& p, ParamOwner::Kind kind, std::size_t number = 0) {
    owners[p.var().node().get()] = {kind, number};
  };
  for (const auto& p : parts.params) set(*p.param, ParamOwner::plain);
  for (const Param* w : parts.weights) set(*w, ParamOwner::layer);
  for (const auto& n : parts.norms) set(*n.weight, ParamOwner::norm);
  for (std::size_t k = 0; k < parts.dans.size(); ++k) {
    const MaskedDeepDAN& dan = *parts.dans[k].model;
    if (dan.layers_hidden) set(dan.layers_hidden->weight, ParamOwner::dag, k);
  }
  return owners;
}

/// The vertices of a network on a graph that stay; nothing if they are not known.
inline std::optional<std::vector<std::int32_t>> vertices_that_stay(const UnitFlow& flow, const MaskedDeepDAN& traced,
                                                                   std::size_t number) {
  std::vector<std::int32_t> vertices;
  if (traced.layers_hidden) {
    const auto& stays = flow.dag(number).stays;
    if (stays.empty()) return std::nullopt;
    for (std::size_t v = 0; v < stays.size(); ++v)
      if (stays[v]) vertices.push_back(static_cast<std::int32_t>(v));
    return vertices;
  }
  std::int64_t first = 0;
  for (std::int64_t l = 0; l < traced.num_layers(); first += traced.layer_size(l++)) {
    const auto places = flow.kept(l == 0 ? traced.layer_first.weight : traced.layers_main_hidden[l - 1].weight, 0);
    if (!places) return std::nullopt;
    for (const std::int32_t p : *places) vertices.push_back(static_cast<std::int32_t>(first + p));
  }
  return vertices;
}

/// Constants of units that go, into the biases of the parts to be cut, which are those traced, in the same order.
inline void fold_constants(const UnitFlow& flow, const CompactParts& traced, const CompactParts& parts) {
  const auto add = [](Tensor& to, const std::vector<double>& by, double sign) {
    for (std::int64_t k = 0; k < to.size(); ++k)
      if (by[k] != 0) to(k) = static_cast<float>(double{to(k)} + sign * by[k]);
  };
  for (std::size_t k = 0; k < parts.norms.size(); ++k)  // x is less by what is gone, and so is its mean
    if (const auto* by = flow.shift(*traced.norms[k].weight)) add(*parts.norms[k].mean, *by, -1);
  for (std::size_t k = 0; k < parts.params.size(); ++k) {
    const Param& from = *traced.params[k].param;
    const bool norm = std::ranges::any_of(traced.norms, [&](const auto& n) { return n.weight == &from; });
    if (const auto* by = norm ? nullptr : flow.shift(from)) add(parts.params[k].param->mutable_value(), *by, 1);
  }
  for (std::size_t k = 0; k < parts.dans.size(); ++k)
    if (traced.dans[k].model->layers_hidden && !flow.dag(k).stays.empty())
      parts.dans[k].model->shift_biases(flow.dag(k).shift);
}

/// Cuts all parts down to what stays; calls note(name of the module, places that stay, places before).
template <class Note>
void cut(const UnitFlow& flow, const CompactParts& traced, const CompactParts& parts, Note&& note) {
  for (std::size_t k = 0; k < parts.norms.size(); ++k)
    if (const auto kept = flow.kept(*traced.norms[k].weight, 0))
      for (Tensor* t : {parts.norms[k].mean, parts.norms[k].variance})
        if (static_cast<std::int64_t>(kept->size()) < t->size()) *t = pick(*t, 0, *kept);
  for (std::size_t k = 0; k < parts.layers.size(); ++k) {
    const auto& layer = parts.layers[k];
    const Param& weight = *traced.layers[k].weight;
    const auto outputs = flow.kept(weight, 0), inputs = flow.kept(weight, 1);
    if (!outputs || !inputs) continue;
    layer.keep(layer.first_of_dan ? all_units(flow.places(weight, 0)) : *outputs,
               layer.last_of_dan ? all_units(flow.places(weight, 1)) : *inputs);
    if (!layer.first_of_dan) note(layer.name, *outputs, flow.places(weight, 0));
  }
  for (std::size_t k = 0; k < parts.params.size(); ++k) {
    const auto& plain = parts.params[k];
    if (plain.cut_elsewhere) continue;
    for (int dim = 0; dim < plain.param->shape().rank(); ++dim)
      if (const auto kept = flow.kept(*traced.params[k].param, dim)) {
        keep(*plain.param, dim, *kept);
        note(CompactParts::module_of(plain.name), *kept, flow.places(*traced.params[k].param, dim));
      }
  }
  for (std::size_t k = 0; k < parts.dans.size(); ++k) {
    MaskedDeepDAN& dan = *parts.dans[k].model;
    const std::int64_t vertices = dan.wiring()->vertices, first = dan.layer_size(0);
    const auto kept = vertices_that_stay(flow, *traced.dans[k].model, k);
    if (!kept) continue;
    const std::vector<std::int32_t> all = dan.keep(*kept);
    const std::string inside = parts.dans[k].name.empty() ? "" : parts.dans[k].name + ".";
    note(inside + "layers_hidden", all, vertices);
    note(inside + "layer_first", std::span(all.begin(), std::lower_bound(all.begin(), all.end(), first)), first);
  }
}

/// Multiply-adds of a step of a trace, over all samples: one per edge and place.
inline std::int64_t multiply_adds(const std::vector<Step>& steps, const Step& s) {
  const auto at = [&](int k) -> const Step& { return steps[static_cast<std::size_t>(k)]; };
  // Of a weight as it is used: that its full form holds zeros costs nothing that has to be paid.
  const auto edges = [&](const Step& weight) {
    const Step* w = &weight;
    while (w->op == "reshape") w = &at(w->inputs[0]);
    if (w->op == "place_edges")
      for (const Attribute& a : w->attributes)
        if (const Mask* mask = std::get_if<Mask>(&a.value)) return mask->nnz();
    return w->value.size();
  };
  const Shape& y = s.value.shape();
  if (s.op == "matmul") {
    const Step &a = at(s.inputs[0]), &b = at(s.inputs[1]);
    const bool matrices = s.attributes.size() == 2 && b.value.shape().rank() == 2;
    return matrices ? y[0] * edges(b) : y.size() * a.value.shape()[a.value.shape().rank() - 1];
  }
  if (s.op == "sparse_linear" || s.op == "layered_dag") {
    const Step& w = at(s.inputs[1]);
    if (w.op == "leaf" && !w.value.wants_grad()) return 0;  // picks vertices
    return y[0] * w.value.size();
  }
  if (s.op == "conv2d" || s.op == "sparse_conv2d") return y[0] * y[2] * y[3] * edges(at(s.inputs[1]));
  return 0;
}
/// Multiply-adds of one sample in a trace of two.
inline std::int64_t multiply_adds(const std::vector<Step>& steps) {
  std::int64_t sum = 0;
  for (const Step& s : steps) sum += multiply_adds(steps, s);
  return sum / 2;
}

}  // namespace detail

}  // namespace deepstruct
