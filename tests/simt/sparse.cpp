// The sparse triple against sums in double: ragged sizes and patterns, every cut, whatever the order of threads.
#include <cstring>

#include "../../kernels/launchers.hpp"
#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;
using test::DeviceMatrix;
using test::DevicePattern;
using test::Matrix;
using test::Pattern;

/// Full, empty, thin, with empty rows, with one dense row.
std::vector<Pattern> patterns(std::int64_t rows, std::int64_t cols) {
  const Draw draw = Rng(7).draw();
  const auto chance = [&](std::int64_t r, std::int64_t c) {
    return draw.uniform(static_cast<std::uint64_t>(r * cols + c));
  };
  return {Pattern(rows, cols, [](auto, auto) { return true; }), Pattern(rows, cols, [](auto, auto) { return false; }),
          Pattern(rows, cols, [&](auto r, auto c) { return chance(r, c) < 0.1f; }),
          Pattern(rows, cols, [&](auto r, auto c) { return r % 2 == 1 && chance(r, c) < 0.5f; }),
          Pattern(rows, cols, [&](auto r, auto c) { return r == rows / 2 || (r + c) % 11 == 0; })};
}

std::string describe(const Pattern& p, std::int64_t samples, kernels::sparse_cut cut) {
  return "samples " + std::to_string(samples) + ", pattern [" + std::to_string(p.rows) + ", " + std::to_string(p.cols) +
         "] with " + std::to_string(p.nnz()) + " edges, cut: threads " + std::to_string(cut.threads) + ", rows " +
         std::to_string(cut.rows) + ", columns " + std::to_string(cut.columns) + ", lanes " +
         std::to_string(cut.lanes) + ", slabs " + std::to_string(cut.slabs) + (cut.warp_to_row ? ", warp to row" : "") +
         (cut.staged ? ", staged" : "");
}

Matrix linear(csr_view host, const std::vector<float>& values, const Matrix& x, const std::vector<float>* bias,
              bool relu, kernels::sparse_cut cut) {
  const DevicePattern m(host);
  const Buffer<float> w{std::span<const float>(values)};
  Buffer<float> b;
  if (bias) b = Buffer<float>(std::span<const float>(*bias));
  const DeviceMatrix in(x), y(x.samples, host.rows);
  const Buffer<float> scratch(static_cast<std::size_t>(kernels::sparse_linear_scratch(m.view, cut)));
  kernels::sparse_linear(cuda{}, m.view, w.data(), in.cview(), bias ? b.data() : nullptr, relu, y.view(),
                         scratch.data(), cut);
  return y.to_host();
}
/// A product on tensor cores is off by more where it is one of few.
double ulps_of(const kernels::sparse_cut& cut) { return cut.dense ? 10 : 4; }

std::vector<float> linear_dw(csr_view host, const Matrix& dy, const Matrix& x, kernels::sparse_cut cut) {
  const DevicePattern m(host);
  const DeviceMatrix left(dy), right(x);
  const Buffer<float> dw(static_cast<std::size_t>(host.nnz)),
      scratch(static_cast<std::size_t>(kernels::sparse_linear_dw_scratch(m.view, x.samples, cut)));
  for (const Buffer<float>* b : {&dw, &scratch})
    runtime::fill(b->data(), 0xff, b->size() * sizeof(float), nullptr, "poison");
  kernels::sparse_linear_dw(cuda{}, m.view, left.cview(), right.cview(), dw.data(), scratch.data(), cut);
  return dw.to_host();
}

