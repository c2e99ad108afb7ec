#!/usr/bin/env bash
# Every header under include/ compiles alone. Exempt: simd/*_begin.hpp and simd/end.hpp, which only make sense in pairs.
# Usage: each_header.sh [compiler]   (default g++; JOBS compilers at once, EIGEN_INCLUDE overrides the Eigen folder)
set -euo pipefail
cd "$(dirname "$0")/../.."

compiler=${1:-${CXX:-g++}}
eigen=${EIGEN_INCLUDE:-/usr/include/eigen3}
export compiler eigen

headers=$(cd include && find . -name '*.hpp' -not -path '*/simd/*_begin.hpp' -not -path '*/simd/end.hpp' | sed 's|^\./||' | sort)
[ -n "$headers" ] || { echo "each_header: no headers under include/" >&2; exit 1; }

compile_alone() {
  # Included from standard input, since "#pragma once" in a main file is itself a warning.
  if ! echo "#include <$1>" | "$compiler" -x c++ -std=c++20 -fsyntax-only -Wall -Wextra -Werror -Iinclude -isystem "$eigen" -; then
    echo "each_header: $1 does not compile alone" >&2
    return 1
  fi
}
export -f compile_alone

if ! echo "$headers" | xargs -P "${JOBS:-2}" -I{} bash -c 'compile_alone {}'; then
  echo "each_header: failed" >&2
  exit 1
fi
echo "each_header: $(echo "$headers" | wc -l) headers compile alone with $compiler"
