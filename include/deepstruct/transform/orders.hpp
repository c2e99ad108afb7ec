// The three orders of structure: neurons, channels, layers, and what belongs to what.
#pragma once

#include <cmath>

#include "../graph/layered_graph.hpp"

namespace deepstruct {

/// At which order a network is seen as a graph.
enum class Order {
  neurons,   ///< every neuron a vertex, every weight an edge
  channels,  ///< every feature or channel of an image a vertex
  layers     ///< every layer a vertex: what one op computes at one depth
};

namespace detail {

inline const char* order_column(Order order) {
  check(order != Order::neurons, "project: neurons are the members, not the groups (neurons)");
  return order == Order::channels ? "of_channel" : "of_layer";
}

/// The group of every vertex, and how many groups there are.
inline std::pair<std::span<const std::int64_t>, std::int64_t> groups_of(const LayeredGraph& g, Order order) {
  const char* name = order_column(order);
  check(g.vertex_attributes().holds<std::int64_t>(name),
        "project: the graph does not tell what its vertices belong to (", name, ")");
  const auto group = g.vertex_attributes().column<std::int64_t>(name);
  std::int64_t count = 0;
  for (const std::int64_t k : group) {
    check(k >= 0 && k < g.vertex_count(), "project: groups are numbered 0, 1, ... (", k, " of ", g.vertex_count(),
          " vertices)");
    count = std::max(count, k + 1);
  }
  return {group, count};
}

}  // namespace detail

/// A graph of neurons (or channels) seen at a higher order: groups of its vertices, and an edge where any edge leads
/// from one to the other.
///
/// Group k is vertex k. Vertices have "size", the number of members, and "role", "module", "operation" of their first
/// member, channels also "of_layer"; edges have "edges", their number, and "weight", √(Σ w²). O(V + E log E). Throws if
/// the graph does not tell what its vertices belong to (to_graph writes it), or members of a group are in different
/// layers.
inline LayeredGraph project(const LayeredGraph& g, Order order) {
  if (order == Order::neurons) return g;
  const auto [group, count] = detail::groups_of(g, order);
  const LayerIndex& index = g.index();
  std::vector<std::int32_t> layer(static_cast<std::size_t>(count), -1);
  std::vector<std::int64_t> size(layer.size(), 0), first(layer.size(), -1);
  for (std::int64_t v = 0; v < g.vertex_count(); ++v) {
    const std::int64_t k = group[v];
    ++size[k];
    if (first[k] < 0) first[k] = v, layer[k] = index.layer[v];
    check(layer[k] == index.layer[v], "project: members of a group are in different layers (group ", k, " in ",
          layer[k], " and ", index.layer[v], ")");
  }
  for (std::int64_t k = 0; k < count; ++k)
    check(first[k] >= 0, "project: a group has no members (", k, " of ", count, ")");

  // Edges between groups, sorted; neurons of a layer are numbered together, so runs of equal pairs are long.
  const auto edges = g.graph().edges();
  struct Between {
    std::int64_t key;
    std::int64_t edges;
    double squares;
  };
  std::vector<Between> between;
  const AttributeTable& attributes = g.edge_attributes();
  const bool weighted = attributes.holds<float>("weight");
  for (std::size_t e = 0; e < edges.size(); ++e) {
    const std::int64_t key = group[edges[e].source] << 32 | group[edges[e].target];
    const double w = weighted ? double{attributes.get<float>("weight", static_cast<std::int64_t>(e)).value_or(0)} : 0;
    if (between.empty() || between.back().key != key) between.push_back({key, 0, 0});
    ++between.back().edges;
    between.back().squares += w * w;
  }
  std::stable_sort(between.begin(), between.end(), [](const Between& a, const Between& b) { return a.key < b.key; });
  std::vector<Edge> merged;
  std::vector<std::int64_t> number;
  std::vector<float> weight;
  double squares = 0;
  for (std::size_t k = 0; k < between.size(); ++k) {
    const Edge e{static_cast<Vertex>(between[k].key >> 32), static_cast<Vertex>(between[k].key & 0xffffffff)};
    if (k == 0 || between[k].key != between[k - 1].key) {
      merged.push_back(e);
      number.push_back(0);
      weight.push_back(0);
      squares = 0;
    }
    number.back() += between[k].edges;
    squares += between[k].squares;
    weight.back() = static_cast<float>(std::sqrt(squares));
  }
  Graph result(count, std::move(merged), true);
  AttributeTable& on_vertices = result.vertex_attributes();
  on_vertices.set_column("size", std::move(size));
  for (const char* name : {"role", "module", "operation"})
    if (g.vertex_attributes().holds<std::string>(name))
      for (std::int64_t k = 0; k < count; ++k)
        if (auto text = g.vertex_attributes().get<std::string>(name, first[k])) on_vertices.set(name, k, *text);
  if (order == Order::channels && g.vertex_attributes().holds<std::int64_t>("of_layer"))
    for (std::int64_t k = 0; k < count; ++k)
      if (const auto l = g.vertex_attributes().get<std::int64_t>("of_layer", first[k]))
        on_vertices.set("of_layer", k, *l);
  result.edge_attributes().set_column("edges", std::move(number));
  if (weighted) result.edge_attributes().set_column("weight", std::move(weight));
  return LayeredGraph::with_layers(result, std::move(layer));
}

/// Values of groups read at their members: result[v] = values[group of v].   values [groups] → [vertices]
///
/// So a mask or metric of channels or layers becomes one of neurons. Throws unless there is a value for every group.
template <class T>
std::vector<T> spread(const LayeredGraph& g, Order order, const std::vector<T>& values) {
  const auto [group, count] = detail::groups_of(g, order);
  check(static_cast<std::int64_t>(values.size()) == count, "spread: needs a value for every group (", values.size(),
        " for ", count, ")");
  std::vector<T> all;
  all.reserve(group.size());
  for (const std::int64_t k : group) all.push_back(values[k]);
  return all;
}

/// How collect makes one value of those of a group's members.
enum class Collect { sum, mean, greatest, least };

/// Values of vertices read at their groups: sum, mean, greatest or least of the members.   values [vertices] → [groups]
///
/// Sums and means accumulate in double. Throws unless there is a value for every vertex.
inline std::vector<float> collect(const LayeredGraph& g, Order order, std::span<const float> values,
                                  Collect how = Collect::mean) {
  const auto [group, count] = detail::groups_of(g, order);
  check(static_cast<std::int64_t>(values.size()) == g.vertex_count(), "collect: needs a value for every vertex (",
        values.size(), " for ", g.vertex_count(), ")");
  std::vector<double> result(static_cast<std::size_t>(count), 0);
  std::vector<std::int64_t> size(result.size(), 0);
  for (std::size_t v = 0; v < values.size(); ++v) {
    double& x = result[group[v]];
    const double own = double{values[v]};
    if (size[group[v]]++ == 0)
      x = own;
    else
      x = how == Collect::greatest ? std::max(x, own) : how == Collect::least ? std::min(x, own) : x + own;
  }
  std::vector<float> all;
  for (std::size_t k = 0; k < result.size(); ++k)
    all.push_back(
        static_cast<float>(how == Collect::mean && size[k] > 0 ? result[k] / static_cast<double>(size[k]) : result[k]));
  return all;
}

}  // namespace deepstruct
