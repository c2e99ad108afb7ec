#!/usr/bin/env bash
# A short run on small data (generated IDX files): its table, log and pictures, and its answers to bad input.
set -euo pipefail
exe=$1 dir=$2
source "$(dirname "$0")/../common/smoke_tools.sh"
small=(--data "$dir/data" --batch 16 --lr 0.005 --quiet)
"$exe" "${small[@]}" --epochs 6 --finetune 3 --out "$dir/out" --threads 2 >"$dir/log" 2>&1
grep -q '^  connections  *400  *200  *172  *86  *126  *63$' "$dir/log"
python3 - "$dir/out" <<'PY'
import csv, sys
import xml.etree.ElementTree as xml
rows = list(csv.DictReader(open(sys.argv[1] + "/small_world.csv")))
names = ("watts_strogatz", "grid", "tree")
assert [(r["structure"], r["phase"], int(r["epoch"])) for r in rows] == [
    (name, phase, 1 + e) for name in names for phase, epochs in (("whole", 6), ("pruned", 3)) for e in range(epochs)]
number = lambda r, key: float(r[key])
for name, vertices, edges in zip(names, (200, 96, 127), (400, 172, 126)):
    whole, pruned = [[r for r in rows if r["structure"] == name and r["phase"] == phase][-1] for phase in ("whole", "pruned")]
    assert number(whole, "test_accuracy") > 0.9 and number(pruned, "test_accuracy") > 0.9, (whole, pruned)
    assert number(whole, "connections") == edges and number(pruned, "connections") == edges // 2
    assert number(whole, "dead") == 0 and number(pruned, "dead") > 0, pruned
    assert number(whole, "connected") == vertices > number(pruned, "connected"), pruned
    assert 2 <= number(pruned, "layers") <= number(whole, "layers") and number(pruned, "log_paths") < number(whole, "log_paths")
    assert abs(number(whole, "density") - 2 * edges / (vertices * (vertices - 1))) < 1e-12
    assert number(whole, "path_length") > 1 and (number(whole, "clustering") > 0) == (name == "watts_strogatz")
    card = {(r["layer"], r["measure"]): (float(r["whole"]), float(r["pruned"])) for r in csv.DictReader(open(f"{sys.argv[1]}/{name}_report.csv"))}
    assert card["", "accuracy"][1] == number(pruned, "test_accuracy"), card
    assert card["", "weights"][0] - card["", "weights"][1] == edges - edges // 2, card
    assert card["", "ms_per_batch"][1] > 0, card
    for phase, left in (("whole", edges), ("pruned", edges // 2)):
        tags = [(e.tag.split("}")[1], e.get("stroke")) for e in xml.parse(f"{sys.argv[1]}/{name}_{phase}.svg").iter()]
        lines = [colour for tag, colour in tags if tag == "path"]
        assert len(lines) == left and len(set(lines)) > 5, (name, phase, len(lines))  # in the colours of weights
PY

# The same numbers again, on another number of threads; and extremes of structure and pruning.
"$exe" "${small[@]}" --epochs 6 --finetune 3 --out "$dir/again" --threads 1 >/dev/null 2>&1
cmp "$dir/out/small_world.csv" "$dir/again/small_world.csv"
"$exe" "${small[@]}" --out "$dir/none" --epochs 1 --finetune 1 --prune 100 --node-order --vertices 1 --neighbours 0 --height 0 >"$dir/log" 2>&1
grep -q '^  connections  *0  *0  *172  *0  *0  *0$' "$dir/log"

# One clear sentence and exit code 2.
complains --epochs -3
complains --rewire 1.5
complains --prune 101
complains --data "$dir/nowhere"
complains "${small[@]}" --out "$dir/out2" --vertices 3 --neighbours 4
complains "${small[@]}" --out "$dir/data/train-images-idx3-ubyte"
"$exe" --help | grep -q -- --node-order
