// Data sets and batches: every sample once, in an order that depends on the seed alone, without allocation.
#include <deepstruct/train/data.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"

using namespace deepstruct;

namespace {

/// n samples [2, 3] and their labels; element (i, r, c) = 100 i + 3 r + c, label i % 10.
Dataset numbered(std::int64_t n) {
  Tensor x = Tensor::empty({n, 2, 3});
  Indices labels = Indices::empty({n});
  for (std::int64_t i = 0; i < n; ++i) {
    labels(i) = static_cast<std::int32_t>(i % 10);
    for (int k = 0; k < 6; ++k) x(i, k / 3, k % 3) = static_cast<float>(100 * i + k);
  }
  return {x, labels, 10};
}

/// The sample numbers of a batch, after checking that x and y belong together.
std::vector<std::int64_t> sample_numbers(const Batch& batch) {
  std::vector<std::int64_t> out;
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < batch.x.shape()[0]; ++i) {
    out.push_back(static_cast<std::int64_t>(batch.x(i, 0, 0)) / 100);
    for (int k = 0; k < 6; ++k) wrong += batch.x(i, k / 3, k % 3) != static_cast<float>(100 * out.back() + k);
    wrong += batch.y(i) != out.back() % 10;
  }
  CHECK(wrong == 0);
  return out;
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// The order of all samples in the next epoch.
template <class Range>
std::vector<std::int64_t> epoch(Range&& range) {
  std::vector<std::int64_t> out;
  for (const auto& batch : range)
    for (std::int64_t i : sample_numbers(batch)) out.push_back(i);
  return out;
}

}  // namespace

TEST_CASE("a data set checks what it is given", "[data]") {
  const Tensor x = Tensor::zeros({3, 2});
  CHECK(error_of([&] { Dataset(x, Indices::zeros({2})); }) ==
        "Dataset: need one label or target per sample ([3, 2] and [2])");
  CHECK(error_of([&] { Dataset(x, Indices::zeros({3, 1})); }) == "Dataset: labels have one extent (shape [3, 1])");
  CHECK(error_of([&] {
          Dataset(x, Indices::from({3}, {0, 2, 1}), 2);
        }) == "Dataset: label out of range (2 of 2 classes at sample 1)");
  CHECK(error_of([&] {
          Dataset(x, Indices::from({3}, {0, 1, -1}), 2);
        }) == "Dataset: label out of range (-1 of 2 classes at sample 2)");
  CHECK(error_of([&] { Dataset(x, Indices::from({3}, {0, 1, -1})); }) == "no error");
  CHECK(error_of([&] { Dataset(Tensor::scalar(1), Indices::zeros({1})); }) != "no error");
  CHECK(Dataset().size() == 0);
  CHECK(Dataset(x, Indices::zeros({3})).size() == 3);
}

TEST_CASE("gather, slice, subset", "[data]") {
  for (std::int64_t n : {1, 7, 16, 100}) {
    const Dataset data = numbered(n);
    REQUIRE(data.x_shape() == Shape{n, 2, 3});
    const std::vector<std::int64_t> all = sample_numbers(data.all());
    for (std::int64_t i = 0; i < n; ++i) CHECK(all[static_cast<std::size_t>(i)] == i);
  }
  const Dataset data = numbered(50);
  CHECK(sample_numbers(data.gather(std::array<std::int32_t, 4>{49, 0, 7, 7})) ==
        std::vector<std::int64_t>{49, 0, 7, 7});
  CHECK(sample_numbers(data.slice(10, 12)) == std::vector<std::int64_t>{10, 11});
  CHECK(data.slice(10, 10).x.shape() == Shape{0, 2, 3});
  const Dataset part = data.subset(std::array<std::int32_t, 3>{5, 6, 40});
  CHECK(part.size() == 3);
  CHECK(sample_numbers(part.all()) == std::vector<std::int64_t>{5, 6, 40});
  CHECK(error_of([&] { data.gather(std::array<std::int32_t, 1>{50}); }) == "Dataset: sample out of range (50 of 50)");
  CHECK(error_of([&] { data.gather(std::array<std::int32_t, 1>{-1}); }) == "Dataset: sample out of range (-1 of 50)");
  CHECK(error_of([&] { data.slice(3, 51); }) == "Dataset: range outside the set (3 to 51 of 50)");
  CHECK(error_of([&] { data.slice(3, 2); }) == "Dataset: range outside the set (3 to 2 of 50)");
}

