"""What every rung learns from, and what it is asked: all classes and other examples, or other classes.

A draw is a function of the data, the seed and its number alone, so that all rungs have the same, whenever they are
climbed.

Shapes: N examples, C classes, S support, Q query, T episodes, W ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.episodes import EpisodeSampler
from quickstudy.data.folds import divided
from quickstudy.data.origins import held_origins
from quickstudy.data.table import Table
from quickstudy.errors import DataError
from quickstudy.ladder.record import ALL, Draw, Episodes

FOLDS = 5
"""Parts that all examples are divided into, of which one is asked in turn."""
_QUERIES = 2000
"""Examples that are asked in a draw at most, but two of each class."""
_TAUGHT = 2 / 3
"""Of a class's examples: more are not learned from, so that some are asked."""
_TURNS = 20
"""Divisions into such parts after which, if none served, none is going to."""
_MOST = 3000
"""Examples up to which all but a fifth are learned from, too."""
_POOL = 500
"""Examples of a class that episodes draw from at most, where examples come from groups."""
_FEWEST = 5
"""Queries of each class of an episode; of more classes than enough, those that have as many."""
ENOUGH = 4
"""Times the ways of an episode: of so many classes one half may train an encoder that is asked about the other."""


def codes_of(table: Table) -> NDArray[np.int64]:
    """Return the class of each example, ``[N]``."""
    assert table.targets is not None
    return table.targets.astype(np.int64)


