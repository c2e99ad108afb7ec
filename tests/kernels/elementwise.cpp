// Elementwise functions, broadcasting, moves and optimizer steps against the reference.
#include <deepstruct/core/nest.hpp>
#include <deepstruct/kernels/move.hpp>
#include <deepstruct/kernels/update.hpp>

#include "support/cases.hpp"
#include "support/reference.hpp"

using namespace deepstruct;
namespace fn = kernels::fn;
namespace reference = test::reference;

namespace {

using Truth = double (*)(double x, double a, double b);

double sigma(double x) { return 1 / (1 + std::exp(-x)); }
double normal_cdf(double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }
double normal_density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979324); }
double gelu_inner(double x) { return std::sqrt(2 / 3.14159265358979324) * (x + 0.044715 * x * x * x); }

/// f and f' of one function for every size, instruction set and a range of arguments.
template <class Op>
void function_is(const char* name, Truth f, Truth df, float low = -6, float high = 6, float a = 0, float b = 0) {
  INFO(name);
  test::on_every_isa([&] {
    Rng rng(1);
    for (std::int64_t n : test::sizes) {
      INFO("size " << n);
      const Tensor x = Tensor::uniform({n, 2}, low, high, rng), dy = Tensor::normal({n, 2}, 0, 1, rng);
      Tensor y = Tensor::empty(x.shape()), dx = Tensor::empty(x.shape());
      kernels::map<Op>(cpu{}, x.data(), y.data(), x.shape().storage(), a, b);
      kernels::map_grad<Op>(cpu{}, dy.data(), x.data(), y.data(), dx.data(), x.shape().storage(), a, b);
      test::require_close(y,
                          reference::each(x.shape(),
                                          [&](std::int64_t i, std::int64_t j, auto...) {
                                            const double value = f(double{x(i, j)}, double{a}, double{b});
                                            return test::Exact(value, std::fabs(value) + 1, 1);
                                          }),
                          8);
      test::require_close(dx,
                          reference::each(x.shape(),
                                          [&](std::int64_t i, std::int64_t j, auto...) {
                                            const double slope = df(double{x(i, j)}, double{a}, double{b});
                                            return test::Exact(slope * double{dy(i, j)},
                                                               (std::fabs(slope) + 1) * std::fabs(double{dy(i, j)}), 1);
                                          }),
                          16);
    }
  });
}

template <class Op>
Tensor zip(const Tensor& a, const Tensor& b, const Shape& shape) {
  Tensor y = Tensor::empty(shape);
  kernels::zip<Op>(cpu{}, a.data(), b.data(), y.data(),
                   make_nest<3>(shape, {strides_of(shape), broadcast_strides(a.shape(), shape),
                                        broadcast_strides(b.shape(), shape)}));
  return y;
}
/// Entry of t at an index of a shape it broadcasts to.
double stretched(const Tensor& t, const Shape& to, std::array<std::int64_t, 4> at) {
  std::array<std::int64_t, 4> own{};
  const int shift = to.rank() - t.rank();
  for (int k = 0; k < t.rank(); ++k) own[k] = t.shape()[k] == 1 ? 0 : at[k + shift];
  return double{t(own[0], own[1], own[2], own[3])};
}

template <class Op>
void zip_is(double (*f)(double, double)) {
  test::on_every_isa([&] {
    Rng rng(2);
    for (std::int64_t n : test::sizes)
      for (const auto& [sa, sb, shape] : {std::array{Shape{n}, Shape{n}, Shape{n}},
                                          {Shape{n, 3}, Shape{n, 3}, Shape{n, 3}},
                                          {Shape{n, 3}, Shape{3}, Shape{n, 3}},
                                          {Shape{n, 1}, Shape{n, 3}, Shape{n, 3}},
                                          {Shape{}, Shape{n, 2}, Shape{n, 2}},
                                          {Shape{1, 3}, Shape{n, 1}, Shape{n, 3}},
                                          {Shape{2, 1, n}, Shape{1, 3, 1}, Shape{2, 3, n}},
                                          {Shape{n, 2, 1, 3}, Shape{2, 4, 1}, Shape{n, 2, 4, 3}}}) {
        INFO(sa << " and " << sb);
        const Tensor a = Tensor::normal(sa, 0, 1, rng), b = Tensor::normal(sb, 0, 1, rng);
        test::require_close(
            zip<Op>(a, b, shape),
            reference::each(shape,
                            [&, to = shape](auto... at) {
                              return test::Exact(f(stretched(a, to, {at...}), stretched(b, to, {at...})));
                            }),
            2);
      }
  });
}

