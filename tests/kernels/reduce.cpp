// Reductions, softmax and layer norm against the reference.
#include <deepstruct/core/nest.hpp>
#include <deepstruct/kernels/normalize.hpp>
#include <deepstruct/kernels/reduce.hpp>

#include "support/cases.hpp"
#include "support/reference.hpp"

using namespace deepstruct;
namespace fn = kernels::fn;
namespace reference = test::reference;

namespace {

/// The shape of x with the extents of a bit set reduced to 1.
Shape without(const Shape& x, int reduced) {
  std::vector<std::int64_t> extents(x.extents().begin(), x.extents().end());
  for (int k = 0; k < x.rank(); ++k)
    if (reduced >> k & 1) extents[k] = 1;
  return Shape(std::span<const std::int64_t>(extents));
}
template <class Op>
Tensor reduce(const Tensor& x, int reduced) {
  Tensor y = Tensor::empty(without(x.shape(), reduced));
  NestBuilder<2> stays;
  NestBuilder<1> goes;
  for (int step = 0; step < x.rank(); ++step) {
    const int k = step == 0 ? 0 : x.rank() - step;
    if (reduced >> k & 1)
      goes.add(x.shape()[k], {x.shape().stride(k)});
    else
      stays.add(x.shape()[k], {y.shape().stride(k), x.shape().stride(k)});
  }
  kernels::reduce<Op>(cpu{}, x.data(), y.data(), stays.finish(), goes.finish());
  return y;
}
Tensor softmax(const Tensor& x, bool logarithm) {
  Tensor y = Tensor::empty(x.shape());
  kernels::softmax(cpu{}, x.view(), y.view(), x.shape()[1], x.shape()[2] * x.shape()[3], logarithm);
  return y;
}
std::array<Tensor, 4> layer_norm(const Tensor& x, const Tensor* w, const Tensor* bias, const Tensor& dy) {
  const Shape groups{x.shape()[0], x.shape()[1]};
  std::array<Tensor, 4> r{Tensor::empty(x.shape()), Tensor::empty(groups), Tensor::empty(groups),
                          Tensor::empty(x.shape())};
  const float* weight = w ? w->data() : nullptr;
  kernels::layer_norm(cpu{}, x.view(), weight, bias ? bias->data() : nullptr, r[0].view(), r[1].view(), r[2].view(),
                      1e-3f);
  kernels::layer_norm_dx(cpu{}, dy.view(), x.view(), weight, r[1].view(), r[2].view(), r[3].view());
  return r;
}

}  // namespace

TEST_CASE("sum, maximum and minimum over any extents") {
  test::on_every_isa([] {
    Rng rng(1);
    for (std::int64_t n : test::sizes)
      for (const Shape& s : {Shape{n}, Shape{n, 5}, Shape{3, n}, Shape{n, 2, 3}, Shape{2, 3, n}, Shape{2, n, 1, 3}}) {
        const Tensor x = Tensor::normal(s, 0, 1, rng);
        for (int reduced = 1; reduced < 1 << s.rank(); ++reduced) {
          INFO("shape " << s << ", extents " << reduced);
          const Shape kept = without(s, reduced);
          test::require_close(reduce<fn::add>(x, reduced),
                              reference::reduce(x, kept, 0, [](test::Exact& e, double v) { e.add(v); }));
          const double inf = std::numeric_limits<double>::infinity();
          test::require_close(
              reduce<fn::maximum>(x, reduced),
              reference::reduce(x, kept, -inf, [](test::Exact& e, double v) { e.value = std::max(e.value, v); }), 0);
          test::require_close(
              reduce<fn::minimum>(x, reduced),
              reference::reduce(x, kept, inf, [](test::Exact& e, double v) { e.value = std::min(e.value, v); }), 0);
        }
      }
  });
}

TEST_CASE("long sums keep their digits") {
  test::on_every_isa([] {
    Rng rng(2);
    for (const Shape& s : {Shape{200000}, Shape{5, 40000}, Shape{40000, 5}, Shape{20, 20000}}) {
      const Tensor x = Tensor::uniform(s, 0, 1, rng);
      for (int reduced : {1, 2, 3}) {
        if (reduced > 1 && s.rank() == 1) continue;
        test::require_close(reduce<fn::add>(x, reduced),
                            reference::reduce(x, without(s, reduced), 0,
                                              [](test::Exact& e, double v) {
                                                e.add(v);
                                                e.terms =
                                                    16;  // as exact as a sum of a few terms, however many there are
                                              }),
                            4);
      }
    }
  });
}

