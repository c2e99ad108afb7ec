// compact: the same function in fewer units, for networks of every kind, thinned out at random.
#include <deepstruct/graph/generators.hpp>
#include <deepstruct/graph/random_graphs.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/pool.hpp>
#include <deepstruct/ops/loss.hpp>
#include <deepstruct/train/optimizer.hpp>
#include <deepstruct/transform/compact.hpp>

#include <map>
#include <sstream>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_close;
using test::require_error;
using test::same_bits;

namespace {

template <class M>
std::map<std::string, Tensor> compact_state(const M& model) {
  std::map<std::string, Tensor> all;
  each_param(model, [&](const std::string& name, const Param& p) {
    all[name] = p.value();
    for (const auto& s : p.slots()) all[name + " " + s.name] = s.value;
  });
  walk(model, [&](const Path& path, const Tensor& t) { all[path.str()] = t; });
  return all;
}
template <class M>
void compact_require_same(const M& a, const M& b) {
  const auto x = compact_state(a), y = compact_state(b);
  REQUIRE(x.size() == y.size());
  for (const auto& [name, value] : x) {
    INFO(name);
    REQUIRE(y.contains(name));
    REQUIRE(same_bits(value, y.at(name)));
  }
}
template <class M>
Tensor compact_answer(M model, const Tensor& x) {
  no_grad guard;
  set_training(model, false);
  return Var(model(x)).value();
}
/// Two outputs agree to a few hundred roundings of the greatest.
void compact_require_close(const Tensor& got, const Tensor& want, double relative = 3e-5) {
  double most = 1e-3;
  want.for_each([&](std::int64_t, float v) { most = std::max(most, double{std::abs(v)}); });
  require_close(got, want, 0, relative * most);
}
/// Everything that holds of every compaction.
template <class M>
Compacted<M> compact_check(const M& model, const Shape& sample, Rng& rng, const CompactOptions& options = {}) {
  const auto before = compact_state(model);
  const Compacted<M> small = compact(model, sample, options);
  for (const auto& [name, value] : compact_state(model)) REQUIRE(same_bits(before.at(name), value));
  const Tensor x = Tensor::normal(with_extent(sample, 0, 5), 0, 1, rng);
  compact_require_close(compact_answer(small.model, x), compact_answer(model, x));

  const CompactReport& r = small.report;
  REQUIRE(r.parameters_before == parameter_count(model));
  REQUIRE(r.parameters == parameter_count(small.model));
  REQUIRE(r.parameters <= r.parameters_before);
  REQUIRE(r.bytes <= r.bytes_before);
  REQUIRE(r.multiply_adds <= r.multiply_adds_before);
  for (const auto& layer : r.layers) {
    INFO(layer.name);
    const auto& map = small.units.at(layer.name);
    REQUIRE(static_cast<std::int64_t>(map.size()) == layer.units_before);
    std::int32_t next = 0;
    for (const std::int32_t u : map) {
      REQUIRE((u == -1 || u == next));
      next += u >= 0;
    }
    REQUIRE(next == layer.units);
  }
  const Compacted<M> twice = compact(small.model, sample, options);
  std::ostringstream text;
  small.report.write(text);
  twice.report.write(text);
  INFO(text.str());
  REQUIRE(twice.report.removed_units() == 0);
  compact_require_same(twice.model, small.model);
  return small;
}

/// Thins out every masked layer and takes all edges of some units.
template <class M>
void compact_thin(M& model, double density, Rng& rng) {
  each<MaskedLinearLayer>(model, [&](MaskedLinearLayer& layer) {
    const Draw d = rng.draw(), rows = rng.draw(), cols = rng.draw();
    const auto chance = [](const Draw& draw, std::int64_t k) {
      return draw.word(static_cast<std::uint64_t>(k)) / 4294967296.0;
    };
    layer.set_mask(layer.mask().filter([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      return chance(d, e) < density && chance(rows, r) < 0.9 && chance(cols, c) < 0.9;
    }));
  });
}
double compact_density(int k) {
  constexpr std::array<double, 8> all{1, 0.7, 0.4, 0.25, 0.15, 0.08, 0.02, 0};
  return all[static_cast<std::size_t>(k) % all.size()];
}
/// Biases that are not 0, so that constants matter.
template <class M>
void compact_train(M& model, const Tensor& x, int steps = 2) {
  Adam adam{.lr = 0.01};
  for (int k = 0; k < steps; ++k) {
    clear_grad(model);
    backward(sum_to(square(Var(model(x)) - 1.0f), Shape{}));
    adam.step(model);
  }
}
std::int64_t compact_pick(Rng& rng, std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(rng.draw().word(0)) % (high - low + 1);
}

/// Hidden neurons of a network without layer norm that inputs reach and that reach outputs.
std::vector<std::vector<char>> compact_alive(const MaskedDeepFFN& m) {
  std::vector<Mask> masks;
  each<MaskedLinearLayer>(m, [&](const MaskedLinearLayer& layer) { masks.push_back(layer.mask()); });
  std::vector<std::vector<char>> forward{std::vector<char>(static_cast<std::size_t>(masks[0].cols()), 1)},
      alive(masks.size() - 1);
  for (const Mask& mask : masks) {
    std::vector<char> next(static_cast<std::size_t>(mask.rows()), 0);
    mask.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { next[r] |= forward.back()[c]; });
    forward.push_back(next);
  }
  std::vector<char> back(static_cast<std::size_t>(masks.back().rows()), 1);
  for (std::size_t k = masks.size(); k-- > 1;) {
    std::vector<char> before(static_cast<std::size_t>(masks[k].cols()), 0);
    masks[k].for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { before[c] |= back[r]; });
    back = before;
    for (std::size_t u = 0; u < back.size(); ++u) alive[k - 1].push_back(back[u] && forward[k][u]);
  }
  return alive;
}

}  // namespace

