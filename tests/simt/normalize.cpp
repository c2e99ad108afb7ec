// Softmax, the gradient of cross entropy, and layer norm against the same in double.
#include <algorithm>

#include <deepstruct/kernels/contract.hpp>

#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;

constexpr std::int64_t norm_samples[] = {0, 1, 2, 5, 31, 32, 33, 64, 70, 130};
constexpr float norm_infinity = std::numeric_limits<float>::infinity();

void norm_close(double got, double want, double scale, const char* what, std::int64_t b, std::int64_t c) {
  check((std::isnan(got) && std::isnan(want)) || got == want || std::fabs(got - want) <= 1e-6 * scale, what, ": got ",
        got, ", want ", want, " at (", b, ", ", c, ")");
}
/// The padding is as it was: NaN.
void norm_padding(const test::Matrix& m, const char* what) {
  for (std::int64_t f = 0; f < m.features; ++f)
    for (std::int64_t b = m.samples; b < m.ld; ++b) check(std::isnan(m(b, f)), what, ": writes padding of column ", f);
}

const test::Register softmaxes("normalize: softmax and its logarithm", [] {
  const std::int64_t shapes[][3] = {{1, 1, 1},   {1, 10, 1}, {3, 7, 1},  {1, 4, 6},   {2, 9, 5}, {0, 5, 1},
                                    {1, 300, 1}, {1, 40, 3}, {40, 3, 1}, {1, 1000, 1}};  // outer, terms, inner
  std::uint64_t combination = 0;
  for (const std::int64_t samples : norm_samples)
    for (const auto& [outer, terms, inner] : shapes)
      for (const bool logarithm : {false, true}) {
        if (!test::tried(++combination) || samples * terms > 20000) continue;
        Rng rng(combination);
        test::Matrix x = test::Matrix::normal(samples, outer * terms * inner, rng);
        const auto column = [&, t = terms, i = inner](std::int64_t group, std::int64_t k) {
          return group / i * i * t + k * i + group % i;
        };
        for (std::int64_t b = 0; b < samples; ++b)
          for (std::int64_t g = 0; g < outer * inner; ++g) {
            const std::int64_t last = column(g, terms - 1), half = column(g, terms / 2);
            const std::int64_t kind = (b + 3 * g) % 9;
            if (kind == 1) x(b, half) = 200;  // its exponential is beyond float
            if (kind == 2) x(b, half) = -norm_infinity;
            if (kind == 3) x(b, last) = std::numeric_limits<float>::quiet_NaN();
            if (kind == 4) x(b, last) = norm_infinity;
            if (kind == 5)
              for (std::int64_t k = 0; k < terms; ++k) x(b, column(g, k)) = -norm_infinity;
            if (kind == 6)
              for (std::int64_t k = 0; k < terms; ++k) x(b, column(g, k)) -= 500;
          }
        const test::DeviceMatrix in(x), out(samples, x.features);
        kernels::softmax(cuda{}, in.cview(), out.view(), terms, inner, logarithm);
        const test::Matrix y = out.to_host();
        norm_padding(y, "softmax");
        for (std::int64_t b = 0; b < samples; ++b)
          for (std::int64_t g = 0; g < outer * inner; ++g) {
            double top = -HUGE_VAL, sum = 0;
            for (std::int64_t k = 0; k < terms; ++k) top = std::max(top, double{x(b, column(g, k))});
            for (std::int64_t k = 0; k < terms; ++k) sum += std::exp(double{x(b, column(g, k))} - top);
            for (std::int64_t k = 0; k < terms; ++k) {  // ∞ − ∞ makes it NaN where it must be
              const double e = double{x(b, column(g, k))} - top;
              norm_close(double{y(b, column(g, k))}, logarithm ? e - std::log(sum) : std::exp(e) / sum,
                         logarithm ? 1 + std::fabs(top) + std::fabs(e) : 1, logarithm ? "log_softmax" : "softmax", b,
                         column(g, k));
            }
          }
      }
});

