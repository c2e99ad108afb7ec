// The only header that includes Catch2: version 2 (Debian 12) or version 3, whichever is installed.
// Approx is spelled the same in both; other names that differ between the two belong here as well.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif
