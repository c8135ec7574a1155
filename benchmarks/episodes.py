"""How fast episodes are drawn and loaded, against learn2learn and easyfsl in the same run, one thread each.

    python benchmarks/episodes.py            # four minutes; writes benchmarks/results/episodes.json
    python benchmarks/episodes.py --quick    # a minute or two, coarser, writes nothing

``benchmarks/peers/setup.sh`` installs the peers; without them only our own rates are shown.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from lightning.pytorch.profilers import SimpleProfiler
from peers.episodes import SIZES, Step, described, loaded, rate
from rich.console import Console
from sides import Line, Peers, peers_are_installed, show

from quickstudy import Trainer
from quickstudy.data.episodes import EpisodePlan, EpisodeSampler
from quickstudy.data.loading import EpisodeSteps, Share
from quickstudy.data.table import ClassIndex
from quickstudy.image import ImageClassificationData, ImageClassifier

HERE = Path(__file__).parent
META_BATCH = 4  # EpisodePlan's default: what a training step takes
EPOCH = 4000  # episodes

FULL = {"huge": [100_000_000, 1_000_000], "steps": 20}
QUICK = {"huge": [10_000_000, 100_000], "steps": 5, "seconds": 0.1, "repeats": 3}
LEAST_DRAWN, LEAST_SHARE, MOST_MEGABYTES, MOST_WAITING = 100_000, 0.5, 1000, 10
LEAST_RATIO = {5: 4.0, 20: 10.0}  # ways: times learn2learn's loaded episodes


def drawing(index: ClassIndex, sizes: dict[str, Any]) -> Callable[[], None]:
    """Return a step that names the images of an epoch of episodes, as a training loader's sampler does."""
    sampler = EpisodeSampler(index, ways=sizes["ways"], shots=sizes["shots"], queries=sizes["queries"])
    steps = EpisodeSteps(sampler, EPOCH, META_BATCH, Share())
    epoch = 0

    def step() -> None:
        nonlocal epoch
        steps.set_epoch(epoch)
        epoch += 1
        for _ in steps:
            pass

    return step


def loading(sizes: dict[str, Any], one: dict[str, int], meta_batch_size: int) -> Step:
    labels = np.arange(sizes["classes"] * sizes["per_class"]) % sizes["classes"]
    data = ImageClassificationData.from_tensors(
        train_data=torch.rand(len(labels), *sizes["shape"]), train_targets=labels, num_workers=0
    )
    plan = EpisodePlan(**one, meta_batch_size=meta_batch_size, epoch_length=EPOCH)
    loader = data.episode_loader("train", plan)
    return chain.from_iterable(repeat(loader)).__next__


def our_works(sizes: dict[str, Any]) -> dict[str, tuple[Step, int]]:
    """Return each work's step and how many episodes it makes."""
    works: dict[str, tuple[Step, int]] = {}
    for images, classes in sizes["descriptions"]["sets"]:
        index = ClassIndex(np.arange(images) % classes, classes)
        works[described(images, classes)] = drawing(index, sizes["descriptions"]), EPOCH
    for one in sizes["loaded"]["episodes"]:
        works[loaded(one)] = loading(sizes["loaded"], one, META_BATCH), META_BATCH
        works[f"{loaded(one)}, meta_batch_size=1"] = loading(sizes["loaded"], one, 1), 1
    return works


def measure(sizes: dict[str, Any], peers: Peers | None) -> list[Line]:
    steps = our_works(sizes)
    known = peers.hello["works"] if peers else []
    rivals = {work: [name for name in known if name.startswith(f"{work}: ")] for work in steps}
    ours: dict[str, list[float]] = {work: [] for work in steps}
    theirs: dict[str, list[float]] = {name: [] for names in rivals.values() for name in names}
    for _ in range(sizes["repeats"]):
        for work, (step, episodes) in steps.items():
            ours[work].append(rate(step, sizes["seconds"], episodes))
            for name in rivals[work]:
                assert peers
                theirs[name].append(peers.ask(name))
    return [
        Line(work, ours[work], peer=name.removeprefix(f"{work}: "), theirs=theirs.get(name, []))
        for work in steps
        for name in rivals[work] or [""]
    ]


def judge(lines: list[Line], sizes: dict[str, Any]) -> None:
    """Set the targets of drawing on the first line of each work, those of loading on each of learn2learn's."""
    by_work = {line.work: line for line in reversed(lines)}
    first, *others = (by_work[described(*one)] for one in sizes["descriptions"]["sets"])
    first.target, first.met = f">= {LEAST_DRAWN:,} /s", statistics.median(first.ours) >= LEAST_DRAWN
    for line in others:
        share = statistics.median(ours / usual for ours, usual in zip(line.ours, first.ours, strict=True))
        line.target, line.met = f">= {LEAST_SHARE:g} of the above", share >= LEAST_SHARE
    ways = {loaded(one): one["ways"] for one in sizes["loaded"]["episodes"]}
    for line in lines:
        if line.work in ways and line.peer.startswith("learn2learn"):
            line.at_least(LEAST_RATIO[ways[line.work]])


