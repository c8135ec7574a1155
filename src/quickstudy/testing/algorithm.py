"""The conformance suite of a few-shot algorithm: what must hold for training, evaluation and use to be right.

from quickstudy.testing import check_algorithm
check_algorithm("prototypicalnetworks")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.batches import take
from quickstudy.functional.intervals import mean_interval
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.nets import Encoder
from quickstudy.testing import answers, training
from quickstudy.testing.demands import demand, quiet_trainer
from quickstudy.testing.made_up import WAYS, Form, small_encoder, small_episodes

_CHARACTERS = {"ways": 5, "shots": 1, "queries": 5, "meta_batch_size": 4, "epoch_length": 240, "test_epoch_length": 80}
_HARDER = {"test_ways": 20}
"""Where ways may differ: with few, what is good untrained has little to gain."""


def check_algorithm(
    name: str | type[Algorithm], options: Mapping[str, Any] | None = None, *, learns: bool = False
) -> None:
    """Check an algorithm against the contract, in float64 and on made-up images, texts and graphs; it takes seconds.

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

    for check in (*training.TRAINING, *answers.ANSWERS):
        check(_Make(kind, options))
    for check in answers.FOLDED:
        check(_Make(kind, options, fold=True))
    for check in (*training.CROSSED, *answers.CROSSED):
        for form in ("tokens", "graphs"):
            check(_Make(kind, options, form))
    if learns:
        _learns_characters(str(name), options or {})


@dataclass(frozen=True)
class _Make:
    kind: type[Algorithm]
    options: Mapping[str, Any] | None
    form: Form = "pictures"
    fold: bool = False

    def __call__(self, norm: bool, seed: int = 0) -> tuple[Algorithm, Encoder]:
        encoder = small_encoder(norm, self.fold, self.form)
        torch.manual_seed(seed)
        algorithm = self.kind(**(self.options or {})).train()
        example = take(small_episodes(form=self.form).support, (0, slice(1)))
        algorithm.meet(encoder, encoder.feature_shape(example), WAYS)
        return algorithm.double(), encoder.train()


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
    trainer = quiet_trainer(max_epochs=1, limit_val_batches=0, enable_checkpointing=False)
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
