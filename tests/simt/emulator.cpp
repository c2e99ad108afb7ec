// The emulator's inside: fibers, meetings, and what the sanitizers are told of them.
#include "emulator.hpp"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
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

/// Where a fiber, or the host, goes on: its registers, on its stack or in a context of the system's.
#if defined(__x86_64__)
struct Context {
  void* stack_pointer = nullptr;
};
// swapcontext asks the kernel for the signal mask each time, which is three quarters of the time of a test.
asm(R"(
.text
.p2align 4
deepstruct_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
extern "C" void deepstruct_simt_switch(void** from, void* to);
void change(Context& from, Context& to) { deepstruct_simt_switch(&from.stack_pointer, to.stack_pointer); }
void prepare(Context& c, std::byte* stack, std::size_t size, void (*entry)()) {
  auto* top = reinterpret_cast<void**>(reinterpret_cast<std::uintptr_t>(stack + size) / 16 * 16);
  *--top = nullptr;                         // where entry would return to
  *--top = reinterpret_cast<void*>(entry);  // what the switch returns to
  for (int k = 0; k < 6; ++k) *--top = nullptr;
  c.stack_pointer = top;
}
#else
struct Context {
  ucontext_t system{};
};
void change(Context& from, Context& to) { swapcontext(&from.system, &to.system); }
void prepare(Context& c, std::byte* stack, std::size_t size, void (*entry)()) {
  getcontext(&c.system);
  c.system.uc_stack.ss_sp = stack;
  c.system.uc_stack.ss_size = size;
  c.system.uc_link = nullptr;
  makecontext(&c.system, entry, 0);
}
#endif

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
  Context context{};
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
  Context host{};
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
      prepare(f->context, f->stack.get(), Fiber::stack_bytes, [] { live_on(); });
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
    change(host, f.context);
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
    change(f.context, host);
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

namespace {

float cut_off(double v) {
  const float near = static_cast<float>(v);
  return std::fabs(double{near}) > std::fabs(v) ? std::nextafter(near, 0.0f) : near;
}
float tensor_sum(const std::array<double, 9>& addends) {
  double greatest = 0, sum = 0;
  bool finite = true;
  for (const double v : addends) {
    finite = finite && std::isfinite(v);
    greatest = std::max(greatest, std::fabs(v));
    sum += v;
  }
  if (!finite) return static_cast<float>(sum);
  if (greatest == 0) return 0;
  const double unit = std::ldexp(1.0, std::ilogb(greatest) - 24);
  sum = 0;
  for (const double v : addends) sum += std::trunc(v / unit);
  return cut_off(sum * unit);
}
double tf32(float x) { return double{std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & 0xffffe000u)}; }

}  // namespace

void mma_tf32(float (&c)[4], const float (&a)[4], const float (&b)[2], Where where) {
  const Votes<std::array<float, 4>> as(0xffffffffu, {a[0], a[1], a[2], a[3]}, where);
  const Votes<std::array<float, 2>> bs(0xffffffffu, {b[0], b[1]}, where);
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane() / 4, upper = i / 2, column = lane() % 4 * 2 + i % 2;
    std::array<double, 9> addends{};
    for (unsigned k = 0; k < 8; ++k)
      addends[k] = tf32(as.of[row * 4 + k % 4][upper + k / 4 * 2]) * tf32(bs.of[column * 4 + k % 4][k / 4]);
    addends[8] = double{c[i]};
    c[i] = tensor_sum(addends);
  }
}

namespace {

/// What is allocated, by address.
std::map<const std::byte*, std::size_t>& allocations() {
  static auto& all = *new std::map<const std::byte*, std::size_t>;
  return all;
}
std::mutex memory_mutex;

#if defined(__SANITIZE_ADDRESS__)
void* take(std::size_t bytes) {
  void* memory = nullptr;
  return posix_memalign(&memory, 256, bytes) == 0 ? memory : nullptr;
}
void give(void* memory, std::size_t) { std::free(memory); }
void protect(int) {}
#else
/// One range of addresses, so that one call closes it.
struct Arena {
  static constexpr std::size_t size = std::size_t{4} << 30;
  std::byte* base;
  std::size_t used = 0;
  std::map<std::size_t, std::vector<std::byte*>> free;  ///< by size
  Arena()
      : base(static_cast<std::byte*>(mmap(nullptr, size, shut ? PROT_NONE : PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {}
};
Arena& arena() {
  static auto& one = *new Arena;
  return one;
}
std::size_t rounded(std::size_t bytes) { return std::bit_ceil(std::max<std::size_t>(bytes, 256)); }
void* take(std::size_t bytes) {
  const std::size_t size = rounded(bytes);
  auto& free = arena().free[size];
  if (!free.empty()) {
    std::byte* memory = free.back();
    free.pop_back();
    return memory;
  }
  if (arena().base == MAP_FAILED || arena().used + size > Arena::size) return nullptr;
  arena().used += size;
  return arena().base + arena().used - size;
}
void give(void* memory, std::size_t bytes) { arena().free[rounded(bytes)].push_back(static_cast<std::byte*>(memory)); }
void protect(int how) {
  const std::size_t pages = (arena().used + 4095) / 4096 * 4096;
  if (pages && shut) mprotect(arena().base, pages, how);
}
#endif
int opened = 0;

}  // namespace

void* allocate(std::size_t bytes) {
  const Unwatched guard;
  const Opened open;  // before the range grows and after
  std::lock_guard lock(memory_mutex);
  auto* memory = static_cast<std::byte*>(take(bytes ? bytes : 1));
  if (!memory) return nullptr;
  protect(PROT_READ | PROT_WRITE);
  std::memset(memory, 0xff, bytes);
  allocations().emplace(memory, bytes ? bytes : 1);
  return memory;
}
void release(void* memory) noexcept {
  const Unwatched guard;
  std::lock_guard lock(memory_mutex);
  const auto at = allocations().find(static_cast<const std::byte*>(memory));
  if (at == allocations().end()) return;
  give(memory, at->second);
  allocations().erase(at);
}
Opened::Opened() {
  std::lock_guard lock(memory_mutex);
  if (opened++ == 0) protect(PROT_READ | PROT_WRITE);
}
Opened::~Opened() {
  std::lock_guard lock(memory_mutex);
  if (--opened == 0) protect(PROT_NONE);
}
void check_argument(const void* argument, std::size_t size) {
  const Unwatched guard;
  std::lock_guard lock(memory_mutex);
  for (std::size_t at = 0; at + sizeof(std::uintptr_t) <= size; at += sizeof(std::uintptr_t)) {
    std::uintptr_t word;
    std::memcpy(&word, static_cast<const std::byte*>(argument) + at, sizeof word);
    if (word < 0x10000000000 || word > 0x7fffffffffff) continue;  // a number; programs lie higher
    const auto* address = reinterpret_cast<const std::byte*>(word);
    auto next = allocations().upper_bound(address);
    if (next != allocations().begin() && address <= std::prev(next)->first + std::prev(next)->second) continue;
    // Padding between members may hold anything, but seldom an address at which there is memory.
    if (msync(reinterpret_cast<void*>(word / 4096 * 4096), 1, MS_ASYNC) == 0)
      throw Fault("a kernel is given the address of what is not memory of the device");
  }
}

}  // namespace emulator
}  // namespace deepstruct::simt