/// The rule of Adam's step number t (from 1) with lr 0.1, β 0.9 and 0.99, ε 1e-3, decay 0.1.
kernels::adam_rule adam(int t, bool decoupled) {
  return {.lr = 0.1f,
          .beta1 = 0.9f,
          .beta2 = 0.99f,
          .eps = 1e-3f,
          .weight_decay = 0.1f,
          .rest1 = static_cast<float>(1 - 0.9),
          .rest2 = static_cast<float>(1 - 0.99),
          .step_size = static_cast<float>(0.1 / (1 - std::pow(0.9, t))),
          .root = static_cast<float>(std::sqrt(1 - std::pow(0.99, t))),
          .decoupled = decoupled};
}

}  // namespace

TEST_CASE("every elementwise function and its derivative") {
  function_is<fn::relu>(
      "relu", [](double x, double, double) { return std::max(x, 0.0); },
      [](double x, double, double) { return x > 0 ? 1.0 : 0.0; });
  function_is<fn::leaky_relu>(
      "leaky_relu", [](double x, double a, double) { return x > 0 ? x : a * x; },
      [](double x, double a, double) { return x > 0 ? 1 : a; }, -6, 6, 0.2f);
  const Truth clamp = [](double x, double a, double b) { return std::clamp(x, a, b); };
  const Truth inside = [](double x, double a, double b) { return x > a && x < b ? 1.0 : 0.0; };
  function_is<fn::clamp>("clamp", clamp, inside, -6, 6, -1, 2.5f);
  function_is<fn::hardtanh>("hardtanh", clamp, inside, -6, 6, -1, 2.5f);
  function_is<fn::tanh>(
      "tanh", [](double x, double, double) { return std::tanh(x); },
      [](double x, double, double) { return 1 - std::tanh(x) * std::tanh(x); });
  function_is<fn::sigmoid>(
      "sigmoid", [](double x, double, double) { return sigma(x); },
      [](double x, double, double) { return sigma(x) * sigma(-x); }, -30, 30);
  function_is<fn::step>(
      "step", [](double x, double, double) { return x > 0 ? 1.0 : 0.0; }, [](double, double, double) { return 0.0; });
  function_is<fn::stretched_sigmoid>(
      "stretched_sigmoid", [](double x, double a, double b) { return std::clamp(sigma(x) * (b - a) + a, 0.0, 1.0); },
      [](double x, double a, double b) {
        const double y = sigma(x) * (b - a) + a;
        return y > 0 && y < 1 ? sigma(x) * sigma(-x) * (b - a) : 0;
      },
      -6, 6, -0.25f, 1.5f);
  function_is<fn::silu>(
      "silu", [](double x, double, double) { return x * sigma(x); },
      [](double x, double, double) { return sigma(x) * (1 + x * sigma(-x)); }, -30, 30);
  function_is<fn::gelu>(
      "gelu", [](double x, double, double) { return x * normal_cdf(x); },
      [](double x, double, double) { return normal_cdf(x) + x * normal_density(x); });
  function_is<fn::gelu_tanh>(
      "gelu_tanh", [](double x, double, double) { return x / 2 * (1 + std::tanh(gelu_inner(x))); },
      [](double x, double, double) {
        const double t = std::tanh(gelu_inner(x));
        return (1 + t) / 2 + x / 2 * (1 - t * t) * std::sqrt(2 / 3.14159265358979324) * (1 + 3 * 0.044715 * x * x);
      });
  function_is<fn::softplus>(
      "softplus", [](double x, double a, double b) { return a * x > b ? x : std::log1p(std::exp(a * x)) / a; },
      [](double x, double a, double b) { return a * x > b ? 1 : sigma(a * x); }, -30, 30, 2, 20);
  function_is<fn::logsigmoid>(
      "logsigmoid", [](double x, double, double) { return -std::log1p(std::exp(-x)); },
      [](double x, double, double) { return sigma(-x); }, -30, 30);
  function_is<fn::elu>(
      "elu", [](double x, double a, double b) { return x > 0 ? b * x : a * b * std::expm1(x); },
      [](double x, double a, double b) { return x > 0 ? b : a * b * std::exp(x); }, -6, 6, 1.7f, 1.1f);
  function_is<fn::softsign>(
      "softsign", [](double x, double, double) { return x / (1 + std::fabs(x)); },
      [](double x, double, double) { return std::pow(1 + std::fabs(x), -2); });
  function_is<fn::exp>(
      "exp", [](double x, double, double) { return std::exp(x); },
      [](double x, double, double) { return std::exp(x); });
  function_is<fn::log>(
      "log", [](double x, double, double) { return std::log(x); }, [](double x, double, double) { return 1 / x; },
      0.01f, 9);
  function_is<fn::log1p>(
      "log1p", [](double x, double, double) { return std::log1p(x); },
      [](double x, double, double) { return 1 / (1 + x); }, -0.9f, 9);
  function_is<fn::sqrt>(
      "sqrt", [](double x, double, double) { return std::sqrt(x); },
      [](double x, double, double) { return 0.5 / std::sqrt(x); }, 0.01f, 9);
  function_is<fn::sin>(
      "sin", [](double x, double, double) { return std::sin(x); },
      [](double x, double, double) { return std::cos(x); });
  function_is<fn::cos>(
      "cos", [](double x, double, double) { return std::cos(x); },
      [](double x, double, double) { return -std::sin(x); });
  function_is<fn::abs>(
      "abs", [](double x, double, double) { return std::fabs(x); },
      [](double x, double, double) { return x > 0 ? 1.0 : -1.0; });
  function_is<fn::affine>(
      "affine", [](double x, double a, double b) { return a * x + b; }, [](double, double a, double) { return a; }, -6,
      6, 2, -3);
  for (float p : {0.0f, 1.0f, 2.0f, 3.0f, -1.0f, -0.5f, 2.7f})
    function_is<fn::pow>(
        "pow", [](double x, double a, double) { return std::pow(x, a); },
        [](double x, double a, double) { return a * std::pow(x, a - 1); }, 0.3f, 3, p);
}

