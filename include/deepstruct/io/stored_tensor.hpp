// Named arrays as files hold them, with their element types, and the way to Tensors and back.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/tensor.hpp"
#include "../train/bytes.hpp"

namespace deepstruct {

/// One named array of a safetensors file, row-major, little-endian.
struct StoredTensor {
  enum class Type { f64, i64, u64, f32, i32, u32, f16, bf16, i16, u16, i8, u8, boolean };

  std::string name;
  Type type = Type::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;

  friend bool operator==(const StoredTensor&, const StoredTensor&) = default;
};

/// The content of a safetensors file: arrays in the order of their bytes, and text about them.
struct StoredTensors {
  std::vector<StoredTensor> tensors;
  std::map<std::string, std::string> metadata;

  /// The array of this name, null if there is none. O(arrays).
  const StoredTensor* find(std::string_view name) const {
    for (const StoredTensor& t : tensors)
      if (t.name == name) return &t;
    return nullptr;
  }
  friend bool operator==(const StoredTensors&, const StoredTensors&) = default;
};

namespace detail {

static_assert(std::endian::native == std::endian::little, "arrays are stored as they are in memory");

struct StoredType {
  std::string_view name;
  std::size_t size;
};
inline constexpr std::array<StoredType, 13> stored_types{{{"F64", 8},
                                                          {"I64", 8},
                                                          {"U64", 8},
                                                          {"F32", 4},
                                                          {"I32", 4},
                                                          {"U32", 4},
                                                          {"F16", 2},
                                                          {"BF16", 2},
                                                          {"I16", 2},
                                                          {"U16", 2},
                                                          {"I8", 1},
                                                          {"U8", 1},
                                                          {"BOOL", 1}}};
inline const StoredType& type_info(StoredTensor::Type type) { return stored_types[static_cast<std::size_t>(type)]; }

template <class T>
constexpr StoredTensor::Type stored_type_of() {
  using enum StoredTensor::Type;
  if constexpr (std::is_same_v<T, bool>) return boolean;
  if constexpr (std::is_same_v<T, double>) return f64;
  if constexpr (std::is_same_v<T, float>) return f32;
  if constexpr (std::is_same_v<T, std::int64_t>) return i64;
  if constexpr (std::is_same_v<T, std::int32_t>) return i32;
  if constexpr (std::is_same_v<T, std::uint8_t>) return u8;
}

/// IEEE half precision: 1 bit sign, 5 exponent, 10 fraction.
inline float float_of_half(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, fraction = bits & 1023u;
  if (exponent == 0) return std::copysign(static_cast<float>(fraction) * 0x1p-24f, sign != 0 ? -1.0f : 1.0f);
  return std::bit_cast<float>(sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | fraction << 13);
}
/// The upper half of a float32.
inline float float_of_bfloat(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

/// A stored number as a T: rounded from a wider float, exact in all other cases.
template <class T, class Stored>
T value_of(const StoredTensor& t, Stored x) {
  if constexpr (std::is_floating_point_v<T> && std::is_floating_point_v<Stored>) {
    const T value = static_cast<T>(x);
    check(std::isfinite(value) || !std::isfinite(x), "safetensors: a value does not fit into float32 (", t.name, ": ",
          x, ")");
    return value;
  } else if constexpr (std::is_floating_point_v<T>) {
    constexpr auto exact = std::uint64_t{1} << std::numeric_limits<T>::digits;
    const auto size = x < 0 ? std::uint64_t{0} - static_cast<std::uint64_t>(x) : static_cast<std::uint64_t>(x);
    check(size <= exact, "safetensors: an integer is no exact float (", t.name, ": ", x, ")");
    return static_cast<T>(x);
  } else {
    check(!std::is_floating_point_v<Stored>, "safetensors: needs integers (", t.name, ": ", type_info(t.type).name,
          ")");
    if constexpr (!std::is_floating_point_v<Stored>)
      check(std::in_range<T>(x), "safetensors: an integer does not fit into ", 8 * sizeof(T), " bits (", t.name, ": ",
            x, ")");
    return static_cast<T>(x);
  }
}

}  // namespace detail

/// An array of values in row-major order. T: double, float, std::int64_t, std::int32_t, std::uint8_t; a T of bool takes
/// std::uint8_t values 0 and 1.
template <class T, class Value>
StoredTensor stored_values(std::string name, std::vector<std::int64_t> shape, std::span<const Value> values) {
  static_assert(std::is_same_v<T, Value> || (std::is_same_v<T, bool> && std::is_same_v<Value, std::uint8_t>));
  StoredTensor t{std::move(name), detail::stored_type_of<T>(), std::move(shape),
                 std::vector<std::byte>(values.size_bytes())};
  if (!values.empty()) std::memcpy(t.bytes.data(), values.data(), values.size_bytes());
  return t;
}
template <class T>
StoredTensor stored_values(std::string name, const std::vector<T>& values) {
  return stored_values<T, T>(std::move(name), {static_cast<std::int64_t>(values.size())}, values);
}
/// The same of a Tensor: F32 of its shape.
inline StoredTensor stored_tensor(std::string name, const Tensor& x) {
  const std::vector<float> values = x.to_vector();
  return stored_values<float, float>(std::move(name), {x.shape().extents().begin(), x.shape().extents().end()}, values);
}

/// The elements in row-major order as T (float, double or an integer), whatever they are stored as. Floats are rounded
/// to nearest; anything else must be exact: throws on an integer that does not fit, on floats where T is an integer, on
/// a finite F64 beyond float32, on a BOOL that is neither 0 nor 1.
template <class T>
std::vector<T> values_of(const StoredTensor& t) {
  const auto& [name, size] = detail::type_info(t.type);
  std::vector<T> values(t.bytes.size() / size);
  const auto read = [&]<class Stored>(std::type_identity<Stored>, auto&& decode) {
    for (std::size_t k = 0; k < values.size(); ++k)
      values[k] = detail::value_of<T>(
          t, decode(detail::load_number<Stored, std::endian::little>(t.bytes.data() + k * sizeof(Stored))));
  };
  const auto as_it_is = [](auto x) { return x; };
  switch (t.type) {
    using enum StoredTensor::Type;
    case f64:
      read(std::type_identity<double>(), as_it_is);
      break;
    case i64:
      read(std::type_identity<std::int64_t>(), as_it_is);
      break;
    case u64:
      read(std::type_identity<std::uint64_t>(), as_it_is);
      break;
    case f32:
      read(std::type_identity<float>(), as_it_is);
      break;
    case i32:
      read(std::type_identity<std::int32_t>(), as_it_is);
      break;
    case u32:
      read(std::type_identity<std::uint32_t>(), as_it_is);
      break;
    case f16:
      read(std::type_identity<std::uint16_t>(), detail::float_of_half);
      break;
    case bf16:
      read(std::type_identity<std::uint16_t>(), detail::float_of_bfloat);
      break;
    case i16:
      read(std::type_identity<std::int16_t>(), as_it_is);
      break;
    case u16:
      read(std::type_identity<std::uint16_t>(), as_it_is);
      break;
    case i8:
      read(std::type_identity<std::int8_t>(), as_it_is);
      break;
    case u8:
      read(std::type_identity<std::uint8_t>(), as_it_is);
      break;
    case boolean:
      read(std::type_identity<std::uint8_t>(), [&](std::uint8_t x) {
        check(x <= 1, "safetensors: an entry is neither 0 nor 1 (", t.name, ": ", int{x}, ")");
        return x;
      });
  }
  return values;
}
/// The array as a Tensor, converted as values_of does. Throws on more than 4 extents.
inline Tensor tensor_of(const StoredTensor& t) { return Tensor::from(Shape(t.shape), values_of<float>(t)); }

}  // namespace deepstruct
