// compact of graphs of neurons: what they compute stays, what says nothing goes.
#include <deepstruct/graph/random_graphs.hpp>
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/transform/compact_graph.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

template <class M>
void sparsify(M& model, Rng& rng) {
  each<MaskedLinearLayer>(model, [&](MaskedLinearLayer& layer) {
    const Mask m = layer.mask();
    const float density = rng.uniform(0.0f, 1.0f);
    layer.set_mask(
        m.filter([&](std::int32_t, std::int64_t, std::int64_t) { return rng.uniform(0.0f, 1.0f) < density; }));
  });
}

/// The same answers from fewer vertices; every hidden one left is read and, but for norms, depends on an input.
void require_compact(const LayeredGraph& g, Rng& rng) {
  const CompactedGraph smaller = compact(g);
  const GraphNetwork before = from_graph(g), after = from_graph(smaller.graph);
  const Tensor x = Tensor::normal({7, before.inputs()}, 0, 1, rng);
  test::require_close(after(x).value(), before(x).value(), 1e-4, 1e-5);
  REQUIRE(smaller.graph.vertex_count() <= g.vertex_count());
  REQUIRE(compact(smaller.graph).graph.graph() == smaller.graph.graph());
  const Adjacency out = successors(smaller.graph.graph()), in = predecessors(smaller.graph.graph());
  const AttributeTable& t = smaller.graph.vertex_attributes();
  for (Vertex v = 0; v < smaller.graph.vertex_count(); ++v) {
    if (*t.get<std::string>("role", v) != "hidden" || (t.contains("norm") && t.get<std::string>("norm", v))) continue;
    REQUIRE(out.degree(v) > 0);
    REQUIRE(in.degree(v) > 0);
  }
  for (Vertex v = 0; v < g.vertex_count(); ++v)
    if (smaller.vertices[v] >= 0)
      REQUIRE(t.get<std::string>("role", smaller.vertices[v]) == g.vertex_attributes().get<std::string>("role", v));
}

}  // namespace

TEST_CASE("Compacted graphs of random networks answer the same") {
  Rng rng(41);
  for (int k = 0; k < 200; ++k) {
    CAPTURE(k);
    MaskedDeepFFN ffn(5, 3, {6, 5, 4}, {.use_layer_norm = k % 3 == 0, .store = storage::packed}, rng);
    sparsify(ffn, rng);
    require_compact(to_graph(ffn), rng);
    MaskedDeepDAN dan(4, 2, LayeredGraph(gnp_random_graph(12, 0.3, false, rng)),
                      {.joint = k % 2 == 0, .all_sinks = k % 4 < 2}, rng);
    sparsify(dan, rng);
    require_compact(to_graph(dan), rng);
  }
}

TEST_CASE("A network of which nothing is left gives its constants") {
  Rng rng(42);
  MaskedDeepFFN ffn(3, 2, {4, 4}, {.store = storage::packed}, rng);
  ffn.layer_first.set_mask(Mask::zeros(4, 3));
  const auto compacted = compact(from_graph(to_graph(ffn)), {1, 3});
  const GraphNetwork& network = compacted.model;
  REQUIRE(compacted.report.removed_units() == 8);
  REQUIRE(compacted.units.at("vertices")[3] == -1);
  REQUIRE(to_graph(network).vertex_count() == 3 + 2);
  REQUIRE(to_graph(network).edge_count() == 0);
  const Tensor x = Tensor::normal({2, 3}, 0, 1, rng);
  test::require_close(network(x).value(), ffn(x).value(), 1e-5, 1e-6);
}
