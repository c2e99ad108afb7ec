// Optimal brain damage on LeNet-300-100.
#pragma once

#include "lab.hpp"

#include <deepstruct/prune/iterative.hpp>
#include <deepstruct/prune/obd.hpp>

namespace reproduce {

/// Optimal brain damage (LeCun, Denker & Solla 1990) as later papers ran it on LeNet-300-100: 8 % of the weights, error
/// 2.0 %.
inline void obd(Lab& lab) {
  const std::string result = "OBD, 8 % kept";
  std::vector<double> errors;
  for (int seed = 1; seed <= lab.seeds; ++seed) {
    ds::Rng rng(static_cast<std::uint64_t>(seed));
    ds::MaskedDeepFFN model = lab.network(rng);
    lab.fit(model, {.epochs = lab.epochs(30, 3)}, rng);
    lab.measured(result, "dense", seed, ds::get_network_weight_count(model), lab.error(model));
    const auto sample = lab.some(lab.brief ? 500 : 5000, 500);
    ds::prune_iteratively(
        model, [&](auto& m) { ds::set_obd_saliency(m, sample, {}, {.curvature = ds::Curvature::gauss_newton}); },
        ds::IterativeSchedule{.final = 0.92, .rounds = lab.brief ? 2 : 5},
        [&](auto& m, const ds::PruneRound& round) {
          lab.fit(m, {.epochs = lab.epochs(round.round == round.rounds ? 40 : 10, 2)}, rng);
          lab.measured(result, "round " + std::to_string(round.round), seed, round.weights, lab.error(m));
        });
    errors.push_back(lab.error(model));
  }
  const Spread e(errors);
  const double most = lab.brief ? 25 : 2.0;
  lab.claim({result, "2.0 % error", "<= " + examples::fixed(most, 1) + " % error", e.str() + " %", e.mean <= most});
}

}  // namespace reproduce
