// Generators of graphs: the regular ones edge for edge, the random ones by their properties and frequencies.
#include <deepstruct/graph/random_graphs.hpp>

#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "support/catch.hpp"

using namespace deepstruct;

namespace {

using GenEdges = std::vector<Edge>;
using GenSizes = std::vector<std::int64_t>;

GenEdges gen_edges(const Graph& g) { return {g.edges().begin(), g.edges().end()}; }

/// Throws an Error whose text starts so.
template <class F>
bool gen_fails(const std::string& start, F&& f) {
  try {
    f();
  } catch (const Error& e) {
    INFO(e.what());
    CHECK(std::string(e.what()).starts_with(start));
    return true;
  }
  return false;
}

/// FNV-1a of the ends of all edges.
std::uint64_t gen_hash(const Graph& g) {
  std::uint64_t hash = 0xCBF29CE484222325;
  for (const Edge& e : g.edges())
    for (const Vertex v : {e.source, e.target}) hash = (hash ^ static_cast<std::uint64_t>(v)) * 0x100000001B3;
  return hash;
}

std::vector<std::int64_t> gen_degrees(const Graph& g) {
  std::vector<std::int64_t> degree(static_cast<std::size_t>(g.vertex_count()), 0);
  for (const Edge& e : g.edges()) {
    ++degree[static_cast<std::size_t>(e.source)];
    ++degree[static_cast<std::size_t>(e.target)];
  }
  return degree;
}

/// No loops, no repeated edges, sources in order, the earlier vertex is the source.
bool gen_simple(const Graph& g) {
  const GenEdges edges = gen_edges(g);
  return std::set<Edge>(edges.begin(), edges.end()).size() == edges.size() &&
         std::is_sorted(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) { return a.source < b.source; }) &&
         std::all_of(edges.begin(), edges.end(),
                     [&](const Edge& e) { return g.directed() ? e.source != e.target : e.source < e.target; });
}

bool gen_connected(const Graph& g) {
  if (g.vertex_count() == 0) return true;
  const Adjacency of = neighbours(g);
  std::vector<char> seen(static_cast<std::size_t>(g.vertex_count()), 0);
  std::vector<Vertex> stack{0};
  std::int64_t count = 0;
  while (!stack.empty()) {
    const Vertex v = stack.back();
    stack.pop_back();
    if (seen[static_cast<std::size_t>(v)]++) continue;
    ++count;
    for (const Vertex w : of.of(v)) stack.push_back(w);
  }
  return count == g.vertex_count();
}

/// How often something with probability p happened of n times, in standard deviations from the mean.
double gen_off(double count, double n, double p) {
  const double deviation = std::sqrt(n * p * (1 - p));
  return deviation == 0 ? std::abs(count - n * p) * 1e9 : std::abs(count - n * p) / deviation;
}

/// Small worlds as NetworkX makes them, on adjacency lists in order of insertion.
struct GenNaiveWorld {
  std::vector<std::vector<Vertex>> of;

  GenNaiveWorld(Vertex n, Vertex k) : of(static_cast<std::size_t>(n)) {
    for (Vertex j = 1; j <= k / 2; ++j)
      for (Vertex u = 0; u < n; ++u) add(u, (u + j) % n);
  }
  std::vector<Vertex>& at(Vertex v) { return of[static_cast<std::size_t>(v)]; }
  bool has(Vertex u, Vertex v) { return std::count(at(u).begin(), at(u).end(), v) > 0; }
  void add(Vertex u, Vertex v) {
    if (has(u, v)) return;
    at(u).push_back(v);
    at(v).push_back(u);
  }
  void remove(Vertex u, Vertex v) {
    std::erase(at(u), v);
    std::erase(at(v), u);
  }
  /// A vertex that u is not joined to, or −1.
  Vertex choose(Vertex u, detail::WordReader& words) {
    const auto n = static_cast<Vertex>(of.size());
    if (static_cast<Vertex>(at(u).size()) >= n - 1) return -1;
    while (true) {
      const auto w = static_cast<Vertex>(words.below(n));
      if (w != u && !has(u, w)) return w;
    }
  }
  GenEdges edges() {
    GenEdges all;
    for (Vertex u = 0; u < static_cast<Vertex>(of.size()); ++u)
      for (const Vertex v : at(u))
        if (v > u) all.push_back({u, v});
    return all;
  }
};

}  // namespace

TEST_CASE("generators: paths, cycles, stars and complete graphs") {
  REQUIRE(gen_edges(path_graph(4)) == GenEdges{{0, 1}, {1, 2}, {2, 3}});
  REQUIRE(gen_edges(cycle_graph(4)) == GenEdges{{0, 1}, {0, 3}, {1, 2}, {2, 3}});
  REQUIRE(gen_edges(cycle_graph(2)) == GenEdges{{0, 1}});
  REQUIRE(gen_edges(cycle_graph(1)) == GenEdges{{0, 0}});
  REQUIRE(gen_edges(star_graph(3)) == GenEdges{{0, 1}, {0, 2}, {0, 3}});
  REQUIRE(star_graph(3).vertex_count() == 4);
  REQUIRE(star_graph(0) == path_graph(1));
  REQUIRE(gen_edges(complete_graph(4)) == GenEdges{{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}});
  for (const std::int64_t n : {0, 1, 2, 3, 7, 50}) {
    REQUIRE(path_graph(n).vertex_count() == n);
    REQUIRE(path_graph(n).edge_count() == std::max<std::int64_t>(n - 1, 0));
    REQUIRE(cycle_graph(n).vertex_count() == n);
    REQUIRE(cycle_graph(n).edge_count() == (n == 2 ? 1 : n));
    REQUIRE(complete_graph(n).edge_count() == n * (n - 1) / 2);
    REQUIRE(gen_simple(complete_graph(n)));
  }
}

