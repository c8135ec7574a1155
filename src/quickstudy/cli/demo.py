"""``quickstudy demo``: from nothing to a model that tells apart classes it never saw, in a few minutes."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table as Lines
from torch import Tensor

from quickstudy.data.stages import STAGES
from quickstudy.data.table import Table
from quickstudy.domains import DOMAINS, modules_of_domains
from quickstudy.errors import ConfigError
from quickstudy.files import atomic_write
from quickstudy.kinds.metrics import Estimate
from quickstudy.predictor import Predictor
from quickstudy.runs.report import Picture, Row, episode_picture, told, write_report
from quickstudy.runs.results import versions
from quickstudy.trainer import Trainer
from quickstudy.training.datamodule import DataModule
from quickstudy.training.demonstration import Act
from quickstudy.training.task import Classifier

_SURE = 0.95
"""So sure answers are counted apart: of calibrated ones as many are right."""
_SHOTS = (1, 5)
_COLUMNS = tuple(f"5-way {shots}-shot" for shots in _SHOTS)
_QUIET: dict[str, Any] = {"devices": 1, "logger": False, "enable_model_summary": False}


ACTS = tuple(domain for domain in DOMAINS if f"quickstudy.{domain}.demo" in modules_of_domains("demo"))
"""Domains that have a demo, which their module of that name says."""


def run(args: argparse.Namespace) -> int:
    """Meta-train on some classes, test on others, then use the model."""
    if args.domain not in ACTS:
        raise ConfigError(f"--domain {args.domain}: there is a demo of {', '.join(ACTS)}")
    act: Act = importlib.import_module(f"quickstudy.{args.domain}.demo").ACT
    epochs = act.epochs if args.epochs is None else args.epochs
    for name, count in (("epochs", epochs), ("episodes", args.episodes)):
        if count < 1:
            raise ConfigError(f"--{name} {count}: it must be at least 1")
    started = time.monotonic()
    console = Console(highlight=False, soft_wrap=True)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(0, verbose=False)
    args.out.mkdir(parents=True, exist_ok=True)

    console.print(f"[bold]1. Data.[/] {act.about}.")
    data = act.data.from_benchmark(act.dataset)
    for stage in STAGES[:3]:
        console.print(f"   {stage:<6}{_summary(act, _table_of(data, stage))}")

    plan = {
        "shots": 1,
        "meta_batch_size": 1,
        "epoch_length": 100,
        "test_ways": 5,
        **act.plan,
        "test_epoch_length": args.episodes,
    }
    model = act.task(
        backbone=act.backbone,
        backbone_kwargs=dict(act.options),
        training_strategy="prototypicalnetworks",
        training_strategy_kwargs=plan,
        learning_rate=act.rate,
        lr_scheduler=("CosineAnnealingLR", {"T_max": epochs}),
    )
    plain = act.task(backbone=act.baseline(), training_strategy="nearest_neighbour", training_strategy_kwargs=plan)
    console.print(f"\n[bold]2. Before training[/], on {args.episodes} episodes of 5 {act.classes} of the test set.")
    rows = [
        Row(f"nearest neighbour by {act.plain}", _test(plain, data)),
        Row("untrained encoder", _test(model, data)),
    ]
    for row in rows:
        console.print(f"   {row.name}, one example each: {told(row.estimates[0])} %")

    console.print(
        f"\n[bold]3. Meta-training[/] prototypical networks on episodes of {plan['ways']} {act.classes}, one example "
        "each."
    )
    trainer = Trainer(
        **_QUIET, max_epochs=epochs, limit_val_batches=100, num_sanity_val_steps=0, enable_checkpointing=False
    )
    trainer.fit(model, datamodule=data)
    checkpoint = args.out / f"{act.dataset}.ckpt"
    trainer.save_checkpoint(checkpoint)
    rows.append(Row("trained encoder (prototypical networks)", _test(model, data)))
    console.print()
    console.print(_lines(act, rows, args.episodes))

    console.print(f"\n[bold]4. Using it.[/] Five {act.classes} that training never saw, one example each; then others.")
    predictor, sentence, picture = _use(act, model, data)
    console.print(f"   {sentence}")
    with atomic_write(args.out / "episode.png") as file:
        file.write(picture)
    predictor.save(args.out / "model")
    seconds = time.monotonic() - started
    details = {
        "Command": f"quickstudy demo --domain {args.domain} --epochs {epochs} --episodes {args.episodes}",
        "Training": f"{epochs * 100} episodes, {plan['ways']}-way 1-shot, {plan['queries']} queries; {act.network}, "
        f"Adam {act.rate:g}",
        "Time": f"{seconds:.0f} s, threads: {torch.get_num_threads()}, {platform.machine()}",
        "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    _write(act, args.out / "report.html", rows, args.episodes, sentence, picture, details)
    console.print(f"\nIn {seconds:.0f} s. Look at {args.out / 'report.html'} and {args.out / 'episode.png'}.")
    console.print("The five classes as a page to try, to which more can be taught:")
    console.print(f"   quickstudy serve {args.out / 'model'}")
    if predictor.modality.column_names is None:
        console.print(f"Classes of your own, a folder of a few {act.examples} for each:")
        console.print(f"   quickstudy adapt {checkpoint} --support known/ --out mine/")
    else:
        console.print(f"{act.classes.capitalize()} of your own, a table of a few {act.examples} of each:")
        console.print(f"   quickstudy adapt {checkpoint} --support known.csv --target_field NAME --out mine/")
    return 0


def _table_of(data: DataModule, stage: Any) -> Table:
    table = data.table(stage)
    assert table is not None
    return table


def _summary(act: Act, table: Table) -> str:
    groups = sorted({name.split("/")[0] for name in table.classes})
    more = f" and {len(groups) - 3} more" if len(groups) > 3 else ""
    return f"{len(table.classes):>5} {act.classes}, {len(table):>6} {act.examples}: {', '.join(groups[:3])}{more}"


def _test(model: Classifier, data: DataModule) -> list[Estimate]:
    estimates = []
    for shots in _SHOTS:
        assert model.plan is not None
        model.plan = replace(model.plan, test_shots=shots)
        (found,) = Trainer(**_QUIET, enable_progress_bar=False).test(model, datamodule=data, verbose=False)
        estimates.append(Estimate(found["test_accuracy"], found["test_accuracy_ci95"], int(found["test_episodes"])))
    return estimates


def _lines(act: Act, rows: list[Row], episodes: int) -> Lines:
    table = Lines(title=f"Accuracy in % with 95% interval, {episodes} episodes of {act.classes} never seen")
    table.add_column("")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.name, *map(told, row.estimates))
    return table


def _use(act: Act, model: Classifier, data: DataModule) -> tuple[Predictor, str, bytes]:
    """Adapt to five classes from one example each, classify others of them, and draw that."""
    table = _table_of(data, "test")
    targets = table.targets
    assert targets is not None
    five = act.five(table.classes)
    support = [int(table.index.rows(code)[0]) for code in five]
    queries = [int(row) for code in five for row in table.index.rows(code)[1 : 1 + act.asked]]
    inputs, asked = (
        table.inputs[rows] if isinstance(table.inputs, Tensor) else [table.inputs[row] for row in rows]
        for rows in (support, queries)
    )
    known, truth = ([act.label(table.classes[int(targets[row])]) for row in rows] for rows in (support, queries))

    predictor = model.adapt(inputs, known)
    answers = predictor.predict(asked)
    sure = predictor.predict_proba(asked).max(1)

    right = sum(answer == true for answer, true in zip(answers, truth, strict=True))
    sentence = f"{right} of {len(queries)} {act.examples} of five {act.classes} told rightly, after one example each."
    certain = [answer == true for answer, true, each in zip(answers, truth, sure.tolist(), strict=True) if each > _SURE]
    if not all(certain):
        sentence += (
            f" Of the {len(certain)} that it was more than {100 * _SURE:.0f}% sure of, {sum(certain)} are right: one "
            "example of each class does not tell how sure to be."
        )
    title = f"Five {act.classes} that training never saw, one example each: {right} of {len(queries)} right"
    look = [[_seen(predictor, each) for each in some] for some in (inputs, asked)]
    return predictor, sentence, episode_picture(look[0], known, look[1], truth, answers, sure.tolist(), title)


def _seen(predictor: Predictor, item: Any) -> Tensor | str:
    """Return what the eye is shown of an example: a picture, or a text."""
    modality = predictor.modality
    if not modality.shown_as:
        assert isinstance(item, Tensor)
        return item
    shown = modality.show(item, modality(item))
    if modality.shown_as.startswith("text/"):
        return shown.decode()
    return torch.from_numpy(np.array(Image.open(io.BytesIO(shown)).convert("RGB"))).permute(2, 0, 1)


def _write(
    act: Act,
    path: Path,
    rows: list[Row],
    episodes: int,
    sentence: str,
    picture: bytes,
    details: dict[str, str],
) -> None:
    write_report(
        path,
        title=f"quickstudy: {act.classes} it never saw",
        lead=f"A small network was trained on other {act.unseen}. {sentence}",
        columns=_COLUMNS,
        rows=rows,
        notes=[
            f"Each figure is the mean over {episodes} episodes of {act.unseen} that training never saw, with the "
            f"half-width of its 95% interval, which covers the draw of episodes from these {act.classes}.",
            f"An episode: 5 {act.classes}, 1 or 5 {act.examples} of each to learn from, {act.plan['test_queries']} "
            "further ones of each to classify. Guessing is right in 20%.",
            "Inductive: each example is classified on its own, without a look at the others to be classified.",
        ],
        pictures=[
            Picture(
                "Blue: the one example shown. Green: classified rightly. Red: wrongly, with the answer.",
                picture,
                wide=True,
            )
        ],
        details=details,
    )
