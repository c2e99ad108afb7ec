// The cases of the GPU kernels, run by the emulator in every test and by a GPU where there is one: a bare harness,
// since a machine with a GPU need not have any test framework.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <deepstruct/core/rng.hpp>
#include <deepstruct/core/shape.hpp>
#include <deepstruct/core/view.hpp>

#include "../../kernels/runtime.hpp"

namespace test {

/// A named case; it fails by throwing.
struct Case {
  std::string name;
  std::function<void()> run;
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
/// Adds a case to the list that main runs.
struct Register {
  Register(std::string name, std::function<void()> run) { cases().push_back({std::move(name), std::move(run)}); }
};

/// Seed of schedules and of which of many combinations a case tries.
inline std::uint64_t seed = 0;
/// Where kernels are emulated, and slow: a seventh of the combinations are enough for a seed, under sanitizers fewer.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr std::uint64_t one_of = 41;
#else
inline constexpr std::uint64_t one_of = 7;
#endif
inline bool emulated() {
  static const bool yes = deepstruct::runtime::properties().name == "emulator";
  return yes;
}
/// Whether combination number i is tried.
inline bool tried(std::uint64_t i) { return !emulated() || (i + seed) % one_of == 0; }

/// Tells the emulator in which order threads run.
void set_schedule(std::uint64_t seed);

/// A sum in double, what it may be off by, and how a got value compares.
struct Exact {
  double value = 0, magnitude = 0, terms = 0;
  void add(double term) {
    value += term;
    magnitude += std::fabs(term);
    ++terms;
  }
  bool close(double got, double ulps = 4) const {
    return std::fabs(got - value) <= ulps * 0x1p-24 * std::sqrt(terms + 1) * magnitude + 1e-37;
  }
};

/// A pattern with both orders of its edges, on the host.
struct Pattern {
  std::int64_t rows = 0, cols = 0;
  std::vector<std::int32_t> start, col, column_start, row, edge;

  template <class Exists>
  Pattern(std::int64_t rows_, std::int64_t cols_, Exists&& exists) : rows(rows_), cols(cols_), start{0} {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c)
        if (exists(r, c)) col.push_back(static_cast<std::int32_t>(c));
      start.push_back(static_cast<std::int32_t>(col.size()));
    }
    transpose();
  }
  std::int64_t nnz() const { return static_cast<std::int64_t>(col.size()); }
  /// Views of the host's arrays.
  deepstruct::csr_view by_row() const { return {start.data(), col.data(), nullptr, rows, cols, nnz()}; }
  deepstruct::csr_view by_column() const { return {column_start.data(), row.data(), edge.data(), cols, rows, nnz()}; }

 private:
  void transpose() {
    column_start.assign(static_cast<std::size_t>(cols) + 1, 0);
    for (const std::int32_t c : col) ++column_start[c + 1];
    for (std::int64_t c = 0; c < cols; ++c) column_start[c + 1] += column_start[c];
    row.resize(col.size());
    edge.resize(col.size());
    std::vector<std::int32_t> next(column_start.begin(), column_start.end() - 1);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int32_t k = start[r]; k < start[r + 1]; ++k) {
        const std::int32_t at = next[col[k]]++;
        row[at] = static_cast<std::int32_t>(r);
        edge[at] = k;
      }
  }
};

/// A pattern's arrays on the device.
struct DevicePattern {
  deepstruct::runtime::Buffer<std::int32_t> start, col, edge;
  deepstruct::csr_view view;
  explicit DevicePattern(deepstruct::csr_view host)
      : start(std::span(host.start, static_cast<std::size_t>(host.rows) + 1)),
        col(std::span(host.col, static_cast<std::size_t>(host.nnz))),
        view(host) {
    if (host.edge)
      edge = deepstruct::runtime::Buffer<std::int32_t>(std::span(host.edge, static_cast<std::size_t>(host.nnz)));
    view.start = start.data();
    view.col = col.data();
    view.edge = host.edge ? edge.data() : nullptr;
  }
};

/// A matrix [samples, features] in the library's layout, its padding NaN.
struct Matrix {
  std::int64_t samples, features, ld;
  std::vector<float> data;

  Matrix(std::int64_t samples_, std::int64_t features_)
      : samples(samples_),
        features(features_),
        ld(deepstruct::leading_stride(samples)),
        data(static_cast<std::size_t>(ld * features), std::numeric_limits<float>::quiet_NaN()) {}
  static Matrix normal(std::int64_t samples, std::int64_t features, deepstruct::Rng& rng) {
    Matrix m(samples, features);
    const deepstruct::Draw draw = rng.draw();
    for (std::int64_t f = 0; f < features; ++f)
      for (std::int64_t b = 0; b < samples; ++b) m(b, f) = draw.normal(static_cast<std::uint64_t>(f * samples + b));
    return m;
  }
  float& operator()(std::int64_t b, std::int64_t f) { return data[static_cast<std::size_t>(f * ld + b)]; }
  float operator()(std::int64_t b, std::int64_t f) const { return data[static_cast<std::size_t>(f * ld + b)]; }
};
inline std::vector<float> normal(std::int64_t n, deepstruct::Rng& rng) {
  const deepstruct::Draw draw = rng.draw();
  std::vector<float> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = draw.normal(i);
  return v;
}

/// A matrix on the device: uninitialised, or a copy.
struct DeviceMatrix {
  std::int64_t samples, features, ld;
  deepstruct::runtime::Buffer<float> data;
  DeviceMatrix(std::int64_t samples_, std::int64_t features_)
      : samples(samples_),
        features(features_),
        ld(deepstruct::leading_stride(samples)),
        data(static_cast<std::size_t>(ld * features)) {
    deepstruct::runtime::fill(data.data(), 0xff, data.size() * sizeof(float), nullptr, "DeviceMatrix");
  }
  explicit DeviceMatrix(const Matrix& m)
      : samples(m.samples), features(m.features), ld(m.ld), data(std::span<const float>(m.data)) {}
  deepstruct::matrix_view<float> view() const { return {data.data(), samples, features, ld}; }
  deepstruct::matrix_view<const float> cview() const { return {data.data(), samples, features, ld}; }
  Matrix to_host() const {
    Matrix m(samples, features);
    m.data = data.to_host();
    return m;
  }
};

}  // namespace test
