// Device: where values live, and the tags that select kernel overloads.
#pragma once

#include <cstdint>
#include <ostream>
#include <utility>

#include "error.hpp"

#ifndef DEEPSTRUCT_CUDA
#define DEEPSTRUCT_CUDA 0
#endif

// Tensor, Var and Mask carry the back ends of their program in their names, so that parts built with and without CUDA
// do not link where one passes them to the other. Build all of a program the same way.
#if DEEPSTRUCT_CUDA
#define DEEPSTRUCT_BACKENDS with_cuda
#else
#define DEEPSTRUCT_BACKENDS cpu_only
#endif

namespace deepstruct {

/// Where a Tensor, a Mask or a model lives.
enum class Device : std::uint8_t { cpu, cuda };

inline std::ostream& operator<<(std::ostream& out, Device device) {
  return out << (device == Device::cuda ? "cuda" : "cpu");
}

/// Tag of kernels that run on the CPU.
struct cpu {};

/// Tag of kernels that run on a GPU, in the given stream.
struct cuda {
  void* stream = nullptr;
};

namespace runtime {

/// Number of GPUs that the program can use; 0 without a driver.
int device_count();

/// The stream that this thread works in on the current GPU; null is the default one (see StreamGuard).
inline thread_local void* current_stream = nullptr;

class CapturedWork;
/// What this thread captures now (see Capture), or null.
inline thread_local CapturedWork* capturing = nullptr;

}  // namespace runtime

inline namespace DEEPSTRUCT_BACKENDS {

/// True when the program is built with the CUDA back end.
inline constexpr bool has_cuda = DEEPSTRUCT_CUDA;

/// True when kernels can run on a GPU of this machine. Without the CUDA back end always false.
inline bool cuda_available() {
  if constexpr (has_cuda) return runtime::device_count() > 0;
  return false;
}

/// What a program that is built without CUDA answers to who asks for a GPU.
[[noreturn, gnu::noinline]] inline void fail_without_cuda(const char* op) {
  fail(op, ": this program is built without CUDA (device cuda)");
}

/// Calls f with the tag of `device`: the one place where a run-time device becomes a kernel overload. Throws where the
/// program has no such device.
template <class F>
decltype(auto) on(Device device, F&& f) {
  if constexpr (has_cuda)
    if (device == Device::cuda) return std::forward<F>(f)(cuda{runtime::current_stream});
  if (!has_cuda && device != Device::cpu) fail_without_cuda("on");
  return std::forward<F>(f)(cpu{});
}

}  // namespace DEEPSTRUCT_BACKENDS

/// Tells the core that this thread spins: it saves power, and gives way to a sibling on the same core.
inline void pause_core() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace deepstruct
