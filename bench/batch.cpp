// A layer with batches of 1 to 4096 samples, sparse and dense, forward and backward: whether any size costs more than
// its neighbours. Results are checked against sums in double before anything is timed.
#include <deepstruct/deepstruct.hpp>

#include "bench.hpp"
#include "masked_layer.hpp"
#include "peers/ceiling.hpp"

using namespace deepstruct;

namespace {

constexpr std::int64_t in = 1024, out = 1024;

/// One layer with its batch, and its two ways of running.
struct Case {
  Mask mask;
  Var values, x, dy;
  bench::MaskedLayer layer;

  Case(double density, std::int64_t batch, Rng& rng)
      : mask(Mask::random(out, in, density, rng)),
        values(Tensor::uniform({mask.nnz()}, -1, 1, rng)),
        x(Tensor::normal({batch, in}, 0, 1, rng)),
        dy(Tensor::normal({batch, out}, 0, 1, rng)),
        layer(mask, values) {}

  Var forward() const { return layer(x); }
  std::array<Var, 2> backward() const { return layer.backward(dy, x); }
  /// Largest error of y and dx of the first and last sample, and of dw of the edges of some rows.
  double error() const {
    const Tensor y = forward().value();
    const auto both = backward();
    const Tensor &dx = both[0].value(), dw = mask.is_full() ? pick_edges(both[1], mask).value() : both[1].value();
    const std::int64_t batch = x.shape()[0];
    double error = 0, size = 0;
    const auto compare = [&](float got, double want) {
      error = std::max(error, std::abs(double{got} - want)), size = std::max(size, std::abs(want));
    };
    for (const std::int64_t b : {std::int64_t{0}, batch - 1}) {
      std::vector<double> up(out, 0), down(in, 0);
      mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
        const double w = double{values.value()(e)};
        up[r] += w * double{x.value()(b, c)}, down[c] += w * double{dy.value()(b, r)};
      });
      for (std::int64_t r = 0; r < out; ++r) compare(y(b, r), up[r]);
      for (std::int64_t c = 0; c < in; ++c) compare(dx(b, c), down[c]);
    }
    mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      if (r % 512 != 7) return;
      double sum = 0;
      for (std::int64_t b = 0; b < batch; ++b) sum += double{dy.value()(b, r)} * double{x.value()(b, c)};
      compare(dw(e), sum);
    });
    check(error <= 1e-5 * std::max(1.0, size), "batch: a product is wrong (error ", error, ", largest value ", size,
          ")");
    return error;
  }
};

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"batch", "density", "threads", "rounds", "json"});
  const auto batches = options.numbers<std::int64_t>(
      "batch", "1,2,4,8,12,15,16,17,24,25,31,32,33,47,48,49,63,64,65,96,127,128,129,255,256,257,512,1024,2048,4096", 1,
      1 << 16);
  const auto densities = options.numbers<double>("density", "1,0.1", 1e-4, 1);
  const auto threads = options.numbers<int>("threads", "1", 1, 1024);
  const int rounds = options.number<int>("rounds", "5", 1, 1000);
  no_grad guard;
  std::vector<bench::Row> rows;
  for (const int count : threads) {
    set_num_threads(count);
    const double peak = bench::ceiling_gflops();
    for (const double density : densities)
      for (const std::int64_t batch : batches) {
        Rng rng(1);
        const Case one(density, batch, rng);
        const double error = one.error();
        const auto times = bench::take_turns({[&] { one.forward(); }, [&] { one.backward(); }}, rounds);
        const double flops = 2e-3 * static_cast<double>(one.mask.nnz() * batch);
        rows.push_back({"batch_forward", "", "", batch, in, out, density, count, times[0],
                        100 * flops / times[0].median / peak, error});
        rows.push_back({"batch_backward", "", "", batch, in, out, density, count, times[1],
                        100 * 2 * flops / times[1].median / peak, error});
      }
  }
  return bench::report(options, rows);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::program(argc, argv,
                        "usage: batch [--batch 1,2,…,4096] [--density 1,0.1] [--threads 1] [--rounds 5] [--json FILE]\n"
                        "       a layer 1024 -> 1024 with batches of every size\n",
                        run);
}
