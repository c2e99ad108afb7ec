// What a project that uses deepstruct writes first.
#include <cstdio>
#include <deepstruct/deepstruct.hpp>

int main() {
  std::printf("deepstruct %d.%d.%d\n", DEEPSTRUCT_VERSION_MAJOR, DEEPSTRUCT_VERSION_MINOR, DEEPSTRUCT_VERSION_PATCH);
}