TEST_CASE("generators: complete multipartite graphs join different parts") {
  REQUIRE(gen_edges(complete_multipartite_graph({2, 1, 1})) == GenEdges{{0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}});
  REQUIRE(complete_multipartite_graph(std::span<const std::int64_t>()) == complete_multipartite_graph(GenSizes{}));
  REQUIRE(complete_multipartite_graph(GenSizes{}).vertex_count() == 0);
  REQUIRE(complete_multipartite_graph({5}).edge_count() == 0);
  REQUIRE(gen_edges(complete_multipartite_graph({1, 1, 1, 1, 1})) == gen_edges(complete_graph(5)));
  const Graph g = complete_multipartite_graph({3, 0, 2, 4});
  const auto part = g.vertex_attributes().column<std::int64_t>("subset");
  REQUIRE(GenSizes(part.begin(), part.end()) == GenSizes{0, 0, 0, 2, 2, 3, 3, 3, 3});
  GenEdges expected;
  for (Vertex u = 0; u < 9; ++u)
    for (Vertex v = u + 1; v < 9; ++v)
      if (part[static_cast<std::size_t>(u)] != part[static_cast<std::size_t>(v)]) expected.push_back({u, v});
  REQUIRE(gen_edges(g) == expected);
}

TEST_CASE("generators: trees come breadth first") {
  REQUIRE(gen_edges(balanced_tree(2, 2)) == GenEdges{{0, 1}, {0, 2}, {1, 3}, {1, 4}, {2, 5}, {2, 6}});
  REQUIRE(gen_edges(full_rary_tree(3, 6)) == GenEdges{{0, 1}, {0, 2}, {0, 3}, {1, 4}, {1, 5}});
  REQUIRE(balanced_tree(3, 3) == full_rary_tree(3, 40));
  REQUIRE(balanced_tree(1, 4) == path_graph(5));
  REQUIRE(balanced_tree(0, 7) == path_graph(1));
  REQUIRE(balanced_tree(2, 0) == path_graph(1));
  REQUIRE(balanced_tree(2, -1) == path_graph(0));
  REQUIRE(balanced_tree(1, -1) == path_graph(0));
  REQUIRE(balanced_tree(0, -1) == path_graph(0));
  REQUIRE(full_rary_tree(0, 3).vertex_count() == 3);
  REQUIRE(full_rary_tree(0, 3).edge_count() == 0);
  REQUIRE(balanced_tree(2, 17).vertex_count() == (1 << 18) - 1);
}

TEST_CASE("generators: grids join what lies beside and below") {
  for (std::int64_t rows = 0; rows < 5; ++rows)
    for (std::int64_t columns = 0; columns < 5; ++columns)
      for (const auto& periodic : {std::array{false, false}, {true, false}, {false, true}, {true, true}}) {
        const Graph g = grid_2d_graph(rows, columns, periodic);
        REQUIRE(g.vertex_count() == rows * columns);
        std::set<Edge> expected;
        const auto join = [&](std::int64_t r, std::int64_t c, std::int64_t r2, std::int64_t c2) {
          const Edge e = detail::make_edge(r * columns + c, r2 * columns + c2);
          expected.insert({std::min(e.source, e.target), std::max(e.source, e.target)});
        };
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t c = 0; c < columns; ++c) {
            REQUIRE(g.vertex_attributes().get<std::int64_t>("row", r * columns + c) == r);
            REQUIRE(g.vertex_attributes().get<std::int64_t>("column", r * columns + c) == c);
            if (r + 1 < rows) join(r, c, r + 1, c);
            if (c + 1 < columns) join(r, c, r, c + 1);
            if (r + 1 == rows && rows > 2 && periodic[0]) join(r, c, 0, c);
            if (c + 1 == columns && columns > 2 && periodic[1]) join(r, c, r, 0);
          }
        const GenEdges edges = gen_edges(g);
        REQUIRE(std::set<Edge>(edges.begin(), edges.end()) == expected);
        REQUIRE(gen_simple(g));
      }
  REQUIRE(grid_2d_graph(3, 4, true) == grid_2d_graph(3, 4, {true, true}));
  REQUIRE(grid_2d_graph(3, 4) == grid_2d_graph(3, 4, {false, false}));
}

