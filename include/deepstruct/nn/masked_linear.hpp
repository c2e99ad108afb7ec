// MaskedLinearLayer: a linear layer of which only the edges of a mask exist.
#pragma once

#include <cmath>

#include "learnable_mask.hpp"
#include "linear.hpp"

namespace deepstruct {

/// How a masked layer keeps its weights.
enum class storage {
  full,   ///< [out, in]: weights behind the mask are remembered, and stepped by the optimizer as in PyTorch
  packed  ///< [nnz]: weights behind the mask do not exist; memory, file, optimizer state and time scale with nnz
};

/// Options of MaskedLinearLayer.
struct MaskedLinearOptions {
  using Gradient = MaskGradient;

  bool bias = true;
  storage store = storage::full;
  bool keep_layer_input = false;  ///< remember the last input in layer_input()
  bool freeze_masked = false;     ///< full storage: optimizers leave weights behind the mask alone
  bool structural = false;        ///< the mask is the structure of a network: reset_parameters keeps it
  bool learnable_mask = false;    ///< full storage: a gate per weight, made of a parameter alpha [out, in, 2]
  Gradient gradient = Gradient::straight_through;  ///< how alpha learns; none is the original, in which it does not
  float temperature = 2.0f / 3;                    ///< of gates that are drawn: gumbel_softmax (τ), hard_concrete (β)
  bool hard_gate = false;  ///< gumbel_softmax: 0 or 1 in training too, with the gradient of the soft gate
};

/// y = x (W ⊙ mask)ᵀ + b.   x […, in] → y […, out]
///
/// The bias is never masked. Parameters and mask have the names of Python deepstruct: weight, bias, _mask. The gates of
/// a learnable mask are drawn in training where their kind says so; mask(), effective_weight() and all that reads a
/// model tell of the final ones, those of evaluation.
class MaskedLinearLayer {
 public:
  Param weight;               // full [out, in], packed [nnz]
  std::optional<Param> bias;  // [out]
  bool training = true;       // gates may be drawn; see set_training

  /// Every connection on, weights as in PyTorch's Linear.
  MaskedLinearLayer(std::int64_t in, std::int64_t out, MaskedLinearOptions options, Rng& rng = default_rng())
      : in_(in), out_(out), options_(options) {
    check(in >= 0 && out >= 0, "MaskedLinearLayer: feature counts must not be negative (", in, ", ", out, ")");
    check(!(options.learnable_mask && options.store == storage::packed),
          "MaskedLinearLayer: a learnable mask needs full storage (packed)");
    check(!(options.learnable_mask && options.structural),
          "MaskedLinearLayer: a structure is not learned (learnable_mask, structural)");
    detail::check_temperature("MaskedLinearLayer", options.temperature);
    check(!options.hard_gate || options.gradient == MaskGradient::gumbel_softmax,
          "MaskedLinearLayer: only Gumbel gates are hard or soft (hard_gate without gumbel_softmax)");
    if (options.structural) mask_ = Mask::ones(out, in);
    reset_parameters(rng);
  }
  MaskedLinearLayer(std::int64_t in, std::int64_t out, Rng& rng = default_rng())
      : MaskedLinearLayer(in, out, MaskedLinearOptions{}, rng) {}

  /// A packed layer with the edges of a mask, their values, and a bias unless it is empty.   values [nnz], bias [out]
  MaskedLinearLayer(const Mask& mask, Tensor values, std::optional<Tensor> biases, bool structural = false)
      : weight(std::move(values)),
        in_(mask.cols()),
        out_(mask.rows()),
        options_{.bias = biases.has_value(), .store = storage::packed, .structural = structural},
        mask_(mask) {
    check(weight.shape() == Shape{mask.nnz()}, "MaskedLinearLayer: needs one value per edge (values ", weight.shape(),
          ", edges ", mask.nnz(), ")");
    check(!biases || biases->shape() == Shape{out_}, "MaskedLinearLayer: needs one bias per output (bias ",
          biases ? biases->shape() : Shape{}, ", outputs ", out_, ")");
    if (biases) bias = Param(*std::move(biases));
  }

