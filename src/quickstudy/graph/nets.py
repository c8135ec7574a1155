"""Networks of graphs, on the layers of PyTorch Geometric.

Shapes: N graphs, V nodes and E edges of each, M nodes of all, F features of a node, D of a vector.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, check_choice, check_counts, require
from quickstudy.nets.registry import BACKBONES
from quickstudy.torch_internals import under_vmap

READS: Mapping[str, Any] = {"name": "graph", "options": {}}
"""What reads their inputs; see ``Modality.described``."""
Norm = Literal["batch", "layer", "none"]
Pooling = Literal["sum", "mean", "root", "max"]


class Packed(NamedTuple):
    """Graphs of a batch, one after the other's nodes: what layers of PyTorch Geometric take."""

    nodes: Tensor
    """Features of the nodes of all graphs, ``[M, F]``."""
    edges: Tensor
    """From which row of these to which, ``[2, edges]``."""
    edge_features: Tensor | None
    """``[edges, G]``; None where there are none."""
    owner: Tensor
    """Of each row the number of its graph, ``[M]``; N for rows that are nothing."""
    graphs: int
    """N."""

    def pooled(self, states: Tensor, pooling: Pooling = "sum") -> Tensor:
        """Return a vector per graph of states ``[M, D]`` of the nodes: ``[N, D]``."""
        of_graphs = states.new_zeros(self.graphs + 1, states.shape[1])
        if pooling == "max":
            index = self.owner[:, None].expand_as(states)
            return of_graphs.scatter_reduce(0, index, states, "amax", include_self=False)[: self.graphs]
        sums = of_graphs.index_add(0, self.owner, states)[: self.graphs]
        if pooling == "sum":
            return sums
        sizes = states.new_zeros(self.graphs + 1).index_add(0, self.owner, states.new_ones(states.shape[0]))
        sizes = sizes[: self.graphs, None].clamp(min=1)
        return sums / (sizes.sqrt() if pooling == "root" else sizes)


def packed(graphs: Batch) -> Packed:
    """Return the nodes of all graphs of a batch, without padding.

    Where shapes may not depend on values, as within ``torch.func.vmap`` and where a graph is exported, padding stays:
    it belongs to no graph, and no edge leads from it to one.

    Args:
        graphs: as ``Graphs`` reads them: ``nodes [N, V, F]``, ``mask [N, V]``, ``edges [N, E, 2]``, ``edge_mask [N,
            E]``, and ``edge_features [N, E, G]`` where they have some.
    """
    mask, edge_mask, features = graphs["mask"], graphs["edge_mask"], graphs.get("edge_features")
    count, most = mask.shape
    rows_N1 = torch.arange(count, device=mask.device)[:, None]
    if torch.compiler.is_compiling() or under_vmap():
        nothing = count * most
        nodes = torch.cat([graphs["nodes"].flatten(0, 1), graphs["nodes"].new_zeros(1, graphs["nodes"].shape[2])])
        edges = torch.where(edge_mask[..., None], graphs["edges"] + rows_N1[..., None] * most, nothing).flatten(0, 1)
        owner = torch.cat([torch.where(mask, rows_N1, count).flatten(), rows_N1.new_full((1,), count)])
        edges = edges.T.contiguous()  # of which layers take a row at a time
        return Packed(nodes, edges, None if features is None else features.flatten(0, 1), owner, count)
    sizes = mask.sum(1)
    begins = (sizes.cumsum(0) - sizes)[:, None, None]
    owner = rows_N1.expand_as(mask)[mask]
    edges = (graphs["edges"] + begins)[edge_mask].T.contiguous()
    return Packed(graphs["nodes"][mask], edges, None if features is None else features[edge_mask], owner, count)


