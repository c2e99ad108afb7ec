// Sparsity of masks that learn: expected density, projection to an exact number of edges, and the controller.
#include <deepstruct/autograd/gradcheck.hpp>
#include <deepstruct/prune/sparsity_controller.hpp>
#include <deepstruct/train/loop.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;
using test::same_bits;

namespace {

using ControllerNet = Sequential<MaskedLinearLayer, ReLU, MaskedLinearLayer>;
using ControllerMethod = SparsityController::Method;

ControllerNet controller_net(std::int64_t in, std::int64_t hidden, std::int64_t out, MaskedLinearOptions options,
                             Rng& rng) {
  options.learnable_mask = true;
  return ControllerNet{MaskedLinearLayer(in, hidden, options, rng), ReLU(),
                       MaskedLinearLayer(hidden, out, options, rng)};
}
std::vector<MaskedLinearLayer*> controller_layers(ControllerNet& net) {
  return {&std::get<0>(net.modules), &std::get<2>(net.modules)};
}
/// Alphas of a few values only, so that most are tied; weights too.
void controller_ties(ControllerNet& net, Rng& rng) {
  for (MaskedLinearLayer* layer : controller_layers(net)) {
    layer->alphas().mutable_value().for_each(
        [&](std::int64_t, float& a) { a = static_cast<float>(rng.below(5)) * 0.75f - 2; });
    layer->weight.mutable_value().for_each(
        [&](std::int64_t, float& w) { w = static_cast<float>(rng.below(4)) * 0.5f - 1; });
  }
}
constexpr MaskGradient controller_kinds[] = {MaskGradient::straight_through, MaskGradient::none,
                                             MaskGradient::gumbel_softmax, MaskGradient::hard_concrete};

/// An edge as the projection ranks it.
struct ControllerEdge {
  double d, magnitude;
  std::size_t layer;
  std::int64_t edge;
};
std::vector<ControllerEdge> controller_ranking(ControllerNet& net, std::size_t from = 0, std::size_t to = 2) {
  std::vector<ControllerEdge> all;
  const auto layers = controller_layers(net);
  for (std::size_t k = from; k < to; ++k) {
    const Tensor &a = layers[k]->alphas().value(), &w = layers[k]->weight.value();
    w.for_each([&](std::int64_t i, float x) {
      const std::int64_t r = i / w.shape()[1], c = i % w.shape()[1];
      all.push_back({double{a(r, c, 1) - a(r, c, 0)}, std::fabs(double{x}), k, i});
    });
  }
  std::stable_sort(all.begin(), all.end(), [](const ControllerEdge& a, const ControllerEdge& b) {
    return a.d != b.d ? a.d > b.d : a.magnitude > b.magnitude;  // what is left is in layer and edge order
  });
  return all;
}
std::int64_t controller_edges(ControllerNet& net) {
  std::int64_t n = 0;
  for (MaskedLinearLayer* layer : controller_layers(net)) n += layer->mask().nnz();
  return n;
}

/// Labels that depend on 4 of 20 inputs.
Dataset controller_data(std::int64_t n, Rng& rng) {
  Tensor x = Tensor::normal({n, 20}, 0, 1, rng);
  Indices y = Indices::zeros({n});
  for (std::int64_t i = 0; i < n; ++i) y(i) = (x(i, 3) * x(i, 7) > 0 ? 2 : 0) + (x(i, 11) + x(i, 15) > 0 ? 1 : 0);
  return {std::move(x), std::move(y), 4};
}

}  // namespace

TEST_CASE("a projection leaves exactly the greatest differences, ties by weight, layer and edge") {
  Rng rng(1);
  for (const MaskGradient kind : controller_kinds)
    for (const bool shift : {false, true})
      for (const bool tied : {false, true})
        for (const std::int64_t count : {0, 1, 7, 20, 40, 61, 62}) {
          INFO("kind " << static_cast<int>(kind) << ", shift " << shift << ", ties " << tied << ", count " << count);
          ControllerNet net = controller_net(8, 5, 3, {.gradient = kind}, rng);  // 40 + 15 edges
          if (tied)
            controller_ties(net, rng);
          else
            for (MaskedLinearLayer* layer : controller_layers(net))
              layer->alphas().set_value(Tensor::normal(layer->alphas().shape(), 0, 1.5f, rng));
          const std::int64_t wanted = std::min<std::int64_t>(count, 55), before = controller_edges(net);
          const auto ranked = controller_ranking(net);
          ControllerNet after = net;
          const PruneReport report = project_masks(after, wanted, {.shift = shift});
          REQUIRE(report.before() == before);
          REQUIRE(report.after() == wanted);
          REQUIRE(report.layers.size() == 2);
          REQUIRE(report.layers[1].name == "2");
          REQUIRE(controller_edges(after) == wanted);
          const auto was = controller_layers(net), is = controller_layers(after);
          for (std::size_t k = 0; k < ranked.size(); ++k) {
            const ControllerEdge& e = ranked[k];
            const std::int64_t in = was[e.layer]->in_features(), r = e.edge / in, c = e.edge % in;
            const bool exists = static_cast<std::int64_t>(k) < wanted;
            REQUIRE(is[e.layer]->mask().contains(r, c) == exists);
            if (!shift && was[e.layer]->mask().contains(r, c) == exists)  // was right before: untouched
              for (const std::int64_t plane : {0, 1})
                REQUIRE(is[e.layer]->alphas().value()(r, c, plane) == was[e.layer]->alphas().value()(r, c, plane));
          }
          for (std::size_t k = 0; k < 2; ++k) REQUIRE(same_bits(is[k]->weight.value(), was[k]->weight.value()));
          const PruneReport again = project_masks(after, wanted, {.shift = shift});
          REQUIRE(again.before() == wanted);
          REQUIRE(again.after() == wanted);
        }
}

