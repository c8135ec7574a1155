"""What a ladder was asked and what it found, as values; and the file that holds them, a line for each, as it climbs.

The file grows at its end alone, so that whatever moment a process dies at, all but the last line is there; whoever
climbs again goes on behind it. ``Record.read(folder)`` is all that a page, or a script, needs of a ladder.

Shapes: N examples of the data, C classes, S support, Q query, T episodes, W ways, K = shots + queries of a class.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from quickstudy.errors import ConfigError, DataError, few
from quickstudy.files import absent, alone
from quickstudy.learning.checks import Finding

RECORD = "record.jsonl"
"""The file's name in the folder of a ladder."""
ALL = 0
"""In place of a number of shots: all examples but the fifth that is asked, in turn."""
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows has no quotas
_LOCK = ".climbing"
_FRESH = "fresh=True (--fresh true)"
_DIGITS = 5  # of what a probability is rounded to
_TELLING = ("data", "fingerprint", "domain", "shots", "draws", "ways", "episodes", "seed", "reading", "meta_train")
"""What makes two ladders different: neither's results say anything of the other's."""


@dataclass(frozen=True)
class Asked:
    """What a ladder was asked; the first line of its file."""

    data: str
    """The data, as it was named."""
    fingerprint: str
    """Of the data: its classes, its targets, its inputs."""
    domain: str
    """``"image"``, ``"text"``, ...; nothing for tensors."""
    called: str
    """What the examples are called: ``"pictures"``."""
    classes: tuple[str, ...]
    """C names, in the order of the codes."""
    counts: tuple[int, ...]
    """``[C]``, how many examples each has."""
    shots: tuple[int, ...]
    """Examples of a class that are learned from, from few to many; the last may be ``ALL``."""
    draws: int
    """How often a support set is drawn, for each number of shots."""
    ways: int
    """Classes of an episode."""
    episodes: int
    """Of each number of shots, where new classes are asked; 0: they are not."""
    seed: int
    reading: Mapping[str, Any] = field(default_factory=dict)
    """How inputs are read: options of the domain's ``modality``."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why examples of the data are none of the ladder's, by their names."""
    backbones: Mapping[str, str] = field(default_factory=dict)
    """What embeds, by name a digest of its weights; a later climb may add some."""
    meta_train: str = ""
    """The examples of other classes that encoders are meta-trained on, by their name and fingerprint; nothing: none."""
    kind: ClassVar[str] = "asked"


@dataclass(frozen=True)
class Examples:
    """The examples: row i of whatever follows is the i-th of these."""

    names: tuple[str, ...]
    """``[N]``, of files, with their folder; of texts the beginning; of others their numbers."""
    targets: tuple[int, ...]
    """``[N]``, codes of classes."""
    groups: tuple[str, ...] = ()
    """``[N]``, what each comes from (a patient, a speaker); empty where that was not said."""
    kind: ClassVar[str] = "examples"


@dataclass(frozen=True)
class Step:
    """A rung as it was climbed."""

    rung: str
    """The name that it is registered by."""
    backbone: str
    """What embeds; nothing where the rung needs no encoder."""
    about: str
    """What it does, in words."""
    cost: int
    """From 0: rungs of higher ones take longer."""
    baseline: bool
    """Whether it is there to be beaten, and not to be recommended."""
    transductive: bool
    """Whether an answer depends on the other inputs that are asked with it; such are not recommended."""
    saves: bool
    """Whether it makes a model, which can be saved."""
    embedding_seconds: float = 0.0
    """What it took to embed all examples, once for all rungs on this backbone."""
    megabytes: float = 0.0
    """Of a file of the model trained on all examples, as far as it can be told before."""
    draws: int = 0
    """On how many draws of each number of shots it is climbed; 0: on all; -1: on none."""
    training_seconds: float = 0.0
    """What it took to train its encoder before, once, on examples of other classes."""
    kind: ClassVar[str] = "step"


@dataclass(frozen=True)
class Draw:
    """All classes, other examples: a support set, and the examples that are asked. The same for all rungs.

    The support sets of one number of draw contain each other, and the examples that are asked are the same for all
    shots, but for ``ALL``.
    """

    shots: int
    number: int
    support: tuple[int, ...]
    """``[S]`` rows; of a class that has fewer than ``shots`` to spare, those it has."""
    queries: tuple[int, ...]
    """``[Q]`` rows, none of them in the support, none of a group that is."""
    kind: ClassVar[str] = "draw"


@dataclass(frozen=True)
class Result:
    """What a rung answered to the queries of a draw, in their order."""

    rung: str
    backbone: str
    shots: int
    number: int
    """Of the draw."""
    answers: tuple[int, ...]
    """``[Q]``, the likeliest class."""
    chances: tuple[float, ...]
    """``[Q]``, its probability."""
    own_chances: tuple[float, ...]
    """``[Q]``, the probability of the class that the example is of by its label."""
    seconds: float
    """To learn and to answer, without the embedding."""
    memory: float = 0.0
    """Megabytes by which the process's largest memory grew; on a GPU the largest that was taken."""
    kind: ClassVar[str] = "result"


