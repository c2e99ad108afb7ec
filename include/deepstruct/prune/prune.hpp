// Pruning by saliency: over the whole network or layer by layer, for a budget.
#pragma once

#include <numeric>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "select_on_gpu.hpp"

namespace deepstruct {

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

/// Sets the masks of layers, and says what went.
inline PruneReport set_masks(std::span<const PruneLayer> layers, const std::vector<Mask>& after) {
  PruneReport report;
  for (std::size_t k = 0; k < layers.size(); ++k) {
    report.layers.push_back({layers[k].name, layers[k].mask.nnz(), after[k].nnz()});
    if (layers[k].mask.nnz() != after[k].nnz()) layers[k].set_mask(after[k]);
  }
  return report;
}

/// The same for all masked layers of a model, in their order.
template <class M>
PruneReport set_masks_of(M& model, const std::vector<Mask>& after) {
  PruneReport report;
  each_masked(model, [&](const std::string& name, auto& layer) {
    const Mask& next = after[report.layers.size()];
    report.layers.push_back({name, layer.mask().nnz(), next.nnz()});
    if (report.layers.back().before != next.nnz()) layer.set_mask(next);
  });
  return report;
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
/// the total. remaining(n), density(d): exactly so many stay, or an Error that says how many can.
template <class M>
PruneReport prune_network_by_saliency(M& model, const Budget& budget, const PruneOptions& options = {}) {
  constexpr const char* op = "prune_network_by_saliency";
  detail::check_prune_options(op, options);
  if (const auto masks = detail::masks_on_gpu(model, budget, options, op)) return detail::set_masks_of(model, *masks);
  const auto layers = detail::prune_layers(model, op);
  return detail::set_masks(layers, detail::masks_after(layers, budget, options, op));
}

/// The same layer by layer: percentage(q) of each; absolute(n) is shared out in proportion to the layers' weights,
/// rounded half to even, so that the parts may not add up to n; a layer whose part is all it has is emptied, down to
/// the floor. remaining(n) is shared out in that proportion so that the parts do add up, density(d) is the density of
/// every layer. A bucket has no meaning here and throws. If a layer cannot be pruned so, none is.
template <class M>
PruneReport prune_layer_by_saliency(M& model, const Budget& budget, const PruneOptions& options = {}) {
  constexpr const char* op = "prune_layer_by_saliency";
  detail::check_prune_options(op, options);
  check(budget.kind != Budget::Kind::bucket, op, ": a bucket belongs to the whole network (bucket ", budget.value, ")");
  const auto layers = detail::prune_layers(model, op);
  std::vector<double> weights;
  for (const detail::PruneLayer& l : layers) weights.push_back(static_cast<double>(l.mask.nnz()));
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<std::int64_t> parts;
  if (budget.kind == Budget::Kind::remaining) {
    detail::going(budget, static_cast<std::int64_t>(total), 0, op);
    parts = detail::share_out(static_cast<std::int64_t>(budget.value), weights);
  }
  std::vector<Mask> after;
  for (std::size_t k = 0; k < layers.size(); ++k) {
    Budget share = budget;
    if (!parts.empty()) share.value = static_cast<double>(parts[k]);
    if (budget.kind == Budget::Kind::absolute && total > 0)
      share.value = std::nearbyint(weights[k] / total * budget.value);
    PruneOptions how = options;
    how.exact |= budget.kind == Budget::Kind::absolute && share.value >= weights[k];  // all of it goes
    const std::string where = detail::at_layer(op, layers[k].name);
    after.push_back(detail::masks_after(std::span(&layers[k], 1), share, how, where)[0]);
  }
  return detail::set_masks(layers, after);
}

/// Fills saliencies by a criterion, criterion(model), and prunes the whole network by them, for a budget: a criterion
/// is any function of this room that sets saliencies, wrapped with what it needs, or one's own. If either throws,
/// nothing has changed.
///   prune(model, [&](auto& m) { set_snip_saliency(m, data); }, percentage(95), {.exact = true});
template <class M, class Criterion>
PruneReport prune(M& model, Criterion&& criterion, const Budget& budget, const PruneOptions& options = {}) {
  return detail::set_and_prune(model, criterion, [&](M& m) { return prune_network_by_saliency(m, budget, options); });
}
/// Prunes at random: random saliency, whole network.
template <class M>
PruneReport random_pruning(M& model, const Budget& budget, Rng& rng = default_rng(), const PruneOptions& options = {}) {
  return prune(
      model, [&](M& m) { set_random_saliency(m, rng); }, budget, options);
}
/// Prunes the smallest weights of the whole network (Han et al. 2015; See et al. 2016).
template <class M>
PruneReport magnitude_class_blinded(M& model, const Budget& budget, const PruneOptions& options = {}) {
  return prune(
      model, [](M& m) { set_magnitude_saliency(m); }, budget, options);
}
/// Prunes the smallest weights of every layer (See et al. 2016).
template <class M>
PruneReport magnitude_class_uniform(M& model, const Budget& budget, const PruneOptions& options = {}) {
  return detail::set_and_prune(
      model, [](M& m) { set_magnitude_saliency(m); },
      [&](M& m) { return prune_layer_by_saliency(m, budget, options); });
}
/// Prunes the smallest weights in units of their layer's standard deviation (See et al. 2016).
template <class M>
PruneReport magnitude_class_distributed(M& model, const Budget& budget, const PruneOptions& options = {}) {
  return prune(
      model, [](M& m) { set_distributed_saliency(m); }, budget, options);
}

}  // namespace deepstruct
