"""A model as two files, a graph and the classes that it takes in, which answer without quickstudy.

The graph goes from inputs to logits, and to how familiar each input is. What was learned of the classes is an input of
it, so that a class more or less is a new classes file and no new graph. A model that does not learn is a graph of
inputs alone, and has such a file of names beside it.

Shapes: N inputs, S support examples, W classes, ``...`` the shape of one input.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from quickstudy.algorithms import Algorithm, EmbeddingAlgorithm
from quickstudy.batches import Batch, each, join, of_form, size, take
from quickstudy.data.targets import Label
from quickstudy.errors import ConfigError, DataError, first_line
from quickstudy.files import atomic_write, looked_in
from quickstudy.kinds.base import Kind
from quickstudy.learning.confidence import familiarity
from quickstudy.learning.knowledge import Knowledge
from quickstudy.modality import Modality
from quickstudy.nets import Encoder
from quickstudy.saved.graph_files import OUTPUTS, Answers, Axes, FreeAxes, Run, Tensors, written_and_read
from quickstudy.saved.model_folder import Trained
from quickstudy.saved.plain import joined, taken_apart
from quickstudy.torch_internals import tree_leaves_with_path, tree_map, tree_map_with_path

FORMAT = 1
"""Counted up when a reader of an older classes file could not use it."""

_TOLERANCE = 1e-3  # of the largest answer; other ways of rounding differ by some 1e-6 of it
_NOTHING = 1e-5  # a difference that no probability shows
_MADE_UP = 8
_LONGER = 3
_NO_RECIPE = {"image_mode": "RGB", "resize": None}
"""Of inputs that are no pictures, as they always were described."""
_LEAST = torch.finfo(torch.float32).min  # JSON has no infinity
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

    def forward(self, inputs: Batch, tensors: Tensors) -> Answers:
        """Return ``[N, W]`` logits and ``[N]`` familiarities."""
        state = joined(self._skeleton, tensors)
        if not isinstance(self.algorithm, EmbeddingAlgorithm):
            logits_NW = self.algorithm.predict(self.encoder, state, [inputs])
            return logits_NW, logits_NW.amax(1)
        embedded_ND = self.algorithm.keep(self.encoder, [inputs])
        return self.algorithm.answer(self.encoder, state, embedded_ND), familiarity(embedded_ND, tensors["means"])


class TrainedGraph(nn.Module):
    """An encoder and the head that it was trained with, as a function of inputs.

    Args:
        encoder, head: in evaluation mode.
        kind: of the answers.
    """

    def __init__(self, encoder: Encoder, head: nn.Module, kind: Kind) -> None:
        super().__init__()
        self.encoder, self.head, self._kind = encoder, head, kind
        self.places = kind.exported_places

    def forward(self, inputs: Batch, tensors: Tensors) -> Answers:
        """Return ``[N, C]`` answers, of parts of inputs ``[N, ..., C]``; the largest each, as nothing is unknown."""
        answers_NC = self._kind.to_export(self.encoder, self.head, inputs)
        return answers_NC, answers_NC.amax(1 if answers_NC.ndim == 2 else -1)


class NumberGraph(nn.Module):
    """An encoder, a head and what was learned of numbers, as a function of inputs.

    Args:
        encoder, algorithm: in evaluation mode.
        state: what the algorithm learned.
        kind: of the answers.
    """

    def __init__(self, encoder: Encoder, algorithm: Algorithm, state: Any, kind: Kind) -> None:
        super().__init__()
        self.encoder, self.algorithm, self._kind = encoder, algorithm, kind
        tensors: Tensors = {}
        self._skeleton = taken_apart(state, tensors, "state")
        self._names = {name: name.replace(".", "__") for name in tensors}
        for name, value in _plain(tensors).items():
            self.register_buffer(self._names[name], value)

    def forward(self, inputs: Batch, tensors: Tensors) -> Answers:
        """Return ``[N, 1]`` numbers, and these again, as nothing is unknown."""
        state = joined(self._skeleton, {name: getattr(self, own) for name, own in self._names.items()})
        numbers_N1 = self._kind.exported(self.algorithm.predict(self.encoder, state, [inputs]))
        return numbers_N1, numbers_N1.amax(1)


def write(
    path: str | os.PathLike[str], knowledge: Knowledge, given: Any = None, only_classes: bool = False
) -> Exported:
    """Export an adapted model, once its exported form was run and has answered alike.

    Each file is whole or absent, and the classes name the graph that they are for by its checksum. One that answers
    numbers is a graph of inputs alone.

    Args:
        path: of the graph: ``x.onnx``, or ``x.pt2`` for torch.export; ``x.onnx.classes.safetensors`` comes beside it.
        knowledge: of the model.
        given: inputs whose shape and type the graph takes, and whose answers are compared besides those to made-up
            ones; default: such as it learned from, or uint8 pictures of the size that the model loads.
        only_classes: leave the graph as it is, and compare its answers by the classes of now.

    Raises:
        ConfigError: the suffix is another, the strategy's answers depend on each other, the size of inputs is not
            known, the model cannot be traced, or its exported form answers otherwise.
        DataError: there is no class, or no graph for ``only_classes``.
        MissingPackageError: a package is not installed.
    """
    model, classes = Path(path), _beside(Path(path))
    written_and_read(model)  # what cannot be written is told first
    if not knowledge.support:
        if not knowledge.kind.by_class:
            raise DataError("it has learned no example to export: type fit(inputs, numbers) first")
        raise DataError("there is no class to export: type fit(images, labels) or add_class(name, images) first")
    encoder, algorithm = copy.deepcopy(knowledge.encoder).cpu(), copy.deepcopy(knowledge.algorithm).cpu()
    name = f"{type(algorithm).__name__} on {type(encoder.backbone).__name__}"
    if algorithm.sees_queries(encoder):
        raise ConfigError(
            f"{name} answers all inputs of a call together, and a graph answers each as if it were alone: export "
            "another strategy, for instance prototypicalnetworks (in MAML's family: normalization='support')"
        )
    inputs = _inputs(given, knowledge, _description(classes)["input"] if only_classes else None)
    shape = encoder.feature_shape(take(inputs, slice(1)))
    if shape != algorithm.feature_shape:
        raise ConfigError(
            f"inputs of shape {_shape(inputs)} become features of shape {shape}, and it learned from "
            f"{algorithm.feature_shape}: type export({str(model)!r}, inputs=...) with some of the size that it learned"
        )
    if not knowledge.kind.by_class:
        graph_of_numbers = NumberGraph(encoder, algorithm, knowledge.learned, knowledge.kind)
        numbers = [number for kept in knowledge.support.values() for number in kept.numbers]
        unit = knowledge.kind.unit or float(np.std(numbers)) or 1.0
        return _alone(model, name, graph_of_numbers, inputs, knowledge.modality, unit=unit)
    confidence, free = knowledge.confidence, knowledge.modality.free_axes()
    values = {name: kept.values for name, kept in knowledge.support.items()}
    with torch.no_grad():
        tensors, skeleton = _as_inputs(algorithm, knowledge.learned, values)
        graph = Graph(encoder, algorithm, skeleton).eval()
        graph.to(memory_format=torch.contiguous_format)  # torch.export.save warns of others
        trace = None if only_classes else partial(_traced, graph, inputs, tensors, values, free)
        content, difference, flips = _proven(model, name, graph, trace, inputs, tensors, free, confidence.threshold)
    about = {
        "classes": list(knowledge.support),
        "temperature": confidence.temperature,
        "unknown_below": max(confidence.threshold, _LEAST),
        **_asked(inputs, knowledge.modality),
    }
    _put(model, content, tensors, about, only_classes)
    return Exported(model, classes, difference, flips, size(inputs))


def write_trained(path: str | os.PathLike[str], trained: Trained, like: Batch | None = None) -> Exported:
    """Export a trained model that does not learn, once its exported form was run and has answered alike.

    Args:
        path: of the graph: ``x.onnx``, or ``x.pt2`` for torch.export; ``x.onnx.classes.safetensors`` comes beside it.
        trained: the model.
        like: ``[n, ...]`` as the network is fed with them, whose shape and type the graph takes, and whose answers are
            compared besides those to made-up ones; None: of the form of those that it was trained on.

    Raises:
        ConfigError: the suffix is another, the size of inputs is not known, the model cannot be traced, or its exported
            form answers otherwise.
        MissingPackageError: a package is not installed.
    """
    model, kind = Path(path), trained.kind
    encoder, head = copy.deepcopy(trained.encoder).cpu(), copy.deepcopy(trained.head).cpu()
    name = f"{type(kind).__name__} on {type(encoder.backbone).__name__}"
    inputs = _with_made_up(trained.like if like is None else like, trained.modality)
    graph = TrainedGraph(encoder, head, kind)
    told: dict[str, Any] = {"thresholds": list(thresholds)} if (thresholds := getattr(kind, "thresholds", ())) else {}
    if kind.exported_places:
        told["answers"] = "x and y of two corners in shares of the canvas's sides, then a probability of each class"
    return _alone(model, name, graph, inputs, trained.modality, kind.labels, kind.several, kind.unit, told)


def _alone(
    model: Path,
    name: str,
    graph: nn.Module,
    inputs: Batch,
    modality: Modality,
    labels: Sequence[Label] = (),
    several: bool = False,
    unit: float | None = None,
    told: Mapping[str, Any] = MappingProxyType({}),
) -> Exported:
    """Export a graph of inputs alone; see ``_proven`` for its arguments, and ``TrainedModel`` for labels.

    What else is ``told`` goes into the file beside it, in plain values.
    """
    free = modality.free_axes()
    graph.eval().to(memory_format=torch.contiguous_format)  # torch.export.save warns of others

    def trace() -> tuple[ExportedProgram, Axes]:
        axes: Axes = _axes(inputs, free), {}
        arguments: Any = each(Tensor.clone, take(inputs, slice(2))), {}
        return torch.export.export(graph, arguments, dynamic_shapes=tree_map(Dim, axes)), axes

    with torch.no_grad():
        content, difference, flips = _proven(model, name, graph, trace, inputs, {}, free, -math.inf, unit)
    about = {
        "classes": list(labels),
        "several": several,
        **told,
        "temperature": 1.0,
        "unknown_below": _LEAST,
        **_asked(inputs, modality),
    }
    classes = _put(model, content, {}, about)
    return Exported(model, classes, difference, flips, size(inputs))


def _proven(
    model: Path,
    name: str,
    graph: nn.Module,
    trace: Callable[[], tuple[ExportedProgram, Axes]] | None,
    inputs: Batch,
    tensors: Tensors,
    free: FreeAxes,
    threshold: float,
    unit: float | None = None,
) -> tuple[bytes, float, int]:
    """Return a graph as a file, which has answered alike; by how much it differs, and how many have another class.

    Args:
        model: the file.
        name: of the model, for messages.
        graph: it, in torch.
        trace: traces it; None: the file is there.
        inputs, tensors: what it takes.
        free: axes of the inputs that may have any length.
        threshold: of the familiarity.
        unit: by which answers that are numbers vary, such as their deviation; None: they are logits.
    """
    written, read = written_and_read(model)
    if trace is None:
        content = _read(model)
    else:
        try:
            content = written(*trace(), _names(inputs, tensors))
        except ConfigError:  # of a model that says itself why no graph holds it
            raise
        except Exception as error:  # tracing runs all of torch, which raises almost anything
            raise ConfigError(
                f"{name} cannot be exported as {model.suffix}: {_reason(error)}. "
                "Choose another strategy or backbone, or the other of .onnx and .pt2; save(folder) keeps any model"
            ) from error
    try:
        batches = [*_batches(inputs), *([_longer(inputs, free)] if free else [])]
        return content, *_compared(graph, read(content), batches, tensors, threshold, unit)
    except Exception as error:  # whatever the runtime raises
        raise ConfigError(
            f"the graph for '{model}' does not answer as {name} does: {first_line(error)}. "
            + ("It may be another model's: export without only_classes" if trace is None else "Nothing was written")
        ) from error


def _asked(inputs: Batch, modality: Modality) -> dict[str, Any]:
    """Return in plain values what is asked, for who asks without quickstudy."""
    free = modality.free_axes()
    return {"input": _form(inputs), **({"axes": free} if free else {}), **(modality.recipe() or _NO_RECIPE)}


def _put(model: Path, content: bytes, tensors: Tensors, about: dict[str, Any], only_classes: bool = False) -> Path:
    """Write a graph and what it takes besides inputs; return the file of the latter, which names the graph."""
    of_graph = {"name": model.name, "sha256": hashlib.sha256(content).hexdigest()}
    told = {"format": FORMAT, "quickstudy": version("quickstudy"), "model": of_graph, **about}
    if not only_classes:
        with atomic_write(model) as file:
            file.write(content)
    classes = _beside(model)
    with atomic_write(classes) as file:
        file.write(safetensors.torch.save(tensors, {"quickstudy": json.dumps(told)}))
    return classes


def _beside(model: Path) -> Path:
    return model.with_name(f"{model.name}.classes.safetensors")


# ---- what goes in


def _inputs(given: Any, knowledge: Knowledge, before: dict[str, Any] | None) -> Batch:
    """Return what answers are compared on, ``[N, ...]``: what is given, and what is made up."""
    like: Batch | None = knowledge.like
    if given is not None:
        samples = knowledge.reader.samples(knowledge.reader.listed(given))
        like = samples.batch(np.arange(len(samples)))
    elif before is not None:
        like = of_form(before)
    elif not isinstance(knowledge.algorithm, EmbeddingAlgorithm):
        like = each(Tensor.cpu, next(iter(knowledge.support.values())).values)  # which keeps its inputs
    return _with_made_up(like, knowledge.modality)


def _with_made_up(like: Batch | None, modality: Modality) -> Batch:
    """Return inputs, and made-up ones of their form beside them."""
    generator = torch.Generator().manual_seed(0)
    try:
        if not isinstance(like, dict) or type(modality).made_up is not Modality.made_up:
            made = modality.made_up(_MADE_UP, generator, like)
            return made if like is None else join([like, made])
    except ConfigError as error:
        raise ConfigError("the size of its inputs is not known: give some, export(path, inputs=...)") from error
    if not size(like):  # noise for the parts of a dict would be no input
        raise ConfigError(f"its {modality.called} cannot be made up: give some, export(path, inputs=...)")
    return take(like, torch.arange(max(_MADE_UP, size(like))) % size(like))


def _names(inputs: Batch, tensors: Tensors) -> list[str]:
    """Return what the graph's inputs are called: those that are asked, by leaf, and those that were learned."""
    if isinstance(inputs, Tensor):
        return ["images", *tensors]
    leaves = [_leaf(path) for path, _ in tree_leaves_with_path(inputs)]
    return [*(f"inputs.{name}" if name in tensors else name for name in leaves), *tensors]