TEST_CASE("generators: the reader of words reads the draw, fairly") {
  detail::WordReader words(Draw{7, 3});
  for (std::uint64_t i = 0; i < 9; ++i) REQUIRE(words.word() == Draw{7, 3}.word(i));
  for (const std::int64_t n : {1, 2, 3, 10}) {
    std::map<std::int64_t, double> count;
    for (int i = 0; i < 3000; ++i) ++count[words.below(n)];
    REQUIRE(static_cast<std::int64_t>(count.size()) == n);
    for (const auto& [value, times] : count) {
      REQUIRE((value >= 0 && value < n));
      REQUIRE(gen_off(times, 3000, 1.0 / static_cast<double>(n)) < 5);
    }
  }
  const std::int64_t large = 3'000'000'000;  // near 2^32 a plain multiplication would favour some values
  double low = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::int64_t value = words.below(large);
    REQUIRE((value >= 0 && value < large));
    low += value < large / 2;
  }
  REQUIRE(gen_off(low, 3000, 0.5) < 5);
  double sum = 0;
  for (int i = 0; i < 3000; ++i) {
    const double u = words.uniform();
    REQUIRE((u >= 0 && u < 1));
    sum += u;
  }
  REQUIRE(std::abs(sum / 3000 - 0.5) < 5 / std::sqrt(12.0 * 3000));
  for (const double p : {1e-300, 1e-20, 1e-9, 1e-3, 0.1, 0.2, 0.25})
    REQUIRE(detail::exact_log_1m(p) == Approx(std::log1p(-p)).epsilon(1e-14));
}

TEST_CASE("generators: what is visited at random comes in order, each with its probability") {
  detail::WordReader words(Draw{1, 1});
  for (const double p : {0.0, 0.02, 0.25, 0.3, 0.9, 1.0}) {
    std::vector<double> count(6, 0);
    double pairs = 0;
    const int runs = 5000;
    for (int i = 0; i < runs; ++i) {
      std::int64_t last = -1;
      bool first = false;
      detail::visit_randomly(words, 6, p, [&](std::int64_t k) {
        REQUIRE((k > last && k < 6));
        last = k;
        ++count[static_cast<std::size_t>(k)];
        if (k == 0) first = true;
        pairs += k == 1 && first;
      });
    }
    for (const double c : count) REQUIRE(gen_off(c, runs, p) < 5);
    REQUIRE(gen_off(pairs, runs, p * p) < 5);  // neighbours are independent
  }
  for (const double p : {5e-324, 1e-310, 1e-30})
    detail::visit_randomly(words, std::int64_t{1} << 61, p, [&](std::int64_t) { FAIL("so rare"); });
  std::int64_t hits = 0;
  detail::visit_randomly(words, std::int64_t{1} << 61, 0x1p-51, [&](std::int64_t) { ++hits; });
  REQUIRE(std::abs(static_cast<double>(hits) - 1024) < 5 * 32);
}

TEST_CASE("generators: a set of edges, whatever the direction") {
  Rng rng(9);
  detail::EdgeSet set;
  std::set<std::pair<std::int64_t, std::int64_t>> naive;
  for (int i = 0; i < 3000; ++i) {
    const auto u = static_cast<std::int64_t>(rng.below(60)), v = static_cast<std::int64_t>(rng.below(60));
    REQUIRE(set.contains(u, v) == naive.contains(std::minmax(u, v)));
    REQUIRE(set.insert(u, v) == naive.insert(std::minmax(u, v)).second);
    REQUIRE(set.contains(v, u));
  }
}

TEST_CASE("generators: small worlds are those of a naive implementation") {
  for (const auto& [n, k] : std::vector<std::pair<Vertex, Vertex>>{
           {1, 0}, {2, 1}, {3, 2}, {4, 3}, {5, 4}, {7, 5}, {10, 4}, {10, 9}, {11, 10}, {40, 6}, {200, 4}})
    for (const double p : {0.0, 0.1, 0.5, 1.0}) {
      INFO(n << " " << k << " " << p);
      Rng rng(static_cast<std::uint64_t>(n + k));
      const Rng before = rng;
      const Graph moved = watts_strogatz_graph(n, k, p, rng);
      detail::WordReader words(Rng(before).draw());
      GenNaiveWorld naive(n, k);
      for (Vertex j = 1; j <= k / 2; ++j)
        for (Vertex u = 0; u < n; ++u) {
          if (!(words.uniform() < p)) continue;
          const Vertex w = naive.choose(u, words);
          if (w < 0) continue;
          naive.remove(u, (u + j) % n);
          naive.add(u, w);
        }
      REQUIRE(gen_edges(moved) == naive.edges());
      REQUIRE(moved.vertex_count() == n);
      REQUIRE(moved.edge_count() == n * (k / 2));
      REQUIRE(gen_simple(moved));

      const Graph added = newman_watts_strogatz_graph(n, k, p, rng);
      REQUIRE(rng.draws() == 2);
      detail::WordReader more(Rng(before.seed(), 1).draw());
      GenNaiveWorld larger(n, k);
      for (const Edge& e : larger.edges())
        if (more.uniform() < p)
          if (const Vertex w = larger.choose(e.source, more); w >= 0) larger.add(e.source, w);
      REQUIRE(gen_edges(added) == larger.edges());
      REQUIRE(gen_simple(added));
    }
}