  std::int64_t in_features() const { return in_; }
  std::int64_t out_features() const { return out_; }
  const MaskedLinearOptions& options() const { return options_; }
  bool packed() const { return options_.store == storage::packed; }

  /// The activation after the layer costs no pass of its own over the outputs where the layer runs sparse.
  Var operator()(const Var& x, Activation after = Activation::none) const {
    if (options_.keep_layer_input) layer_input_ = x.value();
    const Var b = bias ? bias->var() : Var();
    if (packed()) return sparse_linear(x, weight, std::get<Mask>(mask_), b, after);
    if (const Mask* hard = std::get_if<Mask>(&mask_)) return masked_linear(x, weight, *hard, b, after);
    const Tensor* soft = std::get_if<Tensor>(&mask_);
    return linear(x, mul(weight, soft ? Var(*soft) : gate()), b, after);
  }

  /// Which edges exist; of a soft mask those that are not 0, of a learnable one those whose final gate is not.
  Mask mask() const {
    if (const Mask* hard = std::get_if<Mask>(&mask_)) return *hard;
    no_grad guard;
    const Tensor* soft = std::get_if<Tensor>(&mask_);
    const Tensor factor = to(soft ? *soft : final_gate().value(), Device::cpu);
    return Mask::where(out_, in_, [&](std::int64_t r, std::int64_t c) { return factor(r, c) != 0; });
  }
  /// True if the mask is a parameter.
  bool learnable() const { return std::holds_alternative<Param>(mask_); }
  /// The parameter [out, in, 2] of a learnable mask.
  const Param& alphas() const {
    check(learnable(), "alphas: this mask is not learnable (", out_, ", ", in_, ")");
    return std::get<Param>(mask_);
  }
  Param& alphas() { return const_cast<Param&>(std::as_const(*this).alphas()); }

  /// The factors of the weights that a call of the layer multiplies with: gumbel_gate or hard_concrete_gate in
  /// training, with a draw of this thread's generator, else the final gates. A trace always records the final ones.
  /// Throws unless the mask is learnable.   [out, in]
  Var gate() const {
    if (!training || detail::tape_state.trace) return final_gate();
    if (options_.gradient == MaskGradient::gumbel_softmax)
      return gumbel_gate(alphas(), options_.temperature, default_rng().draw(), options_.hard_gate);
    if (options_.gradient == MaskGradient::hard_concrete)
      return hard_concrete_gate(alphas(), options_.temperature, default_rng().draw());
    return final_gate();
  }
  /// The factors of the weights in evaluation: hard_concrete_final_gate, or [alpha_1 > alpha_0]. Throws unless the mask
  /// is learnable.   [out, in]
  Var final_gate() const {
    if (options_.gradient == MaskGradient::hard_concrete) return hard_concrete_final_gate(alphas());
    return straight_through_gate(options_.gradient == MaskGradient::none ? detach(alphas()) : alphas().var());
  }
  /// Sets the temperature of gates that are drawn, as one does who lowers it while training; it must be positive.
  void set_temperature(float temperature) {
    detail::check_temperature("set_temperature", temperature);
    options_.temperature = temperature;
  }
  /// A learnable mask becomes the fixed one that it is in evaluation, and where gates are neither 0 nor 1 the weights
  /// take them along: the layer computes the same as it did in evaluation. Nothing to do for any other mask.
  void harden() {
    if (!learnable()) return;
    const Mask m = mask();
    if (options_.gradient == MaskGradient::hard_concrete) weight.set_value(effective_weight());
    mask_ = m;
    options_.learnable_mask = false;
    refresh_live();
  }

