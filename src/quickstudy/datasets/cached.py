"""Tables that are made once and kept in a file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.data.table import Table
from quickstudy.errors import DataWarning
from quickstudy.files import atomic_write


def cached_tables(path: Path, what: str, names: Sequence[str], make: Callable[[], Sequence[Table]]) -> list[Table]:
    """Return the tables of a file, which are made where it is missing or damaged, and written for the next time.

    Any number of processes may ask at once: each sees a whole file or none. A folder that cannot be written costs a
    ``DataWarning`` and the time to make them again.

    Args:
        path: an ``.npz`` file, whose name must tell everything that the tables depend on.
        what: names them in the warning, such as ``"the glyphs"``.
        names: of the tables in the file.
        make: makes as many tables, of tensors with one label each.
    """
    tables = _read(path, names)
    if tables is None:
        tables = list(make())
        try:
            _write(path, names, tables)
        except OSError as error:
            warnings.warn(
                f"{what} cannot be kept in '{path.parent}' ({error.strerror or error}) and will be made again the next "
                "time: make that folder writable, or name another in the environment variable QUICKSTUDY_CACHE",
                DataWarning,
                stacklevel=3,
            )
    return tables


def _write(path: Path, names: Sequence[str], tables: Sequence[Table]) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    for name, table in zip(names, tables, strict=True):
        assert isinstance(table.inputs, torch.Tensor) and table.targets is not None
        arrays[f"{name}_inputs"] = table.inputs.numpy()
        arrays[f"{name}_targets"] = table.targets
        arrays[f"{name}_classes"] = np.array(table.classes)
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def _read(path: Path, names: Sequence[str]) -> list[Table] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # which checks each array's CRC
            columns = ([arrays[f"{name}_{column}"] for column in ("inputs", "targets", "classes")] for name in names)
            return [Table(torch.from_numpy(x), y, tuple(classes.tolist())) for x, y, classes in columns]
    except Exception:  # a damaged archive raises one of a dozen errors, and the remedy is always to make it again
        return None
