"""What tables reach on public data, with intervals, beside linear models, forests, LightGBM and CatBoost.

    python benchmarks/tables.py --root data/tabular                    # all; or
    python benchmarks/tables.py --root data/tabular --only adult mpg

In the folder: adult_train.csv.gz, adult_test.csv.gz, german_credit.csv.gz and so on; wine and diabetes are
scikit-learn's. ``benchmarks/peers/setup.sh`` installs the peers, which see the same rows. Of ours, whichever does best
in a cross-validation within the training rows (2 parts) is chosen, fold by fold: test rows choose nothing. Intervals
are 95%, over folds or draws; those of folds, which share training rows, are too narrow.
"""

from __future__ import annotations

import copy
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import domains
import lightning as L
import numpy as np
import pandas as pd
import sides
import torch
from embeddings import QUIET
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold
from torch import Tensor, nn

from quickstudy import Predictor, Trainer
from quickstudy.data.rows import Rows, columns_of
from quickstudy.functional.intervals import mean_interval
from quickstudy.nets.members import for_loss, of_mean_probabilities
from quickstudy.tabular import (
    Row,
    TabularClassificationData,
    TabularClassifier,
    TabularRegressionData,
    TabularRegressor,
    design_matrix,
)

SHOTS, DRAWS = (8, 32, 128), 10
INNER, LEAST = 2, 100
BATCH, TREES = 128, 200
STEP_BATCH, STEP_SEEDS, STEP_EPOCHS = 256, 5, 3


class Task(NamedTuple):
    """A table and what is to be told."""

    frame: pd.DataFrame
    target: str
    figure: str = "accuracy"
    """``"accuracy"`` and ``"auc"``, of which more is better, or ``"rmse"``."""

    @property
    def classes(self) -> bool:
        return self.figure != "rmse"


Answers = NDArray[np.float64]
"""Probabilities ``[N, C]`` of the classes in the order of their names, or numbers ``[N]``."""
Rung = Callable[[Task, pd.DataFrame], Answers]
"""Learns a task and answers other rows."""


# ---- ours, by what a user types


def few_shot(task: Task, rows: pd.DataFrame, strategy: str, **options: Any) -> Answers:
    """Learn classes by embeddings that nothing has trained: the columns themselves."""
    inputs, labels = task.frame.drop(columns=task.target), task.frame[task.target].astype(str).tolist()
    predictor = Predictor.from_backbone("one_hot", inputs, labels, strategy=strategy, strategy_kwargs=options)
    chances = np.asarray(predictor.predict_proba(rows.drop(columns=task.target)), np.float64)
    return chances[:, np.argsort(predictor.classes_)]


