// Structured pruning: what goes together, what it matters, and that the smaller network answers as the emptied one.
#include <deepstruct/graph/random_graphs.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/pool.hpp>
#include <deepstruct/ops/loss.hpp>
#include <deepstruct/prune/prune_layers.hpp>
#include <deepstruct/prune/structured.hpp>
#include <deepstruct/train/optimizer.hpp>

#include <sstream>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_close;
using test::require_error;
using test::same_bits;

namespace {

template <class M>
Tensor structured_answer(M model, const Tensor& x) {
  no_grad guard;
  set_training(model, false);
  return Var(model(x)).value();
}
void structured_require_close(const Tensor& got, const Tensor& want) {
  double most = 1e-3;
  want.for_each([&](std::int64_t, float v) { most = std::max(most, double{std::abs(v)}); });
  require_close(got, want, 0, 3e-5 * most);
}
template <class M>
void structured_train(M& model, const Tensor& x, int steps = 2) {
  Adam adam{.lr = 0.01};
  set_training(model, true);
  for (int k = 0; k < steps; ++k) {
    clear_grad(model);
    backward(sum_to(square(Var(model(x)) - 1.0f), Shape{}));
    adam.step(model);
  }
}
std::string structured_text(const UnitGroup& group) {
  std::ostringstream out;
  group.write(out);
  return out.str();
}
/// Groups with a member in this module, along this extent.
template <class M>
std::vector<UnitGroup> structured_groups(const M& model, const Shape& sample, const std::string& module,
                                         int extent = 0) {
  std::vector<UnitGroup> found;
  for (const UnitGroup& g : unit_groups(model, sample))
    if (std::ranges::any_of(g.members, [&](const auto& m) { return m.module == module && m.extent == extent; }))
      found.push_back(g);
  return found;
}
/// Some that may go, at random.
std::vector<UnitGroup> structured_some(const std::vector<UnitGroup>& all, double share, Rng& rng) {
  std::vector<UnitGroup> some;
  const Draw d = rng.draw();
  for (std::size_t k = 0; k < all.size(); ++k)
    if (all[k].may_go() && d.word(k) < share * 4294967296.0) some.push_back(all[k]);
  return some;
}

/// Everything that holds of groups and of removing some of them; `whole`: no edge is missing, so that nothing else
/// goes.
template <class M>
void structured_check(const M& model, const Shape& sample, Rng& rng, bool whole) {
  const auto groups = unit_groups(model, sample);
  std::set<std::tuple<std::string, int, std::int32_t>> seen;
  std::int64_t free = 0;
  for (const UnitGroup& g : groups) {
    REQUIRE(!g.members.empty());
    free += g.may_go() && g.live;
    for (const auto& m : g.members) REQUIRE(seen.emplace(m.name(), m.extent, m.unit).second);
  }
  const Tensor x = Tensor::normal(with_extent(sample, 0, 5), 0, 1, rng);
  auto some = structured_some(groups, 0.4, rng);
  if (some.empty())  // of what may go, the first
    for (const UnitGroup& g : groups)
      if (g.may_go() && some.empty()) some.push_back(g);
  M emptied = model;
  empty_units(emptied, some);
  const Compacted<M> small = remove_units(model, sample, some);
  structured_require_close(structured_answer(small.model, x), structured_answer(emptied, x));
  for (const UnitGroup& g : some)
    for (const auto& m : g.members)
      if (m.extent == 0 && (m.parameter == "weight" || m.parameter.empty()))
        REQUIRE(small.units.at(m.module)[m.unit] == -1);
  std::set<std::pair<std::string, std::int32_t>> left;
  for (const UnitGroup& g : groups)
    for (const auto& m : g.members)
      if (m.extent == 0 && m.parameter == "weight") left.emplace(m.module, m.unit);
  for (const UnitGroup& g : some)
    for (const auto& m : g.members)
      if (m.extent == 0) left.erase({m.module, m.unit});
  for (const auto& [module, unit] : left) {
    INFO(module << ' ' << unit);
    if (whole) REQUIRE(small.units.at(module)[unit] >= 0);
  }
  REQUIRE(small.report.parameters_before == parameter_count(model));
  REQUIRE(small.report.parameters == parameter_count(small.model));
  each_param(small.model, [](const std::string& name, const Param& p) {
    INFO(name);
    for (const auto& s : p.slots()) REQUIRE(s.value.shape() == p.shape());
  });
  M on = small.model;
  structured_train(on, x);  // it is a network like any other

  // By score: so many of those that may go are not there any more.
  const std::int64_t n = free / 3;
  const Compacted<M> pruned = prune_units(model, sample, absolute(n));
  std::int64_t now = 0;
  for (const UnitGroup& g : unit_groups(pruned.model, sample)) now += g.may_go() && g.live;
  REQUIRE(now <= free - n);
  if (whole) REQUIRE(now == free - n);
}

/// x + f(x), where f narrows and widens; with the stream under a layer norm or not.
struct StructuredResidual {
  MaskedLinearLayer in, down, up;
  LayerNorm norm;
  Linear out;
  bool normal;

