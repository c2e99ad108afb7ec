// The emulator's inside: fibers, meetings, and what the sanitizers are told of them.
#include "emulator.hpp"

#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#define DEEPSTRUCT_TSAN(...) __VA_ARGS__
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void* __tsan_get_current_fiber();
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* token);
void __tsan_release(void* token);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#else
#define DEEPSTRUCT_TSAN(...)
#endif
#if defined(__SANITIZE_ADDRESS__)
#define DEEPSTRUCT_ASAN(...) __VA_ARGS__
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, std::size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, std::size_t* size);
}
#else
#define DEEPSTRUCT_ASAN(...)
#endif

namespace deepstruct::simt {
namespace {

/// While one lives, ThreadSanitizer does not look: it watches kernels, not the emulator.
struct Unwatched {
  Unwatched() { DEEPSTRUCT_TSAN(AnnotateIgnoreReadsBegin("", 0); AnnotateIgnoreWritesBegin("", 0);) }
  ~Unwatched() { DEEPSTRUCT_TSAN(AnnotateIgnoreWritesEnd("", 0); AnnotateIgnoreReadsEnd("", 0);) }
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};
void acquire([[maybe_unused]] void* token) { DEEPSTRUCT_TSAN(__tsan_acquire(token);) }
void release([[maybe_unused]] void* token) { DEEPSTRUCT_TSAN(__tsan_release(token);) }

/// Where threads wait for each other: the last one of those expected lets all go on.
struct Meeting {
  unsigned arrived = 0, round = 0, lanes = 0;
  Where where{};
  char order[2] = {};            ///< what ThreadSanitizer orders those who meet by
  std::byte brought[2][32][16];  ///< both by parity of the round, since the fastest may be one ahead
};

/// Bytes that are NaN until written; their end is the end of an allocation.
struct Memory {
  std::unique_ptr<std::byte, void (*)(std::byte*)> data;
  explicit Memory(std::size_t bytes)
      : data(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{128})),
             [](std::byte* p) { ::operator delete (p, std::align_val_t{128}); }) {
    std::memset(data.get(), 0xff, bytes);
  }
};

struct Block {
  uint3 index{};
  unsigned live = 0;
  Meeting barrier;
  std::vector<std::map<unsigned, Meeting>> warps;
  std::map<const void*, Memory> shared;
  Memory dynamic;
  explicit Block(std::size_t bytes) : dynamic(bytes) {}
};

struct Copy {
  void* to;
  const void* from;
};

/// A fiber that runs one CUDA thread after another, so that its stack stays what the sanitizers think it is.
struct Fiber {
  static constexpr std::size_t stack_bytes = 128 * 1024;
  ucontext_t context{};
  std::unique_ptr<std::byte[]> stack;
  void* tsan = nullptr;
  // The thread it runs.
  uint3 thread{};
  unsigned linear = 0;
  Block* block = nullptr;
  bool done = true;
  const Meeting* waits_at = nullptr;
  unsigned waits_for = 0;
  Where where{};
  std::deque<std::vector<Copy>> copies;  ///< groups, the oldest first; the last one is open
};

std::string text_of(const Where& where) {
  std::string file = where.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}
