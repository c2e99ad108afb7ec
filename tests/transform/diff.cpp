// diff and the distances: masks, graphs and models against sets, renumbered networks against distance 0.
#include <deepstruct/graph/random_dags.hpp>
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/transform/topology_distance.hpp>

#include <map>
#include <set>
#include <sstream>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

using DiffSet = std::set<std::pair<std::int64_t, std::int64_t>>;

DiffSet diff_set(const Mask& m) {
  DiffSet edges;
  m.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { edges.emplace(r, c); });
  return edges;
}
MaskDiff diff_naive(const DiffSet& a, const DiffSet& b) {
  MaskDiff d;
  for (const auto& e : a) (b.contains(e) ? d.kept : d.removed) += 1;
  for (const auto& e : b) d.added += !a.contains(e);
  return d;
}
std::string diff_text(const auto& d) {
  std::ostringstream out;
  d.write(out);
  return out.str();
}

/// |I Δ J| / |I ∪ J| of the sources of two vertices.
double diff_ned(const std::set<std::int64_t>& i, const std::set<std::int64_t>& j) {
  std::set<std::int64_t> all(i);
  all.insert(j.begin(), j.end());
  std::size_t common = 0;
  for (const std::int64_t u : i) common += j.contains(u);
  return all.empty() ? 0 : static_cast<double>(all.size() - common) / static_cast<double>(all.size());
}
/// The distance that a matching of layers gives, by the equation.
TopologyDistance diff_recomputed(const LayeredGraph& a, const LayeredGraph& b, const TopologyDistance& d) {
  TopologyDistance again;
  std::map<std::int64_t, std::int64_t> name;  // of b's vertices: those of a they were matched with, else negative
  for (std::int64_t v = 0; v < b.vertex_count(); ++v) name[v] = -1 - v;
  for (std::int64_t l = 0; l < a.num_layers(); ++l) {
    const auto of_a = a.vertices(l), of_b = b.vertices(l);
    REQUIRE(d.matched[l].size() == of_a.size());
    std::set<std::int32_t> taken;
    double sum = 0;
    for (std::size_t i = 0; i < of_a.size(); ++i) {
      const std::int32_t j = d.matched[l][i];
      if (j < 0) continue;
      REQUIRE(taken.insert(j).second);
      std::set<std::int64_t> reads_a, reads_b;
      for (const Edge& e : a.graph().edges())
        if (e.target == of_a[i]) reads_a.insert(e.source);
      for (const Edge& e : b.graph().edges())
        if (e.target == of_b[j]) reads_b.insert(name[e.source]);
      sum += diff_ned(reads_a, reads_b);
    }
    REQUIRE(taken.size() == std::min(of_a.size(), of_b.size()));
    for (std::size_t i = 0; i < of_a.size(); ++i)
      if (d.matched[l][i] >= 0) name[of_b[d.matched[l][i]]] = of_a[i];
    if (l == 0) continue;
    const std::size_t most = std::max(of_a.size(), of_b.size()), least = std::min(of_a.size(), of_b.size());
    again.layers.push_back((sum + static_cast<double>(most - least)) / static_cast<double>(most));
    again.distance += again.layers.back() / static_cast<double>(a.num_layers() - 1);
  }
  return again;
}
void diff_require_recomputed(const LayeredGraph& a, const LayeredGraph& b) {
  const TopologyDistance d = topology_distance(a, b), again = diff_recomputed(a, b, d);
  REQUIRE(d.distance == Approx(again.distance).margin(1e-12));
  REQUIRE(d.layers.size() == again.layers.size());
  for (std::size_t l = 0; l < d.layers.size(); ++l) REQUIRE(d.layers[l] == Approx(again.layers[l]).margin(1e-12));
}

