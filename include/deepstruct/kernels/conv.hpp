// Convolution on the CPU: images in blocks of 16 samples, dense and sparse kernels over tables of taps.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "../core/parallel.hpp"
#include "../simd/lanes.hpp"
#include "../simd/pick.hpp"
#include "contract.hpp"

#include "../simd/baseline_begin.hpp"
#include "conv.inl"
#include "../simd/end.hpp"

#include "../simd/avx2_begin.hpp"
#include "conv.inl"
#include "../simd/end.hpp"

#include "../simd/avx512_begin.hpp"
#include "conv.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

inline void conv_pack(cpu, conv_image<const float> x, std::int64_t top, std::int64_t left, conv_blocks y) {
  const std::int64_t planes = y.blocks * y.channels, plane = y.height * y.width * conv_lanes;
  parallel_blocks(planes, std::max<std::int64_t>(1, (1 << 16) / std::max<std::int64_t>(1, plane)),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t k = begin; k < end; ++k) {
                      const std::int64_t lane = k / y.channels * conv_lanes,
                                         lanes = std::min(conv_lanes, x.lanes - lane);
                      float* to = y.data + k * plane;
                      for (std::int64_t h = 0; h < y.height; ++h) {
                        const bool inside = h >= top && h - top < x.height;
                        const std::int64_t first = inside ? std::min(left, y.width) : y.width,
                                           last = inside ? std::min(y.width, left + x.width) : y.width;
                        std::fill_n(to, first * conv_lanes, 0.0f);
                        to += first * conv_lanes;
                        const float* from = x.data + k % y.channels * x.channel + (h - top) * x.row + lane;
                        for (std::int64_t w = first; w < last; ++w, from += x.pixel, to += conv_lanes) {
                          if (lanes == conv_lanes) {
                            std::memcpy(to, from, conv_lanes * sizeof(float));
                          } else {
                            std::fill_n(to, conv_lanes, 0.0f);
                            std::copy_n(from, lanes, to);
                          }
                        }
                        std::fill_n(to, (y.width - last) * conv_lanes, 0.0f);
                        to += (y.width - last) * conv_lanes;
                      }
                    }
                  });
}

inline void conv_unfold(cpu, conv_image<const float> x, std::int64_t top, conv_columns columns, conv_blocks y) {
  const std::int64_t all = x.width * columns.samples;
  parallel_for(y.blocks * y.width, [&](std::int64_t part) {
    const std::int64_t n = part / y.width, j = part % y.width;
    std::int64_t from[conv_lanes];  // −1: outside
    for (std::int64_t l = 0; l < conv_lanes; ++l) {
      const std::int64_t lane = n * conv_lanes + l, sample = lane % columns.samples;
      const std::int64_t scaled = lane / columns.samples * columns.step + columns.offset - j * columns.back;
      const std::int64_t at = scaled / columns.divisor * columns.samples + sample;
      from[l] = lane < x.lanes && scaled % columns.divisor == 0 && scaled >= 0 && at < all ? at : -1;
    }
    std::int64_t first = 0, last = conv_lanes;  // a run of neighbours, as most are
    while (first < conv_lanes && from[first] < 0) ++first;
    while (last > first && from[last - 1] < 0) --last;
    bool run = true;
    for (std::int64_t l = first; l < last; ++l) run = run && from[l] == from[first] + l - first;
    for (std::int64_t c = 0; c < y.channels; ++c)
      for (std::int64_t h = 0; h < y.height; ++h) {
        float* to = y.data + (((n * y.channels + c) * y.height + h) * y.width + j) * conv_lanes;
        const bool inside = h >= top && h - top < x.height && first < last;
        const float* row = x.data + c * x.channel + (h - top) * x.row;
        if (inside && run && last - first == conv_lanes) {
          std::memcpy(to, row + from[0], conv_lanes * sizeof(float));
          continue;
        }
        std::fill_n(to, conv_lanes, 0.0f);
        if (!inside) continue;
        if (run)
          std::copy_n(row + from[first], last - first, to + first);
        else
          for (std::int64_t l = first; l < last; ++l) to[l] = from[l] >= 0 ? row[from[l]] : 0.0f;
      }
  });
}

