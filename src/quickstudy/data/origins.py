"""What examples come from: a speaker, a recording, a patient; of one origin, no example is asked that another taught.

Two clips of one recording are alike for what they have in common beside their class, and who is judged by the second
after the first is judged too well. Episodes and splits therefore divide whole origins.

Shapes: N examples, G origins, W ways.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.places import Files
from quickstudy.data.targets import class_name, encode, in_order, missing, numbered
from quickstudy.errors import DataError, brief, few, shown

_TRIES = 256
_SAME = 1e-9  # examples: what rounding makes of shares is no difference


@dataclass(frozen=True, eq=False)
class Origins:
    """What each of N examples comes from.

    Args:
        codes: ``[N]`` int32, into ``names``.
        names: G of them.
    """

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, labels: Any) -> Origins:
        """Make them of N labels: strings or whole numbers, one for each example.

        Raises:
            DataError: one is missing, or no label.
        """
        gone = np.flatnonzero(missing(labels))
        if len(gone):
            raise DataError(f"the group is missing in {numbered(gone)}: an example needs one where others have one")
        codes, names, _ = encode(labels)
        if codes.ndim != 1:
            raise DataError(f"groups are one label for each example, and these are {brief(labels)}")
        return cls(codes.astype(np.int32), names)

    @classmethod
    def of_each(cls, labels: Any, count: int, what: str) -> Origins:
        """Make them of the labels of so many examples.

        Args:
            labels, count: see above.
            what: they are, for messages.

        Raises:
            DataError: there are more of the ones than of the others; or see ``of``.
        """
        listed = in_order(labels, "groups")
        listed = listed if hasattr(listed, "dtype") else list(listed)
        if len(listed) != count:
            raise DataError(
                f"group_by has {len(listed)} groups, and {what} {count} examples: give one for each"
                " (on_error='skip' leaves out examples, but not their groups)"
            )
        return cls.of(listed)

    @classmethod
    def named_in(cls, files: Any, pattern: str) -> Origins:
        r"""Read them from names of files: ``r"^([a-z]+)_"``.

        Args:
            files: ``Files``.
            pattern: a regular expression; what its first group finds, or all of it where it has none. One without a
                slash is sought in the name of the file itself, which ``^`` begins; and where one of these has no such
                part, in the names relative to the folder, ``yes/ann_3.wav``, as one with a slash is.

        Raises:
            DataError: they are no files, or a name has no such part.
        """
        if not isinstance(files, Files):
            raise DataError(
                f"group_by={pattern!r} is of the names of files, and these examples are none: of a table name the "
                "column, group_field=, and of examples in memory give the groups, group_by={'train': [...]}"
            )
        names = files.names.tolist()
        found = [re.search(pattern, name.rpartition("/")[2]) for name in names] if "/" not in pattern else [None]
        if None in found:
            found = [re.search(pattern, name) for name in names]
        lost = [name for name, part in zip(names, found, strict=True) if part is None]
        if lost:
            raise DataError(
                f"group_by={pattern!r} finds nothing in {len(lost)} of {len(names)} names of files: "
                f"{few(map(repr, lost), 3)}"
            )
        return cls.of([class_name(part[len(part.groups()) > 0] or "") for part in found if part is not None])

    def select(self, rows: NDArray[np.integer[Any]]) -> Origins:
        """Return those of these rows."""
        return Origins(self.codes[rows], self.names)

    def __str__(self) -> str:
        """Say how many groups there are.

        >>> print(Origins.of(["ann", "ben", "ann"]))
        2 groups, of 1 to 2 examples: 'ann', 'ben'
        """
        counts = np.unique(self.codes, return_counts=True)[1].tolist()
        each = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
        return f"{len(counts)} groups, of {each} example{'s' * (max(counts) > 1)}: {shown(self.present)}"

    @property
    def present(self) -> tuple[str, ...]:
        """The names of those that examples are of."""
        return tuple(self.names[code] for code in np.unique(self.codes))


class Halves:
    """Divides origins in two for the classes of an episode: those that teach, and those that are asked.

    Args:
        rows: by class, the rows of its examples.
        origins: of all rows.
        shots, queries: examples of a class that are needed of the one half and of the other.
    """

    def __init__(self, rows: Sequence[NDArray[Any]], origins: Origins, shots: int, queries: int) -> None:
        self._origins, self._shots, self._queries = origins, shots, queries
        self._classes: list[tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]] = []
        """Of each its rows by origin, the codes of those, and where the rows of each begin."""
        for own in rows:
            codes = origins.codes[own]
            order = np.argsort(codes, kind="stable")
            known, starts = np.unique(codes[order], return_index=True)
            self._classes.append((own[order], known.astype(np.int64), np.append(starts, len(own))))

    def lacking(self) -> dict[int, str]:
        """Return by class what is wrong with those that no division serves."""
        found = {}
        for code, (_, known, starts) in enumerate(self._classes):
            counts = np.diff(starts).tolist()
            sums = 1  # bit n is set where some origins have n examples together
            for count in counts:
                sums |= sums << count
            most = sum(counts) - self._queries
            if most < self._shots or not (sums >> self._shots) & ((1 << (most - self._shots + 1)) - 1):
                told = (f"{self._origins.names[one]!r} with {count}" for one, count in zip(known, counts, strict=True))
                found[code] = few(told, 3)
        return found

    def divided(self, codes: Sequence[int], bits: Any) -> list[tuple[NDArray[Any], NDArray[Any]]] | None:
        """Return for each class the rows that may teach, and those that may be asked; None where none is found.

        Args:
            codes: the classes of an episode.
            bits: ``bits(attempt, count)`` returns so many random numbers of 64 bits, and twice the same.
        """
        own = [self._classes[code] for code in codes]
        known = np.unique(np.concatenate([each[1] for each in own]))
        counts_WG = np.zeros((len(own), len(known)), np.int64)
        for way, (_, some, starts) in enumerate(own):
            counts_WG[way, np.searchsorted(known, some)] = np.diff(starts)
        for attempt in range(_TRIES):
            taught = self._attempt(counts_WG, bits(attempt, len(known)))
            if taught is not None:
                taught = known[taught]
                return [_parts(each, np.isin(each[1], taught)) for each in own]
        return None

    def _attempt(self, counts_WG: NDArray[np.int64], bits: NDArray[np.uint64]) -> NDArray[np.bool_] | None:
        """Return which origins teach: one after the other goes where it is needed more, and the rest by chance."""
        needed = np.array([[self._shots], [self._queries]]).repeat(len(counts_WG), 1)  # [2, W]
        asks = (bits & np.uint64(1)).astype(np.bool_)
        for origin in np.argsort(bits, kind="stable").tolist():
            if not needed.any():
                break
            served = np.minimum(needed, counts_WG[:, origin])
            use = served[0].sum() / self._shots, served[1].sum() / self._queries
            if use[0] != use[1]:
                asks[origin] = use[1] > use[0]
            needed[int(asks[origin])] -= served[int(asks[origin])]
        return None if needed.any() else ~asks


def _parts(
    one: tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]], teaches: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[Any]]:
    rows, _, starts = one
    taught = np.repeat(teaches, np.diff(starts))
    return rows[taught], rows[~taught]


def held_origins(
    origins: Origins, targets: NDArray[Any] | None, share: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return the rows of whole origins that make about a share of each class; a class keeps an example.

    Args:
        origins: of N examples.
        targets: ``[N]`` codes of classes; None: all are of one.
        share: between 0 and 1.
        generator: draws their order.
    """
    classes = np.zeros(len(origins.codes), np.int64) if targets is None else np.asarray(targets, np.int64)
    counts = class_counts(origins.codes, classes)
    total_C = np.bincount(classes).tolist()
    wanted_C, held_C = [share * total for total in total_C], [0] * len(total_C)

    def nearer(own: Mapping[int, int]) -> float:
        """Return by how much nearer to the wanted shares it is with an origin."""
        better = 0.0
        for at, more in own.items():
            off = wanted_C[at] - held_C[at]
            better += abs(off) - abs(off - more)
        return better

    def leaves(own: Mapping[int, int]) -> bool:
        return all(held_C[at] + more < total_C[at] for at, more in own.items())

    order = [origin for origin in generator.permutation(len(counts)).tolist() if counts[origin]]
    taken: list[int] = []
    for origin in order:
        own = counts[origin]
        if nearer(own) > _SAME and leaves(own):
            taken.append(origin)
            for at, more in own.items():
                held_C[at] += more
    if not taken:  # all are too large: the least that leaves every class an example
        fit = [origin for origin in order if leaves(counts[origin])]
        taken = sorted(fit, key=lambda origin: -round(nearer(counts[origin]), 9))[:1]
    return np.flatnonzero(np.isin(origins.codes, taken))


def class_counts(origins: NDArray[Any], classes: NDArray[Any]) -> list[dict[int, int]]:
    """Return how many examples of which classes each origin has.

    Args:
        origins: ``[N]`` codes.
        classes: ``[N]`` codes.
    """
    found: list[dict[int, int]] = [{} for _ in range(int(origins.max(initial=-1)) + 1)]
    ways = int(classes.max(initial=0)) + 1
    pairs, counts = np.unique(origins.astype(np.int64) * ways + classes, return_counts=True)
    for origin, code, count in zip((pairs // ways).tolist(), (pairs % ways).tolist(), counts.tolist(), strict=True):
        found[origin][code] = count
    return found
