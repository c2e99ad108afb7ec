// Mask: construction, edge order, transposed index, edits, edge maps.
#include <deepstruct/core/mask.hpp>

#include <atomic>
#include <thread>

#include <set>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

/// Every promise of a Mask, checked against the set of its edges.
void require_mask(const Mask& m, std::int64_t rows, std::int64_t cols, const std::set<Mask::Edge>& edges) {
  REQUIRE(m.shape() == Shape{rows, cols});
  REQUIRE(m.nnz() == static_cast<std::int64_t>(edges.size()));
  std::vector<Mask::Edge> seen;
  m.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
    REQUIRE(e == static_cast<std::int32_t>(seen.size()));
    REQUIRE(m.edge(r, c) == e);
    seen.emplace_back(r, c);
  });
  REQUIRE(seen == std::vector<Mask::Edge>(edges.begin(), edges.end()));
  const csr_view t = m.csc();
  REQUIRE((t.rows == cols && t.cols == rows && t.nnz == m.nnz()));
  std::int64_t k = 0;
  REQUIRE(t.start[0] == 0);
  for (std::int64_t c = 0; c < cols; ++c)
    for (k = t.start[c]; k < t.start[c + 1]; ++k) {
      REQUIRE(m.edge(t.col[k], c) == t.edge[k]);
      REQUIRE((k == t.start[c] || t.col[k - 1] < t.col[k]));
    }
  REQUIRE(t.start[cols] == m.nnz());
  REQUIRE(Mask::from_dense(m.to_dense()) == m);
  REQUIRE(Mask::from_csr(rows, cols, m.row_start(), m.col()) == m);
}

}  // namespace

TEST_CASE("masks from edges, from CSR, from a dense matrix and at random are one thing") {
  Rng rng(11);
  for (std::int64_t rows : {0, 1, 5, 33})
    for (std::int64_t cols : {0, 1, 7, 64})
      for (double density : {0.0, 0.1, 0.5, 1.0}) {
        std::vector<Mask::Edge> edges;
        for (std::int32_t r = 0; r < rows; ++r)
          for (std::int32_t c = 0; c < cols; ++c)
            if (rng.uniform() < static_cast<float>(density)) edges.emplace_back(r, c);
        const std::set<Mask::Edge> sorted(edges.begin(), edges.end());
        rng.shuffle(std::span(edges));
        const Mask m = Mask::from_edges(rows, cols, edges);
        require_mask(m, rows, cols, sorted);
        REQUIRE(Mask::where(rows, cols, [&](std::int64_t r, std::int64_t c) { return sorted.contains({r, c}); }) == m);
        REQUIRE(m.is_full() == (m.nnz() == rows * cols));
      }
  REQUIRE(Mask().shape() == Shape{0, 0});
  REQUIRE(Mask::ones(3, 4).nnz() == 12);
  REQUIRE(Mask::ones(3, 4).is_full());
  REQUIRE(Mask::zeros(3, 4).density() == 0);
  REQUIRE(Mask::zeros(0, 4).density() == 1);
  REQUIRE(Mask::from_edges(2, 2, {{0, 1}, {1, 0}}).density() == 0.5);
}

TEST_CASE("a mask asks any callable, a plain function too") {
  struct Diagonal {
    static bool has(std::int64_t r, std::int64_t c) { return r == c; }
  };
  const Mask wanted = Mask::from_edges(2, 3, {{0, 0}, {1, 1}});
  REQUIRE(Mask::where(2, 3, Diagonal::has) == wanted);
  const auto constant = [](std::int64_t r, std::int64_t c) { return r == c; };
  REQUIRE(Mask::where(2, 3, constant) == wanted);
  int asked = 0;
  REQUIRE(Mask::where(2, 3, [asked](std::int64_t, std::int64_t) mutable { return asked++ % 4 == 0; }) == wanted);
}

TEST_CASE("edge ids are CSR ranks") {
  const Mask m = Mask::from_edges(2, 3, {{1, 2}, {0, 2}, {1, 0}, {0, 1}});
  REQUIRE(m.edge(0, 1) == 0);
  REQUIRE(m.edge(0, 2) == 1);
  REQUIRE(m.edge(1, 0) == 2);
  REQUIRE(m.edge(1, 2) == 3);
  REQUIRE(m.edge(1, 1) == -1);
  REQUIRE_FALSE(m.contains(0, 0));
  test::require_error([&] { m.edge(2, 0); }, {"Mask", "2", "[2, 3]"});
  test::require_error([&] { m.edge(0, 3); }, {"Mask", "3"});
}

