"""The adapted model on its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy import DataError, Predictor
from quickstudy.algorithms import STRATEGIES
from quickstudy.image import ImageClassifier
from quickstudy.nets import build_encoder


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
    one = model.adapt(images[::20], labels[::20])
    order = torch.randperm(6)
    other = model.adapt(images[::20][order], [labels[::20][i] for i in order])
    np.testing.assert_allclose(one.predict_proba(images), other.predict_proba(images), atol=1e-5)
    np.testing.assert_allclose(one.predict_proba(images)[[3]], one.predict_proba(images[3:4]), atol=1e-5)


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
        "assert len(Predictor(build_encoder('conv4'), algorithm, x, [0, 0, 1, 1]).predict(x)) == 4\n"
        "assert not [name for name in sys.modules if 'lightning' in name and 'utilities' not in name]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


NEED_TRAINING = {"anil", "boil", "maml", "metasgd", "relationnetworks", "reptile"}


@pytest.mark.parametrize("name", sorted(set(STRATEGIES.names()) - NEED_TRAINING))
def test_every_untrained_algorithm_learns_from_its_support(name: str) -> None:
    images, labels = colours(5)
    predictor = Predictor(build_encoder("conv4"), STRATEGIES[name](), images[::5], labels[::5])
    assert predictor.score(images, labels) == 1
