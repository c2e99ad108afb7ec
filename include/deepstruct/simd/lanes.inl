// The vocabulary of kernel bodies: loads, stores, choices and elementary functions on vectors of `width` lanes.
// Included once inside every instruction-set region; speaks only f32, i32 and width.

[[gnu::always_inline]] inline f32 load(const float* p) { return *reinterpret_cast<const f32*>(p); }
[[gnu::always_inline]] inline void store(float* p, f32 v) { *reinterpret_cast<f32*>(p) = v; }
[[gnu::always_inline]] inline f32 splat(float x) { return f32{} + x; }
[[gnu::always_inline]] inline i32 load_bits(const std::int32_t* p) { return *reinterpret_cast<const i32*>(p); }
[[gnu::always_inline]] inline void store_bits(std::int32_t* p, i32 v) { *reinterpret_cast<i32*>(p) = v; }
[[gnu::always_inline]] inline i32 bits(f32 v) { return reinterpret_cast<i32&>(v); }
[[gnu::always_inline]] inline f32 as_float(i32 v) { return reinterpret_cast<f32&>(v); }

/// n < width elements of p at distance s in the first lanes, 0 in the others. Not inlined: it ends loops, once.
[[gnu::noinline]] inline f32 load_tail(const float* p, std::int64_t s, std::int64_t n) {
  f32 v{};
  for (int i = 0; i < n; ++i) v[i] = p[i * s];
  return v;
}
[[gnu::noinline]] inline void store_tail(float* p, std::int64_t s, f32 v, std::int64_t n) {
  for (int i = 0; i < n; ++i) p[i * s] = v[i];
}
/// The first n lanes of p; the others are 0.
[[gnu::always_inline]] inline f32 load_part(const float* p, std::int64_t n) {
  return n >= width ? load(p) : load_tail(p, 1, n);
}
/// Writes the first n lanes.
[[gnu::always_inline]] inline void store_part(float* p, f32 v, std::int64_t n) {
  n >= width ? store(p, v) : store_tail(p, 1, v, n);
}
/// All bits set in the first n lanes.
[[gnu::always_inline]] inline i32 first_lanes(std::int64_t n) {
  i32 m{};
  for (int i = 0; i < width; ++i) m[i] = i < n ? -1 : 0;
  return m;
}
/// A vector whose lanes outside the mask are 0, whatever memory holds there.
[[gnu::always_inline]] inline f32 load_masked(const float* p, i32 mask) { return as_float(bits(load(p)) & mask); }
typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));

/// Four numbers for splat, kept in a register: a compiler would read each of them from memory once more, and loads are
/// what bounds a sparse kernel.
[[gnu::always_inline]] inline quad load_quad(const float* p) {
  quad v = *reinterpret_cast<const quad*>(p);
#if defined(__x86_64__)
  asm("" : "+x"(v));
#endif
  return v;
}

