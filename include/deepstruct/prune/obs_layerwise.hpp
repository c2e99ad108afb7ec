// Layer-wise optimal brain surgeon: weights go by their second-order error at a layer's output, the others of the same
// neuron make up for them.
#pragma once

#include "input_hessian.hpp"

namespace deepstruct {

/// H⁻¹ = (XᵀX/n + ridge·I)⁻¹ in double, for inputs X.   x [n, in] → [in, in], O(n·in² + in³)
///
/// Throws on inputs that are not finite or not a matrix, without a sample, and where H is singular.
inline Eigen::MatrixXd inverse_input_hessian(const Tensor& x, double ridge = 1e-6) {
  check(x.rank() == 2 && x.shape()[0] > 0, "inverse_input_hessian: needs samples [n, in] (x ", x.shape(), ")");
  check(ridge >= 0, "inverse_input_hessian: the ridge must not be negative (", ridge, ")");
  const Tensor host = to(x, Device::cpu);
  const ConstEigenMap rows = as_eigen(host);
  detail::SecondMoments moments(rows.cols());
  for (Eigen::Index first = 0; first < rows.rows(); first += 256)
    moments.add(rows.middleRows(first, std::min<Eigen::Index>(256, rows.rows() - first)).cast<double>());
  Eigen::MatrixXd h = moments.mean();
  h.diagonal().array() += ridge;
  return detail::positive_inverse(h, "inverse_input_hessian", "x");
}

namespace detail {

inline void check_surgery(const char* op, const Shape& weight, const Mask& mask, const Eigen::MatrixXd& inverse) {
  check(weight == mask.shape() && inverse.rows() == mask.cols() && inverse.cols() == mask.cols(), op,
        ": weight [out, in], mask [out, in] and H⁻¹ [in, in] do not fit (", weight, ", ", mask.shape(), " and [",
        inverse.rows(), ", ", inverse.cols(), "])");
  check(inverse.allFinite() && (inverse.diagonal().array() > 0).all(), op,
        ": H⁻¹ must be finite with a positive diagonal (", inverse.rows(), " inputs)");
}

/// ½ w²/[H⁻¹]_qq of every edge.
inline std::vector<double> edge_sensitivities(const Eigen::MatrixXd& weight, const Mask& mask,
                                              const Eigen::MatrixXd& inverse) {
  std::vector<double> s(static_cast<std::size_t>(mask.nnz()));
  mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
    s[static_cast<std::size_t>(e)] = 0.5 * weight(r, c) * weight(r, c) / inverse(c, c);
  });
  return s;
}

/// Edges in the order in which they go: ascending sensitivity, of equals the first; no more than `most`, and no more
/// than a bucket holds.
inline std::vector<std::int32_t> first_edges(const std::vector<double>& sensitivity, std::int64_t most,
                                             const Budget& budget) {
  std::vector<std::int32_t> order(sensitivity.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return sensitivity[static_cast<std::size_t>(a)] < sensitivity[static_cast<std::size_t>(b)];
  });
  if (budget.kind == Budget::Kind::bucket) {
    double sum = 0;
    std::int64_t n = 0;
    for (; n < most; ++n)
      if (!((sum += sensitivity[static_cast<std::size_t>(order[static_cast<std::size_t>(n)])]) <= budget.value)) break;
    most = n;
  }
  order.resize(static_cast<std::size_t>(most));
  return order;
}

/// edge_cut in double, for edges in the order in which they go.
inline Operated cut_edges(Eigen::MatrixXd weight, const Mask& mask, const Eigen::MatrixXd& inverse,
                          const std::vector<std::int32_t>& order) {
  std::vector<std::int32_t> row(static_cast<std::size_t>(mask.nnz()));
  mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t) { row[e] = static_cast<std::int32_t>(r); });
  std::vector<std::vector<std::int32_t>> goes(static_cast<std::size_t>(mask.rows()));  // columns of every row, in order
  std::vector<char> gone(static_cast<std::size_t>(mask.nnz()), 0);
  for (const std::int32_t e : order) {
    goes[static_cast<std::size_t>(row[e])].push_back(mask.col()[e]);
    gone[e] = 1;
  }
  const auto start = mask.row_start(), col = mask.col();
  parallel_for(mask.rows(), [&](std::int64_t r) {
    std::vector<std::int32_t> stay(col.begin() + start[r], col.begin() + start[r + 1]);
    Eigen::VectorXd w = weight.row(r);  // a copy: rows of a column-major matrix share cache lines
    for (const std::int32_t q : goes[static_cast<std::size_t>(r)]) {
      const double step = w(q) / inverse(q, q);
      stay.erase(std::lower_bound(stay.begin(), stay.end(), q));
      for (const std::int32_t c : stay) w(c) -= step * inverse(c, q);
      w(q) = 0;
    }
    weight.row(r) = w;
  });
  return {mask.filter([&](std::int32_t e, std::int64_t, std::int64_t) { return gone[e] == 0; }), to_tensor(weight)};
}

}  // namespace detail

