"""Training from end to end on small made-up images: strategies, fine-tuning, outputs, checkpoints, metrics."""

from __future__ import annotations

import copy
import hashlib
import io
import itertools
import json
import math
import re
import subprocess
import sys
import warnings
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchmetrics
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BaseFinetuning, RichModelSummary
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.tuner import Tuner
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from quickstudy import ConfigError, DataError, DataWarning, Episode, Task, Trainer
from quickstudy.data import identity
from quickstudy.data.archives import open_archive
from quickstudy.data.content import _pieces
from quickstudy.errors import TrainingError
from quickstudy.functional.intervals import proportion_interval
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.kinds.losses import class_weights_of, weighted
from quickstudy.kinds.metrics import Accuracy, build_metrics
from quickstudy.runs import progress
from quickstudy.runs.progress import Bars
from quickstudy.runs.resuming import WholeCheckpoints
from quickstudy.training import optimizers
from quickstudy.training.optimizers import (
    OPTIMIZERS,
    SCHEDULERS,
    available_optimizers,
    available_schedulers,
    build_optimizer,
    build_scheduler,
    check_specs,
)
from versions import FINDER_TAKES_WHAT_IT_TRIED, WARNS_OF_EVALUATION_MODE

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
EPISODES: dict[str, Any] = {
    "ways": 4,
    "shots": 1,
    "queries": 5,
    "meta_batch_size": 2,
    "epoch_length": 40,
    "test_epoch_length": 60,
}


def noisy_patterns(classes: int, each: int, first: int = 0) -> tuple[Tensor, list[str]]:
    """Images uint8 ``[N, 1, 16, 16]``: a pattern per class with noise."""
    generator = torch.Generator().manual_seed(first)
    coarse = torch.rand(classes, 1, 4, 4, generator=generator)
    patterns = torch.nn.functional.interpolate(coarse, size=16, mode="bilinear").repeat_interleave(each, 0)
    images = patterns + 0.3 * torch.randn(patterns.shape, generator=generator)
    labels = [f"pattern {first + code}" for code in range(classes) for _ in range(each)]
    return (images.clamp(0, 1) * 255).to(torch.uint8), labels


def episodic_data(**options: Any) -> ImageClassificationData:
    train, val, test = noisy_patterns(24, 12), noisy_patterns(8, 12, 100), noisy_patterns(12, 12, 200)
    return ImageClassificationData.from_tensors(*train, *val, *test, **options)


def fixed_data(classes: int = 4, **options: Any) -> ImageClassificationData:
    images, labels = noisy_patterns(classes, 30)
    options = {"val_split": 0.2, "batch_size": 16, **options}
    return ImageClassificationData.from_tensors(
        images, labels, test_data=images ^ 1, test_targets=labels, predict_data=images[::30], **options
    )


def small(**arguments: Any) -> ImageClassifier:
    torch.manual_seed(0)
    backbone = {"backbone": "conv4", "backbone_kwargs": {"in_channels": 1, "hidden": 16}}
    return ImageClassifier(**{**backbone, "learning_rate": 3e-3, **arguments})


def episodic(**arguments: Any) -> ImageClassifier:
    return small(training_strategy="prototypicalnetworks", training_strategy_kwargs=EPISODES, **arguments)


def test_meta_training_beats_the_untrained_encoder_on_classes_never_seen() -> None:
    data, model = episodic_data(), episodic()
    (before,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    trainer = Trainer(max_epochs=6, **QUIET)
    trainer.fit(model, datamodule=data)
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_accuracy_ci95"} <= set(
        trainer.callback_metrics
    )
    (after,) = trainer.test(model, datamodule=data, verbose=False)
    assert after["test_episodes"] == 60
    assert after["test_transductive"] == 0
    assert 0 < after["test_accuracy_ci95"] < 0.1
    assert after["test_accuracy"] - after["test_accuracy_ci95"] > before["test_accuracy"] + before["test_accuracy_ci95"]
    (again,) = trainer.test(model, datamodule=data, verbose=False)
    assert again == after, "validation and test see the same episodes every time"


def test_the_interval_is_that_of_the_episodes() -> None:
    data, model = episodic_data(), episodic()
    (result,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    assert model.plan is not None
    model.eval()
    accuracies = []
    for episode in data.episode_loader("test", model.plan):
        for task in range(len(episode.support)):
            predictor = model.adapt(episode.support[task], episode.support_targets[task])
            accuracies.append(predictor.score(episode.query[task], episode.query_targets[task]))
    values = torch.tensor(accuracies)
    assert len(values) == 60
    assert result["test_accuracy"] == pytest.approx(values.mean().item(), abs=1e-6)
    assert result["test_accuracy_ci95"] == pytest.approx(2.000995 * values.std().item() / 60**0.5, abs=1e-6)


def test_meta_batch_size_is_the_mean_over_its_episodes() -> None:
    data = episodic_data()
    model = episodic().double()
    assert model.plan is not None
    batch = next(iter(data.episode_loader("train", model.plan)))
    assert isinstance(batch, Episode)
    assert len(batch.support) == 2
    model.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    model.training_step(batch, 0).backward()
    together = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    for task in range(2):
        (model.training_step(Episode(*(part[task : task + 1] for part in batch)), 0) / 2).backward()
    apart = [parameter.grad for parameter in model.parameters()]
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "maml"])
def test_accumulated_steps_are_one_of_as_many_episodes(strategy: str) -> None:
    weights = []
    for together, accumulated in ((4, 1), (2, 2), (1, 4)):
        torch.manual_seed(0)
        plan = {**EPISODES, "meta_batch_size": together, "epoch_length": 12}
        net = nn.Sequential(nn.Flatten(), nn.Linear(256, 8)).double()
        model = ImageClassifier(
            backbone=net, optimizer="SGD", training_strategy=strategy, training_strategy_kwargs=plan
        ).double()
        trainer = Trainer(
            max_epochs=1, accumulate_grad_batches=accumulated, precision="64-true", limit_val_batches=0, **QUIET
        )
        trainer.fit(model, datamodule=episodic_data())
        assert trainer.global_step == 3
        weights.append(net[1].weight.detach().clone())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(weights[0], weights[2], rtol=1e-9, atol=1e-12)


def test_supervised_training_and_every_output() -> None:
    data, model = fixed_data(), small(metrics=["F1Score"])
    trainer = Trainer(max_epochs=8, **QUIET)
    trainer.finetune(model, datamodule=data)
    assert model.classes == data.classes == ("pattern 0", "pattern 1", "pattern 2", "pattern 3")
    (result,) = trainer.test(model, datamodule=data, verbose=False)
    assert result["test_accuracy"] > 0.9
    assert 0 < result["test_accuracy_ci95"] < 0.1
    assert result["test_examples"] == 120
    assert result["test_F1Score"] > 0.9
    assert trainer.predict(model, datamodule=data) == list(data.classes)
    assert trainer.predict(model, datamodule=data, output="classes").tolist() == [0, 1, 2, 3]
    probabilities = trainer.predict(model, datamodule=data, output="probabilities")
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))
    logits = trainer.predict(model, datamodule=data, output="logits")
    torch.testing.assert_close(logits.softmax(1), probabilities)


@pytest.mark.parametrize("kind", [int, bool, str])
def test_answers_are_of_the_type_that_the_targets_were(kind: type, tmp_path: Path) -> None:
    images, patterns = noisy_patterns(2, 12)
    targets = [kind(int(label.split()[1])) for label in patterns]
    data = ImageClassificationData.from_tensors(
        images, targets, predict_data=images[::12], val_split=0.25, batch_size=4
    )
    model, trainer = small(), Trainer(max_epochs=1, **QUIET)
    trainer.fit(model, datamodule=data)
    codes = trainer.predict(model, datamodule=data, output="classes").tolist()
    expected = [sorted(set(targets))[code] for code in codes]
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    for each in (model, ImageClassifier.load_from_checkpoint(tmp_path / "x.ckpt")):
        answers = Trainer(max_epochs=1, **QUIET).predict(each, datamodule=data)
        assert answers == expected
        assert {type(answer) for answer in answers} == {kind}


