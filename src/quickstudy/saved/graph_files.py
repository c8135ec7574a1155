"""The files that a traced graph can be, and how each is written and run.

Shapes: N inputs, W classes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from quickstudy.errors import ConfigError, require

OUTPUTS = ("logits", "familiarity")
Tensors = dict[str, Tensor]
Answers = tuple[Tensor, Tensor]
"""``[N, W]`` logits, and how familiar each input is, ``[N]``."""
Run = Callable[[Tensor, Tensors], Answers]
Axes = tuple[dict[int, str], dict[str, dict[int, str]]]
"""By place: the names of the axes of images, and of the other inputs, that may have any length."""


def _onnx(program: ExportedProgram, axes: Axes) -> bytes:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # torch's, of a name that several inputs share
        made = torch.onnx.export(
            program,
            dynamic_shapes=axes,
            input_names=["images", *axes[1]],
            output_names=list(OUTPUTS),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert made is not None
    content: bytes = made.model_proto.SerializeToString()
    return content


def _run_onnx(content: bytes) -> Run:
    session = require("onnxruntime", "export").InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor, tensors: Tensors) -> Answers:
        arrays = {name: value.numpy() for name, value in {"images": images, **tensors}.items()}
        logits_NW, familiar_N = session.run(list(OUTPUTS), arrays)
        return torch.from_numpy(logits_NW), torch.from_numpy(familiar_N)

    return run


def _pt2(program: ExportedProgram, axes: Axes) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _run_pt2(content: bytes) -> Run:
    run: Run = torch.export.load(io.BytesIO(content)).module()
    return run


_FORMS = {".onnx": (_onnx, _run_onnx), ".pt2": (_pt2, _run_pt2)}


def form_of(model: Path) -> tuple[Callable[[ExportedProgram, Axes], bytes], Callable[[bytes], Run]]:
    """Return how to write and to run a file of that suffix."""
    if model.suffix not in _FORMS:
        raise ConfigError(f"'{model}' ends on neither .onnx nor .pt2: type export('{model.with_suffix('.onnx')}')")
    if model.suffix == ".onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            require(package, "export")
    return _FORMS[model.suffix]
