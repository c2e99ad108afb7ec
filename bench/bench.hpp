// What every benchmark shares: timing with warm-up, median and spread; options; rows as a table and as JSON.
#pragma once

#include <deepstruct/core/error.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <iomanip>
#include <iostream>
#include <map>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
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

/// Median and spread of single measurements.
inline Timing timing_of(std::vector<double> us) {
  Timing t{median(us), 0};
  for (double& x : us) x = std::abs(x - t.median);
  t.spread = median(us);
  return t;
}

/// How long one call takes, in microseconds.
template <class F>
double microseconds(F&& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() * 1e6;
}

/// Calls f for warm_seconds (at least twice), then `repeats` times by the clock; calls shorter than `group_seconds` are
/// timed in groups of that length.
template <class F>
Timing measure(F&& f, int repeats, double warm_seconds = 0.2, double group_seconds = 0) {
  double warm = 0;
  int calls = 0;
  for (; calls < 2 || warm < warm_seconds * 1e6; ++calls) warm += microseconds(f);
  const int group = std::max(1, static_cast<int>(group_seconds * 1e6 * calls / warm));
  std::vector<double> us(static_cast<std::size_t>(repeats));
  for (double& t : us)
    t = microseconds([&] {
          for (int k = 0; k < group; ++k) f();
        }) /
        group;
  return timing_of(us);
}

/// Medians of several functions that take turns, round by round. Between two of them the threads of the one before get
/// the time to fall asleep: OpenMP's spin for some 5 ms, and would halve what comes next.
inline std::vector<Timing> take_turns(const std::vector<std::function<void()>>& runs, int rounds) {
  std::vector<std::vector<double>> medians(runs.size());
  for (int round = 0; round < rounds; ++round)
    for (std::size_t k = 0; k < runs.size(); ++k) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      medians[k].push_back(measure(runs[k], 5, 0.005, 0.001).median);
    }
  std::vector<Timing> result;
  for (const auto& m : medians) result.push_back(timing_of(m));
  return result;
}

/// The shortest text that reads back as the same number.
template <class T>
std::string text(T value) {
  char digits[64];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

/// One measured case of ours, or of a peer that runs in this process. Peers in Python write rows of their own;
/// side_by_side.py joins them all.
struct Row {
  std::string name;     ///< what was timed: layer_forward, adam_step, …
  std::string model;    ///< widths, such as 784-300-100-10; empty for one layer
  std::string storage;  ///< of a model's weights
  std::int64_t batch = 0;
  std::int64_t in = 0, out = 0;  ///< of one layer
  double density = 1;
  int threads = 1;
  Timing time;
  double percent_of_peak = 0;  ///< useful multiply-adds against the measured ceiling; 0: not asked
  double max_abs_err = 0;      ///< against the reference
  std::string peer = {};       ///< whose time it is; empty: ours
};

/// The rows as a JSON array, one row a line.
inline void write_json(const std::string& path, const std::vector<Row>& rows) {
  std::ofstream out(path);
  out << "[";
  for (const Row& r : rows) {
    out << (&r == rows.data() ? "\n" : ",\n") << R"({"case": ")" << r.name << R"(", "batch": )" << r.batch
        << R"(, "density": )" << text(r.density) << R"(, "threads": )" << r.threads;
    if (r.model.empty())
      out << R"(, "in": )" << r.in << R"(, "out": )" << r.out;
    else
      out << R"(, "model": ")" << r.model << '"';
    if (!r.storage.empty()) out << R"(, "storage": ")" << r.storage << '"';
    const std::string who = r.peer.empty() ? "ours" : "peer";
    if (!r.peer.empty()) out << R"(, "peer": ")" << r.peer << '"';
    out << ", \"" << who << R"(_us": )" << text(r.time.median) << ", \"" << who << R"(_spread_us": )"
        << text(r.time.spread) << R"(, "max_abs_err": )" << text(r.max_abs_err);
    if (r.percent_of_peak > 0) out << R"(, "percent_of_peak": )" << text(r.percent_of_peak);
    out << "}";
  }
  out << "\n]\n";
  out.close();
  deepstruct::check(!out.fail(), "bench: cannot write ", path);
}

/// The rows for people.
inline void print(std::ostream& out, const std::vector<Row>& rows) {
  out << "case            shape             storage  batch  density  threads  who                      us  spread  % "
         "of "
         "peak    error\n"
      << std::fixed;
  for (const Row& r : rows)
    out << std::left << std::setw(16) << r.name << std::setw(18)
        << (r.model.empty() ? std::to_string(r.in) + " -> " + std::to_string(r.out) : r.model) << std::setw(9)
        << r.storage << std::right << std::setw(5) << r.batch << std::setw(9) << text(r.density) << std::setw(9)
        << r.threads << "  " << std::left << std::setw(16) << (r.peer.empty() ? "deepstruct" : r.peer) << std::right
        << std::setprecision(1) << std::setw(11) << r.time.median << std::setw(8) << r.time.spread
        << std::setprecision(0) << std::setw(11) << r.percent_of_peak << std::setprecision(1) << std::setw(9)
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

/// How a benchmark ends: the rows for people, and in the file that --json names. Returns the exit code.
inline int report(const Options& options, const std::vector<Row>& rows) {
  print(std::cout, rows);
  if (const std::string json = options.get("json", ""); !json.empty()) write_json(json, rows);
  return 0;
}

/// main() of a benchmark: --help prints the usage, an error becomes one line and exit code 2.
inline int program(int argc, char** argv, std::string_view usage, int (*run)(int, char**)) {
  if (argc == 2 && std::string_view(argv[1]) == "--help") {
    std::cout << usage;
    return 0;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 2;
  }
}

}  // namespace bench
