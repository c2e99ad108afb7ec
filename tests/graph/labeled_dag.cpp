// LabeledDAG against a model of maps that does what Python deepstruct does, but for what is fixed; the conversion.
#include <deepstruct/graph/labeled_dag.hpp>

#include <map>
#include <set>
#include <thread>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

using LdIds = std::vector<std::int64_t>;
using LdEdges = std::vector<LabeledDAG::IdEdge>;

/// Layers as maps, edges as a set.
struct LdModel {
  std::map<std::int64_t, LdIds> by_layer;
  std::map<std::int64_t, std::int64_t> layer;
  std::set<LabeledDAG::IdEdge> edges;

  std::int64_t add_vertex(std::int64_t l) {
    const auto id = static_cast<std::int64_t>(layer.size());
    by_layer[l].push_back(id);
    layer[id] = l;
    return id;
  }
  /// False where an edge does not lead up, or a layer is negative; changed either way.
  bool add_edges(const LdEdges& labels, const LabeledEdgeOptions& options) {
    std::map<std::int64_t, std::int64_t> sources, targets;
    const auto vertex = [&](auto& named, std::int64_t label, std::int64_t new_layer) {
      if (!named.contains(label)) named[label] = layer.contains(label) ? label : add_vertex(new_layer);
      return named[label];
    };
    bool good = true;
    for (const auto& [u, v] : labels) {
      const std::int64_t s = vertex(sources, u, options.source_layer);
      const std::int64_t t = vertex(targets, v, options.target_layer ? *options.target_layer : layer[s] + 1);
      good = good && layer[s] >= 0 && layer[t] >= 0 && (options.unchecked || layer[s] < layer[t]);
      edges.insert({s, t});
    }
    return good;
  }
};

void ld_require(const LabeledDAG& dag, const LdModel& m) {
  REQUIRE(dag.vertex_count() == static_cast<std::int64_t>(m.layer.size()));
  REQUIRE(dag.edge_count() == static_cast<std::int64_t>(m.edges.size()));
  std::set<LabeledDAG::IdEdge> edges;
  for (const Edge& e : dag.graph().edges()) edges.insert({e.source, e.target});
  REQUIRE(edges == m.edges);
  LdIds layers;
  for (const auto& [l, vertices] : m.by_layer) {
    layers.push_back(l);
    REQUIRE(dag.vertices(l) == vertices);
    REQUIRE(dag.layer_size(l) == static_cast<std::int64_t>(vertices.size()));
    for (std::size_t k = 0; k < vertices.size(); ++k) {
      REQUIRE(dag.layer(vertices[k]) == l);
      REQUIRE(dag.index_in_layer(vertices[k]) == static_cast<std::int64_t>(k));
    }
  }
  REQUIRE(dag.layers() == layers);
  REQUIRE(dag.num_layers() == static_cast<std::int64_t>(layers.size()));
  if (layers.empty()) return;
  REQUIRE(dag.first_layer() == layers.front());
  REQUIRE(dag.last_layer() == layers.back());
  for (const std::int64_t a : layers)
    for (const std::int64_t b : layers) {
      if (a >= b) continue;
      const auto size = std::count_if(edges.begin(), edges.end(), [&](const auto& e) {
        return m.layer.at(e.first) == a && m.layer.at(e.second) == b;
      });
      REQUIRE(dag.layer_connection_size(a, b) == size);
      REQUIRE(dag.layer_connection_size(b, a) == size);
      REQUIRE(dag.layer_connected(a, b) == (size > 0));
    }
}

/// Layers of these sizes from 0 on, edges between some of them, never down.
LabeledDAG ld_random(const LdIds& sizes, float p, Rng& rng) {
  LabeledDAG dag;
  for (std::size_t l = 0; l < sizes.size(); ++l) dag.add_vertices(sizes[l], static_cast<std::int64_t>(l));
  LdEdges edges;
  for (std::int64_t u = 0; u < dag.vertex_count(); ++u)
    for (std::int64_t v = u + 1; v < dag.vertex_count(); ++v)
      if (dag.layer(u) < dag.layer(v) && rng.bernoulli(p)) edges.emplace_back(u, v);
  dag.add_edges_from(edges);
  return dag;
}

