// Groups of units: what goes together when a neuron, a channel or a vertex goes.
#pragma once

#include "compact.hpp"

namespace deepstruct {

/// Units (neurons, channels, vertices) that go or stay together: those that meet in a sum, those that one parameter
/// counts, and the inputs of all that read them. They are the dependency groups of Fang et al. 2023 (DepGraph).
struct UnitGroup {
  /// A place along an extent of a parameter: 0, outputs and features; 1, inputs.
  struct Member {
    std::string module;     ///< "layers_hidden" behind the name of a MaskedDeepDAN for its vertices
    std::string parameter;  ///< such as "weight"; empty for a vertex
    int extent = 0;
    std::int32_t unit = 0;
    friend bool operator==(const Member&, const Member&) = default;
    /// The dotted name of the parameter.
    std::string name() const {
      return module.empty() || parameter.empty() ? module + parameter : module + "." + parameter;
    }
  };
  std::vector<Member> members;
  std::int64_t weights = 0;  ///< entries of parameters that go with it: existing edges, biases, scales
  std::string fixed;         ///< the op for which it has to stay ("input", "output", "layer_norm"); empty: it may go
  bool live = true;          ///< on a way from an input to an output: if not, compact takes it anyway

  bool may_go() const { return fixed.empty(); }
  /// One line, places written as of arrays: "conv1[3], norm1[3], fc[:, 27-35]: 412 weights".
  void write(std::ostream& out) const {
    for (std::size_t k = 0; k < members.size();) {
      const Member& m = members[k];
      std::size_t end = k + 1;
      std::int32_t last = m.unit;
      while (end < members.size() && members[end].name() == m.name() && members[end].extent == m.extent &&
             members[end].unit == last + 1)
        ++end, ++last;
      const std::string who = m.module.empty() ? m.parameter : m.module;
      const auto same = [&](const Member& other) {  // weight and bias are told once
        return !m.module.empty() && other.module == m.module && other.extent == m.extent && other.unit == m.unit &&
               other.parameter != m.parameter;
      };
      if (std::none_of(members.begin(), members.begin() + static_cast<std::ptrdiff_t>(k), same)) {
        out << (k > 0 ? ", " : "") << who << (m.extent > 0 ? "[:, " : "[") << m.unit;
        if (last > m.unit) out << '-' << last;
        out << ']';
      }
      k = end;
    }
    out << ": " << weights << " weights";
    if (!fixed.empty()) out << ", stays (" << fixed << ')';
    if (!live) out << ", dead";
    out << '\n';
  }
};

namespace detail {

/// The edges of a layer, and how its columns count inputs.
struct UnitEdges {
  Mask mask;
  Tensor values;             // [nnz]
  std::int64_t window = 1;   // places of a kernel
  std::int64_t depth, rows;  // inputs and outputs of a convolution's group

  /// Calls f(output, input, value) for every edge.
  template <class F>
  void for_each(F&& f) const {
    mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      f(r, depth * (r / std::max<std::int64_t>(1, rows)) + c / window, values(e));
    });
  }
};

/// Edges of the masked layers and convolutions of a model, by the names of their weights.
class UnitEdgesReader {
 public:
  std::map<std::string, UnitEdges> edges;

  template <class M>
  explicit UnitEdgesReader(const M& model) {
    walk(model, *this);
  }
  void operator()(const Path& path, const MaskedLinearLayer& layer) {
    const Mask mask = layer.mask();
    add(path, layer, mask, 1, mask.cols(), mask.rows());
  }
  void operator()(const Path& path, const MaskedConv2d& layer) {
    const Shape& w = layer.weight_shape();
    add(path, layer, layer.mask(), w[2] * w[3], w[1], w[0] / layer.options().conv.groups);
  }
  void operator()(const Path& path, const Conv2d& layer) {
    const Shape& w = layer.weight.shape();
    const Mask mask = Mask::ones(w[0], w[1] * w[2] * w[3]);
    no_grad guard;
    Tensor size = map<kernels::fn::abs>(layer.weight.value());
    edges.emplace(name(path), UnitEdges{mask, pick_edges(std::move(size).with_shape(mask.shape()), mask).value(),
                                        w[2] * w[3], w[1], w[0] / layer.options.groups});
  }

 private:
  static std::string name(const Path& path) { return Path{&path, "weight"}.str(); }
  template <class Layer>
  void add(const Path& path, const Layer& layer, const Mask& mask, std::int64_t window, std::int64_t depth,
           std::int64_t rows) {
    no_grad guard;
    Tensor values = layer.weight.value();
    if (!layer.packed()) values = pick_edges(std::move(values).with_shape(mask.shape()), mask).value();
    edges.emplace(name(path), UnitEdges{mask, std::move(values), window, depth, rows});
  }
};

/// All groups of a model, with what belongs to them.
struct UnitTable {
  std::vector<UnitGroup> groups;                  // by number; without members where no parameter counts them
  std::vector<std::vector<std::int32_t>> layers;  // of every group: those it has a unit of, once per unit
  std::vector<std::string> names;                 // of the layers
  std::vector<char> closes;                       // of the layers: without units it vanishes, and others stay

