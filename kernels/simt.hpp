// The SIMT vocabulary of the kernels: CUDA's own words under nvcc, their emulation by the tests under any C++ compiler.
//
// Both know __global__, __device__, threadIdx and its kin, float4 and int4, __syncthreads, __syncwarp, warp shuffles
// and votes, and atomicAdd; what differs in spelling is below.
#pragma once

#if defined(__CUDACC__)

#include <cstddef>
#include <cstdint>

namespace deepstruct::simt {

/// The block's dynamic shared memory, as many bytes as the launch asked for; aligned to 16.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char deepstruct_dynamic_shared[];
  return reinterpret_cast<T*>(deepstruct_dynamic_shared);
}

/// An object in the block's shared memory, one per type and kernel; uninitialised.
template <class S>
__device__ __forceinline__ S& shared() {
  __shared__ __align__(16) unsigned char raw[sizeof(S)];
  return reinterpret_cast<S&>(raw);
}

/// Begins to copy 16 aligned bytes from global to shared memory: nobody may read them before copy_wait and a barrier.
__device__ __forceinline__ void copy_async(void* to, const void* from) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}
/// Closes a group of copies of this thread.
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until all but the `Open` youngest groups of this thread have arrived.
template <int Open>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Open) : "memory");
}

}  // namespace deepstruct::simt

#else
#include <emulator.hpp>  // tests/simt
#endif
