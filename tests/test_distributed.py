"""The same training on one process and on many: weights, running statistics, test figures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import on_processes
from quickstudy.algorithms import available_strategies

pytestmark = pytest.mark.dear(
    "algorithms",
    "data",
    "functional",
    "kinds",
    "nets",
    "training",
    "selfsupervised",
    "pointcloud",
    "batches.py",
    "trainer.py",
)
WORLDS = (1, 2, 4)
TOLERANCE = {"64-true": 1e-9, "32-true": 1e-4, "bf16-mixed": 2e-2}
"""Of a weight, as a share of the largest of its tensor. Sums in another order round differently, and steps add up."""
ADAM = 1e-6
"""In float64: of a gradient near 0, such as a bias's before BatchNorm, Adam makes lr / eps = 1e6 times its rounding."""

JOB = repr(("anil", "64-true", {}))

Results = dict[int, list[dict[str, Any]]]


def torchrun(world: int, *arguments: object) -> subprocess.Popen[str]:
    """Start tests/on_processes.py on several processes of this machine, on a free port."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"] if world > 1 else []
    folder, *jobs = map(str, arguments)
    return started([sys.executable, *launcher, on_processes.__file__, folder, "ddp", *jobs])


def started(command: list[str], **environment: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("processes")
    for world in WORLDS:
        running = torchrun(world, folder)
        told = running.communicate()[0]
        assert running.returncode == 0, told[-5000:]
    return {world: [torch.load(folder / f"ddp-{world}-{rank}.pt") for rank in range(world)] for world in WORLDS}


@pytest.fixture(scope="module")
def alone(results: Results) -> dict[str, Any]:
    """What one process makes of ``JOB``."""
    found: dict[str, Any] = results[1][0][JOB]
    return found


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("job", on_processes.JOBS, ids=repr)
def test_any_number_of_processes_trains_the_same_model(job: tuple[Any, ...], world: int, results: Results) -> None:
    alone = results[1][0][repr(job)]["weights"]
    ranks = [rank[repr(job)]["weights"] for rank in results[world]]
    check_same(alone, ranks, ADAM if job[2].get("optimizer") == "Adam" else TOLERANCE[job[1]])


def check_same(alone: dict[str, Tensor], ranks: list[dict[str, Tensor]], tolerance: float) -> None:
    for name, value in alone.items():
        assert all(torch.equal(rank[name], ranks[0][name]) for rank in ranks), name
        if value.is_floating_point():
            error = (value - ranks[0][name]).abs().max() / value.abs().max().clamp(min=1e-30)
            assert error <= tolerance, (name, float(error))
        else:
            assert torch.equal(value, ranks[0][name]), name


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("job", [job for job in on_processes.JOBS if job[1] == "64-true"], ids=repr)
def test_any_number_of_processes_measures_the_same(job: tuple[Any, ...], world: int, results: Results) -> None:
    alone = results[1][0][repr(job)]["figures"]
    for rank in results[world]:
        assert rank[repr(job)]["figures"] == pytest.approx(alone, rel=1e-6)  # figures are float32
        for name, value in results[1][0][repr(job)]["outcome"].items():
            assert rank[repr(job)]["outcome"][name] == value, name


def test_training_changed_the_weights(results: Results) -> None:
    models = [results[1][0][repr((name, "64-true", {}))]["weights"] for name in available_strategies()]
    first = [model["encoder.backbone.0.weight"] for model in models]
    assert len({tuple(weight.flatten().tolist()) for weight in first}) > len(first) - 3  # two may train alike
    assert not torch.equal(models[0]["encoder.backbone.1.running_mean"], torch.zeros(6, dtype=torch.float64))


# ---- two hosts


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Two network namespaces, as two machines would see each other: name and address."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces are made by root with the command ip (Debian: iproute2)")
    names = {f"quickstudy-{os.getpid()}-{host}": f"10.77.0.{host}" for host in (1, 2)}
    ends = [f"qs{os.getpid() % 100000}{side}" for side in "ab"]
    try:
        try:
            for name in names:
                run("ip", "netns", "add", name)
            run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for (name, address), end in zip(names.items(), ends, strict=True):
                run("ip", "link", "set", end, "netns", name)
                inside = ("ip", "netns", "exec", name, "ip")
                run(*inside, "link", "set", end, "name", "eth0")
                run(*inside, "address", "add", f"{address}/24", "dev", "eth0")
                run(*inside, "link", "set", "eth0", "up")
                run(*inside, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine does not let root make network namespaces: {error.stderr}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def test_two_hosts_train_one_model(hosts: dict[str, str], alone: dict[str, Any], tmp_path: Path) -> None:
    meeting = next(iter(hosts.values()))
    running = [
        started(
            [
                *("ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run"),
                *("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=one-training"),
                *(f"--rdzv-endpoint={meeting}:29400", f"--rdzv-conf=is_host={int(address == meeting)}"),
                f"--local-addr={address}",
                *(on_processes.__file__, str(tmp_path), "ddp", JOB),
            ],
            GLOO_SOCKET_IFNAME="eth0",
        )
        for name, address in hosts.items()
    ]
    check_trains_as_one(running, alone, tmp_path, "ddp-2-0", "ddp-2-1")


def check_trains_as_one(running: list[subprocess.Popen[str]], alone: dict[str, Any], folder: Path, *names: str) -> None:
    """Wait for processes that train ``JOB`` together, and compare with one process."""
    told = [process.communicate(timeout=600)[0] for process in running]
    assert not any(process.returncode for process in running), "\n".join(each[-3000:] for each in told)
    ranks = [torch.load(folder / f"{name}.pt")[JOB] for name in names]
    check_same(alone["weights"], [rank["weights"] for rank in ranks], TOLERANCE["64-true"])
    assert ranks[0]["figures"] == pytest.approx(alone["figures"], rel=1e-6)
    assert alone["outcome"] and ranks[0]["outcome"] == alone["outcome"]


@pytest.mark.parametrize("launcher", ["ddp_spawn", "ddp_notebook"])
def test_processes_may_be_spawned_or_forked(launcher: str, alone: dict[str, Any], tmp_path: Path) -> None:
    parent = started([sys.executable, on_processes.__file__, str(tmp_path), launcher, JOB])
    check_trains_as_one([parent], alone, tmp_path, f"{launcher}-2-0")


def test_slurm_starts_the_processes(alone: dict[str, Any], tmp_path: Path) -> None:
    tasks = [
        started(
            [sys.executable, on_processes.__file__, str(tmp_path), "slurm", JOB],
            SLURM_JOB_ID="77",
            SLURM_JOB_NAME="birds",
            SLURM_NTASKS="2",
            SLURM_NTASKS_PER_NODE="2",
            SLURM_NNODES="1",
            SLURM_NODEID="0",
            SLURM_LOCALID=str(rank),
            SLURM_PROCID=str(rank),
            SLURM_NODELIST="127.0.0.1",
        )
        for rank in range(2)
    ]
    check_trains_as_one(tasks, alone, tmp_path, "slurm-2-0", "slurm-2-1")
