"""Runs that are killed at any moment, and go on to the very weights of one that was not."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

import killed_run
from little_sequences import FORMS
from quickstudy import ConfigError, DataError, DataWarning, Trainer
from quickstudy.files import alone
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.runs.resuming import LAST, PREVIOUS, KeepLast, newest_checkpoint
from quickstudy.training.processes import check_shared

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
    "prototypes, by steps": {
        "strategy": "prototypicalnetworks",
        "max_steps": 40,
        "epochs": 9,
        "lr_scheduler": ["ReduceLROnPlateau", {"patience": 0, "threshold": 1.0, "frequency": 2}],
    },
    "supervised, by its training loss": {
        "lr_scheduler": ["ReduceLROnPlateau", {"patience": 0, "monitor": "train_loss", "threshold": 1e-3}]
    },
    "metaoptnet": {"strategy": "metaoptnet", "finetuning": ["gradual", 1], "optimizer": "Adamax"},
    **{form: {"form": form} for form in FORMS},
}


FORKS = multiprocessing.get_context("forkserver")
"""Whose server imports once what each of its processes then has from its first moment."""
FORKS.set_forkserver_preload(["quickstudy.trainer", "quickstudy.image.tasks"])


def start(folder: Path, options: dict[str, Any]) -> tuple[BaseProcess, Connection]:
    """Start a run; its steps come through the connection, which ends with it."""
    steps, told = FORKS.Pipe(duplex=False)
    run = FORKS.Process(target=killed_run.forked, args=(told, folder, options))
    run.start()
    told.close()
    return run, steps


def started(command: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)


def finished(folder: Path, options: dict[str, Any]) -> dict[str, Tensor]:
    run, _ = start(folder, options)
    run.join()
    assert run.exitcode == 0
    return weights_in(folder)


def weights_in(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / "weights.pt")
    return found


def kill_at(folder: Path, options: dict[str, Any], step: int, seconds: float) -> None:
    """Kill a run so many seconds after a step, by the signal that nothing can catch."""
    run, steps = start(folder, options)
    with suppress(EOFError):
        while steps.recv() < step:
            pass
    time.sleep(seconds)
    run.kill()
    run.join()


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


@pytest.mark.parametrize("name", ["supervised", "maml", "prototypes, by steps"])
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


def test_one_wrong_bit_is_noticed(run: Path) -> None:
    content = bytearray((run / LAST).read_bytes())
    with zipfile.ZipFile(run / LAST) as archive:  # in a file of which most bytes fill gaps, one may mean nothing
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        place = content.index(archive.read(largest)) + largest.file_size // 2
    content[place] ^= 1
    (run / LAST).write_bytes(content)
    with pytest.warns(DataWarning, match=r"'.*last.ckpt' is damaged or cut .* going on from '.*previous.ckpt'"):
        assert newest_checkpoint(run) == run / PREVIOUS


def test_a_run_goes_on_with_what_it_began_with(run: Path) -> None:
    with pytest.raises(ConfigError, match="began with training_strategy='prototypicalnetworks' and cannot go on with"):
        killed_run.run(run, strategy="anil")
    with pytest.warns(DataWarning, match="learning_rate=0.5 comes too late: the run goes on with learning_rate=0.01"):
        killed_run.run(run, strategy="prototypicalnetworks", learning_rate=0.5, epochs=5)


class Terminate(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("how", ["steps", "terminated"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"val_check_interval": 5},
        {"val_check_interval": 2, "lr_scheduler": ["ReduceLROnPlateau", {"patience": 0}]},
        {"accumulate_grad_batches": 3, "epochs": 6},
    ],
    ids=repr,
)
def test_a_run_that_ends_within_an_epoch_goes_on_there(how: str, options: dict[str, Any], tmp_path: Path) -> None:
    options = {"strategy": "prototypicalnetworks", **options}
    killed_run.run(tmp_path / "whole", **options)
    if how == "steps":
        killed_run.run(tmp_path / "parts", **options, max_steps=5)
    else:
        with pytest.raises(SystemExit) as stopped:
            killed_run.run(tmp_path / "parts", **options, callbacks=[Terminate()])
        assert stopped.value.code == 143
    left = torch.load(tmp_path / "parts" / LAST)["global_step"]
    # The step in progress is done; gradients that are being accumulated are not kept, so the epoch's beginning counts.
    assert left == (5 if how == "steps" else 4 if "accumulate_grad_batches" in options else 6)
    killed_run.run(tmp_path / "parts", **options)
    whole, parts = weights_in(tmp_path / "whole"), weights_in(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


@pytest.mark.dear("text", "audio", "kinds", "training", "runs", "data", "batches.py", "trainer.py")
@pytest.mark.parametrize("form", FORMS)
def test_sequences_go_on_within_an_epoch(form: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"form": form, "epochs": 2}
    killed_run.run(tmp_path / "whole", **options)
    killed_run.run(tmp_path / "parts", **options, max_steps=13)
    assert torch.load(tmp_path / "parts" / LAST)["global_step"] == 13
    killed_run.run(tmp_path / "parts", **options)
    whole, parts = weights_in(tmp_path / "whole"), weights_in(tmp_path / "parts")
    assert int(whole["steps"]) == 20
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_run_says_where_it_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"strategy": "prototypicalnetworks"}
    with caplog.at_level("INFO", "lightning.pytorch"), pytest.raises(SystemExit):
        killed_run.run(tmp_path, **options, callbacks=[Terminate()])
    assert f"Terminated after step 6: '{tmp_path}/last.ckpt' holds it; the same command with --out" in caplog.text
    assert "6 steps." in (tmp_path / "report.html").read_text()
    with caplog.at_level("INFO", "lightning.pytorch"):
        killed_run.run(tmp_path, **options)
    assert "Going on in epoch 1, after step 6" in caplog.text
    with pytest.raises(ConfigError, match="the run has done 4 epochs already, and max_epochs=2: set it above 4"):
        killed_run.run(tmp_path, **options, epochs=2)


def test_a_run_that_patience_ended_stays_ended(tmp_path: Path) -> None:
    options: dict[str, Any] = {"strategy": "prototypicalnetworks", "learning_rate": 1e-12, "patience": 1, "epochs": 9}
    killed_run.run(tmp_path, **options)
    steps = int(weights_in(tmp_path)["steps"])
    killed_run.run(tmp_path, **options)
    assert int(weights_in(tmp_path)["steps"]) == steps < 40


def test_two_runs_do_not_train_in_one_folder(tmp_path: Path) -> None:
    with alone(tmp_path / ".lock"):
        with pytest.raises(ConfigError, match=r"another process is training in '.*': name another folder"):
            killed_run.run(tmp_path)
        assert not (tmp_path / "run.json").exists()
    killed_run.run(tmp_path, epochs=1)
    assert not (tmp_path / ".lock").exists()


def test_a_dead_process_holds_no_lock_through_its_workers(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from quickstudy.files import alone\n"
        "with alone(Path(sys.argv[1])):\n"
        "    os.fork()\n    os.write(1, b'held\\n')\n    time.sleep(30)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        for _ in range(2):  # the worker has let go once it speaks
            assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), alone(tmp_path / ".lock", wait=False):
            raise AssertionError
        process.kill()
        process.wait()
        with alone(tmp_path / ".lock", wait=False):
            os.killpg(process.pid, signal.SIGKILL)  # the worker lived until here


def torchrun(*runs: tuple[Path, dict[str, Any]]) -> subprocess.Popen[str]:
    """Start two processes that make the runs, one after the other."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    across = {"across": {"strategy": "ddp", "devices": 2}}
    asked = [word for folder, options in runs for word in (str(folder), json.dumps({**options, **across}))]
    return started([*launcher, killed_run.__file__, *asked])


