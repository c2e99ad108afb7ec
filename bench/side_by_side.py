#!/usr/bin/env python3
"""Joins rows of ours and of peers from several rounds: the median of each, its spread over all rounds, and the ratio.

usage: side_by_side.py RESULT.json ROUND.json...
"""
import collections
import json
import pathlib
import statistics
import sys

KEY = ("case", "model", "batch", "density", "threads")


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
            key = tuple(row[k] for k in KEY)
            if "peer" in row:
                peers[key, row["peer"]].append(row)
            else:
                ours[key, row["storage"]].append(row)
    joined = []
    for (key, storage), rows in ours.items():
        for (other, peer), theirs in peers.items():
            if key != other:
                continue
            us, spread = pooled(rows, "ours")
            peer_us, peer_spread = pooled(theirs, "peer")
            joined.append(dict(zip(KEY, key)) | {
                "storage": storage, "ours_us": round(us, 1), "ours_spread_us": round(spread, 1), "peer": peer,
                "peer_us": round(peer_us, 1), "peer_spread_us": round(peer_spread, 1), "ratio": round(peer_us / us, 2),
                "max_abs_err": max(row["max_abs_err"] for row in rows)})
    if not joined:
        sys.exit("side_by_side: no case was measured on both sides")
    joined.sort(key=lambda r: (r["case"], r["model"], r["threads"], r["storage"], -r["density"], r["peer"]))
    print("case       model            batch storage density threads   ours us  spread  peer                peer us  spread   ratio  max err")
    for r in joined:
        print(f"{r['case']:<10} {r['model']:<16} {r['batch']:>5} {r['storage']:<7} {r['density']:>7} {r['threads']:>7} {r['ours_us']:>9.1f} "
              f"{r['ours_spread_us']:>7.1f}  {r['peer']:<16} {r['peer_us']:>10.1f} {r['peer_spread_us']:>7.1f} {r['ratio']:>6.2f}x {r['max_abs_err']:>8.0e}")
    pathlib.Path(result).write_text("[\n" + ",\n".join(json.dumps(row) for row in joined) + "\n]\n")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__.splitlines()[-1])
    main(sys.argv[1], sys.argv[2:])
