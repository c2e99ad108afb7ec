// The GPU's kernels beside the CPU's, on the same data.
#include <memory>

#include <deepstruct/kernels/dag.hpp>
#include <deepstruct/kernels/sparse.hpp>
#include <deepstruct/kernels/update.hpp>

#include "../../kernels/launchers.hpp"
#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;

void expect_close(const std::vector<float>& gpu, const std::vector<float>& cpu, std::int64_t samples, std::int64_t ld,
                  const char* what) {
  for (std::size_t i = 0; i < cpu.size(); ++i)
    if (static_cast<std::int64_t>(i) % ld < samples)
      check(std::fabs(gpu[i] - cpu[i]) <= 1e-5f * (1 + std::fabs(cpu[i])), what, ": ", gpu[i], " and on the CPU ",
            cpu[i], " at element ", i, ", samples ", samples);
}

const test::Register sparse("sparse: beside the CPU's kernels", [] {
  for (const std::int64_t samples : {1, 7, 16, 33, 70}) {
    Rng rng(static_cast<std::uint64_t>(samples));
    const Draw draw = rng.draw();
    const test::Pattern p(45, 60, [&](auto r, auto c) {
      return r == 11 || (r % 5 != 0 && draw.uniform(static_cast<std::uint64_t>(r * 60 + c)) < 0.2f);
    });
    const test::Matrix x = test::Matrix::normal(samples, 60, rng), dy = test::Matrix::normal(samples, 45, rng);
    const auto values = test::normal(p.nnz(), rng);
    auto bias = test::normal(45, rng);
    bias.resize(64);
    const auto view = [](const test::Matrix& m) {
      return matrix_view<const float>{m.data.data(), m.samples, m.features, m.ld};
    };
    const kernels::Plan by_row(p.by_row()), by_column(p.by_column());
    const bool planned = samples >= kernels::sparse_plan_samples;
    test::Matrix y(samples, 45), dx(samples, 60);
    std::vector<float> dw(static_cast<std::size_t>(p.nnz()));
    kernels::sparse_linear(cpu{}, p.by_row(), planned ? by_row.view() : plan_view{}, values.data(), view(x),
                           bias.data(), true, {y.data.data(), samples, 45, y.ld});
    kernels::sparse_linear(cpu{}, p.by_column(), planned ? by_column.view() : plan_view{}, values.data(), view(dy),
                           nullptr, false, {dx.data.data(), samples, 60, dx.ld});
    kernels::sparse_linear_dw(cpu{}, p.by_row(), by_row.view(), view(dy), view(x), dw.data());

    const test::DevicePattern rows(p.by_row()), columns(p.by_column());
    const Buffer<float> w{std::span<const float>(values)}, b{std::span<const float>(bias)};
    const test::DeviceMatrix in(x), above(dy), out(samples, 45), below(samples, 60);
    const Buffer<float> gradient(static_cast<std::size_t>(p.nnz()));
    kernels::sparse_cut cut;
    cut.threads = 64, cut.rows = 16, cut.columns = 25, cut.slabs = 2, cut.staged = true;
    const Buffer<float> scratch(
        static_cast<std::size_t>(std::max(kernels::sparse_linear_scratch(columns.view, cut),
                                          kernels::sparse_linear_dw_scratch(rows.view, samples, cut))));
    kernels::sparse_linear(cuda{}, rows.view, w.data(), in.cview(), b.data(), true, out.view(), scratch.data(), cut);
    kernels::sparse_linear(cuda{}, columns.view, w.data(), above.cview(), nullptr, false, below.view(), scratch.data(),
                           cut);
    kernels::sparse_linear_dw(cuda{}, rows.view, above.cview(), in.cview(), gradient.data(), scratch.data(), cut);
    expect_close(out.to_host().data, y.data, samples, y.ld, "y");
    expect_close(below.to_host().data, dx.data, samples, dx.ld, "dx");
    expect_close(gradient.to_host(), dw, p.nnz(), std::max<std::int64_t>(1, p.nnz()), "dw");
  }
});

