"""What texts reach on public data by a frozen MiniLM, with intervals, beside scikit-learn on the same vectors.

    python benchmarks/texts.py --root data/text                   # all; or
    python benchmarks/texts.py --root data/text --only episodes

In the folder: banking77_test.csv.gz, of the columns text and label. Episodes are the same 600 for all, of test classes,
10 queries of each; embeddings are made once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import domains
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from quickstudy import DataModule
from quickstudy.batches import stack
from quickstudy.nets import build_encoder
from quickstudy.text import Text

SHOTS = (1, 5)
OURS: dict[str, dict[str, Any]] = {
    "linear_probe": {"strategy": "linear_probe"},
    "linear_probe, regularization=0.1": {"strategy": "linear_probe", "regularization": 0.1},
    "nearest_centroid": {"strategy": "nearest_centroid"},
}
"""By the name of a row: the strategy and its options. The second is scikit-learn's C=10."""
PEERS: dict[str, Callable[[], Any]] = {
    "scikit-learn, LogisticRegression(C=10)": lambda: LogisticRegression(C=10, max_iter=1000),
    "scikit-learn, NearestCentroid": NearestCentroid,
}
_AT_ONCE = 64


def read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, keep_default_na=False)


@torch.inference_mode()
def embedded(texts: list[str]) -> Tensor:
    """Return ``[N, D]`` of N sentences; those of like length together."""
    encoder = build_encoder("minilm").eval()
    text = Text(**(encoder.reads or {})["options"])
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    parts = torch.tensor(order).split(_AT_ONCE)
    found = torch.cat([encoder(stack([text.load(texts[row]) for row in rows])) for rows in parts])
    return found[torch.tensor(order).argsort()]


def episodes(root: Path) -> dict[str, Any]:
    """banking77, 5-way 1- and 5-shot."""
    frame, began = read(root / "banking77_test.csv.gz"), time.process_time()
    vectors = embedded(frame["text"].tolist())
    figures: dict[str, Any] = {
        "data": "banking77",
        "sentences": len(frame),
        "embedding_cpu_seconds": round(time.process_time() - began, 1),
    }
    data = DataModule.from_tensors(test_data=vectors, test_targets=frame["label"].tolist())
    for shots in SHOTS:
        plan = domains.plan(5, shots)
        rows = {name: domains.judged(data, plan, **asked) for name, asked in OURS.items()}
        figures[f"5-way {shots}-shot"] = rows | {
            name: domains.judged_peer(data, plan, make) for name, make in PEERS.items()
        }
    return figures


MEASUREMENTS: dict[str, domains.Measurement] = {"episodes": episodes}

if __name__ == "__main__":
    domains.main("texts", __doc__, MEASUREMENTS)
