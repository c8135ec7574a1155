"""From what a user names to examples with one class each: folders, archives, tables, or a data module."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from quickstudy.data.frames import file_frame, is_table, target_among
from quickstudy.data.places import open_source, unwrapped
from quickstudy.data.stages import STAGES
from quickstudy.data.table import Table
from quickstudy.domains import DOMAINS
from quickstudy.errors import ConfigError, DataError, DataWarning, few, one_line, unknown
from quickstudy.ladder.draws import codes_of
from quickstudy.learning.checks import Finding
from quickstudy.modality import Modality
from quickstudy.modality.recognition import domain_of_cells, domain_of_names

if TYPE_CHECKING:
    from quickstudy.training.datamodule import DataModule


class Named(TypedDict, total=False):
    """What is said of data, where that does not follow from what lies there.

    Args:
        domain: what the examples are, such as ``"image"`` or ``"text"``; default: by what lies there.
        input_field: of a table, the column of the inputs; default: the only one, or all.
        target_field: of a table, the column of the classes; default: one that is called label, class, or alike.
        group_field: of a table, the column of what an example comes from (a patient, a speaker): no draw asks for an
            example of a group that it learns from.
        group_by: the same of files: a pattern that finds the group in their names.
        data_options: how inputs are read, such as ``{"image_size": 84}``, and further options of ``DataOptions``.
    """

    domain: str | None
    input_field: str | None
    target_field: str | None
    group_field: str | None
    group_by: str | None
    data_options: Mapping[str, Any] | None


def looked_at(data: Any, **named: Unpack[Named]) -> tuple[DataModule, Table, Modality, list[Finding]]:
    """Return a data module of what is named, its examples, what these are, and what was warned of on the way.

    Of rows of a table it is learned what their columns are.

    Args:
        data, named: see ``opened``.

    Raises:
        DataError, ConfigError: see ``opened`` and ``examples_of``.
    """
    with _held() as caught:
        module = opened(data, **named)
        table, modality = examples_of(module), module.modality
        if modality.column_names is not None:
            modality = modality.fitted(table.inputs)
        about = [str(each.message) for each in caught if issubclass(each.category, DataWarning)]
        caught[:] = [each for each in caught if not issubclass(each.category, DataWarning)]
    return module, table, modality, [Finding("read", told) for told in dict.fromkeys(about)]


@contextmanager
def _held() -> Iterator[list[warnings.WarningMessage]]:
    """Hold warnings back, those of the data whatever the filters are; what is left of them is told at the end."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DataWarning)
            yield caught
    finally:
        for each in caught:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def opened(data: Any, **named: Unpack[Named]) -> DataModule:
    """Return a data module of what is named.

    Args:
        data: a folder of class folders, or an archive of one; a table, as CSV, JSON or Parquet; or a data module.
        named: see ``Named``. Of rows of several columns all but the targets are inputs.

    Raises:
        DataError: there is nothing, or it cannot be told what it is.
        ConfigError: an option is unknown, or does not go with such data.
    """
    from quickstudy.training.datamodule import DataModule  # Lightning takes long to import, and help needs none

    said = {name: value for name, value in named.items() if value is not None}
    if isinstance(data, DataModule):
        if said:
            raise ConfigError(
                "a data module says itself what its examples are: give it such options, and leave them out here"
            )
        return data
    if not isinstance(data, (str, os.PathLike)):
        raise ConfigError(
            f"data is {type(data).__name__}: name a folder of class folders, an archive of one or a table; or give a "
            "data module, such as ImageClassificationData.from_files(train_files=files, train_targets=labels)"
        )
    path = Path(data).expanduser()
    domain, input_field, target_field = named.get("domain"), named.get("input_field"), named.get("target_field")
    if domain is not None and domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    own: dict[str, Any] = {"on_error": "skip", **(named.get("data_options") or {})}
    own |= {name: said[name] for name in ("group_field", "group_by") if name in said}
    if not (path.is_file() and is_table(path)):
        if of_table := [name for name in said if name.endswith("_field")]:
            raise ConfigError(f"{of_table[0]} is of a table, and '{path}' is none: leave it out")
        domain = domain or domain_of_names(unwrapped(open_source(path)).files()) or DOMAINS[0]
        return _made(data_class(domain).from_folders, train_folder=path, **own)
    frame = file_frame(path, target_field)
    names = [str(name) for name in frame.columns if str(name) != named.get("group_field")]
    if domain in (None, "graph") and target_field is None and _are_edges(frame):
        raise DataError(
            f"'{path}' is a table of edges: its columns 'source' and 'target' name the same things, and no class of a "
            "graph. Write a file for each graph into class folders; or in Python name the table of labels, "
            "GraphClassificationData.from_tables(train_edges=, train_graphs=). If 'target' is the class of a row, say "
            "so: target_field= (--target_field target)"
        )
    target = target_field or _target(path, names)
    others = [name for name in names if name != target]
    if domain is None:
        fields = [input_field] if input_field is not None else others
        domain = domain_of_cells([frame[name].tolist() for name in fields if name in frame.columns], path.parent)
    cls = data_class(domain)
    if cls.modality.column_names is not None:
        chosen: dict[str, Any] = {} if input_field is None else {"input_fields": [input_field]}
        return _made(cls.from_csv, train_file=path, target_fields=target, **chosen, **own)
    if input_field is None and len(others) != 1:
        raise DataError(
            f"'{path}' has the columns {few(names)}: say which of them has the {cls.modality.called}, input_field= "
            f"(--input_field {next(iter(others), 'NAME')})"
        )
    return _made(cls.from_csv, train_file=path, input_field=input_field or others[0], target_fields=target, **own)


