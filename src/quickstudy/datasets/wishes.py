"""Wishes: what people ask of a help desk, made by a grammar. A class is something to be done to something.

A stand-in for a data set of intents that needs no download. "Call off my parcel" and "please drop the delivery" are one
class: in one example most words are others than in the next, so that words in common tell little, and what the words
mean can be learned from other classes; half of the texts have a slip of the finger. Those of validation and test are
pairs of an action and a thing that training has seen, each in other pairs.
"""

from __future__ import annotations

import os

import numpy as np

from quickstudy.data.table import Splits, Table
from quickstudy.datasets.registry import DATASETS
from quickstudy.errors import ConfigError, check_counts

_TEST, _VAL = (0, 1), (2,)  # diagonals of actions and things, of _DIAGONALS

_ACTIONS = {
    "cancel": (
        "call off {}",
        "I no longer want {}",
        "please drop {}",
        "stop {} from going ahead",
        "forget about {}",
        "do away with {}",
    ),
    "postpone": (
        "push back {}",
        "find a later day for {}",
        "{} has to wait until next week",
        "postpone {}",
        "put off {} for now",
        "could {} happen some other time",
    ),
    "confirm": (
        "is {} still on",
        "make sure that {} stands",
        "tell me that {} is settled",
        "does {} go through as planned",
        "vouch for {}",
        "say yes to {}",
    ),
    "find": (
        "where is {}",
        "I have lost sight of {}",
        "help me track down {}",
        "{} has gone missing",
        "look for {}",
        "no trace of {}",
    ),
    "price": (
        "how much is {}",
        "what do I pay for {}",
        "is {} expensive",
        "name me a figure for {}",
        "what am I charged for {}",
        "can I afford {}",
    ),
    "repair": (
        "fix {}",
        "{} is broken",
        "get {} going again",
        "somebody should mend {}",
        "{} has a fault",
        "nothing works with {}",
    ),
    "buy": (
        "I would like to order {}",
        "put {} in my basket",
        "I will take {}",
        "let me have {}",
        "purchase {}",
        "sign me up for {}",
    ),
    "refund": (
        "I want my money back for {}",
        "take {} off my hands again",
        "{} is not what I asked for",
        "reimburse me for {}",
        "send back {}",
        "pay me back for {}",
    ),
    "share": (
        "let my sister see {}",
        "forward {}",
        "pass {} on to a friend",
        "give my team access to {}",
        "send {} to the others",
        "show {} around",
    ),
    "explain": (
        "tell me more about {}",
        "what is {} like",
        "any details on {}",
        "describe {}",
        "I do not understand {}",
        "what should I know about {}",
    ),
    "praise": (
        "{} is wonderful",
        "five stars for {}",
        "I love {}",
        "well done with {}",
        "my compliments on {}",
        "never been happier with {}",
    ),
    "complain": (
        "{} is a disgrace",
        "who is to blame for {}",
        "one star for {}",
        "I am fed up with {}",
        "it is a shame about {}",
        "never again with {}",
    ),
    "remind": (
        "do not let me forget {}",
        "set an alarm for {}",
        "nudge me about {}",
        "keep me in mind of {}",
        "ring me when {} comes up",
        "leave me a note on {}",
    ),
    "change": (
        "I need to edit {}",
        "there is a mistake in {}",
        "correct {}",
        "alter {}",
        "rewrite a part of {}",
        "update {}",
    ),
    "copy": (
        "print {}",
        "I need {} twice",
        "save {} on paper",
        "make a second one of {}",
        "duplicate {}",
        "keep a spare of {}",
    ),
}
"""Wordings of what is to be done; the thing stands in the braces."""

