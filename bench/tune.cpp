// Where sparse meets dense on this machine: the table for use_kernel_table.
//
// A masked layer with a full weight, forward and backward, both ways in turn, density by density; the limit of a range
// is the highest density at which sparse is at least as fast, in the geometric mean over its layers.
#include <deepstruct/deepstruct.hpp>
#include <deepstruct/io/kernel_table.hpp>

#include "bench.hpp"

using namespace deepstruct;

namespace {

constexpr std::int64_t layers[][2] = {{256, 256}, {784, 300}, {1024, 1024}, {4096, 1024}};
constexpr std::int64_t samples_of[KernelTable::ranges][2] = {{1, 8}, {16, 24}, {64, 128}};

/// Time of the dense way over that of the sparse way.
double ratio(std::int64_t batch, std::int64_t in, std::int64_t out, double density, int rounds) {
  Rng rng(1);
  const Mask mask = Mask::random(out, in, density, rng);
  const Var x = variable(Tensor::normal({batch, in}, 0, 1, rng)), w = variable(Tensor::normal({out, in}, 0, 1, rng));
  const Var bias = variable(Tensor::zeros({out})), up(Tensor::normal({batch, out}, 0, 1, rng));
  const auto step = [&](float limit) {
    use_kernel_table({{{limit, limit, limit}, {limit, limit, limit}, {limit, limit, limit}}});
    backward(sum(mul(masked_linear(x, w, mask, bias), up)));
  };
  const auto times = bench::take_turns({[&] { step(1); }, [&] { step(0); }}, rounds);
  return times[1].median / times[0].median;
}

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"rounds", "out"});
  const int rounds = options.number("rounds", "3", 1, 1000);
  const std::string out = options.get("out", "");
  set_num_threads(1);
  KernelTable table = kernel_table();
  for (const simd::Isa isa : simd::available()) {
    simd::force(isa);
    for (int range = 0; range < KernelTable::ranges; ++range) {
      float limit = 0;
      for (const double density : {0.5, 0.6, 0.7, 0.8, 0.9, 0.95}) {
        double log_sum = 0, least = 1e9;
        int n = 0;
        for (const auto [in, neurons] : layers)
          for (const std::int64_t batch : samples_of[range]) {
            const double r = ratio(batch, in, neurons, density, rounds);
            log_sum += std::log(r), least = std::min(least, r), ++n;
          }
        const double mean = std::exp(log_sum / n);
        std::cout << std::left << std::setw(9) << simd::name(isa) << " samples " << samples_of[range][0] << ", "
                  << samples_of[range][1] << "  density " << density << ": sparse is " << std::fixed
                  << std::setprecision(2) << mean << "x as fast as dense, at least " << least << "x"
                  << std::defaultfloat << std::endl;
        if (mean < 1 || least < 0.9) break;
        limit = static_cast<float>(density);
      }
      table.sparse_up_to[static_cast<int>(isa)][range] = limit;
    }
  }
  if (!out.empty()) {
    save_kernel_table(table, out);
    std::cout << "wrote " << out << "; a program uses it by use_kernel_table(load_kernel_table(\"" << out << "\"))\n";
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::program(argc, argv, "usage: tune [--rounds 3] [--out kernel_table.json]\n", run);
}