TEST_CASE("compacted feed-forward networks answer the same and hold no neuron that says nothing") {
  for (int k = 0; k < 80; ++k) {
    Rng rng(static_cast<std::uint64_t>(k));
    std::vector<std::int64_t> hidden;
    for (std::int64_t n = compact_pick(rng, 1, 4); n > 0; --n) hidden.push_back(compact_pick(rng, 1, 14));
    const MaskedDeepFFNOptions options{.use_layer_norm = k % 4 == 3, .store = k % 2 ? storage::packed : storage::full};
    MaskedDeepFFN model(6, 3, hidden, options, rng);
    compact_thin(model, compact_density(k / 4), rng);
    INFO("model " << k);
    const auto small = compact_check(model, {1, 6}, rng);
    REQUIRE(small.model.layer_first.in_features() == 6);
    REQUIRE(small.model.layer_out.out_features() == 3);
    if (options.use_layer_norm) continue;
    const auto alive = compact_alive(model);
    std::size_t l = 0;
    each<MaskedLinearLayer>(std::as_const(model), [&](const std::string& name, const MaskedLinearLayer&) {
      if (l == alive.size()) return;
      const auto& map = small.units.at(name);
      for (std::size_t u = 0; u < map.size(); ++u) REQUIRE((map[u] >= 0) == bool(alive[l][u]));
      ++l;
    });
  }
}

namespace {

/// Vertices of a network on a graph that inputs reach and that reach outputs, from its structure.
std::vector<char> compact_alive(const MaskedDeepDAN& dan) {
  const auto n = static_cast<std::size_t>(dan.wiring()->vertices);
  const LayeredGraph g = dan.generate_structure();
  std::vector<char> forward(n, 0), back(n, 0);
  dan.layer_first.mask().for_each([&](std::int32_t, std::int64_t r, std::int64_t) { forward[r] = 1; });
  dan.layer_out.mask().for_each([&](std::int32_t, std::int64_t, std::int64_t c) { back[dan.wiring()->output[c]] = 1; });
  std::vector<Edge> edges(g.graph().edges().begin(), g.graph().edges().end());
  std::sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) { return a.source < b.source; });
  for (const Edge& e : edges) forward[e.target] |= forward[e.source];
  std::sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) { return a.target > b.target; });
  for (const Edge& e : edges) back[e.source] |= back[e.target];
  for (std::size_t v = 0; v < n; ++v) forward[v] &= back[v];
  return forward;
}
LayeredGraph compact_graph(std::int64_t n, Rng& rng) {
  if (n < 4) return LayeredGraph::load_from(path_graph(n));
  return LayeredGraph::load_from(watts_strogatz_graph(n, 2 + 2 * (n > 8), 0.6, rng), Orientation::random, rng);
}

/// x + f(x), where f narrows and widens.
struct CompactResidual {
  MaskedLinearLayer in, down, up;
  LayerNorm norm;
  Linear out;
  bool normal;

