"""What texts reach on public data by MiniLM, with intervals, beside scikit-learn on the same vectors.

    python benchmarks/texts.py --root data/text                   # all; or
    python benchmarks/texts.py --root data/text --only episodes

In the folder: banking77_train.csv.gz, banking77_test.csv.gz, clinc150_train.csv.gz, clinc150_test.csv.gz, of the
columns text and label, clinc150_unknown_test.csv.gz, and nlupp_multilabel.csv.gz, of text, labels, domain and fold.
Episodes are the same 600 for all, of test classes, 10 queries of each; embeddings are made once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import domains
import pandas as pd
import torch
import torch.nn.functional as F
from embeddings import QUIET
from lightning.pytorch import Callback
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import NearestCentroid
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from quickstudy import Classifier, DataModule, Predictor, Trainer
from quickstudy.algorithms import STRATEGIES
from quickstudy.batches import each, stack, take
from quickstudy.data.episodes import EpisodePlan
from quickstudy.episode import Episode
from quickstudy.functional.calibration import area_under_roc
from quickstudy.functional.intervals import mean_interval, proportion_interval
from quickstudy.functional.prototypes import prototypes
from quickstudy.learning.adapting import in_words
from quickstudy.learning.confidence import familiarity
from quickstudy.nets import Encoder, build_encoder
from quickstudy.nets.stages import stages_of
from quickstudy.nets.weights import WHEELS, wheel_file
from quickstudy.text import Text, TextClassificationData, TextClassifier, TextEmbedder, TextEmbeddingData

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
PROTOTYPES = STRATEGIES["prototypicalnetworks"]("cosine")
"""Nearest means by their angle, as MiniLM's vectors are of length 1."""
_AT_ONCE = 64
_SETFIT = 200
"""Steps, which take it as long as ours take for all of their epochs."""


def read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, keep_default_na=False)


@torch.inference_mode()
def embedded(texts: list[str], encoder: Encoder | None = None) -> Tensor:
    """Return ``[N, D]`` of N sentences; those of like length together."""
    encoder = (encoder or build_encoder("minilm")).eval()
    text = Text(**(encoder.reads or {})["options"])
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    parts = torch.tensor(order).split(_AT_ONCE)
    found = torch.cat([encoder(stack([text.load(texts[row]) for row in rows])) for rows in parts])
    return found[torch.tensor(order).argsort()]


def vectors_of(file: Path, rows: Sequence[int] | None = None) -> tuple[Tensor, list[str]]:
    """Return the vectors ``[N, D]`` of a file's sentences by the frozen encoder, and their labels; of some rows 0s."""
    frame = read(file)
    some = sorted({*(range(len(frame)) if rows is None else rows)})
    vectors = torch.zeros(len(frame), 384)
    vectors[some] = embedded(frame["text"].iloc[some].tolist())
    return vectors, frame["label"].tolist() if "label" in frame else []


def interval(values: Sequence[float], factor: float = 100) -> dict[str, float]:
    """Return the mean and half its 95% interval over draws or episodes, in percent."""
    mean, half = mean_interval(torch.tensor(values, dtype=torch.float64))
    return {"mean": round(factor * float(mean), 2), "ci95": round(factor * float(half), 2)}


def drawn(labels: Sequence[str], shots: int, seed: int) -> list[int]:
    """Return rows of so many examples of each class."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    rows: dict[str, list[int]] = {label: [] for label in sorted({*labels})}
    for row in order:
        if len(rows[labels[row]]) < shots:
            rows[labels[row]].append(row)
    return [row for some in rows.values() for row in some]


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


@torch.inference_mode()
def share_right(episode: Episode) -> float:
    """Return how much of an episode's queries nearest means answer right."""
    support_SD, targets_S, query_QD, targets_Q = (part[0] for part in episode)
    state = PROTOTYPES.fit(support_SD, targets_S, int(targets_S.max()) + 1)
    return float((PROTOTYPES.logits(state, query_QD).argmax(1) == targets_Q).double().mean())


