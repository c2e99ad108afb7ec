// A laboratory for pruning: any criterion by any schedule for any budget, on any IDX data set; it goes on where it was
// stopped.
#include "pruners.hpp"

#include "common/csv_log.hpp"
#include "common/files.hpp"
#include "common/first_batches.hpp"
#include "common/idx_folder.hpp"
#include "common/interrupt.hpp"
#include "common/main.hpp"
#include "common/progress.hpp"
#include "common/report_card.hpp"
#include "common/svg/line_chart.hpp"

#include <deepstruct/io.hpp>

#include <chrono>
#include <iostream>
#include <map>
#include <optional>
#include <set>

namespace fs = std::filesystem;
using lab::Model;
namespace ds = deepstruct;

namespace {

struct Settings {
  std::string data = "/usr/share/datasets/fashion-mnist", out = "out/prune_lab";
  std::vector<std::string> criteria{"magnitude"}, schedules{"iterative"};
  std::vector<double> sparsities{50, 80, 90, 95, 98};
  std::vector<std::int64_t> hidden{300, 100};
  lab::Scope scope = lab::Scope::network;
  int seeds = 3, epochs = 10, retrain = 5, rounds = 5, threads = 0;
  std::int64_t batch = 128, limit = 0, samples = 2000;
  double lr = 1e-3, weight_decay = 0.1;
  bool quiet = false, fresh = false;
};

/// A run is what it is called by: the first columns of runs.csv.
struct Run {
  std::string criterion, schedule;
  double sparsity;
  int seed;

  std::string key() const {
    return criterion + "," + schedule + "," + examples::shortest(sparsity) + "," + std::to_string(seed);
  }
};

/// What of a run the log holds.
struct Outcome {
  double accuracy = 0, dense = 0;  ///< dense: of the same seed, data order and number of epochs, nothing pruned
};

struct Stopped {};

class Laboratory {
 public:
  Laboratory(const Settings& settings, std::stop_token stop)
      : s_(settings),
        stop_(std::move(stop)),
        progress_(settings.quiet),
        train_(examples::load_half(s_.data, "train", 10, s_.limit)),
        test_(examples::load_half(s_.data, "t10k", 10, s_.limit)) {
    material_.example = ds::with_extent(train_.x_shape(), 0, 1);
    material_.scope = s_.scope;
    material_.data = examples::first_batches(train_, s_.samples, 250);
  }

  std::int64_t inputs() const { return train_.x_shape().rows(); }

  /// Trains and prunes one network; its card compares it with the dense one that was trained as long.
  ds::ReportCard operator()(const Run& run) {
    const auto found = std::find_if(lab::pruners().begin(), lab::pruners().end(),
                                    [&](const auto& p) { return p.first == run.criterion; });
    // Criteria draw from a generator of their own: all runs of a seed see the data in the same order.
    ds::Rng draws(static_cast<std::uint64_t>(run.seed) + 1000);
    const auto prune = [&](Model& m, std::int64_t left) {
      found->second(m, left, material_, draws);
      ds::forget_pruned(m);
    };
    Trained net = dense(run.seed, {});
    const std::int64_t all = ds::get_network_weight_count(net.model);
    const auto left_at = [&](double sparsity) { return all - std::llround(sparsity * static_cast<double>(all)); };
    const double goal = run.sparsity / 100;
    const std::string label = run.key();
    std::vector<int> epochs{s_.epochs + s_.retrain};  // of every phase of training
    if (run.schedule == "init") {                     // before training
      prune(net.model, left_at(goal));
      learn(net, epochs[0], label);
    } else if (run.schedule == "cubic") {  // while training (Zhu & Gupta 2017)
      const std::int64_t steps = epochs[0] * ((train_.size() + s_.batch - 1) / s_.batch);
      const std::int64_t every = std::max<std::int64_t>(1, steps / 100);
      const ds::CubicSchedule schedule{
          .final = goal, .begin = steps / 10, .steps = std::max<std::int64_t>(1, (steps / 2) / every), .every = every};
      learn(net, epochs[0], label, [&](std::int64_t step) {
        const std::int64_t left = left_at(schedule(step));
        if (left < ds::get_network_weight_count(net.model)) prune(net.model, left);
      });
    } else if (run.schedule == "lottery") {  // back to the initial values after every round (Frankle & Carbin 2019)
      epochs = {s_.epochs};
      const Trained start = net;
      net = dense(run.seed, epochs);
      const ds::IterativeSchedule schedule{.final = goal, .rounds = s_.rounds};
      for (int round = 1; round <= s_.rounds; ++round) {
        prune(net.model, left_at(schedule(round)));
        ds::rewind(net.model, start.model);
        net.order = start.order;
        learn(net, s_.epochs, label);
      }
    } else {  // "one-shot" is one round of "iterative"
      const int rounds = run.schedule == "one-shot" ? 1 : s_.rounds;
      const ds::IterativeSchedule schedule{.final = goal, .rounds = rounds};
      epochs = {s_.epochs};
      net = dense(run.seed, epochs);
      for (int round = 1; round <= rounds; ++round) {
        prune(net.model, left_at(schedule(round)));
        learn(net, s_.retrain, label);
        epochs.push_back(s_.retrain);
      }
    }
    const std::string name =
        run.criterion + "_" + run.schedule + "_" + examples::shortest(run.sparsity) + "_" + std::to_string(run.seed);
    return examples::report_card(fs::path(s_.out) / "cards" / name, dense(run.seed, epochs).model, ds::pack(net.model),
                                 test_, {.before = "dense", .after = name, .seconds = 0.05});
  }

