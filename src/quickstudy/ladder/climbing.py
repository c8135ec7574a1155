"""Climbing: every rung on the same draws, the quick ones first, each result kept as soon as it is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch

from quickstudy.data.samples import Samples, file_of
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, check_counts, check_options, few, one_line
from quickstudy.ladder import draws as drawn
from quickstudy.ladder.comparing import (
    WORTH,
    Choice,
    accuracy,
    accuracy_of_classes,
    chosen,
    column,
    done,
    in_points,
    named,
    of_held_classes,
    seen,
    sentence,
    to_climb,
)
from quickstudy.ladder.examples import (
    Backbone,
    Embedded,
    Examples,
    digest_of,
    domain_of,
    encoders_of,
    memory,
    usual_backbone,
)
from quickstudy.ladder.metatraining import META, others_of
from quickstudy.ladder.opening import Named, looked_at
from quickstudy.ladder.record import ALL, Asked, Conclusion, Draw, Episodic, Key, Record, Result, Step, owned
from quickstudy.ladder.record import Examples as Listed
from quickstudy.ladder.report import PAGE, shower, write_report
from quickstudy.ladder.rung import SLOW, Rung
from quickstudy.ladder.rungs import RUNGS, available_rungs
from quickstudy.learning.checks import (
    Finding,
    few_asked,
    few_draws,
    grouped,
    groups_apart,
    never_asked,
    numbers_named,
    repetitions,
    seen_by,
    together,
    twice_named,
)
from quickstudy.predictor import Predictor
from quickstudy.trained import TrainedModel

if TYPE_CHECKING:
    from quickstudy.training.datamodule import DataModule

SHOTS = (1, 2, 5, 10, 20)
MODEL = "model"
"""The folder of the saved ``Predictor``, in that of the ladder."""
_LONGEST = 120  # characters of a text that names it


@dataclass(frozen=True, eq=False)
class Ladder:
    """How the rungs compare, and which is good enough.

    Args:
        record: all that was found.
        choice: the rung that is recommended; None where none can be.
        predictor: of it, trained on all examples; None likewise. Of a rung that trains the backbone a ``TrainedModel``.
        finished: whether all rungs were climbed; not after Ctrl-C.
        skipped: by their names, rungs that were not climbed, and why.
    """

    record: Record
    choice: Choice | None
    predictor: Predictor | TrainedModel | None
    finished: bool
    skipped: Mapping[str, str]

    @property
    def sentence(self) -> str:
        """What is recommended, and why."""
        return sentence(self.record, self.choice)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the lines of a table: its head, then of each rung its name and its accuracy by number of shots."""
        yield head(self.record)
        yield from rows(self.record)

    def __str__(self) -> str:
        """The table, and the sentence."""
        lines = list(self.rows())
        widths = [max(map(len, each)) for each in zip(*lines, strict=True)]
        told = (
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )
        return "\n".join([*told, *of_other_classes(self.record, self.choice), self.sentence])


Told = Callable[[Record, Key, int], None]
"""Called with the record after a rung was climbed on all draws of so many shots."""