def meta_training(root: Path) -> dict[str, Any]:
    """banking77: prototypical networks trained on 50 intents, the last two layers of MiniLM; judged on the other 27."""
    train, test = (read(root / f"banking77_{part}.csv.gz") for part in ("train", "test"))
    names = sorted({*train["label"]})
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist()
    known = {names[place] for place in order[:50]}
    train, test = train[train["label"].isin(known)], test[~test["label"].isin(known)]
    texts, labels = test["text"].tolist(), test["label"].tolist()
    options = {"metric": "cosine", "scale": 15.0, **domains.plan(12, 1, 4), "epoch_length": 60}
    torch.manual_seed(0)
    model = TextClassifier(
        backbone="minilm",
        training_strategy="prototypicalnetworks",
        training_strategy_kwargs=options,
        optimizer="AdamW",
        learning_rate=5e-5,
    )
    data = TextClassificationData.from_lists(train_texts=train["text"].tolist(), train_targets=train["label"].tolist())
    vectors, began = {"frozen": embedded(texts)}, time.process_time()
    Trainer(max_epochs=1, **QUIET).finetune(model, datamodule=data, strategy=("unfreeze_last", 2))
    figures: dict[str, Any] = {"data": "banking77, 50 and 27 intents", "steps": 60}
    figures["training_cpu_seconds"] = round(time.process_time() - began, 1)
    vectors["trained"] = embedded(texts, model.encoder)
    for shots in SHOTS:
        plan, right = domains.plan(5, shots), dict[str, list[float]]()
        for name, found in vectors.items():
            own = DataModule.from_tensors(test_data=found, test_targets=labels, episode_key="banking77")
            right[name] = [share_right(episode) for episode in own.episode_loader("test", EpisodePlan(**plan))]
        gain = [one - other for one, other in zip(right["trained"], right["frozen"], strict=True)]
        figures[f"5-way {shots}-shot"] = {
            **{name: interval(found) for name, found in right.items()},
            "gain, paired": interval(gain),
        }
    return figures


def adapted_layers(root: Path) -> dict[str, Any]:
    """What a task of MAML costs by what of MiniLM adapts, and trains."""
    texts = Text(**(build_encoder("minilm").reads or {})["options"])
    made_up = texts.made_up(30, torch.Generator().manual_seed(0), {"ids": torch.zeros(1, 20, dtype=torch.long)})
    support, query = (each(lambda leaf: leaf[None], take(made_up, rows)) for rows in (slice(5), slice(5, 30)))
    task = Episode(support, torch.arange(5)[None], query, torch.arange(5).repeat(5)[None])
    figures: dict[str, Any] = {"task": "5-way 1-shot, 25 queries of 20 tokens, 2 steps, second order"}
    for name, layers in (("last layer, which alone trains", 1), ("last layer", 1), ("all", "all")):
        encoder = build_encoder("minilm").train()
        algorithm = STRATEGIES["maml"](2, adaptation_layers=layers)
        algorithm.meet(encoder, (384,), 5)
        if "alone" in name:
            encoder.requires_grad_(False)
            for layer in stages_of(encoder.backbone)[-1]:
                layer.requires_grad_(True)
        took = []
        for _ in range(4):
            began = time.process_time()
            algorithm.judge(encoder, task, 5, algorithm.loss)[0].backward()
            took.append(time.process_time() - began)
        figures[name] = {"cpu_seconds": round(min(took), 2)}
    return figures


def every_class(name: str, draws: dict[int, int], root: Path) -> dict[str, Any]:
    """All classes from a few sentences of each: a linear probe on the frozen vectors."""
    labels = read(root / f"{name}_train.csv.gz")["label"].tolist()
    rows_of = {(shots, seed): drawn(labels, shots, seed) for shots, count in draws.items() for seed in range(count)}
    train, _ = vectors_of(root / f"{name}_train.csv.gz", [row for rows in rows_of.values() for row in rows])
    test, wanted = vectors_of(root / f"{name}_test.csv.gz")
    figures: dict[str, Any] = {"data": f"{name}, {len({*labels})} classes", "interval": "over draws of what is learned"}
    for shots, count in draws.items():
        right, seconds = dict[str, list[float]](), dict[str, float]()
        for seed in range(count):
            rows = rows_of[shots, seed]
            own = [labels[row] for row in rows]
            probe = Predictor(Encoder(nn.Flatten()), STRATEGIES["linear_probe"](regularization=0.1))
            peer = LogisticRegression(C=10, max_iter=1000)
            for what, learner, found, asked in (
                ("linear_probe", Predictor(Encoder(nn.Flatten()), STRATEGIES["linear_probe"]()), train[rows], test),
                ("linear_probe, regularization=0.1", probe, train[rows], test),
                ("scikit-learn, LogisticRegression(C=10)", peer, train[rows].numpy(), test.numpy()),
            ):
                began = time.process_time()
                right.setdefault(what, []).append(float(learner.fit(found, own).score(asked, wanted)))
                seconds[what] = seconds.get(what, 0) + time.process_time() - began
        figures[f"{shots} shots, {count} draws"] = {
            what: {**interval(found), "cpu_seconds": round(seconds[what] / count, 1)} for what, found in right.items()
        }
    return figures


