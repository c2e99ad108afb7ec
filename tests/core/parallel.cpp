// parallel_for: every part once, nesting, exceptions, several callers, resizing.
#include <deepstruct/core/buffer.hpp>
#include <deepstruct/core/parallel.hpp>

#include <set>
#include <thread>

#include "support/cases.hpp"

using namespace deepstruct;

TEST_CASE("every part runs once, whatever the number of threads", "[threads]") {
  for (int threads : {1, 2, 3, 7}) {
    test::Threads guard(threads);
    REQUIRE(num_threads() == threads);
    for (std::int64_t parts : {0, 1, 2, 3, 5, 64, 1000}) {
      std::vector<int> count(
          static_cast<std::size_t>(parts));  // each written by one thread: no atomics, so TSan would see a race
      for (int round = 0; round < 5; ++round)
        parallel_for(parts, [&](std::int64_t part) { ++count[static_cast<std::size_t>(part)]; });
      REQUIRE(count == std::vector<int>(static_cast<std::size_t>(parts), 5));
    }
  }
}

TEST_CASE("what parts wrote is seen by the caller and by the next job", "[threads]") {
  test::Threads guard(3);
  std::vector<std::int64_t> values(50, 1);
  for (int round = 0; round < 200; ++round)
    parallel_for(50, [&](std::int64_t part) { values[part] += values[part] % 7 + round; });
  std::int64_t one = 1;
  for (int round = 0; round < 200; ++round) one += one % 7 + round;
  REQUIRE(values == std::vector<std::int64_t>(50, one));
}

TEST_CASE("other threads do take part", "[threads]") {
  test::Threads guard(3);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  for (int round = 0; round < 50 && ids.size() < 2; ++round)
    parallel_for(8, [&](std::int64_t) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      std::lock_guard lock(mutex);
      ids.insert(std::this_thread::get_id());
    });
  REQUIRE(ids.size() >= 2);
}

TEST_CASE("blocks cover the range and depend on it alone") {
  for (std::int64_t n : {0, 1, 9, 10, 11, 100}) {
    std::vector<int> count(static_cast<std::size_t>(n));
    parallel_blocks(n, 10, [&](std::int64_t first, std::int64_t last) {
      if (first % 10 != 0 || last > n || last - first > 10) throw Error("block outside the grid");
      for (; first < last; ++first) ++count[static_cast<std::size_t>(first)];
    });
    REQUIRE(count == std::vector<int>(static_cast<std::size_t>(n), 1));
  }
}

TEST_CASE("nested calls run in place", "[threads]") {
  test::Threads guard(3);
  std::vector<int> count(5 * 7 * 2);
  parallel_for(5, [&](std::int64_t i) {
    parallel_for(7, [&](std::int64_t j) { parallel_for(2, [&](std::int64_t k) { ++count[(i * 7 + j) * 2 + k]; }); });
  });
  REQUIRE(count == std::vector<int>(70, 1));
}

TEST_CASE("the first exception comes back, and the pool lives on", "[threads]") {
  for (int threads : {1, 3}) {
    test::Threads guard(threads);
    for (int round = 0; round < 20; ++round) {
      REQUIRE(test::error_of([] {
                parallel_for(16, [](std::int64_t part) {
                  if (part == 5) fail("part ", part);
                });
              }) == "part 5");
      std::vector<int> count(16);
      parallel_for(16, [&](std::int64_t part) { ++count[part]; });
      REQUIRE(count == std::vector<int>(16, 1));
    }
  }
}

TEST_CASE("several threads may call at once", "[threads]") {
  test::Threads guard(2);
  std::array<std::int64_t, 4> sums{};
  {
    std::vector<std::jthread> callers;
    for (std::size_t k = 0; k < sums.size(); ++k)
      callers.emplace_back([&sums, k] {
        for (int round = 0; round < 100; ++round) {
          std::array<std::int64_t, 9> parts{};
          parallel_for(9, [&](std::int64_t part) { parts[part] = part; });
          for (std::int64_t p : parts) sums[k] += p;
        }
      });
  }
  for (std::int64_t s : sums) REQUIRE(s == 100 * 36);
}

TEST_CASE("the number of threads may change while others compute", "[threads]") {
  test::Threads guard(2);
  std::int64_t sum = 0;
  {
    std::jthread caller([&] {
      for (int round = 0; round < 200; ++round) {
        std::array<std::int64_t, 6> parts{};
        parallel_for(6, [&](std::int64_t part) { parts[part] = 1; });
        for (std::int64_t p : parts) sum += p;
      }
    });
    for (int n : {1, 3, 2, 1, 2}) set_num_threads(n);
  }
  REQUIRE(sum == 1200);
}

TEST_CASE("bad numbers of threads are refused, also from inside a part") {
  const int before = num_threads();
  test::require_error([] { set_num_threads(0); }, {"set_num_threads", "0"});
  test::require_error([] { set_num_threads(5000); }, {"set_num_threads", "5000"});
  REQUIRE(num_threads() == before);
  test::Threads guard(2);
  test::require_error([] { parallel_for(4, [](std::int64_t) { set_num_threads(1); }); },
                      {"set_num_threads", "parallel_for"});
  REQUIRE(num_threads() == 2);
}

TEST_CASE("the buffer pool serves several threads", "[threads]") {
  test::Threads guard(3);
  parallel_for(12, [](std::int64_t part) {
    for (std::size_t n = 1; n < 200; ++n) {
      Buffer<std::int64_t> a(n);
      a.data()[n - 1] = part;
      const Buffer<std::int64_t> b = a;
      check(b.data()[n - 1] == part, "another thread wrote here");
    }
  });
}
