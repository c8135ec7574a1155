"""Examples that are drawn several times are answered by the mean of the probabilities, and only where that is asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from quickstudy import ConfigError, Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier, ImageRegressionData, ImageRegressor
from quickstudy.text import TextClassificationData, TextClassifier

NOTHING: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "logger": False,
    "enable_checkpointing": False,
}


def noisy(example: Any) -> Any:
    return example + 0.5 * torch.randn(example.shape)


def test_the_answer_is_the_mean_of_the_probabilities() -> None:
    images = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = [f"c{n % 3}" for n in range(10)]
    stages: dict[str, Any] = {"test_data": images, "test_targets": labels, "predict_data": images, "batch_size": 4}
    mirrored: dict[str, Any] = {"test_time_augmentation": "mirror", "test_time_draws": 1}
    model = ImageClassifier(3, backbone=nn.Flatten(), head=nn.Linear(192, 3))
    for multi_label, chances in ((False, lambda logits: logits.softmax(-1)), (True, torch.sigmoid)):
        told: Any = [[label] for label in labels] if multi_label else labels
        model = ImageClassifier(3, backbone=nn.Flatten(), head=model.head, multi_label=multi_label)
        data = ImageClassificationData.from_tensors(**{**stages, "test_targets": told}, **mirrored)
        trainer = Trainer(**NOTHING)
        (figures,) = trainer.test(model, data, verbose=False)
        found = trainer.predict(model, datamodule=data, output="probabilities")
        with torch.no_grad():
            each = torch.stack([chances(model(images)), chances(model(images.flip(-1)))])
        torch.testing.assert_close(found, each.mean(0))
        if not multi_label:
            right = each.mean(0).argmax(-1) == torch.arange(10) % 3
            assert figures["test_accuracy"] == pytest.approx(float(right.double().mean()))
            plain = trainer.predict(model, datamodule=ImageClassificationData.from_tensors(**stages), output="logits")
            torch.testing.assert_close(plain.softmax(-1), each[0])


def test_draws_are_the_same_each_time_and_none_changes_its_neighbours() -> None:
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    model = ImageRegressor(backbone=nn.Flatten(), head=nn.Linear(16, 1))
    data = [
        ImageRegressionData.from_tensors(
            predict_data=images, batch_size=3, test_time_augmentation=noisy, test_time_draws=5
        )
        for _ in range(2)
    ]
    first, second = (Trainer(**NOTHING).predict(model, datamodule=each) for each in data)
    plain = Trainer(**NOTHING).predict(model, datamodule=data[0].with_tables({}, test_time_augmentation=None))
    assert first == second and first != plain and first == pytest.approx(plain, abs=2)


def test_texts_of_any_length_are_drawn_too_and_episodes_are_not() -> None:
    texts, labels = [f"where is {what} {'now ' * n}" for n in range(4) for what in ("card", "cash")], list("ab" * 4)
    stages: dict[str, Any] = {"train_texts": texts, "train_targets": labels, "predict_texts": texts}
    kwargs = {"width": 16, "layers": 1, "heads": 2}
    model = TextClassifier(backbone="small_transformer", backbone_kwargs=kwargs, pretrained=False)
    trainer = Trainer(max_epochs=0, **NOTHING)
    data = TextClassificationData.from_lists(**stages, test_time_augmentation="dropout", test_time_draws=2)
    trainer.fit(model, datamodule=data)
    drawn = trainer.predict(model, datamodule=data, output="logits")  # of what stays as it is
    plain = trainer.predict(model, datamodule=TextClassificationData.from_lists(**stages), output="probabilities")
    torch.testing.assert_close(drawn.softmax(-1), plain)
    images = torch.rand(12, 1, 4, 4)
    few_shot = ImageClassifier(backbone=nn.Flatten(), training_strategy="nearest_centroid")
    episodes = ImageClassificationData.from_tensors(
        test_data=images, test_targets=list("abcd" * 3), test_time_augmentation="mirror"
    )
    with pytest.raises(ConfigError, match="is of ordinary training"):
        Trainer(**NOTHING).test(few_shot, episodes)
