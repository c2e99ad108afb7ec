// Sparsity of masks that learn: the expected density as a loss, a controller that steers it, and a projection that
// makes it exact.
#pragma once

#include <tuple>

#include "prune.hpp"

namespace deepstruct {

namespace detail {

/// Calls f(name, layer) for every layer with a learnable mask and returns how many weights they have; throws if none.
template <class M, class F>
std::int64_t each_learnable(const char* op, M& model, F&& f) {
  std::int64_t weights = 0, layers = 0;
  each<MaskedLinearLayer>(model, [&](const std::string& name, auto& layer) {
    if (!layer.learnable()) return;
    ++layers;
    weights += layer.in_features() * layer.out_features();
    f(name, layer);
  });
  check(layers > 0, op, ": the model has no learnable masks (0)");
  return weights;
}

/// Σ P(gate ≠ 0), and the number of weights.
template <class M>
std::pair<Var, std::int64_t> open_gates(const char* op, const M& model) {
  Var total;
  const std::int64_t weights = each_learnable(op, model, [&](const std::string&, const MaskedLinearLayer& layer) {
    const Var part = sum(open_probability(layer.alphas(), layer.options().gradient, layer.options().temperature));
    total = total ? add(total, part) : part;
  });
  return {total, weights};
}

/// A learnable mask on the CPU while it is projected. The score of an edge is d above the value at which its final gate
/// opens; in the order of memory: column by column.
struct ProjectedMask {
  std::string name;
  MaskedLinearLayer* layer;
  Tensor alphas, weight;
  bool stretched;      ///< hard concrete: a gate between 0 and 1
  double opens;        ///< the gate is open where d > opens
  float on, off;       ///< least score of an edge that exists, greatest of one that does not
  std::int64_t edges;  ///< that exist before
  std::vector<float> score;