def test_processes_that_are_terminated_go_on_together(tmp_path: Path) -> None:
    options: dict[str, Any] = {"strategy": "anil", "epochs": 1, "every_n_steps": 1000}
    run = torchrun((tmp_path / "whole", options), (tmp_path / "parts", {**options, "pause": 1.0}))
    assert run.stdout is not None
    thirds = (line for line in run.stdout if line.strip() == "3")
    assert next(thirds), "of the run that is left alone"
    assert next(thirds)
    os.killpg(run.pid, signal.SIGTERM)  # as a cluster does: torchrun and its workers
    told = run.communicate()[1]
    assert run.returncode != 0 and not (tmp_path / "parts" / "weights.pt").exists(), told[-3000:]
    assert 3 <= torch.load(tmp_path / "parts" / LAST)["global_step"] < 10
    again = torchrun((tmp_path / "parts", options))
    told = again.communicate()[1]
    assert again.returncode == 0, told[-3000:]
    expected, found = weights_in(tmp_path / "whole"), weights_in(tmp_path / "parts")
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_processes_that_see_other_checkpoints_do_not_begin(tmp_path: Path) -> None:
    killed_run.run(tmp_path / "0", strategy="anil", epochs=1)
    run = torchrun((tmp_path, {"strategy": "anil", "apart": True}))
    told = run.communicate(timeout=600)[1]
    assert run.returncode != 0
    assert f"the processes would go on from different checkpoints ({tmp_path}/0/last.ckpt, None)" in told


def test_loaders_that_processes_do_not_share_are_refused() -> None:
    loaders = DataLoader(torch.zeros(8, 1)), killed_run.data(same_classes=True).train_dataloader()
    two = Trainer(accelerator="cpu", devices=2, logger=False, enable_progress_bar=False)
    told = r"each of 2 processes would see all that this .*Loader loads: give datamodule="
    for loader in loaders:
        check_shared(Trainer(accelerator="cpu", devices=1, logger=False), loader)
        with pytest.raises(ConfigError, match=told):
            check_shared(two, None, [loader])
    check_shared(two, DataLoader(torch.zeros(8, 1), sampler=DistributedSampler(range(8), 2, 0)))  # type: ignore[arg-type]


