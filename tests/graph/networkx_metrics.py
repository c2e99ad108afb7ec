#!/usr/bin/env python3
"""Writes networkx_metrics.hpp: graphs as edge lists and their metrics by NetworkX and NumPy.

Run with Python 3, networkx (written with 3.6) and numpy:  python3 networkx_metrics.py > networkx_metrics.hpp
The graphs come from fixed seeds, so the same versions write the same file. What NetworkX does not have (path counts,
entropy of degrees, power laws) is computed here in the plainest way. -1 stands for what is not defined.
"""
import math
from collections import Counter

import networkx as nx
import numpy as np


def graphs():
    yield "edge", nx.path_graph(2)
    yield "path", nx.path_graph(30)
    yield "cycle", nx.cycle_graph(17)
    yield "star", nx.star_graph(20)
    yield "complete", nx.complete_graph(12)
    yield "tree", nx.balanced_tree(3, 4)
    yield "grid", nx.grid_2d_graph(6, 9)
    yield "barbell", nx.barbell_graph(8, 5)
    yield "watts_strogatz", nx.watts_strogatz_graph(100, 6, 0.1, seed=1)
    yield "barabasi_albert", nx.barabasi_albert_graph(200, 2, seed=2)
    yield "erdos_renyi", nx.gnp_random_graph(60, 0.03, seed=3)  # not connected
    isolated = nx.gnp_random_graph(20, 0.2, seed=4)
    isolated.add_nodes_from(range(20, 26))
    yield "isolated", isolated
    loops = nx.gnp_random_graph(15, 0.4, seed=5)
    loops.add_edges_from((v, v) for v in (0, 3, 7))
    yield "self_loops", loops
    yield "lattice_dag", nx.DiGraph([e for e in nx.grid_2d_graph(7, 8, create_using=nx.DiGraph).edges if e[0] < e[1]])
    shuffled = np.random.default_rng(6).permutation(40).tolist()  # no order of numbers agrees with the edges
    dag = nx.DiGraph()
    dag.add_nodes_from(range(40))
    dag.add_edges_from((shuffled[u], shuffled[v]) for u, v in nx.gnp_random_graph(40, 0.12, seed=7).edges)
    yield "dag", dag
    strong = nx.gnp_random_graph(50, 0.05, seed=8, directed=True)
    strong.add_edges_from((v, (v + 1) % 50) for v in range(50))
    yield "strong", strong
    yield "weak", nx.gnp_random_graph(50, 0.03, seed=9, directed=True)


def or_undefined(f):
    try:
        return f()
    except (nx.NetworkXException, ZeroDivisionError, ValueError):
        return -1


def path_count(n, edges):
    """Exact number of paths from sources to sinks, or -1 if there is a cycle."""
    dag = nx.DiGraph()
    dag.add_nodes_from(range(n))
    dag.add_edges_from(edges)
    if not nx.is_directed_acyclic_graph(dag):
        return -1
    paths = {}
    for v in nx.topological_sort(dag):
        paths[v] = sum(paths[u] for u in dag.predecessors(v)) or 1
    return sum(paths[v] for v in dag if dag.out_degree(v) == 0)


def entropy(values):
    return -sum(c / len(values) * math.log(c / len(values)) for c in Counter(values).values()) + 0.0


def zeta(alpha, q):
    """Hurwitz zeta and its derivative by alpha: a long sum, then integral and half of the next term."""
    x = q + np.arange(200_000, dtype=float)
    p, end = x**-alpha, x[-1] + 1
    tail, half, log = end ** (1 - alpha), end**-alpha / 2, math.log(end)
    value = p.sum() + tail / (alpha - 1) + half
    slope = -(p * np.log(x)).sum() - tail * (log / (alpha - 1) + (alpha - 1) ** -2) - log * half
    return value, slope


