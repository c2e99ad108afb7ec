// What read_graphml does: the parsed XML of a GraphML file becomes a graph.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <pugixml.hpp>

#include "../graph/graph.hpp"
#include "gzip.hpp"
#include "text.hpp"

namespace deepstruct::detail {

/// GraphML's names of the types of AttributeTable::Value, in its order.
inline constexpr std::array<std::string_view, 5> graphml_types{"boolean", "long", "float", "double", "string"};
enum GraphmlType : std::size_t { graphml_bool, graphml_long, graphml_float, graphml_double, graphml_string };

/// f(std::type_identity<T>) of the T that has this place in AttributeTable::Value.
template <class F>
auto with_graphml_type(std::size_t type, F&& f) {
  switch (type) {
    case graphml_bool:
      return f(std::type_identity<bool>{});
    case graphml_long:
      return f(std::type_identity<std::int64_t>{});
    case graphml_float:
      return f(std::type_identity<float>{});
    case graphml_double:
      return f(std::type_identity<double>{});
    default:
      return f(std::type_identity<std::string>{});
  }
}

/// The type of an existing attribute.
inline std::size_t graphml_type(const AttributeTable& attributes, std::string_view name) {
  std::size_t type = 0;
  while (!with_graphml_type(type, [&]<class T>(std::type_identity<T>) { return attributes.holds<T>(name); })) ++type;
  return type;
}

/// An attribute that a file declares for vertices or for edges.
struct GraphmlColumn {
  std::string name;
  std::size_t type = graphml_string;
  std::optional<std::string> fallback;  // of places without a value
};
using GraphmlColumns = std::vector<GraphmlColumn>;

/// What `<key>` declares; -1: not for vertices, not for edges.
struct GraphmlKey {
  std::int32_t of_vertices = -1, of_edges = -1;
  bool ignored = false;
};

/// Numbers of vertices by their ids. The usual ids "0", "1", … in order need no map.
class GraphmlIds {
 public:
  /// The vertex of that id, a new one if there is none yet.
  Vertex of(std::string_view id) {
    const auto n = static_cast<Vertex>(names_.size());
    if (in_order_) {
      const std::int64_t k = canonical(id);
      if (k >= 0 && k < n) return static_cast<Vertex>(k);
      if (k == n) {
        names_.push_back(id);
        return n;
      }
      in_order_ = false;
      places_.reserve(names_.size() + 1);
      for (Vertex v = 0; v < n; ++v) places_.emplace(names_[static_cast<std::size_t>(v)], v);
    }
    const auto [at, fresh] = places_.try_emplace(id, n);
    if (fresh) names_.push_back(id);
    return at->second;
  }
  /// True if the ids are "0" … "n − 1" in this order.
  bool in_order() const { return in_order_; }
  const std::vector<std::string_view>& names() const { return names_; }

 private:
  /// The number that is written like this, without sign or leading zeros, or -1.
  static std::int64_t canonical(std::string_view id) {
    if (id.empty() || id.size() > 10 || (id[0] == '0' && id.size() > 1)) return -1;
    std::int64_t k = 0;
    for (const char c : id) {
      if (c < '0' || c > '9') return -1;
      k = 10 * k + (c - '0');
    }
    return k;
  }

