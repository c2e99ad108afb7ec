// Training checkpoints: a run that was stopped anywhere and goes on is bitwise the run that never stopped.
#include <deepstruct/io/checkpoint.hpp>
#include <deepstruct/ops/loss.hpp>
#include <deepstruct/prune/prune.hpp>
#include <deepstruct/train/loop.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

/// A network with dropout in front of its body.
template <class Body>
struct ResumedNet {
  Dropout drop{0.2f};
  Body body;
  Var operator()(const Var& x) const { return body(drop(x)); }
  static auto fields(auto& m) { return std::tuple{Field{"drop", m.drop}, Field{"body", m.body}}; }
};

Dataset resumed_data() {
  Rng rng(4);
  const Tensor x = Tensor::normal({23, 6}, 0, 1, rng);
  Indices labels = Indices::empty({23});
  for (std::int64_t i = 0; i < 23; ++i) labels(i) = static_cast<std::int32_t>(rng.below(3));
  return {x, labels, 3};
}

LayeredGraph resumed_graph() {
  Rng rng(6);
  std::vector<Edge> edges;
  for (Vertex u = 0; u < 20; ++u)
    for (Vertex v = u + 1; v < 20; ++v)
      if (rng.bernoulli(0.2f)) edges.push_back({u, v});
  return LayeredGraph::load_from(Graph(20, std::move(edges), true));
}

/// Everything of a run; what trains is the same before and after it stops.
template <class Body, class Optimizer, class Schedule>
struct ResumedRun {
  ResumedNet<Body> model;
  Optimizer optimizer;
  Schedule schedule;
  Rng rng = Rng(1);
  DataPosition at = {};
  std::int64_t steps = 0;

  StoredTensors stored() const {
    return stored_checkpoint(model, Field{"optimizer", optimizer}, Field{"schedule", schedule}, Field{"rng", rng},
                             Field{"position", at}, Field{"steps", steps});
  }
  Resumption restore(const StoredTensors& content) {
    return restore_checkpoint(content, model, Field{"optimizer", optimizer}, Field{"schedule", schedule},
                              Field{"rng", rng}, Field{"position", at}, Field{"steps", steps});
  }

  /// Three epochs with a pruning after the first and one in the middle of the second; on_step after every step.
  template <class F>
  void train(const Dataset& data, F&& on_step) {
    while (at.epoch < 3) {
      for_each_batch(data, 5, rng, at, [&](Batch& batch) {
        if constexpr (requires { schedule.step(0.0); })
          optimizer.lr = schedule.step(static_cast<double>(steps % 3));
        else
          optimizer.lr = schedule(steps);
        backward(cross_entropy(model(batch.x), batch.y));
        optimizer.step(model);
        if (++steps == 8) prune_network_by_saliency(model, percentage(0.3));
        on_step();
      });
      if (at.epoch == 1) prune_network_by_saliency(model, percentage(0.2));
    }
  }
};

template <class Run>
void require_resumes(const Run& start, const Run& other) {
  const Dataset data = resumed_data();
  manual_seed(99);
  Run whole = start;
  std::vector<StoredTensors> stops{whole.stored()};
  whole.train(data, [&] { stops.push_back(whole.stored()); });
  REQUIRE(stops.size() == 16);
  const StoredTensors end = whole.stored();
  for (const StoredTensors& stop : stops) {
    INFO(stop.metadata.at("deepstruct.training.steps"));
    manual_seed(123);
    Run resumed = other;  // of other values, settings and seeds
    REQUIRE(resumed.restore(parse_safetensors(safetensors_bytes(stop))).same_kernels);
    resumed.train(data, [] {});
    REQUIRE(resumed.stored() == end);
  }
}

template <class Body, class Optimizer, class Schedule>
void require_resumes(const Body& a, const Body& b, const Optimizer& optimizer, const Schedule& schedule) {
  using Run = ResumedRun<Body, Optimizer, Schedule>;
  require_resumes(Run{{Dropout(0.2f), a}, optimizer, schedule},
                  Run{{Dropout(0.2f), b}, Optimizer{}, Schedule{}, Rng(77), {2, 1, Rng(5)}, 3});
}

}  // namespace

