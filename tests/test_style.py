"""Style: pictures are painted near a style and near themselves; Gram matrices, training, answers, files, service."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from quickstudy import ConfigError, Trainer
from quickstudy.cli import main
from quickstudy.cli.serve import _model
from quickstudy.image import StyleTransfer, StyleTransferData
from quickstudy.kinds.style import StyleTransfer as Style
from quickstudy.nets import Encoder
from quickstudy.nets.restyling import Restyling, gram
from quickstudy.serve.service import Service
from quickstudy.testing import check_kind
from quickstudy.trained import TrainedModel
from test_serve_trained import ask

SEEN: dict[str, Any] = {
    "network": "mobilenetv3_small_050",
    "network_pretrained": False,
    "style_strides": (2, 4),
    "content_stride": 4,
    "style_size": 32,
}


def stripes(side: int = 32) -> Image.Image:
    """A style that no picture here has: red and yellow stripes."""
    rows = (np.arange(side) // 4 % 2)[:, None, None] * np.array([0, 200, 0]) + np.array([230, 20, 30])
    return Image.fromarray(np.broadcast_to(rows, (side, side, 3)).astype(np.uint8))


def batch(sizes: list[list[int]]) -> dict[str, Tensor]:
    """Smooth pictures in the corners of canvases of 24 by 16 pixels."""
    torch.manual_seed(0)
    coarse = torch.rand(len(sizes), 3, 4, 4)
    pixels = torch.nn.functional.interpolate(coarse, (24, 16), mode="bilinear").mul(255).to(torch.uint8)
    for row, (height, width) in enumerate(sizes):
        pixels[row, :, height:], pixels[row, :, :, width:] = 0, 0
    size = torch.tensor(sizes)
    return {"pixels": pixels, "size": size, "full": 2 * size}


@pytest.mark.dear("kinds", "testing", "image")
def test_it_conforms() -> None:
    kind, inputs = Style(style=stripes(), smooth=0.01, **SEEN), batch([[24, 16]] * 5 + [[16, 12]] * 3)
    check_kind(kind, Encoder(Restyling(4, 1)), inputs, {"pixels": inputs["pixels"], "size": inputs["size"]})


def test_gram_matrices_are_of_all_places() -> None:
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    wanted = sum(
        maps[1, :, row, column, None] * maps[1, None, :, row, column] for row in range(4) for column in range(5)
    )
    torch.testing.assert_close(gram(maps)[1], wanted / 20)


def test_distances_are_0_of_the_same_and_about_1_of_nothing() -> None:
    kind = Style(style=stripes(), **SEEN)
    style = torch.from_numpy(np.array(stripes())).permute(2, 0, 1)[None] / 255
    content, away = kind.perception()(style, style)
    assert float(content) < 1e-6 and float(away) < 1e-6
    other = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    content, away = kind.perception()(style, other)
    assert float(content) > 0.1 and float(kind.perception()(other, other)[1]) > 0.1


def test_it_learns_a_style_in_three_steps_and_answers_in_pictures(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        for place in range(4):
            coarse = Image.fromarray(generator.integers(0, 256, (4, 5, 3), np.uint8))
            coarse.resize((40, 32), Image.Resampling.BICUBIC).save(tmp_path / name / f"{place}.png")
    data = StyleTransferData.from_folders(
        train_folder=tmp_path / "train", test_folder=tmp_path / "test", batch_size=2, image_size=32
    )
    torch.manual_seed(0)
    model = StyleTransfer(
        style=np.array(stripes()),
        backbone_kwargs={"width": 4, "blocks": 1},
        learning_rate=0.01,
        style_weight=4.0,
        **SEEN,
    )
    trainer = Trainer(max_epochs=12, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(model, datamodule=data)
    (told,) = trainer.test(model, datamodule=data, verbose=False)
    assert told["test_perceptual_loss"] < told["test_unchanged_loss"]
    assert told["test_perceptual_loss"] < told["test_mean_colour_loss"]
    assert told["test_unchanged_loss"] == pytest.approx(4 * told["test_unchanged_style"])
    model.predictor().save(tmp_path / "model")
    again = TrainedModel.load(tmp_path / "model")
    painted = again.predict([tmp_path / "test" / "0.png", np.zeros((10, 21, 3), np.uint8)])
    assert [tuple(one.shape) for one in painted] == [(3, 26, 32), (3, 10, 21)] and painted[0].dtype == torch.uint8
    shown = Image.open(tmp_path / "test" / "0.png").convert("RGB").resize((32, 26))
    reds = [
        one[0].float().mean() - one[2].float().mean()
        for one in (painted[0], torch.tensor(np.array(shown)).permute(2, 0, 1))
    ]
    assert reds[0] > reds[1] + 30  # towards red and yellow
    service = Service(_model(str(tmp_path / "model"), "cpu")[0])
    answer = ask(service, "POST", "/predict", files={"images": ("a.png", (tmp_path / "test" / "0.png").read_bytes())})
    (told,) = answer.json()["predictions"]
    sent = Image.open(io.BytesIO(base64.b64decode(told["picture"])))
    assert sent.size == (32, 26) and (torch.from_numpy(np.array(sent)).permute(2, 0, 1) == painted[0]).all()
    folder = tmp_path / "painted"
    main(
        [
            "predict",
            str(tmp_path / "model"),
            str(tmp_path / "test"),
            "--output",
            str(tmp_path / "rows.csv"),
            "--drawings",
            str(folder),
        ]
    )
    assert sorted(one.name for one in folder.iterdir()) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    with Image.open(folder / "0.jpg") as drawn:
        assert drawn.size == (32, 26)


def test_pixels_alone_can_be_changed_towards_a_style() -> None:
    kind = Style(style=stripes(), style_weight=4.0, **SEEN)
    picture = batch([[24, 16]])["pixels"][0]
    painted = kind.optimized(picture, steps=15, learning_rate=0.05)
    assert painted.dtype == torch.uint8 and painted.shape == picture.shape
    before, after = (float(kind.perception()(one[None] / 255, picture[None] / 255)[1]) for one in (picture, painted))
    assert after < 0.7 * before


def test_a_picture_does_not_depend_on_those_beside_it_on_larger_canvases() -> None:
    kind, encoder = Style(style=stripes(), **SEEN), Encoder(Restyling(4, 1)).double().eval()
    inputs = batch([[24, 16], [16, 12], [24, 16]])
    head = kind.head(encoder, inputs).double().eval()
    with torch.no_grad():
        together = kind.outputs(encoder, head, inputs)["pictures"]
        alone = kind.outputs(
            encoder, head, {"pixels": inputs["pixels"][1:2, :, :16, :12], "size": torch.tensor([[16, 12]])}
        )["pictures"]
    torch.testing.assert_close(together[1:2, :, :16, :12], alone, atol=1e-10, rtol=0)
    assert not together[1, :, 16:].any() and not together[1, :, :, 12:].any()


def test_the_style_goes_with_the_model_and_bad_options_are_told(tmp_path: Path) -> None:
    stripes().save(tmp_path / "style.png")
    kind = Style(style=tmp_path / "style.png", **SEEN)
    assert kind == Style(style=stripes(), **SEEN) == Style(style=kind.style, **SEEN)
    with pytest.raises(ConfigError, match=r"style='picture\.jpg'"):
        Style().meet(None, "fit")
    with pytest.raises(ConfigError, match="style_weight"):
        Style(style=stripes(), style_weight=0)
    with pytest.raises(ConfigError, match="smooth=-1"):
        Style(style=stripes(), smooth=-1)
    with pytest.raises(ConfigError, match="no feature map of stride 3, but of"):
        Style(style=stripes(), **{**SEEN, "content_stride": 3}).perception()
    with pytest.raises(ConfigError, match="set style_weight, smooth and network"):
        StyleTransfer(style=stripes(), loss_fn="mse_loss")
