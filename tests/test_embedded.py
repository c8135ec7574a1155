"""What is done with embeddings: files, the nearest of each, a picture of all; and embedders of trained models."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from quickstudy import embedded
from quickstudy.cli import main
from quickstudy.embedded import Embedded, nearest, picture, read, write
from quickstudy.errors import ConfigError, DataError
from quickstudy.functional import neighbours
from quickstudy.image import ImageClassifier, ImageEmbedder
from quickstudy.nets.layers import AtLayer
from quickstudy.text import TextClassifier
from quickstudy.trained import TrainedModel

SMALL: dict[str, Any] = {"backbone": "conv4", "backbone_kwargs": {"hidden": 4}}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_nearest_are_those_of_all_pairs(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_COMPARED", 7)
    monkeypatch.setattr(neighbours, "_ROWS", 3)
    numbers = np.random.default_rng(0)
    queries, features = numbers.normal(size=(10, 4)), numbers.normal(size=(30, 4))
    if metric == "cosine":
        all_pairs = np.stack([features @ query for query in queries]) / np.linalg.norm(features, axis=1)
        all_pairs, order = all_pairs / np.linalg.norm(queries, axis=1)[:, None], -1
    else:
        all_pairs, order = np.linalg.norm(features - queries[:, None], axis=2), 1
    rows, near = nearest(queries, features, 12, metric)
    expected = np.argsort(order * all_pairs, axis=1)[:, :12]
    assert np.array_equal(rows, expected)
    assert np.allclose(near, np.take_along_axis(all_pairs, expected, 1), atol=1e-5)
    assert nearest(queries[:0], features, 2)[0].shape == (0, 2) and nearest(queries, features, 99)[0].shape == (10, 30)
    with pytest.raises(ConfigError, match="by one model"):
        nearest(queries[:, :2], features, 1)


@pytest.mark.parametrize("name", ["x.parquet", "x.npz"])
@pytest.mark.parametrize("labels", [None, ["a", "b", "a", "c", "c"]])
def test_files_hold_what_was_written(
    name: str, labels: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_ROWS", 2)
    features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    write(tmp_path / name, Embedded(["é", "two", "", "4", "5"], features, labels))
    names, found, told = read(tmp_path / name)
    assert names == ["é", "two", "", "4", "5"] and told == labels and np.array_equal(found, features)
    (tmp_path / name).write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="holds no embeddings"):
        read(tmp_path / name)
    with pytest.raises(DataError, match="there is no file of embeddings"):
        read(tmp_path / f"other-{name}")
    with pytest.raises(ConfigError, match=r"name it x.parquet"):
        write(tmp_path / "x.csv", Embedded(names, features))


def test_a_picture_is_drawn_of_all_or_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "MOST", 24)
    features = np.random.default_rng(0).normal(size=(30, 3)) + 9 * np.eye(3)[np.arange(30) % 3]
    for labels in (None, [f"class {row % 3}" for row in range(30)], [str(row) for row in range(30)]):
        drawn = np.asarray(Image.open(io.BytesIO(picture(features, labels))).convert("RGB"), np.int16)
        assert (np.ptp(drawn, axis=2) > 60).sum() > 200, "there are coloured points"
    points = embedded.flattened(features[:24])
    apart = np.linalg.norm(points - points[:, None], axis=2)
    same = np.arange(24) % 3 == (np.arange(24) % 3)[:, None]
    assert apart[same].mean() < apart[~same].mean()
    with pytest.raises(DataError, match="at least 5"):
        picture(features[:4])


# ---- embedders of trained models


def test_a_classifier_becomes_an_embedder_by_its_last_or_another_layer(tmp_path: Path) -> None:
    model = ImageClassifier(num_classes=2, **SMALL)
    pictures = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8)
    last = model.as_embedder()
    expected = model.eval().encoder(pictures).detach().numpy()
    assert np.array_equal(last.embed(pictures), expected)
    assert np.array_equal(last.predict(pictures).numpy(), expected)
    name = [name for name, part in model.encoder.backbone.named_modules() if isinstance(part, nn.BatchNorm2d)][1]
    inner = model.as_embedder(name)
    inner.save(tmp_path)
    made: list[Any] = []
    model.encoder.backbone.get_submodule(name).register_forward_hook(lambda *args: made.append(args[-1]))
    model.encoder(pictures)
    expected = made[0].mean((2, 3)).detach().numpy()
    assert np.allclose(inner.embed(pictures), expected, atol=1e-6)
    nn.init.zeros_(next(model.encoder.parameters()))
    assert np.array_equal(TrainedModel.load(tmp_path).embed(pictures), inner.embed(pictures)), "it is a copy"
    again = ImageEmbedder(backbone="conv4", backbone_kwargs={"hidden": 4, "layer": name})
    assert again.encoder(pictures).shape == (3, 4)
    with pytest.raises(ConfigError, match="no layer 'blok'"):
        model.as_embedder("blok")


def test_a_layer_of_texts_heeds_what_fills_them_up() -> None:
    model = TextClassifier(num_classes=2, backbone="small_transformer").double()
    layer = next(name for name, part in model.encoder.backbone.named_modules() if isinstance(part, nn.LayerNorm))
    embedder = model.as_embedder(layer)
    short, long = "a cat", "a dog that has seen many other dogs"
    alone, together = embedder.embed([short], keep=False), embedder.embed([long, short], keep=False)
    assert np.allclose(alone[0], together[1], atol=1e-10, rtol=0) and alone.dtype == np.float64
    table = next(name for name, part in model.encoder.backbone.named_modules() if isinstance(part, nn.Linear))
    assert np.isfinite(model.as_embedder(table).embed([short], keep=False)).all()


def test_axes_of_tokens_and_of_channels_that_come_last() -> None:
    class Network(nn.Module):
        def __init__(self, made: torch.Tensor, output_fmt: str = "") -> None:
            super().__init__()
            self.layer, self.made, self.output_fmt = nn.Identity(), made, output_fmt

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layer((self.made,))[0]

    pictures, made = torch.zeros(2, 3, 8, 8), torch.rand(2, 4, 5, 6)
    assert torch.allclose(AtLayer(Network(made), "layer")(pictures), made.mean((2, 3)))
    assert torch.allclose(AtLayer(Network(made, "NHWC"), "layer")(pictures), made.mean((1, 2)))
    assert torch.allclose(AtLayer(Network(made[:, 0]), "layer")(pictures), made[:, 0].mean(1))
    assert torch.allclose(AtLayer(Network(made[:, 0]), "layer")(torch.zeros(2, 3, 8)), made[:, 0].mean(2))
    rectified = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    assert torch.equal(AtLayer(rectified, "0")(-torch.ones(2, 3)), -torch.ones(2, 3)), "before the next writes to it"
    free = ({0: torch.export.Dim("N", min=1)},)
    graph = torch.export.export(AtLayer(rectified, "0"), (torch.ones(3, 3),), dynamic_shapes=free, strict=False)
    assert len(graph.module()(torch.ones(7, 3))) == 7, "a graph takes any number of inputs"
    with pytest.raises(ConfigError, match="makes no features"):
        AtLayer(Network(made[:1]), "layer")(pictures)


# ---- the command


def test_the_command_writes_draws_and_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = ImageClassifier(num_classes=2, **SMALL)
    model.load_options = {"image_size": 16, "image_mode": "RGB"}
    model.as_embedder().save(tmp_path / "model")
    numbers = np.random.default_rng(0)
    for row in range(8):
        file = tmp_path / "photos" / "ab"[row % 2] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(file)
    out, drawn = tmp_path / "x.npz", tmp_path / "x.png"
    words = ["embed", str(tmp_path / "model"), str(tmp_path / "photos")]
    assert main([*words, "--output", str(out), "--picture", str(drawn)]) == 0
    names, features, labels = read(out)
    assert [Path(name).name for name in names] == [f"{row}.png" for row in (0, 2, 4, 6, 1, 3, 5, 7)]
    assert labels == list("aaaabbbb") and features.shape == (8, 4) and drawn.read_bytes().startswith(b"\x89PNG")
    (tmp_path / "photos" / "a" / "0.png").write_bytes(b"no picture")
    capsys.readouterr()
    with pytest.warns(UserWarning, match="skipped 1 of 8"):
        assert main([*words, "--near", str(out), "--count", "2"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 14 and all(row["nearest"] == row["file"] for row in rows if row["rank"] == "1")
    assert rows[0]["label"] == "a" and rows[0]["cosine"] == "1.0000"
    for words_, told in (([], "--output FILE.parquet"), (["--output", "x.csv"], "name it x.parquet")):
        assert main([*words, *words_]) == 2 and told in capsys.readouterr().err


def test_the_command_knows_labels_of_a_table_of_texts(tmp_path: Path) -> None:
    TextClassifier(num_classes=2, backbone="small_transformer").as_embedder().save(tmp_path / "model")
    (tmp_path / "texts.csv").write_text("text,label\nlost my card,x\nsend it,y\n")
    out = tmp_path / "x.parquet"
    assert main(["embed", str(tmp_path / "model"), str(tmp_path / "texts.csv"), "--output", str(out)]) == 0
    names, features, labels = read(out)
    assert (names, labels) == (["lost my card", "send it"], ["x", "y"]) and len(features) == 2