/// What edge_cut leaves of a layer.
struct EdgeCut {
  Mask mask;
  Tensor weight;                    ///< [out, in], 0 where no edge is
  std::vector<double> sensitivity;  ///< of every edge before, in edge order
};

/// One layer of layer-wise OBS (Dong et al. 2017): sensitivity L_q = ½ w_q²/[H⁻¹]_qq of every edge, once; edges go in
/// ascending order and for each w ← w − w_q/[H⁻¹]_qq·H⁻¹ e_q within its row. What the mask does not have is and stays
/// 0.
///
/// percentage(q) takes q per cent of the edges, rounded down, absolute(n) n of them, bucket(s) as many as have
/// sensitivities of at most s together, remaining(n) and density(d) all but so many; Python deepstruct prunes the whole
/// layer where the number is 0 and for every bucket. H⁻¹ is that of all inputs, also where a row has few of them;
/// optimal_brain_compression solves that exactly. weight [out, in], inverse [in, in], O(edges·log edges + edges
/// gone·row). Throws where shapes do not fit, on weights and H⁻¹ that are not finite, and on more weights than there
/// are.
inline EdgeCut edge_cut(const Tensor& weight, const Mask& mask, const Eigen::MatrixXd& inverse, const Budget& budget) {
  detail::check_surgery("edge_cut", weight.shape(), mask, inverse);
  const Tensor host = to(weight, Device::cpu);
  Eigen::MatrixXd w = Eigen::MatrixXd::Zero(mask.rows(), mask.cols());
  mask.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
    check(std::isfinite(host(r, c)), "edge_cut: a weight is not finite (", host(r, c), " at edge ", r, " <- ", c, ")");
    w(r, c) = double{host(r, c)};
  });
  std::vector<double> sensitivity = detail::edge_sensitivities(w, mask, inverse);
  const std::int64_t edges = mask.nnz(), places = mask.rows() * mask.cols();
  const std::int64_t share = detail::layer_shares("edge_cut", std::span(&edges, 1), std::span(&places, 1), budget)[0];
  const auto order = detail::first_edges(sensitivity, share, budget);
  detail::Operated o = detail::cut_edges(std::move(w), mask, inverse, order);
  return {o.mask, std::move(o.weight), std::move(sensitivity)};
}

/// Layer-wise optimal brain surgeon of a whole model (Dong et al. 2017): edge_cut of every masked layer with the H of
/// its inputs over the data, which needs their x only. Linear layers and convolutions, the latter by the patches that
/// kernels see.
///
/// percentage(q) is taken of every layer, absolute(n) and remaining(n) are shared out in proportion to the layers'
/// weights, n in all, density(d) is that of every layer, bucket(s) is the sum of ½ mean squared output errors that
/// every layer may lose. In full storage weights behind the masks of changed layers become 0, as those remembered fit
/// no more; saliencies stay. Biases stay. Layers are visited in the order of the run, and options.after_pruned runs the
/// data once per layer. O(samples·Σ in² + Σ in³). Throws, and leaves the model unchanged, without data or masked
/// layers, on numbers that are not finite, on a budget of more weights than there are, on layers that have no input per
/// weight (groups, a packed MaskedDeepDAN), where H is singular with damping 0.
template <class M, class Batches>
PruneReport optimal_brain_surgeon_layer_wise(M& model, Batches&& data, const Budget& budget,
                                             const LayerwiseOptions& options = {}) {
  constexpr const char* op = "optimal_brain_surgeon_layer_wise";
  return detail::operate_layer_wise(
      op, model, data, budget, options,
      [&](const detail::SurgeryLayer& layer, const Eigen::MatrixXd& hessian, std::int64_t share) {
        const Eigen::MatrixXd inverse = detail::positive_inverse(hessian, op, layer.name);
        const auto order =
            detail::first_edges(detail::edge_sensitivities(layer.weight, layer.mask, inverse), share, budget);
        return detail::cut_edges(layer.weight, layer.mask, inverse, order);
      });
}

}  // namespace deepstruct