/// Lane k of every 16 bytes is lane Pk of those of a, or of b from 4 on.
template <int... P, int... K>
[[gnu::always_inline]] inline f32 pick_lanes(f32 a, f32 b, std::integer_sequence<int, P...>,
                                             std::integer_sequence<int, K...>) {
  constexpr int p[] = {P...};
  return __builtin_shufflevector(a, b, (K / 4 * 4 + p[K % 4] % 4 + p[K % 4] / 4 * width)...);
}
template <int... P>
[[gnu::always_inline]] inline f32 pick_lanes(f32 a, f32 b) {
  return pick_lanes(a, b, std::integer_sequence<int, P...>{}, std::make_integer_sequence<int, width>{});
}
/// The lower or upper halves of a and b, lane by lane in turn.
template <bool Upper, int... K>
[[gnu::always_inline]] inline f32 interleave(f32 a, f32 b, std::integer_sequence<int, K...>) {
  return __builtin_shufflevector(a, b, (K / 2 + K % 2 * width + (Upper ? width / 2 : 0))...);
}
/// Rows become columns: log₂ width times vectors half of all apart are interleaved.
[[gnu::always_inline]] inline void transpose_lanes(f32 (&v)[width]) {
  constexpr auto lanes = std::make_integer_sequence<int, width>{};
#pragma GCC unroll 4
  for (int n = 1; n < width; n *= 2) {
    f32 next[width];
#pragma GCC unroll 8
    for (int k = 0; k < width / 2; ++k) {
      next[2 * k] = interleave<false>(v[k], v[k + width / 2], lanes);
      next[2 * k + 1] = interleave<true>(v[k], v[k + width / 2], lanes);
    }
#pragma GCC unroll 16
    for (int k = 0; k < width; ++k) v[k] = next[k];
  }
}
/// Lane k is number at[k] of the 2·width numbers in low and high; of at[k] only the bits that can count do.
[[gnu::always_inline]] inline f32 lookup(f32 low, f32 high, i32 at) {
#if defined(__clang__)
  f32 v;
  for (int k = 0; k < width; ++k) v[k] = at[k] & width ? high[at[k] & (width - 1)] : low[at[k] & (width - 1)];
  return v;
#else
  return __builtin_shuffle(low, high, at);
#endif
}
/// {Σ a, Σ b, Σ c, Σ d}: four sums over lanes for the price of two and a half.
template <int Width>
[[gnu::always_inline]] inline quad sum_lanes(f32 a, f32 b, f32 c, f32 d) {
  const f32 ab = pick_lanes<0, 1, 4, 5>(a, b) + pick_lanes<2, 3, 6, 7>(a, b);
  const f32 cd = pick_lanes<0, 1, 4, 5>(c, d) + pick_lanes<2, 3, 6, 7>(c, d);
  const f32 s = pick_lanes<0, 2, 4, 6>(ab, cd) + pick_lanes<1, 3, 5, 7>(ab, cd);
  quad sum = __builtin_shufflevector(s, s, 0, 1, 2, 3);
  if constexpr (Width >= 8)  // % only where the index would not exist
    sum += __builtin_shufflevector(s, s, 4 % Width, 5 % Width, 6 % Width, 7 % Width);
  if constexpr (Width >= 16)
    sum += __builtin_shufflevector(s, s, 8 % Width, 9 % Width, 10 % Width, 11 % Width) +
           __builtin_shufflevector(s, s, 12 % Width, 13 % Width, 14 % Width, 15 % Width);
  return sum;
}

