// The lottery ticket hypothesis on LeNet-300-100.
#pragma once

#include "lab.hpp"

#include <deepstruct/prune/lottery.hpp>

namespace reproduce {

/// Frankle & Carbin 2019, LeNet-300-100: the ticket with 51.3, 21.1 and 3.6 % of the weights is as good as the dense
/// network, the same structure with other initial values is not; 20 % of each layer go per round, of the last 10 %. As
/// in the paper: Adam with a constant rate, and a network is judged where its loss on 5000 held-out samples is least.
inline void lottery(Lab& lab) {
  const std::string result = "lottery ticket";
  const std::vector<int> levels = lab.brief ? std::vector{3, 7} : std::vector{3, 7, 15};
  const auto kept = [](int level) { return level == 3 ? "51.3" : level == 7 ? "21.1" : "3.6"; };
  const std::int64_t held = lab.brief ? 500 : 5000, n = lab.train.size();
  std::vector<std::int32_t> rows(static_cast<std::size_t>(n));
  for (std::size_t k = 0; k < rows.size(); ++k) rows[k] = static_cast<std::int32_t>(k);
  const auto middle = rows.begin() + static_cast<std::ptrdiff_t>(n - held);
  const ds::Dataset train = lab.train.subset(std::span<const std::int32_t>(rows.begin(), middle)),
                    validation = lab.train.subset(std::span<const std::int32_t>(middle, rows.end()));

  // Trains, and returns the accuracy in per cent of the epoch with the least loss on the held-out samples.
  const auto learn = [&](auto& model, std::uint64_t seed) {
    ds::Rng rng(seed);
    ds::Adam adam{.lr = 1.2e-3};
    double least = std::numeric_limits<double>::infinity(), accuracy = 0;
    for (int epoch = 0; epoch < lab.epochs(20, 3); ++epoch) {
      if (ds::fit(model, adam, train, rng, {.batch_size = 60, .stop = lab.stop}).stopped) throw Stopped();
      const double loss = ds::evaluate(model, validation).loss;
      if (loss >= least) continue;
      least = loss;
      accuracy = 100 * ds::evaluate(model, lab.test).accuracy;
    }
    return accuracy;
  };

  std::vector<double> dense;
  std::vector<std::vector<double>> ticket(levels.size()), reinit(levels.size());
  for (int seed = 1; seed <= lab.seeds; ++seed) {
    ds::Rng rng(static_cast<std::uint64_t>(seed));
    const ds::MaskedDeepFFN start = lab.network(rng);
    const auto found = ds::lottery_ticket(start,
                                          [&](auto& m, const ds::PruneRound& round) {
                                            const double accuracy = learn(m, static_cast<std::uint64_t>(1000 * seed));
                                            lab.measured(result, "ticket, round " + std::to_string(round.round), seed,
                                                         round.weights, accuracy, "% accuracy");
                                            return accuracy;
                                          },
                                          {.rounds = levels.back(), .rates = {{"_layer_out", 0.1}}});
    dense.push_back(*found.rounds.rounds[0].metric);
    if (seed == 1) {
      ds::MaskedDeepFFN whole = start, last = found.model;
      learn(whole, 1000);
      learn(last, 1000);
      lab.card(result, whole, ds::pack(last));
    }
    for (std::size_t k = 0; k < levels.size(); ++k) {
      ticket[k].push_back(*found.rounds.rounds[static_cast<std::size_t>(levels[k])].metric);
      ds::MaskedDeepFFN same = start;
      found.history.replay(same, levels[k]);
      same = ds::random_reinit(std::move(same), rng);
      reinit[k].push_back(learn(same, static_cast<std::uint64_t>(1000 * seed)));
      lab.measured(result, "new initial values, round " + std::to_string(levels[k]), seed,
                   ds::get_network_weight_count(same), reinit[k].back(), "% accuracy");
    }
  }
  const Spread whole(dense);
  for (std::size_t k = 0; k < levels.size(); ++k) {
    const Spread t(ticket[k]), r(reinit[k]);
    const bool last = levels[k] == 15;
    const double slack = lab.brief ? 1 : 0;
    lab.claim({"lottery ticket, " + std::string(kept(levels[k])) + " % kept",
               "ticket >= dense, new initial values fall behind",
               last ? "ticket >= dense, ahead of new values by 0.3 points" : "ticket >= dense and > new values",
               "ticket " + t.str() + ", dense " + whole.str() + ", new values " + r.str() + " % accuracy",
               t.mean >= whole.mean - slack && t.mean > r.mean + (last ? 0.3 : 0) - slack});
  }
}

}  // namespace reproduce
