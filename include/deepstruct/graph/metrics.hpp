// Local structure of a graph: degrees, density, clustering by triangles, entropy of degrees, statistics of layers.
#pragma once

#include <atomic>

#include "../core/parallel.hpp"
#include "../core/rng.hpp"
#include "graph.hpp"

namespace deepstruct {

/// Edges that end at each vertex: [vertices], Σ = edges, O(V + E). Of an undirected graph the same as degrees().
std::vector<std::int32_t> in_degrees(const Graph& g);
/// Edges that start at each vertex: [vertices], Σ = edges, O(V + E). Of an undirected graph the same as degrees().
std::vector<std::int32_t> out_degrees(const Graph& g);

/// Ends of edges at each vertex, d(v) = in(v) + out(v): [vertices], Σ = 2·edges, O(V + E). A self loop counts twice, as
/// in NetworkX.
inline std::vector<std::int32_t> degrees(const Graph& g) {
  std::vector<std::int32_t> d(static_cast<std::size_t>(g.vertex_count()), 0);
  for (const Edge& e : g.edges()) {
    ++d[e.source];
    ++d[e.target];
  }
  return d;
}
inline std::vector<std::int32_t> in_degrees(const Graph& g) {
  if (!g.directed()) return degrees(g);
  std::vector<std::int32_t> d(static_cast<std::size_t>(g.vertex_count()), 0);
  for (const Edge& e : g.edges()) ++d[e.target];
  return d;
}
inline std::vector<std::int32_t> out_degrees(const Graph& g) {
  if (!g.directed()) return degrees(g);
  std::vector<std::int32_t> d(static_cast<std::size_t>(g.vertex_count()), 0);
  for (const Edge& e : g.edges()) ++d[e.source];
  return d;
}

/// Share of the possible edges that exist: m / (n(n − 1)) directed, 2m / (n(n − 1)) undirected; 0 if n < 2. Self loops
/// count as edges though not as possible ones, as in NetworkX.
inline double density(const Graph& g) {
  const auto n = static_cast<double>(g.vertex_count()), m = static_cast<double>(g.edge_count());
  if (g.vertex_count() < 2) return 0;
  return m / (n * (n - 1)) * (g.directed() ? 1 : 2);
}

namespace detail {

/// Every pair of connected vertices once, from the one of lower to the one of higher rank, targets ascending.
///
/// The rank of a vertex is its place in the order of degrees, so that no vertex has more than √(2·edges) targets.
struct RankedEdges {
  std::vector<Vertex> vertex;                      // of every rank
  std::vector<std::int64_t> first, last;           // of the targets of every rank
  std::vector<std::pair<std::int32_t, bool>> end;  // rank of the target, and whether edges lead both ways
};

inline RankedEdges ranked_edges(const Graph& g) {
  const auto n = static_cast<std::size_t>(g.vertex_count());
  const std::vector<std::int32_t> degree = degrees(g);
  RankedEdges r;
  std::vector<std::int64_t> start(degree.empty() ? 1
                                                 : *std::max_element(degree.begin(), degree.end()) + std::size_t{2});
  for (const std::int32_t d : degree) ++start[d + std::size_t{1}];
  std::partial_sum(start.begin(), start.end(), start.begin());
  r.vertex.resize(n);
  std::vector<std::int32_t> rank(n);
  for (std::size_t v = 0; v < n; ++v) {
    rank[v] = static_cast<std::int32_t>(start[degree[v]]++);
    r.vertex[rank[v]] = static_cast<Vertex>(v);
  }
  // A counting sort by the higher end, then one by the lower end: lists come out ascending.
  std::vector<std::int64_t> from(n + 1, 0);
  r.first.assign(n + 1, 0);
  for (const Edge& e : g.edges()) {
    if (e.source == e.target) continue;
    ++from[std::max(rank[e.source], rank[e.target]) + std::size_t{1}];
    ++r.first[std::min(rank[e.source], rank[e.target]) + std::size_t{1}];
  }
  std::partial_sum(from.begin(), from.end(), from.begin());
  std::partial_sum(r.first.begin(), r.first.end(), r.first.begin());
  std::vector<std::int32_t> lower(static_cast<std::size_t>(from[n]));
  std::vector<std::int64_t> next(from.begin(), from.end() - 1);
  for (const Edge& e : g.edges())
    if (e.source != e.target)
      lower[next[std::max(rank[e.source], rank[e.target])]++] = std::min(rank[e.source], rank[e.target]);
  r.last = r.first;
  r.end.resize(lower.size());
  for (std::size_t high = 0; high < n; ++high)
    for (std::int64_t k = from[high]; k < from[high + 1]; ++k) {
      const std::int32_t low = lower[k];
      if (r.last[low] > r.first[low] && r.end[r.last[low] - 1].first == static_cast<std::int32_t>(high))
        r.end[r.last[low] - 1].second = true;
      else
        r.end[r.last[low]++] = {static_cast<std::int32_t>(high), false};
    }
  return r;
}

/// Triangles at every vertex; in a directed graph each counts 2^(pairs of it with edges both ways). Ordered triangle
/// listing, O(E^1.5) at worst (Schank and Wagner, "Finding, counting and listing all triangles in large graphs", WEA
/// 2005). The sums are of integers, so the order in which threads add does not matter.
inline std::vector<std::int64_t> triangles(const Graph& g) {
  const RankedEdges r = ranked_edges(g);
  std::vector<std::int64_t> count(r.vertex.size(), 0);
  const auto add = [&](std::int32_t rank, std::int64_t more) {
    if (more) std::atomic_ref(count[r.vertex[rank]]).fetch_add(more, std::memory_order_relaxed);
  };
  parallel_blocks(g.vertex_count(), 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t u = begin; u < end; ++u) {
      std::int64_t at_u = 0;
      for (std::int64_t k = r.first[u]; k < r.last[u]; ++k) {
        const auto [v, twice] = r.end[k];
        std::int64_t at_v = 0;
        std::int64_t i = k + 1, j = r.first[v];  // w has a rank above v
        while (i < r.last[u] && j < r.last[v]) {
          const std::int32_t a = r.end[i].first, b = r.end[j].first;
          if (a == b) {
            const std::int64_t weight = std::int64_t{1} << (twice + r.end[i].second + r.end[j].second);
            at_v += weight;
            add(a, weight);
          }
          i += a <= b;
          j += b <= a;
        }
        add(v, at_v);
        at_u += at_v;
      }
      add(static_cast<std::int32_t>(u), at_u);
    }
  });
  return count;
}

