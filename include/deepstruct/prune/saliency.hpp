// Saliency: how much each weight of a masked layer matters. Functions here fill it for a whole model.
#pragma once

#include "../nn/masked_linear.hpp"

namespace deepstruct {

/// Saliency |w| everywhere again, which is what a layer has unless something else was set.
template <class M>
void set_magnitude_saliency(M& model) {
  each_masked(model, [](auto& layer) { layer.clear_saliency(); });
}

/// Uniform random saliency in [0, 1].
template <class M>
void set_random_saliency(M& model, Rng& rng = default_rng()) {
  each_masked(model, [&](auto& layer) { layer.set_saliency(Tensor::uniform(layer.weight.shape(), 0, 1, rng)); });
}

/// Saliency |w| / std(w), the (unbiased) standard deviation over all stored weights of the layer, so that layers of
/// different scale compare. A layer whose weights do not vary keeps |w|.
template <class M>
void set_distributed_saliency(M& model) {
  no_grad guard;
  each_masked(model, [](auto& layer) {
    const Var magnitude = abs(Var(layer.weight.value()));
    const float deviation = layer.weight.size() > 1 ? std(Var(layer.weight.value())).item() : 0.0f;
    layer.set_saliency(deviation > 0 ? (magnitude / deviation).value() : magnitude.value());
  });
}

}  // namespace deepstruct
