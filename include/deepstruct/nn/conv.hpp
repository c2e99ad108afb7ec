// Conv2d and MaskedConv2d: convolutions, and those of which only the edges of a mask exist.
#pragma once

#include <cmath>

#include "../ops/conv.hpp"
#include "masked_linear.hpp"

namespace deepstruct {

namespace detail {

/// Throws unless a convolution can be cut down to these channels.   weight [out, in/groups, kh, kw]
inline void check_channels(std::string_view op, std::span<const std::int32_t> outputs,
                           std::span<const std::int32_t> inputs, const Shape& weight, std::int64_t groups) {
  check_units(op, outputs, weight[0]);
  check_units(op, inputs, weight[1] * groups);
  if (groups == 1) return;
  check(weight[1] == 1, op, ": channels of a group cannot be told apart (", weight[1], " channels in each of ", groups,
        " groups)");
  const auto each = static_cast<std::size_t>(weight[0] / groups);
  bool same = outputs.size() == inputs.size() * each;
  for (std::size_t k = 0; same && k < outputs.size(); ++k)
    same = outputs[k] == static_cast<std::int32_t>(static_cast<std::size_t>(inputs[k / each]) * each + k % each);
  check(same, op, ": outputs must be those of the inputs (", outputs.size(), " of ", inputs.size(), " groups)");
}
/// Groups of a convolution with these input channels: without any there is one.
inline std::int64_t groups_of(std::int64_t groups, std::span<const std::int32_t> inputs) {
  return groups == 1 || inputs.empty() ? 1 : static_cast<std::int64_t>(inputs.size());
}

}  // namespace detail

/// y = x ∗ W + b: conv2d as a module, with PyTorch's initial values U(±1/√fan_in).   [b, in, h, w] → [b, out, p, q]
struct Conv2d {
  Param weight;               // [out, in/groups, kh, kw]
  std::optional<Param> bias;  // [out]
  Conv2dOptions options;

  /// Throws unless channels are not negative, the kernel is positive and groups divides both numbers of channels.
  Conv2d(std::int64_t in, std::int64_t out, std::array<std::int64_t, 2> kernel, const Conv2dOptions& how = {},
         bool with_bias = true, Rng& rng = default_rng())
      : weight(default_weight(weight_shape("Conv2d", in, out, kernel, how), rng)), options(how) {
    if (with_bias) bias = default_bias(weight.shape(), rng);
  }
  /// A square kernel.
  Conv2d(std::int64_t in, std::int64_t out, std::int64_t kernel, const Conv2dOptions& how = {}, bool with_bias = true,
         Rng& rng = default_rng())
      : Conv2d(in, out, std::array{kernel, kernel}, how, with_bias, rng) {}

  std::int64_t in_channels() const { return weight.shape()[1] * options.groups; }
  std::int64_t out_channels() const { return weight.shape()[0]; }

  Var operator()(const Var& x) const { return conv2d(x, weight, bias ? bias->var() : Var(), options); }

  /// The layer cut down to some of its output and input channels, both ascending; values move with gradients and slots.
  /// Throws with groups of more than one input channel each, and unless the outputs are those of the inputs where every
  /// input is a group of its own.
  void keep(std::span<const std::int32_t> outputs, std::span<const std::int32_t> inputs) {
    detail::check_channels("Conv2d::keep", outputs, inputs, weight.shape(), options.groups);
    deepstruct::keep(weight, 0, outputs);
    if (bias) deepstruct::keep(*bias, 0, outputs);
    if (options.groups == 1 || inputs.empty()) deepstruct::keep(weight, 1, inputs);
    options.groups = detail::groups_of(options.groups, inputs);
  }
  static auto fields(auto& m) { return std::tuple{Field{"weight", m.weight}, Field{"bias", m.bias}}; }

