"""What a row of a table is: from cells by their columns' names to numbers and codes.

Shapes: N rows, F numbers, K categories of a row.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import Batch, is_batch, take
from quickstudy.data.likeness import digest
from quickstudy.data.rows import Cells, Rows, cells_of, columns_of
from quickstudy.data.samples import Loaded, content_of, named
from quickstudy.data.table import Inputs
from quickstudy.errors import (
    ConfigError,
    DataError,
    DataWarning,
    brief,
    check_choice,
    check_counts,
    closest,
    few,
    shown,
)
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.tabular.cells import CellError, category_in, empty, in_words, number_in
from quickstudy.tabular.columns import (
    CATEGORY,
    IGNORED,
    KINDS,
    NUMBER,
    Column,
    Number,
    in_another_form,
    learned,
    reader,
    schema_of,
    unscaled,
)

MOST_CATEGORIES = 1000
"""Of a column; rarer ones than these are the same as those that training did not see."""
_LEARNED_FROM = 100_000
"""Rows that are looked at, at most."""
_SHOWN = 500


@MODALITIES.register("tabular")
@dataclass(frozen=True)
class Row(Modality):
    """A row of a table as ``{"numbers": float32 [F], "missing": bool [F], "codes": int64 [K]}``.

    Numbers have mean 0 and deviation 1 in training, those of heavy tails by their ranks, and end where training's do;
    a missing one is the median, and ``missing`` says so where training had such. A date is several numbers. The code of
    a category is from 1 on, and 0 is any that training did not see. ``for_backbone`` tells F and how many codes each
    category has.

    Args:
        kinds: by the name of a column what it is, ``"number"``, ``"category"``, ``"date"`` or ``"ignored"``; of others
            it follows from the training rows.
        scaling: of numbers: ``"auto"`` takes ranks where tails are heavy, ``"standard"`` never, ``"quantile"`` always.
        most_categories: of a column; rarer ones than these are code 0.
        columns: what was learned of each column, see ``Column``; columns that are not named are not read.

    Raises:
        ConfigError: an option is out of range.
    """

    called = "rows"
    on_hub = True
    in_cells = True
    learned = ("columns",)
    shown_as = "text/plain"
    backbone = "mlp"
    kinds: Mapping[str, str] | None = field(default=None, hash=False)
    scaling: str = "auto"
    most_categories: int = MOST_CATEGORIES
    columns: tuple[tuple[Any, ...], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name, kind in (self.kinds or {}).items():
            if kind not in KINDS:
                known = ", ".join(map(repr, KINDS))
                raise ConfigError(f"kinds={{{name!r}: {brief(kind)}}}: what a column is, is one of {known}")
        check_choice("scaling", self.scaling, "auto", "standard", "quantile")
        check_counts(2, most_categories=self.most_categories)

    # ---- reading

    def load(self, item: Any) -> Batch:
        """Return the numbers and codes of a row: of a dict, a row of a pandas frame, or a named tuple."""
        cells = cells_of(self.from_wire(item) if isinstance(item := content_of(item), bytes) else item)
        if not self.columns:
            return _unlearned(cells)
        lacking = [column.name for column, _ in self._plan if column.name not in cells]
        if lacking:
            have = f"; it has {shown(cells)}" if cells else ""
            raise DataError(
                f"{_place(cells) or 'it'} lacks {_columns(lacking)}{have}. Give each column that training had, with "
                "None where a cell is not known"
            )
        return take(self._read({name: [cell] for name, cell in cells.items()}, _place(cells)), 0)

    def load_many(self, inputs: Inputs, rows: NDArray[np.int64]) -> Batch | None:
        """Return rows as one batch, read column by column; None where one cannot be read, which ``load`` tells."""
        if not self.columns or isinstance(inputs, (Tensor, dict)):
            return None
        try:
            if isinstance(inputs, Rows):
                return self._read(inputs.select(rows).columns)
            found = [inputs[row] for row in rows.tolist()]
            if not all(isinstance(row, Cells) for row in found):
                return None
            return self._read({column.name: [row[column.name] for row in found] for column, _ in self._plan})
        except (DataError, KeyError):
            return None

    def _read(self, cells: Mapping[str, Any], place: str = "") -> Batch:
        """Return cells ``[N]`` of columns as numbers and codes."""
        numbers, codes, count = list[NDArray[Any]](), list[NDArray[Any]](), 0
        for column, read in self._plan:
            try:
                found = read(cells[column.name])
            except CellError as error:
                raise error.of(column.name, place) from None
            count = found.shape[-1]
            (codes if column.kind == CATEGORY else numbers).append(found)
        values_N2F = np.concatenate([np.zeros((2, 0, count)), *numbers], 1).transpose(2, 0, 1)
        return {
            "numbers": torch.from_numpy(np.ascontiguousarray(values_N2F[:, 0], np.float32)),
            "missing": torch.from_numpy(np.ascontiguousarray(values_N2F[:, 1], np.bool_)),
            "codes": torch.from_numpy(np.stack(codes, 1) if codes else np.zeros((count, 0), np.int64)),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to other processes: its fields."""
        return self.settings

    @cached_property
    def _plan(self) -> list[tuple[Column, Callable[[Any], NDArray[Any]]]]:
        """What reads the cells of each column that is used."""
        known = (Column(*column) for column in self.columns)
        return [(column, reader(column)) for column in known if column.kind != IGNORED]

    def listed(self, inputs: Any) -> Any:
        """Return rows of a frame, of a list, or one alone; a batch of tensors stays as it is.

        Raises:
            DataError: it is no such, or two columns have one name.
        """
        if is_batch(inputs):
            return inputs
        inputs = content_of(inputs)
        if isinstance(inputs, bytes):
            inputs = [self.from_wire(inputs)]
        elif _is_row(inputs):
            inputs = [inputs]
        elif not hasattr(inputs, "__len__") and hasattr(inputs, "__iter__"):
            inputs = list(inputs)
        if isinstance(inputs, (list, tuple)):
            return [one if isinstance(one, (Loaded, bytes)) else cells_of(one, row) for row, one in enumerate(inputs)]
        return inputs if isinstance(inputs, Rows) else Rows(columns_of(inputs))

    def column(self, values: Sequence[Any], root: Any = None, exist: bool = True) -> Inputs:
        """Return rows, each a dict or a row of a frame.

        Raises:
            DataError: one is none; the message has its place.
        """
        rows = self.listed(values)
        return rows if isinstance(rows, Rows) or any(isinstance(row, bytes) for row in rows) else Rows(columns_of(rows))

    # ---- learning

    def fitted(self, inputs: Inputs) -> Self:
        """Return it with what each column is, by the training rows; and warn of those that are of no use.

        Args:
            inputs: the rows: a frame, a list of dicts, or another table, see ``listed``.
        """
        if self.columns or isinstance(inputs, Tensor) or is_batch(inputs):
            return self
        inputs = self.listed(inputs)
        rows = (
            inputs if isinstance(inputs, Rows) else Rows(columns_of([_item(inputs, at) for at in range(len(inputs))]))
        )
        if len(rows) > _LEARNED_FROM:
            rows = rows.select(np.linspace(0, len(rows) - 1, _LEARNED_FROM).astype(np.int64))
        asked = dict(self.kinds or {})
        for name in asked:
            if name not in rows.columns:
                near = closest(name, rows.columns)
                raise ConfigError(f"kinds: there is no column '{name}'{near} There are {shown(rows.columns)}")
        made = tuple(learned(name, rows, asked.get(name), self.scaling, self.most_categories) for name in rows.columns)
        left = [column for column in made if column.kind == IGNORED and column.name not in asked]
        told = few((f"'{column.name}' ({column.facts[0]})" for column in left), 10)
        if all(column.kind == IGNORED for column in made):
            raise DataError(f"no column tells anything: {told or shown(rows.columns)}. Give others, or say by kinds=")
        if left:
            what = f"{len(left)} columns are" if len(left) > 1 else "1 column is"
            warnings.warn(
                f"{what} not used: {told}. To use one, or to say that this is right, give kinds="
                f"{{{left[0].name!r}: 'category'}}, or 'ignored'",
                DataWarning,
                4,
            )
        for column in made:
            if column.name not in asked and (told := in_another_form(rows.columns[column.name], column.kind)):
                told = f"{told}; or, where they are names, give kinds={{{column.name!r}: 'category'}}"
                warnings.warn(f"column '{column.name}': {told}", DataWarning, 4)
        return self.with_options({"columns": _plain(made)})

    @classmethod
    def looks_like_one(cls, value: Any) -> bool:
        """Whether it has names, and a cell for each."""
        return isinstance(value, Mapping) and not any(
            isinstance(cell, Mapping | list | Tensor) for cell in value.values()
        )

    @property
    def column_names(self) -> tuple[str, ...]:
        """All columns that training rows had; see ``Modality.column_names``."""
        return tuple(column[0] for column in self.columns)

    @property
    def used_columns(self) -> tuple[str, ...]:
        """Those of them that tell anything."""
        return tuple(column.name for column, _ in self._plan)

    def for_backbone(self) -> dict[str, Any]:
        """Return how many numbers a row has, and of each category how many codes there are, with 0."""
        if not self.columns:
            return {}
        used = [column for column, _ in self._plan]
        return {
            "numbers": sum(len(column.facts) for column in used if column.kind != CATEGORY),
            "categories": [1 + len(column.facts) for column in used if column.kind == CATEGORY],
        }

    # ---- showing, sending

    @property
    def wire(self) -> Wire:  # type: ignore[override]
        """How rows travel: as objects of JSON; or as files of one, or of CSV of two lines."""
        properties = {column.name: schema_of(column) for column, _ in self._plan}
        return Wire("rows", ("text/csv",), {"type": "object", "properties": properties, "required": list(properties)})

    def from_wire(self, content: Any, name: str = "") -> Any:
        """Return the cells in an object of JSON; or in the bytes of a file of one, or of CSV of two lines."""
        if not isinstance(content, bytes):
            return content
        which = named(name) if name else f"a file of {len(content)} bytes"
        try:
            text = content.decode("utf-8-sig")
            if text.lstrip().startswith("{"):
                return cells_of(json.loads(text))
            lines = [line for line in csv.reader(io.StringIO(text)) if line]
        except (ValueError, csv.Error) as error:
            raise DataError(f"{which} is neither an object of JSON nor CSV: {error}") from error
        if len(lines) == 2 and (twice := sorted(name for name, count in Counter(lines[0]).items() if count > 1)):
            raise DataError(f"{which} has several columns {shown(twice)}: give each a name of its own")
        if len(lines) != 2 or len(lines[0]) != len(lines[1]):
            raise DataError(
                f"{which} is no row: give an object of JSON, {{...}}, or CSV of two lines, the columns' names and "
                "their cells"
            )
        return Cells(zip(*lines, strict=True))

    def show(self, item: Any, example: Batch) -> bytes:
        """Return the cells of the columns that are used, with their names."""
        if is_batch(item):
            cells: Mapping[str, Any] = self._told(example)
            names = list(cells)
        else:
            cells = cells_of(self.from_wire(item) if isinstance(item, bytes) else item)
            names = [column.name for column, _ in self._plan if column.name in cells] or list(cells)
        text = ", ".join(f"{name} {in_words(cells[name])}" for name in names)
        return (text[:_SHOWN] + "..." * (len(text) > _SHOWN)).encode("utf-8", "replace")

    def raw(self) -> tuple[str, Self]:
        """Return its columns."""
        return "one_hot", self

    def sketch(self, item: Any) -> bytes | Tensor:
        """Return the cells of the columns that are used, however they are written: 1, 1.0 and "1" are the same."""
        if is_batch(item):
            return super().sketch(item)
        cells = cells_of(self.from_wire(item) if isinstance(item, bytes) else item)
        names = [column.name for column, _ in self._plan if column.name in cells] or sorted(cells)
        try:
            return digest(*(f"{name}={category_in(cells[name])}\0".encode("utf-8", "surrogatepass") for name in names))
        except CellError as error:
            raise TypeError from error

    def _told(self, example: Batch) -> dict[str, Any]:
        """Return in cells what numbers and codes are of, as far as they tell."""
        numbers, gone = iter(example["numbers"].tolist()), iter(example["missing"].tolist())
        codes, cells = iter(example["codes"].tolist()), {}
        for column, _ in self._plan:
            if column.kind == CATEGORY:
                code = int(next(codes))
                cells[column.name] = column.facts[code - 1] if 0 < code <= len(column.facts) else "another"
            elif column.kind == NUMBER:
                cells[column.name] = unscaled(Number(*column.facts[0]), next(numbers), next(gone))
            else:
                for part, number in column.facts:
                    cells[f"{column.name} ({part})"] = unscaled(Number(*number), next(numbers), next(gone))
        return cells

    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        """Return rows of chance."""
        sizes = self.for_backbone()
        if not sizes and like is None:
            return super().made_up(count, generator, like)
        wide = sizes["numbers"] if like is None else like["numbers"].shape[1]
        most = sizes.get("categories") or [1] * (0 if like is None else like["codes"].shape[1])
        return {
            "numbers": torch.randn(count, wide, generator=generator),
            "missing": torch.rand(count, wide, generator=generator) < 0.1,
            "codes": torch.stack([torch.randint(one, (count,), generator=generator) for one in most], 1)
            if most
            else torch.zeros(count, 0, dtype=torch.int64),
        }

    def recipe(self) -> dict[str, Any]:
        """Return what each column is, and how its cells become numbers and codes."""
        return {"columns": _plain(self.columns)}


