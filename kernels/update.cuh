// Device code of optimizer steps: the formulas of include/deepstruct/kernels/update.inl, in the same order of
// operations.
#pragma once

#include <cmath>
#include <cstdint>

#include <deepstruct/kernels/contract.hpp>

#include "simt.hpp"

namespace deepstruct::kernels::device {

static __global__ void __launch_bounds__(256)
    sgd_step(float* __restrict__ w, const float* __restrict__ g, float* __restrict__ momentum, std::int64_t n,
             sgd_rule rule, const std::int32_t* step) {
  const bool first = step ? *step == 1 : rule.first;
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += threads) {
    const float weight = w[i];
    float d = __ldg(g + i) + weight * rule.weight_decay;
    if (momentum) {
      const float m = first ? d : momentum[i] * rule.momentum + d * (1.0f - rule.dampening);
      momentum[i] = m;
      d = rule.nesterov ? d + m * rule.momentum : m;
    }
    w[i] = weight - d * rule.lr;
  }
}

__device__ __forceinline__ void adam_one(float& w, float d, float& m, float& v, float* largest, const adam_rule& rule) {
  if (rule.decoupled)
    w *= 1.0f - rule.lr * rule.weight_decay;
  else
    d += w * rule.weight_decay;
  m = m * rule.beta1 + d * rule.rest1;
  v = v * rule.beta2 + d * rule.rest2 * d;
  float bound = v;
  if (largest) bound = *largest = *largest > v || *largest != *largest ? *largest : v;  // NaN stays
  w -= m * rule.step_size / (sqrtf(bound) / rule.root + rule.eps);
}

/// Four elements a thread where Vector says that all arrays begin at multiples of 16 bytes.
template <bool Vector>
__global__ void __launch_bounds__(256)
    adam_step(float* __restrict__ w, const float* __restrict__ g, float* __restrict__ m, float* __restrict__ v,
              float* __restrict__ largest, std::int64_t n, adam_rule rule, const std::int32_t* step) {
  if (step) {
    const double t = *step;
    rule.step_size = static_cast<float>(double{rule.lr} / (1 - pow(double{rule.beta1}, t)));
    rule.root = static_cast<float>(sqrt(1 - pow(double{rule.beta2}, t)));
  }
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
  const std::int64_t id = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, fours = Vector ? n / 4 : 0;
  for (std::int64_t i = id; i < fours; i += threads) {
    float4 weight = reinterpret_cast<float4*>(w)[i], mean = reinterpret_cast<float4*>(m)[i],
           square = reinterpret_cast<float4*>(v)[i];
    const float4 d = __ldg(reinterpret_cast<const float4*>(g) + i);
    float* most = largest ? largest + 4 * i : nullptr;
    adam_one(weight.x, d.x, mean.x, square.x, most, rule);
    adam_one(weight.y, d.y, mean.y, square.y, most ? most + 1 : most, rule);
    adam_one(weight.z, d.z, mean.z, square.z, most ? most + 2 : most, rule);
    adam_one(weight.w, d.w, mean.w, square.w, most ? most + 3 : most, rule);
    reinterpret_cast<float4*>(w)[i] = weight;
    reinterpret_cast<float4*>(m)[i] = mean;
    reinterpret_cast<float4*>(v)[i] = square;
  }
  for (std::int64_t i = fours * 4 + id; i < n; i += threads)
    adam_one(w[i], __ldg(g + i), m[i], v[i], largest ? largest + i : nullptr, rule);
}

static __global__ void __launch_bounds__(256)
    rmsprop_step(float* __restrict__ w, const float* __restrict__ g, float* __restrict__ v, float* __restrict__ mean,
                 float* __restrict__ momentum, std::int64_t n, rmsprop_rule rule) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += threads) {
    const float weight = w[i], d = __ldg(g + i) + weight * rule.weight_decay;
    const float square = v[i] * rule.alpha + d * d * (1.0f - rule.alpha);
    v[i] = square;
    float variance = square;
    if (mean) {
      const float a = mean[i] * rule.alpha + d * (1.0f - rule.alpha);
      mean[i] = a;
      variance -= a * a;
    }
    float step = d / (sqrtf(variance) + rule.eps);
    if (momentum) {
      step += momentum[i] * rule.momentum;
      momentum[i] = step;
    }
    w[i] = weight - step * rule.lr;
  }
}

static __global__ void __launch_bounds__(256) adagrad_step(float* __restrict__ w, const float* __restrict__ g,
                                                           float* __restrict__ v, std::int64_t n, adagrad_rule rule) {
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += threads) {
    const float weight = w[i], d = __ldg(g + i) + weight * rule.weight_decay;
    const float sum = v[i] + d * d;
    v[i] = sum;
    w[i] = weight - d * rule.lr / (sqrtf(sum) + rule.eps);
  }
}

static __global__ void next_step(std::int32_t* step) { ++*step; }

/// A thread to a sample: the greatest logit, the sum of exponentials, then the gradient.
static __global__ void __launch_bounds__(64)
    cross_entropy(matrix_view<const float> x, const std::int32_t* __restrict__ target, float scale,
                  float* __restrict__ loss, matrix_view<float> dx) {
  const std::int64_t b = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (b >= x.rows) return;
  float most = __ldg(x.data + b), sum = 0;
  for (std::int64_t c = 1; c < x.cols; ++c) most = fmaxf(most, __ldg(x.data + c * x.ld + b));
  for (std::int64_t c = 0; c < x.cols; ++c) sum += expf(__ldg(x.data + c * x.ld + b) - most);
  const std::int32_t right = __ldg(target + b);
  for (std::int64_t c = 0; c < x.cols; ++c) {
    const float p = expf(__ldg(x.data + c * x.ld + b) - most) / sum;
    dx.data[c * dx.ld + b] = scale * (p - (c == right ? 1.0f : 0.0f));
  }
  loss[b] = logf(sum) - (__ldg(x.data + right * x.ld + b) - most);
}

}  // namespace deepstruct::kernels::device
