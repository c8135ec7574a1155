"""A model that learned numbers is one value: further examples make another, files hold it, a graph answers as it."""

from __future__ import annotations

import asyncio
import io
import json
import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors
import sklearn.base
import sklearn.metrics
import sklearn.model_selection
import torch
from PIL import Image
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, DataWarning, NumberPredictor, Predictor, QuickstudyError, Task
from quickstudy.algorithms import STRATEGIES
from quickstudy.image import load_image
from quickstudy.kinds.regression import Regression
from quickstudy.learning.changes import Change
from quickstudy.nets import Encoder, build_encoder
from quickstudy.predictor import Adapted
from quickstudy.saved import model_folder
from quickstudy.saved.export import _compared
from quickstudy.saved.graph_files import written_and_read
from quickstudy.serve.app import build
from quickstudy.serve.service import Service
from quickstudy.trained import TrainedModel

UNITS = Regression(mean=300.0, deviation=100.0)
LEARN = ["r2d2", "maml", "anil", "reptile", "metasgd", "boil"]
"""All that learn numbers."""


def curve(count: int, seed: int = 0) -> tuple[Tensor, list[float]]:
    """Points on a line, in units in which float32 rounds."""
    inputs = 2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 1
    return inputs, [300 + 120 * each for each in inputs[:, 0].tolist()]


def backbone() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh())


def made(strategy: str = "r2d2", points: int = 6) -> NumberPredictor:
    algorithm, encoder = STRATEGIES[strategy](), Encoder(backbone())
    return NumberPredictor(encoder.eval(), algorithm.eval(), kind=UNITS).fit(*curve(points))


def test_these_learn_numbers() -> None:
    assert sorted(LEARN) == sorted(name for name in STRATEGIES.registered() if STRATEGIES[name].numbers)


@pytest.mark.parametrize("strategy", LEARN)
def test_files_hold_it_to_the_bit(strategy: str, tmp_path: Path) -> None:
    predictor, (asked, _), (more, theirs) = made(strategy), curve(9, 1), curve(3, 2)
    predictor.save(tmp_path)
    again = NumberPredictor.load(tmp_path, backbone=backbone())
    assert again.predict(asked) == predictor.predict(asked) and again.examples_ == 6
    assert again.add_examples(more, theirs).predict(asked) == predictor.add_examples(more, theirs).predict(asked)
    again.save(tmp_path)  # in place of the one before
    assert NumberPredictor.load(tmp_path, backbone=backbone()).predict(asked) == predictor.predict(asked)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


@pytest.mark.parametrize("strategy", LEARN)
def test_further_examples_are_learned_as_all_at_once(strategy: str, in_float64: None) -> None:
    (inputs, numbers), (asked, _) = curve(9), curve(5, 1)
    predictor = NumberPredictor(Encoder(backbone()).eval(), STRATEGIES[strategy]().eval(), kind=UNITS)
    for rows in (slice(2), slice(2, 8), slice(8, 9)):  # the first of which are learned by it, too
        predictor.add_examples(inputs[rows], numbers[rows])
    whole = NumberPredictor(**predictor.get_params()).fit(inputs, numbers)
    assert predictor.examples_ == whole.examples_ == 9
    assert predictor.predict(asked) == pytest.approx(whole.predict(asked), rel=1e-12)


def test_it_is_a_value_that_a_refusal_leaves_alone() -> None:
    predictor, (inputs, numbers) = made(), curve(2, 3)
    known = predictor.knowledge
    with pytest.raises(FrozenInstanceError):
        known.state = None  # type: ignore[misc]
    before = predictor.predict(inputs)
    refused: list[Callable[[], Any]] = [
        lambda: predictor.add_examples(inputs, numbers[:1]),
        lambda: predictor.add_examples(inputs, [1.0, math.nan]),
        lambda: predictor.add_examples(torch.full((1, 3), math.nan), [1.0]),
        lambda: predictor.add_examples([], []),
        lambda: predictor.add_examples(torch.ones(1, 4), [1.0]),
        lambda: predictor.fit(inputs, ["few", "many"]),
    ]
    for change in refused:
        with pytest.raises(QuickstudyError):
            change()
        assert predictor.knowledge is known
    copy = NumberPredictor(**predictor.get_params())
    copy._knowledge = known
    told = list[Change]()
    predictor.before_change = lambda change: told.append(change) or 7  # type: ignore[func-returns-value]
    predictor.add_examples(inputs, numbers)
    assert predictor.change_number == 7 and told[0].numbers == tuple(numbers) and predictor.predict(inputs) != before
    assert copy.predict(inputs) == before
    assert copy.apply(told[0]).predict(inputs) == predictor.predict(inputs)