TEST_CASE("a shift keeps the distances of differences and puts the border in the middle") {
  Rng rng(2);
  ControllerNet net = controller_net(8, 5, 3, {}, rng);
  for (MaskedLinearLayer* layer : controller_layers(net))
    layer->alphas().set_value(Tensor::normal(layer->alphas().shape(), 4, 1, rng));
  const auto before = controller_ranking(net);
  project_masks(net, 11, {.shift = true});
  const auto after = controller_ranking(net);
  const double moved = (before[10].d + before[11].d) / 2;
  for (std::size_t k = 0; k < before.size(); ++k) {
    REQUIRE(after[k].layer == before[k].layer);
    REQUIRE(after[k].edge == before[k].edge);
    REQUIRE(std::fabs(after[k].d - (before[k].d - moved)) <= 2e-6);
  }
}

TEST_CASE("a new network is projected by the magnitude of its weights") {
  Rng rng(3);
  for (const MaskGradient kind : controller_kinds) {
    ControllerNet net = controller_net(30, 20, 5, {.gradient = kind}, rng);
    ControllerNet fixed = net;
    harden(fixed);
    project_masks(net, 100);
    prune_network_by_saliency(fixed, absolute(600), {.exact = true});
    for (std::size_t k = 0; k < 2; ++k)
      REQUIRE(controller_layers(net)[k]->mask() == controller_layers(fixed)[k]->mask());
  }
}

TEST_CASE("a projection layer by layer shares out what it leaves") {
  Rng rng(4);
  for (const std::int64_t count : {0, 1, 10, 27, 28, 54, 55}) {
    ControllerNet net = controller_net(8, 5, 3, {}, rng);
    controller_ties(net, rng);
    const auto first = controller_ranking(net, 0, 1), second = controller_ranking(net, 1, 2);
    const PruneReport report = project_masks(net, count, {.per_layer = true});
    REQUIRE(report.after() == count);
    REQUIRE(std::fabs(static_cast<double>(report.layers[0].after) - static_cast<double>(count) * 40 / 55) < 1);
    const Mask mask = controller_layers(net)[0]->mask(), other = controller_layers(net)[1]->mask();
    for (std::size_t k = 0; k < first.size(); ++k)
      REQUIRE(mask.contains(first[k].edge / 8, first[k].edge % 8) ==
              (static_cast<std::int64_t>(k) < report.layers[0].after));
    for (std::size_t k = 0; k < second.size(); ++k)
      REQUIRE(other.contains(second[k].edge / 5, second[k].edge % 5) ==
              (static_cast<std::int64_t>(k) < report.layers[1].after));
  }
}

