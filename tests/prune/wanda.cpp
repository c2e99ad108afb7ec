// Wanda: against inputs in double, convolutions of all options, graphs, storages, bad input.
#include <deepstruct/prune/wanda.hpp>

#include "naive_ffn.hpp"

using namespace deepstruct;
using test::Rows;

namespace {

/// |w|·√Σ x² of a MaskedDeepFFN.
std::vector<Rows> wanda_products(const MaskedDeepFFN& model, const std::vector<Batch>& data) {
  const test::NaiveFFN net(model);
  std::vector<Rows> squares, all;
  for (const auto& l : net.layers) squares.emplace_back(l.in, 0.0);
  test::each_labelled(data, [&](const Rows& x, std::int32_t) {
    const std::vector<Rows> h = net.run(x);
    for (std::size_t k = 0; k < squares.size(); ++k)
      for (std::size_t c = 0; c < squares[k].size(); ++c) squares[k][c] += h[k][c] * h[k][c];
  });
  for (std::size_t k = 0; k < net.layers.size(); ++k) {
    const auto& l = net.layers[k];
    all.emplace_back();
    for (std::int64_t r = 0; r < l.out; ++r)
      for (std::int64_t c = 0; c < l.in; ++c)
        all.back().push_back(std::fabs(l.w[r * l.in + c]) * std::sqrt(squares[k][c]));
  }
  return test::at_masks(model, all);
}
/// |w|·√Σ x² of a convolution: every pixel that an entry of a kernel meets.
Rows wanda_convolution(const MaskedConv2d& conv, const std::vector<Batch>& data) {
  const Shape w = conv.weight_shape();
  const Conv2dOptions& o = conv.options().conv;
  const Tensor weight = conv.effective_weight();
  Rows all;
  for (std::int64_t r = 0; r < w[0]; ++r)
    for (std::int64_t c = 0; c < w[1]; ++c)
      for (std::int64_t i = 0; i < w[2]; ++i)
        for (std::int64_t j = 0; j < w[3]; ++j) {
          const std::int64_t channel = r / (w[0] / o.groups) * w[1] + c;
          double sum = 0;
          for (const Batch& batch : data) {
            const Shape y = conv(batch.x).shape();
            for (std::int64_t b = 0; b < y[0]; ++b)
              for (std::int64_t p = 0; p < y[2]; ++p)
                for (std::int64_t q = 0; q < y[3]; ++q) {
                  const std::int64_t v = p * o.stride[0] + i * o.dilation[0] - o.padding[0],
                                     h = q * o.stride[1] + j * o.dilation[1] - o.padding[1];
                  if (v < 0 || h < 0 || v >= batch.x.shape()[2] || h >= batch.x.shape()[3]) continue;
                  sum += double{batch.x(b, channel, v, h)} * double{batch.x(b, channel, v, h)};
                }
          }
          all.push_back(std::fabs(double{weight(r, c, i, j)}) * std::sqrt(sum));
        }
  return all;
}
/// The same layer twice; and one that never runs.
struct WandaTwice {
  MaskedLinearLayer layer;
  explicit WandaTwice(Rng& rng) : layer(4, 4, rng) {}
  Var operator()(const Var& x) const { return layer(layer(x)); }
  static auto fields(auto& m) { return std::tuple{Field{"layer", m.layer}}; }
};
struct WandaIdle {
  MaskedLinearLayer used, idle;
  explicit WandaIdle(Rng& rng) : used(4, 3, rng), idle(2, 2, rng) {}
  Var operator()(const Var& x) const { return used(x); }
  static auto fields(auto& m) { return std::tuple{Field{"used", m.used}, Field{"idle", m.idle}}; }
};
struct WandaDense {
  Linear dense;
  Var operator()(const Var& x) const { return dense(x); }
  static auto fields(auto& m) { return std::tuple{Field{"dense", m.dense}}; }
};

}  // namespace

TEST_CASE("Wanda saliencies are weights times the norm of what they read") {
  Rng rng(41);
  const auto data = test::labelled({7, 2, 30}, {6}, 3, rng);
  test::Poison poison;
  for (MaskedDeepFFN& model : test::in_all_storages(MaskedDeepFFN(6, 3, {5, 4}, {}, rng))) {
    set_wanda_saliency(model, data);
    test::require_near(test::edge_saliencies(model), wanda_products(model, data), 1e-5);
  }
  MaskedLinearLayer layer(4, 3, rng);  // sequences: all their rows
  const auto sequences = test::labelled({3}, {5, 4}, 3, rng);
  set_wanda_saliency(layer, sequences);
  for (std::int64_t c = 0; c < 4; ++c) {
    double sum = 0;
    for (std::int64_t b = 0; b < 3; ++b)
      for (std::int64_t t = 0; t < 5; ++t) sum += std::pow(double{sequences[0].x(b, t, c)}, 2);
    REQUIRE(double{layer.saliency()(2, c)} == Approx(std::fabs(layer.weight.value()(2, c)) * std::sqrt(sum)));
  }
}

