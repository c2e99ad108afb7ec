// fit() and evaluate(): the training loop for classifiers, with a progress callback and a stop token.
#pragma once

#include <functional>
#include <stop_token>

#include "../nn/layers.hpp"
#include "../ops/loss.hpp"
#include "captured_step.hpp"
#include "data.hpp"
#include "metrics.hpp"
#include "optimizer.hpp"

namespace deepstruct {

/// Where a training run is.
struct Progress {
  int epoch = 0, epochs = 0;         ///< counted from 1
  std::int64_t step = 0, steps = 0;  ///< batches done of this epoch, counted from 1
  double loss = 0;                   ///< mean loss of this epoch so far
  double accuracy = 0;               ///< share of right answers of this epoch so far
};

/// Options of fit.
struct FitOptions {
  int epochs = 1;
  std::int64_t batch_size = 128;
  std::function<void(const Progress&)> on_step = {};   ///< after every batch
  std::function<void(const Progress&)> on_epoch = {};  ///< after every epoch
  std::stop_token stop = {};                           ///< asked after every batch; the epoch is left at once
  /// On a GPU the pass forward and backward is a CapturedStep, one launch a batch; what on_step changes beside values
  /// and masks of the model (temperatures, rates of dropout) is not seen before the next epoch.
  bool capture = false;
};

/// What fit did.
struct FitReport {
  std::int64_t steps = 0;
  double loss = 0, accuracy = 0;  ///< of the last epoch
  bool stopped = false;           ///< the stop token ended it early
};

/// Trains on cross entropy: per batch in random order model(x), backward, optimizer step, on the model's device.
/// Deterministic for a given generator.
template <class M, class Optimizer>
FitReport fit(M& model, Optimizer& optimizer, const Dataset& data, Rng& rng, const FitOptions& options = {}) {
  check(options.epochs >= 0, "fit: the number of epochs must not be negative (", options.epochs, ")");
  check(data.size() > 0, "fit: the data set is empty (0 samples)");
  auto epoch_batches = batches(data, options.batch_size, rng);
  FitReport report;
  set_training(model, true);
  const Device device = device_of(model);
  const auto pass = [&](const Var& x, const Indices& y) {
    const Var logits = model(x);
    const Var loss = cross_entropy(logits, y);
    backward(loss);
    return std::pair(logits, loss);
  };
  CapturedStep captured(model, [&](const Tensor& x, const Indices& y) { return pass(x, y); });
  std::int64_t classes = 0;  // once known: captured work cannot tell what is no class
  for (int epoch = 1; epoch <= options.epochs && !report.stopped; ++epoch) {
    Mean loss_mean, accuracy_mean;
    Progress progress{epoch, options.epochs, 0, epoch_batches.size(), 0, 0};
    for (auto& [x, y] : epoch_batches) {
      if (options.capture && classes > 0)
        detail::check_targets({y.data(), static_cast<std::size_t>(y.size())}, classes, ClassLossOptions{}.ignore_index);
      const auto [logits, loss] = options.capture ? captured(x, y) : pass(to(std::move(x), device), y);
      classes = logits.shape()[1];
      const double n = static_cast<double>(y.size());
      optimizer.step(model);
      loss_mean.add(double{loss.item()}, n);  // read last, so that a GPU is not waited for before it has all its work
      accuracy_mean.add(accuracy(logits.value(), y), n);
      ++report.steps;
      ++progress.step;
      progress.loss = report.loss = loss_mean.value();
      progress.accuracy = report.accuracy = accuracy_mean.value();
      if (options.on_step) options.on_step(progress);
      if (options.stop.stop_requested()) {
        report.stopped = true;
        break;
      }
    }
    if (options.on_epoch) {
      options.on_epoch(progress);
      captured.forget();
    }
  }
  return report;
}

/// Mean loss and accuracy over a data set.
struct Evaluation {
  double loss = 0, accuracy = 0;
};

/// Cross entropy and accuracy of a model; records nothing, drops nothing out.
template <class M>
Evaluation evaluate(const M& model, const Dataset& data, std::int64_t batch_size = 512) {
  check(data.size() > 0, "evaluate: the data set is empty (0 samples)");
  M quiet = model;
  set_training(quiet, false);
  no_grad guard;
  Mean loss_mean, accuracy_mean;
  for (auto& [x, y] : batches(data, batch_size)) {
    const Var logits = quiet(to(std::move(x), device_of(quiet)));
    const double n = static_cast<double>(y.size());
    loss_mean.add(double{cross_entropy(logits, y).item()}, n);
    accuracy_mean.add(accuracy(logits.value(), y), n);
  }
  return {loss_mean.value(), accuracy_mean.value()};
}

}  // namespace deepstruct
