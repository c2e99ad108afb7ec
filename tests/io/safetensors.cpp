// The safetensors format: files of the real Python package read and rewritten byte for byte, all element types,
// damaged and hostile files.
#include <deepstruct/io/safetensors.hpp>

#include <thread>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

const std::filesystem::path safetensors_data = std::filesystem::path(__FILE__).parent_path() / "data";

std::vector<std::byte> file_of(std::string header, std::size_t data, bool pad = true) {
  if (pad) header.resize((header.size() + 7) / 8 * 8, ' ');
  std::vector<std::byte> bytes(8 + header.size() + data);
  const std::uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  return bytes;
}
std::string array_text(const std::string& name, const std::string& type, const std::string& shape, int from, int to) {
  return "\"" + name + "\":{\"dtype\":\"" + type + "\",\"shape\":" + shape + ",\"data_offsets\":[" +
         std::to_string(from) + "," + std::to_string(to) + "]}";
}

}  // namespace

TEST_CASE("safetensors: every file of the Python package is rewritten byte for byte") {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(safetensors_data)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("torch_") && !name.starts_with("numpy_")) continue;
    INFO(entry.path());
    const auto bytes = read_plain_file(entry.path());
    REQUIRE((safetensors_bytes(parse_safetensors(bytes)) == bytes));
    ++files;
  }
  REQUIRE(files >= 13);
}

TEST_CASE("safetensors: all element types of the Python package are read exactly") {
  const StoredTensors file = load_safetensors(safetensors_data / "torch_types.safetensors");
  REQUIRE(file.metadata == std::map<std::string, std::string>{{"format", "pt"}});
  const auto floats = [&](const char* name) { return values_of<float>(*file.find(name)); };
  const auto integers = [&](const char* name) { return values_of<std::int64_t>(*file.find(name)); };
  constexpr float infinity = std::numeric_limits<float>::infinity();
  REQUIRE(values_of<double>(*file.find("f64")) == std::vector<double>{0.1, -2.5, double{infinity}});
  REQUIRE(floats("f64") == std::vector<float>{0.1f, -2.5f, infinity});
  REQUIRE(tensor_of(*file.find("f32")) == Tensor::from({1, 3}, {0.1f, -2.5f, 3e38f}));
  REQUIRE(floats("f16") ==
          std::vector<float>{0.0999755859375f, 0, 65504, 5.9604644775390625e-08f, -infinity, 6.0975551605224609e-05f});
  REQUIRE(std::signbit(floats("f16")[1]));
  REQUIRE(floats("bf16") == std::vector<float>{0.10009765625f, -2.5f, std::bit_cast<float>(0x7F620000u),
                                               std::bit_cast<float>(0x00010000u)});
  REQUIRE(integers("i64") == std::vector<std::int64_t>{std::int64_t{1} << 40, -1, 7});
  REQUIRE(integers("i32") == std::vector<std::int64_t>{2147483647, -2147483648});
  REQUIRE(integers("i16") == std::vector<std::int64_t>{-32768, 32767});
  REQUIRE(integers("i8") == std::vector<std::int64_t>{-128, 127, 0});
  REQUIRE(floats("i8") == std::vector<float>{-128, 127, 0});
  REQUIRE(integers("u8") == std::vector<std::int64_t>{255, 0, 1});
  REQUIRE(integers("bool") == std::vector<std::int64_t>{1, 0, 1});
  REQUIRE(file.find("empty")->shape == std::vector<std::int64_t>{0, 3});
  REQUIRE(tensor_of(*file.find("scalar")).item() == 0.1f);
  REQUIRE(file.find("name with \"quotes\", ä and \\") != nullptr);
  const StoredTensors numpy = load_safetensors(safetensors_data / "numpy_types.safetensors");
  REQUIRE(values_of<std::int64_t>(*numpy.find("u16")) == std::vector<std::int64_t>{0, 65535});
  REQUIRE(values_of<std::int64_t>(*numpy.find("u32")) == std::vector<std::int64_t>{0, 4294967295});
  REQUIRE(load_safetensors(safetensors_data / "numpy_empty.safetensors") == StoredTensors{});

  test::require_error([&] { values_of<std::int32_t>(*file.find("i64")); },
                      {"safetensors: an integer does not fit into 32 bits (i64: 1099511627776)"});
  test::require_error([&] { values_of<std::int64_t>(*numpy.find("u64")); }, {"does not fit into 64 bits"});
  test::require_error([&] { values_of<float>(*file.find("i32")); }, {"safetensors: an integer is no exact float (i32"});
  test::require_error([&] { values_of<std::int32_t>(*file.find("f32")); }, {"safetensors: needs integers (f32: F32)"});
  const double wide = 1e39;
  test::require_error([&] { values_of<float>(stored_values<double, double>("wide", {}, std::span(&wide, 1))); },
                      {"safetensors: a value does not fit into float32 (wide: 1e+39)"});
  const std::uint8_t two = 2;
  test::require_error([&] { values_of<float>(stored_values<bool, std::uint8_t>("flag", {}, std::span(&two, 1))); },
                      {"safetensors: an entry is neither 0 nor 1 (flag: 2)"});
}