@dataclass(frozen=True)
class Episodes:
    """Other classes: episodes of some number of shots. The same for all rungs."""

    shots: int
    rows: tuple[tuple[tuple[int, ...], ...], ...]
    """``[T, W, K]``; of each class the first ``shots`` are the support, the others are asked."""
    classes: tuple[tuple[int, ...], ...]
    """``[T, W]`` codes."""
    kind: ClassVar[str] = "episodes"


@dataclass(frozen=True)
class Episodic:
    """How a rung did in episodes."""

    rung: str
    backbone: str
    shots: int
    right: tuple[tuple[int, ...], ...]
    """``[T, W]``, how many queries of each class were rightly answered."""
    seconds: float
    numbers: tuple[int, ...] = ()
    """``[T]``, which of the episodes these are; nothing: all of them."""
    kind: ClassVar[str] = "episodic"


@dataclass(frozen=True)
class Conclusion:
    """How it ended; the last of the file counts."""

    rung: str
    """That is recommended; nothing where none can be."""
    backbone: str
    accuracy: float
    """To expect of it, trained on all examples, on new ones of these classes."""
    ci95: float
    sentence: str
    saved: str = ""
    """The folder of the ``Predictor``."""
    kind: ClassVar[str] = "conclusion"


Entry = Asked | Examples | Finding | Step | Draw | Result | Episodes | Episodic | Conclusion
_ENTRIES: dict[str, Any] = {
    each.kind: each for each in (Asked, Examples, Finding, Step, Draw, Result, Episodes, Episodic, Conclusion)
}


class Key(NamedTuple):
    """A rung on a backbone."""

    rung: str
    backbone: str


class Record:
    """All that is known of a ladder; what is added goes to its file at once.

    Args:
        asked: what it was asked.
        file: of its lines; None: it is kept in memory alone.
    """

    def __init__(self, asked: Asked, file: Path | None = None) -> None:
        self.asked = asked
        self.examples = Examples((), ())
        self.findings: dict[str, Finding] = {}
        """Of the checks of the data, by what is told of them."""
        self.steps: dict[Key, Step] = {}
        """By rung and backbone, in the order in which they were climbed."""
        self.draws: dict[tuple[int, int], Draw] = {}
        """By shots and number."""
        self.results: dict[tuple[Key, int, int], Result] = {}
        """By step, shots and number of the draw."""
        self.episodes: dict[int, Episodes] = {}
        """By shots."""
        self.episodic: dict[tuple[Key, int], Episodic] = {}
        """By step and shots."""
        self.conclusion: Conclusion | None = None
        self._file = file

    # ---- files

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Self:
        """Read the record of a ladder, finished or not.

        Raises:
            DataError: there is none, or it is damaged, or of a newer version.
        """
        file = Path(folder) / RECORD
        if not file.is_file():
            raise DataError(absent("record of a ladder", file))
        entries = [entry for entry, _ in _entries_of(file)]
        if not entries or not isinstance(entries[0], Asked):
            raise DataError(f"'{file}' is no record of a ladder: its first line does not say what was asked")
        record = cls(entries[0])
        for entry in entries[1:]:
            record._take(entry)
        return record

    @classmethod
    def begin(cls, folder: Path | None, asked: Asked, fresh: bool = False) -> Self:
        """Return the record of a ladder to climb: what it has of an earlier climb of the same, or an empty one.

        Args:
            folder: for the file; None: it is kept in memory alone.
            asked: of the ladder.
            fresh: whether what is there is thrown away.

        Raises:
            ConfigError: the folder has the record of another ladder; the message says in what they differ.
        """
        if folder is None:
            return cls(asked)
        file = folder / RECORD
        folder.mkdir(parents=True, exist_ok=True)
        if fresh:
            file.unlink(missing_ok=True)
        found = _entries_of(file) if file.is_file() else []
        if not found:
            file.unlink(missing_ok=True)  # which a process left that died within its first line
            record = cls(asked, file)
            record._write(asked)
            return record
        before = found[0][0]
        if not isinstance(before, Asked):
            raise ConfigError(f"'{file}' is no record of a ladder: name another folder, or start anew, {_FRESH}")
        record = cls(replace(before, backbones={**before.backbones, **asked.backbones}), file)
        for entry, _ in found[1:]:
            record._take(entry)
        if differs := [*_differences(before, asked), *_lacking(record, asked)]:
            raise ConfigError(
                f"'{folder}' has the record of another ladder ({few(differs)}), to which nothing can be added: name "
                f"another folder, or start anew: {_FRESH}"
            )
        with file.open("r+b") as lines:
            lines.truncate(found[-1][1])  # a line of which a part is there
        return record

    def add(self, entry: Entry) -> None:
        """Take an entry, and write it, unless it is there already.

        Raises:
            ConfigError: another draw, or other episodes, are there in its place, of which there may be results.
        """
        before = (
            self.draws.get((entry.shots, entry.number))
            if isinstance(entry, Draw)
            else self.episodes.get(entry.shots)
            if isinstance(entry, Episodes)
            else None
        )
        if before not in (None, entry):
            raise ConfigError(
                f"'{self._file}' has other draws of the same data, by another version of quickstudy: name another "
                f"folder, or start anew: {_FRESH}"
            )
        if self._take(entry):
            self._write(entry)

    def _write(self, entry: Entry) -> None:
        if self._file is None:
            return
        line = json.dumps({"kind": entry.kind, **_plain(entry)}, ensure_ascii=False, separators=(",", ":"))
        with self._file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _take(self, entry: Entry) -> bool:
        """Take an entry; return whether it is new."""
        before: Any
        match entry:
            case Examples():
                before, self.examples = self.examples, entry
            case Finding():
                before, self.findings[entry.told] = self.findings.get(entry.told), entry
            case Step():
                key = Key(entry.rung, entry.backbone)
                before, self.steps[key] = self.steps.get(key), entry
            case Draw():
                before, self.draws[entry.shots, entry.number] = self.draws.get((entry.shots, entry.number)), entry
            case Result():
                place = Key(entry.rung, entry.backbone), entry.shots, entry.number
                before, self.results[place] = self.results.get(place), entry
            case Episodes():
                before, self.episodes[entry.shots] = self.episodes.get(entry.shots), entry
            case Episodic():
                at = Key(entry.rung, entry.backbone), entry.shots
                before, self.episodic[at] = self.episodic.get(at), entry
            case Conclusion():
                before, self.conclusion = self.conclusion, entry
            case Asked():
                raise DataError("a record says once what was asked, in its first line")
        return bool(before != entry)


