// Kernels that move elements, beside plain loops: all of them exact.
#include <algorithm>
#include <array>

#include <deepstruct/core/nest.hpp>
#include <deepstruct/kernels/contract.hpp>

#include "../../kernels/nest.cuh"
#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;
using Strides = std::array<std::int64_t, Shape::max_rank>;

/// Divisions of `n` numbers that end at a last one.
__global__ void divide(kernels::divisor d, std::int64_t last, std::int64_t* quotients) {
  quotients[threadIdx.x] = kernels::device::quotient(last - static_cast<std::int64_t>(threadIdx.x), d);
}

template <class T>
Buffer<T> move_on_device(const std::vector<T>& v) {
  return Buffer<T>(std::span<const T>(v));
}
/// These cases are quick: more of the combinations than elsewhere.
bool move_tried(std::uint64_t i) {
  return test::tried(i) || test::tried(i + 8) || test::tried(i + 16) || test::tried(i + 24) || test::tried(i + 32);
}
/// Different numbers, each exact.
std::vector<float> move_numbers(std::int64_t n) {
  std::vector<float> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i) + 1;
  return v;
}
void expect_same(const std::vector<float>& got, const std::vector<float>& want, const char* what, std::uint64_t at) {
  for (std::size_t i = 0; i < want.size(); ++i)
    check(got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])), what, ": got ", got[i], ", want ", want[i],
          " at ", i, ", combination ", at);
}
/// Calls body with the offsets of every element, in loop order.
template <int Operands, class Body>
void move_walk(const nest<Operands>& n, Body&& body) {
  for (std::int64_t i3 = 0; i3 < n.extent[3]; ++i3)
    for (std::int64_t i2 = 0; i2 < n.extent[2]; ++i2)
      for (std::int64_t i1 = 0; i1 < n.extent[1]; ++i1)
        for (std::int64_t i0 = 0; i0 < n.extent[0]; ++i0) {
          std::array<std::int64_t, Operands> at{};
          for (int o = 0; o < Operands; ++o)
            at[static_cast<std::size_t>(o)] =
                i0 * n.stride[o][0] + i1 * n.stride[o][1] + i2 * n.stride[o][2] + i3 * n.stride[o][3];
          body(at);
        }
}

const test::Register divisions("move: division by a number known before", [] {
  for (const std::int64_t by : {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{7}, std::int64_t{641},
                                std::int64_t{65536}, std::int64_t{1000003}, (std::int64_t{1} << 30) + 1,
                                (std::int64_t{1} << 31) - 1, std::int64_t{1} << 31, std::int64_t{1} << 38})
    for (const std::int64_t last : {std::int64_t{31}, std::int64_t{6410}, (std::int64_t{1} << 31) - 1,
                                    std::int64_t{1} << 31, (std::int64_t{1} << 39) + 5}) {
      const Buffer<std::int64_t> out(32);
      runtime::launch("divide", &divide, 1, 32, 0, nullptr, kernels::divisor_of(by, last + 1), last, out.data());
      const auto got = out.to_host();
      for (int i = 0; i < 32; ++i)
        check(got[static_cast<std::size_t>(i)] == (last - i) / by, "division: ", last - i, " by ", by, " gives ",
              got[static_cast<std::size_t>(i)]);
    }
});

/// y = x by the nest, from x + x_first to y + y_first, and nothing else of y.
void try_copy(std::int64_t x_size, std::int64_t x_first, std::int64_t y_size, std::int64_t y_first, const nest<2>& n,
              std::uint64_t combination) {
  const auto x = move_numbers(x_size);
  std::vector<float> y(static_cast<std::size_t>(y_size), -1);
  const Buffer<float> from = move_on_device(x), to = move_on_device(y);
  kernels::copy(cuda{}, from.data() + x_first, to.data() + y_first, n);
  move_walk(
      n, [&](auto at) { y[static_cast<std::size_t>(y_first + at[0])] = x[static_cast<std::size_t>(x_first + at[1])]; });
  expect_same(to.to_host(), y, "copy", combination);
}

