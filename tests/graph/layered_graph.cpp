// Layers, and the order within them, against a recursion that does what the rule says; changes, copies, orientations.
#include <deepstruct/graph/layered_graph.hpp>

#include <functional>
#include <map>
#include <set>
#include <thread>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

using LgIds = std::vector<std::int64_t>;
using LgEdges = std::vector<LayeredGraph::IdEdge>;

/// A directed graph by ids: nodes in order, edges in order.
struct LgModel {
  LgIds nodes;
  LgEdges edges;

  void add_node(std::int64_t id) {
    if (std::find(nodes.begin(), nodes.end(), id) == nodes.end()) nodes.push_back(id);
  }
  void add_edge(std::int64_t u, std::int64_t v) {
    add_node(u);
    add_node(v);
    if (std::find(edges.begin(), edges.end(), std::pair(u, v)) == edges.end()) edges.emplace_back(u, v);
  }
  LayeredGraph graph() const {
    LayeredGraph g;
    g.add_nodes_from(nodes);
    g.add_edges_from(edges);
    return g;
  }
  std::set<std::int64_t> predecessors(std::int64_t v) const {
    std::set<std::int64_t> all;
    for (const auto& [s, t] : edges)
      if (t == v && s != v) all.insert(s);
    return all;
  }
};

/// Vertices by layer, by the rule: visit nodes in order, before a vertex its unvisited ancestors by ascending id; a
/// vertex goes to the end of its layer when all of them are visited.
std::vector<LgIds> lg_naive_layers(const LgModel& m) {
  std::map<std::int64_t, std::set<std::int64_t>> before, ancestors;
  for (const std::int64_t v : m.nodes) before[v] = m.predecessors(v);
  for (const std::int64_t v : m.nodes) {
    LgIds open(before[v].begin(), before[v].end());
    while (!open.empty()) {
      const std::int64_t u = open.back();
      open.pop_back();
      if (ancestors[v].insert(u).second) open.insert(open.end(), before[u].begin(), before[u].end());
    }
  }
  std::vector<LgIds> layers;
  std::map<std::int64_t, std::size_t> layer;
  const std::function<void(std::int64_t)> visit = [&](std::int64_t v) {
    for (const std::int64_t u : ancestors[v])
      if (!layer.contains(u)) visit(u);
    std::size_t l = 0;
    for (const std::int64_t u : before[v]) l = std::max(l, layer.at(u) + 1);
    layer[v] = l;
    if (layers.size() <= l) layers.resize(l + 1);
    layers[l].push_back(v);
  };
  for (const std::int64_t v : m.nodes)
    if (!layer.contains(v)) visit(v);
  return layers;
}

std::vector<LgIds> lg_layers(const LayeredGraph& g) {
  std::vector<LgIds> all;
  for (const std::int64_t l : g.layers()) all.push_back(g.vertices(l));
  return all;
}

/// Everything a graph says about its layers agrees with the naive layers of a model.
void lg_require_layers(const LayeredGraph& g, const LgModel& m) {
  const std::vector<LgIds> expected = lg_naive_layers(m);
  REQUIRE(lg_layers(g) == expected);
  REQUIRE(g.vertex_count() == static_cast<std::int64_t>(m.nodes.size()));
  REQUIRE(g.edge_count() == static_cast<std::int64_t>(m.edges.size()));
  REQUIRE(g.num_layers() == static_cast<std::int64_t>(expected.size()));
  std::map<std::int64_t, std::int64_t> layer;
  for (std::size_t l = 0; l < expected.size(); ++l) {
    REQUIRE(g.layer_size(static_cast<std::int64_t>(l)) == static_cast<std::int64_t>(expected[l].size()));
    for (std::size_t k = 0; k < expected[l].size(); ++k) {
      REQUIRE(g.layer(expected[l][k]) == static_cast<std::int64_t>(l));
      REQUIRE(g.index_in_layer(expected[l][k]) == static_cast<std::int64_t>(k));
      layer[expected[l][k]] = static_cast<std::int64_t>(l);
    }
  }
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> connections;
  for (const auto& [u, v] : m.edges) ++connections[{layer.at(u), layer.at(v)}];
  for (std::int64_t a = 0; a < g.num_layers(); ++a)
    for (std::int64_t b = 0; b < g.num_layers(); ++b) {
      if (a == b) continue;
      const auto found = connections.find(std::minmax(a, b));
      const std::int64_t size = found == connections.end() ? 0 : found->second;
      REQUIRE(g.layer_connection_size(a, b) == size);
      REQUIRE(g.layer_connected(a, b) == (size > 0));
    }
}