TEST_CASE("a mask refuses what is none") {
  test::require_error([] { Mask::from_edges(2, 2, {{0, 2}}); }, {"Mask", "(0, 2", "[2, 2]"});
  test::require_error([] { Mask::from_edges(2, 2, {{-1, 0}}); }, {"Mask", "-1"});
  test::require_error([] { Mask::from_edges(2, 2, {{0, 1}, {1, 1}, {0, 1}}); }, {"Mask", "repeated", "(0, 1)"});
  test::require_error([] { Mask::from_dense(Tensor::from({1, 2}, {0, 0.5f})); }, {"Mask", "0.5"});
  test::require_error(
      [] {
        Mask::from_dense(Tensor::full({2, 2}, std::numeric_limits<float>::quiet_NaN()));
      },
      {"Mask", "nan"});
  test::require_error([] { Mask::from_dense(Tensor::ones({4})); }, {"Mask", "[4]"});
  test::require_error([] { Mask::zeros(-1, 2); }, {"Mask", "-1"});
  test::require_error([] { Mask::zeros(1, std::int64_t{1} << 31); }, {"Mask", "2147483648"});
  test::require_error([] { Mask::random(2, 2, 1.5); }, {"Mask::random", "1.5"});
  test::require_error([] { Mask::random(2, 2, std::nan("")); }, {"Mask::random", "nan"});
  using Ints = std::vector<std::int32_t>;
  const auto csr = [](Ints start, Ints col) { return [=] { Mask::from_csr(2, 3, start, col); }; };
  REQUIRE_NOTHROW(csr({0, 2, 3}, {0, 2, 1})());
  for (const Ints& start :
       {Ints{}, Ints{0, 2}, Ints{0, 2, 3, 3}, Ints{1, 2, 3}, Ints{0, 4, 3}, Ints{0, -1, 3}, Ints{0, 2, 4}})
    test::require_error(csr(start, {0, 2, 1}), {"Mask", "row starts"});
  for (const Ints& col : {Ints{2, 0, 1}, Ints{0, 0, 1}, Ints{0, 3, 1}, Ints{-1, 2, 1}})
    test::require_error(csr({0, 2, 3}, col), {"Mask", "columns", "[2, 3]"});
}

TEST_CASE("random masks have their density and depend on the generator alone") {
  Rng a(5), b(5);
  const Mask m = Mask::random(200, 300, 0.1, a);
  REQUIRE(m == Mask::random(200, 300, 0.1, b));
  REQUIRE(m != Mask::random(200, 300, 0.1, b));
  REQUIRE(std::fabs(m.density() - 0.1) < 5 * std::sqrt(0.09 / 60000));
  REQUIRE(Mask::random(50, 50, 1.0, a).is_full());
  REQUIRE(Mask::random(50, 50, 0.0, a).nnz() == 0);
}

TEST_CASE("edits make a new mask or throw and change nothing") {
  const Mask m = Mask::from_edges(3, 3, {{0, 0}, {1, 1}, {2, 2}});
  const Mask copy = m;
  using Edges = std::vector<Mask::Edge>;
  const Mask n = m.edit(Edges{{2, 0}, {0, 2}}, Edges{{1, 1}});
  require_mask(n, 3, 3, {{0, 0}, {0, 2}, {2, 0}, {2, 2}});
  REQUIRE(n.edit(Edges{{1, 1}}, Edges{{0, 2}, {2, 0}}) == m);
  test::require_error([&] { m.edit(Edges{{0, 0}}, {}); }, {"Mask::edit", "exists", "(0, 0)"});
  test::require_error([&] { m.edit({}, Edges{{0, 1}}); }, {"Mask::edit", "does not exist", "(0, 1)"});
  test::require_error([&] { m.edit({}, Edges{{0, 0}, {0, 0}}); }, {"Mask::edit", "twice"});
  test::require_error([&] { m.edit(Edges{{0, 1}, {0, 1}}, {}); }, {"Mask", "repeated"});
  test::require_error([&] { m.edit(Edges{{3, 0}}, {}); }, {"Mask", "3"});
  require_mask(m, 3, 3, {{0, 0}, {1, 1}, {2, 2}});
  REQUIRE(m == copy);
  REQUIRE(m.filter([](std::int32_t e, std::int64_t, std::int64_t) { return e != 1; }) ==
          Mask::from_edges(3, 3, {{0, 0}, {2, 2}}));
}

TEST_CASE("copies share, moves leave a mask behind") {
  Mask a = Mask::ones(2, 2);
  const Mask b = a;
  REQUIRE(b.csr().col == a.csr().col);
  const Mask c = std::move(a);
  REQUIRE(a.rows() == 2);  // NOLINT: moving copies
  REQUIRE(c == b);
}

TEST_CASE("edge_map follows edges from one mask to the next") {
  Rng rng(8);
  for (int round = 0; round < 20; ++round) {
    const Mask before = Mask::random(13, 17, 0.3, rng), now = Mask::random(13, 17, 0.4, rng);
    const auto map = edge_map(before, now);
    REQUIRE(static_cast<std::int64_t>(map.size()) == now.nnz());
    now.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) { REQUIRE(map[e] == before.edge(r, c)); });
  }
  test::require_error([] { edge_map(Mask::ones(2, 3), Mask::ones(3, 2)); }, {"edge_map", "[2, 3]", "[3, 2]"});
}

TEST_CASE("A full mask lists its edges once, whoever asks first", "[threads]") {
  const Mask full = Mask::ones(37, 11), copy = full;
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int k = 0; k < 4; ++k)
    threads.emplace_back([&] {
      const csr_view by_row = copy.csr(), by_column = full.csc();
      for (std::int32_t e = 0; e < 37 * 11; ++e)
        if (by_row.col[e] != e % 11 || by_column.col[e] != e % 37) ++wrong;
    });
  for (std::thread& t : threads) t.join();
  REQUIRE(wrong == 0);
  REQUIRE(full == Mask::where(37, 11, [](std::int64_t, std::int64_t) { return true; }));
  REQUIRE(full.edge(3, 4) == 37);
}