/// Layers of random sizes, each fully connected to a random choice of later ones; returns the number of edges too.
std::pair<LabeledDAG, std::int64_t> ld_large(const LdIds& sizes, Rng& rng) {
  LabeledDAG dag;
  std::int64_t count = 0;
  for (std::size_t l = 0; l < sizes.size(); ++l) dag.add_vertices(sizes[l], static_cast<std::int64_t>(l));
  for (std::size_t a = 0; a < sizes.size(); ++a)
    for (std::size_t b = a + 1; b < sizes.size(); ++b) {
      if (b != a + 1 && !rng.bernoulli(0.2f)) continue;
      LdEdges edges;
      for (const std::int64_t u : dag.vertices(static_cast<std::int64_t>(a)))
        for (const std::int64_t v : dag.vertices(static_cast<std::int64_t>(b))) edges.emplace_back(u, v);
      dag.add_edges_from(edges);
      count += sizes[a] * sizes[b];
    }
  return {dag, count};
}

LdIds ld_sizes(std::int64_t few, std::int64_t many, std::int64_t small, std::int64_t large, Rng& rng) {
  const auto any = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(high - low + 1)));
  };
  LdIds sizes(static_cast<std::size_t>(any(few, many)));
  for (std::int64_t& s : sizes) s = any(small, large);
  return sizes;
}

}  // namespace

TEST_CASE("LabeledDAG does what a model of maps does") {
  Rng rng(1);
  int failed = 0, refused = 0;
  for (int run = 0; run < 150; ++run) {
    LabeledDAG dag;
    LdModel m;
    for (int step = 0; step < 15; ++step) {
      INFO("run " << run << ", step " << step);
      const auto any = [&](std::uint64_t n) { return static_cast<std::int64_t>(rng.below(n)); };
      const std::int64_t l = any(5), n = any(3) + 1;
      switch (any(run % 3 == 0 ? 2 : 4)) {  // some only get vertices and single edges
        case 0: {
          REQUIRE(dag.add_vertices(n, l) == static_cast<std::int64_t>(m.layer.size()));
          for (std::int64_t k = 0; k < n; ++k) m.add_vertex(l);
          break;
        }
        case 1: {
          LabeledEdgeOptions options;
          if (rng.bernoulli(0.3f)) options.source_layer = any(5) - 1;
          if (rng.bernoulli(0.3f)) options.target_layer = any(5) - 1;
          const std::int64_t u = any(14) - 1, v = any(14) - 1;
          LdModel changed = m;
          const LabeledDAG before = dag;
          if (changed.add_edges({{u, v}}, options)) {
            const auto [s, t] = dag.add_edge(u, v, options);
            REQUIRE(dag.graph().find_edge(static_cast<Vertex>(s), static_cast<Vertex>(t)) >= 0);
            if (m.layer.contains(u)) REQUIRE(s == u);
            if (m.layer.contains(v)) REQUIRE(t == v);
            m = changed;
          } else {
            ++failed;
            require_error([&] { dag.add_edge(u, v, options); }, {"LabeledDAG:"});
            REQUIRE(dag == before);
          }
          break;
        }
        default: {
          LabeledEdgeOptions options;
          if (rng.bernoulli(0.3f)) options.source_layer = any(4);
          if (rng.bernoulli(0.3f)) options.target_layer = any(5) + 1;
          LdEdges edges(static_cast<std::size_t>(any(6)));
          for (auto& e : edges) e = {any(16), any(16)};
          LdModel checked = m;
          const LabeledDAG before = dag;
          if (!checked.add_edges(edges, options)) {
            ++refused;
            require_error([&] { dag.add_edges_from(edges, options); }, {"LabeledDAG: edges lead to higher layers ("});
            REQUIRE(dag == before);
            options.unchecked = rng.bernoulli(0.1f);
            if (!options.unchecked) break;
          }
          dag.add_edges_from(edges, options);
          m.add_edges(edges, options);
        }
      }
      ld_require(dag, m);
    }
  }
  REQUIRE(failed > 100);
  REQUIRE(refused > 100);
}