/// A random DAG of n vertices with shuffled ids, some negative, nodes and edges in random order.
LgModel lg_random_dag(std::int64_t n, float p, Rng& rng) {
  LgModel m;
  const auto ids = rng.permutation(n);
  const bool apart = rng.bernoulli(0.5f);
  const auto id = [&](std::int64_t k) {
    const std::int64_t own = ids[static_cast<std::size_t>(k)];
    return apart ? 7 * own - 20 : own;
  };
  LgEdges edges;
  for (std::int64_t u = 0; u < n; ++u)
    for (std::int64_t v = u + 1; v < n; ++v)
      if (rng.bernoulli(p)) edges.emplace_back(id(u), id(v));
  rng.shuffle(std::span(edges));
  const bool nodes_first = rng.bernoulli(0.5f);
  const auto order = rng.permutation(n);
  if (!nodes_first)
    for (const auto& [u, v] : edges) m.add_edge(u, v);
  for (const std::int32_t k : order) m.add_node(id(k));
  if (nodes_first)
    for (const auto& [u, v] : edges) m.add_edge(u, v);
  return m;
}

/// A random undirected graph with attributes that tell every vertex and edge.
Graph lg_random_graph(std::int64_t n, float p, Rng& rng) {
  std::vector<Edge> edges;
  for (Vertex u = 0; u < n; ++u)
    for (Vertex v = u + 1; v < n; ++v)
      if (rng.bernoulli(p)) edges.push_back({u, v});
  rng.shuffle(std::span(edges));
  Graph g(n, edges);
  for (Vertex v = 0; v < n; ++v) g.vertex_attributes().set("name", v, std::to_string(v));
  for (std::int64_t k = 0; k < g.edge_count(); ++k)
    g.edge_attributes().set("weight", k, static_cast<double>(g.edge(k).source + 1000 * g.edge(k).target));
  return g;
}

/// "... (3 -> 5 -> 3)": 3, 5, 3; -1 for a gap.
LgIds lg_cycle_of(const std::string& text) {
  LgIds cycle;
  std::istringstream in(text.substr(text.rfind('(') + 1));
  for (std::string word; in >> word;)
    if (word != "->") cycle.push_back(word == "..." ? -1 : std::stoll(word));
  return cycle;
}

/// Consecutive vertices are joined by edges, or by a gap, and the last is the first.
void lg_require_cycle(const LgIds& cycle, const LgEdges& edges) {
  REQUIRE(cycle.size() >= 3);
  REQUIRE(cycle.front() == cycle.back());
  for (std::size_t k = 0; k + 1 < cycle.size(); ++k) {
    if (cycle[k] == -1 || cycle[k + 1] == -1) continue;
    INFO(cycle[k] << " -> " << cycle[k + 1]);
    REQUIRE(std::find(edges.begin(), edges.end(), std::pair(cycle[k], cycle[k + 1])) != edges.end());
  }
}

}  // namespace

TEST_CASE("layers and the order within them are those of the rule") {
  Rng rng(1);
  for (int run = 0; run < 300; ++run) {
    const std::int64_t n = run < 12 ? run / 4 : static_cast<std::int64_t>(rng.below(run % 10 == 0 ? 40 : 14));
    const LgModel m = lg_random_dag(n, rng.uniform(0.02f, 0.5f), rng);
    INFO("run " << run << ", " << n << " vertices");
    lg_require_layers(m.graph(), m);
  }
}

