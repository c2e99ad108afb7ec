// Scores of whole neurons, channels and vertices: what their edges matter together.
#pragma once

#include <cmath>
#include <set>

#include "remove_units.hpp"

namespace deepstruct {

/// How saliencies of many edges become one score.
enum class UnitAggregate {
  sum,   ///< Σ s
  mean,  ///< Σ s / n
  l1,    ///< Σ |s|                 (of weights: Li et al. 2017)
  l2     ///< √Σ s²
};

/// Options of structured pruning.
struct UnitOptions {
  enum class Edges { in, out, both };
  enum class Scale { none, layer_mean };

  UnitAggregate aggregate = UnitAggregate::l2;
  Edges edges = Edges::in;          ///< those into the members of a group, those out of them, or all
  Scale scale = Scale::layer_mean;  ///< scores in units of their mean over the layers that go together, or as they are
  std::int64_t keep_per_layer = 1;  ///< a floor: so many units of every layer stay; 0: layers may lose all
};

namespace detail {

/// Saliencies of a group of edges, added up.
struct EdgeScore {
  double sum = 0, l1 = 0, squares = 0, edges = 0;

  void add(double s) {
    sum += s;
    l1 += std::abs(s);
    squares += s * s;
    edges += 1;
  }
  double value(UnitAggregate how) const {
    return how == UnitAggregate::sum    ? sum
           : how == UnitAggregate::mean ? (edges > 0 ? sum / edges : 0)
           : how == UnitAggregate::l1   ? l1
                                        : std::sqrt(squares);
  }
};

/// Groups of a model with scores, and in which order they go.
struct ScoredUnits {
  UnitTable table;
  std::vector<double> score;

  template <class M>
  ScoredUnits(const char* op, const M& model, const Shape& example_shape, const UnitOptions& options)
      : ScoredUnits(op, std::vector<EdgeScore>(), model, example_shape, options) {}

  bool candidate(std::size_t g) const {
    return !table.groups[g].members.empty() && table.groups[g].may_go() && table.groups[g].live;
  }
  /// Units of every layer that are live.
  std::vector<std::int64_t> live() const {
    std::vector<std::int64_t> n(table.names.size(), 0);
    for (std::size_t g = 0; g < table.groups.size(); ++g)
      for (const std::int32_t l : table.layers[g]) n[l] += table.groups[g].live;
    return n;
  }
  /// The candidates, least score first (of equals the first), without those of which a layer needs the last ones.
  std::vector<std::int32_t> order(std::int64_t floor) const {
    std::vector<std::int32_t> all, chosen;
    for (std::size_t g = 0; g < score.size(); ++g)
      if (candidate(g)) all.push_back(static_cast<std::int32_t>(g));
    std::stable_sort(all.begin(), all.end(), [&](std::int32_t a, std::int32_t b) { return score[a] < score[b]; });
    std::vector<std::int64_t> left = live();
    for (const std::int32_t g : all) {
      for (const std::int32_t l : table.layers[g]) --left[l];
      if (std::ranges::all_of(table.layers[g], [&](std::int32_t l) { return left[l] >= floor; }))
        chosen.push_back(g);
      else
        for (const std::int32_t l : table.layers[g]) ++left[l];
    }
    return chosen;
  }
  std::vector<UnitGroup> first(const std::vector<std::int32_t>& order, std::int64_t n) const {
    std::vector<UnitGroup> some;
    for (std::int64_t k = 0; k < n; ++k) some.push_back(table.groups[order[k]]);
    return some;
  }
  /// The first layer that had live units and lost the last of them; empty: none.
  std::string emptied(const std::map<std::string, std::vector<std::int32_t>>& units) const {
    std::vector<std::int64_t> left(table.names.size(), 0);
    for (std::size_t g = 0; g < table.groups.size(); ++g) {
      const UnitGroup& group = table.groups[g];
      const auto member = std::ranges::find_if(group.members, [&](const UnitGroup::Member& m) {
        return m.extent == 0 && units.contains(m.module) &&
               m.unit < static_cast<std::int32_t>(units.at(m.module).size());
      });
      const bool stays = member == group.members.end() || units.at(member->module)[member->unit] >= 0;
      for (const std::int32_t l : table.layers[g]) left[l] += group.live && stays;
    }
    const std::vector<std::int64_t> before = live();
    for (std::size_t l = 0; l < left.size(); ++l)
      if (before[l] > 0 && left[l] == 0 && !table.closes[l]) return table.names[l];
    return "";
  }
  /// How many units have to stay for which op: ", 300 stay for layer_norm_rstd".
  std::string fixed() const {
    std::map<std::string, std::int64_t> why;
    for (const UnitGroup& g : table.groups)
      if (!g.members.empty() && !g.may_go() && g.fixed != "input" && g.fixed != "output") ++why[g.fixed];
    std::string text;
    for (const auto& [op, n] : why) text += ", " + std::to_string(n) + " stay for " + op;
    return text;
  }

