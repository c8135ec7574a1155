"""Lightning's Trainer, with ``finetune`` and with ``predict`` into names."""

from __future__ import annotations

import inspect
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.model_helpers import is_overridden

from quickstudy.data.stages import STAGES
from quickstudy.errors import ConfigError, DataWarning, brief, check_choice, check_counts, check_options, given
from quickstudy.kinds.base import Kind
from quickstudy.kinds.predictions import in_form
from quickstudy.runs.allocator import keep_memory_mapped
from quickstudy.runs.answers import check_writable, format_of, write_answers
from quickstudy.runs.failing import StopAtNaN
from quickstudy.runs.folder import (
    RUNS,
    Patience,
    Record,
    checkpoints,
    holding,
    judging_by,
    new_folder,
    write_measured,
    write_page,
)
from quickstudy.runs.learning_rates import FindLearningRate
from quickstudy.runs.loggers import Asked, Metrics, build_loggers, check_loggers
from quickstudy.runs.progress import Parameters, build_progress, shown
from quickstudy.runs.results import result_of, sentence
from quickstudy.runs.resuming import GoesOn, KeepLast, WholeCheckpoints, folder_to_resume, newest_checkpoint
from quickstudy.runs.time_limit import WithinTime
from quickstudy.training.checkpoint import plain
from quickstudy.training.datamodule import DataModule
from quickstudy.training.finetuning import SHAPES, Strategy, build_finetuning
from quickstudy.training.outcome import Outcome
from quickstudy.training.processes import OneResult, check_shared
from quickstudy.training.quirks import JudgingTrainer, keep_statistics, note_termination, quieten, spawns
from quickstudy.training.task import Task, leave_evaluation

_PLAIN: dict[str, Any] = {"finetuning": "no_freeze"}


