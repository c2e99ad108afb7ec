// Metrics of graphs against NetworkX, naive versions and closed forms.
#include <deepstruct/graph/acyclic.hpp>
#include <deepstruct/graph/betweenness.hpp>
#include <deepstruct/graph/metrics.hpp>
#include <deepstruct/graph/power_law.hpp>
#include <deepstruct/graph/small_world_sigma.hpp>
#include <deepstruct/graph/spectrum.hpp>

#include "networkx_metrics.hpp"
#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

constexpr double metrics_pi = 3.14159265358979323846;

Graph metrics_graph(const networkx_metrics::Reference& r) {
  std::vector<Edge> edges;
  for (std::size_t k = 0; k < r.edges.size(); k += 2) edges.push_back({r.edges[k], r.edges[k + 1]});
  return Graph(r.vertices, std::move(edges), r.directed);
}
/// f of every reference graph, its name in the messages of Catch.
template <class F>
void metrics_each(F&& f) {
  for (const auto& r : networkx_metrics::references) {
    INFO(r.name);
    f(r, metrics_graph(r));
  }
}
void metrics_close(double a, double b, double margin = 1e-11) { REQUIRE(a == Approx(b).epsilon(1e-11).margin(margin)); }
template <class A, class B>
void metrics_close(const std::vector<A>& a, std::span<const B> b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t k = 0; k < a.size(); ++k) metrics_close(static_cast<double>(a[k]), static_cast<double>(b[k]));
}

Graph metrics_path(std::int64_t n, bool directed = false) {
  std::vector<Edge> edges;
  for (Vertex v = 1; v < n; ++v) edges.push_back({v - 1, v});
  return Graph(n, std::move(edges), directed);
}
Graph metrics_complete(Vertex n) {
  std::vector<Edge> edges;
  for (Vertex v = 0; v < n; ++v)
    for (Vertex u = 0; u < v; ++u) edges.push_back({u, v});
  return Graph(n, std::move(edges));
}
/// 0 → {1, 2} → 3 → {4, 5} → 6 …: 2^links paths from one end to the other.
Graph metrics_diamonds(Vertex links, bool directed) {
  std::vector<Edge> edges;
  for (Vertex v = 0; v < 3 * links; v += 3)
    edges.insert(edges.end(), {{v, v + 1}, {v, v + 2}, {v + 1, v + 3}, {v + 2, v + 3}});
  return Graph(3 * links + 1, std::move(edges), directed);
}
/// Each vertex joined to an earlier one of the `reach` before it, then `more` random edges; directed: also a cycle.
Graph metrics_connected(std::int64_t n, std::int64_t reach, std::int64_t more, bool directed, Rng& rng) {
  std::vector<Edge> edges;
  const auto any = [&](std::int64_t below) {
    return static_cast<Vertex>(rng.below(static_cast<std::uint64_t>(below)));
  };
  for (Vertex v = 1; v < n; ++v) {
    edges.push_back({v - 1 - any(std::min<std::int64_t>(v, reach)), v});
    if (directed) edges.push_back({v, v - 1});
  }
  for (std::int64_t k = 0; k < more; ++k) edges.push_back({any(n), any(n)});
  return Graph(n, std::move(edges), directed);
}
std::int64_t metrics_naive_diameter(const Graph& g) {
  std::int64_t longest = 0;
  for (Vertex v = 0; v < g.vertex_count(); ++v)
    for (const std::int32_t d : shortest_path_lengths(g, v)) longest = std::max<std::int64_t>(longest, d);
  return longest;
}

}  // namespace

TEST_CASE("graph metrics: degrees, density, entropy as NetworkX") {
  metrics_each([](const auto& r, const Graph& g) {
    REQUIRE(g.edge_count() * 2 == static_cast<std::int64_t>(r.edges.size()));
    metrics_close(degrees(g), r.degrees);
    metrics_close(in_degrees(g), r.in_degrees);
    metrics_close(out_degrees(g), r.out_degrees);
    metrics_close(density(g), r.density);
    metrics_close(degree_entropy(g), r.degree_entropy);
  });
  REQUIRE(degree_histogram(Graph(4, {{0, 1}, {0, 2}, {0, 0}})) == std::vector<std::int64_t>{1, 2, 0, 0, 1});
}

