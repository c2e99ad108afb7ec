// Paths from inputs to outputs. The reference is a gradient: with weights of 1, biases of 0 and an input of ones the
// output has one, greater than 0, exactly in the edges on paths.
#include <bit>

#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/nn/layers.hpp>
#include <deepstruct/nn/pool.hpp>
#include <deepstruct/prune/connect.hpp>
#include <deepstruct/transform/compact.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

/// Sums, a concatenation, an edge around everything.
struct ConnectSkips {
  MaskedLinearLayer a, b, c, around;
  ConnectSkips(storage store, Rng& rng)
      : a(5, 6, {.store = store}, rng),
        b(6, 6, {.store = store}, rng),
        c(10, 3, {.store = store}, rng),
        around(5, 4, {.store = store}, rng) {}
  Var operator()(const Var& x) const {
    const Var h = relu(a(x)), z = h + relu(b(h));
    return c(cat({z, relu(around(x))}, 1));
  }
  static auto fields(auto& m) {
    return std::tuple{Field{"a", m.a}, Field{"b", m.b}, Field{"c", m.c}, Field{"around", m.around}};
  }
};
/// Channels, a residual block with batch norm, a plain layer, features behind pictures.
struct ConnectPictures {
  MaskedConv2d first, second;
  BatchNorm2d norm{5};
  Conv2d plain;
  MaskedLinearLayer last;
  ConnectPictures(storage store, Rng& rng)
      : first(3, 5, 3, {.store = store}, rng),
        second(5, 5, 1, {.store = store}, rng),
        plain(5, 4, 1, {}, true, rng),
        last(16, 3, {.store = store}, rng) {}
  Var operator()(const Var& x) const {
    const Var h = relu(first(x)), z = h + relu(second(h));
    return last(flatten(max_pool2d(relu(plain(norm(z))), {.kernel = {2, 2}, .stride = {2, 2}}), 1));
  }
  static auto fields(auto& m) {
    return std::tuple{Field{"first", m.first}, Field{"second", m.second}, Field{"norm", m.norm},
                      Field{"plain", m.plain}, Field{"last", m.last}};
  }
};

