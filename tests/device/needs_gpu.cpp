// Where there is no GPU a program of tests has nothing to do: exit code 77.
#include <cstdlib>
#include <iostream>

#include <deepstruct/core/device.hpp>

namespace {

const int found = [] {
  const int count = deepstruct::runtime::device_count();
  if (count == 0) {
    std::cout << "no GPU\n";
    std::exit(77);
  }
  return count;
}();

}  // namespace
