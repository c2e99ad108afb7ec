// Pooling of images: the greatest or the average of windows, and averages to a given size.
#pragma once

#include <array>
#include <limits>

#include "../kernels/pool.hpp"
#include "shape.hpp"

namespace deepstruct {

/// Windows of max_pool2d and avg_pool2d; pairs are {height, width}.
struct Pool2dOptions {
  std::array<std::int64_t, 2> kernel = {2, 2};
  std::array<std::int64_t, 2> stride = {0, 0};    ///< between windows; 0: as far as the kernel reaches
  std::array<std::int64_t, 2> padding = {0, 0};   ///< on both sides, at most half of the kernel
  std::array<std::int64_t, 2> dilation = {1, 1};  ///< between places of a window; max_pool2d only
  bool ceil_mode = false;                         ///< a last window may reach beyond the padding, if it begins before
  bool count_include_pad = true;                  ///< avg_pool2d: padding counts as zeros
};

namespace detail {

/// What the windows along one extent read, and which windows read a place: the tables of a kernels::pool_windows.
class PoolAxis {
 public:
  /// Windows of `kernel` places, `dilation` apart; extent `in` is the height (axis 0) or the width (axis 1).
  PoolAxis(const char* op, std::int64_t in, const Pool2dOptions& o, std::size_t axis)
      : in_(in), step_(o.dilation[axis]) {
    const std::int64_t kernel = o.kernel[axis], stride = o.stride[axis], pad = o.padding[axis];
    check(kernel >= 1 && kernel <= limit, op, ": need 1 <= kernel <= ", limit, " (", kernel, ")");
    check(stride >= 1 && stride <= limit, op, ": need 1 <= stride <= ", limit, " (", stride, ")");
    check(step_ >= 1 && step_ <= limit, op, ": need 1 <= dilation <= ", limit, " (", step_, ")");
    check(pad >= 0 && pad <= kernel / 2, op, ": padding must be at most half of the kernel (", pad, " and ", kernel,
          ")");
    const std::int64_t reach = step_ * (kernel - 1) + 1, room = in + 2 * pad - reach + (o.ceil_mode ? stride - 1 : 0);
    check(in > 0 && room >= 0, op, ": x is smaller than a window (", in, " with padding ", pad, " and ", reach, ")");
    out_ = room / stride + 1;
    if ((out_ - 1) * stride >= in + pad) --out_;  // ceil_mode: the last window begins before the padding behind x
    allocate(op);
    for (std::int64_t k = 0; k < out_; ++k) {
      const std::int64_t start = k * stride - pad, end = std::min(start + reach, in);
      const std::int64_t begin = start < 0 ? start + (step_ - 1 - start) / step_ * step_ : start;
      check(begin < end, op, ": a window has no place in x (from ", start, " with dilation ", step_, ", of ", in, ")");
      set(k, begin, end, o.count_include_pad ? std::min(start + reach, in + pad) - start : end - begin);
    }
    // With dilation, where windows begin inside x need not rise: where they begin does.
    invert([&](std::int64_t k) { return std::max<std::int64_t>(0, k * stride - pad); });
  }
  /// Windows ⌊k·in/out⌋ … ⌈(k + 1)·in/out⌉ − 1.
  PoolAxis(const char* op, std::int64_t in, std::int64_t out) : in_(in), out_(out) {
    check(in > 0, op, ": x has no places (extent ", in, ")");
    check(out >= 1 && out <= limit, op, ": need 1 <= output <= ", limit, " (", out, ")");
    allocate(op);
    const auto begin = [&](std::int64_t k) { return k * in / out; };
    for (std::int64_t k = 0; k < out; ++k) {
      const std::int64_t end = ((k + 1) * in + out - 1) / out;
      set(k, begin(k), end, end - begin(k));
    }
    invert(begin);
  }

  std::int64_t out() const { return out_; }
  /// The same for the kernels of a device.
  PoolAxis on_device(Device device) && {
    table_ = to(std::move(table_), device);
    return std::move(*this);
  }
  kernels::pool_windows view() const {
    const std::int32_t* t = table_.data();
    return {in_, out_, step_, t, t + out_, t + 2 * out_, t + 3 * out_, t + 3 * out_ + in_};
  }

