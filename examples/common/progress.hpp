// Progress: a line that is redrawn on a terminal, and one plain line per epoch everywhere.
#pragma once

#include "numbers.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace examples {

/// On a terminal: `label ━━━━━━───── 62 %  text  0:12 left` on one line of stderr, redrawn ten times a second at most
/// and wiped at the end. Elsewhere only what line() is given. Nothing at all if `quiet`. For one thread.
class Progress {
 public:
  /// Watches stderr, or another file descriptor.
  explicit Progress(bool quiet = false, int fd = STDERR_FILENO) : fd_(fd), quiet_(quiet) {
    const char* kind = std::getenv("TERM");
    live_ = !quiet && isatty(fd) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
    for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
      const char* value = std::getenv(name);
      if (value == nullptr || *value == '\0') continue;
      const std::string_view locale(value);
      unicode_ = locale.find("UTF-8") != std::string_view::npos || locale.find("utf8") != std::string_view::npos;
      break;
    }
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Leaves the terminal as it was.
  ~Progress() { clear(); }

  /// Starts a bar: `label` in front, the time counts from now.
  void begin(std::string_view label) {
    label_ = label;
    begun_ = Clock::now();
    drawn_ = {};
  }
  /// Shows `done` of `total`, and `text` such as the loss behind the bar. Cheap enough for each step.
  void update(std::int64_t done, std::int64_t total, std::string_view text = "") {
    const Clock::time_point now = Clock::now();
    if (!live_ || (drawn_ != Clock::time_point{} && done < total && now - drawn_ < std::chrono::milliseconds(100)))
      return;
    drawn_ = now;
    const double part = total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0) : 0;
    const double seconds = std::chrono::duration<double>(now - begun_).count();
    std::string tail = " " + fixed(100 * part, 0) + " %";
    if (!text.empty()) tail += "  " + std::string(text);
    if (part > 0 && part < 1 && seconds > 1) tail += "  " + clock(seconds * (1 - part) / part) + " left";
    const std::size_t columns = width();
    const std::size_t used = label_.size() + 1 + tail.size() + 1;
    const std::size_t bar = used + 8 <= columns ? std::min<std::size_t>(columns - used, 32) : 0;
    std::string line = label_;
    if (bar > 0)
      line += " " + drawn(part, bar) + tail;
    else
      line = (label_ + tail).substr(0, columns - 1);  // too narrow for a bar; never wraps
    put("\r\x1b[2K" + line);
    shown_ = true;
  }
  /// Prints a line that stays, such as the result of an epoch.
  void line(std::string_view text) {
    if (quiet_) return;
    clear();
    put(std::string(text) + "\n");
  }
  /// Wipes the redrawn line.
  void clear() {
    if (shown_) put("\r\x1b[2K");
    shown_ = false;
  }
  /// Whether there is a terminal to redraw on.
  bool live() const { return live_; }

 private:
  using Clock = std::chrono::steady_clock;

  std::string drawn(double part, std::size_t bar) const {
    const auto full = static_cast<std::size_t>(part * static_cast<double>(bar) + 0.5);
    std::string s = unicode_ ? "\x1b[34m" : "[";
    for (std::size_t i = 0; i < bar; ++i) {
      if (i == full && unicode_) s += "\x1b[0m\x1b[2m";
      s += i < full ? (unicode_ ? "━" : "=") : (unicode_ ? "─" : " ");
    }
    return s + (unicode_ ? "\x1b[0m" : "]");
  }
  static std::string clock(double seconds) {
    const auto s = static_cast<long>(std::min(seconds, 359999.0));
    const std::string rest = std::to_string(s % 60);
    return std::to_string(s / 60) + (rest.size() < 2 ? ":0" : ":") + rest;
  }
  /// Columns of the terminal, at least 20.
  std::size_t width() const {
    winsize size{};
    return ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? std::max<std::size_t>(size.ws_col, 20) : 80;
  }
  /// All bytes in as few writes as possible, so that other output does not fall in between.
  void put(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t n = ::write(fd_, text.data(), text.size());
      if (n <= 0) return;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  int fd_;
  bool quiet_ = false, live_ = false, unicode_ = false, shown_ = false;
  std::string label_;
  Clock::time_point begun_ = Clock::now(), drawn_{};
};

}  // namespace examples
