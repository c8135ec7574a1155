"""The data's doors, each once, for every domain: from what a user has to a table per stage.

Static checkers see a data module's doors as ``door_signatures.pyi`` has them, with the arguments that ``@door`` makes.
"""

from __future__ import annotations

import inspect
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from quickstudy.data.annotations import Annotations
from quickstudy.data.frames import Fields, file_frame, frame_table
from quickstudy.data.scan import SplitsError, listed_files
from quickstudy.data.sources import listed_table, tensor_inputs
from quickstudy.data.stages import Stage, door
from quickstudy.data.table import Inputs, Table
from quickstudy.data.targets import Encode, Encoded, class_name, in_order
from quickstudy.data.torch_sets import (
    ByName,
    DatasetInputs,
    annotated_table,
    column_of,
    dataset_table,
    has_targets,
    names_of_columns,
    split_of,
)
from quickstudy.datasets import DATASETS
from quickstudy.errors import ConfigError, DataError, DataWarning, brief, few, one_line, require
from quickstudy.kinds.base import Kind
from quickstudy.kinds.classification import Classification
from quickstudy.modality import Modality

Path = str | os.PathLike[str]
_NO_LABELS = "target_fields is missing: name the column with the labels"


class Doors:
    """Class methods that make a data module; ``options`` are those of ``DataModule`` and of its domain."""

    modality: Modality
    extensions: ClassVar[frozenset[str]] = frozenset()
    """Lower-case endings of its files, where they are others than those of its ``modality``."""
    answers: ClassVar[type[Kind]] = Classification
    """What its targets are."""

    if TYPE_CHECKING:

        def __init__(self, *tables: Table | None, **options: Any) -> None: ...

        @classmethod
        def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Encoded | Annotations:
            """Return targets as its answers count them; see ``DataModule``."""

        @classmethod
        def folder_table(cls, path: Path, labelled: bool) -> Table:
            """Return the examples in a folder; see ``DataModule``."""

    @classmethod
    def from_folders(
        cls,
        train_folder: Path | None = None,
        val_folder: Path | None = None,
        test_folder: Path | None = None,
        predict_folder: Path | None = None,
        folder: Path | None = None,
        **options: Any,
    ) -> Self:
        """Read folders of class folders (``train/cat/1.jpg``), or zip or tar archives of them, in place.

        Args:
            train_folder: classes to train on; where labels are not needed, files without class folders, too.
                ``photos.zip/train`` names a folder inside an archive. Given alone, the root of a data set is read like
                ``folder``, with a warning.
            val_folder: classes to validate on.
            test_folder: classes to test on.
            predict_folder: files without classes, at any depth.
            folder: all in one, in place of the three: the root of a data set with folders ``train``, ``val``, ``test``
                (or ``training``, ``valid``, ``validation``, ``dev``, ``eval``, ``testing``); or one folder of classes,
                of which ``val_split`` and ``test_split`` are set apart, each 0.2 where it is not given.
            options: see the class.

        Raises:
            DataError: nothing is there, a class folder is empty, or a data set's root stands for one of its splits.
            ConfigError: ``folder`` is given together with one that it stands for.
        """
        stages = {"train": train_folder, "val": val_folder, "test": test_folder, "predict": predict_folder}
        folders = {stage: path for stage, path in stages.items() if path is not None}
        if folder is not None and folders.keys() - {"predict"}:
            raise ConfigError("folder= stands for train_folder=, val_folder= and test_folder=: leave these out")

        def read(stage: str) -> Table | None:
            return cls.folder_table(folders[stage], stage != "predict") if stage in folders else None

        if folder is not None:
            folders["train"] = folder
        try:
            train = read("train")
            shares = {"val_split": 0.2, "test_split": 0.2} if folder is not None else {}
        except SplitsError as root:
            if folder is None and len(folders) > 1:
                raise
            if folder is None:
                warnings.warn(f"{root}. All of them are read now, as folder='{train_folder}' says", DataWarning, 2)
            folders = {**root.splits, **{stage: path for stage, path in folders.items() if stage != "train"}}
            train, shares = read("train"), {}
        return cls(train, read("val"), read("test"), read("predict"), **{**shares, **options})

    @door
    def from_files(cls, stage: Stage, files: Iterable[Path], targets: Any) -> Table:
        """Read listed files, with one target each: strings, integers, one-hot rows, or lists of strings.

        Lists, arrays, columns of a frame, and what yields one after the other, such as ``Path.glob`` or a generator.

        Args:
            files, targets: paths, and as many targets, per stage.
            options: see the class.

        Raises:
            DataError: a file does not exist, a target is missing, or there are more of the one than of the other.
        """
        files = in_order(files, "files")
        files = files if isinstance(files, (str, os.PathLike)) else list(files)
        read = partial(listed_files, exist=not stage.skip, folders=bool(cls.modality.parts))
        return listed_table(files, targets, read, skip=stage.skip, encode=cls.encode)

    @door
    def from_tensors(cls, stage: Stage, data: Any, targets: Any) -> Table:
        """Feed tensors or arrays ``[N, C, ...]`` as they are: uint8 0..255, scaled on the device, or floating point.

        Raises:
            DataError: a value is not finite.
        """
        return listed_table(data, targets, tensor_inputs, skip=stage.skip, encode=cls.encode)

    from_numpy = from_tensors

    @door
    def from_groups(cls, stage: Stage, groups: Mapping[str, tuple[Any, Any]]) -> Table:
        """Take numbers group by group: each is a task of its own, such as one patient, of which an episode shows some.

        Args:
            groups: by name, inputs and as many numbers: tensors or arrays ``[n, ...]``, which are fed as they are,
                files, texts, or rows of a table.
            options: see the class.

        Raises:
            DataError: an input or a number is missing, a stage has no group, two groups are one, or inputs differ in
                type or shape.
        """
        if not isinstance(groups, Mapping) or not groups:
            raise DataError("expected groups by name: {'a name': (inputs, targets), ...}")
        _check_groups(groups)
        listed = cls.modality.listed if cls.modality.in_cells else partial(in_order, what="inputs")
        parts = [(listed(inputs), list(targets)) for inputs, targets in groups.values()]
        for name, (inputs, targets) in zip(groups, parts, strict=True):
            if len(inputs) != len(targets):
                raise DataError(f"{len(inputs)} inputs but {len(targets)} targets of '{name}': each needs one")
        owners = [name for name, (inputs, _) in zip(groups, parts, strict=True) for _ in range(len(inputs))]
        targets = [target for _, numbers in parts for target in numbers]
        if all(hasattr(inputs, "shape") for inputs, _ in parts):
            data = [tensor_inputs(inputs) for inputs, _ in parts]
            forms = [(tuple(each.shape[1:]), each.dtype) for each in data]
            for name, (shape, dtype) in zip(groups, forms, strict=True):
                if (shape, dtype) != forms[0]:
                    raise DataError(
                        f"inputs of '{name}' are {dtype} of shape {shape}, those of '{next(iter(groups))}' "
                        f"{forms[0][1]} of {forms[0][0]}: give all groups inputs of one type and shape"
                    )
            return listed_table(torch.cat(data), targets, tensor_inputs, None, stage.skip, cls.encode, owners)
        files = [item for inputs, _ in parts for item in inputs]
        read = cls.modality.column if cls.modality.in_cells else partial(listed_files, exist=not stage.skip)
        return listed_table(files, targets, read, skip=stage.skip, encode=cls.encode, groups=owners)

    @partial(door, shared_last=True)
    def from_datasets(
        cls,  # noqa: N805
        stage: Stage,
        dataset: Any,
        *,
        input_field: str | None = None,
        target_fields: Fields = None,
    ) -> Table:
        """Use torch data sets of ``(input, target)`` or of dicts with the keys ``"input"`` and ``"target"``.

        Or data sets of named columns, such as Hugging Face's: ``input_field`` and ``target_fields`` name them, and what
        a ``ClassLabel`` numbers is called by its names. Of a ``DatasetDict`` a stage takes its own split.

        Targets are read from the attribute ``targets`` where the data set has one, else by going through it once.
        Whole numbers are called by the data set's ``classes``, or by its ``class_to_idx``, where it has such, as those
        of torchvision; ``Subset``, ``random_split`` and ``ConcatDataset`` are looked through. Without either the
        numbers are the names: number 3 of the training data is number 3 of the test data.

        Args:
            dataset: per stage.
            input_field: the column of the inputs, where columns have names.
            target_fields: the column of the labels, or several of zeros and ones, one per label.
            options: see the class.

        Raises:
            DataError: a data set has no length, an item has no target, a target none of the names, or there is no such
                column.
        """
        dataset = split_of(dataset, stage.name)
        if input_field is not None:
            return _of_columns(cls.modality, cls.encode, stage, dataset, input_field, target_fields)
        if (known := getattr(dataset, "column_names", None)) and "input" not in known:
            raise DataError(f"the data set has columns: name them, input_field=, target_fields=. It has: {few(known)}")
        if stage.name == "predict" or (stage.unlabelled and not has_targets(dataset)):
            return Table(DatasetInputs(dataset))
        return annotated_table(dataset, cls.encode) if cls.answers.annotates else dataset_table(dataset, cls.encode)

    @door
    def from_data_frame(
        cls,
        stage: Stage,
        data_frame: Any,
        images_root: Path | None = None,
        *,
        input_field: str | int,
        target_fields: Fields = None,
    ) -> Table:
        """Read the files named in a column of a pandas frame, with the targets of another.

        Of a domain whose inputs stand in the cells themselves, such as texts, these are read.

        Args:
            input_field: the column with file names, relative to ``*_images_root``. Columns may be named by numbers, and
                files too.
            target_fields: the column with labels; or several columns of zeros and ones, one per label. A label is a
                whole number, or text, which is its name as it is written. Rows to predict may have none; where all of
                them have, answers come with the true labels.
            data_frame, images_root: frame and root folder per stage.
            options: see the class; with ``on_error="skip"`` rows where the file or the label is missing are left out.

        Raises:
            DataError: a column or a file is missing, or a cell of these columns.
        """
        column = partial(cls.modality.column, root=images_root)
        return _of_frame(stage, data_frame, column, input_field, target_fields, cls.encode)

    @door
    def from_csv(
        cls,
        stage: Stage,
        file: Path,
        images_root: Path | None = None,
        *,
        input_field: str,
        target_fields: str | Sequence[str] | None = None,
    ) -> Table:
        """Read the files named in a column of a CSV file; see ``from_data_frame``. A root defaults to its folder.

        A file that ends in ``.jsonl`` or ``.json`` has JSON, an object per line or a list of them, or what Label Studio
        exports; one that ends in ``.parquet`` Parquet; and CSV and JSON may be packed by gzip, ``.csv.gz``.
        ``from_json`` is another name of this. Labels in CSV are named as they are written:
        ``1``, ``01``, ``1.0`` and ``NaN`` are four classes.

        Args:
            input_field: the column with file names, relative to ``*_images_root``.
            target_fields: the column with labels; or several columns of zeros and ones, one per label.
            file, images_root: comma-separated UTF-8 text whose first line names the columns, and the root folder, per
                stage.
            options: see the class; with ``on_error="skip"`` rows where the file or the label is missing are left out.

        Raises:
            DataError: a file is no such text, or a column or a cell is missing.
        """
        root = pathlib.Path(file).parent if images_root is None else images_root
        column, frame = partial(cls.modality.column, root=root), file_frame(file, target_fields)
        return _of_frame(stage, frame, column, input_field, target_fields, cls.encode)

    from_json = from_csv

    @classmethod
    def from_benchmark(cls, name: str, root: Path | None = None, **options: Any) -> Self:
        """Use a published data set with its published division by classes; see ``available_datasets()``.

        Args:
            name: such as ``"omniglot"``.
            root: where its files lie; default: ``QUICKSTUDY_DATA``, else the cache folder.
            options: the data set's own (``rotations=True``), and those of the class.
        """
        dataset = DATASETS[name]
        own = {key: options.pop(key) for key in list(options) if key in inspect.signature(dataset).parameters}
        return cls(*dataset(root, **own), **options)


