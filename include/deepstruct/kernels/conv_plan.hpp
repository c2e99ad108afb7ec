// ConvPlan: what a convolution, or its transpose, reads where; made anew for every call in time linear in its terms.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "../core/buffer.hpp"
#include "../core/error.hpp"
#include "../core/view.hpp"
#include "contract.hpp"

namespace deepstruct::kernels {

/// Extents of a convolution: x [samples, in, size], weight [out, in/groups, kernel], y [samples, out, result].
struct ConvSizes {
  std::int64_t samples = 0, in = 0, out = 0, groups = 1;
  std::array<std::int64_t, 2> size{}, kernel{}, result{}, stride{1, 1}, padding{}, dilation{1, 1};
};

/// The taps of all outputs of y = x ∗ W, or of dx = dy ∗ Wᵀ. Where the stride s is not 1, pixels of dx fall into s × s
/// phases: those of one phase read the same taps, from neighbouring pixels of dy.
class ConvPlan {
 public:
  /// Below this many samples a row of pixels becomes the lanes, else 16 samples of one pixel.
  static constexpr std::int64_t unfolded_up_to = 8;

  /// Output pixels first, first + step, … along both axes, and the taps of each: all of the dense terms of a group, or
  /// those of channel c from start[c] on.
  struct Phase {
    std::array<std::int64_t, 2> first, step, count;
    pool_vector<conv_tap> taps;
    pool_vector<std::int32_t> start;
    std::int64_t most = 0;  ///< taps of an output
  };

  /// Dense, or with the edges of a mask [out, in/groups·kernel] by rows (csr), transposed by columns (csc). `ldw` is
  /// the distance of two columns of a dense weight. Throws if the image has 2³¹ pixels and more.
  ConvPlan(const ConvSizes& s, bool transposed, const csr_view* mask, std::int64_t ldw)
      : transposed_(transposed), channels_(transposed ? s.out : s.in) {
    const std::int64_t pixels = transposed ? s.size[1] : s.result[1];
    unfolded_ = s.samples <= unfolded_up_to && pixels > 1;
    rows_ = axis(s, 0, false), cols_ = axis(s, 1, unfolded_);
    check(channels_ == 0 || rows_.extent == 0 || cols_.extent == 0 ||
              channels_ <= std::numeric_limits<std::int32_t>::max() / rows_.extent / cols_.extent,
          "conv2d: the images are too large (", channels_, " channels of ", rows_.extent, " x ", cols_.extent,
          " pixels with padding)");
    columns_ = transposed ? conv_columns{s.samples, 1, s.padding[1], s.dilation[1], s.stride[1]}
                          : conv_columns{s.samples, s.stride[1], -s.padding[1], -s.dilation[1], 1};
    for (const Part& h : rows_.parts)
      for (const Part& w : cols_.parts) {
        Phase phase{{h.first, w.first}, {h.step, w.step}, {h.count, w.count}, {}, {}};
        if (mask)
          transposed ? edges_by_columns(s, *mask, h, w, phase) : edges_by_rows(s, *mask, h, w, phase);
        else
          terms(s, ldw, h, w, phase);
        phases_.push_back(std::move(phase));
      }
  }

  bool unfolded() const { return unfolded_; }
  const pool_vector<Phase>& phases() const { return phases_; }
  std::int64_t top() const { return rows_.low; }
  std::int64_t left() const { return cols_.low; }
  conv_columns columns() const { return columns_; }
  /// The blocks that `lanes` lanes take, their data to be set.
  conv_blocks blocks(std::int64_t lanes) const {
    return {nullptr, (lanes + conv_lanes - 1) / conv_lanes, channels_, rows_.extent, cols_.extent};
  }
  /// From an output pixel to the next one of its phase, in blocks.
  conv_walk walk(const conv_blocks& b) const {
    const std::int64_t row = b.width * conv_lanes, channel = b.height * row;
    return {b.data, b.channels * channel, channel, rows_.step * row, cols_.step * conv_lanes};
  }

 private:
  struct Part {
    std::int64_t first, step, count;
    pool_vector<std::array<std::int64_t, 2>> taps;  // number in the kernel, pixel of the blocks
  };
  struct Axis {
    std::int64_t low = 0, extent = 0,
                 step = 1;  // zeros in front, all pixels of the blocks, pixels from output to output
    pool_vector<Part> parts;
  };

