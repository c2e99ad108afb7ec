// OpenBLAS and oneMKL, loaded at run time where they are installed.
#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>

namespace bench {

/// A library with the C interface of BLAS, 32-bit sizes.
class Blas {
 public:
  /// The first of the files that can be loaded; `set_threads` is its function of that name.
  Blas(std::string name, std::initializer_list<const char*> files, const char* set_threads) : name_(std::move(name)) {
    for (const char* file : files)
      if (!library_ && file) library_ = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    sgemm_ = find<Sgemm>("cblas_sgemm");
    sgemv_ = find<Sgemv>("cblas_sgemv");
    set_threads_ = find<void (*)(int)>(set_threads);
  }

  explicit operator bool() const { return sgemm_ && sgemv_ && set_threads_; }
  const std::string& name() const { return name_; }
  void set_threads(int n) const { set_threads_(n); }
  /// C ← op(A)·op(B), row-major; a is [m, k] or, transposed, [k, m]; b is [k, n] or, transposed, [n, k].
  void operator()(bool ta, bool tb, int m, int n, int k, const float* a, const float* b, float* c) const {
    sgemm_(101, ta ? 112 : 111, tb ? 112 : 111, m, n, k, 1, a, ta ? m : k, b, tb ? k : n, 0, c, n);
  }
  /// y ← A·x, a [m, n] row-major.
  void times_vector(int m, int n, const float* a, const float* x, float* y) const {
    sgemv_(101, 111, m, n, 1, a, n, x, 1, 0, y, 1);
  }
  /// A function of the library, null where it has none.
  template <class F>
  F find(const char* function) const {
    return library_ ? reinterpret_cast<F>(dlsym(library_, function)) : nullptr;
  }

 private:
  using Sgemv = void (*)(int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  std::string name_;
  void* library_ = nullptr;  // stays loaded: its threads outlive any scope
  Sgemm sgemm_ = nullptr;
  Sgemv sgemv_ = nullptr;
  void (*set_threads_)(int) = nullptr;
};

/// The OpenMP build first: the one PyTorch runs best with.
inline Blas open_blas() {
  return Blas("openblas", {"/usr/lib/x86_64-linux-gnu/openblas-openmp/libopenblas.so.0", "libopenblas.so.0"},
              "openblas_set_num_threads");
}
/// oneMKL, from where DEEPSTRUCT_MKL says or the system has it, with the OpenMP of GCC.
inline Blas mkl() {
  Blas mkl("mkl", {std::getenv("DEEPSTRUCT_MKL"), "libmkl_rt.so.3", "libmkl_rt.so.2"}, "MKL_Set_Num_Threads");
  if (const auto layer = mkl.find<int (*)(int)>("MKL_Set_Threading_Layer")) layer(3);
  if (const auto interface = mkl.find<int (*)(int)>("MKL_Set_Interface_Layer")) interface(0);
  return mkl;
}

/// A sparse weight [out, in] by oneMKL's inspector and executor: y = W·x, dx = Wᵀ·dy, and dw by a dot product for each
/// edge, as it has no sampled product; matrices feature by feature.
class MklSparse {
 public:
  MklSparse(const Blas& mkl, int out, int in, std::span<const std::int32_t> start, std::span<const std::int32_t> col,
            const float* values, int batch)
      : out_(out), batch_(batch), start_(start), col_(col) {
    using Create = int (*)(void**, int, int, int, const int*, const int*, const int*, const float*);
    using Hint = int (*)(void*, int, Description, int, int, int);
    const auto create = mkl.find<Create>("mkl_sparse_s_create_csr");
    const auto hint = mkl.find<Hint>("mkl_sparse_set_mm_hint");
    const auto optimize = mkl.find<int (*)(void*)>("mkl_sparse_optimize");
    product_ = mkl.find<Product>("mkl_sparse_s_mm");
    dot_ = mkl.find<Dot>("cblas_sdot");
    destroy_ = mkl.find<int (*)(void*)>("mkl_sparse_destroy");
    if (!create || !hint || !optimize || !product_ || !dot_ || !destroy_) return;
    if (create(&matrix_, 0, out, in, start.data(), start.data() + 1, col.data(), values) != 0) return;
    for (int operation : {plain, transposed}) hint(matrix_, operation, general, row_major, batch, 1000);
    ready_ = optimize(matrix_) == 0;
  }
  MklSparse(const MklSparse&) = delete;
  MklSparse& operator=(const MklSparse&) = delete;
  ~MklSparse() {
    if (matrix_) destroy_(matrix_);
  }

  explicit operator bool() const { return ready_; }
  void forward(const float* x, float* y) const {
    product_(plain, 1, matrix_, general, row_major, x, batch_, batch_, 0, y, batch_);
  }
  void backward(const float* x, const float* dy, float* dx, float* dw) const {
    product_(transposed, 1, matrix_, general, row_major, dy, batch_, batch_, 0, dx, batch_);
    for (std::int64_t r = 0; r < out_; ++r)
      for (std::int32_t e = start_[r]; e < start_[r + 1]; ++e)
        dw[e] = dot_(batch_, dy + r * batch_, 1, x + std::int64_t{col_[e]} * batch_, 1);
  }

 private:
  struct Description {
    int type, mode, diagonal;
  };
  static constexpr int plain = 10, transposed = 11, row_major = 101;
  static constexpr Description general{20, 0, 0};
  using Product = int (*)(int, float, void*, Description, int, const float*, int, int, float, float*, int);
  using Dot = float (*)(int, const float*, int, const float*, int);

  int out_, batch_;
  std::span<const std::int32_t> start_, col_;
  void* matrix_ = nullptr;
  Product product_ = nullptr;
  Dot dot_ = nullptr;
  int (*destroy_)(void*) = nullptr;
  bool ready_ = false;
};

}  // namespace bench
