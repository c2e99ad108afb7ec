// Pruning over time: schedules, rounds with retraining, pruning while training, weights that stay away.
#include <sstream>

#include <deepstruct/graph/random_dags.hpp>
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/prune/iterative.hpp>
#include <deepstruct/train/loop.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;
using test::same_bits;

namespace {

using ScheduleConv = Sequential<MaskedConv2d, ReLU, Flatten, MaskedLinearLayer>;

std::vector<Mask> schedule_masks(const auto& model) {
  std::vector<Mask> all;
  each_masked(model, [&](const auto& layer) { all.push_back(layer.mask()); });
  return all;
}
std::vector<Tensor> schedule_params(const auto& model) {
  std::vector<Tensor> all;
  each_param(model, [&](const Param& p) { all.push_back(p.value()); });
  return all;
}
bool schedule_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  bool same = a.size() == b.size();
  for (std::size_t k = 0; same && k < a.size(); ++k) same = same_bits(a[k], b[k]);
  return same;
}
bool schedule_within(const std::vector<Mask>& after, const std::vector<Mask>& before) {
  bool all = after.size() == before.size();
  for (std::size_t l = 0; all && l < after.size(); ++l)
    after[l].for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { all &= before[l].contains(r, c); });
  return all;
}
/// Random pruning by one's own generator.
struct ScheduleRandom {
  Rng* rng;
  int* calls;
  void operator()(auto& model) const {
    ++*calls;
    set_random_saliency(model, *rng);
  }
};

/// Runs rounds and checks everything that a round promises.
template <class M, class S>
void schedule_check(M model, const S& schedule, std::int64_t rounds, Rng& rng) {
  const M original = model;
  const std::int64_t n = get_network_weight_count(model);
  PruneHistory history;
  int calls = 0, retrained = 0, pruned = 0;
  std::int64_t least = n;
  auto before = schedule_masks(model);
  std::vector<std::vector<Mask>> masks{before};
  const PruneRounds done = prune_iteratively(
      model, ScheduleRandom{&rng, &calls}, schedule,
      [&](M& m, const PruneRound& round) {
        ++retrained;
        REQUIRE(round.round == retrained);
        REQUIRE(round.rounds == rounds);
        const double gone = std::nearbyint(schedule(round.round) * static_cast<double>(n));
        const std::int64_t want = std::min(least, n - static_cast<std::int64_t>(gone));
        pruned += want < least;
        REQUIRE(get_network_weight_count(m) == want);
        REQUIRE(round.weights == want);
        REQUIRE(round.report.after() == want);
        REQUIRE(round.report.before() == least);
        REQUIRE(round.sparsity == (n == 0 ? 0 : 1 - static_cast<double>(want) / static_cast<double>(n)));
        const auto now = schedule_masks(m);
        REQUIRE(schedule_within(now, before));
        before = now;
        masks.push_back(now);
        least = want;
        each_param(m, [&](Param& p) {  // as training would: everything moves
          if (p.size() > 0) p.set_value(Tensor::uniform(p.shape(), -1, 1, rng));
        });
        return static_cast<double>(round.round) / 8;
      },
      {.rounds = rounds, .history = &history, .label = "at random"});
  REQUIRE(retrained == rounds);
  REQUIRE(calls == pruned);
  REQUIRE_FALSE(done.stopped);
  REQUIRE(done.weights == n);
  REQUIRE(static_cast<std::int64_t>(done.rounds.size()) == rounds);
  for (std::int64_t k = 0; k < rounds; ++k) {
    REQUIRE(done.rounds[static_cast<std::size_t>(k)].metric == static_cast<double>(k + 1) / 8);
    REQUIRE(done.rounds[static_cast<std::size_t>(k)].round == k + 1);
  }
  REQUIRE(history.size() == rounds + 1);
  for (std::int64_t k = 0; k <= rounds; ++k) {
    M back = original;
    history.replay(back, k);
    REQUIRE(schedule_masks(back) == masks[static_cast<std::size_t>(k)]);
    REQUIRE(history.time(k) == k);
    REQUIRE(history.label(k) == (k == 0 ? "start" : "at random"));
  }
}

