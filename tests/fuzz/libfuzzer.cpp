// One target under libFuzzer: LLVMFuzzerTestOneInput of the function FUZZ_TARGET.
#include <cstdlib>

#include <deepstruct/core/parallel.hpp>

#include "targets.hpp"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  setenv("DEEPSTRUCT_POOL", "off", 1);  // every buffer is an allocation of its own, whose ends the sanitizer sees
  deepstruct::set_num_threads(1);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::FUZZ_TARGET(std::as_bytes(std::span(data, size)));
  return 0;
}
