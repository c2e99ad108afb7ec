// What every family's runner needs: JSON arrays as Tensors, comparison with the file's tolerance, the report of a case.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "deepstruct/autograd/backward.hpp"

namespace golden {

namespace ds = deepstruct;
using Json = nlohmann::ordered_json;  // the order of inputs and parameters means something

/// Thrown by a runner that does not know the op or kind of a case: the one reason to skip it.
struct NoRunner {
  std::string reason;
};

/// |got − expected| <= atol + rtol·|expected|
struct Tolerance {
  double rtol = 0, atol = 0;
};
inline constexpr Tolerance exact{};

/// An array of the golden format: a shape and numbers in row-major order.
struct Values {
  ds::Shape shape;
  std::vector<double> data;

  explicit Values(const Json& array);
  explicit Values(const ds::Tensor& t) : shape(t.shape()) {
    for (float x : t.to_vector()) data.push_back(x);
  }
  explicit Values(const ds::Indices& t) : shape(t.shape()) {
    for (std::int32_t x : t.to_vector()) data.push_back(x);
  }
  explicit Values(const ds::Mask& m) : Values(m.to_dense()) {}
};

/// A number, or one of "NaN", "Infinity", "-Infinity".
double to_number(const Json& value);
ds::Tensor to_tensor(const Json& array);
ds::Indices to_indices(const Json& array);
ds::Mask to_mask(const Json& array);
/// A list of extents. A golden case is small: a damaged one must not ask for all memory.
ds::Shape to_shape(const Json& extents);
bool is_float(const Json& array);

/// One case of a file while it runs: its data, and what did not agree.
class Case {
 public:
  Case(const Json& data, Tolerance tolerance, std::filesystem::path folder = {})
      : data_(data), tolerance_(tolerance), folder_(std::move(folder)) {}

  const Json& operator[](std::string_view key) const { return data_.at(std::string(key)); }
  /// The key is there and not null.
  bool has(std::string_view key) const { return data_.contains(std::string(key)) && !(*this)[key].is_null(); }
  std::string text(std::string_view key) const { return (*this)[key].get<std::string>(); }
  const Json& data() const { return data_; }
  Tolerance tolerance() const { return tolerance_; }
  /// Where the file of the case is: its other files are named from there.
  const std::filesystem::path& folder() const { return folder_; }
  const std::vector<std::string>& mismatches() const { return mismatches_; }

  void mismatch(std::string what) { mismatches_.push_back(std::move(what)); }
  void expect(bool holds, std::string what) {
    if (!holds) mismatch(std::move(what));
  }
  /// Shapes and all elements agree within the tolerance; flat indices in `loose` within atol_loose.
  void close(const std::string& what, const Values& expected, const Values& got, Tolerance tolerance,
             const std::set<std::int64_t>& loose = {}, double atol_loose = 0);
  template <class T>
  requires(!std::is_arithmetic_v<T>) void close(const std::string& what, const Json& expected, const T& got) {
    close(what, Values(expected), Values(got), tolerance_);
  }
  /// Shapes and all elements are equal.
  template <class T>
  requires(!std::is_arithmetic_v<T>) void equal(const std::string& what, const Json& expected, const T& got) {
    close(what, Values(expected), Values(got), exact);
  }
  template <class T>
  requires(!std::is_arithmetic_v<T>) void equal(const std::string& what, const T& expected, const T& got) {
    close(what, Values(expected), Values(got), exact);
  }
  void close(const std::string& what, double expected, double got, Tolerance tolerance);
  void close(const std::string& what, double expected, double got) { close(what, expected, got, tolerance_); }
  void equal(const std::string& what, double expected, double got) { close(what, expected, got, exact); }
  void equal(const std::string& what, const std::vector<std::string>& expected, const std::vector<std::string>& got);

  void equal(const std::string& what, const Json& expected, const std::vector<std::string>& got) {
    equal(what, expected.get<std::vector<std::string>>(), got);
  }

  /// f must throw deepstruct::Error.
  template <class F>
  void throws(const std::string& what, F&& f) {
    try {
      f();
    } catch (const ds::Error&) {
      return;
    }
    mismatch(what + ": expected an Error, got none");
  }

 private:
  const Json& data_;
  Tolerance tolerance_;
  std::filesystem::path folder_;
  std::vector<std::string> mismatches_;
};

/// Runs one case; throws NoRunner to skip it.
using Runner = void (*)(Case&);

/// The entry of a table, or a skipped case that names what is missing.
template <class Table>
const auto& find_runner(const Table& table, const std::string& kind, const std::string& name) {
  const auto found = table.find(name);
  if (found == table.end()) throw NoRunner{"no runner for " + kind + " " + name};
  return found->second;
}

}  // namespace golden
