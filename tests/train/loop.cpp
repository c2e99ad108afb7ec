// fit and evaluate; the same bits for any number of threads; several models, and several threads on one model.
#include <thread>

#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/prune/prune.hpp>
#include <deepstruct/train/loop.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;
using test::same_bits;

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr int long_run = 10;  // the thread sanitizer looks at accesses, not at bits, and takes thirty times as long
#else
constexpr int long_run = 100;
#endif

/// Points in three clusters, labelled by cluster.
Dataset clusters(std::int64_t n, std::int64_t features, std::uint64_t seed) {
  Rng rng(seed);
  Tensor x = Tensor::normal({n, features}, 0, 0.3f, rng);
  Indices y = Indices::empty({n});
  for (std::int64_t i = 0; i < n; ++i) {
    y(i) = static_cast<std::int32_t>(i % 3);
    x(i, y(i)) += 2;
  }
  return {x, y, 3};
}
std::vector<Tensor> state(const MaskedDeepFFN& model) {
  std::vector<Tensor> all;
  each_param(model, [&](const Param& p) {
    all.push_back(p.value());
    for (const Param::Slot& s : p.slots()) all.push_back(s.value);
  });
  return all;
}
bool same_state(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  bool same = a.size() == b.size();
  for (std::size_t k = 0; same && k < a.size(); ++k) same = same_bits(a[k], b[k]);
  return same;
}
/// A network in which a share of the edges exists, by magnitude.
MaskedDeepFFN sparse_network(std::int64_t in, std::int64_t out, const std::vector<std::int64_t>& hidden,
                             double per_cent, MaskedDeepFFNOptions options, std::uint64_t seed) {
  Rng rng(seed);
  MaskedDeepFFN model(in, out, hidden, options, rng);
  prune_network_by_saliency(model, percentage(per_cent));
  return model;
}

}  // namespace

TEST_CASE("fit learns clusters, full and packed, and reports what it did") {
  const Dataset data = clusters(90, 6, 1);
  for (storage store : {storage::full, storage::packed}) {
    MaskedDeepFFN model = sparse_network(6, 3, {16}, 30, {.store = store}, 2);
    const Evaluation before = evaluate(model, data);
    Adam adam{.lr = 0.01};
    Rng rng(3);
    const FitReport report = fit(model, adam, data, rng, {.epochs = 25, .batch_size = 32});
    REQUIRE(report.steps == 25 * 3);
    REQUIRE(adam.steps == 25 * 3);
    REQUIRE_FALSE(report.stopped);
    REQUIRE(report.accuracy > 0.95);
    const Evaluation after = evaluate(model, data);
    REQUIRE(after.loss < before.loss / 2);
    REQUIRE(after.accuracy > 0.95);
  }
}

TEST_CASE("fit calls back after every batch and epoch with running means") {
  const Dataset data = clusters(70, 4, 1);
  MaskedDeepFFN model = sparse_network(4, 3, {5}, 0, {}, 1);
  SGD sgd{.lr = 0.1};
  Rng rng(2);
  std::vector<Progress> steps, epochs;
  const FitReport report = fit(model, sgd, data, rng,
                               {.epochs = 2,
                                .batch_size = 32,
                                .on_step = [&](const Progress& p) { steps.push_back(p); },
                                .on_epoch = [&](const Progress& p) { epochs.push_back(p); }});
  REQUIRE(steps.size() == 6);
  REQUIRE(epochs.size() == 2);
  for (std::size_t k = 0; k < 6; ++k) {
    REQUIRE(steps[k].epoch == static_cast<int>(k) / 3 + 1);
    REQUIRE(steps[k].epochs == 2);
    REQUIRE(steps[k].step == static_cast<std::int64_t>(k) % 3 + 1);
    REQUIRE(steps[k].steps == 3);
    REQUIRE(steps[k].loss > 0);
  }
  REQUIRE(epochs[1].loss == steps[5].loss);
  REQUIRE(report.loss == steps[5].loss);
  REQUIRE(report.accuracy == steps[5].accuracy);
}

