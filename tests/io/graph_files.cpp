// GraphML, DOT and edge lists: every value comes back bit for bit, what NetworkX writes is read, damage is an Error.
#include <deepstruct/core/rng.hpp>
#include <deepstruct/io.hpp>

#include <bit>
#include <random>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

using GraphValue = AttributeTable::Value;

bool same_value_bits(const std::optional<GraphValue>& a, const std::optional<GraphValue>& b) {
  if (a.has_value() != b.has_value()) return false;
  if (!a) return true;
  if (a->index() != b->index()) return false;
  if (const float* x = std::get_if<float>(&*a))
    return std::bit_cast<std::uint32_t>(*x) == std::bit_cast<std::uint32_t>(std::get<float>(*b));
  if (const double* x = std::get_if<double>(&*a))
    return std::bit_cast<std::uint64_t>(*x) == std::bit_cast<std::uint64_t>(std::get<double>(*b));
  return *a == *b;
}
bool same_table_bits(const AttributeTable& a, const AttributeTable& b) {
  if (a.size() != b.size() || a.names() != b.names()) return false;
  for (const std::string& name : a.names()) {
    if (a.holds<bool>(name) != b.holds<bool>(name) || a.holds<std::int64_t>(name) != b.holds<std::int64_t>(name) ||
        a.holds<float>(name) != b.holds<float>(name) || a.holds<double>(name) != b.holds<double>(name))
      return false;
    for (std::int64_t k = 0; k < a.size(); ++k)
      if (!same_value_bits(a.value(name, k), b.value(name, k))) return false;
  }
  return true;
}
/// Order, direction, columns in order with their types, and every bit of the values.
bool same_graph_bits(const Graph& a, const Graph& b) {
  return a.directed() == b.directed() && std::ranges::equal(a.edges(), b.edges()) &&
         same_table_bits(a.vertex_attributes(), b.vertex_attributes()) &&
         same_table_bits(a.edge_attributes(), b.edge_attributes());
}

std::string random_text(Rng& rng) {
  static const std::vector<std::string> parts{"a",    " ",   "\n", "\r", "\r\n", "\t",  "<", ">",  "&",  "&amp;",
                                              "\"",   "'",   "ü",  "日", "😀",    "]]>", "#", "{}", "\\", "\xEF\xBB\xBF",
                                              "<!--", "&#0;"};
  std::string text;
  for (std::uint64_t k = rng.below(6); k-- > 0;) text += parts[rng.below(parts.size())];
  return text;
}
template <class T>
T random_value(Rng& rng) {
  const std::uint64_t word = std::uint64_t{rng.bits()} << 32 | rng.bits();
  if constexpr (std::is_same_v<T, std::string>) {
    return random_text(rng);
  } else if constexpr (std::is_same_v<T, bool>) {
    return word % 2 == 1;
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return std::bit_cast<std::int64_t>(word) >> (word % 60);
  } else {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    if (rng.below(8) == 0) {
      using Limits = std::numeric_limits<T>;
      const T special[] = {0,
                           T(-0.0),
                           Limits::infinity(),
                           -Limits::infinity(),
                           Limits::quiet_NaN(),
                           -Limits::quiet_NaN(),
                           Limits::denorm_min(),
                           Limits::max(),
                           Limits::min(),
                           1};
      return special[rng.below(std::size(special))];
    }
    const T any = std::bit_cast<T>(static_cast<Bits>(word));
    return std::isnan(any) ? T(0.1) : any;
  }
}
/// A column with a value everywhere, nowhere, or here and there.
template <class T>
void fill_column(AttributeTable& table, const std::string& name, Rng& rng) {
  const float share = static_cast<float>(rng.below(3)) / 2;
  for (std::int64_t k = 0; k < table.size(); ++k)
    if (rng.uniform() < share) table.set<T>(name, k, random_value<T>(rng));
}
/// Columns of all types, some of them not there.
AttributeTable random_table(std::int64_t size, Rng& rng) {
  AttributeTable table;
  const std::string odd = random_text(rng);
  const auto each = [&](auto&& f) {
    f("flag", std::type_identity<bool>{});
    f("count", std::type_identity<std::int64_t>{});
    f("weight", std::type_identity<float>{});
    f("wide", std::type_identity<double>{});
    f("text", std::type_identity<std::string>{});
    f(odd, std::type_identity<std::string>{});
  };
  each([&]<class T>(const std::string& name, std::type_identity<T>) {
    if (rng.bernoulli(0.6f)) table.set_column<T>(name, {});
  });
  table.resize(size);
  each([&]<class T>(const std::string& name, std::type_identity<T>) {
    if (table.contains(name)) fill_column<T>(table, name, rng);
  });
  return table;
}
Graph random_file_graph(std::int64_t n, bool directed, Rng& rng) {
  std::vector<Edge> edges;
  for (std::uint64_t k = n > 0 ? rng.below(static_cast<std::uint64_t>(3 * n)) : 0; k-- > 0;)
    edges.push_back({static_cast<Vertex>(rng.below(static_cast<std::uint64_t>(n))),
                     static_cast<Vertex>(rng.below(static_cast<std::uint64_t>(n)))});
  Graph g(n, edges, directed);
  g.vertex_attributes() = random_table(g.vertex_count(), rng);
  g.edge_attributes() = random_table(g.edge_count(), rng);
  return g;
}

