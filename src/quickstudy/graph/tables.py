"""Graphs from tables of edges and of nodes."""

from __future__ import annotations

import os
import re
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
        cells_of = {
            names.get(field, field): _ids(column, field, what) if field in names else _values(column)
            for field, column in table.items()
            if field != graph
        }
        records = [dict(zip(cells_of, cells, strict=True)) for cells in zip(*cells_of.values(), strict=True)]
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


def _ids(column: NDArray[Any], field: str, what: str) -> list[str]:
    """Return what nodes are called, letter by letter: 007 is not 7; whole numbers that a table has as 7.0 are 7."""
    cells = _cells(column)
    if None in cells:
        row = cells.index(None)
        raise DataError(f"row {row} of the table of {what} has no '{field}': each names a node. Leave the row out")
    return [_POINT_ZERO.sub(r"\1", _word(cell)) for cell in cells]


_POINT_ZERO = re.compile(r"^(-?\d+)\.0+$")


def _cells(column: NDArray[Any]) -> list[Any]:
    return [None if cell == "" or (isinstance(cell, float) and np.isnan(cell)) else cell for cell in column.tolist()]


def _word(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _values(column: NDArray[Any]) -> list[Any]:
    """Return cells, nothing for empty ones: numbers, which CSV has as words, or words where any of them is one."""
    cells = _cells(column)
    words = [cell for cell in cells if isinstance(cell, str)]
    if not words:
        return cells
    try:
        numbers = {word: _number(word) for word in set(words)}
    except ValueError:
        return [None if cell is None else _word(cell) for cell in cells]
    return [numbers[cell] if isinstance(cell, str) else cell for cell in cells]


def _number(word: str) -> int | float:
    try:
        return int(word)
    except ValueError:
        return float(word)