TEST_CASE("the means of an epoch weigh every sample once") {
  const Dataset data = clusters(70, 4, 1);
  MaskedDeepFFN model = sparse_network(4, 3, {5}, 0, {}, 1);
  const Evaluation whole = evaluate(model, data, 70), parts = evaluate(model, data, 32);
  REQUIRE(parts.loss == Approx(whole.loss).epsilon(1e-6));
  REQUIRE(parts.accuracy == Approx(whole.accuracy).epsilon(1e-12));
  SGD still{.lr = 0};
  Rng rng(2);
  const FitReport report = fit(model, still, data, rng, {.epochs = 1, .batch_size = 32});
  REQUIRE(report.loss == Approx(whole.loss).epsilon(1e-6));
  REQUIRE(report.accuracy == Approx(whole.accuracy).epsilon(1e-12));
}

TEST_CASE("a stop token ends fit after the batch that runs") {
  const Dataset data = clusters(90, 4, 1);
  MaskedDeepFFN model = sparse_network(4, 3, {5}, 0, {}, 1);
  SGD sgd;
  Rng rng(2);
  std::stop_source source;
  int epochs = 0;
  const FitReport report = fit(model, sgd, data, rng,
                               {.epochs = 5,
                                .batch_size = 32,
                                .on_step =
                                    [&](const Progress& p) {
                                      if (p.epoch == 2 && p.step == 2) source.request_stop();
                                    },
                                .on_epoch = [&](const Progress&) { ++epochs; },
                                .stop = source.get_token()});
  REQUIRE(report.stopped);
  REQUIRE(report.steps == 3 + 2);
  REQUIRE(epochs == 2);
}

TEST_CASE("fit and evaluate refuse what makes no sense") {
  MaskedDeepFFN model = sparse_network(4, 3, {5}, 0, {}, 1);
  const auto before = state(model);
  SGD sgd;
  Rng rng(1);
  const Dataset none(Tensor::zeros({0, 4}), Indices::zeros({0})), data = clusters(9, 4, 1), wrong = clusters(9, 5, 1);
  require_error([&] { fit(model, sgd, none, rng); }, {"fit", "empty"});
  require_error([&] { evaluate(model, none); }, {"evaluate", "empty"});
  require_error([&] { fit(model, sgd, data, rng, {.epochs = -1}); }, {"fit", "-1"});
  require_error([&] { fit(model, sgd, data, rng, {.batch_size = 0}); }, {"batches", "0"});
  require_error([&] { evaluate(model, data, 0); }, {"batches", "0"});
  require_error([&] { fit(model, sgd, wrong, rng); }, {"[9, 5]", "4"});
  REQUIRE(fit(model, sgd, data, rng, {.epochs = 0}).steps == 0);
  REQUIRE(same_state(state(model), before));
  const Dataset strange(Tensor::zeros({2, 4}), Indices::full({2}, 7));
  require_error([&] { fit(model, sgd, strange, rng); }, {"7", "3 classes"});
  REQUIRE(same_state(state(model), before));
}

TEST_CASE("fit switches dropout on; evaluate leaves the model as it is and drops nothing") {
  Rng rng(1);
  const Dataset data = clusters(30, 4, 1);
  Sequential net{Linear(4, 8, rng), ReLU(), Dropout(0.5f), Linear(8, 3, rng)};
  set_training(net, false);
  SGD sgd;
  fit(net, sgd, data, rng, {.epochs = 1});
  REQUIRE(std::get<2>(net.modules).training);
  manual_seed(4);
  const Rng before = default_rng();
  const Evaluation a = evaluate(net, data), b = evaluate(net, data);
  REQUIRE(default_rng() == before);
  REQUIRE(a.loss == b.loss);
  REQUIRE(std::get<2>(net.modules).training);
  each_param(net, [](const Param& p) { REQUIRE_FALSE(p.has_grad()); });
}

