"""What each domain reaches on public data, with intervals: for now texts by a frozen MiniLM.

python benchmarks/domains.py --root data/text    # banking77_test.csv.gz (text, label) lies there

Embeddings are made once. Each figure is of the same 600 episodes of test classes, 10 queries of each; beside ours stand
scikit-learn's logistic regression (C=10) and nearest means.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from embeddings import QUIET
from record import write
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from torch import Tensor, nn

from quickstudy import Classifier, DataModule, Trainer
from quickstudy.batches import stack
from quickstudy.data.episodes import EpisodePlan
from quickstudy.functional.intervals import mean_interval
from quickstudy.nets import build_encoder
from quickstudy.text import Text

EPISODES, WAYS, QUERIES, SHOTS = 600, 5, 10, (1, 5)
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear_probe": ("linear_probe", {}),
    "linear_probe, regularization=0.1": ("linear_probe", {"regularization": 0.1}),
    "nearest_centroid": ("nearest_centroid", {}),
}
"""By the name of a row: the strategy and its options. The second is scikit-learn's C=10."""
PEERS: dict[str, Callable[[], Any]] = {
    "scikit-learn, LogisticRegression(C=10)": lambda: LogisticRegression(C=10, max_iter=1000),
    "scikit-learn, NearestCentroid": NearestCentroid,
}
_AT_ONCE = 64


@torch.inference_mode()
def embedded(texts: list[str]) -> Tensor:
    """Return ``[N, D]`` of N sentences; those of like length together."""
    encoder = build_encoder("minilm").eval()
    text = Text(**(encoder.reads or {})["options"])
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    parts = torch.tensor(order).split(_AT_ONCE)
    found = torch.cat([encoder(stack([text.load(texts[row]) for row in rows])) for rows in parts])
    return found[torch.tensor(order).argsort()]


def plan(shots: int) -> dict[str, Any]:
    return {"ways": WAYS, "shots": shots, "queries": QUERIES, "meta_batch_size": 1, "test_epoch_length": EPISODES}


def judged(data: DataModule, shots: int, strategy: str, options: dict[str, Any]) -> dict[str, float]:
    """Return the share of right answers of a strategy, and half its 95% interval, in percent."""
    options = {**plan(shots), **options}
    model = Classifier(backbone=nn.Flatten(), training_strategy=strategy, training_strategy_kwargs=options)
    began = time.process_time()
    (found,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    return _told(found["test_accuracy"], found["test_accuracy_ci95"], began)


def of_peer(data: DataModule, shots: int, make: Callable[[], Any]) -> dict[str, float]:
    """Return the same of a classifier of scikit-learn, on the same episodes."""
    began, right = time.process_time(), []
    for episode in data.episode_loader("test", EpisodePlan(**plan(shots))):
        support, targets, query, wanted = (part[0].numpy() for part in episode)
        right.append(make().fit(support, targets).score(query, wanted))
    return _told(*mean_interval(torch.tensor(right)), began)


def _told(accuracy: float, half: float, began: float) -> dict[str, float]:
    figures = {"accuracy": round(100 * float(accuracy), 2), "ci95": round(100 * float(half), 2)}
    return {**figures, "cpu_seconds": round(time.process_time() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frame = pd.read_csv(arguments.root / "banking77_test.csv.gz", keep_default_na=False)
    began = time.process_time()
    vectors = embedded(frame["text"].tolist())
    took = round(time.process_time() - began, 1)
    banking: dict[str, Any] = {"sentences": len(frame), "embedding_cpu_seconds": took}
    for shots in SHOTS:
        data = DataModule.from_tensors(test_data=vectors, test_targets=frame["label"].tolist())
        rows = {name: judged(data, shots, *asked) for name, asked in OURS.items()}
        rows |= {name: of_peer(data, shots, make) for name, make in PEERS.items()}
        for name, found in rows.items():
            print(f"{WAYS}-way {shots}-shot, {name}: {found}")
        banking[f"{WAYS}-way {shots}-shot"] = rows
    print(write("domains", "python benchmarks/domains.py --root DATA", text={"banking77, frozen minilm": banking}))


if __name__ == "__main__":
    main()
