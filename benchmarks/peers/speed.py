"""What the peers take for the works of ``benchmarks/speed.py``; runs in the environment that ``setup.sh`` makes.

Reads one JSON request per line and answers each with one line: ``{"time": WORK}`` with the seconds of one run,
``{"memory": WORK}`` with the megabytes that it needs at most, ``{"peak": WORK, "steps": N}`` with the most that this
process ever held, ``{"logits": WORK, "path": FILE}`` by writing them.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

Work = dict[str, Any]
Array = np.ndarray

WAYS, QUERIES = 5, 15
SEEN = 600  # of each of 20 classes, as many as miniImageNet's test classes have


def heads(quick: bool) -> list[Work]:
    return [
        {"kind": "head", "head": head, "tasks": tasks, "shots": shots, "features": features}
        for head in ("svm", "ridge")
        for tasks in ((8,) if quick else (8, 32))
        for shots in (1, 5, 15)
        for features in (640, 16000)
    ]


def meta_steps(quick: bool) -> list[Work]:
    sizes = [(28, 1, 4), (28, 1, 32), (28, 5, 4), (84, 1, 4)]
    if not quick:
        sizes += [(28, 5, 32), (84, 5, 4), (84, 1, 32), (84, 5, 32)]
    return [{"kind": "maml", "side": side, "shots": shots, "tasks": tasks, "steps": 5} for side, shots, tasks in sizes]


def gpu_steps(quick: bool) -> list[Work]:
    size = {"kind": "maml", "side": 84, "shots": 1, "tasks": 32, "steps": 5, "device": "cuda"}
    return [{**size, "precision": precision} for precision in ("float32", "bfloat16")]


def long_inner_loops() -> list[Work]:
    return [{"kind": "maml", "side": 84, "shots": 5, "tasks": 2, "steps": steps} for steps in (1, 20)]


def training_steps(quick: bool) -> list[Work]:
    sizes = [(28, 1), (84, 1)] if quick else [(28, 1), (28, 8), (84, 1), (84, 8)]
    return [
        {"kind": kind, "side": side, "shots": 5, "tasks": tasks, "precision": precision}
        for kind in ("prototypicalnetworks", "anil")
        for side, tasks in sizes
        for precision in ("float32", "bfloat16")
    ]


def evaluations(quick: bool) -> list[Work]:
    return [
        {"kind": "evaluation", "method": method, "shots": 5, "features": 640}
        for method in ("prototypicalnetworks", "linear_probe", "tim")
    ]


def named(work: Work) -> str:
    """Return a work's name."""
    kind = work["kind"]
    if kind == "head":
        return f"{work['head']} head, {work['tasks']} tasks, {work['shots']}-shot, D = {work['features']}"
    if kind == "maml":
        size = f"{work['side']} px, {work['shots']}-shot, {work['tasks']} tasks"
        on = f", {work['device']}, {work['precision']}" if "device" in work else ""
        return f"maml meta-step, {size}, {work['steps']} inner steps{on}"
    if kind == "evaluation":
        return f"{work['method']} on cached embeddings, 5-way {work['shots']}-shot"
    return f"{kind} step, {work['side']} px, 5-shot, {work['tasks']} tasks, {work['precision']}"


def features_of(work: Work) -> tuple[Array, Array]:
    """Return made-up features as after a rectifier: support ``[T, W * shots, D]`` and query ``[T, W * queries, D]``."""
    random = np.random.default_rng(0)
    tasks, shots, size = work["tasks"], work["shots"], work["features"]
    means = random.normal(size=(tasks, WAYS, size)) / 2
    parts = []
    for each in (shots, QUERIES):
        values = np.repeat(means, each, 1) + random.normal(size=(tasks, WAYS * each, size))
        parts.append((3 * np.maximum(values, 0) / np.sqrt(size)).astype(np.float32))
    return parts[0], parts[1]


def images_of(work: Work) -> tuple[Array, Array]:
    """Return made-up images: support ``[T, W * shots, C, H, W]`` and query."""
    random = np.random.default_rng(0)
    shape = (1 if work["side"] == 28 else 3, work["side"], work["side"])
    support, query = (
        random.random((work["tasks"], WAYS * each, *shape), dtype=np.float32) for each in (work["shots"], QUERIES)
    )
    return support, query


