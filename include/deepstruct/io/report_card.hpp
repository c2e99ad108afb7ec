// Report card: what a smaller model is worth next to the one it was made from.
#pragma once

#include <array>
#include <chrono>

#include "../nn/inference.hpp"
#include "../train/loop.hpp"
#include "../transform/compact_parts.hpp"
#include "model_card.hpp"
#include "model_file.hpp"

namespace deepstruct {

/// Options of report.
struct ReportOptions {
  std::string before = "before", after = "after";  ///< names of the models
  std::int64_t batch_size = 128;                   ///< of the batch that is timed, at most all samples
  int runs = 201;                                  ///< of a timing, at most
  double seconds = 1;                              ///< a timing of a model ends after this, but not before 5 runs
};

namespace detail {

/// Reads what a model consists of, part by part.
class CardReader {
 public:
  explicit CardReader(ModelCard& card) : card_(card) {}

  void operator()(const Path& path, const MaskedLayer auto& layer) {
    ModelCard::Layer& row = this->row(path.str());
    const Mask mask = layer.mask();
    if constexpr (requires { layer.weight_shape(); })
      row.shape = layer.weight_shape();
    else
      row.shape = mask.shape();
    row.nnz = mask.nnz();
    row.density = mask.density();
    if (!mask.is_full()) row.bytes += 4 * (mask.nnz() + mask.rows() + 1);
  }
  void operator()(const Path& path, const Param& p) {
    const std::size_t known = card_.layers.size();
    ModelCard::Layer& row = this->row(layer_of(path.str()));
    if (card_.layers.size() > known) {  // not that of a masked layer
      row.shape = p.shape();
      row.nnz = p.size();
    }
    row.parameters += p.size();
    row.bytes += 4 * p.size();
  }
  void operator()(const Path& path, const Tensor& t) {
    const std::string name = path.str();
    const std::string module = CompactParts::module_of(name);
    row(find(module) ? module : name).bytes += 4 * t.size();
  }

  /// A parameter called weight, bias or _mask belongs to its module, any other is a layer of its own.
  static std::string layer_of(const std::string& name) {
    const std::string module = CompactParts::module_of(name);
    const std::string own = module.empty() ? name : name.substr(module.size() + 1);
    return own == "weight" || own == "bias" || own == "_mask" ? module : name;
  }
  ModelCard::Layer* find(const std::string& name) {
    for (ModelCard::Layer& l : card_.layers)
      if (l.name == name) return &l;
    return nullptr;
  }

 private:
  ModelCard::Layer& row(const std::string& name) {
    if (ModelCard::Layer* known = find(name)) return *known;
    card_.layers.push_back({.name = name, .shape = {}});
    return card_.layers.back();
  }

