// The little that launchers, tests and benchmarks need of a GPU runtime: memory, streams, events, launch.
//
// Two bodies: runtime.cu speaks to CUDA, tests/simt/runtime.cpp to the emulator. Nothing here needs a CUDA header
// unless nvcc compiles it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <deepstruct/core/device.hpp>

#include "simt.hpp"

namespace deepstruct::runtime {

/// Who asks the runtime for something, and from where: an operation's name, and the line that names it.
struct Place {
  const char* op;
  std::source_location at;
  Place(const char* op_, std::source_location at_ = std::source_location::current()) : op(op_), at(at_) {}  // NOLINT
};

/// What is known of a GPU; the emulator calls itself "emulator".
struct Properties {
  std::string name;
  int driver = 0;      ///< version of the driver as CUDA counts: 1000·major + 10·minor
  int processors = 0;  ///< multiprocessors
  std::size_t shared_bytes = 0, cache_bytes = 0, memory_bytes = 0;
};

/// Number of GPUs; 0 without a driver.
int device_count();
/// Of the current GPU.
Properties properties(Place place = "properties");

/// Memory on the device, in the order of the stream; uninitialised (the emulator fills it with NaN). Throws Error when
/// there is not so much.
void* allocate(std::size_t bytes, void* stream, Place place);
void release(void* memory, void* stream) noexcept;
/// Copies in the order of the stream; the host's memory must live until the stream has come so far.
void copy_to_device(void* to, const void* from, std::size_t bytes, void* stream, Place place);
void copy_to_host(void* to, const void* from, std::size_t bytes, void* stream, Place place);
/// Sets every byte.
void fill(void* to, int byte, std::size_t bytes, void* stream, Place place);
/// Waits for all that was asked of the stream; throws Error if any of it failed.
void synchronize(void* stream, Place place = "synchronize");

/// A stream of its own, freed with its owner.
class Stream {
 public:
  explicit Stream(Place place = "Stream");
  Stream(Stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Stream();
  void* get() const { return handle_; }

 private:
  void* handle_ = nullptr;
};

/// A point in a stream that time is taken at.
class Event {
 public:
  explicit Event(Place place = "Event");
  Event(Event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Event();
  void record(void* stream, Place place = "Event::record");
  /// Microseconds from `begin` to here; waits until both have happened.
  double since(const Event& begin, Place place = "Event::since") const;

 private:
  void* handle_ = nullptr;
};

/// `size` objects of trivial type T on the device.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size, void* stream = nullptr, Place place = "Buffer")
      : data_(static_cast<T*>(allocate(size * sizeof(T), stream, place))), size_(size), stream_(stream) {}
  /// A copy of `host`.
  explicit Buffer(std::span<const T> host, void* stream = nullptr, Place place = "Buffer")
      : Buffer(host.size(), stream, place) {
    copy_to_device(data_, host.data(), host.size_bytes(), stream, place);
    synchronize(stream, place);
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), stream_(other.stream_) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(stream_, other.stream_);
    return *this;
  }
  ~Buffer() {
    if (data_) release(data_, stream_);
  }

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  /// A copy on the host; waits for the stream.
  std::vector<T> to_host(Place place = "Buffer::to_host") const {
    std::vector<T> host(size_);
    copy_to_host(host.data(), data_, size_ * sizeof(T), stream_, place);
    synchronize(stream_, place);
    return host;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
  void* stream_ = nullptr;
};

/// Prepares a kernel for `shared` bytes of dynamic shared memory, and throws Error unless `error` is success.
void allow_shared(const void* kernel, std::size_t shared, Place place);
void check_launch(int error, Place place);

/// Runs a kernel: grid blocks of `block` threads with `shared` bytes of dynamic shared memory each, in the order of the
/// stream. A grid without blocks does nothing. Errors of the launch itself throw, those of the kernel when the stream
/// is waited for.
template <class... P, class... A>
void launch(Place place, void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared, void* stream, A... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#if defined(__CUDACC__)
  if (shared > 48 * 1024) allow_shared(reinterpret_cast<const void*>(kernel), shared, place);
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream);
  check_launch(static_cast<int>(cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...)), place);
#else
  (void)place, (void)stream;
  simt::run(grid, block, shared, false, [&] { kernel(static_cast<P>(args)...); });
#endif
}

}  // namespace deepstruct::runtime
