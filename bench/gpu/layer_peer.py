"""The layers and networks of layer.cpp in PyTorch: sparse CSR (COO where it has no gradient), masked dense, both eager;
training steps also as CUDA graphs.

Writes lines "case name microseconds" to the file named.
"""

import sys
import time

import torch
import torch.nn.functional as F


def median_us(call):
    for _ in range(5):
        call()
    torch.cuda.synchronize()
    times = []
    for _ in range(15):
        begin = time.perf_counter()
        for _ in range(10):
            call()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) * 1e5)
    return sorted(times)[7]


def sparse_layer(layout, w, x, b, seed):
    """y = (W xᵀ)ᵀ + b through autograd, or None where PyTorch has no gradient of this layout."""
    sparse = (w.to_sparse_csr() if layout == "csr" else w.to_sparse().coalesce()).detach().requires_grad_()
    x = x.clone().requires_grad_()
    b = b.clone().requires_grad_()

    def call():
        y = torch.sparse.mm(sparse, x.t()).t() + b
        torch.autograd.grad(y, [x, sparse, b], seed)

    try:
        return median_us(call)
    except (RuntimeError, NotImplementedError) as problem:
        print(layout, str(problem)[:120])
        return None


def captured(step):
    """The step as a CUDA graph, after three that are not."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def main():
    lines = []
    torch.manual_seed(1)
    for size in (1024, 2048):
        for batch in (128, 512):
            for sparsity in (0.9, 0.95, 0.99):
                case = f"layer_{size}_{batch}_{sparsity:g}"
                mask = (torch.rand(size, size, device="cuda") >= sparsity).float()
                w = torch.randn(size, size, device="cuda") * 0.05
                x, seed = torch.randn(batch, size, device="cuda"), torch.randn(batch, size, device="cuda")
                b = torch.randn(size, device="cuda")
                for layout in ("csr", "coo"):
                    us = sparse_layer(layout, w * mask, x, b, seed)
                    if us is not None:
                        lines.append((case, f"torch_sparse_{layout}", us))
                dense, xd, bd = w.clone().requires_grad_(), x.clone().requires_grad_(), b.clone().requires_grad_()
                lines.append((case, "torch_masked_dense", median_us(
                    lambda: torch.autograd.grad(F.linear(xd, dense * mask, bd), [xd, dense, bd], seed))))
    for sparsity in (0.0, 0.95):
        sizes = [(300, 784), (100, 300), (10, 100)]
        ws = [(torch.randn(s, device="cuda") * s[1] ** -0.5).requires_grad_() for s in sizes]
        bs = [torch.zeros(s[0], device="cuda", requires_grad=True) for s in sizes]
        ms = [(torch.rand(s, device="cuda") >= sparsity).float() for s in sizes]
        adam = torch.optim.Adam(ws + bs, fused=True, capturable=True)
        x, target = torch.randn(128, 784, device="cuda"), torch.randint(10, (128,), device="cuda")

        def step():
            adam.zero_grad(set_to_none=True)
            h = x
            for k, (w, b, m) in enumerate(zip(ws, bs, ms)):
                h = F.linear(h, w * m if sparsity else w, b)
                if k < 2:
                    h = torch.relu(h)
            F.cross_entropy(h, target).backward()
            adam.step()

        name = "torch_masked_dense" if sparsity else "torch_dense"
        lines.append((f"ffn_step_{sparsity:g}", name, median_us(step)))
        lines.append((f"ffn_captured_{sparsity:g}", name, lines[-1][2]))
        lines.append((f"ffn_captured_{sparsity:g}", name + "_cuda_graph", median_us(captured(step))))
    with open(sys.argv[1], "w") as f:
        for line in lines:
            f.write("%s %s %.3f\n" % line)
            print("%s %s %.1f us" % line)


if __name__ == "__main__":
    main()
