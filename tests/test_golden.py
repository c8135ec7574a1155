"""What earlier versions wrote is read, and answers as it did then: models, runs, HTTP requests, the command line."""

from __future__ import annotations

import csv
import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch.utils._pytree import tree_map

import golden_help
import golden_http
import golden_masks
import golden_runs
from quickstudy import NumberPredictor, Predictor
from quickstudy.cli import main
from quickstudy.image import ImageClassifier
from quickstudy.learning.adapting import restored
from quickstudy.learning.answering import answered
from quickstudy.learning.knowledge import Knowledge
from quickstudy.serve.service import Service
from quickstudy.trained import TrainedModel
from versions import SPELLS_TYPES_AS_FROZEN

GOLDEN = Path(__file__).parent / "golden"
MODELS = sorted(path.parent for path in GOLDEN.glob("format-*/*/expected.json"))
OF_NUMBERS = sorted(path.parent for path in GOLDEN.glob("numbers-*/*/expected.json"))
RUNS = sorted(path.parent for path in GOLDEN.glob("runs-*/*/expected.json"))


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_model_of_an_earlier_version_answers_as_it_did(folder: Path, tmp_path: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    asked = safetensors.torch.load_file(folder.parent / "pictures.safetensors")["asked"]
    predictor = Predictor.load(folder)
    predictor.save(tmp_path)
    for read in (predictor, Predictor.load(tmp_path)):
        assert read.classes_.tolist() == expected["classes"] and read.counts_ == expected["examples"]
        assert read.predict(asked) == expected["labels"]
        sure = read.confidence_
        np.testing.assert_allclose(sure.threshold, expected["threshold"], rtol=1e-3)
        # No file holds the temperature: how it is found may get better, the logits may not change. In float64 they are
        # the same on every processor, so that what is allowed is the rounding of the recorded ones, of up to 13.
        recorded = np.log(expected["probabilities"]) * expected["temperature"]
        np.testing.assert_allclose(
            _centred(answered(_exact(read), asked).logits.numpy()), _centred(recorded), atol=1e-5
        )


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_model_of_an_earlier_version_can_be_changed_and_served(folder: Path, tmp_path: Path) -> None:
    asked = safetensors.torch.load_file(folder.parent / "pictures.safetensors")["asked"]
    counts = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["examples"]
    shutil.copytree(folder, tmp_path / "served", ignore=shutil.ignore_patterns("expected.json"))
    described = tmp_path / "served" / "predictor.json"
    content = json.loads(described.read_text(encoding="utf-8"))
    described.write_text(json.dumps({**content, "load": {"name": "image", "options": {}}}))  # some take tensors only
    for _ in range(2):
        with Service(tmp_path / "served") as service:
            name = next(iter(counts))
            counts[name] += 1
            assert service.teach(name, [asked[0]]).result().examples == counts[name]
            if folder.name != "maml":  # whose classes are three
                counts["new"] = counts.get("new", 0) + 2
                assert service.teach("new", [asked[1], asked[4]]).result().examples == counts["new"]
            assert service.classes().result() == counts
            near = service.predict([asked[1]], nearest=99).result()[0].nearest
            assert len(near) == sum(counts.values())
            assert folder.name == "maml" or near[0].name == "new"
        Predictor.load(tmp_path / "served").save(tmp_path / "served")
    assert Predictor.load(tmp_path / "served").counts_ == counts


@pytest.mark.parametrize("folder", OF_NUMBERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_model_of_numbers_of_an_earlier_version_answers_as_it_did(folder: Path, tmp_path: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    asked = safetensors.torch.load_file(folder.parent / "pictures.safetensors")["asked"]
    predictor = NumberPredictor.load(folder)
    predictor.save(tmp_path)
    for read in (predictor, NumberPredictor.load(tmp_path)):
        assert read.examples_ == expected["examples"]
        assert read.predict(asked) == pytest.approx(expected["numbers"], rel=1e-4)  # of up to 200, in float32


@pytest.mark.parametrize("folder", RUNS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_run_of_an_earlier_version_is_read_and_goes_on(folder: Path, tmp_path: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    run = tmp_path / folder.name
    shutil.copytree(folder, run)
    trained = ImageClassifier.load_from_checkpoint(run / "last.ckpt")
    trainer = golden_runs.trainer(run, golden_runs.FURTHER)
    _check_answers(golden_runs.answers(trained, folder.parent, trainer), expected["then"])
    further = golden_runs.model(folder.name)
    trainer.fit(further, datamodule=golden_runs.data(folder.parent, folder.name))
    _check_answers(golden_runs.answers(further, folder.parent, trainer), expected["further"])
    before, after = (_rows(each / "metrics.csv") for each in (folder, run))
    kept = [{name: row[name] for name in before[0]} for row in after if row["train_loss"] or row["val_loss"]]
    assert kept[: len(before)] == before and len(kept) == 2 * len(before)
    assert len(json.loads((run / "run.json").read_text(encoding="utf-8"))["resumed"]) == 1


def _rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))


def _check_answers(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare what is no number, and numbers to what float64 loses in some steps, and figures float32 in a mean."""
    assert set(expected) == set(found)
    for what, bound in (("test", 1e-6), ("weights", 1e-8)):
        assert found[what] == pytest.approx(expected[what], rel=bound, abs=bound)
    assert found["adapted"] == expected["adapted"] and found.get("predicted") == expected.get("predicted")
    if "logits" in expected:
        np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-8)


def test_requests_are_answered_as_they_were(tmp_path: Path) -> None:
    with golden_http.served(tmp_path) as service:
        for path in sorted(golden_http.FOLDER.glob("*.json")):
            exchange = json.loads(path.read_text(encoding="utf-8"))
            answer = golden_http.answered(service, exchange["request"])
            _check_holds(answer, exchange["answer"], path.name)


def test_all_kinds_of_requests_are_there() -> None:
    names = {path.stem.split("-", 1)[1] for path in golden_http.FOLDER.glob("*.json")}
    assert names == set(golden_http.requests())


def _check_holds(found: Any, expected: Any, where: str) -> None:
    """Compare what is no number; an answer may have gained a field, and how sure it is may be found better."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), where
        for name, value in expected.items():
            assert name in found, f"{where}: {name} is gone"
            _check_holds(found[name], value, f"{where}: {name}")
    elif isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected), where
        for number, value in enumerate(expected):
            _check_holds(found[number], value, f"{where}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("name", golden_help.ASKED)
def test_help_reads_as_it_did(name: str) -> None:
    frozen = (golden_help.FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    told = golden_help.shown(name)
    if SPELLS_TYPES_AS_FROZEN:
        assert told == frozen, "if that is meant, type: python tests/golden_help.py"
    assert golden_help.without_types(told) == golden_help.without_types(frozen)


def test_all_of_lightnings_options_that_text_can_spell_are_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help"]) == 0
    told = capsys.readouterr().out
    code = {"self", "plugins", "kwargs", "use_distributed_sampler"}  # which is for samplers of one's own
    given = set(inspect.signature(lightning.Trainer.__init__).parameters) - code
    assert [name for name in given if not re.search(rf"  --trainer\.{name}[ ,]", told)] == []


def _exact(predictor: Predictor) -> Knowledge:
    """Return what answers in float64 by what was read in float32."""

    def double(part: Any) -> Any:
        return part.double() if torch.is_tensor(part) and part.is_floating_point() else part

    known = predictor.knowledge
    for module in (known.encoder, known.algorithm):
        module.double()
    support = {name: kept._replace(values=double(kept.values)) for name, kept in known.support.items()}
    return restored(known, support, tree_map(double, known.learned))


def test_a_detector_of_an_earlier_version_answers_as_it_did(tmp_path: Path) -> None:
    folder = golden_masks.FOLDER / "mask_rcnn"
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    asked = safetensors.torch.load_file(golden_masks.FOLDER / "pictures.safetensors")["asked"]
    model = TrainedModel.load(folder, backbone=golden_masks.Maps())
    model.save(tmp_path)
    for read in (model, TrainedModel.load(tmp_path, backbone=golden_masks.Maps())):
        for own, others in zip(golden_masks.answers(read, asked), expected, strict=True):
            assert [one["label"] for one in own] == [other["label"] for other in others] != []
            for one, other in zip(own, others, strict=True):
                np.testing.assert_allclose(one["score"], other["score"], atol=1e-3)
                np.testing.assert_allclose(one["box"], other["box"], atol=1e-2)
                found, there = (_pixels(each["mask"]) for each in (one, other))
                assert (found != there).sum() <= 0.01 * there.sum()  # whose share is one half but for rounding


def _pixels(told: Any) -> NDArray[np.bool_]:
    """Return a mask of run lengths, column by column, of what is not of it and what is in turn."""
    counts = told["counts"]
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(told["size"][::-1]).T


def _centred(logits_NW: NDArray[Any]) -> NDArray[Any]:
    return logits_NW - logits_NW.mean(1, keepdims=True)


def test_the_golden_files_are_there_and_small() -> None:
    assert {path.name for path in MODELS if path.parent.name == "format-1"} >= {
        "maml",
        "nearest_centroid",
        "nearest_neighbour",
        "prototypicalnetworks",
        "r2d2",
    }
    for folder in MODELS:
        description = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
        assert folder.parent.name == f"format-{description['format']}"
    for folder in OF_NUMBERS:
        description = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
        assert folder.parent.name == f"numbers-{description['format']}"
    assert {path.name for path in OF_NUMBERS} == {"r2d2", "maml"}
    assert {path.name for path in RUNS if path.parent.name == "runs-1"} == set(golden_runs.RUNS)
    for folder in RUNS:
        checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
        assert folder.parent.name == f"runs-{checkpoint['quickstudy']['format']}"
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*.*")) < 900_000