def reached(counts: NDArray[np.int64], shots: Sequence[int]) -> tuple[int, ...]:
    """Return the shots that data reaches: those of which half of the classes have as many to spare, and ``ALL``.

    Args:
        counts: ``[C]`` examples of each class.
        shots: that are asked for.
    """
    spare = float(np.median(np.maximum(counts * _TAUGHT // 1, 1)))
    few = tuple(sorted({number for number in shots if 1 <= number <= spare}))
    most = few[-1] if few else 0
    whole = int(counts.sum()) <= _MOST and float(np.median(counts)) * (1 - 1 / FOLDS) > most
    return (*few, ALL) if whole else few


def draws(table: Table, shots: Sequence[int], count: int, seed: int) -> Iterator[Draw]:
    """Yield so many draws of each number of shots, from few shots to many.

    Of each class the examples that are asked come round in turn, so that all are asked about as often. Where examples
    come from groups, whole groups are learned from, and others asked.

    Args:
        table: of one label per example, two or more of each class.
        shots: what ``reached`` returned.
        count: how many draws of each; of ``ALL`` as many at least, a fifth of the examples being asked in each, up to
            the end of a turn, in which each is asked once.
        seed: chooses them.
    """
    few = [number for number in shots if number != ALL]
    parted = [_parted(table, max(few, default=1), number, count, seed) for number in range(count)] if few else []
    for each in few:
        for number, (taught, asked) in enumerate(parted):
            support = np.concatenate([own[:each] for own in taught])
            yield Draw(each, number, _plain(support), _plain(asked))
    if ALL in shots:
        everything = np.arange(len(table))
        for number, fold in enumerate(_folds(table, seed, count)):
            yield Draw(ALL, number, _plain(np.setdiff1d(everything, fold)), _plain(fold))


def _parted(
    table: Table, most: int, number: int, count: int, seed: int
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Return of each class the rows to learn from, of which the first are taken, and the rows that are asked."""
    classes = range(len(table.classes))
    fixed = [np.random.default_rng([seed, code]).permutation(_rows(table, code)) for code in classes]
    if table.origins is None:
        spare = [len(rows) - min(most, max(1, int(len(rows) * _TAUGHT))) for rows in fixed]
        share = min(1.0, max(_QUERIES, 2 * len(fixed)) / sum(spare))
        taught, asked = [], []
        for rows, count_asked in zip(fixed, spare, strict=True):
            # Of many examples the same are asked in all draws; else they come round in turn.
            kept = max(1, round(share * count_asked)) if share < 1 else 0
            pool = np.roll(rows[kept:], -(number * (len(rows) - kept) // count))
            own = len(rows) - count_asked
            taught.append(pool[:own])
            asked.append(rows[:kept] if kept else pool[own:])
        return taught, np.concatenate(asked)
    generator = np.random.default_rng([seed, number])
    held = held_origins(table.origins, table.targets, 1 - _TAUGHT, generator)
    _check(table, held)
    is_held = np.isin(np.arange(len(table)), held)
    taught = [generator.permutation(rows[~is_held[rows]]) for rows in fixed]
    share = min(1.0, max(_QUERIES, 2 * len(fixed)) / int(is_held.sum()))
    asked = [rows[is_held[rows]] for rows in fixed]
    return taught, np.concatenate([rows[: max(1, round(share * len(rows)))] for rows in asked])


def _rows(table: Table, code: int) -> NDArray[np.int64]:
    return table.index.rows(code).astype(np.int64)


def _folds(table: Table, seed: int, count: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of a fifth of the examples after the other, stratified, or by whole groups; then of others."""
    parts = min(FOLDS, len(table) if table.origins is None else len(table.origins.present))
    turn = found = 0
    while found < count:
        generator = np.random.default_rng([seed, 1 << 20, turn])
        folds = divided(table, parts, generator)
        served = [fold for fold in (np.flatnonzero(folds == part) for part in range(parts)) if _serves(table, fold)]
        found, turn = found + len(served), turn + 1
        if turn == _TURNS and not found:
            raise _undivided()
        yield from served


def _serves(table: Table, asked: NDArray[np.int64]) -> bool:
    """Whether every class keeps an example."""
    kept = np.delete(codes_of(table), asked)
    return len(asked) > 0 and len(np.unique(kept)) == len(table.classes)


def _check(table: Table, held: NDArray[np.int64]) -> None:
    if not len(held):
        raise _undivided()


def _undivided() -> DataError:
    return DataError(
        "the groups cannot be divided so that each class has examples of some to learn from and of others to ask: "
        "add groups of each class, or leave group_by and group_field out"
    )


def held_apart(table: Table, ways: int, seed: int) -> tuple[int, ...]:
    """Return the codes of the half of the classes that is asked where the other trains an encoder.

    Args:
        table: of one label per example.
        ways: classes of an episode.
        seed: divides them.

    Returns:
        Nothing where there are fewer than ``ENOUGH`` times the ways that an episode can be of.
    """
    codes = np.flatnonzero(table.index.counts > _FEWEST)
    if len(codes) < ENOUGH * ways:
        return ()
    return tuple(sorted(np.random.default_rng([seed, 1 << 21]).permutation(codes)[: len(codes) // 2].tolist()))


def episodes(
    table: Table, shots: int, ways: int, count: int, seed: int, held: Sequence[int] = (), queries: int = 10
) -> Episodes | None:
    """Return episodes of some classes of all; None where there are too few classes to say anything of others.

    Args:
        table: of one label per example.
        shots: examples of each class that are learned from.
        ways: classes of an episode; there must be twice as many with enough examples.
        count: of episodes.
        seed: chooses them.
        held: codes of classes that half of the episodes are of alone, and the others of none of them.
        queries: of each class at most.
    """
    counts = table.index.counts
    codes = np.flatnonzero(counts >= shots + _FEWEST)
    if len(codes) < 2 * ways or shots == ALL:
        return None
    apart = np.isin(codes, held)
    parts = [codes[apart], codes[~apart]]
    if min(map(len, parts)) < 2 * ways:
        parts = [codes]
    found = []
    try:
        for place, part in enumerate(parts):
            kept = [_rows(table, code) for code in part.tolist()]
            if table.origins is not None:  # which are divided anew for each episode
                most = max(_POOL, shots + queries)
                kept = [np.sort(np.random.default_rng([seed, len(own)]).permutation(own)[:most]) for own in kept]
            rows = np.concatenate(kept)
            some = table.select(rows).without_empty_classes()
            sampler = EpisodeSampler(
                some.index,
                ways=ways,
                shots=shots,
                queries=min(queries, int(counts[codes].min()) - shots),
                seed=seed,
                stage="test",
                fingerprint=some.fingerprint,
                classes=some.classes,
                origins=some.origins,
            )
            found.append(rows[sampler.draw(np.arange(len(range(place, count, len(parts)))))])
    except DataError:  # whose groups serve no episode of so many shots
        return None
    rows_TWK = np.concatenate(found)
    return Episodes(shots, _nested(rows_TWK), _nested(codes_of(table)[rows_TWK[:, :, 0]]))


def of_classes(episodes: Episodes, held: Sequence[int], most: int = 0) -> tuple[int, ...]:
    """Return the numbers of the episodes that are of such classes alone.

    Args:
        episodes: of one number of shots.
        held: codes of classes; nothing: all.
        most: how many at most; 0: all.
    """
    every = [number for number, own in enumerate(episodes.classes) if not held or set(own) <= set(held)]
    return tuple(every[:most] if most else every)


def _plain(rows: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(rows.tolist())


def _nested(rows: NDArray[np.integer[Any]]) -> tuple[Any, ...]:
    return tuple(tuple(map(tuple, each)) if isinstance(each[0], list) else tuple(each) for each in rows.tolist())
