"""What torch, Lightning and torchmetrics keep private, and is used: what a new version lacks, in one message."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.connectors import checkpoint_connector
from lightning.pytorch.utilities import rank_zero
from torch.nn.parallel import DistributedDataParallel
from torchmetrics import MeanMetric

import quickstudy
from quickstudy import torch_internals
from quickstudy.image import ImageClassifier
from quickstudy.training import quirks

ROOT = Path(quickstudy.__file__).parent


def trainer() -> Any:
    return L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)


def loops() -> list[Any]:
    made = trainer()
    validation = made.fit_loop.epoch_loop.val_loop
    return [made.fit_loop, validation, made.validate_loop, made.test_loop, made.predict_loop]


class Running(L.Trainer):
    """Ends where it would run, with what it was called by."""

    def _run(self, model: Any, **others: Any) -> None:  # type: ignore[override]
        raise LookupError(self.state.fn, others)


def runs(stage: str) -> bool:
    """Whether a stage calls ``_run(model, ckpt_path=...)``, with the state set before it."""
    running = Running(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    try:
        getattr(running, stage)(L.LightningModule(), [0], ckpt_path="a.ckpt")
    except LookupError as found:
        return found.args[0] == stage and found.args[1].keys() >= {"ckpt_path"}
    return False


# Of each name that is private or not documented, how to come by it: what raises, or is not true, is missing.
NAMES: dict[str, Callable[[], Any]] = {
    "Trainer._signal_connector._sigterm_notifier_fn": lambda: trainer()._signal_connector._sigterm_notifier_fn,
    "Trainer._signal_connector.received_sigterm": lambda: trainer()._signal_connector.received_sigterm is False,
    "Trainer._accelerator_connector.use_distributed_sampler": lambda: (
        trainer()._accelerator_connector.use_distributed_sampler
    ),
    "Trainer._run(ckpt_path)": lambda: "ckpt_path" in L.Trainer._run.__annotations__,
    "Trainer.fit, validate, test and predict call _run, after state.fn is set": lambda: all(
        map(runs, ("fit", "validate", "test", "predict"))
    ),
    "Trainer.should_stop": lambda: trainer().should_stop is False,
    "Trainer.enable_validation": lambda: trainer().enable_validation in (True, False),
    "Trainer.val_check_batch": lambda: (
        "trainer.val_check_batch" in inspect.getsource(type(trainer().fit_loop).setup_data)
    ),
    "Trainer.check_val_every_n_epoch": lambda: trainer().check_val_every_n_epoch == 1,
    "Trainer.accumulate_grad_batches": lambda: trainer().accumulate_grad_batches == 1,
    "Trainer.strategy.launcher": lambda: hasattr(trainer().strategy, "launcher"),
    "Trainer.strategy.restore_checkpoint_after_setup": lambda: not trainer().strategy.restore_checkpoint_after_setup,
    "LightningModule._trainer": lambda: L.LightningModule()._trainer is None,
    "DDPStrategy._ddp_kwargs": lambda: DDPStrategy()._ddp_kwargs == {},
    "DistributedDataParallel.forward_sync_buffers, or broadcast_buffers": lambda: (
        inspect.signature(DistributedDataParallel).parameters.keys() & {"forward_sync_buffers", "broadcast_buffers"}
    ),
    "logger of utilities.rank_zero": lambda: (
        rank_zero.rank_zero_module.log.name == "lightning.pytorch.utilities.rank_zero"
    ),
    "logger of trainer.connectors.checkpoint_connector": lambda: (
        checkpoint_connector.log.name == "lightning.pytorch.trainer.connectors.checkpoint_connector"
    ),
    "_MultiProcessingLauncher.kill": lambda: quirks._MultiProcessingLauncher.kill,
    "_Loop.restarting.fset": lambda: _Loop.restarting.fset,
    "fit_loop._can_stop_early": lambda: trainer().fit_loop._can_stop_early in (True, False),
    "fit_loop._restarting": lambda: trainer().fit_loop._restarting is False,
    "fit_loop.reset_restart_stage": lambda: trainer().fit_loop.reset_restart_stage,
    "fit_loop.batch_idx": lambda: type(trainer().fit_loop).batch_idx,
    "fit_loop.epoch_progress, total and current: ready, started, processed, completed": lambda: all(
        hasattr(part, name)
        for part in (trainer().fit_loop.epoch_progress.total, trainer().fit_loop.epoch_progress.current)
        for name in ("ready", "started", "processed", "completed")
    ),
    "fit_loop's state: epoch_progress, of counts by name": lambda: all(
        counts.keys() >= {"ready", "processed", "completed"}
        for counts in trainer().fit_loop.state_dict()["epoch_progress"].values()
        if isinstance(counts, dict)
    ),
    "epoch_loop.reset_restart_stage": lambda: trainer().fit_loop.epoch_loop.reset_restart_stage,
    "epoch_loop.restarted_on_train_batch_end": lambda: type(trainer().fit_loop.epoch_loop).restarted_on_train_batch_end,
    "epoch_loop.total_batch_idx": lambda: type(trainer().fit_loop.epoch_loop).total_batch_idx,
    "epoch_loop.update_lr_schedulers": lambda: trainer().fit_loop.epoch_loop.update_lr_schedulers,
    "_data_source.instance of fit_loop, its val_loop, validate_loop, test_loop and predict_loop": lambda: all(
        hasattr(loop._data_source, "instance") for loop in loops()
    ),
    "precision_plugin.convert_input": lambda: trainer().precision_plugin.convert_input,
    "trainer.lightning_module": lambda: hasattr(trainer(), "lightning_module"),
    "Metric._defaults": lambda: MeanMetric()._defaults.keys() >= {"mean_value", "weight"},
    "Metric._update_count": lambda: MeanMetric()._update_count == 0,
    "Metric.sync_context": lambda: MeanMetric().sync_context,
    "torch._C._functions.AccumulateGrad": lambda: (
        torch_internals.parameter_of(torch.ones(1, requires_grad=True).mul(2).grad_fn.next_functions[0][0]) is not None  # type: ignore[union-attr]
    ),
    "UntypedStorage._new_shared": lambda: torch_internals.shared_storage(8).is_shared(),
    "Module._forward_hooks, Module._forward_pre_hooks": lambda: not torch_internals.has_hooks(torch.nn.Identity()),
    "torch.nn.modules.batchnorm._BatchNorm": lambda: issubclass(torch.nn.BatchNorm2d, torch_internals.BatchNorm),
    "torch.nn.modules.conv._ConvNd": lambda: issubclass(torch.nn.Conv1d, torch_internals.Convolution),
    "torch.nn.utils.parametrizations._SpectralNorm": lambda: isinstance(
        torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(2, 2)).parametrizations["weight"][0],  # type: ignore[index]
        torch_internals.SpectralNorm,
    ),
    "torch._C._functorch.TransformType, get_interpreter_stack": lambda: (
        torch.func.vmap(lambda row: row + torch_internals.under_vmap())(torch.zeros(2)).all()
        and not torch_internals.under_vmap()
    ),
    "torch.utils._pytree": lambda: (
        torch_internals.keystr(torch_internals.tree_flatten_with_path({"a": [1]})[0][0][0]) == "['a'][0]"
    ),
}


def looked_for() -> set[str]:
    return set(re.findall(r"\w+", " ".join(NAMES)))


def lacking(names: dict[str, Callable[[], Any]]) -> list[str]:
    missing = []
    for name, found in names.items():
        try:
            if found():
                continue
            missing.append(name)
        except Exception as error:
            missing.append(f"{name} ({type(error).__name__}: {error})")
    return missing


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_lacking() -> None:
    missing = lacking(NAMES)
    versions = f"torch {torch.__version__}, Lightning {L.__version__}"
    assert not missing, f"{versions} lack, or have changed: {'; '.join(missing)}"


def test_what_is_lacking_is_told_all_at_once() -> None:
    there = SimpleNamespace(there=True)
    names: dict[str, Callable[[], Any]] = {"a": lambda: there.a, "there": lambda: there.there, "b": lambda: there.b}
    assert [each.split(" ")[0] for each in lacking(names)] == ["a", "b"]


@pytest.mark.parametrize("file", ["torch_internals.py", "training/quirks.py"])
def test_every_private_name_is_looked_for(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)} - {"_run"}
    own.add("_replace")  # a named tuple's
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            used |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
    private = {name for name in used if name.startswith("_") and not name.endswith("__")} - own
    assert private, "there are some"
    assert not private - looked_for()


OWNERS = {"trainer", "loop", "strategy", "connector", "epochs", "metric", "self"}
"""What is Lightning's and torchmetrics' in ``training.quirks``, which asks them for names without a ``_``, too."""


def test_every_name_of_lightning_is_looked_for() -> None:
    tree = ast.parse((ROOT / "training/quirks.py").read_text(encoding="utf-8"))
    used = set()
    for node in ast.walk(tree):
        owner: ast.expr = node if isinstance(node, ast.Attribute) else ast.Constant(None)
        while isinstance(owner, ast.Attribute):
            owner = owner.value
        if isinstance(node, ast.Attribute) and isinstance(owner, ast.Name) and owner.id in OWNERS:
            used.add(node.attr)
    used -= {"judges_a_checkpoint", "setdefault", "values"}  # its own, and a dict's
    assert {"_can_stop_early", "launcher", "should_stop", "sync_context"} <= used
    assert not used - looked_for()


def test_a_module_without_a_trainer_has_none() -> None:
    model = ImageClassifier(backbone=torch.nn.Flatten(), num_classes=2)
    assert quirks.trainer_of(model) is None
