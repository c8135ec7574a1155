"""Networks of point clouds as graphs that answer without quickstudy, for clouds of any number of points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from quickstudy import Predictor
from quickstudy.batches import stack
from quickstudy.learning.answering import answered

SMALL: dict[str, dict[str, Any]] = {
    "pointnet2": {"centres": (4, 2), "neighbours": 4, "widths": ((8,), (8,), (8,))},
    "dgcnn": {"neighbours": 4, "widths": (8, 8)},
}


@pytest.mark.dear("pointcloud", "saved")
@pytest.mark.parametrize("name", SMALL)
def test_a_network_of_clouds_answers_alike_as_a_graph(name: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    clouds = [generator.normal(size=(16 + number, 3)) * [1, 1, number % 2] for number in range(8)]
    torch.manual_seed(0)
    predictor = Predictor.from_backbone(name, clouds[:6], ["flat", "round"] * 3, backbone_kwargs=SMALL[name])
    inputs = stack([predictor.modality.load(one) for one in clouds[4:]])  # longer than those that it was shown
    expected = answered(predictor.knowledge, inputs)
    for ending in (".pt2", ".onnx"):
        done = predictor.export(tmp_path / f"clouds{ending}")
        assert done.flips == 0 and done.difference < 1e-4
        classes = load_file(done.classes)
        if ending == ".pt2":
            found = torch.export.load(done.model).module()(inputs, classes)
        else:
            session = onnxruntime.InferenceSession(done.model)
            fed = {name: leaf.numpy() for name, leaf in {**inputs, **classes}.items()}
            found = session.run(None, fed)
        for one, other in zip(found, expected[:2], strict=True):
            torch.testing.assert_close(torch.as_tensor(one), other, atol=1e-4, rtol=1e-4)