TEST_CASE("checkpoint: a run goes on bitwise from any step, full and packed, through pruning") {
  Rng rng(31);
  const Adam adam{.lr = 0.01, .beta1 = 0.8, .weight_decay = 0.01, .amsgrad = true};
  const SGD sgd{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true};
  const CosineAnnealingLR cosine{.lr = 0.02, .T_max = 9, .eta_min = 1e-4};
  const MultiStepLR steps{.lr = 0.03, .milestones = {3, 9, 11}, .gamma = 0.3};
  const ReduceLROnPlateau plateau{.lr = 0.01, .patience = 1, .cooldown = 1};
  const auto ffn = [&](storage store, bool norm) {
    return MaskedDeepFFN(6, 3, {7, 5}, {.use_layer_norm = norm, .store = store}, rng);
  };
  const auto dan = [&](storage store) { return MaskedDeepDAN(6, 3, resumed_graph(), {.store = store}, rng); };
  SECTION("FFN full, Adam") { require_resumes(ffn(storage::full, true), ffn(storage::full, true), adam, cosine); }
  SECTION("FFN full, SGD") { require_resumes(ffn(storage::full, false), ffn(storage::packed, false), sgd, steps); }
  SECTION("FFN packed, Adam") {
    require_resumes(ffn(storage::packed, false), ffn(storage::full, false), adam, plateau);
  }
  SECTION("FFN packed, SGD") { require_resumes(ffn(storage::packed, true), ffn(storage::packed, true), sgd, cosine); }
  SECTION("DAN packed, Adam") { require_resumes(dan(storage::packed), dan(storage::packed), adam, steps); }
  SECTION("DAN packed, SGD") { require_resumes(dan(storage::packed), dan(storage::packed), sgd, plateau); }
  SECTION("DAN full, RMSprop") {
    require_resumes(dan(storage::full), dan(storage::full), RMSprop{.momentum = 0.5, .centered = true}, cosine);
  }
}

TEST_CASE("checkpoint: fit goes on from a file that it saved after an epoch") {
  const Dataset data = resumed_data();
  const std::filesystem::path path = "checkpoint_test.safetensors";
  Rng rng(8), seed(2);
  MaskedDeepFFN model(6, 3, {8}, {.store = storage::packed}, seed);
  Adam adam{.lr = 0.01};
  const FitOptions three{
      .epochs = 3, .batch_size = 5, .on_epoch = [&](const Progress& p) {
        if (p.epoch == 1)
          save_checkpoint(path, model, Field{"optimizer", adam}, Field{"rng", rng}, Field{"epochs", p.epoch});
      }};
  fit(model, adam, data, rng, three);
  MaskedDeepFFN resumed = load_model<MaskedDeepFFN>(path);
  Adam other;
  Rng other_rng;
  int done = 0;
  load_checkpoint(path, resumed, Field{"optimizer", other}, Field{"rng", other_rng}, Field{"epochs", done});
  REQUIRE(done == 1);
  fit(resumed, other, data, other_rng, {.epochs = 3 - done, .batch_size = 5});
  REQUIRE(stored_model(resumed) == stored_model(model));
  REQUIRE(other_rng == rng);
  REQUIRE(other.steps == adam.steps);
  // A checkpoint is a file of its model too.
  MaskedDeepFFN plain(6, 3, {8}, {.store = storage::packed}, seed);
  load(plain, path);
  REQUIRE(stored_model(plain) == stored_model(load_model<MaskedDeepFFN>(path)));
  std::filesystem::remove(path);
}