TEST_CASE("graph metrics: clustering and transitivity as NetworkX") {
  metrics_each([](const auto& r, const Graph& g) {
    metrics_close(clustering(g), r.clustering);
    metrics_close(average_clustering(g), r.average_clustering);
    if (r.directed)
      REQUIRE_THROWS_AS(transitivity(g), Error);
    else
      metrics_close(transitivity(g), r.transitivity);
  });
}

TEST_CASE("graph metrics: triangles are those of a naive count") {
  Rng rng(3);
  for (const Vertex n : {1, 2, 3, 7, 40, 300}) {
    const Graph g = metrics_connected(n, n, 4 * n, false, rng);
    std::vector<char> joined(static_cast<std::size_t>(n) * n, 0);
    for (const Edge& e : g.edges()) joined[e.source * n + e.target] = joined[e.target * n + e.source] = 1;
    std::vector<std::int64_t> naive(static_cast<std::size_t>(n), 0);
    for (const Edge& e : g.edges())
      for (Vertex w = 0; w < n; ++w)
        naive[w] += e.source != e.target && w != e.source && w != e.target && joined[e.source * n + w] &&
                    joined[e.target * n + w];
    REQUIRE(detail::triangles(g) == naive);
  }
}

TEST_CASE("graph metrics: components, path lengths and diameter as NetworkX") {
  metrics_each([](const auto& r, const Graph& g) {
    const Components c = connected_components(g);
    REQUIRE(c.count == r.components);
    REQUIRE(is_connected(g) == (r.components == 1));
    std::int32_t next = 0;  // labels come in order
    for (const std::int32_t label : c.label) {
      REQUIRE(label <= next);
      next += label == next;
    }
    REQUIRE(next == c.count);
    for (const Edge& e : g.edges()) REQUIRE(c.label[e.source] == c.label[e.target]);
    if (r.diameter < 0) {
      require_error([&] { average_shortest_path_length(g); }, {"average_shortest_path_length: needs a", "connected"});
      require_error([&] { diameter(g); }, {"diameter: needs a", "connected"});
    } else {
      metrics_close(average_shortest_path_length(g), r.average_shortest_path_length);
      metrics_close(static_cast<double>(diameter(g)), r.diameter);
    }
  });
  REQUIRE(shortest_path_lengths(Graph(5, {{0, 1}, {1, 2}, {3, 4}}), 1) == std::vector<std::int32_t>{1, 0, 1, -1, -1});
  REQUIRE(shortest_path_lengths(Graph(3, {{0, 1}, {2, 1}}, true), 0) == std::vector<std::int32_t>{0, 1, -1});
}

TEST_CASE("graph metrics: the diameter is that of all searches, in any shape") {
  Rng rng(4);
  for (const std::int64_t n : {2, 63, 64, 65, 700, 1200})
    for (const std::int64_t reach : {std::int64_t{3}, n})
      for (const std::int64_t more : {std::int64_t{0}, n / 4})
        for (const bool directed : {false, true}) {
          if (n > 700 && directed) continue;
          INFO(n << " vertices, reach " << reach << ", " << more << " more, directed " << directed);
          const Graph g = metrics_connected(n, reach, more, directed, rng);
          REQUIRE(diameter(g) == metrics_naive_diameter(g));
        }
  REQUIRE(diameter(metrics_path(20000)) == 19999);  // some 512 searches, not 20000
}

TEST_CASE("graph metrics: betweenness as NetworkX, undirected and directed") {
  metrics_each([](const auto& r, const Graph& g) { metrics_close(betweenness_centrality(g), r.betweenness); });
}

