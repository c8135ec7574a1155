"""What training without labels gives: CIFAR-FS, Conv4, nearest centroid on unknown classes, after so many steps.

    python benchmarks/selfsupervised.py --steps 56            # a third of an epoch: minutes of one core each
    python benchmarks/selfsupervised.py simclr --steps 2000   # one of them, for longer; writes nothing

Beside it the pixels and the untrained network, on the same 600 episodes. One thread; CPU seconds are those of training.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import record
import torch
from torch import nn

from quickstudy import Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier, ImageEmbedder, ImageEmbeddingData
from quickstudy.selfsupervised import available_methods

QUIET: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
BATCH_SIZE, EPISODES = 256, 600


def trainer(**options: Any) -> Trainer:
    return Trainer(accelerator="cpu", devices=1, **QUIET, **options)


def embedder(backbone: str | nn.Module = "conv4", **options: Any) -> ImageEmbedder:
    torch.manual_seed(0)
    return ImageEmbedder(backbone, learning_rate=1e-3, **options)


def measured(model: ImageEmbedder, data: ImageEmbeddingData) -> dict[str, Any]:
    """Return accuracy in percent with its interval, on 5-way episodes of the test classes, of 1 and of 5 shots."""
    table, predict = data.table("test"), data.load_options
    assert table is not None and table.targets is not None
    model.load_options = predict
    features = model.predictor().predict(list(table.inputs), batch_size=BATCH_SIZE)
    labels = [table.classes[code] for code in table.targets]
    held = ImageClassificationData.from_tensors(test_data=features, test_targets=labels, episode_key="cifar_fs test")
    found = {}
    for shots in (1, 5):
        plan = {"ways": 5, "shots": shots, "queries": 15, "test_epoch_length": EPISODES}
        one = ImageClassifier(
            backbone=nn.Flatten(), training_strategy="nearest_centroid", training_strategy_kwargs=plan
        )
        (figures,) = trainer().test(one, datamodule=held, verbose=False)
        percent = [round(100 * figures[name], 2) for name in ("test_accuracy", "test_accuracy_ci95")]
        found[f"5-way {shots}-shot"] = dict(zip(("accuracy", "ci95"), percent, strict=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("methods", nargs="*", help="default: all")
    parser.add_argument("--steps", type=int, default=56, help=f"of {BATCH_SIZE} pictures")
    parser.add_argument("--root", type=Path, help="of the data's archive; default: QUICKSTUDY_DATA")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data = ImageEmbeddingData.from_benchmark("cifar_fs", args.root, image_size=32, batch_size=BATCH_SIZE)
    rows: dict[str, Any] = {"pixels": measured(embedder(nn.Flatten()), data), "untrained": measured(embedder(), data)}
    for name in args.methods or available_methods():
        model, begun = embedder(training_strategy=name), time.process_time()
        training = trainer(max_steps=args.steps, limit_val_batches=0)
        training.fit(model, datamodule=data)
        seconds = time.process_time() - begun
        deviation = float(training.callback_metrics.get("train_feature_std", torch.nan))
        about = {"steps": args.steps, "cpu_seconds": round(seconds), "feature_std": round(deviation, 3)}
        rows[name] = {**measured(model, data), **about}
    for name, row in rows.items():
        print(name, row)
    if not args.methods:
        command = f"python benchmarks/selfsupervised.py --steps {args.steps}"
        record.write("selfsupervised", command, batch_size=BATCH_SIZE, episodes=EPISODES, rows=rows)


if __name__ == "__main__":
    main()
