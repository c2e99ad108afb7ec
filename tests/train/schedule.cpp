// Learning-rate schedules: literal values, long runs, wrong configurations (whole series: golden runner).
#include <deepstruct/train/schedule.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include "support/catch.hpp"

using namespace deepstruct;

namespace {
Approx near(double x) { return Approx(x).epsilon(1e-12).margin(0); }
}  // namespace

TEST_CASE("step, multi-step, exponential", "[schedule]") {
  const StepLR step{.lr = 0.1, .step_size = 3, .gamma = 0.5};
  CHECK(step(0) == 0.1);
  CHECK(step(2) == 0.1);
  CHECK(step(3) == near(0.05));
  CHECK(step(25) == near(0.000390625));

  const MultiStepLR multi{.lr = 0.1, .milestones = {9, 2, 5}, .gamma = 0.3};
  CHECK(multi(1) == 0.1);
  CHECK(multi(2) == near(0.03));
  CHECK(multi(8) == near(0.009));
  CHECK(multi(9) == near(0.0027));
  CHECK(MultiStepLR{.lr = 1, .milestones = {2, 2}, .gamma = 0.5}(2) == near(0.25));

  const ExponentialLR exponential{.lr = 0.1, .gamma = 0.9};
  CHECK(exponential(0) == 0.1);
  CHECK(exponential(25) == near(0.1 * std::pow(0.9, 25)));
}

TEST_CASE("cosine annealing goes down, up again, and stays periodic for ever", "[schedule]") {
  const CosineAnnealingLR cosine{.lr = 0.1, .T_max = 10};
  CHECK(cosine(0) == 0.1);
  CHECK(cosine(1) == near(0.09755282581475769));
  CHECK(cosine(5) == near(0.05));
  CHECK(cosine(10) == 0.0);
  CHECK(cosine(11) == near(0.0024471741852423235));
  CHECK(cosine(20) == 0.1);
  CHECK(cosine(30) == 0.0);
  CHECK(cosine(1'000'000'000'010) == 0.0);
  const CosineAnnealingLR floor{.lr = 0.1, .T_max = 7, .eta_min = 0.01};
  CHECK(floor(1) == near(0.09554359905560886));
  CHECK(floor(7) == 0.01);
  CHECK(floor(13) == near(0.09554359905560887));
  CHECK(CosineAnnealingLR{.lr = 1, .T_max = 1}(3) == 0.0);
}

TEST_CASE("warm restarts", "[schedule]") {
  const CosineAnnealingWarmRestarts warm{.lr = 0.1, .T_0 = 4, .T_mult = 2};
  CHECK(warm(3) == near(0.014644660940672627));
  CHECK(warm(4) == 0.1);
  CHECK(warm(11) == near(0.0038060233744356634));
  CHECK(warm(12) == 0.1);
  CHECK(warm(25) == near(0.008426519384872733));
  const CosineAnnealingWarmRestarts even{.lr = 0.1, .T_0 = 4};
  CHECK(even(4'000'000'000'000) == 0.1);
  CHECK(even(4'000'000'000'002) == near(0.05));
  const CosineAnnealingWarmRestarts steep{.lr = 0.1, .T_0 = 3, .T_mult = std::numeric_limits<std::int64_t>::max()};
  CHECK(steep(3) == 0.1);
  CHECK(steep(1000) == near(0.1));
}

TEST_CASE("linear and constant warm-up", "[schedule]") {
  const LinearLR linear{.lr = 0.1, .start_factor = 0.25, .total_iters = 5};
  CHECK(linear(0) == near(0.025));
  CHECK(linear(1) == near(0.04));
  CHECK(linear(5) == near(0.1));
  CHECK(linear(500) == near(0.1));
  const ConstantLR constant{.lr = 0.1, .factor = 0.5, .total_iters = 3};
  CHECK(constant(2) == near(0.05));
  CHECK(constant(3) == 0.1);
}

