// Reductions against the same in double, over any extents and however they are cut.
#include <algorithm>

#include <deepstruct/core/nest.hpp>
#include <deepstruct/kernels/cuda.hpp>

#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;
namespace fn = kernels::fn;

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN(),
                infinite = std::numeric_limits<float>::infinity();

/// A tensor on the host, its padding NaN.
std::vector<float> numbers(const Shape& s, std::uint64_t seed) {
  std::vector<float> v(static_cast<std::size_t>(s.storage()), not_a_number);
  const Draw draw{seed, 0};
  for (std::int64_t i = 0; i < s.storage(); ++i)
    if (i % s.ld() < s[0]) v[static_cast<std::size_t>(i)] = draw.normal(static_cast<std::uint64_t>(i));
  return v;
}
/// Memory that shows what was not written.
Buffer<float> blank(std::size_t n) {
  Buffer<float> memory(n);
  runtime::fill(memory.data(), 0xff, n * sizeof(float), nullptr, "blank");
  return memory;
}
template <class F>
void each(const Shape& s, F&& f) {
  for (std::int64_t i1 = 0; i1 < s[1]; ++i1)
    for (std::int64_t i2 = 0; i2 < s[2]; ++i2)
      for (std::int64_t i3 = 0; i3 < s[3]; ++i3)
        for (std::int64_t i0 = 0; i0 < s[0]; ++i0) f(std::array{i0, i1, i2, i3});
}
std::size_t offset(const Shape& s, std::array<std::int64_t, 4> i) {
  for (int k = 0; k < 4; ++k) i[k] = s[k] == 1 ? 0 : i[k];
  return static_cast<std::size_t>(s.offset(i[0], i[1], i[2], i[3]));
}

/// Which extents of a shape stay; the others are one.
Shape kept_of(const Shape& s, unsigned kept) {
  std::int64_t extents[4];
  for (int k = 0; k < s.rank(); ++k) extents[k] = (kept >> k & 1) != 0 ? s[k] : 1;
  return Shape(std::span<const std::int64_t>(extents, static_cast<std::size_t>(s.rank())));
}
struct Loops {
  nest<2> kept;
  nest<1> reduced;
  Loops(const Shape& x, const Shape& y) {
    NestBuilder<2> stays;
    NestBuilder<1> goes;
    for (int step = 0; step < x.rank(); ++step) {
      const int k = step == 0 ? 0 : x.rank() - step;
      if (y[k] == x[k])
        stays.add(x[k], {y.stride(k), x.stride(k)});
      else
        goes.add(x[k], {x.stride(k)});
    }
    kept = stays.finish();
    reduced = goes.finish();
  }
};

/// All three reductions of x to the extents that stay.
void expect_reduced(const Shape& s, unsigned kept, const std::vector<float>& x) {
  const Shape result = kept_of(s, kept);
  const Loops loops(s, result);
  const Buffer<float> in{std::span<const float>(x)};
  const auto n = static_cast<std::size_t>(result.storage());
  const Buffer<float> sum = blank(n), greatest = blank(n), least = blank(n);
  kernels::reduce<fn::add>(cuda{}, in.data(), sum.data(), loops.kept, loops.reduced);
  kernels::reduce<fn::maximum>(cuda{}, in.data(), greatest.data(), loops.kept, loops.reduced);
  kernels::reduce<fn::minimum>(cuda{}, in.data(), least.data(), loops.kept, loops.reduced);
  std::vector<test::Exact> sums(n);
  std::vector<float> most(n, -infinite), fewest(n, infinite);
  each(s, [&](auto i) {
    const std::size_t at = offset(result, i);
    const float v = x[offset(s, i)];
    sums[at].add(double{v});
    most[at] = v != v || most[at] != most[at] ? not_a_number : std::max(most[at], v);
    fewest[at] = v != v || fewest[at] != fewest[at] ? not_a_number : std::min(fewest[at], v);
  });
  const auto got_sum = sum.to_host(), got_most = greatest.to_host(), got_fewest = least.to_host();
  const auto same = [](float a, float b) { return a == b || (a != a && b != b); };
  each(result, [&](auto i) {
    const std::size_t at = offset(result, i);
    const double want = sums[at].value;
    // The result alone is rounded to float32.
    check(std::isfinite(want) ? std::fabs(double{got_sum[at]} - want) <= 0x1p-24 * std::fabs(want) + 1e-12
                              : same(got_sum[at], static_cast<float>(want)),
          "sum: ", got_sum[at], ", want ", want, " at ", at, ", shape ", s, " to ", result);
    check(same(got_most[at], most[at]), "maximum: ", got_most[at], ", want ", most[at], " at ", at, ", shape ", s,
          " to ", result);
    check(same(got_fewest[at], fewest[at]), "minimum: ", got_fewest[at], ", want ", fewest[at], " at ", at, ", shape ",
          s, " to ", result);
  });
  for (std::size_t at = 0; at < n; ++at)
    if (static_cast<std::int64_t>(at) % result.ld() >= result[0])
      check(std::isnan(got_sum[at]) && std::isnan(got_most[at]), "reduce: wrote padding, shape ", s, " to ", result);
}

