// Data: sets of samples with labels or targets, batches of them in file or random order, sets sampled from a function.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "samples.hpp"

namespace deepstruct {

/// Some samples of a data set: x [n, …] and their labels [n] or targets [n, …].
template <class Y>
struct BasicBatch {
  Tensor x;
  Y y;
};

/// Samples x [n, …], each with a label (Indices [n]) or a target (Tensor [n, …]).
template <class Y>
class BasicDataset {
 public:
  using Batch = BasicBatch<Y>;

  BasicDataset() = default;
  /// Throws unless there are as many labels or targets as samples.
  BasicDataset(const Tensor& x, const Y& y) : x_(x), y_(y) {
    check(x.shape()[0] == y.shape()[0], "Dataset: need one label or target per sample (", x.shape(), " and ", y.shape(),
          ")");
    check(size() < (std::int64_t{1} << 31), "Dataset: need fewer than 2^31 samples (", size(), ")");
    if constexpr (std::is_same_v<Y, Indices>)
      check(y.rank() == 1, "Dataset: labels have one extent (shape ", y.shape(), ")");
  }
  /// Throws also unless every label is in [0, classes).
  BasicDataset(const Tensor& x, const Y& labels, std::int64_t classes) requires std::is_same_v<Y, Indices>
      : BasicDataset(x, labels) {
    labels.for_each([&](std::int64_t i, std::int32_t label) {
      check(label >= 0 && label < classes, "Dataset: label out of range (", label, " of ", classes,
            " classes at sample ", i, ")");
    });
  }

  /// Number of samples.
  std::int64_t size() const { return x_.size(); }
  const Shape& x_shape() const { return x_.shape(); }
  const Shape& y_shape() const { return y_.shape(); }

  /// Writes the samples rows[0], rows[1], … to `out`, whose memory is reused when the shapes fit; throws on a row out
  /// of range.
  void gather(std::span<const std::int32_t> rows, Batch& out) const {
    for (std::int32_t row : rows)
      check(row >= 0 && row < size(), "Dataset: sample out of range (", row, " of ", size(), ")");
    x_.gather(rows, out.x);
    y_.gather(rows, out.y);
  }
  Batch gather(std::span<const std::int32_t> rows) const {
    Batch out;
    gather(rows, out);
    return out;
  }
  /// The samples first … last − 1 as one batch.
  Batch slice(std::int64_t first, std::int64_t last) const {
    check(first >= 0 && first <= last && last <= size(), "Dataset: range outside the set (", first, " to ", last,
          " of ", size(), ")");
    std::vector<std::int32_t> rows(static_cast<std::size_t>(last - first));
    std::iota(rows.begin(), rows.end(), static_cast<std::int32_t>(first));
    return gather(rows);
  }
  /// All samples as one batch.
  Batch all() const { return slice(0, size()); }
  /// The data set of the samples rows[0], rows[1], …: a split, a fold, a bootstrap.
  BasicDataset subset(std::span<const std::int32_t> rows) const {
    const Batch batch = gather(rows);
    return {batch.x, batch.y};
  }

 private:
  Samples<float> x_;
  Samples<typename Y::value_type> y_;
};

/// A batch with labels [n], and one with targets [n, …].
using Batch = BasicBatch<Indices>;
using RegressionBatch = BasicBatch<Tensor>;
/// A data set with labels, and one with targets.
using Dataset = BasicDataset<Indices>;
using RegressionDataset = BasicDataset<Tensor>;

/// How batches() cuts a data set.
struct BatchOptions {
  bool drop_last = false;  ///< leave out the last batch when it is smaller than the others
};

/// The batches of a data set as a range; every begin() starts an epoch. One loop at a time; a batch lives until the
/// next one.
template <class Y>
class BasicBatches {
 public:
  BasicBatches(const BasicDataset<Y>& data, std::int64_t batch_size, Rng* rng, const BatchOptions& options)
      : data_(&data), batch_size_(batch_size), rng_(rng), order_(static_cast<std::size_t>(data.size())) {
    check(batch_size >= 1, "batches: need a batch size of at least 1 (", batch_size, ")");
    const std::int64_t n = data.size(), full = n / batch_size;
    count_ = full + (!options.drop_last && n % batch_size != 0);
  }

  /// Number of batches in an epoch.
  std::int64_t size() const { return count_; }

  /// Position in an epoch.
  class Iterator {
   public:
    using value_type = BasicBatch<Y>;
    using difference_type = std::ptrdiff_t;
    explicit Iterator(BasicBatches& batches) : batches_(&batches) { batches_->load(0); }
    /// The batch; what is moved out of it is made anew by the next step.
    value_type& operator*() const { return batches_->batch_; }
    value_type* operator->() const { return &batches_->batch_; }
    Iterator& operator++() {
      batches_->load(++next_);
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return next_ >= batches_->count_; }

   private:
    BasicBatches* batches_;
    std::int64_t next_ = 0;
  };

  Iterator begin() {
    // From 0, 1, … every time: an epoch's order depends on the generator's state alone, so a resumed run continues
    // exactly.
    std::iota(order_.begin(), order_.end(), 0);
    if (rng_) rng_->shuffle(std::span(order_));
    return Iterator(*this);
  }
  std::default_sentinel_t end() const { return {}; }

