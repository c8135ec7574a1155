"""One model, one thread that asks and changes it, and the journal that makes its changes last.

It is any ``Model``: one that learns, or one that answers alone. The service knows what it says of itself.

Whoever calls gets a future. Inputs that wait are classified together; a change waits for what came before it. Other
processes may serve the same folder: before each batch and each change the thread takes up what they have changed, so
that an answer knows every change that was acknowledged, by whichever of them, before it was asked for.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quickstudy.batches import group_of
from quickstudy.data.samples import Loaded
from quickstudy.data.targets import Label
from quickstudy.errors import ConfigError, DataError, QuickstudyError, brief
from quickstudy.kinds.base import Kind
from quickstudy.kinds.parts import OfParts
from quickstudy.kinds.predictions import Answer
from quickstudy.learning.changes import Change
from quickstudy.learning.naming import learns_names
from quickstudy.modality import Modality, one_of
from quickstudy.model import Model, saved_model
from quickstudy.predictor import Adapted, NumberPredictor, Predictor
from quickstudy.saved import model_folder
from quickstudy.saved.journal import BehindError, Journal, LockedError

_COMPACT_AFTER = 1000  # changes, which would make the next start slow
_LOG = logging.getLogger("quickstudy.serve")


class BusyError(QuickstudyError):
    """So many inputs are waiting that further ones are refused."""


class Taught(NamedTuple):
    """What became of examples of a class."""

    examples: int
    """That the class has now."""
    warnings: tuple[str, ...] = ()
    """What looks wrong with those that came."""


class UnwrittenError(QuickstudyError, OSError):
    """A change could not be written, so nothing was changed."""


class _Asked(NamedTuple):
    """Inputs to classify."""

    inputs: list[Loaded]
    top: int
    nearest: int
    future: Future[list[Answer]]


class _Job(NamedTuple):
    """Anything else that is done with the model."""

    action: Callable[[Model], Any]
    future: Future[Any]
    by: str = ""
    """Who asked for it, for the log."""


class Service:
    """Serves a model until it is closed.

    Args:
        model: the folder of a saved model, which a service follows and changes where it learns; or a model that
            answers alone.
        device: for the model in a folder.
        batch_size: inputs that are classified together at most.
        most_waiting: inputs that may wait; more are refused.
        name: of a model that is in no folder.

    Raises:
        DataError: there is no model in the folder, or it is damaged.
        OSError: the folder cannot be written, or others hold it.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        device: str | torch.device = "cpu",
        batch_size: int = 64,
        most_waiting: int = 1024,
        name: str = "",
    ) -> None:
        self._folder = model if isinstance(model, (str, os.PathLike)) else None
        self._device = device
        self.name = name if self._folder is None else Path(self._folder).resolve().name
        """The model's, which is its folder's."""
        self._batch_size, self._most_waiting = batch_size, most_waiting
        self.observe: Callable[[int], None] = lambda size: None
        """Told of the size of each batch."""
        self._queue: queue.SimpleQueue[_Asked | _Job] = queue.SimpleQueue()
        self._waiting, self._lock, self._closed = 0, threading.Lock(), False
        self._by = ""  # who asked for what is being done
        self._warnings: tuple[str, ...] = ()  # of the last change
        self.replayed = 0
        """Changes of earlier runs that it made again at its start, as the model was not written whole since."""
        read: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(model, read), name="quickstudy-model", daemon=True)
        self._thread.start()
        read.result()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what may be asked of it

    def predict(self, inputs: list[Any], count: int = 5, nearest: int = 0) -> Future[list[Answer]]:
        """Classify inputs, each with its likeliest classes and, if asked for, its nearest examples.

        Args:
            inputs: ``Loaded``, as a ``Decoder`` makes them, or examples alone: pictures ``[C, H, W]``.
            count: how many of the likeliest classes to name.
            nearest: how many of the nearest examples.
        """
        future: Future[list[Answer]] = Future()
        self._put(_Asked(_loaded(inputs), count, nearest, future))
        return future

    def classes(self) -> Future[dict[Label, int]]:
        """Return every class with the number of its examples, 0 where the model kept none."""
        return self._do(lambda model: model.counts_)

    def about(self) -> Future[dict[str, Any]]:
        """Return what the model is and what accuracy to expect of it, in values that JSON has."""

        def about(model: Model) -> dict[str, Any]:
            written = "" if self._folder is None else model_folder.written(self._folder)
            return {"name": self.name, "written": written, **model.about()}

        return self._do(about)

    def expected(self) -> Future[list[str]]:
        """Return in words what accuracy to expect; nothing where no example was left out to tell it."""
        return self._do(lambda model: model.expected())

    def thumbnails(self, name: Label) -> Future[tuple[bytes, ...]]:
        """Return a small JPEG of each example of a class; empty where there is none."""
        return self._change(lambda predictor: predictor.thumbnails(predictor.as_class(name)))

    def as_class(self, text: Label) -> Future[Label]:
        """Return the class that a text means; see ``Predictor.as_class``."""
        return self._change(lambda predictor: predictor.as_class(text))

    def teach(self, name: Label, inputs: list[Any], by: str = "", marks: list[Any] | None = None) -> Future[Taught]:
        """Show examples of a class, known or new, or of a new one none; the number of its examples comes back.

        Without an example the name of the class is one, where inputs are texts.

        Here and below, text that writes a class is taken for it (``"2"`` for 2), as a path can hold nothing else; and
        ``by`` is who asks, for the log. Where parts of inputs are learned, ``marks`` show which.
        """

        examples = _loaded(inputs)
        marked = () if marks is None else (marks,)

        def teach(predictor: Any) -> Taught:
            self._check_sizes(examples)
            label = predictor.as_class(name)
            if label in predictor:
                predictor.add_examples(label, examples, *marked)
            else:
                _check_open(predictor)
                predictor.add_class(label, examples or None, *marked)
            return Taught(predictor.counts_[label], self._warnings)

        return self._change(teach, by)

    def show(self, inputs: list[Any], numbers: list[float], by: str = "") -> Future[int]:
        """Show examples with their numbers to a model that tells such; how many it has learned from comes back."""

        examples = _loaded(inputs)

        def show(predictor: NumberPredictor) -> int:
            self._check_sizes(examples)
            return predictor.add_examples(examples, numbers).examples_

        return self._change(show, by, by_class=False)

    def forget(self, name: Label, by: str = "") -> Future[object]:
        """Forget a class."""

        def forget(predictor: Predictor) -> object:
            label = predictor.as_class(name)
            if label in predictor:
                _check_open(predictor)
            return predictor.remove_class(label)

        return self._change(forget, by)

    def rename(self, name: Label, new_name: Label, by: str = "") -> Future[object]:
        """Call a class by another name; a truth value is one only where classes are such."""

        def rename(predictor: Predictor) -> object:
            new = new_name if isinstance(new_name, bool) else predictor.as_class(new_name)
            return predictor.rename_class(predictor.as_class(name), new)

        return self._change(rename, by)

    @property
    def learns(self) -> bool:
        """Whether the model can be shown examples."""
        return self._model.learns

    @property
    def by_class(self) -> bool:
        """Whether it can be shown classes; else it learns numbers, or nothing."""
        return self.learns and self._learner.by_class

    @property
    def learns_names(self) -> bool:
        """Whether a class can be taught by its name alone."""
        return self.by_class and learns_names(self._learner.knowledge)

    @property
    def marks(self) -> str:
        """The field of requests with what marks parts of inputs, where classes of parts are learned; else nothing."""
        return self.kind.marks if self.learns and isinstance(self.kind, OfParts) else ""

    @property
    def modality(self) -> Modality:
        """What an input is."""
        return self._model.modality

    @property
    def kind(self) -> Kind:
        """What an answer is."""
        return self._model.kind

    @property
    def called(self) -> str:
        """What one input is called; those that a function of one's own reads are files, sent like pictures."""
        return one_of("pictures" if self.modality.wire is None else self.modality.called)

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return not self._closed and self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many inputs wait."""
        return self._waiting

    @property
    def change_number(self) -> int:
        """The number of the last change that it has seen."""
        return self._model.change_number

    def close(self) -> None:
        """Finish what was asked for, and end."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(_CLOSE)
        self._thread.join()

    # ---- the thread

    def _do(self, action: Callable[[Model], Any], by: str = "") -> Future[Any]:
        future: Future[Any] = Future()
        self._put(_Job(action, future, by))
        return future

    def _change(self, action: Callable[[Any], Any], by: str = "", by_class: bool = True) -> Future[Any]:
        """Do what only a model takes that learns classes, or else numbers.

        Raises:
            ConfigError: it does not, when the result is asked for.
        """

        def change(model: Any) -> Any:
            if not model.learns:
                raise ConfigError("this model was trained on fixed classes and learns no others")
            if model.by_class != by_class:
                raise ConfigError(f"this model learns {'classes' if model.by_class else 'numbers'} and nothing else")
            return action(model)

        return self._do(change, by)

    def _put(self, job: _Asked | _Job) -> None:
        with self._lock:
            if self._closed:
                raise BusyError("the service is shutting down")
            if isinstance(job, _Asked):
                if self._waiting and self._waiting + len(job.inputs) > self._most_waiting:
                    raise BusyError(f"{self._waiting} {self.called}s are waiting already: try again in a moment")
                self._waiting += len(job.inputs)
            self._queue.put(job)

    def _run(self, source: Any, read: Future[None]) -> None:
        """Read the model, or say why that fails, and do what is asked for until the end."""
        self._model: Model
        self._learner: Adapted  # the same, where it learns
        self._journal: Journal | None = None  # which only the thread that opens it may use
        self._uncompacted = 0
        try:
            if self._folder is None or model_folder.is_trained(self._folder):
                self._model = source if self._folder is None else saved_model(self._folder, self._device)
                read.set_result(None)
                self._work()
                return
            with model_folder.serve(source) as self._journal:
                self.replayed = self._uncompacted = self._read(self._journal)
                read.set_result(None)
                self._work()
        except Exception as error:
            if read.done():
                raise
            read.set_exception(error)

    def _work(self) -> None:
        held: _Asked | _Job | None = None
        while (job := held or self._queue.get()) is not _CLOSE:
            held = None
            if isinstance(job, _Job):
                if job.future.set_running_or_notify_cancel():
                    self._by = job.by
                    _settle(job.future, partial(self._done, job.action))
                    self._compact(after=_COMPACT_AFTER)
            else:
                batch, held = self._gathered(job)
                self._answer(batch)
        self._compact(after=1)

    def _gathered(self, first: _Asked) -> tuple[list[_Asked], _Asked | _Job | None]:
        """Return what is classified together, and what was taken from the queue and is not."""
        batch, size = [first], len(first.inputs)
        while size < self._batch_size and not self._model.transductive:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if isinstance(job, _Job):
                return batch, job
            batch.append(job)
            size += len(job.inputs)
        return batch, None

    def _answer(self, batch: list[_Asked]) -> None:
        size = sum(len(asked.inputs) for asked in batch)
        with self._lock:
            self._waiting -= size
        self.observe(size)
        batch = [asked for asked in batch if asked.future.set_running_or_notify_cancel()]
        try:
            self._follow()
        except Exception as error:  # each alone would fail, too, after as long a wait
            for asked in batch:
                asked.future.set_exception(error)
            return
        try:
            answers = iter(self._classified(batch))
        except Exception:  # whose input it was shows when each is asked alone
            for asked in batch:
                _settle(asked.future, partial(self._classified, [asked]))
            return
        for asked in batch:
            asked.future.set_result([_as_asked(next(answers), asked) for _ in asked.inputs])

    def _classified(self, batch: list[_Asked]) -> list[Answer]:
        """Classify inputs that may be of several sizes, those together of which one batch can be made."""
        if self._model.learns and not self._learner.knowledge.support:
            wire = self.modality.wire
            sent = "images=@yak.jpg" if wire is None or wire.field == "images" else f"{wire.field}=@file"
            what, path = ("class", "classes/yak/examples") if self.by_class else ("example", "examples?number=1.5")
            raise DataError(f"no {what} is known yet: show it one first, curl -F {sent} .../{path}")
        inputs = [one for asked in batch for one in asked.inputs]
        count, nearest = max(asked.top for asked in batch), max(asked.nearest for asked in batch)
        kinds: dict[Any, list[int]] = {}
        for place, one in enumerate(inputs):
            kinds.setdefault(group_of(one.example), []).append(place)
        answers: dict[int, Answer] = {}
        for places in kinds.values():
            found = self._model.rank([inputs[place] for place in places], count, nearest=nearest)
            answers |= zip(places, found, strict=True)
        return [answers[place] for place in range(len(inputs))]

    def _check_sizes(self, inputs: list[Loaded]) -> None:
        """Refuse tensors of several sizes, of which no batch can be made."""
        sizes = []
        for number, one in enumerate(inputs, 1):
            if not isinstance(example := one.example, Tensor):
                continue
            drawn = example.ndim == 3
            sizes.append("x".join(map(str, example.shape[:-3:-1] if drawn else example.shape)))
            if sizes[-1] != sizes[0]:
                raise DataError(
                    f"{self.called} {number} has {sizes[-1]} {'pixels' if drawn else 'numbers'} and {self.called} 1 "
                    f"{sizes[0]}: send one size at once"
                )

    def _done(self, action: Callable[[Model], Any]) -> Any:
        while True:
            self._follow()
            try:
                return action(self._model)
            except BehindError:
                continue

    def _follow(self) -> None:
        """Take up what others have changed."""
        if self._journal is None:
            return
        known = self._model.change_number
        if self._journal.last == known:
            return
        changes = self._journal.since(known, self._device)
        if changes is None:
            self._uncompacted = self._read(self._journal)
            return
        self._learner.take_up(changes)
        self._uncompacted += len(changes)
        _LOG.info("took up %d changes of other processes, up to number %d", len(changes), known + len(changes))

    def _compact(self, after: int) -> None:
        """Write the model whole, once so many changes were made, so that the next start need not make them."""
        if self._uncompacted < after:
            return
        self._uncompacted = 0  # where it fails, too: it is tried again after as many changes
        try:
            self._learner.save(str(self._folder), after=self.change_number)
        except BehindError:
            pass  # whoever is ahead does it
        except Exception:
            _LOG.exception("the model in '%s' could not be written whole; its changes are on the disk", self._folder)

    def _read(self, journal: Journal) -> int:
        """Read the model that learns; return how many changes it was not written whole for."""
        assert self._folder is not None
        found: Any = Adapted.load(self._folder, self._device)
        self._model = self._learner = found
        self._learner.before_change = partial(self._write_down, journal)
        return journal.count

    def _write_down(self, journal: Journal, change: Change) -> int:
        try:
            number = journal.append(change, self.change_number)
        except LockedError:
            raise
        except OSError as error:
            raise UnwrittenError(f"the change could not be written, so nothing was changed: {error}") from error
        self._uncompacted += 1
        _LOG.info("change %d: %s%s", number, _told(change), self._by and f", by {self._by}")
        self._warnings = change.warnings
        for told in change.warnings:
            _LOG.warning("change %d: %s", number, told)
        return number


