"""``quickstudy demo``: from nothing to a model that reads scripts it never saw, in about three minutes."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import platform
import time
import unicodedata
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from quickstudy.data.stages import STAGES
from quickstudy.errors import ConfigError
from quickstudy.files import atomic_write
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.kinds.metrics import Estimate
from quickstudy.runs.report import Picture, Row, episode_picture, told, write_report
from quickstudy.runs.results import versions
from quickstudy.trainer import Trainer

_SHOTS = (1, 5)
_COLUMNS = tuple(f"5-way {shots}-shot" for shots in _SHOTS)
_SCRIPT = "Georgian"
_PLAN: dict[str, Any] = {
    "ways": 30,
    "shots": 1,
    "queries": 4,
    "meta_batch_size": 1,
    "epoch_length": 100,
    "test_ways": 5,
    "test_queries": 3,
}
_QUIET: dict[str, Any] = {"devices": 1, "logger": False, "enable_model_summary": False}


def run(args: argparse.Namespace) -> int:
    """Meta-train on Glyphs, test on scripts that training never saw, then use the model."""
    for name in ("epochs", "episodes"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} {getattr(args, name)}: it must be at least 1")
    started = time.monotonic()
    console = Console(highlight=False, soft_wrap=True)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(0, verbose=False)
    args.out.mkdir(parents=True, exist_ok=True)

    console.print("[bold]1. Data.[/] Glyphs: characters drawn in the typefaces that come with matplotlib.")
    data = ImageClassificationData.from_benchmark("glyphs")
    for stage in STAGES[:3]:
        console.print(f"   {stage:<6}{_summary(data, stage)}")

    plan = {**_PLAN, "test_epoch_length": args.episodes}
    model = ImageClassifier(
        backbone="conv4",
        backbone_kwargs={"in_channels": 1},
        training_strategy="prototypicalnetworks",
        training_strategy_kwargs=plan,
        learning_rate=2e-3,
        lr_scheduler=("CosineAnnealingLR", {"T_max": args.epochs}),
    )
    pixels = ImageClassifier(
        backbone=nn.Flatten(), training_strategy="nearest_neighbour", training_strategy_kwargs=plan
    )
    console.print(f"\n[bold]2. Before training[/], on {args.episodes} episodes of 5 characters of the test scripts.")
    rows = [Row("nearest neighbour on pixels", _test(pixels, data)), Row("untrained encoder", _test(model, data))]
    for row in rows:
        console.print(f"   {row.name}, one example each: {told(row.estimates[0])} %")

    console.print("\n[bold]3. Meta-training[/] prototypical networks on episodes of 30 characters, one example each.")
    trainer = Trainer(
        **_QUIET, max_epochs=args.epochs, limit_val_batches=100, num_sanity_val_steps=0, enable_checkpointing=False
    )
    trainer.fit(model, datamodule=data)
    checkpoint = args.out / "glyphs.ckpt"
    trainer.save_checkpoint(checkpoint)
    rows.append(Row("trained encoder (prototypical networks)", _test(model, data)))
    console.print()
    console.print(_table(rows, args.episodes))

    console.print(f"\n[bold]4. Using it.[/] Five {_SCRIPT} letters, one image each; then other drawings of them.")
    sentence, picture = _use(model, data)
    console.print(f"   {sentence}")
    with atomic_write(args.out / "episode.png") as file:
        file.write(picture)
    seconds = time.monotonic() - started
    details = {
        "Command": f"quickstudy demo --epochs {args.epochs} --episodes {args.episodes}",
        "Training": f"{args.epochs * 100} episodes, 30-way 1-shot with 4 queries; Conv4 of 64 filters, Adam 2e-3",
        "Time": f"{seconds:.0f} s with {torch.get_num_threads()} threads, {platform.machine()}",
        "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    _write(args.out / "report.html", rows, args.episodes, sentence, picture, details)
    console.print(f"\nIn {seconds:.0f} s. Look at {args.out / 'report.html'} and {args.out / 'episode.png'}.")
    console.print("The model is yours to use; teach it classes of your own, one folder of small drawings each:")
    console.print(f"   quickstudy predict --checkpoint {checkpoint} --support known/ --data.predict_folder unknown/")
    return 0


def _summary(data: ImageClassificationData, stage: Any) -> str:
    table = data.table(stage)
    assert table is not None
    scripts = sorted({name.split("/")[0] for name in table.classes})
    more = f" and {len(scripts) - 3} more" if len(scripts) > 3 else ""
    return f"{len(table.classes):>5} characters, {len(table):>6} images: {', '.join(scripts[:3])}{more}"


def _test(model: ImageClassifier, data: ImageClassificationData) -> list[Estimate]:
    estimates = []
    for shots in _SHOTS:
        assert model.plan is not None
        model.plan = dataclasses.replace(model.plan, test_shots=shots)
        (found,) = Trainer(**_QUIET, enable_progress_bar=False).test(model, datamodule=data, verbose=False)
        estimates.append(Estimate(found["test_accuracy"], found["test_accuracy_ci95"], int(found["test_episodes"])))
    return estimates


def _table(rows: list[Row], episodes: int) -> Table:
    table = Table(title=f"Accuracy in % with 95% interval, {episodes} episodes of characters never seen")
    table.add_column("")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.name, *map(told, row.estimates))
    return table


def _use(model: ImageClassifier, data: ImageClassificationData) -> tuple[str, bytes]:
    """Adapt to five letters from one image each, classify the other drawings of them, and draw that."""
    table = data.table("test")
    assert table is not None and table.targets is not None and isinstance(table.inputs, torch.Tensor)
    letters = [code for code, name in enumerate(table.classes) if name.startswith(_SCRIPT)][:40:8]
    support = [int(table.index.rows(code)[0]) for code in letters]
    queries = [int(row) for code in letters for row in table.index.rows(code)[1:9]]
    characters = [unicodedata.lookup(name.split("/", 1)[1]) for name in table.classes]
    known = [characters[table.targets[row]] for row in support]
    truth = [characters[table.targets[row]] for row in queries]

    predictor = model.adapt(table.inputs[support], known)
    answers = predictor.predict(table.inputs[queries])
    sure = predictor.predict_proba(table.inputs[queries]).max(1)

    right = sum(answer == true for answer, true in zip(answers, truth, strict=True))
    title = f"Five {_SCRIPT} letters that training never saw, one example each: {right} of {len(queries)} right"
    sentence = f"{right} of {len(queries)} drawings of five {_SCRIPT} letters read rightly, after one example of each."
    return sentence, episode_picture(
        table.inputs[support], known, table.inputs[queries], truth, answers, sure.tolist(), title
    )


def _write(path: Path, rows: list[Row], episodes: int, sentence: str, picture: bytes, details: dict[str, str]) -> None:
    write_report(
        path,
        title="quickstudy: characters it never saw",
        lead=f"A small network was trained on characters of other scripts. {sentence}",
        columns=_COLUMNS,
        rows=rows,
        notes=[
            f"Each figure is the mean over {episodes} episodes of scripts that training never saw, with the half-width "
            "of its 95% interval, which covers the draw of episodes from these characters.",
            "An episode: 5 characters, 1 or 5 images of each to learn from, 3 further images of each to classify. "
            "Guessing is right in 20%.",
            "Inductive: each image is classified on its own, without a look at the others to be classified.",
        ],
        pictures=[
            Picture("Blue: the one example shown. Green: classified rightly. Red: wrongly, with the answer.", picture)
        ],
        details=details,
    )