TEST_CASE("the order of nodes counts, and that of ids among ancestors") {
  LayeredGraph g;
  g.add_edges_from({{9, 4}, {2, 4}, {5, 4}, {7, 1}});
  REQUIRE(lg_layers(g) == std::vector<LgIds>{{9, 2, 5, 7}, {4, 1}});
  LayeredGraph other;
  other.add_nodes_from({4, 1});
  other.add_edges_from({{9, 4}, {2, 4}, {5, 4}, {7, 1}});
  REQUIRE(lg_layers(other) == std::vector<LgIds>{{2, 5, 9, 7}, {4, 1}});
  REQUIRE(other.id(2) == 9);
  REQUIRE(other.place(9) == 2);
}

TEST_CASE("self loops do not matter to layers") {
  LgModel m;
  for (const auto& [u, v] : LgEdges{{3, 3}, {1, 2}, {2, 2}, {2, 3}}) m.add_edge(u, v);
  const LayeredGraph g = m.graph();
  REQUIRE(lg_layers(g) == std::vector<LgIds>{{1}, {2}, {3}});
  REQUIRE(g.layer_connection_size(1, 2) == 1);
}

TEST_CASE("a cycle is named") {
  LayeredGraph g;
  g.add_edges_from({{1, 2}, {2, 5}, {5, 7}, {7, 2}, {7, 8}});
  require_error([&] { g.layers(); }, {"LayeredGraph: the graph has a cycle ("});
  const LgIds cycle = lg_cycle_of(test::error_of([&] { g.num_layers(); }));
  REQUIRE(cycle.size() == 4);
  lg_require_cycle(cycle, {{2, 5}, {5, 7}, {7, 2}});
  g.remove_edge(7, 2);
  REQUIRE(g.num_layers() == 5);

  for (const std::int64_t n : {2, 8, 9, 10, 11, 1000}) {
    INFO("cycle of " << n);
    LgModel m;
    for (std::int64_t v = 0; v < n; ++v) m.add_edge(100 + v, 100 + (v + 1) % n);
    m.add_edge(100 + n - 1, 3);
    const LayeredGraph long_cycle = m.graph();
    const std::string text = test::error_of([&] { long_cycle.index(); });
    const LgIds named = lg_cycle_of(text);
    lg_require_cycle(named, m.edges);
    const bool whole = std::find(named.begin(), named.end(), -1) == named.end();
    REQUIRE(whole == (n <= 9));
    REQUIRE(static_cast<std::int64_t>(named.size()) == std::min<std::int64_t>(n, 10) + 1);
    REQUIRE(text.size() < 200);
  }
}

TEST_CASE("random graphs with cycles fail, and say a cycle of theirs") {
  Rng rng(2);
  int cyclic = 0;
  for (int run = 0; run < 100; ++run) {
    LgModel m = lg_random_dag(8, 0.2f, rng);
    for (int k = 0; k < 2; ++k) m.add_edge(m.nodes[rng.below(8)], m.nodes[rng.below(8)]);
    const LayeredGraph g = m.graph();
    try {
      g.index();
      lg_require_layers(g, m);
    } catch (const Error& e) {
      ++cyclic;
      lg_require_cycle(lg_cycle_of(e.what()), m.edges);
    }
  }
  REQUIRE(cyclic > 20);
  REQUIRE(cyclic < 95);
}

TEST_CASE("paths of a million vertices, forwards and backwards") {
  constexpr Vertex n = 1'000'000;
  for (const bool backwards : {false, true}) {
    std::vector<Edge> edges;
    for (Vertex v = 0; v + 1 < n; ++v) edges.push_back(backwards ? Edge{v + 1, v} : Edge{v, v + 1});
    const LayeredGraph g = Graph(n, std::move(edges), true);
    REQUIRE(g.num_layers() == n);
    REQUIRE(g.layer(0) == (backwards ? n - 1 : 0));
    REQUIRE(g.vertices(1) == LgIds{backwards ? n - 2 : 1});
    REQUIRE(g.index().connections.size() == n - 1);
  }
}

