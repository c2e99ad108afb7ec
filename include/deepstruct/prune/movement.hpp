// The movement criterion: whether training moves a weight away from 0 or towards it.
#pragma once

#include "edge_saliencies.hpp"

namespace deepstruct {

/// −Σ_t w·g over training steps t for every existing weight of the masked layers of a model (Sanh et al. 2020): above 0
/// where gradient descent makes the weight grow in magnitude, below where it makes it shrink.
///
/// observe(model) belongs between backward and the step of the optimizer, which forgets gradients; with fit, in an
/// optimizer of one's own:
///   struct Watched {
///     Adam adam;
///     Movement movement;
///     void step(auto& model) { movement.observe(model), adam.step(model); }
///   };
/// Sums are in double, an edge each, and follow the masks, in full and packed storage: an edge that goes takes its sum
/// with it, one that comes starts at 0.
class Movement {
 public:
  /// Adds −w·g of the gradients that backward left in the model. Throws, and adds nothing, without a masked layer or
  /// where none has a gradient, on a product that is not finite, and on other layers than observed before. A layer
  /// without a gradient adds 0. O(weights).
  template <class M>
  void observe(const M& model) {
    constexpr const char* op = "Movement::observe";
    std::vector<Layer> next = at(op, model);
    bool any = false;
    std::size_t k = 0;
    each_masked(model, [&](const auto& layer) {
      Layer& sums = next[k++];
      if (!layer.weight.has_grad()) return;
      any = true;
      const std::vector<double> product = detail::edge_products(layer, layer.weight.value(), layer.weight.grad());
      for (std::size_t e = 0; e < product.size(); ++e) {
        check(std::isfinite(product[e]), op, ": w·g is not finite (", product[e], " at edge ", e, " of layer ",
              sums.name, ")");
        sums.sum[e] -= product[e];
      }
    });
    check(any, op, ": no layer has a gradient; observe after backward and before the optimizer's step (0 of ", k, ")");
    layers_ = std::move(next);
    ++steps_;
  }
  /// Number of steps observed.
  std::int64_t steps() const { return steps_; }
  /// The sums at the edges that a model has now, layer by layer. Throws unless such a model was observed.
  template <class M>
  std::vector<std::vector<double>> sums(const char* op, const M& model) const {
    check(steps_ > 0, op, ": no training step was observed (0)");
    std::vector<std::vector<double>> all;
    for (Layer& layer : at(op, model)) all.push_back(std::move(layer.sum));
    return all;
  }

 private:
  struct Layer {
    std::string name;
    Mask mask;
    std::vector<double> sum;  // [nnz]
  };

  /// The sums so far at the edges of a model.
  template <class M>
  std::vector<Layer> at(const char* op, const M& model) const {
    std::vector<Layer> now;
    each_masked(model, [&](const std::string& name, const auto& layer) {
      const std::size_t k = now.size();
      now.push_back({name, layer.mask(), {}});
      Layer& l = now.back();
      if (steps_ == 0) return l.sum.assign(static_cast<std::size_t>(l.mask.nnz()), 0);
      check(k < layers_.size() && name == layers_[k].name && l.mask.shape() == layers_[k].mask.shape(), op,
            ": the model has other masked layers than observed (", name, " ", l.mask.shape(), " for ",
            k < layers_.size() ? layers_[k].name : "none", " ", k < layers_.size() ? layers_[k].mask.shape() : Shape{0},
            ")");
      if (l.mask == layers_[k].mask) return void(l.sum = layers_[k].sum);
      for (const std::int32_t e : edge_map(layers_[k].mask, l.mask))
        l.sum.push_back(e < 0 ? 0 : layers_[k].sum[static_cast<std::size_t>(e)]);
    });
    check(!now.empty(), op, ": the model has no masked layers (0)");
    check(steps_ == 0 || now.size() == layers_.size(), op, ": the model has other masked layers than observed (",
          now.size(), " for ", layers_.size(), ")");
    return now;
  }

  std::vector<Layer> layers_;
  std::int64_t steps_ = 0;
};

/// Saliency −Σ_t w·g of the training steps that were observed (movement pruning, Sanh et al. 2020); edges that came
/// after the last one have 0. Throws, and sets none, unless steps of a model with the same masked layers were observed.
template <class M>
void set_movement_saliency(M& model, const Movement& movement) {
  const char* op = "set_movement_saliency";
  detail::put_edges(op, model, movement.sums(op, std::as_const(model)));
}

}  // namespace deepstruct
