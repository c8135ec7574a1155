"""How good the ladder's advice is: what it recommends and promises, against examples that it never saw.

    python benchmarks/recommendation.py --root data                    # all data sets; or
    python benchmarks/recommendation.py --root data --only penguins

Of each data set a few examples of a class are drawn as if they were all that a user has, 100 times. The ladder climbs
its quick rungs on them, and recommends one with an accuracy to expect. All that is left, up to 1,000 examples, is then
asked of every rung that could have been recommended; each class counts as much, as the user has as many of each.
Told of the repeats: how often what is recommended is within its
printed interval of what turned out best, and what it lost by that; how often the printed interval holds the mean
accuracy of that rung at the printed number of examples, over 30 repeats; and how often what is printed of the saved
model, which learns all of the user's examples, holds what it then reaches. miniImageNet's test
classes and banking77, which the ladder was made on, are left out; docs/ladder.md says what was mended by the others.

Embeddings are made once per data set, or found in the cache: how the ladder finds them is not what is asked
here. Rows are read anew for each repeat, as what is learned from their columns depends on them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import domains
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy import Predictor
from quickstudy.audio import AudioEmbedder
from quickstudy.image import ImageEmbedder
from quickstudy.ladder import RUNGS, available_rungs, climb
from quickstudy.ladder.comparing import column
from quickstudy.ladder.examples import Examples, domain_of, encoders_of
from quickstudy.ladder.opening import examples_of
from quickstudy.ladder.record import Key
from quickstudy.tabular import TabularClassificationData
from quickstudy.text import TextEmbedder
from quickstudy.training.datamodule import DataModule

_ASKED = 1000
_TRUTHS = 30  # repeats whose mean tells what a rung reaches at the printed number of examples


class Same(nn.Module):
    """Embeds numbers as they are."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return them."""
        return inputs


@dataclass(frozen=True)
class Population:
    """All that there is.

    Args:
        inputs: ``[N, D]`` embeddings, or a frame of N rows.
        labels: ``[N]``.
    """

    inputs: NDArray[Any] | pd.DataFrame
    labels: NDArray[Any]

    def data(self, rows: NDArray[np.int64]) -> DataModule:
        """Return some of it as a user's data."""
        labels = self.labels[rows].tolist()
        if isinstance(self.inputs, pd.DataFrame):
            frame = self.inputs.iloc[rows].assign(the_class=labels)
            return TabularClassificationData.from_data_frame(train_data_frame=frame, target_fields="the_class")
        return DataModule.from_tensors(train_data=torch.from_numpy(self.inputs[rows]), train_targets=labels)

    def asked(self, rows: NDArray[np.int64]) -> Any:
        """Return some of it as a predictor takes it."""
        if isinstance(self.inputs, pd.DataFrame):
            return self.inputs.iloc[rows]
        return torch.from_numpy(self.inputs[rows])


# ---- where they come from


