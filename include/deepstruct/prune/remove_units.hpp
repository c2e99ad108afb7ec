// Removing whole units from a model: their edges first, then the units themselves.
#pragma once

#include <set>

#include "../transform/unit_groups.hpp"

namespace deepstruct {

namespace detail {

/// Takes all edges of some units out of a model, part by part.
class UnitEmptier {
  /// Of output and place along extent 1 of a convolution's weight, the input channel.
  static auto input_of(const Shape& weight, std::int64_t groups) {
    return [depth = weight[1], rows = std::max<std::int64_t>(1, weight[0] / groups)](
               std::int64_t output, std::int64_t k) { return depth * (output / rows) + k; };
  }

 public:
  explicit UnitEmptier(std::span<const UnitGroup> groups) {
    for (const UnitGroup& g : groups)
      for (const UnitGroup::Member& m : g.members)
        units_[m.name()][static_cast<std::size_t>(m.extent)].push_back(m.unit);
  }

  void operator()(const Path& path, MaskedDeepDAN& dan) {
    const std::vector<std::int32_t>* vertices = find(Path{&path, "layers_hidden"}.str(), 0);
    if (!vertices) return;
    const std::vector<char> gone = flags(vertices, dan.wiring()->vertices);
    std::vector<std::int64_t> first{0};
    for (std::int64_t l = 0; l < dan.num_layers(); ++l) first.push_back(first.back() + dan.layer_size(l));
    if (dan.layers_hidden) {
      std::vector<std::int32_t> target;  // of every branch
      const DagWiring& w = *dan.wiring();
      for (std::int64_t v = w.inputs; v < w.vertices; ++v)
        for (std::int64_t r = w.row_of(v - w.inputs); r < w.row_of(v + 1 - w.inputs); ++r)
          target.push_back(static_cast<std::int32_t>(v));
      dan.layers_hidden->set_mask(dan.layers_hidden->mask().filter([&](std::int32_t, std::int64_t r, std::int64_t c) {
        return !gone[target[static_cast<std::size_t>(r)]] && !gone[c];
      }));
      return;
    }
    for (const LayerPair& p : dan.connections())
      dan.set_mask(p.source, p.target,
                   dan.mask(p.source, p.target).filter([&](std::int32_t, std::int64_t r, std::int64_t c) {
                     return !gone[first[p.target] + r] && !gone[first[p.source] + c];
                   }));
  }
  void operator()(const Path& path, MaskedLinearLayer& layer) {
    const auto [rows, cols] = of(path, layer.out_features(), layer.in_features());
    if (rows.empty()) return;
    const auto gone = [&r = rows, &c = cols](std::int64_t i, std::int64_t k) { return r[i] || c[k]; };
    auto& mask = std::get<2>(MaskedLinearLayer::fields(layer)).value;
    if (std::holds_alternative<Mask>(mask))
      return layer.set_mask(
          layer.mask().filter([&](std::int32_t, std::int64_t r, std::int64_t c) { return !gone(r, c); }));
    // Other factors and alphas stay what they are.
    Tensor* soft = std::get_if<Tensor>(&mask);
    Tensor& values = soft ? *soft : std::get<Param>(mask).mutable_value();
    for (std::int64_t r = 0; r < layer.out_features(); ++r)
      for (std::int64_t c = 0; c < layer.in_features(); ++c) {
        if (!gone(r, c)) continue;
        if (soft) {
          values(r, c) = 0;
        } else {
          values(r, c, 0) = 10;
          values(r, c, 1) = -10;
        }
      }
  }
  void operator()(const Path& path, MaskedConv2d& layer) {
    const auto [rows, cols] = of(path, layer.out_channels(), layer.in_channels());
    if (rows.empty()) return;
    const Shape w = layer.weight_shape();
    const auto input = input_of(w, layer.options().conv.groups);
    layer.set_mask(layer.mask().filter([&, &r = rows, &c = cols](std::int32_t, std::int64_t o, std::int64_t k) {
      return !r[o] && !c[input(o, k / (w[2] * w[3]))];
    }));
  }
  void operator()(const Path& path, Conv2d& layer) {
    const auto [rows, cols] = of(path, layer.out_channels(), layer.in_channels());
    if (rows.empty()) return;
    const auto input = input_of(layer.weight.shape(), layer.options.groups);
    zero(layer.weight, [&, &r = rows, &c = cols](const std::array<std::int64_t, 4>& at) {
      return r[at[0]] || c[input(at[0], at[1])];
    });
  }
  /// Linear maps of other parts, and what is counted by unit alone: biases and scales stay.
  void operator()(const Path& path, Param& param) {
    const std::string name = path.str();
    const auto found = units_.find(name);
    if (found == units_.end() || done_.contains(name) || param.shape().rank() < 2) return;
    std::array<std::vector<char>, Shape::max_rank> gone;
    for (int d = 0; d < param.shape().rank(); ++d)
      gone[static_cast<std::size_t>(d)] = flags(find(name, static_cast<std::size_t>(d)), param.shape()[d]);
    zero(param, [&](const std::array<std::int64_t, 4>& at) {
      bool any = false;
      for (std::size_t d = 0; d < gone.size(); ++d) any |= !gone[d].empty() && gone[d][at[d]];
      return any;
    });
  }

 private:
  using Units = std::array<std::vector<std::int32_t>, Shape::max_rank>;

