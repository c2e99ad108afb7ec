// The buffer pool.
#include <deepstruct/core/tensor.hpp>

#include <cstdlib>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {
bool pool_is_off() {
  const char* setting = std::getenv("DEEPSTRUCT_POOL");
  return setting && std::string(setting) == "off";
}
}  // namespace

TEST_CASE("freed blocks come back, and a steady loop asks the system for nothing") {
  if (pool_is_off()) {
    WARN("DEEPSTRUCT_POOL=off: nothing is cached, nothing to test");
    return;
  }
  BufferPool& pool = BufferPool::instance();
  void* first = pool.take(1000);
  pool.give(first, 1000);
  REQUIRE(pool.take(1010) == first);  // one size class
  pool.give(first, 1010);
  const auto step = [] {
    std::vector<Tensor> all;
    for (std::int64_t n = 1; n < 3000; n = n * 3 / 2 + 1) all.push_back(Tensor::zeros({n, 7}));
  };
  step();
  const std::size_t before = pool.system_calls();
  for (int k = 0; k < 5; ++k) step();
  REQUIRE(pool.system_calls() == before);
  pool.trim();
  step();
  REQUIRE(pool.system_calls() > before);
}

TEST_CASE("blocks are aligned, big enough and at most a quarter too big") {
  BufferPool& pool = BufferPool::instance();
  for (std::size_t bytes :
       {0u, 1u, 63u, 64u, 65u, 256u, 257u, 320u, 511u, 512u, 513u, 4095u, 4096u, 4097u, 100000u, 1u << 20}) {
    auto* block = static_cast<unsigned char*>(pool.take(bytes));
    REQUIRE(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
    std::memset(block, 1, bytes);
    pool.give(block, bytes);
    if (pool_is_off()) continue;
    // A request a third larger is never served from this block.
    const std::size_t larger = std::max<std::size_t>(bytes + bytes / 3, 129) + 64;
    void* other = pool.take(larger);
    REQUIRE(other != block);
    pool.give(other, larger);
  }
}

TEST_CASE("taken blocks do not overlap") {
  std::vector<std::pair<unsigned char*, std::size_t>> held;
  Rng rng(2);
  for (int k = 0; k < 300; ++k) {
    const std::size_t bytes = rng.below(3000) + 1;
    auto* p = static_cast<unsigned char*>(BufferPool::instance().take(bytes));
    std::memset(p, k % 251, bytes);
    held.emplace_back(p, bytes);
    if (k % 3 == 2) {  // give one back in between
      auto [q, n] = held[held.size() / 2];
      BufferPool::instance().give(q, n);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(held.size() / 2));
    }
  }
  std::sort(held.begin(), held.end());
  for (std::size_t k = 1; k < held.size(); ++k) REQUIRE(held[k - 1].first + held[k - 1].second <= held[k].first);
  for (auto [p, n] : held) BufferPool::instance().give(p, n);
}

TEST_CASE("poisoned storage is NaN, padding and slack included") {
  test::Poison poison;
  const Tensor t = Tensor::empty({17, 2});
  for (int i = 0; i < 64 + 16; ++i) REQUIRE(std::isnan(t.data()[i]));
}

TEST_CASE("buffers copy deeply and move cheaply; empty ones hold nothing") {
  Buffer<float> a(3);
  a.data()[2] = 5;
  const Buffer<float> b = a;
  REQUIRE(b.data() != a.data());
  REQUIRE(b.data()[2] == 5);
  const float* data = a.data();
  Buffer<float> c = std::move(a);
  REQUIRE(c.data() == data);
  REQUIRE(a.data() == nullptr);  // NOLINT
  c = Buffer<float>(0);
  REQUIRE(c.data() == nullptr);
  pool_vector<int> v(1000, 3);
  REQUIRE(v[999] == 3);
}