TEST_CASE("graph metrics: samples of all sources are exact, fewer are unbiased") {
  metrics_each([](const auto& r, const Graph& g) {
    for (const std::int64_t sources : {r.vertices, r.vertices + 7}) {
      Rng rng(5);
      metrics_close(betweenness_centrality(g, {.sources = sources}, rng), r.betweenness);
      if (r.diameter < 0) continue;
      REQUIRE(average_shortest_path_length(g, {.sources = sources}, rng) == average_shortest_path_length(g));
      REQUIRE(diameter(g, {.sources = sources}, rng) == diameter(g));
    }
  });
  Rng rng(6);
  const Graph g = metrics_connected(40, 4, 30, false, rng);
  const std::vector<double> exact = betweenness_centrality(g);
  std::vector<double> mean(exact.size(), 0);
  double length = 0;
  constexpr int rounds = 4000;
  std::int64_t longest = 0;
  for (int k = 0; k < rounds; ++k) {
    const std::vector<double> sampled = betweenness_centrality(g, {.sources = 5}, rng);
    for (std::size_t v = 0; v < mean.size(); ++v) mean[v] += sampled[v] / rounds;
    length += average_shortest_path_length(g, {.sources = 5}, rng) / rounds;
    const std::int64_t bound = diameter(g, {.sources = 1}, rng);
    REQUIRE(bound <= diameter(g));
    longest = std::max(longest, bound);
  }
  for (std::size_t v = 0; v < mean.size(); ++v) REQUIRE(mean[v] == Approx(exact[v]).epsilon(0.03).margin(0.002));
  REQUIRE(length == Approx(average_shortest_path_length(g)).epsilon(0.01));
  REQUIRE(longest == diameter(g));
  Rng a(7), b(7);
  REQUIRE(betweenness_centrality(g, {.sources = 3}, a) == betweenness_centrality(g, {.sources = 3}, b));
  require_error([&] { betweenness_centrality(g, {.sources = 0}, a); }, {"betweenness_centrality: needs a source", "0"});
  require_error([&] { average_shortest_path_length(g, {}, a); }, {"average_shortest_path_length: needs a source"});
  require_error([&] { diameter(g, {.sources = -2}, a); }, {"diameter: needs a source", "-2"});
}

TEST_CASE("graph metrics: more paths than a double holds are an error of betweenness") {
  Rng rng(8);
  const Graph g = metrics_diamonds(2200, false);
  require_error([&] { betweenness_centrality(g, {.sources = 1}, rng); },
                {"betweenness_centrality: more shortest paths"});
  const Graph few = metrics_diamonds(20, false);
  REQUIRE(betweenness_centrality(few)[30] > betweenness_centrality(few)[3]);
}

TEST_CASE("graph metrics: path counts are exact, at any size") {
  metrics_each([](const auto& r, const Graph& g) {
    if (r.path_count < 0) {
      require_error([&] { path_count(g); }, {"path_count: the graph has a cycle ("});
      require_error([&] { log_path_count(g); }, {"log_path_count: the graph has a cycle ("});
    } else {
      metrics_close(path_count(g), r.path_count);
      metrics_close(log_path_count(g), r.log_path_count);
    }
  });
  REQUIRE(path_count(metrics_diamonds(50, true)) == 0x1p50);
  REQUIRE(path_count(metrics_diamonds(1023, true)) == 0x1p1023);
  REQUIRE(path_count(metrics_diamonds(1024, true)) == std::numeric_limits<double>::infinity());
  REQUIRE(log_path_count(metrics_diamonds(100000, true)) == Approx(100000 * std::log(2)).epsilon(1e-13));
  REQUIRE(path_count(metrics_path(300000, true)) == 1);
  REQUIRE(log_path_count(metrics_path(300000, true)) == 0);
  REQUIRE(path_count(Graph(3, true)) == 3);  // three paths without an edge
  REQUIRE(path_count(Graph(0, true)) == 0);
  REQUIRE(log_path_count(Graph(0, true)) == -std::numeric_limits<double>::infinity());
}

TEST_CASE("graph metrics: a cycle is named, not what leads to it or lies behind it") {
  const Graph g(9, {{0, 1}, {5, 3}, {3, 7}, {7, 5}, {1, 5}, {7, 2}, {2, 4}, {4, 8}}, true);  // 3, 7, 5
  const std::string text = test::error_of([&] { path_count(g); });
  INFO(text);
  for (const char* step : {"3 -> 7", "7 -> 5", "5 -> 3"}) REQUIRE(text.find(step) != std::string::npos);
  REQUIRE(text.find_first_of("012468") == std::string::npos);
  require_error([] { path_count(Graph(3, {{0, 1}, {2, 2}}, true)); }, {"(2 -> 2)"});
  std::vector<Edge> ring;
  for (Vertex v = 0; v < 200000; ++v) ring.push_back({v, (v + 1) % 200000});
  require_error([&] { path_count(Graph(200000, ring, true)); }, {"has a cycle"});
}

