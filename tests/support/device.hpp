// Where the tests of ops and models run: on the CPU, or where the program is built with CUDA on the GPU, which in these
// tests is an emulator (tests/simt) and slow.
#pragma once

#include <deepstruct/autograd/gradcheck.hpp>

namespace test {

inline constexpr deepstruct::Device device = deepstruct::has_cuda ? deepstruct::Device::cuda : deepstruct::Device::cpu;

/// Options of a gradcheck there: a single direction on the emulator.
inline deepstruct::GradcheckOptions on_device(int directions = 3) {
  deepstruct::GradcheckOptions options;
  options.directions = deepstruct::has_cuda ? 1 : directions;
  options.device = device;
  return options;
}

/// A constant where x is.
inline deepstruct::Var beside(const deepstruct::Tensor& t, const deepstruct::Var& x) { return to(t, x.device()); }

}  // namespace test
