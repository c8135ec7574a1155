"""What is looked at before any number of few examples is told: repetitions, classes of two names, groups, too few.

Every check is a function of the data alone, and returns what it found in words, with the rows that it is about.

Shapes: N examples, of several tables one after the other; C classes.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.likeness import Sketch, digest, in_bytes, joined, known_again, near_pairs, sketches
from quickstudy.data.origins import Origins
from quickstudy.data.samples import Samples
from quickstudy.data.splitting import shared_origins
from quickstudy.data.table import Table
from quickstudy.data.targets import Label
from quickstudy.errors import DataWarning, few, one_line, require
from quickstudy.functional.intervals import FEWEST, proportion_interval
from quickstudy.learning.changes import Support
from quickstudy.modality import Modality
from quickstudy.nets.encoder import starts_from_nothing
from quickstudy.nets.weights import WHEELS

_LOOKED_AT = 1 << 17  # examples of one call, at most
_TOLD = 50  # pairs of which the rows are told
_NEAR = 0.8  # an accuracy that the width of an interval is told of
_WIDE = 0.05  # half-width that is taken for enough
_DRAWS = 5  # fewer leave the deviation among them open, by which intervals are several times as wide
_GRADES = 10  # classes that are numbers, and no measurements though they are written as 1.0
_SHORTEST = 4  # letters of a word that may have a plural
_SETS = {"in22k": "imagenet-22k", "in21k": "imagenet-22k", "in12k": "imagenet-12k", "in1k": "imagenet-1k"}
"""By a part of the tag of timm's weights, the pictures that they were trained on, whose classes timm knows by name."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    check: str
    """``"labels"``, ``"splits"``, ``"repeated"``, ``"names"``, ``"numbers"``, ``"groups"``, ``"grouped"``, ``"few"``,
    ``"unasked"``, ``"seen"``, ``"others"`` or ``"read"``, which is whatever reading the data warned of."""
    told: str
    """In a sentence."""
    rows: tuple[tuple[int, ...], ...] = ()
    """Of examples that it is about, those that belong together in one; the first 50."""
    kind: ClassVar[str] = "finding"

    @property
    def notice(self) -> bool:
        """Whether it is told for completeness, as it is taken care of and changes no figure."""
        return self.check in ("repeated", "grouped")

    def apart(self) -> Finding:
        """Return what is told where draws cannot keep repetitions on one side; of others the same."""
        if self.check != "repeated":
            return self
        told = self.told.partition(" They stay")[0]
        return replace(
            self,
            check="labels",
            told=f"{told} A class has too few others to keep them on one side of every draw, and the figures are "
            "flattered: remove one of each pair",
        )


def repetitions(
    tables: Mapping[str, Table], modality: Modality, found: Sequence[Sketch] | None = None
) -> tuple[list[Finding], NDArray[np.int64]]:
    """Look for examples that are nearly the same: of two classes, in two splits, in one class.

    Args:
        tables: by the name of the split.
        modality: what inputs are; its ``sketch`` is compared.
        found: their sketches, where these are known.

    Returns:
        What was found; and ``[N]``, by example the first row that it is nearly the same as, which may be its own:
        draws that keep such together ask nothing that they showed.
    """
    if found is None:
        found = [one for table in tables.values() for one in sketches(table.inputs, modality.sketch)]
    pairs = near_pairs(found)
    first = joined(pairs, len(found))
    one, other = pairs.T
    split_N = np.repeat(np.arange(len(tables)), [len(table) for table in tables.values()])
    label_N = np.array([name for table in tables.values() for name in _labels(table)], object)
    labels, splits = label_N[one] != label_N[other], split_N[one] != split_N[other]
    told = _Teller(tables, modality)
    what = modality.called
    findings = []
    if labels.any():
        findings.append(
            told.finding(
                "labels",
                pairs[labels],
                f"{told.count(pairs[labels])} {what} of two classes are nearly the same: {{}}. What is the same cannot "
                "be told apart: look at them, and correct or remove one of each pair",
            )
        )
    if splits.any():
        names = list(tables)
        ways = sorted({tuple(sorted(each)) for each in split_N[pairs[splits]].tolist()})
        between = " and of ".join(f"the {names[one]} and the {names[other]} data" for one, other in ways)
        findings.append(
            told.finding(
                "splits",
                pairs[splits],
                f"{told.count(pairs[splits])} {what} of {between} are nearly the same: {{}}. Who learned the one is "
                "judged too well by the other: remove them from one split",
            )
        )
    within = ~labels & ~splits
    if within.any():
        chance = ". Rows of few columns may be so by chance" if modality.column_names is not None else ""
        findings.append(
            told.finding(
                "repeated",
                pairs[within],
                f"{told.count(pairs[within])} {what} are nearly the same as another of their class: {{}}. They stay on "
                f"one side of every draw, so that none is asked that another taught{chance}",
            )
        )
    return findings, first


