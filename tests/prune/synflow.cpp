// SynFlow: against sums over paths, conservation, the iterative driver, storages, bad input.
#include <deepstruct/prune/synflow.hpp>

#include "naive_ffn.hpp"

using namespace deepstruct;
using test::Rows;

namespace {

/// |w·∂R/∂w| from what comes to a neuron and what leads away from it.
std::vector<Rows> synflow_paths(const MaskedDeepFFN& model) {
  const test::NaiveFFN net(model);
  std::vector<Rows> to{Rows(static_cast<std::size_t>(net.layers[0].in), 1.0)}, from(net.layers.size()), all;
  for (const auto& l : net.layers) {
    Rows y(static_cast<std::size_t>(l.out), 0.0);
    for (std::int64_t r = 0; r < l.out; ++r)
      for (std::int64_t c = 0; c < l.in; ++c) y[r] += std::fabs(l.w[r * l.in + c]) * to.back()[c];
    to.push_back(y);
  }
  from.back().assign(static_cast<std::size_t>(net.layers.back().out), 1.0);
  for (std::size_t k = net.layers.size(); --k > 0;) {
    const auto& l = net.layers[k];
    from[k - 1].assign(static_cast<std::size_t>(l.in), 0.0);
    for (std::int64_t r = 0; r < l.out; ++r)
      for (std::int64_t c = 0; c < l.in; ++c) from[k - 1][c] += std::fabs(l.w[r * l.in + c]) * from[k][r];
  }
  for (std::size_t k = 0; k < net.layers.size(); ++k) {
    const auto& l = net.layers[k];
    all.emplace_back();
    for (std::int64_t r = 0; r < l.out; ++r)
      for (std::int64_t c = 0; c < l.in; ++c)
        all.back().push_back(std::fabs(l.w[r * l.in + c]) * to[k][c] * from[k][r]);
  }
  return test::at_masks(model, all);
}
std::vector<double> synflow_sums(const auto& model) {
  std::vector<double> sums;
  for (const Rows& layer : test::edge_saliencies(model)) {
    sums.push_back(0);
    for (double s : layer) sums.back() += s;
  }
  return sums;
}
std::vector<Mask> synflow_masks(const auto& model) {
  std::vector<Mask> masks;
  each_masked(model, [&](const auto& layer) { masks.push_back(layer.mask()); });
  return masks;
}
struct SynflowDense {
  Linear dense;
  Var operator()(const Var& x) const { return dense(x); }
  static auto fields(auto& m) { return std::tuple{Field{"dense", m.dense}}; }
};

}  // namespace

TEST_CASE("SynFlow saliencies are sums over paths of absolute weights") {
  Rng rng(31);
  test::Poison poison;
  for (MaskedDeepFFN& model : test::in_all_storages(MaskedDeepFFN(6, 3, {5, 4}, {}, rng), 60)) {
    const std::vector<Rows> want = synflow_paths(model);
    set_synflow_saliency(model, {1, 6});
    test::require_near(test::edge_saliencies(model), want, 1e-5);
    model.layer_first.bias->set_value(Tensor::full({5}, -3));  // a bias is no path
    set_synflow_saliency(model, {32, 6});                      // and nor are samples
    test::require_near(test::edge_saliencies(model), want, 1e-5);
    each_masked(model,
                [](const auto& layer) { layer.saliency().for_each([](std::int64_t, float s) { REQUIRE(s >= 0); }); });
  }
}

