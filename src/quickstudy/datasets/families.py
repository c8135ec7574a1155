"""Families: graphs that are made by rules. A class is a rule: which parts there are, and how they hang together.

A stand-in for a data set of graphs that needs no download. A rule says which two small parts come again and again, such
as rings and stars, what line, ring, star or tree they are strung on, and whether they share a node there or hang on an
edge; each example has as many of them as chance has it, and a few edges that belong to no rule. Nodes have nothing to
tell but who their neighbours are, and no order. Classes of validation and test are none of training's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from quickstudy.data.table import Splits, Table
from quickstudy.datasets.registry import DATASETS
from quickstudy.errors import check_counts

_CLASSES = {"train": 48, "val": 16, "test": 20}
_COPIES, _STRAY = (4, 9), 0.03  # parts of an example; edges that belong to no rule, for each that does

Edges = list[tuple[int, int]]


@DATASETS.register("families")
def families(root: str | os.PathLike[str] | None = None, *, examples: int = 20) -> Splits:
    """Return graphs of 84 classes, the same each time; nothing is read or written.

    Args:
        root: not used.
        examples: graphs of each rule (of each class, in other sets that are made up).

    Returns:
        Tables of graphs ``{"nodes": 12, "edges": [[0, 1], ...]}``, sorted by class: 48 classes to train on, 16 to
        validate, 20 to test.

    Raises:
        ConfigError: ``examples`` is below 1.
    """
    check_counts(examples=examples)
    rules = _rules(sum(_CLASSES.values()))
    tables, first = [], 0
    for count in _CLASSES.values():
        numbers = range(first, first + count)
        graphs = [_graph(rules[number], number, example) for number in numbers for example in range(examples)]
        names = tuple(_name(rules[number]) for number in numbers)
        order = sorted(range(count), key=names.__getitem__)
        rows = [graphs[code * examples + example] for code in order for example in range(examples)]
        targets = np.repeat(np.arange(count, dtype=np.int32), examples)
        tables.append(Table(rows, targets, tuple(names[code] for code in order)))
        first += count
    return Splits(*tables)


def _ring(size: int) -> Edges:
    return [(place, (place + 1) % size) for place in range(size)]


def _line(size: int) -> Edges:
    return [(place, place + 1) for place in range(size - 1)]


def _star(size: int) -> Edges:
    return [(0, place) for place in range(1, size)]


def _clique(size: int) -> Edges:
    return [(one, other) for other in range(size) for one in range(other)]


def _wheel(size: int) -> Edges:
    return [*_star(size), *((1 + one, 1 + other) for one, other in _ring(size - 1))]


def _tree(size: int) -> Edges:
    return [((place - 1) // 2, place) for place in range(1, size)]


_PARTS: dict[str, tuple[Callable[[int], Edges], int]] = {
    "triangle": (_ring, 3),
    "square": (_ring, 4),
    "ring of 5": (_ring, 5),
    "ring of 6": (_ring, 6),
    "star": (_star, 5),
    "clique": (_clique, 4),
    "wheel": (_wheel, 5),
    "tail": (_line, 3),
}
_FRAMES: dict[str, Callable[[int], Edges]] = {"line": _line, "ring": _ring, "star": _star, "tree": _tree}
_Rule = tuple[str, str, str, bool]


def _rules(count: int) -> list[_Rule]:
    """Return rules, each once: two parts, what they are strung on, and whether an edge leads there."""
    parts = list(_PARTS)
    rules = [
        (one, other, frame, apart)
        for place, one in enumerate(parts)
        for other in parts[place:]
        for frame in _FRAMES
        for apart in (False, True)
    ]
    return [rules[row] for row in np.random.default_rng(0).permutation(len(rules))[:count].tolist()]


def _name(rule: _Rule) -> str:
    one, other, frame, apart = rule
    both = f"{one} and {other}" if one != other else f"{one} alone"
    return f"{both}, {'hung on' if apart else 'in'} a {frame}"


def _graph(rule: _Rule, number: int, example: int) -> dict[str, Any]:
    """Return an example of a class."""
    one, other, frame, apart = rule
    generator = np.random.default_rng([1, number, example])
    copies = int(generator.integers(*_COPIES))
    kinds = [(one, other)[int(chance)] for chance in generator.random(copies) < 0.5]
    kinds[:2] = [one, other]
    edges, nodes = list(_FRAMES[frame](copies)), copies
    for place, kind in enumerate(kinds):
        make, size = _PARTS[kind]
        at = [nodes + node for node in range(size)] if apart else [place, *(nodes + node for node in range(size - 1))]
        edges += [(at[first], at[second]) for first, second in make(size)]
        edges += [(place, at[0])] if apart else []
        nodes += size if apart else size - 1
    for _ in range(generator.binomial(len(edges), _STRAY)):
        first, second = generator.choice(nodes, 2, replace=False).tolist()
        edges.append((first, second))
    order = generator.permutation(nodes).tolist()
    pairs = [[order[first], order[second]] for first, second in edges]
    return {"nodes": nodes, "edges": [pairs[row] for row in generator.permutation(len(pairs)).tolist()]}
