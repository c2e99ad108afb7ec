// Graph and AttributeTable against models of sets and maps.
#include <deepstruct/graph/graph.hpp>

#include <map>
#include <set>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

using GrEdges = std::vector<Edge>;

/// A graph as lists: names of the vertices, and edges with a name each.
struct GrModel {
  bool directed = false;
  std::vector<std::int64_t> vertices;
  std::vector<std::pair<Edge, std::optional<std::string>>> edges;
  std::int64_t named = 0;

  Edge oriented(Edge e) const {
    if (!directed && e.source > e.target) std::swap(e.source, e.target);
    return e;
  }
  std::int32_t find(Edge e) const {
    for (std::size_t k = 0; k < edges.size(); ++k)
      if (edges[k].first == oriented(e)) return static_cast<std::int32_t>(k);
    return -1;
  }
  void add_edge(Edge e) {
    if (find(e) < 0) edges.emplace_back(oriented(e), std::nullopt);
  }
  void remove_vertices(const std::set<Vertex>& gone) {
    std::erase_if(edges, [&](const auto& e) { return gone.contains(e.first.source) || gone.contains(e.first.target); });
    const auto now = [&](Vertex v) {
      return v - static_cast<Vertex>(std::count_if(gone.begin(), gone.end(), [&](Vertex g) { return g < v; }));
    };
    for (auto& [e, name] : edges) e = {now(e.source), now(e.target)};
    for (auto at = gone.rbegin(); at != gone.rend(); ++at) vertices.erase(vertices.begin() + *at);
  }
};

/// The graph has the vertices, edges, attributes and neighbours of the model.
void gr_require(const Graph& g, const GrModel& m) {
  REQUIRE(g.directed() == m.directed);
  REQUIRE(g.vertex_count() == static_cast<std::int64_t>(m.vertices.size()));
  REQUIRE(g.edge_count() == static_cast<std::int64_t>(m.edges.size()));
  REQUIRE(g.vertex_attributes().size() == g.vertex_count());
  REQUIRE(g.edge_attributes().size() == g.edge_count());
  for (std::size_t v = 0; v < m.vertices.size(); ++v)
    REQUIRE(g.vertex_attributes().get<std::int64_t>("id", static_cast<std::int64_t>(v)) == m.vertices[v]);
  std::map<Vertex, std::vector<Vertex>> to, from, around;
  for (std::size_t k = 0; k < m.edges.size(); ++k) {
    const auto& [e, name] = m.edges[k];
    REQUIRE(g.edge(static_cast<std::int64_t>(k)) == e);
    REQUIRE(g.edges()[k] == e);
    REQUIRE(g.find_edge(e.source, e.target) == static_cast<std::int32_t>(k));
    REQUIRE(g.find_edge(e.target, e.source) == m.find({e.target, e.source}));
    REQUIRE(g.edge_attributes().get<std::string>("name", static_cast<std::int64_t>(k)) == name);
    to[e.source].push_back(e.target);
    from[e.target].push_back(e.source);
    around[e.source].push_back(e.target);
    if (e.source != e.target) around[e.target].push_back(e.source);
  }
  const auto agrees = [&](const Adjacency& a, std::map<Vertex, std::vector<Vertex>>& expected, auto&& joins) {
    REQUIRE(a.vertex_count() == g.vertex_count());
    for (Vertex v = 0; v < g.vertex_count(); ++v) {
      const std::span<const Vertex> own = a.of(v);
      REQUIRE(std::vector<Vertex>(own.begin(), own.end()) == expected[v]);
      REQUIRE(a.degree(v) == static_cast<std::int64_t>(expected[v].size()));
      for (std::size_t k = 0; k < own.size(); ++k) {
        const auto entry = static_cast<std::size_t>(a.start[static_cast<std::size_t>(v)]) + k;
        REQUIRE(joins(g.edge(a.edge[entry]), v, own[k]));
      }
    }
  };
  agrees(successors(g), to, [](const Edge& e, Vertex v, Vertex w) { return e == Edge{v, w}; });
  agrees(predecessors(g), from, [](const Edge& e, Vertex v, Vertex w) { return e == Edge{w, v}; });
  agrees(neighbours(g), around, [](const Edge& e, Vertex v, Vertex w) { return e == Edge{v, w} || e == Edge{w, v}; });
}