def _leaf(path: tuple[Any, ...]) -> str:
    """Return the name of a leaf of a dict (of dicts)."""
    return ".".join(str(part.key) for part in path)


def _axes(inputs: Batch, free: FreeAxes) -> Any:
    """Return the names of those axes of each leaf that may have any length."""
    return tree_map_with_path(lambda path, _: {0: "N", **free.get(_leaf(path), {})}, inputs)


def _shape(inputs: Batch) -> Any:
    return each(lambda leaf: tuple(leaf.shape[1:]), inputs)


def _form(inputs: Batch) -> dict[str, Any]:
    """Return in plain values what one input is, for who asks the graph elsewhere."""
    if isinstance(inputs, Tensor):
        return {"shape": list(inputs.shape[1:]), "dtype": str(inputs.dtype).removeprefix("torch.")}
    return {"parts": {name: _form(part) for name, part in inputs.items()}}


def _as_inputs(algorithm: Algorithm, state: Any, support: Mapping[Label, Batch]) -> tuple[Tensors, Any]:
    """Return the tensors that the graph takes besides inputs, and how they make the state."""
    tensors: Tensors = {}
    if isinstance(algorithm, EmbeddingAlgorithm):
        tensors["means"] = torch.stack([kept_n.mean(0) for kept_n in support.values()])
    skeleton = taken_apart(state, tensors, "state")
    return _plain(tensors), skeleton