 private:
  /// A network, and the generator that shuffles its data.
  struct Trained {
    Model model;
    ds::Rng order;
  };

  /// The dense network of a seed after some phases of training, trained once.
  const Trained& dense(int seed, const std::vector<int>& epochs) {
    const auto key = std::pair(seed, epochs);
    if (const auto known = dense_.find(key); known != dense_.end()) return known->second;
    if (epochs.empty()) {
      ds::Rng rng(static_cast<std::uint64_t>(seed));
      Model model(train_.x_shape().rows(), 10, s_.hidden, {}, rng);
      return dense_.emplace(key, Trained{std::move(model), rng}).first->second;
    }
    Trained net = dense(seed, {epochs.begin(), epochs.end() - 1});
    learn(net, epochs.back(), "dense, seed " + std::to_string(seed));
    return dense_.emplace(key, std::move(net)).first->second;
  }
  /// A phase of training, with a new optimizer.
  void learn(Trained& net, int epochs, const std::string& label, const std::function<void(std::int64_t)>& then = {}) {
    each_param(net.model, [](ds::Param& p) { p.clear_slots(); });
    ds::AdamW adam{.lr = s_.lr, .weight_decay = s_.weight_decay};
    const std::int64_t steps = std::max<std::int64_t>(1, epochs * ((train_.size() + s_.batch - 1) / s_.batch));
    const ds::CosineAnnealingLR schedule{.lr = s_.lr, .T_max = steps, .eta_min = s_.lr / 100};
    std::int64_t step = 0;
    ds::FitOptions options{.epochs = epochs, .batch_size = s_.batch, .stop = stop_};
    progress_.begin(label);
    options.on_step = [&](const ds::Progress& p) {
      adam.lr = schedule(++step);
      if (then) then(step);
      progress_.update(step, steps, "loss " + examples::fixed(p.loss, 4));
    };
    const bool stopped = ds::fit(net.model, adam, train_, net.order, options).stopped;
    progress_.clear();
    if (stopped) throw Stopped();
  }