TEST_CASE("NaN wins in maximum and minimum") {
  test::on_every_isa([] {
    for (std::int64_t n : {1, 5, 17, 100})
      for (std::int64_t at = 0; at < n; at += 4) {
        Tensor x = Tensor::ones({n, 2});
        x(at, 1) = std::numeric_limits<float>::quiet_NaN();
        for (int reduced : {1, 2, 3}) {
          const Tensor top = reduce<fn::maximum>(x, reduced), low = reduce<fn::minimum>(x, reduced);
          REQUIRE(std::isnan(reduced == 1 ? top(0, 1) : reduced == 2 ? top(at, 0) : top()));
          REQUIRE(std::isnan(reduced == 1 ? low(0, 1) : reduced == 2 ? low(at, 0) : low()));
          if (reduced == 1) REQUIRE(top(0, 0) == 1);
        }
      }
  });
}

TEST_CASE("argmax takes the first of equals and the first NaN; cumsum runs along an extent") {
  test::Poison poison;
  Rng rng(3);
  for (std::int64_t n : test::sizes) {
    const Tensor x = Tensor::uniform({n, 4, 3}, -2, 2, rng);
    Tensor rounded = x;
    rounded.for_each([](std::int64_t, float& v) { v = std::floor(v); });
    const Shape kept{n, 1, 3}, s = x.shape();
    for (float sign : {1.0f, -1.0f}) {
      Indices at = Indices::empty(kept);
      kernels::argmax(cpu{}, rounded.data(), at.data(), make_nest<2>(kept, {strides_of(kept), strides_of(s)}), 4,
                      s.stride(1), sign);
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < 3; ++j) {
          std::int32_t best = 0;
          for (std::int32_t k = 1; k < 4; ++k)
            if (sign * rounded(i, k, j) > sign * rounded(i, best, j)) best = k;
          REQUIRE(at(i, 0, j) == best);
        }
    }
    Tensor running = Tensor::empty(s);
    kernels::cumsum(cpu{}, x.data(), running.data(), make_nest<2>(kept, {strides_of(s), strides_of(s)}), 4, s.stride(1),
                    s.stride(1));
    test::require_close(running,
                        reference::each(s,
                                        [&](std::int64_t i, std::int64_t j, std::int64_t k, auto) {
                                          test::Exact sum;
                                          for (std::int64_t m = 0; m <= j; ++m) sum.add(double{x(i, m, k)});
                                          return sum;
                                        }),
                        1);
  }
  Tensor x = Tensor::from({1, 4}, {1, std::nanf(""), 9, std::nanf("")});
  Indices at = Indices::empty({1, 1});
  for (float sign : {1.0f, -1.0f}) {
    kernels::argmax(cpu{}, x.data(), at.data(), make_nest<2>({1, 1}, {strides_of(Shape{1, 1}), strides_of(x.shape())}),
                    4, 1, sign);
    REQUIRE(at.item() == 1);
  }
}

TEST_CASE("softmax and log-softmax along any extent, without overflow") {
  test::on_every_isa([] {
    Rng rng(4);
    for (std::int64_t n : test::sizes)
      for (const Shape& s : {Shape{n, 1}, Shape{n, 10}, Shape{n, 3, 2}, Shape{3, n, 2}, Shape{n, 0}}) {
        INFO("shape " << s);
        for (float spread : {1.0f, 300.0f}) {
          const Tensor x = Tensor::normal(s, spread, spread, rng);
          test::require_close(softmax(x, false), reference::softmax(x, false), 8);
          test::require_close(softmax(x, true), reference::softmax(x, true), 8);
        }
      }
    const float inf = std::numeric_limits<float>::infinity();
    const Tensor y = softmax(Tensor::from({1, 3}, {-inf, 0, 0}), false);
    REQUIRE(y.to_vector() == std::vector<float>{0, 0.5f, 0.5f});
    REQUIRE(std::isnan(softmax(Tensor::from({1, 2}, {-inf, -inf}), false)(0, 1)));
  });
}

