"""A learning rate that is found is the one that trains, and the search leaves no other trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quickstudy import ConfigError, Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.runs.learning_rates import steepest

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
EPISODES = {"ways": 2, "shots": 2, "queries": 2, "meta_batch_size": 1, "epoch_length": 4, "test_epoch_length": 4}


def data() -> ImageClassificationData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 1, 1, 8, generator=generator).repeat_interleave(10, 0)
    images = images + torch.randn(images.shape, generator=generator)
    labels = [f"c{n // 10}" for n in range(60)]
    return ImageClassificationData.from_tensors(images[::2], labels[::2], images[1::2], labels[1::2], batch_size=8)


def made(strategy: str, **options: Any) -> ImageClassifier:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.1))
    kwargs = None if strategy == "default" else EPISODES
    return ImageClassifier(backbone=backbone, training_strategy=strategy, training_strategy_kwargs=kwargs, **options)


@pytest.mark.parametrize("strategy", ["default", "prototypicalnetworks"])
def test_training_is_as_if_the_rate_had_been_given(strategy: str, tmp_path: Path) -> None:
    train = data().with_tables({"val": None}) if strategy != "default" else data()
    schedule: Any = ("CosineAnnealingLR", {"T_max": 4})
    model = made(strategy, lr_scheduler=schedule)
    torch.manual_seed(1)
    trainer = Trainer(max_epochs=2, find_learning_rate=True, default_root_dir=tmp_path, **QUIET)
    trainer.finetune(model, train)
    rate = model.learning_rate
    assert rate is not None and 1e-7 < rate < 1 and trainer.run_folder is not None
    assert json.loads((trainer.run_folder / "run.json").read_text())["model"]["learning_rate"] == rate
    assert type(model).load_from_checkpoint(trainer.run_folder / "last.ckpt", backbone=model.encoder.backbone)
    plain = made(strategy, lr_scheduler=schedule, learning_rate=rate)
    torch.manual_seed(1)
    other = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, **QUIET)
    other.finetune(plain, train.with_tables({}))
    assert trainer.global_step == other.global_step
    for (name, found), given in zip(model.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(found, given), name
    assert not list(tmp_path.glob(".lr_find*"))


def test_what_cannot_be_found_is_told() -> None:
    with pytest.raises(ConfigError, match="has already"):
        Trainer(max_epochs=1, find_learning_rate=True, logger=False, enable_checkpointing=False, **QUIET).fit(
            made("default", optimizer=("SGD", {"lr": 0.1})), datamodule=data()
        )
    rates = np.geomspace(1e-7, 1, 100).tolist()
    assert steepest(rates, rates) is None and steepest(rates[:5], rates[:5]) is None
    noise = (2 + 1e-4 * np.random.default_rng(0).normal(size=100) - np.linspace(0, 1, 100) ** 4).tolist()
    found = steepest(rates, [*noise[:-5], *[float("nan")] * 5])
    assert found is not None and found > 1e-2


def test_the_command_keeps_the_rate_in_its_config(tmp_path: Path) -> None:
    from quickstudy.cli import main

    rows = [f"{n % 3 + 0.01 * n},{'abc'[n % 3]}" for n in range(36)]
    (tmp_path / "rows.csv").write_text("\n".join(["x,y", *rows]))
    words = ["fit", "--task", "tabular_classification", "--data.train_file", str(tmp_path / "rows.csv")]
    words += ["--data.target_fields", "y", "--trainer.find_learning_rate", "true", "--trainer.max_epochs", "1"]
    words += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    rate = json.loads((tmp_path / "run" / "run.json").read_text())["model"]["learning_rate"]
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert f"learning_rate: {rate!r}" in config and "find_learning_rate: false" in config
