// Pruning of networks: layers together and one by one, storage, reports, saliencies, bad input.
#include <sstream>

#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/prune/prune.hpp>
#include <deepstruct/train/optimizer.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_close;
using test::require_error;
using test::same_bits;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// Two layers: a with weights 1 … 6, b with weights 10 and 20.
struct Pair {
  MaskedLinearLayer a, b;

  explicit Pair(storage store = storage::full) : a(3, 2, {.store = store}), b(2, 1, {.store = store}) {
    a.weight.set_value(Tensor::from(a.weight.shape(), {1, -2, 3, -4, 5, -6}));
    b.weight.set_value(Tensor::from(b.weight.shape(), {10, -20}));
  }
  static auto fields(auto& m) { return std::tuple{Field{"a", m.a}, Field{"b", m.b}}; }
};
struct Nothing {
  Linear dense{2, 2};
  static auto fields(auto& m) { return std::tuple{Field{"dense", m.dense}}; }
};

std::vector<Mask> masks_of(const auto& model) {
  std::vector<Mask> masks;
  each<MaskedLinearLayer>(model, [&](const MaskedLinearLayer& layer) { masks.push_back(layer.mask()); });
  return masks;
}
std::vector<Tensor> saliencies_of(const auto& model) {
  std::vector<Tensor> all;
  each<MaskedLinearLayer>(model, [&](const MaskedLinearLayer& layer) { all.push_back(layer.saliency()); });
  return all;
}
std::string text(const PruneReport& report) {
  std::ostringstream out;
  report.write(out);
  return out.str();
}

}  // namespace

TEST_CASE("the network is pruned as one set of weights") {
  for (storage store : {storage::full, storage::packed}) {
    Pair model(store);
    const PruneReport report = prune_network_by_saliency(model, absolute(4));
    REQUIRE(model.a.mask() == Mask::from_edges(2, 3, {{1, 1}, {1, 2}}));
    REQUIRE(model.b.mask() == Mask::ones(1, 2));
    REQUIRE(report.before() == 8);
    REQUIRE(report.after() == 4);
    REQUIRE(report.emptied().empty());
    REQUIRE(text(report) == "a: 6 -> 2 weights\nb: 2 -> 2 weights\n");
    REQUIRE(get_network_weight_count(model) == 4);
    REQUIRE(model.a.packed() == (store == storage::packed));
  }
}

TEST_CASE("a layer may lose everything, unless there is a floor; the report names it") {
  Pair model;
  const PruneReport report = prune_network_by_saliency(model, absolute(6));
  REQUIRE(model.a.mask().nnz() == 0);
  REQUIRE(report.emptied() == std::vector<std::string>{"a"});
  REQUIRE(text(report) == "a: 6 -> 0 weights\nb: 2 -> 2 weights\n");
  REQUIRE(prune_network_by_saliency(model, percentage(0)).emptied().empty());  // empty before already

  Pair kept;
  REQUIRE(prune_network_by_saliency(kept, absolute(6), {.keep_per_layer = 2}).emptied().empty());
  REQUIRE(kept.a.mask() == Mask::from_edges(2, 3, {{1, 1}, {1, 2}}));
  REQUIRE(kept.b.mask() == Mask::ones(1, 2));
}

TEST_CASE("layers that are empty already are skipped") {
  Pair model;
  model.a.set_mask(Mask::zeros(2, 3));
  REQUIRE(prune_network_by_saliency(model, absolute(1)).after() == 1);
  REQUIRE(model.b.mask() == Mask::from_edges(1, 2, {{0, 1}}));
  REQUIRE(text(prune_layer_by_saliency(model, percentage(50))) == "a: 0 -> 0 weights\nb: 1 -> 1 weights\n");
  model.b.set_mask(Mask::zeros(1, 2));
  for (const Budget& budget : {percentage(50), absolute(3), bucket(1)})
    REQUIRE(prune_network_by_saliency(model, budget, {.keep_per_layer = 1}).after() == 0);
  REQUIRE(prune_layer_by_saliency(model, absolute(3)).before() == 0);
}

