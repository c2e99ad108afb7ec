// heat_map: matrices as coloured squares, several side by side, with a legend for each colour scale.
#pragma once

#include "../files.hpp"
#include "canvas.hpp"

#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace examples::svg {

/// Dark violet over green to yellow, evenly in lightness, or black to white.
enum class Palette { viridis, grey };

/// Colours for values from min to max, and what the values are; panels that share a scale can be compared.
struct ColourScale {
  std::string label = {};
  Palette palette = Palette::viridis;
  std::optional<double> min = {}, max = {};  ///< else those of the panels
};

/// One matrix in row-major order; values that are not finite stay empty.
struct HeatPanel {
  std::string title = {}, caption = {};
  std::size_t rows = 0, cols = 0;
  std::vector<double> values = {};
  std::size_t scale = 0;  ///< index into HeatMap::scales
};

/// What heat_map draws: panels from left to right, those of one scale next to each other.
struct HeatMap {
  std::string title = {}, subtitle = {};
  std::vector<HeatPanel> panels = {};
  std::vector<ColourScale> scales = {ColourScale{}};
  double panel_size = 224;
};

/// A colour of the palette, t in [0, 1], as #rrggbb.
inline std::string palette_colour(Palette palette, double t) {
  using Rgb = std::array<int, 3>;
  static constexpr std::array<Rgb, 9> viridis = {{{68, 1, 84},
                                                  {71, 45, 123},
                                                  {59, 82, 139},
                                                  {44, 114, 142},
                                                  {33, 145, 140},
                                                  {40, 174, 128},
                                                  {94, 201, 98},
                                                  {173, 220, 48},
                                                  {253, 231, 37}}};
  static constexpr std::array<Rgb, 2> grey = {{{20, 23, 28}, {250, 250, 250}}};
  const Rgb* anchors = palette == Palette::viridis ? viridis.data() : grey.data();
  const int spans = palette == Palette::viridis ? 8 : 1;
  const double at = std::clamp(t, 0.0, 1.0) * spans;
  const int k = std::min(static_cast<int>(at), spans - 1);
  std::string s = "#";
  for (std::size_t c = 0; c < 3; ++c) {
    const double value = anchors[k][c] + (at - k) * (anchors[k + 1][c] - anchors[k][c]);
    const int byte = static_cast<int>(std::lround(value));
    s += "0123456789abcdef"[byte / 16];
    s += "0123456789abcdef"[byte % 16];
  }
  return s;
}

namespace detail {

/// The ends of a scale: as given, else of the finite values of its panels.
inline std::pair<double, double> range(const HeatMap& map, std::size_t scale) {
  double low = HUGE_VAL, high = -HUGE_VAL;
  for (const HeatPanel& panel : map.panels) {
    if (panel.scale != scale) continue;
    for (const double v : panel.values) {
      if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
    }
  }
  if (!(low <= high)) low = 0, high = 1;
  return {map.scales[scale].min.value_or(low), map.scales[scale].max.value_or(high)};
}

/// The squares of one panel: one path per colour (of 129), a run of equal squares is one rectangle.
inline void draw_panel(Canvas& canvas, const HeatPanel& panel, Palette palette, std::pair<double, double> ends,
                       Pixel at, double cell) {
  std::map<int, std::string> paths;
  const double span = ends.second - ends.first;
  const auto level = [&](std::size_t r, std::size_t c) {
    const double v = panel.values[r * panel.cols + c];
    if (!std::isfinite(v)) return -1;
    return static_cast<int>(std::lround(128 * std::clamp(span > 0 ? (v - ends.first) / span : 0, 0.0, 1.0)));
  };
  for (std::size_t r = 0; r < panel.rows; ++r) {
    for (std::size_t c = 0, end = 0; c < panel.cols; c = end) {
      for (end = c + 1; end < panel.cols && level(r, end) == level(r, c);) ++end;
      const std::string run = std::to_string(end - c);
      paths[level(r, c)] += "M" + std::to_string(c) + " " + std::to_string(r) + "h" + run + "v1h-" + run + "z";
    }
  }
  canvas.raw("<g shape-rendering=\"crispEdges\" transform=\"translate(" + coordinate(at.x) + " " + coordinate(at.y) +
             ") scale(" + shortest(cell) + ")\">\n");
  for (const auto& [colour, path] : paths) {
    canvas.raw("<path fill=\"" + (colour < 0 ? std::string(theme::grid) : palette_colour(palette, colour / 128.0)) +
               "\" d=\"" + path + "\"/>\n");
  }
  canvas.raw("</g>\n");
}

/// A bar with the colours from min to max, its ends and its label below.
inline void draw_legend(Canvas& canvas, const ColourScale& scale, std::pair<double, double> ends, Pixel at,
                        double width) {
  const int steps = 64;
  canvas.raw("<g shape-rendering=\"crispEdges\">\n");
  for (int i = 0; i < steps; ++i) {
    canvas.rect(at.x + width * i / steps, at.y, width / steps + 0.5 * (i + 1 < steps), 10,
                palette_colour(scale.palette, (i + 0.5) / steps));
  }
  canvas.raw("</g>\n");
  const TextStyle style{.size = 12, .colour = theme::muted};
  const auto number = [](double v) {
    return std::abs(v) >= 1000 ? fixed(v, 0) : significant(v, 2 + (std::abs(v) >= 100));
  };
  TextStyle end = style, middle = style;
  end.anchor = Anchor::end, middle.anchor = Anchor::middle;
  canvas.text({at.x, at.y + 26}, number(ends.first), style);
  canvas.text({at.x + width, at.y + 26}, number(ends.second), end);
  canvas.text({at.x + width / 2, at.y + 26}, scale.label, middle);
}

}  // namespace detail

