// The same with the files that need a library.
#if __has_include(<deepstruct/io.hpp>)
#include <deepstruct/io.hpp>
#endif
#include <zlib.h>

#include <cstdio>
#include <deepstruct/deepstruct.hpp>
#include <nlohmann/json.hpp>

int main() {
  const nlohmann::json version = {DEEPSTRUCT_VERSION_MAJOR, DEEPSTRUCT_VERSION_MINOR, DEEPSTRUCT_VERSION_PATCH};
  std::printf("deepstruct %s with io, zlib %s\n", version.dump().c_str(), zlibVersion());
}
