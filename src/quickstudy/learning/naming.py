"""The names of classes, as examples of them: where inputs are words, or an encoder of pictures has a side of words.

Shapes: n names, P prompts, D features.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch

from quickstudy.algorithms.base import EmbeddingAlgorithm, NamingAlgorithm
from quickstudy.data.targets import Label
from quickstudy.errors import ConfigError, brief
from quickstudy.functional.distances import unit
from quickstudy.learning.changes import Kept
from quickstudy.learning.knowledge import Knowledge
from quickstudy.learning.reading import Reader, telling
from quickstudy.modality import Modality, modality_of
from quickstudy.nets.two_towers import TwoTowers

_NUMBERED = re.compile(r"^(?:\d+[.)][\s_-]*|0\d*[\s_-]+)(?=\D)")
_NO_WORD = re.compile(r"n\d{8}|(?:class|label|category|group|cluster|id|c|s)?[\s_-]*\d*", re.IGNORECASE)


def spoken(name: str) -> str:
    """Return the words in a name, as folders are called: without their numbers, and with blanks.

    >>> spoken("001.Black_footed_Albatross"), spoken("02_oak"), spoken("5_star")
    ('Black footed Albatross', 'oak', '5 star')
    """
    return " ".join(_NUMBERED.sub("", name).replace("_", " ").split()) or name


def is_word(name: Label) -> bool:
    """Whether the name of a class tells what it is: not an id of WordNet, nor a number.

    >>> [is_word(name) for name in ("oak", "n01532829", "class 7", 3)]
    [True, False, False, False]
    """
    return isinstance(name, str) and not _NO_WORD.fullmatch(name)


def reads_names(knowledge: Knowledge) -> bool:
    """Whether the name of a class tells of it: inputs are words, or the encoder has a side of them."""
    return knowledge.modality.in_words or knowledge.encoder.reads_words is not None


def learns_names(knowledge: Knowledge) -> bool:
    """Whether a class can be learned by its name alone: as an example, or beside others that are known by theirs."""
    if knowledge.modality.in_words or knowledge.encoder.reads_words is None:
        return knowledge.modality.in_words
    named = all(all(kept.named) and kept.named for kept in knowledge.support.values())
    return isinstance(knowledge.algorithm, NamingAlgorithm if not named else EmbeddingAlgorithm)


def in_words(modality: Modality, name: Label) -> str:
    """Return a class's name as an example of it: of ``"card_lost"`` the text "card lost".

    Raises:
        ConfigError: it is no example, as inputs are no words, or the name is none.
    """
    if not modality.in_words or not isinstance(name, str):
        why = f"alone tells nothing of {modality.called}" if isinstance(name, str) else "is no word"
        raise ConfigError(
            f"the name {brief(name)} {why}: show 1..n examples of the class, or take a backbone with a side of words, "
            "where there is one"
        )
    return spoken(name)


@torch.inference_mode()
def seen_in_words(knowledge: Knowledge, names: Sequence[Label]) -> Kept:
    """Return what an encoder with a side of words makes of names: of each the mean over its prompts, of length 1.

    Raises:
        ConfigError: a name is no word, or the strategy learns with the inputs themselves.
    """
    encoder, algorithm, backbone = knowledge.encoder, knowledge.algorithm, knowledge.encoder.backbone
    assert encoder.reads_words is not None and isinstance(backbone, TwoTowers)
    for name in names:
        if not is_word(name):
            raise ConfigError(
                f"the name {brief(name)} says in no words what the class is: rename it, or show 1..n examples, and no "
                "names (classes=)"
            )
    if not isinstance(algorithm, EmbeddingAlgorithm):
        raise ConfigError(
            f"{type(algorithm).__name__} learns from {knowledge.modality.called} themselves, and names are none: take "
            "strategy='tip_adapter'"
        )
    prompts = [prompt for name in names for prompt in backbone.prompted(spoken(str(name)))]
    reader = Reader(encoder, modality_of(encoder.reads_words, "a backbone"))
    with telling(lambda count: None):  # of which nobody has heard
        values = algorithm.keep(encoder, reader.parts(prompts))
    values_nD = unit(values.view(len(names), len(backbone.class_prompts), -1).mean(1))
    return Kept(values_nD, (b"",) * len(names), named=(True,) * len(names))


def met(knowledge: Knowledge, kept: Kept, ways: int) -> Knowledge:
    """Return it with an algorithm that has met the features of the encoder, of which names alone were shown."""
    if not knowledge.algorithm.feature_shape:
        knowledge.algorithm.meet(knowledge.encoder, tuple(kept.values.shape[1:]), ways)
    return replace(knowledge, taught=knowledge.taught or "uint8")
