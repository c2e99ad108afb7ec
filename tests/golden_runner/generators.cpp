// graph.generators: generators of graphs, edge for edge where nothing is random, by their statistics where it is.
// Q35 is fixed here: watts_strogatz_graph with k < 2 keeps its vertices, probabilities outside [0, 1] are errors.
#include <algorithm>
#include <optional>
#include <queue>

#include "families.hpp"

#include "deepstruct/graph/random_graphs.hpp"

namespace golden {

namespace {

using Generator = std::function<ds::Graph(const Json&, ds::Rng&)>;

std::int64_t integer(const Json& params, const char* key) { return params.at(key).get<std::int64_t>(); }
double real(const Json& params, const char* key) { return to_number(params.at(key)); }

ds::Graph make_grid(const Json& params, ds::Rng&) {
  const Json periodic = params.value("periodic", Json(false));
  const std::int64_t rows = integer(params, "m"), columns = integer(params, "n");
  if (periodic.is_array()) return ds::grid_2d_graph(rows, columns, periodic.get<std::array<bool, 2>>());
  return ds::grid_2d_graph(rows, columns, periodic.get<bool>());
}

const std::map<std::string, Generator> generators = {
    {"balanced_tree", [](const Json& p, ds::Rng&) { return ds::balanced_tree(integer(p, "r"), integer(p, "h")); }},
    {"full_rary_tree", [](const Json& p, ds::Rng&) { return ds::full_rary_tree(integer(p, "r"), integer(p, "n")); }},
    {"path_graph", [](const Json& p, ds::Rng&) { return ds::path_graph(integer(p, "n")); }},
    {"cycle_graph", [](const Json& p, ds::Rng&) { return ds::cycle_graph(integer(p, "n")); }},
    {"star_graph", [](const Json& p, ds::Rng&) { return ds::star_graph(integer(p, "n")); }},
    {"complete_graph", [](const Json& p, ds::Rng&) { return ds::complete_graph(integer(p, "n")); }},
    {"grid_2d_graph", make_grid},
    {"watts_strogatz_graph",
     [](const Json& p, ds::Rng& rng) {
       return ds::watts_strogatz_graph(integer(p, "n"), integer(p, "k"), real(p, "p"), rng);
     }},
    {"newman_watts_strogatz_graph",
     [](const Json& p, ds::Rng& rng) {
       return ds::newman_watts_strogatz_graph(integer(p, "n"), integer(p, "k"), real(p, "p"), rng);
     }},
    {"connected_watts_strogatz_graph",
     [](const Json& p, ds::Rng& rng) {
       return ds::connected_watts_strogatz_graph(integer(p, "n"), integer(p, "k"), real(p, "p"),
                                                 p.value("tries", std::int64_t{100}), rng);
     }},
    {"gnp_random_graph",
     [](const Json& p, ds::Rng& rng) {
       return ds::gnp_random_graph(integer(p, "n"), real(p, "p"), p.value("directed", false), rng);
     }},
    {"erdos_renyi_graph",
     [](const Json& p, ds::Rng& rng) {
       return ds::erdos_renyi_graph(integer(p, "n"), real(p, "p"), p.value("directed", false), rng);
     }},
    {"gnm_random_graph",
     [](const Json& p, ds::Rng& rng) { return ds::gnm_random_graph(integer(p, "n"), integer(p, "m"), rng); }},
    {"barabasi_albert_graph",
     [](const Json& p, ds::Rng& rng) { return ds::barabasi_albert_graph(integer(p, "n"), integer(p, "m"), rng); }},
    {"random_regular_graph",
     [](const Json& p, ds::Rng& rng) { return ds::random_regular_graph(integer(p, "d"), integer(p, "n"), rng); }},
};

ds::Graph generate(const Case& c, ds::Rng& rng) {
  return find_runner(generators, "generator", c.text("generator"))(c["params"], rng);
}

/// Q35: upstream loses all vertices.
bool loses_vertices(const Case& c) {
  return c.text("generator") == "watts_strogatz_graph" && integer(c["params"], "k") < 2 &&
         integer(c["params"], "k") < integer(c["params"], "n");
}

/// A vertex as the file names it: a number, or [row, column].
Json name_of(const ds::Graph& g, ds::Vertex v) {
  if (!g.vertex_attributes().contains("row")) return v;
  return {*g.vertex_attributes().get<std::int64_t>("row", v), *g.vertex_attributes().get<std::int64_t>("column", v)};
}

void run_deterministic(Case& c) {
  ds::Rng rng(1);
  const ds::Graph g = generate(c, rng);
  c.expect(g.directed() == c.data().value("directed", false), "directed: expected the opposite");
  Json nodes = Json::array(), edges = Json::array();
  for (ds::Vertex v = 0; v < g.vertex_count(); ++v) nodes.push_back(name_of(g, v));
  for (const ds::Edge& e : g.edges()) edges.push_back({name_of(g, e.source), name_of(g, e.target)});
  if (loses_vertices(c))
    c.equal("number of nodes", real(c["params"], "n"), static_cast<double>(g.vertex_count()));
  else
    c.expect(nodes == c["nodes"], "nodes: expected " + c["nodes"].dump() + ", got " + nodes.dump());
  c.expect(edges == c["edges"], "edges: expected " + c["edges"].dump() + ", got " + edges.dump());
}

void run_parameter_check(Case& c) {
  ds::Rng rng(1);
  const bool refused = c["params"].contains("p") && !(real(c["params"], "p") >= 0 && real(c["params"], "p") <= 1);
  if (refused || c.has("error")) {  // Q35: upstream takes any p
    c.throws("parameters", [&] { generate(c, rng); });
    return;
  }
  const ds::Graph g = generate(c, rng);
  const double nodes = loses_vertices(c) ? real(c["params"], "n") : to_number(c["nodes"]);
  c.equal("nodes", nodes, static_cast<double>(g.vertex_count()));
  c.equal("edges", to_number(c["edges"]), static_cast<double>(g.edge_count()));
}

// ---- statistics

/// Neighbours of every vertex.
using Neighbours = std::vector<std::set<ds::Vertex>>;

Neighbours neighbours_of(const ds::Graph& g) {
  Neighbours all(static_cast<std::size_t>(g.vertex_count()));
  for (const ds::Edge& e : g.edges()) {
    all[static_cast<std::size_t>(e.source)].insert(e.target);
    all[static_cast<std::size_t>(e.target)].insert(e.source);
  }
  return all;
}

/// Mean over all vertices of the share of pairs of neighbours that are joined.
double average_clustering(const Neighbours& of) {
  double sum = 0;
  for (const auto& mine : of) {
    double joined = 0;
    for (const ds::Vertex a : mine)
      for (const ds::Vertex b : mine) joined += static_cast<double>(of[static_cast<std::size_t>(a)].count(b));
    const auto degree = static_cast<double>(mine.size());
    if (degree > 1) sum += joined / (degree * (degree - 1));
  }
  return sum / static_cast<double>(of.size());
}

/// Mean distance of all ordered pairs, nothing if some vertex cannot be reached.
std::optional<double> average_path(const Neighbours& of) {
  double sum = 0;
  for (std::size_t s = 0; s < of.size(); ++s) {
    std::vector<int> distance(of.size(), -1);
    std::queue<std::size_t> queue({s});
    distance[s] = 0;
    for (; !queue.empty(); queue.pop()) {
      sum += distance[queue.front()];
      for (const ds::Vertex v : of[queue.front()]) {
        int& d = distance[static_cast<std::size_t>(v)];
        if (d >= 0) continue;
        d = distance[queue.front()] + 1;
        queue.push(static_cast<std::size_t>(v));
      }
    }
    if (std::find(distance.begin(), distance.end(), -1) != distance.end()) return std::nullopt;
  }
  const auto n = static_cast<double>(of.size());
  return sum / (n * (n - 1));
}

/// What was measured on the samples, by the name that the file gives it.
using Measured = std::map<std::string, std::vector<double>>;

void measure(Measured& measured, const ds::Graph& g, const Neighbours& of) {
  std::vector<double> degrees;
  for (const auto& mine : of) degrees.push_back(static_cast<double>(mine.size()));
  const auto n = static_cast<double>(degrees.size());
  const double mean = std::accumulate(degrees.begin(), degrees.end(), 0.0) / n;
  double squares = 0;
  for (const double d : degrees) squares += (d - mean) * (d - mean);
  measured["edges"].push_back(static_cast<double>(g.edge_count()));
  measured["average_clustering"].push_back(average_clustering(of));
  measured["max_degree"].push_back(*std::max_element(degrees.begin(), degrees.end()));
  measured["min_degree"].push_back(*std::min_element(degrees.begin(), degrees.end()));
  measured["degree_variance"].push_back(squares / n);
  if (const auto path = average_path(of)) measured["average_shortest_path_length_connected_only"].push_back(*path);
}

double mean_of(const std::vector<double>& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}
double variance_of(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += (v - mean_of(x)) * (v - mean_of(x));
  return sum / static_cast<double>(x.size() - 1);
}

/// The ring where every vertex is joined to the ⌊k/2⌋ next.
bool contains_ring(const Neighbours& of, std::int64_t k) {
  const auto n = static_cast<std::int64_t>(of.size());
  for (std::int64_t u = 0; u < n; ++u)
    for (std::int64_t j = 1; j <= k / 2; ++j)
      if (!of[static_cast<std::size_t>(u)].contains(static_cast<ds::Vertex>((u + j) % n))) return false;
  return true;
}
/// Among the vertices 0 … m there are the edges 0 – 1 … m only.
bool starts_as_star(const ds::Graph& g, std::int64_t m) {
  std::vector<ds::Edge> first;
  for (const ds::Edge& e : g.edges())
    if (e.target <= m) first.push_back(e);
  return static_cast<std::int64_t>(first.size()) == m &&
         std::all_of(first.begin(), first.end(), [](const ds::Edge& e) { return e.source == 0; });
}

/// What holds for one graph; true for the invariants that concern all samples together.
bool holds(const std::string& name, const Json& value, const ds::Graph& g, const Neighbours& of, const Json& params) {
  const auto edges = static_cast<double>(g.edge_count());
  if (name == "edges_exact") return edges == to_number(value);
  if (name == "edges_min") return edges >= to_number(value);
  if (name == "edges_max") return edges <= to_number(value);
  if (name == "min_degree_at_least")
    return std::all_of(of.begin(), of.end(),
                       [&](const auto& mine) { return static_cast<double>(mine.size()) >= to_number(value); });
  if (name == "no_self_loops")
    return std::none_of(g.edges().begin(), g.edges().end(), [](const ds::Edge& e) { return e.source == e.target; });
  if (name == "no_parallel_edges")
    return std::set<ds::Edge>(g.edges().begin(), g.edges().end()).size() == g.edges().size();
  if (name == "contains_ring_lattice") return contains_ring(of, integer(params, "k"));
  if (name == "connected") return average_path(of).has_value();
  if (name == "initial_graph" && value.get<std::string>().starts_with("star_graph(m)"))
    return starts_as_star(g, integer(params, "m"));
  ds::check(name.ends_with("_theory") || name.ends_with("_approx"), "golden: unknown invariant (", name, ")");
  return true;
}

void run_statistics(Case& c) {
  constexpr int samples = 200;
  const Json& reference = c["statistics"];
  Measured measured;
  std::set<std::string> broken;
  ds::Rng rng(1);
  for (int s = 0; s < samples; ++s) {
    const ds::Graph g = generate(c, rng);
    const Neighbours of = neighbours_of(g);
    measure(measured, g, of);
    for (const auto& [name, value] : c["invariants"].items())
      if (!holds(name, value, g, of, c["params"]) && broken.insert(name).second)
        c.mismatch(name + ": expected " + value.dump() + ", sample " + std::to_string(s) + " differs");
  }

  const auto near = [&](const std::string& what, double expected, double got, double deviation) {
    c.close(what, expected, got, {0, 5 * deviation + 1e-9});
  };
  for (const auto& [name, x] : measured) {
    const Json& want = reference.at(name);
    const double n = to_number(want.at("n")), var = n > 1 ? to_number(want.at("var")) : 0;
    if (n > 1)
      near(name, to_number(want.at("mean")), mean_of(x), std::sqrt(var / static_cast<double>(x.size()) + var / n));
  }
  // A share of samples; one more of each kind, so that none of few does not mean never.
  const double seeds = to_number(reference.at("seeds")), connected = to_number(reference.at("connected_count"));
  const double share = (connected + 1) / (seeds + 2);
  near("share of connected graphs", connected / seeds,
       static_cast<double>(measured["average_shortest_path_length_connected_only"].size()) / samples,
       std::sqrt(share * (1 - share) * (1 / seeds + 1.0 / samples)));
  const double edges_var = variance_of(measured["edges"]);
  c.expect((edges_var == 0) == reference.at("edges_constant").get<bool>(), "edges_constant: expected the opposite");

  const Json& invariants = c["invariants"];
  const double deviation = std::sqrt(to_number(reference.at("edges").at("var")) / samples);
  for (const char* key : {"edges_mean_theory", "edges_expected_approx"})
    if (invariants.contains(key)) near(key, to_number(invariants.at(key)), mean_of(measured["edges"]), deviation);
  if (invariants.contains("edges_var_theory")) {  // of a nearly normal variable
    const double var = to_number(invariants.at("edges_var_theory"));
    near("edges_var_theory", var, edges_var, var * std::sqrt(2.0 / (samples - 1)));
  }
}

const std::map<std::string, Runner> generator_kinds = {
    {"deterministic", run_deterministic}, {"statistics", run_statistics}, {"parameter_check", run_parameter_check}};

}  // namespace

void run_generators(Case& c) { find_runner(generator_kinds, "kind", c.text("kind"))(c); }

}  // namespace golden