void expect_linear(const Pattern& p, csr_view m, const std::vector<float>& values, const Matrix& x,
                   const std::vector<float>* bias, bool relu, kernels::sparse_cut cut) {
  const Matrix y = linear(m, values, x, bias, relu, cut);
  for (std::int64_t r = 0; r < m.rows; ++r)
    for (std::int64_t b = 0; b < x.samples; ++b) {
      test::Exact want;
      for (std::int32_t k = m.start[r]; k < m.start[r + 1]; ++k)
        want.add(double{values[m.edge ? m.edge[k] : k]} * double{x(b, m.col[k])});
      if (bias) want.add(double{(*bias)[r]});
      if (relu) want.value = std::max(want.value, 0.0);
      check(want.close(double{y(b, r)}, ulps_of(cut)), m.edge ? "dx" : "y", ": got ", y(b, r), ", want ", want.value,
            " at sample ", b, ", row ", r, "; ", describe(p, x.samples, cut));
    }
}
void expect_dw(const Pattern& p, const Matrix& dy, const Matrix& x, kernels::sparse_cut cut) {
  const std::vector<float> dw = linear_dw(p.by_row(), dy, x, cut);
  for (std::int64_t r = 0; r < p.rows; ++r)
    for (std::int32_t k = p.start[r]; k < p.start[r + 1]; ++k) {
      test::Exact want;
      for (std::int64_t b = 0; b < x.samples; ++b) want.add(double{dy(b, r)} * double{x(b, p.col[k])});
      check(want.close(double{dw[k]}, ulps_of(cut)), "dw: got ", dw[k], ", want ", want.value, " at edge ", k,
            " of row ", r, "; ", describe(p, x.samples, cut));
    }
}

kernels::sparse_cut cut_of(int threads, int rows, int columns, int lanes, int slabs, bool staged,
                           bool warp_to_row = true) {
  kernels::sparse_cut c;
  c.threads = threads, c.rows = rows, c.columns = columns, c.lanes = lanes, c.slabs = slabs, c.staged = staged;
  c.warp_to_row = warp_to_row;
  return c;
}
kernels::sparse_cut dense_cut() {
  kernels::sparse_cut c = cut_of(64, 8, 1, 8, 1, false);
  c.dense = true;
  return c;
}
const kernels::sparse_cut cuts[] = {
    cut_of(32, 1, 0, 8, 1, false),
    cut_of(64, 8, 0, 32, 1, true),
    cut_of(64, 5, 1000, 8, 1, false),
    cut_of(64, 100, 7, 8, 2, true),
    cut_of(96, 4, 16, 16, 3, false),
    cut_of(128, 9, 33, 8, 100, true),
    cut_of(64, 3, 12, 16, 1, false),
    cut_of(160, 12, 5, 8, 1, true, false),
    cut_of(64, 6, 40, 16, 2, false, false),
    cut_of(64, 9, 0, 8, 1, false, false),
    cut_of(64, 50, 11, 16, 2, true, false),
    cut_of(96, 20, 60, 8, 2, false, false),
    dense_cut(),
};
constexpr std::int64_t batches[] = {0, 1, 3, 4, 15, 16, 17, 31, 32, 33, 40, 64, 65, 130};

const test::Register every_cut("sparse: every cut, batch and pattern", [] {
  std::uint64_t i = 0;
  for (const auto& [rows, cols] :
       {std::pair<std::int64_t, std::int64_t>{1, 1}, {7, 5}, {17, 33}, {3, 0}, {0, 4}, {6, 100}})
    for (const Pattern& p : patterns(rows, cols))
      for (const std::int64_t samples : batches)
        for (const kernels::sparse_cut& cut : cuts) {
          if (!test::tried(i++ * 5 / 4)) continue;
          Rng rng(i);
          const Matrix x = Matrix::normal(samples, cols, rng), dy = Matrix::normal(samples, rows, rng);
          const auto values = test::normal(p.nnz(), rng), bias = test::normal(rows, rng);
          expect_linear(p, p.by_row(), values, x, i % 3 ? &bias : nullptr, i % 2, cut);
          expect_linear(p, p.by_column(), values, dy, nullptr, false, cut);
          if (cut.columns > 0) expect_dw(p, dy, x, cut);
        }
});