const test::Register any("reduce: sums and extrema over any extents", [] {
  std::uint64_t i = 0;
  for (const std::int64_t b : {1, 5, 16, 33, 70})
    for (const std::int64_t c : {1, 9})
      for (const std::int64_t h : {2, 8})
        for (unsigned kept = 0; kept < 16; ++kept)
          if (const Shape s{b, c, h, 5}; test::tried(i++)) expect_reduced(s, kept, numbers(s, i));
});

const test::Register nothing("reduce: over nothing, and nothing to reduce", [] {
  for (const Shape& s : {Shape{0, 3}, Shape{3, 0}, Shape{0}, Shape{20, 0, 2}, Shape{0, 0}, Shape{}, Shape{1, 1}})
    for (unsigned kept = 0; kept < 8; ++kept) expect_reduced(s, kept, numbers(s, 1));
});

const test::Register parts("reduce: many terms, cut into parts", [] {
  const std::pair<Shape, unsigned> cases[] = {
      {Shape{20000}, 0},      {Shape{5, 9001}, 1},    {Shape{33, 1200}, 1},   {Shape{33, 1200}, 0},
      {Shape{9000, 3}, 2},    {Shape{2, 3, 4100}, 2}, {Shape{2, 3, 4100}, 4}, {Shape{20, 7, 300}, 2},
      {Shape{3, 70, 100}, 4}, {Shape{1, 5000, 2}, 4}, {Shape{1, 5000, 2}, 1}, {Shape{70, 3, 90}, 2},
  };
  std::uint64_t i = 0;
  for (const auto& [s, kept] : cases)
    if (const std::vector<float> x = numbers(s, 3); i++ % 2 == test::seed % 2 || !test::emulated())
      expect_reduced(s, kept, x);
});

const test::Register nans("reduce: NaN wins wherever it stands, infinities", [] {
  std::uint64_t i = 0;
  for (const Shape& s : {Shape{70, 3}, Shape{5, 40}, Shape{9000}})
    for (unsigned kept = 0; kept < 4; ++kept)
      for (const std::int64_t at : {std::int64_t{0}, s[0] - 1}) {
        if (!test::tried(4 * i++)) continue;
        std::vector<float> x = numbers(s, 2);
        x[static_cast<std::size_t>(at)] = not_a_number;
        x[static_cast<std::size_t>(s.offset(s[0] / 2, s[1] - 1))] = infinite;
        expect_reduced(s, kept, x);
        x[static_cast<std::size_t>(at)] = -infinite;
        expect_reduced(s, kept, x);
        std::fill(x.begin(), x.end(), -infinite);
        expect_reduced(s, kept, x);
      }
});

