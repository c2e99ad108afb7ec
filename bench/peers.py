#!/usr/bin/env python3
"""The peers in Python: PyTorch with weight * mask, plain and CSR layers, and the original deepstruct where installed.

--make DIR writes weights, masks, inputs and the losses of the first steps in double precision for adam_step.cpp.
--problem DIR times Adam steps and inference on them; --layers times single layers; --prune times a global prune; --conv
times a convolution; --dan DIR times networks on the graphs that bench/dan --graphs DIR left there.
Every result is checked against double precision before it is timed. Rows go to --json.
"""
import argparse
import json
import pathlib
import statistics
import sys
import time

import numpy as np
import torch

try:
    import deepstruct.graph
    import deepstruct.pruning
    import deepstruct.sparse
    import deepstruct.transform
    import networkx
except ImportError:
    deepstruct = None

BATCH = 128
BATCHES = 8
CHECKED_STEPS = 3
TOLERANCE = 2e-5  # of the loss
SHAPES = [(128, 784, 300), (128, 1024, 1024), (256, 2048, 2048), (64, 4096, 1024), (32, 256, 256), (1, 1024, 1024)]


def measure(step, repeats=9, warm_seconds=0.05, batch_seconds=0.003):
    """Median of one call and median distance from it, in microseconds; short calls are timed in groups."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < warm_seconds or calls < 2:
        step()
        calls += 1
    group = max(1, round(batch_seconds * calls / (time.perf_counter() - start)))
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(group):
            step()
        times.append((time.perf_counter() - begin) / group * 1e6)
    median = statistics.median(times)
    return median, statistics.median(abs(t - median) for t in times)


def widths_of(model):
    return [int(w) for w in model.split("-")]


class MaskedLinear(torch.nn.Linear):
    """Python deepstruct's way: the product with the mask is part of every step."""

    def __init__(self, weight, bias, mask):
        super().__init__(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        self.weight.data.copy_(weight)
        self.bias.data.copy_(bias)
        self.register_buffer("mask", mask)

    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight * self.mask, self.bias)


class Training:
    """A model with its optimizer, and the data it steps through."""

    def __init__(self, folder, model, density, dtype, foreach, kind="pytorch_masked"):
        def load(path):
            return torch.from_numpy(np.load(path))

        widths, own = widths_of(model), folder / model / density
        state = [[load(own / f"{name}_{k}.npy").to(dtype) for name in ("weight", "bias", "mask")]
                 for k in range(len(widths) - 1)]
        if kind == "deepstruct_python":
            self.model = deepstruct.sparse.MaskedDeepFFN(widths[0], widths[-1], widths[1:-1])
            layers = list(deepstruct.sparse.maskable_layers(self.model))
            for layer, (weight, bias, mask) in zip(layers, state):
                layer.weight.data.copy_(weight)
                layer.bias.data.copy_(bias)
                layer.mask = mask.bool()
        else:
            parts = []
            for k, (weight, bias, mask) in enumerate(state):
                if k > 0:
                    parts.append(torch.nn.ReLU())
                if kind == "pytorch_linear":  # the same work without a mask; what it computes is another network
                    layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
                    layer.weight.data.copy_(weight * mask)
                    layer.bias.data.copy_(bias)
                    parts.append(layer)
                else:
                    parts.append(MaskedLinear(weight, bias, mask))
            self.model = torch.nn.Sequential(*parts)
        self.adam = torch.optim.Adam(self.model.parameters(), foreach=foreach)
        self.x = [load(folder / f"x_{k}.npy").to(dtype) for k in range(BATCHES)]
        self.y = [load(folder / f"y_{k}.npy").long() for k in range(BATCHES)]
        self.next = 0

    def step(self):
        """What is timed. Returns the loss before the step, not yet read."""
        k = self.next % BATCHES
        self.next += 1
        loss = torch.nn.functional.cross_entropy(self.model(self.x[k]), self.y[k])
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()
        return loss

    def infer(self, samples):
        x = self.x[0][:samples]
        with torch.no_grad():
            return measure(lambda: self.model(x))

    def first_losses(self):
        return np.array([self.step().item() for _ in range(CHECKED_STEPS)])


