// Losses as functions of a network's outputs: what second-order methods need besides the value.
#pragma once

#include "../ops/normalize.hpp"
#include "criterion.hpp"

namespace deepstruct {

/// L = ½ Σ_k (f_k − t_k)², averaged over samples; f [b, k] is model(x), or the logistic function of it. Targets are a
/// Tensor [b, k], or labels: the number itself where there is one output, else one-hot. Throws where they do not fit.
struct SquaredError {
  bool sigmoid = false;  ///< f = σ(model(x))

  /// f, what is compared with the targets.   x → [b, k]
  template <class M>
  Var output(const M& model, const Tensor& x) const {
    const Var y = model(to(Var(x), device_of(model)));
    return sigmoid ? deepstruct::sigmoid(y) : y;
  }
  /// The Hessian S Sᵀ of one sample's L by its outputs: the columns of S, here those of I.   f [1, k] → k times [1, k]
  std::vector<Tensor> curvature(const Tensor& f) const {
    std::vector<Tensor> columns;
    for (std::int64_t k = 0; k < f.shape()[1]; ++k) {
      columns.push_back(Tensor::zeros(f.shape()));
      columns.back()(0, k) = 1;
    }
    return columns;
  }
  /// L of what the model gives for a batch, before the logistic function.   y [b, k] → []
  template <class B>
  Var of_outputs(const Var& y, const B& batch) const {
    const Var f = sigmoid ? deepstruct::sigmoid(y) : y;
    const Tensor t = to(targets(f.shape(), batch.y), f.device());
    const auto samples = static_cast<float>(std::max<std::int64_t>(1, f.shape()[0]));
    return affine(mse_loss(f, Var(t), Reduction::sum), 0.5f / samples, 0);
  }
  /// L of a batch.   → []
  template <class M, class B>
  Var operator()(const M& model, const B& batch) const {
    return of_outputs(model(to(Var(batch.x), device_of(model))), batch);
  }

 private:
  static Tensor targets(const Shape& f, const Tensor& t) {
    check(t.shape() == f, "SquaredError: outputs and targets differ in shape (", f, " and ", t.shape(), ")");
    return t;
  }
  static Tensor targets(const Shape& f, const Indices& given) {
    const Indices labels = to(given, Device::cpu);
    check(f.rank() == 2 && labels.shape() == Shape{f[0]}, "SquaredError: needs one label per sample (outputs ", f,
          ", labels ", labels.shape(), ")");
    Tensor t = Tensor::zeros(f);
    labels.for_each([&](std::int64_t i, std::int32_t label) {
      if (f[1] == 1) {
        t(i, 0) = static_cast<float>(label);
        return;
      }
      check(label >= 0 && label < f[1], "SquaredError: label out of range (", label, " of ", f[1], " outputs)");
      t(i, label) = 1;
    });
    return t;
  }
};

namespace detail {

/// The outputs of a model that a loss is a function of.   x → [b, k]
template <class M>
Var loss_output(const CrossEntropy&, const M& model, const Tensor& x) {
  return model(to(Var(x), device_of(model)));
}
template <class Loss, class M>
Var loss_output(const Loss& loss, const M& model, const Tensor& x) {
  return loss.output(model, x);
}
/// Columns √p_c·(e_c − p) of diag(p) − p pᵀ, p = softmax(f).   f [1, classes]
inline std::vector<Tensor> loss_curvature(const CrossEntropy&, const Tensor& f) {
  no_grad guard;
  const Tensor p = softmax(Var(f), 1).value();
  std::vector<Tensor> columns;
  for (std::int64_t c = 0; c < f.shape()[1]; ++c) {
    columns.push_back(Tensor::empty(f.shape()));
    const float root = std::sqrt(p(0, c));
    for (std::int64_t k = 0; k < f.shape()[1]; ++k) columns.back()(0, k) = root * ((k == c ? 1.0f : 0.0f) - p(0, k));
  }
  return columns;
}
template <class Loss>
std::vector<Tensor> loss_curvature(const Loss& loss, const Tensor& f) {
  return loss.curvature(f);
}

}  // namespace detail

}  // namespace deepstruct
