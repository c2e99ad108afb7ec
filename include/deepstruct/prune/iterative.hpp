// Pruning in rounds with retraining between them, and step by step while a network trains.
#pragma once

#include <stop_token>

#include "rounds.hpp"
#include "schedule.hpp"

namespace deepstruct {

/// Options of prune_iteratively.
struct IterativeOptions {
  PruneOptions prune = {};          ///< floors and blocks, which may keep more weights than the schedule says
  std::int64_t rounds = 0;          ///< 0: as many as the schedule has, schedule.last()
  PruneHistory* history = nullptr;  ///< gets the masks before, and those of every round with its number as time
  std::string label = "pruned";     ///< what the steps of the history are called
  std::stop_token stop = {};        ///< asked before every round
};

/// Prunes and retrains in rounds t = 1, 2, …: after round t exactly n − round(s(t)·n) weights are left of the n that
/// there were at the start, s(t) = schedule(t), any function of a std::int64_t; the criterion is asked anew every
/// round. A schedule that falls brings nothing back. Works in full and packed storage; in full storage weights behind
/// the masks are forgotten (forget_pruned), so that pruned ones stay 0 whatever the optimizer remembers.
///
/// retrain(model, round) is called after every round's pruning with the PruneRound, which tells where the run is; a
/// number that it returns is kept as the round's metric.
///   prune_iteratively(model, Magnitude(), IterativeSchedule{.final = 0.95, .rounds = 10},
///                     [&](auto& m, const PruneRound&) { fit(m, adam, train, rng); });
///
/// Throws on an invalid schedule, a model without masked layers or with learnable masks, and a history of another
/// model, before anything changes. If the criterion of a later round throws, the model is what it was after the round
/// before, retrained; if retrain throws, it is what that left of it.
template <class M, class Criterion, class Schedule, class Retrain>
PruneRounds prune_iteratively(M& model, Criterion&& criterion, const Schedule& schedule, Retrain&& retrain,
                              const IterativeOptions& options = {}) {
  constexpr const char* op = "prune_iteratively";
  detail::check_fixed_masks(op, model);
  detail::check_prune_options(op, options.prune);
  std::int64_t rounds = options.rounds;
  if constexpr (requires { schedule.last(); })
    if (rounds == 0) rounds = schedule.last();
  check(rounds >= 1, op, ": needs at least one round (", rounds, ")");
  PruneRounds done{get_network_weight_count(model)};
  std::vector<std::int64_t> left;
  for (std::int64_t t = 1; t <= rounds; ++t) {
    const double sparsity = schedule(t);
    detail::check_sparsity(op, "what the schedule gives", sparsity);
    left.push_back(detail::weights_left(done.weights, sparsity));
  }
  detail::begin_history(options.history, model, 0);
  for (std::int64_t t = 1; t <= rounds && !options.stop.stop_requested(); ++t) {
    PruneRound round{t, rounds};
    round.report = detail::prune_down_to(model, criterion, left[static_cast<std::size_t>(t - 1)], options.prune);
    round.weights = round.report.after();
    round.sparsity = detail::sparsity_of(round.weights, done.weights);
    if (options.history) options.history->record(model, options.label, t);
    round.metric = detail::number_from(retrain, model, std::as_const(round));
    done.rounds.push_back(std::move(round));
  }
  done.stopped = options.stop.stop_requested();
  return done;
}

/// Prunes while a network trains, along a schedule over training steps (Zhu & Gupta 2017), where fit() calls it:
///   GradualPruning pruning(CubicSchedule{.final = 0.9, .begin = 1000, .steps = 50, .every = 100});
///   fit(model, adam, data, rng, {.on_step = [&](const Progress&) { pruning(model); }});
/// Counts are exact as in prune_iteratively, relative to the weights of the first call, which must come before anything
/// is pruned; optimizers may go on, whatever they remember: pruned weights stay 0. `weights` and `step` are its state,
/// with which a resumed run goes on.
template <class Schedule, class Criterion = Magnitude>
struct GradualPruning {
  Schedule schedule;
  Criterion criterion;
  PruneOptions options = {};        ///< floors and blocks
  PruneHistory* history = nullptr;  ///< gets the masks at the first call, and every step that pruned with its number
  std::string label = "pruned";     ///< what the steps of the history are called
  std::int64_t step = 0;            ///< state: calls so far, training steps done
  std::int64_t weights = -1;        ///< state: weights at the start, −1 before the first call

  explicit GradualPruning(Schedule over_time, Criterion by = {}, PruneOptions how = {})
      : schedule(std::move(over_time)), criterion(std::move(by)), options(how) {}

  /// To be called after every training step: prunes if the schedule wants fewer weights than there are, and tells what
  /// went; O(layers) otherwise. Throws as prune_iteratively; model and state are then those of before.
  template <class M>
  std::optional<PruneReport> operator()(M& model) {
    constexpr const char* op = "GradualPruning";
    const std::int64_t now = get_network_weight_count(model), start = weights < 0 ? now : weights;
    const double sparsity = schedule(step + 1);
    detail::check_sparsity(op, "what the schedule gives", sparsity);
    if (weights < 0) {
      detail::check_fixed_masks(op, model);
      detail::begin_history(history, model, step);
    }
    std::optional<PruneReport> report;
    if (const std::int64_t left = detail::weights_left(start, sparsity); left < now) {
      report = detail::prune_down_to(model, criterion, left, options);
      if (history) history->record(model, label, step + 1);
    }
    weights = start;
    ++step;
    return report;
  }
};

}  // namespace deepstruct
