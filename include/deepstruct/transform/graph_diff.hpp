// What differs between two graphs: vertices, edges, weights, layer by layer.
#pragma once

#include <cmath>
#include <ostream>

#include "../graph/layered_graph.hpp"

namespace deepstruct {

/// What must happen to one graph, of before, so that it becomes another, of after; vertices are named by their ids.
struct GraphDiff {
  using IdEdge = LayeredGraph::IdEdge;
  /// An edge of both graphs whose "weight" differs; none where the attribute is absent.
  struct Reweighted {
    IdEdge edge;
    std::optional<double> before, after;
    friend bool operator==(const Reweighted&, const Reweighted&) = default;
  };
  /// Edges between two layers. Those that were added or kept count in the layers of after, those removed in the layers
  /// of before.
  struct Layers {
    std::int64_t source = 0, target = 0;
    std::int64_t added = 0, removed = 0, kept = 0, changed = 0;  ///< changed ones are among the kept
    friend bool operator==(const Layers&, const Layers&) = default;
  };
  std::vector<std::int64_t> vertices_added, vertices_removed;  ///< ascending
  std::vector<std::int64_t> vertices_moved;                    ///< those of both that are in another layer, ascending
  std::vector<IdEdge> edges_added, edges_removed;              ///< by source, then target
  std::vector<Reweighted> edges_changed;                       ///< by source, then target
  std::int64_t edges_kept = 0;                                 ///< edges of both, with equal weights or not
  std::vector<Layers> layers;                                  ///< pairs with an edge, by source, then target

  /// True if vertices, their layers, edges and weights are the same.
  bool empty() const {
    return vertices_added.empty() && vertices_removed.empty() && vertices_moved.empty() && edges_added.empty() &&
           edges_removed.empty() && edges_changed.empty();
  }
  /// |edges of both| / |edges of either|, 1 if there is none (Jaccard 1901).
  double jaccard() const {
    const std::size_t all = static_cast<std::size_t>(edges_kept) + edges_added.size() + edges_removed.size();
    return all == 0 ? 1 : static_cast<double>(edges_kept) / static_cast<double>(all);
  }
  /// Totals, then a line for every pair of layers.
  void write(std::ostream& out) const {
    out << "vertices: " << vertices_added.size() << " added, " << vertices_removed.size() << " removed, "
        << vertices_moved.size() << " in another layer\n"
        << "edges: " << edges_added.size() << " added, " << edges_removed.size() << " removed, " << edges_kept
        << " kept, " << edges_changed.size() << " of them with another weight\n";
    for (const Layers& l : layers)
      out << "layers " << l.source << " -> " << l.target << ": " << l.added << " added, " << l.removed << " removed, "
          << l.kept << " kept, " << l.changed << " with another weight\n";
  }
};

namespace detail {

/// The edges of a graph by ids, sorted, with their place among edges().
inline std::vector<std::pair<LayeredGraph::IdEdge, std::int32_t>> edges_by_id(const LayeredGraph& g) {
  std::vector<std::pair<LayeredGraph::IdEdge, std::int32_t>> all;
  all.reserve(static_cast<std::size_t>(g.edge_count()));
  for (const Edge& e : g.graph().edges())
    all.push_back({{g.id(e.source), g.id(e.target)}, static_cast<std::int32_t>(all.size())});
  std::sort(all.begin(), all.end());
  return all;
}
/// The ids of all vertices with their layers, sorted.
inline std::vector<std::pair<std::int64_t, std::int32_t>> layers_by_id(const LayeredGraph& g) {
  std::vector<std::pair<std::int64_t, std::int32_t>> all;
  for (std::int64_t v = 0; v < g.vertex_count(); ++v)
    all.emplace_back(g.id(static_cast<Vertex>(v)), g.index().layer[v]);
  std::sort(all.begin(), all.end());
  return all;
}
/// The attribute "weight" of an edge, if it is a number.
inline std::optional<double> weight_at(const AttributeTable& edges, std::int64_t place) {
  if (edges.holds<double>("weight")) return edges.get<double>("weight", place);
  if (!edges.holds<float>("weight")) return std::nullopt;
  const auto w = edges.get<float>("weight", place);
  return w ? std::optional(double{*w}) : std::nullopt;
}
/// Equal, or both NaN.
inline bool same_number(double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); }

/// Calls only_a(x), only_b(y), both(x, y) for the entries of two sorted lists, matched by their first.
template <class List, class A, class B, class Both>
void merge_sorted(const List& a, const List& b, A&& only_a, B&& only_b, Both&& both) {
  auto x = a.begin(), y = b.begin();
  while (x != a.end() || y != b.end()) {
    if (y == b.end() || (x != a.end() && x->first < y->first))
      only_a(*x++);
    else if (x == a.end() || y->first < x->first)
      only_b(*y++);
    else
      both(*x++, *y++);
  }
}

}  // namespace detail

/// What must happen to a so that it becomes b: vertices are the same if their ids are, edges if their ends are.
///
/// Compares vertices, their layers, edges and the edge attribute "weight" (NaN equals NaN), no other attribute and no
/// order. O((V + E) log(V + E)). Throws on a cycle.
inline GraphDiff diff(const LayeredGraph& a, const LayeredGraph& b) {
  GraphDiff d;
  const LayerIndex &in_a = a.index(), &in_b = b.index();
  detail::merge_sorted(
      detail::layers_by_id(a), detail::layers_by_id(b), [&](const auto& v) { d.vertices_removed.push_back(v.first); },
      [&](const auto& v) { d.vertices_added.push_back(v.first); },
      [&](const auto& v, const auto& w) {
        if (v.second != w.second) d.vertices_moved.push_back(v.first);
      });
  std::vector<GraphDiff::Layers> counts;  // of every edge
  const auto count = [&](const LayeredGraph& g, const LayerIndex& index, std::int32_t place) -> GraphDiff::Layers& {
    const Edge& e = g.graph().edges()[static_cast<std::size_t>(place)];
    return counts.emplace_back(GraphDiff::Layers{index.layer[e.source], index.layer[e.target]});
  };
  detail::merge_sorted(
      detail::edges_by_id(a), detail::edges_by_id(b),
      [&](const auto& e) {
        d.edges_removed.push_back(e.first);
        count(a, in_a, e.second).removed = 1;
      },
      [&](const auto& e) {
        d.edges_added.push_back(e.first);
        count(b, in_b, e.second).added = 1;
      },
      [&](const auto& e, const auto& f) {
        const auto before = detail::weight_at(a.edge_attributes(), e.second);
        const auto after = detail::weight_at(b.edge_attributes(), f.second);
        const bool same = before && after ? detail::same_number(*before, *after) : before == after;
        if (!same) d.edges_changed.push_back({e.first, before, after});
        ++d.edges_kept;
        GraphDiff::Layers& l = count(b, in_b, f.second);
        l.kept = 1;
        l.changed = !same;
      });
  std::sort(counts.begin(), counts.end(),
            [](const auto& l, const auto& m) { return std::pair(l.source, l.target) < std::pair(m.source, m.target); });
  for (const GraphDiff::Layers& one : counts) {
    if (d.layers.empty() || d.layers.back().source != one.source || d.layers.back().target != one.target)
      d.layers.push_back({one.source, one.target});
    GraphDiff::Layers& l = d.layers.back();
    l.added += one.added;
    l.removed += one.removed;
    l.kept += one.kept;
    l.changed += one.changed;
  }
  return d;
}

}  // namespace deepstruct