class MessagePassing(nn.Module):
    """Layers in which nodes tell their neighbours, and of all layers what the nodes of a graph have together.

    Args:
        layers: of PyTorch Geometric, each from ``width`` to ``width`` features.
        features: F, of a node.
        edge_features: of an edge, which the layers take; 0: they take none.
        loops: whether the layers are shown an edge from each node to itself.
        width: of a layer.
        norm: behind each layer: ``"batch"`` normalises by the nodes of all graphs of a batch, ``"layer"`` each by
            itself.
        pooling: what becomes of the nodes of a graph: ``"sum"``, ``"mean"``, ``"max"``, or ``"root"``, the sum divided
            by the square root of their number.
        dropout: share of the features that is dropped behind each layer in training.

    Raises:
        ConfigError: an option is out of range.
    """

    reads = READS

    def __init__(
        self,
        layers: Sequence[nn.Module],
        features: int,
        edge_features: int,
        loops: bool,
        width: int,
        norm: Norm,
        pooling: Pooling,
        dropout: float,
    ) -> None:
        check_counts(features=features)
        check_choice("norm", norm, "batch", "layer", "none")
        check_choice("pooling", pooling, "sum", "mean", "root", "max")
        super().__init__()
        self.features, self.edge_features, self.loops, self.pooling = features, edge_features, loops, pooling
        self.first = nn.Linear(features, width)
        self.layers = nn.ModuleList(layers)
        make: Any = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": nn.Identity}[norm]
        self.norms = nn.ModuleList(make(width) for _ in layers)
        self.dropout = nn.Dropout(dropout)
        self.vmap = norm != "batch"
        """Within ``torch.func.vmap`` there is padding, which must not be normalised by."""

    def forward(self, graphs: Batch) -> Tensor:
        """Return ``[N, D]``, D being ``width`` for each layer."""
        self._check(graphs)
        there = packed(graphs)
        edges, about = there.edges, there.edge_features
        if self.loops:
            places = torch.arange(there.nodes.shape[0], device=edges.device)
            edges = torch.cat([edges, places.expand(2, -1)], 1)
            if about is not None:
                about = torch.cat([about, about.new_zeros(there.nodes.shape[0], about.shape[1])])
        states, found = self.first(there.nodes), []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            told = layer(states, edges, about) if self.edge_features else layer(states, edges)
            states = self.dropout(norm(told).relu())
            found.append(states)
        return there.pooled(torch.cat(found, 1), self.pooling)

    def _check(self, graphs: Batch) -> None:
        if isinstance(graphs, Tensor):
            raise ConfigError(
                f"the backbone takes graphs, and this is a tensor of shape {tuple(graphs.shape)}: for pictures name "
                "another, such as 'conv4'"
            )
        found = graphs["nodes"].shape[-1], graphs["edge_features"].shape[-1] if "edge_features" in graphs else 0
        if found[0] != self.features or (self.edge_features and found[1] != self.edge_features):
            raise ConfigError(
                f"the backbone is made for {self.features} features of a node and {self.edge_features} of an edge, and "
                f"these graphs have {found[0]} and {found[1]}: give backbone_kwargs={{'features': {found[0]}, "
                f"'edge_features': {found[1]}}}; data that a task is trained on tells it"
            )


def _layers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, whose end PyTorch Geometric has not heard of
        return require("torch_geometric.nn.conv", extra="graph")