const test::Register copies("move: copies of slices, broadcasts and permutations", [] {
  const std::vector<Shape> shapes = {Shape{},           Shape{1},          Shape{70},           Shape{0, 3},
                                     Shape{5, 1},       Shape{33, 7},      Shape{64, 3, 5},     Shape{1, 9, 35},
                                     Shape{32, 0, 2},   Shape{6, 5, 4, 3}, Shape{130, 2, 3, 2}, Shape{40, 34, 3},
                                     Shape{1, 8, 3, 70}};
  std::uint64_t combination = 0;
  for (const Shape& s : shapes) {
    std::array<int, 4> order = {0, 1, 2, 3};
    do {  // y[i…] = x[i permuted]
      bool within = true;
      for (int k = s.rank(); k < 4; ++k) within &= order[static_cast<std::size_t>(k)] == k;
      if (!within || !move_tried(++combination)) continue;
      Shape to = s;
      if (s.rank() > 0) {
        std::vector<std::int64_t> extents;
        for (int k = 0; k < s.rank(); ++k) extents.push_back(s[order[static_cast<std::size_t>(k)]]);
        to = Shape(std::span<const std::int64_t>(extents));
      }
      Strides from{};
      for (int k = 0; k < s.rank(); ++k)
        from[static_cast<std::size_t>(k)] = s.stride(order[static_cast<std::size_t>(k)]);
      try_copy(s.storage(), 0, to.storage(), 0, make_nest<2>(to, {strides_of(to), from}), combination);
    } while (std::next_permutation(order.begin(), order.end()));
    if (s.rank() == 0) continue;
    for (int k = 0; k < s.rank(); ++k) {
      if (!move_tried(++combination)) continue;
      // Every second one of extent k from 1 on, out of x and into y; broadcast along k.
      std::vector<std::int64_t> extents(s.extents().begin(), s.extents().end());
      const auto at = static_cast<std::size_t>(k);
      extents[at] = s[k] / 2;
      const Shape part{std::span<const std::int64_t>(extents)};
      Strides step = strides_of(s);
      step[at] *= 2;
      try_copy(s.storage(), s.stride(k), part.storage(), 0, make_nest<2>(part, {strides_of(part), step}), combination);
      try_copy(part.storage(), 0, s.storage(), s.stride(k), make_nest<2>(part, {step, strides_of(part)}), combination);
      extents[at] = 1;
      const Shape one{std::span<const std::int64_t>(extents)};
      try_copy(one.storage(), 0, s.storage(), 0, make_nest<2>(s, {strides_of(s), broadcast_strides(one, s)}),
               combination);
    }
  }
});

const test::Register many("move: more than the chip's threads take at once", [] {
  const std::int64_t blocks = 8 * std::int64_t{runtime::properties().processors}, n = 3 * blocks * 256 + 300;
  const std::vector<float> x = move_numbers(n);
  std::vector<std::int32_t> index(x.size());
  for (std::size_t i = 0; i < index.size(); ++i) index[i] = static_cast<std::int32_t>(i * 7 % index.size());
  std::vector<float> y(x.size()), dx(x.size());
  const Buffer<float> in = move_on_device(x), out(x.size());
  const Buffer<std::int32_t> which = move_on_device(index);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = x[static_cast<std::size_t>(index[i])];

  nest<2> backwards;
  backwards.extent[0] = n, backwards.stride[0][0] = 1, backwards.stride[1][0] = -1;
  kernels::copy(cuda{}, in.data() + n - 1, out.data(), backwards);
  expect_same(out.to_host(), {x.rbegin(), x.rend()}, "copy", 0);
  nest<3> all;
  all.extent[0] = n, all.stride[0][0] = all.stride[2][0] = 1;
  kernels::gather(cuda{}, in.data(), which.data(), out.data(), all, 1);
  expect_same(out.to_host(), y, "gather", 0);
  kernels::remap(cuda{}, in.data(), which.data(), out.data(), n);
  expect_same(out.to_host(), y, "remap", 0);

  all.stride[1][0] = 1;  // indices are multiplied by 0, no two destinations meet
  runtime::fill(out.data(), 0, out.size() * sizeof(float), nullptr, "out");
  kernels::scatter_add(cuda{}, in.data(), which.data(), out.data(), all, 0);
  expect_same(out.to_host(), x, "scatter_add", 0);

  nest<2> small;  // transpositions of 8 × 8, each a tile
  small.extent[0] = 8, small.stride[0][0] = 1, small.stride[1][0] = 8;
  small.extent[1] = 8, small.stride[0][1] = 8, small.stride[1][1] = 1;
  small.extent[2] = 2 * blocks + 5, small.stride[0][2] = small.stride[1][2] = 64;
  kernels::copy(cuda{}, in.data(), out.data(), small);
  const auto turned = out.to_host();
  for (std::int64_t i = 0; i < 64 * small.extent[2]; ++i) {
    const std::int64_t from = i / 64 * 64 + i % 8 * 8 + i / 8 % 8;
    check(turned[static_cast<std::size_t>(i)] == x[static_cast<std::size_t>(from)], "copy: tiles: got ",
          turned[static_cast<std::size_t>(i)], " at ", i);
  }
});