def unknown(root: Path) -> dict[str, Any]:
    """CLINC150, 10 shots of 150 classes: sentences of these against those of none, by three scores."""
    labels = read(root / "clinc150_train.csv.gz")["label"].tolist()
    draws = [drawn(labels, 10, seed) for seed in range(3)]
    train, _ = vectors_of(root / "clinc150_train.csv.gz", [row for rows in draws for row in rows])
    known, wanted = vectors_of(root / "clinc150_test.csv.gz")
    strange, _ = vectors_of(root / "clinc150_unknown_test.csv.gz")
    both, scores, right = torch.cat([known, strange]), dict[str, list[float]](), list[float]()
    generator = torch.Generator().manual_seed(0)
    for rows in draws:
        own = [labels[row] for row in rows]
        predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES["linear_probe"](regularization=0.1)).fit(
            train[rows], own
        )
        chances = torch.from_numpy(predictor.predict_proba(both)).amax(1)
        targets = torch.tensor([sorted({*own}).index(label) for label in own])
        peer = LogisticRegression(C=10, max_iter=1000).fit(train[rows].numpy(), own)
        found = {
            "familiarity, what `unknown` rests on": familiarity(both, prototypes(train[rows], targets, 150)),
            "largest probability of the linear probe": chances,
            "scikit-learn, largest probability of LogisticRegression(C=10)": torch.from_numpy(
                peer.predict_proba(both.numpy())
            ).amax(1),
        }
        # Other sentences in each draw, so that the interval is over these, too.
        some = torch.randint(len(known), (len(known),), generator=generator)
        others = len(known) + torch.randint(len(strange), (len(strange),), generator=generator)
        for name, score in found.items():
            scores.setdefault(name, []).append(area_under_roc(score[some], score[others]))
        right.append(predictor.score(known, wanted))
    first, *rest = scores
    return {
        "data": "clinc150, 150 classes, 10 shots, 3 draws of both what is learned and what is asked",
        "AUROC": {name: interval(found) for name, found in scores.items()},
        "AUROC, the first less another, paired": {
            name: interval([one - two for one, two in zip(scores[first], scores[name], strict=True)]) for name in rest
        },
        "accuracy on the known": interval(right),
    }


class _Beside(Callback):
    """Takes after each of our steps one of a plain loop on the same rows, and notes the processor's time of both.

    Args:
        step: makes a step of the plain loop.
    """

    def __init__(self, step: Callable[[Any], None]) -> None:
        self._step = step
        self.ours: list[float] = []
        self.plain: list[float] = []

    def on_train_start(self, trainer: Any, *arguments: Any) -> None:
        self._rows = [rows for _, rows in trainer.train_dataloader.sampler]
        self._since = time.process_time()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = time.process_time()
        self._step(self._rows[batch_idx])
        self.ours.append(now - self._since)
        self._since = time.process_time()
        self.plain.append(self._since - now)


