// The sparse triple beside cuSPARSE and cuBLAS: every cut of ours, every algorithm of theirs, errors against double
// before any time is taken.
// Usage: sparse OUT.json [seconds | profile]   (profile: one cell, every call once, for a profiler)
#include <cublas_v2.h>
#include <cusparse.h>

#include <fstream>
#include <map>
#include <memory>

#include "../../kernels/launchers.hpp"
#include "measure.hpp"

#include <deepstruct/core/shape.hpp>

namespace {

using bench::Buffer;
using bench::Row;
using deepstruct::csr_view;
using deepstruct::kernels::sparse_cut;
namespace kernels = deepstruct::kernels;
using View = deepstruct::matrix_view<float>;
using ConstView = deepstruct::matrix_view<const float>;

// Host side: a random pattern, by rows and by columns.

struct Random {
  std::uint64_t state;
  std::uint64_t bits() {
    std::uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
};

struct Pattern {
  std::int64_t rows, cols;
  std::vector<std::int32_t> start, col, column_start, row, edge;
  Pattern(std::int64_t rows_, std::int64_t cols_, double density, std::uint64_t seed)
      : rows(rows_), cols(cols_), column_start(static_cast<std::size_t>(cols_ + 1)) {
    Random random{seed};
    const double scale = 1 / std::log1p(-density);
    const auto gap = [&] { return 1 + static_cast<std::int64_t>(std::log(1 - random.uniform()) * scale); };
    start.assign(static_cast<std::size_t>(rows + 1), 0);
    for (std::int64_t at = gap() - 1; at < rows * cols; at += gap()) {
      col.push_back(static_cast<std::int32_t>(at % cols));
      ++start[static_cast<std::size_t>(at / cols + 1)];
      ++column_start[static_cast<std::size_t>(at % cols + 1)];
    }
    for (std::int64_t r = 0; r < rows; ++r) start[r + 1] += start[r];
    for (std::int64_t c = 0; c < cols; ++c) column_start[c + 1] += column_start[c];
    row.resize(col.size());
    edge.resize(col.size());
    std::vector<std::int32_t> next(column_start.begin(), column_start.end() - 1);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int32_t k = start[r]; k < start[r + 1]; ++k) {
        const std::int32_t at = next[col[k]]++;
        row[at] = static_cast<std::int32_t>(r);
        edge[at] = k;
      }
  }
  std::int64_t nnz() const { return static_cast<std::int64_t>(col.size()); }
};

// Device side: random numbers, references in double, errors.

__global__ void randomize(float* to, std::int64_t n, std::uint64_t seed) {
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    std::uint64_t z = (seed + static_cast<std::uint64_t>(i)) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    to[i] = static_cast<float>(static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-52 - 1.0);
  }
}
__global__ void reference_linear(csr_view m, const float* values, ConstView x, double* y, std::int64_t ld) {
  const std::int64_t b = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, r = blockIdx.y;
  if (b >= x.rows) return;
  double sum = 0;
  for (std::int32_t k = m.start[r]; k < m.start[r + 1]; ++k)
    sum += double{values[m.edge ? m.edge[k] : k]} * double{x.data[m.col[k] * x.ld + b]};
  y[r * ld + b] = sum;
}
__global__ void reference_dw(csr_view m, ConstView dy, ConstView x, double* dw) {
  const std::int64_t r = blockIdx.x;
  for (std::int32_t k = m.start[r] + static_cast<std::int32_t>(threadIdx.x / 32); k < m.start[r + 1];
       k += static_cast<std::int32_t>(blockDim.x / 32)) {
    double sum = 0;
    for (std::int64_t b = threadIdx.x % 32; b < x.rows; b += 32)
      sum += double{dy.data[r * dy.ld + b]} * double{x.data[m.col[k] * x.ld + b]};
    for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
    if (threadIdx.x % 32 == 0) dw[k] = sum;
  }
}
/// sums[0] += Σ (got − want)², sums[1] += Σ want², over rows of `n` numbers at distance ld.
__global__ void compare(const float* got, const double* want, std::int64_t n, std::int64_t ld, std::int64_t rows,
                        double* sums) {
  double off = 0, all = 0;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n * rows;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    const std::int64_t at = i / n * ld + i % n;
    const double d = double{got[at]} - want[at];
    off += d * d, all += want[at] * want[at];
  }
  atomicAdd(sums, off);
  atomicAdd(sums + 1, all);
}

