// Gzip: files read whole, inflated when they are compressed, and IDX data sets straight from .gz files.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <vector>

#include "../train/idx.hpp"

namespace deepstruct {

/// Limits of reading a file.
struct ReadOptions {
  std::uint64_t max_bytes = std::uint64_t{4} << 30;  ///< of the file and of what it inflates to: no decompression bombs
};

/// True when the bytes begin like a gzip stream.
inline bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1F} && bytes[1] == std::byte{0x8B};
}

/// Inflates one or several gzip streams in a row. Throws on damaged, truncated or foreign bytes, and past the limit.
inline std::vector<std::byte> gunzip(std::span<const std::byte> bytes, const ReadOptions& options = {}) {
  check(is_gzip(bytes), "gunzip: not a gzip stream (", bytes.size(), " bytes)");
  struct Stream : z_stream {
    Stream() : z_stream{} {
      check(inflateInit2(this, 16 + MAX_WBITS) == Z_OK, "gunzip: zlib cannot start (version ", zlibVersion(), ")");
    }
    Stream(const Stream&) = delete;
    ~Stream() { inflateEnd(this); }
  } stream;
  std::vector<std::byte> out, chunk(std::size_t{1} << 16);
  std::size_t used = 0;
  for (;;) {
    const std::size_t give = std::min<std::size_t>(bytes.size() - used, std::numeric_limits<uInt>::max());
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data() + used));
    stream.avail_in = static_cast<uInt>(give);
    stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
    stream.avail_out = static_cast<uInt>(chunk.size());
    const int state = inflate(&stream, Z_NO_FLUSH);
    used += give - stream.avail_in;
    const std::size_t made = chunk.size() - stream.avail_out;
    check(state == Z_OK || state == Z_STREAM_END || state == Z_BUF_ERROR, "gunzip: damaged data (",
          stream.msg ? stream.msg : "zlib error", " after ", used, " of ", bytes.size(), " bytes)");
    check(made <= options.max_bytes - out.size(), "gunzip: inflates to more than allowed (", options.max_bytes,
          " bytes)");
    out.insert(out.end(), chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(made));
    if (state == Z_STREAM_END) {
      if (used == bytes.size()) return out;
      check(is_gzip(bytes.subspan(used)) && inflateReset(&stream) == Z_OK, "gunzip: foreign bytes behind the stream (",
            bytes.size() - used, ")");
    } else {
      check(made > 0 || used < bytes.size(), "gunzip: the stream is cut off (after ", bytes.size(), " bytes)");
    }
  }
}

/// The bytes of a file, inflated when it is gzip (known by its first bytes, not by its name).
inline std::vector<std::byte> read_file(const std::filesystem::path& path, const ReadOptions& options = {}) {
  auto bytes = read_plain_file(path, options.max_bytes);
  if (!is_gzip(bytes)) return bytes;
  return detail::of_file(path, [&] { return gunzip(bytes, options); });
}

/// idx_images of a file, plain or .gz.
inline Tensor load_idx_images(const std::filesystem::path& path, const ReadOptions& options = {}) {
  const auto bytes = read_file(path, options);
  return detail::of_file(path, [&] { return idx_images(bytes); });
}

/// idx_labels of a file, plain or .gz.
inline Indices load_idx_labels(const std::filesystem::path& path, const ReadOptions& options = {}) {
  const auto bytes = read_file(path, options);
  return detail::of_file(path, [&] { return idx_labels(bytes); });
}

}  // namespace deepstruct
