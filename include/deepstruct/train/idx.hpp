// IDX, the format of MNIST and its relatives: images, labels and plain arrays from the bytes of a file.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "bytes.hpp"

namespace deepstruct {

namespace detail {

/// The parts of an IDX file: element type, shape, data; the data has exactly the claimed size.
struct Idx {
  unsigned type = 0;
  Shape shape;
  const std::byte* data = nullptr;
};

inline Idx parse_idx(const char* op, std::span<const std::byte> bytes) {
  check(bytes.size() >= 4, op, ": the file is too short for IDX (", bytes.size(), " bytes)");
  const auto number = [&](std::size_t k) { return std::to_integer<unsigned>(bytes[k]); };
  check(number(0) == 0 && number(1) == 0, op, ": not an IDX file (it begins with bytes ", number(0), " ", number(1),
        ")");
  std::size_t item = 0;
  switch (number(2)) {
    case 0x08:
    case 0x09:
      item = 1;
      break;
    case 0x0B:
      item = 2;
      break;
    case 0x0C:
    case 0x0D:
      item = 4;
      break;
    case 0x0E:
      item = 8;
      break;
    default:
      fail(op, ": unknown IDX element type (", number(2), ")");
  }
  const std::size_t rank = number(3), header = 4 + 4 * rank;
  check(rank >= 1 && rank <= Shape::max_rank, op, ": need 1 to 4 dimensions (", rank, ")");
  check(bytes.size() >= header, op, ": the header is cut off (", bytes.size(), " of ", header, " bytes)");
  std::array<std::uint64_t, Shape::max_rank> extents{};
  for (std::size_t k = 0; k < rank; ++k)
    extents[k] = load_number<std::uint32_t, std::endian::big>(bytes.data() + 4 + 4 * k);
  return {number(2), claimed_shape(op, {extents.data(), rank}, item, bytes.size() - header), bytes.data() + header};
}

/// One image: byte r as a number in [0, 1].
struct PixelRow {
  const std::byte* data = nullptr;
  float operator[](std::int64_t r) const { return static_cast<float>(std::to_integer<int>(data[r])) / 255.0f; }
};

}  // namespace detail

/// An IDX array of any element type and 1 to 4 dimensions, its values rounded to float32. NaN and infinities stay.
inline Tensor idx_tensor(std::span<const std::byte> bytes) {
  constexpr const char* op = "idx_tensor";
  constexpr auto big = std::endian::big;
  const detail::Idx idx = detail::parse_idx(op, bytes);
  switch (idx.type) {
    case 0x08:
      return detail::stored_array<float, std::uint8_t, big>(op, idx.shape, idx.data);
    case 0x09:
      return detail::stored_array<float, std::int8_t, big>(op, idx.shape, idx.data);
    case 0x0B:
      return detail::stored_array<float, std::int16_t, big>(op, idx.shape, idx.data);
    case 0x0C:
      return detail::stored_array<float, std::int32_t, big>(op, idx.shape, idx.data);
    case 0x0D:
      return detail::stored_array<float, float, big>(op, idx.shape, idx.data);
    default:
      return detail::stored_array<float, double, big>(op, idx.shape, idx.data);
  }
}

/// Images [n, rows, cols] of an IDX file of bytes, as byte / 255: values in [0, 1].
inline Tensor idx_images(std::span<const std::byte> bytes) {
  const detail::Idx idx = detail::parse_idx("idx_images", bytes);
  check(idx.type == 0x08 && idx.shape.rank() == 3, "idx_images: need bytes [images, rows, columns] (type ", idx.type,
        ", shape ", idx.shape, ")");
  Tensor out = Tensor::empty(idx.shape);
  detail::fill_samples(out, [&](std::int64_t i) { return detail::PixelRow{idx.data + i * idx.shape.rows()}; });
  return out;
}

/// Labels [n] of an IDX file of bytes or other integers.
inline Indices idx_labels(std::span<const std::byte> bytes) {
  constexpr const char* op = "idx_labels";
  constexpr auto big = std::endian::big;
  const detail::Idx idx = detail::parse_idx(op, bytes);
  check(idx.type <= 0x0C && idx.shape.rank() == 1, op, ": need integers [labels] (type ", idx.type, ", shape ",
        idx.shape, ")");
  switch (idx.type) {
    case 0x08:
      return detail::stored_array<std::int32_t, std::uint8_t, big>(op, idx.shape, idx.data);
    case 0x09:
      return detail::stored_array<std::int32_t, std::int8_t, big>(op, idx.shape, idx.data);
    case 0x0B:
      return detail::stored_array<std::int32_t, std::int16_t, big>(op, idx.shape, idx.data);
    default:
      return detail::stored_array<std::int32_t, std::int32_t, big>(op, idx.shape, idx.data);
  }
}

}  // namespace deepstruct
