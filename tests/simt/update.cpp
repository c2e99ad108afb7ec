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

const test::Register rmsprop("update: RMSprop, centred and with momentum, two steps", [] {
  for (const std::int64_t n : {1, 77, 300})
    for (const int kind : {0, 1, 2, 3}) {  // bit 0: centred, bit 1: momentum
      Rng rng(static_cast<std::uint64_t>(n * 4 + kind));
      const auto w = test::normal(n, rng);
      const std::vector<float> zeros(w.size());
      const Buffer<float> dw = on_device(w), dv = on_device(zeros), da = on_device(zeros), dm = on_device(zeros);
      std::vector<double> ew(w.begin(), w.end()), ev(w.size()), ea(w.size()), em(w.size());
      const double lr = 0.01, alpha = 0.75, eps = 1e-3, decay = 0.1, momentum = 0.9;
      for (int t = 1; t <= 2; ++t) {
        const auto g = test::normal(n, rng);
        const Buffer<float> dg = on_device(g);
        kernels::rmsprop_step(cuda{}, dw.data(), dg.data(), dv.data(), kind & 1 ? da.data() : nullptr,
                              kind & 2 ? dm.data() : nullptr, n, {0.01f, 0.75f, 1e-3f, 0.1f, 0.9f});
        for (std::size_t i = 0; i < ew.size(); ++i) {
          const double d = double{g[i]} + ew[i] * decay;
          ev[i] = ev[i] * alpha + d * d * (1 - alpha);
          if (kind & 1) ea[i] = ea[i] * alpha + d * (1 - alpha);
          double step = d / (std::sqrt(ev[i] - ea[i] * ea[i]) + eps);
          if (kind & 2) step = em[i] = em[i] * momentum + step;
          ew[i] -= step * lr;
        }
      }
      const auto gw = dw.to_host(), gv = dv.to_host(), ga = da.to_host(), gm = dm.to_host();
      for (std::size_t i = 0; i < ew.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        expect_near(double{gw[i]}, ew[i], "rmsprop: w", at);
        expect_near(double{gv[i]}, ev[i], "rmsprop: square", at);
        expect_near(double{ga[i]}, ea[i], "rmsprop: mean", at);
        expect_near(double{gm[i]}, em[i], "rmsprop: momentum", at);
      }
    }
});

const test::Register adagrad("update: Adagrad, two steps", [] {
  for (const std::int64_t n : {0, 1, 77, 300}) {
    Rng rng(static_cast<std::uint64_t>(n));
    const auto w = test::normal(n, rng);
    const Buffer<float> dw = on_device(w), dv = on_device(std::vector<float>(w.size(), 0.5f));
    std::vector<double> ew(w.begin(), w.end()), ev(w.size(), 0.5);
    for (int t = 1; t <= 2; ++t) {
      const auto g = test::normal(n, rng);
      const Buffer<float> dg = on_device(g);
      kernels::adagrad_step(cuda{}, dw.data(), dg.data(), dv.data(), n, {0.1f, 1e-3f, 0.01f});
      for (std::size_t i = 0; i < ew.size(); ++i) {
        const double d = double{g[i]} + ew[i] * 0.01;
        ev[i] += d * d;
        ew[i] -= d * 0.1 / (std::sqrt(ev[i]) + 1e-3);
      }
    }
    const auto gw = dw.to_host(), gv = dv.to_host();
    for (std::size_t i = 0; i < ew.size(); ++i) {
      expect_near(double{gw[i]}, ew[i], "adagrad: w", static_cast<std::int64_t>(i));
      expect_near(double{gv[i]}, ev[i], "adagrad: sum", static_cast<std::int64_t>(i));
    }
  }
});

const test::Register contract("update: steps whose number the rule knows", [] {
  const std::int64_t n = 50;
  Rng rng(12);
  const auto w = test::normal(n, rng), g = test::normal(n, rng), m = test::normal(n, rng);
  auto v = test::normal(n, rng);
  for (float& x : v) x *= x;
  const kernels::sgd_rule by_sgd{0.1f, 0.9f, 0.25f, 0.01f, true, false};
  kernels::adam_rule by_adam{};
  by_adam.lr = 0.01f, by_adam.beta1 = 0.9f, by_adam.beta2 = 0.999f, by_adam.eps = 1e-8f;
  by_adam.rest1 = 0.1f, by_adam.rest2 = 0.001f, by_adam.step_size = 0.02f, by_adam.root = 0.3f;
  std::vector<std::vector<float>> got[2];
  for (const bool with_null : {true, false}) {
    const Buffer<float> dg = on_device(g);
    Buffer<float> dw = on_device(w), dm = on_device(m), dv = on_device(v), dl = on_device(v);
    if (with_null)
      kernels::sgd_step(cuda{}, dw.data(), dg.data(), dm.data(), n, by_sgd, nullptr);
    else
      kernels::sgd_step(cuda{}, dw.data(), dg.data(), dm.data(), n, by_sgd);
    for (const Buffer<float>* b : {&dw, &dm}) got[with_null].push_back(b->to_host());
    if (with_null)
      kernels::adam_step(cuda{}, dw.data(), dg.data(), dm.data(), dv.data(), dl.data(), n, by_adam, nullptr);
    else
      kernels::adam_step(cuda{}, dw.data(), dg.data(), dm.data(), dv.data(), dl.data(), n, by_adam);
    for (const Buffer<float>* b : {&dw, &dm, &dv, &dl}) got[with_null].push_back(b->to_host());
  }
  check(got[0] == got[1] && got[0][0] != w && got[0][2] != got[0][0], "update: the contract's steps differ");
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