def _of_columns(
    modality: Modality, encode: Encode, stage: Stage, dataset: Any, input_field: str, target_fields: Fields
) -> Table:
    fields = [target_fields] if isinstance(target_fields, (str, int)) else list(target_fields or ())
    if stage.name == "predict":
        fields = [field for field in fields if field in names_of_columns(dataset)]
    if modality.in_cells:
        asked = [input_field, *fields, *([] if stage.group_field is None else [stage.group_field])]
        columns = {field: column_of(dataset, field) for field in asked}
        frame = require("pandas", extra="tabular").DataFrame(columns, dtype=object)
        return _of_frame(stage, frame, modality.column, input_field, fields or None, encode)
    inputs = DatasetInputs(ByName(dataset, input_field))
    if stage.name == "predict" or (stage.unlabelled and not fields):
        return Table(inputs)
    if not fields:
        raise DataError(_NO_LABELS)
    targets = [column_of(dataset, field) for field in fields]
    names = list(map(str, fields)) if len(fields) > 1 else None
    origins = None if stage.group_field is None else column_of(dataset, stage.group_field)
    told = targets[0] if names is None else np.array(targets).T
    return Table.build(inputs, told, names, encode, origins=origins)


def _of_frame(
    stage: Stage,
    frame: Any,
    column: Callable[..., Inputs],
    input_field: str | int,
    target_fields: Fields,
    encode: Encode,
) -> Table:
    read = partial(column, exist=not stage.skip)
    if target_fields is None and not stage.unlabelled:
        raise DataError(_NO_LABELS)
    if target_fields is not None and stage.name != "predict":
        return frame_table(frame, read, input_field, target_fields, stage.skip, encode, stage.group_field)
    if target_fields is not None:
        with suppress(DataError):  # labels to hold the answers against, where every row has one
            return frame_table(frame, column, input_field, target_fields, encode=encode)
    return frame_table(frame, read, input_field, None, stage.skip, group_field=stage.group_field)


def _check_groups(groups: Mapping[str, Any]) -> None:
    """Check that groups are pairs, each under a name of its own.

    Raises:
        DataError: one is not.
    """
    known: dict[str, Any] = {}
    for name, pair in groups.items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or any(part is None for part in pair):
            raise DataError(
                f"the group '{one_line(name)}' is {brief(pair)}: give it as (inputs, numbers), as many of both"
            )
        own = class_name(str(name))
        if own in known:
            raise DataError(
                f"two groups have one name, {known[own]!a} and {name!a}, which Unicode counts as the same: give "
                "each its own"
            )
        known[own] = name