TEST_CASE("safetensors: every half is the float it stands for") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float got = detail::float_of_half(static_cast<std::uint16_t>(bits));
    const int exponent = (bits >> 10) & 31;
    const double fraction = (bits & 1023) / 1024.0;
    double want = exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1 + fraction, exponent - 15);
    if (exponent == 31) want = fraction == 0 ? std::numeric_limits<double>::infinity() : std::nan("");
    if (bits & 0x8000) want = -want;
    if (std::isnan(want)) {
      if (!std::isnan(got)) REQUIRE(std::isnan(got));
    } else if (double{got} != want || std::signbit(got) != std::signbit(want)) {
      REQUIRE(double{got} == want);
    }
  }
}

TEST_CASE("safetensors: what is written is read back, arrays aligned to their elements") {
  StoredTensors content;
  content.metadata = {{"b", "2"}, {"a", "\n\"ä\\"}};
  const std::vector<std::uint8_t> flags{1, 0, 1};
  content.tensors.push_back(stored_values<bool, std::uint8_t>("flags", {3}, flags));
  content.tensors.push_back(stored_tensor("x", Tensor::from({2, 3}, {1, 2, 3, 4, 5, 6})));
  content.tensors.push_back(stored_values("big", std::vector<std::int64_t>{1}));
  content.tensors.push_back(stored_values("y", std::vector<double>{0.5}));
  const auto bytes = safetensors_bytes(content);
  const StoredTensors back = parse_safetensors(bytes);
  REQUIRE(back.metadata == content.metadata);
  REQUIRE(back.tensors.size() == 4);
  for (const StoredTensor& t : content.tensors) REQUIRE(*back.find(t.name) == t);
  REQUIRE(back.tensors[0].name == "big");
  REQUIRE(back.tensors[3].name == "flags");
  REQUIRE(safetensors_bytes(back) == bytes);

  content.tensors.push_back(content.tensors[0]);
  test::require_error([&] { safetensors_bytes(content); }, {"safetensors: a name is taken", "flags"});
  content.tensors.back().name = "__metadata__";
  test::require_error([&] { safetensors_bytes(content); }, {"safetensors: a name is taken", "__metadata__"});
  content.tensors.back().name = "\xff";
  test::require_error([&] { safetensors_bytes(content); }, {"safetensors: a text is not UTF-8"});
  content.tensors.back() = {"short", StoredTensor::Type::f32, {2}, std::vector<std::byte>(4)};
  test::require_error([&] { safetensors_bytes(content); }, {"safetensors: bytes do not fill the shape", "short"});
}