class Trainer(JudgingTrainer):
    """Trains, tests and predicts.

    Training leaves a folder, ``runs/1`` and so on: options, versions, figures, the best checkpoint and the last, and
    ``report.html`` with the curves; with both ``logger=False`` and ``enable_checkpointing=False`` it leaves nothing.

    Args:
        logger: True: ``metrics.csv`` and TensorBoard's events in the run's folder. Or ``"wandb"``, ``"mlflow"``,
            ``"trackio"``, ``"tensorboard"``, a ``Logger``, or a list of these, beside ``metrics.csv``; ``"csv"``: that
            alone; False: none.
        find_learning_rate: whether ``fit`` and ``finetune`` begin with a search: a hundred steps at rates from 1e-7 to
            1, after which the model is as before, and trains at the rate at which the loss fell fastest (Smith 2017,
            https://arxiv.org/abs/1506.01186). ``model.learning_rate`` and the run's files have it; a run that goes on
            keeps its own. ``backbone_lr`` stays.
        patience: stop after so many validations without a better ``val_accuracy`` (of several labels ``val_f1``); None:
            never.
        sync_batchnorm: whether BatchNorm in ordinary training on several processes normalises by the statistics of all
            their batches together, so that their number changes nothing. Episodes have statistics of their own.
        resume: ``"auto"``: the run's folder is ``default_root_dir`` itself; go on from its newest checkpoint, if there
            is one. They are written after every epoch and every ten minutes; a ``KeepLast`` among the callbacks chooses
            other times.
        default_root_dir: where the runs' folders are made; default: ``runs``.
        lightning_kwargs: https://lightning.ai/docs/pytorch/stable/common/trainer.html
    """

    run_folder: Path | None
    """The run's folder; None before training, and for a run that leaves none."""

    def __init__(
        self,
        *,
        logger: Asked = True,
        find_learning_rate: bool = False,
        patience: int | None = None,
        sync_batchnorm: bool = True,
        resume: Literal["auto"] | None = None,
        default_root_dir: str | Path | None = None,
        **lightning_kwargs: Any,
    ) -> None:
        self.callbacks: list[Any]
        if lightning_kwargs.get("strategy") in SHAPES:
            name = lightning_kwargs["strategy"]
            raise ConfigError(f"{brief(name)} says what of the model trains: trainer.finetune(..., strategy='{name}')")
        known = list(inspect.signature(L.Trainer.__init__).parameters)[1:]
        check_options("Trainer", lightning_kwargs, known)
        self._told = {name: value for name, value in lightning_kwargs.items() if plain(value)}
        self._told |= {"patience": patience, "sync_batchnorm": sync_batchnorm}
        self._told |= {"find_learning_rate": True} if find_learning_rate else {}
        self.sync_batchnorm = sync_batchnorm  # Lightning's own would replace the layers, and with them the episodes'
        # The data's own samplers share the work; Lightning's would give every process the same episodes.
        lightning_kwargs.setdefault("use_distributed_sampler", False)
        if lightning_kwargs.get("overfit_batches"):
            raise ConfigError(
                "overfit_batches would replace the sampler that draws the episodes: for a few-shot strategy set "
                "num_tasks=8 among its options, otherwise limit_train_batches=8"
            )
        callbacks = _listed(lightning_kwargs.pop("callbacks", None))
        plugins = _listed(lightning_kwargs.pop("plugins", None))
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(WholeCheckpoints())
        bare = lightning_kwargs.get("barebones")
        shows = lightning_kwargs.get("enable_progress_bar") is not False and not bare
        if shows and not any(isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks.append(build_progress())
        sums_up = lightning_kwargs.get("enable_model_summary") is not False and not bare
        if sums_up and not any(isinstance(callback, ModelSummary) for callback in callbacks):
            callbacks.append(Parameters())
            lightning_kwargs["enable_model_summary"] = False  # Lightning's own
        quieten()
        callbacks += [OneResult(), GoesOn(), StopAtNaN(), WithinTime()]
        callbacks += [FindLearningRate()] * find_learning_rate
        check_counts(**given(patience=patience))
        if patience is not None:
            callbacks.append(Patience(patience))
        self.run_folder = folder_to_resume(resume, default_root_dir)
        self._resumes, self._patience, self._finetuning = resume is not None, patience, _PLAIN
        self._fitted: Task | None = None
        self._root = Path(default_root_dir or RUNS)
        self._loggers_asked = check_loggers(logger)
        asked_to_keep = lightning_kwargs.pop("enable_checkpointing", None) is not False
        self._keeps = asked_to_keep or resume is not None
        self._leaves = (bool(self._loggers_asked) or self._keeps) and not (lightning_kwargs.get("fast_dev_run") or bare)
        super().__init__(
            callbacks=callbacks,
            plugins=plugins,
            logger=[one for one in self._loggers_asked if not isinstance(one, str)] or False,
            # Ours are added with the folder.
            enable_checkpointing=asked_to_keep and any(isinstance(callback, Checkpoint) for callback in callbacks),
            default_root_dir=default_root_dir,
            **lightning_kwargs,
        )
        if isinstance(self.accelerator, CPUAccelerator):
            keep_memory_mapped()
        keep_statistics(self.strategy)
        note_termination(self)

    def fit(  # type: ignore[override]
        self,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: L.LightningDataModule | None = None,
        ckpt_path: Any = None,
        **lightning_kwargs: Any,
    ) -> None:
        """Train a task, as Lightning does; with ``resume="auto"`` from the newest checkpoint of the run's folder.

        Args:
            model: the task.
            train_dataloaders, val_dataloaders: loaders of batches or of ``Episode``. With several to validate by,
                ``val_accuracy``, which chooses the best, is over all that they hold, and
                ``val_accuracy/dataloader_idx_1`` that of the second; or
            datamodule: its data.
            ckpt_path: a checkpoint to go on from; ``"last"``: the newest in the run's folder, ``default_root_dir``.
            lightning_kwargs: Lightning's own.

        Raises:
            DataError: there are checkpoints, and none can be read.
            ConfigError: the strategy cannot serve the model's algorithm, or ``patience`` has no validation to judge by.
        """
        _check_task(model)
        # Here, before callbacks freeze what they will let train later; Lightning's own Trainer has the task do it.
        leave_evaluation(model)
        if isinstance(train_dataloaders, L.LightningDataModule):
            train_dataloaders, datamodule = None, train_dataloaders
        check_shared(self, train_dataloaders, val_dataloaders)
        if ckpt_path == "last" and self.run_folder is None:
            self.run_folder = folder_to_resume("auto", None if self._root == RUNS else self._root)
        if ckpt_path == "last" or (ckpt_path is None and self._resumes):
            assert self.run_folder is not None
            asked, ckpt_path = ckpt_path, newest_checkpoint(self.run_folder)
            if asked == "last" and ckpt_path is None:
                warnings.warn(f"'{self.run_folder}' holds no checkpoint yet: training begins anew", DataWarning, 2)
        if isinstance(self.strategy, FSDPStrategy):
            model.procedure.check_sharded()
        if spawns(self) and datamodule is not None:
            # The trained weights come back from the spawned processes; what they belong to must be here.
            model.meet(datamodule, "fit")
            if self.precision == "64-true":
                model.double()
        self._open_folder(model, datamodule, val_dataloaders)
        self._fitted = model
        with holding(self.run_folder if self._leaves else None):
            try:
                super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, **lightning_kwargs)
            except SIGTERMException as stop:
                raise SystemExit(143) from stop  # Lightning's own says 0, and that all was done
            finally:  # whoever stops a run wants to see it as well
                if self._leaves and self.run_folder is not None and self.is_global_zero:
                    write_page(self.run_folder, self.global_step)

    def _open_folder(self, model: Any, datamodule: Any, val_dataloaders: Any) -> None:
        """Give the run its folder, with what is logged and kept there; a second fit goes on in the same."""
        tables: dict[str, Any] = {}
        if isinstance(datamodule, DataModule):
            tables = {stage: datamodule.table(stage, by_class=model.procedure.by_class) for stage in STAGES[:2]}
            validates = tables["val"] is not None
        else:
            own = datamodule is not None and is_overridden("val_dataloader", datamodule, L.LightningDataModule)
            validates = own or val_dataloaders is not None
        validates = validates and self.limit_val_batches != 0
        if self._patience is not None and not validates:
            raise ConfigError(
                f"patience={self._patience} needs validation data to judge by: add val_folder=... or val_split=0.2 to "
                "the data"
            )
        if isinstance(datamodule, DataModule):
            model.procedure.check(model, datamodule, validates)
        model.kind = model.kind.judged_on(tables.get("val"))
        self.callbacks = judging_by(model.kept_by, self.callbacks)
        if not self._leaves:
            return
        if self.run_folder is None:
            self.run_folder = new_folder(self._root)
        for callback in self.callbacks:
            if isinstance(callback, KeepLast):
                callback.write_to(self.run_folder, self._resumes)
        if not any(isinstance(logger, Metrics) for logger in self.loggers):
            self.loggers = build_loggers(self._loggers_asked, self.run_folder) if self._loggers_asked else []
        if self._keeps:
            self.callbacks += checkpoints(self.run_folder, validates, self.callbacks, model.kept_by)
        options: dict[str, Any] = {}
        if isinstance(datamodule, DataModule):
            learned = datamodule.modality.learned  # which nobody chose, and may be long
            read = {name: value for name, value in datamodule.load_options.items() if name not in learned}
            options = {**read, **datamodule.options}
        record = Record(self.run_folder, tables, options, {**self._told, **self._finetuning})
        others = [callback for callback in self.callbacks if not isinstance(callback, Record)]
        # What is written last has seen what the others did.
        self.callbacks = [record, *sorted(others, key=lambda callback: isinstance(callback, KeepLast))]

    def finetune(
        self,
        model: L.LightningModule,
        datamodule: L.LightningDataModule | None = None,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        strategy: Strategy = "no_freeze",
        train_bn: bool = True,
        ckpt_path: str | None = None,
    ) -> None:
        """Train a model whose backbone may be kept as it is.

        Args:
            model: a task.
            datamodule: its data; or loaders instead.
            train_dataloaders, val_dataloaders: loaders of batches or of ``Episode``.
            strategy: ``"no_freeze"`` trains everything, ``"freeze"`` all but the backbone, ``("freeze_unfreeze", 5)``
                the backbone from epoch 5 on. ``("unfreeze_milestones", ((0, 5), 3))`` trains the last 3 layers of the
                backbone from epoch 0 and the rest from epoch 5; layers are counted that have parameters.
                ``("unfreeze_last", 2)`` trains the last 2 stages of the backbone, the layers of a transformer or the
                parts of another network, and never the rest. ``("gradual", 2)`` begins with the head and adds a stage
                of the backbone every 2 epochs, from the top.
                ``("lora", 8)`` trains additions of rank 8 to the linear and convolutional layers, which become part
                of them at the end; it needs ``quickstudy[lora]``. ``"tfa"`` is the second stage of a detector by
                regions: it takes the classes of the data, of few examples each, and trains the last layers alone. Or
                a ``BaseFinetuning``.
            train_bn: whether BatchNorm layers of a frozen backbone train.
            ckpt_path: a checkpoint to go on from.

        Raises:
            ConfigError: there is no such strategy, or it leaves nothing to train.
        """
        _check_task(model)
        added = build_finetuning(strategy, train_bn)
        self._finetuning = {"finetuning": str(strategy), "train_bn": train_bn}
        self.callbacks = [*self.callbacks, *added]
        try:
            self.fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path)
        finally:
            for callback in added:  # Lightning leaves it out where a run is interrupted
                callback.teardown(self, model, "fit")
            self.callbacks = [callback for callback in self.callbacks if callback not in added]
            self._finetuning = _PLAIN

    def test(  # type: ignore[override]
        self,
        model: L.LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: L.LightningDataModule | None = None,
        **lightning_kwargs: Any,
    ) -> Any:
        """Test a task, as Lightning does, and print what was measured in a sentence unless ``verbose=False``.

        ``trainer.outcome`` has the figure of each episode or example, those of each class, and what was taken for what.

        Returns:
            A list of one dictionary: ``test_accuracy``, or what else the task is judged by; ``test_accuracy_ci95``, of
            its interval over episodes, or examples; of episodes ``test_accuracy_ci95_classes``, of that over classes,
            where it is known; and whatever else was measured.
        """
        _check_task(model or self.lightning_module)
        check_shared(self, dataloaders)
        tested: Any = model or self.lightning_module
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "outcome" if spawns(self) else None  # processes that are spawned keep their own
            if tested is not None:
                tested.outcome, tested.outcome_file = None, file
            found = super().test(model, dataloaders, ckpt_path, False, datamodule, **lightning_kwargs)
            if file is not None and file.exists():
                tested.outcome, tested.outcome_file = Outcome.read(file), None
        if found and self.is_global_zero:
            data = datamodule or (getattr(self, "datamodule", None) if dataloaders is None else dataloaders)
            result = result_of(self.lightning_module, found[0], data)
            if verbose:
                print(sentence(result))
            if self._leaves and self.run_folder is not None and self.lightning_module is self._fitted:
                weights = Path(ckpt_path).name if ckpt_path else "as trained"
                write_measured(self.run_folder, result, weights, None, self.outcome, self.lightning_module.mistakes)
        return found

    @property
    def outcome(self) -> Outcome | None:
        """What the latest test saw; None before one."""
        return getattr(self.lightning_module, "outcome", None)

    def validate(  # type: ignore[override]
        self,
        model: L.LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: L.LightningDataModule | None = None,
        **lightning_kwargs: Any,
    ) -> Any:
        """Validate a task, as Lightning does, and print what was measured on a line unless ``verbose=False``."""
        _check_task(model or self.lightning_module)
        check_shared(self, dataloaders)
        found = super().validate(model, dataloaders, ckpt_path, False, datamodule, **lightning_kwargs)
        if verbose and self.is_global_zero:
            for figures in found or ():
                print(", ".join(f"{name} {text}" for name, text in shown(figures).items()))
        return found

    def predict(  # type: ignore[override]
        self,
        model: L.LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: L.LightningDataModule | None = None,
        output: str | None = None,
        file: str | os.PathLike[str] | None = None,
        drawings: str | os.PathLike[str] | None = None,
        **lightning_kwargs: Any,
    ) -> Any:
        """Predict every example of the prediction data, in order.

        Args:
            model: a task that was trained on fixed classes.
            dataloaders: a loader of inputs, or several, of which each gets its own answers, in a list; or
            datamodule: data with a ``predict_...``.
            output: a form of answers; None: the first of ``model.kind.forms``. Of classes ``"labels"``: N labels as the
                training data had them, strings, ints or bools (lists of labels with several per example);
                ``"classes"``: their numbers among ``model.classes``, a tensor ``[N]`` (``[N, C]`` of zeros and ones);
                ``"probabilities"`` and ``"logits"``: a tensor ``[N, C]``. Of numbers ``"numbers"``: N of them.
                Of embeddings ``"embeddings"``: a tensor ``[N, D]``.
                ``"rows"``: for each example a ``kinds.predictions.Prediction`` of its file, label, probability,
                likeliest class, and true label where the data has it (targets, or class folders); with several labels
                per example, all above their thresholds and their probabilities, in lists.
                Of objects, and classes of pixels, ``"coco"``: a dict as COCO's JSON has it.
            file: where to write answers, too: ``x.csv`` for rows; ``x.json`` for COCO's JSON with ``output="coco"``,
                else for rows.
            drawings: a folder for a drawing of each example, where answers tell of places: objects, classes of pixels.
            lightning_kwargs: Lightning's own, such as ``ckpt_path``.

        Raises:
            ConfigError: the output is unknown, answers cannot be written so, or the model has no fixed classes: then
                use ``model.adapt``.
            DataError: an answer is not a number.
        """
        kind: Kind | None = getattr(model or self.lightning_module, "kind", None)
        forms = ("rows",) if kind is None else (*kind.forms, *kind.named_forms)
        output = forms[0] if output is None else output
        check_choice("output", output, *forms)
        form = None if file is None else format_of(file, output)
        if kind is not None and isinstance(model, Task):
            check_writable(kind, model.modality, form or "csv", drawings)
        if self.world_size > 1:
            raise ConfigError(f"predict runs on one process, not on {self.world_size}: use Trainer(devices=1)")
        batches: Any = super().predict(model, dataloaders, datamodule, **lightning_kwargs)
        task: Any = self.lightning_module
        several = bool(batches) and isinstance(batches[0], list)
        if form is not None or drawings is not None:
            if several:
                raise ConfigError("file= and drawings= are of one loader: predict with each alone")
            write_answers(task.kind, task.modality, batches, self.predict_dataloaders, file, form, drawings)
        if several:
            loaders = zip(batches, list(self.predict_dataloaders or ()), strict=True)
            return [in_form(task.kind, each, output, loader) for each, loader in loaders]
        return in_form(task.kind, batches, output, self.predict_dataloaders)


def _check_task(model: Any) -> None:
    if model is not None and not isinstance(model, Task):
        raise ConfigError(
            f"{type(model).__name__} is no task of quickstudy, such as ImageClassifier: subclass quickstudy.Task, or "
            "use lightning.Trainer"
        )


def _listed(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
