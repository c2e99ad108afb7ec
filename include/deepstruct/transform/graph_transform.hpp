// Networks → graphs: to_graph, GraphTransform, and the graph of a single layer.
#pragma once

#include "extract_steps.hpp"
#include "neuron_graph.hpp"

namespace deepstruct {

/// The neurons of a network as a graph, with weights, biases, activations, norms and what optimizers remember: all that
/// from_graph needs to build it again (transform/neurons.hpp names the attributes).
///
/// Reads the trace of a copy in evaluation mode, never the order of members, and never changes the model. `example` is
/// the shape of an input with its batch, whose extent does not matter. O(neurons + edges). Throws where an op has no
/// form as neurons (it multiplies values, or mixes samples, or is a linear map of more than one position a sample) and
/// names it and its place.
template <class M>
LayeredGraph to_graph(const M& model, const Shape& example, const ExtractOptions& options = {}) {
  return detail::neuron_graph(detail::neurons_of(model, example, options), options.weights, options.positions);
}
/// The same of a model that knows its number of inputs and flattens them: one that begins with `layer_first`, or a
/// GraphNetwork.
template <class M>
LayeredGraph to_graph(const M& model) {
  if constexpr (requires { model.layer_first.in_features(); })
    return to_graph(model, Shape{1, model.layer_first.in_features()});
  else
    return to_graph(model, Shape{1, model.inputs()});
}

/// The structure of a network as a graph, as in Python deepstruct: GraphTransform({1, 28, 28}).transform(model).
///
/// It is to_graph without weights, unless the options ask for them. Other than in the original the batch does not
/// multiply vertices, masks are read and never overwritten, skip layers, pooling and kernels of any shape have their
/// edges, and a linear layer alone is a graph too.
class GraphTransform {
 public:
  /// The shape of an input with its batch, and which weights are edges.
  explicit GraphTransform(const Shape& example,
                          ExtractOptions options = {.weights = false, .slots = false, .positions = false})
      : example_(example), options_(options) {}
  GraphTransform(std::initializer_list<std::int64_t> example) : GraphTransform(Shape(example)) {}

  template <class M>
  LayeredGraph transform(const M& model) const {
    return to_graph(model, example_, options_);
  }

 private:
  Shape example_;
  ExtractOptions options_;
};

/// The bipartite graph of a linear layer, as in Python deepstruct: in_features inputs, then out_features outputs.
///
/// A plain layer needs a threshold. Of a masked one the edges are those of its mask, with a threshold those of at least
/// this |w|, and with `recompute_masks` besides those of |w| >= 0.001 whatever the mask, as in the original, where that
/// overwrote the mask.
class LinearLayerFunctor {
 public:
  explicit LinearLayerFunctor(std::optional<float> threshold = std::nullopt, bool recompute_masks = false)
      : threshold_(threshold), recompute_(recompute_masks) {}

  LayeredGraph transform(const Linear& layer) const {
    check(threshold_.has_value(), "LinearLayerFunctor: a plain linear layer needs a threshold (", layer.weight.shape(),
          ")");
    return to_graph(layer, {1, layer.weight.shape()[1]}, {.threshold = threshold_, .slots = false});
  }
  LayeredGraph transform(const MaskedLinearLayer& layer) const {
    ExtractOptions options{.masked_threshold = threshold_, .slots = false};
    if (recompute_ && threshold_) options.masked_threshold = 0.001f, options.recompute_masks = true;
    return to_graph(layer, {1, layer.in_features()}, options);
  }

 private:
  std::optional<float> threshold_;
  bool recompute_;
};

/// The bipartite graph of a convolution over images of a given size, as in Python deepstruct: the elements of the input
/// [channels, height, width] in row-major order, then those of the output.
///
/// Other than there images need not be square, the padding at the far ends is part of the output, and groups, dilation
/// and masks count. With a threshold edges of smaller |w| are left out.
class Conv2dLayerFunctor {
 public:
  Conv2dLayerFunctor(std::int64_t width, std::int64_t height, std::optional<float> threshold = std::nullopt)
      : width_(width), height_(height), threshold_(threshold) {}

  template <class C>
  LayeredGraph transform(const C& layer) const {
    return to_graph(layer, {1, layer.in_channels(), height_, width_},
                    {.threshold = threshold_, .masked_threshold = threshold_, .slots = false});
  }

 private:
  std::int64_t width_, height_;
  std::optional<float> threshold_;
};

}  // namespace deepstruct