def test_no_class_is_named_where_the_answer_is_no_number() -> None:
    model, trainer = small(), Trainer(max_epochs=1, limit_train_batches=1, **QUIET)
    trainer.fit(model, datamodule=fixed_data())
    model.head.weight.data[0] = torch.nan  # type: ignore[union-attr, index, operator]
    with pytest.raises(DataError, match="answer to input 0 is not a number"):
        trainer.predict(model, datamodule=fixed_data())


def test_several_labels_per_example() -> None:
    images, _ = noisy_patterns(4, 30)
    targets = [[["a"], ["b"], ["a", "b"], []][code] for code in range(4) for _ in range(30)]
    data = ImageClassificationData.from_tensors(
        images, targets, test_data=images ^ 1, test_targets=targets, predict_data=images[::30], batch_size=16
    )
    model = small(multi_label=True, metrics="F1Score")
    trainer = Trainer(max_epochs=10, **QUIET)
    trainer.fit(model, datamodule=data)
    (result,) = trainer.test(model, datamodule=data, verbose=False)
    assert result["test_accuracy"] > 0.9
    assert trainer.predict(model, datamodule=data) == [["a"], ["b"], ["a", "b"], []]
    with pytest.raises(ConfigError, match="multi_label=True"):
        Trainer(max_epochs=1, **QUIET).fit(small(), datamodule=data)


@pytest.mark.parametrize("train_bn", [True, False])
def test_freeze_keeps_the_backbone_and_its_statistics(train_bn: bool) -> None:
    model = small()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    Trainer(max_epochs=1, **QUIET).finetune(model, datamodule=fixed_data(), strategy="freeze", train_bn=train_bn)
    changed = {name for name, value in model.encoder.state_dict().items() if not torch.equal(value, before[name])}
    if train_bn:
        assert changed
        assert all(".1." in name for name in changed), "only BatchNorm, which is second in each block"
    else:
        assert not changed


def test_freeze_that_leaves_nothing_to_train_says_so() -> None:
    trainer = Trainer(max_epochs=1, **QUIET)
    with pytest.raises(ConfigError, match="nothing is left to train"):
        trainer.finetune(episodic(), datamodule=episodic_data(), strategy="freeze", train_bn=False)
    with pytest.raises(ConfigError, match="did you mean 'freeze'"):
        trainer.finetune(episodic(), datamodule=episodic_data(), strategy="freez")


@pytest.mark.parametrize("kind", ["episodic", "supervised"])
def test_a_checkpoint_restores_in_another_process_without_running_code(kind: str, tmp_path: Path) -> None:
    data = episodic_data() if kind == "episodic" else fixed_data()
    model = episodic() if kind == "episodic" else small()
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(model, datamodule=data)
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    restored = ImageClassifier.load_from_checkpoint(path)
    assert restored.classes == model.classes
    assert restored.load_options == {"image_size": (16, 16), "image_mode": "L"}
    if kind == "episodic":
        other = ImageClassifier.load_from_checkpoint(path, training_strategy_kwargs={"test_queries": 3})
        assert other.plan == replace(model.plan, test_queries=3)
    for one, other in zip(model.state_dict().values(), restored.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    images, labels = noisy_patterns(3, 4, first=300)
    expected = model.adapt(images, labels).predict_proba(images)
    torch.save({"images": images, "labels": labels, "expected": torch.from_numpy(expected)}, tmp_path / "case.pt")
    script = (
        "import torch; from quickstudy.image import ImageClassifier; torch.set_num_threads(1)\n"
        f"case = torch.load({str(tmp_path / 'case.pt')!r})\n"
        f"model = ImageClassifier.load_from_checkpoint({str(path)!r})\n"
        "found = model.adapt(case['images'], case['labels']).predict_proba(case['images'])\n"
        "torch.testing.assert_close(torch.from_numpy(found), case['expected'], rtol=1e-4, atol=1e-5)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_a_checkpoint_cannot_hold_must_be_given_again(tmp_path: Path) -> None:
    data = episodic_data()
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(256, 8))
    model = episodic(backbone=backbone, backbone_kwargs=None)
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    with pytest.raises(ConfigError, match=r"backbone given as code.*backbone=\.\.\."):
        ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    fresh = nn.Sequential(nn.Flatten(), nn.Linear(256, 8))
    restored = ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt", backbone=fresh)
    assert torch.equal(
        restored.state_dict()["encoder.backbone.1.weight"], model.state_dict()["encoder.backbone.1.weight"]
    )


@pytest.mark.parametrize(
    ("optimizer", "lr_scheduler"),
    [
        ("SGD", "ExponentialLR"),
        (("AdamW", {"weight_decay": 0.1}), ("StepLR", {"step_size": 2, "gamma": 0.5, "interval": "step"})),
        (lambda parameters: torch.optim.Adam(parameters, 1e-3), lambda o: torch.optim.lr_scheduler.LinearLR(o)),
        ("adam", ("OneCycleLR", {"max_lr": 0.1, "total_steps": 20})),
        ("Adam", "ReduceLROnPlateau"),
    ],
)
def test_optimizers_and_schedules(optimizer: Any, lr_scheduler: Any) -> None:
    arguments = {"lr_scheduler": lr_scheduler}
    if lr_scheduler == "ExponentialLR":
        arguments = {"lr_scheduler": ("ExponentialLR", {"gamma": 0.5})}
    model = episodic(optimizer=optimizer, **arguments)
    trainer = Trainer(max_epochs=1, limit_train_batches=4, limit_val_batches=1, **QUIET)
    trainer.fit(model, datamodule=episodic_data())
    made = trainer.optimizers[0]
    assert type(made).__name__.lower() in ("sgd", "adamw", "adam")
    if isinstance(lr_scheduler, tuple) and lr_scheduler[0] == "StepLR":
        assert made.param_groups[0]["lr"] == pytest.approx(3e-3 / 4)
    assert {"Adam", "AdamW", "SGD"} <= set(available_optimizers())
    assert {"StepLR", "CosineAnnealingLR"} <= set(available_schedulers())


def test_loss_by_name_and_by_function() -> None:
    data = fixed_data()
    for loss_fn in ("multi_margin_loss", nn.CrossEntropyLoss(label_smoothing=0.1)):
        model = small(loss_fn=loss_fn)
        trainer = Trainer(max_epochs=1, **QUIET)
        trainer.fit(model, datamodule=data)
        assert trainer.callback_metrics["train_loss"].isfinite()
    with pytest.raises(ConfigError, match="did you mean 'cross_entropy'"):
        small(loss_fn="crossentropy")


def test_accuracy_of_right_or_wrong_figures_is_never_certain() -> None:
    perfect = Accuracy(per_example=True)
    perfect.update(torch.ones(50))
    assert perfect.compute().mean == 1
    assert perfect.compute().ci95 > 0.01
    assert perfect.compute().units == 50


def test_episodes_that_are_all_right_are_not_certain() -> None:
    perfect = Accuracy()
    for _ in range(2):
        perfect.update(torch.ones(10), 10 * 15)
    assert perfect.compute().ci95 == proportion_interval(300, 300)[1] > 0.01


def test_a_single_class_has_no_interval(capsys: pytest.CaptureFixture[str]) -> None:
    images, _ = noisy_patterns(1, 8)
    data = ImageClassificationData.from_tensors(images, ["a"] * 8, test_data=images ^ 1, test_targets=["a"] * 8)
    model, trainer = small(), Trainer(max_epochs=1, **QUIET)
    with pytest.warns(DataWarning, match="one class, 'a'"):
        trainer.fit(model, datamodule=data)
    (found,) = trainer.test(model, datamodule=data)
    assert "accuracy 100.00% (one class: no answer is wrong) on 8 examples of 1 class\n" in capsys.readouterr().out
    assert found["test_accuracy"] == 1 and math.isnan(found["test_accuracy_ci95"])


def test_loaders_instead_of_a_datamodule() -> None:
    data, model = episodic_data(), episodic()
    assert model.plan is not None
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(model, data.episode_loader("train", model.plan), data.episode_loader("val", model.plan))
    assert trainer.global_step == 20
    images, labels = noisy_patterns(3, 10)
    codes = torch.tensor([int(label.split()[1]) for label in labels])
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, codes), batch_size=10)
    supervised = small(num_classes=3)
    Trainer(max_epochs=1, **QUIET).fit(supervised, loader)
    assert supervised.classes == ("0", "1", "2")