  /// Reads a model on the CPU; calls edge(name of the weight, group of the output, that of the input, saliency) for
  /// every edge; −1 is a group that is not known.
  template <class M, class F>
  UnitTable(const M& model, const Shape& example_shape, F&& edge) {
    check(example_shape.rank() >= 1 && example_shape.size() > 0, "unit_groups: the example needs samples and extents (",
          example_shape, ")");
    no_grad guard;
    TracedModel<M> traced(model, Tensor::ones(with_extent(example_shape, 0, 2)));
    const UnitFlow flow = traced.flow(true);
    groups.resize(static_cast<std::size_t>(flow.group_count()));
    layers.resize(groups.size());
    for (std::size_t g = 0; g < groups.size(); ++g) {
      groups[g].fixed = std::string(flow.fixed_by(static_cast<std::int64_t>(g)));
      if (groups[g].fixed == "layer_norm_rstd") groups[g].fixed = "layer_norm";
      groups[g].live = flow.needed(static_cast<std::int64_t>(g));
    }
    // The same model with saliencies for weights; packing moves both alike.
    M salient = model;
    each_masked(salient, [](auto& layer) { layer.weight.set_value(layer.saliency()); });
    salient = TracedModel<M>::readable(std::move(salient));
    const UnitEdgesReader reader(std::as_const(salient));
    for (const auto& p : traced.parts.params) read(flow, p, reader.edges, edge);
    std::size_t number = 0;
    each<MaskedDeepDAN>(std::as_const(salient), [&](const std::string& name, const MaskedDeepDAN& dan) {
      read(flow.vertex_groups(number++), name, dan, edge);
    });
  }

 private:
  std::int32_t layer(const std::string& name, bool vanishes = false) {
    if (names.empty() || names.back() != name) names.push_back(name), closes.push_back(vanishes);
    return static_cast<std::int32_t>(names.size()) - 1;
  }
  void count(std::int32_t target, std::int32_t source) {
    if (target >= 0) ++groups[target].weights;
    if (source >= 0 && source != target) ++groups[source].weights;
  }

  template <class F>
  void read(const UnitFlow& flow, const CompactParts::Plain& p, const std::map<std::string, UnitEdges>& layers_edges,
            F&& edge) {
    const std::string module = CompactParts::module_of(p.name);
    const std::string parameter = module.empty() ? p.name : p.name.substr(module.size() + 1);
    std::array<std::optional<std::vector<std::int32_t>>, Shape::max_rank> units;
    for (int d = 0; d < Shape::max_rank; ++d) {
      units[static_cast<std::size_t>(d)] = flow.groups(p.param->var(), d);
      const auto& of = units[static_cast<std::size_t>(d)];
      for (std::size_t k = 0; of && k < of->size(); ++k)
        groups[(*of)[k]].members.push_back({module, parameter, d, static_cast<std::int32_t>(k)});
    }
    const auto at = [&](std::size_t d, std::int64_t k) { return units[d] ? (*units[d])[k] : -1; };
    const auto each_edge = [&](std::int64_t r, std::int64_t c, float s) {
      count(at(0, r), at(1, c));
      edge(p.name, at(0, r), at(1, c), s);
    };
    const Tensor& value = p.param->value();
    const auto found = layers_edges.find(p.name);
    if (found != layers_edges.end()) {
      found->second.for_each(each_edge);
    } else if (units[0] && units[1]) {
      const std::int64_t inner = value.size() / std::max<std::int64_t>(1, value.shape()[0] * value.shape()[1]);
      value.for_each([&](std::int64_t k, float w) {
        each_edge(k / inner / value.shape()[1], k / inner % value.shape()[1], std::abs(w));
      });
    } else {
      for (std::size_t d = 0; d < units.size(); ++d)
        for (std::size_t k = 0; units[d] && k < units[d]->size(); ++k)
          groups[(*units[d])[k]].weights += value.size() / static_cast<std::int64_t>(units[d]->size());
      return;
    }
    for (std::size_t k = 0; units[0] && k < units[0]->size(); ++k)
      layers[(*units[0])[k]].push_back(layer(module.empty() ? p.name : module));
  }

  template <class F>
  void read(const std::vector<std::int32_t>& units, const std::string& name, const MaskedDeepDAN& dan, F&& edge) {
    if (units.empty()) return;
    const DagWiring& w = *dan.wiring();
    const Mask mask = dan.layers_hidden->mask();
    const auto start = mask.row_start(), col = mask.col();
    const std::string module = (name.empty() ? "" : name + ".") + "layers_hidden";
    for (std::int64_t l = 0, v = 0; l < dan.num_layers(); ++l) {
      const std::int32_t layer_number = layer(module + " layer " + std::to_string(l), true);
      for (const std::int64_t end = v + dan.layer_size(l); v < end; ++v) {
        groups[units[v]].members.push_back({module, "", 0, static_cast<std::int32_t>(v)});
        layers[units[v]].push_back(layer_number);
        for (std::int64_t r = v < w.inputs ? 0 : w.row_of(v - w.inputs);
             v >= w.inputs && r < w.row_of(v + 1 - w.inputs); ++r) {
          ++groups[units[v]].weights;  // the bias of the branch
          for (std::int32_t e = start[r]; e < start[r + 1]; ++e) {
            count(units[v], units[col[e]]);
            edge(module, units[v], units[col[e]], dan.layers_hidden->weight.value()(e));
          }
        }
      }
    }
    for (const std::int32_t v : w.output) layers[units[v]].push_back(layer(module + " outputs"));
  }
};

}  // namespace detail

/// The groups of a model, from the trace of model(ones of example_shape) in evaluation: what goes together across sums,
/// concatenations, norms, reshapes and networks on graphs, and what has to stay: inputs, outputs, units of a layer
/// norm, whatever compact cannot take. In the order of the trace. Throws as compact. O(parameters + edges).
template <class M>
std::vector<UnitGroup> unit_groups(const M& model, const Shape& example_shape) {
  M host = model;
  if (device_of(host) != Device::cpu) to(host, Device::cpu);
  detail::UnitTable table(host, example_shape, [](const std::string&, std::int32_t, std::int32_t, float) {});
  std::erase_if(table.groups, [](const UnitGroup& g) { return g.members.empty(); });
  return std::move(table.groups);
}

}  // namespace deepstruct
