// Batch norm kernels against sums in double: every batch and inner size, long channels, offsets, threads.
#include <deepstruct/kernels/batch_norm.hpp>

#include "support/cases.hpp"
#include "support/reference.hpp"

using namespace deepstruct;
namespace reference = test::reference;

namespace {

/// Calls f(b, r) for all numbers of a channel of x [b, c, inner].
template <class F>
void each_of_channel(const Tensor& x, F&& f) {
  for (std::int64_t b = 0; b < x.shape()[0]; ++b)
    for (std::int64_t r = 0; r < x.shape()[2]; ++r) f(b, r);
}

struct BatchNormRun {
  Tensor mean, variance, y, dx, dw, db;

  BatchNormRun(const Tensor& x, const Tensor& dy, const Tensor& w, const Tensor& b, float eps, bool training)
      : mean(Tensor::empty(w.shape())), variance(mean), y(Tensor::empty(x.shape())), dx(y), dw(mean), db(mean) {
    const std::int64_t inner = x.shape()[2];
    if (training) {
      kernels::batch_statistics(cpu{}, x.view(), inner, mean.data(), variance.data());
    } else {
      mean = Tensor::full(w.shape(), 0.5f);
      variance = Tensor::full(w.shape(), 2);
    }
    kernels::batch_norm(cpu{}, x.view(), inner, mean.data(), variance.data(), w.data(), b.data(), eps, y.view());
    kernels::batch_norm_backward(cpu{}, dy.view(), x.view(), inner, mean.data(), variance.data(), w.data(), eps,
                                 training, dx.view(), dw.data(), db.data());
  }
};

}  // namespace

TEST_CASE("batch norm: statistics, values and gradients of any shape") {
  test::on_every_isa([] {
    Rng rng(1);
    const float eps = 1e-3f;
    for (std::int64_t batch : {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 65, 100, 257})
      for (auto [c, inner] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 1}, {3, 12}, {2, 49}})
        for (bool training : {true, false}) {
          INFO("batch " << batch << ", channels " << c << ", inner " << inner << ", training " << training);
          const Tensor x = Tensor::normal({batch, c, inner}, 1, 2, rng), dy = Tensor::normal(x.shape(), 0.3f, 1, rng);
          const Tensor w = Tensor::normal({c}, 1, 0.5f, rng), b = Tensor::normal({c}, 0, 1, rng);
          const BatchNormRun got(x, dy, w, b, eps, training);
          const auto n = static_cast<double>(batch * inner);
          std::vector<test::Exact> means, variances, dws, dbs;
          std::vector<double> rstds, m;
          for (std::int64_t k = 0; k < c; ++k) {
            test::Exact mean, variance, dw, db;
            each_of_channel(x, [&](auto i, auto r) { mean.add(double{x(i, k, r)} / n); });
            each_of_channel(x, [&](auto i, auto r) { variance.add(std::pow(double{x(i, k, r)} - mean.value, 2) / n); });
            if (!training) mean = 0.5, variance = 2;
            const double rstd = 1 / std::sqrt(variance.value + double{eps});
            each_of_channel(x, [&](auto i, auto r) {
              db.add(double{dy(i, k, r)});
              dw.add(double{dy(i, k, r)} * (double{x(i, k, r)} - mean.value) * rstd);
              dw.magnitude += std::fabs(double{dy(i, k, r)}) * mean.magnitude * rstd;
            });
            means.push_back(mean);
            variances.emplace_back(variance.value, variance.magnitude + mean.magnitude * 1e-3, n);
            dws.push_back(dw);
            dbs.push_back(db);
            rstds.push_back(rstd);
            m.push_back(mean.value);
          }
          test::require_close(got.mean, means, 8);
          test::require_close(got.variance, variances, 8);
          test::require_close(got.dw, dws, 16);
          test::require_close(got.db, dbs, 8);
          const auto at = [&](std::int64_t i, std::int64_t k, std::int64_t r) {
            return (double{x(i, k, r)} - m[k]) * rstds[k];
          };
          test::require_close(got.y,
                              reference::each(x.shape(),
                                              [&](auto i, auto k, auto r, auto) {
                                                const double v = at(i, k, r);
                                                return test::Exact(v * double{w(k)} + double{b(k)},
                                                                   (std::fabs(v) + 1 + std::fabs(m[k]) * rstds[k]) *
                                                                           std::fabs(double{w(k)}) * 2 +
                                                                       std::fabs(double{b(k)}),
                                                                   n);
                                              }),
                              8);
          test::require_close(
              got.dx,
              reference::each(
                  x.shape(),
                  [&](auto i, auto k, auto r, auto) {
                    const double d = double{dy(i, k, r)}, scale = rstds[k] * double{w(k)};
                    const double mean_dy = training ? dbs[k].value / n : 0, slope = training ? dws[k].value / n : 0;
                    return test::Exact(scale * (d - mean_dy - at(i, k, r) * slope),
                                       std::fabs(scale) * (std::fabs(d) + dbs[k].magnitude / n +
                                                           (std::fabs(at(i, k, r)) + 1) * dws[k].magnitude / n),
                                       n);
                  }),
              16);
        }
  });
}

