// ReportCard: two models in numbers, next to each other, and as tables of text.
#pragma once

#include <optional>
#include <ostream>

#include "report_table.hpp"

namespace deepstruct {

/// A time in milliseconds, measured several times.
struct TimeSpread {
  double median = 0, low = 0, high = 0;  ///< the middle, and the quarters below and above which a quarter of runs lie
  std::int64_t runs = 0;
};

/// What one model is worth.
struct ModelCard {
  /// A part with parameters; in order of the fields.
  struct Layer {
    std::string name;                ///< of the module, or of a parameter that has a name of its own
    Shape shape;                     ///< of its weight, in full
    std::int64_t nnz = 0;            ///< weights that exist, biases not counted
    double density = 1;              ///< nnz / entries of the shape
    std::int64_t parameters = 0;     ///< entries that are kept, biases and those behind a mask in full storage too
    std::int64_t multiply_adds = 0;  ///< of one sample
    std::int64_t bytes = 0;          ///< in memory: parameters, buffers, masks that are not full as CSR
  };
  std::string name;
  double accuracy = 0, loss = 0;
  std::int64_t nnz = 0, parameters = 0, bytes = 0;  ///< sums over the layers
  std::int64_t multiply_adds = 0;                   ///< of one sample, products without a parameter too
  std::int64_t file_bytes = 0;                      ///< of the file that save(model, path, {.slots = false}) writes
  TimeSpread batch, sample;                         ///< of an answer to a batch, and to one sample alone
  std::vector<Layer> layers;
};

/// Two models next to each other.
struct ReportCard {
  ModelCard before, after;
  std::int64_t batch_size = 0;  ///< samples of a batch that was timed
  std::string timed;            ///< what was timed: "Inference", or "model" where a model has no such form

  /// Two tables, aligned with spaces: of the models, and of their layers.
  void write(std::ostream& out) const {
    detail::write_aligned(out, model_table());
    out << '\n';
    detail::write_aligned(out, layer_table());
  }
  /// The same as tables in Markdown.
  void write_markdown(std::ostream& out) const {
    detail::write_markdown(out, model_table());
    out << '\n';
    detail::write_markdown(out, layer_table());
  }
  /// One table of numbers in full: layer (empty: the model), measure, before, after, ratio before / after; empty where
  /// there is none.
  void write_csv(std::ostream& out) const;

