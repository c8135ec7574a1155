"""Few-shot regression: sinusoids from 5 or 10 points, the first experiment of the MAML paper (arXiv 1703.03400, 5.1).

Each task is a sinusoid of amplitude 0.1 to 5 and phase 0 to pi. A network that was trained on all of them together
knows their mean alone; one that was meta-trained bends to a new one in five gradient steps on its few points::

    python examples/sinusoid.py --shots 10
    python examples/sinusoid.py --shots 5 --strategy r2d2

Mean squared errors over 300 new sinusoids with their 95% intervals, after five steps (r2d2 solves a ridge regression
instead), beside the network that was trained on all together and learns in the same way, by the best of four rates (of
r2d2: strengths); and minutes of processor time for both, on one core of an AMD EPYC:

=====================  ==============  ===============  ===  ==============  ===============  ===
strategy               from 10 points  trained on all   min  from 5 points   trained on all   min
=====================  ==============  ===============  ===  ==============  ===============  ===
maml                   0.176 ± 0.025   2.334 ± 0.255    0.9  0.514 ± 0.073   2.806 ± 0.314    1.2
anil                   0.118 ± 0.019   2.877 ± 0.329    0.5  0.641 ± 0.169   2.958 ± 0.322    0.5
reptile                0.188 ± 0.029   2.231 ± 0.241    1.0  0.659 ± 0.100   2.705 ± 0.301    0.8
r2d2                   0.008 ± 0.001   1.035 ± 0.301    0.3  0.097 ± 0.056   4.226 ± 0.469    0.4
anil --steps 10000                                           0.513 ± 0.144   2.947 ± 0.327    1.3
reptile --steps 10000                                        0.390 ± 0.073   2.507 ± 0.292    3.0
=====================  ==============  ===============  ===  ==============  ===============  ===

Sinusoids of these phases and amplitudes are sums of two functions, which a ridge regression on learned features finds
at once. Reptile learns from 50 points of each training task, ten in a step.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from quickstudy import DataModule, Task, Trainer
from quickstudy.kinds.regression import Regression

ASKED = 100
"""Points of a test task that are asked for."""
TOGETHER = 25
"""Tasks of a step, side by side: a network this small gains by it."""


class Curves(DataModule):
    """Points of curves: a number for each number."""

    answers = Regression


def sinusoids(count: int, points: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return tasks by name: ``points`` numbers ``[n, 1]`` from -5 to 5, and the sinusoid there."""
    generator = torch.Generator().manual_seed(seed)
    amplitude = 0.1 + 4.9 * torch.rand(count, generator=generator)
    phase = math.pi * torch.rand(count, generator=generator)
    inputs = 10 * torch.rand(count, points, 1, generator=generator) - 5
    curves = amplitude[:, None] * torch.sin(inputs[..., 0] - phase[:, None])
    return {f"{seed}-{task}": (inputs[task], curves[task]) for task in range(count)}


def network() -> nn.Module:
    """Return the paper's: two hidden layers of 40."""
    return nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU())


class Way(NamedTuple):
    """How an algorithm is trained."""

    options: dict[str, Any]
    """Its own."""
    rivals: tuple[str, tuple[float, ...]]
    """The option by whose best value the network that was trained on all tasks together learns."""
    queries: int = 10
    """Points of a training task that are asked for, beside those that are shown."""
    learning_rate: float = 0.003


RATES = "adaptation_lr", (0.003, 0.01, 0.03, 0.1)
WAYS = {
    "maml": Way({"adaptation_steps": 5, "adaptation_lr": 0.03}, RATES),
    "anil": Way({"adaptation_steps": 5, "adaptation_lr": 0.1}, RATES),
    "reptile": Way({"adaptation_steps": 5, "adaptation_lr": 0.03, "inner_batch_size": 10}, RATES, queries=40),
    "r2d2": Way({}, ("regularization", (0.01, 0.1, 1.0, 10.0))),
}


class Result(NamedTuple):
    """A mean squared error over new sinusoids, each learned from its few points."""

    error: float
    ci95: float
    """Half of the 95% interval, over the sinusoids."""


class Compared(NamedTuple):
    """Two networks that learn in the same way."""

    meta_trained: Result
    together: Result
    """Of the network that was trained on all tasks together."""


def compare(
    strategy: str = "maml", shots: int = 10, steps: int = 3000, tasks: int = 2000, test_tasks: int = 300
) -> Compared:
    """Train in both ways and test on the same new tasks.

    Args:
        strategy: ``"maml"``, ``"anil"``, ``"reptile"`` or ``"r2d2"``.
        shots: points to learn from.
        steps: of meta-training, of 25 tasks each.
        tasks, test_tasks: how many sinusoids there are to train on, and to be tested on.
    """
    way = WAYS[strategy]
    train = sinusoids(tasks, shots + way.queries, seed=0)
    data = Curves.from_groups(train_groups=train, test_groups=sinusoids(test_tasks, shots + ASKED, seed=1))
    plan = {"shots": shots, "queries": way.queries, "test_queries": ASKED, "test_epoch_length": test_tasks}
    plan |= {"meta_batch_size": TOGETHER, "epoch_length": TOGETHER * steps, "task_chunk": TOGETHER}
    learns: dict[str, Any] = {"training_strategy": strategy, "training_strategy_kwargs": {**plan, **way.options}}
    torch.manual_seed(0)
    model = Task(
        Regression(),
        network(),
        learning_rate=way.learning_rate,
        lr_scheduler=("CosineAnnealingLR", {"T_max": steps, "interval": "step"}),
        **learns,
    )
    _fit(model, data, max_epochs=1, gradient_clip_val=1.0)
    together = Task(Regression(), network(), learning_rate=0.003)
    inputs, curves = (torch.cat(parts) for parts in zip(*train.values(), strict=True))
    _fit(together, Curves.from_tensors(inputs, curves, batch_size=500), max_epochs=5)
    option, values = way.rivals
    rivals = []
    for value in values:
        learns["training_strategy_kwargs"] = {**plan, **way.options, option: value}
        rival = Task(together.kind, together.encoder.backbone, **learns)
        assert rival.algorithm is not None and isinstance(together.head, nn.Linear)
        rival.algorithm.meet(rival.encoder, (together.head.in_features,), 1)
        if isinstance(head := getattr(rival.algorithm, "head", None), nn.Module):  # a ridge regression has none
            head.load_state_dict(together.head.state_dict())
        rivals.append(_tested(rival, data))
    return Compared(_tested(model, data), min(rivals))


def _trainer(**options: Any) -> Trainer:
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return Trainer(accelerator="cpu", **quiet, **options)


def _fit(model: Task, data: Curves, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers")
        _trainer(**options).fit(model, datamodule=data)


def _tested(model: Task, data: Curves) -> Result:
    """Return the mean squared error over all points of all test tasks."""
    (found,) = _trainer().test(model, datamodule=data, verbose=False)
    root = float(found["test_rmse"])
    return Result(root**2, 2 * root * float(found["test_rmse_ci95"]))


def _told(result: Result) -> str:
    return f"{result.error:.3f} ± {result.ci95:.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategy", default="maml", choices=list(WAYS))
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    start = time.process_time()
    result = compare(options.strategy, options.shots, options.steps)
    print(f"{options.strategy}, {options.shots} points: mean squared error {_told(result.meta_trained)}")
    print(f"trained on all together, fine-tuned in the same way: {_told(result.together)}")
    print(f"{(time.process_time() - start) / 60:.1f} minutes of processor time")