TEST_CASE("layer by layer every layer loses its share") {
  Pair model;
  prune_layer_by_saliency(model, percentage(50));
  REQUIRE(model.a.mask() == Mask::from_edges(2, 3, {{1, 0}, {1, 1}, {1, 2}}));
  REQUIRE(model.b.mask() == Mask::from_edges(1, 2, {{0, 1}}));
  Pair counted;
  prune_layer_by_saliency(counted, absolute(4));  // 3 of 6 and 1 of 2
  REQUIRE(masks_of(counted) == masks_of(model));
  Pair rounded;
  prune_layer_by_saliency(rounded, absolute(2));  // 1.5 and 0.5: half to even
  REQUIRE(rounded.a.mask().nnz() == 4);
  REQUIRE(rounded.b.mask().nnz() == 2);
  Pair all, floor;
  prune_layer_by_saliency(all, absolute(8));  // all of either layer
  REQUIRE(get_network_weight_count(all) == 0);
  prune_layer_by_saliency(floor, absolute(99), {.keep_per_layer = 1});
  REQUIRE(floor.a.mask() == Mask::from_edges(2, 3, {{1, 2}}));
  REQUIRE(floor.b.mask() == Mask::from_edges(1, 2, {{0, 1}}));
  Pair exact;
  prune_layer_by_saliency(exact, absolute(8), {.exact = true});
  REQUIRE(get_network_weight_count(exact) == 0);
}

TEST_CASE("only edges that exist count, weights behind the mask do not") {
  Pair model;
  model.a.set_mask(Mask::from_edges(2, 3, {{0, 0}, {0, 1}, {0, 2}}));
  model.a.weight.mutable_value()(1, 0) = not_a_number;
  prune_network_by_saliency(model, percentage(50));  // of 1, 2, 3, 10, 20: threshold 3
  REQUIRE(model.a.mask() == Mask::from_edges(2, 3, {{0, 2}}));
  REQUIRE(model.b.mask() == Mask::ones(1, 2));
}

TEST_CASE("packed and full models are pruned identically, round after round") {
  Rng rng(1);
  MaskedDeepFFN full(30, 5, {20, 10}, {}, rng);
  MaskedDeepFFN packed = pack(full);
  const Tensor x = Tensor::uniform({9, 30}, -1, 1, rng);
  for (const Budget& budget : {percentage(30), absolute(50), bucket(2), percentage(60)})
    for (bool exact : {false, true}) {
      const PruneOptions options{.exact = exact, .keep_per_layer = 4};
      const auto report = prune_network_by_saliency(full, budget, options);
      REQUIRE(report.after() < report.before());
      REQUIRE(text(prune_network_by_saliency(packed, budget, options)) == text(report));
      REQUIRE(masks_of(packed) == masks_of(full));
      require_close(packed(x).value(), full(x).value());
    }
  REQUIRE(prune_layer_by_saliency(full, percentage(40)).after() ==
          prune_layer_by_saliency(packed, percentage(40)).after());
  REQUIRE(masks_of(packed) == masks_of(full));
  magnitude_class_distributed(full, percentage(20));
  REQUIRE(get_network_weight_count(full) == get_network_weight_count(pack(full)));
}

TEST_CASE("0 per cent prunes nothing and 100 per cent leaves the greatest weight") {
  Pair model;
  prune_network_by_saliency(model, percentage(0));
  prune_layer_by_saliency(model, percentage(0));
  prune_network_by_saliency(model, percentage(0), {.exact = true});
  REQUIRE(get_network_weight_count(model) == 8);
  Pair each = model;
  prune_layer_by_saliency(each, percentage(100));
  REQUIRE(each.a.mask() == Mask::from_edges(2, 3, {{1, 2}}));
  REQUIRE(each.b.mask() == Mask::from_edges(1, 2, {{0, 1}}));
  prune_network_by_saliency(model, percentage(100));
  REQUIRE(get_network_weight_count(model) == 1);
  REQUIRE(model.b.mask() == Mask::from_edges(1, 2, {{0, 1}}));
}