/// Layers of vertices with random edges, also over layers, and the numbers first … of every layer.
LayeredGraph diff_layers_of(const std::vector<std::int64_t>& widths, double p, double p_skip, Rng& rng) {
  std::vector<std::int32_t> layer;
  for (std::size_t l = 0; l < widths.size(); ++l)
    layer.insert(layer.end(), static_cast<std::size_t>(widths[l]), static_cast<std::int32_t>(l));
  std::vector<Edge> edges;
  for (std::size_t u = 0; u < layer.size(); ++u)
    for (std::size_t v = 0; v < layer.size(); ++v)
      if (layer[v] > layer[u] && rng.uniform() < (layer[v] == layer[u] + 1 ? p : p_skip))
        edges.push_back({static_cast<Vertex>(u), static_cast<Vertex>(v)});
  return LayeredGraph::with_layers(Graph(static_cast<std::int64_t>(layer.size()), edges, true), layer);
}
/// The same graph with hidden vertices renumbered within their layers.
LayeredGraph diff_renumbered(const LayeredGraph& g, Rng& rng) {
  std::vector<Vertex> now(static_cast<std::size_t>(g.vertex_count()));
  for (std::int64_t l = 0; l < g.num_layers(); ++l) {
    const auto all = g.vertices(l);
    auto order = rng.permutation(static_cast<std::int64_t>(all.size()));
    if (l == 0 || l == g.last_layer()) std::sort(order.begin(), order.end());
    for (std::size_t k = 0; k < all.size(); ++k) now[all[k]] = static_cast<Vertex>(all[order[k]]);
  }
  std::vector<Edge> edges;
  for (const Edge& e : g.graph().edges()) edges.push_back({now[e.source], now[e.target]});
  return LayeredGraph::with_layers(Graph(g.vertex_count(), edges, true), g.index().layer);
}
Mask diff_permuted(const Mask& m, const std::vector<std::int32_t>& rows, const std::vector<std::int32_t>& cols) {
  return Mask::where(m.rows(), m.cols(), [&](std::int64_t r, std::int64_t c) { return m.contains(rows[r], cols[c]); });
}
std::vector<std::int32_t> diff_same(std::int64_t n) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

using DiffConv = Sequential<MaskedConv2d, ReLU, MaskedConv2d, Flatten, MaskedLinearLayer>;
DiffConv diff_conv(storage store, Rng& rng) {
  return DiffConv(MaskedConv2d(2, 3, 3, {.store = store}, rng), ReLU(), MaskedConv2d(3, 2, 2, {.store = store}, rng),
                  Flatten(), MaskedLinearLayer(8, 2, {.store = store}, rng));
}

}  // namespace

TEST_CASE("masks differ by what their sets of edges differ by") {
  Rng rng(3);
  for (const auto& [rows, cols] : {std::pair{0, 0}, {0, 4}, {3, 0}, {1, 1}, {5, 7}, {16, 9}}) {
    const std::vector<Mask> all = test::masks(rows, cols, 11);
    for (const Mask& a : all)
      for (const Mask& b : all) {
        const MaskDiff d = diff(a, b), want = diff_naive(diff_set(a), diff_set(b));
        REQUIRE(d == want);
        REQUIRE(d.before() == a.nnz());
        REQUIRE(d.after() == b.nnz());
        REQUIRE(d.empty() == (a == b));
        const std::int64_t any = d.kept + d.added + d.removed;
        REQUIRE(d.jaccard() == (any == 0 ? 1.0 : static_cast<double>(d.kept) / static_cast<double>(any)));
        REQUIRE(jaccard_distance(a, b) == 1 - d.jaccard());
        const std::int64_t least = std::min(a.nnz(), b.nnz());
        REQUIRE(d.overlap() == (least == 0 ? 1.0 : static_cast<double>(d.kept) / static_cast<double>(least)));
      }
  }
  require_error([] { diff(Mask::ones(2, 3), Mask::ones(3, 2)); }, {"diff: masks of different shapes"});
}

