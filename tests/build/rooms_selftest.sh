#!/usr/bin/env bash
# Proves rooms.py: plants one violation at a time in a copy of the tree and expects it to be named, by file and rule;
# plants innocent look-alikes and expects silence about them.
set -euo pipefail
cd "$(dirname "$0")/../.."

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cp -r include "$tree/include"
mkdir -p "$tree/kernels"
for room in core simd kernels graph autograd ops nn train models transform prune grow io; do
  mkdir -p "$tree/include/deepstruct/$room"
  echo "#pragma once" > "$tree/include/deepstruct/$room/neighbour.hpp"
done
for name in core/view.hpp core/eigen.hpp kernels/contract.hpp io.hpp; do
  [ -e "$tree/include/deepstruct/$name" ] || echo "#pragma once" > "$tree/include/deepstruct/$name"
done

caught=0 wrong=0
plant() {  # file, text; the lines of rooms.py about that file are left in $said
  local file=$tree/$1 saved=
  [ ! -e "$file" ] || { saved=$(mktemp); cp "$file" "$saved"; }
  printf '%b\n' "$2" >> "$file"
  said=$(python3 tests/build/rooms.py "$tree" "$1" | grep -F "$1:" || true)
  if [ -n "$saved" ]; then mv "$saved" "$file"; else rm "$file"; fi
}
caught() {  # rule, file, text
  plant "$2" "$3"
  if grep -q ": $1: " <<< "$said"; then caught=$((caught + 1)); else
    wrong=$((wrong + 1)); echo "rooms_selftest: not caught as '$1': $2: $3 (said: ${said:-nothing})" >&2; fi
}
silent() {  # file, text
  plant "$1" "$2"
  if [ -z "$said" ]; then caught=$((caught + 1)); else
    wrong=$((wrong + 1)); echo "rooms_selftest: false alarm: $1: $2 (said: $said)" >&2; fi
}
at=include/deepstruct

