"""What each domain reaches on public data, with intervals: for now texts by a frozen MiniLM.

python benchmarks/domains.py --root data/text    # banking77_test.csv.gz (text, label) lies there

Embeddings are made once. Each figure is of 600 episodes of test classes, 10 queries of each; beside it stand
scikit-learn's logistic regression (C=10) and nearest means on the same kind of episodes, as they were measured before.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from embeddings import QUIET
from record import write
from torch import Tensor, nn

from quickstudy import Classifier, DataModule, Trainer
from quickstudy.batches import stack
from quickstudy.nets import build_encoder
from quickstudy.text import Text

EPISODES, WAYS, QUERIES = 600, 5, 10
BESIDE = {
    "linear_probe": {1: (87.27, 0.72), 5: (96.32, 0.33)},
    "nearest_centroid": {1: (86.97, 0.73), 5: (95.68, 0.38)},
}
"""Percent and half the interval, by shots: of scikit-learn 1.9's logistic regression and of nearest means."""
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


def judged(vectors: Tensor, labels: list[str], strategy: str, shots: int, **options: Any) -> dict[str, float]:
    """Return the share of right answers of a strategy on vectors, and half its 95% interval, in percent."""
    plan: dict[str, Any] = {
        "ways": WAYS,
        "shots": shots,
        "queries": QUERIES,
        "meta_batch_size": 1,
        "test_epoch_length": EPISODES,
    }
    plan |= options
    model = Classifier(backbone=nn.Flatten(), training_strategy=strategy, training_strategy_kwargs=plan)
    data = DataModule.from_tensors(test_data=vectors, test_targets=labels)
    began = time.process_time()
    (found,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    took = time.process_time() - began
    percent = {
        name: round(100 * found[key], 2)
        for name, key in (("accuracy", "test_accuracy"), ("ci95", "test_accuracy_ci95"))
    }
    return {**percent, "cpu_seconds": round(took, 1)}


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
    for strategy, beside in BESIDE.items():
        for shots, (accuracy, half) in beside.items():
            found = judged(vectors, frame["label"].tolist(), strategy, shots)
            banking[f"{strategy}, {WAYS}-way {shots}-shot"] = {**found, "beside": {"accuracy": accuracy, "ci95": half}}
            if strategy == "linear_probe":
                as_beside = judged(vectors, frame["label"].tolist(), strategy, shots, regularization=0.1)
                banking[f"{strategy}, regularization=0.1, {WAYS}-way {shots}-shot"] = as_beside
                print("C=10", shots, as_beside)
            print(strategy, shots, found)
    print(write("domains", "python benchmarks/domains.py --root DATA", text={"banking77, frozen minilm": banking}))


if __name__ == "__main__":
    main()
