// IDX, CSV and NPY: right values from right files, one clear Error from every damaged or hostile one.
#include <deepstruct/train/formats.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
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

std::string big_endian(std::uint32_t x) {
  return {static_cast<char>(x >> 24), static_cast<char>(x >> 16), static_cast<char>(x >> 8), static_cast<char>(x)};
}

/// An IDX file: element type, extents, raw data.
Bytes idx(char type, const std::vector<std::uint32_t>& extents, const std::string& data) {
  std::string text{'\0', '\0', type, static_cast<char>(extents.size())};
  for (auto e : extents) text += big_endian(e);
  return bytes_of(text + data);
}

/// A .npy file with this dictionary and raw data.
Bytes npy(const std::string& dictionary, const std::string& data, int version = 1) {
  std::string text = "\x93NUMPY";
  text += {static_cast<char>(version), '\0', static_cast<char>(dictionary.size() % 256),
           static_cast<char>(dictionary.size() / 256)};
  if (version > 1) text += std::string(2, '\0');
  return bytes_of(text + dictionary + data);
}

Bytes npy(const std::string& descr, const std::string& shape, const std::string& data, bool fortran) {
  return npy(
      "{'descr': '" + descr + "', 'fortran_order': " + (fortran ? "True" : "False") + ", 'shape': " + shape + ", }\n",
      data);
}

/// The little-endian bytes of some numbers; tests run on little-endian machines.
template <class T>
std::string raw(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

/// The text of the Error that f throws.
template <class F>
std::string format_error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

/// A file that is removed at the end of a test.
struct TemporaryFile {
  explicit TemporaryFile(const std::string& name)
      : path(std::filesystem::temp_directory_path() /
             ("deepstruct_formats_" + std::to_string(std::random_device{}()) + name)) {}
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
  std::filesystem::path path;
};

}  // namespace

TEST_CASE("idx images are bytes over 255, labels are their integers", "[formats]") {
  const Tensor images =
      idx_images(idx(0x08, {2, 2, 3}, std::string("\x00\x01\x02\x03\x04\x05\xFF\x80\x33\x00\x00\x07", 12)));
  REQUIRE(images.shape() == Shape{2, 2, 3});
  CHECK(images(0, 1, 2) == 5 / 255.0f);
  CHECK(images(1, 0, 0) == 1.0f);
  CHECK(images(1, 0, 1) == 128 / 255.0f);
  CHECK(images(1, 1, 2) == 7 / 255.0f);

  const Indices labels = idx_labels(idx(0x08, {3}, "\x09\x01\xFF"));
  CHECK(labels == Indices::from({3}, {9, 1, 255}));
  CHECK(idx_labels(idx(0x09, {1}, "\xFF")) == Indices::from({1}, {-1}));
  CHECK(idx_labels(idx(0x0B, {1}, "\xFF\xFE")) == Indices::from({1}, {-2}));
  CHECK(idx_labels(idx(0x0C, {1}, "\x7F\xFF\xFF\xFF")) == Indices::from({1}, {2147483647}));
}

TEST_CASE("idx images fill every sample of a large set", "[formats]") {
  const std::uint32_t n = 1003, side = 7;  // not a multiple of any tile
  std::string data;
  for (std::uint32_t k = 0; k < n * side * side; ++k) data += static_cast<char>(k * 2654435761u >> 24);
  const Tensor images = idx_images(idx(0x08, {n, side, side}, data));
  std::int64_t wrong = 0;
  images.for_each([&](std::int64_t i, float x) {
    wrong += x != static_cast<unsigned char>(data[static_cast<std::size_t>(i)]) / 255.0f;
  });
  CHECK(wrong == 0);
}

