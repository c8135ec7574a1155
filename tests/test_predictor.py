"""The adapted model on its own."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import sklearn.base
import sklearn.metrics
import sklearn.model_selection
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from quickstudy import ConfigError, DataError, Predictor
from quickstudy.algorithms import STRATEGIES
from quickstudy.data.targets import encode
from quickstudy.errors import DataWarning
from quickstudy.image import ImageClassifier, Picture, load_image
from quickstudy.learning.changes import Change
from quickstudy.nets import Encoder, build_encoder

# Most tests ask about the very examples that were learned, which is told.
pytestmark = pytest.mark.filterwarnings("ignore:the model learned from:quickstudy.errors.DataWarning")


def colours(each: int) -> tuple[torch.Tensor, list[str]]:
    """Noisy one-colour images uint8 ``[3 * each, 3, 16, 16]``."""
    generator = torch.Generator().manual_seed(0)
    base = torch.eye(3).repeat_interleave(each, 0)[:, :, None, None] * 200
    images = base + 40 * torch.rand(3 * each, 3, 16, 16, generator=generator)
    return images.to(torch.uint8), [name for name in ("red", "green", "blue") for _ in range(each)]


@pytest.fixture
def model() -> ImageClassifier:
    return ImageClassifier(backbone="conv4", training_strategy="prototypicalnetworks")


def test_classifies_with_unequal_shots_and_speaks_sklearn(model: ImageClassifier) -> None:
    images, labels = colours(6)
    predictor = model.adapt(images[[0, 1, 6, 12, 13, 14]], [labels[i] for i in (0, 1, 6, 12, 13, 14)])
    assert list(predictor.classes_) == ["blue", "green", "red"]
    assert predictor.predict(images) == labels
    probabilities = predictor.predict_proba(images)
    assert probabilities.shape == (18, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert predictor.score(images, labels) == 1
    assert predictor.score(images, ["red"] * 18) == pytest.approx(6 / 18)
    assert predictor.predict(images[:0]) == []


def test_says_what_it_is(model: ImageClassifier) -> None:
    images, labels = colours(2)
    predictor = model.adapt(images, labels)
    assert repr(predictor) == "Predictor(PrototypicalNetworks, 3 classes: blue, green, red)"
    assert not predictor.transductive
    assert ImageClassifier(backbone="conv4", training_strategy="tim").adapt(images, labels).transductive


def test_prediction_does_not_depend_on_company_or_order(model: ImageClassifier) -> None:
    images, labels = colours(40)
    model.double()
    one = model.adapt(images[::20], labels[::20])
    order = torch.randperm(6)
    other = model.adapt(images[::20][order], [labels[::20][i] for i in order])
    np.testing.assert_allclose(one.predict_proba(images), other.predict_proba(images), atol=1e-6)
    np.testing.assert_allclose(one.predict_proba(images)[[3]], one.predict_proba(images[3:4]), atol=1e-6)


def test_takes_paths_bytes_pictures_arrays_and_tensors_alike(model: ImageClassifier, tmp_path: Path) -> None:
    images, labels = colours(1)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(tmp_path / f"{number}.png")
        picture.save(paths[-1])
    expected = model.adapt(images, labels).predict_proba(images)
    forms = [pictures, paths, [str(p) for p in paths], [p.read_bytes() for p in paths], images.numpy(), list(images)]
    for form in forms:
        np.testing.assert_allclose(model.adapt(form, labels).predict_proba(form), expected, atol=1e-6)
    assert model.adapt(images, labels).predict(paths[0]) == ["red"]
    assert model.adapt(images, labels).predict(str(paths[1])) == ["green"]


@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "maml"])
def test_takes_what_comes_one_by_one(strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = colours(2)
    for number, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    options = {"adaptation_steps": 1, "head": "shared"} if strategy == "maml" else {}
    model = ImageClassifier(backbone="conv4", training_strategy=strategy, training_strategy_kwargs=options)
    paths = sorted(tmp_path.glob("*.png"))
    made = model.adapt(iter(paths), (label for label in labels))
    assert made.counts_ == {"blue": 2, "green": 2, "red": 2}
    asked: list[Callable[[], Any]] = [
        lambda: (path for path in paths),
        lambda: map(str, paths),
        lambda: filter(None, paths),
        lambda: reversed(list(reversed(paths))),
        lambda: dict.fromkeys(paths).keys(),
        lambda: dict(enumerate(paths)).values(),
        lambda: deque(paths),
        lambda: pd.Series(paths),
    ]
    for one_by_one in asked:
        assert made.predict(one_by_one()) == made.predict(paths)
        assert made.rank(one_by_one(), nearest=2) == made.rank(paths, nearest=2)
        assert made.nearest(one_by_one(), 1) == made.nearest(paths, 1)
        assert made.score(one_by_one(), iter(labels)) == made.score(paths, labels)
    np.testing.assert_array_equal(made.predict_proba(iter(paths)), made.predict_proba(paths))
    monkeypatch.chdir(tmp_path)
    with pytest.warns(DataWarning, match=r"^6 pictures for the class 'all' .*: '\d.png' and one of '"):
        made.add_class("all", Path().glob("*.png"))
    made.calibrate(map(str, paths), iter(labels))
    assert made.counts_["all"] == 6 and made.confidence_.source.startswith("6 examples")
    assert made.predict(p for p in ()) == []
    backbone = Predictor.from_backbone("conv4", map(str, paths), iter(labels))
    assert backbone.counts_ == {"blue": 2, "green": 2, "red": 2}
    for wrong in (set(paths), dict(zip(paths, labels, strict=True))):
        with pytest.raises(DataError, match="the images are a"):
            made.predict(wrong)


def test_takes_arrays_with_colours_last(model: ImageClassifier) -> None:
    images, labels = colours(1)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()).resize((24, 20)) for image in images]
    model.load_options = {"image_size": 16, "image_mode": "RGB"}
    expected = model.adapt(pictures, labels).predict_proba(pictures)
    arrays = [np.array(picture) for picture in pictures]  # [20, 24, 3]
    for form in (arrays, np.stack(arrays), [array[:, :, ::-1][:, :, ::-1] for array in arrays]):
        np.testing.assert_allclose(model.adapt(form, labels).predict_proba(form), expected, atol=1e-6)
    grey = np.array(pictures[0].convert("L"))
    assert torch.equal(load_image(grey, 16), load_image(pictures[0].convert("L"), 16))
    assert load_image(grey, 16, "L").shape == (1, 16, 16)
    for shape in ((3, 20, 24), (1, 20, 24), (3, 3, 3), (3, 20, 3), (1, 20, 3), (4, 20, 24)):
        array = np.zeros(shape, np.uint8)
        assert load_image(array, 16).shape == shape
    assert torch.equal(load_image(arrays[0] / 255, 16), load_image(arrays[0], 16))


def test_training_on_does_not_change_a_predictor(model: ImageClassifier) -> None:
    images, labels = colours(2)
    predictor = model.adapt(images, labels)
    before = predictor.predict_proba(images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert (predictor.predict_proba(images) == before).all()


def test_adapting_leaves_the_model_as_it_was(model: ImageClassifier) -> None:
    images, labels = colours(2)
    model.train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.adapt(images, labels)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_bad_support_sets(model: ImageClassifier, tmp_path: Path) -> None:
    images, labels = colours(2)
    with pytest.raises(DataError, match="6 examples but 5 labels"):
        model.adapt(images, labels[:5])
    with pytest.raises(DataError, match="no examples were given"):
        model.adapt([], [])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    with pytest.raises(DataError, match=r"broken\.png"):
        model.adapt([tmp_path / "broken.png"], ["x"])
    with pytest.raises(DataError, match=r"nowhere\.png"):
        model.adapt([tmp_path / "nowhere.png"], ["x"])


def test_needs_no_lightning() -> None:
    script = (
        "import sys, torch; from quickstudy import Predictor; from quickstudy.algorithms import STRATEGIES\n"
        "from quickstudy.nets import build_encoder\n"
        "x = torch.rand(4, 3, 16, 16); algorithm = STRATEGIES['prototypicalnetworks']()\n"
        "assert len(Predictor(build_encoder('conv4'), algorithm).fit(x, [0, 0, 1, 1]).predict(x)) == 4\n"
        "assert not [name for name in sys.modules if 'lightning' in name and 'utilities' not in name]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "reader", ["from quickstudy.saved.model_folder import read", "from quickstudy import Predictor as P; read = P.load"]
)
def test_a_process_that_knows_nothing_of_pictures_finds_their_load(reader: str, tmp_path: Path) -> None:
    encoder, load = build_encoder("conv4", {"hidden": 8}), partial(load_image, image_size=16)
    Predictor(encoder, STRATEGIES["nearest_centroid"](), load).save(tmp_path)
    subprocess.run([sys.executable, "-c", f"{reader}; read({str(tmp_path)!r})"], check=True)


def test_what_changes_answers_as_what_was_learned_at_once(model: ImageClassifier) -> None:
    images, labels = colours(6)
    for name in ("prototypicalnetworks", "nearest_neighbour", "linear_probe", "protomaml"):
        encoder, algorithm = build_encoder("conv4").double(), STRATEGIES[name]().double()
        whole = Predictor(encoder, algorithm).fit(images, labels)
        grown = Predictor(encoder, algorithm).add_class("thing", images[:2]).add_class("green", images[6:12])
        grown.add_class("blue", images[12:]).add_class("other", 255 - images[3:4])
        grown.add_examples("thing", images[2:6]).rename_class("thing", "red").remove_class("other")
        assert grown.counts_ == {"red": 6, "green": 6, "blue": 6}
        columns = [list(whole.classes_).index(name) for name in grown.classes_]
        np.testing.assert_allclose(grown.predict_proba(images), whole.predict_proba(images)[:, columns], atol=1e-6)
        for name in ("red", "blue"):
            grown.remove_class(name)
        assert grown.predict(images[:2], may_be_unknown=False) == ["green"] * 2
        with pytest.raises(DataError, match="it knows no class yet: type fit"):
            grown.remove_class("green").predict(images[:1])
        assert grown.add_class("again", images[:1]).predict(images[:1]) == ["again"]


def test_a_change_that_fails_changes_nothing(model: ImageClassifier) -> None:
    images, labels = colours(2)
    predictor = model.adapt(images, labels)
    before = predictor.predict_proba(images)
    bad = torch.full((1, 3, 16, 16), torch.nan)
    for change, message in (
        (lambda: predictor.add_class("red", images), "the class 'red' exists: type add_examples"),
        (lambda: predictor.add_class("", images), "a class needs a name"),
        (lambda: predictor.add_class("new", []), "no examples were given"),
        (lambda: predictor.add_class("new", bad), "not finite"),
        (lambda: predictor.add_examples("red", bad), "not finite"),
        (lambda: predictor.add_class("new", ["gone.png"]), "gone.png"),
        (lambda: predictor.add_class("new", torch.zeros(1, 3, 64, 64)), "give inputs of the size that it was trained"),
        (lambda: predictor.predict(torch.zeros(1, 3, 64, 64)), "give inputs of the size that it was trained"),
        (lambda: predictor.add_examples("rod", images), "there is no class 'rod'; did you mean 'red'. Known: blue"),
        (lambda: predictor.remove_class("rod"), "there is no class 'rod'"),
        (lambda: predictor.rename_class("red", "blue"), "the class 'blue' exists"),
    ):
        with pytest.raises(DataError, match=message):
            change()
    assert (predictor.predict_proba(images) == before).all()
    assert predictor.counts_ == {"blue": 2, "green": 2, "red": 2}
    fixed = Predictor(build_encoder("conv4"), STRATEGIES["anil"]()).fit(images, labels)
    with pytest.raises(ConfigError, match="was made for 3 ways, and these are 4"):
        fixed.add_class("new", images[:1])
    assert len(fixed.classes_) == 3


def test_from_a_backbone(tmp_path: Path) -> None:
    images, labels = colours(3)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    predictor = Predictor.from_backbone("resnet18", pictures, labels, pretrained=False)
    assert predictor.predict(pictures) == labels
    with pytest.raises(ConfigError, match="unknown training_strategy 'protnet'"):
        Predictor.from_backbone("conv4", images, labels, strategy="protnet")


def test_a_model_of_timm_that_saw_no_data_reads_pictures_as_from_a_backbone() -> None:
    rows, labels = colours(3)
    pictures = [Image.fromarray(row.permute(1, 2, 0).numpy()) for row in rows]
    pictures[0] = pictures[0].resize((40, 30))
    model = ImageClassifier(backbone="resnet18", pretrained=False, training_strategy="nearest_centroid")
    same = Predictor.from_backbone(model.encoder.backbone, pictures, labels)
    load = model.adapt(pictures, labels).get_params()["load"]
    assert load == same.modality == Picture(224) and load(pictures[0]).shape == (3, 224, 224)
    assert model.adapt(rows, labels).modality == Picture(), "a tensor is fed as it is"
    model.load_options = {"image_size": 48}
    assert model.adapt(pictures, labels).modality == Picture(48)


def test_pictures_of_several_sizes_say_where_a_size_goes() -> None:
    model = ImageClassifier(backbone="conv4", training_strategy="nearest_centroid")
    pictures = [Image.new("RGB", (32, 32)), Image.new("RGB", (40, 32), "white")]
    with pytest.raises(DataError, match=r"all inputs must agree.*model.load_options = \{'image_size': 84\}"):
        model.adapt(pictures, ["a", "b"])
    model.load_options = {"image_size": 32}
    assert list(model.adapt(pictures, ["a", "b"]).classes_) == ["a", "b"]


def test_scikit_learn_takes_it_for_one_of_its_own(model: ImageClassifier) -> None:
    images, labels = colours(6)
    predictor = model.adapt(images, labels)
    assert set(predictor.get_params()) == {"encoder", "algorithm", "load"}
    again = sklearn.base.clone(predictor)
    assert list(again.classes_) == []
    scores = sklearn.model_selection.cross_val_score(predictor, images.numpy(), labels, cv=3)
    assert scores.tolist() == [1, 1, 1]
    codes = np.repeat([2, 0, 1], 6)
    scores = sklearn.model_selection.cross_val_score(predictor, images.numpy(), codes, cv=3)
    assert scores.tolist() == [1, 1, 1]


# ---- labels


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([7, -1, 10], [-1, 7, 10]),
        (np.array([2, 0, 1], np.uint8), [0, 1, 2]),
        (torch.tensor([2, 0, 1]), [0, 1, 2]),
        (pd.Series([2, 0, 1], dtype="category"), [0, 1, 2]),
        ([2.0, 0.0, 1.0], [0, 1, 2]),
        (np.eye(3)[[2, 0, 1]], [0, 1, 2]),
        ([np.bool_(True), np.bool_(False)], [False, True]),
        (np.array(["c", "a", "b"]), ["a", "b", "c"]),
        (["2", "0", "1"], ["0", "1", "2"]),
    ],
    ids=repr,
)
def test_it_answers_in_the_type_that_it_was_taught(labels: Any, classes: list[Any], tmp_path: Path) -> None:
    images = colours(1)[0][: len(labels)]
    made = Predictor(build_encoder("conv4", {"hidden": 8}), STRATEGIES["prototypicalnetworks"]()).fit(images, labels)
    made.save(tmp_path)
    truth = [classes[code] for code in encode(labels).codes]
    for predictor in (made, Predictor.load(tmp_path)):
        assert predictor.classes_.tolist() == classes
        assert list(predictor.counts_) == classes
        answers = predictor.predict(images)
        assert answers == truth
        assert predictor.score(images, labels) == 1
        ranked = predictor.rank(images, 1, nearest=1)
        assert [each.label for each in ranked] == [each.ranking[0][0] for each in ranked] == truth
        assert [each.nearest[0].name for each in ranked] == truth
        sets = predictor.calibrate(images, labels, reject_rate=0).predict_set(images, 0.9)
        for label in (*answers, *predictor.counts_, *[name for names in sets for name in names]):
            assert type(label) is type(classes[0])
        if np.ndim(labels) == 1:
            assert sklearn.metrics.accuracy_score(np.asarray(labels), answers) == 1


def test_names_are_taken_as_fit_took_them() -> None:
    images = colours(1)[0]
    predictor = Predictor(build_encoder("conv4", {"hidden": 8}), STRATEGIES["nearest_centroid"]())
    predictor.fit(images, [0, 1, 2]).add_class(3, 255 - images[:1]).add_examples(np.int64(3), 255 - images[1:2])
    predictor.rename_class(torch.tensor(2), 20).remove_class(0.0)  # type: ignore[arg-type]  # which fit takes, too
    assert predictor.counts_ == {1: 1, 20: 1, 3: 2}
    assert 3 in predictor and np.int32(20) in predictor
    assert not [name for name in ("3", True, 2, None, [3], 2.5) if name in predictor]
    assert predictor.as_class("3") == 3 and predictor.as_class("three") == "three"
    for change, message in (
        (lambda: predictor.add_examples("3", images), "there is no class '3': the classes are whole numbers: type 3. "),
        (lambda: predictor.add_class("4", images), "are whole numbers, and a further one cannot be '4': type 4"),
        (lambda: predictor.rename_class(3, "cat"), "are whole numbers, and a further one cannot be 'cat'$"),
        (lambda: predictor.add_class(True, images), "cannot be True: type 1"),
        (lambda: predictor.add_class(2.5, images), "a string, a whole number or a bool; this is 2.5"),  # type: ignore[arg-type]
        (lambda: predictor.add_class(None, images), "a string, a whole number or a bool; this is None"),  # type: ignore[arg-type]
        (lambda: predictor.add_class(3, images), r"the class 3 exists: type add_examples\(3, ...\)"),
        (lambda: predictor.score(images, ["cat"] * 3), "the classes are whole numbers, and the label 'cat' is none"),
        (lambda: predictor.fit(images, [0, 1, True]), "target 0 is 0 and target 2 is True"),
    ):
        with pytest.raises(DataError, match=message):
            change()
    assert predictor.counts_ == {1: 1, 20: 1, 3: 2}
    assert predictor.score(images[1:], ["1", "20"]) == 1  # text that means a class is that class
    for name in (1, 20, 3):
        predictor.remove_class(name)
    assert predictor.add_class("cat", images).predict(images[:1]) == ["cat"]
    with pytest.raises(DataError, match="the classes are strings, and a further one cannot be 1: type '1'"):
        predictor.add_class(1, images)
    assert Predictor(**predictor.get_params()).fit(images, [True, False, True]).as_class("true") is True


def test_two_forms_of_one_name_are_one_class(tmp_path: Path) -> None:
    images, (composed, apart) = colours(1)[0], ("caf\u00e9", "cafe\u0301")
    predictor = Predictor(build_encoder("conv4", {"hidden": 8}), STRATEGIES["prototypicalnetworks"]())
    predictor.fit(images, [composed, apart, "tea"])
    assert predictor.counts_ == {composed: 2, "tea": 1}
    assert apart in predictor and predictor.score(images, [apart, composed, "tea"]) == 1
    with pytest.raises(DataError, match="exists"):
        predictor.add_class(apart, images)
    predictor.rename_class("tea", "the\u0301").remove_class(apart)
    assert predictor.classes_.tolist() == ["th\u00e9"]
    predictor.save(tmp_path)
    described = tmp_path / "predictor.json"
    described.write_text(described.read_text().replace("th\\u00e9", "the\\u0301"))  # as an older quickstudy kept it
    assert Predictor.load(tmp_path).add_examples("th\u00e9", images).counts_ == {"th\u00e9": 4}


# ---- folders


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_a_folder_holds_all_of_it(name: str, tmp_path: Path) -> None:
    images, labels = colours(3)
    predictor = Predictor(build_encoder("conv4", {"hidden": 8}), STRATEGIES[name]()).fit(images, labels)
    predictor.save(tmp_path / "pets")
    code = (
        "import sys, torch, numpy as np; from quickstudy import Predictor\n"
        "images = torch.load(sys.argv[2]); predictor = Predictor.load(sys.argv[1])\n"
        "np.save(sys.argv[3], predictor.predict_proba(images)); print(predictor.counts_)\n"
        "predictor.rename_class('red', 'rot').save(sys.argv[1])\n"
        "assert not [name for name in sys.modules if 'lightning' in name and 'utilities' not in name]"
    )
    torch.save(images, tmp_path / "images.pt")
    before = {path.name for path in (tmp_path / "pets").iterdir()}
    arguments = [str(tmp_path / part) for part in ("pets", "images.pt", "answers.npy")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == "{'blue': 3, 'green': 3, 'red': 3}\n"
    assert (np.load(tmp_path / "answers.npy") == predictor.predict_proba(images)).all()
    assert list(Predictor.load(tmp_path / "pets").classes_) == ["blue", "green", "rot"]
    assert {path.name for path in (tmp_path / "pets").iterdir()} == before  # the encoder's file is the same


NEED_TRAINING = {"anil", "boil", "maml", "metasgd", "relationnetworks", "reptile"}


@pytest.mark.parametrize("name", sorted(set(STRATEGIES.names()) - NEED_TRAINING))
def test_every_untrained_algorithm_learns_from_its_support(name: str) -> None:
    images, labels = colours(5)
    predictor = Predictor(build_encoder("conv4"), STRATEGIES[name]()).fit(images[::5], labels[::5])
    assert predictor.score(images, labels) == 1


def test_shows_the_nearest_examples_in_words_and_as_a_picture(model: ImageClassifier) -> None:
    images, labels = colours(4)
    predictor = model.adapt(images, labels)
    found = predictor.nearest(images[5:6], 3)[0]
    assert (found[0].name, found[0].number) == ("green", 1)
    assert found[0].distance == pytest.approx(0, abs=1e-3)
    assert [each.name for each in found] == ["green"] * 3
    assert [each.distance for each in found] == sorted(each.distance for each in found)
    assert Image.open(io.BytesIO(found[0].thumbnail)).size == (16, 16)
    few, many = predictor.explain(images[5], 1), predictor.explain(images[5], 99)
    assert few.height == many.height
    assert few.width < many.width
    middle = few.getpixel((8 + 48, 8 + 48))
    assert isinstance(middle, tuple)
    assert middle[1] > max(middle[0], middle[2])  # the picture itself, which is green


@pytest.mark.parametrize(
    "name",
    [
        "a\nb",
        "a\r\u2028\x00\x1b[31m",
        "x" * 100_000,
        "日本語の犬 🐕",
        "\u202eשלום",
        " ",
        "a b " * 50,
        3,
        True,
    ],
)
def test_any_name_is_explained(name: Any, model: ImageClassifier) -> None:
    images = colours(1)[0][:2]
    other: Any = {int: 4, bool: False, str: "lion"}[type(name)]
    predictor = model.adapt(images, [name, other])
    expected = model.adapt(images, ["tiger", "lion"]).explain(images[0], 1)
    found = predictor.explain(images[0], 1)
    assert found.size == expected.size
    pictures = (0, 0, found.width, 8 + 96)
    assert found.crop(pictures).tobytes() == expected.crop(pictures).tobytes()
    assert found.crop((0, 104, 112, found.height)).getextrema() != ((255, 255),) * 3  # something is written below
    assert "\n" not in repr(predictor) and len(repr(predictor)) < 200


def test_a_caption_says_what_was_predicted_within_its_width(
    model: ImageClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda self, place, text, *more: (written.append(text), draw(self, place, text, *more)),
    )
    images = colours(1)[0][:2]
    model.adapt(images, ["lion", "an\nibex with very long horns"]).explain(images[0], 2)
    assert written[:2] == ["answer: lion", "what was asked"]
    assert written[2:4] == ["lion", "the same"] and written[6].endswith(" away")
    assert written[4:6] == [r"an\nibex with", "very long horns"]
    written.clear()
    model.adapt(images, ["w" * 99, "lion"]).explain(images[0], 1)
    assert written[0] == "answer:" and written[1].endswith("ww...")
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 11)
    assert all(font.getlength(text) <= 96 for text in written)


def test_what_is_no_picture_is_explained_without_one() -> None:
    inputs = torch.rand(4, 3, 16, 16) - 0.5
    predictor = ImageClassifier(backbone="conv4", training_strategy="maml").adapt(inputs, ["a", "a", "b", "b"])
    found = predictor.nearest(inputs[3:], 2)[0]
    assert (found[0].name, found[0].number, found[0].thumbnail) == ("b", 1, b"")
    assert predictor.explain(inputs[3]).mode == "RGB"


def test_a_change_is_told_before_it_counts_and_can_be_made_elsewhere(model: ImageClassifier, tmp_path: Path) -> None:
    images, labels = colours(4)
    predictor = model.adapt(images[:8], labels[:8])
    predictor.save(tmp_path)
    other = Predictor.load(tmp_path)
    told: list[Change] = []
    predictor.before_change = told.append
    predictor.add_class("blue", images[8:10]).add_examples("blue", images[10:]).rename_class("red", "rouge")
    predictor.remove_class("green")
    assert [each.kind for each in told] == ["add", "add", "rename", "remove"]
    for change in told:
        other.apply(change)
    assert other.counts_ == predictor.counts_ == {"rouge": 4, "blue": 4}
    np.testing.assert_array_equal(other.predict_proba(images), predictor.predict_proba(images))
    assert other.nearest(images[8:9], 1) == predictor.nearest(images[8:9], 1)

    def refuse(change: Change) -> None:
        raise OSError("the disk is full")

    before = predictor.predict_proba(images)
    predictor.before_change = refuse
    for attempt in (
        lambda: predictor.add_class("green", images[4:8]),
        lambda: predictor.rename_class("rouge", "red"),
        lambda: predictor.remove_class("blue"),
    ):
        with pytest.raises(OSError, match="full"):
            attempt()
    assert predictor.counts_ == {"rouge": 4, "blue": 4}
    np.testing.assert_array_equal(predictor.predict_proba(images), before)


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_save_that_fails_leaves_what_was_there(
    written: int, model: ImageClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = colours(4)
    first, place = model.adapt(images, labels), tmp_path / "deep" / "pets"
    other = ImageClassifier(backbone="conv4", training_strategy="prototypicalnetworks").adapt(images, labels)
    fsync = os.fsync

    def save(predictor: Predictor) -> None:
        left = iter(range(written))

        def full(number: int) -> None:
            if stat.S_ISREG(os.fstat(number).st_mode) and next(left, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(number)

        with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
            patched.setattr(os, "fsync", full)
            predictor.save(place)

    save(first)
    assert not place.exists()
    first.save(place)
    there = {each.name: each.read_bytes() for each in place.iterdir()}
    save(other)
    assert {each.name: each.read_bytes() for each in place.iterdir()} == there
    other.save(place)
    assert Predictor.load(place).predict(images) == other.predict(images)


def test_ranks_as_it_predicts(model: ImageClassifier) -> None:
    images, labels = colours(6)
    predictor = model.adapt(images, labels)
    answers = predictor.rank(images, 2)
    assert [each.label for each in answers] == predictor.predict(images)
    chances = predictor.predict_proba(images)
    for answer, chances_W in zip(answers, chances, strict=True):
        assert [name for name, _ in answer.ranking] == predictor.classes_[np.argsort(-chances_W)[:2]].tolist()
        np.testing.assert_allclose([chance for _, chance in answer.ranking], -np.sort(-chances_W)[:2], rtol=1e-6)


def test_an_exact_copy_is_no_distance_away() -> None:
    examples = 100 + 10 * torch.randn(60, 12)
    predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES["nearest_centroid"]()).fit(examples, [0, 1] * 30)
    found = [near[0] for near in predictor.nearest(examples, 2)]
    assert [(near.name, near.number, near.distance) for near in found] == [
        (row % 2, row // 2, 0.0) for row in range(60)
    ]
