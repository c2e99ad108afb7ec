// Launchers of selection.
#include "select.cuh"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

#include "launchers.hpp"
#include "runtime.hpp"
#include "sizes.hpp"

namespace deepstruct::kernels {
namespace {

using runtime::Buffer;

/// The ranks in a sample between which the n-th smallest of all lies but for one case in 10⁴, and how many values then
/// lie between at most, with the same certainty: counts have binomial variances, or less as each share of the values
/// has one of the sample.
struct sample_plan {
  std::int64_t low, high, room;
};
sample_plan plan_of(std::int64_t n, std::int64_t size, select_cut cut) {
  const double samples = cut.samples, at = (static_cast<double>(n) + 0.5) / static_cast<double>(size) * samples;
  const double half = cut.deviations * (std::sqrt(std::max(0.0, at * (1 - at / samples))) + 1.3);
  sample_plan plan{static_cast<std::int64_t>(std::floor(at - half)), static_cast<std::int64_t>(std::ceil(at + half)),
                   0};
  const auto width =
      static_cast<double>(std::min<std::int64_t>(plan.high, cut.samples) - std::max<std::int64_t>(plan.low, -1));
  const double most = (width + cut.deviations * (std::sqrt(width) + 2)) / samples * static_cast<double>(size);
  plan.room = static_cast<std::int64_t>(std::min(std::ceil(most), static_cast<double>(size)));
  return plan;
}

/// Passes of digits over what `count` counts, until one value is left.
template <class Count>
void choose_digits(cuda gpu, device::selection* s, unsigned threads, Count&& count) {
  for (int pass = 0; pass < 3; ++pass) {
    count();
    runtime::launch("nth_smallest", &device::choose_digit, 1, threads, 0, gpu.stream, s);
  }
}
/// The range that a selection ended with, waited for.
device::key_range range_of(cuda gpu, const device::key_range* range) {
  device::key_range host{};
  runtime::copy_to_host(&host, range, sizeof host, gpu.stream, "nth_smallest");
  runtime::synchronize(gpu.stream, "nth_smallest");
  return host;
}
selected found_in(device::key_range range) {
  const std::uint32_t bits = range.base ^ (range.base >> 31 ? 0x80000000u : 0xffffffffu);
  return {std::bit_cast<float>(bits), range.less};
}

}  // namespace

selected nth_smallest(cuda gpu, const select_part* parts, std::int64_t count, std::int64_t n, bool magnitude,
                      select_cut cut) {
  constexpr const char* op = "nth_smallest";
  std::vector<device::part_entry> entries;
  std::int64_t size = 0, chunks = 0;
  for (const select_part* part = parts; part < parts + count; ++part) {
    if (part->size == 0) continue;
    const auto ahead = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(part->data) / sizeof(float) % 4);
    entries.push_back({part->data, part->size, ahead, size, chunks});
    size += part->size;
    chunks += ceil_div(ahead + part->size, device::chunk_values);
  }
  if (size == 0) return {};
  const std::int64_t samples = std::min<std::int64_t>(size, cut.samples);
  const Buffer<device::part_entry> table(entries.size(), gpu.stream, op);
  const Buffer<float> sample(static_cast<std::size_t>(samples), gpu.stream, op);
  const Buffer<device::selection> noted(1, gpu.stream, op);
  device::selection* s = noted.data();
  runtime::copy_to_device(table.data(), entries.data(), entries.size() * sizeof(device::part_entry), gpu.stream, op);
  runtime::fill(s, 0, sizeof *s, gpu.stream, op);
  const device::part_table all{table.data(), static_cast<std::int64_t>(entries.size()), chunks};
  const device::key_range any = magnitude ? device::key_range{0x80000000u, 31, n, 0} : device::key_range{0, 32, n, 0};
  const auto threads = static_cast<unsigned>(cut.threads),
             of_all = static_cast<unsigned>(std::min<std::int64_t>(chunks, cut.blocks));

