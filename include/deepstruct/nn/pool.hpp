// Pooling layers of image networks, and the layer that does nothing.
#pragma once

#include "../ops/pool.hpp"
#include "module.hpp"

namespace deepstruct {

/// y = the greatest entry of every window: max_pool2d as a module.   [b, c, h, w] → [b, c, oh, ow]
struct MaxPool2d {
  Pool2dOptions options;

  explicit MaxPool2d(const Pool2dOptions& o) : options(o) {}
  /// Square windows; stride 0 is that of the kernel.
  explicit MaxPool2d(std::int64_t kernel, std::int64_t stride = 0, std::int64_t padding = 0)
      : options{.kernel = {kernel, kernel}, .stride = {stride, stride}, .padding = {padding, padding}} {}

  Var operator()(const Var& x) const { return max_pool2d(x, options); }
  static auto fields(auto&) { return std::tuple{}; }
};

/// y = the average of every window: avg_pool2d as a module.   [b, c, h, w] → [b, c, oh, ow]
struct AvgPool2d {
  Pool2dOptions options;

  explicit AvgPool2d(const Pool2dOptions& o) : options(o) {}
  /// Square windows; stride 0 is that of the kernel.
  explicit AvgPool2d(std::int64_t kernel, std::int64_t stride = 0, std::int64_t padding = 0)
      : options{.kernel = {kernel, kernel}, .stride = {stride, stride}, .padding = {padding, padding}} {}

  Var operator()(const Var& x) const { return avg_pool2d(x, options); }
  static auto fields(auto&) { return std::tuple{}; }
};

/// y = averages that make any image one of size `output`; {1, 1} averages whole images.   [b, c, h, w] → [b, c, oh, ow]
struct AdaptiveAvgPool2d {
  std::array<std::int64_t, 2> output = {1, 1};

  explicit AdaptiveAvgPool2d(const std::array<std::int64_t, 2>& size) : output(size) {}
  explicit AdaptiveAvgPool2d(std::int64_t size = 1) : AdaptiveAvgPool2d(std::array{size, size}) {}

  Var operator()(const Var& x) const { return adaptive_avg_pool2d(x, output); }
  static auto fields(auto&) { return std::tuple{}; }
};

/// y = x: the shortcut of a residual block that changes no shape.
struct Identity {
  Var operator()(const Var& x) const { return x; }
  static auto fields(auto&) { return std::tuple{}; }
};

}  // namespace deepstruct