def make(folder, models, densities):
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(BATCHES):
        np.save(folder / f"x_{k}.npy", rng.standard_normal((BATCH, 784), dtype=np.float32))
        np.save(folder / f"y_{k}.npy", rng.integers(0, 10, BATCH, dtype=np.int32))
    for model in models:
        widths = widths_of(model)
        for density in densities:
            own = folder / model / density
            own.mkdir(parents=True, exist_ok=True)
            for k, (width, out) in enumerate(zip(widths, widths[1:])):
                bound = np.sqrt(6 / (width * float(density)))
                np.save(own / f"weight_{k}.npy", rng.uniform(-bound, bound, (out, width)).astype(np.float32))
                np.save(own / f"bias_{k}.npy", rng.uniform(-0.1, 0.1, out).astype(np.float32))
                np.save(own / f"mask_{k}.npy", rng.random((out, width)) < float(density))
            np.save(own / "losses.npy", Training(folder, model, density, torch.float64, False).first_losses())


def whole_steps(folder, models, densities, threads):
    rows = []
    for model in models:
        for density in densities:
            wanted = np.load(folder / model / density / "losses.npy")
            for kind in ("pytorch_masked", "pytorch_linear", "deepstruct_python"):
                if kind == "deepstruct_python" and deepstruct is None:
                    continue
                key = {"model": model, "density": float(density), "threads": threads, "peer": kind,
                       "peer_version": torch.__version__}
                timings = []
                for foreach in (False, True):  # Adam parameter by parameter or over all at once: the faster one counts
                    training = Training(folder, model, density, torch.float32, foreach, kind)
                    error = np.abs(training.first_losses() - wanted)
                    if kind != "pytorch_linear" and not np.all(error <= TOLERANCE * wanted):
                        sys.exit(f"peers: wrong losses of {kind} at density {density} (errors {error})")
                    timings.append(measure(training.step))
                median, spread = min(timings)
                rows.append({"case": "adam_step", "batch": BATCH, "peer_us": median, "peer_spread_us": spread} | key)
                for samples in (BATCH, 1):
                    median, spread = training.infer(samples)
                    rows.append({"case": "inference", "batch": samples, "peer_us": median, "peer_spread_us": spread} | key)
    return rows


def layers(densities, threads):
    rows = []
    for batch, width, out in SHAPES:
        for density in densities:
            generator = torch.Generator().manual_seed(1)
            weight = torch.randn(out, width, generator=generator) / (width * float(density)) ** 0.5
            mask = torch.rand(out, width, generator=generator) < float(density)
            x = torch.randn(batch, width, generator=generator)
            dy = torch.randn(batch, out, generator=generator)
            wanted = x.double() @ (weight * mask).double().T
            csr = (weight * mask).to_sparse_csr() if float(density) <= 0.2 else None
            x.requires_grad_(True)
            for kind in ("pytorch_masked", "pytorch_linear", "pytorch_csr"):
                if kind == "pytorch_csr":
                    if csr is None or batch == 1:
                        continue
                    w = csr.clone().requires_grad_(True)
                    forward = lambda: (w @ x.T).T
                elif kind == "pytorch_masked":
                    w = weight.clone().requires_grad_(True)
                    forward = lambda: torch.nn.functional.linear(x, w * mask)
                else:
                    w = (weight * mask).requires_grad_(True)
                    forward = lambda: torch.nn.functional.linear(x, w)
                error = (forward().double() - wanted).abs().max().item()
                if not error <= 1e-4 * max(1.0, wanted.abs().max().item()):
                    sys.exit(f"peers: {kind} is wrong at {batch}, {width}, {out} (error {error})")

                def train():
                    w.grad = x.grad = None
                    forward().backward(dy)

                key = {"batch": batch, "in": width, "out": out, "density": float(density), "threads": threads,
                       "peer": kind, "peer_version": torch.__version__}
                with torch.no_grad():
                    median, spread = measure(forward)
                rows.append({"case": "layer_forward", "peer_us": median, "peer_spread_us": spread} | key)
                if batch > 1:
                    median, spread = measure(train)
                    rows.append({"case": "layer_train", "peer_us": median, "peer_spread_us": spread} | key)
    return rows


