"""The conformance suite of a modality: what must hold of how inputs are read, so that all else can be built on it.

from quickstudy.testing import check_modality
check_modality(Picture(84), ["1.jpg", "2.png"])
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from quickstudy.batches import Batch, each, stack
from quickstudy.data.samples import Samples
from quickstudy.errors import ConfigError, DataError, brief
from quickstudy.kinds.classification import Classification
from quickstudy.modality import Modality, modality_of
from quickstudy.nets import Encoder, build_encoder, sized
from quickstudy.saved.export import write_trained
from quickstudy.saved.graph_files import written_and_read
from quickstudy.saved.model_folder import Trained
from quickstudy.testing.demands import check_randomness, demand, demand_close, is_file
from quickstudy.torch_internals import tree_flatten, tree_leaves

_LARGEST_SHOWN = 64 << 10
_WIDER = 3
_ROUNDED = 1e-4
"""Of float32, whose sums another runtime takes in another order."""
_BEGINS = {"image/jpeg": b"\xff\xd8", "image/png": b"\x89PNG"}


def check_modality(
    modality: Modality,
    items: Sequence[Any],
    *,
    bad: Sequence[Any] = (),
    backbone: str | nn.Module | None = None,
    exports: bool = True,
) -> None:
    """Check a modality against the contract; it takes seconds.

    Args:
        modality: with its options; what it learns from training inputs it learns from ``items``.
        items: some inputs as users have them, files or not, of different lengths where they may have such.
        bad: inputs that are none: cut ones, with NaN, of a wrong type. Of files an empty one and one that does not
            exist are added.
        backbone: the network, in which neither padding nor neighbours may change an embedding; default: the modality's
            own, where it has one.
        exports: whether the network can be written as a graph; False for one that torch cannot trace, as those whose
            shapes follow from values.

    Raises:
        NonconformingError: a check failed; the message names it.
        ConfigError: no other process can import the modality.
        MissingPackageError: a package that exporting needs is not installed.
    """
    items, untaught = list(items), modality
    _learns_from_its_inputs_alone(modality, items)
    modality = modality.fitted(items)
    examples = _read(modality, items)
    _is_a_plain_value(modality)
    _other_processes_read_the_same(modality, items, examples)
    _takes_one_several_and_batches(modality, items, examples)
    _tells_of_bad_inputs(modality, items, bad)
    _shows_something_small(modality, items, examples)
    _travels(modality, items, examples)
    batch = stack(examples)
    _names_its_free_axes(modality, examples)
    named = backbone or modality.backbone
    made = build_encoder(named, pretrained=False) if named else None
    encoder = sized(made, modality.for_backbone()).double().eval() if made else None
    _makes_up_inputs(modality, batch, encoder)
    if encoder is not None:
        _neither_padding_nor_neighbours_matter(modality, examples, encoder)
        if exports:
            _is_a_graph_of_any_length(modality, examples, encoder)
    _another_interpreter_does_the_same(untaught, items, modality, examples)


def _learns_from_its_inputs_alone(modality: Modality, items: list[Any]) -> None:
    some = items[: -(-len(items) // 2)]
    learned = modality.fitted(some)
    modality.fitted(items)  # which leaves no trace
    again = modality.fitted(some)
    demand(learned == again, "what it learns follows from the training inputs alone", f"{learned}, then {again}")
    demand(learned.fitted(items) == learned, "what it learned stays, whatever comes", learned.fitted(items))


def _read(modality: Modality, items: list[Any]) -> list[Batch]:
    examples = [modality.load(item) for item in items]
    for item, example in zip(items, examples, strict=True):
        demand(_is_tree(example), "an input becomes a tensor, or a dict of tensors", f"{brief(item)}: {type(example)}")
        again = modality.load(item)
        demand(_same(example, again), "an input that is read twice is the same", brief(item))
        demand(all(bool(leaf.isfinite().all()) for leaf in tree_leaves(example)), "all numbers are finite", brief(item))
        first, other = _form(examples[0]), _form(example)
        demand(other == first, "parts have the same names, types and numbers of axes", f"{other}, and before {first}")
        if isinstance(example, Tensor):
            shapes = tuple(example.shape), tuple(examples[0].shape)
            demand(shapes[0] == shapes[1], "tensors have one shape, where parts of a dict may differ", shapes)
    check_randomness(lambda _: [modality.load(item) for item in items], "as it reads")
    return examples


def _is_a_plain_value(modality: Modality) -> None:
    described = modality.described()
    try:
        held = modality_of(json.loads(json.dumps(described)), "a file")
    except (TypeError, ValueError, ConfigError) as error:
        demand(False, "a file holds it, by its registered name and plain options", f"{described}: {error}")
    else:
        demand(held == modality, "a file holds it, by its registered name and plain options", f"{held}, not {modality}")
    try:
        sent = pickle.loads(pickle.dumps(modality))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        demand(False, "it can be sent to other processes", error)
    else:
        demand(sent == modality, "it can be sent to other processes", f"{sent}, not {modality}")


class _Reading(Dataset[Batch]):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __getitem__(self, row: int) -> Batch:
        return self._samples.batch(np.array([row]))


def _other_processes_read_the_same(modality: Modality, items: list[Any], examples: list[Batch]) -> None:
    reading = _Reading(Samples(items, modality))
    loader = DataLoader(reading, batch_size=None, sampler=range(len(items)), num_workers=2)
    for item, example, read in zip(items, examples, loader, strict=True):
        demand(_same(stack([example]), read), "other processes read the same", brief(item))


def _takes_one_several_and_batches(modality: Modality, items: list[Any], examples: list[Batch]) -> None:
    def read(inputs: Any, wanted: list[Batch]) -> tuple[bool, str]:
        found = modality.listed(inputs)
        samples = Samples(found, modality)
        same = len(found) == len(wanted) and all(
            _same(samples.batch(np.array([row])), stack([one])) for row, one in enumerate(wanted)
        )
        return same, f"{brief(inputs)} becomes {brief(found)}"

    right, told = read(tuple(items), examples)
    demand(right, "a list of items is read item by item", told)
    if not isinstance(items[0], (Tensor, np.ndarray, list, tuple)):  # which may be batches
        right, told = read(items[0], examples[:1])
        demand(right, "one item alone is a list of one", told)
    batch = stack(examples)
    demand(_same(modality.listed(batch), batch), "a batch of tensors is fed as it is", type(modality.listed(batch)))


def _tells_of_bad_inputs(modality: Modality, items: list[Any], bad: Sequence[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(item) for item in items if is_file(item)]
        made = [Path(folder, f"{name}{file.suffix}") for file in files[:1] for name in ("empty one", "no one")]
        for path in made[:1]:
            path.touch()
        for item in (*bad, *made, object()):
            name = Path(item).name[:20] if isinstance(item, (str, os.PathLike)) else ""
            try:
                Samples([item], modality).batch(np.array([0]))
            except DataError as error:
                demand(name in str(error), "the message on a bad input names it", f"{brief(item)}: {error}")
            else:
                demand(False, "a bad input is a DataError", f"{brief(item)} is read")


def _shows_something_small(modality: Modality, items: list[Any], examples: list[Batch]) -> None:
    for item, example in zip(items, examples, strict=True):
        shown, kind = modality.show(item, example), modality.shown_as
        small = isinstance(shown, bytes) and len(shown) <= _LARGEST_SHOWN
        demand(small, "what is shown is bytes, at most 64 KB", f"{type(shown).__name__} of {len(shown)}")
        right = bool(shown) == bool(kind) and shown.startswith(_BEGINS.get(kind, b""))
        if right and kind.startswith(("text/", "application/json")):
            try:
                text = shown.decode()
                right = not kind.endswith("json") or json.loads(text) is not None
            except ValueError:
                right = False
        demand(right, "what is shown is of the type that it says", f"{kind or 'nothing'}: {shown[:20]!r}")


def _travels(modality: Modality, items: list[Any], examples: list[Batch]) -> None:
    if modality.wire is None:
        return
    json.dumps(dict(modality.wire.schema))
    for item, example in zip(items, examples, strict=True):
        if is_file(item):
            sent = Path(item).read_bytes(), Path(item).name
        else:
            try:
                sent = json.loads(json.dumps(item)), ""
            except (TypeError, ValueError):
                continue  # what neither JSON nor a file holds does not travel
        arrived = modality.load(modality.from_wire(*sent))
        demand(_same(arrived, example), "what arrives over HTTP reads as what was sent", brief(item))
        if is_file(item):
            try:
                opened = _same(modality.load(modality.from_wire(str(item))), example)
            except DataError:
                continue
            demand(not opened, "a text that arrives over HTTP is never the name of a file that is opened", brief(item))


def _names_its_free_axes(modality: Modality, examples: list[Batch]) -> None:
    if isinstance(examples[0], Tensor):
        return
    free = modality.free_axes()
    for name in examples[0]:
        shapes = [leaf.shape for example in examples for leaf in tree_leaves(example[name])]
        differing = [at + 1 for at, lengths in enumerate(zip(*shapes, strict=False)) if len(set(lengths)) > 1]
        lacking = [axis for axis in differing if axis not in free.get(name, {})]
        demand(not lacking, "axes of any length are among the free ones", f"axis {lacking} of '{name}'")


def _makes_up_inputs(modality: Modality, batch: Batch, encoder: Encoder | None) -> None:
    one, other = (modality.made_up(3, torch.Generator().manual_seed(0), batch) for _ in range(2))
    demand(_same(one, other), "what is made up follows from the generator", "two of one seed differ")
    right = _form(one) == _form(batch) and all(len(leaf) == 3 for leaf in tree_leaves(one))
    free = modality.free_axes()
    if right and isinstance(batch, dict):
        for name, part in batch.items():
            pairs = zip(tree_leaves(one[name]), tree_leaves(part), strict=True)
            axes = set(range(1, 99)) - set(free.get(name, {}))
            right &= all(a.shape[at] == b.shape[at] for a, b in pairs for at in axes if at < a.ndim)
    demand(right, "what is made up has the form of what is read", f"{_form(one)}, and read {_form(batch)}")
    if encoder is not None:
        try:
            with torch.no_grad():
                right, told = bool(encoder(one).isfinite().all()), "an embedding is not finite"
        except (RuntimeError, IndexError, ValueError) as error:
            right, told = False, str(error)
        demand(right, "the network takes what is made up", told)


def _neither_padding_nor_neighbours_matter(modality: Modality, examples: list[Batch], encoder: Encoder) -> None:
    batch = stack(examples)
    with torch.no_grad():
        together = encoder(batch)
        for what, other in (
            ("its neighbours", torch.cat([encoder(stack([example])) for example in examples])),
            ("the padding", encoder(_wider(modality, batch))),
        ):
            demand_close(together, other, f"an embedding does not depend on {what}")


def _is_a_graph_of_any_length(modality: Modality, examples: list[Batch], encoder: Encoder) -> None:
    """Write the network as graphs, and ask them about the shortest, about all, and about what is longer."""
    network, batch = copy.deepcopy(encoder).float(), stack(examples)
    shortest = min(examples, key=lambda example: sum(leaf.numel() for leaf in tree_leaves(example)))
    lengths = stack([shortest]), batch, _wider(modality, batch)
    with torch.no_grad():
        wanted = [network(some) for some in lengths]
        kind = Classification(classes=tuple(map(str, range(wanted[0].shape[1]))))
    for ending in (".pt2", ".onnx"):
        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder, f"network{ending}")
            try:
                write_trained(graph, Trained(network, nn.Identity(), kind, modality), batch)
            except ConfigError as error:
                demand(False, "the network is exported, and its graph answers alike", error)
            run = written_and_read(graph)[1](graph.read_bytes())
        for some, embedded in zip(lengths, wanted, strict=True):
            demand_close(embedded, run(some, {})[0], f"a graph {ending} answers alike at every length", _ROUNDED)


_ELSEWHERE = """
import pickle, sys

