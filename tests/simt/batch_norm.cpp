// Batch norm against the same in double: statistics, normalisation and gradients of channels of every shape.
#include <deepstruct/kernels/contract.hpp>

#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;
using test::DeviceMatrix;
using test::Matrix;

struct NormCase {
  std::int64_t samples, channels, inner;
  std::int64_t terms() const { return samples * inner; }
};

void for_norm_cases(const std::function<void(const NormCase&, Rng&)>& f) {
  std::uint64_t number = 0;
  for (const std::int64_t samples : {1, 2, 5, 16, 17, 31, 33, 64, 70, 130})
    for (const std::int64_t channels : {1, 3, 35})
      for (const std::int64_t inner : {1, 4, 9, 33, 49}) {
        if (samples * inner == 1 || (channels > 3 && inner > 4) || !test::tried(++number)) continue;
        Rng rng(number);
        f({samples, channels, inner}, rng);
      }
  Rng rng(number);
  f({1100, 2, 3}, rng);  // several parts of a channel
  f({7, 3, 1250}, rng);
  f({20, 1, 500}, rng);
  f({70000, 1, 1}, rng);
}

/// x around 3·c with deviation c + 1.
Matrix norm_images(const NormCase& c, Rng& rng) {
  Matrix x = Matrix::normal(c.samples, c.channels * c.inner, rng);
  for (std::int64_t f = 0; f < x.features; ++f)
    for (std::int64_t b = 0; b < c.samples; ++b)
      x(b, f) = x(b, f) * static_cast<float>(f / c.inner + 1) + static_cast<float>(3 * (f / c.inner));
  return x;
}
/// Calls f(sample, column) for the numbers of a channel.
template <class F>
void for_channel(const NormCase& c, std::int64_t channel, F&& f) {
  for (std::int64_t k = 0; k < c.inner; ++k)
    for (std::int64_t b = 0; b < c.samples; ++b) f(b, channel * c.inner + k);
}
Buffer<float> norm_buffer(const std::vector<float>& v) { return Buffer<float>(std::span<const float>(v)); }

void expect_norm(double got, double want, double scale, const char* what, const NormCase& c) {
  check(std::fabs(got - want) <= scale, what, ": got ", got, ", want ", want, " (", c.samples, " samples, ", c.channels,
        " channels of ", c.inner, ")");
}

const test::Register statistics("batch_norm: statistics", [] {
  for_norm_cases([](const NormCase& c, Rng& rng) {
    const Matrix x = norm_images(c, rng);
    const DeviceMatrix in(x);
    const Buffer<float> mean(static_cast<std::size_t>(c.channels)), variance(mean.size());
    kernels::batch_statistics(cuda{}, in.cview(), c.inner, mean.data(), variance.data());
    const auto m = mean.to_host(), v = variance.to_host();
    for (std::int64_t k = 0; k < c.channels; ++k) {
      const auto at = static_cast<std::size_t>(k);
      double sum = 0, squares = 0;
      for_channel(c, k, [&](std::int64_t b, std::int64_t f) { sum += double{x(b, f)}; });
      const double centre = sum / double(c.terms());
      for_channel(c, k, [&](std::int64_t b, std::int64_t f) {
        squares += (double{x(b, f)} - centre) * (double{x(b, f)} - centre);
      });
      squares /= double(c.terms());
      expect_norm(double{m[at]}, centre, 1e-7 * std::fabs(centre), "mean", c);
      expect_norm(double{v[at]}, squares, 1e-7 * squares, "variance", c);
    }
  });
});

const test::Register hard_statistics("batch_norm: statistics of hard numbers", [] {
  // Ones beside 2²⁴, a constant, a great mean with a small deviation, no sample at all.
  const NormCase c{5000, 3, 2};
  Matrix x(c.samples, c.channels * c.inner);
  for (std::int64_t f = 0; f < x.features; ++f)
    for (std::int64_t b = 0; b < c.samples; ++b)
      x(b, f) = f < 2 ? (f == 0 && b == 1 ? 0x1p24f : 1.0f) : f < 4 ? 0.1f : 12345678.0f + (b % 2 ? 1.0f : -1.0f);
  const DeviceMatrix in(x);
  const Buffer<float> mean(3), variance(3);
  kernels::batch_statistics(cuda{}, in.cview(), c.inner, mean.data(), variance.data());
  const auto m = mean.to_host(), v = variance.to_host();
  const double n = double(c.terms()), first = (0x1p24 + n - 1) / n, deviation = 0x1p24 - 1;
  expect_norm(double{m[0]}, first, 1e-7 * first, "mean of ones", c);
  expect_norm(double{v[0]}, deviation * deviation * (n - 1) / n / n, 1e-7 * deviation * deviation / n,
              "variance of ones", c);
  check(m[1] == 0.1f && v[1] == 0, "a constant has mean ", m[1], " and variance ", v[1]);
  expect_norm(double{m[2]}, 12345678, 0.5, "great mean", c);
  expect_norm(double{v[2]}, 1, 1e-7, "variance about a great mean", c);

  const DeviceMatrix none(0, 6);
  kernels::batch_statistics(cuda{}, none.cview(), 2, mean.data(), variance.data());
  for (std::size_t k = 0; k < 3; ++k)
    check(std::isnan(mean.to_host()[k]) && std::isnan(variance.to_host()[k]), "the mean of nothing is ",
          mean.to_host()[k]);
  const DeviceMatrix nothing(5, 0);  // no channel, no column
  kernels::batch_statistics(cuda{}, nothing.cview(), 2, mean.data(), variance.data());
  kernels::batch_statistics(cuda{}, nothing.cview(), 0, mean.data(), variance.data());
});