TEST_CASE("Every layer of a chain has the same sum of SynFlow saliencies, also behind a trained batch norm") {
  Rng rng(32);
  MaskedDeepFFN model(20, 4, {30, 10, 7}, {}, rng);
  prune_network_by_saliency(model, percentage(50));
  set_synflow_saliency(model, {1, 20});
  for (double sum : synflow_sums(model)) REQUIRE(sum == Approx(synflow_sums(model)[0]).epsilon(1e-5));

  auto net = test::conv_norm_net(rng);  // with means, biases and signs that would break it
  std::get<1>(net.modules).weight->set_value(Tensor::from({3}, {-1, 2, 0.5f}));
  std::get<1>(net.modules).bias->set_value(Tensor::from({3}, {-9, 5, 7}));
  for (const bool packed : {false, true}) {
    auto same = packed ? pack(net) : net;
    set_synflow_saliency(same, {1, 1, 6, 6});
    const std::vector<double> sums = synflow_sums(same);
    REQUIRE(sums[0] > 0);
    REQUIRE(sums[1] == Approx(sums[0]).epsilon(1e-5));
    const auto before = test::edge_saliencies(same);  // dropout does not count
    set_synflow_saliency(same, {1, 1, 6, 6});
    REQUIRE(test::edge_saliencies(same) == before);
  }
  MaskedDeepFFN soft(6, 3, {5}, {}, rng);
  soft.layer_first.set_soft_mask(Tensor::normal({5, 6}, 0, 1, rng));
  set_synflow_saliency(soft, {1, 6});
  REQUIRE(synflow_sums(soft)[0] == Approx(synflow_sums(soft)[1]).epsilon(1e-5));
}

TEST_CASE("SynFlow keeps every layer of 784-300-100-10 alive at 99.9 per cent, where magnitude empties one") {
  Rng rng(33);
  const MaskedDeepFFN start(784, 10, {300, 100}, {}, rng);
  MaskedDeepFFN by_magnitude = start, once = start, model = pack(start);
  REQUIRE_FALSE(prune_network_by_saliency(by_magnitude, percentage(99.9), {.exact = true}).emptied().empty());
  const PruneReport report = synflow(model, percentage(99.9), {1, 784});
  REQUIRE(report.emptied().empty());
  REQUIRE(report.before() == 266200);
  REQUIRE(report.after() == 266);
  REQUIRE(get_network_weight_count(model) == 266);
  set_synflow_saliency(model, {1, 784});  // whose sum is 0, an Error, if nothing led through
  for (double sum : synflow_sums(model)) REQUIRE(sum == Approx(synflow_sums(model)[0]).epsilon(1e-4));
  // Once is not enough.
  prune(once, [](auto& m) { set_synflow_saliency(m, {1, 784}); }, percentage(99.9), {.exact = true});
  REQUIRE(synflow_masks(once) != synflow_masks(model));
}

TEST_CASE("SynFlow prunes in rounds of equal factors, full and packed alike") {
  Rng rng(34);
  MaskedDeepFFN model(8, 3, {10, 6}, {}, rng);
  prune_network_by_saliency(model, percentage(20), {.exact = true});
  const std::int64_t all = get_network_weight_count(model);
  MaskedDeepFFN full = model, packed = pack(model), by_hand = model, one = model, one_by_hand = model;
  const PruneReport report = synflow(full, percentage(80), {1, 8}, {.rounds = 4});
  const auto left = static_cast<std::int64_t>(std::lround(0.2 * static_cast<double>(all)));
  REQUIRE(report.before() == all);
  REQUIRE(report.after() == left);
  synflow(packed, percentage(80), {1, 8}, {.rounds = 4});
  REQUIRE(synflow_masks(packed) == synflow_masks(full));
  const double share = static_cast<double>(left) / static_cast<double>(all);
  for (int k = 1; k <= 4; ++k) {
    set_synflow_saliency(by_hand, {1, 8});
    const std::int64_t keep = std::lround(std::pow(share, k / 4.0) * static_cast<double>(all));
    prune_network_by_saliency(by_hand, absolute(get_network_weight_count(by_hand) - keep), {.exact = true});
  }
  REQUIRE(synflow_masks(by_hand) == synflow_masks(full));
  synflow(one, percentage(80), {1, 8}, {.rounds = 1});
  prune(one_by_hand, [](auto& m) { set_synflow_saliency(m, {1, 8}); }, percentage(80), {.exact = true});
  REQUIRE(synflow_masks(one) == synflow_masks(one_by_hand));
  REQUIRE(synflow_masks(one) != synflow_masks(full));

  REQUIRE(synflow(full, absolute(0), {1, 8}).after() == left);
  REQUIRE(synflow(packed, absolute(5), {1, 8}, {.rounds = 50}).after() == left - 5);
  MaskedDeepFFN kept = model;
  const PruneReport floor = synflow(kept, percentage(98), {1, 8}, {.rounds = 3, .keep_per_layer = 4});
  for (const auto& layer : floor.layers) REQUIRE(layer.after >= 4);
  REQUIRE(synflow(by_hand, percentage(100), {1, 8}).after() == 0);
}