const test::Register many_rows("move: more rows than the chip's threads take at once", [] {
  const std::int64_t rows = 2 * 8 * std::int64_t{runtime::properties().processors} * 32 + 40;
  const test::Pattern p(rows, 2, [](auto r, auto c) { return r % 3 == c; });
  Rng rng(8);
  const test::Matrix w = test::Matrix::normal(rows, 2, rng);
  const test::DevicePattern mask(p.by_row());
  const test::DeviceMatrix in(w), out(rows, 2);
  const Buffer<float> values(static_cast<std::size_t>(p.nnz()));
  kernels::pick_edges(cuda{}, in.cview(), mask.view, values.data());
  kernels::place_edges(cuda{}, values.data(), mask.view, out.view());
  const auto picked = values.to_host();
  const test::Matrix placed = out.to_host();
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < 2; ++c)
      check(placed(r, c) == (r % 3 == c ? w(r, c) : 0), "place_edges: got ", placed(r, c), " at (", r, ", ", c, ")");
  check(picked.back() == w(rows - 1, (rows - 1) % 3) || (rows - 1) % 3 == 2, "pick_edges: got ", picked.back());
});

const test::Register odd_copies("move: copies that begin and end anywhere", [] {
  for (const std::int64_t x_first : {0, 1, 4})
    for (const std::int64_t y_first : {0, 3, 4})
      for (const std::int64_t run : {0, 1, 8, 300}) {
        nest<2> n;
        n.depth = 1, n.extent[0] = run, n.stride[0][0] = n.stride[1][0] = 1;
        try_copy(run + x_first, x_first, run + y_first + 2, y_first, n, static_cast<std::uint64_t>(run));
        n.depth = 2, n.extent[1] = 3, n.stride[0][1] = run + 1, n.stride[1][1] = 0;
        try_copy(run + x_first, x_first, 3 * run + y_first + 5, y_first, n, static_cast<std::uint64_t>(run));
      }
});

const test::Register reshapes("move: reshape keeps row-major order", [] {
  const std::int64_t extents[][2] = {{1, 720}, {720, 1}, {5, 144}, {144, 5}, {16, 45}, {45, 16}, {48, 15},
                                     {72, 10}, {10, 72}, {80, 9},  {9, 80},  {3, 240}, {2, 360}};
  std::uint64_t combination = 0;
  for (const auto& from : extents)
    for (const auto& to : extents) {
      if (!move_tried(++combination)) continue;
      test::Matrix x(from[0], from[1]);
      for (std::int64_t b = 0; b < from[0]; ++b)
        for (std::int64_t c = 0; c < from[1]; ++c) x(b, c) = static_cast<float>(b * from[1] + c);
      const test::DeviceMatrix in(x), out(to[0], to[1]);
      kernels::reshape(cuda{}, in.cview(), out.view());
      const test::Matrix y = out.to_host();
      for (std::int64_t b = 0; b < to[0]; ++b)
        for (std::int64_t c = 0; c < to[1]; ++c)
          check(y(b, c) == static_cast<float>(b * to[1] + c), "reshape: got ", y(b, c), " at (", b, ", ", c, ") of ",
                from[0], " x ", from[1], " as ", to[0], " x ", to[1]);
    }
  const test::DeviceMatrix empty(0, 7), other(7, 0);
  kernels::reshape(cuda{}, empty.cview(), other.view());
});