def test_changes_in_a_journal_are_part_of_it(tmp_path: Path) -> None:
    predictor, (inputs, numbers) = made(), curve(4, 3)
    predictor.save(tmp_path)
    with model_folder.serve(tmp_path) as journal:
        predictor.before_change = lambda change: journal.append(change, journal.last)
        predictor.add_examples(inputs[:3], numbers[:3]).add_examples(inputs[3:], [1 / 3])
    read = NumberPredictor.load(tmp_path, backbone=backbone())
    assert read.change_number == 2 and read.knowledge.support["numbers"].numbers[-1] == 1 / 3
    assert read.predict(inputs) == predictor.predict(inputs)
    read.save(tmp_path, after=2)
    assert NumberPredictor.load(tmp_path, backbone=backbone()).predict(inputs) == predictor.predict(inputs)


def test_one_sort_of_model_is_not_taken_for_another(tmp_path: Path) -> None:
    made().save(tmp_path / "numbers")
    encoder = build_encoder("conv4", {"hidden": 2})
    pictures = torch.rand(2, 3, 16, 16)
    Predictor(encoder, STRATEGIES["r2d2"]()).fit(pictures, ["a", "b"]).save(tmp_path / "classes")
    task = Task(Regression(), nn.Linear(3, 2))
    task.meet(None, "predict")
    with pytest.raises(ConfigError, match=r"learned numbers: type NumberPredictor\.load\('.*numbers'\)"):
        Predictor.load(tmp_path / "numbers", backbone=backbone())
    with pytest.raises(ConfigError, match=r"learned classes: type Predictor\.load\('.*classes'\)"):
        NumberPredictor.load(tmp_path / "classes")
    with pytest.raises(ConfigError, match=r"learned numbers from examples: type NumberPredictor\.load\("):
        TrainedModel.load(tmp_path / "numbers")
    TrainedModel(Encoder(nn.Linear(3, 2)), nn.Linear(2, 1), UNITS, task.modality).save(tmp_path / "trained")
    with pytest.raises(ConfigError, match=r"does not learn: type TrainedModel\.load\("):
        NumberPredictor.load(tmp_path / "trained")
    assert [model_folder.is_trained(tmp_path / name) for name in ("numbers", "classes", "trained")] == [
        False,
        False,
        True,
    ]
    assert type(Adapted.load(tmp_path / "numbers", backbone=backbone())) is NumberPredictor
    assert type(Adapted.load(tmp_path / "classes")) is Predictor


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    made().save(tmp_path)
    described = tmp_path / "predictor.json"
    content = json.loads(described.read_text())
    assert content["format"] == 4 and content["kind"]["options"] == {"mean": 300.0, "deviation": 100.0}
    (learned,) = tmp_path.glob("learned-*")
    for changed in ({"examples": [5]}, {"kind": {}}, {"state": None}, {"classes": ["a", "b"]}):
        described.write_text(json.dumps({**content, **changed}))
        with pytest.raises(DataError, match="damaged"):
            NumberPredictor.load(tmp_path, backbone=backbone())
    described.write_text(json.dumps(content))
    learned.write_bytes(learned.read_bytes()[:-8] + bytes(8))
    with pytest.raises(DataError, match="is damaged: its checksum"):
        NumberPredictor.load(tmp_path, backbone=backbone())

    class Own(Regression):
        """Of one's own."""

    own = NumberPredictor(Encoder(backbone()).eval(), STRATEGIES["r2d2"](), kind=Own())
    with pytest.raises(ConfigError, match="Own has no name to be found by: register it"):
        own.save(tmp_path)