  const Settings& s_;
  std::stop_token stop_;
  examples::Progress progress_;
  ds::Dataset train_, test_;
  lab::Material material_;
  std::map<std::pair<int, std::vector<int>>, Trained> dense_;
};

/// Settings that change what comes out, as text: runs of others do not belong in the same log.
std::string fingerprint(const Settings& s) {
  std::string text = "data " + s.data + "\nscope " + std::to_string(static_cast<int>(s.scope)) + "\nhidden";
  for (const std::int64_t h : s.hidden) text += " " + std::to_string(h);
  for (const double x : {double(s.epochs), double(s.retrain), double(s.rounds), double(s.samples), double(s.batch),
                         s.lr, s.weight_decay, double(s.limit)})
    text += "\n" + examples::shortest(x);
  return text + "\n";
}
/// Throws if a folder holds runs of other settings; else says there whose they are.
void check_settings(const fs::path& out, const Settings& s) {
  const fs::path path = out / "settings.txt";
  std::ifstream in(path);
  const std::string before{std::istreambuf_iterator<char>(in), {}};
  ds::check(s.fresh || before.empty() || before == fingerprint(s), "--out: ", out.string(),
            " holds runs with other settings; take another folder, or --fresh (settings.txt)");
  examples::write_file(path, fingerprint(s));
}

const std::vector<std::string> columns{"criterion", "schedule",     "sparsity",          "seed",
                                       "weights",   "accuracy",     "dense_accuracy",    "bytes_on_disk",
                                       "seconds",   "ms_per_batch", "dense_ms_per_batch"};

/// Runs that a log holds already, by their key.
std::map<std::string, Outcome> finished(const fs::path& path) {
  std::map<std::string, Outcome> runs;
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    std::vector<std::string> cells;
    for (std::size_t at = 0; at <= line.size();) {
      const std::size_t end = std::min(line.find(',', at), line.size());
      cells.push_back(line.substr(at, end - at));
      at = end + 1;
    }
    if (cells.size() < columns.size()) continue;  // cut off when the program was killed
    runs[cells[0] + "," + cells[1] + "," + cells[2] + "," + cells[3]] = {std::stod(cells[5]), std::stod(cells[6])};
  }
  return runs;
}

/// Mean accuracy with its spread over seeds, a line per criterion and schedule.
void draw(const fs::path& path, const Settings& s, std::int64_t inputs, const std::vector<Run>& runs,
          const std::map<std::string, Outcome>& outcomes) {
  namespace svg = examples::svg;
  std::vector<svg::Series> series;
  std::vector<double> dense;
  for (const std::string& criterion : s.criteria)
    for (const std::string& schedule : s.schedules) {
      svg::Series line{.name = criterion + ", " + schedule};
      for (const double sparsity : s.sparsities) {
        std::vector<double> values;
        for (const Run& r : runs) {
          const auto at = outcomes.find(r.key());
          if (r.criterion != criterion || r.schedule != schedule || r.sparsity != sparsity || at == outcomes.end())
            continue;
          values.push_back(at->second.accuracy);
          dense.push_back(at->second.dense);
        }
        if (values.empty()) continue;
        double mean = 0;
        for (const double v : values) mean += v / static_cast<double>(values.size());
        const auto [low, high] = std::minmax_element(values.begin(), values.end());
        line.points.push_back({sparsity / 100, mean, *low, *high});
      }
      series.push_back(std::move(line));
    }
  std::vector<svg::Reference> references;
  if (!dense.empty()) {
    double mean = 0;
    for (const double d : dense) mean += d / static_cast<double>(dense.size());
    references.push_back({.name = "dense, trained as long", .y = mean});
  }
  std::string net = std::to_string(inputs) + "-";
  for (const std::int64_t h : s.hidden) net += std::to_string(h) + "-";
  svg::line_chart(
      path, {.title = "Accuracy against sparsity",
             .subtitle = net + "10, test set, mean of " + std::to_string(s.seeds) +
                         (s.seeds == 1 ? " seed" : " seeds, whiskers from least to greatest"),
             .x = {.label = "weights removed", .scale = svg::Scale::log_remaining, .format = svg::Format::percent},
             .y = {.label = "accuracy", .format = svg::Format::percent},
             .series = series,
             .references = references});
}

