// Dense and sparse products against the reference, under every instruction set and number of threads.
#include <deepstruct/core/nest.hpp>
#include <deepstruct/kernels/gemm.hpp>
#include <deepstruct/kernels/move.hpp>
#include <deepstruct/kernels/sparse.hpp>

#include "support/cases.hpp"
#include "support/reference.hpp"

using namespace deepstruct;
namespace reference = test::reference;

namespace {

const std::pair<std::int64_t, std::int64_t> layers[] = {{0, 3}, {1, 1}, {3, 0}, {5, 7}, {17, 33}, {65, 6}, {7, 100}};

#if defined(__SANITIZE_ADDRESS__)  // a reference in double takes the sanitizers' time: one batch with a tile and a rest
constexpr std::int64_t many_samples[] = {81};
#else
constexpr std::int64_t many_samples[] = {16, 48, 129};
#endif

Tensor gemm(const Tensor& x, const Tensor& w, const Tensor* bias) {
  Tensor y = Tensor::empty({x.shape()[0], w.shape()[0]});
  kernels::gemm(cpu{}, x.view(), w.view(), bias ? bias->data() : nullptr, y.view());
  return y;
}
Tensor gemm_with_transposed_weight(const Tensor& x, const Tensor& wt) {
  Tensor y = Tensor::empty({x.shape()[0], wt.shape()[1]});
  kernels::gemm(cpu{}, x.view(), strided_view<const float>(wt.view()).transposed(), nullptr, y.view());
  return y;
}
Tensor batched(const Tensor& a, const Tensor& b, const Shape& y_shape) {
  Tensor y = Tensor::empty(y_shape);
  std::array<std::int64_t, 4> from_a{}, from_b{};
  for (int d = 0; d < 2; ++d) {
    from_a[d] = a.shape()[d] == 1 ? 0 : a.shape().stride(d);
    from_b[d] = b.shape()[d] == 1 ? 0 : b.shape().stride(d);
  }
  from_a[2] = a.shape().stride(2);
  from_b[3] = b.shape().stride(3);
  kernels::gemm_batched(cpu{}, a.data(), b.data(), y.data(),
                        make_nest<3>(y_shape, {strides_of(y_shape), from_a, from_b}), a.shape()[3], a.shape().stride(3),
                        b.shape().stride(2));
  return y;
}
// As the ops call them: with a plan where the samples fill whole vectors.
plan_view plan_of(const kernels::Plan& plan, std::int64_t samples) {
  return samples < kernels::sparse_plan_samples ? plan_view{} : plan.view();
}
Tensor sparse(const Mask& m, const Tensor& values, const Tensor& x, const Tensor* bias, bool relu = false) {
  Tensor y = Tensor::empty({x.shape()[0], m.rows()});
  const kernels::Plan plan(m.csr());
  kernels::sparse_linear(cpu{}, m.csr(), plan_of(plan, x.shape()[0]), values.data(), x.view(),
                         bias ? bias->data() : nullptr, relu, y.view());
  return y;
}
Tensor sparse_dx(const Mask& m, const Tensor& values, const Tensor& dy) {
  Tensor dx = Tensor::empty({dy.shape()[0], m.cols()});
  const kernels::Plan plan(m.csc());
  kernels::sparse_linear(cpu{}, m.csc(), plan_of(plan, dy.shape()[0]), values.data(), dy.view(), nullptr, false,
                         dx.view());
  return dx;
}
Tensor sparse_dw(const Mask& m, const Tensor& dy, const Tensor& x) {
  Tensor dw = Tensor::empty({m.nnz()});
  const kernels::Plan plan(m.csr());
  kernels::sparse_linear_dw(cpu{}, m.csr(), plan.view(), dy.view(), x.view(), dw.data());
  return dw;
}
// dx and dw of the kernel that makes both at once.
std::pair<Tensor, Tensor> sparse_backward(const Mask& m, const Tensor& values, const Tensor& x, const Tensor& dy) {
  std::pair<Tensor, Tensor> d{Tensor::empty(x.shape()), Tensor::empty({m.nnz()})};
  const kernels::Plan plan(m.csc());
  kernels::sparse_linear_backward(cpu{}, m.csc(), plan.view(), values.data(), x.view(), dy.view(), d.first.view(),
                                  d.second.data());
  return d;
}
Tensor transposed(const Tensor& w) {
  Tensor t = Tensor::empty({w.shape()[1], w.shape()[0]});
  for (std::int64_t i = 0; i < w.shape()[0]; ++i)
    for (std::int64_t j = 0; j < w.shape()[1]; ++j) t(j, i) = w(i, j);
  return t;
}

}  // namespace