def _plain(tensors: Tensors) -> Tensors:
    """Return copies, since tensors of inference mode cannot be traced, and files hold no two that share memory.

    They are in the order in which a file of them is read: older versions of torch demand that of tracing of a dict.
    """
    return {name: value.detach().cpu().contiguous().clone() for name, value in sorted(tensors.items())}


def _traced(
    graph: Graph, inputs: Batch, tensors: Tensors, support: Mapping[Label, Batch], free: FreeAxes
) -> tuple[ExportedProgram, Axes]:
    """Trace the graph with a class more than there are: axes that grow by it may have any length.

    So the answers that are compared next are of another number of classes, and no axis of 1 is taken for a constant.
    """
    name, kept_n = next(iter(support.items()))
    more = take(kept_n, torch.zeros(_ADDED, dtype=torch.long))
    added: dict[Label, Batch]
    added = {name: join([kept_n, more])} if graph.algorithm.fixed_ways else {"": more}
    larger = {key: each(Tensor.cpu, kept) for key, kept in {**support, **added}.items()}
    targets_S = torch.arange(len(larger)).repeat_interleave(torch.tensor([size(kept) for kept in larger.values()]))
    state = graph.algorithm.adapt(graph.encoder, join(larger.values()), targets_S, len(larger))
    traced = _as_inputs(graph.algorithm, state, larger)[0]
    growth = {key: np.subtract(value.shape, tensors[key].shape) for key, value in traced.items()}
    grows = {1: "W", _ADDED: "S"}
    learned = {key: {axis: grows[by] for axis, by in enumerate(by_axis) if by} for key, by_axis in growth.items()}
    axes = _axes(inputs, free), learned
    arguments = each(Tensor.clone, take(inputs, slice(2))), traced
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


