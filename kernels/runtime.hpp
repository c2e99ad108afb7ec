// What launchers, tests and benchmarks need beyond core/runtime.hpp: typed device memory, and launch.
//
// Two bodies: runtime.cu speaks to CUDA, tests/simt/runtime.cpp to the emulator. Nothing here needs a CUDA header
// unless nvcc compiles it.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include <deepstruct/core/runtime.hpp>

#include "simt.hpp"

namespace deepstruct::runtime {

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

/// A draw as kernels take it: `draw` itself, or in a capture the draw.number-th one from *first on, which every launch
/// writes anew.
struct KernelDraw {
  Draw draw;
  const Draw* first = nullptr;
};
KernelDraw drawn(Draw draw, Place place);

/// Prepares a kernel for `shared` bytes of dynamic shared memory, and throws Error unless `error` is success.
void allow_shared(const void* kernel, std::size_t shared, Place place);
void check_launch(int error, Place place);

/// Where kernels are emulated: does it now, or notes it if this thread captures.
void emulate(const std::function<void()>& work);

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
  (simt::emulator::check_argument(&args, sizeof args), ...);
  emulate([=] {
    const simt::emulator::Opened opened;
    simt::run(grid, block, shared, false, [&] { kernel(static_cast<P>(args)...); });
  });
#endif
}

}  // namespace deepstruct::runtime
