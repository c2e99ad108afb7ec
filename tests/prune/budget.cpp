// Budgets on one small layer: which of given saliencies go.
#include <deepstruct/prune/prune.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Saliencies of the edges that a budget leaves, of one layer [1, n] with these saliencies.
std::vector<float> left(std::vector<float> saliency, const Budget& budget, const PruneOptions& options = {}) {
  const auto n = static_cast<std::int64_t>(saliency.size());
  MaskedLinearLayer layer(n, 1);
  layer.set_saliency(Tensor::from({1, n}, saliency));
  prune_network_by_saliency(layer, budget, options);
  std::vector<float> kept;
  layer.mask().for_each([&](std::int32_t, std::int64_t, std::int64_t c) { kept.push_back(saliency[c]); });
  return kept;
}
using Left = std::vector<float>;
const Left ten{10, 3, 7, 1, 5, 9, 2, 8, 4, 6};

}  // namespace

TEST_CASE("budgets check their values") {
  require_error([] { percentage(-0.1); }, {"percentage", "-0.1"});
  require_error([] { percentage(100.5); }, {"percentage", "100.5"});
  require_error([] { percentage(std::nan("")); }, {"percentage", "nan"});
  require_error([] { absolute(-1); }, {"absolute", "-1"});
  require_error([] { bucket(-1); }, {"bucket", "-1"});
  require_error([] { bucket(std::nan("")); }, {"bucket", "nan"});
  require_error([] { remaining(-1); }, {"remaining", "-1"});
  require_error([] { density(-0.1); }, {"density", "-0.1"});
  require_error([] { density(1.01); }, {"density", "1.01"});
  require_error([] { density(std::nan("")); }, {"density", "nan"});
  REQUIRE(percentage(0).value == 0);
  REQUIRE(percentage(100).value == 100);
}

TEST_CASE("percentage prunes below the interpolated percentile") {
  REQUIRE(left(ten, percentage(0)) == ten);
  REQUIRE(left(ten, percentage(20)) == Left{10, 3, 7, 5, 9, 8, 4, 6});  // threshold 2.8
  REQUIRE(left(ten, percentage(50)) == Left{10, 7, 9, 8, 6});           // threshold 5.5
  REQUIRE(left(ten, percentage(99)) == Left{10});
  REQUIRE(left(ten, percentage(100)) == Left{10});                  // the greatest always stays
  REQUIRE(left({1, 2, 3, 4, 5}, percentage(50)) == Left{3, 4, 5});  // equal to the threshold stays
  REQUIRE(left({4}, percentage(100)) == Left{4});
}

TEST_CASE("absolute prunes a number of weights, at most all but the greatest") {
  REQUIRE(left(ten, absolute(0)) == ten);
  REQUIRE(left(ten, absolute(3)) == Left{10, 7, 5, 9, 8, 4, 6});
  REQUIRE(left(ten, absolute(9)) == Left{10});
  REQUIRE(left(ten, absolute(10)) == Left{10});
  REQUIRE(left(ten, absolute(std::numeric_limits<std::int64_t>::max())) == Left{10});
}

TEST_CASE("bucket prunes while the sum of saliencies stays within it") {
  REQUIRE(left(ten, bucket(0)) == ten);
  REQUIRE(left(ten, bucket(6)) == Left{10, 7, 5, 9, 8, 4, 6});    // 1 + 2 + 3
  REQUIRE(left(ten, bucket(9.5)) == Left{10, 7, 5, 9, 8, 4, 6});  // 1 + 2 + 3 + 4 would be too much
  REQUIRE(left(ten, bucket(54.9)) == Left{10});
  REQUIRE(left(ten, bucket(55)).empty());
  REQUIRE(left(ten, bucket(1e30)).empty());
  REQUIRE(left({0, 0, 1}, bucket(0)) == Left{1});  // zeros cost nothing
}

TEST_CASE("ties stay together, unless the count is exact") {
  const Left equal(8, 2.0f);
  REQUIRE(left(equal, percentage(50)) == equal);
  REQUIRE(left(equal, absolute(3)) == equal);
  REQUIRE(left(equal, bucket(6)) == equal);
  const Left tied{1, 2, 2, 2, 3};
  REQUIRE(left(tied, absolute(2)) == Left{2, 2, 2, 3});
  REQUIRE(left(tied, absolute(2), {.exact = true}) == Left{2, 2, 3});
}

