// Betweenness centrality: through which vertices shortest paths lead.
#pragma once

#include "paths.hpp"

namespace deepstruct {

namespace detail {

/// Adds δ_s(v) = Σ_w σ(v)/σ(w)·(1 + δ_s(w)) to every total, w one step farther from s than v, σ the number of shortest
/// paths from s; returns false if σ leaves the range of double.
inline bool add_dependencies(const Adjacency& steps, Vertex source, std::vector<double>& paths,
                             std::vector<double>& share, std::vector<double>& total) {
  const Search s = breadth_first(steps, source);
  for (const Vertex v : s.order) paths[v] = 0;
  paths[source] = 1;
  for (const Vertex v : s.order)
    for (const Vertex w : steps.of(v))
      if (s.distance[w] == s.distance[v] + 1) paths[w] += paths[v];
  for (std::size_t k = s.order.size(); k-- > 0;) {
    const Vertex v = s.order[k];
    if (!(paths[v] <= std::numeric_limits<double>::max())) return false;
    double sum = 0;  // of (1 + δ(w))/σ(w)
    for (const Vertex w : steps.of(v))
      if (s.distance[w] == s.distance[v] + 1) sum += share[w];
    share[v] = std::fma(paths[v], sum, 1.0) / paths[v];
    if (v != source) total[v] = std::fma(paths[v], sum, total[v]);
  }
  return true;
}

/// scale·Σ_s δ_s(v) over the sources. Always summed in 16 parts, so that threads do not change the result.
inline std::vector<double> betweenness(const Graph& g, std::span<const Vertex> sources) {
  constexpr std::int64_t parts = 16;
  const Adjacency a = steps(g);
  const auto n = static_cast<std::size_t>(g.vertex_count()), k = sources.size();
  std::vector<std::vector<double>> sum(parts);
  parallel_for(parts, [&](std::int64_t part) {
    const std::size_t first = k * part / parts, last = k * (part + 1) / parts;
    if (first == last) return;
    std::vector<double> paths(n), share(n), total(n, 0);
    for (const Vertex s : sources.subspan(first, last - first))
      check(add_dependencies(a, s, paths, share, total),
            "betweenness_centrality: more shortest paths than a double holds (from vertex ", s, ")");
    sum[part] = std::move(total);
  });
  std::vector<double> all(n, 0);
  const double pairs = (static_cast<double>(n) - 1) * (static_cast<double>(n) - 2);
  if (n < 3) return all;
  for (const auto& part : sum)
    for (std::size_t v = 0; v < part.size(); ++v) all[v] += part[v];
  for (double& b : all) b = b / pairs * (static_cast<double>(n) / static_cast<double>(k));
  return all;
}

}  // namespace detail

/// Share of shortest paths between the other vertices that lead through v: b(v) = Σ_{s ≠ v ≠ t} σ(s, t | v)/σ(s, t) /
/// ((n − 1)(n − 2)), over ordered pairs, along directions; 0 if n < 3. The same as NetworkX, normalised.
///
/// Brandes, "A faster algorithm for betweenness centrality", J. Math. Sociology 2001: O(V(V + E)), threaded. Throws if
/// there are more than 10^308 shortest paths between two vertices.
inline std::vector<double> betweenness_centrality(const Graph& g) {
  return detail::betweenness(g, detail::all_vertices(g));
}
/// An unbiased estimate of it from k sources s drawn without putting back, scaled by n/k (Brandes and Pich, "Centrality
/// estimation in large networks", 2007); O(k(V + E)).
inline std::vector<double> betweenness_centrality(const Graph& g, const Sample& sample, Rng& rng = default_rng()) {
  const std::vector<Vertex> sources = detail::sampled_vertices(g, sample, rng, "betweenness_centrality");
  return detail::betweenness(g, sources);
}

}  // namespace deepstruct
