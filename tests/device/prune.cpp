// Criteria, surgery and paths on a GPU beside the same on the CPU.
#include <deepstruct/deepstruct.hpp>
#include <deepstruct/graph.hpp>
#include <deepstruct/prune.hpp>

#include "beside_cpu.hpp"
#include "support/cases.hpp"

#include <functional>

using namespace deepstruct;

namespace {

using PruneNet = Sequential<MaskedLinearLayer, ReLU, MaskedLinearLayer, Tanh, MaskedLinearLayer>;

PruneNet prune_net(storage store, Rng& rng) {
  const MaskedLinearOptions options{.store = store};
  PruneNet net(MaskedLinearLayer(12, 9, options, rng), ReLU(), MaskedLinearLayer(9, 8, options, rng), Tanh(),
               MaskedLinearLayer(8, 3, options, rng));
  prune_network_by_saliency(net, percentage(20), {.exact = true});
  return net;
}
std::vector<Batch> prune_batches(Rng& rng) {
  std::vector<Batch> data;
  for (const std::int64_t n : {17, 16}) {
    Batch b{Tensor::normal({n, 12}, 0, 1, rng), Indices::zeros({n})};
    for (std::int64_t i = 0; i < n; ++i) b.y(i) = static_cast<std::int32_t>(i % 3);
    data.push_back(std::move(b));
  }
  return data;
}
/// The same saliencies of all edges, to a share of the largest.
void require_same_saliencies(const PruneNet& there, const PruneNet& here, double tolerance) {
  std::vector<std::vector<float>> want;
  each_masked(here, [&](const auto& layer) { want.push_back(detail::edges_of(layer, layer.saliency()).to_vector()); });
  std::size_t l = 0;
  each_masked(there, [&](const auto& layer) {
    const std::vector<float> got = detail::edges_of(layer, layer.saliency()).to_vector();
    REQUIRE(got.size() == want[l].size());
    double most = 1e-30;
    for (const float v : want[l]) most = std::max(most, std::fabs(double{v}));
    for (std::size_t e = 0; e < got.size(); ++e) {
      INFO("layer " << l << ", edge " << e << ": " << got[e] << " and on the CPU " << want[l][e]);
      REQUIRE(std::fabs(double{got[e]} - double{want[l][e]}) <= tolerance * most);
    }
    ++l;
  });
}

}  // namespace

TEST_CASE("Criteria on a GPU give the saliencies of the CPU") {
  for (const storage store : {storage::full, storage::packed}) {
    Rng rng(1);
    const PruneNet net = prune_net(store, rng);
    const std::vector<Batch> data = prune_batches(rng);
    const auto obd = [&](Curvature curvature) {
      return [&data, curvature](PruneNet& m) {
        Rng probes(5);
        set_obd_saliency(m, data, CrossEntropy{}, {.curvature = curvature, .probes = 3}, probes);
      };
    };
    const std::vector<std::pair<std::string, std::function<void(PruneNet&)>>> criteria{
        {"magnitude", [](auto& m) { set_magnitude_saliency(m); }},
        {"distributed", [](auto& m) { set_distributed_saliency(m); }},
        {"lamp", [](auto& m) { set_lamp_saliency(m); }},
        {"random",
         [](auto& m) {
           Rng own(3);
           set_random_saliency(m, own);
         }},
        {"taylor", [&](auto& m) { set_taylor_saliency(m, data); }},
        {"snip", [&](auto& m) { set_snip_saliency(m, data); }},
        {"grasp", [&](auto& m) { set_grasp_saliency(m, data); }},
        {"fisher", [&](auto& m) { set_fisher_saliency(m, data); }},
        {"wanda", [&](auto& m) { set_wanda_saliency(m, data); }},
        {"synflow",
         [](auto& m) {
           set_synflow_saliency(m, {1, 12});
         }},
        {"exact", obd(Curvature::exact)},
        {"hutchinson", obd(Curvature::hutchinson)},
        {"gauss-newton", obd(Curvature::gauss_newton)},
        {"layer-wise", obd(Curvature::layerwise)}};
    for (const auto& [name, set] : criteria) {
      INFO(name << (store == storage::packed ? ", packed" : ", full"));
      auto [here, there] = test::on_both(net, set);
      require_same_saliencies(there, here, 2e-4);
      REQUIRE(prune_network_by_saliency(there, remaining(60)).after() == 60);
      REQUIRE(device_of(there) == Device::cuda);
    }
  }
}

