// line_chart: one or more series over one axis, with labels at chosen points that keep clear of each other.
#pragma once

#include "../files.hpp"
#include "axis.hpp"
#include "canvas.hpp"
#include "labels.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

namespace examples::svg {

/// A data point; a whisker goes from low to high where both are finite.
struct Point {
  double x = 0, y = 0;
  double low = NAN, high = NAN;
};

/// One line of a chart. Points that are not finite on the chart's scales leave a gap.
struct Series {
  std::string name = {};
  std::vector<Point> points = {};
  bool label_last = true;
  std::vector<std::size_t> labels = {};  ///< further points that get their value written
  bool markers = true;
  bool dashed = false;
};

/// A dashed horizontal line with a name, such as the accuracy before pruning.
struct Reference {
  std::string name = {};
  double y = 0;
};

/// What line_chart draws.
struct LineChart {
  std::string title = {}, subtitle = {};
  Axis x = {}, y = {};
  std::vector<Series> series = {};
  std::vector<Reference> references = {};
  double width = 760, height = 440;
};

namespace detail {

/// A value to be written at its point.
struct Label {
  Pixel at;
  std::string text;
  std::size_t series = 0;
};

/// Draws one LineChart; each step paints over the ones before.
class LinePainter {
 public:
  explicit LinePainter(const LineChart& chart)
      : chart_(chart), canvas_(chart.width, chart.height, chart.title, chart.subtitle) {
    std::vector<double> xs, ys;
    for (const Series& series : chart.series) {
      for (const Point& p : series.points) {
        if (!drawable(p)) continue;
        xs.push_back(p.x), ys.push_back(p.y);
        if (has_whisker(p)) ys.push_back(p.low), ys.push_back(p.high);
        if (series.label_last) gutter_ = std::max(gutter_, text_width(label_text(chart.y, p.y), kLabel));
      }
    }
    empty_ = xs.empty();
    for (const Reference& reference : chart.references) ys.push_back(reference.y);
    x_ = fit(chart.x, xs, false);
    y_ = fit(chart.y, ys, true);
    top_ = heading(canvas_, kMargin, chart.title, chart.subtitle);
    if (chart.series.size() > 1) legend();
    axes();
    references();
    for (std::size_t i = 0; i < chart.series.size(); ++i) line(i);
    words();
  }
  /// The picture.
  std::string str() const { return canvas_.str(); }

 private:
  static constexpr double kMargin = 28, kLabel = 12.5;

  static std::string_view colour(std::size_t i) { return theme::series[i % theme::series.size()]; }
  bool drawable(const Point& p) const {
    return std::isfinite(transform(chart_.x.scale, p.x)) && std::isfinite(transform(chart_.y.scale, p.y));
  }
  bool has_whisker(const Point& p) const {
    return std::isfinite(transform(chart_.y.scale, p.low)) && std::isfinite(transform(chart_.y.scale, p.high));
  }
  double height(double y) const { return bottom_ - y_.unit(y) * (bottom_ - top_); }
  Pixel pixel(const Point& p) const { return {left_ + 10 + x_.unit(p.x) * (right_ - left_ - 10), height(p.y)}; }

  /// Names and colours of the series, in as many rows as they need.
  void legend() {
    double at = kMargin;
    top_ += 28;
    for (std::size_t i = 0; i < chart_.series.size(); ++i) {
      const Series& series = chart_.series[i];
      const double width = text_width(series.name, kLabel);
      if (at > kMargin && at + 34 + width > chart_.width - kMargin) at = kMargin, top_ += 20;
      canvas_.line({at + 1, top_ - 4.3}, {at + 27, top_ - 4.3}, colour(i), 2.25, series.dashed ? "6 5" : "");
      if (series.markers) canvas_.circle({at + 14, top_ - 4.3}, 4, colour(i));
      canvas_.text({at + 34, top_}, series.name, {.size = kLabel});
      at += 34 + width + 16;
    }
  }

  /// Grid, axes and their ticks; the name of y stands above its ticks.
  void axes() {
    double widest = 0;
    for (const double tick : y_.ticks) widest = std::max(widest, text_width(y_.tick_text(tick), 12));
    canvas_.text({kMargin, top_ + 30}, chart_.y.label, {.colour = theme::muted});
    left_ = kMargin + widest + 10, right_ = chart_.width - kMargin - std::max(16.0, gutter_ + 12);
    top_ += 52, bottom_ = chart_.height - (chart_.x.label.empty() ? 36 : 58);
    for (const double tick : y_.ticks) {
      canvas_.line({left_, height(tick)}, {right_, height(tick)}, theme::grid);
      canvas_.text({left_ - 10, height(tick) + 4.2}, y_.tick_text(tick),
                   {.colour = theme::muted, .anchor = Anchor::end});
    }
    canvas_.line({left_, bottom_}, {right_, bottom_}, theme::axis);
    double end = -HUGE_VAL;
    for (const double tick : x_.ticks) {
      const double at = pixel({tick, 0}).x, half = text_width(x_.tick_text(tick), 12) / 2;
      canvas_.line({at, bottom_}, {at, bottom_ + 5}, theme::axis);
      if (at - half < end + 6) continue;  // no room for its text
      canvas_.text({at, bottom_ + 20}, x_.tick_text(tick), {.colour = theme::muted, .anchor = Anchor::middle});
      end = at + half;
    }
    const double middle = (left_ + right_) / 2;
    canvas_.text({middle, bottom_ + 42}, chart_.x.label, {.colour = theme::muted, .anchor = Anchor::middle});
    if (empty_) canvas_.text({middle, (top_ + bottom_) / 2}, "no data", {.size = 14, .anchor = Anchor::middle});
    placer_ = LabelPlacer({left_ + 2, top_ - 12, right_ + 30, bottom_ - 3});
  }

