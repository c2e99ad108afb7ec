#!/usr/bin/env bash
# Fuzzes the readers: builds one libFuzzer program each with clang-16 and runs them one after the other.
# Usage: tests/fuzz/run.sh [SECONDS [TARGET...]]   seconds per target, 60 by default; all targets by default
#        tests/fuzz/run.sh --available             succeeds where clang-16 and libFuzzer are installed
# Inputs found stay in build/fuzz/corpus; an input that crashes, leaks, hangs (10 s) or takes too much memory is kept in
# build/fuzz/crashes, the run goes on with the next target, and fails in the end.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
compiler=${CXX:-clang++-16} build=build/fuzz

available() {
  command -v "$compiler" > /dev/null &&
    echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    "$compiler" -x c++ -fsanitize=fuzzer,address,undefined -o /dev/null - 2> /dev/null
}
if [ "${1:-}" = --available ]; then available; exit; fi
export ASAN_SYMBOLIZER_PATH=${ASAN_SYMBOLIZER_PATH:-$(command -v llvm-symbolizer-16 || command -v llvm-symbolizer)}
seconds=${1:-60}
shift
[[ $seconds =~ ^[0-9]+$ ]] || { sed -n '3,4s/^# //p' "$0" >&2; exit 2; }
if ! available; then
  echo "run.sh: needs clang-16 with libFuzzer (Debian: clang-16 libclang-rt-16-dev)" >&2
  exit 1
fi
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for folder in tests/fuzz/corpus/*/; do targets+=("$(basename "$folder")"); done
fi

mkdir -p $build/crashes
cmake -S . -B $build -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=Fuzz \
  -DCMAKE_CXX_FLAGS_FUZZ="-O1 -g1 -fno-omit-frame-pointer" -DDEEPSTRUCT_EXAMPLES=OFF -DDEEPSTRUCT_BENCH=OFF \
  > $build/configure.log 2>&1 || { cat $build/configure.log >&2; exit 1; }
cmake --build $build -j "${JOBS:-$(nproc)}" --target "${targets[@]/#/fuzz_}" || exit 1

failed=()
printf '%-14s %12s %10s %10s %10s  %s\n' target executions coverage features corpus result
for target in "${targets[@]}"; do
  log=$build/$target.log own=$build/corpus/$target dictionary=tests/fuzz/dictionaries/$target.dict options=()
  mkdir -p "$own"
  [ ! -f "$dictionary" ] || options+=("-dict=$dictionary")
  UBSAN_OPTIONS=print_stacktrace=1 "$build/tests/fuzz_$target" "$own" "tests/fuzz/corpus/$target" "${options[@]}" \
    -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=128 \
    -artifact_prefix="$build/crashes/$target-" -print_final_stats=1 > "$log" 2>&1 && result=ok || result=FAILED
  [ $result = ok ] || failed+=("$target")
  last=$(grep -aE '^#[0-9]+.* cov: ' "$log" | tail -n 1)
  number() { sed -nE "s/.*$1:? +([0-9]+).*/\1/p" <<< "$2" | tail -n 1; }
  printf '%-14s %12s %10s %10s %10s  %s\n' "$target" \
    "$(number stat::number_of_executed_units "$(grep -a stat::number_of "$log")")" \
    "$(number cov "$last")" "$(number ft "$last")" "$(number corp "$last")" $result
done
[ ${#failed[@]} -eq 0 ] && exit
for target in "${failed[@]}"; do
  echo "run.sh: $target FAILED, see $build/$target.log:" >&2
  grep -aE '^(==|SUMMARY|Test unit written|terminate|  what)|runtime error|Test unit' "$build/$target.log" | head -n 8 >&2
done
exit 1
