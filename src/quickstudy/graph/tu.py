"""Folders of the TU collection: ``NAME_A.txt`` and what stands beside it, https://chrsmrrs.github.io/datasets.

Morris et al. 2020, "TUDataset", https://arxiv.org/abs/2007.08663
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.places import Source, open_source, unwrapped
from quickstudy.errors import DataError, one_line
from quickstudy.graph.reading import Graph

_ENDING = "_A.txt"


def tu_name(source: Source) -> str | None:
    """Return the name of the TU data set that a folder or archive is; None where it is none."""
    found = [name for name in source.files() if name.endswith(_ENDING) and "/" not in name]
    return found[0].removesuffix(_ENDING) if len(found) == 1 else None


def tu_source(path: Any) -> Source | None:
    """Return the folder or archive of a TU data set; None where it is none."""
    source = unwrapped(open_source(path))
    return source if tu_name(source) is not None else None


def tu_folders(path: Any) -> list[str]:
    """Return the folders of TU data sets right below a folder or in an archive, by name."""
    names = [name.split("/") for name in unwrapped(open_source(path)).files() if name.endswith("_graph_indicator.txt")]
    return sorted({parts[0] for parts in names if len(parts) == 2})


def tu_graphs(source: Source, numbers: bool = False) -> tuple[list[Graph], list[Any]]:
    """Read all graphs of a TU data set, and what each is called, or a number of each.

    Args:
        source: its folder or archive.
        numbers: whether targets are the numbers of ``_graph_attributes.txt``, and not the labels.

    Raises:
        DataError: a file is missing or malformed; the message names it and the line.
    """
    folder = _Folder(source, str(tu_name(source)))
    owners = folder.whole("graph_indicator")[:, 0]
    targets = folder.read("graph_attributes") if numbers else folder.whole("graph_labels")
    count, nodes = len(targets), len(owners)
    if (line := _first((owners < 1) | (owners > count))) >= 0:
        raise DataError(
            f"line {line + 1} of {folder.called('graph_indicator')} says graph {owners[line]}, and "
            f"{folder.called('graph_attributes' if numbers else 'graph_labels')} has {count} lines, one per graph"
        )
    ends = folder.whole("A", 2) - 1
    if (line := _first(((ends < 0) | (ends >= nodes)).any(1))) >= 0:
        raise DataError(
            f"line {line + 1} of {folder.called('A')} joins nodes {ends[line, 0] + 1} and {ends[line, 1] + 1}, and "
            f"there are 1 to {nodes}, by {folder.called('graph_indicator')}"
        )
    if (line := _first(owners[ends[:, 0]] != owners[ends[:, 1]])) >= 0:
        raise DataError(
            f"line {line + 1} of {folder.called('A')} joins nodes of two graphs, {owners[ends[line, 0]]} and "
            f"{owners[ends[line, 1]]}"
        )
    sizes = np.bincount(owners - 1, minlength=count)
    if not sizes.all():
        raise DataError(
            f"graph {int(sizes.argmin()) + 1} of {folder.called('graph_labels')} has no node in "
            f"{folder.called('graph_indicator')}: leave it out"
        )
    order = np.argsort(owners, kind="stable")
    begins = np.cumsum(sizes) - sizes
    places = np.empty(nodes, np.int64)  # of each node within its graph
    places[order] = np.arange(nodes) - begins[owners[order] - 1]
    by_graph = np.argsort(owners[ends[:, 0]], kind="stable")
    edge_counts = np.bincount(owners[ends[:, 0]] - 1, minlength=count)
    edge_begins = np.cumsum(edge_counts) - edge_counts
    about_nodes = {name: column[order] for name, column in folder.about("node", nodes).items()}
    about_edges = {name: column[by_graph] for name, column in folder.about("edge", len(ends)).items()}
    ends = places[ends][by_graph]
    graphs = []
    for place in range(count):
        own = slice(begins[place], begins[place] + sizes[place])
        edges = slice(edge_begins[place], edge_begins[place] + edge_counts[place])
        graphs.append(
            Graph(
                int(sizes[place]),
                ends[edges],
                {name: column[own] for name, column in about_nodes.items()},
                {name: column[edges] for name, column in about_edges.items()},
                None,
                f"graph {place + 1} of '{source}'",
            )
        )
    return graphs, targets[:, 0].tolist() if targets.shape[1] == 1 else targets.tolist()


def _first(wrong: Any) -> int:
    """Return the number of the first line that is wrong; -1 where none is."""
    return int(np.argmax(wrong)) if np.any(wrong) else -1


class _Folder:
    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name = source, name
        self.files = frozenset(source.files())

    def called(self, what: str) -> str:
        return f"'{self.source}/{self.name}_{what}.txt'"

    def has(self, what: str) -> bool:
        return f"{self.name}_{what}.txt" in self.files

    def whole(self, what: str, columns: int = 0) -> NDArray[np.int64]:
        """Return a file of whole numbers, ``[lines, columns]``."""
        table = self.read(what)
        if columns and table.shape[1] != columns:
            raise DataError(f"{self.called(what)} has {table.shape[1]} numbers a line, and not {columns}")
        if (line := _first((table % 1 != 0).any(1))) >= 0:
            raise DataError(f"line {line + 1} of {self.called(what)} is {table[line].tolist()}: no whole numbers")
        return table.astype(np.int64)

    def read(self, what: str) -> NDArray[np.float64]:
        """Return a file of numbers, ``[lines, columns]``."""
        if not self.has(what):
            raise DataError(
                f"{self.called(what)} is missing: a TU data set has {self.name}_A.txt, _graph_indicator.txt and "
                "_graph_labels.txt, or _graph_attributes.txt where targets are numbers"
            )
        content = self.source.item(f"{self.name}_{what}.txt").read_bytes()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a file without a line
                text = io.StringIO(content.decode("utf-8-sig"))
                table = np.loadtxt(text, delimiter=",", ndmin=2, comments=None)
        except ValueError as error:
            told = re.sub(r"at row (\d+)", lambda row: f"in line {int(row[1]) + 1}", one_line(error))
            raise DataError(
                f"{self.called(what)} is malformed: {told.rstrip('.')}. Lines have numbers and commas"
            ) from (error)
        if (line := _first(~np.isfinite(table).all(1))) >= 0:
            raise DataError(f"line {line + 1} of {self.called(what)} has no finite number")
        return table.reshape(len(table), -1) if table.size else np.zeros((0, 2 if what == "A" else 1))

    def about(self, what: str, count: int) -> dict[str, NDArray[Any]]:
        """Return the labels and the attributes of all nodes, or of all edges."""
        found: dict[str, NDArray[Any]] = {}
        if self.has(f"{what}_labels"):
            labels = self.whole(f"{what}_labels")
            words = labels.astype(np.dtypes.StringDType())
            several = labels.shape[1] > 1
            found |= {f"label {place + 1}" if several else "label": part for place, part in enumerate(words.T)}
        if self.has(f"{what}_attributes"):
            found["attributes"] = self.read(f"{what}_attributes")
        for name, values in found.items():
            if len(values) != count:
                file = f"{what}_attributes" if name == "attributes" else f"{what}_labels"
                raise DataError(f"{self.called(file)} has {len(values)} lines, and there are {count} {what}s")
        return found