// Peers.

void require(cusparseStatus_t s, const char* what) {
  deepstruct::check(s == CUSPARSE_STATUS_SUCCESS, what, ": ", cusparseGetErrorString(s));
}
void require(cublasStatus_t s, const char* what) {
  deepstruct::check(s == CUBLAS_STATUS_SUCCESS, what, ": ", cublasGetStatusString(s));
}

/// One call of cuSPARSE with its descriptors and buffer.
class SpMM {
 public:
  SpMM(cusparseHandle_t handle, csr_view m, float* values, float* b, std::int64_t ldb, float* c, std::int64_t ldc,
       std::int64_t n, bool transposed, bool by_rows, cusparseSpMMAlg_t algorithm)
      : handle_(handle), algorithm_(algorithm) {
    op_ = transposed ? CUSPARSE_OPERATION_TRANSPOSE : CUSPARSE_OPERATION_NON_TRANSPOSE;
    const cusparseOrder_t order = by_rows ? CUSPARSE_ORDER_ROW : CUSPARSE_ORDER_COL;
    require(cusparseCreateCsr(&a_, m.rows, m.cols, m.nnz, const_cast<std::int32_t*>(m.start),
                              const_cast<std::int32_t*>(m.col), values, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I,
                              CUSPARSE_INDEX_BASE_ZERO, CUDA_R_32F),
            "cusparseCreateCsr");
    const std::int64_t in = transposed ? m.rows : m.cols, out = transposed ? m.cols : m.rows;
    require(cusparseCreateDnMat(&b_, in, n, by_rows ? ldb : in, b, CUDA_R_32F, order), "cusparseCreateDnMat");
    require(cusparseCreateDnMat(&c_, out, n, by_rows ? ldc : out, c, CUDA_R_32F, order), "cusparseCreateDnMat");
    std::size_t bytes = 0;
    require(cusparseSpMM_bufferSize(handle_, op_, none_, &one_, a_, b_, &zero_, c_, CUDA_R_32F, algorithm_, &bytes),
            "cusparseSpMM_bufferSize");
    buffer_ = Buffer<std::byte>(bytes + 16);
    (void)cusparseSpMM_preprocess(handle_, op_, none_, &one_, a_, b_, &zero_, c_, CUDA_R_32F, algorithm_,
                                  buffer_.data());  // not every algorithm has one
  }
  SpMM(const SpMM&) = delete;
  SpMM& operator=(const SpMM&) = delete;
  ~SpMM() {
    (void)cusparseDestroySpMat(a_);
    (void)cusparseDestroyDnMat(b_);
    (void)cusparseDestroyDnMat(c_);
  }
  void operator()() const {
    require(cusparseSpMM(handle_, op_, none_, &one_, a_, b_, &zero_, c_, CUDA_R_32F, algorithm_, buffer_.data()),
            "cusparseSpMM");
  }

 private:
  cusparseHandle_t handle_;
  cusparseSpMMAlg_t algorithm_;
  cusparseOperation_t op_{}, none_ = CUSPARSE_OPERATION_NON_TRANSPOSE;
  cusparseSpMatDescr_t a_{};
  cusparseDnMatDescr_t b_{}, c_{};
  Buffer<std::byte> buffer_;
  float one_ = 1, zero_ = 0;
};

