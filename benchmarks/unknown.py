"""Telling the unknown from the known, and how far probabilities are off, on test classes of three data sets.

    python benchmarks/unknown.py             # about 20 minutes on one core; writes results/unknown.json
    python benchmarks/unknown.py --quick     # about 2 minutes: encoders hardly trained, few episodes; writes nothing

An episode has W known classes, of which a head sees a support set, and W unknown ones; 15 queries of each class. AUROC
is how often a score of a known query exceeds one of an unknown query. The scores of familiarity are compared on
validation classes, from which the library's was chosen, and on test classes; everything else is on test classes.
Encoders are trained by prototypical networks and kept in a cache folder; heads are run on embeddings. Inductive.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import record
import torch
from embeddings import EPISODES, QUIET, embeddings
from rich.console import Console
from rich.table import Table as Grid
from torch import Tensor, nn

from quickstudy import Trainer
from quickstudy.algorithms import STRATEGIES, EmbeddingAlgorithm
from quickstudy.functional.calibration import area_under_roc, expected_calibration_error
from quickstudy.functional.distances import cosine, squared_euclidean
from quickstudy.functional.intervals import mean_interval
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.learning.confidence import confidence_of, familiarity, left_out
from quickstudy.nets import Encoder

SETTINGS = ((5, 1), (5, 5), (10, 5))
QUERIES = 15
IMAGES = "CIFAR-FS as WebP of quality 92, miniImageNet as JPEG of quality 60"
OPTIONS: dict[str, dict[str, Any]] = {"anil": {"head": "shared"}}
TRAINING = {  # of heads with parameters, on embeddings of training classes: steps, learning rate
    "anil": (300, 1e-3),
    "matchingnetworks": (300, 2e-2),
    "meta_baseline": (300, 2e-2),
    "metaoptnet": (300, 2e-2),
    "r2d2": (300, 2e-2),
    "relationnetworks": (1500, 1e-3),
}
DISTANCE = "mean, distance"
"""What the others are compared with."""
Figures = dict[str, list[float]]
"""By name, one figure for each episode."""


class Case:
    """One episode: the support of W classes, queries of those, and as many of W others."""

    def __init__(self, embedded: Tensor, ways: int, shots: int, generator: torch.Generator) -> None:
        classes = torch.randperm(len(embedded), generator=generator)[: 2 * ways]
        places = torch.rand(2 * ways, embedded.shape[1], generator=generator).argsort(1)[:, : shots + QUERIES]
        drawn = embedded[classes[:, None], places].flatten(2)
        self.ways = ways
        self.support = drawn[:ways, :shots]
        self.support_SD = self.support.flatten(0, 1)
        self.targets_S = torch.arange(ways).repeat_interleave(shots)
        self.means_WD = self.support.mean(1)
        self.queries_ND = drawn[:, shots:].flatten(0, 1)  # the known before the unknown
        self.known = ways * QUERIES
        self.targets_N = torch.arange(ways).repeat_interleave(QUERIES)

    def auroc(self, score_N: Tensor) -> float:
        return area_under_roc(score_N[: self.known], score_N[self.known :])


def _centred(case: Case, points_PD: Tensor) -> Tensor:
    centre_D = case.means_WD.mean(0)
    return cosine(case.queries_ND - centre_D, points_PD - centre_D).amax(1)


def _by_spread(case: Case) -> Tensor:
    """Distances in units of each class's spread, which is drawn halfway to that of all."""
    spread_W = (case.support - case.means_WD[:, None]).square().sum(2).mean(1)
    spread_W = spread_W + spread_W.mean() + 1e-12
    return -(squared_euclidean(case.queries_ND, case.means_WD) / spread_W).amin(1)


def _relative(case: Case) -> Tensor:
    distances_NW = squared_euclidean(case.queries_ND, case.means_WD)
    return -distances_NW.amin(1) / distances_NW.mean(1)


def _less_quarter(case: Case) -> Tensor:
    distances_NW = squared_euclidean(case.queries_ND, case.means_WD)
    return -(distances_NW.amin(1) - distances_NW.mean(1) / 4)


SCORES: dict[str, Callable[[Case], Tensor]] = {
    DISTANCE: lambda case: -squared_euclidean(case.queries_ND, case.means_WD).amin(1),
    "mean, cosine": lambda case: cosine(case.queries_ND, case.means_WD).amax(1),
    "mean, centred cosine": lambda case: _centred(case, case.means_WD),
    "mean, distance by spread": _by_spread,
    "mean, distance by mean distance": _relative,
    "mean, distance less 1/4 of mean distance": _less_quarter,
    "example, distance": lambda case: -squared_euclidean(case.queries_ND, case.support_SD).amin(1),
    "example, cosine": lambda case: cosine(case.queries_ND, case.support_SD).amax(1),
    "example, centred cosine": lambda case: _centred(case, case.support_SD),
}
"""Of familiarity with what is nearest, a class mean or a support example."""


