// Pruning by magnitude: over the whole network against layer by layer, and in rounds.
#pragma once

#include "in_rounds.hpp"

namespace reproduce {

/// Stier & Granitzer (arXiv 2107.12917): with 80 % of the weights removed and retraining, class-blinded magnitude
/// reaches 97.5 % on MNIST; class-uniform is inferior.
inline void magnitude(Lab& lab) {
  const std::string result = "magnitude, 80 % removed";
  std::vector<double> dense, blinded, uniform, blinded_raw, uniform_raw;
  for (int seed = 1; seed <= lab.seeds; ++seed) {
    ds::Rng rng(static_cast<std::uint64_t>(seed));
    ds::MaskedDeepFFN trained = lab.network(rng);
    lab.fit(trained, {.epochs = lab.epochs(20, 3)}, rng);
    dense.push_back(lab.error(trained));
    lab.measured(result, "dense", seed, ds::get_network_weight_count(trained), dense.back());
    for (const bool whole : {true, false}) {
      const std::string how = whole ? "class-blinded" : "class-uniform";
      ds::MaskedDeepFFN model = trained;
      ds::Rng own(static_cast<std::uint64_t>(seed));
      if (whole)
        ds::magnitude_class_blinded(model, ds::percentage(80), {.exact = true});
      else
        ds::magnitude_class_uniform(model, ds::percentage(80), {.exact = true});
      ds::forget_pruned(model);
      (whole ? blinded_raw : uniform_raw).push_back(lab.error(model));
      lab.measured(result, how + ", not retrained", seed, ds::get_network_weight_count(model),
                   (whole ? blinded_raw : uniform_raw).back());
      const Recipe recipe{.epochs = lab.epochs(4, 2), .lr = 0.01};
      lab.fit(model, recipe, own);
      (whole ? blinded : uniform).push_back(lab.error(model));
      lab.measured(result, how, seed, ds::get_network_weight_count(model), (whole ? blinded : uniform).back());
      if (seed == 1 && whole)
        lab.card(result, lab.trained(trained, recipe, ds::Rng(static_cast<std::uint64_t>(seed))), ds::pack(model));
    }
  }
  const Spread b(blinded), u(uniform), raw_b(blinded_raw), raw_u(uniform_raw);
  const double most = lab.brief ? 25 : 2.5;
  lab.claim({"class-blinded, 80 % removed, retrained", "2.5 % error", "<= " + examples::fixed(most, 1) + " % error",
             b.str() + " % (dense " + Spread(dense).str() + " %)", b.mean <= most});
  lab.claim({"class-blinded against class-uniform, retrained", "blinded clearly ahead", "blinded <= uniform",
             b.str() + " and " + u.str() + " % (not retrained: " + raw_b.str() + " and " + raw_u.str() + " %)",
             lab.brief ? b.mean <= u.mean + 1 && raw_b.mean < raw_u.mean : b.mean <= u.mean});
}

/// Han et al. 2015: prune and retrain in rounds down to 8.3 % of the weights, error 1.6 %.
inline void han(Lab& lab) {
  in_rounds(lab,
            {.result = "iterative magnitude, 8.3 % kept",
             .published = "1.6 % error",
             .kept = 0.083,
             .rounds = 6,
             .epochs = 15,
             .most_error = 1.7},
            ds::Magnitude());
}

}  // namespace reproduce
