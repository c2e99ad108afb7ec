// A training step of a layered DAG (784 inputs, 10 layers of 100 neurons, 10 outputs, every layer sees all before it,
// 90 % sparse, batch 256) as one CUDA graph: forward, loss, backward, gradients, Adam; and Adam alone.
// Usage: dag OUT.json [PEER.txt]   (of dag_peer.py: lines "case name microseconds")
#include <fstream>
#include <iostream>
#include <random>

#include "../../kernels/launchers.hpp"
#include "measure.hpp"

#include <deepstruct/core/shape.hpp>

namespace {

using bench::Buffer;
using bench::Row;
namespace kernels = deepstruct::kernels;
using deepstruct::VertexActivation;
using View = deepstruct::matrix_view<float>;
using ConstView = deepstruct::matrix_view<const float>;

constexpr std::int64_t inputs = 784, layers = 10, width = 100, outputs = 10,
                       vertices = inputs + layers * width + outputs, rows = vertices - inputs, batch = 256;

struct Network {
  std::vector<std::int32_t> start{0}, col, column_start, row, edge, level_start, output;
  std::vector<VertexActivation> activation;
  std::vector<float> values, bias;
  explicit Network(double density) {
    std::mt19937_64 random(1);
    std::uniform_real_distribution<double> uniform;
    std::normal_distribution<float> normal;
    for (std::int64_t v = inputs; v < vertices; ++v) {
      const std::int64_t k = v - inputs, before = inputs + std::min(k / width, layers) * width;
      if (k % width == 0) level_start.push_back(static_cast<std::int32_t>(v));
      const std::size_t begin = col.size();
      for (std::int64_t u = 0; u < before; ++u)
        if (uniform(random) < density) col.push_back(static_cast<std::int32_t>(u));
      const float scale = std::sqrt(2.0f / static_cast<float>(std::max<std::size_t>(1, col.size() - begin)));
      for (std::size_t e = begin; e < col.size(); ++e) values.push_back(normal(random) * scale);
      bias.push_back(0.01f * normal(random));
      start.push_back(static_cast<std::int32_t>(col.size()));
      activation.push_back(k < layers * width ? VertexActivation::relu : VertexActivation::none);
      if (k >= layers * width) output.push_back(static_cast<std::int32_t>(v));
    }
    level_start.push_back(static_cast<std::int32_t>(vertices));
    column_start.assign(vertices + 1, 0);
    for (const std::int32_t c : col) ++column_start[c + 1];
    for (std::int64_t c = 0; c < vertices; ++c) column_start[c + 1] += column_start[c];
    row.resize(col.size()), edge.resize(col.size());
    std::vector<std::int32_t> next(column_start.begin(), column_start.end() - 1);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int32_t k = start[r]; k < start[r + 1]; ++k) {
        const std::int32_t at = next[col[k]]++;
        row[at] = static_cast<std::int32_t>(r), edge[at] = k;
      }
  }
  std::int64_t nnz() const { return static_cast<std::int64_t>(col.size()); }
};

template <class T>
Buffer<T> on_device(const std::vector<T>& v) {
  return Buffer<T>(std::span<const T>(v));
}

/// ‖dw − exact‖ / ‖exact‖ of the first step, computed in double on the host.
double error_of(const Network& net, const std::vector<float>& x, std::int64_t ld,
                const std::vector<std::int32_t>& target, const std::vector<float>& dw) {
  std::vector<double> want(net.col.size()), h(vertices), g(vertices);
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t u = 0; u < inputs; ++u) h[u] = double{x[u * ld + b]};
    for (std::int64_t r = 0; r < rows; ++r) {
      double z = double{net.bias[r]};
      for (std::int32_t k = net.start[r]; k < net.start[r + 1]; ++k) z += double{net.values[k]} * h[net.col[k]];
      h[inputs + r] = net.activation[r] == VertexActivation::relu ? std::max(z, 0.0) : z;
    }
    std::fill(g.begin(), g.end(), 0.0);
    double most = -1e300, sum = 0;
    for (std::int64_t c = 0; c < outputs; ++c) most = std::max(most, h[vertices - outputs + c]);
    for (std::int64_t c = 0; c < outputs; ++c) sum += std::exp(h[vertices - outputs + c] - most);
    for (std::int64_t c = 0; c < outputs; ++c)
      g[vertices - outputs + c] = (std::exp(h[vertices - outputs + c] - most) / sum - (target[b] == c ? 1 : 0)) / batch;
    for (std::int64_t r = rows - 1; r >= 0; --r) {
      const double dz = net.activation[r] == VertexActivation::relu && h[inputs + r] <= 0 ? 0 : g[inputs + r];
      for (std::int32_t k = net.start[r]; k < net.start[r + 1]; ++k) {
        g[net.col[k]] += double{net.values[k]} * dz;
        want[k] += dz * h[net.col[k]];
      }
    }
  }
  double off = 0, all = 0;
  for (std::size_t k = 0; k < want.size(); ++k) {
    off += (double{dw[k]} - want[k]) * (double{dw[k]} - want[k]);
    all += want[k] * want[k];
  }
  return std::sqrt(off / all);
}

