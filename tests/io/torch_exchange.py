#!/usr/bin/env python3
"""Networks exchanged with PyTorch, both ways, as safetensors files.

Needs: python3 -m venv build/exchange && build/exchange/bin/pip install torch numpy safetensors

  torch_exchange.py make     writes tests/io/data/torch_*.safetensors, which tests/io/state_dict.cpp reads
  torch_exchange.py check D  checks the files that the library wrote to the folder D, by hand after the tests with
      build/exchange/bin/python tests/io/torch_exchange.py check build/dev/tests/exchange

Every file holds a state_dict, the input exchange.input and what the network makes of it, exchange.output.
"""
import pathlib
import sys

import numpy
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

DATA = pathlib.Path(__file__).parent / "data"


class MaskedLinear(nn.Linear):
    """Python deepstruct's layer: the weight times a mask that is a buffer."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.register_buffer("_mask", torch.ones(outputs, inputs, dtype=torch.bool))

    def forward(self, x):
        return nn.functional.linear(x, self.weight * self._mask, self.bias)


class FFN(nn.Module):
    """MaskedDeepFFN with layer norm; the first layer is never normalised."""

    def __init__(self, inputs, outputs, hidden, linear=MaskedLinear):
        super().__init__()
        self._layer_first = linear(inputs, hidden[0])
        self._layers_hidden = nn.ModuleList()
        for a, b in zip(hidden, hidden[1:]):
            self._layers_hidden.extend([linear(a, b), nn.LayerNorm(b), nn.ReLU()])
        self._layer_out = linear(hidden[-1], outputs)

    def forward(self, x):
        h = torch.relu(self._layer_first(x.flatten(1)))
        for module in self._layers_hidden:
            h = module(h)
        return self._layer_out(h)


class DAN(nn.Module):
    """MaskedDeepDAN: a masked layer and a ReLU for every pair of connected layers of the graph."""

    def __init__(self, inputs, outputs, edges, use_layer_norm=False, linear=MaskedLinear):
        super().__init__()
        vertices = 1 + max(max(e) for e in edges)
        layer = [0] * vertices
        for u, v in sorted(edges, key=lambda e: e[1]):  # sources have smaller numbers
            layer[v] = max(layer[v], layer[u] + 1)
        layers = [[v for v in range(vertices) if layer[v] == l] for l in range(max(layer) + 1)]
        mask = lambda s, t: torch.tensor([[(u, v) in edges for u in layers[s]] for v in layers[t]])
        self.layer_first = linear(inputs, len(layers[0]))
        self.layers_main_hidden = nn.ModuleList(linear(len(a), len(b)) for a, b in zip(layers, layers[1:]))
        self.layer_normalizations = nn.ModuleList(nn.LayerNorm(len(l)) for l in layers) if use_layer_norm else []
        self.layers_skip_hidden = nn.ModuleList()
        self.skips = []
        for t in range(1, len(layers)):
            self.layers_main_hidden[t - 1]._mask = mask(t - 1, t)
            for s in range(t - 1):
                if mask(s, t).any():
                    self.layers_skip_hidden.append(linear(len(layers[s]), len(layers[t])))
                    self.layers_skip_hidden[-1]._mask = mask(s, t)
                    self.skips.append((s, t))
        self.layer_out = linear(len(layers[-1]), outputs)

    def forward(self, x):
        h = [torch.relu(self.layer_first(x.flatten(1)))]
        for t, main in enumerate(self.layers_main_hidden, 1):
            now = main(h[-1])
            if len(self.layer_normalizations):
                now = self.layer_normalizations[t](now)
            now = torch.relu(now)
            for (s, target), skip in zip(self.skips, self.layers_skip_hidden):
                if target == t:
                    now = now + torch.relu(skip(h[s]))
            h.append(now)
        return self.layer_out(h[-1])


EDGES = {(0, 2), (1, 2), (1, 3), (0, 4), (2, 4), (3, 5), (0, 5), (4, 6), (1, 6), (5, 7), (4, 7), (3, 7)}


def plain():
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4), nn.Tanh(), nn.Linear(4, 2, bias=False))


def batch_norm():
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


class MaskedConv2d(nn.Conv2d):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.register_buffer("_mask", torch.ones(self.weight.shape, dtype=torch.bool))

    def forward(self, x):
        return self._conv_forward(x, self.weight * self._mask, self.bias)


def conv():
    return nn.Sequential(MaskedConv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(4, 6, (3, 2), stride=(1, 2), bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
                         nn.Linear(12, 3))


def randomised(model):
    """Other statistics than those of a new batch norm, and normalised layers that do not start as the identity."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 1.5)
                module.num_batches_tracked.fill_(17)
    return model.eval()


def pruned(model, density=0.5):
    """Masks in part, and weights that let signals through."""
    for module in model.modules():
        if isinstance(module, (MaskedLinear, MaskedConv2d)):
            nn.init.uniform_(module.weight, -1, 1)
            module._mask = module._mask & (torch.rand(module._mask.shape) < density)
    return model


