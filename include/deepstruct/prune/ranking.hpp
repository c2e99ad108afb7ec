// Which edges go: the order of saliency over layers, floors under what stays, blocks that live or die whole.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "budget.hpp"
#include "saliency.hpp"

namespace deepstruct {

/// Options of the pruning functions. Floors keep the most salient weights that exist, of equals the last; they win over
/// percentage, absolute and bucket, and are an Error where remaining or density leaves fewer.
struct PruneOptions {
  bool exact = false;                ///< exactly the budget's number of weights goes; ties in layer and edge order
  std::int64_t keep_per_layer = 0;   ///< a floor: so many of a layer's weights stay
  std::int64_t keep_per_output = 0;  ///< so many of every row of a mask: 1 and 1 let no neuron lose its last edge
  std::int64_t keep_per_input = 0;   ///< so many of every column of a mask
  /// Rows × columns of blocks of the mask that stay or go whole, by the sum of their saliencies; those at the edges may
  /// be cut off. The budget counts weights: as many of the least salient blocks go as hold no more; remaining(n) throws
  /// unless that leaves n.
  std::array<std::int64_t, 2> block{1, 1};
};

namespace detail {

inline void check_prune_options(const char* op, const PruneOptions& options) {
  check(options.keep_per_layer >= 0, op, ": the floor per layer must not be negative (", options.keep_per_layer, ")");
  check(options.keep_per_output >= 0 && options.keep_per_input >= 0, op,
        ": the floors per output and input must not be negative (", options.keep_per_output, " and ",
        options.keep_per_input, ")");
  check(options.block[0] >= 1 && options.block[1] >= 1, op, ": a block has at least one row and column (",
        options.block[0], " x ", options.block[1], ")");
}

/// "op: layer name", the start of what went wrong there.
inline std::string at_layer(std::string_view op, std::string_view name) {
  std::string where(op);  // not by operator+, in which GCC 12 sees a copy beyond its end
  return where.append(": layer ").append(name);
}

/// Places where a layer may have edges: where the mask is a structure there are none but these edges.
template <class L>
std::int64_t places_for_edges(const L& layer) {
  const Mask mask = layer.mask();
  if constexpr (requires { layer.options().structural; })
    if (layer.options().structural) return mask.nnz();
  return mask.rows() * mask.cols();
}

/// A masked layer with the saliencies of its edges, in edge order.
struct PruneLayer {
  std::string name;
  std::function<void(const Mask&)> set_mask;
  Mask mask;
  Tensor saliency;  // [nnz]
  std::int64_t places = 0;

  std::span<const float> edges() const { return {saliency.data(), static_cast<std::size_t>(saliency.size())}; }
};

template <class M>
std::vector<PruneLayer> prune_layers(M& model, const char* op) {
  std::vector<PruneLayer> layers;
  each_masked(model, [&](const std::string& name, auto& layer) {
    PruneLayer l{name, [&layer](const Mask& m) { layer.set_mask(m); }, layer.mask(), edges_of(layer, layer.saliency()),
                 places_for_edges(layer)};
    std::atomic<bool> nan = false;
    parallel_blocks(l.saliency.size(), 1 << 17, [&](std::int64_t first, std::int64_t last) {
      bool found = false;
      for (std::int64_t e = first; e < last; ++e) found |= std::isnan(l.saliency.data()[e]);
      if (found) nan = true;
    });
    if (nan)
      l.mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
        check(!std::isnan(l.saliency(e)), op, ": a saliency is NaN (", name, ", edge ", r, " <- ", c, ")");
      });
    layers.push_back(std::move(l));
  });
  check(!layers.empty(), op, ": the model has no masked layers (0)");
  return layers;
}

/// What goes: everything below a saliency, and the first `ties` edges equal to it.
struct PruneLine {
  float limit;
  std::int64_t ties = 0;
  bool removes(float s) {
    if (s == limit) [[unlikely]]
      return ties > 0 && ties-- > 0;
    return s < limit;
  }
};

/// The line below which exactly `count` of all edges lie.
inline PruneLine exact_line(Parts saliency, std::int64_t count) {
  if (count <= 0) return {-std::numeric_limits<float>::infinity()};
  PruneLine line{nth_smallest(saliency, count - 1).value, count};
  for (std::span<const float> part : saliency)
    for (float s : part) line.ties -= s < line.limit;
  return line;
}

