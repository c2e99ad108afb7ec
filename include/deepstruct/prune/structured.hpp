// Structured pruning: whole neurons, channels and vertices by what their weights matter together.
#pragma once

#include "budget.hpp"
#include "unit_scores.hpp"

namespace deepstruct {

namespace detail {

/// remove_units of the first n of an order.
template <class M>
Compacted<M> remove_first(const M& model, const Shape& example_shape, const ScoredUnits& units,
                          const std::vector<std::int32_t>& order, std::int64_t n, std::string& emptied) {
  Compacted<M> result = remove_groups(model, example_shape, std::span<const UnitGroup>(units.first(order, n)));
  emptied = units.emptied(result.units);
  return result;
}

}  // namespace detail

/// The model without its least salient units: neurons, channels, vertices, each with all that goes with it
/// (unit_groups). The budget counts groups that may go and that are on a way from input to output: percentage(q) is q
/// per cent of them, absolute(n) exactly n. Ties in the order of the trace. Dead units go besides, and what becomes
/// dead.
///
/// Tensors shrink, values move with optimizer slots; the model itself stays as it is. The function is that of
/// empty_units with the same groups, up to roundings. Throws if fewer may go (by the floor or an op), if a layer would
/// lose its last live unit, on saliencies that are not finite, and as compact. The scores: Li et al. 2017 (filters by
/// the L1 norm), Fang et al. 2023 (over dependency groups).
template <class M>
Compacted<M> prune_units(const M& model, const Shape& example_shape, const Budget& budget,
                         const UnitOptions& options = {}) {
  check(options.keep_per_layer >= 0, "prune_units: the floor per layer must not be negative (", options.keep_per_layer,
        ")");
  const detail::ScoredUnits units("prune_units", detail::on_cpu(model), example_shape, options);
  std::vector<float> scores;
  for (std::size_t g = 0; g < units.score.size(); ++g)
    if (units.candidate(g)) scores.push_back(static_cast<float>(units.score[g]));
  const auto order = units.order(options.keep_per_layer);
  const auto possible = static_cast<std::int64_t>(order.size());
  const std::span<const float> part(scores);
  std::int64_t n = scores.empty() ? 0 : detail::exact_count(std::span(&part, 1), budget);
  if (budget.kind == Budget::Kind::absolute)  // no count is cut down to what there is
    n = static_cast<std::int64_t>(std::min(budget.value, 1e18));
  check(n <= possible, "prune_units: so many units cannot go (", n, ", possible ", possible, " of ", scores.size(),
        units.fixed(), ")");
  std::string emptied;
  Compacted<M> result = detail::remove_first(model, example_shape, units, order, n, emptied);
  check(emptied.empty() || options.keep_per_layer == 0,
        "prune_units: a layer would lose its last unit that is on a way to the output (", emptied, ", with ", n,
        " units less)");
  return result;
}
/// The same by a criterion, criterion(model), any function that sets saliencies of masked layers, of a copy:
///   prune_units(model, {1, 784}, [&](auto& m) { set_taylor_saliency(m, data); }, percentage(50));
template <class M, class Criterion>
requires std::invocable<Criterion&, M&> Compacted<M> prune_units(const M& model, const Shape& example_shape,
                                                                 Criterion&& criterion, const Budget& budget,
                                                                 const UnitOptions& options = {}) {
  M copy = model;
  criterion(copy);
  return prune_units(copy, example_shape, budget, options);
}

/// prune_units, as few units as needed so that a sample takes at most so many multiply-adds: by bisection, O(log units)
/// compactions. Throws as prune_units, and says how few are possible.
template <class M>
Compacted<M> prune_units_to(const M& model, const Shape& example_shape, std::int64_t multiply_adds,
                            const UnitOptions& options = {}) {
  check(options.keep_per_layer >= 0, "prune_units_to: the floor per layer must not be negative (",
        options.keep_per_layer, ")");
  const detail::ScoredUnits units("prune_units_to", detail::on_cpu(model), example_shape, options);
  const auto order = units.order(options.keep_per_layer);
  std::string emptied;
  std::int64_t low = 0, high = static_cast<std::int64_t>(order.size());
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    const Compacted<M> trial = detail::remove_first(model, example_shape, units, order, middle, emptied);
    if ((!emptied.empty() && options.keep_per_layer > 0) || trial.report.multiply_adds <= multiply_adds)
      high = middle;
    else
      low = middle + 1;
  }
  Compacted<M> result = detail::remove_first(model, example_shape, units, order, low, emptied);
  check(emptied.empty() || options.keep_per_layer == 0,
        "prune_units_to: a layer would lose its last unit that is on a way to the output (", emptied, ", at ",
        result.report.multiply_adds, " multiply-adds)");
  check(result.report.multiply_adds <= multiply_adds, "prune_units_to: so few multiply-adds are not possible (want ",
        multiply_adds, ", possible ", result.report.multiply_adds, units.fixed(), ")");
  return result;
}

}  // namespace deepstruct