TEST_CASE("derivatives at the kinks are those of PyTorch") {
  test::on_every_isa([] {
    const auto slope = [](auto op, float x, float a, float b) {
      const Tensor in = Tensor::scalar(x), one = Tensor::scalar(1);
      Tensor dx = Tensor::empty({});
      kernels::map_grad<decltype(op)>(cpu{}, one.data(), in.data(), in.data(), dx.data(), 1, a, b);
      return dx.item();
    };
    CHECK(slope(fn::relu{}, 0, 0, 0) == 0);
    CHECK(slope(fn::abs{}, 0, 0, 0) == 0);
    CHECK(slope(fn::leaky_relu{}, 0, 0.5f, 0) == 0.5f);
    CHECK(slope(fn::clamp{}, -1, -1, 1) == 1);
    CHECK(slope(fn::clamp{}, 1, -1, 1) == 1);
    CHECK(slope(fn::hardtanh{}, -1, -1, 1) == 0);
    CHECK(slope(fn::hardtanh{}, 1, -1, 1) == 0);
    CHECK(slope(fn::elu{}, 0, 2, 1) == 2);
    CHECK(slope(fn::stretched_sigmoid{}, 0, -0.1f, 1.1f) == 0);  // y is what x is here
    CHECK(slope(fn::stretched_sigmoid{}, 1, -0.1f, 1.1f) == 0);
  });
}

