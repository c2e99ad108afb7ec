// What conv2d and sparse_conv2d share: options, checked extents, and how they call the kernels.
#pragma once

#include "../kernels/conv.hpp"
#include "../kernels/conv_plan.hpp"
#include "linear.hpp"

namespace deepstruct {

/// How a kernel moves over images: {vertical, horizontal} each.
struct Conv2dOptions {
  std::array<std::int64_t, 2> stride{1, 1};    ///< pixels from output to output
  std::array<std::int64_t, 2> padding{0, 0};   ///< zeros around the images, on both sides
  std::array<std::int64_t, 2> dilation{1, 1};  ///< pixels from one entry of the kernel to the next
  std::int64_t groups = 1;  ///< outputs of group g see the inputs of group g only; in and out are multiples of it
};

/// The padding with which a convolution of stride 1 keeps the size of images: dilation·(kernel − 1)/2 along each axis.
/// Throws where that is not whole, as for even kernels without dilation.
inline std::array<std::int64_t, 2> same_padding(std::array<std::int64_t, 2> kernel,
                                                std::array<std::int64_t, 2> dilation = {1, 1}) {
  std::array<std::int64_t, 2> padding{};
  for (int k = 0; k < 2; ++k) {
    check(kernel[k] >= 1 && dilation[k] >= 1, "same_padding: kernel and dilation must be positive (", kernel[k],
          " and ", dilation[k], ")");
    const std::int64_t total = dilation[k] * (kernel[k] - 1);
    check(total % 2 == 0, "same_padding: one side would need a pixel more than the other (kernel ", kernel[k],
          ", dilation ", dilation[k], ")");
    padding[k] = total / 2;
  }
  return padding;
}

namespace detail {

using kernels::ConvPlan;
using kernels::ConvSizes;

/// The extents of a convolution, checked.   x [b, in, h, w], weight [out, in/groups, kh, kw]
inline ConvSizes conv_sizes(std::string_view op, const Shape& x, const Shape& weight, const Conv2dOptions& o) {
  constexpr std::int64_t limit = std::int64_t{1} << 30;
  check(x.rank() == 4, op, ": images have four extents (x ", x, ")");
  check(weight.rank() == 4, op, ": a weight has four extents (", weight, ")");
  check(o.groups >= 1 && x[1] % o.groups == 0 && weight[0] % o.groups == 0, op,
        ": groups must divide the channels (groups ", o.groups, ", in ", x[1], ", out ", weight[0], ")");
  check(weight[1] == x[1] / o.groups, op, ": x and weight differ in channels (x ", x, ", weight ", weight, ", groups ",
        o.groups, ")");
  ConvSizes s{x[0], x[1],     weight[0], o.groups,  {x[2], x[3]}, {weight[2], weight[3]},
              {},   o.stride, o.padding, o.dilation};
  for (int k = 0; k < 2; ++k) {
    const char* axis = k == 0 ? " (vertical " : " (horizontal ";
    check(s.stride[k] >= 1 && s.stride[k] < limit, op, ": strides must be positive", axis, s.stride[k], ")");
    check(s.dilation[k] >= 1 && s.dilation[k] < limit, op, ": dilations must be positive", axis, s.dilation[k], ")");
    check(s.padding[k] >= 0 && s.padding[k] < limit, op, ": paddings must not be negative", axis, s.padding[k], ")");
    check(s.kernel[k] >= 1 && s.size[k] < limit && s.kernel[k] < limit, op,
          ": a kernel has at least one pixel (weight ", weight, ", x ", x, ")");
    const std::int64_t reach = s.dilation[k] * (s.kernel[k] - 1) + 1, padded = s.size[k] + 2 * s.padding[k];
    check(reach <= padded, op, ": the kernel is larger than the padded images", axis, reach, " and ", padded, ")");
    s.result[k] = (padded - reach) / s.stride[k] + 1;
  }
  return s;
}
inline Shape conv_x_shape(const ConvSizes& s) { return {s.samples, s.in, s.size[0], s.size[1]}; }
inline Shape conv_y_shape(const ConvSizes& s) { return {s.samples, s.out, s.result[0], s.result[1]}; }
inline Shape conv_weight_shape(const ConvSizes& s) { return {s.out, s.in / s.groups, s.kernel[0], s.kernel[1]}; }
inline Attributes conv_attributes(const ConvSizes& s) {
  return {{"stride", Shape(s.stride)},
          {"padding", Shape(s.padding)},
          {"dilation", Shape(s.dilation)},
          {"groups", s.groups}};
}

/// A tensor [b, c, h, w] as kernels see it; merged where a row of pixels is one run of lanes.
template <class T>
kernels::conv_image<T> conv_image_of(T* data, const Shape& s, bool merged) {
  const std::int64_t ld = s.ld();
  if (merged) return {data, s[0] * s[3], s[1], s[2], 1, s[2] * s[3] * ld, s[3] * ld, s[3] * ld, false};
  return {data, s[0], s[1], s[2], s[3], s[2] * s[3] * ld, s[3] * ld, ld, s[0] >= kernels::conv_lanes};
}

/// Images in blocks, and where the first pixel stands there.
struct ConvBlocks {
  Buffer<float> storage;
  kernels::conv_blocks view;
  std::int64_t top = 0, left = 0;
};
inline ConvBlocks conv_storage(kernels::conv_blocks view, std::int64_t top, std::int64_t left, Device device) {
  const std::int64_t size = view.blocks * view.channels * view.height * view.width * kernels::conv_lanes;
  ConvBlocks b{Buffer<float>(static_cast<std::size_t>(size), device), view, top, left};
  b.view.data = b.storage.data();
  return b;
}
/// What a plan reads.   source [b, c, h, w], `pixels` the width of what is computed
inline ConvBlocks conv_blocks_of(const Tensor& source, const ConvPlan& plan, std::int64_t pixels) {
  const Shape& s = source.shape();
  auto image = conv_image_of(source.data(), s, false);
  if (plan.unfolded()) image.lanes = s[0] * pixels;
  ConvBlocks b = conv_storage(plan.blocks(image.lanes), plan.top(), plan.left(), source.device());
  on(source.device(), [&](auto device) {
    if (plan.unfolded())
      kernels::conv_unfold(device, image, plan.top(), plan.columns(), b.view);
    else
      kernels::conv_pack(device, image, plan.top(), plan.left(), b.view);
  });
  return b;
}
/// Images without a frame, rows merged if a plan of the same convolution is unfolded.
inline ConvBlocks conv_plain_blocks(const Tensor& images, bool merged) {
  const auto image = conv_image_of(images.data(), images.shape(), merged);
  const std::int64_t blocks = (image.lanes + kernels::conv_lanes - 1) / kernels::conv_lanes;
  ConvBlocks b = conv_storage({nullptr, blocks, image.channels, image.height, image.width}, 0, 0, images.device());
  on(images.device(), [&](auto device) { kernels::conv_pack(device, image, 0, 0, b.view); });
  return b;
}

/// A convolution with a dense weight, or with the values of a mask's edges.
struct ConvWeight {
  /// A phase of a plan, its lists where the kernels of a device read them.
  struct Phase {
    const ConvPlan::Phase& phase;
    Mirror<std::int32_t> start;
    Mirror<kernels::conv_tap> taps;
    Phase(const ConvPlan::Phase& of, Device device) : phase(of), start(of.start, device), taps(of.taps, device) {}
  };