TEST_CASE("exact budgets prune exactly so many, ties in edge order") {
  const PruneOptions exact{.exact = true};
  REQUIRE(left(ten, percentage(0), exact) == ten);
  REQUIRE(left(ten, percentage(30), exact) == Left{10, 7, 5, 9, 8, 4, 6});
  REQUIRE(left(ten, percentage(25), exact).size() == 8);  // 2.5 is rounded half to even
  REQUIRE(left(ten, percentage(35), exact).size() == 6);
  REQUIRE(left(ten, percentage(100), exact).empty());
  REQUIRE(left(ten, absolute(10), exact).empty());
  REQUIRE(left(ten, absolute(99), exact).empty());
  REQUIRE(left(ten, bucket(6), exact) == Left{10, 7, 5, 9, 8, 4, 6});
  REQUIRE(left(ten, bucket(55), exact).empty());

  MaskedLinearLayer layer(3, 2);
  layer.set_saliency(Tensor::ones({2, 3}));
  prune_network_by_saliency(layer, absolute(4), exact);
  REQUIRE(layer.mask() == Mask::from_edges(2, 3, {{1, 1}, {1, 2}}));
}

TEST_CASE("budgets of what stays are exact, and say so where they cannot be") {
  REQUIRE(left(ten, remaining(10)) == ten);
  REQUIRE(left(ten, remaining(7)) == Left{10, 7, 5, 9, 8, 4, 6});
  REQUIRE(left(ten, remaining(1)) == Left{10});
  REQUIRE(left(ten, remaining(0)).empty());
  REQUIRE(left({1, 2, 2, 2, 3}, remaining(3)) == Left{2, 2, 3});
  REQUIRE(left(Left(4, 1.0f), remaining(2)).size() == 2);
  REQUIRE(left(ten, density(0.7)) == Left{10, 7, 5, 9, 8, 4, 6});
  REQUIRE(left(ten, density(0.25)).size() == 2);  // 2.5, half to even
  REQUIRE(left(ten, density(0)).empty());
  REQUIRE(left(ten, density(1)) == ten);
  require_error([] { left(ten, remaining(11)); }, {"prune_network_by_saliency", "fewer weights", "11 of 10"});

  MaskedLinearLayer layer(4, 2);  // density is one of all places, not of those that are left
  layer.set_mask(Mask::from_edges(2, 4, {{0, 0}, {0, 1}, {0, 2}, {1, 0}}));
  require_error([&] { prune_network_by_saliency(layer, density(0.75)); }, {"fewer weights", "6 of 4"});
  prune_network_by_saliency(layer, density(0.5));
  REQUIRE(layer.mask().nnz() == 4);
  prune_network_by_saliency(layer, density(0.25));
  REQUIRE(layer.mask().nnz() == 2);
}

TEST_CASE("whole numbers are shared out in proportion and add up") {
  Rng rng(11);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<double> shares(1 + rng.bits() % 7);
    double sum = 0;
    for (double& s : shares) sum += s = rng.bits() % 4 == 0 ? 0 : double{rng.uniform(0, 3)};
    const auto n = static_cast<std::int64_t>(rng.bits() % 100);
    const auto parts = detail::share_out(n, shares);
    std::int64_t total = 0;
    for (std::size_t k = 0; k < parts.size(); ++k) {
      total += parts[k];
      if (sum > 0) REQUIRE(std::abs(static_cast<double>(parts[k]) - shares[k] / sum * static_cast<double>(n)) < 1);
      if (shares[k] == 0) REQUIRE(parts[k] == 0);
    }
    REQUIRE(total == (sum > 0 ? n : 0));
  }
  REQUIRE(detail::share_out(5, std::vector<double>{1, 1, 1}) == std::vector<std::int64_t>{2, 2, 1});
  REQUIRE(detail::share_out(4, std::vector<double>{1.2, 1.6, 1.2}) == std::vector<std::int64_t>{1, 2, 1});
}