TEST_CASE("an empty graph has no layers") {
  const LayeredGraph g;
  REQUIRE(g.layers().empty());
  REQUIRE(g.num_layers() == 0);
  REQUIRE(g.index().layer_count() == 0);
  require_error([&] { g.first_layer(); }, {"LayeredGraph: no such layer (0 of 0)"});
  require_error([&] { g.last_layer(); }, {"LayeredGraph: no such layer"});
  require_error([&] { g.first_layer_size(); }, {"LayeredGraph: no such layer"});
  require_error([&] { g.vertices(0); }, {"LayeredGraph: no such layer"});
  require_error([&] { g.layer(0); }, {"LayeredGraph: no such vertex (0)"});
}

TEST_CASE("queries of what is not there throw") {
  LayeredGraph g;
  g.add_edges_from({{0, 1}, {1, 2}, {0, 3}});
  for (const std::int64_t l : {-1, 3, 99}) {
    require_error([&] { g.vertices(l); }, {"LayeredGraph: no such layer"});
    require_error([&] { g.layer_size(l); }, {"LayeredGraph: no such layer"});
    require_error([&] { g.layer_connected(0, l); }, {"LayeredGraph: no such layer"});
    require_error([&] { g.layer_connection_size(l, 0); }, {"LayeredGraph: no such layer"});
  }
  require_error([&] { g.layer_connected(1, 1); }, {"layer_connection_size: no edge stays within a layer (1)"});
  require_error([&] { g.index_in_layer(4); }, {"LayeredGraph: no such vertex (4)"});
  require_error([&] { g.remove_vertex(4); }, {"LayeredGraph: no such vertex (4)"});
  require_error([&] { g.remove_edge(1, 0); }, {"LayeredGraph: no such edge (1, 0)"});
  require_error([&] { g.remove_edge(0, 9); }, {"LayeredGraph: no such edge (0, 9)"});
  require_error([&] { g.add_vertices(-1); }, {"LayeredGraph:", "-1"});
  require_error([&] { g.add_vertices(std::numeric_limits<std::int64_t>::max()); }, {"LayeredGraph:"});
  REQUIRE(g.vertex_count() == 4);
  REQUIRE(lg_layers(g) == std::vector<LgIds>{{0}, {1, 3}, {2}});
}

TEST_CASE("after any change the layers are those of the graph as it is") {
  Rng rng(3);
  for (int run = 0; run < 40; ++run) {
    LayeredGraph g;
    LgModel m;
    const std::int64_t shift = run % 2 ? 0 : 5;  // ids from 0 in order, or others
    for (int step = 0; step < 25; ++step) {
      INFO("run " << run << ", step " << step);
      const auto any = [&] { return m.nodes[rng.below(m.nodes.size())]; };
      switch (m.nodes.empty() ? 0 : rng.below(6)) {
        case 0: {
          const std::int64_t id = static_cast<std::int64_t>(rng.below(12)) + shift;
          g.add_node(id);
          m.add_node(id);
          break;
        }
        case 1:
        case 2:
        case 3: {  // edges lead to ids that are greater in a fixed shuffled sense, so there is no cycle
          std::int64_t u = any(), v = static_cast<std::int64_t>(rng.below(12)) + shift;
          const auto rank = [](std::int64_t id) { return id * 7 % 17; };
          if (u == v) continue;
          if (rank(u) > rank(v)) std::swap(u, v);
          g.add_edge(u, v);
          m.add_edge(u, v);
          break;
        }
        case 4: {
          if (m.edges.empty()) continue;
          const auto gone = m.edges[rng.below(m.edges.size())];
          g.remove_edge(gone.first, gone.second);
          std::erase(m.edges, gone);
          break;
        }
        default: {
          const std::int64_t gone = any();
          g.remove_vertex(gone);
          std::erase(m.nodes, gone);
          std::erase_if(m.edges, [&](const auto& e) { return e.first == gone || e.second == gone; });
        }
      }
      REQUIRE(g.has_changed());
      if (rng.bernoulli(0.3f)) continue;  // sometimes nobody asks between two changes
      lg_require_layers(g, m);
      for (const std::int64_t id : m.nodes) REQUIRE(g.id(g.place(id)) == id);
      REQUIRE(g.has_changed() == m.nodes.empty());  // without vertices there is nothing to be found
    }
  }
}

