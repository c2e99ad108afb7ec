#!/usr/bin/env python3
"""Checks the recorded results of GPU benchmarks: gpu_results.py [repository root]

Every bench/results/h100-*.json and h200-*.json must name its commit, date, device and driver; in every row times are
positive, errors small, the ratio is that of the times, the peer is the fastest of the peers and the best cut the
fastest of the cuts; the table of kernels/README.md must say what the newest file says, and the GPU's ratios in README.md be of it. Needs no GPU. Prints one line
per problem and exits 1 if there is one.
"""
import json
import math
import pathlib
import re
import sys


PARTS = ("dag", "gemm", "selection", "layer")  # beside the rows of the sparse triple


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def problems_of_row(row):
    if not row.get("ours_us", 0) > 0:
        yield f"ours_us is {row.get('ours_us')}"
        return
    if "rel_err" in row and not 0 <= row["rel_err"] < 1e-5:  # NaN is none
        yield f"rel_err is {row['rel_err']}"
    if "peer_us" in row:
        want = row["peer_us"] / row["ours_us"]
        if not abs(row["ratio"] - want) <= 2e-3 * want:
            yield f"ratio is {row['ratio']}, but {row['peer_us']} / {row['ours_us']} = {want:.4f}"
    for name, of in (("peer_us", "peers"), ("best_us", "cuts")):
        times = [t for t in row.get(of, {}).values() if t]
        if of == "cuts" and times:
            times.append(row["ours_us"])  # the chosen cut may have been timed twice
        if times and not abs(row[name] - min(times)) <= 1e-3 * min(times):
            yield f"{name} is {row[name]}, but the fastest of {of} takes {min(times)}"
    if row.get("best_us", 0) > row["ours_us"] * 1.001:
        yield f"best_us {row['best_us']} is above ours_us {row['ours_us']}"
    if "floor_us" in row and row["case"].startswith("sparse") and row["ours_us"] < row["floor_us"] * 0.5:
        yield f"ours_us {row['ours_us']} is far below what the hardware can do, {row['floor_us']}"


def problems_of_file(path):
    try:
        results = json.loads(path.read_text())
    except ValueError as e:
        yield f"{path.name}: {e}"
        return
    for field in ("commit", "date", "device", "driver", "ceilings"):
        if not results.get(field):
            yield f"{path.name}: no {field}"
    kind = re.search(r"H[12]00", results.get("device", ""))
    if not kind or not path.name.startswith(f"{kind[0].lower()}-{results.get('date')}-"):
        yield f"{path.name}: is of device {results.get('device')}, date {results.get('date')}"
    if not results.get("rows"):
        yield f"{path.name}: no rows"
    seen = set()
    for row in [row for part in ("rows",) + PARTS for row in results.get(part, [])]:
        key = tuple(str(row.get(k)) for k in ("case", "rows", "cols", "batch", "sparsity", "peer")[: 5 if "cuts" in row else 6])
        where = f"{path.name}: {' '.join(k for k in key if k != 'None')}"
        if key in seen:
            yield f"{where}: twice"
        seen.add(key)
        for problem in problems_of_row(row):
            yield f"{where}: {problem}"


def claims(results):
    """What kernels/README.md says: of every case the geomean and the worst ratio."""
    for case in ("sparse_forward", "sparse_dx", "sparse_dw"):
        ratios = [r["ratio"] for r in results["rows"] if r["case"] == case and r["batch"] >= 128]
        yield case, f"{geomean(ratios):.2f}", f"{min(ratios):.2f}"
    for case in ("gemm_forward", "gemm_dx"):
        ratios = [r["ratio"] for r in results.get("gemm", []) if r["case"] == case]
        if ratios:
            yield case, f"{geomean(ratios):.2f}", f"{min(ratios):.2f}"
    for peer in ("torch_sparse_csr", "torch_sparse_coo", "torch_masked_dense"):
        ratios = [r["ratio"] for r in results.get("layer", []) if r["case"].startswith("layer") and r.get("peer") == peer]
        if ratios:
            yield f"layer {peer}", f"{geomean(ratios):.2f}", f"{min(ratios):.2f}"
    for row in results["dag"] + results.get("selection", []) + results.get("layer", []):
        if "peer" in row and not row["case"].startswith("layer"):
            yield f"{row['case']} {row['peer']}", f"{row['ratio']:.2f}", None


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2])
    files = sorted(p for p in (root / "bench/results").glob("h[12]00-*.json"))
    problems = [p for f in files for p in problems_of_file(f)]
    if not problems and files:
        readme = (root / "kernels/README.md").read_text()
        newest = max(files, key=lambda p: p.name.split("-", 1)[1])
        if newest.name not in readme:
            problems.append(f"kernels/README.md: does not name {newest.name}")
        for case, mean, worst in claims(json.loads(newest.read_text())):
            line = re.search(rf"^\|[^\n]*`{re.escape(case)}`[^\n]*\|$", readme, re.M)
            if not line or f" {mean} " not in line[0] or (worst and f" {worst} " not in line[0]):
                problems.append(f"kernels/README.md: `{case}` should say {mean}" + (f" and {worst}" if worst else ""))
        section = re.search(r"^## On a GPU$(.*?)^## ", (root / "README.md").read_text(), re.M | re.S)
        known = {mean for _, mean, _ in claims(json.loads(newest.read_text()))}
        for figure in re.findall(r"([0-9.]+)x", section[1] if section else ""):
            if figure not in known:
                problems.append(f"README.md: {figure}x is no ratio of {newest.name}")
    print("\n".join(problems) or f"{len(files)} files of GPU results, no problem")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
