// Generators of regular structure: paths, trees, grids, complete graphs; edge for edge those of NetworkX.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "graph.hpp"

namespace deepstruct {

namespace detail {

inline constexpr std::int64_t graph_limit = std::numeric_limits<std::int32_t>::max();

/// Before anything is allocated: a graph has 0 … 2³¹ − 2 vertices, and as many edges.
inline void check_vertex_count(const char* op, std::int64_t n) {
  check(n >= 0 && n < graph_limit, op, ": needs 0 to 2^31 - 2 vertices (", n, ")");
}
inline void check_edge_count(const char* op, std::int64_t m) {
  check(m >= 0 && m < graph_limit, op, ": too many edges (", m, ")");
}
inline Edge make_edge(std::int64_t u, std::int64_t v) { return {static_cast<Vertex>(u), static_cast<Vertex>(v)}; }
/// n(n − 1)/2
inline std::int64_t pair_count(std::int64_t n) { return n * (n - 1) / 2; }

/// Vertices numbered part by part: the first of every part, and their number: [parts + 1].
inline std::vector<std::int64_t> part_starts(const char* op, std::span<const std::int64_t> sizes) {
  std::vector<std::int64_t> start{0};
  for (const std::int64_t size : sizes) {
    check_vertex_count(op, size);
    start.push_back(start.back() + size);
    check_vertex_count(op, start.back());
  }
  return start;
}
/// The part of every vertex: the column "subset", "block" or "layer".
inline std::vector<std::int64_t> part_of_vertices(std::span<const std::int64_t> start) {
  std::vector<std::int64_t> part(static_cast<std::size_t>(start.back()));
  for (std::size_t k = 0; k + 1 < start.size(); ++k)
    std::fill(part.begin() + start[k], part.begin() + start[k + 1], static_cast<std::int64_t>(k));
  return part;
}

}  // namespace detail

/// Path 0 – 1 – … – (n − 1); O(n). Throws if n < 0.
inline Graph path_graph(std::int64_t n) {
  detail::check_vertex_count("path_graph", n);
  std::vector<Edge> edges;
  edges.reserve(static_cast<std::size_t>(n));
  for (std::int64_t v = 1; v < n; ++v) edges.push_back(detail::make_edge(v - 1, v));
  return Graph(n, std::move(edges));
}

/// Cycle 0 – 1 – … – (n − 1) – 0; O(n). As in NetworkX one vertex has a self loop and two have one edge. Throws if
/// n < 0.
inline Graph cycle_graph(std::int64_t n) {
  detail::check_vertex_count("cycle_graph", n);
  std::vector<Edge> edges;
  edges.reserve(static_cast<std::size_t>(n));
  for (std::int64_t v = 0; v < n; ++v) edges.push_back(detail::make_edge(v, v + 1 < n ? v + 1 : 0));
  Graph g(n, std::move(edges));
  g.sort_edges();
  return g;
}

/// Star: vertex 0 joined to each of 1 … n, so n + 1 vertices; O(n). Throws if n < 0.
inline Graph star_graph(std::int64_t n) {
  check(n >= 0, "star_graph: needs n >= 0 (", n, ")");
  detail::check_vertex_count("star_graph", n < detail::graph_limit ? n + 1 : n);
  std::vector<Edge> edges;
  edges.reserve(static_cast<std::size_t>(n));
  for (std::int64_t v = 1; v <= n; ++v) edges.push_back(detail::make_edge(0, v));
  return Graph(n + 1, std::move(edges));
}

/// Every pair of n vertices joined, n(n − 1)/2 edges; O(n²). Throws if n < 0.
inline Graph complete_graph(std::int64_t n) {
  detail::check_vertex_count("complete_graph", n);
  detail::check_edge_count("complete_graph", detail::pair_count(n));
  std::vector<Edge> edges;
  edges.reserve(static_cast<std::size_t>(detail::pair_count(n)));
  for (std::int64_t u = 0; u < n; ++u)
    for (std::int64_t v = u + 1; v < n; ++v) edges.push_back(detail::make_edge(u, v));
  return Graph(n, std::move(edges));
}

/// Parts of these sizes, numbered one after the other, and an edge between every two vertices of different parts.
///
/// Vertex attribute "subset" (int64) is the part. Two parts: the complete bipartite graph, a fully connected layer.
/// O(vertices + edges). Throws on a size < 0.
inline Graph complete_multipartite_graph(std::span<const std::int64_t> sizes) {
  const std::vector<std::int64_t> start = detail::part_starts("complete_multipartite_graph", sizes);
  const std::int64_t n = start.back();
  std::int64_t count = 0;
  for (std::size_t k = 0; k < sizes.size(); ++k) {
    count += sizes[k] * (n - start[k + 1]);
    detail::check_edge_count("complete_multipartite_graph", count);
  }
  std::vector<Edge> edges;
  edges.reserve(static_cast<std::size_t>(count));
  for (std::size_t k = 0; k < sizes.size(); ++k)
    for (std::int64_t u = start[k]; u < start[k + 1]; ++u)
      for (std::int64_t v = start[k + 1]; v < n; ++v) edges.push_back(detail::make_edge(u, v));
  Graph g(n, std::move(edges));
  g.vertex_attributes().set_column("subset", detail::part_of_vertices(start));
  return g;
}
inline Graph complete_multipartite_graph(std::initializer_list<std::int64_t> sizes) {
  return complete_multipartite_graph(std::span(sizes.begin(), sizes.size()));
}

/// Tree of n vertices in breadth-first order, each with r children as long as there are vertices: the parent of v is
/// ⌊(v − 1)/r⌋.
///
/// As in NetworkX r = 0 gives n vertices without edges. O(n). Throws if r < 0 or n < 0.
inline Graph full_rary_tree(std::int64_t r, std::int64_t n) {
  check(r >= 0, "full_rary_tree: needs r >= 0 (", r, ")");
  detail::check_vertex_count("full_rary_tree", n);
  std::vector<Edge> edges;
  if (r > 0) {
    edges.reserve(static_cast<std::size_t>(n));
    for (std::int64_t v = 1; v < n; ++v) edges.push_back(detail::make_edge((v - 1) / r, v));
  }
  return Graph(n, std::move(edges));
}

/// Tree of height h whose inner vertices all have r children: 1 + r + … + r^h vertices in breadth-first order.
///
/// As in NetworkX r = 0 is one vertex, r = 1 a path, h = −1 the empty graph. O(vertices). Throws if r < 0 or h < −1.
inline Graph balanced_tree(std::int64_t r, std::int64_t h) {
  check(r >= 0 && h >= -1, "balanced_tree: needs r >= 0 and h >= -1 (", r, " and ", h, ")");
  const bool fits = h < detail::graph_limit && r < detail::graph_limit;
  std::int64_t n = h < 0 ? 0 : 1, level = 1;
  if (r == 1) n = fits ? h + 1 : detail::graph_limit;
  if (r > 1)  // at least doubles each time, so the check ends it soon
    for (std::int64_t k = 0; k < h; ++k) {
      check(fits && level < detail::graph_limit / r, "balanced_tree: too many vertices (", r, " and ", h, ")");
      level *= r;
      n += level;
    }
  check(n < detail::graph_limit, "balanced_tree: too many vertices (", r, " and ", h, ")");
  return full_rary_tree(r, n);
}

/// Grid of rows × columns vertices, each joined to those beside and below it; vertex row·columns + column.
///
/// periodic = {rows, columns}: along a periodic axis of length > 2 the last is joined to the first. Vertex attributes
/// "row" and "column" (int64). O(rows·columns). Throws on a negative length.
inline Graph grid_2d_graph(std::int64_t rows, std::int64_t columns, std::array<bool, 2> periodic) {
  check(rows >= 0 && columns >= 0, "grid_2d_graph: needs lengths >= 0 (", rows, " and ", columns, ")");
  check(columns == 0 || rows <= (detail::graph_limit - 1) / columns, "grid_2d_graph: too many vertices (", rows,
        " and ", columns, ")");
  const std::int64_t n = rows * columns;
  detail::check_edge_count("grid_2d_graph", 2 * n);
  std::vector<Edge> edges;
  edges.reserve(static_cast<std::size_t>(2 * n));
  std::vector<std::int64_t> row_of, column_of;
  row_of.reserve(static_cast<std::size_t>(n));
  column_of.reserve(static_cast<std::size_t>(n));
  const bool wrap_rows = periodic[0] && rows > 2, wrap_columns = periodic[1] && columns > 2;
  for (std::int64_t v = 0; v < n; ++v) {
    const std::int64_t row = v / columns, column = v % columns;
    row_of.push_back(row);
    column_of.push_back(column);
    if (row + 1 < rows) edges.push_back(detail::make_edge(v, v + columns));
    if (column + 1 < columns) edges.push_back(detail::make_edge(v, v + 1));
    if (row == 0 && wrap_rows) edges.push_back(detail::make_edge(v, v + (rows - 1) * columns));
    if (column == 0 && wrap_columns) edges.push_back(detail::make_edge(v, v + columns - 1));
  }
  Graph g(n, std::move(edges));
  g.vertex_attributes().set_column("row", std::move(row_of));
  g.vertex_attributes().set_column("column", std::move(column_of));
  return g;
}
/// Both axes periodic (a torus), or none.
inline Graph grid_2d_graph(std::int64_t rows, std::int64_t columns, bool periodic = false) {
  return grid_2d_graph(rows, columns, std::array{periodic, periodic});
}

}  // namespace deepstruct