  bool in_order_ = true;
  std::vector<std::string_view> names_;
  std::unordered_map<std::string_view, Vertex> places_;
};

/// The text of an element; `scratch` holds it when it comes in parts. Nothing if there are elements inside.
inline std::optional<std::string_view> graphml_text(const pugi::xml_node& element, std::string& scratch) {
  if (!element.first_child()) return element.value();
  scratch = element.value();
  for (const pugi::xml_node part : element.children()) {
    if (part.type() == pugi::node_element) return std::nullopt;
    scratch += part.value();
  }
  return scratch;
}

inline void set_graphml_value(AttributeTable& attributes, const GraphmlColumn& column, std::int64_t place,
                              std::string_view text) {
  with_graphml_type(column.type, [&]<class T>(std::type_identity<T>) {
    if constexpr (std::is_same_v<T, std::string>) {
      attributes.set(column.name, place, std::string(text));
    } else if constexpr (std::is_same_v<T, bool>) {
      std::string word(trimmed(text).substr(0, 6));
      for (char& c : word) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      const bool yes = word == "true" || word == "1";
      check(yes || word == "false" || word == "0", "read_graphml: not a boolean (", shown(column.name), ": ",
            shown(text), ")");
      attributes.set(column.name, place, yes);
    } else {
      const auto x = parse_number<T>(text);
      check(x.has_value(), "read_graphml: not a number of type ", graphml_types[column.type], " (", shown(column.name),
            ": ", shown(text), ")");
      attributes.set(column.name, place, *x);
    }
  });
}

/// Reads a parsed document; its strings live as long as it does.
class GraphmlReader {
 public:
  GraphmlReader(const pugi::xml_document& document, const ReadOptions& options) {
    const pugi::xml_node root = document.document_element();
    check(std::string_view(root.name()) == "graphml", "read_graphml: not GraphML (the root element is ",
          shown(root.name()), ")");
    const pugi::xml_node graph = root.child("graph");
    check(!graph.empty(), "read_graphml: the file holds no graph (", root.name(), ")");
    for (const pugi::xml_node key : root.children("key")) read_key(key);

    const std::string_view direction = graph.attribute("edgedefault").as_string("undirected");
    check(direction == "directed" || direction == "undirected",
          "read_graphml: edgedefault must be directed or undirected (", shown(direction), ")");
    result = Graph(direction == "directed");
    read_structure(graph);
    make_columns(options);
    read_data(graph);
  }

  Graph result;

 private:
  static std::string_view required(const pugi::xml_node& element, const char* attribute) {
    const pugi::xml_attribute found = element.attribute(attribute);
    check(!found.empty(), "read_graphml: ", element.name(), " without ", attribute, " (byte ", element.offset_debug(),
          ")");
    return found.value();
  }

  /// The column of that name; numbers of several types become double.
  static std::int32_t declare(GraphmlColumns& columns, std::string_view name, std::size_t type,
                              const std::optional<std::string>& fallback) {
    const auto numeric = [](std::size_t t) { return t >= graphml_long && t <= graphml_double; };
    std::size_t k = 0;
    while (k < columns.size() && columns[k].name != name) ++k;
    if (k == columns.size()) {
      check(k < most_columns, "read_graphml: too many attributes (at most ", most_columns, ")");
      columns.push_back({std::string(name), type, fallback});
    } else {
      GraphmlColumn& column = columns[k];
      check(type == column.type || (numeric(type) && numeric(column.type)),
            "read_graphml: an attribute has two types (", shown(name), ": ", graphml_types[column.type], " and ",
            graphml_types[type], ")");
      if (type != column.type) column.type = graphml_double;
      if (!column.fallback) column.fallback = fallback;
    }
    return static_cast<std::int32_t>(k);
  }

  void read_key(const pugi::xml_node& element) {
    GraphmlKey key;
    const std::string_view id = required(element, "id"), kind = element.attribute("for").as_string("all");
    key.ignored = !element.attribute("yfiles.type").empty() || (kind != "node" && kind != "edge" && kind != "all");
    if (!key.ignored) {
      const std::string_view name = required(element, "attr.name");
      const std::string_view type_name = element.attribute("attr.type").as_string("string");
      std::size_t type = 0;
      while (type < graphml_types.size() && type_name != graphml_types[type]) ++type;
      if (type_name == "int" || type_name == "integer") type = graphml_long;
      check(type < graphml_types.size(), "read_graphml: unknown type of an attribute (", shown(name), ": ",
            shown(type_name), ")");
      std::optional<std::string> fallback;
      if (const pugi::xml_node given = element.child("default")) {
        const auto text = graphml_text(given, scratch_);
        if (text) fallback = std::string(*text);
      }
      if (kind != "edge") key.of_vertices = declare(vertex_columns_, name, type, fallback);
      if (kind != "node") key.of_edges = declare(edge_columns_, name, type, fallback);
    }
    check(keys_.emplace(id, key).second, "read_graphml: two keys have the same id (", shown(id), ")");
  }

