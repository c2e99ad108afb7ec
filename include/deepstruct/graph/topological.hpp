// The order of the vertices of a directed acyclic graph, and the name of a cycle where there is one.
#pragma once

#include "graph.hpp"

namespace deepstruct {

namespace detail {

/// "3 -> 5 -> 3", from vertices of which each has a predecessor among them.
inline std::string cycle_text(const Adjacency& before, const std::vector<std::int32_t>& waiting,
                              std::span<const std::int64_t> ids) {
  Vertex v = 0;
  while (waiting[v] == 0) ++v;
  std::vector<std::int32_t> seen(waiting.size(), -1);
  std::vector<Vertex> walk;
  while (seen[v] < 0) {
    seen[v] = static_cast<std::int32_t>(walk.size());
    walk.push_back(v);
    const auto sources = before.of(v);
    v = *std::find_if(sources.begin(), sources.end(), [&](Vertex u) { return u != v && waiting[u] > 0; });
  }
  const auto name = [&](Vertex u) { return std::to_string(ids.empty() ? u : ids[u]); };
  const auto first = static_cast<std::size_t>(seen[v]);
  const bool all = walk.size() - first <= 9;
  std::string text = name(v);
  for (auto k = walk.size(); k-- > first;)
    if (all || walk.size() - k <= 8 || k == first) text += (all || k > first ? " -> " : " -> ... -> ") + name(walk[k]);
  return text;
}

/// Vertices so that every edge leads to a later one, by Kahn's algorithm, O(V + E); self loops are ignored, or cycles.
/// Throws, naming a cycle.
inline std::vector<Vertex> topological_order(const Graph& g, const Adjacency& after, bool loops_count, const char* op,
                                             std::span<const std::int64_t> ids = {}) {
  const auto n = static_cast<std::size_t>(g.vertex_count());
  std::vector<std::int32_t> waiting(n, 0);
  for (const Edge& e : g.edges()) {
    check(!loops_count || e.source != e.target, op, ": the graph has a cycle (", e.source, " -> ", e.target, ")");
    waiting[e.target] += e.source != e.target;
  }
  std::vector<Vertex> order;
  order.reserve(n);
  for (std::size_t v = 0; v < n; ++v)
    if (waiting[v] == 0) order.push_back(static_cast<Vertex>(v));
  for (std::size_t k = 0; k < order.size(); ++k)
    for (const Vertex v : after.of(order[k]))
      if (v != order[k] && --waiting[v] == 0) order.push_back(v);
  check(order.size() == n, op, ": the graph has a cycle (",
        order.size() == n ? "" : cycle_text(predecessors(g), waiting, ids), ")");
  return order;
}

}  // namespace detail

/// Vertices in an order in which every edge leads to a later one (of an undirected graph, edges lead from the earlier
/// vertex to the later): Kahn, "Topological sorting of large networks", CACM 1962; O(V + E). Throws, naming a cycle.
inline std::vector<Vertex> topological_sort(const Graph& g) {
  return detail::topological_order(g, successors(g), true, "topological_sort");
}

}  // namespace deepstruct
