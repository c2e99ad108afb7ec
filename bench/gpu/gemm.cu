// Dense products on tensor cores with float32's accuracy beside cuBLAS in float32 and TF32, and beside our product
// without tensor cores: forward y = x·wᵀ and dx = dy·w of square layers, every tile in some cuts, errors against double
// at sampled entries before any time is taken.
// Usage: gemm OUT.json [seconds | profile]   (profile: one cell, every call once, for a profiler)
#include <cublas_v2.h>

#include <fstream>
#include <map>
#include <memory>

#include "../../kernels/launchers.hpp"
#include "measure.hpp"

#include <deepstruct/core/shape.hpp>
#include <deepstruct/kernels/cuda.hpp>

namespace {

using bench::Buffer;
using bench::Row;
using deepstruct::kernels::tensor_cut;
namespace kernels = deepstruct::kernels;
using View = deepstruct::matrix_view<float>;
using ConstView = deepstruct::matrix_view<const float>;
using Weight = deepstruct::strided_view<const float>;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Device side: random numbers, and errors against double.

/// Uniform in [−1, 1), or in [0, 1).
__global__ void randomize(float* to, std::int64_t n, std::uint64_t seed, bool positive) {
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    std::uint64_t z = (seed + static_cast<std::uint64_t>(i)) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    const double v = static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
    to[i] = static_cast<float>(positive ? v : 2 * v - 1);
  }
}
/// A warp takes one sampled entry: off[0] += (got − want)², off[1] += want², and the greatest error in units of
/// 2⁻²⁴·√terms·magnitude to off[2], of 2⁻²⁴·want to off[3].
__global__ void compare(ConstView x, Weight w, ConstView y, std::int64_t entries, double* off) {
  const std::int64_t entry = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
  if (entry >= entries) return;
  const std::int64_t at = static_cast<std::int64_t>(static_cast<double>(entry) * 0.6180339887498949 *
                                                    static_cast<double>(y.rows * y.cols)) %
                          (y.rows * y.cols),
                     b = at % y.rows, o = at / y.rows;
  double sum = 0, magnitude = 0;
  for (std::int64_t i = threadIdx.x % 32; i < x.cols; i += 32) {
    const double term = double{x.data[i * x.ld + b]} * double{w.data[o * w.s0 + i * w.s1]};
    sum += term, magnitude += fabs(term);
  }
  for (int d = 16; d > 0; d /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, d);
    magnitude += __shfl_xor_sync(0xffffffffu, magnitude, d);
  }
  if (threadIdx.x % 32 != 0) return;
  const double d = fabs(double{y.data[o * y.ld + b]} - sum);
  const auto greatest = [](double* to, double v) {  // of numbers ≥ 0; NaN is the greatest
    atomicMax(reinterpret_cast<unsigned long long*>(to),
              static_cast<unsigned long long>(__double_as_longlong(v == v ? v : 1e300)));
  };
  atomicAdd(off, d * d);
  atomicAdd(off + 1, sum * sum);
  greatest(off + 2, d / (0x1p-24 * sqrt(static_cast<double>(x.cols + 1)) * magnitude));
  greatest(off + 3, d / (0x1p-24 * fabs(sum)));
}

void require(cublasStatus_t s, const char* what) {
  deepstruct::check(s == CUBLAS_STATUS_SUCCESS, what, ": ", cublasGetStatusString(s));
}

