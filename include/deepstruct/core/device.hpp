// Device: where values live, and the tags that select kernel overloads.
#pragma once

#include <cstdint>
#include <utility>

#include "error.hpp"

#ifndef DEEPSTRUCT_CUDA
#define DEEPSTRUCT_CUDA 0
#endif

namespace deepstruct {

/// Where a Tensor, a Mask or a model lives.
enum class Device : std::uint8_t { cpu, cuda };

/// Tag of kernels that run on the CPU.
struct cpu {};

/// Tag of kernels that run on a GPU, in the given stream.
struct cuda {
  void* stream = nullptr;
};

/// True when the program is built with the CUDA back end.
inline constexpr bool has_cuda = DEEPSTRUCT_CUDA;

/// True when kernels can run on a GPU of this machine. Without the CUDA back end always false.
inline bool cuda_available() { return has_cuda; }

/// Tells the core that this thread spins: it saves power, and gives way to a sibling on the same core.
inline void pause_core() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Calls f with the tag of `device`: the one place where a run-time device becomes a kernel overload.
template <class F>
decltype(auto) on(Device device, F&& f) {
  if constexpr (has_cuda)
    if (device == Device::cuda) return std::forward<F>(f)(cuda{});
  check(device == Device::cpu, "on: this program is built without CUDA (device cuda)");
  return std::forward<F>(f)(cpu{});
}

}  // namespace deepstruct
