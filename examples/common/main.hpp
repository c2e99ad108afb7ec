// run: the body of main(); every failure becomes one sentence on stderr and exit code 2.
#pragma once

#include "numbers.hpp"

#include <deepstruct/core/error.hpp>

#include <CLI/CLI.hpp>

#include <concepts>
#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <limits>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>

namespace examples {

namespace detail {

/// One line: line ends and the blanks around them become one blank, the last full stop goes.
inline std::string sentence(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const bool blank = c == '\n' || c == '\r' || c == '\t' || c == ' ';
    if (!blank)
      line += c;
    else if (!line.empty() && line.back() != ' ')
      line += ' ';
  }
  while (!line.empty() && (line.back() == ' ' || line.back() == '.')) line.pop_back();
  return line;
}

}  // namespace detail

/// An option check that says what is wrong in plain words: option->check(within(0.0, 1.0)), check(within(1)).
template <class T>
CLI::Validator within(T low, T high = std::numeric_limits<T>::max()) {
  const bool open = high == std::numeric_limits<T>::max();
  const std::string kind = std::integral<T> ? "a whole number, " : "a number, ";
  const std::string rule =
      kind + (open ? "at least " + shortest(low) : "from " + shortest(low) + " to " + shortest(high));
  return CLI::Validator(
      [=](const std::string& text) {
        T value{};
        const bool good = CLI::detail::lexical_cast(text, value) && value >= low && value <= high;
        return good ? std::string() : "must be " + rule + " (" + text + ")";
      },
      open ? ">= " + shortest(low) : shortest(low) + " .. " + shortest(high));
}

/// Reads the command line into the options that were added to the app before.
using Parse = std::function<void()>;

/// Calls f(app, parse), which adds its options to the CLI11 app, calls parse() and does the work; returns main's
/// result: what f returns (0 if nothing), 0 after --help, 2 after "program: one sentence" for any error.
template <class F>
int run(int argc, char** argv, F&& f) {
  const std::string name = argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "example";
  CLI::App app("", name);
  const auto complain = [&](std::string_view text, std::string_view hint = "") {
    std::cout.flush();
    std::cerr << name << ": " << detail::sentence(text) << hint << std::endl;
    return 2;
  };
  try {
    const Parse parse = [&] { app.parse(argc, argv); };
    if constexpr (std::is_void_v<std::invoke_result_t<F&, CLI::App&, const Parse&>>) {
      f(app, parse);
      return 0;
    } else {
      return f(app, parse);
    }
  } catch (const CLI::Success& wanted) {  // --help, --version
    return app.exit(wanted);
  } catch (const CLI::ParseError& error) {
    return complain(error.what(), " (--help lists the options)");
  } catch (const std::bad_alloc&) {
    return complain("out of memory");
  } catch (const std::exception& error) {  // deepstruct::Error is one
    return complain(error.what());
  } catch (...) {
    return complain("unknown error");
  }
}

}  // namespace examples