const test::Register cross("normalize: gradient of cross entropy", [] {
  std::uint64_t combination = 0;
  for (const std::int64_t samples : norm_samples)
    for (const std::int64_t classes : {1, 2, 10, 300}) {
      if (!test::tried(++combination) && !test::tried(combination + 20)) continue;
      Rng rng(combination);
      test::Matrix log_p = test::Matrix::normal(samples, classes, rng);
      std::vector<std::int32_t> target;
      auto scale = test::normal(samples, rng);
      for (std::int64_t b = 0; b < samples; ++b) {
        target.push_back(static_cast<std::int32_t>(b * 7 % classes));
        if (b % 3 == 0) log_p(b, classes - 1) = -norm_infinity;
        if (b % 5 == 4) scale[static_cast<std::size_t>(b)] = 0;
      }
      const test::DeviceMatrix in(log_p), out(samples, classes);
      const Buffer<std::int32_t> right{std::span<const std::int32_t>(target)};
      const Buffer<float> by{std::span<const float>(scale)};
      kernels::cross_entropy_dx(cuda{}, in.cview(), right.data(), by.data(), out.view());
      const test::Matrix dx = out.to_host();
      norm_padding(dx, "cross_entropy_dx");
      for (std::int64_t b = 0; b < samples; ++b)
        for (std::int64_t c = 0; c < classes; ++c) {
          const double p = std::exp(double{log_p(b, c)});
          norm_close(
              double{dx(b, c)},
              double{scale[static_cast<std::size_t>(b)]} * (p - (c == target[static_cast<std::size_t>(b)] ? 1 : 0)),
              10 * (1 + p), "cross_entropy_dx", b, c);
        }
    }
});

const test::Register classes_lose("normalize: losses of classes, weighted, smoothed, ignored, and of no class", [] {
  std::uint64_t combination = 0;
  for (const std::int64_t samples : norm_samples)
    for (const std::int64_t classes : {1, 2, 10, 130})
      for (const int kind : {0, 1, 2, 3}) {  // bit 0: weights, bit 1: smooth
        if (!test::tried(++combination) && !test::tried(combination + 3)) continue;
        Rng rng(combination);
        test::Matrix log_p = test::Matrix::normal(samples, classes, rng);
        std::vector<std::int32_t> target;
        for (std::int64_t b = 0; b < samples; ++b) {
          target.push_back(b % 11 == 3   ? -100
                           : b % 13 == 5 ? static_cast<std::int32_t>(classes)
                           : b % 17 == 8 ? -1
                                         : static_cast<std::int32_t>(b * 7 % classes));
          if (b % 3 == 0) log_p(b, classes - 1) = -norm_infinity;
        }
        std::vector<float> weight = test::normal(classes, rng);
        weight.back() = 0;
        const Buffer<float> weights{std::span<const float>(weight)};
        const Buffer<std::int32_t> right{std::span<const std::int32_t>(target)};
        const float smooth = kind & 2 ? 0.3f : 0.0f;
        const kernels::class_rule rule{-100, kind & 1 ? weights.data() : nullptr, 1 - smooth,
                                       smooth / static_cast<float>(classes)};
        const test::DeviceMatrix in(log_p), out(samples, classes);
        const auto n = static_cast<std::size_t>(samples);
        const Buffer<float> loss(n), own(n), total(n);
        const Buffer<std::int32_t> at(n);
        const bool shares = combination % 2 == 0;
        kernels::class_losses(cuda{}, in.cview(), right.data(), rule, loss.data(), at.data(), own.data(), total.data(),
                              shares ? out.view() : matrix_view<float>{});
        const auto got_loss = loss.to_host(), got_own = own.to_host(), got_total = total.to_host();
        const auto got_at = at.to_host();
        const test::Matrix share = out.to_host();
        if (shares) norm_padding(share, "class_losses");
        for (std::int64_t b = 0; b < samples; ++b) {
          const auto i = static_cast<std::size_t>(b);
          const bool ignored = target[i] == -100, valid = target[i] >= 0 && target[i] < classes;
          const auto of = [&](std::int64_t c) {
            return ignored ? 0.0 : !valid ? NAN : kind & 1 ? double{weight[static_cast<std::size_t>(c)]} : 1.0;
          };
          const double mine = of(valid ? target[i] : 0);
          norm_close(double{got_total[i]}, mine, 1, "class_losses: weight", b, 0);
          norm_close(double{got_own[i]}, mine * double{1 - smooth}, 1, "class_losses: own share", b, 0);
          check(got_at[i] == (valid && !ignored ? target[i] : 0), "class_losses: at ", got_at[i]);
          double sum = ignored ? 0.0 : !valid ? NAN : 0.0, magnitude = 1;
          for (std::int64_t c = 0; c < classes; ++c) {
            const double want = (c == target[i] && !ignored ? mine * double{1 - smooth} : 0.0) +
                                (ignored ? 0.0 : of(c) * double{smooth} / static_cast<double>(classes)) * 1.0;
            if (want != 0) sum -= want * double{log_p(b, c)}, magnitude += std::fabs(want * double{log_p(b, c)});
            if (shares) norm_close(double{share(b, c)}, valid || ignored ? want : NAN, 1, "class_losses: share", b, c);
          }
          norm_close(double{got_loss[i]}, sum, magnitude, "class_losses", b, 0);
        }
      }
});

