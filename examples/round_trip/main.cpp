// A network becomes a graph and the graph becomes that network again: it learns Fashion-MNIST, loses nearly all of its
// connections, is made as small as what is left, goes through a GraphML file, and learns on.
#include "common/files.hpp"
#include "common/idx_folder.hpp"
#include "common/interrupt.hpp"
#include "common/main.hpp"
#include "common/progress.hpp"
#include "common/report_card.hpp"

#include <deepstruct/graph.hpp>
#include <deepstruct/io/layered_graph.hpp>

#include <iostream>

namespace ds = deepstruct;

namespace {

struct Settings {
  std::string data = "/usr/share/datasets/fashion-mnist", out = "out/round_trip";
  std::uint64_t seed = 1;
  std::vector<std::int64_t> hidden{100, 60};
  int epochs = 6, finetune = 6, again = 2, threads = 0;
  double prune = 95, lr = 1e-3;
  std::int64_t batch = 128, limit = 0;
  bool quiet = false;
};

std::string percent(double share) { return examples::fixed(100 * share, 2) + " %"; }

/// Sizes of the layers of a graph, such as 784-100-60-10.
std::string widths(const ds::LayeredGraph& graph) {
  std::string text;
  for (std::int64_t l = 0; l < graph.num_layers(); ++l)
    text += (l > 0 ? "-" : "") + std::to_string(graph.layer_size(l));
  return text;
}

int work(CLI::App& app, const examples::Parse& parse) {
  Settings s;
  app.description("Trains, prunes and compacts a network, and takes it through a graph file and back.");
  const auto whole = [&](const char* name, auto& value, int least, const char* text) {
    using T = std::remove_reference_t<decltype(value)>;
    app.add_option(name, value, text)->check(examples::within<T>(T(least)))->capture_default_str();
  };
  app.add_option("--data", s.data, "folder with an IDX data set (plain or .gz)")->capture_default_str();
  app.add_option("--out", s.out, "folder for graphs and pictures")->capture_default_str();
  app.add_option("--seed", s.seed, "seed of initial values and data order")->capture_default_str();
  app.add_option("--hidden", s.hidden, "widths of the hidden layers")
      ->delimiter(',')
      ->check(examples::within<std::int64_t>(1))
      ->capture_default_str();
  whole("--epochs", s.epochs, 1, "epochs of training");
  whole("--finetune", s.finetune, 1, "epochs after pruning");
  whole("--again", s.again, 1, "epochs of the network that came back");
  app.add_option("--prune", s.prune, "per cent of all connections to remove")
      ->check(examples::within(0.0, 100.0))
      ->capture_default_str();
  whole("--batch", s.batch, 1, "batch size");
  app.add_option("--lr", s.lr, "learning rate of Adam")->check(examples::within(0.0))->capture_default_str();
  whole("--threads", s.threads, 0, "threads (0: all cores)");
  whole("--limit", s.limit, 0, "use only the first N samples (0: all)");
  app.add_flag("--quiet", s.quiet, "no progress, only the report");
  parse();

  if (s.threads > 0) ds::set_num_threads(s.threads);
  const ds::Dataset train = examples::load_half(s.data, "train", 10, s.limit);
  const ds::Dataset test = examples::load_half(s.data, "t10k", 10, s.limit);
  const std::filesystem::path out = s.out;
  const std::int64_t inputs = train.x_shape().rows();
  examples::Interrupt interrupt;
  examples::Progress progress(s.quiet);

  // Trains some epochs; returns false if Ctrl-C ended it.
  const auto learn = [&](auto& model, ds::Adam& adam, ds::Rng& rng, const std::string& phase, int epochs) {
    ds::FitOptions options{.epochs = epochs, .batch_size = s.batch, .stop = interrupt.token()};
    options.on_step = [&](const ds::Progress& p) {
      progress.update(p.step, p.steps, "loss " + examples::fixed(p.loss, 4));
    };
    options.on_epoch = [&](const ds::Progress& p) {
      progress.line(phase + "  epoch " + std::to_string(p.epoch) + "/" + std::to_string(epochs) + "  loss " +
                    examples::fixed(p.loss, 4) + "  test accuracy " + percent(ds::evaluate(model, test).accuracy));
      progress.begin(phase);
    };
    progress.begin(phase);
    const bool done = !ds::fit(model, adam, train, rng, options).stopped;
    progress.clear();
    return done;
  };
  const auto accuracy = [&](const auto& model) { return ds::evaluate(model, test).accuracy; };
  const auto tell = [](const std::string& what, double share, const std::string& more) {
    std::cout << what << ": test accuracy " << percent(share) << more << '\n';
  };

  // Train and prune.
  ds::Rng rng(s.seed);
  ds::MaskedDeepFFN model(inputs, 10, s.hidden, {}, rng);
  ds::Adam adam{.lr = s.lr};
  if (!learn(model, adam, rng, "train", s.epochs)) return interrupt.exit_code();
  tell("trained  ", accuracy(model), ", " + std::to_string(ds::to_graph(model).edge_count()) + " connections");
  ds::MaskedDeepFFN dense = model;  // for the report card: trained as long, in the same order
  ds::Adam dense_adam = adam;
  ds::Rng dense_rng = rng;
  ds::prune_network_by_saliency(model, ds::percentage(s.prune), {.exact = true});
  if (!learn(model, adam, rng, "pruned", s.finetune)) return interrupt.exit_code();
  model = ds::pack(std::move(model));
  const ds::LayeredGraph pruned = ds::to_graph(model);
  tell("pruned   ", accuracy(model),
       ", " + widths(pruned) + " with " + std::to_string(pruned.edge_count()) + " connections");

  // As small as what is left.
  const auto compacted = ds::compact(model, {1, inputs});
  const ds::LayeredGraph graph = ds::to_graph(compacted.model);
  tell("compacted", accuracy(compacted.model),
       ", " + widths(graph) + " with " + std::to_string(graph.edge_count()) + " connections");
  compacted.report.write(std::cout);
  if (!learn(dense, dense_adam, dense_rng, "dense", s.finetune)) return interrupt.exit_code();
  std::cout << '\n';
  examples::report_card(out / "report", dense, compacted.model, test,
                        {.before = "dense", .after = "compacted", .batch_size = s.batch})
      .write(std::cout);
  std::cout << '\n';

  // A picture of every neuron, and of every layer.
  const ds::SvgOptions all{.title = widths(graph) + ", " + std::to_string(graph.edge_count()) + " connections",
                           .height = 1600,
                           .detail = ds::SvgDetail::full,
                           .labels = false};
  examples::write_file(out / "neurons.svg", ds::write_svg(graph, all));
  const ds::LayeredGraph layers = ds::project(graph, ds::Order::layers);
  examples::write_file(out / "layers.svg", ds::write_svg(layers, {.title = "The same network, one vertex a layer"}));

  // Through a file and back.
  examples::make_parent(out / "network.graphml");
  ds::save_graphml(graph, out / "network.graphml");
  ds::GraphNetwork back = ds::from_graph(ds::load_layered_graph(out / "network.graphml"));
  tell("reloaded ", accuracy(back), ", from " + (out / "network.graphml").string());
  const ds::Batch sample = test.slice(0, std::min<std::int64_t>(test.size(), 256));
  const bool same = [&] {
    ds::no_grad guard;
    return compacted.model(sample.x).value().to_vector() == back(sample.x).value().to_vector();
  }();
  std::cout << "outputs before and after the file are " << (same ? "the same bits" : "DIFFERENT") << '\n';

  // What Adam remembers came along: both learn on, and stay the same.
  ds::MaskedDeepFFN other = compacted.model;
  ds::Adam other_adam = adam;
  ds::Rng order(s.seed), other_order(s.seed);
  if (!learn(back, adam, order, "learns on", s.again)) return interrupt.exit_code();
  if (!learn(other, other_adam, other_order, "the original", s.again)) return interrupt.exit_code();
  tell("learnt on", accuracy(back), "; had it never been a graph: " + percent(accuracy(other)));
  std::cout << "graph, report card and pictures are in " << out.string() << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return examples::run(argc, argv, work); }