  CompactResidual(bool with_norm, Rng& rng)
      : in(5, 9, rng), down(9, 7, rng), up(7, 9, {.bias = false}, rng), norm(9), out(9, 2, rng), normal(with_norm) {}
  Var operator()(const Var& x) const {
    const Var h = in(x), sum = h + up(tanh(down(normal ? norm(h) : h)));
    return out(relu(sum));
  }
  static auto fields(auto& m) {
    return std::tuple{Field{"in", m.in}, Field{"down", m.down}, Field{"up", m.up}, Field{"norm", m.norm},
                      Field{"out", m.out}};
  }
};
/// Two ways side by side, one of them with a scale of its own, and a shared layer.
struct CompactBranches {
  MaskedLinearLayer left, right, shared, joined;
  Param scale;

  explicit CompactBranches(Rng& rng)
      : left(4, 6, {.store = storage::packed}, rng),
        right(4, 5, rng),
        shared(6, 6, rng),
        joined(17, 3, rng),
        scale(Tensor::normal({5}, 1, 0.2f, rng)) {}
  Var operator()(const Var& x) const {
    const Var a = shared(relu(left(x))), b = sigmoid(right(x)) * scale;
    return joined(cat({a, b, shared(a)}, 1));
  }
  static auto fields(auto& m) {
    return std::tuple{Field{"left", m.left}, Field{"right", m.right}, Field{"shared", m.shared},
                      Field{"joined", m.joined}, Field{"scale", m.scale}};
  }
};

/// A convolutional network with every kind of layer; images [3, 8, 8].
struct CompactConv {
  MaskedConv2d first;
  BatchNorm2d norm;
  MaskedConv2d second, third;
  Conv2d each;
  BatchNorm1d flat;
  MaskedLinearLayer hidden, out;
  bool adaptive;

  CompactConv(storage store, std::int64_t padding, bool averages, Rng& rng)
      : first(3, 6, 3, {.conv = {.padding = {padding, padding}}, .bias = false, .store = store}, rng),
        norm(6),
        second(6, 5, 3, {.conv = {.padding = {padding, padding}}, .store = store}, rng),
        third(5, 5, 1, {.store = store}, rng),
        each(5, 10, 1, {.groups = 5}, true, rng),
        flat(10),
        hidden(averages ? 10 : 10 * (padding ? 16 : 4), 7, {.store = store}, rng),
        out(7, 3, rng),
        adaptive(averages) {}
  Var operator()(const Var& x) const {
    const Var a = relu(norm(first(x)));
    const Var b = relu(second(a));
    const Var c = each(max_pool2d(b + third(b)));
    const Var d = adaptive ? flat(flatten(adaptive_avg_pool2d(c, {1, 1}))) : flatten(relu(c));
    return out(tanh(hidden(d)));
  }
  static auto fields(auto& m) {
    return std::tuple{Field{"first", m.first},   Field{"norm", m.norm}, Field{"second", m.second},
                      Field{"third", m.third},   Field{"each", m.each}, Field{"flat", m.flat},
                      Field{"hidden", m.hidden}, Field{"out", m.out}};
  }
};

}  // namespace

TEST_CASE("compacted networks on graphs answer the same, in every form") {
  for (int k = 0; k < 112; ++k) {
    Rng rng(static_cast<std::uint64_t>(k));
    MaskedDeepDANOptions options;
    switch (k % 7) {
      case 1:
        options.joint = true;
        break;
      case 2:
        options.store = storage::full;
        break;
      case 3:
        options.use_layer_norm = true;
        break;
      case 4:
        options.use_layer_norm = true, options.store = storage::full;
        break;
      case 5:
        options.joint = true, options.degree_aware = true;
        break;
      default:
        break;
    }
    options.all_sinks = k / 7 % 2;
    const LayeredGraph g = compact_graph(compact_pick(rng, 1, k % 5 ? 24 : 60), rng);
    MaskedDeepDAN model(4, 3, g, options, rng);
    const Tensor x = Tensor::normal({8, 4}, 0, 1, rng);
    compact_train(model, x);
    compact_thin(model, compact_density(k / 14), rng);
    INFO("model " << k << " with " << g.vertex_count() << " vertices in " << g.num_layers() << " layers");
    const auto small = compact_check(model, {1, 4}, rng);
    REQUIRE(small.model.layer_first.in_features() == 4);
    REQUIRE(small.model.layer_out.out_features() == 3);
    const auto& map = small.units.at("layers_hidden");
    const std::vector<char> alive = compact_alive(model);
    for (std::size_t v = 0; v < map.size(); ++v) {
      INFO("vertex " << v);
      if (alive[v]) REQUIRE(map[v] >= 0);
      if (!alive[v] && !options.use_layer_norm && options.store == storage::packed) REQUIRE(map[v] == -1);
    }
    // It is a network like any other.
    const LayeredGraph left = small.model.generate_structure();
    REQUIRE(left.vertex_count() == std::count_if(map.begin(), map.end(), [](int u) { return u >= 0; }));
    if (left.vertex_count() > 0) REQUIRE(left.num_layers() == small.model.num_layers());
    if (!options.joint) {
      const Tensor y = small.model(x).value();
      compact_require_close(pack(small.model)(x).value(), y);
      compact_require_close(unpack(small.model)(x).value(), y);
    }
    MaskedDeepDAN on = small.model;
    compact_train(on, x, 2);
  }
}