/// Possible triangles at every vertex, in the measure of triangles(); self loops are ignored.
inline std::vector<std::int64_t> possible_triangles(const Graph& g) {
  std::vector<std::int64_t> d(static_cast<std::size_t>(g.vertex_count()), 0), both(d);
  for (const Edge& e : g.edges()) {
    if (e.source == e.target) continue;
    ++d[e.source];
    ++d[e.target];
  }
  if (g.directed()) {
    const RankedEdges r = ranked_edges(g);
    for (std::size_t u = 0; u < r.vertex.size(); ++u)
      for (std::int64_t k = r.first[u]; k < r.last[u]; ++k)
        if (r.end[k].second) {
          ++both[r.vertex[u]];
          ++both[r.vertex[r.end[k].first]];
        }
  }
  for (std::size_t v = 0; v < d.size(); ++v)
    d[v] = g.directed() ? d[v] * (d[v] - 1) - 2 * both[v] : d[v] * (d[v] - 1) / 2;
  return d;
}

}  // namespace detail

/// Clustering coefficient of every vertex: c(v) = 2·T(v) / (d(v)(d(v) − 1)), T(v) the triangles at v; 0 where there is
/// none (Watts and Strogatz, "Collective dynamics of 'small-world' networks", Nature 1998).
///
/// Directed, with A the adjacency matrix, d = in + out and r the neighbours with edges both ways: c(v) = (A + Aᵀ)³(v,
/// v) / (2(d(d − 1) − 2r)) (Fagiolo, "Clustering in complex directed networks", Phys. Rev. E 2007). Self loops are
/// ignored. All as in NetworkX. O(E^1.5) at worst, threaded.
inline std::vector<double> clustering(const Graph& g) {
  const std::vector<std::int64_t> found = detail::triangles(g), possible = detail::possible_triangles(g);
  std::vector<double> c(found.size(), 0);
  for (std::size_t v = 0; v < c.size(); ++v)
    if (found[v] > 0) c[v] = static_cast<double>(found[v]) / static_cast<double>(possible[v]);
  return c;
}

/// Mean of clustering() over all vertices; throws on a graph without vertices.
inline double average_clustering(const Graph& g) {
  check(g.vertex_count() > 0, "average_clustering: needs a vertex (", g.vertex_count(), ")");
  const std::vector<double> c = clustering(g);
  return std::accumulate(c.begin(), c.end(), 0.0) / static_cast<double>(c.size());
}