def test_a_few_shot_model_is_not_tested_on_what_it_was_trained_on(tmp_path: Path) -> None:
    model, trainer = episodic(), Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, **QUIET)
    trainer.fit(model, datamodule=episodic_data())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    images, labels = noisy_patterns(8, 12)
    again = ImageClassificationData.from_tensors(test_data=images, test_targets=labels)
    for tested in (model, ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt")):
        with pytest.raises(DataError, match=r"the training and test data share classes \(8\): 'pattern 0'"):
            Trainer(**QUIET).test(tested, datamodule=again, verbose=False)


def test_a_checkpoint_is_judged_by_what_it_tells(tmp_path: Path) -> None:
    """As ``ckpt_path=``, by a model that knows nothing yet, it is refused and warned of as a loaded one is."""
    episodes, fixed = tmp_path / "episodes.ckpt", tmp_path / "fixed.ckpt"
    images, labels = noisy_patterns(8, 12)
    train = ImageClassificationData.from_tensors(images, labels)
    tested = ImageClassificationData.from_tensors(test_data=images[:30], test_targets=labels[:30])  # 3 of 8 classes
    trainer = Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, **QUIET)
    trainer.fit(episodic(), datamodule=episodic_data())
    trainer.save_checkpoint(episodes)
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(ImageClassifier(backbone=nn.Flatten()), datamodule=train)
    trainer.save_checkpoint(fixed)
    with pytest.raises(DataError, match="the training and test data share classes"):
        Trainer(**QUIET).test(episodic(), datamodule=tested, ckpt_path=episodes, verbose=False)
    tester, model = Trainer(**QUIET), ImageClassifier(backbone=nn.Flatten())
    with pytest.warns(DataWarning, match="trained on at least 30 of the 30") as told:
        tester.test(model, datamodule=tested, ckpt_path=fixed, verbose=False)
    assert sum(each.category is DataWarning for each in told) == 1  # it met the data once
    assert len(model.classes) == 8 and not tester.judges_a_checkpoint


def test_a_few_shot_model_is_not_tested_on_what_chose_it(tmp_path: Path) -> None:
    model, trainer = episodic(), Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1, **QUIET)
    trainer.fit(model, datamodule=episodic_data())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    images, labels = noisy_patterns(8, 12, 100)
    again = ImageClassificationData.from_tensors(
        val_data=images, val_targets=labels, test_data=images[:1], test_targets=["x"]
    )
    for judged in (model, ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt")):
        with pytest.raises(DataError, match=r"the validation and test data share classes \(8\): 'pattern 100'"):
            Trainer(**QUIET).test(
                judged, datamodule=ImageClassificationData.from_tensors(test_data=images, test_targets=labels)
            )
        assert Trainer(**QUIET).validate(judged, datamodule=again, verbose=False)


def test_a_model_trained_twice_is_tested_on_neither(tmp_path: Path) -> None:
    model, options = episodic(), {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 0, **QUIET}
    Trainer(**options).fit(model, datamodule=episodic_data())
    more = ImageClassificationData.from_tensors(*noisy_patterns(6, 12, 300))
    trainer = Trainer(**options)
    trainer.fit(model, datamodule=more)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    for first, split in ((0, "training"), (100, "validation"), (300, "training")):
        images, labels = noisy_patterns(6, 12, first)
        seen = ImageClassificationData.from_tensors(test_data=images, test_targets=labels)
        for tested in (model, ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt")):
            with pytest.raises(DataError, match=rf"the {split} and test data share classes \(6\): 'pattern {first}'"):
                Trainer(**QUIET).test(tested, datamodule=seen, verbose=False)


def test_freeze_ends_with_its_run() -> None:
    model, data = small(), fixed_data()
    for strategy in ("freeze", "no_freeze"):
        Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, **QUIET).finetune(
            model, datamodule=data, strategy=strategy, train_bn=False
        )
        assert all(parameter.requires_grad for parameter in model.parameters())


def test_names_of_schedules_may_be_lower_case() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    assert build_scheduler(("onecyclelr", {"max_lr": 1.0, "total_steps": 5}), optimizer)["interval"] == "step"
    assert build_scheduler("reducelronplateau", optimizer)["monitor"] == "val_loss"


def test_optimizers_of_timm_by_name() -> None:
    """Each of them is made, groups have rates of their own, and a name means what it means in timm."""
    names = [name for name in available_optimizers() if name.startswith("timm.")]
    assert {"timm.lamb", "timm.lion", "timm.adopt"} <= set(names)
    assert not [name for name in names if name.startswith(("timm.bnb", "timm.fused", "timm.kron", "timm.adahessian"))]
    for name in names:
        check_specs(name, 0.1, ("StepLR", {"step_size": 1}))
    network = nn.Linear(3, 2)
    groups = [{"params": [network.weight], "lr": 0.5}, {"params": [network.bias]}]
    made = build_optimizer(("TIMM.sgd", {"weight_decay": 0.1}), groups, 0.25)
    assert [group["lr"] for group in made.param_groups] == [0.5, 0.25]
    assert [made.defaults[name] for name in ("momentum", "nesterov", "weight_decay")] == [0.9, True, 0.1]
    before = network.weight.clone()
    network(torch.ones(1, 3)).sum().backward()  # both of its gradients are 1
    made.step()
    torch.testing.assert_close(network.weight, before - 0.5 * 1.9 * (1 + 0.1 * before))
    with pytest.raises(ConfigError, match="has no rate that lr_scheduler= could move: set learning_rate="):
        check_specs("timm.adafactor", None, ("StepLR", {"step_size": 1}))


def test_timm_is_asked_only_for_what_is_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("timm", "timm.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    optimizers._timms.cache_clear()
    assert not [name for name in available_optimizers() if "timm" in name]
    check_specs("adamw", 0.1, None)
    with pytest.raises(ImportError, match=r"needs the package 'timm', .*pip install 'quickstudy\[image\]'"):
        check_specs("timm.lamb", 0.1, None)
    monkeypatch.undo()
    optimizers._timms.cache_clear()
    monkeypatch.setattr(optimizers, "_timms", None)  # which fails where it is called
    check_specs(("SGD", {"momentum": 0.9}), 0.1, None)


class Signs(torch.optim.Optimizer):
    """Steps of one length, as somebody's own optimizer may take."""

    def __init__(self, params: Any, lr: float = 0.1, **options: Any) -> None:
        super().__init__(params, {"lr": lr, **options})

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure else None
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter -= group["lr"] * parameter.grad.sign() if parameter.grad is not None else 0
        return loss


def test_optimizers_and_schedules_of_ones_own_by_name() -> None:
    """They are called as torch's are, and leave torch's as they were."""
    halves = torch.optim.lr_scheduler.ExponentialLR
    with OPTIMIZERS.meanwhile("signs", Signs), OPTIMIZERS.meanwhile("sgd", Signs), SCHEDULERS.meanwhile("mine", halves):
        assert "signs" in available_optimizers() and "mine" in available_schedulers()
        model = episodic(
            optimizer=("Signs", {"further": 1}),
            learning_rate=0.5,
            backbone_lr=0.25,
            lr_scheduler=("mine", {"gamma": 0.5}),
        )
        trainer = Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, **QUIET)
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        trainer.fit(model, datamodule=episodic_data())
        for name, parameter in model.named_parameters():
            moved = (parameter - before[name]).abs().max()
            torch.testing.assert_close(moved, torch.tensor(0.25))
        assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [0.125]
        weights = [nn.Parameter(torch.zeros(1))]
        assert isinstance(build_optimizer("sgd", weights, 0.1), Signs)
        assert isinstance(build_optimizer("SGD", weights, 0.1), torch.optim.SGD)
    odd = OPTIMIZERS.meanwhile("odd", lambda parameters, lr: parameters)
    with odd, pytest.raises(ConfigError, match=r"optimizer 'odd' made .*, which is no torch.optim.Optimizer"):
        check_specs("odd", 0.1, None)
    with pytest.raises(ValueError, match="the optimizer 'Adam' exists already"):
        OPTIMIZERS.register("Adam")(Signs)
    with pytest.raises(ConfigError, match=r"unknown lr_scheduler 'mine'.*--import my_file.py"):
        check_specs("SGD", 0.1, "mine")


def test_batch_norm_without_running_statistics_is_called_transductive() -> None:
    backbone = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(256, track_running_stats=False))
    model = episodic(backbone=backbone, backbone_kwargs=None)
    (result,) = Trainer(**QUIET).test(model, datamodule=episodic_data(), verbose=False)
    assert result["test_transductive"] == 1


