// Tables of text: aligned, as CSV, as Markdown.
#pragma once

#include <algorithm>
#include <ostream>
#include <vector>

#include "../core/shape.hpp"
#include "text.hpp"

namespace deepstruct::detail {

using TextTable = std::vector<std::vector<std::string>>;

/// With so many digits after the point; "-" for what is no number.
inline std::string fixed_text(double x, int decimals) {
  if (!std::isfinite(x)) return "-";
  char text[512];
  std::string s(text, std::to_chars(text, text + sizeof text, x, std::chars_format::fixed, decimals).ptr);
  if (s.front() == '-' && s.find_first_of("123456789") == std::string::npos) s.erase(0, 1);
  return s;
}

/// "20.0x fewer", or where it became more "2.0x more"; empty if one of them is 0.
inline std::string times_text(double before, double after, const char* less, const char* more) {
  if (!(before > 0) || !(after > 0)) return "";
  return before >= after ? fixed_text(before / after, 1) + "x " + less : fixed_text(after / before, 1) + "x " + more;
}

/// 300x784.
inline std::string shape_text(const Shape& shape) {
  std::string text;
  for (int k = 0; k < shape.rank(); ++k) text += (k > 0 ? "x" : "") + std::to_string(shape[k]);
  return text;
}

/// First column to the left, others to the right.
inline void write_aligned(std::ostream& out, const TextTable& table) {
  std::vector<std::size_t> width(table.front().size(), 0);
  for (const auto& line : table)
    for (std::size_t c = 0; c < line.size(); ++c) width[c] = std::max(width[c], line[c].size());
  for (const auto& line : table) {
    std::string text;
    for (std::size_t c = 0; c < line.size(); ++c) {
      const std::string space(width[c] - line[c].size(), ' ');
      text += (c > 0 ? "  " : "") + (c == 0 ? line[c] + space : space + line[c]);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out << text << '\n';
  }
}

/// A table of GitHub's Markdown, numbers to the right.
inline void write_markdown(std::ostream& out, const TextTable& table) {
  for (std::size_t k = 0; k < table.size(); ++k) {
    for (const std::string& cell : table[k]) {
      out << "| ";
      for (const char c : cell) out << (c == '|' ? "\\|" : std::string(1, c == '\n' ? ' ' : c));
      out << ' ';
    }
    out << "|\n";
    if (k > 0) continue;
    for (std::size_t c = 0; c < table[0].size(); ++c) out << (c == 0 ? "|---" : "|---:");
    out << "|\n";
  }
}

/// Comma separated values (RFC 4180), lines end with \n.
inline void write_csv(std::ostream& out, const TextTable& table) {
  for (const auto& line : table) {
    for (std::size_t c = 0; c < line.size(); ++c) {
      const std::string& cell = line[c];
      out << (c > 0 ? "," : "");
      if (cell.find_first_of(",\"\r\n") == std::string::npos) {
        out << cell;
        continue;
      }
      out << '"';
      for (const char x : cell) out << (x == '"' ? "\"\"" : std::string(1, x));
      out << '"';
    }
    out << '\n';
  }
}

}  // namespace deepstruct::detail