TEST_CASE("generators: small worlds at their limits") {
  Rng rng(3);
  for (const std::int64_t n : {0, 1, 2, 6}) {
    REQUIRE(watts_strogatz_graph(n, n, 0.7, rng) == complete_graph(n));
    REQUIRE(newman_watts_strogatz_graph(n, n, 0.7, rng) == complete_graph(n));
    REQUIRE(watts_strogatz_graph(n, 0, 0.7, rng).vertex_count() == n);
    REQUIRE(watts_strogatz_graph(n + 2, 1, 0.7, rng) == Graph(n + 2));
    REQUIRE(newman_watts_strogatz_graph(n + 2, 1, 0.7, rng) == Graph(n + 2));
  }
  REQUIRE(watts_strogatz_graph(5, 4, 1, rng) == watts_strogatz_graph(5, 4, 0, rng));  // nothing to move to
  const Graph large = watts_strogatz_graph(20000, 6, 1, rng);
  double ring = 0;
  for (const Edge& e : large.edges()) ring += e.target - e.source <= 3;
  REQUIRE(large.edge_count() == 60000);
  REQUIRE(ring < 100);  // all moved away, a few by chance to a place nearby
  for (int i = 0; i < 20; ++i) REQUIRE(gen_connected(connected_watts_strogatz_graph(30, 2, 0.1, 1000, rng)));
  REQUIRE(connected_watts_strogatz_graph(0, 0, 0.5, 1, rng).vertex_count() == 0);
  REQUIRE(connected_watts_strogatz_graph(1, 0, 0.5, 1, rng).vertex_count() == 1);
  REQUIRE(detail::components(3, GenEdges{{0, 2}, {1, 2}}).count == 1);
  REQUIRE(detail::components(4, GenEdges{{0, 2}, {1, 3}, {0, 2}}).count == 2);
}

TEST_CASE("generators: G(n, p) has every edge with probability p, in order") {
  Rng rng(4);
  for (const bool directed : {false, true})
    for (const double p : {0.05, 0.25, 0.7}) {
      std::map<Edge, double> count;
      const int runs = 2000;
      for (int i = 0; i < runs; ++i) {
        const Graph g = gnp_random_graph(6, p, directed, rng);
        REQUIRE(g.directed() == directed);
        REQUIRE(std::is_sorted(g.edges().begin(), g.edges().end()));
        for (const Edge& e : g.edges()) ++count[e];
      }
      REQUIRE(count.size() == (directed ? 30 : 15));
      for (const auto& [e, times] : count) {
        REQUIRE(e.source != e.target);
        REQUIRE(gen_off(times, runs, p) < 5);
      }
    }
  const Graph large = gnp_random_graph(50000, 2e-4, false, rng);
  REQUIRE(gen_simple(large));
  REQUIRE(gen_off(static_cast<double>(large.edge_count()), 50000.0 * 49999 / 2, 2e-4) < 5);  // mean degree 10
  for (const std::int64_t n : {0, 1, 2, 9}) {
    REQUIRE(erdos_renyi_graph(n, 1, false, rng) == complete_graph(n));
    REQUIRE(erdos_renyi_graph(n, 0, true, rng) == Graph(n, true));
    REQUIRE(erdos_renyi_graph(n, 1, true, rng).edge_count() == n * (n - 1));
  }
}

TEST_CASE("generators: G(n, m) has m edges, all sets of them alike") {
  Rng rng(5);
  for (const std::int64_t m : {0, 1, 3, 7, 8, 14, 15}) {
    std::map<Edge, double> count;
    const int runs = 1500;
    for (int i = 0; i < runs; ++i) {
      const Graph g = gnm_random_graph(6, m, rng);
      REQUIRE(g.edge_count() == m);
      REQUIRE(gen_simple(g));
      for (const Edge& e : g.edges()) ++count[e];
    }
    REQUIRE(count.size() == (m == 0 ? 0 : 15));
    for (const auto& [e, times] : count) REQUIRE(gen_off(times, runs, static_cast<double>(m) / 15) < 5);
  }
  REQUIRE(gnm_random_graph(5, 99, rng) == complete_graph(5));
  REQUIRE(gnm_random_graph(0, 0, rng).vertex_count() == 0);
  REQUIRE(gnm_random_graph(1, 3, rng) == Graph(std::int64_t{1}));
  REQUIRE(gnm_random_graph(30000, 50000, rng).edge_count() == 50000);
}

TEST_CASE("generators: preferential attachment prefers in proportion to degrees") {
  Rng rng(6);
  REQUIRE(barabasi_albert_graph(4, 3, rng) == star_graph(3));
  REQUIRE(barabasi_albert_graph(2, 1, rng) == path_graph(2));
  double to_hub = 0;
  for (int i = 0; i < 2000; ++i) {
    const Graph g = barabasi_albert_graph(4, 1, rng);  // the third vertex makes 0 or 1 a hub of degree 2 of 4
    const Vertex hub = g.find_edge(0, 2) >= 0 ? 0 : 1;
    to_hub += g.find_edge(hub, 3) >= 0;
  }
  REQUIRE(gen_off(to_hub, 2000, 0.5) < 5);
  for (const auto& [n, m] : std::vector<std::pair<std::int64_t, std::int64_t>>{{5, 4}, {30, 1}, {40, 7}, {3000, 5}}) {
    const Graph g = barabasi_albert_graph(n, m, rng);
    REQUIRE(g.vertex_count() == n);
    REQUIRE(g.edge_count() == m * (n - m));
    REQUIRE(gen_simple(g));
    REQUIRE(gen_connected(g));
    std::vector<std::int64_t> earlier(static_cast<std::size_t>(n), 0);
    for (const Edge& e : g.edges()) ++earlier[static_cast<std::size_t>(e.target)];
    for (std::int64_t v = m + 1; v < n; ++v) REQUIRE(earlier[static_cast<std::size_t>(v)] == m);
  }
}

