// Choosing an instruction set, and the elementary functions of the vector vocabulary against libm.
#include <deepstruct/kernels/elementwise.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
namespace fn = kernels::fn;

TEST_CASE("the baseline is always there, and force takes what the machine has") {
  const auto all = simd::available();
  REQUIRE(all.front() == simd::Isa::baseline);
  const simd::Isa before = simd::active();
  int values[] = {1, 2, 3};
  for (simd::Isa isa : all) {
    simd::force(isa);
    REQUIRE(simd::active() == isa);
    REQUIRE(*simd::pick(&values[0], &values[1], &values[2]) == values[static_cast<int>(isa)]);
  }
  simd::force(before);
  for (simd::Isa isa : {simd::Isa::avx2, simd::Isa::avx512})
    if (!simd::supported(isa)) test::require_error([&] { simd::force(isa); }, {"simd::force", simd::name(isa).data()});
  REQUIRE(simd::active() == before);
}

namespace {

/// The largest error of f over random values in [low, high], in units of the last place of the true value.
template <class Op>
double worst_ulps(float low, float high, double (*truth)(double), float a = 0, float b = 0) {
  const std::int64_t n = 20000;
  Rng rng(1);
  const Tensor x = Tensor::uniform({n}, low, high, rng);
  Tensor y = Tensor::empty({n});
  kernels::map<Op>(cpu{}, x.data(), y.data(), n, a, b);
  double worst = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double want = truth(double{x(i)});
    const double ulp =
        want == 0 ? 0x1p-149 : std::max(std::exp2(std::floor(std::log2(std::fabs(want)))) * 0x1p-23, 0x1p-149);
    const double error = std::fabs(double{y(i)} - want) / ulp;
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

template <class Op>
float at(float x, float a = 0, float b = 0) {
  const Tensor in = Tensor::scalar(x);
  Tensor out = Tensor::empty({});
  kernels::map<Op>(cpu{}, in.data(), out.data(), 1, a, b);
  return out.item();
}

}  // namespace

TEST_CASE("exp, log, log1p, tanh, sigmoid, softplus, gelu and sqrt are within a few ulp of libm") {
  test::on_every_isa([] {
    CHECK(worst_ulps<fn::exp>(-87, 88.7f, [](double x) { return std::exp(x); }) <= 2);
    CHECK(worst_ulps<fn::exp>(-103, -87, [](double x) { return std::exp(x); }) <= 2);
    CHECK(worst_ulps<fn::exp>(-1, 1, [](double x) { return std::exp(x); }) <= 2);
    CHECK(worst_ulps<fn::log>(0, 3e38f, [](double x) { return std::log(x); }) <= 2);
    CHECK(worst_ulps<fn::log>(0.5f, 2, [](double x) { return std::log(x); }) <= 2);
    CHECK(worst_ulps<fn::log>(1e-45f, 1e-38f, [](double x) { return std::log(x); }) <= 2);
    CHECK(worst_ulps<fn::log1p>(-0.9f, 3, [](double x) { return std::log1p(x); }) <= 4);
    CHECK(worst_ulps<fn::log1p>(-1e-3f, 1e-3f, [](double x) { return std::log1p(x); }) <= 4);
    CHECK(worst_ulps<fn::tanh>(-10, 10, [](double x) { return std::tanh(x); }) <= 4);
    CHECK(worst_ulps<fn::tanh>(-0.7f, 0.7f, [](double x) { return std::tanh(x); }) <= 4);
    CHECK(worst_ulps<fn::sigmoid>(-80, 80, [](double x) { return 1 / (1 + std::exp(-x)); }) <= 4);
    CHECK(worst_ulps<fn::softplus>(
              -80, 20, [](double x) { return std::log1p(std::exp(x)); }, 1, 20) <= 6);
    CHECK(worst_ulps<fn::elu>(
              -20, 0, [](double x) { return std::expm1(x); }, 1, 1) <= 6);
    const auto gelu = [](double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); };
    CHECK(worst_ulps<fn::gelu>(-12.9f, 0, gelu) <= 6);
    CHECK(worst_ulps<fn::gelu>(-0.01f, 0.01f, gelu) <= 6);
    CHECK(worst_ulps<fn::gelu>(0, 20, gelu) <= 4);
    CHECK(worst_ulps<fn::sqrt>(0, 1e10f, [](double x) { return std::sqrt(x); }) <= 0.5);
  });
}

TEST_CASE("elementary functions at their ends") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  test::on_every_isa([&] {
    CHECK(at<fn::exp>(inf) == inf);
    CHECK(at<fn::exp>(-inf) == 0);
    CHECK(at<fn::exp>(89) == inf);
    CHECK(at<fn::exp>(0) == 1);
    CHECK(std::isnan(at<fn::exp>(nan)));
    CHECK(at<fn::gelu>(-20) == 0);
    CHECK(at<fn::gelu>(1e30f) == 1e30f);
    CHECK(at<fn::gelu>(inf) == inf);
    CHECK(std::isnan(at<fn::gelu>(nan)));
    CHECK(at<fn::log>(0) == -inf);
    CHECK(at<fn::log>(-0.0f) == -inf);
    CHECK(at<fn::log>(inf) == inf);
    CHECK(at<fn::log>(1) == 0);
    CHECK(std::isnan(at<fn::log>(-1)));
    CHECK(std::isnan(at<fn::log>(nan)));
    CHECK(at<fn::log1p>(-1) == -inf);
    CHECK(at<fn::log1p>(inf) == inf);
    CHECK(at<fn::log1p>(0) == 0);
    CHECK(std::isnan(at<fn::log1p>(-2)));
    CHECK(at<fn::tanh>(inf) == 1);
    CHECK(at<fn::tanh>(-inf) == -1);
    CHECK(std::isnan(at<fn::tanh>(nan)));
    CHECK(at<fn::sigmoid>(inf) == 1);
    CHECK(at<fn::sigmoid>(-inf) == 0);
    CHECK(at<fn::softplus>(-inf, 1, 20) == 0);
    CHECK(at<fn::softplus>(inf, 1, 20) == inf);
    CHECK(at<fn::logsigmoid>(-100) == -100);
    CHECK(at<fn::elu>(-inf, 1, 1) == -1);
    CHECK(std::isnan(at<fn::sqrt>(-1)));
    CHECK(at<fn::relu>(-inf) == 0);
    CHECK(std::isnan(at<fn::relu>(nan)));
    CHECK(std::isnan(at<fn::clamp>(nan, 0, 1)));
  });
}
