// Copies to the device through pinned memory, so that the host waits for none: what comes from anywhere else is read
// when the device gets there, or makes the driver wait for all before it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <vector>

namespace deepstruct::runtime {

/// Pinned blocks in a ring: a copy fills the oldest ones, as many as it needs, and waits only where the device still
/// reads one. Thread-safe. A Driver has
///   char* pin(bytes);                          memory that the device can read
///   void copy(to, from, bytes, stream);        in the order of the stream
///   Mark mark(stream, Mark old); wait(mark)    a point in the stream that old, no longer needed, may serve again;
///   waits until it has come
template <class Driver>
class Staging {
 public:
  Staging(std::size_t block_bytes, std::size_t blocks, Driver driver = {})
      : block_bytes_(block_bytes), blocks_(blocks), driver_(std::move(driver)) {}

  /// Bytes of a block.
  std::size_t block_bytes() const { return block_bytes_; }
  /// to ← from; all of `from` has been read when this returns.
  void copy(void* to, const void* from, std::size_t bytes, void* stream) {
    std::lock_guard lock(mutex_);
    for (std::size_t first = 0; first < bytes; first += block_bytes_) {
      const std::size_t n = std::min(block_bytes_, bytes - first);
      Block& block = blocks_[next_];
      if (!block.memory)
        block.memory = driver_.pin(block_bytes_);
      else
        driver_.wait(block.read);
      std::memcpy(block.memory, static_cast<const char*>(from) + first, n);
      driver_.copy(static_cast<char*>(to) + first, block.memory, n, stream);
      block.read = driver_.mark(stream, block.read);
      next_ = (next_ + 1) % blocks_.size();
    }
  }

 private:
  struct Block {
    char* memory = nullptr;
    typename Driver::Mark read{};
  };

  std::mutex mutex_;
  std::size_t block_bytes_;
  std::vector<Block> blocks_;
  std::size_t next_ = 0;
  Driver driver_;
};

}  // namespace deepstruct::runtime
