"""From the record of a ladder to its page: curves, differences, what is confused, which labels look wrong.

Shapes: N examples, C classes, Q answers of all draws.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.samples import Loaded
from quickstudy.data.table import Table
from quickstudy.errors import few, one_line
from quickstudy.ladder.comparing import (
    Choice,
    accuracy,
    accuracy_of_classes,
    column,
    difference,
    done,
    named,
    of_shots,
    per_class,
    seen,
    sentence,
)
from quickstudy.ladder.page import (
    Confused,
    Doubted,
    Estimate,
    OfClass,
    OnPage,
    Page,
    Point,
    Shown,
    write_page,
)
from quickstudy.ladder.record import ALL, Key, Record
from quickstudy.modality import Modality

PAGE = "ladder.html"
"""The page's name in the folder of a ladder."""
_PAIRS, _EACH, _DOUBTED, _GROUPS = 10, 4, 24, 8  # of what is confused, examples of each; labels; of each finding

Show = Callable[[int], Shown]
"""An example by its row, for eyes."""


class Answers(NamedTuple):
    """What a rung answered to all draws of a number of shots."""

    rows: NDArray[np.int64]
    """``[Q]``"""
    answers: NDArray[np.int64]
    """``[Q]``, codes of classes."""
    own: NDArray[np.float64]
    """``[Q]``, the probability of the example's own label."""


def write_report(
    path: str | os.PathLike[str],
    record: Record,
    choice: Choice | None,
    show: Show | None = None,
) -> None:
    """Write the page of a ladder, finished or not.

    Args:
        path: the HTML file.
        record: of the ladder.
        choice: the rung that is recommended, if one can be.
        show: shows an example; None: its name stands for it.
    """
    write_page(path, page_of(record, choice, show))


def page_of(record: Record, choice: Choice | None, show: Show | None = None) -> Page:
    """Return what the page of a record tells; see ``write_report``."""
    shown = show or (lambda row: Shown(record.examples.names[row], b""))
    asked = record.asked
    page = Page(
        title=f"{asked.data}: {len(record.examples.targets)} {asked.called} of {len(asked.classes)} classes",
        sentence=sentence(record, choice),
        rungs=[_rung(record, key, choice) for key in record.steps],
        facts=_facts(record),
        findings=[
            (each, [[shown(row) for row in rows] for rows in each.rows[:_GROUPS]]) for each in record.findings.values()
        ],
        notes=_notes(record),
    )
    if choice is None:
        return page
    given = answers_of(record, choice.key, choice.shots)
    if not len(given.rows):
        return page
    matrix = np.zeros((len(asked.classes), len(asked.classes) + 1), np.int64)
    np.add.at(matrix, (np.array(record.examples.targets)[given.rows], given.answers), 1)
    return _judged(page, record, choice, given, matrix, shown)


def answers_of(record: Record, key: Key, shots: int) -> Answers:
    """Return what a rung answered to all draws of so many shots."""
    numbers = [number for of, number in record.draws if of == shots and (key, shots, number) in record.results]
    results = [record.results[key, shots, number] for number in numbers]
    rows = [record.draws[shots, number].queries for number in numbers]

    def flat(parts: Sequence[Sequence[float]], kind: type) -> NDArray[np.generic]:
        return np.concatenate([np.empty(0, kind), *(np.array(part, kind) for part in parts)])

    return Answers(
        flat(rows, np.int64),  # type: ignore[arg-type]
        flat([each.answers for each in results], np.int64),  # type: ignore[arg-type]
        flat([each.own_chances for each in results], np.float64),  # type: ignore[arg-type]
    )


def doubts(given: Answers, targets: NDArray[np.int64], most: int = _DOUBTED) -> list[tuple[int, float, int]]:
    """Return the examples whose labels are the least likely to who did not learn from them, the least likely first.

    Of each the row, the mean probability of its own label, and what it was taken for most often; those that are
    mostly taken for what they are labelled are left out. It ranks by self-confidence (Kuan & Mueller 2022,
    https://arxiv.org/abs/2210.03920), as cleanlab does.

    Args:
        given: answers.
        targets: ``[N]``, the labels.
        most: how many.
    """
    known, places = np.unique(given.rows, return_inverse=True)
    own = np.bincount(places, given.own) / np.bincount(places)
    found: list[tuple[int, float, int]] = []
    for place in np.argsort(own, kind="stable").tolist():
        if len(found) == most:
            break
        answer = int(np.bincount(given.answers[places == place]).argmax())
        if answer != targets[known[place]]:
            found.append((int(known[place]), float(own[place]), answer))
    return found


def shower(table: Table, modality: Modality, names: Sequence[str]) -> Show:
    """Return what shows examples by their rows; of what cannot be shown, the name.

    Args:
        table: of the examples.
        modality: how they are read, with what it learned.
        names: ``[N]``
    """

    def show(row: int) -> Shown:
        try:
            item = table.inputs[row]
            item = item.item if isinstance(item, Loaded) else item
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # which were told when it was read to be embedded
                content = modality.show(item, modality(item))
        except Exception:  # a data set may raise anything, and the page is about the others
            content = b""
        return Shown(names[row], content, modality.shown_as or "text/plain")

    return show


