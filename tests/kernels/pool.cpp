// Pooling kernels against windows walked one by one: any windows that rise, gaps, overlaps, NaN, ties, long averages.
#include <deepstruct/kernels/pool.hpp>

#include "support/cases.hpp"
#include "support/reference.hpp"

using namespace deepstruct;
namespace reference = test::reference;

namespace {

/// Windows along one extent and the tables a kernel wants of them.
struct PoolTables {
  std::int64_t in, step;
  std::vector<std::int32_t> begin, end, count, first, last;

  PoolTables(std::int64_t places, std::int64_t gap, std::vector<std::int32_t> from, std::vector<std::int32_t> to)
      : in(places), step(gap), begin(std::move(from)), end(std::move(to)) {
    for (std::size_t k = 0; k < begin.size(); ++k) count.push_back(end[k] - begin[k] + static_cast<int>(k % 2));
    for (std::int32_t i = 0; i < in; ++i) {
      std::int32_t low = static_cast<std::int32_t>(begin.size()), high = 0;
      for (std::int32_t k = 0; k < static_cast<std::int32_t>(begin.size()); ++k)
        if (begin[k] <= i && i < end[k]) low = std::min(low, k), high = k + 1;
      first.push_back(std::min(low, high));
      last.push_back(high);
    }
  }
  /// Every window `kernel` long, cut at the ends.
  static PoolTables regular(std::int64_t in, std::int32_t kernel, std::int32_t stride, std::int32_t pad,
                            std::int32_t gap = 1) {
    std::vector<std::int32_t> from, to;
    for (std::int32_t s = -pad; s + gap * (kernel - 1) < in + pad; s += stride) {
      std::int32_t b = s;
      while (b < 0) b += gap;
      from.push_back(b);
      to.push_back(std::min(static_cast<std::int32_t>(in), s + gap * (kernel - 1) + 1));
    }
    return {in, gap, from, to};
  }
  std::int64_t out() const { return static_cast<std::int64_t>(begin.size()); }
  kernels::pool_windows view() const {
    return {in, out(), step, begin.data(), end.data(), count.data(), first.data(), last.data()};
  }
};

/// Calls f(p, q) for the places of window (i, j), in order.
template <class F>
void each_place(const PoolTables& rows, const PoolTables& cols, std::int64_t i, std::int64_t j, F&& f) {
  for (std::int64_t p = rows.begin[i]; p < rows.end[i]; p += rows.step)
    for (std::int64_t q = cols.begin[j]; q < cols.end[j]; q += cols.step) f(p, q);
}

std::vector<std::pair<PoolTables, PoolTables>> window_cases() {
  using T = PoolTables;
  return {{T::regular(4, 2, 2, 0), T::regular(6, 2, 2, 0)},
          {T::regular(5, 3, 2, 1), T::regular(7, 3, 1, 1)},
          {T::regular(1, 1, 1, 0), T::regular(1, 1, 1, 0)},
          {T::regular(9, 3, 2, 1, 2), T::regular(8, 2, 3, 0, 3)},
          {T::regular(6, 2, 4, 0), T::regular(5, 1, 3, 0)},  // places between windows
          {T(5, 1, {0, 1, 3}, {2, 4, 5}), T(3, 1, {0, 0, 1, 1, 2}, {1, 2, 2, 3, 3})}};
}

constexpr std::int64_t pool_batches[] = {0, 1, 3, 4, 7, 8, 15, 16, 17, 33, 65, 100};

}  // namespace

TEST_CASE("max pooling finds the first greatest place, and its gradient goes there") {
  test::on_every_isa([] {
    Rng rng(1);
    for (const auto& [rows, cols] : window_cases())
      for (std::int64_t b : pool_batches)
        for (std::int64_t c : {1, 3}) {
          INFO("image " << rows.in << " x " << cols.in << ", batch " << b << ", channels " << c);
          Tensor x = Tensor::uniform({b, c, rows.in, cols.in}, -3, 3, rng);
          x.for_each([](std::int64_t, float& v) { v = std::floor(v); });  // many ties
          const Shape out{b, c, rows.out(), cols.out()};
          Tensor y = Tensor::empty(out), values = Tensor::empty(out), dx = Tensor::empty(x.shape());
          Indices index = Indices::empty(out);
          kernels::max_pool(cpu{}, x.view(), rows.view(), cols.view(), y.view(), index.data());
          kernels::max_pool(cpu{}, x.view(), rows.view(), cols.view(), values.view(), nullptr);
          REQUIRE(y == values);
          const Tensor dy = Tensor::normal(out, 0, 1, rng);
          std::vector<test::Exact> want(static_cast<std::size_t>(x.size()));
          for (std::int64_t n = 0; n < b; ++n)
            for (std::int64_t k = 0; k < c; ++k)
              for (std::int64_t i = 0; i < out[2]; ++i)
                for (std::int64_t j = 0; j < out[3]; ++j) {
                  float top = -std::numeric_limits<float>::infinity();
                  std::int64_t at = -1;
                  each_place(rows, cols, i, j, [&](std::int64_t p, std::int64_t q) {
                    if (x(n, k, p, q) > top) top = x(n, k, p, q), at = p * cols.in + q;
                  });
                  if (y(n, k, i, j) != top || index(n, k, i, j) != at)
                    FAIL("window " << i << ", " << j << ": " << y(n, k, i, j) << " at " << index(n, k, i, j)
                                   << " instead of " << top << " at " << at);
                  want[static_cast<std::size_t>((n * c + k) * rows.in * cols.in + at)].add(double{dy(n, k, i, j)});
                }
          kernels::max_pool_dx(cpu{}, dy.view(), index.data(), rows.view(), cols.view(), dx.view());
          test::require_close(dx, want);
        }
  });
}