TEST_CASE("graphs differ by what their sets of ids, edges and weights differ by") {
  Rng rng(5);
  for (int round = 0; round < 30; ++round) {
    std::array<LayeredGraph, 2> g;
    std::array<std::map<LayeredGraph::IdEdge, std::optional<float>>, 2> edges;
    for (int k = 0; k < 2; ++k) {
      for (std::int64_t id = 0; id < 9; ++id)
        if (rng.uniform() < 0.8f) g[k].add_node(10 * id);
      for (std::int64_t u = 0; u < 9; ++u)
        for (std::int64_t v = u + 1; v < 9; ++v)
          if (g[k].contains(10 * u) && g[k].contains(10 * v) && rng.uniform() < 0.4f) g[k].add_edge(10 * u, 10 * v);
      for (std::int64_t e = 0; e < g[k].edge_count(); ++e) {
        const Edge& at = g[k].graph().edge(e);
        auto& weight = edges[k][{g[k].id(at.source), g[k].id(at.target)}];
        if (rng.uniform() < 0.8f) g[k].edge_attributes().set("weight", e, *(weight = static_cast<float>(rng.below(2))));
      }
    }
    const GraphDiff d = diff(g[0], g[1]);
    std::vector<std::int64_t> added, removed, moved;
    for (std::int64_t id = 0; id < 90; id += 10) {
      const bool before = g[0].contains(id), after = g[1].contains(id);
      if (!before && after) added.push_back(id);
      if (before && !after) removed.push_back(id);
      if (before && after && g[0].layer(id) != g[1].layer(id)) moved.push_back(id);
    }
    REQUIRE(d.vertices_added == added);
    REQUIRE(d.vertices_removed == removed);
    REQUIRE(d.vertices_moved == moved);
    GraphDiff want;
    std::map<std::pair<std::int64_t, std::int64_t>, GraphDiff::Layers> layers;
    const auto at = [&](int k, const LayeredGraph::IdEdge& e) -> GraphDiff::Layers& {
      const std::pair key{g[k].layer(e.first), g[k].layer(e.second)};
      auto& l = layers[key];
      l.source = key.first, l.target = key.second;
      return l;
    };
    for (const auto& [e, w] : edges[0]) {
      const auto found = edges[1].find(e);
      if (found == edges[1].end()) {
        want.edges_removed.push_back(e);
        ++at(0, e).removed;
      } else {
        ++want.edges_kept;
        ++at(1, e).kept;
        if (w != found->second) {
          want.edges_changed.push_back({e, w, found->second});
          ++at(1, e).changed;
        }
      }
    }
    for (const auto& [e, w] : edges[1])
      if (!edges[0].contains(e)) {
        want.edges_added.push_back(e);
        ++at(1, e).added;
      }
    REQUIRE(d.edges_added == want.edges_added);
    REQUIRE(d.edges_removed == want.edges_removed);
    REQUIRE(d.edges_changed == want.edges_changed);
    REQUIRE(d.edges_kept == want.edges_kept);
    REQUIRE(d.layers.size() == layers.size());
    std::size_t k = 0;
    for (const auto& [key, l] : layers) REQUIRE(d.layers[k++] == l);
    REQUIRE(jaccard_distance(g[0], g[1]) == 1 - d.jaccard());
    REQUIRE_FALSE(d.empty());
    REQUIRE(diff(g[0], g[0]).empty());
    REQUIRE(jaccard_distance(g[0], g[0]) == 0);
  }
}

TEST_CASE("the report of a graph names counts, layer by layer; weights that are NaN are equal") {
  LayeredGraph a, b;
  a.add_edges_from({{1, 2}, {2, 3}, {1, 3}});
  a.edge_attributes().set("weight", 0, std::numeric_limits<float>::quiet_NaN());
  b = a;
  REQUIRE(diff(a, b).empty());
  b.edge_attributes().set("weight", 1, 2.0f);
  b.remove_edge(1, 3);
  b.add_edge(3, 4);
  const GraphDiff d = diff(a, b);
  REQUIRE(d.edges_changed == std::vector<GraphDiff::Reweighted>{{{2, 3}, std::nullopt, 2.0}});
  REQUIRE(diff_text(d) ==
          "vertices: 1 added, 0 removed, 0 in another layer\n"
          "edges: 1 added, 1 removed, 2 kept, 1 of them with another weight\n"
          "layers 0 -> 1: 0 added, 0 removed, 1 kept, 0 with another weight\n"
          "layers 0 -> 2: 0 added, 1 removed, 0 kept, 0 with another weight\n"
          "layers 1 -> 2: 0 added, 0 removed, 1 kept, 1 with another weight\n"
          "layers 2 -> 3: 1 added, 0 removed, 0 kept, 0 with another weight\n");
  b.add_edge(4, 1);
  REQUIRE_THROWS_AS(diff(a, b), Error);
  REQUIRE(diff(LayeredGraph(), LayeredGraph()).empty());
  REQUIRE(jaccard_distance(LayeredGraph(), LayeredGraph()) == 0);
}

