"""How often our heads answer as scikit-learn's, on the same episodes of the same embeddings.

    python benchmarks/agreement.py --root DATA

DATA holds text/banking77_test.csv.gz.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import domains
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from quickstudy.algorithms.linear_probe import LinearProbe
from quickstudy.data.episodes import EpisodeSampler
from quickstudy.data.frames import file_frame
from quickstudy.data.table import ClassIndex
from quickstudy.functional.intervals import mean_interval
from quickstudy.learning.embeddings import embeddings
from quickstudy.nets import build_encoder
from quickstudy.predictor import usual_inputs

EPISODES, WAYS, QUERIES, STRENGTHS = 300, 5, 15, (1.0, 0.1)


def texts(root: Path) -> dict[str, Any]:
    """Embed banking77's test sentences by MiniLM, and answer episodes of them by both."""
    frame = file_frame(root / "text" / "banking77_test.csv.gz", None)
    encoder = build_encoder("minilm").eval()
    values = torch.from_numpy(np.array(embeddings(encoder, usual_inputs(encoder), frame["text"].tolist())))
    return compared(values, np.unique(frame["label"], return_inverse=True)[1])


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
    domains.main("agreement", __doc__, {"texts": texts})
