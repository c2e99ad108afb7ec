// The criteria of the laboratory: everything that prunes a network down to a number of weights.
#pragma once

#include <deepstruct/prune.hpp>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace lab {

namespace ds = deepstruct;
using Model = ds::MaskedDeepFFN;

/// How a budget is spread over the layers.
enum class Scope { network, layer, erk };

/// What pruners work with besides the model.
struct Material {
  std::vector<ds::Batch> data;  ///< some of the training set
  ds::Shape example;            ///< shape of an input
  Scope scope = Scope::network;
};

/// Leaves so many weights.
using Pruner = std::function<void(Model&, std::int64_t left, const Material&, ds::Rng&)>;

namespace detail {

inline void prune_in_scope(Model& model, std::int64_t left, Scope scope) {
  const ds::PruneOptions options{.exact = true};
  if (scope == Scope::network)
    ds::prune_network_by_saliency(model, ds::remaining(left), options);
  else if (scope == Scope::layer)
    ds::prune_layer_by_saliency(model, ds::remaining(left), options);
  else {
    std::int64_t places = 0;
    ds::each_masked(std::as_const(model),
                    [&](const auto& layer) { places += layer.mask().rows() * layer.mask().cols(); });
    const double density = static_cast<double>(left) / static_cast<double>(places);
    ds::prune_to_density(model, ds::erdos_renyi_kernel(model, density), options);
  }
}
/// A pruner that sets saliencies first: set(model, material, rng).
template <class Set>
Pruner by(Set set) {
  return [set](Model& model, std::int64_t left, const Material& material, ds::Rng& rng) {
    set(model, material, rng);
    prune_in_scope(model, left, material.scope);
    ds::set_magnitude_saliency(model);
  };
}
inline Pruner obd(ds::Curvature curvature) {
  return by([curvature](Model& m, const Material& with, ds::Rng& rng) {
    ds::set_obd_saliency(m, with.data, ds::CrossEntropy{}, {.curvature = curvature, .probes = 4}, rng);
  });
}

}  // namespace detail

/// All criteria by name.
inline const std::vector<std::pair<std::string, Pruner>>& pruners() {
  using M = Material;
  using R = ds::Rng;
  static const std::vector<std::pair<std::string, Pruner>> all{
      {"magnitude", detail::by([](Model& m, const M&, R&) { ds::set_magnitude_saliency(m); })},
      {"distributed", detail::by([](Model& m, const M&, R&) { ds::set_distributed_saliency(m); })},
      {"lamp", detail::by([](Model& m, const M&, R&) { ds::set_lamp_saliency(m); })},
      {"random", detail::by([](Model& m, const M&, R& rng) { ds::set_random_saliency(m, rng); })},
      {"taylor", detail::by([](Model& m, const M& with, R&) { ds::set_taylor_saliency(m, with.data); })},
      {"snip", detail::by([](Model& m, const M& with, R&) { ds::set_snip_saliency(m, with.data); })},
      {"grasp", detail::by([](Model& m, const M& with, R&) { ds::set_grasp_saliency(m, with.data); })},
      {"fisher", detail::by([](Model& m, const M& with, R&) { ds::set_fisher_saliency(m, with.data); })},
      {"wanda", detail::by([](Model& m, const M& with, R&) { ds::set_wanda_saliency(m, with.data); })},
      {"obd", detail::obd(ds::Curvature::gauss_newton)},
      {"obd_hutchinson", detail::obd(ds::Curvature::hutchinson)},
      {"obd_layerwise", detail::obd(ds::Curvature::layerwise)},
      {"synflow",
       [](Model& m, std::int64_t left, const M& with, R&) { ds::synflow(m, ds::remaining(left), with.example); }},
      {"obs", [](Model& m, std::int64_t left, const M& with,
                 R&) { ds::optimal_brain_surgeon_layer_wise(m, with.data, ds::remaining(left)); }},
      {"obc", [](Model& m, std::int64_t left, const M& with,
                 R&) { ds::optimal_brain_compression(m, with.data, ds::remaining(left)); }},
  };
  return all;
}

}  // namespace lab
