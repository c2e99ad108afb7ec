#!/usr/bin/env bash
# The main job on small data (generated IDX files), its report, and its answers to bad input.
set -euo pipefail
exe=$1 dir=$2
source "$(dirname "$0")/../common/smoke_tools.sh"
"$exe" --data "$dir/data" --out "$dir/out" --epochs 4 --rounds 2 --retrain 2 --finish 3 --batch 32 --threads 2 >"$dir/log" 2>&1
python3 - "$dir/out" <<'PY'
import json, os, sys
r = json.load(open(sys.argv[1] + "/report.json"))
for key in ("dense_accuracy", "pruned_accuracy", "sparsity", "weights_full", "weights_packed", "bytes_full", "bytes_packed",
            "ms_per_batch_full", "ms_per_batch_packed"):
    assert key in r, key
assert r["dense_accuracy"] > 0.9 and r["pruned_accuracy"] > 0.8, r
assert abs(r["sparsity"] - 0.95) < 1e-3 and r["bytes_packed"] <= 0.12 * r["bytes_full"], r
for name in ("log.csv", "report.md", "report.csv", "sensitivity.svg", "checkpoint.safetensors", "accuracy_against_sparsity.svg", "connections_per_pixel.svg", "before_and_after.svg"):
    assert os.path.getsize(f"{sys.argv[1]}/{name}") > 0, name
PY

# One clear sentence and exit code 2.
complains --no-such-option
complains --epochs -3
complains --sparsity 101
complains --data "$dir/nowhere"
cp -r "$dir/data" "$dir/cut" && head -c 5000 "$dir/data/train-images-idx3-ubyte" >"$dir/cut/train-images-idx3-ubyte"
complains --data "$dir/cut" --out "$dir/out2"
cp -r "$dir/data" "$dir/lie" && printf '\x00\x00\x08\x03\x7f\xff\xff\xff\x00\x00\x00\x1c\x00\x00\x00\x1c' >"$dir/lie/train-images-idx3-ubyte"
complains --data "$dir/lie" --out "$dir/out2"
"$exe" --help | grep -q -- --sparsity