template <class M>
void connect_thin(M& model, double density, Rng& rng) {
  each_masked(model, [&](auto& layer) {
    const Mask m = layer.mask();
    layer.set_mask(m.filter([&](std::int32_t, std::int64_t, std::int64_t) { return double{rng.uniform()} < density; }));
    Tensor s = Tensor::uniform(layer.weight.shape(), 0, 20, rng);
    s.for_each([](std::int64_t, float& x) { x = std::round(x); });  // ties
    layer.set_saliency(std::move(s));
  });
}
template <class M>
std::vector<Mask> connect_masks(const M& model) {
  std::vector<Mask> all;
  each_masked(model, [&](const auto& layer) { all.push_back(layer.mask()); });
  return all;
}
/// The edges on paths, and whether every output has one.
struct ConnectReference {
  std::vector<Mask> alive;
  bool outputs = true;
  std::int64_t count = 0;
};
template <class M>
ConnectReference connect_reference(M model, const Shape& shape) {
  set_training(model, false);
  each_param(model, [](const std::string& name, Param& p) {
    p.set_value(name.ends_with("bias") ? Tensor::zeros(p.shape()) : Tensor::ones(p.shape()));
  });
  Vars weights;
  each_masked(std::as_const(model), [&](const auto& layer) { weights.push_back(layer.weight.var()); });
  const Var y = model(Var(Tensor::ones(shape)));
  const Vars g = grad(sum(y), weights);
  ConnectReference result;
  y.value().for_each([&](std::int64_t, float v) { result.outputs &= v > 0; });
  std::size_t k = 0;
  each_masked(std::as_const(model), [&](const auto& layer) {
    const Mask m = layer.mask();
    const Tensor& of = g[k].value();
    const std::vector<float> flat = of.to_vector();
    result.alive.push_back(m.filter([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      return flat[static_cast<std::size_t>(layer.packed() ? e : r * m.cols() + c)] != 0;
    }));
    result.count += result.alive.back().nnz();
    ++k;
  });
  return result;
}
/// Does it find a choice? If not, it says how many weights it found, and the model is what it was.
template <class M>
bool connect_found(M& model, std::int64_t left, const Shape& shape) {
  const std::vector<Mask> before = connect_masks(model);
  std::string text;
  std::int64_t after = -1;
  try {
    after = prune_connected(model, remaining(left), shape).after();
  } catch (const Error& e) {
    text = e.what();
  }
  if (text.empty()) {
    REQUIRE(after == left);
    return true;
  }
  REQUIRE(connect_masks(model) == before);
  return false;
}
/// Everything that holds of both functions, for thinned networks of a kind. Returns how many numbers were impossible.
template <class Make>
int connect_check(Make&& make, const Shape& shape, int trials, Rng& rng) {
  int impossible = 0;
  for (int trial = 0; trial < trials; ++trial) {
    auto start = make(trial % 2 ? storage::packed : storage::full);
    connect_thin(start, 0.25 + 0.7 * double{rng.uniform()}, rng);
    const ConnectReference want = connect_reference(start, shape);
    INFO("trial " << trial << ", " << want.count << " edges on paths");
    auto dead = start;
    const PruneReport report = prune_dead_edges(dead, shape);
    REQUIRE(connect_masks(dead) == want.alive);
    REQUIRE(report.after() == want.count);
    REQUIRE(prune_dead_edges(dead, shape).before() == want.count);
    REQUIRE(connect_masks(dead) == want.alive);
    if (!want.outputs) {
      require_error([&] { prune_connected(start, remaining(want.count), shape); }, {"prune_connected", "no path"});
      continue;
    }
    for (const std::int64_t left : {want.count, want.count - 1, want.count * 2 / 3, want.count / 3, want.count / 6}) {
      auto model = start;
      if (!connect_found(model, left, shape)) {
        ++impossible;
        continue;
      }
      const ConnectReference now = connect_reference(model, shape);
      REQUIRE(now.outputs);
      REQUIRE(now.alive == connect_masks(model));
      REQUIRE(now.count == left);
    }
    auto model = start;
    require_error([&] { prune_connected(model, remaining(want.count + 1), shape); },
                  {"prune_connected", "than shall stay"});
    REQUIRE(connect_masks(model) == connect_masks(start));
  }
  return impossible;
}
struct ConnectTwice {
  MaskedLinearLayer a, unused;
  explicit ConnectTwice(Rng& rng) : a(3, 3, rng), unused(2, 2, rng) {}
  Var operator()(const Var& x) const { return a(relu(a(x))); }
  static auto fields(auto& m) { return std::tuple{Field{"a", m.a}, Field{"unused", m.unused}}; }
};
/// 14 vertices, edges between any two with 1/3.
LayeredGraph connect_graph(Rng& rng) {
  Graph g(14);
  for (Vertex v = 1; v < 14; ++v)
    for (Vertex u = 0; u < v; ++u)
      if (rng.uniform() < 0.33f) g.add_edge(u, v);
  return LayeredGraph::load_from(g);
}

}  // namespace

TEST_CASE("chains: dead edges go, and exactly so many stay on paths") {
  Rng rng(1);
  connect_check([&](storage store) { return MaskedDeepFFN(6, 3, {7, 5}, {.store = store}, rng); }, {2, 6}, 30, rng);
}

TEST_CASE("paths lead across sums, concatenations and around") {
  Rng rng(2);
  connect_check([&](storage store) { return ConnectSkips(store, rng); }, {2, 5}, 30, rng);
}

TEST_CASE("paths lead through channels, norms, plain layers and into features") {
  Rng rng(3);
  connect_check([&](storage store) { return ConnectPictures(store, rng); }, {2, 3, 6, 6}, 20, rng);
}

