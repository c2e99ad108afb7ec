// Places for words in a picture: near their points and clear of lines, markers and each other.
#pragma once

#include "canvas.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace examples::svg {

namespace detail {

/// A rectangle that words occupy.
struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
};

/// How many pixels two boxes share.
inline double overlap(const Box& a, const Box& b) {
  const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
  const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  return width > 0 && height > 0 ? width * height : 0;
}

/// Keeps what is drawn already and finds the clearest place for the next label.
class LabelPlacer {
 public:
  explicit LabelPlacer(Box frame) : frame_(frame) {}
  /// Something labels must keep off, as small boxes along a segment.
  void avoid(Pixel a, Pixel b) {
    const int steps = std::max(1, static_cast<int>(std::hypot(b.x - a.x, b.y - a.y) / 4));
    for (int i = 0; i <= steps; ++i) {
      const double t = static_cast<double>(i) / steps, x = a.x + t * (b.x - a.x), y = a.y + t * (b.y - a.y);
      taken_.push_back({x - 4, y - 4, x + 4, y + 4});
    }
  }
  /// The left end of the baseline for a text near `point`; the place is then taken.
  Pixel near(Pixel point, double width, double size) {
    std::vector<Pixel> places;
    for (const double gap : {9.0, 15.0, 24.0}) {
      const double middle = point.x - width / 2, right = point.x + 0.6 * gap, left = point.x - 0.6 * gap - width;
      const double above = point.y - 0.7 * gap, below = point.y + gap + 0.5 * size, beside = point.y + 0.35 * size;
      places.insert(places.end(), {{middle, point.y - gap},
                                   {middle, point.y + gap + 0.8 * size},
                                   {point.x + gap, beside},
                                   {point.x - gap - width, beside},
                                   {right, above},
                                   {left, above},
                                   {right, below},
                                   {left, below}});
    }
    return best(places, width, size);
  }
  /// The clearest of these places, the first ones preferred; it is then taken.
  Pixel best(std::span<const Pixel> places, double width, double size) {
    Pixel chosen{};
    double least = HUGE_VAL;
    for (const Pixel& place : places) {
      const Box box = around(place, width, size);
      const double area = (box.right - box.left) * (box.bottom - box.top);
      double cost = static_cast<double>(&place - places.data()) + 50 * (1 - overlap(box, frame_) / area);
      for (const Box& other : taken_) cost += 100 * overlap(box, other) / area;
      for (const Box& other : words_) cost += 1000 * overlap(box, other) / area;
      if (cost < least) least = cost, chosen = place;
    }
    words_.push_back(around(chosen, width, size));
    return chosen;
  }
  /// Words that stand already.
  void occupy(Pixel baseline, double width, double size) { words_.push_back(around(baseline, width, size)); }

 private:
  static Box around(Pixel baseline, double width, double size) {
    return {baseline.x - 2, baseline.y - 0.82 * size - 1, baseline.x + width + 2, baseline.y + 0.25 * size + 1};
  }
  Box frame_;
  std::vector<Box> taken_, words_;
};

/// Heights for labels beside points at these heights (ascending): as near as a distance of `pitch` allows.
inline std::vector<double> spread(std::vector<double> heights, double pitch) {
  // Blocks of labels that push each other move to their mean.
  struct Block {
    double centre;
    std::size_t count;
  };
  std::vector<Block> blocks;
  for (const double height : heights) {
    blocks.push_back({height, 1});
    while (blocks.size() > 1) {
      Block& a = blocks[blocks.size() - 2];
      const Block& b = blocks.back();
      const double na = static_cast<double>(a.count), nb = static_cast<double>(b.count);
      if (b.centre - a.centre >= (na + nb) / 2 * pitch) break;
      a = {(na * a.centre + nb * b.centre) / (na + nb), a.count + b.count};
      blocks.pop_back();
    }
  }
  std::size_t i = 0;
  for (const Block& block : blocks) {
    for (std::size_t k = 0; k < block.count; ++k)
      heights[i++] = block.centre + (static_cast<double>(k) - static_cast<double>(block.count - 1) / 2) * pitch;
  }
  return heights;
}

}  // namespace detail

}  // namespace examples::svg