def test_it_speaks_sklearn() -> None:
    predictor, (inputs, numbers) = made(), curve(30, 5)
    assert sklearn.base.is_regressor(predictor)
    again = sklearn.base.clone(predictor)
    assert again.examples_ == 0 and again.kind == UNITS
    scores = sklearn.model_selection.cross_val_score(predictor, inputs.numpy(), np.array(numbers), cv=3)
    assert min(scores) > 0.8
    found = predictor.predict(inputs)
    assert predictor.score(inputs, numbers) == pytest.approx(sklearn.metrics.r2_score(numbers, found))
    more, told = curve(4, 7)
    predictor.add_examples(more, told)
    for own in (curve(6)[0], more):
        with pytest.warns(DataWarning, match="the model learned from 2 of these 5 examples"):
            predictor.score(torch.cat([inputs[:3], own[:2]]), numbers[:5])
    with pytest.raises(ConfigError, match="learns classes, and no numbers"):
        again.set_params(algorithm=STRATEGIES["prototypicalnetworks"]())


@pytest.mark.filterwarnings("ignore:R.2 score is not well-defined")
def test_where_r2_is_not_defined_it_says_so_and_is_what_sklearn_says() -> None:
    predictor, (inputs, _) = made(), curve(3, 5)
    answers = predictor.predict(inputs)
    for asked, true, said in (
        (inputs, [0.5] * 3, "all 3 numbers are 0.5, so R2 is not defined: 0 stands for it"),
        (inputs[:1].expand(2, 3), [answers[0]] * 2, "so R2 is not defined: 1 stands for it"),
        (inputs[:1], [5.0], "there is one number, so R2 is not defined: nan"),
    ):
        with pytest.warns(DataWarning, match=said):
            found = predictor.score(asked, true)
        assert found == pytest.approx(sklearn.metrics.r2_score(true, predictor.predict(asked)), nan_ok=True)
    for asked, true in ((inputs, [1.0]), (inputs[:0], [])):
        with pytest.raises(DataError, match=f"{len(asked)} inputs but {len(true)} numbers"):
            predictor.score(asked, true)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor.score(inputs, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("strategy", ["r2d2", "maml"])
def test_a_graph_answers_in_the_same_units(strategy: str, form: str, tmp_path: Path) -> None:
    predictor, (asked, _) = made(strategy), curve(7, 1)
    done = predictor.export(tmp_path / f"x.{form}")
    numbers, _ = written_and_read(done.model)[1](done.model.read_bytes())(asked, {})
    assert numbers[:, 0].tolist() == pytest.approx(predictor.predict(asked), rel=1e-5)
    with safetensors.safe_open(done.classes, "np") as file:
        about = json.loads(file.metadata()["quickstudy"])
        assert list(file.keys()) == [] and about["classes"] == [] and about["input"]["shape"] == [3]
    with pytest.raises(DataError, match="it has learned no example to export"):
        NumberPredictor(**predictor.get_params()).export(tmp_path / f"y.{form}")


# ---- as a service


def ask(service: Service, method: str, path: str, **more: Any) -> httpx.Response:
    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(build(service)), base_url="http://localhost") as one:
            return await one.request(method, path, **more)

    return asyncio.run(answer())


def grey(*levels: int) -> list[bytes]:
    """Return a PNG of each brightness."""
    files = []
    for level in levels:
        Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(content := io.BytesIO(), "PNG")
        files.append(content.getvalue())
    return files


def saved(folder: Path) -> Path:
    """Save a model that learned the brightness of pictures."""
    torch.manual_seed(0)
    encoder = build_encoder("conv4", {"hidden": 4})
    predictor = NumberPredictor(encoder, STRATEGIES["r2d2"](regularization=1e-3), load_image, Regression(100.0, 50.0))
    predictor.fit(grey(20, 60, 200), [20, 60, 200]).save(folder)
    return folder


def sent(files: list[bytes]) -> dict[str, Any]:
    return {"files": [("images", ("x.png", each)) for each in files]}


