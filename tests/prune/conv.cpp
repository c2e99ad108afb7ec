// Masked convolutions are pruned together with linear layers.
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/nn/layers.hpp>
#include <deepstruct/prune/prune.hpp>

#include "support/catch.hpp"

using namespace deepstruct;

TEST_CASE("Networks with masked convolutions are pruned like any other") {
  Rng rng(31);
  for (const storage store : {storage::full, storage::packed}) {
    Sequential net{MaskedConv2d(2, 4, 3, {.store = store}, rng), ReLU(), Flatten(),
                   MaskedLinearLayer(36, 3, {.store = store}, rng)};
    const std::int64_t all = get_network_weight_count(net);
    REQUIRE(all == 4 * 18 + 36 * 3);
    const PruneReport report = prune_network_by_saliency(net, percentage(50), {.exact = true});
    REQUIRE(report.layers.size() == 2);
    REQUIRE(get_network_weight_count(net) == all / 2);
    // Whatever is left is at least as large as the largest that went.
    const auto& conv = std::get<0>(net.modules);
    const float least = [&] {
      float x = 1e9f;
      conv.effective_weight().for_each([&](std::int64_t, float w) { x = w != 0 ? std::min(x, std::abs(w)) : x; });
      return x;
    }();
    prune_layer_by_saliency(net, percentage(50), {.exact = true});
    REQUIRE(std::get<0>(net.modules).mask().nnz() == report.layers[0].after - report.layers[0].after / 2);
    std::get<0>(net.modules).effective_weight().for_each([&](std::int64_t, float w) {
      REQUIRE((w == 0 || std::abs(w) >= least));
    });
    random_pruning(net, absolute(3), rng);
    recompute_mask(net, 0.2f);
    apply_mask(net);
    reset_pruned_network(net);
    REQUIRE(get_network_weight_count(net) == all);
  }
}