TEST_CASE("batches in file order, with and without the last partial one", "[data]") {
  const Dataset data = numbered(50);
  std::vector<std::int64_t> sizes, order;
  for (const auto& [x, y] : batches(data, 16)) {
    REQUIRE(x.shape()[0] == y.shape()[0]);
    sizes.push_back(x.shape()[0]);
  }
  CHECK(sizes == std::vector<std::int64_t>{16, 16, 16, 2});
  order = epoch(batches(data, 16));
  REQUIRE(order.size() == 50);
  CHECK(std::is_sorted(order.begin(), order.end()));
  CHECK(std::set<std::int64_t>(order.begin(), order.end()).size() == 50);

  CHECK(epoch(batches(data, 16, {.drop_last = true})).size() == 48);
  CHECK(epoch(batches(data, 25, {.drop_last = true})).size() == 50);
  CHECK(epoch(batches(data, 51, {.drop_last = true})).empty());
  CHECK(epoch(batches(data, 1000)).size() == 50);
  CHECK(batches(data, 16).size() == 4);
  CHECK(batches(data, 16, {.drop_last = true}).size() == 3);
  const Dataset none = data.subset({});
  CHECK(epoch(batches(none, 16)).empty());
  CHECK(error_of([&] { batches(data, 0); }) == "batches: need a batch size of at least 1 (0)");
  CHECK(error_of([&] { batches(data, -3); }) == "batches: need a batch size of at least 1 (-3)");
}

TEST_CASE("shuffled batches: every sample once, a new order every epoch, from the generator's state alone", "[data]") {
  const Dataset data = numbered(100);
  Rng rng(5);
  auto train = batches(data, 32, rng);
  const auto first = epoch(train), second = epoch(train);
  CHECK(std::set<std::int64_t>(first.begin(), first.end()).size() == 100);
  CHECK(std::set<std::int64_t>(second.begin(), second.end()).size() == 100);
  CHECK(first != second);
  CHECK_FALSE(std::is_sorted(first.begin(), first.end()));

  Rng resumed(5, 1);  // the state after one epoch: the second epoch comes again
  CHECK(epoch(batches(data, 32, resumed)) == second);
  Rng other(6);
  CHECK(epoch(batches(data, 32, other)) != first);
}

TEST_CASE("the same seed gives the same batches for 1 and 2 threads", "[data][threads]") {
  const int threads = num_threads();
  Rng fill(1);
  const Tensor x = Tensor::uniform({500, 100}, -1, 1, fill);
  std::vector<Tensor> seen[2];
  for (int k = 0; k < 2; ++k) {
    set_num_threads(k + 1);
    const Dataset data(x, Indices::zeros({500}));
    Rng rng(9);
    for (const auto& [bx, by] : batches(data, 128, rng)) seen[k].push_back(bx);
  }
  set_num_threads(threads);
  REQUIRE(seen[0].size() == 4);
  CHECK(seen[0] == seen[1]);
}

TEST_CASE("after the first epoch batches ask the system for nothing", "[data]") {
  const Dataset data = numbered(1000);
  Rng rng(2);
  auto train = batches(data, 128, rng);
  const auto run = [&] {
    float sum = 0;
    for (const auto& [x, y] : train) sum += x(0, 0, 0);
    return sum;
  };
  float sum = run();
  const std::size_t before = BufferPool::instance().system_calls();
  auto it = train.begin();
  const float* memory = it->x.data();
  ++it;
  CHECK(it->x.data() == memory);  // the same tensor again
  for (int k = 0; k < 3; ++k) sum += run();
  CHECK(sum > 0);
  // DEEPSTRUCT_POOL=off returns memory at once, and each epoch's last batch then asks again.
  const bool caching = std::getenv("DEEPSTRUCT_POOL") == nullptr;
  if (caching) CHECK(BufferPool::instance().system_calls() == before);
}

TEST_CASE("batches do not read or need the padding of tensors", "[data]") {
  poison_new_storage = true;
  const Dataset data = numbered(100);
  double sum = 0;
  for (const auto& [x, y] : batches(data, 33)) x.for_each([&](std::int64_t, float v) { sum += v; });
  poison_new_storage = false;
  CHECK(sum == 6 * 100 * (99.0 * 100 / 2) + 100 * 15);
}

TEST_CASE("regression targets", "[data]") {
  const RegressionDataset data(Tensor::from({3, 1}, {1, 2, 3}), Tensor::from({3, 2}, {1, -1, 2, -2, 3, -3}));
  float seen = 0;
  for (const auto& [x, y] : batches(data, 2))
    for (std::int64_t i = 0; i < x.shape()[0]; ++i) {
      CHECK((y(i, 0) == x(i, 0) && y(i, 1) == -x(i, 0)));
      seen += x(i, 0);
    }
  CHECK(seen == 6);
  CHECK(error_of([] { RegressionDataset(Tensor::zeros({3, 1}), Tensor::zeros({4, 1})); }) != "no error");
}