def test_an_epoch_is_not_shared_out_in_two_ways(tmp_path: Path) -> None:
    killed_run.run(tmp_path, strategy="anil", max_steps=5)
    other = {**killed_run.PLAN, "epoch_length": 40}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(killed_run, "PLAN", other)
        with pytest.raises(ConfigError, match=r"the run began with training_strategy_kwargs=.*cannot go on with"):
            killed_run.run(tmp_path, strategy="anil")
    killed_run.run(tmp_path / "batches", max_steps=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(killed_run, "BATCH", 5)
        refused = pytest.raises(
            ConfigError, match=r"10 steps of 10 on all processes .* now there are 19 steps of 5: set batch_"
        )
        with refused:  # without a word that it goes on: warnings are errors
            killed_run.run(tmp_path / "batches")


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


def _supervised(folder: Path, epochs: int, data: dict[str, Any], trainer: dict[str, Any], **model: Any) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (24, 8, 8), dtype=torch.uint8)
    pictures = [(Image.fromarray(image.numpy()), code % 2) for code, image in enumerate(images)]
    given = ImageClassificationData.from_datasets(
        pictures, **{"image_mode": "L", "image_size": 8, "batch_size": 8, **data}
    )
    options = {**killed_run.QUIET, "accelerator": "cpu", "resume": "auto", **trainer}
    made = {
        "backbone": nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 4)),
        "optimizer": ("SGD", {"momentum": 0.5}),
        "lr_scheduler": ("StepLR", {"step_size": 1}),
        "learning_rate": 0.01,
        **model,
    }
    Trainer(max_epochs=epochs, default_root_dir=folder, **options).fit(ImageClassifier(**made), datamodule=given)


def halved(picture: torch.Tensor) -> torch.Tensor:
    return picture // 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"image_size": 16}}, "began with image_size=8 and goes on with image_size=16"),
        ({"data": {"transform": halved}}, "with transform=None and goes on with transform=<function halved> of 2"),
        ({"data": {"transform": nn.ReLU()}}, r"with transform=None and goes on with transform=ReLU\(\)"),
        ({"data": {"batch_size": 4}}, "with examples per step=8 and goes on with examples per step=4"),
        ({"data": {"seed": 1}}, "with seed=0 and goes on with seed=1"),
        ({"trainer": {"accumulate_grad_batches": 3}}, "examples per step=8 and goes on with examples per step=24"),
        ({"trainer": {"precision": "bf16-mixed"}}, "precision=32-true and goes on with precision=bf16-mixed"),
        ({"loss_fn": "multi_margin_loss"}, "loss_fn=None and goes on with loss_fn=multi_margin_loss"),
        ({"mix": "cutmix"}, "with mix=None and goes on with mix=cutmix"),
        ({"optimizer": ("SGD", {"momentum": 0.9})}, "'momentum': 0.9.* comes too late: .*'momentum': 0.5"),
        ({"lr_scheduler": ("StepLR", {"step_size": 2})}, "'step_size': 2.* comes too late: .*'step_size': 1"),
    ],
)
def test_a_run_that_goes_on_otherwise_says_so(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    same: dict[str, Any] = {"data": {}, "trainer": {}}
    _supervised(tmp_path, 1, **same)
    _supervised(tmp_path, 2, **same)  # without a word
    with pytest.warns(DataWarning, match=said) as told:
        _supervised(tmp_path, 3, **same | changes)
    assert len(told) == 1
    with warnings.catch_warnings():  # what it was last is what the next goes on with
        warnings.simplefilter("error" if "data" in changes or "loss_fn" in changes else "ignore")
        _supervised(tmp_path, 4, **same | changes)


def test_another_optimizer_or_schedule_does_not_go_on(tmp_path: Path) -> None:
    _supervised(tmp_path, 1, {}, {})
    for name, other in (("optimizer", "Adam"), ("lr_scheduler", None)):
        with pytest.raises(ConfigError, match=rf"began with {name}=.*, whose state {name}={other!r} cannot take up"):
            _supervised(tmp_path, 2, {}, {}, **{name: other})


def test_other_classes_do_not_go_on(tmp_path: Path) -> None:
    def fit(epochs: int, other: str) -> None:
        data = ImageClassificationData.from_tensors(torch.rand(4, 3), ["a", "a", other, other])
        trainer = Trainer(
            max_epochs=epochs, resume="auto", default_root_dir=tmp_path, accelerator="cpu", **killed_run.QUIET
        )
        trainer.fit(ImageClassifier(backbone=nn.Identity()), datamodule=data)

    fit(1, "b")
    with pytest.raises(ConfigError, match=r"began with the classes \['a', 'b'\] and cannot go on with \['a', 'c'\]"):
        fit(2, "c")