def prune(models, threads):
    rows = []
    for model in models:
        widths, times = widths_of(model), []
        for _ in range(3):
            network = deepstruct.sparse.MaskedDeepFFN(widths[0], widths[-1], widths[1:-1])
            begin = time.perf_counter()
            deepstruct.pruning.prune_network_by_saliency(network, 90)
            times.append((time.perf_counter() - begin) * 1e6)
        left = sum(int(layer.mask.sum()) for layer in deepstruct.sparse.maskable_layers(network))
        total = sum(a * b for a, b in zip(widths, widths[1:]))
        if abs(left - 0.1 * total) > 0.001 * total:
            sys.exit(f"peers: {left} of {total} weights are left")
        median = statistics.median(times)
        rows.append({"case": "prune_global", "model": model, "batch": 0, "density": 0.1, "threads": threads,
                     "peer": "deepstruct_python", "peer_version": torch.__version__, "peer_us": median,
                     "peer_spread_us": statistics.median(abs(t - median) for t in times)})
    return rows


def convolutions(densities, threads):
    """The layer of conv.cpp as a dense convolution; of a masked weight too, whose zeros cost as much as other values."""
    rows, batch, channels, size = [], 64, 32, 16
    for density in densities:
        layer = torch.nn.Conv2d(channels, channels, 3, padding=1)
        layer.weight.data *= torch.rand_like(layer.weight) < float(density)
        x = torch.randn(batch, channels, size, size, requires_grad=True)
        up = torch.randn(batch, channels, size, size)
        inputs = (x, layer.weight, layer.bias)

        def train():
            y = layer(x)
            return (y, *torch.autograd.grad(y, inputs, up))

        exact = [t.detach().double().requires_grad_() for t in inputs]
        y = torch.nn.functional.conv2d(*exact, padding=1)
        for got, want in zip(train(), (y, *torch.autograd.grad(y, exact, up.double()))):
            if not (got - want).abs().max() <= 1e-4 * max(1, want.abs().max()):
                sys.exit("peers: the convolution is wrong")
        median, spread = measure(train, 25, 0.2)
        rows.append({"case": "conv_train", "model": "32-32-3x3-16x16", "batch": batch, "density": float(density),
                     "threads": threads, "peer": "pytorch_conv2d", "peer_version": torch.__version__, "peer_us": median,
                     "peer_spread_us": spread})
    return rows


def double_logits(model, structure, x):
    """What a network on a graph computes, in double precision; the original casts all it gets to float32."""
    def branch(layer, h):
        return torch.relu(torch.nn.functional.linear(h, (layer.weight * layer.mask).double(), layer.bias.double()))

    with torch.no_grad():
        h, skips = [branch(model.layer_first, x.double())], iter(model.layers_skip_hidden)
        for target, main in enumerate(model.layers_main_hidden, 1):
            total = branch(main, h[-1])
            for source in range(target - 1):
                if structure.layer_connected(source, target):
                    total = total + branch(next(skips), h[source])
            h.append(total)
        out = model.layer_out
        return torch.nn.functional.linear(h[-1], (out.weight * out.mask).double(), out.bias.double())