TEST_CASE("idx arrays of all element types", "[formats]") {
  CHECK(idx_tensor(idx(0x08, {1, 2}, "\xFF\x01")) == Tensor::from({1, 2}, {255, 1}));
  CHECK(idx_tensor(idx(0x09, {2}, "\xFF\x01")) == Tensor::from({2}, {-1, 1}));
  CHECK(idx_tensor(idx(0x0B, {1}, std::string("\x01\x00", 2))) == Tensor::from({1}, {256}));
  CHECK(idx_tensor(idx(0x0C, {1}, "\xFF\xFF\xFF\xFD")) == Tensor::from({1}, {-3}));
  CHECK(idx_tensor(idx(0x0D, {1}, std::string("\x3F\xC0\x00\x00", 4))) == Tensor::from({1}, {1.5f}));
  CHECK(idx_tensor(idx(0x0E, {1, 1, 1, 1}, std::string("\xBF\xF8\0\0\0\0\0\0", 8))) ==
        Tensor::from({1, 1, 1, 1}, {-1.5f}));
  CHECK(std::isnan(idx_tensor(idx(0x0D, {1}, std::string("\x7F\xC0\0\0", 4))).item()));
  CHECK(
      contains(format_error_of([] { idx_tensor(idx(0x0E, {1}, std::string("\x7F\xE0\0\0\0\0\0\0", 8))); }), "float32"));
  CHECK(idx_images(idx(0x08, {0, 28, 28}, "")).shape() == Shape{0, 28, 28});
}

TEST_CASE("a lying idx header is an Error before anything is allocated", "[formats]") {
  const std::size_t before = BufferPool::instance().system_calls();
  const std::uint32_t most = 0xFFFFFFFF;
  CHECK(contains(format_error_of([] {
                   idx_images(idx(0x08, {1u << 31, 28, 28}, std::string(100, 'x')));
                 }),
                 "idx_images: the header claims"));
  CHECK(contains(format_error_of([=] { idx_images(idx(0x08, {most, most, most}, "x")); }), "the header claims"));
  CHECK(contains(format_error_of([=] { idx_tensor(idx(0x0E, {most, most, most, most}, "x")); }), "the header claims"));
  CHECK(contains(format_error_of([=] {
                   idx_tensor(idx(0x0E, {1u << 31, 1u << 30, 4}, ""));
                 }),
                 "the header claims"));  // 2^66 bytes
  CHECK(contains(format_error_of([=] { idx_tensor(idx(0x08, {0, most, most, most}, "")); }), "the header claims"));
  CHECK(contains(format_error_of([=] { idx_tensor(idx(0x08, {most, 0}, "")); }), "may be 0"));
  CHECK(contains(format_error_of([] { idx_labels(idx(0x08, {1u << 31}, "123")); }),
                 "idx_labels: the header claims 2147483648 bytes"));
  CHECK(BufferPool::instance().system_calls() == before);
}

TEST_CASE("damaged idx files", "[formats]") {
  const Bytes good = idx(0x08, {2, 1, 1}, "ab");
  REQUIRE(idx_images(good).size() == 2);
  for (std::size_t size = 0; size < good.size(); ++size) {
    INFO("cut to " << size << " bytes");
    CHECK(format_error_of([&] { idx_images(std::span(good).first(size)); }) != "no error");
  }
  Bytes longer = good;
  longer.push_back(std::byte{0});
  CHECK(contains(format_error_of([&] { idx_images(longer); }), "2 bytes of data (3 present)"));
  Bytes magic = good;
  magic[0] = std::byte{0x1F};
  CHECK(contains(format_error_of([&] { idx_images(magic); }), "not an IDX file"));
  CHECK(contains(format_error_of([] { idx_images(idx(0x0A, {1, 1, 1}, "a")); }), "unknown IDX element type (10)"));
  CHECK(contains(format_error_of([] { idx_images(idx(0x08, {}, "a")); }), "need 1 to 4 dimensions (0)"));
  CHECK(contains(format_error_of([] { idx_images(idx(0x08, std::vector<std::uint32_t>(255, 1), "a")); }),
                 "need 1 to 4 dimensions"));
  CHECK(contains(format_error_of([] { idx_images(idx(0x08, {2}, "ab")); }),
                 "idx_images: need bytes"));                                                 // labels as images
  CHECK(contains(format_error_of([&] { idx_labels(good); }), "idx_labels: need integers"));  // images as labels
  CHECK(contains(format_error_of([] { idx_labels(idx(0x0D, {1}, "abcd")); }),
                 "idx_labels: need integers"));  // floats as labels
}

