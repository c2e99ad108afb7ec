// deepstruct::Error and check(): every user mistake becomes an exception whose text is "<op>: <rule broken> (<values>)".
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace deepstruct {

/// The one exception of the library; what() reads "<op>: <rule broken> (<both shapes or values>)".
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Throws Error with the parts joined as text. Cold: hundreds of different texts must cost no compile time and no inlining.
template <class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(text.str());
}

/// Throws Error with the parts joined as text unless `holds`; the text is only made on failure.
template <class... Parts>
void check(bool holds, const Parts&... parts) {
  if (!holds) [[unlikely]]
    fail(parts...);
}

}  // namespace deepstruct
