// Elementwise kernels against the same in double; random numbers against the host's, bit by bit.
#include <bit>

#include <deepstruct/core/nest.hpp>
#include <deepstruct/kernels/cuda.hpp>

#include "../../kernels/nest.cuh"
#include "../../kernels/philox.cuh"
#include "../../kernels/sine.cuh"
#include "cases.hpp"

using namespace deepstruct;

namespace {

using runtime::Buffer;
namespace fn = kernels::fn;

constexpr float infinite = std::numeric_limits<float>::infinity();

/// Whether a number and its reference agree: NaN with NaN, infinity with what is or rounds to it, else to a few
/// roundings of float32 or what it may be off by besides.
bool agree(double got, double want, double slack = 0) {
  if (std::isnan(got) || std::isnan(want)) return std::isnan(got) && std::isnan(want);
  if (std::isinf(got) || std::fabs(want) > 3.4028235e38) return got == double{static_cast<float>(want)};
  return std::fabs(got - want) <= 1e-6 * std::fabs(want) + 1e-36 + slack;
}
bool untouched(float v) { return std::bit_cast<std::uint32_t>(v) == 0xffffffffu; }

/// Float32 at a distance from where memory begins, so that its end is where memory ends.
struct Run {
  std::int64_t from, n;
  Buffer<float> memory;
  Run(std::int64_t from_, const std::vector<float>& v) : from(from_), n(static_cast<std::int64_t>(v.size())) {
    std::vector<float> all(static_cast<std::size_t>(from), 0.0f);
    all.insert(all.end(), v.begin(), v.end());
    memory = Buffer<float>(std::span<const float>(all));
  }
  Run(std::int64_t from_, std::int64_t n_) : from(from_), n(n_), memory(static_cast<std::size_t>(from + n)) {
    runtime::fill(memory.data(), 0xff, memory.size() * sizeof(float), nullptr, "Run");
  }
  float* data() const { return memory.data() + from; }
  std::vector<float> to_host() const {
    std::vector<float> all = memory.to_host();
    for (std::int64_t i = 0; i < from; ++i) all.erase(all.begin());
    return all;
  }
};

double exactly(double) { return 0; }
/// A function of one number and its derivative, on the device and in double.
struct Function {
  const char* name;
  void (*map)(cuda, const float*, float*, std::int64_t, float, float);
  void (*map_grad)(cuda, const float*, const float*, const float*, float*, std::int64_t, float, float);
  double (*f)(double x, double a, double b);
  double (*df)(double x, double y, double a, double b);
  std::vector<std::pair<float, float>> parameters = {{0.0f, 0.0f}};
  /// What f and df may be off by at x besides: rounding of arguments and cancellation, in float32's epsilon.
  double (*slack)(double x) = &exactly;
  double (*slack_df)(double x) = &exactly;
};
template <class Op>
Function function(const char* name, double (*f)(double, double, double), double (*df)(double, double, double, double)) {
  return {name, &kernels::map<Op>, &kernels::map_grad<Op>, f, df};
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return (x < 0 ? 0.0 : x) + std::log1p(std::exp(-std::fabs(x))); }
double gelu_inner(double x) { return 1.5957691216057308 * (x + 0.044715 * x * x * x); }
double power(double x, double a) { return a == -0.5 ? 1 / std::sqrt(x) : std::pow(x, a); }
double clamp(double x, double a, double b) {
  const double low = x < a ? a : x;
  return low > b ? b : low;
}

std::vector<Function> functions() {
  std::vector<Function> all;
  const auto add = [&all](Function f) -> Function& {
    all.push_back(std::move(f));
    return all.back();
  };
  using D = double;
  add(function<fn::relu>(
      "relu", [](D x, D, D) { return x < 0 ? 0 : x; }, [](D x, D, D, D) { return x > 0 ? 1.0 : 0; }));
  add(function<fn::leaky_relu>(
          "leaky_relu", [](D x, D a, D) { return x > 0 ? x : a * x; }, [](D x, D, D a, D) { return x > 0 ? 1.0 : a; }))
      .parameters = {{0.01f, 0.0f}};
  add(function<fn::clamp>("clamp", &clamp, [](D x, D, D a, D b) { return x >= a && x <= b ? 1.0 : 0; })).parameters = {
      {-1.0f, 2.0f}, {0.5f, infinite}};
  add(function<fn::hardtanh>("hardtanh", &clamp, [](D x, D, D a, D b) {
    return x > a && x < b ? 1.0 : 0;
  })).parameters = {{-1.0f, 2.0f}};
  add(function<fn::tanh>(
          "tanh", [](D x, D, D) { return std::tanh(x); }, [](D, D y, D, D) { return 1 - y * y; }))
      .slack_df = [](D) { return 1.0; };
  add(function<fn::sigmoid>(
          "sigmoid", [](D x, D, D) { return sigmoid(x); }, [](D, D y, D, D) { return y * (1 - y); }))
      .slack_df = [](D) { return 1.0; };
  add(function<fn::step>(
      "step", [](D x, D, D) { return x > 0 ? 1.0 : 0; }, [](D, D, D, D) { return 0.0; }));
  Function& stretched = add(function<fn::stretched_sigmoid>(
      "stretched_sigmoid", [](D x, D a, D b) { return clamp(sigmoid(x) * (b - a) + a, 0, 1); },
      [](D, D y, D a, D b) { return y > 0 && y < 1 ? (y - a) * (b - y) / (b - a) : 0; }));
  stretched.parameters = {{-0.1f, 1.1f}};
  stretched.slack = stretched.slack_df = [](D) { return 4.0; };
  Function& silu = add(function<fn::silu>(
      "silu", [](D x, D, D) { return x * sigmoid(x); },
      [](D x, D, D, D) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }));
  silu.slack_df = [](D x) { return 4 * (1 + std::fabs(x)) * sigmoid(x); };
  Function& gelu = add(function<fn::gelu>(
      "gelu", [](D x, D, D) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); },
      [](D x, D, D, D) {
        return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * 0.3989422804014327 * std::exp(-0.5 * x * x);
      }));
  gelu.slack = [](D x) { return x * x * std::fabs(x * std::erfc(-x / std::sqrt(2.0))); };
  gelu.slack_df = [](D x) { return (1 + x * x) * (1 + std::fabs(x)) * std::exp(-0.5 * x * x); };
  Function& gelu_tanh = add(function<fn::gelu_tanh>(
      "gelu_tanh", [](D x, D, D) { return x * sigmoid(gelu_inner(x)); },
      [](D x, D, D, D) {
        const D s = sigmoid(gelu_inner(x));
        return s + x * s * (1 - s) * 1.5957691216057308 * (1 + 3 * 0.044715 * x * x);
      }));
  gelu_tanh.slack = [](D x) { return 4 * std::fabs(gelu_inner(x) * x * sigmoid(gelu_inner(x))); };
  gelu_tanh.slack_df = [](D x) {
    const D s = sigmoid(gelu_inner(x)), z = std::fabs(gelu_inner(x));
    return 8 * (1 + z) * (1 + z) * s;
  };
  add(function<fn::softplus>(
          "softplus", [](D x, D a, D b) { return x * a > b ? x : softplus(a * x) / a; },
          [](D x, D, D a, D b) { return x * a > b ? 1 : sigmoid(a * x); }))
      .parameters = {{1.0f, 20.0f}, {0.5f, 3.0f}};
  add(function<fn::logsigmoid>(
      "logsigmoid", [](D x, D, D) { return -softplus(-x); }, [](D x, D, D, D) { return sigmoid(-x); }));
  add(function<fn::elu>(
          "elu", [](D x, D a, D b) { return x > 0 ? b * x : a * b * std::expm1(x); },
          [](D x, D, D a, D b) { return x > 0 ? b : a * b * std::exp(x); }))
      .parameters = {{1.0f, 1.0f}, {1.6732632f, 1.050701f}};
  add(function<fn::softsign>(
      "softsign", [](D x, D, D) { return x / (1 + std::fabs(x)); },
      [](D x, D, D, D) { return 1 / ((1 + std::fabs(x)) * (1 + std::fabs(x))); }));
  add(function<fn::exp>(
      "exp", [](D x, D, D) { return std::exp(x); }, [](D, D y, D, D) { return y; }));
  add(function<fn::log>(
      "log", [](D x, D, D) { return std::log(x); }, [](D x, D, D, D) { return 1 / x; }));
  add(function<fn::log1p>(
      "log1p", [](D x, D, D) { return std::log1p(x); }, [](D x, D, D, D) { return 1 / (1 + x); }));
  add(function<fn::sqrt>(
      "sqrt", [](D x, D, D) { return std::sqrt(x); }, [](D, D y, D, D) { return 0.5 / y; }));
  add(function<fn::sin>(
      "sin", [](D x, D, D) { return std::sin(x); }, [](D x, D, D, D) { return std::cos(x); }));
  add(function<fn::cos>(
      "cos", [](D x, D, D) { return std::cos(x); }, [](D x, D, D, D) { return -std::sin(x); }));
  add(function<fn::abs>(
      "abs", [](D x, D, D) { return std::fabs(x); }, [](D x, D, D, D) { return x > 0 ? 1.0 : (x < 0 ? -1.0 : 0); }));
  Function& affine = add(function<fn::affine>(
      "affine", [](D x, D a, D b) { return a * x + b; }, [](D, D, D a, D) { return a; }));
  affine.parameters = {{-1.5f, 0.25f}};
  affine.slack = [](D x) { return std::isfinite(x) ? 2 * std::fabs(x) : 0; };
  add(function<fn::pow>(
          "pow", [](D x, D a, D) { return power(x, a); },
          [](D x, D, D a, D) { return a == 0 ? 0 : a * power(x, a - 1); }))
      .parameters = {{0.0f, 0.0f},  {1.0f, 0.0f},  {2.0f, 0.0f}, {3.0f, 0.0f}, {4.0f, 0.0f},
                     {-1.0f, 0.0f}, {-0.5f, 0.0f}, {0.5f, 0.0f}, {2.5f, 0.0f}};
  return all;
}