def _batches(inputs: Batch) -> list[Batch]:
    """Return them as batches of 1, of 2, of the rest."""
    return [take(inputs, rows) for rows in (slice(1), slice(1, 3), slice(3, None))]


def _longer(inputs: Batch, free: FreeAxes) -> Batch:
    """Return two of them, of other lengths where those are free."""

    def longer(leaf: Tensor, axes: Mapping[int, str]) -> Tensor:
        for axis in set(axes) - {0}:
            shape = [*leaf.shape[:axis], _LONGER, *leaf.shape[axis + 1 :]]
            leaf = torch.cat([leaf, leaf.new_zeros(shape)], axis)
        return leaf

    some = take(inputs, slice(2))
    return tree_map(longer, some, _axes(some, free), is_leaf=lambda part: isinstance(part, Tensor))


def _compared(
    graph: nn.Module, run: Run, batches: list[Batch], tensors: Tensors, threshold: float, unit: float | None = None
) -> tuple[float, int]:
    """Return the largest difference, and how many inputs have another class.

    Raises:
        ValueError: the difference is too great.
    """
    answers = []
    for answer in (graph, run):
        parts = [answer(part, tensors) for part in batches]
        rows = [logits.flatten(0, -2) for logits, _ in parts]  # of parts of inputs, which differ in number
        answers.append((torch.cat(rows), torch.cat([familiar.flatten() for _, familiar in parts])))
    difference = 0.0
    for kind, ours, theirs in zip(OUTPUTS, *answers, strict=True):
        apart, largest = float((ours - theirs).abs().max()), float(ours.abs().max())
        slack = _TOLERANCE * largest + _NOTHING
        if unit is not None:  # wherever their zero is
            slack = _TOLERANCE * max(unit, float(ours.max() - ours.min()))
        if not apart <= slack:  # NaN is none
            raise ValueError(f"{kind} of up to {largest:.3g} differ by {apart:.3g}")
        difference = max(difference, apart)
    places = getattr(graph, "places", 0)
    codes = [torch.where(familiar < threshold, -1, logits[:, places:].argmax(1)) for logits, familiar in answers]
    return difference, int((codes[0] != codes[1]).sum())


def _read(model: Path) -> bytes:
    try:
        return model.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"there is no '{model}' ({looked_in(model)}): export without only_classes") from error


def _description(classes: Path) -> dict[str, Any]:
    """Return what a classes file says of itself."""
    try:
        with safetensors.safe_open(classes, "np") as file:
            found: dict[str, Any] = json.loads(file.metadata()["quickstudy"])
    except FileNotFoundError as error:
        raise DataError(f"there is no '{classes}' ({looked_in(classes)}): export without only_classes") from error
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"'{classes}' is damaged ({error}): export without only_classes") from error
    return found
