"""Herbarium: rows of a table about plants that nobody has seen. A class is a species; numbers, words and dates mixed.

A stand-in for a table of many classes that needs no download. It has what makes tables hard: a plant's age scales all
its lengths at once, so that species differ in proportions and hardly in any one length; words are only mostly right;
altitudes are skewed; who collected it says nothing; and cells are missing. What of this to look past can be learned
from other species. Species of a genus are alike; those of validation and test are of genera that training never saw.
"""

from __future__ import annotations

import datetime
import os
from typing import Any

import numpy as np

from quickstudy.data.table import Splits, Table
from quickstudy.datasets.registry import DATASETS
from quickstudy.errors import check_counts

_GENERA = {"train": 36, "val": 8, "test": 16}
_SPECIES = 5  # of a genus
_LENGTHS = ("height", "stem", "leaf_length", "leaf_width", "petal_length", "petal_width")
_USUAL = np.log([60.0, 0.8, 8.0, 3.0, 2.0, 1.0])  # centimetres
_GROWTH = np.array([1.3, 1.0, 0.9, 0.9, 0.6, 0.6])  # how each goes with age: old plants are tall rather than in bloom
_AGE, _BETWEEN, _WITHIN, _OWN = 0.7, 0.25, 0.15, 0.08  # deviations of logarithms: of genera, their species, one plant
_WORDS = {
    "colour": ("white", "yellow", "red", "violet", "blue", "green"),
    "edge": ("smooth", "toothed", "lobed"),
    "habitat": ("meadow", "forest", "rock", "bog", "dune", "wayside"),
}
_TRUE = 0.6  # how often a word is its species' own
_COLLECTORS = ("Adler", "Brook", "Costa", "Dahl")
_MISSING = 0.06
_FIRST = ("Ar", "Bel", "Cor", "Dal", "Er", "Fal", "Gor", "Hel", "Il", "Kal", "Lor", "Mel", "Nar", "Or", "Pel")
_MIDDLE = ("a", "o", "i", "u")
_LAST = ("nia", "tium", "rea", "xis")
_EPITHETS = ("alba", "borealis", "clara", "dubia", "exigua")


@DATASETS.register("herbarium")
def herbarium(root: str | os.PathLike[str] | None = None, *, examples: int = 24) -> Splits:
    """Return rows of 300 species, such as ``"Melatium dubia"``, made by chance: the same on every machine.

    Args:
        root: of no use here, as nothing is kept.
        examples: plants of each species (of each class, in other sets that are made up).

    Returns:
        Tables of dicts, one of a plant, sorted by species: 180 species to train on, 40 to validate, 80 to test. Lengths
        are in centimetres, the altitude in metres; a cell that is missing is None.

    Raises:
        ConfigError: ``examples`` is below 1.
    """
    check_counts(examples=examples)
    names = [first + middle + last for last in _LAST for middle in _MIDDLE for first in _FIRST]
    generator = np.random.default_rng(0)
    tables, genus = [], 0
    for count in _GENERA.values():
        rows: list[dict[str, Any]] = []
        classes: list[str] = []
        for name in names[genus : genus + count]:
            shape = generator.normal(_USUAL, _BETWEEN)
            season, height = int(generator.integers(140, 220)), generator.normal(5.5, 0.4)
            for epithet in _EPITHETS:
                rows += _plants(generator, generator.normal(shape, _WITHIN), season, height, examples)
                classes.append(f"{name} {epithet}")
        genus += count
        tables.append(Table(rows, np.repeat(np.arange(len(classes), dtype=np.int32), examples), tuple(classes)))
    return Splits(*tables)


def _plants(
    generator: np.random.Generator, shape: np.ndarray[Any, Any], season: int, altitude: float, count: int
) -> list[dict[str, Any]]:
    """Return plants of one species."""
    petals, day = int(generator.integers(4, 7)), season + generator.integers(-30, 30)
    own = {name: words[generator.integers(len(words))] for name, words in _WORDS.items()}
    age = generator.normal(0, _AGE, (count, 1))
    lengths = np.exp(shape + _GROWTH * age + generator.normal(0, _OWN, (count, len(shape))))
    plants = []
    for row in range(count):
        words = {
            name: own[name] if generator.random() < _TRUE else words[generator.integers(len(words))]
            for name, words in _WORDS.items()
        }
        found = datetime.date(2020 + int(generator.integers(5)), 1, 1) + datetime.timedelta(
            int(day + generator.normal(0, 20))
        )
        plant: dict[str, Any] = {
            **{name: round(float(length), 2) for name, length in zip(_LENGTHS, lengths[row], strict=True)},
            "petals": petals + int(generator.random() < 0.1),
            **words,
            "altitude": round(float(np.exp(generator.normal(altitude, 0.5)))),
            "found": found.isoformat(),
            "collector": _COLLECTORS[generator.integers(len(_COLLECTORS))],
        }
        plants.append({name: None if generator.random() < _MISSING else cell for name, cell in plant.items()})
    return plants
