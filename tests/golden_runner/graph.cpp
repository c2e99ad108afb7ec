// graph/layer_index.json, graph/api.json, graph/labeled_dag.json.

#include "graph.hpp"

#include <regex>

#include "deepstruct/graph/labeled_dag.hpp"
#include "families.hpp"

namespace golden {

namespace {

using Ids = std::vector<std::int64_t>;
using IdEdges = std::vector<ds::LayeredGraph::IdEdge>;

template <class T>
void same(Case& c, const std::string& what, const Json& expected, const T& got) {
  c.expect(expected == Json(got), what + ": expected " + expected.dump() + ", got " + Json(got).dump());
}

}  // namespace

IdEdges to_edges(const Json& edges) {
  IdEdges all;
  for (const Json& e : edges) all.emplace_back(e.at(0).get<std::int64_t>(), e.at(1).get<std::int64_t>());
  return all;
}

IdEdges edges_in_order(const ds::LayeredGraph& graph) {
  ds::Graph sorted = graph.graph();
  sorted.sort_edges();
  IdEdges all;
  for (const ds::Edge& e : sorted.edges()) all.emplace_back(graph.id(e.source), graph.id(e.target));
  return all;
}

ds::LayeredGraph feed_graph(const Json& data) {
  ds::LayeredGraph graph;
  if (!data.contains("nodes_fed")) {
    graph.add_nodes_from(data.at("structure").at("node_order").get<Ids>());
    graph.add_edges_from(to_edges(data.at("structure").at("edges")));
  } else if (data.at("feed") == "edges_then_nodes") {
    graph.add_edges_from(to_edges(data.at("edges_fed")));
    graph.add_nodes_from(data.at("nodes_fed").get<Ids>());
  } else {
    graph.add_nodes_from(data.at("nodes_fed").get<Ids>());
    graph.add_edges_from(to_edges(data.at("edges_fed")));
  }
  return graph;
}

void check_layers(Case& c, const ds::LayeredGraph& graph, const Json& expected) {
  Ids nodes;
  for (ds::Vertex v = 0; v < graph.vertex_count(); ++v) nodes.push_back(graph.id(v));
  same(c, "node_order", expected.at("node_order"), nodes);
  const IdEdges edges = edges_in_order(graph);
  same(c, "edge_order", expected.at("edge_order"), edges);
  // The layer query succeeds, so self loops are the only cycles.
  const bool loops = std::any_of(edges.begin(), edges.end(), [](const auto& e) { return e.first == e.second; });
  same(c, "has_self_loops", expected.at("has_self_loops"), loops);
  same(c, "is_dag", expected.at("is_dag"), !loops);

  same(c, "layers", expected.at("layers"), graph.layers());
  same(c, "num_layers", expected.at("num_layers"), graph.num_layers());
  same(c, "first_layer", expected.at("first_layer"), graph.first_layer());
  same(c, "last_layer", expected.at("last_layer"), graph.last_layer());
  same(c, "first_layer_size", expected.at("first_layer_size"), graph.first_layer_size());
  same(c, "last_layer_size", expected.at("last_layer_size"), graph.last_layer_size());
  Json layer_of_vertex = Json::array(), sizes = Json::array(), by_layer = Json::array();
  for (const std::int64_t id : nodes) layer_of_vertex.push_back({id, graph.layer(id)});
  for (const std::int64_t l : graph.layers()) {
    const Ids vertices = graph.vertices(l);
    sizes.push_back(graph.layer_size(l));
    by_layer.push_back(vertices);
    for (std::size_t k = 0; k < vertices.size(); ++k)
      c.expect(graph.index_in_layer(vertices[k]) == static_cast<std::int64_t>(k),
               "index_in_layer(" + std::to_string(vertices[k]) + "): expected " + std::to_string(k));
  }
  same(c, "layer_of_vertex", expected.at("layer_of_vertex"), layer_of_vertex);
  same(c, "layer_sizes", expected.at("layer_sizes"), sizes);
  same(c, "vertices_by_layer", expected.at("vertices_by_layer_ascending_dfs"), by_layer);

  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> connections;
  for (const Json& entry : expected.at("layer_connections"))
    connections[{entry.at(0).get<std::int64_t>(), entry.at(1).get<std::int64_t>()}] = entry.at(2).get<std::int64_t>();
  for (std::int64_t a = 0; a < graph.num_layers(); ++a)
    for (std::int64_t b = 0; b < graph.num_layers(); ++b) {
      const std::string pair = "(" + std::to_string(a) + ", " + std::to_string(b) + ")";
      if (a == b) {
        c.throws("layer_connection_size" + pair, [&] { graph.layer_connection_size(a, b); });
        continue;
      }
      const auto found = connections.find(std::minmax(a, b));
      const std::int64_t size = found == connections.end() ? 0 : found->second;
      c.expect(graph.layer_connection_size(a, b) == size,
               "layer_connection_size" + pair + ": expected " + std::to_string(size));
      c.expect(graph.layer_connected(a, b) == (size > 0), "layer_connected" + pair + ": expected the opposite");
    }
}

// ---- graph.layer_index
// -----------------------------------------------------------------------------------------------

namespace {

/// Do the edges form one path through all nodes?
bool is_path(const Json& data) {
  std::map<std::int64_t, std::int64_t> next;
  std::set<std::int64_t> starts;
  for (const Json& v : data.at("nodes_fed")) starts.insert(v.get<std::int64_t>());
  const std::size_t n = starts.size();
  for (const auto& [u, v] : to_edges(data.at("edges_fed"))) {
    if (!next.emplace(u, v).second) return false;
    starts.erase(v);
  }
  if (starts.size() != 1) return false;
  std::size_t met = 1;
  for (auto at = next.find(*starts.begin()); at != next.end() && met <= n; at = next.find(at->second)) ++met;
  return met == n;
}

/// Upstream's recursion ends at some 500 vertices (Q3): a path has as many layers as vertices however long it is.
void check_long_path(Case& c, const ds::LayeredGraph& graph) {
  const std::int64_t n = c["node_count"].get<std::int64_t>();
  c.equal("num_layers", static_cast<double>(n), static_cast<double>(graph.num_layers()));
  const IdEdges edges = to_edges(c["edges_fed"]);
  for (const auto& [u, v] : edges)
    c.expect(graph.layer(v) == graph.layer(u) + 1, "layer of " + std::to_string(v) + ": expected the next one");
}

}  // namespace

void run_layer_index(Case& c) {
  const ds::LayeredGraph graph = feed_graph(c.data());
  c.equal("node_count", c["node_count"].get<double>(), static_cast<double>(graph.vertex_count()));
  if (c.has("error")) {
    if (is_path(c.data())) return check_long_path(c, graph);
    c.throws("layers of a graph with a cycle", [&] { graph.layers(); });
    c.throws("layers of a graph with a cycle, asked again", [&] { graph.layer_size(0); });
    return;
  }
  check_layers(c, graph, c["expected"]);
  if (c.text("feed") != "load_from") return;
  // load_from takes an undirected graph of which it orients every edge early -> late (Q1), however it was given.
  std::vector<ds::Edge> edges;
  for (const auto& [u, v] : to_edges(c["edges_fed"]))
    edges.push_back(
        {static_cast<ds::Vertex>(edges.size() % 2 ? v : u), static_cast<ds::Vertex>(edges.size() % 2 ? u : v)});
  const ds::Graph undirected(graph.vertex_count(), edges);
  check_layers(c, ds::LayeredGraph::load_from(undirected), c["expected"]);
}

// ---- graph.api
// -------------------------------------------------------------------------------------------------------

namespace {

/// Edges after "edges" in a description: "[(0, 1), (1, 2)]".
IdEdges described_edges(const std::string& text) {
  static const std::regex pair(R"(\((\d+), (\d+)\))");
  IdEdges edges;
  for (std::sregex_iterator at(text.begin(), text.end(), pair), end; at != end; ++at)
    edges.emplace_back(std::stoll((*at)[1]), std::stoll((*at)[2]));
  ds::check(!edges.empty(), "golden: no edges in the description (", text, ")");
  return edges;
}

ds::LayeredGraph graph_of(const IdEdges& edges) {
  ds::LayeredGraph graph;
  graph.add_edges_from(edges);
  return graph;
}

Json sizes_of(const ds::LayeredGraph& graph) {
  Json sizes = Json::array();
  for (const std::int64_t l : graph.layers()) sizes.push_back(graph.layer_size(l));
  return sizes;
}

void run_empty(Case& c) {
  const ds::LayeredGraph empty;
  if (c.has("error")) {
    const std::map<std::string, std::function<void()>> queries = {
        {"empty_first_layer", [&] { empty.first_layer(); }},
        {"empty_last_layer", [&] { empty.last_layer(); }},
        {"empty_first_layer_size", [&] { empty.first_layer_size(); }},
        {"empty_last_layer_size", [&] { empty.last_layer_size(); }},
    };
    return c.throws(c.text("id"), find_runner(queries, "query", c.text("id")));
  }
  same(c, "layers", c["result"].at("layers"), empty.layers());
  same(c, "num_layers", c["result"].at("num_layers"), empty.num_layers());
}

/// "layer_connected(1,1) with edges [...]": the query must throw, as a query and between two that succeed.
void run_bad_query(Case& c) {
  static const std::regex call(R"((\w+)\((\d+)(?:,(\d+))?\) with edges .*)");
  const std::string text = c.text("description");
  std::smatch m;
  ds::check(std::regex_match(text, m, call), "golden: not a query (", text, ")");
  ds::check(c.has("error"), "golden: expected a query that fails (", text, ")");
  const ds::LayeredGraph graph = graph_of(described_edges(text));
  const std::int64_t a = std::stoll(m[2]), b = m[3].matched ? std::stoll(m[3]) : 0;
  const std::map<std::string, std::function<void()>> queries = {
      {"layer_connected", [&] { graph.layer_connected(a, b); }},
      {"layer_connection_size", [&] { graph.layer_connection_size(a, b); }},
      {"get_vertices", [&] { graph.vertices(a); }},
      {"get_layer", [&] { graph.layer(a); }},
  };
  c.throws(text, find_runner(queries, "query", m[1]));
  const Json before = sizes_of(graph);
  c.throws(text + ", again", queries.at(m[1]));
  same(c, "layer sizes after the error", before, sizes_of(graph));
}

/// Q4: two equal layers are never connected, whatever their number; upstream compares identities of objects.
void run_same_large_layer(Case& c) {
  const auto n = c["result"].at("path_nodes").get<std::int64_t>(), layer = c["result"].at("layer").get<std::int64_t>();
  ds::LayeredGraph path;
  for (std::int64_t v = 0; v + 1 < n; ++v) path.add_edge(v, v + 1);
  c.equal("num_layers", static_cast<double>(n), static_cast<double>(path.num_layers()));
  c.throws("layer_connected of a layer with itself", [&] { path.layer_connected(layer, layer); });
  c.throws("layer_connection_size of a layer with itself", [&] { path.layer_connection_size(layer, layer); });
  c.expect(path.layer_connected(layer, layer - 1), "layer_connected of neighbours: expected true");
}

/// Vertices are integers: strings and tuples as vertices, errors upstream when layers are asked for, do not compile.
template <class G, class V>
concept TakesEdgesOf = requires(G graph, V v) {
  graph.add_edge(v, v);
};
template <class G, class V>
concept TakesNodesOf = requires(G graph, V v) {
  graph.add_node(v);
};
static_assert(TakesEdgesOf<ds::LayeredGraph, int> && TakesNodesOf<ds::LayeredGraph, int>);
static_assert(!TakesEdgesOf<ds::LayeredGraph, const char*> && !TakesNodesOf<ds::LayeredGraph, const char*>);
static_assert(!TakesEdgesOf<ds::LayeredGraph, std::string> && !TakesNodesOf<ds::LayeredGraph, std::string>);
static_assert(!TakesEdgesOf<ds::LayeredGraph, std::pair<int, int>>);
static_assert(!TakesNodesOf<ds::LayeredGraph, std::pair<int, int>>);
static_assert(!TakesEdgesOf<ds::Graph, std::string> && !TakesEdgesOf<ds::Graph, std::pair<int, int>>);
static_assert(!std::is_constructible_v<ds::Edge, std::string, std::string>);

void run_does_not_compile(Case& c) {
  c.expect(c.has("error"), "expected a case that fails upstream, as it does not compile here");
}

/// Q5: upstream's layers are stale after a removal; here they are those of the graph that is left.
void run_removal(Case& c) {
  const Json& result = c["result"];
  const IdEdges edges = to_edges(result.at("edges"));
  ds::LayeredGraph graph = graph_of(edges), left;
  same(c, "layers_before", result.at("layers_before"), graph.layers());
  const auto gone = to_edges(Json::array({result.at("removed_edge")}))[0];
  graph.remove_edge(gone.first, gone.second);
  c.expect(graph.has_changed(), "has_changed after remove_edge: expected true");
  for (const auto& [u, v] : edges) left.add_nodes_from({u, v});
  for (const auto& e : edges)
    if (e != gone) left.add_edge(e.first, e.second);
  same(c, "layers after remove_edge", Json(left.layers()), graph.layers());
  for (const std::int64_t l : left.layers())
    same(c, "vertices of a layer after remove_edge", Json(left.vertices(l)), graph.vertices(l));
}

/// Keys of the result in order: what was asked, and what was added between ("…_add_node_50", "edge_added").
void run_refresh(Case& c) {
  static const std::regex added_node(R"(.*_after_add_node_(\d+))");
  const Json& result = c["result"];
  ds::LayeredGraph graph = graph_of(to_edges(result.at("edges")));
  c.expect(graph.has_changed(), "has_changed before the first query: expected true");
  for (const auto& [key, expected] : result.items()) {
    std::smatch m;
    if (std::regex_match(key, m, added_node) && !graph.contains(std::stoll(m[1]))) graph.add_node(std::stoll(m[1]));
    if (key == "edges") continue;
    if (key == "edge_added")
      graph.add_edge(expected.at(0).get<std::int64_t>(), expected.at(1).get<std::int64_t>());
    else if (key.starts_with("has_changed"))
      same(c, key, expected, graph.has_changed());
    else if (key.starts_with("layer0"))
      same(c, key, expected, graph.layer_size(0));
    else if (key.starts_with("layers"))
      same(c, key, expected, graph.layers());
    else
      c.mismatch("unknown key " + key);
  }
}

/// Q9: upstream fails on parallel edges; a Graph is simple, what is added again changes nothing.
void run_multigraph(Case& c) {
  c.expect(c.has("error"), "expected a case that fails upstream");
  const ds::Graph at_once(3, std::vector<ds::Edge>{{0, 1}, {1, 0}, {0, 1}, {1, 2}});
  ds::Graph one_by_one(3);
  for (const ds::Edge& e : {ds::Edge{0, 1}, ds::Edge{1, 0}, ds::Edge{0, 1}, ds::Edge{1, 2}})
    one_by_one.add_edge(e.source, e.target);
  for (const ds::Graph& g : {at_once, one_by_one}) {
    const auto graph = ds::LayeredGraph::load_from(g);
    same(c, "edges", Json::parse("[[0, 1], [1, 2]]"), edges_in_order(graph));
    same(c, "layers", Json::parse("[0, 1, 2]"), graph.layers());
  }
}

const std::map<std::string, Runner> api_cases = {
    {"empty_layers", run_empty},
    {"empty_first_layer", run_empty},
    {"empty_last_layer", run_empty},
    {"empty_first_layer_size", run_empty},
    {"empty_last_layer_size", run_empty},
    {"same_layer_connected", run_bad_query},
    {"same_layer_connection_size", run_bad_query},
    {"unknown_layer", run_bad_query},
    {"unknown_vertex", run_bad_query},
    {"layer_connected_unknown", run_bad_query},
    {"string_vertex", run_does_not_compile},
    {"numeric_string_vertex", run_does_not_compile},
    {"tuple_vertex", run_does_not_compile},
    {"stale_after_remove", run_removal},
    {"cache_refresh", run_refresh},
    {"same_layer_large_ints", run_same_large_layer},
    {"load_from_multigraph", run_multigraph},
};

}  // namespace

void run_graph_api(Case& c) { find_runner(api_cases, "behaviour", c.text("id"))(c); }

// ---- graph.labeled_dag
// -----------------------------------------------------------------------------------------------

namespace {

/// Does the edge lead to a higher layer? By the layers of a golden state.
bool all_upward(const Json& state) {
  std::map<std::int64_t, std::int64_t> layer;
  for (const Json& entry : state.at("layer_of_vertex"))
    layer[entry.at(0).get<std::int64_t>()] = entry.at(1).get<std::int64_t>();
  const IdEdges edges = to_edges(state.at("edges"));
  return std::all_of(edges.begin(), edges.end(), [&](const auto& e) { return layer.at(e.first) < layer.at(e.second); });
}

/// Golden layers stand in the order in which they came; here they are ascending (Q8), first and last among them.
void check_state(Case& c, const std::string& what, const ds::LabeledDAG& dag, const Json& state, bool edges_as_set) {
  Ids nodes(static_cast<std::size_t>(dag.vertex_count()));
  std::iota(nodes.begin(), nodes.end(), 0);
  same(c, what + "nodes", state.at("nodes"), nodes);

  ds::Graph sorted = dag.graph();
  sorted.sort_edges();
  IdEdges edges, expected_edges = to_edges(state.at("edges"));
  for (const ds::Edge& e : sorted.edges()) edges.emplace_back(e.source, e.target);
  if (edges_as_set) {
    std::sort(edges.begin(), edges.end());
    std::sort(expected_edges.begin(), expected_edges.end());
  }
  same(c, what + "edges", Json(expected_edges), edges);

  Ids layers = state.at("layers").get<Ids>();
  if (layers.empty()) {
    ds::check(state.at("first_layer").is_null() && state.at("last_layer").is_null(), "golden: a layer of no layers");
    c.throws(what + "first_layer", [&] { dag.first_layer(); });
    c.throws(what + "last_layer", [&] { dag.last_layer(); });
  } else {
    ds::check(state.at("first_layer") == layers.front() && state.at("last_layer") == layers.back(),
              "golden: first and last layer are not those of the list");
    std::sort(layers.begin(), layers.end());
    same(c, what + "first_layer", Json(layers.front()), dag.first_layer());
    same(c, what + "last_layer", Json(layers.back()), dag.last_layer());
  }
  same(c, what + "layers", Json(layers), dag.layers());
  same(c, what + "num_layers", Json(layers.size()), dag.num_layers());
  Json layer_of_vertex = Json::array();
  for (const std::int64_t v : nodes) layer_of_vertex.push_back({v, dag.layer(v)});
  same(c, what + "layer_of_vertex", state.at("layer_of_vertex"), layer_of_vertex);
  std::map<std::int64_t, Ids> by_layer, got;
  for (const Json& entry : state.at("vertices_by_layer"))
    by_layer[entry.at(0).get<std::int64_t>()] = entry.at(1).get<Ids>();
  for (const std::int64_t layer : dag.layers()) got[layer] = dag.vertices(layer);
  c.expect(by_layer == got,
           what + "vertices_by_layer: expected " + state.at("vertices_by_layer").dump() + ", got " + Json(got).dump());
  for (const auto& [layer, vertices] : got) {
    same(c, what + "size of layer " + std::to_string(layer), Json(vertices.size()), dag.layer_size(layer));
    for (std::size_t k = 0; k < vertices.size(); ++k)
      same(c, what + "index_in_layer of " + std::to_string(vertices[k]), Json(k), dag.index_in_layer(vertices[k]));
  }

  // As a LayeredGraph the layers are numbered without gaps (Q16); edges that lead down cannot be in one.
  if (!all_upward(state)) return c.throws(what + "as LayeredGraph", [&] { dag.layered(); });
  const ds::LayeredGraph layered = dag;
  same(c, what + "num_layers as LayeredGraph", Json(by_layer.size()), layered.num_layers());
  std::int64_t l = 0;
  for (const auto& [layer, vertices] : by_layer)
    same(c, what + "layer of LayeredGraph", Json(vertices), layered.vertices(l++));
}

/// What upstream has changed before it failed (Q6) is added, so that the operations that follow find it.
void add_leftovers(ds::LabeledDAG& dag, const Json& state) {
  for (const Json& entry : state.at("layer_of_vertex"))
    if (!dag.contains(entry.at(0).get<std::int64_t>())) dag.add_vertex(entry.at(1).get<std::int64_t>());
  dag.add_edges_from(to_edges(state.at("edges")), {.unchecked = true});
}

ds::LabeledEdgeOptions edge_options(const Json& op) {
  ds::LabeledEdgeOptions options;
  if (op.contains("source_layer")) options.source_layer = op.at("source_layer").get<std::int64_t>();
  if (op.contains("target_layer")) options.target_layer = op.at("target_layer").get<std::int64_t>();
  return options;
}

/// Edges that upstream adds without a check of layers (Q7): refused by default where one does not lead up, added where
/// asked for.
void add_edges(Case& c, const std::string& what, ds::LabeledDAG& dag, const Json& op) {
  const IdEdges edges = to_edges(op.at("edges"));
  ds::LabeledEdgeOptions options = edge_options(op);
  options.unchecked = true;
  ds::LabeledDAG unchecked = dag;
  unchecked.add_edges_from(edges, options);
  const ds::LabeledDAG before = dag;
  const std::span<const ds::Edge> all = unchecked.graph().edges();
  const bool upward = std::all_of(all.begin() + before.edge_count(), all.end(), [&](const ds::Edge& e) {
    return unchecked.layer(e.source) < unchecked.layer(e.target);
  });
  options.unchecked = false;  // edges that exist already may be of either kind: nothing is said about those
  if (upward && before.edge_count() + static_cast<std::int64_t>(edges.size()) == unchecked.edge_count()) {
    dag.add_edges_from(edges, options);
    c.expect(dag == unchecked, what + "expected the same graph with and without a check");
  } else if (!upward) {
    c.throws(what + "checked", [&] { dag.add_edges_from(edges, options); });
    c.expect(dag == before, what + "checked: expected the graph unchanged");
  }
  dag = unchecked;
}

ds::LabeledDAG run_operations(Case& c, const std::string& where, const Json& ops, bool with_states);

/// One operation; returns what it returned, or null.
Json run_operation(Case& c, const std::string& what, ds::LabeledDAG& dag, const Json& op) {
  const auto number = [&](const char* key) { return op.at(key).get<std::int64_t>(); };
  const auto layer = [&] { return op.contains("layer") ? number("layer") : 0; };
  const auto new_vertices = [&](std::int64_t first) {
    Ids ids(static_cast<std::size_t>(dag.vertex_count() - first));
    std::iota(ids.begin(), ids.end(), first);
    return Json(ids);
  };
  const std::map<std::string, std::function<Json()>> operations = {
      {"add_vertex", [&] { return Json(dag.add_vertex(layer())); }},
      {"add_vertices", [&] { return new_vertices(dag.add_vertices(number("n"), layer())); }},
      {"add_node", [&] { return Json(dag.add_node(number("label"), layer())); }},
      {"add_nodes_from", [&] { return new_vertices(dag.add_nodes_from(op.at("labels").get<Ids>())); }},
      {"add_edge",
       [&] {
         const auto [u, v] = dag.add_edge(number("u"), number("v"), edge_options(op));
         const auto edge = dag.graph().find_edge(static_cast<ds::Vertex>(u), static_cast<ds::Vertex>(v));
         c.expect(edge >= 0, what + "expected the edge that add_edge returned");
         return Json();
       }},
      {"add_edges_from", [&] { return add_edges(c, what, dag, op), Json(); }},
      {"append",
       [&] {
         const ds::LabeledDAG other = run_operations(c, what, op.at("other"), false);
         check_state(c, what + "other: ", other, op.at("other_state"), false);
         return dag.append(other), Json();
       }},
      {"index_in_layer", [&] { return Json(dag.index_in_layer(number("vertex"))); }},
      {"layer_connection_size", [&] { return Json(dag.layer_connection_size(number("a"), number("b"))); }},
      {"layer_connected", [&] { return Json(dag.layer_connected(number("a"), number("b"))); }},
  };
  return find_runner(operations, "operation", op.at("op").get<std::string>())();
}

/// Runs operations, each of which must return, or fail, as recorded and leave the recorded state.
ds::LabeledDAG run_operations(Case& c, const std::string& where, const Json& ops, bool with_states) {
  ds::LabeledDAG dag;
  bool appended = false;
  for (std::size_t k = 0; k < ops.size(); ++k) {
    const Json& op = ops[k];
    const std::string what = where + "#" + std::to_string(k) + " " + op.at("op").get<std::string>() + ": ";
    appended = appended || op.at("op") == "append";
    if (op.at("error").is_null()) {
      const Json returned = run_operation(c, what, dag, op);
      if (op.contains("returns")) same(c, what + "returns", op.at("returns"), returned);
    } else {
      const ds::LabeledDAG before = dag;
      c.throws(what + "error", [&] { run_operation(c, what, dag, op); });
      c.expect(dag == before, what + "after the error: expected the graph unchanged");
      if (with_states) add_leftovers(dag, op.at("state"));
    }
    if (with_states) check_state(c, what, dag, op.at("state"), appended);
  }
  return dag;
}

}  // namespace

void run_labeled_dag(Case& c) {
  check_state(c, "initially: ", ds::LabeledDAG(), c["initial_state"], false);
  run_operations(c, "", c["ops"], true);
}

}  // namespace golden
