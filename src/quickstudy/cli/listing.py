"""Name what there is: training strategies, backbones, data sets, optimizers, learning-rate schedules."""

from __future__ import annotations

import argparse
import importlib
from fnmatch import fnmatchcase

from quickstudy.errors import ConfigError, closest

KINDS = {
    "strategies": "algorithms",
    "backbones": "nets",
    "datasets": "datasets",
    "optimizers": "optimizers",
    "schedulers": "optimizers",
}
"""Which module of quickstudy has ``available_KIND()``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("kind", nargs="?", choices=KINDS, metavar="KIND", help=f"{', '.join(KINDS)}; default: all")
    parser.add_argument("--match", metavar="PATTERN", help="only names like 'resnet*', or with 'resnet' in them")


def run(args: argparse.Namespace) -> int:
    """Print one name per line, by kind where all are asked for."""
    if args.kind:
        found = _names(args.kind, args.match)
        if not found:
            raise ConfigError(f"no name matches '{args.match}'{closest(args.match, _names(args.kind))}")
        print("\n".join(found))
        return 0
    for kind in KINDS:
        found = _names(kind, args.match)
        print(f"{kind} ({len(found)})")
        print("".join(f"  {name}\n" for name in found), end="")
    return 0


def _names(kind: str, pattern: str | None = None) -> list[str]:
    names: list[str] = getattr(importlib.import_module(f"quickstudy.{KINDS[kind]}"), f"available_{kind}")()
    if pattern is None:
        return names
    glob = pattern.lower() if set(pattern) & set("*?[") else f"*{pattern.lower()}*"
    return [name for name in names if fnmatchcase(name.lower(), glob)]
