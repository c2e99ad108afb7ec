// Random graphs: G(n, p), G(n, m), blocks, points in the plane; with what it includes, all random generators.
//
// Every generator takes one draw of its Rng (a connected graph: one each try), so the same Rng gives the same graph
// everywhere.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "random_dags.hpp"
#include "random_degrees.hpp"
#include "watts_strogatz.hpp"

namespace deepstruct {

/// G(n, p): each of the n(n − 1)/2 edges (directed: n(n − 1)) with probability p.
///
/// Edges in lexicographic order. O(n + edges), by geometric skips (Gilbert, "Random graphs", 1959; Batagelj & Brandes,
/// "Efficient generation of large random networks", 2005). Throws if n < 0 or p is outside [0, 1].
inline Graph gnp_random_graph(std::int64_t n, double p, bool directed = false, Rng& rng = default_rng()) {
  detail::check_vertex_count("gnp_random_graph", n);
  detail::check_probability("gnp_random_graph", p);
  detail::WordReader words(rng.draw());
  const auto pairs = static_cast<double>(detail::pair_count(n));
  std::vector<Edge> edges = detail::room_for_edges("gnp_random_graph", directed ? 2 * pairs : pairs, p);
  if (directed) {
    detail::add_rectangle(words, 0, n, 0, n - 1, p, edges);
    for (Edge& e : edges) e.target += e.target >= e.source;  // no self loop
  } else {
    detail::add_triangle(words, 0, n, p, edges);
  }
  return Graph(n, std::move(edges), directed);
}
/// The same as gnp_random_graph, by its other name.
inline Graph erdos_renyi_graph(std::int64_t n, double p, bool directed = false, Rng& rng = default_rng()) {
  return gnp_random_graph(n, p, directed, rng);
}

/// G(n, m): m edges, every set of m edges equally likely (Erdős & Rényi, "On random graphs I", 1959).
///
/// As in NetworkX more edges than there are pairs give the complete graph. O(n + m) expected. Throws if n < 0 or m < 0.
inline Graph gnm_random_graph(std::int64_t n, std::int64_t m, Rng& rng = default_rng()) {
  detail::check_vertex_count("gnm_random_graph", n);
  check(m >= 0, "gnm_random_graph: needs m >= 0 (", m, ")");
  const std::int64_t pairs = detail::pair_count(n);
  if (m >= pairs) return complete_graph(n);
  detail::check_edge_count("gnm_random_graph", m);
  detail::WordReader words(rng.draw());
  const bool dense = m > pairs / 2;  // then the missing ones are drawn
  const std::int64_t drawn = dense ? pairs - m : m;
  detail::EdgeSet set(drawn);
  std::vector<Edge> edges;
  edges.reserve(static_cast<std::size_t>(m));
  for (std::int64_t k = 0; k < drawn;) {
    const std::int64_t u = words.below(n), other = words.below(n - 1), v = other + (other >= u);
    if (!set.insert(u, v)) continue;
    ++k;
    if (!dense) edges.push_back(detail::make_edge(u, v));
  }
  if (dense)
    for (std::int64_t u = 0; u < n; ++u)
      for (std::int64_t v = u + 1; v < n; ++v)
        if (!set.contains(u, v)) edges.push_back(detail::make_edge(u, v));
  Graph g(n, std::move(edges));
  g.sort_edges();
  return g;
}

/// Stochastic block model: blocks of these sizes, numbered one after the other; an edge between a vertex of block a and
/// one of block b with probability probabilities[a][b].
///
/// Vertex attribute "block" (int64). Holland, Laskey & Leinhardt, "Stochastic blockmodels: first steps", 1983.
/// O(vertices + edges + blocks²), by geometric skips. Throws on a size < 0, if the matrix is not [blocks, blocks] or
/// not symmetric (up to 1e-8, as in NetworkX), and on a probability outside [0, 1].
inline Graph stochastic_block_model(const std::vector<std::int64_t>& sizes,
                                    const std::vector<std::vector<double>>& probabilities, Rng& rng = default_rng()) {
  const std::vector<std::int64_t> start = detail::part_starts("stochastic_block_model", sizes);
  const std::size_t blocks = sizes.size();
  check(probabilities.size() == blocks, "stochastic_block_model: needs a row of probabilities per block (",
        probabilities.size(), " for ", blocks, ")");
  for (const auto& row : probabilities) {
    check(row.size() == blocks, "stochastic_block_model: needs a square matrix of probabilities (row of ", row.size(),
          " for ", blocks, " blocks)");
    for (const double p : row) detail::check_probability("stochastic_block_model", p);
  }
  double expected = 0;
  for (std::size_t a = 0; a < blocks; ++a)
    for (std::size_t b = a; b < blocks; ++b) {
      check(std::abs(probabilities[a][b] - probabilities[b][a]) <= 1e-8,
            "stochastic_block_model: needs a symmetric matrix of probabilities (", probabilities[a][b], " and ",
            probabilities[b][a], ")");
      const auto size = static_cast<double>(sizes[a]);
      expected += probabilities[a][b] * size * (a == b ? (size - 1) / 2 : static_cast<double>(sizes[b]));
    }
  std::vector<Edge> edges = detail::room_for_edges("stochastic_block_model", std::max(expected, 0.0), 1);
  detail::WordReader words(rng.draw());
  for (std::size_t a = 0; a < blocks; ++a) {
    detail::add_triangle(words, start[a], start[a + 1], probabilities[a][a], edges);
    for (std::size_t b = a + 1; b < blocks; ++b)
      detail::add_rectangle(words, start[a], start[a + 1], start[b], start[b + 1], probabilities[a][b], edges);
  }
  Graph g(start.back(), std::move(edges));
  g.sort_edges();
  g.vertex_attributes().set_column("block", detail::part_of_vertices(start));
  return g;
}

/// n points uniform in the unit square, joined if their distance is at most radius.
///
/// Vertex attributes "x" and "y" (double). Edges in lexicographic order. The points lie in cells no smaller than the
/// radius, so that only 3 × 3 cells are searched: O(n + edges) expected, for small radius at most n cells. Throws if
/// n < 0, or radius is negative or NaN.
inline Graph random_geometric_graph(std::int64_t n, double radius, Rng& rng = default_rng()) {
  detail::check_vertex_count("random_geometric_graph", n);
  check(radius >= 0, "random_geometric_graph: needs radius >= 0 (", radius, ")");
  detail::WordReader words(rng.draw());
  // Multiples of 2^-26: then squares of distances are exact, and no compiler can round them differently.
  std::vector<double> x, y;
  for (std::int64_t v = 0; v < n; ++v) {
    x.push_back((words.word() >> 6) * 0x1p-26);
    y.push_back((words.word() >> 6) * 0x1p-26);
  }
  const double finest = std::max(1.0, std::sqrt(static_cast<double>(n)));
  const std::int64_t side = static_cast<std::int64_t>(radius * finest > 1 ? std::max(1.0, 1 / radius) : finest);
  const auto slot = [&](double t) { return static_cast<std::int64_t>(t * static_cast<double>(side)); };
  std::vector<std::int32_t> start(static_cast<std::size_t>(side * side) + 1, 0);
  std::vector<std::int32_t> cell;
  for (std::size_t v = 0; v < x.size(); ++v) {
    cell.push_back(static_cast<std::int32_t>(slot(y[v]) * side + slot(x[v])));
    ++start[static_cast<std::size_t>(cell[v]) + 1];
  }
  std::partial_sum(start.begin(), start.end(), start.begin());
  std::vector<std::int32_t> next(start.begin(), start.end() - 1);
  std::vector<Vertex> members(x.size());
  for (std::size_t v = 0; v < x.size(); ++v)
    members[static_cast<std::size_t>(next[static_cast<std::size_t>(cell[v])]++)] = static_cast<Vertex>(v);
  std::vector<Edge> edges;
  for (std::size_t u = 0; u < x.size(); ++u) {
    const std::int64_t row = cell[u] / side, column = cell[u] % side;
    const auto first_edge = static_cast<std::ptrdiff_t>(edges.size());
    for (std::int64_t r = std::max<std::int64_t>(row - 1, 0); r <= std::min(row + 1, side - 1); ++r) {
      const std::int64_t from = r * side + std::max<std::int64_t>(column - 1, 0);
      const std::int64_t to = r * side + std::min(column + 1, side - 1) + 1;
      for (std::int32_t k = start[static_cast<std::size_t>(from)]; k < start[static_cast<std::size_t>(to)]; ++k) {
        const auto v = static_cast<std::size_t>(members[static_cast<std::size_t>(k)]);
        const double dx = x[u] - x[v], dy = y[u] - y[v];
        if (v > u && dx * dx + dy * dy <= radius * radius)
          edges.push_back(detail::make_edge(static_cast<std::int64_t>(u), static_cast<std::int64_t>(v)));
      }
    }
    std::sort(edges.begin() + first_edge, edges.end());
    detail::check_edge_count("random_geometric_graph", static_cast<std::int64_t>(edges.size()));
  }
  Graph g(n, std::move(edges));
  g.vertex_attributes().set_column("x", std::move(x));
  g.vertex_attributes().set_column("y", std::move(y));
  return g;
}

}  // namespace deepstruct
