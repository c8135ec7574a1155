"""Tables from data frames and CSV files."""

from __future__ import annotations

import gzip
import json
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.rows import Rows, columns_of
from quickstudy.data.sources import listed_table
from quickstudy.data.stages import Stage
from quickstudy.data.table import Inputs, Table
from quickstudy.data.targets import Encode, encode, missing, plain_number
from quickstudy.errors import DataError, DataWarning, brief, closest, few, first_line, require
from quickstudy.files import absent

Fields = str | int | Sequence[str | int] | None
"""One column or several, by their names."""
TARGETS = ("label", "class", "target", "category", "intent", "species", "labels", "y")
"""What a column of classes is called, in lower case, where nobody says which it is."""
_OTHERS = (".jsonl", ".ndjson", ".json", ".parquet")
TABLES = (".csv", *_OTHERS)
"""Endings of files that hold a table; CSV and JSON may be compressed, ``.csv.gz``."""
_MARKS = ";\t|"  # between cells, where it is not a comma
_PARQUET = ("pyarrow", "fastparquet")
"""What pandas reads Parquet by."""
_BROKEN = (OSError, EOFError, zlib.error)  # such as a compressed file of which a part is missing
_NO_CHANCE = 50
"""Rows in which a column that is the targets in other words is so by no chance."""


def target_among(names: Sequence[str]) -> str | None:
    """Return which column has the classes by what it is called; None where none is called so.

    >>> target_among(["text", "Label"]), target_among(["text", "from"])
    ('Label', None)
    """
    return next((name for known in TARGETS for name in names if name.lower() == known), None)


def is_table(path: Path) -> bool:
    """Whether a file of this name holds a table."""
    return path.name.lower().removesuffix(".gz").endswith(TABLES)


def _opened(path: Path) -> gzip.GzipFile | BufferedReader:
    """Open a file, decompressed where it is compressed."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def file_frame(path: str | os.PathLike[str], target_fields: Fields) -> Any:
    """Read a table from a file into a pandas frame, by its ending.

    JSON of one object per line, or of a list of them, from ``.jsonl``, ``.ndjson`` or ``.json``, also as Label Studio
    exports it, see ``of_label_studio``; Parquet from ``.parquet``; and CSV from any other, see ``csv_frame``. Each may
    be compressed, ``.csv.gz``, but for Parquet.

    Raises:
        DataError: it is missing, or holds something else; the message has the line.
        MissingPackageError: pandas is not installed.
    """
    place = Path(path).expanduser()
    ending = Path(place.name.lower().removesuffix(".gz")).suffix
    if ending not in _OTHERS:
        return csv_frame(path, target_fields)
    pandas = require("pandas", extra="tabular")
    if not place.is_file():
        raise DataError(absent("file", place))
    if ending == ".parquet":
        if not any(find_spec(engine) for engine in _PARQUET):
            require(_PARQUET[0], extra="parquet")
        try:
            return pandas.read_parquet(place)
        except (ValueError, OSError) as error:
            raise DataError(f"'{place}' cannot be read as Parquet: {first_line(error)}") from error
    rows = _json_rows(place)
    try:
        return pandas.DataFrame(of_label_studio(rows), dtype=object)
    except (AttributeError, TypeError) as error:
        raise DataError(f"'{place}' looks like an export of Label Studio and is none: {first_line(error)}") from error


def _json_rows(path: Path) -> list[dict[str, Any]]:
    try:
        with _opened(path) as file:
            text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' cannot be read as JSON: it is not UTF-8 text ({error}). Save it as that") from error
    except _BROKEN as error:
        raise DataError(f"'{path}' cannot be read as JSON: {first_line(error)}") from error
    lines = [text] if text.lstrip().startswith("[") else text.splitlines()
    rows: list[Any] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found = json.loads(line)
            except ValueError as error:
                raise DataError(f"line {number} of '{path}' is no JSON: {error}") from error
            rows += found if isinstance(found, list) else [found]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f'\'{path}\' holds no rows: write one object per line, {{"text": ..., "label": ...}}')
    return rows


def of_label_studio(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with what was chosen in Label Studio beside what it was chosen for; other rows as they are.

    Of its export, JSON, the columns are those of ``data`` and, by their names in the labelling interface, what
    annotators chose or rated; of its short form, JSON-MIN, cells become what was chosen. Where a task has several
    annotations, the one marked as ground truth counts, else the last that was not cancelled. Where a task has several
    choices of one name, all tasks have lists of them.

    >>> of_label_studio([{"data": {"text": "a"}, "annotations": [{"result": [
    ...     {"from_name": "intent", "value": {"choices": ["card"]}}]}]}])
    [{'text': 'a', 'intent': 'card'}]
    """
    exported = all(isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list) for row in rows)
    chosen = [_chosen(row["annotations"]) if exported else _short(row) for row in rows]
    several = {name for found in chosen for name, values in found.items() if len(values) > 1}
    told = [
        {name: values if name in several else values[0] for name, values in found.items() if values}
        | dict[str, Any]((name, []) for name in several if exported and row["annotations"] and not found.get(name))
        for row, found in zip(rows, chosen, strict=True)
    ]
    return [{**(row["data"] if exported else row), **found} for row, found in zip(rows, told, strict=True)]


