#!/usr/bin/env bash
# All criteria and schedules on small data (generated IDX files); stops at Ctrl-C and goes on; answers to bad input.
set -euo pipefail
exe=$1 dir=$2
source "$(dirname "$0")/../common/smoke_tools.sh"
criteria=magnitude,distributed,lamp,random,taylor,snip,grasp,fisher,wanda,obd,obd_hutchinson,obd_layerwise,synflow,obs,obc
small=(--data "$dir/data" --hidden 20,10 --limit 200 --samples 50 --retrain 1 --rounds 2 --batch 32 --threads 2 --quiet)
"$exe" "${small[@]}" --epochs 2 --out "$dir/all" --criteria $criteria --schedules one-shot --sparsities 50 --seeds 1 >/dev/null
test "$(wc -l <"$dir/all/runs.csv")" -eq 16
"$exe" "${small[@]}" --epochs 2 --out "$dir/out" --criteria magnitude --schedules init,one-shot,iterative,cubic,lottery --sparsities 50,90 --seeds 2 >/dev/null
grep -q lottery "$dir/out/accuracy.svg"
"$exe" "${small[@]}" --epochs 2 --out "$dir/out" --criteria magnitude --schedules iterative --sparsities 90 --seeds 2 --scope network >/dev/null
test "$(wc -l <"$dir/out/runs.csv")" -eq 21
python3 - "$dir/out" <<'PY'
import csv, os, sys
rows = list(csv.DictReader(open(sys.argv[1] + "/runs.csv")))
weights = 784 * 20 + 20 * 10 + 10 * 10
for r in rows:  # exactly what was asked for stays
    assert int(r["weights"]) == weights - round(float(r["sparsity"]) / 100 * weights), r
    assert 0 <= float(r["accuracy"]) <= 1 and 0 < float(r["ms_per_batch"]), r
    card = "{}/cards/{criterion}_{schedule}_{sparsity}_{seed}.csv".format(sys.argv[1], **r)
    assert any(l.startswith(",bytes_on_disk,") and l.split(",")[3] == r["bytes_on_disk"] for l in open(card)), card
assert os.path.getsize(sys.argv[1] + "/settings.txt") > 0
PY

# A run that is interrupted, then goes on, leaves the same numbers as one that is not.
run=("${small[@]}" --criteria snip,random --schedules iterative --sparsities 50,80,90 --seeds 3 --epochs 8)
"$exe" "${run[@]}" --out "$dir/whole" >/dev/null
code=0
timeout -s INT 0.7 "$exe" "${run[@]}" --out "$dir/parts" >/dev/null 2>&1 || code=$?
[ "$code" -eq 0 ] || [ "$code" -eq 124 ] || [ "$code" -eq 130 ]
"$exe" "${run[@]}" --out "$dir/parts" >/dev/null
diff <(cut -d, -f1-8 "$dir/whole/runs.csv" | sort) <(cut -d, -f1-8 "$dir/parts/runs.csv" | sort)

# One clear sentence and exit code 2.
complains "${small[@]}" --out "$dir/out" --epochs 3  # other settings than the runs there
complains --criteria nonsense
complains --sparsities 101
complains --data "$dir/nowhere" --out "$dir/none"
"$exe" --help | grep -q -- --schedules