/// x, w and y of one product; benchmarks go round several of them. w is the weight of a layer [outputs, terms], or for
/// dx that of one [terms, outputs], transposed.
struct Set {
  std::int64_t samples, outputs, terms, ld, w_ld;
  bool dx;
  Buffer<float> x, w, y;
  Set(std::int64_t samples_, std::int64_t outputs_, std::int64_t terms_, bool dx_, std::uint64_t seed, bool positive)
      : samples(samples_),
        outputs(outputs_),
        terms(terms_),
        ld(deepstruct::leading_stride(samples)),
        w_ld(deepstruct::leading_stride(dx_ ? terms : outputs)),
        dx(dx_),
        x(static_cast<std::size_t>(terms * ld)),
        w(static_cast<std::size_t>(w_ld * (dx ? outputs : terms))),
        y(static_cast<std::size_t>(outputs * ld)) {
    for (const Buffer<float>* b : {&x, &w})
      randomize<<<1024, 256>>>(b->data(), static_cast<std::int64_t>(b->size()), seed += 1'000'003'000, positive);
  }
  ConstView x_view() const { return {x.data(), samples, terms, ld}; }
  Weight w_view() const { return {w.data(), outputs, terms, dx ? w_ld : 1, dx ? 1 : w_ld}; }
  View y_view() const { return {y.data(), samples, outputs, ld}; }
};

struct Error {
  double relative = 0;  ///< root of mean squares
  double bound = 0;     ///< greatest |got − want| / (2⁻²⁴·√terms·magnitude)
  double of_value = 0;  ///< greatest |got − want| / (2⁻²⁴·|want|)
};
struct Timed {
  std::string what;
  double us = 0;
  Error error, one_sign;
};
const Timed& best_of(const std::vector<Timed>& all) {
  const Timed* best = &all.front();
  for (const Timed& t : all)
    if (t.us > 0 && (!(best->us > 0) || t.us < best->us)) best = &t;
  return *best;
}

std::string text_of(tensor_cut c) {
  const char* tile = c.tile == tensor_cut::wide ? "wide" : c.tile == tensor_cut::tall ? "tall" : "square";
  return std::string(tile) + " p" + std::to_string(c.parts);
}

class Bench {
 public:
  Bench(const char* file, bool profile) : out_(file), profile_(profile) {
    bench::require(cudaStreamCreate(&stream_), "stream");
    require(cublasCreate(&blas_), "cublasCreate");
    require(cublasSetStream(blas_, stream_), "cublasSetStream");
    off_ = Buffer<double>(4);
    out_ << "[\n";
  }
  void cell(std::int64_t samples, std::int64_t outputs, std::int64_t terms, bool dx);
  void finish();

 private:
  using Call = std::function<void(const Set&)>;

  Error error_of(const Set& s) {
    constexpr std::int64_t entries = 4096;
    deepstruct::runtime::fill(off_.data(), 0, 32, stream_, "compare");
    compare<<<entries / 8, 256, 0, stream_>>>(s.x_view(), s.w_view(), s.y_view(), entries, off_.data());
    double off[4];
    deepstruct::runtime::copy_to_host(off, off_.data(), 32, stream_, "compare");
    deepstruct::runtime::synchronize(stream_, "compare");
    return {std::sqrt(off[0] / off[1]), off[2], off[3]};
  }
  Error error_of(const Set& s, const Call& call) {
    deepstruct::runtime::fill(s.y.data(), 0xff, s.y.size() * 4, stream_, "poison");
    call(s);
    return error_of(s);
  }
  /// Errors of the first set and of the one with positive numbers, then the time.
  Timed measure(const std::string& what, const Call& call, double tolerance) {
    Timed t;
    t.what = what;
    try {
      t.error = error_of(*sets_.front(), call);
      t.one_sign = error_of(*positive_, call);
      if (!(t.error.relative < tolerance && t.one_sign.relative < tolerance)) {
        std::printf("  WRONG %s: relative error %g, of one sign %g\n", what.c_str(), t.error.relative,
                    t.one_sign.relative);
        return t;
      }
      if (profile_) return t;
      t.us = bench::time_us(stream_, static_cast<int>(sets_.size()),
                            [&](int s) { call(*sets_[static_cast<std::size_t>(s)]); });
    } catch (const std::exception& e) {
      (void)cudaGetLastError();
      std::printf("  skipped %s: %s\n", what.c_str(), e.what());
    }
    return t;
  }
  void blas(const Set& s, cublasComputeType_t how) {
    const float one = 1, zero = 0;
    require(cublasGemmEx(blas_, CUBLAS_OP_N, s.dx ? CUBLAS_OP_N : CUBLAS_OP_T, static_cast<int>(s.samples),
                         static_cast<int>(s.outputs), static_cast<int>(s.terms), &one, s.x.data(), CUDA_R_32F,
                         static_cast<int>(s.ld), s.w.data(), CUDA_R_32F, static_cast<int>(s.w_ld), &zero, s.y.data(),
                         CUDA_R_32F, static_cast<int>(s.ld), how, CUBLAS_GEMM_DEFAULT),
            "cublasGemmEx");
  }