TEST_CASE("models differ layer by layer in edges and weights, full or packed") {
  for (const bool packed_a : {false, true})
    for (const bool packed_b : {false, true}) {
      Rng rng(7);
      const MaskedDeepFFN original(5, 3, {6, 4}, {.use_layer_norm = true}, rng);
      MaskedDeepFFN a = original, b = original;
      std::map<std::string, std::pair<Mask, Mask>> masks;
      std::map<std::string, std::vector<double>> by;  // of every edge of both
      const auto of_a = maskable_layers(a), of_b = maskable_layers(b);
      for (std::size_t k = 0; k < of_a.size(); ++k) {
        MaskedLinearLayer &x = *of_a[k].second, &y = *of_b[k].second;
        x.set_mask(Mask::random(x.out_features(), x.in_features(), 0.6, rng));
        y.set_mask(Mask::random(x.out_features(), x.in_features(), 0.6, rng));
        for (std::int64_t r = 0; r < x.out_features(); ++r)
          for (std::int64_t c = 0; c < x.in_features(); ++c) {
            if (rng.uniform() < 0.5f) y.weight.mutable_value()(r, c) += rng.uniform(-1, 1);
            if (x.mask().contains(r, c) && y.mask().contains(r, c))
              by[of_a[k].first].push_back(std::abs(double{y.weight.value()(r, c)} - double{x.weight.value()(r, c)}));
          }
        masks.emplace(of_a[k].first, std::pair(x.mask(), y.mask()));
      }
      b.layer_out.bias->mutable_value()(1) += 2;
      if (packed_a) a = pack(a);
      if (packed_b) b = pack(b);
      const ModelDiff d = diff(a, b);
      REQUIRE(d.layers.size() == 3);
      MaskDiff sum;
      double squares = 0, most = 0;
      std::int64_t changed = 0, kept = 0;
      for (const LayerDiff& l : d.layers) {
        INFO(l.name);
        const auto& [before, after] = masks.at(l.name);
        REQUIRE(l.edges == diff_naive(diff_set(before), diff_set(after)));
        double own = 0, greatest = 0;
        std::int64_t n = 0;
        for (const double x : by[l.name]) own += x * x, greatest = std::max(greatest, x), n += x != 0;
        const auto count = static_cast<std::int64_t>(by[l.name].size());
        REQUIRE(l.changed == n);
        REQUIRE(l.max_change == greatest);
        REQUIRE(l.rms_change == Approx(count == 0 ? 0 : std::sqrt(own / static_cast<double>(count))));
        sum += l.edges, squares += own, most = std::max(most, greatest), changed += n, kept += count;
      }
      const LayerDiff total = d.total();
      REQUIRE(total.edges == sum);
      REQUIRE(total.changed == changed);
      REQUIRE(total.max_change == most);
      REQUIRE(total.rms_change == Approx(std::sqrt(squares / static_cast<double>(kept))));
      REQUIRE(jaccard_distance(a, b) == 1 - sum.jaccard());
      REQUIRE(d.params.size() == 5);  // three biases, weight and bias of the norm
      for (const ParamDiff& p : d.params) {
        INFO(p.name);
        REQUIRE(p.changed == (p.name == "_layer_out.bias"));
        REQUIRE(p.max_change == Approx(p.changed ? 2 : 0));
      }
      REQUIRE_FALSE(d.empty());
      REQUIRE(diff(a, a).empty());
      REQUIRE(diff(pack(a), unpack(a)).empty());
      REQUIRE(jaccard_distance(a, a) == 0);
    }
}