 private:
  std::vector<std::vector<std::string>> model_table() const;
  std::vector<std::vector<std::string>> layer_table() const;
  /// Layers of both, by name, in the order of before, then those that only after has.
  std::vector<std::pair<const ModelCard::Layer*, const ModelCard::Layer*>> layer_pairs() const;
};

inline std::vector<std::pair<const ModelCard::Layer*, const ModelCard::Layer*>> ReportCard::layer_pairs() const {
  std::vector<std::pair<const ModelCard::Layer*, const ModelCard::Layer*>> pairs;
  const auto named = [](const ModelCard& card, const std::string& name) -> const ModelCard::Layer* {
    for (const ModelCard::Layer& l : card.layers)
      if (l.name == name) return &l;
    return nullptr;
  };
  for (const ModelCard::Layer& l : before.layers) pairs.emplace_back(&l, named(after, l.name));
  for (const ModelCard::Layer& l : after.layers)
    if (!named(before, l.name)) pairs.emplace_back(nullptr, &l);
  return pairs;
}

inline std::vector<std::vector<std::string>> ReportCard::model_table() const {
  using namespace detail;
  const auto percent = [](double x) { return fixed_text(100 * x, 2) + " %"; };
  const auto count = [](const char* what, std::int64_t a, std::int64_t b, const char* less, const char* more) {
    return std::vector<std::string>{what, std::to_string(a), std::to_string(b),
                                    times_text(static_cast<double>(a), static_cast<double>(b), less, more)};
  };
  const auto time = [](const std::string& what, const TimeSpread& a, const TimeSpread& b) {
    const auto text = [](const TimeSpread& t) {
      return fixed_text(t.median, 4) + " [" + fixed_text(t.low, 4) + ", " + fixed_text(t.high, 4) + "]";
    };
    return std::vector<std::string>{what, text(a), text(b), times_text(a.median, b.median, "faster", "slower")};
  };
  const auto share = [&](const TimeSpread& t) { return fixed_text(t.median / static_cast<double>(batch_size), 5); };
  const double points = 100 * (after.accuracy - before.accuracy);
  return {{"", before.name, after.name, ""},
          {"accuracy", percent(before.accuracy), percent(after.accuracy),
           (points >= 0.005 ? "+" : "") + fixed_text(points, 2) + " points"},
          {"loss", fixed_text(before.loss, 4), fixed_text(after.loss, 4), ""},
          count("weights", before.nnz, after.nnz, "fewer", "more"),
          count("parameters", before.parameters, after.parameters, "fewer", "more"),
          count("multiply-adds", before.multiply_adds, after.multiply_adds, "fewer", "more"),
          count("bytes in memory", before.bytes, after.bytes, "smaller", "larger"),
          count("bytes on disk", before.file_bytes, after.file_bytes, "smaller", "larger"),
          time("ms per batch of " + std::to_string(batch_size), before.batch, after.batch),
          {"ms per sample in a batch", share(before.batch), share(after.batch), ""},
          time("ms for a single sample", before.sample, after.sample)};
}

inline std::vector<std::vector<std::string>> ReportCard::layer_table() const {
  std::vector<std::vector<std::string>> table{
      {"layer", "shape", "", "weights", "", "density", "", "multiply-adds", "", "bytes", ""}};
  using Layer = ModelCard::Layer;
  for (const auto& [a, b] : layer_pairs()) {
    const std::string& name = (a ? a : b)->name;
    std::vector<std::string> line{name.empty() ? "(model)" : name};
    for (const auto& text : {+[](const Layer& l) { return detail::shape_text(l.shape); },
                             +[](const Layer& l) { return std::to_string(l.nnz); },
                             +[](const Layer& l) { return detail::fixed_text(100 * l.density, 2) + " %"; },
                             +[](const Layer& l) { return std::to_string(l.multiply_adds); },
                             +[](const Layer& l) { return std::to_string(l.bytes); }})
      for (const Layer* l : {a, b}) line.push_back(l ? text(*l) : "-");
    table.push_back(std::move(line));
  }
  return table;
}

inline void ReportCard::write_csv(std::ostream& out) const {
  using namespace detail;
  std::vector<std::vector<std::string>> table{{"layer", "measure", before.name, after.name, "ratio"}};
  const auto number = [](double x) {
    std::string text;
    append_number(text, x);
    return text;
  };
  const auto add = [&](const std::string& layer, const char* what, std::optional<double> a, std::optional<double> b) {
    table.push_back({layer, what, a ? number(*a) : "", b ? number(*b) : "", a && b && *b != 0 ? number(*a / *b) : ""});
  };
  const auto whole = [](std::int64_t n) { return static_cast<double>(n); };
  add("", "accuracy", before.accuracy, after.accuracy);
  add("", "loss", before.loss, after.loss);
  for (const auto& [what, of] :
       {std::pair{"weights", &ModelCard::nnz}, std::pair{"parameters", &ModelCard::parameters},
        std::pair{"multiply_adds", &ModelCard::multiply_adds}, std::pair{"bytes_in_memory", &ModelCard::bytes},
        std::pair{"bytes_on_disk", &ModelCard::file_bytes}})
    add("", what, whole(before.*of), whole(after.*of));
  const auto time = [&](const std::string& what, const TimeSpread& a, const TimeSpread& b) {
    for (const auto& [which, of] : {std::pair{"", &TimeSpread::median}, std::pair{"_lower_quartile", &TimeSpread::low},
                                    std::pair{"_upper_quartile", &TimeSpread::high}})
      add("", (what + which).c_str(), a.*of, b.*of);
  };
  add("", "batch_size", whole(batch_size), whole(batch_size));
  time("ms_per_batch", before.batch, after.batch);
  time("ms_per_sample", before.sample, after.sample);
  for (const auto& [a, b] : layer_pairs()) {
    const std::string& name = (a ? a : b)->name;
    const auto both = [&](const char* what, auto of) {
      add(name.empty() ? "(model)" : name, what, a ? std::optional<double>(a->*of) : std::nullopt,
          b ? std::optional<double>(b->*of) : std::nullopt);
    };
    both("weights", &ModelCard::Layer::nnz);
    both("density", &ModelCard::Layer::density);
    both("parameters", &ModelCard::Layer::parameters);
    both("multiply_adds", &ModelCard::Layer::multiply_adds);
    both("bytes_in_memory", &ModelCard::Layer::bytes);
  }
  detail::write_csv(out, table);
}

}  // namespace deepstruct