def test_a_domain_may_have_arguments_of_its_own() -> None:
    class Audio(ImageClassifier):
        def __init__(self, sample_rate: int = 16000, **options: Any) -> None:
            super().__init__(**options)

    assert Audio(sample_rate=8000, backbone="conv4").plan is None
    with pytest.raises(ConfigError, match="Audio has no option 'sample_rat'; did you mean 'sample_rate'"):
        Audio(sample_rat=8000)


@pytest.mark.filterwarnings("ignore:the model was trained on at least:quickstudy.errors.DataWarning")
def test_data_follows_the_model(tmp_path: Path) -> None:
    for code in range(3):
        for number in range(8):
            file = tmp_path / "data" / f"class {code}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (80 * code, 200, 10 * number)).save(file)
    model = ImageClassifier(backbone="conv4", backbone_kwargs={"hidden": 8})
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(model, datamodule=ImageClassificationData.from_folders(tmp_path / "data", image_size=32))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    restored = ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    fresh = ImageClassificationData.from_folders(predict_folder=tmp_path / "data")
    assert len(Trainer(**QUIET).predict(restored, datamodule=fresh)) == 24
    assert fresh.load_options["image_size"] == 32
    fresh = ImageClassificationData.from_folders(predict_folder=tmp_path / "data")
    unmet = ImageClassifier(backbone="conv4", backbone_kwargs={"hidden": 8})
    assert len(Trainer(**QUIET).predict(unmet, datamodule=fresh, ckpt_path=tmp_path / "model.ckpt")) == 24
    assert fresh.load_options["image_size"] == 32
    other = ImageClassificationData.from_folders(predict_folder=tmp_path / "data", image_size=36)
    with pytest.warns(DataWarning, match=r"loaded with \{'image_size': 32\}, and this has \{'image_size': 36\}"):
        Trainer(**QUIET).predict(restored, datamodule=other)