const test::Register transposes("move: transpose", [] {
  std::uint64_t combination = 0;
  for (const std::int64_t samples : {0, 1, 5, 31, 32, 33, 64, 70, 130})
    for (const std::int64_t features : {0, 1, 3, 16, 32, 65}) {
      if (!move_tried(++combination)) continue;
      Rng rng(combination);
      const test::Matrix x = test::Matrix::normal(samples, features, rng);
      const test::DeviceMatrix in(x), out(features, samples);
      kernels::transpose(cuda{}, in.cview(), out.view());
      const test::Matrix y = out.to_host();
      for (std::int64_t b = 0; b < samples; ++b)
        for (std::int64_t c = 0; c < features; ++c)
          check(y(c, b) == x(b, c), "transpose: got ", y(c, b), ", want ", x(b, c), " of ", samples, " x ", features);
    }
});

const test::Register gathers("move: gather and scatter_add, in loop order", [] {
  const std::vector<Shape> shapes = {Shape{7},          Shape{40, 9},     Shape{1, 60},     Shape{33, 3, 5},
                                     Shape{2, 3, 4, 5}, Shape{64, 2, 17}, Shape{1, 300, 2}, Shape{5, 0, 3}};
  std::uint64_t combination = 0;
  for (const Shape& s : shapes)
    for (int dim = 0; dim < s.rank(); ++dim)
      for (const std::int64_t picks : {0, 1, 6, 50}) {
        if (!move_tried(++combination) || (s[dim] == 0 && picks > 0)) continue;
        // Along dim as many as are picked, along others one less than x has (or as many).
        std::vector<std::int64_t> extents;
        for (int k = 0; k < s.rank(); ++k) extents.push_back(k == dim ? picks : k == 1 && s[k] > 2 ? s[k] - 1 : s[k]);
        const Shape of_index{std::span<const std::int64_t>(extents)};
        Rng rng(combination);
        const Draw draw = rng.draw();
        std::vector<std::int32_t> index(static_cast<std::size_t>(of_index.storage()), 1 << 30);  // padding: anywhere
        Strides from = strides_of(s);
        const std::int64_t stride = from[static_cast<std::size_t>(dim)];
        from[static_cast<std::size_t>(dim)] = 0;
        const auto n = make_nest<3>(of_index, {strides_of(of_index), from, strides_of(of_index)});
        move_walk(n, [&](auto at) {
          const auto i = static_cast<std::size_t>(at[2]);
          index[i] = static_cast<std::int32_t>(draw.uniform(i) * static_cast<float>(s[dim])) % static_cast<int>(s[dim]);
        });
        const auto x = test::normal(s.storage(), rng), dy = test::normal(of_index.storage(), rng);
        std::vector<float> y(dy.size(), -1), dx = x;
        const Buffer<float> in = move_on_device(x), out = move_on_device(y), above = move_on_device(dy),
                            below = move_on_device(dx);
        const Buffer<std::int32_t> which = move_on_device(index);
        move_walk(n, [&](auto at) {
          const std::int64_t place = at[1] + index[static_cast<std::size_t>(at[2])] * stride;
          y[static_cast<std::size_t>(at[0])] = x[static_cast<std::size_t>(place)];
          dx[static_cast<std::size_t>(place)] += dy[static_cast<std::size_t>(at[0])];  // in float: the order shows
        });
        kernels::gather(cuda{}, in.data(), which.data(), out.data(), n, stride);
        kernels::scatter_add(cuda{}, above.data(), which.data(), below.data(), n, stride);
        expect_same(out.to_host(), y, "gather", combination);
        expect_same(below.to_host(), dx, "scatter_add", combination);
      }
});

