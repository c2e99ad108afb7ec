// write_file: a text file that is either whole or not there.
#pragma once

#include <deepstruct/core/error.hpp>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

namespace examples {

/// Creates the folders above `path`; throws Error where that is not possible.
inline void make_parent(const std::filesystem::path& path) {
  if (!path.has_parent_path()) return;
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  deepstruct::check(!error, "write: cannot create the folder ", path.parent_path().string(), " (", error.message(),
                    ")");
}

/// Writes `text` to `path`: first beside it, then renamed, so that an interrupted run leaves no half file.
inline void write_file(const std::filesystem::path& path, std::string_view text) {
  make_parent(path);
  std::filesystem::path part = path;
  part += ".part";
  errno = 0;
  std::ofstream out(part, std::ios::binary | std::ios::trunc);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  out.close();
  std::error_code error;
  if (!out) {
    const int reason = errno;
    std::filesystem::remove(part, error);
    deepstruct::fail("write: cannot write ", path.string(), " (", std::strerror(reason), ")");
  }
  std::filesystem::rename(part, path, error);
  deepstruct::check(!error, "write: cannot write ", path.string(), " (", error.message(), ")");
}

}  // namespace examples
