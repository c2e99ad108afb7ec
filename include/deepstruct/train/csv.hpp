// CSV: numeric tables, with the line number in every complaint.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "bytes.hpp"

namespace deepstruct {

/// How a CSV text is read.
struct CsvOptions {
  char separator = ',';
  bool header = false;     ///< the first line holds column names
  bool nonfinite = false;  ///< accept nan and inf, and read an empty cell as NaN; otherwise all three are errors
};

/// A numeric table.
struct CsvTable {
  std::vector<std::string> names;  ///< of the columns; empty without a header
  Tensor values;                   ///< [rows, columns]
};

namespace detail {

inline std::string_view trim(std::string_view s) {
  const auto first = s.find_first_not_of(" \t\r");
  return first == s.npos ? std::string_view{} : s.substr(first, s.find_last_not_of(" \t\r") - first + 1);
}

/// Calls f(cell) for every cell of a line, trimmed; returns how many.
template <class F>
std::int64_t for_each_cell(std::string_view line, char separator, F&& f) {
  for (std::int64_t count = 1;; ++count) {
    const auto end = line.find(separator);
    f(trim(line.substr(0, end)));
    if (end == line.npos) return count;
    line.remove_prefix(end + 1);
  }
}

inline float csv_number(std::string_view cell, std::int64_t line, bool nonfinite) {
  const auto where = [&] { return "'" + std::string(cell.substr(0, 32)) + "' in line " + std::to_string(line); };
  if (cell.empty()) {
    check(nonfinite, "parse_csv: empty cell (line ", line, ")");
    return std::numeric_limits<float>::quiet_NaN();
  }
  std::string_view digits = cell;
  if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.remove_prefix(1);
  double x = 0;
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), x);
  if (problem != std::errc::result_out_of_range && (problem != std::errc{} || end != digits.data() + digits.size()))
    fail("parse_csv: not a number (", where(), ")");
  if (problem == std::errc::result_out_of_range ||
      (std::isfinite(x) && std::abs(x) > std::numeric_limits<float>::max()))
    fail("parse_csv: a value does not fit into float32 (", where(), ")");
  if (!nonfinite && !std::isfinite(x)) fail("parse_csv: NaN and infinity need the option nonfinite (", where(), ")");
  return static_cast<float>(x);
}

}  // namespace detail

/// A numeric table from text: one row per line (LF or CRLF), every row with the same number of cells, no quotes around
/// numbers. Spaces around cells, a UTF-8 mark at the start and empty lines at the end are skipped.
inline CsvTable parse_csv(std::string_view text, const CsvOptions& options = {}) {
  check(std::string_view("0123456789+-.eE\"\r\n").find(options.separator) == std::string_view::npos,
        "parse_csv: impossible separator (code ", static_cast<int>(options.separator), ")");
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);

  CsvTable table;
  std::vector<float> values;
  std::int64_t rows = 0, columns = -1;
  for (std::int64_t line = 1; !text.empty(); ++line) {
    const auto end = text.find('\n');
    const std::string_view row = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    check(!detail::trim(row).empty() || row.find(options.separator) != row.npos, "parse_csv: empty line (line ", line,
          ")");
    const bool names = options.header && line == 1;
    const std::int64_t cells = detail::for_each_cell(row, options.separator, [&](std::string_view cell) {
      if (!names) return values.push_back(detail::csv_number(cell, line, options.nonfinite));
      if (cell.size() >= 2 && cell.front() == '"' && cell.back() == '"') cell = cell.substr(1, cell.size() - 2);
      table.names.emplace_back(cell);
    });
    if (columns < 0) columns = cells;
    check(cells == columns, "parse_csv: rows of different length (", cells, " instead of ", columns, " cells in line ",
          line, ")");
    rows += !names;
  }
  check(rows > 0, "parse_csv: no rows (the text is empty)");
  table.values = Tensor::empty({rows, columns});
  detail::fill_samples(table.values, [&](std::int64_t i) { return values.data() + i * columns; });
  return table;
}

/// parse_csv of a file.
inline CsvTable load_csv(const std::filesystem::path& path, const CsvOptions& options = {}) {
  const auto bytes = read_plain_file(path);
  return detail::of_file(path, [&] { return parse_csv(as_text(bytes), options); });
}

}  // namespace deepstruct