/// A GraphML text with these elements before and in its graph.
std::string graphml_of(const std::string& in_graph, const std::string& keys = "",
                       const std::string& direction = "directed") {
  return "<graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\">" + keys + "<graph edgedefault=\"" + direction +
         "\">" + in_graph + "</graph></graphml>";
}
std::string node_key(const std::string& type, const std::string& more = "/>") {
  return "<key id=\"k\" for=\"node\" attr.name=\"x\" attr.type=\"" + type + "\"" + more;
}
/// The attribute x of a vertex whose data has this text.
template <class T>
std::optional<T> read_x(const std::string& type, const std::string& text) {
  return read_graphml(graphml_of("<node id=\"0\"><data key=\"k\">" + text + "</data></node>", node_key(type)))
      .vertex_attributes()
      .get<T>("x", 0);
}

struct GraphFile {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("deepstruct_graph_" + std::to_string(std::random_device{}()));
  ~GraphFile() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

// Written by NetworkX 3.6.1.
const char* const networkx_directed = R"(<?xml version='1.0' encoding='utf-8'?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://graphml.graphdrawing.org/xmlns http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd">
  <key id="d8" for="edge" attr.name="id" attr.type="string" />
  <key id="d7" for="edge" attr.name="weight" attr.type="double" />
  <key id="d6" for="node" attr.name="w" attr.type="float" />
  <key id="d5" for="node" attr.name="gain" attr.type="double" />
  <key id="d4" for="node" attr.name="note" attr.type="string" />
  <key id="d3" for="node" attr.name="on" attr.type="boolean" />
  <key id="d2" for="node" attr.name="gain" attr.type="long" />
  <key id="d1" for="node" attr.name="layer" attr.type="long" />
  <key id="d0" for="graph" attr.name="name" attr.type="string" />
  <graph edgedefault="directed">
    <node id="in">
      <data key="d1">0</data>
      <data key="d2">1</data>
      <data key="d3">True</data>
      <data key="d4">a &lt; b &amp; "c"
ü</data>
    </node>
    <node id="h">
      <data key="d1">1</data>
      <data key="d5">0.25</data>
    </node>
    <node id="out">
      <data key="d3">False</data>
      <data key="d6">0.1</data>
    </node>
    <edge source="in" target="h">
      <data key="d7">-1.5e-07</data>
    </edge>
    <edge source="h" target="out">
      <data key="d7">inf</data>
      <data key="d8">e7</data>
    </edge>
    <edge source="out" target="out" />
    <data key="d0">net</data>
  </graph>
</graphml>
)";
const char* const networkx_undirected = R"(<?xml version='1.0' encoding='utf-8'?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://graphml.graphdrawing.org/xmlns http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd"><key id="d0" for="edge" attr.name="weight" attr.type="double" /><graph edgedefault="undirected"><node id="2" /><node id="0" /><node id="1" /><edge source="2" target="0"><data key="d0">nan</data></edge><edge source="0" target="1"><data key="d0">3.0</data></edge></graph></graphml>)";

}  // namespace

TEST_CASE("GraphML: a graph comes back bit for bit") {
  Rng rng(11);
  for (int round = 0; round < 150; ++round) {
    const Graph g =
        random_file_graph(static_cast<std::int64_t>(round < 4 ? round / 2 : rng.below(12)), round % 2 == 0, rng);
    const std::string text = write_graphml(g);
    INFO(text);
    const Graph again = read_graphml(text);
    REQUIRE(same_graph_bits(again, g));
    REQUIRE(write_graphml(again) == text);
  }
}

TEST_CASE("GraphML: a column without values comes back") {
  Graph g(0, true);
  g.vertex_attributes().set_column<std::int64_t>("none", {});
  g.vertex_attributes().set_column<std::string>("some", {});
  g.add_vertices(3);
  g.vertex_attributes().set("some", 1, std::string());
  const Graph again = read_graphml(write_graphml(g));
  REQUIRE(same_graph_bits(again, g));
  REQUIRE(again.vertex_attributes().holds<std::int64_t>("none"));
  REQUIRE(!again.vertex_attributes().value("none", 0));
  REQUIRE(again.vertex_attributes().get<std::string>("some", 1) == "");
  REQUIRE(!again.vertex_attributes().value("some", 2));
}