TEST_CASE("graph metrics: live vertices lie between inputs and outputs") {
  // 0 → 2 → 4 → 6, 1 → 3 → 4, 3 → 5 (leads nowhere), 7 → 6 (comes from nowhere)
  const Graph g(8, {{0, 2}, {2, 4}, {4, 6}, {1, 3}, {3, 4}, {3, 5}, {7, 6}}, true);
  const std::vector<Vertex> inputs{0, 1}, outputs{6}, first{0};
  REQUIRE(reachable_vertices(g, inputs) == std::vector<char>{1, 1, 1, 1, 1, 1, 1, 0});
  REQUIRE(live_vertices(g, inputs, outputs) == std::vector<char>{1, 1, 1, 1, 1, 0, 1, 0});
  REQUIRE(live_vertices(g, first, outputs) == std::vector<char>{1, 0, 1, 0, 1, 0, 1, 0});
  REQUIRE(live_vertices(g, {}, outputs) == std::vector<char>(8, 0));
  REQUIRE(live_vertices(Graph(0, true), {}, {}).empty());
  const std::vector<Vertex> end{299999};
  REQUIRE(live_vertices(metrics_path(300000, true), first, end) == std::vector<char>(300000, 1));
  const std::vector<Vertex> wrong{8}, negative{-1};
  require_error([&] { live_vertices(g, wrong, outputs); }, {"live_vertices: no such vertex", "8 of 8"});
  require_error([&] { live_vertices(g, inputs, negative); }, {"live_vertices: no such vertex", "-1"});
  require_error([&] { reachable_vertices(g, wrong); }, {"reachable_vertices: no such vertex"});
}

TEST_CASE("graph metrics: layers have widths, edges have spans") {
  const Graph g(6, {{0, 2}, {1, 2}, {0, 3}, {2, 3}, {0, 5}, {3, 5}, {1, 5}}, true);
  const std::vector<std::int32_t> layer{0, 0, 1, 2, 4, 4};
  const LayerStatistics s = layer_statistics(g, layer);
  REQUIRE(s.widths == std::vector<std::int64_t>{2, 1, 1, 0, 2});
  REQUIRE(s.spans == std::vector<std::int64_t>{0, 3, 2, 0, 2});
  REQUIRE(s.edges == 7);
  REQUIRE(s.skip_edges == 4);
  REQUIRE(s.skip_share == Approx(4.0 / 7));
  REQUIRE(s.mean_skip_length == Approx(3));
  REQUIRE(s.max_skip_length == 4);
  const LayerStatistics plain = layer_statistics(metrics_path(4, true), std::vector<std::int32_t>{0, 1, 1, 2});
  REQUIRE(plain.spans == std::vector<std::int64_t>{1, 2});
  REQUIRE(plain.skip_edges + plain.max_skip_length == 0);
  REQUIRE(plain.skip_share + plain.mean_skip_length == 0);
  const std::vector<std::int32_t> backward{2, 0}, few{0}, negative{0, -1}, huge{0, 1 << 20};
  REQUIRE(layer_statistics(metrics_path(2), backward).max_skip_length == 2);  // undirected
  REQUIRE(layer_statistics(Graph(), {}).widths.empty());
  require_error([&] { layer_statistics(metrics_path(2, true), backward); },
                {"layer_statistics: an edge leads back", "2"});
  require_error([&] { layer_statistics(metrics_path(2), few); }, {"layer_statistics: needs one layer per vertex", "1"});
  require_error([&] { layer_statistics(metrics_path(2), negative); }, {"layer_statistics: no such layer", "-1"});
  require_error([&] { layer_statistics(metrics_path(2), huge); }, {"layer_statistics: no such layer", "1048576"});
}

