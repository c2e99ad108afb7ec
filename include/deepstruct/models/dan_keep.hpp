// The layers of a MaskedDeepDAN cut down to some of its vertices.
#pragma once

#include "dan_layers.hpp"

namespace deepstruct::detail {

/// Which connections of layers a form of MaskedDeepDAN can make anew where the layer between them is gone.
enum class DanLink {
  any,       ///< rows of branches belong to vertices
  existing,  ///< a pair that is there: a full matrix for a new one could be larger than what is gone
  unused,    ///< one without an edge: only the main connection is normalised, so no other becomes it
  none
};

/// New layers of some vertices, and where their connections come from. Layers without a vertex close up; where they
/// cannot, the first vertex of a layer stays for it.
struct DanCut {
  std::shared_ptr<const DanLayers> layers;
  std::vector<std::int32_t> vertices;  ///< numbers before, ascending
  std::vector<std::int32_t> layer;     ///< of every new layer its number before
  std::vector<std::int32_t> origin;    ///< of every new pair the number of the pair whose biases it has
  std::vector<char> emptied;           ///< of every new pair: its source is another layer than before, it has no edges
  std::vector<char> dropped;           ///< of every old pair: it has no edges and is no main connection any more

  /// O(V + pairs); `used`: of every pair, does an edge between kept vertices belong to it?
  DanCut(const DanLayers& old, std::span<const std::int32_t> kept, const std::vector<char>& used, DanLink link) {
    for (const auto& list : old.sources)
      first_pair_.push_back(first_pair_.empty() ? 0 : first_pair_.back() + last_count_),
          last_count_ = static_cast<std::int32_t>(list.size());
    choose(old, kept, used, link);
    auto next = std::make_shared<DanLayers>();
    next->first.push_back(0);
    std::vector<std::int32_t> place(static_cast<std::size_t>(old.count()), -1);
    for (std::size_t l = 0; l < layer.size(); ++l) place[layer[l]] = static_cast<std::int32_t>(l);
    dropped.assign(used.size(), 1);
    std::size_t v = 0;
    for (std::size_t l = 0; l < layer.size(); ++l) {
      while (v < vertices.size() && vertices[v] < old.first[layer[l] + 1]) ++v;
      next->first.push_back(static_cast<std::int32_t>(v));
      next->sources.emplace_back();
      if (l == 0) continue;
      const std::int32_t t = layer[l], before = layer[l - 1];
      const auto add = [&](std::int32_t pair, std::int32_t source, bool without_edges) {
        next->sources.back().push_back(source);
        origin.push_back(pair);
        emptied.push_back(without_edges);
        dropped[pair] = 0;
      };
      for (const std::int32_t s : old.sources[t])
        if (s != before && place[s] >= 0 && used[pair(old, s, t)]) add(pair(old, s, t), place[s], false);
      const bool there = before == t - 1 || (link != DanLink::unused && pair(old, before, t) >= 0);
      add(there ? pair(old, before, t) : pair(old, t - 1, t), place[before], !there);
    }
    auto w = std::make_shared<DagWiring>(next->number(old.wiring->joint()));
    for (const std::int32_t u : vertices) {
      if (!old.wiring->activation.empty() && u >= old.wiring->inputs)
        w->activation.push_back(old.wiring->activation[u - old.wiring->inputs]);
    }
    for (const std::int32_t u : old.wiring->output)
      if (const std::int32_t at = place_of(u); at >= 0) w->output.push_back(at);
    next->set_wiring(std::move(w));
    layers = std::move(next);
  }

  /// The new number of a vertex, −1 if it is gone. O(log V)
  std::int32_t place_of(std::int32_t u) const {
    const auto at = std::lower_bound(vertices.begin(), vertices.end(), u);
    return at != vertices.end() && *at == u ? static_cast<std::int32_t>(at - vertices.begin()) : -1;
  }
  /// True if nothing goes.
  bool nothing(const DanLayers& old) const {
    return vertices.size() == static_cast<std::size_t>(old.first.back()) && layer.size() == old.sources.size() &&
           std::find(dropped.begin(), dropped.end(), 1) == dropped.end();
  }
  /// Places within their old layer of the vertices of a new layer.
  std::vector<std::int32_t> within(const DanLayers& old, std::size_t l) const {
    std::vector<std::int32_t> units(vertices.begin() + layers->first[l], vertices.begin() + layers->first[l + 1]);
    for (std::int32_t& u : units) u -= old.first[layer[l]];
    return units;
  }

 private:
  std::int32_t pair(const DanLayers& old, std::int32_t source, std::int32_t target) const {
    const auto& list = old.sources[target];
    const auto at = std::lower_bound(list.begin(), list.end(), source);
    return at != list.end() && *at == source ? first_pair_[target] + static_cast<std::int32_t>(at - list.begin()) : -1;
  }