def write(name, model, x, dtype=None):
    with torch.no_grad():
        state = {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in model.state_dict().items()}
        model.load_state_dict(state)  # rounded
        state = {**state, "exchange.input": x, "exchange.output": model(x)}
    safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, DATA / f"torch_{name}.safetensors",
                                metadata={"format": "pt"})


def make():
    DATA.mkdir(exist_ok=True)
    torch.manual_seed(1)
    x = torch.randn(3, 5)
    write("plain", plain(), x)
    write("plain_f64", plain(), x, torch.float64)
    write("plain_f16", plain(), x, torch.float16)
    write("plain_bf16", plain(), x, torch.bfloat16)
    write("ffn", randomised(pruned(FFN(5, 3, [6, 5, 4]))), x)
    write("ffn_unmasked", randomised(FFN(5, 3, [6, 5], linear=nn.Linear)), x)
    write("dan", pruned(DAN(5, 3, EDGES), 0.8), x)
    write("dan_norm", randomised(pruned(DAN(5, 3, EDGES, use_layer_norm=True), 0.9)), x)
    write("batch_norm", randomised(batch_norm()), x)
    write("conv", randomised(pruned(conv())), torch.randn(2, 2, 6, 8))

    types = {
        "f64": torch.tensor([0.1, -2.5, float("inf")], dtype=torch.float64),
        "f32": torch.tensor([[0.1, -2.5, 3e38]]),
        "f16": torch.tensor([0.1, -0.0, 65504, 6e-8, float("-inf"), 6.1e-5], dtype=torch.float16),
        "bf16": torch.tensor([0.1, -2.5, 3e38, 1e-40], dtype=torch.bfloat16),
        "i64": torch.tensor([2**40, -1, 7]),
        "i32": torch.tensor([2**31 - 1, -(2**31)], dtype=torch.int32),
        "i16": torch.tensor([-32768, 32767], dtype=torch.int16),
        "i8": torch.tensor([-128, 127, 0], dtype=torch.int8),
        "u8": torch.tensor([255, 0, 1], dtype=torch.uint8),
        "bool": torch.tensor([[True, False, True]]),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(0.1),
        "name with \"quotes\", ä and \\": torch.tensor([1.0]),
    }
    safetensors.torch.save_file(types, DATA / "torch_types.safetensors", metadata={"format": "pt"})
    unsigned = {f"u{8 * b}": numpy.array([0, 2 ** (8 * b) - 1], dtype=f"uint{8 * b}") for b in (2, 4, 8)}
    safetensors.numpy.save_file(unsigned, DATA / "numpy_types.safetensors")
    safetensors.numpy.save_file({}, DATA / "numpy_empty.safetensors")
    for path in DATA.glob("*.safetensors"):
        path.chmod(0o644)


def check(folder):
    def state_of(name):
        state = safetensors.torch.load_file(folder / f"{name}.safetensors")
        numbers = safetensors.numpy.load_file(folder / f"{name}.safetensors")
        assert all((numbers[k] == v.numpy()).all() for k, v in state.items()), name
        return state, state.pop("exchange.input"), state.pop("exchange.output")

    def compare(name, model):
        state, x, y = state_of(name)
        model.load_state_dict(state, strict=True)
        worst = (model.eval()(x) - y).abs().max().item()
        assert worst < 1e-5, (name, worst)
        print(f"{name}: outputs differ by at most {worst:.1e}")

    with torch.no_grad():
        compare("plain", plain())
        compare("batch_norm", batch_norm())
        compare("ffn_packed", FFN(5, 3, [6, 5, 4]))
        compare("ffn_full", FFN(5, 3, [6, 5, 4]))
        compare("ffn_no_masks", FFN(5, 3, [6, 5, 4], linear=nn.Linear))
        compare("dan_packed", DAN(5, 3, EDGES))
        compare("dan_norm", DAN(5, 3, EDGES, use_layer_norm=True))
        compare("conv", conv())

        # A checkpoint as it is: packed weights are CSR matrices.
        state, x, y = state_of("checkpoint")
        with safetensors.safe_open(folder / "checkpoint.safetensors", "np") as file:
            metadata = file.metadata()
        assert metadata["deepstruct.model"] == "MaskedDeepFFN" and metadata["deepstruct.training.optimizer"] == "Adam"

        def linear(name, h):
            start, column, value = (state[f"{name}.weight.{part}"] for part in ("indptr", "indices", "values"))
            width = int(state[f"structure.{name}"][0])
            dense = torch.sparse_csr_tensor(start, column, value, (len(start) - 1, width)).to_dense()
            return h @ dense.T + state[f"{name}.bias"]

        h = torch.relu(linear("_layer_first", x))
        h = torch.relu(linear("_layers_hidden.0", h))
        worst = (linear("_layer_out", h) - y).abs().max().item()
        assert worst < 1e-5, worst
        print(f"checkpoint: outputs differ by at most {worst:.1e}")


if __name__ == "__main__":
    if sys.argv[1:] == ["make"]:
        make()
    elif len(sys.argv) == 3 and sys.argv[1] == "check":
        check(pathlib.Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
