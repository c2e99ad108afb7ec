// Saliencies set by the values of edges, in edge order.
#pragma once

#include "criterion.hpp"

namespace deepstruct::detail {

/// Sets the saliencies of all masked layers from values of their edges, or none and throws; 0 where no edge is.
template <class M>
void put_edges(const char* op, M& model, const std::vector<std::vector<double>>& edges) {
  std::vector<Tensor> all;
  each_masked(std::as_const(model), [&](const auto& layer) { all.push_back(at_edges(layer, edges[all.size()])); });
  put_saliencies(op, model, std::move(all));
}

/// The products of what two tensors of a layer's weight's shape have at its edges.
template <class L>
std::vector<double> edge_products(const L& layer, const Tensor& a, const Tensor& b) {
  const Tensor x = edges_of(layer, a), y = edges_of(layer, b);
  std::vector<double> products(static_cast<std::size_t>(x.size()));
  for (std::size_t e = 0; e < products.size(); ++e) products[e] = double{x.data()[e]} * double{y.data()[e]};
  return products;
}

}  // namespace deepstruct::detail