_THINGS = {
    "appointment": ("my appointment", "the visit on Friday", "our meeting", "the hour at the dentist"),
    "parcel": ("my parcel", "the delivery", "the box from the shop", "this package"),
    "invoice": ("the bill", "my invoice", "this statement", "the amount due"),
    "phone": ("my phone", "the mobile", "this handset", "the thing I call with"),
    "ticket": ("my ticket", "the seat on the train", "our fare", "the boarding pass"),
    "room": ("the room", "our hotel", "the suite by the sea", "my booking for the night"),
    "photo": ("the photo", "my picture", "these snapshots", "the portrait of grandmother"),
    "meal": ("our dinner", "the table for two", "the lunch menu", "my pizza"),
    "policy": ("my insurance", "the cover for the house", "this policy", "our protection plan"),
    "car": ("the car", "my vehicle", "the van", "our old banger"),
    "lesson": ("the lesson", "my piano class", "this course", "the hour with the teacher"),
    "password": ("my password", "the secret code", "this login", "the key to my account"),
    "medicine": ("my pills", "the prescription", "this medicine", "the drops for my ear"),
    "film": ("the film", "that movie", "our evening at the cinema", "this documentary"),
    "gift": ("the gift", "her birthday present", "this voucher", "the surprise for mother"),
    "heating": ("the heating", "our boiler", "the radiator", "the warm water"),
}
"""Names of each thing."""

_BEFORE = ("", "", "please, ", "hello, ", "good morning, ", "quick one: ", "sorry to ask, ", "hi there, ")
_AFTER = (
    "",
    "",
    ", thanks",
    ", as soon as you can",
    ", before noon",
    ", it is urgent",
    ", if you do not mind",
    ", ok?",
)
_DIAGONALS = 8
_SLIPS = 0.5  # texts with one
_MOST = 500  # texts of a class; there are about twice as many


@DATASETS.register("wishes")
def wishes(root: str | os.PathLike[str] | None = None, *, examples: int = 24) -> Splits:
    """Return texts of 240 classes, named ``"cancel parcel"``, by a grammar: the same on every machine.

    Args:
        root: of no use here, as nothing is kept.
        examples: texts of each class, none twice in it.

    Returns:
        Tables of strings, sorted by class: 150 classes to train on, 30 to validate, 60 to test.

    Raises:
        ConfigError: ``examples`` is below 1, or above 500.
    """
    check_counts(examples=examples)
    if examples > _MOST:
        raise ConfigError(f"examples={examples}: the grammar has {_MOST} texts of a class at most")
    parts: dict[str, tuple[list[str], list[int], list[str]]] = {stage: ([], [], []) for stage in Splits._fields}
    for row, (action, wordings) in enumerate(_ACTIONS.items()):
        for column, (thing, names) in enumerate(_THINGS.items()):
            diagonal = (row + column) % _DIAGONALS
            stage = "test" if diagonal in _TEST else "val" if diagonal in _VAL else "train"
            texts, targets, classes = parts[stage]
            texts += _texts(wordings, names, examples, np.random.default_rng([row, column]))
            targets += [len(classes)] * examples
            classes.append(f"{action} {thing}")
    return Splits(*(Table(x, np.array(y, np.int32), tuple(names)) for x, y, names in parts.values()))


def _texts(wordings: tuple[str, ...], names: tuple[str, ...], count: int, generator: np.random.Generator) -> list[str]:
    """Return texts of one class: every wording and name as often as any other, in an order by chance."""
    found: dict[str, None] = {}
    while len(found) < count:
        for wording, name in zip(generator.permutation(wordings), generator.permutation(names), strict=False):
            before, after = generator.choice(_BEFORE), generator.choice(_AFTER)
            found[_slip(f"{before}{wording.format(name)}{after}", generator)] = None
    return list(found)[:count]


def _slip(text: str, generator: np.random.Generator) -> str:
    """Return the text, by chance with two letters swapped or one missing, the first aside."""
    place, kind = int(generator.integers(1, len(text) - 1)), generator.random() / _SLIPS
    if kind < 1:
        here = text[place : place + 2]
        text = text[:place] + (here[::-1] if kind < 0.5 else here[1:]) + text[place + 2 :]
    return text
