"""Entities, answers to questions and speech so small that a step takes milliseconds; none is as long as the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from quickstudy import DataModule
from quickstudy.audio import SpeechRecognition, SpeechRecognitionData
from quickstudy.audio.nets import SmallSpeech
from quickstudy.text import (
    QuestionAnswering,
    QuestionAnsweringData,
    SmallTransformer,
    TokenClassificationData,
    TokenClassifier,
)
from quickstudy.training.task import Task

FORMS = ("entities", "questions", "speech")
PEOPLE, PLACES = ["Anna", "Bruno", "Ana-Maria"], ["Rome", "New York", "Oslo", "Lima"]
RATE = 4000


def data(form: str, count: int, batch_size: int, **options: Any) -> DataModule:
    """Return so many examples to train on, and the first 13 of them to test by; some have no target."""
    inputs, targets = list[Any](), list[Any]()
    noise = np.random.default_rng(0)
    for number in range(count):
        who, where = PEOPLE[number % 3], PLACES[number // 3 % 4]
        text = f"Today {'so ' * (number % 5)}{who} went to {where}."
        places = [(text.index(name), text.index(name) + len(name), label) for name, label in ((who, "A"), (where, "B"))]
        if form == "entities":
            inputs.append(text)
            targets.append(places[number % 3 :])
        elif form == "questions":
            inputs.append({"question": "where?", "context": text * (1 + number % 3)})
            targets.append([where][number % 4 == 0 :])
        else:
            inputs.append(noise.standard_normal(RATE // 3 + 97 * (number % 5)))
            targets.append("abc"[number % 3] * (number % 4))
    if form == "speech":
        return SpeechRecognitionData.from_arrays(
            sampling_rate=RATE,
            train_arrays=inputs,
            train_targets=targets,
            test_arrays=inputs[:13],
            test_targets=targets[:13],
            batch_size=batch_size,
            sample_rate=RATE,
            **options,
        )
    given = {
        "test_targets": targets[:13],
        "batch_size": batch_size,
        "max_length": 24,
        "vocabulary_size": 300,
        **options,
    }
    if form == "entities":
        return TokenClassificationData.from_lists(
            train_texts=inputs, train_targets=targets, test_texts=inputs[:13], **given
        )
    given["test_answers"] = given.pop("test_targets")
    return QuestionAnsweringData.from_lists(
        train_questions=inputs, train_answers=targets, test_questions=inputs[:13], **given
    )


def task(form: str, dropout: float = 0.0, **options: Any) -> Task:
    """Return who learns them."""
    size: dict[str, Any] = {"width": 8, "layers": 1, "heads": 2, "dropout": dropout}
    if form == "speech":
        return SpeechRecognition(backbone=SmallSpeech(RATE, bands=8, **size), **options)
    backbone = SmallTransformer(300, **size)
    with torch.no_grad():
        backbone.norm.bias.fill_(0.5)  # which moves both ends of all answers: its gradient is rounding alone
    kind = TokenClassifier if form == "entities" else QuestionAnswering
    return kind(backbone=backbone, **options)