namespace {

struct ResumedParts {
  enum class Phase { dense, pruned };
  bool flag = true;
  Phase phase = Phase::pruned;
  std::optional<double> best = 0.1, none = {};
  std::vector<std::int64_t> counts = {1, -2, std::int64_t{1} << 60};
  std::vector<double> losses = {0.1, std::numeric_limits<double>::infinity()};
  Tensor mean = Tensor::from({2, 2}, {1, 2, 3, 0.1f});
  std::string note = "Umlaut ä, \"quotes\"";
  std::uint64_t large = ~std::uint64_t{0};
  float third = 1.0f / 3;
  double tiny = 5e-324;

  static auto fields(auto& p) {
    return std::tuple{Field{"flag", p.flag},   Field{"phase", p.phase},   Field{"best", p.best},
                      Field{"none", p.none},   Field{"counts", p.counts}, Field{"losses", p.losses},
                      Field{"mean", p.mean},   Field{"note", p.note},     Field{"large", p.large},
                      Field{"third", p.third}, Field{"tiny", p.tiny}};
  }
};

}  // namespace

TEST_CASE("checkpoint: parts of every type come back bit by bit") {
  const MaskedDeepFFN model(2, 2, {2});
  const ResumedParts parts;
  MaskedDeepFFN back(2, 2, {2});
  ResumedParts read{.flag = false,
                    .phase = ResumedParts::Phase::dense,
                    .best = {},
                    .none = 3.0,
                    .counts = {},
                    .losses = {},
                    .mean = {},
                    .note = {},
                    .large = 0,
                    .third = 0,
                    .tiny = 0};
  restore_checkpoint(parse_safetensors(safetensors_bytes(stored_checkpoint(model, Field{"parts", parts}))), back,
                     Field{"parts", read});
  REQUIRE(read.flag);
  REQUIRE(read.phase == ResumedParts::Phase::pruned);
  REQUIRE(read.best == parts.best);
  REQUIRE(!read.none);
  REQUIRE(read.counts == parts.counts);
  REQUIRE(read.losses == parts.losses);
  REQUIRE(read.mean == parts.mean);
  REQUIRE(read.note == parts.note);
  REQUIRE(read.large == parts.large);
  REQUIRE(read.third == parts.third);
  REQUIRE(read.tiny == parts.tiny);
}

TEST_CASE("checkpoint: every optimizer and schedule is a part") {
  const MaskedDeepFFN model(2, 2, {2});
  const auto comes_back = [&](auto part) {
    MaskedDeepFFN back = model;
    decltype(part) read;
    const StoredTensors content = stored_checkpoint(model, Field{"part", part});
    restore_checkpoint(content, back, Field{"part", read});
    REQUIRE(stored_checkpoint(back, Field{"part", read}) == content);
    const auto same = [](const auto& a, const auto& b) { return a.value == b.value; };
    std::apply(
        [&](auto... x) { std::apply([&](auto... y) { REQUIRE((same(x, y) && ...)); }, detail::part_fields(read)); },
        detail::part_fields(part));
  };
  comes_back(SGD{0.1, 0.2, 0.3, 0.4, true});
  comes_back(Adam{0.1, 0.2, 0.3, 0.4, 0.5, true, 6});
  comes_back(AdamW{0.1, 0.2, 0.3, 0.4, 0.5, true, 6});
  comes_back(RMSprop{0.1, 0.2, 0.3, 0.4, 0.5, true});
  comes_back(Adagrad{0.1, 0.2, 0.3, 0.4, 5});
  comes_back(StepLR{0.1, 2, 0.3});
  comes_back(MultiStepLR{0.1, {2, 3}, 0.4});
  comes_back(ExponentialLR{0.1, 0.2});
  comes_back(CosineAnnealingLR{0.1, 2, 0.3});
  comes_back(CosineAnnealingWarmRestarts{0.1, 2, 3, 0.4});
  comes_back(LinearLR{0.1, 0.2, 0.3, 4});
  comes_back(ConstantLR{0.1, 0.2, 3});
  comes_back(ReduceLROnPlateau{0.1, ReduceLROnPlateau::Mode::max, 0.2, 3, 0.4, ReduceLROnPlateau::Threshold::abs, 5,
                               0.6, 0.7, 0.8, 9, 10});
}

