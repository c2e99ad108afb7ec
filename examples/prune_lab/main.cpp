// A laboratory for pruning: any criterion by any schedule for any budget, on any IDX data set; it goes on where it was
// stopped.
#include "pruners.hpp"

#include "common/csv_log.hpp"
#include "common/files.hpp"
#include "common/idx_folder.hpp"
#include "common/interrupt.hpp"
#include "common/main.hpp"
#include "common/progress.hpp"
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
  double accuracy = 0, dense = 0;
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
    for (std::int64_t k = 0; k < std::min(s_.samples, train_.size()); k += 250)
      material_.data.push_back(train_.slice(k, std::min({k + 250, s_.samples, train_.size()})));
  }

  /// Trains and prunes one network.
  Outcome operator()(const Run& run) {
    const auto found = std::find_if(lab::pruners().begin(), lab::pruners().end(),
                                    [&](const auto& p) { return p.first == run.criterion; });
    const auto prune = [&](Model& m, std::int64_t left, ds::Rng& rng) {
      found->second(m, left, material_, rng);
      ds::forget_pruned(m);
    };
    ds::Rng rng(static_cast<std::uint64_t>(run.seed));
    Model model(train_.x_shape().rows(), 10, s_.hidden, {}, rng);
    const std::int64_t all = ds::get_network_weight_count(model);
    const auto left_at = [&](double sparsity) { return all - std::llround(sparsity * static_cast<double>(all)); };
    const double goal = run.sparsity / 100;
    const std::string label = run.key();
    Outcome outcome;
    if (run.schedule == "init") {  // before training
      prune(model, left_at(goal), rng);
      learn(model, s_.epochs + s_.retrain, rng, label);
    } else if (run.schedule == "cubic") {  // while training (Zhu & Gupta 2017)
      const std::int64_t steps = (s_.epochs + s_.retrain) * ((train_.size() + s_.batch - 1) / s_.batch);
      const std::int64_t every = std::max<std::int64_t>(1, steps / 100);
      const ds::CubicSchedule schedule{
          .final = goal, .begin = steps / 10, .steps = std::max<std::int64_t>(1, (steps / 2) / every), .every = every};
      learn(model, s_.epochs + s_.retrain, rng, label, [&](std::int64_t step) {
        const std::int64_t left = left_at(schedule(step));
        if (left < ds::get_network_weight_count(model)) prune(model, left, rng);
      });
    } else if (run.schedule == "lottery") {  // back to the initial values after every round (Frankle & Carbin 2019)
      const Model start = model;
      const ds::IterativeSchedule schedule{.final = goal, .rounds = s_.rounds};
      for (int round = 1; round <= s_.rounds; ++round) {
        learn(model, s_.epochs, rng, label);
        if (round == 1) outcome.dense = ds::evaluate(model, test_).accuracy;
        prune(model, left_at(schedule(round)), rng);
        ds::rewind(model, start);
      }
      learn(model, s_.epochs, rng, label);
    } else {  // "one-shot" is one round of "iterative"
      model = dense(run.seed, label);
      rng = dense_rng_.at(run.seed);
      const int rounds = run.schedule == "one-shot" ? 1 : s_.rounds;
      const ds::IterativeSchedule schedule{.final = goal, .rounds = rounds};
      outcome.dense = ds::evaluate(model, test_).accuracy;
      for (int round = 1; round <= rounds; ++round) {
        prune(model, left_at(schedule(round)), rng);
        learn(model, s_.retrain, rng, label);
      }
    }
    outcome.accuracy = ds::evaluate(model, test_).accuracy;
    weights = ds::get_network_weight_count(model);
    return outcome;
  }

  std::int64_t weights = 0;  ///< of the last run

 private:
  /// The dense network of a seed, trained once.
  const Model& dense(int seed, const std::string& label) {
    const auto known = dense_.find(seed);
    if (known != dense_.end()) return known->second;
    ds::Rng rng(static_cast<std::uint64_t>(seed));
    Model model(train_.x_shape().rows(), 10, s_.hidden, {}, rng);
    learn(model, s_.epochs, rng, "dense, before " + label);
    each_param(model, [](ds::Param& p) { p.clear_slots(); });
    dense_rng_.emplace(seed, rng);
    return dense_.emplace(seed, std::move(model)).first->second;
  }
  void learn(Model& model, int epochs, ds::Rng& rng, const std::string& label,
             const std::function<void(std::int64_t)>& then = {}) {
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
    const bool stopped = ds::fit(model, adam, train_, rng, options).stopped;
    progress_.clear();
    if (stopped) throw Stopped();
  }

  const Settings& s_;
  std::stop_token stop_;
  examples::Progress progress_;
  ds::Dataset train_, test_;
  lab::Material material_;
  std::map<int, Model> dense_;
  std::map<int, ds::Rng> dense_rng_;
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
    if (cells.size() < 8) continue;  // cut off when the program was killed
    runs[cells[0] + "," + cells[1] + "," + cells[2] + "," + cells[3]] = {std::stod(cells[5]), std::stod(cells[6])};
  }
  return runs;
}

/// Mean accuracy with its spread over seeds, a line per criterion and schedule.
void draw(const fs::path& path, const Settings& s, const std::vector<Run>& runs,
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
          if (at->second.dense > 0) dense.push_back(at->second.dense);
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
    references.push_back({.name = "dense", .y = mean});
  }
  std::string net;
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
      "Prunes networks by every named criterion with every schedule to every sparsity, for some seeds; writes runs.csv "
      "and "
      "accuracy.svg. Started again with the same --out it goes on where it was stopped.");
  std::vector<std::string> names;
  for (const auto& [name, pruner] : lab::pruners()) names.push_back(name);
  app.add_option("--data", s.data, "folder with an IDX data set (plain or .gz)")->capture_default_str();
  app.add_option("--out", s.out, "folder for runs.csv and the picture")->capture_default_str();
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
  examples::CsvLog log(
      out / "runs.csv",
      {"criterion", "schedule", "sparsity", "seed", "weights", "accuracy", "dense_accuracy", "seconds"},
      s.fresh ? Start::fresh : Start::resume);
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
      const Outcome outcome = laboratory(run);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      log.row(run.criterion, run.schedule, run.sparsity, run.seed, laboratory.weights, outcome.accuracy, outcome.dense,
              std::round(seconds * 100) / 100);
      outcomes[run.key()] = outcome;
      if (!s.quiet)
        std::cout << done << "/" << runs.size() << "  " << run.criterion << ", " << run.schedule << ", "
                  << examples::shortest(run.sparsity) << " %, seed " << run.seed << ": "
                  << examples::fixed(100 * outcome.accuracy, 2) << " % with " << laboratory.weights << " weights"
                  << std::endl;
    }
  } catch (const Stopped&) {
    std::cerr << "stopped; finished runs are in " << (out / "runs.csv").string() << '\n';
    return interrupt.exit_code();
  }
  draw(out / "accuracy.svg", s, runs, outcomes);
  std::cout << runs.size() << " runs are in " << (out / "runs.csv").string() << ", drawn in "
            << (out / "accuracy.svg").string() << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return examples::run(argc, argv, work); }