TEST_CASE("Whole networks are pruned on a GPU to the masks of the CPU: budgets, ties, floors, infinities") {
  for (const storage store : {storage::full, storage::packed})
    for (const int kind : {0, 1, 2}) {  // all saliencies differ; many are equal; some are infinite
      Rng rng(static_cast<std::uint64_t>(10 + kind));
      PruneNet net = prune_net(store, rng);
      const auto total = get_network_weight_count(net);
      if (kind > 0)
        each_masked(net, [&](auto& layer) {
          Tensor s = Tensor::uniform(layer.weight.shape(), -1, 1, rng);
          s.for_each([&](std::int64_t i, float& x) {
            x = std::round(x * 4) / 4;
            if (kind == 2 && i % 7 == 3) x = i % 2 == 0 ? HUGE_VALF : -HUGE_VALF;
          });
          layer.set_saliency(std::move(s));
        });
      const std::vector<Budget> budgets{percentage(0),    percentage(37.3), percentage(50),      percentage(100),
                                        absolute(0),      absolute(41),     absolute(total + 5), bucket(3),
                                        remaining(total), remaining(50),    remaining(0),        density(0.31),
                                        density(1)};
      const std::vector<PruneOptions> ways{{},
                                           {.exact = true},
                                           {.exact = true, .keep_per_layer = 20},
                                           {.keep_per_output = 1},
                                           {.exact = true, .block = {2, 1}}};
      for (std::size_t b = 0; b < budgets.size(); ++b)
        for (std::size_t w = 0; w < ways.size(); ++w) {
          INFO("kind " << kind << ", budget " << b << ", way " << w << (store == storage::packed ? ", packed" : ""));
          PruneNet here = net, there = net;
          to(there, test::gpu);
          const auto prune_one = [&](PruneNet& m) -> std::string {
            try {
              std::string counts;
              for (const auto& l : prune_network_by_saliency(m, budgets[b], ways[w]).layers)
                counts += l.name + ": " + std::to_string(l.before) + " -> " + std::to_string(l.after) + "; ";
              return counts;
            } catch (const Error& e) {
              return e.what();
            }
          };
          REQUIRE(prune_one(there) == prune_one(here));
          REQUIRE(test::masks_of(there) == test::masks_of(here));
          REQUIRE(device_of(there) == test::gpu);
          test::require_same_parameters(there, here, 0);
        }
      // Twice, so that the second starts from a mask with holes; and NaN, which the host names.
      PruneNet here = net, there = net;
      to(there, test::gpu);
      for (auto* m : {&here, &there}) {
        prune_network_by_saliency(*m, percentage(60));
        prune_network_by_saliency(*m, percentage(30), {.exact = true});
      }
      REQUIRE(test::masks_of(there) == test::masks_of(here));
      bool first = true;
      each_masked(there, [&](auto& layer) {
        Tensor s = to(layer.saliency(), Device::cpu);
        if (!std::exchange(first, false) || s.size() == 0) return layer.set_saliency(std::move(s));
        for (std::int64_t i = 0; i < s.shape().rows(); ++i) s.data()[i * s.ld()] = NAN;
        layer.set_saliency(std::move(s));
      });
      test::require_error([&] { prune_network_by_saliency(there, percentage(10)); }, {"a saliency is NaN"});
      REQUIRE(test::masks_of(there) == test::masks_of(here));
    }
}

TEST_CASE("Surgery, paths and patterns on a GPU leave the masks of the CPU") {
  for (const storage store : {storage::full, storage::packed}) {
    Rng rng(2);
    const PruneNet net = prune_net(store, rng);
    const std::vector<Batch> data = prune_batches(rng);
    const std::vector<std::pair<std::string, std::function<void(PruneNet&)>>> ways{
        {"layer-wise surgeon", [&](auto& m) { optimal_brain_surgeon_layer_wise(m, data, percentage(30)); }},
        {"compression", [&](auto& m) { optimal_brain_compression(m, data, percentage(30)); }},
        {"connected",
         [](auto& m) {
           prune_connected(m, remaining(40), {1, 12});
         }},
        {"dead edges",
         [](auto& m) {
           prune_network_by_saliency(m, remaining(30));
           prune_dead_edges(m, {1, 12});
         }},
        {"synflow",
         [](auto& m) {
           synflow(m, remaining(30), {1, 12}, {.rounds = 5});
         }},
        {"blocks",
         [](auto& m) {
           prune_network_by_saliency(m, percentage(40), {.block = {2, 3}});
         }},
        {"erk", [](auto& m) { prune_to_density(m, erdos_renyi_kernel(m, 0.4)); }},
        {"multiply-adds",
         [](auto& m) {
           prune_to(m, 80, multiply_adds_of({1, 12}));
         }},
        {"forgotten", [](auto& m) {
           prune_network_by_saliency(m, percentage(50));
           forget_pruned(m);
         }}};
    for (const auto& [name, prune] : ways) {
      INFO(name << (store == storage::packed ? ", packed" : ", full"));
      const auto [here, there] = test::on_both(net, prune);
      REQUIRE(test::masks_of(there) == test::masks_of(here));
      test::require_same_parameters(there, here, 5e-5f);
    }
  }
}
