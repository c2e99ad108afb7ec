// Device code of the elementwise kernels: the functions of include/deepstruct/kernels/elementwise.inl, each beside its
// derivative, in the same order of operations.
#pragma once

#include <cmath>
#include <cstdint>

#include <deepstruct/kernels/contract.hpp>

#include "nest.cuh"
#include "philox.cuh"
#include "sine.cuh"
#include "simt.hpp"

namespace deepstruct::kernels::device {

// NaN wins: a comparison that is false keeps x.
__device__ __forceinline__ float clamp_low(float x, float low) { return x < low ? low : x; }
__device__ __forceinline__ float clamp_high(float x, float high) { return x > high ? high : x; }
__device__ __forceinline__ float sigmoid_of(float x) { return 1.0f / (1.0f + expf(-x)); }
/// ln(1 + eˣ) without overflow.
__device__ __forceinline__ float softplus_of(float x) { return (x < 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x))); }

// f(op, x, a, b) is the function, df(op, x, y, a, b) its derivative at x, where y = f(x); a and b are its parameters.

__device__ __forceinline__ float f(fn::relu, float x, float, float) { return clamp_low(x, 0.0f); }
__device__ __forceinline__ float df(fn::relu, float x, float, float, float) { return x > 0.0f ? 1.0f : 0.0f; }

__device__ __forceinline__ float f(fn::leaky_relu, float x, float a, float) { return x > 0.0f ? x : x * a; }
__device__ __forceinline__ float df(fn::leaky_relu, float x, float, float a, float) { return x > 0.0f ? 1.0f : a; }

__device__ __forceinline__ float f(fn::clamp, float x, float a, float b) { return clamp_high(clamp_low(x, a), b); }
__device__ __forceinline__ float df(fn::clamp, float x, float, float a, float b) {
  return x >= a && x <= b ? 1.0f : 0.0f;
}

__device__ __forceinline__ float f(fn::hardtanh, float x, float a, float b) { return clamp_high(clamp_low(x, a), b); }
__device__ __forceinline__ float df(fn::hardtanh, float x, float, float a, float b) {
  return x > a && x < b ? 1.0f : 0.0f;
}

__device__ __forceinline__ float f(fn::tanh, float x, float, float) { return tanhf(x); }
__device__ __forceinline__ float df(fn::tanh, float, float y, float, float) { return 1.0f - y * y; }

__device__ __forceinline__ float f(fn::sigmoid, float x, float, float) { return sigmoid_of(x); }
__device__ __forceinline__ float df(fn::sigmoid, float, float y, float, float) { return y * (1.0f - y); }

__device__ __forceinline__ float f(fn::silu, float x, float, float) { return x * sigmoid_of(x); }
__device__ __forceinline__ float df(fn::silu, float x, float, float, float) {
  const float s = sigmoid_of(x);
  return s * (1.0f + x * (1.0f - s));
}

// x·Φ(x); Φ(x) = ½·erfc(−x/√2) keeps its relative accuracy in the left tail.
__device__ __forceinline__ float f(fn::gelu, float x, float, float) { return x * 0.5f * erfcf(x * -0.70710678f); }
__device__ __forceinline__ float df(fn::gelu, float x, float, float, float) {
  return 0.5f * erfcf(x * -0.70710678f) + x * 0.39894228f * expf(x * x * -0.5f);
}

// ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
__device__ __forceinline__ float f(fn::gelu_tanh, float x, float, float) {
  return x * sigmoid_of(1.59576912f * (x + 0.044715f * x * x * x));
}
__device__ __forceinline__ float df(fn::gelu_tanh, float x, float, float, float) {
  const float s = sigmoid_of(1.59576912f * (x + 0.044715f * x * x * x));
  return s + x * s * (1.0f - s) * 1.59576912f * (1.0f + 0.134145f * x * x);
}