TEST_CASE("GraphML: the text is NetworkX's layout") {
  Graph g(3, {{2, 0}, {1, 1}}, true);
  g.vertex_attributes().set("a\"b", 1, true);
  g.edge_attributes().set_column<float>("weight", {0.1f, -2});
  const std::string text = write_graphml(g);
  REQUIRE(text.starts_with("<?xml version='1.0' encoding='utf-8'?>\n<graphml xmlns="));
  REQUIRE(text.substr(text.find("<key")) ==
          "<key id=\"d0\" for=\"node\" attr.name=\"a&quot;b\" attr.type=\"boolean\"/>\n"
          "<key id=\"d1\" for=\"edge\" attr.name=\"weight\" attr.type=\"float\"/>\n"
          "<graph edgedefault=\"directed\"><node id=\"0\"/>\n"
          "<node id=\"1\">\n  <data key=\"d0\">true</data>\n</node>\n"
          "<node id=\"2\"/>\n"
          "<edge source=\"2\" target=\"0\">\n  <data key=\"d1\">0.1</data>\n</edge>\n"
          "<edge source=\"1\" target=\"1\">\n  <data key=\"d1\">-2</data>\n</edge>\n"
          "</graph></graphml>");
}

TEST_CASE("GraphML: files that NetworkX wrote") {
  const Graph g = read_graphml(networkx_directed);
  REQUIRE(g.directed());
  REQUIRE(std::ranges::equal(g.edges(), std::vector<Edge>{{0, 1}, {1, 2}, {2, 2}}));
  const AttributeTable& v = g.vertex_attributes();
  REQUIRE(v.names() == std::vector<std::string>{"w", "gain", "note", "on", "layer", "id"});
  REQUIRE(v.get<std::string>("id", 2) == "out");
  REQUIRE(v.get<float>("w", 2) == 0.1f);
  REQUIRE(v.get<double>("gain", 0) == 1.0);  // a whole number there, 0.25 here
  REQUIRE(v.get<double>("gain", 1) == 0.25);
  REQUIRE(!v.value("gain", 2));
  REQUIRE(v.get<std::string>("note", 0) == "a < b & \"c\"\nü");
  REQUIRE(v.get<bool>("on", 0) == true);
  REQUIRE(v.get<bool>("on", 2) == false);
  REQUIRE(v.get<std::int64_t>("layer", 1) == 1);
  REQUIRE(g.edge_attributes().get<double>("weight", 0) == -1.5e-7);
  REQUIRE(g.edge_attributes().get<double>("weight", 1) == std::numeric_limits<double>::infinity());
  REQUIRE(!g.edge_attributes().value("weight", 2));
  REQUIRE(g.edge_attributes().get<std::string>("id", 1) == "e7");

  const Graph u = read_graphml(networkx_undirected);
  REQUIRE(!u.directed());
  REQUIRE(std::ranges::equal(u.edges(), std::vector<Edge>{{0, 1}, {1, 2}}));
  REQUIRE(u.vertex_attributes().get<std::string>("id", 0) == "2");
  REQUIRE(std::isnan(u.edge_attributes().get<double>("weight", 0).value()));
  REQUIRE(u.edge_attributes().get<double>("weight", 1) == 3.0);
}