def embeddings_of(work: Work) -> tuple[Array, Array]:
    """Return embeddings ``[N, D]`` of 20 classes, as after a rectifier, and their targets."""
    random = np.random.default_rng(0)
    means = random.normal(size=(20, work["features"])) / 4
    values = np.repeat(means, SEEN, 0) + random.normal(size=(20 * SEEN, work["features"]))
    return np.maximum(values, 0).astype(np.float32), np.repeat(np.arange(20), SEEN)


def targets_of(shots: int) -> Array:
    return np.repeat(np.arange(WAYS), shots)


# ---- the peers


def qpth_head(work: Work) -> Callable[[], Any]:
    """Return forward and backward of a head, one task after another as learn2learn's own loops go."""
    import torch
    from learn2learn.nn.metaoptnet import svm_logits
    from qpth.qp import QPFunction

    support, query = (torch.tensor(part) for part in features_of(work))
    targets, shots = torch.tensor(targets_of(work["shots"])), work["shots"]

    def ridge_logits(query: Any, support: Any) -> Any:
        # MetaOptNet's ridge as its authors pose it: a quadratic programme per class, whose inequalities say 0 <= 0.
        count = len(support)
        matrix = (support @ support.t() + 50 * torch.eye(count)).expand(WAYS, count, count)
        wanted = torch.nn.functional.one_hot(targets, WAYS).float().t()
        nothing, empty = torch.zeros(WAYS, count, count), torch.tensor([])
        solve = QPFunction(verbose=False, maxIter=15)
        dual = solve(matrix, -2 * wanted, nothing, torch.zeros(WAYS, count), empty, empty)
        return query @ support.t() @ dual.t()

    def step() -> list[Any]:
        logits = []
        for task in range(work["tasks"]):
            s, q = support[task].clone().requires_grad_(), query[task].clone().requires_grad_()
            one = svm_logits(q, s, targets, WAYS, shots) if work["head"] == "svm" else ridge_logits(q, s)
            one.square().sum().backward()
            logits.append(one.detach())
        return logits

    return step


