"""The same training on one process and on many: weights, running statistics, test figures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import on_processes
from quickstudy.algorithms import available_strategies

WORLDS = (1, 2, 4)
TOLERANCE = {"64-true": 1e-9, "32-true": 1e-4, "bf16-mixed": 2e-2}
"""Of a weight, as a share of the largest of its tensor. Sums in another order round differently, and steps add up."""

Results = dict[int, list[dict[str, Any]]]


def torchrun(world: int, *arguments: object) -> subprocess.Popen[str]:
    """Start a file on several processes of this machine, on a free port."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"] if world > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("processes")
    for world in WORLDS:
        running = torchrun(world, Path(on_processes.__file__), folder)
        told = running.communicate()[0]
        assert running.returncode == 0, told[-5000:]
    return {world: [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)] for world in WORLDS}


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("job", on_processes.JOBS, ids=repr)
def test_any_number_of_processes_trains_the_same_model(job: tuple[Any, ...], world: int, results: Results) -> None:
    alone = results[1][0][repr(job)]["weights"]
    ranks = [rank[repr(job)]["weights"] for rank in results[world]]
    for name, value in alone.items():
        assert all(torch.equal(rank[name], ranks[0][name]) for rank in ranks), name
        if value.is_floating_point():
            error = (value - ranks[0][name]).abs().max() / value.abs().max().clamp(min=1e-30)
            assert error <= TOLERANCE[job[1]], (name, float(error))
        else:
            assert torch.equal(value, ranks[0][name]), name


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("job", [job for job in on_processes.JOBS if job[1] == "64-true"], ids=repr)
def test_any_number_of_processes_measures_the_same(job: tuple[Any, ...], world: int, results: Results) -> None:
    alone = results[1][0][repr(job)]["figures"]
    for rank in results[world]:
        assert rank[repr(job)]["figures"] == pytest.approx(alone, rel=1e-6)  # figures are float32


def test_training_changed_the_weights(results: Results) -> None:
    models = [results[1][0][repr((name, "64-true", {}))]["weights"] for name in available_strategies()]
    first = [model["encoder.backbone.0.weight"] for model in models]
    assert len({tuple(weight.flatten().tolist()) for weight in first}) > len(first) - 3  # two may train alike
    assert not torch.equal(models[0]["encoder.backbone.1.running_mean"], torch.zeros(6, dtype=torch.float64))
