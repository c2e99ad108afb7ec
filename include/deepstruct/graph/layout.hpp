// Where the vertices of a layered graph are drawn: layers are columns, the order within a layer keeps crossings few.
#pragma once

#include <array>
#include <cmath>

#include "layered_graph.hpp"

namespace deepstruct {

/// How hard layered_order and layered_layout try.
struct LayoutOptions {
  std::int64_t sweeps = 16;  ///< passes over all layers forward and back, at most; 0 keeps the given order
};

/// A position per vertex place: x is the layer, y the position in its column; columns are centred at y = 0.
struct Layout {
  std::vector<float> x;  ///< [V]
  std::vector<float> y;  ///< [V], grows downwards; neighbours in a layer are at least 1 apart
};

namespace detail {

/// Layers in some order, and the edges from both sides; self loops are left to the caller.
struct LayerOrder {
  const LayerIndex& index;
  const Adjacency &before, &after;
  std::vector<Vertex> order;        // as index.order
  std::vector<std::int32_t> place;  // as index.place

  std::size_t layer(Vertex v) const { return static_cast<std::size_t>(index.layer[static_cast<std::size_t>(v)]); }
  std::span<Vertex> vertices(std::size_t l) {
    return std::span(order).subspan(static_cast<std::size_t>(index.start[l]),
                                    static_cast<std::size_t>(index.start[l + 1] - index.start[l]));
  }
  /// Where a vertex stands in its column, 0 … 2²⁴ from the first to the last: integers, the same everywhere.
  std::int64_t height(Vertex v) const {
    return ((std::int64_t{2} * place[static_cast<std::size_t>(v)] + 1) << 23) /
           index.size(index.layer[static_cast<std::size_t>(v)]);
  }
  /// Numbers the places of a layer anew.
  void renumber(std::size_t l) {
    std::int32_t next = 0;
    for (const Vertex v : vertices(l)) place[static_cast<std::size_t>(v)] = next++;
  }
};

/// Crossings of edges between neighbouring layers: going through the edges by source place, a Fenwick tree tells how
/// many of those before end further down. O(V + E log W).
inline std::int64_t count_crossings(const LayerIndex& index, const Adjacency& after, std::span<const Vertex> order,
                                    std::span<const std::int32_t> place) {
  std::int64_t crossings = 0;
  std::vector<std::int32_t> tree;
  for (std::int64_t l = 0; l + 1 < index.layer_count(); ++l) {
    tree.assign(static_cast<std::size_t>(index.size(l + 1)) + 1, 0);
    std::int64_t entered = 0;
    const auto first = static_cast<std::size_t>(index.start[static_cast<std::size_t>(l)]);
    for (const Vertex v : order.subspan(first, static_cast<std::size_t>(index.size(l)))) {
      const auto next_layer = [&](auto&& act) {
        for (const Vertex w : after.of(v))
          if (index.layer[static_cast<std::size_t>(w)] == l + 1)
            act(static_cast<std::size_t>(place[static_cast<std::size_t>(w)]) + 1);
      };
      next_layer([&](std::size_t k) {
        crossings += entered;
        for (; k > 0; k &= k - 1) crossings -= tree[k];
      });
      next_layer([&](std::size_t k) {
        ++entered;
        for (; k < tree.size(); k += k & (~k + 1)) ++tree[k];
      });
    }
  }
  return crossings;
}

/// Orders a layer by the mean height of its neighbours on one side, where an edge over s layers counts 1/s; a vertex
/// without any stays at its height, equals keep their order (or turn it, which leads out of dead ends). O(E + W log W).
inline void order_by_barycentre(LayerOrder& o, std::size_t l, const Adjacency& side, bool turn_equals,
                                std::vector<std::int64_t>& key) {
  const auto own = o.vertices(l);
  for (const Vertex v : own) {
    std::int64_t sum = 0, weights = 0;
    for (const Vertex u : side.of(v)) {
      const auto span = static_cast<std::int64_t>(std::max(o.layer(u), l) - std::min(o.layer(u), l));
      if (span == 0) continue;
      const std::int64_t weight = std::max<std::int64_t>(64 / span, 1);
      sum += weight * o.height(u);
      weights += weight;
    }
    key[static_cast<std::size_t>(v)] = weights == 0 ? o.height(v) : sum / weights;
  }
  if (turn_equals) std::reverse(own.begin(), own.end());
  std::stable_sort(own.begin(), own.end(), [&](Vertex a, Vertex b) {
    return key[static_cast<std::size_t>(a)] < key[static_cast<std::size_t>(b)];
  });
  o.renumber(l);
}

/// Swaps neighbours of a layer wherever that saves crossings with the layers beside it: one pass. Vertices with many
/// edges are left out, so that a pass is O(E log W).
inline void swap_neighbours(LayerOrder& o, std::size_t l, std::array<std::vector<std::int32_t>, 4>& lists) {
  constexpr std::int64_t most = 64;
  const auto own = o.vertices(l);
  // Places of v's neighbours in the layer before (lists[which]) and after (lists[which + 1]), sorted.
  const auto collect = [&](Vertex v, std::size_t which) {
    for (const bool forward : {false, true}) {
      auto& places = lists[which + forward];
      places.clear();
      for (const Vertex u : (forward ? o.after : o.before).of(v))
        if (o.layer(u) + 1 == l + 2 * forward) places.push_back(o.place[static_cast<std::size_t>(u)]);
      std::sort(places.begin(), places.end());
    }
  };
  // Pairs (i of a, j of b) with i > j, less those with i < j: crossings that a swap saves.
  const auto saved = [](std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
    std::int64_t sum = 0;
    std::size_t below = 0, up_to = 0;
    for (const std::int32_t i : a) {
      while (below < b.size() && b[below] < i) ++below;
      while (up_to < b.size() && b[up_to] <= i) ++up_to;
      sum += static_cast<std::int64_t>(below) - static_cast<std::int64_t>(b.size() - up_to);
    }
    return sum;
  };
  for (std::size_t k = 0; k + 1 < own.size(); ++k) {
    const Vertex a = own[k], b = own[k + 1];
    if (o.before.degree(a) + o.after.degree(a) > most || o.before.degree(b) + o.after.degree(b) > most) continue;
    collect(a, 0);
    collect(b, 2);
    if (saved(lists[0], lists[2]) + saved(lists[1], lists[3]) > 0) std::swap(own[k], own[k + 1]);
  }
  o.renumber(l);
}

/// Crossings, and among equals the heights that skip edges climb, per layer passed.
inline std::pair<std::int64_t, std::int64_t> order_cost(const LayerOrder& o) {
  std::int64_t climb = 0;
  for (const Vertex v : o.order)
    for (const Vertex w : o.after.of(v)) {
      const auto span = static_cast<std::int64_t>(o.layer(w)) - static_cast<std::int64_t>(o.layer(v));
      if (span > 1) climb += std::abs(o.height(v) - o.height(w)) / span;
    }
  return {count_crossings(o.index, o.after, o.order, o.place), climb};
}

/// The best order met while sweeping.
inline std::vector<std::int32_t> best_order(LayerOrder o, std::int64_t sweeps) {
  const auto layers = static_cast<std::size_t>(o.index.layer_count());
  std::vector<std::int64_t> key(o.order.size());
  std::array<std::vector<std::int32_t>, 4> lists;
  std::vector<std::int32_t> best = o.place;
  auto cost = order_cost(o);
  std::int64_t last_gain = 0;
  const auto keep_if_better = [&](std::int64_t sweep) {
    const auto now = order_cost(o);
    if (now >= cost) return;
    cost = now;
    best = o.place;
    last_gain = sweep;
  };
  for (std::int64_t sweep = 0; sweep < sweeps && sweep <= last_gain + 4 && cost.first + cost.second > 0; ++sweep) {
    for (std::size_t l = 1; l < layers; ++l) order_by_barycentre(o, l, o.before, sweep % 2 == 1, key);
    keep_if_better(sweep);
    for (std::size_t l = layers; l-- > 0;) order_by_barycentre(o, l, o.after, sweep % 2 == 1, key);
    keep_if_better(sweep);
    for (std::size_t l = 0; l < layers; ++l) swap_neighbours(o, l, lists);
    keep_if_better(sweep);
  }
  return best;
}

/// Moves y to the nearest (least squares) positions that are at least `gap` apart and within ±`half`: without the gap,
/// an isotonic regression by pooling adjacent violators (Barlow et al., "Statistical inference under order
/// restrictions", 1972), then clipped. O(n).
inline void settle(std::span<double> y, double gap, double half, std::vector<std::pair<double, double>>& pools) {
  pools.clear();
  for (std::size_t k = 0; k < y.size(); ++k) {
    pools.emplace_back(std::fma(-static_cast<double>(k), gap, y[k]), 1.0);  // sum and number
    while (pools.size() > 1) {
      const auto [sum, n] = pools.back();
      auto& before = pools[pools.size() - 2];
      if (before.first / before.second <= sum / n) break;
      before.first += sum;
      before.second += n;
      pools.pop_back();
    }
  }
  const double last = std::max(-half, std::fma(-static_cast<double>(y.size() - 1), gap, half));
  std::size_t k = 0;
  for (const auto& [sum, n] : pools)
    for (double left = n; left > 0; --left, ++k)
      y[k] = std::fma(static_cast<double>(k), gap, std::clamp(sum / n, -half, last));
}

}  // namespace detail

/// Number of pairs of edges between neighbouring layers that cross if the vertices of every layer stand in this order:
/// edges a → b and c → d with (place(a) − place(c)) · (place(b) − place(d)) < 0. Edges over more than one layer and
/// self loops do not count. `place` has the place within its layer of every vertex; without it, that of index(). Throws
/// if the places of a layer are not 0, 1, … . O(V + E log V).
inline std::int64_t crossings(const LayeredGraph& g, std::span<const std::int32_t> place = {}) {
  if (g.vertex_count() == 0) return 0;
  const LayerIndex& index = g.index();
  if (place.empty()) place = index.place;
  check(place.size() == index.place.size(), "crossings: needs a place for every vertex (", place.size(), " for ",
        index.place.size(), ")");
  std::vector<Vertex> order(place.size(), -1);
  for (std::size_t v = 0; v < place.size(); ++v) {
    const std::int32_t l = index.layer[v];
    check(place[v] >= 0 && place[v] < index.size(l), "crossings: no such place in the layer (", place[v], " of ",
          index.size(l), ")");
    Vertex& at = order[static_cast<std::size_t>(index.start[static_cast<std::size_t>(l)] + place[v])];
    check(at < 0, "crossings: two vertices have the same place (", at, " and ", v, " in layer ", l, ")");
    at = static_cast<Vertex>(v);
  }
  return detail::count_crossings(index, successors(g.graph()), order, place);
}

/// A place within its layer for every vertex, such that few edges cross: layers are sorted by the mean height of their
/// neighbours, forward and back (Sugiyama, Tagawa & Toda, "Methods for visual understanding of hierarchical system
/// structures", 1981), then neighbours are swapped where that helps; skip edges pull with 1/(layers passed). Returns
/// the best order met: never more crossings than the order of index(). Throws on a negative number of sweeps.
/// O(V log V + E log V) per sweep.
inline std::vector<std::int32_t> layered_order(const LayeredGraph& g, const LayoutOptions& options = {}) {
  check(options.sweeps >= 0, "layered_order: cannot make fewer than 0 sweeps (", options.sweeps, ")");
  if (g.vertex_count() == 0) return {};
  const LayerIndex& index = g.index();
  const Adjacency before = predecessors(g.graph()), after = successors(g.graph());
  return detail::best_order({index, before, after, index.order, index.place}, options.sweeps);
}

/// Positions for a picture: x = layer(v), y in the order of layered_order, every vertex as near to the mean of its
/// neighbours as the distance in its layer permits; that is √(W / w) for a layer of w vertices where the widest has W,
/// and no column is higher than the widest. Throws on a negative number of sweeps. O(V log V + E log V) per sweep.
inline Layout layered_layout(const LayeredGraph& g, const LayoutOptions& options = {}) {
  const std::vector<std::int32_t> place = layered_order(g, options);
  if (place.empty()) return {};
  const LayerIndex& index = g.index();
  const Adjacency before = predecessors(g.graph()), after = successors(g.graph());
  const auto layers = static_cast<std::size_t>(index.layer_count());
  std::vector<double> y(place.size());  // by place in `order`, layer by layer
  std::vector<Vertex> order(place.size());
  std::vector<std::size_t> at(place.size());
  for (std::size_t v = 0; v < place.size(); ++v) {
    at[v] = static_cast<std::size_t>(index.start[static_cast<std::size_t>(index.layer[v])] + place[v]);
    order[at[v]] = static_cast<Vertex>(v);
  }
  std::size_t widest = 0;
  for (std::size_t l = 0; l < layers; ++l)
    if (index.size(static_cast<std::int64_t>(l)) > index.size(static_cast<std::int64_t>(widest))) widest = l;
  const auto greatest = static_cast<double>(index.size(static_cast<std::int64_t>(widest)));

  std::vector<std::pair<double, double>> pools;
  const auto gap = [&](std::size_t l) {
    return std::sqrt(greatest / static_cast<double>(index.size(static_cast<std::int64_t>(l))));
  };
  const auto column = [&](std::size_t l) {
    return std::span(y).subspan(static_cast<std::size_t>(index.start[l]),
                                static_cast<std::size_t>(index.start[l + 1] - index.start[l]));
  };
  // A layer goes to the mean of its neighbours on one side; vertices without any there look to the other side.
  const auto follow = [&](std::size_t l, const Adjacency& side, const Adjacency& other) {
    const auto own = column(l);
    for (std::size_t k = 0; k < own.size(); ++k) {
      const Vertex v = order[static_cast<std::size_t>(index.start[l]) + k];
      double sum = 0, weights = 0;
      for (const Adjacency* a : {&side, &other}) {
        for (const Vertex u : a->of(v)) {
          const double span = std::abs(index.layer[static_cast<std::size_t>(u)] - static_cast<std::int32_t>(l));
          if (span == 0) continue;
          sum = std::fma(1 / span, y[at[static_cast<std::size_t>(u)]], sum);
          weights += 1 / span;
        }
        if (weights > 0) break;
      }
      if (weights > 0) own[k] = sum / weights;
    }
    detail::settle(own, gap(l), (greatest - 1) / 2, pools);
  };
  for (std::size_t l = 0; l < layers; ++l) {
    const auto own = column(l);
    for (std::size_t k = 0; k < own.size(); ++k)
      own[k] = (static_cast<double>(k) - static_cast<double>(own.size() - 1) / 2) * gap(l);
  }
  for (int round = 0; round < 4; ++round) {
    for (std::size_t l = 1; l < layers; ++l) follow(l, before, after);
    for (std::size_t l = layers; l-- > 0;) follow(l, after, before);
  }
  // From the widest layer outwards, so that narrow layers stand in the middle of what they are connected with.
  for (std::size_t l = widest; l-- > 0;) follow(l, after, before);
  for (std::size_t l = widest + 1; l < layers; ++l) follow(l, before, after);

  Layout layout{std::vector<float>(place.size()), std::vector<float>(place.size())};
  for (std::size_t v = 0; v < place.size(); ++v) {
    layout.x[v] = static_cast<float>(index.layer[v]);
    layout.y[v] = static_cast<float>(y[at[v]]);
  }
  return layout;
}

}  // namespace deepstruct
