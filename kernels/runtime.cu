// The runtime's CUDA body.
#include <limits>

#include "runtime.hpp"

namespace deepstruct::runtime {
namespace {

void require(cudaError_t error, Place place) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();  // so that the next call does not report this one
  fail(place.op, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), " at ", place.at.file_name(), ":",
       place.at.line(), ")");
}
cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t event_of(void* event) { return static_cast<cudaEvent_t>(event); }

/// Freed memory stays with the process: a training step asks for the same sizes again.
void keep_freed_memory(Place place) {
  static const bool kept = [&] {
    int device = 0;
    cudaMemPool_t pool{};
    std::uint64_t all = std::numeric_limits<std::uint64_t>::max();
    require(cudaGetDevice(&device), place);
    require(cudaDeviceGetDefaultMemPool(&pool, device), place);
    require(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), place);
    return true;
  }();
  (void)kept;
}

}  // namespace

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return count;
}

Properties properties(Place place) {
  int device = 0;
  cudaDeviceProp p{};
  Properties out;
  require(cudaGetDevice(&device), place);
  require(cudaGetDeviceProperties(&p, device), place);
  require(cudaDriverGetVersion(&out.driver), place);
  out.name = p.name;
  out.processors = p.multiProcessorCount;
  out.shared_bytes = p.sharedMemPerBlockOptin;
  out.cache_bytes = static_cast<std::size_t>(p.l2CacheSize);
  out.memory_bytes = p.totalGlobalMem;
  return out;
}

void* allocate(std::size_t bytes, void* stream, Place place) {
  keep_freed_memory(place);
  void* memory = nullptr;
  require(cudaMallocAsync(&memory, bytes ? bytes : 1, stream_of(stream)), place);
  return memory;
}
void release(void* memory, void* stream) noexcept { (void)cudaFreeAsync(memory, stream_of(stream)); }
void copy_to_device(void* to, const void* from, std::size_t bytes, void* stream, Place place) {
  require(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(stream)), place);
}
void copy_to_host(void* to, const void* from, std::size_t bytes, void* stream, Place place) {
  require(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(stream)), place);
}
void copy_on_device(void* to, const void* from, std::size_t bytes, void* stream, Place place) {
  require(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(stream)), place);
}
void fill(void* to, int byte, std::size_t bytes, void* stream, Place place) {
  require(cudaMemsetAsync(to, byte, bytes, stream_of(stream)), place);
}
void synchronize(void* stream, Place place) { require(cudaStreamSynchronize(stream_of(stream)), place); }

Stream::Stream(Place place) {
  cudaStream_t stream{};
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), place);
  handle_ = stream;
}
Stream::~Stream() {
  if (handle_) (void)cudaStreamDestroy(stream_of(handle_));
}

Event::Event(Place place) {
  cudaEvent_t event{};
  require(cudaEventCreate(&event), place);
  handle_ = event;
}
Event::~Event() {
  if (handle_) (void)cudaEventDestroy(event_of(handle_));
}
void Event::record(void* stream, Place place) { require(cudaEventRecord(event_of(handle_), stream_of(stream)), place); }
double Event::since(const Event& begin, Place place) const {
  float milliseconds = 0;
  require(cudaEventSynchronize(event_of(handle_)), place);
  require(cudaEventElapsedTime(&milliseconds, event_of(begin.handle_), event_of(handle_)), place);
  return 1e3 * static_cast<double>(milliseconds);
}

void allow_shared(const void* kernel, std::size_t shared, Place place) {
  require(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), place);
}
void check_launch(int error, Place place) { require(static_cast<cudaError_t>(error), place); }

}  // namespace deepstruct::runtime
