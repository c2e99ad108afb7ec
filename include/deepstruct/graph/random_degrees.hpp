// Random graphs by their degrees: preferential attachment, regular graphs, given degrees.
#pragma once

#include <algorithm>
#include <vector>

#include "sampling.hpp"

namespace deepstruct {

/// Barabási–Albert graph: a star of m + 1 vertices, to which others come one by one, each joined to m different ones
/// before it, chosen with probability proportional to their degree.
///
/// m(n − m) edges, connected. Barabási & Albert, "Emergence of scaling in random networks", 1999. O(n·m) expected.
/// Throws unless 1 <= m < n.
inline Graph barabasi_albert_graph(std::int64_t n, std::int64_t m, Rng& rng = default_rng()) {
  detail::check_vertex_count("barabasi_albert_graph", n);
  check(m >= 1 && m < n, "barabasi_albert_graph: needs 1 <= m < n (", m, " and ", n, ")");
  detail::check_edge_count("barabasi_albert_graph", m * (n - m));
  detail::WordReader words(rng.draw());
  std::vector<Edge> edges;
  edges.reserve(static_cast<std::size_t>(m * (n - m)));
  for (std::int64_t v = 1; v <= m; ++v) edges.push_back(detail::make_edge(0, v));
  std::vector<Vertex> chosen_by(static_cast<std::size_t>(n), -1);
  for (std::int64_t v = m + 1; v < n; ++v) {
    const auto ends = static_cast<std::int64_t>(2 * edges.size());
    for (std::int64_t k = 0; k < m;) {
      const std::int64_t end = words.below(ends);  // a vertex is an end of as many edges as its degree
      const Edge& e = edges[static_cast<std::size_t>(end / 2)];
      const Vertex u = end % 2 ? e.target : e.source;
      if (chosen_by[static_cast<std::size_t>(u)] == v) continue;
      chosen_by[static_cast<std::size_t>(u)] = static_cast<Vertex>(v);
      edges.push_back(detail::make_edge(u, v));
      ++k;
    }
  }
  Graph g(n, std::move(edges));
  g.sort_edges();
  return g;
}

namespace detail {

/// One try to pair d stubs of each of n vertices (Steger & Wormald): pairs that are no new edge go into the next round.
/// Empty if only stubs are left that no new edge can join.
inline std::vector<Edge> try_to_pair(std::int64_t d, std::int64_t n, WordReader& words) {
  std::vector<Edge> edges;
  edges.reserve(static_cast<std::size_t>(n * d / 2));
  EdgeSet set(n * d / 2);
  std::vector<Vertex> stubs, left;
  stubs.reserve(static_cast<std::size_t>(n * d));
  for (std::int64_t k = 0; k < d; ++k)
    for (std::int64_t v = 0; v < n; ++v) stubs.push_back(static_cast<Vertex>(v));
  while (!stubs.empty()) {
    words.shuffle(stubs);
    left.clear();
    for (std::size_t k = 0; k < stubs.size(); k += 2) {
      const Vertex u = stubs[k], v = stubs[k + 1];
      if (u != v && set.insert(u, v)) {
        edges.push_back(make_edge(std::min(u, v), std::max(u, v)));
      } else {
        left.push_back(u);
        left.push_back(v);
      }
    }
    stubs = left;
    std::sort(left.begin(), left.end());
    left.erase(std::unique(left.begin(), left.end()), left.end());
    bool joinable = static_cast<std::int64_t>(left.size()) > d + 1;  // too many to be neighbours of each other
    for (std::size_t a = 0; a < left.size() && !joinable; ++a)
      for (std::size_t b = a + 1; b < left.size() && !joinable; ++b) joinable = !set.contains(left[a], left[b]);
    if (!joinable && !stubs.empty()) return {};
  }
  return edges;
}

}  // namespace detail

/// d-regular graph: n vertices of degree d, nearly uniform among all such graphs for small d.
///
/// Steger & Wormald, "Generating random regular graphs quickly", 1999, as in NetworkX. O(n·d) expected for small d.
/// Throws unless 0 <= d < n (also n = d = 0 is fine) and n·d is even.
inline Graph random_regular_graph(std::int64_t d, std::int64_t n, Rng& rng = default_rng()) {
  detail::check_vertex_count("random_regular_graph", n);
  check(d >= 0 && (d < n || d == 0), "random_regular_graph: needs 0 <= d < n (", d, " and ", n, ")");
  check(n * d % 2 == 0, "random_regular_graph: n * d must be even (", d, " and ", n, ")");
  detail::check_edge_count("random_regular_graph", n * d / 2);
  detail::WordReader words(rng.draw());
  std::vector<Edge> edges;
  while (d > 0 && edges.empty()) edges = detail::try_to_pair(d, n, words);
  Graph g(n, std::move(edges));
  g.sort_edges();
  return g;
}

/// Stubs of these degrees paired at random; pairs that are self loops or repeated edges are dropped, so that degrees
/// may be smaller than asked for.
///
/// (The pairing itself is the configuration model: Bollobás, "A probabilistic proof of an asymptotic formula for the
/// number of labelled regular graphs", 1980; NetworkX keeps loops and repeats, in a multigraph.) O(n + Σ degrees).
/// Throws on a degree < 0 and if the sum is odd.
inline Graph configuration_model(std::span<const std::int64_t> degrees, Rng& rng = default_rng()) {
  const auto n = static_cast<std::int64_t>(degrees.size());
  detail::check_vertex_count("configuration_model", n);
  std::int64_t sum = 0;
  for (const std::int64_t degree : degrees) {
    check(degree >= 0, "configuration_model: needs degrees >= 0 (", degree, ")");
    detail::check_edge_count("configuration_model", degree);
    sum += degree;
    detail::check_edge_count("configuration_model", sum / 2);
  }
  check(sum % 2 == 0, "configuration_model: needs an even sum of degrees (", sum, ")");
  std::vector<Vertex> stubs;
  stubs.reserve(static_cast<std::size_t>(sum));
  for (std::int64_t v = 0; v < n; ++v)
    stubs.insert(stubs.end(), static_cast<std::size_t>(degrees[static_cast<std::size_t>(v)]), static_cast<Vertex>(v));
  detail::WordReader words(rng.draw());
  words.shuffle(stubs);
  std::vector<Edge> edges;
  edges.reserve(stubs.size() / 2);
  for (std::size_t k = 0; k < stubs.size(); k += 2)
    if (stubs[k] != stubs[k + 1]) edges.push_back({stubs[k], stubs[k + 1]});
  Graph g(n, std::move(edges));  // drops the repeated ones
  g.sort_edges();
  return g;
}
inline Graph configuration_model(std::initializer_list<std::int64_t> degrees, Rng& rng = default_rng()) {
  return configuration_model(std::span(degrees.begin(), degrees.size()), rng);
}

}  // namespace deepstruct