TEST_CASE("csv tables", "[formats]") {
  const CsvTable plain = parse_csv("1,2,3\n-4,5e-1,+6\n");
  CHECK(plain.names.empty());
  CHECK(plain.values == Tensor::from({2, 3}, {1, 2, 3, -4, 0.5f, 6}));

  const CsvTable named =
      parse_csv("\xEF\xBB\xBF\"a\"; b \r\n 1 ;2\r\n3; 4\r\n\r\n", {.separator = ';', .header = true});
  CHECK(named.names == std::vector<std::string>{"a", "b"});
  CHECK(named.values == Tensor::from({2, 2}, {1, 2, 3, 4}));

  CHECK(parse_csv("7").values == Tensor::from({1, 1}, {7}));
  CHECK(parse_csv("1\t2\n3\t4", {.separator = '\t'}).values == Tensor::from({2, 2}, {1, 2, 3, 4}));
  CHECK(parse_csv("1e-60,3.4028234e38").values == Tensor::from({1, 2}, {0, std::numeric_limits<float>::max()}));

  std::string text;
  for (int i = 0; i < 100; ++i) text += std::to_string(i) + "," + std::to_string(-i) + "\n";
  const Tensor tall = parse_csv(text).values;
  REQUIRE(tall.shape() == Shape{100, 2});
  for (int i = 0; i < 100; ++i) CHECK((tall(i, 0) == static_cast<float>(i) && tall(i, 1) == static_cast<float>(-i)));
}

TEST_CASE("csv mistakes name the line", "[formats]") {
  const auto error = [](const std::string& text, const CsvOptions& options = {}) {
    return format_error_of([&] { parse_csv(text, options); });
  };
  CHECK(error("1,2\n3,x4\n") == "parse_csv: not a number ('x4' in line 2)");
  CHECK(error("1,2\n3,4y\n") == "parse_csv: not a number ('4y' in line 2)");
  CHECK(error("a,b\n1,2\n3,4 5\n", {.header = true}) == "parse_csv: not a number ('4 5' in line 3)");
  CHECK(error("a,b\n1,2\n") == "parse_csv: not a number ('a' in line 1)");
  CHECK(error("+-1") == "parse_csv: not a number ('+-1' in line 1)");
  CHECK(error("0x10") == "parse_csv: not a number ('0x10' in line 1)");
  CHECK(error(std::string("1\0", 2)) != "no error");
  CHECK(error("1,2\n3\n") == "parse_csv: rows of different length (1 instead of 2 cells in line 2)");
  CHECK(error("a,b,c\n1,2\n", {.header = true}) ==
        "parse_csv: rows of different length (2 instead of 3 cells in line 2)");
  CHECK(error("1,,3\n") == "parse_csv: empty cell (line 1)");
  CHECK(error("1,2,\n") == "parse_csv: empty cell (line 1)");
  CHECK(error("1\n\n2\n") == "parse_csv: empty line (line 2)");
  CHECK(error("1e39") == "parse_csv: a value does not fit into float32 ('1e39' in line 1)");
  CHECK(error("1\n-1e999") == "parse_csv: a value does not fit into float32 ('-1e999' in line 2)");
  CHECK(contains(error("1\nnan"), "'nan' in line 2"));
  CHECK(contains(error("-inf"), "nonfinite"));
  CHECK(contains(error(""), "no rows"));
  CHECK(contains(error("a,b\n", {.header = true}), "no rows"));
  CHECK(contains(error("1", {.separator = '.'}), "separator"));
}

TEST_CASE("csv with non-finite cells on request", "[formats]") {
  const Tensor t = parse_csv("nan,inf\n,-inf\n", {.nonfinite = true}).values;
  CHECK((std::isnan(t(0, 0)) && std::isnan(t(1, 0))));
  CHECK((t(0, 1) == INFINITY && t(1, 1) == -INFINITY));
}

