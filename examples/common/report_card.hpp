// report_card: what a smaller model is worth next to the one it was made from, as files.
#pragma once

#include "files.hpp"

#include <deepstruct/io/report_card.hpp>

#include <filesystem>
#include <sstream>

namespace examples {

/// The report card of two models (deepstruct::report), also written to `<base>.md` and `<base>.csv`. A card compares
/// fairly if both models began with the same seed and saw the same data in the same order for as many epochs.
template <class Before, class After>
deepstruct::ReportCard report_card(const std::filesystem::path& base, const Before& before, const After& after,
                                   const deepstruct::Dataset& test, const deepstruct::ReportOptions& options = {}) {
  const deepstruct::ReportCard card = deepstruct::report(before, after, test, options);
  std::ostringstream markdown, csv;
  card.write_markdown(markdown);
  card.write_csv(csv);
  write_file(base.string() + ".md", markdown.str());
  write_file(base.string() + ".csv", csv.str());
  return card;
}

}  // namespace examples
