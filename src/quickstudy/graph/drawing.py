"""A graph drawn: a small picture for eyes, the same each time.

Shapes: V nodes, E edges, F features of a node.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import require
from quickstudy.modality.thumbnails import dots_and_lines

_MOST = 120
"""Nodes that are drawn: of more, those around the one with most neighbours."""
_COLOURS = (
    "#4c72b0",
    "#dd8452",
    "#55a868",
    "#c44e52",
    "#8172b3",
    "#937860",
    "#da8bc3",
    "#8c8c8c",
    "#ccb974",
    "#64b5cd",
)


def drawn(nodes: NDArray[Any], edges: NDArray[np.int64]) -> bytes:
    """Return a PNG of a graph: nodes where their neighbours are near, each in the colour of its largest feature.

    Args:
        nodes: features, ``[V, F]``.
        edges: ``[E, 2]``.
    """
    networkx: Any = require("networkx", extra="graph")
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(nodes)))
    graph.add_edges_from(edges.tolist())
    if len(nodes) > _MOST:
        start = max(graph.degree, key=lambda pair: (pair[1], -pair[0]))[0]
        near = [start]
        for _, other in networkx.bfs_edges(graph, start):
            if len(near) == _MOST:
                break
            near.append(other)
        graph = graph.subgraph(sorted(near))
    places = networkx.spring_layout(graph, seed=0)
    number = {node: place for place, node in enumerate(graph)}
    lines = np.array([(number[one], number[other]) for one, other in graph.edges], np.int64).reshape(-1, 2)
    kinds = nodes.argmax(1) if nodes.shape[1] > 1 else np.zeros(len(nodes), np.int64)
    colours = [_COLOURS[int(kinds[node]) % len(_COLOURS)] for node in graph]
    spots = np.array([places[node] for node in graph]).reshape(-1, 2)
    return dots_and_lines(spots, lines, colours, min(max(20 / len(spots) ** 0.5, 1.5), 4.5))
