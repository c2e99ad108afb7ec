// What the GPU can do at most: memory, L2 and shared memory bandwidth, multiply-adds, and what a launch costs.
// Usage: ceilings OUT.json
#include <fstream>

#include "measure.hpp"

namespace {

__global__ void multiply_adds(float* out, int n, float a) {
  float s[16];
  for (int i = 0; i < 16; ++i) s[i] = a + static_cast<float>(threadIdx.x + i);
  for (int k = 0; k < n; ++k)
#pragma unroll
    for (int i = 0; i < 16; ++i) s[i] = s[i] * a + 1.0f;
  float sum = 0;
  for (int i = 0; i < 16; ++i) sum += s[i];
  if (sum == 0.12345f) out[0] = sum;
}

__global__ void __launch_bounds__(1024) shared_reads(float* out, int n) {
  __shared__ float4 data[2048];
  for (int i = threadIdx.x; i < 2048; i += blockDim.x) data[i] = {1, 2, 3, 4};
  __syncthreads();
  float4 s{};
  int at = threadIdx.x;
  for (int k = 0; k < n; ++k) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float4 v = data[(at + j * 264) & 2047];
      s.x += v.x, s.y += v.y, s.z += v.z, s.w += v.w;
    }
    at += 40;
  }
  if (s.x + s.y + s.z + s.w == 0.12345f) out[0] = s.x;
}

template <bool L1>
__global__ void __launch_bounds__(1024) cached_reads(const float4* data, int mask, int n, int stride, float* out) {
  float4 s{};
  unsigned at = (L1 ? 0u : blockIdx.x * 7919u * 32u) + threadIdx.x;
  for (int k = 0; k < n; ++k) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float4* p = data + ((at + static_cast<unsigned>(j * stride)) & static_cast<unsigned>(mask));
      const float4 v = L1 ? __ldg(p) : __ldcg(p);
      s.x += v.x, s.y += v.y, s.z += v.z, s.w += v.w;
    }
    at += static_cast<unsigned>(8 * stride);
  }
  if (s.x + s.y + s.z + s.w == 0.12345f) out[0] = s.x;
}

__global__ void nothing() {}

}  // namespace

int main(int argc, char** argv) {
  const auto p = deepstruct::runtime::properties();
  cudaStream_t stream;
  bench::require(cudaStreamCreate(&stream), "stream");
  const std::size_t bytes = std::size_t{1} << 30;
  const bench::Buffer<float> a(bytes / 4), b(bytes / 4);
  deepstruct::runtime::fill(a.data(), 0x3c, bytes, nullptr, "fill");
  deepstruct::runtime::synchronize(nullptr);
  const unsigned blocks = static_cast<unsigned>(p.processors);

  const double copy = bench::time_us(stream, 1, [&](int) {
    bench::require(cudaMemcpyAsync(b.data(), a.data(), bytes, cudaMemcpyDeviceToDevice, stream), "copy");
  });
  const double fma =
      bench::time_us(stream, 1, [&](int) { multiply_adds<<<blocks * 2, 1024, 0, stream>>>(b.data(), 2000, 0.999f); });
  const double shared =
      bench::time_us(stream, 1, [&](int) { shared_reads<<<blocks, 1024, 0, stream>>>(b.data(), 500); });
  const double l2 = bench::time_us(stream, 1, [&](int) {
    cached_reads<false>
        <<<blocks * 2, 1024, 0, stream>>>(reinterpret_cast<const float4*>(a.data()), (1 << 20) - 1, 40, 1024, b.data());
  });
  const double l1 = bench::time_us(stream, 1, [&](int) {
    cached_reads<true><<<blocks, 1024, 0, stream>>>(reinterpret_cast<const float4*>(a.data()), (1 << 12) - 1, 400,
                                                    1024 + 32, b.data());
  });
  const double node = bench::time_us(stream, 1, [&](int) { nothing<<<1, 32, 0, stream>>>(); });

  bench::Row row;
  row.text("device", p.name).number("driver", p.driver).number("multiprocessors", p.processors);
  row.number("l2_mib", static_cast<double>(p.cache_bytes) / 1048576);
  row.number("copy_tb_s", 2.0 * static_cast<double>(bytes) / copy * 1e-6);
  row.number("fma_tflop_s", 2.0 * 16 * 2000 * 1024 * 2 * blocks / fma * 1e-6);
  row.number("shared_tb_s", 16.0 * 8 * 500 * 1024 * blocks / shared * 1e-6);
  row.number("l2_read_tb_s", 16.0 * 8 * 40 * 1024 * 2 * blocks / l2 * 1e-6);
  row.number("l1_hit_tb_s", 16.0 * 8 * 400 * 1024 * blocks / l1 * 1e-6);
  row.number("graph_node_us", node);
  std::printf("ceilings: %s\n", row.str().c_str());
  if (argc > 1) std::ofstream(argv[1]) << row.str() << "\n";
}
