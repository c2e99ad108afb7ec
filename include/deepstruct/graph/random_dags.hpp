// Random directed acyclic graphs, every edge from an earlier to a later vertex.
#pragma once

#include <vector>

#include "sampling.hpp"

namespace deepstruct {

/// Each edge u → v, u < v, with probability p: a G(n, p) whose edges point from earlier to later vertices.
///
/// Edges in lexicographic order. O(n + edges), by geometric skips. Throws if n < 0 or p is outside [0, 1].
inline Graph random_dag(std::int64_t n, double p, Rng& rng = default_rng()) {
  detail::check_vertex_count("random_dag", n);
  detail::check_probability("random_dag", p);
  detail::WordReader words(rng.draw());
  std::vector<Edge> edges = detail::room_for_edges("random_dag", static_cast<double>(detail::pair_count(n)), p);
  detail::add_triangle(words, 0, n, p, edges);
  return Graph(n, std::move(edges), true);
}

/// Layers of these widths, numbered one after the other; edges to the next layer with probability p_next, to each later
/// one with probability p_skip.
///
/// A vertex that got no predecessor in the layer before gets one there, uniformly chosen, so that layer k of the graph
/// as a network (longest path from an input) is layer k here. Vertex attribute "layer" (int64). O(vertices + edges).
/// Throws on a width < 1 or a probability outside [0, 1].
inline Graph layered_random_dag(std::span<const std::int64_t> widths, double p_next, double p_skip,
                                Rng& rng = default_rng()) {
  for (const std::int64_t width : widths) check(width >= 1, "layered_random_dag: needs widths >= 1 (", width, ")");
  const std::vector<std::int64_t> start = detail::part_starts("layered_random_dag", widths);
  detail::check_probability("layered_random_dag", p_next);
  detail::check_probability("layered_random_dag", p_skip);
  const std::int64_t n = start.back();
  double expected = 0;
  for (std::size_t k = 0; k + 2 < start.size(); ++k)
    expected += static_cast<double>(widths[k]) *
                (p_next * static_cast<double>(widths[k + 1]) + p_skip * static_cast<double>(n - start[k + 2]));
  detail::WordReader words(rng.draw());
  std::vector<Edge> edges = detail::room_for_edges("layered_random_dag", expected, 1);
  std::vector<char> reached(static_cast<std::size_t>(n), 0);
  for (std::size_t k = 0; k + 2 < start.size(); ++k) {
    const std::size_t before = edges.size();
    detail::add_rectangle(words, start[k], start[k + 1], start[k + 1], start[k + 2], p_next, edges);
    for (std::size_t e = before; e < edges.size(); ++e) reached[static_cast<std::size_t>(edges[e].target)] = 1;
    for (std::int64_t v = start[k + 1]; v < start[k + 2]; ++v)
      if (!reached[static_cast<std::size_t>(v)])
        edges.push_back(detail::make_edge(start[k] + words.below(widths[k]), v));
    detail::add_rectangle(words, start[k], start[k + 1], start[k + 2], n, p_skip, edges);
  }
  Graph g(n, std::move(edges), true);
  g.sort_edges();
  g.vertex_attributes().set_column("layer", detail::part_of_vertices(start));
  return g;
}
inline Graph layered_random_dag(std::initializer_list<std::int64_t> widths, double p_next, double p_skip,
                                Rng& rng = default_rng()) {
  return layered_random_dag(std::span(widths.begin(), widths.size()), p_next, p_skip, rng);
}

}  // namespace deepstruct
