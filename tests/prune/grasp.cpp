// GraSP: H g against differences of gradients, its sign, storages, layers of all kinds, bad input.
#include <deepstruct/prune/grasp.hpp>

#include "naive_ffn.hpp"

using namespace deepstruct;
using test::Rows;

namespace {

/// w·(Hg) by central differences of the gradient in double.
std::vector<Rows> grasp_products(const MaskedDeepFFN& model, const std::vector<Batch>& data, double temperature) {
  const test::NaiveFFN net(model);
  const std::vector<Rows> g = test::mean_gradient(net, data, temperature);
  double norm = 0;
  for (const Rows& layer : g)
    for (double x : layer) norm += x * x;
  const double step = 1e-5 / std::sqrt(norm);
  test::NaiveFFN up = net, down = net;
  for (std::size_t k = 0; k < g.size(); ++k)
    for (std::size_t e = 0; e < g[k].size(); ++e) {
      up.layers[k].w[e] += step * g[k][e];
      down.layers[k].w[e] -= step * g[k][e];
    }
  std::vector<Rows> all = test::mean_gradient(up, data, temperature);
  const std::vector<Rows> low = test::mean_gradient(down, data, temperature);
  for (std::size_t k = 0; k < g.size(); ++k)
    for (std::size_t e = 0; e < g[k].size(); ++e) all[k][e] = net.layers[k].w[e] * (all[k][e] - low[k][e]) / (2 * step);
  return test::at_masks(model, all);
}
/// ‖g‖², g the gradient of the mean loss at the edges.
double grasp_norm(const test::NaiveFFN& net, const std::vector<Batch>& data, double temperature) {
  double sum = 0;
  for (const Rows& layer : test::mean_gradient(net, data, temperature))
    for (double g : layer) sum += g * g;
  return sum;
}
/// w·(Hg) by central differences of the model's own gradients.
template <class M>
std::vector<Rows> grasp_differences(const M& model, const std::vector<Batch>& data, double step) {
  const TemperedCrossEntropy loss;
  const std::vector<Tensor> g = detail::mean_gradients("test", model, data, loss);
  double norm = 0;
  for (const Tensor& t : g) t.for_each([&](std::int64_t, float x) { norm += double{x} * double{x}; });
  step /= std::sqrt(norm);
  const auto moved = [&](double by) {
    M other = model;
    std::size_t k = 0;
    each_masked(other, [&](auto& layer) {
      layer.weight.set_value(add(Var(layer.weight.value()), Var(g[k++]) * static_cast<float>(by)).value());
    });
    return detail::mean_gradients("test", other, data, loss);
  };
  const std::vector<Tensor> up = moved(step), down = moved(-step);
  std::vector<Rows> all;
  each_masked(model, [&](const auto& layer) {
    const std::size_t k = all.size();
    const Tensor w = detail::edges_of(layer, layer.weight.value()), a = detail::edges_of(layer, up[k]),
                 b = detail::edges_of(layer, down[k]);
    all.emplace_back();
    for (std::int64_t e = 0; e < w.size(); ++e)
      all.back().push_back(double{w(e)} * (double{a(e)} - double{b(e)}) / (2 * step));
  });
  return all;
}
struct GraspDense {
  Linear dense;
  Var operator()(const Var& x) const { return dense(x); }
  static auto fields(auto& m) { return std::tuple{Field{"dense", m.dense}}; }
};

}  // namespace

TEST_CASE("GraSP saliencies are w (H g) of the mean loss over all batches") {
  Rng rng(21);
  const auto data = test::labelled({7, 2, 11}, {6}, 3, rng);
  test::Poison poison;
  for (MaskedDeepFFN& model : test::in_all_storages(MaskedDeepFFN(6, 3, {5, 4}, {}, rng), 25)) {
    set_grasp_saliency(model, data);  // T = 200
    test::require_near(test::edge_saliencies(model), grasp_products(model, data, 200), 1e-4);
    set_grasp_saliency(model, data, TemperedCrossEntropy{2});
    test::require_near(test::edge_saliencies(model), grasp_products(model, data, 2), 1e-4);
    set_grasp_saliency(model, data, CrossEntropy{});
    test::require_near(test::edge_saliencies(model), grasp_products(model, data, 1), 1e-4);
  }
}

