// gradcheck accepts right rules and rejects planted faults, in fused and in recorded rules alike.
#include <deepstruct/autograd/gradcheck.hpp>
#include <deepstruct/ops/linear.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

enum class Fault { none, factor, sign, dropped_term, transposed_index };

/// y = x·xᵀ∘c + x∘exp(x) for square x, with a fault planted in its rule: in the fused one, the recorded one, or both.
GradcheckFunction planted(Fault fault, bool in_fused, bool in_recorded) {
  return [=](std::span<const Var> inputs) {
    const Var x = inputs[0];
    const Var c = inputs[1];
    Tensor value;
    {
      no_grad guard;
      value = add(mul(matmul(x, transpose(x)), c), mul(x, exp(x))).value();
    }
    return record("planted", value, {x, c}, {},
                  [=](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
                    const bool here = recording() ? in_recorded : in_fused;
                    const Fault f = here ? fault : Fault::none;
                    if (in[0].wants_grad()) {
                      const Var g = mul(dy, in[1]);
                      Var sum = matmul(g, in[0]);
                      if (f != Fault::dropped_term) sum = add(sum, matmul(transpose(g), in[0]));
                      const Var e = mul(dy, mul(exp(in[0]), in[0] + 1.0f));
                      sum = add(sum, f == Fault::transposed_index ? transpose(e) : e);
                      dx[0] = f == Fault::factor ? sum * 1.01f : f == Fault::sign ? neg(sum) : sum;
                    }
                    if (in[1].wants_grad()) dx[1] = mul(dy, matmul(in[0], transpose(in[0])));
                  });
  };
}

std::vector<Tensor> inputs(std::int64_t n) {
  Rng rng(3);
  return {Tensor::normal({n, n}, 0, 1, rng), Tensor::normal({n, n}, 0, 1, rng)};
}

std::string text(const GradcheckReport& report) {
  std::ostringstream out;
  report.write(out);
  return out.str();
}

}  // namespace

TEST_CASE("gradcheck accepts what is right") {
  for (std::int64_t n : {1, 3, 5, 17}) {
    const auto report = gradcheck(planted(Fault::none, true, true), inputs(n));
    INFO(text(report));
    REQUIRE(report.ok);
    REQUIRE(report.checks == 3 * 2 * 2);
    REQUIRE(report.error <= report.tolerance);
    REQUIRE(text(report).find("ok in 12 checks") != std::string::npos);
    REQUIRE(gradcheck_second(planted(Fault::none, true, true), inputs(n)));
  }
}

TEST_CASE("gradcheck rejects planted faults and names the rule they stand in") {
  for (std::int64_t n : {3, 5, 17})
    for (Fault fault : {Fault::factor, Fault::sign, Fault::dropped_term, Fault::transposed_index}) {
      INFO("fault " << static_cast<int>(fault) << ", size " << n);
      const auto fused = gradcheck(planted(fault, true, false), inputs(n));
      INFO(text(fused));
      REQUIRE_FALSE(fused.ok);
      REQUIRE(fused.input == 0);
      REQUIRE(fused.mode == "backward");
      REQUIRE(fused.error > fused.tolerance);
      const auto recorded = gradcheck(planted(fault, false, true), inputs(n));
      INFO(text(recorded));
      REQUIRE_FALSE(recorded.ok);
      REQUIRE(recorded.input == 0);
      REQUIRE(recorded.mode == "create_graph");
      REQUIRE(text(recorded).find("FAILED") != std::string::npos);
    }
}

TEST_CASE("gradcheck_second rejects rules whose own derivative is wrong") {
  // A first derivative that is right, but constant on the tape: its derivative is lost.
  const auto lost = [](std::span<const Var> in) {
    Tensor y = exp(detach(in[0])).value();
    return record("lost", y, {in[0]}, {}, [](const Var& dy, const Var& out, std::span<const Var>, std::span<Var> dx) {
      dx[0] = mul(dy, detach(out));
    });
  };
  Rng rng(1);
  const std::vector<Tensor> x{Tensor::normal({7}, 0, 1, rng)};
  REQUIRE(gradcheck(lost, x));
  REQUIRE_FALSE(gradcheck_second(lost, x));
  REQUIRE(gradcheck_second([](std::span<const Var> in) { return exp(in[0]); }, x));
  REQUIRE_FALSE(gradcheck_second(planted(Fault::dropped_term, false, true), inputs(5)));
}

TEST_CASE("gradcheck finds NaN, lost dependence and a gradient out of nowhere") {
  const std::vector<Tensor> x{Tensor::from({3}, {1, 2, 3})};
  REQUIRE_FALSE(gradcheck([](std::span<const Var> in) { return detach(exp(in[0])); }, x));
  REQUIRE_FALSE(gradcheck(
      [](std::span<const Var> in) {
        return record("noise", Tensor::ones({3}), {in[0]}, {},
                      [](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = dy; });
      },
      x));
  const auto nan = gradcheck([](std::span<const Var> in) { return in[0] * std::nanf(""); }, x);
  REQUIRE_FALSE(nan.ok);
  REQUIRE(gradcheck([](std::span<const Var>) { return Var(Tensor::ones({2})); }, x));  // a constant has derivative 0
}

TEST_CASE("cancellation and rounding do not fail gradcheck; kinks are stepped around") {
  Rng rng(2);
  // Σ softmax is constant: terms cancel to rounding errors.
  const auto cancel = [](std::span<const Var> in) {
    const Var e = exp(in[0]);
    return sum(div(e, sum(e)));
  };
  REQUIRE(gradcheck(cancel, {Tensor::normal({50}, 0, 1, rng)}));
  const auto large = [](std::span<const Var> in) { return square(in[0]) + 100.0f; };
  REQUIRE(gradcheck(large, {Tensor::normal({5, 3}, 0, 1, rng)}));
  const auto kinked = [](std::span<const Var> in) { return relu(in[0]); };
  const Tensor close_to_zero = Tensor::from({6}, {0, 1, -1, 0.01f, -0.01f, 1e-6f});
  REQUIRE_FALSE(gradcheck(kinked, {close_to_zero}));
  REQUIRE(gradcheck(kinked, {close_to_zero}, {.kinks = {0}}));
  for (float scale : {1e-6f, 1e6f})
    REQUIRE(gradcheck([](std::span<const Var> in) { return mul(in[0], in[0]); }, {Tensor::full({3}, scale)}));
}

TEST_CASE("gradcheck takes empty inputs and refuses what it cannot check") {
  const auto f = [](std::span<const Var> in) { return exp(in[0]); };
  REQUIRE(gradcheck(f, {Tensor::zeros({0, 3})}));
  test::require_error([&] { gradcheck(f, {Tensor::full({2}, std::numeric_limits<float>::infinity())}); },
                      {"gradcheck", "finite"});
  test::require_error([] { gradcheck([](std::span<const Var>) { return Var(); }, {Tensor::ones({1})}); },
                      {"gradcheck", "empty"});
}