bool same(const Where& a, const Where& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

struct Grid;
Grid* running = nullptr;
emulator::Coordinates current;

struct Grid {
  dim3 grid, block;
  std::size_t shared_bytes;
  const std::function<void()>& body;
  std::mt19937_64 random;
  Fiber* self = nullptr;
  unsigned live = 0;
  Meeting barrier;
  bool cooperative;
  std::exception_ptr failure;
  char started = 0, finished = 0;  // what ThreadSanitizer orders the host and the threads by
  ucontext_t host{};
  void* host_tsan = nullptr;
  const void* host_stack = nullptr;
  std::size_t host_size = 0;

  Grid(dim3 grid_, dim3 block_, std::size_t shared_bytes_, bool cooperative_, const std::function<void()>& body_)
      : grid(grid_),
        block(block_),
        shared_bytes(shared_bytes_),
        body(body_),
        random(schedule),
        cooperative(cooperative_) {}

  unsigned threads() const { return block.x * block.y * block.z; }

  /// Fibers live on from launch to launch.
  static std::vector<std::unique_ptr<Fiber>>& pool() {
    static std::vector<std::unique_ptr<Fiber>> fibers;
    return fibers;
  }
  static Fiber& fiber(std::size_t i) {
    auto& fibers = pool();
    while (fibers.size() <= i) {
      auto f = std::make_unique<Fiber>();
      f->stack = std::make_unique_for_overwrite<std::byte[]>(Fiber::stack_bytes);
      getcontext(&f->context);
      f->context.uc_stack.ss_sp = f->stack.get();
      f->context.uc_stack.ss_size = Fiber::stack_bytes;
      f->context.uc_link = nullptr;
      makecontext(&f->context, &Grid::live_on, 0);
      DEEPSTRUCT_TSAN(f->tsan = __tsan_create_fiber(0);)
      fibers.push_back(std::move(f));
    }
    return *fibers[i];
  }

  /// What a fiber does all its life.
  [[noreturn]] static void live_on() {
    DEEPSTRUCT_ASAN(__sanitizer_finish_switch_fiber(nullptr, &running->host_stack, &running->host_size);)
    for (;;) {
      acquire(&running->started);
      try {
        running->body();
      } catch (...) {
        const Unwatched guard;
        running->failure = std::current_exception();
      }
      release(&running->finished);
      const Unwatched guard;
      Fiber& f = *running->self;
      f.done = true;
      --f.block->live, --running->live;
      running->leave();
    }
  }

  void run_blocks(const std::vector<unsigned>& ids) {
    std::vector<std::unique_ptr<Block>> blocks;
    std::vector<Fiber*> fibers;
    for (const unsigned id : ids) {
      Block& b = *blocks.emplace_back(std::make_unique<Block>(shared_bytes));
      b.index = {id % grid.x, id / grid.x % grid.y, id / grid.x / grid.y};
      b.live = threads();
      b.warps.resize((threads() + 31) / 32);
      for (unsigned t = 0; t < threads(); ++t) {
        Fiber& f = fiber(fibers.size());
        f.thread = {t % block.x, t / block.x % block.y, t / block.x / block.y};
        f.linear = t;
        f.block = &b;
        f.done = false;
        f.waits_at = nullptr;
        f.copies.assign(1, {});
        fibers.push_back(&f);
      }
    }
    live = static_cast<unsigned>(fibers.size());
    std::vector<Fiber*> ready;
    while (live > 0) {
      ready.clear();
      for (Fiber* f : fibers)
        if (!f->done && !(f->waits_at && f->waits_at->round == f->waits_for)) ready.push_back(f);
      if (ready.empty()) stuck(fibers);
      std::shuffle(ready.begin(), ready.end(), random);
      for (Fiber* f : ready) resume(*f);
    }
  }

  [[noreturn]] void stuck(const std::vector<Fiber*>& fibers) {
    for (const Fiber* f : fibers)
      if (!f->done)
        throw Fault("no thread can go on: thread " + std::to_string(f->linear) + " waits at " + text_of(f->where));
    throw Fault("no thread can go on");
  }

  void resume(Fiber& f) {
    self = &f;
    current.thread = f.thread;
    current.block = f.block->index;
    DEEPSTRUCT_TSAN(host_tsan = __tsan_get_current_fiber(); __tsan_switch_to_fiber(f.tsan, 1);)  // 1: it orders nothing
    DEEPSTRUCT_ASAN(void* fake = nullptr; __sanitizer_start_switch_fiber(&fake, f.stack.get(), Fiber::stack_bytes);)
    swapcontext(&host, &f.context);
    DEEPSTRUCT_ASAN(__sanitizer_finish_switch_fiber(fake, nullptr, nullptr);)
    if (failure) std::rethrow_exception(failure);
    if (f.done) {  // those who wait at a barrier may have waited for this one
      open(f.block->barrier, f.block->live);
      open(barrier, live);
    }
  }
  static void open(Meeting& m, unsigned expected) {
    if (m.arrived == 0 || m.arrived < expected) return;
    m.arrived = m.lanes = 0;
    ++m.round;
  }

  /// Gives way to the host until the scheduler picks this fiber again.
  void leave() {
    Fiber& f = *self;
    DEEPSTRUCT_TSAN(__tsan_switch_to_fiber(host_tsan, 1);)
    DEEPSTRUCT_ASAN(void* fake = nullptr; __sanitizer_start_switch_fiber(&fake, host_stack, host_size);)
    swapcontext(&f.context, &host);
    // Another grid may run by now.
    DEEPSTRUCT_ASAN(__sanitizer_finish_switch_fiber(fake, &running->host_stack, &running->host_size);)
  }

  void meet(Meeting& m, unsigned expected, bool orders_memory, Where where) {
    if (m.arrived > 0 && !same(m.where, where))
      throw Fault("threads part: one waits at " + text_of(m.where) + ", another at " + text_of(where));
    m.where = where;
    const unsigned round = m.round;
    if (orders_memory) release(&m.order[round % 2]);
    ++m.arrived;
    open(m, expected);
    if (m.round == round) {
      Fiber& f = *self;
      f.waits_at = &m;
      f.waits_for = round;
      f.where = where;
      leave();
      f.waits_at = nullptr;
    }
    if (orders_memory) acquire(&m.order[round % 2]);
  }

  Meeting& warp(unsigned mask) {
    const unsigned bit = 1u << (self->linear % 32);
    Meeting& m = self->block->warps[self->linear / 32][mask];
    if (!(mask & bit)) throw Fault("a lane outside the mask joins its warp");
    if (m.lanes & bit) throw Fault("a lane joins its warp twice");
    m.lanes |= bit;
    return m;
  }
};

}  // namespace

