#include <deepstruct/train/npy.hpp>

#include "targets.hpp"

using namespace deepstruct;

void fuzz::npy(Bytes bytes) {
  const auto x = parsed([&] { return npy_tensor(bytes); });
  const auto indices = parsed([&] { return npy_indices(bytes); });
  if (x) require(same_elements(npy_tensor(npy_bytes(*x)), *x), "npy: a written Tensor differs");
  if (!indices) return;
  require(same_elements(npy_indices(npy_bytes(*indices)), *indices), "npy: written Indices differ");
  require(x && x->shape() == indices->shape(), "npy: integers are no tensor");
  const auto a = x->to_vector();
  const auto b = indices->to_vector();
  for (std::size_t k = 0; k < a.size(); ++k) require(a[k] == static_cast<float>(b[k]), "npy: integers differ");
}