def test_a_checkpoint_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, trainer = small(), Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, **QUIET)
    trainer.fit(model, datamodule=fixed_data())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    before = (tmp_path / "model.ckpt").read_bytes()

    def full(value: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        trainer.save_checkpoint(tmp_path / "model.ckpt")
    assert (tmp_path / "model.ckpt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]


def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(value: Any, file: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"new.ckpt' could not be written, with \d+ MB free: .enforce fail"):
        WholeCheckpoints().save_checkpoint({}, tmp_path / "new.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_a_newer_version_says_so(tmp_path: Path) -> None:
    torch.save({"quickstudy": {"format": 99, "unsaved": []}}, tmp_path / "new.ckpt")
    with pytest.raises(DataError, match="written by a newer quickstudy"):
        ImageClassifier.load_from_checkpoint(tmp_path / "new.ckpt")


def test_validation_has_the_same_episodes_in_every_epoch() -> None:
    model = episodic()
    assert model.plan is not None
    data = episodic_data()
    val, train = data.episode_loader("val", model.plan), data.episode_loader("train", model.plan)
    for loader, same in ((val, True), (train, False)):
        loader.sampler.set_epoch(0)
        first = torch.cat([episode.query for episode in loader])
        loader.sampler.set_epoch(1)
        assert torch.equal(first, torch.cat([episode.query for episode in loader])) == same


# ---- runs that go wrong


class Spoilt(nn.Module):
    """Embeds, but makes NaN of one picture."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.register_buffer("picture", picture.float() / 255)
        self.linear = nn.Linear(256, 8)

    def forward(self, images: Tensor) -> Tensor:
        spoilt = (images == self.picture).flatten(1).all(1, keepdim=True)
        return torch.where(spoilt, torch.nan, self.linear(images.flatten(1)))


@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "maml", "default"])
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_examples(strategy: str, tmp_path: Path) -> None:
    images, labels = noisy_patterns(6, 8)
    for row, image in enumerate(images):
        (tmp_path / "train" / labels[row]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(tmp_path / "train" / labels[row] / f"{row}.png")
    data = ImageClassificationData.from_folders(tmp_path / "train", image_size=16, image_mode="L", batch_size=4)
    torch.manual_seed(0)
    few_shot = {"training_strategy": strategy, "training_strategy_kwargs": {"ways": 3, "queries": 2}}
    model = ImageClassifier(backbone=Spoilt(images[13]), **(few_shot if strategy != "default" else {}))
    before: list[Tensor] = []

    class Before(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            before[:] = [parameter.detach().clone() for parameter in pl_module.parameters()]

    found: list[str] = []
    for _ in range(2):
        trainer = Trainer(max_epochs=9, callbacks=[Before()], **QUIET)
        with pytest.raises(TrainingError, match=r"the loss of epoch \d+, step \d+ is NaN, and no weight") as told:
            trainer.fit(model, datamodule=data)
        found.append(str(told.value))
        assert "13.png'" in found[-1]
        assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert f"Its {'batch' if strategy == 'default' else 'episodes'} " in found[0]
    assert found[0] == found[1]


def test_fsdp_is_refused_where_the_weights_themselves_adapt(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(max_epochs=1, **QUIET)
    monkeypatch.setattr(trainer._accelerator_connector, "strategy", FSDPStrategy())  # it needs GPUs to be asked for
    with pytest.raises(ConfigError, match=r"MAML adapts the encoder's own weights.*strategy='ddp'"):
        trainer.fit(small(training_strategy="maml"), datamodule=episodic_data())


def test_progress_tells_accuracy_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = {**QUIET, "enable_progress_bar": True}
    Trainer(max_epochs=2, **quiet).fit(episodic(), datamodule=episodic_data())
    first, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"epoch 1/2, \d+ s, [\d.]+ episodes/s, \d+ s left, train_accuracy 0\.\d+, train_loss [\d.]+, "
        r"val_accuracy 0\.\d{3} ± 0\.\d{3}, val_episodes 60, val_loss [\d.]+",
        first,
    )
    assert last.startswith("epoch 2/2, ")
    assert "left" not in last
    bars = Bars()
    Trainer(max_epochs=1, callbacks=[bars], **quiet).fit(small(), datamodule=fixed_data())
    beside = bars.get_metrics(bars.trainer, bars.trainer.lightning_module)
    assert re.fullmatch(r"[\d.e+]+ examples/s", beside[""])
    assert re.fullmatch(r"\d\.\d{3} ± \d\.\d{3}", beside["val_accuracy"])


def test_a_long_epoch_tells_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(0, 10)  # that pass each time somebody looks
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    Trainer(max_epochs=1, **{**QUIET, "enable_progress_bar": True}).fit(episodic(), datamodule=episodic_data())
    *within, last = capsys.readouterr().out.splitlines()
    pattern = r"epoch 1/1, (validation, )?step (\d+) of (20|30) \(\d+%\), \d+ (s|min)(, [\d.e-]+ episodes/s)?"
    assert all(re.fullmatch(pattern, line) for line in within), within
    assert 4 <= len(within) <= 5  # of 50 steps in 700 seconds: at 30, 90, 210 and 450, as the waits double
    assert last.startswith("epoch 1/1, ") and "train_loss" in last


def test_a_run_says_what_it_trains_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    options = {**QUIET, "enable_model_summary": True}
    model = small()
    Trainer(max_epochs=1, **options).finetune(model, datamodule=fixed_data(), strategy="freeze", train_bn=False)
    sizes = [sum(each.numel() for each in part.parameters()) for part in (model.encoder, model.head)]
    told = f"parameters: encoder {sizes[0]:,}, head {sizes[1]:,}; {sizes[1]:,} of {sum(sizes):,} are trained\n"
    assert capsys.readouterr().out == told
    Trainer(max_epochs=1, callbacks=[RichModelSummary()], **options).fit(model, datamodule=fixed_data())
    assert "parameters: " not in capsys.readouterr().out


def test_validation_prints_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = Trainer(**QUIET).validate(episodic(), datamodule=episodic_data())
    assert found["val_transductive"] == 0
    assert re.fullmatch(r"val_accuracy \S+ ± \S+, val_episodes 60, val_loss \S+\n", capsys.readouterr().out)


class Modes(Callback):
    """Notes which parts of the model are in training mode in a step."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: object) -> None:
        self.training = {name for name, module in pl_module.named_modules() if module.training}


def _loaded(model: ImageClassifier, folder: Path) -> ImageClassifier:
    trainer = Trainer(max_epochs=1, limit_train_batches=1, **QUIET)
    trainer.fit(model, datamodule=fixed_data())
    trainer.save_checkpoint(folder / "model.ckpt")
    return ImageClassifier.load_from_checkpoint(folder / "model.ckpt")


@pytest.mark.parametrize("how", ["no_freeze", "freeze", ("freeze_unfreeze", 1), "lightning's"])
def test_a_loaded_model_trains_in_training_mode(how: Any, tmp_path: Path) -> None:
    model = _loaded(ImageClassifier(backbone="conv4", backbone_kwargs={"in_channels": 1}), tmp_path)
    assert not model.training
    norm = model.encoder.backbone.get_submodule("blocks.0.1")
    assert isinstance(norm, nn.BatchNorm2d)
    before, modes = norm.running_mean.clone(), Modes()
    strategy = BackboneFromEpoch(1) if how == "lightning's" else how
    trainer = Trainer(max_epochs=2, limit_train_batches=2, callbacks=[modes], **QUIET)
    trainer.finetune(model, datamodule=fixed_data(), strategy=strategy, train_bn=how != "freeze")
    assert {"", "head"} <= modes.training
    assert ("encoder.backbone.blocks.0.1" in modes.training) == (how != "freeze")
    assert torch.equal(before, norm.running_mean) == (how == "freeze")


class BackboneFromEpoch(BaseFinetuning):
    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.encoder.backbone, train_bn=False)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == self._epoch:
            self.unfreeze_and_add_param_group(pl_module.encoder.backbone, optimizer, train_bn=True)


def test_what_is_used_between_trainings_trains_on_in_training_mode(tmp_path: Path) -> None:
    data, model = fixed_data(), ImageClassifier(backbone=nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Dropout()))
    images, labels = noisy_patterns(4, 1)
    uses: list[Any] = [
        lambda: Trainer(**QUIET).test(model, datamodule=data, verbose=False),
        lambda: Trainer(**QUIET).validate(model, datamodule=data, verbose=False),
        lambda: Trainer(**QUIET).predict(model, datamodule=data),
        lambda: model.adapt(images, labels).predict(images),
        model.eval,
    ]
    for use in [lambda: None, *uses]:
        use()
        modes = Modes()
        Trainer(max_epochs=1, limit_train_batches=1, callbacks=[modes], **QUIET).fit(model, datamodule=data)
        assert {"", "head", "encoder.backbone.2"} <= modes.training


def test_what_was_frozen_on_purpose_rests() -> None:
    def fit() -> None:
        told = pytest.warns(UserWarning, match="in eval mode") if WARNS_OF_EVALUATION_MODE else nullcontext()
        with told:  # by Lightning
            Trainer(max_epochs=1, limit_train_batches=1, callbacks=[modes], **QUIET).fit(model, datamodule=fixed_data())

    model = ImageClassifier(backbone="conv4", backbone_kwargs={"in_channels": 1})
    first, second = model.encoder.backbone.get_submodule("blocks.0"), model.encoder.backbone.get_submodule("blocks.1")
    first.eval()  # within a model in training mode
    modes = Modes()
    fit()
    assert "encoder.backbone.blocks.0.1" not in modes.training
    assert "encoder.backbone.blocks.1.1" in modes.training
    model.eval()
    second.requires_grad_(False)  # and in evaluation mode, as all of it
    fit()
    assert "encoder.backbone.blocks.1.1" not in modes.training
    assert "encoder.backbone.blocks.0.1" in modes.training


@pytest.mark.parametrize(
    "optimizer", ["Adam", ("SGD", {"momentum": 0.5}), lambda parameters: torch.optim.SGD(parameters, 1.0)]
)
@pytest.mark.parametrize("rates", [{"learning_rate": 0.25}, {"learning_rate": 0.25, "backbone_lr": 0.125}])
def test_learning_rates_that_are_set_afterwards_are_used(optimizer: Any, rates: dict[str, float]) -> None:
    model = ImageClassifier(
        num_classes=3, backbone=nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), optimizer=optimizer, learning_rate=1e-3
    )
    model.head = nn.Linear(2, 3)
    for name, rate in rates.items():
        model.hparams[name] = rate  # as Lightning's finder does
    assert [group["lr"] for group in model.configure_optimizers().param_groups] == list(rates.values())
    model.learning_rate = 0.5
    assert model.hparams["learning_rate"] == model.configure_optimizers().param_groups[0]["lr"] == 0.5


def test_a_learning_rate_is_given_once() -> None:
    with pytest.raises(ConfigError, match=r"learning_rate=0.1 differ: leave one out"):
        ImageClassifier(backbone="conv4", optimizer=("SGD", {"lr": 0.2}), learning_rate=0.1)
    several = ImageClassifier(
        num_classes=2,
        backbone=nn.Linear(4, 2),
        head=nn.Linear(2, 2),
        learning_rate=0.1,
        optimizer=lambda p: torch.optim.SGD([{"params": p[:2], "lr": 1.0}, {"params": p[2:], "lr": 2.0}]),
    )
    with pytest.raises(ConfigError, match="2 learning rates of its own"):
        several.configure_optimizers()