TEST_CASE("training depends on the seed and on nothing else") {
  const Dataset data = clusters(60, 5, 1);
  const auto train = [&](std::uint64_t seed) {
    MaskedDeepFFN model = sparse_network(5, 3, {7}, 20, {}, 9);
    Adam adam;
    Rng rng(seed);
    fit(model, adam, data, rng, {.epochs = 3, .batch_size = 16});
    return state(model);
  };
  REQUIRE(same_state(train(1), train(1)));
  REQUIRE_FALSE(same_state(train(1), train(2)));
}

TEST_CASE("same seed, any number of threads: bitwise equal weights after 100 steps", "[threads]") {
  constexpr std::int64_t batch = 128;
  Rng rng(5);
  const Tensor x = Tensor::normal({batch, 200}, 0, 1, rng);
  std::vector<std::int32_t> y;
  for (std::int64_t i = 0; i < batch; ++i) y.push_back(static_cast<std::int32_t>(rng.below(10)));
  for (storage store : {storage::full, storage::packed})
    for (double pruned : {30.0, 90.0}) {  // full storage takes dense kernels in one case and sparse ones in the other
      std::vector<Tensor> first;
      for (int threads : {1, 2, 3}) {
        test::Threads scope(threads);
        MaskedDeepFFN model = sparse_network(200, 10, {150, 100}, pruned, {.use_layer_norm = true, .store = store}, 6);
        REQUIRE(model.layer_first.packed() == (store == storage::packed));
        Adam adam;
        for (int step = 0; step < long_run; ++step) {
          backward(cross_entropy(model(x), y));
          adam.step(model);
        }
        INFO((store == storage::full ? "full" : "packed") << ", " << pruned << " % pruned, " << threads << " threads");
        if (threads == 1) first = state(model);
        REQUIRE(same_state(state(model), first));
      }
      for (const Tensor& t : first)
        t.for_each([](std::int64_t, float v) {
          if (!std::isfinite(v)) FAIL("training diverged");
        });
    }
}

TEST_CASE("different models train in different threads as they do alone", "[threads]") {
  test::Threads scope(2);
  constexpr int models = 4;
  const Dataset data = clusters(120, 20, 1);
  const auto train = [&](int k) {
    MaskedDeepFFN model = sparse_network(20, 3, {30, 20}, 50, {.store = k % 2 ? storage::packed : storage::full},
                                         static_cast<std::uint64_t>(k));
    Adam adam{.lr = 0.01};
    Rng rng(static_cast<std::uint64_t>(k));
    fit(model, adam, data, rng, {.epochs = 4, .batch_size = 40});
    prune_network_by_saliency(model, percentage(40));
    fit(model, adam, data, rng, {.epochs = 2, .batch_size = 40});
    return state(model);
  };
  std::vector<std::vector<Tensor>> alone, together(models);
  for (int k = 0; k < models; ++k) alone.push_back(train(k));
  {
    std::vector<std::jthread> threads;
    for (int k = 0; k < models; ++k) threads.emplace_back([&, k] { together[static_cast<std::size_t>(k)] = train(k); });
  }
  for (std::size_t k = 0; k < models; ++k) REQUIRE(same_state(together[k], alone[k]));
}

TEST_CASE("many threads may run one const model at once", "[threads]") {
  test::Threads scope(2);
  for (storage store : {storage::full, storage::packed}) {
    const MaskedDeepFFN model = sparse_network(40, 5, {60, 30}, 80, {.use_layer_norm = true, .store = store}, 3);
    Rng rng(4);
    std::vector<Tensor> inputs, alone, together(8);
    for (std::int64_t k = 0; k < 8; ++k) {
      inputs.push_back(Tensor::normal({1 + 30 * k, 40}, 0, 1, rng));
      alone.push_back(model(inputs.back()).value());
    }
    {
      std::vector<std::jthread> threads;
      for (std::size_t k = 0; k < 8; ++k)
        threads.emplace_back([&, k] {
          for (int repeat = 0; repeat < 20; ++repeat) {
            if (repeat % 2) {
              together[k] = model(inputs[k]).value();  // records a tape that nobody uses
            } else {
              no_grad guard;
              together[k] = model(inputs[k]).value();
            }
          }
        });
    }
    for (std::size_t k = 0; k < 8; ++k) REQUIRE(same_bits(together[k], alone[k]));
  }
}