// ln(1 + e^(ax))/a, and x itself where ax > b
__device__ __forceinline__ float f(fn::softplus, float x, float a, float b) {
  return x * a > b ? x : softplus_of(x * a) / a;
}
__device__ __forceinline__ float df(fn::softplus, float x, float, float a, float b) {
  return x * a > b ? 1.0f : sigmoid_of(x * a);
}

__device__ __forceinline__ float f(fn::logsigmoid, float x, float, float) { return -softplus_of(-x); }
__device__ __forceinline__ float df(fn::logsigmoid, float x, float, float, float) { return sigmoid_of(-x); }

// b·x above 0, a·b·(eˣ − 1) below
__device__ __forceinline__ float f(fn::elu, float x, float a, float b) {
  return x > 0.0f ? x * b : expm1f(x) * (a * b);
}
__device__ __forceinline__ float df(fn::elu, float x, float, float a, float b) {
  return x > 0.0f ? b : expf(x) * (a * b);
}

__device__ __forceinline__ float f(fn::softsign, float x, float, float) { return x / (1.0f + fabsf(x)); }
__device__ __forceinline__ float df(fn::softsign, float x, float, float, float) {
  const float d = 1.0f + fabsf(x);
  return 1.0f / (d * d);
}

__device__ __forceinline__ float f(fn::exp, float x, float, float) { return expf(x); }
__device__ __forceinline__ float df(fn::exp, float, float y, float, float) { return y; }

__device__ __forceinline__ float f(fn::log, float x, float, float) { return logf(x); }
__device__ __forceinline__ float df(fn::log, float x, float, float, float) { return 1.0f / x; }

__device__ __forceinline__ float f(fn::log1p, float x, float, float) { return log1pf(x); }
__device__ __forceinline__ float df(fn::log1p, float x, float, float, float) { return 1.0f / (1.0f + x); }

__device__ __forceinline__ float f(fn::sqrt, float x, float, float) { return sqrtf(x); }
__device__ __forceinline__ float df(fn::sqrt, float, float y, float, float) { return 0.5f / y; }

__device__ __forceinline__ float f(fn::sin, float x, float, float) { return sine(x); }
__device__ __forceinline__ float df(fn::sin, float x, float, float, float) { return cosine(x); }

__device__ __forceinline__ float f(fn::cos, float x, float, float) { return cosine(x); }
__device__ __forceinline__ float df(fn::cos, float x, float, float, float) { return -sine(x); }

__device__ __forceinline__ float f(fn::abs, float x, float, float) { return fabsf(x); }
__device__ __forceinline__ float df(fn::abs, float x, float, float, float) {
  return x > 0.0f ? 1.0f : (x < 0.0f ? -1.0f : 0.0f);
}

// a·x + b
__device__ __forceinline__ float f(fn::affine, float x, float a, float b) { return x * a + b; }
__device__ __forceinline__ float df(fn::affine, float, float, float a, float) { return a; }

// xᵃ
__device__ __forceinline__ float f(fn::pow, float x, float a, float) {
  if (a == 1.0f) return x;
  if (a == 2.0f) return x * x;
  if (a == 3.0f) return x * x * x;
  if (a == -1.0f) return 1.0f / x;
  if (a == -0.5f) return 1.0f / sqrtf(x);
  return powf(x, a);
}
__device__ __forceinline__ float df(fn::pow, float x, float, float a, float) {
  return a == 0.0f ? 0.0f : f(fn::pow{}, x, a - 1.0f, 0.0f) * a;
}

// 1 above 0, else 0
__device__ __forceinline__ float f(fn::step, float x, float, float) { return x > 0.0f ? 1.0f : 0.0f; }
__device__ __forceinline__ float df(fn::step, float, float, float, float) { return 0.0f; }

// σ(x)·(b − a) + a cut to [0, 1], derivative 0 at both ends
__device__ __forceinline__ float f(fn::stretched_sigmoid, float x, float a, float b) {
  return clamp_high(clamp_low(sigmoid_of(x) * (b - a) + a, 0.0f), 1.0f);
}
__device__ __forceinline__ float df(fn::stretched_sigmoid, float, float y, float a, float b) {
  return y > 0.0f && y < 1.0f ? (y - a) * (b - y) / (b - a) : 0.0f;
}

