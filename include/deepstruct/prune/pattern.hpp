// Patterns: masks of a regular form. Rows of equal length, n of every m inputs; blocks are PruneOptions::block.
#pragma once

#include "prune.hpp"

namespace deepstruct {

namespace detail {

/// Marks the `count` least salient of some edges, of equals the first.
inline void take_least(std::vector<std::int32_t>& edges, std::int64_t count, std::span<const float> saliency,
                       std::vector<char>& gone) {
  std::partial_sort(edges.begin(), edges.begin() + count, edges.end(), [&](std::int32_t a, std::int32_t b) {
    return saliency[a] != saliency[b] ? saliency[a] < saliency[b] : a < b;
  });
  for (std::int64_t k = 0; k < count; ++k) gone[edges[k]] = 1;
}

/// How many of a row's weights go for a budget of a row; throws if that cannot be.
inline std::int64_t gone_from_row(const PruneLayer& l, std::int64_t row, std::int64_t n, const Budget& budget,
                                  const char* op) {
  if (budget.kind == Budget::Kind::percentage)
    return static_cast<std::int64_t>(std::nearbyint(budget.value / 100 * static_cast<double>(n)));
  if (budget.kind == Budget::Kind::absolute)
    return static_cast<std::int64_t>(std::min(budget.value, static_cast<double>(n)));
  const double left = budget.kind == Budget::Kind::remaining
                          ? budget.value
                          : std::nearbyint(budget.value * static_cast<double>(l.mask.cols()));
  if (left > static_cast<double>(n)) {
    std::int64_t least = n;
    for (std::int64_t r = 0; r < l.mask.rows(); ++r)
      least = std::min<std::int64_t>(least, l.mask.row_start()[r + 1] - l.mask.row_start()[r]);
    fail(op, ": an output has fewer weights than shall stay (layer ", l.name, ", row ", row, ": ", left, " of ", n,
         "; possible 0 to ", least, ")");
  }
  return n - static_cast<std::int64_t>(left);
}

}  // namespace detail

/// Removes the least salient weights of every output by itself, which is how Wanda compares them (Sun et al. 2024); the
/// budget is that of one row of a mask: remaining(k) and density(d) leave exactly k or d·in inputs to every output, a
/// constant fan-in (Evci et al. 2020; Lasby et al. 2024); percentage(q) and absolute(n) take as many of each, rounded
/// half to even, and so keep a constant fan-in constant. Of equals the first go. Floors win over percentage and
/// absolute.
///
/// O(edges · log row). Throws, and changes nothing, for a bucket or blocks, where a row has fewer weights than shall
/// stay (the text says what is possible), and where floors keep more than remaining or density leaves.
template <class M>
PruneReport prune_row_by_saliency(M& model, const Budget& budget, const PruneOptions& options = {}) {
  constexpr const char* op = "prune_row_by_saliency";
  detail::check_prune_options(op, options);
  check(budget.kind != Budget::Kind::bucket, op, ": a bucket belongs to the whole network (bucket ", budget.value, ")");
  check(options.block[0] == 1 && options.block[1] == 1, op, ": rows have no blocks (", options.block[0], " x ",
        options.block[1], ")");
  const auto layers = detail::prune_layers(model, op);
  std::vector<Mask> after;
  for (const detail::PruneLayer& l : layers) {
    const detail::PruneOrder order(std::span(&l, 1), options, op);
    std::vector<char> gone(static_cast<std::size_t>(l.mask.nnz()), 0);
    const auto start = l.mask.row_start();
    std::vector<std::int32_t> edges;
    for (std::int64_t r = 0; r < l.mask.rows(); ++r) {
      const std::int64_t n = start[r + 1] - start[r], count = detail::gone_from_row(l, r, n, budget, op);
      edges.resize(static_cast<std::size_t>(n));
      std::iota(edges.begin(), edges.end(), start[r]);
      std::erase_if(edges, [&](std::int32_t e) { return order.protects(0, e); });
      const auto open = static_cast<std::int64_t>(edges.size());
      check(count <= open || !detail::says_what_stays(budget), op, ": floors keep more weights than shall stay (layer ",
            l.name, ", row ", r, ": ", n - count, ", floors ", n - open, ")");
      detail::take_least(edges, std::min(count, open), l.edges(), gone);
    }
    after.push_back(l.mask.filter([&](std::int32_t e, std::int64_t, std::int64_t) { return !gone[e]; }));
  }
  return detail::set_masks(layers, after);
}

/// n:m sparsity (Mishra et al. 2021): of every m consecutive inputs of an output, columns 0 … m − 1, m … 2m − 1, … of a
/// mask, the n most salient weights stay, of equals the last; fewer where fewer exist. Columns of a convolution are
/// places of its kernels, (channel, row, column).
///
/// Throws, and changes nothing, unless 1 ≤ n ≤ m, and where m does not divide the columns of a layer; the text names
/// the layer and what would divide them. O(edges · log m).
template <class M>
PruneReport prune_n_of_m(M& model, std::int64_t n, std::int64_t m) {
  constexpr const char* op = "prune_n_of_m";
  check(n >= 1 && n <= m, op, ": need 1 <= n <= m (", n, " of ", m, ")");
  const auto layers = detail::prune_layers(model, op);
  for (const detail::PruneLayer& l : layers) {
    const std::int64_t cols = l.mask.cols();
    if (cols % m == 0) continue;
    std::string possible;
    for (std::int64_t k = 1; k <= cols; ++k)
      if (cols % k == 0 && (k >= n || k == cols)) possible += (possible.empty() ? "" : " ") + std::to_string(k);
    fail(op, ": m must divide the inputs of every layer (layer ", l.name, ": ", cols, " inputs, m ", m, "; possible ",
         possible, ")");
  }
  std::vector<Mask> after;
  for (const detail::PruneLayer& l : layers) {
    std::vector<char> gone(static_cast<std::size_t>(l.mask.nnz()), 0);
    std::vector<std::int32_t> group;
    std::int64_t row = -1, number = -1;
    const auto close = [&] {
      const auto more = static_cast<std::int64_t>(group.size()) - n;
      if (more > 0) detail::take_least(group, more, l.edges(), gone);
      group.clear();
    };
    l.mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      if (r != row || c / m != number) close();
      row = r;
      number = c / m;
      group.push_back(e);
    });
    close();
    after.push_back(l.mask.filter([&](std::int32_t e, std::int64_t, std::int64_t) { return !gone[e]; }));
  }
  return detail::set_masks(layers, after);
}

}  // namespace deepstruct
