// The report card: counts against numbers counted by hand, sizes against files, texts that read back.
#include <deepstruct/graph/generators.hpp>
#include <deepstruct/io/report_card.hpp>
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/nn/batch_norm.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/transform/compact.hpp>

#include <filesystem>
#include <sstream>
#include <unistd.h>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

constexpr const char* report_folder = "/deepstruct_report_card_";

/// Two inputs, two classes: class 1 where the first is greater.
Dataset report_data() { return {Tensor::from({4, 2}, {3, 1, 0, 2, 5, 4, 1, 9}), Indices::from({4}, {1, 0, 1, 0})}; }
/// 2 - 3 - 2, with six of twelve weights; tells the classes apart but for the last sample.
struct ReportNet {
  MaskedLinearLayer hidden, out;

  ReportNet() : hidden(2, 3), out(3, 2) {
    hidden.set_mask(Mask::from_edges(3, 2, {{0, 0}, {1, 1}, {2, 0}, {2, 1}}));
    hidden.weight.set_value(Tensor::from({3, 2}, {1, 9, 9, 1, 0, 0}));
    hidden.bias->set_value(Tensor::zeros({3}));
    out.set_mask(Mask::from_edges(2, 3, {{0, 1}, {1, 0}}));
    out.weight.set_value(Tensor::from({2, 3}, {9, 1, 9, 1, 9, 9}));
    out.bias->set_value(Tensor::from({2}, {-10, 0}));
  }
  Var operator()(const Var& x) const { return out(relu(hidden(x))); }
  static auto fields(auto& m) { return std::tuple{Field{"hidden", m.hidden}, Field{"out", m.out}}; }
};
/// Images [1, 4, 4].
struct ReportConv {
  MaskedConv2d conv{1, 2, 3, {.conv = {.padding = {1, 1}}, .bias = false}};
  BatchNorm2d norm{2};
  Linear out{32, 2};
  Param scale{Tensor::ones({2})};

  Var operator()(const Var& x) const { return out(flatten(relu(norm(conv(x))))) * scale; }
  static auto fields(auto& m) {
    return std::tuple{Field{"conv", m.conv}, Field{"norm", m.norm}, Field{"out", m.out}, Field{"scale", m.scale}};
  }
};

struct ReportStatistics {  // it mixes samples
  Linear out{2, 2};
  Var operator()(const Var& x) const { return out(x - mean(x, {0, true})); }
  static auto fields(auto& m) { return std::tuple{Field{"out", m.out}}; }
};

std::vector<std::string> report_cells(const std::string& line, char separator) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (std::size_t k = 0; k < line.size(); ++k) {
    if (separator == ',' && line[k] == '"') {
      if (quoted && k + 1 < line.size() && line[k + 1] == '"')
        cells.back() += line[++k];
      else
        quoted = !quoted;
    } else if (line[k] == separator && !quoted && (k == 0 || line[k - 1] != '\\')) {
      cells.emplace_back();
    } else {
      cells.back() += line[k];
    }
  }
  return cells;
}
std::vector<std::string> report_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}
template <class M>
std::int64_t report_file_size(const M& model) {
  const auto path = std::filesystem::temp_directory_path().string() + report_folder + std::to_string(::getpid());
  save(model, path, {.slots = false});
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path));
  std::filesystem::remove(path);
  return size;
}
void report_require_times(const ReportCard& card) {
  for (const ModelCard* m : {&card.before, &card.after})
    for (const TimeSpread* t : {&m->batch, &m->sample}) {
      REQUIRE(t->low > 0);
      REQUIRE(t->low <= t->median);
      REQUIRE(t->median <= t->high);
      REQUIRE(t->runs >= 1);
    }
}
const ReportOptions report_quick{.before = "dense", .after = "packed", .runs = 3, .seconds = 0.01};

}  // namespace