/// Everything stored behind the masks, weights and slots, is 0; counts what stands there.
template <class M>
std::int64_t schedule_behind(const M& model) {
  std::int64_t not_zero = 0;
  each_masked(model, [&](const auto& layer) {
    if (layer.packed()) return;
    const Mask mask = layer.mask();
    const auto count = [&](const Tensor& t) {
      const Tensor w = Tensor(t).with_shape(mask.shape());
      for (std::int64_t r = 0; r < mask.rows(); ++r)
        for (std::int64_t c = 0; c < mask.cols(); ++c) not_zero += !mask.contains(r, c) && w(r, c) != 0;
    };
    count(layer.weight.value());
    for (const Param::Slot& s : layer.weight.slots()) count(s.value);
  });
  return not_zero;
}

template <class M>
void schedule_step(M& model, auto& optimizer, const Tensor& x, Rng& rng) {
  const Var y = model(x);
  backward(mean(square(y - Tensor::uniform(y.shape(), -1, 1, rng))));
  optimizer.step(model);
}

Dataset schedule_data(std::int64_t samples, std::int64_t features, Rng& rng) {
  const Tensor x = Tensor::uniform({samples, features}, -1, 1, rng);
  Indices y = Indices::empty({samples});
  for (std::int64_t i = 0; i < samples; ++i) y(i) = x(i, 0) > 0 ? (x(i, 1) > 0 ? 2 : 1) : 0;
  return {x, y, 3};
}

}  // namespace

TEST_CASE("schedules are their formulas") {
  const OneShot once{.final = 0.75, .begin = 3};
  REQUIRE(once(0) == 0);
  REQUIRE(once(2) == 0);
  REQUIRE(once(3) == 0.75);
  REQUIRE(once(99) == 0.75);
  REQUIRE(once.last() == 3);
  REQUIRE(OneShot{.final = 1}(1) == 1);

  const IterativeSchedule halves{.final = 0.875, .rounds = 3};  // left: 1, 1/2, 1/4, 1/8
  for (const auto& [t, s] : std::vector<std::pair<std::int64_t, double>>{{0, 0}, {1, 0.5}, {2, 0.75}, {3, 0.875}})
    REQUIRE(std::fabs(halves(t) - s) < 1e-15);
  REQUIRE(halves(3) == 0.875);
  REQUIRE(halves(50) == 0.875);
  REQUIRE(halves.last() == 3);
  REQUIRE(std::fabs(IterativeSchedule{.final = 0.9, .rounds = 2}(1) - 0.6837722339831620) < 1e-15);  // 1 − √0.1
  REQUIRE(IterativeSchedule{}(1) == 0);

  const CubicSchedule cubic{.initial = 0.2, .final = 0.8, .begin = 10, .steps = 3, .every = 5};
  const std::vector<std::pair<std::int64_t, double>> values{{0, 0},
                                                            {9, 0},
                                                            {10, 0.2},
                                                            {14, 0.2},
                                                            {15, 0.8 - 0.6 * 8 / 27},
                                                            {19, 0.8 - 0.6 * 8 / 27},
                                                            {20, 0.8 - 0.6 / 27},
                                                            {24, 0.8 - 0.6 / 27},
                                                            {25, 0.8},
                                                            {1000, 0.8}};
  for (const auto& [t, s] : values) {
    INFO("t = " << t);
    REQUIRE(std::fabs(cubic(t) - s) < 1e-15);
  }
  REQUIRE(cubic(25) == 0.8);
  REQUIRE(cubic.last() == 25);
  REQUIRE(CubicSchedule{.final = 0.5, .steps = 4}(2) == 0.5 - 0.5 / 8);
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  REQUIRE(CubicSchedule{.final = 0.5, .begin = most - 1, .every = most}(most) == 0);
  for (std::int64_t t = 0; t < 40; ++t) REQUIRE(cubic(t + 1) >= cubic(t));
}

