"""A graph drawn: a small picture for eyes, the same each time.

Shapes: V nodes, E edges, F features of a node.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from quickstudy.errors import require

_SIDE, _FINER = 96, 4
"""Pixels; and drawn so many times larger first, so that lines are smooth."""
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


def drawing_of(nodes: NDArray[Any], edges: NDArray[np.int64]) -> bytes:
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
    side, margin = _SIDE * _FINER, 8 * _FINER
    places = networkx.spring_layout(graph, seed=0)
    spots = np.array([places[node] for node in graph.nodes]).reshape(-1, 2)
    low, high = spots.min(0), spots.max(0)
    scale = (side - 2 * margin) / max(float((high - low).max()), 1e-9)
    spots = (spots - (low + high) / 2) * scale + side / 2
    at = {node: tuple(spot) for node, spot in zip(graph.nodes, spots.tolist(), strict=True)}
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for one, other in graph.edges:
        draw.line((*at[one], *at[other]), "#9a9a9a", _FINER)
    radius = _FINER * min(max(20 / len(at) ** 0.5, 1.5), 4.5)
    kinds = nodes.argmax(1) if nodes.shape[1] > 1 else np.zeros(len(nodes), np.int64)
    for node, (x, y) in at.items():
        colour = _COLOURS[int(kinds[node]) % len(_COLOURS)]
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    content = io.BytesIO()
    image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS).save(content, "PNG")
    return content.getvalue()