 private:
  static constexpr std::int64_t limit = 1 << 20;

  void allocate(const char* op) {
    check(in_ <= limit, op, ": an image may have at most ", limit, " rows and columns (", in_, ")");
    table_ = Indices::empty({3 * out_ + 2 * in_});
  }
  void set(std::int64_t k, std::int64_t begin, std::int64_t end, std::int64_t count) {
    std::int32_t* t = table_.data();
    t[k] = static_cast<std::int32_t>(begin);
    t[out_ + k] = static_cast<std::int32_t>(end);
    t[2 * out_ + k] = static_cast<std::int32_t>(count);
  }
  /// For every place the windows that may read it; lower(k), at most where window k begins, rises with k as ends do.
  template <class F>
  void invert(F&& lower) {
    const std::int32_t* end = table_.data() + out_;
    std::int32_t *first = table_.data() + 3 * out_, *last = first + in_;
    std::int32_t a = 0, b = 0;
    for (std::int64_t i = 0; i < in_; ++i) {
      while (a < out_ && end[a] <= i) ++a;
      while (b < out_ && lower(b) <= i) ++b;
      first[i] = a;
      last[i] = b;
    }
  }

  std::int64_t in_, out_ = 0, step_ = 1;
  Indices table_;
};

/// The windows of a pooling op over images x [b, c, h, w], and the shape of its result.
struct PoolWindows {
  PoolAxis rows, cols;
  Shape x, y;