def climb(
    data: Any,
    *,
    backbones: Sequence[Backbone] = (),
    rungs: Sequence[str] = (),
    slow: bool = False,
    meta_train: str | os.PathLike[str] | DataModule | None = None,
    shots: Sequence[int] = SHOTS,
    draws: int = 10,
    ways: int = 5,
    episodes: int = 200,
    worth: float = WORTH,
    out: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    seed: int = 0,
    device: str = "cpu",
    prompts: Sequence[str] = (),
    told: Told | None = None,
    begins: Callable[[str], None] | None = None,
    **named: Unpack[Named],
) -> Ladder:
    """Tell which method is good enough on one's own classes, and what accuracy to expect on new examples.

    Every rung learns from the same examples and is asked the same others: ``draws`` times for each number of shots, and
    in episodes of other classes where there are enough. Embeddings are made once.

    Args:
        data: a folder of class folders, or an archive of one; a table with a column of classes (CSV, JSON, Parquet); or
            a data module, whose training data it is.
        backbones: what embeds, by name; default: the pretrained one that needs no download, of rows none.
        rungs: names of those to climb; default: all that the data serves (``quickstudy.ladder.available_rungs()``).
        slow: whether rungs that train the backbone are among these by default.
        meta_train: examples of other classes, named as the data is, for rungs whose encoder learns from such first;
            default: half of the classes, where there are four times ``ways``, and the other half is asked.
        shots: examples of a class to learn from; those that the data reaches, and all of them, are taken.
        draws: how often a support set is drawn, for each number of shots.
        ways: classes of an episode.
        episodes: of each number of shots; 0: none.
        worth: a rung that costs more must be better by this share of answers at least, and clearly.
        out: a folder for the record, which a second call goes on with, and for the model; default: neither is written.
        fresh: throw away what is there.
        seed: chooses the draws.
        device: where backbones are to run.
        prompts: texts with ``{}`` in them, into which backbones of pictures with a side of words put the names of the
            classes, such as "a satellite photo of {}."; default: their own.
        told: called with the record, the rung and the shots after each.
        begins: called with what a slow rung is about to do, in words.
        named: what is said of the data, where that does not follow from what lies there: see ``Named``.

    Returns:
        What was found; after Ctrl-C what was found until then, ``finished=False``.

    Raises:
        DataError: the data cannot serve: fewer than two classes of two examples, several labels, numbers.
        ConfigError: an option is unknown, or ``out`` has the record of another ladder.
        MissingPackageError: a backbone needs a package that is not installed.
    """
    check_options("a ladder", named, [*Named.__annotations__, *signature(climb).parameters])
    check_counts(2, draws=draws, ways=ways)
    check_counts(0, episodes=episodes)
    for number in shots:
        check_counts(1, shots=number)
    for name in rungs:
        RUNGS[name]
    place = None if out is None else Path(out)
    with owned(place):
        module, table, modality, left_out = looked_at(data, **named)
        kind = domain_of(modality)
        names = rungs or available_rungs(slow, kind, meta_train is not None)
        encoders = {}
        if any(RUNGS[name].features == "embedded" for name in names):
            if not backbones and not (usual := usual_backbone(modality)):
                raise ConfigError(f"backbones is missing: name what embeds {modality.called}, or give a module")
            encoders = encoders_of(backbones or [usual], kind, device, prompts)
        origins, used = table.origins, any(type(RUNGS[name]).asked is not Rung.asked for name in names)
        table, support_sets, findings = _checked(table, modality, shots, draws, seed)
        others, further, taught = others_of(
            meta_train, table, modality, ways, seed if episodes else None, named, origins, used
        )
        findings += [*left_out, *further]
        asked = Asked(
            data=str(Path(data)) if isinstance(data, (str, os.PathLike)) else type(data).__name__,
            fingerprint=table.fingerprint,
            domain=kind,
            called=modality.called,
            classes=table.classes,
            counts=tuple(table.index.counts.tolist()),
            shots=drawn.reached(table.index.counts, shots),
            draws=draws,
            ways=ways,
            episodes=episodes,
            seed=seed,
            reading={
                **{name: value for name, value in module.load_options.items() if name not in modality.learned},
                **({"prompts": list(prompts)} if prompts else {}),
            },
            left_out={**table.skipped, **module.skipped},
            backbones={name: digest_of(encoder) for name, encoder in encoders.items()},
            meta_train=taught,
        )
        record = Record.begin(place, asked, fresh)
        examples = Examples(table, modality, kind, encoders, others, None if place is None else place / META)
        for name, encoder in encoders.items():
            findings += seen_by(name, table.classes, encoder.backbone)
        skipped: dict[str, str] = {}
        finished = False
        try:
            for finding in findings:
                record.add(finding)
            held = () if others is None else others.asked
            _prepare(record, table, support_sets, modality, held)
            if used and others is not None and not others.lacking:
                for finding in _in_part(record, held):
                    record.add(finding)
            for name, backbone in _order(names, list(encoders)):
                _climb_one(record, examples, name, backbone, skipped, told, begins)
            finished = True
        except KeyboardInterrupt:
            if not record.results:
                raise
        return _concluded(record, examples, worth, place, finished, skipped)


def head(record: Record) -> tuple[str, ...]:
    """Return the head of the table: numbers of examples of a class to learn from, and how long the last took."""
    return ("rung", *(column(record, shots) for shots in record.asked.shots), "seconds")


def rows(record: Record) -> Iterator[tuple[str, ...]]:
    """Yield the line of each rung in the table, but of those that were asked in episodes alone."""
    for key in record.steps:
        if any(seen(record, key, shots) for shots in record.asked.shots):
            yield _row(record, key)


def _row(record: Record, key: Key) -> tuple[str, ...]:
    cells = [
        in_points(accuracy(record, key, shots)) if seen(record, key, shots) else "" for shots in record.asked.shots
    ]
    step = record.steps[key]
    marks = " *" * step.transductive
    seconds = [accuracy(record, key, shots).seconds for shots in record.asked.shots if seen(record, key, shots)]
    return (named(record, key) + marks, *cells, f"{seconds[-1]:.2f}" if seconds else "")


