// Runs the cases: main [--seeds N] [--first SEED] [part of a name]. Exit code 1 if one failed, 77 without a GPU.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "cases.hpp"

int main(int argc, char** argv) {
  std::uint64_t seeds = 1, first = 0;
  std::string part;
  for (int i = 1; i < argc; ++i) {
    if (i + 1 < argc && std::strcmp(argv[i], "--seeds") == 0)
      seeds = std::strtoull(argv[++i], nullptr, 10);
    else if (i + 1 < argc && std::strcmp(argv[i], "--first") == 0)
      first = std::strtoull(argv[++i], nullptr, 10);
    else
      part = argv[i];
  }
  if (deepstruct::runtime::device_count() == 0) {
    std::cout << "no GPU\n";
    return 77;
  }
  int failed = 0, passed = 0;
  for (const test::Case& c : test::cases()) {
    if (c.name.find(part) == std::string::npos) continue;
    const auto begin = std::chrono::steady_clock::now();
    std::string problem;
    for (test::seed = first; test::seed < first + (test::emulated() ? seeds : 1) && problem.empty(); ++test::seed) {
      try {
        test::set_schedule(test::seed);
        c.run();
        deepstruct::runtime::synchronize(nullptr);
      } catch (const std::exception& e) {
        problem = e.what() + std::string(" (seed ") + std::to_string(test::seed) + ")";
      }
    }
    const auto ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
    std::cout << (problem.empty() ? "ok     " : "FAILED ") << c.name << " (" << ms << " ms)"
              << (problem.empty() ? "" : ": " + problem) << std::endl;
    problem.empty() ? ++passed : ++failed;
  }
  std::cout << passed << " passed, " << failed << " failed\n";
  return failed > 0 || passed == 0;
}

#if defined(DEEPSTRUCT_ON_GPU)
void test::set_schedule(std::uint64_t) {}
#else
void test::set_schedule(std::uint64_t s) {
  deepstruct::simt::schedule = s;
  deepstruct::simt::emulator::shut = false;  // cases do not mistake the device's memory for the host's
}
#endif
