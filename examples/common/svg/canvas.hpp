// Canvas: SVG text from rectangles, lines, circles and words; the one place that knows markup and colours.
#pragma once

#include "../numbers.hpp"

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace examples::svg {

/// Colours shared by all pictures; the series colours stay apart for colour-blind readers, too.
namespace theme {
inline constexpr std::string_view ink = "#1f2933", muted = "#66727f", grid = "#e7eaee", axis = "#b3bcc5",
                                  paper = "#ffffff", before = "#aab6c3", after = "#2f6690", worse = "#b4571f";
inline constexpr std::array<std::string_view, 6> series = {"#2f6690", "#d1762c", "#3a8563",
                                                           "#9a4f85", "#7d6b52", "#66727f"};
}  // namespace theme

/// A point on the canvas, in pixels from the top left.
struct Pixel {
  double x = 0, y = 0;
};

/// Which end of a text lies at its position.
enum class Anchor { start, middle, end };

/// How a text looks.
struct TextStyle {
  double size = 12;
  std::string_view colour = theme::ink;
  Anchor anchor = Anchor::start;
  bool bold = false;
  bool halo = false;  ///< a white rim, for words that stand on lines
};

/// `text` as XML content: markup escaped, control characters and broken UTF-8 replaced by U+FFFD.
inline std::string escape(std::string_view text) {
  constexpr std::string_view broken = "\xEF\xBF\xBD";
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const unsigned lead = byte(i);
    const std::size_t length = lead < 0x80   ? 1
                               : lead < 0xC2 ? 0
                               : lead < 0xE0 ? 2
                               : lead < 0xF0 ? 3
                               : lead < 0xF5 ? 4
                                             : 0;
    bool good = length > 0 && (lead >= 0x20 || lead == '\t' || lead == '\n') && lead != 0x7F;
    for (std::size_t k = 1; k < length; ++k) good = good && (byte(i + k) & 0xC0U) == 0x80;
    // Second bytes that would be overlong, a surrogate or beyond U+10FFFF.
    if (lead == 0xE0) good = good && byte(i + 1) >= 0xA0;
    if (lead == 0xED) good = good && byte(i + 1) < 0xA0;
    if (lead == 0xF0) good = good && byte(i + 1) >= 0x90;
    if (lead == 0xF4) good = good && byte(i + 1) < 0x90;
    switch (good ? lead : 0) {
      case 0:
        out += broken;
        break;
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += text.substr(i, length);
    }
    i += good ? length : 1;
  }
  return out;
}

/// A coordinate: at most two digits after the point.
inline std::string coordinate(double value) {
  std::string s = fixed(std::isfinite(value) ? value : 0, 2);
  std::erase(s, ',');
  s.erase(s.find_last_not_of('0') + 1);
  if (s.back() == '.') s.pop_back();
  return s;
}

/// About how wide a text becomes, in pixels; on the wide side, since the reader's font is unknown.
inline double text_width(std::string_view text, double size) {
  double em = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0U) == 0x80) continue;  // inside a character
    if (std::string_view(" .,:;|'!iljtf()[]").find(c) != std::string_view::npos)
      em += 0.36;
    else if (std::string_view("mwMW%@").find(c) != std::string_view::npos)
      em += 0.93;
    else
      em += c >= 'A' && c <= 'Z' ? 0.68 : 0.61;
  }
  return em * size;
}

/// Collects shapes in paint order; str() closes the picture.
class Canvas {
 public:
  /// A white picture; `title` and `description` are for screen readers.
  Canvas(double width, double height, std::string_view title, std::string_view description) {
    add("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", width, " ", height, "\" width=\"", width,
        "\" height=\"", height, "\" role=\"img\" font-family=\"'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', ",
        "sans-serif\">\n<title>", escape(title), "</title>\n<desc>", escape(description), "</desc>\n");
    rect(0, 0, width, height, theme::paper);
  }
  /// A filled rectangle with rounded corners.
  void rect(double x, double y, double width, double height, std::string_view fill, double radius = 0) {
    add("<rect x=\"", x, "\" y=\"", y, "\" width=\"", width, "\" height=\"", height, "\" fill=\"", fill, "\"");
    if (radius > 0) add(" rx=\"", radius, "\"");
    add("/>\n");
  }
  /// A straight line; `dash` is an SVG dash pattern such as "5 4".
  void line(Pixel a, Pixel b, std::string_view stroke, double width = 1, std::string_view dash = "") {
    add("<line x1=\"", a.x, "\" y1=\"", a.y, "\" x2=\"", b.x, "\" y2=\"", b.y, "\"");
    stroke_style(stroke, width, dash);
  }
  /// A line through all points.
  void polyline(std::span<const Pixel> points, std::string_view stroke, double width, std::string_view dash = "") {
    if (points.size() < 2) return;
    add("<polyline points=\"");
    for (const Pixel& p : points) add(p.x, ",", p.y, &p == &points.back() ? "\"" : " ");
    add(" fill=\"none\" stroke-linejoin=\"round\"");
    stroke_style(stroke, width, dash);
  }
  /// A filled circle with a white rim; `hint` appears under the mouse.
  void circle(Pixel centre, double radius, std::string_view fill, std::string_view hint = "") {
    add("<circle cx=\"", centre.x, "\" cy=\"", centre.y, "\" r=\"", radius, "\" fill=\"", fill, "\" stroke=\"",
        theme::paper, "\" stroke-width=\"1.5\"");
    if (hint.empty())
      add("/>\n");
    else
      add("><title>", escape(hint), "</title></circle>\n");
  }
  /// Words whose baseline is at `at`.
  void text(Pixel at, std::string_view words, const TextStyle& style = {}) {
    if (words.empty()) return;
    add("<text x=\"", at.x, "\" y=\"", at.y, "\" font-size=\"", style.size, "\" fill=\"", style.colour, "\"");
    if (style.anchor != Anchor::start) add(" text-anchor=\"", style.anchor == Anchor::middle ? "middle" : "end", "\"");
    if (style.bold) add(" font-weight=\"600\"");
    if (style.halo)
      add(" stroke=\"", theme::paper, "\" stroke-width=\"3.5\" stroke-linejoin=\"round\" paint-order=\"stroke\"");
    add(">", escape(words), "</text>\n");
  }
  /// Markup as it is.
  void raw(std::string_view markup) { text_ += markup; }
  /// The whole picture.
  std::string str() const { return text_ + "</svg>\n"; }

 private:
  void stroke_style(std::string_view stroke, double width, std::string_view dash) {
    add(" stroke=\"", stroke, "\" stroke-width=\"", width, "\" stroke-linecap=\"round\"");
    if (!dash.empty()) add(" stroke-dasharray=\"", dash, "\"");
    add("/>\n");
  }
  void put(std::string_view s) { text_ += s; }
  void put(double value) { text_ += coordinate(value); }
  template <class... Parts>
  void add(const Parts&... parts) {
    (put(parts), ...);
  }

  std::string text_;
};

/// The title and subtitle at the top left; returns the y below them.
inline double heading(Canvas& canvas, double x, std::string_view title, std::string_view subtitle) {
  double y = 34;
  canvas.text({x, y}, title, {.size = 18, .bold = true});
  if (!subtitle.empty()) canvas.text({x, y += 22}, subtitle, {.size = 13, .colour = theme::muted});
  return y;
}

}  // namespace examples::svg
