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

/// x rounded to the 11 significant bits of TF32, ties away from 0; of NaN it may be any number. What cvt.rna.tf32.f32
/// says, which on Hopper are four instructions, two of them for NaN.
__device__ __forceinline__ float to_tf32(float x) {
  return __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xffffe000u);
}
/// c += a·b by the whole warp, [16, 8]·[8, 8], of operands cut off to TF32; exact products, the sum cut off to float32.
/// With g = lane / 4 and t = lane % 4 a lane has a(g, t), a(g + 8, t), a(g, t + 4), a(g + 8, t + 4); b(t, g),
/// b(t + 4, g); c(g, 2t), c(g, 2t + 1), c(g + 8, 2t), c(g + 8, 2t + 1).
__device__ __forceinline__ void mma_tf32(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
        "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}

}  // namespace deepstruct::simt

#else
#include <emulator.hpp>  // tests/simt
#endif
