// The runtime of a GPU as the library sees it: memory, copies, streams and events. Its bodies stand in
// deepstruct::cuda; nothing here needs a CUDA header, and a program without CUDA calls nothing of it.
#pragma once

#include <cstddef>
#include <functional>
#include <source_location>
#include <string>
#include <utility>

#include "device.hpp"
#include "rng.hpp"

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
/// Copies in the order of the stream. To the device: what is copied has been read when the call returns, which waits
/// for nothing (pinned memory takes it first, 24 MiB in rounds). To the host: memory that is copied to must live until
/// the stream has come so far.
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

/// Work that was captured instead of done, and is done by each launch: a CUDA graph. The host pays for its kernels
/// once.
///
/// Memory taken while work is captured belongs to the capture: given back, it serves what is captured after it, and
/// nobody else while the capture lives; values that outlive it keep theirs. Memory from before that is given back
/// meanwhile is kept as long, since the work may read it. What is copied to the device is copied by every launch, as it
/// was. Nothing may wait for the device; that throws Error, and then nothing is captured.
class Capture {
 public:
  /// Captures what work() asks of the current stream, which is meanwhile one of the capture's own. What it draws at
  /// random comes from the generator whose next draw is `first`; other generators throw Error.
  explicit Capture(const std::function<void()>& work, Draw first = {}, Place place = "Capture");
  Capture(Capture&& other) noexcept : work_(std::exchange(other.work_, nullptr)) {}
  Capture& operator=(Capture&& other) noexcept {
    std::swap(work_, other.work_);
    return *this;
  }
  ~Capture();
  /// Does it all, in the order of a stream, and draws from `first` on as it did when it was captured.
  void launch(void* stream, Draw first = {}, Place place = "Capture::launch");
  /// One more than the last draw that it needs, counted from `first`; 0 if it draws nothing.
  std::uint64_t draws() const;

 private:
  CapturedWork* work_ = nullptr;
};

}  // namespace deepstruct::runtime