def test_a_service_answers_numbers_and_learns_more_of_them(tmp_path: Path) -> None:
    folder, asked = saved(tmp_path / "grey"), sent(grey(90, 130))
    with Service(folder) as service:
        before = [each["number"] for each in ask(service, "POST", "/predict", **asked).json()["predictions"]]
        assert before == pytest.approx(NumberPredictor.load(folder).predict(grey(90, 130)), abs=1e-3)
        about = ask(service, "GET", "/model").json()
        assert (about["strategy"], about["backbone"], about["classes"], about["examples"]) == ("r2d2", "conv4", 0, 3)
        paths = ask(service, "GET", "/openapi.json").json()["paths"]
        assert list(paths) == ["/healthz", "/readyz", "/metrics", "/predict", "/model", "/examples"]
        shown = ask(service, "POST", "/examples?number=120&number=2.5", **sent(grey(120, 3)))
        assert (shown.status_code, shown.json()) == (200, {"examples": 5})
        for query, said in (
            ("?number=1", "2 examples but 1 numbers"),
            ("?number=1&number=inf", "it must be a finite number"),
            ("?number=1&number=x", "number"),
            ("", "number in the query is missing"),
            ("?numbers=1", "did you mean 'number'"),
        ):
            refused = ask(service, "POST", f"/examples{query}", **asked)
            assert refused.status_code == 422 and said in refused.json()["detail"], refused.json()
        with pytest.raises(ConfigError, match="learns numbers and nothing else"):
            service.teach("red", [torch.zeros(3, 16, 16, dtype=torch.uint8)]).result()
        after = [each["number"] for each in ask(service, "POST", "/predict", **asked).json()["predictions"]]
        assert after != before
        killed = shutil.copytree(folder, tmp_path / "killed")  # as it would be found after a sudden end
    for left in (folder, killed):
        with Service(left) as service:
            assert service.replayed == (left == killed) and service.change_number == 1
            again = [each["number"] for each in ask(service, "POST", "/predict", **asked).json()["predictions"]]
            assert again == after
            assert ask(service, "GET", "/model").json()["examples"] == 5
    assert NumberPredictor.load(killed).knowledge.support["numbers"].numbers == (20, 60, 200, 120, 2.5)


def test_two_services_of_a_folder_know_what_the_other_was_shown(tmp_path: Path) -> None:
    folder = saved(tmp_path / "grey")
    with Service(folder) as one, Service(folder) as other:
        assert one.show([torch.full((3, 16, 16), 120, dtype=torch.uint8)], [120.0]).result() == 4
        assert other.show([torch.full((3, 16, 16), 160, dtype=torch.uint8)], [160.0]).result() == 5
        (asked,) = grey(90)
        loaded = [load_image(asked)]
        assert one.predict(loaded).result() == other.predict(loaded).result()
    NumberPredictor(**NumberPredictor.load(folder).get_params()).save(folder)
    with Service(folder) as service:
        answer = ask(service, "POST", "/predict", **sent(grey(90)))
        assert answer.status_code == 422
        assert answer.json()["detail"].endswith("curl -F images=@yak.jpg .../examples?number=1.5")
        assert service.show([torch.full((3, 16, 16), 9, dtype=torch.uint8)], [9.0]).result() == 1


def test_a_graph_may_differ_by_a_share_of_the_deviation_wherever_zero_is() -> None:
    numbers = torch.tensor([[-1.0], [0.5], [1.0]], dtype=torch.float64)

    class Told(nn.Module):
        def forward(self, inputs: Tensor, tensors: Any) -> Any:
            return inputs, inputs.amax(1)

    def compared(zero: float, unit: float, off: float) -> tuple[float, int]:
        answers = [zero + unit * numbers]
        return _compared(Told(), lambda inputs, _: (inputs + off * unit, inputs.amax(1)), answers, {}, -math.inf, unit)

    for zero, unit in ((1.7e9, 1000.0), (0.0, 1e-9)):
        assert compared(zero, unit, 1e-4)[1] == 0
        with pytest.raises(ValueError, match="differ by"):
            compared(zero, unit, 0.01)
