"""Which examples make up episode i: a pure function of (seed, stage, i, the data's fingerprint).

No generator is carried along and no rank or worker talks to another, so any process can name the examples of any
episode at any time: the same episodes come out on one device and on a thousand, and a run resumes on the next one.

Shapes: T episodes, W ways, K = shots + queries examples per class.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.table import ClassIndex, Table
from quickstudy.errors import ConfigError, DataError

_GOLDEN = 0x9E3779B97F4A7C15
_BLOCK = 1024  # episodes drawn at once: their arrays stay within a processor's cache


@dataclass(frozen=True)
class EpisodePlan:
    """How many of what: the options that every few-shot training strategy shares.

    Args:
        ways: classes in a training episode.
        shots: support examples per class.
        queries: query examples per class.
        meta_batch_size: episodes whose gradients are averaged before one optimizer step, over all devices together.
        epoch_length: episodes per training epoch; a multiple of ``meta_batch_size``.
        test_ways: classes in a validation or test episode; default: ``ways``.
        test_shots: support examples per class in one; default: ``shots``.
        test_queries: query examples per class in one; default: ``queries``.
        test_epoch_length: episodes per validation or test.
        num_tasks: how many distinct training episodes exist; -1 draws a new one every time.
        test_num_tasks: how many distinct validation or test episodes exist; -1: as many as are drawn.
        seed: chooses the list of episodes.

    Raises:
        ConfigError: a number is out of range, or ``epoch_length`` is no multiple of ``meta_batch_size``.
    """

    ways: int = 5
    shots: int = 1
    queries: int = 15
    meta_batch_size: int = 4
    epoch_length: int = 400
    test_ways: int | None = None
    test_shots: int | None = None
    test_queries: int | None = None
    test_epoch_length: int = 600
    num_tasks: int = -1
    test_num_tasks: int = -1
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in ("test_ways", "test_shots", "test_queries"):
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise ConfigError(f"{field.name} must be a whole number, not {value!r}")
            least = 2 if field.name.endswith("ways") else 0 if field.name == "seed" else 1
            if field.name.endswith("num_tasks") and value == -1:
                continue
            if value < least:
                raise ConfigError(f"{field.name}={value}: it must be at least {least}")
        if 0 < self.test_num_tasks < self.test_epoch_length:
            raise ConfigError(
                f"test_num_tasks={self.test_num_tasks} is fewer than test_epoch_length={self.test_epoch_length}: the "
                f"same episodes would count several times. Set test_epoch_length={self.test_num_tasks}"
            )
        if self.epoch_length % self.meta_batch_size:
            nearest = -(-self.epoch_length // self.meta_batch_size) * self.meta_batch_size
            raise ConfigError(
                f"epoch_length={self.epoch_length} is no multiple of meta_batch_size={self.meta_batch_size}: "
                f"set epoch_length={nearest}"
            )

    def shape(self, stage: str) -> tuple[int, int, int]:
        """Return (ways, shots, queries) of a stage: ``"train"``, ``"val"`` or ``"test"``."""
        if stage == "train":
            return self.ways, self.shots, self.queries
        return self.test_ways or self.ways, self.test_shots or self.shots, self.test_queries or self.queries


class EpisodeSampler:
    """Names the examples of any episode.

    Args:
        index: the rows of each class.
        classes: class names, for messages; may be empty.
        ways, shots, queries: the size of an episode.
        num_tasks: how many distinct episodes exist; -1: without end.
        seed, stage, fingerprint: together with an episode's number they determine it.

    Raises:
        DataError: there are fewer classes than ways, or a class has too few examples.
    """

    def __init__(
        self,
        index: ClassIndex,
        *,
        ways: int,
        shots: int,
        queries: int,
        num_tasks: int = -1,
        seed: int = 0,
        stage: str = "train",
        fingerprint: str = "",
        classes: tuple[str, ...] = (),
    ) -> None:
        self.ways, self.shots, self.queries, self.num_tasks = ways, shots, queries, num_tasks
        self.classes = classes
        self._index = index
        self._counts = index.counts
        digest = hashlib.blake2b(f"{seed}|{stage}|{fingerprint}".encode(), digest_size=8).digest()
        self._key = np.uint64(int.from_bytes(digest, "little"))
        sizes = f"{ways}-way {shots}-shot, {queries} queries, {len(self._counts)} classes, {num_tasks} tasks"
        self.drawn = f"{sizes}, {digest.hex()}"
        """What its episodes follow from: those of one that has the same are the same."""
        alone = "" if stage == "train" else ", or test_{} alone,"
        if len(self._counts) < ways:
            raise DataError(
                f"{ways}-way episodes need at least {ways} classes; the {stage} data has {len(self._counts)}. "
                f"Set ways{alone.format('ways')} to {max(len(self._counts), 2)}, or add classes"
            )
        fewest = int(self._counts.argmin())
        if self._counts[fewest] < shots + queries:
            name = classes[fewest] if classes else str(fewest)
            has = int(self._counts[fewest])
            if has > shots:
                remedy = f"Set queries{alone.format('queries')} to {has - shots}"
            elif has > 1:
                remedy = f"Set shots{alone.format('shots')} to {has - 1} and queries likewise to 1"
            else:
                remedy = "Remove the class"
            raise DataError(
                f"{ways}-way {shots}-shot with {queries} queries needs {shots + queries} examples per class; "
                f"'{name}' of the {stage} data has {has}. {remedy}, or add examples"
            )

    @classmethod
    def for_stage(cls, table: Table, plan: EpisodePlan, stage: str) -> EpisodeSampler:
        """Return the sampler of a stage of a plan."""
        ways, shots, queries = plan.shape(stage)
        return cls(
            table.index,
            ways=ways,
            shots=shots,
            queries=queries,
            num_tasks=plan.num_tasks if stage == "train" else plan.test_num_tasks,
            seed=plan.seed,
            stage=stage,
            fingerprint=table.episode_fingerprint,
            classes=table.classes,
        )

    def draw(self, episodes: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the rows of episodes.

        Args:
            episodes: ``[T]`` numbers of episodes, in any order.

        Returns:
            ``[T, W, K]`` rows of the table; of each class the first ``shots`` are the support, the others the query.
        """
        numbers = np.asarray(episodes, np.int64)
        blocks = [self._draw_block(numbers[at : at + _BLOCK]) for at in range(0, len(numbers), _BLOCK)]
        return np.concatenate(blocks) if blocks else np.empty((0, self.ways, self.shots + self.queries), np.int64)

    def draw_classes(self, episodes: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the classes of episodes alone, ``[T, W]``, in the order of their targets."""
        return self._classes_of(np.asarray(episodes, np.int64))[1]

    def _classes_of(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        if self.num_tasks > 0:
            numbers = numbers % self.num_tasks
        keys = _mix(self._key + _scaled(numbers.astype(np.uint64)))
        return keys, _choose(keys, np.full(len(numbers), len(self._counts)), self.ways)

    def _draw_block(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        keys, codes_TW = self._classes_of(numbers)
        # Choosing the classes used up the first 2 * ways numbers of each episode.
        counters = np.arange(2 * self.ways + 1, 3 * self.ways + 1, dtype=np.uint64)
        keys_TW = _mix(keys[:, None] + _scaled(counters))
        counts_TW = self._counts[codes_TW]
        places = _choose(keys_TW.ravel(), counts_TW.ravel(), self.shots + self.queries)
        places = places.reshape(*codes_TW.shape, -1) + self._index.offsets[codes_TW][:, :, None]
        return self._index.order[places].astype(np.int64)


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