  ModelCard& card_;
};

/// All that does not take a clock.
template <class M>
ModelCard card_of(const M& model, const Dataset& data, std::string name) {
  no_grad guard;
  ModelCard card;
  card.name = std::move(name);
  const Evaluation e = evaluate(model, data);
  card.accuracy = e.accuracy;
  card.loss = e.loss;
  M quiet = model;
  if (device_of(quiet) != Device::cpu) to(quiet, Device::cpu);
  set_training(quiet, false);
  CardReader reader(card);
  walk(std::as_const(quiet), reader);
  const auto steps = trace(quiet, Tensor::zeros(with_extent(data.x_shape(), 0, 2)));
  card.multiply_adds = multiply_adds(steps);
  for (const Step& s : steps) {
    const std::int64_t n = multiply_adds(steps, s);
    if (n == 0) continue;
    const Step* w = &steps[static_cast<std::size_t>(s.inputs[1])];
    while (!w->inputs.empty()) w = &steps[static_cast<std::size_t>(w->inputs[0])];
    if (ModelCard::Layer* layer = w->name.empty() ? nullptr : reader.find(CardReader::layer_of(w->name)))
      layer->multiply_adds += n / 2;
  }
  for (const ModelCard::Layer& l : card.layers) {
    card.nnz += l.nnz;
    card.parameters += l.parameters;
    card.bytes += l.bytes;
  }
  card.file_bytes = static_cast<std::int64_t>(safetensors_bytes(stored_model(model, {.slots = false})).size());
  return card;
}

inline TimeSpread spread_of(std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  const auto at = [&](double share) {
    return ms[static_cast<std::size_t>(share * static_cast<double>(ms.size() - 1) + 0.5)];
  };
  return {at(0.5), at(0.25), at(0.75), static_cast<std::int64_t>(ms.size())};
}

/// Times two answers in turn, so that both meet the same machine.
inline std::array<TimeSpread, 2> time_in_turn(const std::array<std::function<void()>, 2>& answers,
                                              const ReportOptions& options) {
  using Clock = std::chrono::steady_clock;
  std::array<std::vector<double>, 2> ms;
  const auto end =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(2 * options.seconds));
  for (int k = -3; k < options.runs && (k < 5 || Clock::now() < end); ++k)  // the first ones warm up
    for (std::size_t m = 0; m < 2; ++m) {
      const auto begin = Clock::now();
      answers[m]();
      const auto done = Clock::now();
      if (k >= 0) ms[m].push_back(std::chrono::duration<double, std::milli>(done - begin).count());
    }
  return {spread_of(std::move(ms[0])), spread_of(std::move(ms[1]))};
}

}  // namespace detail

/// What a model lost and won by becoming smaller: accuracy and mean cross entropy over `data`, weights, multiply-adds,
/// bytes in memory and in a file, milliseconds of an answer; and how this is shared out among layers.
///
/// What must be equal for the numbers to say something, and is here: both models answer the same data, in evaluation,
/// with the same threads, in the same form (Inference; the models themselves where one has no such form), in turns.
/// What the caller has to see to: that `before` is what one would have used otherwise (a dense model as a dense one,
/// not as a full mask in packed storage), that both are on the same device, and that `data` took no part in training or
/// in choosing what to prune. Times are medians with quartiles of the machine as it is, and no promise.
///
/// Throws on an empty data set, on options without a run or a sample, and if the models are on different devices.
template <class Before, class After>
ReportCard report(const Before& before, const After& after, const Dataset& data, const ReportOptions& options = {}) {
  check(data.size() > 0, "report: needs data (0 samples)");
  check(options.batch_size > 0 && options.runs > 0 && options.seconds >= 0,
        "report: needs a sample, a run and no negative time (batch_size ", options.batch_size, ", runs ", options.runs,
        ", seconds ", options.seconds, ")");
  const Device device = device_of(before);
  check(device == device_of(after), "report: both models must be on the same device (", device, " and ",
        device_of(after), ")");
  ReportCard card{detail::card_of(before, data, options.before), detail::card_of(after, data, options.after),
                  std::min(options.batch_size, data.size()), "Inference"};
  Before first = before;
  After second = after;
  set_training(first, false);
  set_training(second, false);
  const Tensor batch = to(data.slice(0, card.batch_size).x, device), one = to(data.slice(0, 1).x, device);
  const auto time_all = [&](const auto& a, const auto& b) {
    no_grad guard;
    const auto time = [&](const Tensor& x) {
      return detail::time_in_turn({[&] {
                                     a(Var(x));
                                     finish(device);
                                   },
                                   [&] {
                                     b(Var(x));
                                     finish(device);
                                   }},
                                  options);
    };
    const auto many = time(batch), single = time(one);
    card.before.batch = many[0], card.after.batch = many[1];
    card.before.sample = single[0], card.after.sample = single[1];
  };
  std::optional<std::pair<Inference, Inference>> ready;
  try {
    ready.emplace(Inference(first, batch), Inference(second, batch));
  } catch (const Error&) {
    card.timed = "model";
  }
  if (ready)
    time_all(ready->first, ready->second);
  else
    time_all(first, second);
  return card;
}

}  // namespace deepstruct