const test::Register ordered("reduce: the same bits in every order of threads", [] {
  const Shape s{33, 900};
  const std::vector<float> x = numbers(s, 4);
  const Buffer<float> in{std::span<const float>(x)}, sum(1), again(1);
  const Loops loops(s, Shape{1, 1});
  kernels::reduce<fn::add>(cuda{}, in.data(), sum.data(), loops.kept, loops.reduced);
  test::set_schedule(test::seed + 1000);
  kernels::reduce<fn::add>(cuda{}, in.data(), again.data(), loops.kept, loops.reduced);
  check(sum.to_host() == again.to_host(), "sum: ", sum.to_host()[0], " and ", again.to_host()[0]);
});

const test::Register columns("reduce: column sums, behind a ReLU or not", [] {
  std::uint64_t i = 0;
  for (const std::int64_t samples : {0, 1, 3, 5, 31, 32, 64, 70, 130, 9000})
    for (const std::int64_t features : {0, 1, 2, 9, 300})
      for (const bool gated : {false, true}) {
        if (samples * features > 60000 || (!test::tried(i++) && samples < 9000)) continue;
        Rng rng(i);
        test::Matrix dy = test::Matrix::normal(samples, features, rng),
                     y = test::Matrix::normal(samples, features, rng);
        if (samples > 3 && features > 1) {
          y(1, 0) = not_a_number, y(2, 0) = 0, y(3, 0) = -0.0f;  // all of them gates that are closed
          dy(0, 1) = not_a_number, y(0, 1) = -1;
        }
        const test::DeviceMatrix in(dy), behind(y), dz(samples, features);
        const Buffer<float> sums(static_cast<std::size_t>(features));
        kernels::column_sums(cuda{}, in.cview(), gated ? behind.data.data() : nullptr, dz.data.data(), sums.data());
        const test::Matrix got = dz.to_host();
        const std::vector<float> total = sums.to_host();
        for (std::int64_t f = 0; f < features; ++f) {
          test::Exact sum;
          for (std::int64_t b = 0; b < samples; ++b) {
            const float want = !gated || y(b, f) > 0 ? dy(b, f) : 0.0f;
            sum.add(double{want});
            if (gated)
              check(got(b, f) == want, "column_sums: dz ", got(b, f), ", want ", want, " at ", b, ", ", f, " of ",
                    samples, ", ", features);
            else
              check(std::isnan(got(b, f)), "column_sums: wrote dz without y");
          }
          check(std::isnan(sum.value)
                    ? std::isnan(total[f])
                    : std::fabs(double{total[f]} - sum.value) <= 0x1p-24 * std::fabs(sum.value) + 1e-12,
                "column_sums: ", total[f], ", want ", sum.value, " of ", f, ", shape ", samples, ", ", features);
        }
        for (std::size_t k = 0; k < got.data.size(); ++k)
          check(static_cast<std::int64_t>(k) % got.ld < samples || std::isnan(got.data[k]),
                "column_sums: wrote padding");
      }
});

void expect_argmax(const Shape& s, int dim, const std::vector<float>& x, float sign) {
  const Shape result = kept_of(s, ~(1u << dim));
  NestBuilder<2> kept;
  for (int step = 0; step < s.rank(); ++step) {
    const int k = step == 0 ? 0 : s.rank() - step;
    if (k != dim) kept.add(s[k], {result.stride(k), s.stride(k)});
  }
  const Buffer<float> in{std::span<const float>(x)};
  const Buffer<std::int32_t> out(static_cast<std::size_t>(result.storage()));
  kernels::argmax(cuda{}, in.data(), out.data(), kept.finish(), s[dim], s.stride(dim), sign);
  const std::vector<std::int32_t> got = out.to_host();
  each(result, [&](auto i) {
    std::int32_t best = 0;
    float top = 0;
    for (i[dim] = 0; i[dim] < s[dim]; ++i[dim]) {
      const float v = sign * x[offset(s, i)];
      if (i[dim] == 0 || v > top || (v != v && top == top)) best = static_cast<std::int32_t>(i[dim]), top = v;
    }
    check(got[offset(result, i)] == best, "argmax: ", got[offset(result, i)], ", want ", best, " at ",
          offset(result, i), ", shape ", s, ", extent ", dim, ", sign ", sign);
  });
}

