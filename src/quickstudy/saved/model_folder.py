"""An adapted model as a folder: JSON that says what it is, and safetensors; never code.

``predictor.json`` names the two other files, whose names hold the beginning of their own checksum: whoever reads sees
the old model or the new, whatever moment the writer dies at, and an encoder that did not change is not written again.
A model that was served has a journal beside it, which then says what ``predictor.json`` would.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from quickstudy.algorithms import Algorithm, algorithm_of
from quickstudy.batches import Batch, each, form_of, of_form, size, take
from quickstudy.data.samples import Load
from quickstudy.data.targets import Label, type_of
from quickstudy.errors import ConfigError, DataError, QuickstudyError
from quickstudy.files import alone, atomic_write, best_checkpoint, looked_in
from quickstudy.kinds.base import Kind, kind_of
from quickstudy.learning.adapting import after, restored
from quickstudy.learning.changes import Change, Kept, check_name, composed
from quickstudy.learning.confidence import HeldOut
from quickstudy.learning.knowledge import CLASSES, Knowledge
from quickstudy.modality import Modality, as_modality, modality_of
from quickstudy.nets import Encoder, build_encoder
from quickstudy.saved.examples import as_tensors, of_tensors
from quickstudy.saved.journal import NAME as JOURNAL
from quickstudy.saved.journal import Journal
from quickstudy.saved.plain import joined, name_of, named_kind, taken_apart

FORMAT = 5
"""Counted up when an older quickstudy could not read it; one that it can is written as before."""
_NAMED_BY_STRINGS, _NAMED_BY_LABELS, _OF_TREES, _TRAINED, _OF_NUMBERS, _OF_KINDS = 1, 2, 3, 3, 4, 5

DESCRIPTION = "predictor.json"
_ATTEMPTS = 5


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """What a trained model that does not learn is made of.

    Args:
        encoder: turns inputs into features; nothing trains it.
        head: turns features into answers; likewise.
        kind: what an answer is.
        modality: what an input is.
        like: ``[n, ...]`` as the network is fed with them, of which the form is kept; None: it is not known.
        head_of_kind: whether the kind made the head; else it is code, which no file holds.
    """

    encoder: Encoder
    head: nn.Module
    kind: Kind
    modality: Modality
    like: Batch | None = None
    head_of_kind: bool = True

    def __post_init__(self) -> None:
        self.encoder.eval()
        self.head.eval()
        if self.like is not None:
            object.__setattr__(self, "like", each(lambda leaf: leaf[:0].cpu(), self.like))


def write(folder: str | os.PathLike[str], knowledge: Knowledge, after: int | None = None) -> None:
    """Write an adapted model; an older one in the folder is replaced once the new one is on the disk.

    Args:
        folder: for its files.
        knowledge: of the model.
        after: the number of the last change of a service that is part of it; None: the model replaces what a service
            knows.

    Raises:
        BehindError: a service has made later changes; nothing was written.
        ConfigError: an option of the algorithm is code, which no file holds.
        OSError: the folder cannot be written.
    """
    algorithm, support = knowledge.algorithm, knowledge.support
    tensors = {f"algorithm.{name}": value for name, value in algorithm.state_dict().items()}
    if support:
        shown = tuple(each for kept in support.values() for each in kept.shown)
        numbers = tuple(each for kept in support.values() for each in kept.numbers)
        origins = tuple(each for kept in support.values() for each in kept.sources)
        named = tuple(each for kept in support.values() for each in kept.names)
        sketches = tuple(each for kept in support.values() for each in kept.sketched)
        tensors |= as_tensors(Kept(knowledge.kept(), shown, numbers, origins, named, sketches))
    skeleton, held = taken_apart(knowledge.learned, tensors, "state"), None
    if (given := knowledge.calibrated) is not None:
        held = {"answers": taken_apart(given[:4], tensors, "calibrated"), "source": given.source}
    told = {
        "format": _format(knowledge),
        "algorithm": {
            "name": name_of(algorithm),
            "options": algorithm.options,
            "feature_shape": list(algorithm.feature_shape),
            "ways": algorithm.ways,
        },
        "inputs": knowledge.taught,
        **({} if knowledge.kind == CLASSES else {"kind": named_kind(knowledge.kind)}),
        "classes": list(support),
        "examples": [kept.examples for kept in support.values()],
        "state": skeleton,
        "rates": knowledge.rates,
        "calibrated": held,
        "rounding": knowledge.rounding,
    }
    _write(Path(folder), knowledge, {"learned": tensors}, told, after)


def write_trained(folder: str | os.PathLike[str], trained: Trained) -> None:
    """Write a trained model that does not learn; an older model in the folder is replaced once it is on the disk.

    Args:
        folder: for its files.
        trained: the model.

    Raises:
        ConfigError: a service learned classes with the model that is there; nothing was written.
        OSError: the folder cannot be written.
    """
    told = {
        "format": _TRAINED,
        "head": "kind" if trained.head_of_kind else None,
        "kind": named_kind(trained.kind),
        "inputs": trained.encoder.fed,
    }
    _write(Path(folder), trained, {"head": trained.head.state_dict()}, told)


def _write(
    place: Path,
    model: Knowledge | Trained,
    own: Mapping[str, Mapping[str, Tensor]],
    told: Mapping[str, Any],
    after: int | None = None,
) -> None:
    """Write a model, whichever it is: files of tensors first, and last the description that names them.

    Args:
        place: the folder.
        model: of which the encoder and what an input is are written.
        own: further tensors, by the name of their file.
        told: what further is described.
        after: see ``write``.
    """
    made_by = model.encoder.made_by
    contents = {name: _bytes(tensors) for name, tensors in {"encoder": model.encoder.state_dict(), **own}.items()}
    with _whole(place), alone(place / ".lock"):
        served = Journal.exists(place)
        if served and isinstance(model, Trained):
            raise ConfigError(f"the model in '{place}' has learned since as a service: save this one in another folder")
        files = {name: _written(place, name, content) for name, content in contents.items()}
        description = {
            "id": _served_id(place) if served else uuid.uuid4().hex,
            "written": {"time": datetime.now(UTC).isoformat(timespec="seconds"), "by": _versions()},
            "files": files,
            "backbone": made_by and dict(zip(("name", "options"), made_by, strict=True)),
            "load": model.modality.described(),
            "input": None if model.like is None else form_of(model.like),
            **told,
        }
        try:
            text = json.dumps(description, indent=1)
        except TypeError as error:
            raise ConfigError(f"a saved model holds plain values only: {error}") from error
        if served:
            with Journal(place) as journal:
                journal.replace(text, after)
        with atomic_write(place / DESCRIPTION, "w") as file:
            file.write(text)
        _tidy(place, files)


def read_trained(
    folder: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    load: Load | None = None,
    backbone: nn.Module | None = None,
    head: nn.Module | None = None,
) -> Trained:
    """Read a trained model that does not learn; no code is run from its files.

    Args:
        folder: what ``write_trained`` wrote.
        device: for its tensors.
        load: makes a tensor of one input, where the model was trained on a function's of one's own.
        backbone, head: the modules, where it was made with such.

    Raises:
        DataError: a file is missing or damaged, or of a newer version.
        ConfigError: what was code is not given, or the model in the folder is one that learns.
    """
    place = Path(folder)
    with _damaged(place):
        description = _description(place)
        if not _fixed(description):
            kind = kind_of(description["kind"]) if "kind" in description else CLASSES
            what, model = "its classes" if kind.by_class else "numbers", kind.learned_by.partition(":")[2]
            raise ConfigError(f"the model in '{place}' learned {what} from examples: type {model}.load('{place}')")
        weights, own = (_read(place, description["files"][name], device) for name in ("encoder", "head"))
        encoder = _encoder(place, description, weights, backbone)
        kind, form = kind_of(description["kind"]), description["input"]
        like = None if form is None else of_form(form)
        of_kind = description["head"] is not None
        if not of_kind and head is None:
            raise ConfigError(
                f"the model in '{place}' was made with a head given as code: give the same again, "
                "TrainedModel.load(folder, head=module)"
            )
        made = kind.head_of(own, encoder.to(device), like) if of_kind or head is None else head
        made.to(next((value.dtype for value in own.values() if value.is_floating_point()), torch.float32))
        _load_weights(made, own, place)
        for part in (encoder, made):
            part.to(device).eval().requires_grad_(False)
        return Trained(encoder, made, kind, _modality(place, description, load), like, of_kind)
    raise AssertionError


def is_trained(folder: str | os.PathLike[str]) -> bool:
    """Whether the model in a folder is one that does not learn.

    Raises:
        DataError: there is no saved model, or it is damaged.
    """
    return _fixed(_description(Path(folder)))


def written(folder: str | os.PathLike[str]) -> str:
    """Return when the model in a folder was last written whole, in ISO 8601.

    Raises:
        DataError: there is no saved model, or it is damaged.
    """
    return str(_description(Path(folder)).get("written", {}).get("time", ""))


def serve(folder: str | os.PathLike[str]) -> Journal:
    """Return the journal of a saved model, which is made where there is none.

    Raises:
        DataError: there is no saved model, or the journal is damaged.
        OSError: the folder cannot be written.
    """
    place = Path(folder)
    _description(place)
    with alone(place / ".lock"):
        if not Journal.exists(place):
            Journal.create(place, (place / DESCRIPTION).read_text(encoding="utf-8"))
    return Journal(place)


def read(
    folder: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    load: Load | None = None,
    backbone: nn.Module | None = None,
) -> Knowledge:
    """Read an adapted model; no code is run from its files.

    Args:
        folder: what ``write`` wrote.
        device: for its tensors.
        load: makes a tensor of one input, where the model was saved with a function of one's own.
        backbone: the module, where it was made with one.

    Raises:
        DataError: a file is missing or damaged, or of a newer version.
        ConfigError: what was code is not given.
    """
    place = Path(folder)
    with _damaged(place):
        for attempt in range(_ATTEMPTS):
            try:
                return _read_once(place, device, load, backbone)
            except FileNotFoundError:  # replaced between two reads
                if attempt == _ATTEMPTS - 1:
                    raise
    raise AssertionError


@contextmanager
def _damaged(place: Path) -> Iterator[None]:
    """Say of whatever fails in reading that a file is missing, or that the description is damaged."""
    try:
        yield
    except QuickstudyError:
        raise
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"the model in '{place}' lacks the file '{error.filename}': save it again") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataError(f"'{place / DESCRIPTION}' is damaged ({type(error).__name__}: {error})") from error


def _read_once(place: Path, device: str | torch.device, load: Load | None, backbone: nn.Module | None) -> Knowledge:
    number, changes, description = 0, list[Change](), _description(place)
    if _fixed(description):
        raise ConfigError(
            f"the model in '{place}' answers as it was trained and does not learn: type TrainedModel.load('{place}')"
        )
    if Journal.exists(place):
        with Journal(place) as journal:
            text, number, changes = journal.model(device)
        kept = _parsed(text, place / JOURNAL)
        if kept.get("id") != description.get("id"):
            raise DataError(
                f"'{place / JOURNAL}' has changes of another model than '{place / DESCRIPTION}': delete the first "
                "to drop them, or bring back the model that they belong to"
            )
        description = kept
    weights, tensors = (_read(place, description["files"][name], device) for name in ("encoder", "learned"))
    encoder = _encoder(place, description, weights, backbone)
    algorithm = _algorithm(place, description, tensors, encoder)
    for part in (encoder, algorithm):
        part.to(device).eval().requires_grad_(False)
    kind = kind_of(description["kind"]) if "kind" in description else CLASSES
    untaught = Knowledge(encoder, algorithm, _modality(place, description, load), kind)
    return replace(after(_learned(untaught, description, tensors), changes), number=number)


def _encoder(
    place: Path, description: Mapping[str, Any], weights: Mapping[str, Tensor], backbone: nn.Module | None
) -> Encoder:
    made = description["backbone"]
    if made is not None:
        encoder = build_encoder(made["name"], made["options"], pretrained=False)
    elif backbone is not None:
        encoder = Encoder(backbone)
    else:
        raise ConfigError(
            f"the model in '{place}' was made with a backbone given as code: give the same again, "
            "Predictor.load(folder, backbone=module)"
        )
    _to_precision_of(weights, encoder)
    encoder.mean, encoder.std = weights.get("mean"), weights.get("std")
    encoder.fed = str(description.get("inputs", ""))
    _load_weights(encoder, weights, place)
    return encoder


def _modality(place: Path, description: Mapping[str, Any], load: Load | None) -> Modality:
    return modality_of(description["load"], place) if load is None else as_modality(load)


def _algorithm(
    place: Path, description: Mapping[str, Any], tensors: Mapping[str, Tensor], encoder: Encoder
) -> Algorithm:
    wanted, own = description["algorithm"], "algorithm."
    kind = algorithm_of(wanted["name"], place)
    algorithm = kind(**{**kind.former, **wanted["options"]})
    if wanted["feature_shape"]:
        algorithm.meet(encoder, tuple(wanted["feature_shape"]), wanted["ways"])
    weights = {name.removeprefix(own): value for name, value in tensors.items() if name.startswith(own)}
    _to_precision_of(weights, algorithm)
    _load_weights(algorithm, weights, place)
    return algorithm


def _learned(knowledge: Knowledge, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Knowledge:
    """Return what is known with what the files hold of the examples, and of how sure it is."""
    classes, examples = description["classes"], description["examples"]
    for name in classes:
        check_name(name)
    if len(set(map(type_of, classes))) > 1:
        raise ValueError("classes named in several types")
    if len(set(classes)) < len(classes) or 0 in examples:
        raise ValueError("a class twice, or without examples")
    if classes and description["state"] is None:
        raise ValueError("classes that were not learned")
    labels = list(map(composed, classes))
    if len(set(labels)) < len(labels):  # two forms of one name passed for two classes
        labels = classes
    support: dict[Label, Kept] = {}
    if classes:
        values, shown, numbers, origins, named, sketches = of_tensors(tensors)
        firsts = [0, *itertools.accumulate(examples)]
        if firsts.pop() != size(values):
            raise ValueError("more or fewer examples than are counted")
        if len(numbers) != (0 if knowledge.kind.by_class else size(values)):
            raise ValueError("more or fewer numbers than examples")
        if any(len(each) not in (0, size(values)) for each in (origins, named, sketches)):
            raise ValueError("more or fewer origins, names or sketches than examples")
        for label, first, count in zip(labels, firsts, examples, strict=True):
            rows = slice(first, first + count)
            others = numbers[rows], origins[rows], named[rows], sketches[rows]
            support[label] = Kept(take(values, rows), shown[rows], *others)
    held = description["calibrated"]
    logits, targets, familiar, strangers = [None] * 4 if held is None else joined(held["answers"], tensors)
    rates = description["rates"]
    known = replace(
        knowledge,
        taught=knowledge.encoder.fed,
        like=None if (form := description.get("input")) is None else of_form(form),  # older ones did not note it
        rounding=float(description.get("rounding", 0)),
        rates={name: float(rates[name]) for name in ("reject_rate", "false_accept") if name in rates},
        calibrated=HeldOut(logits, targets, familiar, strangers, held["source"]) if held else None,  # type: ignore[arg-type]
    )
    return restored(known, support, joined(description["state"], tensors))


def _format(knowledge: Knowledge) -> int:
    """Return the first that has all of it, for as long as an older quickstudy is to read what it can."""
    if not knowledge.kind.by_class:
        return _OF_NUMBERS
    if knowledge.kind != CLASSES:
        return _OF_KINDS
    kept = next(iter(knowledge.support.values()), None)
    if isinstance(knowledge.like, dict) or (kept is not None and isinstance(kept.values, dict)):
        return _OF_TREES
    return _NAMED_BY_STRINGS if all(isinstance(name, str) for name in knowledge.support) else _NAMED_BY_LABELS


# ---- files


def _written(place: Path, kind: str, content: bytes) -> dict[str, Any]:
    checksum = hashlib.sha256(content).hexdigest()
    name = f"{kind}-{checksum[:16]}.safetensors"
    path = place / name
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
        with atomic_write(path) as file:
            file.write(content)
    return {"name": name, "sha256": checksum, "bytes": len(content)}


@contextmanager
def _whole(place: Path) -> Iterator[None]:
    """Make a folder where there is none; and where what is in the block ends early, leave what was there before it."""
    there = place.exists()
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError, QuickstudyError):
            if not Journal.exists(place):  # which may name the new tensors already
                with alone(place / ".lock"):
                    _tidy(place, _description(place)["files"] if (place / DESCRIPTION).exists() else {})
            if not there:
                place.rmdir()  # unless somebody else has written into it
        raise


def _tidy(place: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Remove the tensors of the models before."""
    current = {entry["name"] for entry in files.values()}
    for kind in ("encoder", "learned", "head"):
        for old in place.glob(f"{kind}-*.safetensors"):
            if old.name not in current:
                old.unlink(missing_ok=True)


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})