def _chosen(annotations: list[dict[str, Any]]) -> dict[str, list[Any]]:
    done = [one for one in annotations if not one.get("was_cancelled")]
    best = [one for one in done if one.get("ground_truth")] or done
    found: dict[str, list[Any]] = {}
    for result in best[-1].get("result", []) if best else []:
        value = result.get("value", {})
        told: Any = next((value[kind] for kind in ("choices", "rating", "number") if kind in value), [])
        found.setdefault(result.get("from_name", ""), []).extend(told if isinstance(told, list) else [told])
    return found


def _short(row: dict[str, Any]) -> dict[str, list[Any]]:
    cells = {name: cell for name, cell in row.items() if isinstance(cell, dict) and cell.keys() == {"choices"}}
    return {name: list(cell["choices"]) for name, cell in cells.items()}


def csv_frame(path: str | os.PathLike[str], target_fields: Fields) -> Any:
    """Read a CSV file into a pandas frame of text, as it is written; what is missing is the empty text.

    Labels that are whole numbers, every one of them in their plain form, become numbers, so that 10 comes after 2. So
    do those that all have a fraction of zeros, as pandas writes them once a label is missing, and several columns of
    zeros and ones.

    Raises:
        DataError: it is missing or no CSV file; the message says what it may be.
        MissingPackageError: pandas is not installed.
    """
    pandas = require("pandas", extra="tabular")
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(absent("file", path))

    def read(**options: Any) -> Any:
        # "NA" and "None" are names like others. By itself pandas takes the first cell of a row that is one too long for
        # a row's name, and the others for one column further.
        with _opened(path) as file:
            return pandas.read_csv(
                file, keep_default_na=False, dtype=str, index_col=False, encoding=encoding, **options
            )

    try:
        with _opened(path) as file:
            encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            frame = read()
        header = read(header=None, nrows=1).iloc[0].fillna("").tolist()
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{path}' cannot be read as a CSV file: it is not UTF-8 text ({error}). Save it as 'CSV UTF-8'; or read "
            "it with its own encoding, pandas.read_csv(..., encoding='cp1252'), and give from_data_frame that"
        ) from error
    except (ValueError, *_BROKEN, pandas.errors.ParserWarning) as error:
        raise DataError(f"'{path}' cannot be read as a CSV file: {first_line(error)}{_marks(path)}") from error
    frame.columns = header  # which pandas would number where one stands twice
    for field in set(header) & set(map(str, _listed(target_fields))):
        if header.count(field) == 1:
            frame[field] = _numbers(frame[field].tolist(), several=len(_listed(target_fields)) > 1)
    return frame