  StructuredResidual(bool with_norm, storage store, Rng& rng)
      : in(5, 9, {.store = store}, rng),
        down(9, 7, {.store = store}, rng),
        up(7, 9, {.bias = false, .store = store}, rng),
        norm(9),
        out(9, 2, rng),
        normal(with_norm) {}
  Var operator()(const Var& x) const {
    const Var h = in(x);
    return out(relu(h + up(tanh(down(normal ? norm(h) : h)))));
  }
  static auto fields(auto& m) {
    return std::tuple{Field{"in", m.in}, Field{"down", m.down}, Field{"up", m.up}, Field{"norm", m.norm},
                      Field{"out", m.out}};
  }
};
/// Two ways side by side, one with a scale of its own.
struct StructuredConcat {
  MaskedLinearLayer left;
  Linear right, joined;
  Param scale;

  explicit StructuredConcat(Rng& rng)
      : left(4, 6, {.store = storage::packed}, rng),
        right(4, 5, rng),
        joined(11, 3, rng),
        scale(Tensor::normal({5}, 1, 0.2f, rng)) {}
  Var operator()(const Var& x) const { return joined(cat({relu(left(x)), sigmoid(right(x)) * scale}, 1)); }
  static auto fields(auto& m) {
    return std::tuple{Field{"left", m.left}, Field{"right", m.right}, Field{"joined", m.joined},
                      Field{"scale", m.scale}};
  }
};
/// A residual network of convolutions, with norms, one in groups, and a linear layer behind pixels.   [3, 6, 6]
struct StructuredConv {
  Conv2d stem;
  BatchNorm2d norm;
  MaskedConv2d inner;
  BatchNorm2d inner_norm;
  MaskedConv2d outer;
  BatchNorm2d outer_norm;
  Conv2d each;
  MaskedLinearLayer hidden;
  Linear out;