/// The panels as SVG text; throws Error where a panel's values are not rows x cols or its scale does not exist.
inline std::string render(const HeatMap& map) {
  bool titles = false, captions = false;
  for (const HeatPanel& panel : map.panels) {
    deepstruct::check(panel.rows > 0 && panel.cols > 0 && panel.values.size() == panel.rows * panel.cols,
                      "heat_map: a panel needs rows x cols values (", panel.rows, " x ", panel.cols, ", ",
                      panel.values.size(), " values)");
    deepstruct::check(panel.scale < map.scales.size(), "heat_map: no such scale (", panel.scale, " of ",
                      map.scales.size(), ")");
    titles = titles || !panel.title.empty();
    captions = captions || !panel.caption.empty();
  }
  const double margin = 28, gap = 26, size = map.panel_size;
  const auto count = static_cast<double>(std::max<std::size_t>(1, map.panels.size()));
  const double words = std::max(text_width(map.title, 18), text_width(map.subtitle, 13));
  const double width = 2 * margin + std::max(count * size + (count - 1) * gap, words);
  const double top = 34 + (map.subtitle.empty() ? 0 : 22) + (titles ? 44 : 22);
  const double below = top + size + (captions ? 26 : 0) + 18;
  Canvas canvas(width, below + 26 + 24, map.title, map.subtitle);
  heading(canvas, margin, map.title, map.subtitle);

  double at = margin, legend_from = margin;
  for (std::size_t i = 0; i < map.panels.size(); ++i) {
    const HeatPanel& panel = map.panels[i];
    const double cell = size / static_cast<double>(std::max(panel.rows, panel.cols));
    const auto ends = detail::range(map, panel.scale);
    canvas.text({at, top - 12}, panel.title, {.size = 13, .bold = true});
    detail::draw_panel(canvas, panel, map.scales[panel.scale].palette, ends, {at, top}, cell);
    canvas.text({at, top + size + 20}, panel.caption, {.size = 12, .colour = theme::muted});
    if (i + 1 == map.panels.size() || map.panels[i + 1].scale != panel.scale) {
      detail::draw_legend(canvas, map.scales[panel.scale], ends, {legend_from, below}, at + size - legend_from);
      legend_from = at + size + gap;
    }
    at += size + gap;
  }
  return canvas.str();
}

/// Writes the panels to `path`.
inline void heat_map(const std::filesystem::path& path, const HeatMap& map) { write_file(path, render(map)); }

}  // namespace examples::svg
