// What every benchmark shares: timing with warm-up, median and spread; options; rows as a table and as JSON.
#pragma once

#include <deepstruct/core/error.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <initializer_list>
#include <iomanip>
#include <iostream>
#include <map>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

/// The middle value; 0 for none.
inline double median(std::vector<double> x) {
  if (x.empty()) return 0;
  const auto middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
  std::nth_element(x.begin(), middle, x.end());
  return x.size() % 2 ? *middle : (*middle + *std::max_element(x.begin(), middle)) / 2;
}

/// How long one call takes, in microseconds.
struct Timing {
  double median = 0;
  double spread = 0;  ///< median distance from the median
};

/// Calls f for warm_seconds (at least twice), then `repeats` times by the clock.
template <class F>
Timing measure(F&& f, int repeats, double warm_seconds = 0.2) {
  using clock = std::chrono::steady_clock;
  const auto since = [](clock::time_point start) {
    return std::chrono::duration<double>(clock::now() - start).count();
  };
  const auto start = clock::now();
  for (int k = 0; k < 2 || since(start) < warm_seconds; ++k) f();
  std::vector<double> us(static_cast<std::size_t>(repeats));
  for (double& t : us) {
    const auto begin = clock::now();
    f();
    t = since(begin) * 1e6;
  }
  Timing result{median(us), 0};
  for (double& t : us) t = std::abs(t - result.median);
  result.spread = median(us);
  return result;
}

/// The shortest text that reads back as the same number.
template <class T>
std::string text(T value) {
  char digits[64];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

/// One measured case. Peers write rows of their own with peer and peer_us; side_by_side.py joins both.
struct Row {
  std::string name;   ///< what was timed: adam_step, layer_forward, …
  std::string model;  ///< widths, such as 784-300-100-10
  std::string storage;
  std::int64_t batch = 0;
  double density = 1;
  int threads = 1;
  Timing ours;
  double max_abs_err = 0;  ///< against the reference
};

/// The rows as a JSON array, one row a line.
inline void write_json(const std::string& path, const std::vector<Row>& rows) {
  std::ofstream out(path);
  out << "[";
  for (const Row& r : rows)
    out << (&r == rows.data() ? "\n" : ",\n") << R"({"case": ")" << r.name << R"(", "model": ")" << r.model
        << R"(", "storage": ")" << r.storage << R"(", "batch": )" << r.batch << R"(, "density": )" << text(r.density)
        << R"(, "threads": )" << r.threads << R"(, "ours_us": )" << text(r.ours.median) << R"(, "ours_spread_us": )"
        << text(r.ours.spread) << R"(, "max_abs_err": )" << text(r.max_abs_err) << "}";
  out << "\n]\n";
  out.close();
  deepstruct::check(!out.fail(), "bench: cannot write ", path);
}

/// The rows for people.
inline void print(std::ostream& out, const std::vector<Row>& rows) {
  out << "case        model             storage  batch  density  threads   ours_us  spread  max_abs_err\n"
      << std::fixed;
  for (const Row& r : rows)
    out << std::left << std::setw(12) << r.name << std::setw(18) << r.model << std::setw(9) << r.storage << std::right
        << std::setw(5) << r.batch << std::setw(9) << text(r.density) << std::setw(9) << r.threads
        << std::setprecision(1) << std::setw(10) << r.ours.median << std::setw(8) << r.ours.spread << std::setw(13)
        << std::scientific << r.max_abs_err << std::fixed << "\n";
}

/// Options of the form --name value.
class Options {
 public:
  /// Throws on a name that is not in `known`, and on one without a value.
  Options(int argc, char** argv, std::initializer_list<std::string_view> known) {
    for (int k = 1; k < argc; k += 2) {
      const std::string_view name = argv[k];
      const bool good = name.starts_with("--") && std::find(known.begin(), known.end(), name.substr(2)) != known.end();
      deepstruct::check(good, "unknown option (", name, "), --help lists them");
      deepstruct::check(k + 1 < argc, "the option needs a value (", name, ")");
      values_[std::string(name.substr(2))] = argv[k + 1];
    }
  }
  std::string get(const std::string& name, const std::string& otherwise) const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : found->second;
  }
  /// Numbers from low to high, separated by commas.
  template <class T>
  std::vector<T> numbers(const std::string& name, const std::string& otherwise, T low, T high) const {
    const std::string all = get(name, otherwise) + ",";
    std::vector<T> result;
    for (const char *at = all.data(), *end = at + all.size(); at != end; ++at) {
      T value{};
      const auto [next, problem] = std::from_chars(at, end, value);
      deepstruct::check(problem == std::errc{} && *next == ',' && value >= low && value <= high, "--", name,
                        " must be from ", low, " to ", high, " (", get(name, otherwise), ")");
      result.push_back(value);
      at = next;
    }
    return result;
  }
  template <class T>
  T number(const std::string& name, const std::string& otherwise, T low, T high) const {
    const auto all = numbers<T>(name, otherwise, low, high);
    deepstruct::check(all.size() == 1, "--", name, " takes one number (", get(name, otherwise), ")");
    return all[0];
  }

 private:
  std::map<std::string, std::string> values_;
};

}  // namespace bench