  /// The layers that stay, and one vertex more for those that must.
  void choose(const DanLayers& old, std::span<const std::int32_t> kept, const std::vector<char>& used, DanLink link) {
    std::vector<char> stays(static_cast<std::size_t>(old.count()), 0);
    std::int32_t l = 0, before = 0;
    for (const std::int32_t v : kept) {
      while (v >= old.first[l + 1]) ++l;
      stays[l] = 1;
    }
    std::vector<std::int32_t> added;
    if (!std::exchange(stays[0], char{1}) && !kept.empty()) added.push_back(0);  // the others read the first layer
    for (std::int32_t t = 1; t < old.count(); ++t) {
      if (!stays[t]) continue;
      const auto possible = [&](std::int32_t target) {
        if (target - 1 == before) return true;
        const std::int32_t across = pair(old, before, target);
        return link == DanLink::any || (link == DanLink::existing && across >= 0) ||
               (link == DanLink::unused && (across < 0 || !used[across]));
      };
      for (std::int32_t target = t; !possible(target); --target) {
        stays[target - 1] = 1;
        added.push_back(old.first[target - 1]);
      }
      before = t;
    }
    for (std::int32_t t = 0; t < old.count(); ++t)
      if (stays[t]) layer.push_back(t);
    std::sort(added.begin(), added.end());
    std::merge(kept.begin(), kept.end(), added.begin(), added.end(), std::back_inserter(vertices));
  }

  std::vector<std::int32_t> first_pair_;  // of every layer, the number of the first pair into it
  std::int32_t last_count_ = 0;
};

/// Of every pair: does an edge between these vertices belong to it?   mask [branches, vertices]; O(V + E + pairs)
inline std::vector<char> used_pairs(const DanLayers& layers, const Mask& mask, std::span<const std::int32_t> vertices) {
  const DagWiring& w = *layers.wiring;
  const std::vector<std::int32_t> place = places_of(vertices, w.vertices);
  const auto start = mask.row_start(), col = mask.col();
  std::vector<char> used;
  for (std::int32_t t = 1; t < layers.count(); ++t) {
    const auto& list = layers.sources[t];
    const std::size_t number = used.size();
    used.resize(number + list.size(), 0);
    for (std::int32_t v = layers.first[t]; v < layers.first[t + 1]; ++v) {
      if (place[v] < 0) continue;
      std::size_t k = 0;  // columns ascend, and so do sources
      for (std::int32_t e = start[w.row_of(v - w.inputs)]; e < start[w.row_of(v + 1 - w.inputs)]; ++e) {
        while (col[e] >= layers.first[list[k] + 1]) ++k;
        used[number + k] |= char(place[col[e]] >= 0);
      }
    }
  }
  return used;
}

/// The layer of all branches for other layers: rows of branches and columns of vertices. O(V + E)
inline void keep_branches(MaskedLinearLayer& hidden, const DanLayers& old, const DanCut& cut) {
  const DagWiring &before = *old.wiring, &now = *cut.layers->wiring;
  const Mask mask = hidden.mask();
  const auto start = mask.row_start(), col = mask.col();
  const std::vector<std::int32_t> place = places_of(cut.vertices, before.vertices);
  const std::vector<LayerPair> pairs = old.pairs();
  std::vector<std::int32_t> rows{0}, next_col, edge, row;
  rows.reserve(static_cast<std::size_t>(now.rows()) + 1);
  std::size_t number = 0;
  for (std::int64_t t = 1; t < cut.layers->count(); ++t) {
    std::vector<std::int64_t> branches;  // of a vertex before, those that it has now
    for (std::size_t k = 0; k < cut.layers->sources[t].size(); ++k)
      branches.push_back(old.row_of(pairs[cut.origin[number++]], 0) -
                         before.row_of(old.first[cut.layer[t]] - before.inputs));
    if (before.joint()) branches.assign(1, 0);
    for (std::int32_t v = cut.layers->first[t]; v < cut.layers->first[t + 1]; ++v)
      for (const std::int64_t k : branches) {
        const auto r = static_cast<std::int32_t>(before.row_of(cut.vertices[v] - before.inputs) + k);
        row.push_back(r);
        for (std::int32_t e = start[r]; e < start[r + 1]; ++e)
          if (place[col[e]] >= 0) next_col.push_back(place[col[e]]), edge.push_back(e);
        rows.push_back(static_cast<std::int32_t>(edge.size()));
      }
  }
  hidden.rewire(Mask::from_csr(now.rows(), now.vertices, rows, next_col), edge, row);
}

}  // namespace deepstruct::detail
