// Files that are written whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <span>
#include <system_error>

#include "../core/error.hpp"

namespace deepstruct {

/// Writes a file so that it is whole or not there: under another name first, then renamed.
inline void write_whole_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  const std::filesystem::path part = path.string() + ".part";
  std::ofstream out(part, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  out.close();
  std::error_code problem;
  if (out) std::filesystem::rename(part, path, problem);
  if (!out || problem) {
    std::error_code ignored;
    std::filesystem::remove(part, ignored);
    fail("save: cannot write the file (", path.string(), ")");
  }
}

}  // namespace deepstruct