TEST_CASE("negative and infinite saliencies have their place in the order") {
  REQUIRE(left({-3, 1, -1, 2}, percentage(50)) == Left{1, 2});
  REQUIRE(left({-3, 1, -1, 2}, absolute(1)) == Left{1, -1, 2});
  REQUIRE(left({-3, 1, -1, 4}, bucket(0)) == Left{4});  // −3 − 1 + 1 <= 0
  const Left ends{infinity, 1, 2, -infinity, 3, infinity};
  REQUIRE(left(ends, percentage(0)) == ends);
  REQUIRE(left(ends, percentage(10)) == Left{infinity, 1, 2, 3, infinity});  // between −∞ and 1
  REQUIRE(left(ends, percentage(40)) == Left{infinity, 2, 3, infinity});
  REQUIRE(left(ends, percentage(70)) == Left{infinity, infinity});  // between 3 and ∞
  REQUIRE(left(ends, percentage(100)) == Left{infinity, infinity});
  REQUIRE(left(ends, absolute(2)) == Left{infinity, 2, 3, infinity});
}

TEST_CASE("a floor keeps the most salient weights of a layer") {
  REQUIRE(left(ten, bucket(1e30), {.keep_per_layer = 3}) == Left{10, 9, 8});
  REQUIRE(left(ten, percentage(100), {.exact = true, .keep_per_layer = 1}) == Left{10});
  REQUIRE(left(ten, percentage(50), {.keep_per_layer = 3}) == Left{10, 7, 9, 8, 6});  // above the floor anyway
  REQUIRE(left(ten, percentage(90), {.keep_per_layer = 50}) == ten);                  // more than there are
  REQUIRE(left(Left(4, 1.0f), absolute(4), {.exact = true, .keep_per_layer = 2}).size() == 2);
  require_error([] { left(ten, percentage(10), {.keep_per_layer = -1}); }, {"floor", "-1"});
}

TEST_CASE("selection finds what sorting finds, over many arrays at once") {
  Rng rng(5);
  for (const auto& lengths : std::vector<std::vector<std::int64_t>>{{1}, {0, 3, 0}, {7, 100, 1}, {140000, 5}}) {
    for (int kind = 0; kind < 4; ++kind) {  // spread out, many ties, signed, zeros of both signs
      std::vector<Tensor> values;
      std::vector<float> sorted;
      for (std::int64_t n : lengths) {
        values.push_back(Tensor::normal({n}, 0, 1, rng));
        values.back().for_each([&](std::int64_t i, float& x) {
          if (kind == 0) x = std::fabs(x);
          if (kind == 1) x = std::round(std::fabs(x) * 2);
          if (kind == 3) x = i % 3 == 0 ? 0.0f : i % 3 == 1 ? -0.0f : x;
          sorted.push_back(x);
        });
      }
      std::sort(sorted.begin(), sorted.end());
      std::vector<std::span<const float>> parts;
      for (const Tensor& t : values) parts.emplace_back(t.data(), static_cast<std::size_t>(t.size()));
      const auto n = static_cast<std::int64_t>(sorted.size());
      for (std::int64_t k : {std::int64_t{0}, n / 3, n / 2, n - 1}) {
        INFO(n << " values of kind " << kind << ", rank " << k);
        const detail::Selected at = detail::nth_smallest(parts, k);
        const auto [low, high] = std::equal_range(sorted.begin(), sorted.end(), sorted[k]);
        REQUIRE(at.value == sorted[k]);
        REQUIRE(at.below == low - sorted.begin());
        REQUIRE(at.equal == high - low);
        REQUIRE(at.next == (high == sorted.end() ? infinity : *high));
      }
      double total = 0;
      for (float s : sorted) total += double{s};
      for (double share : {0.01, 0.5, 0.99}) {
        if (kind > 1) continue;  // sums of negative values neither rise nor fall
        double sum = 0;
        std::size_t k = 0;
        while (k < sorted.size() && (sum += double{sorted[k]}) <= share * total) ++k;
        detail::Selected at;
        if (k == sorted.size()) continue;
        REQUIRE(detail::find_bucket(parts, share * total, at));
        REQUIRE(at.value == sorted[k]);
      }
      detail::Selected at;
      REQUIRE_FALSE(detail::find_bucket(parts, std::max(0.0, total) * 1.001 + 1, at));
    }
  }
}
