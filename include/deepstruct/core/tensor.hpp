// Tensor and Indices: a Shape and its elements, a value like std::vector.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "buffer.hpp"
#include "device.hpp"
#include "rng.hpp"
#include "shape.hpp"
#include "view.hpp"

namespace deepstruct {

inline namespace DEEPSTRUCT_BACKENDS {

/// Elements of type T in the layout of Shape, on one device. Copies deeply, moves cheaply.
///
/// On a GPU data() is device memory: what reads elements here either copies them to the CPU first and says so, or
/// throws. to(array, device) moves an array.
template <class T>
class Array {
 public:
  using value_type = T;

  /// The empty array: shape [0].
  Array() : shape_{0} {}
  Array(const Array&) = default;
  [[gnu::noinline]] Array(Array&& other) noexcept
      : shape_(std::exchange(other.shape_, Shape{0})), buffer_(std::move(other.buffer_)) {}
  Array& operator=(Array other) noexcept {
    std::swap(shape_, other.shape_);
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  /// Uninitialised elements; every kernel overwrites what it is given.
  static Array empty(const Shape& shape, Device device = Device::cpu) { return Array(shape, device); }
  static Array full(const Shape& shape, T value, Device device = Device::cpu) {
    Array a(shape, Device::cpu);
    std::fill_n(a.data(), shape.storage(), value);
    return std::move(a).moved_to(device);
  }
  static Array zeros(const Shape& shape, Device device = Device::cpu) {
    Array a(shape, device);
    a.buffer_.clear();
    return a;
  }
  static Array ones(const Shape& shape, Device device = Device::cpu) { return full(shape, T{1}, device); }
  /// Elements in row-major (C) order; throws unless there are shape.size() of them.
  static Array from(const Shape& shape, std::span<const T> values) {
    check(static_cast<std::int64_t>(values.size()) == shape.size(), "Tensor::from: shape ", shape, " needs ",
          shape.size(), " values (", values.size(), ")");
    Array a(shape, Device::cpu);
    a.for_each([&](std::int64_t i, T& x) { x = values[static_cast<std::size_t>(i)]; });
    return a;
  }
  static Array from(const Shape& shape, std::initializer_list<T> values) {
    return from(shape, std::span<const T>(values.begin(), values.size()));
  }
  static Array scalar(T value, Device device = Device::cpu) { return full(Shape{}, value, device); }
  /// Uniform in [low, high], element i of row-major order from counter i of one draw.
  static Array uniform(const Shape& shape, T low, T high,
                       Rng& rng = default_rng()) requires std::is_floating_point_v<T> {
    check(low <= high, "Tensor::uniform: low must not exceed high (", low, " > ", high, ")");
    Array a(shape, Device::cpu);
    DrawInOrder d(rng.host_draw());
    a.for_each([&](std::int64_t i, T& x) { x = d.uniform(static_cast<std::uint64_t>(i), low, high); });
    return a;
  }
  /// Normal with the given mean and standard deviation, counters as in uniform.
  static Array normal(const Shape& shape, T mean = 0, T std = 1,
                      Rng& rng = default_rng()) requires std::is_floating_point_v<T> {
    check(std >= 0, "Tensor::normal: the standard deviation must not be negative (", std, ")");
    Array a(shape, Device::cpu);
    const Draw d = rng.host_draw();
    a.for_each([&](std::int64_t i, T& x) {
      x = static_cast<T>(std::fma(double{std}, double{d.normal(static_cast<std::uint64_t>(i))}, double{mean}));
    });
    return a;
  }

  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  std::int64_t size() const { return shape_.size(); }
  std::int64_t ld() const { return shape_.ld(); }
  Device device() const { return buffer_.device(); }
  /// The same elements on a device: this array where it is there already, else a copy.
  [[gnu::noinline]] Array moved_to(Device device) && {
    if constexpr (has_cuda) {
      if (device != this->device()) buffer_ = buffer_.on_device(device);
    } else if (device != Device::cpu) {
      fail_without_cuda("to");
    }
    return std::move(*this);
  }
  /// A copy on a device.
  [[gnu::noinline]] Array moved_to(Device device) const& {
    if constexpr (has_cuda) {
      Array a;
      a.shape_ = shape_;
      a.buffer_ = buffer_.on_device(device);
      return a;
    } else {
      if (device != Device::cpu) fail_without_cuda("to");
      return *this;
    }
  }

  /// Takes over the elements of an array of the same shape, from whatever device, without moving: data() stays.
  void assign(const Array& other) {
    check(other.shape() == shape_, "assign: the shapes differ (", shape_, " and ", other.shape(), ")");
    if (&other != this) buffer_.assign(other.buffer_);
  }

  T* data() { return buffer_.data(); }
  const T* data() const { return buffer_.data(); }

  /// Element access without a check of the indices, of which missing ones are 0; throws where the elements are on a
  /// GPU.
  T& operator()(std::int64_t i0 = 0, std::int64_t i1 = 0, std::int64_t i2 = 0, std::int64_t i3 = 0) {
    if constexpr (has_cuda) check_host("operator()");
    return data()[shape_.offset(i0, i1, i2, i3)];
  }
  const T& operator()(std::int64_t i0 = 0, std::int64_t i1 = 0, std::int64_t i2 = 0, std::int64_t i3 = 0) const {
    if constexpr (has_cuda) check_host("operator()");
    return data()[shape_.offset(i0, i1, i2, i3)];
  }
  /// Element access that throws when an index is outside the shape, or the elements on a GPU.
  T& at(std::int64_t i0 = 0, std::int64_t i1 = 0, std::int64_t i2 = 0, std::int64_t i3 = 0) {
    check_index({i0, i1, i2, i3});
    return (*this)(i0, i1, i2, i3);
  }
  const T& at(std::int64_t i0 = 0, std::int64_t i1 = 0, std::int64_t i2 = 0, std::int64_t i3 = 0) const {
    check_index({i0, i1, i2, i3});
    return (*this)(i0, i1, i2, i3);
  }
  /// The only element; throws unless there is exactly one. Waits for a GPU.
  T item() const {
    check(size() == 1, "item: needs exactly one element (shape ", shape_, ")");
    if constexpr (has_cuda)
      if (device() != Device::cpu) return moved_to(Device::cpu).item();
    return data()[0];
  }

  /// Calls f(i, element) for i = 0 … size() − 1 in row-major order; elements on a GPU are read from a copy, and to
  /// change them throws.
  template <class F>
  void for_each(F&& f) {
    check_host("for_each");
    walk(*this, f);
  }
  template <class F>
  void for_each(F&& f) const {
    if constexpr (has_cuda)
      if (device() != Device::cpu) {
        const Array host = moved_to(Device::cpu);
        return walk(host, f);
      }
    walk(*this, f);
  }
  /// The elements in row-major order.
  std::vector<T> to_vector() const {
    std::vector<T> out;
    out.reserve(static_cast<std::size_t>(size()));
    for_each([&](std::int64_t, const T& x) { out.push_back(x); });
    return out;
  }

  /// The array as a matrix [extent 0, all further extents].
  matrix_view<T> view() { return {data(), shape_[0], shape_.rows(), ld()}; }
  matrix_view<const T> view() const { return {data(), shape_[0], shape_.rows(), ld()}; }

  /// The same elements under another shape with the same storage: extent 0 unchanged, or both of one padded line.
  /// Free: no element moves. Throws unless the two layouts are one.
  Array with_shape(const Shape& shape) && {
    check(shape.size() == size() && shape.storage() == shape_.storage() && (shape[0] == shape_[0] || shape.ld() == 0),
          "with_shape: the layouts differ (", shape_, " and ", shape, ")");
    Array a;
    a.shape_ = shape;
    a.buffer_ = std::move(buffer_);
    shape_ = Shape{0};
    return a;
  }

  /// Equal shapes and equal elements (padding is not looked at; NaN equals nothing), on whatever devices.
  friend bool operator==(const Array& a, const Array& b) {
    if (a.shape_ != b.shape_) return false;
    if (a.size() == 0) return true;  // of 2^40 rows, perhaps
    if constexpr (has_cuda) {
      if (a.device() != Device::cpu) return a.moved_to(Device::cpu) == b;
      if (b.device() != Device::cpu) return a == b.moved_to(Device::cpu);
    }
    for (std::int64_t r = 0; r < a.shape_.rows(); ++r)
      if (!std::equal(a.data() + r * a.ld(), a.data() + r * a.ld() + a.shape_[0], b.data() + r * b.ld())) return false;
    return true;
  }

 private:
  [[gnu::noinline]] Array(const Shape& shape, Device device)
      : shape_(shape), buffer_(static_cast<std::size_t>(shape.storage()), device) {}

  void check_host([[maybe_unused]] const char* op) const {
    if constexpr (!has_cuda) return;
    check(device() == Device::cpu, op, ": the elements are on a GPU; move them with to(…, Device::cpu) (shape ", shape_,
          ")");
  }
  void check_index(std::initializer_list<std::int64_t> index) const {
    check_host("at");
    int k = 0;
    for (std::int64_t i : index) {
      check(i >= 0 && i < shape_[k], "at: index outside the shape (", i, " of extent ", shape_[k], ")");
      ++k;
    }
  }

  template <class Self, class F>
  static void walk(Self& self, F& f) {
    std::int64_t i = 0;
    const Shape& s = self.shape_;
    for (std::int64_t i0 = 0; i0 < s[0]; ++i0)
      for (std::int64_t r = 0; r < s.rows(); ++r) f(i++, self.data()[r * s.ld() + i0]);
  }

  Shape shape_;
  Buffer<T> buffer_;
};

/// Float32 elements: values, weights, gradients.
using Tensor = Array<float>;
/// Int32 elements: labels, indices, conditions; never differentiated.
using Indices = Array<std::int32_t>;

/// The device that all values live on; Vars without a value count for nothing. Throws where they differ.
template <class... Values>
Device common_device(std::string_view op, const Values&... values) {
  if constexpr (has_cuda) {
    bool known = false;
    Device device = Device::cpu;
    const auto meet = [&](const auto& value) {
      if constexpr (requires { static_cast<bool>(value); })
        if (!value) return;
      check(!known || value.device() == device, op, ": values live on different devices (", device, " and ",
            value.device(), ")");
      known = true;
      device = value.device();
    };
    (meet(values), ...);
    return device;
  } else {
    return Device::cpu;
  }
}

/// The array on a device: itself where it is there already, else copied. To a GPU it is copied in the current stream;
/// from one it is waited for.
template <class T>
[[nodiscard]] Array<T> to(const Array<T>& array, Device device) {
  return array.moved_to(device);
}
template <class T>
[[nodiscard]] Array<T> to(Array<T>&& array, Device device) {
  return std::move(array).moved_to(device);
}

}  // namespace DEEPSTRUCT_BACKENDS

}  // namespace deepstruct
