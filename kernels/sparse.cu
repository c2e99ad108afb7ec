// Launchers of the sparse triple: how it is cut into blocks.
#include <algorithm>

#include "launchers.hpp"
#include "runtime.hpp"
#include "sizes.hpp"
#include "sparse.cuh"

namespace deepstruct::kernels {
namespace {

/// What a slab kernel takes of time, in microseconds, fitted to measurements on an H200 (132 multiprocessors; 63 cells
/// of 1024² to 4096², sparsity 70 to 99.9 %, batch 128 to 4096; root mean square error 4 to 9 %): that of its launch,
/// of a kilobyte of slab, of a thousand edges times 32 samples, of a row that a group of threads visits, and of each of
/// the row's edges then.
struct slab_times {
  double launch, kilobyte, thousand, visit, edge;
};
/// By [lanes == 16][warp_to_row].
constexpr slab_times linear_times[2][2] = {{{0.83, 0.0183, 0.464, 1.606, 0.0781}, {0.74, 0.0246, 0, 1.034, 0.0278}},
                                           {{0.3, 0.0186, 0.055, 1.561, 0.1064}, {0.3, 0.0218, 0, 0.993, 0.0285}}};
constexpr slab_times dw_times[2][2] = {{{1.36, 0.0203, 0.456, 1.330, 0.0682}, {1.89, 0.0149, 0, 0.849, 0.0221}},
                                       {{1.24, 0.0169, 0.439, 1.657, 0.0653}, {1.63, 0.0186, 0, 1.163, 0.0264}}};
/// The same of a kernel without slabs: of its launch, of a million edges times samples, of a thousand rows times slabs;
/// of 32 and of 128 samples; error 11 and 17 %.
constexpr double rows_times[2][3] = {{2.72, 0.343, 0.387}, {5.0, 0.372, 0.354}};
constexpr double processors = 132;
/// A block's shared memory.
constexpr std::int64_t shared_bytes = 227 * 1024;

/// Columns of the pattern in blocks of equal size, as few as fit beside the notes of the rows.
std::int64_t columns_of(csr_view m, std::int64_t rows, std::int64_t lanes) {
  if (m.cols * lanes * 16 <= shared_bytes) return std::max<std::int64_t>(1, m.cols);
  const std::int64_t most = (shared_bytes - 8 * rows) / (lanes * 16), blocks = ceil_div(m.cols, most);
  return ceil_div(m.cols, blocks);
}
std::int64_t in_fours(std::int64_t n) { return (n + 3) / 4 * 4; }

/// Microseconds of the product with the matrix in full: of tensor cores, of the matrix, of its edges, of launches.
double dense_time(csr_view m, std::int64_t samples, std::int64_t outputs, std::int64_t terms) {
  if (std::min({samples, outputs, terms}) <= 16) return 1e300;
  double product = 0;
  gemm_3xtf32_cut(samples, outputs, terms, &product);
  return product + 3 + static_cast<double>(m.rows * m.cols) * 4e-6 / 2.2 + static_cast<double>(m.nnz) * 8e-6 / 1.5;
}

/// Microseconds of a slab kernel of so many blocks, one to a multiprocessor at a time.
double slab_time(const slab_times& t, csr_view m, const sparse_cut& c, double blocks) {
  const std::int64_t groups = c.threads / (c.warp_to_row ? 32 : 8), visits = ceil_div(c.rows, groups);
  const double rows = static_cast<double>(std::max<std::int64_t>(1, m.rows)), edges = static_cast<double>(m.nnz) / rows,
               slab = static_cast<double>(m.cols * c.lanes * 16) * 1e-3;
  const double block =
      slab * t.kilobyte + edges * static_cast<double>(c.rows * c.lanes) / 8e3 * t.thousand +
      static_cast<double>(visits) * (static_cast<double>(ceil_div(m.cols, c.columns)) * t.visit + edges * t.edge);
  return t.launch + std::ceil(blocks / processors) * static_cast<double>(c.slabs) * block;
}
double rows_time(csr_view m, std::int64_t samples, std::int32_t lanes) {
  const double* t = rows_times[lanes == 32 ? 1 : 0];
  return t[0] + static_cast<double>(m.nnz * samples) * 1e-6 * t[1] +
         static_cast<double>(m.rows * ceil_div(samples, 4 * lanes)) * 1e-3 * t[2];
}
/// Calls try_cut for every way to cut the rows in parts; blocks have so many threads, with 16 lanes 512.
template <class Try>
void for_cuts(csr_view m, std::int32_t threads, Try&& try_cut) {
  for (const std::int32_t lanes : {8, 16})
    for (const bool warp_to_row : {true, false})
      for (std::int64_t least = std::max<std::int64_t>(1, ceil_div(m.rows, 4096)), parts = least;
           parts <= std::max<std::int64_t>(least, std::min<std::int64_t>(132, ceil_div(m.rows, 8))); ++parts) {
        sparse_cut c;
        const std::int64_t rows = std::max<std::int64_t>(1, ceil_div(m.rows, parts));
        c.threads = lanes == 8 ? threads : 512;
        c.lanes = lanes, c.warp_to_row = warp_to_row;
        c.rows = static_cast<std::int32_t>(rows);
        c.columns = static_cast<std::int32_t>(columns_of(m, rows, lanes));
        try_cut(c, ceil_div(m.rows, rows));
      }
}

/// A slab, and behind it two notes for each row where there are several blocks of columns.
std::size_t slab_bytes(csr_view m, sparse_cut cut) {
  return static_cast<std::size_t>(cut.columns) * static_cast<std::size_t>(cut.lanes) * sizeof(float4) +
         (cut.columns < m.cols ? static_cast<std::size_t>(cut.rows) * 2 * sizeof(int) : 0);
}
unsigned blocks_for(std::int64_t n) { return static_cast<unsigned>(std::min<std::int64_t>(ceil_div(n, 256), 132 * 8)); }

template <bool Vector, bool ById>
void launch_linear(cuda gpu, csr_view m, const float* values, matrix_view<const float> x, const float* bias, bool relu,
                   matrix_view<float> y, sparse_cut cut) {
  const std::int64_t parts = ceil_div(m.rows, cut.rows), slabs = ceil_div(x.rows, 4 * cut.lanes);
  const auto blocks = static_cast<unsigned>(parts * slabs), threads = static_cast<unsigned>(cut.threads);
  using namespace device;
  if (cut.columns > 0) {
    const auto kernel =
        cut.warp_to_row
            ? (cut.lanes == 8 ? &sparse_linear_slab<Vector, ById, 1, 4> : &sparse_linear_slab<Vector, ById, 2, 4>)
            : (cut.lanes == 8 ? &sparse_linear_slab<Vector, ById, 1, 1> : &sparse_linear_slab<Vector, ById, 2, 1>);
    runtime::launch("sparse_linear", kernel, blocks, threads, slab_bytes(m, cut), gpu.stream, m, values, x, bias, relu,
                    y, static_cast<int>(parts), cut.rows, cut.columns);
  } else {
    const auto kernel = cut.lanes == 32 ? &sparse_linear_rows<Vector, ById, 32> : &sparse_linear_rows<Vector, ById, 8>;
    runtime::launch("sparse_linear", kernel, blocks, threads, 0, gpu.stream, m, values, x, bias, relu, y,
                    static_cast<int>(parts), cut.rows);
  }
}

template <bool Vector>
auto dw_slab(sparse_cut cut) {
  using namespace device;
  return cut.warp_to_row
             ? (cut.lanes == 8 ? &sparse_linear_dw_slab<Vector, 1, 4> : &sparse_linear_dw_slab<Vector, 2, 4>)
             : (cut.lanes == 8 ? &sparse_linear_dw_slab<Vector, 1, 1> : &sparse_linear_dw_slab<Vector, 2, 1>);
}

}  // namespace

sparse_cut sparse_linear_cut(csr_view m, std::int64_t samples) {
  const bool staged = m.edge != nullptr && samples > 64;
  sparse_cut best;
  best.lanes = rows_time(m, samples, 32) < rows_time(m, samples, 8) ? 32 : 8;
  double least = rows_time(m, samples, best.lanes);
  for_cuts(m, 1024, [&](const sparse_cut& c, std::int64_t parts) {
    const double time = slab_time(linear_times[c.lanes == 16][c.warp_to_row], m, c,
                                  static_cast<double>(parts * ceil_div(samples, 4 * c.lanes)));
    if (time < least) least = time, best = c;
  });
  best.staged = staged;
  best.dense = dense_time(m, samples, m.rows, m.cols) + (m.edge ? static_cast<double>(m.nnz) * 8e-6 : 0) < least;
  return best;
}

sparse_cut sparse_linear_dw_cut(csr_view m, std::int64_t samples) {
  sparse_cut best;
  double least = 1e300;
  for_cuts(m, 512, [&](sparse_cut c, std::int64_t parts) {
    const std::int64_t slabs = std::max<std::int64_t>(1, ceil_div(samples, 4 * c.lanes));
    for (std::int64_t each = 1; each <= slabs; each = each < 4 ? each + 1 : each * 5 / 4) {
      const std::int64_t groups = ceil_div(slabs, each);
      c.slabs = static_cast<std::int32_t>(each);
      const slab_times& t = dw_times[c.lanes == 16][c.warp_to_row];
      double time = slab_time(t, m, c, static_cast<double>(parts * groups));
      if (groups > 1) time += t.launch + static_cast<double>(groups * m.nnz) * 1e-6;  // the sum over groups
      if (time < least) least = time, best = c;
    }
  });
  const double turned = 3 + static_cast<double>(m.cols * samples) * 8e-6 / 2.5;
  best.dense = dense_time(m, m.cols, m.rows, samples) + turned < least;
  return best;
}

static runtime::Buffer<float> scratch_of(std::int64_t floats, cuda device, const char* op) {
  return floats > 0 ? runtime::Buffer<float>(static_cast<std::size_t>(floats), device.stream, op)
                    : runtime::Buffer<float>();
}
std::int64_t sparse_linear_scratch(csr_view m, sparse_cut cut) {
  if (cut.dense) return in_fours(m.cols) * m.rows;
  return cut.staged && m.edge ? m.nnz : 0;
}
std::int64_t sparse_linear_dw_scratch(csr_view m, std::int64_t samples, sparse_cut cut) {
  if (cut.dense) return in_fours(m.cols) * (m.rows + samples);
  const std::int64_t groups = ceil_div(ceil_div(samples, 4 * cut.lanes), cut.slabs);
  return groups > 1 ? groups * m.nnz : 0;
}

void gather_edges(cuda device, const float* values, csr_view m, float* to) {
  if (m.nnz > 0)
    runtime::launch("gather_edges", &device::gather_values, blocks_for(m.nnz), 256, 0, device.stream, values, m.edge,
                    m.nnz, to);
}

namespace {

/// y = f(x Wᵀ + b) with W in full, in scratch, its rows one after the other.
void dense_linear(cuda gpu, csr_view m, const float* values, matrix_view<const float> x, const float* bias, bool relu,
                  matrix_view<float> y, float* scratch) {
  const std::int64_t ld = in_fours(m.cols), piece = std::min<std::int64_t>(ld, 8192);
  runtime::launch("sparse_linear", &device::place_rows, static_cast<unsigned>(std::min<std::int64_t>(m.rows, 1 << 20)),
                  256, static_cast<std::size_t>(piece) * sizeof(float), gpu.stream, m, values, scratch, ld, piece);
  const strided_view<const float> w{scratch, m.rows, m.cols, ld, 1};
  if (gemm_3xtf32_fits(x, w, y)) return gemm_3xtf32(gpu, x, w, bias, relu, y);
  gemm(gpu, x, w, bias, y);
  if (relu) map<fn::relu>(gpu, y.data, y.data, y.cols * y.ld, 0, 0);
}
/// dW in full, in scratch, and its entries at the edges: columns are lanes there, so x is turned first.
void dense_linear_dw(cuda gpu, csr_view m, matrix_view<const float> dy, matrix_view<const float> x, float* dw,
                     float* scratch) {
  const std::int64_t ld = in_fours(m.cols);
  const matrix_view<float> full{scratch, m.cols, m.rows, ld}, turned{scratch + ld * m.rows, m.cols, x.rows, ld};
  transpose(gpu, x, turned);
  gemm(gpu, turned, strided_view<const float>(dy).transposed(), nullptr, full);
  runtime::launch("sparse_linear_dw", &device::pick_rows, blocks_for(m.rows * 32), 256, 0, gpu.stream, m,
                  static_cast<const float*>(scratch), ld, dw);
}

}  // namespace

void sparse_linear(cuda device, csr_view m, const float* values, matrix_view<const float> x, const float* bias,
                   bool relu, matrix_view<float> y, float* scratch, sparse_cut cut) {
  if (cut.dense) return dense_linear(device, m, values, x, bias, relu, y, scratch);
  if (m.edge && cut.staged && m.nnz > 0) {
    gather_edges(device, values, m, scratch);
    m.edge = nullptr;
    values = scratch;
  }
  const bool vector = aligned(m.col) && aligned(x) && aligned(matrix_view<const float>(y)) &&
                      aligned(m.edge ? static_cast<const void*>(m.edge) : values);
  const auto body = vector ? (m.edge ? &launch_linear<true, true> : &launch_linear<true, false>)
                           : (m.edge ? &launch_linear<false, true> : &launch_linear<false, false>);
  body(device, m, values, x, bias, relu, y, cut);
}

void sparse_linear_dw(cuda device, csr_view m, matrix_view<const float> dy, matrix_view<const float> x, float* dw,
                      float* scratch, sparse_cut cut) {
  if (m.nnz == 0) return;
  if (x.rows == 0)
    return runtime::fill(dw, 0, static_cast<std::size_t>(m.nnz) * sizeof(float), device.stream, "sparse_linear_dw");
  if (cut.dense) return dense_linear_dw(device, m, dy, x, dw, scratch);
  const bool vector = aligned(m.col) && aligned(x) && aligned(dy);
  const std::int64_t parts = ceil_div(m.rows, cut.rows);
  const auto threads = static_cast<unsigned>(cut.threads);
  const std::int64_t groups = ceil_div(ceil_div(x.rows, 4 * cut.lanes), cut.slabs);
  const auto kernel = vector ? dw_slab<true>(cut) : dw_slab<false>(cut);
  runtime::launch("sparse_linear_dw", kernel, static_cast<unsigned>(parts * groups), threads, slab_bytes(m, cut),
                  device.stream, m, dy, x, groups > 1 ? scratch : dw, static_cast<int>(parts), cut.rows, cut.columns,
                  cut.slabs);
  if (groups > 1)
    runtime::launch("sparse_linear_dw", &device::sum_parts, blocks_for(m.nnz), 256, 0, device.stream, scratch, groups,
                    m.nnz, dw);
}

namespace {

/// What choose(m, samples) says, remembered by this thread: the search for a cut takes the host longer than small
/// kernels take the GPU, and a training step asks the same three times again and again.
template <class Choose>
sparse_cut remembered(csr_view m, std::int64_t samples, int kind, Choose&& choose) {
  struct Known {
    std::int64_t rows = -1, cols = 0, nnz = 0, samples = 0;
    int kind = 0;
    sparse_cut cut;
  };
  static constexpr std::uint64_t size = 64;
  static thread_local Known known[size];
  const auto mix = static_cast<std::uint64_t>(((m.rows * 31 + m.cols) * 31 + m.nnz) * 31 + samples) * 4 +
                   static_cast<std::uint64_t>(kind);
  Known& k = known[(mix * 0x9E3779B97F4A7C15u) >> 58];
  if (k.rows != m.rows || k.cols != m.cols || k.nnz != m.nnz || k.samples != samples || k.kind != kind)
    k = {m.rows, m.cols, m.nnz, samples, kind, choose(m, samples)};
  return k.cut;
}

}  // namespace

void sparse_linear(cuda device, csr_view m, plan_view, const float* values, matrix_view<const float> x,
                   const float* bias, bool relu, matrix_view<float> y) {
  const sparse_cut cut = remembered(m, x.rows, m.edge ? 1 : 0, &sparse_linear_cut);
  const runtime::Buffer<float> scratch = scratch_of(sparse_linear_scratch(m, cut), device, "sparse_linear");
  sparse_linear(device, m, values, x, bias, relu, y, scratch.data(), cut);
}
void sparse_linear_dw(cuda device, csr_view m, plan_view, matrix_view<const float> dy, matrix_view<const float> x,
                      float* dw) {
  const sparse_cut cut = remembered(m, x.rows, 2, &sparse_linear_dw_cut);
  const runtime::Buffer<float> scratch =
      scratch_of(sparse_linear_dw_scratch(m, x.rows, cut), device, "sparse_linear_dw");
  sparse_linear_dw(device, m, dy, x, dw, scratch.data(), cut);
}

}  // namespace deepstruct::kernels
