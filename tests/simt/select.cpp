// Selection against std::nth_element and a filter written out.
#include <algorithm>

#include "../../kernels/launchers.hpp"
#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;
constexpr float infinity = std::numeric_limits<float>::infinity();

/// Values of a kind, some of which hardly differ or do not at all.
std::vector<float> values_of_kind(int kind, std::int64_t n, Rng& rng) {
  std::vector<float> v = test::normal(n, rng);
  const Draw draw = rng.draw();
  for (std::size_t i = 0; i < v.size(); ++i) {
    const std::uint32_t word = draw.word(i);
    if (kind == 1) v[i] = static_cast<float>(static_cast<int>(word % 5)) - 2.0f;  // few values, many of each
    if (kind == 2) v[i] = -0.75f;
    if (kind == 3) v[i] = word % 2 ? 0.0f : -0.0f;
    if (kind == 4) v[i] = (word & 1 ? -1.0f : 1.0f) * std::bit_cast<float>(word >> 1 & 0xff);  // denormal
    if (kind == 5) v[i] = word % 3 == 0 ? infinity : word % 3 == 1 ? -infinity : v[i];
    if (kind == 6) v[i] = std::bit_cast<float>(0x3f800000u + (word & 3));  // neighbours
    if (kind == 7) v[i] = word % 2 ? 0.0f : v[i];                          // pruned
    if (kind == 8) v[i] = std::min(v[i], 0.25f);                           // cut off
    if (kind == 9) v[i] = std::bit_cast<float>(word);                      // any bits
    if (kind == 9 && std::isnan(v[i])) v[i] = -0.0f;
  }
  if (kind == 10) std::sort(v.begin(), v.end());
  return v;
}
constexpr int kinds = 11;

/// The values cut into parts of these sizes and one with the rest; the first `ahead` floats behind a multiple of 16
/// bytes, each one `more` floats further than the one before.
struct Parts {
  std::vector<Buffer<float>> memory;
  std::vector<kernels::select_part> views;
  Parts(const std::vector<float>& all, std::vector<std::int64_t> sizes, std::int64_t ahead, std::int64_t more = 1) {
    std::int64_t at = 0, n = static_cast<std::int64_t>(all.size());
    sizes.push_back(n);
    for (std::size_t p = 0; p < sizes.size(); ++p) {
      const std::int64_t size = std::min(sizes[p], n - at), shift = (ahead + more * static_cast<std::int64_t>(p)) % 4;
      std::vector<float> own(static_cast<std::size_t>(shift), -0.5f);
      own.insert(own.end(), all.begin() + at, all.begin() + at + size);
      memory.emplace_back(std::span<const float>(own));
      views.push_back({memory.back().data() + shift, size});
      at += size;
    }
  }
  std::int64_t count() const { return static_cast<std::int64_t>(views.size()); }
};

void expect_nth(const Parts& parts, std::vector<float> all, std::int64_t n, bool magnitude, kernels::select_cut cut,
                int kind) {
  if (magnitude)
    for (float& v : all) v = std::fabs(v);
  std::nth_element(all.begin(), all.begin() + n, all.end());
  const float want = all[static_cast<std::size_t>(n)];
  const auto below = std::count_if(all.begin(), all.end(), [&](float v) { return v < want; });
  const kernels::selected got = kernels::nth_smallest(cuda{}, parts.views.data(), parts.count(), n, magnitude, cut);
  check(got.value == want && got.below == below, "select: got ", got.value, " above ", got.below, " values, want ",
        want, " above ", below, ", n ", n, " of ", all.size(), ", kind ", kind, ", magnitude ", magnitude, ", samples ",
        cut.samples, ", deviations ", cut.deviations);
}
/// Ranks at both ends, near them, and between, also where a run of equal values begins.
std::vector<std::int64_t> ranks_of(std::vector<float> all) {
  const auto size = static_cast<std::int64_t>(all.size());
  std::sort(all.begin(), all.end());
  const auto run = std::lower_bound(all.begin(), all.end(), all[all.size() / 2]) - all.begin();
  std::vector<std::int64_t> ranks{0, size / 2, size - 1, run, run > 0 ? run - 1 : 0};
  if (size > 9) ranks.insert(ranks.end(), {1, size / 10, size - size / 20, size - 2});
  return ranks;
}

const test::Register few("select: the n-th smallest of few values", [] {
  std::uint64_t combination = 0;
  for (const std::int64_t size : {1, 2, 3, 31, 33, 257})
    for (int kind = 0; kind < kinds; ++kind) {
      Rng rng(static_cast<std::uint64_t>(size * kinds + kind));
      const std::vector<float> all = values_of_kind(kind, size, rng);
      const Parts parts(all, {0, size / 3, 0, 0, 1}, kind);
      for (const std::int64_t n : ranks_of(all))
        for (const bool magnitude : {false, true})
          if (test::tried(combination++)) expect_nth(parts, all, n, magnitude, {300, 4, 64, 1}, kind);
    }
});

const test::Register bracket("select: the n-th smallest by a bracket, which may fail", [] {
  std::uint64_t combination = 0;
  for (const std::int64_t size : {301, 9000})
    for (int kind = 0; kind < kinds; ++kind) {
      Rng rng(static_cast<std::uint64_t>(size * kinds + kind));
      const std::vector<float> all = values_of_kind(kind, size, rng);
      const Parts parts(all, {5, 0, size / 2, 0}, kind);
      for (const std::int64_t n : ranks_of(all))
        for (const double deviations : {4.0, 0.5, 0.0}) {
          const auto id = combination++;
          if (test::tried(id))
            expect_nth(parts, all, n, id / 7 % 2 == 0, {300, deviations, 64, id / 14 % 3 ? 1 : 3}, kind);
        }
    }
});