def _read(place: Path, entry: Mapping[str, Any], device: str | torch.device) -> dict[str, Tensor]:
    path = place / f"{Path(str(entry['name'])).stem}.safetensors"  # here, and no folder
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DataError(f"'{path}' is damaged: its checksum is not that in '{DESCRIPTION}'")
    return {name: value.to(device) for name, value in safetensors.torch.load(content).items()}


def _fixed(description: Mapping[str, Any]) -> bool:
    """Whether a model does not learn; of those that do, one whose answers are numbers has a kind, too."""
    return "kind" in description and "algorithm" not in description


def _served_id(place: Path) -> Any:
    """Return what ties the journal's model to its description, whose file may be damaged."""
    with Journal(place) as journal:
        return _parsed(journal.description, place / JOURNAL).get("id")


def _description(place: Path) -> dict[str, Any]:
    path = place / DESCRIPTION
    try:
        return _parsed(path.read_bytes(), path)
    except (FileNotFoundError, NotADirectoryError) as error:
        looked = f"no {DESCRIPTION}; {looked_in(path)}"
        raise DataError(f"there is no saved model in '{place}' ({looked}){instead(place)}") from error


def instead(place: Path) -> str:
    """Say what is there instead of a saved model, and how to make one of it."""
    told, model, support = "", Path("resnet18"), Path("photos")
    if place.suffix == ".ckpt" and place.is_file():
        told, model = ": it is a checkpoint", place
    elif (checkpoint := best_checkpoint(place)) is not None:
        told, model = ": it is the folder of a training run", checkpoint
    elif place.is_dir() and any(entry.is_dir() for entry in place.iterdir()):
        told, support = ": it has folders, of pictures perhaps", place
    return f"{told}. To make one, type: quickstudy adapt {model} --support {support}/ --out pets/"


def _parsed(text: str | bytes, path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise DataError(f"'{path}' is damaged ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("format"), int):
        raise DataError(f"'{path}' describes no model of quickstudy")
    if found["format"] > FORMAT:
        raise DataError(f"'{path.parent}' was written by a newer quickstudy. Type: pip install -U quickstudy")
    return found


def _to_precision_of(weights: Mapping[str, Tensor], module: nn.Module) -> None:
    """Let a model of a half type, or of float64, stay one."""
    for name, _ in module.named_parameters():
        if name in weights:
            module.to(weights[name].dtype)
            break


def _load_weights(module: nn.Module, weights: Mapping[str, Tensor], place: Path) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"the weights in '{place}' are not those of the {type(module).__name__}: {error}") from error


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("quickstudy", "torch")}
