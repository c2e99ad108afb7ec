// Opens the region for CPUs with AVX-512 F, DQ, BW and VL: 64-byte vectors. Close it with end.hpp.
#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#elif defined(__x86_64__) && defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif
#define DEEPSTRUCT_REGION_OPTIONS
namespace deepstruct::kernels::avx512 {
