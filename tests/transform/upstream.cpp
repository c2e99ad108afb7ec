// The tests of Python deepstruct for its transform module, and of extraction from large networks.
#include <deepstruct/graph/random_graphs.hpp>
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/transform/graph_transform.hpp>

#include "support/catch.hpp"

using namespace deepstruct;

namespace {

/// All weights beyond any threshold.
template <class M>
void upstream_connect(M& model) {
  each_param(model, [](Param& p) {
    if (p.shape().rank() == 2) p.set_value(add(Var(p.value()), Tensor::ones(p.shape())).value());
  });
}

}  // namespace

TEST_CASE("upstream test_Conv2dLayerFunctor: simple, nonsquare, multiple configurations, realistic") {
  Rng rng(1);
  const auto outputs = [&](std::int64_t in, std::int64_t out, std::array<std::int64_t, 2> kernel, std::int64_t stride,
                           std::int64_t width, std::int64_t height) {
    const LayeredGraph g =
        Conv2dLayerFunctor(width, height).transform(Conv2d(in, out, kernel, {.stride = {stride, stride}}, true, rng));
    REQUIRE(g.num_layers() == 2);
    REQUIRE(g.first_layer_size() == in * width * height);
    return g.last_layer_size();
  };
  REQUIRE(outputs(3, 2, {3, 3}, 1, 5, 5) == 18);
  REQUIRE(outputs(3, 2, {6, 3}, 1, 20, 10) == 2 * 5 * 18);
  for (std::int64_t stride = 1; stride <= 2; ++stride)
    for (std::int64_t out = 1; out <= 4; ++out)
      for (std::int64_t kernel = 2; kernel <= 6; ++kernel) {
        const std::int64_t side = (10 - kernel) / stride + 1;
        REQUIRE(outputs(3, out, {kernel, kernel}, stride, 10, 10) == out * side * side);
      }
  REQUIRE(outputs(3, 2, {5, 5}, 1, 100, 100) == 2 * 96 * 96);
}

TEST_CASE("upstream test_GraphTransform: stacked graph, deep feed-forward networks, deep DAN") {
  Rng rng(2);
  const Sequential stacked{Linear(20, 16, rng), Linear(16, 16, rng)};
  REQUIRE(GraphTransform({1, 20}).transform(stacked).vertex_count() == 52);
  const Sequential image{Conv2d(1, 1, 3, {}, true, rng), Flatten(), Linear(4, 10, rng)};
  REQUIRE(GraphTransform({1, 1, 4, 4}).transform(image).vertex_count() == 16 + 4 + 10);

  MaskedDeepFFN deep(50, 10, {100, 50, 100}, {}, rng);
  upstream_connect(deep);
  const LayeredGraph g = GraphTransform({1, 50}).transform(deep);
  REQUIRE(g.vertex_count() == 310);
  REQUIRE(g.edge_count() == 16000);

  MaskedDeepFFN deeper(50, 10, std::vector<std::int64_t>(100, 100), {}, rng);
  upstream_connect(deeper);
  const LayeredGraph h = GraphTransform({1, 50}).transform(deeper);
  REQUIRE(h.vertex_count() == 50 + 10000 + 10);
  REQUIRE(h.edge_count() == 5000 + 99 * 10000 + 1000);

  const MaskedDeepDAN dan(50, 10, LayeredGraph(newman_watts_strogatz_graph(100, 4, 0.5, rng)), {}, rng);
  REQUIRE(GraphTransform({1, 50}).transform(dan).vertex_count() == 50 + 100 + 10);
}

TEST_CASE("upstream test_LinearLayerFunctor: compression, expansion, sparse") {
  Rng rng(3);
  Linear compression(10, 5, rng);
  compression.weight.set_value(Tensor::uniform({5, 10}, 1, 2, rng));
  const LayeredGraph g = LinearLayerFunctor(0.01f).transform(compression);
  REQUIRE((g.vertex_count() == 15 && g.edge_count() == 50 && g.num_layers() == 2));
  Linear expansion(4, 8, rng);
  expansion.weight.set_value(Tensor::uniform({8, 4}, 1, 2, rng));
  const LayeredGraph h = LinearLayerFunctor(0.01f).transform(expansion);
  REQUIRE((h.vertex_count() == 12 && h.edge_count() == 32 && h.num_layers() == 2));
  Linear sparse(5, 10, rng);
  Tensor w = Tensor::uniform({10, 5}, 1, 2, rng);
  std::int64_t ones = 0;
  for (std::int64_t r = 0; r < 10; ++r)
    for (std::int64_t c = 0; c < 5; ++c) {
      const bool keep = rng.bernoulli(0.3f);
      ones += keep;
      if (!keep) w(r, c) = 0;
    }
  sparse.weight.set_value(w);
  const LayeredGraph s = LinearLayerFunctor(0.01f).transform(sparse);
  REQUIRE((s.vertex_count() == 15 && s.edge_count() == ones && s.num_layers() == 2));
}

TEST_CASE("upstream test_generate_structure_on_large_maskeddeepffn: 1000-500-500-200-100 on images") {
  Rng rng(4);
  const MaskedDeepFFN model({1, 28, 28}, 10, {1000, 500, 500, 200, 100}, {}, rng);
  const LayeredGraph g = GraphTransform({1, 1, 28, 28}).transform(model);
  REQUIRE(g.num_layers() == 7);
  const std::vector<std::int64_t> inner{1000, 500, 500, 200, 100};
  for (std::size_t l = 0; l < inner.size(); ++l) REQUIRE(g.layer_size(static_cast<std::int64_t>(l) + 1) == inner[l]);
}