def test_lightnings_finder_of_the_batch_size(tmp_path: Path) -> None:
    data = fixed_data(batch_size=4)
    model = ImageClassifier(backbone=nn.Sequential(nn.Flatten(), nn.Linear(256, 8)))
    trainer = Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET)
    found = Tuner(trainer).scale_batch_size(model, datamodule=data, max_trials=2, steps_per_trial=1)
    assert data.batch_size == found == (4 if FINDER_TAKES_WHAT_IT_TRIED else 8)  # 2 and 4 are tried
    assert next(iter(data.train_dataloader()))[0].shape[0] == found
    trainer = Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET)
    with pytest.raises(ConfigError, match="set meta_batch_size"):
        Tuner(trainer).scale_batch_size(episodic(), datamodule=episodic_data())


@pytest.mark.parametrize("examples", [40, 45, 53])  # batches of 8; the last step has 2 of them, 1 and a part, 1
def test_accumulated_batches_count_by_their_examples(examples: int, in_float64: None) -> None:
    values, labels = torch.randn(examples, 5), torch.arange(examples) % 3
    data = ImageClassificationData.from_tensors(values, labels, batch_size=8)
    model = ImageClassifier(backbone=nn.Linear(5, 4), optimizer="SGD", learning_rate=0.5)
    model.meet(data, "fit")
    model.double()
    network = copy.deepcopy(nn.Sequential(model.encoder.backbone, model.head))
    batches = list(data.train_dataloader())
    for first in range(0, len(batches), 3):
        inputs, targets = (torch.cat(parts) for parts in zip(*batches[first : first + 3], strict=True))
        gradients = torch.autograd.grad(nn.functional.cross_entropy(network(inputs), targets), [*network.parameters()])
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= 0.5 * gradient
    Trainer(max_epochs=1, accumulate_grad_batches=3, precision="64-true", **QUIET).fit(model, datamodule=data)
    for ours, theirs in zip([*model.encoder.parameters(), *model.head.parameters()], network.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["F1Score", "Precision", "Recall", "Specificity", "JaccardIndex", "Accuracy"])
def test_metrics_by_name_are_means_over_the_classes(name: str) -> None:
    targets = torch.tensor([0] * 8 + [1, 2])
    guesses = torch.tensor([0] * 9 + [2])
    ours = build_metrics(name, 3, False)(F.one_hot(guesses, 3).float(), targets)[name]
    one = targets[None] == torch.arange(3)[:, None]
    said = guesses[None] == torch.arange(3)[:, None]
    right, wrong = (one & said).sum(1).double(), (~one & said).sum(1)
    missed, others = (one & ~said).sum(1), (~one & ~said).sum(1)
    by_class = {
        "F1Score": 2 * right / (2 * right + wrong + missed),
        "Precision": (right / (right + wrong)).nan_to_num(),
        "Recall": right / (right + missed),
        "Specificity": others / (others + wrong),
        "JaccardIndex": right / (right + wrong + missed),
        "Accuracy": (guesses == targets).double(),
    }
    assert float(ours) == pytest.approx(float(by_class[name].mean()), abs=1e-6)  # float32 sums of a few ratios
    micro = torchmetrics.F1Score(task="multiclass", num_classes=3, average="micro")
    given = build_metrics({"mine": micro}, 3, False)(F.one_hot(guesses, 3).float(), targets)
    assert float(given["mine"]) == pytest.approx(0.9)


def test_training_on_one_class_says_so() -> None:
    images, _ = noisy_patterns(1, 8)
    for targets, classes in ((["cat"] * 8, None), (torch.eye(2)[[1] * 8], 2)):
        data = ImageClassificationData.from_tensors(images, targets)
        assert classes in (None, data.num_classes)
        with pytest.warns(DataWarning, match="one class, '(cat|1)': there is nothing to tell apart"):
            Trainer(max_epochs=1, **QUIET).fit(small(), datamodule=data)


def _to_one_value(**arguments: Any) -> ImageClassifier:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    return ImageClassifier(backbone=network, optimizer="SGD", **arguments)


@pytest.mark.parametrize(("examples", "batch_size", "batches"), [(33, 8, [8, 8, 8, 9]), (3, 2, [3]), (9, 8, [9])])
def test_batch_norm_sees_no_example_alone(examples: int, batch_size: int, batches: list[int]) -> None:
    images, labels = torch.rand(66, 1, 8, 8), torch.arange(66) % 3
    given = (images[:examples], labels[:examples], images[33:], labels[33:])
    data = ImageClassificationData.from_tensors(*given, batch_size=batch_size)
    Trainer(max_epochs=2, **QUIET).fit(_to_one_value(), datamodule=data)
    assert [len(targets) for _, targets in data.train_dataloader()] == batches
    assert {len(targets) for _, targets in data.val_dataloader()} == {batch_size, 33 % batch_size} - {0}


def test_batch_norm_that_must_see_one_example_says_what_to_do() -> None:
    images, labels = noisy_patterns(3, 11)
    data, trainer = ImageClassificationData.from_tensors(images, labels, batch_size=1), Trainer(max_epochs=1, **QUIET)
    with pytest.raises(ConfigError, match=r"one example alone.* set batch_size=2 or more .*drop_last=True"):
        trainer.fit(_to_one_value(), datamodule=data)
    assert trainer.global_step == 0
    options = {"inner_batch_size": 1, "ways": 2, "queries": 2, "epoch_length": 4, "head": "shared"}
    reptile = _to_one_value(training_strategy="reptile", training_strategy_kwargs=options)
    with pytest.raises(ConfigError, match=r"one example alone.* set inner_batch_size=2 or more"):
        Trainer(max_epochs=1, **QUIET).fit(reptile, datamodule=data)
    with pytest.raises(ConfigError, match=r"one example alone.* show it two or more"):
        reptile.adapt(images[:1], labels[:1])


