// Optimal brain surgeon: the weight that costs least goes, and all other parameters of the network move to make up for
// it, by the inverse of the Hessian of everything. For small networks.
#pragma once

#include "obs_parts.hpp"

namespace deepstruct {

/// How optimal_brain_surgeon works.
struct SurgeonOptions {
  double alpha = 1e-6;  ///< added to the diagonal of H: curvature where no output depends on a parameter
  int refresh = 1;  ///< H is made anew after so many removals; in between H⁻¹ is that of the same H, less a weight
  double max_loss = std::numeric_limits<double>::infinity();  ///< stop before the mean loss over the data exceeds this
};

/// What optimal_brain_surgeon did.
struct SurgeonReport : PruneReport {
  double loss_before = 0, loss_after = 0;  ///< mean loss over the data
  double predicted = 0;                    ///< what the removals should have cost, Σ ½ w_q²/[H⁻¹]_qq
  bool stopped = false;                    ///< before the budget was used up
};

/// Accepts every network.
struct AcceptAll {
  template <class M>
  bool operator()(const M&) const {
    return true;
  }
};

/// Optimal brain surgeon (Hassibi & Stork 1992) of a trained network: again and again the edge q with the least L_q =
/// ½ w_q²/[H⁻¹]_qq goes, and θ ← θ − w_q/[H⁻¹]_qq·H⁻¹ e_q for all parameters that are left, biases included.
///
/// H = αI + 1/n Σ JᵀSSᵀJ over n samples is the Gauss–Newton matrix of the loss in double, its inverse made by one
/// rank-one step per output of a sample. The loss is CrossEntropy, SquaredError, or has members like those:
/// output(model, x), curvature(f) and loss(model, batch). Only edges of masks go; all trainable parameters of the model
/// make up for it.
///
/// It stops when the budget is used up (percentage(q) of the edges, rounded down; absolute(n) edges; bucket(s): while
/// the L_q add up to at most s; remaining(n), density(d): all but so many), and before a removal after which the mean
/// loss exceeds max_loss or accept(network) is false. accept sees a copy on the CPU, in evaluation, in which what has
/// gone is 0:
///   optimal_brain_surgeon(model, data, percentage(100), SquaredError{.sigmoid = true}, {},
///                         [&](const auto& m) { return errors(m, data) == 0; });
/// H assumes a minimum of the loss: train until there is one, and again between calls where that helps.
///
/// In full storage weights behind the masks become 0. O(removals·samples·outputs·(P² + network)) for P parameters, at
/// most 10,000. Throws, and leaves the model unchanged, without data or masked layers, on numbers that are not finite,
/// on learned masks, α ≤ 0, refresh < 1 and on a budget of more edges than there are.
template <class M, class Batches, class Loss = CrossEntropy, class Accept = AcceptAll>
SurgeonReport optimal_brain_surgeon(M& model, Batches&& data, const Budget& budget, Loss&& loss = {},
                                    const SurgeonOptions& options = {}, Accept&& accept = {}) {
  constexpr const char* op = "optimal_brain_surgeon";
  check(options.alpha > 0 && std::isfinite(options.alpha), op, ": alpha must be positive (", options.alpha, ")");
  check(options.refresh >= 1, op, ": H is made anew after 1 removal or more (", options.refresh, ")");
  std::int64_t edges = 0, places = 0;
  each_masked(std::as_const(model), [&](const auto& layer) {
    edges += layer.mask().nnz();
    places += detail::places_for_edges(layer);
  });
  M work = model;
  to(work, Device::cpu);
  set_training(work, false);
  const detail::ParameterVector parameters(work, op);
  const std::int64_t most = detail::surgeon_count(op, detail::going(budget, edges, places, op), edges);
  const std::vector<Tensor> samples = detail::single_samples(op, data);
  Eigen::VectorXd theta = parameters.gather(parameters.params());
  check(theta.allFinite(), op, ": a parameter is not finite (", theta.size(), " parameters)");

  SurgeonReport report;
  report.loss_before = report.loss_after = detail::mean_loss(op, work, data, loss);
  std::vector<char> gone(parameters.entries().size(), 0);
  Eigen::MatrixXd inverse;
  std::int64_t removed = 0;
  for (; removed < most; ++removed) {
    if (removed % options.refresh == 0)
      inverse = detail::inverse_hessian(op, work, parameters, samples, loss, options.alpha, gone);
    Eigen::Index q = -1;
    double least = std::numeric_limits<double>::infinity();
    for (Eigen::Index k = 0; k < theta.size(); ++k) {
      const auto at = static_cast<std::size_t>(k);
      if (gone[at] || parameters.entries()[at].layer < 0) continue;
      const double cost = 0.5 * theta(k) * theta(k) / inverse(k, k);
      if (cost < least) {
        least = cost;
        q = k;
      }
    }
    check(q >= 0, op, ": the inverse Hessian is not finite (", inverse.rows(), " parameters)");
    if (budget.kind == Budget::Kind::bucket && !(report.predicted + least <= budget.value)) break;
    const Eigen::VectorXd column = inverse.col(q);
    const double pivot = column(q);
    Eigen::VectorXd next = theta - theta(q) / pivot * column;
    next(q) = 0;
    for (std::size_t k = 0; k < gone.size(); ++k)
      if (gone[k]) next(static_cast<Eigen::Index>(k)) = 0;
    parameters.scatter(next);
    const double now = detail::mean_loss(op, work, data, loss);
    if (now > options.max_loss || !accept(std::as_const(work))) {
      parameters.scatter(theta);
      report.stopped = true;
      break;
    }
    theta = next;
    gone[static_cast<std::size_t>(q)] = 1;
    inverse.noalias() -= column / pivot * column.transpose();
    report.loss_after = now;
    report.predicted += least;
  }

  std::vector<std::vector<char>> gone_of;
  each_masked(std::as_const(work), [&](const std::string& name, const auto& layer) {
    gone_of.emplace_back(static_cast<std::size_t>(layer.mask().nnz()), 0);
    report.layers.push_back({name, layer.mask().nnz(), layer.mask().nnz()});
  });
  for (std::size_t k = 0; k < gone.size(); ++k) {
    const auto& entry = parameters.entries()[k];
    if (!gone[k]) continue;
    gone_of[static_cast<std::size_t>(entry.layer)][static_cast<std::size_t>(entry.edge)] = 1;
    --report.layers[static_cast<std::size_t>(entry.layer)].after;
  }
  if (removed == 0) return report;
  const auto prune_by = [&](M& m) {
    std::size_t k = 0;
    each_masked(m, [&](auto& layer) {
      const std::vector<char>& went = gone_of[k++];
      layer.set_mask(layer.mask().filter(
          [&](std::int32_t e, std::int64_t, std::int64_t) { return went[static_cast<std::size_t>(e)] == 0; }));
    });
  };
  prune_by(work);
  std::vector<Tensor> values;
  each_param(work, [&](const Param& p) { values.push_back(p.value()); });
  prune_by(model);
  std::size_t k = 0;
  each_param(model, [&](Param& p) { p.set_value(std::move(values[k++])); });
  return report;
}

}  // namespace deepstruct
