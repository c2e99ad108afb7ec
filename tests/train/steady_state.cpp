// After the second step a training step calls neither operator new nor the system allocator. This file replaces both
// for the whole test executable, and counts while asked to.
#include <atomic>
#include <cstdlib>
#include <new>

#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/train/loop.hpp>

#include "support/cases.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DEEPSTRUCT_COUNTS_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define DEEPSTRUCT_COUNTS_ALLOCATIONS 0
#endif
#endif
#ifndef DEEPSTRUCT_COUNTS_ALLOCATIONS
#define DEEPSTRUCT_COUNTS_ALLOCATIONS 1
#endif

namespace {

std::atomic<bool> counting = false;
std::atomic<std::size_t> news = 0, mallocs = 0;

}  // namespace

#if DEEPSTRUCT_COUNTS_ALLOCATIONS

namespace {

/// Where to set a breakpoint when this test fails: the callers are what allocates.
[[gnu::noinline]] void count(std::atomic<std::size_t>& counter) {
  if (counting.load(std::memory_order_relaxed)) counter.fetch_add(1, std::memory_order_relaxed);
}

void* counted_new(std::size_t bytes, std::size_t alignment) {
  count(news);
  void* memory = nullptr;
  if (posix_memalign(&memory, std::max(alignment, sizeof(void*)), std::max<std::size_t>(bytes, 1)) != 0)
    throw std::bad_alloc();
  return memory;
}
// Not inline: the compiler would see new meet free and warn.
[[gnu::noinline]] void give_back(void* memory) { std::free(memory); }

}  // namespace

void* operator new(std::size_t bytes) { return counted_new(bytes, alignof(std::max_align_t)); }
void* operator new[](std::size_t bytes) { return counted_new(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t a) { return counted_new(bytes, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t bytes, std::align_val_t a) { return counted_new(bytes, static_cast<std::size_t>(a)); }
void operator delete(void* p) noexcept { give_back(p); }
void operator delete[](void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }

#if defined(__GLIBC__)
// The C allocator as well: glibc keeps it reachable under these names.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* malloc(std::size_t bytes) noexcept {
  count(mallocs);
  return __libc_malloc(bytes);
}
void* calloc(std::size_t n, std::size_t bytes) noexcept {
  count(mallocs);
  return __libc_calloc(n, bytes);
}
void* realloc(void* p, std::size_t bytes) noexcept {
  count(mallocs);
  return __libc_realloc(p, bytes);
}
}
#endif

#endif  // DEEPSTRUCT_COUNTS_ALLOCATIONS

using namespace deepstruct;

namespace {

bool pool_is_on() {
  const char* setting = std::getenv("DEEPSTRUCT_POOL");
  return !(setting && std::string_view(setting) == "off");
}

/// Runs `step` ten times and requires that steps 3 … 10 allocate nothing.
template <class Step>
void require_steady(Step&& step) {
  for (int k = 0; k < 2; ++k) step();
  const std::size_t before = BufferPool::instance().system_calls();
  news = mallocs = 0;
  counting = true;
  for (int k = 0; k < 8; ++k) step();
  counting = false;
  CHECK(news == 0);
  CHECK(mallocs == 0);
  CHECK(BufferPool::instance().system_calls() == before);
}

}  // namespace

TEST_CASE("the counters of this file count") {
  if (!DEEPSTRUCT_COUNTS_ALLOCATIONS) return;
  news = mallocs = 0;
  counting = true;
  void* a = ::operator new(100);
  void* b = ::operator new (100, std::align_val_t{64});
  std::vector<int>* c = new std::vector<int>(1000);
  void* volatile d = std::malloc(100);
  counting = false;
  ::operator delete(a);
  ::operator delete (b, std::align_val_t{64});
  delete c;
  std::free(d);
  REQUIRE(news == 4);
#if defined(__GLIBC__)
  REQUIRE(mallocs == 1);
#endif
}

TEST_CASE("from the third step on a training step of a network on a graph allocates nothing") {
  if (!DEEPSTRUCT_COUNTS_ALLOCATIONS || !pool_is_on()) return;
  Rng rng(2);
  std::vector<Edge> edges;
  for (Vertex v = 1; v < 60; ++v)
    for (const Vertex step : {1, 3, 7})
      if (v >= step) edges.push_back({v - step, v});
  const LayeredGraph chain(Graph(60, edges, true));
  const Var x(Tensor::normal({100, 20}, 0, 1, rng));
  const std::vector<std::int32_t> target(100, 1);
  for (const bool joint : {false, true}) {
    MaskedDeepDAN dan(20, 5, chain, {.joint = joint}, rng);
    Adam adam;
    require_steady([&] {
      backward(cross_entropy(dan(x), target));
      adam.step(dan);
    });
  }
}

