#include <deepstruct/io/layered_graph.hpp>
#include <deepstruct/transform/compact_graph.hpp>

#include "graphs.hpp"
#include "targets.hpp"

using namespace deepstruct;

void fuzz::network(Bytes bytes) {
  const auto graph = parsed([&] { return read_layered_graph(as_text(bytes)); });
  if (!graph || graph->vertex_count() > 200) return;
  const auto network = parsed([&] { return from_graph(*graph); });
  if (!network) return;
  no_grad guard;
  const Tensor x = Tensor::ones({2, network->inputs()});
  const auto y =
      parsed([&] { return (*network)(x).value(); });  // what it computes may have no form, such as a norm of 0
  if (!y) return;
  const auto again = parsed([&] { return to_graph(*network); });
  if (again)
    require(from_graph(*again)(x).value().shape() == y->shape(),
            "network: built again from its graph, it has other outputs");
  parsed([&] { return compact(*graph).graph.vertex_count(); });
}