/// Ends, kinks, tails, and random numbers of many sizes.
std::vector<float> arguments(const Function& f, float a, float b, std::int64_t n) {
  std::vector<float> v{infinite, -infinite, std::numeric_limits<float>::quiet_NaN(), 0.0f, -0.0f, 1.0f, -1.0f};
  for (const float x : {a, b, 2 * b, b * 1.0001f, 1e-30f, 1e-8f, 1e-4f, 0.5f, 0.7853982f, 3.0f, 1e3f, 1e8f, 1e30f})
    v.insert(v.end(), {x, -x});
  for (const float x : {6.0f, 9.0f, 12.0f, 20.0f, 50.0f, 80.0f, 88.0f, 100.0f}) v.insert(v.end(), {x, -x});
  Rng rng(static_cast<std::uint64_t>(f.name[0] * 256 + f.name[1]));
  const Draw draw = rng.draw(), size = rng.draw();
  for (std::uint64_t i = 0; static_cast<std::int64_t>(v.size()) < n; ++i)
    v.push_back(draw.normal(i) * std::exp2(size.uniform(i, -8.0f, 5.0f)));
  v.resize(static_cast<std::size_t>(n));
  return v;
}

const test::Register maps("elementwise: every function and its derivative, in both tails", [] {
  for (const Function& f : functions())
    for (const auto& [a, b] : f.parameters) {
      const std::int64_t n = 179;
      Rng rng(3);
      const std::vector<float> x = arguments(f, a, b, n), grows = test::normal(n, rng);
      const Run in(0, x), above(0, grows), y(0, n), dx(0, n);
      f.map(cuda{}, in.data(), y.data(), n, a, b);
      f.map_grad(cuda{}, above.data(), in.data(), y.data(), dx.data(), n, a, b);
      const std::vector<float> out = y.to_host(), below = dx.to_host();
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double at = double{x[i]};
        const double slack = std::isfinite(at) ? 0x1p-24 * f.slack(at) : 0;
        const double slack_df = std::isfinite(at) ? 0x1p-24 * f.slack_df(at) * std::fabs(double{grows[i]}) : 0;
        const double want = f.f(at, double{a}, double{b});
        const double slope = f.df(at, double{out[i]}, double{a}, double{b});
        check(agree(double{out[i]}, want, slack), f.name, ": ", out[i], ", want ", want, " at ", at, ", a ", a, ", b ",
              b);
        const auto beyond = [](double v, double most) { return std::isfinite(v) && std::fabs(v) > most; };
        if (!beyond(at, 1e12) && !beyond(slope, 3e38))  // squares on the way leave float32
          check(agree(double{below[i]}, slope * double{grows[i]}, slack_df), f.name, ": derivative ", below[i],
                ", want ", slope * double{grows[i]}, " at ", at, ", a ", a, ", b ", b);
      }
    }
});

