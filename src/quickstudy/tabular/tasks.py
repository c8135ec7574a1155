"""Tasks of rows of tables, and their data: classification and regression."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from quickstudy.data.frames import Fields, file_columns, rows_table
from quickstudy.data.rows import columns_of
from quickstudy.data.samples import Samples
from quickstudy.data.sources import listed_table
from quickstudy.data.stages import Stage, door
from quickstudy.data.table import Table
from quickstudy.data.targets import in_order, is_frame
from quickstudy.errors import given
from quickstudy.kinds.embedding import Embedding
from quickstudy.kinds.regression import Regression
from quickstudy.tabular.modality import Row
from quickstudy.tabular.self_made import of_one_task, self_made_tasks
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Classifier, Embedder, Regressor

Path = str | os.PathLike[str]
_HELD = 5  # one of so many rows is for tasks to validate by


class TabularData(DataModule):
    """Rows of tables; see ``DataModule`` for the other doors and ``DataOptions`` for the other options.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        kinds: by the name of a column what it is, ``"number"``, ``"category"``, ``"date"`` or ``"ignored"``; of others
            it follows from the training rows.
        scaling: of numbers: ``"auto"`` takes ranks where tails are heavy, ``"standard"`` never, ``"quantile"`` always.
        most_categories: of a column; rarer ones than these are taken for ones that training did not see.
        options: see ``DataOptions``.
    """

    modality = Row()

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        kinds: Mapping[str, str] | None = None,
        scaling: str | None = None,
        most_categories: int | None = None,
        **options: Any,
    ) -> None:
        options |= given(kinds=kinds, scaling=scaling, most_categories=most_categories)
        super().__init__(train, val, test, predict, **options)

    @door
    def from_data_frame(  # type: ignore[override]  # a row has several columns
        cls, stage: Stage, data_frame: Any, *, target_fields: Fields = None, input_fields: Fields = None
    ) -> Table:
        """Take rows of a table in memory, with the targets in a column of it.

        Args:
            target_fields: the column with the targets; or several columns of zeros and ones, one per label. Rows to
                predict may have none; where all of them have, answers come with the true ones.
            input_fields: the columns that are read; default: all others.
            data_frame: a frame of pandas or polars, a table of pyarrow, a dict of columns, or a list of dicts, per
                stage.
            options: see the class; with ``on_error="skip"`` rows whose target is missing are left out.

        Raises:
            DataError: a column is missing or there are two of one name, a target is missing, or a target is among the
                inputs.
        """
        return rows_table(columns_of(data_frame), input_fields, target_fields, stage, cls.encode)

    @door
    def from_csv(  # type: ignore[override]
        cls,
        stage: Stage,
        file: Path,
        *,
        target_fields: str | Sequence[str] | None = None,
        input_fields: str | Sequence[str] | None = None,
    ) -> Table:
        """Read rows of a CSV file, with the targets in a column of it; see ``from_data_frame``.

        A file that ends in ``.jsonl`` or ``.json`` has JSON, an object per line or a list of them, and one that ends in
        ``.parquet`` Parquet; ``from_json`` is another name of this. Labels in CSV are named as they are written.

        Args:
            target_fields: the column with the targets; or several columns of zeros and ones, one per label.
            input_fields: the columns that are read; default: all others.
            file: comma-separated UTF-8 text whose first line names the columns, which may be compressed, ``.csv.gz``,
                per stage.
            options: see the class; with ``on_error="skip"`` rows whose target is missing are left out.

        Raises:
            DataError: a file is no such table, or see ``from_data_frame``.
        """
        return rows_table(file_columns(file, target_fields), input_fields, target_fields, stage, cls.encode)

    from_json = from_csv

    @door
    def from_lists(cls, stage: Stage, rows: Any, targets: Any) -> Table:
        """Take rows from memory, and their targets beside them.

        Args:
            rows, targets: dicts of cells by the columns' names, a frame, or an array of numbers ``[N, F]``; and as many
                targets, per stage.
            options: see the class.

        Raises:
            DataError: a row is none, a target is missing, or there are more of the one than of the other.
        """
        rows = rows if is_frame(rows) else in_order(rows, "rows")
        return listed_table(rows, targets, cls.modality.column, None, stage.skip, cls.encode)


class TabularClassificationData(TabularData):
    """Rows with labels; see ``TabularData``."""

    @classmethod
    def from_unlabelled(
        cls,
        rows: Any,
        *,
        tasks: int = 200,
        val_tasks: int = 0,
        clusters: int = 10,
        share: tuple[float, float] = (0.2, 0.5),
        examples: int = 1000,
        **options: Any,
    ) -> Self:
        """Make tasks of rows without labels, to train a few-shot strategy on; ``model.adapt`` then learns from few.

        The classes of a task are clusters of rows by some columns, which are then shuffled: see
        ``quickstudy.tabular.self_made``.

        Args:
            rows: a frame, or dicts of cells by the columns' names, without the target.
            tasks, val_tasks: how many, to train on and to validate by; the latter are of a fifth of the rows, which no
                training task has.
            clusters: the classes of each: at least the ``ways`` of an episode.
            share: of the columns, that makes a task's classes: drawn between these two.
            examples: rows of each task, drawn anew.
            options: see the class.

        Raises:
            ConfigError: an option is out of range.
            DataError: a row is none, or there are too few of them, or of columns.
        """
        raw = cls.from_lists(predict_rows=rows, **options)
        table = raw.table("predict")
        assert table is not None
        modality, seed = raw.modality.fitted(table.inputs), int(raw.options.get("seed", 0))
        order, held = np.arange(len(table)), len(table) // _HELD if val_tasks else 0
        if held:
            np.random.default_rng(seed).shuffle(order)
        train, val = (
            self_made_tasks(Samples(table.inputs, modality).batch(of), count, clusters, share, examples, seed, first)
            if count
            else None
            for of, count, first in ((order[held:], tasks, 0), (order[:held], val_tasks, tasks))
        )
        learned = {name: modality.settings[name] for name in modality.learned}
        options["load_options"] = {**(options.get("load_options") or {}), **learned}
        return cls(train, val, **{"episode_sampler": of_one_task, **options})


class TabularEmbeddingData(TabularData):
    """Rows, with labels or without; see ``TabularData``. Labels are for judging, and for the default strategy."""

    answers = Embedding


class TabularRegressionData(TabularData):
    """Rows with numbers, such as a price; see ``TabularData``."""

    answers = Regression


class TabularClassifier(Classifier):
    """Classifies rows of a table; see ``Classifier`` for the arguments.

    The default backbone, ``"mlp"``, starts from nothing, and is made once the columns are known.
    """

    modality = Row()


class TabularEmbedder(Embedder):
    """Embeds rows of a table; see ``Embedder`` for the arguments, and ``TabularClassifier`` for backbones."""

    modality = Row()


class TabularRegressor(Regressor):
    """Tells a number of each row, such as a price; see ``Regressor``, and ``TabularClassifier`` for backbones."""

    modality = Row()
