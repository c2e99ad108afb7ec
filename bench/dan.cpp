// Networks on Watts-Strogatz graphs, 784 inputs, 10 classes, batch 128: a training step, its part on the graph alone,
// building the network, and all of this at a million vertices.
//
// Logits of the network are checked against a walk over the edges of the graph in double precision before anything is
// timed. --graphs DIR leaves the edges where peers.py finds them.
#include "bench.hpp"

#include <deepstruct/graph.hpp>

#include <filesystem>

#include <sys/resource.h>

using namespace deepstruct;

namespace {

constexpr std::int64_t batch = 128, inputs = 784, classes = 10, wires = 16;

/// Peak of the memory of this process so far, in MiB.
double peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

/// `wires` random inputs for every vertex of the first layer.
Mask sparse_wiring(std::int64_t vertices, Rng& rng) {
  std::vector<std::int32_t> start{0}, col;
  const Draw draw = rng.draw();
  std::uint64_t used = 0;
  for (std::int64_t v = 0; v < vertices; ++v) {
    const auto first = static_cast<std::ptrdiff_t>(col.size());
    while (static_cast<std::ptrdiff_t>(col.size()) - first < wires) {
      const auto i = static_cast<std::int32_t>(draw.below(used++, inputs));
      if (std::find(col.begin() + first, col.end(), i) == col.end()) col.push_back(i);
    }
    std::sort(col.begin() + first, col.end());
    start.push_back(static_cast<std::int32_t>(col.size()));
  }
  return Mask::from_csr(vertices, inputs, start, col);
}

/// The greatest relative error of the logits of a few samples: edges of the structure, weights as the model has them.
double error_of(const MaskedDeepDAN& dan, const LayeredGraph& g, const Tensor& x, std::int64_t samples) {
  no_grad guard;
  const Tensor got = dan(narrow(x, 0, 0, samples)).value();
  const DagWiring& w = *dan.wiring();
  const std::vector<Vertex>& places = g.index().order;
  std::vector<std::int32_t> number(places.size());
  for (std::size_t v = 0; v < places.size(); ++v) number[places[v]] = static_cast<std::int32_t>(v);
  const Mask mask = dan.layers_hidden->mask();
  check(mask.nnz() == g.edge_count(), "dan: edges got lost (", mask.nnz(), " of ", g.edge_count(), ")");
  for (const Edge& e : g.graph().edges()) {
    bool there = false;
    const std::int64_t k = number[e.target] - w.inputs;
    for (std::int64_t r = w.row_of(k); r < w.row_of(k + 1); ++r) there |= mask.contains(r, number[e.source]);
    check(there, "dan: an edge of the graph is none of the network (", e.source, ", ", e.target, ")");
  }
  const auto linear = [](const MaskedLinearLayer& layer, const std::vector<double>& in) {
    std::vector<double> out;
    const Mask m = layer.mask();
    for (std::int64_t r = 0; r < layer.out_features(); ++r) out.push_back(double{layer.bias->value()(r)});
    m.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      out[r] += double{layer.packed() ? layer.weight.value()(e) : layer.weight.value()(r, c)} * in[c];
    });
    return out;
  };
  double error = 0;
  for (std::int64_t s = 0; s < samples; ++s) {
    std::vector<double> in;
    for (std::int64_t i = 0; i < inputs; ++i) in.push_back(double{x(s, i)});
    std::vector<double> h = linear(dan.layer_first, in);
    for (double& v : h) v = std::max(v, 0.0);
    h.resize(places.size(), 0.0);
    for (std::int64_t k = 0; k < w.vertices - w.inputs; ++k)
      for (std::int64_t r = w.row_of(k); r < w.row_of(k + 1); ++r) {
        double z = double{dan.layers_hidden->bias->value()(r)};
        for (std::int32_t e = mask.row_start()[r]; e < mask.row_start()[r + 1]; ++e)
          z += double{dan.layers_hidden->weight.value()(e)} * h[mask.col()[e]];
        h[w.inputs + k] += std::max(z, 0.0);
      }
    std::vector<double> last;
    for (const std::int32_t v : w.output) last.push_back(h[v]);
    const std::vector<double> y = linear(dan.layer_out, last);
    for (std::int64_t o = 0; o < classes; ++o)
      error = std::max(error, std::abs(double{got(s, o)} - y[o]) / std::max(1.0, std::abs(y[o])));
  }
  check(error <= 1e-5, "dan: wrong logits (relative error ", error, ")");
  return error;
}

void write_edges(const std::filesystem::path& file, const Graph& g) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream out(file);
  out << g.vertex_count() << " 0\n";  // then one edge a line
  for (const Edge& e : g.edges()) out << e.source << ' ' << e.target << '\n';
}

