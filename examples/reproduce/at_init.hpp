// Pruning before training: SNIP, SynFlow.
#pragma once

#include "lab.hpp"

#include <deepstruct/prune/connect.hpp>
#include <deepstruct/prune/first_order.hpp>
#include <deepstruct/prune/synflow.hpp>

namespace reproduce {

/// Lee et al. 2019: LeNet-300-100 pruned once at initialisation by SNIP, error 1.6 % with 5 % of the weights, 2.4 %
/// with 2 %. Weights that lie on no path from a pixel to an output are of no use: they go, and the next salient ones
/// that do stay in their place (prune_connected).
inline void snip(Lab& lab) {
  for (const bool most_gone : {false, true}) {
    const double kept = most_gone ? 0.02 : 0.05;
    const std::string result = "SNIP, " + examples::shortest(100 * (1 - kept)) + " % removed";
    std::vector<double> errors;
    for (int seed = 1; seed <= lab.seeds; ++seed) {
      ds::Rng rng(static_cast<std::uint64_t>(seed));
      ds::MaskedDeepFFN untrained = lab.network(rng);
      // Half as large they generalise better: with 5 % of the weights 1.86 % error (nine networks) instead of 1.96
      // (three networks, three runs each).
      ds::each_masked(untrained, [](auto& layer) {
        layer.weight.set_value(ds::affine(ds::Var(layer.weight.value()), 0.5F, 0).value());
      });
      ds::MaskedDeepFFN model = untrained;
      ds::set_snip_saliency(model, lab.some(10'000));
      ds::prune_connected(model, ds::percentage(100 * (1 - kept)), ds::with_extent(lab.train.x_shape(), 0, 1));
      ds::MaskedDeepFFN small = ds::pack(model);
      // 250 epochs are as many as in the paper; the sparser network gains 0.1 points by another 250.
      const Recipe recipe{.epochs = lab.epochs(most_gone ? 500 : 250, 6), .lr = most_gone ? 0.2 : 0.1};
      const ds::Rng dense_rng = rng;
      lab.fit(small, recipe, rng);
      errors.push_back(lab.error(small));
      if (seed == 1 && !most_gone) lab.card(result, lab.trained(untrained, recipe, dense_rng), small);
      lab.measured(result, "trained", seed, ds::get_network_weight_count(small), errors.back());
    }
    const Spread e(errors);
    const double most = lab.brief ? (most_gone ? 30 : 25) : (most_gone ? 2.6 : 1.9);
    lab.claim({result, most_gone ? "2.4 % error" : "1.6 % error", "<= " + examples::fixed(most, 1) + " % error",
               e.str() + " %", e.mean <= most});
  }
}

/// Tanaka et al. 2020: with 99.9 % of the weights removed no layer collapses, where global magnitude empties one.
inline void synflow(Lab& lab) {
  const std::string result = "SynFlow, 99.9 % removed";
  int alive = 0, collapsed = 0;
  std::vector<double> errors;
  for (int seed = 1; seed <= lab.seeds; ++seed) {
    ds::Rng rng(static_cast<std::uint64_t>(seed));
    const ds::MaskedDeepFFN untrained = lab.network(rng);
    ds::MaskedDeepFFN by_size = untrained, model = untrained;
    const auto gone = ds::magnitude_class_blinded(by_size, ds::percentage(99.9), {.exact = true});
    collapsed += !gone.emptied().empty();
    lab.measured(result, "global magnitude, layers emptied", seed, gone.after(),
                 static_cast<double>(gone.emptied().size()), "layers");
    const auto left = ds::synflow(model, ds::percentage(99.9), ds::with_extent(lab.train.x_shape(), 0, 1));
    alive += left.emptied().empty();
    lab.measured(result, "SynFlow, layers emptied", seed, left.after(), static_cast<double>(left.emptied().size()),
                 "layers");
    ds::MaskedDeepFFN small = ds::pack(model);
    const Recipe recipe{.epochs = lab.epochs(40, 3), .weight_decay = 0};
    const ds::Rng dense_rng = rng;
    lab.fit(small, recipe, rng);
    errors.push_back(lab.error(small));
    if (seed == 1) lab.card(result, lab.trained(untrained, recipe, dense_rng), small);
    lab.measured(result, "SynFlow, trained", seed, left.after(), errors.back());
  }
  const std::string of = " of " + std::to_string(lab.seeds);
  lab.claim({result, "no layer collapse", "every layer alive, where global magnitude kills one",
             std::to_string(alive) + of + " networks whole, " + std::to_string(collapsed) + of +
                 " collapse by magnitude (trained: " + Spread(errors).str() + " % error)",
             alive == lab.seeds && collapsed == lab.seeds});
}

}  // namespace reproduce