  runtime::launch(op, &device::draw_sample, static_cast<unsigned>(ceil_div(samples, 256)), 256, 0, gpu.stream, all,
                  size, static_cast<std::int32_t>(samples), magnitude, sample.data());
  const auto select_few = [&](unsigned blocks, std::int64_t rank0, std::int64_t rank1) {
    runtime::launch(op, &device::select_few, blocks, threads, 0, gpu.stream, sample.data(),
                    static_cast<std::int32_t>(samples), any, rank0, rank1, &s->low);
  };
  if (samples == size) {
    select_few(1, n, n);
    return found_in(range_of(gpu, &s->low));
  }

  const sample_plan plan = plan_of(n, size, cut);
  select_few(2, plan.low, plan.high);
  const Buffer<float> kept(static_cast<std::size_t>(plan.room), gpu.stream, op);
  runtime::launch(op, magnitude ? &device::collect<true> : &device::collect<false>, of_all, device::chunk_threads, 0,
                  gpu.stream, all, s, kept.data(), plan.room);
  runtime::launch(op, &device::locate, 1, 1, 0, gpu.stream, s, n, plan.room);
  const auto blocks = static_cast<unsigned>(std::clamp<std::int64_t>(plan.room / 4096, 1, 132));
  choose_digits(gpu, s, threads, [&] {
    runtime::launch(op, &device::count_kept, blocks, threads, 0, gpu.stream, kept.data(), magnitude, s);
  });
  device::key_range found = range_of(gpu, &s->range);
  if (found.bits != 0) {
    runtime::copy_to_device(&s->range, &any, sizeof any, gpu.stream, op);
    choose_digits(gpu, s, threads, [&] {
      runtime::launch(op, &device::count_all, of_all, device::chunk_threads, 0, gpu.stream, all, magnitude, s);
    });
    found = range_of(gpu, &s->range);
  }
  return found_in(found);
}
selected nth_smallest(cuda gpu, const select_part* parts, std::int64_t count, std::int64_t n, bool magnitude) {
  return nth_smallest(gpu, parts, count, n, magnitude, select_cut{});
}

std::int64_t keep_edges(cuda gpu, csr_view m, const float* saliency, float limit, std::int64_t ties, bool magnitude,
                        std::int32_t* start, std::int32_t* col, std::int32_t* old_edge, std::int64_t* equal,
                        std::int32_t threads) {
  constexpr const char* op = "keep_edges";
  device::edge_line host{};
  if (m.nnz == 0) {
    runtime::fill(start, 0, (static_cast<std::size_t>(m.rows) + 1) * sizeof *start, gpu.stream, op);
  } else {
    const std::int64_t chunks = ceil_div(m.nnz, threads * device::thread_edges);
    const auto blocks = static_cast<unsigned>(chunks), of_block = static_cast<unsigned>(threads);
    const Buffer<device::edge_counts> counts(static_cast<std::size_t>(chunks), gpu.stream, op);
    const Buffer<std::int32_t> first(static_cast<std::size_t>(chunks), gpu.stream, op);
    const Buffer<device::edge_line> line(1, gpu.stream, op);
    runtime::launch(op, magnitude ? &device::count_edges<true> : &device::count_edges<false>, blocks, of_block, 0,
                    gpu.stream, saliency, m.nnz, limit, counts.data());
    runtime::launch(op, magnitude ? &device::place_chunks<true> : &device::place_chunks<false>, 1, of_block, 0,
                    gpu.stream, counts.data(), chunks, saliency, m.nnz, limit, ties, first.data(), line.data());
    runtime::launch(op, magnitude ? &device::move_edges<true> : &device::move_edges<false>, blocks, of_block, 0,
                    gpu.stream, m, saliency, limit, line.data(), first.data(), start, col, old_edge);
    runtime::copy_to_host(&host, line.data(), sizeof host, gpu.stream, op);
  }
  runtime::synchronize(gpu.stream, op);
  if (equal) *equal = host.equal;
  return host.left;
}
std::int64_t keep_edges(cuda gpu, csr_view m, const float* saliency, float limit, std::int64_t ties, bool magnitude,
                        std::int32_t* start, std::int32_t* col, std::int32_t* old_edge, std::int64_t* equal) {
  return keep_edges(gpu, m, saliency, limit, ties, magnitude, start, col, old_edge, equal, 256);
}

}  // namespace deepstruct::kernels
