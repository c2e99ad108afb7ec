// Connectivity: pruning that knows the paths from inputs to outputs.
#pragma once

#include "living_edges.hpp"
#include "prune.hpp"

namespace deepstruct {

/// Removes every edge that lies on no path from an input to an output: weights into units that reach no output, and
/// weights from units that no input reaches. The outputs do not change, but for what units without a way from an input
/// still gave, which is a constant made of biases; compact folds those into biases.
///
/// Paths are read from the trace of model(ones of example_shape) in evaluation, across skips, sums, concatenations,
/// channels, networks on graphs. Layers without a mask connect all they read with all they give, and so do ops that are
/// not known and norms over units (layer norm). A layer that is used in a way that is not known, or not at all, stays
/// as it is. A unit is a feature or a channel: where the image lies is not looked at. O(parameters + edges).
template <class M>
PruneReport prune_dead_edges(M& model, const Shape& example_shape) {
  constexpr const char* op = "prune_dead_edges";
  std::vector<detail::PruneLayer> layers;
  each_masked(model, [&](const std::string& name, auto& layer) {
    layers.push_back({name, [&layer](const Mask& m) { layer.set_mask(m); }, layer.mask(), Tensor()});
  });
  check(!layers.empty(), op, ": the model has no masked layers (0)");
  const detail::UnitPaths paths = detail::unit_paths(op, model, example_shape);
  const auto reach = paths.reach([](std::int32_t) { return true; });
  std::vector<std::vector<char>> alive;
  for (std::size_t l = 0; l < layers.size(); ++l)
    alive.emplace_back(static_cast<std::size_t>(layers[l].mask.nnz()), paths.known[l] ? 0 : 1);
  for (const auto& arc : paths.arcs)
    if (arc.layer >= 0 && reach.alive(arc)) alive[arc.layer][arc.edge] = 1;
  std::vector<Mask> after;
  for (std::size_t l = 0; l < layers.size(); ++l)
    after.push_back(
        layers[l].mask.filter([&](std::int32_t e, std::int64_t, std::int64_t) { return alive[l][e] != 0; }));
  return detail::set_masks(layers, after);
}

namespace detail {

/// Looks for exactly n edges that are all on paths and leave every output a path.
class ConnectedSearch {
 public:
  /// Edges in the order in which they should go, as arcs.
  ConnectedSearch(const UnitPaths& paths, std::vector<std::int32_t> order, std::int64_t n)
      : paths_(paths), order_(std::move(order)), n_(n), rank_(paths.arcs.size(), -1) {
    const LivingEdges all(paths);
    for (std::size_t a = 0; a < rank_.size(); ++a)
      if (all.reached(paths.arcs[a].from) && all.needed(paths.arcs[a].to)) rank_[a] = 0;
    for (std::size_t k = 0; k < order_.size(); ++k)
      if (rank_[order_[k]] == 0) rank_[order_[k]] = static_cast<std::int32_t>(k) + 1;
  }

  /// Of every arc whether it stays, or nothing: then least() says how few were possible.
  std::optional<std::vector<char>> run() {
    {
      LivingEdges edges(paths_);
      const std::vector<char> none(paths_.arcs.size(), 0);
      if (descend(edges, none) || swap(edges, none) || detour(edges, none)) return edges.flags();
    }
    const std::vector<char> few = smallest();
    least_ = std::count(few.begin(), few.end(), 1);
    if (least_ > n_) return std::nullopt;
    LivingEdges edges(paths_);
    const std::size_t all = edges.now();
    if (descend(edges, few) || swap(edges, few) || detour(edges, few)) return edges.flags();
    edges.undo(all);
    for (const std::int32_t arc : order_)
      if (edges.contains(arc) && !few[arc]) edges.remove(arc, 0);
    if (fill(edges) || detour(edges, std::vector<char>(few.size(), 0))) return edges.flags();
    return std::nullopt;
  }
  std::int64_t least() const { return least_; }

