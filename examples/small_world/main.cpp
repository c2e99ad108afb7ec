// Networks with the structure of a graph: a small world, a grid and a tree learn Fashion-MNIST, lose half of their
// connections and learn again, while we watch their structure.
#include "common/csv_log.hpp"
#include "common/files.hpp"
#include "common/idx_folder.hpp"
#include "common/interrupt.hpp"
#include "common/main.hpp"
#include "common/progress.hpp"
#include "common/report_card.hpp"

#include <deepstruct/graph.hpp>

#include <functional>
#include <iomanip>
#include <iostream>

namespace ds = deepstruct;

namespace {

struct Settings {
  std::string data = "/usr/share/datasets/fashion-mnist", out = "out/small_world";
  std::uint64_t seed = 1;
  std::int64_t vertices = 200, neighbours = 4;  // of the small world
  double rewire = 0.5;
  std::int64_t rows = 8, columns = 12, children = 2, height = 6;  // of the grid; of the tree
  bool node_order = false;
  int epochs = 10, finetune = 6, threads = 0;
  double prune = 50, lr = 2e-3;
  std::int64_t batch = 128, limit = 0;
  bool quiet = false;
};

std::string percent(double share) { return examples::fixed(100 * share, 2) + " %"; }

/// A graph as a network: every vertex a neuron, every edge a connection with a weight.
ds::MaskedDeepDAN network(const ds::Graph& graph, std::int64_t inputs, bool node_order, ds::Rng& rng) {
  // An edge leads to the vertex that is later in some order. In the order of nodes, that of Python deepstruct, a tree
  // or grid begins with vertex 0 alone: one neuron has to tell all pictures apart. Random order has many beginnings.
  const auto order = node_order ? ds::Orientation::node_order : ds::Orientation::random;
  auto structure = ds::LayeredGraph::load_from(graph, order, rng);
  // tanh, because a tree is full of vertices with one connection: as ReLU they would be 0 for ever if it is negative.
  structure.vertex_attributes().set_column("activation", std::vector<std::string>(graph.vertex_count(), "tanh"));
  const ds::MaskedDeepDANOptions options{
      .joint = true,         // one sum a neuron over all its connections, not one for each layer they come from
      .all_sinks = true,     // every end of a path feeds the output: a tree has many, few of them in the last layer
      .degree_aware = true,  // initial weights for 1 to 4 connections a neuron: signals survive many layers
  };
  return {inputs, 10, structure, options, rng};
}

/// What the structure of a network looks like at the moment.
struct Measures {
  std::int64_t connections;    ///< between neurons, without those from pixels and to classes
  std::int64_t layers;         ///< neurons of the longest path from input to output
  double log_paths;            ///< ln of the number of such paths
  std::int64_t dead;           ///< neurons on none of them
  std::int64_t connected;      ///< neurons of the largest connected part, directions ignored
  double path_length;          ///< mean distance of two neurons of that part
  double clustering, density;  ///< directions ignored
};

/// The graph without the vertices of which keep is false.
ds::Graph part_of(ds::Graph graph, const std::vector<char>& keep) {
  std::vector<ds::Vertex> others;
  for (std::size_t v = 0; v < keep.size(); ++v)
    if (!keep[v]) others.push_back(static_cast<ds::Vertex>(v));
  graph.remove_vertices(others);
  return graph;
}

/// The largest connected part of an undirected graph.
ds::Graph largest_part(const ds::Graph& graph) {
  const ds::Components parts = ds::connected_components(graph);
  std::vector<std::int64_t> size(parts.count, 0);
  for (const std::int32_t part : parts.label) ++size[part];
  const auto largest = std::max_element(size.begin(), size.end()) - size.begin();
  std::vector<char> keep;
  for (const std::int32_t part : parts.label) keep.push_back(part == largest);
  return part_of(graph, keep);
}

Measures measure(const ds::MaskedDeepDAN& model) {
  const ds::Graph graph = model.generate_structure().graph();  // vertices are numbered layer by layer
  std::vector<ds::Vertex> first(model.layer_size(0));
  std::iota(first.begin(), first.end(), 0);
  const ds::Graph live = part_of(graph, ds::live_vertices(graph, first, model.wiring()->output));
  const ds::Graph undirected(graph.vertex_count(), {graph.edges().begin(), graph.edges().end()});
  const ds::Graph connected = largest_part(undirected);
  ds::Rng rng(1);  // for graphs so large that distances are sampled
  return {.connections = graph.edge_count(),
          .layers = ds::LayeredGraph(live).num_layers(),
          .log_paths = ds::log_path_count(live),
          .dead = graph.vertex_count() - live.vertex_count(),
          .connected = connected.vertex_count(),
          .path_length = ds::average_shortest_path_length(connected, {.sources = 1000}, rng),
          .clustering = ds::average_clustering(undirected),
          .density = ds::density(undirected)};
}

/// The structure of a network with its weights, for a picture: all that feed the output stand in the last layer.
ds::LayeredGraph picture(const ds::MaskedDeepDAN& model) {
  const ds::LayeredGraph structure = model.generate_structure();
  std::vector<std::int32_t> layer = structure.index().layer;
  for (const ds::Vertex v : model.wiring()->output) layer[v] = *std::max_element(layer.begin(), layer.end());
  auto result = ds::LayeredGraph::with_layers(structure.graph(), layer);
  // All hidden connections are one mask, with a column for every neuron and a row for every one behind the first layer.
  const ds::MaskedLinearLayer& hidden = *model.layers_hidden;
  const auto row_of = [&](ds::Vertex v) { return v - model.layer_size(0); };
  const ds::Mask mask = hidden.mask();
  std::vector<float> weights;
  for (const ds::Edge& e : result.graph().edges())
    weights.push_back(hidden.weight.value()(mask.edge(row_of(e.target), e.source)));
  result.edge_attributes().set_column("weight", weights);
  return result;
}

struct Result {
  std::string name, phase;
  Measures structure;
  double at_once, trained;  ///< test accuracy before and after the epochs of this phase
};

void print_table(const std::vector<Result>& results) {
  const auto row = [&](const std::string& what, const std::function<std::string(const Result&)>& cell) {
    std::cout << "  " << std::left << std::setw(22) << what << std::right;
    for (const Result& result : results) std::cout << std::setw(10) << cell(result);
    std::cout << '\n';
  };
  std::cout << '\n' << std::setw(24) << "";
  for (std::size_t k = 0; k < results.size(); k += 2) std::cout << std::setw(20) << results[k].name;
  std::cout << '\n';
  row("", [](const Result& r) { return r.phase; });
  row("connections", [](const Result& r) { return std::to_string(r.structure.connections); });
  row("layers", [](const Result& r) { return std::to_string(r.structure.layers); });
  row("ln(number of paths)", [](const Result& r) { return examples::fixed(r.structure.log_paths, 2); });
  row("dead neurons", [](const Result& r) { return std::to_string(r.structure.dead); });
  row("largest part", [](const Result& r) { return std::to_string(r.structure.connected); });
  row("mean distance in it", [](const Result& r) { return examples::fixed(r.structure.path_length, 2); });
  row("clustering", [](const Result& r) { return examples::fixed(r.structure.clustering, 3); });
  row("accuracy at once", [](const Result& r) { return percent(r.at_once); });
  row("accuracy when trained", [](const Result& r) { return percent(r.trained); });
}

int work(CLI::App& app, const examples::Parse& parse) {
  Settings s;
  app.description("Trains a small world, a grid and a tree on Fashion-MNIST, prunes and measures them.");
  const auto whole = [&](const char* name, auto& value, int least, const char* text) {
    using T = std::remove_reference_t<decltype(value)>;
    app.add_option(name, value, text)->check(examples::within<T>(T(least)))->capture_default_str();
  };
  app.add_option("--data", s.data, "folder with an IDX data set (plain or .gz)")->capture_default_str();
  app.add_option("--out", s.out, "folder for log and pictures")->capture_default_str();
  app.add_option("--seed", s.seed, "seed of graphs, initial values and data order")->capture_default_str();
  whole("--vertices", s.vertices, 1, "vertices of the small world");
  whole("--neighbours", s.neighbours, 0, "neighbours of each before some edges are moved");
  app.add_option("--rewire", s.rewire, "share of its edges that are moved")
      ->check(examples::within(0.0, 1.0))
      ->capture_default_str();
  whole("--rows", s.rows, 1, "rows of the grid");
  whole("--columns", s.columns, 1, "columns of the grid");
  whole("--children", s.children, 0, "children of a vertex of the tree");
  whole("--height", s.height, 0, "height of the tree");
  app.add_flag("--node-order", s.node_order, "direct edges by the order of nodes instead of a random one");
  whole("--epochs", s.epochs, 1, "epochs of training");
  whole("--finetune", s.finetune, 1, "epochs after pruning");
  app.add_option("--prune", s.prune, "per cent of the hidden connections to remove")
      ->check(examples::within(0.0, 100.0))
      ->capture_default_str();
  whole("--batch", s.batch, 1, "batch size");
  app.add_option("--lr", s.lr, "learning rate of Adam")->check(examples::within(0.0))->capture_default_str();
  whole("--threads", s.threads, 0, "threads (0: all cores)");
  whole("--limit", s.limit, 0, "use only the first N samples (0: all)");
  app.add_flag("--quiet", s.quiet, "no progress, only the table");
  parse();

  if (s.threads > 0) ds::set_num_threads(s.threads);
  const ds::Dataset train = examples::load_half(s.data, "train", 10, s.limit);
  const ds::Dataset test = examples::load_half(s.data, "t10k", 10, s.limit);
  const std::filesystem::path out = s.out;
  examples::CsvLog log(out / "small_world.csv",
                       {"structure", "phase", "epoch", "loss", "test_accuracy", "connections", "layers", "log_paths",
                        "dead", "connected", "path_length", "clustering", "density"});
  examples::Interrupt interrupt;
  examples::Progress progress(s.quiet);
  std::vector<Result> results;

  const std::vector<std::pair<std::string, std::function<ds::Graph(ds::Rng&)>>> structures{
      {"watts_strogatz",
       [&](ds::Rng& rng) { return ds::watts_strogatz_graph(s.vertices, s.neighbours, s.rewire, rng); }},
      {"grid", [&](ds::Rng&) { return ds::grid_2d_graph(s.rows, s.columns); }},
      {"tree", [&](ds::Rng&) { return ds::balanced_tree(s.children, s.height); }}};
  for (const auto& [name, make_graph] : structures) {
    ds::Rng rng(s.seed);  // one for each, so that none depends on the others
    const ds::Graph graph = make_graph(rng);
    ds::MaskedDeepDAN model = network(graph, train.x_shape().rows(), s.node_order, rng);
    ds::Adam adam{.lr = s.lr};

    // Trains some epochs and draws what comes out; returns false if Ctrl-C ended it.
    const auto learn = [&, name = name](const std::string& phase, int epochs) {
      const Measures m = measure(model);
      Result result{name, phase, m, ds::evaluate(model, test).accuracy, 0};
      ds::FitOptions options{.epochs = epochs, .batch_size = s.batch, .stop = interrupt.token()};
      options.on_step = [&](const ds::Progress& p) {
        progress.update(p.step, p.steps, "loss " + examples::fixed(p.loss, 4));
      };
      options.on_epoch = [&](const ds::Progress& p) {
        result.trained = ds::evaluate(model, test).accuracy;
        log.row(name, phase, p.epoch, p.loss, result.trained, m.connections, m.layers, m.log_paths, m.dead, m.connected,
                m.path_length, m.clustering, m.density);
        progress.line(name + " " + phase + "  epoch " + std::to_string(p.epoch) + "/" + std::to_string(epochs) +
                      "  loss " + examples::fixed(p.loss, 4) + "  test accuracy " + percent(result.trained));
        progress.begin(name + " " + phase);
      };
      progress.begin(name + " " + phase);
      const bool done = !ds::fit(model, adam, train, rng, options).stopped;
      progress.clear();
      results.push_back(result);
      const std::string title = name + " " + phase + ": " + std::to_string(m.connections) +
                                " connections, test accuracy " + percent(result.trained);
      examples::write_file(out / (name + "_" + phase + ".svg"), ds::write_svg(picture(model), {.title = title}));
      return done;
    };

    if (!learn("whole", s.epochs)) return interrupt.exit_code();
    ds::MaskedDeepDAN unpruned = model;  // for the report card: trained as long, in the same order
    ds::Adam unpruned_adam = adam;
    ds::Rng unpruned_rng = rng;
    // The smallest weights between neurons go; those from the pixels and to the classes stay.
    ds::prune_network_by_saliency(*model.layers_hidden, ds::percentage(s.prune), {.exact = true});
    if (!learn("pruned", s.finetune)) return interrupt.exit_code();
    const ds::FitOptions as_long{.epochs = s.finetune, .batch_size = s.batch, .stop = interrupt.token()};
    if (ds::fit(unpruned, unpruned_adam, train, unpruned_rng, as_long).stopped) return interrupt.exit_code();
    examples::report_card(out / (name + "_report"), unpruned, ds::pack(model), test,
                          {.before = "whole", .after = "pruned", .batch_size = s.batch});
  }

  print_table(results);
  std::cout << "\nlog, report cards and pictures are in " << out.string() << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return examples::run(argc, argv, work); }
