// LAMP: against its equation, ties, storages, bad input.
#include "naive_ffn.hpp"

using namespace deepstruct;
using test::Rows;

namespace {

Rows lamp_naive(const Rows& w) {
  Rows all;
  for (double x : w) {
    double sum = 0;
    for (double v : w) sum += std::fabs(v) >= std::fabs(x) ? v * v : 0;
    all.push_back(sum > 0 ? x * x / sum : 0);
  }
  return all;
}
struct LampDense {
  Linear dense{3, 2};
  static auto fields(auto& m) { return std::tuple{Field{"dense", m.dense}}; }
};

}  // namespace

TEST_CASE("LAMP saliencies are w² over the squares of the weights of a layer that are not smaller") {
  Rng rng(51);
  auto wide = test::conv_norm_net(rng);
  for (const bool packed : {false, true}) {
    auto net = packed ? pack(wide) : wide;
    std::vector<Rows> want;
    each_masked(net, [&](const auto& layer) {
      want.emplace_back();
      detail::edges_of(layer, layer.weight.value()).for_each([&](std::int64_t, float w) {
        want.back().push_back(double{w});
      });
      want.back() = lamp_naive(want.back());
    });
    set_lamp_saliency(net);
    test::require_near(test::edge_saliencies(net), want, 1e-6);
  }
  for (MaskedDeepFFN& model : test::in_all_storages(MaskedDeepFFN(6, 3, {5, 4}, {}, rng))) {
    std::vector<Rows> want;
    for (const auto& l : test::NaiveFFN(model).layers) want.push_back(lamp_naive(l.w));
    set_lamp_saliency(model);
    test::require_near(test::edge_saliencies(model), test::at_masks(model, want), 1e-6);
    for (const Rows& layer : test::edge_saliencies(model)) REQUIRE(*std::max_element(layer.begin(), layer.end()) == 1);
  }
}

TEST_CASE("Weights of equal magnitude have equal LAMP saliencies, and 0 has 0") {
  MaskedLinearLayer layer(6, 1);
  layer.weight.set_value(Tensor::from({1, 6}, {2, -1, 0, 1, -2, 3}));
  set_lamp_saliency(layer);
  test::require_close(layer.saliency(), {4.0 / 17, 1.0 / 19, 0, 1.0 / 19, 4.0 / 17, 1.0}, 2);
  layer.weight.set_value(Tensor::zeros({1, 6}));
  set_lamp_saliency(layer);
  REQUIRE(layer.saliency() == Tensor::zeros({1, 6}));
  layer.set_mask(Mask::zeros(1, 6));
  set_lamp_saliency(layer);
  // Sums that float32 would lose: very many small weights behind a large one.
  MaskedLinearLayer many(1 << 17, 1);
  Tensor w = Tensor::full({1, 1 << 17}, 1e-4f);
  w(0, 77) = 1;
  many.weight.set_value(std::move(w));
  set_lamp_saliency(many);
  REQUIRE(many.saliency()(0, 77) == 1);
  REQUIRE(double{many.saliency()(0, 0)} ==
          Approx(1e-8 / (1 + ((1 << 17) - 1) * std::pow(double{1e-4f}, 2))).epsilon(1e-6));
}

TEST_CASE("LAMP shares global pruning out over layers of any scale") {
  Rng rng(52);
  MaskedDeepFFN model(20, 4, {30, 10}, {}, rng);
  MaskedDeepFFN scaled = model;
  each<MaskedLinearLayer>(scaled, [](const std::string& name, MaskedLinearLayer& layer) {
    if (name == "_layer_first") layer.weight.set_value((Var(layer.weight.value()) * 0.0078125f).value());
  });
  const auto lamp = [](auto& m) { set_lamp_saliency(m); };
  const PruneReport report = prune(model, lamp, percentage(98), {.exact = true});
  prune(scaled, lamp, percentage(98), {.exact = true});
  REQUIRE(report.emptied().empty());  // of every layer the greatest is among the last to go
  REQUIRE(model.layer_first.mask() == scaled.layer_first.mask());
  REQUIRE(model.layer_out.mask() == scaled.layer_out.mask());
}

TEST_CASE("LAMP refuses weights that are not finite, and nothing changes") {
  Rng rng(53);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    MaskedDeepFFN model(6, 3, {5}, {}, rng);
    model.layer_out.weight.mutable_value()(1, 2) = bad;
    test::require_refused(model, [](auto& m) { set_lamp_saliency(m); },
                          {"set_lamp_saliency", "finite", "edge 7", "_layer_out"});
  }
  LampDense dense;
  test::require_error([&] { set_lamp_saliency(dense); }, {"set_lamp_saliency", "no masked"});
}
