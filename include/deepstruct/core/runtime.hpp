// The runtime of a GPU as the library sees it: memory, copies, streams and events. Its bodies stand in
// deepstruct::cuda; nothing here needs a CUDA header, and a program without CUDA calls nothing of it.
#pragma once

#include <cstddef>
#include <source_location>
#include <string>
#include <utility>

#include "device.hpp"

namespace deepstruct::runtime {

/// Who asks the runtime for something, and from where: an operation's name, and the line that names it.
struct Place {
  const char* op;
  std::source_location at;
  Place(const char* op_, std::source_location at_ = std::source_location::current()) : op(op_), at(at_) {}  // NOLINT
};

/// What is known of a GPU; the emulator calls itself "emulator".
struct Properties {
  std::string name;
  int driver = 0;      ///< version of the driver as CUDA counts: 1000·major + 10·minor
  int processors = 0;  ///< multiprocessors
  std::size_t shared_bytes = 0, cache_bytes = 0, memory_bytes = 0;
};

/// Of the current GPU.
Properties properties(Place place = "properties");

/// Memory on the device, in the order of the stream; uninitialised (the emulator fills it with NaN). Throws Error when
/// there is not so much.
void* allocate(std::size_t bytes, void* stream, Place place);
void release(void* memory, void* stream) noexcept;
/// Copies in the order of the stream. To the device: from memory that CUDA knows nothing of (pageable), what is copied
/// has been staged when the call returns; other memory must live until the stream has come so far, as must memory that
/// is copied to.
void copy_to_device(void* to, const void* from, std::size_t bytes, void* stream, Place place);
void copy_to_host(void* to, const void* from, std::size_t bytes, void* stream, Place place);
void copy_on_device(void* to, const void* from, std::size_t bytes, void* stream, Place place);
/// Sets every byte.
void fill(void* to, int byte, std::size_t bytes, void* stream, Place place);
/// Waits for all that was asked of the stream; throws Error if any of it failed.
void synchronize(void* stream, Place place = "synchronize");

/// A stream of its own, freed with its owner.
class Stream {
 public:
  explicit Stream(Place place = "Stream");
  Stream(Stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Stream();
  void* get() const { return handle_; }

 private:
  void* handle_ = nullptr;
};

/// A point in a stream that time is taken at.
class Event {
 public:
  explicit Event(Place place = "Event");
  Event(Event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Event();
  void record(void* stream, Place place = "Event::record");
  /// Microseconds from `begin` to here; waits until both have happened.
  double since(const Event& begin, Place place = "Event::since") const;

 private:
  void* handle_ = nullptr;
};

/// While it lives, this thread works on the GPU in another stream. What was made in one stream may be used or freed in
/// another once synchronize() has waited for it.
class StreamGuard {
 public:
  explicit StreamGuard(const Stream& stream) : before_(std::exchange(current_stream, stream.get())) {}
  ~StreamGuard() { current_stream = before_; }
  StreamGuard(const StreamGuard&) = delete;
  StreamGuard& operator=(const StreamGuard&) = delete;

 private:
  void* before_;
};

}  // namespace deepstruct::runtime
