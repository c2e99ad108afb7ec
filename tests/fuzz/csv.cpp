#include <string>

#include <deepstruct/io/text.hpp>
#include <deepstruct/train/csv.hpp>

#include "targets.hpp"

using namespace deepstruct;

void fuzz::csv(Bytes bytes) {
  for (const CsvOptions& options :
       {CsvOptions{}, CsvOptions{.separator = ';', .header = true}, CsvOptions{.separator = '\t', .nonfinite = true},
        CsvOptions{.separator = ' '}, CsvOptions{.header = true, .nonfinite = true}}) {
    const auto table = parsed([&] { return parse_csv(as_text(bytes), options); });
    if (!table) continue;
    const Tensor& x = table->values;
    require(x.rank() == 2 && x.size() > 0, "csv: the table is empty");
    require(table->names.size() == (options.header ? static_cast<std::size_t>(x.shape()[1]) : 0),
            "csv: not a name for every column");
    std::string text;
    for (std::int64_t i = 0; i < x.shape()[0]; ++i)
      for (std::int64_t k = 0; k < x.shape()[1]; ++k) {
        detail::append_number(text, x(i, k));
        text += k + 1 < x.shape()[1] ? options.separator : '\n';
      }
    CsvOptions again = options;
    again.header = false;
    require(same_elements(parse_csv(text, again).values, x), "csv: written again, numbers differ");
  }
}