 private:
  template <class M>
  ScoredUnits(const char* op, std::vector<EdgeScore> scores, const M& model, const Shape& example_shape,
              const UnitOptions& options)
      : table(model, example_shape, [&](const std::string& name, std::int32_t target, std::int32_t source, float s) {
          check(std::isfinite(s), op, ": a saliency is not finite (", s, " in ", name, ")");
          const auto add = [&](std::int32_t g) {
            if (g < 0) return;
            if (scores.size() <= static_cast<std::size_t>(g)) scores.resize(static_cast<std::size_t>(g) + 1);
            scores[static_cast<std::size_t>(g)].add(double{s});
          };
          if (options.edges != UnitOptions::Edges::out) add(target);
          if (options.edges != UnitOptions::Edges::in && (source != target || options.edges == UnitOptions::Edges::out))
            add(source);
        }) {
    scores.resize(table.groups.size());
    for (const EdgeScore& s : scores) score.push_back(s.value(options.aggregate));
    if (options.scale == UnitOptions::Scale::layer_mean) scale();
  }

  /// Scores in units of the mean of all candidates in layers that groups connect.
  void scale() {
    std::vector<Edge> together;
    for (const auto& of : table.layers)
      for (std::size_t k = 1; k < of.size(); ++k)
        if (of[k] != of[0]) together.push_back({of[0], of[k]});
    const auto family = components(static_cast<std::int32_t>(table.names.size()), together).label;
    std::vector<double> sum(table.names.size(), 0), count(table.names.size(), 0);
    const auto each_candidate = [&](auto&& f) {
      for (std::size_t g = 0; g < score.size(); ++g)
        if (candidate(g) && !table.layers[g].empty()) f(g, static_cast<std::size_t>(family[table.layers[g][0]]));
    };
    each_candidate([&](std::size_t g, std::size_t l) {
      sum[l] += std::abs(score[g]);
      count[l] += 1;
    });
    each_candidate([&](std::size_t g, std::size_t l) {
      if (sum[l] > 0) score[g] /= sum[l] / count[l];
    });
  }
};

/// The model on the CPU.
template <class M>
M on_cpu(M model) {
  if (device_of(model) != Device::cpu) to(model, Device::cpu);
  return model;
}

}  // namespace detail

/// The score of every group of unit_groups(model, example_shape): saliencies of the masked layers, |w| elsewhere, added
/// up over the edges of its members. O(parameters + edges).
template <class M>
std::vector<double> unit_scores(const M& model, const Shape& example_shape, const UnitOptions& options = {}) {
  const detail::ScoredUnits units("unit_scores", detail::on_cpu(model), example_shape, options);
  std::vector<double> scores;
  for (std::size_t g = 0; g < units.score.size(); ++g)
    if (!units.table.groups[g].members.empty()) scores.push_back(units.score[g]);
  return scores;
}

}  // namespace deepstruct