void run(dim3 grid, dim3 block, std::size_t shared, bool cooperative, const std::function<void()>& body) {
  const Unwatched guard;
  Grid g(grid, block, shared, cooperative, body);
  const unsigned threads = g.threads();
  if (threads == 0 || threads > 1024) throw Fault("a block has 1 to 1024 threads");
  if (shared > 227 * 1024) throw Fault("a block has at most 227 KiB of shared memory");
  if (running) throw Fault("a kernel runs already");
  running = &g;
  current.grid_dim = grid;
  current.block_dim = block;
  std::vector<unsigned> order(std::size_t{grid.x} * grid.y * grid.z);
  for (unsigned i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), g.random);
  release(&g.started);
  try {
    if (cooperative)
      g.run_blocks(order);
    else
      for (const unsigned id : order) g.run_blocks({id});
  } catch (...) {
    // Fibers that still wait are given up, with what is on their stacks.
    for (auto& f : Grid::pool()) (void)f.release();
    Grid::pool().clear();
    running = nullptr;
    throw;
  }
  acquire(&g.finished);
  running = nullptr;
}

namespace emulator {

// Instrumented code must not see `current` change under it.
[[gnu::no_sanitize_thread, gnu::noinline]] Coordinates here() { return current; }
[[gnu::no_sanitize_thread, gnu::noinline]] unsigned lane() { return running->self->linear % 32; }

void block_barrier(Where where) {
  const Unwatched guard;
  Block& b = *running->self->block;
  running->meet(b.barrier, b.live, true, where);
}
void grid_barrier(Where where) {
  const Unwatched guard;
  if (!running->cooperative) throw Fault("a grid that is not cooperative has no barrier");
  running->meet(running->barrier, running->live, true, where);
}
void warp_barrier(unsigned mask, Where where) {
  const Unwatched guard;
  running->meet(running->warp(mask), static_cast<unsigned>(std::popcount(mask)), true, where);
}
void exchange(unsigned mask, const void* mine, void* all, std::size_t size, Where where) {
  const Unwatched guard;
  Meeting& m = running->warp(mask);
  auto& brought = m.brought[m.round % 2];
  std::memcpy(brought[running->self->linear % 32], mine, size);
  running->meet(m, static_cast<unsigned>(std::popcount(mask)), false, where);
  for (unsigned i = 0; i < 32; ++i)
    if ((mask >> i) & 1) std::memcpy(static_cast<std::byte*>(all) + i * size, brought[i], size);
}

void* shared(const void* tag, std::size_t bytes) {
  const Unwatched guard;
  return running->self->block->shared.try_emplace(tag, bytes).first->second.data.get();
}
void* dynamic_shared() {
  const Unwatched guard;
  return running->self->block->dynamic.data.get();
}

void copy_async(void* to, const void* from) {
  const Unwatched guard;
  running->self->copies.back().push_back({to, from});
}
void copy_commit() {
  const Unwatched guard;
  running->self->copies.emplace_back();
}
void copy_wait(std::size_t open) {
  for (;;) {
    std::vector<Copy> group;
    {
      const Unwatched guard;
      auto& copies = running->self->copies;
      if (copies.size() <= open + 1) return;
      group = std::move(copies.front());
      copies.pop_front();
    }
    for (const Copy& c : group) *static_cast<float4*>(c.to) = *static_cast<const float4*>(c.from);
  }
}

}  // namespace emulator
}  // namespace deepstruct::simt
