"""Targets as users write them (strings, integers, one-hot, lists of labels) to codes and class names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.annotations import Annotations
from quickstudy.errors import DataError, brief, few

Codes = NDArray[np.int32] | NDArray[np.bool_]
"""``[N]`` int32 class codes, or ``[N, C]`` bool for several labels per example."""
Numbers = NDArray[np.float64]
"""``[N]`` numbers that are no codes."""

Label = str | int
"""A class as its teacher wrote it: a string, a whole number, or a bool, which is a kind of int in Python."""
LabelType = Literal["str", "int", "bool"]


class Encoded(NamedTuple):
    """Targets as codes into ``classes``."""

    codes: Codes | Numbers
    classes: tuple[str, ...]
    """Names, whatever the labels were."""
    label_type: LabelType = "str"
    """What the labels were; ``labels`` makes them of the names again."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """The classes as the targets have them."""
        return tuple(as_label(name, self.label_type) for name in self.classes)


def as_label(name: str, label_type: LabelType) -> Label:
    """Return the label that a class name of ``encode`` was made of.

    >>> as_label("2", "int"), as_label("0", "bool"), as_label("2", "str")
    (2, False, '2')
    """
    return name if label_type == "str" else int(name) if label_type == "int" else bool(int(name))


def class_name(name: str) -> str:
    """Return a name in the form in which class names are kept and compared: Unicode's composed one, NFC.

    Systems write one name in several ways: a folder ``é`` that a Mac made is an e and an accent.

    >>> len("e\u0301"), len(class_name("e\u0301"))
    (2, 1)
    """
    return unicodedata.normalize("NFC", name)


def plain_number(name: str) -> str:
    """Return a class name that writes a whole number with a fraction of zeros without it, and any other as it is.

    One tool writes 1 where another writes 1.0, as pandas does once a cell of the column is missing. Within one data set
    they are two classes, as they are written; between two they cannot be.

    >>> plain_number("1.0"), plain_number("-20."), plain_number("1.10"), plain_number("v1.0")
    ('1', '-20', '1.10', 'v1.0')
    """
    return re.sub(r"^(-?[0-9]+)\.0*$", r"\1", name)


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return those names that differ in case, blanks, width or what is not seen alone, together with their like.

    >>> alike(["cat", "dog", "Cat", "polar bear", "polar  bear"])
    [('cat', 'Cat'), ('polar bear', 'polar  bear')]
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_bare(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _bare(name: str) -> str:
    if not name.isascii():
        seen = (mark for mark in unicodedata.normalize("NFKC", name) if unicodedata.category(mark) != "Cf")
        name = "".join(seen)
    return "".join(name.casefold().split())


def as_array(values: Any) -> NDArray[Any]:
    """Return an array, a tensor or a column as an array; a tensor's fractions are of a type that NumPy has."""
    if hasattr(values, "cpu"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    return np.asarray(values)


def missing(values: Any) -> NDArray[np.bool_]:
    """Say which of N labels or file names are missing: None, NaN, NaT, NA, or the empty text; ``[N]``."""
    if not hasattr(values, "dtype"):
        return np.fromiter(map(_is_missing, values), np.bool_, len(values))
    array = as_array(values)
    if array.dtype.kind in "biu" or not array.size:
        return np.zeros(len(array), np.bool_)
    if array.dtype.kind in "fUT":
        gone = np.asarray(np.isnan(array) if array.dtype.kind == "f" else array == "")
    else:
        gone = np.fromiter(map(_is_missing, array.ravel()), np.bool_, array.size)
    return np.asarray(gone.reshape(len(array), -1).any(axis=1))


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value == ""
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def type_of(label: Label) -> LabelType:
    """Return what a label is."""
    return "str" if isinstance(label, str) else "bool" if isinstance(label, bool) else "int"


def label_of(value: Any) -> Label:
    """Return a single label as targets would have it: numbers of NumPy and torch are ints.

    Raises:
        DataError: it is neither a string, nor a whole number, nor a bool.
    """
    try:
        encoded = encode([value])
    except DataError as error:
        raise DataError(
            f"a class needs a name that is a string, a whole number or a bool; this is {brief(value)}"
        ) from error
    if encoded.codes.ndim != 1 or len(encoded.classes) != 1 or isinstance(value, (list, tuple)):
        raise DataError(f"a class needs one name, a string, a whole number or a bool; this is {brief(value)}")
    return encoded.labels[0]


def read_as(label: Label, label_type: LabelType) -> Label:
    """Return the label of a type that one of another type writes; where it writes none, the label itself.

    >>> read_as("2", "int"), read_as("true", "bool"), read_as(2, "str"), read_as("two", "int")
    (2, True, '2', 'two')
    """
    if type_of(label) == label_type:
        return label
    if label_type == "str":
        return str(int(label))
    words: dict[Label, bool] = {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}
    if label_type == "bool":
        return words.get(str(label), label)
    return int(label) if isinstance(label, int) or str(label).removeprefix("-").isdecimal() else label


def encode(targets: Any, classes: Sequence[str] | None = None) -> Encoded:
    """Turn targets into codes and class names.

    Args:
        targets: N labels: strings, integers (each distinct number is a class, named by it), a one-hot or
            multi-hot matrix ``[N, C]``, or N lists of strings (several labels per example). A list, an iterator, a
            NumPy array, torch tensor or pandas column; or a pandas frame of one column of labels, or of a matrix, whose
            columns name it.
        classes: names of the C columns of a matrix; default: their numbers.

    Raises:
        DataError: a target is missing, fractional, or of mixed kinds; a matrix is not made of zeros and ones.

    >>> encode(["dog", "cat", "dog"])
    Encoded(codes=array([1, 0, 1], dtype=int32), classes=('cat', 'dog'), label_type='str')
    >>> encode([10, 2]).classes, encode([10, 2]).labels
    (('2', '10'), (2, 10))
    """
    if is_frame(targets):
        targets, classes = of_frame(targets, classes)
    if hasattr(targets, "cpu"):
        targets = as_array(targets)
    if isinstance(targets, (Iterator, KeysView, ValuesView)):
        targets = list(targets)
    if (
        isinstance(targets, (str, bytes, set, frozenset, Mapping))
        or not hasattr(targets, "__len__")
        or getattr(targets, "shape", None) == ()
    ):
        raise DataError(f"targets must be a list, array or tensor of labels, not {brief(targets)}")
    for row in (gone := np.flatnonzero(missing(targets)))[:1].tolist():
        label = (np.asarray(targets) if hasattr(targets, "dtype") else targets)[row]
        what = label if isinstance(label, np.floating) else repr(label)
        raise DataError(
            f"target {row} is {what}: a class label must be a whole number or a string, and it is missing in "
            f"{numbered(gone)}"
        )
    array = np.asarray(targets) if hasattr(targets, "dtype") else None
    if array is None or array.dtype.kind == "O":
        rows = [row.tolist() if hasattr(row, "tolist") else row for row in targets]
        if rows and all(isinstance(row, (list, tuple, set, frozenset)) for row in rows):
            if any(isinstance(label, str) for row in rows for label in row):
                return _label_lists(rows)
            array = _rectangle(rows)
        else:
            array = _of_one_kind(rows)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        return _matrix(array, classes)
    if array.ndim != 1:
        raise DataError(f"targets must be [N] labels or a [N, C] matrix of zeros and ones, not of shape {array.shape}")
    return _labels(array)


Encode = Callable[[Any, Sequence[str] | None], Encoded | Annotations]
"""A function of targets as users write them, and names of the columns of a matrix."""


def encode_numbers(targets: Any, names: Sequence[str] | None = None) -> Encoded:
    """Take targets as the numbers that they are.

    Args:
        targets: N numbers, or texts that write them; a list, an array, a tensor, a column, or a frame of one.
        names: of the columns of a matrix, of which there is no such.

    Raises:
        DataError: a target is missing, no number, or infinite, or there are several per example.

    >>> encode_numbers([0.5, "2", 3]).codes
    array([0.5, 2. , 3. ])
    """
    if is_frame(targets):
        targets, names = of_frame(targets, names)
    if isinstance(targets, (str, bytes)) or not hasattr(targets, "__iter__"):
        raise DataError(f"targets={brief(targets)}: give a list of numbers, one per example")
    targets = as_array(targets) if hasattr(targets, "dtype") else list(in_order(targets, "targets"))
    if getattr(targets, "dtype", np.dtype(float)).kind in "mM":  # of which NumPy makes nanoseconds
        raise DataError(
            "targets are dates or durations: give numbers in a unit of your choice, for dates for instance "
            "(dates - dates.min()) / numpy.timedelta64(1, 'D')"
        )
    for row in (gone := np.flatnonzero(missing(targets)))[:1].tolist():
        raise DataError(f"target {row} is missing: each example needs a number, and {numbered(gone)} has none")
    shape = np.shape(targets) if hasattr(targets, "dtype") else _shape(targets)
    if len(shape) == 2 and shape[1] == 1:
        targets = [row[0] for row in targets]
    elif len(shape) != 1:
        raise DataError(f"targets must be [N] numbers, one per example, and these have the shape {shape}")
    found = np.empty(len(targets), np.float64)
    for row, target in enumerate(targets.tolist() if hasattr(targets, "tolist") else targets):
        try:
            if isinstance(target, (bool, np.bool_, bytes)) or (isinstance(target, str) and "_" in target):
                raise TypeError
            found[row] = float(target)
        except (TypeError, ValueError):
            raise DataError(f"target {row} is {brief(target)}: it must be a number") from None
        except OverflowError:
            found[row] = np.inf
        if not np.isfinite(found[row]):
            raise DataError(f"target {row} is {brief(target)}: it must be a finite number")
    return Encoded(found, ())


def _shape(targets: list[Any]) -> tuple[int, ...]:
    """Return the shape of a list of numbers, or of lists of them."""
    lengths = [len(row) for row in targets if isinstance(row, (list, tuple)) or getattr(row, "ndim", 0) > 0]
    if not lengths:
        return (len(targets),)
    if len(lengths) < len(targets) or len(set(lengths)) > 1:
        raise DataError("targets must be one number per example, and some are lists of another length than others")
    return (len(targets), lengths[0])


def _of_one_kind(rows: Sequence[Any]) -> NDArray[Any]:
    # NumPy by itself would make strings of numbers that stand among strings, and of what is missing.
    for row, label in enumerate(rows):
        if not isinstance(label, (str, int, float)):
            raise DataError(f"target {row} is {brief(label)}: a class label must be a whole number or a string")
        if isinstance(label, str) != isinstance(rows[0], str):
            raise DataError(
                f"target 0 is {brief(rows[0])} and target {row} is {brief(label)}: labels must all be strings or all "
                "be numbers"
            )
        if isinstance(label, bool) != isinstance(rows[0], bool):
            raise DataError(
                f"target 0 is {brief(rows[0])} and target {row} is {brief(label)}: labels must all be True or False, "
                "or all be numbers"
            )
    try:
        if not rows or not isinstance(rows[0], str):
            return np.array(rows)
        texts = [str.__str__(row) for row in rows]  # of an enumeration's member the text, and not what it prints
        return np.array(texts, dtype=np.dtypes.StringDType())
    except UnicodeEncodeError as error:
        raise DataError(
            f"the label {brief(error.object)} holds half a character, which no file can: rename it"
        ) from error


def _rectangle(rows: Sequence[Any]) -> NDArray[Any]:
    try:
        return np.array([list(row) for row in rows])
    except ValueError as error:
        raise DataError(
            "the targets are lists of different lengths: for several labels per example give lists of strings, or "
            "rows of zeros and ones that are all of one length"
        ) from error


def _labels(array: NDArray[Any]) -> Encoded:
    if array.dtype.kind in "UT":
        array = array.astype(np.dtypes.StringDType())
        wrong = np.zeros(0, np.bool_)
    elif array.dtype.kind == "f":
        wrong = ~(np.abs(array) < 2.0**63) | (array != np.round(array))
    elif array.dtype.kind in "biu":
        wrong = array > np.iinfo(np.int64).max if array.dtype.kind == "u" else np.zeros(0, np.bool_)
    else:
        wrong = np.ones(len(array), np.bool_)
    for row in np.flatnonzero(wrong)[:1].tolist():
        label = array[row : row + 1].tolist()[0]
        raise DataError(f"target {row} is {brief(label)}: a class label must be a whole number or a string")
    if array.dtype.kind != "T":
        numbers, codes = np.unique(array.astype(np.int64), return_inverse=True)
        return Encoded(codes.astype(np.int32), tuple(map(str, numbers)), "bool" if array.dtype.kind == "b" else "int")
    written, codes = _texts_once(array)
    composed = np.array([class_name(name) for name in written.tolist()], np.dtypes.StringDType())
    names, renumbered = _texts_once(composed)  # two forms of one name are one class
    return Encoded(renumbered[codes].astype(np.int32), tuple(names.tolist()))


def _texts_once(texts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return texts in order, each once, and which of them each is.

    Whoever asks NumPy for first places gets a stable sort. Its quicksort ends the process on 2,000 texts of 1,000, each
    twice in turn (2.4.6).
    """
    found, _, places = np.unique(texts, return_index=True, return_inverse=True)
    return found, places


def _matrix(array: NDArray[Any], classes: Sequence[str] | None) -> Encoded:
    if not np.isin(array, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(array, (0, 1)).all(axis=1))[0])
        raise DataError(f"row {row} of the target matrix is {array[row]}: one-hot and multi-hot rows hold 0 and 1 only")
    names = tuple(map(class_name, classes if classes is not None else map(str, range(array.shape[1]))))
    if len(names) != array.shape[1]:
        raise DataError(f"{len(names)} class names for a target matrix of {array.shape[1]} columns")
    label_type: LabelType = "int" if classes is None else "str"
    if (array.sum(axis=1) == 1).all():
        return Encoded(array.argmax(axis=1).astype(np.int32), names, label_type)
    return Encoded(array.astype(np.bool_), names, label_type)


def _label_lists(rows: Sequence[Collection[Any]]) -> Encoded:
    for index, row in enumerate(rows):
        if not all(isinstance(label, str) and label for label in row):
            raise DataError(
                f"target {index} is {brief(row)}: where examples have several labels, each must be a string, and no "
                "empty one; an example without labels has the empty list"
            )
    rows = [[class_name(label) for label in row] for row in rows]
    names = tuple(sorted({label for row in rows for label in row}))
    column = {name: index for index, name in enumerate(names)}
    codes = np.zeros((len(rows), len(names)), dtype=np.bool_)
    for index, row in enumerate(rows):
        codes[index, [column[label] for label in row]] = True
    return Encoded(codes, names)


def is_frame(values: Any) -> bool:
    """Whether it is a data frame, which Python goes through by its columns."""
    return hasattr(values, "iloc") and hasattr(values, "columns")


def of_frame(frame: Any, classes: Sequence[str] | None = None) -> tuple[Any, Sequence[str] | None]:
    """Return the targets in a frame, and the names of their classes: one column as it is, several as a matrix."""
    if frame.shape[1] == 1:
        return frame.iloc[:, 0], classes
    return frame.to_numpy(), list(map(_column_name, frame.columns)) if classes is None else classes


def _column_name(name: Any) -> str:
    return plain_number(str(name)) if isinstance(name, (float, np.floating)) else str(name)


def numbered(rows: NDArray[np.integer[Any]]) -> str:
    """Return row numbers, counted from 0, for a message.

    >>> numbered(np.array([3])), numbered(np.arange(9))
    ('row 3', '9 rows: 0, 1, 2, 3, 4, ...')
    """
    if len(rows) == 1:
        return f"row {rows[0]}"
    return f"{len(rows)} rows: {few(map(str, rows.tolist()))}"


def in_order(values: Any, what: str) -> Any:
    """Return values that have a length and an order: what comes one by one, as of ``glob``, becomes a list.

    Raises:
        DataError: they are a set, which has no order, or a mapping; or a frame of which nobody says which column.
    """
    if is_frame(values):
        return _column_of(values, what)
    if isinstance(values, (set, frozenset)):
        raise DataError(f"the {what} are a set, which has no order: give a list, for instance sorted(...)")
    if isinstance(values, Mapping):
        raise DataError(
            f"the {what} are a mapping: give lists, of its keys list(...) and of its values list(....values())"
        )
    if hasattr(values, "columns") and hasattr(values, "to_pandas"):  # of polars or Arrow
        return in_order(values.to_pandas(), what)
    one_by_one = isinstance(values, Iterable) and not hasattr(values, "__len__")
    return list(values) if one_by_one or isinstance(values, (KeysView, ValuesView)) else values


def _column_of(frame: Any, what: str) -> Any:
    """Return the only column of a frame; or that which is called as its values are, ``"text"`` where texts are asked.

    Raises:
        DataError: it has others; the message says what to type.
    """
    names, name = list(frame.columns), what.removesuffix("s")
    meant = [place for place, one in enumerate(names) if len(names) == 1 or str(one).lower() == name]
    if len(meant) != 1:
        example = f", frame[{names[0]!r}]" if names else ""
        raise DataError(
            f"the {what} are a table with the columns {few(map(repr, names))}: say which of them is meant{example}"
        )
    return frame.iloc[:, meant[0]]