const test::Register sizes("elementwise: sizes, ends of memory, memory that begins anywhere", [] {
  for (const std::int64_t n : {0, 1, 2, 3, 4, 5, 7, 8, 63, 1025, 2051})
    for (const std::int64_t from : {0, 1}) {
      Rng rng(static_cast<std::uint64_t>(n));
      const std::vector<float> x = test::normal(n, rng), w = test::normal(n, rng);
      std::vector<std::int32_t> condition(x.size());
      for (std::size_t i = 0; i < x.size(); ++i) condition[i] = static_cast<std::int32_t>(i * i % 3) - 1;
      const Buffer<std::int32_t> choose{std::span<const std::int32_t>(condition)};
      const Run in(from, x), other(0, w), y(from, n), dx(0, n), chosen(0, n), sum(from, w);
      kernels::map<fn::affine>(cuda{}, in.data(), y.data(), n, 2, 1);
      kernels::map_grad<fn::relu>(cuda{}, other.data(), in.data(), y.data(), dx.data(), n, 0, 0);
      kernels::select(cuda{}, choose.data(), in.data(), other.data(), chosen.data(), n);
      kernels::add_into(cuda{}, in.data(), sum.data(), n);
      const auto affine = y.to_host(), gradient = dx.to_host(), either = chosen.to_host(), sums = sum.to_host();
      for (std::size_t i = 0; i < x.size(); ++i) {
        check(agree(double{affine[i]}, 2 * double{x[i]} + 1, 1e-7), "map: ", affine[i], " at ", i, " of ", n);
        check(gradient[i] == (x[i] > 0 ? w[i] : 0.0f), "map_grad: ", gradient[i], " at ", i, " of ", n);
        check(either[i] == (condition[i] != 0 ? x[i] : w[i]), "select: ", either[i], " at ", i, " of ", n);
        check(sums[i] == x[i] + w[i], "add_into: ", sums[i], " at ", i, " of ", n);
      }
    }
});

