"""Arrays that are made once and kept in a file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import DataWarning
from quickstudy.files import atomic_write

Arrays = dict[str, NDArray[Any]]


def cached_arrays(path: Path, what: str, names: Sequence[str], make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays of a file, which are made where it is missing or damaged, and written for the next time.

    Any number of processes may ask at once: each sees a whole file or none. A folder that cannot be written costs a
    ``DataWarning`` and the time to make them again.

    Args:
        path: an ``.npz`` file, whose name must tell everything that the arrays depend on.
        what: names the arrays in the warning, such as ``"the glyphs"``.
        names: of the arrays that the file must have.
        make: makes these arrays, by name; none may hold Python objects.
    """
    arrays = _read(path, names)
    if arrays is None:
        arrays = make()
        try:
            with atomic_write(path) as file:
                np.savez(file, allow_pickle=False, **arrays)
        except OSError as error:
            warnings.warn(
                f"{what} cannot be kept in '{path.parent}' ({error.strerror or error}) and will be made again the next "
                "time: name a folder that can be written in the environment variable QUICKSTUDY_CACHE",
                DataWarning,
                stacklevel=3,
            )
    return arrays


def _read(path: Path, names: Sequence[str]) -> Arrays | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}  # reading a member to its end checks its CRC
    except Exception:  # a damaged file can fail in any way, and the arrays can be made again
        return None