class SDDMM {
 public:
  SDDMM(cusparseHandle_t handle, csr_view m, ConstView dy, ConstView x, float* dw) : handle_(handle) {
    require(cusparseCreateCsr(&c_, m.rows, m.cols, m.nnz, const_cast<std::int32_t*>(m.start),
                              const_cast<std::int32_t*>(m.col), dw, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I,
                              CUSPARSE_INDEX_BASE_ZERO, CUDA_R_32F),
            "cusparseCreateCsr");
    require(
        cusparseCreateDnMat(&a_, m.rows, x.rows, dy.ld, const_cast<float*>(dy.data), CUDA_R_32F, CUSPARSE_ORDER_ROW),
        "cusparseCreateDnMat");
    require(cusparseCreateDnMat(&b_, x.rows, m.cols, x.ld, const_cast<float*>(x.data), CUDA_R_32F, CUSPARSE_ORDER_COL),
            "cusparseCreateDnMat");
    std::size_t bytes = 0;
    require(cusparseSDDMM_bufferSize(handle_, none_, none_, &one_, a_, b_, &zero_, c_, CUDA_R_32F,
                                     CUSPARSE_SDDMM_ALG_DEFAULT, &bytes),
            "cusparseSDDMM_bufferSize");
    buffer_ = Buffer<std::byte>(bytes + 16);
    (void)cusparseSDDMM_preprocess(handle_, none_, none_, &one_, a_, b_, &zero_, c_, CUDA_R_32F,
                                   CUSPARSE_SDDMM_ALG_DEFAULT, buffer_.data());
  }
  SDDMM(const SDDMM&) = delete;
  SDDMM& operator=(const SDDMM&) = delete;
  ~SDDMM() {
    (void)cusparseDestroySpMat(c_);
    (void)cusparseDestroyDnMat(a_);
    (void)cusparseDestroyDnMat(b_);
  }
  void operator()() const {
    require(cusparseSDDMM(handle_, none_, none_, &one_, a_, b_, &zero_, c_, CUDA_R_32F, CUSPARSE_SDDMM_ALG_DEFAULT,
                          buffer_.data()),
            "cusparseSDDMM");
  }

 private:
  cusparseHandle_t handle_;
  cusparseOperation_t none_ = CUSPARSE_OPERATION_NON_TRANSPOSE;
  cusparseSpMatDescr_t c_{};
  cusparseDnMatDescr_t a_{}, b_{};
  Buffer<std::byte> buffer_;
  float one_ = 1, zero_ = 0;
};

// Cuts to try beside the chosen one.

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::string text_of(const sparse_cut& c, bool dw) {
  if (c.dense) return "dense";
  if (c.columns == 0) return "rows" + std::to_string(dw ? 32 : c.lanes * 4) + (c.staged ? " staged" : "");
  return "slab" + std::to_string(c.lanes * 4) + "x" + std::to_string(c.columns) + " t" + std::to_string(c.threads) +
         (c.warp_to_row ? " w" : " g") + " r" + std::to_string(c.rows) + (dw ? " s" + std::to_string(c.slabs) : "") +
         (c.staged ? " staged" : "");
}

