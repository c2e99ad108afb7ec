// The vector types f32 and i32 of `width` lanes and their vocabulary, once per instruction set.
#pragma once

#include <cstdint>
#include <utility>

namespace deepstruct::kernels {

namespace baseline {
inline constexpr int width = 4;
typedef float f32 __attribute__((vector_size(16), aligned(4), may_alias));
typedef int i32 __attribute__((vector_size(16), aligned(4), may_alias));
}  // namespace baseline

namespace avx2 {
inline constexpr int width = 8;
typedef float f32 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int i32 __attribute__((vector_size(32), aligned(4), may_alias));
}  // namespace avx2

namespace avx512 {
inline constexpr int width = 16;
typedef float f32 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int i32 __attribute__((vector_size(64), aligned(4), may_alias));
}  // namespace avx512

}  // namespace deepstruct::kernels

#include "baseline_begin.hpp"
#include "lanes.inl"
#include "end.hpp"

#include "avx2_begin.hpp"
#include "lanes.inl"
#include "end.hpp"

#include "avx512_begin.hpp"
#include "lanes.inl"
#include "end.hpp"
