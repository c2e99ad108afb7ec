// Optimal brain compression: every weight that goes is compensated exactly, with an H⁻¹ of what its row still has.
#pragma once

#include <queue>

#include "input_hessian.hpp"

namespace deepstruct {

namespace detail {

/// In which order the weights of a row go, and what each costs.
struct RowTrace {
  std::vector<std::int32_t> order;  // positions in the row
  std::vector<double> loss;         // ½ w²/[H⁻¹]_qq at its turn
};

/// Greedy removal from a row w, always of the least w²/[H⁻¹]_qq, with exact compensation and the exact H⁻¹ of what is
/// left. H⁻¹ after k removals is H⁻¹ − Σ v vᵀ over the k columns v = H⁻¹e_q/√[H⁻¹]_qq of their turns: a Cholesky
/// factorisation with pivots chosen by loss. So no matrix is updated; a turn reads the columns before it. inverse [m,
/// m] → m turns, O(m³/6).
inline RowTrace trace_row(const Eigen::MatrixXd& inverse, Eigen::VectorXd w) {
  const Eigen::Index m = w.size();
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  RowMajor v(m, m);
  Eigen::VectorXd d = inverse.diagonal(), c(m), pivot_row(m);
  std::vector<std::int32_t> at(static_cast<std::size_t>(m));  // what is left comes first
  std::iota(at.begin(), at.end(), 0);
  RowTrace trace;
  for (Eigen::Index k = 0; k < m; ++k) {
    const Eigen::Index left = m - k;
    Eigen::Index q = 0;
    double least = std::numeric_limits<double>::infinity();
    for (Eigen::Index i = 0; i < left; ++i) {
      const double loss = 0.5 * w(i) * w(i) / d(i);
      if (loss < least || (loss == least && at[i] < at[q])) {
        least = loss;
        q = i;
      }
    }
    trace.order.push_back(at[q]);
    trace.loss.push_back(least);
    pivot_row.head(k) = v.row(q).head(k);
    for (Eigen::Index i = 0; i < left; ++i) c(i) = inverse(at[i], at[q]);
    c.head(left).noalias() -= v.topLeftCorner(left, k) * pivot_row.head(k);
    const double root = std::sqrt(d(q));
    c.head(left) /= root;
    w.head(left) -= w(q) / root * c.head(left);
    d.head(left) = (d.head(left).array() - c.head(left).array().square()).max(1e-300);
    v.col(k).head(left) = c.head(left);
    const Eigen::Index last = left - 1;
    v.row(q).head(k + 1) = v.row(last).head(k + 1);
    w(q) = w(last);
    d(q) = d(last);
    at[q] = at[last];
  }
  return trace;
}

/// The rows and columns `of` of a symmetric matrix.
inline Eigen::MatrixXd picked(const Eigen::MatrixXd& h, std::span<const std::int32_t> of) {
  const auto n = static_cast<Eigen::Index>(of.size());
  Eigen::MatrixXd part(n, n);
  for (Eigen::Index j = 0; j < n; ++j)
    for (Eigen::Index i = 0; i < n; ++i) part(i, j) = h(of[i], of[j]);
  return part;
}

/// The weights of a row that stays with some of its inputs and gives the most similar output:
///   w_S + H_SS⁻¹ H_SP w_P,  S what stays, P what goes.
inline Eigen::VectorXd refit_row(const Eigen::MatrixXd& hessian, const Eigen::VectorXd& w,
                                 std::span<const std::int32_t> stay, std::span<const std::int32_t> goes) {
  const auto n = static_cast<Eigen::Index>(stay.size());
  Eigen::VectorXd missing = Eigen::VectorXd::Zero(n), all = Eigen::VectorXd::Zero(w.size());
  for (const std::int32_t p : goes)
    for (Eigen::Index i = 0; i < n; ++i) missing(i) += hessian(stay[i], p) * w(p);
  const Eigen::VectorXd more = Eigen::LLT<Eigen::MatrixXd>(picked(hessian, stay)).solve(missing);
  for (Eigen::Index i = 0; i < n; ++i) all(stay[i]) = w(stay[i]) + more(i);
  return all;
}

/// How many weights every row loses, `most` in all and at most a bucket: the least next loss of all rows goes first, of
/// equals the first row.
inline std::vector<std::size_t> row_counts(const std::vector<RowTrace>& traces, std::int64_t most,
                                           const Budget& budget) {
  using Next = std::pair<double, std::size_t>;
  std::priority_queue<Next, std::vector<Next>, std::greater<>> next;
  std::vector<std::size_t> count(traces.size(), 0);
  const auto offer = [&](std::size_t r) {
    if (count[r] < traces[r].loss.size()) next.emplace(traces[r].loss[count[r]], r);
  };
  for (std::size_t r = 0; r < traces.size(); ++r) offer(r);
  double sum = 0;
  for (std::int64_t n = 0; n < most; ++n) {
    const auto [loss, r] = next.top();
    sum += loss;
    if (budget.kind == Budget::Kind::bucket && !(sum <= budget.value)) break;
    next.pop();
    ++count[r];
    offer(r);
  }
  return count;
}

/// One layer, rows in parallel; every row belongs to one thread.
inline Operated compress_layer(const char* op, const SurgeryLayer& layer, const Eigen::MatrixXd& hessian,
                               std::int64_t share, const Budget& budget) {
  const Mask& mask = layer.mask;
  const Eigen::MatrixXd inverse = positive_inverse(hessian, op, layer.name);
  const auto start = mask.row_start(), col = mask.col();
  const auto columns = [&](std::int64_t r) {
    return col.subspan(static_cast<std::size_t>(start[r]), static_cast<std::size_t>(start[r + 1] - start[r]));
  };
  std::vector<RowTrace> traces(static_cast<std::size_t>(mask.rows()));
  if (share > 0)
    parallel_for(mask.rows(), [&](std::int64_t r) {
      const std::span<const std::int32_t> has = columns(r);
      Eigen::VectorXd w(static_cast<Eigen::Index>(has.size()));
      for (std::size_t k = 0; k < has.size(); ++k) w(static_cast<Eigen::Index>(k)) = layer.weight(r, has[k]);
      const bool all = static_cast<std::int64_t>(has.size()) == mask.cols();
      traces[static_cast<std::size_t>(r)] =
          trace_row(all ? inverse : positive_inverse(picked(hessian, has), op, layer.name), std::move(w));
    });
  const std::vector<std::size_t> count = row_counts(traces, share, budget);
  std::vector<char> gone(static_cast<std::size_t>(mask.nnz()), 0);
  Eigen::MatrixXd weight = layer.weight;
  parallel_for(mask.rows(), [&](std::int64_t r) {
    const auto k = static_cast<std::size_t>(r);
    if (count[k] == 0) return;
    for (std::size_t t = 0; t < count[k]; ++t) gone[static_cast<std::size_t>(start[r] + traces[k].order[t])] = 1;
    std::vector<std::int32_t> stay, goes;
    for (std::int32_t e = start[r]; e < start[r + 1]; ++e)
      (gone[static_cast<std::size_t>(e)] ? goes : stay).push_back(col[e]);
    weight.row(r) = refit_row(hessian, layer.weight.row(r), stay, goes);
  });
  return {
      mask.filter([&](std::int32_t e, std::int64_t, std::int64_t) { return gone[static_cast<std::size_t>(e)] == 0; }),
      to_tensor(weight)};
}

}  // namespace detail

/// Optimal brain compression, the pruning part (ExactOBS, Frantar & Alistarh 2022), of all masked layers: in every row
/// weights go one by one by the least ½ w²/[H⁻¹]_qq, each compensated by those left in the row, H⁻¹ always that of
/// those. How many each row loses is chosen within the layer by the losses of all rows; what stays then is the least
/// squares fit to the outputs of before. H = XᵀX/n + damping·mean(diagonal)·I over the layer's inputs.
///
/// Budget, storage, errors and options as in optimal_brain_surgeon_layer_wise; a row that has few weights already is
/// solved with those. The data's x only is read. O(samples·Σ in² + Σ out·in³/6): threads share the rows, and the bits
/// do not depend on them.
template <class M, class Batches>
PruneReport optimal_brain_compression(M& model, Batches&& data, const Budget& budget,
                                      const LayerwiseOptions& options = {}) {
  constexpr const char* op = "optimal_brain_compression";
  return detail::operate_layer_wise(
      op, model, data, budget, options,
      [&](const detail::SurgeryLayer& layer, const Eigen::MatrixXd& hessian, std::int64_t share) {
        return detail::compress_layer(op, layer, hessian, share, budget);
      });
}

}  // namespace deepstruct