def dans(folder, threads):
    """Networks on graphs: load_from and construct, and an Adam step; both as often as some ten seconds allow."""
    rows = []
    for file in sorted(folder.glob("*.edges"), key=lambda f: int(f.stem)):
        n = int(file.stem)
        edges = np.loadtxt(file, dtype=np.int64, skiprows=1)
        graph = networkx.Graph()
        graph.add_nodes_from(range(n))
        graph.add_edges_from(map(tuple, edges))
        builds = []
        while len(builds) < 3 and sum(builds) < 10e6:
            begin = time.perf_counter()
            structure = deepstruct.graph.CachedLayeredGraph.load_from(graph)
            structure.num_layers
            model = deepstruct.sparse.MaskedDeepDAN(784, 10, structure)
            builds.append((time.perf_counter() - begin) * 1e6)
        x, y = torch.randn(BATCH, 784), torch.arange(BATCH) % 10
        if n <= 1000:  # the structure of larger ones takes minutes to ask
            error = (model(x).detach().double() - double_logits(model, structure, x)).abs().max().item()
            if not error <= 1e-4:
                sys.exit(f"peers: logits of a network on a graph are wrong by {error}")
        timings = []
        for foreach in (False, True) if n <= 1000 else (True,):  # Adam over all parameters at once is the faster one
            adam = torch.optim.Adam(model.parameters(), foreach=foreach)
            steps = []
            while len(steps) < 25 and (sum(steps) < 10e6 or len(steps) < 2):
                begin = time.perf_counter()
                loss = torch.nn.functional.cross_entropy(model(x), y)
                adam.zero_grad(set_to_none=True)
                loss.backward()
                adam.step()
                steps.append((time.perf_counter() - begin) * 1e6)
            steps = steps[min(3, len(steps) - 1):]
            median = statistics.median(steps)
            timings.append((median, statistics.median(abs(t - median) for t in steps)))
        for case, (median, spread) in (("dan_step", min(timings)), ("dan_build", (statistics.median(builds), 0.0))):
            rows.append({"case": case, "model": f"watts_strogatz-{n}", "batch": BATCH, "density": 1, "threads": threads,
                         "peer": "deepstruct_python", "peer_version": torch.__version__, "peer_us": median,
                         "peer_spread_us": spread})
    return rows


def extract(threads):
    """GraphTransform of the original over a feed-forward network, a fresh one each time: it replaces every forward."""
    times = []
    for _ in range(3):
        model = deepstruct.sparse.MaskedDeepFFN(784, 10, [300, 300])
        transform = deepstruct.transform.GraphTransform(torch.randn(1, 784))
        begin = time.perf_counter()
        graph = transform.transform(model)
        times.append((time.perf_counter() - begin) * 1e6)
    if len(graph.nodes) != 1394:
        sys.exit(f"peers: the original found {len(graph.nodes)} vertices")
    median = statistics.median(times)
    return [{"case": "extract", "model": "784-300-300-10", "batch": 1, "density": 1, "threads": threads,
             "peer": "deepstruct_python", "peer_version": torch.__version__, "peer_us": median,
             "peer_spread_us": statistics.median(abs(t - median) for t in times)}]


def blas():
    """The BLAS library this process really loaded."""
    with open("/proc/self/maps") as maps:
        files = {line.split()[-1] for line in maps if "/" in line}
    names = sorted(f for f in files if any(s in f.rsplit("/", 1)[-1] for s in ("openblas", "mkl_rt", "libblas", "blis")))
    return ", ".join(n for n in names if "openblas" in n.rsplit("/", 1)[-1]) or ", ".join(names) or "built in"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--make", metavar="DIR", type=pathlib.Path)
    parser.add_argument("--problem", metavar="DIR", type=pathlib.Path)
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--prune", action="store_true")
    parser.add_argument("--conv", action="store_true")
    parser.add_argument("--dan", metavar="DIR", type=pathlib.Path)
    parser.add_argument("--extract", action="store_true")
    parser.add_argument("--model", default="784-300-100-10,784-1000-1000-10")
    parser.add_argument("--density", default="1,0.5,0.1,0.05,0.01")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    densities, models = args.density.split(","), args.model.split(",")
    if args.make:
        make(args.make, models, densities)
    rows = []
    if args.problem:
        rows += whole_steps(args.problem, models, densities, args.threads)
    if args.layers:
        rows += layers(densities, args.threads)
    if args.prune and deepstruct is not None:
        rows += prune(models[-1:], args.threads)
    if args.conv:
        rows += convolutions(densities, args.threads)
    if args.dan and deepstruct is not None:
        rows += dans(args.dan, args.threads)
    if args.extract and deepstruct is not None:
        rows += extract(args.threads)
    print(f"PyTorch {torch.__version__}, BLAS {blas()}, deepstruct {'installed' if deepstruct else 'not installed'}")
    if args.json:
        pathlib.Path(args.json).write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
