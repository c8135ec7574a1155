"""What texts reach on public data by a frozen MiniLM, with intervals, beside scikit-learn on the same vectors.

    python benchmarks/texts.py --root data/text                   # all; or
    python benchmarks/texts.py --root data/text --only episodes

In the folder: banking77_train.csv.gz, banking77_test.csv.gz and clinc150_test.csv.gz, of the columns text and label.
Episodes are the same 600 for all, of test classes, 10 queries of each; embeddings are made once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import domains
import pandas as pd
import torch
from embeddings import QUIET
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from quickstudy import DataModule, Trainer
from quickstudy.algorithms import STRATEGIES
from quickstudy.batches import stack
from quickstudy.data.episodes import EpisodePlan
from quickstudy.functional.intervals import mean_interval, proportion_interval
from quickstudy.learning.adapting import in_words
from quickstudy.nets import build_encoder
from quickstudy.text import Text, TextEmbedder, TextEmbeddingData

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


def names(root: Path) -> dict[str, Any]:
    """banking77 and CLINC150 by the names of the classes, all of them and 5-way, beside one sentence of each."""
    return {data: _by_name(read(root / f"{data}_test.csv.gz")) for data in ("banking77", "clinc150")}


def _by_name(frame: pd.DataFrame) -> dict[str, Any]:
    classes = sorted(frame["label"].unique())
    codes = torch.tensor([classes.index(label) for label in frame["label"]])
    sentences, words = embedded(frame["text"].tolist()), embedded([in_words(Text(), name) for name in classes])
    learner = STRATEGIES["nearest_centroid"]()
    logits = learner.classify(words[None], torch.arange(len(classes))[None], sentences[None], len(classes))[0]
    every = _told(*proportion_interval(int((logits.argmax(1) == codes).sum()), len(codes)))
    # An episode does not say which classes it has: their codes come along as the first feature.
    rows = torch.cat([codes[:, None].to(sentences), sentences], 1)
    data = DataModule.from_tensors(test_data=rows, test_targets=frame["label"].tolist())
    rights: dict[str, list[float]] = {}
    for support, targets, query, wanted in data.episode_loader("test", EpisodePlan(**domains.plan(5, 1))):
        named, shown, asked = words[support[0, :, 0].long()][None], support[..., 1:], query[..., 1:]
        for form, taught in (("names", [named]), ("a sentence", [shown]), ("names and a sentence", [named, shown])):
            found = learner.classify(torch.cat(taught, 1), targets.repeat(1, len(taught)), asked, 5)
            rights.setdefault(form, []).append(float((found.argmax(-1) == wanted).float().mean()))
    five = {form: _told(*mean_interval(torch.tensor(right))) for form, right in rights.items()}
    chance = round(100 / len(classes), 2)
    return {f"all {len(classes)} classes": {"names": every, "chance": chance}, "5-way": {**five, "chance": 20.0}}


def _told(accuracy: Any, half: Any) -> dict[str, float]:
    return {"accuracy": round(100 * float(accuracy), 2), "ci95": round(100 * float(half), 2)}


def contrastive(root: Path) -> dict[str, Any]:
    """banking77, all 77 classes, 8 sentences of each: a linear probe before and after contrastive fine-tuning."""
    train, test = read(root / "banking77_train.csv.gz"), read(root / "banking77_test.csv.gz")
    few = train.groupby("label", group_keys=False).sample(8, random_state=0)
    texts, labels = few["text"].tolist(), few["label"].tolist()
    data = TextEmbeddingData.from_lists(texts, labels, batch_size=64, max_length=32)
    torch.manual_seed(0)
    model = TextEmbedder(backbone="minilm", learning_rate=5e-5, optimizer="AdamW")
    figures: dict[str, Any] = {"data": "banking77", "sentences": len(texts), "tested on": len(test)}

    def probed(began: float) -> dict[str, float]:
        learned = model.adapt(texts, labels, strategy="linear_probe", strategy_kwargs={"regularization": 0.1})
        took = round(time.process_time() - began, 1)
        answers = learned.predict(test["text"].tolist(), may_be_unknown=False)
        return _told(*proportion_interval(int((test["label"] == answers).sum()), len(test))) | {"cpu_seconds": took}

    figures["frozen"] = probed(time.process_time())
    began = time.process_time()
    Trainer(**QUIET, max_epochs=10).finetune(model, datamodule=data)
    return {**figures, "contrastive, 10 epochs": probed(began)}


MEASUREMENTS: dict[str, domains.Measurement] = {"episodes": episodes, "names": names, "contrastive": contrastive}

if __name__ == "__main__":
    domains.main("texts", __doc__, MEASUREMENTS)