  ProjectedMask(std::string its_name, MaskedLinearLayer& l)
      : name(std::move(its_name)),
        layer(&l),
        alphas(to(l.alphas().value(), Device::cpu)),
        weight(to(l.weight.value(), Device::cpu)),
        stretched(l.options().gradient == MaskGradient::hard_concrete),
        edges(l.mask().nnz()) {
    opens = stretched ? std::log(double{-stretch_low} / double{stretch_high}) : 0;
    on = stretched ? 0x1p-12f : 0x1p-20f;  // far enough for the rounding of the gate
    off = stretched ? -0x1p-12f : 0;
    score.reserve(static_cast<std::size_t>(weight.size()));
    for (std::int64_t c = 0; c < l.in_features(); ++c)
      for (std::int64_t r = 0; r < l.out_features(); ++r) {
        const float d = alphas(r, c, 1) - alphas(r, c, 0);
        check(std::isfinite(d), "project_masks: an alpha is not finite (layer ", name, ", edge ", r, " <- ", c, ")");
        score.push_back(static_cast<float>(double{d} - opens));
      }
  }
  std::int64_t size() const { return static_cast<std::int64_t>(score.size()); }
};

/// An edge whose score is that at which it is decided.
struct TiedEdge {
  std::size_t layer;
  std::int64_t at, edge;  // in the order of memory and of edges
  float magnitude;
};

/// Exactly `count` edges of a group exist: the greatest scores, of equals the greater |w|, then in layer and edge
/// order.
inline void project_group(std::span<ProjectedMask> group, std::int64_t count, bool shift) {
  std::vector<std::span<const float>> all;
  for (const ProjectedMask& p : group) all.emplace_back(p.score);
  const std::int64_t n = size_of(all);
  constexpr float infinite = std::numeric_limits<float>::infinity();
  float line = count == 0 ? infinite : -infinite;  // above it edges exist, below they do not
  double moved = 0;
  std::vector<std::vector<std::int64_t>> stay(group.size());  // of those on the line
  if (count > 0 && count < n) {
    const Selected least = nth_smallest(all, n - count);
    line = least.value;
    const std::int64_t wanted = count - (n - least.below - least.equal);
    float below = wanted < least.equal ? line : -infinite;
    std::vector<TiedEdge> tied;
    for (std::size_t k = 0; k < group.size(); ++k) {
      const ProjectedMask& p = group[k];
      const std::int64_t rows = p.layer->out_features(), cols = p.layer->in_features();
      for (std::int64_t i = 0; i < p.size(); ++i) {
        const float s = p.score[static_cast<std::size_t>(i)];
        if (s < line) below = std::max(below, s);
        if (s == line) tied.push_back({k, i, i % rows * cols + i / rows, std::fabs(p.weight(i % rows, i / rows))});
      }
    }
    std::nth_element(tied.begin(), tied.begin() + wanted - 1, tied.end(), [](const TiedEdge& a, const TiedEdge& b) {
      return std::tie(b.magnitude, a.layer, a.edge) < std::tie(a.magnitude, b.layer, b.edge);
    });
    tied.resize(static_cast<std::size_t>(wanted));
    for (const TiedEdge& t : tied) stay[t.layer].push_back(t.at);
    if (shift) moved = -(double{line} + double{below}) / 2;
  }
  for (std::size_t k = 0; k < group.size(); ++k) {
    ProjectedMask& p = group[k];
    std::sort(stay[k].begin(), stay[k].end());
    auto next = stay[k].begin();
    const std::int64_t rows = p.layer->out_features();
    for (std::int64_t i = 0; i < p.size(); ++i) {
      const float before = p.score[static_cast<std::size_t>(i)];
      const bool on_line = next != stay[k].end() && *next == i;
      if (on_line) ++next;
      const float next_score = static_cast<float>(double{before} + (p.stretched ? 0 : moved));
      const float score = before > line || on_line ? std::max(next_score, p.on) : std::min(next_score, p.off);
      if (score == before) continue;
      const float d = static_cast<float>(double{score} + p.opens);  // only the difference of alphas counts
      p.alphas(i % rows, i / rows, 0) = -d / 2;
      p.alphas(i % rows, i / rows, 1) = d / 2;
    }
  }
}

}  // namespace detail

/// Σ P(gate ≠ 0) over all learnable masks, a scalar to add to a loss with a factor: the expected L0 norm of the weights
/// (Louizos et al. 2018); open_probability says what P is. Throws if the model has no learnable masks.
template <class M>
Var gate_penalty(const M& model) {
  return detail::open_gates("gate_penalty", model).first;
}
/// gate_penalty divided by the number of weights under learnable masks: the expected density, a scalar from 0 to 1.
/// Where gates are not drawn it is the density itself. Throws if the model has no learnable masks.
template <class M>
Var expected_density(const M& model) {
  const auto [open, weights] = detail::open_gates("expected_density", model);
  return affine(open, static_cast<float>(1 / std::max(1.0, static_cast<double>(weights))), 0);
}

/// Options of project_masks.
struct ProjectOptions {
  bool per_layer = false;  ///< the count is shared out among layers in proportion to their weights
  bool shift = false;      ///< all differences move alike, so that an edge that was removed can come back
};

/// Changes the alphas so that exactly `count` edges exist in all learnable masks together: those with the greatest
/// differences alpha_1 − alpha_0 above where their gate opens, of equals the greater |w|, then in layer and edge order.
/// Alphas of edges that are right already stay; a wrong one moves to just where its edge exists, or does not. With
/// `shift` one number is added to all differences first, which puts the border between both kinds, so that their order
/// and distances stay: made for training (top-k as in Ramanujan et al. 2020, with a threshold that follows); not to
/// hard concrete gates, whose value it would change. Works on the CPU; O(weights). Throws, and changes nothing, without
/// learnable masks, on more edges than there are, and on alphas that are not finite.
template <class M>
PruneReport project_masks(M& model, std::int64_t count, const ProjectOptions& options = {}) {
  std::vector<detail::ProjectedMask> masks;
  const std::int64_t weights = detail::each_learnable(
      "project_masks", model,
      [&](const std::string& name, MaskedLinearLayer& layer) { masks.emplace_back(name, layer); });
  check(count >= 0 && count <= weights, "project_masks: need between 0 and all edges (", count, " of ", weights, ")");
  if (options.per_layer) {
    std::int64_t before = 0, given = 0;
    for (detail::ProjectedMask& m : masks) {  // rounded sums, so that the parts add up
      before += m.size();
      const std::int64_t upto = weights == 0 ? 0 : count * before / weights;
      detail::project_group(std::span(&m, 1), upto - given, options.shift);
      given = upto;
    }
  } else {
    detail::project_group(masks, count, options.shift);
  }
  PruneReport report;
  for (detail::ProjectedMask& m : masks) {
    m.layer->alphas().set_value(std::move(m.alphas));
    report.layers.push_back({m.name, m.edges, m.layer->mask().nnz()});
  }
  return report;
}

/// Steers learnable masks to a sparsity while their model is trained, and makes it exact in the end. A value: settings,
/// multipliers and a step count.
///   SparsityController controller{.target = 0.9, .warmup = 500};
///   for (auto& [x, y] : batches) {
///     backward(cross_entropy(model(x), y) + controller.penalty(model));
///     adam.step(model);
///     controller.step(model);
///   }
///   controller.finish(model);  // exactly 90 % of the weights are gone
///   harden(model);             // fixed masks, ready for pack(model)
struct SparsityController {
  enum class Method {
    lagrangian,  ///< penalty λ1(ŝ − s) + λ2(ŝ − s)² with gradient ascent on λ1 and λ2 (Wang et al. 2020; Xia et al.
                 ///< 2022)
    top_k  ///< after a step the masks are projected: project_masks with shift
  };

