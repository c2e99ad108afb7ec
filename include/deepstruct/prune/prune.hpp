// Pruning by saliency: over the whole network or layer by layer, for a budget.
#pragma once

#include <atomic>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "budget.hpp"
#include "saliency.hpp"

namespace deepstruct {

/// Options of the pruning functions.
struct PruneOptions {
  bool exact = false;               ///< exactly the budget's number of weights goes; ties in layer and edge order
  std::int64_t keep_per_layer = 0;  ///< a floor: so many of a layer's weights stay, the most salient ones
};

/// What a pruning step did, layer by layer.
struct PruneReport {
  struct Layer {
    std::string name;
    std::int64_t before = 0, after = 0;
  };
  std::vector<Layer> layers;

  std::int64_t before() const {
    return std::accumulate(layers.begin(), layers.end(), std::int64_t{0},
                           [](std::int64_t n, const Layer& l) { return n + l.before; });
  }
  std::int64_t after() const {
    return std::accumulate(layers.begin(), layers.end(), std::int64_t{0},
                           [](std::int64_t n, const Layer& l) { return n + l.after; });
  }
  /// Names of the layers that lost their last weight in this step.
  std::vector<std::string> emptied() const {
    std::vector<std::string> names;
    for (const Layer& l : layers)
      if (l.before > 0 && l.after == 0) names.push_back(l.name);
    return names;
  }
  void write(std::ostream& out) const {
    for (const Layer& l : layers) out << l.name << ": " << l.before << " -> " << l.after << " weights\n";
  }
};

/// Number of weights that exist in all masked layers.
template <class M>
std::int64_t get_network_weight_count(const M& model) {
  std::int64_t n = 0;
  each_masked(model, [&](const auto& layer) { n += layer.mask().nnz(); });
  return n;
}

/// Switches every connection on again. Full storage brings remembered weights back; packed ones come back as 0.
template <class M>
void reset_pruned_network(M& model) {
  each_masked(model, [](auto& layer) {
    const Mask now = layer.mask();
    layer.set_mask(Mask::ones(now.rows(), now.cols()));
  });
}

namespace detail {

/// A masked layer with the saliencies of its edges, in edge order.
struct PruneLayer {
  std::string name;
  std::function<void(const Mask&)> set_mask;
  Mask mask;
  Tensor saliency;  // [nnz]

