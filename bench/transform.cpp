// Networks as graphs: extraction of a feed-forward network beside the original's GraphTransform, and of a million
// edges, its GraphML written and read, and what compact takes.
//
// What comes out is checked before it is timed: edges by their number, files by the bits of the network that comes
// back, compaction by its outputs.
#include "bench.hpp"

#include <deepstruct/graph.hpp>
#include <deepstruct/io/layered_graph.hpp>

using namespace deepstruct;

namespace {

bool same(const Var& a, const Var& b) { return a.value().to_vector() == b.value().to_vector(); }

/// Repeats until the time is used, three times at least.
template <class F>
bench::Timing timed(F&& f, double seconds) {
  const double once = bench::microseconds(f);
  return bench::measure(f, std::clamp(static_cast<int>(seconds * 1e6 / once), 3, 300), 0.1);
}

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"threads", "seconds", "vertices", "json"});
  const int threads = options.numbers("threads", "1", 1, 1024).front();
  const double seconds = options.number("seconds", "2", 0.01, 100.0);
  const auto vertices = options.numbers<std::int64_t>("vertices", "100000", 100, 1000000).front();
  set_num_threads(threads);
  std::vector<bench::Row> rows;
  const auto add = [&](const char* what, const std::string& model, bench::Timing time, double error = 0) {
    bench::Row row;
    row.name = what;
    row.model = model;
    row.batch = 1;
    row.threads = threads;
    row.time = time;
    row.max_abs_err = error;
    rows.push_back(row);
  };

  Rng rng(7);
  const MaskedDeepFFN ffn(784, 10, {300, 300}, {}, rng);
  const GraphTransform transform({1, 784});
  const LayeredGraph extracted = transform.transform(ffn);
  check(extracted.vertex_count() == 1394 && extracted.edge_count() == 784 * 300 + 300 * 300 + 3000,
        "transform: the graph of a network is wrong (", extracted.vertex_count(), " vertices, ", extracted.edge_count(),
        " edges)");
  add("extract", "784-300-300-10", timed([&] { transform.transform(ffn); }, seconds));

  // A million edges: ten out of every vertex.
  const std::string name = "watts_strogatz-" + std::to_string(vertices);
  const LayeredGraph structure = LayeredGraph::load_from(watts_strogatz_graph(vertices, 20, 0.5, rng));
  std::vector<Mask::Edge> wires;
  for (std::int64_t v = 0; v < structure.layer_size(0); ++v)
    wires.emplace_back(static_cast<std::int32_t>(v), static_cast<std::int32_t>(v % 784));
  const MaskedDeepDAN dan(784, 10, structure,
                          {.joint = true, .input_wiring = Mask::from_edges(structure.layer_size(0), 784, wires)}, rng);
  const Tensor x = Tensor::normal({2, 784}, 0, 1, rng);
  const LayeredGraph graph = to_graph(dan);
  const std::string text = write_graphml(graph);
  std::cout << graph.vertex_count() << " vertices, " << graph.edge_count() << " edges, "
            << static_cast<double>(text.size()) / 1e6 << " MB of GraphML\n";
  {
    no_grad guard;
    const MaskedDeepDAN packed = pack(dan);
    check(same(packed(x), from_graph(to_graph(packed))(x)) &&
              same(packed(x), from_graph(read_layered_graph(write_graphml(to_graph(packed))))(x)),
          "transform: a network did not come back from its graph (", name, ")");
  }
  add("extract", name, timed([&] { to_graph(dan); }, seconds));
  add("from_graph", name, timed([&] { from_graph(graph); }, seconds));
  add("graphml_write", name, timed([&] { write_graphml(to_graph(dan)); }, seconds));
  add("graphml_read", name, timed([&] { read_layered_graph(text); }, seconds));

  MaskedDeepDAN pruned = dan;
  prune_network_by_saliency(pruned, percentage(90));
  no_grad guard;
  const auto smaller = compact(pruned, {1, 784});
  double error = 0;
  const Tensor before = pruned(x).value(), after = smaller.model(x).value();
  for (std::int64_t s = 0; s < 2; ++s)
    for (std::int64_t k = 0; k < 10; ++k) error = std::max(error, std::abs(double{before(s, k)} - double{after(s, k)}));
  check(error <= 1e-4, "transform: compact changed the outputs (by ", error, ")");
  add("compact", name, timed([&] { compact(dan, {1, 784}); }, seconds));
  add("compact", name + "-pruned", timed([&] { compact(pruned, {1, 784}); }, seconds), error);
  return bench::report(options, rows);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::program(argc, argv, "usage: transform [--threads 1] [--seconds 2] [--vertices 100000] [--json FILE]\n",
                        run);
}