  /// [out, in/groups, kh, kw], checked.
  static Shape weight_shape(std::string_view who, std::int64_t in, std::int64_t out, std::array<std::int64_t, 2> kernel,
                            const Conv2dOptions& how) {
    check(in >= 0 && out >= 0, who, ": channel counts must not be negative (", in, ", ", out, ")");
    check(kernel[0] >= 1 && kernel[1] >= 1, who, ": a kernel has at least one pixel (", kernel[0], " x ", kernel[1],
          ")");
    check(how.groups >= 1 && in % how.groups == 0 && out % how.groups == 0, who,
          ": groups must divide the channels (groups ", how.groups, ", in ", in, ", out ", out, ")");
    return {out, in / how.groups, kernel[0], kernel[1]};
  }
};

/// Options of MaskedConv2d.
struct MaskedConv2dOptions {
  Conv2dOptions conv = {};
  bool bias = true;
  storage store = storage::full;
};

/// y = x ∗ (W ⊙ mask) + b, where the mask [out, in/groups·kh·kw] tells which entries of the kernels exist: edge (o,
/// (c·kh
/// + i)·kw + j) is weight[o, c, i, j].   [b, in, h, w] → [b, out, p, q]
///
/// The bias is never masked. Full storage remembers weights behind the mask, packed storage has values only, as in
/// MaskedLinearLayer.
class MaskedConv2d {
 public:
  Param weight;               // full [out, in/groups, kh, kw], packed [nnz]
  std::optional<Param> bias;  // [out]

  /// Every weight on, initial values as in Conv2d.
  MaskedConv2d(std::int64_t in, std::int64_t out, std::array<std::int64_t, 2> kernel, MaskedConv2dOptions options = {},
               Rng& rng = default_rng())
      : shape_(Conv2d::weight_shape("MaskedConv2d", in, out, kernel, options.conv)), options_(options) {
    reset_parameters(rng);
  }
  /// A square kernel.
  MaskedConv2d(std::int64_t in, std::int64_t out, std::int64_t kernel, MaskedConv2dOptions options = {},
               Rng& rng = default_rng())
      : MaskedConv2d(in, out, std::array{kernel, kernel}, options, rng) {}

  std::int64_t in_channels() const { return shape_[1] * options_.conv.groups; }
  std::int64_t out_channels() const { return shape_[0]; }
  std::array<std::int64_t, 2> kernel() const { return {shape_[2], shape_[3]}; }
  /// Of the full weight: [out, in/groups, kh, kw].
  const Shape& weight_shape() const { return shape_; }
  const MaskedConv2dOptions& options() const { return options_; }
  bool packed() const { return options_.store == storage::packed; }

  Var operator()(const Var& x) const {
    const Var b = bias ? bias->var() : Var();
    if (packed()) return sparse_conv2d(x, weight, mask_, kernel(), b, options_.conv);
    return masked_conv2d(x, weight, mask_, b, options_.conv);
  }

  /// Which weights exist.   [out, in/groups·kh·kw]
  const Mask& mask() const { return mask_; }
  /// Sets which weights exist. Full storage remembers those that go; in packed storage they go for good, and one that
  /// comes starts at 0 with zero moments.
  void set_mask(const Mask& m) {
    check(m.shape() == matrix(), "set_mask: mask and layer differ in shape (", m.shape(), " and ", matrix(), ")");
    if (packed()) {
      const auto map = edge_map(mask_, m);
      remap(weight, map);
      if (saliency_) {
        Param moved(*std::move(saliency_));
        remap(moved, map);
        saliency_ = moved.value();
      }
    }
    mask_ = m;
  }
  /// Sets the mask from zeros and ones [out, in/groups, kh, kw]; any other value is an Error.
  void set_mask(const Tensor& flags) {
    check(flags.shape() == shape_, "set_mask: mask and layer differ in shape (", flags.shape(), " and ", shape_, ")");
    set_mask(Mask::from_dense(as_matrix(flags)));
  }

  /// How much each weight matters: what set_saliency set, else |W|.   shape of the weight
  Tensor saliency() const {
    return saliency_ ? to(*saliency_, weight.device()) : detail::map<kernels::fn::abs>(weight.value());
  }
  /// Replaces the saliencies; may be negative, must have the shape of the weight.
  void set_saliency(Tensor s) {
    check(s.shape() == weight.shape(), "set_saliency: saliency and weight differ in shape (", s.shape(), " and ",
          weight.shape(), ")");
    saliency_ = std::move(s);
  }
  void clear_saliency() { saliency_.reset(); }
  bool has_saliency() const { return saliency_.has_value(); }

