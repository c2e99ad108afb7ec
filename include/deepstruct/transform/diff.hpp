// What differs between two masks, two graphs, two models: edges that came and went, weights that changed.
#pragma once

#include <cmath>
#include <ostream>
#include <set>

#include "../nn/masked_linear.hpp"
#include "graph_diff.hpp"
#include "mask_diff.hpp"

namespace deepstruct {

/// How a masked layer differs between two models.
struct LayerDiff {
  std::string name;
  MaskDiff edges;
  std::int64_t changed = 0;  ///< edges of both with another weight
  double max_change = 0;  ///< max |w_b − w_a| over the edges of both; NaN if one weight is NaN and the other is not
  double rms_change = 0;  ///< √(Σ (w_b − w_a)² / kept) over the edges of both
};
/// How a parameter that no mask belongs to differs between two models.
struct ParamDiff {
  std::string name;
  bool changed = false;
  double max_change = 0;  ///< max |x_b − x_a|
};

/// How two models of one structure differ.
struct ModelDiff {
  std::vector<LayerDiff> layers;  ///< masked layers, in the order of the fields
  std::vector<ParamDiff> params;  ///< all but the weights of masked layers

  /// All masked layers together, named "total".
  LayerDiff total() const {
    LayerDiff all{.name = "total", .edges = {}};
    double squares = 0;
    for (const LayerDiff& l : layers) {
      all.edges += l.edges;
      all.changed += l.changed;
      if (std::isnan(l.max_change) || l.max_change > all.max_change) all.max_change = l.max_change;
      squares += l.rms_change * l.rms_change * static_cast<double>(l.edges.kept);
    }
    if (all.edges.kept > 0) all.rms_change = std::sqrt(squares / static_cast<double>(all.edges.kept));
    return all;
  }
  /// True if all masks, weights of existing edges and parameters are the same.
  bool empty() const {
    const LayerDiff all = total();
    return all.edges.empty() && all.changed == 0 &&
           std::none_of(params.begin(), params.end(), [](const ParamDiff& p) { return p.changed; });
  }
  /// A line for every masked layer, one for all of them, one for every other parameter that changed.
  void write(std::ostream& out) const {
    std::vector<LayerDiff> lines = layers;
    lines.push_back(total());
    for (const LayerDiff& l : lines)
      out << (l.name.empty() ? "(model)" : l.name) << ": " << l.edges.added << " added, " << l.edges.removed
          << " removed, " << l.edges.kept << " kept (jaccard " << l.edges.jaccard() << ", overlap " << l.edges.overlap()
          << "), " << l.changed << " weights changed (max " << l.max_change << ", rms " << l.rms_change << ")\n";
    for (const ParamDiff& p : params)
      if (p.changed) out << p.name << ": changed (max " << p.max_change << ")\n";
  }
};

namespace detail {

/// Greatest and mean square difference of numbers.
struct NumberChange {
  std::int64_t changed = 0, count = 0;
  double greatest = 0, squares = 0;