def plain_loop(root: Path) -> dict[str, Any]:
    """Fine-tuning all of MiniLM beside a plain loop of torch and transformers: one network, the same sentences."""
    steps = 60
    frame = read(root / "banking77_train.csv.gz").sample(16 * steps, random_state=0)
    test = read(root / "banking77_test.csv.gz").sample(1000, random_state=0)
    texts, labels = frame["text"].tolist(), frame["label"].tolist()
    options: dict[str, Any] = {"train_texts": texts, "train_targets": labels, "batch_size": 16}
    data = TextClassificationData.from_lists(**options, predict_texts=test["text"].tolist())
    torch.manual_seed(0)
    model = TextClassifier(backbone="minilm", optimizer="AdamW", learning_rate=3e-4)
    folder = wheel_file(WHEELS["minilm"]).parent
    tokenizer, network = (
        AutoTokenizer.from_pretrained(folder),
        AutoModel.from_pretrained(folder, add_pooling_layer=False),
    )

    def vectors(some: list[str]) -> Tensor:
        batch = tokenizer(some, padding=True, truncation=True, return_tensors="pt")
        states, mask = network(**batch).last_hidden_state, batch["attention_mask"][..., None]
        return F.normalize((states * mask).sum(1) / mask.sum(1), dim=1)

    with torch.no_grad():
        network.eval()
        apart = float((vectors(texts[:64]) - embedded(texts[:64], model.encoder)).abs().max())
    model.train()  # which drops out, as the other does
    network.train()
    names = sorted({*labels})
    codes, head = torch.tensor([names.index(label) for label in labels]), nn.Linear(384, len(names))
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=3e-4)

    def step(rows: Any) -> None:
        optimizer.zero_grad()
        F.cross_entropy(head(vectors([texts[row] for row in rows])), codes[rows]).backward()
        optimizer.step()

    beside = _Beside(step)
    trainer = Trainer(max_epochs=1, callbacks=[beside], **QUIET)
    trainer.fit(model, datamodule=data)
    ratios = [one / other for one, other in zip(beside.ours[2:], beside.plain[2:], strict=True)]
    ours, wanted = sum(beside.ours[2:]) / (steps - 2), test["label"].tolist()
    with torch.inference_mode():
        network.eval()
        parts = [head(vectors(test["text"].iloc[start : start + 64].tolist())) for start in range(0, len(test), 64)]
    answers = {
        "ours": trainer.predict(model, datamodule=data),
        "plain loop": [names[code] for code in torch.cat(parts).argmax(1).tolist()],
    }
    right = {name: [one == other for one, other in zip(found, wanted, strict=True)] for name, found in answers.items()}
    reading = {}
    for workers in (0, 1):
        batches = iter(TextClassificationData.from_lists(**options, num_workers=workers).batch_loader("train"))
        next(batches)  # which starts them
        began = time.process_time()
        for _ in batches:
            pass
        share = (time.process_time() - began) / (steps - 1) / ours
        reading[f"{workers} workers"] = round(share, 4)
    return {
        "steps": f"{steps} of 16 sentences, in turn with those of the plain loop; CPU seconds of the first process",
        "vectors differ by at most": apart,
        "ours": round(ours, 3),
        "ours over plain, paired": interval(ratios, 1),
        "accuracy on 1,000 others": {name: _told(*proportion_interval(sum(one), 1000)) for name, one in right.items()},
        "reading, tokenizing and collating, share of our step": reading,
    }


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
    figures["contrastive, 10 epochs"] = probed(began)
    if "SETFIT" in os.environ:  # the folder of its packages, see peers/texts.py
        folder = str(wheel_file(WHEELS["minilm"]).parent)
        asked = {"folder": folder, "texts": texts, "labels": labels, "asked": test["text"].tolist(), "steps": _SETFIT}
        peer = Path(__file__).parent / "peers" / "texts.py"
        paths = {**os.environ, "PYTHONPATH": os.environ["SETFIT"]}
        done = subprocess.run(
            [sys.executable, peer], input=json.dumps(asked), env=paths, capture_output=True, text=True, check=True
        )
        told = json.loads(done.stdout.splitlines()[-1])
        right = int((test["label"] == told["answers"]).sum())
        figures[f"SetFit {told['version']}, {_SETFIT} steps of 16 pairs"] = {
            **_told(*proportion_interval(right, len(test))),
            "cpu_seconds": told["cpu_seconds"],
        }
    return figures


