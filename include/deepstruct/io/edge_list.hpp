// Edge lists: one edge a line, as NetworkX and many collections of graphs have them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "../graph/graph.hpp"
#include "file.hpp"
#include "gzip.hpp"
#include "text.hpp"

namespace deepstruct {

/// What an edge list does not say itself.
struct EdgeListOptions {
  bool directed = false;
  std::int64_t max_vertices = std::int64_t{1} << 26;  ///< one line can name a vertex of any number: no memory bombs
};

namespace detail {

/// The text up to the first white space; `rest` becomes what follows.
inline std::string_view next_word(std::string_view& rest) {
  rest = trimmed(rest);
  const auto end = std::find_if(rest.begin(), rest.end(), is_space);
  const std::string_view word = rest.substr(0, static_cast<std::size_t>(end - rest.begin()));
  rest.remove_prefix(word.size());
  return word;
}

/// Length of the part of a Python literal before the first of `ends` that is in no quotes or brackets, or npos.
inline std::size_t python_part(std::string_view text, std::string_view ends) {
  int depth = 0;
  char quote = 0;
  for (std::size_t k = 0; k < text.size(); ++k) {
    const char c = text[k];
    if (quote != 0) {
      if (c == '\\')
        ++k;
      else if (c == quote)
        quote = 0;
    } else if (depth == 0 && ends.find(c) != std::string_view::npos) {
      return k;
    } else if (c == '\'' || c == '"') {
      quote = c;
    } else if (c == '{' || c == '[' || c == '(') {
      ++depth;
    } else if (c == '}' || c == ']' || c == ')') {
      --depth;
    }
  }
  return std::string_view::npos;
}

/// The entry 'weight' of {'name': value, …}, or nothing if there is none; false if the text is no such thing.
inline bool find_weight(std::string_view text, std::optional<double>& weight) {
  text.remove_prefix(1);  // {
  while (!trimmed(text).empty()) {
    if (trimmed(text) == "}") return true;
    const std::size_t colon = python_part(text, ":");
    if (colon == std::string_view::npos) return false;
    const std::string_view name = trimmed(text.substr(0, colon));
    text.remove_prefix(colon + 1);
    const std::size_t end = python_part(text, ",}");
    if (end == std::string_view::npos) return false;
    if (name == "'weight'" || name == "\"weight\"") {
      weight = parse_number<double>(text.substr(0, end));
      if (!weight) return false;
    }
    text.remove_prefix(text[end] == ',' ? end + 1 : end);
  }
  return false;
}

}  // namespace detail

/// The graph of an edge list. A line is "u v", "u v 0.5" or "u v {'weight': 0.5, …}" with white space between; u and v
/// are whole numbers from 0, # begins a comment, empty lines do not count; O(text + vertices).
///
/// Vertices are 0 … the greatest number; edges keep the order of the lines. The weight becomes the attribute "weight"
/// of type double, other entries of the braces are passed over. An edge that comes again is the same edge, its later
/// weight counts, as in NetworkX's read_edgelist, which makes only the vertices that are named. Throws on any other
/// line, naming it, and on a vertex beyond options.max_vertices.
inline Graph read_edge_list(std::string_view text, const EdgeListOptions& options = {}) {
  std::vector<Edge> edges;
  std::vector<std::optional<double>> weights;
  const std::int64_t limit = std::min<std::int64_t>(options.max_vertices, std::numeric_limits<Vertex>::max() - 1);
  std::int64_t n = 0, number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++number;
    line = detail::trimmed(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    std::string_view rest = line;
    const auto u = detail::parse_number<std::int64_t>(detail::next_word(rest));
    const auto v = detail::parse_number<std::int64_t>(detail::next_word(rest));
    check(u && v && *u >= 0 && *v >= 0, "read_edge_list: needs two vertices, whole numbers from 0 (line ", number, ": ",
          detail::shown(line), ")");
    check(*u < limit && *v < limit, "read_edge_list: a vertex beyond max_vertices (line ", number, ": ",
          detail::shown(line), ", ", limit, ")");
    rest = detail::trimmed(rest);
    std::optional<double> weight;
    if (!rest.empty()) {
      const bool read = rest[0] == '{' ? detail::find_weight(rest, weight)
                                       : (weight = detail::parse_number<double>(rest)).has_value();
      check(read, "read_edge_list: needs a weight or {'name': value, ...} after two vertices (line ", number, ": ",
            detail::shown(line), ")");
    }
    n = std::max({n, *u + 1, *v + 1});
    edges.push_back({static_cast<Vertex>(*u), static_cast<Vertex>(*v)});
    if (weight && weights.empty()) weights.resize(edges.size() - 1);
    if (weight || !weights.empty()) weights.push_back(weight);
  }
  Graph graph(n, edges, options.directed);
  const bool repeated = graph.edge_count() < static_cast<std::int64_t>(edges.size());
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const auto place = repeated ? graph.add_edge(edges[k].source, edges[k].target) : static_cast<std::int32_t>(k);
    if (weights[k]) graph.edge_attributes().set("weight", place, *weights[k]);
  }
  return graph;
}

/// read_edge_list of a file, plain or .gz.
inline Graph load_edge_list(const std::filesystem::path& path, const EdgeListOptions& options = {}) {
  const auto bytes = read_file(path);
  return detail::of_file(path, [&] { return read_edge_list(as_text(bytes), options); });
}

/// Edge list of a graph, as NetworkX's write_edgelist: a line "u v {'weight': 0.5}" an edge, in order, {} where there
/// is no weight; O(text).
///
/// Read again it is the same graph, except that vertices after the last one with an edge, the direction, the type of
/// the weight and all other attributes are lost. Throws if "weight" is no number. NetworkX does not read the weights
/// nan and inf, which it writes likewise.
inline std::string write_edge_list(const Graph& graph) {
  std::string out;
  const AttributeTable& attributes = graph.edge_attributes();
  const auto append = [&]<class T>(std::int64_t k, std::type_identity<T>) {
    const auto weight = attributes.get<T>("weight", k);
    if (!weight) return;
    out += "'weight': ";
    const std::size_t first = out.size();
    detail::append_number(out, *weight);
    const bool whole = out.find_first_not_of("-0123456789", first) == std::string::npos;
    if (std::is_floating_point_v<T> && whole) out += ".0";
  };
  const bool none = !attributes.contains("weight"), whole = attributes.holds<std::int64_t>("weight"),
             single = attributes.holds<float>("weight");
  check(none || whole || single || attributes.holds<double>("weight"), "write_edge_list: weight must be a number (",
        graph.edge_count(), " edges)");
  for (std::int64_t k = 0; k < graph.edge_count(); ++k) {
    detail::append_number(out, graph.edge(k).source);
    out += ' ';
    detail::append_number(out, graph.edge(k).target);
    out += " {";
    if (whole)
      append(k, std::type_identity<std::int64_t>{});
    else if (single)
      append(k, std::type_identity<float>{});
    else if (!none)
      append(k, std::type_identity<double>{});
    out += "}\n";
  }
  return out;
}

/// Writes write_edge_list(graph) to a file, whole or not at all.
inline void save_edge_list(const Graph& graph, const std::filesystem::path& path) {
  const std::string text = write_edge_list(graph);
  write_whole_file(path, std::as_bytes(std::span(text)));
}

}  // namespace deepstruct
