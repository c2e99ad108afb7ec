// Tensor ↔ Eigen: a Tensor is an Eigen::Map without copying, to read or to write; any Eigen expression becomes a
// Tensor.
#pragma once

#include <Eigen/Core>

#include "tensor.hpp"

namespace deepstruct {

/// A Tensor [rows, cols…] as a column-major Eigen map with outer stride ld; writing through it writes the Tensor.
using EigenMap = Eigen::Map<Eigen::MatrixXf, Eigen::Unaligned, Eigen::OuterStride<>>;
using ConstEigenMap = Eigen::Map<const Eigen::MatrixXf, Eigen::Unaligned, Eigen::OuterStride<>>;

/// Both throw where the elements are on a GPU.
inline ConstEigenMap as_eigen(const Tensor& t) {
  check(t.device() == Device::cpu, "as_eigen: the elements are on a GPU; move them with to(…, Device::cpu) (shape ",
        t.shape(), ")");
  return {t.data(), t.shape()[0], t.shape().rows(), Eigen::OuterStride<>(t.ld())};
}

inline EigenMap as_eigen(Tensor& t) {
  const ConstEigenMap map = as_eigen(std::as_const(t));
  return {t.data(), map.rows(), map.cols(), Eigen::OuterStride<>(t.ld())};
}

/// A Tensor [rows, cols] with the values of any Eigen expression.
template <class Derived>
Tensor to_tensor(const Eigen::MatrixBase<Derived>& m) {
  Tensor t = Tensor::empty({m.rows(), m.cols()});
  as_eigen(t) = m.template cast<float>();
  return t;
}

}  // namespace deepstruct
