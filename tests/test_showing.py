"""What a network is fed with, on a sheet: of each stage, of episodes, of words; no stretch of what is in range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from quickstudy import ConfigError
from quickstudy.batches import Batch
from quickstudy.image import ImageClassificationData, ImageClassifier, ImageEmbedder, ImageEmbeddingData, Picture
from quickstudy.modality.sheets import Section, shown_of
from quickstudy.text import TextClassificationData
from quickstudy.training import showing


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Section]:
    """The sections of the sheets that are drawn."""
    seen: list[Section] = []
    draw = showing.sheet_of
    monkeypatch.setattr(showing, "sheet_of", lambda sections: (seen.extend(sections), draw(sections))[1])
    return seen


def pictures() -> tuple[torch.Tensor, list[str]]:
    images = torch.zeros(24, 3, 8, 8, dtype=torch.uint8)
    images[:, 0] = 10 * torch.arange(24).view(-1, 1, 1)  # a picture says which it is
    return images, [f"class {n % 4}" for n in range(24)]


def test_a_batch_is_shown_transformed_with_its_labels(tmp_path: Path, drawn: list[Section]) -> None:
    images, labels = pictures()
    data = ImageClassificationData.from_tensors(images, labels, batch_size=8, transform=lambda image: 255 - image)
    sheet = data.show_batch(path=tmp_path / "batch.png", most=5)
    with Image.open(tmp_path / "batch.png") as kept:
        assert kept.size == sheet.size
    assert len(drawn) == 1 and len(drawn[0].cells) == 5 and "5 of a batch of 8 (uint8 [3, 8, 8])" in drawn[0].title
    for content, label in drawn[0].cells:
        row = round((255 - np.asarray(content)[0, 0, 0]) / 10)
        assert label == labels[row] and np.asarray(content)[0, 0, 1] == 255
    mixing = ImageClassifier(4, backbone="conv4", mix="mixup")
    data.show_batch("train", mixing)
    assert all("%" in label for _, label in drawn[1].cells)
    with pytest.raises(ConfigError, match="stage"):
        data.show_batch("tran")  # type: ignore[arg-type]


def test_an_episode_is_shown_with_support_and_query_apart(drawn: list[Section]) -> None:
    images, labels = pictures()
    plan = {"ways": 2, "shots": 1, "queries": 3, "meta_batch_size": 2}
    model = ImageClassifier(backbone=nn.Flatten(), training_strategy="nearest_centroid", training_strategy_kwargs=plan)
    ImageClassificationData.from_tensors(images, labels).show_batch("train", model)
    support, query = drawn
    assert "to learn from" in support.title and len(support.cells) == 2 and len(query.cells) == 6
    for content, label in [*support.cells, *query.cells]:
        assert label == labels[round(np.asarray(content)[0, 0, 0] / 10)]
    drawn.clear()
    embedder = ImageEmbedder(backbone="conv4", backbone_kwargs={"hidden": 4}, training_strategy="simclr")
    ImageEmbeddingData.from_tensors(images, batch_size=4).show_batch("train", embedder)
    assert ["1 of 2" in section.title for section in drawn[1:]] == [True, False]


def test_words_are_a_table_and_floats_keep_their_brightness(drawn: list[Section]) -> None:
    texts = TextClassificationData.from_lists(train_texts=["where is it", "thanks"], train_targets=["a", "b"])
    texts.show_batch()
    assert {(str(content).strip(), label) for content, label in drawn[0].cells} == {
        ("where is it", "a"),
        ("thanks", "b"),
    }
    half: Batch = torch.full((1, 4, 4), 0.5)
    assert {int(level) for level in np.asarray(shown_of(Picture(), half)).ravel()} <= {127, 128}
    far: Batch = torch.linspace(-2, 2, 16).view(1, 4, 4)
    levels = np.asarray(shown_of(Picture(), far))
    assert levels.min() == 0 and levels.max() == 255
    assert shown_of(Picture(), torch.zeros(5)) == "torch.float32 of shape (5,)"