TEST_CASE("generators: regular graphs are regular") {
  Rng rng(7);
  for (std::int64_t n = 0; n < 10; ++n)
    for (std::int64_t d = 0; d < std::max<std::int64_t>(n, 1); ++d) {
      if (n * d % 2) continue;
      const Graph g = random_regular_graph(d, n, rng);
      REQUIRE(gen_simple(g));
      REQUIRE(gen_degrees(g) == GenSizes(static_cast<std::size_t>(n), d));
    }
  REQUIRE(gen_degrees(random_regular_graph(6, 5000, rng)) == GenSizes(5000, 6));
  REQUIRE(gen_degrees(random_regular_graph(30, 61, rng)) == GenSizes(61, 30));
  std::map<Vertex, double> partner;
  for (int i = 0; i < 1500; ++i) ++partner[random_regular_graph(1, 4, rng).edge(0).target];
  for (const Vertex v : {1, 2, 3}) REQUIRE(gen_off(partner[v], 1500, 1.0 / 3) < 5);
}

TEST_CASE("generators: given degrees are upper bounds, loops and repeats are dropped") {
  Rng rng(8);
  std::map<Vertex, double> partner;
  for (int i = 0; i < 1500; ++i) ++partner[configuration_model({1, 1, 1, 1}, rng).edge(0).target];
  for (const Vertex v : {1, 2, 3}) REQUIRE(gen_off(partner[v], 1500, 1.0 / 3) < 5);
  REQUIRE(configuration_model(GenSizes{}, rng).vertex_count() == 0);
  REQUIRE(configuration_model({2}, rng) == Graph(std::int64_t{1}));
  REQUIRE(configuration_model({0, 0}, rng) == Graph(std::int64_t{2}));
  double joined = 0;  // 2, 2: of three pairings one has two loops, two have the edge twice
  for (int i = 0; i < 1500; ++i) {
    const Graph g = configuration_model({2, 2}, rng);
    REQUIRE(g.edge_count() <= 1);
    joined += static_cast<double>(g.edge_count());
  }
  REQUIRE(gen_off(joined, 1500, 2.0 / 3) < 5);
  GenSizes wanted(2000);
  for (std::size_t v = 0; v < wanted.size(); ++v) wanted[v] = static_cast<std::int64_t>(v % 9);
  wanted[0] += std::accumulate(wanted.begin(), wanted.end(), std::int64_t{0}) % 2;
  const Graph g = configuration_model(wanted, rng);
  const GenSizes got = gen_degrees(g);
  REQUIRE(gen_simple(g));
  for (std::size_t v = 0; v < wanted.size(); ++v) REQUIRE(got[v] <= wanted[v]);
  const std::int64_t sum = std::accumulate(wanted.begin(), wanted.end(), std::int64_t{0});
  REQUIRE(2 * g.edge_count() > sum - 100);
}

TEST_CASE("generators: blocks have their densities") {
  Rng rng(9);
  const GenSizes sizes{300, 0, 200, 1};
  const std::vector<std::vector<double>> p{
      {0.1, 0.5, 0.02, 1}, {0.5, 0.5, 0.5, 0.5}, {0.02, 0.5, 0.4, 0}, {1, 0.5, 0, 1}};
  const Graph g = stochastic_block_model(sizes, p, rng);
  REQUIRE(g.vertex_count() == 501);
  REQUIRE(gen_simple(g));
  const auto block = g.vertex_attributes().column<std::int64_t>("block");
  REQUIRE(std::count(block.begin(), block.end(), 0) == 300);
  REQUIRE(std::count(block.begin(), block.end(), 2) == 200);
  REQUIRE((block[299] == 0 && block[300] == 2 && block[500] == 3));
  std::map<std::pair<std::int64_t, std::int64_t>, double> count;
  for (const Edge& e : g.edges())
    ++count[{block[static_cast<std::size_t>(e.source)], block[static_cast<std::size_t>(e.target)]}];
  REQUIRE(gen_off(count[{0, 0}], 300 * 299 / 2, 0.1) < 5);
  REQUIRE(gen_off(count[{0, 2}], 300 * 200, 0.02) < 5);
  REQUIRE(gen_off(count[{2, 2}], 200 * 199 / 2, 0.4) < 5);
  REQUIRE(count[{0, 3}] == 300);
  REQUIRE(count[{2, 3}] == 0);
  REQUIRE(count.size() == 5);  // the four above, and the last as a zero that was asked for
  REQUIRE(gen_edges(stochastic_block_model({2, 3}, {{0, 1}, {1, 0}}, rng)) ==
          gen_edges(complete_multipartite_graph({2, 3})));
  REQUIRE(stochastic_block_model({}, {}, rng).vertex_count() == 0);
}