TEST_CASE("batch norm gives its sums without dx, and writes no channel but its own") {
  test::on_every_isa([] {
    Rng rng(2);
    for (std::int64_t batch : {3, 15, 20}) {
      const Tensor x = Tensor::normal({batch, 3, 5}, 0, 1, rng), w = Tensor::ones({3}), b = Tensor::zeros({3});
      const BatchNormRun whole(x, x, w, b, 0, true);
      Tensor dw = Tensor::empty({3}), db = dw;
      kernels::batch_norm_backward(cpu{}, x.view(), x.view(), 5, whole.mean.data(), whole.variance.data(), w.data(), 0,
                                   true, {}, dw.data(), db.data());
      REQUIRE(test::same_bits(dw, whole.dw));
      REQUIRE(test::same_bits(db, whole.db));
      // Channel 1 alone gives what it gives among others.
      Tensor one = Tensor::empty({batch, 1, 5});
      one.for_each([&](std::int64_t i, float& v) { v = x(i / 5, 1, i % 5); });
      const BatchNormRun alone(one, one, Tensor::ones({1}), Tensor::zeros({1}), 0, true);
      alone.y.for_each([&](std::int64_t i, float v) { REQUIRE(v == whole.y(i / 5, 1, i % 5)); });
      alone.dx.for_each([&](std::int64_t i, float v) { REQUIRE(v == whole.dx(i / 5, 1, i % 5)); });
    }
  });
}

TEST_CASE("statistics of long channels keep their digits, also far from zero") {
  test::on_every_isa([] {
    Rng rng(3);
    for (const Shape& s : {Shape{40000, 2, 5}, Shape{12, 2, 20000}, Shape{100, 1, 3000}}) {
      INFO("shape " << s);
      const Tensor x = Tensor::normal(s, 100, 1, rng);
      Tensor mean = Tensor::empty({s[1]}), variance = mean;
      kernels::batch_statistics(cpu{}, x.view(), s[2], mean.data(), variance.data());
      for (std::int64_t c = 0; c < s[1]; ++c) {
        const double n = static_cast<double>(s[0] * s[2]);
        double m = 0, v = 0;
        each_of_channel(x, [&](auto i, auto r) { m += double{x(i, c, r)} / n; });
        each_of_channel(x, [&](auto i, auto r) { v += std::pow(double{x(i, c, r)} - m, 2) / n; });
        REQUIRE(double{mean(c)} == Approx(m).epsilon(2e-7));
        REQUIRE(double{variance(c)} == Approx(v).epsilon(2e-6));
      }
    }
  });
}

TEST_CASE("batch norm does not depend on the number of threads", "[threads]") {
  test::same_for_all_threads([] {
    Rng rng(4);
    const Tensor x = Tensor::normal({90, 13, 100}, 0, 1, rng), dy = Tensor::normal(x.shape(), 0, 1, rng);
    const Tensor w = Tensor::normal({13}, 1, 1, rng);
    BatchNormRun r(x, dy, w, w, 1e-5f, true);
    return std::vector<Tensor>{r.mean, r.variance, r.y, r.dx, r.dw, r.db};
  });
}