/// The units of a group of layers, edges or blocks of edges, in the order in which they go: by saliency, of equals the
/// first in layer and edge order. Those under a floor are not in it. O(n log n).
class PruneOrder {
 public:
  PruneOrder(std::span<const PruneLayer> layers, const PruneOptions& options, std::string_view op) : layers_(layers) {
    number(options.block);
    for (const double s : score_) check(!std::isnan(s), op, ": the saliencies of a block have no sum (", s, ")");
    for (std::size_t l = 0; l < layers.size(); ++l) protect(l, options);
    for (std::int64_t u = 0; u < static_cast<std::int64_t>(score_.size()); ++u)
      if (size_[u] > 0 && !protected_[u]) order_.push_back(u);
    std::stable_sort(order_.begin(), order_.end(),
                     [&](std::int64_t a, std::int64_t b) { return score_[a] < score_[b]; });
    rank_.assign(score_.size(), std::numeric_limits<std::int64_t>::max());
    for (std::size_t k = 0; k < order_.size(); ++k) {
      rank_[order_[k]] = static_cast<std::int64_t>(k);
      gone_.push_back(gone_.back() + size_[order_[k]]);
    }
  }

  /// Units that can go.
  std::int64_t units() const { return static_cast<std::int64_t>(order_.size()); }
  /// Weights that are gone with the first k.
  std::int64_t gone(std::int64_t k) const { return gone_[k]; }
  double score(std::int64_t k) const { return score_[order_[k]]; }
  bool protects(std::size_t layer, std::int64_t edge) const { return protected_[unit_[layer][edge]] != 0; }
  /// Most units with which no more than so many weights go.
  std::int64_t holding(std::int64_t weights) const {
    return std::upper_bound(gone_.begin(), gone_.end(), weights) - gone_.begin() - 1;
  }
  /// Masks without the first k units.
  std::vector<Mask> masks(std::int64_t k) const {
    std::vector<Mask> after;
    for (std::size_t l = 0; l < layers_.size(); ++l)
      after.push_back(
          layers_[l].mask.filter([&](std::int32_t e, std::int64_t, std::int64_t) { return rank_[unit_[l][e]] >= k; }));
    return after;
  }

 private:
  void number(const std::array<std::int64_t, 2>& block) {
    const bool single = block[0] == 1 && block[1] == 1;
    for (const PruneLayer& l : layers_) {
      const auto first = static_cast<std::int64_t>(score_.size());
      const std::int64_t across = (l.mask.cols() + block[1] - 1) / block[1],
                         n = single ? l.mask.nnz() : (l.mask.rows() + block[0] - 1) / block[0] * across;
      score_.resize(static_cast<std::size_t>(first + n), 0);
      size_.resize(score_.size(), 0);
      std::vector<std::int64_t>& unit = unit_.emplace_back(static_cast<std::size_t>(l.mask.nnz()));
      l.mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
        unit[e] = first + (single ? e : r / block[0] * across + c / block[1]);
        score_[unit[e]] += double{l.saliency(e)};
        ++size_[unit[e]];
      });
    }
    protected_.assign(score_.size(), 0);
  }
  /// Protects the most salient units that hold `floor` of some edges.
  void hold(std::size_t l, std::vector<std::int32_t>& edges, std::int64_t floor) {
    const std::vector<std::int64_t>& unit = unit_[l];
    const auto before = [&](std::int32_t a, std::int32_t b) {
      if (unit[a] == unit[b]) return a > b;
      return score_[unit[a]] != score_[unit[b]] ? score_[unit[a]] > score_[unit[b]] : unit[a] > unit[b];
    };
    const auto n = std::min(floor, static_cast<std::int64_t>(edges.size()));
    std::partial_sort(edges.begin(), edges.begin() + n, edges.end(), before);
    for (std::int64_t k = 0; k < n; ++k) protected_[unit[edges[k]]] = 1;
  }
  void protect(std::size_t l, const PruneOptions& options) {
    const Mask& mask = layers_[l].mask;
    std::vector<std::int32_t> some(static_cast<std::size_t>(mask.nnz()));
    std::iota(some.begin(), some.end(), 0);
    if (options.keep_per_layer > 0) hold(l, some, options.keep_per_layer);
    const auto start = mask.row_start();
    for (std::int64_t r = 0; options.keep_per_output > 0 && r < mask.rows(); ++r) {
      some.resize(static_cast<std::size_t>(start[r + 1] - start[r]));
      std::iota(some.begin(), some.end(), start[r]);
      hold(l, some, options.keep_per_output);
    }
    const csr_view columns = mask.csc();
    for (std::int64_t c = 0; options.keep_per_input > 0 && c < mask.cols(); ++c) {
      some.assign(columns.edge + columns.start[c], columns.edge + columns.start[c + 1]);
      hold(l, some, options.keep_per_input);
    }
  }

  std::span<const PruneLayer> layers_;
  std::vector<std::vector<std::int64_t>> unit_;  // of every edge of every layer
  std::vector<double> score_;                    // of every unit, as are size_, protected_ and rank_
  std::vector<std::int64_t> size_, rank_;
  std::vector<char> protected_;
  std::vector<std::int64_t> order_, gone_{0};
};

