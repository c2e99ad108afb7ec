#!/usr/bin/env python3
"""Rewrites networks with NetworkX: reads dan.graphml and ffn.graphml of the current folder, as
`test_io "[networkx]"` writes them, and writes *_by_networkx.graphml, nodes in another order, next to this script."""
import pathlib
import random

import networkx

random.seed(1)
for name in ["dan", "ffn"]:
    graph = networkx.read_graphml(f"{name}.graphml")
    nodes = list(graph.nodes(data=True))
    random.shuffle(nodes)
    edges = list(graph.edges(data=True))
    random.shuffle(edges)
    shuffled = networkx.DiGraph()
    shuffled.add_nodes_from(nodes)
    shuffled.add_edges_from(edges)
    networkx.write_graphml(shuffled, pathlib.Path(__file__).parent / "data" / f"{name}_by_networkx.graphml")
