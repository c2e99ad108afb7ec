// Device code of softmax, its logarithm, the gradient of cross entropy, and layer norm.
//
// Threads run over samples. Where these are too few to fill the chip, or the terms of one many, several threads share
// a sample's terms and bring their sums together in shared memory, always in the same order. Sums are in double.
#pragma once

#include <cmath>
#include <cstdint>

#include <deepstruct/kernels/contract.hpp>

#include "simt.hpp"

namespace deepstruct::kernels::device {

inline constexpr int team_threads = 256;

/// How the threads of a block share samples: 2^lanes neighbours take a sample each, and 2^places groups of their
/// columns are looked at together; the terms of one are taken by 2^members threads, numbered from bit member_bit of
/// threadIdx.
struct team_cut {
  int lanes, members, places, member_bit, place_bit;
  std::int64_t sample_blocks, items;
};
__device__ __forceinline__ int bits_of_thread(int bit, int count) {
  return static_cast<int>(threadIdx.x) >> bit & ((1 << count) - 1);
}
/// What a thread does: terms member, member + 2^members … of a sample's group, if there is one.
struct team_seat {
  std::int64_t sample, group;
  bool exists;
};
__device__ __forceinline__ team_seat seat_of(const team_cut& cut, std::int64_t first, std::int64_t samples) {
  const std::int64_t item = first + bits_of_thread(cut.place_bit, cut.places);
  team_seat seat;
  seat.group = item / cut.sample_blocks;
  seat.sample = ((item - seat.group * cut.sample_blocks) << cut.lanes) + bits_of_thread(0, cut.lanes);
  seat.exists = item < cut.items && seat.sample < samples;
  return seat;
}

struct add_terms {
  __device__ __forceinline__ double operator()(double a, double b) const { return a + b; }
};
struct greatest_term {
  __device__ __forceinline__ float operator()(float a, float b) const { return a > b ? a : b; }
};
template <class T>
struct team_shares {
  T of[team_threads];
};
/// The members' v brought together; all get it.
template <class T, class Op>
__device__ __forceinline__ T over_team(T v, const team_cut& cut, Op op) {
  if (cut.members == 0) return v;
  team_shares<T>& all = simt::shared<team_shares<T>>();
  const int t = static_cast<int>(threadIdx.x), member = bits_of_thread(cut.member_bit, cut.members);
  all.of[t] = v;
  __syncthreads();
  for (int d = (1 << cut.members) / 2; d > 0; d /= 2) {
    if (member < d) all.of[t] = op(all.of[t], all.of[t + (d << cut.member_bit)]);
    __syncthreads();
  }
  v = all.of[t - (member << cut.member_bit)];
  __syncthreads();  // all have read
  return v;
}

/// NaN, ∞, and −∞ alone, give NaN, as the difference from the greatest does: it shows in the sum.
static __global__ void __launch_bounds__(team_threads)
    softmax(matrix_view<const float> x, matrix_view<float> y, std::int64_t terms, std::int64_t inner, bool logarithm,
            team_cut cut) {
  const int member = bits_of_thread(cut.member_bit, cut.members), members = 1 << cut.members;
  for (std::int64_t first = std::int64_t{blockIdx.x} << cut.places; first < cut.items;
       first += std::int64_t{gridDim.x} << cut.places) {
    const team_seat seat = seat_of(cut, first, x.rows);
    const std::int64_t outer = seat.group / inner, column = outer * inner * terms + (seat.group - outer * inner);
    const float* from = x.data + column * x.ld + seat.sample;
    float* to = y.data + column * y.ld + seat.sample;
    const std::int64_t end = seat.exists ? terms : 0, x_step = inner * x.ld, y_step = inner * y.ld;
    const greatest_term greater;
    float top = -INFINITY;
#pragma unroll 4
    for (std::int64_t k = member; k < end; k += members) top = greater(top, __ldg(from + k * x_step));
    top = over_team(top, cut, greater);
    double sum = 0;
#pragma unroll 4
    for (std::int64_t k = member; k < end; k += members) sum += double{expf(__ldg(from + k * x_step) - top)};
    sum = over_team(sum, cut, add_terms{});
    if (logarithm) {
      const float total = top + logf(static_cast<float>(sum));
#pragma unroll 4
      for (std::int64_t k = member; k < end; k += members) to[k * y_step] = __ldg(from + k * x_step) - total;
    } else {
      const float scale = 1.0f / static_cast<float>(sum);
#pragma unroll 4
      for (std::int64_t k = member; k < end; k += members)
        to[k * y_step] = expf(__ldg(from + k * x_step) - top) * scale;
    }
  }
}

/// dx = scale·exp(log_p), less scale at the target; `lanes` neighbours take a sample each, and block after block of
/// `sample_blocks` other columns.
static __global__ void __launch_bounds__(256)
    cross_entropy_dx(matrix_view<const float> log_p, const std::int32_t* __restrict__ target,
                     const float* __restrict__ scale, matrix_view<float> dx, int lanes, std::int64_t sample_blocks) {
  const int t = static_cast<int>(threadIdx.x);
  const std::int64_t b = blockIdx.x % sample_blocks * lanes + t % lanes,
                     each = blockDim.x / static_cast<unsigned>(lanes);
  if (b >= dx.rows) return;
  const float by = __ldg(scale + b);
  const std::int64_t right = __ldg(target + b);
#pragma unroll 4
  for (std::int64_t c = blockIdx.x / sample_blocks * each + t / lanes; c < dx.cols;
       c += gridDim.x / sample_blocks * each) {
    const float p = expf(__ldg(log_p.data + c * log_p.ld + b)) * by;
    dx.data[c * dx.ld + b] = c == right ? p - by : p;
  }
}

/// A thread to a sample.
static __global__ void __launch_bounds__(64)
    class_losses(matrix_view<const float> log_p, const std::int32_t* __restrict__ target, class_rule rule,
                 float* __restrict__ loss, std::int32_t* __restrict__ at, float* __restrict__ of_target,
                 float* __restrict__ weight, matrix_view<float> share) {
  const std::int64_t b = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (b >= log_p.rows) return;
  const std::int32_t right = __ldg(target + b);
  const bool ignored = right == rule.ignored, valid = right >= 0 && right < log_p.cols;
  const float own = ignored ? 0.0f : !valid ? NAN : rule.weight ? __ldg(rule.weight + right) : 1.0f;
  const float share_of_target = own * rule.own;
  double sum = 0;
  if (!ignored && share_of_target != 0)
    sum = double{share_of_target} * double{valid ? __ldg(log_p.data + right * log_p.ld + b) : 1.0f};
  if (rule.even > 0 || share.data)
    for (std::int64_t c = 0; c < log_p.cols; ++c) {
      const float even = ignored ? 0.0f : !valid ? NAN : !rule.weight ? rule.even : rule.even * __ldg(rule.weight + c);
      if (even != 0) sum += double{even} * double{__ldg(log_p.data + c * log_p.ld + b)};
      if (share.data) share.data[c * share.ld + b] = c == right && !ignored ? even + share_of_target : even;
    }
  loss[b] = static_cast<float>(-sum);
  at[b] = valid && !ignored ? right : 0;
  of_target[b] = share_of_target;
  weight[b] = own;
}

static __global__ void __launch_bounds__(team_threads)
    layer_norm(matrix_view<const float> x, const float* __restrict__ w, const float* __restrict__ b,
               matrix_view<float> y, matrix_view<float> mean, matrix_view<float> rstd, std::int64_t terms, float eps,
               team_cut cut) {
  const int member = bits_of_thread(cut.member_bit, cut.members), members = 1 << cut.members;
  for (std::int64_t first = std::int64_t{blockIdx.x} << cut.places; first < cut.items;
       first += std::int64_t{gridDim.x} << cut.places) {
    const team_seat seat = seat_of(cut, first, x.rows);
    const float* from = x.data + seat.group * terms * x.ld + seat.sample;
    float* to = y.data + seat.group * terms * y.ld + seat.sample;
    const std::int64_t end = seat.exists ? terms : 0;
    const double count = static_cast<double>(terms);
    double sum = 0, squares = 0;
#pragma unroll 4
    for (std::int64_t k = member; k < end; k += members) sum += double{__ldg(from + k * x.ld)};
    const float m = static_cast<float>(over_team(sum, cut, add_terms{}) / count);
#pragma unroll 4
    for (std::int64_t k = member; k < end; k += members) {
      const float d = __ldg(from + k * x.ld) - m;
      squares += double{d * d};
    }
    const float variance = static_cast<float>(over_team(squares, cut, add_terms{}) / count);
    const float r = 1.0f / sqrtf(variance + eps);
#pragma unroll 4
    for (std::int64_t k = member; k < end; k += members) {
      float v = (__ldg(from + k * x.ld) - m) * r;
      if (w) v *= __ldg(w + k);
      if (b) v += __ldg(b + k);
      to[k * y.ld] = v;
    }
    if (member == 0 && seat.exists) {
      mean.data[seat.group * mean.ld + seat.sample] = m;
      rstd.data[seat.group * rstd.ld + seat.sample] = r;
    }
  }
}

static __global__ void __launch_bounds__(team_threads)
    layer_norm_dx(matrix_view<const float> dy, matrix_view<const float> x, const float* __restrict__ w,
                  matrix_view<const float> mean, matrix_view<const float> rstd, matrix_view<float> dx,
                  std::int64_t terms, team_cut cut) {
  const int member = bits_of_thread(cut.member_bit, cut.members), members = 1 << cut.members;
  for (std::int64_t first = std::int64_t{blockIdx.x} << cut.places; first < cut.items;
       first += std::int64_t{gridDim.x} << cut.places) {
    const team_seat seat = seat_of(cut, first, x.rows);
    const std::int64_t column = seat.group * terms, end = seat.exists ? terms : 0;
    const float* above = dy.data + column * dy.ld + seat.sample;
    const float* from = x.data + column * x.ld + seat.sample;
    float* to = dx.data + column * dx.ld + seat.sample;
    const float m = seat.exists ? __ldg(mean.data + seat.group * mean.ld + seat.sample) : 0.0f,
                r = seat.exists ? __ldg(rstd.data + seat.group * rstd.ld + seat.sample) : 0.0f;
    double plain = 0, weighted = 0;
#pragma unroll 4
    for (std::int64_t k = member; k < end; k += members) {
      float g = __ldg(above + k * dy.ld);
      if (w) g *= __ldg(w + k);
      plain += double{g};
      weighted += double{g * ((__ldg(from + k * x.ld) - m) * r)};
    }
    const double count = static_cast<double>(terms);
    const float of_g = static_cast<float>(over_team(plain, cut, add_terms{}) / count),
                of_gx = static_cast<float>(over_team(weighted, cut, add_terms{}) / count);
#pragma unroll 4
    for (std::int64_t k = member; k < end; k += members) {
      float g = __ldg(above + k * dy.ld);
      if (w) g *= __ldg(w + k);
      to[k * dx.ld] = r * (g - of_g - (__ldg(from + k * x.ld) - m) * r * of_gx);
    }
  }
}

}  // namespace deepstruct::kernels::device
