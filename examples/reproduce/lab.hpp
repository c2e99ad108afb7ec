// What the reproductions share: data, training, a log of every measurement and the claims that are checked.
#pragma once

#include "common/csv_log.hpp"
#include "common/first_batches.hpp"
#include "common/numbers.hpp"
#include "common/report_card.hpp"

#include <deepstruct/deepstruct.hpp>

#include <cctype>
#include <chrono>
#include <cmath>
#include <functional>
#include <iostream>
#include <stop_token>
#include <string>
#include <vector>

namespace reproduce {

namespace ds = deepstruct;

/// How a network is trained: SGD with momentum, the learning rate falls along half a cosine.
struct Recipe {
  int epochs = 20;
  std::int64_t batch = 100;
  double lr = 0.1, momentum = 0.9, weight_decay = 5e-4;
};

/// Mean and sample standard deviation.
struct Spread {
  double mean = 0, deviation = 0;

  explicit Spread(const std::vector<double>& values) {
    for (const double v : values) mean += v / static_cast<double>(values.size());
    for (const double v : values) deviation += (v - mean) * (v - mean);
    deviation = values.size() > 1 ? std::sqrt(deviation / static_cast<double>(values.size() - 1)) : 0;
  }
  std::string str(int digits = 2) const {
    return examples::fixed(mean, digits) + (deviation > 0 ? " ± " + examples::fixed(deviation, digits) : "");
  }
};

/// Something published, and whether it came out again.
struct Claim {
  std::string result, published, must, measured;
  bool holds = false;
};

/// Ctrl-C in the middle of a reproduction.
struct Stopped {};

/// Everything a reproduction works with.
class Lab {
 public:
  ds::Dataset train, test;
  int seeds = 3;
  bool brief = false;  ///< little data and few epochs: only what holds then is claimed
  std::stop_token stop;

  Lab(ds::Dataset to_train, ds::Dataset to_test, const std::filesystem::path& log)
      : train(std::move(to_train)),
        test(std::move(to_test)),
        cards_(log.parent_path() / "cards"),
        log_(log, {"result", "setting", "seed", "weights", "value", "unit", "seconds"}) {}

  /// LeNet-300-100 as the papers call it.
  ds::MaskedDeepFFN network(ds::Rng& rng) const { return {train.x_shape().rows(), 10, {300, 100}, {}, rng}; }
  /// `full` epochs, or `few` where it has to be brief.
  int epochs(int full, int few) const { return brief ? few : full; }

  /// Trains in place on all of the training set; throws Stopped after Ctrl-C.
  template <class M>
  void fit(M& model, const Recipe& recipe, ds::Rng& rng) const {
    ds::SGD sgd{.lr = recipe.lr, .momentum = recipe.momentum, .weight_decay = recipe.weight_decay};
    const std::int64_t steps = recipe.epochs * ((train.size() + recipe.batch - 1) / recipe.batch);
    const ds::CosineAnnealingLR schedule{.lr = recipe.lr, .T_max = std::max<std::int64_t>(1, steps)};
    std::int64_t step = 0;
    ds::FitOptions options{.epochs = recipe.epochs, .batch_size = recipe.batch, .stop = stop};
    options.on_step = [&](const ds::Progress&) { sgd.lr = schedule(++step); };
    if (ds::fit(model, sgd, train, rng, options).stopped) throw Stopped();
  }
  /// The same on a copy: the dense network beside which a report card sets a pruned one.
  template <class M>
  M trained(M model, const Recipe& recipe, ds::Rng rng) const {
    fit(model, recipe, rng);
    return model;
  }
  /// Per cent of the test set that are answered wrong.
  template <class M>
  double error(const M& model) const {
    return 100 * (1 - ds::evaluate(model, test).accuracy);
  }
  /// The first samples of the training set, in batches.
  std::vector<ds::Batch> some(std::int64_t samples, std::int64_t batch = 100) const {
    return examples::first_batches(train, samples, batch);
  }

  /// One measurement: into the log, and on the screen.
  void measured(const std::string& result, const std::string& setting, int seed, std::int64_t weights, double value,
                const std::string& unit = "% error") {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    log_.row(result, setting, seed, weights, value, unit, std::round(seconds * 10) / 10);
    std::cout << "  " << setting << ", seed " << seed << ": " << weights << " weights, " << examples::fixed(value, 2)
              << ' ' << unit << std::endl;
  }
  /// Report card of a pruned network beside the dense one that was trained as long, in the folder cards.
  template <class Dense, class Pruned>
  void card(const std::string& result, const Dense& dense, const Pruned& pruned) const {
    std::string name;  // the words of the result
    for (const char c : result)
      if (std::isalnum(static_cast<unsigned char>(c)) || c == '.')
        name += c;
      else if (!name.empty() && name.back() != '_')
        name += '_';
    examples::report_card(cards_ / name, dense, pruned, test,
                          {.before = "dense", .after = "pruned", .seconds = brief ? 0.02 : 0.5});
  }
  void claim(Claim c) {
    std::cout << "  " << (c.holds ? "holds: " : "DOES NOT HOLD: ") << c.result << ": " << c.measured
              << " (must: " << c.must << ")" << std::endl;
    claims_.push_back(std::move(c));
  }
  const std::vector<Claim>& claims() const { return claims_; }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::filesystem::path cards_;
  examples::CsvLog log_;
  std::vector<Claim> claims_;
};

}  // namespace reproduce
