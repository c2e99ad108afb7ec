// The runtime's body for the emulator: device memory is the host's, streams and events are nothing, captured work is a
// list of calls.
#include "../../kernels/runtime.hpp"

#include <chrono>
#include <cstring>
#include <memory>

#include "../../kernels/captured.hpp"

namespace deepstruct::runtime {

class CapturedWork {
 public:
  CapturedWork(Draw first, Place place) : draws(first, place) {}

  Arena arena;
  CapturedDraws draws;
  std::vector<std::function<void()>> calls;
};

void emulate(const std::function<void()>& work) {
  if (capturing)
    capturing->calls.push_back(work);
  else
    work();
}

int device_count() { return 1; }
Properties properties(Place) { return {"emulator", 0, 1, 227 * 1024, 0, 0}; }

void* allocate_apart(std::size_t bytes, Place place) {
  void* memory = simt::emulator::allocate(bytes);
  check(memory != nullptr, place.op, ": out of memory (", bytes, " bytes)");
  return memory;
}
void* allocate(std::size_t bytes, void*, Place place) {
  return capturing ? capturing->arena.take(bytes, place) : allocate_apart(bytes, place);
}
void release(void* memory, void*) noexcept {
  if (Arena::give(memory)) return;
  if (capturing)
    capturing->arena.keep(memory);
  else
    simt::emulator::release(memory);
}

void copy_to_device(void* to, const void* from, std::size_t bytes, void*, Place) {
  if (bytes == 0) return;
  simt::emulator::check_argument(&to, sizeof to);
  emulate([to, copy = std::vector<char>(static_cast<const char*>(from), static_cast<const char*>(from) + bytes)] {
    const simt::emulator::Opened opened;
    std::memcpy(to, copy.data(), copy.size());
  });
}
void copy_to_host(void* to, const void* from, std::size_t bytes, void*, Place place) {
  refuse_capture(place);
  if (bytes) simt::emulator::check_argument(&from, sizeof from);
  const simt::emulator::Opened opened;
  if (bytes) std::memcpy(to, from, bytes);
}
void copy_on_device(void* to, const void* from, std::size_t bytes, void*, Place) {
  if (bytes == 0) return;
  emulate([=] {
    const simt::emulator::Opened opened;
    std::memcpy(to, from, bytes);
  });
}
void fill(void* to, int byte, std::size_t bytes, void*, Place) {
  if (bytes == 0) return;
  emulate([=] {
    const simt::emulator::Opened opened;
    std::memset(to, byte, bytes);
  });
}
void synchronize(void*, Place place) { refuse_capture(place); }

Capture::Capture(const std::function<void()>& work, Draw first, Place place) {
  check_not_capturing(place);
  auto captured = std::make_unique<CapturedWork>(first, place);
  {
    const CapturingGuard guard(captured.get());
    work();
  }
  work_ = captured.release();
}
Capture::~Capture() { delete work_; }
std::uint64_t Capture::draws() const { return work_ ? work_->draws.count() : 0; }
void Capture::launch(void* stream, Draw first, Place place) {
  check(work_ != nullptr, place.op, ": nothing is captured (moved from)");
  check_not_capturing(place);
  work_->draws.begin(first, stream, place);
  for (const auto& call : work_->calls) call();
}
KernelDraw drawn(Draw draw, Place place) { return capturing ? capturing->draws.drawn(draw, place) : KernelDraw{draw}; }

Stream::Stream(Place) {}
Stream::~Stream() = default;
Event::Event(Place) : handle_(new std::chrono::steady_clock::time_point) {}
Event::~Event() { delete static_cast<std::chrono::steady_clock::time_point*>(handle_); }
void Event::record(void*, Place) {
  *static_cast<std::chrono::steady_clock::time_point*>(handle_) = std::chrono::steady_clock::now();
}
double Event::since(const Event& begin, Place) const {
  return std::chrono::duration<double, std::micro>(*static_cast<std::chrono::steady_clock::time_point*>(handle_) -
                                                   *static_cast<std::chrono::steady_clock::time_point*>(begin.handle_))
      .count();
}

void allow_shared(const void*, std::size_t, Place) {}
void check_launch(int, Place) {}

}  // namespace deepstruct::runtime
