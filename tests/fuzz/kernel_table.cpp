#include <deepstruct/io/kernel_table.hpp>

#include "targets.hpp"

using namespace deepstruct;

void fuzz::kernel_table(Bytes bytes) {
  const auto table = parsed([&] { return parse_kernel_table(as_text(bytes)); });
  if (!table) return;
  for (const auto& row : table->sparse_up_to)
    for (const float density : row) require(density >= 0 && density <= 1, "kernel table: a density outside [0, 1]");
  require(parse_kernel_table(detail::json_of(*table).dump()) == *table, "kernel table: written again, it differs");
}
