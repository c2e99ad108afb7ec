#!/usr/bin/env bash
# Uses deepstruct the four ways a project can: plain compiler, find_package, add_subdirectory, FetchContent.
set -euo pipefail
cd "$(dirname "$0")/../.."
source_dir=$PWD consumers=$PWD/tests/build/consumer

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
compiler=${CXX:-g++}
export CMAKE_GENERATOR=Ninja CMAKE_EXPORT_COMPILE_COMMANDS=ON
unset CXXFLAGS CPPFLAGS

step() { echo "consumer: $*"; }
fail() { echo "consumer: FAILED: $*" >&2; exit 1; }
version=$(sed -nE 's/^#define DEEPSTRUCT_VERSION_[A-Z]+ ([0-9]+).*/\1/p' include/deepstruct/version.hpp | paste -sd.)
expect() { grep -qF "$2" <<< "$("$1")" || fail "$1 does not print '$2'"; }
# Includes, the standard and CMake's own bookkeeping are all that our targets may add to a command line.
no_leak() {
  local flags
  flags=$(python3 -c '
import json, shlex, sys
for entry in json.load(open(sys.argv[1])):
    words = iter(shlex.split(entry["command"])[1:])
    for word in words:
        if word in ("-o", "-c", "-isystem", "-I"): next(words)
        elif not (word.startswith("-I") or word in ("-std=gnu++20", "-std=c++20", "-pthread")): print(word)
' "$1/compile_commands.json") || fail "no compile_commands.json in $1"
  [ -z "$flags" ] || fail "flags leak to consumers: $flags"
}

step "install"
cmake -S . -B "$tmp/build" -DDEEPSTRUCT_TESTS=OFF -DDEEPSTRUCT_EXAMPLES=OFF -DDEEPSTRUCT_BENCH=OFF > "$tmp/log" || { cat "$tmp/log"; exit 1; }
cmake --install "$tmp/build" --prefix "$tmp/prefix" > "$tmp/log" || { cat "$tmp/log"; exit 1; }
missing=$(diff <(cd include && find . -name '*.hpp' -o -name '*.inl' | sort) <(cd "$tmp/prefix/include" && find . -type f | sort)) || fail "installed files differ: $missing"

step "plain compiler"
"$compiler" -std=c++20 -I"$tmp/prefix/include" -I"${EIGEN_INCLUDE:-/usr/include/eigen3}" "$consumers/main.cpp" -o "$tmp/plain"
expect "$tmp/plain" "deepstruct $version"

step "find_package"
found=(cmake -S "$consumers/find_package" "-DCMAKE_PREFIX_PATH=$tmp/prefix")
"${found[@]}" -B "$tmp/found" -DNEED_IO=ON > "$tmp/log" || { cat "$tmp/log"; exit 1; }
cmake --build "$tmp/found" > "$tmp/log" || { cat "$tmp/log"; exit 1; }
expect "$tmp/found/app" "deepstruct $version"
expect "$tmp/found/app_io" "with io"
no_leak "$tmp/found"

step "find_package without zlib: the library is there, the component io is not"
"${found[@]}" -B "$tmp/no_zlib" -DCMAKE_DISABLE_FIND_PACKAGE_ZLIB=ON > "$tmp/log" || { cat "$tmp/log"; exit 1; }
targets=$(ninja -C "$tmp/no_zlib" -t targets all)
grep -q '^app: ' <<< "$targets" || fail "no target app"
! grep -q '^app_io: ' <<< "$targets" || fail "component io found without zlib"
! "${found[@]}" -B "$tmp/need_zlib" -DNEED_IO=ON -DCMAKE_DISABLE_FIND_PACKAGE_ZLIB=ON > "$tmp/log" 2>&1 || fail "component io required and missing, yet found"
grep -q 'needs zlib, nlohmann-json and pugixml' <(tr '\n' ' ' < "$tmp/log" | tr -s ' ') || { cat "$tmp/log"; fail "no clear message about the component io"; }

step "find_package with the component cuda, which was not built"
mkdir "$tmp/gpu_app"
printf '%s\n' 'cmake_minimum_required(VERSION 3.25)' 'project(gpu_app LANGUAGES CXX)' \
  'find_package(deepstruct REQUIRED COMPONENTS cuda)' > "$tmp/gpu_app/CMakeLists.txt"
! cmake -S "$tmp/gpu_app" -B "$tmp/gpu" "-DCMAKE_PREFIX_PATH=$tmp/prefix" > "$tmp/log" 2>&1 || fail "component cuda found though nobody built it"
grep -q 'build its target deepstruct_cuda, then install it' <(tr '\n' ' ' < "$tmp/log" | tr -s ' ') || { cat "$tmp/log"; fail "no clear message about the component cuda"; }

for way in OFF ON; do
  step "add_subdirectory (FetchContent: $way)"
  cmake -S "$consumers/add_subdirectory" -B "$tmp/sub$way" -DDEEPSTRUCT_SOURCE="$source_dir" -DUSE_FETCHCONTENT=$way > "$tmp/log" || { cat "$tmp/log"; exit 1; }
  targets=$(ninja -C "$tmp/sub$way" -t targets all | cut -d: -f1)
  ours=$(grep -E '(^|/)(test_|bench_|example_|golden)|^deepstruct/(tests|examples|bench)' <<< "$targets" || true)
  [ -z "$ours" ] || fail "targets of ours in a consumer's build: $ours"
  cmake --install "$tmp/sub$way" --prefix "$tmp/sub_prefix" > "$tmp/log" || { cat "$tmp/log"; exit 1; }
  [ -z "$(find "$tmp/sub_prefix" -type f 2> /dev/null)" ] || fail "deepstruct installs files of its own accord"
done
cmake --build "$tmp/subOFF" > "$tmp/log" || { cat "$tmp/log"; exit 1; }
expect "$tmp/subOFF/app" "deepstruct $version"
no_leak "$tmp/subOFF"
echo "consumer: all ways work"
