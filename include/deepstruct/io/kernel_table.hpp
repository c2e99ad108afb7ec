// Tables for use_kernel_table as JSON: {"baseline": [0.9, 0.95, 0.95], "avx2": […], "avx512": […]}.
#pragma once

#include <cmath>
#include <string>

#include <nlohmann/json.hpp>

#include "../kernels/choose.hpp"
#include "../train/bytes.hpp"
#include "file.hpp"

namespace deepstruct {

namespace detail {

inline nlohmann::json json_of(const KernelTable& table) {
  nlohmann::json text;
  for (int isa = 0; isa < KernelTable::isas; ++isa)
    for (float density : table.sparse_up_to[isa])  // 0.95, not 0.949999988079071
      text[std::string(simd::name(static_cast<simd::Isa>(isa)))].push_back(std::round(double{density} * 1e6) / 1e6);
  return text;
}

}  // namespace detail

/// Writes a table, whole or not at all.
inline void save_kernel_table(const KernelTable& table, const std::filesystem::path& path) {
  const std::string text = detail::json_of(table).dump() + "\n";
  write_whole_file(path, std::as_bytes(std::span(text.data(), text.size())));
}
/// Reads a table; throws on a missing or damaged file, or a density outside [0, 1].
inline KernelTable load_kernel_table(const std::filesystem::path& path) {
  const auto bytes = read_plain_file(path);
  const char* first = reinterpret_cast<const char*>(bytes.data());
  const auto text = nlohmann::json::parse(first, first + bytes.size(), nullptr, false);
  check(text.is_object(), "load_kernel_table: not a JSON object (", path.string(), ")");
  KernelTable table = measured_kernel_table;
  for (int isa = 0; isa < KernelTable::isas; ++isa) {
    const std::string name(simd::name(static_cast<simd::Isa>(isa)));
    const auto row = text.find(name);
    check(row != text.end() && row->is_array() && row->size() == KernelTable::ranges, "load_kernel_table: needs ",
          KernelTable::ranges, " densities for ", name, " (", path.string(), ")");
    for (int range = 0; range < KernelTable::ranges; ++range) {
      const auto& entry = (*row)[static_cast<std::size_t>(range)];
      check(entry.is_number() && entry.get<double>() >= 0 && entry.get<double>() <= 1,
            "load_kernel_table: a density must lie in [0, 1] (", name, ", ", entry.dump(), ")");
      table.sparse_up_to[isa][range] = entry.get<float>();
    }
  }
  return table;
}

}  // namespace deepstruct