  /// The weights in full, 0 where the mask has no edge.   [out, in/groups, kh, kw]
  Tensor effective_weight() const { return placed(packed() ? weight.value() : picked(weight.value())); }
  /// Full storage: W ← W ⊙ mask, so that what stands behind the mask is forgotten. Nothing to do when packed.
  void apply_mask() {
    if (!packed()) weight.set_value(effective_weight());
  }
  /// A weight exists iff |w| >= theta (in float32); the mask before is discarded, so full storage brings remembered
  /// weights back unless apply_mask ran. Packed storage can only lose weights. Throws on a weight that is NaN.
  void recompute_mask(float theta = 0.001f) {
    check(!std::isnan(theta), "recompute_mask: the threshold is not a number (", theta, ")");
    weight.value().for_each(
        [](std::int64_t i, float w) { check(!std::isnan(w), "recompute_mask: a weight is NaN (element ", i, ")"); });
    const Tensor w = to(packed() ? weight.value() : as_matrix(weight.value()), Device::cpu);
    if (packed())
      return set_mask(
          mask_.filter([&](std::int32_t e, std::int64_t, std::int64_t) { return std::abs(w(e)) >= theta; }));
    set_mask(Mask::where(matrix()[0], matrix()[1],
                         [&](std::int64_t r, std::int64_t c) { return std::abs(w(r, c)) >= theta; }));
  }
  /// New initial weights; every weight on again unless the mask is kept. Optimizer slots and saliency are forgotten.
  void reset_parameters(Rng& rng = default_rng(), bool keep_mask = false) {
    Tensor w = default_weight(shape_, rng);
    if (!keep_mask) mask_ = Mask::ones(matrix()[0], matrix()[1]);
    const Device place = weight.device();
    weight = Param(to(packed() ? picked(w) : std::move(w), place));
    if (options_.bias) bias = Param(to(default_bias(shape_, rng), place));
    saliency_.reset();
  }
  /// Number of weights that exist.
  double weight_count() const { return static_cast<double>(mask_.nnz()); }

  /// The layer cut down to some of its output and input channels, both ascending, as Conv2d::keep: values, gradients,
  /// slots, mask and saliency move together.
  void keep(std::span<const std::int32_t> outputs, std::span<const std::int32_t> inputs) {
    const std::int64_t groups = options_.conv.groups, window = shape_[2] * shape_[3];
    detail::check_channels("MaskedConv2d::keep", outputs, inputs, shape_, groups);
    std::vector<std::int32_t> depth;  // input channels of a group that stay
    if (groups == 1)
      depth.assign(inputs.begin(), inputs.end());
    else if (!inputs.empty())
      depth.push_back(0);
    std::vector<std::int32_t> cols;
    for (const std::int32_t c : depth)
      for (std::int64_t k = 0; k < window; ++k) cols.push_back(static_cast<std::int32_t>(c * window + k));
    detail::MaskPart part = detail::part_of(mask_, outputs, cols);
    const auto move = [&](Param& p) {
      if (packed()) return remap(p, part.edge);
      deepstruct::keep(p, 0, outputs);
      deepstruct::keep(p, 1, depth);
    };
    move(weight);
    if (bias) deepstruct::keep(*bias, 0, outputs);
    if (saliency_) {
      Param moved(*std::move(saliency_));
      move(moved);
      saliency_ = moved.value();
    }
    mask_ = std::move(part.mask);
    shape_ = {static_cast<std::int64_t>(outputs.size()), static_cast<std::int64_t>(depth.size()), shape_[2], shape_[3]};
    options_.conv.groups = detail::groups_of(groups, inputs);
  }

  /// The same layer in packed storage: only values and slots of existing weights stay.
  void pack() {
    if (packed()) return;
    weight.transform([&](const Tensor& t) { return picked(t); });
    convert(storage::packed);
  }
  /// The same layer in full storage: 0 behind the mask.
  void unpack() {
    if (!packed()) return;
    weight.transform([&](const Tensor& t) { return placed(t); });
    convert(storage::full);
  }

  static auto fields(auto& m) {
    return std::tuple{Field{"weight", m.weight}, Field{"bias", m.bias}, Field{"_mask", m.mask_}};
  }

 private:
  Shape matrix() const { return {shape_[0], shape_[1] * shape_[2] * shape_[3]}; }
  Tensor as_matrix(Tensor t) const { return std::move(t).with_shape(matrix()); }
  Tensor picked(const Tensor& full) const {
    no_grad guard;
    return pick_edges(as_matrix(full), mask_).value();
  }
  Tensor placed(const Tensor& values) const {
    no_grad guard;
    Tensor w = place_edges(values, mask_).value();
    return std::move(w).with_shape(shape_);
  }
  void convert(storage store) {
    options_.store = store;
    saliency_.reset();
  }

  Shape shape_;
  MaskedConv2dOptions options_;
  Mask mask_;
  std::optional<Tensor> saliency_;
};

}  // namespace deepstruct
