// Networks through GraphML and back, also after NetworkX has read and rewritten the file.
#include <deepstruct/graph/random_graphs.hpp>
#include <deepstruct/io/layered_graph.hpp>
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/prune/prune.hpp>
#include <deepstruct/transform/from_graph.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

/// The networks whose files NetworkX has rewritten (tests/io/networkx_rewrite.py).
MaskedDeepDAN rewritten_dan() {
  Rng rng(21);
  MaskedDeepDAN model(3, 2, LayeredGraph(watts_strogatz_graph(12, 4, 0.5, rng)), {}, rng);
  return pack(std::move(model));
}
MaskedDeepFFN rewritten_ffn() {
  Rng rng(22);
  MaskedDeepFFN model(3, 2, {5, 4}, {.use_layer_norm = true}, rng);
  prune_network_by_saliency(model, percentage(40));
  return pack(std::move(model));
}

template <class M>
void require_same_outputs(const M& model, const LayeredGraph& g) {
  Rng rng(1);
  const GraphNetwork network = from_graph(g);
  for (const std::int64_t batch : {1, 5, 16, 70}) {
    const Tensor x = Tensor::normal({batch, 3}, 0, 1, rng);
    INFO("batch " << batch);
    REQUIRE(test::same_bits(model(x).value(), network(x).value()));
  }
}

}  // namespace

TEST_CASE("A packed network comes back from GraphML bit by bit") {
  Rng rng(3);
  for (int k = 0; k < 20; ++k) {
    MaskedDeepDAN dan(3, 2, LayeredGraph(gnp_random_graph(12, 0.3, false, rng)), {.joint = k % 2 == 0}, rng);
    dan = pack(std::move(dan));
    require_same_outputs(dan, read_layered_graph(write_graphml(to_graph(dan))));
    MaskedDeepFFN ffn(3, 2, {6, 5}, {.use_layer_norm = k % 2 == 0, .store = storage::packed}, rng);
    const LayeredGraph g = to_graph(ffn), back = read_layered_graph(write_graphml(g));
    require_same_outputs(ffn, back);
    REQUIRE(back.graph() == g.graph());
    REQUIRE(back.index().order == g.index().order);
  }
}

TEST_CASE("A packed network comes back bit by bit from a file that NetworkX has rewritten") {
  const std::filesystem::path data = std::filesystem::path(__FILE__).parent_path() / "data";
  require_same_outputs(rewritten_dan(), load_layered_graph(data / "dan_by_networkx.graphml"));
  require_same_outputs(rewritten_ffn(), load_layered_graph(data / "ffn_by_networkx.graphml"));
}

TEST_CASE("The files that NetworkX is given hold the networks", "[networkx]") {
  save_graphml(to_graph(rewritten_dan()), "dan.graphml");
  save_graphml(to_graph(rewritten_ffn()), "ffn.graphml");
  require_same_outputs(rewritten_dan(), load_layered_graph("dan.graphml"));
  require_same_outputs(rewritten_ffn(), load_layered_graph("ffn.graphml"));
}