  StructuredConv(storage store, Rng& rng)
      : stem(3, 6, 3, {.padding = {1, 1}}, false, rng),
        norm(6),
        inner(6, 5, 3, {.conv = {.padding = {1, 1}}, .store = store}, rng),
        inner_norm(5),
        outer(5, 6, 3, {.conv = {.padding = {1, 1}}, .bias = false, .store = store}, rng),
        outer_norm(6),
        each(6, 12, 1, {.groups = 6}, true, rng),
        hidden(12 * 9, 7, {.store = store}, rng),
        out(7, 3, rng) {}
  Var operator()(const Var& x) const {
    const Var a = relu(norm(stem(x)));
    const Var b = relu(a + outer_norm(outer(relu(inner_norm(inner(a))))));
    return out(relu(hidden(flatten(max_pool2d(each(b))))));
  }
  static auto fields(auto& m) {
    return std::tuple{Field{"stem", m.stem},   Field{"norm", m.norm},
                      Field{"inner", m.inner}, Field{"inner_norm", m.inner_norm},
                      Field{"outer", m.outer}, Field{"outer_norm", m.outer_norm},
                      Field{"each", m.each},   Field{"hidden", m.hidden},
                      Field{"out", m.out}};
  }
};

/// A small network with numbers that are easy to add.
MaskedDeepFFN structured_small(storage store) {
  Rng rng(1);
  MaskedDeepFFN model(2, 1, {3}, {.store = store}, rng);
  model.layer_first.weight.set_value(Tensor::from(model.layer_first.weight.shape(), {3, -4, 1, 1, -6, 0}));
  model.layer_first.bias->set_value(Tensor::from({3}, {0.5f, 3, -1}));
  model.layer_out.weight.set_value(Tensor::from(model.layer_out.weight.shape(), {1, 7, -2}));
  return model;
}

}  // namespace

TEST_CASE("groups of a feed-forward network are its neurons, with their edges and biases") {
  for (const storage store : {storage::full, storage::packed}) {
    MaskedDeepFFN model = structured_small(store);
    const auto groups = unit_groups(model, {1, 2});
    REQUIRE(groups.size() == 6);  // 2 inputs, 3 neurons, 1 output
    REQUIRE(structured_text(groups[0]) == "_layer_first[:, 0]: 3 weights, stays (input)\n");
    REQUIRE(structured_text(groups[3]) == "_layer_first[1], _layer_out[:, 1]: 4 weights\n");
    REQUIRE(structured_text(groups[5]) == "_layer_out[0]: 4 weights, stays (output)\n");
    model.layer_out.set_mask(Mask::from_edges(1, 3, {{0, 0}, {0, 2}}));
    model.layer_first.set_mask(Mask::from_edges(3, 2, {{0, 0}, {1, 0}, {1, 1}, {2, 1}}));
    REQUIRE(structured_text(unit_groups(model, {1, 2})[3]) == "_layer_first[1], _layer_out[:, 1]: 3 weights, dead\n");
  }
}

TEST_CASE("scores of units add up what their edges matter") {
  using Edges = UnitOptions::Edges;
  using Scale = UnitOptions::Scale;
  for (const storage store : {storage::full, storage::packed}) {
    MaskedDeepFFN model = structured_small(store);
    const auto scores = [&](UnitAggregate how, Edges edges, Scale scale = Scale::none) {
      const auto all = unit_scores(model, {1, 2}, {.aggregate = how, .edges = edges, .scale = scale});
      return std::vector<double>(all.begin() + 2, all.begin() + 5);
    };
    using Scores = std::vector<double>;
    REQUIRE(scores(UnitAggregate::l2, Edges::in) == Scores{5, std::sqrt(2.0), 6});
    REQUIRE(scores(UnitAggregate::l1, Edges::in) == Scores{7, 2, 6});
    REQUIRE(scores(UnitAggregate::mean, Edges::both) == Scores{8.0 / 3, 3, 8.0 / 3});
    REQUIRE(scores(UnitAggregate::l1, Edges::out) == Scores{1, 7, 2});
    REQUIRE(scores(UnitAggregate::l1, Edges::in, Scale::layer_mean) == Scores{1.4, 0.4, 1.2});
    // Of edges that exist, and what they were set to.
    model.layer_first.set_mask(Mask::from_edges(3, 2, {{0, 0}, {1, 0}, {1, 1}, {2, 0}}));
    model.layer_first.set_saliency(store == storage::full ? Tensor::from({3, 2}, {-1, 9, 2, 3, 4, 9})
                                                          : Tensor::from({4}, {-1, 2, 3, 4}));
    REQUIRE(scores(UnitAggregate::sum, Edges::in) == Scores{-1, 5, 4});
    REQUIRE(scores(UnitAggregate::l1, Edges::in) == Scores{1, 5, 4});
  }
}