  const ConvSizes& sizes;
  const Mask* mask = nullptr;

  ConvPlan plan(bool transposed) const {
    if (!mask) return ConvPlan(sizes, transposed, nullptr, leading_stride(sizes.out));
    const csr_view edges = transposed ? mask->csc() : mask->csr();
    return ConvPlan(sizes, transposed, &edges, 0);
  }

  /// y = x ∗ W + bias, or dx = dy ∗ Wᵀ from blocks of x or dy.
  Tensor apply(const ConvPlan& plan, bool transposed, const ConvBlocks& blocks, const Tensor& weight,
               const float* bias) const {
    Tensor y = Tensor::empty(transposed ? conv_x_shape(sizes) : conv_y_shape(sizes), weight.device());
    pool_vector<Phase> phases;
    for (const auto& phase : plan.phases()) phases.emplace_back(phase, y.device());
    std::int64_t most = 0;
    for (const Phase& p : phases) most = std::max(most, p.phase.most);
    const std::int64_t ldw = leading_stride(sizes.out), outputs = sizes.out / sizes.groups,
                       inputs = sizes.in / sizes.groups;
    long_sum(y, most, [&](Tensor& to, std::int64_t first, std::int64_t count) {
      for (const auto& [phase, start, taps] : phases) {
        auto image = conv_image_of(to.data(), to.shape(), plan.unfolded());
        image.data += phase.first[0] * image.row + phase.first[1] * image.pixel;
        image.height = phase.count[0], image.width = phase.count[1];
        image.row *= phase.step[0], image.pixel *= phase.step[1];
        const float* add = first == 0 ? bias : nullptr;
        const std::int64_t from = std::min(first, phase.most);
        on(to.device(), [&](auto device) {
          if (mask)
            kernels::conv_sparse(device, plan.walk(blocks.view), start.data(), taps.data(), from, count, weight.data(),
                                 add, image);
          else
            kernels::conv_dense(device, plan.walk(blocks.view), sizes.groups, transposed ? outputs : inputs,
                                taps.data() + from, std::min(count, phase.most - from), weight.data(),
                                transposed ? sizes.kernel[0] * sizes.kernel[1] * ldw : 1, outputs, add, image);
        });
      }
    });
    return y;
  }
  Tensor apply(bool transposed, const Tensor& source, const Tensor& weight, const float* bias) const {
    const ConvPlan p = plan(transposed);
    return apply(p, transposed, conv_blocks_of(source, p, transposed ? sizes.size[1] : sizes.result[1]), weight, bias);
  }

