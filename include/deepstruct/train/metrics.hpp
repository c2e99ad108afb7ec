// Metrics: accuracy, confusion matrix, running mean.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "../core/tensor.hpp"

namespace deepstruct {

namespace detail {

inline void check_predictions(const char* op, const Tensor& logits, std::span<const std::int32_t> labels) {
  check(logits.rank() == 2, op, ": need logits [samples, classes] (shape ", logits.shape(), ")");
  const std::int64_t n = logits.shape()[0], classes = logits.shape()[1];
  check(n == static_cast<std::int64_t>(labels.size()), op, ": need one label per sample (logits ", logits.shape(), ", ",
        labels.size(), " labels)");
  for (std::int32_t label : labels)
    check(label >= 0 && label < classes, op, ": label out of range (", label, " of ", classes, " classes)");
}

/// The class with the largest logit, the first one of equals; −1 when a logit is NaN.
inline std::int64_t predicted_class(const Tensor& logits, std::int64_t i) {
  std::int64_t best = 0;
  for (std::int64_t c = 0; c < logits.shape()[1]; ++c) {
    const float x = logits(i, c);
    if (std::isnan(x)) return -1;
    if (x > logits(i, best)) best = c;
  }
  return best;
}

}  // namespace detail

/// How many samples of logits [samples, classes] have their largest logit (the first of equals) at their label. A
/// sample with a NaN among its logits is wrong.
inline std::int64_t count_correct(const Tensor& logits, std::span<const std::int32_t> labels) {
  detail::check_predictions("count_correct", logits, labels);
  if (has_cuda && logits.device() != Device::cpu) return count_correct(to(logits, Device::cpu), labels);
  std::int64_t correct = 0;
  for (std::int64_t i = 0; i < logits.shape()[0]; ++i)
    correct += detail::predicted_class(logits, i) == labels[static_cast<std::size_t>(i)];
  return correct;
}

/// count_correct divided by the number of samples, of which there must be one at least.
inline double accuracy(const Tensor& logits, std::span<const std::int32_t> labels) {
  check(!labels.empty(), "accuracy: need at least one sample (logits ", logits.shape(), ")");
  detail::check_predictions("accuracy", logits, labels);
  return static_cast<double>(count_correct(logits, labels)) / static_cast<double>(labels.size());
}
inline double accuracy(const Tensor& logits, const Indices& labels) {
  check(labels.rank() == 1, "accuracy: labels have one extent (shape ", labels.shape(), ")");
  if (labels.device() != Device::cpu) return accuracy(logits, to(labels, Device::cpu));
  return accuracy(logits, std::span(labels.data(), static_cast<std::size_t>(labels.size())));
}

/// Counts [classes, classes] of samples by true class (row) and predicted class (column). Samples with a NaN are in no
/// cell.
inline Indices confusion_matrix(const Tensor& logits, std::span<const std::int32_t> labels) {
  detail::check_predictions("confusion_matrix", logits, labels);
  if (logits.device() != Device::cpu) return confusion_matrix(to(logits, Device::cpu), labels);
  Indices counts = Indices::zeros({logits.shape()[1], logits.shape()[1]});
  for (std::int64_t i = 0; i < logits.shape()[0]; ++i)
    if (const std::int64_t c = detail::predicted_class(logits, i); c >= 0)
      ++counts(labels[static_cast<std::size_t>(i)], c);
  return counts;
}

/// A weighted running mean in double: losses of batches, say, each with its number of samples.
class Mean {
 public:
  /// Adds a value that stands for `weight` samples.
  void add(double value, double weight = 1) {
    check(weight >= 0 && std::isfinite(weight), "Mean: need a finite weight >= 0 (", weight, ")");
    if (weight == 0) return;
    sum_ += value * weight;
    weight_ += weight;
  }
  /// The mean of what was added, which must be something.
  double value() const {
    check(weight_ > 0, "Mean: nothing was added (weight 0)");
    return sum_ / weight_;
  }
  double weight() const { return weight_; }

 private:
  double sum_ = 0, weight_ = 0;
};

}  // namespace deepstruct
