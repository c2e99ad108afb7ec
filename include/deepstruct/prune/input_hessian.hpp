// The Hessian of a layer's squared output error: second moments of what goes into masked layers. Optimal brain surgeon
// and compression, layer by layer, stand on it.
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>

#include "../core/eigen.hpp"
#include "../nn/conv.hpp"
#include "../nn/layers.hpp"
#include "prune.hpp"
#include "taps.hpp"

namespace deepstruct {

/// Options of the pruning functions that work layer by layer on inputs.
struct LayerwiseOptions {
  /// What is added to the diagonal of a layer's H, as a share of its mean: so that inputs that are always 0, or the sum
  /// of others, do not make it singular.
  double damping = 1e-2;
  /// What a layer is fitted to: its inputs when all layers before it are pruned already, or those of the dense model.
  bool after_pruned = true;
};

namespace detail {

/// Σ of x xᵀ over rows x of inputs, and their number. In double, by tiles that each belong to one thread: the same bits
/// for any number of threads.
struct SecondMoments {
  Eigen::MatrixXd sum;
  std::int64_t rows = 0;

  explicit SecondMoments(std::int64_t inputs = 0) : sum(Eigen::MatrixXd::Zero(inputs, inputs)) {}

  /// Adds rows [n, inputs]; n of some hundreds keeps a tile's share in cache.   O(n·inputs²)
  void add(const Eigen::Ref<const Eigen::MatrixXd>& x) {
    constexpr Eigen::Index tile = 128;
    const Eigen::Index n = sum.rows(), tiles = (n + tile - 1) / tile;
    parallel_for(tiles * (tiles + 1) / 2, [&](std::int64_t k) {
      Eigen::Index i = 0;
      for (; k > i; ++i) k -= i + 1;  // tile (i, k) of the lower triangle
      const Eigen::Index r = i * tile, c = k * tile, h = std::min(tile, n - r), w = std::min(tile, n - c);
      sum.block(r, c, h, w).noalias() += x.middleCols(r, h).transpose() * x.middleCols(c, w);
    });
    rows += x.rows();
  }
  /// H = Σ x xᵀ / rows, both triangles.
  Eigen::MatrixXd mean() const {
    Eigen::MatrixXd h = sum / static_cast<double>(std::max<std::int64_t>(1, rows));
    h.triangularView<Eigen::StrictlyUpper>() = h.transpose();
    return h;
  }
};

/// H⁻¹ of a symmetric matrix. Throws unless it is positive definite in double.   O(n³)
inline Eigen::MatrixXd positive_inverse(const Eigen::MatrixXd& h, const char* op, const std::string& name) {
  check(h.allFinite(), op, ": the inputs of a layer are not finite (layer ", name, ", ", h.rows(), " inputs)");
  const Eigen::LLT<Eigen::MatrixXd> factor(h);
  const double least = h.rows() == 0 ? 1 : factor.matrixLLT().diagonal().cwiseAbs2().minCoeff(),
               greatest = h.rows() == 0 ? 1 : h.diagonal().maxCoeff();
  check(factor.info() == Eigen::Success && least > 1e-14 * greatest, op,
        ": the inputs of a layer depend on each other and H is singular; give it damping (layer ", name,
        ", least pivot ", least, " of ", greatest, ")");
  Eigen::MatrixXd inverse = factor.solve(Eigen::MatrixXd::Identity(h.rows(), h.cols()));
  return 0.5 * (inverse + inverse.transpose());
}

/// Adds damping·mean(diagonal) to the diagonal; 1 where all inputs are 0, as then nothing matters.
inline Eigen::MatrixXd damped(Eigen::MatrixXd h, double damping) {
  const double mean = h.rows() == 0 ? 0 : h.diagonal().mean();
  h.diagonal().array() += mean > 0 ? damping * mean : 1.0;
  return h;
}

/// A masked layer as surgeons see it: a matrix of weights in double, and the way back.
struct SurgeryLayer {
  std::string name;
  Mask mask;
  Eigen::MatrixXd weight;                                         // [out, in], 0 where no edge is
  std::function<void(const Tensor&, SecondMoments&)> add_inputs;  // empty: the layer has no input per weight
};

/// The rows that the weights of a linear layer see.   x [b, in]
inline void add_layer_inputs(const MaskedLinearLayer&, const Tensor& x, SecondMoments& moments) {
  constexpr Eigen::Index chunk = 256;
  const ConstEigenMap all = as_eigen(x);
  for (Eigen::Index first = 0; first < all.rows(); first += chunk)
    moments.add(all.middleRows(first, std::min(chunk, all.rows() - first)).cast<double>());
}
/// The patches that the kernels of a convolution see, column (c·kh + i)·kw + j.   x [b, in, h, w]
inline void add_layer_inputs(const MaskedConv2d& layer, const Tensor& x, SecondMoments& moments) {
  constexpr std::int64_t chunk = 256;
  const ConvSizes s = conv_sizes("conv2d", x.shape(), layer.weight_shape(), layer.options().conv);
  for (std::int64_t first = 0; first < s.samples; first += chunk) {
    const std::int64_t n = std::min(chunk, s.samples - first);
    Eigen::MatrixXd rows(n, moments.sum.rows());
    for (std::int64_t p = 0; p < s.result[0]; ++p)
      for (std::int64_t q = 0; q < s.result[1]; ++q) {
        for (std::int64_t k = 0; k < rows.cols(); ++k) {
          const std::int64_t j = k % s.kernel[1], i = k / s.kernel[1] % s.kernel[0],
                             c = k / (s.kernel[0] * s.kernel[1]);
          const std::int64_t y = p * s.stride[0] + i * s.dilation[0] - s.padding[0],
                             z = q * s.stride[1] + j * s.dilation[1] - s.padding[1];
          const bool inside = y >= 0 && y < s.size[0] && z >= 0 && z < s.size[1];
          for (std::int64_t b = 0; b < n; ++b) rows(b, k) = inside ? double{x(first + b, c, y, z)} : 0.0;
        }
        moments.add(rows);
      }
  }
}

/// The masked layers of a model for an op that needs what goes into each of them.
template <class M>
std::vector<SurgeryLayer> surgery_layers(const M& model, const char* op) {
  std::vector<SurgeryLayer> layers;
  each_masked(model, [&](const std::string& name, const auto& layer) {
    using Layer = std::remove_cvref_t<decltype(layer)>;
    SurgeryLayer l{name, layer.mask(), {}, {}};
    if constexpr (requires(SecondMoments & m) { add_layer_inputs(layer, Tensor(), m); }) {
      if constexpr (std::same_as<Layer, MaskedConv2d>)
        check(layer.options().conv.groups == 1, op, ": a convolution in groups has no input per weight (layer ", name,
              ", ", layer.options().conv.groups, " groups)");
      l.weight = as_eigen(to(layer.effective_weight(), Device::cpu).with_shape(l.mask.shape())).template cast<double>();
      l.add_inputs = [&layer](const Tensor& x, SecondMoments& m) { add_layer_inputs(layer, x, m); };
      check(l.weight.allFinite(), op, ": a weight is not finite (layer ", name, ")");
    }
    check(static_cast<bool>(l.add_inputs), op, ": needs linear or convolutional masked layers (layer ", name, ")");
    layers.push_back(std::move(l));
  });
  check(!layers.empty(), op, ": the model has no masked layers (0)");
  return layers;
}

/// Calls f(layer, moments) for every masked layer in the order of the run, with the second moments of its inputs. f may
/// change the layer in `probe`: later ones see it then, where the options say so.
template <class M, class Batches, class F>
void each_input_hessian(const char* op, M& probe, Batches&& data, const LayerwiseOptions& options, F&& f) {
  const std::vector<SurgeryLayer> layers = surgery_layers(std::as_const(probe), op);
  std::vector<std::size_t> order;  // in which the run comes to the layers
  std::vector<SecondMoments> moments;
  const auto listen = [&](std::size_t first, std::size_t last) {  // to those from first to last − 1 of the order
    moments.assign(layers.size(), SecondMoments());
    each_batch(op, data, [&](auto&& batch, double) {
      const Tapped run = tapped_run(probe, to(batch.x, device_of(probe)));
      if (order.empty())
        for (const Tap& tap : run.taps)
          if (std::find(order.begin(), order.end(), tap.layer) == order.end()) order.push_back(tap.layer);
      for (const Tap& tap : run.taps) {
        const auto at = std::find(order.begin(), order.end(), tap.layer) - order.begin();
        if (at < static_cast<std::ptrdiff_t>(first) || at >= static_cast<std::ptrdiff_t>(last)) continue;
        SecondMoments& m = moments[tap.layer];
        if (m.rows == 0) m = SecondMoments(layers[tap.layer].mask.cols());
        layers[tap.layer].add_inputs(to(tap.x.value(), Device::cpu), m);
      }
    });
    for (std::size_t k = 0; k < layers.size(); ++k)
      check(std::find(order.begin(), order.end(), k) != order.end(), op,
            ": a layer has no input of its own; the model does not use it, or runs it with others as a packed "
            "MaskedDeepDAN does: "
            "unpack() that (layer ",
            layers[k].name, ")");
  };
  if (!options.after_pruned) {
    listen(0, layers.size());
    for (const std::size_t k : order) f(k, layers[k], moments[k]);
    return;
  }
  for (std::size_t k = 0; k < layers.size(); ++k) {
    listen(k, k + 1);
    f(order[k], layers[order[k]], moments[order[k]]);
  }
}

/// How many weights every layer loses: percentage(q) of each, rounded down; absolute(n) and remaining(n) in proportion
/// to their weights, n together; density(d) of the places of each. A bucket is every layer's own and counted later.
inline std::vector<std::int64_t> layer_shares(const char* op, std::span<const std::int64_t> weights,
                                              std::span<const std::int64_t> places, const Budget& budget) {
  std::int64_t total = 0;
  for (const std::int64_t n : weights) total += n;
  const std::vector<double> parts(weights.begin(), weights.end());
  std::vector<std::int64_t> shares(weights.begin(), weights.end());
  switch (budget.kind) {
    case Budget::Kind::absolute:
      check(budget.value <= static_cast<double>(total), op, ": the budget takes more weights than there are (",
            budget.value, " of ", total, ")");
      return share_out(static_cast<std::int64_t>(budget.value), parts);
    case Budget::Kind::remaining: {
      going(budget, total, 0, op);
      const auto stay = share_out(static_cast<std::int64_t>(budget.value), parts);
      for (std::size_t k = 0; k < shares.size(); ++k) shares[k] -= stay[k];
      return shares;
    }
    case Budget::Kind::density:
      for (std::size_t k = 0; k < shares.size(); ++k)
        shares[k] = static_cast<std::int64_t>(going(budget, weights[k], places[k], op).value);
      return shares;
    case Budget::Kind::percentage:
      for (std::int64_t& n : shares)
        n = static_cast<std::int64_t>(std::floor(static_cast<double>(n) * budget.value / 100));
      return shares;
    case Budget::Kind::bucket:
      break;
  }
  return shares;
}

/// A layer after surgery.
struct Operated {
  Mask mask;
  Tensor weight;  // [out, in], 0 where no edge is
};

/// Gives the masked layers of a model the masks and weights that are there.
template <class M>
void put_operated(M& model, std::span<const std::optional<Operated>> operated) {
  std::size_t k = 0;
  each_masked(model, [&](auto& layer) {
    const std::optional<Operated>& o = operated[k++];
    if (!o) return;
    no_grad guard;
    layer.set_mask(o->mask);
    Tensor w =
        layer.packed() ? pick_edges(o->weight, o->mask).value() : Tensor(o->weight).with_shape(layer.weight.shape());
    layer.weight.set_value(std::move(w));
  });
}

/// Surgery layer by layer, all or nothing: operate(layer, damped H, number of weights to lose) → Operated.
template <class M, class Batches, class Operate>
PruneReport operate_layer_wise(const char* op, M& model, Batches&& data, const Budget& budget,
                               const LayerwiseOptions& options, Operate&& operate) {
  check(options.damping >= 0 && std::isfinite(options.damping), op, ": the damping must not be negative (",
        options.damping, ")");
  M probe = model;
  set_training(probe, false);
  PruneReport report;
  std::vector<std::int64_t> weights, places;
  each_masked(std::as_const(model), [&](const std::string& name, const auto& layer) {
    weights.push_back(layer.mask().nnz());
    places.push_back(places_for_edges(layer));
    report.layers.push_back({name, weights.back(), weights.back()});
  });
  const std::vector<std::int64_t> shares = layer_shares(op, weights, places, budget);
  std::vector<std::optional<Operated>> operated(weights.size());
  each_input_hessian(op, probe, data, options, [&](std::size_t k, const SurgeryLayer& layer, const SecondMoments& m) {
    check(m.sum.allFinite(), op, ": the inputs of a layer are not finite (layer ", layer.name, ", ", m.rows, " rows)");
    Operated o = operate(layer, damped(m.mean(), options.damping), shares[k]);
    report.layers[k].after = o.mask.nnz();
    if (o.mask.nnz() == layer.mask.nnz()) return;
    check(as_eigen(o.weight).allFinite(), op, ": a compensated weight is beyond float (layer ", layer.name, ")");
    operated[k] = std::move(o);
    std::vector<std::optional<Operated>> one(weights.size());
    one[k] = operated[k];
    put_operated(probe, one);
  });
  put_operated(model, operated);
  return report;
}

}  // namespace detail

}  // namespace deepstruct