template <class Op>
void expect_zip(const char* name, const Shape& x, const Shape& w, const Shape& y, float (*f)(float, float)) {
  const auto numbers = [](const Shape& s, std::uint64_t seed) {
    std::vector<float> v(static_cast<std::size_t>(s.storage()), std::numeric_limits<float>::quiet_NaN());
    const Draw draw{seed, 0};
    for (std::int64_t i = 0; i < s.storage(); ++i)
      if (i % s.ld() < s[0]) {  // few values, so that many are equal; all that comparisons speak of
        const auto kind = draw.below(static_cast<std::uint64_t>(i), 12);
        v[static_cast<std::size_t>(i)] = kind == 0   ? std::numeric_limits<float>::quiet_NaN()
                                         : kind == 1 ? infinite
                                         : kind == 2 ? -infinite
                                                     : static_cast<float>(kind) - 6;
      }
    return v;
  };
  const std::vector<float> a = numbers(x, 1), b = numbers(w, 2);
  // Strides of x and w in the extents of y: 0 where they are broadcast.
  std::array<std::array<std::int64_t, Shape::max_rank>, 3> stride{};
  for (int k = 0; k < y.rank(); ++k) {
    stride[0][k] = y.stride(k);
    if (const int own = k - (y.rank() - x.rank()); own >= 0 && x[own] == y[k]) stride[1][k] = x.stride(own);
    if (const int own = k - (y.rank() - w.rank()); own >= 0 && w[own] == y[k]) stride[2][k] = w.stride(own);
  }
  const Run first(0, a), second(0, b), out(0, y.storage());
  kernels::zip<Op>(cuda{}, first.data(), second.data(), out.data(), make_nest<3>(y, stride));
  const std::vector<float> got = out.to_host();
  std::int64_t written = 0;
  for (std::int64_t i1 = 0; i1 < y[1]; ++i1)
    for (std::int64_t i2 = 0; i2 < y[2]; ++i2)
      for (std::int64_t i3 = 0; i3 < y[3]; ++i3)
        for (std::int64_t i0 = 0; i0 < y[0]; ++i0) {
          const std::int64_t i[] = {i0, i1, i2, i3};
          std::size_t at[3] = {};
          for (int o = 0; o < 3; ++o)
            for (int k = 0; k < 4; ++k) at[o] += static_cast<std::size_t>(i[k] * stride[o][k]);
          const float want = f(a[at[1]], b[at[2]]);
          check(agree(double{got[at[0]]}, double{want}), "zip ", name, ": ", got[at[0]], ", want ", want, " of ",
                a[at[1]], " and ", b[at[2]], " at ", at[0], ", shapes ", x, " ", w, " ", y);
          ++written;
        }
  for (std::int64_t i = 0; i < y.storage(); ++i)
    check(i % y.ld() < y[0] || untouched(got[static_cast<std::size_t>(i)]), "zip ", name, ": wrote padding at ", i,
          ", shapes ", x, " ", w, " ", y);
  check(written == y.size(), "zip: the case looked at ", written, " of ", y.size());
}

