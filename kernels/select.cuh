// Device code of selection: the n-th smallest of many values without sorting them, and the edges of a pattern that
// stay.
//
// The n-th smallest. The order of a sample gives a bracket low … high that holds it (but for one case in 10⁴). One pass
// over all values counts what is below, what equals either end, and collects what lies strictly between, a few percent;
// radix selection among these, by 11 bits at a time, ends it. So memory is read once, no digit of all values is counted
// in shared memory, and equal values in any number do no harm, as the ends are counted only. A bracket that fails is
// noticed, and radix selection then goes over all values. Counts are of whole numbers and the order of what is
// collected means nothing: the result is exact and the same from call to call.
//
// The edges that stay. Chunks of edges count what goes, the counts are summed up, and each chunk then moves its edges,
// a bit to an edge saying who stays; starts of rows are counts of these bits.
#pragma once

#include <cmath>
#include <cstdint>

#include <deepstruct/core/view.hpp>

#include "simt.hpp"

namespace deepstruct::kernels::device {

inline constexpr unsigned whole_warp = 0xffffffffu;

template <class T>
struct summed {
  T before, all;
};
/// The sum over the threads of the block before this one, and over all; of_warp [32] is shared memory.
template <class T>
__device__ __forceinline__ summed<T> sum_before(T own, T* of_warp) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  T upto = own;
  for (unsigned d = 1; d < 32; d *= 2) {
    const T lower = __shfl_up_sync(whole_warp, upto, d);
    if (lane >= static_cast<int>(d)) upto += lower;
  }
  if (lane == 31) of_warp[warp] = upto;
  __syncthreads();
  summed<T> sum{upto - own, 0};
  for (int w = 0; w < static_cast<int>(blockDim.x / 32); ++w) {
    if (w < warp) sum.before += of_warp[w];
    sum.all += of_warp[w];
  }
  __syncthreads();  // all have read
  return sum;
}

// --- the n-th smallest ---

/// A part that is not empty: its values, how many lie between it and the multiple of 16 bytes before, and which of all
/// values and chunks are its first.
struct part_entry {
  const float* data;
  std::int64_t size, ahead, first, chunk;
};
struct part_table {
  const part_entry* of;
  std::int64_t count, chunks;
};
/// Values that a block takes at a time, counted from a multiple of 16 bytes; 16 to a thread.
inline constexpr int chunk_values = 4096, chunk_threads = 256, warp_values = 512;

/// Order of the keys = order of the values; −0 is 0.
__device__ __forceinline__ std::uint32_t key_of(float v) {
  std::uint32_t bits = __float_as_uint(v);
  if (bits == 0x80000000u) bits = 0;
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

/// What is sought: the value of rank `rank` among those with a key in base … base + 2^bits − 1; less are below these.
/// 0 bits: it is the value whose key is base. Fewer: not found.
struct key_range {
  std::uint32_t base;
  std::int32_t bits;
  std::int64_t rank, less;
};
inline constexpr int digit_bits = 11, digits = 1 << digit_bits;
__device__ __forceinline__ int digit_shift(key_range r) { return r.bits > digit_bits ? r.bits - digit_bits : 0; }

/// All that a selection notes.
struct selection {
  key_range low, high, range;                             ///< the bracket (found), and what is sought
  unsigned long long below, equal_low, equal_high, kept;  ///< relative to the bracket; kept were strictly inside
  unsigned long long histogram[digits];
};

/// The last entry whose Field is at most i.
template <std::int64_t part_entry::*Field>
__device__ __forceinline__ std::int64_t part_with(part_table parts, std::int64_t i) {
  std::int64_t low = 0, high = parts.count;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (parts.of[middle].*Field <= i ? low : high) = middle;
  }
  return low;
}

/// One value of each of `count` equal shares of all n, at random within its share (or all, where they are as many).
static __global__ void __launch_bounds__(256)
    draw_sample(part_table parts, std::int64_t n, std::int32_t count, bool magnitude, float* __restrict__ to) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::int64_t begin = n * i / count, share = n * (i + 1) / count - begin;
  std::uint64_t mix = (static_cast<std::uint64_t>(i) + 1) * 0x9e3779b97f4a7c15u;
  mix = (mix ^ (mix >> 30)) * 0xbf58476d1ce4e5b9u;
  mix = (mix ^ (mix >> 27)) * 0x94d049bb133111ebu;
  const std::int64_t at = begin + static_cast<std::int64_t>((mix ^ (mix >> 31)) % static_cast<std::uint64_t>(share));
  const part_entry part = parts.of[part_with<&part_entry::first>(parts, at)];
  const float v = part.data[at - part.first];
  to[i] = magnitude ? fabsf(v) : v;
}

