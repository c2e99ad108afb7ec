// What captured work has beside its kernels, whatever captures it: memory of its own, memory that it keeps alive, and
// where it draws from.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "runtime.hpp"

namespace deepstruct::runtime {

/// Memory in the order of no stream, but at hand for all when the call returns. Bodies: runtime.cu, and
/// tests/simt/runtime.cpp for the emulator.
void* allocate_apart(std::size_t bytes, Place place);

/// The blocks of one capture. A block that is given back is free for the same capture only; when the arena dies, free
/// blocks go, and the others are those of whoever holds them.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    std::vector<void*> gone;
    {
      std::lock_guard lock(all().mutex);
      for (auto it = all().block.begin(); it != all().block.end();) {
        if (it->second.owner != this) {
          ++it;
        } else if (it->second.free) {
          gone.push_back(it->first);
          it = all().block.erase(it);
          --all().count;
        } else {
          it++->second.owner = nullptr;
        }
      }
    }
    // In the order of the current stream: what is there may read it still.
    for (void* memory : gone) release(memory, current_stream);
    for (void* memory : kept_) release(memory, current_stream);
  }

  /// At least `bytes`: of the free blocks the smallest that fits and is no more than a quarter too large, else a new
  /// one.
  void* take(std::size_t bytes, Place place) {
    const std::size_t want = (std::max<std::size_t>(bytes, 1) + 255) / 256 * 256;
    {
      std::lock_guard lock(all().mutex);
      Block* best = nullptr;
      void* memory = nullptr;
      for (auto& [at, block] : all().block)
        if (block.owner == this && block.free && block.bytes >= want && block.bytes <= want + want / 4 &&
            (!best || block.bytes < best->bytes || (block.bytes == best->bytes && block.number < best->number)))
          best = &block, memory = at;
      if (best) {
        best->free = false;
        return memory;
      }
    }
    void* memory = allocate_apart(want, place);
    std::lock_guard lock(all().mutex);
    all().block.emplace(memory, Block{this, want, blocks_++, false});
    ++all().count;
    return memory;
  }
  /// Memory that is no arena's, to be freed with this one.
  void keep(void* memory) { kept_.push_back(memory); }

  /// Gives a block back to its arena, or tells that this memory has none.
  static bool give(void* memory) noexcept {
    if (all().count.load(std::memory_order_relaxed) == 0) return false;
    std::lock_guard lock(all().mutex);
    const auto found = all().block.find(memory);
    if (found == all().block.end()) return false;
    if (found->second.owner) return found->second.free = true;
    all().block.erase(found);  // its arena is dead
    --all().count;
    return false;
  }

 private:
  struct Block {
    Arena* owner;  // null once that is dead
    std::size_t bytes, number;
    bool free;
  };
  /// The blocks of all arenas that live, or have a block that does.
  struct Blocks {
    std::mutex mutex;
    std::unordered_map<void*, Block> block;
    std::atomic<std::size_t> count = 0;
  };
  static Blocks& all() {
    static Blocks& blocks = *new Blocks;  // never destroyed: static tensors may outlive it
    return blocks;
  }

  std::vector<void*> kept_;
  std::size_t blocks_ = 0;
};

/// Where captured work draws from.
class CapturedDraws {
 public:
  CapturedDraws(Draw first, Place place)
      : first_(first), on_device_(static_cast<Draw*>(allocate_apart(sizeof(Draw), place))) {}
  CapturedDraws(const CapturedDraws&) = delete;
  CapturedDraws& operator=(const CapturedDraws&) = delete;
  ~CapturedDraws() { release(on_device_, current_stream); }

  /// A draw counted from the first one. Throws on a draw of another generator, or from before.
  KernelDraw drawn(Draw draw, Place place) {
    check(draw.seed == first_.seed && draw.number >= first_.number, place.op,
          ": captured work draws from one generator, from its next draw on (draw ", draw.number, " of seed ", draw.seed,
          ", next is draw ", first_.number, " of seed ", first_.seed, ")");
    count_ = std::max(count_, draw.number - first_.number + 1);
    return {{draw.seed, draw.number - first_.number}, on_device_};
  }
  std::uint64_t count() const { return count_; }
  /// What the launch that follows draws from.
  void begin(Draw first, void* stream, Place place) {
    if (count_ > 0) copy_to_device(on_device_, &first, sizeof first, stream, place);
  }

 private:
  Draw first_;
  Draw* on_device_;
  std::uint64_t count_ = 0;
};

/// While it lives, this thread captures.
class CapturingGuard {
 public:
  explicit CapturingGuard(CapturedWork* work) { capturing = work; }
  ~CapturingGuard() { capturing = nullptr; }
  CapturingGuard(const CapturingGuard&) = delete;
  CapturingGuard& operator=(const CapturingGuard&) = delete;
};

/// What is not done while work is captured: the host would wait for what does not happen.
inline void refuse_capture(Place place) {
  check(!capturing, place.op, ": captured work must not wait for the device (", place.at.file_name(), ":",
        place.at.line(), ")");
}
inline void check_not_capturing(Place place) {
  check(!capturing, place.op, ": this thread captures already (", place.at.file_name(), ":", place.at.line(), ")");
}

}  // namespace deepstruct::runtime