const test::Register chosen("sparse: the chosen cuts", [] {
  for (const auto& [rows, cols, density, samples] :
       {std::tuple<std::int64_t, std::int64_t, float, std::int64_t>{60, 90, 0.3f, 70}, {40, 200, 0.02f, 40}}) {
    if (test::one_of > 7 && samples == 70) continue;
    const Draw draw = Rng(3).draw();
    const std::int64_t width = cols;
    const float chance = density;
    const Pattern p(rows, cols,
                    [&](auto r, auto c) { return draw.uniform(static_cast<std::uint64_t>(r * width + c)) < chance; });
    Rng rng(5);
    const Matrix x = Matrix::normal(samples, cols, rng), dy = Matrix::normal(samples, rows, rng);
    const auto values = test::normal(p.nnz(), rng), bias = test::normal(rows, rng);
    expect_linear(p, p.by_row(), values, x, &bias, true, kernels::sparse_linear_cut(p.by_row(), samples));
    expect_linear(p, p.by_column(), values, dy, nullptr, false, kernels::sparse_linear_cut(p.by_column(), samples));
    expect_dw(p, dy, x, kernels::sparse_linear_dw_cut(p.by_row(), samples));
  }
});

const test::Register infinite("sparse: values without an edge never meet a sum", [] {
  // Column 0 is infinite and has no edge; positions before and behind a row belong to other rows.
  const Pattern p(9, 21, [](auto r, auto c) { return c > 0 && (r * 5 + c) % 4 == 0; });
  Rng rng(9);
  Matrix x = Matrix::normal(36, 21, rng);
  const Matrix dy = Matrix::normal(36, 9, rng);
  for (std::int64_t b = 0; b < 36; ++b) x(b, 0) = std::numeric_limits<float>::infinity();
  const auto values = test::normal(p.nnz(), rng);
  for (const kernels::sparse_cut& cut : cuts) {
    if (cut.dense) continue;  // there it meets zeros
    expect_linear(p, p.by_row(), values, x, nullptr, false, cut);
    if (cut.columns > 0) expect_dw(p, dy, x, cut);
  }
});

const test::Register unaligned("sparse: arrays that begin anywhere", [] {
  const Pattern p(8, 19, [](auto r, auto c) { return (r * 3 + c) % 5 < 2; });
  Rng rng(11);
  const Matrix x = Matrix::normal(48, 19, rng);
  const auto values = test::normal(p.nnz(), rng);
  std::vector<std::int32_t> col{0};
  col.insert(col.end(), p.col.begin(), p.col.end());
  const Buffer<std::int32_t> start{std::span<const std::int32_t>(p.start)}, shifted{std::span<const std::int32_t>(col)};
  const Buffer<float> w{std::span<const float>(values)};
  const DeviceMatrix in(x), y(48, 8);
  const csr_view m{start.data(), shifted.data() + 1, nullptr, p.rows, p.cols, p.nnz()};
  kernels::sparse_linear(cuda{}, m, w.data(), in.cview(), nullptr, false, y.view(), nullptr, cuts[2]);
  const Matrix got = y.to_host(), want = linear(p.by_row(), values, x, nullptr, false, cuts[2]);
  for (std::int64_t r = 0; r < 8; ++r)
    for (std::int64_t b = 0; b < 48; ++b) check(got(b, r) == want(b, r), "sparse: unaligned columns change a sum");
});

const test::Register same_bits("sparse: the same bits whatever the order of threads", [] {
  const Pattern p(20, 30, [](auto r, auto c) { return (r * 7 + c * 3) % 5 == 0; });
  Rng rng(13);
  const Matrix x = Matrix::normal(70, 30, rng), dy = Matrix::normal(70, 20, rng);
  const auto values = test::normal(p.nnz(), rng);
  for (const kernels::sparse_cut& cut : {cuts[3], cuts[5]}) {
    std::vector<float> before_y, before_dw;
    for (const std::uint64_t order : {1, 2}) {
      test::set_schedule(test::seed * 10 + order);
      std::vector<float> y = linear(p.by_column(), values, dy, nullptr, false, cut).data,
                         dw = linear_dw(p.by_row(), dy, x, cut);
      if (order == 2) {
        check(std::memcmp(y.data(), before_y.data(), y.size() * sizeof(float)) == 0, "sparse: dx depends on the order");
        check(std::memcmp(dw.data(), before_dw.data(), dw.size() * sizeof(float)) == 0,
              "sparse: dw depends on the order");
      }
      before_y = std::move(y), before_dw = std::move(dw);
    }
  }
});

}  // namespace