TEST_CASE("the least neurons go, tensors shrink and moments move along") {
  for (const storage store : {storage::full, storage::packed}) {
    MaskedDeepFFN model = structured_small(store);
    structured_train(model, Tensor::from({2, 2}, {1, 0.5f, -1, 2}), 1);
    const MaskedDeepFFN before = model;
    const auto small = prune_units(model, {1, 2}, absolute(1));
    REQUIRE(small.units.at("_layer_first") == std::vector<std::int32_t>{0, -1, 1});
    REQUIRE(small.model.layer_first.out_features() == 2);
    REQUIRE(small.model.layer_out.in_features() == 2);
    REQUIRE(small.report.parameters_before == 13);
    REQUIRE(small.report.parameters == 9);
    REQUIRE(small.report.multiply_adds_before == 9);
    REQUIRE(small.report.multiply_adds == 6);
    const std::array<std::int32_t, 2> stay{0, 2};
    for (const char* slot : {"exp_avg", "exp_avg_sq"}) {
      Param bias = *small.model.layer_first.bias, was = *before.layer_first.bias;
      REQUIRE(same_bits(bias.slot(slot), detail::pick(was.slot(slot), 0, stay)));
    }
    // By hand: the neuron gives nothing to the output any more, its bias of 3 included.
    MaskedDeepFFN byhand = model;
    byhand.layer_out.set_mask(Mask::from_edges(1, 3, {{0, 0}, {0, 2}}));
    const Tensor x = Tensor::from({3, 2}, {1, 2, 3, -4, 5, 0.5f});
    structured_require_close(structured_answer(small.model, x), structured_answer(byhand, x));
    REQUIRE(same_bits(model.layer_first.weight.value(), before.layer_first.weight.value()));
  }
}

