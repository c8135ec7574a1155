"""Classes by their names: encoders of pictures and words as their packages have them, and what learns with names."""

from __future__ import annotations

import itertools
import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torchvision.transforms import v2

import towers
from quickstudy.algorithms.tip_adapter import ALPHA, ALPHAS, BETA, BETAS, TipAdapter
from quickstudy.batches import stack
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataWarning
from quickstudy.image import ImageClassificationData, ImageClassifier, Picture
from quickstudy.ladder import RUNGS
from quickstudy.ladder.examples import Examples, encoders_of
from quickstudy.learning.answering import answered
from quickstudy.learning.changes import Change
from quickstudy.learning.naming import learns_names
from quickstudy.modality import modality_of
from quickstudy.nets import build_encoder, transformers_bridge
from quickstudy.predictor import Predictor
from quickstudy.saved.examples import change_of, examples_to_bytes

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


def test_an_encoder_of_open_clip_is_its_own(tmp_path: Path) -> None:
    model, read, tokenizer = towers.of_open_clip(tmp_path)
    paths = towers.photos(tmp_path)
    encoder = build_encoder(str(tmp_path), {"prompts": ["A photo of {}!"]}).eval()
    picture, text = (modality_of(told, "") for told in (encoder.reads, encoder.reads_words))
    names = ["Cat-fish isn't", "a name that " + "goes on and on " * 9, "\u00e9lan 23"]
    said = [prompt for name in names for prompt in encoder.backbone.prompted(name)]
    with torch.no_grad():
        opened = [Image.open(path).convert("RGB") for path in paths]
        wanted = model.encode_image(torch.stack([read(each) for each in opened]), normalize=True)
        pixels = torch.stack([picture.load(path) for path in paths])
        torch.testing.assert_close(encoder(pixels), wanted, atol=1e-5, rtol=1e-5)
        words = model.encode_text(tokenizer([f"A photo of {name}!" for name in names]), normalize=True)
        torch.testing.assert_close(encoder(text_of(text, *said)), words, atol=1e-5, rtol=1e-5)
    assert encoder.backbone.scale == pytest.approx(float(model.logit_scale.detach().exp()))
    Predictor.from_backbone(encoder, classes=["oak", "fir"]).save(tmp_path / "model")
    again = Predictor.load(tmp_path / "model").add_class("elm")
    together = Predictor.from_backbone(encoder, classes=["oak", "fir", "elm"])
    order = [list(together.classes_).index(name) for name in again.classes_]
    np.testing.assert_allclose(again.predict_proba(paths), together.predict_proba(paths)[:, order], atol=1e-5)


def test_what_open_clip_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no architecture 'ViT-B-33'; did you mean 'ViT-B-32'"):
        build_encoder("open_clip/ViT-B-33/openai")
    with pytest.raises(ConfigError, match=r"the weights are not named: type one of open_clip/ViT-B-32/openai,"):
        build_encoder("open_clip/ViT-B-32")

    def unanswered() -> None:
        raise OSError("no route")

    monkeypatch.setattr("quickstudy.nets.open_clip_bridge.check_hub_answers", unanswered)
    for name in ("open_clip/ViT-B-32/laion2b_s34b_b79k", "hf-hub:timm/ViT-B-16-SigLIP"):
        with pytest.raises(ConfigError, match=rf"'{name}' could not be loaded: no route.*the folder of a"):
            build_encoder(name)


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


def of_tip_adapter(
    keys: np.ndarray, codes: np.ndarray, names: np.ndarray, asked: np.ndarray, alpha: float, beta: float, scale: float
) -> np.ndarray:
    """The formula, as in equations 2 to 5 of Zhang et al. 2022."""
    keys, names, asked = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (keys, names, asked))
    return alpha * np.exp(-beta * (1 - asked @ keys.T)) @ np.eye(len(names))[codes] + scale * asked @ names.T


