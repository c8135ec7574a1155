"""An adapted model as a folder: JSON that says what it is, and safetensors; never code.

``predictor.json`` names the two other files, whose names hold the beginning of their own checksum: whoever reads sees
the old model or the new, whatever moment the writer dies at, and an encoder that did not change is not written again.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.confidence import HeldOut
from quickstudy.data.samples import LOADS, Load
from quickstudy.errors import ConfigError, DataError, QuickstudyError
from quickstudy.files import alone, atomic_write
from quickstudy.nets import Encoder, build_encoder

FORMAT = 1
"""Counted up when an older quickstudy could not read it."""

DESCRIPTION = "predictor.json"
_HOMES = ("quickstudy.pictures",)  # importing them fills LOADS
_ATTEMPTS = 5


class Saved(NamedTuple):
    """What an adapted model is made of."""

    encoder: Encoder
    algorithm: Algorithm
    load: Load
    support: dict[str, Tensor]
    """By class: what the algorithm keeps of its examples, ``[n, ...]``."""
    state: Any
    """What the algorithm learned; None without classes."""
    rates: dict[str, float]
    """What ``calibrate`` was asked for."""
    calibrated: HeldOut | None
    """What it was given."""


def write(folder: str | os.PathLike[str], saved: Saved) -> None:
    """Write an adapted model; an older one in the folder is replaced once the new one is on the disk.

    Raises:
        ConfigError: an option of the algorithm is code, which no file holds.
        OSError: the folder cannot be written.
    """
    place = Path(folder)
    encoder, algorithm, load, support, state, rates, calibrated = saved
    tensors = {f"algorithm.{name}": value for name, value in algorithm.state_dict().items()}
    if support:
        tensors["kept"] = torch.cat(list(support.values()))
    skeleton, held = taken_apart(state, tensors, "state"), None
    if calibrated is not None:
        held = {"answers": taken_apart(calibrated[:4], tensors, "calibrated"), "source": calibrated.source}
    content, weights = _bytes(tensors), _bytes(encoder.state_dict())
    place.mkdir(parents=True, exist_ok=True)
    with alone(place / ".lock"):
        files = {"encoder": _written(place, "encoder", weights), "learned": _written(place, "learned", content)}
        description = {
            "format": FORMAT,
            "written": {"time": datetime.now(UTC).isoformat(timespec="seconds"), "by": _versions()},
            "files": files,
            "backbone": None
            if encoder.made_by is None
            else dict(zip(("name", "options"), encoder.made_by, strict=True)),
            "algorithm": {
                "name": _name_of(algorithm),
                "options": algorithm.options,
                "feature_shape": list(algorithm.feature_shape),
                "ways": algorithm.ways,
            },
            "load": _named_load(load),
            "classes": list(support),
            "examples": [len(kept) for kept in support.values()],
            "state": skeleton,
            "rates": rates,
            "calibrated": held,
        }
        try:
            text = json.dumps(description, indent=1)
        except TypeError as error:
            raise ConfigError(f"a saved model holds plain values only: {error}") from error
        with atomic_write(place / DESCRIPTION, "w") as file:
            file.write(text)
        current = {entry["name"] for entry in files.values()}
        for pattern in ("encoder-*.safetensors", "learned-*.safetensors"):
            for old in place.glob(pattern):
                if old.name not in current:
                    old.unlink(missing_ok=True)


def read(
    folder: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    load: Load | None = None,
    backbone: nn.Module | None = None,
) -> Saved:
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
    for attempt in range(_ATTEMPTS):
        description = _description(place)
        try:
            encoder_weights, tensors = (
                _read(place, description["files"][name], device) for name in ("encoder", "learned")
            )
            break
        except FileNotFoundError as error:  # replaced between the two reads
            if attempt == _ATTEMPTS - 1:
                raise DataError(f"the model in '{place}' lacks the file '{error.filename}': save it again") from error
    try:
        return _put_together(place, description, encoder_weights, tensors, device, load, backbone)
    except QuickstudyError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
        raise DataError(f"'{place / DESCRIPTION}' is damaged ({type(error).__name__}: {error})") from error


def _put_together(
    place: Path,
    description: dict[str, Any],
    encoder_weights: dict[str, Tensor],
    tensors: dict[str, Tensor],
    device: str | torch.device,
    load: Load | None,
    backbone: nn.Module | None,
) -> Saved:
    made = description["backbone"]
    if made is None and backbone is None:
        raise ConfigError(
            f"the model in '{place}' was made with a backbone given as code: give the same again, "
            "Predictor.load(folder, backbone=module)"
        )
    encoder = build_encoder(made["name"], made["options"], pretrained=False) if made else Encoder(backbone)  # type: ignore[arg-type]
    for name in ("mean", "std"):
        setattr(encoder, name, encoder_weights.get(name))
    _load_weights(encoder, encoder_weights, place)
    wanted = description["algorithm"]
    algorithm = STRATEGIES[wanted["name"]](**wanted["options"])
    if wanted["feature_shape"]:
        algorithm.meet(encoder, tuple(wanted["feature_shape"]), wanted["ways"])
    weights = {
        name.removeprefix("algorithm."): value for name, value in tensors.items() if name.startswith("algorithm.")
    }
    _load_weights(algorithm, weights, place)
    for part in (encoder, algorithm):
        part.to(device).eval().requires_grad_(False)
    parts = torch.split(tensors["kept"], description["examples"]) if description["classes"] else ()
    support = dict(zip(description["classes"], parts, strict=True))
    held = description["calibrated"]
    logits, targets, familiar, strangers = [None] * 4 if held is None else joined(held["answers"], tensors)
    return Saved(
        encoder,
        algorithm,
        load or _found_load(description, place),
        support,
        joined(description["state"], tensors),
        description["rates"],
        HeldOut(logits, targets, familiar, strangers, held["source"]) if held else None,  # type: ignore[arg-type]
    )


# ---- files


def _written(place: Path, kind: str, content: bytes) -> dict[str, Any]:
    checksum = hashlib.sha256(content).hexdigest()
    name = f"{kind}-{checksum[:16]}.safetensors"
    path = place / name
    if not path.exists() or path.stat().st_size != len(content):
        with atomic_write(path) as file:
            file.write(content)
    return {"name": name, "sha256": checksum, "bytes": len(content)}


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})


def _read(place: Path, entry: Mapping[str, Any], device: str | torch.device) -> dict[str, Tensor]:
    path = place / Path(str(entry["name"])).name
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DataError(f"'{path}' is damaged: its checksum is not that in '{DESCRIPTION}'")
    return {name: value.to(device) for name, value in safetensors.torch.load(content).items()}


def _description(place: Path) -> dict[str, Any]:
    path = place / DESCRIPTION
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"there is no saved model in '{place}' (no {DESCRIPTION}; looked in {Path.cwd()})") from error
    except ValueError as error:
        raise DataError(f"'{path}' is damaged ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("format"), int):
        raise DataError(f"'{path}' describes no model of quickstudy")
    if found["format"] > FORMAT:
        raise DataError(f"'{place}' was written by a newer quickstudy. Type: pip install -U quickstudy")
    return found


def _load_weights(module: nn.Module, weights: Mapping[str, Tensor], place: Path) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"the weights in '{place}' are not those of the {type(module).__name__}: {error}") from error


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("quickstudy", "torch")}


# ---- plain values for what is none


def _name_of(algorithm: Algorithm) -> str:
    for name in STRATEGIES.names():
        if type(algorithm) is STRATEGIES[name]:
            return name
    raise ConfigError(
        f"{type(algorithm).__name__} has no name to be found by: register it, @STRATEGIES.register('my_algorithm')"
    )


def _named_load(load: Load) -> dict[str, Any] | None:
    """Return a domain's function by its name, with its options; others' code has none. None: tensors as they are."""
    function, options = (load.func, load.keywords) if isinstance(load, partial) else (load, {})
    for name in LOADS.names():
        if LOADS[name] is function:
            return {"name": name, "options": dict(options)}
    return None if function is torch.as_tensor else {"name": None, "options": {}}


def _found_load(description: Mapping[str, Any], place: Path) -> Load:
    entry = description["load"]
    if entry is None:
        return torch.as_tensor
    if entry["name"] is None:
        raise ConfigError(
            f"the model in '{place}' loads its inputs by code that is not quickstudy's: give the same function again, "
            "Predictor.load(folder, load=...)"
        )
    for home in _HOMES:
        importlib.import_module(home)
    return partial(LOADS[entry["name"]], **entry["options"])


def taken_apart(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """Move the tensors of a state into ``tensors``, and return what joins them again."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        tensors[name] = value
        return name
    if isinstance(value, Mapping):
        return {"mapping": {key: taken_apart(each, tensors, f"{name}.{key}") for key, each in value.items()}}
    kind = "tuple" if isinstance(value, tuple) else "list"
    return {kind: [taken_apart(each, tensors, f"{name}.{number}") for number, each in enumerate(value)]}


def joined(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the state that was taken apart."""
    if skeleton is None:
        return None
    if isinstance(skeleton, str):
        return tensors[skeleton]
    ((kind, parts),) = skeleton.items()
    if kind == "mapping":
        return {key: joined(each, tensors) for key, each in parts.items()}
    values = [joined(each, tensors) for each in parts]
    return tuple(values) if kind == "tuple" else values