TEST_CASE("what meets in a sum or in a reader goes together") {
  Rng rng(3);
  StructuredResidual model(false, storage::full, rng);
  const auto stream = structured_groups(model, {1, 5}, "in");
  REQUIRE(stream.size() == 9);
  REQUIRE(structured_text(stream[2]) == "in[2], down[:, 2], up[2], out[:, 2]: 22 weights\n");
  REQUIRE(structured_text(structured_groups(model, {1, 5}, "down")[6]) == "down[6], up[:, 6]: 19 weights\n");
  // A group that does not follow the skip connection is no group.
  UnitGroup wrong = stream[2];
  std::erase_if(wrong.members, [](const UnitGroup::Member& m) { return m.module == "out"; });
  require_error(
      [&] {
        remove_units(model, {1, 5}, std::span(&wrong, 1));
      },
      {"remove_units: these units are no group of the model (in.weight 2 with 3 others"});
  wrong = stream[2];
  wrong.members[0].unit = 99;
  require_error(
      [&] {
        remove_units(model, {1, 5}, std::span(&wrong, 1));
      },
      {"remove_units: these units are no group of the model (in.weight 99"});
  require_error([&] { empty_units(model, std::span(&wrong, 1)); },
                {"empty_units: the model has no such unit (99 of 9)"});
  const auto fixed = structured_groups(model, {1, 5}, "out");
  require_error(
      [&] {
        remove_units(model, {1, 5}, std::span(fixed.data(), 1));
      },
      {"remove_units: a unit has to stay (out.weight 0, for output)"});

  // Edges of the stream count on both sides of the sum.
  model.up.set_mask(model.up.mask().filter([](std::int32_t, std::int64_t r, std::int64_t) { return r == 4; }));
  model.in.weight.set_value(Tensor::ones({9, 5}));
  model.up.weight.set_value(Tensor::ones({9, 7}));
  const auto scores = unit_scores(model, {1, 5}, {.aggregate = UnitAggregate::sum, .scale = UnitOptions::Scale::none});
  const auto groups = unit_groups(model, {1, 5});
  for (std::size_t g = 0; g < groups.size(); ++g)
    for (const auto& m : groups[g].members)
      if (m.name() == "in.weight" && m.extent == 0) REQUIRE(scores[g] == (m.unit == 4 ? 12 : 5));

  StructuredConcat sides(rng);
  REQUIRE(structured_text(structured_groups(sides, {1, 4}, "left")[1]) == "left[1], joined[:, 1]: 8 weights\n");
  REQUIRE(structured_text(structured_groups(sides, {1, 4}, "right")[1]) ==
          "right[1], joined[:, 7], scale[1]: 9 weights\n");

  StructuredConv conv(storage::packed, rng);
  const auto channel = structured_groups(conv, {1, 3, 6, 6}, "stem")[1];
  REQUIRE(structured_text(channel) ==
          "stem[1], norm[1], inner[:, 1], outer[1], outer_norm[1], each[2-3], each[:, 1], hidden[:, 18-35]: " +
              std::to_string(27 + 2 + 45 + 45 + 2 + 4 + 126) + " weights\n");
  // One channel goes, and with it what the convolution in groups makes of it; the others stay.
  const auto first = structured_groups(conv, {1, 3, 6, 6}, "stem");
  const auto small = remove_units(conv, {1, 3, 6, 6}, std::span(first.data(), 1));
  REQUIRE(small.model.stem.out_channels() == 5);
  REQUIRE(small.model.each.out_channels() == 10);
  REQUIRE(small.model.hidden.in_features() == 90);
  StructuredConv byhand = conv;  // nobody reads it any more
  byhand.inner.set_mask(byhand.inner.mask().filter([](std::int32_t, std::int64_t, std::int64_t c) { return c >= 9; }));
  byhand.hidden.set_mask(
      byhand.hidden.mask().filter([](std::int32_t, std::int64_t, std::int64_t c) { return c >= 18; }));
  const Tensor images = Tensor::normal({4, 3, 6, 6}, 0, 1, rng);
  structured_require_close(structured_answer(small.model, images), structured_answer(byhand, images));
}

TEST_CASE("smaller networks answer as the emptied ones, of every kind") {
  for (int k = 0; k < 8; ++k) {
    Rng rng(static_cast<std::uint64_t>(k));
    INFO("model " << k);
    const storage store = k % 2 ? storage::packed : storage::full;
    const Tensor x = Tensor::normal({6, 5}, 0, 1, rng);

    MaskedDeepFFN chain(5, 3, {8, 7, 6}, {.store = store}, rng);
    structured_train(chain, x);
    structured_check(chain, {1, 5}, rng, true);

    StructuredResidual residual(k % 4 == 3, store, rng);
    structured_train(residual, x);
    structured_check(residual, {1, 5}, rng, true);

    StructuredConcat sides(rng);
    structured_check(sides, {1, 4}, rng, true);

    Sequential plain{Linear(5, 8, rng), BatchNorm1d(8), ReLU(), Linear(8, 6, rng), Tanh(), Linear(6, 2, rng)};
    structured_train(plain, x);
    structured_check(plain, {1, 5}, rng, true);
  }
  for (int k = 0; k < 4; ++k) {
    Rng rng(static_cast<std::uint64_t>(k));
    INFO("convolutions " << k);
    StructuredConv conv(k % 2 ? storage::packed : storage::full, rng);
    if (k > 1)
      each_masked(
          conv, [&](auto& layer) { layer.set_mask(Mask::random(layer.mask().rows(), layer.mask().cols(), 0.5, rng)); });
    structured_train(conv, Tensor::normal({6, 3, 6, 6}, 0, 1, rng));
    structured_check(conv, {1, 3, 6, 6}, rng, k <= 1);
  }
}

