// A grid of CUDA threads on one host thread, for tests without a GPU: the kernels' own text, compiled by any C++20
// compiler.
//
// Each CUDA thread is a fiber; barriers and warp collectives are meetings at which fibers wait for each other, and the
// order in which they go on is shuffled by a seed. Shared memory is NaN until written and ends where it ends; copies of
// copy_async arrive only when they are waited for. AddressSanitizer sees the bounds of every array, and to
// ThreadSanitizer each CUDA thread is a thread, ordered with others by barriers only: a missing one is a reported race.
// Threads that wait at different barriers, or forever, are a Fault.
#pragma once

#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) int4 {
  int x, y, z, w;
};

namespace deepstruct::simt {

using Where = std::source_location;

/// What a GPU would hang on, or answer with undefined behaviour.
struct Fault : std::logic_error {
  using std::logic_error::logic_error;
};

/// Seed of the order in which threads go on, for the launches to come.
inline std::uint64_t schedule = 0;

/// Runs body once for every thread of the grid: block after block in a random order, all at once where cooperative.
void run(dim3 grid, dim3 block, std::size_t shared, bool cooperative, const std::function<void()>& body);

namespace emulator {

struct Coordinates {
  uint3 thread, block;
  dim3 block_dim, grid_dim;
};
/// Where the calling thread is in the grid.
Coordinates here();
/// The lane of the calling thread in its warp.
unsigned lane();
void block_barrier(Where where);
void grid_barrier(Where where);
/// Meets the lanes of the mask; these alone are ordered.
void warp_barrier(unsigned mask, Where where);
/// Meets the lanes of the mask, ordering no memory: all[i] becomes what lane i brings, of `size` bytes.
void exchange(unsigned mask, const void* mine, void* all, std::size_t size, Where where);
/// The block's object known by this tag.
void* shared(const void* tag, std::size_t bytes);
void* dynamic_shared();
void copy_async(void* to, const void* from);
void copy_commit();
void copy_wait(std::size_t open);
/// How a tensor core rounds its sums is not documented. Here addends are cut off 24 bits below the first bit of the
/// greatest, and their sum to a float: a kernel that is exact enough with that needs no better hardware.
void mma_tf32(float (&c)[4], const float (&a)[4], const float (&b)[2], Where where);

/// Memory of the device: NaN, its end the end of an allocation to AddressSanitizer. Elsewhere the host may not touch it
/// except while one of these lives, which is while a kernel runs or a copy is made.
inline bool shut = true;  ///< false, before anything is allocated: memory is open, and launches cost less
void* allocate(std::size_t bytes);
void release(void* memory) noexcept;
struct Opened {
  Opened();
  ~Opened();
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
};
/// Throws Fault if what a kernel is given holds the address of anything that is not memory of the device.
void check_argument(const void* argument, std::size_t size);

/// What every lane of the mask brings.
template <class T>
struct Votes {
  T of[32];
  Votes(unsigned mask, const T& mine, Where where) : of{} {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 16);
    exchange(mask, &mine, of, sizeof(T), where);
  }
};

}  // namespace emulator

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulator::dynamic_shared());
}
template <class S>
S& shared() {
  static const char tag{};
  return *static_cast<S*>(emulator::shared(&tag, sizeof(S)));
}
inline void grid_sync(Where where = Where::current()) { emulator::grid_barrier(where); }
inline void copy_async(void* to, const void* from) { emulator::copy_async(to, from); }
inline void copy_commit() { emulator::copy_commit(); }
template <int Open>
void copy_wait() {
  emulator::copy_wait(Open);
}
inline float to_tf32(float x) {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + 0x1000u) & 0xffffe000u);
}
inline void mma_tf32(float (&c)[4], const float (&a)[4], const float (&b)[2], Where where = Where::current()) {
  emulator::mma_tf32(c, a, b, where);
}

}  // namespace deepstruct::simt

#define threadIdx (deepstruct::simt::emulator::here().thread)
#define blockIdx (deepstruct::simt::emulator::here().block)
#define blockDim (deepstruct::simt::emulator::here().block_dim)
#define gridDim (deepstruct::simt::emulator::here().grid_dim)

// CUDA's intrinsics, as the programming guide defines them.

inline void __syncthreads(deepstruct::simt::Where where = deepstruct::simt::Where::current()) {
  deepstruct::simt::emulator::block_barrier(where);
}
inline void __syncwarp(unsigned mask = 0xffffffffu,
                       deepstruct::simt::Where where = deepstruct::simt::Where::current()) {
  deepstruct::simt::emulator::warp_barrier(mask, where);
}
template <class T>
T __shfl_sync(unsigned mask, T v, int from, int width = 32,
              deepstruct::simt::Where where = deepstruct::simt::Where::current()) {
  const unsigned lane = deepstruct::simt::emulator::lane(), w = static_cast<unsigned>(width);
  const deepstruct::simt::emulator::Votes<T> all(mask, v, where);
  return all.of[(lane & ~(w - 1)) | (static_cast<unsigned>(from) & (w - 1))];
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32,
                  deepstruct::simt::Where where = deepstruct::simt::Where::current()) {
  const unsigned lane = deepstruct::simt::emulator::lane(), from = lane ^ static_cast<unsigned>(bits);
  const deepstruct::simt::emulator::Votes<T> all(mask, v, where);
  return from < 32 && from / static_cast<unsigned>(width) <= lane / static_cast<unsigned>(width) ? all.of[from] : v;
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned distance, int width = 32,
                   deepstruct::simt::Where where = deepstruct::simt::Where::current()) {
  const unsigned lane = deepstruct::simt::emulator::lane(), w = static_cast<unsigned>(width);
  const deepstruct::simt::emulator::Votes<T> all(mask, v, where);
  return lane % w + distance < w ? all.of[lane + distance] : v;
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned distance, int width = 32,
                 deepstruct::simt::Where where = deepstruct::simt::Where::current()) {
  const unsigned lane = deepstruct::simt::emulator::lane(), w = static_cast<unsigned>(width);
  const deepstruct::simt::emulator::Votes<T> all(mask, v, where);
  return lane % w >= distance ? all.of[lane - distance] : v;
}
inline unsigned __ballot_sync(unsigned mask, int vote,
                              deepstruct::simt::Where where = deepstruct::simt::Where::current()) {
  const deepstruct::simt::emulator::Votes<int> all(mask, vote, where);
  unsigned votes = 0;
  for (unsigned i = 0; i < 32; ++i)
    if (((mask >> i) & 1) && all.of[i]) votes |= 1u << i;
  return votes;
}
inline int __any_sync(unsigned mask, int vote, deepstruct::simt::Where where = deepstruct::simt::Where::current()) {
  return __ballot_sync(mask, vote, where) != 0;
}
template <class T>
T atomicAdd(T* at, std::type_identity_t<T> v) {
  return std::atomic_ref<T>(*at).fetch_add(v, std::memory_order_relaxed);
}
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
template <class T>
T __ldg(const T* at) {
  return *at;
}
inline int __popc(unsigned v) { return std::popcount(v); }
inline int __clz(int v) { return std::countl_zero(static_cast<unsigned>(v)); }
inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a < b ? b : a; }
