"""Folds of examples, groups and classes; every example judged once, by a model that learned from the other folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, DataWarning, Trainer, cross_validate
from quickstudy.cli import main
from quickstudy.data.folds import folds_of
from quickstudy.data.table import Table
from quickstudy.functional.intervals import clusters_interval, mean_interval
from quickstudy.image import ImageClassificationData, ImageClassifier, ImageRegressionData, ImageRegressor

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


def points(classes: int, each: int) -> tuple[Tensor, list[str]]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, 1, 1, 6, generator=generator).repeat_interleave(each, 0)
    return centres + torch.randn(centres.shape, generator=generator), [f"c{n // each}" for n in range(classes * each)]


def linear(rate: float = 1e-2) -> ImageClassifier:
    return ImageClassifier(backbone=nn.Flatten(), learning_rate=rate)


def test_folds_have_as_many_of_each_class_and_no_group_twice() -> None:
    labels = ["a"] * 23 + ["b"] * 11 + ["c"] * 6
    table = Table.build(list(range(40)), labels)
    folds = folds_of(table, 4, 0)
    assert np.array_equal(folds, folds_of(table, 4, 0)) and not np.array_equal(folds, folds_of(table, 4, 1))
    assert np.bincount(folds).tolist() == [10] * 4
    counts = np.array([np.bincount(folds[table.targets == code], minlength=4) for code in range(3)])
    assert (np.ptp(counts, axis=1) <= 1).all()
    owners = [f"p{n % 13}" for n in range(40)]
    grouped = Table.build(list(range(40)), labels, origins=owners)
    folds = folds_of(grouped, 4, 0)
    assert all(len({fold for fold, own in zip(folds, owners, strict=True) if own == one}) == 1 for one in owners)
    counts = np.array([np.bincount(folds[grouped.targets == code], minlength=4) for code in range(3)])
    assert (np.ptp(counts, axis=1) <= 3).all() and len(set(folds)) == 4  # a group has up to two of a class, or three
    with pytest.raises(DataError, match="13 groups are fewer than 14 folds"):
        folds_of(grouped, 14, 0)
    with pytest.raises(DataError, match="2 folds of 3 classes leave fewer than 2"):
        folds_of(table, 2, 0, by_class=True)
    with pytest.warns(DataWarning, match="all examples of 1 classes are in one fold.*'b'"):
        folds_of(Table.build(list(range(9)), ["a"] * 8 + ["b"]), 2, 0)


def test_an_interval_over_groups_is_that_of_their_means_where_these_are_as_large() -> None:
    values = torch.rand(12, generator=torch.Generator().manual_seed(1)).repeat_interleave(5)
    groups = torch.arange(12).repeat_interleave(5)
    assert clusters_interval(values, groups) == pytest.approx(mean_interval(values[::5])[1])
    assert np.isnan(clusters_interval(values[:5], groups[:5]))  # of one group alone


def test_each_example_is_judged_by_what_learned_from_the_others(tmp_path: Path) -> None:
    images, labels = points(3, 15)
    data = ImageClassificationData.from_tensors(images, labels, batch_size=8)
    found = cross_validate(linear, data, 3, max_epochs=2, seed=7, refit=True, **QUIET)
    again = cross_validate(lambda: linear(1e-4), data, 3, max_epochs=1, out=tmp_path / "other", **QUIET)
    rows = np.concatenate(found.test_indices)
    assert sorted(rows.tolist()) == list(range(45)) == found.outcome.numbers.tolist()
    assert found.fingerprint == again.fingerprint and found.result["examples"] == 45
    # As by hand: the second fold, from the same start.
    held = found.test_indices[1]
    rest = np.setdiff1d(np.arange(45), held)
    by_hand = ImageClassificationData.from_tensors(images[rest], [labels[row] for row in rest], batch_size=8)
    torch.manual_seed(7)
    model = linear()
    torch.manual_seed(7)
    Trainer(max_epochs=2, logger=False, enable_checkpointing=False, **QUIET).fit(model, datamodule=by_hand)
    with torch.no_grad():
        right = (model(images[held]).argmax(-1) == torch.tensor([int(labels[row][1]) for row in held])).double().numpy()
    assert found.outcome.figures[held].tolist() == right.tolist()
    assert found.test_score[1] == pytest.approx(right.mean())
    assert found.value == pytest.approx(np.mean(found.test_score)) and "3 folds: " in str(found)
    by = found.against(again)
    assert by.mean == pytest.approx(found.value - again.value) and by.units == 45
    kept = json.loads((tmp_path / "other" / "test.json").read_text())
    assert kept["result"]["accuracy"] == again.value and (tmp_path / "other" / "fold_3" / "run.json").exists()
    assert found.model is not None and found.model.trained_on[0] == 45
    with pytest.raises(DataError, match="one was tested on"):
        found.against(cross_validate(linear, data, 2, max_epochs=1, **QUIET))
    with pytest.raises(ConfigError, match="give a function that makes a new model"):
        cross_validate(model, data)


def test_groups_and_classes_to_come_are_held_out_whole() -> None:
    images, labels = points(8, 6)
    owners = [f"p{n % 6 // 2}" for n in range(48)]
    targets = [float(n % 6) for n in range(48)]
    numbers = ImageRegressionData.from_tensors(images, targets, batch_size=8, group_by={"train": owners})
    found = cross_validate(lambda: ImageRegressor(backbone=nn.Flatten()), numbers, 3, max_epochs=1, **QUIET)
    assert "over 3 groups" in str(found) and all(len({owners[row] for row in rows}) == 1 for rows in found.test_indices)
    assert found.result["rmse"] == pytest.approx(found.value)
    plan = {"ways": 2, "shots": 2, "queries": 2, "meta_batch_size": 2, "epoch_length": 2, "test_epoch_length": 10}
    few_shot = cross_validate(
        lambda: ImageClassifier(
            backbone=nn.Sequential(nn.Flatten(), nn.Linear(6, 4)),
            training_strategy="prototypicalnetworks",
            training_strategy_kwargs=plan,
        ),
        ImageClassificationData.from_tensors(images, labels),
        2,
        max_epochs=1,
        **QUIET,
    )
    assert few_shot.outcome.unit == "episodes" and len(few_shot.outcome.figures) == 20
    assert set(few_shot.outcome.classes) == set(labels) == set(few_shot.outcome.per_class())
    total = sum(each["examples"] for each in few_shot.outcome.per_class().values())
    assert total == 20 * 4 and few_shot.result["accuracy_ci95_classes"] >= few_shot.ci95
    half = [{labels[row] for row in rows} for rows in few_shot.test_indices]
    assert len(half[0]) == len(half[1]) == 4 and not half[0] & half[1]


def test_the_command_leaves_what_compare_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{n % 3 + 0.01 * n},{'abc'[n % 3]},p{n % 6}" for n in range(36)]
    (tmp_path / "rows.csv").write_text("\n".join(["x,y,who", *rows]))
    words = ["fit", "--task", "tabular_classification", "--data.train_file", str(tmp_path / "rows.csv")]
    words += ["--data.target_fields", "y", "--data.group_field", "who", "--data.batch_size", "8", "--folds", "2"]
    words += ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    for name, rate in (("one", "0.01"), ("two", "0.0001")):
        assert main([*words, "--out", str(tmp_path / name), "--model.learning_rate", rate]) == 0
    told = capsys.readouterr().out
    assert "over 6 groups)" in told and "; 2 folds: " in told and "quickstudy compare OTHER" in told
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert "paired over 36 examples" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "three"), "--trainer.resume", "auto"]) == 2