TEST_CASE("vertices of networks on graphs go one by one") {
  for (int k = 0; k < 10; ++k) {
    Rng rng(static_cast<std::uint64_t>(k));
    INFO("model " << k);
    MaskedDeepDANOptions options;
    options.joint = k % 5 == 1;
    options.store = k % 5 == 2 ? storage::full : storage::packed;
    options.use_layer_norm = k % 5 == 3;
    options.all_sinks = k % 5 == 4;
    const LayeredGraph g = LayeredGraph::load_from(watts_strogatz_graph(24, 4, 0.6, rng), Orientation::random, rng);
    MaskedDeepDAN model(4, 3, g, options, rng);
    structured_train(model, Tensor::normal({8, 4}, 0, 1, rng));
    structured_check(model, {1, 4}, rng, false);
    if (options.use_layer_norm) continue;
    const auto groups = structured_groups(model, {1, 4}, "layers_hidden");
    REQUIRE(groups.size() == 24);
    // As many vertices as asked for, however the network is kept.
    const auto small = prune_units(model, {1, 4}, absolute(5), {.aggregate = UnitAggregate::l1});
    REQUIRE(std::count(small.units.at("layers_hidden").begin(), small.units.at("layers_hidden").end(), -1) >= 5);
    if (options.joint) continue;
    MaskedDeepDAN packed = pack(model);
    const auto other = prune_units(packed, {1, 4}, absolute(5), {.aggregate = UnitAggregate::l1});
    REQUIRE(other.units.at("layers_hidden") == small.units.at("layers_hidden"));
  }
}

TEST_CASE("soft and learned masks lose units too") {
  Rng rng(5);
  Sequential model{MaskedLinearLayer(5, 8, rng), ReLU(), MaskedLinearLayer(8, 6, {.learnable_mask = true}, rng), ReLU(),
                   MaskedLinearLayer(6, 2, rng)};
  Tensor factors = Tensor::uniform({8, 5}, 0.5f, 2, rng);
  std::get<0>(model.modules).set_soft_mask(factors);
  structured_check(model, {1, 5}, rng, true);
  const auto small = prune_units(model, {1, 5}, absolute(6));
  REQUIRE(std::get<2>(small.model.modules).learnable());
}

TEST_CASE("units of a layer norm stay, and the reason is told") {
  Rng rng(2);
  StructuredResidual model(true, storage::full, rng);
  const auto stream = structured_groups(model, {1, 5}, "in");
  for (const UnitGroup& g : stream) {
    REQUIRE(!g.may_go());
    REQUIRE(g.fixed == "layer_norm");
  }
  REQUIRE(prune_units(model, {1, 5}, absolute(6)).model.down.out_features() == 1);
  require_error(
      [&] {
        prune_units(model, {1, 5}, absolute(7));
      },
      {"prune_units: so many units cannot go (7, possible 6 of 7, 9 stay for layer_norm)"});
  MaskedDeepFFN ffn(3, 2, {5, 4}, {.use_layer_norm = true}, rng);
  require_error(
      [&] {
        prune_units(ffn, {1, 3}, absolute(5));
      },
      {"prune_units: so many units cannot go (5, possible 4 of 5, 4 stay for layer_norm)"});
  const auto half = prune_units(ffn, {1, 3}, percentage(40));  // of the first layer, which has no norm
  REQUIRE(half.model.layer_first.out_features() == 3);
  Sequential normed{Linear(3, 4, rng), LayerNorm(4), Linear(4, 2, rng)};
  require_error(
      [&] {
        prune_units(normed, {1, 3}, absolute(1));
      },
      {"prune_units: so many units cannot go (1, possible 0 of 0, 4 stay for layer_norm)"});
  REQUIRE(prune_units(normed, {1, 3}, percentage(50)).report.removed_units() == 0);
}