TEST_CASE("GraphML: ids and the order of vertices") {
  const auto ids = [](const Graph& g) {
    std::string all;
    for (std::int64_t v = 0; v < g.vertex_count(); ++v)
      all += g.vertex_attributes().get<std::string>("id", v).value_or(std::to_string(v)) + " ";
    return all;
  };
  const auto edges = [](const Graph& g) { return std::vector<Edge>(g.edges().begin(), g.edges().end()); };
  SECTION("nodes of edges alone come last") {
    const Graph g =
        read_graphml(graphml_of(R"(<edge source="c" target="a"/><node id="a"/><edge source="b" target="a"/>)"));
    REQUIRE(ids(g) == "a c b ");
    REQUIRE(edges(g) == std::vector<Edge>{{1, 0}, {2, 0}});
  }
  SECTION("numbers in order are no attribute") {
    const Graph g = read_graphml(graphml_of(R"(<node id="0"/><node id="1"/><edge source="1" target="2"/>)"));
    REQUIRE(g.vertex_attributes().names().empty());
    REQUIRE(edges(g) == std::vector<Edge>{{1, 2}});
  }
  SECTION("numbers written otherwise, or out of order, are") {
    for (const char* id : {"01", "+1", " 1", "2", "1.0", "-1", "99999999999", "18446744073709551617", ""}) {
      const std::string second = id;
      INFO(second);
      const Graph g =
          read_graphml(graphml_of("<node id=\"0\"/><node id=\"" + second + "\"/><node id=\"3\"/><edge source=\"" +
                                  second + "\" target=\"0\"/><edge source=\"3\" target=\"new\"/>"));
      REQUIRE(ids(g) == "0 " + second + " 3 new ");
      REQUIRE(edges(g) == std::vector<Edge>{{1, 0}, {2, 3}});
    }
  }
  SECTION("a node that comes twice is one, later values count") {
    const Graph g =
        read_graphml(graphml_of("<node id=\"0\"><data key=\"k\">1</data></node><node id=\"1\"/>"
                                "<node id=\"0\"><data key=\"k\">2</data></node>",
                                node_key("int")));
    REQUIRE(g.vertex_count() == 2);
    REQUIRE(g.vertex_attributes().get<std::int64_t>("x", 0) == 2);
  }
  SECTION("an attribute id of the file goes first") {
    const std::string key = R"(<key id="k" for="all" attr.name="id" attr.type="int"/>)";
    const Graph g = read_graphml(
        graphml_of(R"(<node id="a"><data key="k">5</data></node><edge id="e" source="a" target="b"/>)", key));
    REQUIRE(g.vertex_attributes().get<std::int64_t>("id", 0) == 5);
    REQUIRE(!g.vertex_attributes().value("id", 1));
    REQUIRE(g.edge_attributes().holds<std::int64_t>("id"));
  }
  SECTION("ids of edges") {
    const Graph g = read_graphml(graphml_of(R"(<edge id="e" source="0" target="1"/><edge source="1" target="1"/>)"));
    REQUIRE(g.edge_attributes().get<std::string>("id", 0) == "e");
    REQUIRE(!g.edge_attributes().value("id", 1));
  }
  SECTION("an undirected edge is the same from both sides, a directed one is not") {
    const std::string both = R"(<edge source="0" target="1"/><edge source="1" target="0"/>)";
    REQUIRE(read_graphml(graphml_of(both)).edge_count() == 2);
    test::require_error([&] { read_graphml(graphml_of(both, "", "undirected")); },
                        {"parallel edges (between 0 and 1)"});
  }
}

TEST_CASE("GraphML: defaults") {
  const std::string keys = R"(<key id="k" attr.name="x" attr.type="int"><default> 7 </default></key>)"
                           R"(<key id="s" for="edge" attr.name="s"><default></default></key>)";
  const Graph g = read_graphml(graphml_of(
      R"(<node id="0"><data key="k">3</data></node><edge source="0" target="1"><data key="k">4</data></edge>)", keys));
  REQUIRE(g.vertex_attributes().get<std::int64_t>("x", 0) == 3);
  REQUIRE(g.vertex_attributes().get<std::int64_t>("x", 1) == 7);
  REQUIRE(g.edge_attributes().get<std::int64_t>("x", 0) == 4);
  REQUIRE(g.edge_attributes().get<std::string>("s", 0) == "");
}

TEST_CASE("GraphML: text of values") {
  REQUIRE(read_x<std::string>("string", "") == "");
  REQUIRE(read_x<std::string>("string", "  ") == "  ");
  REQUIRE(read_x<std::string>("string", "\r\n a\r") == "\n a\n");
  REQUIRE(read_x<std::string>("string", "a<!-- no -->b<![CDATA[<c>&amp;]]>d<?e f?>") == "ab<c>&amp;d");
  REQUIRE(read_x<std::string>("string", "&#252;&#x65E5;&#13;&#128512;") == "ü日\r😀");
  REQUIRE(read_x<std::string>("string", "&unknown;") == "&unknown;");
  REQUIRE(!read_x<std::string>("string", "<drawing>x</drawing>"));  // as yEd has them
  for (const char* yes : {"true", "True", "TRUE", "1", " true\n"}) REQUIRE(read_x<bool>("boolean", yes) == true);
  for (const char* no : {"false", "False", "0"}) REQUIRE(read_x<bool>("boolean", no) == false);
  for (const char* type : {"int", "long", "integer"}) REQUIRE(read_x<std::int64_t>(type, " +12\n") == 12);
  REQUIRE(read_x<std::int64_t>("long", "-9223372036854775808") == std::numeric_limits<std::int64_t>::min());
  REQUIRE(read_x<double>("double", "+1.5E3") == 1500.0);
  for (const char* text : {"INF", "inf", "Infinity", "+inf"})
    REQUIRE(read_x<double>("double", text) == std::numeric_limits<double>::infinity());
  REQUIRE(std::isnan(read_x<float>("float", "NaN").value()));
  REQUIRE(std::signbit(read_x<float>("float", "-nan").value()));
  REQUIRE(read_x<float>("float", "1e-60") == 0.0f);  // NetworkX calls a NumPy float64 "float"
  REQUIRE(std::signbit(read_x<float>("float", "-1e-60").value()));
  REQUIRE(read_graphml("\xEF\xBB\xBF" + graphml_of("")).vertex_count() == 0);
  REQUIRE(read_graphml("<!DOCTYPE graphml SYSTEM \"graphml.dtd\">" + graphml_of("")).vertex_count() == 0);

  const char* const wrong[][2] = {
      {"boolean", "yes"},  {"boolean", ""},     {"boolean", "truefalse"}, {"int", "1.0"},
      {"int", ""},         {"int", "1_0"},      {"int", "0x10"},          {"int", "+-1"},
      {"int", "1 2"},      {"double", "1e999"}, {"double", "1,5"},        {"double", "--1"},
      {"double", "1.5.2"}, {"float", "1e39"},   {"float", "ten"},         {"long", "9223372036854775808"}};
  for (const auto& [type, text] : wrong) {
    INFO(type << " " << text);
    test::require_error([type = type, text = text] { read_x<std::string>(type, text); },
                        {"read_graphml: not a ", "x: ", text});
  }
}

