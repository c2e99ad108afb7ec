// What launchers ask of pointers and sizes.
#pragma once

#include <cstdint>

#include <deepstruct/core/view.hpp>

namespace deepstruct::kernels {

/// Whether four floats at a time can be read from where all of these begin.
template <class... P>
bool aligned(const P*... p) {
  return ((reinterpret_cast<std::uintptr_t>(p) % 16 == 0) && ...);
}

/// Whether all columns begin so.
inline bool aligned(matrix_view<const float> x) { return aligned(x.data) && x.ld % 4 == 0; }

/// a/b rounded up, of a >= 0 and b > 0.
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace deepstruct::kernels