TEST_CASE("expected density and gate penalty add up probabilities of all learnable masks, and can be differentiated") {
  Rng rng(5);
  for (const MaskGradient kind : controller_kinds) {
    ControllerNet net = controller_net(8, 5, 3, {.gradient = kind, .temperature = 0.5f}, rng);
    double open = 0;
    for (MaskedLinearLayer* layer : controller_layers(net)) {
      layer->alphas().set_value(Tensor::normal(layer->alphas().shape(), 0, 1, rng));
      const Tensor& a = layer->alphas().value();
      for (std::int64_t r = 0; r < layer->out_features(); ++r)
        for (std::int64_t c = 0; c < layer->in_features(); ++c) {
          const double d = double{a(r, c, 1)} - double{a(r, c, 0)};
          if (kind == MaskGradient::hard_concrete)
            open += 1 / (1 + std::exp(-(d - 0.5 * std::log(0.1 / 1.1))));
          else if (kind == MaskGradient::gumbel_softmax)
            open += 1 / (1 + std::exp(-d));
          else
            open += d > 0 ? 1 : 0;
        }
    }
    REQUIRE(std::fabs(double{gate_penalty(net).item()} - open) <= 1e-5 * open);
    REQUIRE(std::fabs(double{expected_density(net).item()} - open / 55) <= 1e-5);
    REQUIRE(gate_penalty(net).wants_grad() == (kind != MaskGradient::none));
    if (kind == MaskGradient::none) continue;
    const Var alphas = controller_layers(net)[1]->alphas();
    const Tensor slope = grad(expected_density(net), {alphas})[0].value();
    const double d = double{alphas.value()(2, 3, 1)} - double{alphas.value()(2, 3, 0)};
    const double shift = kind == MaskGradient::hard_concrete ? -0.5 * std::log(0.1 / 1.1) : 0;
    const double p = 1 / (1 + std::exp(-(d + shift)));
    const double want = (kind == MaskGradient::straight_through ? 1 : p * (1 - p)) / 55;
    REQUIRE(std::fabs(double{slope(2, 3, 1)} - want) <= 1e-6);
    REQUIRE(slope(2, 3, 0) == -slope(2, 3, 1));
  }
}

TEST_CASE("the multipliers climb while the sparsity is off its target, which rises in the warm-up") {
  Rng rng(6);
  ControllerNet net = controller_net(8, 5, 3, {}, rng);
  project_masks(net, 33);  // sparsity 0.4
  SparsityController c{.target = 0.8, .warmup = 4, .rate = 2};
  REQUIRE(c.current_target() == 0);
  REQUIRE(c.penalty(net).item() == 0);
  c.step(net);
  REQUIRE(std::fabs(c.lambda1 - 2 * 0.4) < 1e-6);  // ŝ − s = 0.4
  REQUIRE(std::fabs(c.lambda2 - 2 * 0.16) < 1e-6);
  REQUIRE(c.steps == 1);
  REQUIRE(std::fabs(c.current_target() - 0.2) < 1e-12);
  REQUIRE(std::fabs(double{c.penalty(net).item()} - (0.8 * 0.2 + 0.32 * 0.04)) < 1e-6);
  for (int k = 0; k < 3; ++k) c.step(net);
  REQUIRE(c.current_target() == 0.8);
  REQUIRE(std::fabs(c.lambda1 - 2 * (0.4 + 0.2 + 0 - 0.2)) < 1e-5);
  c.step(net);
  REQUIRE(std::fabs(c.lambda1 - 2 * (0.4 - 0.4)) < 1e-5);
  REQUIRE(std::fabs(c.lambda2 - 2 * (0.16 + 0.04 + 0.04 + 0.16)) < 1e-5);
  // Too dense and λ1 < 0: going down the penalty lowers d.
  c.lambda1 = -1;
  const Var alphas = controller_layers(net)[0]->alphas();
  REQUIRE(grad(c.penalty(net), {alphas})[0].value()(0, 0, 1) > 0);

  SparsityController top{.target = 0.8, .method = ControllerMethod::top_k, .warmup = 4, .interval = 2};
  project_masks(net, 55);
  REQUIRE(top.penalty(net).item() == 0);
  top.step(net);
  REQUIRE(controller_edges(net) == 55);  // not its turn
  top.step(net);
  REQUIRE(controller_edges(net) == 44);  // 0.2 of 55
  top.step(net), top.step(net);
  REQUIRE(controller_edges(net) == 22);  // 0.6
  REQUIRE(top.lambda1 == 0);
  REQUIRE(top.finish(net).after() == 11);
}