/// A slab cut in a share of a multiprocessor (1, or a half with half the threads), its rows (and slabs) chosen to fill
/// the chip evenly.
sparse_cut slab_cut(csr_view m, std::int64_t samples, int share, int lanes, bool warp_to_row, bool dw) {
  sparse_cut c;
  c.warp_to_row = warp_to_row;
  const std::int64_t slabs = ceil_div(samples, 4 * lanes);
  c.threads = (dw || lanes == 16 ? 512 : 1024) / share;
  c.lanes = lanes;
  const double at_once = 132.0 * share, wide = lanes / 8.0;
  double least = 1e30;
  for (std::int64_t parts = ceil_div(m.rows, 2048); parts <= 128 && parts <= m.rows / 8; ++parts) {
    const std::int64_t rows = ceil_div(m.rows, parts), most = (226 * 1024 / share - 8 * rows) / (16 * lanes),
                       blocks_of_columns = ceil_div(m.cols, most);
    for (std::int64_t each = 1; each <= (dw ? slabs : 1); each = each < 4 ? each + 1 : each * 3 / 2) {
      const std::int64_t groups = ceil_div(slabs, each);
      const double edges = static_cast<double>(m.nnz) / static_cast<double>(parts);
      const double visits = static_cast<double>(ceil_div(rows, c.threads / (warp_to_row ? 32
                                                                            : dw        ? 8
                                                                                        : lanes)) *
                                                blocks_of_columns);
      const double block =
          static_cast<double>(each) * ((edges * 1.4 * wide + static_cast<double>(m.cols) * 128 * wide / 32) * share +
                                       3000.0 * static_cast<double>(blocks_of_columns) + 500 * visits);
      double clocks = std::ceil(static_cast<double>(parts * groups) / at_once) * block;
      if (dw && groups > 1) clocks += static_cast<double>(groups * m.nnz) * 8 / (132 * 28.0) + 3000;
      if (clocks < least) {
        least = clocks;
        c.rows = static_cast<std::int32_t>(rows);
        c.columns = static_cast<std::int32_t>(ceil_div(m.cols, blocks_of_columns));
        c.slabs = static_cast<std::int32_t>(each);
      }
    }
  }
  return c;
}
sparse_cut rows_cut(int lanes) {
  sparse_cut c;
  c.lanes = lanes;
  c.rows = 8;
  return c;
}
sparse_cut staged(sparse_cut c) {
  c.staged = true;
  return c;
}

/// A set of data; benchmarks go round several of them.
struct Set {
  Buffer<std::int32_t> start, col, column_start, row, edge;
  Buffer<float> values, x, dy, out;
  csr_view by_row{}, by_column{};
  Set(const Pattern& p, std::int64_t n, std::int64_t ld, std::uint64_t seed)
      : start(std::span<const std::int32_t>(p.start)),
        col(std::span<const std::int32_t>(p.col)),
        column_start(std::span<const std::int32_t>(p.column_start)),
        row(std::span<const std::int32_t>(p.row)),
        edge(std::span<const std::int32_t>(p.edge)),
        values(p.col.size()),
        x(static_cast<std::size_t>(p.cols * ld)),
        dy(static_cast<std::size_t>(p.rows * ld)),
        out(static_cast<std::size_t>(std::max({p.cols * ld, p.rows * ld, p.nnz()}))),
        by_row{start.data(), col.data(), nullptr, p.rows, p.cols, p.nnz()},
        by_column{column_start.data(), row.data(), edge.data(), p.cols, p.rows, p.nnz()} {
    (void)n;
    for (const Buffer<float>* b : {&values, &x, &dy})
      randomize<<<1024, 256>>>(b->data(), static_cast<std::int64_t>(b->size()), seed += 1'000'003'000);
  }
};

struct Timed {
  std::string what;
  double us = 0, error = 0;
};
const Timed* best_of(const std::vector<Timed>& all) {
  const Timed* best = nullptr;
  for (const Timed& t : all)
    if (t.error < 1e-5 && (!best || t.us < best->us)) best = &t;
  return best;
}

class Bench {
 public:
  Bench(const char* file, bool profile) : out_(file), profile_(profile) {
    bench::require(cudaStreamCreate(&stream_), "stream");
    require(cusparseCreate(&sparse_), "cusparseCreate");
    require(cusparseSetStream(sparse_, stream_), "cusparseSetStream");
    require(cublasCreate(&blas_), "cublasCreate");
    require(cublasSetStream(blas_, stream_), "cublasSetStream");
    sums_ = Buffer<double>(2);
    out_ << "[\n";
  }
  void cell(std::int64_t rows, std::int64_t cols, double density, std::int64_t n);
  void finish();

