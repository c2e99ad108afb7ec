// The MONK's problems: three small classification tasks with known rules.
#pragma once

#include <array>

#include "data.hpp"

namespace deepstruct {

/// Values that the six attributes of the MONK's problems take; one-hot they are 17 inputs.
inline constexpr std::array<std::int32_t, 6> monks_values{3, 3, 2, 3, 4, 2};

/// The class, 0 or 1, of a robot with attributes a1 … a6, each counted from 1 (Thrun et al. 1991):
///   problem 1: a1 = a2 or a5 = 1;  2: exactly two attributes are 1;  3: a5 = 3 and a4 = 1, or a5 ≠ 4 and a2 ≠ 3.
/// Throws on any other problem and on a value that an attribute has not.
inline std::int32_t monks_class(int problem, const std::array<std::int32_t, 6>& a) {
  check(problem >= 1 && problem <= 3, "monks: there are problems 1, 2 and 3 (", problem, ")");
  for (std::size_t k = 0; k < a.size(); ++k)
    check(a[k] >= 1 && a[k] <= monks_values[k], "monks: no such value of attribute ", k + 1, " (", a[k], " of ",
          monks_values[k], ")");
  if (problem == 1) return a[0] == a[1] || a[4] == 1;
  if (problem == 2) return std::count(a.begin(), a.end(), 1) == 2;
  return (a[4] == 3 && a[3] == 1) || (a[4] != 4 && a[1] != 3);
}

/// All 432 robots with their classes: x [432, 17] one-hot, attribute after attribute; the last attribute runs fastest.
/// Throws unless the problem is 1, 2 or 3.
inline Dataset monks(int problem) {
  constexpr std::int64_t robots = 432, inputs = 17;
  Tensor x = Tensor::zeros({robots, inputs});
  Indices y = Indices::empty({robots});
  for (std::int64_t i = 0; i < robots; ++i) {
    std::array<std::int32_t, 6> a{};
    std::int64_t rest = i, end = inputs;
    for (std::size_t k = a.size(); k-- > 0;) {
      a[k] = static_cast<std::int32_t>(rest % monks_values[k]) + 1;
      rest /= monks_values[k];
      end -= monks_values[k];
      x(i, end + a[k] - 1) = 1;
    }
    y(i) = monks_class(problem, a);
  }
  return {x, y, 2};
}

/// A training set of a MONK's problem, and all robots to test on.
struct MonksSplit {
  Dataset train, test;
};

/// Problem 1, 2 or 3 with a training set drawn at random, of the sizes of the competition: 124, 169 and 122 robots,
/// none twice. In problem 3 six of the training classes, 5 %, are wrong. The test set is all 432 robots, as there.
inline MonksSplit monks(int problem, Rng& rng) {
  Dataset all = monks(problem);
  std::vector<std::int32_t> rows = rng.permutation(all.size());
  rows.resize(problem == 1 ? 124 : problem == 2 ? 169 : 122);
  Batch train = all.gather(rows);
  if (problem == 3)
    for (std::int64_t i = 0; i < 6; ++i) train.y(i) = 1 - train.y(i);  // the order is random already
  return {{train.x, train.y, 2}, std::move(all)};
}

}  // namespace deepstruct