int work(CLI::App& app, const examples::Parse& parse) {
  Settings s;
  app.description(
      "Prunes networks by every named criterion with every schedule to every sparsity, for some seeds; writes "
      "runs.csv, a report card of each and accuracy.svg. Started again with the same --out it goes on where it was "
      "stopped.");
  std::vector<std::string> names;
  for (const auto& [name, pruner] : lab::pruners()) names.push_back(name);
  app.add_option("--data", s.data, "folder with an IDX data set (plain or .gz)")->capture_default_str();
  app.add_option("--out", s.out, "folder for runs.csv, report cards and the picture")->capture_default_str();
  app.add_option("--criteria", s.criteria, "what decides which weights go")
      ->delimiter(',')
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  app.add_option("--schedules", s.schedules, "when weights go")
      ->delimiter(',')
      ->check(CLI::IsMember({"init", "one-shot", "iterative", "cubic", "lottery"}))
      ->capture_default_str();
  app.add_option("--sparsities", s.sparsities, "per cent of the weights to remove")
      ->delimiter(',')
      ->check(examples::within(0.0, 99.99))
      ->capture_default_str();
  app.add_option("--scope", s.scope, "weights compete in the network, in their layer, or for Erdős–Rényi densities")
      ->transform(CLI::CheckedTransformer(std::map<std::string, lab::Scope>{
          {"network", lab::Scope::network}, {"layer", lab::Scope::layer}, {"erk", lab::Scope::erk}}));
  app.add_option("--hidden", s.hidden, "sizes of the hidden layers")
      ->delimiter(',')
      ->check(examples::within<std::int64_t>(1))
      ->capture_default_str();
  app.add_option("--seeds", s.seeds, "networks per setting")->check(examples::within(1))->capture_default_str();
  app.add_option("--epochs", s.epochs, "epochs of training")->check(examples::within(1))->capture_default_str();
  app.add_option("--retrain", s.retrain, "epochs after every round of pruning")
      ->check(examples::within(0))
      ->capture_default_str();
  app.add_option("--rounds", s.rounds, "rounds of iterative pruning and of lotteries")
      ->check(examples::within(1))
      ->capture_default_str();
  app.add_option("--samples", s.samples, "training samples that criteria look at")
      ->check(examples::within<std::int64_t>(1))
      ->capture_default_str();
  app.add_option("--batch", s.batch, "batch size")->check(examples::within<std::int64_t>(1))->capture_default_str();
  app.add_option("--lr", s.lr, "learning rate of AdamW")->check(examples::within(0.0))->capture_default_str();
  app.add_option("--weight-decay", s.weight_decay, "weight decay of AdamW")
      ->check(examples::within(0.0))
      ->capture_default_str();
  app.add_option("--threads", s.threads, "threads (0: all cores)")->check(examples::within(0))->capture_default_str();
  app.add_option("--limit", s.limit, "use only the first N samples (0: all)")
      ->check(examples::within<std::int64_t>(0))
      ->capture_default_str();
  app.add_flag("--fresh", s.fresh, "forget the runs that are in --out");
  app.add_flag("--quiet", s.quiet, "no progress");
  parse();

  if (s.threads > 0) ds::set_num_threads(s.threads);
  const fs::path out = s.out;
  examples::Interrupt interrupt("stopping; start again with the same --out to go on");
  Laboratory laboratory(s, interrupt.token());
  check_settings(out, s);
  using Start = examples::CsvLog::Start;
  examples::CsvLog log(out / "runs.csv", columns, s.fresh ? Start::fresh : Start::resume);
  std::map<std::string, Outcome> outcomes = finished(out / "runs.csv");
  std::vector<Run> runs;
  for (int seed = 1; seed <= s.seeds; ++seed)
    for (const std::string& criterion : s.criteria)
      for (const std::string& schedule : s.schedules)
        for (const double sparsity : s.sparsities) runs.push_back({criterion, schedule, sparsity, seed});
  std::size_t done = 0;
  try {
    for (const Run& run : runs) {
      ++done;
      if (outcomes.contains(run.key())) continue;
      const auto begin = std::chrono::steady_clock::now();
      const ds::ReportCard card = laboratory(run);
      const ds::ModelCard &pruned = card.after, &dense = card.before;
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      log.row(run.criterion, run.schedule, run.sparsity, run.seed, pruned.nnz, pruned.accuracy, dense.accuracy,
              pruned.file_bytes, std::round(seconds * 100) / 100, pruned.batch.median, dense.batch.median);
      outcomes[run.key()] = {pruned.accuracy, dense.accuracy};
      if (!s.quiet)
        std::cout << done << "/" << runs.size() << "  " << run.criterion << ", " << run.schedule << ", "
                  << examples::shortest(run.sparsity) << " %, seed " << run.seed << ": "
                  << examples::fixed(100 * pruned.accuracy, 2) << " % with " << pruned.nnz << " weights, dense "
                  << examples::fixed(100 * dense.accuracy, 2) << " %, "
                  << examples::fixed(dense.batch.median / pruned.batch.median, 1) << "x faster" << std::endl;
    }
  } catch (const Stopped&) {
    std::cerr << "stopped; finished runs are in " << (out / "runs.csv").string() << '\n';
    return interrupt.exit_code();
  }
  draw(out / "accuracy.svg", s, laboratory.inputs(), runs, outcomes);
  std::cout << runs.size() << " runs are in " << (out / "runs.csv").string() << ", drawn in "
            << (out / "accuracy.svg").string() << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return examples::run(argc, argv, work); }
