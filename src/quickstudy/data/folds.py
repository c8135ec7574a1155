"""Examples, or classes, in folds of about one size, each of which is held out once.

Shapes: N examples, C classes, G groups.
"""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.origins import class_counts
from quickstudy.data.series import Windows
from quickstudy.data.table import Table
from quickstudy.errors import DataError, DataWarning, check_counts, shown


def folds_of(table: Table, folds: int, seed: int, *, by_class: bool = False) -> NDArray[np.int64]:
    """Return ``[N]`` the fold of each example, from 0 on: a function of the table and the seed alone.

    Each fold has about as many examples of a class as any other; of several labels, or of numbers, as many of all.
    Examples of one origin lie in one fold, and so do, by class, those of one class (or group of numbers).

    Args:
        table: the examples.
        folds: how many; 2 or more.
        seed: chooses them.
        by_class: whether classes are held out, for a few-shot strategy, and not examples.

    Raises:
        DataError: there are fewer examples, origins or classes than folds need, or they are windows of series.
    """
    check_counts(2, folds=folds)
    if isinstance(table.inputs, Windows):
        raise DataError(
            "folds are drawn by chance, and windows of series overlap, and what is judged would be trained on: take "
            "test_split=0.2 or test_from=, the last part by time"
        )
    generator = np.random.default_rng([seed, folds])
    if by_class:
        classes = table.without_empty_classes().classes
        if len(classes) < 2 * folds:
            raise DataError(
                f"{folds} folds of {len(classes)} classes leave fewer than 2 for a fold to be judged on: "
                + (f"take folds={len(classes) // 2}" if len(classes) > 3 else "add classes")
            )
        dealt = {name: place % folds for place, name in enumerate(generator.permutation(np.array(classes)).tolist())}
        own = table.groups if table.numeric else table.targets
        assert own is not None
        return np.array([dealt.get(name, 0) for name in table.classes], np.int64)[own]
    found = divided(table, folds, generator)
    if _one_label(table):
        places = np.unique(np.stack([_codes(table), found], 1), axis=0)[:, 0]
        alone = [table.classes[code] for code in np.flatnonzero(np.bincount(places) == 1)]
        if alone:
            warnings.warn(
                f"all examples of {len(alone)} classes are in one fold, so that none that is asked was learned from: "
                f"{shown(alone)}. Add examples of these classes" + (", or groups" if table.origins is not None else ""),
                DataWarning,
                3,
            )
    return found


def divided(table: Table, folds: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return ``[N]`` the fold of each example; see ``folds_of``, without a look at what is in one fold alone.

    Args:
        table: the examples.
        folds: how many.
        generator: draws their order.

    Raises:
        DataError: there are fewer examples or origins than folds.
    """
    if table.origins is None:
        return _by_chance(_codes(table), folds, generator)
    return _of_origins(table.origins.codes, _codes(table), folds, generator)


def _one_label(table: Table) -> bool:
    return table.targets is not None and not table.multi_label and not table.numeric


def _codes(table: Table) -> NDArray[Any]:
    """Return the class of each example; of several labels, or of numbers, as if all were of one."""
    return table.targets if table.targets is not None and _one_label(table) else np.zeros(len(table), np.int32)


def _by_chance(codes: NDArray[Any], folds: int, generator: np.random.Generator) -> NDArray[np.int64]:
    if len(codes) < folds:
        raise DataError(f"{len(codes)} examples are fewer than {folds} folds: take fewer folds, or add examples")
    order = generator.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]  # by class, and within a class by chance
    found = np.empty(len(codes), np.int64)
    found[order] = np.arange(len(codes)) % folds
    return found


def _of_origins(
    origins: NDArray[Any], codes: NDArray[Any], folds: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Deal whole origins, the largest first, each to the fold that has least of its classes so far."""
    if (present := len(np.unique(origins))) < folds:
        raise DataError(f"{present} groups are fewer than {folds} folds: take fewer folds, or add groups")
    total_C = np.maximum(np.bincount(codes), 1)
    held_CF, size_F = [[0] * folds for _ in total_C], [0] * folds
    counts = class_counts(origins, codes)
    order = generator.permutation(len(counts))
    order = order[np.argsort(-np.bincount(origins, minlength=len(counts))[order], kind="stable")]
    dealt = np.zeros(len(counts), np.int64)
    for origin in order.tolist():
        if not (own := counts[origin]):
            continue
        if len(own) == 1:  # as nearly all are, where what is nearly the same makes a few groups of many examples
            _, _, fold = min(zip(held_CF[next(iter(own))], size_F, range(folds), strict=True))
        else:
            some = list(own)
            shares, held_cF = np.array(list(own.values())) / total_C[some], np.array([held_CF[code] for code in some])
            fold = int(np.lexsort((size_F, np.round(shares / total_C[some] @ held_cF, 12)))[0])
        dealt[origin] = fold
        for code, count in own.items():
            held_CF[code][fold] += count
            size_F[fold] += count
    found: NDArray[np.int64] = dealt[origins]
    return found


def fingerprint_of(table: Table, folds: NDArray[np.int64]) -> str:
    """Return what tells one division of one table from any other."""
    return hashlib.blake2b(table.fingerprint.encode() + folds.tobytes(), digest_size=16).hexdigest()
