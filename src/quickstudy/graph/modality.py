"""What a graph is: from its nodes and edges to features, a list of edges, and masks.

Shapes: V nodes, E edges, F features of a node, G of an edge.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.batches import Batch, is_batch
from quickstudy.data.likeness import digest
from quickstudy.data.samples import Loaded, Sent, listed
from quickstudy.data.table import Inputs
from quickstudy.errors import ConfigError, DataError, DataWarning, check_counts, shown
from quickstudy.graph.drawing import drawn
from quickstudy.graph.reading import EXTENSIONS, Graph, Values, graph_of, is_graph
from quickstudy.graph.walks import RETURNS, with_returns
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.modality.thumbnails import strip_of
from quickstudy.modality.values import Tile
from quickstudy.modality.values import Values as HowTaken

MAX_NODES = 200_000
"""A graph of more is refused where nobody says otherwise."""
_MOST_WORDS, _MOST_DEGREES, _LONGEST_WALK = 1000, 64, 32
"""Of an attribute; rarer words are like those that training did not see. Higher degrees are one."""
_EDGES_A_NODE = 100
"""Edges that a graph may have for each node that it may have."""
_LEARNED_FROM = 10_000
"""Graphs that are looked at, at most."""
_ROUNDS = 3
_WORDS, _NUMBERS = "words", "numbers"

Column = tuple[str, str, tuple[Any, ...], tuple[float, ...]]
"""What is learned of an attribute: its name; whether words or numbers; the words, or means and deviations."""


@MODALITIES.register("graph")
@dataclass(frozen=True)
class Graphs(Modality):
    """A graph as ``{"nodes": float32 [V, F], "mask": bool [V], "edges": int64 [E, 2], "edge_mask": bool [E]}``.

    With features of edges it has ``"edge_features": float32 [E, G]``, too. Numbers of nodes and edges have mean 0 and
    deviation 1 in training, but those that are 0 and 1 alone; each word that training had is a feature of 0 and 1.
    Where nodes have neither, a feature says their degree, how many edges lead to them. An edge goes both ways unless
    graphs are ``directed``, and one that is listed twice, with equal features, counts once.

    It is read from JSON, GraphML or GML; in memory it is a graph of networkx or of PyTorch Geometric, or ``{"nodes":
    3, "edges": [[0, 1], [1, 2]]}``, where ``"nodes"`` may be a list with an entry for each: a word, a number, a list of
    numbers, or attributes by name, and ``"id"`` among them what edges call it by.

    Args:
        directed: whether an edge goes one way, from its first node to its second, and does not count for the first.
        max_nodes: a graph that has more is refused, and one with more than 100 times as many edges.
        walks: nodes are also told how likely random walks of up to so many steps are to come back (``graph.walks``),
            which tells of rings and triangles around them; 0: they are not.
        nodes, edges: what was learned of their attributes; others are not read.
        degrees: how many degrees are told apart where nodes have no attributes; learned.

    Raises:
        ConfigError: an option is out of range.
    """

    called = "graphs"
    extensions = EXTENSIONS
    telling = ("_graph_indicator.txt",)  # of the TU collection
    learned = ("nodes", "edges", "degrees")
    of_network = ("directed", "walks")
    wire = Wire(
        "graphs",
        ("application/json", "application/graphml+xml", "application/xml", "text/xml", "text/plain"),
        {
            "type": "object",
            "properties": {"nodes": {}, "edges": {"type": "array"}},
            "required": ["edges"],
        },
    )
    shown_as = "image/png"
    views = "graph_views"
    backbone = "gin"
    directed: bool = False
    max_nodes: int = MAX_NODES
    walks: int = 0
    nodes: tuple[Column, ...] = field(default=(), repr=False)
    edges: tuple[Column, ...] = field(default=(), repr=False)
    degrees: int = 0

    def __post_init__(self) -> None:
        check_counts(max_nodes=self.max_nodes)
        check_counts(0, degrees=self.degrees, walks=self.walks)
        if self.walks == 1 or self.walks > _LONGEST_WALK:
            raise ConfigError(f"walks={self.walks}: set 2 to {_LONGEST_WALK}, such as 8, or 0 for none")

    @property
    def _has_learned(self) -> bool:
        return bool(self.nodes or self.degrees)

    # ---- reading

    def load(self, item: Any) -> Batch:
        """Return the tensors of a file, as a path, bytes, a file of an archive; or of a graph in memory.

        Raises:
            DataError: it cannot be read, has no nodes or too many, or lacks what training graphs have.
        """
        graph = self._read(item)
        able = self if self._has_learned else self._learned_of([graph])
        ends, about = able._joined(
            graph, [values for _, values in _features(graph.of_edges, able.edges, "edge", graph)]
        )
        parts = [values for _, values in _features(graph.of_nodes, able.nodes, "node", graph)]
        if able.degrees:
            codes = np.bincount(ends[:, 1], minlength=graph.nodes).clip(max=able.degrees - 1)
            parts.insert(0, np.eye(able.degrees)[codes])
        made = {
            "nodes": torch.from_numpy(np.concatenate(parts, 1, dtype=np.float32)),
            "mask": torch.ones(graph.nodes, dtype=torch.bool),
            "edges": torch.from_numpy(ends),
            "edge_mask": torch.ones(len(ends), dtype=torch.bool),
        }
        return made | ({"edge_features": torch.from_numpy(about)} if able.edges else {})

    def _read(self, item: Any) -> Graph:
        graph = graph_of(item)
        if graph.nodes > self.max_nodes:
            raise DataError(
                f"{graph.name} has {graph.nodes:,} nodes; more than {self.max_nodes:,} are refused: cut it into parts",
                f", or set max_nodes={graph.nodes}, if the memory holds it",
            )
        edges = len(graph.edges)
        if edges > _EDGES_A_NODE * self.max_nodes:
            raise DataError(
                f"{graph.name} has {edges:,} edges; more than {_EDGES_A_NODE} for each of max_nodes={self.max_nodes:,} "
                f"are refused: cut it into parts, or set max_nodes={-(-edges // _EDGES_A_NODE)}, if the memory holds it"
            )
        return with_returns(graph, self.walks, self.directed) if self.walks else graph

    def _joined(self, graph: Graph, features: list[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return each edge once, in order, both ways unless directed, ``[E, 2]``; and its features ``[E, G]``."""
        ends = graph.edges
        about = np.concatenate([np.zeros((len(ends), 0)), *features], 1, dtype=np.float32)
        if not self.directed:
            ends, about = np.concatenate([ends, ends[:, ::-1]]), np.concatenate([about, about])
        keys = ends[:, 0] * graph.nodes + ends[:, 1]
        if about.shape[1]:
            order = np.lexsort((*about.T[::-1], keys))
            keys, about = keys[order], about[order]
            new = np.ones(len(keys), np.bool_)
            new[1:] = (keys[1:] != keys[:-1]) | (about[1:] != about[:-1]).any(1)
            keys, about = keys[new], about[new]
        else:
            keys = np.unique(keys)
            about = np.zeros((len(keys), 0), np.float32)
        return np.stack([keys // graph.nodes, keys % graph.nodes], 1), about

    def listed(self, inputs: Any) -> Any:
        """Return graphs as a list: one alone, in a file or in memory, is a list of one; a batch stays as it is."""
        if is_batch(inputs):
            return inputs
        if is_graph(inputs):
            return [graph_of(inputs)]
        if hasattr(inputs, "get_example") or type(inputs).__module__.startswith("torch_geometric"):
            inputs = [inputs[place] for place in range(len(inputs))]  # a data set of PyTorch Geometric
        found = listed(inputs, self.called)
        return self._named(found) if isinstance(found, list) else found

    def _named(self, items: Sequence[Any]) -> list[Any]:
        return [
            graph_of(item, f"graph {row}")
            if is_graph(item) and not isinstance(item, Loaded) and not is_batch(item)
            else item
            for row, item in enumerate(items)
        ]

    def column(self, values: Sequence[Any], root: str | os.PathLike[str] | None = None, exist: bool = True) -> Inputs:
        """Return the files that cells name; or the graphs, where they hold such."""
        if any(isinstance(value, str | os.PathLike) for value in values):
            return super().column(values, root, exist)
        return self._named(list(values))

    @classmethod
    def looks_like_one(cls, value: Any) -> bool:
        """Whether it has edges."""
        return is_graph(value) and not is_batch(value) and (not isinstance(value, Mapping) or "edges" in value)

    # ---- learning

    def fitted(self, inputs: Inputs) -> Self:
        """Return it with the attributes of nodes and edges that the training graphs have; and warn of one-way edges."""
        if self._has_learned or is_batch(inputs):
            return self
        count = len(inputs)
        rows = dict.fromkeys(np.linspace(0, count - 1, min(count, _LEARNED_FROM)).astype(int).tolist())
        graphs = [self._read(_item(inputs, row)) for row in rows]
        one_way = 0 if self.directed else sum(map(_goes_one_way, graphs))
        if one_way:
            warnings.warn(
                f"{one_way} of {len(graphs)} graphs have edges that go one way: each counts both ways. Set "
                "directed=True if its direction matters",
                DataWarning,
                4,
            )
        return self._learned_of(graphs)

    def _learned_of(self, graphs: Sequence[Graph]) -> Self:
        nodes, edges = ([_of(graph, what) for graph in graphs] for what in ("node", "edge"))
        made: dict[str, Any] = {
            "nodes": _learned(nodes, "node", graphs),
            "edges": _learned(
                [of for of, graph in zip(edges, graphs, strict=True) if len(graph.edges)],
                "edge",
                [graph for graph in graphs if len(graph.edges)],
            ),
        }
        if all(name == RETURNS for name, *_ in made["nodes"]):
            highest = max(int(np.bincount(self._joined(graph, [])[0][:, 1], minlength=1).max()) for graph in graphs)
            made["degrees"] = min(highest, _MOST_DEGREES) + 1
        return replace(self, **made)

    def for_backbone(self) -> dict[str, Any]:
        """Return how many features a node has, and an edge."""
        if not self._has_learned:
            return {}
        return {
            "features": self.degrees + sum(map(_width, self.nodes)),
            "edge_features": sum(map(_width, self.edges)),
        }

    # ---- showing, sending

    def show(self, item: Any, example: Batch) -> bytes:
        """Return it drawn, as a small PNG; nodes have the colours of what they are."""
        there, some = example["mask"], example["edge_mask"]
        return drawn(self._without_walks(example["nodes"][there].cpu().numpy()), example["edges"][some].cpu().numpy())

    def sketch(self, item: Any) -> bytes | Tensor:
        """Return what graphs that differ in the order of their nodes alone have in common.

        Weisfeiler & Lehman 1968: a node is told from others by what it is, and by what its neighbours are, and theirs.
        """
        example = item if is_batch(item) else self.load(item)
        nodes = self._without_walks(example["nodes"][example["mask"]].numpy())  # which differ in their last digits
        ends = example["edges"][example["edge_mask"]].numpy()
        about = example["edge_features"].numpy() if "edge_features" in example else np.zeros((len(ends), 0), np.float32)
        kinds, along = _kinds(nodes), _kinds(about)
        for _ in range(_ROUNDS):
            heard = np.zeros_like(kinds)
            np.add.at(heard, ends[:, 1], _mixed(kinds[ends[:, 0]] + along))
            kinds = _mixed(kinds * np.uint64(3) + heard)
        return digest(np.sort(kinds).tobytes(), str(len(ends)).encode())

    def _without_walks(self, nodes: NDArray[np.float32]) -> NDArray[np.float32]:
        return nodes[:, : nodes.shape[1] - self.walks + 1] if self.walks else nodes

    def raw(self) -> tuple[nn.Module, Self]:
        """Return how many of its nodes have each degree."""
        from quickstudy.graph.nets import DegreeHistogram

        return DegreeHistogram(), replace(self, nodes=(), edges=(), degrees=0, walks=0)

    def from_wire(self, content: Any, name: str = "") -> Any:
        """Return the graph in JSON, or what reads like a file of that name; a text is neither, and no path."""
        return Sent(content, name) if isinstance(content, bytes | str) else content

    def within(self, most: int) -> Self:
        """Return it with a limit on the nodes of a graph, a thousandth of that."""
        return replace(self, max_nodes=max(min(self.max_nodes, most // 1000), 1))

    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        """Return graphs of chance: each node joined to one before it, and features of 0 and 1."""
        sizes = self.for_backbone()
        if not sizes and like is None:
            return super().made_up(count, generator, like)
        nodes = 8 if like is None else like["nodes"].shape[1]
        features = sizes["features"] if like is None else like["nodes"].shape[2]
        edge_features = (
            sizes["edge_features"] if like is None else like.get("edge_features", torch.zeros(1, 1, 0)).shape[2]
        )
        child = torch.arange(1, nodes)
        parent = (torch.rand(count, nodes - 1, generator=generator) * child).long()
        ends = torch.stack(
            [torch.cat([child.expand(count, -1), parent], 1), torch.cat([parent, child.expand(count, -1)], 1)], 2
        )
        made = {
            "nodes": torch.rand(count, nodes, features, generator=generator).round(),
            "mask": torch.ones(count, nodes, dtype=torch.bool),
            "edges": ends,
            "edge_mask": torch.ones(ends.shape[:2], dtype=torch.bool),
        }
        if edge_features:
            made["edge_features"] = torch.rand(*ends.shape[:2], edge_features, generator=generator).round()
        return made

    def free_axes(self) -> dict[str, dict[int, str]]:
        """Return that a graph has any number of nodes and of edges."""
        axes = {"nodes": {1: "V"}, "mask": {1: "V"}, "edges": {1: "E"}, "edge_mask": {1: "E"}}
        return axes | ({"edge_features": {1: "E"}} if self.edges else {})

    def recipe(self) -> dict[str, Any]:
        """Return the features of a node and of an edge in their order, and how edges go."""
        told: dict[str, Any] = {"directed": self.directed, "edges": "each once, from [:, 0] to [:, 1]"}
        told |= {"walks": self.walks} if self.walks else {}
        if not self.directed:
            told["edges"] = "each once, and once the other way"
        for what, columns in (("node_features", self.nodes), ("edge_features", self.edges)):
            told[what] = [
                {"attribute": name, "one_hot": list(first)}
                if kind == _WORDS
                else {"attribute": name, "mean": list(first), "deviation": list(second)}
                for name, kind, first, second in columns
            ]
        if self.degrees:
            told["node_features"].insert(0, {"one_hot": "degree", "count": self.degrees})
        return told

    def values(self, encoder: Any) -> HowTaken:
        """Return how they are taken: as they are."""
        return GraphValues(self, encoder)


class GraphValues(HowTaken):
    """Graphs as they are."""

    def beside(self, tiles: Sequence[Tile]) -> Any:
        """Return a strip of graphs with their captions."""
        return strip_of(tiles)


def _item(inputs: Inputs, row: int) -> Any:
    item = inputs[row]
    return item.item if isinstance(item, Loaded) else item


def _of(graph: Graph, what: str) -> Values:
    return graph.of_nodes if what == "node" else graph.of_edges


def _goes_one_way(graph: Graph) -> bool:
    """Whether a graph that says that its edges have a direction has such as do not go both ways."""
    if not graph.directed:
        return False
    keys, other = (np.unique(ends[:, 0] * graph.nodes + ends[:, 1]) for ends in (graph.edges, graph.edges[:, ::-1]))
    return not np.array_equal(keys, other)


def _width(column: Column) -> int:
    return len(column[2])


def _learned(found: Sequence[Values], what: str, graphs: Sequence[Graph]) -> tuple[Column, ...]:
    """Return what the attributes of some graphs are; what not all of them have is left out, with a warning."""
    names = dict.fromkeys(name for values in found for name in values)
    everywhere = [name for name in names if all(name in values for values in found)]
    if left := [name for name in names if name not in everywhere]:
        lacking = next(graph.name for graph, values in zip(graphs, found, strict=True) if left[0] not in values)
        warnings.warn(
            f"attributes of {what}s that not all graphs have are not used: {shown(left)}, which {lacking} lacks",
            DataWarning,
            5,
        )
    made = []
    for name in everywhere:
        columns = [values[name] for values in found]
        for graph, column in zip(graphs, columns, strict=True):
            if _form(column) != _form(columns[0]):
                raise DataError(_differs(graph, what, name, _form(column), f"{graphs[0].name} has", _form(columns[0])))
        whole = np.concatenate(columns)
        if whole.ndim == 1:
            counts = Counter(whole.tolist())
            counts.pop("", None)
            kept = sorted(sorted(counts), key=lambda word: -counts[word])[:_MOST_WORDS]
            made.append((name, _WORDS, tuple(sorted(kept)), ()))
        elif whole.shape[1]:
            mean, deviation = whole.mean(0), whole.std(0)
            flags = ((whole == 0) | (whole == 1)).all(0)
            mean[flags], deviation[flags | (deviation == 0)] = 0, 1
            made.append((name, _NUMBERS, tuple(mean.tolist()), tuple(deviation.tolist())))
    return tuple(column for column in made if _width(column))


def _form(column: NDArray[Any]) -> str:
    return "words" if column.ndim == 1 else f"{column.shape[1]} number{'s' * (column.shape[1] != 1)}"


def _differs(graph: Graph, what: str, name: str, form: str, whose: str, other: str) -> str:
    return f"{graph.name} has {form} in '{name}' of its {what}s, where {whose} {other}: all graphs must agree"


def _features(
    values: Values, columns: Sequence[Column], what: str, graph: Graph
) -> list[tuple[str, NDArray[np.float64]]]:
    """Return what a network is shown of the nodes of a graph, or of its edges."""
    count, found = graph.nodes if what == "node" else len(graph.edges), []
    for name, kind, first, second in columns:
        if name not in values:
            if not count:
                found.append((name, np.zeros((0, len(first)))))
                continue
            have = f"; they have {shown(values)}" if values else ""
            one = first[0] if kind == _WORDS else [0.5] * len(first) if len(first) > 1 else 0.5
            raise DataError(
                f"{what}s of {graph.name} lack '{name}', which training graphs have{have}. Give each {what} its own, "
                f"such as {{'{name}': {one!r}}}; in networkx networkx.set_{what}_attributes(graph, {one!r}, '{name}') "
                "gives all the same"
            )
        column = values[name]
        learned = "words" if kind == _WORDS else f"{len(first)} number{'s' * (len(first) != 1)}"
        if _form(column) != learned and count:
            raise DataError(_differs(graph, what, name, _form(column), "training graphs have", learned))
        if kind == _WORDS:
            codes = {word: place for place, word in enumerate(first)}
            one_hot = np.zeros((count, len(first) + 1))
            one_hot[np.arange(count), [codes.get(word, len(first)) for word in column.tolist()]] = 1
            found.append((name, one_hot[:, :-1]))
        else:
            found.append((name, (column.reshape(count, len(first)) - np.array(first)) / np.array(second)))
    return found


def _kinds(rows: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return numbers of rows, equal where these are."""
    if not rows.shape[1]:
        return np.zeros(len(rows), np.uint64)
    unique, places = np.unique(rows + np.float32(0), axis=0, return_inverse=True)
    numbers = np.array([int.from_bytes(digest(row.tobytes())[:8], "little") for row in unique], np.uint64)
    kinds: NDArray[np.uint64] = numbers[places.reshape(-1)]
    return kinds


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return other numbers, far apart: splitmix64, https://doi.org/10.1145/2660193.2660195."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    far: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return far
