// Ops that move elements: reshape, permute, slice, concatenate, gather and their kin.
#pragma once

#include <vector>

#include "activation.hpp"

namespace deepstruct {

using Extents = pool_vector<std::int64_t>;

/// y = x in row-major order under another shape; one extent may be −1. Free of arithmetic, gradients go back the same
/// way.
inline Var reshape(const Var& x, std::span<const std::int64_t> extents) {
  check(extents.size() <= Shape::max_rank, "reshape: at most 4 extents (", extents.size(), ")");
  std::array<std::int64_t, Shape::max_rank> full{};
  std::int64_t known = 1;
  int open = -1;
  for (int k = 0; k < static_cast<int>(extents.size()); ++k) {
    full[k] = extents[k];
    check(full[k] >= 0 || (full[k] == -1 && open < 0), "reshape: extents must not be negative, except one -1 (",
          full[k], ")");
    if (full[k] == -1)
      open = k;
    else
      check(full[k] == 0 || known <= (std::int64_t{1} << 40) / full[k], "reshape: too many elements (extent ", full[k],
            ")"),
          known *= full[k];
  }
  if (open >= 0) {
    check(known > 0 && x.size() % known == 0, "reshape: the extents do not divide the size (", known, " of ", x.size(),
          ")");
    full[open] = x.size() / known;
  }
  const Shape shape(std::span<const std::int64_t>(full.data(), extents.size()));
  check(shape.size() == x.size(), "reshape: shapes differ in size (", x.shape(), " and ", shape, ")");
  if (shape == x.shape()) return x;
  Tensor y = Tensor::empty(shape, x.device());
  on(y.device(), [&](auto device) { kernels::reshape(device, x.value().view(), y.view()); });
  return record("reshape", std::move(y), {x}, {{"shape", shape}},
                [](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
                  dx[0] = reshape(dy, in[0].shape().extents());
                });
}
inline Var reshape(const Var& x, std::initializer_list<std::int64_t> extents) {
  return reshape(x, std::span<const std::int64_t>(extents.begin(), extents.size()));
}
inline Var reshape(const Var& x, const Shape& shape) { return reshape(x, shape.extents()); }
/// y = x with extents start_dim … last merged into one.   [b, c, h, w] → [b, c·h·w]
inline Var flatten(const Var& x, int start_dim = 1) {
  if (x.shape().rank() == 0) return reshape(x, {1});
  if (start_dim == x.shape().rank()) return x;
  start_dim = normalize_dim(start_dim, x.shape().rank(), "flatten");
  Extents extents(x.shape().extents().begin(), x.shape().extents().begin() + start_dim);
  std::int64_t rest = 1;
  for (int k = start_dim; k < x.shape().rank(); ++k) rest *= x.shape()[k];
  extents.push_back(rest);
  return reshape(x, extents);
}
/// y = x with a new extent of 1 at `dim`.
inline Var unsqueeze(const Var& x, int dim) {
  dim = normalize_dim(dim, x.shape().rank() + 1, "unsqueeze");
  Extents extents(x.shape().extents().begin(), x.shape().extents().end());
  extents.insert(extents.begin() + dim, 1);
  return reshape(x, extents);
}
/// y = x without its extent `dim`, if that is 1.
inline Var squeeze(const Var& x, int dim) {
  dim = normalize_dim(dim, x.shape().rank(), "squeeze");
  if (x.shape()[dim] != 1) return x;
  Extents extents(x.shape().extents().begin(), x.shape().extents().end());
  extents.erase(extents.begin() + dim);
  return reshape(x, extents);
}

/// y[i_dims[0], i_dims[1], …] = x[i0, i1, …]: extent k of y is extent dims[k] of x.
inline Var permute(const Var& x, std::vector<int> dims) {
  const int rank = x.shape().rank();
  check(static_cast<int>(dims.size()) == rank, "permute: needs one dimension per extent (", dims.size(), " for ",
        x.shape(), ")");
  std::array<std::int64_t, Shape::max_rank> extents{}, strides{};
  std::vector<int> inverse(static_cast<std::size_t>(rank), -1);
  for (int k = 0; k < rank; ++k) {
    dims[k] = normalize_dim(dims[k], rank, "permute");
    check(inverse[dims[k]] < 0, "permute: dimension named twice (", dims[k], ")");
    inverse[dims[k]] = k;
    extents[k] = x.shape()[dims[k]];
    strides[k] = x.shape().stride(dims[k]);
  }
  Tensor y =
      Tensor::empty(Shape(std::span<const std::int64_t>(extents.data(), static_cast<std::size_t>(rank))), x.device());
  const auto n = make_nest<2>(y.shape(), {strides_of(y.shape()), strides});
  on(y.device(), [&](auto device) { kernels::copy(device, x.value().data(), y.data(), n); });
  Attributes attributes;
  for (int d : dims) attributes.push_back({"dim", std::int64_t{d}});
  return record(
      "permute", std::move(y), {x}, std::span<const Attribute>(attributes),
      [inverse](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = permute(dy, inverse); });
}
/// y = x with two extents exchanged.
inline Var transpose(const Var& x, int dim0 = 0, int dim1 = 1) {
  const int rank = x.shape().rank();
  std::vector<int> dims(static_cast<std::size_t>(rank));
  for (int k = 0; k < rank; ++k) dims[k] = k;
  std::swap(dims[normalize_dim(dim0, rank, "transpose")], dims[normalize_dim(dim1, rank, "transpose")]);
  return permute(x, dims);
}

/// Where a strided slice begins, how it steps (negative: backwards) and how many elements it has, per extent.
struct Slice {
  std::array<std::int64_t, Shape::max_rank> start{}, step{1, 1, 1, 1};
  Shape shape;
};

namespace detail {

inline std::int64_t slice_offset(const Shape& whole, const Slice& s) {
  std::int64_t offset = 0;
  for (int k = 0; k < whole.rank(); ++k) offset += s.start[k] * whole.stride(k);
  return offset;
}
inline std::array<std::int64_t, Shape::max_rank> slice_strides(const Shape& whole, const Slice& s) {
  auto strides = strides_of(whole);
  for (int k = 0; k < whole.rank(); ++k) strides[k] *= s.step[k];
  return strides;
}
inline void check_slice(const char* op, const Shape& whole, const Slice& s) {
  check(s.shape.rank() == whole.rank(), op, ": needs as many extents as the whole (", s.shape, " of ", whole, ")");
  for (int k = 0; k < whole.rank(); ++k) {
    const std::int64_t last = s.start[k] + (s.shape[k] - 1) * s.step[k];
    check(s.step[k] != 0, op, ": steps must not be 0 (extent ", k, " of ", whole, ")");
    check(s.start[k] >= 0 && s.start[k] <= whole[k] &&
              (s.shape[k] == 0 || (s.start[k] < whole[k] && last >= 0 && last < whole[k])),
          op, ": indices outside the extent (", s.start[k], " to ", last, " of extent ", whole[k], ")");
  }
}
inline std::array<Attribute, 9> slice_attributes(const Shape& shape, const Slice& s) {
  return {{{"shape", shape},
           {"start0", s.start[0]},
           {"start1", s.start[1]},
           {"start2", s.start[2]},
           {"start3", s.start[3]},
           {"step0", s.step[0]},
           {"step1", s.step[1]},
           {"step2", s.step[2]},
           {"step3", s.step[3]}}};
}

}  // namespace detail

Var place(const Var& x, const Shape& shape, const Slice& where_to);

/// y[i] = x[start + i·step], per extent.   x → y [slice.shape]. Throws if an index would lie outside x.
inline Var slice(const Var& x, const Slice& s) {
  const Shape& whole = x.shape();
  detail::check_slice("slice", whole, s);
  Tensor y = Tensor::empty(s.shape, x.device());
  const auto n = make_nest<2>(s.shape, {strides_of(s.shape), detail::slice_strides(whole, s)});
  on(y.device(),
     [&](auto device) { kernels::copy(device, x.value().data() + detail::slice_offset(whole, s), y.data(), n); });
  return record("slice", std::move(y), {x}, detail::slice_attributes(s.shape, s),
                [s](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
                  dx[0] = place(dy, in[0].shape(), s);
                });
}
/// y = 0 except y[start + i·step] = x[i]: the adjoint of slice.   x [slice.shape] → y [shape]
inline Var place(const Var& x, const Shape& shape, const Slice& s) {
  check(x.shape() == s.shape, "place: x and slice differ in shape (", x.shape(), " and ", s.shape, ")");
  detail::check_slice("place", shape, s);
  Tensor y = Tensor::zeros(shape, x.device());
  const auto n = make_nest<2>(s.shape, {detail::slice_strides(shape, s), strides_of(s.shape)});
  on(y.device(),
     [&](auto device) { kernels::copy(device, x.value().data(), y.data() + detail::slice_offset(shape, s), n); });
  return record("place", std::move(y), {x}, detail::slice_attributes(shape, s),
                [s](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = slice(dy, s); });
}
/// y = elements start … start + length − 1 of extent `dim`.
inline Var narrow(const Var& x, int dim, std::int64_t start, std::int64_t length) {
  dim = normalize_dim(dim, x.shape().rank(), "narrow");
  check(start >= 0 && length >= 0 && start + length <= x.shape()[dim], "narrow: range outside the extent (", start,
        " + ", length, " of ", x.shape()[dim], ")");
  Slice s;
  Extents extents(x.shape().extents().begin(), x.shape().extents().end());
  s.start[dim] = start;
  extents[dim] = length;
  s.shape = Shape(extents);
  return slice(x, s);
}
/// y = element `index` of extent `dim` (from the end when negative), without that extent.
inline Var select(const Var& x, int dim, std::int64_t index) {
  dim = normalize_dim(dim, x.shape().rank(), "select");
  const std::int64_t n = x.shape()[dim];
  check(index >= -n && index < n, "select: index outside the extent (", index, " of ", n, ")");
  return squeeze(narrow(x, dim, index < 0 ? index + n : index, 1), dim);
}
/// `chunks` pieces of x along `dim`, the last one possibly shorter.
inline std::vector<Var> chunk(const Var& x, std::int64_t chunks, int dim = 0) {
  check(chunks > 0, "chunk: needs at least one piece (", chunks, ")");
  const std::int64_t n = x.shape()[normalize_dim(dim, x.shape().rank(), "chunk")],
                     size = std::max<std::int64_t>(1, (n + chunks - 1) / chunks);
  std::vector<Var> pieces;
  for (std::int64_t at = 0; at < n; at += size) pieces.push_back(narrow(x, dim, at, std::min(size, n - at)));
  return pieces;
}
/// y = x with the order along the given extents reversed.
inline Var flip(const Var& x, std::initializer_list<int> dims) {
  Slice s;
  s.shape = x.shape();
  for (int d : dims) {
    const int dim = normalize_dim(d, x.shape().rank(), "flip");
    s.start[dim] = std::max<std::int64_t>(0, x.shape()[dim] - 1);
    s.step[dim] = -1;
  }
  return slice(x, s);
}
/// y = x with before[k] and after[k] times `value` added along extent k.
inline Var pad(const Var& x, std::span<const std::int64_t> before, std::span<const std::int64_t> after,
               float value = 0) {
  const int rank = x.shape().rank();
  check(static_cast<int>(before.size()) == rank && before.size() == after.size(), "pad: needs one width per extent (",
        before.size(), " and ", after.size(), " for ", x.shape(), ")");
  Slice s;
  s.shape = x.shape();
  Extents extents;
  for (int k = 0; k < rank; ++k) {
    check(before[k] >= 0 && after[k] >= 0, "pad: widths must not be negative (", before[k], ", ", after[k], ")");
    s.start[k] = before[k];
    extents.push_back(x.shape()[k] + before[k] + after[k]);
  }
  const Var y = place(x, Shape(extents), s);
  if (value == 0) return y;
  const Var inside = place(Tensor::ones(x.shape(), x.device()), y.shape(), s);
  return where(detail::above(inside, 0), y, Tensor::full(y.shape(), value, y.device()));
}
/// y = the xs one after the other along `dim`; they agree in all other extents.
inline Var cat(std::span<const Var> xs, int dim = 0) {
  check(!xs.empty(), "cat: needs at least one value (0)");
  const int rank = xs[0].shape().rank();
  dim = normalize_dim(dim, rank, "cat");
  Extents extents(xs[0].shape().extents().begin(), xs[0].shape().extents().end());
  std::vector<Slice> slices;
  extents[dim] = 0;
  for (const Var& x : xs) {
    common_device("cat", xs[0], x);
    check(x.shape().rank() == rank, "cat: values differ in rank (", xs[0].shape(), " and ", x.shape(), ")");
    for (int k = 0; k < rank; ++k)
      check(k == dim || x.shape()[k] == xs[0].shape()[k], "cat: values differ in another extent (", xs[0].shape(),
            " and ", x.shape(), ")");
    Slice s;
    s.start[dim] = extents[dim];
    s.shape = x.shape();
    slices.push_back(s);
    extents[dim] += x.shape()[dim];
  }
  Tensor y = Tensor::empty(Shape(extents), xs[0].device());
  for (std::size_t k = 0; k < xs.size(); ++k) {
    const auto n = make_nest<2>(xs[k].shape(), {strides_of(y.shape()), strides_of(xs[k].shape())});
    on(y.device(), [&](auto device) {
      kernels::copy(device, xs[k].value().data(), y.data() + detail::slice_offset(y.shape(), slices[k]), n);
    });
  }
  return record("cat", std::move(y), xs, {{"dim", std::int64_t{dim}}},
                [slices](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
                  for (std::size_t k = 0; k < in.size(); ++k)
                    if (in[k].wants_grad()) dx[k] = slice(dy, slices[k]);
                });
}
inline Var cat(std::initializer_list<Var> xs, int dim = 0) {
  return cat(std::span<const Var>(xs.begin(), xs.size()), dim);
}
/// y = the xs, of one shape, along a new extent `dim`.
inline Var stack(std::span<const Var> xs, int dim = 0) {
  std::vector<Var> with_extent;
  for (const Var& x : xs) with_extent.push_back(unsqueeze(x, dim));
  return cat(with_extent, dim);
}
inline Var stack(std::initializer_list<Var> xs, int dim = 0) {
  return stack(std::span<const Var>(xs.begin(), xs.size()), dim);
}
/// y = x laid out repeats[k] times along extent k; needs one count per extent.
inline Var repeat(const Var& x, std::span<const std::int64_t> repeats) {
  check(static_cast<int>(repeats.size()) == x.shape().rank(), "repeat: needs one count per extent (", repeats.size(),
        " for ", x.shape(), ")");
  Var y = x;
  for (int k = 0; k < static_cast<int>(repeats.size()); ++k) {
    check(repeats[k] >= 1, "repeat: counts must be positive (", repeats[k], ")");
    y = cat(std::vector<Var>(static_cast<std::size_t>(repeats[k]), y), k);
  }
  return y;
}
/// y = x where column − row <= diagonal in the last two extents, else 0.
inline Var tril(const Var& x, std::int64_t diagonal = 0) {
  check(x.shape().rank() == 2, "tril: needs a matrix (", x.shape(), ")");
  Tensor kept = Tensor::zeros(x.shape());
  for (std::int64_t i = 0; i < x.shape()[0]; ++i)
    for (std::int64_t j = 0; j < x.shape()[1] && j - i <= diagonal; ++j) kept(i, j) = 1;
  return mul(x, to(std::move(kept), x.device()));
}

namespace detail {

/// Loops of a gather along `dim`: strides of the result (and index), of x without that extent, of the index.
inline nest<3> gather_nest(const Shape& x, const Shape& index, int dim) {
  auto from = strides_of(x);
  from[dim] = 0;
  return make_nest<3>(index, {strides_of(index), from, strides_of(index)});
}
inline void check_indices(std::string_view op, const Indices& index, std::int64_t n) {
  index.for_each([&](std::int64_t, std::int32_t i) {
    check(i >= 0 && i < n, op, ": index outside the extent (", i, " of ", n, ")");
  });
}

}  // namespace detail

Var scatter_add(const Var& dy, const Indices& index, const Shape& shape, int dim);

/// y[…, i, …] = x[…, index[…, i, …], …] along `dim`.   index → y of the index's shape; other extents no larger than
/// x's.
inline Var gather(const Var& x, const Indices& index, int dim) {
  dim = normalize_dim(dim, x.shape().rank(), "gather");
  check(index.rank() == x.shape().rank(), "gather: index and x differ in rank (", index.shape(), " and ", x.shape(),
        ")");
  for (int k = 0; k < index.rank(); ++k)
    check(k == dim || index.shape()[k] <= x.shape()[k], "gather: the index exceeds x (", index.shape(), " and ",
          x.shape(), ")");
  detail::check_indices("gather", index, x.shape()[dim]);
  if (index.device() != x.device()) return gather(x, to(index, x.device()), dim);
  Tensor y = Tensor::empty(index.shape(), x.device());
  const auto n = detail::gather_nest(x.shape(), index.shape(), dim);
  on(y.device(),
     [&](auto device) { kernels::gather(device, x.value().data(), index.data(), y.data(), n, x.shape().stride(dim)); });
  return record("gather", std::move(y), {x}, {{"dim", std::int64_t{dim}}, {"index", index}},
                [index, dim](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
                  dx[0] = scatter_add(dy, index, in[0].shape(), dim);
                });
}
/// y = 0, then y[…, index[…, i, …], …] += x[…, i, …] along `dim`, in index order: the adjoint of gather.
inline Var scatter_add(const Var& x, const Indices& index, const Shape& shape, int dim) {
  check(x.shape() == index.shape(), "scatter_add: x and index differ in shape (", x.shape(), " and ", index.shape(),
        ")");
  dim = normalize_dim(dim, shape.rank(), "scatter_add");
  check(index.rank() == shape.rank(), "scatter_add: index and result differ in rank (", index.shape(), " and ", shape,
        ")");
  for (int k = 0; k < index.rank(); ++k)
    check(k == dim || index.shape()[k] <= shape[k], "scatter_add: the index exceeds the result (", index.shape(),
          " and ", shape, ")");
  detail::check_indices("scatter_add", index, shape[dim]);
  if (index.device() != x.device()) return scatter_add(x, to(index, x.device()), shape, dim);
  Tensor y = Tensor::zeros(shape, x.device());
  const auto n = detail::gather_nest(shape, index.shape(), dim);
  on(y.device(), [&](auto device) {
    kernels::scatter_add(device, x.value().data(), index.data(), y.data(), n, shape.stride(dim));
  });
  return record("scatter_add", std::move(y), {x}, {{"dim", std::int64_t{dim}}},
                [index, dim](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) {
                  dx[0] = gather(dy, index, dim);
                });
}
/// y = the entries of extent `dim` that a list of indices names, in that order.
inline Var index_select(const Var& x, int dim, std::span<const std::int32_t> index) {
  dim = normalize_dim(dim, x.shape().rank(), "index_select");
  Extents extents(x.shape().extents().begin(), x.shape().extents().end());
  extents[dim] = static_cast<std::int64_t>(index.size());
  Indices full = Indices::empty(Shape(extents));
  const Shape& s = full.shape();
  for (std::int64_t i0 = 0; i0 < s[0]; ++i0)
    for (std::int64_t i1 = 0; i1 < s[1]; ++i1)
      for (std::int64_t i2 = 0; i2 < s[2]; ++i2)
        for (std::int64_t i3 = 0; i3 < s[3]; ++i3) full(i0, i1, i2, i3) = index[std::array{i0, i1, i2, i3}[dim]];
  return gather(x, full, dim);
}
/// y[…, :] = table[index[…], :].   table [n, d], index [any] → y [any, d]
inline Var embedding(const Var& table, const Indices& index) {
  check(table.shape().rank() == 2, "embedding: the table must be a matrix (", table.shape(), ")");
  Extents extents(index.shape().extents().begin(), index.shape().extents().end());
  extents.push_back(table.shape()[1]);
  return reshape(index_select(table, 0, index.to_vector()), extents);
}

}  // namespace deepstruct
