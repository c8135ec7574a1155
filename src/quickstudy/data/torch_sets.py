"""Tables from torch data sets, and from those of named columns, as Hugging Face's are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from quickstudy.data.stages import StageName
from quickstudy.data.table import Table
from quickstudy.data.targets import Encode, class_name, encode
from quickstudy.errors import DataError, closest, few

_SPLITS: Mapping[StageName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
    "predict": ("predict", "unsupervised"),
}
"""What the splits of data sets are called."""


class DatasetInputs:
    """The inputs of a torch data set of ``(input, target)`` or of dicts with ``"input"``.

    Args:
        dataset: N items.
        rows: of it; default: all.
        known: ``[N]`` targets that were read elsewhere than in the items, which are held against them.

    Raises:
        DataError: the data set has no length, or, when read, an item has another number for its target.
    """

    def __init__(
        self, dataset: Any, rows: NDArray[np.integer[Any]] | None = None, known: NDArray[Any] | None = None
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise DataError(f"{type(dataset).__name__} must be a torch Dataset with a length and numbered items")
        self.dataset = dataset
        self.rows = np.arange(len(dataset)) if rows is None else rows
        self.known = known

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        row = int(self.rows[index])
        found, target = _parts(self.dataset[row])
        known = None if self.known is None else self.known[row]
        whole = isinstance(target, Integral) or (isinstance(target, Tensor) and target.numel() == 1)
        if isinstance(known, Integral) and whole and target != known:
            raise DataError(
                f"item {row} of the data set comes with the target {int(target)}, and the attribute 'targets' has "
                f"{known} for it: bring both in line; or set targets=None, so that items are asked"
            )
        return found

    def select(self, rows: NDArray[np.integer[Any]]) -> DatasetInputs:
        """Return the inputs of these rows."""
        return DatasetInputs(self.dataset, self.rows[rows], self.known)


class DatasetTargets:
    """The targets of a torch data set, item by item, where there are too many to be read at once.

    Args:
        dataset: N items.
        rows: of it; default: all.
    """

    def __init__(self, dataset: Any, rows: NDArray[np.integer[Any]] | None = None) -> None:
        self.dataset, self.rows = dataset, np.arange(len(dataset)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        row = int(self.rows[index])
        target = _parts(self.dataset[row])[1]
        if target is None:
            raise DataError(f"item {row} of the data set has no target")
        return target

    def select(self, rows: NDArray[np.integer[Any]]) -> DatasetTargets:
        """Return the targets of these rows."""
        return DatasetTargets(self.dataset, self.rows[rows])


def annotated_table(dataset: Any, encode: Encode) -> Table:
    """Make a table of a torch data set whose targets are annotations, which are read when they are asked for.

    Raises:
        DataError: it has no length.
    """
    return Table.build(DatasetInputs(dataset), DatasetTargets(dataset), getattr(dataset, "classes", None), encode)


class ByName:
    """A data set whose items are dicts, as one of ``(input, None)``.

    Args:
        dataset: N items.
        input_field: the key of the inputs.

    Raises:
        DataError: there is no such key, or the data set has no length.
    """

    def __init__(self, dataset: Any, input_field: str) -> None:
        known = names_of_columns(dataset)
        if known and input_field not in known:
            raise DataError(f"the data set has no column {input_field!r}{closest(input_field, known)}")
        self.dataset, self.input_field = dataset, input_field

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, None]:
        return self.dataset[index][self.input_field], None


def split_of(dataset: Any, stage: StageName) -> Any:
    """Return a data set, of several by the name of their split, as of Hugging Face's ``DatasetDict``, that of a stage.

    Raises:
        DataError: there is none of that name.
    """
    if not isinstance(dataset, Mapping):
        return dataset
    found = next((dataset[name] for name in _SPLITS[stage] if name in dataset), None)
    if found is None:
        raise DataError(
            f"the data sets given have the splits {few(map(str, dataset))}, and none is called "
            f"'{_SPLITS[stage][0]}': give the one that is meant, {stage}_dataset=data[...]"
        )
    return found


def names_of_columns(dataset: Any) -> list[str]:
    """Return the names of a data set's columns; none where it has no such."""
    names = getattr(dataset, "column_names", None) or getattr(dataset, "columns", None)
    return [str(name) for name in names] if isinstance(names, Iterable) else []


def column_of(dataset: Any, field: Any) -> list[Any]:
    """Return a column of a data set; what its ``features`` give names is called by these, such as ``ClassLabel``'s.

    Raises:
        DataError: there is no such column.
    """
    known = names_of_columns(dataset)
    if field not in known:
        raise DataError(f"the data set has no column {field!r}{closest(str(field), known)} It has: {few(known)}")
    cells = [cell.tolist() if hasattr(cell, "tolist") else cell for cell in dataset[field]]
    feature = (getattr(dataset, "features", None) or {}).get(field)
    names: list[str] = getattr(getattr(feature, "feature", feature), "names", None) or []

    def called(cell: Any) -> Any:
        if isinstance(cell, list):
            return [called(one) for one in cell]
        return names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else None  # -1 stands for none

    return list(map(called, cells)) if names else cells


def has_targets(dataset: Any) -> bool:
    """Whether the items of a data set have targets, as the first says."""
    inputs = DatasetInputs(dataset)
    return len(inputs) > 0 and _parts(dataset[0])[1] is not None


