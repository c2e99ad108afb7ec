// What pictures are made of: texts, colours, rows of texts below columns, legends, the page.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deepstruct {

namespace detail {

// ---- Text of the document.

inline void svg_part(std::string& out, std::string_view text) { out += text; }
/// Numbers with at most two decimals and always a point, whatever the locale. Halves go up even if the last bit of
/// the number depends on the compiler.
template <class T>
requires std::is_arithmetic_v<T>
void svg_part(std::string& out, T number) {
  if constexpr (std::is_integral_v<T>) {
    out += std::to_string(number);
  } else {
    const long long hundredths = std::llround(std::fma(static_cast<double>(number), 100, 1e-6));
    const long long part = std::abs(hundredths % 100);
    if (hundredths < 0) out += '-';
    out += std::to_string(std::abs(hundredths / 100));
    if (part != 0) {
      out += '.';
      out += static_cast<char>('0' + part / 10);
      if (part % 10 != 0) out += static_cast<char>('0' + part % 10);
    }
  }
}
template <class... Parts>
void svg_put(std::string& out, const Parts&... parts) {
  (svg_part(out, parts), ...);
}

/// Length in bytes of the character that a well-formed UTF-8 text starts with, 0 where it is not well-formed or XML
/// does not allow the character.
inline std::size_t svg_character(std::string_view text) {
  const auto byte = [&](std::size_t k) { return k < text.size() ? static_cast<unsigned char>(text[k]) : 0u; };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7F ? 1 : 0;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4) return 0;
  unsigned code = first & (0x7Fu >> length);
  for (std::size_t k = 1; k < length; ++k) {
    if ((byte(k) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(k) & 0x3F);
  }
  const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool allowed = code >= least[length] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF) &&
                       code != 0xFFFE && code != 0xFFFF && code >= 0xA0;
  return allowed ? length : 0;
}
/// Text between tags: special characters escaped, what XML forbids replaced; of more than `most` characters the last
/// ones give way to an ellipsis.
inline std::string svg_text(std::string_view text, std::int64_t most = std::numeric_limits<std::int64_t>::max()) {
  std::string out;
  std::size_t before_last = 0;
  for (std::int64_t shown = 0; !text.empty(); ++shown) {
    if (shown == most) return out.substr(0, before_last) + "…";
    before_last = out.size();
    const std::size_t length = svg_character(text);
    const char c = text[0];
    if (c == '\t' || c == '\n' || c == '\r')
      out += ' ';
    else if (length == 0)
      out += "\xEF\xBF\xBD";  // U+FFFD, the replacement character
    else if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += text.substr(0, length);
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out;
}
/// 9999, 12.3k, 4.57M, 1.2G.
inline std::string svg_count(std::int64_t n) {
  if (n < 10000) return std::to_string(n);
  std::int64_t unit = 1000;
  std::size_t name = 0;
  while (n / unit >= 1000) {
    unit *= 1000;
    ++name;
  }
  std::string out;
  const double value = static_cast<double>(n) / static_cast<double>(unit);
  svg_put(out,
          value < 10    ? value
          : value < 100 ? std::floor(value * 10) / 10
                        : std::floor(value),
          std::string_view("kMGTP").substr(name, 1));
  return out;
}
/// Estimated width of text at a font size, a little too much where it is not ASCII.
inline double svg_width(std::string_view text, double size) { return 0.58 * size * static_cast<double>(text.size()); }

// ---- Colours: of Okabe & Ito ("Color universal design", 2008) for roles, blue and red (told apart by all) for signs.

enum class SvgRole { input, hidden, output, dead };
struct SvgStyle {
  std::string_view name, fill, stroke;
};
inline constexpr std::array<SvgStyle, 4> svg_roles{{{"input", "#009e73", "#ffffff"},
                                                    {"hidden", "#4a5560", "#ffffff"},
                                                    {"output", "#e69f00", "#ffffff"},
                                                    {"dead", "#ffffff", "#8f979f"}}};
inline constexpr std::string_view svg_ink = "#33393f", svg_quiet = "#7a828a", svg_edge = "#6b7785",
                                  svg_skip = "#9a5fa8", svg_dead_edge = "#c4c9ce";

/// −1 … 1 as red … light grey … blue; √ so that small values are seen.
inline std::string svg_colour(double t) {
  const double strength = std::sqrt(std::min(1.0, std::abs(t)));
  const std::array<double, 3> end = t < 0 ? std::array{178.0, 24.0, 43.0} : std::array{33.0, 102.0, 172.0};
  std::string out = "#";
  for (const double channel : end) {
    const auto value = static_cast<int>(std::lround(std::fma(strength, channel - 214, 214.0)));
    for (const int digit : {value / 16, value % 16}) out += "0123456789abcdef"[digit];
  }
  return out;
}

// ---- What both kinds of picture share: page, columns with texts below them, legend.

/// A drawing under way: its parts in pixels from the top left corner of the columns' area, put on a page at the end.
struct SvgDrawing {
  std::string body;
  double left = 0, right = 0, top = 0, bottom = 0;  // extent of the body

  void include(double x, double y, double around) {
    left = std::min(left, x - around);
    right = std::max(right, x + around);
    top = std::min(top, y - around);
    bottom = std::max(bottom, y + around);
  }
};

inline void svg_write(std::string& out, double x, double y, double size, std::string_view anchor, std::string_view fill,
                      std::string_view text) {
  svg_put(out, "<text x=\"", x, "\" y=\"", y, "\" font-size=\"", size, "\" text-anchor=\"", anchor, "\" fill=\"", fill,
          "\">", text, "</text>\n");
}

/// Rows of text below the columns at x, each with a heading to the left; upright where there is space, else turned, or,
/// if `thin`, only for every 2nd, 5th, 10th … column.
inline void svg_axis(SvgDrawing& d, std::span<const double> x,
                     std::span<const std::pair<std::string_view, std::vector<std::string>>> rows, bool thin) {
  double longest = 0;
  const double size = 11;
  for (const auto& row : rows)
    for (const std::string& text : row.second) longest = std::max(longest, svg_width(text, size));
  const double pitch = x.size() > 1 ? x[1] - x[0] : 1e9;
  std::size_t step = 1;
  for (std::size_t unit = 1; thin && static_cast<double>(step) * pitch < longest + 12; unit *= 10)
    for (const std::size_t factor : {1, 2, 5})
      if (static_cast<double>(step) * pitch < longest + 12) step = unit * factor;
  const bool turned = !thin && pitch < longest + 6;
  const double turned_size = std::clamp(pitch - 2, 6.0, size);
  double y = d.bottom + 8, heading_x = d.left - 10;
  d.body += "<g class=\"axis\">\n";
  for (const auto& [heading, texts] : rows) {
    double height = size + 4;
    if (turned) {
      height = 0;
      for (const std::string& text : texts) height = std::max(height, svg_width(text, turned_size) + 8);
    }
    svg_write(d.body, heading_x, y + (turned ? 4 + 0.36 * size + 0.5 * (height - 8) : size), size, "end", svg_quiet,
              heading);
    for (std::size_t k = 0; k < texts.size(); k += step) {
      if (turned)
        svg_put(d.body, "<text transform=\"translate(", x[k] + 0.35 * turned_size, " ", y + 4,
                ") rotate(-90)\" font-size=\"", turned_size, "\" text-anchor=\"end\" fill=\"", svg_ink, "\">", texts[k],
                "</text>\n");
      else
        svg_write(d.body, x[k], y + size, size, "middle", svg_ink, texts[k]);
    }
    y += height;
    d.left = std::min(d.left, heading_x - svg_width(heading, size));
  }
  d.body += "</g>\n";
  d.bottom = y;
}

/// An entry of the legend: its drawing, 0 at the left and the middle of the line, and the text behind it.
struct SvgLegendEntry {
  std::string sample;
  double width = 0;
  std::string text;
};
inline SvgLegendEntry svg_legend_role(SvgRole role) {
  const SvgStyle& style = svg_roles[static_cast<std::size_t>(role)];
  SvgLegendEntry entry{{}, 11, std::string(style.name)};
  svg_put(entry.sample, "<circle cx=\"5.5\" cy=\"0\" r=\"4.5\" fill=\"", style.fill, "\" stroke=\"",
          role == SvgRole::dead ? style.stroke : style.fill, "\"/>");
  return entry;
}
inline SvgLegendEntry svg_legend_line(std::string_view name, std::string_view colour) {
  SvgLegendEntry entry{{}, 20, std::string(name)};
  svg_put(entry.sample, "<path d=\"M0 3Q10 -8 20 3\" fill=\"none\" stroke=\"", colour, "\" stroke-width=\"1.5\"/>");
  return entry;
}
/// The scale of an edge attribute, −greatest … greatest.
inline SvgLegendEntry svg_legend_scale(const std::string& name, double greatest) {
  std::array<char, 32> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), greatest, std::chars_format::general, 3);
  const std::string bound(digits.data(), end.ptr);
  const std::string left = svg_text(name, 24) + " −" + bound;
  const double offset = svg_width(left, 11) + 4;
  SvgLegendEntry entry{{}, offset + 84, bound};
  svg_write(entry.sample, offset - 4, 4, 11, "end", svg_ink, left);
  for (int k = 0; k < 21; ++k)
    svg_put(entry.sample, "<rect x=\"", offset + 4 * k, "\" y=\"-4\" width=\"4\" height=\"8\" fill=\"",
            svg_colour((k - 10) / 10.0), "\" shape-rendering=\"crispEdges\"/>");
  return entry;
}
inline void svg_legend(SvgDrawing& d, std::span<const SvgLegendEntry> entries, double most) {
  double width = -18;
  for (const SvgLegendEntry& e : entries) width += e.width + 5 + svg_width(e.text, 11) + 18;
  if (entries.empty() || width > most) return;
  double x = (d.left + d.right - width) / 2;
  const double y = d.bottom + 20;
  d.body += "<g class=\"legend\">\n";
  for (const SvgLegendEntry& e : entries) {
    svg_put(d.body, "<g transform=\"translate(", x, " ", y, ")\">", e.sample);
    svg_write(d.body, e.width + 5, 4, 11, "start", svg_ink, e.text);
    d.body += "</g>\n";
    x += e.width + 5 + svg_width(e.text, 11) + 18;
  }
  d.body += "</g>\n";
  const double middle = (d.left + d.right) / 2;
  d.left = std::min(d.left, middle - width / 2);
  d.right = std::max(d.right, middle + width / 2);
  d.bottom = y + 8;
}