/// What a block shares to narrow a range.
struct narrowing {
  std::int64_t of_warp[32];
  key_range next;
};
/// The range of the digit that the rank falls in; blockDim.x divides the number of digits.
template <class Count>
__device__ __forceinline__ key_range narrowed(key_range r, const Count* histogram, narrowing& notes) {
  const int each = digits / static_cast<int>(blockDim.x), first = static_cast<int>(threadIdx.x) * each;
  std::int64_t own = 0;
  for (int i = 0; i < each; ++i) own += static_cast<std::int64_t>(histogram[first + i]);
  std::int64_t before = sum_before(own, notes.of_warp).before;
  if (before <= r.rank && r.rank < before + own) {
    int digit = first;
    for (; before + static_cast<std::int64_t>(histogram[digit]) <= r.rank; ++digit)
      before += static_cast<std::int64_t>(histogram[digit]);
    const int shift = digit_shift(r);
    notes.next = {r.base + (static_cast<std::uint32_t>(digit) << shift), shift, r.rank - before, r.less + before};
  }
  __syncthreads();
  return notes.next;
}
__device__ __forceinline__ void count_digit(float v, key_range r, int shift, std::uint32_t* histogram) {
  const std::uint32_t at = key_of(v) - r.base;
  if (std::uint64_t{at} >> r.bits == 0) atomicAdd(histogram + (at >> shift), 1u);
}

/// Radix selection by one block: block 0 finds rank0 of the values, block 1 rank1; where there is no such rank the
/// infinity on that side.
struct few_notes {
  narrowing narrow;
  std::uint32_t histogram[digits];
};
static __global__ void __launch_bounds__(1024)
    select_few(const float* __restrict__ values, std::int32_t n, key_range all, std::int64_t rank0, std::int64_t rank1,
               key_range* found) {
  few_notes& notes = simt::shared<few_notes>();
  key_range r = all;
  r.rank = blockIdx.x == 0 ? rank0 : rank1;
  if (r.rank < 0 || r.rank >= n) r = {key_of(r.rank < 0 ? -INFINITY : INFINITY), 0, 0, 0};
  while (r.bits > 0) {
    for (int i = static_cast<int>(threadIdx.x); i < digits; i += static_cast<int>(blockDim.x)) notes.histogram[i] = 0;
    __syncthreads();
    const int shift = digit_shift(r);
#pragma unroll 8
    for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x))
      count_digit(values[i], r, shift, notes.histogram);
    __syncthreads();
    r = narrowed(r, notes.histogram, notes.narrow);
  }
  if (threadIdx.x == 0) found[blockIdx.x] = r;
}

/// 16 values of a thread.
struct sixteen {
  float4 of[4];
};
/// Calls visit(sixteen) for every chunk of the block, which are neighbours; all threads of the block together. Beyond
/// the ends of a part values are NaN.
template <class Visit>
__device__ __forceinline__ void for_chunks(part_table parts, Visit&& visit) {
  const std::int64_t end = parts.chunks * (std::int64_t{blockIdx.x} + 1) / gridDim.x;
  std::int64_t chunk = parts.chunks * blockIdx.x / gridDim.x;
  const int own = static_cast<int>(threadIdx.x / 32) * warp_values + static_cast<int>(threadIdx.x % 32) * 4;
  for (std::int64_t p = part_with<&part_entry::chunk>(parts, chunk); chunk < end; ++p) {
    const part_entry part = parts.of[p];
    std::int64_t next = p + 1 < parts.count ? parts.of[p + 1].chunk : parts.chunks;
    if (next > end) next = end;
    std::int64_t begin = (chunk - part.chunk) * chunk_values - part.ahead;
    const float* from = part.data + begin + own;
    for (; chunk < next; ++chunk, begin += chunk_values, from += chunk_values) {
      sixteen v;
      if (begin >= 0 && begin + chunk_values <= part.size) {
#pragma unroll
        for (int j = 0; j < 4; ++j) v.of[j] = __ldg(reinterpret_cast<const float4*>(from + j * 128));
      } else {
        const auto one = [&](int i) {
          const std::int64_t at = begin + own + i;
          return at >= 0 && at < part.size ? __ldg(from + i) : NAN;
        };
#pragma unroll
        for (int j = 0; j < 4; ++j) v.of[j] = {one(j * 128), one(j * 128 + 1), one(j * 128 + 2), one(j * 128 + 3)};
      }
      visit(v);
    }
  }
}