def _told(change: Change) -> str:
    """Return in words what a change is, on one line whatever the names are."""
    if change.kind == "rename":
        return f"{brief(change.name)} is called {brief(change.new_name)} now"
    if change.kept is None:
        return f"{brief(change.name)} was forgotten"
    what = "with numbers" if change.numbers else f"of {brief(change.name)}"
    return f"{change.examples} example{'s' * (change.examples != 1)} {what}"


def _check_open(predictor: Predictor) -> None:
    """Refuse a class more or less where the model's head has a fixed number of them."""
    if predictor.knowledge.algorithm.fixed_ways and predictor.counts_:
        raise ConfigError(
            f"this model was trained for {len(predictor.counts_)} classes, no more and no fewer: it takes further "
            "examples of those that it knows, and other names for them"
        )


def _loaded(inputs: list[Any]) -> list[Loaded]:
    return [one if isinstance(one, Loaded) else Loaded(one, one) for one in inputs]


_CLOSE = _Job(lambda _: None, Future())


def _as_asked(answer: Any, asked: _Asked) -> Any:
    """Return an answer without what others of its batch asked for."""
    if not isinstance(answer, Answer):
        return answer
    return answer._replace(ranking=answer.ranking[: asked.top], nearest=answer.nearest[: asked.nearest])


def _settle(future: Future[Any], result: Callable[[], Any]) -> None:
    try:
        future.set_result(result())
    except Exception as error:
        future.set_exception(error)