const test::Register zips("elementwise: functions of two numbers", [] {
  for (const Shape& s : {Shape{}, Shape{5}, Shape{70, 3}, Shape{3, 0}}) {
    expect_zip<fn::add>("add", s, s, s, [](float x, float y) { return x + y; });
    expect_zip<fn::sub>("sub", s, s, s, [](float x, float y) { return x - y; });
    expect_zip<fn::mul>("mul", s, s, s, [](float x, float y) { return x * y; });
    expect_zip<fn::div>("div", s, s, s, [](float x, float y) { return x / y; });
    expect_zip<fn::maximum>("maximum", s, s, s,
                            [](float x, float y) { return std::isnan(x) || std::isnan(y) ? x + y : std::max(x, y); });
    expect_zip<fn::minimum>("minimum", s, s, s,
                            [](float x, float y) { return std::isnan(x) || std::isnan(y) ? x + y : std::min(x, y); });
    expect_zip<fn::greater_share>("greater_share", s, s, s,
                                  [](float x, float y) { return x > y ? 1.0f : (x == y ? 0.5f : 0.0f); });
    expect_zip<fn::equal>("equal", s, s, s, [](float x, float y) { return x == y ? 1.0f : 0.0f; });
  }
});

const test::Register broadcast("elementwise: broadcasting along any extents", [] {
  std::uint64_t i = 0;
  for (const std::int64_t b : {1, 3, 5, 16, 31, 33, 64, 70, 130})
    for (const std::int64_t c : {1, 4, 7})
      for (const std::int64_t d : {0, 1, 3, 8})
        for (unsigned missing = 0; missing < 64; ++missing) {  // which extents x and w are broadcast along
          if ((missing & missing >> 3 & 7) != 0 || !test::tried(i++)) continue;
          const auto part = [&](unsigned gone) {
            return Shape{(gone & 1) != 0 ? 1 : b, (gone & 2) != 0 ? 1 : c, (gone & 4) != 0 ? 1 : d};
          };
          expect_zip<fn::sub>("sub", part(missing & 7), part(missing >> 3), Shape{b, c, d},
                              [](float x, float y) { return x - y; });
        }
  // Fewer extents: what is innermost in one lies across another.
  for (const std::int64_t b : {1, 5, 33, 70}) {
    const auto sub = [](float x, float y) { return x - y; };
    expect_zip<fn::sub>("sub", Shape{b, 6}, Shape{6}, Shape{b, 6}, sub);
    expect_zip<fn::sub>("sub", Shape{9, 6}, Shape{b, 7, 9, 6}, Shape{b, 7, 9, 6}, sub);
    expect_zip<fn::sub>("sub", Shape{b, 2, 1, 6}, Shape{3, 1}, Shape{b, 2, 3, 6}, sub);
    expect_zip<fn::sub>("sub", Shape{b, 2}, Shape{}, Shape{b, 2}, sub);
  }
});

