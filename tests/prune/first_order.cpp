// Taylor, SNIP, Fisher and movement: against gradients in double, storages, layers of all kinds, bad input.
#include <deepstruct/prune/first_order.hpp>
#include <deepstruct/train/loop.hpp>

#include "naive_ffn.hpp"

using namespace deepstruct;
using test::Rows;

namespace {

/// |w·g| of the mean gradient.
std::vector<Rows> first_order_products(const MaskedDeepFFN& model, const std::vector<Batch>& data) {
  const test::NaiveFFN net(model);
  std::vector<Rows> all = test::mean_gradient(net, data);
  for (std::size_t k = 0; k < all.size(); ++k)
    for (std::size_t e = 0; e < all[k].size(); ++e) all[k][e] = std::fabs(all[k][e] * net.layers[k].w[e]);
  return test::at_masks(model, all);
}
/// ½ w² E[g²] of single samples.
std::vector<Rows> first_order_fisher(const MaskedDeepFFN& model, const std::vector<Batch>& data) {
  const test::NaiveFFN net(model);
  std::vector<Rows> all;
  for (const auto& l : net.layers) all.emplace_back(l.w.size(), 0.0);
  const double n = test::each_labelled(data, [&](const Rows& x, std::int32_t label) {
    const std::vector<Rows> g = net.gradient(x, label);
    for (std::size_t k = 0; k < g.size(); ++k)
      for (std::size_t e = 0; e < g[k].size(); ++e) all[k][e] += g[k][e] * g[k][e];
  });
  for (std::size_t k = 0; k < all.size(); ++k)
    for (std::size_t e = 0; e < all[k].size(); ++e) all[k][e] *= 0.5 / n * net.layers[k].w[e] * net.layers[k].w[e];
  return test::at_masks(model, all);
}
/// Σ_n g_n² with and without taps; they must agree.
template <class M, class Loss>
std::vector<Rows> first_order_both_ways(const M& model, const auto& data, const Loss& loss) {
  const detail::SquaredGradients fast("test", model, data, loss), slow("test", model, data, loss, false);
  REQUIRE(fast.samples == slow.samples);
  test::require_near(fast.sum, slow.sum, 1e-5);
  return fast.sum;
}
/// The same layer twice.
struct FirstOrderTwice {
  MaskedLinearLayer layer;
  Linear out;
  explicit FirstOrderTwice(Rng& rng) : layer(4, 4, rng), out(4, 3, rng) {}
  Var operator()(const Var& x) const { return out(tanh(layer(tanh(layer(x))))); }
  static auto fields(auto& m) { return std::tuple{Field{"layer", m.layer}, Field{"out", m.out}}; }
};
struct FirstOrderDense {
  Linear dense;
  Var operator()(const Var& x) const { return dense(x); }
  static auto fields(auto& m) { return std::tuple{Field{"dense", m.dense}}; }
};
struct FirstOrderMse {
  Var operator()(const auto& model, const auto& batch) const { return mse_loss(model(Var(batch.x)), batch.y); }
};
/// An optimizer that a Movement watches.
struct FirstOrderWatched {
  SGD sgd;
  Movement movement;
  void step(auto& model) { movement.observe(model), sgd.step(model); }
};

}  // namespace

TEST_CASE("Taylor and SNIP saliencies are |w g| of the mean gradient") {
  Rng rng(1);
  const auto data = test::labelled({7, 3, 18}, {6}, 3, rng);  // of different weight
  test::Poison poison;
  for (MaskedDeepFFN& model : test::in_all_storages(MaskedDeepFFN(6, 3, {5, 4}, {}, rng))) {
    const std::vector<Rows> want = first_order_products(model, data);
    set_taylor_saliency(model, data);
    test::require_near(test::edge_saliencies(model), want, 1e-5);
    double sum = 0;
    for (const Rows& layer : want)
      for (double s : layer) sum += s;
    std::vector<Rows> shares = want;
    for (Rows& layer : shares)
      for (double& s : layer) s /= sum;
    set_snip_saliency(model, data);
    test::require_near(test::edge_saliencies(model), shares, 1e-5);
    each_masked(model, [](auto& layer) {  // nothing behind the mask, where weights are no numbers
      layer.saliency().for_each([](std::int64_t, float s) { REQUIRE(s >= 0); });
    });
  }
}