def several_labels(domain: str, root: Path) -> dict[str, Any]:
    """NLU++, several intents of a sentence: a head on the frozen vectors of MiniLM, of one fold of 20, and of 19."""
    frame = read(root / "nlupp_multilabel.csv.gz")
    frame = frame[frame["domain"] == domain].reset_index(drop=True)
    own = [[name for name in cell.split("|") if name] for cell in frame["labels"]]
    names = sorted({name for some in own for name in some})
    there_NC = torch.tensor([[name in some for name in names] for some in own])
    vectors, fold_N = embedded(frame["text"].tolist()), torch.tensor(frame["fold"].tolist())
    figures: dict[str, Any] = {
        "data": f"NLU++, {domain}: {len(frame)} sentences, {len(names)} intents",
        "interval": "over the 20 folds, each once the one that differs from the rest",
    }
    for what, share in (("1 of 20 folds", None), ("19 of 20 folds", 0.1)):
        found: dict[str, dict[str, list[float]]] = {}
        seconds = dict[str, float]()
        for fold in range(20):
            learned = fold_N == fold if share is None else fold_N != fold
            both = vectors[learned], there_NC[learned], vectors[~learned]
            wanted = there_NC[~learned].numpy()
            for row, answer in (
                ("ours", partial(_labels_by_head, share)),
                ("scikit-learn, one-vs-rest LogisticRegression(C=10, class_weight='balanced')", _labels_by_peer),
                ("the same labels for all", _labels_for_all),
            ):
                began = time.process_time()
                named = answer(*both)
                seconds[row] = seconds.get(row, 0) + time.process_time() - began
                for average in ("micro", "macro"):  # the mean over intents that are there
                    columns = wanted.any(0) if average == "macro" else slice(None)
                    f1 = f1_score(wanted[:, columns], named[:, columns], average=average, zero_division=0)
                    found.setdefault(row, {}).setdefault(f"f1_{average}", []).append(float(f1))
        figures[what] = {
            row: {name: interval(values) for name, values in each.items()}
            | {"cpu_seconds of a fold": round(seconds[row] / 20, 2)}
            for row, each in found.items()
        }
    return figures


def _labels_by_head(share: float | None, vectors: Tensor, there: Tensor, asked: Tensor) -> Any:
    """Return which labels of the asked vectors our head names; thresholds are chosen on a share of what is learned."""
    torch.manual_seed(0)
    options = {} if share is None else {"val_split": share}
    data = DataModule.from_tensors(
        train_data=vectors, train_targets=there, predict_data=asked, batch_size=64, **options
    )
    model = Classifier(
        backbone=nn.Flatten(),
        multi_label=True,
        class_weights="balanced",
        optimizer=("Adam", {"weight_decay": 2 / (10 * there.numel())}),  # scikit-learn's C=10
        learning_rate=0.05,
    )
    trainer = Trainer(max_epochs=40, check_val_every_n_epoch=40, **QUIET)
    trainer.fit(model, datamodule=data)
    return trainer.predict(model, datamodule=data, output="classes").bool().numpy()


def _labels_by_peer(vectors: Tensor, there: Tensor, asked: Tensor) -> Any:
    learner = LogisticRegression(C=10, max_iter=1000, class_weight="balanced")
    some = there.any(0)
    named = torch.zeros(len(asked), there.shape[1], dtype=torch.bool)
    fitted = OneVsRestClassifier(learner).fit(vectors.numpy(), there[:, some].numpy().astype(int))
    named[:, some] = torch.from_numpy(fitted.predict(asked.numpy()).astype(bool))
    return named.numpy()


def _labels_for_all(vectors: Tensor, there: Tensor, asked: Tensor) -> Any:
    """Return for every sentence the same labels, as many of the most frequent as have the largest F1."""
    held, order = there.sum(0).sort(descending=True)
    counts = torch.arange(1, len(held) + 1)
    best = int((2 * held.cumsum(0) / (counts * len(there) + held.sum())).argmax()) + 1
    named = torch.zeros(len(asked), len(held), dtype=torch.bool)
    named[:, order[:best]] = True
    return named.numpy()


MEASUREMENTS: dict[str, domains.Measurement] = {
    "episodes": episodes,
    "meta_training": meta_training,
    "adapted_layers": adapted_layers,
    "banking77": partial(every_class, "banking77", {8: 10, 16: 5}),
    "clinc150": partial(every_class, "clinc150", {8: 3}),
    "unknown": unknown,
    "plain_loop": plain_loop,
    "names": names,
    "contrastive": contrastive,
    "banking_labels": partial(several_labels, "banking"),
    "hotels_labels": partial(several_labels, "hotels"),
}

if __name__ == "__main__":
    domains.main("texts", __doc__, MEASUREMENTS)
