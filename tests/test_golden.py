"""Models that earlier versions saved are read, and answer as they did then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

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
        np.testing.assert_allclose(read.predict_proba(asked), expected["probabilities"], rtol=1e-3, atol=1e-5)
        assert read.predict(asked) == expected["labels"]
        sure = read.confidence_
        assert sure.source == expected["source"]
        np.testing.assert_allclose(
            [sure.temperature, sure.threshold], [expected["temperature"], expected["threshold"]], rtol=1e-3
        )


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