TEST_CASE("GraphML: what is passed over") {
  const std::string yed =
      R"(<key for="node" id="k" yfiles.type="nodegraphics"/><key for="port" id="p"/><key for="graph" id="g"/>)";
  const Graph g = read_graphml(graphml_of(R"(<desc>d</desc><data key="g">name</data><node id="0"><port name="p"/>)"
                                          R"(<data key="k"><Shape/></data></node><other><node id="9"/></other>)",
                                          yed) +
                               "<more/>");
  REQUIRE(g.vertex_count() == 1);
  REQUIRE(g.vertex_attributes().names().empty());
}

TEST_CASE("GraphML: what is no GraphML or no simple graph is refused") {
  const auto bad = [](const std::string& text, std::initializer_list<const char*> parts) {
    INFO(text.substr(0, 300));
    test::require_error([&] { read_graphml(text); }, parts);
    test::require_error([&] { read_graphml(text); }, {"read_graphml: "});
  };
  bad("", {"not well-formed"});
  bad("junk", {"not well-formed"});
  bad("<root/>", {"not GraphML (the root element is root)"});
  bad("<graphml/>", {"no graph"});
  const std::string whole = write_graphml(read_graphml(networkx_directed));
  for (std::size_t size = 0; size < whole.size(); size += 7) bad(whole.substr(0, size), {"byte"});
  bad(graphml_of("", "", "both"), {"edgedefault", "both"});
  bad(graphml_of("<node/>"), {"node without id"});
  bad(graphml_of("<edge source=\"0\"/>"), {"edge without target"});
  bad(graphml_of("<edge target=\"0\"/>"), {"edge without source"});
  bad(graphml_of("<edge source=\"a\" target=\"b\" directed=\"false\"/>"), {"directed and undirected", "(a, b)"});
  bad(graphml_of("<edge source=\"a\" target=\"b\" directed=\"true\"/>", "", "undirected"), {"directed and undirected"});
  bad(graphml_of("<edge source=\"a\" target=\"b\"/><edge source=\"a\" target=\"b\"/>"),
      {"parallel edges (between a and b)"});
  bad(graphml_of("<hyperedge/>"), {"hyperedges"});
  bad(graphml_of("<node id=\"0\"><graph/></node>"), {"nested graphs"});
  bad(graphml_of("<node id=\"0\"><data key=\"k\">1</data></node>"), {"no such key (k)"});
  bad(graphml_of("<node id=\"0\"><data>1</data></node>"), {"data without key"});
  bad(graphml_of("<edge source=\"0\" target=\"1\"><data key=\"k\">1</data></edge>", node_key("int")),
      {"the key is not declared for edge (k)"});
  bad(graphml_of("", node_key("complex")), {"unknown type", "x: complex"});
  bad(graphml_of("", node_key("int") + node_key("int")), {"two keys", "(k)"});
  bad(graphml_of("", node_key("int") + "<key id=\"j\" for=\"all\" attr.name=\"x\" attr.type=\"string\"/>"),
      {"two types", "x: long and string"});
  bad(graphml_of("", "<key id=\"k\" for=\"node\"/>"), {"key without attr.name"});
  bad(graphml_of("", "<key for=\"node\" attr.name=\"x\"/>"), {"key without id"});
  bad(graphml_of("<node id=\"0\"/>", node_key("int", "><default>x</default></key>")), {"not a number", "x: x"});
  bad(graphml_of("<node id=\"" + std::string(1000, 'y') + "\"><data key=\"" + std::string(1000, 'z') + "\"/></node>"),
      {"no such key (zzzz", "zzz...)"});
  // Text that is no text.
  bad(graphml_of("<node id=\"\xFF\"/>"), {"not UTF-8"});
  for (const char* text :
       {"\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\x01", "\x1F", "\xEF\xBF\xBF"})
    bad(graphml_of("<node id=\"" + std::string(text) + "\"/>"), {"not UTF-8 or no character"});
  bad(graphml_of(std::string("<node id=\"0\0\"/>", 14)), {"not UTF-8 or no character"});
  for (const char* text : {"&#0;", "&#x0;", "&#xD800;", "&#1114112;", "&#99999999999999999999;", "&#;", "&#x;"})
    bad(graphml_of("<node id=\"" + std::string(text) + "\"/>"), {"reference"});
  // Bombs.
  bad("<!DOCTYPE graphml [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]>" + graphml_of("<node id=\"&b;\"/>"), {"entity"});
  std::string deep;
  for (int k = 0; k < 300'000; ++k) deep += "<node id=\"0\">";
  bad(graphml_of(deep), {"not well-formed"});
  std::string keys;
  for (int k = 0; k < 1025; ++k) {
    const std::string id = std::to_string(k);
    keys += "<key id=\"" + id + "\" for=\"node\" attr.name=\"" + id + "\"/>";
  }
  bad(graphml_of("", keys), {"too many attributes"});
  std::string many;
  for (int k = 0; k < 1000; ++k) many += "<node id=\"" + std::to_string(k) + "\"/>";
  test::require_error([&] { read_graphml(graphml_of(many, node_key("int")), {.max_bytes = 8999}); },
                      {"read_graphml: the attributes take more", "9000 > 8999"});
  REQUIRE(read_graphml(graphml_of(many, node_key("int")), {.max_bytes = 9000}).vertex_count() == 1000);
  const std::string text =
      "<key id=\"t\" for=\"node\" attr.name=\"t\"><default>" + std::string(1000, 'x') + "</default></key>";
  test::require_error([&] { read_graphml(graphml_of(many, text), {.max_bytes = 1'000'000}); },
                      {"read_graphml: the attributes take more"});
  REQUIRE(read_graphml(graphml_of(many, text)).vertex_attributes().get<std::string>("t", 999)->size() == 1000);
}

TEST_CASE("GraphML: nesting does not use the stack") {
  std::string deep = "<node id=\"0\">";
  for (int k = 0; k < 300'000; ++k) deep += "<a>";
  for (int k = 0; k < 300'000; ++k) deep += "</a>";
  REQUIRE(read_graphml(graphml_of(deep + "</node>")).vertex_count() == 1);
}

TEST_CASE("GraphML: text that XML cannot hold is not written") {
  for (const std::string& text :
       {std::string("\0", 1), std::string("\x1B"), std::string("\xFF"), std::string("\xED\xA0\x80")}) {
    Graph g(1);
    g.vertex_attributes().set("note", 0, "bad" + text);
    test::require_error([&] { write_graphml(g); }, {"write_graphml: XML cannot hold this text (note: bad"});
    Graph named(1);
    named.vertex_attributes().set("bad" + text, 0, true);
    test::require_error([&] { write_graphml(named); }, {"write_graphml: XML cannot hold this text (name: bad"});
  }
}

TEST_CASE("GraphML: damaged files either parse or throw Error") {
  Rng rng(5);
  Graph g(6, {{0, 1}, {4, 2}, {3, 3}, {5, 0}}, true);
  g.vertex_attributes().set("text", 2, std::string("<ü>&\r\n"));
  g.vertex_attributes().set_column<bool>("flag", {true, false, true, true, false, true});
  g.edge_attributes().set_column<float>("weight", {0.1f, -0.0f, 1e-30f, std::numeric_limits<float>::infinity()});
  g.edge_attributes().set_column<std::int64_t>("count", {1, -2, 3, std::numeric_limits<std::int64_t>::min()});
  const std::string texts[] = {write_graphml(g), networkx_directed};
  static const std::string telling = "<>&/\"'=#;x! -]09\x00\x80\xC3\xFF\n";
  int parsed = 0, refused = 0;
  for (int round = 0; round < 600; ++round) {
    std::string text = texts[round % 2];
    for (std::uint64_t flips = 1 + rng.below(3); flips-- > 0;) {
      const std::size_t at = rng.below(text.size());
      switch (rng.below(5)) {
        case 0:
          text[at] = static_cast<char>(text[at] ^ (1 << rng.below(8)));
          break;
        case 1:
          text[at] = telling[rng.below(telling.size())];
          break;
        case 2:
          text.erase(at, 1 + rng.below(20));
          break;
        case 3:
          text.insert(at, text.substr(rng.below(text.size()), rng.below(60)));
          break;
        default:
          if (round % 4 == 0) text.resize(at + 1);
      }
    }
    INFO(text);
    std::optional<Graph> read;
    try {
      read = read_graphml(text);
    } catch (const Error& error) {
      REQUIRE(std::string(error.what()).starts_with("read_graphml: "));
    }
    ++(read ? parsed : refused);
    if (read) REQUIRE(same_graph_bits(read_graphml(write_graphml(*read)), *read));
  }
  REQUIRE(parsed > 100);
  REQUIRE(refused > 100);
}

TEST_CASE("GraphML: files") {
  GraphFile saved;
  const Graph g(4, {{0, 3}, {1, 2}}, true);
  save_graphml(g, saved.path);
  REQUIRE(load_graphml(saved.path) == g);
  REQUIRE(as_text(read_plain_file(saved.path)) == write_graphml(g));
  const std::string text = write_graphml(g);
  gzFile zipped = gzopen(saved.path.c_str(), "wb");
  gzwrite(zipped, text.data(), static_cast<unsigned>(text.size()));
  gzclose(zipped);
  REQUIRE(is_gzip(read_plain_file(saved.path)));
  REQUIRE(load_graphml(saved.path) == g);
  write_whole_file(saved.path, std::as_bytes(std::span(text).first(200)));
  test::require_error([&] { load_graphml(saved.path); }, {"read_graphml: ", saved.path.c_str()});
  test::require_error([] { load_graphml("no_such_file.graphml"); }, {"no_such_file.graphml"});
  test::require_error([&] { save_graphml(g, "no_such_folder/a.graphml"); }, {"save: ", "no_such_folder"});
}

TEST_CASE("DOT: the text") {
  REQUIRE(write_dot(Graph()) == "graph {\n}\n");
  Graph g(3, {{0, 1}, {2, 1}}, true);
  g.vertex_attributes().set("label", 0, std::string("a \"b\\\"\nü"));
  g.vertex_attributes().set("layer", 0, std::int64_t{-2});
  g.vertex_attributes().set("Node", 1, true);
  g.vertex_attributes().set("kind", 1, std::string("input_1"));
  g.vertex_attributes().set("1st", 1, std::string());
  g.edge_attributes().set_column<float>("weight", {0.5f, 1e-10f});
  REQUIRE(write_dot(g) ==
          "digraph {\n"
          "  0 [label=\"a \\\"b\\\\\\\"\\nü\", layer=-2];\n"
          "  1 [\"Node\"=true, kind=input_1, \"1st\"=\"\"];\n"
          "  2;\n"
          "  0 -> 1 [weight=0.5];\n"
          "  2 -> 1 [weight=\"1e-10\"];\n"
          "}\n");
  REQUIRE(write_dot(Graph(2, {{1, 0}})) == "graph {\n  0;\n  1;\n  0 -- 1;\n}\n");
  GraphFile saved;
  save_dot(g, saved.path);
  REQUIRE(as_text(read_plain_file(saved.path)) == write_dot(g));
}

TEST_CASE("edge lists: what is read") {
  const Graph g = read_edge_list(
      "# of NetworkX\n3 1 {'weight': 0.5}\r\n\n  0\t2 # a comment\n2 2 -1e3\n"
      "1 0 {'label': 'it\\'s, {b}: ', \"weight\" : 2, 'k': [1, {2: 3}]}\n4 0 {}");
  REQUIRE(!g.directed());
  REQUIRE(g.vertex_count() == 5);
  REQUIRE(std::ranges::equal(g.edges(), std::vector<Edge>{{1, 3}, {0, 2}, {2, 2}, {0, 1}, {0, 4}}));
  REQUIRE(g.edge_attributes().names() == std::vector<std::string>{"weight"});
  const std::optional<double> weights[] = {0.5, std::nullopt, -1000.0, 2.0, std::nullopt};
  for (std::int64_t k = 0; k < 5; ++k) REQUIRE(g.edge_attributes().get<double>("weight", k) == weights[k]);

  for (const char* empty : {"", "\n", "# only\n# comments"}) REQUIRE(read_edge_list(empty) == Graph());
  const Graph repeated = read_edge_list("0 1 1\n2 1 5\n1 0 2\n0 1", {.directed = false});
  REQUIRE(std::ranges::equal(repeated.edges(), std::vector<Edge>{{0, 1}, {1, 2}}));
  REQUIRE(repeated.edge_attributes().get<double>("weight", 0) == 2.0);
  REQUIRE(repeated.edge_attributes().get<double>("weight", 1) == 5.0);
  REQUIRE(read_edge_list("0 1\n1 0", {.directed = true}).edge_count() == 2);
}

TEST_CASE("edge lists: written and read again") {
  Rng rng(3);
  for (int round = 0; round < 60; ++round) {
    const auto n = static_cast<std::uint64_t>(1 + round / 3);
    std::vector<Edge> edges{{static_cast<Vertex>(n - 1), 0}};
    for (std::uint64_t k = rng.below(2 * n); k-- > 0;)
      edges.push_back({static_cast<Vertex>(rng.below(n)), static_cast<Vertex>(rng.below(n))});
    Graph g(static_cast<std::int64_t>(n), edges, round % 2 == 0);
    for (std::int64_t k = 0; round % 3 != 0 && k < g.edge_count(); ++k)
      if (round % 3 == 1 || rng.bernoulli(0.5f)) g.edge_attributes().set("weight", k, random_value<double>(rng));
    const std::string text = write_edge_list(g);
    INFO(text);
    REQUIRE(same_graph_bits(read_edge_list(text, {.directed = g.directed()}), g));
  }
  Graph g(3, {{0, 1}, {1, 2}}, true);
  REQUIRE(write_edge_list(g) == "0 1 {}\n1 2 {}\n");
  g.edge_attributes().set("weight", 1, 2.0f);
  REQUIRE(write_edge_list(g) == "0 1 {}\n1 2 {'weight': 2.0}\n");
  g.edge_attributes().set_column<std::int64_t>("weight", {7, -2});
  REQUIRE(write_edge_list(g) == "0 1 {'weight': 7}\n1 2 {'weight': -2}\n");
  GraphFile saved;
  save_edge_list(g, saved.path);
  REQUIRE(write_edge_list(load_edge_list(saved.path, {.directed = true})) ==
          "0 1 {'weight': 7.0}\n1 2 {'weight': -2.0}\n");
  g.edge_attributes().set_column<bool>("weight", {true, false});
  test::require_error([&] { write_edge_list(g); }, {"write_edge_list: weight must be a number"});
}

TEST_CASE("edge lists: lines that are none") {
  for (const char* line : {"0", "a b", "0 -1", "0 1.5", "0,1", "99999999999999999999 0", "0 x"})
    test::require_error([&] { read_edge_list("0 1\n" + std::string(line)); },
                        {"read_edge_list: needs two vertices", "line 2: ", line});
  for (const char* line :
       {"0 1 2 3", "0 1 x", "0 1 {", "0 1 {'weight'}", "0 1 {'weight': }", "0 1 {'weight': x}", "0 1 {'weight': 1",
        "0 1 {'weight': 1} 2", "0 1 {'weight: 1}", "0 1 [1]", "0 1 {'a': (}", "0 1 {'a': '\\", "0 1 1e999"})
    test::require_error([&] { read_edge_list("\n\n" + std::string(line)); },
                        {"read_edge_list: needs a weight", "line 3: "});
  test::require_error([] { read_edge_list("0 2147483646"); },
                      {"read_edge_list: a vertex beyond max_vertices", "line 1"});
  test::require_error([] { read_edge_list("0 5", {.max_vertices = 5}); }, {"beyond max_vertices", "0 5, 5"});
  REQUIRE(read_edge_list("0 4", {.max_vertices = 5}).vertex_count() == 5);
  GraphFile saved;
  write_whole_file(saved.path, std::as_bytes(std::span("0 1\nx", 5)));
  test::require_error([&] { load_edge_list(saved.path); }, {"line 2", saved.path.c_str()});
}

TEST_CASE("what looks like a reference in CDATA or a comment is none") {
  const Graph g = read_graphml(R"(<graphml><!-- &#0; --><key id="k" for="node" attr.name="t" attr.type="string"/>
    <graph edgedefault="directed"><node id="0"><data key="k"><![CDATA[a &# b]]></data></node></graph></graphml>)");
  REQUIRE(g.vertex_attributes().get<std::string>("t", 0) == "a &# b");
  REQUIRE_THROWS_AS(read_graphml("<graphml><graph edgedefault=\"directed\"><node id=\"&#0;\"/></graph></graphml>"),
                    Error);
}

TEST_CASE("GraphML: what looks like a comment inside an attribute hides no bad reference") {
  const std::string bad =
      R"(<graphml><key id="a" for="node" attr.name="x<!--y" attr.type="string"/><graph edgedefault="directed">)"
      R"(<node id="0"><data key="a">&#6;</data></node></graph></graphml>)";
  test::require_error([&] { read_graphml(bad); }, {"read_graphml: a reference to what is no character of XML"});
  const Graph good = read_graphml(
      R"(<graphml><key id="a" for="node" attr.name="x" attr.type="string"/><!-- &#6; '" --><graph edgedefault="directed">)"
      R"(<node id="0"><data key="a">&#65;<![CDATA[&#6;]]></data></node></graph></graphml>)");
  REQUIRE(good.vertex_attributes().get<std::string>("x", 0) == "A&#6;");
}