TEST_CASE("gemm is right for every size") {
  test::on_every_isa([] {
    Rng rng(1);
    for (std::int64_t b : test::sizes)
      for (auto [in, out] : layers) {
        INFO("batch " << b << ", in " << in << ", out " << out);
        const Tensor x = Tensor::normal({b, in}, 0, 1, rng), w = Tensor::normal({out, in}, 0, 1, rng);
        const Tensor bias = Tensor::normal({out}, 0, 1, rng);
        test::require_close(gemm(x, w, &bias), reference::linear(x, w, &bias));
        const auto plain = reference::linear(x, w, nullptr);
        test::require_close(gemm(x, w, nullptr), plain);
        test::require_close(gemm_with_transposed_weight(x, transposed(w)), plain);
      }
  });
}

TEST_CASE("products with many terms go through every panel") {
  test::on_every_isa([] {
    test::Poison poison;
    Rng rng(2);
    for (std::int64_t b : {1, 9, 17, 70, 600}) {
      const Tensor x = Tensor::normal({b, 1030}, 0, 1, rng), w = Tensor::normal({19, 1030}, 0, 1, rng);
      const Tensor bias = Tensor::normal({19}, 0, 1, rng);
      test::require_close(gemm(x, w, &bias), reference::linear(x, w, &bias));
      test::require_close(gemm_with_transposed_weight(x, transposed(w)), reference::linear(x, w, nullptr));
    }
  });
}

TEST_CASE("batched gemm broadcasts its batch extents") {
  test::on_every_isa([] {
    Rng rng(3);
    for (std::int64_t p : {0, 1, 2, 17})
      for (std::int64_t q : {1, 3})
        for (std::int64_t k : {0, 1, 6}) {
          const Tensor a = Tensor::normal({p, q, 4, k}, 0, 1, rng), b = Tensor::normal({p, q, k, 5}, 0, 1, rng);
          test::require_close(batched(a, b, {p, q, 4, 5}), reference::batched(a, b, {p, q, 4, 5}));
          const Tensor one = Tensor::normal({1, q, k, 5}, 0, 1, rng);
          test::require_close(batched(a, one, {p, q, 4, 5}), reference::batched(a, one, {p, q, 4, 5}));
        }
  });
}

