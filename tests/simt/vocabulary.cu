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

/// c += a·b of one warp, [16, 8]·[8, 8], all column-major; and every thread's share of x rounded to TF32.
__global__ void multiply(const float* a, const float* b, float* c, float* x) {
  const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
  const float mine_a[4] = {a[t * 16 + g], a[t * 16 + g + 8], a[(t + 4) * 16 + g], a[(t + 4) * 16 + g + 8]};
  const float mine_b[2] = {b[g * 8 + t], b[g * 8 + t + 4]};
  float *const left = c + 2 * t * 16 + g, *const right = left + 16;
  float sum[4] = {left[0], right[0], left[8], right[8]};
  simt::mma_tf32(sum, mine_a, mine_b);
  left[0] = sum[0], right[0] = sum[1], left[8] = sum[2], right[8] = sum[3];
  x[threadIdx.x] = simt::to_tf32(x[threadIdx.x]);
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

const test::Register tensor_cores("vocabulary: products on tensor cores", [] {
  const auto run = [](const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& c,
                      const std::vector<float>& x) {
    const Buffer<float> left{std::span<const float>(a)}, right{std::span<const float>(b)},
        sum{std::span<const float>(c)}, round{std::span<const float>(x)};
    runtime::launch("multiply", &multiply, 1, 32, 0, nullptr, left.data(), right.data(), sum.data(), round.data());
    return std::pair(sum.to_host(), round.to_host());
  };
  // Whole numbers, so that no sum is rounded; those of 12 bits lose their last one.
  std::vector<float> a(128), b(64), c(128), x(32, 1.0f);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50);
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(static_cast<int>(i * 29 % 83) - 41);
  for (std::size_t i = 0; i < c.size(); ++i) c[i] = static_cast<float>(i);
  a[3 * 16 + 9] = 2051, b[2 * 8 + 7] = -2303;
  x = {1, 1 + 0x1p-11f, -1 - 0x1p-11f, 1 + 0x1p-11f - 0x1p-23f, 1 + 0x3p-11f, 0, -0.0f, 0x1.fffp7f};
  const std::vector<float> rounded = {1, 1 + 0x1p-10f, -1 - 0x1p-10f, 1, 1 + 0x1p-9f, 0, -0.0f, 0x1p8f};
  x.resize(32, 3), x[31] = std::numeric_limits<float>::infinity();
  const auto [sum, round] = run(a, b, c, x);
  a[3 * 16 + 9] = 2050, b[2 * 8 + 7] = -2302;
  for (std::size_t m = 0; m < 16; ++m)
    for (std::size_t n = 0; n < 8; ++n) {
      float want = c[n * 16 + m];
      for (std::size_t k = 0; k < 8; ++k) want += a[k * 16 + m] * b[n * 8 + k];
      check(sum[n * 16 + m] == want, "vocabulary: c(", m, ", ", n, ") is ", sum[n * 16 + m], ", not ", want);
    }
  for (std::size_t i = 0; i < rounded.size(); ++i)
    check(round[i] == rounded[i], "vocabulary: ", x[i], " is rounded to ", round[i], ", not ", rounded[i]);
  check(round[31] == x[31] && round[20] == 3, "vocabulary: infinity is rounded to ", round[31]);

  // Sums that are rounded are off by a few of the last bits of the greatest.
  Rng rng(3);
  a = test::normal(128, rng), b = test::normal(64, rng), c = test::normal(128, rng);
  for (std::vector<float>* v : {&a, &b})
    for (float& one : *v) one = std::ldexp(std::round(std::ldexp(one, 8)), -8);  // at most 11 bits
  const std::vector<float> got = run(a, b, c, x).first;
  for (std::size_t m = 0; m < 16; ++m)
    for (std::size_t n = 0; n < 8; ++n) {
      test::Exact want;
      want.add(double{c[n * 16 + m]});
      for (std::size_t k = 0; k < 8; ++k) want.add(double{a[k * 16 + m]} * double{b[n * 8 + k]});
      check(std::fabs(double{got[n * 16 + m]} - want.value) <= 0x8p-24 * want.magnitude, "vocabulary: c(", m, ", ", n,
            ") is ", got[n * 16 + m], ", not ", want.value);
    }
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
