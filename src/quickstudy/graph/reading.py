"""A graph as users have it, of any form, to one record: networkx, PyTorch Geometric, JSON, GraphML, GML.

Shapes: V nodes, E edges, P numbers of an attribute.
"""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.samples import content_of, file_content, named
from quickstudy.errors import DataError, DataWarning, brief, one_line, require, shown

EXTENSIONS = frozenset((".json", ".graphml", ".gml"))
Values = Mapping[str, NDArray[Any]]
"""Attributes by name: numbers, float64 ``[V, P]``, or words, ``[V]`` of strings."""
_EXPECTED = (
    "a graph: a file, a graph of networkx or of PyTorch Geometric, or {'nodes': 3, 'edges': [[0, 1], [1, 2]]}, where "
    "'nodes' may be a list with an entry for each"
)


_TABLES = "GraphClassificationData.from_tables(train_edges=, train_graphs=)"
_AN_ID = "give a word or a number"
_GML = re.compile(rb"\bgraph\s*\[")


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph as it was found."""

    nodes: int
    """V."""
    edges: NDArray[np.int64] = field(repr=False)
    """From which node to which, numbered from 0 on, ``[E, 2]``."""
    of_nodes: Values = field(default_factory=dict, repr=False)
    of_edges: Values = field(default_factory=dict, repr=False)
    directed: bool | None = None
    """None: nobody says."""
    name: str = "the graph"
    """For messages."""

    def as_bytes(self) -> list[bytes]:
        """Return what tells it from others: all but its name."""
        parts = [repr((self.nodes, self.directed)).encode(), np.ascontiguousarray(self.edges).tobytes()]
        for values in (self.of_nodes, self.of_edges):
            for name, column in sorted(values.items()):
                words = column.ndim == 1
                parts += [name.encode(), repr(column.tolist()).encode() if words else column.tobytes()]
        return parts


def is_graph(item: Any) -> bool:
    """Whether it is one graph in memory, of any form, and not several."""
    return isinstance(item, (Graph, Mapping)) or hasattr(item, "edge_index") or hasattr(item, "is_directed")


def graph_of(item: Any, name: str = "") -> Graph:
    """Return a graph of any form.

    Args:
        item: a path, bytes, a file of an archive, or a graph in memory.
        name: of it, for messages.

    Raises:
        DataError: it is none, or is damaged; the message names it.
    """
    if isinstance(item, Graph):
        return item
    if isinstance(item, Mapping):
        return _of_json(item, name or "the graph")
    if hasattr(item, "is_directed") and hasattr(item, "edges"):
        return _of_networkx(item, name or _own_name(item) or "the graph")
    if hasattr(item, "edge_index"):
        return _of_geometric(item, name or "the graph")
    item = content_of(item)
    name = name or (f"the graph of {len(item)} bytes" if isinstance(item, bytes) else named(item))
    return _of_file(file_content(item, name, _EXPECTED), name, _ending(item))


def _own_name(graph: Any) -> str:
    name = getattr(graph, "name", "")
    return f"the graph '{one_line(name)}'" if name else ""


def _ending(item: Any) -> str:
    return "" if isinstance(item, bytes) else str(item).lower().rpartition(".")[2]


# ---- files


def _of_file(content: bytes, name: str, ending: str) -> Graph:
    start = content[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not content.strip():
        raise DataError(f"{name} is empty: replace the file, or leave it out")
    if start.startswith((b"{", b"[")):
        try:
            return _of_json(json.loads(content), name)
        except (ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{name} is no JSON: {one_line(error)}. Replace the file") from error
    networkx: Any = require("networkx", extra="graph")
    xml = start.startswith(b"<")
    if not xml and ending != "gml" and not _GML.search(content):
        table = ending in ("csv", "tsv") or b"," in start.partition(b"\n")[0]
        tables = f". A table of edges is read by {_TABLES}" if table else ""
        raise DataError(f"{name} is no graph: expected JSON, GraphML or GML, as {_writes()}{tables}")
    try:
        if xml:
            return _of_networkx(networkx.read_graphml(io.BytesIO(content)), name)
        return _of_networkx(networkx.parse_gml(content.decode("utf-8-sig"), label=None), name)
    except DataError:
        raise
    except Exception as error:  # networkx and its parsers raise almost anything
        kind = "GraphML" if xml else "GML"
        raise DataError(
            f"{name} is no {kind} that networkx reads: {one_line(error)}. Write it anew, {_writes()}"
        ) from (error)


def _writes() -> str:
    return "networkx.write_graphml(graph, path) does"


# ---- in memory


def _of_networkx(graph: Any, name: str) -> Graph:
    places = {node: place for place, node in enumerate(graph.nodes)}
    nodes = [about for _, about in graph.nodes(data=True)]
    found = list(graph.edges(data=True))
    ends = [(places[one], places[other]) for one, other, _ in found]
    return _made(nodes, ends, [about for *_, about in found], graph.is_directed(), name)


def _of_geometric(data: Any, name: str) -> Graph:
    """Read a ``Data`` of PyTorch Geometric: its ``x``, ``edge_index``, ``edge_attr`` and ``edge_weight``."""
    index = _array(data.edge_index, name, "edge_index")
    if index.ndim != 2 or index.shape[0] != 2 or index.dtype.kind not in "iu":
        raise DataError(f"{name} has an edge_index of {index.dtype} and shape {index.shape}: it must be [2, E], int64")
    x, about = getattr(data, "x", None), getattr(data, "edge_attr", None)
    count = int(getattr(data, "num_nodes", None) or (0 if x is None else len(x)))
    of_nodes = {} if x is None else {"x": _numbers(_array(x, name, "x"), count, "node", "x", name)}
    of_edges = (
        {}
        if about is None
        else {"edge_attr": _numbers(_array(about, name, "edge_attr"), index.shape[1], "edge", "edge_attr", name)}
    )
    if (weights := getattr(data, "edge_weight", None)) is not None:
        weights = _numbers(_array(weights, name, "edge_weight"), index.shape[1], "edge", "edge_weight", name)
        of_edges["edge_weight"] = weights
    if left := [one for one in ("pos", "z") if getattr(data, one, None) is not None]:
        warnings.warn(
            f"graphs of PyTorch Geometric have {' and '.join(left)}, which are not read: put them into x, where the "
            "network is to know them",
            DataWarning,
            stacklevel=2,
        )
    # Whether edges have a direction it does not say: they have where they do not go both ways.
    return _checked(Graph(count, index.T.astype(np.int64), of_nodes, of_edges, True, name))


def _of_json(value: Any, name: str) -> Graph:
    """Read ``{"nodes": ..., "edges": ...}``, as JSON or networkx's ``node_link_data`` has it."""
    if not isinstance(value, Mapping):
        raise DataError(f"{name} is {brief(value)}: expected {_EXPECTED}")
    _check_names(value, name)
    edges = value.get("edges", value.get("links"))
    if edges is None:
        have = f"it has the keys {shown(value)}" if value else "it has nothing"
        raise DataError(f"{name} has no 'edges', [] where there are none; {have}. Expected {_EXPECTED}")
    nodes = value.get("nodes")
    directed = value.get("directed")
    if directed is not None and not isinstance(directed, bool):
        raise DataError(f"{name} says 'directed': {brief(directed)}: it must be true or false")
    ends, about = _ends(edges, name)
    if nodes is None:
        nodes = _ids_of(ends, name)
    if isinstance(nodes, Integral) and not isinstance(nodes, bool):
        return _made(int(nodes), ends, about, directed, name)
    if isinstance(nodes, Mapping):
        nodes = [
            {"id": key, **(value if isinstance(value, Mapping) else {"value": value})} for key, value in nodes.items()
        ]
    if isinstance(nodes, (Tensor, np.ndarray)):
        nodes = _array(nodes, name, "nodes").tolist()
    if isinstance(nodes, (str, bytes)) or not isinstance(nodes, Sequence):
        raise DataError(f"{name} has 'nodes': {brief(nodes)}: give how many, or a list with an entry for each")
    records = [_record(entry, "node", place, name) for place, entry in enumerate(nodes)]
    if any("id" in record for record in records):
        places: dict[Any, int] = {}
        for place, record in enumerate(records):
            if "id" not in record:
                raise DataError(f"node {place} of {name} has no 'id', and others have: give each one, or none")
            key = _key(record.pop("id"))
            if not _is_id(key):
                raise DataError(f"node {place} of {name} has the id {brief(key)}: {_AN_ID}")
            if key in places:
                raise DataError(f"nodes {places[key]} and {place} of {name} have one id, {brief(key)}")
            places[key] = place
        ends = [_placed(end, places, place, name) for place, end in enumerate(ends)]
    return _made(records, ends, about, directed, name)


