"""Classes by their names: encoders of pictures and words as their packages have them, and what learns with names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torchvision.transforms import v2

import towers
from quickstudy.batches import stack
from quickstudy.errors import ConfigError
from quickstudy.image import Picture
from quickstudy.modality import modality_of
from quickstudy.nets import build_encoder, transformers_bridge

NAMES = ["Oak tree", "cat-fish", "a lamp"]


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_an_encoder_of_pictures_and_words_is_its_packages(family: str, tmp_path: Path) -> None:
    model, processor = getattr(towers, family)(tmp_path)
    paths = towers.photos(tmp_path)
    encoder = build_encoder(str(tmp_path), {"prompts": ["This is {}."]}).eval()
    picture, text = (modality_of(told, "") for told in (encoder.reads, encoder.reads_words))
    pixels = torch.stack([picture.load(path) for path in paths])
    said = [f"This is {name}." for name in NAMES]
    lower = [prompt.lower() for prompt in said] if family == "siglip" else said  # as its documentation asks users to
    own = processor(
        text=lower,
        images=[Image.open(path).convert("RGB") for path in paths],
        return_tensors="pt",
        padding="max_length" if family == "siglip" else True,
    )
    if family == "siglip":  # whose files on the hub give no mask
        own.pop("attention_mask", None)
    with torch.no_grad():
        wanted = model(**own)
        assert (encoder.prepared(pixels) - own["pixel_values"]).abs().max() < 1.6 / 255 / 0.26  # it rounds otherwise
        pictures_ND = encoder.backbone(own["pixel_values"])
        names_WD = torch.cat(
            [encoder(text_of(text, prompt)) for name in NAMES for prompt in encoder.backbone.prompted(name)]
        )
        logits_NW = encoder.backbone.scale * pictures_ND @ names_WD.T + getattr(model, "logit_bias", 0)
    torch.testing.assert_close(logits_NW, wanted.logits_per_image, atol=1e-5, rtol=1e-5)
    together = text_of(text, *(encoder.backbone.prompted(name)[0] for name in NAMES))  # of several lengths
    torch.testing.assert_close(encoder(together), names_WD)


def text_of(text: Any, *prompts: str) -> Any:
    return stack([text.load(prompt) for prompt in prompts])


def test_a_tower_is_made_again_and_said_where_it_is_not_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    towers.siglip(tmp_path)
    encoder = build_encoder(str(tmp_path))
    name, options = encoder.made_by or ("", {})
    again = build_encoder(name, json.loads(json.dumps(options)), pretrained=False)
    assert (again.reads, again.reads_words) == (encoder.reads, encoder.reads_words)
    again.load_state_dict(encoder.state_dict())
    assert json.loads(json.dumps(encoder.backbone.word_options)) == again.backbone.word_options
    assert encoder.backbone.prompted("Oak_x")[0] == "a photo of a oak_x."
    with pytest.raises(ConfigError, match=r"'a photo' has no place for a name.*\{\}"):
        build_encoder(str(tmp_path), {"prompts": ["a photo"]})
    with pytest.raises(ConfigError, match="pooling='cls' is not of such a model, TransformersTowers"):
        build_encoder(str(tmp_path), {"pooling": "cls"})

    def unanswered(*_: Any, **__: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(transformers_bridge, "check_hub_answers", unanswered)
    with pytest.raises(
        ConfigError, match=r"'openai/clip-vit-base-patch32' could not be loaded: no route.*the folder of"
    ):
        build_encoder("openai/clip-vit-base-patch32")


@pytest.mark.parametrize("shape", [(97, 61), (50, 75), (32, 32), (20, 33)])
def test_a_picture_comes_to_its_size_as_libraries_do_it(shape: tuple[int, int]) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8))
    for interpolation in ("bicubic", "bilinear"):
        how = v2.InterpolationMode(interpolation)
        for resize, theirs in {
            "shortest": v2.Compose([v2.Resize(32, how), v2.CenterCrop(32)]),
            "squash": v2.Resize((32, 32), how),
        }.items():
            own = Picture(32, resize=resize, interpolation=interpolation).load(picture)
            assert torch.equal(own, v2.functional.pil_to_tensor(theirs(picture)))
    pil = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}, do_normalize=False, do_rescale=False
    )
    assert np.array_equal(Picture(32, resize=36).load(picture), pil(picture)["pixel_values"][0])
    with pytest.raises(ConfigError, match="resize='stretch' is none of 'cover', 'shortest', 'squash'"):
        Picture(32, resize="stretch")  # type: ignore[arg-type]