def dataset_table(dataset: Any, encode: Encode = encode) -> Table:
    """Make a table of a torch data set with targets.

    Whole numbers are places in the data set's ``classes``, or values of its ``class_to_idx``, where it has one; torch's
    ``Subset`` and ``ConcatDataset`` are looked through. Such classes keep the data set's order, also those that no
    example is of.

    Raises:
        DataError: it has no length, an item has no target, or a target no name.
    """
    inputs = DatasetInputs(dataset)
    targets, names, known = _targets(dataset, np.arange(len(dataset)))
    inputs.known = known if (known := _array(known)).ndim == 1 else None
    table = Table.build(inputs, targets, names or None, encode)
    return table.with_classes(tuple(dict.fromkeys([*names, *table.classes]))) if names and table.classes else table


def _targets(dataset: Any, rows: NDArray[np.integer[Any]]) -> tuple[Any, list[str], Any]:
    """Return the targets of some rows of a data set, the names of its classes in order, and what its attribute has."""
    known: Any = getattr(dataset, "targets", None)
    if not hasattr(known, "__len__") or len(known) != len(dataset):
        if type(dataset).__getitem__ is Subset.__getitem__:
            return _targets(dataset.dataset, np.asarray(dataset.indices, np.int64)[rows])
        if type(dataset).__getitem__ is ConcatDataset.__getitem__:
            return _targets_of_parts(dataset, rows)
        known = None
    if getattr(dataset, "target_transform", None) is not None:
        return _read(dataset, rows), [], [None] * len(rows)
    if known is None:
        return *_named(_read(dataset, rows), _names(dataset), rows), [None] * len(rows)
    known = known.detach().cpu() if isinstance(known, Tensor) else known
    known = known[rows] if hasattr(known, "shape") else [known[row] for row in rows.tolist()]
    return *_named(known, _names(dataset), rows), known


def _targets_of_parts(dataset: ConcatDataset[Any], rows: NDArray[np.integer[Any]]) -> tuple[Any, list[str], Any]:
    ends = np.asarray(dataset.cumulative_sizes, np.int64)
    owners, starts = np.searchsorted(ends, rows, "right"), np.concatenate([[0], ends[:-1]])
    targets: list[Any] = [None] * len(rows)
    codes: list[Any] = [None] * len(rows)
    order: dict[str, None] = {}
    for place, part in enumerate(dataset.datasets):
        own = np.flatnonzero(owners == place)
        some, names, known = _targets(part, rows[own] - starts[place])
        order |= dict.fromkeys(names)
        for row, target, code in zip(own.tolist(), some, known, strict=True):
            targets[row], codes[row] = target, code
    return targets, list(order), codes


def _read(dataset: Any, rows: NDArray[np.integer[Any]]) -> list[Any]:
    targets = [_parts(dataset[row])[1] for row in rows.tolist()]
    for row, target in zip(rows.tolist(), targets, strict=True):
        if target is None:
            raise DataError(f"item {row} of the data set has no target: items must be (input, target)")
    return targets


def _named(targets: Any, names: Mapping[Any, str], rows: NDArray[np.integer[Any]]) -> tuple[Any, list[str]]:
    """Return names for numbers; of a matrix the names are those of its columns, and text has no need of any."""
    codes = _array(targets) if names else np.empty((0, 0))
    codes = codes[:, 0] if codes.ndim == 2 and codes.shape[1] == 1 < len(names) else codes
    if codes.ndim == 1 and codes.dtype.kind in "biuf":
        for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
            if code not in names:
                raise DataError(
                    f"item {row} of the data set has the target {code}, and its classes have the numbers {min(names)} "
                    f"to {max(names)}: change the target, or the attribute 'classes' of the data set"
                )
        return [names[code] for code in codes.tolist()], list(names.values())
    return targets, list(names.values()) if codes.ndim == 2 and codes.shape[1] == len(names) else []


def _array(targets: Any) -> NDArray[Any]:
    try:
        return np.asarray(targets)
    except ValueError:  # lists of different lengths
        return np.asarray(targets, object)


def _names(dataset: Any) -> dict[int, str]:
    """Return the class names of a data set by code, as torchvision's data sets have them: in one of two attributes.

    Where targets of several kinds can be asked for, as of ``OxfordIIITPet``, these are those of the categories.
    """
    kinds = [getattr(dataset, f"{mark}target_type{many}", None) or () for mark in ("", "_") for many in ("", "s")]
    kind = {kind for some in kinds for kind in ([some] if isinstance(some, str) else some)} or {"category"}
    prefix = "bin_" if kind == {"binary-category"} else ""
    if not prefix and kind.isdisjoint(("category", "class", "label")):
        return {}
    classes, numbers = getattr(dataset, f"{prefix}classes", None), getattr(dataset, f"{prefix}class_to_idx", None)
    if isinstance(numbers, Mapping) and len(set(numbers.values())) == len(numbers):
        named = {code: name for name, code in numbers.items()}
    elif isinstance(classes, Mapping):
        named = dict(classes)
    else:
        named = dict(enumerate(classes)) if isinstance(classes, (list, tuple, np.ndarray)) else {}
    # ImageNet's have several names each, and two of them the same.
    named = {code: ", ".join(map(str, name)) if isinstance(name, tuple) else name for code, name in named.items()}
    if not all(isinstance(name, str) and isinstance(code, Integral) for code, name in named.items()):
        return {}
    counts = Counter(map(class_name, named.values()))
    return {
        int(code): class_name(name) if counts[class_name(name)] == 1 else f"{class_name(name)} ({code})"
        for code, name in sorted(named.items())
    }


def _parts(item: Any) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        if "input" not in item:
            raise DataError(f"a data set's dict needs the keys 'input' and 'target'; this one has {sorted(item)}")
        return item["input"], item.get("target")
    if isinstance(item, (tuple, list)):
        return item[0], (item[1] if len(item) > 1 else None)
    return item, None