TEST_CASE("pruned packed weights take their slots along") {
  Pair model(storage::packed);
  backward(sum(model.b(model.a(Tensor::ones({2, 3})))));
  SGD{.lr = 0, .momentum = 0.5}.step(model);
  const Tensor before = model.a.weight.slots()[0].value;
  prune_network_by_saliency(model, absolute(4));
  REQUIRE(model.a.weight.slots()[0].value == Tensor::from({2}, {before(4), before(5)}));
  reset_pruned_network(model);
  REQUIRE(model.a.mask().is_full());
  REQUIRE(model.a.weight.value() == Tensor::from({6}, {0, 0, 0, 0, 5, -6}));
  REQUIRE(model.a.weight.slots()[0].value == Tensor::from({6}, {0, 0, 0, 0, before(4), before(5)}));
}

TEST_CASE("reset_pruned_network brings the weights of full storage back") {
  Pair model;
  const Tensor x = Tensor::ones({1, 3});
  const Tensor y = model.a(x).value();
  prune_network_by_saliency(model, absolute(6));
  reset_pruned_network(model);
  REQUIRE(get_network_weight_count(model) == 8);
  REQUIRE(same_bits(model.a(x).value(), y));
}

TEST_CASE("a NaN saliency is an Error that names the edge, and nothing changes") {
  for (storage store : {storage::full, storage::packed}) {
    Pair model(store);
    prune_network_by_saliency(model, absolute(1));
    model.b.weight.mutable_value()(0, store == storage::packed ? 0 : 1) = not_a_number;
    const auto before = masks_of(model);
    const std::vector<Tensor> weights{model.a.weight.value(), model.b.weight.value()};
    const char* edge = store == storage::packed ? "edge 0 <- 0" : "edge 0 <- 1";
    for (const Budget& budget : {percentage(50), absolute(3), bucket(5)})
      require_error([&] { prune_network_by_saliency(model, budget); },
                    {"prune_network_by_saliency", "NaN", "(b", edge});
    require_error([&] { prune_layer_by_saliency(model, percentage(50)); }, {"prune_layer_by_saliency", "NaN", "(b"});
    REQUIRE(masks_of(model) == before);
    REQUIRE(same_bits(model.a.weight.value(), weights[0]));
    REQUIRE(same_bits(model.b.weight.value(), weights[1]));
  }
}

TEST_CASE("pruning that fails leaves masks and saliencies as they were") {
  Pair model;
  model.a.set_saliency(Tensor::from({2, 3}, {6, 5, 4, 3, 2, 1}));
  const auto masks = masks_of(model);
  const auto saliencies = saliencies_of(model);
  const PruneOptions bad{.keep_per_layer = -1};
  Rng rng(1);
  require_error([&] { prune_network_by_saliency(model, percentage(50), bad); }, {"floor", "-1"});
  require_error([&] { prune_layer_by_saliency(model, percentage(50), bad); }, {"floor", "-1"});
  require_error([&] { prune_layer_by_saliency(model, bucket(2)); }, {"prune_layer_by_saliency", "bucket"});
  require_error([&] { random_pruning(model, percentage(50), rng, bad); }, {"floor", "-1"});
  require_error([&] { magnitude_class_blinded(model, percentage(50), bad); }, {"floor", "-1"});
  require_error([&] { magnitude_class_uniform(model, bucket(2)); }, {"bucket"});
  require_error([&] { magnitude_class_distributed(model, percentage(50), bad); }, {"floor", "-1"});
  REQUIRE(masks_of(model) == masks);
  REQUIRE(saliencies_of(model) == saliencies);
  model.b.weight.mutable_value()(0, 0) = 7;  // b had no saliency of its own: it is |w| still
  REQUIRE(model.b.saliency()(0, 0) == 7);
}