def together(first: NDArray[np.int64], origins: Origins | None = None) -> Origins | None:
    """Return groups that keep what is nearly the same together, and what is of one origin; None where all are alone.

    Args:
        first: ``[N]``, of ``repetitions``.
        origins: what the examples come from, where that is known.
    """
    rows = np.arange(len(first))
    if (first == rows).all():
        return origins
    pairs = np.stack([first, rows], axis=1)
    if origins is None:
        codes, names = first, rows
    else:
        _, begins = np.unique(origins.codes, return_index=True)
        own = np.zeros(len(origins.names), np.int64)
        own[origins.codes[begins]] = begins
        codes = joined(np.concatenate([pairs, np.stack([own[origins.codes], rows], axis=1)]), len(first))
        names = np.array(origins.names, object)[origins.codes]
    known, places = np.unique(codes, return_inverse=True)
    return Origins(places.astype(np.int32), tuple(map(str, names[known].tolist())))


def swapped(table: Table, first: NDArray[np.int64], called: str) -> list[Finding]:
    """Say so where each example has a class of its own and examples repeat: the two may have changed places.

    Args:
        table: of examples of one class each.
        first: ``[N]``, of ``repetitions``.
        called: what examples are.
    """
    different = len(np.unique(first))
    if not len(table) == len(table.classes) > 2 * different:
        return []
    return [
        Finding(
            "labels",
            f"there are {different} different {called} and {len(table.classes)} classes, one for each of {len(table)} "
            f"examples, such as '{one_line(table.classes[0], 60)}': {called} and labels seem to have changed places",
        )
    ]


def origins_of(
    table: Table, modality: Modality, known: Support | None = None
) -> tuple[tuple[int, ...], tuple[bytes, ...], tuple[Label | None, ...]]:
    """Look at examples that are about to be learned, and warn of what is wrong with them.

    Args:
        table: of examples of one class each; whose origins, if it has any, are kept.
        modality: what inputs are.
        known: by class, examples that were learned before, and stay.

    Returns:
        Of each a number for what it comes from: the same for those that are nearly the same or of one origin, that of a
        known one which it is nearly the same as, the same of the same example whenever it comes; 0 where there is no
        telling. Of each what later ones are compared with, see ``Kept``. And of each the known class of which one is
        nearly the same; None: none is. Of very many none of all this: nobody looks.
    """
    if len(table) > _LOOKED_AT:
        return (), (), ()
    found = sketches(table.inputs, modality.sketch)
    findings, first = repetitions({"support": table}, modality, found)
    changed = swapped(table, first, modality.called) if modality.in_words else []  # nothing else is like a label
    findings = changed or [one for one in findings if not one.notice]
    if table.label_type == "str":
        findings += twice_named(table.classes) + numbers_named(table.classes)
    for finding in findings:
        warnings.warn(finding.told, DataWarning, 5)
    if (origins := together(first, table.origins)) is not None:
        _, begins, places = np.unique(origins.codes, return_index=True, return_inverse=True)
        first = begins[places]
    names = [_in_bytes(found[row]) for row in first.tolist()]
    if (own := table.origins) is not None:
        names = [f"group {own.names[own.codes[row]]}".encode() for row in first.tolist()]
    numbers = [int.from_bytes(digest(name)[:8], "big", signed=True) if name else 0 for name in names]
    kept = tuple(map(in_bytes, found))
    before = [
        (name, *each) for name, own in (known or {}).items() for each in zip(own.sketches, own.sources, strict=False)
    ]
    again = known_again(kept, [sketch for _, sketch, _ in before])
    of_known = {group: before[place][2] for group, place in zip(first.tolist(), again, strict=True) if place >= 0}
    origins_N = tuple(of_known.get(group, number) for group, number in zip(first.tolist(), numbers, strict=True))
    return origins_N, kept, tuple(before[place][0] if place >= 0 else None for place in again)


