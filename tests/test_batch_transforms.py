"""Transforms of training batches on the device: what passes, what they draw, kornia's own."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quickstudy import Classifier, ConfigError, DataModule, DataWarning, Trainer
from quickstudy.data.on_device import transformed
from quickstudy.episode import Episode


class Noise(nn.Module):
    """Adds noise, and counts the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(0.5))
        self.batches: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.batches.append(len(inputs))
        return inputs + self.scale * torch.randn_like(inputs)


def test_batches_episodes_and_views_pass_as_examples_side_by_side() -> None:
    values, codes, double = torch.arange(24.0).view(6, 4), torch.arange(6), lambda inputs: 2 * inputs
    assert all(map(torch.equal, transformed(double, (values, codes)), (2 * values, codes)))
    episode = Episode(
        values.view(2, 3, 4)[:, :1], codes.view(2, 3)[:, :1], values.view(2, 3, 4)[:, 1:], codes[:4].view(2, 2)
    )
    noise = Noise()
    found = transformed(noise, episode)
    assert noise.batches == [6] and found.support.shape == (2, 1, 4) and found.query.shape == (2, 2, 4)
    doubled = transformed(double, episode)
    assert doubled.support.equal(2 * episode.support) and doubled.query.equal(2 * episode.query)
    views = transformed(double, {"views": values.view(2, 3, 4), "input": values})
    assert views["views"].equal(2 * values.view(2, 3, 4)) and views["input"] is values


def test_uint8_is_seen_as_floats_of_0_to_1_and_comes_back_as_uint8() -> None:
    pictures = torch.randint(256, (4, 3, 5, 5), dtype=torch.uint8)
    same, target = transformed(lambda inputs: inputs, (pictures, torch.zeros(4)))
    assert same.equal(pictures) and target.equal(torch.zeros(4))
    assert transformed(lambda inputs: inputs + 2, (pictures, 0))[0].eq(255).all()


def test_what_is_drawn_follows_from_the_seed_and_leaves_no_trace() -> None:
    values = torch.zeros(6, 4)

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found: Tensor = transformed(Noise(), (values, 0))[0]
        assert torch.get_rng_state().equal(before)
        return found

    assert drawn(1).equal(drawn(1)) and not drawn(1).equal(drawn(2))


@pytest.mark.parametrize(
    "wrong, told", [(lambda inputs: inputs[:2], "a tensor of 2"), (lambda inputs: None, "NoneType")]
)
def test_what_returns_other_than_as_many_is_told(wrong: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=f"given 3 examples and returned {told}"):
        transformed(wrong, (torch.zeros(3, 2), 0))


def test_what_cannot_be_one_is_told() -> None:
    with pytest.raises(ConfigError, match="batch_transform='flip' is no module"):
        DataModule.from_tensors(torch.zeros(3, 2), [0, 1, 1], batch_transform="flip")
    with pytest.raises(ConfigError, match="these are dicts"):
        transformed(Noise(), ({"ids": torch.zeros(3, 2)}, 0))


def test_training_alone_is_transformed_and_a_resumed_run_draws_the_same(tmp_path: Path) -> None:
    values, others, codes = torch.randn(12, 4), torch.randn(12, 4), torch.arange(12) % 2

    def fit(epochs: int, place: str, transform: Any) -> Tensor:
        torch.manual_seed(0)
        data = DataModule.from_tensors(values, codes, others, codes, batch_size=4, batch_transform=transform)
        model = Classifier(backbone=nn.Flatten())
        root = tmp_path / place
        trainer = Trainer(max_epochs=epochs, default_root_dir=root, resume="auto", logger=False, accelerator="cpu")
        trainer.fit(model, datamodule=data)
        weights: Tensor = model.state_dict()["head.weight"].clone()
        return weights

    noise = Noise()
    whole = fit(2, "whole", noise)
    assert noise.batches == [4] * 6
    fit(1, "parts", Noise())
    assert fit(2, "parts", Noise()).equal(whole)
    assert not fit(2, "none", None).equal(whole)
    fit(1, "other", Noise())
    with pytest.warns(DataWarning, match="began with batch_transform=Noise.* and goes on with batch_transform=None"):
        fit(2, "other", None)


def test_kornias_augmentations_serve() -> None:
    kornia: Any = import_module("kornia.augmentation")
    turned = kornia.AugmentationSequential(kornia.RandomHorizontalFlip(p=1.0), kornia.RandomErasing(p=0.5))
    pictures = torch.randint(1, 256, (8, 3, 16, 16), dtype=torch.uint8)

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        found: Tensor = transformed(turned, (pictures, 0))[0]
        return found

    one = drawn(0)
    kept = one > 0  # what was not erased
    assert one[kept].equal(pictures.flip(-1)[kept]) and 0.5 < kept.float().mean() < 1
    assert one.equal(drawn(0)) and not one.equal(drawn(1))