TEST_CASE("a report card counts what a model consists of") {
  ReportNet full;
  for (Param* p : {&full.hidden.weight, &full.out.weight})
    p->slot("exp_avg");  // what optimizers remember is not counted
  const ReportNet packed = pack(full);
  const ReportCard card = report(full, packed, report_data(), report_quick);
  REQUIRE(card.before.name == "dense");
  REQUIRE(card.after.name == "packed");
  REQUIRE(card.timed == "Inference");
  REQUIRE(card.batch_size == 4);
  // logits (x1 − 10, x0): the samples say 1, 1, 1, 1.
  for (const ModelCard* m : {&card.before, &card.after}) {
    REQUIRE(m->accuracy == 0.5);
    REQUIRE(m->loss == evaluate(full, report_data()).loss);
    REQUIRE(m->nnz == 6);
    REQUIRE(m->multiply_adds == 6);
    REQUIRE(m->layers.size() == 2);
    REQUIRE(m->layers[0].name == "hidden");
    REQUIRE(m->layers[0].shape == Shape{3, 2});
    REQUIRE(m->layers[0].nnz == 4);
    REQUIRE(m->layers[0].density == 4.0 / 6);
    REQUIRE(m->layers[0].multiply_adds == 4);
    REQUIRE(m->layers[1].nnz == 2);
    REQUIRE(m->layers[1].multiply_adds == 2);
  }
  REQUIRE(card.before.parameters == 6 + 3 + 6 + 2);
  REQUIRE(card.after.parameters == 4 + 3 + 2 + 2);
  // Values, and columns and row starts of masks.
  REQUIRE(card.before.layers[0].bytes == 4 * (9 + 4 + 4));
  REQUIRE(card.before.layers[1].bytes == 4 * (8 + 2 + 3));
  REQUIRE(card.after.layers[0].bytes == 4 * (7 + 4 + 4));
  REQUIRE(card.after.bytes == 4 * (7 + 8 + 4 + 5));
  REQUIRE(card.before.file_bytes == report_file_size(full));
  REQUIRE(card.after.file_bytes == report_file_size(packed));
  report_require_times(card);
  REQUIRE(full.hidden.weight.has_slot("exp_avg"));
}

TEST_CASE("a report card knows convolutions, norms, other parts, and networks on graphs") {
  ReportConv model;
  model.conv.set_mask(Mask::random(2, 9, 0.5));
  Rng rng(1);
  const Dataset images{Tensor::normal({10, 1, 4, 4}, 0, 1, rng), Indices::from({10}, {0, 1, 1, 0, 1, 0, 1, 1, 0, 0})};
  const Tensor mean = model.norm.running_mean;
  const ReportCard card = report(model, pack(model), images, report_quick);
  const ModelCard& m = card.before;
  const std::int64_t edges = model.conv.mask().nnz();
  REQUIRE(test::same_bits(model.norm.running_mean, mean));
  REQUIRE(m.layers.size() == 4);
  REQUIRE(m.layers[0].shape == Shape{2, 1, 3, 3});
  REQUIRE(m.layers[0].nnz == edges);
  REQUIRE(m.layers[0].multiply_adds == 16 * edges);
  REQUIRE(m.layers[0].bytes == 4 * (18 + edges + 3));
  REQUIRE(m.layers[1].name == "norm");
  REQUIRE(m.layers[1].parameters == 4);
  REQUIRE(m.layers[1].bytes == 4 * 9);  // with running mean, variance and number of batches
  REQUIRE(m.layers[2].multiply_adds == 64);
  REQUIRE(m.layers[2].bytes == 4 * 66);  // nothing for a mask
  REQUIRE(m.layers[3].name == "scale");
  REQUIRE(m.layers[3].nnz == 2);
  REQUIRE(m.multiply_adds == 16 * edges + 64);
  REQUIRE(m.nnz == edges + 2 + 64 + 2);
  REQUIRE(m.parameters == parameter_count(model));
  REQUIRE(card.after.layers[0].parameters == edges);
  REQUIRE(card.before.accuracy == evaluate(model, images).accuracy);

  MaskedDeepDAN dan(2, 2, LayeredGraph::load_from(path_graph(4)), {}, rng);
  const ReportCard other = report(unpack(dan), dan, report_data(), report_quick);
  REQUIRE(other.before.multiply_adds == other.after.multiply_adds);
  REQUIRE(other.after.nnz == 2 + 3 + 2);
  REQUIRE(other.after.file_bytes == report_file_size(dan));
  std::ostringstream text;
  other.write(text);
  REQUIRE(text.str().find("layers_main_hidden.0") != std::string::npos);
  REQUIRE(text.str().find(" layers_hidden") == std::string::npos);
  REQUIRE(text.str().find("\nlayers_hidden ") != std::string::npos);
}

