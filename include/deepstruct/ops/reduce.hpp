// Reductions: sum, mean, variance, norm, maximum, product, log-sum-exp, running sum.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>

#include "shape.hpp"

namespace deepstruct {

/// Which extents a reduction runs over (none named: all) and whether they stay as extents of 1.
struct Over {
  pool_vector<int> dims = {};
  bool keep = false;

  Over() = default;
  Over(pool_vector<int> d, bool k = false) : dims(std::move(d)), keep(k) {}  // NOLINT: Over is an option
  Over(int dim) : dims{dim} {}                                               // NOLINT
  template <std::same_as<bool> B>  // {0, 1} is no dimension 0 with an accidental `true`
  Over(int dim, B k) : dims{dim}, keep(k) {}
};

namespace detail {

struct ReducedShape {
  Shape kept;    // reduced extents are 1
  Shape result;  // as asked for
  std::int64_t terms = 1;
};
inline ReducedShape reduction(const Shape& x, const Over& over, const char* op) {
  std::array<bool, Shape::max_rank> gone{};
  for (int d : over.dims) {
    const int dim = normalize_dim(d, x.rank(), op);
    check(!gone[dim], op, ": dimension named twice (", d, ")");
    gone[dim] = true;
  }
  ReducedShape r;
  Extents kept, result;
  for (int k = 0; k < x.rank(); ++k) {
    const bool reduced = gone[k] || over.dims.empty();
    if (reduced) r.terms *= x[k];
    kept.push_back(reduced ? 1 : x[k]);
    if (!reduced || over.keep) result.push_back(kept.back());
  }
  r.kept = Shape(kept);
  r.result = Shape(result);
  return r;
}

/// y = Op over the extents; kept shape.
template <class Op>
Tensor reduce(const Tensor& x, const Shape& kept) {
  Tensor y = Tensor::empty(kept, x.device());
  NestBuilder<2> stays;
  NestBuilder<1> goes;
  for (int step = 0; step < x.rank(); ++step) {
    const int k = step == 0 ? 0 : x.rank() - step;
    if (kept[k] == x.shape()[k])
      stays.add(kept[k], {kept.stride(k), x.shape().stride(k)});
    else
      goes.add(x.shape()[k], {x.shape().stride(k)});
  }
  on(y.device(), [&](auto device) { kernels::reduce<Op>(device, x.data(), y.data(), stays.finish(), goes.finish()); });
  return y;
}

}  // namespace detail

/// y = Σ x over the extents; more than 4096 terms accumulate in double.
inline Var sum(const Var& x, const Over& over = {}) {
  const auto r = detail::reduction(x.shape(), over, "sum");
  return reshape(sum_to(x, r.kept), r.result);
}
/// y = Σ x / n over the extents.
inline Var mean(const Var& x, const Over& over = {}) {
  const auto r = detail::reduction(x.shape(), over, "mean");
  return sum(x, over) * static_cast<float>(1.0 / static_cast<double>(r.terms));
}
/// y = Σ (x − mean)² / (n − 1), or / n unless unbiased.
inline Var var(const Var& x, const Over& over = {}, bool unbiased = true) {
  const auto r = detail::reduction(x.shape(), over, "var");
  const Var centred = sub(x, mean(x, Over(over.dims, true)));
  const double n = static_cast<double>(r.terms) - (unbiased ? 1 : 0);
  return sum(square(centred), over) * static_cast<float>(1 / n);
}
/// y = √var
inline Var std(const Var& x, const Over& over = {}, bool unbiased = true) { return sqrt(var(x, over, unbiased)); }
/// y = √Σ x²
inline Var norm(const Var& x, const Over& over = {}) { return sqrt(sum(square(x), over)); }

/// Index of the greatest (least) entry along `dim`, the first on ties; NaN counts as greatest (least).   → extent dim
/// removed
inline Indices argmax(const Tensor& x, int dim, bool keep = false, float sign = 1) {
  const auto r = detail::reduction(x.shape(), Over(dim, keep), "argmax");
  dim = normalize_dim(dim, x.rank(), "argmax");
  check(x.shape()[dim] > 0, "argmax: the extent is empty (", x.shape(), ")");
  Indices kept = Indices::empty(r.kept, x.device());
  auto from = strides_of(x.shape());
  const auto n = make_nest<2>(r.kept, {strides_of(r.kept), from});
  on(x.device(), [&](auto device) {
    kernels::argmax(device, x.data(), kept.data(), n, x.shape()[dim], x.shape().stride(dim), sign);
  });
  return r.result == r.kept ? kept : to(Indices::from(r.result, kept.to_vector()), x.device());
}
inline Indices argmin(const Tensor& x, int dim, bool keep = false) { return argmax(x, dim, keep, -1); }
/// Row-major position of the greatest entry of all.
inline std::int64_t argmax(const Tensor& x) { return argmax(reshape(Var(x), {x.size()}).value(), 0).item(); }

/// The greatest (least) entries along an extent and where they are.
struct Extremum {
  Var values;
  Indices indices;
};
namespace detail {
inline Extremum extremum(const Var& x, int dim, bool keep, float sign) {
  const Indices at = argmax(x.value(), dim, true, sign);
  const Var values = gather(x, at, dim);
  return keep ? Extremum{values, at} : Extremum{squeeze(values, dim), argmax(x.value(), dim, false, sign)};
}
/// Greatest or least value; ties share the gradient evenly.
template <class Op>
Var shared_extremum(const char* op, const Var& x, const Over& over) {
  const auto r = reduction(x.shape(), over, op);
  check(r.terms > 0, op, ": nothing to choose from (", x.shape(), ")");
  const Var y = record(op, reduce<Op>(x.value(), r.kept), {x}, {},
                       [](const Var& dy, const Var& out, std::span<const Var> in, std::span<Var> dx) {
                         const Var equal = zip<kernels::fn::equal>("amax", in[0].value(), out.value());
                         dx[0] = mul(dy, div(equal, sum_to(equal, out.shape())));
                       });
  return reshape(y, r.result);
}
}  // namespace detail
/// The greatest entries along `dim`; on ties the first takes the gradient.
inline Extremum max(const Var& x, int dim, bool keep = false) { return detail::extremum(x, dim, keep, 1); }
/// The least entries along `dim`; on ties the first takes the gradient.
inline Extremum min(const Var& x, int dim, bool keep = false) { return detail::extremum(x, dim, keep, -1); }
/// The greatest entry over the extents; ties share the gradient evenly.
inline Var amax(const Var& x, const Over& over = {}) {
  return detail::shared_extremum<kernels::fn::maximum>("amax", x, over);
}
/// The least entry over the extents; ties share the gradient evenly.
inline Var amin(const Var& x, const Over& over = {}) {
  return detail::shared_extremum<kernels::fn::minimum>("amin", x, over);
}

/// y = ln Σ eˣ over the extents, without overflow.
inline Var logsumexp(const Var& x, const Over& over = {}) {
  const auto r = detail::reduction(x.shape(), over, "logsumexp");
  Tensor top = to(detail::reduce<kernels::fn::maximum>(x.value(), r.kept), Device::cpu);
  top.for_each([](std::int64_t, float& m) { m = std::isinf(m) ? 0 : m; });  // ∞ − ∞ is no number
  const Var shift = to(std::move(top), x.device());
  return reshape(add(log(sum_to(exp(sub(x, shift)), r.kept)), shift), r.result);
}
/// y = Π x along `dim`, by halving, so that zeros have right gradients.
inline Var prod(const Var& x, int dim, bool keep = false) {
  dim = normalize_dim(dim, x.shape().rank(), "prod");
  Var y = x;
  if (y.shape()[dim] == 0) {
    Extents extents(x.shape().extents().begin(), x.shape().extents().end());
    extents[dim] = 1;
    y = Tensor::ones(Shape(extents), x.device());
  }
  for (std::int64_t n; (n = y.shape()[dim]) > 1;) {
    const Var halves = mul(narrow(y, dim, 0, n / 2), narrow(y, dim, n / 2, n / 2));
    y = n % 2 ? cat({halves, narrow(y, dim, n - 1, 1)}, dim) : halves;
  }
  return keep ? y : squeeze(y, dim);
}
/// y[i] = Σ_{j ≤ i} x[j] along `dim`.
inline Var cumsum(const Var& x, int dim) {
  dim = normalize_dim(dim, x.shape().rank(), "cumsum");
  const auto r = detail::reduction(x.shape(), Over(dim, true), "cumsum");
  Tensor y = Tensor::empty(x.shape(), x.device());
  const auto n = make_nest<2>(r.kept, {strides_of(x.shape()), strides_of(x.shape())});
  on(y.device(), [&](auto device) {
    kernels::cumsum(device, x.value().data(), y.data(), n, x.shape()[dim], x.shape().stride(dim),
                    x.shape().stride(dim));
  });
  return record("cumsum", std::move(y), {x}, {{"dim", std::int64_t{dim}}},
                [dim](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) {
                  dx[0] = flip(cumsum(flip(dy, {dim}), dim), {dim});
                });
}

}  // namespace deepstruct