/// Names a place of the vertices and edges that have no name yet, in the graph and the model.
void gr_name(Graph& g, GrModel& m) {
  while (m.vertices.size() < static_cast<std::size_t>(g.vertex_count())) {
    g.vertex_attributes().set("id", static_cast<std::int64_t>(m.vertices.size()), m.named);
    m.vertices.push_back(m.named++);
  }
  for (std::size_t k = 0; k < m.edges.size(); ++k) {
    if (m.edges[k].second || k % 3 == 2) continue;  // some stay without
    m.edges[k].second = "e" + std::to_string(m.named++);
    g.edge_attributes().set("name", static_cast<std::int64_t>(k), *m.edges[k].second);
  }
}

/// Edges as NetworkX iterates over them, from dicts of neighbours that are filled in the order of the edges.
GrEdges gr_networkx_order(const Graph& g) {
  std::map<Vertex, std::vector<Vertex>> adjacent;
  for (const Edge& e : g.edges()) {
    adjacent[e.source].push_back(e.target);
    if (!g.directed() && e.source != e.target) adjacent[e.target].push_back(e.source);
  }
  GrEdges order;
  std::set<Vertex> seen;
  for (Vertex v = 0; v < g.vertex_count(); ++v) {
    for (const Vertex w : adjacent[v])
      if (g.directed() || !seen.contains(w)) order.push_back({v, w});
    seen.insert(v);
  }
  return order;
}

Edge gr_any_edge(std::int64_t n, Rng& rng) {
  const auto any = [&] { return static_cast<Vertex>(rng.below(static_cast<std::uint64_t>(n))); };
  const Vertex source = any();
  return {source, any()};
}

}  // namespace

TEST_CASE("Graph does what a model of lists does") {
  Rng rng(1);
  for (int run = 0; run < 120; ++run) {
    GrModel m;
    m.directed = run % 2 == 1;
    Graph g(m.directed);
    for (int step = 0; step < 20; ++step) {
      INFO("run " << run << ", step " << step);
      const std::int64_t n = g.vertex_count();
      switch (n == 0 ? 0 : rng.below(7)) {
        case 0: {
          const auto more = static_cast<std::int64_t>(rng.below(4));
          REQUIRE(g.add_vertices(more) == n);
          break;
        }
        case 1:
        case 2: {
          const Edge e = gr_any_edge(n, rng);
          m.add_edge(e);
          REQUIRE(g.add_edge(e.source, e.target) == m.find(e));
          break;
        }
        case 3: {
          GrEdges more(rng.below(8));
          for (Edge& e : more) {
            e = gr_any_edge(n, rng);
            m.add_edge(e);
          }
          g.add_edges(more);
          break;
        }
        case 4: {
          std::set<std::int32_t> gone;
          for (int k = 0; k < 2 && !m.edges.empty(); ++k)
            gone.insert(static_cast<std::int32_t>(rng.below(m.edges.size())));
          if (gone.size() == 1) {
            const Edge e = m.edges[static_cast<std::size_t>(*gone.begin())].first;
            g.remove_edge(e.source, e.target);
          } else {
            std::vector<std::int32_t> places(gone.rbegin(), gone.rend());
            places.insert(places.end(), gone.begin(), gone.end());  // a place named twice goes once
            g.remove_edges(places);
          }
          for (auto at = gone.rbegin(); at != gone.rend(); ++at) m.edges.erase(m.edges.begin() + *at);
          break;
        }
        case 5: {
          std::set<Vertex> gone;
          for (std::uint64_t k = rng.below(3); k > 0; --k) gone.insert(gr_any_edge(n, rng).source);
          const std::vector<std::int64_t> before = m.vertices;
          const std::vector<Vertex> now = g.remove_vertices(std::vector<Vertex>(gone.begin(), gone.end()));
          m.remove_vertices(gone);
          REQUIRE(now.size() == before.size());
          for (std::size_t v = 0; v < now.size(); ++v) {
            REQUIRE((now[v] < 0) == gone.contains(static_cast<Vertex>(v)));
            if (now[v] >= 0) REQUIRE(m.vertices[static_cast<std::size_t>(now[v])] == before[v]);
          }
          break;
        }
        default: {
          const GrEdges order = gr_networkx_order(g);
          g.sort_edges();
          std::stable_sort(m.edges.begin(), m.edges.end(),
                           [](const auto& a, const auto& b) { return a.first.source < b.first.source; });
          REQUIRE(GrEdges(g.edges().begin(), g.edges().end()) == order);
        }
      }
      gr_name(g, m);
      gr_require(g, m);
    }
  }
}

