"""Dividing examples into training and validation, and checking that a division keeps classes apart."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from quickstudy.data.origins import held_origins
from quickstudy.data.places import Files
from quickstudy.data.series import Windows, divided_in_time
from quickstudy.data.stages import StageName
from quickstudy.data.table import Table
from quickstudy.data.targets import alike, class_name, plain_number
from quickstudy.errors import DataError, DataWarning, few, shown


def split_classes(table: Table, share: float, seed: int, option: str = "val_split") -> tuple[Table, Table]:
    """Move a share of the classes, at least two, to a second table; ``option`` asks for it.

    Raises:
        DataError: fewer than two classes would be left on a side.
    """
    if table.numeric:
        table.index  # noqa: B018 - which says what is missing where there are no groups
    count = len(table.classes)
    held = _held(count, share)
    if count - held < 2:
        raise DataError(
            f"{option}={share:.3g} of {count} classes leaves fewer than 2 on a side: add classes or give "
            f"{option.removesuffix('_split')} data"
        )
    order = np.random.default_rng(seed).permutation(count)
    return table.only(sorted(order[held:].tolist())), table.only(sorted(order[:held].tolist()))


def _held(count: int, share: float) -> int:
    return max(2, round(count * share))


def shares_for(
    count: int, splits: Mapping[StageName, float], needed: Mapping[StageName, int]
) -> dict[StageName, float]:
    """Return shares by which classes divide so that each part has as many as it needs; nothing where there are none.

    Args:
        count: how many classes there are.
        splits: the shares that were asked for, of ``"test"``, ``"val"`` or both; kept where they will do.
        needed: how many classes each of these and ``"train"`` needs.

    >>> shares_for(10, {"val": 0.2}, {"train": 5, "val": 5}), shares_for(10, {"val": 0.2}, {"train": 5, "val": 6})
    ({'val': 0.5}, {})
    """
    order: tuple[StageName, ...] = ("test", "val")  # in which they are taken
    parts = [part for part in order if part in splits]
    least = {part: math.ceil(100 * needed[part] / count) / 100 for part in parts}
    for shares in product(*((splits[part], least[part]) for part in parts)):
        rest, whole, enough = count, 1.0, True
        for part, share in zip(parts, shares, strict=True):
            held = _held(rest, share / whole) if share < whole else rest
            rest, whole, enough = rest - held, whole - share, enough and held >= needed[part]
        if enough and rest >= needed["train"]:
            return dict(zip(parts, shares, strict=True))
    return {}


def split_examples(table: Table, share: float, seed: int, option: str = "val_split") -> tuple[Table, Table]:
    """Move a share of each class's examples to a second table; of several labels, or of numbers, a share of all.

    A class keeps one at least. Where examples have origins, whole ones are moved, about that share of each class. Where
    they are windows of series, it is the last share by time.

    Raises:
        DataError: nothing would be left on a side.
    """
    if isinstance(table.inputs, Windows):
        return divided_in_time(table, share, option)
    generator = np.random.default_rng(seed)
    if table.origins is not None:
        one_label = table.targets is not None and not table.multi_label and not table.numeric
        held = held_origins(table.origins, table.targets if one_label else None, share, generator)
        if not len(held):
            raise DataError(
                f"{option}={share:.3g}: {few(map(repr, table.origins.present))} cannot be divided so that each class "
                f"keeps an example: add groups, or give {option.removesuffix('_split')} data"
            )
        return table.select(np.setdiff1d(np.arange(len(table)), held)), table.select(held)
    if table.multi_label or table.numeric or table.targets is None:
        groups = [np.arange(len(table))]
    else:
        groups = [table.index.rows(code).astype(np.int64) for code in range(len(table.classes))]
    held = np.concatenate([generator.permutation(rows)[: _part(len(rows), share)] for rows in groups])
    if not 0 < len(held) < len(table):
        raise DataError(f"{option}={share:.3g} of {len(table)} examples leaves a side empty: choose another share")
    rest = np.setdiff1d(np.arange(len(table)), held)
    return table.select(rest), table.select(np.sort(held))


def _part(count: int, share: float) -> int:
    return min(round(count * share), max(count - 1, 0))  # a class keeps an example to train on


def check_disjoint(classes: Mapping[str, Sequence[str]]) -> None:
    """Check that no two splits share a class.

    Args:
        classes: the class names of each split.

    Raises:
        DataError: they do; the message names the splits and the classes.
    """
    seen: dict[str, tuple[str, str]] = {}
    for split, names in classes.items():
        own = {name: plain_number(class_name(name)) for name in names}
        shared = [name for name in names if own[name] in seen]
        if shared:
            other, again = seen[own[shared[0]]]
            same = class_name(again) == class_name(shared[0])
            twice = "" if same else f"; '{again}' there is '{shared[0]}' here, one number written in two ways"
            raise DataError(
                f"the {other} and {split} data share classes ({len(shared)}): {shown(shared)}{twice}. "
                "Few-shot training is judged on classes it never saw: move each class to one split, or give only "
                "training data and val_split=0.2. Integer labels that count from 0 in every split mean the same "
                "classes: give each split's classes names of their own"
            )
        seen.update((own[name], (split, name)) for name in names)


def check_no_file_twice(tables: Mapping[str, Table]) -> None:
    """Check that no file is an example of two splits; warn where one is of two classes of a split.

    Raises:
        DataError: one is; the message names the splits and the file.
    """
    files = {split: table.inputs.identities() for split, table in tables.items() if isinstance(table.inputs, Files)}
    for split, found in files.items():
        _warn_of_two_classes(split, tables[split], found)
    paths = {split: {known: path for known, path in found if known} for split, found in files.items()}
    for (split, names), (other, others) in combinations(paths.items(), 2):
        shared = sorted((names[file], others[file]) for file in names.keys() & others.keys())
        if shared:
            first, again = shared[0]
            link = "" if first == again else f" (which is '{again}')"
            raise DataError(
                f"{len(shared)} files are both in the {split} and the {other} data, for example '{first}'{link}: what "
                "a model was trained on says nothing about it. Remove them from one split"
            )


def shared_origins(tables: Mapping[str, Table]) -> list[str]:
    """Say in words which groups lie in several splits: what a model learned of one tells on its other examples."""
    present = {split: table.origins.present for split, table in tables.items() if table.origins is not None}
    found = []
    for (split, names), (other, others) in combinations(present.items(), 2):
        both = sorted(set(names) & set(others))
        if both:
            found.append(
                f"{len(both)} groups are both in the {split} and the {other} data: {shown(both)}. The figures of the "
                f"{other} data then tell nothing of groups that are new"
            )
    return found


def warn_of_shared_origins(tables: Mapping[str, Table]) -> None:
    """Warn of groups that lie in several splits."""
    for told in shared_origins(tables):
        warnings.warn(told, DataWarning, 4)


def warn_of_idle_origins(tables: Mapping[str, Table]) -> None:
    """Warn of groups that part nothing: each example is one, or all are of one."""
    known = [table.origins for table in tables.values() if table.origins is not None]
    count, names = sum(len(each.codes) for each in known), sorted({name for each in known for name in each.present})
    if count > 1 and len(names) in (1, count):
        told = f"all {count} examples are of one group, {shown(names)}, which cannot be divided"
        if len(names) > 1:
            told = (
                f"each of the {count} examples is a group of its own, such as {shown(names[:2])}, as if there were none"
            )
        warnings.warn(f"{told}: a group is what several come from. See group_by, or group_field", DataWarning, 4)


def _warn_of_two_classes(split: str, table: Table, found: Sequence[tuple[Any, str]]) -> None:
    """Warn of files that are examples of several classes, as where a link gives one folder a second name."""
    if table.targets is None or table.multi_label or table.numeric:
        return
    first: dict[Any, tuple[str, int]] = {}
    twice: list[tuple[str, str, str, str]] = []
    for (known, path), code in zip(found, table.targets.tolist(), strict=True):
        again, before = first.setdefault(known, (path, code))
        if known and before != code:
            twice.append((again, table.classes[before], path, table.classes[code]))
    if twice:
        some, one, more, other = twice[0]
        link = "" if some == more else f", as '{more}'"
        warnings.warn(
            f"{len(twice)} files of the {split} data are examples of two classes, for example '{some}' of '{one}' and"
            f"{link} of '{other}': what is the same cannot be told apart. Remove the link, or the row",
            DataWarning,
            5,
        )


def warn_of_names(tables: Mapping[str, Table]) -> None:
    """Warn of classes that may be slips of the pen: names that look alike, and training classes of one example.

    Where no class has more than two examples, or examples have several labels, one example is no slip.
    """
    known = dict.fromkeys(name for table in tables.values() for name in table.classes)
    like = alike(known)
    if like:
        pairs = few((" and ".join(map(repr, names)) for names in like), between="; ")
        warnings.warn(
            f"classes differ in case, blanks or width alone, and count as different classes: {pairs}. If they are one, "
            "give them one name",
            DataWarning,
            4,
        )
    train = tables.get("train")
    if train is not None and train.targets is not None and not train.multi_label and not train.numeric:
        counts = train.index.counts
        alone = [train.classes[code] for code in np.flatnonzero(counts == 1)]
        if alone and int(counts.max()) > 2:
            warnings.warn(
                f"{len(alone)} of {len(train.classes)} classes of the train data have one example alone: "
                f"{shown(alone)}. Are they misspelled? Else add examples, or remove them",
                DataWarning,
                4,
            )


def classes_seen(
    data: Any, stage: str, trained: tuple[str, ...], validated: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes that a few-shot model was trained on and chosen by, once those to judge it by are others.

    Args:
        data: a data module.
        stage: Lightning's name of what is about to happen.
        trained, validated: what was known before.

    Raises:
        DataError: two of them share a class.
    """

    def classes(split: str) -> tuple[str, ...]:
        return getattr(data.table(split, by_class=True), "classes", ())

    if stage == "fit":
        return _joined(trained, classes("train")), _joined(validated, classes("val"))
    judged = {"validation": classes("val")} if stage == "validate" else {"test": classes("test")}
    check_disjoint({"training": trained, **judged})
    if stage != "validate":
        check_disjoint({"validation": validated, **judged})
    return trained, validated


def _joined(some: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*some, *more]))
