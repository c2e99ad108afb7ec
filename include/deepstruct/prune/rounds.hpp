// What pruning in rounds shares: exact numbers of weights, what a round did, pruned weights that stay away.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "history.hpp"
#include "prune.hpp"

namespace deepstruct {

/// The criterion |w|, as a value: what prune_iteratively and GradualPruning take.
struct Magnitude {
  template <class M>
  void operator()(M& model) const {
    set_magnitude_saliency(model);
  }
};

/// Forgets everything behind the masks: in full storage weights without an edge become 0, and so does what optimizers
/// remember of them. So momentum, weight decay and adaptive rates have nothing left that could move them: they stay
/// exactly 0, and an edge that is switched on again starts at 0, as in packed storage (where there is nothing to do).
/// Unlike apply_mask, it does not multiply soft masks in. O(weights).
template <class M>
void forget_pruned(M& model) {
  each_masked(model, [](auto& layer) {
    if (layer.packed()) return;
    const Mask mask = layer.mask();
    if (mask.is_full()) return;
    no_grad guard;
    const auto at_edges = [&](const Tensor& t) {
      Tensor all = place_edges(pick_edges(Tensor(t).with_shape(mask.shape()), mask), mask).value();
      return std::move(all).with_shape(t.shape());
    };
    layer.weight.set_value(at_edges(layer.weight.value()));
    for (const Param::Slot& s : layer.weight.slots()) layer.weight.slot(s.name) = at_edges(s.value);
  });
}

/// One round of pruning, and what came of it.
struct PruneRound {
  std::int64_t round = 0, rounds = 0;  ///< this one, and how many there are to be
  std::int64_t weights = 0;            ///< that exist now
  double sparsity = 0;                 ///< 1 − weights / weights at the start
  PruneReport report = {};             ///< what went, and which layers were emptied
  std::optional<double> metric = {};   ///< what the callback that trains returned, if that is a number
};

/// All rounds, and whether they ended early.
struct PruneRounds {
  std::int64_t weights = 0;  ///< at the start
  std::vector<PruneRound> rounds = {};
  bool stopped = false;  ///< the stop token ended it, maybe within the last training

  /// A line per round: weights, sparsity in per cent, the metric if there is one, and layers that were emptied.
  void write(std::ostream& out) const {
    for (const PruneRound& r : rounds) {
      out << "round " << r.round << ": " << r.weights << " of " << weights << " weights, "
          << std::nearbyint(r.sparsity * 1e4) / 1e2 << " % sparse";
      if (r.metric) out << ", metric " << *r.metric;
      const std::vector<std::string> empty = r.report.emptied();
      for (std::size_t k = 0; k < empty.size(); ++k) out << (k == 0 ? "; emptied " : ", ") << empty[k];
      out << "\n";
    }
  }
};

namespace detail {

/// Weights that stay of n: what goes is sparsity·n, rounded half to even.
inline std::int64_t weights_left(std::int64_t n, double sparsity) {
  return n - static_cast<std::int64_t>(std::nearbyint(sparsity * static_cast<double>(n)));
}
inline double sparsity_of(std::int64_t left, std::int64_t n) {
  return n == 0 ? 0 : 1 - static_cast<double>(left) / static_cast<double>(n);
}

/// Throws unless there are masked layers, and none of them chooses its edges itself: its alphas could bring pruned ones
/// back.
template <class M>
void check_fixed_masks(const char* op, const M& model) {
  std::int64_t layers = 0;
  each_masked(model, [&](const std::string& name, const auto& layer) {
    ++layers;
    if constexpr (requires { layer.learnable(); })
      check(!layer.learnable(), op, ": a learnable mask could bring pruned weights back, harden() it first (", name,
            ")");
  });
  check(layers > 0, op, ": the model has no masked layers (0)");
}

/// The `left` most salient edges of a layer; of equals the last ones stay, as in exact pruning.
inline Mask most_salient(const PruneLayer& layer, std::int64_t left) {
  const std::span<const float> saliency = layer.edges();
  PruneLine line = exact_line(std::span(&saliency, 1), layer.mask.nnz() - left);
  return layer.mask.filter([&](std::int32_t e, std::int64_t, std::int64_t) { return !line.removes(saliency[e]); });
}

/// What a step that prunes nothing reports.
template <class M>
PruneReport nothing_pruned(const M& model) {
  PruneReport report;
  each_masked(model, [&](const std::string& name, const auto& layer) {
    const std::int64_t n = layer.mask().nnz();
    report.layers.push_back({name, n, n});
  });
  return report;
}

/// Prunes so that `left` weights stay, unless there are no more than that; the criterion is asked only if any go.
template <class M, class Criterion>
PruneReport prune_down_to(M& model, Criterion& criterion, std::int64_t left, PruneOptions options) {
  const std::int64_t now = get_network_weight_count(model);
  if (now <= left) return nothing_pruned(model);
  options.exact = true;
  PruneReport report = prune(model, criterion, absolute(now - left), options);
  forget_pruned(model);
  return report;
}

/// What a call returned, if it is a number.
template <class F, class... Args>
std::optional<double> number_from(F& f, Args&&... args) {
  if constexpr (std::is_convertible_v<std::invoke_result_t<F&, Args...>, double>) {
    return static_cast<double>(f(std::forward<Args>(args)...));
  } else {
    f(std::forward<Args>(args)...);
    return std::nullopt;
  }
}

/// Makes what the model is now the last step of a history, unless it is already. Throws if the history is of another
/// structure.
template <class M>
void begin_history(PruneHistory* history, const M& model, std::int64_t time) {
  if (!history) return;
  PruneHistory next = *history;
  next.record(model, "start", time);
  bool changed = history->empty();
  for (const auto& bytes : next.steps().back().changes) changed |= !bytes.empty();
  if (changed) *history = std::move(next);
}

}  // namespace detail

}  // namespace deepstruct
