"""A table without the examples that cannot be read."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from quickstudy.data.samples import Load, Samples
from quickstudy.data.table import Table
from quickstudy.errors import DataError, DataWarning, few, shown

_SHOWN = 20


def readable(table: Table, load: Load, kind: str) -> tuple[Table, dict[str, str]]:
    """Try every example; return those that can be read, and by name why each other one cannot, which a warning tells.

    Args:
        table: whose classes stay, also those without examples.
        load: makes a tensor of one input.
        kind: of the examples, for messages: ``"train examples"``.

    Raises:
        DataError: none can be read.
    """
    annotations = table.annotations
    if annotations is not None and annotations.code is None:  # what is read may be no tensors yet
        annotations = annotations.coded(lambda found: torch.empty(0))
    samples = Samples(table.inputs, load, annotations=annotations)
    wrong = samples.unreadable()
    if not wrong:
        return table, {}
    first, *_ = wrong.values()
    if len(wrong) == len(table):
        raise DataError(f"none of the {len(table)} {kind} can be read, the first: {first}")
    why = {samples.name(row): message for row, message in wrong.items()}
    rest = list(why)[1:]
    more = f"; and {few(rest, _SHOWN)}" if rest else ""
    warnings.warn(
        f"skipped {len(wrong)} of {len(table)} {kind} that cannot be read, the first: {first}{more}", DataWarning, 2
    )
    return table.select(np.setdiff1d(np.arange(len(table)), list(wrong))), why


def without_lost_classes(kept: Table, table: Table, kind: str) -> Table:
    """Return what is left of a table without those classes that lost all their examples, which a warning names."""
    if table.targets is None:
        return kept
    left = kept.without_empty_classes().classes
    lost = [name for name in table.without_empty_classes().classes if name not in left]
    if not lost:
        return kept
    warnings.warn(
        f"left out {len(lost)} of {len(table.classes)} classes of the {kind}, of which no example can be read: "
        f"{shown(lost)}",
        DataWarning,
        2,
    )
    return kept.with_classes(tuple(name for name in table.classes if name not in lost))
