"""An adapted model as two files, a graph and the classes that it takes in, which answer without quickstudy.

The graph goes from pixels to logits, and to how familiar each input is. What was learned of the classes is an input of
it, so that a class more or less is a new classes file and no new graph.

Shapes: N inputs, S support examples, W classes, ``...`` the shape of one input.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from quickstudy.algorithms import Algorithm, EmbeddingAlgorithm
from quickstudy.data.samples import Samples, listed
from quickstudy.data.targets import Label
from quickstudy.errors import ConfigError, DataError, first_line
from quickstudy.files import atomic_write
from quickstudy.learning.confidence import familiarity
from quickstudy.learning.knowledge import Knowledge
from quickstudy.nets import Encoder
from quickstudy.pictures import height_width
from quickstudy.saved.graph_files import OUTPUTS, Answers, Axes, Run, Tensors, form_of
from quickstudy.saved.plain import joined, taken_apart
from quickstudy.torch_internals import tree_map

FORMAT = 1
"""Counted up when a reader of an older classes file could not use it."""

_TOLERANCE = 1e-3  # of the largest answer; other ways of rounding differ by some 1e-6 of it
_NOTHING = 1e-5  # a difference that no probability shows
_MADE_UP = 8
_ADDED = 2  # unlike 1, so that an axis of examples can be told from one of classes


class Exported(NamedTuple):
    """What was written, and how near its answers are to the predictor's."""

    model: Path
    """The graph."""
    classes: Path
    """What was learned, the graph's other inputs; class names, temperature and threshold."""
    difference: float
    """The largest absolute difference of a logit or a familiarity."""
    flips: int
    """How many inputs are given another class."""
    inputs: int
    """How many were compared."""


class Graph(nn.Module):
    """An encoder and a head, as a function of inputs and of what was learned.

    Args:
        encoder: in evaluation mode.
        algorithm: likewise.
        skeleton: says how the tensors make the algorithm's state.
    """

    def __init__(self, encoder: Encoder, algorithm: Algorithm, skeleton: Any) -> None:
        super().__init__()
        self.encoder, self.algorithm, self._skeleton = encoder, algorithm, skeleton

    def forward(self, images: Tensor, tensors: Tensors) -> Answers:
        """Return ``[N, W]`` logits and ``[N]`` familiarities."""
        state = joined(self._skeleton, tensors)
        if not isinstance(self.algorithm, EmbeddingAlgorithm):
            logits_NW = self.algorithm.predict(self.encoder, state, [images])
            return logits_NW, logits_NW.amax(1)
        embedded_ND = self.algorithm.keep(self.encoder, [images])
        return self.algorithm.answer(self.encoder, state, embedded_ND), familiarity(embedded_ND, tensors["means"])


