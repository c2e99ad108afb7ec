// Results that others published on pruning, measured again: each with its source, what must come out, and what did.
#include "at_init.hpp"
#include "brain_damage.hpp"
#include "magnitude.hpp"
#include "surgeon.hpp"
#include "tickets.hpp"

#include "common/files.hpp"
#include "common/idx_folder.hpp"
#include "common/interrupt.hpp"
#include "common/main.hpp"

#include <deepstruct/io.hpp>

#include <cstdlib>

namespace fs = std::filesystem;
using namespace reproduce;

namespace {

struct Reproduction {
  const char* name;
  void (*run)(Lab&);
};
constexpr Reproduction reproductions[] = {{"magnitude", magnitude}, {"snip", snip},     {"obd", obd},
                                          {"lottery", lottery},     {"iterative", han}, {"synflow", synflow},
                                          {"obs", surgeon}};

/// Pixels in units of their standard deviation over the training set; what is black stays 0.
void scale(ds::Dataset& train, ds::Dataset& test) {
  ds::no_grad guard;
  const ds::Batch all = train.all(), other = test.all();
  const float factor = 1 / ds::std(ds::Var(all.x)).item();
  train = {ds::affine(ds::Var(all.x), factor, 0).value(), all.y, 10};
  test = {ds::affine(ds::Var(other.x), factor, 0).value(), other.y, 10};
}

std::string table(const Lab& lab) {
  std::string text = "| result | published | must show | measured | holds |\n|---|---|---|---|---|\n";
  for (const Claim& c : lab.claims())
    text += "| " + c.result + " | " + c.published + " | " + c.must + " | " + c.measured + " | " +
            (c.holds ? "yes" : "**no**") + " |\n";
  return text;
}

int work(CLI::App& app, const examples::Parse& parse) {
  const char* mnist = std::getenv("DEEPSTRUCT_MNIST");
  std::string data = mnist ? mnist : "", out = "out/reproduce";
  std::vector<std::string> names;
  int seeds = 0, threads = 0;
  bool brief = false;
  app.description("Measures published results on pruning again and says whether they hold.");
  std::vector<std::string> all;
  for (const Reproduction& r : reproductions) all.push_back(r.name);
  app.add_option("result", names, "which ones (default: all)")->check(CLI::IsMember(all));
  app.add_option("--data", data, "folder with MNIST as IDX files, plain or .gz (default: $DEEPSTRUCT_MNIST)");
  app.add_option("--out", out, "folder for log, table and report cards")->capture_default_str();
  app.add_option("--seeds", seeds, "networks per result (0: 3, or 1 if brief)")->check(examples::within(0));
  app.add_option("--threads", threads, "threads (0: all cores)")->check(examples::within(0))->capture_default_str();
  app.add_flag("--brief", brief, "little data, few epochs, weaker claims: seconds instead of an hour");
  parse();

  ds::check(!data.empty(), "--data: tell where MNIST is, or set DEEPSTRUCT_MNIST ()");
  if (threads > 0) ds::set_num_threads(threads);
  ds::Dataset train = examples::load_half(data, "train", 10, brief ? 6000 : 0),
              test = examples::load_half(data, "t10k", 10, brief ? 2000 : 0);
  scale(train, test);
  examples::Interrupt interrupt;
  Lab lab(std::move(train), std::move(test), fs::path(out) / "runs.csv");
  lab.brief = brief;
  lab.seeds = seeds > 0 ? seeds : brief ? 1 : 3;
  lab.stop = interrupt.token();
  try {
    for (const Reproduction& r : reproductions) {
      if (!names.empty() && std::find(names.begin(), names.end(), r.name) == names.end()) continue;
      std::cout << r.name << std::endl;
      r.run(lab);
    }
  } catch (const Stopped&) {
    std::cerr << "stopped; what was measured is in " << (fs::path(out) / "runs.csv").string() << '\n';
    return interrupt.exit_code();
  }
  examples::write_file(fs::path(out) / "table.md", table(lab));
  std::cout << '\n' << table(lab) << "\nlog, table and report cards are in " << out << '\n';
  const auto& claims = lab.claims();
  return std::all_of(claims.begin(), claims.end(), [](const Claim& c) { return c.holds; }) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) { return examples::run(argc, argv, work); }
