// The layered DAG against itself in double: joint with every activation and by branches, ragged levels and batches.
#include "../../kernels/launchers.hpp"
#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;
using test::DeviceMatrix;
using test::Matrix;

/// A DAG on the host: levels of vertices, branches of each, edges from any vertex of an earlier level.
struct Dag {
  std::int64_t inputs, vertices;
  std::vector<std::int32_t> level_start, row_start, owner, output;
  std::vector<VertexActivation> activation;
  bool joint;
  test::Pattern mask;

  Dag(std::int64_t inputs_, std::vector<std::int64_t> levels, bool joint_, float chance, std::uint64_t seed)
      : inputs(inputs_), vertices(inputs_), joint(joint_), mask(0, 0, [](auto, auto) { return false; }) {
    const Draw draw = Rng(seed).draw();
    std::vector<std::int64_t> before;  // of every branch: first vertex of its level
    for (const std::int64_t size : levels) {
      level_start.push_back(static_cast<std::int32_t>(vertices));
      const std::int64_t first = vertices;
      for (std::int64_t i = 0; i < size; ++i, ++vertices) {
        row_start.push_back(static_cast<std::int32_t>(owner.size()));
        const std::int64_t branches = joint ? 1 : vertices % 4;
        for (std::int64_t b = 0; b < branches; ++b)
          owner.push_back(static_cast<std::int32_t>(vertices)), before.push_back(first);
        activation.push_back(static_cast<VertexActivation>(vertices % 4));
      }
    }
    level_start.push_back(static_cast<std::int32_t>(vertices));
    row_start.push_back(static_cast<std::int32_t>(owner.size()));
    for (std::int64_t v = inputs; v < vertices; ++v)
      if (v % 3 == 0 || v + 4 > vertices) output.push_back(static_cast<std::int32_t>(v));
    if (inputs > 1) output.insert(output.begin(), 1);
    mask = test::Pattern(static_cast<std::int64_t>(owner.size()), vertices, [&](auto r, auto u) {
      return u < before[static_cast<std::size_t>(r)] && r % 7 != 5 &&
             draw.uniform(static_cast<std::uint64_t>(r * vertices + u)) < chance;
    });
  }
  std::int64_t row_of(std::int64_t k) const { return row_start[static_cast<std::size_t>(k)]; }
  dag_view view(csr_view by_row, csr_view by_column, const std::int32_t* rows, const VertexActivation* f,
                const std::int32_t* out) const {
    dag_view d;
    d.by_row = by_row, d.by_column = by_column, d.inputs = inputs, d.vertices = vertices;
    d.row_start = joint ? nullptr : rows, d.activation = joint ? f : nullptr;
    d.output = out, d.outputs = static_cast<std::int64_t>(output.size());
    return d;
  }
};

double activated(double z, VertexActivation f) {
  return f == VertexActivation::none      ? z
         : f == VertexActivation::tanh    ? std::tanh(z)
         : f == VertexActivation::sigmoid ? 1 / (1 + std::exp(-z))
                                          : std::max(z, 0.0);
}
double slope(double y, VertexActivation f) {
  return f == VertexActivation::none      ? 1
         : f == VertexActivation::tanh    ? 1 - y * y
         : f == VertexActivation::sigmoid ? y * (1 - y)
         : y > 0                          ? 1
                                          : 0;
}