def heads_for(trained_on: Tensor, share: float) -> dict[str, EmbeddingAlgorithm]:
    """Return every inductive head of embeddings; those with parameters are trained by the library's trainer."""
    heads = {}
    codes = torch.arange(len(trained_on)).repeat_interleave(trained_on.shape[1])
    data = ImageClassificationData.from_tensors(trained_on.flatten(0, 1), codes)
    for name in STRATEGIES.names():
        kind = STRATEGIES[name]
        if not issubclass(kind, EmbeddingAlgorithm) or kind.transductive:
            continue
        if name not in TRAINING:
            head = kind(**OPTIONS.get(name, {}))
            head.meet(Encoder(nn.Identity()), tuple(trained_on.shape[2:]), 5)
            heads[name] = head.eval()
            continue
        steps, rate = TRAINING[name]
        steps = max(1, round(share * steps))
        torch.manual_seed(0)
        model = ImageClassifier(
            backbone=nn.Identity(),
            learning_rate=rate,
            training_strategy=name,
            training_strategy_kwargs={
                **OPTIONS.get(name, {}),
                "ways": 5,
                "shots": 5,
                "queries": 10,
                "meta_batch_size": 4,
                "epoch_length": 4 * steps,
            },
        )
        Trainer(max_epochs=1, limit_val_batches=0, **QUIET).fit(model, datamodule=data)
        assert isinstance(model.algorithm, EmbeddingAlgorithm)
        heads[name] = model.algorithm.eval()
    return heads


@torch.inference_mode()
def compare_scores(embedded: Tensor, ways: int, shots: int, episodes: int) -> Figures:
    """Return the AUROC of every score."""
    figures: Figures = defaultdict(list)
    generator = torch.Generator().manual_seed(1)
    for _ in range(episodes):
        case = Case(embedded, ways, shots, generator)
        for name, score in SCORES.items():
            figures[name].append(case.auroc(score(case)))
    return figures


@torch.inference_mode()
def measure_head(head: EmbeddingAlgorithm, embedded: Tensor, ways: int, shots: int, episodes: int) -> Figures:
    """Return what a head's probabilities and logits are worth, and what is called unknown."""
    figures: Figures = defaultdict(list)
    encoder = Encoder(nn.Identity())
    generator, chance = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    for _ in range(episodes):
        case = Case(embedded, ways, shots, generator)
        state = head.adapt(encoder, case.support_SD, case.targets_S, ways)
        logits_NW = head.answer(encoder, state, case.queries_ND)
        found = confidence_of(left_out(head, case.support, case.means_WD))
        known_NW = logits_NW[: case.known]
        figures["accuracy"].append(float((known_NW.argmax(1) == case.targets_N).float().mean()))
        figures["AUROC of the largest logit"].append(case.auroc(logits_NW.amax(1)))
        figures["temperature"].append(found.temperature)
        for name, temperature in (("at temperature 1", 1.0), ("", found.temperature)):
            chances_NW = (logits_NW / temperature).softmax(1)
            sure_NW = chances_NW[: case.known]
            drawn_N = torch.multinomial(sure_NW, 1, generator=chance)[:, 0]
            loss = -sure_NW.clamp(min=1e-12).log().gather(1, case.targets_N[:, None]).mean()
            own = {
                "AUROC of the largest probability": case.auroc(chances_NW.amax(1)),
                "ECE": expected_calibration_error(sure_NW, case.targets_N),
                "ECE if the probabilities were true": expected_calibration_error(sure_NW, drawn_N),
                "cross-entropy": float(loss),
            }
            for what, value in own.items():
                figures[f"{what} {name}".strip()].append(value)
        figures["AUROC of familiarity"].append(case.auroc(familiarity(case.queries_ND, case.means_WD)))
        rejected_N = familiarity(case.queries_ND, case.means_WD) < found.threshold
        figures["known called unknown"].append(float(rejected_N[: case.known].float().mean()))
        figures["unknown accepted"].append(1 - float(rejected_N[case.known :].float().mean()))
    figures["ECE, change by the temperature"] = _minus(figures["ECE"], figures["ECE at temperature 1"])
    figures["cross-entropy, change by the temperature"] = _minus(
        figures["cross-entropy"], figures["cross-entropy at temperature 1"]
    )
    for what in ("logit", "probability"):
        figures[f"AUROC, familiarity less the largest {what}"] = _minus(
            figures["AUROC of familiarity"], figures[f"AUROC of the largest {what}"]
        )
    return figures


