// Memory: one caching pool of 64-byte aligned blocks for tensors, tape nodes and their containers.
//
// What every op does on every way out of it is out of line here and in Shape, Tensor, Mask, Var and Param: one copy of
// each instead of some 600 makes a first program compile in 6.9 s instead of 7.7 s, and costs a training step of 57 µs
// (784-300-100-10, density 0.01, batch 128) 1 µs.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime.hpp"

namespace deepstruct {

/// Keeps freed blocks by size class, so that a training loop in its third step asks the system for nothing.
///
/// Thread-safe. The environment variable DEEPSTRUCT_POOL=off disables caching (for memory checkers).
class BufferPool {
 public:
  [[gnu::noinline]] static BufferPool& instance() {
    static BufferPool& pool = *new BufferPool;  // never destroyed: static tensors may outlive any static pool
    return pool;
  }

  /// A 64-byte aligned block of at least `bytes`.
  [[gnu::noinline]] void* take(std::size_t bytes) {
    const int c = size_class(bytes);
    {
      std::lock_guard lock(mutex_);
      if (Block* block = free_[c]) {
        free_[c] = block->next;
        return block;
      }
    }
    system_calls_.fetch_add(1, std::memory_order_relaxed);
    return ::operator new(class_bytes(c), alignment);
  }

  /// Gives back a block that take(bytes) returned.
  [[gnu::noinline]] void give(void* memory, std::size_t bytes) noexcept {
    if (!caching_) return ::operator delete(memory, alignment);
    const int c = size_class(bytes);
    std::lock_guard lock(mutex_);
    free_[c] = ::new (memory) Block{free_[c]};
  }

  /// Returns every cached block to the system.
  void trim() noexcept {
    std::lock_guard lock(mutex_);
    for (Block*& head : free_)
      while (head) ::operator delete(std::exchange(head, head->next), alignment);
  }

  /// How often take() had to ask the system so far.
  std::size_t system_calls() const { return system_calls_.load(std::memory_order_relaxed); }

 private:
  struct Block {
    Block* next;
  };
  static constexpr std::align_val_t alignment{64};
  static constexpr int classes = 4 * 64;

  BufferPool() {
    const char* setting = std::getenv("DEEPSTRUCT_POOL");
    caching_ = !(setting && std::string_view(setting) == "off");
  }

  // Four classes per power of two from 64 bytes on: at most 25 % of a block is unused.
  static int size_class(std::size_t bytes) {
    const std::size_t lines = std::max<std::size_t>((bytes + 63) / 64, 1);
    if (lines <= 4) return static_cast<int>(lines) - 1;
    const int octave = static_cast<int>(std::bit_width(lines - 1)) - 3;  // lines - 1 in [4·2^octave, 8·2^octave)
    return 4 + 4 * octave + static_cast<int>(((lines - 1) >> octave) - 4);
  }
  static std::size_t class_bytes(int c) {
    if (c < 4) return 64 * static_cast<std::size_t>(c + 1);
    return 64 * ((static_cast<std::size_t>(c % 4) + 5) << (c / 4 - 1));
  }