def _key(value: Any) -> Any:
    return tuple(map(_key, value)) if isinstance(value, list) else value


def _all_whole(ends: Iterable[tuple[Any, Any]]) -> bool:
    return all(isinstance(one, Integral) and not isinstance(one, bool) for end in ends for one in end)


def _is_id(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def _check_names(value: Mapping[str, Any], name: str) -> None:
    """Check that no part of a graph is called by nearly its name, and is left out for that.

    Raises:
        DataError: one is.
    """
    for part in ("nodes", "edges"):
        meant = [key for key in value if isinstance(key, str) and key.lower().rstrip("s") == part.rstrip("s")]
        if part not in value and meant and not (part == "edges" and "links" in value):
            raise DataError(f"{name} has '{meant[0]}', which is not read: call it '{part}'")


def _ids_of(ends: Sequence[tuple[Any, Any]], name: str) -> list[dict[str, Any]]:
    """Return the nodes that edges join; numbers in their order, and those between them are no nodes."""
    for row, end in enumerate(ends):
        for one in end:
            if not _is_id(_key(one)):
                raise DataError(f"edge {row} of {name} joins {brief(one)}, which calls no node: {_AN_ID}")
    found = dict.fromkeys(_key(one) for end in ends for one in end)
    return [{"id": key} for key in (sorted(found) if _all_whole(ends) else found)]


def _placed(end: tuple[Any, Any], places: Mapping[Any, int], row: int, name: str) -> tuple[int, int]:
    for one in end:
        if not _is_id(_key(one)):
            raise DataError(f"edge {row} of {name} joins {brief(one)}, which calls no node: {_AN_ID}")
        if _key(one) not in places:
            raise DataError(
                f"edge {row} of {name} joins {brief(end[0])} and {brief(end[1])}, and no node has the id {brief(one)}; "
                f"there are {shown(places)}"
            )
    return places[_key(end[0])], places[_key(end[1])]


def _ends(edges: Any, name: str) -> tuple[list[tuple[Any, Any]], list[dict[str, Any]]]:
    """Return which two nodes each edge joins, and what is told of each."""
    if isinstance(edges, (Tensor, np.ndarray)):
        array = _array(edges, name, "edges")
        if array.ndim != 2 or (len(array) and array.shape[1] != 2):
            turned = ": turn it, edges.T" if array.ndim == 2 and array.shape[0] == 2 else ""
            raise DataError(f"{name} has edges of shape {array.shape}, and not [E, 2]{turned}")
        edges = array.tolist()
    if isinstance(edges, (str, bytes, Mapping)) or not isinstance(edges, Sequence):
        raise DataError(f"{name} has 'edges': {brief(edges)}: give a list of pairs, [[0, 1], [1, 2]]")
    ends, about = [], []
    for row, edge in enumerate(edges):
        if isinstance(edge, Mapping) and {"source", "target"} <= edge.keys():
            ends.append((edge["source"], edge["target"]))
            about.append({key: value for key, value in edge.items() if key not in ("source", "target", "key")})
        elif isinstance(edge, Sequence) and not isinstance(edge, (str, bytes)) and len(edge) in (2, 3):
            ends.append((edge[0], edge[1]))
            about.append(_record(edge[2], "edge", row, name) if len(edge) == 3 else {})
        else:
            raise DataError(
                f"edge {row} of {name} is {brief(edge)}: give a pair [0, 1], with a third for what is told of it, or "
                "{'source': 0, 'target': 1}"
            )
    return ends, about


def _record(entry: Any, what: str, place: int, name: str) -> dict[str, Any]:
    """Return what is told of a node or an edge, by name."""
    if isinstance(entry, Mapping):
        return dict(entry)
    if isinstance(entry, str):
        return {"label": entry}
    if isinstance(entry, Real):
        return {"value": entry}
    if isinstance(entry, (list, tuple, np.ndarray)):
        return {"features": entry}
    raise DataError(
        f"{what} {place} of {name} is {brief(entry)}: give a word, a number, a list of numbers, or attributes by name"
    )


# ---- to the record


def _made(
    nodes: int | Sequence[Mapping[str, Any]],
    ends: Sequence[tuple[Any, Any]],
    about: Sequence[Mapping[str, Any]],
    directed: bool | None,
    name: str,
) -> Graph:
    for row, end in enumerate(ends):
        if not _all_whole([end]):
            raise DataError(
                f"edge {row} of {name} joins {brief(end[0])} and {brief(end[1])}: nodes are numbered from 0"
            )
    count = nodes if isinstance(nodes, int) else len(nodes)
    of_nodes = {} if isinstance(nodes, int) else _columns(nodes, "node", name)
    try:
        edges = np.array(ends, np.int64).reshape(-1, 2)
    except OverflowError:  # of a number that no graph has as many nodes as
        row = next(row for row, end in enumerate(ends) if not all(0 <= one < count for one in end))
        raise DataError(_beyond(row, ends[row], name, count)) from None
    return _checked(Graph(count, edges, of_nodes, _columns(about, "edge", name), directed, name))


def _checked(graph: Graph) -> Graph:
    if graph.nodes < 1:
        raise DataError(f"{graph.name} has no nodes: leave it out")
    wrong = np.flatnonzero(((graph.edges < 0) | (graph.edges >= graph.nodes)).any(1))
    if len(wrong):
        one, other = graph.edges[wrong[0]].tolist()
        from_one = ". If they are numbered from 1, take 1 away" if graph.edges.min() == 1 else ""
        raise DataError(_beyond(wrong[0], (one, other), graph.name, graph.nodes) + from_one)
    return graph


def _beyond(row: Any, end: tuple[int, int], name: str, count: int) -> str:
    return f"edge {row} of {name} joins {end[0]} and {end[1]}, and it has {count} nodes, 0 to {count - 1}"


def _columns(records: Sequence[Mapping[str, Any]], what: str, name: str) -> dict[str, NDArray[Any]]:
    """Return attributes by their names, of all records."""
    names = dict.fromkeys(key for record in records for key in record)
    return {str(key): _column([record.get(key) for record in records], what, str(key), name) for key in names}


def _column(cells: list[Any], what: str, column: str, name: str) -> NDArray[Any]:
    words = [isinstance(cell, str) for cell in cells]
    if any(words):
        wrong = next((place for place, cell in enumerate(cells) if not (cell is None or words[place])), None)
        if wrong is not None:
            raise DataError(
                f"{what} {wrong} of {name} has {brief(cells[wrong])} in '{column}', and {what} {words.index(True)} a "
                "word: give all words, or all numbers"
            )
        return np.array(["" if cell is None else cell for cell in cells], np.dtypes.StringDType())
    gone = next((place for place, cell in enumerate(cells) if cell is None), None)
    if gone is not None:
        raise DataError(f"{what} {gone} of {name} has no '{column}', which others have: give each one")
    lengths = [len(cell) if hasattr(cell, "__len__") else 1 for cell in cells]
    if len(set(lengths)) > 1:
        wrong = next(place for place, length in enumerate(lengths) if length != lengths[0])
        raise DataError(
            f"{what} {wrong} of {name} has {lengths[wrong]} numbers in '{column}', and {what} 0 has {lengths[0]}"
        )
    try:
        array = np.asarray(cells, np.float64)
    except (TypeError, ValueError, OverflowError):
        wrong = next((place for place, cell in enumerate(cells) if not _is_number(cell)), None)
        if wrong is None:  # each is numbers, of another shape than others
            shapes = [np.shape(cell) for cell in cells]
            wrong = next(place for place, shape in enumerate(shapes) if shape != shapes[0])
            raise DataError(
                f"{what} {wrong} of {name} has numbers of shape {shapes[wrong]} in '{column}', and {what} 0 of "
                f"{shapes[0]}: all have one shape"
            ) from None
        raise DataError(
            f"{what} {wrong} of {name} has {brief(cells[wrong])} in '{column}': give a word, a number, or a list of "
            "numbers"
        ) from None
    return _numbers(array, len(cells), what, column, name)


def _is_number(cell: Any) -> bool:
    try:
        np.asarray(cell, np.float64)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _numbers(array: NDArray[Any], count: int, what: str, column: str, name: str) -> NDArray[Any]:
    array = array.reshape(len(array), math.prod(array.shape[1:])).astype(np.float64)
    if len(array) != count:
        raise DataError(f"{name} has {count} {what}s, and '{column}' of {len(array)}")
    wrong = np.flatnonzero(~np.isfinite(array).all(1))
    if len(wrong):
        raise DataError(f"{what} {wrong[0]} of {name} has {array[wrong[0]].tolist()} in '{column}': no finite number")
    return array


def _array(values: Any, name: str, what: str) -> NDArray[Any]:
    if hasattr(values, "to_dense"):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} has {what} of {array.dtype}, which are no numbers")
    return array