  std::ofstream out_;
  bool profile_;
  cudaStream_t stream_{};
  cublasHandle_t blas_{};
  Buffer<double> off_;
  std::vector<std::unique_ptr<Set>> sets_;
  std::unique_ptr<Set> positive_;
  std::map<std::string, bench::Geomean> ratios_;
  std::map<std::string, int> wins_;
  double worst_bound_ = 0, worst_of_value_ = 0;
  int rows_written_ = 0;
};

void Bench::cell(std::int64_t samples, std::int64_t outputs, std::int64_t terms, bool dx) {
  const double bytes = 4 * static_cast<double>(samples * (outputs + terms) + outputs * terms);
  const int sets = static_cast<int>(std::clamp(std::ceil(150e6 / bytes), 1.0, 16.0));
  sets_.clear();
  for (int s = 0; s < sets; ++s)
    sets_.push_back(std::make_unique<Set>(samples, outputs, terms, dx, 77 + static_cast<std::uint64_t>(s), false));
  positive_ = std::make_unique<Set>(samples, outputs, terms, dx, 99, true);
  bench::require(cudaStreamSynchronize(nullptr), "data");
  const deepstruct::cuda device{stream_};
  const Set& first = *sets_.front();
  deepstruct::check(kernels::gemm_3xtf32_fits(first.x_view(), first.w_view(), first.y_view()), "gemm: does not fit");

  std::vector<tensor_cut> cuts{kernels::gemm_3xtf32_cut(samples, outputs, terms)};
  for (const tensor_cut::Tile tile : {tensor_cut::wide, tensor_cut::tall, tensor_cut::square})
    for (const std::int64_t parts : {1, 2, 3, 4, 6, 8, 16}) {
      const std::int64_t tiles = ceil_div(samples, tile == tensor_cut::wide ? 128 : 64) *
                                 ceil_div(outputs, tile == tensor_cut::square ? 64 : 128);
      tensor_cut c;
      c.tile = tile, c.parts = parts;
      if (parts == 1 || (terms / parts >= 128 && tiles * parts <= 132 * 8 && tiles < 132 * 3)) cuts.push_back(c);
    }
  std::vector<Timed> ours;
  for (const tensor_cut& c : cuts) {
    if (!ours.empty() && ours.front().what == text_of(c)) continue;
    ours.push_back(measure(
        text_of(c),
        [&](const Set& s) { kernels::gemm_3xtf32(device, s.x_view(), s.w_view(), nullptr, false, s.y_view(), c); },
        1e-5));
  }
  const Timed plain = measure(
      "gemm", [&](const Set& s) { kernels::gemm(device, s.x_view(), s.w_view(), nullptr, s.y_view()); }, 1e-5);
  const Timed fp32 = measure(
      "cublas fp32", [&](const Set& s) { blas(s, CUBLAS_COMPUTE_32F); }, 1e-5);
  const Timed tf32 = measure(
      "cublas tf32", [&](const Set& s) { blas(s, CUBLAS_COMPUTE_32F_FAST_TF32); }, 1e-2);

  const Timed &chosen = ours.front(), &best = best_of(ours);
  const double flops = 2 * static_cast<double>(samples) * static_cast<double>(outputs) * static_cast<double>(terms);
  const char* name = dx ? "gemm_dx" : "gemm_forward";
  Row r;
  r.text("case", name).number("rows", outputs).number("cols", terms).number("batch", samples).number("sets", sets);
  r.number("ours_us", chosen.us).text("ours", chosen.what).number("rel_err", chosen.error.relative);
  r.number("err_of_bound", chosen.error.bound / 4).number("one_sign_err", chosen.one_sign.of_value * 0x1p-24);
  r.text("peer", "cublas fp32").number("peer_us", fp32.us).number("peer_rel_err", fp32.error.relative);
  r.number("peer_one_sign_err", fp32.one_sign.of_value * 0x1p-24);
  r.number("ratio", chosen.us > 0 ? fp32.us / chosen.us : 0.0);
  r.number("tf32_us", tf32.us).number("tf32_rel_err", tf32.error.relative);
  r.number("gemm_us", plain.us).number("gemm_rel_err", plain.error.relative);
  r.number("best_us", best.us).text("best", best.what).number("tflop_s", best.us > 0 ? flops / best.us * 1e-6 : 0.0);
  std::string list = "{";
  for (const Timed& t : ours) {
    std::ostringstream s;
    s.precision(5);
    s << (list.size() > 1 ? ", " : "") << '"' << t.what << "\": ";
    if (t.us > 0)
      s << t.us;
    else
      s << "null";
    list += s.str();
  }
  r.raw("cuts", list + "}");
  out_ << (rows_written_++ ? ",\n" : "") << r.str() << std::flush;
  std::printf(
      "%-12s %5ld x %5ld of %5ld: %8.1f us %-10s best %8.1f %-10s %6.1f TFLOP/s | fp32 %8.1f tf32 %8.1f gemm "
      "%8.1f | err %.1e (fp32 %.1e) of bound %.2f, one sign %.1e (fp32 %.1e)\n",
      name, static_cast<long>(samples), static_cast<long>(outputs), static_cast<long>(terms), chosen.us,
      chosen.what.c_str(), best.us, best.what.c_str(), best.us > 0 ? flops / best.us * 1e-6 : 0.0, fp32.us, tf32.us,
      plain.us, chosen.error.relative, fp32.error.relative, chosen.error.bound / 4, chosen.one_sign.of_value * 0x1p-24,
      fp32.one_sign.of_value * 0x1p-24);
  for (const Timed& t : ours) {
    worst_bound_ = std::max(worst_bound_, std::max(t.error.bound, t.one_sign.bound) / 4);
    worst_of_value_ = std::max(worst_of_value_, t.one_sign.of_value);
  }
  if (!(chosen.us > 0 && best.us > 0)) return;
  const std::string label = name;
  if (fp32.us > 0) ratios_[label + " to cublas fp32"].add(fp32.us / chosen.us);
  if (fp32.us > 0) ratios_[label + " to cublas fp32, best cut"].add(fp32.us / best.us);
  if (tf32.us > 0) ratios_[label + " to cublas tf32"].add(tf32.us / chosen.us);
  if (plain.us > 0) ratios_[label + " to gemm"].add(plain.us / chosen.us);
  ratios_[label + " choice to best cut"].add(best.us / chosen.us);
  ++wins_[best.what];
  bench::require(cudaDeviceSynchronize(), "cell");
}

void Bench::finish() {
  out_ << "\n]\n";
  std::printf("\n%-40s %7s %7s %6s\n", "their time by ours", "geomean", "worst", "cells");
  for (const auto& [name, g] : ratios_)
    std::printf("%-40s %7.2f %7.2f %6d\n", name.c_str(), g.value(), g.worst, g.count);
  std::printf("\ncuts that won:");
  for (const auto& [name, n] : wins_) std::printf(" [%s: %d]", name.c_str(), n);
  std::printf(
      "\ngreatest error %.3f of the bound 4*2^-24*sqrt(terms)*magnitude; sums of one sign off by %.1f * 2^-24\n",
      worst_bound_, worst_of_value_);
}

}  // namespace

int main(int argc, char** argv) {
  deepstruct::check(argc > 1, "usage: gemm OUT.json [seconds | profile]");
  const bool profile = argc > 2 && std::string(argv[2]) == "profile";
  const double limit = argc > 2 ? std::atof(argv[2]) : 60;
  (void)bench::seconds();
  Bench all(argv[1], profile);
  if (profile) {
    for (const bool dx : {false, true}) all.cell(2048, 2048, 2048, dx);
    return 0;
  }
  int skipped = 0, done = 0;
  for (const std::int64_t size : {2048, 1024, 4096, 512})
    for (const std::int64_t samples : {1024, 128, 4096, 512})
      for (const bool dx : {false, true}) {
        if (bench::seconds() > limit) {
          ++skipped;
          continue;
        }
        try {
          all.cell(samples, size, size, dx);
          ++done;
        } catch (const std::exception& e) {
          std::printf("cell %ld %ld failed: %s\n", static_cast<long>(size), static_cast<long>(samples), e.what());
        }
      }
  all.finish();
  std::printf("%d cells measured, %d skipped for time, %.0f s\n", done, skipped, bench::seconds());
}