TEST_CASE("a controller that cannot steer says so and changes nothing") {
  Rng rng(7);
  Sequential<MaskedLinearLayer, ReLU> fixed{MaskedLinearLayer(4, 3, rng), ReLU()};
  ControllerNet net = controller_net(8, 5, 3, {}, rng);
  for (const ControllerMethod method : {ControllerMethod::lagrangian, ControllerMethod::top_k}) {
    SparsityController c{.method = method};
    require_error([&] { c.penalty(fixed); }, {"the model has no learnable masks (0)"});
    require_error([&] { c.step(fixed); }, {"the model has no learnable masks (0)"});
    require_error([&] { c.finish(fixed); }, {"the model has no learnable masks (0)"});
    REQUIRE(c.steps == 0);
    for (const double bad : {-0.1, 1.5, std::nan("")}) {
      c.target = bad;
      require_error([&] { c.penalty(net); }, {"SparsityController: the target must lie in [0, 1]"});
      require_error([&] { c.step(net); }, {"SparsityController: the target must lie in [0, 1]"});
      require_error([&] { c.finish(net); }, {"SparsityController: the target must lie in [0, 1]"});
    }
    c = {.method = method, .warmup = -1};
    require_error([&] { c.step(net); }, {"SparsityController: need warmup >= 0 and interval >= 1", "-1"});
    c = {.method = method, .interval = 0};
    require_error([&] { c.step(net); }, {"SparsityController: need warmup >= 0 and interval >= 1", "0"});
    REQUIRE(c.steps == 0);
  }
  SparsityController c{.rate = -1};
  require_error([&] { c.step(net); }, {"SparsityController: the rate must not be negative"});
  REQUIRE(c.lambda1 == 0);
  require_error([&] { gate_penalty(fixed); }, {"gate_penalty: the model has no learnable masks"});
  require_error([&] { expected_density(fixed); }, {"expected_density: the model has no learnable masks"});
  require_error([&] { project_masks(fixed, 1); }, {"project_masks: the model has no learnable masks"});
  require_error([&] { project_masks(net, 56); }, {"project_masks: need between 0 and all edges (56 of 55)"});
  require_error([&] { project_masks(net, -1); }, {"project_masks: need between 0 and all edges (-1 of 55)"});
  const Tensor first = controller_layers(net)[0]->alphas().value();
  controller_layers(net)[1]->alphas().mutable_value()(2, 4, 0) = std::numeric_limits<float>::quiet_NaN();
  require_error([&] { project_masks(net, 10); }, {"project_masks: an alpha is not finite (layer 2, edge 2 <- 4)"});
  REQUIRE(same_bits(controller_layers(net)[0]->alphas().value(), first));
}

TEST_CASE("empty layers are steered like others") {
  Rng rng(8);
  ControllerNet net = controller_net(0, 5, 3, {}, rng);
  REQUIRE(project_masks(net, 4).after() == 4);
  REQUIRE(project_masks(net, 3, {.per_layer = true}).layers[0].after == 0);
  ControllerNet nothing = controller_net(3, 0, 2, {}, rng);
  REQUIRE(project_masks(nothing, 0, {.per_layer = true, .shift = true}).after() == 0);
  REQUIRE(expected_density(nothing).item() == 0);
}

TEST_CASE("trained masks have exactly the edges asked for, and beat random masks of as many edges") {
  Rng rng(9);
  const Dataset train = controller_data(512, rng), held_out = controller_data(1024, rng);
  constexpr int epochs = 40;
  const std::int64_t steps = epochs * 8;
  double random_best = 0;
  for (int k = 0; k < 3; ++k) {  // masks first, then as many steps, with as many edges
    ControllerNet net = controller_net(20, 16, 4, {}, rng);
    harden(net);
    random_pruning(net, absolute(326), rng, {.exact = true});
    Adam adam{.lr = 0.02};
    fit(net, adam, train, rng, {.epochs = epochs, .batch_size = 64});
    random_best = std::max(random_best, evaluate(net, held_out).accuracy);
  }
  for (const ControllerMethod method : {ControllerMethod::lagrangian, ControllerMethod::top_k})
    for (const MaskGradient kind :
         {MaskGradient::straight_through, MaskGradient::gumbel_softmax, MaskGradient::hard_concrete}) {
      INFO("kind " << static_cast<int>(kind) << (method == ControllerMethod::top_k ? ", top_k" : ", lagrangian"));
      manual_seed(10);
      Rng own(11);
      ControllerNet net = controller_net(20, 16, 4, {.gradient = kind}, own);
      Adam adam{.lr = 0.02};
      SparsityController controller{.target = 0.85, .method = method, .warmup = steps / 2};
      auto data = batches(train, 64, own);
      for (int epoch = 0; epoch < epochs; ++epoch)
        for (auto& [x, y] : data) {
          backward(cross_entropy(net(x), y) + controller.penalty(net));
          adam.step(net);
          controller.step(net);
        }
      if (method == ControllerMethod::lagrangian) {  // the multipliers came near without the projection
        no_grad guard;
        REQUIRE(std::fabs(double{expected_density(net).item()} - 0.15) < 0.08);
      }
      REQUIRE(controller.finish(net).after() == 58);  // 384 − round(0.85·384)
      REQUIRE(get_network_weight_count(net) == 58);
      const double accuracy = evaluate(net, held_out).accuracy;
      harden(net);
      REQUIRE(get_network_weight_count(net) == 58);
      REQUIRE(std::fabs(evaluate(net, held_out).accuracy - accuracy) < 3e-3);
      REQUIRE(accuracy > random_best + 0.05);
      REQUIRE(get_network_weight_count(pack(net)) == 58);
    }
}
