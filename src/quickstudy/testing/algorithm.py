"""The conformance suite of a few-shot algorithm: what must hold for training, evaluation and use to be right.

from quickstudy.testing import check_algorithm
check_algorithm("prototypicalnetworks")
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.functional.intervals import mean_interval
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.nets import Encoder
from quickstudy.testing.answers import ANSWERS, FOLDED
from quickstudy.testing.demands import demand
from quickstudy.testing.made_up import WAYS, small_encoder, small_episodes
from quickstudy.testing.training import TRAINING
from quickstudy.trainer import Trainer

_CHARACTERS = {"ways": 5, "shots": 1, "queries": 5, "meta_batch_size": 4, "epoch_length": 240, "test_epoch_length": 80}
_HARDER = {"test_ways": 20}
"""Where ways may differ: with few, what is good untrained has little to gain."""


def check_algorithm(
    name: str | type[Algorithm], options: Mapping[str, Any] | None = None, *, learns: bool = False
) -> None:
    """Check an algorithm against the contract, in float64 and on made-up images; it takes seconds.

    Args:
        name: what it is registered as, or the class.
        options: its keyword arguments.
        learns: whether to train it too, on characters of Glyphs, which takes up to a minute; it must be registered.

    Raises:
        NonconformingError: a check failed.
    """
    kind = STRATEGIES[name] if isinstance(name, str) else name
    paper = getattr(kind, "paper", "")
    demand("http" in paper, "paper names authors, year, title and link", paper)

    def make(norm: bool, seed: int = 0, fold: bool = False) -> tuple[Algorithm, Encoder]:
        encoder = small_encoder(norm, fold)
        torch.manual_seed(seed)
        algorithm = kind(**(options or {})).train()
        algorithm.meet(encoder, encoder.feature_shape(small_episodes().support[0, :1]), WAYS)
        return algorithm.double(), encoder.train()

    for check in (*TRAINING, *ANSWERS):
        check(make)
    for check in FOLDED:
        check(partial(make, fold=True))
    if learns:
        _learns_characters(str(name), options or {})


def _learns_characters(name: str, options: Mapping[str, Any]) -> None:
    torch.manual_seed(0)
    data = ImageClassificationData.from_benchmark("glyphs")
    model = ImageClassifier(
        backbone="conv4",
        backbone_kwargs={"in_channels": 1, "hidden": 32},
        learning_rate=3e-3,
        training_strategy=name,
        training_strategy_kwargs={
            **_CHARACTERS,
            **({} if STRATEGIES[name](**options).fixed_ways else _HARDER),
            **options,
        },
    )
    parts = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet: dict[str, Any] = dict.fromkeys(parts, False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, limit_val_batches=0, **quiet)
    model.meet(data, "fit")
    before = _accuracies(model, data)
    trainer.fit(model, datamodule=data)
    gain, doubt = mean_interval(_accuracies(model, data) - before)  # of the same episodes, so they differ by this alone
    demand(gain > doubt, "it learns characters", f"{gain:.3f} better than untrained, where chance makes {doubt:.3f}")


def _accuracies(model: ImageClassifier, data: ImageClassificationData) -> Tensor:
    """Return those of test episodes, in evaluation mode."""
    assert model.plan is not None and model.algorithm is not None
    ways, found = model.plan.shape("test")[0], []
    model.eval()
    with torch.no_grad():
        for episode in data.episode_loader("test", model.plan):
            _, logits_TQW = model.algorithm.judge(model.encoder, episode, ways, model.algorithm.loss)
            found.append((logits_TQW.argmax(-1) == episode.query_targets).double().mean(1))
    model.train()
    return torch.cat(found)