TEST_CASE("paths lead through networks on graphs, packed and by pairs") {
  Rng rng(4);
  for (const MaskedDeepDANOptions& options :
       {MaskedDeepDANOptions{}, MaskedDeepDANOptions{.all_sinks = true}, MaskedDeepDANOptions{.joint = true}}) {
    connect_check(
        [&](storage store) {
          MaskedDeepDANOptions how = options;
          if (!how.joint) how.store = store;
          return MaskedDeepDAN(4, 2, connect_graph(rng), how, rng);
        },
        {2, 4}, 12, rng);
  }
}

TEST_CASE("what is found where it can be found: all choices of small chains") {
  Rng rng(5);
  int possible = 0, missed = 0;
  for (int trial = 0; trial < 120; ++trial) {
    const std::vector<std::vector<std::int64_t>> all{{2, 2, 2}, {3, 2, 2}, {2, 3, 1}, {2, 2, 2, 1}, {1, 2, 2, 2}};
    const std::vector<std::int64_t>& widths = all[static_cast<std::size_t>(trial) % all.size()];
    MaskedDeepFFN start(widths[0], widths.back(), {widths.begin() + 1, widths.end() - 1}, {}, rng);
    connect_thin(start, trial % 4 == 0 ? 1.0 : 0.8, rng);
    struct Place {
      std::size_t layer;
      std::int64_t r, c;
    };
    std::vector<Place> edges;
    const std::vector<Mask> masks = connect_masks(start);
    for (std::size_t l = 0; l < masks.size(); ++l)
      masks[l].for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { edges.push_back({l, r, c}); });
    std::vector<char> can(edges.size() + 1, 0);
    for (std::uint32_t set = 0; set < 1u << edges.size(); ++set) {
      std::vector<std::uint32_t> reached{(1u << widths[0]) - 1};  // of every layer, bits
      for (std::size_t l = 0; l < masks.size(); ++l) {
        reached.push_back(0);
        for (std::size_t k = 0; k < edges.size(); ++k)
          if (set >> k & 1 && edges[k].layer == l && reached[l] >> edges[k].c & 1) reached[l + 1] |= 1u << edges[k].r;
      }
      bool good = reached.back() == (1u << widths.back()) - 1;
      std::uint32_t needed = reached.back();
      for (std::size_t l = masks.size(); good && l-- > 0;) {
        std::uint32_t before = 0;
        for (std::size_t k = 0; k < edges.size(); ++k)
          if (set >> k & 1 && edges[k].layer == l) {
            good &= (needed >> edges[k].r & 1) && (reached[l] >> edges[k].c & 1);
            before |= 1u << edges[k].c;
          }
        needed = before;
      }
      if (good) can[static_cast<std::size_t>(std::popcount(set))] = 1;
    }
    for (std::size_t n = 0; n <= edges.size(); ++n) {
      MaskedDeepFFN model = start;
      const bool found = connect_found(model, static_cast<std::int64_t>(n), {1, widths[0]});
      INFO("trial " << trial << ", " << n << " of " << edges.size());
      if (found) REQUIRE(can[n]);
      if (trial % 4 == 0) REQUIRE(found == (can[n] != 0));  // full layers: always
      possible += can[n];
      missed += can[n] && !found;
    }
  }
  INFO(missed << " of " << possible << " missed");
  REQUIRE(possible > 200);
  REQUIRE(missed * 200 <= possible);  // the search may give up, where layers are not full
}

TEST_CASE("in full chains every number is found, from outputs + layers - 1 on") {
  Rng rng(11);
  for (const auto& w :
       std::vector<std::vector<std::int64_t>>{{5, 4, 3, 3}, {3, 6, 2, 4}, {2, 5, 5, 1}, {1, 3, 3, 3, 2}}) {
    MaskedDeepFFN start(w[0], w.back(), {w.begin() + 1, w.end() - 1}, {}, rng);
    const std::int64_t all = get_network_weight_count(start),
                       least = w.back() + static_cast<std::int64_t>(w.size()) - 2;
    for (std::int64_t n = least - 1; n <= all; ++n) {
      MaskedDeepFFN model = start;
      INFO(n << " of " << all);
      REQUIRE(connect_found(model, n, {1, w[0]}) == (n >= least));
      if (n < least) continue;
      const ConnectReference now = connect_reference(model, {1, w[0]});
      REQUIRE(now.outputs);
      REQUIRE(now.count == n);
    }
  }
}