TEST_CASE("convolutions, packed DANs and lone layers are walked too; the report says what changed") {
  Rng rng(9);
  for (storage store : {storage::full, storage::packed}) {
    const DiffConv a = diff_conv(store, rng);
    DiffConv b = a;
    MaskedConv2d& conv = std::get<0>(b.modules);
    const Mask half = Mask::random(3, 18, 0.5, rng);
    conv.set_mask(half);
    const ModelDiff d = diff(a, b);
    REQUIRE(d.layers.size() == 3);
    REQUIRE(d.layers[0].name == "0");
    REQUIRE(d.layers[0].edges == MaskDiff{.removed = 54 - half.nnz(), .kept = half.nnz()});
    REQUIRE(d.layers[0].changed == 0);
    REQUIRE(d.layers[1].edges == MaskDiff{.kept = 24});
    REQUIRE(d.layers[2].edges == MaskDiff{.kept = 16});
    REQUIRE(d.total().edges.removed == 54 - half.nnz());
  }
  const MaskedDeepDAN dan(4, 2, LayeredGraph(random_dag(12, 0.4, rng)), {}, rng);
  MaskedDeepDAN less = dan;
  const Mask all = less.layers_hidden->mask();
  less.layers_hidden->set_mask(all.filter([](std::int32_t e, std::int64_t, std::int64_t) { return e % 2 == 0; }));
  const ModelDiff d = diff(dan, less);
  REQUIRE(d.layers.size() == 3);
  REQUIRE(d.layers[1].name == "layers_hidden");
  REQUIRE(d.layers[1].edges == MaskDiff{.removed = all.nnz() / 2, .kept = (all.nnz() + 1) / 2});

  MaskedLinearLayer one(2, 2, rng);
  one.weight.set_value(Tensor::from({2, 2}, {1, 2, 3, 4}));
  MaskedLinearLayer other = one;
  other.set_edge(1, 1, false);
  other.weight.mutable_value()(0, 0) = 1.5f;
  other.bias->mutable_value()(0) = one.bias->value()(0) + 0.5f;
  REQUIRE(
      diff_text(diff(one, other))
          .starts_with(
              "(model): 0 added, 1 removed, 3 kept (jaccard 0.75, overlap 1), 1 weights changed (max 0.5, rms "
              "0.288675)\n"
              "total: 0 added, 1 removed, 3 kept (jaccard 0.75, overlap 1), 1 weights changed (max 0.5, rms 0.288675)\n"
              "bias: changed (max "));
  other.weight.mutable_value()(0, 0) = std::numeric_limits<float>::quiet_NaN();
  REQUIRE(std::isnan(diff(one, other).layers[0].max_change));
  REQUIRE(std::isnan(diff(one, other).total().max_change));
  REQUIRE(diff(other, other).empty());
  other.weight.mutable_value()(1, 1) = 9;  // behind the mask
  REQUIRE(diff(other, other).empty());

  MaskedLinearLayer soft(2, 2, rng);
  soft.set_soft_mask(Tensor::from({2, 2}, {0, 1, 1, 1}));
  MaskedLinearLayer half = soft;
  half.set_soft_mask(Tensor::from({2, 2}, {0.5f, 0.5f, 1, 1}));
  const LayerDiff factors = diff(soft, half).total();
  REQUIRE(factors.edges == MaskDiff{.added = 1, .kept = 3});
  REQUIRE(factors.changed == 1);  // the effective weight
}

TEST_CASE("models of different structure have no diff") {
  Rng rng(1);
  const MaskedDeepFFN a(5, 3, {6}, {}, rng);
  require_error([&] { diff(a, MaskedDeepFFN(5, 3, {7}, {}, rng)); },
                {"diff: models differ in structure", "_layer_first"});
  require_error([&] { diff(a, MaskedDeepFFN(5, 3, {6, 6}, {}, rng)); }, {"diff: models differ in structure (2 masked"});
  const LayeredGraph g(random_dag(8, 0.5, rng));
  const MaskedDeepDAN dan(4, 2, g, {}, rng);
  require_error([&] { diff(dan, unpack(dan)); }, {"diff: models differ in structure"});
  MaskedLinearLayer without(6, 3, {.bias = false}, rng);
  require_error([&] { diff(MaskedLinearLayer(6, 3, rng), without); }, {"diff: models differ in structure"});
  const LayerNorm n(3), m(4);
  require_error([&] { diff(n, m); }, {"diff: models differ in structure (weight [3] and weight [4])"});
}