def rows_of_classes(each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return examples of four classes, their classes, and names that tell two of the classes badly."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(4, 12))
    examples = np.repeat(centres, each, 0) + 0.4 * random.normal(size=(4 * each, 12))
    names = centres + 0.2 * random.normal(size=(4, 12))
    names[:2] = names[[1, 0]]
    return examples, np.arange(4).repeat(each), names


@pytest.mark.parametrize("each", [1, 3])
def test_tip_adapter_is_its_formula_and_tells_alpha_and_beta_by_examples_left_out(each: int) -> None:
    keys, codes, names = rows_of_classes(each)
    asked = rows_of_classes(5, 1)[0]
    as_given = [torch.from_numpy(part) for part in (keys, codes, names)]
    for alpha, beta in ((2.0, 3.0), ("auto", "auto")):
        made = TipAdapter(alpha, beta)  # type: ignore[arg-type]
        state = made.fit_named(*as_given)
        if alpha == "auto":
            alpha, beta = told_by_others(keys, codes, names) if each > 1 else (ALPHA, BETA)
            assert (float(state[3]), float(state[4])) == (alpha, beta)
        wanted = of_tip_adapter(keys, codes, names, asked, alpha, beta, 100)  # type: ignore[arg-type]
        np.testing.assert_allclose(made.logits(state, torch.from_numpy(asked)).numpy(), wanted, rtol=0, atol=1e-6)
    none = [part[:0] for part in as_given[:2]]
    by_name = made.logits(made.fit_named(*none, as_given[2]), torch.from_numpy(asked))
    np.testing.assert_allclose(by_name.numpy(), of_tip_adapter(keys[:0], codes[:0], names, asked, 1, 1, 100), atol=1e-6)


def told_by_others(keys: np.ndarray, codes: np.ndarray, names: np.ndarray) -> tuple[float, float]:
    """Return alpha and beta, by answering each example without it, one after another."""

    def score(alpha: float, beta: float) -> float:
        logits = []
        for row in range(len(keys)):
            rest, code = np.arange(len(keys)) != row, codes[row]
            near = of_tip_adapter(keys[rest], codes[rest], names, keys[[row]], 1, beta, 0)[0]
            near[code] *= (codes == code).sum() / ((codes == code).sum() - 1)
            logits.append(alpha * near + of_tip_adapter(keys[:0], codes[:0], names, keys[[row]], 1, 1, 100)[0])
        likelihoods = [
            sum(
                each[code] - np.logaddexp.reduce(each)
                for each, code in zip(np.array(logits) / heat, codes, strict=True)
            )
            for heat in 2.0 ** np.arange(-2, 7)
        ]
        prior = sum(np.log10(value / usual) ** 2 for value, usual in ((alpha, ALPHA), (beta, BETA))) / (2 * 0.5**2)
        return float(max(likelihoods) - prior)

    return max(itertools.product(ALPHAS, BETAS), key=lambda pair: score(*pair))


def test_classes_of_pictures_are_learned_by_name_then_by_examples(tmp_path: Path) -> None:
    model, processor = towers.clip(tmp_path)
    paths = towers.photos(tmp_path)
    predictor = Predictor.from_backbone(str(tmp_path), classes=["01_oak", "cat"], backbone_kwargs={"prompts": "a {}."})
    own = processor(
        text=["a oak.", "a cat."], images=[Image.open(path) for path in paths], return_tensors="pt", padding=True
    )
    with torch.no_grad():
        wanted = model(**own).logits_per_image.softmax(1).numpy()
    np.testing.assert_allclose(predictor.predict_proba(paths), wanted, atol=2e-4)  # by bytes that are rounded otherwise
    assert predictor.counts_ == {"01_oak": 1, "cat": 1} and "unknown" not in predictor.predict(paths)
    alone = Predictor.from_backbone(str(tmp_path), classes=["01_oak", "cat", "red lamp"])
    assert type(alone.knowledge.algorithm) is TipAdapter
    grown = Predictor.from_backbone(str(tmp_path), classes=["01_oak", "cat"]).add_class("red lamp")
    np.testing.assert_array_equal(grown.predict_proba(paths), alone.predict_proba(paths))
    grown.add_examples("cat", paths[:2]).add_class("tin", paths[2:])
    both = Predictor.from_backbone(
        str(tmp_path), [*paths[:2], paths[2]], ["cat", "cat", "tin"], classes=["01_oak", "cat", "red lamp", "tin"]
    )
    order = [list(both.classes_).index(name) for name in grown.classes_]
    np.testing.assert_allclose(grown.predict_proba(paths), both.predict_proba(paths)[:, order], atol=1e-6)
    state = grown.knowledge.state
    assert (
        grown.counts_["tin"] == 2 and state[0].shape == (3, 12) and state[2].norm(dim=1).min() > 1
    )  # it has a name, too
    grown.save(tmp_path / "model")
    again = Predictor.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(paths), grown.predict_proba(paths))
    np.testing.assert_array_equal(
        again.add_class("fir").predict_proba(paths), grown.add_class("fir").predict_proba(paths)
    )
    change = Change("add", "elm", "", torch.zeros(2, 3), (b"", b""), (), (True, False))
    assert change_of("add", "elm", "", examples_to_bytes(change), "cpu").named == change.named


def test_a_class_is_learned_by_its_name_where_that_tells_of_it(tmp_path: Path) -> None:
    towers.clip(tmp_path)
    paths = towers.photos(tmp_path)
    named = Predictor.from_backbone(str(tmp_path), classes=["oak", "cat"])
    shown = Predictor.from_backbone(str(tmp_path), paths, ["oak", "oak", "fir"])
    weighs = Predictor.from_backbone(str(tmp_path), paths, ["oak", "oak", "fir"], strategy="tip_adapter")
    centroids = Predictor.from_backbone(str(tmp_path), classes=["oak", "cat"], strategy="nearest_centroid")
    for predictor, learns in ((named, True), (shown, False), (weighs, True), (centroids, True)):
        assert learns_names(predictor.knowledge) == learns
        with nullcontext() if learns else pytest.raises(ConfigError, match="cannot weigh"):
            assert "elm" in predictor.add_class("elm").classes_