 private:
  /// One after the other goes, with what is on no path then, as long as n are left and outputs have paths. What cannot
  /// go now never can.
  bool descend(LivingEdges& edges, const std::vector<char>& keep) const {
    for (std::size_t k = 0; k < order_.size() && edges.size() > n_; ++k)
      if (edges.contains(order_[k]) && !keep[order_[k]]) edges.remove(order_[k], n_);
    return edges.size() == n_;
  }
  /// Edges between units that have paths come back, the most salient first, until there are n.
  bool fill(LivingEdges& edges) const {
    for (bool more = true; more && edges.size() < n_;) {
      more = false;
      for (std::size_t k = order_.size(); k-- > 0 && edges.size() < n_;)
        if (edges.fits(order_[k])) edges.add(order_[k]), more = true;
    }
    return edges.size() == n_;
  }
  /// More go than should, and others come back in their place.
  bool swap(LivingEdges& edges, const std::vector<char>& keep) const {
    int tries = most_tries;
    for (const std::int32_t arc : order_) {
      if (!edges.contains(arc) || keep[arc]) continue;
      const std::size_t before = edges.now();
      if (!edges.remove(arc, 0)) continue;
      if (fill(edges)) return true;
      edges.undo(before);
      if (--tries == 0) break;
    }
    return false;
  }
  /// A path through other units comes, and others go in its place.
  bool detour(LivingEdges& edges, std::vector<char> keep) const {
    int tries = most_tries;
    for (std::size_t k = order_.size(); k-- > 0 && tries > 0;) {
      if (edges.contains(order_[k]) || rank_[order_[k]] < 0) continue;
      --tries;
      const std::size_t before = edges.now();
      std::vector<std::int32_t> path{order_[k]};
      for (std::int32_t u = paths_.arcs[order_[k]].from; !edges.reached(u);) {
        path.push_back(best(paths_.in(u)));
        u = paths_.arcs[path.back()].from;
      }
      for (std::int32_t u = paths_.arcs[order_[k]].to; !edges.needed(u);) {
        path.push_back(best(paths_.out(u)));
        u = paths_.arcs[path.back()].to;
      }
      std::erase_if(path, [&](std::int32_t a) { return paths_.arcs[a].layer < 0 || edges.contains(a); });
      std::vector<std::int32_t> kept;
      for (const std::int32_t a : path) {
        edges.add(a);
        if (!std::exchange(keep[a], 1)) kept.push_back(a);
      }
      if (descend(edges, keep)) return true;
      edges.undo(before);
      for (const std::int32_t a : kept) keep[a] = 0;
    }
    return false;
  }
  /// The most salient of some arcs that are on a path of the whole network.
  std::int32_t best(std::span<const std::int32_t> arcs) const {
    std::int32_t most = -1;
    for (const std::int32_t a : arcs)
      if (rank_[a] >= 0 && (most < 0 || rank_[a] > rank_[most])) most = a;
    return most;
  }
  /// As few as can be found: first whole units go, then edges.
  std::vector<char> smallest() const {
    LivingEdges edges(paths_);
    std::vector<std::int32_t> units;  // in the order of their most salient edge
    std::vector<char> seen(static_cast<std::size_t>(paths_.size()), 0);
    for (std::size_t k = order_.size(); k-- > 0;)
      if (const std::int32_t u = paths_.arcs[order_[k]].to; !std::exchange(seen[u], 1)) units.push_back(u);
    for (std::size_t k = units.size(); k-- > 0;) {
      const std::size_t before = edges.now();
      for (const std::int32_t arc : paths_.in(units[k]))
        if (edges.contains(arc) && !edges.remove(arc, 0)) {
          edges.undo(before);
          break;
        }
    }
    for (const std::int32_t arc : order_)
      if (edges.contains(arc)) edges.remove(arc, 0);
    return edges.flags();
  }

  static constexpr int most_tries = 1000;  // each looks at all edges

  const UnitPaths& paths_;
  std::vector<std::int32_t> order_;
  std::int64_t n_, least_ = 0;
  std::vector<std::int32_t> rank_;  // of every arc on a path of the whole network, from 1; 0: fixed; −1: on none
};

}  // namespace detail

/// Prunes for a budget so that exactly so many weights stay, every output has a path from an input, and every weight
/// that stays lies on such a path (so does every unit that has one). Paths are those of prune_dead_edges.
///
/// The least salient edge goes first, together with all that lie on no path without it; one whose loss would cut off an
/// output, or leave too few, stays. Where that ends with more than asked for, a few go and others between units that
/// have paths come back. Every number from the least to all that lie on paths is found in chains of full layers; in
/// others the fewest possible are hard to find (a set cover), and the search may give up. O(edges log edges) as a rule.
///
/// Throws, and changes nothing, where an output has no path before, where fewer weights lie on paths than shall stay,
/// where no choice of so few is found (the text has the least found), and where a masked layer is used twice or in a
/// way that is not known.
template <class M>
PruneReport prune_connected(M& model, const Budget& budget, const Shape& example_shape) {
  constexpr const char* op = "prune_connected";
  const auto layers = detail::prune_layers(model, op);
  const detail::UnitPaths paths = detail::unit_paths(op, model, example_shape);
  std::vector<std::span<const float>> all;
  std::int64_t places = 0;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    check(paths.known[l] && paths.uses[l] == 1, op, ": the paths through a layer are not known (", layers[l].name,
          ", used ", paths.uses[l], " times)");
    all.push_back(layers[l].edges());
    places += layers[l].places;
  }
  const std::int64_t n = detail::size_of(all),
                     left = n - detail::exact_count(all, detail::going(budget, n, places, op));
  const detail::LivingEdges now(paths);
  for (std::size_t o = 0; o < paths.outputs.size(); ++o)
    check(now.reached(paths.outputs[o]), op, ": an output has no path from an input (output ", o, " of ",
          paths.outputs.size(), ")");
  check(left <= now.size(), op, ": fewer weights lie on paths than shall stay (", left, ", possible ", now.size(), ")");
  std::vector<std::int32_t> order;
  for (std::size_t a = 0; a < paths.arcs.size(); ++a)
    if (paths.arcs[a].layer >= 0) order.push_back(static_cast<std::int32_t>(a));
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    const auto &x = paths.arcs[a], &y = paths.arcs[b];
    const float s = layers[x.layer].saliency(x.edge), t = layers[y.layer].saliency(y.edge);
    return s != t ? s < t : std::pair(x.layer, x.edge) < std::pair(y.layer, y.edge);
  });
  detail::ConnectedSearch search(paths, std::move(order), left);
  const std::optional<std::vector<char>> stays = search.run();
  check(stays.has_value(), op, ": no choice of so few weights leaves every output a path (", left, ", least found ",
        search.least(), ")");
  std::vector<std::vector<char>> alive;
  for (const detail::PruneLayer& l : layers) alive.emplace_back(static_cast<std::size_t>(l.mask.nnz()), 0);
  for (std::size_t a = 0; a < paths.arcs.size(); ++a)
    if ((*stays)[a]) alive[paths.arcs[a].layer][paths.arcs[a].edge] = 1;
  std::vector<Mask> after;
  for (std::size_t l = 0; l < layers.size(); ++l)
    after.push_back(
        layers[l].mask.filter([&](std::int32_t e, std::int64_t, std::int64_t) { return alive[l][e] != 0; }));
  return detail::set_masks(layers, after);
}

}  // namespace deepstruct