TEST_CASE("checkpoint: what does not fit is an Error, and nothing changes") {
  Rng seed(2), rng(3, 4);
  MaskedDeepFFN model(6, 3, {4}, {}, seed);
  const Adam adam{.steps = 5};
  std::int64_t epoch = 7;
  const StoredTensors good = stored_checkpoint(model, Field{"optimizer", adam}, Field{"epoch", epoch});
  MaskedDeepFFN other(6, 3, {4}, {}, seed);
  const StoredTensors before = stored_model(other);
  SGD sgd{.lr = 42};
  Adam read{.lr = 42};
  std::int64_t count = 1;
  bool flag = true;
  manual_seed(17);
  test::require_error(
      [&] {
        restore_checkpoint(good, other, Field{"optimizer", sgd}, Field{"epoch", count});
      },
      {"load_checkpoint: a part has another type (optimizer: Adam, not SGD)"});
  test::require_error(
      [&] {
        restore_checkpoint(good, other, Field{"optimizer", read});
      },
      {"load_checkpoint: the file holds a part that nobody asks for (epoch)"});
  test::require_error(
      [&] {
        restore_checkpoint(good, other, Field{"optimizer", read}, Field{"epoch", count}, Field{"rng", rng});
      },
      {"load_checkpoint: a part is missing (rng"});
  test::require_error(
      [&] {
        restore_checkpoint(good, other, Field{"optimizer", read}, Field{"epoch", flag});
      },
      {"load_checkpoint: a part has another type (epoch: 7)"});
  test::require_error([&] { restore_checkpoint(stored_model(model), other); },
                      {"load_checkpoint: the file holds no training run"});
  test::require_error(
      [&] {
        stored_checkpoint(model, Field{"a", epoch}, Field{"a", count});
      },
      {"save_checkpoint: two parts have the same name (a)"});
  test::require_error([&] { load_checkpoint("no_such.safetensors", other); }, {"no such file"});
  MaskedDeepFFN wide(6, 3, {5}, {}, seed);
  test::require_error(
      [&] {
        restore_checkpoint(good, wide, Field{"optimizer", read}, Field{"epoch", count});
      },
      {"load: array has another shape"});
  REQUIRE(stored_model(other) == before);
  REQUIRE(read.lr == 42);
  REQUIRE(count == 1);
  REQUIRE(default_rng() == Rng(17));
  REQUIRE(rng == Rng(3, 4));

  StoredTensors elsewhere = good;
  elsewhere.metadata["deepstruct.training"] = "avx4096 1";
  REQUIRE(!restore_checkpoint(elsewhere, other, Field{"optimizer", read}, Field{"epoch", count}).same_kernels);
  REQUIRE(count == 7);
  REQUIRE(read.steps == 5);
}

TEST_CASE("checkpoint: an epoch can be left and gone on with, in the same order") {
  const Dataset data = resumed_data();
  const auto seen = [&](std::vector<std::int64_t> stops) {
    Rng rng(5);
    DataPosition at;
    std::vector<float> order;
    while (at.epoch < 2) {
      std::int64_t n = 0;
      const std::int64_t most = stops.empty() ? 100 : stops.back();
      if (!stops.empty()) stops.pop_back();
      for_each_batch(data, 4, rng, at, [&](Batch& batch) {
        for (std::int64_t i = 0; i < batch.x.shape()[0]; ++i) order.push_back(batch.x(i, 0));
        return ++n < most;
      });
    }
    order.push_back(rng.uniform());
    return order;
  };
  const auto whole = seen({});
  REQUIRE(whole.size() == 2 * 23 + 1);
  REQUIRE(seen({1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}) == whole);
  REQUIRE(seen({6, 2, 3}) == whole);
  Rng rng(5);
  DataPosition wrong{0, 100, Rng(1)};
  test::require_error([&] { for_each_batch(data, 4, rng, wrong, [](Batch&) {}); },
                      {"for_each_batch: the epoch has not so many batches (100 of 6)"});
}
