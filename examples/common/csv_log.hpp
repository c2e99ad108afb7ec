// CsvLog: a table of results that is on disk after each row.
#pragma once

#include "files.hpp"
#include "numbers.hpp"

#include <concepts>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace examples {

/// Comma-separated rows under one header line; numbers in the shortest form that reads back exactly.
class CsvLog {
 public:
  /// What happens to rows that are there already.
  enum class Start { fresh, resume };

  /// Opens `path`. `resume` keeps the whole rows of a file with the same header; throws Error if the header differs.
  CsvLog(const std::filesystem::path& path, const std::vector<std::string>& columns, Start start = Start::fresh)
      : path_(path), columns_(columns.size()) {
    make_parent(path);
    std::string header;
    for (const std::string& column : columns) header += (header.empty() ? "" : ",") + cell(column);
    std::string kept = start == Start::resume ? read(path) : "";
    kept.erase(kept.rfind('\n') + 1);  // a row that was being written when the run was killed
    deepstruct::check(kept.empty() || kept.starts_with(header + "\n"), "csv: ", path.string(),
                      " has other columns than this run (", kept.substr(0, kept.find('\n')), " and ", header, ")");
    write_file(path, kept.empty() ? header + "\n" : kept);
    out_.open(path, std::ios::binary | std::ios::app);
  }
  /// Appends one row and hands it to the system; throws Error if it has not one cell per column or cannot be written.
  template <class... Cells>
  void row(const Cells&... cells) {
    deepstruct::check(sizeof...(cells) == columns_, "csv: a row of ", path_.string(), " needs one cell per column (",
                      columns_, " columns, ", sizeof...(cells), " cells)");
    std::string line;
    ((line += cell(cells), line += ','), ...);
    line.back() = '\n';
    out_ << line << std::flush;
    deepstruct::check(static_cast<bool>(out_), "csv: cannot write to ", path_.string());
  }

 private:
  template <class T>
  static std::string cell(const T& value) {
    if constexpr (std::is_arithmetic_v<T>) {
      return shortest(value);
    } else {
      const std::string_view text(value);
      if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
      std::string quoted = "\"";
      for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
      return quoted + "\"";
    }
  }
  static std::string read(const std::filesystem::path& path) {
    std::ostringstream text;
    if (std::ifstream in(path, std::ios::binary); in && in.peek() != std::ifstream::traits_type::eof())
      text << in.rdbuf();
    return text.str();
  }

  std::filesystem::path path_;
  std::size_t columns_;
  std::ofstream out_;
};

}  // namespace examples