const test::Register update("update: beside the CPU's kernels", [] {
  const std::int64_t n = 64;  // whole vectors
  Rng rng(4);
  const auto w = test::normal(n, rng), g = test::normal(n, rng), m = test::normal(n, rng);
  auto v = test::normal(n, rng);
  for (float& x : v) x *= x;
  kernels::adam_rule adam{};
  adam.lr = 0.01f, adam.beta1 = 0.9f, adam.beta2 = 0.999f, adam.eps = 1e-8f, adam.weight_decay = 0.1f;
  adam.rest1 = 0.1f, adam.rest2 = 0.001f, adam.step_size = 0.02f, adam.root = 0.3f, adam.decoupled = true;
  const kernels::sgd_rule sgd{0.1f, 0.9f, 0.25f, 0.01f, true, false};
  // The CPU's arrays begin at lines of the cache.
  alignas(64) float cw[64], cg[64], cm[64], cv[64];
  for (const bool with_adam : {true, false}) {
    std::copy_n(w.data(), n, cw), std::copy_n(g.data(), n, cg), std::copy_n(m.data(), n, cm),
        std::copy_n(v.data(), n, cv);
    const Buffer<float> gw{std::span<const float>(w)}, gg{std::span<const float>(g)}, gm{std::span<const float>(m)},
        gv{std::span<const float>(v)};
    if (with_adam) {
      kernels::adam_step(cpu{}, cw, cg, cm, cv, nullptr, n, adam);
      kernels::adam_step(cuda{}, gw.data(), gg.data(), gm.data(), gv.data(), nullptr, n, adam, nullptr);
    } else {
      kernels::sgd_step(cpu{}, cw, cg, cm, n, sgd);
      kernels::sgd_step(cuda{}, gw.data(), gg.data(), gm.data(), n, sgd, nullptr);
    }
    expect_close(gw.to_host(), std::vector<float>(cw, cw + n), n, n, with_adam ? "adam: w" : "sgd: w");
    expect_close(gm.to_host(), std::vector<float>(cm, cm + n), n, n, with_adam ? "adam: m" : "sgd: momentum");
    expect_close(gv.to_host(), std::vector<float>(cv, cv + n), n, n, "adam: v");
  }
});

const test::Register dag("dag: beside the CPU's kernels", [] {
  // 20 inputs, levels of 9, 6 and 4; every vertex sees a third of what is before its level.
  const std::int32_t level_start[] = {20, 29, 35, 39};
  const test::Pattern p(19, 39, [&](auto r, auto c) {
    const std::int64_t first = r < 9 ? 20 : r < 15 ? 29 : 35;
    return c < first && (r * 7 + c * 5) % 3 == 0;
  });
  Rng rng(6);
  auto values = test::normal(p.nnz(), rng);
  for (float& v : values) v *= 0.4f;
  const auto bias = test::normal(19, rng);
  std::vector<VertexActivation> activation;
  for (int k = 0; k < 19; ++k) activation.push_back(static_cast<VertexActivation>(k % 4));
  const std::int32_t output[] = {30, 35, 36, 37, 38};
  dag_view d;
  d.by_row = p.by_row(), d.by_column = p.by_column(), d.inputs = 20, d.vertices = 39, d.branches = 19;
  d.activation = activation.data(), d.output = output, d.outputs = 5;
  for (const std::int64_t samples : {1, 7, 70}) {
    const test::Matrix x = test::Matrix::normal(samples, 20, rng);
    test::Matrix y(samples, 5);
    std::vector<float> storage(static_cast<std::size_t>(39 * kernels::dag_tile() + 16));
    void* begin = storage.data();
    std::size_t room = storage.size() * sizeof(float);
    auto* h = static_cast<float*>(std::align(64, static_cast<std::size_t>(39 * kernels::dag_tile()) * 4, begin, room));
    std::vector<std::int32_t> signs(static_cast<std::size_t>(kernels::dag_sign_words(d) + 16));
    kernels::dag_forward(cpu{}, d, values.data(), bias.data(), nullptr, {x.data.data(), samples, 20, x.ld},
                         {y.data.data(), samples, 5, y.ld}, h, signs.data(), 1);

    const test::DevicePattern rows(p.by_row()), columns(p.by_column());
    const Buffer<std::int32_t> starts{std::span<const std::int32_t>(level_start)},
        outs{std::span<const std::int32_t>(output)};
    const Buffer<VertexActivation> f{std::span<const VertexActivation>(activation)};
    const Buffer<float> w{std::span<const float>(values)}, b{std::span<const float>(bias)};
    dag_view on = d;
    on.by_row = rows.view, on.by_column = columns.view, on.activation = f.data(), on.output = outs.data();
    const test::DeviceMatrix in(x), got(samples, 5), all(samples, 39);
    kernels::dag_forward(cuda{}, on, {starts.data(), 3}, w.data(), b.data(), in.cview(), got.view(), all.view(),
                         nullptr, {96, 2});
    expect_close(got.to_host().data, y.data, samples, y.ld, "y of a DAG");
  }
});

}  // namespace
