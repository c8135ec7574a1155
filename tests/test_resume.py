"""Runs that are killed at any moment, and go on to the very weights of one that was not."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import killed_run
from quickstudy import ConfigError, DataError, DataWarning, Trainer
from quickstudy.resuming import LAST, PREVIOUS, KeepLast, newest_checkpoint

RUNS: dict[str, dict[str, Any]] = {
    "supervised": {"finetuning": ["gradual", 1]},
    "supervised, workers": {
        "workers": 2,
        "optimizer": "SGD",
        "lr_scheduler": ["OneCycleLR", {"max_lr": 0.1, "total_steps": 40}],
    },
    "prototypes": {"strategy": "prototypicalnetworks", "lr_scheduler": ["ReduceLROnPlateau", {"patience": 0}]},
    "supervised, validated within epochs": {
        "lr_scheduler": ["ReduceLROnPlateau", {"patience": 0, "monitor": "val_accuracy"}],
        "val_check_interval": 2,
    },
    "anil, accumulated": {"strategy": "anil", "accumulate_grad_batches": 4},
    "prototypes, lora": {"strategy": "prototypicalnetworks", "finetuning": ["lora", 2], "workers": 2},
    "maml": {"strategy": "maml", "finetuning": ["unfreeze_milestones", [[0, 2], 1]]},
    "anil": {"strategy": "anil", "finetuning": ["freeze_unfreeze", 2], "optimizer": "RMSprop"},
    "metaoptnet": {"strategy": "metaoptnet", "finetuning": ["gradual", 1], "optimizer": "Adamax"},
}


def start(folder: Path, options: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, killed_run.__file__, str(folder), json.dumps(options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finished(folder: Path, options: dict[str, Any]) -> dict[str, Tensor]:
    run = start(folder, options)
    _, told = run.communicate()
    assert run.returncode == 0, told[-3000:]
    return weights_in(folder)


def weights_in(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / "weights.pt")
    return found


def kill_at(folder: Path, options: dict[str, Any], step: int, seconds: float) -> None:
    """Kill a run so many seconds after a step, by the signal that nothing can catch."""
    run = start(folder, options)
    assert run.stdout is not None
    for line in run.stdout:
        if line.strip().isdigit() and int(line) >= step:
            break
    time.sleep(seconds)
    run.kill()
    run.communicate()


def check_killed(name: str, kills: int, seed: int, tmp_path: Path) -> None:
    options, chance = RUNS[name], random.Random(seed)
    whole = finished(tmp_path / "whole", options)
    steps = int(whole["steps"])
    assert steps == 40 or (name == "anil, accumulated" and steps == 12)
    for _ in range(kills):
        kill_at(tmp_path / "killed", options, chance.randint(1, steps - 1), chance.uniform(0, 0.03))
    resumed = finished(tmp_path / "killed", options)
    different = [key for key, value in whole.items() if not torch.equal(value, resumed[key])]
    assert not different


@pytest.mark.parametrize("name", ["supervised", "maml"])
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(name: str, tmp_path: Path) -> None:
    check_killed(name, 2, 0, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_again_and_again(name: str, seed: int, tmp_path: Path) -> None:
    check_killed(name, 4, 100 + seed, tmp_path)


def test_schedules_that_follow_a_figure_move_once_an_epoch(tmp_path: Path) -> None:
    # The threshold makes every epoch one without progress: the rate falls by ten after each but the first.
    following = ["ReduceLROnPlateau", {"patience": 0, "threshold": 1e9, "threshold_mode": "abs"}]
    options: dict[str, Any] = {"strategy": "prototypicalnetworks", "lr_scheduler": following}
    killed_run.run(tmp_path / "whole", **options)
    for epochs in (1, 2, 4):
        killed_run.run(tmp_path / "parts", epochs=epochs, **options)
    whole, parts = weights_in(tmp_path / "whole"), weights_in(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    rates = [torch.load(tmp_path / folder / LAST)["optimizer_states"][0] for folder in ("whole", "parts")]
    assert [state["param_groups"][0]["lr"] for state in rates] == [pytest.approx(1e-4)] * 2


# ---- what is found in a folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run's folder."""
    killed_run.run(tmp_path, strategy="prototypicalnetworks")
    names = {LAST, PREVIOUS, "best.ckpt", "weights.pt", "run.json", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == names
    return tmp_path


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(run: Path) -> None:
    expected = weights_in(run)
    assert newest_checkpoint(run) == run / LAST
    (run / LAST).write_bytes((run / LAST).read_bytes()[:1000])
    (run / ".last.ckpt.abc.part").write_bytes(b"half")
    with pytest.warns(DataWarning, match=r"'.*last.ckpt' is damaged or cut .* going on from '.*previous.ckpt'"):
        killed_run.run(run, strategy="prototypicalnetworks")
    assert all(torch.equal(value, weights_in(run)[name]) for name, value in expected.items())
    assert not list(run.glob(".*"))
    for name in (LAST, PREVIOUS):
        (run / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"last.ckpt' is damaged.*previous.ckpt' is damaged.*To start anew"):
        killed_run.run(run, strategy="prototypicalnetworks")


def test_changed_data_is_reported(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = killed_run.data(same_classes=False)
    other._tables["train"] = other._tables["train"].select(torch.arange(88).numpy())
    monkeypatch.setattr(killed_run, "data", lambda **options: other)
    with pytest.warns(DataWarning, match="which had 96 examples; now there are 88 .* other episodes"):
        killed_run.run(run, strategy="prototypicalnetworks")


def test_resuming_needs_a_folder() -> None:
    with pytest.raises(ConfigError, match="default_root_dir='runs/birds'"):
        Trainer(resume="auto")
    with pytest.raises(ConfigError, match="resume='last' is not 'auto'"):
        Trainer(resume="last")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="minutes=0"):
        KeepLast("runs", minutes=0)
    assert newest_checkpoint(Path("nowhere")) is None