TEST_CASE("reduce on plateau", "[schedule]") {
  using Plateau = ReduceLROnPlateau;
  Plateau plateau{.lr = 0.1, .factor = 0.5, .patience = 2};
  std::vector<double> rates;
  for (double metric : {1.0, 0.9, 0.91, 0.92, 0.93, 0.5, 0.5, 0.5, 0.5, 0.49999}) rates.push_back(plateau.step(metric));
  CHECK(rates == std::vector<double>{0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.025, 0.025});
  CHECK(plateau() == 0.025);

  SECTION("a larger metric can be the better one, and thresholds can be absolute") {
    Plateau up{.lr = 1,
               .mode = Plateau::Mode::max,
               .factor = 0.5,
               .patience = 0,
               .threshold = 0.1,
               .threshold_mode = Plateau::Threshold::abs};
    CHECK(up.step(-5) == 1);
    CHECK(up.step(-4.8) == 1);
    CHECK(up.step(-4.75) == 0.5);  // better, but by less than 0.1
  }
  SECTION("cooldown, smallest rate, smallest change") {
    Plateau calm{.lr = 1, .factor = 0.5, .patience = 0, .cooldown = 2, .min_lr = 0.3};
    rates.clear();
    for (int k = 0; k < 8; ++k) rates.push_back(calm.step(1));
    CHECK(rates == std::vector<double>{1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3});
    Plateau tiny{.lr = 1e-8, .factor = 0.5, .patience = 0};
    tiny.step(1);
    CHECK(tiny.step(1) == 1e-8);
  }
  SECTION("NaN is no improvement, not even as the first metric") {
    Plateau nan{.lr = 1, .factor = 0.5, .patience = 1};
    CHECK(nan.step(NAN) == 1);
    CHECK(nan.step(NAN) == 0.5);
    CHECK(nan.step(3) == 0.5);
    CHECK(nan.best == 3.0);
  }
  SECTION("the fields are the whole state") {
    Plateau a{.lr = 0.1, .factor = 0.5, .patience = 1};
    a.step(1);
    a.step(1);
    Plateau b = a;
    CHECK(a.step(1) == near(0.05));
    CHECK(b.step(1) == near(0.05));
  }
}

TEST_CASE("wrong configurations are Errors", "[schedule]") {
  CHECK_THROWS_AS((StepLR{.lr = 0.1}(0)), Error);  // no step_size
  CHECK_THROWS_AS((StepLR{.lr = 0.1, .step_size = -1}(0)), Error);
  CHECK_THROWS_AS((StepLR{.lr = NAN, .step_size = 1}(0)), Error);
  CHECK_THROWS_AS((StepLR{.lr = -1, .step_size = 1}(0)), Error);
  CHECK_THROWS_AS((StepLR{.lr = 1, .step_size = 1, .gamma = -0.1}(0)), Error);
  CHECK_THROWS_AS((StepLR{.lr = 1, .step_size = 1}(-1)), Error);
  CHECK_THROWS_AS((MultiStepLR{.lr = 1, .milestones = {-1}}(0)), Error);
  CHECK_THROWS_AS((MultiStepLR{.lr = 1, .milestones = {1}, .gamma = NAN}(0)), Error);
  CHECK_THROWS_AS((ExponentialLR{.lr = 1}(0)), Error);  // no gamma
  CHECK_THROWS_AS((CosineAnnealingLR{.lr = 1}(0)), Error);
  CHECK_THROWS_AS((CosineAnnealingLR{.lr = 1, .T_max = 3, .eta_min = -1}(0)), Error);
  CHECK_THROWS_AS((CosineAnnealingWarmRestarts{.lr = 1}(0)), Error);
  CHECK_THROWS_AS((CosineAnnealingWarmRestarts{.lr = 1, .T_0 = 1, .T_mult = 0}(0)), Error);
  CHECK_THROWS_AS((LinearLR{.lr = 1, .start_factor = 0}(0)), Error);
  CHECK_THROWS_AS((LinearLR{.lr = 1, .end_factor = 1.5}(0)), Error);
  CHECK_THROWS_AS((LinearLR{.lr = 1, .total_iters = 0}(0)), Error);
  CHECK_THROWS_AS((ConstantLR{.lr = 1, .factor = 2}(0)), Error);
  CHECK_THROWS_AS((ConstantLR{.lr = 1, .total_iters = 0}(0)), Error);
  ReduceLROnPlateau factor{.lr = 1, .factor = 1}, patience{.lr = 1, .patience = -1}, eps{.lr = 1, .eps = -1};
  CHECK_THROWS_AS(factor.step(1), Error);
  CHECK_THROWS_AS(patience.step(1), Error);
  CHECK_THROWS_AS(eps.step(1), Error);
  CHECK(eps.best == std::nullopt);  // a refused step changes nothing
}
