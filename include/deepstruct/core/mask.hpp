// Mask: which edges of a layer exist. A network is a graph, and a weight matrix is its edges.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "tensor.hpp"

namespace deepstruct {

inline namespace DEEPSTRUCT_BACKENDS {

/// The existing edges source → target of a weight matrix [targets, sources], as CSR with its transposed index.
///
/// Immutable with shared storage: copies are O(1) and still behave as values. The edges of a full mask are listed when
/// somebody first asks for them: dense kernels never do, and a list takes 12 bytes an edge. Edge id = CSR rank (row,
/// then column), the only order in the API, in files, in remap and in tests.
class Mask {
 public:
  /// One edge: target row, source column.
  using Edge = std::pair<std::int32_t, std::int32_t>;

  /// The mask [0, 0].
  Mask() : Mask(zeros(0, 0)) {}
  [[gnu::noinline]] Mask(const Mask&) = default;  // moving copies, so that no mask is ever without its data
  Mask& operator=(const Mask&) = default;
  [[gnu::noinline]] ~Mask() = default;
  /// No edge exists.
  static Mask zeros(std::int64_t rows, std::int64_t cols) {
    return where(rows, cols, [](std::int64_t, std::int64_t) { return false; });
  }
  /// Every edge exists.
  static Mask ones(std::int64_t rows, std::int64_t cols) {
    check_extents(rows, cols);
    check(cols == 0 || rows < std::numeric_limits<std::int32_t>::max() / cols, "Mask: too many edges (", rows, " x ",
          cols, ")");
    auto d = std::make_shared<Data>(rows, cols);
    d->unlisted = true;
    return Mask(std::move(d), false);
  }
  /// The edges (r, c) for which exists(r, c) is true; asked in edge order.
  template <class Exists>
  static Mask where(std::int64_t rows, std::int64_t cols, Exists&& exists) {
    const auto asked = [&exists](std::int64_t r, std::int64_t c) -> bool { return exists(r, c); };
    return ask(rows, cols, &asked,
               [](const void* f, std::int64_t r, std::int64_t c) { return (*static_cast<decltype(asked)*>(f))(r, c); });
  }
  /// From a 0/1 matrix [rows, cols]; throws on any other value (also NaN) and unless the rank is 2.
  static Mask from_dense(const Tensor& flags) {
    check(flags.rank() == 2, "Mask: a mask has two dimensions (shape ", flags.shape(), ")");
    flags.for_each([&](std::int64_t i, float x) {
      check(x == 0 || x == 1, "Mask: entries must be 0 or 1 (", x, " at element ", i, ")");
    });
    return where(flags.shape()[0], flags.shape()[1], [&](std::int64_t r, std::int64_t c) { return flags(r, c) != 0; });
  }
  /// From edges in any order; throws on an edge outside [rows, cols] and on a repeated edge.
  static Mask from_edges(std::int64_t rows, std::int64_t cols, std::span<const Edge> edges) {
    check_extents(rows, cols);
    std::vector<Edge> sorted(edges.begin(), edges.end());
    std::sort(sorted.begin(), sorted.end());
    auto d = std::make_shared<Data>(rows, cols);
    d->col.reserve(sorted.size());
    std::size_t k = 0;
    for (const auto& [r, c] : sorted)
      check(r >= 0 && r < rows && c >= 0 && c < cols, "Mask: edge outside the mask (", r, ", ", c, " of [", rows, ", ",
            cols, "])");
    for (std::int64_t r = 0; r < rows; ++r) {
      for (; k < sorted.size() && sorted[k].first == r; ++k) {
        check(k == 0 || sorted[k] != sorted[k - 1], "Mask: repeated edge (", sorted[k].first, ", ", sorted[k].second,
              ")");
        d->col.push_back(sorted[k].second);
      }
      d->close_row(r);
    }
    return Mask(std::move(d));
  }
  static Mask from_edges(std::int64_t rows, std::int64_t cols, std::initializer_list<Edge> edges) {
    return from_edges(rows, cols, std::span<const Edge>(edges.begin(), edges.size()));
  }
  /// From the arrays of a CSR matrix; throws unless they are one (a damaged file, say).
  static Mask from_csr(std::int64_t rows, std::int64_t cols, std::span<const std::int32_t> start,
                       std::span<const std::int32_t> col) {
    check_extents(rows, cols);
    check(static_cast<std::int64_t>(start.size()) == rows + 1 && start[0] == 0 &&
              start[rows] == static_cast<std::int64_t>(col.size()) && std::is_sorted(start.begin(), start.end()),
          "Mask: row starts are not those of a CSR matrix (", rows, " rows, ", col.size(), " edges)");
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int32_t k = start[r]; k < start[r + 1]; ++k)
        check(col[k] >= 0 && col[k] < cols && (k == start[r] || col[k - 1] < col[k]),
              "Mask: columns of a row must ascend within the mask (column ", col[k], " in row ", r, " of [", rows, ", ",
              cols, "])");
    auto d = std::make_shared<Data>(rows, cols);
    d->start.assign(start.begin(), start.end());
    d->col.assign(col.begin(), col.end());
    return Mask(std::move(d));
  }
  /// Every edge exists with probability `density`, independently.
  static Mask random(std::int64_t rows, std::int64_t cols, double density, Rng& rng = default_rng()) {
    check(density >= 0 && density <= 1, "Mask::random: need 0 <= density <= 1 (", density, ")");
    const Draw d = rng.host_draw();
    return where(rows, cols, [&](std::int64_t r, std::int64_t c) {
      return d.word(static_cast<std::uint64_t>(r * cols + c)) < density * 4294967296.0;
    });
  }

  std::int64_t rows() const { return data_->rows; }
  std::int64_t cols() const { return data_->cols; }
  Shape shape() const { return {rows(), cols()}; }
  /// Number of edges.
  std::int64_t nnz() const { return data_->unlisted ? rows() * cols() : static_cast<std::int64_t>(data_->col.size()); }
  bool is_full() const { return nnz() == rows() * cols(); }
  /// nnz / (rows·cols); 1 for a mask without entries.
  double density() const {
    const auto total = rows() * cols();
    return total == 0 ? 1.0 : static_cast<double>(nnz()) / static_cast<double>(total);
  }

  /// First edge of every row, and nnz at the end: [rows + 1].
  std::span<const std::int32_t> row_start() const { return listed().start; }
  /// Source column of every edge: [nnz].
  std::span<const std::int32_t> col() const { return listed().col; }
  /// What make() gives, made once for these edges and kept with all copies of the mask; any thread may ask. It serves
  /// kernels, which want the edges in an order of their own: slot 0 by rows, slot 1 by columns, slot 2 as the
  /// wiring of a DAG, slots 3 to 5 the same on a GPU.
  template <class Make>
  const auto& kept(int slot, Make&& make) const {
    using Made = std::remove_cvref_t<decltype(make())>;
    std::call_once(data_->once[slot], [&] { data_->kept[slot] = std::make_shared<const Made>(make()); });
    return *static_cast<const Made*>(data_->kept[slot].get());
  }

  /// The mask by rows, for the kernels of a device; on a GPU from a copy that is made once.
  csr_view csr([[maybe_unused]] Device device = Device::cpu) const {
    const Data& d = listed();
    const csr_view host{d.start.data(), d.col.data(), nullptr, d.rows, d.cols, nnz()};
    if constexpr (has_cuda)
      if (device != Device::cpu) return kept(3, [&] { return Pattern(host, device); }).view;
    return host;
  }
  /// The transposed mask [cols, rows], its entries with their edge ids, for the kernels of a device.
  csr_view csc([[maybe_unused]] Device device = Device::cpu) const {
    const Data& d = listed();
    const csr_view host{d.t_start.data(), d.t_row.data(), d.t_edge.data(), d.cols, d.rows, nnz()};
    if constexpr (has_cuda)
      if (device != Device::cpu) return kept(4, [&] { return Pattern(host, device); }).view;
    return host;
  }

  /// Id of edge (r, c), or −1 if it does not exist.
  std::int32_t edge(std::int64_t r, std::int64_t c) const {
    check(r >= 0 && r < rows() && c >= 0 && c < cols(), "Mask: index outside the mask (", r, ", ", c, " of ", shape(),
          ")");
    if (data_->unlisted) return static_cast<std::int32_t>(r * cols() + c);
    const auto first = data_->col.begin() + data_->start[r], last = data_->col.begin() + data_->start[r + 1];
    const auto found = std::lower_bound(first, last, static_cast<std::int32_t>(c));
    return found != last && *found == c ? static_cast<std::int32_t>(found - data_->col.begin()) : -1;
  }
  bool contains(std::int64_t r, std::int64_t c) const { return edge(r, c) >= 0; }

  /// Calls f(edge, row, column) in edge order.
  template <class F>
  void for_each(F&& f) const {
    std::int32_t e = 0;
    for (std::int64_t r = 0; r < rows(); ++r) {
      if (data_->unlisted)
        for (std::int64_t c = 0; c < cols(); ++c) f(e++, r, c);
      else
        for (; e < data_->start[r + 1]; ++e) f(e, r, static_cast<std::int64_t>(data_->col[e]));
    }
  }
  /// The mask as a 0/1 matrix [rows, cols].
  Tensor to_dense() const {
    Tensor t = Tensor::zeros(shape());
    for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { t(r, c) = 1; });
    return t;
  }
  /// The edges for which keep(edge, row, column) is true.
  template <class Keep>
  Mask filter(Keep&& keep) const {
    auto d = std::make_shared<Data>(rows(), cols());
    Buffer<std::int32_t> kept(static_cast<std::size_t>(nnz()) + 1);
    std::int32_t n = 0, e = 0;
    // A column is always written: whether it stays is nothing that a branch could predict.
    for (std::int64_t r = 0; r < rows(); ++r) {
      if (data_->unlisted) {
        for (std::int64_t c = 0; c < cols(); ++c, ++e) {
          kept.data()[n] = static_cast<std::int32_t>(c);
          n += keep(e, r, c) ? 1 : 0;
        }
      } else {
        for (; e < data_->start[r + 1]; ++e) {
          kept.data()[n] = data_->col[e];
          n += keep(e, r, static_cast<std::int64_t>(data_->col[e])) ? 1 : 0;
        }
      }
      d->start[r + 1] = n;
    }
    d->col.assign(kept.data(), kept.data() + n);
    return Mask(std::move(d));
  }
  /// A new mask with some edges more and some less; throws if an added edge exists, a removed one does not, or one is
  /// outside.
  Mask edit(std::span<const Edge> added, std::span<const Edge> removed) const {
    std::vector<Edge> gone(removed.begin(), removed.end()), edges;
    std::sort(gone.begin(), gone.end());
    check(std::adjacent_find(gone.begin(), gone.end()) == gone.end(), "Mask::edit: an edge is removed twice (",
          gone.size(), " removed)");
    for (const auto& [r, c] : gone) check(contains(r, c), "Mask::edit: removed edge does not exist (", r, ", ", c, ")");
    for (const auto& [r, c] : added) check(!contains(r, c), "Mask::edit: added edge exists already (", r, ", ", c, ")");
    edges.reserve(static_cast<std::size_t>(nnz()) + added.size());
    for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
      const Edge edge{static_cast<std::int32_t>(r), static_cast<std::int32_t>(c)};
      if (!std::binary_search(gone.begin(), gone.end(), edge)) edges.push_back(edge);
    });
    edges.insert(edges.end(), added.begin(), added.end());
    return from_edges(rows(), cols(), edges);
  }

  /// True if both are copies of one mask, so that what kernels keep with it is one too; masks that are not may be
  /// equal.
  bool shares(const Mask& other) const { return data_ == other.data_; }
  /// Equal extents and equal edges.
  friend bool operator==(const Mask& a, const Mask& b) {
    if (a.data_ == b.data_) return true;
    if (a.rows() != b.rows() || a.cols() != b.cols() || a.nnz() != b.nnz()) return false;
    if (a.is_full()) return true;
    return a.data_->start == b.data_->start && a.data_->col == b.data_->col;
  }

 private:
  struct Data {
    Data(std::int64_t rows_, std::int64_t cols_)
        : rows(rows_), cols(cols_), start(static_cast<std::size_t>(rows_) + 1, 0) {}
    void close_row(std::int64_t r) {
      check(col.size() < static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()), "Mask: too many edges (",
            col.size(), ")");
      start[r + 1] = static_cast<std::int32_t>(col.size());
    }
    void transpose() {
      t_start.assign(static_cast<std::size_t>(cols) + 1, 0);
      t_row.resize(col.size());
      t_edge.resize(col.size());
      for (std::int32_t c : col) ++t_start[c + 1];
      for (std::int64_t c = 0; c < cols; ++c) t_start[c + 1] += t_start[c];
      std::vector<std::int32_t> next(t_start.begin(), t_start.end() - 1);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int32_t e = start[r]; e < start[r + 1]; ++e) {
          const std::int32_t k = next[col[e]]++;
          t_row[k] = static_cast<std::int32_t>(r);
          t_edge[k] = e;
        }
    }
    /// The edges of a full mask.
    void list() {
      col.resize(static_cast<std::size_t>(rows * cols));
      for (std::int64_t r = 0; r < rows; ++r) {
        std::iota(col.begin() + r * cols, col.begin() + (r + 1) * cols, 0);
        start[r + 1] = static_cast<std::int32_t>((r + 1) * cols);
      }
      transpose();
    }
    std::int64_t rows, cols;
    bool unlisted = false;                             // full, and edges are listed on demand
    std::vector<std::int32_t> start, col;              // by rows
    std::vector<std::int32_t> t_start, t_row, t_edge;  // by columns
    std::once_flag listing;
    mutable std::once_flag once[6];
    mutable std::shared_ptr<const void> kept[6];
  };
  /// A pattern on a device.
  struct Pattern {
    Buffer<std::int32_t> start, col, edge;
    csr_view view;
    Pattern(const csr_view& host, Device device)
        : start(host.start, static_cast<std::size_t>(host.rows) + 1, device),
          col(host.col, static_cast<std::size_t>(host.nnz), device),
          edge(host.edge, host.edge ? static_cast<std::size_t>(host.nnz) : 0, device),
          view{start.data(), col.data(), host.edge ? edge.data() : nullptr, host.rows, host.cols, host.nnz} {
      finish(device);  // streams of other threads may read it
    }
    Pattern(Pattern&&) noexcept = default;
  };

  explicit Mask(std::shared_ptr<Data> data, bool transpose = true) {
    if (transpose) data->transpose();
    data_ = std::move(data);
  }
  /// The data with all edges in it.
  const Data& listed() const {
    if (data_->unlisted) std::call_once(data_->listing, [this] { data_->list(); });
    return *data_;
  }
  /// where(), compiled once for every question.
  [[gnu::noinline]] static Mask ask(std::int64_t rows, std::int64_t cols, const void* question,
                                    bool (*exists)(const void*, std::int64_t, std::int64_t)) {
    check_extents(rows, cols);
    auto d = std::make_shared<Data>(rows, cols);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c)
        if (exists(question, r, c)) d->col.push_back(static_cast<std::int32_t>(c));
      d->close_row(r);
    }
    return Mask(std::move(d));
  }
  static void check_extents(std::int64_t rows, std::int64_t cols) {
    constexpr std::int64_t limit = std::numeric_limits<std::int32_t>::max();
    check(rows >= 0 && cols >= 0 && rows < limit && cols < limit, "Mask: extents must be 0 to 2^31 - 2 (", rows, ", ",
          cols, ")");
  }

  std::shared_ptr<Data> data_;
};

}  // namespace DEEPSTRUCT_BACKENDS

/// For every edge of `now` the id of the same edge in `before`, or −1: what moves values when a pattern changes.
inline std::vector<std::int32_t> edge_map(const Mask& before, const Mask& now) {
  check(before.shape() == now.shape(), "edge_map: masks of different shapes (", before.shape(), " and ", now.shape(),
        ")");
  std::vector<std::int32_t> map(static_cast<std::size_t>(now.nnz()), -1);
  if (before.is_full()) {
    now.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      map[e] = static_cast<std::int32_t>(r * before.cols() + c);
    });
    return map;
  }
  const auto start = before.row_start(), col = before.col();
  for (std::int64_t r = 0; r < now.rows(); ++r) {
    std::int32_t e = start[r];
    for (std::int32_t k = now.row_start()[r]; k < now.row_start()[r + 1]; ++k) {
      while (e < start[r + 1] && col[e] < now.col()[k]) ++e;
      if (e < start[r + 1] && col[e] == now.col()[k]) map[k] = e;
    }
  }
  return map;
}

}  // namespace deepstruct