TEST_CASE("report cards read back as tables") {
  const ReportNet full;
  ReportOptions options = report_quick;
  options.before = "dense | \"first\", full";
  const ReportCard card = report(full, pack(full), report_data(), options);
  std::ostringstream csv;
  card.write_csv(csv);
  std::map<std::string, std::vector<std::string>> rows;
  const auto lines = report_lines(csv.str());
  REQUIRE(report_cells(lines[0], ',') ==
          std::vector<std::string>{"layer", "measure", "dense | \"first\", full", "packed", "ratio"});
  for (std::size_t k = 1; k < lines.size(); ++k) {
    const auto cells = report_cells(lines[k], ',');
    REQUIRE(cells.size() == 5);
    REQUIRE(rows.emplace(cells[0] + " " + cells[1], cells).second);
    for (std::size_t c = 2; c < 5; ++c) REQUIRE((cells[c].empty() || detail::parse_number<double>(cells[c])));
  }
  REQUIRE(rows.at(" parameters")[2] == "17");
  REQUIRE(rows.at(" parameters")[3] == "11");
  REQUIRE(detail::parse_number<double>(rows.at(" parameters")[4]) == 17.0 / 11);
  REQUIRE(rows.at("hidden weights")[3] == "4");
  REQUIRE(detail::parse_number<double>(rows.at("hidden density")[2]) == 4.0 / 6);
  REQUIRE(detail::parse_number<double>(rows.at(" ms_per_batch")[2]) == card.before.batch.median);
  REQUIRE(rows.at(" bytes_on_disk")[2] == std::to_string(card.before.file_bytes));

  std::ostringstream markdown;
  card.write_markdown(markdown);
  std::size_t columns = 0, tables = 0;
  const auto marked = report_lines(markdown.str());
  for (std::size_t k = 0; k < marked.size(); ++k) {
    if (marked[k].empty()) continue;
    const auto cells = report_cells(marked[k], '|');
    if (k == 0 || marked[k - 1].empty()) {
      columns = cells.size();
      ++tables;
      for (const char c : marked[k + 1]) REQUIRE((c == '|' || c == '-' || c == ':'));
    }
    REQUIRE(cells.size() == columns);
    REQUIRE(cells.front().empty());
    REQUIRE(cells.back().empty());
  }
  REQUIRE(tables == 2);
  REQUIRE(markdown.str().find("| parameters | 17 | 11 | 1.5x fewer |\n") != std::string::npos);
  REQUIRE(markdown.str().find("| hidden | 3x2 | 3x2 | 4 | 4 | 66.67 % | 66.67 % | 4 | 4 | 68 | 60 |\n") !=
          std::string::npos);

  std::ostringstream text;
  card.write(text);
  const auto aligned = report_lines(text.str());
  REQUIRE(aligned[1].starts_with("accuracy "));
  REQUIRE(aligned[1].find("50.00 %") != std::string::npos);
  REQUIRE(aligned[1].ends_with("0.00 points"));
  REQUIRE(aligned[0].find("packed") + 6 == aligned[4].find(" 11 ") + 3);  // numbers end where their header does
  REQUIRE(detail::times_text(10, 40, "fewer", "more") == "4.0x more");
  REQUIRE(detail::times_text(10, 0, "fewer", "more").empty());
}

TEST_CASE("report cards compare models of other layers, and time what Inference has no form for") {
  const ReportCard card = report(ReportNet(), ReportStatistics(), report_data(), report_quick);
  REQUIRE(card.timed == "model");
  report_require_times(card);
  std::ostringstream text;
  card.write_markdown(text);
  REQUIRE(text.str().find("| hidden | 3x2 | - | 4 | - |") != std::string::npos);
  REQUIRE(text.str().find("| out | 2x3 | 2x2 | 2 | 4 |") != std::string::npos);

  const ReportNet net;
  require_error([&] { report(net, net, report_data(), {.batch_size = 0}); }, {"report: needs a sample, a run"});
  require_error([&] { report(net, net, report_data(), {.runs = 0}); }, {"report: needs a sample, a run"});
  require_error(
      [&] {
        report(net, net, Dataset(Tensor::zeros({0, 2}), Indices::zeros({0})), {});
      },
      {"report: needs data (0 samples)"});
}
