// The choice between sparse and dense, and what it may not change.
#include <deepstruct/kernels/choose.hpp>
#include <deepstruct/ops/linear.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

/// Restores the table.
struct Table {
  explicit Table(float density) {
    KernelTable table{};
    for (auto& row : table.sparse_up_to)
      for (float& limit : row) limit = density;
    use_kernel_table(table);
  }
  ~Table() { use_kernel_table(measured_kernel_table); }
};

}  // namespace

TEST_CASE("choose_kernel reads its table by instruction set and samples") {
  KernelTable table{{{0.1f, 0.2f, 0.3f}, {0.4f, 0.5f, 0.6f}, {0.7f, 0.8f, 0.9f}}};
  const std::pair<std::int64_t, int> samples[] = {{1, 0}, {15, 0}, {16, 1}, {31, 1}, {32, 2}, {4096, 2}};
  for (simd::Isa isa : {simd::Isa::baseline, simd::Isa::avx2, simd::Isa::avx512})
    for (auto [count, range] : samples) {
      const double limit = double{table.sparse_up_to[static_cast<int>(isa)][range]};
      const auto below = static_cast<std::int64_t>(limit * 1000 * 1000) - 1;
      INFO(simd::name(isa) << ", " << count << " samples");
      REQUIRE(choose_kernel(1000, 1000, below, count, isa, table) == Kernel::sparse);
      REQUIRE(choose_kernel(1000, 1000, below + 2, count, isa, table) == Kernel::dense);
      REQUIRE(choose_kernel(1000, 1000, 1000 * 1000, count, isa, KernelTable{{{1, 1, 1}, {1, 1, 1}, {1, 1, 1}}}) ==
              Kernel::dense);
    }
}

TEST_CASE("both kernels of a masked layer give the same values and gradients") {
  Rng rng(1);
  for (std::int64_t b : {1, 8, 20, 70})
    for (const Mask& m : test::masks(13, 21)) {
      const Tensor x = Tensor::normal({b, 21}, 0, 1, rng), w = Tensor::normal({13, 21}, 0, 1, rng),
                   bias = Tensor::normal({13}, 0, 1, rng), up = Tensor::normal({b, 13}, 0, 1, rng);
      const auto results = [&](float density) {
        Table table(density);
        const Var in = variable(x), weight = variable(w);
        const Var y = masked_linear(in, weight, m, bias, Activation::relu);
        const Vars d = grad(y, {in, weight}, {.seed = up});
        return std::vector<Tensor>{y.value(), d[0].value(), d[1].value()};
      };
      const auto sparse = results(1), dense = results(0);
      for (std::size_t k = 0; k < sparse.size(); ++k)
        sparse[k].for_each([&, other = dense[k].to_vector()](std::int64_t i, float v) {
          REQUIRE(std::abs(v - other[static_cast<std::size_t>(i)]) <= 1e-5f * (1 + std::abs(v)));
        });
    }
}

TEST_CASE("a table with a density outside [0, 1] is refused and changes nothing") {
  for (float bad : {-0.1f, 1.1f, std::numeric_limits<float>::quiet_NaN()}) {
    KernelTable table = measured_kernel_table;
    table.sparse_up_to[1][2] = bad;
    test::require_error([&] { use_kernel_table(table); }, {"use_kernel_table", "[0, 1]"});
    REQUIRE(kernel_table() == measured_kernel_table);
  }
}