TEST_CASE("the sparse triple is right for every batch and pattern") {
  test::on_every_isa([] {
    Rng rng(4);
    for (std::int64_t b : test::sizes)
      for (auto [in, out] : {std::pair<std::int64_t, std::int64_t>{5, 7}, {33, 17}, {0, 2}})
        for (const Mask& m : test::masks(out, in)) {
          INFO("batch " << b << ", mask " << m.shape() << ", edges " << m.nnz());
          const Tensor x = Tensor::normal({b, in}, 0, 1, rng), dy = Tensor::normal({b, out}, 0, 1, rng);
          const Tensor values = Tensor::normal({m.nnz()}, 0, 1, rng), bias = Tensor::normal({out}, 0, 1, rng);
          test::require_close(sparse(m, values, x, &bias), reference::sparse_linear(m, values, x, &bias));
          test::require_close(sparse(m, values, x, nullptr), reference::sparse_linear(m, values, x, nullptr));
          test::require_close(sparse_dx(m, values, dy), reference::sparse_linear_dx(m, values, dy));
          test::require_close(sparse_dw(m, dy, x), reference::sparse_linear_dw(m, dy, x));
          test::require_close(sparse(m, values, x, &bias, true),
                              reference::relu_of(reference::sparse_linear(m, values, x, &bias)));
          if (b < kernels::sparse_plan_samples) continue;
          const auto [dx, dw] = sparse_backward(m, values, x, dy);
          test::require_close(dx, reference::sparse_linear_dx(m, values, dy));
          test::require_close(dw, reference::sparse_linear_dw(m, dy, x));
        }
    // Several panels of rows and blocks of columns, thick and thin, and rows with more edges than are staged at a time.
    for (std::int64_t b : many_samples)
      for (const Mask& m :
           {Mask::random(131, 203, 0.6, rng), Mask::random(131, 203, 0.1, rng), Mask::random(131, 203, 0.01, rng),
            Mask::random(700, 5, 0.5, rng),
            Mask::where(150, 2500, [](std::int64_t r, std::int64_t c) { return r == 70 || c == 2100; })}) {
        INFO("batch " << b << ", mask " << m.shape() << ", edges " << m.nnz());
        const Tensor x = Tensor::normal({b, m.cols()}, 0, 1, rng), dy = Tensor::normal({b, m.rows()}, 0, 1, rng);
        const Tensor values = Tensor::normal({m.nnz()}, 0, 1, rng), bias = Tensor::normal({m.rows()}, 0, 1, rng);
        const auto want = reference::sparse_linear(m, values, x, &bias);
        test::require_close(sparse(m, values, x, &bias), want);
        test::require_close(sparse(m, values, x, &bias, true), reference::relu_of(want));
        test::require_close(sparse_dx(m, values, dy), reference::sparse_linear_dx(m, values, dy));
        test::require_close(sparse_dw(m, dy, x), reference::sparse_linear_dw(m, dy, x));
        const auto [dx, dw] = sparse_backward(m, values, x, dy);
        test::require_close(dx, reference::sparse_linear_dx(m, values, dy));
        test::require_close(dw, reference::sparse_linear_dw(m, dy, x));
      }
  });
}

TEST_CASE("a large batch goes through the sparse triple in parts") {
  test::on_every_isa([] {
    Rng rng(8);
    const Mask m = Mask::random(40, 50, 0.5, rng);
    const Tensor values = Tensor::normal({m.nnz()}, 0, 1, rng), bias = Tensor::normal({m.rows()}, 0, 1, rng);
    for (std::int64_t b : {256, 257, 300, 1024, 1025, 1200}) {
      INFO("batch " << b);
      const Tensor x = Tensor::normal({b, m.cols()}, 0, 1, rng), dy = Tensor::normal({b, m.rows()}, 0, 1, rng);
      const auto want_dx = reference::sparse_linear_dx(m, values, dy);
      const auto want_dw = reference::sparse_linear_dw(m, dy, x);
      test::require_close(sparse(m, values, x, &bias), reference::sparse_linear(m, values, x, &bias));
      test::require_close(sparse_dx(m, values, dy), want_dx);
      test::require_close(sparse_dw(m, dy, x), want_dw);
      const auto [dx, dw] = sparse_backward(m, values, x, dy);
      test::require_close(dx, want_dx);
      test::require_close(dw, want_dw);
    }
  });
}

TEST_CASE("a single sample of a batch goes through the sparse triple") {
  Rng rng(9);
  const Mask m = Mask::random(7, 9, 0.5, rng);
  const Tensor values = Tensor::normal({m.nnz()}, 0, 1, rng);
  const Tensor x = Tensor::normal({20, 9}, 0, 1, rng), dy = Tensor::normal({20, 7}, 0, 1, rng);
  const auto third = [](const Tensor& t) {
    return matrix_view<const float>{t.data() + 2, 1, t.view().cols, t.view().ld};
  };
  Tensor x3 = Tensor::empty({1, 9}), dy3 = Tensor::empty({1, 7}), y = Tensor::empty({20, 7}), dw = values;
  for (std::int64_t c = 0; c < 9; ++c) x3(0, c) = x(2, c);
  for (std::int64_t r = 0; r < 7; ++r) dy3(0, r) = dy(2, r);
  kernels::sparse_linear(cpu{}, m.csr(), {}, values.data(), third(x), nullptr, false,
                         {y.data() + 2, 1, y.view().cols, y.view().ld});
  const auto want = reference::sparse_linear(m, values, x3, nullptr);
  for (std::int64_t r = 0; r < 7; ++r) CHECK(std::fabs(double{y(2, r)} - want[r].value) < 1e-6);
  const kernels::Plan plan(m.csr());
  kernels::sparse_linear_dw(cpu{}, m.csr(), plan.view(), third(dy), third(x), dw.data());
  test::require_close(dw, reference::sparse_linear_dw(m, dy3, x3));
}