// NaN wins: a comparison that is false keeps x.
[[gnu::always_inline]] inline f32 clamp_low(f32 x, float low) { return x < low ? splat(low) : x; }
[[gnu::always_inline]] inline f32 clamp_high(f32 x, float high) { return x > high ? splat(high) : x; }
[[gnu::always_inline]] inline f32 abs(f32 x) { return as_float(bits(x) & 0x7FFFFFFF); }
[[gnu::always_inline]] inline f32 sign_of(f32 magnitude, f32 sign) {
  return as_float((bits(magnitude) & 0x7FFFFFFF) | (bits(sign) & (i32{} - 0x7FFFFFFF - 1)));
}
/// f of every lane, for functions the library has no vector form of.
template <class F>
[[gnu::always_inline]] inline f32 each_lane(f32 x, F f) {
  for (int i = 0; i < width; ++i) x[i] = static_cast<float>(f(static_cast<double>(x[i])));
  return x;
}
/// √x, correctly rounded. As an instruction: __builtin_sqrtf keeps a branch for errno in every lane.
[[gnu::always_inline]] inline f32 sqrt(f32 x) {
#if defined(__x86_64__)
  f32 y;
  if constexpr (width == 4)
    asm("sqrtps %1, %0" : "=x"(y) : "x"(x));
  else
    asm("vsqrtps %1, %0" : "=v"(y) : "v"(x));
  return y;
#else
  for (int i = 0; i < width; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

/// eˣ within 2 ulp: x = n·ln 2 + r, a degree 6 polynomial in r, and 2ⁿ in two factors so that both ends are right.
[[gnu::always_inline]] inline f32 exp(f32 x) {
  x = clamp_high(clamp_low(x, -104.0f), 89.0f);
  const float magic = 12582912.0f;  // 1.5·2²³: adding it rounds to an integer in the low bits
  const f32 shifted = x * 1.44269504f + magic, n = shifted - magic;
  const f32 r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  f32 p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const i32 k = bits(shifted) - 0x4B400000;
  const i32 half = k >> 1;
  return p * as_float((half + 127) << 23) * as_float((k - half + 127) << 23);
}

/// ln x within 2 ulp; −∞ at 0, NaN below: x = m·2ᵉ, ln m = 2·artanh((m − 1)/(m + 1)).
[[gnu::always_inline]] inline f32 log(f32 x) {
  const i32 tiny = x < 1.17549435e-38f;
  f32 y = tiny ? x * 8388608.0f : x;
  i32 b = (bits(y) & 0x7FFFFFFF) - 0x3F3504F3;  // exponent and mantissa relative to √½; a sign ends as NaN below
  const i32 e = b >> 23;
  const f32 m = as_float((b & 0x007FFFFF) + 0x3F3504F3);
  const f32 s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
  f32 p = splat(0.2222222f);
  p = p * s2 + 0.28571430f;
  p = p * s2 + 0.4f;
  p = p * s2 + 0.66666667f;
  const f32 n = __builtin_convertvector(e, f32) - (tiny ? splat(23.0f) : splat(0.0f));
  f32 result = n * 0.693359375f + (s * 2.0f + (s * s2 * p + n * -2.12194440e-4f));
  result = x == __builtin_inff() ? x : result;
  result = x == 0.0f ? splat(-__builtin_inff()) : result;
  return x >= 0.0f ? result : splat(__builtin_nanf(""));
}

/// ln(1 + x), accurate near 0.
[[gnu::always_inline]] inline f32 log1p(f32 x) {
  const f32 u = x + 1.0f, rest = (u - 1.0f) - x;
  return abs(x) < 1e-7f ? x : (((u == __builtin_inff()) | (u == 0.0f)) ? log(u) : log(u) - rest / u);
}

/// tanh x: an odd polynomial below 0.625 (Cephes), 1 − 2/(e²ˣ + 1) above.
[[gnu::always_inline]] inline f32 tanh(f32 x) {
  const f32 z = x * x, a = abs(x);
  f32 p = splat(-5.70498872745e-3f);
  p = p * z + 2.06390887954e-2f;
  p = p * z + -5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z + -3.33332819422e-1f;
  const f32 large = 1.0f - 2.0f / (exp(a * 2.0f) + 1.0f);
  return a < 0.625f ? x + x * z * p : (x == x ? sign_of(large, x) : x);
}
/// eˣ − 1 for x ≤ 0, accurate near 0.
[[gnu::always_inline]] inline f32 expm1_negative(f32 x) {
  const f32 t = tanh(x * 0.5f);
  return 2.0f * t / (1.0f - t);
}
[[gnu::always_inline]] inline f32 sigmoid(f32 x) { return 1.0f / (1.0f + exp(-x)); }
/// ln(1 + eˣ) without overflow.
[[gnu::always_inline]] inline f32 softplus(f32 x) { return (x < 0.0f ? splat(0.0f) : x) + log1p(exp(-abs(x))); }

/// e^(−x²/2) within 4 ulp: the upper half of x has an exact square, the rest is a small exponent of its own.
[[gnu::always_inline]] inline f32 bell(f32 x) {
  const f32 a = clamp_high(abs(x), 16.0f);  // e^−128 is 0
  const f32 high = as_float(bits(a) & ~0xFFF), r = (a - high) * (a + high) * -0.5f;
  return exp(high * high * -0.5f) * (1.0f + r * (1.0f + r * (0.5f + r * (0.16666667f + r * 0.041666667f))));
}
/// Φ(x), the normal distribution, within 5 ulp also in the left tail, from e = bell(x). Φ(−a)·(1 + a)/bell(a) is a
/// polynomial of degree 9 in (a − 3.5)/(a + 3.5), by Chebyshev nodes on [0, 16], relative error 2.2e-8.
[[gnu::always_inline]] inline f32 normal_cdf(f32 x, f32 e) {
  const f32 a = clamp_high(abs(x), 16.0f), q = (a - 3.5f) / (a + 3.5f);
  f32 p = splat(1.54208553e-4f);
  p = p * q + 1.0757154e-4f;
  p = p * q + -1.38795384e-3f;
  p = p * q + 2.84919901e-4f;
  p = p * q + 1.03693012e-2f;
  p = p * q + -3.0260862e-2f;
  p = p * q + 3.80490908e-2f;
  p = p * q + 7.87188575e-4f;
  p = p * q + -9.77126304e-2f;
  p = p * q + 4.78553188e-1f;
  const f32 tail = e * (p / (1.0f + a));
  return x > 0.0f ? 1.0f - tail : tail;
}