constexpr double svg_margin = 16, svg_title_height = 30;

/// The page: the drawing in the middle, the title above it.
inline std::string svg_page(const SvgDrawing& d, const std::string& title, double most) {
  const double above = title.empty() ? 0 : svg_title_height;
  const auto characters =
      static_cast<double>(std::count_if(title.begin(), title.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  const double wanted = std::min(most, std::max(140.0, 0.6 * 17 * characters + 2 * svg_margin));
  const double width = std::ceil(std::clamp(d.right - d.left + 2 * svg_margin, title.empty() ? 60.0 : wanted, most));
  const double height = std::ceil(d.bottom - d.top + 2 * svg_margin + above);
  std::string out;
  out.reserve(d.body.size() + 1000);
  svg_put(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", width,
          "\" height=\"", height, "\" viewBox=\"0 0 ", width, " ", height,
          "\" font-family=\"Helvetica, Arial, sans-serif\">\n");
  if (!title.empty()) svg_put(out, "<title>", svg_text(title), "</title>\n");
  svg_put(out, "<rect width=\"", width, "\" height=\"", height, "\" fill=\"#ffffff\"/>\n");
  if (!title.empty()) {
    const double size = std::clamp((width - 2 * svg_margin) / (0.6 * characters), 9.0, 17.0);
    const auto shown = static_cast<std::int64_t>((width - 2 * svg_margin) / (0.6 * size) + 1e-6);
    svg_write(out, width / 2, svg_margin + 14, size, "middle", svg_ink, svg_text(title, shown));
  }
  svg_put(out, "<g transform=\"translate(", (width - d.left - d.right) / 2, " ", svg_margin + above - d.top, ")\">\n",
          d.body, "</g>\n</svg>\n");
  return out;
}

}  // namespace detail

}  // namespace deepstruct
