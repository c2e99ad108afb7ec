// The safetensors format: named arrays and text in one file, which Python reads and writes too.
#pragma once

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "file.hpp"
#include "stored_tensor.hpp"

namespace deepstruct {

/// The bytes of a safetensors file: 8 bytes of header length, a JSON header filled up with spaces to a multiple of 8,
/// the arrays, those of larger elements first, so that every array is aligned. Throws on a name that is there twice, on
/// bytes that do not fill a shape, on text that is not UTF-8, and on a header of more than 100 MB, which no reader
/// takes.
inline std::vector<std::byte> safetensors_bytes(const StoredTensors& content) {
  std::vector<const StoredTensor*> order;
  for (const StoredTensor& t : content.tensors) order.push_back(&t);
  std::stable_sort(order.begin(), order.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return detail::type_info(a->type).size > detail::type_info(b->type).size;
  });
  std::map<std::string_view, char> names;
  std::string text = "{";
  std::size_t offset = 0;
  try {
    if (!content.metadata.empty()) text += "\"__metadata__\":" + nlohmann::json(content.metadata).dump() + ",";
    for (const StoredTensor* t : order) {
      check(t->name != "__metadata__" && names.emplace(t->name, 0).second,
            "safetensors: a name is taken by another array or reserved (", t->name, ")");
      std::uint64_t size = detail::type_info(t->type).size;
      for (const std::int64_t n : t->shape) size *= static_cast<std::uint64_t>(n);
      check(size == t->bytes.size(), "safetensors: bytes do not fill the shape of an array (", t->name, ": ",
            t->bytes.size(), " for ", size, ")");
      text += nlohmann::json(t->name).dump() + ":{\"dtype\":\"" + std::string(detail::type_info(t->type).name) +
              "\",\"shape\":" + nlohmann::json(t->shape).dump() + ",\"data_offsets\":[" + std::to_string(offset) + "," +
              std::to_string(offset + size) + "]},";
      offset += size;
    }
  } catch (const nlohmann::json::exception& e) {
    fail("safetensors: a text is not UTF-8 (", e.what(), ")");
  }
  if (text.back() == ',') text.pop_back();
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  check(text.size() <= 100'000'000, "safetensors: the header is larger than 100 MB (", text.size(), " bytes)");
  const std::uint64_t length = text.size();
  std::vector<std::byte> bytes;
  bytes.reserve(8 + text.size() + offset);
  for (int k = 0; k < 8; ++k) bytes.push_back(static_cast<std::byte>(length >> (8 * k)));
  const auto append = [&](std::span<const std::byte> part) { bytes.insert(bytes.end(), part.begin(), part.end()); };
  append(std::as_bytes(std::span(text)));
  for (const StoredTensor* t : order) append(t->bytes);
  return bytes;
}

namespace detail {

/// A list of integers; a number with a point is none.
inline std::vector<std::int64_t> integers_of(const nlohmann::json& list) {
  check(list.is_array(), "safetensors: needs a list (", list.type_name(), ")");
  std::vector<std::int64_t> numbers;
  for (const auto& entry : list) {
    check(entry.is_number_integer(), "safetensors: needs a list of integers (", entry.type_name(), ")");
    numbers.push_back(entry.get<std::int64_t>());
  }
  return numbers;
}

}  // namespace detail

/// Reads the bytes of a safetensors file. Element types: F64 F32 F16 BF16, I64 I32 I16 I8, U64 U32 U16 U8, BOOL. Throws
/// on anything that is not exactly such a file, its arrays side by side; memory is bounded by a small multiple of the
/// bytes.
inline StoredTensors parse_safetensors(std::span<const std::byte> bytes) {
  check(bytes.size() >= 8, "safetensors: the file is cut off (", bytes.size(), " bytes)");
  const auto length = detail::load_number<std::uint64_t, std::endian::little>(bytes.data());
  check(length <= 100'000'000 && length <= bytes.size() - 8,
        "safetensors: the header is longer than the file or 100 MB (", length, " of ", bytes.size() - 8, " bytes)");
  const std::string_view text = as_text(bytes.subspan(8, length));
  const std::span<const std::byte> data = bytes.subspan(8 + length);
  StoredTensors content;
  using Ends = std::array<std::uint64_t, 2>;
  std::vector<std::pair<Ends, StoredTensor>> found;
  try {
    // Object, entry, list, number: whatever is deeper is no header.
    const auto header = nlohmann::json::parse(text, [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
      check(depth <= 3, "safetensors: the header is nested too deeply (", depth, ")");
      return true;
    });
    check(header.is_object(), "safetensors: the header is no JSON object (", header.type_name(), ")");
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        content.metadata = entry.get<std::map<std::string, std::string>>();
        continue;
      }
      const std::string type = entry.at("dtype").get<std::string>();
      std::size_t k = 0;
      while (k < detail::stored_types.size() && type != detail::stored_types[k].name) ++k;
      check(k < detail::stored_types.size(), "safetensors: unknown element type (", name, ": ", type, ")");
      const auto shape = detail::integers_of(entry.at("shape"));
      std::uint64_t size = detail::stored_types[k].size;
      for (const std::int64_t n : shape) {
        check(n >= 0 && (n == 0 || size <= data.size() / static_cast<std::uint64_t>(n)),
              "safetensors: an array is larger than the file (", name, ")");
        size *= static_cast<std::uint64_t>(n);
      }
      const auto offsets = detail::integers_of(entry.at("data_offsets"));
      check(offsets.size() == 2, "safetensors: an array has two offsets (", name, ": ", offsets.size(), ")");
      const Ends ends{static_cast<std::uint64_t>(offsets[0]), static_cast<std::uint64_t>(offsets[1])};
      check(ends[0] <= ends[1] && ends[1] <= data.size() && ends[1] - ends[0] == size,
            "safetensors: offsets do not fit the array or the file (", name, ": ", ends[0], " to ", ends[1], " for ",
            size, " of ", data.size(), " bytes)");
      found.emplace_back(ends, StoredTensor{name, static_cast<StoredTensor::Type>(k), shape, {}});
    }
  } catch (const nlohmann::json::exception& e) {
    fail("safetensors: the header is damaged (", e.what(), ")");
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::uint64_t at = 0;
  for (auto& [ends, t] : found) {
    check(ends[0] == at, "safetensors: arrays overlap or leave a gap (", t.name, " at ", ends[0], ", not ", at, ")");
    const auto part = data.subspan(ends[0], ends[1] - ends[0]);
    t.bytes.assign(part.begin(), part.end());
    content.tensors.push_back(std::move(t));
    at = ends[1];
  }
  check(at == data.size(), "safetensors: arrays do not fill the file (", at, " of ", data.size(), " bytes)");
  return content;
}

/// Writes a safetensors file, whole or not at all.
inline void save_safetensors(const StoredTensors& content, const std::filesystem::path& path) {
  write_whole_file(path, safetensors_bytes(content));
}
/// Reads a safetensors file of at most 64 GiB; throws on a missing, damaged or foreign file.
inline StoredTensors load_safetensors(const std::filesystem::path& path) {
  const std::vector<std::byte> bytes = read_plain_file(path, std::uint64_t{64} << 30);
  return detail::of_file(path, [&] { return parse_safetensors(bytes); });
}

}  // namespace deepstruct