 private:
  double error_of(const float* got, std::int64_t count, std::int64_t ld, std::int64_t lines) {
    deepstruct::runtime::fill(sums_.data(), 0, 16, stream_, "compare");
    compare<<<1024, 256, 0, stream_>>>(got, want_.data(), count, ld, lines, sums_.data());
    double sums[2];
    deepstruct::runtime::copy_to_host(sums, sums_.data(), 16, stream_, "compare");
    deepstruct::runtime::synchronize(stream_, "compare");
    return std::sqrt(sums[0] / sums[1]);
  }
  /// Poisons the output of the first set, calls, compares, then takes the time.
  Timed measure(const std::string& what, std::int64_t count, std::int64_t ld, std::int64_t lines,
                const std::function<void(int)>& call, bool checked = true) {
    Timed t{what, 0, 0};
    try {
      Buffer<float>& out = sets_.front()->out;
      deepstruct::runtime::fill(out.data(), 0xff, out.size() * 4, stream_, "poison");
      call(0);
      if (checked) t.error = error_of(out.data(), count, ld, lines);
      if (!(t.error < 1e-5)) {
        std::printf("  WRONG %s: relative error %g\n", what.c_str(), t.error);
        t.error = 1e9;
        return t;
      }
      if (profile_) return t;
      t.us = bench::time_us(stream_, static_cast<int>(sets_.size()), call);
    } catch (const std::exception& e) {
      (void)cudaGetLastError();
      if (skipped_[what.substr(0, what.find(' ')) + ": " + e.what()]++ == 0)
        std::printf("  skipped %s: %s\n", what.c_str(), e.what());
      t.error = 1e9;
    }
    return t;
  }
  void row(const char* name, std::int64_t rows, std::int64_t cols, double density, std::int64_t n,
           const std::vector<Timed>& ours, const std::vector<Timed>& peers, const std::vector<Timed>& dense);