TEST_CASE("graph metrics: power laws as by plain sums, and that of exact samples") {
  metrics_each([](const auto& r, const Graph& g) {
    if (r.alpha < 0) return;
    const PowerLaw law = power_law_fit(g);
    REQUIRE(law.x_min == static_cast<std::int32_t>(r.x_min));
    REQUIRE(law.alpha == Approx(r.alpha).epsilon(1e-6));
    REQUIRE(law.ks == Approx(r.ks).epsilon(1e-6));
    REQUIRE(law.tail == std::count_if(r.degrees.begin(), r.degrees.end(), [&](int d) { return d >= law.x_min; }));
  });
  REQUIRE_THROWS_AS(power_law_fit(metrics_complete(5)), Error);
  // A million values of x^−2.5 from 5 on, each as often as expected, and as many of 1 … 4 that follow nothing.
  std::vector<std::int32_t> values(400000, 1);
  for (std::size_t k = 0; k < values.size(); ++k) values[k] = static_cast<std::int32_t>(1 + k % 4);
  const double all = detail::relative_zeta(2.5, 5).value;
  for (std::int32_t x = 5; x < 20000; ++x)
    values.insert(values.end(), static_cast<std::size_t>(1e6 * std::pow(x / 5.0, -2.5) / all + 0.5), x);
  const PowerLaw law = power_law_fit(values);
  REQUIRE(law.x_min == 5);
  REQUIRE(law.alpha == Approx(2.5).epsilon(0.002));
  REQUIRE(law.ks < 0.001);
  const std::vector<std::int32_t> gap{40, 1, 1, 40, 1, 1, 40};  // the law is farthest off at 39, which is no value
  const PowerLaw wide = power_law_fit(gap);
  double distance = 0, model = 0;
  for (int x = 1; x <= 40; ++x) {
    model += std::pow(x, -wide.alpha) / detail::relative_zeta(wide.alpha, 1).value;
    distance = std::max(distance, std::fabs(model - (x < 40 ? 4.0 / 7 : 1)));
  }
  REQUIRE(wide.ks == Approx(distance).epsilon(1e-10));
  const std::vector<std::int32_t> negative{3, -1, 2}, equal{0, 7, 7}, steep{1000, 1000, 1000, 1000, 1001};
  REQUIRE(power_law_fit(steep).alpha == Approx(1000 * std::log(6)).epsilon(0.002));  // geometric, mean 0.2
  require_error([&] { power_law_fit(negative); }, {"power_law_fit: needs values of 0 or more", "-1"});
  require_error([&] { power_law_fit(equal); }, {"power_law_fit: needs two different positive values", "1"});
  require_error([] { power_law_fit(Graph()); }, {"power_law_fit: needs two different positive values"});
}

TEST_CASE("graph metrics: zeta and exp have their known values") {
  REQUIRE(detail::relative_zeta(2, 1).value == Approx(metrics_pi * metrics_pi / 6).epsilon(1e-13));
  REQUIRE(detail::relative_zeta(4, 1).value == Approx(std::pow(metrics_pi, 4) / 90).epsilon(1e-13));
  REQUIRE(detail::relative_zeta(2, 1).slope == Approx(-0.937548254315843754).epsilon(1e-12));  // ζ'(2)
  for (const double alpha : {1.01, 1.5, 3.0, 30.0, 300.0})
    for (const double q : {1.0, 8.0, 1000.0, 1e6}) {  // ζ(α, q) = q^−α + ζ(α, q + 1); slope by differences
      INFO("alpha " << alpha << ", q " << q);
      const double value = detail::relative_zeta(alpha, q).value, h = 1e-5 * (alpha - 1);
      REQUIRE(value ==
              Approx(1 + std::pow(q / (q + 1), alpha) * detail::relative_zeta(alpha, q + 1).value).epsilon(1e-11));
      const double above = detail::relative_zeta(alpha + h, q).value, below = detail::relative_zeta(alpha - h, q).value;
      REQUIRE(detail::relative_zeta(alpha, q).slope == Approx((above - below) / (2 * h)).epsilon(1e-6).margin(1e-9));
    }
  for (double x = 0; x > -700; x = 1.1 * x - 1e-3) REQUIRE(detail::exact_exp(x) == Approx(std::exp(x)).epsilon(1e-15));
  REQUIRE(detail::exact_exp(-1e300) == 0);
}