with open(sys.argv[1], "rb") as file:
    sys.path[:] = pickle.load(file)
    modality, items = pickle.load(file)
learned = modality.fitted(items)
with open(sys.argv[2], "wb") as file:
    pickle.dump((learned, [learned.load(item) for item in items]), file)
"""


def _another_interpreter_does_the_same(
    untaught: Modality, items: list[Any], learned: Modality, examples: list[Batch]
) -> None:
    """Ask a Python of its own, in which hashes are others, and sets of strings have another order."""
    name = type(untaught).__name__
    if type(untaught).__module__ == "__main__":
        raise ConfigError(f"no other process can import {name}: put it into a file, {name.lower()}.py, and import that")
    other_hashes = {**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "asked"), Path(folder, "answered")
        asked.write_bytes(pickle.dumps(sys.path) + pickle.dumps((untaught, items)))
        command = [sys.executable, "-c", _ELSEWHERE, str(asked), str(answered)]
        done = subprocess.run(command, env=other_hashes, capture_output=True, text=True, errors="replace")
        demand(done.returncode == 0, "another interpreter reads, too", done.stderr[-1000:])
        there, read = pickle.loads(answered.read_bytes())
    demand(there == learned, "another interpreter learns the same", f"{brief(there)}, and here {brief(learned)}")
    for item, example, other in zip(items, examples, read, strict=True):
        demand(_same(example, other), "another interpreter reads the same", brief(item))


def _wider(modality: Modality, batch: Batch) -> Batch:
    """Return a batch with more padding where its axes may have any length."""
    if not isinstance(batch, dict):
        return batch
    free = modality.free_axes()
    return {name: each(partial(_padded, free.get(name, {})), part) for name, part in batch.items()}


def _padded(axes: Mapping[int, str], leaf: Tensor) -> Tensor:
    ends = [end for axis in reversed(range(leaf.ndim)) for end in (0, _WIDER if axis in axes else 0)]
    return F.pad(leaf, ends)


def _is_tree(example: Any) -> bool:
    if isinstance(example, dict):
        return bool(example) and all(isinstance(name, str) and _is_tree(part) for name, part in example.items())
    return isinstance(example, Tensor)


def _same(one: Batch, other: Batch) -> bool:
    (leaves, form), (others, another) = tree_flatten(one), tree_flatten(other)
    return form == another and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(leaves, others, strict=True)
    )


def _form(example: Batch) -> tuple[str, list[str]]:
    leaves, spec = tree_flatten(example)
    return str(spec), [f"{leaf.dtype}, {leaf.ndim} axes" for leaf in leaves]
