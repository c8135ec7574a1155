"""What graphs reach on public data: classes that training never saw, ten folds of molecules and proteins, and a step.

    python benchmarks/graphs.py --root data/graphs                   # all; or
    python benchmarks/graphs.py --root data/graphs --only letter triangles

In the folder: tu-graphs.zip, folders of the TU collection; class_split.json in three has classes to train on and
others to judge by (Chauhan et al. 2020, https://arxiv.org/abs/2002.12815). Beside ours stand the histogram of
degrees, which no weights make, other counts (``simple``), and the same network before training. ``chosen`` compares
networks, and ``lengths`` how long they train, by training classes that are held out: test classes have no part.
"""

from __future__ import annotations

import copy
import json
import time
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import domains
import lightning
import numpy as np
import torch
from embeddings import QUIET
from lightning.pytorch import Callback, LightningModule
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch import Tensor, nn

from quickstudy import Trainer
from quickstudy.batches import join, take
from quickstudy.data.episodes import EpisodePlan
from quickstudy.functional.intervals import mean_interval
from quickstudy.graph import GraphClassificationData, GraphClassifier, Graphs, packed
from quickstudy.graph.nets import DegreeHistogram, Packed

SHOTS, EPISODES = (5, 10), 600
TRAINING: dict[str, dict[str, Any]] = {
    "Letter-high": {"backbone": "gin", "ways": 11, "epochs": 10},
    "TRIANGLES": {"backbone": "gat", "ways": 7, "epochs": 10},
    "ENZYMES": {"backbone": "gin", "ways": 2, "epochs": 5},
}
"""Of 100 episodes an epoch, of 5 examples to learn from and 10 to ask of each class."""
WALKED: dict[str, dict[str, Any]] = {
    "TRIANGLES": {"backbone": "gin", "ways": 7, "epochs": 10, "walks": 8},
    "ENZYMES": {"backbone": "gat", "ways": 2, "epochs": 5, "walks": 8},
}
"""The same where nodes are also told how likely random walks are to come back."""
TEST_WAYS = {"Letter-high": 4, "TRIANGLES": 3, "ENZYMES": 2}
HELD_OUT: dict[str, list[list[int]]] = {
    "Letter-high": [[1, 5, 10, 14]],
    "TRIANGLES": [[1, 4, 8], [3, 6, 9]],
    "ENZYMES": [[1, 3], [5, 6]],
}
"""Training classes by which networks were chosen, each group held out of training in turn."""
CANDIDATES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "Letter-high": [("gin", {"pooling": "root"}), ("gin", {"pooling": "sum"}), ("gin", {"pooling": "mean"})],
    "TRIANGLES": [
        ("gin", {"pooling": "root"}),
        ("gin", {"pooling": "sum"}),
        ("gat", {"pooling": "mean"}),
        ("gat", {"pooling": "root"}),
    ],
    "ENZYMES": [("gin", {"pooling": "root"}), ("gin", {"pooling": "sum"}), ("gat", {"pooling": "mean"})],
}
LOOKS = {"TRIANGLES": (20, 5)}
"""For how many epochs to train at most, and every how many of them to look at what was held out."""
FOLDS, FOLD_BATCH, FOLD_RATE = 10, 128, 0.01
FOLD_EPOCHS = {"MUTAG": 100, "PROTEINS": 25}
"""Of Adam at that rate, for both; the example of PyTorch Geometric has these, and 100 epochs."""
FOLD_GIN = {"norm": "batch", "pooling": "sum", "layers": 5, "width": 32}
"""As near to the example as our own network comes."""
STEP_SEEDS = 3
STEP_EPOCHS = {32: 4, 128: 12}
"""By the number of graphs in a batch."""


def folder(root: Path, name: str) -> Path:
    """Return a folder of the TU collection within the archive."""
    return root / "tu-graphs.zip" / name


def class_split(root: Path, name: str) -> dict[str, list[int]]:
    """Return the classes to train on and those to judge by, as published."""
    with zipfile.ZipFile(root / "tu-graphs.zip") as archive:
        found: dict[str, list[int]] = json.loads(archive.read(f"{name}/class_split.json"))
    return found