TEST_CASE("pairs combine with broadcasting") {
  zip_is<fn::add>([](double a, double b) { return a + b; });
  zip_is<fn::sub>([](double a, double b) { return a - b; });
  zip_is<fn::mul>([](double a, double b) { return a * b; });
  zip_is<fn::div>([](double a, double b) { return a / b; });
  zip_is<fn::maximum>([](double a, double b) { return std::max(a, b); });
  zip_is<fn::minimum>([](double a, double b) { return std::min(a, b); });
}

TEST_CASE("shares, equality and NaN in pairs") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  test::on_every_isa([&] {
    for (std::int64_t shift : {0, 1, 17}) {  // the interesting entries in any lane
      const Shape s{shift + 4};
      Tensor a = Tensor::ones(s), b = Tensor::ones(s);
      a(shift) = 2, b(shift + 1) = 2, a(shift + 2) = nan, b(shift + 3) = nan;
      REQUIRE(zip<fn::greater_share>(a, b, s)(shift) == 1);
      REQUIRE(zip<fn::greater_share>(a, b, s)(shift + 1) == 0);
      REQUIRE(zip<fn::equal>(a, b, s)(shift) == 0);
      REQUIRE(std::isnan(zip<fn::maximum>(a, b, s)(shift + 2)));
      REQUIRE(std::isnan(zip<fn::maximum>(a, b, s)(shift + 3)));
      REQUIRE(std::isnan(zip<fn::minimum>(a, b, s)(shift + 2)));
      REQUIRE(std::isnan(zip<fn::minimum>(a, b, s)(shift + 3)));
      if (shift == 0) continue;
      REQUIRE(zip<fn::greater_share>(a, b, s)(0) == 0.5f);
      REQUIRE(zip<fn::equal>(a, b, s)(0) == 1);
    }
  });
}

TEST_CASE("add_into, select and dropout") {
  test::on_every_isa([] {
    Rng rng(3);
    for (std::int64_t n : test::sizes) {
      const Tensor x = Tensor::normal({n, 3}, 0, 1, rng), z = Tensor::normal({n, 3}, 0, 1, rng);
      Tensor y = z;
      kernels::add_into(cpu{}, x.data(), y.data(), y.shape().storage());
      test::require_close(
          y,
          reference::each(x.shape(), [&](std::int64_t i, std::int64_t j,
                                         auto...) { return test::Exact(double{x(i, j)} + double{z(i, j)}); }),
          1);
      Indices condition = Indices::zeros({n, 3});
      condition.for_each([](std::int64_t i, std::int32_t& c) { c = i % 3 == 0 ? -7 : 0; });
      kernels::select(cpu{}, condition.data(), x.data(), z.data(), y.data(), y.shape().storage());
      y.for_each([&, xs = x.to_vector(), zs = z.to_vector()](std::int64_t i, float v) {
        REQUIRE(v == (i % 3 == 0 ? xs[i] : zs[i]));
      });

      const Draw draw{5, 6};
      kernels::dropout(cpu{}, x.view(), y.view(), 0.25f, draw);
      y.for_each([&, xs = x.to_vector()](std::int64_t i, float v) {
        REQUIRE(v == (draw.uniform(static_cast<std::uint64_t>(i)) < 0.25f ? 0 : xs[i] * (1 / 0.75f)));
      });
    }
  });
}

TEST_CASE("uniform numbers and dropout are those of the draw, element by element") {
  test::on_every_isa([] {
    test::Poison poison;
    Rng rng(9);
    for (const Shape& s : {Shape{0}, Shape{1}, Shape{37}, Shape{5000}, Shape{0, 4}, Shape{4, 0}, Shape{1, 1},
                           Shape{3, 63}, Shape{17, 64}, Shape{2, 200}, Shape{65, 131}, Shape{7, 3, 2, 5}}) {
      for (const auto& [low, high] : {std::pair{-0.25f, 0.25f}, {0.0f, 1.0f}, {-1e-8f, 3.0f}, {2.0f, 2.0f}}) {
        INFO(s << " from " << low << " to " << high);
        Rng same = rng;
        Tensor got = Tensor::empty(s);
        kernels::uniform(cpu{}, got.view(), low, high, rng.draw());
        REQUIRE(got.to_vector() == Tensor::uniform(s, low, high, same).to_vector());
      }
      const Draw draw = rng.draw();
      const Tensor x = Tensor::normal(s, 0, 1, rng);
      for (const float p : {0.0f, 0.3f, 1.0f}) {
        Tensor y = Tensor::empty(s);
        kernels::dropout(cpu{}, x.view(), y.view(), p, draw);
        y.for_each([&, xs = x.to_vector()](std::int64_t i, float v) {
          REQUIRE(v == (draw.uniform(static_cast<std::uint64_t>(i)) < p ? 0 : xs[i] * (1 / (1 - p))));
        });
      }
    }
  });
}

