// The sizes, masks and circumstances that kernels and ops are tried under.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <deepstruct/core/mask.hpp>
#include <deepstruct/core/parallel.hpp>
#include <deepstruct/simd/pick.hpp>

#include "support/catch.hpp"
#include "support/close.hpp"

namespace test {

/// 0, 1, both sides of every vector width, of the padding rules and of the register tiles.
inline const std::vector<std::int64_t> sizes{0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 64, 65, 100, 128, 257};

/// Masks [rows, cols]: full, empty, density 0.1, with empty rows, with one dense row.
inline std::vector<deepstruct::Mask> masks(std::int64_t rows, std::int64_t cols, std::uint64_t seed = 7) {
  using deepstruct::Mask;
  deepstruct::Rng rng(seed);
  std::vector<Mask> all{Mask::zeros(rows, cols), Mask::ones(rows, cols), Mask::random(rows, cols, 0.1, rng)};
  const Mask half = Mask::random(rows, cols, 0.5, rng);
  all.push_back(half.filter([](std::int32_t, std::int64_t r, std::int64_t) { return r % 2 == 1; }));
  all.push_back(
      Mask::where(rows, cols, [&](std::int64_t r, std::int64_t c) { return r == rows / 2 || (r + c) % 11 == 0; }));
  return all;
}

/// While it lives, new storage is NaN: padding and entries that nobody wrote show.
struct Poison {
  Poison() { deepstruct::poison_new_storage = true; }
  ~Poison() { deepstruct::poison_new_storage = false; }
};

/// Restores the number of threads.
struct Threads {
  int before = deepstruct::num_threads();
  explicit Threads(int n) { deepstruct::set_num_threads(n); }
  ~Threads() { deepstruct::set_num_threads(before); }
};

/// Runs f under every instruction set of this machine, with poisoned storage.
template <class F>
void on_every_isa(F&& f) {
  namespace simd = deepstruct::simd;
  struct Restore {
    simd::Isa before = simd::active();
    ~Restore() { simd::force(before); }
  } restore;
  Poison poison;
  for (simd::Isa isa : simd::available()) {
    if (deepstruct::has_cuda && isa != simd::available().back()) continue;  // a GPU has one, and its emulator is slow
#if defined(__SANITIZE_THREAD__)
    if (isa != simd::available().back()) continue;  // the thread sanitizer looks at accesses, the same in every set
#endif
    simd::force(isa);
    INFO("instruction set " << simd::name(isa));
    f();
  }
}

/// Runs f under every instruction set with 1, 2 and 3 threads and requires the same bits each time.
inline void same_for_all_threads(const std::function<std::vector<deepstruct::Tensor>()>& f) {
  on_every_isa([&] {
    std::vector<deepstruct::Tensor> first;
    for (int n : {1, 2, 3}) {
      Threads threads(n);
      const auto now = f();
      if (n == 1) first = now;
      REQUIRE(now.size() == first.size());
      for (std::size_t k = 0; k < now.size(); ++k) {
        INFO("result " << k << " with " << n << " threads");
        REQUIRE(same_bits(now[k], first[k]));
      }
    }
  });
}

/// Calls f, which must throw deepstruct::Error, and returns its text.
[[gnu::noinline]] inline std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const deepstruct::Error& e) {
    return e.what();
  }
  FAIL("no deepstruct::Error was thrown");
  return {};
}
/// Requires an Error whose text holds every part.
[[gnu::noinline]] inline void require_error(const std::function<void()>& f, std::initializer_list<const char*> parts) {
  const std::string text = error_of(f);
  for (const char* part : parts) {
    INFO("text: " << text << "; missing: " << part);
    REQUIRE(text.find(part) != std::string::npos);
  }
}

}  // namespace test