def classes_of(
    root: Path, name: str, train: Sequence[int], others: Sequence[int], stage: str = "test", walks: int = 0
) -> GraphClassificationData:
    """Return graphs of some classes to train on, and of others to judge by in a stage."""
    place = folder(root, name)
    judged: dict[str, Any] = {f"{stage}_folder": place, f"{stage}_classes": others, "walks": walks}
    return GraphClassificationData.from_tu(train_folder=place, train_classes=train, **judged)


def few_shot(name: str, options: dict[str, Any], **plan: Any) -> GraphClassifier:
    """Return a prototypical network for a data set."""
    episodes = {"ways": options["ways"], "shots": 5, "queries": 10, "meta_batch_size": 1, "epoch_length": 100}
    asked = {"test_ways": TEST_WAYS[name], "test_queries": 10, "test_epoch_length": EPISODES}
    return GraphClassifier(
        backbone=options["backbone"],
        backbone_kwargs=options.get("backbone_kwargs"),
        training_strategy=options.get("strategy", "prototypicalnetworks"),
        training_strategy_kwargs={**episodes, **asked, "test_shots": 5, **plan},
        optimizer="adam",
        learning_rate=2e-3,
        lr_scheduler=("CosineAnnealingLR", {"T_max": options["epochs"]}),
    )