/// Counts all values relative to the bracket, and collects those strictly inside, as far as there is room. Each thread
/// gathers its own in shared memory, until a warp writes those of its threads as whole lines.
struct collecting {
  static constexpr int most = 32;  ///< of a thread
  unsigned long long count[3];
  float inside[most][chunk_threads];
};
__device__ __forceinline__ void write_inside(const float* inside, int end, unsigned long long* kept, float* to,
                                             std::int64_t room) {
  const unsigned lane = threadIdx.x % 32;
  int all = end / chunk_threads;
  for (int d = 16; d > 0; d /= 2) all += __shfl_xor_sync(whole_warp, all, d);
  unsigned long long begin = 0;
  if (lane == 0) begin = atomicAdd(kept, static_cast<unsigned long long>(all));
  auto at = static_cast<std::int64_t>(__shfl_sync(whole_warp, begin, 0));
  for (int i = static_cast<int>(threadIdx.x);; i += chunk_threads) {
    const unsigned more = __ballot_sync(whole_warp, i < end);
    if (more == 0) break;
    const std::int64_t mine = at + __popc(more & ((1u << lane) - 1));
    if (i < end && mine < room) to[mine] = inside[i];
    at += __popc(more);
  }
}
__device__ __forceinline__ float value_of(std::uint32_t key) {
  return __uint_as_float(key ^ (key >> 31 ? 0x80000000u : 0xffffffffu));
}
template <bool Magnitude>
__global__ void __launch_bounds__(chunk_threads, 6)
    collect(part_table parts, selection* s, float* __restrict__ to, std::int64_t room) {
  collecting& notes = simt::shared<collecting>();
  if (threadIdx.x < 3) notes.count[threadIdx.x] = 0;
  __syncthreads();
  const float low = value_of(s->low.base), high = value_of(s->high.base);
  float* inside = notes.inside[0];
  int at = static_cast<int>(threadIdx.x);
  int below = 0, equal_low = 0, equal_high = 0;
  for_chunks(parts, [&](const sixteen& v) {
    const float x[16] = {v.of[0].x, v.of[0].y, v.of[0].z, v.of[0].w, v.of[1].x, v.of[1].y, v.of[1].z, v.of[1].w,
                         v.of[2].x, v.of[2].y, v.of[2].z, v.of[2].w, v.of[3].x, v.of[3].y, v.of[3].z, v.of[3].w};
    bool equal = false;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float value = Magnitude ? fabsf(x[i]) : x[i];
      if (value < low) ++below;
      equal = equal || value == low || value == high;
      if (value > low && value < high) inside[at] = x[i], at += chunk_threads;
    }
    if (equal)  // seldom
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const float value = Magnitude ? fabsf(x[i]) : x[i];
        equal_low += value == low ? 1 : 0;
        equal_high += value == high ? 1 : 0;
      }
    if (__any_sync(whole_warp, at >= (collecting::most - 15) * chunk_threads)) {
      write_inside(inside, at, &s->kept, to, room);
      at = static_cast<int>(threadIdx.x);
    }
  });
  write_inside(inside, at, &s->kept, to, room);
  for (int d = 16; d > 0; d /= 2) {
    below += __shfl_xor_sync(whole_warp, below, d);
    equal_low += __shfl_xor_sync(whole_warp, equal_low, d);
    equal_high += __shfl_xor_sync(whole_warp, equal_high, d);
  }
  if (threadIdx.x % 32 == 0) {
    atomicAdd(notes.count + 0, static_cast<unsigned long long>(below));
    atomicAdd(notes.count + 1, static_cast<unsigned long long>(equal_low));
    atomicAdd(notes.count + 2, static_cast<unsigned long long>(equal_high));
  }
  __syncthreads();
  if (threadIdx.x < 3)
    atomicAdd(threadIdx.x == 0   ? &s->below
              : threadIdx.x == 1 ? &s->equal_low
                                 : &s->equal_high,
              notes.count[threadIdx.x]);
}