def _plain(columns: Any) -> Any:
    """Return columns as JSON has them."""
    return json.loads(json.dumps(columns))


# ---- rows


def _item(inputs: Inputs, row: int) -> Any:
    item = inputs[row]
    item = item.item if isinstance(item, Loaded) else item
    return cells_of(item, row)


def _place(cells: Cells) -> str:
    return "" if cells.row < 0 else f"row {cells.row}"


def _columns(names: Sequence[str]) -> str:
    return f"the column{'s' * (len(names) > 1)} {shown(names)}"


def _is_column(values: Any) -> bool:
    return isinstance(values, (list, tuple, np.ndarray)) or (hasattr(values, "__len__") and hasattr(values, "dtype"))


def _is_row(inputs: Any) -> bool:
    """Whether it is one row alone, and no table: a named tuple, a row of a frame, or a dict of cells."""
    if isinstance(inputs, Mapping):
        return not any(map(_is_column, inputs.values()))
    return hasattr(inputs, "_asdict") or (hasattr(inputs, "to_dict") and not hasattr(inputs, "columns"))


def _unlearned(cells: Cells) -> Batch:
    """Return the finite numbers of a row as they are, before anything is known of its columns."""
    numbers = []
    for name, cell in cells.items():
        try:
            category_in(cell)
            numbers += [number_in(cell)] if isinstance(cell, (int, float)) and not empty([cell])[0] else []
        except CellError as error:
            raise error.of(name, _place(cells)) from None
    return {
        "numbers": torch.tensor(numbers, dtype=torch.float32),
        "missing": torch.zeros(len(numbers), dtype=torch.bool),
        "codes": torch.zeros(0, dtype=torch.int64),
    }