TEST_CASE("Criteria take a loss and the batches of a data set") {
  Rng rng(2);
  const Tensor x = Tensor::normal({10, 4}, 0, 1, rng), y = Tensor::normal({10, 2}, 0, 1, rng);
  const RegressionDataset set(x, y);
  MaskedDeepFFN model(4, 2, {5}, {}, rng);
  const Vars g = grad(mse_loss(model(x), y), {model.layer_first.weight.var()});
  set_taylor_saliency(model, batches(set, 4), FirstOrderMse{});
  test::require_close(model.layer_first.saliency(), abs(mul(g[0], model.layer_first.weight)).value());
  Rng order(3);
  auto shuffled = batches(set, 3, order);
  set_taylor_saliency(model, shuffled, [](const auto& m, const auto& batch) { return mse_loss(m(batch.x), batch.y); });
  test::require_close(model.layer_first.saliency(), abs(mul(g[0], model.layer_first.weight)).value());
  first_order_both_ways(model, std::vector<RegressionBatch>{set.slice(0, 6), set.slice(6, 10)}, FirstOrderMse{});
}

TEST_CASE("Fisher saliencies are w²/2 times the mean square of the samples' gradients") {
  Rng rng(4);
  const auto data = test::labelled({7, 1, 18}, {6}, 3, rng);
  test::Poison poison;
  for (MaskedDeepFFN& model : test::in_all_storages(MaskedDeepFFN(6, 3, {5, 4}, {}, rng))) {
    const std::vector<Rows> want = first_order_fisher(model, data);
    set_fisher_saliency(model, data);
    test::require_near(test::edge_saliencies(model), want, 1e-5);
    first_order_both_ways(model, data, CrossEntropy{});
  }
}

TEST_CASE("Fisher saliencies of a convolution are those of the linear layer that it is") {
  Rng rng(5);
  const auto images = test::labelled({5, 4}, {2, 3, 3}, 3, rng);
  MaskedConv2d conv(2, 3, 3, {}, rng);
  conv.set_mask(Mask::random(3, 18, 0.7, rng));
  MaskedLinearLayer linear(18, 3, rng);
  linear.weight.set_value(Tensor::from({3, 18}, conv.weight.value().to_vector()));
  linear.bias->set_value(conv.bias->value());
  linear.set_mask(conv.mask());
  Sequential a{conv, Flatten()};
  Sequential b{Flatten(), linear};
  Sequential c = pack(a);
  set_fisher_saliency(a, images);
  set_fisher_saliency(b, images);
  set_fisher_saliency(c, images);
  test::require_near(test::edge_saliencies(a), test::edge_saliencies(b), 1e-5);
  test::require_near(test::edge_saliencies(c), test::edge_saliencies(b), 1e-5);
}

TEST_CASE("Fisher counts layers that run often, soft masks and sequences sample by sample") {
  Rng rng(6);
  const auto data = test::labelled({6}, {4}, 3, rng);
  first_order_both_ways(FirstOrderTwice(rng), data, CrossEntropy{});

  MaskedDeepFFN soft(4, 3, {5}, {}, rng);
  soft.layer_first.set_soft_mask(Tensor::uniform({5, 4}, 0.2f, 3, rng));
  first_order_both_ways(soft, data, CrossEntropy{});

  const auto sequences = test::labelled({6}, {2, 4}, 3, rng);  // two rows a sample
  const auto loss = [](const auto& m, const auto& batch) {
    return cross_entropy(sum(tanh(m(batch.x)), {{1}}), batch.y);
  };
  first_order_both_ways(MaskedLinearLayer(4, 3, rng), sequences, loss);
}

