"""Train and test the cells of a table: each training and each test a process of its own, which goes on where it was.

``OUT/training/RECIPE-SEED`` is the run of a recipe, which tables share; ``OUT/TABLE/CELL-SEED`` has a copy of its
network and what the paper's protocol measured of it, so that ``quickstudy verify`` can check each cell.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]

from quickstudy.bench.tables import Cell, Table
from quickstudy.data.episodes import EpisodePlan
from quickstudy.errors import ConfigError, DataError, check_counts
from quickstudy.files import alone, atomic_write, best_checkpoint
from quickstudy.runs.folder import MEASURED, RECORD, read_json
from quickstudy.runs.loggers import METRICS

COST = "cost.json"
"""In a training's folder: what each process took that worked at it."""
_CONFIG = "config.yaml"
_QUICK_STEPS = 20
_QUICK_EPISODES = 20
_KEPT = ("accuracy", "accuracy_ci95", "accuracy_ci95_classes", "episodes", "ways", "shots", "queries", "transductive")


@dataclass(frozen=True)
class Bench:
    """How the cells of a table are run.

    Args:
        table: which.
        out: the folder of all runs.
        root: of the data; None: where ``from_benchmark`` looks by itself.
        seeds: each network is trained with each; all are tested on the same episodes.
        quick: a few steps and episodes, to see that all of it works; the figures mean nothing.
        jobs: how many processes run side by side, each with its share of the cores, and a GPU of its own if there are
            several.
        imports: files that an algorithm of one's own is in.
        say: takes lines about how it goes.
    """

    table: Table
    out: Path
    root: str | None = None
    seeds: Sequence[int] = (0,)
    quick: bool = False
    jobs: int = 1
    imports: Sequence[str] = ()
    say: Callable[[str], None] = print
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set, repr=False)

    @property
    def folder(self) -> Path:
        """Where the cells of this table are."""
        return self._root / self.table.name

    @property
    def _root(self) -> Path:
        return self.out / "quick" if self.quick else self.out

    def run(self, cells: Iterable[Cell]) -> None:
        """Train and test what has not been; the same call goes on after an interruption.

        Raises:
            ConfigError: ``jobs`` is no number above 0, or another process runs this table in the same folder.
            DataError: a training or a test failed; the others were run all the same.
        """
        check_counts(jobs=self.jobs)
        cells = list(cells)
        of_network = {
            (cell.recipe, seed): [other for other in cells if other.recipe == cell.recipe]
            for seed in self.seeds
            for cell in cells
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(self.jobs):
            slots.put(slot)
        try:
            with alone(self.folder / ".lock", wait=False), ThreadPoolExecutor(self.jobs) as pool:
                running = [
                    pool.submit(self._network, *network, tested, slots) for network, tested in of_network.items()
                ]
                try:
                    failed = [error for one in running if (error := one.exception()) is not None]
                except BaseException:  # Ctrl-C
                    pool.shutdown(wait=False, cancel_futures=True)
                    for process in tuple(self._running):
                        process.terminate()
                    raise
        except BlockingIOError as error:
            raise ConfigError(f"another process runs this table in '{self.folder}': give another --out") from error
        if failed:
            raise failed[0]

    def measured(self, cell: Cell) -> list[dict[str, Any]]:
        """Return what was measured of a cell with each seed, and what its training took; nothing of what never ran."""
        found = []
        for seed in self.seeds:
            folder, training = self.cell_folder(cell, seed), self.training_folder(cell.recipe, seed)
            if not (folder / MEASURED).is_file():
                continue
            told = read_json(folder / MEASURED, "result", "time", "versions")
            costs = json.loads((training / COST).read_text()) if (training / COST).is_file() else []
            found.append(
                {name: told["result"][name] for name in _KEPT if name in told["result"]}
                | {"seed": seed, "recipe": cell.recipe, "strategy": cell.strategy, "run": str(folder)}
                | {"data": told["result"].get("data"), "time": told["time"], "versions": told["versions"]}
                | {"commands": [shlex.join(_as_typed(self._fit(cell.recipe, seed))), self._test_typed(cell, seed)]}
                | {
                    "training": {
                        "cpu_hours": round(sum(one["cpu_seconds"] for one in costs) / 3600, 3),
                        "hours": round(sum(one["seconds"] for one in costs) / 3600, 3),
                        "gigabytes": max((one["gigabytes"] for one in costs if one["gigabytes"]), default=None),
                    }
                }
            )
        return found

    def training_folder(self, recipe: str, seed: int) -> Path:
        """Return the run folder of a recipe."""
        return self._root / "training" / f"{recipe.replace('/', '-')}-{seed}"

    def cell_folder(self, cell: Cell, seed: int) -> Path:
        """Return the folder of what a cell's test measured."""
        return self.folder / f"{cell.name}-{seed}"

    def _network(self, recipe: str, seed: int, cells: Sequence[Cell], slots: SimpleQueue[int]) -> None:
        slot = slots.get()
        try:
            training = self.training_folder(recipe, seed)
            if not _finished(training):
                self.say(
                    f"{recipe}, seed {seed}: training in {training} ({self.table.needed(recipe.partition('@')[0])})"
                )
                self._process(self._fit(recipe, seed), training, "fit", slot)
            for cell in cells:
                folder = self.cell_folder(cell, seed)
                asked = self._test(cell, seed)
                if _tested_by(folder, self._episodes(cell), cell.strategy) and _same_network(training, folder):
                    continue
                self.say(f"{cell.row}, {cell.column}, seed {seed}: testing in {folder}")
                _copy_network(training, folder)
                self._process(asked, folder, "test", slot)
        finally:
            slots.put(slot)

    def _fit(self, recipe: str, seed: int) -> list[str]:
        name, _, guest = recipe.partition("@")
        path = self.table.recipe(name)
        model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
        options = dict(model.get("training_strategy_kwargs") or {})
        words = ["fit", "--config", str(path), "--out", str(self.training_folder(recipe, seed))]
        words += ["--trainer.resume", "auto", "--seed_everything", str(seed)]
        if guest:
            planned = {field.name for field in fields(EpisodePlan)}
            options = {option: value for option, value in options.items() if option in planned}
            words += ["--model.training_strategy", guest]
        if guest or (seed and options):  # of ordinary training there are none, and no episodes
            words += ["--model.training_strategy_kwargs", json.dumps({**options, "seed": seed})]
        if self.quick:
            words += ["--trainer.max_steps", str(_QUICK_STEPS), "--trainer.limit_val_batches", "0"]
        return [*words, *self._everywhere()]

    def _test(self, cell: Cell, seed: int) -> list[str]:
        words = ["test", str(self.cell_folder(cell, seed))]
        episodes = self._episodes(cell)
        for name in ("seed", *(name for name in episodes if name.startswith("test_"))):
            words += [f"--{name}", str(episodes[name])]
        if cell.strategy is not None:
            words += ["--training_strategy", cell.strategy]
            words += ["--training_strategy_kwargs", json.dumps(dict(cell.options))] * bool(cell.options)
        return [*words, *self._everywhere()]

    def _episodes(self, cell: Cell) -> dict[str, Any]:
        """Return the episodes of a cell's test: of every seed the same."""
        told = {**cell.test, "seed": 0, **cell.options}
        return {**told, "test_epoch_length": _QUICK_EPISODES} if self.quick else told

    def _everywhere(self) -> list[str]:
        words = ["--data.root", self.root] if self.root else []
        for name in self.imports:
            words += ["--import", name]
        return words

    def _test_typed(self, cell: Cell, seed: int) -> str:
        return shlex.join(_as_typed(self._test(cell, seed)))

    def _process(self, words: Sequence[str], folder: Path, name: str, slot: int) -> None:
        """Run a command of quickstudy in a process of its own, and keep what it took.

        Raises:
            DataError: it failed.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = folder.with_name(f"{folder.name}.{name}.log")
        cores = max(1, (os.cpu_count() or 1) // self.jobs)
        environment = {"OMP_NUM_THREADS": str(cores), **os.environ}
        if self.jobs > 1 and (count := torch.cuda.device_count()) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % count)
        begun = time.monotonic()
        with log.open("ab") as told:
            process = subprocess.Popen(
                [sys.executable, "-m", "quickstudy", *words], env=environment, stdout=told, stderr=told
            )
        self._running.add(process)
        try:
            cpu_seconds, gigabytes = _ended(process)
        finally:
            self._running.discard(process)
        if folder.is_dir() and name == "fit":
            path = folder / COST
            before = json.loads(path.read_text()) if path.is_file() else []
            seconds = time.monotonic() - begun
            spent = {"seconds": round(seconds, 1), "cpu_seconds": cpu_seconds, "gigabytes": gigabytes}
            with atomic_write(path, "w") as file:
                json.dump([*before, spent], file, indent=1)
        if process.returncode:
            lines = log.read_text(errors="replace").strip().splitlines()
            why = next((line for line in reversed(lines) if line.startswith("error:")), lines[-1] if lines else "")
            killed = " by the kernel, most often as memory ran out" * (process.returncode == -9)
            raise DataError(
                f"{shlex.join(_as_typed(words))} ended with {process.returncode}{killed}: {why} ({log} has all of it)"
            )


def _ended(process: subprocess.Popen[bytes]) -> tuple[float, float | None]:
    """Wait for a process; return the processor seconds and, where it is told, the most gigabytes that it took."""
    if not hasattr(os, "wait4"):  # on Windows
        process.wait()
        return 0.0, None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024  # of the largest memory
    return round(usage.ru_utime + usage.ru_stime, 1), round(usage.ru_maxrss * unit / 1e9, 2)


def _finished(training: Path) -> bool:
    """Whether a training has come to the end that its recipe names, and was not interrupted."""
    if not (training / RECORD).is_file() or best_checkpoint(training) is None:
        return False
    record = read_json(training / RECORD)
    return str([record, *record.get("resumed", ())][-1].get("ended", "")).startswith("it ended")


def _tested_by(folder: Path, episodes: Mapping[str, Any], strategy: str | None) -> bool:
    """Whether a cell was tested by just this protocol."""
    if not (folder / MEASURED).is_file():
        return False
    told = read_json(folder / MEASURED, "options")["options"] or {}
    return told.get("episodes") == dict(episodes) and told.get("strategy") == strategy


def _same_network(training: Path, folder: Path) -> bool:
    """Whether a cell was tested with the network that its training has now."""
    now, tested = (best_checkpoint(place) for place in (training, folder))
    return now is not None and tested is not None and now.read_bytes() == tested.read_bytes()


def _copy_network(training: Path, folder: Path) -> None:
    """Copy of a training what its test needs, into a folder that has none of another."""
    checkpoint = best_checkpoint(training)
    assert checkpoint is not None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in (checkpoint.name, RECORD, _CONFIG, METRICS):
        with suppress(FileNotFoundError):
            shutil.copy2(training / name, folder / name)


def _as_typed(words: Sequence[str]) -> list[str]:
    return ["quickstudy", *words]