def _marks(path: Path) -> str:
    """Say so where the first line of a file that cannot be read separates its cells by something else than ','."""
    try:
        with _opened(path) as file:
            line = file.readline().decode("utf-8-sig", "replace").rstrip()
    except _BROKEN:
        return ""
    mark = next((mark for mark in _MARKS if mark in line and "," not in line), None)
    if mark is None:
        return '. Cells with a comma in them need quotation marks, "so, and so"'
    return (
        f". Its cells seem to be separated by {mark!r} and not by ',': save it with commas, or in Python read it with "
        f"pandas.read_csv(..., sep={mark!r}) and give from_data_frame that"
    )


def _numbers(texts: list[str], several: bool) -> list[Any]:
    """Return a column of labels with numbers for texts, where every one that is there is a number in its plain form."""
    plain = r"0|-?[1-9]\d{0,17}"
    numbers = [r"(?i)[01](\.0*)?|true|false"] if several else [plain, rf"({plain})\.0+"]
    cells = list(zip(texts, missing(texts), strict=True))
    if not any(all(gone or re.fullmatch(number, text) for text, gone in cells) for number in numbers):
        return texts
    return ["" if gone else int(text[0] in "1tT" if several else plain_number(text)) for text, gone in cells]


def _listed(fields: Fields) -> list[Any]:
    if isinstance(fields, Iterable) and not isinstance(fields, str):
        return list(fields)
    return [fields] * (fields is not None)


def frame_table(
    frame: Any,
    read: Callable[[list[Any]], Inputs],
    input_field: str | int,
    target_fields: Fields,
    skip: bool = False,
    encode: Encode = encode,
    group_field: str | int | None = None,
) -> Table:
    """Make a table of a data frame: a column of inputs and, where asked for, labels.

    Args:
        frame: of pandas.
        read: makes inputs of the column, which holds names of files or the inputs themselves.
        input_field: the column of the inputs.
        target_fields: the column of labels, or several of zeros and ones.
        skip: whether rows where something is missing, and files that are not there, are left out.
        encode: see ``Table.build``.
        group_field: the column of what each comes from.

    Raises:
        DataError: a column or a file is missing, or a cell of these columns.
    """
    if not hasattr(frame, "iloc"):
        other = ": type .to_pandas() behind it" if hasattr(frame, "to_pandas") else ""
        raise DataError(f"expected a pandas DataFrame, not {type(frame).__name__}{other}")
    fields = _listed(target_fields)
    cells = _cells(frame, _column(frame, input_field))
    columns = [_cells(frame, _column(frame, field)) for field in fields]
    targets = None if not columns else columns[0] if len(columns) == 1 else np.array(columns, object).T
    origins = None if group_field is None else _cells(frame, _column(frame, group_field))
    try:
        return listed_table(cells, targets, read, list(map(str, fields)), skip, encode, origins=origins)
    except DataError as error:
        labels = f", targets: {', '.join(map(repr, fields))}" if fields else ""
        raise DataError(f"{error} (rows are counted from 0; inputs: column {brief(input_field)}{labels})") from error


def file_columns(path: str | os.PathLike[str], target_fields: Fields) -> dict[str, NDArray[Any]]:
    """Read a table from a file into columns by their names; see ``file_frame``.

    Raises:
        DataError: it is missing, holds something else, or has two columns of one name; the message names it.
    """
    try:
        return columns_of(file_frame(path, target_fields))
    except DataError as error:
        told = str(error)
        raise DataError(told if str(path) in told else f"'{path}': {told}") from error