  /// Vertices in the order of the file, then those that only edges name; edges.
  void read_structure(const pugi::xml_node& graph) {
    for (const pugi::xml_node element : graph.children()) {
      const std::string_view name = element.name();
      if (name == "node") ids_.of(required(element, "id"));
      check(name != "hyperedge", "read_graphml: hyperedges are not supported (byte ", element.offset_debug(), ")");
    }
    const std::string_view other = result.directed() ? "false" : "true";
    for (const pugi::xml_node element : graph.children("edge")) {
      if (element.attribute("directed").value() == other)
        fail("read_graphml: directed and undirected edges in one graph (", shown(required(element, "source")), ", ",
             shown(required(element, "target")), ")");
      const Vertex source = ids_.of(required(element, "source"));
      edges_.push_back({source, ids_.of(required(element, "target"))});
      edge_ids_ = edge_ids_ || *element.attribute("id").value() != '\0';
    }
  }

  /// The graph with all attributes, still without values.
  void make_columns(const ReadOptions& options) {
    const auto contains = [](const GraphmlColumns& columns, std::string_view name) {
      return std::any_of(columns.begin(), columns.end(), [&](const GraphmlColumn& c) { return c.name == name; });
    };
    vertex_ids_ = !ids_.in_order() && !contains(vertex_columns_, "id");
    edge_ids_ = edge_ids_ && !contains(edge_columns_, "id");
    if (vertex_ids_) declare(vertex_columns_, "id", graphml_string, std::nullopt);
    if (edge_ids_) declare(edge_columns_, "id", graphml_string, std::nullopt);

    std::uint64_t bytes = 0;  // a short file can declare many columns of many places
    const auto add = [&](AttributeTable& attributes, const GraphmlColumns& columns, std::uint64_t places) {
      for (const GraphmlColumn& c : columns)
        with_graphml_type(c.type, [&]<class T>(std::type_identity<T>) {
          bytes += places * (sizeof(T) + 1 + (std::is_same_v<T, std::string> && c.fallback ? c.fallback->size() : 0));
          attributes.set_column<T>(c.name, {});
        });
    };
    const auto n = ids_.names().size();
    add(result.vertex_attributes(), vertex_columns_, n);
    add(result.edge_attributes(), edge_columns_, edges_.size());
    check(bytes <= options.max_bytes, "read_graphml: the attributes take more than allowed (", bytes, " > ",
          options.max_bytes, " bytes)");
    result.add_vertices(static_cast<std::int64_t>(n));
    result.add_edges(edges_);
    if (result.edge_count() < static_cast<std::int64_t>(edges_.size())) name_parallel_edges();
  }

  [[noreturn]] void name_parallel_edges() {
    std::vector<Edge>& e = edges_;
    if (!result.directed())
      for (Edge& edge : e) edge = {std::min(edge.source, edge.target), std::max(edge.source, edge.target)};
    std::sort(e.begin(), e.end());
    const Edge twice = *std::adjacent_find(e.begin(), e.end());
    fail("read_graphml: parallel edges (between ", shown(ids_.names()[static_cast<std::size_t>(twice.source)]), " and ",
         shown(ids_.names()[static_cast<std::size_t>(twice.target)]), ")");
  }