TEST_CASE("a chain of full layers can be as thin as a path that fans out, and not thinner") {
  Rng rng(6);
  MaskedDeepFFN model(40, 10, {30, 20}, {}, rng);
  require_error([&] { prune_connected(model, remaining(11), {1, 40}); }, {"11", "least found 12"});
  REQUIRE(get_network_weight_count(model) == 40 * 30 + 30 * 20 + 200);
  for (const std::int64_t left : {1999, 777, 100, 50, 31, 13, 12}) {
    MaskedDeepFFN thin = model;
    REQUIRE(prune_connected(thin, remaining(left), {1, 40}).after() == left);
    const ConnectReference now = connect_reference(thin, {1, 40});
    REQUIRE(now.outputs);
    REQUIRE(now.count == left);
  }
}

TEST_CASE("nothing is lost where every edge is alive anyway, and the least salient go") {
  Rng rng(7);
  MaskedDeepFFN model(20, 5, {30, 20}, {}, rng), plain = model;
  prune_connected(model, percentage(30), {1, 20});
  prune_network_by_saliency(plain, percentage(30), {.exact = true});
  REQUIRE(connect_reference(plain, {1, 20}).alive == connect_masks(plain));
  REQUIRE(connect_masks(model) == connect_masks(plain));
}

TEST_CASE("after dead edges went compact finds the units that it found before") {
  Rng rng(8);
  for (int trial = 0; trial < 10; ++trial) {
    MaskedDeepFFN model(6, 3, {12, 9}, {.store = trial % 2 ? storage::packed : storage::full}, rng);
    connect_thin(model, 0.2, rng);
    const auto before = compact(model, {1, 6});
    prune_dead_edges(model, {1, 6});
    const auto after = compact(model, {1, 6});
    REQUIRE(before.units == after.units);
    REQUIRE(get_network_weight_count(after.model) == get_network_weight_count(model));
  }
}

TEST_CASE("units of a layer norm all depend on each other") {
  Rng rng(9);
  MaskedDeepFFN model(3, 2, {4, 4}, {.use_layer_norm = true}, rng);
  each<MaskedLinearLayer>(model, [n = 0](MaskedLinearLayer& layer) mutable {
    if (n++ == 1) layer.set_mask(Mask::from_edges(4, 4, {{0, 0}}));
    if (n == 3) layer.set_mask(Mask::from_edges(2, 4, {{0, 0}, {1, 1}}));
  });
  const PruneReport report = prune_dead_edges(model, {1, 3});
  REQUIRE(report.layers[0].after == 3);  // into unit 0
  REQUIRE(report.layers[1].after == 1);
  REQUIRE(report.layers[2].after == 2);  // unit 1 has no edge, but the mean of all
}

TEST_CASE("layers that are used twice or not at all") {
  Rng rng(10);
  ConnectTwice model(rng);
  // 0 <- 1 is on a path: as the second layer behind 1 <- 1. 2 <- 0 reaches the output in its second use.
  model.a.set_mask(Mask::from_edges(3, 3, {{0, 1}, {1, 1}, {2, 0}}));
  REQUIRE(prune_dead_edges(model, {1, 3}).after() == 3 + 4);
  require_error([&] { prune_connected(model, remaining(3), {1, 3}); }, {"prune_connected", "(a, used 2 times)"});
  MaskedLinearLayer layer(3, 2, rng);
  require_error([&] { prune_dead_edges(layer, {}); }, {"prune_dead_edges", "example"});
}
