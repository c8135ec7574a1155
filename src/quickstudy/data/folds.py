"""Examples, or classes, in folds of about one size, each of which is held out once.

Shapes: N examples, C classes, G groups.
"""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        DataError: there are fewer examples, origins or classes than folds need.
    """
    check_counts(2, folds=folds)
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
    one_label = table.targets is not None and not table.multi_label and not table.numeric
    codes = table.targets if table.targets is not None and one_label else np.zeros(len(table), np.int32)
    found = (
        _by_chance(codes, folds, generator)
        if table.origins is None
        else _of_origins(table.origins.codes, codes, folds, generator)
    )
    if one_label:
        places = np.unique(np.stack([codes, found], 1), axis=0)[:, 0]
        alone = [table.classes[code] for code in np.flatnonzero(np.bincount(places) == 1)]
        if alone:
            warnings.warn(
                f"all examples of {len(alone)} classes are in one fold, so that none that is asked was learned from: "
                f"{shown(alone)}. Add examples of these classes" + (", or groups" if table.origins is not None else ""),
                DataWarning,
                3,
            )
    return found


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
    counts_GC = np.zeros((int(origins.max()) + 1, int(codes.max(initial=0)) + 1))
    np.add.at(counts_GC, (origins, codes), 1)
    shares_GC = counts_GC / np.maximum(counts_GC.sum(0), 1)
    order = generator.permutation(len(counts_GC))
    order = order[np.argsort(-counts_GC[order].sum(1), kind="stable")]
    held_FC, size_F, dealt = np.zeros((folds, counts_GC.shape[1])), np.zeros(folds), np.zeros(len(counts_GC), np.int64)
    for origin in order.tolist():
        if counts_GC[origin].any():
            fold = dealt[origin] = np.lexsort((size_F, np.round(held_FC @ shares_GC[origin], 12)))[0]
            held_FC[fold] += shares_GC[origin]
            size_F[fold] += counts_GC[origin].sum()
    found: NDArray[np.int64] = dealt[origins]
    return found


def fingerprint_of(table: Table, folds: NDArray[np.int64]) -> str:
    """Return what tells one division of one table from any other."""
    return hashlib.blake2b(table.fingerprint.encode() + folds.tobytes(), digest_size=16).hexdigest()