  void read_data_of(const pugi::xml_node& element, AttributeTable& attributes, const GraphmlColumns& columns,
                    std::int32_t GraphmlKey::*of, std::int64_t place) {
    for (const pugi::xml_node part : element.children()) {
      const std::string_view name = part.name();
      check(name != "graph", "read_graphml: nested graphs are not supported (byte ", part.offset_debug(), ")");
      if (name != "data") continue;
      const auto key = keys_.find(required(part, "key"));
      check(key != keys_.end(), "read_graphml: no such key (", shown(part.attribute("key").value()), ")");
      if (key->second.ignored) continue;
      check(key->second.*of >= 0, "read_graphml: the key is not declared for ", element.name(), " (", shown(key->first),
            ")");
      if (const auto text = graphml_text(part, scratch_))
        set_graphml_value(attributes, columns[static_cast<std::size_t>(key->second.*of)], place, *text);
    }
  }

  void read_data(const pugi::xml_node& graph) {
    std::int64_t k = 0;
    for (const pugi::xml_node element : graph.children()) {
      const std::string_view name = element.name();
      if (name == "node" && element.first_child()) {
        const Vertex v = ids_.of(element.attribute("id").value());
        read_data_of(element, result.vertex_attributes(), vertex_columns_, &GraphmlKey::of_vertices, v);
      } else if (name == "edge") {
        read_data_of(element, result.edge_attributes(), edge_columns_, &GraphmlKey::of_edges, k);
        if (const char* id = element.attribute("id").value(); edge_ids_ && *id != '\0')
          result.edge_attributes().set("id", k, std::string(id));
        ++k;
      }
    }
    for (std::size_t v = 0; vertex_ids_ && v < ids_.names().size(); ++v)
      result.vertex_attributes().set("id", static_cast<std::int64_t>(v), std::string(ids_.names()[v]));
    for (const auto& [attributes, columns] : {std::pair(&result.vertex_attributes(), &vertex_columns_),
                                              std::pair(&result.edge_attributes(), &edge_columns_)})
      for (const GraphmlColumn& c : *columns)
        for (std::int64_t place = 0; c.fallback && place < attributes->size(); ++place)
          if (!attributes->value(c.name, place)) set_graphml_value(*attributes, c, place, *c.fallback);
  }

  static constexpr std::size_t most_columns = 1024;  // AttributeTable looks a name up among all

  std::unordered_map<std::string_view, GraphmlKey> keys_;
  GraphmlColumns vertex_columns_, edge_columns_;
  GraphmlIds ids_;
  std::vector<Edge> edges_;
  bool vertex_ids_ = false, edge_ids_ = false;  // kept as attribute "id"
  std::string scratch_;
};

/// References such as &#0; to what is no character; those in CDATA and comments are none, but these begin outside of
/// tags only: the parser lets a < stand in an attribute.
inline void check_references(std::string_view text) {
  if (text.find("&#") == std::string_view::npos) return;  // as nearly always
  bool in_tag = false;
  char quote = 0;
  const auto behind = [&](std::size_t at, std::string_view end) { return std::min(text.find(end, at), text.size()); };
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_tag && (c == '"' || c == '\'')) {
      if (quote == 0 || quote == c) quote = quote == 0 ? c : '\0';
    } else if (c == '>' && quote == 0) {
      in_tag = false;
    } else if (c == '<' && !in_tag) {
      if (text.substr(at).starts_with("<![CDATA["))
        at = behind(at, "]]>");
      else if (text.substr(at).starts_with("<!--"))
        at = behind(at, "-->");
      else
        in_tag = true;
    } else if (c == '&' && text.substr(at).starts_with("&#")) {
      const bool hex = text.size() - at > 2 && text[at + 2] == 'x';
      const char* first = text.data() + at + (hex ? 3 : 2);
      std::uint32_t code = 0;
      const auto [end, problem] = std::from_chars(first, text.data() + text.size(), code, hex ? 16 : 10);
      check(problem == std::errc{} && is_xml_character(code),
            "read_graphml: a reference to what is no character of XML (byte ", at, ")");
    }
  }
}

}  // namespace deepstruct::detail