  PoolWindows(PoolAxis of_rows, PoolAxis of_cols, const Var& image)
      : rows(std::move(of_rows).on_device(image.device())),
        cols(std::move(of_cols).on_device(image.device())),
        x(image.shape()),
        y{x[0], x[1], rows.out(), cols.out()} {}
};
inline void check_images(const char* op, const Shape& x) {
  check(x.rank() == 4, op, ": x must be [b, c, h, w] (", x, ")");
  check(x[2] == 0 || x[3] <= std::numeric_limits<std::int32_t>::max() / x[2], op, ": an image is too large (", x, ")");
}
inline PoolWindows pool_windows(const char* op, const Var& x, const Pool2dOptions& o) {
  check_images(op, x.shape());
  return {PoolAxis(op, x.shape()[2], o, 0), PoolAxis(op, x.shape()[3], o, 1), x};
}
/// The options with the stride that 0 stands for.
inline Pool2dOptions with_stride(Pool2dOptions o) {
  for (std::size_t k = 0; k < 2; ++k)
    if (o.stride[k] == 0) o.stride[k] = o.kernel[k];
  return o;
}
inline Shape shape_of(const std::array<std::int64_t, 2>& pair) { return {pair[0], pair[1]}; }

Var average(std::string_view op, const Var& x, PoolWindows w, std::initializer_list<Attribute> attributes);

/// dx of an average, an op whose derivative is the average.   dy [b, c, oh, ow] → dx [b, c, h, w]
inline Var average_dx(const Var& dy, const PoolWindows& w) {
  Tensor dx = Tensor::empty(w.x, dy.device());
  on(dx.device(),
     [&](auto device) { kernels::avg_pool_dx(device, dy.value().view(), w.rows.view(), w.cols.view(), dx.view()); });
  return record(
      "avg_pool_dx", std::move(dx), {dy}, {},
      [w](const Var& g, const Var&, std::span<const Var>, std::span<Var> d) { d[0] = average("avg_pool", g, w, {}); });
}
/// The average of every window.   x [b, c, h, w] → y [b, c, oh, ow]
inline Var average(std::string_view op, const Var& x, PoolWindows w, std::initializer_list<Attribute> attributes) {
  Tensor y = Tensor::empty(w.y, x.device());
  on(y.device(),
     [&](auto device) { kernels::avg_pool(device, x.value().view(), w.rows.view(), w.cols.view(), y.view()); });
  return record(op, std::move(y), {x}, attributes,
                [w = std::move(w)](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) {
                  dx[0] = average_dx(dy, w);
                });
}

}  // namespace detail

/// y = the greatest entry of every window of an image; padding is never chosen, NaN is the greatest. The first of
/// equals takes the gradient.   x [b, c, h, w] → [b, c, oh, ow], oh = ⌊(h + 2·padding − dilation·(kernel − 1) −
/// 1)/stride⌋ + 1, or ⌈…⌉ with ceil_mode, where a window that would begin behind x and the padding before it is left
/// out. O(kernel places) per entry. Throws unless every window has a place in x, and on options outside their ranges.
inline Var max_pool2d(const Var& x, const Pool2dOptions& options = {}) {
  const Pool2dOptions o = detail::with_stride(options);
  auto w = detail::pool_windows("max_pool2d", x, o);
  Tensor y = Tensor::empty(w.y, x.device());
  const bool keep = grad_enabled() && x.wants_grad();
  Indices index = Indices::empty(keep ? Shape{w.y[0], w.y[1], w.y[2] * w.y[3]} : Shape{0}, x.device());
  on(y.device(), [&](auto device) {
    kernels::max_pool(device, x.value().view(), w.rows.view(), w.cols.view(), y.view(), keep ? index.data() : nullptr);
  });
  return record(
      "max_pool2d", std::move(y), {x},
      {{"kernel", detail::shape_of(o.kernel)},
       {"stride", detail::shape_of(o.stride)},
       {"padding", detail::shape_of(o.padding)},
       {"dilation", detail::shape_of(o.dilation)},
       {"ceil_mode", std::int64_t{o.ceil_mode}}},
      [w = std::move(w), index = std::move(index)](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) {
        if (recording()) {
          const Shape image{w.x[0], w.x[1], w.x[2] * w.x[3]};
          dx[0] = reshape(scatter_add(reshape(dy, index.shape()), index, image, 2), w.x);
          return;
        }
        Tensor out = Tensor::empty(w.x, dy.device());
        on(out.device(), [&](auto device) {
          kernels::max_pool_dx(device, dy.value().view(), index.data(), w.rows.view(), w.cols.view(), out.view());
        });
        dx[0] = std::move(out);
      });
}

/// y = the sum of every window of an image over its number of places, with count_include_pad those in the padding too.
///   x [b, c, h, w] → [b, c, oh, ow] as in max_pool2d. Windows have no dilation. Throws on options outside their
///   ranges.
inline Var avg_pool2d(const Var& x, const Pool2dOptions& options = {}) {
  const Pool2dOptions o = detail::with_stride(options);
  check(o.dilation[0] == 1 && o.dilation[1] == 1, "avg_pool2d: windows have no dilation (", o.dilation[0], ", ",
        o.dilation[1], ")");
  auto w = detail::pool_windows("avg_pool2d", x, o);
  return detail::average("avg_pool2d", x, std::move(w),
                         {{"kernel", detail::shape_of(o.kernel)},
                          {"stride", detail::shape_of(o.stride)},
                          {"padding", detail::shape_of(o.padding)},
                          {"ceil_mode", std::int64_t{o.ceil_mode}},
                          {"count_include_pad", std::int64_t{o.count_include_pad}}});
}

/// y[i, j] = the average over rows ⌊i·h/oh⌋ … ⌈(i + 1)·h/oh⌉ − 1 and columns alike: images of any size become ones of
/// size `output`.   x [b, c, h, w] → [b, c, oh, ow]; {1, 1} averages whole images. Throws on an extent of 0.
inline Var adaptive_avg_pool2d(const Var& x, const std::array<std::int64_t, 2>& output) {
  constexpr const char* op = "adaptive_avg_pool2d";
  detail::check_images(op, x.shape());
  const Shape& s = x.shape();
  detail::PoolWindows w{detail::PoolAxis(op, s[2], output[0]), detail::PoolAxis(op, s[3], output[1]), x};
  return detail::average(op, x, std::move(w), {{"output", detail::shape_of(output)}});
}

}  // namespace deepstruct