TEST_CASE("copy, reshape, gather and scatter_add move elements where they belong") {
  test::Poison poison;
  Rng rng(4);
  for (std::int64_t n : test::sizes) {
    INFO("size " << n);
    const Tensor x = Tensor::normal({n, 2, 3}, 0, 1, rng);
    Tensor t = Tensor::empty({3, n, 2});  // extents 2, 0, 1
    const Shape& s = x.shape();
    kernels::copy(cpu{}, x.data(), t.data(),
                  make_nest<2>(t.shape(), {strides_of(t.shape()), {s.stride(2), s.stride(0), s.stride(1), 0}}));
    test::require_close(t,
                        reference::each(t.shape(), [&](std::int64_t i, std::int64_t j, std::int64_t k,
                                                       auto) { return test::Exact(double{x(j, k, i)}); }),
                        0);

    for (const Shape& to : {Shape{n, 6}, Shape{6, n}, Shape{6 * n}, Shape{1, n, 6}, Shape{2, n, 3}}) {
      Tensor y = Tensor::empty(to);
      kernels::reshape(cpu{}, x.view(), y.view());
      REQUIRE(y.to_vector() == x.to_vector());
    }

    Indices index = Indices::empty({n, 2, 5});
    index.for_each([](std::int64_t i, std::int32_t& v) { v = static_cast<std::int32_t>(i * 7 % 3); });
    auto from = strides_of(s);
    from[2] = 0;
    const auto loops = make_nest<3>(index.shape(), {strides_of(index.shape()), from, strides_of(index.shape())});
    Tensor picked = Tensor::empty(index.shape()), back = Tensor::zeros(s);
    kernels::gather(cpu{}, x.data(), index.data(), picked.data(), loops, s.stride(2));
    kernels::scatter_add(cpu{}, picked.data(), index.data(), back.data(), loops, s.stride(2));
    reference::Result sums = reference::each(s, [](auto...) { return test::Exact(0); });
    std::size_t k = 0;
    const auto got = picked.to_vector();
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < 2; ++j)
        for (std::int64_t m = 0; m < 5; ++m, ++k) {
          REQUIRE(got[k] == x(i, j, index(i, j, m)));
          sums[static_cast<std::size_t>((i * 2 + j) * 3 + index(i, j, m))].add(double{got[k]});
        }
    test::require_close(back, sums);
  }
}