/// All results of a sample in double.
struct Exactly {
  std::vector<double> h, dz, dx;
  Exactly(const Dag& d, const std::vector<float>& w, const std::vector<float>& bias, const Matrix& x, const Matrix& dy,
          std::int64_t b)
      : h(static_cast<std::size_t>(d.vertices)), dz(d.owner.size()), dx(static_cast<std::size_t>(d.inputs)) {
    const test::Pattern& m = d.mask;
    std::vector<double> z(d.owner.size()), g(h.size());
    for (std::int64_t u = 0; u < d.inputs; ++u) h[u] = double{x(b, u)};
    for (std::int64_t v = d.inputs; v < d.vertices; ++v)
      for (std::int64_t r = d.row_of(v - d.inputs); r < d.row_of(v - d.inputs + 1); ++r) {
        z[r] = double{bias[r]};
        for (std::int32_t k = m.start[r]; k < m.start[r + 1]; ++k) z[r] += double{w[k]} * h[m.col[k]];
        h[v] = d.joint ? activated(z[r], d.activation[v - d.inputs]) : h[v] + std::max(z[r], 0.0);
      }
    for (std::size_t o = 0; o < d.output.size(); ++o) g[d.output[o]] = double{dy(b, static_cast<std::int64_t>(o))};
    for (std::int64_t v = d.vertices - 1; v >= d.inputs; --v)
      for (std::int64_t r = d.row_of(v - d.inputs); r < d.row_of(v - d.inputs + 1); ++r) {
        dz[r] = g[v] * (d.joint ? slope(h[v], d.activation[v - d.inputs]) : z[r] > 0 ? 1.0 : 0.0);
        for (std::int32_t k = m.start[r]; k < m.start[r + 1]; ++k) g[m.col[k]] += double{w[k]} * dz[r];
      }
    std::copy_n(g.begin(), d.inputs, dx.begin());
  }
};

void expect(double got, double want, const char* what, std::int64_t b, std::int64_t i, const Dag& d,
            kernels::dag_cut cut) {
  check(std::fabs(got - want) <= 3e-5 * (1 + std::fabs(want)), what, ": got ", got, ", want ", want, " at sample ", b,
        ", element ", i, "; ", d.joint ? "joint" : "branches", ", vertices ", d.vertices, ", threads ", cut.threads,
        ", tile ", cut.tile, cut.shared ? " in shared memory" : " in global memory");
}

void run_dag(const Dag& d, std::int64_t samples, kernels::dag_cut cut, bool wants_dx) {
  Rng rng(static_cast<std::uint64_t>(samples + d.vertices));
  const Matrix x = Matrix::normal(samples, d.inputs, rng),
               dy = Matrix::normal(samples, static_cast<std::int64_t>(d.output.size()), rng);
  auto w = test::normal(d.mask.nnz(), rng);
  const auto bias = test::normal(static_cast<std::int64_t>(d.owner.size()), rng);
  for (float& v : w) v *= 0.3f;

  const test::DevicePattern rows(d.mask.by_row()), columns(d.mask.by_column());
  const Buffer<std::int32_t> level_start{std::span<const std::int32_t>(d.level_start)},
      row_start{std::span<const std::int32_t>(d.row_start)}, output{std::span<const std::int32_t>(d.output)};
  const Buffer<VertexActivation> activation{std::span<const VertexActivation>(d.activation)};
  const dag_view view = d.view(rows.view, columns.view, row_start.data(), activation.data(), output.data());
  const kernels::dag_levels levels{level_start.data(), static_cast<std::int32_t>(d.level_start.size()) - 1};
  const Buffer<float> values{std::span<const float>(w)}, biases{std::span<const float>(bias)}, scratch(w.size()),
      dw(w.size()), db(bias.size());
  const DeviceMatrix in(x), above(dy), y(samples, dy.features), h(samples, d.vertices), dz(samples, d.mask.rows),
      dx(samples, d.inputs);
  const Buffer<unsigned char> positive(static_cast<std::size_t>(h.ld * d.mask.rows));
  kernels::dag_forward(cuda{}, view, levels, values.data(), biases.data(), in.cview(), y.view(), h.view(),
                       positive.data(), cut);
  kernels::dag_backward(cuda{}, view, levels, values.data(), h.cview(), positive.data(), above.cview(),
                        wants_dx ? dx.view() : matrix_view<float>{}, dz.view(), scratch.data(), cut);
  kernels::sparse_cut sum;
  sum.threads = 64, sum.columns = 20, sum.rows = 16;
  kernels::sparse_linear_dw(cuda{}, view.by_row, dz.cview(), h.cview(), dw.data(), nullptr, sum);
  kernels::column_sums(cuda{}, dz.cview(), db.data());

  const Matrix got_h = h.to_host(), got_y = y.to_host(), got_dz = dz.to_host(), got_dx = dx.to_host();
  std::vector<double> want_dw(w.size()), want_db(bias.size());
  for (std::int64_t b = 0; b < samples; ++b) {
    const Exactly e(d, w, bias, x, dy, b);
    for (std::int64_t v = 0; v < d.vertices; ++v) expect(double{got_h(b, v)}, e.h[v], "h", b, v, d, cut);
    for (std::int64_t o = 0; o < dy.features; ++o) expect(double{got_y(b, o)}, e.h[d.output[o]], "y", b, o, d, cut);
    for (std::int64_t r = 0; r < d.mask.rows; ++r) {
      expect(double{got_dz(b, r)}, e.dz[r], "dz", b, r, d, cut);
      want_db[r] += e.dz[r];
      for (std::int32_t k = d.mask.start[r]; k < d.mask.start[r + 1]; ++k) want_dw[k] += e.dz[r] * e.h[d.mask.col[k]];
    }
    for (std::int64_t u = 0; wants_dx && u < d.inputs; ++u) expect(double{got_dx(b, u)}, e.dx[u], "dx", b, u, d, cut);
  }
  if (samples > 32) return;  // the cut above splits sums of weights over samples and would need scratch
  const auto got_dw = dw.to_host(), got_db = db.to_host();
  for (std::size_t k = 0; k < w.size(); ++k)
    expect(double{got_dw[k]}, want_dw[k], "dw", -1, static_cast<std::int64_t>(k), d, cut);
  for (std::size_t r = 0; r < bias.size(); ++r)
    expect(double{got_db[r]}, want_db[r], "db", -1, static_cast<std::int64_t>(r), d, cut);
}