  std::span<const float> edges() const { return {saliency.data(), static_cast<std::size_t>(saliency.size())}; }
};

template <class M>
std::vector<PruneLayer> prune_layers(M& model, const char* op) {
  std::vector<PruneLayer> layers;
  each_masked(model, [&](const std::string& name, auto& layer) {
    no_grad guard;
    const Mask mask = layer.mask();
    Tensor s = layer.packed() ? layer.saliency() : pick_edges(layer.saliency().with_shape(mask.shape()), mask).value();
    PruneLayer l{name, [&layer](const Mask& m) { layer.set_mask(m); }, mask, to(std::move(s), Device::cpu)};
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

/// Prunes a group of layers together; a group without any weight is left alone.
inline void prune_group(std::span<PruneLayer> group, const Budget& budget, const PruneOptions& options,
                        PruneReport& report) {
  std::vector<std::span<const float>> all;
  for (const PruneLayer& l : group) all.push_back(l.edges());
  PruneLine line{-std::numeric_limits<float>::infinity()};
  if (size_of(all) > 0)
    line = options.exact ? exact_line(all, exact_count(all, budget)) : PruneLine{threshold(all, budget)};
  std::vector<std::optional<Mask>> after(group.size());
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
  for (std::size_t k = 0; k < group.size(); ++k) {
    const PruneLayer& l = group[k];
    const std::int64_t n = l.mask.nnz(), floor = std::min(n, options.keep_per_layer);
    if (after[k]->nnz() < floor) {  // of equals the first ones stay here
      const std::span<const float> saliency = l.edges();
      const PruneLine own = exact_line(std::span(&saliency, 1), n - floor);
      std::int64_t stay = std::count(saliency.begin(), saliency.end(), own.limit) - own.ties;
      after[k] = l.mask.filter([&](std::int32_t e, std::int64_t, std::int64_t) {
        return saliency[e] > own.limit || (saliency[e] == own.limit && stay > 0 && stay-- > 0);
      });
    }
    report.layers.push_back({l.name, n, after[k]->nnz()});
    if (after[k]->nnz() != n) l.set_mask(*after[k]);
  }
}

inline void check_prune_options(const char* op, const PruneOptions& options) {
  check(options.keep_per_layer >= 0, op, ": the floor per layer must not be negative (", options.keep_per_layer, ")");
}

/// Sets saliencies and prunes by them; if either throws, the saliencies are those of before.
template <class M, class Set, class Prune>
PruneReport set_and_prune(M& model, Set&& set, Prune&& prune) {
  std::vector<std::optional<Tensor>> before;
  each_masked(model, [&](const auto& layer) {
    before.push_back(layer.has_saliency() ? std::optional(layer.saliency()) : std::nullopt);
  });
  try {
    set(model);
    return prune(model);
  } catch (...) {
    auto was = before.begin();
    each_masked(model, [&](auto& layer) {
      layer.clear_saliency();
      if (*was) layer.set_saliency(**was);
      ++was;
    });
    throw;
  }
}

}  // namespace detail

/// Removes the least salient weights of the whole network, for a budget. Weights equal to the threshold stay (so ties
/// prune fewer), unless options.exact. Returns what went; throws on NaN saliency and leaves the model unchanged then.
///
/// percentage(q): threshold = q-th percentile (NumPy's) of the saliencies of existing weights. absolute(n): threshold =
/// the n-th smallest, counted from 0; the greatest always stays. bucket(s): as in Budget; everything goes if s exceeds
/// the total.
template <class M>
PruneReport prune_network_by_saliency(M& model, const Budget& budget, const PruneOptions& options = {}) {
  detail::check_prune_options("prune_network_by_saliency", options);
  auto layers = detail::prune_layers(model, "prune_network_by_saliency");
  PruneReport report;
  detail::prune_group(layers, budget, options, report);
  return report;
}

/// The same layer by layer: percentage(q) of each; absolute(n) is shared out in proportion to the layers' weights,
/// rounded half to even, so that the parts may not add up to n; a layer whose part is all it has is emptied, down to
/// the floor. A bucket has no meaning here and throws.
template <class M>
PruneReport prune_layer_by_saliency(M& model, const Budget& budget, const PruneOptions& options = {}) {
  detail::check_prune_options("prune_layer_by_saliency", options);
  check(budget.kind != Budget::Kind::bucket, "prune_layer_by_saliency: a bucket belongs to the whole network (bucket ",
        budget.value, ")");
  auto layers = detail::prune_layers(model, "prune_layer_by_saliency");
  const double total = static_cast<double>(get_network_weight_count(model));
  PruneReport report;
  for (detail::PruneLayer& l : layers) {
    Budget share = budget;
    if (budget.kind == Budget::Kind::absolute && total > 0)
      share.value = std::nearbyint(static_cast<double>(l.mask.nnz()) / total * budget.value);
    PruneOptions how = options;
    how.exact |=
        budget.kind == Budget::Kind::absolute && share.value >= static_cast<double>(l.mask.nnz());  // all of it goes
    detail::prune_group(std::span(&l, 1), share, how, report);
  }
  return report;
}

/// Prunes at random: random saliency, whole network.
template <class M>
PruneReport random_pruning(M& model, const Budget& budget, Rng& rng = default_rng(), const PruneOptions& options = {}) {
  return detail::set_and_prune(
      model, [&](M& m) { set_random_saliency(m, rng); },
      [&](M& m) { return prune_network_by_saliency(m, budget, options); });
}
/// Prunes the smallest weights of the whole network (Han et al. 2015; See et al. 2016).
template <class M>
PruneReport magnitude_class_blinded(M& model, const Budget& budget, const PruneOptions& options = {}) {
  return detail::set_and_prune(
      model, [&](M& m) { set_magnitude_saliency(m); },
      [&](M& m) { return prune_network_by_saliency(m, budget, options); });
}
/// Prunes the smallest weights of every layer (See et al. 2016).
template <class M>
PruneReport magnitude_class_uniform(M& model, const Budget& budget, const PruneOptions& options = {}) {
  return detail::set_and_prune(
      model, [&](M& m) { set_magnitude_saliency(m); },
      [&](M& m) { return prune_layer_by_saliency(m, budget, options); });
}
/// Prunes the smallest weights in units of their layer's standard deviation (See et al. 2016).
template <class M>
PruneReport magnitude_class_distributed(M& model, const Budget& budget, const PruneOptions& options = {}) {
  return detail::set_and_prune(
      model, [&](M& m) { set_distributed_saliency(m); },
      [&](M& m) { return prune_network_by_saliency(m, budget, options); });
}

}  // namespace deepstruct