TEST_CASE("optimizer steps are those of the papers, on padded and unpadded storage") {
  test::on_every_isa([] {
    Rng rng(5);
    for (std::int64_t n : {0, 1, 5, 17, 100}) {
      const Shape s{n, 3};
      const Tensor start = Tensor::normal(s, 0, 1, rng);
      std::vector<Tensor> g;
      for (int step = 0; step < 3; ++step) g.push_back(Tensor::normal(s, 0, 1, rng));
      const auto compare = [&](const Tensor& w, auto&& one_step) {
        std::vector<test::Exact> want;
        const auto first = start.to_vector();
        std::array<std::vector<float>, 3> gs{g[0].to_vector(), g[1].to_vector(), g[2].to_vector()};
        for (std::size_t i = 0; i < first.size(); ++i) {
          reference::Slots slots{double{first[i]}};
          for (int step = 0; step < 3; ++step) one_step(slots, double{gs[step][i]}, step);
          want.emplace_back(slots.w, std::fabs(slots.w) + 1, 10);
        }
        test::require_close(w, want, 8);
      };
      const auto storage = s.storage();
      for (bool momentum : {false, true})
        for (bool nesterov : {false, true}) {
          Tensor w = start, m = Tensor::empty(s);
          for (int step = 0; step < 3; ++step)
            kernels::sgd_step(cpu{}, w.data(), g[step].data(), momentum ? m.data() : nullptr, storage,
                              {0.1f, 0.9f, 0.2f, 0.01f, nesterov, step == 0});
          compare(w, [&](reference::Slots& o, double d, int step) {
            reference::sgd(o, d, 0.1, 0.9, 0.2, 0.01, nesterov, momentum, step == 0);
          });
        }
      for (bool decoupled : {false, true})
        for (bool amsgrad : {false, true}) {
          Tensor w = start, m = Tensor::zeros(s), v = Tensor::zeros(s), most = Tensor::zeros(s);
          for (int step = 0; step < 3; ++step) {
            kernels::adam_step(cpu{}, w.data(), g[step].data(), m.data(), v.data(), amsgrad ? most.data() : nullptr,
                               storage, adam(step + 1, decoupled));
          }
          compare(w, [&](reference::Slots& o, double d, int step) {
            reference::adam(o, d, 0.1, 0.9, 0.99, 1e-3, 0.1, decoupled, amsgrad, step + 1);
          });
        }
      for (bool centred : {false, true})
        for (double momentum : {0.0, 0.9}) {
          Tensor w = start, v = Tensor::zeros(s), mean = Tensor::zeros(s), m = Tensor::zeros(s);
          for (int step = 0; step < 3; ++step)
            kernels::rmsprop_step(cpu{}, w.data(), g[step].data(), v.data(), centred ? mean.data() : nullptr,
                                  momentum > 0 ? m.data() : nullptr, storage,
                                  {0.01f, 0.9f, 1e-2f, 0.1f, static_cast<float>(momentum)});
          compare(w, [&](reference::Slots& o, double d, int) {
            reference::rmsprop(o, d, 0.01, 0.9, 1e-2, 0.1, momentum, centred);
          });
        }
      Tensor w = start, v = Tensor::zeros(s);
      for (int step = 0; step < 3; ++step)
        kernels::adagrad_step(cpu{}, w.data(), g[step].data(), v.data(), storage, {0.1f, 1e-3f, 0.1f});
      compare(w, [&](reference::Slots& o, double d, int) { reference::adagrad(o, d, 0.1, 1e-3, 0.1); });
    }
  });
}

TEST_CASE("elementwise kernels do not depend on the number of threads", "[threads]") {
  test::same_for_all_threads([] {
    Rng rng(6);
    const Shape s{500, 150};
    const Tensor x = Tensor::normal(s, 0, 1, rng), z = Tensor::normal(s, 0, 1, rng),
                 row = Tensor::normal({150}, 0, 1, rng);
    Tensor y = Tensor::empty(s), sum = z, dropped = Tensor::empty(s), copied = Tensor::empty({150, 500}),
           long_run = Tensor::empty({100000});
    kernels::map<fn::tanh>(cpu{}, x.data(), y.data(), s.storage(), 0, 0);
    kernels::add_into(cpu{}, x.data(), sum.data(), s.storage());
    kernels::dropout(cpu{}, x.view(), dropped.view(), 0.5f, {1, 2});
    kernels::copy(cpu{}, x.data(), copied.data(),
                  make_nest<2>(copied.shape(), {strides_of(copied.shape()), {s.stride(1), 1, 0, 0}}));
    const Tensor run = Tensor::normal({100000}, 0, 1, rng);
    Tensor w = x, m = Tensor::zeros(s), v = Tensor::zeros(s);
    kernels::adam_step(cpu{}, w.data(), z.data(), m.data(), v.data(), nullptr, s.storage(), adam(1, false));
    return std::vector<Tensor>{
        y, sum, dropped, copied, zip<fn::mul>(x, row, s), zip<fn::add>(run, Tensor::scalar(1), {100000}), w};
  });
}
