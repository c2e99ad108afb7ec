// Connected components of a graph.
#pragma once

#include "graph.hpp"

namespace deepstruct {

/// Which component every vertex belongs to.
struct Components {
  std::int64_t count = 0;
  std::vector<std::int32_t> label;  ///< of every vertex, 0 … count − 1 in the order of the components' first vertices
};

namespace detail {

inline Components components(std::int64_t n, std::span<const Edge> edges) {
  Components c;
  std::vector<std::int32_t>& root = c.label;
  root.resize(static_cast<std::size_t>(n));
  std::iota(root.begin(), root.end(), 0);
  const auto find = [&](std::int32_t v) {
    while (root[v] != v) v = root[v] = root[root[v]];
    return v;
  };
  for (const Edge& e : edges) {
    const std::int32_t a = find(e.source), b = find(e.target);
    root[std::max(a, b)] = std::min(a, b);
  }
  // Roots come before their vertices, so labels can take the place of roots in one pass.
  for (std::int32_t v = 0; v < static_cast<std::int32_t>(root.size()); ++v)
    root[v] = root[v] == v ? static_cast<std::int32_t>(c.count++) : root[root[v]];
  return c;
}

}  // namespace detail

/// Components that edges hold together, directions ignored (of a directed graph the weak ones): union-find with path
/// halving, nearly O(V + E) (Tarjan and van Leeuwen, "Worst-case analysis of set union algorithms", J. ACM 1984).
inline Components connected_components(const Graph& g) { return detail::components(g.vertex_count(), g.edges()); }

/// True if there is one component, directions ignored; throws on a graph without vertices, as NetworkX.
inline bool is_connected(const Graph& g) {
  check(g.vertex_count() > 0, "is_connected: needs a vertex (", g.vertex_count(), ")");
  return connected_components(g).count == 1;
}

}  // namespace deepstruct
