"""Every strategy learns in every precision, and solves its inner problems in float32 or better."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quickstudy import Trainer
from quickstudy.algorithms import available_strategies
from quickstudy.image import ImageClassificationData, ImageClassifier

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
PLAN = {"ways": 3, "shots": 2, "queries": 3, "meta_batch_size": 2, "epoch_length": 40, "test_epoch_length": 20}
MOVING = 0.6
"""How far the classes' own direction reaches; what else differs between examples reaches further."""


def data(few_shot: bool) -> ImageClassificationData:
    """Vectors whose classes differ in 3 of 12 numbers; the others, and they are larger, tell nothing."""
    given: dict[str, Any] = {}
    for stage in ("train", "val"):
        generator = torch.Generator().manual_seed(0 if stage == "train" or not few_shot else 1)
        centres = torch.cat([2 * torch.randn(12, 3, generator=generator), torch.zeros(12, 9)], 1)
        noise = torch.Generator().manual_seed(2 if stage == "train" else 3)
        examples = centres.repeat_interleave(10, 0) + MOVING * torch.randn(120, 12, generator=noise)
        examples[:, 3:] *= 5
        given[f"{stage}_data"] = examples[:, None, None]
        first = 0 if stage == "train" or not few_shot else 12
        given[f"{stage}_targets"] = [f"class {first + code}" for code in range(12) for _ in range(10)]
    return ImageClassificationData.from_tensors(batch_size=12, **given)


@pytest.mark.parametrize(
    "precision", ["bf16-mixed", *(pytest.param(other, marks=pytest.mark.slow) for other in ("32-true", "64-true"))]
)
@pytest.mark.parametrize("strategy", available_strategies())
def test_the_loss_falls(strategy: str, precision: str) -> None:
    torch.manual_seed(0)
    few_shot = strategy != "default"
    model = ImageClassifier(
        backbone=nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8)),
        learning_rate=0.01,
        training_strategy=strategy,
        training_strategy_kwargs=PLAN if few_shot else None,
    )
    given = data(few_shot)
    inner: set[torch.dtype] = set()
    if model.algorithm is not None:
        plain_loss = model.loss_fn

        def watched(logits: Tensor, targets: Tensor) -> Tensor:
            inner.add(logits.dtype)
            return plain_loss(logits, targets)

        model.loss_fn = watched
    trainer = Trainer(max_epochs=2, precision=precision, **QUIET)  # type: ignore[arg-type]
    (before,) = trainer.validate(model, given, verbose=False)
    trainer.fit(model, given)
    (after,) = trainer.validate(model, given, verbose=False)
    assert after["val_loss"] < before["val_loss"]
    full = torch.float64 if precision == "64-true" else torch.float32
    assert {weight.dtype for weight in model.parameters()} == {full}
    assert inner == ({full} if few_shot else set())