const test::Register every("dag: joint and by branches, every level and batch", [] {
  std::uint64_t i = 0;
  for (const bool joint : {true, false})
    for (const auto& levels : {std::vector<std::int64_t>{1}, {3, 7, 1, 5}, {30, 2, 21}, {4, 4, 4, 4, 4, 4}})
      for (const std::int64_t samples : {1, 2, 3, 4, 9, 17})
        for (const kernels::dag_cut cut :
             {kernels::dag_cut{32, 2}, {64, 4}, {96, 2}, {128, 4}, {64, 2, false}, {96, 4, false}}) {
          if (!test::tried(i++ * 5 / 4)) continue;
          run_dag(Dag(6 + static_cast<std::int64_t>(i % 3), levels, joint, 0.4f, i), samples, cut, i % 2 == 0);
        }
});

const test::Register chosen("dag: the chosen cut", [] {
  if (test::one_of > 7 && test::emulated()) return;
  run_dag(Dag(40, {20, 20, 20, 5}, true, 0.2f, 3), 5, kernels::dag_cut_for(5), true);
  run_dag(Dag(40, {20, 20, 20, 5}, false, 0.2f, 4), 5, kernels::dag_cut_for(5), false);
});

const test::Register order("dag: the same bits whatever the order of threads", [] {
  const Dag d(5, {6, 9, 3}, true, 0.6f, 8);
  Rng rng(2);
  const Matrix x = Matrix::normal(7, 5, rng);
  const auto w = test::normal(d.mask.nnz(), rng), bias = test::normal(d.mask.rows, rng);
  std::vector<float> before;
  for (const std::uint64_t round : {1, 2}) {
    test::set_schedule(test::seed * 10 + round);
    const test::DevicePattern rows(d.mask.by_row()), columns(d.mask.by_column());
    const Buffer<std::int32_t> level_start{std::span<const std::int32_t>(d.level_start)},
        output{std::span<const std::int32_t>(d.output)};
    const Buffer<float> values{std::span<const float>(w)}, biases{std::span<const float>(bias)};
    const DeviceMatrix in(x), h(7, d.vertices);
    kernels::dag_forward(cuda{}, d.view(rows.view, columns.view, nullptr, nullptr, output.data()),
                         {level_start.data(), static_cast<std::int32_t>(d.level_start.size()) - 1}, values.data(),
                         biases.data(), in.cview(), {}, h.view(), nullptr, {64, 2});
    const Matrix got = h.to_host();
    std::vector<float> all;
    for (std::int64_t v = 0; v < d.vertices; ++v)
      for (std::int64_t b = 0; b < 7; ++b) all.push_back(got(b, v));
    check(round == 1 || all == before, "dag: h depends on the order");
    before = std::move(all);
  }
});

}  // namespace
