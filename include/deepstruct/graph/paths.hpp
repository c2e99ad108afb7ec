// Shortest paths: components, distances from 64 vertices at a time, average length, diameter.
#pragma once

#include <bit>

#include "../core/parallel.hpp"
#include "../core/rng.hpp"
#include "components.hpp"

namespace deepstruct {

namespace detail {

/// What paths may follow: edges in their direction, in an undirected graph both ways.
inline Adjacency steps(const Graph& g) { return g.directed() ? successors(g) : neighbours(g); }

/// Vertices in the order of a breadth-first search and how far each vertex is from the source, −1 if it is not reached.
struct Search {
  std::vector<Vertex> order;
  std::vector<std::int32_t> distance;
};
inline Search breadth_first(const Adjacency& a, Vertex source) {
  Search s;
  s.distance.assign(static_cast<std::size_t>(a.vertex_count()), -1);
  s.distance[source] = 0;
  s.order.push_back(source);
  for (std::size_t k = 0; k < s.order.size(); ++k)
    for (const Vertex w : a.of(s.order[k]))
      if (s.distance[w] < 0) {
        s.distance[w] = s.distance[s.order[k]] + 1;
        s.order.push_back(w);
      }
  return s;
}

/// Sum and greatest of distances.
struct Distances {
  double sum = 0;
  std::int32_t greatest = 0;
};

/// Distances from up to 64 different vertices to all: one search with a bit per source (Then et al., "The more the
/// merrier: efficient multi-source graph traversal", VLDB 2014).
inline Distances distances_from(const Adjacency& a, std::span<const Vertex> sources) {
  std::vector<std::uint64_t> seen(static_cast<std::size_t>(a.vertex_count()), 0), now(seen), next(seen);
  std::vector<Vertex> frontier(sources.begin(), sources.end()), reached;
  for (std::size_t k = 0; k < sources.size(); ++k) seen[sources[k]] = now[sources[k]] = std::uint64_t{1} << k;
  std::int64_t sum = 0;
  std::int32_t level = 0;
  for (; !frontier.empty(); ++level) {
    reached.clear();
    for (const Vertex v : frontier) {
      const std::uint64_t bits = std::exchange(now[v], 0);
      for (const Vertex w : a.of(v)) {
        const std::uint64_t fresh = bits & ~seen[w];
        if (fresh == 0) continue;
        if (next[w] == 0) reached.push_back(w);
        next[w] |= fresh;
      }
    }
    for (const Vertex w : reached) {
      seen[w] |= next[w];
      sum += (level + std::int64_t{1}) * std::popcount(next[w]);
    }
    std::swap(now, next);
    std::swap(frontier, reached);
  }
  return {static_cast<double>(sum), level - 1};
}
inline Distances all_distances(const Adjacency& a, std::span<const Vertex> sources) {
  const auto n = static_cast<std::int64_t>(sources.size());
  std::vector<Distances> part(static_cast<std::size_t>((n + 63) / 64));
  parallel_blocks(n, 64, [&](std::int64_t first, std::int64_t last) {
    part[first / 64] = distances_from(a, sources.subspan(first, last - first));
  });
  Distances all;
  for (const Distances& d : part) {
    all.sum += d.sum;
    all.greatest = std::max(all.greatest, d.greatest);
  }
  return all;
}

/// Throws unless every vertex can be reached from every other; `steps` are those of g.
inline void check_all_reachable(const Graph& g, const Adjacency& steps, const char* op) {
  const std::int64_t n = g.vertex_count();
  check(n > 0, op, ": needs a vertex (", n, ")");
  const std::size_t after = breadth_first(steps, 0).order.size();
  check(static_cast<std::int64_t>(after) == n, op, ": needs a ", g.directed() ? "strongly connected" : "connected",
        " graph (from vertex 0 to ", after, " of ", n, ")");
  if (!g.directed()) return;
  const std::size_t before = breadth_first(predecessors(g), 0).order.size();
  check(static_cast<std::int64_t>(before) == n, op, ": needs a strongly connected graph (to vertex 0 from ", before,
        " of ", n, ")");
}

}  // namespace detail

/// Number of edges of a shortest path from the source to every vertex, −1 where there is none: [vertices], O(V + E).
/// Follows the directions of a directed graph. Throws if the source is outside the graph.
inline std::vector<std::int32_t> shortest_path_lengths(const Graph& g, Vertex source) {
  check(g.contains(source), "shortest_path_lengths: no such vertex (", source, " of ", g.vertex_count(), ")");
  return detail::breadth_first(detail::steps(g), source).distance;
}

/// From how many vertices an estimate starts; all of them if there are not that many.
struct Sample {
  std::int64_t sources = 0;
};

namespace detail {

/// Vertices drawn without putting back, in ascending order.
inline std::vector<Vertex> sampled_vertices(const Graph& g, const Sample& sample, Rng& rng, const char* op) {
  check(sample.sources >= 1, op, ": needs a source (", sample.sources, ")");
  std::vector<Vertex> drawn = rng.permutation(g.vertex_count());
  drawn.resize(static_cast<std::size_t>(std::min(sample.sources, g.vertex_count())));
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}
inline std::vector<Vertex> all_vertices(const Graph& g) {
  std::vector<Vertex> all(static_cast<std::size_t>(g.vertex_count()));
  std::iota(all.begin(), all.end(), 0);
  return all;
}
inline double average_length(const Graph& g, const Adjacency& steps, std::span<const Vertex> sources) {
  if (g.vertex_count() == 1) return 0;
  return all_distances(steps, sources).sum /
         (static_cast<double>(sources.size()) * static_cast<double>(g.vertex_count() - 1));
}

}  // namespace detail

/// Mean number of edges of a shortest path: L = Σ_{u ≠ v} d(u, v) / (n(n − 1)), along directions; 0 of one vertex.
///
/// O(V(V + E)) at worst, 64 sources at a time and threaded. Throws, as NetworkX, on a graph without vertices, not
/// connected or (directed) not strongly connected.
inline double average_shortest_path_length(const Graph& g) {
  const Adjacency steps = detail::steps(g);
  detail::check_all_reachable(g, steps, "average_shortest_path_length");
  return detail::average_length(g, steps, detail::all_vertices(g));
}
/// An unbiased estimate of it from k sources drawn without putting back: L ≈ Σ_{s, v} d(s, v) / (k(n − 1)), O(k(V +
/// E)).
inline double average_shortest_path_length(const Graph& g, const Sample& sample, Rng& rng = default_rng()) {
  const Adjacency steps = detail::steps(g);
  detail::check_all_reachable(g, steps, "average_shortest_path_length");
  return detail::average_length(g, steps, detail::sampled_vertices(g, sample, rng, "average_shortest_path_length"));
}

/// Greatest distance between two vertices, max d(u, v), along directions; 0 of one vertex. Throws as
/// average_shortest_path_length.
///
/// Sources come in descending distance from (directed: to) a vertex in the middle, until no pair that is left can be
/// farther apart: iFUB (Crescenzi et al., "On computing the diameter of real-world undirected graphs", TCS 2013). A few
/// searches on most graphs, O(V(V + E)) at worst, 64 sources at a time and threaded.
inline std::int64_t diameter(const Graph& g) {
  const Adjacency steps = detail::steps(g);
  detail::check_all_reachable(g, steps, "diameter");
  Vertex middle = 0;
  for (Vertex v = 1; v < g.vertex_count(); ++v)
    if (steps.degree(v) > steps.degree(middle)) middle = v;
  for (int sweep = 0; sweep < 2 && !g.directed(); ++sweep) {  // half way between two vertices far apart, twice
    const detail::Search from = detail::breadth_first(steps, detail::breadth_first(steps, middle).order.back());
    const std::int32_t half = from.distance[from.order.back()] / 2;
    for (middle = from.order.back(); from.distance[middle] > half;)
      for (const Vertex w : steps.of(middle))
        if (from.distance[w] == from.distance[middle] - 1) {
          middle = w;
          break;
        }
  }
  const detail::Search to = detail::breadth_first(g.directed() ? predecessors(g) : steps, middle);
  std::int32_t away = 0;  // of the vertex farthest from the middle
  if (g.directed()) {
    const detail::Search from = detail::breadth_first(steps, middle);
    away = from.distance[from.order.back()];
  }
  std::vector<Vertex> sources(to.order.rbegin(), to.order.rend());
  std::int32_t greatest = 0;
  constexpr std::size_t batch = 512;
  for (std::size_t k = 0; k < sources.size(); k += batch) {
    const std::int32_t level = to.distance[sources[k]];  // undirected: of both ends of a pair that is left
    if (greatest >= level + (g.directed() ? away : level)) break;
    const auto some = std::span(sources).subspan(k, std::min(batch, sources.size() - k));
    greatest = std::max(greatest, detail::all_distances(steps, some).greatest);
  }
  return greatest;
}
/// A lower bound of it: the greatest distance from k sources drawn without putting back, O(k(V + E)).
inline std::int64_t diameter(const Graph& g, const Sample& sample, Rng& rng = default_rng()) {
  const Adjacency steps = detail::steps(g);
  detail::check_all_reachable(g, steps, "diameter");
  return detail::all_distances(steps, detail::sampled_vertices(g, sample, rng, "diameter")).greatest;
}

}  // namespace deepstruct
