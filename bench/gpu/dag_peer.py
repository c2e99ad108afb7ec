"""The training step of dag.cu in PyTorch: masked dense layers over all values before them, eager and as a CUDA graph.

Writes lines "case name microseconds" to the file named.
"""

import sys

import torch
import torch.nn.functional as F

INPUTS, LAYERS, WIDTH, OUTPUTS, BATCH, DENSITY = 784, 10, 100, 10, 256, 0.1


def median_us(step, rounds, each):
    for _ in range(5):
        step()
    torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(each):
            step()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / each)
    return sorted(times)[len(times) // 2]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        sizes = [(WIDTH, INPUTS + WIDTH * i) for i in range(LAYERS)] + [(OUTPUTS, INPUTS + WIDTH * LAYERS)]
        self.w = torch.nn.ParameterList(torch.randn(s, device="cuda") * (2 / (DENSITY * s[1])) ** 0.5 for s in sizes)
        self.b = torch.nn.ParameterList(torch.zeros(s[0], device="cuda") for s in sizes)
        self.m = [(torch.rand(s, device="cuda") < DENSITY).float() for s in sizes]

    def forward(self, x):
        h = [x]
        for i, (w, b, m) in enumerate(zip(self.w, self.b, self.m)):
            z = F.linear(torch.cat(h, 1) if i else x, w * m, b)
            if i == LAYERS:
                return z
            h.append(torch.relu(z))


def train_step(net, adam, x, target):
    adam.zero_grad(set_to_none=True)
    F.cross_entropy(net(x), target).backward()
    adam.step()


def main():
    lines = []
    x = torch.randn(BATCH, INPUTS, device="cuda")
    target = torch.randint(OUTPUTS, (BATCH,), device="cuda")

    net = Net()
    adam = torch.optim.Adam(net.parameters(), fused=True)

    lines.append(("dag_step", "torch_eager", median_us(lambda: train_step(net, adam, x, target), 15, 10)))

    net = Net()
    adam = torch.optim.Adam(net.parameters(), fused=True, capturable=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            train_step(net, adam, x, target)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        train_step(net, adam, x, target)
    lines.append(("dag_step", "torch_cuda_graph", median_us(graph.replay, 15, 20)))
    torch.backends.cuda.matmul.allow_tf32 = True
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        train_step(net, adam, x, target)
    lines.append(("dag_step", "torch_cuda_graph_tf32", median_us(graph.replay, 15, 20)))
    torch.backends.cuda.matmul.allow_tf32 = False

    for case, n in (("adam_1e5", 100000), ("adam_6.7e7", 1 << 26)):
        p = torch.nn.Parameter(torch.randn(n, device="cuda"))
        p.grad = torch.randn(n, device="cuda")
        opt = torch.optim.Adam([p], fused=True, capturable=True)
        for _ in range(3):
            opt.step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            opt.step()
        lines.append((case, "torch_fused_cuda_graph", median_us(graph.replay, 15, 10)))

    with open(sys.argv[1], "w") as f:
        for line in lines:
            f.write("%s %s %.3f\n" % line)
            print("%s %s %.1f us" % line)


if __name__ == "__main__":
    main()
