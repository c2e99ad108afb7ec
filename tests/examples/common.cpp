// The helpers of the example programs: numbers, files, CSV, Ctrl-C, errors of main and pictures.
#include <common/csv_log.hpp>
#include <common/interrupt.hpp>
#include <common/main.hpp>
#include <common/progress.hpp>
#include <common/svg.hpp>
#include <support/catch.hpp>

#include <chrono>
#include <limits>
#include <thread>

using namespace examples;

namespace {

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// A folder of its own, removed at the end.
struct Folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("deepstruct_examples_" + std::to_string(::getpid()));
  Folder() { std::filesystem::remove_all(path); }
  ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("numbers for files read back, numbers for people are rounded") {
  CHECK(shortest(0.1f) == "0.1");
  CHECK(shortest(true) == "1");
  CHECK(std::stod(shortest(1.0 / 3)) == 1.0 / 3);
  CHECK(fixed(1234567.891, 1) == "1,234,567.9");
  CHECK(fixed(-0.0001, 2) == "0.00");
  CHECK(fixed(-123456, 0) == "-123,456");
  CHECK(significant(0.0123456) == "0.0123");
  CHECK(significant(100) == "100");
  CHECK(bytes_text(999) == "999 B");
  CHECK(bytes_text(999999) == "1 MB");
  CHECK(milliseconds_text(0.0123) == "12.3 µs");
}

TEST_CASE("a CSV log is on disk after each row, quotes, resumes and names its mistakes") {
  const Folder folder;
  const auto path = folder.path / "deep" / "log.csv";
  {
    CsvLog log(path, {"epoch", "a,b"});
    log.row(1, 0.1f);
    CHECK(read(path) == "epoch,\"a,b\"\n1,0.1\n");
    log.row(2, "say \"x\"");
    CHECK_THROWS_AS(log.row(1), deepstruct::Error);
  }
  const std::string whole = read(path);
  CHECK(whole == "epoch,\"a,b\"\n1,0.1\n2,\"say \"\"x\"\"\"\n");
  std::ofstream(path, std::ios::app) << "3,0.";  // killed while writing
  CsvLog(path, {"epoch", "a,b"}, CsvLog::Start::resume).row(3, 0.5);
  CHECK(read(path) == whole + "3,0.5\n");
  CHECK_THROWS_AS(CsvLog(path, {"other"}, CsvLog::Start::resume), deepstruct::Error);
  CHECK_THROWS_AS(write_file(folder.path / "deep", "a folder"), deepstruct::Error);
  CHECK_THROWS_AS(write_file(path / "below a file", ""), deepstruct::Error);
}

TEST_CASE("the first signal asks to stop, and the handlers come back") {
  for (const int number : {SIGINT, SIGTERM}) {
    const Interrupt interrupt("");
    CHECK_FALSE(interrupt.requested());
    CHECK(interrupt.exit_code() == 0);
    CHECK_THROWS_AS(Interrupt(""), deepstruct::Error);
    ::raise(number);
    for (int i = 0; i < 2000 && !interrupt.requested(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(interrupt.token().stop_requested());
    CHECK(interrupt.exit_code() == 128 + number);
  }
  struct sigaction now {};
  ::sigaction(SIGTERM, nullptr, &now);
  CHECK(now.sa_handler != examples::detail::examples_on_signal);
}

TEST_CASE("run turns every error into exit code 2") {
  char name[] = "dir/program", option[] = "--epochs", minus[] = "-3", help[] = "--help";
  const auto result = [&](std::vector<char*> arguments, const std::function<void()>& body) {
    arguments.insert(arguments.begin(), name);
    return run(static_cast<int>(arguments.size()), arguments.data(), [&](CLI::App& app, const Parse& parse) {
      int epochs = 1;
      app.add_option("--epochs", epochs)->check(within(1));
      parse();
      body();
    });
  };
  CHECK(result({}, [] {}) == 0);
  CHECK(result({help}, [] { FAIL("--help must not run the body"); }) == 0);
  CHECK(result({option, minus}, [] {}) == 2);
  CHECK(result({minus}, [] {}) == 2);
  CHECK(result({}, [] { deepstruct::fail("idx: broken"); }) == 2);
  CHECK(result({}, [] { throw std::bad_alloc(); }) == 2);
  CHECK(result({}, [] { throw 3; }) == 2);
}

TEST_CASE("pictures escape their words and survive strange data") {
  CHECK(svg::escape("<a & \"b'>") == "&lt;a &amp; &quot;b&#39;&gt;");
  CHECK(svg::escape("\x01 \xC3\xA9 \xFF \xED\xA0\x80") == "\uFFFD \u00E9 \uFFFD \uFFFD\uFFFD\uFFFD");
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const svg::Scale scale : {svg::Scale::linear, svg::Scale::log, svg::Scale::log_remaining}) {
    for (const std::vector<svg::Point>& points :
         std::vector<std::vector<svg::Point>>{{},
                                              {{0, 0}},
                                              {{1, nan}, {nan, 1}},
                                              {{-1, -1}, {1, inf}},
                                              {{1e300, 1e-300}, {1e-300, 1e300}},
                                              {{0.5, 7}, {0.5, 7}}}) {
      const std::string text = render(svg::LineChart{
          .title = "<t>", .x = {.scale = scale}, .y = {.scale = scale}, .series = {{.name = "&", .points = points}}});
      CHECK(text.ends_with("</svg>\n"));
      CHECK(text.find("nan") == std::string::npos);
      CHECK(text.find("inf") == std::string::npos);
    }
  }
  CHECK(render(svg::HeatMap{.panels = {{.rows = 1, .cols = 2, .values = {nan, 3}}}}).find("M1 0h1v1h-1z") !=
        std::string::npos);
  CHECK_THROWS_AS(render(svg::HeatMap{.panels = {{.rows = 2, .cols = 2, .values = {1}}}}), deepstruct::Error);
  CHECK(svg::palette_colour(svg::Palette::viridis, 0) == "#440154");
  CHECK(svg::verdict_text({.before = 1000, .after = 90, .unit = svg::Unit::bytes}) == "11.1× smaller");
  CHECK(svg::verdict_text({.before = 0, .after = 0}).empty());
}

TEST_CASE("labels beside last points keep their distance and their order") {
  CHECK(svg::detail::spread({10, 50}, 15) == std::vector<double>{10, 50});
  CHECK(svg::detail::spread({10, 12, 100}, 16) == std::vector<double>{3, 19, 100});
}
