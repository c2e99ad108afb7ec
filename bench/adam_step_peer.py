#!/usr/bin/env python3
"""The peer of adam_step.cpp: the same training step in PyTorch with weight * mask, as Python deepstruct does it.

--make DIR writes weights, masks and inputs, and the losses of the first steps in double precision; --problem DIR checks
this library's float32 losses against them, then times the step.
"""
import argparse
import json
import pathlib
import statistics
import sys
import time

import numpy as np
import torch

WIDTHS = [784, 300, 100, 10]
BATCH = 128
BATCHES = 8
CHECKED_STEPS = 3
TOLERANCE = 2e-5  # of the loss


class MaskedLinear(torch.nn.Linear):
    def __init__(self, weight, bias, mask):
        super().__init__(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        self.weight.data.copy_(weight)
        self.bias.data.copy_(bias)
        self.register_buffer("mask", mask)

    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight * self.mask, self.bias)


class Training:
    """A model with its optimizer, and the data it steps through."""

    def __init__(self, folder, density, dtype, foreach):
        def load(path):
            return torch.from_numpy(np.load(path))

        own = folder / density
        layers = []
        for k in range(len(WIDTHS) - 1):
            if k > 0:
                layers.append(torch.nn.ReLU())
            layers.append(MaskedLinear(*(load(own / f"{name}_{k}.npy").to(dtype) for name in ("weight", "bias", "mask"))))
        self.model = torch.nn.Sequential(*layers)
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

    def first_losses(self):
        return np.array([self.step().item() for _ in range(CHECKED_STEPS)])


def make(folder, densities):
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(BATCHES):
        np.save(folder / f"x_{k}.npy", rng.standard_normal((BATCH, WIDTHS[0]), dtype=np.float32))
        np.save(folder / f"y_{k}.npy", rng.integers(0, WIDTHS[-1], BATCH, dtype=np.int32))
    for density in densities:
        own = folder / density
        own.mkdir(exist_ok=True)
        for k, (width, out) in enumerate(zip(WIDTHS, WIDTHS[1:])):
            bound = np.sqrt(6 / (width * float(density)))
            np.save(own / f"weight_{k}.npy", rng.uniform(-bound, bound, (out, width)).astype(np.float32))
            np.save(own / f"bias_{k}.npy", rng.uniform(-0.1, 0.1, out).astype(np.float32))
            np.save(own / f"mask_{k}.npy", rng.random((out, width)) < float(density))
        np.save(own / "losses.npy", Training(folder, density, torch.float64, False).first_losses())


def measure(step, repeats, warm_seconds=0.3):
    """Median and median distance from it, in microseconds."""
    start = time.perf_counter()
    while time.perf_counter() - start < warm_seconds:
        step()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step()
        times.append((time.perf_counter() - begin) * 1e6)
    median = statistics.median(times)
    return median, statistics.median(abs(t - median) for t in times)


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
    parser.add_argument("--density", default="1,0.5,0.1,0.05,0.01")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    densities = args.density.split(",")
    if args.make:
        make(args.make, densities)
    if not args.problem:
        return 0

    print(f"PyTorch {torch.__version__}, BLAS: {blas()}")
    rows = []
    for density in densities:
        wanted = np.load(args.problem / density / "losses.npy")
        timings = []
        for foreach in (False, True):  # Adam parameter by parameter or over all at once: the faster one counts
            training = Training(args.problem, density, torch.float32, foreach)
            error = np.abs(training.first_losses() - wanted)
            if not np.all(error <= TOLERANCE * wanted):
                sys.exit(f"adam_step_peer: wrong losses at density {density} (errors {error})")
            timings.append(measure(training.step, args.repeats))
        median, spread = min(timings)
        rows.append({"case": "adam_step", "model": "784-300-100-10", "batch": BATCH, "density": float(density),
                     "threads": args.threads, "peer": "pytorch_masked", "peer_us": median, "peer_spread_us": spread,
                     "peer_max_abs_err": float(error.max())})
        print(f"density {density:>5}  threads {args.threads}  {median:9.1f} us  spread {spread:7.1f}  max_abs_err {error.max():.1e}")
    if args.json:
        pathlib.Path(args.json).write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