def _perceptron(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


@BACKBONES.register("gin")
def gin(
    features: int = 1,
    edge_features: int = 0,
    width: int = 64,
    layers: int = 4,
    norm: Norm = "layer",
    pooling: Pooling = "root",
    dropout: float = 0.0,
) -> MessagePassing:
    """A node adds up its neighbours and a perceptron follows; that tells most graphs apart. Edges may have features.

    Xu et al. 2019, "How Powerful are Graph Neural Networks?", https://arxiv.org/abs/1810.00826; with features of edges
    Hu et al. 2020, https://arxiv.org/abs/1905.12265. The options are those of ``MessagePassing``.
    """
    check_counts(width=width, layers=layers)
    geometric = _layers()
    made = [
        geometric.GINEConv(_perceptron(width), train_eps=True, edge_dim=edge_features)
        if edge_features
        else geometric.GINConv(_perceptron(width), train_eps=True)
        for _ in range(layers)
    ]
    return MessagePassing(made, features, edge_features, False, width, norm, pooling, dropout)


@BACKBONES.register("gcn")
def gcn(
    features: int = 1,
    width: int = 64,
    layers: int = 4,
    norm: Norm = "layer",
    pooling: Pooling = "mean",
    dropout: float = 0.0,
) -> MessagePassing:
    """A node takes the mean of its neighbours and itself, weighted by their degrees; features of edges are not seen.

    Kipf & Welling 2017, "Semi-Supervised Classification with Graph Convolutional Networks",
    https://arxiv.org/abs/1609.02907. The options are those of ``MessagePassing``.
    """
    check_counts(width=width, layers=layers)
    made = [_ByDegree(_layers().GCNConv(width, width, normalize=False)) for _ in range(layers)]
    return MessagePassing(made, features, 0, True, width, norm, pooling, dropout)


class _ByDegree(nn.Module):
    """Weighs edges by the degrees of both ends; PyTorch Geometric's own way to do so does not pass through vmap."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, states: Tensor, edges: Tensor) -> Tensor:
        degrees = states.new_zeros(states.shape[0]).index_add(0, edges[1], states.new_ones(edges.shape[1]))
        told: Tensor = self.layer(states, edges, (degrees[edges[0]] * degrees[edges[1]]).rsqrt())
        return told


@BACKBONES.register("sage")
def sage(
    features: int = 1,
    width: int = 64,
    layers: int = 4,
    norm: Norm = "layer",
    pooling: Pooling = "mean",
    dropout: float = 0.0,
) -> MessagePassing:
    """A node takes the mean of its neighbours beside itself; features of edges are not seen.

    Hamilton et al. 2017, "Inductive Representation Learning on Large Graphs", https://arxiv.org/abs/1706.02216. The
    options are those of ``MessagePassing``.
    """
    check_counts(width=width, layers=layers)
    made = [_layers().SAGEConv(width, width) for _ in range(layers)]
    return MessagePassing(made, features, 0, False, width, norm, pooling, dropout)


@BACKBONES.register("gat")
def gat(
    features: int = 1,
    edge_features: int = 0,
    width: int = 64,
    layers: int = 4,
    heads: int = 4,
    norm: Norm = "layer",
    pooling: Pooling = "mean",
    dropout: float = 0.0,
) -> MessagePassing:
    """A node attends to its neighbours and itself. Edges may have features.

    Veličković et al. 2018, "Graph Attention Networks", https://arxiv.org/abs/1710.10903

    Args:
        heads: which divide the width.
        features, edge_features, width, layers, norm, pooling, dropout: see ``MessagePassing``.
    """
    check_counts(width=width, layers=layers, heads=heads)
    if width % heads:
        raise ConfigError(f"width={width} is no multiple of heads={heads}: type width={16 * heads}")
    made = [
        _layers().GATConv(width, width // heads, heads, add_self_loops=False, edge_dim=edge_features or None)
        for _ in range(layers)
    ]
    return MessagePassing(made, features, edge_features, True, width, norm, pooling, dropout)


class DegreeHistogram(nn.Module):
    """How many nodes have each degree: no weights, and what other networks must surpass.

    Args:
        degrees: how many are told apart, from 0 on; the last stands for all above.
    """

    reads = READS

    def __init__(self, degrees: int = 16) -> None:
        super().__init__()
        self.degrees = degrees

    def forward(self, graphs: Batch) -> Tensor:
        """Return ``[N, degrees]``."""
        mask, edge_mask = graphs["mask"], graphs["edge_mask"]
        degrees_NV = torch.zeros(mask.shape, dtype=torch.int64, device=mask.device)
        degrees_NV = degrees_NV.scatter_add(1, graphs["edges"][..., 1], edge_mask.long()).clamp(max=self.degrees - 1)
        nothing_ND = graphs["nodes"].new_zeros(len(mask), self.degrees)
        counts_ND: Tensor = nothing_ND.scatter_add(1, degrees_NV, mask.to(nothing_ND.dtype))
        return counts_ND