TEST_CASE("Fisher runs a model in evaluation, other first-order criteria in the mode it is in") {
  Rng rng(7);
  auto net = test::conv_norm_net(rng);
  const auto data = test::labelled({8, 5}, {1, 6, 6}, 3, rng);
  auto quiet = net;
  set_training(quiet, false);
  set_fisher_saliency(net, data);
  const auto fisher = test::edge_saliencies(net);
  set_fisher_saliency(quiet, data);
  test::require_near(fisher, test::edge_saliencies(quiet), 0);
  set_taylor_saliency(quiet, data);
  const auto evaluated = test::edge_saliencies(quiet);
  set_training(quiet, true);
  std::get<4>(quiet.modules).training = false;  // batch norm alone
  set_taylor_saliency(quiet, data);
  REQUIRE(test::edge_saliencies(quiet) != evaluated);
}

TEST_CASE("First-order criteria agree in full and packed storage") {
  Rng rng(8);
  auto net = test::conv_norm_net(rng);
  set_training(net, false);
  prune_network_by_saliency(net, percentage(30), {.exact = true});
  auto packed = pack(net);
  const auto images = test::labelled({5, 3}, {1, 6, 6}, 3, rng);
  const auto both = [&](auto&& criterion) {
    criterion(net), criterion(packed);
    test::require_near(test::edge_saliencies(packed), test::edge_saliencies(net), 2e-5);
  };
  both([&](auto& m) { set_taylor_saliency(m, images); });
  both([&](auto& m) { set_snip_saliency(m, images); });
  both([&](auto& m) { set_fisher_saliency(m, images); });

  const auto data = test::labelled({20, 4}, {5}, 3, rng);
  const test::SkipNetworks dan(rng);
  dan.require_same_choice([&](auto& m) { set_taylor_saliency(m, data); });
  dan.require_same_choice([&](auto& m) { set_snip_saliency(m, data); });
  dan.require_same_choice([&](auto& m) { set_fisher_saliency(m, data); });
}

TEST_CASE("First-order criteria change nothing but saliencies") {
  Rng rng(9);
  const auto data = test::labelled({5, 3}, {1, 6, 6}, 3, rng);
  for (const storage store : {storage::full, storage::packed}) {
    const auto net = test::conv_norm_net(rng, store);
    test::require_only_saliencies_change(net, [&](auto& m) { set_taylor_saliency(m, data); });
    test::require_only_saliencies_change(net, [&](auto& m) { set_snip_saliency(m, data); });
    test::require_only_saliencies_change(net, [&](auto& m) { set_fisher_saliency(m, data); });
  }
}