__device__ __forceinline__ float f2(fn::add, float x, float y) { return x + y; }
__device__ __forceinline__ float f2(fn::sub, float x, float y) { return x - y; }
__device__ __forceinline__ float f2(fn::mul, float x, float y) { return x * y; }
__device__ __forceinline__ float f2(fn::div, float x, float y) { return x / y; }
__device__ __forceinline__ float f2(fn::maximum, float x, float y) { return x > y || x != x ? x : y; }
__device__ __forceinline__ float f2(fn::minimum, float x, float y) { return x < y || x != x ? x : y; }
// 1 where the first is greater, ½ where both are equal, 0 elsewhere: the share of the first in max(x, y).
__device__ __forceinline__ float f2(fn::greater_share, float x, float y) {
  return x > y ? 1.0f : (x == y ? 0.5f : 0.0f);
}
__device__ __forceinline__ float f2(fn::equal, float x, float y) { return x == y ? 1.0f : 0.0f; }

/// What a thread takes at a time: Width neighbours, by one access where all are there. With a Width of 4 they begin at
/// multiples of 16 bytes.
template <class T, int Width>
struct alignas(sizeof(T) * Width) piece {
  T of[Width];
};
/// Of n neighbours at p; 0 beyond.
template <int Width, class T>
__device__ __forceinline__ piece<T, Width> read_piece(const T* p, std::int64_t n) {
  if (n >= Width) return *reinterpret_cast<const piece<T, Width>*>(p);
  piece<T, Width> v{};
#pragma unroll
  for (int k = 0; k < Width; ++k)
    if (k < n) v.of[k] = p[k];
  return v;
}
/// Of n elements at a distance.
template <int Width>
__device__ __forceinline__ piece<float, Width> read_strided(const float* p, std::int64_t stride, std::int64_t n) {
  if (stride == 1) return read_piece<Width>(p, n);
  piece<float, Width> v{};
  const float first = p[0];
#pragma unroll
  for (int k = 0; k < Width; ++k) v.of[k] = k == 0 || stride == 0 || k >= n ? first : p[k * stride];
  return v;
}
template <int Width>
__device__ __forceinline__ void write_piece(float* p, const piece<float, Width>& v, std::int64_t n) {
  if (n >= Width) {
    *reinterpret_cast<piece<float, Width>*>(p) = v;
    return;
  }
#pragma unroll
  for (int k = 0; k < Width; ++k)
    if (k < n) p[k] = v.of[k];
}

