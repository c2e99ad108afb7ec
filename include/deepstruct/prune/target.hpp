// Targets: as little is pruned as makes a network cost no more than given, in multiply-adds, bytes or milliseconds.
#pragma once

#include <chrono>
#include <optional>

#include "../nn/inference.hpp"
#include "../transform/compact_parts.hpp"
#include "prune.hpp"

namespace deepstruct {

/// A cost of a model: multiply-adds of one sample, one per edge and place (those of a convolution count at every place
/// of its output), read from the trace of model(ones of example_shape) in evaluation. The cost of zeros in full storage
/// is not counted: it is that of the packed model.
inline auto multiply_adds_of(const Shape& example_shape) {
  check(example_shape.rank() >= 1 && example_shape.size() > 0,
        "multiply_adds_of: the example needs samples and extents (", example_shape, ")");
  return [example_shape](const auto& model) {
    no_grad guard;
    auto copy = model;
    set_training(copy, false);
    const Tensor two = to(Tensor::ones(with_extent(example_shape, 0, 2)), device_of(copy));
    return static_cast<double>(detail::multiply_adds(trace_function([&](const Var& x) { return copy(x); }, Var(two))));
  };
}
/// A cost of a model: bytes of its arrays in packed storage. 4 for every entry of a parameter or buffer, and for a mask
/// 4·(edges + outputs + 1), which is its CSR pattern in int32; without optimizer slots.
inline auto stored_bytes() {
  return [](const auto& model) {
    const auto small = pack(model);
    double bytes = 0;
    struct Visitor {
      double& bytes;
      void operator()(const Path&, const Param& p) const { bytes += 4 * static_cast<double>(p.size()); }
      void operator()(const Path&, const Tensor& t) const { bytes += 4 * static_cast<double>(t.size()); }
      void operator()(const Path&, const Mask& m) const { bytes += 4 * static_cast<double>(m.nnz() + m.rows() + 1); }
    };
    walk(small, Visitor{bytes});
    return bytes;
  };
}
/// A cost of a model: measured milliseconds that the packed model takes for the example, as Inference runs it, or by
/// itself in evaluation where Inference has no form of an op (convolutions). The median of `runs` runs after one to
/// warm up; it differs from run to run and machine to machine, so leave some room.
inline auto milliseconds_of(const Tensor& example, int runs = 15) {
  check(runs >= 1, "milliseconds_of: needs a run (", runs, ")");
  return [example, runs](const auto& model) {
    no_grad guard;
    auto small = pack(model);
    set_training(small, false);
    const Tensor x = to(example, device_of(small));
    std::optional<Inference> inference;
    try {
      inference.emplace(small, x);
    } catch (const Error&) {  // it runs as it is then, or throws again
    }
    std::vector<double> times;
    for (int k = 0; k <= runs; ++k) {
      finish(x.device());
      const auto start = std::chrono::steady_clock::now();
      const Var y = inference ? (*inference)(Var(x)) : small(Var(x));
      finish(x.device());
      const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
      if (k > 0) times.push_back(took.count());
    }
    std::nth_element(times.begin(), times.begin() + runs / 2, times.end());
    return times[static_cast<std::size_t>(runs / 2)];
  };
}

/// Removes as few of the least salient weights as needed so that cost(model) ≤ target: cost is multiply_adds_of(shape),
/// stored_bytes(), milliseconds_of(example), or any callable (const M&) → number that does not rise when weights go.
/// Ties in layer and edge order; floors and blocks as in the options, `exact` says nothing here.
///
/// The number is found by bisection: log₂(weights) + 2 copies of the model are asked for their cost. If the cost does
/// rise here and there (times do), the masks are still ones whose cost was at most the target when asked. Throws, and
/// changes nothing, if the cost is not a number, or above the target with all gone that can go; the text says what it
/// is then.
///   prune_to(model, 1e6, multiply_adds_of({1, 3, 32, 32}), {.keep_per_output = 1});
template <class M, class Cost>
PruneReport prune_to(M& model, double target, Cost&& cost, const PruneOptions& options = {}) {
  constexpr const char* op = "prune_to";
  detail::check_prune_options(op, options);
  check(!std::isnan(target), op, ": the target is not a number (", target, ")");
  const auto layers = detail::prune_layers(model, op);
  const detail::PruneOrder order(layers, options, op);
  const auto cost_without = [&](std::int64_t units) {
    M candidate = model;
    const std::vector<Mask> masks = order.masks(units);
    std::size_t k = 0;
    each_masked(candidate, [&](auto& layer) {
      if (masks[k].nnz() != layers[k].mask.nnz()) layer.set_mask(masks[k]);
      ++k;
    });
    const double c = static_cast<double>(cost(std::as_const(candidate)));
    check(!std::isnan(c), op, ": the cost is not a number (", c, " with ", order.gone(units), " weights gone)");
    return c;
  };
  std::int64_t few = 0, enough = order.units();
  if (cost_without(0) <= target) return detail::set_masks(layers, order.masks(0));
  const double least = cost_without(enough);
  check(least <= target, op, ": the target cannot be reached (", target, ", least possible ", least, ")");
  while (enough - few > 1) {
    const std::int64_t middle = few + (enough - few) / 2;
    (cost_without(middle) <= target ? enough : few) = middle;
  }
  return detail::set_masks(layers, order.masks(enough));
}

}  // namespace deepstruct