  double target = 0.9;  ///< s, the share of weights under learnable masks that goes, 0 to 1
  Method method = Method::lagrangian;
  std::int64_t warmup = 0;          ///< steps in which the target rises linearly from 0
  double rate = 0.3;                ///< lagrangian: how fast the multipliers rise
  std::int64_t interval = 1;        ///< top_k: projects every so many steps
  bool per_layer = false;           ///< projections give every layer the same sparsity
  double lambda1 = 0, lambda2 = 0;  ///< lagrangian: the multipliers
  std::int64_t steps = 0;           ///< steps taken so far

  /// s of this step: the target times min(1, steps/warmup).
  double current_target() const {
    check(target >= 0 && target <= 1, "SparsityController: the target must lie in [0, 1] (", target, ")");
    check(warmup >= 0 && interval >= 1, "SparsityController: need warmup >= 0 and interval >= 1 (", warmup, " and ",
          interval, ")");
    return steps >= warmup ? target : target * (static_cast<double>(steps) / static_cast<double>(warmup));
  }
  /// What to add to the loss: λ1(ŝ − s) + λ2(ŝ − s)² with ŝ = 1 − expected_density and s the target of this step; 0 if
  /// top_k. Throws on invalid settings or if the model has no learnable masks.
  template <class M>
  Var penalty(const M& model) const {
    const double s = current_target();
    if (method == Method::top_k) {
      detail::each_learnable("SparsityController", model, [](const std::string&, const MaskedLinearLayer&) {});
      return Tensor::scalar(0, device_of(model));
    }
    const Var off = affine(expected_density(model), -1, static_cast<float>(1 - s));
    return affine(off, static_cast<float>(lambda1), 0) + affine(square(off), static_cast<float>(lambda2), 0);
  }
  /// After a step of the optimizer. lagrangian: λ1 += rate·(ŝ − s), λ2 += rate·(ŝ − s)². top_k: every `interval` steps
  /// exactly a share s goes. Throws as penalty, and changes nothing then.
  template <class M>
  void step(M& model) {
    const double s = current_target();
    if (method == Method::top_k) {
      if ((steps + 1) % interval == 0)
        project_masks(model, edges_of(model, s), {.per_layer = per_layer, .shift = true});
    } else {
      check(rate >= 0 && std::isfinite(rate), "SparsityController: the rate must not be negative (", rate, ")");
      no_grad guard;
      const double off = 1 - s - double{expected_density(std::as_const(model)).item()};
      lambda1 += rate * off;
      lambda2 += rate * off * off;
    }
    ++steps;
  }
  /// Exactly round(target·weights) of the weights under learnable masks go, whatever the masks have learned: see
  /// project_masks. Throws as penalty, and changes nothing then.
  template <class M>
  PruneReport finish(M& model) const {
    current_target();
    return project_masks(model, edges_of(model, target), {.per_layer = per_layer});
  }

 private:
  template <class M>
  static std::int64_t edges_of(const M& model, double sparsity) {
    const std::int64_t weights =
        detail::each_learnable("SparsityController", model, [](const std::string&, const MaskedLinearLayer&) {});
    return weights - static_cast<std::int64_t>(std::nearbyint(sparsity * static_cast<double>(weights)));
  }
};

}  // namespace deepstruct