TEST_CASE("First-order criteria refuse what they cannot rate, and nothing changes") {
  Rng rng(10);
  MaskedDeepFFN model(6, 3, {5}, {}, rng);
  const auto data = test::labelled({7}, {6}, 3, rng);
  const std::vector<Batch> nothing, empty = test::labelled({0, 0}, {6}, 3, rng);
  for (const auto& none : {nothing, empty}) {
    test::require_refused(model, [&](auto& m) { set_taylor_saliency(m, none); }, {"set_taylor_saliency", "data"});
    test::require_refused(model, [&](auto& m) { set_snip_saliency(m, none); }, {"set_snip_saliency", "data"});
    test::require_refused(model, [&](auto& m) { set_fisher_saliency(m, none); }, {"set_fisher_saliency", "data"});
  }
  MaskedDeepFFN broken = model;
  broken.layer_out.weight.mutable_value()(1, 2) = std::numeric_limits<float>::quiet_NaN();
  test::require_refused(broken, [&](auto& m) { set_taylor_saliency(m, data); }, {"set_taylor_saliency", "finite"});
  test::require_refused(broken, [&](auto& m) { set_snip_saliency(m, data); }, {"set_snip_saliency", "finite"});
  test::require_refused(broken, [&](auto& m) { set_fisher_saliency(m, data); }, {"set_fisher_saliency", "finite"});
  MaskedDeepFFN dead = model;  // nothing comes through
  dead.layer_first.bias->set_value(Tensor::full({5}, -100));
  dead.layer_out.weight.set_value(Tensor::zeros({3, 5}));
  test::require_refused(dead, [&](auto& m) { set_snip_saliency(m, data); }, {"set_snip_saliency", "depend"});
  FirstOrderDense dense{Linear(6, 3)};
  test::require_error([&] { set_taylor_saliency(dense, data); }, {"set_taylor_saliency", "no masked"});
  test::require_error([&] { set_snip_saliency(dense, data); }, {"set_snip_saliency", "no masked"});
  test::require_error([&] { set_fisher_saliency(dense, data); }, {"set_fisher_saliency", "no masked"});
  std::vector<Batch> odd = data;
  odd[0].y = Indices::zeros({6});
  const auto first = [](const auto& m, const auto& batch) { return sum(m(batch.x)); };
  Sequential conv{MaskedConv2d(6, 2, 1, {}, rng), Flatten()};
  odd[0].x = Tensor::ones({7, 6, 1, 1});
  test::require_refused(conv, [&](auto& m) { set_fisher_saliency(m, odd, first); }, {"set_fisher_saliency", "label"});
}

TEST_CASE("Movement adds −w g of training steps, in full and packed storage alike") {
  Rng rng(11);
  const auto data = test::labelled({9, 4, 6}, {6}, 3, rng);
  for (MaskedDeepFFN& model : test::in_all_storages(MaskedDeepFFN(6, 3, {5, 4}, {}, rng))) {
    std::vector<Rows> want;
    FirstOrderWatched optimizer{{.lr = 0.5}, {}};
    for (const Batch& batch : data) {
      const test::NaiveFFN net(model);
      std::vector<Rows> g = test::mean_gradient(net, {batch});
      if (want.empty())
        for (const Rows& layer : g) want.emplace_back(layer.size(), 0.0);
      for (std::size_t k = 0; k < g.size(); ++k)
        for (std::size_t e = 0; e < g[k].size(); ++e) want[k][e] -= net.layers[k].w[e] * g[k][e];
      backward(cross_entropy(model(batch.x), batch.y));
      optimizer.step(model);
    }
    REQUIRE(optimizer.movement.steps() == 3);
    set_movement_saliency(model, optimizer.movement);
    test::require_near(test::edge_saliencies(model), test::at_masks(model, want), 1e-4);
  }
}

TEST_CASE("Movement follows the edges of a mask that changes") {
  Rng rng(12);
  const Batch batch = test::labelled({9}, {6}, 3, rng)[0];
  MaskedDeepFFN full(6, 3, {5}, {}, rng);
  full.layer_first.set_mask(Mask::random(5, 6, 0.6, rng));
  apply_mask(full);
  MaskedDeepFFN packed = pack(full);
  Movement of_full, of_packed;
  const auto step = [&](MaskedDeepFFN& model, Movement& movement) {
    backward(cross_entropy(model(batch.x), batch.y));
    movement.observe(model);
    SGD{.lr = 0.2}.step(model);
  };
  step(full, of_full), step(packed, of_packed);
  const std::vector<Rows> before = of_full.sums("test", full);
  const Mask old = full.layer_first.mask();
  // Every other edge goes, and two come.
  const Mask kept = old.filter([](std::int32_t e, std::int64_t, std::int64_t) { return e % 2 == 1; });
  const Mask grown = Mask::where(
      5, 6, [&](std::int64_t r, std::int64_t c) { return kept.contains(r, c) || (!old.contains(r, c) && r == c); });
  REQUIRE(grown.nnz() > kept.nnz());
  full.layer_first.set_mask(grown), packed.layer_first.set_mask(grown);
  for (MaskedDeepFFN* model : {&full, &packed}) {
    set_movement_saliency(*model, model == &full ? of_full : of_packed);
    const Rows now = test::edge_saliencies(*model)[0];
    grown.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      const double was = old.contains(r, c) ? before[0][old.edge(r, c)] : 0;
      REQUIRE(now[e] == Approx(was).epsilon(1e-5));
    });
  }
  step(full, of_full), step(packed, of_packed);
  set_movement_saliency(full, of_full), set_movement_saliency(packed, of_packed);
  test::require_near(test::edge_saliencies(packed), test::edge_saliencies(full), 1e-4);
  MaskedDeepFFN later = pack(full);  // the storage may change in between
  set_movement_saliency(later, of_full);
  test::require_near(test::edge_saliencies(later), test::edge_saliencies(full), 0);
}

