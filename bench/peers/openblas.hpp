// OpenBLAS, loaded at run time where it is installed (the OpenMP build first: the one PyTorch runs best with).
#pragma once

#include <dlfcn.h>

namespace bench {

/// C ← op(A)·op(B), row-major, through cblas_sgemm.
class OpenBlas {
 public:
  OpenBlas() {
    for (const char* name : {"/usr/lib/x86_64-linux-gnu/openblas-openmp/libopenblas.so.0", "libopenblas.so.0"})
      if (!library_) library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library_) return;
    sgemm_ = reinterpret_cast<Sgemm>(dlsym(library_, "cblas_sgemm"));
    sgemv_ = reinterpret_cast<Sgemv>(dlsym(library_, "cblas_sgemv"));
    set_threads_ = reinterpret_cast<void (*)(int)>(dlsym(library_, "openblas_set_num_threads"));
  }
  OpenBlas(const OpenBlas&) = delete;
  OpenBlas& operator=(const OpenBlas&) = delete;

  explicit operator bool() const { return sgemm_ && sgemv_ && set_threads_; }
  void set_threads(int n) const { set_threads_(n); }
  /// a is [m, k] or, transposed, [k, m]; b is [k, n] or, transposed, [n, k].
  void operator()(bool ta, bool tb, int m, int n, int k, const float* a, const float* b, float* c) const {
    sgemm_(101, ta ? 112 : 111, tb ? 112 : 111, m, n, k, 1, a, ta ? m : k, b, tb ? k : n, 0, c, n);
  }

  /// y ← A·x, a [m, n] row-major.
  void times_vector(int m, int n, const float* a, const float* x, float* y) const {
    sgemv_(101, 111, m, n, 1, a, n, x, 1, 0, y, 1);
  }

 private:
  using Sgemv = void (*)(int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  void* library_ = nullptr;  // stays loaded: its threads outlive any scope
  Sgemm sgemm_ = nullptr;
  Sgemv sgemv_ = nullptr;
  void (*set_threads_)(int) = nullptr;
};

}  // namespace bench
