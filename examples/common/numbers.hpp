// Numbers as text, the same in every locale: shortest round trip for files, rounded for people.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <string>

namespace examples {

/// The shortest text that reads back as exactly this value: 0.1f is "0.1", not "0.10000000149".
template <class T>
requires std::integral<T> || std::floating_point<T> std::string shortest(T value) {
  if constexpr (std::same_as<T, bool>) {
    return value ? "1" : "0";
  } else {
    char text[64];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
  }
}

/// With this many digits after the point and thousands separated by commas: 266,610.
inline std::string fixed(double value, int decimals) {
  if (!std::isfinite(value)) return "–";
  char text[512];
  std::string s(text, std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, decimals).ptr);
  if (s.front() == '-' && s.find_first_of("123456789") == std::string::npos) s.erase(0, 1);
  const int point = static_cast<int>(std::min(s.find('.'), s.size()));
  const int first = s.front() == '-' ? 1 : 0;
  if (point - first > 4) {
    for (int i = point - 3; i > first; i -= 3) s.insert(static_cast<std::size_t>(i), ",");
  }
  return s;
}

/// With about this many significant digits and no zeros at the end: 0.0123, 1.5, 266,610.
inline std::string significant(double value, int digits = 3) {
  if (!std::isfinite(value)) return "–";
  const int exponent = value == 0 ? 0 : static_cast<int>(std::floor(std::log10(std::abs(value)) + 1e-9));
  std::string s = fixed(value, std::clamp(digits - 1 - exponent, 0, 12));
  if (s.find('.') != std::string::npos) {
    s.erase(s.find_last_not_of('0') + 1);
    if (s.back() == '.') s.pop_back();
  }
  return s;
}

/// 1064168 -> "1.06 MB" (1 MB is 10^6 bytes).
inline std::string bytes_text(double bytes) {
  if (!(std::abs(bytes) >= 1000)) return significant(bytes) + " B";
  if (std::abs(bytes) < 999.5e3) return significant(bytes / 1e3) + " kB";
  if (std::abs(bytes) < 999.5e6) return significant(bytes / 1e6) + " MB";
  return significant(bytes / 1e9) + " GB";
}

/// 0.0123 -> "12.3 µs", 4.5 -> "4.5 ms", 61000 -> "61 s".
inline std::string milliseconds_text(double ms) {
  if (std::abs(ms) >= 999.5) return significant(ms / 1e3) + " s";
  if (ms != 0 && std::abs(ms) < 0.1) return significant(ms * 1e3) + " µs";
  return significant(ms) + " ms";
}

}  // namespace examples
