// DOT: graphs for Graphviz to draw. Written only.
//
// E. R. Gansner, S. C. North: An open graph visualization system and its applications to software engineering,
// Software: Practice and Experience 30(11), 2000; https://graphviz.org/doc/info/lang.html
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "../graph/graph.hpp"
#include "file.hpp"
#include "text.hpp"

namespace deepstruct {

namespace detail {

/// True for what DOT takes without quotes: a name that is no keyword.
inline bool is_dot_name(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (text.empty() || digit(text[0])) return false;
  if (!std::all_of(text.begin(), text.end(), [&](char c) { return letter(c) || digit(c); })) return false;
  const auto same = [](char a, char b) { return a == b || a + ('a' - 'A') == b; };  // keywords have no case
  constexpr std::array<std::string_view, 6> keywords{"node", "edge", "graph", "digraph", "subgraph", "strict"};
  return std::none_of(keywords.begin(), keywords.end(), [&](std::string_view word) {
    return std::equal(text.begin(), text.end(), word.begin(), word.end(), same);
  });
}

inline void append_dot_text(std::string& out, std::string_view text) {
  if (is_dot_name(text)) {
    out += text;
    return;
  }
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  out += '"';
}

inline void append_dot_attributes(std::string& out, const AttributeTable& attributes,
                                  const std::vector<std::string>& names, std::int64_t place) {
  std::string_view before = " [";
  for (const std::string& name : names) {
    const auto value = attributes.value(name, place);
    if (!value) continue;
    out += before;
    before = ", ";
    append_dot_text(out, name);
    out += '=';
    std::visit(
        [&]<class T>(const T& x) {
          if constexpr (std::is_same_v<T, std::string>) {
            append_dot_text(out, x);
          } else {  // a number of DOT has no exponent
            std::string number;
            append_number(number, x);
            const bool plain = number.find_first_not_of("0123456789.-") == std::string::npos;
            plain ? void(out += number) : append_dot_text(out, number);
          }
        },
        *value);
  }
  out += before == ", " ? "];\n" : ";\n";
}

}  // namespace detail

/// DOT text of a graph: vertices 0 … n − 1 and edges in order, all attributes with their names, so that Graphviz obeys
/// those it knows, such as label; O(text). Strings are taken as UTF-8; a backslash or quote is shown as it is.
inline std::string write_dot(const Graph& graph) {
  std::string out = graph.directed() ? "digraph {\n" : "graph {\n";
  const std::string_view arrow = graph.directed() ? " -> " : " -- ";
  const auto of_vertices = graph.vertex_attributes().names(), of_edges = graph.edge_attributes().names();
  for (std::int64_t v = 0; v < graph.vertex_count(); ++v) {
    out += "  ";
    detail::append_number(out, v);
    detail::append_dot_attributes(out, graph.vertex_attributes(), of_vertices, v);
  }
  for (std::int64_t k = 0; k < graph.edge_count(); ++k) {
    out += "  ";
    detail::append_number(out, graph.edge(k).source);
    out += arrow;
    detail::append_number(out, graph.edge(k).target);
    detail::append_dot_attributes(out, graph.edge_attributes(), of_edges, k);
  }
  return out += "}\n";
}

/// Writes write_dot(graph) to a file, whole or not at all.
inline void save_dot(const Graph& graph, const std::filesystem::path& path) {
  const std::string text = write_dot(graph);
  write_whole_file(path, std::as_bytes(std::span(text)));
}

}  // namespace deepstruct
