// Files that are written whole or not at all.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <span>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/error.hpp"

namespace deepstruct {

namespace detail {

/// A file descriptor that is closed in the end.
class OpenFile {
 public:
  explicit OpenFile(int number = -1) : number_(number) {}
  OpenFile(OpenFile&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  OpenFile& operator=(OpenFile&&) = delete;
  ~OpenFile() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }

 private:
  int number_;
};

/// Repeats a system call that a signal interrupts; returns what it returns.
template <class Call>
auto uninterrupted(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

/// Opens the file beside the wanted one, alone: whoever writes the same file meanwhile waits for the lock, which the
/// system takes from a process that dies. Null if it cannot be opened.
inline OpenFile open_part(const std::filesystem::path& part) {
  for (;;) {
    OpenFile file(uninterrupted([&] { return ::open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666); }));
    if (file.number() < 0) return file;
    uninterrupted([&] { return ::flock(file.number(), LOCK_EX); });  // some file systems have no locks
    struct stat mine = {}, named = {};
    if (::fstat(file.number(), &mine) != 0) return OpenFile();
    if (!S_ISREG(mine.st_mode)) return errno = EINVAL, OpenFile();
    // Whoever had the lock before may have renamed the file away.
    if (::stat(part.c_str(), &named) == 0 && mine.st_ino == named.st_ino && mine.st_dev == named.st_dev) return file;
  }
}

inline bool write_all(int file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto written = uninterrupted([&] { return ::write(file, bytes.data(), bytes.size()); });
    if (written < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return true;
}

/// Makes a rename in a folder survive a power failure.
inline bool sync_folder(const std::filesystem::path& folder) {
  const OpenFile open(
      uninterrupted([&] { return ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (open.number() < 0) return errno == EACCES;  // a folder that may be written but not read
  return uninterrupted([&] { return ::fsync(open.number()); }) == 0 || errno == EINVAL || errno == ENOTSUP;
}

}  // namespace detail

/// Writes a file so that at any moment the old one or the new one is there, whole, also after a kill or a power
/// failure: `path`.part is written, brought to the disk (fsync), renamed to `path`, and so is the folder's entry.
///
/// Who is killed on the way leaves at most the one file `path`.part, which the next to write `path` overwrites. Writers
/// of the same file take turns, threads as well as processes. Throws where the file cannot be written; the old file is
/// untouched then, unless only the last step failed.
inline void write_whole_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::filesystem::path part = path;
  part += ".part";
  const detail::OpenFile file = detail::open_part(part);
  const auto give_up = [&](bool remove) {
    const int reason = errno;
    if (remove) ::unlink(part.c_str());
    fail("save: cannot write the file (", path.string(), ": ", std::strerror(reason), ")");
  };
  if (file.number() < 0) give_up(false);
  const bool written = ::ftruncate(file.number(), 0) == 0 && detail::write_all(file.number(), bytes) &&
                       detail::uninterrupted([&] { return ::fsync(file.number()); }) == 0;
  if (!written || ::rename(part.c_str(), path.c_str()) != 0) give_up(true);
  if (!detail::sync_folder(path.parent_path())) give_up(false);
}

}  // namespace deepstruct