TEST_CASE("one layer with its neurons renumbered is the same topology, whatever its numbers") {
  Rng rng(13);
  for (const auto& [rows, cols] : {std::pair{0, 0}, {1, 1}, {4, 0}, {7, 5}, {30, 20}})
    for (const Mask& m : test::masks(rows, cols, 17)) {
      const Mask other = diff_permuted(m, rng.permutation(rows), diff_same(cols));
      REQUIRE(topology_distance(m, other).distance == 0);
      REQUIRE(topology_distance(m, m).layers == std::vector<double>{0});
    }
  // I = {0, 1}, {2} against {2, 3}, {0, 1, 2}: {0, 1} takes the second, at 1/3; {2} what is left, at 1/2.
  const Mask a = Mask::from_edges(2, 4, {{0, 0}, {0, 1}, {1, 2}});
  const Mask b = Mask::from_edges(2, 4, {{0, 2}, {0, 3}, {1, 0}, {1, 1}, {1, 2}});
  const TopologyDistance d = topology_distance(a, b);
  REQUIRE(d.matched[1] == std::vector<std::int32_t>{1, 0});
  REQUIRE(d.distance == Approx((1.0 / 3 + 1.0 / 2) / 2));
  REQUIRE(topology_distance(Mask::ones(3, 2), Mask::zeros(3, 2)).distance == 1);
  // Of equally near ones the first.
  const Mask pairs = Mask::from_edges(2, 4, {{0, 0}, {0, 1}, {1, 2}, {1, 3}});
  REQUIRE(topology_distance(pairs, Mask::from_edges(2, 4, {{0, 0}, {1, 1}})).matched[1] ==
          std::vector<std::int32_t>{0, 1});
  // More neurons in b: the third is left over.
  const Mask more = Mask::from_edges(3, 4, {{0, 3}, {1, 2}, {2, 0}, {2, 1}});
  REQUIRE(topology_distance(a, more).matched[1] == std::vector<std::int32_t>{2, 1});
  REQUIRE(topology_distance(a, more).distance == Approx(1.0 / 3));
  REQUIRE(topology_distance(more, a).matched[1] == std::vector<std::int32_t>{-1, 1, 0});
  REQUIRE(topology_distance(more, a).distance == Approx(1.0 / 3));
}

TEST_CASE("the greedy matching is never better than the best one and finds all equal neurons") {
  Rng rng(19);
  for (int round = 0; round < 40; ++round) {
    const std::int64_t n = 1 + static_cast<std::int64_t>(rng.below(5));
    const Mask a = Mask::random(n, 4, 0.5, rng), b = Mask::random(n, 4, 0.5, rng);
    const auto row = [](const Mask& m, std::int64_t r) {
      std::set<std::int64_t> reads;
      for (std::int64_t c = 0; c < m.cols(); ++c)
        if (m.contains(r, c)) reads.insert(c);
      return reads;
    };
    std::vector<std::int32_t> order = diff_same(n);
    double least = 2;
    std::int64_t most_equal = 0;
    do {
      double sum = 0;
      std::int64_t equal = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        const double x = diff_ned(row(a, i), row(b, order[i]));
        sum += x / static_cast<double>(n);
        equal += x == 0;
      }
      least = std::min(least, sum);
      most_equal = std::max(most_equal, equal);
    } while (std::next_permutation(order.begin(), order.end()));
    const TopologyDistance d = topology_distance(a, b);
    double sum = 0;
    std::int64_t equal = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double x = diff_ned(row(a, i), row(b, d.matched[1][i]));
      sum += x / static_cast<double>(n);
      equal += x == 0;
    }
    REQUIRE(d.distance == Approx(sum).margin(1e-12));
    REQUIRE(d.distance >= least - 1e-12);
    REQUIRE(equal == most_equal);
  }
}

TEST_CASE("deep graphs with renumbered hidden vertices are at distance 0, others where their matching puts them") {
  Rng rng(23);
  for (int round = 0; round < 25; ++round) {
    const std::vector<std::int64_t> widths{4, 1 + static_cast<std::int64_t>(rng.below(12)),
                                           1 + static_cast<std::int64_t>(rng.below(12)), 8, 3};
    const double p = round % 5 == 0 ? 0.05 : 0.3, skip = round % 2 == 0 ? 0 : 0.1;  // sparse: many without inputs
    const LayeredGraph a = diff_layers_of(widths, p, skip, rng), b = diff_renumbered(a, rng);
    const TopologyDistance d = topology_distance(a, b);
    INFO("round " << round);
    REQUIRE(d.distance == 0);
    diff_require_recomputed(a, b);
    const LayeredGraph c = diff_layers_of({4, 5, 9, 8, 3}, p, skip, rng);
    diff_require_recomputed(a, c);
    diff_require_recomputed(c, a);
    REQUIRE(topology_distance(a, c).distance > 0);
    REQUIRE(topology_distance(a, c).distance <= 1);
  }
}