TEST_CASE("a model without masked layers cannot be pruned") {
  Nothing model;
  Rng rng(1);
  require_error([&] { prune_network_by_saliency(model, percentage(50)); }, {"prune_network_by_saliency", "no masked"});
  require_error([&] { prune_layer_by_saliency(model, percentage(50)); }, {"prune_layer_by_saliency", "no masked"});
  require_error([&] { random_pruning(model, percentage(50), rng); }, {"no masked"});
  REQUIRE(get_network_weight_count(model) == 0);
  std::vector<Param> empty;
  require_error([&] { prune_network_by_saliency(empty, percentage(50)); }, {"no masked"});
}

TEST_CASE("magnitude pruning ignores and clears explicit saliencies") {
  Pair a, b;
  a.a.set_saliency(Tensor::from({2, 3}, {60, 50, 40, 30, 20, 10}));
  magnitude_class_blinded(a, absolute(4));
  prune_network_by_saliency(b, absolute(4));
  REQUIRE(masks_of(a) == masks_of(b));
  REQUIRE_FALSE(a.a.has_saliency());
  Pair c, d;
  c.b.set_saliency(Tensor::from({1, 2}, {2, 1}));
  magnitude_class_uniform(c, percentage(50));
  prune_layer_by_saliency(d, percentage(50));
  REQUIRE(masks_of(c) == masks_of(d));
}

TEST_CASE("explicit saliencies decide, not the weights") {
  Pair model;
  model.a.set_saliency(Tensor::from({2, 3}, {60, 50, 40, 30, 25, 21}));
  prune_network_by_saliency(model, absolute(3));  // 10 and 20 of b, then 21
  REQUIRE(model.b.mask().nnz() == 0);
  REQUIRE(model.a.mask().nnz() == 5);
  REQUIRE_FALSE(model.a.mask().contains(1, 2));
}

TEST_CASE("distributed saliency is |w| in standard deviations of all stored weights") {
  Pair model;
  model.a.set_mask(Mask::from_edges(2, 3, {{0, 0}, {1, 2}}));
  set_distributed_saliency(model);
  double mean = 0, squares = 0;
  const std::vector<double> w{1, -2, 3, -4, 5, -6};
  for (double v : w) mean += v / 6;
  for (double v : w) squares += (v - mean) * (v - mean);
  std::vector<test::Exact> want;
  for (double v : w) want.push_back(std::fabs(v) / std::sqrt(squares / 5));
  test::require_close(model.a.saliency(), want, 8);
  test::require_close(model.b.saliency(), {10 / std::sqrt(450.0), 20 / std::sqrt(450.0)}, 8);

  MaskedLinearLayer constant(3, 1), single(1, 1);
  constant.weight.set_value(Tensor::full({1, 3}, -0.5f));
  set_distributed_saliency(constant);
  REQUIRE(constant.saliency() == Tensor::full({1, 3}, 0.5f));
  single.weight.set_value(Tensor::full({1, 1}, 4));
  set_distributed_saliency(single);
  REQUIRE(single.saliency() == Tensor::full({1, 1}, 4));

  Pair scaled;  // 10 and 20 in units of b are 0.47 and 0.94; b loses its 10 before a loses its −2
  magnitude_class_distributed(scaled, absolute(2));
  REQUIRE(scaled.a.mask().nnz() == 5);
  REQUIRE(scaled.b.mask() == Mask::from_edges(1, 2, {{0, 1}}));
}

TEST_CASE("random pruning takes any weight, the same ones for the same generator") {
  Rng init(3);
  const MaskedDeepFFN model(20, 4, {15}, {}, init);
  MaskedDeepFFN a = model, b = model, c = model;
  Rng first(7), same(7), other(8);
  const PruneOptions exact{.exact = true};
  const auto report = random_pruning(a, percentage(50), first, exact);
  random_pruning(b, percentage(50), same, exact);
  random_pruning(c, percentage(50), other, exact);
  REQUIRE(report.before() == 360);
  REQUIRE(report.after() == 180);
  REQUIRE(masks_of(a) == masks_of(b));
  REQUIRE_FALSE(masks_of(a) == masks_of(c));
  for (const Tensor& s : saliencies_of(a)) s.for_each([](std::int64_t, float v) { REQUIRE((v >= 0 && v <= 1)); });
}