TEST_CASE("repeated edges count once, the first one") {
  const GrEdges edges{{2, 1}, {0, 1}, {1, 2}, {1, 0}, {2, 2}, {2, 2}, {0, 2}};
  const GrEdges undirected{{1, 2}, {0, 1}, {2, 2}, {0, 2}}, directed{{2, 1}, {0, 1}, {1, 2}, {1, 0}, {2, 2}, {0, 2}};
  for (const bool way : {false, true}) {
    const Graph at_once(3, edges, way);
    Graph by_hand(3, way), in_parts(3, way);
    for (const Edge& e : edges) by_hand.add_edge(e.source, e.target);
    in_parts.add_edges(GrEdges(edges.begin(), edges.begin() + 3));
    in_parts.add_edge(edges[3].source, edges[3].target);
    in_parts.add_edges(GrEdges(edges.begin() + 4, edges.end()));
    REQUIRE(GrEdges(at_once.edges().begin(), at_once.edges().end()) == (way ? directed : undirected));
    REQUIRE(by_hand == at_once);
    REQUIRE(in_parts == at_once);
  }
}

TEST_CASE("an edge that comes again keeps its attributes") {
  Graph g(3, {{0, 1}, {1, 2}});
  g.edge_attributes().set("weight", 0, 2.5);
  g.edge_attributes().set("weight", 1, 3.5);
  REQUIRE(g.add_edge(1, 0) == 0);
  g.add_edges({{2, 1}, {0, 2}, {1, 0}});
  REQUIRE(g.edge_count() == 3);
  REQUIRE(g.edge_attributes().get<double>("weight", 0) == 2.5);
  REQUIRE(g.edge_attributes().get<double>("weight", 1) == 3.5);
  REQUIRE_FALSE(g.edge_attributes().get<double>("weight", 2).has_value());
}

TEST_CASE("how a graph is made") {
  REQUIRE(Graph().vertex_count() == 0);
  REQUIRE_FALSE(Graph().directed());
  REQUIRE(Graph(3).vertex_count() == 3);  // a number is one of vertices
  REQUIRE(Graph(1).vertex_count() == 1);
  REQUIRE(Graph(true).directed());
  REQUIRE(Graph(true).vertex_count() == 0);
  REQUIRE(Graph(std::int64_t{2}, true).directed());
  REQUIRE(Graph(2, {{1, 0}}).edge(0) == Edge{0, 1});
  REQUIRE(Graph(2, {{1, 0}}, true).edge(0) == Edge{1, 0});
  REQUIRE(Graph(0, GrEdges{}).edge_count() == 0);
}