TEST_CASE("SynFlow prunes graphs and convolutions, and moves slots and gradients along") {
  Rng rng(35);
  test::SkipNetworks dan(rng);
  dan.require_same_choice([](auto& m) { set_synflow_saliency(m, {1, 5}); });
  synflow(dan.full, percentage(60), {1, 5}, {.rounds = 10});
  synflow(dan.packed, percentage(60), {1, 5}, {.rounds = 10});
  for (const auto& [source, target] : dan.full.connections())
    REQUIRE(dan.full.mask(source, target) == dan.packed.mask(source, target));

  auto net = test::conv_norm_net(rng, storage::packed);
  backward(sum(net(Tensor::normal({4, 1, 6, 6}, 0, 1, rng))));
  auto& conv = std::get<0>(net.modules);
  const Mask before = conv.mask();
  const Tensor gradient = conv.weight.grad(), mean = std::get<1>(net.modules).running_mean;
  synflow(net, percentage(70), {1, 1, 6, 6}, {.rounds = 5});
  REQUIRE(conv.mask().nnz() < before.nnz());
  REQUIRE(conv.mask().nnz() > 0);
  conv.mask().for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
    REQUIRE(conv.weight.grad()(e) == gradient(before.edge(r, c)));
  });
  REQUIRE(std::get<4>(net.modules).training);
  REQUIRE(test::same_bits(std::get<1>(net.modules).running_mean, mean));
  each_masked(net, [](const auto& layer) { REQUIRE_FALSE(layer.has_saliency()); });
  for (const storage store : {storage::full, storage::packed})
    test::require_only_saliencies_change(test::conv_norm_net(rng, store), [](auto& m) {
      set_synflow_saliency(m, {1, 1, 6, 6});
    });
}

TEST_CASE("SynFlow refuses what has no flow, and nothing changes") {
  Rng rng(36);
  MaskedDeepFFN model(6, 3, {5}, {}, rng);
  const auto refused = [](const MaskedDeepFFN& m, std::initializer_list<const char*> parts) {
    test::require_refused(
        m,
        [](auto& net) {
          set_synflow_saliency(net, {1, 6});
        },
        parts);
    test::require_refused(
        m,
        [](auto& net) {
          synflow(net, percentage(50), {1, 6});
        },
        parts);
  };
  MaskedDeepFFN huge = model, broken = model, cut = model, tiny = model;
  huge.layer_first.weight.set_value(Tensor::full({5, 6}, 1e30f));
  huge.layer_out.weight.set_value(Tensor::full({3, 5}, -1e30f));
  refused(huge, {"synflow", "R = inf", "smaller"});
  broken.layer_out.weight.mutable_value()(1, 2) = std::numeric_limits<float>::quiet_NaN();
  refused(broken, {"synflow", "finite", "nan"});
  tiny.layer_first.weight.set_value(Tensor::full({5, 6}, 1e-30f));
  tiny.layer_out.weight.set_value(Tensor::full({3, 5}, 1e-30f));
  refused(tiny, {"synflow", "underflows"});
  cut.layer_out.set_mask(Mask::zeros(3, 5));
  refused(cut, {"synflow", "no path"});
  test::require_refused(model, [](auto& m) { set_synflow_saliency(m, {1, 0}); }, {"set_synflow_saliency", "example"});
  test::require_refused(model, [](auto& m) { synflow(m, bucket(3), {1, 6}); }, {"synflow", "bucket"});
  test::require_refused(model,
                        [](auto& m) {
                          synflow(m, percentage(50), {1, 6}, {.rounds = 0});
                        },
                        {"synflow", "round"});
  SynflowDense dense{Linear(6, 3)};
  test::require_error([&] { set_synflow_saliency(dense, {1, 6}); }, {"set_synflow_saliency", "no masked"});
  test::require_error([&] { synflow(dense, percentage(50), {1, 6}); }, {"no masked"});
}
