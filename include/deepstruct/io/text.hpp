// Text of graph files: numbers that read back to the same bits, text that XML can hold.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

#include "../core/error.hpp"

namespace deepstruct::detail {

/// Appends the shortest decimal that reads back to the same number; not-a-numbers and infinities as Python writes them
/// (nan, -nan, inf, -inf), bool as true or false.
template <class T>
void append_number(std::string& out, T x) {
  if constexpr (std::is_same_v<T, bool>) {
    out += x ? "true" : "false";
  } else {
    char text[40];
    out.append(text, std::to_chars(text, text + sizeof text, x).ptr);
  }
}

inline bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// The text without white space around it.
inline std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/// The number that is all of the text, white space around it aside, or nothing; a float is rounded from the text, below
/// its range to 0 or a subnormal. Nothing is also beyond the range of T.
template <class T>
std::optional<T> parse_number(std::string_view text) {
  text = trimmed(text);
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  T x{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), x);
  if constexpr (std::is_same_v<T, float>) {
    if (problem == std::errc::result_out_of_range) {
      const auto wide = parse_number<double>(text);
      if (wide && std::abs(*wide) < 1) return static_cast<float>(*wide);
    }
  }
  if (problem != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return x;
}

/// The beginning of a text, for a message; made only where one is printed.
struct Shown {
  std::string_view text;
  friend std::ostream& operator<<(std::ostream& out, const Shown& s) {
    return s.text.size() <= 60 ? out << s.text : out << s.text.substr(0, 57) << "...";
  }
};
inline Shown shown(std::string_view text) { return {text}; }

/// Length of the UTF-8 sequence at p and its code point, or 0; at least one byte is left.
inline std::size_t decode_utf8(const char* p, std::size_t left, std::uint32_t& code) {
  const auto byte = [&](std::size_t k) { return static_cast<std::uint32_t>(static_cast<unsigned char>(p[k])); };
  const std::uint32_t first = byte(0);
  if (first < 0x80) {
    code = first;
    return 1;
  }
  const std::size_t length = first >= 0xC2 && first < 0xE0 ? 2 : first >= 0xE0 && first < 0xF0 ? 3 : 4;
  if (first < 0xC2 || first > 0xF4 || left < length) return 0;
  code = first & (0x7Fu >> length);
  for (std::size_t k = 1; k < length; ++k) {
    if ((byte(k) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(k) & 0x3F);
  }
  constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  return code >= least[length] ? length : 0;
}

/// Characters of XML 1.0, section 2.2: no control characters but tab, line feed and carriage return, no surrogates.
inline bool is_xml_character(std::uint32_t code) {
  if (code < 0x20) return code == '\t' || code == '\n' || code == '\r';
  return code < 0xD800 || (code >= 0xE000 && code < 0xFFFE) || (code >= 0x10000 && code <= 0x10FFFF);
}

/// Place of the first byte that is not UTF-8 or not a character of XML, or npos.
inline std::size_t find_non_xml(std::string_view text) {
  constexpr std::uint64_t ones = 0x0101010101010101u;
  std::size_t at = 0;
  while (at < text.size()) {
    if (text.size() - at >= 8) {  // eight bytes from 0x20 to 0x7F
      std::uint64_t eight;
      std::memcpy(&eight, text.data() + at, 8);
      if (((eight | (eight - 0x20 * ones)) & 0x80 * ones) == 0) {
        at += 8;
        continue;
      }
    }
    std::uint32_t code = 0;
    const std::size_t length = decode_utf8(text.data() + at, text.size() - at, code);
    if (length == 0 || !is_xml_character(code)) return at;
    at += length;
  }
  return std::string_view::npos;
}

/// Appends text so that XML reads it back as it is; in an attribute also quotes and white space.
inline void append_xml(std::string& out, std::string_view text, bool in_attribute) {
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '\r')
      out += "&#13;";
    else if (in_attribute && c == '"')
      out += "&quot;";
    else if (in_attribute && c == '\n')
      out += "&#10;";
    else if (in_attribute && c == '\t')
      out += "&#9;";
    else
      out += c;
  }
}

}  // namespace deepstruct::detail
