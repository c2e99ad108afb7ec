// The hidden edges of a MaskedDeepDAN in one CSR of branches, and the same as a masked layer per pair of layers.
#pragma once

#include "dan_layers.hpp"

namespace deepstruct::detail {

/// W ⊙ mask times c.   c [in] → [out]
inline std::vector<double> times(const MaskedLinearLayer& layer, std::span<const double> c) {
  std::vector<double> sum(static_cast<std::size_t>(layer.out_features()), 0);
  const Tensor full = layer.packed() ? Tensor() : layer.effective_weight();
  const Tensor& w = layer.weight.value();
  layer.mask().for_each([&](std::int32_t e, std::int64_t r, std::int64_t k) {
    if (c[k] != 0) sum[r] += c[k] * double{layer.packed() ? w(e) : full(r, k)};
  });
  return sum;
}
/// b += by, where that is not 0.   by [out]
inline void add_to_bias(MaskedLinearLayer& layer, std::span<const double> by) {
  Tensor& b = layer.bias->mutable_value();
  for (std::int64_t r = 0; r < b.size(); ++r)
    if (by[r] != 0) b(r) = static_cast<float>(double{b(r)} + by[r]);
}

/// One packed layer of branches from packed layers, one per pair: values move with the slots of their names.
inline MaskedLinearLayer joined(const DanLayers& layers, std::span<const MaskedLinearLayer> parts) {
  const std::vector<LayerPair> pairs = layers.pairs();
  std::vector<Mask> masks;
  for (const MaskedLinearLayer& part : parts) masks.push_back(part.mask());
  std::vector<std::int32_t> rows{0}, col;
  std::vector<std::pair<std::size_t, std::int64_t>> edge_of, bias_of;  // part and entry within it
  layers.for_each_branch([&](std::size_t number, std::int64_t r, std::int32_t) {
    const Mask& m = masks[number];
    for (std::int32_t e = m.row_start()[r]; e < m.row_start()[r + 1]; ++e) {
      col.push_back(layers.first[pairs[number].source] + m.col()[e]);
      edge_of.emplace_back(number, e);
    }
    rows.push_back(static_cast<std::int32_t>(col.size()));
    bias_of.emplace_back(number, r);
  });
  const Mask mask = Mask::from_csr(layers.wiring->rows(), layers.wiring->vertices, rows, col);
  MaskedLinearLayer all(mask, Tensor::zeros({mask.nnz()}), Tensor::zeros({mask.rows()}), true);
  const auto fill = [&](Param& to, const auto& origin, auto&& param_of) {
    for (std::size_t k = 0; k < origin.size(); ++k) {
      const auto& [number, entry] = origin[k];
      const Param& from = param_of(parts[number]);
      to.mutable_value()(static_cast<std::int64_t>(k)) = from.value()(entry);
      for (const Param::Slot& s : from.slots()) to.slot(s.name)(static_cast<std::int64_t>(k)) = s.value(entry);
    }
  };
  fill(all.weight, edge_of, [](const MaskedLinearLayer& part) -> const Param& { return part.weight; });
  fill(*all.bias, bias_of, [](const MaskedLinearLayer& part) -> const Param& { return *part.bias; });
  return all;
}

/// A packed layer per pair of layers from one of branches.
inline std::vector<MaskedLinearLayer> by_pairs(const DanLayers& layers, const MaskedLinearLayer& joint,
                                               bool structural) {
  const Mask all = joint.mask();
  const std::vector<LayerPair> pairs = layers.pairs();
  std::vector<std::vector<Mask::Edge>> edges(pairs.size());
  std::vector<std::vector<std::int32_t>> edge(pairs.size()), row(pairs.size());
  layers.for_each_branch([&](std::size_t number, std::int64_t r, std::int32_t branch) {
    row[number].push_back(branch);
    for (std::int32_t e = all.row_start()[branch]; e < all.row_start()[branch + 1]; ++e) {
      edges[number].emplace_back(static_cast<std::int32_t>(r), all.col()[e] - layers.first[pairs[number].source]);
      edge[number].push_back(e);
    }
  });
  std::vector<MaskedLinearLayer> parts;
  parts.reserve(pairs.size());
  const auto picked = [](const Tensor& from, const std::vector<std::int32_t>& at) {
    Tensor to = Tensor::empty({static_cast<std::int64_t>(at.size())});
    for (std::size_t k = 0; k < at.size(); ++k) to(static_cast<std::int64_t>(k)) = from(at[k]);
    return to;
  };
  const auto take = [&](const Param& from, Param& to, const std::vector<std::int32_t>& at) {
    for (const Param::Slot& s : from.slots()) to.slot(s.name) = picked(s.value, at);
  };
  for (std::size_t k = 0; k < pairs.size(); ++k) {
    const auto size = [&](std::int32_t layer) { return layers.first[layer + 1] - layers.first[layer]; };
    const Mask mask = Mask::from_edges(size(pairs[k].target), size(pairs[k].source), edges[k]);
    parts.emplace_back(mask, picked(joint.weight.value(), edge[k]), picked(joint.bias->value(), row[k]), structural);
    take(joint.weight, parts.back().weight, edge[k]);
    take(*joint.bias, *parts.back().bias, row[k]);
  }
  return parts;
}

}  // namespace deepstruct::detail
