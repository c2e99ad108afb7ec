// compact: the same network without the units that say nothing.
#pragma once

#include <map>
#include <ostream>

#include "compact_parts.hpp"

namespace deepstruct {

/// Options of compact.
struct CompactOptions {
  /// An edge with the weight 0 connects: it may have just grown, and training can use it. If not, weights of exactly 0
  /// count as missing, in layers without a mask too.
  bool zeros_are_edges = true;
};

/// What compact did, and the sizes before and after.
struct CompactReport {
  struct Layer {
    std::string name;  ///< of the module; "layers_hidden" behind that of a MaskedDeepDAN for all its hidden vertices
    std::int64_t units_before = 0, units = 0;            ///< outputs, channels, vertices
    std::int64_t parameters_before = 0, parameters = 0;  ///< entries of its own parameters
  };
  std::vector<Layer> layers;                                 ///< those with units, in the order of the modules
  std::int64_t parameters_before = 0, parameters = 0;        ///< entries of all parameters
  std::int64_t bytes_before = 0, bytes = 0;                  ///< of parameters and optimizer slots
  std::int64_t multiply_adds_before = 0, multiply_adds = 0;  ///< of one sample, one per edge and place

  std::int64_t removed_units() const {
    std::int64_t n = 0;
    for (const Layer& l : layers) n += l.units_before - l.units;
    return n;
  }
  /// A line per layer, and the sums.
  void write(std::ostream& out) const {
    for (const Layer& l : layers)
      out << (l.name.empty() ? "(model)" : l.name) << ": units " << l.units_before << " -> " << l.units
          << ", parameters " << l.parameters_before << " -> " << l.parameters << '\n';
    out << "parameters " << parameters_before << " -> " << parameters << ", bytes " << bytes_before << " -> " << bytes
        << ", multiply-adds " << multiply_adds_before << " -> " << multiply_adds << '\n';
  }
};

/// A smaller network, what became of it, and where its units are.
template <class M>
struct Compacted {
  M model;
  CompactReport report;
  /// Of every module with units: old unit → new unit, −1 where it is gone.
  std::map<std::string, std::vector<std::int32_t>> units;
};

namespace detail {

/// Entries of parameters by module, and sums over a model.
struct ModelSize {
  std::vector<std::string> modules;  ///< in order
  std::map<std::string, std::int64_t> entries;
  std::int64_t parameters = 0, bytes = 0;

  template <class M>
  explicit ModelSize(const M& model) {
    std::vector<std::string> dans;
    each<MaskedDeepDAN>(model, [&](const std::string& name, const MaskedDeepDAN&) { dans.push_back(name); });
    each_param(model, [&](const std::string& name, const Param& p) {
      const auto [at, fresh] = entries.emplace(module_of(name, dans), 0);
      if (fresh) modules.push_back(at->first);
      at->second += p.size();
      parameters += p.size();
      bytes += 4 * p.size() * static_cast<std::int64_t>(1 + p.slots().size());
    });
  }
  /// The name of a parameter without its last part; all within a network on a graph is its layers_hidden.
  static std::string module_of(const std::string& name, const std::vector<std::string>& dans) {
    for (const std::string& dan : dans) {
      const std::string inside = dan.empty() ? "" : dan + ".";
      if (!name.starts_with(inside)) continue;
      const std::string_view rest = std::string_view(name).substr(inside.size());
      if (rest.starts_with("layers_") || rest.starts_with("layer_normalizations.")) return inside + "layers_hidden";
    }
    return CompactParts::module_of(name);
  }
};

inline CompactReport report_of(const ModelSize& before, const ModelSize& after,
                               const std::map<std::string, std::vector<std::int32_t>>& units) {
  CompactReport report;
  const auto entries = [](const ModelSize& size, const std::string& name) {
    const auto found = size.entries.find(name);
    return found == size.entries.end() ? std::int64_t{0} : found->second;
  };
  const auto add = [&](const std::string& name, const std::vector<std::int32_t>& map) {
    const auto gone = std::count(map.begin(), map.end(), -1), all = static_cast<std::ptrdiff_t>(map.size());
    report.layers.push_back({name, all, all - gone, entries(before, name), entries(after, name)});
  };
  for (const std::string& name : before.modules)
    if (const auto map = units.find(name); map != units.end()) add(name, map->second);
  for (const auto& [name, map] : units)  // vertices without a parameter
    if (!before.entries.contains(name)) add(name, map);
  report.parameters_before = before.parameters;
  report.parameters = after.parameters;
  report.bytes_before = before.bytes;
  report.bytes = after.bytes;
  return report;
}

/// Everything the model computes of an example, in evaluation.
template <class M>
std::vector<Step> steps_of(const M& model, const Tensor& example) {
  return trace_function([&](const Var& x) { return model(x); }, Var(example));
}

/// A copy of a model whose trace shows its units, and that trace, in evaluation.
template <class M>
struct TracedModel {
  M model;
  CompactParts parts;
  std::vector<Step> steps;
  std::unordered_map<const Node*, ParamOwner> owners;

