#!/usr/bin/env bash
# Every reproduction in its short version: on Fashion-MNIST where it is installed, else on generated images; all claims hold.
set -euo pipefail
exe=$1 dir=$2
source "$(dirname "$0")/../common/smoke_tools.sh"
data=/usr/share/datasets/fashion-mnist
[ -e "$data/train-images-idx3-ubyte.gz" ] || [ -e "$data/train-images-idx3-ubyte" ] || data=$dir/data
"$exe" --brief --data "$data" --out "$dir/out" --threads 2 >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
test "$(grep -c '| yes |' "$dir/out/table.md")" -eq 13
test "$(grep -c 'no\*\*' "$dir/out/table.md")" -eq 0
test "$(wc -l <"$dir/out/runs.csv")" -gt 80
test "$(ls "$dir/out/cards" | grep -c '\.md$')" -eq 6  # LeNet's, beside the dense network

# One clear sentence and exit code 2.
complains nonsense
complains --seeds -1
complains --data "$dir/nowhere"
DEEPSTRUCT_MNIST='' complains synflow
"$exe" --help | grep -q DEEPSTRUCT_MNIST
