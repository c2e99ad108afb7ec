// Selection: the n-th smallest magnitude of 1e8 normal weights in 50 parts, and the edges of a 4096 × 4096 pattern that
// stay. Calls wait for their result, so the times are those that the host sees.
// Usage: select OUT.json [PEER]   (PEER.bin: the weights, PEER.txt: lines "case name microseconds result", of
// select_peer.py)
#include <fstream>
#include <iostream>
#include <random>

#include "../../kernels/launchers.hpp"
#include "measure.hpp"

namespace {

using bench::Buffer;
using bench::Row;
namespace kernels = deepstruct::kernels;

constexpr std::int64_t parts = 50, part_size = 2000000, side = 4096;

struct Peer {
  std::string of, name;
  double us, result;
};

std::vector<float> weights_of(const std::string& file) {
  std::vector<float> w(static_cast<std::size_t>(parts * part_size));
  const auto bytes = static_cast<std::streamsize>(w.size() * sizeof(float));
  std::ifstream in(file, std::ios::binary);
  if (in.read(reinterpret_cast<char*>(w.data()), bytes)) return w;
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  for (float& v : w) v = normal(random);
  return w;
}

/// The n-th smallest magnitude and how many are less, by the host.
kernels::selected exact(const std::vector<float>& w, std::int64_t n) {
  std::vector<float> all(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) all[i] = std::fabs(w[i]);
  std::nth_element(all.begin(), all.begin() + n, all.end());
  const float value = all[static_cast<std::size_t>(n)];
  return {value, std::count_if(all.begin(), all.begin() + n, [&](float v) { return v < value; })};
}

}  // namespace