TEST_CASE("a table becomes a labelled data set", "[data]") {
  const Tensor table = Tensor::from({2, 3}, {0.5f, 1, 2.5f, 3.5f, 0, 4.5f});
  const Batch middle = labelled_table(table, 1, 2).all();
  CHECK(middle.x == Tensor::from({2, 2}, {0.5f, 2.5f, 3.5f, 4.5f}));
  CHECK(middle.y == Indices::from({2}, {1, 0}));
  CHECK(labelled_table(table, -2, 2).all().x == middle.x);
  CHECK(error_of([&] { labelled_table(table, 1, 1); }) == "Dataset: label out of range (1 of 1 classes at sample 0)");
  CHECK(error_of([&] { labelled_table(table, 0, 2); }) == "labelled_table: a label is no class number (0.5 in row 0)");
  CHECK(error_of([&] {
          labelled_table(Tensor::full({1, 1}, NAN), 0, 2);
        }) == "labelled_table: a label is no class number (nan in row 0)");
  CHECK(error_of([&] { labelled_table(table, 3, 2); }) == "labelled_table: column out of range (3 of 3)");
  CHECK(error_of([&] { labelled_table(table, -4, 2); }) == "labelled_table: column out of range (-4 of 3)");
  CHECK(error_of([&] { labelled_table(Tensor::zeros({3}), 0, 2); }) != "no error");
}

TEST_CASE("functional data sets: values, bounds, determinism", "[data]") {
  const auto sampler = [](Rng& rng) { return std::vector<float>{rng.uniform(), rng.uniform()}; };
  const auto sum = [](const std::vector<float>& x) { return x[0] + x[1]; };
  Rng rng(4);
  const FunctionalDataset data(5, sampler, sum, rng);
  CHECK(data.size() == 5);
  CHECK(data.len() == 5);
  for (std::int64_t i = 0; i < 5; ++i) {
    const FunctionalSample s = data[i];
    REQUIRE((s.x.size() == 2 && s.y.size() == 1));
    CHECK(s.y[0] == s.x[0] + s.x[1]);
    CHECK(data[i - 5].x == s.x);
  }
  CHECK(data[0].x != data[1].x);
  CHECK(error_of([&] { data[5]; }) == "FunctionalDataset: index out of range (5 of 5)");
  CHECK(error_of([&] { data[6]; }) == "FunctionalDataset: index out of range (6 of 5)");
  CHECK(error_of([&] { data[-6]; }) == "FunctionalDataset: index out of range (-6 of 5)");

  Rng again(4);
  const FunctionalDataset copy(5, sampler, sum, again);
  for (std::int64_t i = 0; i < 5; ++i) CHECK(copy[i].x == data[i].x);

  const RegressionBatch all = data.to_dataset().all();
  REQUIRE((all.x.shape() == Shape{5, 2} && all.y.shape() == Shape{5, 1}));
  for (std::int64_t i = 0; i < 5; ++i) CHECK((all.x(i, 1) == data[i].x[1] && all.y(i, 0) == data[i].y[0]));
}

TEST_CASE("functional data sets take numbers, Tensors and ranges", "[data]") {
  Rng rng(4);
  const FunctionalDataset numbers(
      3, [k = 0](Rng&) mutable { return ++k; }, [](int x) { return 2.5 * x; }, rng);
  CHECK((numbers[2].x == std::vector<float>{3} && numbers[2].y == std::vector<float>{7.5f}));
  const FunctionalDataset tensors(
      2,
      [](Rng& r) {
        return Tensor::uniform({2, 2}, 0, 1, r);
      },
      [](const Tensor& x) {
        return std::array<double, 2>{x(0, 0), x(1, 1)};
      },
      rng);
  CHECK((tensors[1].x.size() == 4 && tensors[1].y[1] == tensors[1].x[3]));
  CHECK(FunctionalDataset(
            0, [](Rng&) { return 1; }, [](int) { return 1; }, rng)
            .to_dataset()
            .size() == 0);

  CHECK(error_of([&] {
          FunctionalDataset(
              -1, [](Rng&) { return 1; }, [](int) { return 1; }, rng);
        }) == "FunctionalDataset: need a size in [0, 2^31) (-1)");
  auto growing = [k = 0](Rng&) mutable { return std::vector<float>(static_cast<std::size_t>(++k)); };
  CHECK(error_of([&] {
          FunctionalDataset(
              3, growing, [](const auto&) { return 1; }, rng);
        }) == "FunctionalDataset: samples need the same number of elements (2 after 1 at sample 1)");
}