def network(work: Work) -> Any:
    """Return Conv4 as both peers' users write it, 32 filters for maml as in its paper and 64 else, and its features."""
    from torch import nn

    hidden = work.get("hidden", 32 if work["kind"] == "maml" else 64)
    layers: list[nn.Module] = []
    for channels in (1 if work["side"] == 28 else 3, hidden, hidden, hidden):
        layers += [nn.Conv2d(channels, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten()), hidden * (work["side"] // 16) ** 2


def learn2learn_step(work: Work) -> Callable[[], Any]:
    """Return an optimizer step as learn2learn's Lightning modules make it, without Lightning."""
    import learn2learn as l2l
    import torch
    from torch import nn

    device = work.get("device", "cpu")
    support, query = (torch.tensor(part, device=device) for part in images_of(work))
    of_support, of_query = (torch.tensor(targets_of(count), device=device) for count in (work["shots"], QUERIES))
    torch.manual_seed(0)
    body, size = network(work)
    loss = nn.CrossEntropyLoss()
    body, head = body.to(device), nn.Linear(size, WAYS, device=device)
    steps, tasks = work.get("steps", 5), work["tasks"]
    whole = nn.Sequential(body, head)
    maml = l2l.algorithms.MAML(whole if work["kind"] == "maml" else head, lr=0.1)
    classifier = l2l.nn.PrototypicalClassifier()
    optimizer = torch.optim.Adam(whole.parameters() if work["kind"] != "prototypicalnetworks" else body.parameters())

    def judged(s: Any, q: Any) -> Any:
        if work["kind"] != "maml":
            embedded = body(torch.cat([s, q]))
            s, q = embedded[: len(s)], embedded[len(s) :]
        if work["kind"] == "prototypicalnetworks":
            classifier.fit_(s, of_support)
            return loss(classifier(q), of_query)
        learner = maml.clone()
        for _ in range(steps):
            learner.adapt(loss(learner(s), of_support))
        return loss(learner(q), of_query)

    def step() -> None:
        optimizer.zero_grad()
        for s, q in zip(support, query, strict=True):
            with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda" and work["precision"] == "bfloat16"):
                mean = judged(s, q) / tasks
            mean.backward()
        optimizer.step()

    return step


def easyfsl_step(work: Work) -> Callable[[], Any]:
    """Return an optimizer step as easyfsl's episodic training notebook makes it."""
    import torch
    from easyfsl.methods import PrototypicalNetworks
    from torch import nn

    support, query = (torch.tensor(part) for part in images_of(work))
    of_support, of_query = torch.tensor(targets_of(work["shots"])), torch.tensor(targets_of(QUERIES))
    torch.manual_seed(0)
    model = PrototypicalNetworks(network(work)[0])
    optimizer, loss = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        for s, q in zip(support, query, strict=True):
            model.process_support_set(s, of_support)
            (loss(model(q), of_query) / work["tasks"]).backward()
        optimizer.step()

    return step


def easyfsl_evaluation(work: Work) -> Callable[[], Any]:
    """Return an evaluation of 20 episodes by easyfsl's own loop; the step returns its accuracy."""
    import torch
    from easyfsl import methods
    from easyfsl.datasets import FeaturesDataset
    from easyfsl.samplers import TaskSampler
    from easyfsl.utils import evaluate
    from episodes import take_data_source  # the file beside this one
    from torch.utils.data import DataLoader

    take_data_source()
    embeddings, targets = embeddings_of(work)
    data = FeaturesDataset(targets.tolist(), torch.tensor(embeddings), [str(code) for code in range(20)])
    sampler = TaskSampler(data, WAYS, work["shots"], QUERIES, n_tasks=EASYFSL_EPISODES)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    names = {"prototypicalnetworks": "PrototypicalNetworks", "linear_probe": "Finetune", "tim": "TIM"}
    model = getattr(methods, names[work["method"]])(torch.nn.Identity())
    return lambda: evaluate(model, loader, device="cpu", use_tqdm=False)


EASYFSL_EPISODES = 20
PEERS: dict[str, dict[str, Callable[[Work], Callable[[], Any]]]] = {
    "head": {"qpth": qpth_head},
    "maml": {"learn2learn": learn2learn_step},
    "anil": {"learn2learn": learn2learn_step},
    "prototypicalnetworks": {"learn2learn": learn2learn_step, "easyfsl": easyfsl_step},
    "evaluation": {"easyfsl": easyfsl_evaluation},
}


def seconds(step: Callable[[], Any], least: float, device: str = "cpu") -> float:
    """Return the seconds of one run, of at least one run and ``least`` seconds.

    On a CPU, seconds are of the processor and not of the clock: nothing here waits, and so a neighbour's work does not
    count. On a GPU, which is waited for, they are of the clock.
    """
    import torch

    def now() -> float:
        if device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    runs, start = 0, now()
    while runs == 0 or now() - start < least:
        step()
        runs += 1
    return (now() - start) / runs


def megabytes(step: Callable[[], Any]) -> float:
    """Return how far above the present the memory of this process rises during a run; Linux only."""
    before = memory("VmRSS")
    step()
    return memory("VmHWM") - before


def peak(step: Callable[[], Any], steps: int) -> float:
    """Return the most megabytes that this process has held, a training set of 3,200 pictures of 84 pixels among it."""
    pictures = np.random.default_rng(0).random((3200, 3, 84, 84), dtype=np.float32)
    for _ in range(steps):
        step()
    return memory("VmHWM") if len(pictures) else 0.0


def memory(what: str) -> float:
    """Return a line of what Linux says of this process, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(what))


def answer(request: Work, made: dict[str, Callable[[], Any]]) -> Any:
    if "time" in request:
        key = json.dumps([request["time"], request["peer"]])
        if key not in made:
            made.clear()
            made[key] = PEERS[request["time"]["kind"]][request["peer"]](request["time"])
            made[key]()
        return seconds(made[key], request["least"], request["time"].get("device", "cpu"))
    work = request.get("memory") or request.get("peak") or request["logits"]
    step = PEERS[work["kind"]][request["peer"]](work)
    if "peak" in request:
        return peak(step, request["steps"])
    if "memory" in request:
        return megabytes(step)
    np.save(request["path"], np.stack([np.asarray(one) for one in step()]))
    return request["path"]


def main() -> None:
    import torch

    torch.set_num_threads(1)
    names = ("torch", "numpy", "learn2learn", "easyfsl", "qpth")
    say({"python": platform.python_version(), **{name: version(name) for name in names}})
    made: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        say(answer(json.loads(line), made))


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
