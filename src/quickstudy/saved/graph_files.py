"""The files that a traced graph can be, and how each is written and run.

Shapes: N inputs, W classes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, require
from quickstudy.torch_internals import tree_leaves

OUTPUTS = ("logits", "familiarity")
Tensors = dict[str, Tensor]
Answers = tuple[Tensor, Tensor]
"""``[N, W]`` logits, and how familiar each input is, ``[N]``."""
Run = Callable[[Batch, Tensors], Answers]
FreeAxes = dict[str, dict[int, str]]
"""By name, the axes that may have any length, and what they are called."""
Axes = tuple[Any, FreeAxes]
"""By place: those of each leaf of the inputs that are asked, and of the tensors that were learned."""


def _onnx(program: ExportedProgram, axes: Axes, names: list[str]) -> bytes:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # torch's, of a name that several inputs share
        made = torch.onnx.export(
            program,
            dynamic_shapes=axes if axes[1] else axes[:1],  # what is empty is no input
            input_names=names,
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
    names = [each.name for each in session.get_inputs()]

    def run(inputs: Batch, tensors: Tensors) -> Answers:
        asked = [name for name in names if name not in tensors]
        arrays = {name: leaf.numpy() for name, leaf in zip(asked, tree_leaves(inputs), strict=True)}
        arrays |= {name: tensor.numpy() for name, tensor in tensors.items()}
        logits_NW, familiar_N = session.run(list(OUTPUTS), arrays)
        return torch.from_numpy(logits_NW), torch.from_numpy(familiar_N)

    return run


def _pt2(program: ExportedProgram, axes: Axes, names: list[str]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _run_pt2(content: bytes) -> Run:
    run: Run = torch.export.load(io.BytesIO(content)).module()
    return run


_FORMS = {".onnx": (_onnx, _run_onnx), ".pt2": (_pt2, _run_pt2)}


Write = Callable[[ExportedProgram, Axes, list[str]], bytes]
Read = Callable[[bytes], Run]


def written_and_read(model: Path) -> tuple[Write, Read]:
    """Return how to write a file of that suffix, given what its inputs are called, and how to run it."""
    if model.suffix not in _FORMS:
        raise ConfigError(f"'{model}' ends on neither .onnx nor .pt2: type export('{model.with_suffix('.onnx')}')")
    if model.suffix == ".onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            require(package, "export")
    return _FORMS[model.suffix]