  const std::vector<std::int32_t>* find(const std::string& name, std::size_t extent) const {
    const auto found = units_.find(name);
    return found == units_.end() ? nullptr : &found->second[extent];
  }
  static std::vector<char> flags(const std::vector<std::int32_t>* units, std::int64_t n) {
    std::vector<char> set(static_cast<std::size_t>(n), 0);
    for (std::size_t k = 0; units && k < units->size(); ++k) {
      check((*units)[k] >= 0 && (*units)[k] < n, "empty_units: the model has no such unit (", (*units)[k], " of ", n,
            ")");
      set[(*units)[k]] = 1;
    }
    return set;
  }
  /// Which outputs and inputs of a layer go; empty: none.
  std::pair<std::vector<char>, std::vector<char>> of(const Path& path, std::int64_t outputs, std::int64_t inputs) {
    const std::string weight = Path{&path, "weight"}.str();
    done_.insert(weight);
    if (!units_.contains(weight)) return {};
    return {flags(find(weight, 0), outputs), flags(find(weight, 1), inputs)};
  }
  template <class Gone>
  static void zero(Param& param, Gone&& gone) {
    Tensor& t = param.mutable_value();
    const Shape& s = t.shape();
    std::array<std::int64_t, 4> at{};
    for (at[0] = 0; at[0] < s[0]; ++at[0])
      for (at[1] = 0; at[1] < s[1]; ++at[1])
        for (at[2] = 0; at[2] < s[2]; ++at[2])
          for (at[3] = 0; at[3] < s[3]; ++at[3])
            if (gone(at)) t(at[0], at[1], at[2], at[3]) = 0;
  }

  std::map<std::string, Units> units_;  // by parameter and extent
  std::set<std::string> done_;
};

/// Multiply-adds of one sample, in evaluation.
template <class M>
std::int64_t sample_multiply_adds(M model, const Shape& example_shape) {
  no_grad guard;
  if (device_of(model) != Device::cpu) to(model, Device::cpu);
  set_training(model, false);
  return multiply_adds(steps_of(model, Tensor::ones(with_extent(example_shape, 0, 2))));
}

}  // namespace detail

/// Takes all edges into and out of the units of some groups: masks lose them, and where a layer has no mask its weights
/// become 0. The function is the one that remove_units gives, up to roundings; shapes stay. Throws on a unit that the
/// model does not have.
template <class M>
void empty_units(M& model, std::span<const UnitGroup> groups) {
  M next = model;
  on_host(next, [&](M& host) {
    detail::UnitEmptier emptier(groups);
    walk(host, emptier);
  });
  model = std::move(next);
}

namespace detail {

/// remove_units of groups that are known to be those of the model.
template <class M>
Compacted<M> remove_groups(const M& model, const Shape& example_shape, std::span<const UnitGroup> groups) {
  typename TracedModel<M>::Gone gone;
  for (const UnitGroup& g : groups)
    for (const UnitGroup::Member& m : g.members)
      if (m.extent == 1) gone[m.name()].push_back(m.unit);
  M emptied = model;
  empty_units(emptied, groups);
  Compacted<M> result = compact_without(emptied, example_shape, {}, gone);
  std::set<std::string> packed;  // networks on graphs that need no vertex to keep layers apart
  each<MaskedDeepDAN>(model, [&](const std::string& name, const MaskedDeepDAN& dan) {
    if (dan.layers_hidden) packed.insert((name.empty() ? "" : name + ".") + "layers_hidden");
  });
  for (const UnitGroup& g : groups)
    for (const UnitGroup::Member& m : g.members) {
      const auto map = result.units.find(m.module);
      if (m.parameter.empty() && !packed.contains(m.module)) continue;
      if (m.extent != 0 || (m.parameter != "weight" && !m.parameter.empty()) || map == result.units.end()) continue;
      check(map->second[m.unit] < 0, "remove_units: a unit does not go without others (", m.name(), " ", m.unit, ")");
    }
  // Told against the model as it was given, not as it was emptied.
  const std::int64_t after = result.report.multiply_adds;
  result.report = report_of(ModelSize(model), ModelSize(result.model), result.units);
  result.report.multiply_adds_before = sample_multiply_adds(model, example_shape);
  result.report.multiply_adds = after;
  return result;
}

}  // namespace detail

/// The model without the units of some of its groups, compacted: layers shrink, values move with optimizer slots, and
/// whatever no longer says anything goes too. The model itself stays as it is.
///
/// A unit that goes gives nothing to anyone any more, its bias included; layers that only it kept from being constant
/// become so and are folded (see compact). Throws on what is no group of the model, on a group that has to stay, and as
/// compact.
template <class M>
Compacted<M> remove_units(const M& model, const Shape& example_shape, std::span<const UnitGroup> groups) {
  const std::vector<UnitGroup> all = unit_groups(model, example_shape);
  for (const UnitGroup& g : groups) {
    check(!g.members.empty(), "remove_units: a group has members (0)");
    const auto found = std::ranges::find(all, g.members, &UnitGroup::members);
    check(found != all.end(), "remove_units: these units are no group of the model (", g.members[0].name(), " ",
          g.members[0].unit, " with ", g.members.size() - 1, " others; see unit_groups)");
    check(found->may_go(), "remove_units: a unit has to stay (", g.members[0].name(), " ", g.members[0].unit, ", for ",
          found->fixed, ")");
  }
  return detail::remove_groups(model, example_shape, groups);
}

}  // namespace deepstruct