def zipped(root: Path, file: str, under: str, label: Callable[[str], str], most: int = 10**9) -> dict[str, list[str]]:
    """Unpack files of an archive; return their paths by label, at most so many of each, evenly taken."""
    folder, found = tempfile.mkdtemp(), dict[str, list[str]]()
    with zipfile.ZipFile(root / file) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith(under) and not name.endswith("/"):
                found.setdefault(label(name), []).append(name)
        chosen = {each: names[:: -(-len(names) // most)] for each, names in sorted(found.items())}
        for names in chosen.values():
            archive.extractall(folder, names)
    return {each: [str(Path(folder, name)) for name in names] for each, names in chosen.items()}


def pictures(file: str, under: str, depth: int, root: Path) -> Population:
    """Return pictures by EfficientNet-Lite0, 100 of each class."""
    return embedded(
        ImageEmbedder("efficientnet_lite0"), zipped(root, file, under, lambda name: name.split("/")[depth], 100)
    )


def sounds(file: str, label: Callable[[str], str], root: Path) -> Population:
    """Return sounds by the encoder of Whisper."""
    return embedded(AudioEmbedder("whisper_tiny_en"), zipped(root, file, "", label, 200))


def texts(file: str, target: str, root: Path, fields: Sequence[str] = ("text",), classes: int = 10**9) -> Population:
    """Return texts by MiniLM; of columns beside each other the column is the label."""
    frame = pd.read_csv(root / "text" / file, keep_default_na=False)
    if len(fields) > 1:
        by_label = {name: frame[name].tolist() for name in fields}
    else:
        kept = sorted(frame[target].unique())[:classes]
        by_label = {name: frame.loc[frame[target] == name, fields[0]].tolist() for name in kept}
    return embedded(TextEmbedder("minilm"), by_label)


def rows(file: str, target: str, root: Path, without: Sequence[str] = ()) -> Population:
    """Return a table's rows."""
    frame = pd.read_csv(root / "tabular" / file).drop(columns=list(without))
    return Population(frame.drop(columns=target), frame[target].astype(str).to_numpy())


def embedded(embedder: Any, by_label: dict[str, list[str]]) -> Population:
    """Return the embeddings of inputs by label."""
    inputs = [each for some in by_label.values() for each in some]
    labels = np.array([label for label, some in by_label.items() for _ in some])
    return Population(np.asarray(embedder.as_embedder().embed(inputs)), labels)


def folder(name: str) -> str:
    """Return the folder that a file lies in."""
    return name.split("/")[-2]


def speaker(name: str) -> str:
    """Return who speaks, as spoken digits' files are named after."""
    return name.rsplit("/", 1)[1].split("_")[0]


SETS: dict[str, tuple[Callable[[Path], Population], int]] = {
    "CIFAR-FS, test classes": (partial(pictures, "cifar-fs.zip", "test/", 1), 20),
    "miniImageNet, validation classes": (partial(pictures, "mini-imagenet-val.zip", "val/", 1), 20),
    "Omniglot, alphabets": (partial(pictures, "images_evaluation.zip", "images_evaluation/", 1), 20),
    "CLINC150, 30 intents": (partial(texts, "clinc150_train.csv.gz", "label", classes=30), 20),
    "CLINC150, domains": (partial(texts, "clinc150_test.csv.gz", "domain"), 40),
    "XQuAD, languages": (partial(texts, "xquad_questions_parallel.csv.gz", "", fields=("en", "de", "es")), 30),
    "penguins": (partial(rows, "penguins.csv.gz", "species"), 20),
    "titanic": (partial(rows, "titanic.csv.gz", "survived", without=("alive",)), 50),
    "adult": (partial(rows, "adult_test.csv.gz", "income"), 50),
    "german credit": (partial(rows, "german_credit.csv.gz", "risk"), 100),
    "wine, colours": (partial(rows, "wine_quality.csv.gz", "colour", without=("quality",)), 20),
    "ESC-10": (partial(sounds, "audio/esc10_16khz.zip", folder), 20),
    "spoken digits": (partial(sounds, "audio/spoken_digits_8khz.zip", folder), 20),
    "spoken digits, speakers": (partial(sounds, "audio/spoken_digits_8khz.zip", speaker), 20),
}
"""By name: what makes the population, and how many examples of each class a user has."""


# ---- what is asked of the ladder


@dataclass(frozen=True)
class Told:
    """What one ladder said, and what came of it."""

    rung: str
    accuracy: float
    ci95: float
    saved: float
    """To be expected of the saved model."""
    saved_ci95: float
    model: float
    """What the saved model reaches on what is left."""
    best: float
    """The same of the best rung."""
    there: dict[str, float]
    """By rung, what it reaches on what is left after learning one draw of the printed size; of some repeats."""
    at: str
    unknown: float
    """Of what is left, how much the saved model calls unknown if it may: it counts as answered here."""
    seconds: float


def recommendable() -> list[str]:
    """Return the quick rungs that can be: the others are there to be beaten, or leave no model of these examples."""
    quick = {name: RUNGS[name] for name in available_rungs(slow=False)}
    return [name for name, rung in quick.items() if rung.saves and not rung.baseline and not rung.transductive]


def climbed(population: Population, each: int, seed: int, draws: int) -> Told:
    """Draw a user's data, climb, and ask what is left."""
    generator = np.random.default_rng(seed)
    own, left = [], []
    for label in np.unique(population.labels):
        order = generator.permutation(np.flatnonzero(population.labels == label))
        own.append(order[:each])
        left.append(order[each:])
    mine, others = np.concatenate(own), generator.permutation(np.concatenate(left))[:_ASKED]
    data, began = population.data(mine), time.process_time()
    tensors = not isinstance(population.inputs, pd.DataFrame)
    found = climb(
        data,
        backbones=[Same()] if tensors else (),
        rungs=recommendable(),
        shots=(5,),
        draws=draws,
        episodes=0,
        seed=seed,
    )
    seconds, choice, record = time.process_time() - began, found.choice, found.record
    assert choice is not None and choice.saved is not None
    keys = [key for key, step in record.steps.items() if step.saves and not step.baseline and not step.transductive]
    table = examples_of(data)
    asked, truth = population.asked(others), population.labels[others]

    def reached(key: Key, of: Any) -> float:
        encoders = encoders_of([Same() if tensors else key.backbone], domain_of(data.modality))
        examples = Examples(of, data.modality, domain_of(data.modality), encoders)
        predictor = RUNGS[key.rung].model(examples.on(key.backbone))
        assert isinstance(predictor, Predictor)
        right = np.array(predictor.predict(asked, may_be_unknown=False)) == truth
        return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))

    whole = {key: reached(key, table) for key in keys}
    assert isinstance(found.predictor, Predictor)
    support = np.array(record.draws[choice.shots, 0].support)
    return Told(
        choice.key.rung,
        choice.accuracy,
        choice.ci95,
        choice.saved.mean,
        choice.saved.ci95,
        whole[choice.key],
        max(whole.values()),
        {key.rung: reached(key, table.select(support)) for key in keys} if seed < _TRUTHS else {},
        column(record, choice.shots),
        float(np.mean(np.array(found.predictor.predict(asked)) == "unknown")),
        seconds,
    )


def judged(name: str, repeats: int, draws: int, root: Path) -> dict[str, Any]:
    """Return how good the advice was on a data set."""
    make, each = SETS[name]
    population = make(root)
    told = [climbed(population, each, seed, draws) for seed in range(repeats)]
    truths = {rung: float(np.mean([one.there[rung] for one in told if one.there])) for rung in told[0].there}
    lost = [one.best - one.model for one in told]
    return {
        "classes": len(np.unique(population.labels)),
        "examples of a class": each,
        "at": told[0].at,
        "repeats": repeats,
        "recommended": {rung: sum(one.rung == rung for one in told) for rung in sorted({one.rung for one in told})},
        "accuracy printed": in_points(np.mean([one.accuracy for one in told])),
        "half-width printed": in_points(np.mean([one.ci95 for one in told])),
        "accuracy at that size": {rung: in_points(truth) for rung, truth in truths.items()},
        "printed of the saved model": in_points(np.mean([one.saved for one in told])),
        "half-width printed of the saved model": in_points(np.mean([one.saved_ci95 for one in told])),
        "accuracy of the saved model": in_points(np.mean([one.model for one in told])),
        "lost to the best": {"mean": in_points(np.mean(lost)), "most": in_points(max(lost))},
        "within its interval of the best": share([short <= one.ci95 for short, one in zip(lost, told, strict=True)]),
        "interval holds the accuracy at that size": share(
            [abs(one.accuracy - truths[one.rung]) <= one.ci95 for one in told]
        ),
        "interval holds the saved model's": share([abs(one.saved - one.model) <= one.saved_ci95 for one in told]),
        "saved model is worse than the interval": share([one.model < one.saved - one.saved_ci95 for one in told]),
        "interval at that size holds the saved model's": share(
            [abs(one.accuracy - one.model) <= one.ci95 for one in told]
        ),
        "called unknown": in_points(np.mean([one.unknown for one in told])),
        "cpu seconds of a ladder": round(float(np.median([one.seconds for one in told])), 2),
    }


def in_points(share: Any) -> float:
    """Return a share in percent."""
    return round(100 * float(share), 2)


def share(events: Sequence[bool]) -> float:
    """Return how often something held."""
    return round(float(np.mean(events)), 3)


def main() -> None:
    """Ask what the command line names, one after another, and keep each as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the folder of the data")
    parser.add_argument("--only", nargs="+", choices=list(SETS), default=list(SETS), help="data sets")
    parser.add_argument("--repeats", type=int, default=100, help="users of each data set")
    parser.add_argument("--draws", type=int, default=10, help="of each ladder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.only:
        figures = judged(name, args.repeats, args.draws, args.root)
        print(json.dumps({name: figures}, indent=1))
        print(domains.keep("recommendation", name, figures))


if __name__ == "__main__":
    main()
