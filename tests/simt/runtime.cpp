// The runtime's body for the emulator: device memory is the host's, streams and events are nothing.
#include "../../kernels/runtime.hpp"

#include <chrono>
#include <cstring>

namespace deepstruct::runtime {

int device_count() { return 1; }
Properties properties(Place) { return {"emulator", 0, 1, 227 * 1024, 0, 0}; }

void* allocate(std::size_t bytes, void*, Place place) {
  void* memory = simt::emulator::allocate(bytes);
  check(memory != nullptr, place.op, ": out of memory (", bytes, " bytes)");
  return memory;
}
void release(void* memory, void*) noexcept { simt::emulator::release(memory); }
void copy_to_device(void* to, const void* from, std::size_t bytes, void*, Place) {
  if (bytes) simt::emulator::check_argument(&to, sizeof to);
  const simt::emulator::Opened opened;
  if (bytes) std::memcpy(to, from, bytes);
}
void copy_to_host(void* to, const void* from, std::size_t bytes, void*, Place) {
  if (bytes) simt::emulator::check_argument(&from, sizeof from);
  const simt::emulator::Opened opened;
  if (bytes) std::memcpy(to, from, bytes);
}
void copy_on_device(void* to, const void* from, std::size_t bytes, void*, Place) {
  const simt::emulator::Opened opened;
  if (bytes) std::memcpy(to, from, bytes);
}
void fill(void* to, int byte, std::size_t bytes, void*, Place) {
  const simt::emulator::Opened opened;
  if (bytes) std::memset(to, byte, bytes);
}
void synchronize(void*, Place) {}

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