TEST_CASE("npy arrays of all element types and orders", "[formats]") {
  const Tensor expected = Tensor::from({2, 3}, {1, 2, 3, 4, 5, 6});
  CHECK(npy_tensor(npy("<f4", "(2, 3)", raw<float>({1, 2, 3, 4, 5, 6}), false)) == expected);
  CHECK(npy_tensor(npy("<f4", "(2, 3)", raw<float>({1, 4, 2, 5, 3, 6}), true)) == expected);
  CHECK(npy_tensor(npy("<f8", "(2, 3)", raw<double>({1, 2, 3, 4, 5, 6}), false)) == expected);
  CHECK(npy_tensor(npy("<i4", "(2, 3)", raw<std::int32_t>({1, 2, 3, 4, 5, 6}), false)) == expected);
  CHECK(npy_tensor(npy("<i8", "(2, 3)", raw<std::int64_t>({1, 4, 2, 5, 3, 6}), true)) == expected);
  CHECK(npy_tensor(npy("|u1", "(2, 3)", "\1\2\3\4\5\6", false)) == expected);
  CHECK(npy_tensor(npy("|b1", "(2,)", std::string("\1\0", 2), false)) == Tensor::from({2}, {1, 0}));
  CHECK(npy_tensor(npy("<f8", "()", raw<double>({2.5}), false)).item() == 2.5f);
  CHECK(npy_tensor(npy("<f4", "()", raw<float>({2.5f}), true)).shape() == Shape{});
  const Tensor none = npy_tensor(npy("<f4", "(0, 1099511627776)", "", true));  // without a step for each of them
  CHECK(none.shape() == Shape{0, std::int64_t{1} << 40});
  CHECK(none == npy_tensor(npy_bytes(none)));

  std::string data;  // [2, 3, 2, 2] in Fortran order: element (a, b, c, d) = 1000a + 100b + 10c + d
  for (int d = 0; d < 2; ++d)
    for (int c = 0; c < 2; ++c)
      for (int b = 0; b < 3; ++b)
        for (int a = 0; a < 2; ++a) data += raw<std::int32_t>({1000 * a + 100 * b + 10 * c + d});
  const Indices four = npy_indices(npy("<i4", "(2, 3, 2, 2)", data, true));
  REQUIRE(four.shape() == Shape{2, 3, 2, 2});
  CHECK((four(1, 2, 0, 1) == 1201 && four(0, 1, 1, 0) == 110));

  CHECK(npy_indices(npy("<i8", "(2,)", raw<std::int64_t>({-5, 2147483647}), false)) ==
        Indices::from({2}, {-5, 2147483647}));
  CHECK(contains(format_error_of([] { npy_indices(npy("<i8", "(1,)", raw<std::int64_t>({2147483648}), false)); }),
                 "2147483648"));
  CHECK(contains(format_error_of([] { npy_indices(npy("<f4", "(1,)", raw<float>({1}), false)); }),
                 "npy_indices: need integers"));
  CHECK(std::isnan(npy_tensor(npy("<f8", "(1,)", raw<double>({NAN}), false)).item()));
  CHECK(npy_tensor(npy("<f8", "(1,)", raw<double>({INFINITY}), false)).item() == INFINITY);
  CHECK(contains(format_error_of([] { npy_tensor(npy("<f8", "(1,)", raw<double>({1e300}), false)); }), "1e+300"));
  CHECK(contains(format_error_of([] { npy_tensor(npy("|b1", "(1,)", "\2", false)); }), "neither 0 nor 1 (2)"));
}

TEST_CASE("npy versions and spellings of the header", "[formats]") {
  const std::string data = raw<float>({1, 2});
  const Tensor expected = Tensor::from({2}, {1, 2});
  const std::string dictionary = "{\"shape\":(2,),\"fortran_order\":False,\"descr\":\"<f4\"}    \n";
  for (int version : {1, 2, 3}) CHECK(npy_tensor(npy(dictionary, data, version)) == expected);
  for (int version : {0, 4})
    CHECK(contains(format_error_of([&] { npy_tensor(npy(dictionary, data, version)); }), "version"));
}

