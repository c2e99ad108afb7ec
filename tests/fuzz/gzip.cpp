#include <algorithm>

#include <deepstruct/io/gzip.hpp>

#include "targets.hpp"

using namespace deepstruct;

namespace {

/// A gzip stream of the bytes.
std::vector<std::byte> fuzz_compressed(fuzz::Bytes bytes) {
  z_stream stream{};
  fuzz::require(deflateInit2(&stream, 1, Z_DEFLATED, 16 + 9, 1, Z_DEFAULT_STRATEGY) == Z_OK, "zlib");
  std::vector<std::byte> out(deflateBound(&stream, bytes.size()));
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  fuzz::require(deflate(&stream, Z_FINISH) == Z_STREAM_END, "zlib");
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

}  // namespace

void fuzz::gzip(Bytes bytes) {
  constexpr std::uint64_t limit = 1 << 20;
  const auto inflated = parsed([&] { return gunzip(bytes, {.max_bytes = limit}); });
  require(!inflated || inflated->size() <= limit, "gzip: the limit is passed");
  const Bytes all = inflated ? Bytes(*inflated) : bytes, content = all.first(std::min<std::size_t>(all.size(), 4096));
  auto stream = fuzz_compressed(content);
  const auto again = gunzip(stream);
  require(std::equal(again.begin(), again.end(), content.begin(), content.end()), "gzip: what was compressed differs");
  require(!parsed([&] { return gunzip(Bytes(stream).first(stream.size() - 1 - bytes.size() % 8)); }),
          "gzip: a stream that is cut off is taken");

  // Streams in a row are one file.
  stream.insert(stream.end(), bytes.begin(), bytes.end());
  const auto both = parsed([&] { return gunzip(stream, {.max_bytes = limit + 4096}); });
  require(both.has_value() == (inflated.has_value() || bytes.empty()), "gzip: it matters what stands before a stream");
  if (both && inflated)
    require(both->size() == content.size() + inflated->size() &&
                std::equal(inflated->begin(), inflated->end(), both->end() - static_cast<std::ptrdiff_t>(all.size())),
            "gzip: a second stream differs");
}
