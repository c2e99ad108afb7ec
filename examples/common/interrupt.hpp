// Interrupt: Ctrl-C as a std::stop_token, so that a run ends cleanly; a second Ctrl-C ends it at once.
#pragma once

#include <deepstruct/core/error.hpp>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace examples {

namespace detail {

/// What the signal handler may touch: lock-free atomics only.
struct SignalState {
  std::atomic<int> pipe = -1;   ///< write end
  std::atomic<int> signal = 0;  ///< the first that came
};
static_assert(std::atomic<int>::is_always_lock_free);

inline SignalState signal_state;

/// First call: one byte into the pipe. Second call: the signal's default, which ends the process with its usual status.
extern "C" inline void examples_on_signal(int number) {
  const int saved = errno;
  int none = 0;
  if (signal_state.signal.compare_exchange_strong(none, number)) {
    const char byte = 's';
    [[maybe_unused]] const ssize_t n = ::write(signal_state.pipe.load(), &byte, 1);
  } else {
    ::signal(number, SIG_DFL);
    ::raise(number);
  }
  errno = saved;
}

}  // namespace detail

/// While it lives, the first SIGINT or SIGTERM requests a stop; the old handlers come back at its end. One at a time.
class Interrupt {
 public:
  /// Takes over both signals; `notice` goes to stderr when the first one comes ("" for none).
  explicit Interrupt(std::string notice = "stopping after this step; Ctrl-C again exits at once")
      : notice_(std::move(notice)) {
    deepstruct::check(detail::signal_state.pipe.load() < 0, "interrupt: there can be only one at a time (2)");
    deepstruct::check(::pipe(ends_) == 0, "interrupt: cannot create a pipe (errno ", errno, ")");
    for (const int end : ends_) ::fcntl(end, F_SETFD, FD_CLOEXEC);
    detail::signal_state.signal = 0;
    detail::signal_state.pipe = ends_[1];
    watcher_ = std::jthread([this] { watch(); });
    struct sigaction action {};
    action.sa_handler = detail::examples_on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGINT, &action, &old_int_);
    ::sigaction(SIGTERM, &action, &old_term_);
  }
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  /// Puts back what handled the signals before.
  ~Interrupt() {
    ::sigaction(SIGINT, &old_int_, nullptr);
    ::sigaction(SIGTERM, &old_term_, nullptr);
    const char byte = 'q';
    [[maybe_unused]] const ssize_t n = ::write(ends_[1], &byte, 1);
    watcher_.join();
    detail::signal_state.pipe = -1;
    for (const int end : ends_) ::close(end);
  }

  /// Becomes stop_requested() within microseconds of the signal.
  std::stop_token token() const { return source_.get_token(); }
  /// Whether a signal came.
  bool requested() const { return source_.stop_requested(); }
  /// What main should return after a stop: 130 for SIGINT, 143 for SIGTERM; 0 if none came.
  int exit_code() const {
    const int number = detail::signal_state.signal.load();
    return number == 0 ? 0 : 128 + number;
  }

 private:
  /// Turns the byte into a stop request, where locks are allowed.
  void watch() {
    char byte = 0;
    ssize_t n = 0;
    while ((n = ::read(ends_[0], &byte, 1)) < 0 && errno == EINTR) {
    }
    if (n != 1 || byte != 's') return;
    source_.request_stop();
    if (notice_.empty()) return;
    const std::string line = (::isatty(STDERR_FILENO) == 1 ? "\r\x1b[2K" : "") + notice_ + "\n";
    n = ::write(STDERR_FILENO, line.data(), line.size());
  }

  std::string notice_;
  int ends_[2] = {-1, -1};
  struct sigaction old_int_ {
  }, old_term_{};
  std::stop_source source_;
  std::jthread watcher_;
};

}  // namespace examples