TEST_CASE("damaged and hostile npy files", "[formats]") {
  const Bytes good = npy("<f4", "(3,)", raw<float>({1, 2, 3}), false);
  REQUIRE(npy_tensor(good).size() == 3);
  for (std::size_t size = 0; size < good.size(); ++size) {
    INFO("cut to " << size << " bytes");
    CHECK(format_error_of([&] { npy_tensor(std::span(good).first(size)); }) != "no error");
  }
  for (std::size_t k = 0; k < good.size() - 12;
       ++k)  // any damaged byte of the header: an Error or an array, never a crash
    for (int value : {0, 39, 41, 57, 255}) {
      Bytes damaged = good;
      damaged[k] = static_cast<std::byte>(value);
      const std::string text = format_error_of([&] { npy_tensor(damaged); });
      CHECK((text == "no error" || contains(text, "npy_tensor: ")));
    }
  Bytes longer = good;
  longer.push_back(std::byte{0});
  CHECK(contains(format_error_of([&] { npy_tensor(longer); }), "12 bytes of data (13 present)"));

  const std::size_t before = BufferPool::instance().system_calls();
  const auto error = [](const std::string& dictionary) {
    return format_error_of([&] { npy_tensor(npy(dictionary, "1234")); });
  };
  const std::string head = "{'descr': '<f4', 'fortran_order': False, 'shape': ";
  REQUIRE(error(head + "(1,)}") == "no error");
  CHECK(contains(error(head + "(2147483648, 2147483648)}"), "the header claims too many"));
  CHECK(contains(error(head + "(4611686018427387904, 4)}"), "the header claims too many"));
  CHECK(contains(error(head + "(99999999999999999999999,)}"), "an extent expected"));
  CHECK(contains(error(head + "(-1,)}"), "an extent expected"));
  CHECK(contains(error(head + "(1, 1, 1, 1, 1)}"), "at most 4 dimensions"));
  CHECK(contains(error(head + "(1,)"), "damaged header"));
  CHECK(contains(error(head + "(1,)} x"), "damaged header"));
  CHECK(contains(error(head + "(1"), "damaged header"));
  CHECK(contains(error(head + "(1,), 'shape': (1,)}"), "damaged header"));
  CHECK(contains(error("{'descr': '<f4', 'shape': (1,)}"), "damaged header"));
  CHECK(contains(error("{}"), "damaged header"));
  CHECK(contains(error(""), "damaged header"));
  CHECK(contains(error(head + "(1,), 'extra': 1}"), "unknown key"));
  for (const char* descr : {">f4", "<f2", "<c8", "<U1", "|O", "|f4", "=f4", "f4", "<", ""}) {
    INFO(descr);
    CHECK(contains(error("{'descr': '" + std::string(descr) + "', 'fortran_order': False, 'shape': (1,)}"),
                   "little endian"));
  }
  CHECK(contains(error("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}"), "damaged header"));
  CHECK(BufferPool::instance().system_calls() <= before + 1);  // the one array of the REQUIRE above
}

TEST_CASE("npy files are written as NumPy does and read back", "[formats]") {
  const std::vector<std::byte> bytes = npy_bytes(Tensor::from({2, 3}, {1, 2, 3, 4, 5, 6}));
  CHECK(as_text(bytes).substr(0, 128) == std::string("\x93NUMPY\1\0\x76\0", 10) +
                                             "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" +
                                             std::string(58, ' ') + "\n");
  CHECK(as_text(bytes).substr(128) == raw<float>({1, 2, 3, 4, 5, 6}));

  const TemporaryFile file(".npy");
  Rng rng(3);
  for (const Shape& shape : {Shape{}, Shape{5}, Shape{0, 3}, Shape{100, 7}, Shape{17, 2, 3}, Shape{2, 3, 4, 5}}) {
    INFO(shape);
    const Tensor x = Tensor::normal(shape, 0, 1, rng);
    save_npy(file.path, x);
    CHECK(load_npy(file.path) == x);
    Indices y = Indices::empty(shape);
    y.for_each([](std::int64_t i, std::int32_t& value) { value = static_cast<std::int32_t>(7 - 100000 * i); });
    save_npy(file.path, y);
    CHECK(load_npy_indices(file.path) == y);
  }
  CHECK(contains(format_error_of([&] { save_npy(file.path / "no" / "folder", Tensor::zeros({1})); }),
                 "save_npy: cannot write"));
}

TEST_CASE("files: missing, foreign, too large; the Error names the file", "[formats]") {
  const TemporaryFile file(".csv");
  CHECK(contains(format_error_of([&] { load_csv(file.path); }), "read_file: no such file (" + file.path.string()));
  CHECK(contains(format_error_of([&] { read_plain_file(std::filesystem::temp_directory_path()); }),
                 "not a regular file"));
  std::ofstream(file.path) << "1,2\n3,four\n";
  CHECK(format_error_of([&] { load_csv(file.path); }) ==
        "parse_csv: not a number ('four' in line 2) in " + file.path.string());
  CHECK(contains(format_error_of([&] { load_npy(file.path); }), "not a .npy file"));
  CHECK(contains(format_error_of([&] { read_plain_file(file.path, 10); }), "larger than allowed (11 > 10"));
  CHECK(read_plain_file(file.path, 11).size() == 11);
}
