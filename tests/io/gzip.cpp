// Gzip: inflating, limits, damaged streams, IDX sets from .gz files.
#include <deepstruct/io/gzip.hpp>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "support/catch.hpp"

using namespace deepstruct;

namespace {

using Bytes = std::vector<std::byte>;

Bytes bytes_of(const std::string& text) {
  const auto b = std::as_bytes(std::span(text));
  return {b.begin(), b.end()};
}

Bytes gzip(const std::string& text) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  Bytes out(deflateBound(&stream, text.size()) + 64);
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

struct TemporaryFile {
  explicit TemporaryFile(const Bytes& bytes)
      : path(std::filesystem::temp_directory_path() / ("deepstruct_gzip_" + std::to_string(std::random_device{}()))) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
  std::filesystem::path path;
};

const std::string image_bytes("\0\0\x08\3\0\0\0\2\0\0\0\1\0\0\0\2\x00\xFF\x33\x80", 20);
const std::string label_bytes("\0\0\x08\1\0\0\0\2\7\3", 10);

}  // namespace

TEST_CASE("gunzip gives back what was compressed", "[gzip]") {
  std::string noise;  // larger than one chunk, and hard to compress
  for (unsigned k = 0; k < 700'000; ++k) noise += static_cast<char>(k * 2654435761u >> 24 ^ k >> 3);
  for (const std::string& text : {std::string(), std::string("hello"), std::string(1 << 18, 'x'), noise}) {
    CHECK((gunzip(gzip(text)) == bytes_of(text)));
  }
}

TEST_CASE("several streams in a row are one file", "[gzip]") {
  Bytes two = gzip("first ");
  const Bytes second = gzip("second");
  two.insert(two.end(), second.begin(), second.end());
  CHECK((gunzip(two) == bytes_of("first second")));
}

TEST_CASE("damaged, truncated and foreign streams are Errors", "[gzip]") {
  const Bytes good = gzip("a text that is long enough, long enough, long enough to be compressed");
  REQUIRE(error_of([&] { gunzip(good); }) == "no error");
  for (std::size_t size = 2; size < good.size(); ++size) {
    INFO("cut to " << size << " bytes");
    CHECK(contains(error_of([&] { gunzip(std::span(good).first(size)); }), "gunzip: the stream is cut off"));
  }
  CHECK(contains(error_of([&] { gunzip(std::span(good).first(1)); }), "not a gzip stream"));
  CHECK(contains(error_of([] { gunzip({}); }), "not a gzip stream"));
  int harmless = 0;
  for (std::size_t k = 10; k < good.size(); ++k)  // behind the header every bit counts: data, checksum, length
    for (int bit = 0; bit < 8; ++bit) {
      Bytes damaged = good;
      damaged[k] ^= std::byte{1} << bit;
      Bytes out;
      if (error_of([&] { out = gunzip(damaged); }) != "no error") continue;
      ++harmless;
      CHECK((out == gunzip(good)));
    }
  CHECK(harmless < 8);  // but the bits that fill up the last byte of the data
  Bytes method = good;
  method[2] = std::byte{0};
  CHECK(contains(error_of([&] { gunzip(method); }), "gunzip: damaged data"));
  Bytes longer = good;
  longer.push_back(std::byte{'!'});
  CHECK(error_of([&] { gunzip(longer); }) == "gunzip: foreign bytes behind the stream (1)");
}

TEST_CASE("a decompression bomb stops at the limit", "[gzip]") {
  const Bytes bomb = gzip(std::string(30'000'000, '\0'));
  REQUIRE(bomb.size() < 100'000);
  CHECK(error_of([&] { gunzip(bomb, {.max_bytes = 1'000'000}); }) ==
        "gunzip: inflates to more than allowed (1000000 bytes)");
  CHECK(gunzip(bomb, {.max_bytes = 30'000'000}).size() == 30'000'000);
  CHECK(contains(error_of([&] { gunzip(bomb, {.max_bytes = 29'999'999}); }), "more than allowed"));
  const TemporaryFile file(bomb);
  CHECK(contains(error_of([&] { read_file(file.path, {.max_bytes = 1'000'000}); }),
                 "(1000000 bytes) in " + file.path.string()));
  CHECK(contains(error_of([&] { read_file(file.path, {.max_bytes = 100}); }), "the file is larger than allowed"));
}

TEST_CASE("IDX sets load from plain and from .gz files", "[gzip]") {
  for (bool compressed : {false, true}) {
    const TemporaryFile image_file(compressed ? gzip(image_bytes) : bytes_of(image_bytes));
    const TemporaryFile label_file(compressed ? gzip(label_bytes) : bytes_of(label_bytes));
    const Tensor x = load_idx_images(image_file.path);
    REQUIRE(x.shape() == Shape{2, 1, 2});
    CHECK(x == Tensor::from({2, 1, 2}, {0, 1, 51 / 255.0f, 128 / 255.0f}));
    CHECK(load_idx_labels(label_file.path) == Indices::from({2}, {7, 3}));
    CHECK(contains(error_of([&] { load_idx_labels(image_file.path); }), "in " + image_file.path.string()));
  }
}

TEST_CASE("missing and damaged files are named", "[gzip]") {
  CHECK(error_of([] { load_idx_images("/no/such/file.gz"); }) == "read_file: no such file (/no/such/file.gz)");
  const Bytes whole = gzip(image_bytes);
  const TemporaryFile file(Bytes(whole.begin(), whole.end() - 5));
  CHECK(contains(error_of([&] { load_idx_images(file.path); }), "gunzip: the stream is cut off"));
  CHECK(contains(error_of([&] { load_idx_images(file.path); }), file.path.string()));
  const TemporaryFile empty(Bytes{});
  CHECK(read_file(empty.path).empty());
  CHECK(contains(error_of([&] { load_idx_images(empty.path); }), "too short for IDX (0 bytes)"));
}
