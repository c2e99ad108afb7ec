// NPY, the array files of NumPy: read into a Tensor or Indices, and written.
#pragma once

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "bytes.hpp"

namespace deepstruct {

namespace detail {

/// The parts of a .npy file; the data has exactly the claimed size.
struct Npy {
  std::string type;  ///< kind and size: f4 f8 i4 i8 u1 b1
  bool fortran = false;
  Shape shape;
  const std::byte* data = nullptr;
};

/// Reads the header's Python dictionary, {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }.
class NpyHeader {
 public:
  NpyHeader(const char* op, std::string_view text) : op_(op), rest_(text) {
    need('{');
    int seen[3] = {};
    while (!accept('}')) {
      const std::string_view key = string();
      need(':');
      if (key == "descr") {
        descr = string();
        ++seen[0];
      } else if (key == "fortran_order") {
        fortran = boolean();
        ++seen[1];
      } else if (key == "shape") {
        tuple();
        ++seen[2];
      } else {
        fail(op_, ": unknown key in the header (", key.substr(0, 32), ")");
      }
      if (!accept(',')) {
        need('}');
        break;
      }
    }
    skip();
    check(rest_.empty() && seen[0] == 1 && seen[1] == 1 && seen[2] == 1, op_, ": damaged header (", text.substr(0, 80),
          ")");
  }

  std::string_view descr;
  bool fortran = false;
  std::vector<std::uint64_t> extents;

 private:
  void skip() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t\n"), rest_.size())); }
  bool accept(char c) {
    skip();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void need(char c) {
    check(accept(c), op_, ": damaged header ('", c, "' expected before '", rest_.substr(0, 16), "')");
  }
  std::string_view string() {
    skip();
    const char quote = rest_.starts_with('"') ? '"' : '\'';
    need(quote);
    const auto end = rest_.find(quote);
    check(end != rest_.npos, op_, ": damaged header (a string does not end)");
    const std::string_view text = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return text;
  }
  bool boolean() {
    skip();
    const bool value = rest_.starts_with("True");
    check(value || rest_.starts_with("False"), op_, ": damaged header (True or False expected before '",
          rest_.substr(0, 16), "')");
    rest_.remove_prefix(value ? 4 : 5);
    return value;
  }
  void tuple() {
    need('(');
    while (!accept(')')) {
      skip();
      std::uint64_t extent = 0;
      const auto [end, problem] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), extent);
      check(problem == std::errc{}, op_, ": damaged header (an extent expected before '", rest_.substr(0, 16), "')");
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      extents.push_back(extent);
      check(extents.size() <= Shape::max_rank, op_, ": at most 4 dimensions (", extents.size(), " or more)");
      if (!accept(',')) {
        need(')');
        break;
      }
    }
  }

  const char* op_;
  std::string_view rest_;
};

inline Npy parse_npy(const char* op, std::span<const std::byte> bytes) {
  check(as_text(bytes).starts_with("\x93NUMPY"), op, ": not a .npy file (", bytes.size(), " bytes)");
  check(bytes.size() >= 10, op, ": the header is cut off (", bytes.size(), " bytes)");
  const int version = std::to_integer<int>(bytes[6]);
  check(version >= 1 && version <= 3, op, ": unknown format version (", version, ")");
  const std::size_t start = version == 1 ? 10 : 12;
  check(bytes.size() >= start, op, ": the header is cut off (", bytes.size(), " bytes)");
  const std::size_t length = version == 1 ? load_number<std::uint16_t, std::endian::little>(bytes.data() + 8)
                                          : load_number<std::uint32_t, std::endian::little>(bytes.data() + 8);
  check(length <= bytes.size() - start, op, ": the header is cut off (", length, " bytes claimed, ",
        bytes.size() - start, " present)");
  const NpyHeader header(op, as_text(bytes.subspan(start, length)));

  const std::string_view type = header.descr.substr(std::min<std::size_t>(1, header.descr.size()));
  const bool one_byte = type == "u1" || type == "b1";
  const bool known = one_byte || type == "f4" || type == "f8" || type == "i4" || type == "i8";
  check(known && (header.descr[0] == '<' || (one_byte && header.descr[0] == '|')), op,
        ": need float32, float64, int32, int64, uint8 or bool in little endian ('", header.descr.substr(0, 32), "')");
  const auto data = bytes.subspan(start + length);
  const auto item = static_cast<std::uint64_t>(type[1] - '0');
  return {std::string(type), header.fortran, claimed_shape(op, header.extents, item, data.size()), data.data()};
}

template <class T, class Stored>
Array<T> npy_array(const char* op, const Npy& npy) {
  if (npy.type == "b1")
    for (std::int64_t i = 0; i < npy.shape.size(); ++i)
      check(std::to_integer<int>(npy.data[i]) <= 1, op, ": a bool is neither 0 nor 1 (",
            std::to_integer<int>(npy.data[i]), ")");
  if (!npy.fortran) return stored_array<T, Stored, std::endian::little>(op, npy.shape, npy.data);
  Array<T> out = Array<T>::empty(npy.shape);
  if (out.size() == 0) return out;  // no samples, but perhaps 2^40 elements each
  // Fortran order: the samples are innermost, the other extents ascend outwards.
  const Shape& s = npy.shape;
  const StoredRow<T, Stored, std::endian::little> stored{op, npy.data};
  for (std::int64_t i3 = 0, from = 0; i3 < s[3]; ++i3)
    for (std::int64_t i2 = 0; i2 < s[2]; ++i2)
      for (std::int64_t i1 = 0; i1 < s[1]; ++i1)
        for (std::int64_t i0 = 0; i0 < s[0]; ++i0) out(i0, i1, i2, i3) = stored[from++];
  return out;
}

}  // namespace detail