TEST_CASE("errors leave the graph as it was") {
  Graph g(3, {{0, 1}, {1, 2}}, true);
  g.vertex_attributes().set("bias", 1, 0.5f);
  g.edge_attributes().set("weight", 1, 1.5);
  const Graph before = g;
  const auto fails = [&](const std::function<void()>& f, const char* start) {
    require_error(f, {start});
    REQUIRE(g == before);
    REQUIRE(g.find_edge(1, 2) == 1);
  };
  fails([&] { g.add_vertices(-1); }, "Graph: needs 0 to 2^31 - 2 vertices (3 and -1 more)");
  fails([&] { g.add_vertices(std::numeric_limits<std::int64_t>::max()); }, "Graph: needs 0 to 2^31 - 2 vertices");
  fails([&] { g.add_edge(0, 3); }, "Graph: edge outside the graph (0, 3 with 3 vertices)");
  fails([&] { g.add_edge(-1, 0); }, "Graph: edge outside the graph");
  fails([&] { g.add_edges({{2, 0}, {3, 0}}); }, "Graph: edge outside the graph");
  fails([&] { g.remove_edge(1, 0); }, "Graph: no such edge (1, 0)");
  fails([&] { g.remove_edge(7, 0); }, "Graph: no such edge");
  fails([&] { g.remove_edges(std::vector<std::int32_t>{0, 2}); }, "Graph: no such edge (2 of 2)");
  fails([&] { g.remove_edges(std::vector<std::int32_t>{-1}); }, "Graph: no such edge");
  fails([&] { g.remove_vertices(std::vector<Vertex>{0, 3}); }, "Graph: no such vertex (3 of 3)");
  fails([&] { g.edge(2); }, "Graph: no such edge (2 of 2)");
  fails([&] { g.edge(-1); }, "Graph: no such edge");
  require_error([] { Graph(-1); }, {"Graph: needs 0 to 2^31 - 2 vertices (0 and -1 more)"});
  require_error([] { Graph(2, {{0, 2}}); }, {"Graph: edge outside the graph (0, 2 with 2 vertices)"});
  REQUIRE(g.find_edge(0, 9) == -1);
  REQUIRE_FALSE(g.contains(3));
  REQUIRE_FALSE(g.contains(-1));
  REQUIRE_FALSE(g.contains(std::int64_t{1} << 32));
}

TEST_CASE("graphs are equal in vertices, edges, their order, and attributes") {
  const Graph g(3, {{0, 1}, {1, 2}});
  REQUIRE(g == Graph(3, {{1, 0}, {1, 2}}));
  REQUIRE_FALSE(g == Graph(3, {{1, 2}, {0, 1}}));
  REQUIRE_FALSE(g == Graph(4, {{0, 1}, {1, 2}}));
  REQUIRE_FALSE(g == Graph(3, {{0, 1}, {1, 2}}, true));
  Graph named = g;
  named.vertex_attributes().set("name", 0, std::string("a"));
  REQUIRE_FALSE(g == named);
  named.vertex_attributes().erase("name");
  REQUIRE(g == named);
  named.edge_attributes().set("weight", 0, 1.0f);
  REQUIRE_FALSE(g == named);
}