TEST_CASE("neurons with equal inputs are told apart by what reads them") {
  // Two neurons without inputs feed different neurons, which all feed every output.
  const Mask first = Mask::from_edges(3, 2, {{2, 0}}), out = Mask::ones(2, 2);
  const std::vector<Mask> a{first, Mask::from_edges(2, 3, {{0, 0}, {1, 1}, {1, 2}}), out};
  const std::vector<Mask> b{first, Mask::from_edges(2, 3, {{0, 1}, {1, 0}, {1, 2}}), out};
  REQUIRE(topology_distance(a, b).distance == 0);
  REQUIRE(topology_distance(a, b).matched[1] == std::vector<std::int32_t>{1, 0, 2});
  // Outputs are fixed, unless they are not.
  const std::vector<Mask> up{Mask::from_edges(2, 2, {{0, 0}})}, down{Mask::from_edges(2, 2, {{1, 0}})};
  REQUIRE(topology_distance(up, down).distance == 1);
  REQUIRE(topology_distance(up, down, {.fixed_outputs = false}).distance == 0);
}

TEST_CASE("models: renumbered neurons of a network, dense or packed, and channels of convolutions are the same") {
  Rng rng(29);
  MaskedDeepFFN a(6, 3, {10, 8}, {}, rng);
  for (auto& [name, layer] : maskable_layers(a))
    layer->set_mask(Mask::random(layer->out_features(), layer->in_features(), 0.3, rng));
  MaskedDeepFFN b = a;
  const auto of_b = maskable_layers(b);
  const auto one = rng.permutation(10), two = rng.permutation(8);
  of_b[0].second->set_mask(diff_permuted(a.layer_first.mask(), one, diff_same(6)));
  of_b[1].second->set_mask(diff_permuted(of_b[1].second->mask(), two, one));
  of_b[2].second->set_mask(diff_permuted(a.layer_out.mask(), diff_same(3), two));
  REQUIRE(jaccard_distance(a, b) > 0.3);
  const TopologyDistance d = topology_distance(a, b);
  REQUIRE(d.layers == std::vector<double>{0, 0, 0});
  REQUIRE(topology_distance(pack(a), b.layer_first.packed() ? b : pack(b)).distance == 0);
  of_b[1].second->set_edge(0, 0, !of_b[1].second->mask().contains(0, 0));
  REQUIRE(topology_distance(a, b).distance > 0);
  REQUIRE(topology_distance(a, b).distance < 0.1);

  const DiffConv c = diff_conv(storage::full, rng);
  DiffConv swapped = c;
  const Mask m = Mask::random(3, 18, 0.4, rng), n = Mask::random(2, 12, 0.5, rng);
  DiffConv thin = c;
  std::get<0>(thin.modules).set_mask(m);
  std::get<2>(thin.modules).set_mask(n);
  std::vector<std::int32_t> channels{2, 0, 1}, cols;
  for (const std::int32_t k : channels)
    for (std::int32_t w = 0; w < 4; ++w) cols.push_back(4 * k + w);
  std::get<0>(swapped.modules).set_mask(diff_permuted(m, channels, diff_same(18)));
  std::get<2>(swapped.modules).set_mask(diff_permuted(n, diff_same(2), cols));
  const Shape example{1, 2, 5, 5};
  REQUIRE(topology_distance(thin, swapped, example).distance == 0);
  REQUIRE(topology_distance(c, swapped, example).distance > 0);

  const MaskedDeepDAN dan(4, 2, LayeredGraph(layered_random_dag({3, 5, 4}, 0.5, 0.3, rng)), {}, rng);
  REQUIRE(topology_distance(dan, dan).distance == 0);
  REQUIRE(topology_distance(dan, unpack(dan)).distance == 0);
}

TEST_CASE("topologies must agree in layers, inputs and outputs") {
  const Mask m = Mask::ones(3, 2);
  const std::vector<Mask> one{m}, two{m, Mask::ones(2, 3)}, broken{m, Mask::ones(3, 2)};
  require_error([&] { topology_distance(one, two); }, {"topology_distance: topologies differ in layers (2 and 3)"});
  require_error([&] { topology_distance(two, broken); }, {"topology_distance: a mask does not read the one before it"});
  require_error([&] { topology_distance(m, Mask::ones(3, 4)); }, {"topology_distance: topologies differ in inputs"});
  const std::vector<Mask> wider{Mask::ones(4, 2)};
  require_error([&] { topology_distance(one, wider); }, {"topology_distance: topologies differ in outputs (3 and 4)"});
  REQUIRE(topology_distance(one, wider, {.fixed_outputs = false}).distance == 0.25);
  REQUIRE(topology_distance(LayeredGraph(), LayeredGraph()).distance == 0);
  REQUIRE(topology_distance(std::span<const Mask>(), std::span<const Mask>()).layers.empty());
}