def write(
    path: str | os.PathLike[str], knowledge: Knowledge, images: Any = None, only_classes: bool = False
) -> Exported:
    """Export an adapted model, once its exported form was run and has answered alike.

    Each file is whole or absent, and the classes name the graph that they are for by its checksum.

    Args:
        path: of the graph: ``x.onnx``, or ``x.pt2`` for torch.export; ``x.onnx.classes.safetensors`` comes beside it.
        knowledge: of the model.
        images: inputs whose shape and type the graph takes, and whose answers are compared besides those to made-up
            ones; default: uint8 pictures of the size that the model loads.
        only_classes: leave the graph as it is, and compare its answers by the classes of now.

    Raises:
        ConfigError: the suffix is another, the strategy's answers depend on each other, the size of inputs is not
            known, the model cannot be traced, or its exported form answers otherwise.
        DataError: there is no class, or no graph for ``only_classes``.
        MissingPackageError: a package is not installed.
    """
    model, (written, read) = Path(path), form_of(Path(path))
    classes = model.with_name(f"{model.name}.classes.safetensors")
    if not knowledge.support:
        raise DataError("there is no class to export: type fit(images, labels) or add_class(name, images) first")
    encoder, algorithm = copy.deepcopy(knowledge.encoder).cpu(), copy.deepcopy(knowledge.algorithm).cpu()
    name = f"{type(algorithm).__name__} on {type(encoder.backbone).__name__}"
    if algorithm.sees_queries(encoder):
        raise ConfigError(
            f"{name} answers all inputs of a call together, and a graph answers each as if it were alone: export "
            "another strategy, for instance prototypicalnetworks (in MAML's family: normalization='support')"
        )
    inputs = _inputs(images, knowledge, _description(classes)["input"] if only_classes else None)
    shape = encoder.feature_shape(inputs[:1])
    if shape != algorithm.feature_shape:
        raise ConfigError(
            f"inputs of shape {tuple(inputs.shape[1:])} become features of shape {shape}, and it learned from "
            f"{algorithm.feature_shape}: type export({str(model)!r}, images=...) with some of the size that it learned"
        )
    confidence = knowledge.confidence
    values = {name: kept.values for name, kept in knowledge.support.items()}
    with torch.no_grad():
        tensors, skeleton = _as_inputs(algorithm, knowledge.learned, values)
        graph = Graph(encoder, algorithm, skeleton).eval()
        graph.to(memory_format=torch.contiguous_format)  # torch.export.save warns of others
        if only_classes:
            content = _read(model)
        else:
            try:
                content = written(*_traced(graph, inputs, tensors, values))
            except Exception as error:  # tracing runs all of torch, which raises almost anything
                raise ConfigError(
                    f"{name} cannot be exported as {model.suffix}: {_reason(error)}. "
                    "Choose another strategy or backbone, or the other of .onnx and .pt2; save(folder) keeps any model"
                ) from error
        try:
            difference, flips = _compared(graph, read(content), inputs, tensors, confidence.threshold)
        except Exception as error:  # whatever the runtime raises
            raise ConfigError(
                f"the graph for '{model}' does not answer as {name} does: {first_line(error)}. "
                + ("It may be another model's: export without only_classes" if only_classes else "Nothing was written")
            ) from error
    load_options = knowledge.load.keywords if isinstance(knowledge.load, partial) else {}
    about = {
        "format": FORMAT,
        "quickstudy": version("quickstudy"),
        "model": {"name": model.name, "sha256": hashlib.sha256(content).hexdigest()},
        "classes": list(knowledge.support),
        "temperature": confidence.temperature,
        "unknown_below": max(confidence.threshold, torch.finfo(torch.float32).min),  # JSON has no infinity
        "input": {"shape": list(inputs.shape[1:]), "dtype": str(inputs.dtype).removeprefix("torch.")},
        "image_mode": load_options.get("image_mode", "RGB"),
        "resize": "cover, bicubic, cut out the centre" if load_options.get("image_size") else None,
    }
    if not only_classes:
        with atomic_write(model) as file:
            file.write(content)
    with atomic_write(classes) as file:
        file.write(safetensors.torch.save(tensors, {"quickstudy": json.dumps(about)}))
    return Exported(model, classes, difference, flips, len(inputs))


# ---- what goes in


def _inputs(images: Any, knowledge: Knowledge, before: dict[str, Any] | None) -> Tensor:
    """Return what answers are compared on, ``[N, ...]``: what is given, and noise of all brightnesses."""
    if images is not None:
        images = listed(images)
        given = Samples(images, knowledge.load).batch(np.arange(len(images)))
    elif before is not None:
        given = torch.empty(0, *before["shape"], dtype=getattr(torch, before["dtype"]))
    elif not isinstance(knowledge.algorithm, EmbeddingAlgorithm):
        given = next(iter(knowledge.support.values())).values.cpu()  # which keeps its inputs
    elif knowledge.like is not None:
        given = knowledge.like
    else:
        options = knowledge.load.keywords if isinstance(knowledge.load, partial) else {}
        if options.get("image_size") is None:
            raise ConfigError("the size of its inputs is not known: give some, export(path, images=...)")
        channels = 1 if options.get("image_mode") == "L" else 3
        given = torch.empty(0, channels, *height_width(options["image_size"]), dtype=torch.uint8)
    noise = torch.rand(_MADE_UP, *given.shape[1:], generator=torch.Generator().manual_seed(0))
    noise *= torch.linspace(0.1, 1, _MADE_UP).view(-1, *(1,) * (given.ndim - 1))
    return torch.cat([given, (noise if given.is_floating_point() else 255 * noise).to(given.dtype)])


