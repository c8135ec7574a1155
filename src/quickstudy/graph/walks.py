"""Where a node stands in its graph: how likely random walks from it are to come back.

Shapes: V nodes, E edges.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from quickstudy.errors import DataError
from quickstudy.graph.reading import Graph

RETURNS = "chance of return"
"""The name of the attribute of nodes."""
_DENSE = 256
"""Nodes of a graph whose matrices are multiplied as they are, which is faster than leaving out what is 0."""
_MOST_WORK = 2 * 10**7
"""Products of numbers for one step, of a graph that is not small: some seconds, and half a gigabyte."""


def with_returns(graph: Graph, steps: int, directed: bool) -> Graph:
    """Return a graph whose nodes are also told how likely a walk is to be back after 2, 3, ... steps, ``[V, steps-1]``.

    A walk goes along any of a node's edges with the same chance. After three steps it is back along a triangle alone:
    networks that pass messages cannot count these. Dwivedi et al. 2022, "Graph Neural Networks with Learnable
    Structural and Positional Representations", https://arxiv.org/abs/2110.07875.

    Args:
        graph: it.
        steps: the longest walk, 2 at least.
        directed: whether edges go one way.

    Raises:
        DataError: it has so many walks that they take too long, as where one node has very many neighbours.
    """
    ends = graph.edges if directed else np.concatenate([graph.edges, graph.edges[:, ::-1]])
    ends = np.unique(ends, axis=0)
    degrees = np.bincount(ends[:, 0], minlength=graph.nodes)
    index, size = torch.from_numpy(ends.T.copy()), (graph.nodes, graph.nodes)
    chances = torch.from_numpy(1 / degrees[ends[:, 0]])
    step = torch.sparse_coo_tensor(index, chances, size, is_coalesced=True, check_invariants=True)
    step = step.to_dense() if graph.nodes <= _DENSE else step
    powers = [step]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")  # which a product goes through
        while 2 * len(powers) < steps:
            if step.is_sparse:
                _check_work(graph, powers, torch.from_numpy(degrees))
            powers.append(powers[-1] @ step)
    found = [_diagonal(powers[(count + 1) // 2 - 1], powers[count // 2 - 1]) for count in range(2, steps + 1)]
    return replace(graph, of_nodes={**graph.of_nodes, RETURNS: torch.stack(found, 1).numpy()})


def _check_work(graph: Graph, powers: list[Tensor], degrees: Tensor) -> None:
    work = int(degrees[powers[-1].coalesce().indices()[1]].sum())
    if work > _MOST_WORK:
        raise DataError(
            f"{graph.name} has too many walks of {len(powers) + 1} steps ({work:,}), as where a node has very many "
            f"neighbours: set walks={2 * len(powers)}, or cut the graph into parts"
        )


def _diagonal(one: Tensor, other: Tensor) -> Tensor:
    """Return the diagonal of the product of two matrices ``[V, V]``, dense or sparse: ``[V]``."""
    if one.is_sparse:
        return torch.sparse.sum(one * other.t(), 1).to_dense()
    return (one * other.T).sum(1)