TEST_CASE("a graph of a million edges is made, sorted and cut in linear time") {
  constexpr Vertex n = 300'000;
  Rng rng(2);
  const Draw draw = rng.draw();
  GrEdges edges;
  for (std::uint64_t k = 0; k < 1'000'000; ++k)
    edges.push_back({static_cast<Vertex>(draw.below(2 * k, n)), static_cast<Vertex>(draw.below(2 * k + 1, n))});
  Graph g(n, edges);
  REQUIRE(g.edge_count() < 1'000'000);
  REQUIRE(g.edge_count() > 999'900);
  g.sort_edges();
  REQUIRE(std::is_sorted(g.edges().begin(), g.edges().end(), [](auto& a, auto& b) { return a.source < b.source; }));
  std::vector<Vertex> half;
  for (Vertex v = 0; v < n; v += 2) half.push_back(v);
  const std::vector<Vertex> now = g.remove_vertices(half);
  REQUIRE(g.vertex_count() == n / 2);
  REQUIRE(g.edge_count() == Approx(250'000).epsilon(0.02));
  REQUIRE(now[5] == 2);
}

TEST_CASE("attributes are typed columns with empty places") {
  AttributeTable a;
  a.resize(4);
  REQUIRE(a.names().empty());
  a.set("flag", 1, false);
  a.set("count", 2, std::int64_t{7});
  a.set("weight", 0, 1.5f);
  a.set("bias", 3, 2.5);
  a.set("name", 3, std::string("relu"));
  REQUIRE(a.names() == std::vector<std::string>{"flag", "count", "weight", "bias", "name"});
  REQUIRE(a.holds<bool>("flag"));
  REQUIRE(a.holds<std::int64_t>("count"));
  REQUIRE(a.holds<float>("weight"));
  REQUIRE_FALSE(a.holds<double>("weight"));
  REQUIRE_FALSE(a.holds<float>("nothing"));
  REQUIRE(a.get<bool>("flag", 1) == false);
  REQUIRE_FALSE(a.get<bool>("flag", 0).has_value());
  REQUIRE_FALSE(a.get<std::string>("nothing", 0).has_value());
  REQUIRE(a.value("flag", 1) == AttributeTable::Value(false));
  REQUIRE(a.value("count", 2) == AttributeTable::Value(std::int64_t{7}));
  REQUIRE_FALSE(a.value("count", 1).has_value());
  REQUIRE_FALSE(a.value("nothing", 1).has_value());
  a.set_value("weight", 1, AttributeTable::Value(2.5f));
  REQUIRE(a.get<float>("weight", 1) == 2.5f);

  a.set_column("flag", std::vector<bool>{true, false, true, true});
  const std::span<const char> flags = a.column<bool>("flag");
  REQUIRE(std::vector<char>(flags.begin(), flags.end()) == std::vector<char>{1, 0, 1, 1});
  a.set_column("weight", std::vector<double>{1, 2, 3, 4});  // a new column may have another type
  REQUIRE(a.column<double>("weight")[3] == 4);
  a.set("weight", 3, 9.0);
  REQUIRE(a.column<double>("weight")[3] == 9);
  a.resize(5);
  require_error([&] { a.column<double>("weight"); },
                {"AttributeTable: the attribute is missing in some places (weight)"});
  a.set("weight", 4, 5.0);
  REQUIRE(a.column<double>("weight").size() == 5);
  a.erase("weight");
  a.erase("nothing");
  REQUIRE_FALSE(a.contains("weight"));
}

TEST_CASE("attributes refuse other types and places, and stay as they were") {
  AttributeTable a;
  a.resize(2);
  a.set("x", 0, 1.0);
  const AttributeTable before = a;
  const auto fails = [&](const std::function<void()>& f, const char* start) {
    require_error(f, {start});
    REQUIRE(a == before);
    REQUIRE(a.names() == before.names());
  };
  fails([&] { a.set("x", 1, 1.0f); }, "AttributeTable: the attribute has another type (x)");
  fails([&] { a.set_value("x", 1, AttributeTable::Value(true)); },
        "AttributeTable: the attribute has another type (x)");
  fails([&] { a.get<float>("x", 0); }, "AttributeTable: the attribute has another type (x)");
  fails([&] { a.column<double>("y"); }, "AttributeTable: no such attribute (y)");
  fails([&] { a.column<double>("x"); }, "AttributeTable: the attribute is missing in some places (x)");
  for (const std::int64_t place : {-1, 2}) {
    fails([&] { a.set("x", place, 1.0); }, "AttributeTable: no such place (x: ");
    fails([&] { a.set("y", place, 1.0); }, "AttributeTable: no such place (y: ");
    fails([&] { a.get<double>("x", place); }, "AttributeTable: no such place (x: ");
    fails([&] { a.value("y", place); }, "AttributeTable: no such place (y: ");
    fails(
        [&] {
          a.keep(std::vector<std::int32_t>{0, static_cast<std::int32_t>(place)});
        },
        "AttributeTable: no such place");
  }
  fails([&] { a.set_column("x", std::vector<double>{1}); }, "AttributeTable: needs one value per place (x: 1 for 2)");
  fails([&] { a.resize(-1); }, "AttributeTable: needs 0 places or more (-1)");
}

TEST_CASE("attributes are equal whatever the order of their columns") {
  AttributeTable a, b;
  a.resize(2);
  b.resize(2);
  a.set("x", 0, 1.0);
  a.set("y", 1, true);
  b.set("y", 1, true);
  REQUIRE_FALSE(a == b);
  b.set("x", 0, 1.0);
  REQUIRE(a == b);
  b.set("x", 1, 0.0);  // an empty place is not one of zero
  REQUIRE_FALSE(a == b);
  AttributeTable c, d;
  c.resize(2);
  d.resize(2);
  c.set("x", 0, 1.0f);
  d.set("x", 0, 1.0);
  REQUIRE_FALSE(c == d);
  d.erase("x");
  d.set("y", 0, 1.0f);
  REQUIRE_FALSE(c == d);
}

TEST_CASE("attributes are resized, reordered and copied like a model of maps") {
  using Value = AttributeTable::Value;
  Rng rng(3);
  const std::vector<std::string> names{"bool", "int", "float", "double", "string"};
  const auto any_value = [&](std::size_t type) -> Value {
    const auto k = static_cast<std::int64_t>(rng.below(100));
    switch (type) {
      case 0:
        return k % 2 == 0;
      case 1:
        return k;
      case 2:
        return static_cast<float>(k) / 2;
      case 3:
        return static_cast<double>(k) / 2;
      default:
        return std::to_string(k);
    }
  };
  for (int run = 0; run < 60; ++run) {
    AttributeTable a;
    std::map<std::string, std::vector<std::optional<Value>>> model;
    std::size_t size = 0;
    for (int step = 0; step < 25; ++step) {
      INFO("run " << run << ", step " << step);
      const std::size_t type = rng.below(5);
      const std::string& name = names[type];
      switch (size == 0 ? 0 : rng.below(6)) {
        case 0:
          size = rng.below(9);
          a.resize(static_cast<std::int64_t>(size));
          for (auto& [n, column] : model) column.resize(size);
          break;
        case 1: {
          std::vector<std::int32_t> kept(rng.below(size + 3));
          for (std::int32_t& k : kept) k = static_cast<std::int32_t>(rng.below(size));
          a.keep(kept);
          for (auto& [n, column] : model) {
            std::vector<std::optional<Value>> moved;
            for (const std::int32_t k : kept) moved.push_back(column[static_cast<std::size_t>(k)]);
            column = moved;
          }
          size = kept.size();
          break;
        }
        case 3: {
          if (type != 3) {
            a.erase(name);
            model.erase(name);
            break;
          }
          std::vector<double> values(size);
          for (double& v : values) v = rng.uniform();
          a.set_column(name, values);
          model[name].assign(values.begin(), values.end());
          break;
        }
        default: {
          const std::size_t place = rng.below(size);
          const Value value = any_value(type);
          a.set_value(name, static_cast<std::int64_t>(place), value);
          model[name].resize(size);
          model[name][place] = value;
        }
      }
      REQUIRE(a.size() == static_cast<std::int64_t>(size));
      REQUIRE(a.names().size() == model.size());
      for (const auto& [n, column] : model) {
        REQUIRE(a.contains(n));
        for (std::size_t k = 0; k < size; ++k) REQUIRE(a.value(n, static_cast<std::int64_t>(k)) == column[k]);
      }
      REQUIRE(a == AttributeTable(a));
    }
  }
}
