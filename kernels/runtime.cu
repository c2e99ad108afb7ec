// The runtime's CUDA body.
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <mutex>

#include "captured.hpp"
#include "runtime.hpp"
#include "staging.hpp"

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

struct PinnedCopies {
  using Mark = cudaEvent_t;
  char* pin(std::size_t bytes) {
    void* memory = nullptr;
    require(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "copy_to_device");
    return static_cast<char*>(memory);
  }
  void copy(void* to, const void* from, std::size_t bytes, void* stream) {
    require(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(stream)), "copy_to_device");
  }
  Mark mark(void* stream, Mark old) {
    if (!old) require(cudaEventCreateWithFlags(&old, cudaEventDisableTiming), "copy_to_device");
    require(cudaEventRecord(old, stream_of(stream)), "copy_to_device");
    return old;
  }
  void wait(Mark mark) {
    if (mark) require(cudaEventSynchronize(mark), "copy_to_device");
  }
};

/// A batch of labels takes a small block, one of images a large one.
void copy_staged(void* to, const void* from, std::size_t bytes, void* stream) {
  static auto& small =
      *new Staging<PinnedCopies>(std::size_t{64} << 10, 128);  // never destroyed: the driver may be gone
  static auto& large = *new Staging<PinnedCopies>(std::size_t{2} << 20, 8);
  (bytes <= small.block_bytes() ? small : large).copy(to, from, bytes, stream);
}

}  // namespace

/// The graph, its memory, and what it copies to the device.
class CapturedWork {
 public:
  CapturedWork(Draw first, Place place) : draws(first, place), stream(place) {
    require(cudaEventCreateWithFlags(&launched, cudaEventDisableTiming), place);
  }
  CapturedWork(const CapturedWork&) = delete;
  CapturedWork& operator=(const CapturedWork&) = delete;
  ~CapturedWork() {
    (void)cudaEventSynchronize(launched);  // not the device: another thread may capture
    (void)cudaEventDestroy(launched);
    if (exec) (void)cudaGraphExecDestroy(exec);
    for (void* memory : pinned) (void)cudaFreeHost(memory);
  }
  /// A copy that lives as long.
  const void* pinned_copy(const void* from, std::size_t bytes, Place place) {
    void* memory = nullptr;
    require(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), place);
    pinned.push_back(memory);
    std::memcpy(memory, from, bytes);
    return memory;
  }

  Arena arena;
  CapturedDraws draws;
  Stream stream;
  std::vector<void*> pinned;
  cudaGraphExec_t exec{};
  cudaEvent_t launched{};  // for the last time
};

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
  if (capturing) return capturing->arena.take(bytes, place);
  keep_freed_memory(place);
  void* memory = nullptr;
  require(cudaMallocAsync(&memory, bytes ? bytes : 1, stream_of(stream)), place);
  return memory;
}
void release(void* memory, void* stream) noexcept {
  if (Arena::give(memory)) return;
  if (capturing)
    capturing->arena.keep(memory);
  else
    (void)cudaFreeAsync(memory, stream_of(stream));
}
void* allocate_apart(std::size_t bytes, Place place) {
  static const Stream& apart = *new Stream(place);
  keep_freed_memory(place);
  void* memory = nullptr;
  require(cudaMallocAsync(&memory, bytes, stream_of(apart.get())), place);
  require(cudaStreamSynchronize(stream_of(apart.get())), place);
  return memory;
}
void copy_to_device(void* to, const void* from, std::size_t bytes, void* stream, Place place) {
  if (bytes == 0) return;
  if (!capturing) return copy_staged(to, from, bytes, stream);
  const void* kept = capturing->pinned_copy(from, bytes, place);
  require(cudaMemcpyAsync(to, kept, bytes, cudaMemcpyHostToDevice, stream_of(stream)), place);
}
void copy_to_host(void* to, const void* from, std::size_t bytes, void* stream, Place place) {
  refuse_capture(place);
  if (bytes == 0) return;
  require(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(stream)), place);
}
void copy_on_device(void* to, const void* from, std::size_t bytes, void* stream, Place place) {
  if (bytes == 0) return;
  require(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(stream)), place);
}
void fill(void* to, int byte, std::size_t bytes, void* stream, Place place) {
  if (bytes == 0) return;
  require(cudaMemsetAsync(to, byte, bytes, stream_of(stream)), place);
}
void synchronize(void* stream, Place place) {
  refuse_capture(place);
  require(cudaStreamSynchronize(stream_of(stream)), place);
}

Capture::Capture(const std::function<void()>& work, Draw first, Place place) {
  check_not_capturing(place);
  auto captured = std::make_unique<CapturedWork>(first, place);
  cudaGraph_t graph{};
  const cudaStream_t stream = stream_of(captured->stream.get());
  require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), place);
  try {
    const StreamGuard here(captured->stream);
    const CapturingGuard guard(captured.get());
    work();
  } catch (...) {
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();
    throw;
  }
  require(cudaStreamEndCapture(stream, &graph), place);
  const cudaError_t made = cudaGraphInstantiate(&captured->exec, graph, 0);
  (void)cudaGraphDestroy(graph);
  require(made, place);
  work_ = captured.release();
}
Capture::~Capture() { delete work_; }
void Capture::launch(void* stream, Draw first, Place place) {
  check(work_ != nullptr, place.op, ": nothing is captured (moved from)");
  check_not_capturing(place);
  work_->draws.begin(first, stream, place);
  require(cudaGraphLaunch(work_->exec, stream_of(stream)), place);
  require(cudaEventRecord(work_->launched, stream_of(stream)), place);
}
std::uint64_t Capture::draws() const { return work_ ? work_->draws.count() : 0; }
KernelDraw drawn(Draw draw, Place place) { return capturing ? capturing->draws.drawn(draw, place) : KernelDraw{draw}; }

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
  refuse_capture(place);
  float milliseconds = 0;
  require(cudaEventSynchronize(event_of(handle_)), place);
  require(cudaEventElapsedTime(&milliseconds, event_of(begin.handle_), event_of(handle_)), place);
  return 1e3 * static_cast<double>(milliseconds);
}

void allow_shared(const void* kernel, std::size_t shared, Place place) {
  // Raised only: what was captured with more is launched with more.
  static std::mutex mutex;
  static auto& allowed = *new std::map<std::pair<const void*, int>, std::size_t>;  // by kernel and GPU
  int device = 0;
  require(cudaGetDevice(&device), place);
  std::lock_guard lock(mutex);
  std::size_t& most = allowed[{kernel, device}];
  if (shared <= most) return;
  require(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), place);
  most = shared;
}
void check_launch(int error, Place place) { require(static_cast<cudaError_t>(error), place); }

}  // namespace deepstruct::runtime