  std::ofstream out_;
  bool profile_;
  cudaStream_t stream_{};
  cusparseHandle_t sparse_{};
  cublasHandle_t blas_{};
  Buffer<double> sums_, want_;
  std::vector<std::unique_ptr<Set>> sets_;
  std::map<std::string, int> skipped_;
  std::map<std::string, bench::Geomean> chosen_, best_, by_sparsity_;
  std::map<std::string, int> wins_;
  std::map<std::string, double> worst_choice_;
  int rows_written_ = 0;
};

void Bench::row(const char* name, std::int64_t rows, std::int64_t cols, double density, std::int64_t n,
                const std::vector<Timed>& ours, const std::vector<Timed>& peers, const std::vector<Timed>& dense) {
  const Timed *chosen = &ours.front(), *best = best_of(ours), *peer = best_of(peers);
  const double nnz = static_cast<double>(sets_.front()->by_row.nnz), samples = static_cast<double>(n);
  const double bytes = (samples * static_cast<double>(rows + cols) + 2 * nnz) * 4;
  Row r;
  r.text("case", name).number("rows", rows).number("cols", cols).number("batch", n);
  r.number("sparsity", 1 - density).number("nnz", nnz).number("sets", sets_.size());
  r.number("ours_us", chosen->us).text("ours", chosen->what).number("rel_err", chosen->error);
  r.text("peer", peer ? "cusparse " + peer->what : "none").number("peer_us", peer ? peer->us : 0.0);
  r.number("ratio", peer && chosen->us > 0 ? peer->us / chosen->us : 0.0);
  r.number("best_us", best ? best->us : 0.0).text("best", best ? best->what : "none");
  r.number("tflop_s", best ? 2 * nnz * samples / best->us * 1e-6 : 0.0);
  r.number("floor_us", std::max(2 * nnz * samples / 16.7e6, bytes / 3.0e6));
  const auto list = [](const std::vector<Timed>& all) {
    std::string text = "{";
    for (const Timed& t : all) {
      std::ostringstream s;
      s.precision(5);
      s << (text.size() > 1 ? ", " : "") << '"' << t.what << "\": ";
      if (t.error < 1e-2)
        s << t.us;
      else
        s << "null";
      text += s.str();
    }
    return text + "}";
  };
  r.raw("cuts", list(ours)).raw("peers", list(peers)).raw("dense", list(dense));
  out_ << (rows_written_++ ? ",\n" : "") << r.str() << std::flush;
  const std::string label =
      std::string(name) + " " + std::to_string(static_cast<int>(std::lround((1 - density) * 1000)));
  if (!peer || !best || chosen->error > 1) return;
  if (n >= 128 && density < 0.31) {
    chosen_[name].add(peer->us / chosen->us);
    best_[name].add(peer->us / best->us);
  }
  by_sparsity_[label].add(peer->us / best->us);
  for (const Timed& t : dense) by_sparsity_[label + " " + t.what].add(t.us / best->us);
  ++wins_[std::string(name) + " " + best->what.substr(0, best->what.find(" r"))];
  worst_choice_[name] = std::max(worst_choice_[name], chosen->us / best->us);
}

void Bench::cell(std::int64_t rows, std::int64_t cols, double density, std::int64_t n) {
  const Pattern p(rows, cols, density, 1234 + static_cast<std::uint64_t>(rows * 31 + cols * 7));
  const std::int64_t ld = deepstruct::leading_stride(n), nnz = p.nnz();
  const double bytes = static_cast<double>((rows + cols + std::max(rows, cols)) * ld + 6 * nnz) * 4;
  const int sets = static_cast<int>(std::clamp(std::ceil(150e6 / bytes), 1.0, 16.0));
  sets_.clear();
  for (int s = 0; s < sets; ++s) sets_.push_back(std::make_unique<Set>(p, n, ld, 77 + static_cast<std::uint64_t>(s)));
  want_ = Buffer<double>(static_cast<std::size_t>(std::max({rows * ld, cols * ld, nnz})));
  Set& first = *sets_.front();
  const deepstruct::cuda device{stream_};
  const auto x_of = [&](const Set& s) { return ConstView{s.x.data(), n, cols, ld}; };
  const auto dy_of = [&](const Set& s) { return ConstView{s.dy.data(), n, rows, ld}; };
  const auto threads = [&](std::int64_t lines) {
    return dim3(static_cast<unsigned>(ceil_div(n, 128)), static_cast<unsigned>(lines));
  };
  const cusparseSpMMAlg_t algorithms[] = {CUSPARSE_SPMM_CSR_ALG1, CUSPARSE_SPMM_CSR_ALG2, CUSPARSE_SPMM_CSR_ALG3};
  bench::require(cudaStreamSynchronize(nullptr), "data");

  // Forward and input gradient.
  for (const bool transposed : {false, true}) {
    const std::int64_t out = transposed ? cols : rows;
    const csr_view m0 = transposed ? first.by_column : first.by_row;
    reference_linear<<<threads(out), 128, 0, stream_>>>(m0, first.values.data(),
                                                        transposed ? dy_of(first) : x_of(first), want_.data(), ld);
    std::vector<sparse_cut> cuts{kernels::sparse_linear_cut(m0, n)};
    const sparse_cut some[] = {rows_cut(8),
                               rows_cut(32),
                               slab_cut(m0, n, 1, 8, true, false),
                               slab_cut(m0, n, 1, 8, false, false),
                               slab_cut(m0, n, 1, 16, true, false),
                               slab_cut(m0, n, 1, 16, false, false),
                               slab_cut(m0, n, 2, 16, false, false)};
    for (const sparse_cut& c : some) {
      if (transposed) cuts.push_back(staged(c));
      if (!transposed || c.columns == 0) cuts.push_back(c);
    }
    std::int64_t scratch_size = 0;
    for (const sparse_cut& c : cuts) scratch_size = std::max(scratch_size, kernels::sparse_linear_scratch(m0, c));
    const Buffer<float> scratch(static_cast<std::size_t>(scratch_size));
    std::vector<Timed> ours, peers, dense;
    for (const sparse_cut& c : cuts) {
      if (!ours.empty() && ours.front().what == text_of(c, false)) continue;
      ours.push_back(measure(text_of(c, false), n, ld, out, [&](int s) {
        const Set& d = *sets_[static_cast<std::size_t>(s)];
        kernels::sparse_linear(device, transposed ? d.by_column : d.by_row, d.values.data(),
                               transposed ? dy_of(d) : x_of(d), nullptr, false, View{d.out.data(), n, out, ld},
                               scratch.data(), c);
      }));
    }
    for (int a = 0; a < (transposed ? 2 : 3); ++a)  // the third one knows no transposition
      for (const bool by_rows : {true, false}) {
        const std::string what = "alg" + std::to_string(a + 1) + (by_rows ? "" : " column-major");
        std::vector<std::unique_ptr<SpMM>> calls;
        peers.push_back(measure(
            what, n, ld, out,
            [&](int s) {
              while (static_cast<int>(calls.size()) <= s) {
                const Set& d = *sets_[calls.size()];
                calls.push_back(std::make_unique<SpMM>(sparse_, d.by_row, d.values.data(),
                                                       (transposed ? d.dy : d.x).data(), ld, d.out.data(), ld, n,
                                                       transposed, by_rows, algorithms[a]));
              }
              (*calls[static_cast<std::size_t>(s)])();
            },
            by_rows));
      }
    if (!transposed && rows * cols <= std::int64_t{1} << 24) {
      const Buffer<float> w(static_cast<std::size_t>(rows * cols));
      randomize<<<1024, 256, 0, stream_>>>(w.data(), rows * cols, 5);
      const float one = 1, zero = 0;
      for (const bool tf32 : {false, true})
        dense.push_back(measure(
            tf32 ? "cublas tf32" : "cublas fp32", n, ld, out,
            [&](int s) {
              const Set& d = *sets_[static_cast<std::size_t>(s)];
              require(cublasGemmEx(blas_, CUBLAS_OP_N, CUBLAS_OP_N, static_cast<int>(n), static_cast<int>(rows),
                                   static_cast<int>(cols), &one, d.x.data(), CUDA_R_32F, static_cast<int>(ld), w.data(),
                                   CUDA_R_32F, static_cast<int>(cols), &zero, d.out.data(), CUDA_R_32F,
                                   static_cast<int>(ld), tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
                                   CUBLAS_GEMM_DEFAULT),
                      "cublasGemmEx");
            },
            false));
    } else if (transposed) {  // what an explicit transposed copy of the values would give
      std::vector<std::unique_ptr<SpMM>> calls;
      dense.push_back(measure(
          "cusparse explicit transpose", n, ld, out,
          [&](int s) {
            while (static_cast<int>(calls.size()) <= s) {
              const Set& d = *sets_[calls.size()];
              calls.push_back(std::make_unique<SpMM>(sparse_, d.by_column, d.values.data(), d.dy.data(), ld,
                                                     d.out.data(), ld, n, false, true, CUSPARSE_SPMM_CSR_ALG2));
            }
            (*calls[static_cast<std::size_t>(s)])();
          },
          false));
    }
    row(transposed ? "sparse_dx" : "sparse_forward", rows, cols, density, n, ours, peers, dense);
  }

  // Gradient of the weights.
  reference_dw<<<static_cast<unsigned>(rows), 256, 0, stream_>>>(first.by_row, dy_of(first), x_of(first), want_.data());
  const std::vector<sparse_cut> cuts{
      kernels::sparse_linear_dw_cut(first.by_row, n), slab_cut(first.by_row, n, 1, 8, true, true),
      slab_cut(first.by_row, n, 1, 8, false, true),   slab_cut(first.by_row, n, 1, 16, true, true),
      slab_cut(first.by_row, n, 1, 16, false, true),  slab_cut(first.by_row, n, 2, 8, false, true)};
  std::int64_t scratch_size = 0;
  for (const sparse_cut& c : cuts)
    scratch_size = std::max(scratch_size, kernels::sparse_linear_dw_scratch(first.by_row, n, c));
  const Buffer<float> scratch(static_cast<std::size_t>(scratch_size));
  std::vector<Timed> ours, peers;
  for (const sparse_cut& c : cuts) {
    if (!ours.empty() && ours.front().what == text_of(c, true)) continue;
    ours.push_back(measure(text_of(c, true), nnz, nnz, 1, [&](int s) {
      const Set& d = *sets_[static_cast<std::size_t>(s)];
      kernels::sparse_linear_dw(device, d.by_row, dy_of(d), x_of(d), d.out.data(), scratch.data(), c);
    }));
  }
  std::vector<std::unique_ptr<SDDMM>> calls;
  peers.push_back(measure("sddmm", nnz, nnz, 1, [&](int s) {
    while (static_cast<int>(calls.size()) <= s) {
      const Set& d = *sets_[calls.size()];
      calls.push_back(std::make_unique<SDDMM>(sparse_, d.by_row, dy_of(d), x_of(d), d.out.data()));
    }
    (*calls[static_cast<std::size_t>(s)])();
  }));
  row("sparse_dw", rows, cols, density, n, ours, peers, {});
  bench::require(cudaDeviceSynchronize(), "cell");
}

void Bench::finish() {
  out_ << "\n]\n";
  std::printf("\n%-28s %7s %7s %6s\n", "best cut, by sparsity", "geomean", "worst", "cells");
  for (const auto& [name, g] : by_sparsity_)
    std::printf("%-44s %7.2f %7.2f %6d\n", name.c_str(), g.value(), g.worst, g.count);
  std::printf("\ncuts that won:");
  for (const auto& [name, n] : wins_) std::printf(" [%s: %d]", name.c_str(), n);
  std::printf("\n\nversus cuSPARSE, sparsity >= .7, batch >= 128\n%-16s %14s %14s %12s %12s %16s\n", "case",
              "chosen geomean", "chosen worst", "best geomean", "best worst", "worst choice");
  for (const auto& [name, g] : chosen_)
    std::printf("%-16s %14.2f %14.2f %12.2f %12.2f %16.2f  (%d cells)\n", name.c_str(), g.value(), g.worst,
                best_[name].value(), best_[name].worst, worst_choice_[name], g.count);
}

}  // namespace