const test::Register norms("normalize: layer norm and its gradient", [] {
  std::uint64_t combination = 0;
  for (const std::int64_t samples : norm_samples)
    for (const std::int64_t groups : {0, 1, 3, 40})
      for (const std::int64_t terms : {0, 1, 2, 7, 33, 1000}) {
        if (!test::tried(++combination) || samples * groups * terms > 20000) continue;
        const auto affine = static_cast<int>(combination / 3 % 4);  // weights, a bias
        Rng rng(combination);
        test::Matrix x = test::Matrix::normal(samples, groups * terms, rng);
        for (float& v : x.data) v = v * 2 + 30;  // a mean beside which the deviation is small
        const test::Matrix dy = test::Matrix::normal(samples, groups * terms, rng);
        const auto w = test::normal(terms, rng), bias = test::normal(terms, rng);
        const Buffer<float> dw{std::span<const float>(w)}, db{std::span<const float>(bias)};
        const test::DeviceMatrix in(x), above(dy), out(samples, groups * terms), below(samples, groups * terms),
            mean(samples, groups), rstd(samples, groups);
        const float eps = 0.25f;
        const float* weight = affine & 1 ? dw.data() : nullptr;
        kernels::layer_norm(cuda{}, in.cview(), weight, affine & 2 ? db.data() : nullptr, out.view(), mean.view(),
                            rstd.view(), eps);
        kernels::layer_norm_dx(cuda{}, above.cview(), in.cview(), weight, mean.cview(), rstd.cview(), below.view());
        const test::Matrix y = out.to_host(), dx = below.to_host(), m = mean.to_host(), r = rstd.to_host();
        norm_padding(y, "layer_norm");
        norm_padding(dx, "layer_norm_dx");
        norm_padding(m, "layer_norm: mean");
        norm_padding(r, "layer_norm: rstd");
        for (std::int64_t b = 0; b < samples; ++b)
          for (std::int64_t g = 0; g < groups; ++g) {
            double sum = 0, squares = 0, plain = 0, weighted = 0;
            const auto n = static_cast<double>(terms);
            for (std::int64_t k = 0; k < terms; ++k) sum += double{x(b, g * terms + k)};
            const double center = sum / n;
            for (std::int64_t k = 0; k < terms; ++k) {
              const double d = double{x(b, g * terms + k)} - center;
              squares += d * d;
            }
            const double one_by = 1 / std::sqrt(squares / n + double{eps});
            norm_close(double{m(b, g)}, center, 60, "layer_norm: mean", b, g);
            norm_close(double{r(b, g)}, one_by, 10 * one_by, "layer_norm: rstd", b, g);
            const auto upper = [&](std::int64_t k) {
              return double{dy(b, g * terms + k)} * (affine & 1 ? double{w[static_cast<std::size_t>(k)]} : 1);
            };
            for (std::int64_t k = 0; k < terms; ++k) {
              plain += upper(k) / n;
              weighted += upper(k) * (double{x(b, g * terms + k)} - center) * one_by / n;
            }
            for (std::int64_t k = 0; k < terms; ++k) {
              const double normal = (double{x(b, g * terms + k)} - center) * one_by;
              const double scaled = normal * (affine & 1 ? double{w[static_cast<std::size_t>(k)]} : 1);
              norm_close(double{y(b, g * terms + k)},
                         scaled + (affine & 2 ? double{bias[static_cast<std::size_t>(k)]} : 0), 40, "layer_norm", b,
                         g * terms + k);
              norm_close(double{dx(b, g * terms + k)}, one_by * (upper(k) - plain - normal * weighted), 60,
                         "layer_norm_dx", b, g * terms + k);
            }
          }
      }
});

const test::Register orders("normalize: the same bits in any order of threads", [] {
  Rng rng(9);
  const test::Matrix x = test::Matrix::normal(3, 500, rng);
  const test::DeviceMatrix in(x), out(3, 500), mean(3, 1), rstd(3, 1);
  std::vector<std::vector<float>> first;
  for (std::uint64_t order = 0; order < 3; ++order) {
    test::set_schedule(order + 50);
    std::vector<std::vector<float>> got;
    kernels::softmax(cuda{}, in.cview(), out.view(), 500, 1, false);
    got.push_back(out.data.to_host());
    kernels::layer_norm(cuda{}, in.cview(), nullptr, nullptr, out.view(), mean.view(), rstd.view(), 1e-5f);
    got.push_back(out.data.to_host());
    if (order == 0) first = got;
    check(got == first, "normalize: other bits in order ", order);
  }
});

}  // namespace