  TracedModel(const M& of, const Tensor& example)
      : model(readable(of)), parts(model), steps(steps_of(model, example)), owners(owners_of(parts)) {}
  TracedModel(const TracedModel&) = delete;

  static M readable(M model) {
    set_training(model, false);
    each<MaskedDeepDAN>(model, [](MaskedDeepDAN& dan) {
      if (!dan.options().use_layer_norm) dan.pack();  // one op, whose vertices can be read one by one
    });
    return model;
  }
  /// Names of weights, and the places along their extent 1 that count as missing.
  using Gone = std::map<std::string, std::vector<std::int32_t>>;
  UnitFlow flow(bool zeros_are_edges, const Gone& gone = {}) const {
    std::vector<std::shared_ptr<const DagWiring>> wirings;
    for (const auto& d : parts.dans) wirings.push_back(d.model->wiring());
    UnitFlow::Gone nodes;
    for (const auto& p : parts.params)
      if (const auto found = gone.find(p.name); found != gone.end())
        nodes.emplace(p.param->var().node().get(), found->second);
    return UnitFlow(steps, owners, std::move(wirings), zeros_are_edges, std::move(nodes));
  }
};

/// Cuts a model down once, and the maps of its units; returns the trace of before.
template <class M>
std::vector<Step> compact_pass(M& model, const Tensor& example, const CompactOptions& options,
                               const typename TracedModel<M>::Gone& gone,
                               std::map<std::string, std::vector<std::int32_t>>& units) {
  TracedModel<M> traced(model, example);
  const CompactParts &before = traced.parts, parts(model);
  const UnitFlow flow = traced.flow(options.zeros_are_edges, gone);
  fold_constants(flow, before, parts);
  std::map<std::string, std::vector<std::int32_t>> places;  // the first extent of a module that counts units says which
  cut(flow, before, parts, [&](const std::string& name, std::span<const std::int32_t> kept, std::int64_t n) {
    places.emplace(name, places_of(kept, n));
  });
  for (auto& [name, place] : places) {
    const auto known = units.find(name);
    if (known == units.end()) {
      units.emplace(name, std::move(place));
      continue;
    }
    for (std::int32_t& u : known->second)
      if (u >= 0) u = place[u];
  }
  return std::move(traced.steps);
}

/// compact, where the edges from some inputs of weights count as missing.
template <class M>
Compacted<M> compact_without(const M& model, const Shape& example_shape, const CompactOptions& options,
                             const typename TracedModel<M>::Gone& gone) {
  check(example_shape.rank() >= 1 && example_shape.size() > 0, "compact: the example needs samples and extents (",
        example_shape, ")");
  if (const Device device = device_of(model); device != Device::cpu) {
    M host = model;
    Compacted<M> result = compact_without(to(host, Device::cpu), example_shape, options, gone);
    to(result.model, device);
    return result;
  }
  no_grad guard;
  const Tensor example = Tensor::ones(with_extent(example_shape, 0, 2));
  Compacted<M> result{model, {}, {}};
  const auto grouped = [&] { return CompactParts(result.model).grouped; };
  std::int64_t groups = grouped();
  const std::vector<Step> before = compact_pass(result.model, example, options, gone, result.units);
  // The outputs of a convolution in groups, of which one is left, need not go together any more.
  while (grouped() < groups) {
    groups = grouped();
    compact_pass(result.model, example, options, {}, result.units);
  }
  M evaluated = result.model;
  set_training(evaluated, false);
  const std::vector<Step> after = steps_of(evaluated, example);
  check(after.back().value.shape() == before.back().value.shape(), "compact: the smaller model gives another shape (",
        after.back().value.shape(), " and ", before.back().value.shape(), ")");
  result.report = report_of(ModelSize(model), ModelSize(result.model), result.units);
  result.report.multiply_adds_before = multiply_adds(before);
  result.report.multiply_adds = multiply_adds(after);
  return result;
}

}  // namespace detail

/// The same function in a smaller network: every unit (neuron, channel, vertex) that no input reaches or that reaches
/// no output is removed, layers shrink and are numbered anew, and values move with optimizer slots. What a unit that is
/// constant gave, w·c, goes into the biases of those that read it. The model itself stays as it is.
///
/// The flow of data is read from the trace of model(ones of example_shape) in evaluation, not from the order of parts.
/// Units that meet (in a sum, under one mask) go together or not at all. What stays though it says nothing: inputs and
/// outputs; units of a layer norm, whose statistics count them; constants that nothing can take (no bias, or padding
/// around an image that is not 0); whatever is read by an op that is not known here; what slices count; channels of
/// groups with several. Parts that call nothing of the model in evaluation are left alone. Connections are edges of
/// masks, and all weights of layers without one; options can make weights of 0 missing.
///
/// Outputs agree to roundings; where nothing goes, to the bit. O(parameters + edges) per pass over the trace, of which
/// there is one more than units that stay for another's sake ask for. Throws if the result does not depend on the
/// input, or if the model does not run in its smaller form: then it has extents in its code.
template <class M>
Compacted<M> compact(const M& model, const Shape& example_shape, const CompactOptions& options = {}) {
  return detail::compact_without(model, example_shape, options, {});
}

}  // namespace deepstruct
