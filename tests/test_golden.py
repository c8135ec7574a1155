"""Models that earlier versions saved are read, and answer as they did then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from numpy.typing import NDArray

from quickstudy import Predictor

GOLDEN = Path(__file__).parent / "golden"
MODELS = sorted(path.parent for path in GOLDEN.glob("format-*/*/expected.json"))


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
        # No file holds the temperature: how it is found may get better, the logits may not change.
        logits = _logits(read.predict_proba(asked), sure.temperature)
        recorded = _logits(np.array(expected["probabilities"]), expected["temperature"])
        np.testing.assert_allclose(logits, recorded, atol=1e-5)


def _logits(probabilities_NW: NDArray[Any], temperature: float) -> NDArray[Any]:
    logits_NW = np.log(probabilities_NW) * temperature
    return logits_NW - logits_NW.mean(1, keepdims=True)


def test_the_golden_files_are_there_and_small() -> None:
    assert {path.name for path in MODELS if path.parent.name == "format-1"} >= {
        "maml",
        "nearest_centroid",
        "prototypicalnetworks",
        "r2d2",
    }
    for folder in MODELS:
        description = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
        assert folder.parent.name == f"format-{description['format']}"
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*.*")) < 200_000