 private:
  void load(std::int64_t k) {
    if (k >= count_) return;
    const std::int64_t first = k * batch_size_, last = first + std::min(batch_size_, data_->size() - first);
    data_->gather(std::span<const std::int32_t>(order_.data() + first, order_.data() + last), batch_);
  }

  const BasicDataset<Y>* data_;
  std::int64_t batch_size_;
  Rng* rng_;
  std::int64_t count_ = 0;
  pool_vector<std::int32_t> order_;
  BasicBatch<Y> batch_;
};

/// Batches in a new random order every epoch: for (const auto& [x, y] : batches(data, 128, rng)) …
/// `data` and `rng` must outlive the range. The last batch may be smaller.
template <class Y>
BasicBatches<Y> batches(const BasicDataset<Y>& data, std::int64_t batch_size, Rng& rng,
                        const BatchOptions& options = {}) {
  return {data, batch_size, &rng, options};
}
/// Batches in the order of the data set.
template <class Y>
BasicBatches<Y> batches(const BasicDataset<Y>& data, std::int64_t batch_size, const BatchOptions& options = {}) {
  return {data, batch_size, nullptr, options};
}
template <class Y>
BasicBatches<Y> batches(BasicDataset<Y>&&, std::int64_t, Rng&, const BatchOptions& = {}) = delete;
template <class Y>
BasicBatches<Y> batches(BasicDataset<Y>&&, std::int64_t, const BatchOptions& = {}) = delete;

/// Splits a table [rows, columns] into the labels in `column` (negative: from the end) and all other columns as
/// samples; throws unless the labels are whole numbers in [0, classes).
inline Dataset labelled_table(const Tensor& table, int column, std::int64_t classes) {
  check(table.rank() == 2, "labelled_table: need a table [rows, columns] (shape ", table.shape(), ")");
  const std::int64_t n = table.shape()[0], columns = table.shape()[1], at = column < 0 ? columns + column : column;
  check(at >= 0 && at < columns, "labelled_table: column out of range (", column, " of ", columns, ")");
  Tensor x = Tensor::empty({n, columns - 1});
  Indices labels = Indices::empty({n});
  for (std::int64_t c = 0; c < columns; ++c)
    for (std::int64_t i = 0; i < n; ++i) {
      const float value = table(i, c);
      if (c != at) {
        x(i, c - (c > at)) = value;
        continue;
      }
      check(value >= 0 && value < 2147483648.0f && value == std::floor(value),
            "labelled_table: a label is no class number (", value, " in row ", i, ")");
      labels(i) = static_cast<std::int32_t>(value);
    }
  return {x, labels, classes};
}

/// One pair of a FunctionalDataset.
struct FunctionalSample {
  std::vector<float> x, y;
};

/// Pairs (x, function(x)) for sampled x: a data set of any size from a formula.
class FunctionalDataset {
 public:
  /// Draws `size` points x = sampler(rng) and computes y = function(x), once and in order; both may be a number, a
  /// Tensor or any range of numbers, with the same number of elements for every sample.
  template <class Sampler, class Function>
  FunctionalDataset(std::int64_t size, Sampler&& sampler, Function&& function, Rng& rng) : size_(size) {
    check(size >= 0 && size < (std::int64_t{1} << 31), "FunctionalDataset: need a size in [0, 2^31) (", size, ")");
    for (std::int64_t i = 0; i < size; ++i) {
      const auto x = sampler(rng);
      append(xs_, x, i);
      append(ys_, function(x), i);
    }
  }

  /// Number of samples.
  std::int64_t size() const { return size_; }
  std::int64_t len() const { return size_; }
  /// Sample i of 0 … size − 1, or from the end with −size … −1; throws on any other i.
  FunctionalSample operator[](std::int64_t i) const {
    check(i >= -size_ && i < size_, "FunctionalDataset: index out of range (", i, " of ", size_, ")");
    if (i < 0) i += size_;
    return {xs_.sample(i), ys_.sample(i)};
  }
  /// The data set of x [size, elements] and y [size, elements].
  RegressionDataset to_dataset() const { return {xs_.tensor(size_), ys_.tensor(size_)}; }

 private:
  struct Column {
    std::int64_t width = 0;
    std::vector<float> values;

    std::vector<float> sample(std::int64_t i) const {
      return {values.begin() + i * width, values.begin() + (i + 1) * width};
    }
    Tensor tensor(std::int64_t n) const { return Tensor::from({n, width}, values); }
  };

  template <class Value>
  static void append(Column& to, const Value& value, std::int64_t i) {
    const std::size_t before = to.values.size();
    if constexpr (std::is_arithmetic_v<Value>)
      to.values.push_back(static_cast<float>(value));
    else if constexpr (std::same_as<Value, Tensor>)
      value.for_each([&](std::int64_t, float element) { to.values.push_back(element); });
    else
      for (const auto& element : value) to.values.push_back(static_cast<float>(element));
    const auto width = static_cast<std::int64_t>(to.values.size() - before);
    if (i == 0) to.width = width;
    check(width == to.width && width > 0, "FunctionalDataset: samples need the same number of elements (", width,
          " after ", to.width, " at sample ", i, ")");
  }

  std::int64_t size_;
  Column xs_, ys_;
};

}  // namespace deepstruct
