// Linear maps: matmul, linear, and the sparse triple. Each family is closed under differentiation.
#pragma once

#include "../kernels/choose.hpp"
#include "../kernels/gemm.hpp"
#include "../kernels/sparse.hpp"
#include "reduce.hpp"

namespace deepstruct {

/// What follows a layer in the same pass over its outputs.
enum class Activation { none, relu };

namespace detail {

/// y = Σ over `terms` terms, made by part(to, first, count) from at most 4096 at a time and added up in double, on a
/// GPU in float.
template <class Part>
void long_sum(Tensor& y, std::int64_t terms, Part&& part) {
  constexpr std::int64_t most = 4096;
  part(y, std::int64_t{0}, std::min(terms, most));
  if (terms <= most) return;
  Tensor more = Tensor::empty(y.shape(), y.device());
  if constexpr (has_cuda)
    if (y.device() != Device::cpu) {  // there in float: parts are few, and each is one sum
      for (std::int64_t first = most; first < terms; first += most) {
        part(more, first, std::min(terms - first, most));
        on(y.device(), [&](auto device) { kernels::add_into(device, more.data(), y.data(), y.shape().storage()); });
      }
      return;
    }
  std::vector<double> total(y.data(), y.data() + y.shape().storage());
  for (std::int64_t first = most; first < terms; first += most) {
    part(more, first, std::min(terms - first, most));
    for (std::size_t k = 0; k < total.size(); ++k) total[k] += double{more.data()[k]};
  }
  for (std::size_t k = 0; k < total.size(); ++k) y.data()[k] = static_cast<float>(total[k]);
}

/// y = x wᵀ + bias.   x [b, in], w [out, in], bias [out] or null
inline Tensor gemm(const Tensor& x, strided_view<const float> w, const float* bias) {
  Tensor y = Tensor::empty({x.shape()[0], w.rows}, x.device());
  if constexpr (has_cuda)
    if (x.device() != Device::cpu) {  // whose kernel takes any number of terms
      on(x.device(), [&](auto device) { kernels::gemm(device, x.view(), w, bias, y.view()); });
      return y;
    }
  long_sum(y, w.cols, [&](Tensor& to, std::int64_t first, std::int64_t count) {
    matrix_view<const float> some = x.view();
    strided_view<const float> weight = w;
    some.data += first * some.ld, weight.data += first * w.s1;
    some.cols = weight.cols = count;
    on(to.device(), [&](auto device) { kernels::gemm(device, some, weight, first == 0 ? bias : nullptr, to.view()); });
  });
  return y;
}

/// y = a·b of two matrices, either one (not both) transposed.
///   nn: [m, k]·[k, n]    nt: [m, k]·[n, k]ᵀ    tn: [k, m]ᵀ·[k, n]
inline Var product(const Var& a, const Var& b, bool ta, bool tb) {
  const Shape &sa = a.shape(), &sb = b.shape();
  const std::int64_t m = sa[ta ? 1 : 0], k = sa[ta ? 0 : 1];
  check(k == sb[tb ? 1 : 0], "matmul: inner extents differ (", sa, ta ? "ᵀ" : "", " and ", sb, tb ? "ᵀ)" : ")");
  common_device("matmul", a, b);
  Tensor across;  // lanes run over the first extent of what multiplies: a transposed a is laid out anew
  if (ta) {
    across = Tensor::empty({m, k}, a.device());
    on(across.device(), [&](auto device) { kernels::transpose(device, a.value().view(), across.view()); });
  }
  const strided_view<const float> w = b.value().view();
  Tensor y = gemm(ta ? across : a.value(), tb ? w : w.transposed(), nullptr);
  return record("matmul", std::move(y), {a, b}, {{"transpose_a", std::int64_t{ta}}, {"transpose_b", std::int64_t{tb}}},
                [ta, tb](const Var& dy, const Var&, std::span<const Var> x, std::span<Var> dx) {
                  if (x[0].wants_grad()) dx[0] = ta ? product(x[1], dy, false, true) : product(dy, x[1], false, !tb);
                  if (x[1].wants_grad())
                    dx[1] = tb   ? product(dy, x[0], true, false)
                            : ta ? product(x[0], dy, false, false)
                                 : product(x[0], dy, true, false);
                });
}

/// y[p, q, m, n] = Σ_k a[p, q, m, k]·b[p, q, k, n] of rank 3 or 4, batch extents broadcast.
inline Var batched_product(const Var& a, const Var& b) {
  const int rank = a.shape().rank();
  const Shape &sa = a.shape(), &sb = b.shape();
  check(sa[rank - 1] == sb[rank - 2], "matmul: inner extents differ (", sa, " and ", sb, ")");
  Extents extents, ea, eb;
  for (int d = 0; d < rank - 2; ++d) {
    check(sa[d] == sb[d] || sa[d] == 1 || sb[d] == 1, "matmul: batch extents do not broadcast (", sa, " and ", sb, ")");
    extents.push_back(sa[d] == 1 ? sb[d] : sa[d]);
  }
  extents.push_back(sa[rank - 2]);
  extents.push_back(sb[rank - 1]);
  Tensor y = Tensor::empty(Shape(extents), common_device("matmul", a, b));
  std::array<std::int64_t, Shape::max_rank> from_a{}, from_b{};
  for (int d = 0; d < rank - 2; ++d) {
    from_a[d] = sa[d] == 1 ? 0 : sa.stride(d);
    from_b[d] = sb[d] == 1 ? 0 : sb.stride(d);
  }
  from_a[rank - 2] = sa.stride(rank - 2);
  from_b[rank - 1] = sb.stride(rank - 1);
  const auto n = make_nest<3>(y.shape(), {strides_of(y.shape()), from_a, from_b});
  on(y.device(), [&](auto device) {
    kernels::gemm_batched(device, a.value().data(), b.value().data(), y.data(), n, sa[rank - 1], sa.stride(rank - 1),
                          sb.stride(rank - 2));
  });
  return record("matmul", std::move(y), {a, b}, {},
                [rank](const Var& dy, const Var&, std::span<const Var> x, std::span<Var> dx) {
                  if (x[0].wants_grad())
                    dx[0] = sum_to(batched_product(dy, transpose(x[1], rank - 2, rank - 1)), x[0].shape());
                  if (x[1].wants_grad())
                    dx[1] = sum_to(batched_product(transpose(x[0], rank - 2, rank - 1), dy), x[1].shape());
                });
}

}  // namespace detail

/// y = a·b with NumPy's rules: vectors are rows or columns, leading extents are batches and broadcast.
/// [m, k]·[k, n] → [m, n];  [k]·[k, n] → [n];  [m, k]·[k] → [m];  [k]·[k] → [];  [p, m, k]·[p, k, n] → [p, m, n]; rank
/// ≤ 4.
inline Var matmul(const Var& a, const Var& b) {
  check(a.shape().rank() >= 1 && b.shape().rank() >= 1, "matmul: needs at least vectors (", a.shape(), " and ",
        b.shape(), ")");
  if (a.shape().rank() == 1) return squeeze(matmul(unsqueeze(a, 0), b), -(b.shape().rank() == 1 ? 1 : 2));
  if (b.shape().rank() == 1) return squeeze(matmul(a, unsqueeze(b, 1)), -1);
  if (a.shape().rank() == 2 && b.shape().rank() == 2) return detail::product(a, b, false, false);
  Var left = a, right = b;
  while (left.shape().rank() < right.shape().rank()) left = unsqueeze(left, 0);
  while (right.shape().rank() < left.shape().rank()) right = unsqueeze(right, 0);
  return detail::batched_product(left, right);
}

namespace detail {

/// dy behind the activation that gave y, and its sum over samples, the gradient of a bias, where that is wanted: one
/// pass where nothing is recorded.   dy, y [b, out] → [b, out] and [out]
inline Var behind(Activation after, const Var& dy, const Var& y, Var* bias_gradient) {
  common_device("backward", dy, y);
  const Shape outputs{dy.shape()[1]};
  const bool relu = after == Activation::relu;
  if (recording()) {
    const Var g = relu ? mul(dy, constant_slope<kernels::fn::relu>(y, y)) : dy;
    if (bias_gradient) *bias_gradient = sum_to(g, outputs);
    return g;
  }
  if (!relu && !bias_gradient) return dy;
  Tensor g = relu ? Tensor::empty(dy.shape(), dy.device()) : Tensor(), sums = Tensor::empty(outputs, dy.device());
  on(sums.device(), [&](auto device) {
    kernels::column_sums(device, dy.value().view(), relu ? y.value().data() : nullptr, g.data(), sums.data());
  });
  if (bias_gradient) *bias_gradient = std::move(sums);
  return relu ? Var(std::move(g)) : dy;
}

/// x with all extents but the last merged, for maps of matrices.   x […, in] → [b, in]
inline Var as_rows(const Var& x, std::int64_t in, std::string_view op) {
  const Shape& s = x.shape();
  check(s.rank() >= 1 && s[s.rank() - 1] == in, op, ": x has another number of features (x ", s, ", expected ", in,
        ")");
  if (s.rank() == 2) return x;
  std::int64_t rows = 1;
  for (int k = 0; k + 1 < s.rank(); ++k) rows *= s[k];
  return reshape(x, {rows, in});
}
/// y with the leading extents of x again.   y [b, out] → […, out]
inline Var as_before(const Var& y, const Shape& x) {
  if (x.rank() == 2) return y;
  Extents extents(x.extents().begin(), x.extents().end());
  extents.back() = y.shape()[1];
  return reshape(y, extents);
}

}  // namespace detail

/// y = f(x Wᵀ + b), f the activation.   x […, in], weight [out, in], bias [out] or empty → y […, out]
inline Var linear(const Var& x, const Var& weight, const Var& bias = {}, Activation after = Activation::none) {
  check(weight.shape().rank() == 2, "linear: the weight must be a matrix (", weight.shape(), ")");
  check(!bias || bias.shape() == Shape{weight.shape()[0]}, "linear: bias and weight differ in outputs (bias ",
        bias ? bias.shape() : Shape{}, ", weight ", weight.shape(), ")");
  if (after == Activation::relu) return relu(linear(x, weight, bias));  // in a pass of its own
  const Var rows = detail::as_rows(x, weight.shape()[1], "linear");
  if (!bias || detail::tape_state.trace) {
    const Var y = detail::product(rows, weight, false, true);
    return detail::as_before(bias ? add(y, bias) : y, x.shape());
  }
  common_device("linear", rows, weight, bias);
  Tensor y = detail::gemm(rows.value(), weight.value().view(), bias.value().data());
  const Var out = record("linear", std::move(y), {rows, weight, bias}, {},
                         [](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
                           if (in[0].wants_grad()) dx[0] = detail::product(dy, in[1], false, false);
                           if (in[1].wants_grad()) dx[1] = detail::product(dy, in[0], true, false);
                           if (in[2].wants_grad()) detail::behind(Activation::none, dy, Var(), &dx[2]);
                         });
  return detail::as_before(out, x.shape());
}

Var sparse_linear_dx(const Var& dy, const Var& values, const Mask& mask);
Var sparse_linear_dw(const Var& dy, const Var& x, const Mask& mask);

namespace detail {

/// How kernels of the CPU walk the mask, or its transpose; those of a GPU need no plan.
inline plan_view plan_of(const Mask& mask, Device device = Device::cpu, bool by_columns = false) {
  if (device != Device::cpu) return {};
  return mask.kept(by_columns, [&] { return kernels::Plan(by_columns ? mask.csc() : mask.csr()); }).view();
}

/// The same, but nothing where so few samples need no plan.
inline plan_view plan_of(const Mask& mask, Device device, std::int64_t samples, bool by_columns) {
  return samples < kernels::sparse_plan_samples ? plan_view{} : plan_of(mask, device, by_columns);
}

/// dx[0] = dy W and dx[1] = dyᵀ x at the mask in one pass, for as many samples as the kernel takes; else nothing.
inline void sparse_linear_backward(const Var& dy, const Var& x, const Var& values, const Mask& mask,
                                   std::span<Var> dx) {
  const std::int64_t samples = dy.shape()[0];
  if (x.device() != Device::cpu || samples < kernels::sparse_plan_samples || samples > 4096) return;
  common_device("backward", dy, x, values);
  Tensor to_x = Tensor::empty(x.shape()), to_values = Tensor::empty(values.shape());
  kernels::sparse_linear_backward(cpu{}, mask.csc(), plan_of(mask, Device::cpu, true), values.value().data(),
                                  x.value().view(), dy.value().view(), to_x.view(), to_values.data());
  dx[0] = std::move(to_x);
  dx[1] = std::move(to_values);
}

}  // namespace detail

/// y = f(x Wᵀ + b) where W holds values[e] at edge e of the mask and nothing else, and f is the activation.
///   x […, in], values [nnz], bias [out] or empty → y […, out]
inline Var sparse_linear(const Var& x, const Var& values, const Mask& mask, const Var& bias = {},
                         Activation after = Activation::none) {
  check(values.shape() == Shape{mask.nnz()}, "sparse_linear: needs one value per edge (values ", values.shape(),
        ", edges ", mask.nnz(), ")");
  check(!bias || bias.shape() == Shape{mask.rows()}, "sparse_linear: bias and mask differ in outputs (bias ",
        bias ? bias.shape() : Shape{}, ", mask ", mask.shape(), ")");
  const bool relu_after = after == Activation::relu;
  if (detail::tape_state.trace && (bias || relu_after)) {
    const Var y = sparse_linear(x, values, mask), biased = bias ? add(y, bias) : y;
    return relu_after ? relu(biased) : biased;
  }
  const Var rows = detail::as_rows(x, mask.cols(), "sparse_linear");
  Tensor y = Tensor::empty({rows.shape()[0], mask.rows()}, common_device("sparse_linear", rows, values, bias));
  on(y.device(), [&](auto device) {
    kernels::sparse_linear(device, mask.csr(y.device()), detail::plan_of(mask, y.device(), y.shape()[0], false),
                           values.value().data(), rows.value().view(), bias ? bias.value().data() : nullptr, relu_after,
                           y.view());
  });
  const Var out = record("sparse_linear", std::move(y), {rows, values, bias}, {{"mask", mask}},
                         [mask, after](const Var& dy, const Var& value, std::span<const Var> in, std::span<Var> dx) {
                           const Var g =
                               detail::behind(after, dy, value, in.size() > 2 && in[2].wants_grad() ? &dx[2] : nullptr);
                           if (in[0].wants_grad() && in[1].wants_grad() && !recording())
                             detail::sparse_linear_backward(g, in[0], in[1], mask, dx);
                           if (in[0].wants_grad() && !dx[0]) dx[0] = sparse_linear_dx(g, in[1], mask);
                           if (in[1].wants_grad() && !dx[1]) dx[1] = sparse_linear_dw(g, in[0], mask);
                         });
  return detail::as_before(out, x.shape());
}
/// dx = dy W.   dy [b, out], values [nnz] → dx [b, in]
inline Var sparse_linear_dx(const Var& dy, const Var& values, const Mask& mask) {
  check(dy.shape().rank() == 2 && dy.shape()[1] == mask.rows() && values.shape() == Shape{mask.nnz()},
        "sparse_linear_dx: dy or values do not fit the mask (dy ", dy.shape(), ", values ", values.shape(), ", mask ",
        mask.shape(), ")");
  Tensor y = Tensor::empty({dy.shape()[0], mask.cols()}, common_device("sparse_linear_dx", dy, values));
  on(y.device(), [&](auto device) {
    kernels::sparse_linear(device, mask.csc(y.device()), detail::plan_of(mask, y.device(), y.shape()[0], true),
                           values.value().data(), dy.value().view(), nullptr, false, y.view());
  });
  return record("sparse_linear_dx", std::move(y), {dy, values}, {{"mask", mask}},
                [mask](const Var& g, const Var&, std::span<const Var> in, std::span<Var> dx) {
                  if (in[0].wants_grad()) dx[0] = sparse_linear(g, in[1], mask);
                  if (in[1].wants_grad()) dx[1] = sparse_linear_dw(in[0], g, mask);
                });
}
/// dw[e] = Σ_b dy[b, r]·x[b, c] for every edge e = (r, c).   dy [b, out], x [b, in] → dw [nnz]
inline Var sparse_linear_dw(const Var& dy, const Var& x, const Mask& mask) {
  check(dy.shape().rank() == 2 && x.shape().rank() == 2 && dy.shape()[0] == x.shape()[0] &&
            dy.shape()[1] == mask.rows() && x.shape()[1] == mask.cols(),
        "sparse_linear_dw: dy or x do not fit the mask (dy ", dy.shape(), ", x ", x.shape(), ", mask ", mask.shape(),
        ")");
  Tensor dw = Tensor::empty({mask.nnz()}, common_device("sparse_linear_dw", dy, x));
  const auto part = [&](Tensor& to, std::int64_t first, std::int64_t count) {
    matrix_view<const float> up = dy.value().view(), in = x.value().view();
    up.data += first, in.data += first;
    up.rows = in.rows = count;
    on(to.device(), [&](auto device) {
      kernels::sparse_linear_dw(device, mask.csr(to.device()), detail::plan_of(mask, to.device()), up, in, to.data());
    });
  };
  if (dw.device() == Device::cpu)
    detail::long_sum(dw, dy.shape()[0], part);
  else
    part(dw, 0, dy.shape()[0]);  // whose kernel takes any number of samples
  return record("sparse_linear_dw", std::move(dw), {dy, x}, {{"mask", mask}},
                [mask](const Var& g, const Var&, std::span<const Var> in, std::span<Var> dx) {
                  if (in[0].wants_grad()) dx[0] = sparse_linear(in[1], g, mask);
                  if (in[1].wants_grad()) dx[1] = sparse_linear_dx(in[0], g, mask);
                });
}

Var place_edges(const Var& values, const Mask& mask);

/// values[e] = w(r, c) for every edge e = (r, c) of the mask.   w [out, in] → values [nnz]
inline Var pick_edges(const Var& w, const Mask& mask) {
  check(w.shape() == mask.shape(), "pick_edges: weight and mask differ in shape (", w.shape(), " and ", mask.shape(),
        ")");
  Tensor values = Tensor::empty({mask.nnz()}, w.device());
  on(values.device(),
     [&](auto device) { kernels::pick_edges(device, w.value().view(), mask.csr(values.device()), values.data()); });
  return record(
      "pick_edges", std::move(values), {w}, {{"mask", mask}},
      [mask](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = place_edges(dy, mask); });
}
/// w(r, c) = values[e] for every edge, 0 elsewhere: the adjoint of pick_edges.   values [nnz] → w [out, in]
inline Var place_edges(const Var& values, const Mask& mask) {
  check(values.shape() == Shape{mask.nnz()}, "place_edges: needs one value per edge (values ", values.shape(),
        ", edges ", mask.nnz(), ")");
  Tensor w = Tensor::empty(mask.shape(), values.device());
  on(w.device(),
     [&](auto device) { kernels::place_edges(device, values.value().data(), mask.csr(w.device()), w.view()); });
  return record(
      "place_edges", std::move(w), {values}, {{"mask", mask}},
      [mask](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = pick_edges(dy, mask); });
}

/// y = f(x (W ⊙ mask)ᵀ + b) for a full weight [out, in]: what stands behind the mask is exactly 0, whatever its value,
/// and gets no gradient. Runs sparse or dense as choose_kernel says, on a GPU sparse below a density of 0.2.
inline Var masked_linear(const Var& x, const Var& weight, const Mask& mask, const Var& bias = {},
                         Activation after = Activation::none) {
  check(weight.shape() == mask.shape(), "masked_linear: weight and mask differ in shape (", weight.shape(), " and ",
        mask.shape(), ")");
  const std::int64_t samples = x.size() / std::max<std::int64_t>(1, mask.cols());
  // On a GPU (H200) both take as long at density 0.2: kernels/README.md.
  const Kernel kernel = x.device() != Device::cpu
                            ? (mask.density() < 0.2 ? Kernel::sparse : Kernel::dense)
                            : choose_kernel(mask.rows(), mask.cols(), mask.nnz(), samples, simd::active());
  if (kernel == Kernel::sparse) return sparse_linear(x, pick_edges(weight, mask), mask, bias, after);
  return linear(x, mask.is_full() ? weight : place_edges(pick_edges(weight, mask), mask), bias, after);
}

}  // namespace deepstruct
