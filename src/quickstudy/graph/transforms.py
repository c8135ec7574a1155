"""Ready-made augmentation of graphs, by name: ``transform="drop_edges"``.

Each takes and returns one graph as ``Graphs`` reads it; what is dropped is masked.

Shapes: V nodes, E edges.
"""

from __future__ import annotations

from typing import Any

import torch

from quickstudy.batches import Batch
from quickstudy.data.samples import TRANSFORMS

_SHARE = 0.1


def _without_edges(graph: Batch, share: float = _SHARE) -> Batch:
    """Drop edges: both ways of one, or none."""
    ends = graph["edges"]
    count = max(graph["nodes"].shape[0], 1)
    keys = ends.amin(1) * count + ends.amax(1)
    _, pairs = keys.unique(return_inverse=True)
    kept = torch.rand(int(pairs.max()) + 1 if len(pairs) else 0) >= share
    return {**graph, "edge_mask": graph["edge_mask"] & kept[pairs]}


def _without_nodes(graph: Batch, share: float = _SHARE) -> Batch:
    """Drop nodes, but for one at least, and their edges."""
    kept = torch.rand(len(graph["mask"])) >= share
    kept[int(torch.randint(len(kept), ()))] = True
    ends, stay = graph["edges"], graph["edge_mask"] & kept[graph["edges"]].all(1)
    places = kept.cumsum(0) - 1
    edge_parts: dict[str, Any] = {name: graph[name][stay] for name in ("edge_mask", "edge_features") if name in graph}
    return {
        **graph,
        **edge_parts,
        "nodes": graph["nodes"][kept],
        "mask": graph["mask"][kept],
        "edges": places[ends[stay]],
    }


def _without_features(graph: Batch, share: float = _SHARE) -> Batch:
    """Set the features of some nodes to 0."""
    kept = torch.rand(len(graph["mask"])) >= share
    return {**graph, "nodes": graph["nodes"] * kept[:, None].to(graph["nodes"].dtype)}


def _views(graph: Batch) -> Batch:
    """Drop nodes, edges and features: You et al. 2020, https://arxiv.org/abs/2010.13902."""
    return _without_features(_without_edges(_without_nodes(graph, 2 * _SHARE), 2 * _SHARE))


TRANSFORMS.register("drop_edges")(_without_edges)
TRANSFORMS.register("drop_nodes")(_without_nodes)
TRANSFORMS.register("mask_nodes")(_without_features)
TRANSFORMS.register("graph_views")(_views)
