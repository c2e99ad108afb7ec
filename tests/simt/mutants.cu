// Proof that the emulator sees what it is for: kernels with a planted bug each. Usage: mutants NAME
//
// Exit code 1 and a line that begins with "caught" if the result or a Fault gives the bug away; the sanitizers end the
// program in their own way.
#include <cmath>
#include <cstring>
#include <iostream>

#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;

struct Sums {
  float of_warp[4];
};
/// Sum of a block; without the barrier some sums are read before they are written.
__global__ void sum_without_barrier(const float* x, float* sum) {
  Sums& sums = simt::shared<Sums>();
  if (threadIdx.x % 32 == 0) sums.of_warp[threadIdx.x / 32] = x[threadIdx.x];
  if (threadIdx.x == 0) *sum = sums.of_warp[0] + sums.of_warp[1] + sums.of_warp[2] + sums.of_warp[3];
}
/// Lanes of one warp exchange through shared memory as if they ran in step.
__global__ void lanes_in_step(float* y) {
  Sums& sums = simt::shared<Sums>();
  if (threadIdx.x < 4) sums.of_warp[threadIdx.x] = 1;
  (void)__shfl_sync(0xffffffffu, 0, 0);  // meets the lanes, but orders no memory
  if (threadIdx.x < 4) y[threadIdx.x] = sums.of_warp[3 - threadIdx.x];
}
__global__ void blocks_collide(float* y) { *y = static_cast<float>(blockIdx.x + threadIdx.x); }
__global__ void global_overrun(float* y, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (i <= n) y[i] = 1;
}
__global__ void shared_overrun(float* y) {
  float* data = simt::dynamic_shared<float>();
  data[threadIdx.x + 1] = 1;
  __syncthreads();
  y[threadIdx.x] = data[threadIdx.x];
}
__global__ void barrier_apart(float* y) {
  if (threadIdx.x < 40)
    __syncthreads();
  else
    __syncthreads();
  y[threadIdx.x] = 1;
}
__global__ void lanes_missing(int* y) {
  if (threadIdx.x < 7) y[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}
__global__ void unwritten(float* y) {
  if (threadIdx.x != 17) y[threadIdx.x] = 1;
}
__global__ void no_wait(const float4* x, float* y) {
  float4* data = simt::dynamic_shared<float4>();
  simt::copy_async(data + threadIdx.x, x + threadIdx.x);
  simt::copy_commit();
  __syncthreads();
  y[threadIdx.x] = data[threadIdx.x].x;
}

/// Every element must be a number.
void expect_numbers(const Buffer<float>& y) {
  for (const float v : y.to_host()) check(!std::isnan(v), "NaN");
}

void run(const std::string& name) {
  const std::vector<float> ones(128, 1.0f);
  const Buffer<float> x{std::span<const float>(ones)}, y(64), one(1);
  const Buffer<float4> quads(64);
  runtime::fill(quads.data(), 0, quads.size() * sizeof(float4), nullptr, "mutants");
  const Buffer<int> whole(64);
  if (name == "sum_without_barrier") {
    runtime::launch("mutants", &sum_without_barrier, 1, 128, 0, nullptr, x.data(), one.data());
    expect_numbers(one);
  } else if (name == "lanes_in_step") {
    const Buffer<float> four(4);
    runtime::launch("mutants", &lanes_in_step, 1, 32, 0, nullptr, four.data());
    expect_numbers(four);
  } else if (name == "blocks_collide") {
    runtime::launch("mutants", &blocks_collide, 2, 4, 0, nullptr, one.data());
  } else if (name == "global_overrun") {
    runtime::launch("mutants", &global_overrun, 1, 96, 0, nullptr, y.data(), 64);
  } else if (name == "shared_overrun") {
    runtime::launch("mutants", &shared_overrun, 1, 64, 64 * sizeof(float), nullptr, y.data());
  } else if (name == "barrier_apart") {
    runtime::launch("mutants", &barrier_apart, 1, 64, 0, nullptr, y.data());
  } else if (name == "lanes_missing") {
    runtime::launch("mutants", &lanes_missing, 1, 32, 0, nullptr, whole.data());
  } else if (name == "unwritten") {
    runtime::launch("mutants", &unwritten, 1, 64, 0, nullptr, y.data());
    expect_numbers(y);
  } else if (name == "no_wait") {
    runtime::launch("mutants", &no_wait, 1, 64, 64 * sizeof(float4), nullptr, quads.data(), y.data());
    expect_numbers(y);
  } else {
    fail("mutants: there is no ", name);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? argv[1] : "");
  } catch (const std::exception& e) {
    std::cout << "caught: " << e.what() << "\n";
    return 1;
  }
  std::cout << "not noticed\n";
}
