// Bodies of the elementwise kernels; every function stands beside its derivative. Included once per instruction set.

// f(op, x, a, b) is the function, df(op, x, y, a, b) its derivative at x, where y = f(x); a and b are its parameters.

[[gnu::always_inline]] inline f32 f(fn::relu, f32 x, float, float) { return clamp_low(x, 0.0f); }
[[gnu::always_inline]] inline f32 df(fn::relu, f32 x, f32, float, float) { return x > 0.0f ? splat(1.0f) : f32{}; }

[[gnu::always_inline]] inline f32 f(fn::leaky_relu, f32 x, float a, float) { return x > 0.0f ? x : x * a; }
[[gnu::always_inline]] inline f32 df(fn::leaky_relu, f32 x, f32, float a, float) {
  return x > 0.0f ? splat(1.0f) : splat(a);
}

[[gnu::always_inline]] inline f32 f(fn::clamp, f32 x, float a, float b) { return clamp_high(clamp_low(x, a), b); }
[[gnu::always_inline]] inline f32 df(fn::clamp, f32 x, f32, float a, float b) {
  return ((x >= a) & (x <= b)) ? splat(1.0f) : f32{};
}

[[gnu::always_inline]] inline f32 f(fn::hardtanh, f32 x, float a, float b) { return clamp_high(clamp_low(x, a), b); }
[[gnu::always_inline]] inline f32 df(fn::hardtanh, f32 x, f32, float a, float b) {
  return ((x > a) & (x < b)) ? splat(1.0f) : f32{};
}

[[gnu::always_inline]] inline f32 f(fn::tanh, f32 x, float, float) { return tanh(x); }
[[gnu::always_inline]] inline f32 df(fn::tanh, f32, f32 y, float, float) { return 1.0f - y * y; }

[[gnu::always_inline]] inline f32 f(fn::sigmoid, f32 x, float, float) { return sigmoid(x); }
[[gnu::always_inline]] inline f32 df(fn::sigmoid, f32, f32 y, float, float) { return y * (1.0f - y); }

[[gnu::always_inline]] inline f32 f(fn::silu, f32 x, float, float) { return x * sigmoid(x); }
[[gnu::always_inline]] inline f32 df(fn::silu, f32 x, f32, float, float) {
  const f32 s = sigmoid(x);
  return s * (1.0f + x * (1.0f - s));
}

// x·Φ(x)
[[gnu::always_inline]] inline f32 f(fn::gelu, f32 x, float, float) { return x * normal_cdf(x, bell(x)); }
[[gnu::always_inline]] inline f32 df(fn::gelu, f32 x, f32, float, float) {
  const f32 e = bell(x);
  return normal_cdf(x, e) + x * 0.39894228f * e;
}

// ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
[[gnu::always_inline]] inline f32 f(fn::gelu_tanh, f32 x, float, float) {
  return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
}
[[gnu::always_inline]] inline f32 df(fn::gelu_tanh, f32 x, f32, float, float) {
  const f32 s = sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
  return s + x * s * (1.0f - s) * 1.59576912f * (1.0f + 0.134145f * x * x);
}

// ln(1 + e^(ax))/a, and x itself where ax > b
[[gnu::always_inline]] inline f32 f(fn::softplus, f32 x, float a, float b) {
  return x * a > b ? x : softplus(x * a) / a;
}
[[gnu::always_inline]] inline f32 df(fn::softplus, f32 x, f32, float a, float b) {
  return x * a > b ? splat(1.0f) : sigmoid(x * a);
}

[[gnu::always_inline]] inline f32 f(fn::logsigmoid, f32 x, float, float) { return -softplus(-x); }
[[gnu::always_inline]] inline f32 df(fn::logsigmoid, f32 x, f32, float, float) { return sigmoid(-x); }

// b·x above 0, a·b·(eˣ − 1) below
[[gnu::always_inline]] inline f32 f(fn::elu, f32 x, float a, float b) {
  return x > 0.0f ? x * b : expm1_negative(clamp_high(x, 0.0f)) * (a * b);
}
[[gnu::always_inline]] inline f32 df(fn::elu, f32 x, f32, float a, float b) {
  return x > 0.0f ? splat(b) : exp(x) * (a * b);
}

[[gnu::always_inline]] inline f32 f(fn::softsign, f32 x, float, float) { return x / (1.0f + abs(x)); }
[[gnu::always_inline]] inline f32 df(fn::softsign, f32 x, f32, float, float) {
  const f32 d = 1.0f + abs(x);
  return 1.0f / (d * d);
}

[[gnu::always_inline]] inline f32 f(fn::exp, f32 x, float, float) { return exp(x); }
[[gnu::always_inline]] inline f32 df(fn::exp, f32, f32 y, float, float) { return y; }

[[gnu::always_inline]] inline f32 f(fn::log, f32 x, float, float) { return log(x); }
[[gnu::always_inline]] inline f32 df(fn::log, f32 x, f32, float, float) { return 1.0f / x; }

