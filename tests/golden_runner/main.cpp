// golden_runner [DIR]: runs every case of every known family in the .json files under DIR and reports what disagrees.
// Exit code 0 if nothing failed, 1 otherwise.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "families.hpp"

namespace {

using namespace golden;

const std::map<std::string, Runner, std::less<>> runners = {
    {"ops.unary", run_elementwise},
    {"ops.binary", run_elementwise},
    {"ops.reductions", run_reduction},
    {"ops.shape", run_shape},
    {"ops.nn", run_nn},
    {"ops.schedulers", run_scheduler},
    {"ops.initialisers", run_initialiser},
    {"ops.optimizers", run_optimizer},
    {"masked_linear", run_masked_linear},
    {"models.ffn", run_ffn},
    {"models.dan", run_dan},
    {"scalable", run_scalable},
    {"pruning", run_pruning},
    {"graph.generators", run_generators},
    {"graph.graphml", run_graphml},
    {"graph.layer_index", run_layer_index},
    {"graph.api", run_graph_api},
    {"graph.labeled_dag", run_labeled_dag},
    {"transform", run_transform},
};

struct Report {
  int passed = 0, failed = 0;
  std::vector<std::string> skipped = {};

  void fail(const std::string& name, const std::vector<std::string>& reasons) {
    ++failed;
    std::cout << "FAILED " << name << '\n';
    for (const std::string& reason : reasons) std::cout << "  " << reason << '\n';
  }
};

/// float32 tolerances; a file without one is compared exactly.
Tolerance tolerance_of(const Json& file) {
  if (!file.contains("tolerance")) return exact;
  const Json& t = file.at("tolerance");
  const auto number = [&](const char* general, const char* float32) {
    const char* key = t.contains(float32) ? float32 : general;
    return t.contains(key) && t.at(key).is_number() ? t.at(key).get<double>() : 0.0;
  };
  return {number("rtol", "rtol_float32"), number("atol", "atol_float32")};
}

void run_case(Runner runner, Case c, const std::string& name, Report& report) {
  try {
    runner(c);
  } catch (const NoRunner& missing) {
    report.skipped.push_back(name + ": " + missing.reason);
    return;
  } catch (const std::exception& e) {
    c.mismatch(std::string("threw: ") + e.what());
  }
  if (c.mismatches().empty())
    ++report.passed;
  else
    report.fail(name, c.mismatches());
}

void run_file(const std::filesystem::path& path, const std::string& where, Report& report) {
  std::ifstream in(path);
  const Json file = Json::parse(in);
  const auto family = file.at("family").get<std::string>();
  const Json& cases = file.at("cases");
  ds::check(cases.is_array(), "cases is not a list");
  ds::check(!file.contains("case_count") || file.at("case_count") == cases.size(),
            "case_count differs from the number of cases (", file.value("case_count", Json()).dump(), " and ",
            cases.size(), ")");
  const auto runner = runners.find(family);
  const Tolerance tolerance = tolerance_of(file);
  for (std::size_t k = 0; k < cases.size(); ++k) {
    const Json& data = cases[k];
    const bool has_id = data.is_object() && data.contains("id") && data.at("id").is_string();
    const std::string name = where + " " + (has_id ? data.at("id").get<std::string>() : "#" + std::to_string(k));
    if (runner == runners.end())
      report.skipped.push_back(name + ": no runner for family " + family);
    else
      run_case(runner->second, Case(data, tolerance, path.parent_path()), name, report);
  }
}

int run(const std::filesystem::path& dir) {
  Report report;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir))
    if (entry.is_regular_file() && entry.path().extension() == ".json") files.push_back(entry.path());
  ds::check(!files.empty(), "no .json files under ", dir.string());
  std::sort(files.begin(), files.end());
  for (const auto& path : files) {
    const std::string where = std::filesystem::relative(path, dir).string();
    try {
      run_file(path, where, report);
    } catch (const std::exception& e) {
      report.fail(where, {std::string("malformed file: ") + e.what()});
    }
  }
  for (const std::string& line : report.skipped) std::cout << "skipped " << line << '\n';
  std::cout << report.passed << " passed, " << report.failed << " failed, " << report.skipped.size() << " skipped"
            << std::endl;
  return report.failed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 2) {
    std::cerr << "usage: golden_runner [DIR]\n";
    return 2;
  }
  try {
    return run(argc == 2 ? argv[1] : "tests/golden");
  } catch (const std::exception& e) {
    std::cerr << "golden_runner: " << e.what() << '\n';
    return 2;
  }
}