  std::mutex mutex_;
  std::array<Block*, classes> free_{};
  std::atomic<std::size_t> system_calls_ = 0;
  bool caching_ = true;
};

/// Allocator over the pool, for the containers that a training step makes.
template <class T>
struct PoolAllocator {
  using value_type = T;
  PoolAllocator() = default;
  template <class U>
  PoolAllocator(const PoolAllocator<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(BufferPool::instance().take(n * sizeof(T))); }
  void deallocate(T* p, std::size_t n) noexcept { BufferPool::instance().give(p, n * sizeof(T)); }
  template <class U>
  friend bool operator==(const PoolAllocator&, const PoolAllocator<U>&) {
    return true;
  }
};

/// A vector whose memory comes from the pool.
template <class T>
using pool_vector = std::vector<T, PoolAllocator<T>>;

/// While true, new storage is filled with NaN: a test's way to see reads of padding and entries a kernel forgot to
/// write.
inline std::atomic<bool> poison_new_storage = false;

inline namespace DEEPSTRUCT_BACKENDS {

/// Waits until the device has done what this thread asked of it in the current stream; at once on the CPU.
inline void finish(Device device) {
  if constexpr (has_cuda)
    if (device == Device::cuda) runtime::synchronize(runtime::current_stream, "finish");
  if (!has_cuda && device != Device::cpu) fail_without_cuda("finish");
}

/// Uninitialised storage of n elements of trivial type T on one device, 64-byte aligned; copies deeply. A whole 64-byte
/// vector may be loaded from every element, also the last, and stored in whole lines. On a GPU memory is taken, copied
/// and given back in the order of the current stream.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  [[gnu::noinline]] explicit Buffer(std::size_t n, Device device = Device::cpu) : size_(n), device_(device) {
    if (n == 0) return;
    if constexpr (has_cuda)
      if (device == Device::cuda) {
        data_ = static_cast<T*>(runtime::allocate(bytes(), runtime::current_stream, "Buffer"));
        return;
      }
    if (!has_cuda && device != Device::cpu) fail_without_cuda("Buffer");
    data_ = static_cast<T*>(BufferPool::instance().take(bytes()));
    if (poison_new_storage.load(std::memory_order_relaxed)) std::memset(static_cast<void*>(data_), 0xFF, bytes());
  }
  /// A copy of n elements in host memory, on a device.
  Buffer(const T* host, std::size_t n, Device device) : Buffer(n, device) { copy(data_, host, n, device, Way::in); }
  [[gnu::noinline]] Buffer(const Buffer& other) : Buffer(other.size_, other.device_) {
    copy(data_, other.data_, size_, device_, Way::within);
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), device_(other.device_) {}
  Buffer& operator=(Buffer other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(device_, other.device_);
    return *this;
  }
  [[gnu::noinline]] ~Buffer() {
    if (!data_) return;
    if (has_cuda && device_ == Device::cuda)
      release_on_gpu();
    else
      BufferPool::instance().give(data_, bytes());
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  Device device() const { return has_cuda ? device_ : Device::cpu; }

  /// The same elements on a device.
  Buffer on_device(Device device) const {
    if (device == device_) return *this;
    if (device_ == Device::cpu) return Buffer(data_, size_, device);
    Buffer host(size_);
    copy_to(host.data_);
    return host;
  }
  /// Copies the elements to host memory; from a GPU it waits until they have arrived.
  void copy_to(T* host) const { copy(host, data_, size_, device_, Way::out); }
  /// Copies the elements of a buffer of the same size, wherever it is, to where these are.
  void assign(const Buffer& other) {
    if (other.device_ == device_)
      copy(data_, other.data_, size_, device_, Way::within);
    else if (device_ == Device::cpu)
      other.copy_to(data_);
    else
      copy(data_, other.data_, size_, device_, Way::in);
  }
  /// Sets every byte to 0.
  void clear() {
    if (size_ == 0) return;
    if constexpr (has_cuda)
      if (device_ == Device::cuda) return runtime::fill(data_, 0, bytes(), runtime::current_stream, "Buffer");
    std::memset(static_cast<void*>(data_), 0, bytes());
  }

 private:
  enum class Way { in, out, within };

  std::size_t bytes() const { return (size_ * sizeof(T) + 63) / 64 * 64 + 64; }  // one line of slack for loads

  static void copy(T* to, const T* from, std::size_t n, Device device, Way way) {
    if (n == 0) return;
    if constexpr (has_cuda)
      if (device == Device::cuda) {
        void* stream = runtime::current_stream;
        if (way == Way::in) return runtime::copy_to_device(to, from, n * sizeof(T), stream, "Buffer");
        if (way == Way::within) return runtime::copy_on_device(to, from, n * sizeof(T), stream, "Buffer");
        runtime::copy_to_host(to, from, n * sizeof(T), stream, "Buffer");
        return runtime::synchronize(stream);
      }
    std::memcpy(to, from, n * sizeof(T));
  }
  void release_on_gpu() {
    if constexpr (has_cuda) runtime::release(data_, runtime::current_stream);
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
  Device device_ = Device::cpu;
};

/// A list in host memory as the kernels of a device read it: itself on the CPU, else a copy that lives as long as this.
template <class T>
class Mirror {
 public:
  Mirror(const T* list, std::size_t n, Device device) : list_(list) {
    if (device == Device::cpu) return;
    copy_ = Buffer<T>(list, n, device);
    list_ = copy_.data();
  }
  template <class List>
  Mirror(const List& list, Device device) : Mirror(list.data(), list.size(), device) {}
  Mirror(Mirror&&) noexcept = default;
  const T* data() const { return list_; }

 private:
  const T* list_;
  Buffer<T> copy_;
};

}  // namespace DEEPSTRUCT_BACKENDS

}  // namespace deepstruct
