"""From the ids or names that annotations have for classes to the codes of a head, 0 to C - 1: the one place that does.

Ids may have holes, several may be of one class, and some of none: elements of these are not asked about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quickstudy.errors import ConfigError, DataError, brief, few, shown

ClassNames = Sequence[str] | Mapping[Any, str]
"""Names of the ids 0, 1, ..., or by id; ids of one name are of one class."""


class ClassIds(NamedTuple):
    """Which class each id is of."""

    classes: tuple[str, ...]
    """C names, in the order of the codes."""
    ids: tuple[Any, ...]
    """Whole numbers, or names, as the annotations have them."""
    codes: tuple[int, ...]
    """Of each id."""


def in_form(names: ClassNames | None, numbers: bool = False) -> ClassNames | None:
    """Return names of classes as a kind keeps them: a tuple, or a dict by id.

    Args:
        names: as a user gave them, or as they come from JSON, which makes texts of whole numbers.
        numbers: whether ids are whole numbers; else they may be names, too, and only what looks like a number is one.

    Raises:
        ConfigError: an id is no whole number.
    """
    if not isinstance(names, Mapping):
        return None if names is None else tuple(map(str, names))
    try:
        return {int(one) if numbers or str(one).isdecimal() else one: str(name) for one, name in names.items()}
    except (TypeError, ValueError) as error:
        raise ConfigError(f"class_names={brief(names)}: name whole numbers, {{40: 'road'}}") from error


def class_ids(
    names: ClassNames | None,
    count: int | None,
    told: Sequence[str],
    seen: Iterable[Any],
    ignored: Collection[Any],
) -> ClassIds:
    """Return which classes there are, and which ids are theirs.

    Args:
        names: as a user gave them; else
        count: how many there are, with ids from 0; else
        told: names of the ids from 0, as the data has them; else
        seen: the ids that training data has, which are then called by themselves; it is asked for none otherwise.
        ignored: ids of no class.

    Raises:
        ConfigError: there are other numbers of names and classes, or there is no class.
    """
    if names is not None:
        pairs = list(names.items()) if isinstance(names, Mapping) else list(enumerate(names))
    elif count is not None:
        pairs = [(code, told[code] if code < len(told) else str(code)) for code in range(count)]
    elif told:
        pairs = list(enumerate(told))
    else:
        pairs = [(one, str(one)) for one in sorted({*seen})]
    if count is not None and (named := len({name for _, name in pairs})) != count:
        raise ConfigError(f"class_names has {named} names and num_classes={count}: leave num_classes out")
    pairs = [(one, name) for one, name in pairs if one not in ignored]
    classes = tuple(dict.fromkeys(name for _, name in pairs))
    if not classes:
        raise ConfigError("there is no class to learn: no target has a label that is not ignored")
    return ClassIds(classes, tuple(one for one, _ in pairs), tuple(classes.index(name) for _, name in pairs))


@dataclass(frozen=True)
class Coded:
    """Turns ids into codes: a value, so that equal ones count alike.

    Args:
        classes, ids, codes: see ``ClassIds``.
        ignored: ids of no class, whose elements are not asked about.
        option: what a user sets to have labels of no class, for messages.
    """

    classes: tuple[str, ...]
    ids: tuple[Any, ...]
    codes: tuple[int, ...]
    ignored: tuple[Any, ...] = ()
    option: str = "ignore_index"

    def labels(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes of ids of elements ``[...]``, 0 where they have none, and whether they have one.

        Raises:
            DataError: an id is of no class.
        """
        values, places = torch.unique(ids, return_inverse=True)
        known = dict(zip(self.ids, self.codes, strict=True))
        found = [known.get(value, -1) for value in values.tolist()]
        pairs = zip(values.tolist(), found, strict=True)
        strange = [value for value, code in pairs if code < 0 and value not in self.ignored]
        if strange:
            raise DataError(self._message(strange))
        codes = torch.tensor(found, dtype=torch.int64)[places] if len(found) else ids.long()
        return codes.clamp(min=0), codes >= 0

    def listed(self, ids: Sequence[Any]) -> list[int]:
        """Return the codes of ids or names, -1 for those of no class.

        Raises:
            DataError: one is unknown.
        """
        known = dict(zip(self.ids, self.codes, strict=True))
        strange = [one for one in ids if one not in known and one not in self.ignored]
        if strange:
            raise DataError(self._message(list(dict.fromkeys(strange))))
        return [known.get(one, -1) for one in ids]

    def _message(self, strange: Sequence[Any]) -> str:
        known = [f"{brief(one)} ({self.classes[code]})" for one, code in zip(self.ids, self.codes, strict=True)]
        whole = all(isinstance(one, int) for one in strange)
        by_number = " by number, {0: 'ground', 255: 'person'}, where that is one of the classes" * whole
        return (
            f"the label {few(map(repr, strange))} is of none of the {len(self.classes)} classes {shown(self.classes)}: "
            f"labels are {few(known)}. Set {self.option} for labels that are not to be learned, or "
            f"class_names{by_number}"
        )