TEST_CASE("graph metrics: random references keep degrees and connection, nothing else") {
  for (const int kind : {0, 1, 2}) {  // well connected, a tree, in pieces with self loops
    Rng rng(9);
    Graph g = metrics_connected(60, 60, kind == 0 ? 90 : 0, false, rng);
    if (kind == 2) g = Graph(60, {{0, 1}, {2, 3}, {4, 5}, {6, 7}, {7, 8}, {9, 9}, {1, 1}, {10, 11}, {12, 13}});
    Rng a(10), b(10), c(11);
    const Graph random = random_reference(g, 10, a);
    REQUIRE(degrees(random) == degrees(g));
    REQUIRE(random.edge_count() == g.edge_count());  // no edge came twice
    if (kind != 2) REQUIRE(is_connected(random));
    if (kind == 2) REQUIRE((random.find_edge(9, 9) >= 0 && random.find_edge(1, 1) >= 0));
    std::int64_t same = 0;
    for (const Edge& e : random.edges()) same += g.find_edge(e.source, e.target) >= 0;
    REQUIRE(same < (3 * g.edge_count()) / 4);
    REQUIRE(random_reference(g, 10, b) == random);
    REQUIRE_FALSE(random_reference(g, 10, c) == random);
    REQUIRE(connected_components(random_reference(g, 0, a)).label == connected_components(g).label);
  }
  Rng rng(12);
  REQUIRE(random_reference(Graph(), 10, rng) == Graph());
  REQUIRE(random_reference(Graph(3), 10, rng) == Graph(3));
  require_error([&] { random_reference(Graph(3, true), 1, rng); }, {"random_reference: needs an undirected graph"});
  require_error([&] { random_reference(Graph(3), -1, rng); }, {"random_reference: needs 0 to 2^20 swaps", "-1"});
}

TEST_CASE("graph metrics: swaps give every graph of the same degrees alike") {
  Rng rng(13);
  const Graph g(6, {{0, 1}, {2, 3}, {4, 5}});  // one of 15 matchings; each edge is in three of them
  std::vector<int> count(36, 0);
  constexpr int rounds = 3000;
  for (int k = 0; k < rounds; ++k) {
    const Graph random = random_reference(g, 6, rng);
    for (const Edge& e : random.edges()) ++count[e.source * 6 + e.target];
  }
  for (Vertex v = 0; v < 6; ++v)
    for (Vertex u = 0; u < v; ++u) REQUIRE(count[u * 6 + v] == Approx(rounds / 5.0).epsilon(0.15));
}

TEST_CASE("graph metrics: small worlds have a sigma above one") {
  const auto* world = std::find_if(std::begin(networkx_metrics::references), std::end(networkx_metrics::references),
                                   [](const auto& r) { return std::string_view(r.name) == "watts_strogatz"; });
  const Graph g = metrics_graph(*world);
  Rng rng(14);
  const SmallWorld s = small_world(g, {.references = 5}, rng);
  metrics_close(s.transitivity, world->transitivity);
  metrics_close(s.path_length, world->average_shortest_path_length);
  REQUIRE(s.sigma == Approx(s.transitivity / s.random_transitivity / (s.path_length / s.random_path_length)));
  REQUIRE(s.random_transitivity == Approx(5.0 / 99).epsilon(0.35));  // about (⟨d²⟩ − ⟨d⟩)²/(n⟨d⟩³)
  REQUIRE(s.random_path_length < s.path_length);
  REQUIRE(s.sigma > 4);
  const double sampled = small_world_sigma(g, {.references = 5, .sources = 50}, rng);
  REQUIRE(sampled == Approx(s.sigma).epsilon(0.3));
  REQUIRE(small_world_sigma(metrics_complete(6), {.references = 2}, rng) == Approx(1));  // no swap is possible
  const double k = 6, n = 100;
  REQUIRE(small_world_sigma(g) ==
          Approx(world->transitivity / (k / n) / (world->average_shortest_path_length / (std::log(n) / std::log(k)))));
  require_error([&] { small_world(metrics_path(3), {}, rng); }, {"small_world: needs four vertices", "3"});
  require_error([&] { small_world(Graph(5, {{0, 1}}), {}, rng); }, {"small_world: needs a connected graph", "4"});
  require_error([&] { small_world(metrics_path(5, true), {}, rng); }, {"small_world: needs an undirected graph"});
  require_error([&] { small_world(g, {.references = 0}, rng); }, {"small_world: needs a reference", "0"});
  require_error([&] { small_world(g, {.sources = -1}, rng); }, {"small_world: needs 0 sources", "-1"});
  require_error([] { small_world_sigma(Graph(4, {{0, 1}, {2, 3}})); }, {"small_world_sigma: needs a mean degree"});
}

