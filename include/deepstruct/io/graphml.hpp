// GraphML: graphs with typed attributes of vertices and edges, as NetworkX, igraph, Gephi and yEd read and write them.
//
// U. Brandes, M. Eiglsperger, J. Lerner, C. Pich: Graph Markup Language (GraphML), Handbook of Graph Drawing and
// Visualization, chapter 16, 2013.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <pugixml.hpp>

#include "../graph/graph.hpp"
#include "file.hpp"
#include "graphml_reader.hpp"
#include "gzip.hpp"
#include "text.hpp"

namespace deepstruct {

/// The graph of a GraphML text, in the order of the file: vertices 0 … n − 1 are its nodes, then such that only edges
/// name; O(text).
///
/// - Attributes boolean, int and long, float, double, string become bool, std::int64_t, float, double, std::string,
///   with the key's default where there is no value; a key without values makes a column without values. Keys of one
///   name for the same kind: numbers become double, other types throw.
/// - Node ids that are not "0" … "n − 1" in order stay as the string attribute "id" of the vertices, ids of edges as
///   that of the edges, unless the file has an attribute of this name. A node that comes twice is one vertex, later
///   values count.
/// - The first graph of the file is read; attributes of the graph itself, ports and yEd's drawings are passed over.
/// - Text is UTF-8 whatever the declaration says; an entity that XML does not define stays as it is written.
/// - White space alone between a value's comments or CDATA parts is dropped.
///
/// NetworkX's read_graphml leaves defaults out; deepstruct's Python original also drops ids and attributes.
/// Throws on text that is no GraphML, on parallel edges, edges of both kinds, hyperedges, nested graphs, unknown keys
/// and types, values that do not fit their type, entity declarations, more than 1024 attributes of vertices or of
/// edges, and attributes beyond options.max_bytes.
inline Graph read_graphml(std::string_view text, const ReadOptions& options = {}) {
  const std::size_t wrong = detail::find_non_xml(text);
  check(wrong == std::string_view::npos, "read_graphml: not UTF-8 or no character of XML (byte ", wrong, " of ",
        text.size(), ")");
  detail::check_references(text);
  pugi::xml_document document;
  constexpr unsigned flags = pugi::parse_escapes | pugi::parse_eol | pugi::parse_cdata | pugi::parse_wconv_attribute |
                             pugi::parse_ws_pcdata_single | pugi::parse_embed_pcdata | pugi::parse_doctype;
  const auto parsed = document.load_buffer(text.data(), text.size(), flags, pugi::encoding_utf8);
  check(parsed.status == pugi::status_ok, "read_graphml: not well-formed XML (", parsed.description(), ", byte ",
        parsed.offset, " of ", text.size(), ")");
  for (const pugi::xml_node node : document.children())
    check(
        node.type() != pugi::node_doctype || std::string_view(node.value()).find("<!ENTITY") == std::string_view::npos,
        "read_graphml: entity declarations are not supported (byte ", node.offset_debug(), ")");
  return detail::GraphmlReader(document, options).result;
}

/// read_graphml of a file, plain or .gz; see there for what throws.
inline Graph load_graphml(const std::filesystem::path& path, const ReadOptions& options = {}) {
  const auto bytes = read_file(path, options);
  return detail::of_file(path, [&] { return read_graphml(as_text(bytes), options); });
}

/// GraphML text of a graph, in NetworkX's layout: node ids "0" … "n − 1", every attribute of vertices and edges as a
/// key of its type, missing values left out; O(text).
///
/// read_graphml gives the equal graph: vertices and edges in order, direction, types and every bit of the values, save
/// what not-a-numbers hold besides their sign. Throws if a name or string holds what XML 1.0 cannot: bytes that are no
/// UTF-8, or control characters other than tab and the line ends.
inline std::string write_graphml(const Graph& graph) {
  std::string out =
      "<?xml version='1.0' encoding='utf-8'?>\n"
      "<graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\""
      " xsi:schemaLocation=\"http://graphml.graphdrawing.org/xmlns http://graphml.graphdrawing.org/xmlns/1.0/"
      "graphml.xsd\">";
  struct Column {
    std::string name, opening;
    std::size_t type;
  };
  std::size_t keys = 0;
  const auto check_text = [](std::string_view name, std::string_view text) {
    check(detail::find_non_xml(text) == std::string_view::npos, "write_graphml: XML cannot hold this text (",
          detail::shown(name), ": ", detail::shown(text), ")");
  };
  const auto declare = [&](const AttributeTable& attributes, const char* kind) {
    std::vector<Column> columns;
    for (const std::string& name : attributes.names()) {
      check_text("name", name);
      const std::string key = "d" + std::to_string(keys++);
      columns.push_back({name, "  <data key=\"" + key + "\">", detail::graphml_type(attributes, name)});
      out.append("<key id=\"").append(key).append("\" for=\"").append(kind).append("\" attr.name=\"");
      detail::append_xml(out, name, true);
      out.append("\" attr.type=\"").append(detail::graphml_types[columns.back().type]).append("\"/>\n");
    }
    return columns;
  };
  const auto append_data = [&](const AttributeTable& attributes, const std::vector<Column>& columns, std::int64_t place,
                               std::string_view closing) {
    bool any = false;
    for (const Column& c : columns)
      detail::with_graphml_type(c.type, [&]<class T>(std::type_identity<T>) {
        const auto value = attributes.get<T>(c.name, place);
        if (!value) return;
        if (!any) out += ">\n";
        any = true;
        out += c.opening;
        if constexpr (std::is_same_v<T, std::string>) {
          check_text(c.name, *value);
          detail::append_xml(out, *value, false);
        } else {
          detail::append_number(out, *value);
        }
        out += "</data>\n";
      });
    out += any ? closing : "/>\n";
  };

  const auto of_vertices = declare(graph.vertex_attributes(), "node");
  const auto of_edges = declare(graph.edge_attributes(), "edge");
  out += graph.directed() ? "<graph edgedefault=\"directed\">" : "<graph edgedefault=\"undirected\">";
  for (std::int64_t v = 0; v < graph.vertex_count(); ++v) {
    out += "<node id=\"";
    detail::append_number(out, v);
    out += '"';
    append_data(graph.vertex_attributes(), of_vertices, v, "</node>\n");
  }
  for (std::int64_t k = 0; k < graph.edge_count(); ++k) {
    const Edge e = graph.edge(k);
    out += "<edge source=\"";
    detail::append_number(out, e.source);
    out += "\" target=\"";
    detail::append_number(out, e.target);
    out += '"';
    append_data(graph.edge_attributes(), of_edges, k, "</edge>\n");
  }
  return out += "</graph></graphml>";
}

/// Writes write_graphml(graph) to a file, whole or not at all.
inline void save_graphml(const Graph& graph, const std::filesystem::path& path) {
  const std::string text = write_graphml(graph);
  write_whole_file(path, std::as_bytes(std::span(text)));
}

}  // namespace deepstruct