TEST_CASE("schedules refuse settings without meaning") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {-0.1, 1.1, nan}) {
    require_error([&] { OneShot{.final = bad}(1); }, {"OneShot: final must be a share"});
    require_error([&] { IterativeSchedule{.final = bad}(1); }, {"IterativeSchedule: final must be a share"});
    require_error([&] { CubicSchedule{.final = bad}(1); }, {"CubicSchedule: final must be a share"});
    require_error([&] { CubicSchedule{.initial = bad, .final = 0.5}(1); }, {"CubicSchedule: initial must be a share"});
  }
  require_error([] { OneShot{.final = 0.5}(-1); }, {"OneShot: need t >= 0 (-1)"});
  require_error([] { OneShot{.final = 0.5, .begin = -1}(0); }, {"OneShot: need begin >= 0 (-1)"});
  require_error([] { IterativeSchedule{.final = 0.5}(-1); }, {"IterativeSchedule: need t >= 0 (-1)"});
  require_error([] { IterativeSchedule{.final = 1}(0); }, {"IterativeSchedule: need final < 1"});
  require_error([] { IterativeSchedule{.final = 0.5, .rounds = 0}(0); }, {"IterativeSchedule: need rounds >= 1 (0)"});
  require_error([] { CubicSchedule{.final = 0.5}(-1); }, {"CubicSchedule: need t >= 0 (-1)"});
  require_error([] { CubicSchedule{.initial = 0.6, .final = 0.5}(0); }, {"CubicSchedule: need initial <= final"});
  for (const CubicSchedule& bad : {CubicSchedule{.begin = -1}, CubicSchedule{.steps = 0}, CubicSchedule{.every = 0}}) {
    require_error([&] { bad(0); }, {"CubicSchedule: need begin >= 0, steps >= 1 and every >= 1"});
    require_error([&] { bad.last(); }, {"CubicSchedule: need begin >= 0"});
  }
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  require_error([] { CubicSchedule{.steps = most, .every = 2}.last(); }, {"an end that can be counted"});
}

TEST_CASE("after every round exactly the scheduled number of weights is left, and none comes back") {
  Rng rng(2);
  const LayeredGraph g(random_dag(14, 0.4, rng));
  const auto waves = [](std::int64_t t) { return t % 2 == 0 ? 0.3 : 0.45 + 0.05 * static_cast<double>(t); };
  for (storage store : {storage::full, storage::packed}) {
    const MaskedDeepFFN ffn(9, 4, {7, 5}, {.store = store}, rng);
    MaskedDeepFFN thin = ffn;  // not whole at the start
    random_pruning(thin, percentage(37), rng);
    for (const double target : {0.0, 0.37, 0.999}) {
      for (const std::int64_t rounds : {1, 2, 7}) {
        schedule_check(ffn, IterativeSchedule{.final = target, .rounds = rounds}, rounds, rng);
        schedule_check(thin, IterativeSchedule{.final = target, .rounds = rounds}, rounds, rng);
        schedule_check(ffn, CubicSchedule{.initial = target / 2, .final = target, .begin = 1, .steps = 2, .every = 2},
                       rounds, rng);
      }
      schedule_check(ffn, OneShot{.final = target}, 2, rng);
    }
    schedule_check(ffn, OneShot{.final = 1}, 1, rng);
    schedule_check(ffn, waves, 5, rng);
    schedule_check(ScheduleConv(MaskedConv2d(4, 6, {3, 2}, {.conv = {.groups = 2}, .store = store}, rng), ReLU(),
                                Flatten(), MaskedLinearLayer(24, 3, {.store = store}, rng)),
                   IterativeSchedule{.final = 0.8, .rounds = 3}, 3, rng);
    schedule_check(MaskedDeepDAN(5, 2, g, {.store = store}, rng), IterativeSchedule{.final = 0.8, .rounds = 3}, 3, rng);
    schedule_check(MaskedLinearLayer(0, 3, {.store = store}, rng), OneShot{.final = 0.5}, 1, rng);
  }
  schedule_check(MaskedDeepDAN(5, 2, g, {.joint = true}, rng), IterativeSchedule{.final = 0.8, .rounds = 3}, 3, rng);
}

TEST_CASE("the number of rounds is the schedule's own; full and packed models go the same way") {
  Rng rng(4);
  MaskedDeepFFN full(10, 3, {8}, {}, rng), packed = pack(full);
  int calls = 0;
  const auto none = [&](auto&, const PruneRound&) { ++calls; };
  const IterativeSchedule schedule{.final = 0.9, .rounds = 4};
  const PruneRounds done = prune_iteratively(full, Magnitude(), schedule, none);
  REQUIRE(calls == 4);
  REQUIRE(done.rounds.size() == 4);
  REQUIRE_FALSE(done.rounds[0].metric.has_value());
  prune_iteratively(packed, Magnitude(), schedule, none);
  REQUIRE(schedule_masks(full) == schedule_masks(packed));
  REQUIRE(same_bits(pack(full).layer_first.weight.value(), packed.layer_first.weight.value()));
  calls = 0;
  prune_iteratively(full, Magnitude(), CubicSchedule{.final = 0.95, .begin = 1, .steps = 2, .every = 2}, none);
  REQUIRE(calls == 5);
}