const test::Register normalisation("batch_norm: normalisation with given statistics", [] {
  for_norm_cases([](const NormCase& c, Rng& rng) {
    const Matrix x = norm_images(c, rng);
    const auto mean = test::normal(c.channels, rng), w = test::normal(c.channels, rng),
               b = test::normal(c.channels, rng);
    auto variance = test::normal(c.channels, rng);
    for (float& v : variance) v *= v;
    const float eps = 0.01f;
    const DeviceMatrix in(x), out(c.samples, x.features);
    const Buffer<float> dm = norm_buffer(mean), dv = norm_buffer(variance), dw = norm_buffer(w), db = norm_buffer(b);
    kernels::batch_norm(cuda{}, in.cview(), c.inner, dm.data(), dv.data(), dw.data(), db.data(), eps, out.view());
    const Matrix y = out.to_host();
    for (std::int64_t k = 0; k < c.channels; ++k)
      for_channel(c, k, [&](std::int64_t s, std::int64_t f) {
        const auto at = static_cast<std::size_t>(k);
        const double scaled =
            (double{x(s, f)} - double{mean[at]}) / std::sqrt(double{variance[at]} + double{eps}) * double{w[at]};
        expect_norm(double{y(s, f)}, scaled + double{b[at]}, 4e-7 * (std::fabs(scaled) + std::fabs(double{b[at]})), "y",
                    c);
      });
  });
});

const test::Register gradients("batch_norm: gradients, in training and with given statistics", [] {
  for_norm_cases([](const NormCase& c, Rng& rng) {
    const Matrix x = norm_images(c, rng), dy = Matrix::normal(c.samples, x.features, rng);
    const auto w = test::normal(c.channels, rng);
    const float eps = 0.01f;
    const DeviceMatrix in(x), up(dy), down(c.samples, x.features), evaluated(c.samples, x.features);
    const Buffer<float> mean(static_cast<std::size_t>(c.channels)), variance(mean.size()),
        weight = norm_buffer(w), dw(mean.size()), db(mean.size()), alone(mean.size());
    kernels::batch_statistics(cuda{}, in.cview(), c.inner, mean.data(), variance.data());
    kernels::batch_norm_backward(cuda{}, up.cview(), in.cview(), c.inner, mean.data(), variance.data(), weight.data(),
                                 eps, true, down.view(), dw.data(), db.data());
    kernels::batch_norm_backward(cuda{}, up.cview(), in.cview(), c.inner, mean.data(), variance.data(), weight.data(),
                                 eps, false, evaluated.view(), alone.data(), db.data());
    const auto same = alone.to_host();
    kernels::batch_norm_backward(cuda{}, up.cview(), in.cview(), c.inner, mean.data(), variance.data(), weight.data(),
                                 eps, true, {}, alone.data(), db.data());
    const auto m = mean.to_host(), v = variance.to_host(), gw = dw.to_host(), gb = db.to_host();
    check(same == gw && alone.to_host() == gw, "dw is not the same in evaluation and without dx");
    const Matrix dx = down.to_host(), plain = evaluated.to_host();
    for (std::int64_t k = 0; k < c.channels; ++k) {
      const auto at = static_cast<std::size_t>(k);
      const double n = double(c.terms()), rstd = 1 / std::sqrt(double{v[at]} + double{eps}), centre = double{m[at]};
      test::Exact sum, product;
      for_channel(c, k, [&](std::int64_t s, std::int64_t f) {
        sum.add(double{dy(s, f)});
        product.add(double{dy(s, f)} * (double{x(s, f)} - centre) * rstd);
      });
      check(sum.close(double{gb[at]}), "db: got ", gb[at], ", want ", sum.value);
      check(product.close(double{gw[at]}), "dw: got ", gw[at], ", want ", product.value);
      for_channel(c, k, [&](std::int64_t s, std::int64_t f) {
        const double scale = rstd * double{w[at]}, normal = (double{x(s, f)} - centre) * rstd, g = double{dy(s, f)},
                     all = std::fabs(scale) *
                           (std::fabs(g) + std::fabs(sum.value / n) + std::fabs(normal * product.value / n));
        expect_norm(double{dx(s, f)}, scale * (g - sum.value / n - normal * product.value / n), 1e-6 * all, "dx", c);
        expect_norm(double{plain(s, f)}, scale * g, 4e-7 * std::fabs(scale * g), "dx in evaluation", c);
      });
    }
  });
});

}  // namespace
