"""Selection as in select.cu by PyTorch: the n-th smallest magnitude of 1e8 weights in 50 parts, and a pattern of what
is left of a dense matrix.

Writes the weights to PEER.bin and lines "case name microseconds result" to PEER.txt, for PEER the path that is given.
"""

import sys

import torch

PARTS, PART, SIDE = 50, 2000000, 4096


def median_us(step, rounds):
    step()
    torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        result = step()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3)
    return sorted(times)[len(times) // 2], result


def main():
    torch.manual_seed(1)
    lines = []
    w = torch.randn(PARTS * PART, device="cuda")
    w.cpu().numpy().tofile(sys.argv[1] + ".bin")
    parts = list(w.clone().split(PART))

    def magnitudes():
        return torch.cat([p.flatten() for p in parts]).abs()

    for percent in (50, 90):
        n = PARTS * PART // 100 * percent  # from 0
        for name, step in (
            ("torch_cat_kthvalue", lambda: magnitudes().kthvalue(n + 1).values.item()),
            ("torch_cat_topk", lambda: magnitudes().topk(PARTS * PART - n, sorted=False).values.min().item()),
            ("torch_cat_sort", lambda: magnitudes().sort().values[n].item()),
        ):
            lines.append(("nth_smallest_p%d_1e8" % percent, name) + median_us(step, 3))
    few = median_us(lambda: parts[0].abs().kthvalue(PART // 10 * 9 + 1).values.item(), 5)
    lines.append(("nth_smallest_p90_2e6", "torch_kthvalue") + few)

    dense = w[: SIDE * SIDE].view(SIDE, SIDE)
    for percent in (50, 90, 98):
        limit = dense.abs().flatten().sort().values[SIDE * SIDE * percent // 100]
        us, csr = median_us(lambda: torch.where(dense.abs() < limit, 0, dense).to_sparse_csr(), 15)
        col = csr.col_indices().long()
        check = (torch.arange(1, len(col) + 1, device="cuda") * col).sum().item()
        lines.append(("keep_edges_p%d" % percent, "torch_where_to_sparse_csr", us, check))

    with open(sys.argv[1] + ".txt", "w") as f:
        for case, name, us, result in lines:
            f.write("%s %s %.3f %.17g\n" % (case, name, us, result))
            print("%s %s %.1f us" % (case, name, us))


if __name__ == "__main__":
    main()