/// Rows of pixels per part: some 50 µs of work, but at least what a tile takes (pixels of a single column lie along
/// it).
inline std::int64_t conv_part_rows(const conv_image<float>& y, std::int64_t work_per_row) {
  const std::int64_t least = y.width == 1   ? 16
                             : y.width < 16 ? 4
                                            : 1,
                     wanted = (std::int64_t{1} << 21) / std::max<std::int64_t>(1, work_per_row) / least * least;
  return std::max<std::int64_t>(1, std::min(y.height, std::max(least, wanted)));
}
/// Some rows of pixels of block n; tiles lie along the pixels, so a single column is taken for a row.
struct conv_strip {
  conv_strip(const conv_walk& from, const conv_image<float>& to, std::int64_t n, std::int64_t first, std::int64_t most)
      : x(from.data + n * from.block + first * from.row),
        x_row(from.row),
        x_pixel(from.pixel),
        y(to.data + first * to.row + n * conv_lanes),
        y_row(to.row),
        y_pixel(to.pixel),
        height(std::min(most, to.height - first)),
        pixels(to.width),
        lanes(to.padded ? conv_lanes : std::min(conv_lanes, to.lanes - n * conv_lanes)) {
    if (pixels != 1) return;
    std::swap(x_row, x_pixel);
    std::swap(y_row, y_pixel);
    std::swap(height, pixels);
  }
  const float* x;
  std::int64_t x_row, x_pixel;
  float* y;
  std::int64_t y_row, y_pixel, height, pixels, lanes;
};

inline void conv_dense(cpu, conv_walk x, std::int64_t groups, std::int64_t depth, const conv_tap* tap,
                       std::int64_t taps, const float* w, std::int64_t w_row, std::int64_t w_group, const float* bias,
                       conv_image<float> y) {
  const auto body = simd::pick(&baseline::conv_dense, &avx2::conv_dense, &avx512::conv_dense);
  constexpr std::int64_t most = 96;  // channels of a part: a multiple of every tile
  const std::int64_t rows = y.channels / groups, slices = (rows + most - 1) / most,
                     blocks = (y.lanes + conv_lanes - 1) / conv_lanes,
                     high = conv_part_rows(y, std::min(rows, most) * taps * y.width * conv_lanes),
                     strips = (y.height + high - 1) / high;
  parallel_for(blocks * strips * groups * slices, [&](std::int64_t part) {
    const std::int64_t slice = part % slices, g = part / slices % groups, h = part / slices / groups % strips * high,
                       n = part / slices / groups / strips, r = slice * most, c = g * rows + r;
    const conv_strip s(x, y, n, h, high);
    body(s.x + g * depth * x.channel, s.x_row, s.x_pixel, tap, taps, w + g * w_group + r * w_row, w_row,
         std::min(most, rows - r), bias ? bias + c : nullptr, s.y + c * y.channel, y.channel, s.y_row, s.y_pixel,
         s.height, s.pixels, s.lanes);
  });
}

inline void conv_sparse(cpu, conv_walk x, const std::int32_t* start, const conv_tap* tap, std::int64_t first,
                        std::int64_t most, const float* values, const float* bias, conv_image<float> y) {
  const auto body = simd::pick(&baseline::conv_sparse, &avx2::conv_sparse, &avx512::conv_sparse);
  const std::int64_t blocks = (y.lanes + conv_lanes - 1) / conv_lanes,
                     work = (start[y.channels] + 4 * y.channels) * y.width * conv_lanes, high = conv_part_rows(y, work),
                     strips = (y.height + high - 1) / high;
  parallel_for(blocks * strips, [&](std::int64_t part) {
    const conv_strip s(x, y, part / strips, part % strips * high, high);
    for (std::int64_t c = 0; c < y.channels; ++c) {
      const std::int64_t from = std::min<std::int64_t>(start[c] + first, start[c + 1]);
      body(s.x, s.x_row, s.x_pixel, tap + from, std::min<std::int64_t>(most, start[c + 1] - from), values,
           bias ? bias[c] : 0.0f, s.y + c * y.channel, s.y_row, s.y_pixel, s.height, s.pixels, s.lanes);
    }
  });
}

