// Accuracy, confusion matrix, running mean.
#include <deepstruct/train/metrics.hpp>

#include <cmath>
#include <vector>

#include "support/catch.hpp"

using namespace deepstruct;
using Labels = std::vector<std::int32_t>;

TEST_CASE("accuracy counts the first largest logit", "[metrics]") {
  const Tensor logits = Tensor::from({4, 3}, {1, 2, 3, 5, 5, 0, -1, -3, -2, 0, INFINITY, 0});
  CHECK(accuracy(logits, Labels{2, 0, 0, 1}) == 1.0);
  CHECK(accuracy(logits, Labels{2, 1, 0, 1}) == 0.75);  // ties go to the first class
  CHECK(accuracy(logits, Labels{0, 2, 1, 0}) == 0.0);
  CHECK(accuracy(logits, Indices::from({4}, {2, 0, 1, 0})) == 0.5);
  CHECK(count_correct(logits, Labels{2, 0, 0, 0}) == 3);
  CHECK(count_correct(Tensor::empty({0, 3}), Labels{}) == 0);
  CHECK(accuracy(Tensor::full({2, 3}, -INFINITY), Labels{0, 1}) == 0.5);
}

TEST_CASE("a NaN among the logits makes a sample wrong, wherever it stands", "[metrics]") {
  for (int at = 0; at < 3; ++at)
    for (std::int32_t label = 0; label < 3; ++label) {
      Tensor logits = Tensor::from({2, 3}, {1, 2, 3, 1, 2, 3});
      logits(0, at) = NAN;
      CHECK(accuracy(logits, Labels{label, 2}) == 0.5);
    }
}

TEST_CASE("accuracy checks shapes and labels", "[metrics]") {
  const Tensor logits = Tensor::zeros({2, 3});
  CHECK_THROWS_AS(accuracy(logits, Labels{0}), Error);
  CHECK_THROWS_AS(accuracy(logits, Labels{0, 3}), Error);
  CHECK_THROWS_AS(accuracy(logits, Labels{0, -1}), Error);
  CHECK_THROWS_AS(accuracy(Tensor::zeros({2}), Labels{0, 0}), Error);
  CHECK_THROWS_AS(accuracy(Tensor::zeros({2, 3, 1}), Labels{0, 0}), Error);
  CHECK_THROWS_AS(accuracy(Tensor::zeros({2, 0}), Labels{0, 0}), Error);
  CHECK_THROWS_AS(accuracy(Tensor::empty({0, 3}), Labels{}), Error);
  CHECK_THROWS_AS(accuracy(logits, Indices::zeros({2, 1})), Error);
  CHECK_THROWS_AS(confusion_matrix(logits, Labels{0, 3}), Error);
}

TEST_CASE("confusion matrix: rows are true, columns predicted", "[metrics]") {
  Tensor logits = Tensor::from({5, 2}, {1, 0, 0, 1, 0, 1, 1, 0, 0, 1});
  const Labels labels{0, 0, 0, 1, 1};
  CHECK(confusion_matrix(logits, labels) == Indices::from({2, 2}, {1, 2, 1, 1}));
  logits(2, 0) = NAN;
  CHECK(confusion_matrix(logits, labels) == Indices::from({2, 2}, {1, 1, 1, 1}));
}

TEST_CASE("running mean", "[metrics]") {
  Mean mean;
  CHECK_THROWS_AS(mean.value(), Error);
  mean.add(2, 3);
  mean.add(4);
  mean.add(NAN, 0);
  CHECK(mean.value() == 2.5);
  CHECK(mean.weight() == 4);
  CHECK_THROWS_AS(mean.add(1, -1), Error);
  CHECK_THROWS_AS(mean.add(1, NAN), Error);
  CHECK(mean.value() == 2.5);
  Mean small;  // in float the sum would stop at 2^24
  for (int k = 0; k < 20'000'000; ++k) small.add(1);
  CHECK(small.weight() == 20'000'000);
}
