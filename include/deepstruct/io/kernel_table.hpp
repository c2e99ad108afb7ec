// Tables for use_kernel_table as JSON: {"baseline": [0.9, 0.95, 0.95], "avx2": […], "avx512": […]}.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "../kernels/choose.hpp"
#include "../train/bytes.hpp"
#include "file.hpp"
#include "text.hpp"

namespace deepstruct {

namespace detail {

inline nlohmann::json json_of(const KernelTable& table) {
  nlohmann::json text;
  for (int isa = 0; isa < KernelTable::isas; ++isa)
    for (float density : table.sparse_up_to[isa]) {
      std::string shortest;  // that reads back: 0.95, not 0.949999988079071
      append_number(shortest, density);
      text[std::string(simd::name(static_cast<simd::Isa>(isa)))].push_back(*parse_number<double>(shortest));
    }
  return text;
}

}  // namespace detail

/// Writes a table, whole or not at all.
inline void save_kernel_table(const KernelTable& table, const std::filesystem::path& path) {
  const std::string text = detail::json_of(table).dump() + "\n";
  write_whole_file(path, std::as_bytes(std::span(text.data(), text.size())));
}
/// The table in a JSON text; throws on any other text, or a density outside [0, 1].
inline KernelTable parse_kernel_table(std::string_view text) {
  // Object, row, density: whatever is deeper is no table.
  const auto rows = nlohmann::json::parse(
      text,
      [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
        check(depth <= 2, "load_kernel_table: nested too deeply (", depth, ")");
        return true;
      },
      false);
  check(rows.is_object(), "load_kernel_table: not a JSON object (", text.size(), " bytes)");
  KernelTable table = measured_kernel_table;
  for (int isa = 0; isa < KernelTable::isas; ++isa) {
    const std::string name(simd::name(static_cast<simd::Isa>(isa)));
    const auto row = rows.find(name);
    check(row != rows.end() && row->is_array() && row->size() == KernelTable::ranges, "load_kernel_table: needs ",
          KernelTable::ranges, " densities for ", name);
    for (int range = 0; range < KernelTable::ranges; ++range) {
      const auto& entry = (*row)[static_cast<std::size_t>(range)];
      check(entry.is_number() && entry.get<double>() >= 0 && entry.get<double>() <= 1,
            "load_kernel_table: a density must lie in [0, 1] (", name, ", ", entry.dump(), ")");
      table.sparse_up_to[isa][range] = entry.get<float>();
    }
  }
  return table;
}
/// parse_kernel_table of a file; throws also on a missing one.
inline KernelTable load_kernel_table(const std::filesystem::path& path) {
  const auto bytes = read_plain_file(path);
  return detail::of_file(path, [&] { return parse_kernel_table(as_text(bytes)); });
}

}  // namespace deepstruct