/// Where the n-th smallest is, by the counts: an end of the bracket, among the values collected, or neither.
static __global__ void locate(selection* s, std::int64_t n, std::int64_t room) {
  const std::uint32_t low = s->low.base, high = s->high.base;
  const auto below = static_cast<std::int64_t>(s->below), kept = static_cast<std::int64_t>(s->kept),
             to_inside = below + static_cast<std::int64_t>(s->equal_low), to_high = to_inside + kept,
             to_above = low == high ? to_high : to_high + static_cast<std::int64_t>(s->equal_high);
  if (n >= below && n < to_inside)
    s->range = {low, 0, 0, below};
  else if (n >= to_inside && n < to_high && kept <= room)
    s->range = {low, 32 - __clz(static_cast<int>(high - low)), n - to_inside, to_inside};
  else if (n >= to_high && n < to_above)
    s->range = {high, 0, 0, to_high};
  else
    s->range = {0, -1, 0, 0};
}

/// Adds a block's histogram of the values in the range, of its next digit, to that of all.
struct block_histogram {
  std::uint32_t of[digits];
};
__device__ __forceinline__ void clear(block_histogram& h) {
  for (int i = static_cast<int>(threadIdx.x); i < digits; i += static_cast<int>(blockDim.x)) h.of[i] = 0;
  __syncthreads();
}
__device__ __forceinline__ void add_to(unsigned long long* all, const block_histogram& h) {
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < digits; i += static_cast<int>(blockDim.x))
    if (h.of[i] > 0) atomicAdd(all + i, static_cast<unsigned long long>(h.of[i]));
}
static __global__ void __launch_bounds__(1024)
    count_kept(const float* __restrict__ values, bool magnitude, selection* s) {
  const key_range r = s->range;
  if (r.bits <= 0) return;
  block_histogram& h = simt::shared<block_histogram>();
  clear(h);
  const int shift = digit_shift(r);
  const auto n = static_cast<std::int64_t>(s->kept), threads = std::int64_t{gridDim.x} * blockDim.x;
#pragma unroll 8
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += threads)
    count_digit(magnitude ? fabsf(__ldg(values + i)) : __ldg(values + i), r, shift, h.of);
  add_to(s->histogram, h);
}
/// The same of all values.
static __global__ void __launch_bounds__(chunk_threads) count_all(part_table parts, bool magnitude, selection* s) {
  const key_range r = s->range;
  if (r.bits <= 0) return;
  block_histogram& h = simt::shared<block_histogram>();
  clear(h);
  const int shift = digit_shift(r);
  const auto count = [&](float v) {
    if (v == v) count_digit(magnitude ? fabsf(v) : v, r, shift, h.of);
  };
  for_chunks(parts, [&](const sixteen& v) {
#pragma unroll
    for (const float4& four : v.of) count(four.x), count(four.y), count(four.z), count(four.w);
  });
  add_to(s->histogram, h);
}
/// Narrows the range by the histogram, and clears that; one block.
static __global__ void __launch_bounds__(1024) choose_digit(selection* s) {
  const key_range r = s->range;
  if (r.bits <= 0) return;
  const key_range next = narrowed(r, s->histogram, simt::shared<narrowing>());
  for (int i = static_cast<int>(threadIdx.x); i < digits; i += static_cast<int>(blockDim.x)) s->histogram[i] = 0;
  if (threadIdx.x == 0) s->range = next;
}

// --- the edges that stay ---

/// Edges of a thread; blocks have at most 256 threads, and a warp takes neighbouring edges.
inline constexpr int thread_edges = 16, most_edge_threads = 256, thread_chunks = 8;

/// Of a chunk: the edges whose saliency is below the limit, or equals it.
struct alignas(8) edge_counts {
  std::int32_t less, equal;
};
/// Of all: edges before `cut` that equal the limit go; so many stay, and so many equal the limit.
struct edge_line {
  std::int64_t cut, left, equal;
};

/// The saliency of the i-th of `edges` edges, NaN beyond them.
template <bool Magnitude>
__device__ __forceinline__ float saliency_of(const float* saliency, int i, int edges) {
  const float v = i < edges ? __ldg(saliency + i) : NAN;
  return Magnitude ? fabsf(v) : v;
}
/// An int of what is only compared with less than 2^16.
__device__ __forceinline__ int cut_off(std::int64_t v) {
  return v < 0 ? 0 : v > 1 << 16 ? 1 << 16 : static_cast<int>(v);
}