def power_law(values):
    """alpha, x_min and distance after Clauset, Shalizi and Newman (2009); [-1, -1, -1] without two different values."""
    values = np.array([v for v in values if v > 0])
    best = (math.inf,)
    for x_min in sorted(set(values.tolist()))[:-1]:
        tail = values[values >= x_min]
        mean = np.log(tail).mean()
        low, high = 1.0, 64.0
        for _ in range(50):
            alpha = (low + high) / 2
            z, slope = zeta(alpha, x_min)
            low, high = (alpha, high) if -slope / z > mean else (low, alpha)
        if alpha > 60:
            return [-1, -1, -1]  # too steep for this sum
        x = np.arange(x_min, tail.max() + 1)
        model = np.cumsum(x**-alpha) / z
        found = np.array([(tail <= y).mean() for y in x])
        best = min(best, (np.abs(model - found).max(), x_min, alpha))
    return [best[2], best[1], best[0]] if len(best) == 3 else [-1, -1, -1]


def spectral_gap(g):
    a = nx.to_numpy_array(g)
    d = a.sum(axis=1)
    s = np.array([x**-0.5 if x else 0 for x in d])
    return max(0.0, float(np.linalg.eigvalsh(np.diag(d) * np.outer(s, s) - a * np.outer(s, s))[1]))


def number(x):
    return str(x) if isinstance(x, int) else repr(float(x))


def wrapped(words):
    lines, line = [], "   "
    for word in words:
        if len(line) + len(word) + 2 > 120:
            lines.append(line)
            line = "   "
        line += f" {word},"
    return "\n".join([*lines, line])


def array(kind, name, values):
    return f"inline constexpr {kind} {name}[] = {{\n{wrapped(map(number, values))}\n}};"


print(
    """// Graphs and their metrics by NetworkX """
    + nx.__version__
    + """; written by networkx_metrics.py, which says how. Do not edit.
#pragma once

#include <cstdint>
#include <span>

// clang-format off
namespace networkx_metrics {

struct Reference {
  const char* name;
  std::int64_t vertices;
  bool directed;
  std::span<const std::int32_t> edges;  // source, target, source, …
  std::span<const std::int32_t> degrees, in_degrees, out_degrees;
  std::span<const double> clustering, betweenness;
  std::int64_t components;
  double density, average_clustering, transitivity, average_shortest_path_length, diameter, spectral_gap;
  double path_count, log_path_count, degree_entropy, alpha, x_min, ks;  // −1: not defined
};
"""
)
table = []
for name, g in graphs():
    g = nx.convert_node_labels_to_integers(g, ordering="sorted")
    n, directed = g.number_of_nodes(), g.is_directed()
    edges = [(u, v) if directed else (min(u, v), max(u, v)) for u, v in g.edges]
    degrees = [g.degree(v) for v in range(n)]
    clustering, betweenness = nx.clustering(g), nx.betweenness_centrality(g)
    arrays = {
        "edges": ("std::int32_t", [v for e in edges for v in e]),
        "degrees": ("std::int32_t", degrees),
        "in_degrees": ("std::int32_t", [g.in_degree(v) for v in range(n)] if directed else degrees),
        "out_degrees": ("std::int32_t", [g.out_degree(v) for v in range(n)] if directed else degrees),
        "clustering": ("double", [clustering[v] for v in range(n)]),
        "betweenness": ("double", [betweenness[v] for v in range(n)]),
    }
    for key, (kind, values) in arrays.items():
        print(array(kind, f"{name}_{key}", values))
    connected = nx.is_strongly_connected(g) if directed else nx.is_connected(g)
    paths = path_count(n, edges)
    alpha, x_min, ks = power_law(degrees)
    scalars = [
        (nx.number_weakly_connected_components if directed else nx.number_connected_components)(g),
        nx.density(g),
        nx.average_clustering(g),
        -1 if directed else nx.transitivity(g),
        or_undefined(lambda: nx.average_shortest_path_length(g)) if connected else -1,
        or_undefined(lambda: nx.diameter(g)) if connected else -1,
        -1 if directed else spectral_gap(g),
        float(paths),
        math.log(paths) if paths > 0 else -1,
        entropy(degrees),
        alpha,
        x_min,
        ks,
    ]
    assert connected or or_undefined(lambda: nx.average_shortest_path_length(g)) == -1
    fields = [f'"{name}"', str(n), str(directed).lower(), *(f"{name}_{key}" for key in arrays), *map(number, scalars)]
    table.append(f"  {{\n{wrapped(fields)}\n  }},")
print("\ninline constexpr Reference references[] = {")
print("\n".join(table))
print("};\n\n}  // namespace networkx_metrics\n// clang-format on")
