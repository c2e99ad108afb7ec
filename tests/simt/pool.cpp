// Pooling against the same in double: paddings, strides, dilations, windows cut at the border, averages to a size.
#include <algorithm>
#include <array>

#include "cases.hpp"

#include <deepstruct/kernels/contract.hpp>

using namespace deepstruct;

namespace {

using runtime::Buffer;
using test::DeviceMatrix;
using test::Matrix;

/// The windows along one extent, and which of them may read a place.
struct PoolTable {
  std::int64_t in, out, step;
  std::vector<std::int32_t> begin, end, count, first, last;

  PoolTable(std::int64_t in_, std::int64_t step_, std::vector<std::array<std::int64_t, 3>> windows)
      : in(in_), out(static_cast<std::int64_t>(windows.size())), step(step_) {
    for (const auto& [b, e, n] : windows) {
      begin.push_back(static_cast<std::int32_t>(b));
      end.push_back(static_cast<std::int32_t>(e));
      count.push_back(static_cast<std::int32_t>(n));
    }
    for (std::int64_t i = 0; i < in; ++i) {
      std::int32_t low = 0, high = 0;
      for (std::int64_t k = out; k-- > 0;)
        if (reads(k, i)) low = static_cast<std::int32_t>(k), high = std::max(high, low + 1);
      first.push_back(low);
      last.push_back(high);
    }
  }
  bool reads(std::int64_t k, std::int64_t i) const {
    const std::int64_t b = begin[static_cast<std::size_t>(k)];
    return i >= b && i < end[static_cast<std::size_t>(k)] && (i - b) % step == 0;
  }
  /// Windows of `kernel` places; padding counts where `full`.
  static PoolTable sliding(std::int64_t in, std::int64_t kernel, std::int64_t stride, std::int64_t pad,
                           std::int64_t step, bool full) {
    std::vector<std::array<std::int64_t, 3>> w;
    const std::int64_t reach = step * (kernel - 1) + 1;
    for (std::int64_t at = -pad; at + reach <= in + pad; at += stride) {
      std::int64_t begin = at, places = 0;
      while (begin < 0) begin += step;
      for (std::int64_t i = at; i < at + reach; i += step) places += i >= 0 && i < in;
      w.push_back({begin, std::min(at + reach, in), full ? kernel : places});
    }
    return {in, step, w};
  }
  /// Windows ⌊k·in/out⌋ … ⌈(k + 1)·in/out⌉ − 1.
  static PoolTable to_size(std::int64_t in, std::int64_t out) {
    std::vector<std::array<std::int64_t, 3>> w;
    for (std::int64_t k = 0; k < out; ++k) {
      const std::int64_t b = k * in / out, e = ((k + 1) * in + out - 1) / out;
      w.push_back({b, e, e - b});
    }
    return {in, 1, w};
  }
  double places(std::int64_t k) const { return double(count[static_cast<std::size_t>(k)]); }
};

/// The same on the device.
struct PoolOnDevice {
  Buffer<std::int32_t> begin, end, count, first, last;
  kernels::pool_windows view;
  explicit PoolOnDevice(const PoolTable& t)
      : begin(std::span<const std::int32_t>(t.begin)),
        end(std::span<const std::int32_t>(t.end)),
        count(std::span<const std::int32_t>(t.count)),
        first(std::span<const std::int32_t>(t.first)),
        last(std::span<const std::int32_t>(t.last)),
        view{t.in, t.out, t.step, begin.data(), end.data(), count.data(), first.data(), last.data()} {}
};

/// Rows and columns of a pooling, and of which images.
struct PoolCase {
  PoolTable rows, cols;
  std::int64_t samples, channels;
};

void for_pool_cases(bool average, const std::function<void(const PoolCase&, std::uint64_t)>& f) {
  const std::vector<std::array<PoolTable, 2>> tables{
      {PoolTable::sliding(4, 2, 2, 0, 1, true), PoolTable::sliding(6, 2, 2, 0, 1, true)},
      {PoolTable::sliding(5, 3, 2, 1, 1, true), PoolTable::sliding(7, 3, 1, 1, 1, false)},
      {PoolTable::sliding(9, 2, 3, 0, 1, true), PoolTable::sliding(1, 1, 1, 0, 1, true)},
      {PoolTable::sliding(7, 3, 2, 1, 2, true), PoolTable::sliding(9, 3, 1, 1, 3, true)},
      {PoolTable::to_size(5, 3), PoolTable::to_size(4, 6)},
      {PoolTable::to_size(7, 1), PoolTable::to_size(9, 1)},  // large windows
      {PoolTable::to_size(17, 2), PoolTable::to_size(15, 3)},
  };
  std::uint64_t number = 0;
  for (std::size_t t = 0; t < tables.size(); ++t)
    for (const std::int64_t channels : {1, 3})
      for (const std::int64_t samples : {1, 4, 5, 16, 31, 33, 64, 70, 130}) {
        if (average && tables[t][0].step > 1) continue;
        if (test::tried(++number)) f({tables[t][0], tables[t][1], samples, channels}, number);
      }
  for (const std::int64_t channels : {0, 2}) f({tables[0][0], tables[0][1], 0, channels}, ++number);
  f({tables[0][0], tables[0][1], 5, 0}, ++number);
}

const test::Register max_pool("pool: the greatest of windows, first of equals, NaN above all", [] {
  for_pool_cases(false, [](const PoolCase& c, std::uint64_t number) {
    const std::int64_t in = c.rows.in * c.cols.in, out = c.rows.out * c.cols.out;
    Rng rng(number);
    Matrix x = Matrix::normal(c.samples, c.channels * in, rng);
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    const Draw pick = rng.draw();
    for (std::int64_t f = 0; f < x.features; ++f)
      for (std::int64_t b = 0; b < c.samples; ++b) {
        const float u = pick.uniform(static_cast<std::uint64_t>(f * c.samples + b));
        x(b, f) = u < 0.05f ? nan : u < 0.1f ? inf : u < 0.2f ? -inf : std::round(x(b, f) * 2) / 2;  // many equals
      }
    const PoolOnDevice rows(c.rows), cols(c.cols);
    const DeviceMatrix from(x), to(c.samples, c.channels * out), alone(c.samples, c.channels * out);
    const Buffer<std::int32_t> chosen(to.data.size());
    kernels::max_pool(cuda{}, from.cview(), rows.view, cols.view, to.view(), chosen.data());
    kernels::max_pool(cuda{}, from.cview(), rows.view, cols.view, alone.view(), nullptr);
    const Matrix y = to.to_host(), again = alone.to_host();
    const auto index = chosen.to_host();

    const Matrix dy = Matrix::normal(c.samples, c.channels * out, rng);
    const DeviceMatrix up(dy), down(c.samples, c.channels * in);
    kernels::max_pool_dx(cuda{}, up.cview(), chosen.data(), rows.view, cols.view, down.view());
    const Matrix dx = down.to_host();
    std::vector<test::Exact> want_dx(static_cast<std::size_t>(x.features * c.samples));

    for (std::int64_t b = 0; b < c.samples; ++b)
      for (std::int64_t f = 0; f < y.features; ++f) {
        const std::int64_t channel = f / out, i = f % out / c.cols.out, j = f % c.cols.out;
        float best = 0;
        std::int64_t at = -1;
        for (std::int64_t p = 0; p < c.rows.in; ++p)
          for (std::int64_t q = 0; q < c.cols.in; ++q) {
            if (!c.rows.reads(i, p) || !c.cols.reads(j, q)) continue;
            const float v = x(b, channel * in + p * c.cols.in + q);
            if (at >= 0 && (std::isnan(best) || !(std::isnan(v) || v > best))) continue;
            best = v, at = p * c.cols.in + q;
          }
        const auto same = [&](float got) { return std::isnan(best) ? std::isnan(got) : got == best; };
        check(same(y(b, f)) && same(again(b, f)), "max_pool: got ", y(b, f), " and ", again(b, f), ", want ", best,
              " at ", f, ", sample ", b, " of ", c.samples);
        check(index[static_cast<std::size_t>(f * y.ld + b)] == at, "max_pool: place ",
              index[static_cast<std::size_t>(f * y.ld + b)], ", want ", at, " at ", f, ", sample ", b);
        want_dx[static_cast<std::size_t>((channel * in + at) * c.samples + b)].add(double{dy(b, f)});
      }
    for (std::int64_t b = 0; b < c.samples; ++b)
      for (std::int64_t f = 0; f < x.features; ++f) {
        const test::Exact& want = want_dx[static_cast<std::size_t>(f * c.samples + b)];
        check(want.close(double{dx(b, f)}), "max_pool_dx: got ", dx(b, f), ", want ", want.value, " at ", f,
              ", sample ", b, " of ", c.samples);
      }
  });
});

void expect_averages(const PoolCase& c, std::uint64_t number) {
  const std::int64_t in = c.rows.in * c.cols.in, out = c.rows.out * c.cols.out;
  Rng rng(number);
  const Matrix x = Matrix::normal(c.samples, c.channels * in, rng),
               dy = Matrix::normal(c.samples, c.channels * out, rng);
  const PoolOnDevice rows(c.rows), cols(c.cols);
  const DeviceMatrix from(x), to(c.samples, c.channels * out), up(dy), down(c.samples, c.channels * in);
  kernels::avg_pool(cuda{}, from.cview(), rows.view, cols.view, to.view());
  kernels::avg_pool_dx(cuda{}, up.cview(), rows.view, cols.view, down.view());
  const Matrix y = to.to_host(), dx = down.to_host();
  for (std::int64_t channel = 0; channel < c.channels; ++channel)
    for (std::int64_t b = 0; b < c.samples; ++b) {
      std::vector<test::Exact> want_dx(static_cast<std::size_t>(in));
      for (std::int64_t i = 0; i < c.rows.out; ++i)
        for (std::int64_t j = 0; j < c.cols.out; ++j) {
          const std::int64_t f = channel * out + i * c.cols.out + j;
          const double share = 1 / (c.rows.places(i) * c.cols.places(j));
          test::Exact want;
          for (std::int64_t p = c.rows.begin[i]; p < c.rows.end[i]; ++p)
            for (std::int64_t q = c.cols.begin[j]; q < c.cols.end[j]; ++q) {
              want.add(share * double{x(b, channel * in + p * c.cols.in + q)});
              want_dx[static_cast<std::size_t>(p * c.cols.in + q)].add(share * double{dy(b, f)});
            }
          check(want.close(double{y(b, f)}), "avg_pool: got ", y(b, f), ", want ", want.value, " at ", f, ", sample ",
                b, " of ", c.samples);
        }
      for (std::int64_t k = 0; k < in; ++k)
        check(want_dx[static_cast<std::size_t>(k)].close(double{dx(b, channel * in + k)}), "avg_pool_dx: got ",
              dx(b, channel * in + k), ", want ", want_dx[static_cast<std::size_t>(k)].value, " at ", k, " of channel ",
              channel, ", sample ", b, " of ", c.samples);
    }
}

const test::Register avg_pool("pool: averages of windows, and to a size",
                              [] { for_pool_cases(true, expect_averages); });

const test::Register long_pool("pool: averages of more than 4096 terms", [] {
  // One run, several runs and a large window: float32 alone would lose the ones beside 2²⁴.
  for (const auto& [height, width, samples] : {std::array<std::int64_t, 3>{1, 8200, 1}, {90, 100, 5}}) {
    const PoolTable rows = PoolTable::to_size(height, 1), cols = PoolTable::to_size(width, 1);
    Matrix x(samples, height * width);
    for (std::int64_t f = 0; f < x.features; ++f)
      for (std::int64_t b = 0; b < samples; ++b) x(b, f) = f == 0 ? 0x1p24f : 1.0f;
    const PoolOnDevice over(rows), along(cols);
    const DeviceMatrix from(x), to(samples, 1);
    kernels::avg_pool(cuda{}, from.cview(), over.view, along.view, to.view());
    const double places = static_cast<double>(x.features), want = (0x1p24 + places - 1) / places;
    for (std::int64_t b = 0; b < samples; ++b)
      check(std::fabs(double{to.to_host()(b, 0)} - want) <= 2e-7 * want, "avg_pool: ", to.to_host()(b, 0), ", want ",
            want);
    // A place in as many windows: dx.
    const PoolTable back_rows = PoolTable::to_size(1, height), back_cols = PoolTable::to_size(1, width);
    const PoolOnDevice back_over(back_rows), back_along(back_cols);
    const DeviceMatrix dx(samples, 1);
    kernels::avg_pool_dx(cuda{}, from.cview(), back_over.view, back_along.view, dx.view());
    for (std::int64_t b = 0; b < samples; ++b)
      check(std::fabs(double{dx.to_host()(b, 0)} - want * places) <= (height == 1 ? 3e-4 : 2e-5) * want * places,
            "avg_pool_dx: ", dx.to_host()(b, 0), ", want ", want * places);
  }
});

}  // namespace