TEST_CASE("Without a weight the gradient's squared norm changes by −2 times its GraSP saliency, to first order") {
  Rng rng(22);
  const auto data = test::labelled({20}, {5}, 3, rng);
  MaskedDeepFFN model(5, 3, {6}, {}, rng);
  set_grasp_saliency(model, data, CrossEntropy{});
  const auto saliency = test::edge_saliencies(model);
  double greatest = 0;
  for (const Rows& layer : saliency)
    for (double s : layer) greatest = std::max(greatest, std::fabs(s));
  for (std::size_t k = 0; k < saliency.size(); ++k)
    for (std::size_t e = 0; e < saliency[k].size(); ++e) {
      test::NaiveFFN less(model), more(model);
      less.layers[k].w[e] *= 1 - 1e-4;
      more.layers[k].w[e] *= 1 + 1e-4;
      const double change = (grasp_norm(less, data, 1) - grasp_norm(more, data, 1)) / 2e-4;
      REQUIRE(change == Approx(-2 * saliency[k][e]).margin(1e-4 * greatest));
    }
}

TEST_CASE("GraSP rates convolutions behind batch norm, and graphs, full and packed") {
  Rng rng(23);
  auto net = test::conv_norm_net(rng);
  std::get<4>(net.modules).training = false;  // the same without dropout each time; batch norm by its batches
  prune_network_by_saliency(net, percentage(30), {.exact = true});
  auto packed = pack(net);
  const auto images = test::labelled({6, 4}, {1, 6, 6}, 3, rng);
  set_grasp_saliency(net, images), set_grasp_saliency(packed, images);
  test::require_near(test::edge_saliencies(net), grasp_differences(net, images, 2e-2), 2e-2);
  test::require_near(test::edge_saliencies(packed), test::edge_saliencies(net), 1e-4);

  const auto data = test::labelled({20, 4}, {5}, 3, rng);
  test::SkipNetworks dan(rng);
  set_grasp_saliency(dan.packed, data);
  test::require_near(test::edge_saliencies(dan.packed), grasp_differences(dan.packed, data, 2e-2), 2e-2);
  dan.require_same_choice([&](auto& m) { set_grasp_saliency(m, data); });
}

TEST_CASE("GraSP changes nothing but saliencies, or nothing at all") {
  Rng rng(24);
  const auto images = test::labelled({5, 3}, {1, 6, 6}, 3, rng);
  for (const storage store : {storage::full, storage::packed})
    test::require_only_saliencies_change(test::conv_norm_net(rng, store),
                                         [&](auto& m) { set_grasp_saliency(m, images); });
  const auto data = test::labelled({7}, {6}, 3, rng);
  MaskedDeepFFN model(6, 3, {5}, {}, rng);
  test::require_refused(model, [](auto& m) { set_grasp_saliency(m, std::vector<Batch>()); },
                        {"set_grasp_saliency", "data"});
  test::require_refused(model, [&](auto& m) { set_grasp_saliency(m, data, TemperedCrossEntropy{0}); },
                        {"TemperedCrossEntropy", "positive"});
  MaskedDeepFFN broken = model;
  broken.layer_out.weight.mutable_value()(1, 2) = std::numeric_limits<float>::infinity();
  test::require_refused(broken, [&](auto& m) { set_grasp_saliency(m, data); }, {"set_grasp_saliency", "finite"});
  GraspDense dense{Linear(6, 3)};
  test::require_error([&] { set_grasp_saliency(dense, data); }, {"set_grasp_saliency", "no masked"});
}