# The room order: every room may include itself, and not the next one to its right.
order=(core simd kernels autograd ops nn train models transform)
for ((i = 0; i < ${#order[@]}; ++i)); do
  silent "$at/${order[i]}/planted.hpp" "#include \"../${order[i]}/neighbour.hpp\"\n#include <deepstruct/core/neighbour.hpp>"
  for ((j = i + 1; j < ${#order[@]}; ++j)); do
    [ $((j - i)) -le 2 ] || continue
    caught room "$at/${order[i]}/planted.hpp" "#include <deepstruct/${order[j]}/neighbour.hpp>"
  done
  caught room "$at/${order[i]}/planted.hpp" "#include <deepstruct/io/neighbour.hpp>"
done
silent      $at/core/planted.hpp      '#include "../version.hpp"'
caught room $at/core/planted.hpp      '#include "../graph/neighbour.hpp"'
caught room $at/core/planted.inl      '#include "../ops/neighbour.hpp"'
caught room $at/train/planted.hpp     '#include <deepstruct/graph/neighbour.hpp>'
silent      $at/models/planted.hpp    '#include <deepstruct/graph/neighbour.hpp>'
caught room $at/graph/planted.hpp     '#include <deepstruct/kernels/neighbour.hpp>'
caught room $at/prune/planted.hpp     '#include <deepstruct/grow/neighbour.hpp>'
caught room $at/grow/planted.hpp      '#include <deepstruct/prune/neighbour.hpp>'
silent      $at/grow/planted.hpp      '#include <deepstruct/transform/neighbour.hpp>\n#include <deepstruct/graph/neighbour.hpp>'
silent      $at/io/planted.hpp        '#include <deepstruct/prune/neighbour.hpp>\n#include <zlib.h>\n#include <nlohmann/json.hpp>'
caught room $at/nn/planted.hpp        '#include <deepstruct/deepstruct.hpp>'
caught room $at/nn/planted.hpp        '#include <deepstruct/core/no_such_file.hpp>'
caught room $at/nn/planted.hpp        '#include "../../../kernels/x.cuh"'
caught room $at/deepstruct.hpp        '#include "io/neighbour.hpp"'
caught room $at/graph.hpp             '#include "io/neighbour.hpp"'
caught room $at/planted.hpp           '#pragma once'
mkdir "$tree/$at/attic"
caught room $at/attic/planted.hpp     '#pragma once'
caught room $at/core/planted.hpp      '  #  include "../ops/neighbour.hpp"  // comment'

# Libraries.
silent         $at/core/eigen.hpp     '#include <Eigen/Core>'
silent         $at/prune/planted.hpp  '#include <Eigen/Dense>'
silent         $at/graph/spectrum.hpp '#include <Eigen/Eigenvalues>'
caught library $at/graph/planted.hpp  '#include <Eigen/Eigenvalues>'
caught library $at/ops/planted.hpp    '#include <Eigen/Dense>'
caught library $at/core/planted.hpp   '#include <unsupported/Eigen/FFT>'
caught library $at/train/planted.hpp  '#include <zlib.h>'
caught library $at/models/planted.hpp '#include <nlohmann/json.hpp>'
caught library $at/graph/planted.hpp  '#include "pugixml.hpp"\n#include <pugixml.hpp>'
caught library $at/core/planted.hpp   '#include <boost/any.hpp>'
caught library $at/core/planted.hpp   '#include SOME_HEADER'
caught library $at/ops/planted.hpp    '#include <immintrin.h>'
silent         $at/simd/planted.hpp   '#include <immintrin.h>'

# Device code.
silent        kernels/planted.cu  '#include <cuda_runtime.h>\n#include <cstdint>\n#include <deepstruct/core/view.hpp>\n#include <deepstruct/kernels/contract.hpp>'
touch "$tree/kernels/launch.cuh"
silent        kernels/planted.cu  '#include "launch.cuh"'
caught device kernels/planted.cu  '#include <Eigen/Core>'
caught device kernels/planted.cuh '#include <deepstruct/core/neighbour.hpp>'
caught device kernels/planted.cu  '#include <deepstruct/autograd/neighbour.hpp>'
caught device kernels/planted.cu  '#include "../include/deepstruct/ops/neighbour.hpp"'
cp "$tree/$at/kernels/contract.hpp" "$tree/contract.saved"
echo '#include "../core/eigen.hpp"' >> "$tree/$at/kernels/contract.hpp"
caught device kernels/planted.cu  '#include <deepstruct/kernels/contract.hpp>'
mv "$tree/contract.saved" "$tree/$at/kernels/contract.hpp"

# Macros, virtual, printing.
for text in '#define X 1' '#if X' '#ifdef X' ' # ifndef X' '#undef X'; do
  caught macro $at/ops/planted.hpp "$text"
  silent $at/simd/planted.hpp "$text"
done
caught virtual $at/nn/planted.hpp 'struct S { virtual int f(); };'
for text in 'std::cout << 1;' 'std :: cerr << 1;' 'std::clog << 1;' 'printf("x");' 'std::printf ("x");' 'std::fprintf(stderr, "x");' \
  'std::puts("x");' 'assert(x);' 'std::exit(1);' 'abort();' 'std::signal(2, f);' '#include <iostream>' '#include <cassert>'; do
  caught quiet $at/train/planted.hpp "$text"
done
caught quiet $at/kernels/planted.inl '"a // b"; std::abort();'
caught openmp $at/kernels/planted.hpp '#pragma omp parallel for'

# Look-alikes.
silent $at/ops/planted.hpp '// virtual std::cout printf("x") #define X\n/* assert(x)\n#if X\n exit(1) */ static_assert(true);'
silent $at/ops/planted.hpp 'auto s = "virtual std::cout assert(x)"; std::snprintf(a, 1, "%%d"); int n = 1'"'"'000'"'"'000; on_exit(); my_assert(1);'
silent $at/ops/planted.hpp 'auto r = R"(virtual\n#define X\n)"; std::ostream& write(std::ostream& out);'

echo "rooms_selftest: $caught as expected, $wrong not"
[ "$wrong" -eq 0 ]
