// Sensitivity: how a metric falls when one layer alone is pruned.
#pragma once

#include <array>
#include <charconv>
#include <limits>
#include <span>
#include <stop_token>

#include "rounds.hpp"

namespace deepstruct {

/// The metric of a model in which one layer is pruned to one density, for all layers and densities.
struct Sensitivity {
  struct Layer {
    std::string name;
    std::int64_t weights = 0;        ///< before
    std::vector<std::int64_t> left;  ///< that stay, for every density
    std::vector<double> metric;      ///< for every density
  };
  double whole = 0;               ///< metric of the model as it is
  std::vector<double> densities;  ///< shares of a layer's weights that stay
  std::vector<Layer> layers;
  bool stopped = false;  ///< the stop token ended it: layers that were not done are missing

  /// A table of metrics: a line per layer, a column per density.
  void write(std::ostream& out) const {
    std::vector<std::vector<std::string>> table{{"layer", "weights"}};
    for (const double d : densities) table[0].push_back(number(d));
    for (const Layer& l : layers) {
      table.push_back({l.name.empty() ? "(model)" : l.name, std::to_string(l.weights)});
      for (const double m : l.metric) table.back().push_back(number(m, 4));
    }
    for (const auto& line : table) {
      for (std::size_t c = 0; c < line.size(); ++c) {
        std::size_t width = 0;
        for (const auto& other : table) width = std::max(width, other[c].size());
        const std::string space(width - line[c].size(), ' ');
        out << (c > 0 ? "  " : "") << (c == 0 ? line[c] + space : space + line[c]);  // text left, numbers right
      }
      out << "\n";
    }
    out << "whole model: " << number(whole, 4) << "\n";
  }
  /// A line per layer and density, with numbers as they can be read back: layer,density,weights,left,metric. The whole
  /// model is not in it.
  void write_csv(std::ostream& out) const {
    out << "layer,density,weights,left,metric\n";
    for (const Layer& l : layers)
      for (std::size_t k = 0; k < densities.size(); ++k)
        out << l.name << "," << number(densities[k]) << "," << l.weights << "," << l.left[k] << ","
            << number(l.metric[k]) << "\n";
  }

 private:
  /// Shortest text that reads back as x, or with so many digits after the point.
  static std::string number(double x, int digits = -1) {
    std::array<char, 400> text;  // the longest double has 309 digits before the point
    char* const end = text.data() + text.size();
    return {text.data(), digits < 0 ? std::to_chars(text.data(), end, x).ptr
                                    : std::to_chars(text.data(), end, x, std::chars_format::fixed, digits).ptr};
  }
};

/// Prunes every masked layer on its own, on copies of the model, to each density d: of its n weights the d·n (rounded
/// half to even) most salient ones stay, all other layers are whole; and asks evaluate(model) → number for what that
/// costs (Han et al. 2015; Li et al. 2017). The criterion sets saliencies as for prune, once. O(layers·densities)
/// evaluations; the model stays as it is. Throws on densities outside 0 … 1 and on a model without masked layers.
///   sensitivity_scan(model, Magnitude(), {{0.5, 0.2, 0.1, 0.05}}, [&](const auto& m) {
///     return evaluate(m, test).accuracy;
///   }).write(std::cout);
template <class M, class Criterion, class Evaluate>
Sensitivity sensitivity_scan(const M& model, Criterion&& criterion, std::vector<double> densities, Evaluate&& evaluate,
                             const std::stop_token& stop = {}) {
  constexpr const char* op = "sensitivity_scan";
  for (const double d : densities) check(d >= 0 && d <= 1, op, ": a density must be a share from 0 to 1 (", d, ")");
  M scored = model;
  criterion(scored);
  const std::vector<detail::PruneLayer> layers = detail::prune_layers(scored, op);
  Sensitivity all;
  all.whole = static_cast<double>(evaluate(model));
  all.densities = std::move(densities);
  for (std::size_t k = 0; k < layers.size(); ++k) {
    const std::int64_t n = layers[k].mask.nnz();
    Sensitivity::Layer row{layers[k].name, n, {}, {}};
    for (const double d : all.densities) {
      if ((all.stopped = stop.stop_requested())) return all;
      const auto left = static_cast<std::int64_t>(std::nearbyint(d * static_cast<double>(n)));
      M pruned = model;
      std::size_t at = 0;
      each_masked(pruned, [&](auto& layer) {
        if (at++ == k && left < n) layer.set_mask(detail::most_salient(layers[k], left));
      });
      row.left.push_back(left);
      row.metric.push_back(static_cast<double>(evaluate(std::as_const(pruned))));
    }
    all.layers.push_back(std::move(row));
  }
  return all;
}

}  // namespace deepstruct
