// Global pruning: the 90 % least salient weights of a whole network go.
//
// What is left is checked against a sort before anything is timed.
#include "bench.hpp"

#include <deepstruct/deepstruct.hpp>

using namespace deepstruct;

namespace {

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"threads", "repeats", "json"});
  const auto threads = options.numbers("threads", std::to_string(num_threads()), 1, 1024);
  const int repeats = options.number("repeats", "15", 1, 100000);
  Rng rng(1);
  const MaskedDeepFFN model(784, 10, {1000, 1000}, {}, rng);

  std::vector<float> sorted;
  each<MaskedLinearLayer>(model, [&](const MaskedLinearLayer& layer) {
    layer.saliency().for_each([&](std::int64_t, float s) { sorted.push_back(s); });
  });
  std::sort(sorted.begin(), sorted.end());
  const double at = 0.9 * static_cast<double>(sorted.size() - 1);  // NumPy's percentile, compared as float32
  const auto k = static_cast<std::size_t>(at);
  const double step = double{sorted[k + 1]} - double{sorted[k]};
  const auto limit = static_cast<float>(double{sorted[k]} + step * (at - static_cast<double>(k)));
  const std::int64_t wanted = sorted.end() - std::lower_bound(sorted.begin(), sorted.end(), limit);

  std::vector<bench::Row> rows;
  for (const int count : threads) {
    set_num_threads(count);
    for (const storage store : {storage::full, storage::packed}) {
      const MaskedDeepFFN start = store == storage::packed ? pack(model) : model;
      MaskedDeepFFN pruned = start;
      prune_network_by_saliency(pruned, percentage(90));
      const std::int64_t left = get_network_weight_count(pruned);
      check(left == wanted, "prune: ", left, " weights are left (expected ", wanted, ")");
      std::vector<double> us;
      for (int repeat = 0; repeat < repeats; ++repeat) {
        pruned = start;
        us.push_back(bench::microseconds([&] { prune_network_by_saliency(pruned, percentage(90)); }));
      }
      bench::Row row;
      row.name = "prune_global";
      row.model = "784-1000-1000-10";
      row.storage = store == storage::packed ? "packed" : "full";
      row.density = 0.1;
      row.threads = count;
      row.time = bench::timing_of(us);
      rows.push_back(row);
    }
  }
  return bench::report(options, rows);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::program(argc, argv, "usage: prune [--threads 1,2] [--repeats 15] [--json FILE]\n", run);
}