TEST_CASE("Weights that training moves away from 0 have a positive movement") {
  MaskedDeepFFN model(1, 1, {1});
  model.layer_first.weight.set_value(Tensor::full({1, 1}, 1));
  model.layer_out.weight.set_value(Tensor::full({1, 1}, 0.5f));
  model.layer_first.bias->set_value(Tensor::zeros({1}));
  model.layer_out.bias->set_value(Tensor::zeros({1}));
  Movement movement;
  for (const float target : {2.0f, -2.0f}) {  // 0.5 is too little, and too much
    Movement toward;
    clear_grad(model);
    backward(mse_loss(model(Tensor::full({1, 1}, 1)), Tensor::full({1, 1}, target)));
    toward.observe(model);
    set_movement_saliency(model, toward);
    // −w·2(y − t)·∂y/∂w, y = 0.5
    REQUIRE(model.layer_first.saliency().item() == Approx(-1 * 2 * (0.5f - target) * 0.5f));
    REQUIRE(model.layer_out.saliency().item() == Approx(-0.5f * 2 * (0.5f - target)));
  }
}

TEST_CASE("Movement observes in fit, and refuses what it cannot add") {
  Rng rng(13);
  const Batch batch = test::labelled({20}, {6}, 3, rng)[0];
  const Dataset set(batch.x, batch.y, 3);
  MaskedDeepFFN model(6, 3, {5}, {}, rng);
  FirstOrderWatched optimizer{{.lr = 0.1}, {}};
  fit(model, optimizer, set, rng, {.epochs = 2, .batch_size = 5});
  REQUIRE(optimizer.movement.steps() == 8);
  Movement& seen = optimizer.movement;
  const auto sums = seen.sums("test", model);

  test::require_refused(model, [](auto& m) { set_movement_saliency(m, Movement()); },
                        {"set_movement_saliency", "no training step"});
  test::require_error([&] { seen.observe(model); }, {"Movement::observe", "no layer has a gradient"});
  MaskedDeepFFN other(6, 3, {4}, {}, rng), longer(6, 3, {5, 5}, {}, rng);
  test::require_refused(other, [&](auto& m) { set_movement_saliency(m, seen); }, {"other masked layers"});
  test::require_refused(longer, [&](auto& m) { set_movement_saliency(m, seen); }, {"other masked layers"});
  FirstOrderDense dense{Linear(6, 3)};
  test::require_error([&] { set_movement_saliency(dense, seen); }, {"set_movement_saliency", "no masked"});
  test::require_error([&] { Movement().observe(dense); }, {"Movement::observe", "no masked"});
  backward(cross_entropy(model(batch.x), batch.y));
  model.layer_out.weight.mutable_grad()(0, 0) = std::numeric_limits<float>::infinity();
  test::require_error([&] { seen.observe(model); }, {"Movement::observe", "finite", "_layer_out"});
  REQUIRE(seen.steps() == 8);
  REQUIRE(seen.sums("test", model) == sums);
}
