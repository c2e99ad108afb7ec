// Networks become graphs and graphs become those networks again: by evaluation of the graph vertex by vertex, bit by
// bit where packed, within rounding elsewhere.
#include <deepstruct/graph/random_graphs.hpp>
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/batch_norm.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/nn/pool.hpp>
#include <deepstruct/prune/prune.hpp>
#include <deepstruct/transform/from_graph.hpp>
#include <deepstruct/transform/orders.hpp>

#include "support/cases.hpp"
#include "support/neurons.hpp"

using namespace deepstruct;

namespace {

Tensor trip_input(const Shape& shape, Rng& rng) { return Tensor::normal(shape, 0, 1, rng); }

/// The graph says what the model computes.
template <class M>
void require_meaning(const M& model, const LayeredGraph& g, const Tensor& x) {
  no_grad guard;
  const Tensor y = flatten(model(x), 1).value();
  const Tensor rows = flatten(Var(x), 1).value();
  std::vector<test::Exact> want(static_cast<std::size_t>(y.size()));
  for (std::int64_t b = 0; b < x.shape()[0]; ++b) {
    std::vector<float> sample;
    for (std::int64_t k = 0; k < rows.shape()[1]; ++k) sample.push_back(rows(b, k));
    const auto outputs = test::evaluate(g, sample);
    REQUIRE(static_cast<std::int64_t>(outputs.size()) == y.shape()[1]);
    for (std::size_t k = 0; k < outputs.size(); ++k) want[b * outputs.size() + k] = outputs[k];
  }
  test::require_close(y, want, 8);
}

/// Graph and back: the same values (bits, where asked), and the same graph again.
template <class M>
void require_round_trip(const M& model, const Tensor& x, bool bits) {
  const Shape example = with_extent(x.shape(), 0, 1);
  const LayeredGraph g = to_graph(model, example);
  require_meaning(model, g, x);
  const GraphNetwork network = from_graph(g);
  no_grad guard;
  const Tensor mine = flatten(model(x), 1).value(), theirs = network(x).value();
  if (bits) {
    REQUIRE(test::same_bits(mine, theirs));
  } else {
    require_meaning(network, g, x);
  }
  const LayeredGraph again = to_graph(network);
  REQUIRE(again.vertex_count() == g.vertex_count());
  REQUIRE(std::ranges::equal(again.graph().edges(), g.graph().edges()));
  for (const std::string& name : g.vertex_attributes().names()) {
    INFO(name);
    if (name == "of_channel" || name == "of_layer" || name == "norm_group") continue;  // numbers of groups
    for (std::int64_t v = 0; v < g.vertex_count(); ++v) {
      INFO("vertex " << v);
      const auto got = again.vertex_attributes().value(name, v), want = g.vertex_attributes().value(name, v);
      REQUIRE(got.has_value() == want.has_value());
      REQUIRE(got == want);
    }
  }
  for (const std::string& name : g.edge_attributes().names())
    if (name != "branch")
      for (std::int64_t e = 0; e < g.edge_count(); ++e)
        REQUIRE(again.edge_attributes().value(name, e) == g.edge_attributes().value(name, e));
}

std::int64_t some(Rng& rng, int least, int most) {
  return least + static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(most - least + 1)));
}

template <class M>
void prune_some(M& model, Rng& rng) {
  each<MaskedLinearLayer>(model, [&](MaskedLinearLayer& layer) {
    const Mask m = layer.mask();
    const float density = rng.uniform(0.0f, 1.2f);
    layer.set_mask(
        m.filter([&](std::int32_t, std::int64_t, std::int64_t) { return rng.uniform(0.0f, 1.0f) < density; }));
  });
}

LayeredGraph random_structure(Rng& rng) {
  const Graph g = gnp_random_graph(some(rng, 2, 14), 0.35, false, rng);
  return LayeredGraph::load_from(g);
}

/// Images through convolutions, pooling and norms.
auto random_conv_net(Rng& rng, Shape& example) {
  const std::int64_t in = some(rng, 1, 2), mid = some(rng, 1, 3) * in, h = some(rng, 6, 8), w = some(rng, 6, 8);
  example = {1, in, h, w};
  Conv2dOptions how;
  how.padding = {some(rng, 0, 2), some(rng, 0, 1)};
  how.groups = rng.below(2) ? in : 1;
  MaskedConv2d second(mid, 2, 2, {}, rng);
  second.set_mask(Mask::random(2, mid * 4, 0.5, rng));
  Sequential convolutions{Conv2d(in, mid, {3, 2}, how, rng.below(2) != 0, rng),
                          BatchNorm2d(mid),
                          ReLU(),
                          MaxPool2d(2),
                          std::move(second),
                          Tanh(),
                          AvgPool2d(Pool2dOptions{.kernel = {2, 1}, .padding = {1, 0}}),
                          Flatten()};
  each<BatchNorm2d>(convolutions, [&](BatchNorm2d& norm) {
    norm.running_mean = Tensor::normal({mid}, 0, 1, rng);
    norm.running_var = Tensor::uniform({mid}, 0.5f, 2, rng);
    norm.weight->set_value(Tensor::normal({mid}, 1, 1, rng));
    norm.bias->set_value(Tensor::normal({mid}, 0, 1, rng));
  });
  set_training(convolutions, false);
  const std::int64_t features = convolutions(Tensor::zeros(example)).shape()[1];
  return Sequential{std::move(convolutions), Linear(features, 3, rng)};
}