TEST_CASE("copies are values") {
  LayeredGraph a;
  a.add_edges_from({{0, 1}, {1, 2}});
  for (const bool asked : {false, true}) {
    LayeredGraph first = a;
    if (asked) first.num_layers();
    LayeredGraph second = first;
    REQUIRE(second == first);
    REQUIRE(second.has_changed() == !asked);
    second.add_edge(2, 3);
    REQUIRE(second.num_layers() == 4);
    REQUIRE(first.num_layers() == 3);
    REQUIRE_FALSE(first == second);
    LayeredGraph third = first;
    first.remove_vertex(1);
    REQUIRE(lg_layers(first) == std::vector<LgIds>{{0, 2}});
    REQUIRE(lg_layers(third) == std::vector<LgIds>{{0}, {1}, {2}});
    third = second;
    REQUIRE(third.num_layers() == 4);
    third.remove_edge(0, 1);
    REQUIRE(second.num_layers() == 4);
    REQUIRE(third.num_layers() == 3);
  }
  LayeredGraph from = a;
  const LayeredGraph to = std::move(from);
  REQUIRE(to.num_layers() == 3);
  from = to;
  from.add_edge(2, 3);
  REQUIRE(from.num_layers() == 4);
}

TEST_CASE("graphs are equal if their ids, edges and layers are") {
  LayeredGraph a, b;
  a.add_vertices(3);
  b.add_nodes_from({0, 1, 2});
  REQUIRE(a == b);
  LayeredGraph c;
  c.add_nodes_from({0, 2, 1});
  REQUIRE_FALSE(a == c);
  a.add_edge(0, 1);
  REQUIRE_FALSE(a == b);
  b.add_edge(0, 1);
  REQUIRE(a == b);
  REQUIRE_FALSE(LayeredGraph::with_layers(Graph(2, {{0, 1}}, true), {0, 1}) == LayeredGraph(Graph(2, {{0, 1}}, true)));
}

TEST_CASE("has_changed") {
  LayeredGraph g;
  REQUIRE(g.has_changed());
  REQUIRE(g.add_vertices(3) == 0);
  g.num_layers();
  REQUIRE_FALSE(g.has_changed());
  const std::vector<std::function<void()>> changes = {
      [&] { g.add_vertex(); },      [&] { g.add_edge(0, 1); },    [&] { g.add_node(50); },
      [&] { g.remove_edge(0, 1); }, [&] { g.remove_vertex(50); }, [&] { g.add_edges_from({{0, 2}, {1, 2}}); },
  };
  for (const auto& change : changes) {
    change();
    REQUIRE(g.has_changed());
    g.num_layers();
    REQUIRE_FALSE(g.has_changed());
  }
  g.vertex_attributes().set("bias", 0, 1.0f);
  REQUIRE_FALSE(g.has_changed());
}

TEST_CASE("vertices are numbered on, and named where they are not") {
  LayeredGraph g;
  REQUIRE(g.add_vertex() == 0);
  REQUIRE(g.add_vertices(2) == 1);
  REQUIRE(g.add_vertices(0) == 3);
  g.add_node(10);
  REQUIRE(g.add_vertex() == 4);
  REQUIRE(g.contains(10));
  REQUIRE_FALSE(g.contains(3));
  g.add_node(6);
  REQUIRE(g.add_vertex() == 11);
  REQUIRE(g.vertices(0) == LgIds{0, 1, 2, 10, 4, 6, 11});
  LayeredGraph last;
  last.add_vertices(3);
  last.remove_vertex(2);
  REQUIRE(last.add_vertex() == 2);
  for (const std::int64_t v : {0, 1, 2}) last.remove_vertex(v);
  REQUIRE(last.add_vertex() == 0);
}

