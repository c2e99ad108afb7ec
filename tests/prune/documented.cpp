// The lines of the README on pruning, as they stand there.
#include <deepstruct/prune.hpp>

#include "support/cases.hpp"

namespace {

namespace ds = deepstruct;

ds::Dataset documented_data(std::int64_t n, ds::Rng& rng) {
  ds::Indices y = ds::Indices::empty({n});
  ds::Tensor x = ds::Tensor::normal({n, 784}, 0, 1, rng);
  for (std::int64_t i = 0; i < n; ++i) {
    y(i) = static_cast<std::int32_t>(i % 10);
    x(i, y(i)) += 5;
  }
  return {x, y, 10};
}

}  // namespace

TEST_CASE("what the README shows of pruning does what it says") {
  ds::Rng rng(1);
  const ds::Dataset train = documented_data(60, rng);
  const ds::MaskedDeepFFN untrained(784, 10, {20, 10}, {}, rng);
  const std::int64_t all = ds::get_network_weight_count(untrained);
  ds::Adam adam;

  auto data = ds::batches(train, 128);
  ds::MaskedDeepFFN model = untrained;
  ds::prune(
      model, [&](auto& m) { ds::set_snip_saliency(m, data); }, ds::remaining(1300));
  REQUIRE(ds::get_network_weight_count(model) == 1300);

  model = untrained;
  const ds::PruneRounds rounds =
      ds::prune_iteratively(model, ds::Magnitude(), ds::IterativeSchedule{.final = 0.98, .rounds = 8},
                            [&](auto& m, auto&) { ds::fit(m, adam, train, rng, {.epochs = 1}); });
  REQUIRE(rounds.rounds.size() == 8);
  REQUIRE(ds::get_network_weight_count(model) == all - std::llround(0.98 * static_cast<double>(all)));

  model = untrained;
  ds::prune_to(model, 1000, ds::multiply_adds_of({1, 784}));
  REQUIRE(ds::multiply_adds_of({1, 784})(model) <= 1000);

  model = untrained;
  ds::optimal_brain_compression(model, data, ds::percentage(80));
  REQUIRE(5 * ds::get_network_weight_count(model) <= all + 10);

  model = untrained;
  const ds::MaskedDeepFFN slim = ds::prune_units(model, {1, 784}, ds::percentage(50)).model;
  REQUIRE(slim.layer_first.out_features() < 20);

  const auto learn = [&](auto& m, const ds::PruneRound&) { ds::fit(m, adam, train, rng, {.epochs = 1}); };
  const auto ticket = ds::lottery_ticket(untrained, learn, {.rounds = 2});
  REQUIRE(ticket.history.size() == 3);
}
