// A model on a GPU beside the same model on the CPU.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include <deepstruct/deepstruct.hpp>

#include "support/catch.hpp"

namespace test {

using namespace deepstruct;

inline constexpr Device gpu = Device::cuda;

inline void require_near(const Tensor& got, const Tensor& want, float tolerance) {
  REQUIRE(got.shape() == want.shape());
  const std::vector<float> a = got.to_vector(), b = want.to_vector();
  for (std::size_t i = 0; i < a.size(); ++i) {
    INFO("element " << i << " of " << got.shape() << ": " << a[i] << " and on the CPU " << b[i]);
    REQUIRE(std::fabs(a[i] - b[i]) <= tolerance * (1 + std::fabs(b[i])));
  }
}
template <class M>
void require_same_parameters(const M& there, const M& here, float tolerance) {
  std::vector<const Param*> a, b;
  each_param(there, [&](const Param& p) { a.push_back(&p); });
  each_param(here, [&](const Param& p) { b.push_back(&p); });
  REQUIRE(a.size() == b.size());
  for (std::size_t k = 0; k < a.size(); ++k) {
    REQUIRE(a[k]->device() == gpu);
    require_near(a[k]->value(), b[k]->value(), tolerance);
  }
}
template <class M>
std::vector<Mask> masks_of(const M& model) {
  std::vector<Mask> masks;
  each_masked(model, [&](const auto& layer) { masks.push_back(layer.mask()); });
  return masks;
}
/// A copy on the CPU and one on a GPU, both after f.
template <class M, class F>
std::pair<M, M> on_both(const M& model, const F& f) {
  std::pair<M, M> both{model, model};
  to(both.second, gpu);
  f(both.first);
  f(both.second);
  REQUIRE(device_of(both.second) == gpu);
  return both;
}

}  // namespace test