__device__ __forceinline__ std::int64_t grid_thread() { return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ __forceinline__ std::int64_t grid_threads() { return std::int64_t{gridDim.x} * blockDim.x; }

template <class Op, int Width>
__global__ void __launch_bounds__(256) map(const float* x, float* y, std::int64_t n, float a, float b) {
  for (std::int64_t i = grid_thread() * Width; i < n; i += grid_threads() * Width) {
    piece<float, Width> v = read_piece<Width>(x + i, n - i);
#pragma unroll
    for (int k = 0; k < Width; ++k) v.of[k] = f(Op{}, v.of[k], a, b);
    write_piece<Width>(y + i, v, n - i);
  }
}

template <class Op, int Width>
__global__ void __launch_bounds__(256)
    map_grad(const float* dy, const float* x, const float* y, float* dx, std::int64_t n, float a, float b) {
  for (std::int64_t i = grid_thread() * Width; i < n; i += grid_threads() * Width) {
    piece<float, Width> d = read_piece<Width>(dy + i, n - i);
    const piece<float, Width> in = read_piece<Width>(x + i, n - i), out = read_piece<Width>(y + i, n - i);
#pragma unroll
    for (int k = 0; k < Width; ++k) d.of[k] *= df(Op{}, in.of[k], out.of[k], a, b);
    write_piece<Width>(dx + i, d, n - i);
  }
}

/// Operands of n: y, x0, x1 and the place in the innermost loop, which is `run` long and taken Width at a time; s0 and
/// s1 are the strides there.
template <class Op, int Width>
__global__ void __launch_bounds__(256) zip(const float* x0, const float* x1, float* y, nest_loops<4> n,
                                           std::int64_t run, std::int64_t s0, std::int64_t s1) {
  for (std::int64_t i = grid_thread(); i < n.n; i += grid_threads()) {
    const nest_place<4> at = place_of(n, i);
    const std::int64_t left = run - at.of[3];
    piece<float, Width> v = read_strided<Width>(x0 + at.of[1], s0, left);
    const piece<float, Width> w = read_strided<Width>(x1 + at.of[2], s1, left);
#pragma unroll
    for (int k = 0; k < Width; ++k) v.of[k] = f2(Op{}, v.of[k], w.of[k]);
    write_piece<Width>(y + at.of[0], v, left);
  }
}

template <int Width>
__global__ void __launch_bounds__(256)
    select(const std::int32_t* condition, const float* x0, const float* x1, float* y, std::int64_t n) {
  for (std::int64_t i = grid_thread() * Width; i < n; i += grid_threads() * Width) {
    const piece<std::int32_t, Width> c = read_piece<Width>(condition + i, n - i);
    piece<float, Width> v = read_piece<Width>(x0 + i, n - i);
    const piece<float, Width> w = read_piece<Width>(x1 + i, n - i);
#pragma unroll
    for (int k = 0; k < Width; ++k) v.of[k] = c.of[k] != 0 ? v.of[k] : w.of[k];
    write_piece<Width>(y + i, v, n - i);
  }
}

/// A thread to four features of a sample, neighbours in the draw; `rows` are the samples.
static __global__ void __launch_bounds__(256) dropout(matrix_view<const float> x, matrix_view<float> y, float p,
                                                      float scale, runtime::KernelDraw drawn, divisor rows) {
  const Draw draw = draw_of(drawn);
  const std::int64_t count = (x.cols + 3) / 4 * x.rows;
  for (std::int64_t i = grid_thread(); i < count; i += grid_threads()) {
    const std::int64_t four = quotient(i, rows), b = i - four * rows.by, c = four * 4;
    float v[4] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (c + k < x.cols) v[k] = x.data[(c + k) * x.ld + b];
    const random_words words = four_words(draw, static_cast<std::uint64_t>(b * x.cols + c));
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (c + k < x.cols) y.data[(c + k) * y.ld + b] = uniform_of(words.of[k]) >= p ? v[k] * scale : 0.0f;
  }
}

/// A thread to four columns of a row, neighbours in the draw.
static __global__ void __launch_bounds__(256) logistic_noise(matrix_view<const float> x, matrix_view<float> y,
                                                             float scale, runtime::KernelDraw drawn, divisor rows) {
  const Draw draw = draw_of(drawn);
  const std::int64_t count = (x.cols + 3) / 4 * x.rows;
  for (std::int64_t i = grid_thread(); i < count; i += grid_threads()) {
    const std::int64_t four = quotient(i, rows), r = i - four * rows.by, c = four * 4;
    const random_words words = four_words(draw, static_cast<std::uint64_t>(r * x.cols + c));
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (c + k < x.cols) {
        const float u = (static_cast<float>(words.of[k] >> 9) + 0.5f) * 0x1p-23f;
        y.data[(c + k) * y.ld + r] = (x.data[(c + k) * x.ld + r] + (logf(u) - logf(1.0f - u))) * scale;
      }
  }
}

static __global__ void __launch_bounds__(256)
    above(const float* __restrict__ x, float bound, std::int32_t* __restrict__ flags, std::int64_t n) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) flags[i] = x[i] > bound ? 1 : 0;
}

}  // namespace deepstruct::kernels::device