def of_other_classes(record: Record, choice: Choice | None) -> list[str]:
    """Return in words how accurate the chosen rung is in episodes of other classes."""
    if choice is None or not record.episodes:
        return []
    found = {shots: accuracy_of_classes(record, choice.key, shots) for shots in record.episodes}
    told = [
        f"{shots} shot{'s' * (shots > 1)} {in_points(each)} for other draws of these classes"
        + (f" and ± {100 * each.ci95_classes:.1f} for classes never seen" * (each.ci95_classes == each.ci95_classes))
        for shots, each in found.items()
        if each is not None
    ]
    where = f"episodes of {record.asked.ways} classes as if they were new, {named(record, choice.key)}, 95% intervals"
    own = [f"{where}: {'; '.join(told)}"] if told else []
    return [*own, *of_held_classes(record, choice)]


def _order(names: Sequence[str], backbones: Sequence[str]) -> list[tuple[str, str]]:
    """Return the rungs and their backbones, those of little cost first, on all backbones."""
    order = sorted(names, key=lambda name: RUNGS[name].cost)
    return [
        (name, backbone) for name in order for backbone in (backbones if RUNGS[name].features == "embedded" else [""])
    ]


def _checked(
    table: Table, modality: Any, shots: Sequence[int], count: int, seed: int
) -> tuple[Table, list[Draw], list[Finding]]:
    """Look at the data; return it with what is nearly the same in groups, draws that divide none, what was found."""
    findings, first = repetitions({"train": table}, modality)
    findings += [
        *twice_named(table.classes),
        *numbers_named(table.classes),
        *grouped(table),
        *groups_apart({"train": table}),
        *few_draws(count),
    ]
    reached = drawn.reached(table.index.counts, shots)
    kept = replace(table, origins=together(first, table.origins))
    try:
        draws = list(drawn.draws(kept, reached, count, seed))
    except DataError:
        if kept.origins is table.origins:
            raise
        # A class has hardly anything else.
        kept, findings = table, [each.apart() for each in findings]
        draws = list(drawn.draws(kept, reached, count, seed))
    asked = np.unique([row for draw in draws for row in draw.queries])
    return kept, draws, [*findings, *few_asked(len(asked)), *never_asked(kept, asked)]


def _prepare(record: Record, table: Table, draws: Sequence[Draw], modality: Any, held: Sequence[int]) -> None:
    """Put the examples and all draws into the record; half of the episodes are of the held classes alone."""
    assert table.targets is not None
    origins = table.origins
    groups = () if origins is None else tuple(origins.names[code] for code in origins.codes)
    record.add(Listed(_names(table, modality), tuple(table.targets.tolist()), groups))
    for draw in draws:
        record.add(draw)
    for shots in record.asked.shots if record.asked.episodes else ():
        if shots in record.episodes:  # as they were drawn when it began
            continue
        found = drawn.episodes(table, shots, record.asked.ways, record.asked.episodes, record.asked.seed, held)
        if found is not None:
            record.add(found)


def _served(record: Record, held: Sequence[int]) -> list[int]:
    """Return the numbers of shots of which episodes are of such classes alone, two at least, as an interval needs."""
    return [shots for shots, each in record.episodes.items() if len(drawn.of_classes(each, held)) > 1]


def _in_part(record: Record, held: Sequence[int]) -> list[Finding]:
    """Say so where rungs that are asked about held classes alone are so for some numbers of shots only."""
    served = _served(record, held)
    lost = [str(shots) for shots in record.asked.shots if shots not in (*served, ALL)]
    if not (held and served and lost):
        return []
    told = f"rungs that are meta-trained on half of the classes are not asked at {few(lost)} examples per class"
    return [Finding("others", f"{told}: too few of the other half have examples enough, or groups")]


def _unasked(record: Record) -> str:
    """Return why a rung would have no figure that is asked about held classes alone."""
    if record.asked.episodes < 3:
        return (
            f"of {record.asked.episodes} episodes too few are of classes that do not train: set --episodes 3 at least"
        )
    return (
        "too few of the classes that would not train have examples enough, or groups, for episodes of "
        f"{record.asked.ways}: give --meta_train FOLDER, or lower --ways"
    )


def _names(table: Table, modality: Any) -> tuple[str, ...]:
    samples = Samples(table.inputs, modality)
    if isinstance(table.inputs, list) and all(isinstance(item, str) for item in table.inputs):
        return tuple(one_line(item, _LONGEST) for item in table.inputs)
    files = [file_of(table.inputs, place) for place in range(len(table))]
    return tuple(
        one_line(samples.name(place) if file is None else "/".join(Path(file).parts[-2:]))
        for place, file in enumerate(files)
    )