/// Share of the paths of two edges that close to a triangle: 3·triangles / Σ d(v)(d(v) − 1)/2, 0 if there is no
/// triangle (Newman, "The structure and function of complex networks", 2003, eq. 3). Throws on a directed graph.
inline double transitivity(const Graph& g) {
  check(!g.directed(), "transitivity: needs an undirected graph (directed, ", g.vertex_count(), " vertices)");
  const std::vector<std::int64_t> found = detail::triangles(g), possible = detail::possible_triangles(g);
  const std::int64_t closed = std::accumulate(found.begin(), found.end(), std::int64_t{0});
  if (closed == 0) return 0;
  return static_cast<double>(closed) /
         static_cast<double>(std::accumulate(possible.begin(), possible.end(), std::int64_t{0}));
}

/// Vertices of degree 0, 1, … as degrees() counts them: [greatest degree + 1], as NetworkX's degree_histogram.
inline std::vector<std::int64_t> degree_histogram(const Graph& g) {
  std::vector<std::int64_t> count;
  for (const std::int32_t d : degrees(g)) {
    if (static_cast<std::size_t>(d) >= count.size()) count.resize(d + std::size_t{1}, 0);
    ++count[d];
  }
  return count;
}

/// Entropy of the distribution of degrees in nats: H = −Σ p(d)·ln p(d), p(d) the share of vertices of degree d
/// (Shannon, "A mathematical theory of communication", 1948); O(V + E). Throws on a graph without vertices.
inline double degree_entropy(const Graph& g) {
  check(g.vertex_count() > 0, "degree_entropy: needs a vertex (", g.vertex_count(), ")");
  double entropy = 0;
  for (const std::int64_t count : degree_histogram(g)) {
    if (count == 0) continue;
    const double p = static_cast<double>(count) / static_cast<double>(g.vertex_count());
    entropy = std::fma(-p, detail::exact_log(p), entropy);
  }
  return entropy;
}

/// How wide the layers of a graph are and how far its edges reach.
struct LayerStatistics {
  std::vector<std::int64_t> widths;  ///< vertices of every layer: [greatest layer + 1]
  std::vector<std::int64_t> spans;   ///< edges that lead s layers on, s = 0, 1, …: [greatest span + 1]
  std::int64_t edges = 0;            ///< all of them
  std::int64_t skip_edges = 0;       ///< those with a span above 1
  double skip_share = 0;             ///< skip_edges / edges, 0 without edges
  double mean_skip_length = 0;       ///< mean span of the skip edges, 0 without any
  std::int64_t max_skip_length = 0;  ///< greatest span of a skip edge, 0 without any
};

/// Widths and spans from the layer of every vertex; the span of an edge u → v is layer(v) − layer(u), of an undirected
/// one its absolute value. O(V + E + layers).
///
/// Throws unless there is one layer per vertex, each of 0 … max(vertices, 2^20) − 1, and if a directed edge leads back.
inline LayerStatistics layer_statistics(const Graph& g, std::span<const std::int32_t> layer) {
  const std::int64_t n = g.vertex_count(), limit = std::max(n, std::int64_t{1} << 20);
  check(static_cast<std::int64_t>(layer.size()) == n, "layer_statistics: needs one layer per vertex (", layer.size(),
        " for ", n, ")");
  LayerStatistics s;
  for (const std::int32_t l : layer) {
    check(l >= 0 && l < limit, "layer_statistics: no such layer (", l, " of ", limit, ")");
    if (static_cast<std::size_t>(l) >= s.widths.size()) s.widths.resize(l + std::size_t{1}, 0);
    ++s.widths[l];
  }
  double length = 0;
  for (const Edge& e : g.edges()) {
    std::int32_t span = layer[e.target] - layer[e.source];
    check(span >= 0 || !g.directed(), "layer_statistics: an edge leads back (", e.source, " -> ", e.target, ", layer ",
          layer[e.source], " to ", layer[e.target], ")");
    span = std::abs(span);
    if (static_cast<std::size_t>(span) >= s.spans.size()) s.spans.resize(span + std::size_t{1}, 0);
    ++s.spans[span];
    if (span < 2) continue;
    ++s.skip_edges;
    length += span;
  }
  s.edges = g.edge_count();
  if (s.skip_edges == 0) return s;
  s.skip_share = static_cast<double>(s.skip_edges) / static_cast<double>(s.edges);
  s.mean_skip_length = length / static_cast<double>(s.skip_edges);
  s.max_skip_length = static_cast<std::int64_t>(s.spans.size()) - 1;
  return s;
}

}  // namespace deepstruct