def _pictures(folder: Path, first: int, count: int) -> Path:
    for code in range(first, first + count):
        picture = np.full((8, 8, 3), code, np.uint8)
        (folder / "ab"[code % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / "ab"[code % 2] / f"{code}.png")
    return folder


def test_testing_on_what_trained_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train, copied = (
        _pictures(tmp_path / "train", 0, 16),
        _pictures(tmp_path / "copied", 12, 8),
    )  # 4 of them are the same
    new = _pictures(tmp_path / "new", 100, 8)

    def data(**folders: Path) -> ImageClassificationData:
        return ImageClassificationData.from_folders(image_size=8, batch_size=8, **folders)

    trainer = Trainer(max_epochs=1, **{**QUIET, "logger": "csv", "enable_checkpointing": True})
    trainer.fit(ImageClassifier(backbone=nn.Sequential(nn.Flatten(), nn.Linear(192, 2))), data(train_folder=train))
    assert trainer.run_folder is not None
    fitted = trainer.lightning_module
    loaded = ImageClassifier.load_from_checkpoint(
        trainer.run_folder / "last.ckpt", backbone=nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    )
    for model in (loaded, fitted):
        with pytest.warns(DataWarning, match="trained on at least 4 of the 8 examples of this test"):
            trainer.test(model, datamodule=data(test_folder=copied))
        with pytest.warns(DataWarning, match="trained on at least 16 of the 16 examples of this validation"):
            trainer.validate(model, datamodule=data(val_folder=train), verbose=False)
        trainer.test(model, datamodule=data(test_folder=new))  # without a word
    with pytest.warns(DataWarning, match="4 of the 8"):
        trainer.test(fitted, datamodule=data(test_folder=copied))
    measured = json.loads((trainer.run_folder / "test.json").read_text())["result"]
    assert measured["trained_on"] == 4
    assert "at least 4 of which it was trained on" in (trainer.run_folder / "report.html").read_text()


@pytest.mark.parametrize("loaders", [False, True])
def test_validation_by_what_trains_and_a_test_by_what_validated_are_said(
    loaders: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8), torch.arange(40) % 2
    parts = [(images[rows], labels[rows]) for rows in (slice(0, 16), slice(12, 24), slice(20, 40))]
    data = ImageClassificationData.from_tensors(*parts[0], *parts[1], *parts[2], batch_size=8)
    train, val, test = (DataLoader(TensorDataset(*part), batch_size=8) for part in parts)

    def model() -> ImageClassifier:
        return ImageClassifier(num_classes=2, backbone=nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))

    trainer = Trainer(max_epochs=1, **{**QUIET, "logger": "csv", "enable_checkpointing": True})
    with pytest.warns(DataWarning, match="trained on at least 4 of the 12 examples of this validation") as warned:
        trainer.fit(model(), *((train, [val]) if loaders else (data,)))
    assert sum(each.category is DataWarning for each in warned) == 1 and trainer.run_folder is not None
    best = trainer.run_folder / "best.ckpt"
    loaded = ImageClassifier.load_from_checkpoint(best, backbone=nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    for tested in (loaded, trainer.lightning_module):
        with pytest.warns(DataWarning, match="at least 4 of the 20 examples of this test chose the model's") as warned:
            trainer.test(tested, *([test] if loaders else []), datamodule=None if loaders else data)
        assert sum(each.category is DataWarning for each in warned) == 1
    assert json.loads((trainer.run_folder / "test.json").read_text())["result"]["chosen_by"] == 4
    page = (trainer.run_folder / "report.html").read_text()
    assert "At least 4 of the 20 examples of this test chose" in page
    assert "at least 4 of which chose its checkpoint" in page
    with pytest.warns(DataWarning, match="trained on at least 16 of the 16 examples of this prediction"):
        trainer.predict(loaded, ImageClassificationData.from_tensors(*parts[0]).train_dataloader())
    trainer.predict(loaded, DataLoader(images[:16]))  # whose labels nobody knows
    trainer.validate(loaded, DataLoader(TensorDataset(images[16:24], labels[16:24]), batch_size=8), verbose=False)


@pytest.mark.parametrize("door", ["tensors", "arrays", "data set", "loader", "module's loader"])
def test_examples_are_known_by_what_they_hold(door: str) -> None:
    images, labels = torch.randint(0, 256, (12, 1, 4, 4), dtype=torch.uint8), torch.arange(12) % 2
    random = torch.randint(0, 256, (12, 1, 4, 4), dtype=torch.uint8)
    mixed = torch.cat([random[:9], images[:3]])

    def data(images: Tensor, stage: str) -> dict[str, Any]:
        given = {f"{stage}_data": images, f"{stage}_targets": labels}
        if door == "data set":
            pairs = [(image.numpy(), int(label)) for image, label in zip(images, labels, strict=True)]
            made = ImageClassificationData.from_datasets(**{f"{stage}_dataset": pairs})
        elif door == "arrays":
            made = ImageClassificationData.from_numpy(**{name: value.numpy() for name, value in given.items()})
        else:
            made = ImageClassificationData.from_tensors(**given)
        if door == "loader":
            return {"dataloaders": DataLoader(TensorDataset(images, labels), batch_size=4)}
        return {"dataloaders": getattr(made, f"{stage}_dataloader")()} if "'s" in door else {"datamodule": made}

    model = ImageClassifier(num_classes=2, backbone=nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    trained = data(images, "train")
    Trainer(max_epochs=1, **QUIET).fit(model, trained.get("dataloaders"), datamodule=trained.get("datamodule"))
    with pytest.warns(DataWarning, match="trained on at least 3 of the 12 examples of this test"):
        Trainer(**QUIET).test(model, **data(mixed, "test"), verbose=False)
    Trainer(**QUIET).test(model, **data(random, "test"), verbose=False)
    assert model.seen_before == 0


def test_a_large_file_is_known_in_an_archive_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.data.content._LARGE", 1000)
    monkeypatch.setattr("quickstudy.data.content._PIECE", 100)
    content = np.random.default_rng(0).bytes(5000)
    (tmp_path / "a.png").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", content)
    member = open_archive(tmp_path / "a.zip").item("a.png")
    assert identity._number([tmp_path / "a.png"], 0) == identity._number([member], 0) is not None


def test_a_file_is_known_by_a_part_of_it_and_a_small_one_by_all(tmp_path: Path) -> None:
    content = bytearray(np.random.default_rng(0).bytes(900_000))

    def number(name: str, content: bytes | bytearray) -> int | None:
        (tmp_path / name).write_bytes(content)
        return identity._number([tmp_path / name], 0)

    pieces = _pieces(io.BytesIO(content), len(content))
    assert sum(map(len, pieces)) <= 50_000
    known = number("a", content)
    assert known == number("b", content) is not None
    changes = [number("c", content[:at] + b"--" + content[at + 2 :]) for at in (0, 450_000, 899_998)]
    assert known not in [*changes, number("d", content + b"-"), number("e", content[:-1])]
    # As in checkpoints of before, which had files of up to 1 MB whole: small ones still match, others match nothing.
    whole, small = (
        int.from_bytes(hashlib.blake2b(some, digest_size=8).digest(), "little", signed=True)
        for some in (content, content[:60_000])
    )
    assert number("f", content[:60_000]) == small
    assert known != whole


def test_what_is_remembered_of_the_examples_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "MOST", 100)
    known = torch.empty(0, dtype=torch.int64)
    tables = [torch.arange(1000 * part, 1000 * part + 1000)[:, None] for part in range(3)]
    for table in tables:
        known = identity.joined(known, identity.identities(table))
        assert len(known) <= 100
    assert identity.shared(identity.identities(tables[2]), known) > 10
    assert identity.shared(identity.identities(tables[2] + 1000), known) == 0


def test_several_loaders_are_measured_together_and_each_by_itself(tmp_path: Path) -> None:
    images, labels = noisy_patterns(4, 30)
    targets = torch.tensor([int(label.split()[1]) for label in labels])
    train, *others = (
        DataLoader(TensorDataset(images ^ bit, targets if bit < 2 else 3 - targets), batch_size=16, shuffle=bit == 0)
        for bit in range(3)
    )
    model, trainer = (
        small(num_classes=4),
        Trainer(max_epochs=2, default_root_dir=tmp_path, **{**QUIET, "logger": "csv"}),
    )
    for _ in range(2):  # what was measured before does not count
        trainer.fit(model, train, others)
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        each = [figures[f"val_accuracy/dataloader_idx_{place}"] for place in (0, 1)]
        assert figures["val_accuracy"] == pytest.approx(sum(each) / 2) and each[0] != each[1]
        assert figures["val_examples/dataloader_idx_1"] == 120 and figures["val_examples"] == 240
        trainer.fit_loop.max_epochs += 1
    alone = [trainer.validate(model, other, verbose=False)[0]["val_accuracy"] for other in others]
    assert each == pytest.approx(alone)
    with pytest.warns(DataWarning, match="at least 240 of the 240 examples of this test chose the model's checkpoint"):
        tested = trainer.test(model, others, verbose=False)[0]
    assert [tested[f"test_accuracy/dataloader_idx_{place}"] for place in (0, 1)] == pytest.approx(alone)
    answers = trainer.predict(model, others)
    assert [len(each) for each in answers] == [120, 120]
    data, few = episodic_data(), episodic()
    assert few.plan is not None
    loaders = [data.episode_loader(stage, few.plan) for stage in ("val", "test")]
    Trainer(max_epochs=1, **QUIET).fit(few, data.episode_loader("train", few.plan), loaders)


def _imbalanced(**options: Any) -> ImageClassificationData:
    """200 of 'many', 20 of 'few', which overlap: whoever counts examples answers 'many'. 100 of each to test."""
    generator = torch.Generator().manual_seed(0)

    def points(many: int, few: int) -> tuple[Tensor, list[str]]:
        shift = torch.tensor([0.0] * many + [1.0] * few)[:, None]
        return torch.randn(many + few, 4, generator=generator) + shift, ["many"] * many + ["few"] * few

    (train, labels), (test, truth) = points(200, 20), points(100, 100)
    return ImageClassificationData.from_tensors(
        train, labels, test_data=test, test_targets=truth, batch_size=20, **options
    )


@pytest.mark.parametrize("how", ["weights", "sampler"])
def test_balanced_training_finds_the_rare_class(how: str, tmp_path: Path) -> None:
    recalls = []
    for balanced in (False, True):
        model = ImageClassifier(
            backbone=nn.Identity(),
            optimizer="SGD",
            learning_rate=0.5,
            metrics="Recall",
            class_weights="balanced" if balanced and how == "weights" else None,
        )
        data = _imbalanced(sampler="balanced" if balanced and how == "sampler" else None)
        trainer = Trainer(max_epochs=10, **QUIET)
        trainer.fit(model, datamodule=data)
        recalls.append(trainer.test(model, datamodule=data, verbose=False)[0]["test_Recall"])
    assert recalls[1] > recalls[0] + 0.2  # the mean over the classes: 0.5 is guessing


def test_weighted_losses_are_means_over_the_weights(tmp_path: Path, in_float64: None) -> None:
    data = _imbalanced()
    model = ImageClassifier(backbone=nn.Linear(4, 4), class_weights={"few": 3.0})
    model.meet(data, "fit")
    assert model.classes == ("few", "many") and model.weights == (3.0, 1.0)
    inputs, targets = next(iter(data.train_dataloader()))
    model.double()
    loss, units, *_ = model.procedure.judge(model, (inputs.double(), targets), "train")
    losses = F.cross_entropy(model(inputs.double()), targets, reduction="none")
    weights = torch.where(targets == 0, 3.0, 1.0)
    assert float(loss.detach()) == pytest.approx(float((weights * losses.detach()).sum() / weights.sum()), rel=1e-12)
    assert float(units) == float(weights.sum())
    trainer = Trainer(max_epochs=1, **{**QUIET, "enable_checkpointing": True}, default_root_dir=tmp_path)
    trainer.fit(model.float(), datamodule=data)
    assert trainer.run_folder is not None
    loaded = ImageClassifier.load_from_checkpoint(trainer.run_folder / "last.ckpt", backbone=nn.Linear(4, 4))
    assert loaded.weights == (3.0, 1.0)
    both = [Trainer(**QUIET).test(each, datamodule=data, verbose=False)[0]["test_loss"] for each in (model, loaded)]
    assert both[0] == pytest.approx(both[1], rel=1e-6)  # one in float32
    assert loaded(torch.randn(2, 4)).shape == (2, 2)


def test_balanced_weights_are_of_the_data_that_trains(tmp_path: Path) -> None:
    """A model that goes on to other data weighs its classes anew; tested, it keeps the weights."""
    images = torch.rand(12, 4)
    model = ImageClassifier(backbone=nn.Identity(), class_weights="balanced")
    for few, weights in ((3, (2.0, 2 / 3)), (6, (1.0, 1.0))):
        labels = ["a"] * few + ["b"] * (12 - few)
        data = ImageClassificationData.from_tensors(images, labels, test_data=images + 1, test_targets=["a", "b"] * 6)
        Trainer(max_epochs=1, **QUIET).fit(model, datamodule=data)
        assert model.weights == weights
        Trainer(**QUIET).test(model, datamodule=data, verbose=False)
        assert model.weights == weights


def test_weighted_losses_of_half_precision_are_summed_in_full() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(600, 3, generator=generator).bfloat16(), torch.arange(600) % 3
    weights = (0.337, 2.771, 1.113)
    loss, units = weighted(logits, targets, weights)
    wanted = F.cross_entropy(logits.double(), targets, torch.tensor(weights, dtype=torch.float64))
    assert float(loss) == pytest.approx(float(wanted), rel=1e-4)  # 600 sums in float32: 600 * 2**-24 = 4e-5
    assert float(units) == pytest.approx(200 * sum(weights), rel=1e-4)


def test_class_weights_by_every_way() -> None:
    counts, names = [30, 10, 0], ("a", "b", "c")
    assert class_weights_of("balanced", names, counts, 40, False) == (40 / 60, 2.0, 1.0)
    assert class_weights_of("balanced", names, counts, 40, True) == (1 / 3, 3.0, 1.0)
    assert class_weights_of([1, 2, 3], names, None, 0, False) == (1.0, 2.0, 3.0)
    targets = [["a"], ["a", "b"], ["a"], []] * 4
    data = ImageClassificationData.from_tensors(torch.randn(16, 4), targets)
    model = ImageClassifier(backbone=nn.Linear(4, 4), multi_label=True, class_weights="balanced")
    Trainer(max_epochs=1, **QUIET).fit(model, datamodule=data)
    assert model.weights == (pytest.approx(1 / 3), 3.0)
    for wrong, said in (
        ({"class_weights": "even"}, "none of: 'balanced'"),
        ({"class_weights": [1.0, 0.0]}, r"class_weights\[1\]=0.0: it must be"),
        ({"class_weights": "balanced", "loss_fn": "multi_margin_loss"}, "belong to loss_fn='cross_entropy'"),
        (
            {"class_weights": "balanced", "training_strategy": "anil"},
            "class_weights and mix belong to training_strategy",
        ),
    ):
        with pytest.raises(ConfigError, match=said):
            ImageClassifier(backbone=nn.Linear(4, 4), **wrong)
    for wrong, said in (({"d": 2.0}, "unknown class in class_weights 'd'"), ([1.0], "1 numbers for 3 classes")):
        with pytest.raises(ConfigError, match=said):
            class_weights_of(wrong, names, counts, 40, False)
    with pytest.raises(ConfigError, match="give datamodule=, or the weights"):
        class_weights_of("balanced", names, None, 0, False)
    with pytest.raises(ConfigError, match="needs one label per example"):
        ImageClassificationData.from_tensors(torch.randn(16, 4), targets, sampler="balanced")
    with pytest.raises(ConfigError, match="sampler='even' is neither"):
        episodic_data(sampler="even")
    with pytest.raises(ConfigError, match="episodes have as many of each class"):
        Trainer(max_epochs=1, **QUIET).fit(episodic(), datamodule=episodic_data(sampler="balanced"))


class OfAnother(L.LightningDataModule):
    """A data module that is not quickstudy's: all that is known of it are its loaders."""

    def _batches(self, seed: int) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(seed)
        targets = torch.arange(24) % 3
        inputs = torch.randn(24, 3, generator=generator) + 4 * torch.eye(3)[targets]
        return DataLoader(TensorDataset(inputs, targets), 8)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._batches(0)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._batches(1)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._batches(2)


def test_another_data_module_is_its_loaders(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Task(3, nn.Linear(3, 8), learning_rate=0.05)
    trainer = Trainer(max_epochs=4, accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers")
        trainer.fit(model, datamodule=OfAnother())
        (found,) = trainer.test(model, datamodule=OfAnother())
        read = Task.load_from_checkpoint(trainer.checkpoint_callback.best_model_path, backbone=nn.Linear(3, 8))
        (again,) = trainer.test(read, datamodule=OfAnother())
    assert found["test_accuracy"] == again["test_accuracy"] == 1 and found["test_examples"] == 24