def _climb_one(
    record: Record,
    examples: Examples,
    name: str,
    backbone: str,
    skipped: dict[str, str],
    told: Told | None,
    begins: Callable[[str], None] | None,
) -> None:
    """Climb a rung on what it was not climbed on before."""
    rung, key = RUNGS[name], Key(name, backbone)
    complete = key in record.steps and all(done(record, key, shots) for shots in record.asked.shots)
    if complete and all((key, shots) in record.episodic for shots in record.episodes):
        for shots in record.asked.shots:
            if told is not None and seen(record, key, shots):
                told(record, key, shots)
        return
    embedded = examples.on(backbone)
    if lacking := rung.lacks(embedded, examples.domain):
        skipped[name] = lacking
        return
    held, most = rung.asked(embedded), rung.draws or record.asked.draws
    served = _served(record, held)
    if held and not served:
        skipped[name] = _unasked(record)
        return
    left = [
        len(draw.support)
        for (shots, number), draw in record.draws.items()
        if number < most and not held and (key, shots, number) not in record.results
    ]
    if begins is not None and (about := rung.begins(embedded, left)):
        begins(f"{name}: {about}")
    try:
        embedded = examples.prepared(name, backbone, rung.prepared)
    except DataError as error:  # whose groups serve no such episodes
        skipped[name] = str(error)
        return
    if key not in record.steps:
        record.add(_step(rung, key, embedded))
    for shots in record.asked.shots:
        for draw in to_climb(record, key, shots):
            if (key, shots, draw.number) not in record.results:
                record.add(_result(rung, key, embedded, draw))
        if told is not None and seen(record, key, shots):
            told(record, key, shots)
    for shots, episodes in record.episodes.items():
        numbers = drawn.of_classes(episodes, held, rung.episodes)
        if (key, shots) not in record.episodic and numbers and (not held or shots in served):
            began = time.perf_counter()
            right = rung.episodic(embedded, torch.tensor(episodes.rows)[list(numbers)], shots)
            if right is not None:
                every = () if len(numbers) == len(episodes.rows) else numbers
                seconds = time.perf_counter() - began
                record.add(Episodic(*key, shots, tuple(map(tuple, right.tolist())), seconds, every))


def _step(rung: Rung, key: Key, embedded: Embedded) -> Step:
    saves = rung.saves and not rung.baseline
    return Step(
        *key,
        about=rung.about,
        cost=rung.cost,
        baseline=rung.baseline,
        transductive=rung.transductive,
        saves=saves,
        embedding_seconds=round(embedded.seconds, 3),
        megabytes=round(rung.megabytes(embedded), 3) if saves else 0.0,
        draws=-1 if rung.asked(embedded) else rung.draws,
        training_seconds=round(embedded.training_seconds, 3),
    )


def _result(rung: Rung, key: Key, embedded: Embedded, draw: Any) -> Result:
    queries, before = torch.tensor(draw.queries), memory()
    began = time.perf_counter()
    logits_QW = rung.logits(embedded, torch.tensor(draw.support), queries)
    seconds = time.perf_counter() - began
    chances_QW = logits_QW.double().softmax(1)
    most_Q = chances_QW.max(1)
    own_Q = chances_QW.gather(1, embedded.targets[queries][:, None])[:, 0]
    return Result(
        *key,
        draw.shots,
        draw.number,
        answers=tuple(most_Q.indices.tolist()),
        chances=tuple(np.round(most_Q.values.numpy(), 4).tolist()),
        own_chances=tuple(np.round(own_Q.numpy(), 4).tolist()),
        seconds=round(seconds, 5),
        memory=round(max(0.0, memory() - before), 1),
    )


def _concluded(
    record: Record, examples: Examples, worth: float, out: Path | None, finished: bool, skipped: Mapping[str, str]
) -> Ladder:
    """Choose, and train what is chosen on all examples."""
    choice = chosen(record, worth)
    predictor = None
    if out is not None:  # before what may take long, or more room than there is
        modality = examples.modality if choice is None else examples.on(choice.key.backbone).knowledge.modality
        write_report(out / PAGE, record, choice, shower(examples.table, modality, record.examples.names))
    if choice is not None and (finished or RUNGS[choice.key.rung].cost < SLOW):
        rung = RUNGS[choice.key.rung]
        predictor = rung.model(examples.prepared(*choice.key, rung.prepared))
        assert predictor is not None
        place = "" if out is None else str(out / MODEL)
        if place:
            predictor.save(place)
        record.add(
            Conclusion(*choice.key, round(choice.accuracy, 5), round(choice.ci95, 5), sentence(record, choice), place)
        )
    return Ladder(record, choice, predictor, finished, skipped)