TEST_CASE("a pruned weight stays 0 whatever the optimizer remembers of it") {
  const auto check_all = [](auto optimizer, std::uint64_t seed) {
    for (storage store : {storage::full, storage::packed}) {
      Rng rng(seed);
      ScheduleConv model(MaskedConv2d(2, 3, 2, {.store = store}, rng), ReLU(), Flatten(),
                         MaskedLinearLayer(12, 4, {.store = store}, rng));
      const Tensor x = Tensor::uniform({7, 2, 3, 3}, -1, 1, rng);
      auto with = optimizer;
      GradualPruning pruning(CubicSchedule{.final = 0.7, .begin = 3, .steps = 3, .every = 2});
      auto before = schedule_masks(model);
      for (int step = 1; step <= 14; ++step) {
        schedule_step(model, with, x, rng);
        REQUIRE(schedule_behind(model) == 0);  // nothing moves it
        pruning(model);
        REQUIRE(schedule_behind(model) == 0);
        const auto now = schedule_masks(model);
        REQUIRE(schedule_within(now, before));
        before = now;
      }
      REQUIRE(get_network_weight_count(model) == 72 - 50);
      // Neither does a criterion that sees weights only: what is gone stays gone.
      recompute_mask(model, 1e-30f);
      REQUIRE(schedule_within(schedule_masks(model), before));
    }
  };
  check_all(SGD{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.1}, 1);
  check_all(SGD{.lr = 0.05, .momentum = 0.9, .nesterov = true}, 2);
  check_all(Adam{.lr = 0.05, .weight_decay = 0.1, .amsgrad = true}, 3);
  check_all(AdamW{.lr = 0.05, .weight_decay = 0.1}, 4);
  check_all(RMSprop{.lr = 0.05, .weight_decay = 0.1, .momentum = 0.9, .centered = true}, 5);
  check_all(Adagrad{.lr = 0.05, .weight_decay = 0.1}, 6);
}

TEST_CASE("momentum would move a weight that apply_mask alone has set to 0") {
  Rng rng(8);
  MaskedDeepFFN model(6, 2, {5}, {}, rng), forgotten = model;
  const Tensor x = Tensor::uniform({4, 6}, -1, 1, rng);
  SGD sgd{.lr = 0.1, .momentum = 0.9};
  for (MaskedDeepFFN* m : {&model, &forgotten}) {
    Rng targets(5);
    schedule_step(*m, sgd, x, targets);
    magnitude_class_blinded(*m, percentage(50), {.exact = true});
    m == &model ? apply_mask(*m) : forget_pruned(*m);
    REQUIRE(same_bits(m->layer_first.weight.value(), m->layer_first.effective_weight()));
    schedule_step(*m, sgd, x, targets);
    REQUIRE((schedule_behind(*m) > 0) == (m == &model));
  }
  recompute_mask(model, 1e-30f);
  recompute_mask(forgotten, 1e-30f);
  REQUIRE(get_network_weight_count(model) > 20);
  REQUIRE(get_network_weight_count(forgotten) == 20);
  REQUIRE(same_bits(pack(forgotten).layer_out.weight.value(),
                    [&] {  // the edges themselves train the same with and without
                      Rng again(8), targets(5);
                      MaskedDeepFFN m(6, 2, {5}, {}, again);
                      schedule_step(m, sgd, x, targets);
                      magnitude_class_blinded(m, percentage(50), {.exact = true});
                      schedule_step(m, sgd, x, targets);
                      return pack(m).layer_out.weight.value();
                    }()));
}

TEST_CASE("forgetting keeps edges, soft factors and packed layers as they are") {
  Rng rng(9);
  MaskedLinearLayer soft(3, 2, {}, rng), packed(3, 2, {.store = storage::packed}, rng);
  soft.set_soft_mask(Tensor::from({2, 3}, {0.5f, 1, 0, 0, 2, 1}));
  const Tensor effective = soft.effective_weight(), values = packed.weight.value();
  for (int k = 0; k < 2; ++k) {
    forget_pruned(soft);
    forget_pruned(packed);
    REQUIRE(same_bits(soft.effective_weight(), effective));
    REQUIRE(soft.weight.value()(0, 2) == 0);
    REQUIRE(soft.weight.value()(1, 0) == 0);
    REQUIRE(same_bits(packed.weight.value(), values));
  }
}