  /// Sets which edges exist. Full storage remembers weights that go; in packed storage they go for good, and an edge
  /// that comes starts at 0 with zero moments. A learnable mask gets alphas (0.1, 0.9) where an edge exists, (0.9, 0.1)
  /// elsewhere; if hard concrete (0, 3) and (3, 0), of which the final gates are 1 and 0.
  void set_mask(const Mask& m) {
    check(m.shape() == Shape{out_, in_}, "set_mask: mask and layer differ in shape (", m.shape(), " and ",
          Shape{out_, in_}, ")");
    if (learnable()) return set_alphas(m);
    if (packed()) {
      const auto map = edge_map(std::get<Mask>(mask_), m);
      remap(weight, map);
      if (saliency_) {
        Param moved(*std::move(saliency_));
        remap(moved, map);
        saliency_ = moved.value();
      }
    }
    mask_ = m;
    refresh_live();
  }
  /// Sets the mask from a 0/1 matrix [out, in]; any other value is an Error.
  void set_mask(const Tensor& flags) {
    check(flags.shape() == Shape{out_, in_}, "set_mask: mask and layer differ in shape (", flags.shape(), " and ",
          Shape{out_, in_}, ")");
    set_mask(Mask::from_dense(flags));
  }
  /// Full storage: W ⊙ mask with any finite factors instead of 0 and 1; edges are where the factor is not 0.
  void set_soft_mask(const Tensor& factors) {
    check(factors.shape() == Shape{out_, in_}, "set_soft_mask: mask and layer differ in shape (", factors.shape(),
          " and ", Shape{out_, in_}, ")");
    check(!packed() && !learnable(), "set_soft_mask: needs full storage and no learnable mask (",
          packed() ? "packed" : "learnable", ")");
    factors.for_each([](std::int64_t i, float x) {
      check(std::isfinite(x), "set_soft_mask: factors must be finite (", x, " at element ", i, ")");
    });
    mask_ = to(factors, weight.device());
    refresh_live();
  }
  /// Switches edge (r, c) on or off.
  void set_edge(std::int64_t r, std::int64_t c, bool exists) {
    const Mask m = mask();
    if (m.contains(r, c) == exists) return;
    if (learnable()) return edit_alphas([&](Tensor& a) { set_alpha(a, r, c, exists); });
    const Mask::Edge edge{static_cast<std::int32_t>(r), static_cast<std::int32_t>(c)};
    const std::span one(&edge, 1);
    set_mask(exists ? m.edit(one, {}) : m.edit({}, one));
  }
  /// Which inputs neuron r has: one flag per input.
  std::vector<bool> row(std::int64_t r) const {
    const Mask m = mask();
    std::vector<bool> flags(static_cast<std::size_t>(in_));
    for (std::int64_t c = 0; c < in_; ++c) flags[c] = m.contains(r, c);
    return flags;
  }
  /// Sets which inputs neuron r has; needs one flag per input.
  void set_row(std::int64_t r, const std::vector<bool>& flags) {
    check(r >= 0 && r < out_ && static_cast<std::int64_t>(flags.size()) == in_,
          "set_row: needs one flag per input of a neuron (row ", r, " of ", out_, ", ", flags.size(), " flags for ",
          in_, ")");
    if (learnable())
      return edit_alphas([&](Tensor& a) {
        for (std::int64_t c = 0; c < in_; ++c) set_alpha(a, r, c, flags[c]);
      });
    const Mask m = mask();
    set_mask(Mask::where(out_, in_,
                         [&](std::int64_t i, std::int64_t c) { return i == r ? bool{flags[c]} : m.contains(i, c); }));
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

  /// The weights as a full matrix, 0 where no edge is.   [out, in]
  Tensor effective_weight() const {
    no_grad guard;
    if (packed()) return place_edges(weight, std::get<Mask>(mask_)).value();
    if (const Tensor* soft = std::get_if<Tensor>(&mask_)) return mul(weight, *soft).value();
    const Mask m = mask();
    const bool soft_gate = learnable() && options_.gradient == MaskGradient::hard_concrete;
    return place_edges(pick_edges(soft_gate ? mul(weight, final_gate()) : weight.var(), m), m).value();
  }
  /// Full storage: W ← W ⊙ mask, so that what stands behind the mask is forgotten; learnable gates stay and are not
  /// multiplied in. Nothing to do when packed.
  void apply_mask() {
    if (packed()) return;
    if (!learnable()) return weight.set_value(effective_weight());
    no_grad guard;
    const Mask m = mask();
    weight.set_value(place_edges(pick_edges(weight, m), m).value());
  }
  /// An edge exists iff |w| >= theta (in float32); the mask before is discarded, so full storage brings remembered
  /// weights back unless apply_mask ran. Packed storage can only lose edges. Throws on a weight that is NaN.
  void recompute_mask(float theta = 0.001f) {
    check(!std::isnan(theta), "recompute_mask: the threshold is not a number (", theta, ")");
    weight.value().for_each(
        [](std::int64_t i, float w) { check(!std::isnan(w), "recompute_mask: a weight is NaN (element ", i, ")"); });
    const Tensor w = to(weight.value(), Device::cpu);
    if (packed())
      set_mask(std::get<Mask>(mask_).filter(
          [&](std::int32_t e, std::int64_t, std::int64_t) { return std::abs(w(e)) >= theta; }));
    else
      set_mask_anew(Mask::where(out_, in_, [&](std::int64_t r, std::int64_t c) { return std::abs(w(r, c)) >= theta; }));
  }
  /// New initial weights; every connection on again unless the mask is kept. Optimizer slots are forgotten. Where the
  /// mask is a structure it is kept, and weights and bias of row r are U(±1/√d), d its number of edges.
  void reset_parameters(Rng& rng = default_rng(), bool keep_mask = false) {
    const Device place = weight.device();
    if (options_.structural) return reset_structural(rng);
    Tensor w = default_weight({out_, in_}, rng);
    const Mask m = keep_mask ? mask() : Mask::ones(out_, in_);
    if (packed()) w = pick_edges(w, m).value();
    weight = Param(to(std::move(w), place));
    if (options_.bias) bias = Param(to(default_bias({out_, in_}, rng), place));
    saliency_.reset();
    if (options_.learnable_mask) {
      if (!learnable()) mask_ = Param(Tensor::zeros({out_, in_, 2}, place));
      std::get<Param>(mask_).clear_slots();
      set_alphas(m);
    } else if (!keep_mask) {
      mask_ = m;
    }
    refresh_live();
  }
  /// Sum of the mask: the number of edges, unless the mask is soft.
  double weight_count() const {
    if (const Tensor* soft = std::get_if<Tensor>(&mask_)) return double{sum(Var(*soft)).item()};
    return static_cast<double>(mask().nnz());
  }
  /// The last input, if options().keep_layer_input; shared by all threads that call the layer.
  const std::optional<Tensor>& layer_input() const { return layer_input_; }

  /// The same layer in packed storage: only weights and slots of existing edges stay. A soft or learned mask is
  /// multiplied in.
  void pack() {
    if (packed()) return;
    const Mask m = mask();
    if (!std::holds_alternative<Mask>(mask_)) weight.set_value(effective_weight());
    weight.transform([&](const Tensor& t) { return pick_edges(t, m).value(); });
    weight.set_live(std::nullopt);
    convert(m, storage::packed);
  }
  /// The same layer in full storage: 0 behind the mask.
  void unpack() {
    if (!packed()) return;
    const Mask m = std::get<Mask>(mask_);
    weight.transform([&](const Tensor& t) { return place_edges(t, m).value(); });
    convert(m, storage::full);
  }

  /// The layer cut down to some of its outputs and inputs, both ascending: values, gradients, slots, mask and saliency
  /// move together. O(edges), in full storage O(weights).
  void keep(std::span<const std::int32_t> outputs, std::span<const std::int32_t> inputs) {
    detail::check_units("MaskedLinearLayer::keep", outputs, out_);
    detail::check_units("MaskedLinearLayer::keep", inputs, in_);
    if (static_cast<std::int64_t>(outputs.size()) == out_ && static_cast<std::int64_t>(inputs.size()) == in_) return;
    if (packed()) {
      const detail::MaskPart part = detail::part_of(std::get<Mask>(mask_), outputs, inputs);
      return rewire(part.mask, part.edge, outputs);
    }
    const auto cut = [&](Tensor& t) { t = detail::pick(detail::pick(t, 0, outputs), 1, inputs); };
    deepstruct::keep(weight, 0, outputs);
    deepstruct::keep(weight, 1, inputs);
    if (bias) deepstruct::keep(*bias, 0, outputs);
    if (saliency_) cut(*saliency_);
    if (Tensor* soft = std::get_if<Tensor>(&mask_)) cut(*soft);
    if (Mask* hard = std::get_if<Mask>(&mask_)) mask_ = detail::part_of(Mask(*hard), outputs, inputs).mask;
    if (Param* alpha = std::get_if<Param>(&mask_)) {
      deepstruct::keep(*alpha, 0, outputs);
      deepstruct::keep(*alpha, 1, inputs);
    }
    resize();
  }
  /// Packed storage: other edges between other units. Edge e of the mask is edge[e] of before, row r was row[r]; −1
  /// where it is new, which starts at 0 with zero moments. Throws, before anything changes, on full storage and unless
  /// there is one entry per edge and row.
  void rewire(const Mask& next, std::span<const std::int32_t> edge, std::span<const std::int32_t> row) {
    check(packed(), "rewire: needs packed storage (full)");
    check(static_cast<std::int64_t>(edge.size()) == next.nnz() && static_cast<std::int64_t>(row.size()) == next.rows(),
          "rewire: needs an entry per edge and row (", edge.size(), " for ", next.nnz(), " edges, ", row.size(),
          " for ", next.rows(), " rows)");
    for (const std::int32_t r : row)
      check(r >= -1 && r < out_, "rewire: row outside the layer (", r, " of ", out_, ")");
    remap(weight, edge);
    if (bias) remap(*bias, row);
    if (saliency_) {
      Param moved(*std::move(saliency_));
      remap(moved, edge);
      saliency_ = moved.value();
    }
    mask_ = next;
    out_ = next.rows();
    in_ = next.cols();
    resize();
  }

  static auto fields(auto& m) {
    return std::tuple{Field{"weight", m.weight}, Field{"bias", m.bias}, Field{"_mask", m.mask_}};
  }

 private:
  /// Alphas of an edge that exists or not: see set_mask.
  void set_alpha(Tensor& a, std::int64_t r, std::int64_t c, bool exists) const {
    const bool stretched = options_.gradient == MaskGradient::hard_concrete;
    const float low = stretched ? 0.0f : 0.1f, high = stretched ? 3.0f : 0.9f;
    a(r, c, 0) = exists ? low : high;
    a(r, c, 1) = exists ? high : low;
  }
  /// Calls f(alphas) with them on the CPU, to change.
  template <class F>
  void edit_alphas(F&& f) {
    Param& alpha = std::get<Param>(mask_);
    Tensor a = to(alpha.value(), Device::cpu);
    f(a);
    alpha.set_value(std::move(a));
  }
  void set_alphas(const Mask& m) {
    edit_alphas([&](Tensor& a) {
      for (std::int64_t r = 0; r < out_; ++r)
        for (std::int64_t c = 0; c < in_; ++c) set_alpha(a, r, c, m.contains(r, c));
    });
  }
  void set_mask_anew(const Mask& m) {
    if (std::holds_alternative<Tensor>(mask_)) mask_ = Mask::ones(out_, in_);
    set_mask(m);
  }
  void reset_structural(Rng& rng) {
    const Mask m = mask();
    DrawInOrder d(rng.host_draw()), d_bias(rng.host_draw());
    Tensor w = Tensor::empty({m.nnz()}), b = Tensor::empty({out_});
    const auto start = m.row_start();
    for (std::int64_t r = 0; r < out_; ++r) {
      const float bound = 1 / std::sqrt(static_cast<float>(std::max(1, start[r + 1] - start[r])));
      for (std::int32_t e = start[r]; e < start[r + 1]; ++e)
        w(e) = d.uniform(static_cast<std::uint64_t>(e), -bound, bound);
      b(r) = d_bias.uniform(static_cast<std::uint64_t>(r), -bound, bound);
    }
    const Device place = weight.device();
    weight = Param(to(packed() ? std::move(w) : place_edges(w, m).value(), place));
    if (options_.bias) bias = Param(to(std::move(b), place));
    saliency_.reset();
    refresh_live();
  }
  void convert(const Mask& m, storage store) {
    mask_ = m;
    options_.store = store;
    options_.learnable_mask = false;
    saliency_.reset();
    refresh_live();
  }
  /// What follows from new extents.
  void resize() {
    if (!packed()) {
      out_ = weight.shape()[0];
      in_ = weight.shape()[1];
    }
    layer_input_.reset();
    refresh_live();
  }
  void refresh_live() {
    if (!packed() && options_.freeze_masked && !learnable()) weight.set_live(mask());
  }

  std::int64_t in_, out_;
  MaskedLinearOptions options_;
  std::variant<Mask, Tensor, Param> mask_ = Mask();  // hard, soft (factors [out, in]), learnable (alphas [out, in, 2])
  std::optional<Tensor> saliency_;
  mutable std::optional<Tensor> layer_input_;
};

/// A layer of which only the edges of a mask exist: MaskedLinearLayer, MaskedConv2d.
template <class L>
concept MaskedLayer = requires(L layer, const L same, const Mask& mask, Tensor t) {
  layer.weight;
  same.packed();
  same.mask();
  same.has_saliency();
  layer.set_mask(mask);
  layer.set_saliency(t);
  layer.apply_mask();
  layer.pack();
  layer.unpack();
};
/// Calls f(layer) or f(dotted name, layer) for every masked layer of any kind, at any depth.
template <class M, class F>
void each_masked(M& model, F&& f) {
  walk(model, [&](const Path& path, auto& part) {
    if constexpr (MaskedLayer<std::remove_const_t<std::remove_reference_t<decltype(part)>>>) {
      if constexpr (std::is_invocable_v<F&, const std::string&, decltype(part)>)
        f(path.str(), part);
      else
        f(part);
    }
  });
}

/// A copy of the model with every masked layer in packed storage: pruned weights are gone from memory, file and time.
/// Parts that pack in a way of their own (MaskedDeepDAN) do.
template <class M>
M pack(M model) {
  on_host(model, [](M& all) {
    walk(all, [](const Path&, auto& part) {
      if constexpr (requires { part.pack(); }) part.pack();
    });
  });
  return model;
}
/// A copy of the model with every masked layer in full storage.
template <class M>
M unpack(M model) {
  on_host(model, [](M& all) {
    walk(all, [](const Path&, auto& part) {
      if constexpr (requires { part.unpack(); }) part.unpack();
    });
  });
  return model;
}
/// harden() of every masked layer that can: learnable masks become the fixed ones that they are in evaluation.
template <class M>
void harden(M& model) {
  each_masked(model, [](auto& layer) {
    if constexpr (requires { layer.harden(); }) layer.harden();
  });
}
/// apply_mask() of every masked layer.
template <class M>
void apply_mask(M& model) {
  each_masked(model, [](auto& layer) { layer.apply_mask(); });
}
/// recompute_mask(theta) of every masked layer.
template <class M>
void recompute_mask(M& model, float theta = 0.0001f) {
  each_masked(model, [&](auto& layer) { layer.recompute_mask(theta); });
}
/// reset_parameters of every masked layer; parts that draw initial values in a way of their own (MaskedDeepDAN) do so
/// then.
template <class M>
void reset_parameters(M& model, Rng& rng = default_rng(), bool keep_mask = false) {
  on_host(model, [&](M& all) {
    each_masked(all, [&](auto& layer) { layer.reset_parameters(rng, keep_mask); });
    walk(all, [&](const Path&, auto& part) {
      if constexpr (requires { part.draw_initial_values(rng); }) part.draw_initial_values(rng);
    });
  });
}
/// Names and references of the masked layers, at any depth, in order.
template <class M>
auto maskable_layers(M& model) {
  using Layer = std::conditional_t<std::is_const_v<M>, const MaskedLinearLayer, MaskedLinearLayer>;
  std::vector<std::pair<std::string, Layer*>> layers;
  each<MaskedLinearLayer>(model, [&](const std::string& name, Layer& layer) { layers.emplace_back(name, &layer); });
  return layers;
}

}  // namespace deepstruct