  void references() {
    for (const Reference& reference : chart_.references) {
      const double at = height(reference.y);
      if (!std::isfinite(at)) continue;
      canvas_.line({left_, at}, {right_, at}, theme::muted, 1.25, "4 4");
      placer_.avoid({left_, at}, {right_, at});
    }
  }

  /// One series: its line in unbroken runs, its markers, and the labels it wants.
  void line(std::size_t i) {
    const Series& series = chart_.series[i];
    std::vector<Pixel> run, marks;
    std::size_t last = series.points.size();
    const auto draw = [&] {
      canvas_.polyline(run, colour(i), 2.25, series.dashed ? "6 5" : "");
      for (std::size_t k = 0; k + 1 < run.size(); ++k) placer_.avoid(run[k], run[k + 1]);
      if (run.size() == 1 || (series.markers && series.points.size() <= 40))
        marks.insert(marks.end(), run.begin(), run.end());
      run.clear();
    };
    for (std::size_t k = 0; k < series.points.size(); ++k) {
      if (!drawable(series.points[k]))
        draw();
      else
        run.push_back(pixel(series.points[k])), last = k;
    }
    draw();
    for (const Point& p : series.points) {
      if (!drawable(p) || !has_whisker(p) || p.low == p.high) continue;
      const Pixel low = pixel({p.x, p.low}), high = pixel({p.x, p.high});
      canvas_.line(low, high, colour(i), 1.25);
      for (const Pixel& end : {low, high}) canvas_.line({end.x - 4, end.y}, {end.x + 4, end.y}, colour(i), 1.25);
      placer_.avoid(low, high);
    }
    for (const Pixel& mark : marks) {
      canvas_.circle(mark, 4, colour(i));
      placer_.avoid({mark.x - 2, mark.y}, {mark.x + 2, mark.y});
    }
    for (std::size_t k = 0; k <= last && last < series.points.size(); ++k) {
      const bool at_end = k == last && series.label_last;
      const bool chosen = std::find(series.labels.begin(), series.labels.end(), k) != series.labels.end();
      const Point& p = series.points[k];
      if (!drawable(p) || !(at_end || chosen)) continue;
      const Label label{pixel(p), label_text(chart_.y, p.y), i};
      (at_end && label.at.x > right_ - 2 ? at_end_ : inside_).push_back(label);
    }
  }

  /// Labels beside the last points, then those within the chart, then the names of the reference lines.
  void words() {
    const auto style = [](std::size_t series) {
      return TextStyle{.size = kLabel, .colour = colour(series), .bold = true, .halo = true};
    };
    std::sort(at_end_.begin(), at_end_.end(), [](const Label& a, const Label& b) { return a.at.y < b.at.y; });
    std::vector<double> heights;
    for (const Label& label : at_end_) heights.push_back(label.at.y);
    heights = spread(heights, 15.5);
    for (std::size_t k = 0; k < at_end_.size(); ++k) {
      const Pixel at{at_end_[k].at.x + 9, heights[k] + 4.4};
      canvas_.text(at, at_end_[k].text, style(at_end_[k].series));
      placer_.occupy(at, text_width(at_end_[k].text, kLabel), kLabel);
    }
    for (const Reference& reference : chart_.references) {
      const double at = height(reference.y), above = at - 6, below = at + 15;
      if (!std::isfinite(at)) continue;
      const std::string text = reference.name + " " + label_text(chart_.y, reference.y);
      const double width = text_width(text, 12), left = left_ + 6, right = right_ - 14 - width;
      const Pixel places[] = {{right, above}, {right, below}, {left, above}, {left, below}};
      const Pixel place = placer_.best(places, width, 12);
      TextStyle look{.size = 12, .colour = theme::muted, .halo = true};
      if (place.x != right) {
        canvas_.text(place, text, look);
      } else {
        look.anchor = Anchor::end;
        canvas_.text({place.x + width, place.y}, text, look);
      }
    }
    for (const Label& label : inside_) {
      const double width = text_width(label.text, kLabel);
      const Pixel at = placer_.near(label.at, width, kLabel);
      TextStyle centred = style(label.series);  // so that a narrower font than assumed stays centred
      centred.anchor = Anchor::middle;
      canvas_.text({at.x + width / 2, at.y}, label.text, centred);
    }
  }

  const LineChart& chart_;
  Canvas canvas_;
  FittedAxis x_, y_;
  bool empty_ = true;
  double gutter_ = 0, left_ = 0, right_ = 0, top_ = 0, bottom_ = 0;
  LabelPlacer placer_{Box{}};
  std::vector<Label> at_end_, inside_;
};

}  // namespace detail

/// The chart as SVG text.
inline std::string render(const LineChart& chart) { return detail::LinePainter(chart).str(); }

/// Writes the chart to `path`.
inline void line_chart(const std::filesystem::path& path, const LineChart& chart) { write_file(path, render(chart)); }

}  // namespace examples::svg
