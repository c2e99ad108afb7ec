// Optimizer steps and the loss against the same in double.
#include "../../kernels/launchers.hpp"
#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;

void expect_near(double got, double want, const char* what, std::int64_t i) {
  check(std::fabs(got - want) <= 2e-6 * (1 + std::fabs(want)), what, ": got ", got, ", want ", want, " at ", i);
}
Buffer<float> on_device(const std::vector<float>& v) { return Buffer<float>(std::span<const float>(v)); }

const test::Register adam("update: Adam, AdamW and AMSGrad, two steps", [] {
  for (const std::int64_t n : {1, 4, 7, 300})
    for (const int kind : {0, 1, 2, 3}) {  // plain, decoupled, amsgrad, step counted on the device
      Rng rng(static_cast<std::uint64_t>(n * 4 + kind));
      auto w = test::normal(n, rng), m = std::vector<float>(static_cast<std::size_t>(n)), v = m, largest = m;
      const Buffer<float> dw = on_device(w), dm = on_device(m), dv = on_device(v), dl = on_device(largest);
      const Buffer<std::int32_t> step(1);
      runtime::fill(step.data(), 0, 4, nullptr, "step");
      std::vector<double> ew(w.begin(), w.end()), em(w.size()), ev(w.size()), el(w.size());
      const double lr = 0.01, b1 = 0.9, b2 = 0.999, eps = 1e-8, decay = 0.1;
      for (int t = 1; t <= 2; ++t) {
        const auto g = test::normal(n, rng);
        kernels::adam_rule rule{};
        rule.lr = static_cast<float>(lr), rule.beta1 = static_cast<float>(b1), rule.beta2 = static_cast<float>(b2);
        rule.eps = static_cast<float>(eps), rule.weight_decay = static_cast<float>(decay);
        rule.rest1 = static_cast<float>(1 - b1), rule.rest2 = static_cast<float>(1 - b2);
        if (kind != 3) {
          rule.step_size = static_cast<float>(lr / (1 - std::pow(b1, t)));
          rule.root = static_cast<float>(std::sqrt(1 - std::pow(b2, t)));
        }
        rule.decoupled = kind == 1;
        const Buffer<float> dg = on_device(g);
        kernels::next_step(cuda{}, step.data());
        kernels::adam_step(cuda{}, dw.data(), dg.data(), dm.data(), dv.data(), kind == 2 ? dl.data() : nullptr, n, rule,
                           kind == 3 ? step.data() : nullptr);
        for (std::size_t i = 0; i < ew.size(); ++i) {
          double d = double{g[i]};
          if (kind == 1)
            ew[i] *= 1 - lr * decay;
          else
            d += ew[i] * decay;
          em[i] = em[i] * b1 + d * (1 - b1);
          ev[i] = ev[i] * b2 + d * d * (1 - b2);
          el[i] = std::max(el[i], ev[i]);
          ew[i] -= em[i] * lr / (1 - std::pow(b1, t)) /
                   (std::sqrt(kind == 2 ? el[i] : ev[i]) / std::sqrt(1 - std::pow(b2, t)) + eps);
        }
      }
      const auto gw = dw.to_host(), gm = dm.to_host(), gv = dv.to_host();
      for (std::size_t i = 0; i < ew.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        check(std::fabs(double{gw[i]} - ew[i]) <= 2e-5, "adam: w is ", gw[i], ", want ", ew[i], " at ", at, ", kind ",
              kind);
        expect_near(double{gm[i]}, em[i], "adam: mean", at);
        expect_near(double{gv[i]}, ev[i], "adam: square", at);
      }
    }
});

const test::Register sgd("update: SGD, two steps", [] {
  for (const int kind : {0, 1, 2, 3}) {  // plain, momentum, Nesterov, momentum with the step on the device
    const std::int64_t n = 77;
    Rng rng(static_cast<std::uint64_t>(kind));
    const auto w = test::normal(n, rng);
    const Buffer<float> dw = on_device(w), momentum(static_cast<std::size_t>(n));  // unset
    const Buffer<std::int32_t> step(1);
    runtime::fill(step.data(), 0, 4, nullptr, "step");
    std::vector<double> ew(w.begin(), w.end()), em(w.size());
    for (int t = 1; t <= 2; ++t) {
      const auto g = test::normal(n, rng);
      const kernels::sgd_rule rule{0.1f, 0.9f, 0.25f, 0.01f, kind == 2, kind != 3 && t == 1};
      const Buffer<float> dg = on_device(g);
      kernels::next_step(cuda{}, step.data());
      kernels::sgd_step(cuda{}, dw.data(), dg.data(), kind == 0 ? nullptr : momentum.data(), n, rule,
                        kind == 3 ? step.data() : nullptr);
      for (std::size_t i = 0; i < ew.size(); ++i) {
        double d = double{g[i]} + ew[i] * 0.01;
        if (kind != 0) {
          em[i] = t == 1 ? d : em[i] * 0.9 + d * 0.75;
          d = kind == 2 ? d + em[i] * 0.9 : em[i];
        }
        ew[i] -= d * 0.1;
      }
    }
    const auto got = dw.to_host();
    for (std::size_t i = 0; i < ew.size(); ++i)
      expect_near(double{got[i]}, ew[i], "sgd: w", static_cast<std::int64_t>(i));
  }
});

const test::Register loss("update: cross entropy and its gradient", [] {
  for (const std::int64_t samples : {1, 5, 64, 70})
    for (const std::int64_t classes : {1, 2, 10}) {
      Rng rng(static_cast<std::uint64_t>(samples + classes));
      test::Matrix x = test::Matrix::normal(samples, classes, rng);
      for (std::int64_t c = 0; c < classes; ++c) x(0, c) *= 60;  // exponentials beyond float
      std::vector<std::int32_t> target;
      for (std::int64_t b = 0; b < samples; ++b) target.push_back(static_cast<std::int32_t>(b * 3 % classes));
      const test::DeviceMatrix in(x), dx(samples, classes);
      const Buffer<std::int32_t> right{std::span<const std::int32_t>(target)};
      const Buffer<float> each(static_cast<std::size_t>(samples));
      kernels::cross_entropy(cuda{}, in.cview(), right.data(), 0.5f, each.data(), dx.view());
      const test::Matrix got = dx.to_host();
      const auto losses = each.to_host();
      for (std::int64_t b = 0; b < samples; ++b) {
        double most = -1e30, sum = 0;
        for (std::int64_t c = 0; c < classes; ++c) most = std::max(most, double{x(b, c)});
        for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(double{x(b, c)} - most);
        expect_near(double{losses[b]}, std::log(sum) + most - double{x(b, target[b])}, "loss", b);
        for (std::int64_t c = 0; c < classes; ++c)
          expect_near(double{got(b, c)}, 0.5 * (std::exp(double{x(b, c)} - most) / sum - (c == target[b] ? 1 : 0)),
                      "dx", b);
      }
    }
});

}  // namespace
