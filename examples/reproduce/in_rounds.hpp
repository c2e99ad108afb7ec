// Pruning in rounds, trained in between: what iterative magnitude and optimal brain damage share.
#pragma once

#include "lab.hpp"

#include <deepstruct/prune/iterative.hpp>

namespace reproduce {

/// A result of pruning in rounds.
struct InRounds {
  std::string result, published;
  double kept = 0;        ///< share of the weights
  int rounds = 1;         ///< 2 where it has to be brief
  int epochs = 10;        ///< after every round but the last, which has 40
  double most_error = 0;  ///< per cent, mean over the networks
};

/// Trains dense networks, prunes them in rounds by a criterion, and claims the error that is left.
template <class Criterion>
void in_rounds(Lab& lab, const InRounds& what, const Criterion& criterion) {
  std::vector<double> errors;
  for (int seed = 1; seed <= lab.seeds; ++seed) {
    ds::Rng rng(static_cast<std::uint64_t>(seed));
    ds::MaskedDeepFFN model = lab.network(rng);
    lab.fit(model, {.epochs = lab.epochs(30, 3)}, rng);
    lab.measured(what.result, "dense", seed, ds::get_network_weight_count(model), lab.error(model));
    ds::MaskedDeepFFN dense = model;
    ds::Rng dense_rng = rng;
    ds::prune_iteratively(
        model, criterion, ds::IterativeSchedule{.final = 1 - what.kept, .rounds = lab.brief ? 2 : what.rounds},
        [&](auto& m, const ds::PruneRound& round) {
          const Recipe recipe{.epochs = lab.epochs(round.round == round.rounds ? 40 : what.epochs, 2)};
          lab.fit(m, recipe, rng);
          if (seed == 1) lab.fit(dense, recipe, dense_rng);  // for the report card
          lab.measured(what.result, "round " + std::to_string(round.round), seed, round.weights, lab.error(m));
        });
    errors.push_back(lab.error(model));
    if (seed == 1) lab.card(what.result, dense, ds::pack(model));
  }
  const Spread e(errors);
  const double most = lab.brief ? 25 : what.most_error;
  lab.claim(
      {what.result, what.published, "<= " + examples::fixed(most, 1) + " % error", e.str() + " %", e.mean <= most});
}

}  // namespace reproduce