/// Calls f(block, first row, rows, first pixel, pixels) for parts of the pixels of all samples, each of at most 4096
/// terms in float32: the parts of a sum in double.
template <class F>
void conv_for_parts(const conv_image<const float>& size, F&& f) {
  constexpr std::int64_t most = 4096 / conv_lanes;
  const std::int64_t wide = std::min(size.width, most), high = wide == 0 ? 1 : std::max<std::int64_t>(1, most / wide);
  for (std::int64_t n = 0; n * conv_lanes < size.lanes; ++n)
    for (std::int64_t h = 0; h < size.height; h += high)
      for (std::int64_t w = 0; w < size.width; w += wide)
        f(n, h, std::min(high, size.height - h), w, std::min(wide, size.width - w));
}

inline void conv_dense_dw(cpu, conv_walk x, conv_walk dy, conv_image<const float> size, std::int64_t groups,
                          std::int64_t depth, const conv_tap* tap, std::int64_t taps, double* sums, float* dw) {
  const auto body = simd::pick(&baseline::conv_dense_dw, &avx2::conv_dense_dw, &avx512::conv_dense_dw);
  const std::int64_t high = *simd::pick(&baseline::conv_dw_rows, &avx2::conv_dw_rows, &avx512::conv_dw_rows);
  constexpr std::int64_t most = 72;  // taps of a part: a multiple of every tile
  const std::int64_t rows = size.channels / groups, strips = (rows + high - 1) / high,
                     slices = (taps + most - 1) / most;
  parallel_for(groups * strips * slices, [&](std::int64_t part) {
    const std::int64_t t = part % slices * most, strip = part / slices, g = strip / strips, r = strip % strips * high,
                       c = g * rows + r, count = std::min(most, taps - t), some = std::min(high, rows - r);
    double* to = sums + c * taps + t;
    for (std::int64_t k = 0; k < some; ++k) std::fill_n(to + k * taps, count, 0.0);
    conv_for_parts(size, [&](std::int64_t n, std::int64_t h, std::int64_t height, std::int64_t w, std::int64_t pixels) {
      body(x.data + n * x.block + g * depth * x.channel + h * x.row + w * x.pixel, x.row, x.pixel, tap + t, count,
           dy.data + n * dy.block + c * dy.channel + h * dy.row + w * dy.pixel, dy.channel, dy.row, dy.pixel, some,
           height, pixels, to, taps);
    });
    for (std::int64_t k = 0; k < some; ++k)
      for (std::int64_t j = 0; j < count; ++j) dw[tap[t + j].weight + c + k] = static_cast<float>(to[k * taps + j]);
  });
}

inline void conv_sparse_dw(cpu, conv_walk x, conv_walk dy, conv_image<const float> size, const std::int32_t* start,
                           const conv_tap* tap, double* sums, float* dw) {
  const auto body = simd::pick(&baseline::conv_sparse_dw, &avx2::conv_sparse_dw, &avx512::conv_sparse_dw);
  parallel_for((size.channels + 3) / 4, [&](std::int64_t part) {
    const std::int64_t begin = part * 4, end = std::min(size.channels, begin + 4);
    std::fill(sums + start[begin], sums + start[end], 0.0);
    conv_for_parts(size, [&](std::int64_t n, std::int64_t h, std::int64_t height, std::int64_t w, std::int64_t pixels) {
      for (std::int64_t c = begin; c < end; ++c)
        body(x.data + n * x.block + h * x.row + w * x.pixel, x.row, x.pixel, tap + start[c], start[c + 1] - start[c],
             dy.data + n * dy.block + c * dy.channel + h * dy.row + w * dy.pixel, dy.row, dy.pixel, height, pixels,
             sums + start[c]);
    });
    for (std::int32_t e = start[begin]; e < start[end]; ++e) dw[e] = static_cast<float>(sums[e]);
  });
}

}  // namespace deepstruct::kernels