  void add(float before, float after) {
    ++count;
    if (same_number(double{before}, double{after})) return;
    ++changed;
    const double by = std::abs(double{after} - double{before});
    if (std::isnan(by) || by > greatest) greatest = by;
    squares += by * by;
  }
  double rms() const { return count == 0 ? 0 : std::sqrt(squares / static_cast<double>(count)); }
};

/// Weights of a masked layer: edge e at row r and column c is entry e when packed, else r·columns + c.
template <class L>
std::vector<float> layer_weights(const L& layer) {
  return (layer.packed() ? layer.weight.value() : layer.effective_weight()).to_vector();
}

/// What diff needs of a model: its masked layers and the other parameters.
struct ModelParts {
  struct Layer {
    std::string name;
    Mask mask;
    bool packed;
    std::vector<float> weights;
  };
  std::vector<Layer> layers;
  std::vector<std::pair<std::string, Tensor>> params;
};
template <class M>
ModelParts parts_of(const M& model) {
  ModelParts parts;
  std::set<const void*> masked;
  each_masked(model, [&](const std::string& name, const auto& layer) {
    masked.insert(&layer.weight);
    parts.layers.push_back({name, layer.mask(), layer.packed(), layer_weights(layer)});
  });
  each_param(model, [&](const std::string& name, const Param& p) {
    if (!masked.contains(&p)) parts.params.emplace_back(name, p.value());
  });
  return parts;
}
inline LayerDiff diff_layers(const ModelParts::Layer& a, const ModelParts::Layer& b) {
  LayerDiff d{.name = a.name, .edges = {}};
  NumberChange weights;
  const std::int64_t cols = a.mask.cols();
  merge_edges(a.mask, b.mask, [&](std::int64_t r, std::int64_t c, std::int32_t ea, std::int32_t eb) {
    d.edges.added += ea < 0;
    d.edges.removed += eb < 0;
    if (ea < 0 || eb < 0) return;
    weights.add(a.weights[a.packed ? ea : r * cols + c], b.weights[b.packed ? eb : r * cols + c]);
  });
  d.edges.kept = weights.count;
  d.changed = weights.changed;
  d.max_change = weights.greatest;
  d.rms_change = weights.rms();
  return d;
}
inline ModelDiff diff_parts(const ModelParts& a, const ModelParts& b) {
  check(a.layers.size() == b.layers.size() && a.params.size() == b.params.size(), "diff: models differ in structure (",
        a.layers.size(), " masked layers, ", a.params.size(), " other parameters and ", b.layers.size(), ", ",
        b.params.size(), ")");
  ModelDiff d;
  for (std::size_t k = 0; k < a.layers.size(); ++k) {
    const auto &x = a.layers[k], &y = b.layers[k];
    check(x.name == y.name && x.mask.shape() == y.mask.shape(), "diff: models differ in structure (", x.name, " ",
          x.mask.shape(), " and ", y.name, " ", y.mask.shape(), ")");
    d.layers.push_back(diff_layers(x, y));
  }
  for (std::size_t k = 0; k < a.params.size(); ++k) {
    const auto& [name, x] = a.params[k];
    const auto& [other, y] = b.params[k];
    check(name == other && x.shape() == y.shape(), "diff: models differ in structure (", name, " ", x.shape(), " and ",
          other, " ", y.shape(), ")");
    NumberChange change;
    const std::vector<float> before = x.to_vector(), after = y.to_vector();
    for (std::size_t e = 0; e < before.size(); ++e) change.add(before[e], after[e]);
    d.params.push_back({name, change.changed > 0, change.greatest});
  }
  return d;
}

}  // namespace detail

/// How b differs from a: per masked layer (linear or convolution, under its dotted name) the edges that came, went and
/// stayed and how the weights of those that stayed changed; which other parameters changed.
///
/// One may be packed and the other full: what stands behind a mask does not count. A packed MaskedDeepDAN and one by
/// pairs of layers have different structures. O(parameters). Throws unless masked layers and other parameters have the
/// same names and shapes.
template <Module M>
ModelDiff diff(const M& a, const M& b) {
  return detail::diff_parts(detail::parts_of(a), detail::parts_of(b));
}

/// 1 − |A ∩ B| / |A ∪ B|, of the edges as they are numbered: 0 if they are the same, 1 if none is in both (Jaccard
/// 1901). Throws on different shapes.
inline double jaccard_distance(const Mask& a, const Mask& b) { return 1 - diff(a, b).jaccard(); }
/// The same of all edges of two graphs, by ids.
inline double jaccard_distance(const LayeredGraph& a, const LayeredGraph& b) { return 1 - diff(a, b).jaccard(); }
/// The same of all masked layers of two models together. Throws as diff does.
template <Module M>
double jaccard_distance(const M& a, const M& b) {
  return 1 - diff(a, b).total().edges.jaccard();
}

}  // namespace deepstruct