def _as_inputs(algorithm: Algorithm, state: Any, support: Mapping[Label, Tensor]) -> tuple[Tensors, Any]:
    """Return the tensors that the graph takes besides images, and how they make the state."""
    tensors: Tensors = {}
    if isinstance(algorithm, EmbeddingAlgorithm):
        tensors["means"] = torch.stack([kept_n.mean(0) for kept_n in support.values()])
    skeleton = taken_apart(state, tensors, "state")
    # Copies, since tensors of inference mode cannot be traced, and files hold no two that share memory.
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, skeleton


def _traced(
    graph: Graph, inputs: Tensor, tensors: Tensors, support: Mapping[Label, Tensor]
) -> tuple[ExportedProgram, Axes]:
    """Trace the graph with a class more than there are: axes that grow by it may have any length.

    So the answers that are compared next are of another number of classes, and no axis of 1 is taken for a constant.
    """
    name, kept_n = next(iter(support.items()))
    added: dict[Label, Tensor]
    more = kept_n[:1].repeat_interleave(_ADDED, 0)
    added = {name: torch.cat([kept_n, more])} if graph.algorithm.fixed_ways else {"": more}
    larger = {key: kept.cpu() for key, kept in {**support, **added}.items()}
    targets_S = torch.arange(len(larger)).repeat_interleave(torch.tensor([len(kept) for kept in larger.values()]))
    state = graph.algorithm.adapt(graph.encoder, torch.cat(list(larger.values())), targets_S, len(larger))
    traced = _as_inputs(graph.algorithm, state, larger)[0]
    growth = {key: np.subtract(value.shape, tensors[key].shape) for key, value in traced.items()}
    grows = {1: "W", _ADDED: "S"}
    axes = {0: "N"}, {key: {axis: grows[by] for axis, by in enumerate(each) if by} for key, each in growth.items()}
    arguments = inputs[:2].clone(), traced
    return torch.export.export(graph, arguments, dynamic_shapes=tree_map(Dim, axes)), axes


# ---- what comes out


def _reason(error: BaseException) -> str:
    """Return why tracing or writing failed: what was raised first, and at which operator."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    told = f"{type(chain[-1]).__name__}: {first_line(chain[-1])}"
    operator = re.search(r"target=torch\.ops\.([\w.]+)", " ".join(map(str, chain)))
    return f"the operator {operator[1]}: {told}" if operator else told


def _compared(graph: Graph, run: Run, inputs: Tensor, tensors: Tensors, threshold: float) -> tuple[float, int]:
    """Return the largest difference, and how many inputs have another class.

    Raises:
        ValueError: the difference is too great.
    """
    answers = []
    for answer in (graph, run):
        parts = [answer(part, tensors) for part in inputs.tensor_split([1, 3])]  # batches of 1, of 2, of the rest
        answers.append((torch.cat([logits for logits, _ in parts]), torch.cat([familiar for _, familiar in parts])))
    difference = 0.0
    for kind, ours, theirs in zip(OUTPUTS, *answers, strict=True):
        apart, largest = float((ours - theirs).abs().max()), float(ours.abs().max())
        if not apart <= _TOLERANCE * largest + _NOTHING:  # NaN is none
            raise ValueError(f"{kind} of up to {largest:.3g} differ by {apart:.3g}")
        difference = max(difference, apart)
    codes = [torch.where(familiar < threshold, -1, logits.argmax(1)) for logits, familiar in answers]
    return difference, int((codes[0] != codes[1]).sum())


def _read(model: Path) -> bytes:
    try:
        return model.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"there is no '{model}' (looked in {Path.cwd()}): export without only_classes") from error


def _description(classes: Path) -> dict[str, Any]:
    """Return what a classes file says of itself."""
    try:
        with safetensors.safe_open(classes, "np") as file:
            found: dict[str, Any] = json.loads(file.metadata()["quickstudy"])
    except FileNotFoundError as error:
        raise DataError(f"there is no '{classes}' (looked in {Path.cwd()}): export without only_classes") from error
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"'{classes}' is damaged ({error}): export without only_classes") from error
    return found
