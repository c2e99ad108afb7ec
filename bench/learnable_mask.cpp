// What a learnable mask costs: a training step of 784-300-100-10 with one, for every kind of gate, against the same
// step with a fixed full mask. Batch 128, Adam.
#include "bench.hpp"

#include <deepstruct/deepstruct.hpp>

using namespace deepstruct;

namespace {

/// A network with its optimizer, and the batch that it steps on.
class Training {
 public:
  Training(const MaskedLinearOptions& options, Rng& rng)
      : net_(MaskedLinearLayer(784, 300, options, rng), ReLU(), MaskedLinearLayer(300, 100, options, rng), ReLU(),
             MaskedLinearLayer(100, 10, options, rng)),
        x_(Tensor::normal({128, 784}, 0, 1, rng)),
        y_(Indices::zeros({128})) {
    for (std::int64_t i = 0; i < 128; ++i) y_(i) = static_cast<std::int32_t>(i % 10);
  }
  void step() {
    backward(cross_entropy(net_(x_), y_));
    adam_.step(net_);
  }

 private:
  Sequential<MaskedLinearLayer, ReLU, MaskedLinearLayer, ReLU, MaskedLinearLayer> net_;
  Var x_;
  Indices y_;
  Adam adam_;
};

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"threads", "rounds", "json"});
  const auto threads = options.numbers("threads", "1,2", 1, 1024);
  const int rounds = options.number("rounds", "31", 1, 1000000);
  using G = MaskGradient;
  const std::vector<std::pair<std::string, MaskedLinearOptions>> kinds{
      {"fixed", {}},
      {"none", {.learnable_mask = true, .gradient = G::none}},
      {"straight", {.learnable_mask = true}},
      {"gumbel", {.learnable_mask = true, .gradient = G::gumbel_softmax}},
      {"gumbel_hard", {.learnable_mask = true, .gradient = G::gumbel_softmax, .hard_gate = true}},
      {"concrete", {.learnable_mask = true, .gradient = G::hard_concrete}}};
  std::vector<bench::Row> rows;
  for (const int count : threads) {
    set_num_threads(count);
    Rng rng(1);
    std::vector<Training> all;
    for (const auto& [name, how] : kinds) all.emplace_back(how, rng);
    std::vector<std::vector<double>> rounds_of(all.size());
    for (int round = 0; round < rounds; ++round)
      for (std::size_t k = 0; k < all.size(); ++k) {
        // The least of a few steps: what else runs on the machine only adds, and to long steps more often.
        double least = bench::microseconds([&] { all[k].step(); });
        for (int s = 0; s < 8; ++s) least = std::min(least, bench::microseconds([&] { all[k].step(); }));
        rounds_of[k].push_back(least);
      }
    std::vector<bench::Timing> times;
    for (auto& us : rounds_of) times.push_back(bench::timing_of(us));
    std::cout << count << " threads, times of a fixed mask:";
    for (std::size_t k = 0; k < kinds.size(); ++k) {
      if (k > 0) std::cout << "  " << kinds[k].first << " " << bench::text(times[k].median / times[0].median);
      rows.push_back({"mask_step", "784-300-100-10", kinds[k].first, 128, 0, 0, 1, count, times[k]});
    }
    std::cout << "\n";
  }
  return bench::report(options, rows);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::program(argc, argv, "usage: learnable_mask [--threads 1,2] [--rounds 31] [--json FILE]\n", run);
}