const test::Register meetings("move: scatter_add where all indices are one", [] {
  // One line, its terms shared out; a stride of 0, which leaves nothing to share out; and two loops that meet.
  const std::int64_t terms = 400;
  Rng rng(3);
  const auto dy = test::normal(terms, rng);
  for (const bool spread : {false, true})
    for (const std::int64_t stride : {0, 1, 3}) {
      std::vector<std::int32_t> index(static_cast<std::size_t>(terms));
      for (std::size_t i = 0; i < index.size(); ++i) index[i] = spread ? static_cast<std::int32_t>(i * i % 7) : 4;
      std::vector<float> dx(20, 0.25f);
      const Buffer<float> above = move_on_device(dy), below = move_on_device(dx);
      const Buffer<std::int32_t> which = move_on_device(index);
      nest<3> n;
      n.depth = 2;
      n.extent[0] = 8, n.stride[0][0] = n.stride[2][0] = 1;
      n.extent[1] = terms / 8, n.stride[0][1] = n.stride[2][1] = 8;
      for (std::size_t i = 0; i < index.size(); ++i) dx[static_cast<std::size_t>(index[i] * stride)] += dy[i];
      kernels::scatter_add(cuda{}, above.data(), which.data(), below.data(), n, stride);
      expect_same(below.to_host(), dx, "scatter_add", static_cast<std::uint64_t>(stride));
    }
});

const test::Register edges("move: edges out of and into a matrix", [] {
  std::uint64_t combination = 0;
  for (const std::int64_t rows : {0, 1, 5, 33, 70})
    for (const std::int64_t cols : {0, 1, 9, 64})
      for (const float density : {0.0f, 0.1f, 0.7f, 1.0f}) {
        if (!move_tried(++combination)) continue;
        Rng rng(combination);
        const Draw draw = rng.draw();
        const test::Pattern p(rows, cols, [&](auto r, auto c) {
          return density == 1 || (r % 4 != 1 && draw.uniform(static_cast<std::uint64_t>(r * cols + c)) < density);
        });
        const test::DevicePattern mask(p.by_row());
        const test::Matrix w = test::Matrix::normal(rows, cols, rng);
        const test::DeviceMatrix in(w), out(rows, cols);
        const Buffer<float> values(static_cast<std::size_t>(p.nnz()));
        kernels::pick_edges(cuda{}, in.cview(), mask.view, values.data());
        kernels::place_edges(cuda{}, values.data(), mask.view, out.view());
        const auto picked = values.to_host();
        const test::Matrix placed = out.to_host();
        test::Matrix want(rows, cols);
        if (density < 1) std::fill(want.data.begin(), want.data.end(), 0.0f);  // padding too
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int32_t e = p.start[static_cast<std::size_t>(r)]; e < p.start[static_cast<std::size_t>(r) + 1];
               ++e) {
            const std::int64_t c = p.col[static_cast<std::size_t>(e)];
            check(picked[static_cast<std::size_t>(e)] == w(r, c), "pick_edges: got ",
                  picked[static_cast<std::size_t>(e)], ", want ", w(r, c), " at edge ", e);
            want(r, c) = w(r, c);
          }
        expect_same(placed.data, want.data, "place_edges", combination);
      }
});

const test::Register remaps("move: remap", [] {
  for (const std::int64_t n : {0, 1, 255, 700}) {
    const auto x = move_numbers(50);
    std::vector<std::int32_t> index(static_cast<std::size_t>(n));
    std::vector<float> want(index.size());
    for (std::size_t i = 0; i < index.size(); ++i) {
      index[i] = static_cast<std::int32_t>(i * 31 % 51) - 1;
      want[i] = index[i] < 0 ? 0 : x[static_cast<std::size_t>(index[i])];
    }
    const Buffer<float> in = move_on_device(x), out(index.size());
    const Buffer<std::int32_t> which = move_on_device(index);
    kernels::remap(cuda{}, in.data(), which.data(), out.data(), n);
    expect_same(out.to_host(), want, "remap", static_cast<std::uint64_t>(n));
  }
});

}  // namespace