TEST_CASE("given layers hold what they promise") {
  const Graph g(5, {{0, 2}, {1, 3}, {0, 4}, {3, 4}}, true);
  LayeredGraph graph = LayeredGraph::with_layers(g, {0, 0, 2, 1, 2});
  REQUIRE(graph.has_given_layers());
  REQUIRE_FALSE(LayeredGraph(g).has_given_layers());
  REQUIRE(lg_layers(graph) == std::vector<LgIds>{{0, 1}, {3}, {2, 4}});
  REQUIRE(graph.layer_connection_size(0, 2) == 2);

  const LayeredGraph before = graph;
  require_error([&] { graph.add_edge(3, 1); }, {"LayeredGraph: edges lead to higher layers (3 in 1, 1 in 0)"});
  require_error([&] { graph.add_edge(2, 4); }, {"LayeredGraph: edges lead to higher layers"});
  require_error([&] { graph.add_edge(0, 9); }, {"LayeredGraph: no such vertex (9)"});
  require_error([&] { graph.add_edges_from({{1, 2}, {2, 1}}); }, {"LayeredGraph: edges lead to higher layers"});
  REQUIRE(graph == before);
  REQUIRE(graph.add_vertex() == 5);
  REQUIRE(graph.vertices(0) == LgIds{0, 1, 5});
  graph.add_edge(5, 2);
  REQUIRE(graph.layer(2) == 2);
  REQUIRE(graph.layer_connection_size(0, 2) == 3);

  graph.remove_vertex(3);  // the only one of layer 1
  REQUIRE(lg_layers(graph) == std::vector<LgIds>{{0, 1, 5}, {2, 4}});
  graph.remove_vertex(2);
  REQUIRE(lg_layers(graph) == std::vector<LgIds>{{0, 1, 5}, {4}});
  REQUIRE(lg_layers(before) == std::vector<LgIds>{{0, 1}, {3}, {2, 4}});
  REQUIRE(graph.has_given_layers());
}

TEST_CASE("with_layers checks the layers") {
  const Graph g(3, {{0, 1}, {1, 2}}, true);
  require_error([&] { LayeredGraph::with_layers(Graph(3, {{0, 1}}), {0, 1, 0}); }, {"given layers need a directed"});
  require_error(
      [&] {
        LayeredGraph::with_layers(g, {0, 1});
      },
      {"LayeredGraph: needs a layer for every vertex (2 for 3)"});
  require_error([&] { LayeredGraph::with_layers(g, {0, 1, 3}); }, {"without a gap"});
  require_error([&] { LayeredGraph::with_layers(g, {-1, 0, 1}); }, {"without a gap"});
  require_error([&] { LayeredGraph::with_layers(Graph(3, true), {0, 2, 0}); }, {"without a gap"});
  require_error([&] { LayeredGraph::with_layers(Graph(2, true), {1, 1}); }, {"without a gap"});
  require_error([&] { LayeredGraph::with_layers(g, {0, 1, 1}); }, {"edges lead to higher layers (1 in 1, 2 in 1)"});
  require_error([&] { LayeredGraph::with_layers(g, {1, 0, 2}); }, {"edges lead to higher layers"});
  require_error([&] { LayeredGraph::with_layers(Graph(1, {{0, 0}}, true), {0}); }, {"edges lead to higher layers"});
  REQUIRE(LayeredGraph::with_layers(Graph(true), {}).num_layers() == 0);
}