struct counting {
  std::int32_t of_warp[32];
};
template <bool Magnitude>
__global__ void __launch_bounds__(most_edge_threads)
    count_edges(const float* __restrict__ saliency, std::int64_t nnz, float limit, edge_counts* __restrict__ counts) {
  std::int32_t* of_warp = simt::shared<counting>().of_warp;
  const std::int64_t begin = std::int64_t{blockIdx.x} * blockDim.x * thread_edges +
                             static_cast<int>(threadIdx.x / 32) * 32 * thread_edges +
                             static_cast<int>(threadIdx.x % 32);
  const int edges = cut_off(nnz - begin);
  std::int32_t both = 0;  // equal in the upper half
#pragma unroll
  for (int i = 0; i < thread_edges; ++i) {
    const float v = saliency_of<Magnitude>(saliency + begin, i * 32, edges);
    both += v < limit ? 1 : 0;
    both += v == limit ? 1 << 16 : 0;
  }
  for (int d = 16; d > 0; d /= 2) both += __shfl_xor_sync(whole_warp, both, d);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = both;
  __syncthreads();
  if (threadIdx.x > 0) return;
  both = 0;
  for (int w = 0; w < static_cast<int>(blockDim.x / 32); ++w) both += of_warp[w];
  counts[blockIdx.x] = {both & 0xffff, both >> 16};
}

/// What a chunk's first edge that stays becomes, and the line between what goes and stays; one block.
struct placing {
  std::uint64_t of_warp[32];
  std::int64_t chunk, rank, cut;  ///< of the last equal edge that goes
};
template <bool Magnitude>
__global__ void __launch_bounds__(most_edge_threads)
    place_chunks(const edge_counts* __restrict__ counts, std::int64_t chunks, const float* __restrict__ saliency,
                 std::int64_t nnz, float limit, std::int64_t ties, std::int32_t* __restrict__ first, edge_line* line) {
  placing& notes = simt::shared<placing>();
  const int threads = static_cast<int>(blockDim.x), chunk_edges = threads * thread_edges;
  if (threadIdx.x == 0) notes.chunk = -1, notes.cut = ties > 0 ? nnz : 0;
  __syncthreads();
  std::uint64_t before = 0;  // both counts of the chunks before, equal in the upper half
  for (std::int64_t base = 0; base < chunks; base += threads * thread_chunks) {
    const std::int64_t own = base + static_cast<int>(threadIdx.x) * thread_chunks;
    std::uint64_t count[thread_chunks], sum = 0;
#pragma unroll
    for (int i = 0; i < thread_chunks; ++i) {
      const edge_counts c = own + i < chunks ? counts[own + i] : edge_counts{};
      count[i] = static_cast<std::uint64_t>(c.less) | static_cast<std::uint64_t>(c.equal) << 32;
      sum += count[i];
    }
    const summed<std::uint64_t> s = sum_before(sum, notes.of_warp);
    std::uint64_t now = before + s.before;
#pragma unroll
    for (int i = 0; i < thread_chunks; ++i) {
      const auto equal = static_cast<std::int64_t>(now >> 32), more = static_cast<std::int64_t>(count[i] >> 32);
      if (own + i < chunks)
        first[own + i] = static_cast<std::int32_t>(
            (own + i) * chunk_edges - static_cast<std::int64_t>(now & 0xffffffffu) - (equal < ties ? equal : ties));
      if (equal < ties && ties <= equal + more) notes.chunk = own + i, notes.rank = ties - equal - 1;
      now += count[i];
    }
    before += s.all;
  }
  __syncthreads();
  const std::int64_t chunk = notes.chunk;
  if (chunk >= 0) {
    const std::int64_t begin = chunk * chunk_edges + static_cast<int>(threadIdx.x) * thread_edges;
    const int edges = cut_off(nnz - begin);
    std::uint64_t own = 0;
    for (int i = 0; i < thread_edges; ++i) own += saliency_of<Magnitude>(saliency + begin, i, edges) == limit ? 1 : 0;
    auto rank = notes.rank - static_cast<std::int64_t>(sum_before(own, notes.of_warp).before);
    for (int i = 0; i < thread_edges; ++i)
      if (saliency_of<Magnitude>(saliency + begin, i, edges) == limit && rank-- == 0) notes.cut = begin + i + 1;
    __syncthreads();
  }
  if (threadIdx.x > 0) return;
  const auto equal = static_cast<std::int64_t>(before >> 32);
  *line = {notes.cut, nnz - static_cast<std::int64_t>(before & 0xffffffffu) - (equal < ties ? equal : ties), equal};
}