/// out[i] = n[i] / d.
__global__ void divide(const std::int64_t* n, std::int64_t count, kernels::divisor d, std::int64_t* out) {
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) out[i] = kernels::device::quotient(n[i], d);
}
const test::Register division("elementwise: division by multiplication", [] {
  constexpr std::int64_t limit = std::int64_t{1} << 31;
  for (const std::int64_t d : {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{7}, std::int64_t{641},
                               std::int64_t{65536}, std::int64_t{1000003}, limit - 1, limit, 3 * limit + 5})
    for (const std::int64_t most : {limit, 100 * limit}) {
      std::vector<std::int64_t> n{0, most - 1};
      for (std::int64_t k = 1; k * d < most && k < 40; ++k) n.insert(n.end(), {k * d - 1, k * d});
      for (std::int64_t k = (most - 1) / d; k > 0 && k > (most - 1) / d - 40; --k)
        n.insert(n.end(), {k * d - 1, k * d});
      const Buffer<std::int64_t> in{std::span<const std::int64_t>(n)}, out(n.size());
      runtime::launch("divide", &divide, 1, 32, 0, nullptr, in.data(), static_cast<std::int64_t>(n.size()),
                      kernels::divisor_of(d, most), out.data());
      const std::vector<std::int64_t> got = out.to_host();
      for (std::size_t i = 0; i < n.size(); ++i)
        check(got[i] == n[i] / d, "quotient: ", n[i], " / ", d, " is not ", got[i]);
    }
});

__global__ void sines(const float* x, int n, float* s, float* c) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  s[i] = kernels::device::sine(x[i]);
  c[i] = kernels::device::cosine(x[i]);
}
const test::Register trigonometry("elementwise: sin and cos of any float32", [] {
  std::vector<float> x{0x1.921fb6p0f,   0x1.921fb6p1f,        0.75f, 0.7853982f, 0x1p25f, 0x1.fffffep24f,
                       0x1.fffffep127f, 16367173.0f * 0x1p72f};  // the last one lies nearest to a multiple of π/2
  const Draw draw{7, 0};
  for (std::uint64_t i = 0; i < 400; ++i)
    x.push_back(std::bit_cast<float>((draw.word(2 * i) & 0x007fffff) |
                                     static_cast<std::uint32_t>(1 + draw.below(2 * i + 1, 254)) << 23));
  for (std::size_t i = x.size(); i-- > 0;) x.push_back(-x[i]);
  const int n = static_cast<int>(x.size());
  const Buffer<float> in{std::span<const float>(x)}, s(x.size()), c(x.size());
  runtime::launch("sines", &sines, static_cast<unsigned>((n + 63) / 64), 64, 0, nullptr, in.data(), n, s.data(),
                  c.data());
  const std::vector<float> sine = s.to_host(), cosine = c.to_host();
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want_s = std::sin(double{x[i]}), want_c = std::cos(double{x[i]});
    check(std::fabs(double{sine[i]} - want_s) <= 0.76 * 0x1p-23 * std::fabs(want_s) + 1e-44, "sine: ", sine[i],
          ", want ", want_s, " at ", x[i]);
    check(std::fabs(double{cosine[i]} - want_c) <= 0.76 * 0x1p-23 * std::fabs(want_c), "cosine: ", cosine[i], ", want ",
          want_c, " at ", x[i]);
  }
});

