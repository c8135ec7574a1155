"""How fast learn2learn and easyfsl draw and load episodes; runs in the environment that ``setup.sh`` makes.

Prints one JSON object. With ``--follow`` it reads one name of a work per line and answers each with the rate of one
repeat, so that ``benchmarks/episodes.py`` can measure both sides in turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

Sizes = dict[str, Any]
Step = Callable[[], object]

# The only place where sizes are written: benchmarks/episodes.py reads them from here and passes them on.
SIZES: Sizes = {
    "seconds": 0.5,  # one repeat
    "repeats": 7,
    "descriptions": {"ways": 5, "shots": 5, "queries": 15, "sets": [[38_400, 64], [449_631, 608]]},  # images, classes
    "loaded": {
        "classes": 1200,
        "per_class": 20,
        "shape": [1, 28, 28],  # float32, as both libraries feed a network
        "episodes": [
            {"ways": 5, "shots": 1, "queries": 15},
            {"ways": 20, "shots": 1, "queries": 5},
        ],
    },
}


def described(images: int, classes: int) -> str:
    """Name the work of naming the images of an episode; a peer's name follows it after a colon."""
    return f"drawn, {images:,} images in {classes:,} classes"


def loaded(episode: dict[str, int]) -> str:
    """Name the work of loading an episode, likewise."""
    return f"loaded, {episode['ways']}-way {episode['shots']}-shot {episode['queries']}-query"


def rate(step: Step, seconds: float, episodes: int = 1) -> float:
    """Return episodes a second of a step that makes ``episodes`` of them, on one thread.

    Seconds are of the processor, not of the clock: nothing here waits, and so a neighbour's work does not count.
    """
    step()
    done, start = 0, time.process_time()
    while (passed := time.process_time() - start) < seconds:
        step()
        done += episodes
    return done / passed


def learn2learn_descriptions(labels: Sequence[int], sizes: Sizes, fused: bool) -> Step:
    from learn2learn.data import MetaDataset, Taskset
    from learn2learn.data.transforms import FusedNWaysKShots, KShots, NWays
    from torch.utils.data import Dataset

    class Numbers(Dataset):
        def __len__(self) -> int:
            return len(labels)

    data = MetaDataset(Numbers(), indices_to_labels=dict(enumerate(labels)))
    ways, per_class = sizes["ways"], sizes["shots"] + sizes["queries"]
    if fused:
        transforms = [FusedNWaysKShots(data, n=ways, k=per_class)]
    else:
        transforms = [NWays(data, n=ways), KShots(data, k=per_class)]
    return Taskset(data, transforms).sample_task_description


def learn2learn_loaded(images: Any, labels: Sequence[int], sizes: Sizes, own: bool) -> Step:
    """Prepare its loading from its own in-memory data set, or from plain integer labels, which it takes faster."""
    from learn2learn.data import MetaDataset, OnDeviceDataset, Taskset
    from learn2learn.data.transforms import ConsecutiveLabels, FusedNWaysKShots, LoadData, RemapLabels

    plain = pairs(images, labels)
    held = OnDeviceDataset(plain) if own else plain
    data = MetaDataset(held, indices_to_labels=dict(enumerate(labels)))
    transforms = [
        FusedNWaysKShots(data, n=sizes["ways"], k=sizes["shots"] + sizes["queries"]),
        LoadData(data),
        RemapLabels(data),
        ConsecutiveLabels(data),
    ]
    return Taskset(data, transforms).sample


def easyfsl_descriptions(labels: Sequence[int], sizes: Sizes) -> Step:
    from easyfsl.samplers import TaskSampler

    take_data_source()

    class Numbers:
        def get_labels(self) -> Sequence[int]:
            return labels

    sampler = TaskSampler(Numbers(), sizes["ways"], sizes["shots"], sizes["queries"], n_tasks=sys.maxsize)
    return iter(sampler).__next__


def easyfsl_loaded(images: Any, labels: Sequence[int], sizes: Sizes) -> Step:
    from easyfsl.samplers import TaskSampler
    from torch.utils.data import DataLoader

    take_data_source()
    data = pairs(images, labels)
    sampler = TaskSampler(data, sizes["ways"], sizes["shots"], sizes["queries"], n_tasks=sys.maxsize)
    return iter(DataLoader(data, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)).__next__


def take_data_source() -> None:
    """Let torch's Sampler take and ignore what easyfsl hands it, as it did until torch 2.9."""
    from torch.utils.data import Sampler

    Sampler.__init__ = lambda self, data_source=None: None  # type: ignore[method-assign]


def pairs(images: Any, labels: Sequence[int]) -> Any:
    """Return a data set of tensors and plain integers, the quickest form for both peers."""
    from torch.utils.data import Dataset

    class Pairs(Dataset):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return images[index], labels[index]

        def get_labels(self) -> Sequence[int]:
            return labels

    return Pairs()


def works(sizes: Sizes) -> Iterator[tuple[str, Callable[[], Step]]]:
    """Yield each work's name and what makes it ready."""
    import torch

    drawn, kept = sizes["descriptions"], sizes["loaded"]
    for images, classes in drawn["sets"]:
        labels = [row % classes for row in range(images)]
        work = described(images, classes)
        yield f"{work}: learn2learn FusedNWaysKShots", partial(learn2learn_descriptions, labels, drawn, fused=True)
        yield f"{work}: learn2learn NWays + KShots", partial(learn2learn_descriptions, labels, drawn, fused=False)
        yield f"{work}: easyfsl", partial(easyfsl_descriptions, labels, drawn)
    labels = [row % kept["classes"] for row in range(kept["classes"] * kept["per_class"])]
    decoded = torch.rand(len(labels), *kept["shape"])
    for one in kept["episodes"]:
        work = loaded(one)
        yield f"{work}: learn2learn OnDeviceDataset", partial(learn2learn_loaded, decoded, labels, one, own=True)
        yield f"{work}: learn2learn plain labels", partial(learn2learn_loaded, decoded, labels, one, own=False)
        yield f"{work}: easyfsl", partial(easyfsl_loaded, decoded, labels, one)


def versions() -> dict[str, str]:
    names = ("torch", "numpy", "learn2learn", "easyfsl")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=json.loads, default={}, help="JSON that replaces entries of SIZES")
    parser.add_argument("--follow", action="store_true", help="measure the work named on each line of the input")
    options = parser.parse_args()
    sizes = {**SIZES, **options.config}

    import torch

    torch.set_num_threads(1)
    ready: dict[str, Step] = {}
    failed: dict[str, str] = {}
    for name, make in works(sizes):
        try:
            ready[name] = make()
        except TypeError as error:  # easyfsl on a torch whose Sampler takes no data_source any more
            failed[name] = f"{type(error).__name__}: {error}"

    if options.follow:
        say({"versions": versions(), "works": [*ready], "failed": failed})
        for line in sys.stdin:
            say(rate(ready[line.strip()], sizes["seconds"]))
        return
    repeats: dict[str, list[float]] = {name: [] for name in ready}
    for _, (name, step) in itertools.product(range(sizes["repeats"]), ready.items()):
        repeats[name].append(rate(step, sizes["seconds"]))
    results = {name: {"per_second": statistics.median(each), "repeats": each} for name, each in repeats.items()}
    say({"versions": versions(), "sizes": sizes, "works": results, "failed": failed})


def say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