def trained(
    task: Task, rows: pd.DataFrame, backbone: str, rate: float, decay: float = 1e-2, steps: int = 400, **options: Any
) -> Answers:
    """Train a network, for so many steps, or fewer of few rows."""
    torch.manual_seed(0)
    steps = min(steps, 100 + len(task.frame))
    data, model = (
        (TabularClassificationData, TabularClassifier) if task.classes else (TabularRegressionData, TabularRegressor)
    )
    frame = task.frame.astype({task.target: str}) if task.classes else task.frame
    made = data.from_data_frame(
        train_data_frame=frame, target_fields=task.target, batch_size=min(BATCH, len(frame) // 2)
    )
    learner = model(
        backbone=backbone,
        backbone_kwargs=options,
        optimizer=("AdamW", {"weight_decay": decay}),
        learning_rate=rate,
        lr_scheduler=("CosineAnnealingLR", {"T_max": steps, "interval": "step"}),
    )
    trainer = Trainer(max_steps=steps, limit_val_batches=0, **QUIET)
    trainer.fit(learner, datamodule=made)
    found = learner.predictor().predict(
        rows.drop(columns=task.target), "probabilities" if task.classes else "numbers", batch_size=512
    )
    if not task.classes:
        return np.asarray(found, np.float64)
    return np.asarray(found, np.float64)[:, np.argsort(learner.classes)]


def forest(task: Task, rows: pd.DataFrame) -> Answers:
    """Let scikit-learn's forest learn what the networks see."""
    columns = Row().fitted(task.frame.drop(columns=task.target))
    seen, asked = (design_matrix(frame, columns) for frame in (task.frame, rows))
    if task.classes:
        return (
            RandomForestClassifier(TREES, random_state=0)
            .fit(seen, task.frame[task.target].astype(str))
            .predict_proba(asked)
        )
    return RandomForestRegressor(TREES, random_state=0).fit(seen, task.frame[task.target]).predict(asked)


CLASSES: dict[str, Rung] = {
    "linear_probe": partial(few_shot, strategy="linear_probe"),
    "forest": forest,
    "tabm": partial(trained, backbone="tabm", rate=2e-3, members=8),
}
NUMBERS: dict[str, Rung] = {
    "one_hot": partial(trained, backbone="one_hot", rate=2e-2, steps=200),
    "forest": forest,
    "tabm": partial(trained, backbone="tabm", rate=2e-3, members=8, steps=800),
}


def chosen(task: Task, rungs: Mapping[str, Rung], seed: int) -> str:
    """Return the rung that does best within the rows of a task; of equals the first. Few rows are divided often."""
    found = {name: list[float]() for name in rungs}
    for again in range(max(1, LEAST // len(task.frame))):
        for seen, asked in folds(task, INNER, seed + DRAWS * again):
            inner, rows = task._replace(frame=task.frame.iloc[seen]), task.frame.iloc[asked]
            for name, rung in rungs.items():
                found[name].append(figure(task, rung(inner, rows), rows))
    best = min if task.figure == "rmse" else max
    return best(found, key=lambda name: np.mean(found[name]))


# ---- folds and figures


def folds(task: Task, parts: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Yield the rows to learn from and those to answer."""
    kind = StratifiedKFold if task.classes else KFold
    return kind(parts, shuffle=True, random_state=seed).split(task.frame, task.frame[task.target])


def figure(task: Task, answers: Answers, rows: pd.DataFrame) -> float:
    """Return how well rows are answered."""
    if not task.classes:
        return float(np.sqrt(np.mean((answers - rows[task.target]) ** 2)))
    names = np.array(sorted(task.frame[task.target].astype(str).unique()))
    true = rows[task.target].astype(str).to_numpy()
    if task.figure == "auc":
        return float(roc_auc_score(true == names[1], answers[:, 1]))
    return float((names[answers.argmax(1)] == true).mean())


def told(figures: list[float]) -> dict[str, float]:
    mean, half = mean_interval(torch.tensor(figures))
    return {"mean": round(mean, 4), "ci95": round(half, 4)}


def compared(
    splits: list[tuple[Task, pd.DataFrame]], rungs: Mapping[str, Rung], peers: sides.Peers, folder: Path
) -> dict[str, Any]:
    """Return what each of ours, the one that is chosen, and each peer reaches over splits."""
    found: dict[str, list[float]] = {}
    choices, began = [], time.process_time()
    for number, (task, rows) in enumerate(splits):
        of_rungs = {name: figure(task, rung(task, rows), rows) for name, rung in rungs.items()}
        choices.append(chosen(task, rungs, number))
        ours = {"chosen": of_rungs[choices[-1]], **of_rungs}
        for name, frame in (("train", task.frame), ("test", rows)):
            frame.to_csv(folder / f"{name}.csv", index=False)
        theirs = {
            name: figure(task, np.array(answered(peers, name, task, folder)), rows) for name in peers.hello["peers"]
        }
        for name, value in {**ours, **theirs}.items():
            found.setdefault(name, []).append(value)
        print(number, choices[-1], {name: round(values[-1], 4) for name, values in found.items()}, flush=True)
    lower = splits[0][0].figure == "rmse"
    best = (min if lower else max)(peers.hello["peers"], key=lambda name: np.mean(found[name]))
    gain = [(other - own) if lower else (own - other) for own, other in zip(found["chosen"], found[best], strict=True)]
    return {
        "figure": splits[0][0].figure,
        "splits": len(splits),
        "rungs": {name: told(values) for name, values in found.items()},
        "choices": choices,
        "best peer": best,
        "better than it by, paired": told(gain),
        "within its interval": bool(np.mean(gain) >= -told(found[best])["ci95"]),
        "our cpu_seconds": round(time.process_time() - began, 1),
    }


def answered(peers: sides.Peers, name: str, task: Task, folder: Path) -> Any:
    places = {part: str(folder / f"{part}.csv") for part in ("train", "test")}
    return peers.ask(json.dumps({"peer": name, **places, "target": task.target, "classes": task.classes}))


# ---- measurements


Splits = dict[str, list[tuple[Task, pd.DataFrame]]]
"""By name, tasks and rows to answer."""


def measured(splits: Callable[[Path], Splits], root: Path) -> dict[str, Any]:
    """Compare on each of some lists of splits."""
    made = splits(root)
    return beside_peers(made, CLASSES if next(iter(made.values()))[0][0].classes else NUMBERS)


def beside_peers(splits: Splits, rungs: Mapping[str, Rung], without: Sequence[str] = ()) -> dict[str, Any]:
    """Compare rungs with peers, but for some."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    with sides.Peers("tables.py") as peers, tempfile.TemporaryDirectory() as folder:
        peers.hello["peers"] = [name for name in peers.hello["peers"] if name not in without]
        found: dict[str, Any] = {"peers": peers.hello["versions"]}
        for name, some in splits.items():
            found[name] = compared(some, rungs, peers, Path(folder))
    return found


def adult(root: Path) -> dict[str, Any]:
    """Compare on draws of few rows of each class, and 4,000 others to answer; 8,000 have no labels."""
    train, test = (pd.read_csv(root / f"adult_{part}.csv.gz") for part in ("train", "test"))
    _, model = of_own_tasks(train.drop(columns="income"))

    def by_own_tasks(task: Task, rows: pd.DataFrame) -> Answers:
        some, labels = task.frame.drop(columns="income"), task.frame["income"].tolist()
        return np.asarray(model.adapt(some, labels).predict_proba(rows.drop(columns="income")), np.float64)

    draws = {
        f"{shots} of each class": [
            (Task(train.groupby("income").sample(shots, random_state=seed), "income", "auc"), test)
            for seed in range(DRAWS)
        ]
        for shots in SHOTS
    }
    rungs = {"self-made tasks": by_own_tasks, "linear_probe": CLASSES["linear_probe"], "forest": forest}
    return beside_peers(draws, rungs, without=["CatBoost"])  # which takes longer than all others together


def in_folds(task: Callable[[Path], Task], repeats: int, root: Path) -> Splits:
    """Return 5 folds, some times."""
    whole = task(root)
    some = [
        (whole._replace(frame=whole.frame.iloc[seen]), whole.frame.iloc[asked])
        for seed in range(repeats)
        for seen, asked in folds(whole, 5, seed)
    ]
    return {f"{repeats} x 5 folds": some}


def read(name: str, target: str, figure: str, root: Path) -> Task:
    return Task(pd.read_csv(root / f"{name}.csv.gz"), target, figure)


def titanic(root: Path) -> Task:
    """Return it without the columns that say the answer, or another column, again."""
    task = read("titanic", "survived", "accuracy", root)
    return task._replace(frame=task.frame.drop(columns=["alive", "class", "who", "adult_male", "alone", "embark_town"]))


def penguins(root: Path) -> Task:
    return read("penguins", "species", "accuracy", root)


def mpg(root: Path) -> Task:
    task = read("mpg", "mpg", "rmse", root)
    return task._replace(frame=task.frame.drop(columns="name"))


def diamonds(root: Path) -> Task:
    """Return 2,000 of them, and the logarithms of their prices."""
    frame = pd.read_csv(root / "diamonds_4000.csv.gz").sample(2000, random_state=0)
    return Task(frame.assign(price=np.log(frame["price"])), "price", "rmse")


def wine(root: Path) -> Task:
    return Task(load_wine(as_frame=True).frame, "target")


def diabetes(root: Path) -> Task:
    return Task(load_diabetes(as_frame=True, scaled=False).frame, "target", "rmse")


def of_own_tasks(rows: pd.DataFrame) -> tuple[TabularClassifier, TabularClassifier]:
    """Return a network, and the same after it was trained on tasks that rows without labels make of themselves."""
    data = TabularClassificationData.from_unlabelled(rows)
    plan = {"ways": 10, "shots": 1, "queries": 15, "meta_batch_size": 4, "epoch_length": 2000}
    torch.manual_seed(0)
    model = TabularClassifier(
        backbone="mlp", training_strategy="prototypicalnetworks", training_strategy_kwargs=plan, learning_rate=1e-3
    )
    model.meet(data, "fit")
    untrained = copy.deepcopy(model)
    Trainer(max_epochs=2, limit_val_batches=0, **QUIET).fit(model, datamodule=data)
    return untrained, model


def self_made(root: Path) -> dict[str, Any]:
    """Compare prototypes by a network that trained on tasks of its own making with those by the same one untrained."""
    train, test = (pd.read_csv(root / f"adult_{part}.csv.gz") for part in ("train", "test"))
    began, answered = time.process_time(), test.drop(columns="income")
    untrained, model = of_own_tasks(train.drop(columns="income"))
    found: dict[str, Any] = {"training cpu_seconds": round(time.process_time() - began, 1)}
    for shots in (1, 5, *SHOTS):
        figures: dict[str, list[float]] = {}
        for seed in range(DRAWS):
            task = Task(train.groupby("income").sample(shots, random_state=seed), "income", "auc")
            some, labels = task.frame.drop(columns="income"), task.frame["income"].tolist()
            for name, one in {"self-made tasks": model, "the same network, untrained": untrained}.items():
                chances = np.asarray(one.adapt(some, labels).predict_proba(answered))
                figures.setdefault(name, []).append(figure(task, chances, test))
            figures.setdefault("linear_probe", []).append(figure(task, CLASSES["linear_probe"](task, test), test))
        own = figures["self-made tasks"]
        gains = {
            f"better than {name} by, paired": told([mine - theirs for mine, theirs in zip(own, others, strict=True)])
            for name, others in figures.items()
            if others is not own
        }
        found[f"{shots} of each class"] = {name: told(values) for name, values in figures.items()} | gains
        print(shots, found[f"{shots} of each class"], flush=True)
    return found


def loss_of_members(outputs: Tensor, codes: Tensor) -> Tensor:
    """Return the cross-entropy, the mean over the members of an ensemble."""
    return nn.functional.cross_entropy(*for_loss(outputs, codes))


class Bare(L.LightningModule):
    """A network in the least that Lightning asks for: nothing is logged, and reading is one index of each tensor.

    Args:
        network: that trains.
        rows, codes: all inputs and targets.
    """

    def __init__(self, network: nn.Module, rows: Mapping[str, Tensor], codes: Tensor) -> None:
        super().__init__()
        self.network, self.rows, self.codes = network, rows, codes

    def train_dataloader(self) -> Iterator[Any]:
        class Permuted:
            def __iter__(_) -> Iterator[Any]:  # noqa: N805 - beside the module
                for some in torch.randperm(len(self.codes)).split(STEP_BATCH):
                    yield {name: leaf[some] for name, leaf in self.rows.items()}, self.codes[some]

        return Permuted()  # type: ignore[return-value]

    def training_step(self, batch: Any) -> Tensor:
        return loss_of_members(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.network.parameters(), lr=1e-3)


def step(backbone: str, root: Path) -> dict[str, Any]:
    """Time a step beside one of the same network in plain torch, and one of bare Lightning likewise; and reading."""
    train, test = (pd.read_csv(root / f"adult_{part}.csv.gz") for part in ("train", "test"))
    made = partial(TabularClassificationData.from_data_frame, "income", train_data_frame=train, batch_size=STEP_BATCH)
    data = made()
    data.example()  # which learns the columns
    rows, asked = (data.modality.load_many(Rows(columns_of(frame)), np.arange(len(frame))) for frame in (train, test))
    codes, true = (torch.from_numpy(frame["income"].eq(data.classes[1]).to_numpy()).long() for frame in (train, test))
    found: dict[str, Any] = {"rows": len(train), "batch size": STEP_BATCH}
    ratios, apart = dict[str, list[float]](), list[float]()
    for seed in range(STEP_SEEDS):
        torch.manual_seed(seed)
        model = TabularClassifier(backbone=backbone, optimizer="Adam", learning_rate=1e-3)
        model.meet(data, "fit")
        plain = copy.deepcopy(nn.Sequential(model.encoder.backbone, nn.Flatten(), model.head))
        least, beside_least = Bare(copy.deepcopy(plain), rows, codes), copy.deepcopy(plain)
        ours, bare = (
            domains.InTurns(domains.plain_steps(one, rows, codes, STEP_BATCH, STEP_EPOCHS, loss_of_members))
            for one in (plain, beside_least)
        )
        Trainer(max_epochs=STEP_EPOCHS, limit_val_batches=0, callbacks=[ours], **QUIET).fit(model, datamodule=data)
        L.Trainer(max_epochs=STEP_EPOCHS, limit_val_batches=0, callbacks=[bare], **QUIET).fit(least)
        for name, ratio in (
            ("quickstudy / plain torch", ours.ratio),
            ("quickstudy / bare Lightning", ours.ratio / bare.ratio),
            ("bare Lightning / plain torch", bare.ratio),
        ):
            ratios.setdefault(name, []).append(ratio)
        chances = model.predictor().predict(test.drop(columns="income"), "probabilities", batch_size=512)
        with torch.inference_mode():
            of_plain = of_mean_probabilities(plain.eval()(asked)).argmax(1).eq(true).float().mean()
        apart.append(float((np.asarray(chances).argmax(1) == true.numpy()).mean() - of_plain))
    shares = {}
    for workers in (0, 2):
        loader = made(num_workers=workers).train_dataloader()
        for epoch in ("first", "second"):
            began = time.process_time()
            steps = sum(1 for _ in loader)
            shares[f"{workers} workers, {epoch} epoch"] = (time.process_time() - began) / steps / ours.step
    return found | {
        "milliseconds of a step": round(1000 * ours.step, 2),
        **{f"time of {name}": told(some) for name, some in ratios.items()},
        "accuracy, less that of plain torch": told(apart),
        "share of reading": {name: round(share, 3) for name, share in shares.items()},
    }


MEASUREMENTS: dict[str, domains.Measurement] = {
    "adult": adult,
    "self_made": self_made,
    "step_mlp": partial(step, "mlp"),
    "step_tabm": partial(step, "tabm"),
    "german_credit": partial(measured, partial(in_folds, partial(read, "german_credit", "risk", "accuracy"), 2)),
    **{
        task.__name__: partial(measured, partial(in_folds, task, 1))
        for task in (titanic, penguins, wine, diabetes, mpg, diamonds)
    },
}

if __name__ == "__main__":
    domains.main("tables", __doc__, MEASUREMENTS)
