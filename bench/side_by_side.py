#!/usr/bin/env python3
"""Joins rows of ours and of peers from several rounds: the median of each, its spread, and the ratio peer / ours where
there is a peer.

usage: side_by_side.py RESULT.json ROUND.json...
Prints every row, then per peer, case, density and threads the geometric mean and the least of the ratios.
"""
import collections
import json
import math
import pathlib
import statistics
import sys

KEY = ("case", "model", "batch", "in", "out", "density", "threads")


def pooled(rows, us):
    """Median over the rounds, and the greater of the spread within a round and from round to round."""
    median = statistics.median(row[f"{us}_us"] for row in rows)
    within = statistics.median(row[f"{us}_spread_us"] for row in rows)
    between = statistics.median(abs(row[f"{us}_us"] - median) for row in rows)
    return median, max(within, between)


def main(result, rounds):
    ours, peers = collections.defaultdict(list), collections.defaultdict(list)
    for name in rounds:
        for row in json.loads(pathlib.Path(name).read_text()):
            key = tuple(row.get(k) for k in KEY)
            if "peer" in row:
                peers[key, row["peer"], row.get("peer_version", "")].append(row)
            else:
                ours[key, row.get("storage", "")].append(row)
    joined = []
    for (key, storage), rows in ours.items():
        matches = [(p, v, theirs) for (other, p, v), theirs in peers.items() if key == other] or [("", "", None)]
        for peer, version, theirs in matches:
            us, spread = pooled(rows, "ours")
            row = {k: v for k, v in zip(KEY, key) if v is not None}
            if storage:
                row["storage"] = storage
            row |= {"ours_us": round(us, 2), "ours_spread_us": round(spread, 2), "peer": peer, "peer_version": version,
                    "max_abs_err": max(r["max_abs_err"] for r in rows)}
            if theirs:
                peer_us, peer_spread = pooled(theirs, "peer")
                row |= {"peer_us": round(peer_us, 2), "peer_spread_us": round(peer_spread, 2), "ratio": round(peer_us / us, 2)}
            if "percent_of_peak" in rows[0]:
                row["percent_of_peak"] = round(statistics.median(r["percent_of_peak"] for r in rows), 1)
            joined.append(row)
    if not joined:
        sys.exit("side_by_side: nothing was measured")

    def order(r):
        return (r["case"], r["threads"], r.get("model", ""), r["peer"], r["peer_version"], r.get("storage", ""),
                r["batch"], r.get("in", 0), -r["density"])

    joined.sort(key=order)
    print(f"{'case':<14} {'shape':<18} {'storage':<7} {'batch':>5} {'density':>7} {'threads':>7} {'ours us':>10} {'spread':>8}  "
          f"{'peer':<28} {'peer us':>11} {'ratio':>8} {'% peak':>6} {'error':>7}")
    groups = collections.defaultdict(list)
    for r in joined:
        shape = r.get("model") or f"{r['in']} -> {r['out']}"
        peer = f"{r['peer']} {r['peer_version']}".strip()
        print(f"{r['case']:<14} {shape:<18} {r.get('storage', ''):<7} {r['batch']:>5} {r['density']:>7g} {r['threads']:>7} "
              f"{r['ours_us']:>10.1f} {r['ours_spread_us']:>8.1f}  {peer:<28} {r.get('peer_us', '-'):>11} {r.get('ratio', '-'):>7}x "
              f"{r.get('percent_of_peak', 0):>6.0f} {r['max_abs_err']:>7.0e}")
        if "in" in r and r["batch"] > 1 and "ratio" in r:
            groups[r["case"], r["threads"], peer, r["density"]].append(r["ratio"])
    if groups:
        print(f"\n{'case':<14} {'threads':>7} {'peer':<28} {'density':>7} {'geometric mean':>15} {'least':>8}  of all shapes with batch > 1")
    for (case, threads, peer, density), ratios in sorted(groups.items(), key=lambda g: (*g[0][:3], -g[0][3])):
        mean = math.exp(sum(math.log(r) for r in ratios) / len(ratios))
        print(f"{case:<14} {threads:>7} {peer:<28} {density:>7g} {mean:>14.2f}x {min(ratios):>7.2f}x")
    pathlib.Path(result).write_text("[\n" + ",\n".join(json.dumps(row) for row in joined) + "\n]\n")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__.splitlines()[2])
    main(sys.argv[1], sys.argv[2:])