TEST_CASE("budgets of units count, and floors hold") {
  Rng rng(7);
  MaskedDeepFFN model(6, 2, {20, 10}, {}, rng);
  for (double share : {0.0, 10.0, 35.0, 50.0, 90.0}) {
    const auto small = prune_units(model, {1, 6}, percentage(share));
    REQUIRE(small.report.removed_units() == static_cast<std::int64_t>(std::nearbyint(share / 100 * 30)));
  }
  // All but the floors, and not one more.
  const auto least = prune_units(model, {1, 6}, absolute(28));
  REQUIRE(least.model.layer_first.out_features() == 1);
  REQUIRE(least.model.layer_out.in_features() == 1);
  require_error(
      [&] {
        prune_units(model, {1, 6}, absolute(29));
      },
      {"prune_units: so many units cannot go (29, possible 28 of 30)"});
  const auto floor = prune_units(model, {1, 6}, absolute(24), {.keep_per_layer = 3});
  REQUIRE(floor.model.layer_first.out_features() == 3);
  REQUIRE(floor.model.layer_out.in_features() == 3);
  // By what a layer is used to or as they are: here all of the second layer matters more than the first.
  MaskedDeepFFN uneven = model;
  std::get<MaskedLinearLayer>(uneven.layers_hidden[0]).weight.set_value(Tensor::full({10, 20}, 100));
  const auto raw = prune_units(uneven, {1, 6}, absolute(19), {.scale = UnitOptions::Scale::none});
  REQUIRE(raw.model.layer_first.out_features() == 1);
  REQUIRE(raw.model.layer_out.in_features() == 10);

  // A layer whose only reader is gone says nothing any more: that is an error, and not a network of constants.
  MaskedDeepFFN thin(2, 1, {2, 2}, {}, rng);
  thin.layer_first.weight.set_value(Tensor::from({2, 2}, {1, 1, 5, 5}));
  std::get<MaskedLinearLayer>(thin.layers_hidden[0]).set_mask(Mask::from_edges(2, 2, {{0, 0}, {1, 1}}));
  std::get<MaskedLinearLayer>(thin.layers_hidden[0]).weight.set_value(Tensor::from({2, 2}, {9, 0, 0, 1}));
  require_error([&] { prune_units(thin, {1, 2}, absolute(2)); }, {"prune_units: a layer would lose its last unit"});
  // Units that are dead already go besides and do not count.
  MaskedDeepFFN dead(6, 2, {4}, {}, rng);
  dead.layer_out.set_mask(
      dead.layer_out.mask().filter([](std::int32_t, std::int64_t, std::int64_t c) { return c != 1; }));
  REQUIRE(prune_units(dead, {1, 6}, absolute(1)).model.layer_out.in_features() == 2);
}

TEST_CASE("units go until the multiply-adds are few enough, and no more of them") {
  Rng rng(9);
  MaskedDeepFFN model(10, 4, {20, 16}, {}, rng);
  const std::int64_t all = 10 * 20 + 20 * 16 + 16 * 4;
  REQUIRE(prune_units_to(model, {1, 10}, all).report.removed_units() == 0);
  for (const std::int64_t target : {500, 300, 120, 15}) {
    const auto small = prune_units_to(model, {1, 10}, target);
    REQUIRE(small.report.multiply_adds_before == all);
    REQUIRE(small.report.multiply_adds <= target);
    const std::int64_t n = small.report.removed_units();
    REQUIRE(prune_units(model, {1, 10}, absolute(n - 1)).report.multiply_adds > target);
  }
  require_error(
      [&] {
        prune_units_to(model, {1, 10}, 14);
      },
      {"prune_units_to: so few multiply-adds are not possible (want 14, possible 15)"});
}