TEST_CASE("LabeledDAG: labels that name no vertex") {
  LabeledDAG dag;
  REQUIRE(dag.add_node(5) == 0);
  REQUIRE(dag.add_nodes_from({7, 7, 9}) == 1);
  REQUIRE(dag.vertex_count() == 4);
  REQUIRE(dag.add_edge(8, 8, {.source_layer = 2}) == std::pair<std::int64_t, std::int64_t>(4, 5));
  REQUIRE(dag.layer(4) == 2);
  REQUIRE(dag.layer(5) == 3);
  REQUIRE(dag.add_edge(0, -3, {.target_layer = 9}) == std::pair<std::int64_t, std::int64_t>(0, 6));
  REQUIRE(dag.layer(6) == 9);
  // 20 is a source and a target; 9 is unknown at first, then the vertex 9 that 20 became as a source
  dag.add_edges_from({{10, 20}, {20, 30}, {9, 31}});
  REQUIRE(dag.vertex_count() == 12);
  REQUIRE(dag.edge_count() == 5);
  for (const auto& [u, v] : LdEdges{{7, 8}, {9, 10}, {9, 11}})
    REQUIRE(dag.graph().find_edge(static_cast<Vertex>(u), static_cast<Vertex>(v)) >= 0);
}

TEST_CASE("LabeledDAG refuses what the original asserts, and changes nothing") {
  LabeledDAG dag;
  require_error([&] { dag.add_vertices(0); }, {"LabeledDAG: needs at least one new vertex (0)"});
  require_error([&] { dag.add_vertices(-2); }, {"LabeledDAG: needs at least one new vertex"});
  require_error([&] { dag.add_nodes_from({}); }, {"LabeledDAG: needs at least one new vertex"});
  require_error([&] { dag.add_vertex(-1); }, {"LabeledDAG: a layer is 0 to 2^31 - 2 (-1)"});
  require_error([&] { dag.add_vertices(2, -1); }, {"LabeledDAG: a layer is"});
  require_error([&] { dag.add_vertex(std::int64_t{1} << 40); }, {"LabeledDAG: a layer is"});
  require_error([&] { dag.add_vertices(std::int64_t{1} << 62); }, {"Graph: needs 0 to 2^31 - 2 vertices"});
  require_error([&] { dag.add_edge(0, 0); }, {"LabeledDAG: edges lead to higher layers (0 in 0, 0 in 0)"});
  require_error([&] { dag.add_edge(5, 7, {.source_layer = 2, .target_layer = 1}); }, {"LabeledDAG: edges lead"});
  require_error([&] { dag.add_edge(5, 7, {.source_layer = -1}); }, {"LabeledDAG: a layer is"});
  require_error([&] { dag.add_edges_from({{0, 1}, {1, 0}}); }, {"LabeledDAG: edges lead to higher layers"});
  REQUIRE(dag == LabeledDAG());
  REQUIRE(dag.layers().empty());
  dag.add_vertex((std::int64_t{1} << 31) - 2);
  require_error([&] { dag.add_edge(0, 9); }, {"LabeledDAG: a layer is"});
  REQUIRE(dag.vertex_count() == 1);
}

TEST_CASE("LabeledDAG: queries of what is not there throw") {
  const LabeledDAG empty;
  require_error([&] { empty.first_layer(); }, {"LabeledDAG: no layer without a vertex"});
  require_error([&] { empty.last_layer_size(); }, {"LabeledDAG: no layer without a vertex"});
  LabeledDAG dag;
  dag.add_edge(0, 1, {.target_layer = 4});
  for (const std::int64_t l : {std::int64_t{-1}, std::int64_t{2}, std::int64_t{1} << 32}) {
    require_error([&] { dag.vertices(l); }, {"LabeledDAG: no such layer ("});
    require_error([&] { dag.layer_size(l); }, {"LabeledDAG: no such layer"});
    require_error([&] { dag.layer_connected(0, l); }, {"LabeledDAG: no such layer"});
  }
  require_error([&] { dag.layer_connection_size(4, 4); }, {"layer_connection_size: no edge stays within a layer (4)"});
  require_error([&] { dag.layer_connection_size(2, 2); }, {"LabeledDAG: no such layer"});
  require_error([&] { dag.layer(2); }, {"LabeledDAG: no such vertex (2 of 2)"});
  require_error([&] { dag.index_in_layer(-1); }, {"LabeledDAG: no such vertex"});
}

