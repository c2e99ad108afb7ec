// One sample through slices against the reference; only CPUs with AVX-512 have this kernel.
#include <deepstruct/kernels/sliced.hpp>

#include "support/cases.hpp"
#include "support/reference.hpp"

using namespace deepstruct;
namespace reference = test::reference;

namespace {

Tensor sliced(const Mask& m, const Tensor& values, const Tensor& x, const Tensor* bias, bool relu, bool finite = true) {
  Tensor y = Tensor::empty({1, m.rows()});
  const kernels::Sliced s(m.csr(), values.data());
  REQUIRE(kernels::sliced_linear(cpu{}, s.view(), x.data(), bias ? bias->data() : nullptr, relu, y.data()) == finite);
  return y;
}

}  // namespace

TEST_CASE("slices give what their mask does") {
  if (!simd::supported(simd::Isa::avx512)) return;
  test::Poison poison;
  Rng rng(1);
  for (auto [out, in] :
       {std::pair<std::int64_t, std::int64_t>{1, 1}, {7, 0}, {16, 32}, {17, 33}, {100, 31}, {512, 64}, {1041, 70}})
    for (const Mask& m : test::masks(out, in)) {
      INFO("mask " << m.shape() << ", edges " << m.nnz());
      const Tensor x = Tensor::normal({1, in}, 0, 1, rng), values = Tensor::normal({m.nnz()}, 0, 1, rng),
                   bias = Tensor::normal({out}, 0, 1, rng);
      const auto plain = reference::sparse_linear(m, values, x, nullptr);
      test::require_close(sliced(m, values, x, nullptr, false), plain);
      const auto want = reference::sparse_linear(m, values, x, &bias);
      test::require_close(sliced(m, values, x, &bias, false), want);
      test::require_close(sliced(m, values, x, &bias, true), reference::relu_of(want));
    }
}

TEST_CASE("slices tell of an input that is not finite, wherever it stands") {
  if (!simd::supported(simd::Isa::avx512)) return;
  Rng rng(2);
  const Mask m = Mask::random(40, 70, 0.2, rng);
  const Tensor values = Tensor::normal({m.nnz()}, 0, 1, rng);
  for (std::int64_t c : {0, 15, 16, 31, 32, 63, 69})
    for (float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                      std::numeric_limits<float>::quiet_NaN()}) {
      Tensor x = Tensor::normal({1, 70}, 0, 1, rng);
      x(0, c) = bad;
      sliced(m, values, x, nullptr, false, false);
    }
}

TEST_CASE("parts of slices are the same for any number of threads") {
  if (!simd::supported(simd::Isa::avx512)) return;
  Rng rng(3);
  const Mask m = Mask::random(2000, 700, 0.3, rng);
  const Tensor values = Tensor::normal({m.nnz()}, 0, 1, rng), x = Tensor::normal({1, 700}, 0, 1, rng);
  test::same_for_all_threads([&] { return std::vector<Tensor>{sliced(m, values, x, nullptr, false)}; });
}
