// Distributions: how dense every layer is to be, by a rule or by hand; masks of these densities by saliency or at
// random.
#pragma once

#include <map>

#include "prune.hpp"

namespace deepstruct {

/// Density, 0 to 1, of masked layers by their dotted names: the share of a layer's places that have an edge. Places are
/// out·in of a linear layer and out·in/groups·kh·kw of a convolution; a mask that is the structure of a network, as in
/// a packed MaskedDeepDAN, has no places but its edges.
using Densities = std::map<std::string, double>;

namespace detail {

/// A masked layer as distributions see it.
struct LayerExtents {
  std::string name;
  std::int64_t places;
  double er, erk;  ///< expected numbers of edges, but for a factor that all layers share
};

template <class M>
std::vector<LayerExtents> layer_extents(const char* op, const M& model, double density) {
  check(density >= 0 && density <= 1, op, ": need a density of 0 to 1 (", density, ")");
  std::vector<LayerExtents> layers;
  each_masked(model, [&](const std::string& name, const auto& layer) {
    Shape s = layer.mask().shape();
    if constexpr (requires { layer.weight_shape(); }) s = layer.weight_shape();
    const auto extent = [&](int k) { return static_cast<double>(s[k]); };
    const double ends = extent(0) + extent(1), window = extent(2) * extent(3);
    layers.push_back(
        {name, places_for_edges(layer), ends * window, s.rank() < 4 ? ends : ends + extent(2) + extent(3)});
  });
  check(!layers.empty(), op, ": the model has no masked layers (0)");
  return layers;
}

/// density·places edges in all, shared out in proportion; a layer that would have more than its places has all of them,
/// and the others share the rest.
inline Densities spread(const std::vector<LayerExtents>& layers, double density, double LayerExtents::*share) {
  std::int64_t places = 0;
  std::vector<std::int64_t> edges(layers.size(), 0);
  for (const LayerExtents& l : layers) places += l.places;
  auto left = static_cast<std::int64_t>(std::nearbyint(density * static_cast<double>(places)));
  std::vector<double> shares;
  for (const LayerExtents& l : layers) shares.push_back(l.places > 0 ? l.*share : 0);
  for (bool more = true; more;) {
    more = false;
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    std::int64_t taken = 0;
    for (std::size_t k = 0; k < layers.size(); ++k)
      if (shares[k] > 0 && shares[k] / sum * static_cast<double>(left) >= static_cast<double>(layers[k].places)) {
        edges[k] = layers[k].places;
        taken += edges[k];
        shares[k] = 0;
        more = true;
      }
    left -= taken;
  }
  const std::vector<std::int64_t> parts = share_out(left, shares);
  Densities all;
  for (std::size_t k = 0; k < layers.size(); ++k)
    all[layers[k].name] =
        layers[k].places == 0 ? 0 : static_cast<double>(edges[k] + parts[k]) / static_cast<double>(layers[k].places);
  return all;
}

/// Throws unless every name is that of a masked layer, and has a density of 0 to 1.
template <class Layers>
void check_densities(const char* op, const Layers& layers, const Densities& densities) {
  for (const auto& [name, d] : densities) {
    std::string known;
    bool found = false;
    for (const auto& l : layers) {
      found |= l.name == name;
      known += (known.empty() ? "" : ", ") + l.name;
    }
    check(found, op, ": the model has no such masked layer (", name, "; it has ", known, ")");
    check(d >= 0 && d <= 1, op, ": need a density of 0 to 1 (layer ", name, ": ", d, ")");
  }
}
inline std::int64_t edges_for(double density, std::int64_t places) {
  return static_cast<std::int64_t>(std::nearbyint(density * static_cast<double>(places)));
}

}  // namespace detail

/// The same density for every masked layer; numbers of edges are rounded so that they add up to density·places, rounded
/// half to even, of the whole network.
template <class M>
Densities uniform_density(const M& model, double density) {
  auto layers = detail::layer_extents("uniform_density", model, density);
  for (auto& l : layers) l.er = static_cast<double>(l.places);
  return detail::spread(layers, density, &detail::LayerExtents::er);
}
/// Densities as those of Erdős–Rényi graphs, ε·(in + out)/(in·out) (Mocanu et al. 2018), of channels in convolutions;
/// ε so that density·places edges, rounded half to even, are in the whole network. Layers for which that would be more
/// than 1 are dense, and ε grows for the others.
template <class M>
Densities erdos_renyi(const M& model, double density) {
  return detail::spread(detail::layer_extents("erdos_renyi", model, density), density, &detail::LayerExtents::er);
}
/// The same with the extents of kernels: ε·(in + out + kh + kw)/(in·out·kh·kw) for convolutions (ERK, Evci et al.
/// 2020).
template <class M>
Densities erdos_renyi_kernel(const M& model, double density) {
  return detail::spread(detail::layer_extents("erdos_renyi_kernel", model, density), density,
                        &detail::LayerExtents::erk);
}

/// Removes the least salient weights of every named layer, so that exactly density·places, rounded half to even, stay;
/// other layers stay as they are. Throws, and changes nothing, on a name that is no masked layer, where a layer has
/// fewer weights than that (the text says what is possible), and where floors keep more.
template <class M>
PruneReport prune_to_density(M& model, const Densities& densities, const PruneOptions& options = {}) {
  constexpr const char* op = "prune_to_density";
  detail::check_prune_options(op, options);
  const auto layers = detail::prune_layers(model, op);
  detail::check_densities(op, layers, densities);
  std::vector<Mask> after;
  for (const detail::PruneLayer& l : layers) {
    const auto found = densities.find(l.name);
    if (found == densities.end()) {
      after.push_back(l.mask);
      continue;
    }
    const std::int64_t left = detail::edges_for(found->second, l.places);
    check(left <= l.mask.nnz(), op, ": a layer has fewer weights than shall stay (layer ", l.name, ": density ",
          found->second, ", ", left, " of ", l.mask.nnz(), " weights; possible 0 to ",
          static_cast<double>(l.mask.nnz()) / static_cast<double>(std::max<std::int64_t>(1, l.places)), ")");
    after.push_back(
        detail::masks_after(std::span(&l, 1), density(found->second), options, detail::at_layer(op, l.name))[0]);
  }
  return detail::set_masks(layers, after);
}

/// Sets the masks of the named layers at random: exactly density·places edges, rounded half to even, every set of so
/// many equally likely (each layer takes one draw): a sparse start (Mocanu et al. 2018). A mask that is the structure
/// of a network keeps some of its edges. As set_mask: in packed storage an edge that did not exist starts at 0, so
/// start from full masks there. Throws, and changes nothing, on a name that is no masked layer.
template <class M>
void set_random_masks(M& model, const Densities& densities, Rng& rng = default_rng()) {
  constexpr const char* op = "set_random_masks";
  detail::check_densities(op, detail::layer_extents(op, model, 1), densities);
  std::vector<std::optional<Mask>> next;
  each_masked(std::as_const(model), [&](const std::string& name, const auto& layer) {
    next.emplace_back();
    const auto found = densities.find(name);
    if (found == densities.end()) return;
    const Draw draw = rng.draw();
    const Mask mask = layer.mask();
    const std::int64_t places = detail::places_for_edges(layer);
    std::int64_t at = 0, left = detail::edges_for(found->second, places);
    const auto chosen = [&] {  // one of those to come with the odds left : places to come
      const auto odds = static_cast<std::uint64_t>(left), rest = static_cast<std::uint64_t>(places - at);
      const bool is = draw.below(static_cast<std::uint64_t>(at++), rest) < odds;
      left -= is;
      return is;
    };
    const bool structure = places == mask.nnz();
    next.back() = structure
                      ? mask.filter([&](std::int32_t, std::int64_t, std::int64_t) { return chosen(); })
                      : Mask::where(mask.rows(), mask.cols(), [&](std::int64_t, std::int64_t) { return chosen(); });
  });
  auto m = next.begin();
  each_masked(model, [&](auto& layer) {
    if (*m) layer.set_mask(**m);
    ++m;
  });
}

}  // namespace deepstruct