@contextmanager
def owned(folder: Path | None) -> Iterator[None]:
    """Keep a ladder's folder from other processes while one climbs; it is made, and does not stay if it stays empty.

    Args:
        folder: of the ladder; None: it has none.

    Raises:
        ConfigError: another process climbs there, or nothing can be written there, or no more; the message says what to
            type.
    """
    if folder is None:
        yield
        return
    made, elsewhere = not folder.exists(), "name another folder: out= (--out)"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / RECORD).exists():
            (folder / RECORD).open("r+b").close()
        with ExitStack() as entered:
            entered.enter_context(alone(folder / _LOCK, wait=False))
            held = entered.pop_all()
    except BlockingIOError as error:
        raise ConfigError(
            f"another process climbs a ladder in '{folder}': wait until it has ended, or {elsewhere}"
        ) from error
    except OSError as error:
        raise ConfigError(f"nothing can be written in '{folder}' ({error.strerror or error}): {elsewhere}") from error
    try:
        with held:
            yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise ConfigError(
            f"nothing more can be written in '{folder}' ({error.strerror}): make room, and the same command goes on "
            f"where it stopped; or {elsewhere}"
        ) from error
    finally:
        if made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _differences(before: Asked, asked: Asked) -> Iterator[str]:
    """Yield in words what makes the results of one ladder say nothing of another."""
    for name in _TELLING:
        was, now = _plain(getattr(before, name)), _plain(getattr(asked, name))
        if was == now:
            continue
        if name == "shots":
            was, now = (" ".join("all" if number == ALL else str(number) for number in each) for each in (was, now))
        yield "the data has changed" if name == "fingerprint" else f"{name} was {was}, and is {now}"
    for name in before.backbones.keys() & asked.backbones.keys():
        if before.backbones[name] != asked.backbones[name]:
            yield f"the weights of '{name}' were others"


def _lacking(record: Record, asked: Asked) -> Iterator[str]:
    """Yield in words which backbones have results that would be compared, and are not at hand."""
    known = dict.fromkeys(key.backbone for key in record.steps if key.backbone)
    if lost := [name for name in known if name not in asked.backbones]:
        yield f"it has rungs on {' and '.join(lost)}: name {'it' if len(lost) == 1 else 'them'} too"


def _entries_of(file: Path) -> list[tuple[Entry, int]]:
    """Return the entries of a file, and where each ends; of a last line a part of which is missing, none.

    Raises:
        DataError: another line is damaged, or of a newer version.
    """
    found: list[tuple[Entry, int]] = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                told = json.loads(line)
                entry = _entry(told)
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"line {number} of '{file}' is damaged, or of a newer quickstudy: start anew: {_FRESH}"
                ) from error
            found.append((entry, len(line) + (found[-1][1] if found else 0)))
    return found


def _entry(told: Mapping[str, Any]) -> Entry:
    cls = _ENTRIES[told["kind"]]
    known = {one.name for one in dataclasses.fields(cls)}
    entry: Entry = cls(**{name: _tuples(value) for name, value in told.items() if name in known})
    return entry


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; probabilities and seconds are rounded."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return round(value, _DIGITS) if isinstance(value, float) else value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
