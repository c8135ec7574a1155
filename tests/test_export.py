"""What leaves the house: a graph and its classes, which answer elsewhere as the predictor does here."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, MissingPackageError, Predictor
from quickstudy.algorithms import STRATEGIES
from quickstudy.image.modality import load_image
from quickstudy.learning.answering import answered
from quickstudy.modality.thumbnails import from_tensor
from quickstudy.nets import Encoder, build_encoder
from quickstudy.saved import export, graph_files

TRANSDUCTIVE = ("bdcspn", "laplacianshot", "tim")
SHARED = ("anil", "maml", "metasgd", "reptile")  # whose head is otherwise for one number of classes
LOAD = partial(load_image, image_size=28)


def pictures(classes: int, each: int, first: int = 0) -> tuple[Tensor, list[str]]:
    """Noisy pictures uint8 ``[N, 3, 28, 28]``, a coarse pattern for each class."""
    coarse = torch.rand(classes, 3, 4, 4, generator=torch.Generator().manual_seed(first))
    clean = nn.functional.interpolate(220 * coarse, (28, 28)).repeat_interleave(each, 0)
    noise = 35 * torch.rand(clean.shape, generator=torch.Generator().manual_seed(first + 1))
    return (clean + noise).to(torch.uint8), [f"class {first + n}" for n in range(classes) for _ in range(each)]


def shallow() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2))


def adapted(strategy: str = "prototypicalnetworks", backbone: str | nn.Module = "conv4", **options: Any) -> Predictor:
    encoder = build_encoder(backbone, {"hidden": 8} if backbone == "conv4" else None)
    for _ in range(20):  # running statistics of its own
        encoder(pictures(8, 2, first=90)[0])
    if strategy in SHARED:
        options = {"head": "shared", **options}
    return Predictor(encoder, STRATEGIES[strategy](**options), LOAD).fit(*pictures(4, 3))


def about(classes: Path) -> dict[str, Any]:
    with safe_open(classes, "np") as file:
        found: dict[str, Any] = json.loads(file.metadata()["quickstudy"])
    return found


def answers(model: Path, classes: Path, images: Tensor) -> tuple[list[str], NDArray[np.float32]]:
    """Class names and probabilities, by onnxruntime alone."""
    with safe_open(classes, "np") as file:
        learned = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    logits, familiarity = session.run(None, {"images": images.numpy(), **learned})
    names = np.array(about(classes)["classes"], object)[logits.argmax(1)]
    names[familiarity < about(classes)["unknown_below"]] = "unknown"
    return names.tolist(), torch.from_numpy(logits / about(classes)["temperature"]).softmax(1).numpy()


@pytest.mark.parametrize("kind", [int, bool])
def test_classes_are_named_in_the_type_that_they_were_taught_in(kind: type, tmp_path: Path) -> None:
    images, _ = pictures(2, 2)
    predictor = Predictor(Encoder(shallow()), STRATEGIES["prototypicalnetworks"](), LOAD)
    done = predictor.fit(images, [kind(code) for code in (1, 1, 0, 0)]).export(tmp_path / "pets.onnx")
    assert [(name, type(name)) for name in about(done.classes)["classes"]] == [(kind(0), kind), (kind(1), kind)]
    check(predictor, done, images)


def check(predictor: Predictor, done: export.Exported, images: Tensor) -> None:
    names, probabilities = answers(done.model, done.classes, images)
    assert names == predictor.predict(images)
    np.testing.assert_allclose(probabilities, predictor.predict_proba(images), atol=1e-4)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES.names() if name not in TRANSDUCTIVE])
def test_answers_alike_and_takes_further_classes(strategy: str, tmp_path: Path) -> None:
    predictor, images = adapted(strategy, shallow()), pictures(6, 3)[0]
    done = predictor.export(tmp_path / "pets.onnx")
    assert done.flips == 0
    check(predictor, done, images)
    before = done.model.read_bytes()
    if predictor.knowledge.algorithm.fixed_ways:
        predictor.add_examples("class 0", images[12:15])
    else:
        predictor.add_class("further", images[12:15])
    check(predictor, predictor.export(tmp_path / "pets.onnx", only_classes=True), images)
    if not predictor.knowledge.algorithm.fixed_ways:
        for name in predictor.classes_[1:]:
            predictor.remove_class(name)
        check(predictor, predictor.export(tmp_path / "pets.onnx", only_classes=True), images)
    assert done.model.read_bytes() == before


@pytest.mark.parametrize("strategy", TRANSDUCTIVE)
def test_answers_that_depend_on_each_other_are_refused(strategy: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"all inputs of a call together.*prototypicalnetworks"):
        adapted(strategy).export(tmp_path / "pets.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "maml"])
def test_through_torch_export(strategy: str, tmp_path: Path) -> None:
    predictor = adapted(strategy)
    predictor.export(tmp_path / "pets.pt2")
    images = pictures(6, 3)[0]
    predictor.add_class("further", images[12:15])
    done = predictor.export(tmp_path / "pets.pt2", only_classes=True)
    assert done.flips == 0
    graph = torch.export.load(done.model).module()
    logits, familiarity = graph(images, load_file(done.classes))
    expected = answered(predictor.knowledge, images)
    torch.testing.assert_close(logits, expected[0])
    torch.testing.assert_close(familiarity, expected[1])


def test_without_torch_or_quickstudy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictor, images = adapted(), torch.cat([pictures(4, 5)[0], pictures(8, 1, first=70)[0]])
    done = predictor.export(tmp_path / "pets.onnx")
    assert done.inputs == 8 and done.difference < 1e-3
    assert capsys.readouterr() == ("", "")  # a library says nothing of itself
    found = about(done.classes)
    assert found["classes"] == list(predictor.classes_)
    assert found["temperature"] == predictor.confidence_.temperature
    assert found["unknown_below"] == predictor.confidence_.threshold
    assert found["input"] == {"shape": [3, 28, 28], "dtype": "uint8"} and found["image_mode"] == "RGB"
    assert found["model"]["sha256"] == hashlib.sha256(done.model.read_bytes()).hexdigest()
    inputs = onnxruntime.InferenceSession(done.model).get_inputs()
    assert [(each.name, each.shape) for each in inputs] == [
        ("images", ["N", 3, 28, 28]),
        ("means", ["W", 8]),
        ("state", ["W", 8]),
    ]
    names = []
    for number, image in enumerate([*images[::3], *(each.flip(1).repeat(1, 2, 1)[:, :40] for each in images[:4])]):
        from_tensor(image).save(tmp_path / "who.png")
        (tmp_path / "who.png").rename(tmp_path / "who.jpg")
        code = _documented() + "\nimport sys\nassert not {'torch', 'quickstudy'} & set(sys.modules)"
        ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        ((label, ((likeliest, chance),), _),) = predictor.rank([tmp_path / "who.jpg"], 1)
        told, probability = ran.stdout.rsplit(maxsplit=1)
        assert told == f"{label} {likeliest}", number
        assert float(probability) == pytest.approx(chance, abs=1e-4)
        names.append(label)
    assert "unknown" in names and len(set(names)) > 3


def _documented() -> str:
    """Return the program of docs/serve.md that answers without quickstudy."""
    page = (Path(__file__).parents[1] / "docs" / "serve.md").read_text(encoding="utf-8")
    (program,) = [block for block in page.split("```python\n")[1:] if "onnxruntime" in block]
    return program.split("```")[0]


def test_a_backbone_of_timm_and_its_normalisation(tmp_path: Path) -> None:
    encoder = build_encoder("efficientnet_lite0", pretrained=False)
    assert encoder.mean is not None
    predictor = Predictor(encoder, STRATEGIES["nearest_centroid"](), LOAD).fit(*pictures(3, 3))
    done = predictor.export(tmp_path / "pets.onnx")
    check(predictor, done, pictures(3, 4)[0])


def test_given_inputs_tell_shape_and_type(tmp_path: Path) -> None:
    points = torch.randn(12, 5)
    predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES["linear_probe"]()).fit(points, list("abc" * 4))
    predictor._knowledge = replace(predictor.knowledge, like=None)  # as in a model that an older quickstudy saved
    with pytest.raises(ConfigError, match=r"size of its inputs is not known.*inputs="):
        predictor.export(tmp_path / "pets.onnx")
    done = predictor.export(tmp_path / "pets.onnx", images=points)
    assert about(done.classes)["input"] == {"shape": [5], "dtype": "float32"}
    assert done.inputs == 20
    check(predictor, done, points)


@pytest.mark.parametrize("form", [(torch.uint8, 20), (torch.float32, 24)], ids=str)
def test_inputs_that_were_shown_tell_shape_and_type(form: tuple[torch.dtype, int], tmp_path: Path) -> None:
    dtype, size = form
    images = nn.functional.interpolate(pictures(3, 2)[0].float(), (size, size))
    images = images.to(dtype) if dtype == torch.uint8 else images / 64 - 2  # of 0..255 they would be bytes, too
    load = partial(load_image, image_size=224)  # which leaves tensors as they are
    made = Predictor(Encoder(shallow()), STRATEGIES["nearest_centroid"](), load).fit(images, list("aabbcc"))
    made.save(tmp_path / "pets")
    for predictor in (made, Predictor.load(tmp_path / "pets", backbone=shallow())):
        done = predictor.export(tmp_path / "pets.onnx")
        shown = {"shape": [3, size, size], "dtype": str(dtype).removeprefix("torch.")}
        assert about(done.classes)["input"] == shown
        check(predictor, done, images)


def test_a_graph_that_answers_otherwise_is_not_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = adapted()

    def worse(content: bytes) -> Any:
        right = graph_files._run_pt2(content)
        return lambda images, tensors: tuple(1.01 * part for part in right(images, tensors))

    monkeypatch.setitem(graph_files._FORMS, ".pt2", (graph_files._pt2, worse))
    with pytest.raises(ConfigError, match="does not answer as PrototypicalNetworks on Conv4 does: logits of up to"):
        predictor.export(tmp_path / "pets.pt2")
    assert not list(tmp_path.iterdir())


def test_classes_are_not_written_for_another_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*export without only_classes"):
        adapted().export(tmp_path / "pets.pt2", only_classes=True)
    predictor = adapted()
    done = predictor.export(tmp_path / "pets.pt2")
    before = done.classes.read_bytes()
    with pytest.raises(ConfigError, match="another model's"):
        adapted().export(tmp_path / "pets.pt2", only_classes=True)  # whose encoder has other weights
    assert done.classes.read_bytes() == before
    done.classes.write_bytes(b"damaged")
    with pytest.raises(DataError, match="is damaged"):
        predictor.export(tmp_path / "pets.pt2", only_classes=True)


class Undecided(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) if images.mean() > 0.3 else images.amax((2, 3))


def test_what_cannot_be_exported_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = adapted()
    with pytest.raises(ConfigError, match=r"neither .onnx nor .pt2: type export\('pets.onnx'\)"):
        predictor.export("pets.tflite")
    with pytest.raises(ConfigError, match=r"learned from \(8, 1, 1\).*inputs="):
        predictor.export(tmp_path / "pets.pt2", inputs=torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    for name in predictor.classes_:
        predictor.remove_class(name)
    with pytest.raises(DataError, match="no class to export"):
        predictor.export(tmp_path / "pets.pt2")
    undecided = Predictor(Encoder(Undecided()), STRATEGIES["nearest_centroid"](), LOAD).fit(*pictures(3, 3))
    with pytest.raises(ConfigError, match=r"NearestCentroid on Undecided cannot be exported as .pt2"):
        undecided.export(tmp_path / "pets.pt2")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingPackageError, match=r"'onnxscript'.*pip install 'quickstudy\[export\]'"):
        predictor.export(tmp_path / "pets.onnx")
    assert not list(tmp_path.iterdir())


def test_a_predictor_alone_imports_nothing_of_it() -> None:
    code = "import sys, quickstudy.predictor as _; assert not {'onnx', 'onnxruntime', 'onnxscript'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