TEST_CASE("LabeledDAG becomes a LayeredGraph with its layers closed up") {
  LabeledDAG dag;
  dag.add_vertices(2, 7);
  dag.add_vertices(3, 3);
  dag.add_vertex(1'000'000'000);
  dag.add_vertex(3);
  dag.add_edges_from({{2, 0}, {6, 1}, {3, 5}, {0, 5}});
  for (std::int64_t v = 0; v < 7; ++v) dag.vertex_attributes().set("name", v, std::to_string(v));
  for (std::int64_t e = 0; e < 4; ++e) dag.edge_attributes().set("weight", e, static_cast<float>(e));
  const LayeredGraph graph = dag;
  REQUIRE(graph == dag.layered());
  REQUIRE(graph.has_given_layers());
  REQUIRE(graph.layers() == LdIds{0, 1, 2});
  REQUIRE(graph.vertices(0) == LdIds{2, 3, 4, 6});
  REQUIRE(graph.vertices(1) == LdIds{0, 1});
  REQUIRE(graph.vertices(2) == LdIds{5});
  REQUIRE(graph.graph() == dag.graph());
  REQUIRE(graph.vertex_attributes().get<std::string>("name", 6) == "6");
  REQUIRE(graph.edge_attributes().get<float>("weight", 3) == 3.0f);
  REQUIRE(LabeledDAG().layered().num_layers() == 0);

  Rng rng(2);
  for (int run = 0; run < 50; ++run) {
    LabeledDAG random;
    for (int k = 0; k < 12; ++k) {
      const auto l = static_cast<std::int64_t>(rng.below(6) * 3 + 1);
      if (rng.bernoulli(0.5f)) random.add_vertex(l);
      const LabeledDAG before = random;
      try {
        random.add_edge(static_cast<std::int64_t>(rng.below(15)), static_cast<std::int64_t>(rng.below(15)));
      } catch (const Error&) {
        REQUIRE(random == before);
      }
    }
    const LayeredGraph closed = random;
    REQUIRE(closed.num_layers() == random.num_layers());
    std::int64_t l = 0;
    for (const std::int64_t label : random.layers()) REQUIRE(closed.vertices(l++) == random.vertices(label));
  }
}

TEST_CASE("an unchecked edge that does not lead up keeps a LabeledDAG from becoming a LayeredGraph") {
  LabeledDAG dag;
  dag.add_vertices(2, 0);
  dag.add_vertices(2, 1);
  dag.add_edges_from({{0, 2}, {3, 1}}, {.unchecked = true});
  REQUIRE(dag.layer_connection_size(0, 1) == 1);
  require_error([&] { dag.layered(); }, {"LayeredGraph: edges lead to higher layers (3 in 1, 1 in 0)"});
  LabeledDAG front;
  front.add_vertices(2);
  require_error([&] { front.append(dag); }, {"LabeledDAG: edges lead to higher layers"});
  REQUIRE(front.vertex_count() == 2);
}

TEST_CASE("append refuses what does not fit, and changes nothing") {
  Rng rng(3);
  const LabeledDAG fits = ld_random({3, 2}, 0.5f, rng), single = ld_random({3}, 0, rng);
  LabeledDAG dag;
  require_error([&] { dag.append(fits); }, {"append: needs a vertex, and two layers to append (0 vertices, 2 layers)"});
  dag.add_vertices(3, 4);
  const LabeledDAG before = dag;
  require_error([&] { dag.append(single); }, {"append: needs a vertex, and two layers"});
  require_error([&] { dag.append(LabeledDAG()); }, {"append: needs a vertex, and two layers"});
  require_error(
      [&] {
        dag.append(ld_random({2, 3}, 0.5f, rng));
      },
      {"append: the layers to be joined differ in size (3 and 2)"});
  LabeledDAG later;
  later.add_vertices(3, 1);
  later.add_vertices(3, 2);
  require_error([&] { dag.append(later); }, {"append: layers to append begin with 0 (1)"});
  LabeledDAG far;
  far.add_vertices(3, 0);
  far.add_vertices(3, (std::int64_t{1} << 31) - 3);
  require_error([&] { dag.append(far); }, {"LabeledDAG: a layer is"});
  REQUIRE(dag == before);
  dag.append(fits);
  REQUIRE(dag.layers() == LdIds{4, 5});
}

TEST_CASE("append joins the last layer and the first, also of a graph and itself") {
  LabeledDAG dag;
  dag.add_vertices(2, 0);
  dag.add_vertices(1, 4);
  dag.add_vertices(2, 2);
  dag.add_vertex(4);
  dag.add_edges_from({{0, 2}, {1, 3}, {3, 5}, {0, 5}});
  dag.append(dag);
  REQUIRE(dag.layers() == LdIds{0, 2, 4, 6, 8});
  REQUIRE(dag.vertices(4) == LdIds{2, 5});
  REQUIRE(dag.vertices(6) == LdIds{6, 7});
  REQUIRE(dag.vertices(8) == LdIds{8, 9});
  REQUIRE(dag.edge_count() == 8);
  // 0 1 became 2 5, the layer of 3 4 became 6 7, that of 2 5 became 8 9
  for (const auto& [u, v] : LdEdges{{2, 8}, {5, 6}, {6, 9}, {2, 9}})
    REQUIRE(dag.graph().find_edge(static_cast<Vertex>(u), static_cast<Vertex>(v)) >= 0);
}

TEST_CASE("LabeledDAG grows in linear time") {
  LabeledDAG dag;
  constexpr std::int64_t n = 200'000;
  for (std::int64_t v = 0; v < n; ++v) dag.add_vertex(v);
  for (std::int64_t v = 0; v + 1 < n; ++v) {
    if (v % 2)
      dag.add_edge(v, v + 1);
    else
      dag.add_edges_from({{v, v + 1}});
  }
  REQUIRE(dag.edge_count() == n - 1);
  REQUIRE(dag.num_layers() == n);
  REQUIRE(dag.layered().num_layers() == n);
  const LabeledDAG tail = [] {
    LabeledDAG two;
    two.add_edge(0, 1);
    return two;
  }();
  for (int k = 0; k < 20'000; ++k) dag.append(tail);
  REQUIRE(dag.last_layer() == n - 1 + 20'000);
}

TEST_CASE("LabeledDAG is a value, and may be asked by any threads", "[threads]") {
  Rng rng(4);
  const LabeledDAG dag = ld_random({4, 3, 5, 2}, 0.4f, rng);
  std::vector<char> right(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t k = 0; k < right.size(); ++k)
    threads.emplace_back([&, k] {
      LabeledDAG copy = dag;
      copy.add_edge(0, 99, {.target_layer = 8});
      const LayeredGraph layered = dag;
      right[k] = dag.num_layers() == 4 && copy.num_layers() == 5 && layered.num_layers() == 4 &&
                 dag.layer_connection_size(0, 1) == layered.layer_connection_size(0, 1);
    });
  for (std::thread& t : threads) t.join();
  REQUIRE(right == std::vector<char>(4, 1));
}

// ---- the tests of Python deepstruct, by name
// -------------------------------------------------------------------------

TEST_CASE("test_LabeledDAG: test_add_single") {
  LabeledDAG dag;
  dag.add_node(5);
  REQUIRE(dag.vertex_count() == 1);
  REQUIRE(dag.contains(0));
  REQUIRE_FALSE(dag.contains(5));
  REQUIRE(dag.edge_count() == 0);
  REQUIRE(dag.num_layers() == 1);
}

TEST_CASE("test_LabeledDAG: test_add_two_separate_nodes") {
  LabeledDAG dag;
  dag.add_node(2);
  dag.add_node(17);
  REQUIRE(dag.vertex_count() == 2);
  REQUIRE(dag.vertices(0) == LdIds{0, 1});
  REQUIRE(dag.edge_count() == 0);
  REQUIRE(dag.num_layers() == 1);
}

TEST_CASE("test_LabeledDAG: test_add_two_connected_nodes") {
  for (const std::int64_t a : {2, 3, 4})
    for (const std::int64_t b : {2, 3, 4}) {
      LabeledDAG dag;
      dag.add_edge(a, b);
      REQUIRE(dag.vertex_count() == 2);
      REQUIRE(dag.edge_count() == 1);
      REQUIRE(dag.num_layers() == 2);
    }
}

TEST_CASE("test_LabeledDAG: test_cycle") {
  LabeledDAG dag;
  dag.add_edge(0, 1);
  dag.add_edge(1, 2);
  REQUIRE_THROWS_AS(dag.add_edge(2, 0), Error);
  REQUIRE(dag.vertex_count() == 3);
  REQUIRE(dag.edge_count() == 2);
  REQUIRE(dag.num_layers() == 3);
}

TEST_CASE("test_LabeledDAG: test_add_two_layers") {
  for (std::int64_t n0 = 2; n0 < 10; ++n0)
    for (std::int64_t n1 = 2; n1 < 10; ++n1) {
      LabeledDAG dag;
      const std::int64_t first0 = dag.add_vertices(n0, 0), first1 = dag.add_vertices(n1, 1);
      for (std::int64_t u = 0; u < n0; ++u) {
        LdEdges edges;
        for (std::int64_t v = 0; v < n1; ++v) edges.emplace_back(first0 + u, first1 + v);
        dag.add_edges_from(edges);
      }
      REQUIRE(dag.vertex_count() == n0 + n1);
      REQUIRE(dag.edge_count() == n0 * n1);
      REQUIRE(dag.num_layers() == 2);
    }
}

TEST_CASE("test_LabeledDAG: test_add_two_layers_crossing") {
  LdEdges edges;
  for (std::int64_t u = 0; u < 4; ++u)
    for (std::int64_t v = 0; v < 9; ++v) edges.emplace_back(u, v);
  LabeledDAG dag;
  REQUIRE_THROWS_AS(dag.add_edges_from(edges), Error);
  REQUIRE(dag.vertex_count() == 0);
  REQUIRE_NOTHROW(dag.add_edges_from(edges, {.unchecked = true}));
  REQUIRE(dag.edge_count() > 0);
}

TEST_CASE("test_LabeledDAG: test_multiple_large_layers") {
  Rng rng(5);
  const LdIds sizes = ld_sizes(15, 20, 50, 100, rng);
  const auto [dag, edges] = ld_large(sizes, rng);
  REQUIRE(dag.vertex_count() == std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
  REQUIRE(dag.edge_count() == edges);
  REQUIRE(dag.num_layers() == static_cast<std::int64_t>(sizes.size()));
}

TEST_CASE("test_LabeledDAG: test_append_simple") {
  Rng rng(6);
  LabeledDAG dag = ld_random({3, 5}, 0.5f, rng);
  const LabeledDAG other = ld_random({5, 4}, 0.5f, rng);
  const std::int64_t edges = dag.edge_count();
  dag.append(other);
  REQUIRE(dag.vertex_count() == 3 + 5 + 4);
  REQUIRE(dag.edge_count() == edges + other.edge_count());
  REQUIRE(dag.layer_connection_size(1, 2) == other.edge_count());
}

TEST_CASE("test_LabeledDAG: test_append_multiple_large_layers") {
  Rng rng(7);
  const LdIds sizes = ld_sizes(10, 20, 50, 100, rng);
  LdIds more = ld_sizes(10, 20, 50, 100, rng);
  more[0] = sizes.back();
  auto [dag, edges] = ld_large(sizes, rng);
  const auto [other, other_edges] = ld_large(more, rng);
  const std::int64_t vertices = dag.vertex_count(), layers = dag.num_layers();
  dag.append(other);
  REQUIRE(dag.vertex_count() == vertices + other.vertex_count() - more[0]);
  REQUIRE(dag.edge_count() == edges + other_edges);
  REQUIRE(dag.num_layers() == layers + other.num_layers() - 1);
}

TEST_CASE("a graph that was moved from is empty") {
  LabeledDAG dag;
  dag.add_vertices(3);
  const LabeledDAG taken = std::move(dag);
  REQUIRE(taken.vertex_count() == 3);
  REQUIRE(dag.graph().vertex_count() == 0);  // NOLINT: that is the question
  Graph g(4, {{0, 1}});
  const Graph there = std::move(g);
  REQUIRE(g.vertex_count() == 0);  // NOLINT
  REQUIRE(there.vertex_count() == 4);
}
