// bar_chart: pairs of bars, before and after, each pair on its own scale, with the factor between them.
#pragma once

#include "../files.hpp"
#include "canvas.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace examples::svg {

/// What the numbers of a pair are: how they are written and what less and more of it is called.
enum class Unit { number, bytes, milliseconds, percent };

/// One pair of bars. An empty verdict becomes "10.8x smaller", "2.1x faster", ... by the unit.
struct BarPair {
  std::string label = {};
  double before = 0, after = 0;
  Unit unit = Unit::number;
  std::string verdict = {};
};

/// What bar_chart draws.
struct BarChart {
  std::string title = {}, subtitle = {};
  std::string before = "before", after = "after";
  std::vector<BarPair> pairs = {};
  bool shared_scale = false;  ///< all pairs on one scale, for pairs of the same unit
  double width = 760;
};

/// A value with its unit.
inline std::string unit_text(Unit unit, double value) {
  if (!std::isfinite(value)) return "–";
  switch (unit) {
    case Unit::bytes:
      return bytes_text(value);
    case Unit::milliseconds:
      return milliseconds_text(value);
    case Unit::percent:
      return fixed(100 * value, 1) + "\u00A0%";
    case Unit::number:
      break;
  }
  return std::abs(value) >= 1000 ? fixed(value, 0) : significant(value);
}

/// The factor between the two values of a pair in words.
inline std::string verdict_text(const BarPair& pair) {
  if (!pair.verdict.empty()) return pair.verdict;
  if (pair.unit == Unit::percent) {
    const double points = 100 * (pair.after - pair.before);
    return std::isfinite(points) ? (points < 0 ? "−" : "+") + fixed(std::abs(points), 1) + " points" : "";
  }
  const bool less = pair.after < pair.before;
  const double factor = less ? pair.before / pair.after : pair.after / pair.before;
  if (!std::isfinite(factor)) return "";
  if (factor < 1.005) return "the same";
  const std::string times = fixed(factor, factor < 2 ? 2 : factor < 99.95 ? 1 : 0) + "×";
  switch (pair.unit) {
    case Unit::milliseconds:
      return times + (less ? " faster" : " slower");
    case Unit::bytes:
      return times + (less ? " smaller" : " larger");
    default:
      return times + (less ? " fewer" : " more");
  }
}

/// The pairs as SVG text.
inline std::string render(const BarChart& chart) {
  const double margin = 28, bar = 15, row = 58;
  double labels = 0, values = 0, verdicts = 0, longest = 0;
  for (const BarPair& pair : chart.pairs) {
    labels = std::max(labels, text_width(pair.label, 13));
    verdicts = std::max(verdicts, text_width(verdict_text(pair), 13.5) * 1.06);
    for (const double v : {pair.before, pair.after}) {
      values = std::max(values, text_width(unit_text(pair.unit, v), 12));
      if (std::isfinite(v)) longest = std::max(longest, v);
    }
  }
  const double top = 34 + (chart.subtitle.empty() ? 0 : 22) + 28;
  Canvas canvas(chart.width, top + 22 + row * static_cast<double>(chart.pairs.size()) + 10, chart.title,
                chart.subtitle);
  heading(canvas, margin, chart.title, chart.subtitle);

  canvas.rect(margin, top - 10, 12, 12, theme::before, 2);
  canvas.text({margin + 19, top}, chart.before, {.size = 12.5});
  const double second = margin + 19 + text_width(chart.before, 12.5) + 20;
  canvas.rect(second, top - 10, 12, 12, theme::after, 2);
  canvas.text({second + 19, top}, chart.after, {.size = 12.5});

  const double left = margin + labels + 16;
  const double room = std::max(40.0, chart.width - margin - verdicts - 22 - values - 8 - left);
  double y = top + 22;
  for (const BarPair& pair : chart.pairs) {
    if (&pair != &chart.pairs.front()) canvas.line({margin, y}, {chart.width - margin, y}, theme::grid);
    const double first = y + row / 2 - bar - 1;
    double full = chart.shared_scale ? longest : 0;
    for (const double v : {pair.before, pair.after}) full = std::max(full, std::isfinite(v) ? v : 0);
    const auto draw = [&](double value, double at, std::string_view colour, std::string_view ink, bool bold) {
      const double length = full > 0 && value > 0 && std::isfinite(value) ? std::max(1.5, value / full * room) : 1.5;
      canvas.rect(left, at, length, bar, colour, std::min(2.0, length / 2));
      canvas.text({left + length + 7, at + bar - 3.2}, unit_text(pair.unit, value), {.colour = ink, .bold = bold});
    };
    canvas.text({left - 16, y + row / 2 + 4.5}, pair.label, {.size = 13, .anchor = Anchor::end});
    draw(pair.before, first, theme::before, theme::muted, false);
    draw(pair.after, first + bar + 2, theme::after, theme::ink, true);
    const bool neutral = pair.unit == Unit::percent, worse = pair.after > 1.005 * pair.before;
    const std::string_view verdict_ink = neutral ? theme::ink : worse ? theme::worse : theme::after;
    canvas.text({chart.width - margin, y + row / 2 + 4.5}, verdict_text(pair),
                {.size = 13.5, .colour = verdict_ink, .anchor = Anchor::end, .bold = true});
    y += row;
  }
  return canvas.str();
}

/// Writes the pairs to `path`.
inline void bar_chart(const std::filesystem::path& path, const BarChart& chart) { write_file(path, render(chart)); }

}  // namespace examples::svg
