#!/usr/bin/env bash
# A short run on small data (generated IDX files): its report, graph and pictures, and its answers to bad input.
set -euo pipefail
exe=$1 dir=$2
source "$(dirname "$0")/../common/smoke_tools.sh"
small=(--data "$dir/data" --batch 16 --lr 0.005 --hidden 30,20 --quiet)
"$exe" "${small[@]}" --epochs 6 --finetune 3 --prune 95 --out "$dir/out" --threads 2 >"$dir/log" 2>&1
grep -q '^outputs before and after the file are the same bits$' "$dir/log"
python3 - "$dir" <<'PY'
import re, sys
import xml.etree.ElementTree as xml
folder = sys.argv[1]
text = open(folder + "/log").read()
accuracy = {m[1].strip(): float(m[2]) for m in re.finditer(r"^(\w[\w ]*?) *: test accuracy ([\d.]+) %", text, re.M)}
assert accuracy["pruned"] > 90 and accuracy["pruned"] == accuracy["compacted"] == accuracy["reloaded"], accuracy
on = re.search(r"^learnt on: test accuracy ([\d.]+ %); had it never been a graph: ([\d.]+ %)$", text, re.M)
assert on and on[1] == on[2], text  # bit by bit the same training
before, after = re.search(r"^parameters (\d+) -> (\d+)", text, re.M).groups()
assert int(after) < int(before), text
edges = int(re.search(r"^compacted: .* with (\d+) connections", text, re.M)[1])
assert re.search(r"^bytes on disk .* smaller$", text, re.M), text
graph = xml.parse(folder + "/out/network.graphml").getroot()
name = lambda e: e.tag.split("}")[1]
assert sum(name(e) == "edge" for e in graph.iter()) == edges
lines = [e for e in xml.parse(folder + "/out/neurons.svg").iter() if name(e) == "path"]
assert len(lines) == edges, (len(lines), edges)
assert sum(name(e) == "path" for e in xml.parse(folder + "/out/layers.svg").iter()) == 3
PY

# The same report again, on another number of threads; everything pruned; one layer.
"$exe" "${small[@]}" --epochs 6 --finetune 3 --prune 95 --out "$dir/again" --threads 1 >"$dir/log1" 2>&1
timeless() { sed "s|$2|X|; /^ms /d; s/  */ /g" "$1"; }  # times differ, and the width of columns with them
cmp <(timeless "$dir/log" "$dir/out") <(timeless "$dir/log1" "$dir/again")
grep -q '^| weights |' "$dir/out/report.md"
"$exe" "${small[@]}" --epochs 1 --finetune 1 --again 1 --prune 100 --hidden 5 --out "$dir/none" >/dev/null 2>&1

# One clear sentence and exit code 2.
complains --epochs 0
complains --prune 101
complains --hidden 0
complains --data "$dir/nowhere"
complains "${small[@]}" --epochs 1 --out "$dir/data/train-images-idx3-ubyte"
