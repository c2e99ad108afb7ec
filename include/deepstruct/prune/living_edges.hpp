// The edges of masks that lie on paths from inputs to outputs, while edges go and come.
#pragma once

#include "../transform/unit_paths.hpp"

namespace deepstruct::detail {

/// Edges that are on a path, of which one can go, with all that are on no path then, or come back. Steps are undone at
/// their own cost: O(arcs that changed).
class LivingEdges {
 public:
  /// All that are on a path.
  explicit LivingEdges(const UnitPaths& paths)
      : paths_(paths),
        present_(paths.arcs.size(), 1),
        in_(static_cast<std::size_t>(paths.size()), 0),
        out_(in_),
        output_(static_cast<std::size_t>(paths.size()), 0) {
    const UnitPaths::Reach all = paths.reach([](std::int32_t) { return true; });
    for (std::size_t a = 0; a < paths.arcs.size(); ++a) {
      if (paths.arcs[a].layer < 0) continue;
      present_[a] = all.alive(paths.arcs[a]);
      alive_ += present_[a];
    }
    now_ = paths.reach([&](std::int32_t a) { return present_[a] != 0; });
    for (std::size_t a = 0; a < paths.arcs.size(); ++a)
      if (const UnitPaths::Arc& arc = paths.arcs[a]; present_[a]) {
        in_[arc.to] += now_.reached[arc.from];
        out_[arc.from] += now_.needed[arc.to];
      }
    for (const std::int32_t u : paths.inputs) ++in_[u];
    for (const std::int32_t u : paths.outputs) ++out_[u], output_[u] = 1;
  }

  LivingEdges(const LivingEdges&) = delete;

  /// How many edges there are.
  std::int64_t size() const { return alive_; }
  bool contains(std::int32_t arc) const { return paths_.arcs[arc].layer >= 0 && present_[arc] != 0; }
  /// Of every arc, whether it is one of the edges.
  std::vector<char> flags() const {
    std::vector<char> all(paths_.arcs.size());
    for (std::size_t a = 0; a < all.size(); ++a) all[a] = contains(static_cast<std::int32_t>(a));
    return all;
  }
  bool reached(std::int32_t unit) const { return now_.reached[unit] != 0; }
  bool needed(std::int32_t unit) const { return now_.needed[unit] != 0; }

  /// What has happened until now, to come back to.
  std::size_t now() const { return log_.size(); }
  void undo(std::size_t to) {
    for (; log_.size() > to; log_.pop_back()) *log_.back().value += log_.back().by;
  }

  /// Removes an edge and all that are on no path then, unless an output loses its last path or fewer than `least` edges
  /// are left: then nothing changes.
  bool remove(std::int32_t arc, std::int64_t least) {
    const std::size_t before = now();
    drop(arc);
    const UnitPaths::Arc& a = paths_.arcs[arc];
    lose(in_, a.to, false);
    lose(out_, a.from, true);
    bool lost = false;
    for (; !open_.empty() && !lost && alive_ >= least;) {
      const auto [u, need] = open_.back();
      open_.pop_back();
      std::vector<std::int32_t>& flags = need ? now_.needed : now_.reached;
      if (!flags[u]) continue;
      change(flags[u], -1);
      lost = !need && output_[u];
      for (const std::int32_t k : need ? paths_.in(u) : paths_.out(u)) {
        if (!present_[k]) continue;
        const UnitPaths::Arc& next = paths_.arcs[k];
        lose(need ? out_ : in_, need ? next.from : next.to, need);
        if (next.layer < 0) continue;
        drop(k);
        if (need ? now_.reached[next.from] : now_.needed[next.to]) lose(need ? in_ : out_, u, !need);
      }
    }
    open_.clear();
    if (!lost && alive_ >= least) return true;
    undo(before);
    return false;
  }
  /// Could the edge come by itself, so that it is on a path?
  bool fits(std::int32_t arc) const {
    const UnitPaths::Arc& a = paths_.arcs[arc];
    return a.layer >= 0 && !present_[arc] && now_.reached[a.from] && now_.needed[a.to];
  }
  /// Adds an edge: one that fits, or one of several that make a path together.
  void add(std::int32_t arc) {
    const UnitPaths::Arc& a = paths_.arcs[arc];
    const bool reached = now_.reached[a.from] != 0, needed = now_.needed[a.to] != 0;
    change(present_[arc], 1);
    change(alive_, 1);
    if (reached) change(in_[a.to], 1), gain(now_.reached, in_, a.to, false);
    if (needed) change(out_[a.from], 1), gain(now_.needed, out_, a.from, true);
  }

 private:
  struct Change {
    std::int32_t* value;
    std::int32_t by;
  };
  void change(std::int32_t& value, std::int32_t by) {
    value += by;
    log_.push_back({&value, -by});
  }
  void drop(std::int32_t arc) {
    change(present_[arc], -1);
    change(alive_, -1);
  }
  /// A unit has one way less; without any it is open to be closed.
  void lose(std::vector<std::int32_t>& ways, std::int32_t u, bool need) {
    change(ways[u], -1);
    if (ways[u] == 0) open_.emplace_back(u, need);
  }
  /// A unit has a way again, and gives it to others, over fixed arcs.
  void gain(std::vector<std::int32_t>& flags, std::vector<std::int32_t>& ways, std::int32_t first, bool need) {
    if (flags[first]) return;
    change(flags[first], 1);
    std::vector<std::int32_t> open{first};
    while (!open.empty()) {
      const std::int32_t u = open.back();
      open.pop_back();
      for (const std::int32_t k : need ? paths_.in(u) : paths_.out(u)) {
        if (!present_[k]) continue;
        const std::int32_t v = need ? paths_.arcs[k].from : paths_.arcs[k].to;
        change(ways[v], 1);
        if (flags[v]) continue;
        change(flags[v], 1);
        open.push_back(v);
      }
    }
  }

  const UnitPaths& paths_;
  std::vector<std::int32_t> present_;   // of every arc
  std::vector<std::int32_t> in_, out_;  // of every unit: arcs from reached, to needed units; inputs, outputs: one more
  std::vector<char> output_;
  std::int32_t alive_ = 0;
  UnitPaths::Reach now_;
  std::vector<Change> log_;
  std::vector<std::pair<std::int32_t, bool>> open_;  // units without a way, and whether it is that to an output
};

}  // namespace deepstruct::detail