def build_huge(images: int, classes: int, sizes: dict[str, Any]) -> dict[str, Any]:
    """Index made-up targets in no order, and draw from them, beside the first of the usual sets."""
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    targets = np.empty(images, np.int32)
    for start in range(0, images, 1 << 20):
        targets[start : start + (1 << 20)] = random.integers(classes, size=min(1 << 20, images - start))
    before = peak_memory()
    index = ClassIndex(targets, classes)
    after = peak_memory()
    usual_images, usual_classes = sizes["descriptions"]["sets"][0]
    usual = drawing(ClassIndex(np.arange(usual_images) % usual_classes, usual_classes), sizes["descriptions"])
    huge = drawing(index, sizes["descriptions"])
    pairs = [[rate(step, sizes["seconds"], EPOCH) for step in (huge, usual)] for _ in range(sizes["repeats"])]
    held = sum(value.nbytes for value in vars(index).values() if isinstance(value, np.ndarray))
    return {"bytes": held, "peak": after - before if before and after else None, "drawn": pairs}


def peak_memory() -> int | None:
    """Return the bytes this process has held at most; getrusage would count the parent's too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def measure_huge(sizes: dict[str, Any]) -> list[Line]:
    images, classes = sizes["huge"]
    # In a process of its own, whose peak is the index's.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(build_huge, images, classes, sizes).result()
    work = f"index of {images:,} images in {classes:,} classes"
    lines = []
    for what, size in (("its arrays", found["bytes"]), ("peak growth while built", found["peak"])):
        if size is not None:
            lines.append(Line(f"{work}: {what}", [size / 1e6], "MB"))
            lines[-1].at_most(MOST_MEGABYTES)
    drawn, usual = zip(*found["drawn"], strict=True)
    lines.append(Line(described(images, classes), list(drawn), peer="quickstudy, the first set", theirs=list(usual)))
    lines[-1].at_least(LEAST_SHARE)
    return lines


def measure_waiting(steps: int) -> Line:
    """Train, and return the share of the time in which the loop waits for its next episode."""
    labels = np.arange(64 * 40) % 64
    images = torch.randint(256, (len(labels), 3, 84, 84), dtype=torch.uint8)
    data = ImageClassificationData.from_tensors(train_data=images, train_targets=labels)
    plan = {"ways": 5, "shots": 5, "queries": 15, "meta_batch_size": META_BATCH, "epoch_length": META_BATCH * steps}
    strategy = "prototypicalnetworks"
    model = ImageClassifier(backbone="conv4", training_strategy=strategy, training_strategy_kwargs=plan)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # the profiler prints its whole table otherwise
    profiler = SimpleProfiler()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(max_epochs=1, accelerator="auto", devices=1, profiler=profiler, **quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, datamodule=data)
    spent = {name: sum(times) for name, times in profiler.recorded_durations.items()}
    waited = next(total for name, total in spent.items() if name.endswith("train_dataloader_next"))
    percent = 100 * waited / (waited + spent["run_training_batch"])
    device = trainer.strategy.root_device.type
    line = Line(f"training on {device}: time spent waiting for data (conv4, 84x84 uint8, 5-way 5-shot)", [percent], "%")
    line.at_most(MOST_WAITING)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter, with a smaller index; writes nothing")
    quick = parser.parse_args().quick
    sizes = {**SIZES, **FULL, **(QUICK if quick else {})}
    console = Console(width=None if sys.stdout.isatty() else 160)
    load = os.getloadavg()[0]  # others' work does not count in processor seconds, but shares the caches
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    peer_versions: dict[str, str] = {}
    failed: dict[str, str] = {}
    if peers_are_installed(console):
        with Peers("episodes.py", "--follow", "--config", json.dumps(sizes)) as peers:
            lines = measure(sizes, peers)
            peer_versions, failed = peers.hello["versions"], peers.hello["failed"]
    else:
        lines = measure(sizes, None)
    judge(lines, sizes)
    lines += measure_huge(sizes)
    torch.set_num_threads(threads)
    lines.append(measure_waiting(sizes["steps"]))

    show(lines, console)
    for name, why in failed.items():
        console.print(f"{name} failed: {why}")
    console.print("Medians of", sizes["repeats"], "repeats in turn; seconds of one processor core, peers likewise.")
    if not quick:
        path = record.write(
            "episodes",
            "python benchmarks/episodes.py",
            peers=peer_versions,
            load=load,
            sizes=sizes,
            seconds="of processor time, one thread",
            lines=[line.plain() for line in lines],
            failed=failed,
        )
        console.print(f"written: {path}")


if __name__ == "__main__":
    main()