/// Where the first of n ascending values is that is not less than `bound`; all lanes of a warp together.
__device__ __forceinline__ std::int64_t first_not_less(const std::int32_t* values, std::int64_t n, std::int64_t bound) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (std::int64_t begin = 0, end = n;;) {
    const std::int64_t step = (end - begin + 31) / 32, at = begin + lane * step;
    const int less = __popc(__ballot_sync(whole_warp, at < end && __ldg(values + at) < bound));
    if (less == 0) return begin;
    end = begin + less * step < end ? begin + less * step : end;
    begin += (less - 1) * step + 1;
  }
}

/// The edges of a chunk that stay, and the starts of the rows that begin in it.
struct moving {
  std::uint32_t stays[most_edge_threads * thread_edges / 32];  ///< a bit to an edge
  std::int32_t before[most_edge_threads * thread_edges / 32];  ///< how many stay before these 32 in the warp
  std::int32_t of_warp[32];
  std::int64_t row;  ///< the first that begins in the chunk
};
template <bool Magnitude>
__global__ void __launch_bounds__(most_edge_threads)
    move_edges(csr_view m, const float* __restrict__ saliency, float limit, const edge_line* line,
               const std::int32_t* __restrict__ first, std::int32_t* __restrict__ start, std::int32_t* __restrict__ col,
               std::int32_t* __restrict__ old_edge) {
  moving& notes = simt::shared<moving>();
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32),
            chunk_edges = static_cast<int>(blockDim.x) * thread_edges;
  const std::int64_t chunk = std::int64_t{blockIdx.x} * chunk_edges, own = chunk + warp * 32 * thread_edges + lane;
  const int edges = cut_off(m.nnz - own), before_cut = cut_off(line->cut - own);
  float v[thread_edges];
#pragma unroll
  for (int i = 0; i < thread_edges; ++i) v[i] = saliency_of<Magnitude>(saliency + own, i * 32, edges);
  if (warp == 0) {
    const std::int64_t row = first_not_less(m.start, m.rows + 1, chunk);
    if (lane == 0) notes.row = row;
  }
  unsigned stays[thread_edges], own_stays = 0;
  int count = 0, own_before = 0;
#pragma unroll
  for (int i = 0; i < thread_edges; ++i) {
    stays[i] = __ballot_sync(whole_warp, i * 32 < edges && !(v[i] < limit) && !(v[i] == limit && i * 32 < before_cut));
    if (lane == i) own_stays = stays[i], own_before = count;
    count += __popc(stays[i]);
  }
  if (lane < thread_edges) {
    notes.stays[warp * thread_edges + lane] = own_stays;
    notes.before[warp * thread_edges + lane] = own_before;
  }
  if (lane == 0) notes.of_warp[warp] = count;
  __syncthreads();

  const std::int32_t begin = first[blockIdx.x];
  std::int32_t at = begin;
  for (int w = 0; w < warp; ++w) at += notes.of_warp[w];
  const std::int32_t* from = m.col + own;
#pragma unroll
  for (int i = 0; i < thread_edges; ++i) {
    if (stays[i] >> lane & 1) {
      const std::int32_t to = at + __popc(stays[i] & ((1u << lane) - 1));
      col[to] = __ldg(from + i * 32);
      old_edge[to] = static_cast<std::int32_t>(own) + i * 32;
    }
    at += __popc(stays[i]);
  }

  const bool last = blockIdx.x + 1 == gridDim.x;  // also has the rows that start behind the last edge
  for (std::int64_t row = notes.row + threadIdx.x; row <= m.rows; row += blockDim.x) {
    const std::int64_t e = __ldg(m.start + row) - chunk;
    if (!last && e >= chunk_edges) break;
    std::int32_t to = begin;
    const int word = static_cast<int>(e / 32);
    for (int w = 0; w < word / thread_edges; ++w) to += notes.of_warp[w];
    if (e < chunk_edges) to += notes.before[word] + __popc(notes.stays[word] & ((1u << (e % 32)) - 1));
    start[row] = to;
  }
}

}  // namespace deepstruct::kernels::device