/// How many units of an order go for a budget.
inline std::int64_t units_that_go(std::span<const PruneLayer> group, Parts saliency, const PruneOrder& order,
                                  const Budget& budget, const PruneOptions& options, std::string_view op) {
  const bool blocks = options.block != std::array<std::int64_t, 2>{1, 1}, stays = says_what_stays(budget);
  const std::int64_t n = size_of(saliency);
  if (budget.kind == Budget::Kind::bucket && (blocks || options.exact)) {
    double sum = 0;
    std::int64_t k = 0;
    while (k < order.units() && !((sum += order.score(k)) > budget.value)) ++k;
    return k;
  }
  if (!blocks && !options.exact && !stays) {
    const float limit = threshold(saliency, budget);
    std::int64_t k = 0;
    while (k < order.units() && order.score(k) < double{limit}) ++k;
    return k;
  }
  std::int64_t places = 0;
  for (const PruneLayer& l : group) places += l.places;
  const std::int64_t count = exact_count(saliency, going(budget, n, places, op)), k = order.holding(count);
  if (stays && order.gone(k) < count) {
    check(k < order.units(), op, ": floors keep more weights than shall stay (", n - count, ", floors ",
          n - order.gone(k), ")");
    check(budget.kind == Budget::Kind::density, op, ": whole blocks leave other numbers of weights (", n - count,
          ", possible ", n - order.gone(k + 1), " or ", n - order.gone(k), ")");
  }
  return k;
}

/// The masks of a group of layers that are pruned together; nothing changes yet.
inline std::vector<Mask> masks_after(std::span<const PruneLayer> group, const Budget& budget,
                                     const PruneOptions& options, std::string_view op) {
  std::vector<std::span<const float>> all;
  std::int64_t places = 0;
  for (const PruneLayer& l : group) all.push_back(l.edges()), places += l.places;
  const std::int64_t n = size_of(all);
  const Budget goes = going(budget, n, places, op);
  std::vector<Mask> after(group.size());
  if (n == 0) {
    for (std::size_t k = 0; k < group.size(); ++k) after[k] = group[k].mask;
    return after;
  }
  const bool blocks = options.block != std::array<std::int64_t, 2>{1, 1};
  if (!blocks && options.keep_per_output == 0 && options.keep_per_input == 0) {
    PruneLine line = options.exact || says_what_stays(budget) ? exact_line(all, exact_count(all, goes))
                                                              : PruneLine{threshold(all, goes)};
    const auto filter = [&](std::size_t k, PruneLine& by) {
      const float* saliency = group[k].saliency.data();
      after[k] =
          group[k].mask.filter([&](std::int32_t e, std::int64_t, std::int64_t) { return !by.removes(saliency[e]); });
    };
    if (line.ties > 0)  // counted off in layer and edge order
      for (std::size_t k = 0; k < group.size(); ++k) filter(k, line);
    else
      parallel_for(static_cast<std::int64_t>(group.size()), [&](std::int64_t k) {
        PruneLine own = line;
        filter(static_cast<std::size_t>(k), own);
      });
    bool enough = true;
    for (std::size_t k = 0; k < group.size(); ++k)
      enough &= after[k].nnz() >= std::min(group[k].mask.nnz(), options.keep_per_layer);
    if (enough) return after;
  }
  const PruneOrder order(group, options, op);
  return order.masks(units_that_go(group, all, order, budget, options, op));
}

}  // namespace detail

}  // namespace deepstruct
