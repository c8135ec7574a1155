"""Graphs from tables of edges and of nodes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.frames import Fields, file_columns
from quickstudy.data.rows import columns_of
from quickstudy.errors import DataError, closest, few, shown
from quickstudy.graph.reading import Graph, graph_of

Columns = dict[str, NDArray[Any]]


def columns(table: Any, target_fields: Fields = None) -> Columns:
    """Return the columns of a frame, or of a file by its path.

    Raises:
        DataError: it is none; the message names it.
    """
    return file_columns(table, target_fields) if isinstance(table, str | os.PathLike) else columns_of(table)


def column_in(table: Columns, field: str, what: str) -> NDArray[Any]:
    """Return a column.

    Raises:
        DataError: there is none of that name.
    """
    if field not in table:
        raise DataError(f"the table of {what} has no column '{field}'{closest(field, table)} It has {shown(table)}")
    return table[field]


def graphs_of_tables(
    edges: Columns, nodes: Columns | None, graph: str, node: str, source: str, destination: str
) -> dict[str, Graph]:
    """Return graphs by their names, in the order in which nodes, and then edges, name them.

    Args:
        edges: columns of a table of them.
        nodes: likewise; None: they are those that edges join.
        graph, node, source, destination: names of columns.

    Raises:
        DataError: a column is missing, or a graph is none; the message names it.
    """
    made: dict[str, dict[str, list[Any]]] = {}
    tables = [] if nodes is None else [("nodes", nodes, {node: "id"})]
    for what, table, names in [*tables, ("edges", edges, {source: "source", destination: "target"})]:
        for field in (graph, *names):
            column_in(table, field, what)
        owners = list(map(str, table[graph].tolist()))
        records = [
            {names.get(name, name): cell for name, cell in zip(table, cells, strict=True) if name != graph}
            for cells in zip(*(map(_plain, column.tolist()) for column in table.values()), strict=True)
        ]
        for owner, record in zip(owners, records, strict=True):
            made.setdefault(owner, {"nodes": [], "edges": []})[what].append(record)
    if nodes is not None and (lacking := [name for name, parts in made.items() if not parts["nodes"]]):
        raise DataError(f"the table of nodes has none of graph {few(lacking)}, which the table of edges has")
    return {
        name: graph_of(parts if nodes is not None else _joined(parts["edges"]), f"graph '{name}'")
        for name, parts in made.items()
    }


def _joined(edges: list[Any]) -> dict[str, Any]:
    """Return a graph of the nodes that edges join, whatever they are called."""
    ids = dict.fromkeys(end for edge in edges for end in (edge["source"], edge["target"]))
    return {"nodes": [{"id": one} for one in ids], "edges": edges}


def _plain(cell: Any) -> Any:
    """Return a cell, nothing of one that is empty; numbers that CSV has as words are numbers."""
    if isinstance(cell, str):
        try:
            number = float(cell)
        except ValueError:
            return cell or None
        return int(number) if number.is_integer() else number
    return None if isinstance(cell, float) and np.isnan(cell) else cell