def _minus(ones: list[float], others: list[float]) -> list[float]:
    return [one - other for one, other in zip(ones, others, strict=True)]


def summary(figures: Figures) -> dict[str, list[float]]:
    """Return the mean of each figure over the episodes and the half-width of its 95% interval."""
    return {name: _short(*mean_interval(torch.tensor(values))) for name, values in figures.items()}


def _short(*values: float) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def less_distance(figures: Figures) -> dict[str, list[float]]:
    return summary({name: _minus(values, figures[DISTANCE]) for name, values in figures.items() if name != DISTANCE})


def over_all(found: list[Figures]) -> dict[str, list[float]]:
    """Return by how much each score exceeds the distance, the data sets and settings counting alike."""
    parts = [less_distance(figures) for figures in found]
    return {
        name: _short(
            sum(part[name][0] for part in parts) / len(parts),
            sum(part[name][1] ** 2 for part in parts) ** 0.5 / len(parts),
        )
        for name in parts[0]
    }


def show(title: str, columns: dict[str, dict[str, list[float]]], rows: list[str], console: Console) -> None:
    """Print percentages, a row for each figure."""
    grid = Grid("", *columns, title=title)
    for row in rows:
        shown = (column.get(row) for column in columns.values())
        grid.add_row(row, *("" if cell is None else f"{100 * cell[0]:.1f} ± {100 * cell[1]:.1f}" for cell in shown))
    console.print(grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", choices=list(EPISODES), default=list(EPISODES))
    parser.add_argument("--root", type=Path, help="folder with the data's archives; default: QUICKSTUDY_DATA")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/quickstudy/unknown", help="of embeddings")
    parser.add_argument("--episodes", type=int, default=200, help="of each setting")
    parser.add_argument("--scores", action="store_true", help="compare scores of familiarity alone; writes nothing")
    parser.add_argument("--quick", action="store_true", help="little of everything; writes nothing")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 260)
    share, episodes = (0.02, 20) if args.quick else (1.0, args.episodes)
    began = time.perf_counter()

    results: dict[str, Any] = {}
    found: dict[str, list[Figures]] = {"val": [], "test": []}
    for name in args.data:
        embedded = embeddings(name, args.root, args.cache, share)
        results[name] = {"training of the encoder": embedded["training"], "val": {}, "test": {}}
        for split, settings in (("val", SETTINGS[:2]), ("test", SETTINGS)):
            for ways, shots in settings:
                figures = compare_scores(embedded[split], ways, shots, 2 * episodes)
                found[split].append(figures)
                results[name][split][f"{ways}-way {shots}-shot"] = {
                    "AUROC": summary(figures),
                    "AUROC less that of the distance": less_distance(figures),
                }
            columns = {setting: result["AUROC"] for setting, result in results[name][split].items()}
            show(f"{name}, {split}: AUROC %", columns, list(SCORES), console)
        heads = {} if args.scores else heads_for(embedded["train"], share)
        for split, cases in (("val", episodes // 4), ("test", episodes)) if heads else ():
            for ways, shots in SETTINGS[:2]:
                setting = f"{ways}-way {shots}-shot"
                measured = {
                    head_name: summary(measure_head(head, embedded[split], ways, shots, cases))
                    for head_name, head in heads.items()
                }
                results[name][split][setting]["heads"] = measured
                title = f"{name}, {split}, {setting}: % ({time.perf_counter() - began:.0f} s)"
                show(title, measured, [row for row in measured["r2d2"] if row != "temperature"], console)
    title = "AUROC less that of the distance, over all"
    results[title] = {split: over_all(figures) for split, figures in found.items()}
    show(f"{title}: %", results[title], list(SCORES), console)
    if (args.quick, args.scores, args.episodes, args.data) == (False, False, 200, list(EPISODES)):
        path = record.write(
            "unknown",
            "python benchmarks/unknown.py",
            episodes={
                "of scores": 2 * episodes,
                "of heads": episodes,
                "of heads on validation classes": episodes // 4,
                "queries of each class": QUERIES,
            },
            heads={"options": OPTIONS, "trained (steps, learning rate)": TRAINING, "others": "without parameters"},
            images=IMAGES,
            not_run="MAML's family (maml, metasgd, boil, reptile, protomaml), which adapts the encoder",
            **results,
        )
        console.print(f"written: {path}")


if __name__ == "__main__":
    main()