[[gnu::always_inline]] inline f32 f(fn::log1p, f32 x, float, float) { return log1p(x); }
[[gnu::always_inline]] inline f32 df(fn::log1p, f32 x, f32, float, float) { return 1.0f / (1.0f + x); }

[[gnu::always_inline]] inline f32 f(fn::sqrt, f32 x, float, float) { return sqrt(x); }
[[gnu::always_inline]] inline f32 df(fn::sqrt, f32, f32 y, float, float) { return 0.5f / y; }

[[gnu::always_inline]] inline f32 f(fn::sin, f32 x, float, float) { return each_lane(x, scalar::sin); }
[[gnu::always_inline]] inline f32 df(fn::sin, f32 x, f32, float, float) { return each_lane(x, scalar::cos); }

[[gnu::always_inline]] inline f32 f(fn::cos, f32 x, float, float) { return each_lane(x, scalar::cos); }
[[gnu::always_inline]] inline f32 df(fn::cos, f32 x, f32, float, float) { return -each_lane(x, scalar::sin); }

[[gnu::always_inline]] inline f32 f(fn::abs, f32 x, float, float) { return abs(x); }
[[gnu::always_inline]] inline f32 df(fn::abs, f32 x, f32, float, float) {
  return x > 0.0f ? splat(1.0f) : (x < 0.0f ? splat(-1.0f) : f32{});
}

// a·x + b
[[gnu::always_inline]] inline f32 f(fn::affine, f32 x, float a, float b) { return x * a + b; }
[[gnu::always_inline]] inline f32 df(fn::affine, f32, f32, float a, float) { return splat(a); }

// xᵃ
[[gnu::always_inline]] inline f32 f(fn::pow, f32 x, float a, float) {
  if (a == 1.0f) return x;
  if (a == 2.0f) return x * x;
  if (a == 3.0f) return x * x * x;
  if (a == -1.0f) return 1.0f / x;
  if (a == -0.5f) return 1.0f / sqrt(x);
  for (int i = 0; i < width; ++i) x[i] = scalar::pow(x[i], a);
  return x;
}
[[gnu::always_inline]] inline f32 df(fn::pow, f32 x, f32, float a, float) {
  return a == 0.0f ? f32{} : f(fn::pow{}, x, a - 1.0f, 0.0f) * a;
}

// 1 above 0, else 0
[[gnu::always_inline]] inline f32 f(fn::step, f32 x, float, float) { return x > 0.0f ? splat(1.0f) : f32{}; }
[[gnu::always_inline]] inline f32 df(fn::step, f32, f32, float, float) { return f32{}; }

// σ(x)·(b − a) + a cut to [0, 1], derivative 0 at both ends
[[gnu::always_inline]] inline f32 f(fn::stretched_sigmoid, f32 x, float a, float b) {
  return clamp_high(clamp_low(sigmoid(x) * (b - a) + a, 0.0f), 1.0f);
}
[[gnu::always_inline]] inline f32 df(fn::stretched_sigmoid, f32, f32 y, float a, float b) {
  return ((y > 0.0f) & (y < 1.0f)) ? (y - a) * (b - y) / (b - a) : f32{};
}

[[gnu::always_inline]] inline f32 f2(fn::add, f32 x, f32 y) { return x + y; }
[[gnu::always_inline]] inline f32 f2(fn::sub, f32 x, f32 y) { return x - y; }
[[gnu::always_inline]] inline f32 f2(fn::mul, f32 x, f32 y) { return x * y; }
[[gnu::always_inline]] inline f32 f2(fn::div, f32 x, f32 y) { return x / y; }
[[gnu::always_inline]] inline f32 f2(fn::maximum, f32 x, f32 y) { return ((x > y) | (x != x)) ? x : y; }
[[gnu::always_inline]] inline f32 f2(fn::minimum, f32 x, f32 y) { return ((x < y) | (x != x)) ? x : y; }
// 1 where the first is greater, ½ where both are equal, 0 elsewhere: the share of the first in max(x, y).
[[gnu::always_inline]] inline f32 f2(fn::greater_share, f32 x, f32 y) {
  return x > y ? splat(1.0f) : (x == y ? splat(0.5f) : f32{});
}
[[gnu::always_inline]] inline f32 f2(fn::equal, f32 x, f32 y) { return x == y ? splat(1.0f) : f32{}; }

/// y[i] = f(x[i]) for whole vectors; x and y are storage that is readable in whole 64-byte lines.
template <class Op>
inline void map(const float* x, float* y, std::int64_t n, float a, float b) {
  for (std::int64_t i = 0; i < n; i += width) store(y + i, f(Op{}, load(x + i), a, b));
}

/// dx[i] = dy[i]·f'(x[i]).
template <class Op>
inline void map_grad(const float* dy, const float* x, const float* y, float* dx, std::int64_t n, float a, float b) {
  for (std::int64_t i = 0; i < n; i += width) store(dx + i, load(dy + i) * df(Op{}, load(x + i), load(y + i), a, b));
}

/// n <= width elements of p at distance s.
[[gnu::always_inline]] inline f32 load_strided(const float* p, std::int64_t s, std::int64_t n) {
  if (s == 1 && n >= width) return load(p);
  return s == 0 ? splat(*p) : load_tail(p, s, n < width ? n : width);
}

