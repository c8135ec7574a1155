"""The data of a domain by stages, and the loaders that a strategy needs."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations
from quickstudy.data.episodes import EpisodePlan, EpisodeSampler, OwnSampler
from quickstudy.data.loading import (
    BatchDataset,
    BatchSteps,
    EpisodeDataset,
    EpisodeSteps,
    Share,
    StepLoader,
    Steps,
    ViewDataset,
)
from quickstudy.data.on_device import BatchTransform
from quickstudy.data.options import DataOptions
from quickstudy.data.origins import Origins
from quickstudy.data.readable import readable, without_lost_classes
from quickstudy.data.samples import Load, Samples, Transform, cache_budget, in_turn
from quickstudy.data.scan import any_files, class_folders, folders_or_files
from quickstudy.data.splitting import (
    check_disjoint,
    check_no_file_twice,
    shares_for,
    split_classes,
    split_examples,
    warn_of_idle_origins,
    warn_of_names,
    warn_of_shared_origins,
)
from quickstudy.data.stages import STAGES, StageName
from quickstudy.data.table import Inputs, Table
from quickstudy.data.targets import Encoded, LabelType
from quickstudy.errors import (
    ConfigError,
    DataError,
    DataWarning,
    brief,
    closest,
)
from quickstudy.kinds.base import Kind
from quickstudy.modality import Modality, OfDomain, Tensors
from quickstudy.torch_internals import tree_map
from quickstudy.training.checkpoint import plain
from quickstudy.training.procedure import Procedure, Supervised

if TYPE_CHECKING:
    from quickstudy.training.door_signatures import Doors
    from quickstudy.training.task import Task
else:
    from quickstudy.training.doors import Doors

_OF_FIXED_ANSWERS = "test_time_augmentation is of ordinary training, with fixed answers: leave it out"
_FEW = 16  # inputs, where they need no reading


class DataModule(Doors, OfDomain, L.LightningDataModule):  # type: ignore[misc]  # from_datasets takes more than Lightning's
    """Training, validation, test and prediction data of one domain; use one of the ``from_*`` doors.

    A domain subclasses it and sets ``modality``, or ``load`` and ``extensions`` alone. Nothing is read before it is
    needed.

    Args:
        train, val, test, predict: the examples of each stage.
        load_options: options of the domain's ``modality``; what is None follows the model, or is the default. Each may
            be given by its own name, too.
        options: those of ``DataOptions``.

    Raises:
        ConfigError: an option is misspelled or out of range.
        DataError: the data cannot serve.
    """

    fixed: ClassVar[Mapping[str, str]] = {}
    """Options of ``modality`` that this data does not take, and why: of its answers only one value makes sense."""

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        load_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        L.LightningDataModule.__init__(self)
        shared = [one.name for one in fields(DataOptions)]
        own = {name: value for name, value in options.items() if name not in shared}
        known = [*shared, *type(self).modality.settings]
        for key in own:
            if key not in known:
                near = closest(key, [*known, *_door_arguments()])
                raise ConfigError(f"unknown data option '{key}'{near} Known: {', '.join(known)}")
        asked = {name: value for name, value in {**own, **(load_options or {})}.items() if value is not None}
        for name in asked.keys() & type(self).fixed.keys():
            if asked[name] != type(self).modality.settings[name]:
                raise ConfigError(f"{name}={brief(asked[name])}: {type(self).fixed[name]}")
        self._given = {name: value for name, value in options.items() if name not in own}
        self._options = DataOptions(**self._given)
        self._asked = frozenset(asked)  # of the modality, by name, which follow no model
        self.modality = self._unfitted = type(self).modality.with_options(asked)
        self._fitted: bool | None = None  # to training inputs that were divided by class, or by example
        self._budget = cache_budget(self._options.cache)
        tables: dict[StageName, Table | None] = {"train": train, "val": val, "test": test, "predict": predict}
        episode_key = self._options.episode_key
        self._tables: dict[StageName, Table] = {
            stage: replace(table, episode_key=episode_key) if episode_key is not None else table
            for stage, table in tables.items()
            if table is not None
        }
        if isinstance(pattern := self._options.group_by, str):
            self._tables |= {
                stage: replace(table, origins=Origins.named_in(table.inputs, pattern))
                for stage, table in self._tables.items()
                if stage != "predict"
            }
        for name, labels in self._options.groups.items():
            if name not in self._tables:
                raise ConfigError(f"group_by has groups of the {name} data, and there is none: leave them out")
            stage = next(stage for stage in self._tables if stage == name)
            table = self._tables[stage]
            self._tables[stage] = replace(table, origins=Origins.of_each(labels, len(table), f"the {name} data"))
        self._tried: set[StageName] = set()
        self._parts: dict[tuple[StageName, bool], Table] = {}
        self._samples: dict[Any, Samples] = {}
        self.skipped: dict[str, str] = {
            f"{name} of the {stage} data": why
            for stage, table in self._tables.items()
            for name, why in table.skipped.items()
        }
        """Why each file was left out that is no example, by its name; with ``on_error="skip"``, each example too."""
        self._check()

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Encoded | Annotations:
        """Return targets as a user writes them as its answers count them; see ``Kind.encode``.

        A domain whose annotations lie in files overrides it, to read those.
        """
        return cls.answers.encode(targets, names)

    @classmethod
    def folder_table(cls, path: str | os.PathLike[str], labelled: bool) -> Table:
        """Return the examples in a folder or archive of one stage; a domain with folders of its own overrides it.

        Args:
            path: the folder.
            labelled: whether they are to have targets.
        """
        endings, parts = cls.extensions or cls.modality.extensions, cls.modality.parts
        if not labelled:
            return any_files(path, endings, parts)
        if cls.answers.annotates:
            return cls.annotated_folder(path, endings)
        return (folders_or_files if cls.answers.unlabelled else class_folders)(path, endings, parts)

    @classmethod
    def annotated_folder(cls, path: str | os.PathLike[str], endings: Collection[str]) -> Table:
        """Return the examples in a folder, whose targets are annotations; a domain overrides it to find these."""
        return any_files(path, endings)

    def _check(self) -> None:
        if not self._tables:
            raise DataError("no data was given: name at least one of train_..., val_..., test_..., predict_...")
        for stage, table in self._tables.items():
            if not len(table):
                raise DataError(f"the {stage} data is empty: it needs at least one example")
        for stage, what in (("val", "validation"), ("test", "test")):
            if stage in self._options.splits and (stage in self._tables or "train" not in self._tables):
                raise ConfigError(
                    f"{stage}_split takes {what} data from the training data: give train data and no {stage} data"
                )
        if self._options.sampler == "balanced" and any(table.numeric for table in self._tables.values()):
            raise ConfigError("sampler='balanced' needs classes, and the targets are numbers: leave it out")
        if self._options.sampler == "balanced" and self.multi_label:
            raise ConfigError(
                "sampler='balanced' needs one label per example: set class_weights='balanced' of the model"
            )
        labelled: dict[str, Table] = {stage: table for stage, table in self._tables.items() if stage != "predict"}
        field = self._options.group_field
        if field is not None and any(table.origins is None for table in labelled.values()):
            raise ConfigError(
                f"group_field={field!r} is a column of a table: of files name what is in their names, group_by=, and "
                "of examples in memory give the groups, group_by={'train': [...]}"
            )
        check_no_file_twice(labelled)
        warn_of_names(labelled)
        warn_of_shared_origins(labelled)
        warn_of_idle_origins(labelled)

    def with_tables(self, tables: Mapping[StageName, Table | None], **options: Any) -> Self:
        """Return data that is read and shared out as this is, with other examples.

        Args:
            tables: by stage; None: the stage has none. A share for a stage that has examples now is no more taken.
            options: others of ``DataOptions``.
        """
        kept: dict[str, Any] = {stage: {**self._tables, **tables}.get(stage) for stage in STAGES}
        given = {
            name: value
            for name, value in {**self._given, **options}.items()
            if kept.get(name.removesuffix("_split")) is None and name != "group_by"  # tables have their groups
        }
        told = {name: self._unfitted.settings[name] for name in self._asked}
        return type(self)(**kept, load_options=told, **given)

    # ---- options

    @property
    def options(self) -> dict[str, Any]:
        """What was given beside the data and how it is read, but for code and the groups of each example."""
        lists = {"group_by"} if self._options.groups else set()  # as long as the data
        return {name: value for name, value in self._given.items() if plain(value) and name not in lists}

    @property
    def load_options(self) -> dict[str, Any]:
        """How inputs are read: the options of ``modality``."""
        return self.modality.options

    @property
    def episode_sampler(self) -> OwnSampler | None:
        """What draws the episodes in place of quickstudy, if anything does."""
        return self._options.episode_sampler

    @property
    def batch_transform(self) -> BatchTransform | None:
        """What training batches go through on the device, if anything."""
        return self._options.batch_transform

    # ---- what is there

    def __repr__(self) -> str:
        """Tell the stages, their classes and how many examples each has; nothing is read for it."""
        lines = [type(self).__name__]
        ways = {by_class for stage, by_class in self._parts if stage == "train"}  # in which it was divided so far
        parts = self.divided(by_class=ways.pop()) if len(ways) == 1 else {}
        for stage in STAGES:
            if stage in parts:
                lines.append(f"{stage}: {parts[stage]}")
            elif stage in self._options.splits:
                lines.append(f"{stage}: {self._options.splits[stage]:.3g} of the train data")
            elif stage in self._tables:
                lines.append(f"{stage}: {self._tables[stage]}")
        if self.skipped:
            lines.append(f"left out: {len(self.skipped)}, such as {next(iter(self.skipped))} (see skipped)")
        return "\n  ".join(lines)

    __str__ = __repr__

    @property
    def origins(self) -> dict[StageName, Origins]:
        """By stage what its examples come from, where that is known; of those that become another's, with these."""
        return {stage: table.origins for stage, table in self._tables.items() if table.origins is not None}

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names: the training data's, or where there is none those of the first stage that has targets."""
        return () if (named := self._names_classes()) is None else named.classes

    @property
    def label_type(self) -> LabelType:
        """What the labels of these classes were before they became codes."""
        return "str" if (named := self._names_classes()) is None else named.label_type

    def _names_classes(self) -> Table | None:
        for stage in STAGES[:3]:
            if stage in self._tables and self._tables[stage].targets is not None:
                return self._usable(stage)
        return None

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def multi_label(self) -> bool:
        """Whether an example may have several labels."""
        return any(table.multi_label for table in self._tables.values())

    def table(self, stage: StageName, *, by_class: bool = False) -> Table | None:
        """Return the examples of a stage, None where there are none.

        Args:
            stage: ``"train"``, ``"val"``, ``"test"`` or ``"predict"``.
            by_class: whether ``val_split`` and ``test_split`` divide the classes (few-shot) or each class's examples.
        """
        if not self._has(stage):
            return None
        if (stage, by_class) not in self._parts:
            if stage in self._options.splits or (self._options.splits and stage == "train"):
                divide = split_classes if by_class else split_examples
                rest, whole, seed = self._usable("train", by_class), 1.0, self._options.seed
                for part in ("test", "val"):  # so that the share for validation moves nothing of the test data
                    if (share := self._options.splits.get(part)) is not None:
                        rest, self._parts[part, by_class] = divide(rest, share / whole, seed, f"{part}_split")
                        whole -= share
                self._parts["train", by_class] = rest
            else:
                self._parts[stage, by_class] = self._usable(stage, by_class)
        return self._parts[stage, by_class]

    def divided(self, *, by_class: bool = False) -> dict[StageName, Table]:
        """Return the parts that the training data is divided into; nothing where it is not."""
        parts = ["train", *self._options.splits] if self._options.splits else []
        found = {stage: self.table(stage, by_class=by_class) for stage in STAGES if stage in parts}
        return {stage: table for stage, table in found.items() if table is not None}

    @property
    def batch_size(self) -> int:
        """Examples per step and device of ordinary training; Lightning's batch size finder sets it.

        Raises:
            ConfigError: it is set, and the model that trains is a few-shot one, whose steps are made of episodes.
        """
        return self._options.batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._procedure.check_batch_size()
        self._given["batch_size"] = size
        self._options = replace(self._options, batch_size=size)

    def transform(self, stage: StageName) -> Transform | None:
        """Return what is applied to the loaded examples of a stage."""
        return self._options.transforms.get(stage)

    def _processes(self) -> int:
        """How many processes of this machine read the data, each with a copy of its own."""
        return self.trainer.num_devices if self.trainer is not None and self.trainer.world_size > 1 else 1

    def samples(self, table: Table, stage: StageName, annotations: Annotations | None = None) -> Samples:
        """Return a table's inputs as tensors, with annotations whole samples; the decoded copies are made once."""
        told = None if annotations is None else (id(annotations.items), annotations.code)
        key = (stage, id(table.inputs), told)
        if key not in self._samples:
            budget, shared = self._budget // self._processes(), self._options.num_workers > 0
            made = self._reading(table, stage, budget=budget, shared=shared, annotations=annotations)
            self._budget -= made.cached_bytes * self._processes()
            self._samples[key] = made
        return self._samples[key]

    def example(self) -> Batch:
        """Return one loaded input, with a leading axis of 1, to learn its shape from."""
        if self._fitted is None:
            self._fit(by_class=False)
        stage = next(iter(self._tables))
        return self._reading(self._usable(stage), stage).batch(np.array([0]), [(self._options.seed,)])

    def few(self, stage: StageName, *, by_class: bool = False) -> Batch | None:
        """Return some inputs of a stage ``[n, ...]`` as the network is fed with them, None where there are none."""
        self._fit(by_class)
        table = self.table(stage, by_class=by_class)
        if table is None:
            return None
        samples = self._reading(table, stage)
        rows = np.arange(min(len(table), _FEW if isinstance(table.inputs, torch.Tensor) else 1))
        return samples.batch(rows, [(self._options.seed, row) for row in rows.tolist()])

    def show_batch(
        self,
        stage: StageName = "train",
        model: Task | None = None,
        path: str | os.PathLike[str] | None = None,
        most: int = 32,
    ) -> Any:
        """Return a picture of what a network is fed with: the first batch of a stage, transformed, with its labels.

        Pictures and spectra stand side by side, pixel by pixel where they are small; texts and rows are a table, as the
        network's input tells them.

        Args:
            stage: ``"train"``, ``"val"``, ``"test"`` or ``"predict"``.
            model: that is trained, which is fed with episodes (support and query apart), with views of an example, or
                with mixed examples; None: with batches of examples.
            path: of a PNG file to write it to.
            most: examples at most, of each part.

        Returns:
            A PIL image.

        Raises:
            DataError: there is no such data.
        """
        from quickstudy.training.showing import batch_picture  # which imports what few need

        return batch_picture(self, stage, model, path, most)

    # ---- how inputs are read

    def read_as(
        self, load_options: Mapping[str, Any], *, trains: bool, by_class: bool, trained: bool = True
    ) -> dict[str, Any]:
        """Read inputs as a model does, and return how it is to read them itself from now on.

        Args:
            load_options: how the model's own training data was read; nothing where it saw none.
            trains: whether it is to be trained, and then reads as this data is read; what its modality has learned (a
                vocabulary, say), and what its network depends on (a rate of samples), it keeps.
            by_class: whether ``val_split`` and ``test_split`` divide the classes.
            trained: whether it has learned anything from data that was read so: only then a difference is told.
        """
        judges = bool(load_options) and not trains
        kept = (*self.modality.learned, *self.modality.of_network)
        known = {name: value for name, value in load_options.items() if judges or name in kept}
        if known:
            self.follow(known, trained)
        self._fit(by_class)
        return dict(load_options) if judges else self.load_options

    def follow(self, load_options: Mapping[str, Any], tells: bool = True) -> None:
        """Read as a trained model's data was read, but for what was asked for explicitly; warn where that differs."""
        if isinstance(self.modality, Tensors):
            return  # which are fed as they are, whatever the model's data was
        trained = type(self).modality.with_options(load_options)
        own = self._asked | type(self).fixed.keys()
        wanted = trained.with_options({name: self._unfitted.settings[name] for name in own})
        theirs, ours = trained.settings, wanted.settings
        differing = [name for name in load_options if theirs[name] != ours[name]]
        if differing and tells:
            before, now = (_told({name: one[name] for name in differing}) for one in (theirs, ours))
            warnings.warn(f"the model was trained on data loaded with {before}, and this has {now}", DataWarning, 2)
        self._unfitted, self._fitted = wanted, None
        self._read_with(wanted)

    def _fit(self, by_class: bool) -> None:
        """Let the modality learn what it must from the training inputs, as they are divided."""
        if self._unfitted.learned and self._fitted != by_class and self._has("train"):
            train = self.table("train", by_class=by_class)
            assert train is not None
            try:
                fitted = self._unfitted.fitted(self.learned_from(train))
            except Exception as error:  # of which input it does not say, perhaps
                wrong = self._reading(train, "train").unreadable()
                if not wrong:
                    raise
                raise DataError(next(iter(wrong.values()))) from error
            self._read_with(fitted)
            self._fitted = by_class

    def learned_from(self, table: Table) -> Inputs:
        """Return what the modality learns from, of training examples; a domain may add to their inputs."""
        return table.inputs

    def _read_with(self, modality: Modality) -> None:
        if modality != self.modality:
            self.modality = modality
            self._budget += sum(samples.cached_bytes for samples in self._samples.values())
            self._samples.clear()

    def _reading(self, table: Table, stage: StageName, **kept: Any) -> Samples:
        remedy = "" if self._options.on_error == "skip" else "To leave such examples out, set on_error='skip'"
        transform = self._options.transforms.get(stage)
        load: Load = self.modality
        if stage == "train":
            transform, load = in_turn(self._draws(table), transform), self.modality.to_draw_from()
        return Samples(table.inputs, load, transform=transform, remedy=remedy, **kept)

    def _draws(self, table: Table) -> Transform | None:
        return None if isinstance(table.inputs, torch.Tensor) else self.modality.draws()

    def _usable(self, stage: StageName, by_class: bool = False) -> Table:
        if self._options.on_error == "skip" and stage not in self._tried:
            table, kind = self._tables[stage], f"{stage} examples"
            kept, skipped = readable(table, self.modality, kind)
            self._tables[stage] = without_lost_classes(kept, table, kind)
            self.skipped |= skipped
            self._tried.add(stage)
        table = self._tables[stage]
        # Columns of a one-hot matrix may be empty: no episode can be made of them.
        return table.without_empty_classes() if by_class and table.targets is not None else table

    # ---- loaders: the trainer's task says whether they hold episodes or batches

    def train_dataloader(self) -> DataLoader[Any]:
        """Return what training goes through."""
        return self._dataloader("train")

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return what validation goes through."""
        return self._dataloader("val") if self._has("val") else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Return what the test goes through."""
        return self._dataloader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return what prediction goes through."""
        return self._dataloader("predict")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Bring numbers to float32 for a device that has no float64."""
        task = self._task
        return tree_map(_in_float32, batch) if task is not None and task.device.type == "mps" else batch

    def _has(self, stage: StageName) -> bool:
        return stage in self._tables or stage in self._options.splits

    def _needed(self, stage: StageName, *, by_class: bool) -> Table:
        table = self.table(stage, by_class=by_class)
        if table is None:
            made = f"{type(self).__name__}.from_folders({stage}_folder=...)"
            share = f", or take a part of the training data: {stage}_split=0.2" if stage in ("val", "test") else ""
            raise DataError(f"there is no {stage} data: name it where the data is made, for example {made}{share}")
        return table

    def _dataloader(self, stage: StageName) -> DataLoader[Any]:
        trainer = self.trainer
        share = Share() if trainer is None else Share(trainer.global_rank, trainer.world_size)
        if stage == "predict":
            return self.batch_loader(stage, share)
        return self._procedure.loader(self, stage, share, getattr(self._task, "kind", None))

    @property
    def _task(self) -> Any:
        """What trains on it, or is judged by it; None where that is not known."""
        return None if self.trainer is None else self.trainer.lightning_module

    @property
    def _procedure(self) -> Procedure:
        return getattr(self._task, "procedure", None) or Supervised()

    def batch_loader(self, stage: StageName, share: Share | None = None, kind: Kind | None = None) -> DataLoader[Any]:
        """Return a loader of batches, without a trainer too.

        Args:
            stage: ``"train"``, ``"val"``, ``"test"`` or ``"predict"``.
            share: this process's.
            kind: what the targets are to be; None: as they are.

        Raises:
            DataError: there is no such data, or an example's class is none of the kind's.
        """
        self._fit(by_class=False)
        table = self._needed(stage, by_class=False)
        table = table if kind is None else kind.fitting(table)
        moved = stage == "train" or self._options.transforms.get(stage) is not None
        if kind is not None and table.annotations is not None and moved:
            table = replace(table, annotations=kind.to_learn(table.annotations))
        labelled, seed = stage != "predict", self._options.seed
        share, samples = share or Share(), self.samples(table, stage, table.annotations if labelled else None)
        dataset: Dataset[Any] = BatchDataset(table, samples, seed, share.world_size, labelled)
        if (drawn_by := self._options.drawn_by) is not None and stage in ("test", "predict"):
            if table.annotations is not None:
                raise ConfigError("test_time_augmentation is of answers to whole examples: leave it out")
            draws = samples.transformed_by(drawn_by)
            dataset = ViewDataset(
                table, draws, self._options.test_time_draws, seed, share.world_size, samples, labelled
            )
        return self._loader_of(dataset, self._batch_steps(table, stage, share))

    def view_loader(
        self, stage: StageName, views: int, transform: Transform, share: Share | None = None
    ) -> DataLoader[Any]:
        """Return a loader of batches of which each example is transformed several times, without a trainer too.

        Args:
            stage: ``"train"``, ``"val"`` or ``"test"``; the last two hold each example as it is judged, too.
            views: how often.
            transform: what makes one view of an example.
            share: this process's.

        Raises:
            DataError: there is no such data.
        """
        self._fit(by_class=False)
        if self._options.drawn_by is not None and stage == "test":
            raise ConfigError(_OF_FIXED_ANSWERS)
        table, share = self._needed(stage, by_class=False), share or Share()
        samples = self.samples(table, stage)
        judged = None if stage == "train" else samples
        seen = samples.transformed_by(in_turn(self._draws(table), transform) or transform)
        dataset = ViewDataset(table, seen, views, self._options.seed, share.world_size, judged)
        return self._loader_of(dataset, self._batch_steps(table, stage, share))

    def _batch_steps(self, table: Table, stage: StageName, share: Share) -> BatchSteps:
        trains, sampler = stage == "train", self._options.sampler
        balance = table.index if trains and sampler == "balanced" else None
        lengths = self.modality.lengths(table.inputs) if trains and sampler == "by_length" else None
        if trains and sampler == "by_length" and lengths is None:
            raise ConfigError(
                f"sampler='by_length' is of inputs that have a length, and {self.modality.called} have none"
            )
        return BatchSteps(len(table), self.batch_size, share, trains, self._options.seed, balance, lengths)

    def episode_loader(self, stage: StageName, plan: EpisodePlan, share: Share | None = None) -> DataLoader[Any]:
        """Return a loader of ``Episode``, without a trainer too.

        Raises:
            DataError: stages share a class, or there are too few classes or examples.
        """
        self._fit(by_class=True)
        if self._options.drawn_by is not None and stage == "test":
            raise ConfigError(_OF_FIXED_ANSWERS)
        table, sampler = self._episodes(stage, plan)
        train, numbers = stage == "train", table.targets if table.numeric else None
        steps = EpisodeSteps(
            sampler,
            length=plan.epoch_length if train else plan.test_epoch_length,
            meta_batch_size=plan.meta_batch_size,
            share=share or Share(),
            repeat=not train,
        )
        return self._loader_of(EpisodeDataset(self.samples(table, stage), sampler.shots, plan.seed, numbers), steps)

    def check_episodes(self, plan: EpisodePlan, validates: bool = True) -> None:
        """Check that a few-shot training can draw its episodes, before anything is made for it.

        Args:
            plan: of the episodes.
            validates: whether it validates, too.

        Raises:
            DataError: stages share a class, or there are too few classes or examples; the message says what to set.
        """
        for stage in STAGES[: 1 + validates]:
            if stage == "train" or self._has(stage):
                self._episodes(stage, plan)

    def _episodes(self, stage: StageName, plan: EpisodePlan) -> tuple[Table, EpisodeSampler]:
        if (sampler := self._options.sampler) is not None:
            told = (
                "episodes have as many of each class as it is" if sampler == "balanced" else "it is of ordinary batches"
            )
            raise ConfigError(f"sampler={sampler!r}: {told}: leave it out")
        given = {name: self.table(name, by_class=True) for name in STAGES[:3]}
        check_disjoint({name: table.classes for name, table in given.items() if table is not None})
        table = self._needed(stage, by_class=True)
        return table, EpisodeSampler.for_stage(table, plan, stage, self.episode_sampler, self._other_shares(plan))

    def _other_shares(self, plan: EpisodePlan) -> str:
        """Say by which ``val_split`` and ``test_split`` all parts of the training data have classes enough, if any."""
        if not self._options.splits:
            return ""
        counts = {part: len(table.classes) for part, table in self.divided(by_class=True).items()}
        shares = shares_for(sum(counts.values()), self._options.splits, {part: plan.span(part)[1] for part in counts})
        given = [(f"{part}_split={share:g}", f"--data.{part}_split {share:g}") for part, share in shares.items()]
        if not given or shares == self._options.splits:
            return ""
        told, typed = zip(*given, strict=True)
        return f"Or divide the {sum(counts.values())} classes by {' and '.join(told)} ({' '.join(typed)})"

    def _loader_of(self, dataset: Dataset[Any], steps: Steps) -> DataLoader[Any]:
        pin, workers = self._options.pin_memory, self._options.num_workers
        return StepLoader(
            dataset,
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            pin_memory=torch.cuda.is_available() if pin is None else pin,
            persistent_workers=workers > 0,
        )


def _told(options: Mapping[str, Any]) -> str:
    """Return options in words, of which some may be long, such as a vocabulary."""
    return f"{{{', '.join(f'{name!r}: {brief(value)}' for name, value in options.items())}}}"


def _door_arguments() -> set[str]:
    doors = [getattr(Doors, name) for name in vars(Doors) if name.startswith("from_")]
    return {argument for door in doors for argument in inspect.signature(door).parameters} - {"options"}


def _in_float32(leaf: Any) -> Any:
    return leaf.float() if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64 else leaf