TEST_CASE("max pooling of NaN and of minus infinity") {
  test::on_every_isa([] {
    const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
    const auto side = PoolTables::regular(3, 3, 1, 0);
    Tensor x = Tensor::full({20, 1, 3, 3}, 1);
    for (std::int64_t p = 0; p < 9; ++p) {
      x(4, 0, p / 3, p % 3) = p == 2 || p == 5 ? nan : 7;
      x(19, 0, p / 3, p % 3) = -inf;
      x(18, 0, p / 3, p % 3) = p == 8 ? nan : inf;
    }
    Tensor y = Tensor::empty({20, 1, 1, 1});
    Indices index = Indices::empty(y.shape());
    kernels::max_pool(cpu{}, x.view(), side.view(), side.view(), y.view(), index.data());
    REQUIRE(std::isnan(y(4)));
    REQUIRE(index(4) == 2);
    REQUIRE(std::isnan(y(18)));
    REQUIRE(index(18) == 8);
    REQUIRE(y(19) == -inf);
    REQUIRE(index(19) == 0);
    REQUIRE(y(3) == 1);
    REQUIRE(index(3) == 0);
  });
}

TEST_CASE("average pooling and its gradient") {
  test::on_every_isa([] {
    Rng rng(2);
    for (const auto& [rows, cols] : window_cases()) {
      if (rows.step > 1 || cols.step > 1) continue;
      for (std::int64_t b : pool_batches)
        for (std::int64_t c : {1, 3}) {
          INFO("image " << rows.in << " x " << cols.in << ", batch " << b << ", channels " << c);
          const Tensor x = Tensor::normal({b, c, rows.in, cols.in}, 0, 1, rng);
          const Shape out{b, c, rows.out(), cols.out()};
          const Tensor dy = Tensor::normal(out, 0, 1, rng);
          Tensor y = Tensor::empty(out), dx = Tensor::empty(x.shape());
          std::vector<test::Exact> slopes(static_cast<std::size_t>(x.size()));
          const auto want = reference::each(out, [&, &r = rows, &q = cols](auto n, auto k, auto i, auto j) {
            const double count = double{1} * r.count[i] * q.count[j];
            test::Exact sum;
            each_place(r, q, i, j, [&](std::int64_t p, std::int64_t s) {
              sum.add(double{x(n, k, p, s)} / count);
              slopes[static_cast<std::size_t>(((n * c + k) * r.in + p) * q.in + s)].add(double{dy(n, k, i, j)} / count);
            });
            return sum;
          });
          kernels::avg_pool(cpu{}, x.view(), rows.view(), cols.view(), y.view());
          test::require_close(y, want);
          kernels::avg_pool_dx(cpu{}, dy.view(), rows.view(), cols.view(), dx.view());
          test::require_close(dx, slopes);
        }
    }
  });
}

TEST_CASE("averages of large images keep their digits, and so do gradients of many windows") {
  test::on_every_isa([] {
    Rng rng(3);
    const PoolTables whole(1500, 1, {0}, {1500}), wide(1200, 1, {0}, {1200}),
        many(1, 1, std::vector<std::int32_t>(300, 0), std::vector<std::int32_t>(300, 1));
    const Tensor x = Tensor::uniform({3, 1, 1500, 1200}, 0, 1, rng), dy = Tensor::uniform({3, 1, 300, 300}, 0, 1, rng);
    Tensor y = Tensor::empty({3, 1, 1, 1}), dx = Tensor::empty({3, 1, 1, 1});
    kernels::avg_pool(cpu{}, x.view(), whole.view(), wide.view(), y.view());
    kernels::avg_pool_dx(cpu{}, dy.view(), many.view(), many.view(), dx.view());
    for (std::int64_t n = 0; n < 3; ++n) {
      double sum = 0, slopes = 0;
      for (std::int64_t i = 0; i < 1500; ++i)
        for (std::int64_t j = 0; j < 1200; ++j) sum += double{x(n, 0, i, j)};
      for (std::int64_t i = 0; i < 300; ++i)
        for (std::int64_t j = 0; j < 300; ++j)
          slopes += double{dy(n, 0, i, j)} / (double{1} * many.count[i] * many.count[j]);
      REQUIRE(double{y(n)} == Approx(sum / (1500.0 * 1200.0)).epsilon(3e-7));
      REQUIRE(double{dx(n)} == Approx(slopes).epsilon(3e-7));
    }
  });
}

TEST_CASE("pooling does not depend on the number of threads", "[threads]") {
  test::same_for_all_threads([] {
    Rng rng(4);
    const auto rows = PoolTables::regular(21, 3, 2, 1), cols = PoolTables::regular(18, 3, 1, 1);
    const Tensor x = Tensor::normal({70, 8, 21, 18}, 0, 1, rng);
    const Shape out{70, 8, rows.out(), cols.out()};
    const Tensor dy = Tensor::normal(out, 0, 1, rng);
    std::vector<Tensor> r{Tensor::empty(out), Tensor::empty(out), Tensor::empty(x.shape()), Tensor::empty(x.shape())};
    Indices index = Indices::empty(out);
    kernels::max_pool(cpu{}, x.view(), rows.view(), cols.view(), r[0].view(), index.data());
    kernels::avg_pool(cpu{}, x.view(), rows.view(), cols.view(), r[1].view());
    kernels::max_pool_dx(cpu{}, dy.view(), index.data(), rows.view(), cols.view(), r[2].view());
    kernels::avg_pool_dx(cpu{}, dy.view(), rows.view(), cols.view(), r[3].view());
    return r;
  });
}