TEST_CASE("safetensors: damaged and hostile files are Errors") {
  const auto refused = [](const std::vector<std::byte>& bytes, const char* why) {
    INFO(why);
    test::require_error([&] { parse_safetensors(bytes); }, {"safetensors: ", why});
  };
  refused({}, "cut off");
  refused(std::vector<std::byte>(7), "cut off");
  refused(std::vector<std::byte>(8, std::byte{255}), "longer than the file");
  refused(file_of("", 0), "damaged");
  refused(file_of("[]", 0), "no JSON object");
  refused(file_of("{\"a\":1}", 0), "damaged");
  refused(file_of("{" + array_text("a", "F32", "[1]", 0, 4) + "}", 3), "larger than the file");
  refused(file_of("{" + array_text("a", "F32", "[1]", 0, 4) + "}", 5), "do not fill");
  refused(file_of("{" + array_text("a", "F32", "[1]", 0, 8) + "}", 8), "offsets do not fit");
  refused(file_of("{" + array_text("a", "F32", "[1]", 4, 8) + "}", 8), "leave a gap");
  refused(file_of("{" + array_text("a", "F4", "[1]", 0, 4) + "}", 4), "unknown element type (a: F4)");
  refused(file_of("{" + array_text("a", "F32", "[-1]", 0, 4) + "}", 4), "larger than the file");
  refused(file_of("{" + array_text("a", "F32", "[4611686018427387904,4]", 0, 0) + "}", 4), "larger than the file");
  refused(file_of("{" + array_text("a", "F32", "[1]", 0, 4) + "," + array_text("b", "F32", "[1]", 0, 4) + "}", 8),
          "overlap");
  refused(file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4), "offsets do not fit");
  refused(file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4), "two offsets");
  refused(file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4), "list of integers");
  refused(file_of("{\"__metadata__\":{\"a\":1}}", 0), "damaged");
  refused(file_of(std::string(1'000'000, '['), 0), "nested too deeply");
  refused(file_of("{\"a\":" + std::string(1'000'000, '['), 0), "nested too deeply");
  // Every cut of a good file, and every byte of its header changed.
  const auto good = read_plain_file(safetensors_data / "torch_plain.safetensors");
  for (std::size_t n = 0; n < good.size(); ++n) test::error_of([&] { parse_safetensors(std::span(good).first(n)); });
  Rng rng(3);
  for (std::size_t k = 0; k < 500; ++k)
    for (int round = 0; round < 4; ++round) {
      auto bad = good;
      bad[k] = static_cast<std::byte>(rng.below(256));
      try {
        parse_safetensors(bad);  // other names and metadata are fine
      } catch (const Error&) {
      }
    }
}

TEST_CASE("write_whole_file: replaces, cleans up, and writers of one file take turns") {
  const std::filesystem::path folder = "whole_file_test", path = folder / "x";
  std::filesystem::create_directories(folder);
  const auto write = [&](int value) {
    write_whole_file(path, std::vector<std::byte>(20000, static_cast<std::byte>(value)));
  };
  const auto files = [&] {
    return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
  };
  write(1);
  write_whole_file(path.string() + ".part", std::vector<std::byte>(50000));  // what a killed writer left
  write(2);
  REQUIRE(read_plain_file(path) == std::vector<std::byte>(20000, std::byte{2}));
  REQUIRE(files() == 1);
  std::vector<std::thread> writers;
  for (int k = 3; k < 7; ++k)
    writers.emplace_back([&, k] {
      for (int round = 0; round < 10; ++round) write(k);
    });
  for (int round = 0; round < 50; ++round) {
    const auto bytes = read_plain_file(path);
    REQUIRE(bytes == std::vector<std::byte>(20000, bytes[0]));
  }
  for (auto& writer : writers) writer.join();
  REQUIRE(files() == 1);

  test::require_error([&] { write_whole_file(folder / "no" / "x", {}); }, {"save: cannot write the file", "No such"});
  std::filesystem::create_directory(folder / "full");
  test::require_error([&] { write_whole_file(folder / "full", {}); }, {"save: cannot write the file"});
  REQUIRE(files() == 2);
  std::filesystem::create_directory_symlink("nowhere", folder / "y.part");
  test::require_error([&] { write_whole_file(folder / "y", {}); }, {"save: cannot write the file"});
  std::filesystem::remove_all(folder);
}