  Axis axis(const ConvSizes& s, int k, bool unfolded) const {
    const std::int64_t size = s.size[k], kernel = s.kernel[k], result = s.result[k], stride = s.stride[k],
                       padding = s.padding[k], dilation = s.dilation[k];
    Axis a;
    const auto part = [&](std::int64_t first, std::int64_t step, std::int64_t count) -> Part& {
      a.parts.push_back({first, step, count, {}});
      return a.parts.back();
    };
    if (unfolded) {
      a.extent = kernel;
      Part& all = part(0, 1, 1);
      for (std::int64_t i = 0; i < kernel; ++i) all.taps.push_back({i, i});
    } else if (!transposed_) {
      a.low = padding, a.step = stride;
      a.extent = (result - 1) * stride + (kernel - 1) * dilation + 1;
      Part& all = part(0, 1, result);
      for (std::int64_t i = 0; i < kernel; ++i) all.taps.push_back({i, i * dilation});
    } else {
      a.low = std::max<std::int64_t>(0, ((kernel - 1) * dilation - padding + stride - 1) / stride);
      a.extent = a.low + std::max((size - 1 + padding) / stride, result - 1) + 1;
      for (std::int64_t first = 0; first < std::min(size, stride); ++first) {
        Part& some = part(first, stride, (size - first + stride - 1) / stride);
        for (std::int64_t i = 0; i < kernel; ++i)
          if (const std::int64_t from = first + padding - i * dilation; from % stride == 0)
            some.taps.push_back({i, from / stride + a.low});
      }
    }
    return a;
  }

  std::int32_t line(std::int64_t channel, std::int64_t row, std::int64_t col) const {
    return static_cast<std::int32_t>((channel * rows_.extent + row) * cols_.extent + col);
  }
  void terms(const ConvSizes& s, std::int64_t ldw, const Part& h, const Part& w, Phase& phase) const {
    const std::int64_t depth = channels_ / s.groups;
    check(s.in / s.groups <=
              std::numeric_limits<std::int32_t>::max() / s.kernel[0] / s.kernel[1] / std::max<std::int64_t>(1, ldw),
          "conv2d: the weight is too large (", s.out, " x ", s.in / s.groups, " x ", s.kernel[0], " x ", s.kernel[1],
          ")");
    phase.taps.reserve(static_cast<std::size_t>(depth) * h.taps.size() * w.taps.size());
    for (std::int64_t c = 0; c < depth; ++c)
      for (const auto& [i, row] : h.taps)
        for (const auto& [j, col] : w.taps) {
          const std::int64_t place =
              transposed_ ? (i * s.kernel[1] + j) * ldw + c : ((c * s.kernel[0] + i) * s.kernel[1] + j) * ldw;
          phase.taps.push_back({line(c, row, col), static_cast<std::int32_t>(place)});
        }
    phase.most = static_cast<std::int64_t>(phase.taps.size());
  }
  void edges_by_rows(const ConvSizes& s, const csr_view& m, const Part& h, const Part& w, Phase& phase) const {
    const std::int64_t depth = s.in / s.groups, rows = s.out / s.groups;
    phase.taps.reserve(static_cast<std::size_t>(m.nnz));
    phase.start.assign(m.start, m.start + m.rows + 1);
    for (std::int64_t r = 0; r < m.rows; ++r) {
      for (std::int32_t e = m.start[r]; e < m.start[r + 1]; ++e) {
        const std::int64_t j = m.col[e] % s.kernel[1], i = m.col[e] / s.kernel[1] % s.kernel[0],
                           c = m.col[e] / s.kernel[1] / s.kernel[0];
        phase.taps.push_back({line(r / rows * depth + c, h.taps[i][1], w.taps[j][1]), e});
      }
      phase.most = std::max<std::int64_t>(phase.most, m.start[r + 1] - m.start[r]);
    }
  }
  void edges_by_columns(const ConvSizes& s, const csr_view& m, const Part& h, const Part& w, Phase& phase) const {
    const std::int64_t depth = s.in / s.groups, rows = s.out / s.groups;
    phase.start.push_back(0);
    for (std::int64_t c = 0; c < s.in; ++c) {
      const std::int64_t group = c / depth, before = static_cast<std::int64_t>(phase.taps.size());
      for (const auto& [i, row] : h.taps)
        for (const auto& [j, col] : w.taps) {
          const std::int64_t column = (c % depth * s.kernel[0] + i) * s.kernel[1] + j;
          const std::int32_t *at = m.col + m.start[column], *end = m.col + m.start[column + 1];
          if (s.groups > 1) at = std::lower_bound(at, end, static_cast<std::int32_t>(group * rows));
          for (; at < end && *at < (group + 1) * rows; ++at)
            phase.taps.push_back({line(*at, row, col), m.edge[at - m.col]});
        }
      phase.start.push_back(static_cast<std::int32_t>(phase.taps.size()));
      phase.most = std::max(phase.most, static_cast<std::int64_t>(phase.taps.size()) - before);
    }
  }

  bool transposed_, unfolded_ = false;
  std::int64_t channels_;
  Axis rows_, cols_;
  conv_columns columns_{};
  pool_vector<Phase> phases_;
};

}  // namespace deepstruct::kernels