TEST_CASE("rounds end where the stop token says") {
  Rng rng(10);
  const MaskedDeepFFN original(6, 2, {5}, {}, rng);
  MaskedDeepFFN model = original;
  std::stop_source source;
  const IterativeSchedule schedule{.final = 0.9, .rounds = 5};
  int calls = 0;
  PruneRounds done = prune_iteratively(model, Magnitude(), schedule,
                                       [&](auto&, const PruneRound&) {
                                         if (++calls == 2) source.request_stop();
                                       },
                                       {.stop = source.get_token()});
  REQUIRE(calls == 2);
  REQUIRE(done.stopped);
  REQUIRE(done.rounds.size() == 2);
  REQUIRE(get_network_weight_count(model) == done.rounds[1].weights);
  MaskedDeepFFN same = original;
  done = prune_iteratively(same, Magnitude(), schedule, [](auto&, const PruneRound&) {}, {.stop = source.get_token()});
  REQUIRE(done.stopped);
  REQUIRE(done.rounds.empty());
  REQUIRE(schedule_same(schedule_params(same), schedule_params(original)));
  REQUIRE(schedule_masks(same) == schedule_masks(original));
}

TEST_CASE("a criterion that fails in a later round leaves the model as it was after the round before") {
  for (storage store : {storage::full, storage::packed}) {
    Rng rng(11);
    MaskedDeepFFN model(6, 2, {5}, {.store = store}, rng), after_first = model;
    PruneHistory history;
    int calls = 0;
    const auto failing = [&](auto& m) {
      set_magnitude_saliency(m);
      if (++calls < 2) return;
      set_random_saliency(m, rng);
      fail("criterion: out of luck (", calls, ")");
    };
    const auto retrain = [&](auto& m, const PruneRound&) {
      each_param(m, [&](Param& p) { p.set_value(Tensor::uniform(p.shape(), -1, 1, rng)); });
      after_first = m;
    };
    require_error(
        [&] {
          prune_iteratively(model, failing, IterativeSchedule{.final = 0.9, .rounds = 3}, retrain,
                            {.history = &history});
        },
        {"criterion: out of luck (2)"});
    REQUIRE(schedule_masks(model) == schedule_masks(after_first));
    REQUIRE(schedule_same(schedule_params(model), schedule_params(after_first)));
    REQUIRE_FALSE(model.layer_first.has_saliency());
    REQUIRE(history.size() == 2);
    // And it can go on from there: a history that ends with these masks gets no second start.
    prune_iteratively(model, Magnitude(), OneShot{.final = 0.5}, retrain, {.history = &history});
    REQUIRE(history.size() == 3);
  }
}

TEST_CASE("floors hold in rounds, layers that were emptied are named") {
  Rng rng(12);
  MaskedDeepFFN model(8, 2, {6}, {}, rng), empty = model;
  const auto none = [](auto&, const PruneRound& round) { return round.sparsity; };
  const PruneRounds floored =
      prune_iteratively(model, Magnitude(), OneShot{.final = 1}, none, {.prune = {.keep_per_layer = 3}});
  REQUIRE(floored.rounds[0].weights == 6);
  REQUIRE(floored.rounds[0].sparsity == 0.9);
  REQUIRE(model.layer_out.mask().nnz() == 3);
  const PruneRounds all = prune_iteratively(empty, Magnitude(), OneShot{.final = 1}, [](auto&, const PruneRound&) {});
  std::ostringstream text;
  floored.write(text);
  all.write(text);
  REQUIRE(text.str() ==
          "round 1: 6 of 60 weights, 90 % sparse, metric 0.9\n"
          "round 1: 0 of 60 weights, 100 % sparse; emptied _layer_first, _layer_out\n");
}