const test::Register all_inside("select: all values inside the bracket", [] {
  Rng rng(2);
  const std::vector<float> all = test::normal(8193, rng);
  const Parts parts(all, {4096, 1}, 0, 0);  // the first thread has 16 values, one, and 16
  expect_nth(parts, all, 4000, false, {300, 1000, 64, 1}, 0);
});

const test::Register chosen("select: the n-th smallest, cut as chosen", [] {
  Rng rng(1);
  const std::vector<float> all = test::normal(21003, rng);
  const Parts parts(all, {4096, 4096, 1}, 0);
  expect_nth(parts, all, 15000, true, kernels::select_cut{}, 0);
  const kernels::selected got = kernels::nth_smallest(cuda{}, parts.views.data(), parts.count(), 10000, false);
  check(std::count_if(all.begin(), all.end(), [&](float v) { return v < got.value; }) == 10000 && got.below == 10000,
        "select: ", got.value, " above ", got.below);
  check(kernels::nth_smallest(cuda{}, nullptr, 0, 0, false).below == 0, "select: nothing of nothing");
});

/// What keep_edges says, beside a filter.
void expect_kept(csr_view m, const test::DevicePattern& pattern, const std::vector<float>& saliency, float limit,
                 std::int64_t ties, bool magnitude, std::int32_t threads) {
  const auto nnz = static_cast<std::size_t>(m.nnz);
  std::vector<std::int32_t> start{0}, col, old_edge;
  std::int64_t equal = 0;
  for (std::int64_t r = 0; r < m.rows; ++r) {
    for (std::int32_t e = m.start[r]; e < m.start[r + 1]; ++e) {
      const float v = magnitude ? std::fabs(saliency[e]) : saliency[e];
      if (v < limit || (v == limit && equal++ < ties)) continue;
      col.push_back(m.col[e]);
      old_edge.push_back(e);
    }
    start.push_back(static_cast<std::int32_t>(col.size()));
  }
  const auto left = static_cast<std::int64_t>(col.size());
  col.resize(nnz, -1), old_edge.resize(nnz, -1);

  const Buffer<float> s{std::span<const float>(saliency)};
  const Buffer<std::int32_t> got_start(static_cast<std::size_t>(m.rows) + 1), got_col(nnz), got_edge(nnz);
  for (const Buffer<std::int32_t>* b : {&got_start, &got_col, &got_edge})
    runtime::fill(b->data(), 0xff, b->size() * 4, nullptr, "unset");
  std::int64_t got_equal = -1;
  const std::int64_t got = kernels::keep_edges(cuda{}, pattern.view, s.data(), limit, ties, magnitude, got_start.data(),
                                               got_col.data(), got_edge.data(), &got_equal, threads);
  const auto same = [&](const char* what, const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b) {
    const auto at = std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin();
    if (at < static_cast<std::ptrdiff_t>(a.size()))
      fail("keep: ", what, " is ", a[at], ", not ", b[at], " at ", at, ", limit ", limit, ", ties ", ties, ", nnz ",
           nnz, ", threads ", threads);
  };
  check(got == left && got_equal == equal, "keep: ", got, " edges and ", got_equal, " equal, not ", left, " and ",
        equal, ", limit ", limit, ", ties ", ties, ", nnz ", nnz, ", threads ", threads);
  same("start", got_start.to_host(), start);
  same("col", got_col.to_host(), col);
  same("old_edge", got_edge.to_host(), old_edge);
}

const test::Register keep("select: the edges that stay", [] {
  struct Size {
    std::int64_t rows, cols;
    double density;
  };
  std::uint64_t combination = 0;
  for (const Size size : {Size{0, 3, 1}, Size{3, 0, 1}, Size{5, 4, 0}, Size{1, 1, 1}, Size{4, 128, 1}, Size{1, 1030, 1},
                          Size{700, 3, .4}, Size{40, 90, .5}}) {
    Rng rng(static_cast<std::uint64_t>(size.rows * 7 + size.cols));
    const Draw draw = rng.draw();
    const test::Pattern pattern(size.rows, size.cols, [&](std::int64_t r, std::int64_t c) {
      return draw.uniform(static_cast<std::uint64_t>(r * size.cols + c)) < size.density;
    });
    const test::DevicePattern device(pattern.by_row());
    for (const int kind : {0, 1, 2, 3, 5}) {
      const std::vector<float> saliency = values_of_kind(kind, pattern.nnz(), rng);
      for (const float limit : {-infinity, -1.0f, -0.75f, -0.0f, 1.0f, infinity})
        for (const std::int64_t ties :
             {std::int64_t{0}, std::int64_t{1}, std::int64_t{512}, pattern.nnz() / 3, pattern.nnz() + 1})
          for (const bool magnitude : {false, true})
            if (test::tried(combination++))
              expect_kept(pattern.by_row(), device, saliency, limit, ties, magnitude, combination % 5 == 0 ? 256 : 32);
    }
  }
});

const test::Register keep_many("select: more edges than one step of the scan", [] {
  constexpr std::int64_t rows = 1400, cols = 100;  // 274 chunks of 512 edges, 256 at a time
  const test::Pattern pattern(rows, cols, [](std::int64_t, std::int64_t) { return true; });
  const test::DevicePattern device(pattern.by_row());
  Rng rng(5);
  const std::vector<float> saliency = values_of_kind(1, pattern.nnz(), rng);
  expect_kept(pattern.by_row(), device, saliency, 1, 27000, false, 32);  // the last tie lies in the second step
  expect_kept(pattern.by_row(), device, saliency, 0, 7, true, 32);
});

}  // namespace