__global__ void words(Draw draw, const std::uint64_t* at, int n, std::uint32_t* out, float* uniform) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const kernels::device::random_words four = kernels::device::four_words(draw, at[i]);
  for (int k = 0; k < 4; ++k) out[4 * i + k] = four.of[k];
  uniform[i] = kernels::device::uniform_of(four.of[0]);
}
const test::Register random("elementwise: the bits of a draw are the host's", [] {
  std::vector<std::uint64_t> at;
  for (std::uint64_t i = 0; i < 40; ++i) at.insert(at.end(), {i, (i << 36) + i, i * 0x123456789abcdu});
  const int n = static_cast<int>(at.size());
  const Buffer<std::uint64_t> index{std::span<const std::uint64_t>(at)};
  for (const Draw draw : {Draw{0, 0}, Draw{1, 2}, Draw{0xfedcba9876543210u, 0x0123456789abcdefu}}) {
    const Buffer<std::uint32_t> out(4 * at.size());
    const Buffer<float> uniform(at.size());
    runtime::launch("words", &words, static_cast<unsigned>((n + 63) / 64), 64, 0, nullptr, draw, index.data(), n,
                    out.data(), uniform.data());
    const auto bits = out.to_host();
    const auto numbers = uniform.to_host();
    for (std::size_t i = 0; i < at.size(); ++i) {
      for (std::size_t k = 0; k < 4; ++k)
        check(bits[4 * i + k] == draw.word(at[i] + k), "draw: word ", at[i], " + ", k, " is ", bits[4 * i + k]);
      check(numbers[i] == draw.uniform(at[i]), "draw: number ", at[i], " is ", numbers[i]);
    }
  }
});

const test::Register drops("elementwise: dropout takes the draw's numbers in row-major order", [] {
  std::uint64_t i = 0;
  for (const std::int64_t samples : {0, 1, 5, 31, 33, 64, 70})
    for (const std::int64_t features : {0, 1, 4, 7, 30})
      for (const float rate : {0.0f, 0.3f, -1.0f, 1.0f}) {
        if (!test::tried(i++)) continue;
        Rng rng(i);
        test::Matrix x = test::Matrix::normal(samples, features, rng);
        if (samples > 0 && features > 0) x(0, 0) = infinite;
        const Draw draw = rng.draw();
        const float p = rate >= 0 ? rate : draw.uniform(0);  // a number that is p stays
        const test::DeviceMatrix in(x), out(samples, features);
        kernels::dropout(cuda{}, in.cview(), out.view(), p, draw);
        const test::Matrix y = out.to_host();
        for (std::int64_t f = 0; f < features; ++f)
          for (std::int64_t b = 0; b < samples; ++b) {
            const bool keep = draw.uniform(static_cast<std::uint64_t>(b * features + f)) >= p;
            const float want = keep ? x(b, f) * (1.0f / (1.0f - p)) : 0.0f;
            check(std::bit_cast<std::uint32_t>(y(b, f)) == std::bit_cast<std::uint32_t>(want), "dropout: ", y(b, f),
                  ", want ", want, " at ", b, ", ", f, " of ", samples, ", ", features, ", p ", p);
          }
        for (std::size_t k = 0; k < y.data.size(); ++k)
          check(static_cast<std::int64_t>(k) % y.ld < samples || untouched(y.data[k]), "dropout: wrote padding");
      }
});

const test::Register noise("elementwise: logistic noise takes the draw's numbers in row-major order", [] {
  std::uint64_t i = 0;
  for (const std::int64_t rows : {0, 1, 5, 31, 33, 70})
    for (const std::int64_t cols : {0, 1, 4, 7, 30}) {
      if (!test::tried(i++)) continue;
      Rng rng(i);
      const test::Matrix x = test::Matrix::normal(rows, cols, rng);
      const Draw draw = rng.draw();
      const test::DeviceMatrix in(x), out(rows, cols);
      kernels::logistic_noise(cuda{}, in.cview(), out.view(), 1.5f, draw);
      const test::Matrix y = out.to_host();
      for (std::int64_t c = 0; c < cols; ++c)
        for (std::int64_t r = 0; r < rows; ++r) {
          const double u = ((draw.word(static_cast<std::uint64_t>(r * cols + c)) >> 9) + 0.5) / 8388608;
          const double want = (double{x(r, c)} + std::log(u) - std::log(1 - u)) * 1.5;
          check(std::fabs(double{y(r, c)} - want) <= 1e-5, "logistic_noise: ", y(r, c), ", want ", want, " at ", r,
                ", ", c, " of ", rows, ", ", cols);
        }
      for (std::size_t k = 0; k < y.data.size(); ++k)
        check(static_cast<std::int64_t>(k) % y.ld < rows || untouched(y.data[k]), "logistic_noise: wrote padding");
    }
});

}  // namespace
