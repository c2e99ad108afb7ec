// What optimal brain surgeon works on: all parameters of a network as one vector, and the inverse Hessian of its loss.
#pragma once

#include <Eigen/Core>

#include "../core/eigen.hpp"
#include "../nn/layers.hpp"
#include "../train/samples.hpp"
#include "prune.hpp"
#include "squared_error.hpp"

namespace deepstruct::detail {

/// The parameters of a model on the CPU as one vector: of masked layers the weights of edges, of all else everything.
class ParameterVector {
 public:
  /// One entry: where it is stored, and which edge of which masked layer it weighs (layer −1: none, as a bias).
  struct Entry {
    std::size_t param;
    std::int64_t offset;
    std::int32_t layer = -1, edge = -1;
  };

  template <class M>
  ParameterVector(M& model, const char* op) {
    std::vector<std::pair<Var, Mask>> masked;
    std::vector<bool> packed;
    each_masked(model, [&](const std::string& name, auto& layer) {
      if constexpr (requires { layer.learnable(); })
        check(!layer.learnable(), op, ": a learned mask is not pruned by weights; pack() the model (layer ", name, ")");
      const Mask mask = layer.mask();
      if constexpr (requires { layer.effective_weight(); })
        if (!layer.packed()) {  // soft factors become part of the weights
          layer.weight.set_value(layer.effective_weight());
          layer.set_mask(mask);
        }
      masked.emplace_back(layer.weight.var(), mask);
      packed.push_back(layer.packed());
    });
    check(!masked.empty(), op, ": the model has no masked layers (0)");
    each_param(model, [&](const Param& p) {
      std::size_t k = 0;
      while (k < masked.size() && !(masked[k].first == p.var())) ++k;
      add(p.var(), k < masked.size() ? &masked[k].second : nullptr, static_cast<std::int32_t>(k),
          k < masked.size() && packed[k]);
    });
    check(entries_.size() <= most, op,
          ": too many parameters for a Hessian of all; layer-wise there is no such limit (", entries_.size(),
          " of at most ", most, ")");
  }

  const std::vector<Entry>& entries() const { return entries_; }
  const Vars& params() const { return params_; }
  Eigen::Index size() const { return static_cast<Eigen::Index>(entries_.size()); }

  /// The entries of tensors that have the shapes of the parameters.
  Eigen::VectorXd gather(const Vars& tensors) const {
    Eigen::VectorXd v(size());
    for (std::size_t k = 0; k < entries_.size(); ++k)
      v(static_cast<Eigen::Index>(k)) = double{tensors[entries_[k].param].value().data()[entries_[k].offset]};
    return v;
  }
  /// Writes the entries to the parameters.
  void scatter(const Eigen::VectorXd& v) const {
    for (std::size_t k = 0; k < entries_.size(); ++k)
      params_[entries_[k].param].mutable_value().data()[entries_[k].offset] =
          static_cast<float>(v(static_cast<Eigen::Index>(k)));
  }

 private:
  static constexpr std::size_t most = 10'000;  // 800 MB of H⁻¹

  void add(const Var& p, const Mask* mask, std::int32_t layer, bool packed) {
    const Shape& s = p.shape();
    const std::int64_t rows = std::max<std::int64_t>(1, s.rows()), ld = p.value().ld();
    const auto offset = [&](std::int64_t i) { return i % rows * ld + i / rows; };  // of row-major element i
    if (mask)
      mask->for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
        entries_.push_back({params_.size(), packed ? e : offset(r * mask->cols() + c), layer, e});
      });
    else
      for (std::int64_t i = 0; i < p.size(); ++i) entries_.push_back({params_.size(), offset(i)});
    params_.push_back(p);
  }

  Vars params_;
  std::vector<Entry> entries_;
};

/// How many of the edges go at most.
inline std::int64_t surgeon_count(const char* op, const Budget& budget, std::int64_t edges) {
  if (budget.kind == Budget::Kind::percentage)
    return static_cast<std::int64_t>(std::floor(static_cast<double>(edges) * budget.value / 100));
  if (budget.kind != Budget::Kind::absolute) return edges;
  check(budget.value <= static_cast<double>(edges), op, ": the budget takes more weights than there are (",
        budget.value, " of ", edges, ")");
  return static_cast<std::int64_t>(budget.value);
}

/// The samples of a range of batches one by one, each x [1, …].
template <class Batches>
std::vector<Tensor> single_samples(const char* op, Batches&& data) {
  std::vector<Tensor> all;
  each_batch(op, data, [&](auto&& batch, double) {
    const Samples<float> samples(batch.x);
    for (std::int32_t i = 0; i < samples.size(); ++i) {
      Tensor one;
      samples.gather(std::span<const std::int32_t>(&i, 1), one);
      all.push_back(std::move(one));
    }
  });
  return all;
}

/// The mean loss over all samples.
template <class M, class Batches, class Loss>
double mean_loss(const char* op, const M& model, Batches&& data, Loss&& loss) {
  no_grad guard;
  double sum = 0;
  each_batch(op, data, [&](auto&& batch, double share) { sum += share * double{loss(model, batch).item()}; });
  check(std::isfinite(sum), op, ": the loss is not finite (", sum, ")");
  return sum;
}

/// The inverse of H + x xᵀ from that of H, by Woodbury's identity:  H⁻¹ − g gᵀ/(1 + xᵀg), g = H⁻¹x.   O(P²)
inline void add_outer_product(Eigen::MatrixXd& inverse, const Eigen::VectorXd& x) {
  const Eigen::VectorXd g = inverse * x;
  inverse.noalias() -= g / (1 + x.dot(g)) * g.transpose();
}

/// The inverse of H = αI + 1/n Σ JᵀSSᵀJ over n samples, J = ∂f/∂θ of the outputs f and SSᵀ the Hessian of the loss by
/// f: the Gauss–Newton matrix, one outer product after the other. Entries that are gone count as constants.
template <class M, class Loss>
Eigen::MatrixXd inverse_hessian(const char* op, const M& model, const ParameterVector& parameters,
                                std::span<const Tensor> samples, const Loss& loss, double alpha,
                                const std::vector<char>& gone) {
  Eigen::MatrixXd inverse = Eigen::MatrixXd::Identity(parameters.size(), parameters.size()) / alpha;
  const double scale = 1 / std::sqrt(static_cast<double>(samples.size()));
  for (const Tensor& x : samples) {
    const Var f = loss_output(loss, model, x);
    check(f.shape().rank() == 2 && f.shape()[0] == 1, op, ": needs outputs [samples, outputs] (", f.shape(), ")");
    for (Tensor& column : loss_curvature(loss, f.value())) {
      Eigen::VectorXd j = scale * parameters.gather(grad(f, parameters.params(),
                                                         {.create_graph = false, .seed = Var(std::move(column))}));
      for (std::size_t k = 0; k < gone.size(); ++k)
        if (gone[k]) j(static_cast<Eigen::Index>(k)) = 0;
      check(j.allFinite(), op, ": a derivative of the outputs is not finite (", j.size(), " parameters)");
      add_outer_product(inverse, j);
    }
  }
  return inverse;
}

}  // namespace deepstruct::detail
