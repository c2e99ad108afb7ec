// Dense products against sums in double: every tile, layout and cut.
#include <algorithm>
#include <array>

#include <deepstruct/core/nest.hpp>

#include "../../kernels/launchers.hpp"
#include "cases.hpp"

using namespace deepstruct;

namespace {

using kernels::gemm_cut;
using runtime::Buffer;

constexpr gemm_cut::Tile gemm_tiles[] = {gemm_cut::wide, gemm_cut::square, gemm_cut::few_samples,
                                         gemm_cut::few_outputs};

/// w(o, i) in storage with the given strides, NaN between and behind its entries.
struct GemmWeight {
  std::vector<float> data;
  Buffer<float> on_device;
  strided_view<const float> view;
  GemmWeight(std::int64_t outputs, std::int64_t terms, int layout, Rng& rng) {
    const std::int64_t by_output = leading_stride(outputs), by_term = leading_stride(terms);
    std::int64_t s0 = 1, s1 = by_output, size = by_output * terms;    // as a weight lies
    if (layout == 1) s0 = by_term, s1 = 1, size = by_term * outputs;  // transposed
    if (layout == 2) s0 = 3, s1 = 3 * outputs + 2, size = s1 * terms;
    if (layout == 3) s0 = 2 * terms + 1, s1 = 2, size = s0 * outputs;
    data.assign(static_cast<std::size_t>(size), std::numeric_limits<float>::quiet_NaN());
    const Draw draw = rng.draw();
    for (std::int64_t o = 0; o < outputs; ++o)
      for (std::int64_t i = 0; i < terms; ++i)
        data[static_cast<std::size_t>(o * s0 + i * s1)] = draw.normal(static_cast<std::uint64_t>(o * terms + i));
    on_device = Buffer<float>(std::span<const float>(data));
    view = {on_device.data(), outputs, terms, s0, s1};
  }
  float operator()(std::int64_t o, std::int64_t i) const {
    return data[static_cast<std::size_t>(o * view.s0 + i * view.s1)];
  }
};

/// y[b, o] of got against the sum in double, of great ones some entries; padding as it was.
void expect_product(const test::Matrix& got, const test::Matrix& x, const GemmWeight& w, const std::vector<float>& bias,
                    std::uint64_t combination) {
  const std::int64_t every = std::max<std::int64_t>(1, got.samples * got.features * x.features / 400000);
  for (std::int64_t o = 0; o < got.features; ++o) {
    for (std::int64_t b = o % every; b < got.samples; b += every) {
      test::Exact want;
      for (std::int64_t i = 0; i < x.features; ++i) want.add(double{x(b, i)} * double{w(o, i)});
      if (!bias.empty()) want.add(double{bias[static_cast<std::size_t>(o)]});
      check(want.close(double{got(b, o)}), "gemm: got ", got(b, o), ", want ", want.value, " at (", b, ", ", o, ") of ",
            got.samples, " x ", got.features, ", ", x.features, " terms, combination ", combination);
    }
    for (std::int64_t b = got.samples; b < got.ld; ++b)
      check(std::isnan(got(b, o)), "gemm: writes padding of column ", o);
  }
}
void try_product(std::int64_t samples, std::int64_t outputs, std::int64_t terms, int layout, const gemm_cut* cut,
                 std::uint64_t combination) {
  Rng rng(combination);
  const test::Matrix x = test::Matrix::normal(samples, terms, rng);
  const GemmWeight w(outputs, terms, layout, rng);
  const std::vector<float> bias = combination % 2 ? test::normal(outputs, rng) : std::vector<float>();
  const Buffer<float> add{std::span<const float>(bias)};
  const test::DeviceMatrix in(x), out(samples, outputs);
  const float* b = bias.empty() ? nullptr : add.data();
  if (cut)
    kernels::gemm(cuda{}, in.cview(), w.view, b, out.view(), *cut);
  else
    kernels::gemm(cuda{}, in.cview(), w.view, b, out.view());
  expect_product(out.to_host(), x, w, bias, combination);
}

const test::Register cuts("gemm: every tile, layout and number of parts", [] {
  std::uint64_t combination = 0;
  for (const gemm_cut::Tile tile : gemm_tiles)
    for (const std::int64_t samples : {0, 1, 5, 31, 33, 64, 70, 130})
      for (const std::int64_t outputs : {0, 1, 7, 33, 64, 140})
        for (const std::int64_t terms : {0, 1, 8, 33, 100})
          for (const int layout : {0, 1, 2, 3}) {
            ++combination;
            if (test::emulated() && (combination + test::seed) % (7 * test::one_of) != 0) continue;
            const gemm_cut cut{tile, static_cast<std::int64_t>(combination / 3 % 4 + 1)};
            try_product(samples, outputs, terms, layout, &cut, combination);
          }
});

const test::Register chosen("gemm: the cut that the library chooses", [] {
  const std::int64_t sizes[][3] = {{1, 300, 200},  {16, 140, 500}, {300, 10, 400}, {200, 1, 7},     {100, 90, 600},
                                   {33, 70, 1100}, {1, 1, 9000},   {40, 20, 5000}, {300, 200, 1200}};
  std::uint64_t combination = 0;
  for (const auto& [samples, outputs, terms] : sizes)
    for (const int layout : {0, 1}) {
      if (!test::tried(++combination) && !test::tried(combination + 30)) continue;
      try_product(samples, outputs, terms, layout, nullptr, combination);
    }
});

const test::Register sizes("gemm: cuts suit the sizes", [] {
  const auto expect = [](std::int64_t samples, std::int64_t outputs, std::int64_t terms, gemm_cut::Tile tile,
                         std::int64_t parts) {
    const gemm_cut cut = kernels::gemm_cut_for(samples, outputs, terms);
    check(cut.tile == tile && cut.parts == parts, "gemm_cut_for: ", samples, " x ", outputs, " of ", terms,
          " terms gives tile ", static_cast<int>(cut.tile), ", parts ", cut.parts);
  };
  expect(4096, 4096, 4096, gemm_cut::wide, 1);
  expect(512, 1024, 4096, gemm_cut::wide, 8);    // 32 tiles
  expect(128, 784, 4096, gemm_cut::square, 20);  // 26 tiles
  expect(64, 64, 100, gemm_cut::square, 1);
  expect(1, 4096, 4096, gemm_cut::few_samples, 16);
  expect(4096, 10, 1000, gemm_cut::few_outputs, 8);
  expect(4096, 4096, 10000, gemm_cut::wide, 3);  // more than are summed in float
  expect(0, 0, 0, gemm_cut::few_samples, 1);
});

const test::Register special("gemm: infinities and NaN stay in their samples and outputs", [] {
  for (const gemm_cut::Tile tile : gemm_tiles) {
    Rng rng(5);
    test::Matrix x = test::Matrix::normal(20, 37, rng);
    GemmWeight w(19, 37, 0, rng);
    x(3, 5) = std::numeric_limits<float>::infinity();
    x(7, 36) = std::numeric_limits<float>::quiet_NaN();
    const test::DeviceMatrix in(x), out(20, 19);
    kernels::gemm(cuda{}, in.cview(), w.view, nullptr, out.view(), {tile, 2});
    const test::Matrix y = out.to_host();
    for (std::int64_t b = 0; b < 20; ++b)
      for (std::int64_t o = 0; o < 19; ++o)
        check(b == 3   ? std::isinf(y(b, o))
              : b == 7 ? std::isnan(y(b, o))
                       : std::isfinite(y(b, o)),
              "gemm: y is ", y(b, o), " at (", b, ", ", o, ")");
  }
});

const test::Register wide_sums("gemm: parts are added in double", [] {
  // Beside 2²⁵ a float32 loses every 1; those of the parts behind the first are there all the same.
  const std::int64_t terms = 9000;
  test::Matrix x(2, terms);
  for (std::int64_t i = 0; i < terms; ++i) x(0, i) = i == 0 ? 0x1p25f : 1, x(1, i) = 1;
  const std::vector<float> weight(static_cast<std::size_t>(terms), 1.0f);
  const Buffer<float> w{std::span<const float>(weight)};
  const test::DeviceMatrix in(x), out(2, 1);
  kernels::gemm(cuda{}, in.cview(), {w.data(), 1, terms, 1, 1}, nullptr, out.view());
  const test::Matrix y = out.to_host();
  check(y(0, 0) >= 0x1p25f + 4904 && y(0, 0) <= 0x1p25f + 9000, "gemm: the sum is ", y(0, 0));
  check(y(1, 0) == static_cast<float>(terms), "gemm: the sum is ", y(1, 0));
});

const test::Register batched("gemm: batched, with broadcast batches", [] {
  std::uint64_t combination = 0;
  for (const std::int64_t p : {1, 3, 33})
    for (const std::int64_t m : {0, 1, 5})
      for (const std::int64_t k : {0, 1, 17})
        for (const std::int64_t n : {1, 6})
          for (const int alone : {0, 1, 2}) {  // none, a or b has one matrix for all
            if (!test::tried(++combination)) continue;
            Rng rng(combination);
            const Shape of_a{alone == 1 ? 1 : p, m, k}, of_b{alone == 2 ? 1 : p, k, n}, of_y{p, m, n};
            const auto a = test::normal(of_a.storage(), rng), b = test::normal(of_b.storage(), rng);
            const Buffer<float> left{std::span<const float>(a)}, right{std::span<const float>(b)},
                out(static_cast<std::size_t>(of_y.storage()));
            const std::int64_t a_batch = alone == 1 ? 0 : 1, b_batch = alone == 2 ? 0 : 1;
            const auto walk = make_nest<3>(
                of_y, {strides_of(of_y), {a_batch, of_a.stride(1), 0, 0}, {b_batch, 0, of_b.stride(2), 0}});
            kernels::gemm_batched(cuda{}, left.data(), right.data(), out.data(), walk, k, of_a.stride(2),
                                  of_b.stride(1));
            const auto y = out.to_host();
            for (std::int64_t i = 0; i < p; ++i)
              for (std::int64_t r = 0; r < m; ++r)
                for (std::int64_t c = 0; c < n; ++c) {
                  double want = 0;
                  for (std::int64_t t = 0; t < k; ++t)
                    want += double{a[static_cast<std::size_t>((r * k + t) * of_a.ld() + i * a_batch)]} *
                            double{b[static_cast<std::size_t>((t * n + c) * of_b.ld() + i * b_batch)]};
                  const float got = y[static_cast<std::size_t>((r * n + c) * of_y.ld() + i)];
                  check(got == static_cast<float>(want), "gemm_batched: got ", got, ", want ", want, " at (", i, ", ",
                        r, ", ", c, ")");
                }
          }
});

}  // namespace
