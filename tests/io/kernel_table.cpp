// Tables of kernels: read back as written, damaged files refused, named in a checkpoint that depends on one.
#include <deepstruct/io.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

const std::filesystem::path table_file = "kernel_table_test.json";

void write(std::string_view text) { write_whole_file(table_file, std::as_bytes(std::span(text.data(), text.size()))); }

}  // namespace

TEST_CASE("a kernel table is read back as it was written") {
  for (const KernelTable& table : {KernelTable{{{0, 1, 0.5f}, {0.25f, 0.1f, 0.9f}, {0.95f, 0.3f, 0.7f}}},
                                   KernelTable{{{1e-45f, 0.123456789f, 1 - 6e-8f}, {}, {1.0f / 3, 1e-7f, 0.95f}}}}) {
    save_kernel_table(table, table_file);
    REQUIRE(load_kernel_table(table_file) == table);
  }
  std::filesystem::remove(table_file);
}

TEST_CASE("files that hold no kernel table are refused") {
  test::require_error([] { load_kernel_table("no_such_file.json"); }, {"no_such_file.json"});
  const char* row = R"("baseline": [0.1, 0.2, 0.3], "avx2": [0.1, 0.2, 0.3], )";
  const std::pair<std::string, const char*> wrong[] = {
      {"", "JSON object"},
      {"[1, 2]", "JSON object"},
      {"{", "JSON object"},
      {"{" + std::string(row) + R"("avx512": [0.1, 0.2]})", "avx512"},
      {"{" + std::string(row) + R"("avx512": "all"})", "avx512"},
      {R"({"baseline": [0.1, 0.2, 0.3]})", "avx2"},
      {"{" + std::string(row) + R"("avx512": [0.1, 0.2, 1.5]})", "1.5"},
      {"{" + std::string(row) + R"("avx512": [0.1, 0.2, null]})", "null"},
      {"{" + std::string(row) + R"("avx512": [0.1, 0.2, )" + std::string(500'000, '[') + std::string(500'000, ']') +
           "]}",
       "nested too deeply"}};
  for (const auto& [text, why] : wrong) {
    INFO(text.substr(0, 100));
    write(text);
    test::require_error([] { load_kernel_table(table_file); }, {"load_kernel_table", why});
  }
  std::filesystem::remove(table_file);
}

TEST_CASE("a checkpoint names the kernel table unless it is the built-in one") {
  const MaskedDeepFFN model(4, 2, {3});
  REQUIRE(!stored_state(model).metadata.contains("kernel_table"));
  KernelTable table = measured_kernel_table;
  table.sparse_up_to[0][0] = 0.5f;
  use_kernel_table(table);
  const auto metadata = stored_state(model).metadata;
  use_kernel_table(measured_kernel_table);
  REQUIRE(metadata.at("kernel_table").find("\"baseline\":[0.5,") != std::string::npos);
}