def _judged(page: Page, record: Record, choice: Choice, given: Answers, matrix: NDArray[np.int64], shown: Show) -> Page:
    from quickstudy.runs.report import confusion_picture  # Lightning takes long to import, and help needs none

    classes, targets = record.asked.classes, np.array(record.examples.targets)
    asked_C, found = matrix.sum(1), per_class(record, choice.key, choice.shots)
    order = sorted((code for code in range(len(classes)) if asked_C[code]), key=lambda code: found[code].mean)
    wrong = matrix[:, :-1].copy()
    np.fill_diagonal(wrong, 0)
    confused = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS].tolist():
        code, answer = divmod(place, len(classes))
        if not wrong[code, answer]:
            break
        there = (targets[given.rows] == code) & (given.answers == answer)
        rows = list(dict.fromkeys(given.rows[there].tolist()))[:_EACH]
        share = float(wrong[code, answer] / asked_C[code])
        times = int(wrong[code, answer])
        confused.append(Confused(classes[code], classes[answer], times, share, [shown(row) for row in rows]))
    doubted = [
        Doubted(shown(row), classes[targets[row]], own, classes[answer]) for row, own, answer in doubts(given, targets)
    ]
    told = (
        f"Of {named(record, choice.key)}, after {of_shots(record, choice.shots)}, over all draws; the interval of a "
        "class is by its own examples alone."
    )
    return replace(
        page,
        judged=told,
        classes=[OfClass(classes[code], found[code], int(asked_C[code])) for code in order],
        confusion=confusion_picture(matrix, classes),
        confused=confused,
        doubted=doubted,
    )


def _rung(record: Record, key: Key, choice: Choice | None) -> OnPage:
    step, shots = record.steps[key], record.asked.shots
    found = {each: accuracy(record, key, each) for each in shots if seen(record, key, each)}
    points = [Point(column(record, each), found.get(each)) for each in shots]
    chosen = choice is not None and key == choice.key
    apart = None
    if choice is not None and not chosen and seen(record, key, choice.shots) and done(record, key, choice.shots):
        apart = difference(record, key, choice.key, choice.shots)
    return OnPage(
        named(record, key),
        step.about,
        points,
        apart,
        _of_classes(record, key, None if chosen or choice is None else choice.key),
        found[max(found, key=list(shots).index)].seconds if found else 0.0,
        step.embedding_seconds,
        step.training_seconds,
        step.megabytes,
        step.baseline,
        step.transductive,
        chosen,
        *key,
    )


def _of_classes(record: Record, key: Key, chosen: Key | None) -> list[tuple[str, Estimate, float, Estimate | None]]:
    found = []
    for shots in record.episodes:
        each = accuracy_of_classes(record, key, shots)
        apart = None if chosen is None else accuracy_of_classes(record, key, shots, chosen)
        more = None if apart is None else Estimate(apart.mean, apart.ci95)
        if each is not None:
            found.append((str(shots), Estimate(each.mean, each.ci95), each.ci95_classes, more))
    return found


def _facts(record: Record) -> list[tuple[str, str]]:
    asked = record.asked
    least, most = min(asked.counts, default=0), max(asked.counts, default=0)
    each = f"{least}" if least == most else f"{least} to {most}"
    whole = sum(shots == ALL for shots, _ in record.draws)
    drawn = f"{asked.draws}{f' ({whole} of all)' if whole not in (0, asked.draws) else ''}"
    facts = [
        ("data", asked.data),
        ("examples", f"{len(record.examples.targets)} {asked.called} of {len(asked.classes)} classes, {each} of each"),
        ("draws", f"{drawn} of each number of examples per class, the same for all rungs; seed {asked.seed}"),
        ("fingerprint of the data", asked.fingerprint),
    ]
    if asked.backbones:
        facts.insert(3, (f"encoder{'s' * (len(asked.backbones) > 1)}", ", ".join(asked.backbones)))
    if record.episodes:
        facts.insert(3, ("episodes", f"{asked.episodes} of {asked.ways} classes"))
    if asked.meta_train:
        facts.append(("meta-trained on", asked.meta_train))
    if asked.reading:
        facts.append(("read with", ", ".join(f"{name}={value}" for name, value in asked.reading.items())))
    if asked.left_out:
        told = few((f"{one_line(name)} ({one_line(why)})" for name, why in asked.left_out.items()), 10, "; ")
        facts.append((f"{len(asked.left_out)} left out", told))
    return facts


def _notes(record: Record) -> list[str]:
    notes = [
        "Each accuracy is the share of right answers to examples that the rung did not learn from, over all draws. "
        "The interval is of 95%, for new examples of these classes.",
        "A difference is taken on the same draws, so that its interval is narrower than those of its two parts: where "
        "it includes 0, the data do not tell which is better.",
        "A grey, dotted line is there to be beaten: what needs no encoder, or does not look at the inputs at all."
        + " Colours and marks are of rungs; dashed lines and hollow marks of further encoders."
        * (len(record.asked.backbones) > 1),
        "The time is what it takes to learn and to answer once, without the embedding, which all rungs share "
        "and which is less where embeddings were kept; what a sentence says of times counts both.",
    ]
    if record.episodes:
        notes.append(
            f"Classes to come: episodes of {record.asked.ways} of these classes as if they were new. The first "
            "interval is for other episodes of these classes; the second for other classes of their kind."
        )
    if any(step.draws < 0 for step in record.steps.values()):
        notes.append(
            "What has a time of training, and no accuracy by examples per class, was meta-trained on half of these "
            "classes and asked about the other half alone, in episodes of these."
        )
    return notes