/// The array of a .npy file (format 1, 2 or 3; float32, float64, int32, int64, uint8, bool; C or Fortran order; at most
/// 4 dimensions), its values rounded to float32. NaN and infinities stay; finite values beyond float32 are an error.
inline Tensor npy_tensor(std::span<const std::byte> bytes) {
  constexpr const char* op = "npy_tensor";
  const detail::Npy npy = detail::parse_npy(op, bytes);
  if (npy.type == "f4") return detail::npy_array<float, float>(op, npy);
  if (npy.type == "f8") return detail::npy_array<float, double>(op, npy);
  if (npy.type == "i4") return detail::npy_array<float, std::int32_t>(op, npy);
  if (npy.type == "i8") return detail::npy_array<float, std::int64_t>(op, npy);
  return detail::npy_array<float, std::uint8_t>(op, npy);
}

/// The integers of a .npy file (int32, int64, uint8, bool); throws on floats and on values that need more than 32 bits.
inline Indices npy_indices(std::span<const std::byte> bytes) {
  constexpr const char* op = "npy_indices";
  const detail::Npy npy = detail::parse_npy(op, bytes);
  check(npy.type[0] != 'f', op, ": need integers (", npy.type, ")");
  if (npy.type == "i4") return detail::npy_array<std::int32_t, std::int32_t>(op, npy);
  if (npy.type == "i8") return detail::npy_array<std::int32_t, std::int64_t>(op, npy);
  return detail::npy_array<std::int32_t, std::uint8_t>(op, npy);
}

/// The bytes of a .npy file (format 1, C order) with the array's elements as float32 or int32.
template <class T>
std::vector<std::byte> npy_bytes(const Array<T>& x) {
  std::string text =
      std::string("{'descr': '<") + (std::is_integral_v<T> ? "i4" : "f4") + "', 'fortran_order': False, 'shape': (";
  for (std::int64_t extent : x.shape().extents()) text += std::to_string(extent) + ", ";
  if (x.rank() > 1) text.resize(text.size() - 2);
  text += "), }";
  text.resize((text.size() + 10 + 64) / 64 * 64 - 10, ' ');
  text.back() = '\n';
  const char head[] = {'\x93',
                       'N',
                       'U',
                       'M',
                       'P',
                       'Y',
                       1,
                       0,
                       static_cast<char>(text.size() % 256),
                       static_cast<char>(text.size() / 256)};
  text.insert(0, head, sizeof head);
  const auto header = std::as_bytes(std::span(text));
  std::vector<std::byte> bytes(header.begin(), header.end());
  bytes.resize(text.size() + static_cast<std::size_t>(x.size()) * sizeof(T));
  std::byte* data = bytes.data() + text.size();
  x.for_each([&](std::int64_t, const T& value) {
    const T little = detail::load_number<T, std::endian::little>(reinterpret_cast<const std::byte*>(&value));
    std::memcpy(std::exchange(data, data + sizeof(T)), &little, sizeof(T));
  });
  return bytes;
}

/// Writes a Tensor (float32) or Indices (int32) as a .npy file.
template <class T>
void save_npy(const std::filesystem::path& path, const Array<T>& x) {
  const auto bytes = npy_bytes(x);
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  check(!file.fail(), "save_npy: cannot write the file (", path.string(), ")");
}

/// npy_tensor of a file.
inline Tensor load_npy(const std::filesystem::path& path) {
  const auto bytes = read_plain_file(path);
  return detail::of_file(path, [&] { return npy_tensor(bytes); });
}

/// npy_indices of a file.
inline Indices load_npy_indices(const std::filesystem::path& path) {
  const auto bytes = read_plain_file(path);
  return detail::of_file(path, [&] { return npy_indices(bytes); });
}

}  // namespace deepstruct