TEST_CASE("criteria set the saliencies of a copy") {
  Rng rng(4);
  MaskedDeepFFN model(4, 2, {6}, {}, rng);
  const auto criterion = [](auto& m) {
    each_masked(m, [](auto& layer) {
      Tensor s = Tensor::zeros(layer.weight.shape());
      for (std::int64_t r = 0; r < s.shape()[0]; ++r)
        for (std::int64_t c = 0; c < s.shape()[1]; ++c) s(r, c) = static_cast<float>(r == 3 ? 0 : r + 1);
      layer.set_saliency(s);
    });
  };
  const auto small = prune_units(model, {1, 4}, criterion, absolute(2));
  REQUIRE(small.units.at("_layer_first") == std::vector<std::int32_t>{-1, 0, 1, -1, 2, 3});
  REQUIRE(!model.layer_first.has_saliency());
  model.layer_first.set_saliency(Tensor::full({6, 4}, std::numeric_limits<float>::quiet_NaN()));
  require_error([&] { prune_units(model, {1, 4}, absolute(1)); }, {"prune_units: a saliency is not finite ("});
  require_error([&] { unit_groups(model, {}); }, {"unit_groups: the example needs samples"});
  require_error(
      [&] {
        prune_units(model, {1, 4}, absolute(1), {.keep_per_layer = -1});
      },
      {"prune_units: the floor per layer must not be negative (-1)"});
}

namespace {

/// y = out(h + b2(relu(b1(h))) + c(h)), h = in(x).
struct StructuredBranches {
  MaskedLinearLayer in, first, second, other;
  MaskedLinearLayer out;

  explicit StructuredBranches(Rng& rng)
      : in(4, 6, rng),
        first(6, 5, rng),
        second(5, 6, rng),
        other(6, 6, {.store = storage::packed}, rng),
        out(6, 2, rng) {}
  Var operator()(const Var& x) const {
    const Var h = tanh(in(x));
    return out(h + second(relu(first(h))) + tanh(other(h)));
  }
  static auto fields(auto& m) {
    return std::tuple{Field{"in", m.in}, Field{"first", m.first}, Field{"second", m.second}, Field{"other", m.other},
                      Field{"out", m.out}};
  }
};

}  // namespace

TEST_CASE("layers go whole where the model can lose them") {
  Rng rng(11);
  StructuredBranches model(rng);
  model.second.weight.set_value(Tensor::full({6, 5}, 0.01f));
  const Tensor x = Tensor::normal({4, 4}, 0, 1, rng);
  const auto one = prune_layers(model, {1, 4}, absolute(1));
  REQUIRE(one.model.second.mask().nnz() == 0);
  REQUIRE(one.model.first.out_features() == 0);  // nobody else read it
  REQUIRE(one.model.other.mask().nnz() == 36);
  StructuredBranches byhand = model;
  byhand.second.set_mask(Mask::zeros(6, 5));
  structured_require_close(structured_answer(one.model, x), structured_answer(byhand, x));
  REQUIRE(one.report.parameters < one.report.parameters_before);
  const auto both = prune_layers(model, {1, 4}, percentage(100));
  REQUIRE(both.model.other.mask().nnz() == 0);
  REQUIRE(both.model.second.mask().nnz() == 0);
  REQUIRE(both.model.in.mask().nnz() == 24);
  require_error(
      [&] {
        prune_layers(model, {1, 4}, absolute(3));
      },
      {"prune_layers: so many layers cannot go (3, possible 2)"});

  // The stream itself can go as long as the branch, which reads it, is not all there is.
  StructuredConv conv(storage::packed, rng);
  const auto shallow = prune_layers(conv, {1, 3, 6, 6}, absolute(1));
  REQUIRE(shallow.model.outer.mask().nnz() == 0);
  REQUIRE(shallow.model.inner.out_channels() == 0);
  const Tensor images = Tensor::normal({4, 3, 6, 6}, 0, 1, rng);
  StructuredConv emptied = conv;
  emptied.outer.set_mask(Mask::zeros(6, 45));
  structured_require_close(structured_answer(shallow.model, images), structured_answer(emptied, images));
}
