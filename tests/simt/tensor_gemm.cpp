// Dense products on tensor cores against sums in double: every tile, layout and number of parts.
#include <algorithm>

#include "../../kernels/launchers.hpp"
#include "cases.hpp"

using namespace deepstruct;

namespace {

using kernels::tensor_cut;
using runtime::Buffer;

constexpr tensor_cut::Tile tensor_tiles[] = {tensor_cut::wide, tensor_cut::tall, tensor_cut::square};

/// A matrix on both sides, entry (i, j) at i + j·ld with ld a multiple of four; NaN where there is no entry.
struct TensorMatrix {
  std::int64_t rows, cols, ld;
  std::vector<float> data;
  Buffer<float> on_device;
  TensorMatrix(std::int64_t rows_, std::int64_t cols_)
      : rows(rows_),
        cols(cols_),
        ld((rows + 3) / 4 * 4),
        data(static_cast<std::size_t>(ld * cols), std::numeric_limits<float>::quiet_NaN()) {}
  float& operator()(std::int64_t i, std::int64_t j) { return data[static_cast<std::size_t>(j * ld + i)]; }
  template <class Value>
  TensorMatrix& fill(Value&& value) {
    for (std::int64_t j = 0; j < cols; ++j)
      for (std::int64_t i = 0; i < rows; ++i) (*this)(i, j) = value(i, j);
    return *this;
  }
  TensorMatrix& normal(Rng& rng) {
    const Draw draw = rng.draw();
    return fill([&](std::int64_t i, std::int64_t j) { return draw.normal(static_cast<std::uint64_t>(j * rows + i)); });
  }
  void to_device() { on_device = Buffer<float>(std::span<const float>(data)); }
  void to_host() { data = on_device.to_host(); }
  matrix_view<float> view() const { return {on_device.data(), rows, cols, ld}; }
};

/// x, w and y of a product; w lies with outputs as neighbours, or with terms.
struct TensorProduct {
  TensorMatrix x, w, y;
  bool along_terms, relu = false;
  std::vector<float> bias;
  TensorProduct(std::int64_t samples, std::int64_t outputs, std::int64_t terms, bool along_terms_)
      : x(samples, terms),
        w(along_terms_ ? terms : outputs, along_terms_ ? outputs : terms),
        y(samples, outputs),
        along_terms(along_terms_) {}
  float& weight(std::int64_t o, std::int64_t i) { return along_terms ? w(i, o) : w(o, i); }
  strided_view<const float> w_view() const {
    const strided_view<const float> view(w.view());
    return along_terms ? view.transposed() : view;
  }
  void run(const tensor_cut* cut) {
    x.to_device(), w.to_device(), y.to_device();
    const Buffer<float> add{std::span<const float>(bias)};
    const float* b = bias.empty() ? nullptr : add.data();
    if (cut)
      kernels::gemm_3xtf32(cuda{}, x.view(), w_view(), b, relu, y.view(), *cut);
    else
      kernels::gemm_3xtf32(cuda{}, x.view(), w_view(), b, relu, y.view());
    y.to_host();
  }
  test::Exact exact(std::int64_t b, std::int64_t o) {
    test::Exact want;
    for (std::int64_t i = 0; i < x.cols; ++i) want.add(double{x(b, i)} * double{weight(o, i)});
    if (!bias.empty()) want.add(double{bias[static_cast<std::size_t>(o)]});
    if (relu) want.value = std::max(want.value, 0.0);
    return want;
  }
  /// A product alone may be off by 10 units of the last bit: 2 for each operand's cut off bit, 4 for lo·lo, 2 for a sum
  /// that is cut off; sums of more are held to what holds for float32.
  void expect(std::uint64_t combination) {
    for (std::int64_t o = 0; o < y.cols; ++o)
      for (std::int64_t b = 0; b < y.ld; ++b) {
        if (b >= y.rows) {
          check(std::isnan(y(b, o)), "gemm_3xtf32: writes padding of column ", o);
          continue;
        }
        const test::Exact want = exact(b, o);
        check(want.close(double{y(b, o)}, std::max(4.0, 10 / std::sqrt(want.terms + 1))), "gemm_3xtf32: got ", y(b, o),
              ", want ", want.value, " at (", b, ", ", o, ") of ", y.rows, " x ", y.cols, ", ", x.cols,
              " terms, combination ", combination);
      }
  }
};
void try_tensor_product(std::int64_t samples, std::int64_t outputs, std::int64_t terms, bool along_terms,
                        const tensor_cut* cut, std::uint64_t combination) {
  Rng rng(combination);
  TensorProduct p(samples, outputs, terms, along_terms);
  p.x.normal(rng), p.w.normal(rng);
  if (combination % 2) p.bias = test::normal(outputs, rng);
  p.relu = combination / 2 % 2;
  p.run(cut);
  p.expect(combination);
}

const test::Register tensor_cuts("tensor gemm: every tile, layout and number of parts", [] {
  std::uint64_t combination = 0;
  for (const tensor_cut::Tile tile : tensor_tiles)
    for (const std::int64_t samples : {0, 1, 5, 31, 64, 130})
      for (const std::int64_t outputs : {0, 1, 33, 64, 140})
        for (const std::int64_t terms : {0, 1, 8, 33, 70})
          for (const bool along_terms : {false, true}) {
            if (!test::tried(++combination) || !test::tried(combination / 7)) continue;
            if (test::emulated() && samples * outputs * terms > 200000 && tile != tensor_cut::square) continue;
            const tensor_cut cut{tile, static_cast<std::int64_t>(combination / 3 % 4 + 1)};
            try_tensor_product(samples, outputs, terms, along_terms, &cut, combination);
          }
});

const test::Register tensor_whole("tensor gemm: whole tiles beside edges", [] {
  std::uint64_t combination = test::seed;
  for (const tensor_cut::Tile tile : {tensor_cut::wide, tensor_cut::tall})
    for (const bool along_terms : {false, true}) {
      const tensor_cut cut{tile, 1};
      if (++combination % 4 == 1 || !test::emulated()) try_tensor_product(128, 130, 72, along_terms, &cut, combination);
    }
});

const test::Register tensor_chosen("tensor gemm: the cut that the library chooses", [] {
  const std::int64_t sizes[][3] = {{33, 17, 40}, {128, 130, 70}, {1, 70, 33}, {64, 64, 300}};
  std::uint64_t combination = 0;
  for (const auto& [samples, outputs, terms] : sizes)
    for (const bool along_terms : {false, true})
      if (test::tried(++combination) || combination <= 2)
        try_tensor_product(samples, outputs, terms, along_terms, nullptr, combination);
});

const test::Register tensor_cancels("tensor gemm: terms that cancel each other", [] {
  for (const tensor_cut cut : {tensor_cut{tensor_cut::square, 1}, tensor_cut{tensor_cut::square, 3}}) {
    Rng rng(11);
    TensorProduct p(40, 36, 160, cut.parts == 3);
    p.x.normal(rng), p.w.normal(rng);
    for (std::int64_t i = 0; i + 1 < p.x.cols; i += 2) {
      for (std::int64_t b = 0; b < p.x.rows; ++b) p.x(b, i + 1) = p.x(b, i);
      for (std::int64_t o = 0; o < p.y.cols; ++o)
        p.weight(o, i + 1) = i % 8 ? -p.weight(o, i) : -std::nextafter(p.weight(o, i), 9.0f);
    }
    p.run(&cut);
    p.expect(0);
  }
});

const test::Register tensor_worst("tensor gemm: the numbers that TF32 holds worst", [] {
  const float awkward[] = {1 + 0x1p-11f - 0x1p-23f, -1 - 0x1p-11f + 0x1p-23f, 2 - 0x1p-23f, 1 + 0x1p-11f,
                           0x1.555554p0f};
  TensorProduct p(5, 25, 3, true);
  p.x.fill([&](std::int64_t b, std::int64_t) { return awkward[b]; });
  for (std::int64_t o = 0; o < p.y.cols; ++o)
    for (std::int64_t i = 0; i < 3; ++i) p.weight(o, i) = i == 0 || o >= 5 ? awkward[(o + i * (o / 5)) % 5] : 0;
  const tensor_cut cut{tensor_cut::square, 1};
  p.run(&cut);
  p.expect(0);
});

const test::Register tensor_drift("tensor gemm: sums of one sign do not drift", [] {
  Rng rng(12);
  TensorProduct p(32, 32, 384, false);
  p.x.normal(rng), p.w.normal(rng);
  for (TensorMatrix* m : {&p.x, &p.w}) m->fill([m](std::int64_t i, std::int64_t j) { return std::fabs((*m)(i, j)); });
  const tensor_cut cut{tensor_cut::square, 1};
  p.run(&cut);
  for (std::int64_t o = 0; o < p.y.cols; ++o)
    for (std::int64_t b = 0; b < p.y.rows; ++b) {
      const double want = p.exact(b, o).value, off = std::fabs(double{p.y(b, o)} - want) / want;
      check(off <= 0x10p-24, "gemm_3xtf32: a sum of one sign is off by ", off, " of it");
    }
});

const test::Register tensor_special("tensor gemm: infinities and NaN stay in their samples and outputs", [] {
  for (const bool along_terms : {false, true}) {
    Rng rng(5);
    TensorProduct p(20, 19, 37, along_terms);
    p.x.normal(rng), p.w.normal(rng);
    p.x(3, 5) = std::numeric_limits<float>::infinity();
    p.x(7, 36) = std::numeric_limits<float>::quiet_NaN();
    p.weight(11, 36) = -std::numeric_limits<float>::infinity();
    p.relu = along_terms;
    const tensor_cut cut{tensor_cut::square, along_terms ? 2 : 1};
    p.run(&cut);
    for (std::int64_t b = 0; b < 20; ++b)
      for (std::int64_t o = 0; o < 19; ++o)
        check(std::isfinite(p.y(b, o)) == !(b == 3 || b == 7 || o == 11), "gemm_3xtf32: y is ", p.y(b, o), " at (", b,
              ", ", o, ")");
  }
});

const test::Register tensor_sizes("tensor gemm: cuts suit the sizes", [] {
  for (const std::int64_t samples : {1, 20, 128, 1000, 4096, 70000})
    for (const std::int64_t outputs : {1, 30, 512, 4096})
      for (const std::int64_t terms : {0, 1, 100, 4096, 4097, 100000}) {
        const tensor_cut cut = kernels::gemm_3xtf32_cut(samples, outputs, terms);
        check(cut.parts >= 1 && cut.parts * 4096 >= terms && (cut.parts == 1 || cut.parts * 64 <= terms),
              "gemm_3xtf32_cut: ", cut.parts, " parts of ", terms, " terms");
        const std::int64_t along_outputs = cut.tile == tensor_cut::square ? 64 : 128,
                           along_samples = cut.tile == tensor_cut::wide ? 128 : 64,
                           blocks = (samples + along_samples - 1) / along_samples *
                                    ((outputs + along_outputs - 1) / along_outputs) * cut.parts;
        check(terms != 4096 || samples * outputs < 128 * 512 || blocks >= 88, "gemm_3xtf32_cut: ", blocks,
              " blocks for ", samples, " x ", outputs, " of ", terms, " terms");
      }
  check(kernels::gemm_3xtf32_cut(4096, 4096, 4096).tile != tensor_cut::square, "gemm_3xtf32_cut: a small tile");
});

const test::Register tensor_fits("tensor gemm: which views suit", [] {
  const Buffer<float> memory(64 * 64);
  float* at = memory.data();
  const auto fits = [&](std::int64_t x_ld, std::int64_t s0, std::int64_t s1, std::int64_t y_ld, std::int64_t samples,
                        int x_from, int w_from, int y_from) {
    return kernels::gemm_3xtf32_fits({at + x_from, samples, 30, x_ld}, {at + w_from, 40, 30, s0, s1},
                                     {at + y_from, samples, 40, y_ld});
  };
  check(fits(48, 1, 48, 48, 33, 0, 0, 0) && fits(48, 32, 1, 48, 33, 4, 8, 12), "gemm_3xtf32_fits: refuses");
  check(!fits(47, 1, 48, 48, 33, 0, 0, 0) && !fits(48, 1, 42, 48, 33, 0, 0, 0) && !fits(48, 30, 1, 48, 33, 0, 0, 0) &&
            !fits(48, 2, 80, 48, 33, 0, 0, 0) && !fits(48, 1, 48, 50, 33, 0, 0, 0) &&
            !fits(48, 1, 48, 48, 1, 0, 0, 0) && !fits(48, 1, 48, 48, 33, 1, 0, 0) &&
            !fits(48, 1, 48, 48, 33, 0, 2, 0) && !fits(48, 1, 48, 48, 33, 0, 0, 3),
        "gemm_3xtf32_fits: takes what it should not");
});

}  // namespace