def tested(name: str, network: Any, data: GraphClassificationData, **options: Any) -> dict[str, Any]:
    """Return what a network reaches with 5 and with 10 examples of each class that training never saw."""
    found = {}
    for shots in SHOTS:
        given = {**TRAINING[name], **options, "backbone": network}
        given.pop("backbone_kwargs", None)
        model, began = few_shot(name, given, test_shots=shots), time.process_time()
        (figures,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
        found[f"{TEST_WAYS[name]}-way {shots}-shot"] = domains.told(
            figures["test_accuracy"], figures["test_accuracy_ci95"], began
        )
    return found


def trained(name: str, options: dict[str, Any], data: GraphClassificationData) -> tuple[nn.Module, nn.Module, float]:
    """Return a network before training, and after it, and the seconds of a processor that it took."""
    torch.manual_seed(0)
    model = few_shot(name, options)
    model.meet(data, "fit")
    untrained = copy.deepcopy(model.encoder)
    began = time.process_time()
    Trainer(max_epochs=options["epochs"], limit_val_batches=0, **QUIET).fit(model, datamodule=data)
    return untrained, model.encoder, round(time.process_time() - began, 1)


def published(root: Path, name: str) -> dict[str, Any]:
    """Train on the published training classes, once, and judge by the others."""
    split, options = class_split(root, name), TRAINING[name]
    data = classes_of(root, name, split["train"], split["test"])
    found: dict[str, Any] = {
        "classes": split,
        "training": options,
        "degree histogram": tested(name, DegreeHistogram(), data, strategy="nearest_centroid"),
    }
    untrained, encoder, took = trained(name, options, data)
    found["untrained"] = tested(name, untrained, data)
    found["trained"] = {**tested(name, encoder, data), "training cpu_seconds": took}
    return found


class SumOfNodes(nn.Module):
    """What the nodes of a graph are told, added up: no weights."""

    def forward(self, graphs: Any) -> Tensor:
        """Return ``[N, F]``."""
        total: Tensor = graphs["nodes"].sum(1)
        return total


def walked(root: Path) -> dict[str, Any]:
    """Do the same where nodes are told of random walks, and compare with the sum of what they are told."""
    found: dict[str, Any] = {}
    for name, options in WALKED.items():
        split = class_split(root, name)
        data = classes_of(root, name, split["train"], split["test"], walks=options["walks"])
        untrained, encoder, took = trained(name, options, data)
        found[name] = {
            "training": options,
            "sums, nearest_centroid": tested(name, SumOfNodes(), data, strategy="nearest_centroid"),
            "untrained": tested(name, untrained, data),
            "trained": {**tested(name, encoder, data), "training cpu_seconds": took},
        }
        print(name, found[name], flush=True)
    return found


def letter(root: Path) -> dict[str, Any]:
    """Letters drawn with much distortion, as graphs of strokes."""
    return published(root, "Letter-high")


def triangles(root: Path) -> dict[str, Any]:
    """Graphs by how many triangles they have."""
    return published(root, "TRIANGLES")


def enzymes(root: Path) -> dict[str, Any]:
    """Proteins by the reaction that they help."""
    return published(root, "ENZYMES")


# ---- what counting reaches


def counts(graphs: Any) -> dict[str, Tensor]:
    """Return vectors ``[N, D]`` of graphs that are counts of nodes, or follow from such."""
    degrees = DegreeHistogram()
    found = degrees(graphs)
    of_labels = (graphs["mask"] & (label > 0) for label in graphs["nodes"].unbind(-1))
    return {
        "degrees": found,
        "square roots of shares of degrees": (found / found.sum(1, keepdim=True)).sqrt(),
        "degrees of each node label": torch.cat([degrees({**graphs, "mask": mask}) for mask in of_labels], 1),
    }


SIMPLE: list[tuple[str, str, Any]] = [
    ("degrees", "nearest centroid", NearestCentroid()),
    ("square roots of shares of degrees", "nearest centroid", NearestCentroid()),
    ("degrees of each node label", "nearest neighbour", KNeighborsClassifier(1)),
    ("degrees", "logistic regression", LogisticRegression(max_iter=1000)),
]


def simple(root: Path) -> dict[str, Any]:
    """Classify counts as they are by what scikit-learn has, in the episodes of test classes."""
    found: dict[str, Any] = {}
    for name in TRAINING:
        split, rows = class_split(root, name), dict[str, Any]()
        data = classes_of(root, name, split["train"], split["test"])
        for shots in SHOTS:
            plan, right = domains.plan(TEST_WAYS[name], shots), dict[str, list[float]]()
            for episode in data.episode_loader("test", EpisodePlan(**plan)):
                support, targets, query, wanted = (take(part, 0) for part in episode)
                given, asked = counts(support), counts(query)
                for counted, how, peer in SIMPLE:
                    score = peer.fit(given[counted].numpy(), targets.numpy()).score(asked[counted].numpy(), wanted)
                    right.setdefault(f"{counted}, {how}", []).append(score)
            for key, some in right.items():
                rows.setdefault(key, {})[f"{TEST_WAYS[name]}-way {shots}-shot"] = percent(torch.tensor(some))
        found[name] = rows
        print(name, rows, flush=True)
    return found


# ---- chosen on training classes


def chosen(root: Path) -> dict[str, Any]:
    """Judge networks by training classes that were held out; test classes have no part."""
    found: dict[str, Any] = {}
    for name, groups in HELD_OUT.items():
        train, row = class_split(root, name)["train"], dict[str, Any]()
        for backbone, kwargs in CANDIDATES[name]:
            options = {**TRAINING[name], "backbone": backbone, "backbone_kwargs": kwargs, "epochs": 5}
            options["ways"] = min(options["ways"], len(train) - len(groups[0]))
            accuracies = []
            for held in groups:
                data = classes_of(root, name, [each for each in train if each not in held], held)
                torch.manual_seed(0)
                model = few_shot(name, options, test_epoch_length=200)
                trainer = Trainer(max_epochs=options["epochs"], limit_val_batches=0, **QUIET)
                trainer.fit(model, datamodule=data)
                (figures,) = trainer.test(model, datamodule=data, verbose=False)
                accuracies.append(100 * float(figures["test_accuracy"]))
            row[f"{backbone} {kwargs}"] = round(float(np.mean(accuracies)), 2)
            print(name, row, flush=True)
        found[name] = {"held out": groups, f"{TEST_WAYS[name]}-way 5-shot, 200 episodes": row}
    return found


class Looks(Callback):
    """Keeps what validation finds on the way."""

    def __init__(self) -> None:
        self.found = dict[str, float]()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.found[str(trainer.current_epoch + 1)] = 100 * float(trainer.callback_metrics["val_accuracy"])


def lengths(root: Path) -> dict[str, Any]:
    """Train for long, and look on the way at training classes that were held out; test classes have no part."""
    found: dict[str, Any] = {}
    for name, (epochs, every) in LOOKS.items():
        train = class_split(root, name)["train"]
        looks, began = [], time.process_time()
        for held in HELD_OUT[name]:
            data = classes_of(root, name, [each for each in train if each not in held], held, "val")
            torch.manual_seed(0)
            ways = min(TRAINING[name]["ways"], len(train) - len(held))
            model = few_shot(name, {**TRAINING[name], "epochs": epochs, "ways": ways}, test_epoch_length=200)
            look = Looks()
            trainer = Trainer(
                max_epochs=epochs, check_val_every_n_epoch=every, num_sanity_val_steps=0, callbacks=[look], **QUIET
            )
            trainer.fit(model, datamodule=data)
            looks.append(look.found)
        means = {epoch: round(float(np.mean([one[epoch] for one in looks])), 2) for epoch in looks[0]}
        rows = {"cosine decay to the last": means, "cpu_seconds": round(time.process_time() - began, 1)}
        print(name, rows, flush=True)
        found[name] = {"held out": HELD_OUT[name], "5-shot, 200 episodes, after epochs": rows}
    return found


# ---- by gradient, and by solver


def other_strategies(root: Path) -> dict[str, Any]:
    """Train what learns by gradients within an episode, or by a solver, for a little, and compare with its start."""
    split, found = class_split(root, "TRIANGLES"), dict[str, Any]()
    data = classes_of(root, "TRIANGLES", split["train"], split["test"])
    own: dict[str, dict[str, Any]] = {
        "maml": {"head": "shared", "adaptation_lr": 0.005, "adaptation_steps": 3},
        "anil": {"head": "shared", "adaptation_lr": 0.05, "adaptation_steps": 3},
        "metaoptnet": {},
    }
    plan = {"ways": 3, "shots": 5, "queries": 5, "meta_batch_size": 2, "epoch_length": 100, "test_epoch_length": 200}
    for strategy, options in own.items():
        torch.manual_seed(0)
        model = GraphClassifier(
            backbone="gin",
            training_strategy=strategy,
            training_strategy_kwargs={**plan, **options},
            optimizer="adam",
            learning_rate=1e-3,
        )
        trainer, figures = Trainer(max_epochs=1, limit_val_batches=0, **QUIET), []
        for trains in (False, True):
            began = time.process_time()
            if trains:
                trainer.fit(model, datamodule=data)
            took = round(time.process_time() - began, 1)
            (one,) = trainer.test(model, datamodule=data, verbose=False)
            shares = {"accuracy": one["test_accuracy"], "ci95": one["test_accuracy_ci95"]}
            figures.append({key: round(100 * float(share), 2) for key, share in shares.items()})
        found[strategy] = {"3-way 5-shot, untrained": figures[0], "trained": figures[1], "training_cpu_seconds": took}
        print(strategy, found[strategy], flush=True)
    return found


# ---- ten folds


class Example(nn.Module):
    """The network of PyTorch Geometric's example of MUTAG, but for the last layer, on its batches and on ours.

    Five layers of 32 with batch norms, the sum over nodes, and a dropout of a half behind a further layer.
    """

    def __init__(self, features: int) -> None:
        from torch_geometric.nn import MLP, GINConv

        super().__init__()
        widths = [features, 32, 32, 32, 32]
        self.layers = nn.ModuleList(GINConv(MLP([width, 32, 32])) for width in widths)
        self.last = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, batch: Any) -> Tensor:
        """Return ``[N, 32]``."""
        if isinstance(batch, dict):
            there = packed(batch)
        else:
            there = Packed(batch.x, batch.edge_index, None, batch.batch, batch.num_graphs)
        states = there.nodes
        for layer in self.layers:
            states = layer(states, there.edges).relu()
        found: Tensor = self.last(there.pooled(states, "sum"))
        return found