/// Repeats until the time is used, three times at least.
template <class F>
bench::Timing timed(F&& f, double seconds) {
  const double once = bench::microseconds(f);
  const int repeats = std::clamp(static_cast<int>(seconds * 1e6 / once), 3, 300);
  return bench::measure(f, repeats, 0.1);
}

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"vertices", "threads", "seconds", "graphs", "million", "json"});
  const auto sizes = options.numbers<std::int64_t>("vertices", "1000,10000", 10, 10000000);
  const auto threads = options.numbers("threads", std::to_string(num_threads()), 1, 1024);
  const double seconds = options.number("seconds", "2", 0.01, 100.0);
  const std::string folder = options.get("graphs", ""), million = options.get("million", "");
  std::vector<bench::Row> rows;
  const auto add = [&](const char* what, std::int64_t n, const char* storage, int count, bench::Timing time,
                       double error) {
    bench::Row row;
    row.name = what;
    row.model = "watts_strogatz-" + std::to_string(n);
    row.storage = storage;
    row.batch = batch;
    row.threads = count;
    row.time = time;
    row.max_abs_err = error;
    rows.push_back(row);
  };
  Rng data(3);
  const Tensor x = Tensor::normal({batch, inputs}, 0, 1, data);
  std::vector<std::int32_t> target;
  for (std::int64_t s = 0; s < batch; ++s) target.push_back(static_cast<std::int32_t>(s % classes));

  for (const std::int64_t n : sizes) {
    if (!million.empty()) break;
    Rng rng(7);
    const Graph g = watts_strogatz_graph(n, 4, 0.5, rng);
    if (!folder.empty()) write_edges(std::filesystem::path(folder) / (std::to_string(n) + ".edges"), g);
    for (const int count : threads) {
      set_num_threads(count);
      add("dan_build", n, "branches", count,
          timed([&] { MaskedDeepDAN(inputs, classes, LayeredGraph::load_from(g), {}, rng); }, seconds / 4), 0);
      for (const bool joint : {false, true}) {
        const char* storage = joint ? "joint" : "branches";
        const LayeredGraph structure = LayeredGraph::load_from(g);
        MaskedDeepDAN dan(inputs, classes, structure, {.joint = joint}, rng);
        const double error = error_of(dan, structure, x, 3);
        Adam adam;
        const Var in = x;
        add("dan_step", n, storage, count,
            timed(
                [&] {
                  backward(cross_entropy(dan(in), target));
                  adam.step(dan);
                },
                seconds),
            error);
        // One value goes into every vertex of the first layer: forward, all gradients, Adam on what the graph has.
        const Var first = variable(Tensor::uniform({batch, dan.layer_size(0)}, 0, 1, data));
        const Tensor up = Tensor::uniform({batch, static_cast<std::int64_t>(dan.wiring()->output.size())}, -1, 1, data);
        MaskedLinearLayer& core = *dan.layers_hidden;
        add("dan_core", n, storage, count,
            timed(
                [&] {
                  const Var y = layered_dag(first, core.weight, *core.bias, core.mask(), dan.wiring());
                  backward(sum(mul(y, up)));
                  adam.step(core);
                  first.clear_grad();
                },
                seconds / 2),
            error);
        std::cout << rows.back().model << ' ' << storage << ", " << count << " threads: " << structure.edge_count()
                  << " edges, " << dan.num_layers() << " layers; graph alone "
                  << rows.back().time.median * 1e3 / static_cast<double>(structure.edge_count()) << " ns an edge\n";
      }
    }
  }

  if (!million.empty()) {  // one variant a process, so that the peak of memory is its own
    check(million == "full" || million == "wires", "--million must be full or wires (", million, ")");
    check(threads.size() == 1 && (sizes.size() == 1 || options.get("vertices", "").empty()),
          "--million takes one number of vertices and one of threads (", sizes.size(), " and ", threads.size(), ")");
    const std::int64_t n = sizes.size() == 1 ? sizes[0] : 1000000;
    set_num_threads(threads[0]);
    const char* storage = million == "full" ? "full" : "wires";
    Rng rng(7);
    std::optional<MaskedDeepDAN> dan;
    LayeredGraph structure;
    const double us = bench::microseconds([&] {
      structure = LayeredGraph::load_from(watts_strogatz_graph(n, 4, 0.5, rng));
      MaskedDeepDANOptions how{.joint = true};
      if (million == "wires") how.input_wiring = sparse_wiring(structure.first_layer_size(), rng);
      dan.emplace(inputs, classes, structure, how, rng);
    });
    std::cout << n << " vertices, " << structure.edge_count() << " edges, inputs by " << storage
              << ": built with a peak of " << peak_mib() << " MiB\n";
    add("million_build", n, storage, threads[0], {us, 0}, 0);
    const double error = error_of(*dan, structure, x, 1);
    structure = {};
    Adam adam;
    const Var in = x;
    std::vector<double> times;
    for (int k = 0; k < 5; ++k)
      times.push_back(bench::microseconds([&] {
        backward(cross_entropy((*dan)(in), target));
        adam.step(*dan);
      }));
    times.erase(times.begin(), times.begin() + 2);  // the first two take memory
    add("million_step", n, storage, threads[0], bench::timing_of(times), error);
    const MaskedLinearLayer& core = *dan->layers_hidden;
    double bytes = 0;
    each_param(core, [&](const Param& p) { bytes += static_cast<double>((2 + p.slots().size()) * p.size() * 4); });
    const Mask mask = core.mask();
    bytes += static_cast<double>(mask.nnz() * 12 + (mask.rows() + 1 + mask.cols() + 1) * 4);
    std::cout << "values, gradients, moments and indices: " << bytes / static_cast<double>(mask.nnz())
              << " bytes an edge\n";
  }
  return bench::report(options, rows);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::program(
      argc, argv,
      "usage: dan [--vertices 1000,10000] [--threads 1,2] [--seconds 2] [--graphs DIR] [--json FILE]\n"
      "       dan --million full|wires [--vertices 1000000] [--threads 2] [--json FILE]\n",
      run);
}