def _are_edges(frame: Any) -> bool:
    """Whether the rows of a frame are edges by their looks: columns source and target, of the same nodes mostly."""
    by_name = {str(name).lower(): name for name in frame.columns}
    if not {"source", "target"} <= by_name.keys():
        return False
    one, other = (set(map(str, frame[by_name[name]].tolist())) for name in ("source", "target"))
    return 2 * len(one & other) >= min(len(one), len(other)) > 0


def _made(door: Callable[..., DataModule], **options: Any) -> DataModule:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "classes differ in case", DataWarning)  # the ladder's own checks tell more
        return door(**options)


def data_class(domain: str) -> type[DataModule]:
    """Return what has a domain's examples of classes."""
    package = importlib.import_module(f"quickstudy.{domain}")
    found: type[DataModule] = getattr(package, package.TASKS[f"{domain}_classification"][1])
    return found


def examples_of(data: DataModule) -> Table:
    """Return the training examples of a data module, or else those of the first stage that has labels.

    Each is of one class. Classes of a single example are left out, as none would be there to ask.

    Raises:
        DataError: they have several labels each, or numbers; or fewer than two classes have two examples.
    """
    stages = (data.table(stage, by_class=True) for stage in STAGES[:3])
    table = next((each for each in stages if each is not None and each.targets is not None), None)
    if table is None or table.numeric or table.multi_label:
        what = "no labels" if table is None else "numbers" if table.numeric else "several labels per example"
        raise DataError(f"a ladder needs one class per example, and this data has {what}")
    several = np.flatnonzero(table.index.counts > 1)
    if len(several) < 2:
        raise DataError(
            f"{len(several)} of {len(table.classes)} classes have two examples or more: add some, as one to learn from "
            "and one to ask is the least, of two classes"
        )
    if len(several) == len(table.classes):
        return table
    rows = np.flatnonzero(np.isin(codes_of(table), several))
    lost = [name for code, name in enumerate(table.classes) if code not in several]
    some = table.select(rows).without_empty_classes()
    alone = {f"class '{one_line(name)}'": "it has a single example" for name in lost}
    return replace(some, skipped={**table.skipped, **alone})


def _target(path: Path, names: list[str]) -> str:
    meant = target_among(names)
    if meant is None:
        raise DataError(
            f"'{path}' has the columns {few(names)}: say which of them has the classes, target_field= (--target_field "
            f"{names[-1] if names else 'NAME'})"
        )
    return meant