TEST_CASE("an undirected graph is oriented by an order of its vertices") {
  Rng rng(4);
  int differ = 0;
  for (int run = 0; run < 60; ++run) {
    const auto n = static_cast<std::int64_t>(rng.below(20));
    const Graph g = lg_random_graph(n, rng.uniform(0.05f, 0.5f), rng);
    const Adjacency around = neighbours(g);
    std::vector<LayeredGraph> results;
    for (const Orientation way :
         {Orientation::node_order, Orientation::bfs, Orientation::degree, Orientation::random}) {
      Rng one(static_cast<std::uint64_t>(run)), same(static_cast<std::uint64_t>(run));
      const LayeredGraph graph = LayeredGraph::load_from(g, way, one);
      REQUIRE(graph == LayeredGraph::load_from(g, way, same));
      REQUIRE(graph.edge_count() == g.edge_count());
      REQUIRE_NOTHROW(graph.index());
      REQUIRE(graph.vertex_attributes() == g.vertex_attributes());
      REQUIRE(graph.edge_attributes() == g.edge_attributes());
      for (std::int64_t k = 0; k < g.edge_count(); ++k) {
        const Edge from = g.edge(k), to = graph.graph().edge(k);
        REQUIRE((to == from || to == Edge{from.target, from.source}));
        if (way == Orientation::node_order) REQUIRE(to.source < to.target);
        if (way == Orientation::degree)
          REQUIRE(std::pair(-around.degree(to.source), to.source) < std::pair(-around.degree(to.target), to.target));
      }
      results.push_back(graph);
    }
    differ += !(results[0] == results[3]);
    std::vector<Vertex> met;  // breadth first
    for (Vertex root = 0; root < n; ++root) {
      if (std::find(met.begin(), met.end(), root) != met.end()) continue;
      met.push_back(root);
      for (std::size_t k = met.size() - 1; k < met.size(); ++k)
        for (const Vertex w : around.of(met[k]))
          if (std::find(met.begin(), met.end(), w) == met.end()) met.push_back(w);
    }
    for (const Edge& e : results[1].graph().edges())
      REQUIRE(std::find(met.begin(), met.end(), e.source) < std::find(met.begin(), met.end(), e.target));
  }
  REQUIRE(differ > 30);
}

TEST_CASE("random orientation takes its seed, and the default generator") {
  Rng rng(5), one(1), two(2);
  const Graph g = lg_random_graph(12, 0.5f, rng);
  REQUIRE_FALSE(LayeredGraph::load_from(g, Orientation::random, one) ==
                LayeredGraph::load_from(g, Orientation::random, two));
  manual_seed(1);
  Rng again(1);
  REQUIRE(LayeredGraph::load_from(g, Orientation::random) == LayeredGraph::load_from(g, Orientation::random, again));
}

TEST_CASE("a directed graph keeps its directions") {
  const Graph g(3, {{2, 1}, {1, 0}}, true);
  REQUIRE(lg_layers(LayeredGraph::load_from(g, Orientation::degree)) == std::vector<LgIds>{{2}, {1}, {0}});
  REQUIRE_THROWS_AS(LayeredGraph(Graph(2, {{0, 1}, {1, 0}}, true)).num_layers(), Error);
  REQUIRE(LayeredGraph(Graph(2, {{1, 0}, {0, 1}})).num_layers() == 2);
}

TEST_CASE("attributes follow their vertices and edges") {
  Rng rng(6);
  const Graph g = lg_random_graph(15, 0.4f, rng);
  LayeredGraph graph = LayeredGraph::load_from(g);
  const auto all_right = [](const LayeredGraph& now) {
    const AttributeTable& vertices = now.vertex_attributes();
    const AttributeTable& edges = now.edge_attributes();
    REQUIRE(edges.size() == now.edge_count());
    for (Vertex v = 0; v < now.vertex_count(); ++v)
      REQUIRE(vertices.get<std::string>("name", v) == std::to_string(now.id(v)));
    for (std::int64_t k = 0; k < now.edge_count(); ++k) {
      const Edge e = now.graph().edge(k);
      REQUIRE(edges.get<double>("weight", k) == static_cast<double>(now.id(e.source) + 1000 * now.id(e.target)));
    }
  };
  all_right(graph);
  while (graph.vertex_count() > 0) {
    if (graph.edge_count() > 0) {
      const Edge e = graph.graph().edge(static_cast<std::int64_t>(rng.below(graph.graph().edges().size())));
      graph.remove_edge(graph.id(e.source), graph.id(e.target));
      all_right(graph);
    }
    graph.remove_vertex(graph.id(static_cast<Vertex>(rng.below(static_cast<std::uint64_t>(graph.vertex_count())))));
    all_right(graph);
  }
  graph.add_edge(3, 4);
  REQUIRE_FALSE(graph.vertex_attributes().get<std::string>("name", 0).has_value());
  REQUIRE_FALSE(graph.edge_attributes().get<double>("weight", 0).has_value());
}

