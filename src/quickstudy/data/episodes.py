"""Which examples make up episode i: a pure function of (seed, stage, i, the data's fingerprint).

No generator is carried along and no rank or worker talks to another, so any process can name the examples of any
episode at any time: the same episodes come out on one device and on a thousand, and a run resumes on the next one.

Shapes: T episodes, W ways, K = shots + queries examples per class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.origins import Halves, Origins
from quickstudy.data.samples import described
from quickstudy.data.table import ClassIndex, Table
from quickstudy.errors import ConfigError, DataError, brief, shown

_GOLDEN = 0x9E3779B97F4A7C15
_BLOCK = 1024  # episodes drawn at once: their arrays stay within a processor's cache


@dataclass(frozen=True)
class EpisodePlan:
    """How many of what: the options that every few-shot training strategy shares.

    Args:
        ways: classes in a training episode; two numbers, ``(5, 20)``: each step of ``meta_batch_size`` episodes draws
            its own from the first to the second.
        shots: support examples per class.
        queries: query examples per class.
        meta_batch_size: episodes whose gradients are averaged before one optimizer step, over all devices together.
        epoch_length: episodes per training epoch; a multiple of ``meta_batch_size``.
        test_ways: classes in a validation or test episode, likewise; default: ``ways``.
        test_shots: support examples per class in one; default: ``shots``.
        test_queries: query examples per class in one; default: ``queries``.
        test_epoch_length: episodes per validation or test.
        num_tasks: how many distinct training episodes exist; -1 draws a new one every time.
        test_num_tasks: how many distinct validation or test episodes exist; -1: as many as are drawn.
        seed: chooses the list of episodes.

    Raises:
        ConfigError: a number is out of range, or ``epoch_length`` is no multiple of ``meta_batch_size``.
    """

    ways: int | tuple[int, int] = 5
    shots: int = 1
    queries: int = 15
    meta_batch_size: int = 4
    epoch_length: int = 400
    test_ways: int | tuple[int, int] | None = None
    test_shots: int | None = None
    test_queries: int | None = None
    test_epoch_length: int = 600
    num_tasks: int = -1
    test_num_tasks: int = -1
    seed: int = 0
    least_ways: ClassVar[int] = 2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in ("test_ways", "test_shots", "test_queries"):
                continue
            if field.name.endswith("ways") and isinstance(value, (tuple, list)):
                self._check_span(field.name, tuple(value))
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise ConfigError(f"{field.name} must be a whole number, not {brief(value)}")
            least = self.least_ways if field.name.endswith("ways") else 0 if field.name == "seed" else 1
            if field.name.endswith("num_tasks") and value == -1:
                continue
            if value < least:
                raise ConfigError(f"{field.name}={value}: it must be at least {least}")
        if 0 < self.test_num_tasks < self.test_epoch_length:
            raise ConfigError(
                f"test_num_tasks={self.test_num_tasks} is fewer than test_epoch_length={self.test_epoch_length}: the "
                f"same episodes would count several times. Set test_epoch_length={self.test_num_tasks}"
            )
        for stage, option, tasks in (
            ("train", "num_tasks", self.num_tasks),
            ("test", "test_num_tasks", self.test_num_tasks),
        ):
            least, most = self.span(stage)
            if least < most and tasks > 0 and tasks % self.meta_batch_size:
                raise ConfigError(
                    f"{option}={tasks} is no multiple of meta_batch_size={self.meta_batch_size}, the episodes that "
                    f"share their number of ways, {least} to {most}: set {option}="
                    f"{-(-tasks // self.meta_batch_size) * self.meta_batch_size}"
                )
        if self.epoch_length % self.meta_batch_size:
            nearest = -(-self.epoch_length // self.meta_batch_size) * self.meta_batch_size
            raise ConfigError(
                f"epoch_length={self.epoch_length} is no multiple of meta_batch_size={self.meta_batch_size}: "
                f"set epoch_length={nearest}"
            )

    def _check_span(self, name: str, span: tuple[int, ...]) -> None:
        numbers = len(span) == 2 and all(isinstance(each, int) and not isinstance(each, bool) for each in span)
        if not numbers or not 2 <= span[0] <= span[1]:
            raise ConfigError(f"{name}={span}: two numbers are the least and the most, such as (5, 20), from 2 on")
        object.__setattr__(self, name, span)  # of a list, as YAML has it

    def span(self, stage: str) -> tuple[int, int]:
        """Return the least and the most ways of a stage: ``"train"``, ``"val"`` or ``"test"``."""
        ways = self.ways if stage == "train" or self.test_ways is None else self.test_ways
        return ways if isinstance(ways, tuple) else (ways, ways)

    def shape(self, stage: str) -> tuple[int, int, int]:
        """Return (ways, shots, queries) of a stage; of ways that differ, the most."""
        ways = self.span(stage)[1]
        if stage == "train":
            return ways, self.shots, self.queries
        return ways, self.test_shots or self.shots, self.test_queries or self.queries


@dataclass(frozen=True)
class GroupPlan(EpisodePlan):
    """How many of what, where targets are numbers: an episode is of one group, so that there is no choice of ways.

    Args:
        ways, test_ways: one group; leave them out.
        shots: support examples of a group.
        queries: query examples of a group.
        meta_batch_size, epoch_length, test_shots, test_queries, test_epoch_length, num_tasks, test_num_tasks, seed: see
            ``EpisodePlan``.
    """

    ways: int | tuple[int, int] = 1
    least_ways: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.ways != 1 or self.test_ways not in (None, 1):
            raise ConfigError(
                f"ways={self.ways}, test_ways={self.test_ways}: an episode of numbers is of one group; leave ways out"
            )
        super().__post_init__()


class EpisodeDraw(NamedTuple):
    """What an ``episode_sampler`` of one's own may know of the episode that it draws."""

    number: int
    """Of the episode, counted over all epochs, below ``num_tasks``; validation and test begin at 0 each time."""
    step: int
    """``number // meta_batch_size``: what the episodes of a step have in common."""
    stage: str
    """``"train"``, ``"val"`` or ``"test"``"""
    ways: int
    """W"""
    shots: int
    queries: int
    classes: tuple[str, ...]
    """C names."""
    rows: Sequence[NDArray[np.integer[Any]]]
    """By class, the rows of its examples in the data, which has them in the order in which it was given."""
    generator: np.random.Generator
    """Seeded by the plan's seed, the stage, the number and the data's fingerprint: all that may be random."""


