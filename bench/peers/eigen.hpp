// Eigen's sparse and dense matrices as a linear layer, compiled with everything this machine has (see CMakeLists.txt).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace bench {

/// y = x Wᵀ with W in Eigen's row-major CSR and activations stored [features, batch], its fastest order.
class EigenSparse {
 public:
  EigenSparse(std::int64_t out, std::int64_t in, std::span<const std::int32_t> start, std::span<const std::int32_t> col,
              const float* values, std::int64_t batch, const float* x, const float* dy);
  ~EigenSparse();
  void forward();
  /// dx by the transposed product, dw edge by edge as dot products.
  void backward();
  float y(std::int64_t b, std::int64_t r) const;
  float dx(std::int64_t b, std::int64_t c) const;
  float dw(std::int64_t edge) const;

 private:
  struct Data;
  std::unique_ptr<Data> data_;
};

/// The same with a dense W: one product forward, two backward.
class EigenDense {
 public:
  EigenDense(std::int64_t out, std::int64_t in, const float* w, std::int64_t batch, const float* x, const float* dy);
  ~EigenDense();
  void forward();
  void backward();
  float y(std::int64_t b, std::int64_t r) const;
  float dx(std::int64_t b, std::int64_t c) const;

 private:
  struct Data;
  std::unique_ptr<Data> data_;
};

}  // namespace bench