TEST_CASE("edges are picked from and placed into a full weight") {
  test::Poison poison;
  Rng rng(5);
  for (auto [rows, cols] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {7, 5}, {33, 17}, {100, 3}, {0, 4}})
    for (const Mask& m : test::masks(rows, cols)) {
      const Tensor w = Tensor::normal({rows, cols}, 0, 1, rng);
      Tensor values = Tensor::empty({m.nnz()}), back = Tensor::empty({rows, cols});
      kernels::pick_edges(cpu{}, w.view(), m.csr(), values.data());
      m.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) { REQUIRE(values(e) == w(r, c)); });
      kernels::place_edges(cpu{}, values.data(), m.csr(), back.view());
      test::require_close(
          back,
          reference::each({rows, cols}, [&](std::int64_t r, std::int64_t c,
                                            auto...) { return test::Exact(m.contains(r, c) ? double{w(r, c)} : 0.0); }),
          0);
    }
}

TEST_CASE("rows become columns, of a matrix and of samples in any order") {
  test::on_every_isa([] {
    test::Poison poison;
    Rng rng(7);
    for (std::int64_t rows : test::sizes)
      for (std::int64_t cols : {0, 1, 15, 16, 33}) {
        INFO(rows << " x " << cols);
        const Tensor x = Tensor::normal({rows, cols}, 0, 1, rng);
        Tensor y = Tensor::empty({cols, rows}), samples = Tensor::empty({rows, cols});
        kernels::transpose(cpu{}, x.view(), y.view());
        REQUIRE(y == transposed(x));
        const std::vector<float> contiguous = x.to_vector();
        std::vector<std::int32_t> order;
        for (std::int64_t i = 0; i < rows; ++i) order.push_back(static_cast<std::int32_t>(7 * i % rows));
        kernels::gather_samples(cpu{}, contiguous.data(), order.data(), samples.view());
        for (std::int64_t i = 0; i < rows; ++i)
          for (std::int64_t c = 0; c < cols; ++c) REQUIRE(samples(i, c) == x(order[i], c));
      }
  });
}

TEST_CASE("remap moves values along an edge map") {
  test::Poison poison;
  const Tensor x = Tensor::from({3}, {1, 2, 3});
  Tensor y = Tensor::empty({4});
  const std::int32_t map[] = {2, -1, 0, 0};
  kernels::remap(cpu{}, x.data(), map, y.data(), 4);
  REQUIRE(y.to_vector() == std::vector<float>{3, 0, 1, 1});
}

TEST_CASE("products do not depend on the number of threads", "[threads]") {
  test::same_for_all_threads([] {
    Rng rng(6);
    const Tensor x = Tensor::normal({257, 300}, 0, 1, rng), w = Tensor::normal({130, 300}, 0, 1, rng);
    const Tensor few = Tensor::normal({7, 300}, 0, 1, rng), wide = Tensor::normal({900, 300}, 0, 1, rng);
    const Tensor dy = Tensor::normal({257, 130}, 0, 1, rng), bias = Tensor::normal({130}, 0, 1, rng);
    const Mask m = Mask::random(130, 300, 0.3, rng);
    const Tensor values = Tensor::normal({m.nnz()}, 0, 1, rng);
    const Tensor a = Tensor::normal({33, 3, 20, 30}, 0, 1, rng), b = Tensor::normal({33, 3, 30, 10}, 0, 1, rng);
    const auto [dx, dw] = sparse_backward(m, values, x, dy);
    return std::vector<Tensor>{dx,
                               dw,
                               gemm(x, w, &bias),
                               gemm(few, wide, nullptr),
                               gemm_with_transposed_weight(dy, w),
                               sparse(m, values, x, &bias),
                               sparse_dx(m, values, dy),
                               sparse_dw(m, dy, x),
                               batched(a, b, {33, 3, 20, 10})};
  });
}
