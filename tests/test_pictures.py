"""A picture in any form: types, scales and axes are one picture, or the difference is told."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from quickstudy import ConfigError, DataError, DataWarning, Predictor, Trainer
from quickstudy.algorithms import STRATEGIES
from quickstudy.cli.flags import FlagParser
from quickstudy.cli.runs import add_data
from quickstudy.image import ImageClassificationData, ImageClassifier, Picture, available_transforms, load_image
from quickstudy.image.transforms import _NAMED
from quickstudy.nets import Encoder, build_encoder

LABELS = ["a", "a", "b", "b"]


def pixels(count: int = 4, channels: int = 3, side: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def alike(one: Any, other: Any) -> bool:
    return np.allclose(one, other, rtol=0, atol=1e-7)  # made in float64, and answered in float32: 2^-24 is 6e-8


def exact(backbone: str | nn.Module) -> Encoder:
    return build_encoder(backbone, pretrained=False).double().eval().requires_grad_(False)


def taught(backbone: str = "resnet18") -> Predictor:
    torch.manual_seed(0)
    return Predictor(exact(backbone), STRATEGIES["nearest_centroid"](), load_image).fit(list(pixels()), LABELS)


# ---- one picture, whatever its type and scale

SCALES = {
    "0..1": lambda x: x.float() / 255,
    "0..255": lambda x: x.float(),
    "half 0..1": lambda x: (x.float() / 255).half(),
    "half 0..255": lambda x: x.half(),
    "double 0..1": lambda x: x.double() / 255,
    "int64": lambda x: x.long(),
    "int32": lambda x: x.int(),
    "int16": lambda x: x.short(),
    "numpy uint16": lambda x: x.numpy().astype(np.uint16),
    "numpy big-endian": lambda x: x.numpy().astype(">i4"),
    "numpy 0..1": lambda x: (x.numpy() / 255).astype(np.float32),
}


@pytest.mark.parametrize("scale", SCALES)
def test_one_picture_in_any_scale_is_the_same(scale: str) -> None:
    predictor, picture = taught(), pixels()
    other = SCALES[scale](picture)
    expected = predictor.predict_proba(picture)
    for form in (other, list(other), other[:1]):
        assert alike(predictor.predict_proba(form), expected[: len(form)])
    near = [predictor.nearest(form[0], 1)[0][0] for form in (picture, other)]
    assert near[0] == near[1]


@pytest.mark.parametrize("scale", SCALES)
def test_examples_in_any_scale_teach_the_same(scale: str) -> None:
    encoder, picture = exact("resnet18"), pixels()
    made = [
        Predictor(encoder, STRATEGIES["nearest_centroid"](), load_image).fit(form, LABELS)
        for form in (picture, SCALES[scale](picture))
    ]
    probabilities = [predictor.predict_proba(picture) for predictor in made]
    assert alike(*probabilities)
    made[1].add_class("c", pixels(5)[4:].float() / 255)
    assert alike(made[1].predict_proba(picture), made[0].add_class("c", pixels(5)[4:]).predict_proba(picture))


def test_own_floats_are_fed_as_they_are_and_told_where_bytes_were_taught() -> None:
    predictor, encoder = taught(), build_encoder("resnet18", pretrained=False).eval()
    own = (pixels().float() / 255 - encoder.mean) / encoder.std
    with pytest.warns(DataWarning, match=r"input 0 is float32 of -2.* to 2.*learned from uint8 pictures"):
        predictor.predict(own)
    silent = Predictor.from_backbone("resnet18", own, LABELS, pretrained=False)
    assert silent.nearest(own, 1)[0][0].distance == 0
    with pytest.warns(DataWarning, match="is uint8 of 0 to 255, and the model learned from floats that were prepared"):
        silent.predict(pixels())


def test_what_was_taught_outlives_a_file(tmp_path: Path) -> None:
    for number, form in enumerate((pixels(), pixels().float() / 255)):
        model = trained(form)
        predictor = model.adapt(form, LABELS)
        predictor.save(tmp_path / str(number))
        again = Predictor.load(tmp_path / str(number))
        expected = predictor.predict_proba(form)
        for other in (pixels(), pixels().float() / 255, pixels().double()):
            assert np.allclose(again.predict_proba(other), expected, atol=1e-5)
    assert model.encoder.fed == "0..1"


def quiet(root: Path, **options: Any) -> Trainer:
    return Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=root,
        **options,
    )


def trained(form: Any, **options: Any) -> ImageClassifier:
    model = ImageClassifier(backbone="conv4", backbone_kwargs={"hidden": 4}, num_classes=2)
    model.meet(ImageClassificationData.from_tensors(form, LABELS, batch_size=2, **options), "fit")
    return model.eval()


def test_a_checkpoint_remembers_what_it_was_fed_with(tmp_path: Path) -> None:
    model, form = ImageClassifier(backbone="conv4", num_classes=2), pixels().float() / 255
    trainer = quiet(tmp_path)
    trainer.fit(model, datamodule=ImageClassificationData.from_tensors(form, LABELS, batch_size=2))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    again = ImageClassifier.load_from_checkpoint(tmp_path / "run.ckpt")
    assert again.encoder.fed == "0..1"
    with pytest.warns(DataWarning, match="trained on floats, .*the test data is uint8"):
        quiet(tmp_path).test(
            again, datamodule=ImageClassificationData.from_tensors(test_data=pixels(), test_targets=LABELS)
        )


# ---- one call has one scale


def dark_and_bright(form: str) -> tuple[Any, Tensor]:
    """Return pictures as floats of 0..255 of which the second pass ends at 1, and the same as bytes."""
    picture = pixels(70, side=8)
    picture[64:] %= 2
    own: dict[str, Any] = {
        "tensor": picture.float(),
        "array": picture.double().numpy(),
        "list": list(picture.float()),
        "channels last": picture.permute(0, 2, 3, 1).float(),
        "list of arrays": list(picture.permute(0, 2, 3, 1).numpy().astype(np.float32)),
    }
    return own[form], picture


def small(fed: str) -> Encoder:
    torch.manual_seed(0)
    encoder = exact(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()))
    encoder.fed = fed
    return encoder


@pytest.mark.parametrize("form", ["tensor", "array", "list", "channels last", "list of arrays"])
@pytest.mark.parametrize("fed", ["uint8", "0..1", "0..255"])
def test_a_dark_pass_of_a_long_call_has_the_scale_of_the_others(form: str, fed: str) -> None:
    own, picture = dark_and_bright(form)
    made = [Predictor(small(fed), STRATEGIES["nearest_centroid"](), load_image) for _ in range(2)]
    expected = made[0].fit(picture[:4], LABELS).predict_proba(picture)
    assert np.allclose(made[0].predict_proba(own), expected, rtol=0, atol=1e-6)  # bytes / 255 are of float32
    probabilities = [
        predictor.fit(each, ["a", "b"] * 35).predict_proba(picture)
        for predictor, each in zip(made, (own, picture), strict=True)
    ]
    assert np.allclose(*probabilities, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["tensor", "channels last", "list", "list of arrays"])
def test_two_scales_in_one_call_are_told_with_their_numbers(form: str) -> None:
    own, picture = dark_and_bright(form)
    for row in (3, 66):
        own[row] = own[row] / 300
    predictor = Predictor(small("uint8"), STRATEGIES["nearest_centroid"](), load_image).fit(picture[:4], LABELS)
    told = r"2 of the 70 pictures are floats of 0..1, and others of 0..255: .*: 3, 66\. Multiply"
    with pytest.warns(DataWarning, match=told):
        predictor.predict(own)
    with pytest.warns(DataWarning, match=told):
        predictor.fit(own, ["a", "b"] * 35)


def test_a_load_of_ones_own_is_judged_once() -> None:
    _, picture = dark_and_bright("tensor")
    own = Predictor(small(""), STRATEGIES["nearest_centroid"](), lambda row: picture[row].double())
    own.fit(range(4), LABELS)
    alone = [own.predict_proba([*range(4), row])[4:] for row in (63, 64, 69)]
    assert np.allclose(own.predict_proba(range(70))[[63, 64, 69]], np.concatenate(alone), rtol=0, atol=1e-7)


def test_transparent_floats_train_in_one_scale() -> None:
    clear = torch.full((2, 8, 8, 4), 255.0)
    clear[0, ..., :3], clear[1] = 200.0, 1.0
    (batch,) = ImageClassificationData.from_tensors(predict_data=clear, batch_size=2).predict_dataloader()
    assert batch[:, 0, 0, 0].tolist() == [200, 254]  # the second is all but transparent, and so white


@pytest.mark.parametrize(
    "form", [Tensor.byte, Tensor.long, Tensor.numpy, list], ids=["uint8", "int64", "array", "list"]
)
def test_whole_numbers_of_0_and_1_are_told(form: Any) -> None:
    masks = pixels() % 2
    told = r"are whole numbers of 0 and 1, almost black where 255 is white: multiply them by 255, or give pictures > 0"
    predictor = taught("conv4")
    for ask in (predictor.predict, lambda own: Predictor.from_backbone("conv4", own, LABELS, pretrained=False)):
        with pytest.warns(DataWarning, match=rf"the pictures, input 0 the first, {told}"):
            ask(form(masks))
    predictor.predict(masks > 0)
    predictor.predict(masks.float())
    predictor.predict(masks * 255)
    predictor.predict(masks * 0)
    model, given = ImageClassifier(backbone="conv4", num_classes=2), masks if form is list else form(masks)
    for stage, name in (("test", "test"), ("fit", "train")):
        data = ImageClassificationData.from_tensors(**{f"{name}_data": given, f"{name}_targets": LABELS})
        with pytest.warns(DataWarning, match=f"the {name} pictures {told}"):
            model.meet(data, stage)
    model.meet(ImageClassificationData.from_tensors(masks > 0, LABELS), "fit")


# ---- training data

TOLD = {
    ("resnet18", "0..1"): "floats of 0..1, which are fed as they are, and the backbone 'resnet18' was made for normal",
    ("resnet18", "0..255"): "floats up to 255, which are fed as they are",
    ("conv4", "0..255"): "floats up to 255, which are fed as they are",
}


@pytest.mark.parametrize(("backbone", "scale"), TOLD)
def test_training_on_floats_that_skip_the_normalisation_is_told(backbone: str, scale: str) -> None:
    model = ImageClassifier(backbone=backbone, num_classes=2, pretrained=False)
    data = ImageClassificationData.from_tensors(SCALES[scale](pixels()), LABELS)
    with pytest.warns(DataWarning, match=TOLD[backbone, scale]):
        model.meet(data, "fit")


@pytest.mark.parametrize("form", ["int64", "int32", "numpy uint16"])
def test_whole_numbers_train_as_bytes_do(form: str) -> None:
    (batch,) = ImageClassificationData.from_numpy(
        predict_data=SCALES[form](pixels()), batch_size=4
    ).predict_dataloader()
    assert torch.equal(batch, pixels())
    (masks,) = ImageClassificationData.from_tensors(predict_data=pixels() > 99, batch_size=4).predict_dataloader()
    assert torch.equal(masks, (pixels() > 99).to(torch.uint8) * 255)
    with pytest.raises(DataError, match=r"pixels of int64 from 0 to 4000: whole numbers of a picture are 0..255"):
        ImageClassificationData.from_tensors(predict_data=torch.tensor([[[[0, 4000]]]]))


def test_channels_last_and_grey_stacks_train() -> None:
    last = pixels().permute(0, 2, 3, 1)
    for form in (last, last.numpy(), last.float()):
        (batch,) = ImageClassificationData.from_tensors(predict_data=form, batch_size=4).predict_dataloader()
        assert torch.equal(batch, pixels().to(batch.dtype))
    clear = torch.cat([last, torch.full((4, 32, 32, 1), 255, dtype=torch.uint8)], 3)
    clear[0, 0, 0, 3] = 0
    (batch,) = ImageClassificationData.from_tensors(predict_data=clear, batch_size=4).predict_dataloader()
    assert batch[0, :, 0, 0].tolist() == [255] * 3
    assert torch.equal(batch[1:], pixels()[1:])
    model = ImageClassifier(backbone="conv4", backbone_kwargs={"in_channels": 1}, num_classes=2)
    data = ImageClassificationData.from_tensors(pixels(channels=1)[:, 0], LABELS)
    model.meet(data, "fit")
    assert data.load_options == {"image_size": (32, 32), "image_mode": "L"}
    stack = model.eval().double().adapt(pixels(channels=1)[:, 0], LABELS)
    files = [Image.fromarray(each[0].numpy()) for each in pixels(channels=1)]
    assert alike(stack.predict_proba(files), stack.predict_proba(pixels(channels=1)))


def test_maps_of_features_are_not_turned() -> None:
    for shape in ((4, 640, 3, 3), (4, 64, 5, 7), (4, 9), (4, 5, 2, 2)):
        (batch,) = ImageClassificationData.from_tensors(
            predict_data=torch.rand(shape), batch_size=4
        ).predict_dataloader()
        assert batch.shape == shape


# ---- axes


def test_axes_of_every_kind_in_use() -> None:
    predictor, picture = taught("conv4"), pixels()
    last = picture.permute(0, 2, 3, 1)
    rgba = torch.cat([last, torch.full((4, 32, 32, 1), 255, dtype=torch.uint8)], 3)
    predictor_of_size = Predictor.from_backbone(
        predictor.get_params()["encoder"].backbone, list(picture), LABELS, load=partial(load_image, image_size=32)
    )
    expected = predictor_of_size.predict_proba(picture)
    for form in (
        last,
        last.numpy(),
        last.float() / 255,
        list(last.numpy() / 255.0),
        rgba,
        rgba.numpy() / 255.0,
        list(rgba),
    ):
        assert alike(predictor_of_size.predict_proba(form), expected)
    for one in (picture[0], picture[0].numpy(), last[0], last[0].numpy(), rgba[0], last[0].double()):
        assert alike(predictor_of_size.predict_proba(one), expected[:1])
    grey = picture[:, 0]
    as_files = predictor_of_size.predict_proba([Image.fromarray(each.numpy()) for each in grey])
    for form in (grey[:2], grey, grey.numpy() / 255.0, list(grey), grey[..., None], list(grey[:, :, :, None].numpy())):
        if len(form) == 4:
            assert alike(predictor_of_size.predict_proba(form if len(form) != 4 else list(form)), as_files)
    assert alike(predictor_of_size.predict_proba(grey[0]), as_files[:1])
    assert alike(predictor_of_size.predict_proba(grey.repeat(2, 1, 1))[:4], as_files)
    pair = np.dstack([grey[0].numpy(), np.full((32, 32), 255, np.uint8)])
    assert alike(predictor_of_size.predict_proba([pair]), as_files[:1])


def test_axes_that_could_be_either_and_those_that_fit_nothing() -> None:
    predictor = taught("conv4")
    with pytest.raises(
        DataError, match=r"\(2, 32, 32\) could be one picture of 2 channels, or 2 grey ones.*give a list"
    ):
        predictor.predict(pixels()[:2, 0])
    eight = torch.zeros(2, 32, 32, 8)
    with pytest.raises(
        ConfigError, match=r"taken for channels, height, width\). Channels must stand first: .*permute\(2"
    ):
        predictor.predict(eight)
    with pytest.raises(ConfigError, match=r"'in_channels': 13"):
        predictor.predict(torch.zeros(2, 13, 32, 32))
    with pytest.raises(ConfigError, match=r"Leave transparency out, pictures\[:, :3\]"):
        predictor.predict(torch.zeros(2, 4, 32, 32))


def test_inputs_that_are_no_pictures_keep_their_axes() -> None:
    points = torch.rand(4, 5)
    predictor = Predictor.from_backbone(nn.Flatten(), points, LABELS)
    assert predictor.nearest(points, 1)[2][0].distance == 0
    assert predictor.predict_proba(points[:1]).shape == (1, 2)


# ---- bytes


def test_whatever_holds_a_files_bytes_is_a_picture(tmp_path: Path) -> None:
    Image.fromarray(pixels()[0].permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    predictor = taught("conv4")
    predictor.set_params(load=partial(load_image, image_size=32)).fit(list(pixels()), LABELS)
    expected = predictor.predict_proba(tmp_path / "a.png")
    stream = io.BytesIO(content)
    stream.read()
    with (tmp_path / "a.png").open("rb") as file, (tmp_path / "a.png").open(encoding="latin-1") as text:
        for form in (content, bytearray(content), memoryview(content), stream, file):
            assert alike(predictor.predict_proba(form), expected)
            assert alike(predictor.predict_proba([form, form]), np.concatenate([expected] * 2))
        with pytest.raises(DataError, match=r"open as text: open it in binary mode"):
            predictor.predict(text)
    assert torch.equal(load_image(io.BytesIO(content)), load_image(bytearray(content)))


@pytest.mark.parametrize(
    "item",
    [bytearray(5_000_000), "x" * 5_000_000, ["y" * 5_000_000] * 3, {"a": "b" * 5_000_000}, b"z" * 5_000_000, object()],
)
def test_messages_do_not_repeat_megabytes(item: Any) -> None:
    with pytest.raises(DataError) as raised:
        taught("conv4").predict([item])
    assert len(str(raised.value)) < 1000
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("option", ["image_mode", "image_size", "image_depth"])
def test_options_are_not_repeated_in_full(option: str) -> None:
    with pytest.raises(ConfigError, match=option) as raised:
        load_image(np.zeros((8, 8, 3), np.uint8), **{option: "x" * 5_000_000})
    assert len(str(raised.value)) < 300


HUGE = "x" * 5_000_000


@pytest.mark.parametrize(
    "refused",
    [
        lambda: ImageClassifier(backbone=HUGE),
        lambda: ImageClassifier(backbone="conv4", head=HUGE),
        lambda: ImageClassifier(backbone="conv4", loss_fn=HUGE),
        lambda: ImageClassifier(backbone="conv4", optimizer=[HUGE]),  # type: ignore[arg-type]
        lambda: ImageClassifier(backbone="conv4", training_strategy=HUGE),
        lambda: ImageClassifier(backbone="conv4", backbone_kwargs={HUGE: 1}),
        lambda: ImageClassifier(backbone="conv4", backbone_kwargs={"norm": HUGE}),
        lambda: ImageClassificationData.from_tensors(pixels(), LABELS, transform=HUGE),
        lambda: ImageClassificationData.from_tensors(pixels(), LABELS, transform={HUGE: None}),
        lambda: ImageClassificationData.from_tensors(pixels(), LABELS, cache=HUGE),
        lambda: ImageClassificationData.from_tensors(pixels(), LABELS, seed=HUGE),
        lambda: ImageClassificationData.from_tensors(pixels(), [1, 2, HUGE, bytearray(5_000_000)]),
        lambda: ImageClassificationData.from_tensors(pixels(), bytearray(5_000_000)),
        lambda: ImageClassificationData.from_files([bytearray(5_000_000)], ["a"]),
        lambda: Predictor.from_backbone("conv4", pixels(), LABELS, strategy=HUGE),
        lambda: taught("conv4").predict_set(pixels(), alpha=HUGE),  # type: ignore[arg-type]
    ],
)
def test_no_option_is_repeated_in_full(refused: Any) -> None:
    with pytest.raises((ConfigError, DataError, TypeError)) as raised:
        refused()
    assert len(str(raised.value)) < 1500


# ---- depth


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("kind", ["a.png", "a.tif"])
def test_few_bits_in_a_file_with_room_for_more(bits: int, kind: str, tmp_path: Path) -> None:
    levels = np.linspace(0, (1 << bits) - 1, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / kind)
    with pytest.warns(DataWarning, match=f"{kind}' has room for 16 bits .* image_depth={bits}"):
        assert load_image(tmp_path / kind, image_mode="L").max() < 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deep = load_image(tmp_path / kind, image_mode="L", image_depth=bits)  # type: ignore[arg-type]
        assert torch.equal(deep[0], torch.from_numpy((levels >> (bits - 8)).astype(np.uint8)))
        assert load_image(tmp_path / kind, image_mode="L", image_depth=16).max() < 16
    Image.fromarray(np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)).save(tmp_path / kind)
    assert load_image(tmp_path / kind, image_mode="L").max() == 255


def deep_png(levels: Any) -> bytes:
    """A PNG of 16 bits, ``[H, W, C]``: Pillow writes none in colour."""
    height, width, channels = levels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    colour = {2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_few_bits_in_colour(channels: int, tmp_path: Path) -> None:
    levels = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16, 1).repeat(channels, 2)
    if channels != 3:
        levels[..., -1] = 65535  # opaque
    (tmp_path / "a.png").write_bytes(deep_png(levels))
    with pytest.warns(DataWarning, match=r"a.png' has room for 16 bits .* image_depth=12"):
        assert load_image(tmp_path / "a.png").max() < 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = load_image(tmp_path / "a.png", image_depth=12)
        right = torch.from_numpy((levels[..., :1] >> 4).astype(np.int16)).permute(2, 0, 1)
        assert (seen.to(torch.int16) - right).abs().max() < 16  # all but the upper 8 of 16 bits is lost
        (tmp_path / "a.png").write_bytes(deep_png(levels * 16 if channels == 3 else levels | 0x8000))
        assert load_image(tmp_path / "a.png").max() > 100


@pytest.mark.parametrize(("low", "high"), [(0, 2_000_000_000), (-1000, 3000)])
def test_pixels_beyond_16_bits_are_told(low: int, high: int, tmp_path: Path) -> None:
    Image.fromarray(np.linspace(low, high, 256).astype(np.int32).reshape(16, 16)).save(tmp_path / "a.tif")
    with pytest.warns(DataWarning, match=f"a.tif' has pixels from {low} to {high}.* cut off"):
        load_image(tmp_path / "a.tif")


def test_depth_goes_with_the_data_and_the_model(tmp_path: Path) -> None:
    for name in LABELS[::2]:
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(2):
            levels = np.random.default_rng([number, ord(name)]).integers(0, 4000, (16, 16), np.uint16)
            Image.fromarray(levels).save(tmp_path / "train" / name / f"{number}.png")
    data = ImageClassificationData.from_folders(tmp_path / "train", image_size=16, image_mode="L", image_depth=12)
    model = ImageClassifier(backbone="conv4", backbone_kwargs={"in_channels": 1, "hidden": 4})
    model.meet(data, "fit")
    assert model.load_options["image_depth"] == 12
    model.eval().adapt([tmp_path / "train/a/0.png", tmp_path / "train/b/0.png"], ["a", "b"]).save(tmp_path / "pets")
    assert Predictor.load(tmp_path / "pets").modality.options["image_depth"] == 12
    with pytest.raises(ConfigError, match="image_depth=9 is none of"):
        ImageClassificationData.from_folders(tmp_path / "train", image_depth=9)


def test_floating_point_files_say_what_to_do(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"no agreed black and white. Bring them to 0..1, and give the array \[H, W\]"):
        load_image(tmp_path / "a.tif")


# ---- transforms of one stage

NORMALISED = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.1] * 3)])


@pytest.mark.parametrize(
    ("transform", "told"),
    [
        (NORMALISED, r"float32 of shape \(3, 32, 32\) from .* and validation with uint8 .*transform={'train'"),
        (v2.RandomCrop(16), r"uint8 of shape \(3, 16, 16\) .* validation with uint8 of shape \(3, 32, 32\)"),
        (v2.Grayscale(1), r"uint8 of shape \(1, 32, 32\) .* validation with uint8 of shape \(3, 32, 32\)"),
    ],
)
def test_a_transform_that_changes_what_training_alone_is_fed_with(transform: Any, told: str) -> None:
    model = ImageClassifier(backbone=nn.Sequential(nn.Flatten()), num_classes=2)
    with pytest.warns(DataWarning, match=told):
        model.meet(
            ImageClassificationData.from_tensors(pixels(), LABELS, 255 - pixels(), LABELS, transform=transform), "fit"
        )


def test_a_transform_of_both_stages_or_of_no_consequence_says_nothing() -> None:
    model = ImageClassifier(backbone=nn.Sequential(nn.Flatten()), num_classes=2)
    for transform in ({"train": NORMALISED, "val": NORMALISED}, v2.RandomHorizontalFlip(), None):
        model.meet(
            ImageClassificationData.from_tensors(pixels(), LABELS, 255 - pixels(), LABELS, transform=transform), "fit"
        )


# ---- ready-made ones


@pytest.mark.parametrize("name", _NAMED)
@pytest.mark.parametrize("channels", [1, 3])
def test_ready_made_transforms_keep_size_and_type_and_follow_the_seed(name: str, channels: int) -> None:
    pictures = pixels(channels=channels)[:, :, :24]
    loaded = []
    for _ in range(2):
        data = ImageClassificationData.from_tensors(pictures, LABELS, transform=name, batch_size=4)
        loaded.append(torch.cat([inputs for inputs, _ in data.train_dataloader()]))
    assert loaded[0].shape == pictures.shape
    assert loaded[0].dtype == torch.uint8
    assert torch.equal(*loaded)
    data = ImageClassificationData.from_tensors(pictures.repeat(4, 1, 1, 1), LABELS * 4, transform=name, batch_size=16)
    ((changed, _),) = list(data.train_dataloader())
    assert any(not (pictures == each).flatten(1).all(1).any() for each in changed)
    assert data.options["transform"] == name
    assert name in available_transforms()


def test_names_of_transforms_by_stage_and_misspelled() -> None:
    data = ImageClassificationData.from_tensors(
        pixels(), LABELS, pixels(), LABELS, transform={"val": "flip"}, batch_size=4
    )
    ((inputs, _),) = list(data.train_dataloader())
    assert sorted(inputs.flatten(1).sum(1).tolist()) == sorted(pixels().flatten(1).sum(1).tolist())
    with pytest.raises(ConfigError, match=r"unknown transform 'flip_corp'; did you mean 'flip_crop'\?"):
        ImageClassificationData.from_tensors(pixels(), LABELS, transform="flip_corp")


def test_a_transform_by_name_on_the_command_line(tmp_path: Path) -> None:
    parser = FlagParser.for_command("fit", "")
    add_data(parser, ("train",), "image_classification")
    options = parser.read(["--data.train_folder", str(tmp_path), "--data.transform", "flip_crop"])
    assert options.data["transform"] == "flip_crop"
    mapped = parser.read(["--data.train_folder", str(tmp_path), "--data.transform", '{"train": "zoom"}'])
    assert mapped.data["transform"] == {"train": "zoom"}


def test_data_takes_its_reading_by_name_or_as_a_mapping() -> None:
    paths = [Image.new("RGB", (9, 9), level) for level in (0, 90)]
    by_name = ImageClassificationData.from_images(paths, ["a", "b"], image_size=8)
    mapped = ImageClassificationData.from_images(paths, ["a", "b"], load_options={"image_size": 8})
    assert by_name.modality == mapped.modality == Picture(8)