def test_data_to_train_on_is_read_as_the_backbone_was_trained(tmp_path: Path) -> None:
    towers.clip(tmp_path)
    paths = towers.photos(tmp_path)
    model = ImageClassifier(backbone=str(tmp_path))
    for asked in ({}, {"image_size": 48, "resize": "squash"}):
        data = ImageClassificationData.from_files(train_files=paths, train_targets=[*"aab"], **asked)
        told = "was trained on data loaded with {'image_size': 32, 'resize': 32}, and this has {'image_size': 48"
        with pytest.warns(DataWarning, match=re.escape(told)) if asked else nullcontext():
            data.read_as(model.load_options, trains=True, by_class=False)
        wanted = {"image_size": 32, "resize": 32, "interpolation": "bicubic", **asked}
        assert {name: data.modality.settings[name] for name in wanted} == wanted
    # A network that says nothing of it is fed as the data says.
    plain = ImageClassificationData.from_files(train_files=paths, train_targets=[*"aab"])
    plain.read_as(ImageClassifier(backbone="conv4").load_options, trains=True, by_class=False)
    assert (plain.modality.settings["image_size"], plain.modality.settings["resize"]) == (224, "cover")


def test_names_are_refused_where_they_say_nothing(tmp_path: Path) -> None:
    towers.clip(tmp_path)
    paths = towers.photos(tmp_path)
    with pytest.raises(ConfigError, match="'n01532829' says in no words"):
        Predictor.from_backbone(str(tmp_path), classes=["oak", "n01532829"])
    with pytest.warns(DataWarning, match="no words are not learned, nor are the others: n01532829"):
        made = Predictor.from_backbone(str(tmp_path), paths, ["oak", "oak", "n01532829"], strategy="tip_adapter")
    assert made.counts_ == {"n01532829": 1, "oak": 2}
    centroids = Predictor.from_backbone(str(tmp_path), paths, ["oak", "oak", "fir"])
    with pytest.raises(ConfigError, match=r"NearestCentroid cannot weigh them.*tip_adapter"):
        centroids.add_class("elm")
    assert list(centroids.classes_) == ["fir", "oak"]
    with pytest.raises(ConfigError, match=r"'elm' alone tells nothing of pictures.*side of words"):
        Predictor.from_backbone("conv4", paths, ["oak", "oak", "fir"], pretrained=False).add_class("elm")


def test_tip_adapter_of_texts_takes_names_apart_from_examples() -> None:
    texts, labels = ["my card is gone", "lost card", "fees of a transfer"], ["lost_card", "lost_card", "transfer_fee"]
    made = Predictor.from_backbone("small_transformer", texts, labels, strategy="tip_adapter", pretrained=False)
    keys, _, names, *_ = made.knowledge.state
    assert keys.shape[0] == 3 and names.norm(dim=1).numpy() == pytest.approx([100, 100], rel=1e-5)
    assert made.counts_ == {"lost_card": 3, "transfer_fee": 2}
    assert made.held_out_accuracy_.examples == 2  # of the class with two examples; names stay


def test_rungs_of_names_answer_as_what_they_save(tmp_path: Path) -> None:
    towers.clip(tmp_path)
    random = np.random.default_rng(0)
    colours = {"01_oak": (30, 90, 40), "cat": (160, 120, 60), "lamp": (240, 240, 120)}
    pictures = [
        Image.fromarray((np.array(colour) + random.integers(-20, 16, (32, 32, 3))).clip(0, 255).astype(np.uint8))
        for colour in colours.values()
        for _ in range(4)
    ]
    table = Table.build(pictures, [name for name in colours for _ in range(4)])
    (encoder,) = encoders_of([str(tmp_path)], "image", prompts=["a {}."]).values()
    examples = Examples(table, modality_of(encoder.reads, ""), "image", {"clip": encoder}).on("clip")
    support, queries = torch.tensor([0, 1, 4, 5, 8, 9]), torch.tensor([2, 3, 6, 7, 10, 11])
    zero_shot = Predictor.from_backbone(encoder, classes=list(colours))
    found = RUNGS["names"].logits(examples, support, queries)
    np.testing.assert_allclose(found.softmax(1), zero_shot.predict_proba([pictures[row] for row in queries]), atol=1e-6)
    for rung in ("names", "names_too", "tip_adapter"):
        saved = RUNGS[rung].model(examples)
        assert isinstance(saved, Predictor) and RUNGS[rung].saves and not RUNGS[rung].lacks(examples, "image")
        every = torch.arange(len(pictures))
        logits = answered(saved.knowledge, pictures).logits
        torch.testing.assert_close(logits, RUNGS[rung].logits(examples, every, every), atol=1e-4, rtol=1e-4)
        rows = torch.arange(12).view(1, 3, 4)
        right = RUNGS[rung].episodic(examples, rows, 2)
        alone = RUNGS[rung].logits(examples, support, queries).argmax(1) == examples.targets[queries]
        assert right is not None and right[0].tolist() == alone.view(3, 2).sum(1).tolist()
    silent = replace(examples, table=Table.build(pictures, [f"n0153282{number % 3}" for number in range(12)]))
    assert RUNGS["names"].lacks(silent, "image").startswith("the names of the classes are no words: n01532820")