def rows_table(
    columns: dict[str, NDArray[Any]], input_fields: Fields, target_fields: Fields, stage: Stage, encode: Encode
) -> Table:
    """Make a table of columns, whose inputs are rows of several of them.

    Args:
        columns: by name.
        input_fields: those of the inputs; None: all but the targets, and but that of what each row comes from.
        target_fields: that of the targets, or several of zeros and ones.
        stage: to predict, rows need no targets; its ``group_field`` says what each row comes from.
        encode: see ``Table.build``.

    Raises:
        DataError: a column is missing, a target is missing, or among the inputs.
    """
    targets = [str(field) for field in _listed(target_fields)]
    if not targets and not stage.unlabelled:
        raise DataError("target_fields is missing: name the column with the targets")
    names = list(columns)
    if stage.name == "predict" and not all(field in columns for field in targets):
        targets = []
    group = None if stage.group_field is None else str(stage.group_field)
    others = [name for name in names if name not in targets and name != group]
    asked = [str(field) for field in _listed(input_fields)] or others
    for field in (*targets, *asked, *([] if group is None else [group])):
        _place(names, field)
    leaked = [field for field in asked if field in targets]
    if leaked:
        raise DataError(
            f"the target '{leaked[0]}' is among the inputs, which then tell the answer: leave it out of input_fields"
        )
    if not asked:
        raise DataError(
            f"there is no column beside the targets, {few(map(repr, targets))}: give others to tell them by"
        )
    inputs = Rows(columns).only(asked)
    origins = None if group is None else _filled(columns[group].tolist())
    cells = [_filled(columns[field].tolist()) for field in targets]
    told = None if not cells else cells[0] if len(cells) == 1 else np.array(cells, object).T
    if stage.name == "predict" and told is not None and missing(told).any():
        told = None  # labels to hold the answers against, where every row has one
    if stage.name == "train" and len(cells) == 1 and (same := _the_same(inputs, cells[0])):
        warnings.warn(
            f"the column '{same[0]}' tells '{targets[0]}' in other words, and no other column will matter: leave it "
            f"out of input_fields, or give kinds={{'{same[0]}': 'ignored'}}",
            DataWarning,
            5,
        )
    try:
        return listed_table(inputs, told, lambda rows: rows, targets, stage.skip, encode, origins=origins)
    except DataError as error:
        raise DataError(f"{error} (rows are counted from 0; targets: {few(map(repr, targets))})") from error


def _the_same(inputs: Rows, targets: list[Any]) -> list[str]:
    """Return the columns whose cells stand for the targets one by one, in more rows than chance would do it in.

    Of cells that are all different it says nothing that each goes with one target, so most must come more than once.
    """
    if len(inputs) < _NO_CHANCE:
        return []
    same = []
    for name, cells in inputs.columns.items():
        first: dict[Any, Any] = {}
        back: dict[Any, Any] = {}
        pairs = zip(map(str, cells.tolist()), map(str, targets), strict=True)
        if all(
            first.setdefault(cell, target) == target and back.setdefault(target, cell) == cell for cell, target in pairs
        ):
            same += [name] * (1 < len(first) <= len(inputs) // 2)
    return same


def _filled(cells: list[Any]) -> list[Any]:
    """Return cells; of one that has nothing but blanks, nothing."""
    return ["" if isinstance(cell, str) and not cell.strip() else cell for cell in cells]


def _cells(frame: Any, place: int) -> list[Any]:
    """Return a column; of a cell that has nothing but blanks, nothing."""
    return _filled(frame.iloc[:, place].tolist())


def _column(frame: Any, field: Any) -> int:
    """Return the place of a frame's column; its name may be a number."""
    return _place(list(frame.columns), field)


def _place(columns: list[Any], field: Any) -> int:
    places = [place for place, name in enumerate(columns) if name == field]
    places = places or [place for place, name in enumerate(columns) if str(name) == str(field)]
    if len(places) == 1:
        return places[0]
    if places:
        raise DataError(f"the table has {len(places)} columns '{field}': give each a name of its own")
    names = [str(name) for name in columns]
    shown = ", ".join(name if name.strip() else "(one without a name)" for name in names)
    line = ",".join(names)
    for mark in _MARKS:  # or a first line for a spreadsheet that says so
        if mark in line and (str(field) in line.split(mark) or line == f"sep={mark}"):
            raise DataError(
                f"the table has no column '{field}', since its cells are separated by {mark!r} and not by ',': read it "
                f"with pandas.read_csv(..., sep={mark!r}) and give from_data_frame that"
            )
    example = any(re.search(r"\w\.[a-z]\w{1,3}$", name.lower()) for name in names)
    more = ". Its first line looks like an example: write the columns' names above it" if example else ""
    raise DataError(f"the table has no column '{field}'{closest(str(field), names)} It has: {shown}{more}")


def file_name(value: Any) -> Any:
    """Return the name of a file that a frame may have as a number."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return str(int(value)) if number and value % 1 == 0 else value