def of_other_classes(table: Table, modality: Modality, again: Sequence[Label | None], name: Label) -> list[Finding]:
    """Look for examples that are about to be learned as a class, and are nearly the same as one of another.

    Args:
        table: of the examples, without labels.
        modality: what inputs are.
        again: of each the class that knows it, of ``origins_of``.
        name: of the class.
    """
    rows = [row for row, other in enumerate(again) if other not in (None, name)]
    if not rows:
        return []
    told = _Teller({"": table}, modality)
    pairs = few((f"{told.named(row)} and one of {one_line(repr(again[row]), 60)}" for row in rows), 2, "; ")
    what = f"{len(rows)} {modality.called} for" if len(rows) > 1 else f"one of the {modality.called} for"
    return [
        Finding(
            "labels",
            f"{what} the class {one_line(repr(name), 60)} {'are' if len(rows) > 1 else 'is'} nearly the same as "
            f"examples of other classes: {pairs}. What is the same cannot be told apart: where it is of one class, "
            "remove the other class and teach that again without it",
            tuple((row,) for row in rows[:_TOLD]),
        )
    ]


def _in_bytes(sketch: Sketch) -> bytes:
    return sketch.numpy().tobytes() if isinstance(sketch, Tensor) else sketch or b""


def twice_named(classes: Iterable[str]) -> list[Finding]:
    """Look for names that may be of one class: in another case, with other blanks or dashes, one or several of it."""
    by_words: dict[str, list[str]] = {}
    for name in classes:
        by_words.setdefault(_joined_words(name), []).append(name)
    found = [names for names in by_words.values() if len(names) > 1]
    if not found:
        return []
    pairs = few((" and ".join(f"'{one_line(name)}'" for name in names) for names in found), between="; ")
    return [
        Finding(
            "names",
            f"{len(found)} class{'es' * (len(found) > 1)} may have several names: {pairs}. They count as different "
            "ones: if they are one, give it one name",
        )
    ]