TEST_CASE("from the third step on a training step allocates nothing") {
  if (!DEEPSTRUCT_COUNTS_ALLOCATIONS || !pool_is_on()) {
    INFO("no counting under sanitizers, and none without the pool");
    return;
  }
  constexpr std::int64_t batch = 64;
  Rng rng(1);
  const Tensor x = Tensor::normal({4 * batch, 60}, 0, 1, rng);
  Indices y = Indices::empty({4 * batch});
  y.for_each([](std::int64_t i, std::int32_t& label) { label = static_cast<std::int32_t>(i % 10); });
  const Dataset data(x, y, 10);

  for (int threads : {1, 2})
    for (storage store : {storage::full, storage::packed})
      for (double density : {1.0, 0.7, 0.1})
        for (bool norm : {false, true}) {
          INFO(threads << " threads, " << (store == storage::full ? "full" : "packed") << ", density " << density
                       << (norm ? ", layer norm" : ""));
          test::Threads scope(threads);
          MaskedDeepFFN model(60, 10, {100, 70}, {.use_layer_norm = norm}, rng);
          each<MaskedLinearLayer>(model, [&](MaskedLinearLayer& layer) {
            layer.set_mask(Mask::random(layer.out_features(), layer.in_features(), density, rng));
          });
          if (store == storage::packed) model = pack(model);
          Adam adam;
          auto epoch = batches(data, batch, rng);
          auto at = epoch.begin();
          require_steady([&] {
            const Var logits = model(at->x);
            const Var loss = cross_entropy(logits, at->y);
            accuracy(logits.value(), at->y);
            backward(loss);
            adam.step(model);
            if (++at == epoch.end()) at = epoch.begin();
          });
        }
}

TEST_CASE("every optimizer, dropout and inference run without allocating") {
  if (!DEEPSTRUCT_COUNTS_ALLOCATIONS || !pool_is_on()) {
    INFO("no counting under sanitizers, and none without the pool");
    return;
  }
  Rng rng(2);
  const Tensor x = Tensor::normal({32, 20}, 0, 1, rng);
  std::vector<std::int32_t> y(32, 1);
  const auto check_optimizer = [&](auto optimizer) {
    Sequential net{MaskedLinearLayer(20, 30, {.store = storage::packed}, rng), ReLU(), Dropout(0.2f), LayerNorm(30),
                   Linear(30, 5, rng)};
    require_steady([&] {
      backward(cross_entropy(net(x), y));
      clip_grad_norm(net, 0.1);
      optimizer.step(net);
    });
    set_training(net, false);
    require_steady([&] {
      no_grad guard;
      net(x);
    });
  };
  check_optimizer(SGD{.lr = 0.1, .momentum = 0.9, .nesterov = true});
  check_optimizer(Adam{.amsgrad = true});
  check_optimizer(AdamW());
  check_optimizer(RMSprop{.momentum = 0.5, .centered = true});
  check_optimizer(Adagrad());
}

TEST_CASE("fit as a whole asks the system for nothing after its second step") {
  if (!DEEPSTRUCT_COUNTS_ALLOCATIONS || !pool_is_on()) {
    INFO("no counting under sanitizers, and none without the pool");
    return;
  }
  Rng rng(3);
  const Tensor x = Tensor::normal({320, 20}, 0, 1, rng);
  const Dataset data(x, Indices::zeros({320}), 3);
  for (storage store : {storage::full, storage::packed}) {
    MaskedDeepFFN model(20, 3, {30}, {.store = store}, rng);
    Adam adam;
    std::size_t system_calls = 0;
    fit(model, adam, data, rng, {.epochs = 3, .batch_size = 32, .on_step = [&](const Progress& p) {
                                   if (p.epoch != 1 || p.step != 2) return;
                                   news = mallocs = 0;
                                   system_calls = BufferPool::instance().system_calls();
                                   counting = true;
                                 }});
    REQUIRE(counting.exchange(false));
    CHECK(news == 0);
    CHECK(mallocs == 0);
    CHECK(BufferPool::instance().system_calls() == system_calls);
  }
}