int main(int argc, char** argv) {
  deepstruct::check(argc > 1, "usage: select OUT.json [PEER]");
  const std::string peer = argc > 2 ? argv[2] : "";
  std::vector<Peer> peers;
  std::ifstream lines(peer + ".txt");
  for (Peer p; lines >> p.of >> p.name >> p.us >> p.result;) peers.push_back(p);
  std::ofstream out(argv[1]);
  out << "[\n";
  int written = 0, wrong = 0;

  cudaStream_t stream;
  bench::require(cudaStreamCreate(&stream), "stream");
  const deepstruct::cuda gpu{stream};
  bench::Watch watch(stream);
  const auto time_us = [&](auto&& call) {
    std::vector<double> all;
    for (int i = 0; i < 23; ++i) {
      const double us = watch.time(call);
      if (i >= 3) all.push_back(us);
    }
    return bench::median(std::move(all));
  };

  std::vector<float> w = weights_of(peer + ".bin");
  std::vector<Buffer<float>> memory;
  std::vector<kernels::select_part> views;
  for (std::int64_t p = 0; p < parts; ++p) {
    memory.emplace_back(std::span<const float>(w.data() + p * part_size, part_size), stream, "weights");
    views.push_back({memory.back().data(), part_size});
  }
  const Buffer<float> a(w.size(), stream), b(w.size(), stream);
  const double bytes = 4.0 * static_cast<double>(w.size());
  const double copy = 2 * bytes / time_us([&] {
                        deepstruct::runtime::copy_on_device(b.data(), a.data(), w.size() * 4, stream, "copy");
                      });  // bytes a microsecond

  // A row to each peer, or one without.
  const auto rows_of = [&](const std::string& of, double us, double result, bool right, auto&& more) {
    if (!right) ++wrong;
    bool any = false;
    const auto row = [&](const Peer* p) {
      Row r;
      r.text("case", of).number("ours_us", us);
      if (p) r.text("peer", p->name).number("peer_us", p->us).number("ratio", p->us / us);
      if (p) r.raw("same_result", p->result == result ? "true" : "false");
      r.raw("exact", right ? "true" : "false");
      more(r);
      out << (written++ ? ",\n" : "") << r.str() << std::flush;
      std::printf("%-24s ours %9.1f us%s\n", of.c_str(), us, right ? "" : ", WRONG");
      if (p)
        std::printf("  %-28s %9.1f us, ratio %.1f, %s result\n", p->name.c_str(), p->us, p->us / us,
                    p->result == result ? "same" : "ANOTHER");
      if (p && p->result != result) ++wrong;
    };
    for (const Peer& p : peers)
      if (p.of == of) any = true, row(&p);
    if (!any) row(nullptr);
  };
  const auto select = [&](const std::string& of, std::int64_t count, std::int64_t n, const kernels::selected* want,
                          double marginal_from) {
    kernels::selected got;
    const double us = time_us([&] { got = kernels::nth_smallest(gpu, views.data(), count, n, true); });
    const double read = 4.0 * static_cast<double>(count * part_size);
    rows_of(of, us, static_cast<double>(got.value), !want || (got.value == want->value && got.below == want->below),
            [&](Row& r) {
              r.number("n", count * part_size).number("tb_s", read / us * 1e-6);
              r.number("share_of_copy", read / us / copy);
              // What the second half of the values takes: without the launches before and after.
              if (marginal_from > 0)
                r.number("marginal_tb_s", read / 2 / (us - marginal_from) * 1e-6)
                    .number("marginal_share_of_copy", read / 2 / (us - marginal_from) / copy);
            });
    std::printf("  %lld values: %.2f TB/s", static_cast<long long>(count * part_size), read / us * 1e-6);
    if (marginal_from > 0) std::printf(", the second half %.2f", read / 2 / (us - marginal_from) * 1e-6);
    std::printf(", a copy %.2f\n", copy * 1e-6);
    return us;
  };
  const std::int64_t all = parts * part_size;
  for (const int percent : {50, 90}) {
    const std::string name = "nth_smallest_p" + std::to_string(percent);
    const double half = select(name + "_5e7", parts / 2, all / 200 * percent, nullptr, 0);
    const kernels::selected want = exact(w, all / 100 * percent);
    (void)select(name + "_1e8", parts, all / 100 * percent, &want, half);
  }
  (void)select("nth_smallest_p90_2e6", 1, part_size / 10 * 9, nullptr, 0);

  // Edges first, while the weights are normal.
  {
    std::vector<std::int32_t> start, col;
    for (std::int64_t r = 0; r <= side; ++r) start.push_back(static_cast<std::int32_t>(r * side));
    for (std::int64_t e = 0; e < side * side; ++e) col.push_back(static_cast<std::int32_t>(e % side));
    const Buffer<std::int32_t> d_start{std::span<const std::int32_t>(start)}, d_col{std::span<const std::int32_t>(col)},
        to_start(start.size()), to_col(col.size()), to_edge(col.size());
    const auto nnz = static_cast<std::int64_t>(col.size());
    const Buffer<float> s(std::span<const float>(w.data(), col.size()));
    for (const int percent : {50, 90, 98}) {
      const kernels::select_part one{s.data(), nnz};
      const float limit = kernels::nth_smallest(gpu, &one, 1, nnz * percent / 100, true).value;
      std::int64_t left = 0;
      const double us = time_us([&] {
        left = kernels::keep_edges(gpu, {d_start.data(), d_col.data(), nullptr, side, side, nnz}, s.data(), limit, 0,
                                   true, to_start.data(), to_col.data(), to_edge.data());
      });
      const auto got_start = to_start.to_host(), got_col = to_col.to_host(), got_edge = to_edge.to_host();
      bool right = true;
      std::int64_t kept = 0, sum = 0;
      for (std::int64_t e = 0; e < nnz; ++e) {
        if (e % side == 0) right = right && got_start[e / side] == kept;
        if (std::fabs(w[e]) < limit) continue;
        right = right && kept < left && got_col[kept] == col[e] && got_edge[kept] == e;
        sum += ++kept * col[e];
      }
      right = right && kept == left && got_start[side] == left;
      const double moved = 4.0 * static_cast<double>(3 * nnz + 2 * left);  // saliency twice, columns, what is written
      rows_of("keep_edges_p" + std::to_string(percent), us, static_cast<double>(sum), right, [&](Row& r) {
        r.number("nnz", nnz).number("left", left).number("tb_s", moved / us * 1e-6);
        r.number("share_of_copy", moved / us / copy);
      });
      std::printf("  %.2f TB/s\n", moved / us * 1e-6);
    }
  }

  // Equal values: nine tenths 0, and all of them.
  for (std::size_t i = 0; i < w.size(); ++i)
    if (i % 10 != 3) w[i] = 0;
  for (std::int64_t p = 0; p < parts; ++p)
    deepstruct::runtime::copy_to_device(memory[p].data(), w.data() + p * part_size, part_size * 4, stream, "weights");
  const kernels::selected zero = exact(w, all / 2), next = exact(w, all / 100 * 95);
  (void)select("nth_smallest_zeros_p50", parts, all / 2, &zero, 0);
  (void)select("nth_smallest_zeros_p95", parts, all / 100 * 95, &next, 0);
  for (const Buffer<float>& m : memory) deepstruct::runtime::fill(m.data(), 0x3c, m.size() * 4, stream, "equal");
  (void)select("nth_smallest_equal", parts, all / 2, nullptr, 0);
  out << "\n]\n";
  return wrong == 0 ? 0 : 1;
}