TEST_CASE("generators: points within the radius are joined, no others") {
  Rng rng(10);
  for (const std::int64_t n : {0, 1, 2, 5, 150, 400})
    for (const double radius :
         {0.0, 1e-300, 0.01, 0.08, 0.25, 1.0 / 3, 0.5, 0.7, 1.0, 1.4143, std::numeric_limits<double>::infinity()}) {
      INFO(n << " " << radius);
      const Graph g = random_geometric_graph(n, radius, rng);
      REQUIRE(g.vertex_count() == n);
      const auto x = g.vertex_attributes().column<double>("x"), y = g.vertex_attributes().column<double>("y");
      GenEdges expected;
      for (std::size_t u = 0; u < x.size(); ++u) {
        REQUIRE((x[u] >= 0 && x[u] < 1 && y[u] >= 0 && y[u] < 1));
        for (std::size_t v = u + 1; v < x.size(); ++v)
          if (std::hypot(x[u] - x[v], y[u] - y[v]) <= radius)
            expected.push_back({static_cast<Vertex>(u), static_cast<Vertex>(v)});
      }
      REQUIRE(gen_edges(g) == expected);
    }
  const Graph large = random_geometric_graph(20000, 0.01, rng);  // a pair is near with about pi r^2, less at the border
  REQUIRE(static_cast<double>(large.edge_count()) == Approx(20000.0 * 19999 / 2 * 3.1416 * 1e-4).epsilon(0.03));
}

TEST_CASE("generators: random DAGs go from earlier to later vertices") {
  Rng rng(11);
  const Graph g = random_dag(2000, 0.01, rng);
  REQUIRE(g.directed());
  REQUIRE(gen_simple(g));
  for (const Edge& e : g.edges()) REQUIRE(e.source < e.target);
  REQUIRE(gen_off(static_cast<double>(g.edge_count()), 2000 * 1999 / 2, 0.01) < 5);
  REQUIRE(gen_edges(random_dag(5, 1, rng)) == gen_edges(complete_graph(5)));
  REQUIRE(random_dag(0, 0.5, rng) == Graph(std::int64_t{0}, true));
  REQUIRE(random_dag(4, 0, rng) == Graph(std::int64_t{4}, true));
}

TEST_CASE("generators: layered DAGs have their layers") {
  Rng rng(12);
  for (const GenSizes& widths : std::vector<GenSizes>{{}, {3}, {1, 1}, {2, 5, 1, 4}, {50, 80, 60, 40}})
    for (const double p_next : {0.0, 0.3, 1.0})
      for (const double p_skip : {0.0, 0.2, 1.0}) {
        const Graph g = layered_random_dag(widths, p_next, p_skip, rng);
        REQUIRE(g.directed());
        REQUIRE(gen_simple(g));
        const auto n = std::accumulate(widths.begin(), widths.end(), std::int64_t{0});
        REQUIRE(g.vertex_count() == n);
        const auto layer = g.vertex_attributes().column<std::int64_t>("layer");
        GenSizes longest(static_cast<std::size_t>(n), 0), count(widths.size(), 0);
        double next = 0, skip = 0, all_next = 0, all_skip = 0;
        for (const Edge& e : g.edges()) {  // sources ascend, so a vertex is complete before it is a source
          const auto u = static_cast<std::size_t>(e.source), v = static_cast<std::size_t>(e.target);
          REQUIRE(layer[u] < layer[v]);
          longest[v] = std::max(longest[v], longest[u] + 1);
          (layer[v] == layer[u] + 1 ? next : skip) += 1;
        }
        REQUIRE(GenSizes(layer.begin(), layer.end()) == longest);
        for (const std::int64_t l : layer) ++count[static_cast<std::size_t>(l)];
        REQUIRE(count == widths);
        for (std::size_t a = 0; a < widths.size(); ++a)
          for (std::size_t b = a + 1; b < widths.size(); ++b)
            (b == a + 1 ? all_next : all_skip) += static_cast<double>(widths[a] * widths[b]);
        REQUIRE(gen_off(skip, all_skip, p_skip) < 5);
        if (p_next == 0) REQUIRE(next == static_cast<double>(widths.empty() ? 0 : n - widths[0]));
        if (p_next > 0 && n > 100) REQUIRE(gen_off(next, all_next, p_next) < 5);  // wide: hardly any is left out
      }
}

