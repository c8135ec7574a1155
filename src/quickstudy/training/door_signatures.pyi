"""The doors with the arguments of all four stages, for static checkers; ``scripts/docs`` writes it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from quickstudy.data.frames import Fields
from quickstudy.kinds.base import Kind

Path = str | os.PathLike[str]

class Doors:
    extensions: ClassVar[frozenset[str]]
    answers: ClassVar[type[Kind]]
    @classmethod
    def from_folders(
        cls,
        train_folder: Path | None = None,
        val_folder: Path | None = None,
        test_folder: Path | None = None,
        predict_folder: Path | None = None,
        folder: Path | None = None,
        **options: Any,
    ) -> Self: ...
    @classmethod
    def from_files(
        cls,
        train_files: Iterable[Path] | None = None,
        train_targets: Any | None = None,
        val_files: Iterable[Path] | None = None,
        val_targets: Any | None = None,
        test_files: Iterable[Path] | None = None,
        test_targets: Any | None = None,
        predict_files: Iterable[Path] | None = None,
        **options: Any,
    ) -> Self: ...
    @classmethod
    def from_tensors(
        cls,
        train_data: Any | None = None,
        train_targets: Any | None = None,
        val_data: Any | None = None,
        val_targets: Any | None = None,
        test_data: Any | None = None,
        test_targets: Any | None = None,
        predict_data: Any | None = None,
        **options: Any,
    ) -> Self: ...
    @classmethod
    def from_numpy(
        cls,
        train_data: Any | None = None,
        train_targets: Any | None = None,
        val_data: Any | None = None,
        val_targets: Any | None = None,
        test_data: Any | None = None,
        test_targets: Any | None = None,
        predict_data: Any | None = None,
        **options: Any,
    ) -> Self: ...
    @classmethod
    def from_groups(
        cls,
        train_groups: Mapping[str, tuple[Any, Any]] | None = None,
        val_groups: Mapping[str, tuple[Any, Any]] | None = None,
        test_groups: Mapping[str, tuple[Any, Any]] | None = None,
        predict_groups: Mapping[str, tuple[Any, Any]] | None = None,
        **options: Any,
    ) -> Self: ...
    @classmethod
    def from_datasets(
        cls,
        train_dataset: Any | None = None,
        val_dataset: Any | None = None,
        test_dataset: Any | None = None,
        predict_dataset: Any | None = None,
        input_field: str | None = None,
        target_fields: Fields = None,
        **options: Any,
    ) -> Self: ...
    @classmethod
    def from_data_frame(
        cls,
        input_field: str | int,
        target_fields: Fields = None,
        train_data_frame: Any | None = None,
        train_images_root: Path | None = None,
        val_data_frame: Any | None = None,
        val_images_root: Path | None = None,
        test_data_frame: Any | None = None,
        test_images_root: Path | None = None,
        predict_data_frame: Any | None = None,
        predict_images_root: Path | None = None,
        **options: Any,
    ) -> Self: ...
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
    ) -> Self: ...
    @classmethod
    def from_json(
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
    ) -> Self: ...
    @classmethod
    def from_benchmark(
        cls,
        name: str,
        root: Path | None = None,
        **options: Any,
    ) -> Self: ...
