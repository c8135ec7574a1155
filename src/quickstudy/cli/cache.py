"""Show which embeddings are kept, of which encoders, and clear them."""

from __future__ import annotations

import argparse
import time
from datetime import datetime

from quickstudy.errors import ConfigError, check_above_zero, closest, given
from quickstudy.learning.embedding_store import LIMIT, Stored, clear, home, size_limit, stored

_NUMBER = 8  # characters of an encoder's number that are shown
_DAY = 86_400


def run(args: argparse.Namespace) -> int:
    """Print a line for each encoder, or remove what is kept of them."""
    check_above_zero(**given(older_than=args.older_than))
    place = home(args.folder)
    kept = stored(place)
    if args.encoder is not None:
        names = {_name(each) for each in kept} | {each.folder.name[:_NUMBER] for each in kept}
        kept = [each for each in kept if _name(each) == args.encoder or each.folder.name.startswith(args.encoder)]
        if not kept:
            raise ConfigError(f"no embeddings are kept of the encoder '{args.encoder}'{closest(args.encoder, names)}")
    if args.older_than is not None:
        kept = [each for each in kept if time.time() - each.used > args.older_than * _DAY]
    total = f"{sum(each.embeddings for each in kept):,} embeddings, {sum(each.size for each in kept) / 1e6:,.1f} MB"
    if args.clear:
        clear(kept)
        print(f"removed {total}, of '{place}'")
        return 0
    rows = [("number", "encoder", "inputs", "embeddings", "MB", "last used"), *map(_row, kept)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if kept else ():
        cells = zip(row, widths, (str.ljust,) * 3 + (str.rjust,) * 2 + (str.ljust,), strict=True)
        print("  ".join(put(cell, width) for cell, width, put in cells).rstrip())
    print(f"{total}, in '{place}'; at most {size_limit() / 1e6:,.0f} MB, what was used last ({LIMIT})")
    return 0


def _name(kept: Stored) -> str:
    return str(kept.about.get("backbone", ""))


def _row(kept: Stored) -> tuple[str, ...]:
    options = [f"{name}={value}" for name, value in dict(kept.about.get("options", {})).items()]
    inputs = ", ".join([str(kept.about.get("inputs", "")), *options])
    used = datetime.fromtimestamp(kept.used).strftime("%Y-%m-%d %H:%M")
    size = f"{kept.size / 1e6:,.1f}"
    return kept.folder.name[:_NUMBER], _name(kept), inputs, f"{kept.embeddings:,}", size, used