struct Peer {
  std::string of, name;
  double us;
};

}  // namespace

int main(int argc, char** argv) {
  deepstruct::check(argc > 1, "usage: dag OUT.json [PEER.txt]");
  std::vector<Peer> peers;
  if (argc > 2) {
    std::ifstream file(argv[2]);
    for (Peer p; file >> p.of >> p.name >> p.us;) peers.push_back(p);
  }
  std::ofstream out(argv[1]);
  out << "[\n";
  int written = 0;
  const auto write = [&](const Row& row) { out << (written++ ? ",\n" : "") << row.str() << std::flush; };

  cudaStream_t stream;
  bench::require(cudaStreamCreate(&stream), "stream");
  const deepstruct::cuda gpu{stream};
  const Network net(0.1);
  const std::int64_t nnz = net.nnz(), ld = deepstruct::leading_stride(batch), n = nnz + rows;
  std::mt19937_64 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(ld * inputs));
  for (float& v : x) v = normal(random);
  std::vector<std::int32_t> target;
  for (std::int64_t b = 0; b < batch; ++b) target.push_back(static_cast<std::int32_t>(random() % outputs));
  std::vector<float> parameters = net.values;
  parameters.insert(parameters.end(), net.bias.begin(), net.bias.end());

  const auto start = on_device(net.start), col = on_device(net.col), column_start = on_device(net.column_start),
             row = on_device(net.row), edge = on_device(net.edge), level_start = on_device(net.level_start),
             output = on_device(net.output), right = on_device(target);
  const auto activation = on_device(net.activation);
  const auto w = on_device(parameters);
  Buffer<float> g(parameters.size()), m(parameters.size()), v(parameters.size()),
      h(static_cast<std::size_t>(ld * vertices)), dz(static_cast<std::size_t>(ld * rows)),
      dy(static_cast<std::size_t>(ld * outputs)), scratch(net.col.size()), loss(batch);
  Buffer<std::int32_t> step(1);
  for (const Buffer<float>* b : {&m, &v, &h, &dz})
    deepstruct::runtime::fill(b->data(), 0, b->size() * 4, stream, "zero");
  deepstruct::runtime::fill(step.data(), 0, 4, stream, "zero");
  deepstruct::runtime::copy_to_device(h.data(), x.data(), x.size() * 4, stream,
                                      "x");  // the inputs are the first vertices
  deepstruct::runtime::synchronize(stream);

  deepstruct::dag_view d;
  d.by_row = {start.data(), col.data(), nullptr, rows, vertices, nnz};
  d.by_column = {column_start.data(), row.data(), edge.data(), vertices, rows, nnz};
  d.inputs = inputs, d.vertices = vertices, d.activation = activation.data();
  d.output = output.data(), d.outputs = outputs;
  const kernels::dag_levels levels{level_start.data(), static_cast<std::int32_t>(net.level_start.size()) - 1};
  const kernels::dag_cut cut = kernels::dag_cut_for(batch);
  const kernels::sparse_cut dw_cut = kernels::sparse_linear_dw_cut(d.by_row, batch);
  const Buffer<float> dw_scratch(static_cast<std::size_t>(kernels::sparse_linear_dw_scratch(d.by_row, batch, dw_cut)));
  const View all{h.data(), batch, vertices, ld}, below{dz.data(), batch, rows, ld},
      dlogits{dy.data(), batch, outputs, ld};
  const ConstView in{h.data(), batch, inputs, ld}, logits{h.data() + (vertices - outputs) * ld, batch, outputs, ld};
  kernels::adam_rule rule{};
  rule.lr = 1e-3f, rule.beta1 = 0.9f, rule.beta2 = 0.999f, rule.eps = 1e-8f, rule.rest1 = 0.1f, rule.rest2 = 0.001f;

  struct Part {
    const char* name;
    std::function<void()> run;
  };
  const std::vector<Part> parts{
      {"forward",
       [&] { kernels::dag_forward(gpu, d, levels, w.data(), w.data() + nnz, in, View{}, all, nullptr, cut); }},
      {"loss", [&] { kernels::cross_entropy(gpu, logits, right.data(), 1.0f / batch, loss.data(), dlogits); }},
      {"backward",
       [&] {
         kernels::dag_backward(gpu, d, levels, w.data(), all, nullptr, dlogits, View{}, below, scratch.data(), cut);
       }},
      {"dw", [&] { kernels::sparse_linear_dw(gpu, d.by_row, below, all, g.data(), dw_scratch.data(), dw_cut); }},
      {"db", [&] { kernels::column_sums(gpu, below, g.data() + nnz); }},
      {"count", [&] { kernels::next_step(gpu, step.data()); }},
      {"adam",
       [&] { kernels::adam_step(gpu, w.data(), g.data(), m.data(), v.data(), nullptr, n, rule, step.data()); }}};
  const auto mean_loss = [&] {
    double sum = 0;
    for (const float l : loss.to_host()) sum += double{l} / batch;
    return sum;
  };

  for (const Part& p : parts) p.run();
  deepstruct::runtime::synchronize(stream, "step");
  const double error = error_of(net, x, ld, target, g.to_host()), first_loss = mean_loss();
  std::string text = "{";
  for (const Part& p : parts) {
    const double us = bench::time_us(stream, 1, [&](int) { p.run(); });
    std::ostringstream s;
    s.precision(4);
    s << (text.size() > 1 ? ", " : "") << '"' << p.name << "\": " << us;
    text += s.str();
  }
  // Parts alone have moved the parameters; the step begins anew and must learn.
  deepstruct::runtime::copy_to_device(w.data(), parameters.data(), parameters.size() * 4, stream, "parameters");
  for (const Buffer<float>* b : {&m, &v}) deepstruct::runtime::fill(b->data(), 0, b->size() * 4, stream, "zero");
  deepstruct::runtime::fill(step.data(), 0, 4, stream, "zero");
  deepstruct::runtime::synchronize(stream, "parameters");
  const double us = bench::time_us(
      stream, 1,
      [&](int) {
        for (const Part& p : parts) p.run();
      },
      20000);
  const double last_loss = mean_loss();
  std::printf(
      "dag step: %.1f us, parts %s}, dw cut %d threads %d rows %d columns %d lanes %d slabs, rel err %.2g, loss %.3f "
      "then %.4f\n",
      us, text.c_str(), dw_cut.threads, dw_cut.rows, dw_cut.columns, dw_cut.lanes, dw_cut.slabs, error, first_loss,
      last_loss);
  // An edge's column and weight once a tile and pass from L2 (8.8 TB/s), which also brings h and dz.
  const double floor = 3.0 * 8.0 * static_cast<double>(nnz) * static_cast<double>(batch / cut.tile) / 8.8e6;
  const auto rows_of = [&](const char* of, double ours, auto&& more) {
    bool any = false;
    for (const Peer& p : peers) {
      if (p.of != of) continue;
      any = true;
      Row r;
      r.text("case", of)
          .number("ours_us", ours)
          .text("peer", p.name)
          .number("peer_us", p.us)
          .number("ratio", p.us / ours);
      more(r);
      write(r);
      std::printf("%-16s ours %10.1f us, %-28s %10.1f us, ratio %.2f\n", of, ours, p.name.c_str(), p.us, p.us / ours);
    }
    if (any) return;
    Row r;
    r.text("case", of).number("ours_us", ours);
    more(r);
    write(r);
  };
  rows_of("dag_step", us, [&](Row& r) {
    r.number("batch", batch)
        .number("nnz", nnz)
        .number("rel_err", error)
        .number("floor_us", floor)
        .raw("parts", text + "}");
    r.number("loss_before", first_loss).number("loss_after", last_loss);
  });

  for (const std::int64_t size : {std::int64_t{100000}, std::int64_t{1} << 26}) {
    const auto count = static_cast<std::size_t>(size);
    const Buffer<float> a(count), b(count), c(count), e(count);
    for (const Buffer<float>* f : {&a, &b, &c, &e})
      deepstruct::runtime::fill(f->data(), 0x3c, count * 4, stream, "fill");
    const double adam = bench::time_us(stream, 1, [&](int) {
      kernels::adam_step(gpu, a.data(), b.data(), c.data(), e.data(), nullptr, size, rule, step.data());
    });
    std::printf("adam %lld: %.1f us, %.2f TB/s\n", static_cast<long long>(size), adam,
                28e-6 * static_cast<double>(size) / adam);
    rows_of(size == 100000 ? "adam_1e5" : "adam_6.7e7", adam,
            [&](Row& r) { r.number("n", size).number("tb_s", 28e-6 * static_cast<double>(size) / adam); });
  }
  out << "\n]\n";
  return error < 1e-4 ? 0 : 1;
}
