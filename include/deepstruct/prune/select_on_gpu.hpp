// Selection where the saliencies are: the threshold and the masks of a model on a GPU by its kernels.
#pragma once

#include <optional>
#include <vector>

#include "ranking.hpp"

namespace deepstruct {

namespace detail {

/// The saliencies of a layer's edges, where its weight is.   [nnz]
template <class L>
Tensor edges_there(const L& layer) {
  if (layer.packed()) return layer.saliency();
  no_grad guard;
  const Mask mask = layer.mask();
  return pick_edges(layer.saliency().with_shape(mask.shape()), mask).value();
}
/// Whether some of these are NaN.
inline bool any_nan(const Tensor& t) {
  no_grad guard;
  if (t.size() == 0) return false;
  Tensor equal = Tensor::empty(t.shape(), t.device());
  on(t.device(), [&](auto device) {
    nest<3> run;
    run.extent[0] = t.size();
    for (auto& stride : run.stride) stride[0] = 1;
    kernels::zip<kernels::fn::equal>(device, t.data(), t.data(), equal.data(), run);
  });
  return sum(affine(Var(std::move(equal)), -1, 1)).item() != 0;  // of those that are not equal to themselves
}

/// What prune_network_by_saliency leaves of a model on a GPU: the n-th smallest saliency and the edges that stay are
/// found there, and only the new masks come to the host. The masks are those of masks_after, in the order of the
/// layers. None for what is left to the host: a model there, a bucket, floors that would hold something, blocks, NaN.
template <class M>
std::optional<std::vector<Mask>> masks_on_gpu([[maybe_unused]] const M& model, [[maybe_unused]] const Budget& budget,
                                              [[maybe_unused]] const PruneOptions& options,
                                              [[maybe_unused]] std::string_view op) {
  if constexpr (has_cuda) {
    if (device_of(model) == Device::cpu || budget.kind == Budget::Kind::bucket || options.keep_per_output > 0 ||
        options.keep_per_input > 0 || options.block != std::array<std::int64_t, 2>{1, 1})
      return std::nullopt;
    std::vector<Mask> masks;
    std::vector<Tensor> saliency;
    std::vector<kernels::select_part> parts;
    std::int64_t n = 0, places = 0;
    bool nan = false;
    each_masked(model, [&](const auto& layer) {
      masks.push_back(layer.mask());
      saliency.push_back(edges_there(layer));
      parts.push_back({saliency.back().data(), saliency.back().size()});
      n += parts.back().size, places += places_for_edges(layer);
      nan = nan || any_nan(saliency.back());
    });
    if (n == 0 || nan) return std::nullopt;
    const cuda gpu{runtime::current_stream};
    const auto nth = [&](std::int64_t k) {
      return kernels::nth_smallest(gpu, parts.data(), static_cast<std::int64_t>(parts.size()), k, false);
    };
    const Budget goes = going(budget, n, places, op);
    PruneLine line{0};
    if (options.exact || says_what_stays(budget)) {
      const std::int64_t count = exact_count(n, goes);
      if (count == 0) return masks;
      const kernels::selected last = nth(count - 1);
      line = {last.value, count - last.below};
    } else {
      line.limit = threshold(
          n, goes, [&](std::int64_t k) { return std::pair(nth(k).value, nth(std::min(k + 1, n - 1)).value); });
    }
    for (std::size_t l = 0; l < masks.size(); ++l) {
      const std::int64_t before = masks[l].nnz(), rows = masks[l].rows();
      if (before == 0) continue;
      const auto edges = static_cast<std::size_t>(before);
      Buffer<std::int32_t> start(static_cast<std::size_t>(rows) + 1, Device::cuda), col(edges, Device::cuda),
          old_edge(edges, Device::cuda);
      std::int64_t equal = 0;
      const std::int64_t left =
          kernels::keep_edges(gpu, masks[l].csr(Device::cuda), parts[l].data, line.limit, line.ties, false,
                              start.data(), col.data(), old_edge.data(), &equal);
      line.ties -= std::min(line.ties, equal);  // counted off in layer and edge order
      if (left < std::min(before, options.keep_per_layer)) return std::nullopt;
      if (left == before) continue;
      std::vector<std::int32_t> host_start(static_cast<std::size_t>(rows) + 1), host_col(edges);
      start.copy_to(host_start.data());
      col.copy_to(host_col.data());
      masks[l] =
          Mask::from_csr(rows, masks[l].cols(), host_start, std::span(host_col).first(static_cast<std::size_t>(left)));
    }
    return masks;
  }
  return std::nullopt;
}

}  // namespace detail

}  // namespace deepstruct