/// What users write: a residual connection, a concatenation, a slice and a scaled copy.
struct TripUserNet {
  Linear first, inner, last;
  LayerNorm norm;
  Param scale;

  TripUserNet(std::int64_t in, std::int64_t width, Rng& rng)
      : first(in, width, rng),
        inner(width, width, rng),
        last(2 * width + in / 2, 2, rng),
        norm(width),
        scale(Tensor::normal({width}, 0, 1, rng)) {}
  Var operator()(const Var& x) const {
    const Var h = tanh(first(x));
    const Var residual = h + relu(norm(inner(h)));  // the same source twice: directly and through inner
    const Var joined = relu(residual + mul(h, scale) * 0.5f);
    const Var turned = permute(reshape(h, {h.shape()[0], h.shape()[1], 1}), {0, 2, 1});
    const Var back = flatten(index_select(expand(turned, {h.shape()[0], 2, h.shape()[1]}), 1, std::array{1}), 1);
    return last(cat({joined, back, narrow(x, 1, 0, x.shape()[1] / 2)}, 1));
  }
  static auto fields(auto& m) {
    return std::tuple{Field{"first", m.first}, Field{"inner", m.inner}, Field{"last", m.last}, Field{"norm", m.norm},
                      Field{"scale", m.scale}};
  }
};

}  // namespace

TEST_CASE("Packed feed-forward networks come back from their graphs bit by bit") {
  Rng rng(11);
  for (int k = 0; k < 200; ++k) {
    const std::int64_t in = some(rng, 1, 7), out = some(rng, 1, 4);
    std::vector<std::int64_t> hidden;
    for (std::int64_t n = some(rng, 1, 3); n > 0; --n) hidden.push_back(some(rng, 1, 6));
    MaskedDeepFFN model(in, out, hidden, {.use_layer_norm = rng.below(2) != 0}, rng);
    prune_some(model, rng);
    model = pack(std::move(model));
    CAPTURE(k, in, out, hidden);
    require_round_trip(model, trip_input({some(rng, 1, 20), in}, rng), true);
  }
}

TEST_CASE("Packed networks on graphs come back bit by bit, by branches and joint, with all sinks") {
  Rng rng(12);
  for (int k = 0; k < 200; ++k) {
    const std::int64_t in = some(rng, 1, 6);
    LayeredGraph structure = random_structure(rng);
    MaskedDeepDANOptions options{.joint = rng.below(2) != 0, .all_sinks = rng.below(2) != 0};
    if (options.joint && rng.below(2))
      for (std::int64_t v = 0; v < structure.vertex_count(); ++v)
        structure.vertex_attributes().set("activation", v, std::array{"none", "relu", "tanh", "sigmoid"}[rng.below(4)]);
    MaskedDeepDAN model(in, some(rng, 1, 3), structure, options, rng);
    prune_some(model, rng);
    model = pack(std::move(model));
    CAPTURE(k, in, options.joint, options.all_sinks);
    require_round_trip(model, trip_input({some(rng, 1, 70), in}, rng), true);
  }
}

TEST_CASE("Full networks on graphs, with layer norm or without, come back within rounding") {
  Rng rng(13);
  for (int k = 0; k < 200; ++k) {
    const std::int64_t in = some(rng, 1, 5);
    const MaskedDeepDANOptions options{.use_layer_norm = rng.below(2) != 0, .store = storage::full};
    MaskedDeepDAN model(in, some(rng, 1, 3), random_structure(rng), options, rng);
    prune_some(model, rng);
    CAPTURE(k, in, options.use_layer_norm);
    require_round_trip(model, trip_input({some(rng, 1, 6), in}, rng), false);
  }
}

TEST_CASE("Convolutions with groups, masks, padding, pooling and batch norm come back within rounding") {
  Rng rng(14);
  for (int k = 0; k < 200; ++k) {
    Shape example;
    const auto model = random_conv_net(rng, example);
    CAPTURE(k, example);
    require_round_trip(model, trip_input(with_extent(example, 0, some(rng, 1, 3)), rng), false);
  }
}

TEST_CASE("Residual sums, concatenations, slices and scaled copies come back within rounding") {
  Rng rng(15);
  for (int k = 0; k < 200; ++k) {
    const std::int64_t in = some(rng, 1, 5);
    const TripUserNet model(in, some(rng, 1, 5), rng);
    CAPTURE(k, in);
    const Tensor x = trip_input({some(rng, 1, 4), in}, rng);
    const LayeredGraph g = to_graph(model, {1, in});
    require_meaning(model, g, x);
    require_meaning(from_graph(g), g, x);
  }
}

TEST_CASE("The batch adds no vertices, and extraction changes nothing") {
  Rng rng(16);
  MaskedDeepFFN model(6, 3, {5, 4}, {}, rng);
  model.layer_first.set_mask(Mask::zeros(5, 6));
  const MaskedDeepFFN before = model;
  const LayeredGraph one = GraphTransform({1, 2, 3}).transform(model);
  REQUIRE(GraphTransform({7, 2, 3}).transform(model) == one);
  REQUIRE(model.layer_first.mask() == Mask::zeros(5, 6));
  REQUIRE(test::same_bits(model.layer_first.weight.value(), before.layer_first.weight.value()));
  REQUIRE(one.edge_count() == 20 + 12);
  REQUIRE(one.vertex_count() == 6 + 5 + 4 + 3);
}
