// One sparse layer, forward and backward, against dense sgemm of OpenBLAS and oneMKL, and sparse and dense matrices of
// Eigen and oneMKL.
//
// Every result is checked against a reference in double before anything is timed; then all take turns, round by round.
#include <deepstruct/deepstruct.hpp>
#include <deepstruct/nn/inference.hpp>

#include <numeric>
#include <optional>

#include "bench.hpp"
#include "masked_layer.hpp"
#include "peers/blas.hpp"
#include "peers/ceiling.hpp"
#include "peers/eigen.hpp"

using namespace deepstruct;

namespace {

struct Sizes {
  std::int64_t batch, in, out;
};
constexpr Sizes all_sizes[] = {{128, 784, 300},  {128, 1024, 1024}, {256, 2048, 2048},
                               {64, 4096, 1024}, {32, 256, 256},    {1, 1024, 1024}};

/// Matrices as other libraries want them.
std::vector<float> batch_major(const Tensor& t) {
  std::vector<float> v(static_cast<std::size_t>(t.size()));
  t.for_each([&](std::int64_t i, float x) { v[static_cast<std::size_t>(i)] = x; });
  return v;
}
std::vector<float> feature_major(const Tensor& t) {
  std::vector<float> v;
  for (std::int64_t f = 0; f < t.shape()[1]; ++f)
    for (std::int64_t b = 0; b < t.shape()[0]; ++b) v.push_back(t(b, f));
  return v;
}

/// The layer's results in double.
struct Reference {
  std::vector<double> y, dx, dw;  // [out][batch], [in][batch], [nnz]
};
Reference reference(const Mask& m, const Tensor& values, const Tensor& x, const Tensor& dy) {
  const std::int64_t n = x.shape()[0];
  Reference r{std::vector<double>(static_cast<std::size_t>(m.rows() * n)),
              std::vector<double>(static_cast<std::size_t>(m.cols() * n)),
              std::vector<double>(static_cast<std::size_t>(m.nnz()))};
  m.for_each([&](std::int32_t e, std::int64_t row, std::int64_t col) {
    const float *in = x.view().col(col), *up = dy.view().col(row);
    const double w = double{values(e)};
    for (std::int64_t b = 0; b < n; ++b) {
      r.y[row * n + b] += w * double{in[b]};
      r.dx[col * n + b] += w * double{up[b]};
      r.dw[e] += double{up[b]} * double{in[b]};
    }
  });
  return r;
}

/// Largest |value − want|, at most what float32 sums of this size may be off.
template <class Get>
double error_of(const std::string& who, const std::vector<double>& want, Get&& get) {
  double error = 0, size = 0;
  for (std::size_t k = 0; k < want.size(); ++k) {
    error = std::max(error, std::abs(double{get(static_cast<std::int64_t>(k))} - want[k]));
    size = std::max(size, std::abs(want[k]));
  }
  check(error <= 1e-5 * std::max(1.0, size), "bench: ", who, " is wrong (error ", error, ", largest value ", size, ")");
  return error;
}

/// `as` is the name of this program's own rows: empty, or that of a build which is the peer of another one.
void run_case(Sizes s, double density, int threads, int rounds, double peak, const std::vector<bench::Blas>& libraries,
              const std::string& as, std::vector<bench::Row>& rows) {
  no_grad guard;
  Rng rng(1);
  const float bound = static_cast<float>(1 / std::sqrt(static_cast<double>(s.in) * density));
  const Mask mask = Mask::random(s.out, s.in, density, rng);
  const Var values(Tensor::uniform({mask.nnz()}, -bound, bound, rng));
  const Var x(Tensor::normal({s.batch, s.in}, 0, 1, rng)), dy(Tensor::normal({s.batch, s.out}, 0, 1, rng));
  const Reference want = reference(mask, values.value(), x.value(), dy.value());

  const bench::MaskedLayer layer(mask, values);
  // A single sample is a question of inference: the weights no longer change.
  const Inference ready(trace_function(layer, Var(Tensor::zeros({2, s.in}))));
  const auto ours = [&] { return s.batch == 1 ? ready(x) : layer(x); };
  const Tensor y = ours().value();
  const auto d = layer.backward(dy, x);
  const Tensor& dx = d[0].value();
  const Tensor dw = mask.is_full() ? pick_edges(d[1], mask).value() : d[1].value();
  const auto at = [&](const Tensor& t) { return [&](std::int64_t k) { return t(k % s.batch, k / s.batch); }; };
  const double forward_error = error_of("sparse_linear", want.y, at(y));
  const double backward_error = std::max(error_of("sparse_linear_dx", want.dx, at(dx)),
                                         error_of("sparse_linear_dw", want.dw, [&](std::int64_t k) { return dw(k); }));

  std::vector<std::string> peers;
  std::vector<std::function<void()>> forward, backward;
  const auto enter = [&](const std::string& name, std::function<void()> f, std::function<void()> b) {
    peers.push_back(name), forward.push_back(std::move(f)), backward.push_back(std::move(b));
  };
  enter(
      as, [&] { ours(); }, [&] { layer.backward(dy, x); });

  const auto xt = feature_major(x.value()), dyt = feature_major(dy.value()), xb = batch_major(x.value()),
             dyb = batch_major(dy.value()), wb = batch_major(place_edges(values, mask).value());
  bench::EigenSparse sparse(s.out, s.in, mask.row_start(), mask.col(), values.value().data(), s.batch, xt.data(),
                            dyt.data());
  bench::EigenDense dense(s.out, s.in, wb.data(), s.batch, xt.data(), dyt.data());
  std::vector<float> yb(dyb.size()), dxb(xb.size()), dwb(wb.size());
  const int batch = static_cast<int>(s.batch), in = static_cast<int>(s.in), out = static_cast<int>(s.out);
  if (as.empty()) {
    enter(
        "eigen_sparse", [&] { sparse.forward(); }, [&] { sparse.backward(); });
    enter(
        "eigen_dense", [&] { dense.forward(); }, [&] { dense.backward(); });
    for (std::size_t k = 1; k < peers.size(); ++k) forward[k](), backward[k]();
    error_of("eigen", want.y, [&](std::int64_t k) { return sparse.y(k % s.batch, k / s.batch); });
    error_of("eigen", want.dx, [&](std::int64_t k) { return sparse.dx(k % s.batch, k / s.batch); });
    error_of("eigen", want.dw, [&](std::int64_t k) { return sparse.dw(k); });
    error_of("eigen", want.y, [&](std::int64_t k) { return dense.y(k % s.batch, k / s.batch); });
    error_of("eigen", want.dx, [&](std::int64_t k) { return dense.dx(k % s.batch, k / s.batch); });
  }
  for (const bench::Blas& blas : libraries) {
    blas.set_threads(threads);
    enter(
        blas.name() + (batch == 1 ? "_sgemv" : "_sgemm"),
        [&] {
          if (batch == 1)
            blas.times_vector(out, in, wb.data(), xb.data(), yb.data());
          else
            blas(false, true, batch, out, in, xb.data(), wb.data(), yb.data());
        },
        [&] {
          blas(false, false, batch, in, out, dyb.data(), wb.data(), dxb.data());
          blas(true, false, out, in, batch, dyb.data(), xb.data(), dwb.data());
        });
    forward.back()();
    backward.back()();
    error_of(blas.name(), want.y, [&](std::int64_t k) { return yb[k % s.batch * s.out + k / s.batch]; });
    error_of(blas.name(), want.dx, [&](std::int64_t k) { return dxb[k % s.batch * s.in + k / s.batch]; });
  }
  std::optional<bench::MklSparse> mkl;
  std::vector<float> yt(dyt.size()), dxt(xt.size()), dwe(want.dw.size());
  for (const bench::Blas& blas : libraries)
    if (blas.name() == "mkl" && !mask.is_full())
      mkl.emplace(blas, out, in, mask.row_start(), mask.col(), values.value().data(), batch);
  if (mkl && *mkl) {
    enter(
        "mkl_sparse", [&] { mkl->forward(xt.data(), yt.data()); },
        [&] { mkl->backward(xt.data(), dyt.data(), dxt.data(), dwe.data()); });
    forward.back()();
    backward.back()();
    error_of("mkl_sparse", want.y, [&](std::int64_t k) { return yt[k]; });
    error_of("mkl_sparse", want.dx, [&](std::int64_t k) { return dxt[k]; });
    error_of("mkl_sparse", want.dw, [&](std::int64_t k) { return dwe[k]; });
  }

  const double flops = 2e-3 * static_cast<double>(mask.nnz() * s.batch);  // GFLOP/s · µs of one product
  const auto add = [&](const char* name, const std::vector<bench::Timing>& times, double products, double error) {
    for (std::size_t k = 0; k < peers.size(); ++k)
      rows.push_back({name, "", "", s.batch, s.in, s.out, density, threads, times[k],
                      100 * products * flops / times[k].median / peak, error, peers[k]});
  };
  const auto f = bench::take_turns(forward, rounds);
  add("layer_forward", f, 1, forward_error);
  if (s.batch == 1) return;
  const auto b = bench::take_turns(backward, rounds);
  auto both = f;
  for (std::size_t k = 0; k < both.size(); ++k) both[k].median += b[k].median, both[k].spread += b[k].spread;
  add("layer_backward", b, 2, backward_error);
  add("layer_train", both, 3, std::max(forward_error, backward_error));
}

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"density", "threads", "rounds", "json", "as"});
  const auto densities = options.numbers<double>("density", "1,0.8,0.7,0.5,0.2,0.1,0.05,0.01", 1e-4, 1);
  const auto threads = options.numbers<int>("threads", std::to_string(num_threads()), 1, 1024);
  const int rounds = options.number<int>("rounds", "7", 1, 1000);
  const std::string as = options.get("as", "");
  std::vector<bench::Blas> libraries;
  if (as.empty())
    for (bench::Blas blas : {bench::open_blas(), bench::mkl()})
      if (blas) libraries.push_back(std::move(blas));
  std::vector<bench::Row> rows;
  for (int t : threads) {
    set_num_threads(t);
    const double peak = bench::ceiling_gflops();
    std::cout << t << " threads, " << simd::name(simd::active()) << ": multiply-add ceiling " << std::fixed
              << std::setprecision(0) << peak << " GFLOP/s, beside Eigen";
    for (const bench::Blas& blas : libraries) std::cout << ", " << blas.name();
    std::cout << std::endl;
    for (const Sizes& s : all_sizes)
      for (double d : densities) run_case(s, d, t, rounds, peak, libraries, as, rows);
  }
  return bench::report(options, rows);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::program(
      argc, argv,
      "usage: layer [--density 1,0.8,0.7,0.5,0.2,0.1,0.05,0.01] [--threads 1,2] [--rounds 7] [--json FILE]\n"
      "             [--as NAME: this build alone, as a peer of another one]\n",
      run);
}