TEST_CASE("generators: a seed gives one graph, everywhere, and costs one draw") {
  const std::vector<std::pair<std::uint64_t, std::function<Graph(Rng&)>>> all{
      {0x6C3BA37FB526B6C8, [](Rng& rng) { return watts_strogatz_graph(1000, 6, 0.3, rng); }},
      {0xECFFC7DAB56445D9, [](Rng& rng) { return newman_watts_strogatz_graph(1000, 6, 0.3, rng); }},
      {0x6C3BA37FB526B6C8, [](Rng& rng) { return connected_watts_strogatz_graph(1000, 6, 0.3, 1, rng); }},
      {0x0843E24525BB4D1D, [](Rng& rng) { return gnp_random_graph(1000, 0.01, false, rng); }},
      {0xC9E3F9458537E77B, [](Rng& rng) { return gnp_random_graph(100, 0.4, true, rng); }},
      {0xB9511CF46E777B0F, [](Rng& rng) { return gnm_random_graph(1000, 3000, rng); }},
      {0x38C48E4043CC180D, [](Rng& rng) { return barabasi_albert_graph(1000, 3, rng); }},
      {0x9E34E8F9D5E44E8F, [](Rng& rng) { return random_regular_graph(6, 1000, rng); }},
      {0x4CD8A317176E1AA5, [](Rng& rng) { return configuration_model(GenSizes(1000, 5), rng); }},
      {0xE06879F2D7599B0A,
       [](Rng& rng) {
         return stochastic_block_model({300, 400}, {{0.05, 0.01}, {0.01, 0.3}}, rng);
       }},
      {0x4BB1D140491F67D9, [](Rng& rng) { return random_geometric_graph(1000, 0.05, rng); }},
      {0x0843E24525BB4D1D, [](Rng& rng) { return random_dag(1000, 0.01, rng); }},
      {0xC58AB3F8CCDAAACF,
       [](Rng& rng) {
         return layered_random_dag({100, 200, 100}, 0.02, 0.01, rng);
       }},
  };
  std::vector<std::uint64_t> expected, got;
  for (const auto& [hash, generate] : all) {
    Rng rng(42);
    const Graph g = generate(rng);
    REQUIRE(rng == Rng(42, 1));
    REQUIRE(!(generate(rng) == g));
    rng = Rng(42);
    REQUIRE(generate(rng) == g);
    expected.push_back(hash);
    got.push_back(gen_hash(g));
  }
  REQUIRE(got == expected);
  manual_seed(5);
  const Graph by_default = watts_strogatz_graph(50, 4, 0.5);
  Rng rng(5);
  REQUIRE(by_default == watts_strogatz_graph(50, 4, 0.5, rng));
}