const test::Register greatest("reduce: argmax, ties and NaN", [] {
  const std::pair<Shape, int> cases[] = {{Shape{5, 3}, 0},    {Shape{5, 3}, 1},      {Shape{70, 4}, 1},
                                         {Shape{70, 4}, 0},   {Shape{33, 70}, 1},    {Shape{1, 9000}, 1},
                                         {Shape{9000, 2}, 0}, {Shape{1, 1}, 0},      {Shape{0, 3}, 1},
                                         {Shape{3, 0}, 1},    {Shape{16, 3, 40}, 1}, {Shape{16, 3, 40}, 2}};
  for (const auto& [s, dim] : cases)
    for (const float sign : {1.0f, -1.0f})
      for (const int kind : {0, 1, 2, 3}) {
        std::vector<float> x = numbers(s, 5);
        const Draw draw{9, static_cast<std::uint64_t>(kind)};
        for (std::size_t i = 0; i < x.size(); ++i) {
          if (static_cast<std::int64_t>(i) % s.ld() >= s[0]) continue;
          if (kind == 1) x[i] = std::round(2 * x[i]);                                        // many are equal
          if (kind == 2 && draw.below(i, 7) == 0) x[i] = not_a_number;                       // the first of them
          if (kind == 3) x[i] = -sign * (draw.below(i, 70) == 0 ? not_a_number : infinite);  // nothing is greater
        }
        expect_argmax(s, dim, x, sign);
      }
});

const test::Register running("reduce: running sums", [] {
  const std::pair<Shape, int> cases[] = {{Shape{5, 3}, 0},      {Shape{5, 3}, 1},    {Shape{70, 4}, 1},
                                         {Shape{70, 4}, 0},     {Shape{1, 9000}, 1}, {Shape{9000, 2}, 0},
                                         {Shape{0, 3}, 1},      {Shape{0, 3}, 0},    {Shape{16, 3, 40}, 1},
                                         {Shape{16, 3, 40}, 2}, {Shape{33, 500}, 1}, {Shape{1}, 0}};
  for (const auto& [s, dim] : cases)
    for (const bool infinities : {false, true}) {
      std::vector<float> x = numbers(s, 6);
      if (infinities && s.storage() > 0 && s[dim] > 2) {
        x[static_cast<std::size_t>(s.stride(dim))] = infinite;
        if (s[dim] > 600) x[static_cast<std::size_t>(600 * s.stride(dim))] = -infinite;
      }
      const Shape starts = kept_of(s, ~(1u << dim));
      NestBuilder<2> kept;
      for (int step = 0; step < s.rank(); ++step) {
        const int k = step == 0 ? 0 : s.rank() - step;
        if (k != dim) kept.add(s[k], {s.stride(k), s.stride(k)});
      }
      const Buffer<float> in{std::span<const float>(x)}, out = blank(x.size());
      kernels::cumsum(cuda{}, in.data(), out.data(), kept.finish(), s[dim], s.stride(dim), s.stride(dim));
      const std::vector<float> got = out.to_host();
      each(starts, [&](auto i) {
        double total = 0, size = 0;
        for (i[dim] = 0; i[dim] < s[dim]; ++i[dim]) {
          const std::size_t at = offset(s, i);
          total += double{x[at]};
          size += std::fabs(double{x[at]});
          check(std::isnan(total)   ? std::isnan(got[at])
                : std::isinf(total) ? double{got[at]} == total
                                    : std::fabs(double{got[at]} - total) <= 0x1p-24 * std::fabs(total) + 1e-15 * size,
                "cumsum: ", got[at], ", want ", total, " at ", at, ", shape ", s, ", extent ", dim);
        }
      });
      for (std::size_t k = 0; k < got.size(); ++k)
        check(static_cast<std::int64_t>(k) % s.ld() < s[0] || std::isnan(got[k]), "cumsum: wrote padding");
    }
});

}  // namespace