int main(int argc, char** argv) {
  deepstruct::check(argc > 1, "usage: sparse OUT.json [seconds]");
  const bool profile = argc > 2 && std::string(argv[2]) == "profile";
  const double limit = argc > 2 ? std::atof(argv[2]) : 100;
  (void)bench::seconds();
  Bench all(argv[1], profile);
  if (profile) {
    all.cell(2048, 2048, 0.1, 1024);
    return 0;
  }
  int skipped = 0, done = 0;
  const auto cell = [&](std::int64_t size, double sparsity, std::int64_t n) {
    if (bench::seconds() > limit) {
      ++skipped;
      return;
    }
    try {
      all.cell(size, size, 1 - sparsity, n);
      ++done;
    } catch (const std::exception& e) {
      std::printf("cell %ld %g %ld failed: %s\n", static_cast<long>(size), sparsity, static_cast<long>(n), e.what());
    }
  };
  for (const std::int64_t size : {2048, 1024, 4096, 512})
    for (const double sparsity : {.9, .95, .98, .8, .99, .7, .999})
      for (const std::int64_t n : {1024, 128, 512, 4096}) {
        if (sparsity == .999 && n != 1024) continue;
        if (size == 4096 && n == 4096 && sparsity < .9) continue;
        cell(size, sparsity, n);
      }
  for (const double sparsity : {.9, .98}) cell(2048, sparsity, 32);
  all.finish();
  std::printf("%d cells measured, %d skipped for time, %.0f s\n", done, skipped, bench::seconds());
}
