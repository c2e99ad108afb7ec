// The vocabulary itself: what the emulator says of CUDA's words, a GPU must say too.
#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;

constexpr unsigned whole_warp = 0xffffffffu;

/// Every lane's answers to shuffles and votes: 8 numbers a thread.
__global__ void talk(std::int32_t* out) {
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  std::int32_t* mine = out + t * 8;
  mine[0] = __shfl_sync(whole_warp, t, 5);
  mine[1] = __shfl_sync(whole_warp, t, 3, 8);
  mine[2] = __shfl_xor_sync(whole_warp, t, 9);
  mine[3] = __shfl_down_sync(whole_warp, t, 3u, 16);
  mine[4] = __shfl_up_sync(whole_warp, t, 4u);
  mine[5] = static_cast<std::int32_t>(__ballot_sync(whole_warp, lane % 3 == 0));
  mine[6] = __any_sync(whole_warp, lane == 77);
  mine[7] = lane < 16 ? __popc(__ballot_sync(0x0000ffffu, lane > 9)) : -1;
}

/// Sum over the grid by shared memory, barriers and atomics.
struct Sums {
  std::int32_t of_warp[4];
};
__global__ void add_up(const std::int32_t* x, int n, std::int32_t* sum) {
  Sums& sums = simt::shared<Sums>();
  std::int32_t v = 0;
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n;
       i += static_cast<int>(gridDim.x * blockDim.x))
    v += x[i];
  for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(whole_warp, v, static_cast<unsigned>(d));
  if (threadIdx.x % 32 == 0) sums.of_warp[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x == 0) {
    std::int32_t all = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) all += sums.of_warp[w];
    atomicAdd(sum, all);
  }
}

/// y = x reversed within each block, through copies that arrive later: two groups, waited for one after the other.
__global__ void reverse(const float4* x, float4* y) {
  float4* both = simt::dynamic_shared<float4>();
  const unsigned n = blockDim.x, t = threadIdx.x;
  simt::copy_async(both + t, x + blockIdx.x * 2 * n + t);
  simt::copy_commit();
  simt::copy_async(both + n + t, x + (blockIdx.x * 2 + 1) * n + t);
  simt::copy_commit();
  simt::copy_wait<1>();
  __syncthreads();
  y[(blockIdx.x * 2 + 1) * n + t] = both[n - 1 - t];
  simt::copy_wait<0>();
  __syncthreads();
  y[blockIdx.x * 2 * n + t] = both[2 * n - 1 - t];
}

const test::Register shuffles("vocabulary: shuffles and votes", [] {
  const Buffer<std::int32_t> out(64 * 8);
  runtime::launch("talk", &talk, 1, 64, 0, nullptr, out.data());
  const std::vector<std::int32_t> got = out.to_host();
  for (int t = 0; t < 64; ++t) {
    const int lane = t % 32, base = t - lane;
    const std::int32_t want[] = {base + 5,
                                 base + lane / 8 * 8 + 3,
                                 base + (lane ^ 9),
                                 lane % 16 + 3 < 16 ? t + 3 : t,
                                 lane >= 4 ? t - 4 : t,
                                 0x49249249,
                                 0,
                                 lane < 16 ? 6 : -1};
    for (int i = 0; i < 8; ++i)
      check(got[static_cast<std::size_t>(t * 8 + i)] == want[i], "vocabulary: answer ", i, " of thread ", t, " is ",
            got[static_cast<std::size_t>(t * 8 + i)], ", not ", want[i]);
  }
});

const test::Register sums("vocabulary: shared memory, barriers, atomics", [] {
  std::vector<std::int32_t> x(1000);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::int32_t>(i);
  const Buffer<std::int32_t> in{std::span<const std::int32_t>(x)}, sum(1);
  runtime::fill(sum.data(), 0, 4, nullptr, "sum");
  runtime::launch("add_up", &add_up, 5, 128, 0, nullptr, in.data(), 1000, sum.data());
  check(sum.to_host()[0] == 499500, "vocabulary: the sum is ", sum.to_host()[0]);
});

const test::Register copies("vocabulary: copies that arrive later", [] {
  constexpr unsigned n = 64, blocks = 3;
  std::vector<float4> x(blocks * 2 * n);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = {static_cast<float>(i), 1, 2, 3};
  const Buffer<float4> in{std::span<const float4>(x)}, out(x.size());
  runtime::launch("reverse", &reverse, blocks, n, 2 * n * sizeof(float4), nullptr, in.data(), out.data());
  const std::vector<float4> got = out.to_host();
  for (unsigned b = 0; b < blocks; ++b)
    for (unsigned i = 0; i < 2 * n; ++i)
      check(got[b * 2 * n + i].x == x[b * 2 * n + 2 * n - 1 - i].x, "vocabulary: element ", i, " of block ", b, " is ",
            got[b * 2 * n + i].x);
});

}  // namespace
