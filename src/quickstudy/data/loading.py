"""What a step is made of: the batches and episodes that a data loader's workers put together.

The sampler, in the main process, names the rows of each step; the data set, in a worker, reads them.
Every rank names only its own share, from numbers alone.

Shapes: T episodes on this rank, W ways, K = shots + queries, B examples of a batch.
"""

from __future__ import annotations

import pickle
import signal
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from quickstudy.batches import Batch, take, unfold
from quickstudy.data.episodes import EpisodeSampler
from quickstudy.data.samples import Samples
from quickstudy.data.table import ClassIndex, Table
from quickstudy.episode import Episode
from quickstudy.errors import ConfigError, DataError

_SORTED = 100  # steps whose examples are sorted by length together
_SHOWN = 200  # names in a message
_GUARD = (
    "where processes are spawned (macOS, Windows), each runs the script anew, so put what it does below "
    '`if __name__ == "__main__":`; or set num_workers=0'
)
_AHEAD = 256  # episodes whose rows are named at once; naming one costs 50 times as much


class Share(NamedTuple):
    """Which process this is, of how many."""

    rank: int = 0
    world_size: int = 1

    def of(self, count: int, what: str) -> int:
        """Return this rank's part of ``count`` things.

        Raises:
            ConfigError: they cannot be divided evenly; both numbers are named.
        """
        if count % self.world_size:
            nearest = -(-count // self.world_size) * self.world_size
            raise ConfigError(
                f"{what}={count} cannot be shared by {self.world_size} processes evenly: set {what}={nearest}, "
                f"or another number of devices"
            )
        return count // self.world_size


class Steps(Sampler[Any]):
    """Names the steps of an epoch; a resumed epoch begins where it was left."""

    unit = "batch"
    epoch = 0
    resumed = (0, 0)
    """An epoch, and how many of its steps are done already."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this."""
        self.epoch = epoch

    @property
    @abstractmethod
    def together(self) -> int:
        """How many units a step has, on all processes."""

    @abstractmethod
    def remedy(self, together: int) -> str:
        """Say what to type for steps of so many units."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def starting(self, first: int) -> Iterator[Any]:
        """Name the epoch's steps from one on: what is numbered in them, and rows."""

    def __iter__(self) -> Iterator[Any]:
        return self.starting(self.done)

    @property
    def done(self) -> int:
        """How many steps a pass leaves out, since an earlier run did them."""
        return self.resumed[1] if self.resumed[0] == self.epoch else 0


class StepLoader(DataLoader[Any]):
    """A loader that knows how far it is: a run resumes on the very next step. Its ``sampler`` is ``Steps``."""

    sampler: Steps
    _done = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._done = self.sampler.done
        batches = self._begun()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                begun = self._done > self.sampler.done
                codes = [each.exitcode for each in getattr(batches, "_workers", ())]
                self._done += 1
                raise DataError(
                    f"a process that loads data died ({error}), {_why(str(error), codes, begun)}. It was about to load "
                    f"{self.in_progress()}, or what comes next"
                ) from error
            self._done += 1
            yield batch

    def _begun(self) -> Iterator[Any]:
        """Return the batches to come, once the processes that load them were started.

        Raises:
            ConfigError: they cannot be: the script has no guard, or what they need cannot be sent to them.
        """
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Got pickle error")  # torch's, which the error here says better
                return super().__iter__()
        except (RuntimeError, BrokenPipeError, EOFError) as error:
            if isinstance(error, RuntimeError) and "bootstrapping phase" not in str(error):
                raise
            raise ConfigError(f"processes that load data could not be started: {_GUARD}") from error
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            if "pickle" not in str(error):
                raise
            raise ConfigError(
                f"num_workers={self.num_workers} sends the data and its transform to other processes, and {error}: "
                "define functions and classes at the top of a module, without lambda, or set num_workers=0"
            ) from error

    def in_progress(self) -> str:
        """Say what the step that was handed out last is made of."""
        numbers, rows = next(self.sampler.starting(self._done - 1))
        named: Any = self.dataset
        names = [named.name(int(row)) for row in rows.flat]
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        return f"{self.sampler.unit} {', '.join(map(str, np.atleast_1d(numbers)))}: {shown}"

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and how many of its steps were handed out; Lightning puts it into a checkpoint."""
        steps = {"steps": len(self.sampler), "together": self.sampler.together}
        return {"epoch": self.sampler.epoch, "done": self._done, **steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            ConfigError: the rest of the epoch would be shared out otherwise than its beginning.
        """
        now, then = (len(self.sampler), self.sampler.together), (state["steps"], state["together"])
        if now != then and state["done"] < state["steps"]:
            raise ConfigError(
                f"the run was interrupted in an epoch of {then[0]} steps of {then[1]} on all processes "
                f"together, and now there are {now[0]} steps of {now[1]}: {self.sampler.remedy(then[1])}"
            )
        self.sampler.resumed = state["epoch"], state["done"]


def _why(told: str, codes: Sequence[int | None], begun: bool) -> str:
    """Return why a process that loads data most likely died, and what helps.

    Args:
        told: what torch says of it.
        codes: the exit codes of all; None of those that live, below 0 of those that a signal killed.
        begun: whether some data came before.
    """
    if "shared memory" in told or -signal.SIGBUS in codes:
        return (
            "most often because shared memory ran out: fewer num_workers, smaller batches, num_workers=0, or in a "
            "container more of it (docker run --shm-size=8g)"
        )
    if any(code is not None and code > 0 for code in codes):
        anew = not begun and torch.multiprocessing.get_start_method() != "fork"
        return f"by an error that stands above: {_GUARD if anew else 'with num_workers=0 it shows here'}"
    if -signal.SIGSEGV in codes or -signal.SIGABRT in codes:
        return "since a library crashed in it: with num_workers=0 it crashes where a debugger can look"
    return "most often because memory ran out: fewer num_workers, or a smaller cache, or smaller inputs"


class EpisodeSteps(Steps):
    """Names the episodes of each step and their rows: ``(numbers [T], rows [T, W, K])``.

    Step s of the run holds the episodes ``s * meta_batch_size ...``; of them each rank takes a run of equal length.

    Args:
        sampler: names the rows of an episode.
        length: episodes of one epoch, over all ranks.
        meta_batch_size: episodes of one step, over all ranks; the last step may hold fewer.
        share: this process.
        repeat: whether every epoch has the same episodes (validation, test) rather than the next ones.
    """

    unit = "episodes"

    def __init__(
        self, sampler: EpisodeSampler, length: int, meta_batch_size: int, share: Share, repeat: bool = False
    ) -> None:
        self._sampler = sampler
        self._length = length
        self._meta_batch_size = meta_batch_size
        self.share = share
        self._repeat = repeat
        share.of(meta_batch_size, "meta_batch_size")
        share.of(length, "test_epoch_length" if repeat else "epoch_length")

    @property
    def together(self) -> int:
        """How many episodes a step has, on all processes."""
        return self._meta_batch_size

    def remedy(self, together: int) -> str:
        """Say what to type for steps of so many episodes."""
        return f"set meta_batch_size={together} and the epoch_length of before"

    def __len__(self) -> int:
        return -(-self._length // self._meta_batch_size)

    def starting(self, first: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Name the epoch's steps from one on."""
        together = 1 if self._sampler.varies else max(1, _AHEAD * self.share.world_size // self._meta_batch_size)
        for at in range(first, len(self), together):
            group = [self._numbers(step) for step in range(at, min(at + together, len(self)))]
            rows = self._sampler.draw(np.concatenate(group))
            yield from zip(group, np.split(rows, np.cumsum([len(step) for step in group])[:-1]), strict=True)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that episodes are drawn from."""
        return self._sampler.classes

    @property
    def drawn(self) -> str:
        """What the episodes follow from (``EpisodeSampler.drawn``)."""
        return self._sampler.drawn

    def named(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers ``[T]`` of a step's episodes on this rank, and their classes ``[T, W]``."""
        numbers = self._numbers(step)
        return numbers, self._sampler.draw_classes(numbers)

    def _numbers(self, step: int) -> NDArray[np.int64]:
        start = step * self._meta_batch_size
        size = min(self._meta_batch_size, self._length - start) // self.share.world_size
        begin = start + self.share.rank * size + (0 if self._repeat else self.epoch * self._length)
        return np.arange(begin, begin + size)


class EpisodeDataset(Dataset[Episode]):
    """Reads the rows that ``EpisodeSteps`` names.

    Args:
        samples: the inputs as tensors.
        shots: how many of each class's K rows are support.
        seed: of random transforms, together with the episode's number and the position in it.
        numbers: ``[N]``, the targets where they are numbers; None: they are the places of the classes in an episode.
    """

    def __init__(self, samples: Samples, shots: int, seed: int = 0, numbers: NDArray[Any] | None = None) -> None:
        self._samples = samples
        self._numbers = numbers
        self._shots = shots
        self._seed = seed
        self.name = samples.name

    def __getitem__(self, step: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Episode:
        numbers, rows_TWK = step
        tasks, ways, per_class = rows_TWK.shape
        shots, queries = self._shots, per_class - self._shots
        ordered = np.concatenate(
            [rows_TWK[:, :, :shots].reshape(tasks, -1), rows_TWK[:, :, shots:].reshape(tasks, -1)], axis=1
        )
        seeds = ((self._seed, int(number), place) for number in numbers for place in range(ordered.shape[1]))
        inputs = self._samples.batch(ordered.ravel(), seeds)
        inputs = unfold(inputs, *ordered.shape)
        support, query = (slice(None), slice(ways * shots)), (slice(None), slice(ways * shots, None))
        if self._numbers is not None:
            told = targets_of(self._numbers, ordered)
            return Episode(take(inputs, support), told[support], take(inputs, query), told[query])
        codes = torch.arange(ways)
        return Episode(
            take(inputs, support),
            codes.repeat_interleave(shots).expand(tasks, -1),
            take(inputs, query),
            codes.repeat_interleave(queries).expand(tasks, -1),
        )


class BatchSteps(Steps):
    """Names each ordinary batch on this rank: ``(number, rows [B])``, shuffled anew in each epoch if asked.

    Args:
        length: examples in all.
        batch_size: examples of one step on one rank; the last step may hold fewer. A single one that would be left
            over joins the step before it where ``shuffle`` is on, since BatchNorm cannot train on one example.
        share: this process. Ranks may differ by one example in the last step, so that none is left out or repeated.
        shuffle: whether the order changes with the epoch.
        seed: of the order.
        balance: the rows of each class, of which every epoch then has as many as of the others, in turn.
        lengths: of each example, where a step is to have such as are about as long, so that little fills them up.

    Raises:
        ConfigError: the batch size is below 1, or the last step has fewer examples than there are ranks.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        share: Share,
        shuffle: bool = False,
        seed: int = 0,
        balance: ClassIndex | None = None,
        lengths: NDArray[np.int64] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: it must be at least 1")
        self._length = length
        self._batch_size = batch_size
        self.share = share
        self._shuffle = shuffle
        self._seed = seed
        self._balance, self._lengths = balance, lengths
        ranks = share.world_size
        if length < ranks:
            raise ConfigError(f"{length} examples are fewer than {ranks} processes: use at most {length} devices")
        left = length % (batch_size * ranks)
        if shuffle and 1 < left < ranks:
            better = _without_crumbs(length, batch_size, ranks)
            raise ConfigError(
                f"{length} examples in steps of {batch_size} on each of {ranks} processes leave {left} for the last "
                f"step, which not all processes could share: set batch_size={better}"
            )

    @property
    def together(self) -> int:
        """How many examples a step has, on all processes."""
        return self._batch_size * self.share.world_size

    def remedy(self, together: int) -> str:
        """Say what to type for steps of so many examples."""
        ranks = self.share.world_size
        if together % ranks:
            return f"use a number of processes that divides {together}, and the data of before"
        return f"set batch_size={together // ranks}, with the data of before"

    def __len__(self) -> int:
        alone = self._shuffle and self._length % self.together == 1 < self._length
        return -(-((self._length - alone) // self.share.world_size) // self._batch_size)

    def starting(self, first: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Name the epoch's steps from one on."""
        rank, ranks = self.share
        rows = np.arange(self._length)
        if self._shuffle:
            generator = np.random.default_rng((self._seed, self.epoch))
            if self._balance is not None:
                rows = _balanced(self._balance, self._length, generator)
            rows = generator.permutation(rows)
            if self._lengths is not None:
                rows = _by_length(rows, self._lengths, self.together, generator)
        steps = np.split(rows[rank::ranks], np.arange(1, len(self)) * self._batch_size)
        before = self.epoch * len(self) if self._shuffle else 0
        for step in range(first, len(self)):
            yield (before + step) * ranks + rank, steps[step]


def _balanced(index: ClassIndex, length: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return ``[length]`` rows, as many of each class as of the others; of a class, each as often as the others."""
    codes = generator.permutation(np.flatnonzero(index.counts))
    each, more = divmod(length, len(codes))
    drawn = []
    for place, code in enumerate(codes.tolist()):
        rows, count = index.rows(code), each + (place < more)
        turns = [generator.permutation(rows) for _ in range(-(-count // len(rows)))]
        drawn.append(np.concatenate([rows[:0], *turns])[:count])
    return np.concatenate(drawn).astype(np.int64)


def _by_length(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], together: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return rows such that those of a step are about as long, in another order of steps; a part of one stays last.

    They are sorted within a hundred steps, so that a step has other examples in each epoch.
    """
    whole = len(rows) // together * together
    parts = [
        part[np.argsort(lengths[part], kind="stable")]
        for part in np.split(rows[:whole], np.arange(_SORTED * together, whole, _SORTED * together))
    ]
    steps = np.concatenate(parts).reshape(-1, together)
    return np.concatenate([generator.permutation(steps).flatten(), rows[whole:]])


def _without_crumbs(length: int, batch_size: int, ranks: int) -> int:
    """Return the next batch size whose last step all ranks share."""
    while 1 < length % (batch_size * ranks) < ranks:
        batch_size += 1
    return batch_size


def inputs_of(batch: Any) -> Batch:
    """Return the inputs ``[B, ...]`` of a batch: themselves, ``(inputs, targets)``, or a dict with ``"input"``."""
    if isinstance(batch, Mapping) and "input" in batch:
        return batch["input"]
    return batch[0] if isinstance(batch, (tuple, list)) else batch


class BatchDataset(Dataset[Any]):
    """Reads the rows that ``BatchSteps`` names: ``(inputs [B, ...], targets [B] or [B, C])``, or inputs alone.

    Where targets are annotations, it is ``{"input": ..., "target": ...}``.

    Args:
        table: the examples.
        samples: the inputs as tensors; with annotations whole samples.
        seed: of random transforms, together with the step and the place in it, whichever process reads it.
        ranks: how many processes share a step.
        labelled: False: inputs alone, though there are targets.
    """

    def __init__(self, table: Table, samples: Samples, seed: int = 0, ranks: int = 1, labelled: bool = True) -> None:
        self.table = table
        self._targets = table.targets if labelled else None
        self._samples = samples
        self._seed = seed
        self._ranks = ranks
        self.name = samples.name

    def __getitem__(self, step: tuple[int, NDArray[np.int64]]) -> tuple[Batch, Tensor] | Batch:
        rows = step[1]
        inputs = self._samples.batch(rows, ((self._seed, *place) for place in _places(step, self._ranks)))
        if self._targets is None:  # which whole samples have with them
            return inputs
        return inputs, targets_of(self._targets, rows)


class ViewDataset(Dataset[dict[str, Batch]]):
    """Reads the rows that ``BatchSteps`` names, each several times: ``{"views": [B, V, ...]}``.

    What is random in a view follows from the seed, the step, the place in it and the view, whichever process reads it.

    Args:
        table: the examples.
        samples: their inputs as tensors, through the transform that makes views.
        views: V.
        seed: of the transform.
        ranks: how many processes share a step.
        judged: the inputs as they are judged; a batch then has them, ``"input"``, and ``"target"`` where there are
            targets; None: it has neither.
        labelled: False: it has no target, though there are some.
    """

    def __init__(
        self,
        table: Table,
        samples: Samples,
        views: int,
        seed: int = 0,
        ranks: int = 1,
        judged: Samples | None = None,
        labelled: bool = True,
    ) -> None:
        self.table, self.name = table, samples.name
        self._targets = table.targets if labelled else None
        self._samples, self._views, self._seed, self._ranks, self._judged = samples, views, seed, ranks, judged

    def __getitem__(self, step: tuple[int, NDArray[np.int64]]) -> dict[str, Batch]:
        rows, places = step[1], _places(step, self._ranks)
        seeds = ((self._seed, *place, view) for place in places for view in range(self._views))
        views = self._samples.batch(np.repeat(rows, self._views), seeds)
        found = {"views": unfold(views, len(rows), self._views)}
        if self._judged is not None:
            found["input"] = self._judged.batch(rows, ((self._seed, *place) for place in places))
            if self._targets is not None:
                found["target"] = targets_of(self._targets, rows)
        return found


def _places(step: tuple[int, NDArray[np.int64]], ranks: int) -> list[tuple[int, int]]:
    """Return for each row that ``BatchSteps`` names the step of all processes together, and the place in it."""
    number, rank = divmod(step[0], ranks)
    return [(number, rank + ranks * place) for place in range(len(step[1]))]


def targets_of(targets: NDArray[Any], rows: NDArray[np.int64]) -> Tensor:
    """Return the targets of some rows: codes as int64, numbers in float64, since float32 has 7 digits."""
    some = torch.from_numpy(targets[rows])
    return some.double() if some.is_floating_point() else some.long()
