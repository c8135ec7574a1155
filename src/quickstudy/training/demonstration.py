"""What ``quickstudy demo`` shows of a domain, which says so itself, in the module ``demo`` of its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Classifier


@dataclass(frozen=True)
class Act:
    """What is shown of a domain.

    Args:
        dataset: name of the data set, which needs no download.
        about: what it is, in a sentence.
        classes, examples: what they are called.
        unseen: what training never saw of the classes tested on.
        data, task: the domain's classes.
        backbone, options: of the network that is trained.
        network: what it is, in words.
        plan: of training episodes.
        rate: the learning rate.
        epochs: of 100 episodes.
        plain: what the trivial baseline compares, in words.
        baseline: makes it, or names it: a network without weights.
        five: returns the codes of five classes of the test table to be learned in use.
        label: of a class by its name.
        asked: examples of each class to be told in use.
    """

    dataset: str
    about: str
    classes: str
    examples: str
    unseen: str
    data: type[DataModule]
    task: type[Classifier]
    backbone: str
    options: Mapping[str, Any]
    network: str
    plan: Mapping[str, Any]
    rate: float
    epochs: int
    plain: str
    baseline: Callable[[], nn.Module | str]
    five: Callable[[Sequence[str]], list[int]] = lambda names: [len(names) * part // 10 for part in range(1, 10, 2)]
    label: Callable[[str], str] = str
    asked: int = 8
