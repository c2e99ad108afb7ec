// Small-world coefficient: clustering and path length beside those of random graphs with the same degrees.
#pragma once

#include <unordered_set>

#include "metrics.hpp"
#include "paths.hpp"

namespace deepstruct {

/// A random graph with the same degrees: edges a – b and c – d become a – d and c – b, as often as tried, unless that
/// makes a self loop or an edge that exists. Self loops of g stay; attributes do not come along.
///
/// Tries swaps_per_edge·E swaps (Maslov and Sneppen, "Specificity and stability in topology of protein networks",
/// Science 2002). If g is connected, so is the result: swaps are made in batches, and a batch that disconnects the
/// graph is taken back and the next one half as long (Viger and Latapy, "Efficient and simple generation of random
/// simple connected graphs with prescribed degree sequence", COCOON 2005). O(tries) on graphs that stay together,
/// O(tries·V) on trees. Throws on a directed graph and on a negative number of swaps.
inline Graph random_reference(const Graph& g, std::int64_t swaps_per_edge, Rng& rng = default_rng()) {
  check(!g.directed(), "random_reference: needs an undirected graph (directed, ", g.vertex_count(), " vertices)");
  check(swaps_per_edge >= 0 && swaps_per_edge <= 1 << 20, "random_reference: needs 0 to 2^20 swaps per edge (",
        swaps_per_edge, ")");
  const auto key = [](Vertex u, Vertex v) {
    return std::uint64_t{static_cast<std::uint32_t>(std::min(u, v))} << 32 | static_cast<std::uint32_t>(std::max(u, v));
  };
  std::vector<Edge> edges, loops;
  std::unordered_set<std::uint64_t> present;
  present.reserve(g.edges().size());
  for (const Edge& e : g.edges()) {
    (e.source == e.target ? loops : edges).push_back(e);
    present.insert(key(e.source, e.target));
  }
  struct Swap {
    std::size_t i, j;
    Edge first, second;  // before
  };
  std::vector<Swap> made;
  const auto replace = [&](std::size_t i, std::size_t j, Edge first, Edge second) {
    present.erase(key(edges[i].source, edges[i].target));
    present.erase(key(edges[j].source, edges[j].target));
    present.insert(key(first.source, first.target));
    present.insert(key(second.source, second.target));
    edges[i] = first;
    edges[j] = second;
  };
  const bool connected = g.vertex_count() > 0 && is_connected(g);
  const auto m = static_cast<std::int64_t>(edges.size()), tries = swaps_per_edge * m;
  const Draw draw = rng.draw();
  std::int64_t batch = m;
  for (std::int64_t done = 0; done < tries;) {
    made.clear();
    const std::int64_t end = std::min(tries, done + batch);
    for (; done < end; ++done) {
      const auto at = static_cast<std::uint64_t>(done) * 4;
      const std::size_t i = draw.below(at, static_cast<std::uint64_t>(m)),
                        j = draw.below(at + 1, static_cast<std::uint64_t>(m));
      const Edge a = edges[i];
      const Edge b = draw.below(at + 2, 2) ? edges[j] : Edge{edges[j].target, edges[j].source};
      if (i == j || a.source == b.target || b.source == a.target) continue;
      if (present.contains(key(a.source, b.target)) || present.contains(key(b.source, a.target))) continue;
      made.push_back({i, j, a, edges[j]});
      replace(i, j, {a.source, b.target}, {b.source, a.target});
    }
    if (!connected || made.empty() || detail::components(g.vertex_count(), edges).count == 1) {
      batch = std::min(m, 2 * batch);
    } else {
      for (std::size_t k = made.size(); k-- > 0;) replace(made[k].i, made[k].j, made[k].first, made[k].second);
      batch = std::max<std::int64_t>(1, batch / 2);
    }
  }
  edges.insert(edges.end(), loops.begin(), loops.end());
  return Graph(g.vertex_count(), std::move(edges));
}

/// How small_world() measures.
struct SmallWorldOptions {
  std::int64_t references = 10;      ///< random graphs to average over, as NetworkX's nrand
  std::int64_t swaps_per_edge = 10;  ///< swaps tried in each
  std::int64_t sources = 0;          ///< vertices to estimate path lengths from; 0: all, exact
};

/// σ and what it is made of.
struct SmallWorld {
  double sigma = 0;                ///< (C / C_rand) / (L / L_rand), above 1 in a small world
  double transitivity = 0;         ///< C
  double path_length = 0;          ///< L
  double random_transitivity = 0;  ///< C_rand, mean over the random graphs
  double random_path_length = 0;   ///< L_rand, mean over the random graphs
};

/// σ = (C / C_rand) / (L / L_rand), C = transitivity(), L = average_shortest_path_length(), beside the means over
/// random_reference() graphs: what NetworkX calls sigma, random numbers apart.
///
/// Humphries and Gurney, "Network 'small-world-ness'", PLoS ONE 2008. Where no random graph has a triangle σ is
/// infinity, or NaN if g has none either. Throws unless g is undirected, connected and has 4 vertices or more.
inline SmallWorld small_world(const Graph& g, const SmallWorldOptions& options, Rng& rng = default_rng()) {
  check(!g.directed(), "small_world: needs an undirected graph (directed, ", g.vertex_count(), " vertices)");
  check(g.vertex_count() >= 4, "small_world: needs four vertices (", g.vertex_count(), ")");
  check(options.references >= 1, "small_world: needs a reference (", options.references, ")");
  check(options.sources >= 0, "small_world: needs 0 sources (all) or more (", options.sources, ")");
  check(is_connected(g), "small_world: needs a connected graph (", connected_components(g).count, " components)");
  const auto length = [&](const Graph& graph) {
    return options.sources == 0 ? average_shortest_path_length(graph)
                                : average_shortest_path_length(graph, {.sources = options.sources}, rng);
  };
  SmallWorld s;
  s.transitivity = transitivity(g);
  s.path_length = length(g);
  for (std::int64_t k = 0; k < options.references; ++k) {
    const Graph random = random_reference(g, options.swaps_per_edge, rng);
    s.random_transitivity += transitivity(random) / static_cast<double>(options.references);
    s.random_path_length += length(random) / static_cast<double>(options.references);
  }
  s.sigma = (s.transitivity / s.random_transitivity) / (s.path_length / s.random_path_length);
  return s;
}
/// σ alone.
inline double small_world_sigma(const Graph& g, const SmallWorldOptions& options, Rng& rng = default_rng()) {
  return small_world(g, options, rng).sigma;
}
/// σ beside what is expected of a random graph with n vertices and mean degree k: C_rand = k/n, L_rand = ln n / ln k
/// (Watts and Strogatz, Nature 1998); no random numbers. Throws also unless k > 1.
inline double small_world_sigma(const Graph& g) {
  check(!g.directed(), "small_world_sigma: needs an undirected graph (directed, ", g.vertex_count(), " vertices)");
  check(g.vertex_count() >= 4, "small_world_sigma: needs four vertices (", g.vertex_count(), ")");
  const auto n = static_cast<double>(g.vertex_count()), k = 2 * static_cast<double>(g.edge_count()) / n;
  check(k > 1, "small_world_sigma: needs a mean degree above 1 (", k, ")");
  return transitivity(g) / (k / n) / (average_shortest_path_length(g) / (detail::exact_log(n) / detail::exact_log(k)));
}

}  // namespace deepstruct