  /// dW [out, in/groups, kh, kw], or of the edges [nnz]; dy is packed unless blocks of it are there already.
  Tensor gradient(const Tensor& dy, const Tensor& x, const ConvBlocks* packed = nullptr) const {
    const ConvPlan p = plan(false);
    const ConvBlocks from = conv_blocks_of(x, p, sizes.result[1]);
    const ConvBlocks up =
        packed ? ConvBlocks{{}, packed->view, packed->top, packed->left} : conv_plain_blocks(dy, p.unfolded());
    Tensor dw = Tensor::empty(mask ? Shape{mask->nnz()} : conv_weight_shape(sizes), x.device());
    Buffer<double> sums(static_cast<std::size_t>(dw.size()), dw.device());
    const std::int64_t row = up.view.width * kernels::conv_lanes, channel = up.view.height * row;
    const kernels::conv_walk g{up.view.data + up.top * row + up.left * kernels::conv_lanes, up.view.channels * channel,
                               channel, row, kernels::conv_lanes};
    const auto size = conv_image_of(dy.data(), dy.shape(), p.unfolded());
    const auto [phase, start, taps] = Phase(p.phases().front(), dw.device());
    on(dw.device(), [&](auto device) {
      if (mask)
        kernels::conv_sparse_dw(device, p.walk(from.view), g, size, start.data(), taps.data(), sums.data(), dw.data());
      else
        kernels::conv_dense_dw(device, p.walk(from.view), g, size, sizes.groups, sizes.in / sizes.groups, taps.data(),
                               phase.most, sums.data(), dw.data());
    });
    return dw;
  }

  /// dx[0] and dx[1] of one convolution: dy is packed once for both.
  void backward(const Tensor& dy, const Tensor& x, const Tensor& weight, std::span<Var> dx) const {
    common_device("backward", dy, x, weight);
    const ConvPlan p = plan(true);
    const ConvBlocks blocks = conv_blocks_of(dy, p, sizes.size[1]);
    dx[0] = apply(p, true, blocks, weight, nullptr);
    const bool shared = !p.unfolded() && !(sizes.samples <= ConvPlan::unfolded_up_to && sizes.result[1] > 1);
    dx[1] = gradient(dy, x, shared ? &blocks : nullptr);
  }
};

}  // namespace detail

}  // namespace deepstruct