TEST_CASE("test_CachedLayeredGraph: test_cached_layered_graph_default_success") {
  CachedLayeredGraph g;
  g.add_nodes_from({1, 2, 3, 4, 5, 6});
  for (const std::int64_t v : {3, 4, 5, 6}) g.add_edge(1, v);
  for (const std::int64_t v : {3, 4, 5, 7}) g.add_edge(2, v);
  g.add_edges_from({{3, 6}, {4, 6}, {4, 7}, {5, 7}});
  REQUIRE(g.layer_size(0) == 2);
  REQUIRE_FALSE(g.has_changed());
  g.add_edges_from({{0, 3}, {0, 4}});
  REQUIRE(g.has_changed());
  REQUIRE(g.layer_size(0) == 3);
}

TEST_CASE("test_LayerIndex: test_dev") {
  LayeredGraph g;
  g.add_nodes_from({1, 2, 3, 4, 5});
  g.add_edges_from({{1, 3}, {1, 4}, {1, 5}, {2, 3}, {2, 4}, {3, 5}, {4, 5}});
  REQUIRE(lg_layers(g) == std::vector<LgIds>{{1, 2}, {3, 4}, {5}});
  for (const std::int64_t v : {1, 2, 3, 4, 5}) {
    const LgIds own = g.vertices(g.layer(v));
    REQUIRE(std::find(own.begin(), own.end(), v) != own.end());
  }
}

TEST_CASE("any threads may ask one graph, and its copies", "[threads]") {
  Rng rng(7);
  const LgModel m = lg_random_dag(60, 0.1f, rng);
  const std::vector<LgIds> expected = lg_naive_layers(m);
  for (int run = 0; run < 20; ++run) {
    const LayeredGraph shared = m.graph();
    std::vector<char> right(4, 0);
    std::vector<std::thread> threads;
    for (std::size_t k = 0; k < right.size(); ++k)
      threads.emplace_back([&, k] {
        LayeredGraph copy = shared;  // shares what is found with the others
        const bool same = lg_layers(k % 2 ? copy : shared) == expected;
        copy.add_edge(m.nodes[0], -1000);
        right[k] = same && copy.layer(-1000) > copy.layer(m.nodes[0]) && lg_layers(shared) == expected &&
                   !shared.has_changed();
      });
    for (std::thread& t : threads) t.join();
    REQUIRE(right == std::vector<char>(4, 1));
  }
}

TEST_CASE("topological order: every edge leads to a later vertex") {
  Rng rng(12);
  for (int run = 0; run < 40; ++run) {
    const auto n = static_cast<std::int64_t>(rng.below(30));
    const auto name = rng.permutation(n);
    std::vector<Edge> edges;
    for (std::int64_t u = 0; u < n; ++u)
      for (std::int64_t v = u + 1; v < n; ++v)
        if (rng.bernoulli(0.15f)) edges.push_back({name[u], name[v]});
    const Graph g(n, edges, true);
    const std::vector<Vertex> order = topological_sort(g);
    std::vector<std::int64_t> place(static_cast<std::size_t>(n), -1);
    for (std::size_t k = 0; k < order.size(); ++k) place[order[k]] = static_cast<std::int64_t>(k);
    REQUIRE(std::count(place.begin(), place.end(), -1) == 0);
    for (const Edge& e : edges) REQUIRE(place[e.source] < place[e.target]);
  }
  require_error(
      [] {
        topological_sort(Graph(4, {{0, 1}, {1, 2}, {2, 1}}, true));
      },
      {"topological_sort: the graph has a cycle (", "1 -> 2"});
  require_error(
      [] {
        topological_sort(Graph(2, {{1, 1}}, true));
      },
      {"topological_sort: the graph has a cycle (1 -> 1)"});
}