def also_among(classes: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return those names that may be of a class which others have: in another case, with other blanks, of several.

    >>> also_among(["Cat ", "polar_bears", "dog"], ["cat", "Polar bear"])
    ['Cat ', 'polar_bears']
    >>> also_among(["01", "2.0", "-1", "12", "3.5"], ["1", "2", "3", "5"])  # numbers by what they are worth
    ['01', '2.0']
    """
    known = set(map(_worth, others))
    return [name for name in classes if _worth(name) in known]


def numbers_named(classes: Sequence[str]) -> list[Finding]:
    """Say so where classes are numbers with fractions, or many written so: each value of what was measured is one."""
    many = len(classes) > _GRADES
    try:
        fractions = [name for name in classes if not float(name).is_integer() or (many and "." in name)]
    except (ValueError, OverflowError):
        return []
    if not fractions:
        return []
    some = few(f"'{one_line(name)}'" for name in fractions)
    return [
        Finding(
            "numbers",
            f"all {len(classes)} classes are numbers, such as {some}. Is it something measured? Each value counts as a "
            "class of its own: put numbers into ranges, such as low and high, or learn them by a regression",
        )
    ]


def few_asked(asked: int, at: str = "", accuracy: float = _NEAR, enough: float = _WIDE) -> list[Finding]:
    """Say how wide an interval is going to be, where that is too wide to tell methods apart.

    Args:
        asked: different examples that are asked.
        at: where, in words: ``"at 5 examples per class"``.
        accuracy: that is near the true one.
        enough: the half-width that is enough.
    """
    half = _half(asked, accuracy)
    if half <= enough:
        return []
    most = 1
    while _half(most, accuracy) > enough:
        most *= 2
    need = int(np.searchsorted([-_half(count, accuracy) for count in range(1, most + 1)], -enough)) + 1
    width = f"± {100 * half:.0f} points" if asked else "of any width"
    return [
        Finding(
            "few",
            f"{asked} examples are asked{at and ' '}{at}: near {accuracy:.0%} the interval of an accuracy is {width}, "
            f"whatever the method. For ± {100 * enough:.0f} it takes {need}",
        )
    ]


def never_asked(table: Table, asked: NDArray[np.int64]) -> list[Finding]:
    """Say so where no example of a class is asked, as all it has are of one origin, which is learned from.

    Args:
        table: of one class per example.
        asked: the rows that are asked at any time.
    """
    assert table.targets is not None
    codes = np.setdiff1d(np.arange(len(table.classes)), table.targets[asked])
    if not len(codes):
        return []
    names = few(f"'{one_line(table.classes[code], 60)}'" for code in codes.tolist())
    return [
        Finding(
            "unasked",
            f"no example of {names} is asked, as all there are come from one group, or are copies of one: no figure is "
            "about such classes. Add examples of other groups",
        )
    ]


def few_draws(draws: int) -> list[Finding]:
    """Say so where too few support sets are drawn to tell how much depends on which examples are learned from."""
    if draws >= _DRAWS:
        return []
    told, so = ("little", "wide") if draws >= FEWEST else ("nothing", "missing")
    return [
        Finding(
            "few",
            f"{draws} draws tell {told} of how an accuracy depends on which examples "
            f"were learned from, so that intervals are {so}: raise --draws "
            f"(draws=), to {_DRAWS} at least",
        )
    ]


def grouped(table: Table) -> list[Finding]:
    """Say how many groups examples come from, where that is known."""
    return [] if table.origins is None else [Finding("grouped", f"examples come from {table.origins}")]


def groups_apart(tables: Mapping[str, Table]) -> list[Finding]:
    """Look for groups that lie in several splits, and for classes of which one group has all examples."""
    findings = [Finding("groups", told) for told in shared_origins(tables)]
    for split, table in tables.items():
        if table.origins is None or table.targets is None or table.multi_label or table.numeric:
            continue
        ends = np.unique(np.stack([table.targets, table.origins.codes], axis=1), axis=0)
        codes, counts = np.unique(ends[:, 0], return_counts=True)
        alone = codes[counts == 1].tolist()
        if alone:
            owner = dict(ends.tolist())
            some = few(
                f"'{one_line(table.classes[code])}' of '{one_line(table.origins.names[owner[code]])}'" for code in alone
            )
            findings.append(
                Finding(
                    "groups",
                    f"{len(alone)} of {len(codes)} classes of the {split} data have all examples of one group: {some}. "
                    "Of these it cannot be told whether the class or the group is recognised: add groups",
                )
            )
    return findings


def seen_by(backbone: str, classes: Sequence[str], network: Any = None) -> list[Finding]:
    """Say which classes a pretrained encoder was trained to tell, by their names, as far as that is known offline.

    Args:
        backbone: its name.
        classes: of the data; names as ImageNet's folders have, ``n01532829``, are known too.
        network: the module, whose own list of labels counts, as of models of transformers (``config.id2label``).
    """
    source, labels = _labels_of(backbone, network)
    if not labels:
        return []
    ends: dict[str, str] = {}
    for label in labels.values():
        for name in label.split(","):
            words = _words(name).split()
            for start in range(len(words)):
                ends.setdefault(" ".join(words[start:]), name.strip())
    found = {}
    for name in classes:
        folder = re.match(r"n\d{8}", name)
        known = labels.get(folder[0]) if folder else None
        if known is None:
            known = ends.get(_words(name))
        if known is not None:
            found[name] = known
    if not found:
        return []
    some = few(
        f"'{one_line(name)}'" + (f" ({one_line(known)})" if _words(known) != _words(name) else "")
        for name, (known, *_) in ((name, known.split(",")) for name, known in found.items())
    )
    return [
        Finding(
            "seen",
            f"'{one_line(backbone)}' was trained on {source}, which has {len(found)} of these {len(classes)} classes "
            f"by name: {some}. On classes that it has never seen it does worse than the figures here say",
        )
    ]


class _Teller:
    """Puts pairs of examples into words.

    Args:
        tables: of the examples.
        modality: what inputs are.
    """

    def __init__(self, tables: Mapping[str, Table], modality: Modality) -> None:
        self._tables, self._modality = tables, modality

    def finding(self, check: str, pairs: NDArray[np.int64], told: str) -> Finding:
        """Return a finding; ``{}`` in the words stands for the first pairs."""
        some = few((f"{self.named(one)} and {self.named(other)}" for one, other in pairs.tolist()), 2, "; ")
        return Finding(check, told.replace("{}", some), tuple(map(tuple, pairs[:_TOLD].tolist())))

    def count(self, pairs: NDArray[np.int64]) -> int:
        """Return how many examples pairs are of."""
        return len(np.unique(pairs))

    def named(self, row: int) -> str:
        """Return what an example is called, with its label."""
        for split, table in self._tables.items():
            if row < len(table):
                item = table.inputs[row] if isinstance(table.inputs, list) else None
                name = f"'{one_line(item, 60)}'" if isinstance(item, str) else self._name(table, row)
                where = f", {split}" if len(self._tables) > 1 else ""
                label = "" if table.targets is None else f" ({one_line(_labels(table, row)[0], 60)}{where})"
                return name + label
            row -= len(table)
        raise AssertionError(row)

    def _name(self, table: Table, row: int) -> str:
        return one_line(Samples(table.inputs, self._modality).name(row))


def _labels(table: Table, row: int | None = None) -> Sequence[Any]:
    """Return what each example is, or one."""
    if table.targets is None:
        return [None] * (len(table) if row is None else 1)
    if table.numeric or table.multi_label:
        told = table.told or []
        return told if row is None else told[row : row + 1]
    codes = table.targets if row is None else table.targets[row : row + 1]
    return [table.classes[code] for code in codes.tolist()]


def _words(name: str) -> str:
    """Return a name's words in the singular, as far as their letters tell.

    >>> _words("Polar_bears"), _words("polarBear"), _words("Cities"), _words("glass"), _words("C++"), _words("-1")
    ('polar bear', 'polar bear', 'city', 'glass', 'c++', '-1')
    """
    text = unicodedata.normalize("NFKC", re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)).casefold()
    text = "".join(mark for mark in text if unicodedata.category(mark) != "Cf")
    words = re.sub(r"(?<=\w)[-.]|[-.](?!\d)|[\s_\u2010-\u2015]+", " ", text).split()
    return " ".join(map(_singular, words)) or name


def _joined_words(name: str) -> str:
    return re.sub(r"(?<!\d) (?!\d)", "", _words(name))


def _worth(name: str) -> str | Decimal:
    """Return the number that a name is, or else its words."""
    return Decimal(name.strip()) if re.fullmatch(r"[+-]?\d+(\.\d*)?", name.strip()) else _joined_words(name)


def _singular(word: str) -> str:
    if len(word) < _SHORTEST or not word.isascii():
        return word
    if word.endswith("ies") and len(word) > _SHORTEST:
        return word[:-3] + "y"
    if re.search(r"(?:s|x|z|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if re.search(r"[^aisu]s$", word) else word


def _half(asked: int, accuracy: float) -> float:
    return proportion_interval(accuracy * asked, asked)[1] if asked else 1.0


def _labels_of(backbone: str, network: Any) -> tuple[str, dict[str, str]]:
    """Return what an encoder was trained to tell: in words what that is, and by a key the names of each class."""
    own = getattr(getattr(network, "config", None), "id2label", None)
    if isinstance(own, Mapping) and len(own) > 2 and not all(str(name).startswith("LABEL_") for name in own.values()):
        return "labels of its own", {str(key): str(name) for key, name in own.items()}
    network_name = WHEELS[backbone].network if backbone in WHEELS else backbone
    if starts_from_nothing(backbone) or not find_spec("timm") or not require("timm", "image").is_model(network_name):
        return "", {}
    config = require("timm", "image").get_pretrained_cfg(network_name)
    tag = "" if config is None else config.tag or ""
    sets = dict.fromkeys(known for part, known in _SETS.items() if part in tag.split("_"))
    labels: dict[str, str] = {}
    for known in sets:
        info = require("timm.data", "image").ImageNetInfo(known)
        names = info.label_names()
        labels.update(zip(names, (info.label_name_to_description(name) for name in names), strict=True))
    return " and ".join(sets), labels
