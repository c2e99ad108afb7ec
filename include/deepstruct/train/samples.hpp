// Samples: arrays with every sample contiguous, as files and data sets keep them, and the way from and to a Tensor.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "../core/parallel.hpp"
#include "../core/tensor.hpp"
#include "../kernels/move.hpp"

namespace deepstruct {

namespace detail {

inline constexpr std::int64_t sample_tile = 16;  // samples in one 64-byte line of a Tensor

/// Samples per parallel part: whole lines of a Tensor, and enough elements to be worth a thread.
inline std::int64_t sample_grain(std::int64_t features) {
  const std::int64_t tile = sample_tile * std::max<std::int64_t>(1, features);
  return sample_tile * std::max<std::int64_t>(1, (std::int64_t{8192} + tile - 1) / tile);
}

/// out(i, r) = row(i)[r] for every sample i and feature r; row(i) is a pointer or anything small with operator[].
template <class T, class Row>
void fill_samples(Array<T>& out, Row&& row) {
  const std::int64_t n = out.shape()[0], features = out.shape().rows(), ld = out.ld();
  if (out.size() == 0) return;
  T* y = out.data();
  parallel_blocks(n, sample_grain(features), [&](std::int64_t first, std::int64_t last) {
    std::array<decltype(row(first)), sample_tile> rows;
    for (std::int64_t i = first; i < last; i += sample_tile) {
      const std::int64_t count = std::min(sample_tile, last - i);
      for (std::int64_t k = 0; k < count; ++k) rows[static_cast<std::size_t>(k)] = row(i + k);
      for (std::int64_t r = 0; r < features; ++r) {
        T* to = y + r * ld + i;
        if (count == sample_tile)
          for (std::size_t k = 0; k < sample_tile; ++k) to[k] = rows[k][r];
        else
          for (std::int64_t k = 0; k < count; ++k) to[k] = rows[static_cast<std::size_t>(k)][r];
      }
    }
  });
}

}  // namespace detail

/// A private copy of an array [n, …] with every sample contiguous, from which batches of any samples are gathered
/// quickly.
template <class T>
class Samples {
 public:
  Samples() = default;
  explicit Samples(const Array<T>& array) : shape_(array.shape()), values_(static_cast<std::size_t>(array.size())) {
    check(array.rank() >= 1, "Samples: need at least one extent, the samples (shape ", array.shape(), ")");
    const Array<T> host = array.device() == Device::cpu ? Array<T>() : to(array, Device::cpu);
    const Array<T>& x = array.device() == Device::cpu ? array : host;
    if (x.size() == 0) return;
    const std::int64_t width = features(), ld = x.ld();
    if constexpr (std::is_same_v<T, float>)
      kernels::transpose(cpu{}, {x.data(), size(), width, ld}, {values_.data(), width, size(), width});
    else
      parallel_blocks(size(), detail::sample_grain(width), [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t i = first; i < last; i += detail::sample_tile)
          for (std::int64_t r = 0; r < width; ++r)
            for (std::int64_t k = i; k < std::min(last, i + detail::sample_tile); ++k)
              values_.data()[k * width + r] = x.data()[r * ld + k];
      });
  }

  /// Number of samples.
  std::int64_t size() const { return shape_[0]; }
  /// The shape of all samples, [n, …].
  const Shape& shape() const { return shape_; }
  /// Elements of one sample.
  std::int64_t features() const { return shape_.rows(); }
  /// The elements of sample i, row-major. Not checked.
  std::span<const T> operator[](std::int64_t i) const {
    return {values_.data() + i * features(), static_cast<std::size_t>(features())};
  }

  /// The shape of a batch of n samples.
  Shape batch_shape(std::int64_t n) const {
    std::array<std::int64_t, Shape::max_rank> extents{};
    std::copy(shape_.extents().begin(), shape_.extents().end(), extents.begin());
    extents[0] = n;
    return Shape(std::span<const std::int64_t>(extents.data(), static_cast<std::size_t>(shape_.rank())));
  }

  /// Writes the samples order[0], order[1], … to `out`, whose memory is reused when its shape fits. Indices are not
  /// checked.
  void gather(std::span<const std::int32_t> order, Array<T>& out) const {
    const Shape shape = batch_shape(static_cast<std::int64_t>(order.size()));
    if (out.shape() != shape || out.data() == nullptr || out.device() != Device::cpu) out = Array<T>::empty(shape);
    const T* values = values_.data();
    const std::int64_t width = features();
    if constexpr (std::is_same_v<T, float>)
      kernels::gather_samples(cpu{}, values, order.data(), {out.data(), shape[0], width, out.ld()});
    else
      detail::fill_samples(out, [=](std::int64_t i) { return values + order[static_cast<std::size_t>(i)] * width; });
  }

 private:
  Shape shape_{0};
  Buffer<T> values_;
};

}  // namespace deepstruct