def plain_gin(parts: Sequence[Any], rows: Any, asked: Any, epochs: int, seed: int) -> float:
    """Train the example in a plain loop, as it does itself; return its right share."""
    from torch_geometric.loader import DataLoader

    torch.manual_seed(seed)
    classes = 1 + max(int(part.y) for part in parts)
    network = nn.Sequential(Example(parts[0].x.shape[1]), nn.Linear(32, classes))
    optimizer = torch.optim.Adam(network.parameters(), lr=FOLD_RATE)
    loader = DataLoader([parts[row] for row in rows], batch_size=FOLD_BATCH, shuffle=True)
    for _ in range(epochs):
        for batch in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(batch), batch.y).backward()
            optimizer.step()
    (batch,) = DataLoader([parts[row] for row in asked], batch_size=len(asked))
    with torch.inference_mode():
        return float((network.eval()(batch).argmax(1) == batch.y).float().mean())


def folds(root: Path, name: str) -> dict[str, Any]:
    """Judge supervised networks by ten folds, beside a plain loop on the same ones; settings are the example's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, whose end PyTorch Geometric has not heard of
        from torch_geometric.data import Data
    whole = GraphClassificationData.from_folders(folder(root, name))
    table = whole.table("train")
    assert table is not None and table.targets is not None
    graphs, codes = list(table.inputs), np.asarray(table.targets)
    ours = {"quickstudy, the same network": None, "quickstudy, gin": FOLD_GIN}
    right: dict[str, list[float]] = {name: [] for name in ("largest class", "plain loop", *ours)}
    seconds = dict.fromkeys(("plain loop", *ours), 0.0)
    splits = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(codes, codes)
    for seed, (rows, asked) in enumerate(splits):
        right["largest class"].append(float((codes[asked] == np.bincount(codes[rows]).argmax()).mean()))
        data = GraphClassificationData.from_lists(
            train_graphs=[graphs[row] for row in rows],
            train_targets=codes[rows].tolist(),
            test_graphs=[graphs[row] for row in asked],
            test_targets=codes[asked].tolist(),
            batch_size=FOLD_BATCH,
        )
        for key, kwargs in ours.items():
            began = time.process_time()
            torch.manual_seed(seed)
            features = Graphs().fitted([graphs[row] for row in rows]).for_backbone()["features"]
            model = GraphClassifier(
                backbone=Example(features) if kwargs is None else "gin",
                backbone_kwargs=kwargs,
                optimizer="adam",
                learning_rate=FOLD_RATE,
            )
            trainer = Trainer(max_epochs=FOLD_EPOCHS[name], limit_val_batches=0, **QUIET)
            trainer.fit(model, datamodule=data)
            (figures,) = trainer.test(model, datamodule=data, verbose=False)
            right[key].append(float(figures["test_accuracy"]))
            seconds[key] += time.process_time() - began
        began = time.process_time()
        read = Graphs().fitted([graphs[row] for row in rows])
        parts = [
            Data(x=one["nodes"], edge_index=one["edges"].T.contiguous(), y=torch.tensor([int(code)]))
            for one, code in ((read(graph), code) for graph, code in zip(graphs, codes, strict=True))
        ]
        right["plain loop"].append(plain_gin(parts, rows, asked, FOLD_EPOCHS[name], seed))
        seconds["plain loop"] += time.process_time() - began
        print(name, seed, {key: some[-1] for key, some in right.items() if some}, flush=True)
    differences = {key: torch.tensor(right[key]) - torch.tensor(right["plain loop"]) for key in ours}
    found = {key: percent(torch.tensor(some)) for key, some in right.items()}
    return {
        "graphs": len(graphs),
        "training of both": {"epochs": FOLD_EPOCHS[name], "batch size": FOLD_BATCH, "adam": FOLD_RATE},
        **found,
        "less the plain loop, fold by fold": {key: percent(some) for key, some in differences.items()},
        "cpu_seconds": {key: round(took, 1) for key, took in seconds.items()},
    }


def percent(shares: Tensor) -> dict[str, float]:
    """Return the mean of some shares, and half its 95% interval, in percent."""
    middle, half = mean_interval(shares)
    return {"mean": round(100 * float(middle), 2), "ci95": round(100 * float(half), 2)}


def mutag(root: Path) -> dict[str, Any]:
    """Molecules by whether they change bacteria."""
    return folds(root, "MUTAG")


def proteins(root: Path) -> dict[str, Any]:
    """Proteins by whether they are enzymes."""
    return folds(root, "PROTEINS")


# ---- a step


class Layers(nn.Module):
    """A network of ours on batches as PyTorch Geometric makes them."""

    def __init__(self, network: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, batch: Any) -> Tensor:
        """Return ``[N, C]``."""
        from torch_geometric.nn import global_add_pool

        network: Any = self.network
        states, found = network.first(batch.x), []
        roots = batch.ptr.diff().sqrt()[:, None]
        for layer, norm in zip(network.layers, network.norms, strict=True):
            states = norm(layer(states, batch.edge_index)).relu()
            found.append(global_add_pool(states, batch.batch, batch.num_graphs) / roots)
        answers: Tensor = self.head(torch.cat(found, 1))
        return answers


def geometric_steps(network: nn.Module, parts: Sequence[Any], batch: int) -> Iterator[None]:
    """Train on graphs that a loader of PyTorch Geometric puts together, in a plain loop, and yield after each step."""
    from torch_geometric.loader import DataLoader

    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(STEP_EPOCHS[batch]):
        for some in DataLoader(list(parts), batch_size=batch, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(some), some.y).backward()
            optimizer.step()
            yield


class Bare(LightningModule):
    """A network in Lightning, with nothing of ours around it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of ``(graphs, codes)``."""
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def in_lightning(network: nn.Module, whole: Any, codes: Tensor, batch: int, turns: Callback) -> None:
    """Train on graphs that were padded beforehand by Lightning alone."""
    loader = torch.utils.data.DataLoader(
        range(len(codes)),  # type: ignore[arg-type]
        batch_size=batch,
        shuffle=True,
        collate_fn=lambda rows: (take(whole, torch.tensor(rows)), codes[rows]),
    )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=STEP_EPOCHS[batch], accelerator="cpu", callbacks=[turns], enable_model_summary=False, **quiet
    )
    trainer.fit(Bare(network), loader)


def step(root: Path) -> dict[str, Any]:
    """Time a step beside one in a plain loop of the same network, in turns: as a user of PyTorch Geometric writes it,
    and on graphs that were padded and put into one tensor beforehand; and one of Lightning alone beside the latter.
    """
    data = GraphClassificationData.from_folders(folder(root, "ENZYMES"))
    loaded = list(data.train_dataloader())
    whole, codes = join([part[0] for part in loaded]), torch.cat([part[1] for part in loaded])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, whose end PyTorch Geometric has not heard of
        from torch_geometric.data import Data
    singles = (take(whole, row) for row in range(len(codes)))
    parts = [
        Data(x=one["nodes"][one["mask"]], edge_index=one["edges"][one["edge_mask"]].T.contiguous(), y=code[None])
        for one, code in zip(singles, codes, strict=True)
    ]
    found: dict[str, Any] = {"graphs": len(codes)}
    for batch, epochs in STEP_EPOCHS.items():
        data = GraphClassificationData.from_folders(folder(root, "ENZYMES"), batch_size=batch)
        ratios, ours_of = dict[str, list[float]](), list[float]()
        for seed in range(STEP_SEEDS):
            for name in ("its loader", "padded beforehand", "Lightning alone / padded beforehand"):
                torch.manual_seed(seed)
                model = GraphClassifier(optimizer="adam", learning_rate=1e-3)
                model.meet(data, "fit")
                network, head = copy.deepcopy((model.encoder.backbone, model.head))
                plain = nn.Sequential(network, head)
                if name == "its loader":
                    turns = domains.InTurns(geometric_steps(Layers(network, head), parts, batch))
                else:
                    turns = domains.InTurns(domains.plain_steps(plain, whole, codes, batch, epochs))
                if name.startswith("Lightning"):
                    in_lightning(copy.deepcopy(plain), whole, codes, batch, turns)
                else:
                    trainer = Trainer(max_epochs=epochs, limit_val_batches=0, callbacks=[turns], **QUIET)
                    trainer.fit(model, datamodule=data)
                    ours_of.append(turns.step)
                ratios.setdefault(name, []).append(turns.ratio)
                print(batch, seed, name, turns.ratio, turns.step, flush=True)
        told = {name: mean_interval(torch.tensor(some)) for name, some in ratios.items()}
        found[f"batches of {batch}"] = {
            "milliseconds of a step": round(1000 * float(np.median(ours_of)), 2),
            "time of quickstudy / plain loop": {
                name: {"mean": round(float(middle), 3), "ci95": round(float(half), 3)}
                for name, (middle, half) in told.items()
            },
        }
    return found


if __name__ == "__main__":
    parts = chosen, lengths, simple, letter, triangles, enzymes, walked, mutag, proteins, other_strategies, step
    domains.main("graphs", __doc__, {one.__name__: one for one in parts})