TEST_CASE("columns are summed, behind a ReLU where one is given") {
  test::on_every_isa([] {
    Rng rng(8);
    for (std::int64_t n : {0, 1, 5, 15, 16, 17, 100, 5000})
      for (std::int64_t columns : {0, 1, 4, 7}) {
        INFO("samples " << n << ", columns " << columns);
        const Tensor dy = Tensor::normal({n, columns}, 0, 1, rng), y = Tensor::normal({n, columns}, 0, 1, rng);
        const auto behind = [&](std::int64_t b, std::int64_t c) { return y(b, c) > 0 ? double{dy(b, c)} : 0.0; };
        Tensor sums = Tensor::empty({columns}), dz = Tensor::empty(dy.shape());
        kernels::column_sums(cpu{}, dy.view(), nullptr, nullptr, sums.data());
        test::require_close(sums, reference::each({columns}, [&](std::int64_t c, auto...) {
                              test::Exact sum;
                              for (std::int64_t b = 0; b < n; ++b) sum.add(double{dy(b, c)});
                              return sum;
                            }));
        kernels::column_sums(cpu{}, dy.view(), y.data(), dz.data(), sums.data());
        test::require_close(dz,
                            reference::each(dy.shape(), [&](std::int64_t b, std::int64_t c,
                                                            auto...) { return test::Exact(behind(b, c)); }),
                            0);
        test::require_close(sums, reference::each({columns}, [&](std::int64_t c, auto...) {
                              test::Exact sum;
                              for (std::int64_t b = 0; b < n; ++b) sum.add(behind(b, c));
                              return sum;
                            }));
      }
  });
}

TEST_CASE("cross entropy's derivative is softmax minus target") {
  test::on_every_isa([] {
    Rng rng(9);
    for (std::int64_t n : test::sizes)
      for (std::int64_t classes : {1, 3, 10}) {
        const Tensor x = Tensor::normal({n, classes}, 0, 3, rng), scale = Tensor::normal({n, 1}, 0, 1, rng);
        Indices target = Indices::zeros({n});
        target.for_each([&](std::int64_t i, std::int32_t& t) { t = static_cast<std::int32_t>(i * 7 % classes); });
        Tensor dx = Tensor::empty(x.shape()), log_p = Tensor::empty(x.shape());
        kernels::softmax(cpu{}, x.view(), log_p.view(), classes, 1, true);
        kernels::cross_entropy_dx(cpu{}, log_p.view(), target.data(), scale.data(), dx.view());
        test::require_close(dx,
                            reference::each(x.shape(),
                                            [&](std::int64_t b, std::int64_t c, auto...) {
                                              const double p = std::exp(double{log_p(b, c)}),
                                                           t = target(b) == c ? 1 : 0;
                                              return test::Exact(double{scale(b, 0)} * (p - t),
                                                                 std::fabs(double{scale(b, 0)}) * (p + t), 2);
                                            }),
                            8);
      }
  });
}

TEST_CASE("layer norm, its statistics and its derivative") {
  test::on_every_isa([] {
    Rng rng(5);
    for (std::int64_t n : test::sizes)
      for (auto [groups, terms] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {1, 10}, {3, 7}, {1, 100}}) {
        const Tensor x = Tensor::normal({n, groups, terms}, 1, 2, rng), dy = Tensor::normal(x.shape(), 0, 1, rng);
        const Tensor w = Tensor::normal({terms}, 1, 0.5f, rng), b = Tensor::normal({terms}, 0, 1, rng);
        for (bool affine : {false, true}) {
          INFO("shape " << x.shape() << ", affine " << affine);
          const auto [y, mean, rstd, dx] = layer_norm(x, affine ? &w : nullptr, affine ? &b : nullptr, dy);
          const auto want = reference::layer_norm(x, affine ? &w : nullptr, affine ? &b : nullptr, 1e-3);
          test::require_close(y, want.y, 8);
          test::require_close(mean, want.mean, 8);
          test::require_close(rstd, want.rstd, 8);
          test::require_close(dx, reference::layer_norm_dx(dy, x, affine ? &w : nullptr, 1e-3), 16);
        }
      }
  });
}

TEST_CASE("reductions and normalizations do not depend on the number of threads", "[threads]") {
  test::same_for_all_threads([] {
    Rng rng(6);
    const Tensor x = Tensor::normal({300, 40, 20}, 0, 1, rng), dy = Tensor::normal(x.shape(), 0, 1, rng);
    const Tensor flat = Tensor::normal({70000}, 0, 1, rng);
    std::vector<Tensor> all{softmax(x, false), softmax(x, true), reduce<fn::add>(flat, 1)};
    for (int reduced : {1, 2, 4, 5, 7}) all.push_back(reduce<fn::add>(x, reduced));
    for (Tensor& t : layer_norm(x, nullptr, nullptr, dy)) all.push_back(std::move(t));
    return all;
  });
}