TEST_CASE("generators: wrong parameters are errors with their values") {
  const double nan = std::nan("");
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t n : {std::int64_t{-1}, std::int64_t{1} << 31, most}) {
    REQUIRE(gen_fails("path_graph: ", [&] { path_graph(n); }));
    REQUIRE(gen_fails("cycle_graph: ", [&] { cycle_graph(n); }));
    REQUIRE(gen_fails("star_graph: ", [&] { star_graph(n); }));
    REQUIRE(gen_fails("complete_graph: ", [&] { complete_graph(n); }));
    REQUIRE(gen_fails("complete_multipartite_graph: ", [&] { complete_multipartite_graph({1, n}); }));
    REQUIRE(gen_fails("full_rary_tree: ", [&] { full_rary_tree(2, n); }));
    REQUIRE(gen_fails("grid_2d_graph: ", [&] { grid_2d_graph(n, 3); }));
    REQUIRE(gen_fails("grid_2d_graph: ", [&] { grid_2d_graph(3, n); }));
    REQUIRE(gen_fails("watts_strogatz_graph: ", [&] { watts_strogatz_graph(n, 0, 0.5); }));
    REQUIRE(gen_fails("newman_watts_strogatz_graph: ", [&] { newman_watts_strogatz_graph(n, 0, 0.5); }));
    REQUIRE(gen_fails("connected_watts_strogatz_graph: ", [&] { connected_watts_strogatz_graph(n, 0, 0.5); }));
    REQUIRE(gen_fails("gnp_random_graph: ", [&] { gnp_random_graph(n, 0.5); }));
    REQUIRE(gen_fails("gnm_random_graph: ", [&] { gnm_random_graph(n, 1); }));
    REQUIRE(gen_fails("barabasi_albert_graph: ", [&] { barabasi_albert_graph(n, 1); }));
    REQUIRE(gen_fails("random_regular_graph: ", [&] { random_regular_graph(0, n); }));
    REQUIRE(gen_fails("stochastic_block_model: ", [&] { stochastic_block_model({n}, {{0}}); }));
    REQUIRE(gen_fails("random_geometric_graph: ", [&] { random_geometric_graph(n, 0.1); }));
    REQUIRE(gen_fails("random_dag: ", [&] { random_dag(n, 0.5); }));
    REQUIRE(gen_fails("layered_random_dag: ", [&] { layered_random_dag({2, n}, 0.5, 0.5); }));
    REQUIRE(gen_fails("configuration_model: ", [&] { configuration_model({2 * (n / 2), n}); }));
  }
  for (const double p : {-0.5, 1.5, nan}) {
    REQUIRE(gen_fails("watts_strogatz_graph: needs a probability", [&] { watts_strogatz_graph(9, 2, p); }));
    REQUIRE(gen_fails("newman_watts_strogatz_graph: needs a prob", [&] { newman_watts_strogatz_graph(9, 2, p); }));
    REQUIRE(gen_fails("connected_watts_strogatz_graph: needs a p", [&] { connected_watts_strogatz_graph(9, 2, p); }));
    REQUIRE(gen_fails("gnp_random_graph: needs a probability", [&] { gnp_random_graph(9, p); }));
    REQUIRE(gen_fails("stochastic_block_model: needs a prob", [&] { stochastic_block_model({9}, {{p}}); }));
    REQUIRE(gen_fails("random_dag: needs a probability", [&] { random_dag(9, p); }));
    REQUIRE(gen_fails("layered_random_dag: needs a prob", [&] { layered_random_dag({2, 2}, p, 0.5); }));
    REQUIRE(gen_fails("layered_random_dag: needs a prob", [&] { layered_random_dag({2, 2}, 0.5, p); }));
  }
  for (const std::int64_t k : {-1, 6}) {
    REQUIRE(gen_fails("watts_strogatz_graph: needs 0 <= k <= n", [&] { watts_strogatz_graph(5, k, 0.5); }));
    REQUIRE(gen_fails("newman_watts_strogatz_graph: needs 0 <=", [&] { newman_watts_strogatz_graph(5, k, 0.5); }));
  }
  REQUIRE(gen_fails("connected_watts_strogatz_graph: needs tries", [] { connected_watts_strogatz_graph(5, 2, 0, 0); }));
  REQUIRE(gen_fails("connected_watts_strogatz_graph: cannot be", [] { connected_watts_strogatz_graph(5, 1, 0); }));
  Rng rng(1);
  REQUIRE(gen_fails("connected_watts_strogatz_graph: no connected graph found (3000, 2, 1 in 3 tries)",
                    [&] { connected_watts_strogatz_graph(3000, 2, 1, 3, rng); }));
  for (const std::int64_t m : {-1, 0, 5})
    REQUIRE(gen_fails("barabasi_albert_graph: needs 1 <= m < n", [&] { barabasi_albert_graph(5, m); }));
  REQUIRE(gen_fails("gnm_random_graph: needs m >= 0 (-1)", [] { gnm_random_graph(5, -1); }));
  REQUIRE(gen_fails("random_regular_graph: n * d must be even (3 and 5)", [] { random_regular_graph(3, 5); }));
  for (const std::int64_t d : {-2, 4, 6})
    REQUIRE(gen_fails("random_regular_graph: needs 0 <= d < n", [&] { random_regular_graph(d, 4); }));
  REQUIRE(gen_fails("configuration_model: needs an even sum", [] { configuration_model({1, 2}); }));
  REQUIRE(gen_fails("configuration_model: needs degrees >= 0 (-1)", [] { configuration_model({-1, 1}); }));
  for (const double radius : {-0.1, nan})
    REQUIRE(gen_fails("random_geometric_graph: needs radius", [&] { random_geometric_graph(5, radius); }));
  REQUIRE(gen_fails("stochastic_block_model: needs a row", [] { stochastic_block_model({2, 2}, {{1, 1}}); }));
  REQUIRE(gen_fails("stochastic_block_model: needs a square", [] { stochastic_block_model({2, 2}, {{1, 1}, {1}}); }));
  REQUIRE(gen_fails("stochastic_block_model: needs a symmetric", [] {
    stochastic_block_model({2, 2}, {{1, 0.2}, {0.3, 1}});
  }));
  REQUIRE(gen_fails("layered_random_dag: needs widths >= 1 (0)", [] { layered_random_dag({2, 0}, 1, 1); }));
  REQUIRE(gen_fails("balanced_tree: needs r >= 0", [] { balanced_tree(-1, 2); }));
  REQUIRE(gen_fails("balanced_tree: needs r >= 0 and h >= -1", [] { balanced_tree(2, -2); }));
  for (const std::int64_t r : {std::int64_t{1}, std::int64_t{2}, most})
    REQUIRE(gen_fails("balanced_tree: too many vertices", [&] { balanced_tree(r, most); }));
  REQUIRE(gen_fails("balanced_tree: too many vertices", [] { balanced_tree(2, 31); }));
  REQUIRE(gen_fails("balanced_tree: too many vertices", [] { balanced_tree(most, 1); }));
  REQUIRE(gen_fails("full_rary_tree: needs r >= 0", [] { full_rary_tree(-1, 2); }));
  // Too many edges are noticed before they take memory.
  REQUIRE(gen_fails("complete_graph: too many edges", [] { complete_graph(2'000'000'000); }));
  REQUIRE(gen_fails("complete_multipartite_graph: too many", [] { complete_multipartite_graph({100000, 100000}); }));
  REQUIRE(gen_fails("watts_strogatz_graph: too many edges", [] { watts_strogatz_graph(100000000, 50, 0.5); }));
  REQUIRE(gen_fails("gnp_random_graph: too many edges", [] { gnp_random_graph(2'000'000'000, 0.1, true); }));
  REQUIRE(gen_fails("gnm_random_graph: too many edges", [] { gnm_random_graph(2'000'000'000, 3'000'000'000); }));
  REQUIRE(gen_fails("barabasi_albert_graph: too many edges", [] { barabasi_albert_graph(1'000'000'000, 5); }));
  REQUIRE(gen_fails("random_regular_graph: too many edges", [] { random_regular_graph(6, 1'000'000'000); }));
  REQUIRE(gen_fails("random_dag: too many edges", [] { random_dag(2'000'000'000, 0.1); }));
  REQUIRE(gen_fails("layered_random_dag: too many edges", [] { layered_random_dag({100000, 100000}, 1, 0); }));
  REQUIRE(gen_fails("stochastic_block_model: too many edges", [] { stochastic_block_model({100000}, {{1}}); }));
  REQUIRE(gen_fails("grid_2d_graph: too many", [] { grid_2d_graph(100000, 100000); }));
}
