// The MONK's problems: rules, one-hot inputs, training sets.
#include <algorithm>
#include <set>
#include <vector>

#include <deepstruct/train/monks.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

/// The attributes 1 … that a row of one-hot inputs stands for; every block must hold one 1.
std::array<int, 6> monks_attributes(const Tensor& x, std::int64_t i) {
  std::array<int, 6> a{};
  std::int64_t at = 0;
  for (std::size_t k = 0; k < 6; ++k)
    for (int v = 1; v <= monks_values[k]; ++v, ++at) {
      REQUIRE((x(i, at) == 0 || x(i, at) == 1));
      if (x(i, at) == 0) continue;
      REQUIRE(a[k] == 0);
      a[k] = v;
    }
  REQUIRE(at == 17);
  for (const int v : a) REQUIRE(v > 0);
  return a;
}
std::int64_t monks_ones(const Indices& y) {
  std::int64_t n = 0;
  y.for_each([&](std::int64_t, std::int32_t label) { n += label; });
  return n;
}

}  // namespace

TEST_CASE("all 432 robots have the classes of the rules") {
  const std::array<std::int64_t, 3> robots{216, 142, 228};  // of class 1, as in Thrun et al. 1991
  for (int problem = 1; problem <= 3; ++problem) {
    const Batch all = monks(problem).all();
    REQUIRE(all.x.shape() == Shape{432, 17});
    REQUIRE(monks_ones(all.y) == robots[static_cast<std::size_t>(problem - 1)]);
    std::set<std::array<int, 6>> seen;
    for (std::int64_t i = 0; i < 432; ++i) {
      const auto [head, body, smiling, holding, jacket, tie] = monks_attributes(all.x, i);
      seen.insert({head, body, smiling, holding, jacket, tie});
      const int first = (head == 1) + (body == 1) + (smiling == 1) + (holding == 1) + (jacket == 1) + (tie == 1);
      const bool is = problem == 1   ? head == body || jacket == 1
                      : problem == 2 ? first == 2
                                     : (jacket == 3 && holding == 1) || (jacket != 4 && body != 3);
      REQUIRE(all.y(i) == (is ? 1 : 0));
    }
    REQUIRE(seen.size() == 432);
  }
  const Batch all = monks(1).all();
  REQUIRE(monks_attributes(all.x, 0) == std::array<int, 6>{1, 1, 1, 1, 1, 1});
  REQUIRE(monks_attributes(all.x, 1) == std::array<int, 6>{1, 1, 1, 1, 1, 2});
  REQUIRE(monks_attributes(all.x, 431) == std::array<int, 6>{3, 3, 2, 3, 4, 2});
}

TEST_CASE("training sets have the sizes of the competition, no robot twice, and noise in problem 3 only") {
  const std::array<std::int64_t, 3> sizes{124, 169, 122};
  for (int problem = 1; problem <= 3; ++problem) {
    Rng rng(5), same(5), other(6);
    const MonksSplit split = monks(problem, rng);
    const Batch train = split.train.all();
    REQUIRE(split.train.size() == sizes[static_cast<std::size_t>(problem - 1)]);
    REQUIRE(split.test.size() == 432);
    REQUIRE(split.test.all().y == monks(problem).all().y);
    std::set<std::array<int, 6>> seen;
    int wrong = 0;
    for (std::int64_t i = 0; i < split.train.size(); ++i) {
      const auto a = monks_attributes(train.x, i);
      seen.insert(a);
      wrong += train.y(i) != monks_class(problem, {a[0], a[1], a[2], a[3], a[4], a[5]});
    }
    REQUIRE(static_cast<std::int64_t>(seen.size()) == split.train.size());
    REQUIRE(wrong == (problem == 3 ? 6 : 0));
    REQUIRE(monks(problem, same).train.all().x == train.x);
    REQUIRE(monks(problem, other).train.all().x != train.x);
  }
  require_error([] { monks(0); }, {"monks: ", "(0)"});
  Rng rng(1);
  require_error([&] { monks(4, rng); }, {"monks: ", "(4)"});
  require_error([] { monks_class(1, {1, 1, 3, 1, 1, 1}); }, {"monks: ", "attribute 3", "3 of 2"});
}