TEST_CASE("Wanda takes convolutions as unfolded, place by place of the kernel") {
  Rng rng(42);
  const auto images = test::labelled({4, 3}, {4, 7, 6}, 3, rng);
  test::Poison poison;
  for (const Conv2dOptions& how : {Conv2dOptions{}, Conv2dOptions{.stride = {2, 1}, .padding = {1, 2}},
                                   Conv2dOptions{.dilation = {2, 1}, .groups = 2},
                                   Conv2dOptions{.stride = {1, 3}, .padding = {2, 1}, .groups = 4}})
    for (const storage store : {storage::full, storage::packed})
      for (const double density : {1.0, 0.5}) {
        MaskedConv2d conv(4, 8, {3, 2}, {.conv = how, .store = store}, rng);
        conv.set_mask(Mask::random(conv.mask().rows(), conv.mask().cols(), density, rng));
        const Rows want = wanda_convolution(conv, images);
        set_wanda_saliency(conv, images);
        test::require_near(test::edge_saliencies(conv), test::at_masks(conv, {want}), 1e-5);
      }
}

TEST_CASE("Wanda sees the vertices of graphs, layers that run often and soft masks") {
  Rng rng(43);
  const auto data = test::labelled({20, 4}, {5}, 3, rng);
  test::SkipNetworks dan(rng);
  dan.require_same_choice([&](auto& m) { set_wanda_saliency(m, data); });
  set_wanda_saliency(dan.packed, data);
  set_wanda_saliency(dan.full, data);
  Rows full, packed;
  for (const Rows& layer : test::edge_saliencies(dan.full)) full.insert(full.end(), layer.begin(), layer.end());
  for (const Rows& layer : test::edge_saliencies(dan.packed)) packed.insert(packed.end(), layer.begin(), layer.end());
  std::sort(full.begin(), full.end()), std::sort(packed.begin(), packed.end());
  test::require_near({packed}, {full}, 1e-5);

  WandaTwice twice(rng);
  const Batch batch = test::labelled({6}, {4}, 3, rng)[0];
  set_wanda_saliency(twice, std::vector<Batch>{batch});
  const Tensor middle = twice.layer(batch.x).value();
  for (std::int64_t c = 0; c < 4; ++c) {
    double sum = 0;
    for (std::int64_t b = 0; b < 6; ++b) sum += std::pow(double{batch.x(b, c)}, 2) + std::pow(double{middle(b, c)}, 2);
    REQUIRE(double{twice.layer.saliency()(1, c)} ==
            Approx(std::fabs(twice.layer.weight.value()(1, c)) * std::sqrt(sum)));
  }
  MaskedDeepFFN soft(4, 3, {5}, {}, rng);
  soft.layer_first.set_soft_mask(Tensor::uniform({5, 4}, -3, -0.2f, rng));
  set_wanda_saliency(soft, std::vector<Batch>{batch});
  test::require_near(test::edge_saliencies(soft), wanda_products(soft, {batch}), 1e-5);
}

TEST_CASE("Wanda runs a model in evaluation and changes nothing but saliencies") {
  Rng rng(44);
  const auto images = test::labelled({5, 3}, {1, 6, 6}, 3, rng);
  for (const storage store : {storage::full, storage::packed}) {
    auto net = test::conv_norm_net(rng, store);
    test::require_only_saliencies_change(net, [&](auto& m) { set_wanda_saliency(m, images); });
    auto quiet = net;
    set_training(quiet, false);
    set_wanda_saliency(net, images), set_wanda_saliency(quiet, images);
    test::require_near(test::edge_saliencies(net), test::edge_saliencies(quiet), 0);
  }
}

TEST_CASE("Wanda refuses what it cannot see, and nothing changes") {
  Rng rng(45);
  const auto data = test::labelled({7}, {4}, 3, rng);
  MaskedDeepFFN model(4, 3, {5}, {}, rng);
  test::require_refused(model, [](auto& m) { set_wanda_saliency(m, std::vector<Batch>()); },
                        {"set_wanda_saliency", "data"});
  MaskedDeepFFN broken = model;
  broken.layer_out.weight.mutable_value()(1, 2) = std::numeric_limits<float>::quiet_NaN();
  test::require_refused(broken, [&](auto& m) { set_wanda_saliency(m, data); }, {"set_wanda_saliency", "finite"});
  test::require_refused(WandaIdle(rng), [&](auto& m) { set_wanda_saliency(m, data); },
                        {"set_wanda_saliency", "cannot see", "(idle)"});
  WandaDense dense{Linear(4, 3)};
  test::require_error([&] { set_wanda_saliency(dense, data); }, {"set_wanda_saliency", "no masked"});
}