TEST_CASE("rounds refuse what cannot work before anything changes") {
  Rng rng(13);
  MaskedDeepFFN model(6, 2, {5}, {}, rng), other(6, 2, {4}, {}, rng);
  const auto masks = schedule_masks(model);
  int calls = 0;
  const auto retrain = [&](auto&, const PruneRound&) { ++calls; };
  const auto late = [](std::int64_t t) { return t < 3 ? 0.5 : 1.5; };
  require_error([&] { prune_iteratively(model, Magnitude(), late, retrain, {.rounds = 3}); },
                {"prune_iteratively: what the schedule gives must be a share from 0 to 1 (1.5)"});
  require_error([&] { prune_iteratively(model, Magnitude(), late, retrain); },
                {"prune_iteratively: needs at least one round (0)"});
  require_error([&] { prune_iteratively(model, Magnitude(), OneShot{.final = 0.5}, retrain, {.rounds = -2}); },
                {"prune_iteratively: needs at least one round (-2)"});
  require_error([&] { prune_iteratively(model, Magnitude(), OneShot{.final = 2}, retrain); }, {"OneShot: final"});
  require_error(
      [&] { prune_iteratively(model, Magnitude(), OneShot{.final = 0.5}, retrain, {.prune = {.keep_per_layer = -1}}); },
      {"prune_iteratively: the floor"});
  PruneHistory history;
  history.record(other);
  const PruneHistory before = history;
  require_error([&] { prune_iteratively(model, Magnitude(), OneShot{.final = 0.5}, retrain, {.history = &history}); },
                {"record: the model has other masked layers"});
  REQUIRE(history == before);
  MaskedLinearLayer learned(3, 2, {.learnable_mask = true}, rng);
  require_error([&] { prune_iteratively(learned, Magnitude(), OneShot{.final = 0.5}, retrain); },
                {"prune_iteratively: a learnable mask"});
  require_error([&] { GradualPruning(OneShot{.final = 0.5})(learned); }, {"GradualPruning: a learnable mask"});
  REQUIRE(learned.mask().is_full());
  Linear dense(2, 2, rng);
  require_error([&] { prune_iteratively(dense, Magnitude(), OneShot{.final = 0.5}, retrain); },
                {"prune_iteratively: the model has no masked layers"});
  REQUIRE(schedule_masks(model) == masks);
  REQUIRE(calls == 0);
}

TEST_CASE("pruning while training follows its schedule step by step, and a resumed run is the same run") {
  for (storage store : {storage::full, storage::packed}) {
    Rng rng(14);
    const Dataset data = schedule_data(60, 4, rng);
    MaskedDeepFFN model(4, 3, {10}, {.store = store}, rng), resumed = model;
    const std::int64_t n = get_network_weight_count(model);
    const CubicSchedule schedule{.initial = 0.1, .final = 0.8, .begin = 4, .steps = 3, .every = 3};
    PruneHistory history;
    GradualPruning pruning(schedule), later = pruning;
    pruning.history = &history;
    Adam adam{.lr = 0.01}, adam_later;
    Rng order(3), order_later;
    std::int64_t steps = 0, pruned = 0;
    fit(model, adam, data, order, {.epochs = 6, .batch_size = 20, .on_step = [&](const Progress&) {
                                     ++steps;
                                     const std::int64_t before = get_network_weight_count(model);
                                     const auto report = pruning(model);
                                     const double gone = std::nearbyint(schedule(steps) * static_cast<double>(n));
                                     REQUIRE(get_network_weight_count(model) == n - static_cast<std::int64_t>(gone));
                                     REQUIRE(report.has_value() == (get_network_weight_count(model) < before));
                                     pruned += report.has_value();
                                     if (steps == 9) {  // the end of an epoch
                                       resumed = model;
                                       later = pruning;
                                       adam_later = adam;
                                       order_later = order;
                                     }
                                   }});
    REQUIRE(steps == 18);
    REQUIRE(pruned == 4);
    REQUIRE(history.size() == 5);
    for (const auto& [k, t] : std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 0}, {1, 4}, {2, 7}, {4, 13}})
      REQUIRE(history.time(k) == t);
    later.history = nullptr;
    fit(resumed, adam_later, data, order_later,
        {.epochs = 3, .batch_size = 20, .on_step = [&](const Progress&) { later(resumed); }});
    REQUIRE(schedule_masks(resumed) == schedule_masks(model));
    REQUIRE(schedule_same(schedule_params(resumed), schedule_params(model)));
  }
}

TEST_CASE("a call that fails while training changes neither the model nor where the schedule is") {
  Rng rng(15);
  MaskedDeepFFN model(4, 3, {5}, {}, rng);
  bool broken = true;
  GradualPruning pruning(OneShot{.final = 0.5}, [&](auto& m) {
    check(!broken, "criterion: broken (", broken, ")");
    set_magnitude_saliency(m);
  });
  require_error([&] { pruning(model); }, {"criterion: broken"});
  REQUIRE(get_network_weight_count(model) == 35);
  REQUIRE(pruning.step == 0);
  REQUIRE(pruning.weights == -1);
  broken = false;
  REQUIRE(pruning(model)->after() == 35 - 18);  // 17.5 to even
  REQUIRE(pruning.step == 1);
}