OwnSampler = Callable[[EpisodeDraw], Any]
"""Returns rows ``[W, shots + queries]``, of which the first ``shots`` are support; or None: an episode as usual."""


class EpisodeSampler:
    """Names the examples of any episode.

    Args:
        index: the rows of each class.
        classes: class names, for messages; may be empty.
        ways, shots, queries: the size of an episode; of ways that differ, the least and the most.
        num_tasks: how many distinct episodes exist; -1: without end.
        seed, stage, fingerprint: together with an episode's number they determine it.
        together: episodes of a step, which have one number of ways.
        own: draws in its place.
        remedy: what else to do where there are fewer classes than ways, a sentence; or nothing.
        origins: what the examples come from, where no episode may show and ask for examples of one origin.

    Raises:
        DataError: there are fewer classes than ways, or a class has too few examples or origins.
    """

    def __init__(
        self,
        index: ClassIndex,
        *,
        ways: int | tuple[int, int],
        shots: int,
        queries: int,
        num_tasks: int = -1,
        seed: int = 0,
        stage: str = "train",
        fingerprint: str = "",
        classes: tuple[str, ...] = (),
        together: int = 1,
        own: OwnSampler | None = None,
        remedy: str = "",
        origins: Origins | None = None,
    ) -> None:
        self._least, self.ways = ways if isinstance(ways, tuple) else (ways, ways)
        self.varies = self._least < self.ways
        """Whether steps differ in their ways, so that their rows are no one array."""
        self.shots, self.queries, self.num_tasks = shots, queries, num_tasks
        self.classes, self._stage, self._together, self._own = classes, stage, together, own
        self._index, self._remedy = index, remedy
        self._counts = index.counts
        digest = hashlib.blake2b(f"{seed}|{stage}|{fingerprint}".encode(), digest_size=8).digest()
        self._key = np.uint64(int.from_bytes(digest, "little"))
        several = f"{self._least} to {self.ways} of {together}" if self.varies else f"{self.ways}"
        sizes = f"{several}-way {shots}-shot, {queries} queries, {len(self._counts)} classes, {num_tasks} tasks"
        sizes += f", {described(own)}" if own else ""
        self._halves = None if origins is None else Halves(self._rows, origins, shots, queries)
        sizes += f", {len(origins.names)} groups apart" if origins is not None else ""
        self.drawn = f"{sizes}, {digest.hex()}"
        """What its episodes follow from: those of one that has the same are the same."""
        if own is None:
            self._check()
        else:
            self._check_own()

    def _check(self) -> None:
        ways, shots, queries, stage, classes = self.ways, self.shots, self.queries, self._stage, self.classes
        alone = "" if stage == "train" else ", or test_{} alone,"
        if len(self._counts) < ways:
            raise DataError(
                f"{ways}-way episodes need at least {ways} classes; the {stage} data has {len(self._counts)}. "
                f"Set ways{alone.format('ways')} to {max(len(self._counts), 2)}, or add classes"
                f"{self._typed(ways=max(len(self._counts), 2))}{self._remedy and f'. {self._remedy}'}"
            )
        fewest = int(self._counts.argmin())
        if self._counts[fewest] < shots + queries:
            name = classes[fewest] if classes else str(fewest)
            has = int(self._counts[fewest])
            if has > shots:
                sizes = {"queries": has - shots}
                remedy = f"Set queries{alone.format('queries')} to {has - shots}"
            elif has > 1:
                sizes = {"shots": has - 1, "queries": 1}
                remedy = f"Set shots{alone.format('shots')} to {has - 1} and queries likewise to 1"
            else:
                sizes = {}
                remedy = "Remove the class"
            raise DataError(
                f"{ways}-way {shots}-shot with {queries} queries needs {shots + queries} examples per class; "
                f"'{name}' of the {stage} data has {has}. {remedy}, or add examples"
                f"{self._typed(**sizes)}"
            )
        if self._halves is not None and (lacking := self._halves.lacking()):
            code, those = next(iter(lacking.items()))
            more = f" (and {len(lacking) - 1} other classes)" if len(lacking) > 1 else ""
            raise DataError(
                f"{ways}-way {shots}-shot with {queries} queries of other groups needs {shots} examples of a class in "
                f"some groups and {queries} in others; '{classes[code] if classes else code}' of the {stage} data has "
                f"{those}{more}. Lower shots or queries, add groups, or leave group_field and group_by out"
            )

    def _typed(self, **sizes: int) -> str:
        """Return how sizes of this stage's episodes are given on the command line, of ``fit`` or of ``test``."""
        flags = "--" if self._stage == "test" else "--model.training_strategy_kwargs."
        own = "" if self._stage == "train" else "test_"
        typed = " ".join(f"{flags}{own}{size} {number}" for size, number in sizes.items())
        return typed and f" (on the command line: {typed})"

    @classmethod
    def for_stage(
        cls, table: Table, plan: EpisodePlan, stage: str, own: OwnSampler | None = None, remedy: str = ""
    ) -> EpisodeSampler:
        """Return the sampler of a stage of a plan; see the class for ``own`` and ``remedy``."""
        _, shots, queries = plan.shape(stage)
        return cls(
            table.index,
            ways=plan.span(stage),
            shots=shots,
            queries=queries,
            num_tasks=plan.num_tasks if stage == "train" else plan.test_num_tasks,
            seed=plan.seed,
            stage=stage,
            fingerprint=table.episode_fingerprint,
            classes=table.classes,
            together=plan.meta_batch_size,
            own=own,
            remedy=remedy,
            origins=table.origins,
        )

    def draw(self, episodes: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the rows of episodes.

        Args:
            episodes: ``[T]`` numbers of episodes, in any order; of one step where ways differ.

        Returns:
            ``[T, W, K]`` rows of the table; of each class the first ``shots`` are the support, the others the query.

        Raises:
            DataError: a sampler of one's own returns what is no episode.
        """
        numbers = self._distinct(episodes)
        blocks = [self._draw_block(numbers[at : at + _BLOCK]) for at in range(0, len(numbers), _BLOCK)]
        return np.concatenate(blocks) if blocks else np.empty((0, self.ways, self.shots + self.queries), np.int64)

    def draw_classes(self, episodes: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the classes of episodes alone, ``[T, W]``, in the order of their targets."""
        if self._own is not None:
            return self._codes[self.draw(episodes)[:, :, 0]]
        numbers = self._distinct(episodes)
        return self._classes_of(numbers, self._ways_of(numbers))[1]

    def _distinct(self, episodes: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        numbers = np.asarray(episodes, np.int64)
        return numbers % self.num_tasks if self.num_tasks > 0 else numbers

    def _ways_of(self, numbers: NDArray[np.int64]) -> int:
        """Return the ways of some episodes of a step."""
        if not self.varies:
            return self.ways
        step = int(numbers[0]) // self._together
        assert (numbers // self._together == step).all(), "episodes of several steps have several numbers of ways"
        bits = _mix(~self._key + _scaled(np.array([step + 1], np.uint64)))  # none of those that choose classes
        return self._least + int((bits >> np.uint64(11))[0] * 2.0**-53 * (self.ways - self._least + 1))

    def _classes_of(self, numbers: NDArray[np.int64], ways: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        keys = _mix(self._key + _scaled(numbers.astype(np.uint64)))
        return keys, _choose(keys, np.full(len(numbers), len(self._counts)), ways)

    def _draw_block(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._own is not None:
            return np.stack([self._drawn_by_own(int(number)) for number in numbers])
        return self._drawn_as_usual(numbers)

    def _drawn_as_usual(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        ways = self._ways_of(numbers)
        keys, codes_TW = self._classes_of(numbers, ways)
        # Choosing the classes used up the first 2 * ways numbers of each episode.
        counters = np.arange(2 * ways + 1, 3 * ways + 1, dtype=np.uint64)
        keys_TW = _mix(keys[:, None] + _scaled(counters))
        if self._halves is not None:
            drawn = zip(keys, keys_TW, codes_TW, strict=True)
            return np.stack([self._of_other_origins(self._halves, *episode) for episode in drawn])
        counts_TW = self._counts[codes_TW]
        places = _choose(keys_TW.ravel(), counts_TW.ravel(), self.shots + self.queries)
        places = places.reshape(*codes_TW.shape, -1) + self._index.offsets[codes_TW][:, :, None]
        return self._index.order[places].astype(np.int64)

    def _of_other_origins(
        self, halves: Halves, key: np.uint64, keys_W: NDArray[np.uint64], codes_W: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the rows ``[W, K]`` of an episode that asks for examples of other origins than it shows."""

        def bits(attempt: int, count: int) -> NDArray[np.uint64]:
            first = 3 * len(codes_W) + 1 + attempt * count  # behind what chose the classes and their keys
            return _mix(key + _scaled(np.arange(first, first + count, dtype=np.uint64)))

        parts = halves.divided(codes_W.tolist(), bits)
        if parts is None:
            names = [self.classes[code] if self.classes else str(code) for code in codes_W.tolist()]
            raise DataError(
                f"no division of the groups of {shown(names)} of the {self._stage} data leaves {self.shots} examples "
                f"of each to show and {self.queries} of other groups to ask for: lower shots, queries or ways, add "
                "groups, or leave group_field and group_by out"
            )
        drawn = []
        for side, (count, keys) in enumerate(((self.shots, keys_W), (self.queries, ~keys_W))):
            some = [part[side] for part in parts]
            places = _choose(keys, np.array([len(rows) for rows in some]), count)
            drawn.append(np.stack([rows[own] for rows, own in zip(some, places, strict=True)]))
        return np.concatenate(drawn, 1).astype(np.int64)

    # ---- samplers of one's own

    def _check_own(self) -> None:
        first, again = (self._draw_block(np.zeros(1, np.int64)) for _ in range(2))
        if not np.array_equal(first, again):
            raise DataError(
                "the episode_sampler draws other rows for the same episode each time: draw from the generator that it "
                "is handed (draw.generator), and keep nothing from one call to the next"
            )

    def _drawn_by_own(self, number: int) -> NDArray[np.int64]:
        assert self._own is not None
        numbers = np.array([number])
        ways = self._ways_of(numbers)
        found = self._own(
            EpisodeDraw(
                number,
                number // self._together,
                self._stage,
                ways,
                self.shots,
                self.queries,
                self.classes,
                self._rows,
                np.random.Generator(np.random.PCG64([int(self._key), number])),
            )
        )
        if found is None:
            self._check()
            usual_WK: NDArray[np.int64] = self._drawn_as_usual(numbers)[0]
            return usual_WK
        rows = np.asarray(found)
        about = f"the episode_sampler's episode {number} of the {self._stage} data"
        wanted = ways, self.shots + self.queries
        if rows.shape != wanted or not np.issubdtype(rows.dtype, np.integer):
            raise DataError(
                f"{about} is an array {rows.shape} of {rows.dtype}: it must have rows [ways, shots + queries], "
                f"{wanted}, or be None for an episode as usual"
            )
        rows = rows.astype(np.int64)
        if rows.min() < 0 or rows.max() >= len(self._codes):
            wrong = rows.min() if rows.min() < 0 else rows.max()
            raise DataError(f"{about} has the row {wrong}: the data has {len(self._codes)}, from 0 on")
        values, times = np.unique(rows, return_counts=True)
        if (times > 1).any():
            raise DataError(f"{about} has the row {values[times > 1][0]} twice: an example may not be asked and taught")
        codes_WK = self._codes[rows]
        if (codes_WK != codes_WK[:, :1]).any() or len(np.unique(codes_WK[:, 0])) < ways:
            raise DataError(
                f"{about} has examples of several classes in one of its ways, or one class in two: each of its rows "
                "must name examples of one class"
            )
        return rows

    @cached_property
    def _rows(self) -> list[NDArray[Any]]:
        return [self._index.rows(code) for code in range(len(self._counts))]

    @cached_property
    def _codes(self) -> NDArray[np.int64]:
        """The class of each row, ``[N]``."""
        codes = np.empty(len(self._index.order), np.int64)
        codes[self._index.order] = np.repeat(np.arange(len(self._counts)), self._counts)
        return codes


def _scaled(counter: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return counter * np.uint64(_GOLDEN)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash 64-bit numbers: the output function of SplitMix64 (Steele et al. 2014), exact on every platform."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _choose(keys: NDArray[np.uint64], sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Draw ``count`` different numbers below ``sizes[r]`` for each row r, in random order: ``[R, count]``.

    Floyd's algorithm (Bentley & Floyd 1987) draws a uniform set in ``count`` steps whatever the size; sorting the
    members by random bits then makes their order uniform too.
    """
    random = _mix(keys + _scaled(np.arange(1, 2 * count + 1, dtype=np.uint64))[:, None])  # [2 * count, R]
    unit = (random[:count] >> np.uint64(11)).astype(np.float64) * 2.0**-53
    chosen = np.empty((count, len(keys)), np.int64)
    for step in range(count):
        largest = sizes - count + step
        pick = (unit[step] * (largest + 1)).astype(np.int64)
        taken = (chosen[:step] == pick).any(axis=0)
        chosen[step] = np.where(taken, largest, pick)
    low = np.uint64((1 << count.bit_length()) - 1)
    order = (random[count:] & ~low) | np.arange(count, dtype=np.uint64)[:, None]
    order = np.sort(np.ascontiguousarray(order.T), axis=1) & low
    return np.take_along_axis(chosen.T, order.astype(np.int64), axis=1)