/// y = f2(x0, x1) along one run of n elements; y has stride 1.
template <class Op>
inline void zip_run(const float* x0, const float* x1, float* y, std::int64_t n, std::int64_t s0, std::int64_t s1) {
  std::int64_t i = 0;
  if (s0 == 1 && s1 == 1)
    for (; i + width <= n; i += width) store(y + i, f2(Op{}, load(x0 + i), load(x1 + i)));
  for (; i < n; i += width)
    store_part(y + i, f2(Op{}, load_strided(x0 + i * s0, s0, n - i), load_strided(x1 + i * s1, s1, n - i)), n - i);
}

/// 64-bit lanes, each a 32-bit number whose products are whole; the same as doubles; half as many floats.
typedef std::uint64_t u64 __attribute__((vector_size(sizeof(f32))));
typedef double f64 __attribute__((vector_size(sizeof(f32))));
typedef float f32h __attribute__((vector_size(sizeof(f32) / 2)));

/// Whole numbers below 2⁵² as doubles: the lowest bits of 2⁵² + n are n.
[[gnu::always_inline]] inline f64 whole(u64 n) { return __builtin_bit_cast(f64, n | 0x4330000000000000) - 0x1p52; }
// What 32 random bits stand for; every product is exact, so contraction changes no bit.
[[gnu::always_inline]] inline f32h number(random::unit, u64 word) {
  return __builtin_convertvector(whole(word >> 8) * 0x1p-24, f32h);
}
[[gnu::always_inline]] inline f32h number(random::from_one, u64 word) {
  return __builtin_convertvector(whole(word >> 9) * 0x1p-23 + 1.0, f32h);
}
[[gnu::always_inline]] inline f32h number(random::between b, u64 word) {
  const double range = double{b.high} - double{b.low};
  if (double{static_cast<float>(range)} == range)
    return __builtin_convertvector(whole(word >> 8) * (range * 0x1p-24) + double{b.low}, f32h);
  f32h y{};
  for (int l = 0; l < width / 2; ++l) y[l] = Draw::between(static_cast<std::uint32_t>(word[l]), b.low, b.high);
  return y;
}

/// y[j·stride] = number(of, word first + j of the draw) for j < n: Philox (core/rng.hpp), a block to a lane.
template <class Of>
inline void words(Of of, Draw draw, std::uint64_t first, float* y, std::int64_t stride, std::int64_t n) {
  constexpr int blocks = width / 2;
  for (std::int64_t j = -static_cast<std::int64_t>(first % 4); j < n; j += 4 * blocks) {
    u64 low;
    for (int l = 0; l < blocks; ++l) low[l] = (first + static_cast<std::uint64_t>(j)) / 4 + l;
    u64 c0 = low & 0xFFFFFFFF, c1 = low >> 32, c2 = u64{} + (draw.number & 0xFFFFFFFF),
        c3 = u64{} + (draw.number >> 32);
    std::uint32_t k0 = static_cast<std::uint32_t>(draw.seed), k1 = static_cast<std::uint32_t>(draw.seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const u64 a = c0 * 0xD2511F53, b = c2 * 0xCD9E8D57;
      c0 = (b >> 32) ^ c1 ^ k0;
      c1 = b & 0xFFFFFFFF;
      c2 = (a >> 32) ^ c3 ^ k1;
      c3 = a & 0xFFFFFFFF;
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    const f32h x[4] = {number(of, c0), number(of, c1), number(of, c2), number(of, c3)};
    if (j >= 0 && n - j >= 4 * blocks) {
      float* to = y + j * stride;
      for (int l = 0; l < blocks; ++l, to += 4 * stride)
        to[0] = x[0][l], to[stride] = x[1][l], to[2 * stride] = x[2][l], to[3 * stride] = x[3][l];
      continue;
    }
    const std::int64_t from = j < 0 ? -j : 0, end = n - j < 4 * blocks ? n - j : 4 * blocks;
    for (std::int64_t l = from; l < end; ++l) y[(j + l) * stride] = x[l % 4][l / 4];
  }
}

/// y[i] = x[i]·scale where y[i] ≥ p, else 0, of n elements.
inline void keep_scaled(const float* x, float* y, std::int64_t n, float p, float scale) {
  for (std::int64_t i = 0; i < n; i += width) {
    const f32 kept = load_part(x + i, n - i) * scale;
    store_part(y + i, load_part(y + i, n - i) >= p ? kept : f32{}, n - i);
  }
}

/// y[i] = (x[i] + ln u − ln(1 − u))·scale, u = y[i] − 1 + 2⁻²⁴, of n elements.
inline void add_logits(const float* x, float* y, std::int64_t n, float scale) {
  for (std::int64_t i = 0; i < n; i += width) {
    const f32 u = load_part(y + i, n - i) - 1.0f + 0x1p-24f;
    store_part(y + i, (load_part(x + i, n - i) + (log(u) - log(1.0f - u))) * scale, n - i);
  }
}
