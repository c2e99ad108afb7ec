// graph.graphml: read_graphml and write_graphml against NetworkX, and what LayeredGraph.load made of the same file.
#include "families.hpp"
#include "graph.hpp"

#include "deepstruct/io/graphml.hpp"

namespace golden {

namespace {

/// The layers of the loaded graph, against "expected", or the error of asking for them.
void check_layers(Case& c, const ds::Graph& g) {
  if (!c["error"].is_null()) return c.throws("layers", [&] { ds::LayeredGraph(g).first_layer(); });
  check_layers(c, ds::LayeredGraph(g), c["expected"]);
}

/// A value as NetworkX had it: GraphML's float and double are both Python's float.
Json json_of(const ds::AttributeTable::Value& value) {
  return std::visit([](const auto& x) { return Json(x); }, value);
}

/// Every attribute of NetworkX, and of ours only defaults besides.
void check_attributes(Case& c, const std::string& where, const Json& expected, const ds::AttributeTable& got,
                      std::int64_t place, const Json& defaults) {
  for (const auto& [name, value] : expected.items()) {
    const auto ours = got.value(name, place);
    c.expect(ours && json_of(*ours) == value && json_of(*ours).is_number_float() == value.is_number_float(),
             where + " " + name + ": expected " + value.dump() + ", got " + (ours ? json_of(*ours).dump() : "nothing"));
  }
  for (const std::string& name : got.names()) {
    const auto ours = got.value(name, place);
    if (!ours || expected.contains(name)) continue;
    c.expect(defaults.contains(name) && json_of(*ours) == defaults.at(name),
             where + " " + name + ": expected nothing, got " + json_of(*ours).dump());
  }
}

/// What nx.read_graphml gave: ids in the order of nodes, edges in its order of iteration, attributes with types.
void check_networkx(Case& c, ds::Graph g) {
  const Json& expected = c["networkx"];
  c.expect(g.directed() == expected.at("directed").get<bool>(), "directed: expected " + expected.at("directed").dump());
  const auto ids = expected.at("node_ids").get<std::vector<std::string>>();
  std::vector<std::string> got;
  const bool kept = g.vertex_attributes().contains("id");
  for (std::int64_t v = 0; v < g.vertex_count(); ++v)
    got.push_back(kept ? g.vertex_attributes().get<std::string>("id", v).value_or("") : std::to_string(v));
  c.equal("node_ids", ids, got);
  if (ids != got) return;
  g.vertex_attributes().erase("id");

  // Known: NetworkX does not apply defaults.
  const Json defaults = c.text("id") == "hand_edges_before_nodes" ? Json{{"size", 7}} : Json::object();
  for (std::size_t v = 0; v < ids.size(); ++v)
    check_attributes(c, ids[v], expected.at("node_attributes")[v][1], g.vertex_attributes(),
                     static_cast<std::int64_t>(v), defaults);
  g.sort_edges();
  Json edges = Json::array();
  for (std::int64_t k = 0; k < g.edge_count(); ++k) {
    const ds::Edge e = g.edge(k);
    edges.push_back({ids[static_cast<std::size_t>(e.source)], ids[static_cast<std::size_t>(e.target)]});
  }
  c.expect(edges == expected.at("edges"), "edges: expected " + expected.at("edges").dump() + ", got " + edges.dump());
  if (edges != expected.at("edges")) return;
  const Json& attributes = expected.at("edge_attributes");  // of many edges the first ones
  for (std::size_t k = 0; k < attributes.size(); ++k) {
    c.expect(attributes[k][0] == edges[k][0] && attributes[k][1] == edges[k][1], "edge_attributes: another order");
    check_attributes(c, edges[k].dump(), attributes[k][2], g.edge_attributes(), static_cast<std::int64_t>(k),
                     Json::object());
  }
}

/// What LayeredGraph.load gave: nodes and edges renumbered.
void check_loaded(Case& c, ds::Graph g) {
  const Json& expected = c["loaded"];
  std::vector<std::int64_t> nodes(static_cast<std::size_t>(g.vertex_count()));
  std::iota(nodes.begin(), nodes.end(), std::int64_t{0});
  c.expect(Json(nodes) == expected.at("nodes"), "nodes: expected " + expected.at("nodes").dump());
  g.sort_edges();
  Json edges = Json::array();
  for (const ds::Edge& e : g.edges()) edges.push_back({e.source, e.target});
  c.expect(edges == expected.at("edges"),
           "loaded edges: expected " + expected.at("edges").dump() + ", got " + edges.dump());
}

}  // namespace

void run_graphml(Case& c) {
  const auto path = c.folder() / c.text("file");
  if (!c.has("loaded")) return c.throws(c.text("file"), [&] { ds::load_graphml(path); });
  const ds::Graph g = ds::load_graphml(path);
  check_loaded(c, g);
  check_networkx(c, g);
  check_layers(c, g);

  const std::string text = ds::write_graphml(g);
  c.expect(ds::read_graphml(text) == g, "written and read again: another graph");
  const bool plain = g.vertex_attributes().names().empty() && g.edge_attributes().names().empty();
  const auto bytes = ds::read_plain_file(path);
  c.expect(!plain || text == ds::as_text(bytes), "written: other bytes than NetworkX's");
}

}  // namespace golden
