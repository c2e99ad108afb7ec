// Bytes of data files: a plain file as a whole, numbers inside it, and the check of what a header claims.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <span>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include "samples.hpp"

namespace deepstruct {

/// The bytes of a regular file; throws if it is missing, unreadable or larger than `max_bytes`. Nothing is
/// decompressed.
inline std::vector<std::byte> read_plain_file(const std::filesystem::path& path,
                                              std::uint64_t max_bytes = std::uint64_t{4} << 30) {
  std::error_code problem;
  const auto status = std::filesystem::status(path, problem);
  check(std::filesystem::exists(status), "read_file: no such file (", path.string(), ")");
  check(std::filesystem::is_regular_file(status), "read_file: not a regular file (", path.string(), ")");
  const std::uintmax_t size = std::filesystem::file_size(path, problem);
  check(!problem, "read_file: cannot read the file (", path.string(), ")");
  check(size <= max_bytes, "read_file: the file is larger than allowed (", size, " > ", max_bytes, " bytes in ",
        path.string(), ")");
  std::ifstream file(path, std::ios::binary);
  check(file.is_open(), "read_file: cannot open the file (", path.string(), ")");
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  check(static_cast<std::uintmax_t>(file.gcount()) == size, "read_file: cannot read the whole file (", file.gcount(),
        " of ", size, " bytes of ", path.string(), ")");
  return bytes;
}

/// Bytes seen as characters.
inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

namespace detail {

/// What parse() returns; an Error of it gets the file's name added.
template <class Parse>
auto of_file(const std::filesystem::path& path, Parse&& parse) {
  try {
    return parse();
  } catch (const Error& error) {
    fail(error.what(), " in ", path.string());
  }
}

/// The number of type T at p, stored in byte order `Order`.
template <class T, std::endian Order>
T load_number(const std::byte* p) {
  std::array<std::byte, sizeof(T)> raw;
  for (std::size_t k = 0; k < sizeof(T); ++k) raw[k] = p[Order == std::endian::native ? k : sizeof(T) - 1 - k];
  return std::bit_cast<T>(raw);
}

/// A stored number as an element: rounded to float32 (NaN and infinities as they are), or an exact int32. Throws beyond
/// the range.
template <class T, class Stored>
T to_element(const char* op, Stored x) {
  using Limits = std::numeric_limits<T>;
  if constexpr (std::is_integral_v<T>) {
    static_assert(std::is_integral_v<Stored>);
    const auto wide = static_cast<std::int64_t>(x);
    check(wide >= Limits::min() && wide <= Limits::max(), op, ": a value does not fit into 32 bits (", wide, ")");
  } else if constexpr (std::is_same_v<Stored, double>) {
    check(!std::isfinite(x) || std::abs(x) <= Limits::max(), op, ": a value does not fit into float32 (", x, ")");
  }
  return static_cast<T>(x);
}

/// One sample in a file: element r is the r-th stored number.
template <class T, class Stored, std::endian Order>
struct StoredRow {
  const char* op = nullptr;
  const std::byte* data = nullptr;
  T operator[](std::int64_t r) const {
    return to_element<T>(op, load_number<Stored, Order>(data + r * static_cast<std::int64_t>(sizeof(Stored))));
  }
};

/// The array [n, …] stored in `data` sample by sample.
template <class T, class Stored, std::endian Order>
Array<T> stored_array(const char* op, const Shape& shape, const std::byte* data) {
  Array<T> out = Array<T>::empty(shape);
  const std::int64_t step = shape.rows() * static_cast<std::int64_t>(sizeof(Stored));
  fill_samples(out, [=](std::int64_t i) { return StoredRow<T, Stored, Order>{op, data + i * step}; });
  return out;
}

/// The shape a header claims, once it is sure that exactly `available` bytes hold it; allocates nothing before.
inline Shape claimed_shape(const char* op, std::span<const std::uint64_t> extents, std::uint64_t item,
                           std::uint64_t available) {
  check(extents.size() <= Shape::max_rank, op, ": at most 4 dimensions (", extents.size(), ")");
  constexpr std::uint64_t most = std::uint64_t{1} << 40;
  std::array<std::int64_t, Shape::max_rank> extent{};
  std::uint64_t total = 1;  // of the extents that are not 0
  for (std::size_t k = 0; k < extents.size(); ++k) {
    const std::uint64_t e = extents[k];
    check(e > 0 || k == 0, op, ": only the number of samples may be 0 (dimension ", k, ")");
    check(e == 0 || total <= most / e, op, ": the header claims too many elements (dimension ", k, " of size ", e, ", ",
          available, " bytes present)");
    total *= e > 0 ? e : 1;
    extent[k] = static_cast<std::int64_t>(e);
  }
  if (!extents.empty() && extents[0] == 0) total = 0;
  check(total * item == available, op, ": the header claims ", total * item, " bytes of data (", available,
        " present)");
  return Shape(std::span<const std::int64_t>(extent.data(), extents.size()));
}

}  // namespace detail
}  // namespace deepstruct