TEST_CASE("sums, branches and shared layers keep what meets together") {
  for (int k = 0; k < 40; ++k) {
    Rng rng(static_cast<std::uint64_t>(k));
    INFO("model " << k);
    CompactResidual residual(k % 2 == 1, rng);
    compact_thin(residual, compact_density(k / 2), rng);
    const auto small = compact_check(residual, {1, 5}, rng);
    REQUIRE(small.model.in.out_features() == small.model.up.out_features());
    REQUIRE(small.model.norm.weight.size() == (k % 2 ? small.model.in.out_features() : 9));
    REQUIRE(small.model.out.weight.shape()[1] == small.model.in.out_features());

    CompactBranches branches(rng);
    compact_thin(branches, compact_density(k / 2), rng);
    compact_check(branches, {1, 4}, rng);
  }
  // In a sum a unit stays if one of its parts says something: here unit 2 of x alone, unit 4 of nothing.
  Rng rng(1);
  CompactResidual model(false, rng);
  const auto without_rows = [](MaskedLinearLayer& layer, std::initializer_list<std::int64_t> gone) {
    layer.set_mask(layer.mask().filter([&](std::int32_t, std::int64_t r, std::int64_t) {
      return std::find(gone.begin(), gone.end(), r) == gone.end();
    }));
  };
  without_rows(model.in, {3, 4});
  without_rows(model.up, {2, 4});
  without_rows(model.down, {5});
  const auto small = compact_check(model, {1, 5}, rng);
  REQUIRE(small.units.at("in") == std::vector<std::int32_t>{0, 1, 2, 3, -1, 4, 5, 6, 7});
  REQUIRE(small.units.at("up") == small.units.at("in"));
  // tanh of a bias alone is a constant that `up`, without a bias, cannot take.
  REQUIRE(small.units.at("down") == std::vector<std::int32_t>{0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("compacted convolutional networks answer the same") {
  for (int k = 0; k < 32; ++k) {
    Rng rng(static_cast<std::uint64_t>(k));
    INFO("model " << k);
    CompactConv model(k % 2 ? storage::packed : storage::full, k / 2 % 2, k / 4 % 2, rng);
    const Tensor x = Tensor::normal({6, 3, 8, 8}, 0, 1, rng);
    compact_train(model, x);
    compact_thin(model, compact_density(k / 4), rng);
    each<MaskedConv2d>(model, [&](MaskedConv2d& layer) {
      const double density = compact_density(k / 4);
      const Draw d = rng.draw(), rows = rng.draw();
      layer.set_mask(layer.mask().filter([&](std::int32_t e, std::int64_t r, std::int64_t) {
        return d.word(static_cast<std::uint64_t>(e)) < density * 4294967296.0 &&
               rows.word(static_cast<std::uint64_t>(r)) < 0.8 * 4294967296.0;
      }));
    });
    const auto small = compact_check(model, {1, 3, 8, 8}, rng);
    REQUIRE(small.model.first.in_channels() == 3);
    REQUIRE(small.model.norm.running_mean.size() == small.model.first.out_channels());
    const std::int64_t third = small.model.third.out_channels();  // one group alone can lose one of its two outputs
    if (third != 1) REQUIRE(small.model.each.weight.shape()[0] == 2 * third);
    if (k / 4 % 8 == 7) REQUIRE(small.model.first.out_channels() == 0);
  }
}

TEST_CASE("compaction reaches into parts, soft and learned masks") {
  for (int k = 0; k < 24; ++k) {
    Rng rng(static_cast<std::uint64_t>(k));
    INFO("model " << k);
    const LayeredGraph g = compact_graph(compact_pick(rng, 2, 15), rng);
    const MaskedDeepDANOptions options{.use_layer_norm = k % 4 == 3, .all_sinks = k % 2 == 1};
    Sequential parts{
        MaskedLinearLayer(5, 8, rng), ReLU(), MaskedDeepDAN(8, 6, g, options, rng), Dropout(0.5f), Tanh(),
        MaskedLinearLayer(6, 7, rng), GELU(), MaskedLinearLayer(7, 6, rng),         ReLU(),        Linear(6, 2, rng)};
    auto& soft = std::get<5>(parts.modules);
    auto& learned = std::get<7>(parts.modules);
    compact_thin(parts, compact_density(k / 3), rng);
    Tensor factors = Tensor::uniform({7, 6}, 0, 2, rng);
    factors.for_each([&](std::int64_t i, float) { factors(i / 6, i % 6) *= soft.mask().contains(i / 6, i % 6); });
    soft.set_soft_mask(factors);
    MaskedLinearLayer alphas(7, 6, {.learnable_mask = true}, rng);
    alphas.set_mask(learned.mask());
    learned = alphas;
    const auto small = compact_check(parts, {1, 5}, rng);
    REQUIRE(std::get<7>(small.model.modules).learnable());
    REQUIRE(small.units.at("2.layers_hidden").size() == static_cast<std::size_t>(g.vertex_count()));
    REQUIRE(std::get<2>(small.model.modules).layer_out.out_features() ==
            std::get<5>(small.model.modules).in_features());
  }
}

TEST_CASE("constants go into the biases that read them, to the number") {
  Rng rng(1);
  MaskedDeepFFN model(2, 1, {3}, {.store = storage::packed}, rng);
  model.layer_first.set_mask(Mask::from_edges(3, 2, {{0, 0}, {2, 1}}));  // neuron 1 is relu(its bias)
  model.layer_first.bias->set_value(Tensor::from({3}, {0.5f, 3, -1}));
  model.layer_out.set_mask(Mask::from_edges(1, 3, {{0, 1}, {0, 2}}));  // nobody reads neuron 0
  model.layer_out.weight.set_value(Tensor::from({2}, {2, 5}));
  model.layer_out.bias->set_value(Tensor::from({1}, {0.25f}));
  const auto small = compact_check(model, {1, 2}, rng);
  REQUIRE(small.units.at("_layer_first") == std::vector<std::int32_t>{-1, -1, 0});
  REQUIRE(small.model.layer_out.bias->value()(0) == 6.25f);
  REQUIRE(small.model.layer_out.weight.value()(0) == 5.0f);
  std::ostringstream text;
  small.report.write(text);
  REQUIRE(text.str() ==
          "_layer_first: units 3 -> 1, parameters 5 -> 2\n"
          "_layer_out: units 1 -> 1, parameters 3 -> 2\n"
          "parameters 8 -> 4, bytes 32 -> 16, multiply-adds 4 -> 2\n");
  REQUIRE(small.report.removed_units() == 2);

  // A network on a graph: 0 → 1 → 2, whose middle has lost its input.
  MaskedDeepDAN dan(1, 1, LayeredGraph::load_from(path_graph(3)), {.all_sinks = false}, rng);
  dan.layers_hidden->bias->set_value(Tensor::from({2}, {2, 1}));
  dan.set_mask(0, 1, Mask::zeros(1, 1));
  dan.layers_hidden->weight.set_value(Tensor::from({1}, {3}));
  dan.layer_out.weight.set_value(Tensor::from({1, 1}, {10}));
  dan.layer_out.bias->set_value(Tensor::from({1}, {0.5f}));
  const auto nothing = compact_check(dan, {1, 1}, rng);
  REQUIRE(nothing.model.layer_out.bias->value()(0) == 70.5f);
  REQUIRE(nothing.model.wiring()->vertices == 0);
  REQUIRE(nothing.model.layer_first.in_features() == 1);
}

TEST_CASE("padding makes a constant image no constant, unless it is 0") {
  Rng rng(2);
  for (const bool padded : {false, true})
    for (const float value : {0.0f, 1.5f}) {
      Sequential model{MaskedConv2d(1, 2, 1, {}, rng), ReLU(),
                       Conv2d(2, 3, 3, {.padding = {padded, padded}}, true, rng), Flatten(),
                       Linear(padded ? 48 : 12, 2, rng)};
      auto& first = std::get<0>(model.modules);
      first.set_mask(Mask::from_edges(2, 1, {{0, 0}}));
      first.bias->set_value(Tensor::from({2}, {0.1f, value}));
      const auto small = compact_check(model, {1, 1, 4, 4}, rng);
      REQUIRE(std::get<0>(small.model.modules).out_channels() == (padded && value > 0 ? 2 : 1));
    }
}

TEST_CASE("a convolution without a bias leaves constants to the batch norm behind it") {
  Rng rng(3);
  Sequential model{MaskedConv2d(2, 4, 1, {}, rng), ReLU(), Conv2d(4, 3, 2, {}, false, rng), BatchNorm2d(3), ReLU(),
                   Conv2d(3, 2, 1, {}, true, rng)};
  std::get<0>(model.modules).set_mask(Mask::from_edges(4, 2, {{0, 0}, {1, 1}, {2, 0}}));
  compact_train(model, Tensor::normal({4, 2, 5, 5}, 0, 1, rng));
  std::get<0>(model.modules).bias->set_value(Tensor::from({4}, {0, 0.5f, 1, 2}));
  const auto small = compact_check(model, {1, 2, 5, 5}, rng);
  REQUIRE(small.units.at("0") == std::vector<std::int32_t>{0, 1, 2, -1});
  const Tensor &w = std::get<2>(model.modules).weight.value(), before = std::get<3>(model.modules).running_mean,
               after = std::get<3>(small.model.modules).running_mean;
  for (std::int64_t o = 0; o < 3; ++o) {
    const float gone = 2 * (w(o, 3, 0, 0) + w(o, 3, 0, 1) + w(o, 3, 1, 0) + w(o, 3, 1, 1));
    REQUIRE(after(o) == Approx(before(o) - gone).margin(1e-6));
  }
}

TEST_CASE("optimizer slots come along, and training goes on") {
  Rng rng(4);
  for (const storage store : {storage::full, storage::packed}) {
    MaskedDeepFFN model(5, 3, {12, 9}, {.store = store}, rng);
    compact_thin(model, 0.3, rng);
    const Tensor x = Tensor::normal({9, 5}, 0, 1, rng);
    compact_train(model, x);
    auto small = compact(model, {1, 5});
    REQUIRE(small.report.removed_units() > 0);
    REQUIRE(small.report.bytes == 3 * 4 * small.report.parameters);
    std::vector<std::int32_t> inputs(5);
    std::iota(inputs.begin(), inputs.end(), 0);
    const auto layers = maskable_layers(std::as_const(model));
    const auto now = maskable_layers(std::as_const(small.model));
    int compared = 0;
    for (std::size_t k = 0; k < layers.size(); ++k) {
      const auto& [name, old] = layers[k];
      const MaskedLinearLayer& fresh = *now[k].second;
      const auto& rows = small.units.at(name);
      for (std::size_t r = 0; r < rows.size(); ++r)
        for (std::size_t c = 0; c < inputs.size(); ++c) {
          if (rows[r] < 0 || inputs[c] < 0) continue;
          const auto i = static_cast<std::int64_t>(r), j = static_cast<std::int64_t>(c);
          REQUIRE(fresh.mask().contains(rows[r], inputs[c]) == old->mask().contains(i, j));
          const auto at = [&](const MaskedLinearLayer& layer, const Tensor& t, std::int64_t row, std::int64_t col) {
            const std::int32_t e = layer.mask().edge(row, col);
            return layer.packed() ? (e < 0 ? 0.0f : t(e)) : t(row, col);
          };
          REQUIRE(at(fresh, fresh.weight.value(), rows[r], inputs[c]) == at(*old, old->weight.value(), i, j));
          for (std::size_t n = 0; n < 2; ++n) {
            const auto &slot = old->weight.slots()[n], &moved = fresh.weight.slots()[n];
            REQUIRE(moved.name == slot.name);
            REQUIRE(at(fresh, moved.value, rows[r], inputs[c]) == at(*old, slot.value, i, j));
            ++compared;
          }
        }
      inputs = rows;
    }
    REQUIRE(compared > 20);
    compact_train(small.model, x, 2);
    // One more step moves what stays the same way in both.
    MaskedDeepFFN a = model, b = compact(model, {1, 5}).model;
    compact_train(a, x, 1);
    compact_train(b, x, 1);
    REQUIRE(b(x).value().shape() == Shape{9, 3});
    compact_require_close(b(x).value(), a(x).value(), 0.1);
  }
  Rng again(7);
  MaskedDeepDAN dan(3, 2, compact_graph(30, again), {.joint = true}, again);
  compact_train(dan, Tensor::normal({6, 3}, 0, 1, again));
  compact_thin(dan, 0.6, again);
  const auto small = compact(dan, {1, 3});
  const auto& map = small.units.at("layers_hidden");
  const MaskedLinearLayer &old = *dan.layers_hidden, &now = *small.model.layers_hidden;
  REQUIRE(now.weight.slots().size() == 2);
  REQUIRE(now.weight.size() > 0);
  const auto first = static_cast<std::int32_t>(dan.wiring()->inputs),
             first_now = static_cast<std::int32_t>(small.model.wiring()->inputs);
  std::int64_t found = 0;
  old.mask().for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
    const std::int32_t row = map[r + first], col = map[c];
    if (row < 0 || col < 0) return;
    const std::int32_t at = now.mask().edge(row - first_now, col);
    REQUIRE(at >= 0);
    REQUIRE(now.weight.value()(at) == old.weight.value()(e));
    for (std::size_t s = 0; s < 2; ++s) REQUIRE(now.weight.slots()[s].value(at) == old.weight.slots()[s].value(e));
    ++found;
  });
  REQUIRE(found == now.weight.size());
}

TEST_CASE("where nothing says nothing, the network is the same to the bit") {
  Rng rng(5);
  const auto same = [&](const auto& model, const Shape& sample) {
    const auto small = compact(model, sample);
    REQUIRE(small.report.removed_units() == 0);
    REQUIRE(small.report.parameters == small.report.parameters_before);
    compact_require_same(small.model, model);
    const Tensor x = Tensor::normal(with_extent(sample, 0, 4), 0, 1, rng);
    REQUIRE(same_bits(compact_answer(small.model, x), compact_answer(model, x)));
  };
  same(MaskedDeepFFN(4, 2, {5, 6}, {.use_layer_norm = true}, rng), {1, 4});
  same(CompactConv(storage::packed, 1, true, rng), {1, 3, 8, 8});
  const LayeredGraph g = LayeredGraph::load_from(complete_graph(9));
  for (const MaskedDeepDANOptions& options :
       {MaskedDeepDANOptions{}, {.joint = true}, {.store = storage::full}, {.use_layer_norm = true}})
    same(MaskedDeepDAN(4, 2, g, options, rng), {2, 4});
}

TEST_CASE("weights of 0 are edges unless one says that they are not") {
  Rng rng(6);
  Sequential model{Linear(3, 4, rng), Tanh(), Linear(4, 2, rng)};
  Tensor w = std::get<0>(model.modules).weight.value(), v = std::get<2>(model.modules).weight.value();
  for (std::int64_t c = 0; c < 3; ++c) w(1, c) = 0;
  for (std::int64_t r = 0; r < 2; ++r) v(r, 2) = 0;
  std::get<0>(model.modules).weight.set_value(w);
  std::get<2>(model.modules).weight.set_value(v);
  REQUIRE(compact_check(model, {1, 3}, rng).report.removed_units() == 0);
  const auto small = compact_check(model, {1, 3}, rng, {.zeros_are_edges = false});
  REQUIRE(small.units.at("0") == std::vector<std::int32_t>{0, -1, -1, 1});
  REQUIRE(std::get<2>(small.model.modules).weight.shape() == Shape{2, 2});
}

namespace {
/// A network of one masked layer, something behind it, and a layer that reads the result.
template <class F>
struct CompactAround {
  MaskedLinearLayer in;
  F f;
  Linear out;

  CompactAround(F inside, std::int64_t read, Rng& rng) : in(3, 6, rng), f(inside), out(read, 2, rng) {
    in.set_mask(Mask::from_edges(6, 3, {{0, 0}, {0, 2}, {2, 1}, {3, 0}, {5, 2}}));
  }
  Var operator()(const Var& x) const { return out(f(in(x))); }
  static auto fields(auto& m) { return std::tuple{Field{"in", m.in}, Field{"out", m.out}}; }
};
}  // namespace

TEST_CASE("what code counts or mixes stays whole") {
  Rng rng(7);
  const auto removed = [&](auto f, std::int64_t read) {
    return compact_check(CompactAround(f, read, rng), {1, 3}, rng).report.removed_units();
  };
  REQUIRE(removed([](const Var& h) { return relu(h); }, 6) == 2);
  REQUIRE(removed([](const Var& h) { return softmax(h, 1); }, 6) == 0);
  REQUIRE(removed([](const Var& h) { return narrow(h, 1, 1, 4); }, 4) == 0);
  REQUIRE(removed([](const Var& h) { return cumsum(h, 1); }, 6) == 0);
  REQUIRE(removed([](const Var& h) { return layer_norm(h, {6}); }, 6) == 0);
  REQUIRE(removed([](const Var& h) { return mul(h, Tensor::from({6}, {1, 2, 3, 4, 5, 6})); }, 6) == 0);
  REQUIRE(removed([](const Var& h) { return mean(h, {1, true}); }, 1) == 0);
  REQUIRE(removed([](const Var& h) { return h * mean(h, {1, true}); }, 6) == 0);
  REQUIRE(removed([](const Var& h) { return h * Var(Tensor::scalar(2)); }, 6) == 2);
  REQUIRE(removed([](const Var& h) { return cat({h, tanh(h)}, 1); }, 12) == 2);
  REQUIRE(removed([](const Var& h) { return flatten(unsqueeze(h, 2) * Tensor::ones({1, 1, 3}), 1); }, 18) == 2);
  REQUIRE(removed([](const Var& h) { return reshape(h, {h.shape()[0], 2, 3}); }, 3) == 0);

  BatchNorm1d norm(6, {.affine = false});
  norm.training = false;
  REQUIRE(removed([norm](const Var& h) { return norm(h); }, 6) == 0);
}

TEST_CASE("compact says what it cannot do") {
  Rng rng(8);
  const MaskedDeepFFN model(4, 2, {3}, {}, rng);
  require_error([&] { compact(model, {0, 4}); }, {"compact: the example needs samples", "[0, 4]"});
  require_error([&] { compact(model, {}); }, {"compact: the example needs samples"});
  require_error([&] { compact(model, {1, 5}); }, {"linear: x has another number of features"});
  const CompactAround constant([](const Var&) { return Var(Tensor::ones({2, 6})); }, 6, rng);
  require_error([&] { compact(constant, {1, 3}); }, {"compact: the result does not depend on the input"});
  const CompactAround counts([](const Var& h) { return flatten(reshape(h, {h.shape()[0], 6, 1, 1})); }, 6, rng);
  require_error([&] { compact(counts, {1, 3}); }, {"reshape: shapes differ in size"});
}

TEST_CASE("a network on a graph keeps the vertices it is told to") {
  Rng rng(9);
  LayeredGraph g;
  g.add_edges_from({{0, 1}, {1, 2}, {2, 3}, {0, 2}, {0, 4}, {4, 3}});
  for (const storage store : {storage::packed, storage::full}) {
    MaskedDeepDAN dan(2, 2, g, {.store = store}, rng);
    REQUIRE(dan.num_layers() == 4);
    const Tensor x = Tensor::normal({3, 2}, 0, 1, rng);
    // The same as all vertices, of which some have no edges. Vertices by layers: 0 | 1, 4 | 2 | 3.
    const std::array<std::int64_t, 4> first{0, 1, 3, 4};
    const auto without = [&](MaskedDeepDAN whole, std::initializer_list<std::int64_t> gone) {
      const auto stays = [&](std::int64_t v) { return std::find(gone.begin(), gone.end(), v) == gone.end(); };
      for (const auto& [s, t] : {std::pair{0, 1}, {1, 2}, {2, 3}, {0, 2}, {1, 3}})
        whole.set_mask(
            s, t,
            whole.mask(s, t).filter(
                [&, from = first[static_cast<std::size_t>(s)], to = first[static_cast<std::size_t>(t)]](
                    std::int32_t, std::int64_t r, std::int64_t c) { return stays(to + r) && stays(from + c); }));
      return whole(x).value();
    };
    const MaskedDeepDAN whole = dan;
    const std::vector<std::int32_t> three{0, 2, 3, 4}, all{0, 1, 2, 3}, two{0, 1, 3};
    REQUIRE(dan.keep(three) == three);
    REQUIRE(dan.num_layers() == 4);
    compact_require_close(dan(x).value(), without(whole, {1}));
    REQUIRE(dan.keep(all) == all);
    MaskedDeepDAN short_one = dan;
    REQUIRE(short_one.keep(two) == two);
    REQUIRE(short_one.num_layers() == 3);
    REQUIRE(short_one.generate_structure().num_layers() == 3);
    compact_require_close(short_one(x).value(), without(whole, {1, 3}));
    const MaskedDeepDAN before = dan;
    require_error(
        [&] {
          dan.keep(std::vector<std::int32_t>{0, 1});
        },
        {"MaskedDeepDAN::keep: a vertex that feeds the output must stay"});
    require_error([&] { dan.keep(std::vector<std::int32_t>{1, 0}); }, {"MaskedDeepDAN::keep: units must ascend"});
    require_error([&] { dan.keep(std::vector<std::int32_t>{7}); }, {"MaskedDeepDAN::keep: unit outside the extent"});
    require_error([&] { dan.shift_biases(std::vector<double>{1}); }, {"shift_biases: needs a number per branch"});
    compact_require_same(dan, before);
  }
}
