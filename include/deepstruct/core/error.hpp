// deepstruct::Error and check(): every user mistake becomes an exception whose text is "<op>: <rule broken>
// (<values>)".
#pragma once

#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace deepstruct {

/// The one exception of the library; what() reads "<op>: <rule broken> (<both shapes or values>)".
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace detail {

/// Anything printable, seen as text later: so that a new combination of parts costs the compiler an array, not a
/// function.
struct TextPart {
  std::string_view text;
  const void* value = nullptr;
  void (*print)(std::ostream&, const void*) = nullptr;

  TextPart(std::string_view t) : text(t) {}  // NOLINT: any part
  template <class T>
  requires(!std::is_convertible_v<const T&, std::string_view>) TextPart(const T& v)  // NOLINT: any part
      : value(&v), print([](std::ostream& out, const void* p) { out << *static_cast<const T*>(p); }) {}
};

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_with(std::initializer_list<TextPart> parts) {
  std::ostringstream out;
  for (const TextPart& part : parts) {
    if (part.print)
      part.print(out, part.value);
    else
      out << part.text;
  }
  throw Error(out.str());
}

/// How a part travels to fail_as: literals of any length and numbers of any width are one type each, so that a handful
/// of functions serves all checks (24 instead of 56 in a first program); numbers (bool and char are none) go by value,
/// so that a checked loop may keep its counter in a register.
template <class T>
using Passed = std::conditional_t<
    std::is_array_v<T>, const char*,
    std::conditional_t<
        std::is_floating_point_v<T>, double,
        std::conditional_t<std::is_integral_v<T> && (sizeof(T) > 1),
                           std::conditional_t<std::is_signed_v<T>, long long, unsigned long long>, const T&>>>;

template <class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void fail_as(Parts... parts) {
  fail_with({TextPart(parts)...});
}

}  // namespace detail

/// Throws Error with the parts joined as text.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  detail::fail_as<detail::Passed<Parts>...>(parts...);
}

/// Throws Error with the parts joined as text unless `holds`; the text is only made on failure.
template <class... Parts>
void check(bool holds, const Parts&... parts) {
  if (!holds) [[unlikely]]
    detail::fail_as<detail::Passed<Parts>...>(parts...);
}

}  // namespace deepstruct
