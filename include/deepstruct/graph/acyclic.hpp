// Paths of a directed acyclic graph: how many lead from sources to sinks, and which vertices lie on one.
//
// Of an undirected graph every edge leads from its earlier to its later vertex.
#pragma once

#include <cmath>

#include "../core/rng.hpp"
#include "topological.hpp"

namespace deepstruct {

namespace detail {

/// A positive number m·2^e of any size, or 0.
struct WideNumber {
  double m = 0;  // 0 or in [1/2, 1)
  std::int64_t e = 0;

  friend WideNumber operator+(const WideNumber& a, const WideNumber& b) {
    if (a.m == 0 || b.m == 0) return a.m == 0 ? b : a;
    const WideNumber &large = a.e >= b.e ? a : b, &small = a.e >= b.e ? b : a;
    const std::int64_t shift = std::max<std::int64_t>(small.e - large.e, -100);  // below the last bit of m anyway
    int carry = 0;
    const double sum = std::frexp(large.m + std::ldexp(small.m, static_cast<int>(shift)), &carry);
    return {sum, large.e + carry};
  }
};

/// Σ over sinks of the paths that end there; a source has one, any other vertex those of its predecessors together.
template <class Number>
Number count_paths(const Graph& g, Number one, const char* op) {
  const Adjacency after = successors(g);
  std::vector<char> fed(static_cast<std::size_t>(g.vertex_count()), 0);
  for (const Edge& e : g.edges()) fed[e.target] = 1;
  std::vector<Number> paths(fed.size(), Number{});
  Number all{};
  for (const Vertex v : topological_order(g, after, true, op)) {
    if (!fed[v]) paths[v] = one;
    if (after.degree(v) == 0) all = all + paths[v];
    for (const Vertex w : after.of(v)) paths[w] = paths[w] + paths[v];
  }
  return all;
}

/// Flags of the vertices that can be reached from these.
inline std::vector<char> reached_from(const Adjacency& a, std::span<const Vertex> vertices, const char* op) {
  std::vector<char> reached(static_cast<std::size_t>(a.vertex_count()), 0);
  std::vector<Vertex> waiting;
  for (const Vertex v : vertices) {
    check(v >= 0 && v < a.vertex_count(), op, ": no such vertex (", v, " of ", a.vertex_count(), ")");
    if (!std::exchange(reached[v], 1)) waiting.push_back(v);
  }
  while (!waiting.empty()) {
    const Vertex v = waiting.back();
    waiting.pop_back();
    for (const Vertex w : a.of(v))
      if (!std::exchange(reached[w], 1)) waiting.push_back(w);
  }
  return reached;
}

}  // namespace detail

/// Number of paths from a source (no edge in) to a sink (no edge out); an isolated vertex is a path. Above 2^53
/// rounded, above the range of double infinity. 0 without vertices.
///
/// P = Σ_{sinks} p(v), p(v) = 1 of a source, else Σ_{u → v} p(u), in the order of Kahn ("Topological sorting of large
/// networks", CACM 1962); O(V + E). Throws, naming a vertex, if there is a cycle; a self loop is one.
inline double path_count(const Graph& g) { return detail::count_paths(g, 1.0, "path_count"); }

/// ln of path_count() without its limit; −infinity without vertices. Absolute error about 1e-16 per addition at worst.
inline double log_path_count(const Graph& g) {
  const detail::WideNumber p = detail::count_paths(g, detail::WideNumber{0.5, 1}, "log_path_count");
  if (p.m == 0) return -std::numeric_limits<double>::infinity();
  return std::fma(static_cast<double>(p.e), 0.69314718055994531, detail::exact_log(p.m));
}

/// Flags of the vertices that can be reached from one of the vertices `from`, those included, along directions:
/// [vertices], O(V + E), of any graph. Throws if one is outside the graph.
inline std::vector<char> reachable_vertices(const Graph& g, std::span<const Vertex> from) {
  return detail::reached_from(successors(g), from, "reachable_vertices");
}

/// Flags of the vertices on a path from one of the inputs to one of the outputs, 1 for live and 0 for dead: [vertices],
/// O(V + E), of any graph. Throws if an input or output is outside the graph.
inline std::vector<char> live_vertices(const Graph& g, std::span<const Vertex> inputs,
                                       std::span<const Vertex> outputs) {
  std::vector<char> live = detail::reached_from(successors(g), inputs, "live_vertices");
  const std::vector<char> useful = detail::reached_from(predecessors(g), outputs, "live_vertices");
  for (std::size_t v = 0; v < live.size(); ++v) live[v] = live[v] && useful[v];
  return live;
}

}  // namespace deepstruct
