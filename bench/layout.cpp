// What the leading stride costs and saves: a sparse layer 1024 -> 1024 on batches whose extent is a power of two,
// stored with ld = batch (aliases in L1) and with the library's odd number of 64-byte lines; checked against each other
// before timing.
#include <deepstruct/core/mask.hpp>
#include <deepstruct/kernels/sparse.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

namespace ds = deepstruct;

namespace {

/// Median microseconds of two callables, run in turn.
template <class A, class B>
std::pair<double, double> medians(A&& a, B&& b, int repeats) {
  std::vector<double> ta, tb;
  const auto time = [](auto& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
  };
  for (int k = 0; k < repeats + 3; ++k) {
    const double x = time(a), y = time(b);
    if (k >= 3) ta.push_back(x), tb.push_back(y);
  }
  const auto middle = [](std::vector<double>& t) {
    std::nth_element(t.begin(), t.begin() + static_cast<std::ptrdiff_t>(t.size() / 2), t.end());
    return t[t.size() / 2];
  };
  return {middle(ta), middle(tb)};
}

}  // namespace

int main() {
  ds::set_num_threads(1);
  const std::int64_t in = 1024, out = 1024;
  std::printf("%6s %8s | %12s %12s | %s\n", "batch", "density", "ld = batch", "library ld", "power of two / library");
  for (std::int64_t batch : {64, 128, 256, 512, 1024})
    for (double density : {0.1, 0.5}) {
      ds::Rng rng(1);
      const ds::Mask mask = ds::Mask::random(out, in, density, rng);
      const ds::Tensor w = ds::Tensor::uniform({mask.nnz()}, -1, 1, rng);
      const ds::Tensor source = ds::Tensor::uniform({batch, in}, -1, 1, rng);
      const auto stored = [&](std::int64_t ld) {
        ds::Tensor t = ds::Tensor::zeros({ld * in});
        for (std::int64_t c = 0; c < in; ++c) std::copy_n(source.data() + c * source.ld(), batch, t.data() + c * ld);
        return t;
      };
      const std::int64_t ld = ds::leading_stride(batch);
      const ds::Tensor tight = stored(batch), padded = stored(ld);
      ds::Tensor y_tight = ds::Tensor::empty({batch * out}), y_padded = ds::Tensor::empty({ld * out});
      const ds::kernels::Plan plan(mask.csr());
      const auto run = [&](const ds::Tensor& x, ds::Tensor& y, std::int64_t stride) {
        ds::kernels::sparse_linear(ds::cpu{}, mask.csr(), plan.view(), w.data(), {x.data(), batch, in, stride}, nullptr,
                                   false, {y.data(), batch, out, stride});
      };
      run(tight, y_tight, batch);
      run(padded, y_padded, ld);
      for (std::int64_t r = 0; r < out; ++r)
        if (!std::equal(y_tight.data() + r * batch, y_tight.data() + (r + 1) * batch, y_padded.data() + r * ld)) {
          std::printf("results differ in row %lld\n", static_cast<long long>(r));
          return 1;
        }
      const auto [t, p] = medians([&] { run(tight, y_tight, batch); }, [&] { run(padded, y_padded, ld); }, 31);
      std::printf("%6lld %8.1f | %9.1f us %9.1f us | %.2f\n", static_cast<long long>(batch), density, t, p, t / p);
    }
}
