// parallel_for: the only way the library uses threads, on a small pool that spins briefly and then waits.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "device.hpp"

namespace deepstruct {

namespace detail {

/// A callable by reference: a pointer and a trampoline, so that entering threads allocates nothing.
struct PartFunction {
  void* callable = nullptr;
  void (*call)(void*, std::int64_t) = nullptr;
  void operator()(std::int64_t part) const { call(callable, part); }
};

/// Waits until `value` differs from `old`: spins for some 100 µs, longer than the serial part of a training step, then
/// sleeps (to wake up costs 50 µs).
inline void spin_then_wait(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (int spin = 0; spin < 8000; ++spin) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause_core();
    if (spin % 256 == 255) std::this_thread::yield();  // somebody else may need this core
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

/// Worker threads that run one job at a time; the thread that posts a job works on it too.
class ThreadPool {
 public:
  [[gnu::noinline]] static ThreadPool& instance() {
    static ThreadPool pool;
    return pool;
  }

  int threads() const { return threads_.load(std::memory_order_relaxed); }

  void resize(int threads) {
    check(threads >= 1 && threads <= 1024, "set_num_threads: need 1 to 1024 threads (", threads, ")");
    check(!inside_part, "set_num_threads: not from inside a part of parallel_for (", threads, ")");
    std::lock_guard lock(busy_);
    stop_workers();
    threads_ = threads;
  }

  /// Runs f(0) … f(parts − 1), each once, and returns when all are done. Rethrows the first exception.
  void run(std::int64_t parts, PartFunction f) {
    const int helpers = static_cast<int>(std::min<std::int64_t>(parts, threads()) - 1);
    // Inside a part, and while another thread owns the workers, the work is done in place: never a deadlock.
    if (helpers <= 0 || inside_part || !busy_.try_lock()) {
      for (std::int64_t part = 0; part < parts; ++part) f(part);
      return;
    }
    std::lock_guard lock(busy_, std::adopt_lock);
    while (static_cast<int>(workers_.size()) < helpers) {
      workers_.push_back(std::make_unique<Worker>(*this, static_cast<int>(workers_.size()) + 1));
      share_ = std::make_unique<Share[]>(workers_.size() + 1);
    }
    job_ = f;
    shares_ = helpers + 1;
    for (int k = 0; k < shares_; ++k) {
      share_[k].next.store(parts * k / shares_, std::memory_order_relaxed);
      share_[k].end = parts * (k + 1) / shares_;
    }
    failure_ = nullptr;
    state_.store(open, std::memory_order_release);
    for (int k = 0; k < helpers; ++k) workers_[k]->wake();
    work(0);
    // Closed now: helpers that are still waking up are not waited for, they find nothing to enter.
    for (std::uint32_t left = state_.fetch_and(~open, std::memory_order_acq_rel) & ~open; left != 0;
         left = state_.load(std::memory_order_acquire))
      spin_then_wait(state_, left);
    if (failure_) std::rethrow_exception(failure_);
  }

  ~ThreadPool() { stop_workers(); }

 private:
  struct Worker {
    Worker(ThreadPool& pool, int number)
        : thread([this, &pool, number](std::stop_token stop) { loop(pool, number, stop); }) {}
    ~Worker() {
      thread.request_stop();
      wake();
    }
    void wake() {
      tickets.fetch_add(1, std::memory_order_release);
      tickets.notify_one();
    }
    void loop(ThreadPool& pool, int number, std::stop_token stop) {
      for (std::uint32_t seen = 0;; ++seen) {
        spin_then_wait(tickets, seen);
        if (stop.stop_requested()) return;
        if (!pool.enter()) continue;
        pool.work(number);
        if (pool.state_.fetch_sub(helper, std::memory_order_acq_rel) == helper) pool.state_.notify_one();
      }
    }
    std::atomic<std::uint32_t> tickets = 0;
    std::jthread thread;  // last member: it starts after, and joins before, the rest
  };

  ThreadPool() {
    const char* setting = std::getenv("DEEPSTRUCT_THREADS");
    const int wanted = setting ? std::atoi(setting) : static_cast<int>(std::thread::hardware_concurrency());
    threads_ = std::clamp(wanted, 1, 1024);
  }

  /// Parts of one thread, in order: the same thread works on the same share of every loop, whose data its caches hold.
  struct alignas(64) Share {
    std::atomic<std::int64_t> next = 0;
    std::int64_t end = 0;
  };

  /// The parts of the own share, then what is left of the others.
  void work(int own) {
    inside_part = true;
    for (int k = 0; k < shares_; ++k) {
      Share& share = share_[(own + k) % shares_];
      for (std::int64_t part; (part = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) {
        try {
          job_(part);
        } catch (...) {
          std::lock_guard lock(failure_mutex_);
          if (!failure_) failure_ = std::current_exception();
        }
      }
    }
    inside_part = false;
  }

  /// Makes the calling worker one of the helpers of the job, unless that is closed.
  bool enter() {
    std::uint32_t state = state_.load(std::memory_order_relaxed);
    while (state & open)
      if (state_.compare_exchange_weak(state, state + helper, std::memory_order_acquire)) return true;
    return false;
  }

  void stop_workers() { workers_.clear(); }

  static constexpr std::uint32_t open = 1, helper = 2;

  static inline thread_local bool inside_part = false;
  std::mutex busy_;
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
  PartFunction job_;
  int shares_ = 0;
  std::unique_ptr<Share[]> share_;
  std::atomic<std::uint32_t> state_ = 0;  // open while there may be parts left, plus 2 for every helper at work
  std::atomic<int> threads_ = 1;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace detail

/// Number of threads that parallel_for uses: the cores of the machine, DEEPSTRUCT_THREADS, or set_num_threads.
inline int num_threads() { return detail::ThreadPool::instance().threads(); }

/// Sets the number of threads, 1 to 1024. Results never depend on it (DESIGN: every output entry belongs to one part).
inline void set_num_threads(int threads) { detail::ThreadPool::instance().resize(threads); }

/// Calls f(part) for part = 0 … parts − 1, on any threads, in any order; returns when all are done.
/// Nested calls run in place. Exceptions of f are rethrown (the first one).
template <class F>
void parallel_for(std::int64_t parts, F&& f) {
  if (parts <= 0) return;
  if (parts == 1) return f(std::int64_t{0});
  using Function = std::remove_reference_t<F>;
  detail::ThreadPool::instance().run(
      parts, {const_cast<void*>(static_cast<const void*>(&f)),
              [](void* callable, std::int64_t part) { (*static_cast<Function*>(callable))(part); }});
}

/// Splits [0, n) into blocks of `grain` and calls f(first, last) for each, in parallel. The split depends on n and
/// grain only.
template <class F>
void parallel_blocks(std::int64_t n, std::int64_t grain, F&& f) {
  const std::int64_t blocks = (n + grain - 1) / grain;
  parallel_for(blocks, [&](std::int64_t block) { f(block * grain, std::min(n, (block + 1) * grain)); });
}

}  // namespace deepstruct
