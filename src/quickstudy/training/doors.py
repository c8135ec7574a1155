"""The data's doors, each once, for every domain: from what a user has to a table per stage."""

from __future__ import annotations

import inspect
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, ClassVar, Self

from quickstudy.data.frames import Fields, csv_frame, frame_table
from quickstudy.data.scan import SplitsError, any_files, class_folders, listed_files
from quickstudy.data.sources import listed_table, tensor_inputs
from quickstudy.data.table import Table
from quickstudy.data.targets import in_order
from quickstudy.data.torch_sets import DatasetInputs, dataset_table
from quickstudy.datasets import DATASETS
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.modality import OfDomain

Path = str | os.PathLike[str]


class Doors(OfDomain):
    """Class methods that make a data module; ``options`` are those of ``DataModule`` and of its domain."""

    extensions: ClassVar[frozenset[str]] = frozenset()
    """Lower-case endings of its files, where they are others than those of its ``modality``."""

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        **options: Any,
    ) -> None:
        raise TypeError("Doors only makes instances of its subclasses")

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
            train_folder: classes to train on; ``photos.zip/train`` names a folder inside an archive. Given alone, the
                root of a data set is read like ``folder``, with a warning.
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

        endings = cls.extensions or cls.modality.extensions

        def read(stage: str) -> Table | None:
            if stage not in folders:
                return None
            return (any_files if stage == "predict" else class_folders)(folders[stage], endings)

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

    @classmethod
    def from_files(
        cls,
        train_files: Iterable[Path] | None = None,
        train_targets: Any = None,
        val_files: Iterable[Path] | None = None,
        val_targets: Any = None,
        test_files: Iterable[Path] | None = None,
        test_targets: Any = None,
        predict_files: Iterable[Path] | None = None,
        **options: Any,
    ) -> Self:
        """Read listed files, with one target each: strings, integers, one-hot rows, or lists of strings.

        Lists, arrays, columns of a frame, and what yields one after the other, such as ``Path.glob`` or a generator.

        Args:
            train_files, train_targets, ...: paths, and as many targets, per stage.
            options: see the class.

        Raises:
            DataError: a file does not exist, a target is missing, or there are more of the one than of the other.
        """
        skip = options.get("on_error") == "skip"

        def read(stage: str, files: Any, targets: Any) -> Table | None:
            files = None if files is None else _listed(files)
            return _labelled(stage, files, targets, partial(listed_files, exist=not skip), skip)

        return cls(
            read("train", train_files, train_targets),
            read("val", val_files, val_targets),
            read("test", test_files, test_targets),
            None
            if predict_files is None
            else listed_table(_listed(predict_files), None, partial(listed_files, exist=not skip), skip=skip),
            **options,
        )

    @classmethod
    def from_tensors(
        cls,
        train_data: Any = None,
        train_targets: Any = None,
        val_data: Any = None,
        val_targets: Any = None,
        test_data: Any = None,
        test_targets: Any = None,
        predict_data: Any = None,
        **options: Any,
    ) -> Self:
        """Feed tensors or arrays ``[N, C, ...]`` as they are: uint8 0..255, scaled on the device, or floating point.

        Raises:
            DataError: a value is not finite.
        """
        skip = options.get("on_error") == "skip"
        return cls(
            _labelled("train", train_data, train_targets, tensor_inputs, skip),
            _labelled("val", val_data, val_targets, tensor_inputs, skip),
            _labelled("test", test_data, test_targets, tensor_inputs, skip),
            None if predict_data is None else Table(tensor_inputs(predict_data)),
            **options,
        )

    from_numpy = from_tensors

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Any = None,
        val_dataset: Any = None,
        test_dataset: Any = None,
        predict_dataset: Any = None,
        **options: Any,
    ) -> Self:
        """Use torch data sets of ``(input, target)`` or of dicts with the keys ``"input"`` and ``"target"``.

        Targets are read from the attribute ``targets`` where the data set has one, else by going through it once.
        Whole numbers are called by the data set's ``classes``, or by its ``class_to_idx``, where it has such, as those
        of torchvision; ``Subset``, ``random_split`` and ``ConcatDataset`` are looked through. Without either the
        numbers are the names: number 3 of the training data is number 3 of the test data.

        Raises:
            DataError: a data set has no length, an item has no target, or a target none of the names.
        """

        def read(stage: str, dataset: Any) -> Table | None:
            with _of(stage):
                return None if dataset is None else dataset_table(dataset)

        predict = None if predict_dataset is None else Table(DatasetInputs(predict_dataset))
        return cls(
            read("train", train_dataset), read("val", val_dataset), read("test", test_dataset), predict, **options
        )

    @classmethod
    def from_data_frame(
        cls,
        input_field: str | int,
        target_fields: Fields = None,
        train_data_frame: Any = None,
        train_images_root: Path | None = None,
        val_data_frame: Any = None,
        val_images_root: Path | None = None,
        test_data_frame: Any = None,
        test_images_root: Path | None = None,
        predict_data_frame: Any = None,
        predict_images_root: Path | None = None,
        **options: Any,
    ) -> Self:
        """Read the files named in a column of a pandas frame, with the targets of another.

        Args:
            input_field: the column with file names, relative to ``*_images_root``. Columns may be named by numbers, and
                files too.
            target_fields: the column with labels; or several columns of zeros and ones, one per label. A label is a
                whole number, or text, which is its name as it is written. Rows to predict may have none; where all of
                them have, answers come with the true labels.
            train_data_frame, train_images_root, ...: frame and root folder per stage.
            options: see the class; with ``on_error="skip"`` rows where the file or the label is missing are left out.

        Raises:
            DataError: a column or a file is missing, or a cell of these columns.
        """
        skip = options.get("on_error") == "skip"

        def read(stage: str, frame: Any, root: Path | None) -> Table | None:
            if frame is None:
                return None
            if stage != "predict" and target_fields is None:
                raise DataError("target_fields is missing: name the column with the labels")
            column = partial(cls.modality.column, root=root, exist=not skip)
            if stage != "predict":
                with _of(stage):
                    return frame_table(frame, column, input_field, target_fields, skip)
            if target_fields is not None:
                with suppress(DataError):  # labels to hold the answers against, where every row has one
                    return frame_table(frame, partial(column, exist=True), input_field, target_fields)
            with _of(stage):
                return frame_table(frame, column, input_field, None, skip)

        return cls(
            read("train", train_data_frame, train_images_root),
            read("val", val_data_frame, val_images_root),
            read("test", test_data_frame, test_images_root),
            read("predict", predict_data_frame, predict_images_root),
            **options,
        )

    @classmethod
    def from_csv(
        cls,
        input_field: str,
        target_fields: str | Sequence[str] | None = None,
        train_file: Path | None = None,
        train_images_root: Path | None = None,
        val_file: Path | None = None,
        val_images_root: Path | None = None,
        test_file: Path | None = None,
        test_images_root: Path | None = None,
        predict_file: Path | None = None,
        predict_images_root: Path | None = None,
        **options: Any,
    ) -> Self:
        """Read the files named in a column of a CSV file; see ``from_data_frame``. A root defaults to its folder.

        Labels are named as they are written: ``1``, ``01``, ``1.0`` and ``NaN`` are four classes.

        Args:
            input_field: the column with file names, relative to ``*_images_root``.
            target_fields: the column with labels; or several columns of zeros and ones, one per label.
            train_file, train_images_root, ...: comma-separated UTF-8 text whose first line names the columns, and the
                root folder, per stage.
            options: see the class; with ``on_error="skip"`` rows where the file or the label is missing are left out.

        Raises:
            DataError: a file is no such text, or a column or a cell is missing.
        """

        def read(file: Path | None) -> Any:
            return None if file is None else csv_frame(file, target_fields)

        def root(given: Path | None, file: Path | None) -> Path | None:
            return given if given is not None or file is None else pathlib.Path(file).parent

        return cls.from_data_frame(
            input_field,
            target_fields,
            read(train_file),
            root(train_images_root, train_file),
            read(val_file),
            root(val_images_root, val_file),
            read(test_file),
            root(test_images_root, test_file),
            read(predict_file),
            root(predict_images_root, predict_file),
            **options,
        )

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


def _listed(files: Any) -> Any:
    """Return files as a list; what is none is told of where it is read."""
    files = in_order(files, "files")
    return files if isinstance(files, (str, os.PathLike)) else list(files)


@contextmanager
def _of(stage: str) -> Iterator[None]:
    """Say of an error which data it is in."""
    try:
        yield
    except DataError as error:
        raise DataError(f"in the {stage} data, {error}") from error


def _labelled(stage: str, inputs: Any, targets: Any, read: Callable[[Any], Any], skip: bool = False) -> Table | None:
    if inputs is None and targets is None:
        return None
    if inputs is None or targets is None:
        given, missing = ("targets", "inputs") if inputs is None else ("inputs", f"{stage}_targets")
        raise DataError(f"the {stage} data has {given} but no {missing}: give both")
    with _of(stage):
        return listed_table(inputs, targets, read, skip=skip)