TEST_CASE("graph metrics: the spectral gap as NumPy, and in closed form") {
  metrics_each([](const auto& r, const Graph& g) {
    if (r.directed)
      require_error([&] { spectral_gap(g); }, {"spectral_gap: needs an undirected graph"});
    else
      for (const std::int64_t basis : {4, 9, 32, 64})
        metrics_close(spectral_gap(g, {.basis = basis}), r.spectral_gap, 1e-8);
  });
  REQUIRE(spectral_gap(metrics_complete(30)) == Approx(30.0 / 29).epsilon(1e-10));
  for (const std::int64_t n : {3, 64, 65, 66, 500})  // paths: 1 − cos(π/(n − 1))
    REQUIRE(spectral_gap(metrics_path(n)) ==
            Approx(1 - std::cos(metrics_pi / static_cast<double>(n - 1))).margin(1e-8));
  REQUIRE(spectral_gap(Graph(4, {{0, 1}, {2, 3}})) == 0);
  require_error([] { spectral_gap(metrics_path(500), {.basis = 4, .products = 20}); },
                {"did not converge", "products"});
  require_error([] { spectral_gap(metrics_path(5), {.basis = 3}); }, {"spectral_gap: needs a basis of 4", "3"});
  require_error([] { spectral_gap(metrics_path(5), {.tolerance = 0}); }, {"spectral_gap: needs a tolerance"});
  require_error([] { spectral_gap(Graph(1)); }, {"spectral_gap: needs two vertices", "1"});
}

TEST_CASE("graph metrics: nothing depends on the number of threads", "[threads]") {
  Rng rng(15);
  const Graph g = metrics_connected(1500, 30, 6000, false, rng), d = metrics_connected(600, 20, 900, true, rng);
  const auto all = [&] {
    Rng draws(16);
    std::vector<double> values;
    const auto add = [&](const std::vector<double>& more) { values.insert(values.end(), more.begin(), more.end()); };
    add(clustering(g));
    add(clustering(d));
    add(betweenness_centrality(g, {.sources = 90}, draws));
    add(betweenness_centrality(d, {.sources = 90}, draws));
    const PowerLaw law = power_law_fit(g);
    add({transitivity(g), average_shortest_path_length(g), average_shortest_path_length(d), spectral_gap(g), law.alpha,
         law.ks, static_cast<double>(diameter(g)), static_cast<double>(diameter(d))});
    return values;
  };
  std::vector<double> one;
  for (const int threads : {1, 2, 3}) {
    test::Threads set(threads);
    if (threads == 1) one = all();
    REQUIRE(all() == one);
  }
}

TEST_CASE("graph metrics: no vertices and one vertex, as NetworkX") {
  for (const bool directed : {false, true}) {
    const Graph none(0, directed), one(1, directed);
    Rng rng(17);
    REQUIRE(degrees(none).empty());
    REQUIRE(in_degrees(one) == std::vector<std::int32_t>{0});
    REQUIRE(density(none) + density(one) == 0);
    REQUIRE(clustering(none).empty());
    REQUIRE(clustering(one) == std::vector<double>{0});
    REQUIRE(average_clustering(one) == 0);
    REQUIRE(connected_components(none).count == 0);
    REQUIRE(connected_components(one).label == std::vector<std::int32_t>{0});
    REQUIRE(is_connected(one));
    REQUIRE(average_shortest_path_length(one) == 0);
    REQUIRE(average_shortest_path_length(one, {.sources = 1}, rng) == 0);
    REQUIRE(diameter(one) == 0);
    REQUIRE(betweenness_centrality(none).empty());
    REQUIRE(betweenness_centrality(none, {.sources = 1}, rng).empty());
    REQUIRE(betweenness_centrality(one) == std::vector<double>{0});
    REQUIRE(degree_entropy(one) == 0);
    REQUIRE(path_count(one) == 1);
    require_error([&] { average_clustering(none); }, {"average_clustering: needs a vertex"});
    require_error([&] { is_connected(none); }, {"is_connected: needs a vertex"});
    require_error([&] { average_shortest_path_length(none); }, {"average_shortest_path_length: needs a vertex"});
    require_error([&] { diameter(none); }, {"diameter: needs a vertex"});
    require_error([&] { degree_entropy(none); }, {"degree_entropy: needs a vertex"});
    require_error([&] { shortest_path_lengths(one, 1); }, {"shortest_path_lengths: no such vertex", "1 of 1"});
  }
  REQUIRE(transitivity(Graph()) == 0);
  REQUIRE(transitivity(Graph(1)) == 0);
}
