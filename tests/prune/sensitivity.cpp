// Sensitivity: one layer at a time, exact densities, tables.
#include <sstream>

#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/prune/sensitivity.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;
using test::same_bits;

namespace {

using SensitivityConv = Sequential<MaskedConv2d, ReLU, Flatten, MaskedLinearLayer>;

std::vector<Mask> sensitivity_masks(const auto& model) {
  std::vector<Mask> all;
  each_masked(model, [&](const auto& layer) { all.push_back(layer.mask()); });
  return all;
}

/// Scans a model and checks every model that is evaluated.
template <class M>
void sensitivity_check(const M& model, Rng& rng) {
  const auto whole = sensitivity_masks(model);
  M scored = model;
  const auto criterion = [&](M& m) {
    Rng same(6);
    set_random_saliency(m, same);
  };
  criterion(scored);
  const auto edges = detail::prune_layers(scored, "test");
  const std::vector<double> densities{1, 0.5, 0.26, 0.1, 0};
  std::vector<std::vector<Mask>> seen;
  std::vector<Tensor> outputs;
  const Tensor x = Tensor::uniform({3, 4, 3, 2}, -1, 1, rng);
  const Sensitivity table = sensitivity_scan(model, criterion, densities, [&](const M& m) {
    seen.push_back(sensitivity_masks(m));
    outputs.push_back(m(x).value());
    return static_cast<int>(seen.size());
  });
  REQUIRE(sensitivity_masks(model) == whole);
  each_masked(model, [](const auto& layer) { REQUIRE_FALSE(layer.has_saliency()); });
  REQUIRE(seen.size() == 1 + densities.size() * whole.size());
  REQUIRE(seen[0] == whole);
  REQUIRE(table.whole == 1);
  REQUIRE(table.densities == densities);
  REQUIRE(table.layers.size() == whole.size());
  REQUIRE_FALSE(table.stopped);
  std::size_t at = 1;
  for (std::size_t l = 0; l < whole.size(); ++l)
    for (std::size_t k = 0; k < densities.size(); ++k, ++at) {
      const std::int64_t n = whole[l].nnz(), left = std::lrint(densities[k] * static_cast<double>(n));
      REQUIRE(table.layers[l].weights == n);
      REQUIRE(table.layers[l].left[k] == left);
      REQUIRE(table.layers[l].metric[k] == static_cast<double>(at + 1));
      for (std::size_t other = 0; other < whole.size(); ++other) {
        if (other != l) REQUIRE(seen[at][other] == whole[other]);
      }
      REQUIRE(seen[at][l].nnz() == left);
      std::vector<float> sorted;
      edges[l].saliency.for_each([&](std::int64_t, float s) { sorted.push_back(s); });
      std::sort(sorted.rbegin(), sorted.rend());
      seen[at][l].for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
        REQUIRE(edges[l].saliency(whole[l].edge(r, c)) >= sorted[static_cast<std::size_t>(left - 1)]);
      });
      if (densities[k] == 1) REQUIRE(same_bits(outputs[at], outputs[0]));
      if (densities[k] == 0) REQUIRE_FALSE(same_bits(outputs[at], outputs[0]));
    }
}

}  // namespace

TEST_CASE("a scan prunes one layer at a time, to exact densities, by saliency") {
  Rng rng(1);
  for (storage store : {storage::full, storage::packed}) {
    MaskedDeepFFN ffn(Shape{4, 3, 2}, 3, {7, 5}, {.store = store}, rng);
    sensitivity_check(ffn, rng);
    random_pruning(ffn, percentage(30), rng);
    each_masked(ffn, [](auto& layer) { layer.clear_saliency(); });
    sensitivity_check(ffn, rng);
    sensitivity_check(SensitivityConv(MaskedConv2d(4, 6, {3, 2}, {.conv = {.groups = 2}, .store = store}, rng), ReLU(),
                                      Flatten(), MaskedLinearLayer(6, 3, {.store = store}, rng)),
                      rng);
  }
}

TEST_CASE("a scan is written as a table and as lines that can be read back") {
  Rng rng(2);
  const MaskedDeepFFN model(4, 2, {2}, {}, rng);
  const Sensitivity table = sensitivity_scan(model, Magnitude(), {0.5, 0.1}, [](const auto& m) {
    return static_cast<double>(get_network_weight_count(m)) / 8;
  });
  std::ostringstream text, csv;
  table.write(text);
  table.write_csv(csv);
  REQUIRE(text.str() ==
          "layer         weights     0.5     0.1\n"
          "_layer_first        8  1.0000  0.6250\n"
          "_layer_out          4  1.2500  1.0000\n"
          "whole model: 1.5000\n");
  REQUIRE(csv.str() ==
          "layer,density,weights,left,metric\n"
          "_layer_first,0.5,8,4,1\n"
          "_layer_first,0.1,8,1,0.625\n"
          "_layer_out,0.5,4,2,1.25\n"
          "_layer_out,0.1,4,0,1\n");
}

TEST_CASE("a scan ends where the stop token says, with whole lines") {
  Rng rng(3);
  const MaskedDeepFFN model(4, 2, {2, 2}, {}, rng);
  std::stop_source source;
  int calls = 0;
  const Sensitivity table = sensitivity_scan(
      model, Magnitude(), {0.5, 0.1},
      [&](const auto&) {
        if (++calls == 4) source.request_stop();
        return 0;
      },
      source.get_token());
  REQUIRE(calls == 4);
  REQUIRE(table.stopped);
  REQUIRE(table.layers.size() == 1);
  REQUIRE(table.layers[0].metric.size() == 2);
}

TEST_CASE("a scan refuses densities and models without meaning") {
  Rng rng(4);
  const MaskedDeepFFN model(4, 2, {2}, {}, rng);
  const auto evaluate = [](const auto&) { return 0; };
  for (const double bad : {-0.1, 1.5, std::numeric_limits<double>::quiet_NaN()})
    require_error(
        [&] {
          sensitivity_scan(model, Magnitude(), {0.5, bad}, evaluate);
        },
        {"sensitivity_scan: a density must be a share from 0 to 1"});
  require_error([&] { sensitivity_scan(Linear(2, 2, rng), Magnitude(), {0.5}, evaluate); },
                {"sensitivity_scan: the model has no masked layers"});
  MaskedDeepFFN broken = model;
  broken.layer_out.weight.mutable_value()(0, 1) = std::numeric_limits<float>::quiet_NaN();
  require_error([&] { sensitivity_scan(broken, Magnitude(), {0.5}, evaluate); },
                {"sensitivity_scan: a saliency is NaN (_layer_out, edge 0 <- 1)"});
}
